//! What a person on the host may do to a service without the coordinator: put the release before back,
//! pause it, let it go on.

use groundswell_common::report::{FailedStep, Failure, Verdict};

use super::state::{Cause, Service, State};
use super::step::Action;

impl Service {
    /// Whether a revert by hand can be taken up now.
    pub fn takes_revert_by_hand(&self) -> bool {
        match &self.state {
            State::Switching { .. } | State::Reverting { .. } => false,
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Stuck { .. } => true,
        }
    }

    /// Why the release before cannot be put back.
    fn no_way_back(&self) -> Option<&'static str> {
        let running = self.running.as_ref()?;
        match &self.previous {
            _ if running.one_way => Some("the running release is one-way; publish a newer one"),
            None => Some("no release before it is known on this host"),
            Some(previous) if previous.seq < self.floor => {
                Some("below_floor: the release before is below the floor")
            }
            Some(_) => None,
        }
    }

    /// The release before comes back; what runs counts as failed here, so that nothing brings it again by
    /// itself.
    pub(crate) fn on_revert_by_hand(&mut self, reason: &str) -> Vec<Action> {
        let stuck = matches!(self.state, State::Stuck { .. });
        let Some(running) = self.running.clone().filter(|_| !stuck) else { return Vec::new() };
        if !self.takes_revert_by_hand() {
            return Vec::new();
        }
        let release = running.id;
        if let Some(not) = self.no_way_back() {
            let why = format!("a person asked to go back ({reason}), and it stays: {not}");
            let step = FailedStep::Revert;
            self.failure = Some(Failure { release, step, why, reverted: false });
            return Vec::new();
        }
        let wish = self.wish.as_ref().filter(|wish| wish.names() == Some(release));
        let rollout = wish.map_or_else(|| self.switched_for.clone(), |wish| wish.rollout.clone());
        self.remember(release, rollout);
        let (step, why) = (FailedStep::Bake, format!("put back by a person on the host: {reason}"));
        self.failure = Some(Failure { release, step, why: why.clone(), reverted: false });
        self.revert(running, Cause::Failed { step, why })
    }

    /// Leaves what runs as a release that failed here: it does not come back by itself (A2.8).
    pub(crate) fn on_taken_back(&mut self, why: String) -> Vec<Action> {
        match (&self.state, &self.running) {
            (State::Probing { .. } | State::Baking { .. }, _) => self.on_failed(why, false),
            (
                State::Idle {}
                | State::Fetching { .. }
                | State::Staged { .. }
                | State::Committed {},
                Some(running),
            ) if !running.one_way => {
                let (from, step) = (running.clone(), FailedStep::Bake);
                self.health = Verdict::Fail;
                self.remember(from.id, self.switched_for.clone());
                let release = from.id;
                self.failure = Some(Failure { release, step, why: why.clone(), reverted: false });
                self.revert(from, Cause::Failed { step, why })
            }
            (
                State::Idle {}
                | State::Fetching { .. }
                | State::Staged { .. }
                | State::Switching { .. }
                | State::Committed {}
                | State::Reverting { .. }
                | State::Stuck { .. },
                _,
            ) => Vec::new(),
        }
    }

    pub(crate) fn on_paused(&mut self, why: Option<String>) -> Vec<Action> {
        self.paused = why;
        self.ask()
    }
}
