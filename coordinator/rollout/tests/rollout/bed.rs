//! A rollout with hosts that obey it, a clock and a ledger of what was applied.

use std::collections::BTreeMap;

use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Failure, HostState, Standing, Verdict};
use groundswell_common::{Digest, HostId, OperatorName, ReleaseId, Timestamp};
use groundswell_rollout::{
    Effects, HostFact, HostFacts, Input, Moment, Outcome, Phase, PhaseName, Plan, Policy, Progress,
    ProgressName, Refusal, ReleaseRef, Rollout, Steer, check, desired, due, fact, generation, plan,
    silent, step,
};

pub(crate) fn host(number: u8) -> HostId {
    HostId::from_bytes([number; 16])
}

pub(crate) fn release(number: u8) -> ReleaseId {
    ReleaseId::from_digest(Digest::of(&[number]))
}

pub(crate) const NEW: u8 = 2;
pub(crate) const OLD: u8 = 1;

pub(crate) fn reference(one_way: bool) -> ReleaseRef {
    ReleaseRef { one_way, ..ReleaseRef::new(release(NEW), "2.0.0".parse().unwrap()) }
}

pub(crate) fn person(name: &str) -> OperatorName {
    name.parse().unwrap()
}

pub(crate) fn hosts(count: u8) -> Vec<HostFacts> {
    let facts = |number: u8| {
        let labels = format!("role=web,rack=r{}", number % 3).parse().unwrap();
        let name = format!("web-{number}").parse().unwrap();
        HostFacts { running: Some(release(OLD)), ..HostFacts::new(host(number), name, labels) }
    };
    (0..count).map(facts).collect()
}

pub(crate) fn policy(keys: &str) -> Policy {
    Policy::from_toml(&format!("service = \"shop\"\ntargets = \"role=web\"\n{keys}")).unwrap()
}

pub(crate) fn planned(keys: &str, count: u8) -> Plan {
    plan(&policy(keys), &hosts(count), &reference(false), &Digest::of(b"seed")).unwrap()
}

pub(crate) struct Bed {
    pub(crate) rollout: Rollout,
    pub(crate) at: Moment,
    pub(crate) log: Vec<(Input, Moment)>,
    standings: BTreeMap<HostId, Standing>,
}

impl Bed {
    pub(crate) fn of(plan: Plan) -> Self {
        let idle = |id: HostId| {
            let standing = Standing {
                service: "shop".parse().unwrap(),
                state: HostState::Committed,
                running: Some(release(OLD)),
                previous: None,
                target: None,
                rollout: None,
                health: Verdict::Pass,
                failure: None,
                switched: None,
            };
            (id, standing)
        };
        let ids = plan.waves.iter().flat_map(|wave| &wave.hosts).map(|host| idle(host.id));
        let standings = ids.collect();
        let at = Moment { seq: 100, now: Timestamp::from_secs(1_000_000) };
        let rollout = Rollout::new("shop-7".parse().unwrap(), plan);
        Self { rollout, at, log: Vec::new(), standings }
    }

    /// A started rollout of `count` hosts.
    pub(crate) fn start(keys: &str, count: u8) -> Self {
        let mut bed = Self::of(planned(keys, count));
        bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
        bed
    }

    pub(crate) fn try_apply(&mut self, input: Input) -> Result<Effects, Refusal> {
        self.at.seq += 1;
        let before = self.rollout.clone();
        let result = step(&mut self.rollout, &input, self.at);
        match &result {
            Ok(effects) => {
                assert_eq!(check(&self.rollout), [], "after {input:?}");
                assert_totals(&self.rollout);
                assert_ne!(self.rollout, before, "{input:?} changed nothing and was accepted");
                assert_wishes(&before, &self.rollout, effects, self.at);
                if input == Input::Tick {
                    assert_silent(&before, &self.rollout, self.at.now);
                }
                self.log.push((input, self.at));
            }
            Err(_) => assert_eq!(self.rollout, before, "{input:?} was refused and changed it"),
        }
        result
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, input: Input) -> Effects {
        match self.try_apply(input.clone()) {
            Ok(effects) => effects,
            Err(refusal) => panic!("{input:?} in {:?}: {refusal}", self.rollout.phase()),
        }
    }

    #[track_caller]
    pub(crate) fn refused(&mut self, input: Input) -> Refusal {
        self.try_apply(input).expect_err("must be refused")
    }

