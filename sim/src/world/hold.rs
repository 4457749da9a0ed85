//! What must hold while a seed runs. Changes nothing but what it keeps in mind for that.

use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::{HostId, ReleaseId, Timestamp};
use groundswell_rollout::{
    HaltCause, LOST_GRACE_SECS, Opening, PauseCause, Phase, Progress, ProgressName, Rollout,
    opening,
};

use super::{World, shifted};
use crate::check::Finding;
use crate::draw::HOST_BAKE_SECS;

impl World {
    pub(super) fn began(&self, id: HostId, release: ReleaseId) -> Result<(), Finding> {
        let ours = self.newest().is_some_and(|rollout| rollout.release() == release);
        let before = self.rollouts.len() >= 2;
        if !ours && !before && !self.restored {
            return Err(Finding::SwitchedAway(id, release));
        }
        let long = |since: Timestamp| self.now.millis_since(since) > PERMIT_VALID_MS;
        if ours && self.stopped_since.is_some_and(long) {
            return Err(Finding::SwitchedWhileStopped(id));
        }
        let count = self.newest().and_then(|rollout| rollout.host(&id)).map(|e| e.progress.name());
        if ours && count == Some(ProgressName::Reverted) {
            return Err(Finding::GoneBack(id));
        }
        // The same release under a permit of the rollout before was that one's business.
        let carried = self.carried.get(&id).is_some_and(|until| self.clock() < *until);
        if ours && !carried {
            self.shared_slots()?;
            self.in_its_window(id)?;
        }
        Ok(())
    }

    /// Keeps in mind which hosts the rollout that is superseded has in flight: found out here once more, so
    /// that a mistake of the core's own list shows.
    pub(super) fn carry(&mut self) {
        let least = self.clock().plus_secs(LOST_GRACE_SECS);
        let Some(rollout) = self.newest() else { return };
        let until = |progress: &Progress| match progress {
            Progress::Granted { deadline, .. }
            | Progress::Probing { deadline }
            | Progress::Baking { deadline }
            | Progress::Reverting { deadline } => Some((*deadline).max(least)),
            Progress::Pending
            | Progress::Staging
            | Progress::Staged
            | Progress::Committed
            | Progress::Failed { .. }
            | Progress::Lost
            | Progress::Absent
            | Progress::Overdue
            | Progress::Reverted
            | Progress::Held { .. }
            | Progress::Excluded { .. } => None,
        };
        let more: Vec<(HostId, Timestamp)> = rollout
            .hosts()
            .filter_map(|(_, host, entry)| Some((host.id, until(&entry.progress)?)))
            .collect();
        self.carried.extend(more);
    }

    /// As a host begins to switch: hosts of this rollout and of the one before share the slots.
    fn shared_slots(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let before = self.carried.iter().filter(|(id, until)| {
            let host = self.hosts.get(id);
            let flies = host.is_some_and(|host| host.up && host.in_flight());
            flies && self.clock() < **until && !holds_slot(rollout, id)
        });
        let ours = rollout.hosts().filter(|(_, host, _)| holds_slot(rollout, &host.id));
        let (before, ours) = (before.count(), ours.count());
        let (in_flight, allowed) = (before + ours, open_slots(rollout));
        if before > 0 && in_flight > allowed {
            return Err(Finding::InFlight { in_flight, allowed });
        }
        Ok(())
    }

