//! One service on a simulated machine: the real machine of the agent, a journal that survives a crash, a live
//! link, what each release does here and what the owner lets it do. Owns how actions become events; never
//! judges.

use std::collections::{BTreeMap, VecDeque};

use groundswell_common::condition::{Held, Lack, ServiceCondition, UnitCondition, UnitLoad};
use groundswell_common::directive::{Action as Desired, ServiceWish};
use groundswell_common::report::{FailedStep, Failure, Standing, Verdict};
use groundswell_common::{ReleaseId, RolloutId, ServiceName, Timestamp, Version};
use groundswell_machine::{Action, Again, Event, Known, Service, State, StuckCause, Wish};

use crate::draw::unit;

/// Milliseconds until what is held is tried again.
const HELD_MILLIS: u64 = 30_000;
/// Milliseconds after which a download that does not come through is given up for now.
const FETCH_MILLIS: u64 = 20_000;
/// Milliseconds after its commit at which a release that fails later does.
const LATER_MILLIS: u64 = 20_000;
/// Milliseconds that a service which was killed is away.
const KILLED_MILLIS: u64 = 10_000;

/// What a host says where other bytes come than the digest names: a person who reads that waits no longer.
pub(crate) const WRONG_BYTES: &str = "other bytes came than its digest names";

/// What a release does on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Nature {
    /// It works.
    Good,
    /// What comes of it is not what its digest names: it cannot be staged.
    WrongBytes,
    /// It asks for what the supervisor here does not know: it cannot be staged.
    Unstageable,
    /// It does not start.
    DeadAtSwitch,
    /// Its start job never ends.
    Hangs,
    /// It starts and never passes its probes.
    NeverPasses,
    /// It passes and fails while it bakes.
    FailsInBake,
    /// It fails after it was committed.
    FailsLater,
}

/// What the owner of the host, its disk and its network give the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lot {
    /// Whether the owner allows its unit.
    pub(crate) allowed: bool,
    /// Whether its unit is installed.
    pub(crate) installed: bool,
    /// Whether there is room for another release.
    pub(crate) room: bool,
    /// Whether bytes arrive.
    pub(crate) fetches: bool,
    /// Whether somebody changed what is live.
    pub(crate) drifted: bool,
    /// Milliseconds that one fsync takes.
    pub(crate) fsync_millis: u64,
    /// Milliseconds until it asks once more for a permit that was denied.
    pub(crate) ask_later_millis: u64,
    /// Whether what runs ends when it is told to; else it is killed once its time is up.
    pub(crate) obeys: bool,
    /// Milliseconds for which a person will have the service stopped that bakes next.
    pub(crate) stopped_millis: Option<u64>,
}

impl Default for Lot {
    fn default() -> Self {
        let (allowed, installed, room, fetches) = (true, true, true, true);
        let (drifted, fsync_millis, ask_later_millis) = (false, 1, 30_000);
        let (obeys, stopped_millis) = (true, None);
        Self {
            allowed,
            installed,
            room,
            fetches,
            drifted,
            fsync_millis,
            ask_later_millis,
            obeys,
            stopped_millis,
        }
    }
}

/// What the site will do at some time.
#[derive(Clone, Debug)]
enum Due {
    Event(Event),
    /// A question for a permit that was not answered.
    AskAgain,
    /// What a look at what is live and at rest shows.
    Look(Event),
    /// The rename of the live link, after the fsync of what comes before it.
    Rename(Known),
}

/// In which direction a release is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

/// A question for a permit on its way to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// For which service.
    pub(crate) service: ServiceName,
    /// For which release.
    pub(crate) release: ReleaseId,
    /// Under which generation.
    pub(crate) generation: u64,
    /// Tells questions apart.
    pub(crate) nonce: u64,
}

/// A permit that was given and is neither used nor void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permit {
    nonce: u64,
    void_at: Timestamp,
}

