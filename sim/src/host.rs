//! A simulated host: the real machine, a journal that survives a crash, a live link, and what each
//! release does on it. Owns how actions become events; never judges.

use std::collections::{BTreeMap, VecDeque};

use groundswell_common::directive::ServiceWish;
use groundswell_common::report::{FailedStep, Failure, Standing, Verdict};
use groundswell_common::{HostId, ReleaseId, ServiceName, Timestamp, Version};
use groundswell_machine::{Action, Again, Event, Known, Service, State, StuckCause, Wish};

/// What a release does on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// It works.
    Good,
    /// It cannot be staged.
    Unstageable,
    /// It does not start.
    DeadAtSwitch,
    /// It starts and never passes its probes.
    NeverPasses,
    /// It passes and fails while it bakes.
    FailsInBake,
    /// It fails after it was committed.
    FailsLater,
}

/// What the host will do at some time.
#[derive(Clone, Debug)]
enum Due {
    Event(Event),
    /// A question for a permit that was not answered.
    AskAgain,
}

/// A question for a permit on its way to the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// For which release.
    pub release: ReleaseId,
    /// Under which generation.
    pub generation: u64,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its identity.
    pub id: HostId,
    service: ServiceName,
    machine: Service,
    journal: Service,
    /// What the live link names.
    pub live: Option<ReleaseId>,
    /// What the link beside it names: the release before.
    before: Option<ReleaseId>,
    /// Releases that are complete on its disk.
    disk: BTreeMap<ReleaseId, Known>,
    due: VecDeque<(Timestamp, u64, Due)>,
    /// Work of an older number is forgotten.
    number: u64,
    /// The newest generation that it accepted.
    pub accepted: u64,
    /// Whether its network is up.
    pub connected: bool,
    /// Whether it runs at all.
    pub up: bool,
    /// The agent dies after so many more actions.
    pub fuse: Option<u32>,
    /// How many times as long its work takes.
    pub slowness: u64,
    /// When the probes of a release passed, of what is live and what it would go back to.
    passed: BTreeMap<ReleaseId, Timestamp>,
    /// By how many milliseconds its clock is ahead.
    ahead: i64,
    /// What that will be at its next start: while the agent runs, its clock is steady.
    pub next_ahead: i64,
    /// Whether its journal cannot be read at its next start.
    pub torn: bool,
    /// Whether a person must look before the journal is written again.
    frozen: bool,
    natures: BTreeMap<ReleaseId, Nature>,
    asks: Vec<Ask>,
    /// Reports that it sent since its agent started.
    reports: u64,
    /// The first of them that says of the newest switch that it is done.
    probing_since: u64,
    seqs: BTreeMap<ReleaseId, (u64, Version)>,
}

impl Host {
    /// A host that runs `first`, committed long ago.
    #[must_use]
    pub fn new(id: HostId, service: ServiceName, first: Known, slowness: u64) -> Self {
        let mut machine = Service::new();
        machine.adopt(first.clone(), None);
        let disk = BTreeMap::from([(first.id, first.clone())]);
        Self {
            id,
            service,
            journal: machine.clone(),
            machine,
            live: Some(first.id),
            before: None,
            disk,
            due: VecDeque::new(),
            number: 0,
            accepted: 0,
            connected: true,
            up: true,
            fuse: None,
            slowness,
            passed: BTreeMap::new(),
            ahead: 0,
            next_ahead: 0,
            torn: false,
            frozen: false,
            natures: BTreeMap::new(),
            asks: Vec::new(),
            reports: 0,
            probing_since: 1,
            seqs: BTreeMap::from([(first.id, (first.seq, first.version))]),
        }
    }

    /// Says what a release does here.
    pub fn meet(&mut self, release: ReleaseId, nature: Nature, (seq, version): (u64, Version)) {
        self.natures.entry(release).or_insert(nature);
        self.seqs.insert(release, (seq, version));
    }

