//! The jobs of one service, one at a time: stage, activate, probe, watch, restore. Each takes what it needs
//! by value and ends in one event. Decides nothing that the machine decides.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use groundswell_common::limits::MANIFEST_MAX_BYTES;
use groundswell_common::manifest::{HookPoint, Manifest, Probe, Switch};
use groundswell_common::trust::{Verified, check_approvals, check_step};
use groundswell_common::wire::ReleaseProof;
use groundswell_common::{Clock, Digest, ReleaseId, ServiceName, Timestamp};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::cancel::Cancel;
use crate::clock::wall;
use crate::drift::{self, DriftError};
use crate::durable::{self, Access, Fault};
use crate::fetch::FetchError;
use crate::layout::Layout;
use crate::link::Say;
use crate::live::Live;
use crate::own;
use crate::ports::{Alive, Depot, Probes, RunSpec, Units};
use crate::probe::ProbeError;
use crate::stage::{self, StageError, StagedRelease, Unpack};
use crate::switch;
use crate::text::failure;
use crate::trustee::Trustee;
use crate::units::{ShippedError, UnitError, instance};
use groundswell_common::chain;
use groundswell_machine::{Cause, Event, Known};

/// A probe that fails while a release bakes is tried once more after this time before it counts.
const SECOND_TRY: Duration = Duration::from_millis(250);
/// Tries to change the links on the way back, and the wait between two.
const PUT_BACK_TRIES_MAX: u32 = 5;
const PUT_BACK_WAIT: Duration = Duration::from_secs(1);

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
}

