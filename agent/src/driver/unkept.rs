//! A disk that does not take the agent's state: the agent stays, says so, and goes on with what it was about once
//! the disk takes it (docs/agent.md A14). What came first is taken first, and as a whole.

use std::collections::VecDeque;
use std::mem::discriminant;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use groundswell_common::condition::{CONDITION_TEXT_MAX_BYTES, Held, Lack, ServiceCondition};
use groundswell_common::trust::check_directive;
use groundswell_common::{ReleaseId, ServiceName, chain};
use groundswell_machine::{Service, Wish};

use super::{Back, Driver, DriverError, SOON};
use crate::accepted::Accepted;
use crate::bring::full;
use crate::layout::Layout;
use crate::link::Heard;
use crate::text::head;
use tokio::time::{Instant, sleep_until};

/// What follows the cause.
const NEXT: &str = "; what runs goes on, and nothing is switched or taken back until the disk can be written: see \
                    'dmesg' and 'mount' there; it goes on by itself then";

/// What the driver takes, one after the other.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// The start: every journal, then the accepted directive.
    Start,
    Heard(Heard),
    Back(Back),
    /// Time to look for what a person on the host wants.
    Look,
}

/// What waits for the disk.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    /// Why the first of these could not be taken; `None` while nothing waits.
    why: Option<String>,
    inputs: VecDeque<Input>,
    /// What the newest directive among them wishes.
    wishes: Vec<(ServiceName, Wish)>,
    /// When the first is tried again.
    again: Option<Instant>,
    /// Which directory the agent's state is in, by device and inode, as it was when that could be kept last.
    home: Option<(u64, u64)>,
    /// Whether another directory is in its place, or none.
    moved: bool,
}

impl Unkept {
    pub(super) fn waits(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// One more that waits. Of what says the same anew the newest counts, so that a long wait heaps nothing up; and a
    /// session that is over leaves nothing but its directive.
    fn push(&mut self, input: Input) {
        match &input {
            Input::Heard(heard @ (Heard::Directive(_) | Heard::Ack(_) | Heard::Told(..))) => {
                let kind = discriminant(heard);
                self.inputs.retain(|other| match other {
                    Input::Heard(other) => discriminant(other) != kind,
                    Input::Start | Input::Back(_) | Input::Look => true,
                });
            }
            Input::Heard(Heard::Lost) => self.inputs.retain(|other| match other {
                Input::Heard(heard) => matches!(heard, Heard::Directive(_)),
                Input::Start | Input::Back(_) => true,
                Input::Look => false,
            }),
            Input::Heard(Heard::Welcome(_) | Heard::Permit(_))
            | Input::Start
            | Input::Back(_)
            | Input::Look => {}
        }
        self.inputs.push_back(input);
    }
}

impl Driver {
    /// Takes what came, or keeps it for when the disk takes what follows from it.
    ///
    /// # Errors
    /// What no waiting mends.
    pub(super) fn take(&mut self, input: Input) -> Result<(), DriverError> {
        if self.unkept.waits() {
            self.keep(input);
            return Ok(());
        }
        match self.take_now(input.clone()) {
            Err(error) if error.is_of_the_disk() => {
                self.note_unkept(&error);
                self.keep(input);
                Ok(())
            }
            taken => {
                self.unkept.home = self.unkept.home.or_else(|| home(self.outside.layout.state()));
                taken
            }
        }
    }

