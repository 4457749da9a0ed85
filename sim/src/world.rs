//! The world of one seed: coordinator, machines, the network between them, persons and faults, on one
//! clock. Owns the order of events; the coordinator in it is the control of the real one.

mod contact;
mod invariants;
mod off;
mod office;
mod people;
#[cfg(test)]
mod scenes;
mod truth;
mod wrong;

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::condition::Condition;
use groundswell_common::directive::ServiceWish;
use groundswell_common::report::Report;
use groundswell_common::{HostId, ServiceName, Timestamp};
use groundswell_machine::{Again, Cause, Known, State};
use groundswell_rollout::PhaseName;

use crate::check::{Finding, NOT_HELD_YET, Property};
use crate::draw::{SERVICES, host_id, nature, published, release, seq, spelt};
use crate::host::Host;
use crate::random::Random;
use crate::site::{Ask, Brought, Site};
use contact::{Sent, Unconfirmed};
use office::Office;
use truth::Truth;

/// Lines of the trace that a failure shows.
const TRACE_MAX: usize = 60;
/// Events of one seed with faults, and after them.
const EVENTS_MAX: usize = 500;
const CALM_EVENTS_MAX: usize = 1_000_000;

/// Kinds of faults, as counted.
pub const FAULTS: [&str; 40] = [
    "agents that died",
    "connections cut",
    "messages twice",
    "messages late",
    "coordinators replayed",
    "coordinators restarted",
    "buttons",
    "newer releases",
    "releases again",
    "older releases",
    "clocks set",
    "journals torn",
    "hosts deleted",
    "coordinators restored from old backups",
    "hosts new",
    "hosts enrolled again",
    "hosts wiped",
    "hosts paused by their owner",
    "units not allowed",
    "units missing",
    "disks without room",
    "files changed",
    "fetches that fail on a host",
    "fetches that fail on a site",
    "fetches that fail everywhere",
    "snapshots put back",
    "machines cloned",
    "services killed",
    "machines suspended",
    "slow disks",
    "stops that are not obeyed",
    "services stopped by a person in a bake",
    "reverts by hand on a host",
    "releases cleared",
    "hosts cleared",
    "hosts drained",
    "hosts labelled",
    "policies changed",
    "services taken off",
    "lies",
];

/// What went wrong in the world on purpose, and how often, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults(BTreeMap<&'static str, u64>);

impl Faults {
    fn add(&mut self, kind: &'static str) {
        debug_assert!(FAULTS.contains(&kind), "{kind} is listed");
        *self.0.entry(kind).or_insert(0) += 1;
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
    /// What must not be either, and was let pass because it is not held yet: the first of each.
    pub not_held: BTreeMap<Property, Finding>,
}

/// A machine, by its number: two of them may have one key.
type Number = u64;

#[derive(Clone, Debug)]
enum Mail {
    Directive { generation: u64, wishes: Vec<ServiceWish> },
    Condition(Condition),
    Report { report: Report, sent: Sent },
    Ack(Sent),
    Ask { ask: Ask, void_at: Timestamp },
    Answer { ask: Ask, answer: Result<Timestamp, Again> },
    Done { service: ServiceName, nonce: u64 },
    Reconnect,
    Restart,
}

struct World {
    random: Random,
    now: Timestamp,
    order: u64,
    mail: BTreeMap<(Timestamp, u64), (Number, u64, Mail)>,
    hosts: BTreeMap<Number, Host>,
    /// Machines made so far.
    made: u64,
    sessions_made: u64,
    /// Starts of agents so far.
    starts: u64,
    /// When the newest report of a machine arrives: later ones arrive later.
    reported: BTreeMap<Number, Timestamp>,
    services: Vec<ServiceName>,
    office: Office,
    truth: Truth,
    /// Machines as they were at some time.
    photos: BTreeMap<Number, Host>,
    /// Hosts whose switch must be followed by contact.
    unconfirmed: BTreeMap<(Number, ServiceName), Unconfirmed>,
    out: Outcome,
    lines: Vec<String>,
    faults_on: bool,
    /// The kinds of faults that this seed draws from: few kinds, each often, find what many hide.
    kinds: Vec<u64>,
    /// One message in so many is late.
    late_one_in: u64,
    /// What is let pass.
    tolerated: Vec<Property>,
    /// Whether the lines of the trace are kept.
    writes: bool,
    /// Whether a finding that was let pass leaves nothing to look at.
    over: bool,
}

/// Runs one seed to its end.
#[must_use]
pub fn run(seed: u64) -> Outcome {
    run_but(seed, NOT_HELD_YET)
}

/// Runs one seed to its end; findings of these properties are kept and let pass.
#[must_use]
pub fn run_but(seed: u64, tolerated: &[Property]) -> Outcome {
    let mut world = World::new(seed, tolerated);
    let Err(found) = world.live() else { return world.ended_with(None) };
    // Once more, for the lines of its trace: to write them costs more than the run.
    let mut again = World::new(seed, tolerated);
    again.writes = true;
    let same = again.live().err();
    again.ended_with(Some(same.unwrap_or(found)))
}

/// How a site was before an event.
struct Before {
    state: State,
    brought: Option<Brought>,
}

impl World {
    fn new(seed: u64, tolerated: &[Property]) -> Self {
        let mut random = Random::new(seed);
        let late_one_in = if random.one_in(4) { 5 } else { 30 };
        let some = random.one_in(2);
        let kinds = (0..wrong::KINDS).filter(|_| !some || random.one_in(4)).collect();
        let count = if random.one_in(2) { 1 } else { 2 + random.below(2) };
        let names = SERVICES.iter().zip(0..count).map(|(name, _)| spelt(name));
        Self {
            random,
            now: Timestamp::from_secs(1_000_000),
            order: 0,
            mail: BTreeMap::new(),
            hosts: BTreeMap::new(),
            made: 0,
            sessions_made: 0,
            starts: 0,
            reported: BTreeMap::new(),
            services: names.collect(),
            office: Office::new(),
            truth: Truth::default(),
            photos: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            out: Outcome::default(),
            lines: Vec::new(),
            faults_on: true,
            kinds,
            late_one_in,
            tolerated: tolerated.to_vec(),
            writes: false,
            over: false,
        }
    }

