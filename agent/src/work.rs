//! The jobs of one service, one at a time: stage, activate, start, restore. Each takes what it needs
//! by value and ends in one event. Decides nothing that the machine decides.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use groundswell_common::manifest::{HookPoint, Manifest, Switch};
use groundswell_common::trust::{check_approvals, check_step};
use groundswell_common::wire::ReleaseProof;
use groundswell_common::{Clock, ReleaseId, ServiceName, Timestamp};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::bring::{BringError, Progress};
use crate::cancel::Cancel;
use crate::clock::{SinceBoot, wall};
use crate::durable::{self, Access, Fault};
use crate::layout::Layout;
use crate::link::Say;
use crate::live::Live;
use crate::own;
use crate::ports::{Depot, Probes, RunSpec, Since, Units};
use crate::stage::{self, StageError, StagedRelease};
use crate::switch::{self, Replaced};
use crate::text::failure;
use crate::trustee::Trustee;
use crate::units::{UnitError, instance};
use crate::watch::NotPassed;
use groundswell_common::chain;
use groundswell_machine::{Cause, Event, Known};

/// Seconds for a start that no wish has set a deadline for: at the agent's own start.
pub(crate) const UNASKED_SECS: u64 = 120;
/// How often a deadline that is over is looked at again while only the bus is missing.
const BUS_AWAY: Duration = Duration::from_secs(5);
const BOOT_BYTES: usize = 64;
/// Tries to change the links on the way back, and the wait between two.
const PUT_BACK_TRIES_MAX: u32 = 5;
const PUT_BACK_WAIT: Duration = Duration::from_secs(1);
/// How often a live link that cannot be read is looked at again.
const DISK_WAIT: Duration = Duration::from_secs(1);

/// Everything outside that jobs use.
#[derive(Clone)]
pub(crate) struct Outside {
    pub(crate) layout: Layout,
    pub(crate) units: Arc<dyn Units>,
    pub(crate) probes: Arc<dyn Probes>,
    pub(crate) depot: Arc<dyn Depot>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What the owner of the host allows now.
    pub(crate) settings: Live,
    /// The release that this program is of; `None` for the one that the package installed.
    pub(crate) program: Option<ReleaseId>,
}

/// What every job of a service knows.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) outside: Outside,
    pub(crate) service: ServiceName,
    pub(crate) cancel: Cancel,
    /// Whether the agent has just started, and what should run may not.
    pub(crate) starting: bool,
    pub(crate) progress: Progress,
}

impl Job {
    /// Replaces the live link under a permit. No unit is touched but by hooks.
    pub(crate) async fn activate(self, under: Under) -> Event {
        let (layout, release) = (&self.outside.layout, under.proof.release);
        let staged = match self.last_look(&under).await {
            Ok(staged) => staged,
            Err(error) => {
                under.give_back(false);
                return self.not_staged(release, &error);
            }
        };
        let before = under.running.as_ref().map(|known| known.id);
        // A permit that ran out is none.
        if SinceBoot::now() >= under.void_at {
            under.give_back(false);
            return Event::PermitLate;
        }
        let old = before.and_then(|id| self.reopened(&id));
        let drains = old.as_ref().is_some_and(|(_, old)| old.hook(HookPoint::Drain).is_some());
        let hooked = drains || staged.manifest().hook(HookPoint::PreSwitch).is_some();
        if hooked {
            // Hooks may take longer than a permit lasts: the switch begins with the first of them.
            under.give_back(true);
            match self.prepare(old.clone().filter(|_| drains), &staged).await {
                Ok(()) => {}
                Err(Unready::Hook(why)) => return Event::StageFailed { release, why },
                Err(Unready::Disk(fault)) => return self.not_staged(release, &fault.into()),
            }
        }
        let in_time = || hooked || SinceBoot::now() < under.void_at;
        let switched = switch::activate(layout, &staged, before.as_ref(), &in_time);
        if !hooked {
            under.give_back(matches!(switched, Ok(Replaced::Done)));
        }
        match switched {
            Ok(Replaced::Done) => Event::Replaced,
            Ok(Replaced::Late) => Event::PermitLate,
            Err(fault) => match switch::live(layout, &self.service) {
                // It could not be put back at once: the way back has more tries.
                Ok(live) if live == Some(release) => Event::Interrupted { live },
                Ok(_) | Err(_) => {
                    if let Some((id, _)) = old.filter(|_| drains) {
                        self.undrain(&id).await;
                    }
                    self.not_staged(release, &fault.into())
                }
            },
        }
    }

