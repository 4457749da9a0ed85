//! The world of one seed: coordinator, hosts, the network between them, persons and faults, on one
//! clock. Owns the order of events; [`crate::check`] says what must hold.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::directive::ServiceWish;
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::report::Standing;
use groundswell_common::{HostId, OperatorName, ReleaseId, RolloutId, Timestamp};
use groundswell_machine::{Known, State};
use groundswell_rollout::{
    HaltCause, HostFact, Input, KeepOrRevert, LOST_GRACE_SECS, Moment, Outcome as RolloutOutcome,
    PauseCause, Phase, PhaseName, Plan, Progress, ProgressName, Rollout, Steer, busy,
    cares_about_link, check, desired, fact, generation, may_switch, next_deadline, step,
};

use crate::check::Finding;
use crate::draw::{HOST_BAKE_SECS, host_id, nature, planned, release};
use crate::host::{Ask, Host};
use crate::random::Random;

/// Lines of the trace that a failure shows.
const TRACE_MAX: usize = 40;
/// Facts that one report may hold.
const FACTS_MAX: usize = 4;
/// Hosts that are told something new after one event.
const TELLS_MAX: usize = 10_000;
/// Events of one seed with faults, and after them.
const EVENTS_MAX: usize = 1_500;
const CALM_EVENTS_MAX: usize = 60_000;

/// What went wrong in the world on purpose, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Agents that died.
    pub crashes: u64,
    /// Connections cut, with everything on its way.
    pub cuts: u64,
    /// Messages that came twice.
    pub twice: u64,
    /// Messages that came late.
    pub late: u64,
    /// Coordinators that died and replayed their ledger.
    pub replays: u64,
    /// Buttons pressed by persons.
    pub buttons: u64,
    /// Releases that took over from others.
    pub newer: u64,
}

