//! The state of the control, and the one way in which it changes: [`Control::submit`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use groundswell_common::condition::{Condition, Lack, ServiceCondition};
use groundswell_common::directive::{Action, ServiceWish};
use groundswell_common::report::{HostState, Report, Standing};
use groundswell_common::trust::RawTold;
use groundswell_common::wire::{LEVEL_REMOVES, ReleaseProof};
use groundswell_common::{Environment, HostId, ReleaseId, RolloutId, ServiceName, Timestamp};
use groundswell_rollout::{
    HostEntry, HostFact, Input, Progress, Rollout, Transition, due, next_deadline,
};

use crate::entry::{By, Entry, PAYLOAD_MAX_BYTES, What};
use crate::refused::Refused;
use crate::rollouts::Hindrance;
use crate::time::Time;
use crate::twins::{self, Twins};
use crate::view::{Applied, Host, View};

/// Characters of the version that an agent says it has.
const AGENT_VERSION_MAX_CHARS: usize = 64;
/// Facts that one standing may give at once.
const FACTS_PER_STANDING_MAX: usize = 8;
/// Changes of what a host runs, outside of rollouts, that are kept in one span.
const NOTED_MAX: u32 = 60;
/// That span, in milliseconds.
const NOTED_SPAN_MILLIS: u64 = 3_600_000;
/// A host that is back within this time was not away, in milliseconds.
const AWAY_AFTER_MILLIS: u64 = 2_000;
/// Ticks of one rollout that one instant may need.
const TICKS_MAX: usize = 32;

/// What a host said last. In memory only: agents tell all of it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// Version of its agent.
    pub agent_version: String,
    /// Its last report.
    pub report: Option<Report>,
    /// What it has and lacks; `None` from an agent that does not say it.
    pub condition: Option<Condition>,
}

impl Word {
    /// What the host said of a service.
    #[must_use]
    pub fn standing(&self, service: &ServiceName) -> Option<&Standing> {
        let report = self.report.as_ref()?;
        report.services.iter().find(|standing| standing.service == *service)
    }

    /// What the host has and lacks for a service.
    #[must_use]
    pub fn condition_of(&self, service: &ServiceName) -> Option<&ServiceCondition> {
        let condition = self.condition.as_ref()?;
        condition.services.iter().find(|found| found.service == *service)
    }

    /// The release of a service that the host says it runs.
    #[must_use]
    pub fn running(&self, service: &ServiceName) -> Option<ReleaseId> {
        self.standing(service).and_then(|standing| standing.running)
    }
}

/// An entry that is applied and not durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Its number.
    pub seq: u64,
    /// When it was decided.
    pub at: Timestamp,
    /// Its JSON form.
    pub payload: Vec<u8>,
}

/// What a host should be, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wished {
    /// The environment that the host has pinned.
    pub environment: Environment,
    /// The number of the wish: the newest entry behind it.
    pub generation: u64,
    /// One wish a service.
    pub services: Vec<ServiceWish>,
    /// Proofs of the releases that they name.
    pub proofs: Vec<ReleaseProof>,
    /// What the host should know of itself and of the way here; `None` where its agent does not take it.
    pub told: Option<RawTold>,
}

/// Everything that is decided, and what it is decided from.
#[derive(Debug)]
pub struct Control {
    pub(crate) view: View,
    pub(crate) now: Timestamp,
    time: Time,
    pub(crate) connected: BTreeSet<HostId>,
    pub(crate) words: BTreeMap<HostId, Word>,
    /// Services where a release may be waiting for the end of a rollout.
    pub(crate) waiting: BTreeSet<ServiceName>,
    /// When time was looked at last.
    pub(crate) ticked: Timestamp,
    /// What is in the way of a release that is to start.
    pub(crate) hindered: BTreeMap<(ServiceName, Environment), Hindrance>,
    pending: Vec<Pending>,
    /// Hosts whose wish must be computed again.
    stale: BTreeSet<HostId>,
    all_stale: bool,
    transitions: Vec<(RolloutId, Transition)>,
    /// What was refused of the control's own decisions, with what they were about.
    pub(crate) refusals: Vec<(String, Refused)>,
    /// Changes of what a host runs that were kept lately: since when, and how many.
    noted: BTreeMap<HostId, (Timestamp, u32)>,
    pub(crate) twins: Twins,
    /// Hosts whose connection went, and when they count as away.
    leaving: BTreeMap<HostId, Timestamp>,
    /// Hosts that used a slot of a service as a plan left them out, and until when they may be in the middle of it.
    pub(crate) passed_over: BTreeMap<(ServiceName, HostId), Timestamp>,
}