    /// As a host begins to switch: by the coordinator's clock the calendar was open while its permit
    /// lived.
    fn in_its_window(&self, id: HostId) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let just_set = |at: Timestamp| self.now.millis_since(at) <= PERMIT_VALID_MS;
        if self.set_at.is_some_and(just_set) {
            return Ok(());
        }
        let plan = rollout.plan();
        let open = |at: Timestamp| {
            let opening = opening(&plan.windows, &plan.freezes, at);
            matches!(opening, Opening::Open { .. })
        };
        let before = i64::try_from(PERMIT_VALID_MS).unwrap_or(i64::MAX);
        let at = self.clock();
        match open(at) || open(shifted(at, -before)) {
            true => Ok(()),
            false => Err(Finding::OutsideWindow(id)),
        }
    }

    /// Hosts in flight with the newest release: slots, and those that it has lost sight of.
    pub(super) fn in_flight(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let release = rollout.release();
        let flying = |id: &HostId| {
            let host = self.hosts.get(id);
            host.is_some_and(|host| host.in_flight() && host.up && host.live == Some(release))
        };
        let (mut in_flight, mut unseen) = (0, 0);
        for (_, planned, _) in rollout.hosts() {
            in_flight += usize::from(flying(&planned.id));
            unseen += usize::from(flying(&planned.id) && out_of_sight(rollout, &planned.id));
        }
        let allowed = unseen + open_slots(rollout);
        if in_flight > allowed {
            return Err(Finding::InFlight { in_flight, allowed });
        }
        Ok(())
    }

    /// A host that says that it committed has baked by its own clock.
    pub(super) fn earned(&self, id: HostId) -> Result<(), Finding> {
        let (Some(host), Some(rollout)) = (self.hosts.get(&id), self.newest()) else {
            return Ok(());
        };
        let baked = |passed: Timestamp| passed.plus_secs(HOST_BAKE_SECS) <= self.now;
        if host.live == Some(rollout.release()) && !host.passed_at().is_some_and(baked) {
            return Err(Finding::Unearned(id));
        }
        Ok(())
    }

    pub(super) fn budget(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        match rollout.phase() {
            Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => {
                for (wave, at) in rollout.plan().waves.iter().zip(0..) {
                    let (failures, budget) = (rollout.failures(at), wave.failure_budget);
                    if failures > budget {
                        return Err(Finding::Budget { wave: at, failures, budget });
                    }
                }
                Ok(())
            }
            Phase::Halted { cause: HaltCause::Breach(breach), .. }
            | Phase::Paused { cause: PauseCause::Breach(breach), .. }
                if breach.failures <= breach.budget =>
            {
                Err(Finding::Hasty { failures: breach.failures, budget: breach.budget })
            }
            Phase::Halted { .. }
            | Phase::Paused { .. }
            | Phase::Planned
            | Phase::Reverting { .. }
            | Phase::Done { .. } => Ok(()),
        }
    }
}

/// Whether the rollout has lost sight of the host, and counts it neither as in flight nor as done.
fn out_of_sight(rollout: &Rollout, host: &HostId) -> bool {
    let done = |name| matches!(name, ProgressName::Committed | ProgressName::Reverted);
    let name = rollout.host(host).map(|entry| entry.progress.name());
    !name.is_some_and(done) && !holds_slot(rollout, host)
}

/// Slots of the open waves.
fn open_slots(rollout: &Rollout) -> usize {
    let caps = rollout.plan().waves.iter().zip(0..).filter(|(_, at)| rollout.is_open(*at));
    let slots = caps.map(|(wave, _)| wave.max_in_flight).max().unwrap_or(0);
    usize::try_from(slots).unwrap_or(usize::MAX)
}

/// Whether the host holds a slot of this rollout.
pub(super) fn holds_slot(rollout: &Rollout, host: &HostId) -> bool {
    rollout.host(host).is_some_and(|entry| match entry.progress.name() {
        ProgressName::Granted
        | ProgressName::Probing
        | ProgressName::Baking
        | ProgressName::Reverting => true,
        ProgressName::Pending
        | ProgressName::Staging
        | ProgressName::Staged
        | ProgressName::Committed
        | ProgressName::Failed
        | ProgressName::Lost
        | ProgressName::Absent
        | ProgressName::Overdue
        | ProgressName::Reverted
        | ProgressName::Held
        | ProgressName::Excluded => false,
    })
}
