//! The looks at what is live: until its probes pass, while it bakes, and while it rests. Each ends in one event.
//! Decides nothing that the machine decides.

use std::time::Duration;

use groundswell_common::manifest::{Manifest, Probe};
use groundswell_common::report::Verdict;
use groundswell_common::{ReleaseId, Timestamp, chain};
use groundswell_machine::Event;
use tokio::time::sleep;

use crate::clock::SinceBoot;
use crate::ports::{Alive, RunSpec};
use crate::probe::ProbeError;
use crate::stage;
use crate::text::failure;
use crate::units::UnitError;
use crate::work::{Job, UNASKED_SECS};

/// A probe that fails while a release bakes is tried once more after this time before it counts.
const SECOND_TRY: Duration = Duration::from_millis(250);
/// What a look may take beyond its probes' own times on a busy machine, calls of the bus included.
const LOOK_SLACK: Duration = Duration::from_secs(30);

impl Job {
    /// Probes what is live until everything passes at once, or the deadline is over.
    pub(crate) async fn probe(
        self,
        release: ReleaseId,
        left: Duration,
        interval: Duration,
    ) -> Event {
        let deadline = self.ends_in(left);
        let (spec, manifest) = match self.running(&release, deadline).await {
            Ok(found) => found,
            Err(why) => return Event::Failed { why },
        };
        match self.pass_by(&spec, &manifest.probes, deadline, interval).await {
            Ok(()) => Event::Passed,
            Err(NotPassed::Failed(why)) => Event::Failed { why },
            Err(NotPassed::Overslept) => Event::Overslept,
            Err(NotPassed::Stopped(unit)) => Event::Stopped { unit },
        }
    }

    /// Tries until all pass in one round; the last defect when the deadline is over. A bus that cannot be reached
    /// is no defect, and is waited for.
    pub(crate) async fn pass_by(
        &self,
        spec: &RunSpec,
        probes: &[Probe],
        deadline: Timestamp,
        interval: Duration,
    ) -> Result<(), NotPassed> {
        let mut since: Option<Alive> = None;
        loop {
            let began = SinceBoot::now();
            let up = self.up(spec, since.as_ref()).await;
            let by_hand = match &up {
                Err(RoundError::Restarted(ended)) => self.outside.units.ended_by_hand(ended).await,
                Ok(_) | Err(_) => false,
            };
            if by_hand {
                return Err(NotPassed::Overslept);
            }
            // Without probes it must stay up from one look to the next.
            let stayed = since.is_some();
            since = up.as_ref().ok().cloned();
            let tried = match up {
                Ok(_) => self.probes(spec, probes).await,
                Err(error) => Err(error),
            };
            let blind = tried.as_ref().is_err_and(RoundError::is_blind);
            if tried.is_ok() && (!probes.is_empty() || stayed) {
                return Ok(());
            }
            if overslept(began, Duration::ZERO, probes) {
                return Err(NotPassed::Overslept);
            }
            let left = deadline.millis_since(self.outside.clock.now());
            let last = !blind && (matches!(tried, Err(RoundError::Hopeless)) || left == 0);
            let units = &self.outside.units;
            let down = last || matches!(tried, Err(RoundError::Stopped(_)));
            if tried.is_err()
                && down
                && let Some(unit) = units.told_to_stop(spec).await
            {
                return Err(NotPassed::Stopped(unit));
            }
            match tried {
                Err(error) if last => {
                    let output = self.outside.units.last_output(spec).await;
                    let why = format!("probes did not pass: {}", chain(&error));
                    return Err(NotPassed::Failed(failure(&why, &output)));
                }
                Ok(_) | Err(_) if blind => sleep(interval).await,
                Ok(_) | Err(_) => sleep(interval.min(Duration::from_millis(left.max(50)))).await,
            }
            if overslept(began, interval, probes) {
                return Err(NotPassed::Overslept);
            }
        }
    }