    fn ended_with(mut self, found: Option<Finding>) -> Outcome {
        self.out.millis = self.now.as_millis();
        let tail = self.lines.len().saturating_sub(TRACE_MAX);
        self.out.finding = found.map(|finding| (finding, self.lines.split_off(tail)));
        self.out
    }

    fn live(&mut self) -> Result<(), Finding> {
        let many = self.random.one_in(50);
        let count = if many { 40 + self.random.below(80) } else { 2 + self.random.below(11) };
        let old = !self.random.one_in(4);
        self.begin(count, old)?;
        for service in self.services.clone() {
            self.publish(&service)?;
        }
        for _ in 0..EVENTS_MAX {
            if self.random.one_in(12) {
                self.fault()?;
            }
            if !self.event()? {
                break;
            }
        }
        self.calm()
    }

    /// The first day: hosts are enrolled; in an old fleet all of them have run a first release for long.
    fn begin(&mut self, hosts: u64, old: bool) -> Result<(), Finding> {
        self.first_entries()?;
        for _ in 0..hosts {
            self.new_host()?;
        }
        for service in self.services.clone() {
            self.first_release(&service, old)?;
        }
        let numbers: Vec<Number> = self.hosts.keys().copied().collect();
        for number in numbers {
            self.link(number)?;
        }
        if old {
            // Everyone has said by now what runs, and the first rollouts are over.
            while self.services.iter().any(|name| self.newest(name).is_some_and(|r| !r.is_over())) {
                if !self.event()? {
                    break;
                }
            }
        }
        for service in self.services.clone() {
            self.new_policy(&service)?;
        }
        self.office.first_day = self.office.ledger.len();
        Ok(())
    }

    /// Puts a machine there and enrols it; it connects later.
    fn new_host(&mut self) -> Result<Number, Finding> {
        let number = self.made;
        self.made += 1;
        let slowness = if self.random.one_in(8) { 2 + self.random.below(30) } else { 1 };
        let mut host = Host::new(host_id(number));
        for name in self.services.clone() {
            let mut site = Site::new(name.clone(), slowness);
            for known in 0..=self.truth.of(&name).releases {
                let (id, version) = release(&name, known);
                let nature = nature(&mut self.random, self.truth.bad.contains(&id));
                site.meet(id, nature, (seq(known), version));
            }
            host.sites.insert(name, site);
        }
        self.hosts.insert(number, host);
        self.enrol(number)?;
        Ok(number)
    }