/// Why a release cannot be brought here.
#[derive(Debug, thiserror::Error)]
enum BringError {
    #[error("the directive brought no proof of the release")]
    NoProof,
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Shipped(#[from] ShippedError),
    #[error(transparent)]
    Drift(#[from] DriftError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{need_bytes} bytes are needed and {free_bytes} are free; make room")]
    Full { need_bytes: u64, free_bytes: u64 },
    #[error("the unpacking task was lost")]
    Lost,
}

/// A release to bring here.
pub(crate) struct Bring {
    pub(crate) release: ReleaseId,
    pub(crate) proof: Option<ReleaseProof>,
    pub(crate) trustee: Trustee,
    pub(crate) floor: u64,
    pub(crate) running: Option<Known>,
    /// Whether the directive orders a step down.
    pub(crate) back: bool,
}

impl Job {
    /// Fetches, verifies and unpacks.
    pub(crate) async fn stage(self, bring: Bring) -> Event {
        let (release, revertible) = (bring.release, bring.running.clone().filter(|_| !bring.back));
        let staged = match self.bring(bring).await {
            Ok(known) => {
                self.can_go_back(revertible.filter(|_| !known.one_way)).await.map(|()| known)
            }
            Err(error) => Err(error),
        };
        match staged {
            Ok(known) => Event::Staged(known),
            Err(error) => {
                tracing::warn!(service = %self.service, release = %release, error = %chain(&error),
                    "the release cannot be staged");
                Event::StageFailed { release, why: failure(&chain(&error), "") }
            }
        }
    }

    async fn bring(&self, bring: Bring) -> Result<Known, BringError> {
        let proof = bring.proof.clone().ok_or(BringError::NoProof)?;
        let layout = &self.outside.layout;
        match stage::open(layout, &self.service, &proof, &bring.trustee) {
            Ok(Some(staged)) => {
                self.admit(staged.manifest(), &bring)?;
                self.admit_units(&staged)?;
                stage::save_proof(layout, &self.service, &proof)?;
                return Ok(staged.known().clone());
            }
            Ok(None) => {}
            Err(StageError::Damaged(_)) => {
                crate::durable::remove_tree(&layout.release(&self.service, &proof.release))?;
            }
            Err(error) => return Err(error.into()),
        }
        let payload = self.fetch_manifest(proof.release.digest()).await?;
        let manifest = stage::verify_manifest(&payload, &proof, &self.service, &bring.trustee)?;
        self.admit(&manifest, &bring)?;
        let blob = manifest.full_blob().clone();
        self.make_room(blob.size.saturating_add(manifest.unpacked_bytes()))?;
        let depot = &self.outside.depot;
        let bundle = depot.fetch(&blob.sha256, blob.size, &self.cancel).await?;
        let staged = self.unpack(payload, proof, manifest, bundle).await;
        // A bundle whose content is not what the manifest lists is of no use a second time either.
        depot.discard(&blob.sha256);
        let staged = staged?;
        self.admit_units(&staged)?;
        Ok(staged.known().clone())
    }

    fn admit_units(&self, staged: &StagedRelease) -> Result<(), BringError> {
        let tree = self.outside.layout.release(&self.service, &staged.known().id).join("tree");
        Ok(self.outside.units.takes(&self.service, &tree, &staged.manifest().units)?)
    }

    /// A release is staged where what it would go back to is whole on the disk.
    async fn can_go_back(&self, running: Option<Known>) -> Result<(), BringError> {
        let allowed = self.outside.settings.now().allow_drift.contains(&self.service);
        let Some(running) = running.filter(|_| !allowed) else { return Ok(()) };
        let job = self.clone();
        let look = move || {
            let cancelled = || job.cancel.is_cancelled();
            drift::check(&job.outside.layout, &job.service, &running.id, &cancelled)
        };
        let looked = tokio::task::spawn_blocking(look).await.map_err(|_| BringError::Lost)?;
        Ok(looked?)
    }

    async fn fetch_manifest(&self, digest: &Digest) -> Result<Vec<u8>, BringError> {
        let limit = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
        let file = self.outside.depot.fetch(digest, limit, &self.cancel).await?;
        let mut payload = Vec::new();
        // Whoever wrote the file may still write: what counts is what is read, and that is bounded.
        let read = file.take(limit).read_to_end(&mut payload);
        read.map_err(crate::durable::at("read", &self.outside.layout.part(digest)))?;
        self.outside.depot.discard(digest);
        Ok(payload)
    }

    /// Checks 4, 7 and the host's own say on units.
    fn admit(&self, manifest: &Manifest, bring: &Bring) -> Result<(), StageError> {
        let running_seq = bring.running.as_ref().map(|known| known.seq);
        check_step(manifest.seq, bring.floor, running_seq, bring.back)
            .map_err(StageError::Refused)?;
        if !self.outside.units.switches(manifest.switch) {
            return Err(StageError::Switch(manifest.switch));
        }
        if own::is_own(&self.service) {
            own::fits(manifest, &self.outside.layout).map_err(StageError::Own)?;
        }
        let allowed_by_root = bring.trustee.root.units.iter().find(|e| e.service == self.service);
        let beyond_root = allowed_by_root.and_then(|entry| {
            manifest.units.iter().find(|unit| !entry.units.contains(unit)).cloned()
        });
        let here = self.outside.units.refused_unit(&self.service, &manifest.units);
        match beyond_root.or(here) {
            Some(unit) => Err(StageError::Unit(unit)),
            None => Ok(()),
        }
    }

    fn make_room(&self, bytes: u64) -> Result<(), BringError> {
        let need_bytes = bytes.saturating_add(self.outside.settings.now().keep_free_bytes);
        let free_bytes = free_bytes(&self.outside.layout)?;
        if free_bytes < need_bytes {
            return Err(BringError::Full { need_bytes, free_bytes });
        }
        Ok(())
    }

    async fn unpack(
        &self,
        payload: Vec<u8>,
        proof: ReleaseProof,
        manifest: Verified<Manifest>,
        bundle: std::fs::File,
    ) -> Result<StagedRelease, BringError> {
        let job = self.clone();
        let work = move || {
            stage::unpack(Unpack {
                layout: &job.outside.layout,
                service: &job.service,
                payload: &payload,
                proof: &proof,
                manifest,
                bundle,
                cancelled: &|| job.cancel.is_cancelled(),
            })
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| BringError::Lost)?.map_err(Into::into)
    }

    /// Replaces the live link under a permit and restarts the service.
    pub(crate) async fn activate(self, under: Under) -> Event {
        let (layout, release) = (&self.outside.layout, under.proof.release);
        let staged = match self.last_look(&under) {
            Ok(staged) => staged,
            Err(error) => {
                under.give_back(false);
                return Event::StageFailed { release, why: failure(&chain(&error), "") };
            }
        };
        let before = under.running.as_ref().map(|known| known.id);
        let leftover = self.leftover(before.as_ref(), (&release, staged.manifest()));
        // The last thing before the switch begins: a permit that ran out is none.
        if Instant::now() >= under.void_at {
            under.give_back(false);
            return Event::PermitLate;
        }
        let old = before.and_then(|id| self.reopened(&id));
        let drains = old.as_ref().is_some_and(|(_, old)| old.hook(HookPoint::Drain).is_some());
        let hooked = drains || staged.manifest().hook(HookPoint::PreSwitch).is_some();
        if hooked {
            // Hooks may take longer than a permit lasts: the switch begins with the first of them.
            under.give_back(true);
            if let Err(why) = self.prepare(old.filter(|_| drains), &staged).await {
                return Event::StageFailed { release, why };
            }
        }
        let switched = switch::activate(layout, &staged, before.as_ref());
        if !hooked {
            under.give_back(switched.is_ok());
        }
        if let Err(fault) = switched {
            return Event::SwitchFailed { why: failure(&chain(&fault), "") };
        }
        self.restart((&release, staged.manifest()), leftover).await
    }

    /// Drains what runs and prepares the switch. Where the release that comes is not ready, what runs is
    /// started again, and nothing was switched.
    async fn prepare(
        &self,
        drained: Option<(ReleaseId, Manifest)>,
        staged: &StagedRelease,
    ) -> Result<(), String> {
        if let Some((id, manifest)) = &drained {
            let mark = self.outside.layout.drained(&self.service);
            durable::write(&mark, b"", Access::Owner).map_err(|fault| chain(&fault))?;
            // A release that cannot be drained must be left all the same.
            self.try_hook(HookPoint::Drain, (id, manifest)).await;
        }
        let new = (&staged.known().id, staged.manifest());
        let Err(error) = self.hook(HookPoint::PreSwitch, new).await else { return Ok(()) };
        self.try_hook(HookPoint::Failed, new).await;
        if let Some((id, _)) = drained {
            self.undrain(&id).await;
        }
        Err(failure(&chain(&error), &error.output))
    }

    /// Starts what was drained and not replaced.
    async fn undrain(&self, release: &ReleaseId) {
        let Some((id, manifest)) = self.reopened(release) else { return };
        // Drained, it may run and yet not serve.
        match self.bring_up(&self.spec((&id, &manifest)), Vec::new(), Switch::Restart).await {
            Ok(()) => self.try_hook(HookPoint::PostSwitch, (&id, &manifest)).await,
            Err(error) => {
                tracing::error!(service = %self.service, error = %chain(&error), "does not run");
            }
        }
    }

    fn reopened(&self, release: &ReleaseId) -> Option<(ReleaseId, Manifest)> {
        let manifest = stage::reopen(&self.outside.layout, &self.service, release);
        manifest.ok().map(|manifest| (*release, manifest))
    }

    /// Checks 4, 5 and 7 again, at the moment of the switch.
    fn last_look(&self, under: &Under) -> Result<StagedRelease, BringError> {
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
        Ok(staged)
    }

    /// Restarts the service on what is live, after a restart of the agent in the middle of a switch
    /// away from `before`, whose units may still run.
    pub(crate) async fn start(self, release: ReleaseId, before: Option<ReleaseId>) -> Event {
        match stage::reopen(&self.outside.layout, &self.service, &release) {
            Ok(manifest) => {
                let leftover = self.leftover(before.as_ref(), (&release, &manifest));
                self.restart((&release, &manifest), leftover).await
            }
            Err(error) => Event::SwitchFailed { why: failure(&chain(&error), "") },
        }
    }

    async fn restart(&self, live: (&ReleaseId, &Manifest), leftover: Vec<String>) -> Event {
        let spec = self.spec(live);
        if let Err(error) = self.bring_up(&spec, leftover, live.1.switch).await {
            let output = self.outside.units.last_output(&spec).await;
            return Event::SwitchFailed { why: failure(&chain(&error), &output) };
        }
        match self.hook(HookPoint::PostSwitch, live).await {
            Ok(()) => Event::Switched,
            Err(error) => Event::SwitchFailed { why: failure(&chain(&error), &error.output) },
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
                units.ensure(spec).await?;
                stop().await?;
            }
        }
        Ok(durable::remove(&self.outside.layout.drained(&self.service))?)
    }

    /// Units that only the release before has: they must not run on.
    fn leftover(&self, before: Option<&ReleaseId>, live: (&ReleaseId, &Manifest)) -> Vec<String> {
        let keep = self.spec(live).units;
        let before = before.and_then(|id| self.live_spec(id).ok());
        let units = before.into_iter().flat_map(|before| before.units);
        units.filter(|unit| !keep.contains(unit)).collect()
    }

    fn spec(&self, (release, manifest): (&ReleaseId, &Manifest)) -> RunSpec {
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
        if let Err(error) = self.outside.units.ensure(&spec).await {
            tracing::error!(service = %self.service, error = %chain(&error), "does not run");
        }
    }

    /// Probes what is live until everything passes at once, or the deadline is over.
    pub(crate) async fn probe(
        self,
        release: ReleaseId,
        deadline: Timestamp,
        interval: Duration,
    ) -> Event {
        let (spec, manifest) = match self.running(&release).await {
            Ok(found) => found,
            Err(why) => return Event::Failed { why },
        };
        match self.pass_by(&spec, &manifest.probes, deadline, interval).await {
            Ok(()) => Event::Passed,
            Err(why) => Event::Failed { why },
        }
    }

    /// Tries until all pass in one round; the last defect when the deadline is over.
    async fn pass_by(
        &self,
        spec: &RunSpec,
        probes: &[Probe],
        deadline: Timestamp,
        interval: Duration,
    ) -> Result<(), String> {
        let mut since: Option<u64> = None;
        loop {
            let tried = self.round(spec, probes, since).await;
            match tried {
                // Without probes it must stay up from one look to the next.
                Ok(alive) if !probes.is_empty() || since == Some(alive.crashes) => return Ok(()),
                Ok(alive) => since = Some(alive.crashes),
                Err(_) => since = None,
            }
            let left = deadline.millis_since(self.outside.clock.now());
            let last = matches!(tried, Err(RoundError::Hopeless)) || left == 0;
            match tried {
                Err(error) if last => {
                    let output = self.outside.units.last_output(spec).await;
                    let why = format!("probes did not pass: {}", chain(&error));
                    return Err(failure(&why, &output));
                }
                Ok(_) | Err(_) => sleep(interval.min(Duration::from_millis(left.max(50)))).await,
            }
        }
    }

    /// Keeps probing until `until`; two tries in a row that fail, or a crash, end it.
    pub(crate) async fn watch(
        self,
        release: ReleaseId,
        until: Timestamp,
        interval: Duration,
    ) -> Event {
        let (spec, manifest) = match self.running(&release).await {
            Ok(found) => found,
            Err(why) => return Event::Failed { why },
        };
        let crashes = self.outside.units.alive(&spec).await.map_or(0, |alive| alive.crashes);
        loop {
            let mut tried = self.round(&spec, &manifest.probes, Some(crashes)).await;
            if tried.as_ref().is_err_and(RoundError::may_pass) {
                sleep(SECOND_TRY).await;
                tried = self.round(&spec, &manifest.probes, Some(crashes)).await;
            }
            if let Err(error) = tried {
                let output = self.outside.units.last_output(&spec).await;
                let why = format!("failed while it was watched: {}", chain(&error));
                return Event::Failed { why: failure(&why, &output) };
            }
            let left = until.millis_since(self.outside.clock.now());
            if left == 0 {
                return Event::Passed;
            }
            sleep(interval.min(Duration::from_millis(left))).await;
        }
    }

    /// Keeps an eye on what is committed: ends when it turns, or at `until` with what it is then.
    pub(crate) async fn guard(
        self,
        release: ReleaseId,
        until: Timestamp,
        every: Duration,
        well: bool,
    ) -> Event {
        let (spec, manifest) = match self.running(&release).await {
            Ok(found) => found,
            Err(why) => return Event::Ill { why },
        };
        let crashes = self.outside.units.alive(&spec).await.map_or(0, |alive| alive.crashes);
        loop {
            let left = until.millis_since(self.outside.clock.now());
            sleep(every.min(Duration::from_millis(left))).await;
            let mut tried = self.round(&spec, &manifest.probes, Some(crashes)).await;
            if tried.as_ref().is_err_and(RoundError::may_pass) {
                sleep(SECOND_TRY).await;
                tried = self.round(&spec, &manifest.probes, Some(crashes)).await;
            }
            let over = until.millis_since(self.outside.clock.now()) == 0;
            match tried {
                Ok(_) if !well || over => return Event::Well,
                Err(error) if well || over => {
                    let output = self.outside.units.last_output(&spec).await;
                    return Event::Ill { why: failure(&chain(&error), &output) };
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The run spec and manifest of what is live, after seeing to it that it runs.
    async fn running(&self, release: &ReleaseId) -> Result<(RunSpec, Manifest), String> {
        let manifest = stage::reopen(&self.outside.layout, &self.service, release)
            .map_err(|error| failure(&chain(&error), ""))?;
        let spec = self.spec((release, &manifest));
        self.outside.units.ensure(&spec).await.map_err(|error| failure(&chain(&error), ""))?;
        Ok((spec, manifest))
    }

    /// One round: the supervisor first, then every probe.
    async fn round(
        &self,
        spec: &RunSpec,
        probes: &[Probe],
        crashes: Option<u64>,
    ) -> Result<Alive, RoundError> {
        let units = &self.outside.units;
        let alive = units.alive(spec).await?;
        if crashes.is_some_and(|crashes| alive.crashes > crashes) {
            return Err(RoundError::Crashed);
        }
        if alive.hopeless && !alive.running {
            return Err(RoundError::Hopeless);
        }
        if !alive.running {
            return Err(RoundError::NotRunning);
        }
        for probe in probes {
            match probe {
                Probe::Unit { unit } => {
                    if !units.unit_active(spec, unit).await? {
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
        Ok(alive)
    }

    /// Makes the release before live again, or nothing; restarts and probes it. Needs nobody.
    pub(crate) async fn restore(
        self,
        (from, cause): (Known, Cause),
        to: Option<Known>,
        (probe, interval): (Duration, Duration),
    ) -> Event {
        let failed = |why: &str, back| Event::RestoreFailed { why: failure(why, ""), back };
        let has_failed = matches!(cause, Cause::Failed { .. });
        if let (true, Some((id, manifest))) = (has_failed, self.reopened(&from.id)) {
            self.try_hook(HookPoint::Failed, (&id, &manifest)).await;
        }
        let mut tries = 1;
        let put_back = loop {
            match self.put_back((&from, has_failed), to.as_ref()).await {
                Ok(done) => break done,
                // A disk that fails once is no reason to leave the host to a person.
                Err((error, _)) if error.is_of_the_disk() && tries < PUT_BACK_TRIES_MAX => {
                    tracing::warn!(service = %self.service, error = %chain(&error), "tries again");
                    tries += 1;
                    sleep(PUT_BACK_WAIT).await;
                }
                Err((error, back)) => return failed(&chain(&error), back),
            }
        };
        let (Some((spec, manifest)), Some(to)) = (put_back, to) else { return Event::Restored };
        self.try_hook(HookPoint::PostSwitch, (&to.id, &manifest)).await;
        let millis = u64::try_from(probe.as_millis()).unwrap_or(u64::MAX);
        let deadline = self.outside.clock.now().plus_millis(millis);
        match self.pass_by(&spec, &manifest.probes, deadline, interval).await {
            Ok(()) => Event::Restored,
            Err(why) => failed(&why, true),
        }
    }

    /// Changes the links back and restarts what they name; what must now pass its probes. An error says whether
    /// the links are back.
    async fn put_back(
        &self,
        (from, has_failed): (&Known, bool),
        to: Option<&Known>,
    ) -> Result<Option<(RunSpec, Manifest)>, (PutBackError, bool)> {
        let before = |error: PutBackError| (error, false);
        let after = |error: UnitError| (PutBackError::Units(error), true);
        let layout = &self.outside.layout;
        let Some(to) = to else {
            let spec = self.live_spec(&from.id).ok();
            if let Some(spec) = &spec {
                self.outside.units.stop(spec).await.map_err(|error| before(error.into()))?;
            }
            switch::restore(layout, &self.service, None).map_err(|fault| before(fault.into()))?;
            // Without a release the agent is what its package installed; it is never left stopped.
            if let Some(spec) = spec.filter(|_| own::is_own(&self.service)) {
                self.outside.units.restart(&spec).await.map_err(after)?;
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
        self.bring_up(&spec, leftover, switch).await.map_err(after)?;
        Ok(Some((spec, manifest)))
    }
}

/// Why what ran before is not back.
#[derive(Debug, thiserror::Error)]
enum PutBackError {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Units(#[from] UnitError),
}

impl PutBackError {
    /// Whether another try may end otherwise.
    fn is_of_the_disk(&self) -> bool {
        matches!(
            self,
            Self::Fault(_) | Self::Stage(StageError::Fault(_)) | Self::Units(UnitError::Fault(_))
        )
    }
}

/// Why one round of probes did not pass.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("the service does not run")]
    NotRunning,
    #[error("the service ended and does not come up again")]
    Hopeless,
    #[error("the service ended by itself and was started again")]
    Crashed,
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
            Self::NotRunning | Self::Hopeless | Self::Crashed => false,
        }
    }
}

/// What a switch happens under.
pub(crate) struct Under {
    pub(crate) proof: ReleaseProof,
    pub(crate) trustee: Trustee,
    pub(crate) floor: u64,
    pub(crate) running: Option<Known>,
    pub(crate) nonce: [u8; 16],
    pub(crate) void_at: Instant,
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

/// Bytes that staging may use.
pub(crate) fn free_bytes(layout: &Layout) -> Result<u64, Fault> {
    let stat = rustix::fs::statvfs(layout.state())
        .map_err(|error| crate::durable::at("measure", layout.state())(error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