impl std::ops::AddAssign for Faults {
    fn add_assign(&mut self, more: Self) {
        let Self { crashes, cuts, twice, late, replays, buttons, newer } = more;
        self.crashes += crashes;
        self.cuts += cuts;
        self.twice += twice;
        self.late += late;
        self.replays += replays;
        self.buttons += buttons;
        self.newer += newer;
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
    Report { standing: Standing, accepted: u64 },
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
    ledger: Vec<(usize, Input, Moment)>,
    seq: u64,
    stopped_since: Option<Timestamp>,
    /// Hosts that a rollout before had in flight, and until when they count.
    carried: BTreeMap<HostId, Timestamp>,
    /// Hosts whose wish changed.
    told: BTreeSet<HostId>,
    out: Outcome,
    lines: Vec<String>,
    faults_on: bool,
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
        let count = 2 + random.below(14);
        let (first, version) = release(0);
        let service = "shop".parse();
        let known = Known { id: first, version, seq: 0, floor: 0, one_way: false };
        let host = |number: u64, random: &mut Random| {
            let slowness = if random.one_in(8) { 2 + random.below(30) } else { 1 };
            let service = service.clone().unwrap_or_else(|_| unreachable!("a plain name"));
            (host_id(number), Host::new(host_id(number), service, known.clone(), slowness))
        };
        let hosts = (0..count).map(|number| host(number, &mut random)).collect();
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
            ledger: Vec::new(),
            seq: 0,
            stopped_since: None,
            carried: BTreeMap::new(),
            told: BTreeSet::new(),
            out: Outcome::default(),
            lines: Vec::new(),
            faults_on: true,
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
        let tick = self.newest().and_then(next_deadline);
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

    fn newest(&self) -> Option<&Rollout> {
        self.rollouts.last()
    }

    fn post(&mut self, host: HostId, millis: u64, mail: Mail) {
        let session = self.sessions.get(&host).copied().unwrap_or(0);
        let late = self.faults_on && self.random.one_in(30);
        self.out.faults.late += u64::from(late);
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
                self.host(id, |host, now| host.restart(now))?;
                self.link(id)
            }
            Mail::Reconnect => self.link(id),
            Mail::Directive { generation, wish } if linked => {
                self.host(id, |host, now| host.directive(generation, &wish, now))
            }
            Mail::Report { standing, accepted } if linked => self.heard(id, standing, accepted),
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
            self.out.faults.crashes += 1;
            self.cut(id)?;
            let wait = 1_000 + self.random.below(60_000);
            self.post(id, wait, Mail::Restart);
        }
        if let State::Switching { target } = &after
            && !matches!(before, State::Switching { .. })
            && up_before
        {
            self.began(id, target.id)?;
        }
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
        let Some(host) = self.hosts.get(&id).filter(|host| host.connected && host.up) else {
            return;
        };
        let word = (host.standing(), host.accepted);
        let (last, said) = self.reported.get(&id).cloned().unwrap_or((self.now, None));
        if said.as_ref() == Some(&word) {
            return;
        }
        let late = if self.faults_on && self.random.one_in(30) { 5_000 } else { 30 };
        let at = self.now.plus_millis(late).max(last);
        self.order += 1;
        let session = self.sessions.get(&id).copied().unwrap_or(0);
        let (standing, accepted) = word.clone();
        self.mail.insert((at, self.order), (id, session, Mail::Report { standing, accepted }));
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
        let moment = Moment { seq: self.seq, now: self.now };
        let Some(rollout) = self.rollouts.get_mut(at) else { return Ok(()) };
        let Ok(effects) = step(rollout, &input, moment) else { return Ok(()) };
        let (phase, now) = (rollout.phase().clone(), self.now);
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
        self.out.faults.twice += u64::from(twice);
        if twice {
            self.post(id, 3_000, Mail::Directive { generation, wish: wish.clone() });
        }
        self.post(id, 10, Mail::Directive { generation, wish });
        Ok(())
    }

    /// A host's connection stands again.
    fn link(&mut self, id: HostId) -> Result<(), Finding> {
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
        let number = self.rollouts.len() as u64 + 1;
        let bad = self.random.one_in(3);
        let (id, version) = release(number);
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        for host in &ids {
            let nature = nature(&mut self.random, bad);
            if let Some(host) = self.hosts.get_mut(host) {
                host.meet(id, nature, (number, version.clone()));
            }
        }
        let runs: BTreeMap<HostId, Option<ReleaseId>> =
            self.words.iter().map(|(id, (standing, _))| (*id, standing.running)).collect();
        let first = release(0).0;
        let count = self.hosts.len() as u64;
        let running = |id| runs.get(&id).copied().unwrap_or(Some(first));
        let Some(plan) = planned(&mut self.random, (count, number), running) else {
            return Ok(());
        };
        let Ok(name) = format!("shop-{number}").parse::<RolloutId>() else { return Ok(()) };
        let busy = self.newest().map_or_else(Vec::new, |before| busy(before, self.now));
        self.carry();
        if let Some(before) = self.rollouts.len().checked_sub(1) {
            self.submit(before, Input::Supersede { by: name.clone() })?;
        }
        self.rollouts.push(Rollout::new(name, plan.clone()));
        self.plans.push(plan);
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

    // ---- what goes wrong ----

    fn fault(&mut self) -> Result<(), Finding> {
        let ids: Vec<HostId> = self.hosts.keys().copied().collect();
        let Some(id) = self.random.pick(&ids).copied() else { return Ok(()) };
        match self.random.below(10) {
            0..=2 => {
                self.out.faults.cuts += 1;
                self.cut(id)?;
                let wait = self.random.below(90_000);
                self.post(id, wait, Mail::Reconnect);
                Ok(())
            }
            3 | 4 => {
                let left = u32::try_from(self.random.below(3)).unwrap_or(0);
                if let Some(host) = self.hosts.get_mut(&id) {
                    host.fuse = Some(left);
                }
                Ok(())
            }
            5 => self.replay(),
            6 if self.random.one_in(4) => {
                let busy = |rollout: &Rollout| rollout.phase().name() == PhaseName::Reverting;
                if self.newest().is_some_and(busy) || self.rollouts.len() >= 4 {
                    return Ok(());
                }
                self.out.faults.newer += 1;
                self.publish()
            }
            _ => self.button(),
        }
    }

    /// The coordinator dies; what its ledger says must be what it was.
    fn replay(&mut self) -> Result<(), Finding> {
        self.out.faults.replays += 1;
        let rollouts = self.rollouts.iter().zip(&self.plans);
        let mut again: Vec<Rollout> =
            rollouts.map(|(was, plan)| Rollout::new(was.id().clone(), plan.clone())).collect();
        let entries = self.ledger.len();
        for (at, input, moment) in &self.ledger {
            let replayed = again.get_mut(*at).map(|rollout| step(rollout, input, *moment));
            if !matches!(replayed, Some(Ok(_))) {
                return Err(Finding::Replay { entries });
            }
        }
        if again != self.rollouts {
            return Err(Finding::Replay { entries });
        }
        Ok(())
    }

    fn button(&mut self) -> Result<(), Finding> {
        self.out.faults.buttons += 1;
        let Ok(by) = "ann".parse::<OperatorName>() else { return Ok(()) };
        let why = "a person".to_owned();
        let at = self.rollouts.len().saturating_sub(1);
        let Some(rollout) = self.newest() else { return Ok(()) };
        let plan = rollout.plan_hash();
        let hosts: Vec<HostId> = self.hosts.keys().copied().collect();
        let host = self.random.pick(&hosts).copied().unwrap_or_else(|| host_id(0));
        let input = match self.random.below(16) {
            0 => Input::Pause { by, why },
            1 => Input::Halt { by, why },
            2..=7 => Input::Resume { by, why },
            8 => Input::Revert { by, why },
            9 if self.random.one_in(4) => Input::Abort { by, why, keep: KeepOrRevert::Revert },
            10 => Input::Approve { by, plan, wave: None },
            11 => Input::Steer { by, why, steer: Steer::Exclude { host } },
            12 => Input::Steer { by, why, steer: Steer::Retry { host } },
            13 => Input::Steer { by, why, steer: Steer::Slow { max_in_flight: Some(1) } },
            _ => Input::Steer { by, why, steer: Steer::Promote },
        };
        self.submit(at, input)
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
        self.mail.is_empty()
            && !self.hosts.values().any(Host::in_flight)
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
            return Err(Finding::Endless(format!("{:?}", rollout.phase())));
        };
        let release = rollout.release();
        for (wave, planned, entry) in rollout.hosts() {
            let Some(host) = self.hosts.get(&planned.id) else { continue };
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

    // ---- what must hold ----

    fn began(&self, id: HostId, release: ReleaseId) -> Result<(), Finding> {
        let ours = self.newest().is_some_and(|rollout| rollout.release() == release);
        let before = self.rollouts.len() >= 2;
        if !ours && !before {
            return Err(Finding::SwitchedAway(id, release));
        }
        let long = |since: Timestamp| self.now.millis_since(since) > PERMIT_VALID_MS;
        if ours && self.stopped_since.is_some_and(long) {
            return Err(Finding::SwitchedWhileStopped(id));
        }
        if ours {
            self.shared_slots()?;
        }
        Ok(())
    }

    /// Keeps in mind which hosts the rollout that is superseded has in flight.
    fn carry(&mut self) {
        let least = self.now.plus_secs(LOST_GRACE_SECS);
        let Some(rollout) = self.newest() else { return };
        let until = |progress: &Progress| match progress {
            Progress::Granted { deadline, .. }
            | Progress::Probing { deadline }
            | Progress::Baking { deadline }
            | Progress::Reverting { deadline } => Some((*deadline).max(least)),
            Progress::Pending
            | Progress::Staging
            | Progress::Staged
            | Progress::Committed
            | Progress::Failed { .. }
            | Progress::Lost
            | Progress::Absent
            | Progress::Overdue
            | Progress::Reverted
            | Progress::Excluded { .. } => None,
        };
        let more: Vec<(HostId, Timestamp)> = rollout
            .hosts()
            .filter_map(|(_, host, entry)| Some((host.id, until(&entry.progress)?)))
            .collect();
        self.carried.extend(more);
    }

    /// As a host begins to switch: hosts of this rollout and of the one before share the slots.
    fn shared_slots(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let before = self.carried.iter().filter(|(id, until)| {
            let host = self.hosts.get(id);
            let flies = host.is_some_and(|host| host.up && host.in_flight());
            flies && self.now < **until && !holds_slot(rollout, id)
        });
        let ours = rollout.hosts().filter(|(_, host, _)| holds_slot(rollout, &host.id));
        let (before, ours) = (before.count(), ours.count());
        let (in_flight, allowed) = (before + ours, open_slots(rollout));
        if before > 0 && in_flight > allowed {
            return Err(Finding::InFlight { in_flight, allowed });
        }
        Ok(())
    }

    /// Hosts in flight with the newest release: slots, and those that it has lost sight of.
    fn in_flight(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        let release = rollout.release();
        let flying = |id: &HostId| {
            let host = self.hosts.get(id);
            host.is_some_and(|host| host.in_flight() && host.up && host.live == Some(release))
        };
        let (mut in_flight, mut unseen) = (0, 0);
        for (_, planned, _) in rollout.hosts() {
            in_flight += usize::from(flying(&planned.id));
            let sighted = holds_slot(rollout, &planned.id);
            unseen += usize::from(flying(&planned.id) && !sighted);
        }
        let allowed = unseen + open_slots(rollout);
        if in_flight > allowed {
            return Err(Finding::InFlight { in_flight, allowed });
        }
        Ok(())
    }

    /// A host that says that it committed has baked by its own clock.
    fn earned(&self, id: HostId) -> Result<(), Finding> {
        let (Some(host), Some(rollout)) = (self.hosts.get(&id), self.newest()) else {
            return Ok(());
        };
        let baked = |passed: Timestamp| passed.plus_secs(HOST_BAKE_SECS) <= self.now;
        let ran_before = rollout.planned(&id).is_some_and(|(_, host)| host.previous.is_none());
        if host.live == Some(rollout.release()) && !ran_before && !host.passed_at.is_some_and(baked)
        {
            return Err(Finding::Unearned(id));
        }
        Ok(())
    }

    fn budget(&self) -> Result<(), Finding> {
        let Some(rollout) = self.newest() else { return Ok(()) };
        match rollout.phase() {
            Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => {
                for (wave, at) in rollout.plan().waves.iter().zip(0..) {
                    let (failures, budget) = (rollout.failures(at), wave.failure_budget);
                    if failures > budget {
                        return Err(Finding::Budget { wave: at, failures, budget });
                    }
                }
                Ok(())
            }
            Phase::Halted { cause: HaltCause::Breach(breach), .. }
            | Phase::Paused { cause: PauseCause::Breach(breach), .. }
                if breach.failures <= breach.budget =>
            {
                Err(Finding::Hasty { failures: breach.failures, budget: breach.budget })
            }
            Phase::Halted { .. }
            | Phase::Paused { .. }
            | Phase::Planned
            | Phase::Reverting { .. }
            | Phase::Done { .. } => Ok(()),
        }
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

/// Whether a person must promote the wave: approvals are there, the manual gate is shut.
fn waits_for_promotion(rollout: &Rollout, wave: u32) -> bool {
    let planned = usize::try_from(wave).ok().and_then(|wave| rollout.plan().waves.get(wave));
    let approved = rollout.approvals().iter().any(|given| given.by.as_str() == "ben");
    planned.is_some_and(|wave| wave.gate.manual && (approved || wave.gate.approvals == 0))
}

/// Slots of the open waves.
fn open_slots(rollout: &Rollout) -> usize {
    let caps = rollout.plan().waves.iter().zip(0..).filter(|(_, at)| rollout.is_open(*at));
    let slots = caps.map(|(wave, _)| wave.max_in_flight).max().unwrap_or(0);
    usize::try_from(slots).unwrap_or(usize::MAX)
}

/// Whether the host holds a slot of this rollout.
fn holds_slot(rollout: &Rollout, host: &HostId) -> bool {
    rollout.host(host).is_some_and(|entry| match entry.progress.name() {
        ProgressName::Granted
        | ProgressName::Probing
        | ProgressName::Baking
        | ProgressName::Reverting => true,
        ProgressName::Pending
        | ProgressName::Staging
        | ProgressName::Staged
        | ProgressName::Committed
        | ProgressName::Failed
        | ProgressName::Lost
        | ProgressName::Absent
        | ProgressName::Overdue
        | ProgressName::Reverted
        | ProgressName::Excluded => false,
    })
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