    /// The first release of a service, and how an old fleet runs it already.
    fn first_release(&mut self, service: &ServiceName, old: bool) -> Result<(), Finding> {
        let (id, version) = release(service, 0);
        let known = Known { id, version, seq: seq(0), floor: 0, one_way: false };
        for host in self.hosts.values_mut().filter(|_| old) {
            if let Some(site) = host.sites.get_mut(service) {
                site.adopt(&known);
            }
        }
        self.office_publishes(published(service, 0), old)
    }

    // ---- what happens ----

    /// The next thing in the order of time; `false` where nothing is left.
    fn event(&mut self) -> Result<bool, Finding> {
        let letter = self.mail.first_key_value().map(|((at, _), _)| *at);
        let next = self.hosts.iter().filter_map(|(number, host)| Some((host.next()?, *number)));
        let host = next.min();
        let tick = self.next_tick();
        let at = [letter, host.map(|(at, _)| at), tick].into_iter().flatten().min();
        let Some(at) = at.filter(|_| !self.over) else { return Ok(false) };
        self.now = self.now.max(at);
        self.look_at_the_clock();
        self.out.events += 1;
        self.answer_halts();
        if letter == Some(at) {
            if let Some((_, (number, session, mail))) = self.mail.pop_first() {
                self.deliver(number, session, mail)?;
            }
        } else if let Some((_, number)) = host.filter(|(ripe, _)| *ripe == at) {
            self.happen(number)?;
        } else {
            self.tick()?;
        }
        Ok(true)
    }

    fn happen(&mut self, number: Number) -> Result<(), Finding> {
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        if host.asleep_until.take().is_some() {
            // It wakes; the connection is long gone.
            self.post(number, 500, Mail::Reconnect);
            return self.host(number, |host, now| {
                host.sites.values_mut().for_each(|site| site.wake(now));
            });
        }
        self.host(number, Host::advance)
    }

    fn post(&mut self, number: Number, millis: u64, mail: Mail) {
        let session = self.hosts.get(&number).map_or(0, |host| host.session);
        let late = self.faults_on && self.random.one_in(self.late_one_in);
        if late {
            self.out.faults.add("messages late");
        }
        let millis = if late { millis + self.random.below(20_000) } else { millis };
        self.order += 1;
        let key = (self.now.plus_millis(millis), self.order);
        self.mail.insert(key, (number, session, mail));
    }

    fn deliver(&mut self, number: Number, session: u64, mail: Mail) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let (linked, up) = (host.connected && host.session == session, host.up);
        let (awake, key, now) = (host.is_awake(), host.key, self.now);
        self.line(|| format!("{now} host {number} {mail:?} linked {linked} awake {awake}"));
        match mail {
            Mail::Restart if !up => {
                self.again(number)?;
                self.link(number)
            }
            Mail::Reconnect => self.link(number),
            Mail::Directive { generation, wishes } if linked && awake => {
                self.take_directive(number, generation, &wishes)
            }
            Mail::Condition(condition) if linked => {
                self.control().condition(key, condition);
                self.settle()
            }
            Mail::Report { report, sent } if linked => {
                self.acknowledge(number, sent);
                self.heard(key, report)
            }
            Mail::Ack(sent) if linked && awake => self.acknowledged(number, sent),
            Mail::Ask { ask, void_at } if linked => {
                let answer = self.permit(key, &ask).map(|()| void_at);
                self.post(number, 20, Mail::Answer { ask, answer });
                Ok(())
            }
            Mail::Answer { ask, answer } if linked && awake => self.host(number, |host, now| {
                if let Some(site) = host.sites.get_mut(&ask.service) {
                    site.answer(&ask, answer, now);
                }
            }),
            Mail::Done { service, nonce } if linked => {
                self.office.permits.remove(&(key, service, nonce));
                Ok(())
            }
            Mail::Restart
            | Mail::Directive { .. }
            | Mail::Condition(_)
            | Mail::Report { .. }
            | Mail::Ack(_)
            | Mail::Ask { .. }
            | Mail::Answer { .. }
            | Mail::Done { .. } => Ok(()),
        }
    }

    fn take_directive(
        &mut self,
        number: Number,
        generation: u64,
        wishes: &[ServiceWish],
    ) -> Result<(), Finding> {
        let mut equivocal = false;
        self.host(number, |host, now| {
            equivocal = host.directive(generation, wishes, now).is_err();
        })?;
        let host = self.hosts.get(&number).map(|host| host.key).filter(|_| equivocal);
        match host.filter(|key| self.is_plain(key) && !self.truth.restored) {
            Some(key) => self.found(Finding::Equivocal(key)),
            None => Ok(()),
        }
    }

