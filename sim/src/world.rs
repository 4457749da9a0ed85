//! The world of one seed: coordinator, hosts, the network between them, persons and faults, on one
//! clock. Owns the order of events; [`crate::check`] says what must hold.

mod contact;
mod hold;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::directive::ServiceWish;
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::report::Standing;
use groundswell_common::{HostId, OperatorName, ReleaseId, RolloutId, Timestamp};
use groundswell_machine::{Known, State};
use groundswell_rollout::{
    HostFact, Input, Moment, Outcome as RolloutOutcome, Phase, PhaseName, Plan, Progress,
    ProgressName, Rollout, Steer, busy, cares_about_link, check, desired, explain, fact,
    generation, may_switch, next_deadline, step,
};

use crate::check::Finding;
use crate::draw::{host_id, nature, planned, release};
use crate::host::{Ask, Host};
use crate::random::Random;
use contact::{Sent, Unconfirmed};

/// Lines of the trace that a failure shows.
const TRACE_MAX: usize = 40;
/// Facts that one report may hold.
const FACTS_MAX: usize = 4;
/// Hosts that are told something new after one event.
const TELLS_MAX: usize = 10_000;
/// Events of one seed with faults, and after them.
const EVENTS_MAX: usize = 1_500;
const CALM_EVENTS_MAX: usize = 60_000;

/// Kinds of faults, as counted.
pub const FAULTS: [&str; 12] = [
    "agents that died",
    "connections cut",
    "messages twice",
    "messages late",
    "coordinators replayed",
    "buttons",
    "newer releases",
    "releases again",
    "clocks set",
    "journals torn",
    "hosts deleted",
    "coordinators restored from old backups",
];

const DIED: usize = 0;
const CUT: usize = 1;
const TWICE: usize = 2;
const LATE: usize = 3;
const REPLAYED: usize = 4;
const BUTTON: usize = 5;
const NEWER: usize = 6;
const AGAIN: usize = 7;
const SET: usize = 8;
const TORN: usize = 9;
const DELETED: usize = 10;
const RESTORED: usize = 11;

