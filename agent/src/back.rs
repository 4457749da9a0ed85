//! What is looked at before a service goes back, and before what is stuck is started again.

use std::time::Duration;

use groundswell_common::{ReleaseId, chain};
use tokio::time::{sleep, timeout};

use crate::drift::{self, DriftError};
use crate::stage::StageError;
use crate::work::Job;

/// The longest that an order to go back waits for its release to be hashed; what is larger goes back as it is, and
/// is looked at afterwards.
const HASHED_WITHIN: Duration = Duration::from_secs(20);

impl Job {
    /// Waits until nothing runs of what is live that should, and nobody stopped it; looks after each pause.
    pub(crate) async fn until_down(self, release: ReleaseId, pause: Duration) {
        loop {
            sleep(pause).await;
            let Some((id, manifest)) = self.reopened(&release) else { continue };
            let alive = self.outside.units.alive(&self.spec((&id, &manifest))).await;
            // What a person stopped on a host that is stuck stays stopped; a unit that failed is another thing.
            if alive.is_ok_and(|it| !it.running && (it.hopeless || it.stopped.is_none())) {
                return;
            }
        }
    }

    /// What was changed of the release that a service would go back to, or what the host lacks to start it, while
    /// what it would leave passes its probes.
    pub(crate) async fn keeps(&self, from: &ReleaseId, to: &ReleaseId) -> Option<String> {
        let why = match self.changed(to).await {
            None => self.cannot_start(to).await,
            changed => changed,
        }?;
        let (id, manifest) = self.reopened(from)?;
        let works = self.passes((&id, &manifest)).await;
        if !works {
            tracing::error!(service = %self.service, why, "goes back to it all the same");
        }
        works.then_some(why)
    }

    /// Why systemd could not start a release on this host; `None` also where it cannot be told now.
    async fn cannot_start(&self, release: &ReleaseId) -> Option<String> {
        let (id, manifest) = self.reopened(release)?;
        let spec = self.spec((&id, &manifest));
        if let Some(unit) = self.outside.units.refused_unit(&self.service, &spec.units) {
            return Some(format!("{unit} is not allowed on this host for {}", self.service));
        }
        match self.outside.units.lacks(&spec).await {
            Ok(lacking) => lacking.map(|lacking| lacking.why),
            Err(error) => {
                tracing::warn!(service = %self.service, error = %chain(&error), "not looked at");
                None
            }
        }
    }

    /// What was changed of a release on the disk; `None` also where it cannot be told in time.
    pub(crate) async fn changed(&self, release: &ReleaseId) -> Option<String> {
        if self.outside.settings.now().allow_drift.contains(&self.service) {
            return None;
        }
        let (job, release) = (self.clone(), *release);
        let (canceller, late) = crate::cancel::switch();
        let look = move || {
            let cancelled = || late.is_cancelled() || job.cancel.is_cancelled();
            drift::check(&job.outside.layout, &job.service, &release, &cancelled)
        };
        let looked = timeout(HASHED_WITHIN, tokio::task::spawn_blocking(look)).await;
        match looked {
            Ok(Ok(Err(DriftError::Changed { path, .. }))) => Some(format!(
                "{} of the release before was changed or removed on this host",
                path.display()
            )),
            Ok(Ok(Err(DriftError::Manifest(StageError::Damaged(_))))) => Some(
                "the manifest of the release before was changed or removed on this host".to_owned(),
            ),
            Ok(Ok(Err(error))) => {
                tracing::warn!(service = %self.service, error = %chain(&error), "not looked at");
                None
            }
            Ok(Ok(Ok(())) | Err(_)) => None,
            Err(_) => {
                canceller.cancel();
                tracing::warn!(service = %self.service, "too large to be looked at before it goes back");
                None
            }
        }
    }
}