    /// What became of a switch that was interrupted. A live link that cannot be read says nothing of the release: it
    /// is waited for.
    pub(crate) async fn interrupted(self) -> Event {
        loop {
            match switch::live(&self.outside.layout, &self.service) {
                Ok(live) => {
                    self.progress.wait_for_the_disk(None);
                    return Event::Interrupted { live };
                }
                Err(error) => self.progress.wait_for_the_disk(Some(chain(&error))),
            }
            sleep(DISK_WAIT).await;
        }
    }

    /// Puts back a live link that an agent before this one replaced, perhaps too late for its permit: no unit was
    /// touched yet. Where the host has started since, systemd has started what the link names, and it stays.
    pub(crate) async fn take_link_back(
        self,
        target: ReleaseId,
        (running, previous): (Option<ReleaseId>, Option<ReleaseId>),
    ) -> Event {
        if self.down_since().await == Since::Boot && self.may_run(&target).await {
            return Event::Replaced;
        }
        let before = (running.as_ref(), previous.as_ref());
        while let Err(fault) = switch::put_back(&self.outside.layout, &self.service, before) {
            self.progress.wait_for_the_disk(Some(chain(&fault)));
            sleep(DISK_WAIT).await;
        }
        self.interrupted().await
    }

    /// Whether units of a release run, or cannot be asked.
    async fn may_run(&self, release: &ReleaseId) -> bool {
        let Ok(spec) = self.live_spec(release) else { return false };
        self.outside.units.alive(&spec).await.map_or(true, |alive| alive.running)
    }

    /// Drains what runs and prepares the switch. Where the release that comes is not ready, what runs is
    /// started again, and nothing was switched.
    async fn prepare(
        &self,
        drained: Option<(ReleaseId, Manifest)>,
        staged: &StagedRelease,
    ) -> Result<(), Unready> {
        if let Some((id, manifest)) = &drained {
            let mark = self.outside.layout.drained(&self.service);
            durable::write(&mark, b"", Access::Owner).map_err(Unready::Disk)?;
            // A release that cannot be drained must be left all the same.
            self.try_hook(HookPoint::Drain, (id, manifest)).await;
        }
        let new = (&staged.known().id, staged.manifest());
        let Err(error) = self.hook(HookPoint::PreSwitch, new).await else { return Ok(()) };
        self.try_hook(HookPoint::Failed, new).await;
        if let Some((id, _)) = drained {
            self.undrain(&id).await;
        }
        Err(Unready::Hook(failure(&chain(&error), &error.output)))
    }

    /// Starts what was drained and not replaced.
    async fn undrain(&self, release: &ReleaseId) {
        let Some((id, manifest)) = self.reopened(release) else { return };
        // Drained, it may run and yet not serve.
        let spec = self.spec((&id, &manifest));
        let work = self.bring_up(&spec, Vec::new(), Switch::Restart);
        match self.until(self.outside.clock.now().plus_secs(UNASKED_SECS), &spec, work).await {
            Ok(()) => self.try_hook(HookPoint::PostSwitch, (&id, &manifest)).await,
            Err(error) => {
                tracing::error!(service = %self.service, error = %chain(&error), "does not run");
            }
        }
    }

    pub(crate) fn reopened(&self, release: &ReleaseId) -> Option<(ReleaseId, Manifest)> {
        let manifest = stage::reopen(&self.outside.layout, &self.service, release);
        manifest.ok().map(|manifest| (*release, manifest))
    }

