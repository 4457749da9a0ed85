//! A switch under way: its link, its start, what interrupts it; being stuck, and the start that leads out of
//! it.

use groundswell_common::directive::Action as Desired;
use groundswell_common::report::{FailedStep, Failure, SwitchTimes, Verdict};
use groundswell_common::{ReleaseId, Timestamp};

use super::contact::Contact;
use super::state::{Cause, Known, Service, State, StuckCause, Wish};
use super::step::{Action, Again};

/// Permits in a row that run out before the switch is ready, before that is said.
const LATE_MIN: u32 = 2;
/// Looks that what has started gets, however late it did.
const LOOKS_AFTER_START: u64 = 3;

impl Service {
    /// Only what is started and probed leaves it: what runs, or another release.
    pub(crate) fn leave_stuck(&mut self, action: Desired, now: Timestamp) -> Vec<Action> {
        match action {
            Desired::Hold {} => Vec::new(),
            Desired::Stage { release } | Desired::Switch { release } if self.refuses(&release) => {
                Vec::new()
            }
            _ if self.asks_for_what_runs(action) => self.prove(now),
            Desired::Stage { .. }
            | Desired::Switch { .. }
            | Desired::Revert { .. }
            | Desired::Remove {} => {
                self.failure = None;
                self.pursue()
            }
        }
    }

    /// Whether the wish is for what runs already. Down or unproven, it is only started, which takes nothing from
    /// anybody and needs no slot.
    pub(crate) fn asks_for_what_runs(&self, action: Desired) -> bool {
        let running = self.running.as_ref().map(|known| known.id);
        match action {
            Desired::Stage { release } | Desired::Switch { release } => {
                running == Some(release) && !self.refuses(&release)
            }
            Desired::Revert { from, .. } => running.is_some_and(|running| running != from),
            Desired::Hold {} | Desired::Remove {} => false,
        }
    }

    /// The agent restarted too often on the way back; how far it came is read off the live link.
    pub(crate) fn give_up_return(
        &mut self,
        from: Known,
        to: Option<Known>,
        live: Option<ReleaseId>,
    ) -> Vec<Action> {
        let release = from.id;
        let found = [Some(from), to].into_iter().flatten().find(|known| live == Some(known.id));
        if found.is_none() && live.is_some() {
            return self.stick(StuckCause::Tree);
        }
        if live != Some(release) {
            self.previous = None;
        }
        self.running = found;
        let why =
            format!("the agent restarted {} times while going back; see its log", self.resumes);
        let step = FailedStep::Revert;
        self.failure = Some(Failure { release, step, why, reverted: false });
        self.health = Verdict::Fail;
        self.stick(StuckCause::Loop)
    }

    /// Acts on the wish; what runs, unproven, and is wished for is started and probed.
    fn pursue_or_prove(&mut self, now: Timestamp) -> Vec<Action> {
        let wished = self.wish.as_ref().map(|wish| wish.action);
        match wished.filter(|wish| self.is_unproven() && self.asks_for_what_runs(*wish)) {
            Some(_) => self.prove(now),
            None => self.pursue(),
        }
    }

    /// Starts and probes what runs as if it had just been made live.
    pub(crate) fn prove(&mut self, now: Timestamp) -> Vec<Action> {
        let Some(target) = self.running.clone() else { return Vec::new() };
        self.failure = None;
        self.switched_for = self.wished_for();
        self.contact = Contact::since_switch(self.wish.as_ref());
        self.start_anew(target, now)
    }

    /// The start itself, whoever asked for it.
    pub(crate) fn start_anew(&mut self, target: Known, now: Timestamp) -> Vec<Action> {
        self.health = Verdict::Inconclusive;
        self.unproven = Some(target.id);
        self.switched = Some(SwitchTimes { started: now, passed: None });
        let deadline = now.plus_secs(self.probe_secs());
        self.enter(State::Switching { target, deadline: Some(deadline) });
        vec![Action::Start { deadline }]
    }