    #[track_caller]
    pub(crate) fn tell(&mut self, number: u8, fact: HostFact) -> Effects {
        self.apply(Input::Host { host: host(number), fact })
    }

    /// Lets time pass and ticks where it is due.
    pub(crate) fn pass(&mut self, secs: u64) {
        let end = self.at.now.plus_secs(secs);
        while let Some(next) = groundswell_rollout::next_deadline(&self.rollout)
            && next <= end
        {
            self.at.now = self.at.now.max(next);
            assert!(due(&self.rollout, self.at.now));
            self.apply(Input::Tick);
        }
        self.at.now = end;
        assert!(!due(&self.rollout, end));
    }

    pub(crate) fn standing(&mut self, id: HostId) -> &mut Standing {
        self.standings.get_mut(&id).unwrap()
    }

    /// The host takes one step towards its wish; whether it reported anything that was news.
    pub(crate) fn obey(&mut self, id: HostId, failing: Option<FailedStep>) -> bool {
        let Some(wish) = desired(&self.rollout, &id) else { return false };
        let standing = self.standings.get_mut(&id).unwrap();
        let mine = Some(self.rollout.id().clone());
        match wish.action {
            Action::Hold {} => go_on(standing, None),
            Action::Stage { release } | Action::Switch { release }
                if standing
                    .failure
                    .as_ref()
                    .is_some_and(|had| had.release == release && had.step != FailedStep::Stage) => {
            }
            Action::Stage { release } => {
                if standing.running != Some(release) {
                    standing.target = Some(release);
                    standing.rollout = mine;
                    standing.failure = None;
                    match failing {
                        Some(FailedStep::Stage) => fail(standing, release, FailedStep::Stage),
                        _ => standing.state = HostState::Staged,
                    }
                }
            }
            Action::Switch { release } if standing.running == Some(release) => {
                go_on(standing, failing);
            }
            Action::Switch { release } => {
                let allowed = groundswell_rollout::may_switch(
                    &self.rollout,
                    &id,
                    &release,
                    generation(&self.rollout, &id),
                    self.at.now,
                );
                if allowed.is_ok() {
                    standing.previous = standing.running;
                    standing.running = Some(release);
                    standing.target = Some(release);
                    standing.rollout = mine;
                    standing.state = HostState::Probing;
                }
            }
            Action::Revert { from, .. } if standing.running == Some(from) => {
                standing.running = standing.previous.or(Some(self::release(OLD)));
                standing.target = None;
                standing.state = HostState::Committed;
            }
            Action::Revert { .. } => standing.state = HostState::Committed,
            Action::Remove {} => {
                (standing.running, standing.target) = (None, None);
                standing.state = HostState::Idle;
            }
        }
        self.report(id)
    }

    /// The host sends what it is; whether that was news.
    pub(crate) fn report(&mut self, id: HostId) -> bool {
        let (standing, accepted) = (&self.standings[&id], generation(&self.rollout, &id));
        match fact(&self.rollout, &id, standing, accepted) {
            Some(fact) => {
                self.apply(Input::Host { host: id, fact });
                true
            }
            None => false,
        }
    }

    /// Every connected host obeys until nobody has news.
    pub(crate) fn obey_all(&mut self) {
        let ids: Vec<HostId> = self.rollout.hosts().map(|(_, host, _)| host.id).collect();
        let mut works = |id: &HostId| {
            let here = self.rollout.host(id).unwrap().away.is_none();
            here && self.obey(*id, None)
        };
        while ids.iter().filter(|id| works(id)).count() > 0 {}
    }

    pub(crate) fn phase(&self) -> PhaseName {
        self.rollout.phase().name()
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let Phase::Done { outcome, .. } = self.rollout.phase() else { return None };
        Some(outcome.clone())
    }

    pub(crate) fn progress(&self, id: HostId) -> Progress {
        self.rollout.host(&id).unwrap().progress.clone()
    }

    pub(crate) fn action(&self, id: HostId) -> Action {
        desired(&self.rollout, &id).unwrap().action
    }

    /// The hosts of a wave, in the order in which they get slots.
    pub(crate) fn wave(&self, wave: usize) -> Vec<HostId> {
        self.rollout.plan().waves[wave].hosts.iter().map(|host| host.id).collect()
    }

    pub(crate) fn fact(&mut self, id: HostId, fact: HostFact) -> Effects {
        self.apply(Input::Host { host: id, fact })
    }

