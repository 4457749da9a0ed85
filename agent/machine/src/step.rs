//! What happens to a service, and what follows. Every event is judged in every state; none is unknown.

use groundswell_common::condition::{Held, Lack};
use groundswell_common::directive::Action as Desired;
use groundswell_common::report::{FailedStep, Failure, SwitchTimes, Verdict};
use groundswell_common::{ReleaseId, RolloutId, Timestamp};

use super::again::{BACK_FAILED, before_back};
use super::contact::Contact;
use super::state::{
    Cause, FAILED_MAX, Failed, Known, RESUMES_MAX, Service, State, StuckCause, Wish,
};

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A directive that was accepted says this of the service.
    Wish(Wish),
    /// A session with the coordinator stands: permits may be asked for.
    Linked,
    /// It is time to ask for a permit again.
    AskAgain,
    /// The release is on disk, complete and verified.
    Staged(Known),
    /// The host lacks something that the release needs. Says nothing against the release.
    StageHeld(Held),
    /// It is time to try again what was held, or what was lacking may be there.
    StageAgain,
    /// The release is one that this host can never run, or its own hook before the switch failed.
    StageFailed {
        /// Which release.
        release: ReleaseId,
        /// What happened, at most 4 KiB.
        why: String,
    },
    /// A permit, checked and fresh, for exactly this.
    Permitted {
        /// Which release.
        release: ReleaseId,
        /// The generation of the directive.
        generation: u64,
    },
    /// No permit.
    Denied {
        /// The generation of the directive.
        generation: u64,
        /// When to ask again.
        again: Again,
    },
    /// The permit ran out before the live link was touched.
    PermitLate,
    /// The live link was replaced; no unit was touched yet.
    Replaced,
    /// The live link was replaced and the service restarted.
    Switched {
        /// Whether what ran before did not obey its stop and was killed: its time was not the release's.
        killed: bool,
    },
    /// A switch was interrupted; the live link names this now.
    Interrupted {
        /// What is live.
        live: Option<ReleaseId>,
    },
    /// The live link or the restart failed.
    SwitchFailed {
        /// What happened, at most 4 KiB.
        why: String,
    },
    /// All probes passed: before the deadline, or for the whole bake time.
    Passed,
    /// The coordinator has acknowledged a report that was sent after the switch.
    Contact,
    /// A person on the host wants the release before back, for this reason.
    RevertByHand(String),
    /// A person on the host wants what is stuck tried again.
    RetryByHand,
    /// Nothing runs of what is live and unproven.
    Down,
    /// A person on the host pauses it for this reason, or lets it go on.
    Paused(Option<String>),
    /// Probes failed.
    Failed {
        /// What happened, at most 4 KiB.
        why: String,
    },
    /// What is live and committed fails its probes.
    Ill {
        /// What happened, at most 4 KiB.
        why: String,
    },
    /// What is live and committed passes its probes, or what was stopped before its commit runs again.
    Well,
    /// A unit of what is live was stopped on this host.
    Stopped {
        /// Which unit.
        unit: String,
    },
    /// What was seen no longer counts: whoever watches was held up for longer than a look takes, since the host stood
    /// still; or somebody started the service anew.
    Overslept,
    /// What is live must be left for what ran before, though its probes may pass.
    TakenBack {
        /// Who says so and why, at most 4 KiB.
        why: String,
    },
    /// The release before is live again and passes its probes, or nothing is live as before.
    Restored,
    /// The files of the release before were changed, while what runs passes its probes: nothing was touched.
    BackHeld {
        /// What was changed.
        why: String,
    },
    /// Going back failed; `back` says whether the live link is back.
    RestoreFailed {
        /// What happened, at most 4 KiB.
        why: String,
        /// Whether this is the way back.
        back: bool,
    },
}

