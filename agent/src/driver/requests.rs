//! What the owner of the host asks for while the agent runs: pauses, reverts, other settings, another enrolment.

use std::sync::Arc;

use groundswell_common::ServiceName;
use groundswell_common::condition::CONDITION_TEXT_MAX_BYTES;
use groundswell_common::report::RefusalNote;
use groundswell_machine::Event;

use super::{Driver, DriverError, Slot};
use crate::text::head;
use crate::{hand, identity};

impl Driver {
    /// Reads the settings again, takes up what a person on the host asks for, and says what was seen. Marks are
    /// read first: what they say was on the disk before it was looked for.
    pub(super) fn look_at_all(&mut self) -> Result<(), DriverError> {
        let before = self.outside.settings.now();
        self.outside.settings.reread();
        // What an owner has just allowed, or made room for, is tried at once.
        if !Arc::ptr_eq(&before, &self.outside.settings.now()) {
            for service in self.services() {
                self.step(&service, Event::StageAgain)?;
            }
            self.look_at_units();
        }
        let layout = self.outside.layout.clone();
        let services = self.services();
        let marks = hand::marks(&layout, &services);
        for service in &services {
            self.look(service)?;
        }
        self.look_at_lacks();
        if self.in_force.as_ref() != Some(&marks) {
            hand::say_in_force(&layout, &marks);
            self.in_force = Some(marks);
        }
        Ok(())
    }

    /// Whether the host was enrolled anew since the start. One process is started again by its owner.
    pub(super) fn is_another_host(&self) -> bool {
        let layout = &self.outside.layout;
        let enrolled = layout.is_split().then(|| identity::host(layout)).flatten();
        enrolled.is_some_and(|host| host != self.trustee.pin.host)
    }

    /// Takes up what a person on the host asks for.
    pub(super) fn look(&mut self, service: &ServiceName) -> Result<(), DriverError> {
        let layout = self.outside.layout.clone();
        let paused = hand::paused(&layout, service);
        if self.slots.get(service).is_some_and(|slot| slot.machine.paused != paused) {
            self.step(service, Event::Paused(paused))?;
        }
        if layout.retry(service).exists() {
            self.step(service, Event::RetryByHand)?;
            hand::retried(&layout, service)?;
        }
        let Some(leave) = hand::asked(&layout, service) else { return Ok(()) };
        let Some(slot) = self.slots.get(service) else { return Ok(()) };
        if !slot.machine.takes_revert_by_hand() {
            return Ok(());
        }
        // It was asked of what was live then; another release is not left for it.
        if slot.machine.running.as_ref().is_some_and(|known| known.id == leave.release) {
            self.step(service, Event::RevertByHand(leave.why))?;
        }
        Ok(hand::done(&layout, service)?)
    }

    /// What the report says of a pause that holds a switch.
    pub(super) fn pause_note(&self) -> Option<RefusalNote> {
        let held = |slot: &Slot| slot.machine.paused.is_some();
        let code = "paused_on_host".to_owned();
        let generation = self.floor.generation;
        self.slots.values().any(held).then_some(RefusalNote { generation, code })
    }

    /// What the coordinator is told of settings that are not in force: the cause, then the next step.
    pub(super) fn settings_note(&self) -> Option<String> {
        let next = "; mend the file, it is read again by itself";
        let cause = |why: String| head(&why, CONDITION_TEXT_MAX_BYTES - next.len()).to_owned();
        self.outside.settings.trouble().map(|why| cause(why) + next)
    }
}