    /// Checks 4, 5 and 7 again, at the moment of the switch.
    async fn last_look(&self, under: &Under) -> Result<StagedRelease, BringError> {
        let (layout, trustee) = (&self.outside.layout, &under.trustee);
        let staged = stage::open(layout, &self.service, &under.proof, trustee)?
            .ok_or(StageError::Damaged(under.proof.release))?;
        let running_seq = under.running.as_ref().map(|known| known.seq);
        check_step(staged.known().seq, under.floor, running_seq, false)
            .map_err(StageError::Refused)?;
        let who = (&self.service, &trustee.pin.environment);
        let release = &under.proof.release;
        check_approvals(&under.proof.approvals, release, who, &trustee.root, wall())
            .map_err(StageError::Refused)?;
        self.could_start((release, staged.manifest())).await?;
        Ok(staged)
    }

    /// Restarts the service on what is live, in a switch away from `before`, whose units may still run. What does not
    /// obey its stop for the whole time is killed: it speaks against nobody, and the release then has its own time.
    pub(crate) async fn start(
        self,
        release: ReleaseId,
        before: Option<ReleaseId>,
        left: Duration,
    ) -> Event {
        let deadline = self.ends_in(left);
        let manifest = match stage::reopen(&self.outside.layout, &self.service, &release) {
            Ok(manifest) => manifest,
            Err(error) => return Event::SwitchFailed { why: failure(&chain(&error), "") },
        };
        let live = (&release, &manifest);
        let leftover = self.leftover(before.as_ref(), live);
        let (spec, all) = (self.spec(live), self.with_units(live, &leftover));
        let mut work = std::pin::pin!(self.bring_up(&spec, leftover, manifest.switch));
        let (killed, done) = self.obeyed(left, &all, work.as_mut()).await;
        let deadline = if killed { self.ends_in(left) } else { deadline };
        let done = match done {
            Some(done) => done.map_err(UpError::Units),
            None => self.until(deadline, &all, work).await,
        };
        if let Err(error) = done {
            let output = self.outside.units.last_output(&spec).await;
            return Event::SwitchFailed { why: failure(&chain(&error), &output) };
        }
        match self.hook(HookPoint::PostSwitch, live).await {
            Ok(()) => Event::Switched { killed },
            Err(error) => Event::SwitchFailed { why: failure(&chain(&error), &error.output) },
        }
    }

    /// Waits for what a supervisor was asked, until the deadline. Where only the way to the supervisor is missing,
    /// nothing else could be done either: it is waited for.
    async fn until(
        &self,
        deadline: Timestamp,
        all: &RunSpec,
        work: impl Future<Output = Result<(), UnitError>>,
    ) -> Result<(), UpError> {
        let mut work = std::pin::pin!(work);
        loop {
            let left = deadline.millis_since(self.outside.clock.now());
            let patience = if left == 0 { BUS_AWAY } else { Duration::from_millis(left) };
            match timeout(patience, &mut work).await {
                Ok(done) => return done.map_err(UpError::Units),
                Err(_) => {
                    match beside(work.as_mut(), self.outside.units.give_up(all)).await {
                        (_, Some(Ok(()))) => return Ok(()),
                        (Some(why), _) => return Err(UpError::Late(why)),
                        (None, Some(done)) => return done.map_err(UpError::Units),
                        (None, None) => {}
                    }
                    tracing::warn!(service = %self.service, "systemd cannot be asked; waits for it");
                }
            }
        }
    }

    /// Runs what is live, and stops the units that only the release before has.
    async fn bring_up(
        &self,
        spec: &RunSpec,
        leftover: Vec<String>,
        switch: Switch,
    ) -> Result<(), UnitError> {
        let units = &self.outside.units;
        let leftover = RunSpec { units: leftover, ..spec.clone() };
        let stop = async || match leftover.units.is_empty() {
            true => Ok(()),
            false => units.stop(&leftover).await,
        };
        match switch {
            Switch::Restart => {
                stop().await?;
                units.restart(spec).await?;
            }
            Switch::Reload => {
                stop().await?;
                units.reload(spec).await?;
            }
            Switch::Overlap => {
                // An instance is of one release: one that runs is the right one.
                units.start(spec).await?;
                stop().await?;
            }
        }
        self.note_start().await;
        Ok(())
    }