impl Event {
    /// Its name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Wish(_) => "wish",
            Self::Linked => "linked",
            Self::AskAgain => "ask again",
            Self::Staged(_) => "staged",
            Self::StageHeld(_) => "held",
            Self::StageAgain => "stage again",
            Self::StageFailed { .. } => "stage failed",
            Self::Permitted { .. } => "permitted",
            Self::Denied { .. } => "denied",
            Self::PermitLate => "permit late",
            Self::Replaced => "replaced",
            Self::Switched { .. } => "switched",
            Self::Interrupted { .. } => "interrupted",
            Self::SwitchFailed { .. } => "switch failed",
            Self::Passed => "passed",
            Self::Contact => "contact",
            Self::RevertByHand(_) => "revert by hand",
            Self::RetryByHand => "retry by hand",
            Self::Down => "down",
            Self::Paused(Some(_)) => "paused by hand",
            Self::Paused(None) => "resumed by hand",
            Self::Failed { .. } => "failed",
            Self::Ill { .. } => "ill",
            Self::Well => "well",
            Self::Stopped { .. } => "stopped",
            Self::Overslept => "overslept",
            Self::TakenBack { .. } => "taken back",
            Self::Restored => "restored",
            Self::BackHeld { .. } => "going back is held",
            Self::RestoreFailed { .. } => "going back failed",
        }
    }
}

/// When to ask again after a permit was denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// In a second: the coordinator is starting, or the answer came too late.
    Soon,
    /// With the next directive or session; in half a minute when neither comes.
    Later,
}

/// What is to be done. Everything is done after the new state is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop the work under way for this service and forget its result.
    Cancel,
    /// Fetch, verify and unpack; `back` for a step down that the directive orders.
    Stage {
        /// Which release.
        release: ReleaseId,
        /// Whether this is the way back.
        back: bool,
    },
    /// Deliver [`Event::StageAgain`] after a while that fits what is lacking.
    StageAfter(Lack),
    /// Ask for a permit, now or later.
    Ask {
        /// Which release.
        release: ReleaseId,
        /// The generation of the directive.
        generation: u64,
    },
    /// Deliver [`Event::AskAgain`] after a while.
    AskAfter(Again),
    /// Replace the live link under the permit, restart the service.
    Activate {
        /// Which release.
        target: Known,
    },
    /// Restart the service on what is live.
    Start {
        /// When it must have started.
        deadline: Timestamp,
    },
    /// Stop a switch whose link may not be replaced yet, and deliver [`Event::Interrupted`].
    Interrupt,
    /// Put the live link back that was replaced without a note that it was in time, and deliver
    /// [`Event::Interrupted`]. Where the host has started since, its units run what the link names: deliver
    /// [`Event::Replaced`].
    TakeLinkBack,
    /// Probe what is live until it passes or the deadline is over.
    Probe {
        /// When its probes must have passed.
        deadline: Timestamp,
        /// Seconds between two looks.
        interval_secs: u64,
    },
    /// Keep probing what is live.
    Watch {
        /// How long.
        until: Timestamp,
        /// Seconds between two looks.
        interval_secs: u64,
    },
    /// Wait until what a person stopped before its commit runs again, and deliver [`Event::Well`].
    AwaitStart {
        /// Seconds between two looks.
        interval_secs: u64,
    },
    /// Keep an eye on what is live and at rest, beside all other work, until it is not what it was, or `until`.
    Guard {
        /// How long.
        until: Timestamp,
        /// Seconds between two looks.
        interval_secs: u64,
        /// What it is known to be: inconclusive where a unit was stopped. Where that is nothing, it is looked at
        /// once.
        known: Option<Verdict>,
    },
    /// Make `to` live again, or nothing; restart and probe.
    Restore {
        /// What becomes live again; `None` for nothing.
        to: Option<Known>,
        /// Seconds for its probes.
        probe_secs: u64,
        /// Seconds between two looks.
        interval_secs: u64,
    },
    /// Look, with pauses that grow, whether nothing runs of what is live and unproven, beside all other work, for as
    /// long as [`Service::revives`]; deliver [`Event::Down`] then.
    Revive,
    /// See to it that what is live runs (after a start of the agent).
    Ensure,
    /// Remove what is no longer kept.
    Prune,
}

const DEFAULT_PROBE_SECS: u64 = 60;
const DEFAULT_INTERVAL_SECS: u64 = 1;

