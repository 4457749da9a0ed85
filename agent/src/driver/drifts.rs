//! Looks, at the start and once a day, whether what is live is still as it was released (docs/agent.md A3.5).

use std::time::Duration;

use groundswell_common::report::RefusalNote;
use groundswell_common::{ReleaseId, ServiceName, chain};

use super::{Back, Driver};
use crate::drift::{self, DriftError};

/// From one look to the next.
pub(super) const EVERY: Duration = Duration::from_secs(24 * 3600);

/// What a look found.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    service: ServiceName,
    release: ReleaseId,
    /// The first file or link of the tree that differs.
    changed: Option<String>,
}

impl Driver {
    /// Looks at each service that is at rest, or at the one named that has just gone back, one after the other,
    /// beside everything else.
    pub(super) fn look_for_drift(&self, only: Option<&ServiceName>) {
        let of = |(service, slot): (&ServiceName, &super::Slot)| {
            let running = slot.machine.running.as_ref().map(|known| known.id)?;
            let rests = slot.machine.state.seen().is_at_rest();
            let wanted = only.map_or(rests, |only| only == service);
            let asked = wanted && !self.outside.settings.now().allow_drift.contains(service);
            asked.then(|| (service.clone(), running))
        };
        let live: Vec<(ServiceName, ReleaseId)> = self.slots.iter().filter_map(of).collect();
        let (layout, back) = (self.outside.layout.clone(), self.ends.back.0.clone());
        tokio::spawn(async move {
            for (service, release) in live {
                let (layout, ends) = (layout.clone(), back.clone());
                let name = service.clone();
                let look = move || drift::check(&layout, &name, &release, &|| ends.is_closed());
                let changed = match tokio::task::spawn_blocking(look).await {
                    Ok(Ok(())) => None,
                    Ok(Err(DriftError::Changed { path, .. })) => Some(path.display().to_string()),
                    Ok(Err(error)) => {
                        tracing::warn!(%service, error = %chain(&error), "not looked at");
                        continue;
                    }
                    Err(_) => continue,
                };
                drop(back.send(Back::Looked(Looked { service, release, changed })).await);
            }
        });
    }

    pub(super) fn on_looked(&mut self, looked: Looked) {
        let Looked { service, release, changed } = looked;
        match changed {
            Some(path) => {
                tracing::error!(%service, path, "what is live was changed on this host");
                self.drifted.insert(service, (release, path));
            }
            None => {
                self.drifted.remove(&service);
            }
        }
    }

    /// What was found changed of the live release of a service.
    pub(super) fn drift_of(&self, service: &ServiceName) -> Option<&str> {
        let (release, path) = self.drifted.get(service)?;
        let slot = self.slots.get(service)?;
        let runs = slot.machine.running.as_ref().is_some_and(|known| known.id == *release);
        runs.then_some(path.as_str())
    }

    /// What the report says of it, while that release is live.
    pub(super) fn drift_note(&self) -> Option<RefusalNote> {
        let path = self.drifted.keys().find_map(|service| self.drift_of(service))?;
        Some(RefusalNote { generation: self.floor.generation, code: format!("drifted: {path}") })
    }
}