/// How what is live came here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Brought {
    /// Which release.
    pub(crate) release: ReleaseId,
    /// By which rollout; `None` for what a host outside every rollout gets.
    pub(crate) rollout: Option<RolloutId>,
}

/// What happened here that the world looks at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The live link was renamed to a release, under a permit.
    Renamed(Brought),
    /// The release failed after it had been switched to, or is one that this host can never run.
    Failed(ReleaseId),
    /// Nothing is live any more; what ran before.
    Emptied(ReleaseId),
    /// What is live committed without having passed its probes for its bake.
    Unearned(ReleaseId),
    /// A permit with this number is used up or given back.
    Done(u64),
}

/// One service on one machine.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    service: ServiceName,
    machine: Service,
    journal: Service,
    /// What the live link names.
    pub(crate) live: Option<ReleaseId>,
    /// What the link beside it names: the release before.
    before: Option<ReleaseId>,
    /// Releases that are complete on its disk.
    disk: BTreeMap<ReleaseId, Known>,
    due: VecDeque<(Timestamp, u64, Due)>,
    /// Work of an older number is forgotten.
    number: u64,
    up: bool,
    /// The agent dies after so many more actions.
    pub(crate) fuse: Option<u32>,
    slowness: u64,
    /// What it is given.
    pub(crate) lot: Lot,
    /// How what is live came here, where a switch brought it.
    pub(crate) brought: Option<Brought>,
    /// What it has committed since it was brought there: what bakes anew after a boot or a long sleep switches nothing.
    pub(crate) committed: Option<ReleaseId>,
    /// What was live when a release was brought here last.
    came_after: BTreeMap<ReleaseId, Option<ReleaseId>>,
    /// When the probes of a release passed, of what is live and what it would go back to.
    passed: BTreeMap<ReleaseId, Timestamp>,
    /// Since when what is live fails, and until when, where it does or will.
    ill: Option<(Timestamp, Option<Timestamp>)>,
    /// Looks of an older number are forgotten.
    looks: u64,
    /// By how many milliseconds its clock is ahead.
    ahead: i64,
    /// Whether its journal cannot be read at its next start.
    pub(crate) torn: bool,
    /// Whether a person must look before the journal is written again.
    frozen: bool,
    natures: BTreeMap<ReleaseId, Nature>,
    asks: Vec<Ask>,
    asked: u64,
    permit: Option<Permit>,
    seen: Vec<Seen>,
    /// Reports that the agent sent since it started.
    reports: u64,
    /// The first of them that says of the newest switch that it is done.
    probing_since: u64,
    seqs: BTreeMap<ReleaseId, (u64, Version)>,
}

impl Site {
    /// A service that runs nothing yet.
    #[must_use]
    pub(crate) fn new(service: ServiceName, slowness: u64) -> Self {
        Self {
            service,
            journal: Service::new(),
            machine: Service::new(),
            live: None,
            before: None,
            disk: BTreeMap::new(),
            due: VecDeque::new(),
            number: 0,
            up: true,
            fuse: None,
            slowness,
            lot: Lot::default(),
            brought: None,
            committed: None,
            came_after: BTreeMap::new(),
            passed: BTreeMap::new(),
            ill: None,
            looks: 0,
            ahead: 0,
            torn: false,
            frozen: false,
            natures: BTreeMap::new(),
            asks: Vec::new(),
            asked: 0,
            permit: None,
            seen: Vec::new(),
            reports: 0,
            probing_since: 1,
            seqs: BTreeMap::new(),
        }
    }

    /// It has run `first` for long.
    pub(crate) fn adopt(&mut self, first: &Known) {
        self.machine.adopt(first.clone(), None);
        self.journal = self.machine.clone();
        self.live = Some(first.id);
        self.disk.insert(first.id, first.clone());
        self.passed.insert(first.id, Timestamp::from_millis(0));
        self.seqs.insert(first.id, (first.seq, first.version.clone()));
    }

