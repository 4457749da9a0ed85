//! The ways out of being stuck that need no desk: a person on the host tries again, or the agent itself starts
//! what ended; and what keeps it from going back. Looks at nothing itself.

use groundswell_common::report::{FailedStep, Failure, Verdict};
use groundswell_common::{ReleaseId, Timestamp, name_of, one_line};

use super::contact::Contact;
use super::state::{Cause, Service, State, StuckCause};
use super::step::Action;

/// What the cause begins with where going back failed.
pub(crate) const BACK_FAILED: &str = "going back failed: ";

const FAILED: &str = " failed: ";
const THEN: &str = "; then ";

/// What stands before that: which step failed first, and why.
pub(crate) fn before_back(step: FailedStep, why: &str) -> String {
    format!("{}{FAILED}{}{THEN}", name_of(&step), one_line(why))
}

/// What [`before_back`] was made of.
fn failed_first(text: &str) -> Option<(FailedStep, &str)> {
    let text = text.strip_suffix(THEN)?;
    let steps = [FailedStep::Stage, FailedStep::Switch, FailedStep::Probe, FailedStep::Bake];
    steps.into_iter().find_map(|step| {
        let why = text.strip_prefix(&name_of(&step))?.strip_prefix(FAILED)?;
        Some((step, why))
    })
}

impl Service {
    /// Whether what is live counts as unproven, and is started again by itself once nothing of it runs. A pause
    /// keeps it as it is.
    pub fn revives(&self) -> bool {
        let waits = self.takes_retry_by_hand() && self.is_unproven();
        waits && self.paused.is_none() && !self.is_unwanted()
    }

    /// Whether what is live could not be put back, and was not seen to run since.
    pub fn is_unproven(&self) -> bool {
        self.running.as_ref().is_some_and(|known| self.unproven == Some(known.id))
    }

    /// What made a service stuck, with the cause of now where what is live was tried again and failed again.
    pub(crate) fn told_on(&self, failure: Failure, why: &str) -> Option<Failure> {
        let (before, _) = failure.why.split_once(BACK_FAILED)?;
        let same = self.is_unproven() && failure.step == FailedStep::Revert;
        same.then(|| Failure { why: format!("{before}{BACK_FAILED}{why}"), ..failure })
    }

    /// What could not go back has come back, by an order or by another try: what failed first stays told, as if it had
    /// come back at once; what kept it from that is mended, and is told no more.
    pub(crate) fn came_back(&mut self) {
        let back = self.failure.as_mut().filter(|failure| failure.step == FailedStep::Revert);
        let Some(failure) = back else { return };
        failure.reverted = true;
        let Some((before, _)) = failure.why.split_once(BACK_FAILED) else { return };
        match failed_first(before) {
            Some((step, why)) => (failure.step, failure.why) = (step, why.to_owned()),
            None => self.failure = None,
        }
    }

    /// Nothing runs of what is live and unproven.
    pub(crate) fn on_down(&mut self, now: Timestamp) -> Vec<Action> {
        if self.revives() { self.try_again(now) } else { Vec::new() }
    }

    /// A person on the host has mended it.
    pub(crate) fn on_retry_by_hand(&mut self, now: Timestamp) -> Vec<Action> {
        if !self.takes_retry_by_hand() {
            return Vec::new();
        }
        if self.is_unwanted() {
            return self.pursue();
        }
        self.try_again(now)
    }

    /// Whether there is something that a person on the host may try again.
    pub fn takes_retry_by_hand(&self) -> bool {
        match &self.state {
            State::Stuck { cause: StuckCause::Revert | StuckCause::Loop, .. } => true,
            State::Fetching { .. } | State::Staged { .. } => self.is_unproven(),
            State::Stuck { cause: StuckCause::Journal | StuckCause::Tree, .. }
            | State::Idle {}
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. } => false,
        }
    }

    /// Starts and probes what is live; where that is what failed, since the way back did not come as far as the
    /// live link, goes back.
    fn try_again(&mut self, now: Timestamp) -> Vec<Action> {
        let Some(running) = self.running.clone() else {
            self.failure = None;
            self.enter(State::Idle {});
            return self.pursue();
        };
        let left = self.failed.iter().any(|failed| failed.release == running.id);
        if left && !running.one_way && self.previous.is_some() {
            return self.revert(running, Cause::Told {});
        }
        // It runs for no rollout, and needs nobody.
        self.contact = Contact::Unasked;
        self.start_anew(running, now)
    }

    /// Better what works than what somebody changed: where the directive orders it, the release before is brought
    /// here anew.
    pub(crate) fn on_back_held(&mut self, why: &str) -> Vec<Action> {
        match self.state.clone() {
            State::Reverting { from, to: Some(to), cause } => {
                let release = from.id;
                let why = match cause {
                    Cause::Failed { why: asked, .. } => {
                        self.failed.retain(|failed| failed.release != release);
                        format!(
                            "{asked}, and it stays: {why}; put it back as it was released, or 'swell revert' brings \
                             it anew"
                        )
                    }
                    Cause::Told {} => {
                        format!(
                            "going back is held: {why}; once that is mended it goes back by itself"
                        )
                    }
                };
                let step = FailedStep::Revert;
                self.failure = Some(Failure { release, step, why, reverted: false });
                self.health = Verdict::Pass;
                self.damaged = Some(to.id);
                self.enter(self.rest());
                self.pursue()
            }
            State::Reverting { to: None, .. }
            | State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Stuck { .. } => Vec::new(),
        }
    }

    /// The live link is not what the journal says.
    pub(crate) fn stray(&mut self, live: Option<ReleaseId>) -> Vec<Action> {
        let ran = self.running.as_ref().map(|known| known.id);
        if let Some(release) = live.or(ran) {
            let why = format!(
                "the live link 'current' names {}, and the journal says that {} is live: somebody changed it",
                self.name_of(live),
                self.name_of(ran)
            );
            let step = FailedStep::Revert;
            self.failure = Some(Failure { release, step, why, reverted: false });
        }
        self.stick(StuckCause::Tree)
    }

    fn name_of(&self, release: Option<ReleaseId>) -> String {
        let Some(release) = release else { return "nothing".to_owned() };
        let mut known = [&self.running, &self.previous].into_iter().flatten();
        let known = known.find(|known| known.id == release);
        known.map_or_else(|| release.digest().short(), |known| known.version.to_string())
    }
}
