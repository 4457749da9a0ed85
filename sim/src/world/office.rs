//! The coordinator of the world: the real control over a ledger in memory, who is connected, which permits are
//! out, and a clock that may be set. Owns what the driver's task owns in production; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use groundswell_common::directive::ServiceWish;
use groundswell_common::limits::PERMIT_COUNTED_MS;
use groundswell_common::report::Report;
use groundswell_common::wire::{Deny, LEVEL_NEWEST, PermitRequest};
use groundswell_common::{HostId, OperatorName, ReleaseId, ServiceName, Timestamp};
use groundswell_control::Control;
use groundswell_control::entry::{By, Entry, Published};
use groundswell_control::view::View;
use groundswell_machine::Again;
use groundswell_rollout::Rollout;

use super::{Mail, Number, World, shifted, usize_of};
use crate::check::Finding;
use crate::draw::{
    beginning, first_policy, host_id, host_name, key, policy_text, secret, spelt, token,
};
use crate::host::Host;
use crate::site::Ask;

/// How long agents have to come back after a start, in milliseconds.
const SETTLE_MILLIS: u64 = 10_000;
/// Rounds in which one change may lead to others.
const ROUNDS_MAX: usize = 64;
/// Entries that a ledger may have, and so many more for each machine.
const ENTRIES_MAX: usize = 1_000;
const ENTRIES_PER_HOST_MAX: usize = 60;

/// The coordinator's process, and its disk.
pub(super) struct Office {
    pub(super) control: Control,
    /// Payloads of all entries.
    pub(super) ledger: Vec<Vec<u8>>,
    /// Whose session speaks for a key.
    seats: BTreeMap<HostId, (Number, u64)>,
    /// Permits that are out, and until when.
    pub(super) permits: BTreeMap<(HostId, ServiceName, u64), Timestamp>,
    /// Permits of the process before may be out until then.
    starting_until: Timestamp,
    /// Until when agents have time to come back after a start.
    settle_at: Option<Timestamp>,
    /// By how many milliseconds its clock is ahead.
    pub(super) ahead: i64,
    /// When that was set last.
    pub(super) set_at: Option<Timestamp>,
    /// What each host was sent last.
    sent: BTreeMap<HostId, (u64, Vec<ServiceWish>)>,
    ticked: Timestamp,
    tokens: u64,
    /// Entries of the first day; no backup is older.
    pub(super) first_day: usize,
}

impl Office {
    pub(super) fn new() -> Self {
        Self {
            control: Control::new(View::default()),
            ledger: Vec::new(),
            seats: BTreeMap::new(),
            permits: BTreeMap::new(),
            starting_until: Timestamp::from_millis(0),
            settle_at: None,
            ahead: 0,
            set_at: None,
            sent: BTreeMap::new(),
            ticked: Timestamp::from_millis(0),
            tokens: 0,
            first_day: 0,
        }
    }

    /// What the ledger adds up to.
    pub(super) fn view(&self) -> &View {
        self.control.view()
    }
}

pub(super) fn ann() -> OperatorName {
    spelt("ann")
}

impl World {
    /// What the coordinator writes as the time.
    pub(super) fn clock(&self) -> Timestamp {
        self.office.control.now()
    }

    pub(super) fn look_at_the_clock(&mut self) {
        let (clock, counted) = (shifted(self.now, self.office.ahead), self.now.as_millis());
        self.office.control.look_at_the_clock(clock, Duration::from_millis(counted));
    }

    /// The control, which is told the time.
    pub(super) fn control(&mut self) -> &mut Control {
        self.look_at_the_clock();
        &mut self.office.control
    }

    pub(super) fn newest(&self, service: &ServiceName) -> Option<&Rollout> {
        self.office.view().newest_rollout(service)
    }

    /// Makes what was decided durable, and acts on it, as the driver does at the end of a batch.
    pub(super) fn settle(&mut self) -> Result<(), Finding> {
        for _ in 0..ROUNDS_MAX {
            let control = &mut self.office.control;
            drop((control.take_transitions(), control.take_refusals()));
            let pending = control.take_pending();
            if !pending.is_empty() {
                for entry in &pending {
                    self.line(|| {
                        let text = String::from_utf8_lossy(&entry.payload);
                        text.chars().take(400).collect()
                    });
                }
                let about = |name: &&ServiceName| {
                    let name = name.as_str().as_bytes();
                    let mut payloads = pending.iter().map(|entry| entry.payload.as_slice());
                    payloads.any(|text| text.windows(name.len()).any(|part| part == name))
                };
                let services: Vec<ServiceName> =
                    self.services.iter().filter(about).cloned().collect();
                self.office.ledger.extend(pending.into_iter().map(|entry| entry.payload));
                self.decided(&services)?;
            }
            self.control().plan_waiting();
            if !self.office.control.has_pending() {
                break;
            }
        }
        let hosts = self.office.view().hosts.iter();
        let drained = hosts.filter(|(_, host)| host.drained.is_some()).map(|(id, _)| *id);
        let drained: BTreeSet<HostId> = drained.collect();
        self.truth.drains(drained, self.now);
        if self.office.control.has_pending() || self.office.ledger.len() > self.entries_max() {
            // Nothing that follows says more.
            self.over = true;
            return self.found(Finding::Restless);
        }
        for key in self.office.control.take_stale() {
            self.push(key)?;
        }
        Ok(())
    }