    /// Takes what waits, as far as the disk goes along.
    pub(super) fn take_waiting(&mut self) -> Result<(), DriverError> {
        while let Some(input) = self.unkept.inputs.front().cloned() {
            match self.take_now(input) {
                Ok(()) => drop(self.unkept.inputs.pop_front()),
                Err(error) if error.is_of_the_disk() => {
                    self.note_unkept(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        tracing::info!("the agent's state can be kept again");
        self.unkept = Unkept { home: self.unkept.home, ..Unkept::default() };
        Ok(())
    }

    /// Waits a while for the disk, and listens meanwhile.
    pub(super) async fn wait_for_the_disk(&mut self) -> Option<Input> {
        let again = self.unkept.again.unwrap_or_else(Instant::now);
        tokio::select! {
            () = sleep_until(again) => None,
            Some(heard) = self.ends.heard.recv() => Some(Input::Heard(heard)),
        }
    }

    fn take_now(&mut self, input: Input) -> Result<(), DriverError> {
        match input {
            Input::Start => self.take_up(),
            Input::Heard(heard) => self.on_heard(heard),
            Input::Back(back) => self.on_back(back),
            Input::Look => self.look_at_all(),
        }
    }

    fn note_unkept(&mut self, error: &DriverError) {
        self.unkept.again = Some(Instant::now() + SOON);
        let layout = &self.outside.layout;
        self.unkept.moved = is_moved(self.unkept.home, layout.state());
        let cause = match full(layout).filter(|_| !self.unkept.moved) {
            Some(full) => format!("{full}: {}", error.cause()),
            None => error.cause(),
        };
        let why = format!("the agent cannot keep its state: {cause}");
        if self.unkept.why.as_ref() != Some(&why) {
            tracing::error!(
                why,
                "nothing is switched or taken back before the disk can be written"
            );
            self.unkept.why = Some(why);
        }
    }

    fn keep(&mut self, input: Input) {
        if let Input::Heard(Heard::Directive(message)) = &input {
            let (root, pin) = (&self.trustee.root, &self.trustee.pin);
            let checked = check_directive(&message.envelope, root, pin, &self.floor);
            let accepted = checked.map(|directive| Accepted::new(&directive, (**message).clone()));
            self.unkept.wishes = accepted.map(|accepted| accepted.wishes()).unwrap_or_default();
        }
        self.unkept.push(input);
    }

    /// Why nothing can be done here now: the cause, then the next step.
    fn unkept_note(&self) -> Option<String> {
        let why = self.unkept.why.as_ref()?;
        if self.unkept.moved {
            let (dir, unit) =
                (self.outside.layout.state().display(), apply_unit(&self.outside.layout));
            let why = format!(
                "{dir} was moved or replaced while the agent ran, so it cannot keep its state; 'systemctl restart \
                 {unit}' there goes on with what is there now ({why})"
            );
            return Some(head(&why, CONDITION_TEXT_MAX_BYTES).to_owned());
        }
        Some(head(why, CONDITION_TEXT_MAX_BYTES - NEXT.len()).to_owned() + NEXT)
    }

    /// Adds to what the host lacks what its disk does not take.
    pub(super) fn tell_unkept(&self, services: &mut Vec<ServiceCondition>) {
        let Some(note) = self.unkept_note() else { return };
        let news = self.unkept.wishes.iter().map(|(service, _)| service);
        for service in news {
            if !services.iter().any(|condition| condition.service == *service) {
                services.push(ServiceCondition::new(service.clone()));
            }
        }
        for condition in services {
            let machine = self.slots.get(&condition.service).map(|slot| &slot.machine);
            match self.wished_there(&condition.service, machine) {
                Some(release) => {
                    let (lack, why) = (Lack::Journal, note.clone());
                    condition.held = Some(Held { release, lack, why });
                }
                None => condition.notes.insert(0, note.clone()),
            }
        }
    }

    /// The release that the service shall get and that is not live, where nothing is under way.
    fn wished_there(&self, name: &ServiceName, machine: Option<&Service>) -> Option<ReleaseId> {
        let newest = self.unkept.wishes.iter().find(|(service, _)| service == name);
        let before = machine.and_then(|machine| machine.wish.as_ref());
        let wished = newest.map(|(_, wish)| wish).or(before)?.names()?;
        let rests = machine.is_none_or(|machine| machine.state.seen().is_at_rest());
        let runs = machine.and_then(|machine| machine.running.as_ref()).map(|known| known.id);
        (rests && runs != Some(wished)).then_some(wished)
    }
}

/// Which directory it is, by device and inode.
fn home(dir: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(dir).ok().map(|found| (found.dev(), found.ino()))
}

/// Whether another directory, or none, is where this one was.
fn is_moved(before: Option<(u64, u64)>, dir: &Path) -> bool {
    before.is_some() && home(dir) != before
}

/// The unit of the process that keeps the agent's state.
fn apply_unit(layout: &Layout) -> &'static str {
    if layout.is_split() { "groundswell-apply" } else { "groundswell-agent" }
}

impl DriverError {
    /// Whether another try may end otherwise.
    pub(super) fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Journal(error) => error.is_of_the_disk(),
            Self::Fault(_) => true,
            Self::Unproven | Self::Accepted(_) => false,
        }
    }

    /// Without what the driver says of it when it ends.
    fn cause(&self) -> String {
        std::error::Error::source(self).map_or_else(|| chain(self), chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_that_is_another_or_gone_is_told_from_one_that_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let before = home(&state);
        assert!(before.is_some() && !is_moved(before, &state) && !is_moved(None, &state));
        std::fs::rename(&state, dir.path().join("aside")).unwrap();
        assert!(is_moved(before, &state), "it is gone");
        std::fs::create_dir(&state).unwrap();
        assert!(is_moved(before, &state), "it is another");
    }

    #[test]
    fn acknowledgements_of_a_long_wait_heap_nothing_up() {
        let mut unkept = Unkept::default();
        unkept.push(Input::Start);
        for seq in 0..1_000 {
            unkept.push(Input::Heard(Heard::Ack(seq)));
        }
        assert!(matches!(
            unkept.inputs.make_contiguous(),
            [Input::Start, Input::Heard(Heard::Ack(999))]
        ));
        unkept.push(Input::Heard(Heard::Lost));
        assert!(matches!(
            unkept.inputs.make_contiguous(),
            [Input::Start, Input::Heard(Heard::Lost)]
        ));
    }
}
