//! One case of a rehearsal: the real core, hosts that do what they are told in drawn times, and a
//! queue of what happens next. Owns the course of virtual time; judges nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use groundswell_common::directive::Action;
use groundswell_common::name::NameError;
use groundswell_common::report::{FailedStep, Verdict};
use groundswell_common::{Digest, HostId, ReleaseId, Timestamp};
use groundswell_machine::GUARD_SECS;
use groundswell_rollout::{
    Finding, HostFact, HostFacts, Input, Moment, Phase, PlanError, Policy, Refusal, ReleaseRef,
    Rollout, Steer, check, desired, fact, generation, may_switch, next_deadline, plan, step,
};
use serde::Serialize;

use super::host::{Host, Pace, Place};
use super::record::{Course, Record};
use super::share::Share;
use crate::random::Random;

/// How long a rehearsal goes on, in seconds: 400 days, as far as the calendar looks ahead.
const HORIZON_SECS: u64 = 400 * 86_400;
/// Seconds after which a host asks again for a permit that it did not get.
const ASK_AGAIN_SECS: u64 = 30;

/// Which release is rehearsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// It fails on so many hosts as are asked for.
    Good,
    /// It fails on every host.
    Bad,
}

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The policy.
    pub policy: Policy,
    /// The fleet, with hosts that the policy does not target.
    pub hosts: Vec<HostFacts>,
    /// When it starts.
    pub start: Timestamp,
    /// Gives the order of the hosts, their times, and those on which a good release fails.
    pub seed: u64,
    /// How long things take.
    pub pace: Pace,
    /// Hosts of the plan on which a good release fails.
    pub failing: Share,
    /// Seconds from the first pass of all probes to the failure; `None` where they never pass.
    pub fails_after_secs: Option<u64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RehearseError {
    /// The policy and the fleet give no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A name of the rehearsal itself does not fit.
    #[error("rehearse")]
    Name(#[from] NameError),
    /// The core refuses what a host or a person did: a fault of the rehearsal.
    #[error("rehearse: the core refused {input}")]
    Refused {
        /// What.
        input: String,
        /// Why.
        #[source]
        source: Refusal,
    },
    /// An invariant of the core does not hold.
    #[error("rehearse: the core broke an invariant: {0}")]
    Broken(Finding),
}

/// Rehearses one case. The same question gives the same answer.
///
/// # Errors
/// [`RehearseError`]: the policy or the plan is refused; anything else is a fault of this program.
pub fn rehearse(rehearsal: &Rehearsal, case: Case) -> Result<Course, RehearseError> {
    let mut world = World::new(rehearsal, case)?;
    world.run()?;
    match check(&world.rollout).into_iter().next() {
        Some(finding) => Err(RehearseError::Broken(finding)),
        None => Ok(world.record.course(case, &world.rollout, &world.hosts)),
    }
}

/// What happens at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// On a host, unless its number is another by then.
    Host { host: usize, number: u32, what: What },
    /// Persons answer the gate of a wave.
    Persons { wave: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The release is on disk.
    Fetched,
    /// It asks again for its permit.
    AskAgain,
    /// Its probes pass.
    Passed,
    /// The release fails, and the host goes back by itself.
    Failed(Until),
    /// It has baked the release.
    Baked,
    /// Its probes fail after it committed.
    Ill,
    /// What it ran before serves again.
    Back,
}

/// Up to when a release worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    Never,
    TooSlow,
    Bake,
}

struct World<'a> {
    setup: &'a Rehearsal,
    rollout: Rollout,
    at: Moment,
    hosts: Vec<Host>,
    places: BTreeMap<HostId, usize>,
    queue: BinaryHeap<Reverse<(Timestamp, u64, Due)>>,
    /// Counts what was put into the queue: what is due at once comes in that order.
    queued: u64,
    /// Hosts whose wish may be another.
    told: VecDeque<usize>,
    record: Record,
}

impl<'a> World<'a> {
    fn new(setup: &'a Rehearsal, case: Case) -> Result<Self, RehearseError> {
        let release = ReleaseId::from_digest(Digest::of(b"the release that is rehearsed"));
        let release = ReleaseRef::new(release, "rehearsed".parse()?);
        let seed = Digest::of(&setup.seed.to_be_bytes());
        let plan = plan(&setup.policy, &setup.hosts, &release, &seed)?;
        let rollout = Rollout::new("rehearsal-1".parse()?, plan);
        let known: BTreeMap<HostId, &HostFacts> =
            setup.hosts.iter().map(|host| (host.id, host)).collect();
        let mut random = Random::new(setup.seed);
        let mut hosts = Vec::new();
        for (wave, planned) in rollout.plan().waves.iter().enumerate() {
            for planned in planned.hosts.iter().map(|host| &host.id) {
                let mut host = Host::new((*planned, wave), &setup.pace, &mut random);
                let facts = known.get(planned);
                host.before = facts.and_then(|facts| facts.running);
                host.before_ill = facts.is_some_and(|facts| facts.ill);
                host.away = facts.is_some_and(|facts| !facts.connected);
                hosts.push(host);
            }
        }
        let mut order: Vec<usize> = (0..hosts.len()).collect();
        let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let unlucky = match case {
            Case::Good => setup.failing.of(count),
            Case::Bad => count,
        };
        for at in random.some(&mut order, unlucky) {
            if let Some(host) = hosts.get_mut(*at) {
                host.bad = true;
            }
        }
        Ok(Self {
            setup,
            record: Record::new(&rollout, setup.start),
            rollout,
            at: Moment { seq: 0, now: setup.start },
            places: hosts.iter().map(|host| host.id).zip(0..).collect(),
            hosts,
            queue: BinaryHeap::new(),
            queued: 0,
            told: VecDeque::new(),
        })
    }