impl Service {
    /// Takes one event; returns the next state of the service and what to do once it is durable.
    pub fn step(mut self, event: Event, now: Timestamp) -> (Self, Vec<Action>) {
        let (before, revived) = (self.watched(), self.revives());
        let mut actions = match event {
            Event::Wish(wish) => self.on_wish(wish, now),
            Event::Linked => self.on_linked(),
            Event::AskAgain => self.ask(),
            Event::Staged(known) => self.on_staged(known),
            Event::StageHeld(held) => self.on_stage_held(held),
            Event::StageAgain => self.stage_again(),
            Event::StageFailed { release, why } => self.on_stage_failed(release, why),
            Event::Permitted { release, generation } => self.on_permitted(release, generation, now),
            Event::Denied { generation, again } => self.on_denied(generation, again),
            Event::PermitLate => self.on_permit_late(now),
            Event::Replaced => self.on_replaced(now),
            Event::Switched { killed } => self.on_switched(now, killed),
            Event::Interrupted { live } => self.on_interrupted(live, now),
            Event::SwitchFailed { why } => self.on_failed(why, true),
            Event::Passed => self.on_passed(now),
            Event::Contact => self.on_contact(now),
            Event::RevertByHand(why) => self.on_revert_by_hand(&why),
            Event::RetryByHand => self.on_retry_by_hand(now),
            Event::Down => self.on_down(now),
            Event::Paused(why) => self.on_paused(why),
            Event::Failed { why } => self.on_failed(why, false),
            Event::Ill { why } => self.on_health(Verdict::Fail, Some(why), now),
            Event::Well => self.on_health(Verdict::Pass, None, now),
            Event::Stopped { unit } => self.on_stopped(unit, now),
            Event::Overslept => self.on_overslept(now),
            Event::TakenBack { why } => self.on_taken_back(why),
            Event::Restored => self.on_restored(),
            Event::BackHeld { why } => self.on_back_held(&why),
            Event::RestoreFailed { why, back } => self.on_restore_failed(&why, back),
        };
        if self.watched() != before {
            actions.extend(self.guard(now));
        }
        if self.revives() && !revived {
            actions.push(Action::Revive);
        }
        (self, actions)
    }

    /// Goes on after a restart of the agent; `live` is what the live link really names.
    pub fn resume(mut self, live: Option<ReleaseId>, now: Timestamp) -> (Self, Vec<Action>) {
        self.resumes = self.resumes.saturating_add(1);
        let worn_out = self.resumes > RESUMES_MAX;
        let ran = self.running.as_ref().map(|known| known.id);
        let (interval_secs, probe_secs) = (self.interval(), self.probe_secs());
        // What was seen before a restart is not what is so now.
        self.stopped = None;
        if self.watched().is_some() {
            self.health = Verdict::Inconclusive;
        }
        let mut actions = match self.state.clone() {
            State::Stuck { .. } => Vec::new(),
            State::Idle {} | State::Committed {} if live == ran => self.resume_at_rest(),
            State::Staged { .. } if live == ran => self.resume_at_rest(),
            State::Fetching { target, .. } if live == ran && worn_out => {
                let times = self.resumes;
                let why =
                    format!("the agent restarted {times} times while staging it; see its log");
                let mut actions = vec![Action::Ensure];
                let held = Held { release: target, lack: Lack::Agent, why };
                actions.extend(self.on_stage_held(held));
                actions
            }
            State::Fetching { target, .. } if live == ran => {
                vec![Action::Ensure, Action::Stage { release: target, back: self.goes_back() }]
            }
            // Its permit may have been over when the link was replaced: nobody has noted that it was not.
            State::Switching { target, deadline: None }
                if live == Some(target.id) && live != ran && !worn_out =>
            {
                vec![Action::TakeLinkBack]
            }
            State::Switching { target, deadline } if live == Some(target.id) && !worn_out => {
                self.make_live(&target);
                let whole = now.plus_secs(probe_secs);
                let deadline = deadline.map_or(whole, |deadline| held(deadline, now, probe_secs));
                self.state = State::Switching { target, deadline: Some(deadline) };
                vec![Action::Start { deadline }]
            }
            State::Switching { target, .. } if live == ran && live != Some(target.id) => {
                self.enter(State::Staged { target });
                vec![Action::Ensure]
            }
            State::Probing { target, deadline } if live == Some(target.id) && !worn_out => {
                let deadline = held(deadline, now, probe_secs);
                self.contact = self.contact.after_restart();
                self.state = State::Probing { target, deadline };
                vec![Action::Probe { deadline, interval_secs }]
            }
            State::Baking { target, until } if live == Some(target.id) && !worn_out => {
                let bake_secs = self.wish.as_ref().map_or(0, |wish| wish.bake_secs);
                let until = held(until, now, bake_secs);
                self.state = State::Baking { target, until };
                vec![Action::Watch { until, interval_secs }]
            }
            State::Switching { target, .. }
            | State::Probing { target, .. }
            | State::Baking { target, .. }
                if live == Some(target.id) =>
            {
                let why = format!("the agent restarted {} times during the switch", self.resumes);
                self.on_failed(why, false)
            }
            State::Reverting { from, to, .. } if worn_out => self.give_up_return(from, to, live),
            State::Reverting { to, .. } => {
                vec![Action::Restore { to, probe_secs, interval_secs }]
            }
            State::Idle {}
            | State::Committed {}
            | State::Staged { .. }
            | State::Fetching { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. } => self.stray(live),
        };
        actions.extend(self.guard(now));
        actions.extend(self.revives().then_some(Action::Revive));
        (self, actions)
    }