    /// Whether its switches are given up again and again, since the host does not make them ready in time.
    pub fn is_too_slow(&self) -> bool {
        let wished = self.wish.as_ref().and_then(Wish::names);
        self.late >= LATE_MIN && wished.is_some() && wished == self.target()
    }

    pub(crate) fn on_permit_late(&mut self, now: Timestamp) -> Vec<Action> {
        match &self.state {
            State::Switching { target, deadline: None } => {
                let target = target.clone();
                self.late = self.late.saturating_add(1);
                self.enter(State::Staged { target });
                let mut actions = self.pursue_or_prove(now);
                // Asking at once would run into the same delay.
                for action in &mut actions {
                    if matches!(action, Action::Ask { .. }) {
                        *action = Action::AskAfter(Again::Soon);
                    }
                }
                actions
            }
            State::Switching { deadline: Some(_), .. }
            | State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    /// From here on what starts has until the deadline.
    pub(crate) fn on_replaced(&mut self, now: Timestamp) -> Vec<Action> {
        match &self.state {
            State::Switching { target, deadline: None } => {
                let target = target.clone();
                self.make_live(&target);
                if self.told_to_leave(&target) {
                    return self.revert(target, Cause::Told {});
                }
                let deadline = now.plus_secs(self.probe_secs());
                self.enter(State::Switching { target, deadline: Some(deadline) });
                vec![Action::Start { deadline }]
            }
            State::Switching { deadline: Some(_), .. }
            | State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    /// A switch that was to stop has stopped, before or after its link was replaced.
    pub(crate) fn on_interrupted(
        &mut self,
        live: Option<ReleaseId>,
        now: Timestamp,
    ) -> Vec<Action> {
        match &self.state {
            State::Switching { target, deadline: None } if live == Some(target.id) => {
                let target = target.clone();
                self.make_live(&target);
                let cause = self.left_by_hand(&target).unwrap_or(Cause::Told {});
                self.revert(target, cause)
            }
            State::Switching { target, deadline: None } => {
                let target = target.clone();
                if let Some(failure) = self.failure.as_mut().filter(|f| f.release == target.id) {
                    failure.reverted = true;
                }
                self.enter(State::Staged { target });
                let mut actions = vec![Action::Cancel, Action::Ensure];
                actions.extend(self.pursue_or_prove(now));
                actions
            }
            State::Switching { deadline: Some(_), .. }
            | State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    pub(crate) fn on_switched(&mut self, now: Timestamp, killed: bool) -> Vec<Action> {
        match &self.state {
            State::Switching { target, deadline } => {
                let (target, deadline) = (target.clone(), *deadline);
                self.make_live(&target);
                if self.told_to_leave(&target) {
                    return self.revert(target, Cause::Told {});
                }
                let (whole, interval_secs) = (now.plus_secs(self.probe_secs()), self.interval());
                // What started at the last moment, or whose hook took long, is looked at all the same.
                let looks = now.plus_secs(interval_secs.saturating_mul(LOOKS_AFTER_START));
                let counts = deadline.filter(|_| !killed);
                let deadline = counts.map_or(whole, |deadline| deadline.max(looks));
                self.enter(State::Probing { target, deadline });
                vec![Action::Probe { deadline, interval_secs }]
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    pub(crate) fn make_live(&mut self, target: &Known) {
        if self.running.as_ref() != Some(target) {
            self.previous = self.running.take();
            self.running = Some(target.clone());
        }
        self.health = Verdict::Inconclusive;
        self.stopped = None;
        self.late = 0;
    }

    pub(crate) fn told_to_leave(&self, target: &Known) -> bool {
        let told = match self.wish.as_ref().map(|wish| wish.action) {
            Some(Desired::Remove {}) => return true,
            Some(Desired::Revert { from, .. }) => from == target.id,
            Some(Desired::Hold {} | Desired::Stage { .. } | Desired::Switch { .. }) | None => false,
        };
        told && !target.one_way
    }
}
