//! What goes wrong while a seed runs: hosts, network, clocks, coordinator and persons.

use groundswell_common::{HostId, OperatorName};
use groundswell_machine::State;
use groundswell_rollout::{Input, KeepOrRevert, PhaseName, Rollout, Steer, step};

use super::{AGAIN, BUTTON, CUT, DELETED, Mail, NEWER, REPLAYED, RESTORED, SET, TORN, World};
use crate::check::Finding;
use crate::draw::host_id;
use crate::host::Host;

/// Draws of [`World::fault`]; a kind that has more of them is drawn more often.
pub(super) const KINDS: u64 = 14;

impl World {
    pub(super) fn fault(&mut self) -> Result<(), Finding> {
        // Half of the time it hits a host in the middle of something, where there is one.
        let busy = |host: &Host| host.in_flight() || matches!(host.state(), State::Staged { .. });
        let anyone = self.random.one_in(2) || !self.hosts.values().any(busy);
        let hosts = self.hosts.iter().filter(|(_, host)| anyone || busy(host));
        let ids: Vec<HostId> = hosts.map(|(id, _)| *id).collect();
        let Some(id) = self.random.pick(&ids).copied() else { return Ok(()) };
        let Some(kind) = self.random.pick(&self.kinds).copied() else { return Ok(()) };
        match kind {
            10 => self.set_clock(id),
            11 if self.random.one_in(6) => self.delete(id),
            12 => {
                self.hosts.entry(id).and_modify(|host| host.torn = true);
                Ok(())
            }
            13 if self.random.one_in(8) => self.restore(),
            0..=2 => {
                self.out.faults.add(CUT);
                self.cut(id)?;
                let wait = self.random.below(90_000);
                self.post(id, wait, Mail::Reconnect);
                Ok(())
            }
            3 | 4 => {
                let left = u32::try_from(self.random.below(3)).unwrap_or(0);
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.fuse = Some(left);
                }
                Ok(())
            }
            5 => self.replay(),
            6 if self.random.one_in(4) => {
                let busy = |rollout: &Rollout| rollout.phase().name() == PhaseName::Reverting;
                if self.newest().is_some_and(busy) || self.plans_made >= 4 {
                    return Ok(());
                }
                self.out.faults.add(NEWER);
                self.publish()
            }
            _ => self.button(),
        }
    }

    /// The coordinator dies; what its ledger says must be what it was.
    fn replay(&mut self) -> Result<(), Finding> {
        self.out.faults.add(REPLAYED);
        if self.replayed()? != self.rollouts {
            return Err(Finding::Replay { entries: self.ledger.len() });
        }
        Ok(())
    }

    /// What the ledger says.
    fn replayed(&self) -> Result<Vec<Rollout>, Finding> {
        let rollouts = self.rollouts.iter().zip(&self.plans);
        let mut again: Vec<Rollout> =
            rollouts.map(|(was, plan)| Rollout::new(was.id().clone(), plan.clone())).collect();
        let entries = self.ledger.len();
        for (at, input, moment) in &self.ledger {
            let replayed = again.get_mut(*at).map(|rollout| step(rollout, input, *moment));
            if !matches!(replayed, Some(Ok(_))) {
                return Err(Finding::Replay { entries });
            }
        }
        Ok(again)
    }

    fn button(&mut self) -> Result<(), Finding> {
        self.out.faults.add(BUTTON);
        let Ok(by) = "ann".parse::<OperatorName>() else { return Ok(()) };
        let why = "a person".to_owned();
        let at = self.rollouts.len().saturating_sub(1);
        let Some(rollout) = self.newest() else { return Ok(()) };
        let plan = rollout.plan_hash();
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        let host = self.random.pick(&hosts).copied().unwrap_or_else(|| host_id(0));
        let input = match self.random.below(16) {
            0 => Input::Pause { by, why },
            1 => Input::Halt { by, why },
            2..=7 => Input::Resume { by, why },
            8 => Input::Revert { by, why },
            9 if self.random.one_in(4) => Input::Abort { by, why, keep: KeepOrRevert::Revert },
            10 => Input::Approve { by, plan, wave: None },
            11 => Input::Steer { by, why, steer: Steer::Exclude { host } },
            12 => Input::Steer { by, why, steer: Steer::Retry { host } },
            13 => Input::Steer { by, why, steer: Steer::Slow { max_in_flight: Some(1) } },
            _ => Input::Steer { by, why, steer: Steer::Promote },
        };
        self.submit(at, input)
    }

    /// The clock of the coordinator is set, or that of a host for its next start.
    fn set_clock(&mut self, id: HostId) -> Result<(), Finding> {
        self.out.faults.add(SET);
        let hours = i64::try_from(self.random.below(49)).unwrap_or(0) - 24;
        let minutes = i64::try_from(self.random.below(60)).unwrap_or(0);
        let ahead = (hours * 60 + minutes) * 60_000;
        if self.random.one_in(2) {
            self.hosts.entry(id).and_modify(|host| host.next_ahead = ahead);
            return Ok(());
        }
        self.ahead = ahead;
        self.set_at = Some(self.now);
        Ok(())
    }

    /// A person deletes a host; it never comes back.
    fn delete(&mut self, id: HostId) -> Result<(), Finding> {
        if self.gone.len() + 1 >= self.hosts.len() || !self.gone.insert(id) {
            return Ok(());
        }
        self.out.faults.add(DELETED);
        self.cut(id)?;
        self.words.remove(&id);
        // Nobody counts on it any more.
        self.carried.remove(&id);
        self.submit(self.rollouts.len().saturating_sub(1), Input::Removed { host: id })
    }

    /// The coordinator's machine is lost; it starts again from a backup that is some entries old, its
    /// ledger is let grow past what was told before, and a rollout is started.
    fn restore(&mut self) -> Result<(), Finding> {
        let kept = self.ledger.len() - usize_of(self.random.below(40)).min(self.ledger.len());
        let known = self.planned_at.iter().filter(|planned| **planned < kept).count();
        if known == 0 {
            return Ok(());
        }
        self.out.faults.add(RESTORED);
        self.ledger.truncate(kept);
        self.plans.truncate(known);
        self.planned_at.truncate(known);
        self.rollouts = self.replayed()?;
        self.written = self.ledger.last().map_or(self.written, |(_, _, moment)| moment.now);
        self.restored = true;
        self.words.clear();
        self.sent.clear();
        self.carried.clear();
        self.stopped_since = None;
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for id in ids {
            self.cut(id)?;
            let wait = self.random.below(10_000);
            self.post(id, wait, Mail::Reconnect);
        }
        if self.newest().is_some_and(|rollout| rollout.phase().name() == PhaseName::Reverting)
            && let Ok(by) = "ann".parse()
        {
            let why = "restored".to_owned();
            self.submit(known - 1, Input::Abort { by, why, keep: KeepOrRevert::Keep })?;
        }
        self.publish()
    }

    /// An agent starts again, perhaps without its journal.
    pub(super) fn again(&mut self, id: HostId) -> Result<(), Finding> {
        if self.hosts.get(&id).is_some_and(|host| host.torn) {
            self.out.faults.add(TORN);
        }
        self.host(id, |host, now| host.restart(now))
    }

    /// The number of the release that is brought next: mostly a new one, at times one that a person
    /// cleared and starts again.
    pub(super) fn release_to_bring(&mut self) -> u64 {
        if self.newest_release > 0 && self.random.one_in(5) {
            self.out.faults.add(AGAIN);
            return 1 + self.random.below(self.newest_release);
        }
        self.newest_release += 1;
        self.newest_release
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