    fn resume_at_rest(&mut self) -> Vec<Action> {
        self.resumes = 0;
        let mut actions = vec![Action::Ensure, Action::Prune];
        actions.extend(self.pursue());
        actions
    }

    fn on_wish(&mut self, wish: Wish, now: Timestamp) -> Vec<Action> {
        if self.wish.as_ref().is_some_and(|have| have.generation > wish.generation) {
            return Vec::new();
        }
        self.settle_failed(&wish);
        let other = self.wished_for() != wish.rollout && !self.is_unreadable();
        let (action, generation, named) = (wish.action, wish.generation, wish.names());
        self.wish = Some(wish);
        // What failed under another rollout is no news under this one; but what is still refused for it says so.
        let is_news = |f: &Failure| named == Some(f.release) && !self.refuses(&f.release);
        if other && self.failure.as_ref().is_some_and(is_news) {
            self.failure = None;
        }
        match (&self.state, action) {
            (State::Fetching { .. } | State::Staged { .. }, _)
                if self.is_unproven() && self.asks_for_what_runs(action) =>
            {
                let mut actions = vec![Action::Cancel];
                actions.extend(self.prove(now));
                actions
            }
            (
                State::Idle {}
                | State::Fetching { .. }
                | State::Staged { .. }
                | State::Committed {},
                _,
            ) => self.pursue(),
            (
                State::Probing { target, .. } | State::Baking { target, .. },
                Desired::Revert { from, .. },
            ) if target.id == from && !target.one_way => {
                let target = target.clone();
                self.revert(target, Cause::Told {})
            }
            (State::Probing { target, .. } | State::Baking { target, .. }, _)
                if self.is_stopped_for_another(target) =>
            {
                let target = target.id;
                self.leave_unproven(target)
            }
            (State::Switching { target, deadline }, Desired::Revert { from, .. })
                if target.id == from && !target.one_way =>
            {
                match deadline {
                    Some(_) => self.revert(target.clone(), Cause::Told {}),
                    None => vec![Action::Interrupt],
                }
            }
            (State::Probing { target, .. } | State::Baking { target, .. }, Desired::Remove {}) => {
                let target = target.clone();
                self.revert(target, Cause::Told {})
            }
            (State::Switching { target, deadline }, Desired::Remove {}) => match deadline {
                Some(_) => self.revert(target.clone(), Cause::Told {}),
                None => vec![Action::Interrupt],
            },
            (
                State::Stuck { cause: StuckCause::Revert | StuckCause::Loop, generation: stuck },
                _,
            ) if generation > *stuck => self.leave_stuck(action, now),
            (
                State::Switching { .. }
                | State::Probing { .. }
                | State::Baking { .. }
                | State::Reverting { .. }
                | State::Stuck { .. },
                _,
            ) => Vec::new(),
        }
    }

    /// Keeps the memory of failures: a release counts as let go once a newer directive does not name it,
    /// and may be tried again once a newer one names it after that.
    fn settle_failed(&mut self, wish: &Wish) {
        let named = wish.names();
        self.failed.retain(|failed| {
            let again = named == Some(failed.release)
                && failed.released
                && wish.generation > failed.generation;
            !again
        });
        for failed in &mut self.failed {
            if wish.generation > failed.generation {
                failed.released |= named != Some(failed.release);
                failed.generation = wish.generation;
            }
        }
    }

    /// Whether the release is not to be tried again by itself.
    pub fn refuses(&self, release: &ReleaseId) -> bool {
        let wish = self.wish.as_ref().and_then(|wish| wish.rollout.as_ref());
        // Another rollout that brings it is a new decision.
        let decided = |failed: &Failed| wish.is_some() && wish != failed.rollout.as_ref();
        self.failed.iter().any(|failed| failed.release == *release && !decided(failed))
    }

