//! Watching what is live: while it rests, for ever; and what follows from what is seen. Looks at nothing itself.

use groundswell_common::report::{FailedStep, Failure, Verdict};
use groundswell_common::{ReleaseId, Timestamp};

use super::state::{Known, Service, State, Wish};
use super::step::Action;

/// Seconds after its bake for which a committed release is probed often, so that a wave's bake sees hosts that
/// fall ill at once.
pub const GUARD_SECS: u64 = 900;
/// Seconds between two looks at a committed release, at least; and later, when an idle host should sleep.
const GUARD_INTERVAL_SECS: u64 = 5;
const GUARD_SLOW_SECS: u64 = 60;
/// Seconds after which a slow watch begins anew.
const GUARD_TURN_SECS: u64 = 86_400;

impl Service {
    /// What is live and rests, and is watched for as long as it does.
    pub fn watched(&self) -> Option<ReleaseId> {
        let rests = self.state.seen().is_at_rest();
        self.running.as_ref().map(|known| known.id).filter(|_| rests)
    }

    /// Watches what is live: often for a while after its switch, then now and then.
    pub(crate) fn guard(&self, now: Timestamp) -> Option<Action> {
        self.watched()?;
        let bake_secs = self.wish.as_ref().map_or(0, |wish| wish.bake_secs);
        let passed = self.switched.and_then(|times| times.passed);
        let often = passed.map(|passed| passed.plus_secs(bake_secs).plus_secs(GUARD_SECS));
        let (until, least_secs) = match often.filter(|often| now < *often) {
            Some(often) => (often, GUARD_INTERVAL_SECS),
            None => (now.plus_secs(GUARD_TURN_SECS), GUARD_SLOW_SECS),
        };
        let interval_secs = self.interval().max(least_secs);
        let known = self.health != Verdict::Inconclusive || self.stopped.is_some();
        Some(Action::Guard { until, interval_secs, known: known.then_some(self.health) })
    }

    /// What a person stopped is not well, and says nothing against the release either. Before its commit it is
    /// proved anew once it runs again.
    pub(crate) fn on_stopped(&mut self, unit: String, now: Timestamp) -> Vec<Action> {
        if self.watched().is_none() && !self.is_proving() {
            return Vec::new();
        }
        self.health = Verdict::Inconclusive;
        self.stopped = Some(unit);
        match self.is_proving() {
            true => vec![Action::AwaitStart { interval_secs: self.interval() }],
            false => self.guard(now).into_iter().collect(),
        }
    }

    /// Whether a person has stopped what is live before it passed, and another release is wished for: that waits for
    /// nobody.
    pub(crate) fn is_stopped_for_another(&self, target: &Known) -> bool {
        let wished = self.wish.as_ref().and_then(Wish::names);
        self.stopped.is_some() && wished.is_some_and(|wished| wished != target.id)
    }

    /// What is live stays so, unproven, until what is wished for takes its place.
    pub(crate) fn leave_unproven(&mut self, live: ReleaseId) -> Vec<Action> {
        self.unproven = Some(live);
        self.enter(self.rest());
        let mut actions = vec![Action::Cancel];
        actions.extend(self.pursue());
        actions
    }

    /// Whether what is live must still pass its probes, or its bake.
    fn is_proving(&self) -> bool {
        matches!(self.state, State::Probing { .. } | State::Baking { .. })
    }

    /// What nobody watched is no proof: the step begins anew.
    pub(crate) fn on_overslept(&mut self, now: Timestamp) -> Vec<Action> {
        match &self.state {
            State::Probing { target, .. } | State::Baking { target, .. } => {
                let target = target.clone();
                self.probe_anew(target, now)
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => Vec::new(),
        }
    }

    fn probe_anew(&mut self, target: Known, now: Timestamp) -> Vec<Action> {
        let (deadline, interval_secs) = (now.plus_secs(self.probe_secs()), self.interval());
        self.contact = self.contact.after_restart();
        self.health = Verdict::Inconclusive;
        self.enter(State::Probing { target, deadline });
        vec![Action::Probe { deadline, interval_secs }]
    }

    pub(crate) fn on_health(
        &mut self,
        health: Verdict,
        why: Option<String>,
        now: Timestamp,
    ) -> Vec<Action> {
        match (&self.state, &self.running) {
            (State::Probing { target, .. } | State::Baking { target, .. }, _)
                if health == Verdict::Pass && self.stopped.take().is_some() =>
            {
                let target = target.clone();
                self.probe_anew(target, now)
            }
            (
                State::Committed {} | State::Staged { .. } | State::Fetching { .. },
                Some(running),
            ) => {
                let release = running.id;
                self.health = health;
                self.stopped = None;
                let step = FailedStep::Bake;
                match why {
                    Some(why) => {
                        let reverted = false;
                        self.failure = Some(Failure { release, step, why, reverted });
                    }
                    None if self.failure.as_ref().is_some_and(|f| f.release == release) => {
                        self.failure = None;
                    }
                    None => {}
                }
                self.guard(now).into_iter().collect()
            }
            (
                State::Idle {}
                | State::Fetching { .. }
                | State::Staged { .. }
                | State::Switching { .. }
                | State::Probing { .. }
                | State::Baking { .. }
                | State::Committed {}
                | State::Reverting { .. }
                | State::Stuck { .. },
                _,
            ) => Vec::new(),
        }
    }
}