    fn run(&mut self) -> Result<(), RehearseError> {
        let away = self.hosts.iter().filter(|host| host.away).map(|host| host.id).collect();
        self.apply(&Input::Start { away, busy: Vec::new() })?;
        self.told.extend(0..self.hosts.len());
        let horizon = self.setup.start.plus_secs(HORIZON_SECS);
        loop {
            self.obey()?;
            let happens = self.queue.peek().map(|Reverse((at, _, _))| *at);
            let tick = next_deadline(&self.rollout);
            let Some(next) = happens.into_iter().chain(tick).min() else { return Ok(()) };
            if matches!(self.rollout.phase(), Phase::Done { .. }) {
                return Ok(());
            }
            if next > horizon {
                self.go_to(horizon);
                return Ok(());
            }
            self.go_to(next);
            if tick == Some(next) {
                self.apply(&Input::Tick)?;
            } else if let Some(Reverse((_, _, due))) = self.queue.pop() {
                match due {
                    Due::Persons { wave } => self.answer(wave)?,
                    Due::Host { host, number, what } => self.happens(host, number, what)?,
                }
            }
        }
    }

    fn go_to(&mut self, now: Timestamp) {
        self.at.now = self.at.now.max(now);
        self.record.now = self.at.now;
    }

    /// One step of the core, and what follows from it.
    fn apply(&mut self, input: &Input) -> Result<(), RehearseError> {
        self.at.seq += 1;
        let effects = step(&mut self.rollout, input, self.at)
            .map_err(|source| RehearseError::Refused { input: format!("{input:?}"), source })?;
        let places = &self.places;
        self.told.extend(effects.changed_hosts.iter().filter_map(|host| places.get(host)));
        self.record.stepped(&self.rollout, &effects.transitions);
        for transition in effects.transitions {
            if let Phase::Gated { wave, .. } = transition.to {
                self.after(self.setup.pace.person_secs.saturating_mul(1000), Due::Persons { wave });
            }
        }
        Ok(())
    }

    fn after(&mut self, millis: u64, due: Due) {
        self.queued += 1;
        self.queue.push(Reverse((self.at.now.plus_millis(millis), self.queued, due)));
    }

    fn host_after(&mut self, host: usize, millis: u64, what: What) {
        let number = self.hosts.get(host).map_or(0, |host| host.number);
        self.after(millis, Due::Host { host, number, what });
    }

    /// As many persons as the gate asks for approve, one opens it where it must be opened, and its
    /// webhook says pass.
    fn answer(&mut self, wave: u32) -> Result<(), RehearseError> {
        let at = usize::try_from(wave).unwrap_or(usize::MAX);
        let gate = self.rollout.plan().waves.get(at).map(|wave| wave.gate).unwrap_or_default();
        for number in 1..=gate.approvals {
            let by = format!("person-{number}").parse()?;
            let plan = self.rollout.plan_hash();
            if self.waits_before(wave) {
                self.apply(&Input::Approve { by, plan, wave: Some(wave) })?;
            }
        }
        if gate.manual && self.waits_before(wave) {
            let (by, why) = ("person-1".parse()?, String::new());
            self.apply(&Input::Steer { by, why, steer: Steer::Promote })?;
        }
        if gate.webhook && self.waits_before(wave) {
            let (verdict, why) = (Verdict::Pass, String::new());
            self.apply(&Input::Answer { wave, verdict, why })?;
        }
        Ok(())
    }

    fn waits_before(&self, wave: u32) -> bool {
        matches!(self.rollout.phase(), Phase::Gated { wave: at, .. } if *at == wave)
    }