impl Control {
    /// A control that nobody is connected to yet.
    #[must_use]
    pub fn new(view: View) -> Self {
        Self {
            view,
            now: Timestamp::from_millis(0),
            time: Time::new(),
            connected: BTreeSet::new(),
            words: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ticked: Timestamp::from_millis(0),
            hindered: BTreeMap::new(),
            pending: Vec::new(),
            stale: BTreeSet::new(),
            all_stale: false,
            transitions: Vec::new(),
            refusals: Vec::new(),
            noted: BTreeMap::new(),
            twins: Twins::default(),
            leaving: BTreeMap::new(),
            passed_over: BTreeMap::new(),
        }
    }

    /// What the ledger adds up to.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The view's records that changed since they were last taken for the store.
    ///
    /// # Errors
    /// As [`View::take_dirty`].
    pub fn take_dirty(&mut self) -> Result<BTreeMap<String, Option<Vec<u8>>>, serde_json::Error> {
        self.view.take_dirty()
    }

    /// The machine's clock says `clock`, and one that only counts `counted`, from any start: what they make of the
    /// time counts for every decision until the next call.
    pub fn look_at_the_clock(&mut self, clock: Timestamp, counted: Duration) {
        self.time.look(clock, self.view.at, counted);
        self.now = self.time.now();
    }

    /// The time that decisions go by: never before the newest entry's.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// By how many milliseconds that is ahead of the machine's clock.
    #[must_use]
    pub fn ahead_millis(&self) -> u64 {
        self.time.ahead_millis()
    }

    /// What a host said last.
    #[must_use]
    pub fn word(&self, host: &HostId) -> Option<&Word> {
        self.words.get(host)
    }

    /// Whether a host is connected.
    #[must_use]
    pub fn is_connected(&self, host: &HostId) -> bool {
        self.connected.contains(host)
    }

    /// Whether two machines use the key of a host.
    #[must_use]
    pub fn is_twin(&self, host: &HostId) -> bool {
        self.twins.has(host)
    }

