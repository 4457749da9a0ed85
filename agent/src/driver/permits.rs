//! Questions for permits and their answers, and the waits between tries.

use std::time::Duration;

use groundswell_common::condition::{CONDITION_TEXT_MAX_BYTES, Held, Lack};
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::trust::{PermitAsk, Refusal, check_approvals, check_permit, check_step};
use groundswell_common::wire::{Deny, PermitAnswer, PermitRequest, ReleaseProof};
use groundswell_common::{ReleaseId, ServiceName, chain};
use groundswell_machine::{Action, Again, Event, Service, State};
use tokio::time::sleep;

use super::{ANSWER, Asked, Back, Driver, DriverError, LATER, SOON};
use crate::bring;
use crate::clock::{SinceBoot, wall};
use crate::link::Say;
use crate::text::head;
use crate::trustee::Trustee;
use crate::work::Under;

/// The longest waits between two tries of what is held: where a try is of this host alone, where it asks the
/// network, and where it reads the whole live tree.
const HELD_LOCAL: Duration = Duration::from_secs(5);
const HELD: Duration = Duration::from_secs(60);
const HELD_LONG: Duration = Duration::from_secs(600);

/// Whether a permit may be asked for: checks 5 and 7 and the root's time.
pub(crate) fn may_ask(
    trustee: &Trustee,
    (service, machine): (&ServiceName, &Service),
    release: &ReleaseId,
    proof: Option<&ReleaseProof>,
) -> Result<(), Refusal> {
    let root = &trustee.root;
    root.unexpired(wall()).map_err(Refusal::RootExpired)?;
    if let State::Staged { target } = &machine.state {
        let running = machine.running.as_ref().map(|known| known.seq);
        check_step(target.seq, machine.floor, running, false)?;
    }
    let approvals = proof.map(|proof| proof.approvals.as_slice()).unwrap_or_default();
    check_approvals(approvals, release, (service, &trustee.pin.environment), root, wall())
}

/// What a host that may not ask lacks.
fn lacking(release: ReleaseId, refusal: &Refusal) -> Held {
    let why = head(&chain(refusal), CONDITION_TEXT_MAX_BYTES).to_owned();
    Held { release, lack: bring::of_refusal(refusal), why }
}

impl Driver {
    pub(super) fn on_permit(&mut self, answer: &PermitAnswer) -> Result<(), DriverError> {
        let nonce = match answer {
            PermitAnswer::Granted { nonce, .. } | PermitAnswer::Denied { nonce, .. } => *nonce,
        };
        let service = self.slots.iter().find_map(|(service, slot)| {
            slot.asked.as_ref().filter(|asked| asked.nonce == nonce).map(|_| service.clone())
        });
        let found = service.and_then(|service| {
            let asked = self.slots.get_mut(&service)?.asked.take()?;
            Some((service, asked))
        });
        let Some((service, asked)) = found else {
            // An answer to a question that was given up: nothing will happen under it.
            self.say(Say::Done { nonce, used: false });
            return Ok(());
        };
        let generation = asked.ask.generation;
        match answer {
            PermitAnswer::Denied { deny, .. } => {
                let again = match deny {
                    Deny::Starting => Again::Soon,
                    Deny::Stale | Deny::Stopped => Again::Later,
                };
                tracing::info!(%service, ?deny, "no permit to switch");
                self.step(&service, Event::Denied { generation, again })
            }
            PermitAnswer::Granted { envelope, .. } => {
                let environment = &self.trustee.pin.environment;
                let root = &self.trustee.root;
                let checked = check_permit(envelope, &asked.ask, environment, root, wall());
                match checked {
                    Ok(permit) => {
                        let valid_ms = permit.valid_ms.min(PERMIT_VALID_MS);
                        self.on_granted(&service, &asked, Duration::from_millis(valid_ms))
                    }
                    Err(refusal) => {
                        self.refuse(generation, &refusal);
                        self.say(Say::Done { nonce, used: false });
                        let again = Again::Later;
                        self.step(&service, Event::Denied { generation, again })
                    }
                }
            }
        }
    }

    pub(super) fn on_granted(
        &mut self,
        service: &ServiceName,
        asked: &Asked,
        valid: Duration,
    ) -> Result<(), DriverError> {
        let (release, generation) = (asked.ask.release, asked.ask.generation);
        let void_at = asked.at + valid;
        if SinceBoot::now() >= void_at {
            self.say(Say::Done { nonce: asked.nonce, used: false });
            let again = Again::Soon;
            return self.step(service, Event::Denied { generation, again });
        }
        let taken =
            self.step_with(service, Event::Permitted { release, generation }, |action| {
                matches!(action, Action::Activate { .. })
            })?;
        let activate = taken.and_then(|action| match action {
            Action::Activate { target } => Some(target),
            Action::Cancel
            | Action::Stage { .. }
            | Action::StageAfter(_)
            | Action::Ask { .. }
            | Action::AskAfter(_)
            | Action::Start { .. }
            | Action::Interrupt
            | Action::TakeLinkBack
            | Action::Probe { .. }
            | Action::Watch { .. }
            | Action::AwaitStart { .. }
            | Action::Guard { .. }
            | Action::Restore { .. }
            | Action::Revive
            | Action::Ensure
            | Action::Prune => None,
        });
        let proof = activate.and_then(|target| self.proof(&target.id));
        let Some(proof) = proof else {
            self.say(Say::Done { nonce: asked.nonce, used: false });
            let switching = self
                .slots
                .get(service)
                .is_some_and(|slot| matches!(slot.machine.state, State::Switching { .. }));
            return if switching { self.step(service, Event::PermitLate) } else { Ok(()) };
        };
        let Some(slot) = self.slots.get(service) else { return Ok(()) };
        let under = Under {
            proof,
            trustee: self.trustee.clone(),
            floor: slot.machine.floor,
            running: slot.machine.running.clone(),
            nonce: asked.nonce,
            void_at,
            says: self.ends.says.clone(),
        };
        self.launch(service, |job| job.activate(under));
        Ok(())
    }

