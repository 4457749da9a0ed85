//! A service that a person takes off its hosts (docs/removal.md), and what must hold of that.

use groundswell_common::directive::{Action, ServiceWish};
use groundswell_common::{HostId, RolloutId, ServiceName};
use groundswell_control::Verb;
use groundswell_rollout::{KeepOrRevert, Off, ProgressName};

use super::World;
use super::office::ann;
use super::truth::Removal;
use crate::check::Finding;

impl World {
    pub(super) fn take_off(&mut self, service: &ServiceName, off: Off) -> Result<(), Finding> {
        let taken = self.control().take_off(&ann(), service, (off, "a person"));
        if let Ok(id) = taken {
            self.out.faults.add("services taken off");
            if off == Off::Everyone {
                self.truth.turned.insert(id.clone());
            }
            let of = self.truth.of_mut(service);
            of.started += 1;
            let (told, started) = (std::collections::BTreeSet::new(), of.started);
            of.removals.insert(id, Removal { off, stopped: false, told, started });
        }
        self.settle()
    }

    /// A person stops a removal, lets it go on, or ends it.
    pub(super) fn steers_removal(&mut self, (service, id): (&ServiceName, &RolloutId), verb: Verb) {
        let turned = self.turn_came(id);
        let Some(removal) = self.truth.of_mut(service).removals.get_mut(id) else { return };
        match verb {
            Verb::Halt | Verb::Pause | Verb::Abort(KeepOrRevert::Keep) => {
                removal.stopped = true;
                removal.told.extend(turned);
            }
            // To take everything back is what it does.
            Verb::Resume | Verb::Revert | Verb::Abort(KeepOrRevert::Revert) => {
                removal.stopped = false;
            }
            Verb::Steer(_) => {}
        }
    }

    /// Hosts of a removal whose turn has come: they may be in the middle of it, also where nobody hears of them.
    fn turn_came(&self, id: &RolloutId) -> Vec<HostId> {
        let Some(rollout) = self.office.view().rollout(id) else { return Vec::new() };
        let hosts = rollout.plan().waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.id);
        let came = |host: &HostId| {
            let progress = rollout.host(host).map(|entry| entry.progress.name());
            matches!(progress, Some(ProgressName::Reverting | ProgressName::Overdue))
        };
        hosts.filter(came).collect()
    }

    /// The newest rollout of a service, but for those that only take it off hosts that are no targets: they take no
    /// other's place.
    fn speaks(&self, service: &ServiceName) -> Option<&RolloutId> {
        let removals = &self.truth.of(service).removals;
        let mut rollouts = self.office.view().services.get(service)?.rollouts.iter().rev();
        rollouts.find(|id| removals.get(*id).is_none_or(|removal| removal.off != Off::LeftOver))
    }

    /// Whether the newest that a person decided is that everyone loses it, and that was not stopped.
    pub(super) fn is_off_everyone(&self, service: &ServiceName) -> bool {
        let of = self.truth.of(service);
        let removal = self.speaks(service).and_then(|newest| of.removals.get(newest));
        let goes_on =
            removal.is_some_and(|removal| removal.off == Off::Everyone && !removal.stopped);
        goes_on && !self.truth.restored
    }

    /// A host is told to take a service off only by a removal that goes on: one that has it in its plan, or that is
    /// about everyone. One whose turn had come before it was stopped may come to an end with it.
    pub(super) fn told_off(&mut self, key: HostId, wishes: &[ServiceWish]) -> Result<(), Finding> {
        if !self.is_plain(&key) || self.truth.restored {
            return Ok(());
        }
        for wish in wishes.iter().filter(|wish| wish.action == (Action::Remove {})) {
            let service = &wish.service;
            let by = wish.rollout.clone().or_else(|| self.speaks(service).cloned());
            let Some(by) = by else { return self.found(Finding::TakenOff(key)) };
            let planned = self.office.view().rollout(&by).is_some_and(|r| r.host(&key).is_some());
            let outside = wish.rollout.is_none();
            let Some(removal) = self.truth.of_mut(service).removals.get_mut(&by) else {
                return self.found(Finding::TakenOff(key));
            };
            let everyone = outside && removal.off == Off::Everyone;
            let before = removal.told.contains(&key) && !outside;
            if !(planned || everyone) || (removal.stopped && !before) {
                return self.found(Finding::TakenOff(key));
            }
            removal.told.insert(key);
        }
        Ok(())
    }

    /// What was taken off everyone comes back only where a person starts something.
    pub(super) fn comes_back(
        &mut self,
        service: &ServiceName,
        newest: Option<&RolloutId>,
    ) -> Result<(), Finding> {
        let of = self.truth.of(service);
        let before = of.newest.as_ref().and_then(|before| of.removals.get(before));
        let by_itself = before.is_some_and(|removal| {
            removal.off == Off::Everyone && removal.started == of.started && newest.is_some()
        });
        match by_itself && !self.truth.restored {
            true => self.found(Finding::Revived(service.clone())),
            false => Ok(()),
        }
    }
}
