//! What must hold while a seed runs. Changes nothing but what it keeps in mind for that.

use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::{HostId, ReleaseId, ServiceName, Timestamp};
use groundswell_machine::State;
use groundswell_rollout::{
    HaltCause, HostEntry, LOST_GRACE_SECS, Opening, PauseCause, Phase, Progress, ProgressName,
    Rollout, generation, opening,
};
use std::collections::BTreeSet;

use super::{Number, World, shifted};
use crate::check::Finding;
use crate::host::Host;
use crate::site::Site;

impl World {
    pub(super) fn began(
        &mut self,
        (number, service): (Number, &ServiceName),
        release: ReleaseId,
    ) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let (key, site) = (host.key, host.sites.get(service));
        if !self.is_plain(&key) {
            return Ok(());
        }
        if site.is_some_and(Site::is_paused) {
            return self.found(Finding::SwitchedWhilePaused(key));
        }
        if self.truth.was_drained(&key, self.now) {
            return self.found(Finding::SwitchedWhileDrained(key));
        }
        let by = site.and_then(Site::wished_by).cloned();
        let poisoned = self.office.view().releases.get(&release);
        let poisoned = poisoned.is_some_and(|found| found.poisoned.is_some());
        let late = self.truth.may_be_permitted(&release, self.now);
        if by.is_none() && poisoned && !late {
            return self.found(Finding::Offered { host: key, release });
        }
        let Some(rollout) = self.newest(service) else { return Ok(()) };
        let ours = rollout.release() == release && by.as_ref() == Some(rollout.id());
        let count = rollout.host(&key).map(|entry| entry.progress.name());
        let of = self.truth.of(service);
        let view = self.office.view();
        let known = |of: &groundswell_control::view::Service| {
            let live = of.rollouts.iter().rev().take(2).filter_map(|id| view.rollout(id));
            let proven = of.proven.iter().map(|proven| proven.release);
            live.map(Rollout::release).chain(proven).any(|known| known == release)
        };
        // A permit may be on its way while one rollout after the other takes over.
        let lately = |at: &Timestamp| self.now.millis_since(*at) <= PERMIT_VALID_MS;
        let permitted = of.taken_over.get(&release).is_some_and(lately);
        if !permitted && !view.services.get(service).is_some_and(known) && !self.truth.restored {
            return self.found(Finding::SwitchedAway(key, release));
        }
        let long = |since: Timestamp| self.now.millis_since(since) > PERMIT_VALID_MS;
        // A ledger put back may hold a plan whose start is lost, and goes on with it once the hosts are back.
        let starts_late = self.truth.restored && matches!(rollout.phase(), Phase::Planned);
        if ours && of.stopped_since.is_some_and(long) && !starts_late {
            return self.found(Finding::SwitchedWhileStopped(key));
        }
        if self.is_off_everyone(service) && of.stopped_since.is_some_and(long) {
            return self.found(Finding::Revived(service.clone()));
        }
        if ours && count == Some(ProgressName::Reverted) {
            return self.found(Finding::GoneBack(key));
        }
        // The same release under a permit of the rollout before was that one's business.
        let carried = of.carried.get(&key).is_some_and(|until| self.clock() < *until);
        if ours && !carried {
            self.shared_slots(service)?;
            self.in_its_window(key, service)?;
        }
        if self.newest(service).is_some_and(|rollout| holds_slot(rollout, &key)) {
            // What an older rollout did with it is over.
            self.truth.of_mut(service).carried.remove(&key);
        }
        Ok(())
    }

    /// Keeps in mind which hosts the rollout that is superseded has in flight: found out here once more, so
    /// that a mistake of the core's own list shows.
    pub(super) fn carry(&mut self, service: &ServiceName) {
        let least = self.clock().plus_secs(LOST_GRACE_SECS);
        let view = self.office.view();
        let older = view.services.get(service).and_then(|of| of.rollouts.iter().rev().nth(1));
        let Some(rollout) = older.and_then(|id| view.rollout(id)) else { return };
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
        let gone: BTreeSet<HostId> = rollout
            .hosts()
            .filter(|(_, _, entry)| gave_up(entry))
            .map(|(_, host, _)| host.id)
            .collect();
        let of = self.truth.of_mut(service);
        of.carried.retain(|key, _| !gone.contains(key));
        of.carried.extend(more);
        of.inherited = of.carried.keys().copied().collect();
    }

    /// Who knows of the newest rollout, is at rest and has said so is done with the one before: what it does later is
    /// its own.
    pub(super) fn rests(&mut self, service: &ServiceName) {
        let Some(rollout) = self.newest(service) else { return };
        let knows = |host: &Host| host.accepted >= generation(rollout, &host.key);
        let control = &self.office.control;
        let heard = |host: &Host| {
            let standing = control.word(&host.key).and_then(|word| word.standing(service));
            standing.is_some_and(|standing| standing.state.is_at_rest())
        };
        let rests = |host: &&Host| host.up && knows(host) && !flies(host, service) && heard(host);
        let carried = &self.truth.of(service).carried;
        let resting = self.hosts.values().filter(|host| carried.contains_key(&host.key));
        let resting: Vec<HostId> = resting.filter(rests).map(|host| host.key).collect();
        if !resting.is_empty() {
            self.truth.of_mut(service).carried.retain(|key, _| !resting.contains(key));
        }
    }

    /// As a host begins to switch: hosts of this rollout and of the one before share the slots.
    fn shared_slots(&mut self, service: &ServiceName) -> Result<(), Finding> {
        let Some(rollout) = self.newest(service) else { return Ok(()) };
        let of = self.truth.of(service);
        let before = of.carried.iter().filter(|(key, until)| {
            let mut hosts = self.hosts.values().filter(|host| host.key == **key);
            let flies = hosts.any(|host| flies(host, service));
            // One that the plan leaves out is none of its business.
            let entry = rollout.host(key);
            let planned = entry.is_some_and(|entry| !gave_up(entry)) && !holds_slot(rollout, key);
            // Nor is one that was at rest and was put back to an earlier time.
            let plain = self.is_plain(key) && !self.truth.put_back.contains(key);
            flies && self.clock() < **until && planned && plain
        });
        let ours = rollout.hosts().filter(|(_, host, _)| holds_slot(rollout, &host.id));
        let (before, ours) = (before.count(), ours.count());
        let (in_flight, allowed) = (before + ours, open_slots(rollout));
        // What it was told before a restore, nobody knows.
        if before > 0 && in_flight > allowed && !self.truth.restored {
            return self.found(Finding::InFlight { in_flight, allowed });
        }
        Ok(())
    }

    /// As a host begins to switch: by the coordinator's clock the calendar was open while its permit
    /// lived.
    fn in_its_window(&mut self, key: HostId, service: &ServiceName) -> Result<(), Finding> {
        let Some(rollout) = self.newest(service) else { return Ok(()) };
        let just_set = |at: Timestamp| self.now.millis_since(at) <= PERMIT_VALID_MS;
        if self.office.set_at.is_some_and(just_set) {
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
            false => self.found(Finding::OutsideWindow(key)),
        }
    }

    /// Hosts in flight with the newest release: slots, and those that it has lost sight of.
    pub(super) fn in_flight(&mut self, service: &ServiceName) -> Result<(), Finding> {
        // A plan of a way back brings nothing forward, and opens no waves for that.
        let forward = self.newest(service).filter(|rollout| rollout.plan().back.is_none());
        let Some(rollout) = forward else { return Ok(()) };
        let release = rollout.release();
        let (mut in_flight, mut unseen) = (0, 0);
        for host in self.hosts.values().filter(|host| self.is_plain(&host.key)) {
            let site = host.sites.get(service).filter(|site| site.live == Some(release));
            let done = rollout.host(&host.key).map(|entry| entry.progress.name());
            // What no switch brought and no commit proved is started and probed once more without a slot (A2.10).
            let stayed = |site: &Site| {
                let proven = site.committed == Some(release);
                proven || site.brought.is_none() || site.is_unproven()
            };
            let again = done == Some(ProgressName::Committed)
                && (site.is_some_and(stayed) || self.truth.put_back.contains(&host.key));
            if site.is_some() && !again && flies(host, service) && rollout.host(&host.key).is_some()
            {
                in_flight += 1;
                unseen += usize::from(out_of_sight(rollout, &host.key));
            }
        }
        let allowed = unseen + open_slots(rollout);
        if in_flight > allowed && !self.truth.restored {
            return self.found(Finding::InFlight { in_flight, allowed });
        }
        Ok(())
    }

    pub(super) fn budget(&mut self, service: &ServiceName) -> Result<(), Finding> {
        let found = self.newest(service).and_then(beyond_budget);
        found.map_or(Ok(()), |finding| self.found(finding))
    }
}