    /// Notes that in this run of the host the service was started, and serves. It does, also where the disk does
    /// not take that: then the agent's next start may start it once more.
    async fn note_start(&self) {
        let (layout, this) = (&self.outside.layout, self.boot().await);
        let path = layout.booted(&self.service);
        let noted = || -> Result<(), Fault> {
            // What cannot be read is no note.
            if durable::read(&path, BOOT_BYTES).ok().as_ref() != Some(&this) {
                durable::write(&path, this.as_deref().unwrap_or_default(), Access::All)?;
            }
            durable::remove(&layout.drained(&self.service))
        };
        if let Err(fault) = noted() {
            tracing::warn!(service = %self.service, error = %chain(&fault), "its start is not noted");
        }
    }

    /// What tells this run of the host from others; `None` where it cannot be learnt.
    async fn boot(&self) -> Option<Vec<u8>> {
        self.outside.units.boot().await.ok().map(String::into_bytes)
    }

    /// Since when the service may be down.
    async fn down_since(&self) -> Since {
        let this = self.boot().await;
        let noted = durable::read(&self.outside.layout.booted(&self.service), BOOT_BYTES);
        let same = this.is_some() && noted.is_ok_and(|noted| noted == this);
        if same { Since::Agent } else { Since::Boot }
    }

    /// The spec of what is live, and more units than it names.
    fn with_units(&self, live: (&ReleaseId, &Manifest), more: &[String]) -> RunSpec {
        let mut spec = self.spec(live);
        spec.units.extend_from_slice(more);
        spec
    }

    /// Units that only the release before has: they must not run on.
    fn leftover(&self, before: Option<&ReleaseId>, live: (&ReleaseId, &Manifest)) -> Vec<String> {
        let keep = self.spec(live).units;
        let before = before.and_then(|id| self.live_spec(id).ok());
        let units = before.into_iter().flat_map(|before| before.units);
        units.filter(|unit| !keep.contains(unit)).collect()
    }

    pub(crate) fn spec(&self, (release, manifest): (&ReleaseId, &Manifest)) -> RunSpec {
        RunSpec {
            service: self.service.clone(),
            version: manifest.version.clone(),
            units: manifest.units.iter().map(|unit| instance(unit, release)).collect(),
            command: manifest.command.clone(),
            tree: self.outside.layout.current(&self.service).join("tree"),
        }
    }

    fn live_spec(&self, release: &ReleaseId) -> Result<RunSpec, StageError> {
        stage::reopen(&self.outside.layout, &self.service, release)
            .map(|manifest| self.spec((release, &manifest)))
    }

    /// Sees to it that what is live runs.
    pub(crate) async fn ensure(self, release: ReleaseId) {
        let spec = match self.live_spec(&release) {
            Ok(spec) => spec,
            Err(error) => {
                tracing::error!(service = %self.service, error = %chain(&error), "cannot be run");
                return;
            }
        };
        // The agent ended between a drain and the switch after it.
        if self.outside.layout.drained(&self.service).exists() {
            return self.undrain(&release).await;
        }
        let work = async {
            self.outside.units.ensure(&spec, self.down_since().await).await?;
            self.note_start().await;
            Ok(())
        };
        let deadline = self.outside.clock.now().plus_secs(UNASKED_SECS);
        if let Err(error) = self.until(deadline, &spec, work).await {
            tracing::error!(service = %self.service, error = %chain(&error), "does not run");
        }
    }

    /// The run spec and manifest of what is live; where the agent has just started, after seeing to it that it runs.
    pub(crate) async fn running(
        &self,
        release: &ReleaseId,
        deadline: Timestamp,
    ) -> Result<(RunSpec, Manifest), String> {
        let manifest = stage::reopen(&self.outside.layout, &self.service, release)
            .map_err(|error| failure(&chain(&error), ""))?;
        let spec = self.spec((release, &manifest));
        if self.starting {
            let work = self.outside.units.ensure(&spec, Since::Boot);
            let ran = self.until(deadline, &spec, work).await;
            ran.map_err(|error| failure(&chain(&error), ""))?;
        }
        Ok((spec, manifest))
    }

    /// The time at which something ends that lasts so long from now.
    pub(crate) fn ends_in(&self, left: Duration) -> Timestamp {
        let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        self.outside.clock.now().plus_millis(millis)
    }

