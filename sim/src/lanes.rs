//! A service in several environments, by seed: releases that go on from one to the next, persons who skip, hold,
//! revert and change the policy, a coordinator that is started again. Hosts obey at once or fail; what is looked
//! at is who gets what, and when. Owns its own count of what completed where.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Failure, HostState, Report, Standing, Verdict};
use groundswell_common::wire::PermitRequest;
use groundswell_common::{
    Digest, Environment, HostId, Labels, OperatorName, ReleaseId, RolloutId, ServiceName, Timestamp,
};
use groundswell_control::entry::{By, Entry, Published, What};
use groundswell_control::view::View;
use groundswell_control::{Control, Hold, Start, Verb};
use groundswell_rollout::{KeepOrRevert, Outcome, Phase, Resumable, Rollout, Steer, next_deadline};

use crate::draw::{beginning, host_id, host_name, key, published, release, secret, spelt};
use crate::random::Random;

/// Events of a seed with persons, and rounds after them.
const EVENTS: u64 = 220;
const CALM_ROUNDS: u64 = 400;
/// Rounds without a decision after which none will follow: longer than any soak.
const IDLE_ROUNDS: u64 = 30;
/// Releases that a seed brings.
const RELEASES_MAX: u64 = 6;
/// Rounds of settling after one event; more would be a loop.
const ROUNDS_MAX: usize = 32;
/// The environments, in order.
const NAMES: [&str; 3] = ["test", "staging", "production"];

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A switch by a rollout of another environment, or outside of one to what is not proven in its own.
    #[error("host {host} of {environment} switches to {release:?}, which nothing brings there")]
    Foreign {
        /// The host.
        host: HostId,
        /// Its environment.
        environment: Environment,
        /// The release.
        release: ReleaseId,
    },
    /// A rollout that began by itself before its release had completed and soaked in the environment before.
    #[error(
        "{rollout} began in {environment} by itself, and its release had not completed and soaked before"
    )]
    Hasty {
        /// The rollout.
        rollout: RolloutId,
        /// Where.
        environment: Environment,
    },
    /// A release that started where it, or an environment before, has shown that it fails.
    #[error("{rollout} began in {environment}, and its release was taken back in {before}")]
    Poisoned {
        /// The rollout.
        rollout: RolloutId,
        /// Where.
        environment: Environment,
        /// Where it was taken back.
        before: Environment,
    },
    /// A release that went on by itself though it was not well in the environment before.
    #[error(
        "{rollout} began in {environment} by itself, with {well} hosts well before it and {ill} ill"
    )]
    Unwell {
        /// The rollout.
        rollout: RolloutId,
        /// Where.
        environment: Environment,
        /// Hosts that ran it well in the environment before.
        well: usize,
        /// Hosts on which it failed its probes there.
        ill: usize,
    },
    /// A rollout that began by itself in place of a newer release's that was under way.
    #[error("{0} began by itself, and {1} of a newer release was under way")]
    Down(RolloutId, RolloutId),
    /// A release that started before its time.
    #[error("{0} began before the time for which its release was held")]
    Early(RolloutId),
    /// A release that has completed and never went on.
    #[error("{release:?} has completed in {before} and never went on to {environment}: {why}")]
    Stuck {
        /// The release.
        release: ReleaseId,
        /// Where it is.
        before: Environment,
        /// Where it should be.
        environment: Environment,
        /// What is said of it.
        why: String,
    },
    /// A replay of the ledger gives another state.
    #[error("a replay of the ledger gives another state")]
    Replay,
    /// It goes on for ever without an event in between.
    #[error("what is planned plans again, without end")]
    Endless,
}

/// What happened in a run, so that a test sees that it is about something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Rollouts that began in a later environment by themselves.
    pub promoted: u64,
    /// Rollouts that skipped an environment.
    pub skipped: u64,
    /// Releases that were held for a time and then started.
    pub held: u64,
    /// Rollouts that went back.
    pub reverted: u64,
    /// Starts of the coordinator.
    pub restarts: u64,
    /// Hosts that got another environment.
    pub moved: u64,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.promoted += more.promoted;
        self.skipped += more.skipped;
        self.held += more.held;
        self.reverted += more.reverted;
        self.restarts += more.restarts;
        self.moved += more.moved;
    }
}