    /// Something happens on a machine; what it says and asks goes out.
    fn host(
        &mut self,
        number: Number,
        act: impl FnOnce(&mut Host, Timestamp),
    ) -> Result<(), Finding> {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        let was =
            |site: &Site| Before { state: site.state().clone(), brought: site.brought.clone() };
        let before: Vec<Before> = host.sites.values().map(was).collect();
        let up_before = host.up;
        act(host, now);
        if host.has_died() {
            host.crash();
        }
        let (asks, seen, key, up) = (host.take_asks(), host.take_seen(), host.key, host.up);
        if host.sites.values().any(|site| !site.live_is_whole()) {
            return self.found(Finding::Incomplete(key));
        }
        if up_before && !up {
            // The fuse: it died in the middle of what it did.
            self.out.faults.add("agents that died");
            self.cut(number)?;
            let wait = 1_000 + self.random.below(60_000);
            self.post(number, wait, Mail::Restart);
        }
        for (service, what) in seen {
            self.saw(number, (&service, what))?;
        }
        for (service, before) in self.services.clone().iter().zip(before) {
            self.moved(number, service, &before)?;
        }
        for ask in asks {
            let void_at = now.plus_millis(groundswell_common::limits::PERMIT_VALID_MS);
            self.post(number, 20, Mail::Ask { ask, void_at });
        }
        self.say(number);
        Ok(())
    }

    /// Where a site stands now is compared with where it stood.
    fn moved(
        &mut self,
        number: Number,
        service: &ServiceName,
        before: &Before,
    ) -> Result<(), Finding> {
        let Some(site) = self.hosts.get(&number).and_then(|host| host.sites.get(service)) else {
            return Ok(());
        };
        let after = site.state();
        if *after == before.state {
            return Ok(());
        }
        let after = after.clone();
        match &after {
            State::Switching { target, deadline: None }
                if !matches!(before.state, State::Switching { .. }) =>
            {
                self.began((number, service), target.id)?;
            }
            State::Reverting { from, cause: Cause::Told {}, .. }
                if !matches!(before.state, State::Reverting { .. }) =>
            {
                self.told_back((number, service), from.id, before.brought.as_ref())?;
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => {}
        }
        self.confirmed((number, service), &before.state, &after)?;
        self.rests(service);
        self.in_flight(service)
    }

    /// The host reports where that is new; reports of one session arrive in their order.
    fn say(&mut self, number: Number) {
        let Some(host) = self.hosts.get_mut(&number) else { return };
        let (session, lies) = (host.session, host.lies);
        let condition = host.condition().map(Mail::Condition);
        let mut report = host.report();
        if let Some(report) = report.as_mut().filter(|_| lies) {
            self.lie(report);
        }
        let at = self.now;
        let report = report.map(|report| {
            let sent = Sent { number: report.seq, at };
            Mail::Report { report, sent }
        });
        for mail in [condition, report].into_iter().flatten() {
            let late = if self.faults_on && self.random.one_in(30) { 5_000 } else { 30 };
            let last = self.reported.get(&number).copied().unwrap_or(self.now);
            let at = self.now.plus_millis(late).max(last);
            self.order += 1;
            self.mail.insert((at, self.order), (number, session, mail));
            self.reported.insert(number, at);
        }
    }

    /// A machine's key belongs to it alone, and it says what is so.
    fn is_plain(&self, key: &HostId) -> bool {
        !self.truth.twins.contains(key) && !self.truth.liars.contains(key)
    }

    /// Keeps a finding that is let pass; any other ends the run.
    fn found(&mut self, finding: Finding) -> Result<(), Finding> {
        let property = finding.property();
        if !self.tolerated.contains(&property) {
            return Err(finding);
        }
        self.out.not_held.entry(property).or_insert(finding);
        Ok(())
    }

    fn line(&mut self, text: impl FnOnce() -> String) {
        // FNV-1a (Fowler, Noll and Vo), 64 bits, over the order of things.
        for word in [self.now.as_millis(), self.order, self.office.view().seq] {
            self.out.trace = (self.out.trace ^ word).wrapping_mul(0x0100_0000_01b3);
        }
        if !self.writes {
            return;
        }
        let text = text();
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

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