    /// Makes the release before live again, or nothing; restarts and probes it. Needs nobody.
    pub(crate) async fn restore(
        self,
        (from, cause): (Known, Cause),
        to: Option<Known>,
        (probe, interval): (Duration, Duration),
    ) -> Event {
        let failed = |why: &str, back| Event::RestoreFailed { why: failure(why, ""), back };
        if let Some(to) = to.as_ref().filter(|_| cause.is_asked_for())
            && let Some(why) = self.keeps(&from.id, &to.id).await
        {
            return Event::BackHeld { why };
        }
        let has_failed = matches!(cause, Cause::Failed { .. });
        if let (true, Some((id, manifest))) = (has_failed, self.reopened(&from.id)) {
            self.try_hook(HookPoint::Failed, (&id, &manifest)).await;
        }
        let mut tries = 1;
        let put_back = loop {
            match self.put_back((&from, has_failed), to.as_ref(), probe).await {
                Ok(done) => break done,
                // A disk that fails once is no reason to leave the host to a person.
                Err((error, _)) if error.is_of_the_disk() && tries < PUT_BACK_TRIES_MAX => {
                    tracing::warn!(service = %self.service, error = %chain(&error), "tries again");
                    tries += 1;
                    sleep(PUT_BACK_WAIT).await;
                }
                Err((error, back)) => {
                    let of = to.as_ref().filter(|_| back).map(|to| to.id);
                    let why = chain(&error);
                    let output = match of.and_then(|to| self.live_spec(&to).ok()) {
                        Some(spec) => self.outside.units.last_output(&spec).await,
                        None => String::new(),
                    };
                    return Event::RestoreFailed { why: failure(&why, &output), back };
                }
            }
        };
        let (Some((spec, manifest)), Some(to)) = (put_back, to) else { return Event::Restored };
        self.try_hook(HookPoint::PostSwitch, (&to.id, &manifest)).await;
        let millis = u64::try_from(probe.as_millis()).unwrap_or(u64::MAX);
        loop {
            let deadline = self.outside.clock.now().plus_millis(millis);
            match self.pass_by(&spec, &manifest.probes, deadline, interval).await {
                Ok(()) => return Event::Restored,
                Err(NotPassed::Failed(why)) => return failed(&why, true),
                Err(NotPassed::Overslept) => {}
                Err(NotPassed::Stopped(unit)) => {
                    let why =
                        format!("{unit} was stopped on this host before it had passed its probes");
                    return failed(&why, true);
                }
            }
        }
    }

    /// Changes the links back and restarts what they name; what must now pass its probes. An error says whether
    /// the links are back.
    async fn put_back(
        &self,
        (from, has_failed): (&Known, bool),
        to: Option<&Known>,
        probe: Duration,
    ) -> Result<Option<(RunSpec, Manifest)>, (PutBackError, bool)> {
        let before = |error: PutBackError| (error, false);
        let after = |error: UpError| (PutBackError::Up(error), true);
        let (layout, units) = (&self.outside.layout, &self.outside.units);
        let Some(to) = to else {
            let spec = self.live_spec(&from.id).ok();
            // What may not be stopped must not lose its tree while it runs.
            let kept = spec.as_ref().filter(|_| !has_failed);
            let kept = kept.and_then(|spec| units.refused_unit(&self.service, &spec.units));
            if let Some(unit) = kept {
                let refused = UnitError::NotAllowed(self.service.clone(), unit);
                return Err(before(UpError::Units(refused).into()));
            }
            if let Some(spec) = &spec {
                let stopped = self.back_until(probe, spec, units.stop(spec)).await;
                stopped.map_err(|error| before(error.into()))?;
            }
            switch::restore(layout, &self.service, None).map_err(|fault| before(fault.into()))?;
            // Without a release the agent is what its package installed; it is never left stopped.
            if let Some(spec) = spec.filter(|_| own::is_own(&self.service)) {
                self.back_until(probe, &spec, units.restart(&spec)).await.map_err(after)?;
            }
            return Ok(None);
        };
        let reopened = stage::reopen(layout, &self.service, &to.id);
        let manifest = reopened.map_err(|error| before(error.into()))?;
        let leftover = self.leftover(Some(&from.id), (&to.id, &manifest));
        let restored = switch::restore(layout, &self.service, Some(&to.id));
        restored.map_err(|fault| before(fault.into()))?;
        let spec = self.spec((&to.id, &manifest));
        // What failed may not obey.
        let obeys = !(has_failed && manifest.switch == Switch::Reload);
        let switch = if obeys { manifest.switch } else { Switch::Restart };
        let all = self.with_units((&to.id, &manifest), &leftover);
        let work = self.bring_up(&spec, leftover, switch);
        self.back_until(probe, &all, work).await.map_err(after)?;
        Ok(Some((spec, manifest)))
    }