    /// Keeps probing until `until`; two tries in a row that fail, or a crash, end it. Its last look sees.
    pub(crate) async fn watch(
        self,
        release: ReleaseId,
        left: Duration,
        interval: Duration,
    ) -> Event {
        let by = self.outside.clock.now().plus_secs(UNASKED_SECS);
        let (spec, manifest) = match self.running(&release, by).await {
            Ok(found) => found,
            Err(why) => return Event::Failed { why },
        };
        let (until, mut since) = (self.ends_in(left), None);
        loop {
            let began = SinceBoot::now();
            let tried = self.twice(&spec, &manifest.probes, since.as_ref()).await;
            if overslept(began, Duration::ZERO, &manifest.probes) {
                return Event::Overslept;
            }
            let blind = tried.as_ref().is_err_and(RoundError::is_blind);
            match tried {
                Ok(alive) => since = since.or(Some(alive)),
                Err(_) if blind => {}
                Err(error) => {
                    let units = &self.outside.units;
                    // Nothing is known of what somebody has just started anew.
                    if let RoundError::Restarted(ended) = &error
                        && units.ended_by_hand(ended).await
                    {
                        return Event::Overslept;
                    }
                    if let Some(unit) = units.told_to_stop(&spec).await {
                        return Event::Stopped { unit };
                    }
                    let output = self.outside.units.last_output(&spec).await;
                    let why = format!("failed while it was watched: {}", chain(&error));
                    return Event::Failed { why: failure(&why, &output) };
                }
            }
            let left = until.millis_since(self.outside.clock.now());
            if left == 0 && !blind {
                return Event::Passed;
            }
            let pause = if blind { interval } else { interval.min(Duration::from_millis(left)) };
            sleep(pause).await;
            if overslept(began, interval, &manifest.probes) {
                return Event::Overslept;
            }
        }
    }

    /// Waits until all of what somebody stopped runs again.
    pub(crate) async fn await_start(self, release: ReleaseId, pause: Duration) -> Event {
        loop {
            sleep(pause).await;
            let Some((id, manifest)) = self.reopened(&release) else { continue };
            let spec = self.spec((&id, &manifest));
            let Ok(alive) = self.outside.units.alive(&spec).await else { continue };
            // What has failed by itself meanwhile comes to its verdict by its probes.
            let fails = alive.hopeless && self.outside.units.told_to_stop(&spec).await.is_none();
            if alive.running || fails {
                return Event::Well;
            }
        }
    }

    /// Keeps an eye on what is at rest: ends when it is not what it was known to be, or at `until`.
    pub(crate) async fn guard(
        self,
        release: ReleaseId,
        until: Timestamp,
        every: Duration,
        known: Option<Verdict>,
    ) -> Event {
        let manifest = match stage::reopen(&self.outside.layout, &self.service, &release) {
            Ok(manifest) => manifest,
            Err(error) => return Event::Ill { why: failure(&chain(&error), "") },
        };
        let spec = self.spec((&release, &manifest));
        let (mut since, mut at_once) = (None::<Alive>, known.is_none());
        loop {
            if !std::mem::take(&mut at_once) {
                let left = until.millis_since(self.outside.clock.now());
                sleep(every.min(Duration::from_millis(left.max(50)))).await;
            }
            let tried = self.twice(&spec, &manifest.probes, since.as_ref()).await;
            let over = until.millis_since(self.outside.clock.now()) == 0;
            match tried {
                Ok(alive) => {
                    if known != Some(Verdict::Pass) || over {
                        return Event::Well;
                    }
                    since = since.or(Some(alive));
                }
                // Nothing was seen, so nothing is said.
                Err(error) if error.is_blind() => {}
                // At rest somebody may start it anew.
                Err(RoundError::Restarted(_)) => since = None,
                Err(RoundError::Stopped(unit)) => {
                    if known != Some(Verdict::Inconclusive) || over {
                        return Event::Stopped { unit };
                    }
                }
                Err(error) if known != Some(Verdict::Fail) || over => {
                    let output = self.outside.units.last_output(&spec).await;
                    return Event::Ill { why: failure(&chain(&error), &output) };
                }
                Err(_) => {}
            }
        }
    }