struct Machine {
    number: u64,
    id: HostId,
    environment: Environment,
    connected: bool,
    running: Option<ReleaseId>,
    failure: Option<Failure>,
    ill: bool,
    /// Whether the coordinator has heard of it since its start.
    heard: bool,
    reports: u64,
    /// Releases that fail on it.
    bad: BTreeSet<ReleaseId>,
}

struct Walk {
    random: Random,
    now: Timestamp,
    control: Control,
    ledger: Vec<Vec<u8>>,
    service: ServiceName,
    machines: Vec<Machine>,
    tokens: u64,
    releases: u64,
    names: Vec<Environment>,
    soak_secs: u64,
    auto: bool,
    /// When a release completed in an environment, until it is taken back there.
    completed: BTreeMap<(Environment, ReleaseId), Timestamp>,
    /// Rollouts that the coordinator began.
    by_itself: BTreeSet<RolloutId>,
    /// Rollouts that have come to an end.
    over: BTreeSet<RolloutId>,
    /// Where a release was taken back and nobody has cleared it.
    taken_back: BTreeSet<(Environment, ReleaseId)>,
    /// Until when a person holds a release in an environment; none for ever.
    held: BTreeMap<(Environment, ReleaseId), Option<Timestamp>>,
    seen: Seen,
}

/// Runs one seed to its end.
///
/// # Errors
/// What must not be.
pub fn run(seed: u64) -> Result<Seen, Finding> {
    let mut walk = Walk::new(seed);
    walk.begin()?;
    for _ in 0..EVENTS {
        walk.event()?;
    }
    walk.calm()?;
    Ok(walk.seen)
}