    /// Waits for what is asked on the way back. What does not obey its stop for as long as a start may take is
    /// killed; then a start may take its time.
    async fn back_until(
        &self,
        patience: Duration,
        all: &RunSpec,
        work: impl Future<Output = Result<(), UnitError>>,
    ) -> Result<(), UpError> {
        let mut work = std::pin::pin!(work);
        match self.obeyed(patience, all, work.as_mut()).await {
            (_, Some(done)) => done.map_err(UpError::Units),
            (_, None) => self.until(self.ends_in(patience), all, work).await,
        }
    }

    /// Waits for what is asked for so long, then kills what does not obey its stop; whether there was any, and what
    /// came of the work where it has ended.
    async fn obeyed<W: Future>(
        &self,
        patience: Duration,
        all: &RunSpec,
        mut work: Pin<&mut W>,
    ) -> (bool, Option<W::Output>) {
        match timeout(patience, work.as_mut()).await {
            Ok(done) => (false, Some(done)),
            Err(_) => beside(work, self.outside.units.kill(all)).await,
        }
    }
}

/// Does something while the work goes on, and what came of both: the work may hold what the other needs, such as the
/// way to the supervisor that it is making anew.
async fn beside<T, W: Future>(
    mut work: Pin<&mut W>,
    other: impl Future<Output = T>,
) -> (T, Option<W::Output>) {
    let (mut other, mut done) = (std::pin::pin!(other), None);
    loop {
        tokio::select! {
            came = &mut other => return (came, done),
            ended = &mut work, if done.is_none() => done = Some(ended),
        }
    }
}

/// Why a switch was not begun.
enum Unready {
    /// The release's own hook failed.
    Hook(String),
    /// The host's disk did.
    Disk(Fault),
}

/// Why what ran before is not back.
#[derive(Debug, thiserror::Error)]
enum PutBackError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Up(#[from] UpError),
}

/// Why what should run is not up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    Units(UnitError),
    #[error("{0}")]
    Late(String),
}

impl PutBackError {
    /// Whether another try may end otherwise.
    fn is_of_the_disk(&self) -> bool {
        matches!(
            self,
            Self::Fault(_)
                | Self::Stage(StageError::Fault(_))
                | Self::Up(UpError::Units(UnitError::Fault(_)))
        )
    }
}

/// What a switch happens under.
pub(crate) struct Under {
    pub(crate) proof: ReleaseProof,
    pub(crate) trustee: Trustee,
    pub(crate) floor: u64,
    pub(crate) running: Option<Known>,
    pub(crate) nonce: [u8; 16],
    pub(crate) void_at: SinceBoot,
    pub(crate) says: mpsc::Sender<Say>,
}

impl Under {
    /// Tells the coordinator that nothing is outstanding under this permit any more.
    fn give_back(&self, used: bool) {
        // A full or closed queue means no session: there the permit ends by its time.
        if self.says.try_send(Say::Done { nonce: self.nonce, used }).is_err() {
            tracing::debug!("a permit could not be returned; it ends by its time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_beside_work_may_need_what_the_work_holds() {
        let way = tokio::sync::Mutex::new(());
        let mut work = std::pin::pin!(async {
            let _held = way.lock().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            7
        });
        // Begun, and stopped where it holds the way.
        assert!(timeout(Duration::from_millis(1), work.as_mut()).await.is_err());
        let other = async { drop(way.lock().await) };
        let both = timeout(Duration::from_secs(60), beside(work.as_mut(), other)).await;
        assert_eq!(both.ok(), Some(((), Some(7))));
    }
}