    /// Checks 5 and 7 and the root's time before asking, so that a refusal is said and no slot held.
    pub(super) fn ask(
        &mut self,
        service: &ServiceName,
        release: ReleaseId,
        generation: u64,
    ) -> Result<(), DriverError> {
        let Some(slot) = self.slots.get(service) else { return Ok(()) };
        let same = slot
            .asked
            .as_ref()
            .is_some_and(|asked| asked.ask.generation == generation && asked.at.elapsed() < ANSWER);
        if !self.connected || same {
            return Ok(());
        }
        if !self.leaves_room(service) {
            self.ask_after(service, Again::Soon);
            return Ok(());
        }
        let may = self.may_ask(service, &slot.machine, &release);
        let lacks = may.as_ref().err().map(|refusal| lacking(release, refusal));
        if let Some(slot) = self.slots.get_mut(service) {
            slot.lacks = lacks;
        }
        if let Err(refusal) = may {
            self.refuse(generation, &refusal);
            self.ask_after(service, Again::Later);
            return Ok(());
        }
        let mut nonce = [0; 16];
        if getrandom::fill(&mut nonce).is_err() {
            self.ask_after(service, Again::Soon);
            return Ok(());
        }
        let request = PermitRequest { generation, service: service.clone(), release, nonce };
        let ask = PermitAsk {
            host: self.trustee.pin.host,
            service: service.clone(),
            release,
            generation,
            nonce: request.nonce_digest(),
        };
        // The time runs from here: before the question leaves, so that it can only be too short.
        let at = SinceBoot::now();
        let earlier = self
            .slots
            .get_mut(service)
            .and_then(|slot| slot.asked.replace(Asked { nonce, ask, at }));
        if let Some(earlier) = earlier {
            self.say(Say::Done { nonce: earlier.nonce, used: false });
        }
        self.say(Say::Ask(request));
        self.ask_after(service, Again::Later);
        Ok(())
    }

    fn may_ask(
        &self,
        service: &ServiceName,
        machine: &Service,
        release: &ReleaseId,
    ) -> Result<(), Refusal> {
        may_ask(&self.trustee, (service, machine), release, self.proof(release).as_ref())
    }

    /// Looks again at what kept services from asking: also one whose turn has passed meanwhile says when it has it.
    pub(super) fn look_at_lacks(&mut self) {
        for service in self.services() {
            let Some(slot) = self.slots.get(&service) else { continue };
            let Some(release) = slot.lacks.as_ref().map(|held| held.release) else { continue };
            let may = self.may_ask(&service, &slot.machine, &release);
            let lacks = may.err().map(|refusal| lacking(release, &refusal));
            if let Some(slot) = self.slots.get_mut(&service) {
                slot.lacks = lacks;
            }
        }
    }

    pub(super) fn ask_after(&mut self, service: &ServiceName, again: Again) {
        let wait = match again {
            Again::Soon => SOON,
            Again::Later => LATER,
        };
        let Some(slot) = self.slots.get_mut(service) else { return };
        slot.timer += 1;
        let (number, service) = (slot.timer, service.clone());
        self.come_back(wait, Back::Timer { service, number });
    }

    /// Waits longer from try to try, to a bound that fits what a try costs. What changes this at once, a session,
    /// a directive or the owner's configuration, does not wait.
    pub(super) fn stage_after(&mut self, service: &ServiceName, lack: Lack) {
        let longest = match lack {
            Lack::UnitNotLoaded | Lack::User | Lack::Bus => HELD_LOCAL,
            Lack::Drift => HELD_LONG,
            Lack::Paused
            | Lack::Drained
            | Lack::UnitNotAllowed
            | Lack::Room
            | Lack::Inodes
            | Lack::Bytes
            | Lack::Journal
            | Lack::Approval
            | Lack::Root
            | Lack::Platform
            | Lack::StepDown
            | Lack::Agent
            | Lack::Settings
            | Lack::Stage
            | Lack::Twin => HELD,
        };
        let Some(slot) = self.slots.get_mut(service) else { return };
        let doubled = SOON.saturating_mul(2_u32.saturating_pow(slot.tries.min(16)));
        slot.tries = slot.tries.saturating_add(1);
        slot.retry += 1;
        let (number, service) = (slot.retry, service.clone());
        self.come_back(doubled.min(longest), Back::Retry { service, number });
    }

    /// Hears of this again after a wait.
    fn come_back(&self, wait: Duration, what: Back) {
        let back = self.ends.back.0.clone();
        tokio::spawn(async move {
            sleep(wait).await;
            drop(back.send(what).await);
        });
    }
}