    /// One round, and where another one may pass, that one.
    async fn twice(
        &self,
        spec: &RunSpec,
        probes: &[Probe],
        since: Option<&Alive>,
    ) -> Result<Alive, RoundError> {
        let tried = self.round(spec, probes, since).await;
        if tried.as_ref().is_err_and(RoundError::may_pass) {
            sleep(SECOND_TRY).await;
            return self.round(spec, probes, since).await;
        }
        tried
    }

    /// One round: the supervisor first, then every probe.
    async fn round(
        &self,
        spec: &RunSpec,
        probes: &[Probe],
        since: Option<&Alive>,
    ) -> Result<Alive, RoundError> {
        let alive = self.up(spec, since).await?;
        self.probes(spec, probes).await?;
        Ok(alive)
    }

    /// Whether everything runs, and is what it was at an earlier look.
    async fn up(&self, spec: &RunSpec, since: Option<&Alive>) -> Result<Alive, RoundError> {
        let alive = self.outside.units.alive(spec).await?;
        if since.is_some_and(|since| alive.crashes > since.crashes) {
            return Err(RoundError::Crashed);
        }
        if alive.hopeless && !alive.running {
            return Err(RoundError::Hopeless);
        }
        if !alive.running {
            return Err(alive.stopped.map_or(RoundError::NotRunning, RoundError::Stopped));
        }
        let before = since.map(|since| since.runs.clone()).unwrap_or_default();
        let ended: Vec<_> = before.into_iter().filter(|run| !alive.runs.contains(run)).collect();
        if ended.is_empty() { Ok(alive) } else { Err(RoundError::Restarted(ended)) }
    }

    async fn probes(&self, spec: &RunSpec, probes: &[Probe]) -> Result<(), RoundError> {
        for probe in probes {
            match probe {
                Probe::Unit { unit } => {
                    if !self.outside.units.unit_active(spec, unit).await? {
                        return Err(ProbeError::Unit(unit.clone()).into());
                    }
                }
                Probe::Http { .. }
                | Probe::Tcp { .. }
                | Probe::Exec { .. }
                | Probe::File { .. } => {
                    self.outside.probes.once(probe, spec).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether what is live passes its probes now.
    pub(crate) async fn passes(&self, live: (&ReleaseId, &Manifest)) -> bool {
        self.twice(&self.spec(live), &live.1.probes, None).await.is_ok()
    }
}

/// How a wait for probes to pass ended otherwise.
pub(crate) enum NotPassed {
    /// They did not pass in time; the last defect.
    Failed(String),
    /// Nobody looked for a while.
    Overslept,
    /// Somebody had this unit stopped.
    Stopped(String),
}

/// Whether far more time went by than a look and the pause after it take: the host stood still meanwhile.
fn overslept(began: SinceBoot, interval: Duration, probes: &[Probe]) -> bool {
    let tries_secs: u64 = probes.iter().map(|probe| 2 * probe.timeout_secs()).sum();
    began.elapsed() > interval + Duration::from_secs(tries_secs) + LOOK_SLACK
}

/// Why one round of probes did not pass.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the service does not run")]
    NotRunning,
    #[error("{0} was stopped, or ended by itself")]
    Stopped(String),
    #[error("the service ended and does not come up again")]
    Hopeless,
    #[error("the service ended by itself and was started again")]
    Crashed,
    #[error("the service ended by itself and was started anew on this host")]
    Restarted(Vec<(String, String)>),
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Units(#[from] UnitError),
}

impl RoundError {
    /// Whether a second try may pass: a crash stays a crash.
    fn may_pass(&self) -> bool {
        match self {
            Self::Probe(_) | Self::Units(_) => true,
            Self::NotRunning
            | Self::Stopped(_)
            | Self::Hopeless
            | Self::Crashed
            | Self::Restarted(_) => false,
        }
    }

    /// Whether nothing was seen of the service at all.
    fn is_blind(&self) -> bool {
        match self {
            Self::Units(error) => error.is_of_the_bus(),
            Self::Probe(_)
            | Self::NotRunning
            | Self::Stopped(_)
            | Self::Hopeless
            | Self::Crashed
            | Self::Restarted(_) => false,
        }
    }
}