/// What its failures and its phase have against each other.
fn beyond_budget(rollout: &Rollout) -> Option<Finding> {
    match rollout.phase() {
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => {
            for (wave, at) in rollout.plan().waves.iter().zip(0..) {
                let (failures, budget) = (rollout.failures(at), wave.failure_budget);
                if failures > budget {
                    return Some(Finding::Budget { wave: at, failures, budget });
                }
            }
            None
        }
        Phase::Halted { cause: HaltCause::Breach(breach), .. }
        | Phase::Paused { cause: PauseCause::Breach(breach), .. }
            if breach.failures <= breach.budget =>
        {
            Some(Finding::Hasty { failures: breach.failures, budget: breach.budget })
        }
        Phase::Halted { .. }
        | Phase::Paused { .. }
        | Phase::Planned
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    }
}

/// Whether a machine that runs is between its switch and its commit or return.
fn flies(host: &Host, service: &ServiceName) -> bool {
    // While a person on the host puts it back, it needs no slot.
    let by_hand = |site: &Site| {
        matches!(site.state(), State::Reverting { .. }) && site.was_put_back_by_hand()
    };
    let flies = |site: &Site| site.in_flight() && !by_hand(site);
    host.up && host.sites.get(service).is_some_and(flies)
}

/// Whether the rollout has lost sight of the host, and counts it neither as in flight nor as done.
fn out_of_sight(rollout: &Rollout, host: &HostId) -> bool {
    let done = |name| matches!(name, ProgressName::Committed | ProgressName::Reverted);
    let name = rollout.host(host).map(|entry| entry.progress.name());
    !name.is_some_and(done) && !holds_slot(rollout, host)
}

/// Whether a rollout counted a host's switch as its own, and its slot is free again: as it failed, or as a person had
/// it stopped for longer than its time.
fn gave_up(entry: &HostEntry) -> bool {
    let failed = matches!(entry.progress, Progress::Failed { .. } | Progress::Lost);
    failed || (entry.begun && entry.busy.is_none())
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