    /// Every host whose wish may be another looks at it, and says where it stands.
    fn obey(&mut self) -> Result<(), RehearseError> {
        while let Some(at) = self.told.pop_front() {
            let Some(host) = self.hosts.get_mut(at).filter(|host| !host.away) else { continue };
            let Some(wish) = desired(&self.rollout, &host.id) else { continue };
            host.accepted = generation(&self.rollout, &host.id);
            match (wish.action, host.place) {
                (Action::Stage { .. }, Place::Before) => {
                    host.place = Place::Fetching;
                    let millis = host.stage_millis;
                    self.host_after(at, millis, What::Fetched);
                }
                (Action::Hold {}, Place::Fetching) => {
                    host.place = Place::Before;
                    host.number += 1;
                }
                (Action::Switch { .. }, Place::Staged) => self.ask(at),
                (Action::Revert { .. }, Place::Probing | Place::Baking | Place::Committed) => {
                    self.go_back(at);
                }
                // What it does already, or cannot do yet.
                (
                    Action::Stage { .. }
                    | Action::Hold {}
                    | Action::Switch { .. }
                    | Action::Revert { .. }
                    | Action::Remove {},
                    _,
                ) => {}
            }
            self.report(at)?;
        }
        Ok(())
    }

    /// Asks for a permit, and switches with it.
    fn ask(&mut self, at: usize) {
        let Some(host) = self.hosts.get_mut(at) else { return };
        let release = self.rollout.release();
        if may_switch(&self.rollout, &host.id, &release, host.accepted, self.at.now).is_err() {
            return self.host_after(at, ASK_AGAIN_SECS * 1000, What::AskAgain);
        }
        let first = !host.reached;
        (host.place, host.reached) = (Place::Probing, true);
        host.number += 1;
        let deadline = self.rollout.plan().probe_deadline_secs.saturating_mul(1000);
        let never = host.bad && self.setup.fails_after_secs.is_none();
        let (millis, what) = match (never, host.switch_millis) {
            (true, _) => (deadline, What::Failed(Until::Never)),
            (false, millis) if millis > deadline => (deadline, What::Failed(Until::TooSlow)),
            (false, millis) => (millis, What::Passed),
        };
        self.record.switches(host.wave, first);
        self.host_after(at, millis, what);
    }

    fn go_back(&mut self, at: usize) {
        let Some(host) = self.hosts.get_mut(at) else { return };
        host.place = Place::GoingBack;
        host.number += 1;
        let millis = host.back_millis;
        self.host_after(at, millis, What::Back);
    }

    /// Something that was due on a host.
    fn happens(&mut self, at: usize, number: u32, what: What) -> Result<(), RehearseError> {
        let Some(host) = self.hosts.get_mut(at).filter(|host| host.number == number) else {
            return Ok(());
        };
        match what {
            What::Fetched => host.place = Place::Staged,
            // Its wish is what it was.
            What::AskAgain => {
                self.told.push_back(at);
                return Ok(());
            }
            What::Passed => {
                host.place = Place::Baking;
                self.bakes(at);
            }
            What::Failed(until) => {
                let step = match until {
                    Until::Never | Until::TooSlow => FailedStep::Probe,
                    Until::Bake => FailedStep::Bake,
                };
                self.record.too_slow += u32::from(until == Until::TooSlow);
                host.failed = Some((step, false));
                self.record.fails(host.wave);
                self.go_back(at);
            }
            What::Baked => {
                host.place = Place::Committed;
                self.watched(at);
            }
            What::Ill => {
                (host.ill, host.failed) = (true, Some((FailedStep::Bake, false)));
                self.record.fails(host.wave);
            }
            What::Back => {
                host.place = Place::Before;
                host.ill = false;
                host.failed = host.failed.map(|(step, _)| (step, true));
                self.record.on -= 1;
            }
        }
        self.report(at)?;
        self.record.sample(&self.rollout);
        Ok(())
    }

    /// Seconds from the first pass of its probes to the failure of the release on a host.
    fn fails_after(&self, at: usize) -> Option<u64> {
        self.hosts.get(at).filter(|host| host.bad).and(self.setup.fails_after_secs)
    }

    fn bakes(&mut self, at: usize) {
        let bake_secs = self.rollout.plan().host_bake_secs;
        let (secs, what) = match self.fails_after(at).filter(|secs| *secs < bake_secs) {
            Some(secs) => (secs, What::Failed(Until::Bake)),
            None => (bake_secs, What::Baked),
        };
        self.host_after(at, secs.saturating_mul(1000), what);
    }

    /// An agent watches a release for a while after its commit, and then no more.
    fn watched(&mut self, at: usize) {
        let bake_secs = self.rollout.plan().host_bake_secs;
        let after = self.fails_after(at).and_then(|secs| secs.checked_sub(bake_secs));
        if let Some(secs) = after.filter(|secs| *secs < GUARD_SECS) {
            self.host_after(at, secs.saturating_mul(1000), What::Ill);
        }
    }

    /// The host says where it stands; the core hears of it where that is news.
    fn report(&mut self, at: usize) -> Result<(), RehearseError> {
        let Some(host) = self.hosts.get(at).filter(|host| !host.away) else { return Ok(()) };
        let (id, standing) = (host.id, host.standing(&self.rollout));
        let news: Option<HostFact> = fact(&self.rollout, &id, &standing, host.accepted);
        news.map_or(Ok(()), |fact| self.apply(&Input::Host { host: id, fact }))
    }
}