    /// Says what a release does here.
    pub(crate) fn meet(
        &mut self,
        release: ReleaseId,
        nature: Nature,
        (seq, version): (u64, Version),
    ) {
        self.natures.entry(release).or_insert(nature);
        self.seqs.insert(release, (seq, version));
    }

    /// What releases are and do is no matter of the machine's state: a copy knows what the other knows.
    pub(crate) fn meet_as(&mut self, other: &Self) {
        self.natures.clone_from(&other.natures);
        self.seqs.clone_from(&other.seqs);
    }

    /// What it says of itself.
    #[must_use]
    pub(crate) fn standing(&self) -> Standing {
        self.machine.standing(&self.service)
    }

    /// What the host has and lacks for it.
    pub(crate) fn condition(&self) -> ServiceCondition {
        let load = if self.lot.installed { UnitLoad::Loaded } else { UnitLoad::NotFound };
        let unit = UnitCondition { unit: unit(&self.service), load };
        let units = if self.lot.allowed { vec![unit] } else { Vec::new() };
        let paused = self.machine.paused.clone();
        let held = self.machine.held();
        let notes =
            if self.is_too_slow() { vec!["its disk is too slow".to_owned()] } else { Vec::new() };
        ServiceCondition {
            paused,
            units,
            held,
            notes,
            ..ServiceCondition::new(self.service.clone())
        }
    }