    pub(crate) fn failed_here(&self, release: &ReleaseId) -> bool {
        self.failed.iter().any(|failed| failed.release == *release)
    }

    /// Acts on the wish where nothing irrevocable is under way.
    pub(crate) fn pursue(&mut self) -> Vec<Action> {
        match self.wish.as_ref().map(|wish| wish.action) {
            None => Vec::new(),
            Some(Desired::Hold {}) => self.drop_fetch(),
            Some(Desired::Stage { release }) => self.obtain(release),
            Some(Desired::Switch { release }) => {
                let mut actions = self.obtain(release);
                actions.extend(self.ask());
                actions
            }
            Some(Desired::Revert { from, to }) => self.go_back(from, to),
            Some(Desired::Remove {}) => self.take_off(),
        }
    }

    fn drop_fetch(&mut self) -> Vec<Action> {
        if matches!(self.state, State::Fetching { .. }) {
            self.enter(self.rest());
            return vec![Action::Cancel];
        }
        Vec::new()
    }

    /// Drops what is fetched or staged and rests.
    fn settle(&mut self) -> Vec<Action> {
        let busy = matches!(self.state, State::Fetching { .. } | State::Staged { .. });
        self.enter(self.rest());
        if busy { vec![Action::Cancel, Action::Prune] } else { Vec::new() }
    }

    /// Brings `release` to the disk, unless it runs, is there, or failed here.
    fn obtain(&mut self, release: ReleaseId) -> Vec<Action> {
        let runs = self.running.as_ref().is_some_and(|known| known.id == release);
        if runs || self.refuses(&release) {
            return self.settle();
        }
        if self.target() == Some(release) {
            return self.stage_again();
        }
        if self.failure.as_ref().is_some_and(|failure| failure.release == release) {
            self.failure = None;
        }
        self.enter(State::Fetching { target: release, held: None });
        vec![Action::Cancel, Action::Stage { release, back: self.goes_back() }]
    }

    /// Whether the wish orders a step down.
    pub(crate) fn goes_back(&self) -> bool {
        matches!(self.wish.as_ref().map(|wish| wish.action), Some(Desired::Revert { .. }))
    }

