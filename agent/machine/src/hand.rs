//! What a person on the host may do to a service without the coordinator: put the release before back,
//! pause it, let it go on.

use groundswell_common::RolloutId;
use groundswell_common::report::{FailedStep, Failure, Verdict};

use super::state::{Cause, Known, Service, State};
use super::step::Action;

/// What the reason of a person begins with in reports.
pub(crate) const BY_HAND: &str = "put back by a person on the host: ";

impl Service {
    /// Whether a revert by hand can be taken up now.
    pub fn takes_revert_by_hand(&self) -> bool {
        match &self.state {
            State::Reverting { .. } => false,
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Stuck { .. } => true,
        }
    }

    /// Whether what is live was put back by a person here.
    pub fn was_put_back_by_hand(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.why.starts_with(BY_HAND))
    }

    /// Why the release before cannot be put back.
    pub fn no_way_back(&self) -> Option<&'static str> {
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
        if let State::Switching { target, deadline: None } = &self.state {
            let target = target.clone();
            return self.stop_switch(&target, format!("{BY_HAND}{reason}"));
        }
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
        self.leave(running, rollout, format!("{BY_HAND}{reason}"))
    }

    /// Leaves a switch whose link may not be replaced yet: what it brings counts as failed here.
    fn stop_switch(&mut self, target: &Known, why: String) -> Vec<Action> {
        if target.one_way {
            return Vec::new();
        }
        let (release, step, reverted) = (target.id, FailedStep::Switch, false);
        self.remember(release, self.switched_for.clone());
        self.failure = Some(Failure { release, step, why, reverted });
        vec![Action::Interrupt]
    }

    /// Why a switch that was interrupted is left, where a person asked for it.
    pub(crate) fn left_by_hand(&self, target: &Known) -> Option<Cause> {
        let failure = self.failure.as_ref().filter(|failure| failure.release == target.id)?;
        Some(Cause::Failed { step: failure.step, why: failure.why.clone() })
    }

    /// Leaves what runs as a release that failed here: it does not come back by itself (A2.8).
    pub(crate) fn on_taken_back(&mut self, why: String) -> Vec<Action> {
        if let State::Probing { .. } | State::Baking { .. } = self.state {
            return self.on_failed(why, false);
        }
        match self.running.clone().filter(|running| !running.one_way) {
            Some(running) if self.state.seen().is_at_rest() => {
                self.health = Verdict::Fail;
                self.leave(running, self.switched_for.clone(), why)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// Goes back from what runs, remembered as failed under `rollout`.
    fn leave(&mut self, running: Known, rollout: Option<RolloutId>, why: String) -> Vec<Action> {
        let (release, step) = (running.id, FailedStep::Bake);
        self.remember(release, rollout);
        self.failure = Some(Failure { release, step, why: why.clone(), reverted: false });
        self.revert(running, Cause::Failed { step, why })
    }

    pub(crate) fn on_paused(&mut self, why: Option<String>) -> Vec<Action> {
        self.paused = why;
        self.ask()
    }
}