    /// Whether its disk is too slow for a permit, and it says so.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.machine.is_too_slow()
    }

    /// Where its machine stands.
    #[must_use]
    pub(crate) fn state(&self) -> &State {
        &self.machine.state
    }

    /// Whether what is live has not proved itself.
    pub(crate) fn is_unproven(&self) -> bool {
        self.machine.is_unproven()
    }

    /// The rollout behind its newest wish.
    #[must_use]
    pub(crate) fn wished_by(&self) -> Option<&RolloutId> {
        self.machine.wish.as_ref().and_then(|wish| wish.rollout.as_ref())
    }

    /// Whether its newest wish is that nothing of the service is here.
    pub(crate) fn is_told_off(&self) -> bool {
        self.machine.wish.as_ref().map(|wish| wish.action) == Some(Desired::Remove {})
    }

    /// Whether the release is live here and has proved itself.
    pub(crate) fn has_committed(&self, release: ReleaseId) -> bool {
        self.live == Some(release) && matches!(self.machine.state, State::Committed {})
    }

    /// Whether it lacks something, and says so.
    pub(crate) fn is_held(&self) -> bool {
        self.machine.held().is_some()
    }

    /// Whether a person on the host put back what is live.
    pub(crate) fn was_put_back_by_hand(&self) -> bool {
        self.machine.was_put_back_by_hand()
    }

    /// Whether the owner has paused it.
    #[must_use]
    pub(crate) fn is_paused(&self) -> bool {
        self.machine.paused.is_some()
    }

    /// Whether the live release is complete on its disk.
    #[must_use]
    pub(crate) fn live_is_whole(&self) -> bool {
        self.live.is_none_or(|live| self.disk.contains_key(&live))
    }

    /// Whether it serves with something that has not proved itself: between its switch and its commit
    /// or return.
    #[must_use]
    pub(crate) fn in_flight(&self) -> bool {
        match &self.machine.state {
            State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Reverting { .. } => true,
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Committed {}
            | State::Stuck { .. } => false,
        }
    }

    /// Takes its part of a directive that was accepted.
    pub(crate) fn wish(&mut self, generation: u64, wish: &ServiceWish, now: Timestamp) {
        let wish = Wish {
            generation,
            action: wish.action,
            probe_deadline_secs: wish.probe_deadline_secs,
            bake_secs: wish.bake_secs,
            probe_interval_secs: wish.probe_interval_secs,
            confirm_by_contact: wish.confirm_by_contact,
            rollout: wish.rollout.clone(),
        };
        self.step(Event::Wish(wish), now);
    }

    /// A directive that was accepted says nothing of it.
    pub(crate) fn unwished(&mut self, generation: u64, now: Timestamp) {
        let withdrawn = self.machine.wish.as_ref().and_then(|wish| wish.withdrawn(generation));
        if let Some(wish) = withdrawn {
            self.step(Event::Wish(wish), now);
        }
    }

    /// The answer to a question: until when it may switch, or when to ask again.
    pub(crate) fn answer(&mut self, ask: &Ask, answer: Result<Timestamp, Again>, now: Timestamp) {
        let (release, generation) = (ask.release, ask.generation);
        match answer {
            Ok(void_at) if now < void_at => {
                self.permit = Some(Permit { nonce: ask.nonce, void_at });
                self.step(Event::Permitted { release, generation }, now);
                if !matches!(self.machine.state, State::Switching { .. }) {
                    self.give_back();
                }
            }
            Ok(_) => {
                self.seen.push(Seen::Done(ask.nonce));
                self.step(Event::Denied { generation, again: Again::Soon }, now);
            }
            Err(again) => self.step(Event::Denied { generation, again }, now),
        }
    }

    fn give_back(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.seen.push(Seen::Done(permit.nonce));
        }
    }

    /// The agent's report has this number.
    pub(crate) fn number_report(&mut self, number: u64) {
        self.reports = number;
    }

    /// The coordinator has one of the agent's reports.
    pub(crate) fn acknowledged(&mut self, report: u64, now: Timestamp) {
        if self.machine.wants_contact() && report >= self.probing_since {
            self.step(Event::Contact, now);
        }
    }

    /// Whether contact with the coordinator would bring it on.
    #[must_use]
    pub(crate) fn wants_contact(&self) -> bool {
        self.machine.wants_contact()
    }

    /// Whether the newest wish asks for contact after a switch.
    #[must_use]
    pub(crate) fn confirms_by_contact(&self) -> bool {
        self.machine.wish.as_ref().is_some_and(|wish| wish.confirm_by_contact)
    }

    /// Its network is back.
    pub(crate) fn linked(&mut self, now: Timestamp) {
        self.step(Event::Linked, now);
    }

    /// Its owner pauses it, or lets it go on.
    pub(crate) fn pause(&mut self, why: Option<&str>, now: Timestamp) {
        self.step(Event::Paused(why.map(str::to_owned)), now);
    }

    /// A person on the host wants the release before back.
    pub(crate) fn revert_by_hand(&mut self, now: Timestamp) {
        if self.machine.takes_revert_by_hand() {
            self.step(Event::RevertByHand("a person".to_owned()), now);
        }
    }

    /// Its process is killed; it comes back by itself.
    pub(crate) fn kill(&mut self, now: Timestamp) {
        let why = "it was killed".to_owned();
        self.ill = Some((now, Some(now.plus_millis(KILLED_MILLIS))));
        match &self.machine.state {
            State::Probing { .. } | State::Baking { .. } => self.step(Event::Failed { why }, now),
            State::Committed {} | State::Staged { .. } | State::Fetching { .. } => {
                self.step(Event::Ill { why }, now);
            }
            State::Idle {}
            | State::Switching { .. }
            | State::Reverting { .. }
            | State::Stuck { .. } => {}
        }
    }

    /// The machine stood still, and goes on: whoever watches sees that nobody watched.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        // An agent that is dead watched nothing before: its next start looks at the deadline.
        if !self.up {
            return;
        }
        if let State::Probing { .. } | State::Baking { .. } = self.machine.state {
            self.number += 1;
            // What it passed before, it passed before it slept.
            let live = self.live.and_then(|live| self.passed.get_mut(&live));
            live.into_iter().for_each(|passed| *passed = now);
            self.step(Event::Overslept, now);
        }
    }

    /// The agent dies: what was not in the journal is gone, and so is the work under way.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.machine = self.journal.clone();
        self.due.clear();
        self.asks.clear();
        self.permit = None;
        self.reports = 0;
        self.number += 1;
    }

    /// Whether the agent died in what it did.
    #[must_use]
    pub(crate) fn is_up(&self) -> bool {
        self.up
    }

    /// The agent starts again, with its clock so far ahead.
    pub(crate) fn restart(&mut self, ahead: i64, now: Timestamp) {
        self.up = true;
        self.probing_since = 1;
        self.ahead = ahead;
        if std::mem::take(&mut self.torn) || self.frozen {
            self.frozen = true;
            let mut machine = Service::new();
            let actions = machine.stick(StuckCause::Journal);
            let why = "its journal cannot be read".to_owned();
            let failed =
                |release| Failure { release, step: FailedStep::Revert, why, reverted: false };
            machine.failure = self.live.map(failed);
            return self.keep(machine, actions, now);
        }
        let (machine, actions) = self.journal.clone().resume(self.live, self.local(now));
        self.keep(machine, actions, now);
    }

    /// A person has looked at a journal that could not be read.
    pub(crate) fn unstick(&mut self, now: Timestamp) {
        if !std::mem::take(&mut self.frozen) {
            return;
        }
        let mut machine = Service::new();
        if let Some(known) = self.live.and_then(|live| self.disk.get(&live)) {
            let previous = self.before.and_then(|before| self.disk.get(&before)).cloned();
            machine.adopt(known.clone(), previous);
            // The person vouches for what runs.
            self.passed.insert(known.id, Timestamp::from_millis(0));
        }
        let (machine, actions) = machine.resume(self.live, self.local(now));
        self.keep(machine, actions, now);
    }

    fn local(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.as_millis().saturating_add_signed(self.ahead))
    }

    /// The world's time of a time by its clock.
    fn world(&self, local: Timestamp) -> Timestamp {
        Timestamp::from_millis(local.as_millis().saturating_add_signed(-self.ahead))
    }

    /// Questions for permits since it was asked last.
    pub(crate) fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// What happened since it was asked last.
    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// When something happens here by itself.
    #[must_use]
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.due.iter().map(|(at, _, _)| *at).min().filter(|_| self.up)
    }

    /// Lets one thing happen that is due.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let ripe = self.due.iter().position(|(at, _, _)| *at <= now);
        let Some((_, number, due)) = ripe.and_then(|at| self.due.remove(at)) else { return };
        match due {
            Due::AskAgain => self.step(Event::AskAgain, now),
            // Of work that was cancelled.
            Due::Event(_) | Due::Rename(_) if number != self.number => {}
            Due::Look(_) if number != self.looks => {}
            Due::Event(event) | Due::Look(event) => self.step(event, now),
            Due::Rename(target) => self.rename(&target, now),
        }
    }

    /// Step, save, act: as the agent's driver does it.
    fn step(&mut self, event: Event, now: Timestamp) {
        if !self.up {
            return;
        }
        let (machine, actions) = self.machine.clone().step(event, self.local(now));
        self.keep(machine, actions, now);
    }

    fn keep(&mut self, machine: Service, actions: Vec<Action>, now: Timestamp) {
        if self.machine.state.name() != machine.state.name() {
            self.probing_since = self.reports + 1;
        }
        let failed = |machine: &Service| {
            let failure = machine.standing(&self.service).failure;
            failure.filter(|failure| failure.step != FailedStep::Stage)
        };
        let (failure, before) = (failed(&machine), failed(&self.machine));
        if failure != before {
            self.seen.extend(failure.map(|failure| Seen::Failed(failure.release)));
        }
        let commits = |state: &State| matches!(state, State::Committed {});
        if commits(&machine.state) && !commits(&self.machine.state) {
            self.commits(machine.wish.as_ref(), &self.machine.state.clone(), now);
        }
        self.machine = machine;
        self.journal = self.machine.clone();
        for action in actions {
            match self.fuse {
                Some(0) => {
                    self.fuse = None;
                    return self.crash();
                }
                Some(left) => self.fuse = Some(left - 1),
                None => {}
            }
            self.act(action, now);
        }
    }

    /// Whether it has passed its probes, for its whole bake where it comes from there.
    fn commits(&mut self, wish: Option<&Wish>, from: &State, now: Timestamp) {
        let Some(live) = self.live else { return };
        self.committed = Some(live);
        let bake_secs = match from {
            State::Baking { .. } | State::Probing { .. } => wish.map_or(0, |wish| wish.bake_secs),
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => 0,
        };
        if self.nature(live) == Nature::FailsLater && self.ill.is_none() {
            self.ill = Some((now.plus_millis(LATER_MILLIS), None));
        }
        let baked = |passed: &Timestamp| passed.plus_secs(bake_secs) <= now;
        if !self.passed.get(&live).is_some_and(baked) {
            self.seen.push(Seen::Unearned(live));
        }
    }

    fn after(&mut self, millis: u64, now: Timestamp, event: Event) {
        let at = now.plus_millis(millis.saturating_mul(self.slowness));
        self.due.push_back((at, self.number, Due::Event(event)));
    }

    fn nature(&self, release: ReleaseId) -> Nature {
        self.natures.get(&release).copied().unwrap_or(Nature::Good)
    }

    fn act(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::Cancel => {
                self.number += 1;
                self.give_back();
            }
            Action::Stage { release, back } => {
                let way = if back { Way::Back } else { Way::Forward };
                // One job at a time, as in the agent's driver: what was under way ends first.
                self.number += 1;
                self.forget_tries();
                self.stage(release, way, now);
            }
            Action::Ask { release, generation } => {
                self.asked += 1;
                let (service, nonce) = (self.service.clone(), self.asked);
                self.asks.push(Ask { service, release, generation, nonce });
            }
            Action::AskAfter(again) => {
                let millis = match again {
                    Again::Soon => 1_000,
                    Again::Later => self.lot.ask_later_millis,
                };
                self.due.retain(|(_, _, due)| !matches!(due, Due::AskAgain));
                self.due.push_back((now.plus_millis(millis), self.number, Due::AskAgain));
            }
            Action::Activate { target } => self.activate(target, now),
            Action::Start { deadline } => self.start(self.world(deadline), now),
            Action::StageAfter(_) => {
                let at = now.plus_millis(HELD_MILLIS);
                self.forget_tries();
                self.due.push_back((at, self.number, Due::Event(Event::StageAgain)));
            }
            Action::TakeLinkBack => {
                self.live = self.machine.running.as_ref().map(|known| known.id);
                let live = self.live;
                self.after(10, now, Event::Interrupted { live });
            }
            Action::Interrupt => {
                self.number += 1;
                self.give_back();
                let live = self.live;
                self.after(10, now, Event::Interrupted { live });
            }
            Action::Probe { deadline, .. } => self.probe(self.world(deadline), now),
            Action::AwaitStart { .. } => {
                let stopped_millis = self.lot.stopped_millis.take().unwrap_or_default();
                self.after(stopped_millis, now, Event::Well);
            }
            Action::Watch { until, .. } => self.watch(self.world(until), now),
            Action::Guard { until, known, .. } => self.guard(self.world(until), known, now),
            Action::Restore { to, .. } => self.restore(to, now),
            // What is stuck is started again here by whoever wishes for it.
            Action::Revive | Action::Ensure => {}
            Action::Prune => {
                let kept = self.machine.kept();
                self.disk
                    .retain(|release, _| kept.contains(release) || Some(*release) == self.live);
            }
        }
    }

    /// What is held is tried again by one timer, as in the agent's driver.
    fn forget_tries(&mut self) {
        self.due.retain(|(_, _, due)| !matches!(due, Due::Event(Event::StageAgain)));
    }

    /// What the host lacks, whatever the release is like.
    fn lacks(&self, seq: u64, way: Way) -> Option<Lack> {
        let running = self.machine.running.as_ref().map(|known| known.seq);
        match way {
            Way::Forward if running.is_some_and(|running| seq < running) => Some(Lack::StepDown),
            Way::Forward | Way::Back if !self.lot.allowed => Some(Lack::UnitNotAllowed),
            Way::Forward | Way::Back if !self.lot.installed => Some(Lack::UnitNotLoaded),
            Way::Forward | Way::Back if !self.lot.room => Some(Lack::Room),
            Way::Forward | Way::Back if self.lot.drifted => Some(Lack::Drift),
            Way::Forward | Way::Back => None,
        }
    }

    fn hold(&mut self, release: ReleaseId, lack: Lack, (millis, now): (u64, Timestamp)) {
        let held = Held { release, lack, why: lack.words().to_owned() };
        self.after(millis, now, Event::StageHeld(held));
    }

    fn stage(&mut self, release: ReleaseId, way: Way, now: Timestamp) {
        if !self.lot.fetches {
            return self.hold(release, Lack::Bytes, (FETCH_MILLIS, now));
        }
        let known = self.seqs.get(&release).map(|(seq, version)| Known {
            id: release,
            version: version.clone(),
            seq: *seq,
            floor: 0,
            one_way: false,
        });
        let Some(known) = known else { return };
        if let Some(lack) = self.lacks(known.seq, way) {
            return self.hold(release, lack, (100, now));
        }
        if self.nature(release) == Nature::WrongBytes {
            let held = Held { release, lack: Lack::Bytes, why: WRONG_BYTES.to_owned() };
            return self.after(1_500, now, Event::StageHeld(held));
        }
        if self.nature(release) == Nature::Unstageable {
            let why = "a switch by overlap needs systemd".to_owned();
            return self.after(1_500, now, Event::StageFailed { release, why });
        }
        self.disk.insert(release, known.clone());
        self.after(1_500, now, Event::Staged(known));
    }

    /// The last look, and the fsync before the rename.
    fn activate(&mut self, target: Known, now: Timestamp) {
        if let Some(lack) = self.lacks(target.seq, Way::Forward) {
            self.give_back();
            return self.hold(target.id, lack, (1, now));
        }
        let at = now.plus_millis(self.lot.fsync_millis);
        self.due.push_back((at, self.number, Due::Rename(target)));
    }

    /// Renames, unless the permit ran out meanwhile.
    fn rename(&mut self, target: &Known, now: Timestamp) {
        if self.permit.is_none_or(|permit| now >= permit.void_at) {
            self.give_back();
            return self.step(Event::PermitLate, now);
        }
        self.passed.remove(&target.id);
        self.before = self.live;
        self.came_after.insert(target.id, self.live);
        self.live = Some(target.id);
        self.ill = None;
        let rollout = self.machine.switched_for.clone();
        let brought = Brought { release: target.id, rollout };
        self.brought = Some(brought.clone());
        self.seen.push(Seen::Renamed(brought));
        self.give_back();
        self.step(Event::Replaced, now);
    }

    /// Starts what is live; what has not started by the deadline is given up. What ran before and does not obey
    /// its stop until then is killed, and what is live has its whole time from there.
    fn start(&mut self, deadline: Timestamp, now: Timestamp) {
        let Some(live) = self.live else { return };
        let killed = self.before.is_some() && !self.lot.obeys;
        let (deadline, now) = match killed {
            true => (deadline.plus_secs(self.stop_secs()), deadline.max(now)),
            false => (deadline, now),
        };
        let failed = |why: &str| Event::SwitchFailed { why: why.to_owned() };
        if !self.lot.installed {
            return self.after(200, now, failed("its unit is not found"));
        }
        match self.nature(live) {
            Nature::DeadAtSwitch => self.after(200, now, failed("it does not start")),
            Nature::Hangs => {
                let event = failed("its start job does not end");
                self.due.push_back((deadline.max(now), self.number, Due::Event(event)));
            }
            Nature::Good
            | Nature::WrongBytes
            | Nature::Unstageable
            | Nature::NeverPasses
            | Nature::FailsInBake
            | Nature::FailsLater => self.after(200, now, Event::Switched { killed }),
        }
    }

    /// Seconds after which what does not obey its stop is killed.
    fn stop_secs(&self) -> u64 {
        self.machine.wish.as_ref().map_or(0, |wish| wish.probe_deadline_secs)
    }

    fn restore(&mut self, to: Option<Known>, now: Timestamp) {
        let now = match self.live.is_some() && !self.lot.obeys {
            true => now.plus_secs(self.stop_secs()),
            false => now,
        };
        let (left, to) = (self.live, to.map(|to| to.id));
        let told_off = self.is_told_off();
        if let (Some(left), None, false) = (left, to, told_off) {
            // Something else ran here before what is left.
            if self.came_after.get(&left).is_some_and(Option::is_some) {
                self.seen.push(Seen::Emptied(left));
            }
        }
        self.live = to;
        self.before = None;
        self.brought = None;
        let live = self.live;
        self.passed.retain(|release, _| Some(*release) == live);
        self.ill = None;
        if live.is_some() && !self.lot.installed {
            let why = "its unit is not found".to_owned();
            return self.after(300, now, Event::RestoreFailed { why, back: true });
        }
        // What comes back passes its probes, or it is not back.
        self.passed.extend(live.map(|live| (live, now)));
        self.after(300, now, Event::Restored);
    }

    fn probe(&mut self, deadline: Timestamp, now: Timestamp) {
        let never = self.live.is_some_and(|live| self.nature(live) == Nature::NeverPasses);
        let at = now.plus_millis(800 * self.slowness);
        let late = never || at > deadline;
        let event = match late {
            true => Event::Failed { why: "its probes do not pass".to_owned() },
            false => Event::Passed,
        };
        if let Some(live) = self.live.filter(|_| !late) {
            self.passed.insert(live, at);
        }
        let at = if late { deadline.max(now) } else { at };
        self.due.push_back((at, self.number, Due::Event(event)));
    }

    fn watch(&mut self, until: Timestamp, now: Timestamp) {
        let fails = self.live.is_some_and(|live| self.nature(live) == Nature::FailsInBake);
        let half = now.plus_millis(until.millis_since(now) / 2);
        let (at, event) = match (fails, self.lot.stopped_millis) {
            (_, Some(_)) => (half, Event::Stopped { unit: "its unit".to_owned() }),
            (true, None) => (half, Event::Failed { why: "it dies while it bakes".to_owned() }),
            (false, None) => (until.max(now), Event::Passed),
        };
        self.due.push_back((at, self.number, Due::Event(event)));
    }

    /// Looks when what is seen becomes another thing than what is known.
    fn guard(&mut self, until: Timestamp, known: Option<Verdict>, now: Timestamp) {
        self.looks += 1;
        let fails = |at: Timestamp| {
            let (since, end) = self.ill?;
            Some(since <= at && end.is_none_or(|end| at < end))
        };
        let soon = now.plus_millis(1_000);
        let ill = fails(soon).unwrap_or(false);
        let change = self.ill.and_then(|(since, end)| if ill { end } else { Some(since) });
        let (at, ill) = match (known, change) {
            (None, _) => (soon, ill),
            (Some(Verdict::Fail), _) if !ill => (soon, false),
            (Some(Verdict::Pass), _) if ill => (soon, true),
            (Some(_), Some(change)) if soon < change && change < until => (change, !ill),
            (Some(_), _) => return,
        };
        let event = match ill {
            true => Event::Ill { why: "it fails its probes".to_owned() },
            false => Event::Well,
        };
        self.due.push_back((at, self.looks, Due::Look(event)));
    }
}