    fn entries_max(&self) -> usize {
        ENTRIES_MAX + ENTRIES_PER_HOST_MAX * self.hosts.len()
    }

    pub(super) fn next_tick(&self) -> Option<Timestamp> {
        if let Some(at) = self.office.settle_at {
            return Some(at);
        }
        let left = |at: Timestamp| at.millis_since(self.clock());
        let first = self.office.control.next_deadline().map(|at| self.now.plus_millis(left(at)));
        // A deadline that changes nothing must not come again at once.
        first.map(|at| at.max(self.office.ticked.plus_millis(1)))
    }

    pub(super) fn tick(&mut self) -> Result<(), Finding> {
        self.office.ticked = self.now;
        if self.office.settle_at.is_some_and(|at| at <= self.now) {
            self.office.settle_at = None;
            self.control().sweep();
        } else {
            self.control().tick();
        }
        self.settle()
    }

    /// Sends a host what it should be, where it is connected.
    fn push(&mut self, key: HostId) -> Result<(), Finding> {
        let Some(wished) = self.office.control.wish(&key) else { return Ok(()) };
        let Some((number, _)) = self.office.seats.get(&key).copied() else { return Ok(()) };
        let (generation, wishes) = (wished.generation, wished.services);
        self.told_off(key, &wishes)?;
        let before = self.office.sent.insert(key, (generation, wishes.clone()));
        let before = before.map_or(0, |(generation, _)| generation);
        if generation < before {
            self.found(Finding::Generation { host: key, before, now: generation })?;
        }
        let twice = self.faults_on && self.random.one_in(20);
        if twice {
            self.out.faults.add("messages twice");
            self.post(number, 3_000, Mail::Directive { generation, wishes: wishes.clone() });
        }
        self.post(number, 10, Mail::Directive { generation, wishes });
        Ok(())
    }

    pub(super) fn heard(&mut self, key: HostId, report: Report) -> Result<(), Finding> {
        self.control().report(key, report);
        self.settle()
    }

    /// Answers a question for a permit.
    pub(super) fn permit(&mut self, key: HostId, ask: &Ask) -> Result<(), Again> {
        if self.now < self.office.starting_until {
            return Err(Again::Soon);
        }
        let request = PermitRequest {
            generation: ask.generation,
            service: ask.service.clone(),
            release: ask.release,
            nonce: [0; 16],
        };
        match self.control().may_switch(&key, &request) {
            Ok(()) => {}
            Err(Deny::Starting) => return Err(Again::Soon),
            Err(Deny::Stale | Deny::Stopped) => return Err(Again::Later),
        }
        let until = self.now.plus_millis(PERMIT_COUNTED_MS);
        self.office.permits.insert((key, ask.service.clone(), ask.nonce), until);
        self.truth.granted.entry(key).or_default().insert((ask.service.clone(), ask.release));
        Ok(())
    }

    /// Whether a permit of the service may still be used.
    pub(super) fn permits_are_out(&mut self, service: &ServiceName) -> bool {
        let now = self.now;
        self.office.permits.retain(|_, until| *until > now);
        now < self.office.starting_until
            || self.office.permits.keys().any(|(_, name, _)| name == service)
    }