    /// A revert that the directive orders: no permit, and no download of what is on disk.
    fn go_back(&mut self, from: ReleaseId, to: Option<ReleaseId>) -> Vec<Action> {
        let Some(running) = self.running.clone().filter(|known| known.id == from) else {
            return self.settle();
        };
        // What failed here is nothing to go back to, whatever the coordinator knew when it planned.
        let (asked, to) = (to, to.filter(|to| !self.failed_here(to)));
        let staged = match &self.state {
            State::Staged { target } => Some(target.clone()),
            State::Idle {}
            | State::Fetching { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => None,
        };
        let on_disk = [self.previous.clone(), staged].into_iter().flatten();
        let found = match to {
            None => self.previous.clone(),
            Some(to) => on_disk.into_iter().find(|known| known.id == to),
        };
        if running.one_way {
            return self.refuse_back(from, "the running release is one-way; publish a newer one");
        }
        match (found, to) {
            (Some(known), _) if known.seq < self.floor => {
                self.refuse_back(from, "below_floor: the release before is below the floor")
            }
            (Some(known), _) if self.damaged == Some(known.id) => self.obtain(known.id),
            (Some(known), _) => self.enter_reverting(running, Some(known), Cause::Told {}),
            // Better what is bad than nothing: a person must say.
            (None, None) if asked.is_some() => self
                .refuse_back(from, "what it should go back to failed here, and no other is known"),
            (None, None) => self.enter_reverting(running, None, Cause::Told {}),
            (None, Some(to)) => self.obtain(to),
        }
    }

    /// Nothing of the service shall be live here, whatever ran before what runs.
    fn take_off(&mut self) -> Vec<Action> {
        match self.running.clone() {
            Some(running) => {
                self.failure = None;
                self.enter_reverting(running, None, Cause::Told {})
            }
            None => self.settle(),
        }
    }

    fn refuse_back(&mut self, release: ReleaseId, why: &str) -> Vec<Action> {
        let step = FailedStep::Revert;
        self.failure = Some(Failure { release, step, why: why.to_owned(), reverted: false });
        self.settle()
    }

    fn on_linked(&mut self) -> Vec<Action> {
        let mut actions = self.stage_again();
        actions.extend(self.ask());
        actions
    }

    /// Asks for a permit where that is what is missing.
    pub(crate) fn ask(&mut self) -> Vec<Action> {
        match (&self.state, &self.wish) {
            (
                State::Staged { target },
                Some(Wish { action: Desired::Switch { release }, generation, .. }),
            ) if target.id == *release && self.paused.is_none() => {
                vec![Action::Ask { release: *release, generation: *generation }]
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

    fn on_permitted(&mut self, release: ReleaseId, generation: u64, now: Timestamp) -> Vec<Action> {
        let wished = self.wish.as_ref().is_some_and(|wish| {
            self.paused.is_none()
                && wish.generation == generation
                && wish.action == Desired::Switch { release }
        });
        match &self.state {
            State::Staged { target } if wished && target.id == release => {
                let target = target.clone();
                self.switched = Some(SwitchTimes { started: now, passed: None });
                self.switched_for = self.wished_for();
                self.contact = Contact::since_switch(self.wish.as_ref());
                self.health = Verdict::Inconclusive;
                self.enter(State::Switching { target: target.clone(), deadline: None });
                vec![Action::Activate { target }]
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

    fn on_denied(&mut self, generation: u64, again: Again) -> Vec<Action> {
        let asks = self.ask();
        if asks.is_empty() {
            return asks;
        }
        // The answer is to an older wish: the newer one was not asked about yet.
        if self.wish.as_ref().is_some_and(|wish| wish.generation > generation) {
            return asks;
        }
        vec![Action::AskAfter(again)]
    }

    fn on_passed(&mut self, now: Timestamp) -> Vec<Action> {
        match &self.state {
            State::Probing { deadline, .. } if self.contact.is_missing() => {
                let deadline = *deadline;
                self.wait_for_contact(deadline, now)
            }
            State::Probing { target, .. } => {
                let target = target.clone();
                self.bake(target, now)
            }
            State::Baking { target, .. } => {
                let target = target.clone();
                self.commit(&target)
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

    pub(crate) fn bake(&mut self, target: Known, now: Timestamp) -> Vec<Action> {
        self.health = Verdict::Pass;
        if let Some(times) = &mut self.switched {
            times.passed = Some(now);
        }
        let until = now.plus_secs(self.wish.as_ref().map_or(0, |wish| wish.bake_secs));
        if until == now {
            return self.commit(&target);
        }
        self.enter(State::Baking { target, until });
        vec![Action::Watch { until, interval_secs: self.interval() }]
    }

    fn commit(&mut self, target: &Known) -> Vec<Action> {
        self.health = Verdict::Pass;
        let stuck = self.unproven == Some(target.id);
        let not_back = |failure: &Failure| {
            stuck && failure.step == FailedStep::Revert && failure.release != target.id
        };
        self.failure = self.failure.take().filter(not_back);
        self.came_back();
        self.unproven = None;
        self.floor = self.floor.max(target.floor);
        self.failed.retain(|failed| failed.release != target.id);
        self.enter(State::Committed {});
        let mut actions = vec![Action::Prune];
        actions.extend(self.pursue());
        actions
    }

    pub(crate) fn on_failed(&mut self, why: String, at_switch: bool) -> Vec<Action> {
        let (target, step) = match &self.state {
            State::Switching { target, .. } => (target.clone(), FailedStep::Switch),
            State::Probing { target, .. } if !at_switch => (target.clone(), FailedStep::Probe),
            State::Baking { target, .. } if !at_switch => (target.clone(), FailedStep::Bake),
            State::Probing { .. }
            | State::Baking { .. }
            | State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => return Vec::new(),
        };
        self.make_live(&target);
        self.health = Verdict::Fail;
        self.remember(target.id, self.switched_for.clone());
        let release = target.id;
        let failure = Failure { release, step, why: why.clone(), reverted: false };
        self.failure =
            Some(self.failure.take().and_then(|f| self.told_on(f, &why)).unwrap_or(failure));
        // Better what is bad than nothing: it is here because going back from another release failed.
        if self.unproven == Some(target.id) {
            let mut actions = self.stick(StuckCause::Revert);
            let wished = self.wish.as_ref().and_then(Wish::names);
            // Another release may be what helps.
            if wished.is_some_and(|wished| wished != target.id && !self.refuses(&wished)) {
                actions.extend(self.pursue());
            }
            return actions;
        }
        if target.one_way {
            return self.stick(StuckCause::Revert);
        }
        self.revert(target, Cause::Failed { step, why })
    }

    pub(crate) fn remember(&mut self, release: ReleaseId, rollout: Option<RolloutId>) {
        let generation = self.wish.as_ref().map_or(0, |wish| wish.generation);
        // A wish that has already moved on has let the release go.
        let released = self.wish.as_ref().and_then(Wish::names) != Some(release);
        self.failed.retain(|failed| failed.release != release);
        if self.failed.len() == FAILED_MAX {
            self.failed.remove(0);
        }
        self.failed.push(Failed { release, generation, released, rollout });
    }

    /// Goes back from what has just been made live to what ran before.
    pub(crate) fn revert(&mut self, from: Known, cause: Cause) -> Vec<Action> {
        let to = self.previous.clone().filter(|_| !self.is_unwanted());
        let told = self.wish.as_ref().map(|wish| wish.action);
        if let (None, Cause::Told {}, Some(Desired::Revert { from: left, to: Some(_) })) =
            (&to, &cause, told)
            && left == from.id
        {
            // What the order names is not here: it is brought first, and what is live stays so long.
            return self.leave_unproven(left);
        }
        self.enter_reverting(from, to, cause)
    }

    fn enter_reverting(&mut self, from: Known, to: Option<Known>, cause: Cause) -> Vec<Action> {
        if self.health == Verdict::Pass {
            self.health = Verdict::Inconclusive;
        }
        self.enter(State::Reverting { from, to: to.clone(), cause });
        let (probe_secs, interval_secs) = (self.probe_secs(), self.interval());
        vec![Action::Cancel, Action::Restore { to, probe_secs, interval_secs }]
    }

    fn on_restored(&mut self) -> Vec<Action> {
        match self.state.clone() {
            State::Reverting { from, to, cause } => {
                self.health = if to.is_some() { Verdict::Pass } else { Verdict::Inconclusive };
                self.running = to;
                self.previous = None;
                self.switched = None;
                self.unproven = None;
                self.stopped = None;
                match cause {
                    Cause::Failed { step, why } => {
                        let release = from.id;
                        self.failure = Some(Failure { release, step, why, reverted: true });
                    }
                    Cause::Told {} => {
                        if self.failure.as_ref().is_some_and(|f| f.release == from.id) {
                            self.came_back();
                        }
                    }
                }
                self.enter(self.rest());
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
            | State::Stuck { .. } => Vec::new(),
        }
    }

    fn on_restore_failed(&mut self, why: &str, back: bool) -> Vec<Action> {
        match self.state.clone() {
            State::Reverting { from, to, cause } => {
                let before = match cause {
                    Cause::Failed { step, why } => before_back(step, &why),
                    Cause::Told {} => String::new(),
                };
                self.failure = Some(Failure {
                    release: from.id,
                    step: FailedStep::Revert,
                    why: format!("{before}{BACK_FAILED}{why}"),
                    reverted: false,
                });
                self.health = Verdict::Fail;
                if back {
                    self.running = to;
                    self.previous = None;
                }
                self.stick(StuckCause::Revert)
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Stuck { .. } => Vec::new(),
        }
    }

    /// Gives up until a person, or for a failed revert another release, helps.
    pub fn stick(&mut self, cause: StuckCause) -> Vec<Action> {
        let generation = self.wish.as_ref().map_or(0, |wish| wish.generation);
        match cause {
            StuckCause::Revert | StuckCause::Loop => {
                self.unproven = self.running.as_ref().map(|known| known.id);
            }
            StuckCause::Journal | StuckCause::Tree => {}
        }
        self.enter(State::Stuck { cause, generation });
        Vec::new()
    }

    pub(crate) fn probe_secs(&self) -> u64 {
        self.wish.as_ref().map_or(DEFAULT_PROBE_SECS, |wish| wish.probe_deadline_secs)
    }

    pub(crate) fn interval(&self) -> u64 {
        self.wish.as_ref().map_or(DEFAULT_INTERVAL_SECS, |wish| wish.probe_interval_secs)
    }
}

/// A deadline from before a restart. One that is over while nobody watched, or lies too far ahead, says
/// that the clock was set or the host was down: the whole time counts again.
fn held(deadline: Timestamp, now: Timestamp, secs: u64) -> Timestamp {
    let whole = now.plus_secs(secs);
    if deadline <= now { whole } else { deadline.min(whole) }
}