/// What went wrong in the world on purpose, and how often, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    fn add(&mut self, kind: usize) {
        if let Some(kind) = FAULTS.get(kind) {
            *self.0.entry(kind).or_insert(0) += 1;
        }
    }

    /// How often this kind happened.
    #[must_use]
    pub fn count(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

impl std::ops::AddAssign<&Faults> for Faults {
    fn add_assign(&mut self, more: &Faults) {
        for (kind, count) in &more.0 {
            *self.0.entry(kind).or_insert(0) += count;
        }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts: Vec<String> =
            FAULTS.iter().map(|kind| format!("{kind} {}", self.count(kind))).collect();
        f.write_str(&counts.join(", "))
    }
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Of the trace: two runs of one seed have the same.
    pub trace: u64,
    /// Events.
    pub events: u64,
    /// Simulated milliseconds.
    pub millis: u64,
    /// Faults by kind.
    pub faults: Faults,
    /// Phases that were seen.
    pub phases: BTreeSet<PhaseName>,
    /// What must not be, with the last lines of the trace.
    pub finding: Option<(Finding, Vec<String>)>,
}

#[derive(Clone, Debug)]
enum Mail {
    Directive { generation: u64, wish: ServiceWish },
    Report { standing: Standing, accepted: u64, sent: Sent },
    Ack(Sent),
    Ask { ask: Ask, void_at: Timestamp },
    Answer { ask: Ask, granted: bool, void_at: Timestamp },
    Reconnect,
    Restart,
}

struct World {
    random: Random,
    now: Timestamp,
    order: u64,
    mail: BTreeMap<(Timestamp, u64), (HostId, u64, Mail)>,
    hosts: BTreeMap<HostId, Host>,
    sessions: BTreeMap<HostId, u64>,
    /// When the newest report of a host arrives: later ones arrive later.
    reported: BTreeMap<HostId, (Timestamp, Option<(Standing, u64)>)>,
    words: BTreeMap<HostId, (Standing, u64)>,
    sent: BTreeMap<HostId, u64>,
    rollouts: Vec<Rollout>,
    plans: Vec<Plan>,
    /// How long the ledger was when each rollout was planned.
    planned_at: Vec<usize>,
    ledger: Vec<(usize, Input, Moment)>,
    seq: u64,
    /// By how many milliseconds the coordinator's clock is ahead.
    ahead: i64,
    /// When it was set last.
    set_at: Option<Timestamp>,
    /// The newest time in the ledger: the next is never before it.
    written: Timestamp,
    /// Hosts that were deleted.
    gone: BTreeSet<HostId>,
    /// Whether decisions were lost by a restore.
    restored: bool,
    /// Rollouts planned so far, those lost by a restore too.
    plans_made: u64,
    /// The newest release so far.
    newest_release: u64,
    stopped_since: Option<Timestamp>,
    /// Hosts that a rollout before had in flight, and until when they count.
    carried: BTreeMap<HostId, Timestamp>,
    /// Hosts whose switch must be followed by contact.
    unconfirmed: BTreeMap<HostId, Unconfirmed>,
    /// Hosts whose wish changed.
    told: BTreeSet<HostId>,
    out: Outcome,
    lines: Vec<String>,
    faults_on: bool,
    /// The kinds of faults that this seed draws from: few kinds, each often, find what many hide.
    kinds: Vec<u64>,
    /// One message in so many is late.
    late_one_in: u64,
}

/// Runs one seed to its end.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    let mut world = World::new(seed);
    let found = world.live().err();
    world.out.millis = world.now.as_millis();
    let tail = world.lines.len().saturating_sub(TRACE_MAX);
    world.out.finding = found.map(|finding| (finding, world.lines.split_off(tail)));
    world.out
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let many = random.one_in(50);
        let count = if many { 40 + random.below(80) } else { 2 + random.below(14) };
        let (first, version) = release(0);
        let service = "shop".parse();
        let known = Known { id: first, version, seq: 0, floor: 0, one_way: false };
        let host = |number: u64, random: &mut Random| {
            let slowness = if random.one_in(8) { 2 + random.below(30) } else { 1 };
            let service = service.clone().unwrap_or_else(|_| unreachable!("a plain name"));
            (host_id(number), Host::new(host_id(number), service, known.clone(), slowness))
        };
        let hosts = (0..count).map(|number| host(number, &mut random)).collect();
        let late_one_in = if random.one_in(4) { 5 } else { 30 };
        let some = random.one_in(2);
        let kinds = (0..wrong::KINDS).filter(|_| !some || random.one_in(3)).collect();
        Self {
            random,
            now: Timestamp::from_secs(1_000_000),
            order: 0,
            mail: BTreeMap::new(),
            sessions: BTreeMap::new(),
            reported: BTreeMap::new(),
            words: BTreeMap::new(),
            sent: BTreeMap::new(),
            rollouts: Vec::new(),
            plans: Vec::new(),
            planned_at: Vec::new(),
            ledger: Vec::new(),
            seq: 0,
            ahead: 0,
            set_at: None,
            written: Timestamp::from_millis(0),
            gone: BTreeSet::new(),
            restored: false,
            plans_made: 0,
            newest_release: 0,
            stopped_since: None,
            carried: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            told: BTreeSet::new(),
            out: Outcome::default(),
            lines: Vec::new(),
            faults_on: true,
            kinds,
            late_one_in,
            hosts,
        }
    }

    fn live(&mut self) -> Result<(), Finding> {
        self.publish()?;
        for _ in 0..EVENTS_MAX {
            self.tell()?;
            if self.random.one_in(12) {
                self.fault()?;
                self.tell()?;
            }
            if !self.event()? {
                break;
            }
        }
        self.calm()
    }

    // ---- what happens ----

    /// The next thing in the order of time; `false` where nothing is left.
    fn event(&mut self) -> Result<bool, Finding> {
        let letter = self.mail.first_key_value().map(|((at, _), _)| *at);
        let host = self.hosts.iter().filter_map(|(id, host)| Some((host.next()?, *id))).min();
        let tick = self.newest().and_then(next_deadline).map(|at| shifted(at, -self.ahead));
        let Some(at) = [letter, host.map(|(at, _)| at), tick].into_iter().flatten().min() else {
            return Ok(false);
        };
        self.now = self.now.max(at);
        self.out.events += 1;
        if letter == Some(at) {
            if let Some((_, (host, session, mail))) = self.mail.pop_first() {
                self.deliver(host, session, mail)?;
            }
        } else if let Some((_, id)) = host.filter(|(ripe, _)| *ripe == at) {
            self.host(id, Host::advance)?;
        } else {
            self.submit(self.rollouts.len().saturating_sub(1), Input::Tick)?;
        }
        Ok(true)
    }

    /// What the coordinator writes as the time.
    fn clock(&self) -> Timestamp {
        shifted(self.now, self.ahead).max(self.written)
    }

    fn newest(&self) -> Option<&Rollout> {
        self.rollouts.last()
    }

    fn post(&mut self, host: HostId, millis: u64, mail: Mail) {
        let session = self.sessions.get(&host).copied().unwrap_or(0);
        let late = self.faults_on && self.random.one_in(self.late_one_in);
        if late {
            self.out.faults.add(LATE);
        }
        let millis = if late { millis + self.random.below(20_000) } else { millis };
        self.order += 1;
        let key = (self.now.plus_millis(millis), self.order);
        self.mail.insert(key, (host, session, mail));
    }

    fn deliver(&mut self, id: HostId, session: u64, mail: Mail) -> Result<(), Finding> {
        let current = self.sessions.get(&id).copied().unwrap_or(0) == session;
        let Some(host) = self.hosts.get(&id) else { return Ok(()) };
        let (linked, up, now) = (host.connected && host.up && current, host.up, self.now);
        self.line(|| format!("{now} {id} {mail:?} linked {linked}"));
        match mail {
            Mail::Restart if !up => {
                self.again(id)?;
                self.link(id)
            }
            Mail::Reconnect => self.link(id),
            Mail::Directive { generation, wish } if linked => {
                self.host(id, |host, now| host.directive(generation, &wish, now))
            }
            Mail::Report { standing, accepted, sent } if linked => {
                self.acknowledge(id, sent);
                self.heard(id, standing, accepted)
            }
            Mail::Ack(sent) if linked => self.acknowledged(id, sent),
            Mail::Ask { ask, void_at } if linked => {
                let granted = self.newest().is_some_and(|rollout| {
                    may_switch(rollout, &id, &ask.release, ask.generation).is_ok()
                });
                self.post(id, 20, Mail::Answer { ask, granted, void_at });
                Ok(())
            }
            Mail::Answer { ask, granted, void_at } if linked => {
                let granted = granted && now < void_at;
                self.host(id, |host, now| host.permit(ask, granted, now))
            }
            Mail::Restart
            | Mail::Directive { .. }
            | Mail::Report { .. }
            | Mail::Ack(_)
            | Mail::Ask { .. }
            | Mail::Answer { .. } => Ok(()),
        }
    }

    /// Something happens on a host; what it says and asks goes out.
    fn host(&mut self, id: HostId, act: impl FnOnce(&mut Host, Timestamp)) -> Result<(), Finding> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else { return Ok(()) };
        let before = host.state().clone();
        let up_before = host.up;
        act(host, now);
        let (after, up) = (host.state().clone(), host.up);
        let asks = host.take_asks();
        if !host.live_is_whole() {
            return Err(Finding::Incomplete(id));
        }
        if up_before && !up {
            // The fuse: it died in the middle of what it did.
            self.out.faults.add(DIED);
            self.cut(id)?;
            let wait = 1_000 + self.random.below(60_000);
            self.post(id, wait, Mail::Restart);
        }
        if let State::Switching { target, .. } = &after
            && !matches!(before, State::Switching { .. })
            && up_before
        {
            self.began(id, target.id)?;
            if self.newest().is_some_and(|rollout| hold::holds_slot(rollout, &id)) {
                // What an older rollout did with it is over.
                self.carried.remove(&id);
            }
        }
        self.confirmed(id, &before, &after)?;
        self.in_flight()?;
        for ask in asks {
            let void_at = now.plus_millis(PERMIT_VALID_MS);
            self.post(id, 20, Mail::Ask { ask, void_at });
        }
        self.say(id);
        Ok(())
    }

    /// The host reports where that is new; reports of one session arrive in their order.
    fn say(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.connected && host.up) else {
            return;
        };
        let word = (host.standing(), host.accepted);
        let (last, said) = self.reported.get(&id).cloned().unwrap_or((self.now, None));
        if said.as_ref() == Some(&word) {
            return;
        }
        let sent = Sent { number: host.number_report(), at: self.now };
        let late = if self.faults_on && self.random.one_in(30) { 5_000 } else { 30 };
        let at = self.now.plus_millis(late).max(last);
        self.order += 1;
        let session = self.sessions.get(&id).copied().unwrap_or(0);
        let (standing, accepted) = word.clone();
        let mail = Mail::Report { standing, accepted, sent };
        self.mail.insert((at, self.order), (id, session, mail));
        self.reported.insert(id, (at, Some(word)));
    }

    fn heard(&mut self, id: HostId, standing: Standing, accepted: u64) -> Result<(), Finding> {
        self.words.insert(id, (standing, accepted));
        self.facts(id)
    }

    /// What the host's last word adds to the rollouts.
    fn facts(&mut self, id: HostId) -> Result<(), Finding> {
        for _ in 0..FACTS_MAX {
            let Some((standing, accepted)) = self.words.get(&id) else { return Ok(()) };
            let Some(rollout) = self.newest() else { return Ok(()) };
            let Some(fact) = fact(rollout, &id, standing, *accepted) else { return Ok(()) };
            if fact == HostFact::Committed {
                self.earned(id)?;
            }
            self.submit(self.rollouts.len() - 1, Input::Host { host: id, fact })?;
        }
        Ok(())
    }

    // ---- the coordinator ----

    fn submit(&mut self, at: usize, input: Input) -> Result<(), Finding> {
        self.seq += 1;
        let moment = Moment { seq: self.seq, now: self.clock() };
        let Some(rollout) = self.rollouts.get_mut(at) else { return Ok(()) };
        let Ok(effects) = step(rollout, &input, moment) else { return Ok(()) };
        let (phase, now) = (rollout.phase().clone(), self.now);
        self.written = moment.now;
        self.out.phases.insert(phase.name());
        if let Some(finding) = check(rollout).first() {
            return Err(Finding::Core(finding.to_string()));
        }
        let all: Vec<HostId> = match effects.all_hosts {
            true => rollout.hosts().map(|(_, host, _)| host.id).collect(),
            false => effects.changed_hosts,
        };
        self.line(|| format!("{now} rollout {at} {input:?} -> {:?}", phase.name()));
        self.ledger.push((at, input, moment));
        self.budget()?;
        let stopped = self.newest().is_some_and(|rollout| !goes_on(rollout.phase()));
        self.stopped_since = match (stopped, self.stopped_since) {
            (true, None) => Some(self.now),
            (true, since) => since,
            (false, _) => None,
        };
        self.told.extend(all);
        Ok(())
    }

    /// Tells every host whose wish changed, and looks at its last word again.
    fn tell(&mut self) -> Result<(), Finding> {
        for _ in 0..TELLS_MAX {
            let Some(id) = self.told.pop_first() else { return Ok(()) };
            self.push(id)?;
            self.facts(id)?;
        }
        Err(Finding::Restless)
    }

    /// Sends a host what it should be, where it is connected.
    fn push(&mut self, id: HostId) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let Some(wish) = desired(rollout, &id) else { return Ok(()) };
        let generation = generation(rollout, &id);
        let before = self.sent.insert(id, generation).unwrap_or(0);
        if generation < before {
            return Err(Finding::Generation { host: id, before, now: generation });
        }
        let twice = self.faults_on && self.random.one_in(20);
        if twice {
            self.out.faults.add(TWICE);
            self.post(id, 3_000, Mail::Directive { generation, wish: wish.clone() });
        }
        self.post(id, 10, Mail::Directive { generation, wish });
        Ok(())
    }

    /// A host's connection stands again.
    fn link(&mut self, id: HostId) -> Result<(), Finding> {
        if self.gone.contains(&id) {
            return Ok(());
        }
        let Some(host) = self.hosts.get_mut(&id).filter(|host| host.up) else { return Ok(()) };
        host.connected = true;
        *self.sessions.entry(id).or_insert(0) += 1;
        self.reported.remove(&id);
        self.link_changed(id, true)?;
        self.push(id)?;
        self.host(id, |host, now| host.linked(now))
    }

    fn cut(&mut self, id: HostId) -> Result<(), Finding> {
        if let Some(host) = self.hosts.get_mut(&id) {
            host.connected = false;
        }
        *self.sessions.entry(id).or_insert(0) += 1;
        self.link_changed(id, false)
    }

    fn link_changed(&mut self, id: HostId, connected: bool) -> Result<(), Finding> {
        let cares = |rollout: &Rollout| cares_about_link(rollout, &id, connected);
        if !self.newest().is_some_and(cares) {
            return Ok(());
        }
        let input = match connected {
            true => Input::Connected { host: id },
            false => Input::Disconnected { host: id },
        };
        self.submit(self.rollouts.len() - 1, input)
    }

    fn publish(&mut self) -> Result<(), Finding> {
        self.plans_made += 1;
        let number = self.release_to_bring();
        let bad = self.random.one_in(3);
        let (id, version) = release(number);
        let is_there = |id: &HostId| !self.gone.contains(id);
        let ids: Vec<HostId> = self.hosts.keys().copied().filter(is_there).collect();
        for host in &ids {
            let nature = nature(&mut self.random, bad);
            if let Some(host) = self.hosts.get_mut(host) {
                host.meet(id, nature, (number, version.clone()));
            }
        }
        let runs: BTreeMap<HostId, Option<ReleaseId>> =
            self.words.iter().map(|(id, (standing, _))| (*id, standing.running)).collect();
        let first = release(0).0;
        let running = |id| runs.get(&id).copied().unwrap_or(Some(first));
        let Some(plan) = planned(&mut self.random, (&ids, number), running) else {
            return Ok(());
        };
        let name = format!("shop-{}", self.plans_made).parse::<RolloutId>();
        let Ok(name) = name else { return Ok(()) };
        let mut busy = self.newest().map_or_else(Vec::new, |before| busy(before, self.clock()));
        busy.retain(|busy| ids.contains(&busy.host));
        self.carry();
        if let Some(before) = self.rollouts.len().checked_sub(1) {
            self.submit(before, Input::Supersede { by: name.clone() })?;
        }
        self.rollouts.push(Rollout::new(name, plan.clone()));
        self.plans.push(plan);
        self.planned_at.push(self.ledger.len());
        let away: Vec<HostId> = ids
            .into_iter()
            .filter(|id| self.hosts.get(id).is_some_and(|host| !host.connected || !host.up))
            .collect();
        self.submit(self.rollouts.len() - 1, Input::Start { away, busy })?;
        for id in self.words.keys().copied().collect::<Vec<_>>() {
            self.facts(id)?;
        }
        Ok(())
    }

    // ---- the end ----

    /// Faults stop, persons go on wherever they are asked; it must come to an end that is true.
    fn calm(&mut self) -> Result<(), Finding> {
        self.faults_on = false;
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for id in ids {
            self.hosts.entry(id).and_modify(|host| host.fuse = None);
            if self.hosts.get(&id).is_some_and(|host| !host.up) {
                self.host(id, |host, now| host.restart(now))?;
            }
            self.host(id, |host, now| host.unstick(now))?;
            self.link(id)?;
        }
        for _ in 0..CALM_EVENTS_MAX {
            let acted = self.person()?;
            self.tell()?;
            let over = self.newest().is_none_or(Rollout::is_over);
            if (!self.event()? && !acted) || (over && self.at_rest()) {
                break;
            }
        }
        self.ended()
    }

    fn at_rest(&self) -> bool {
        let fetches = |host: &Host| host.up && matches!(host.state(), State::Fetching { .. });
        self.mail.is_empty()
            && !self.hosts.values().any(Host::in_flight)
            // A host may fetch what it is to go back to.
            && !self.hosts.values().any(fetches)
            && self.newest().is_none_or(|rollout| rollout.in_flight() == 0)
    }

    /// Whether a person was asked and acted.
    fn person(&mut self) -> Result<bool, Finding> {
        let Ok(by) = "ben".parse::<OperatorName>() else { return Ok(false) };
        let at = self.rollouts.len().saturating_sub(1);
        let Some(rollout) = self.newest() else { return Ok(false) };
        let why = String::new();
        let input = match rollout.phase() {
            Phase::Paused { .. } | Phase::Halted { .. } => {
                let parked = rollout.hosts().find(|(_, _, entry)| entry.parked.is_some());
                let host = parked.map(|(_, host, _)| host.id);
                let stopped = self.stopped_since.is_some_and(|since| since < self.now);
                match host.filter(|_| !stopped) {
                    Some(host) => Input::Steer { by, why, steer: Steer::Exclude { host } },
                    None => Input::Resume { by, why },
                }
            }
            Phase::Gated { wave, .. } => match waits_for_promotion(rollout, *wave) {
                true => Input::Steer { by, why, steer: Steer::Promote },
                false => Input::Approve { by, plan: rollout.plan_hash(), wave: None },
            },
            Phase::Planned
            | Phase::Running { .. }
            | Phase::Baking { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => return Ok(false),
        };
        let before = self.seq;
        self.submit(at, input)?;
        Ok(self.seq > before)
    }

    fn ended(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let Phase::Done { outcome, .. } = rollout.phase() else {
            let holds = rollout.hosts().filter(|(_, _, entry)| entry.parked.is_some());
            let mut why: Vec<String> = [None]
                .into_iter()
                .chain(holds.map(|(_, host, _)| Some(host.id)))
                .flat_map(|host| explain(rollout, host.as_ref(), self.clock()))
                .map(|why| why.to_string())
                .collect();
            why.push(format!("{:?}", rollout.phase()));
            return Err(Finding::Endless(why.join("; ")));
        };
        let release = rollout.release();
        for (wave, planned, entry) in rollout.hosts() {
            let there = self.hosts.get(&planned.id).filter(|_| !self.gone.contains(&planned.id));
            let Some(host) = there else { continue };
            let runs = host.live == Some(release);
            // Every host ran something from the beginning.
            let nothing = host.live.is_none();
            let wrong = nothing
                || match (outcome, &entry.progress) {
                    (RolloutOutcome::Completed, Progress::Committed) => !runs,
                    (RolloutOutcome::Reverted { down_to, .. }, progress) if wave >= *down_to => {
                        let person = matches!(progress.name(), ProgressName::Failed);
                        runs && !person
                    }
                    (
                        RolloutOutcome::Completed
                        | RolloutOutcome::Reverted { .. }
                        | RolloutOutcome::Aborted { .. }
                        | RolloutOutcome::Superseded { .. },
                        _,
                    ) => false,
                };
            if wrong {
                let (outcome, state) = (outcome.to_string(), format!("{:?}", host.state()));
                return Err(Finding::WrongEnd { outcome, host: planned.id, state });
            }
        }
        Ok(())
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        let text = text();
        // FNV-1a (Fowler, Noll and Vo), 64 bits.
        for byte in text.bytes() {
            self.out.trace = (self.out.trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() >= 4 * TRACE_MAX {
            self.lines.drain(..2 * TRACE_MAX);
        }
        self.lines.push(text);
    }
}

/// A time on a clock that is so many milliseconds ahead.
fn shifted(at: Timestamp, ahead: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add_signed(ahead))
}

/// Whether a person must promote the wave: approvals are there, the manual gate is shut.
fn waits_for_promotion(rollout: &Rollout, wave: u32) -> bool {
    let planned = usize::try_from(wave).ok().and_then(|wave| rollout.plan().waves.get(wave));
    let approved = rollout.approvals().iter().any(|given| given.by.as_str() == "ben");
    planned.is_some_and(|wave| wave.gate.manual && (approved || wave.gate.approvals == 0))
}

/// Whether hosts may be brought forward in this phase.
fn goes_on(phase: &Phase) -> bool {
    match phase {
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => true,
        Phase::Done { outcome, .. } => *outcome == RolloutOutcome::Completed,
        Phase::Planned | Phase::Paused { .. } | Phase::Halted { .. } | Phase::Reverting { .. } => {
            false
        }
    }
}