    /// What it says of itself.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.machine.standing(&self.service)
    }

    /// Where its machine stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.machine.state
    }

    /// Whether the live release is complete on its disk.
    #[must_use]
    pub fn live_is_whole(&self) -> bool {
        self.live.is_none_or(|live| self.disk.contains_key(&live))
    }

    /// When the probes of what is live passed.
    #[must_use]
    pub fn passed_at(&self) -> Option<Timestamp> {
        self.passed.get(&self.live?).copied()
    }

    /// Whether it serves with something that has not proved itself: between its switch and its commit
    /// or return.
    #[must_use]
    pub fn in_flight(&self) -> bool {
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

    /// Takes a directive, unless it is older than one before.
    pub fn directive(&mut self, generation: u64, wish: &ServiceWish, now: Timestamp) {
        if generation < self.accepted {
            return;
        }
        self.accepted = generation;
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

    /// The answer to a question for a permit.
    pub fn permit(&mut self, ask: Ask, granted: bool, now: Timestamp) {
        let (release, generation) = (ask.release, ask.generation);
        let event = match granted {
            true => Event::Permitted { release, generation },
            false => Event::Denied { generation, again: Again::Later },
        };
        self.step(event, now);
    }

    /// The number of the report that it sends now.
    pub fn number_report(&mut self) -> u64 {
        self.reports += 1;
        self.reports
    }

    /// The coordinator has one of its reports.
    pub fn acknowledged(&mut self, report: u64, now: Timestamp) {
        if self.machine.wants_contact() && report >= self.probing_since {
            self.step(Event::Contact, now);
        }
    }

    /// Whether contact with the coordinator would bring it on.
    #[must_use]
    pub fn wants_contact(&self) -> bool {
        self.machine.wants_contact()
    }

    /// Whether the newest wish asks for contact after a switch.
    #[must_use]
    pub fn confirms_by_contact(&self) -> bool {
        self.machine.wish.as_ref().is_some_and(|wish| wish.confirm_by_contact)
    }

    /// Its network is back.
    pub fn linked(&mut self, now: Timestamp) {
        self.step(Event::Linked, now);
    }

    /// The agent dies: what was not in the journal is gone, and so is the work under way.
    pub fn crash(&mut self) {
        self.up = false;
        self.machine = self.journal.clone();
        self.due.clear();
        self.asks.clear();
        self.reports = 0;
        self.number += 1;
    }

    /// The agent starts again.
    pub fn restart(&mut self, now: Timestamp) {
        self.up = true;
        self.probing_since = 1;
        self.ahead = self.next_ahead;
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
    pub fn unstick(&mut self, now: Timestamp) {
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
    pub fn take_asks(&mut self) -> Vec<Ask> {
        std::mem::take(&mut self.asks)
    }

    /// When something happens here by itself.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.due.iter().map(|(at, _, _)| *at).min().filter(|_| self.up)
    }

    /// Lets one thing happen that is due.
    pub fn advance(&mut self, now: Timestamp) {
        let ripe = self.due.iter().position(|(at, _, _)| *at <= now);
        let Some((_, number, due)) = ripe.and_then(|at| self.due.remove(at)) else { return };
        match due {
            Due::AskAgain => self.step(Event::AskAgain, now),
            Due::Event(event) if number == self.number => self.step(event, now),
            // Of work that was cancelled.
            Due::Event(_) => {}
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

    fn after(&mut self, millis: u64, now: Timestamp, event: Event) {
        let at = now.plus_millis(millis.saturating_mul(self.slowness));
        self.due.push_back((at, self.number, Due::Event(event)));
    }

    fn nature(&self, release: ReleaseId) -> Nature {
        self.natures.get(&release).copied().unwrap_or(Nature::Good)
    }

    fn act(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::Cancel => self.number += 1,
            Action::Stage { release, .. } => self.stage(release, now),
            Action::Ask { release, generation } => self.asks.push(Ask { release, generation }),
            Action::StageAfter(_) => self.after(30_000, now, Event::StageAgain),
            Action::AskAfter(again) => {
                let millis = match again {
                    Again::Soon => 1_000,
                    Again::Later => 30_000,
                };
                self.due.push_back((now.plus_millis(millis), self.number, Due::AskAgain));
            }
            Action::Activate { target } => {
                self.passed.remove(&target.id);
                self.before = self.live;
                self.live = Some(target.id);
                let dead = self.nature(target.id) == Nature::DeadAtSwitch;
                let why = "it does not start".to_owned();
                let event = if dead { Event::SwitchFailed { why } } else { Event::Switched };
                self.after(200, now, event);
            }
            Action::Start { .. } => self.after(200, now, Event::Switched),
            Action::Interrupt => {
                self.number += 1;
                self.after(1, now, Event::Interrupted { live: self.live });
            }
            Action::Probe { deadline, .. } => self.probe(self.world(deadline), now),
            Action::Watch { until, .. } => self.watch(self.world(until), now),
            Action::Guard { until, known, .. } => {
                self.guard(self.world(until), known != Some(Verdict::Fail), now);
            }
            Action::Restore { to, .. } => {
                self.live = to.map(|to| to.id);
                self.before = None;
                let live = self.live;
                self.passed.retain(|release, _| Some(*release) == live);
                self.after(300, now, Event::Restored);
            }
            Action::Ensure => {}
            Action::Prune => {
                let kept = self.machine.kept();
                self.disk
                    .retain(|release, _| kept.contains(release) || Some(*release) == self.live);
            }
        }
    }

    fn stage(&mut self, release: ReleaseId, now: Timestamp) {
        let known = self.seqs.get(&release).map(|(seq, version)| Known {
            id: release,
            version: version.clone(),
            seq: *seq,
            floor: 0,
            one_way: false,
        });
        let whole = known.filter(|_| self.nature(release) != Nature::Unstageable);
        match whole {
            Some(known) => {
                self.disk.insert(release, known.clone());
                self.after(1_500, now, Event::Staged(known));
            }
            None => {
                let why = "its digest differs".to_owned();
                self.after(1_500, now, Event::StageFailed { release, why });
            }
        }
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
        let (at, event) = match fails {
            true => {
                let half = until.millis_since(now) / 2;
                (now.plus_millis(half), Event::Failed { why: "it dies while it bakes".to_owned() })
            }
            false => (until.max(now), Event::Passed),
        };
        self.due.push_back((at, self.number, Due::Event(event)));
    }

    fn guard(&mut self, until: Timestamp, well: bool, now: Timestamp) {
        let ill = self.live.is_some_and(|live| self.nature(live) == Nature::FailsLater);
        let at = now.plus_millis(20_000);
        if ill && well && at < until {
            let event = Event::Ill { why: "it dies after a while".to_owned() };
            self.due.push_back((at, self.number, Due::Event(event)));
        }
    }
}
