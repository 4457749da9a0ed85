//! The driver's part in updates of the agent itself (docs/agent.md A12).

use groundswell_machine::Event;

use super::{Driver, DriverError, Slot};
use crate::own;
use groundswell_common::ServiceName;

impl Driver {
    /// The release whose program did not prove itself is left, like one that failed.
    pub(super) fn leave_own_failure(&mut self) -> Result<(), DriverError> {
        let Some((service, slot)) = self.own_slot() else { return Ok(()) };
        let running = slot.machine.running.as_ref();
        if !running.is_some_and(|running| self.own.has_failed(&running.id)) {
            return Ok(());
        }
        let why = "the agent of this release did not hear from the coordinator in its tries";
        let service = service.clone();
        self.step(&service, Event::TakenBack { why: why.to_owned() })
    }

    fn own_slot(&self) -> Option<(&ServiceName, &Slot)> {
        self.slots.iter().find(|(service, _)| own::is_own(service))
    }

    /// Whether this program has yet to hear from the coordinator.
    pub(super) fn is_on_trial(&self) -> bool {
        self.outside.program.is_some_and(|release| self.own.is_on_trial(&release))
    }

    /// The coordinator was heard of under this program.
    pub(super) fn prove_own(&mut self) -> Result<(), DriverError> {
        if let Some(release) = self.outside.program.filter(|_| self.is_on_trial()) {
            self.own.confirm(release);
            own::save(&self.outside.layout, &self.own)?;
            tracing::info!(release = %release.digest().short(), "this release of the agent works");
        }
        Ok(())
    }

    /// Whether another program of the agent is to go on, and nothing is in the middle of a switch.
    pub(super) fn hands_over(&self) -> bool {
        let slot = self.own_slot().filter(|_| self.outside.layout.is_split());
        let Some((_, slot)) = slot.filter(|(_, slot)| !slot.frozen) else { return false };
        let next = own::choose(&slot.machine, &self.own);
        next != self.outside.program && !self.slots.values().any(is_busy)
    }

    /// Whether the service may switch beside the others: the agent is not updated in the middle of a
    /// deployment, and nothing is deployed in the middle of its update.
    pub(super) fn leaves_room(&self, service: &ServiceName) -> bool {
        let own = own::is_own(service);
        self.slots
            .iter()
            .filter(|(other, _)| *other != service)
            .all(|(other, slot)| !is_busy(slot) || (!own && !own::is_own(other)))
    }
}

fn is_busy(slot: &Slot) -> bool {
    slot.machine.state.seen().is_busy()
}