    /// A machine's connection stands again; another one with its key loses its own.
    pub(super) fn link(&mut self, number: Number) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let (key, connected) = (host.key, host.connected);
        if !host.is_awake() || !self.office.view().hosts.contains_key(&key) {
            return Ok(());
        }
        if connected {
            self.cut(number)?;
        }
        self.sessions_made += 1;
        let session = self.sessions_made;
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        host.begin_session(session);
        let version = "1".to_owned();
        if let Some((other, _)) = self.office.seats.insert(key, (number, session))
            && other != number
        {
            if let Some(other) = self.hosts.get_mut(&other) {
                other.connected = false;
            }
            let wait = 500 + self.random.below(30_000);
            self.post(other, wait, Mail::Reconnect);
        }
        self.reported.remove(&number);
        self.control().arrive(key, (version, LEVEL_NEWEST));
        self.settle()?;
        self.host(number, Host::linked)
    }

    pub(super) fn cut(&mut self, number: Number) -> Result<(), Finding> {
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        let (key, session) = (host.key, host.session);
        host.connected = false;
        // Who vanishes with a permit that was not used up may have switched.
        let proved = |(service, release): &(ServiceName, ReleaseId)| {
            let site = host.sites.get(service);
            site.is_some_and(|site| site.has_committed(*release))
        };
        let granted = self.truth.granted.remove(&key).unwrap_or_default();
        for (_, release) in granted.iter().filter(|granted| !proved(granted)) {
            self.truth.speaks_against(*release);
        }
        let Some(host) = self.hosts.get_mut(&number) else { return Ok(()) };
        self.sessions_made += 1;
        host.session = self.sessions_made;
        if self.office.seats.get(&key) == Some(&(number, session)) {
            self.office.seats.remove(&key);
            self.control().leave(key);
        }
        self.settle()
    }

    // ---- the first day, and enrolment ----

    pub(super) fn first_entries(&mut self) -> Result<(), Finding> {
        for what in beginning() {
            drop(self.control().submit(By::Coordinator, what));
        }
        self.settle()
    }

    pub(super) fn office_publishes(
        &mut self,
        published: Published,
        everyone: bool,
    ) -> Result<(), Finding> {
        let service = published.service.clone();
        let policy =
            if everyone { first_policy(&service) } else { policy_text(&mut self.random, &service) };
        drop(self.control().put_policy(&ann(), &service, &policy));
        drop(self.control().publish(&ann(), published));
        self.settle()
    }

    pub(super) fn new_policy(&mut self, service: &ServiceName) -> Result<(), Finding> {
        let policy = policy_text(&mut self.random, service);
        drop(self.control().put_policy(&ann(), service, &policy));
        self.settle()
    }

    /// Enrols a machine, once more where it is enrolled: then it may get other labels.
    pub(super) fn enrol(&mut self, number: Number) -> Result<(), Finding> {
        self.office.tokens += 1;
        let name = self.office.tokens;
        let token = token(&mut self.random, name);
        drop(self.control().submit(By::Operator(ann()), token));
        let (secret, key, host) = (secret(name), key(number), host_id(number));
        self.truth.gone.remove(&host);
        drop(self.control().enrol(&secret, &host_name(number), &key));
        self.settle()
    }

    /// A person deletes a host.
    pub(super) fn delete(&mut self, number: Number) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let key = host.key;
        let name = self.office.view().hosts.get(&key).map(|host| host.name.clone());
        let Some(name) = name else { return Ok(()) };
        self.truth.gone.insert(key);
        self.truth.forget(&key);
        drop(self.control().remove_host(&ann(), &name));
        self.office.seats.remove(&key);
        self.settle()?;
        self.cut(number)
    }

    // ---- the coordinator dies ----

    /// What the ledger says.
    pub(super) fn replayed(&self) -> Option<View> {
        let mut view = View::default();
        for (payload, seq) in self.office.ledger.iter().zip(1..) {
            let entry = Entry::from_payload(seq, payload).ok()?;
            view.apply(&entry).ok()?;
        }
        Some(view)
    }

    /// The coordinator dies; what its ledger says must be what it was.
    pub(super) fn replay(&mut self) -> Result<Option<View>, Finding> {
        let was = self.office.view();
        let again = self.replayed().filter(|again| {
            (&again.hosts, &again.services, &again.releases, &again.rollouts)
                == (&was.hosts, &was.services, &was.releases, &was.rollouts)
        });
        if again.is_none() {
            self.found(Finding::Replay { entries: self.office.ledger.len() })?;
        }
        Ok(again)
    }

    /// A new process begins with what the ledger says.
    pub(super) fn start_office(&mut self, view: View) -> Result<(), Finding> {
        self.office.control = Control::new(view);
        self.look_at_the_clock();
        self.office.permits.clear();
        self.office.seats.clear();
        self.office.sent.clear();
        self.office.starting_until = self.now.plus_millis(PERMIT_COUNTED_MS);
        self.office.settle_at = Some(self.now.plus_millis(SETTLE_MILLIS));
        let numbers: Vec<Number> = self.hosts.keys().copied().collect();
        for number in numbers {
            self.cut(number)?;
            let wait = self.random.below(SETTLE_MILLIS);
            self.post(number, wait, Mail::Reconnect);
        }
        Ok(())
    }

    /// The coordinator's machine is lost; it starts again from a backup that is some entries old, its ledger is
    /// let grow past what was told before (docs/operations.md O5.5).
    pub(super) fn restore(&mut self) -> Result<(), Finding> {
        let newest = self.office.ledger.len();
        let lost = usize_of(self.random.below(40)).min(newest);
        if newest - lost < self.office.first_day {
            return Ok(());
        }
        self.office.ledger.truncate(newest - lost);
        let Some(view) = self.replayed() else {
            return self.found(Finding::Replay { entries: newest });
        };
        self.truth.restored();
        self.start_office(view)?;
        let [_, filler] = beginning();
        while usize::try_from(self.office.view().seq).unwrap_or(usize::MAX) <= newest {
            drop(self.control().submit(By::Operator(ann()), filler.clone()));
        }
        self.settle()
    }
}