    /// Hosts connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected.len()
    }

    /// Applies one decision; the shell makes it durable with the next [`Control::take_pending`].
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn submit(&mut self, by: By, what: What) -> Result<u64, Refused> {
        let seq = self.view.seq + 1;
        let at = self.view.at.map_or(self.now, |before| before.max(self.now));
        let entry = Entry { seq, at, by, what };
        let payload = entry.to_payload().map_err(Refused::Json)?;
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(Refused::EntryTooLarge(payload.len()));
        }
        let applied = self.view.apply(&entry)?;
        self.pending.push(Pending { seq, at, payload });
        let turns = self.note(&entry.what, applied);
        if let What::RolloutInput { rollout, .. } = &entry.what {
            for host in turns {
                self.take_its_turn(host, rollout, seq);
            }
        }
        Ok(seq)
    }

    /// Keeps what must be done about an entry once it is durable; the hosts whose turn it is.
    fn note(&mut self, what: &What, applied: Applied) -> Vec<HostId> {
        self.all_stale |= applied.all_hosts;
        self.stale.extend(applied.hosts);
        let (What::RolloutInput { rollout, .. }, Some(effects)) = (what, applied.effects) else {
            return Vec::new();
        };
        let turns = match (effects.all_hosts, self.view.rollout(rollout)) {
            (true, Some(started)) => started.hosts().map(|(_, host, _)| host.id).collect(),
            (true, None) | (false, _) => effects.changed_hosts,
        };
        let over = self.view.rollout(rollout).filter(|rollout| rollout.is_over());
        if let Some(over) = over.filter(|_| !effects.transitions.is_empty()) {
            self.waiting.insert(over.plan().service.clone());
        }
        let transitions = effects.transitions.into_iter();
        self.transitions.extend(transitions.map(|transition| (rollout.clone(), transition)));
        turns
    }

    pub(crate) fn rollout_input(
        &mut self,
        by: By,
        rollout: &RolloutId,
        input: Input,
    ) -> Result<u64, Refused> {
        self.submit(by, What::RolloutInput { rollout: rollout.clone(), input })
    }

    /// A host whose turn came in a rollout with entry `seq` is held where the coordinator itself keeps it out. One that
    /// is wished the same as before, since it has fetched beforehand, gets nothing to answer to: what it said last says
    /// where it stands.
    fn take_its_turn(&mut self, host: HostId, rollout: &RolloutId, seq: u64) {
        let found = self.view.rollout(rollout).and_then(|rollout| rollout.host(&host));
        let Some(entry) = found else { return };
        let is_held = matches!(entry.progress, Progress::Held { .. });
        let is_wished_the_same = entry.progress == Progress::Staging && entry.generation < seq;
        match self.kept_out(&host) {
            Some((lack, why)) if !is_held => {
                let fact = HostFact::Held { lack, why };
                self.submit_or_note(By::Coordinator, rollout, Input::Host { host, fact });
            }
            None if is_wished_the_same => {
                let condition = self.words.get(&host).and_then(|word| word.condition.clone());
                let services = condition.map(|condition| condition.services).unwrap_or_default();
                self.lacks_of(host, &services);
                self.hear_again(host);
            }
            Some(_) | None => {}
        }
    }

    /// Why the coordinator itself keeps a host out of all rollouts.
    pub(crate) fn kept_out(&self, host: &HostId) -> Option<(Lack, String)> {
        if self.twins.has(host) {
            return Some((Lack::Twin, twins::WHY.to_owned()));
        }
        let drained = self.view.hosts.get(host)?.drained.clone()?;
        Some((Lack::Drained, drained))
    }

    /// For inputs that the core itself asked for: a refusal is worth a line, and no more.
    pub(crate) fn submit_or_note(&mut self, by: By, rollout: &RolloutId, input: Input) -> bool {
        let refused = self.rollout_input(by, rollout, input).err();
        let taken = refused.is_none();
        self.refusals.extend(refused.map(|refused| (rollout.to_string(), refused)));
        taken
    }

    /// A session with an enrolled host stands; `false` where nobody knows the host.
    pub fn arrive(&mut self, host: HostId, (agent_version, level): (String, u8)) -> bool {
        let Some(known) = self.view.hosts.get(&host) else { return false };
        if known.level != level && self.may_note(host) {
            let what = What::HostSpeaks { host, level };
            if let Err(refused) = self.submit(By::Host(host), what) {
                self.refusals.push((host.to_string(), refused));
            }
        }
        let before = self.words.remove(&host).unwrap_or_default();
        let agent_version = agent_version.chars().take(AGENT_VERSION_MAX_CHARS).collect();
        self.words.insert(host, Word { agent_version, ..before });
        self.connected.insert(host);
        self.leaving.remove(&host);
        self.link_changed(host, true);
        self.stale.insert(host);
        true
    }

    /// A machine with the key of a host of which another one is connected was sent away.
    pub fn sent_away(&mut self, host: &HostId) {
        self.twins.knocks(host, self.now);
    }

    /// The session of a host is over. Rollouts hear of it where the host is not back soon.
    pub fn leave(&mut self, host: HostId) {
        if self.connected.remove(&host) {
            self.leaving.insert(host, self.now.plus_millis(AWAY_AFTER_MILLIS));
        }
    }

    /// Tells rollouts of hosts that have been gone for long enough. One that comes and goes all the time is told of a
    /// bounded number of times.
    fn tell_who_is_away(&mut self) {
        let now = self.now;
        let gone = self.leaving.iter().filter(|(_, at)| **at <= now);
        let gone: Vec<HostId> = gone.map(|(host, _)| *host).collect();
        for host in gone {
            if self.may_note(host) {
                self.leaving.remove(&host);
                self.link_changed(host, false);
            } else {
                self.leaving.insert(host, now.plus_millis(NOTED_SPAN_MILLIS));
            }
        }
    }

    /// The session of a host is closed by the shell itself; the host comes back at once.
    pub fn close(&mut self, host: &HostId) {
        self.connected.remove(host);
    }

    pub(crate) fn link_changed(&mut self, host: HostId, connected: bool) {
        let cares = |rollout: &&groundswell_rollout::Rollout| {
            groundswell_rollout::cares_about_link(rollout, &host, connected)
        };
        let rollouts: Vec<RolloutId> =
            self.view.live_rollouts().filter(cares).map(|r| r.id().clone()).collect();
        for rollout in rollouts {
            let input =
                if connected { Input::Connected { host } } else { Input::Disconnected { host } };
            self.submit_or_note(By::Coordinator, &rollout, input);
        }
    }

    /// Takes what a connected host says that it has and lacks.
    pub fn condition(&mut self, host: HostId, condition: Condition) {
        if self.twins.hear(host, condition.instance, self.now) {
            let fact = HostFact::Held { lack: Lack::Twin, why: twins::WHY.to_owned() };
            self.tell_rollouts(By::Coordinator, host, &fact);
            self.stale.insert(host);
        }
        let freed = self.lacks_of(host, &condition.services);
        if let Some(word) = self.words.get_mut(&host) {
            word.condition = Some(condition);
        }
        if freed {
            self.hear_again(host);
        }
    }

    /// What a host has and lacks becomes entries; whether one of them frees it.
    fn lacks_of(&mut self, host: HostId, services: &[ServiceCondition]) -> bool {
        let mut freed = false;
        for service in services {
            for id in self.live_of(&host, &service.service) {
                let Some(rollout) = self.view.rollout(&id) else { continue };
                let Some(fact) = groundswell_rollout::lack(rollout, &host, service) else {
                    continue;
                };
                // Who cannot read its journal, or is in the middle of the switch, says by its report how it goes on.
                let word = self.words.get(&host).and_then(|word| word.standing(&service.service));
                if fact == HostFact::Freed
                    && word.is_some_and(|said| {
                        may_have_switched(rollout, &host, said.state) == Some(true)
                    })
                {
                    continue;
                }
                let bytes = matches!(fact, HostFact::Fetched { .. });
                if bytes && !groundswell_rollout::bytes_count(rollout, self.now) {
                    continue;
                }
                freed |= fact == HostFact::Freed;
                self.submit_or_note(By::Host(host), &id, Input::Host { host, fact });
            }
        }
        freed
    }

    /// What a host said last, once more: one that was held may stand already where its wish wants it, and then has
    /// nothing new to say.
    pub(crate) fn hear_again(&mut self, host: HostId) {
        if let Some(report) = self.words.get(&host).and_then(|word| word.report.clone()) {
            self.facts_of(host, &report);
        }
    }

    /// Keeps what a host at rest runs, where the facts of rollouts have not said it: so it is known of hosts that
    /// are away, and after a restart.
    fn keep_runs(&mut self, host: HostId, report: &Report) {
        let Some(record) = self.view.hosts.get(&host) else { return };
        let rests = |standing: &&Standing| standing.state.is_at_rest();
        let news: Vec<(ServiceName, Option<ReleaseId>)> = report
            .services
            .iter()
            .filter(rests)
            .filter(|standing| record.runs.get(&standing.service).copied() != standing.running)
            .map(|standing| (standing.service.clone(), standing.running))
            .collect();
        for (service, release) in news {
            if !self.may_note(host) {
                return;
            }
            let what = What::HostRuns { host, service, release };
            if let Err(refused) = self.submit(By::Host(host), what) {
                self.refusals.push((host.to_string(), refused));
            }
        }
    }

    /// Whether one more change of what a host runs is kept: a host that says something else each time does not fill
    /// the ledger.
    fn may_note(&mut self, host: HostId) -> bool {
        let now = self.now;
        let (since, count) = self.noted.entry(host).or_insert((now, 0));
        if now.millis_since(*since) > NOTED_SPAN_MILLIS {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= NOTED_MAX
    }

    /// Takes a report of a connected host: what it adds to rollouts becomes entries.
    pub fn report(&mut self, host: HostId, report: Report) {
        // Hosts count as their directives do, rollouts as the ledger does.
        let generation = report.generation.saturating_sub(self.view.lift);
        let report = Report { generation, ..report };
        self.facts_of(host, &report);
        self.keep_runs(host, &report);
        if let Some(word) = self.words.get_mut(&host) {
            word.report = Some(report);
        }
    }

    fn facts_of(&mut self, host: HostId, report: &Report) {
        for standing in &report.services {
            self.let_go(host, &standing.service);
            self.reads_again(host, standing);
            for _ in 0..FACTS_PER_STANDING_MAX {
                let found = self.live_of(&host, &standing.service).into_iter().find_map(|id| {
                    let rollout = self.view.rollout(&id)?;
                    let fact =
                        groundswell_rollout::fact(rollout, &host, standing, report.generation)?;
                    // It stands in its bake and does not go on in it.
                    let goes_on = matches!(fact, HostFact::SwitchStarted | HostFact::Passed);
                    let stopped = goes_on && self.is_stopped_in_switch(rollout, host);
                    (!stopped).then_some((id, fact))
                });
                let Some((rollout, fact)) = found else { break };
                if !self.submit_or_note(By::Host(host), &rollout, Input::Host { host, fact }) {
                    break;
                }
            }
        }
    }

    /// Whether somebody has stopped what a host is bringing up, by its own words.
    fn is_stopped_in_switch(&self, rollout: &Rollout, host: HostId) -> bool {
        let service = &rollout.plan().service;
        let says = self.words.get(&host).and_then(|word| word.condition_of(service)?.held.as_ref());
        let entry = rollout.host(&host);
        says.is_some_and(|held| held.lack == Lack::Paused)
            && entry.is_some_and(|entry| {
                matches!(entry.progress, Progress::Held { lack: Lack::Paused, .. })
            })
    }

    /// A host whose agent could not read its journal, or whose service somebody had stopped in a switch, is free once
    /// neither is so any more and it lacks nothing else.
    fn reads_again(&mut self, host: HostId, standing: &Standing) {
        let lacks = self.words.get(&host).and_then(|word| word.condition_of(&standing.service));
        if lacks.is_some_and(|lacks| lacks.held.is_some()) {
            return;
        }
        let waits = |id: &RolloutId| {
            let rollout = self.view.rollout(id);
            rollout.and_then(|rollout| may_have_switched(rollout, &host, standing.state))
                == Some(false)
        };
        let held = self.live_of(&host, &standing.service).into_iter().filter(waits);
        for rollout in held.collect::<Vec<_>>() {
            let input = Input::Host { host, fact: HostFact::Freed };
            self.submit_or_note(By::Host(host), &rollout, input);
        }
    }

    /// What takes a service off hosts that are no targets has nothing to say any more of one that is a target again:
    /// it is let go, or it would lose again what it is given.
    fn let_go(&mut self, host: HostId, name: &ServiceName) {
        let wanted = |id: &RolloutId| {
            let found = self.view.services.get(name).zip(self.view.rollout(id));
            found.is_some_and(|(service, rollout)| {
                let reverted = |entry: &HostEntry| entry.progress == Progress::Reverted;
                self.view.has_let_go(service, rollout, &host)
                    && rollout.host(&host).is_some_and(reverted)
            })
        };
        let live = self.view.services.get(name).into_iter().flat_map(|service| &service.live);
        for rollout in live.filter(|id| wanted(id)).cloned().collect::<Vec<_>>() {
            self.submit_or_note(By::Coordinator, &rollout, Input::Removed { host });
        }
    }

    /// Rollouts of a service that what a host says is for, the newest first: down to the one that speaks for it. What
    /// an older one says of it is history.
    fn live_of(&self, host: &HostId, service: &ServiceName) -> Vec<RolloutId> {
        let known = self.view.hosts.get(host).zip(self.view.services.get(service));
        let speaking = known.into_iter().flat_map(|(record, service)| {
            let speaking = self.view.speaking(service, &record.environment);
            speaking.filter(|rollout| !self.view.has_let_go(service, rollout, host))
        });
        let mut found = Vec::new();
        for rollout in speaking {
            found.push(rollout.id().clone());
            // One that was ended before it began has no say, and the one before it goes on.
            let has = rollout.host(host).is_some() && rollout.started().is_some();
            if has && rollout.plan().off().is_none() {
                break;
            }
        }
        found
    }

    /// When time alone changes something next; `None` where it changes nothing.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let deadlines = self.view.live_rollouts().filter_map(next_deadline);
        let away = self.leaving.values().min().copied();
        deadlines.chain(self.twins.next_over()).chain(self.next_start(self.now)).chain(away).min()
    }

    /// What time alone brings: deadlines of rollouts, and releases that go on to the next environment.
    pub fn tick(&mut self) {
        let now = self.now;
        self.tell_who_is_away();
        for host in self.twins.over(now) {
            self.tell_rollouts(By::Coordinator, host, &HostFact::Freed);
            self.stale.insert(host);
        }
        let ids: Vec<RolloutId> =
            self.view.live_rollouts().filter(|r| due(r, now)).map(|r| r.id().clone()).collect();
        for id in ids {
            for _ in 0..TICKS_MAX {
                let is_due = self.view.rollout(&id).is_some_and(|rollout| due(rollout, now));
                if !is_due || !self.submit_or_note(By::Coordinator, &id, Input::Tick) {
                    break;
                }
            }
        }
        self.waiting.extend(self.come_due(now));
        self.ticked = now;
    }

    /// Once after a start, when agents had time to come back: hosts that have not are away. Nobody remembers whose key
    /// two machines used, and that a host is drained or no more may have become durable just before the end of the
    /// process, what follows from it not: hosts that nothing keeps out any more go on, the others are held.
    pub fn sweep(&mut self) {
        let (mut away, mut let_in, mut kept_out) = (Vec::new(), Vec::new(), Vec::new());
        for rollout in self.view.live_rollouts() {
            for (_, host, entry) in rollout.hosts() {
                if entry.away.is_none() && !self.is_connected(&host.id) {
                    away.push(host.id);
                }
                let ours = matches!(
                    entry.progress,
                    Progress::Held { lack: Lack::Drained | Lack::Twin, .. }
                );
                let waits = matches!(
                    entry.progress,
                    Progress::Staging | Progress::Staged | Progress::Granted { .. }
                );
                if !(ours || waits) || rollout.successor().is_some() {
                    continue;
                }
                match self.kept_out(&host.id) {
                    None if ours => let_in.push((rollout.id().clone(), host.id)),
                    Some((lack, why)) if waits => {
                        let fact = HostFact::Held { lack, why };
                        kept_out.push((rollout.id().clone(), host.id, fact));
                    }
                    None | Some(_) => {}
                }
            }
        }
        for (rollout, host, fact) in kept_out {
            self.submit_or_note(By::Coordinator, &rollout, Input::Host { host, fact });
        }
        for (rollout, host) in let_in {
            let input = Input::Host { host, fact: HostFact::Freed };
            self.submit_or_note(By::Coordinator, &rollout, input);
            self.hear_again(host);
        }
        for host in away {
            self.link_changed(host, false);
        }
        self.start_planned();
        // A release may have become durable just before the end of the process, its plan not.
        self.waiting.extend(self.view.services.keys().cloned());
    }

    /// Entries that are applied and not durable, in order.
    pub fn take_pending(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.pending)
    }

    /// Whether there are such entries.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Connected hosts whose wish may have changed since this was asked last.
    pub fn take_stale(&mut self) -> Vec<HostId> {
        let stale = std::mem::take(&mut self.stale);
        if std::mem::take(&mut self.all_stale) {
            return self.connected.iter().copied().collect();
        }
        stale.into_iter().filter(|host| self.is_connected(host)).collect()
    }

    /// Phases that rollouts left since this was asked last, for the log.
    pub fn take_transitions(&mut self) -> Vec<(RolloutId, Transition)> {
        std::mem::take(&mut self.transitions)
    }

    /// Decisions of the control itself that were refused since this was asked last, for the log.
    pub fn take_refusals(&mut self) -> Vec<(String, Refused)> {
        std::mem::take(&mut self.refusals)
    }

    /// What the host should be now; `None` where it is not enrolled.
    #[must_use]
    pub fn wish(&self, host: &HostId) -> Option<Wished> {
        let record = self.view.hosts.get(host)?;
        let environment = record.environment.clone();
        let (services, generation) = self.view.wishes(host);
        let mut releases = BTreeSet::new();
        for wish in &services {
            releases.extend(named(&wish.action));
        }
        let proof = |release: &ReleaseId| {
            let found = self.view.releases.get(release)?;
            Some(ReleaseProof {
                release: *release,
                signatures: found.published.signatures.clone(),
                approvals: found.approvals.clone(),
            })
        };
        let proofs = releases.iter().filter_map(proof).collect();
        let told = self.told(host, record);
        Some(Wished { environment, generation, services, proofs, told })
    }

    fn told(&self, id: &HostId, host: &Host) -> Option<RawTold> {
        let addresses = self.view.addresses.as_ref().filter(|_| host.level >= LEVEL_REMOVES)?;
        Some(RawTold {
            host: *id,
            name: host.name.clone(),
            number: addresses.seq.max(host.renamed) + self.view.lift,
            agents: addresses.agents.clone(),
            api: addresses.api.clone(),
        })
    }
}

/// The releases that a host may have to fetch for an action.
fn named(action: &Action) -> Option<ReleaseId> {
    match action {
        Action::Hold {} | Action::Remove {} => None,
        Action::Stage { release } | Action::Switch { release } => Some(*release),
        Action::Revert { to, .. } => *to,
    }
}

/// Of a host that is held and may have switched all the same: whether its report says how it goes on, since its journal
/// cannot be read still, or it is in the middle of the switch. `None` where it is not held so.
fn may_have_switched(rollout: &Rollout, host: &HostId, state: HostState) -> Option<bool> {
    let Progress::Held { lack, .. } = rollout.host(host)?.progress else { return None };
    if lack == Lack::Journal {
        return Some(state == HostState::Stuck);
    }
    (lack == Lack::Paused).then(|| state.is_busy())
}