fn ann() -> OperatorName {
    spelt("ann")
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let from = usize::from(random.one_in(2));
        let names = NAMES.iter().skip(from).map(|name| spelt(name)).collect();
        Self {
            random,
            now: Timestamp::from_secs(1_000_000),
            control: Control::new(View::default()),
            ledger: Vec::new(),
            service: spelt("shop"),
            machines: Vec::new(),
            tokens: 0,
            releases: 0,
            names,
            soak_secs: 0,
            auto: true,
            completed: BTreeMap::new(),
            by_itself: BTreeSet::new(),
            over: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            held: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn control(&mut self) -> &mut Control {
        self.control.look_at_the_clock(self.now, Duration::from_millis(self.now.as_millis()));
        &mut self.control
    }

    fn begin(&mut self) -> Result<(), Finding> {
        for what in beginning() {
            drop(self.control().submit(By::Coordinator, what));
        }
        let mut number = 0;
        for name in self.names.clone() {
            for _ in 0..1 + self.random.below(3) {
                number += 1;
                self.enrol(number, &name)?;
            }
        }
        self.policy()
    }

    fn enrol(&mut self, number: u64, environment: &Environment) -> Result<(), Finding> {
        self.tokens += 1;
        let what = What::TokensMade {
            secrets: vec![Digest::of(secret(self.tokens).as_bytes())],
            labels: Labels::default(),
            environment: environment.clone(),
            expires: u64::MAX,
        };
        drop(self.control().submit(By::Operator(ann()), what));
        let (secret, id) = (secret(self.tokens), host_id(number));
        drop(self.control().enrol(&secret, &host_name(number), &key(number)));
        if let Some(known) = self.machines.iter_mut().find(|machine| machine.id == id) {
            known.environment = environment.clone();
        } else {
            self.machines.push(Machine {
                number,
                id,
                environment: environment.clone(),
                connected: false,
                running: None,
                failure: None,
                ill: false,
                heard: false,
                reports: 0,
                bad: BTreeSet::new(),
            });
        }
        self.settle()?;
        self.control().arrive(id, ("1".to_owned(), 0));
        self.connect(&id, true);
        self.settle()
    }

    fn connect(&mut self, id: &HostId, connected: bool) {
        for machine in self.machines.iter_mut().filter(|machine| machine.id == *id) {
            machine.connected = connected;
        }
    }

    /// A policy is put, another one mostly.
    fn policy(&mut self) -> Result<(), Finding> {
        let soaks = [0, 60, 600];
        self.soak_secs = self.random.pick(&soaks).copied().unwrap_or(0);
        self.auto = !self.random.one_in(6);
        let newer = ["supersede", "queue", "hotfix"];
        let newer = self.random.pick(&newer).copied().unwrap_or("supersede");
        let mut text = format!(
            "service = \"shop\"\ntargets = \"*\"\nbake_secs = 10\nhost_bake_secs = 0\n\
             max_in_flight = 2\nwhen_newer = \"{newer}\"\npromote_after_secs = {}\n\
             [[wave]]\nrest = true\n",
            self.soak_secs
        );
        for (name, at) in self.names.iter().zip(0..) {
            text += &format!("[[environment]]\nname = \"{name}\"\n");
            if at + 1 == self.names.len() {
                text += &format!("auto = {}\n", self.auto);
                if self.random.one_in(3) {
                    text += "[[environment.wave]]\ncount = 1\ngate = \"manual\"\n\
                             [[environment.wave]]\nrest = true\n";
                }
            }
        }
        let service = self.service.clone();
        drop(self.control().put_policy(&ann(), &service, &text));
        self.settle()
    }

    // ---- what happens ----

    fn event(&mut self) -> Result<(), Finding> {
        match self.random.below(24) {
            0 | 1 => self.publish()?,
            2 => self.person()?,
            3 => self.start()?,
            4 => self.hold()?,
            5 if self.random.one_in(3) => self.policy()?,
            6 if self.random.one_in(2) => self.restart()?,
            7 => self.drop_out()?,
            8 if self.random.one_in(3) => self.move_host()?,
            9 => {
                if let Some(at) = self.some_machine() {
                    let ill = self.random.one_in(3);
                    self.machines[at].ill = ill;
                    self.report(at)?;
                }
            }
            10..=13 => {
                let secs = 1 + self.random.below(120);
                self.wait(secs)?;
            }
            _ => {
                if let Some(at) = self.some_machine() {
                    self.obey(at)?;
                }
            }
        }
        Ok(())
    }

    fn some_machine(&mut self) -> Option<usize> {
        let count = self.machines.len() as u64;
        let at = usize::try_from(self.random.below(count)).ok()?;
        Some(at).filter(|at| self.machines[*at].connected)
    }

    fn some_environment(&mut self) -> Environment {
        self.random.pick(&self.names).cloned().unwrap_or_default()
    }

    fn some_version(&mut self) -> String {
        format!("{}.0", 1 + self.random.below(self.releases.max(1)))
    }

    fn publish(&mut self) -> Result<(), Finding> {
        if self.releases >= RELEASES_MAX {
            return Ok(());
        }
        self.releases += 1;
        let of = published(&self.service, self.releases);
        let (bad, id) = (self.random.one_in(4), of.release);
        for machine in &mut self.machines {
            if bad && self.random.one_in(2) {
                machine.bad.insert(id);
            }
        }
        let held_until =
            self.random.one_in(4).then(|| self.now.plus_secs(1 + self.random.below(300)));
        let of = Published { held_until, hotfix: self.random.one_in(4), ..of };
        if held_until.is_some() {
            let first = self.names.first().cloned().unwrap_or_default();
            self.held.insert((first, id), held_until);
        }
        drop(self.control().publish(&ann(), of));
        self.settle()
    }

    /// A person presses something about what is newest in an environment, or takes a release back.
    fn person(&mut self) -> Result<(), Finding> {
        let (service, environment) = (self.service.clone(), self.some_environment());
        let of = (&service, Some(&environment));
        let verb = match self.random.below(8) {
            0 => Verb::Halt,
            1 => Verb::Pause,
            2 => Verb::Abort(KeepOrRevert::Revert),
            3 | 4 => {
                drop(self.control().revert(&ann(), of, (None, "a person")));
                return self.settle();
            }
            5 => {
                let number = 1 + self.random.below(self.releases.max(1));
                let (id, _) = release(&service, number);
                if self.control().clear(&ann(), &id, "a person").is_ok() {
                    self.taken_back.retain(|(_, release)| *release != id);
                }
                return self.settle();
            }
            _ => return self.let_go_on(&environment),
        };
        if let Ok(id) = self.control().newest_rollout_id(of) {
            drop(self.control().verb(&ann(), &id, (verb, "a person")));
        }
        self.settle()
    }

    /// Whatever a rollout waits for, a person gives it.
    fn let_go_on(&mut self, environment: &Environment) -> Result<(), Finding> {
        let newest = self.control.view().newest_in(&self.service, environment);
        let Some((id, phase)) = newest.map(|found| (found.id().clone(), found.phase().clone()))
        else {
            return Ok(());
        };
        let verb = match phase {
            Phase::Paused { .. } | Phase::Halted { .. } => Some(Verb::Resume),
            Phase::Gated { .. } => Some(Verb::Steer(Steer::Promote)),
            Phase::Planned
            | Phase::Running { .. }
            | Phase::Baking { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => None,
        };
        if let Some(verb) = verb {
            drop(self.control().verb(&ann(), &id, (verb, "a person")));
        }
        self.settle()
    }

    fn start(&mut self) -> Result<(), Finding> {
        let (service, environment) = (self.service.clone(), self.some_environment());
        let version = self.some_version();
        let skip = self.random.one_in(2).then_some("orders fail");
        let start = Start { release: &version, plan: None, skip };
        drop(self.control().start(&ann(), (&service, Some(&environment)), start));
        self.settle()
    }

    fn hold(&mut self) -> Result<(), Finding> {
        let (service, environment) = (self.service.clone(), self.some_environment());
        let number = 1 + self.random.below(self.releases.max(1));
        let (id, version) = release(&service, number);
        let until =
            (!self.random.one_in(3)).then(|| self.now.plus_secs(1 + self.random.below(200)));
        let hold = Hold { release: version.as_str(), until, skip: None, why: "a person" };
        if self.control().hold(&ann(), (&service, Some(&environment)), hold).is_ok() {
            self.held.insert((environment, id), until);
        }
        self.settle()
    }

    fn drop_out(&mut self) -> Result<(), Finding> {
        let at = usize::try_from(self.random.below(self.machines.len() as u64)).unwrap_or(0);
        let (id, connected) = (self.machines[at].id, self.machines[at].connected);
        self.connect(&id, !connected);
        if connected {
            self.control().leave(id);
        } else {
            self.control().arrive(id, ("1".to_owned(), 0));
        }
        self.settle()
    }

    /// A host is enrolled again with a token for another environment; what it runs stays.
    fn move_host(&mut self) -> Result<(), Finding> {
        let Some(at) = self.some_machine() else { return Ok(()) };
        let (number, environment) = (self.machines[at].number, self.some_environment());
        self.seen.moved += u64::from(self.machines[at].environment != environment);
        self.enrol(number, &environment)
    }

    /// The coordinator is started again, from its ledger.
    fn restart(&mut self) -> Result<(), Finding> {
        self.seen.restarts += 1;
        let mut view = View::default();
        for (payload, seq) in self.ledger.iter().zip(1..) {
            let entry = Entry::from_payload(seq, payload).map_err(|_| Finding::Replay)?;
            view.apply(&entry).map_err(|_| Finding::Replay)?;
        }
        let was = self.control.view();
        let same = (&view.services, &view.releases, &view.rollouts, &view.hosts)
            == (&was.services, &was.releases, &was.rollouts, &was.hosts);
        if !same {
            return Err(Finding::Replay);
        }
        self.control = Control::new(view);
        self.machines.iter_mut().for_each(|machine| machine.heard = false);
        for at in 0..self.machines.len() {
            if self.machines[at].connected {
                let id = self.machines[at].id;
                self.control().arrive(id, ("1".to_owned(), 0));
                self.report(at)?;
            }
        }
        self.control().sweep();
        self.settle()
    }

    fn wait(&mut self, secs: u64) -> Result<(), Finding> {
        let until = self.now.plus_secs(secs);
        loop {
            // As the driver does: it sleeps until something is due.
            let deadlines = self.control.view().live_rollouts().filter_map(next_deadline);
            let deadlines = deadlines.map(|at| at.max(self.now.plus_millis(1)));
            let next = deadlines.chain(self.control.next_start(self.now)).min();
            let Some(next) = next.filter(|at| *at <= until) else { break };
            self.now = next;
            self.control().tick();
            self.settle()?;
        }
        self.now = until;
        Ok(())
    }

    // ---- hosts ----

    fn standing(&self, at: usize, state: HostState, target: Option<ReleaseId>) -> Standing {
        let machine = &self.machines[at];
        Standing {
            service: self.service.clone(),
            state,
            running: machine.running,
            previous: None,
            target,
            rollout: None,
            health: if machine.ill { Verdict::Fail } else { Verdict::Pass },
            failure: machine.failure.clone(),
            switched: None,
        }
    }

    fn say(&mut self, at: usize, standing: Standing, generation: u64) -> Result<(), Finding> {
        let machine = &mut self.machines[at];
        machine.heard = true;
        machine.reports += 1;
        let (seq, id) = (machine.reports, machine.id);
        let services = vec![standing];
        let report = Report { seq, generation, services, free_bytes: 1, refusal: None };
        self.control().report(id, report);
        self.settle()
    }

    /// A host says again what is so.
    fn report(&mut self, at: usize) -> Result<(), Finding> {
        let id = self.machines[at].id;
        let generation = self.control.wish(&id).map_or(0, |wish| wish.generation);
        let idle = self.machines[at].running.is_none();
        let state = if idle { HostState::Idle } else { HostState::Committed };
        let standing = self.standing(at, state, self.machines[at].running);
        self.say(at, standing, generation)
    }

    /// A host does what it is told.
    fn obey(&mut self, at: usize) -> Result<(), Finding> {
        let id = self.machines[at].id;
        let Some(wished) = self.control.wish(&id) else { return Ok(()) };
        let Some(wish) = wished.services.first().cloned() else { return Ok(()) };
        match wish.action {
            Action::Hold {} => self.report(at),
            Action::Stage { release } => {
                let staged = self.standing(at, HostState::Staged, Some(release));
                self.say(at, staged, wished.generation)
            }
            Action::Switch { release } if self.machines[at].running == Some(release) => {
                self.report(at)
            }
            Action::Switch { release } => {
                self.switch(at, (release, wish.rollout.as_ref()), wished.generation)
            }
            Action::Revert { to, .. } => {
                self.machines[at].running = to;
                self.report(at)
            }
            // Nobody takes the service off in this story.
            Action::Remove {} => self.report(at),
        }
    }

    fn switch(
        &mut self,
        at: usize,
        (release, rollout): (ReleaseId, Option<&RolloutId>),
        generation: u64,
    ) -> Result<(), Finding> {
        let (id, environment) = (self.machines[at].id, self.machines[at].environment.clone());
        let service = self.service.clone();
        let request = PermitRequest { generation, service, release, nonce: [0; 16] };
        if self.control().may_switch(&id, &request).is_err() {
            return self.report(at);
        }
        let brings = match rollout {
            Some(rollout) => {
                let found = self.control.view().rollout(rollout);
                found.is_some_and(|found| found.plan().environment.as_ref() == Some(&environment))
            }
            None => self.completed.contains_key(&(environment.clone(), release)),
        };
        if !brings {
            return Err(Finding::Foreign { host: id, environment, release });
        }
        let old = self.machines[at].running.replace(release);
        if !self.machines[at].bad.contains(&release) {
            self.machines[at].failure = None;
            return self.report(at);
        }
        let probing = self.standing(at, HostState::Probing, Some(release));
        self.say(at, probing, generation)?;
        self.machines[at].running = old;
        let why = "answers 500".to_owned();
        let failure = Failure { release, step: FailedStep::Probe, why, reverted: true };
        self.machines[at].failure = Some(failure);
        self.report(at)
    }

    // ---- what was decided ----

    /// Makes what was decided durable, looks at it, and plans what follows, as the driver does.
    fn settle(&mut self) -> Result<(), Finding> {
        for _ in 0..ROUNDS_MAX {
            drop((self.control.take_refusals(), self.control.take_stale()));
            let pending = self.control.take_pending();
            let moved = self.control.take_transitions();
            for entry in pending {
                self.decided(entry.seq, &entry.payload)?;
                self.ledger.push(entry.payload);
            }
            for (rollout, transition) in moved {
                self.moved(&rollout, (&transition.from, &transition.to))?;
            }
            self.control().plan_waiting();
            if !self.control.has_pending() {
                return Ok(());
            }
        }
        Err(Finding::Endless)
    }

    fn decided(&mut self, seq: u64, payload: &[u8]) -> Result<(), Finding> {
        let entry = Entry::from_payload(seq, payload).map_err(|_| Finding::Replay)?;
        let What::RolloutPlanned { rollout, plan, skip } = entry.what else { return Ok(()) };
        if plan.back.is_some() {
            return Ok(());
        }
        let environment = plan.lane();
        let place = self.names.iter().position(|name| *name == environment);
        let before = place.and_then(|place| self.names.get(place.checked_sub(1)?)).cloned();
        let known = self.names.iter().take(place.map_or(0, |place| place + 1));
        let mut known = known.map(|name| (name.clone(), plan.release.id));
        if let Some((before, _)) = known.find(|here| self.taken_back.contains(here)) {
            return Err(Finding::Poisoned { rollout, environment, before });
        }
        let held = self.held.remove(&(environment.clone(), plan.release.id));
        if entry.by == By::Coordinator {
            match held {
                Some(Some(until)) if until <= entry.at => self.seen.held += 1,
                Some(_) => return Err(Finding::Early(rollout)),
                None => {}
            }
            self.seen.promoted += u64::from(before.is_some());
            self.by_itself.insert(rollout.clone());
            if let Some(before) = before.as_ref().filter(|_| skip.is_none() && held.is_none()) {
                let runs = |machine: &&Machine| {
                    let there = machine.connected && machine.heard;
                    let here = machine.environment == *before;
                    there && here && machine.running == Some(plan.release.id)
                };
                let run = self.machines.iter().filter(runs);
                let (ill, well): (Vec<_>, Vec<_>) = run.partition(|machine| machine.ill);
                let (ill, well) = (ill.len(), well.len());
                if ill > 0 || well == 0 {
                    return Err(Finding::Unwell { rollout, environment, well, ill });
                }
            }
        }
        self.seen.skipped += u64::from(skip.is_some());
        let Some(before) = before.filter(|_| skip.is_none()) else { return Ok(()) };
        let since = self.completed.get(&(before, plan.release.id));
        if since.is_none_or(|since| since.plus_secs(self.soak_secs) > entry.at) {
            return Err(Finding::Hasty { rollout, environment });
        }
        Ok(())
    }

    /// Keeps what completed where, and what was taken back.
    fn moved(&mut self, id: &RolloutId, (from, to): (&Phase, &Phase)) -> Result<(), Finding> {
        let view = self.control.view();
        let Some(rollout) = view.rollout(id) else { return Ok(()) };
        if let Phase::Done { outcome: Outcome::Superseded { by }, .. } = to {
            let seq = |id: &RolloutId| {
                let release = view.rollout(id).map(Rollout::release);
                release.and_then(|id| view.releases.get(&id)).map(|found| found.published.seq)
            };
            let down = seq(by).is_some_and(|newer| seq(id).is_some_and(|older| older > newer));
            let over = self.over.contains(id);
            if down && !over && self.by_itself.contains(by) {
                return Err(Finding::Down(by.clone(), id.clone()));
            }
        }
        if matches!(to, Phase::Done { .. }) {
            self.over.insert(id.clone());
        }
        let plan = rollout.plan();
        let here = (plan.lane(), rollout.release());
        match to {
            Phase::Done { outcome: Outcome::Completed, .. } if plan.back.is_none() => {
                self.taken_back.remove(&here);
                self.completed.entry(here).or_insert(self.now);
            }
            // A way back that was stopped and goes on says nothing new; nor do hosts that were silent.
            Phase::Reverting { .. } if goes_back(from) || is_silent(view, rollout) => {}
            Phase::Reverting { .. } => {
                self.seen.reverted += 1;
                self.completed.remove(&here);
                self.taken_back.insert(here);
                // What is gone back to is what counts from now on, and soaks anew.
                if let Some((to, _)) = plan.back.as_ref().and_then(|back| back.to.clone()) {
                    self.completed.insert((plan.lane(), to), self.now);
                }
            }
            Phase::Planned
            | Phase::Running { .. }
            | Phase::Baking { .. }
            | Phase::Gated { .. }
            | Phase::Paused { .. }
            | Phase::Halted { .. }
            | Phase::Done { .. } => {}
        }
        Ok(())
    }

    // ---- the end ----

    /// Nobody presses anything but to let go on; what has completed must be everywhere.
    fn calm(&mut self) -> Result<(), Finding> {
        for at in 0..self.machines.len() {
            self.machines[at].ill = false;
            self.machines[at].bad.clear();
            if !self.machines[at].connected {
                self.machines[at].connected = true;
                let id = self.machines[at].id;
                self.control().arrive(id, ("1".to_owned(), 0));
            }
        }
        let (mut entries, mut idle) = (self.ledger.len(), 0);
        for _ in 0..CALM_ROUNDS {
            idle = if entries == self.ledger.len() { idle + 1 } else { 0 };
            entries = self.ledger.len();
            if idle > IDLE_ROUNDS {
                break;
            }
            for at in 0..self.machines.len() {
                self.obey(at)?;
            }
            for name in self.names.clone() {
                self.let_go_on(&name)?;
            }
            self.wait(30)?;
        }
        self.went_on()
    }

    /// What new hosts of an environment get has gone on to the next, unless something that is said keeps it.
    fn went_on(&self) -> Result<(), Finding> {
        let view = self.control.view();
        let Some(of) = view.services.get(&self.service) else { return Ok(()) };
        let seq = |id: &ReleaseId| view.releases.get(id).map_or(0, |found| found.published.seq);
        for pair in self.names.windows(2) {
            let [before, environment] = pair else { continue };
            let Some(release) = view.baseline(of, before) else { continue };
            let last = Some(environment) == self.names.last();
            let poisoned = view.releases.get(&release).is_some_and(|found| {
                self.names.iter().any(|name| found.poisoned_in(name).is_some())
            });
            let kept = self.held.contains_key(&(environment.clone(), release));
            // Hosts that were enrolled again may have brought something newer with them, and never go down.
            let takes = |m: &Machine| m.running.is_none_or(|runs| seq(&runs) <= seq(&release));
            let has = |name: &Environment| {
                self.machines.iter().any(|m| m.environment == *name && takes(m))
            };
            // Who ran it there may be elsewhere by now, and it may have failed on the others.
            let runs = |m: &Machine| m.environment == *before && m.running == Some(release);
            let shown = self.machines.iter().any(runs);
            if poisoned || kept || (last && !self.auto) || !shown || !has(environment) {
                continue;
            }
            let newest = view.newest_in(&self.service, environment).map(Rollout::release);
            let there =
                newest.into_iter().chain(view.baseline(of, environment)).map(|id| seq(&id)).max();
            let rolled = view.releases.get(&release).is_some_and(|r| r.rolled_in(environment));
            if !rolled && there.is_none_or(|there| there < seq(&release)) {
                let said = self.control.waits(&self.service).into_iter();
                let said: Vec<String> = said.map(|(name, why)| format!("{name}: {why}")).collect();
                let (before, environment) = (before.clone(), environment.clone());
                return Err(Finding::Stuck { release, before, environment, why: said.join("; ") });
            }
        }
        Ok(())
    }
}

/// Whether a rollout in this phase is on its way back, stopped or not.
fn goes_back(phase: &Phase) -> bool {
    let back = |resume: &Resumable| matches!(resume, Resumable::Reverting { .. });
    match phase {
        Phase::Reverting { .. } => true,
        Phase::Paused { resume, .. } | Phase::Halted { resume, .. } => back(resume),
        Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Done { .. } => false,
    }
}

/// Whether a rollout is turned round by hosts that fell silent, of which none has said that the release failed.
fn is_silent(view: &View, rollout: &Rollout) -> bool {
    let found = view.releases.get(&rollout.release());
    let poisoned = found.is_some_and(|found| found.poisoned_in(&rollout.plan().lane()).is_some());
    rollout.phase().breach().is_some() && !poisoned
}