    pub(crate) fn failed(&mut self, id: HostId) -> Effects {
        let why = "probe answered 500".to_owned();
        self.fact(id, HostFact::Failed { step: FailedStep::Probe, why, reverted: true })
    }

    pub(crate) fn halt(&mut self) -> Effects {
        self.apply(Input::Halt { by: person("ann"), why: "smoke".to_owned() })
    }

    pub(crate) fn resume(&mut self) -> Effects {
        self.apply(Input::Resume { by: person("ann"), why: "seen".to_owned() })
    }
}

/// A started rollout of a plan.
pub(crate) fn begun(plan: Plan) -> Bed {
    let mut bed = Bed::of(plan);
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed
}

pub(crate) fn steer(steer: Steer) -> Input {
    Input::Steer { by: person("ann"), why: "because".to_owned(), steer }
}

/// The progress of a host by its place in a wave.
pub(crate) fn name(bed: &Bed, wave: usize, at: usize) -> ProgressName {
    bed.progress(bed.wave(wave)[at]).name()
}

/// A host in the middle of something goes on by itself, whatever its wish.
fn go_on(standing: &mut Standing, failing: Option<FailedStep>) {
    let Some(release) = standing.target else { return };
    match (standing.state, failing) {
        (HostState::Probing, Some(FailedStep::Switch | FailedStep::Probe)) => {
            fail(standing, release, FailedStep::Probe);
        }
        (HostState::Baking, Some(FailedStep::Bake)) => fail(standing, release, FailedStep::Bake),
        (HostState::Probing, _) => standing.state = HostState::Baking,
        (HostState::Baking, _) => {
            standing.state = HostState::Committed;
            standing.target = None;
        }
        (_, _) => {}
    }
}

/// The host gives up the release and goes back by itself.
fn fail(standing: &mut Standing, release: ReleaseId, step: FailedStep) {
    let reverted = step != FailedStep::Stage;
    standing.failure = Some(Failure { release, step, why: "broken".to_owned(), reverted });
    standing.running = standing.previous.or(standing.running);
    standing.target = None;
    standing.state = HostState::Committed;
}

/// Every host of a wave is counted once, whatever becomes of it.
fn assert_totals(rollout: &Rollout) {
    for (planned, wave) in rollout.plan().waves.iter().zip(0_u32..) {
        let total = rollout.tally(wave).unwrap().total();
        assert_eq!(usize::try_from(total).unwrap(), planned.hosts.len(), "wave {wave}");
    }
}

/// Each wish that changed is listed and has the entry's number; no other wish has changed.
/// Whom time alone loses was silent before.
fn assert_silent(before: &Rollout, after: &Rollout, now: Timestamp) {
    let silent = silent(before, now);
    for (_, host, entry) in after.hosts() {
        let was = before.host(&host.id).map(|before| &before.progress);
        let lost = entry.progress == Progress::Lost && was != Some(&Progress::Lost);
        assert!(!lost || silent.contains(&host.id), "{} was {was:?}", host.name);
    }
}

fn assert_wishes(before: &Rollout, after: &Rollout, effects: &Effects, at: Moment) {
    for (_, planned, _) in after.hosts() {
        let id = planned.id;
        let (was, is) = (desired(before, &id), desired(after, &id));
        let (old, new) = (generation(before, &id), generation(after, &id));
        let listed = effects.all_hosts || effects.changed_hosts.contains(&id);
        if was != is || new != old {
            assert!(listed, "{id} changed from {was:?} to {is:?} and is not listed");
            assert_eq!(new, at.seq, "{id} changed from {was:?} to {is:?}");
        } else if !after.plan().prefetch {
            assert!(!listed, "{id} is listed and has not changed: {is:?}");
        }
    }
}

impl Bed {
    /// The hosts of one wave obey until nobody of them has news.
    pub(crate) fn obey_all_of(&mut self, wave: usize) {
        let ids = self.wave(wave);
        while ids.iter().filter(|id| self.obey(**id, None)).count() > 0 {}
    }

    /// The host gets its slot and fails after its switch.
    pub(crate) fn failed_with_slot(&mut self, id: HostId) -> Effects {
        self.fact(id, HostFact::Staged);
        self.failed(id)
    }

    pub(crate) fn failed_stage(&mut self, id: HostId) -> Effects {
        let why = "digest differs".to_owned();
        self.fact(id, HostFact::Failed { step: FailedStep::Stage, why, reverted: false })
    }
}
