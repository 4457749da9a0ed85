//! What comes of bringing a release to the disk: staged, held for what the host lacks, or failed.

use groundswell_common::ReleaseId;
use groundswell_common::condition::Held;
use groundswell_common::report::{FailedStep, Failure};

use super::state::{Known, Service, State};
use super::step::Action;

impl Service {
    pub(crate) fn on_staged(&mut self, known: Known) -> Vec<Action> {
        match &self.state {
            State::Fetching { target, .. } if *target == known.id => {
                self.damaged = self.damaged.filter(|damaged| *damaged != known.id);
                self.enter(State::Staged { target: known });
                let mut actions = vec![Action::Prune];
                actions.extend(self.pursue());
                actions
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    pub(crate) fn on_stage_held(&mut self, held: Held) -> Vec<Action> {
        match &self.state {
            // From Switching: it was lacking at the last look, before the live link was touched.
            State::Fetching { .. } | State::Switching { deadline: None, .. }
                if self.target() == Some(held.release) =>
            {
                let (target, lack) = (held.release, held.lack);
                self.enter(State::Fetching { target, held: Some(held) });
                vec![Action::StageAfter(lack)]
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    /// Tries again what is held.
    pub(crate) fn stage_again(&mut self) -> Vec<Action> {
        match &self.state {
            State::Fetching { target, held: Some(_) } => {
                vec![Action::Stage { release: *target, back: self.goes_back() }]
            }
            State::Fetching { held: None, .. }
            | State::Idle {}
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    pub(crate) fn on_stage_failed(&mut self, release: ReleaseId, why: String) -> Vec<Action> {
        match &self.state {
            // From Switching: what was staged turned out damaged before the live link was touched.
            State::Fetching { .. } | State::Switching { deadline: None, .. }
                if self.target() == Some(release) =>
            {
                let rollout = self.wished_for();
                self.remember(release, rollout);
                // On the way back it speaks of what stays live, as everything does that keeps a host from going back.
                let stays =
                    self.running.as_ref().map(|known| known.id).filter(|_| self.goes_back());
                self.failure = Some(match stays {
                    None => Failure { release, step: FailedStep::Stage, why, reverted: false },
                    Some(stays) => {
                        let why =
                            format!("what it should go back to cannot be brought here: {why}");
                        Failure { release: stays, step: FailedStep::Revert, why, reverted: false }
                    }
                });
                self.enter(self.rest());
                vec![Action::Prune]
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }
}
