//! Random hosts, faults and buttons; every invariant after every step; then calm, and an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use groundswell_common::HostId;
use groundswell_common::condition::Lack;
use groundswell_common::report::{FailedStep, Verdict};
use groundswell_common::wire::Deny;
use groundswell_rollout::{
    Busy, Evidence, Guard, GuardKind, HostEntry, HostFact, Input, KeepOrRevert, Moment, Outcome,
    Phase, PhaseName, Plan, PlannedHost, Progress, ProgressName, Rollout, Short, Steer,
    cares_about_link, due, may_switch, step,
};

use crate::bed::{Bed, person, planned, release};

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        let at = self.below(u64::try_from(items.len()).unwrap());
        items[usize::try_from(at).unwrap()].clone()
    }
}

fn keys(random: &mut Random) -> String {
    let mut keys = format!(
        "max_in_flight = {}\nfailure_budget = {}\non_breach = \"{}\"\nbake_secs = {}\n",
        1 + random.below(4),
        random.below(3),
        random.pick(&["pause", "halt", "revert-wave", "revert-all"]),
        random.below(2) * 60,
    );
    let gate = |random: &mut Random| match random.below(4) {
        0 => "gate = \"approval\"\napprovals = 2\n",
        _ => "",
    };
    keys += &format!("[[wave]]\ncount = {}\n{}", 1 + random.below(3), gate(random));
    if random.one_in(2) {
        keys += &format!("max_in_flight = {}\n", 1 + random.below(3));
    }
    if random.one_in(2) {
        keys += &format!(
            "[[wave]]\npercent = {}\noptional = true\n{}",
            30 + random.below(60),
            gate(random)
        );
    }
    keys + "[[wave]]\nrest = true\n" + gate(random)
}

fn button(bed: &Bed, random: &mut Random) -> Input {
    let by = person(random.pick(&["ann", "ben", "cat"]));
    let why = "because".to_owned();
    let plan = bed.rollout.plan_hash();
    match random.below(16) {
        12.. => Input::Steer { by, why, steer: steer(bed, random) },
        0 | 1 => Input::Pause { by, why },
        2 => Input::Halt { by, why },
        3..=6 => Input::Resume { by, why },
        7 => Input::Revert { by, why },
        8 => Input::Abort { by, why, keep: KeepOrRevert::Keep },
        9 => Input::Abort { by, why, keep: KeepOrRevert::Revert },
        10 => Input::Approve { by, plan, wave: None },
        _ => Input::Approve { by, plan, wave: Some(u32::try_from(random.below(4)).unwrap()) },
    }
}

fn steer(bed: &Bed, random: &mut Random) -> Steer {
    let hosts: Vec<HostId> = bed.rollout.hosts().map(|(_, host, _)| host.id).collect();
    let host = random.pick(&hosts);
    match random.below(6) {
        0 => Steer::Promote,
        1 => Steer::SkipWave { wave: u32::try_from(random.below(3)).unwrap() },
        2 | 3 => Steer::Retry { host },
        4 => Steer::Exclude { host },
        _ => Steer::Slow { max_in_flight: random.pick(&[None, Some(1), Some(2)]) },
    }
}

/// What a policy may ask for beyond waves and budgets.
fn enrich(plan: &mut Plan, random: &mut Random) {
    plan.prefetch = random.one_in(3);
    plan.rollout_budget = random.one_in(3).then(|| u32::try_from(random.below(3)).unwrap());
    plan.lane_max_in_flight = 1 + u32::try_from(random.below(2)).unwrap();
    plan.lane_budget = u32::try_from(random.below(2)).unwrap();
    plan.evidence_short = random.pick(&[Short::Extend, Short::Ask]);
    let (evident, guarded) = (random.one_in(3), random.one_in(2));
    for wave in &mut plan.waves {
        wave.gate.manual = random.one_in(6);
        if evident {
            let hosts = 1 + u32::try_from(random.below(3)).unwrap();
            wave.evidence = Evidence { host_secs: random.below(300), hosts };
        }
    }
    if guarded {
        plan.domains_at_once = u32::try_from(random.below(3)).unwrap();
        let max_down = 1 + u32::try_from(random.below(2)).unwrap();
        let guard = |rack: u32| Guard {
            kind: GuardKind::Domain,
            name: format!("r{rack}"),
            hosts: 0,
            max_down,
        };
        plan.guards = (0..3).map(guard).collect();
        let racks = (0_u32..).map(|number| number % 3);
        for (host, rack) in plan.waves.iter_mut().flat_map(|wave| &mut wave.hosts).zip(racks) {
            host.guards = vec![rack];
        }
    }
}

/// Nobody takes a host down beyond its guard: at the moment of the grant there was room.
fn guarded(bed: &Bed, before: &Rollout) {
    let flies = |entry: &HostEntry| matches!(entry.progress, Progress::Granted { .. });
    for ((_, planned, now), (_, _, was)) in bed.rollout.hosts().zip(before.hosts()) {
        // A host that is ill takes nothing away.
        if !flies(now) || flies(was) || now.ill {
            continue;
        }
        for guard in &planned.guards {
            let of_guard = |planned: &PlannedHost| planned.guards.contains(guard);
            let down = |rollout: &Rollout| {
                let down = |entry: &HostEntry| {
                    let serves = match &entry.progress {
                        Progress::Pending
                        | Progress::Staging
                        | Progress::Staged
                        | Progress::Committed
                        | Progress::Absent
                        | Progress::Reverted
                        | Progress::Held { .. }
                        | Progress::Excluded { ran: false, gone: false } => true,
                        Progress::Failed { step, reverted, .. } => {
                            *step == FailedStep::Stage || *reverted
                        }
                        Progress::Granted { .. }
                        | Progress::Probing { .. }
                        | Progress::Baking { .. }
                        | Progress::Lost
                        | Progress::Reverting { .. }
                        | Progress::Overdue
                        | Progress::Excluded { .. } => false,
                    };
                    !serves || entry.ill || entry.away.is_some()
                };
                let hosts = rollout.hosts().filter(|(_, planned, _)| of_guard(planned));
                hosts.filter(|(_, _, entry)| down(entry)).count()
            };
            let max_down = bed.rollout.plan().guards[usize::try_from(*guard).unwrap()].max_down;
            let allowed = down(before).max(usize::try_from(max_down).unwrap());
            let now = down(&bed.rollout);
            let input = bed.log.last();
            assert!(now <= allowed, "{planned:?}: {now} down, {allowed} allowed, after {input:?}");
        }
    }
}

/// One thing happens; most of it is hosts at work.
fn happen(bed: &mut Bed, random: &mut Random, ids: &[HostId]) {
    let id = random.pick(ids);
    let away = bed.rollout.host(&id).unwrap().away.is_some();
    match random.below(22) {
        20 => {
            let health = random.pick(&[Verdict::Pass, Verdict::Fail]);
            bed.standing(id).health = health;
            bed.report(id);
        }
        21 if random.one_in(8) => drop(bed.try_apply(Input::Removed { host: id })),
        0 => {
            let input = button(bed, random);
            let _ = bed.try_apply(input);
        }
        1 | 2 => {
            let connected = random.one_in(2);
            if cares_about_link(&bed.rollout, &id, connected) {
                bed.apply(match connected {
                    true => Input::Connected { host: id },
                    false => Input::Disconnected { host: id },
                });
            }
        }
        3 | 4 => bed.at.now = bed.at.now.plus_secs(random.below(70)),
        5 | 6 => {
            if due(&bed.rollout, bed.at.now) {
                bed.apply(Input::Tick);
            }
        }
        _ if away => {}
        7 if random.one_in(3) => {
            let fact = match random.below(4) {
                0 => HostFact::Held { lack: Lack::Room, why: "make room".to_owned() },
                1 => HostFact::Fetched { permille: u16::try_from(random.below(1_000)).unwrap() },
                2 => HostFact::Gone { running: None },
                _ => HostFact::Freed,
            };
            let _ = bed.try_apply(Input::Host { host: id, fact });
        }
        _ => {
            let steps =
                [FailedStep::Stage, FailedStep::Switch, FailedStep::Probe, FailedStep::Bake];
            let failing = random.one_in(12).then(|| random.pick(&steps));
            bed.obey(id, failing);
        }
    }
}

/// What must hold beyond `check`: nobody gets a slot beyond the cap, and a stop permits nobody.
fn watch(bed: &Bed, before: &Rollout) {
    let granted = |rollout: &Rollout| -> BTreeSet<HostId> {
        let has = |progress: &Progress| progress.name() == ProgressName::Granted;
        rollout.hosts().filter(|(_, _, e)| has(&e.progress)).map(|(_, host, _)| host.id).collect()
    };
    let new = granted(&bed.rollout).difference(&granted(before)).count();
    let opened = (0..bed.rollout.plan().waves.len())
        .rev()
        .find(|wave| bed.rollout.is_open(u32::try_from(*wave).unwrap()));
    if new > 0 {
        let cap = bed.rollout.plan().waves[opened.unwrap()].max_in_flight;
        assert!(bed.rollout.in_flight() <= usize::try_from(cap).unwrap());
    }
    let stopped = match bed.phase() {
        PhaseName::Paused | PhaseName::Halted | PhaseName::Reverting | PhaseName::Planned => true,
        PhaseName::Done => bed.outcome() != Some(Outcome::Completed),
        PhaseName::Running | PhaseName::Baking | PhaseName::Gated => false,
    };
    for (_, host, _) in bed.rollout.hosts().filter(|_| stopped) {
        let answer = may_switch(&bed.rollout, &host.id, &release(2), u64::MAX, bed.at.now);
        assert_eq!(answer, Err(Deny::Stopped));
    }
}

/// Everyone is back, obeys and succeeds; persons press on. The rollout must come to an end.
fn calm(bed: &mut Bed, ids: &[HostId]) {
    for id in ids {
        if cares_about_link(&bed.rollout, id, true) {
            bed.apply(Input::Connected { host: *id });
        }
    }
    for _ in 0..200 {
        for id in ids {
            let _ = bed.try_apply(Input::Host { host: *id, fact: HostFact::Freed });
        }
        bed.obey_all();
        match bed.rollout.phase().clone() {
            Phase::Done { .. } => return,
            Phase::Paused { .. } | Phase::Halted { .. } => {
                // Where too many of a rack are dead, a person leaves the others out.
                let parked = |(_, host, entry): (u32, &PlannedHost, &HostEntry)| {
                    entry.parked.map(|_| host.id)
                };
                let parked: Vec<HostId> = bed.rollout.hosts().filter_map(parked).collect();
                for host in parked {
                    let (by, why, steer) = (person("dan"), String::new(), Steer::Exclude { host });
                    let _ = bed.try_apply(Input::Steer { by, why, steer });
                }
                bed.resume();
            }
            Phase::Gated { wave, .. } => {
                let (by, why) = (person("dan"), String::new());
                let steer = Steer::Promote;
                let _ = bed.try_apply(Input::Steer { by, why, steer });
                for by in ["dan", "eve"] {
                    let (by, plan) = (person(by), bed.rollout.plan_hash());
                    let _ = bed.try_apply(Input::Approve { by, plan, wave: Some(wave) });
                }
            }
            Phase::Planned
            | Phase::Running { .. }
            | Phase::Baking { .. }
            | Phase::Reverting { .. } => bed.pass(60),
        }
    }
    panic!("it does not end: {:?}", bed.rollout.phase());
}

/// Which phases and kinds of progress the runs came through.
#[derive(Default)]
pub(crate) struct Seen {
    phases: BTreeSet<PhaseName>,
    progress: BTreeSet<ProgressName>,
    outcomes: BTreeSet<&'static str>,
    /// From, to, and the inputs that did it.
    pub(crate) phase_edges: BTreeMap<(PhaseName, PhaseName), BTreeSet<&'static str>>,
    pub(crate) host_edges: BTreeSet<(ProgressName, ProgressName)>,
}

/// What an input is called in a diagram.
fn word(input: &Input) -> &'static str {
    match input {
        Input::Start { .. } => "start",
        Input::Approve { .. } => "approve",
        Input::Pause { .. } => "pause",
        Input::Resume { .. } => "resume",
        Input::Halt { .. } => "halt",
        Input::Abort { .. } => "abort",
        Input::Revert { .. } => "revert",
        Input::Steer { steer: Steer::Promote, .. } => "promote",
        Input::Steer { steer: Steer::SkipWave { .. }, .. } => "skip wave",
        Input::Steer { steer: Steer::Exclude { .. }, .. } => "exclude host",
        Input::Steer { steer: Steer::Retry { .. }, .. } => "retry host",
        Input::Steer { steer: Steer::Slow { .. }, .. } => "slow",
        Input::Answer { .. } => "webhook",
        Input::Removed { .. } => "host deleted",
        Input::Supersede { .. } => "newer release",
        Input::Host { .. } => "report",
        Input::Connected { .. } | Input::Disconnected { .. } => "link",
        Input::Tick => "time",
    }
}

impl Seen {
    /// Every change of phase and of a host in the whole run, taken from its log.
    fn replay(&mut self, mut rollout: Rollout, log: &[(Input, Moment)]) -> Rollout {
        for (input, at) in log {
            let before: Vec<ProgressName> =
                rollout.hosts().map(|(_, _, entry)| entry.progress.name()).collect();
            let late = due(&rollout, at.now);
            let effects = step(&mut rollout, input, *at).unwrap();
            for moved in &effects.transitions {
                let edge = (moved.from.name(), moved.to.name());
                self.phase_edges.entry(edge).or_default().insert(if late {
                    "time"
                } else {
                    word(input)
                });
            }
            let after = rollout.hosts().map(|(_, _, entry)| entry.progress.name());
            let edges = before.into_iter().zip(after).filter(|(from, to)| from != to);
            self.host_edges.extend(edges);
        }
        rollout
    }

    fn add(&mut self, more: Self) {
        self.phases.extend(more.phases);
        self.progress.extend(more.progress);
        self.outcomes.extend(more.outcomes);
        self.host_edges.extend(more.host_edges);
        for (edge, words) in more.phase_edges {
            self.phase_edges.entry(edge).or_default().extend(words);
        }
    }

    fn note(&mut self, bed: &Bed) {
        self.phases.insert(bed.phase());
        self.progress.extend(bed.rollout.hosts().map(|(_, _, entry)| entry.progress.name()));
        self.outcomes.extend(bed.outcome().map(|outcome| match outcome {
            Outcome::Completed => "completed",
            Outcome::Reverted { .. } => "reverted",
            Outcome::Aborted { .. } => "aborted",
            Outcome::Superseded { .. } => "superseded",
        }));
    }
}

fn run(seed: u64) -> Seen {
    let mut seen = Seen::default();
    let mut random = Random(seed);
    let count = u8::try_from(1 + random.below(14)).unwrap();
    let mut plan = planned(&keys(&mut random), count);
    enrich(&mut plan, &mut random);
    let mut bed = Bed::of(plan.clone());
    let ids: Vec<HostId> =
        plan.waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.id).collect();
    let away = ids.iter().copied().filter(|_| random.one_in(6)).collect();
    let busy = ids.iter().copied().filter(|_| random.one_in(6));
    let busy = busy.map(|host| Busy { host, until: bed.at.now.plus_secs(60) }).collect();
    bed.apply(Input::Start { away, busy });
    for _ in 0..400 {
        let before = bed.rollout.clone();
        happen(&mut bed, &mut random, &ids);
        watch(&bed, &before);
        guarded(&bed, &before);
        seen.note(&bed);
    }
    calm(&mut bed, &ids);
    seen.note(&bed);
    match bed.outcome() {
        Some(Outcome::Completed | Outcome::Reverted { .. } | Outcome::Aborted { .. }) => {}
        other => panic!("{other:?}"),
    }
    let again = seen.replay(Rollout::new(bed.rollout.id().clone(), plan), &bed.log);
    assert_eq!(again, bed.rollout);
    seen
}

/// Five hundred runs, done once.
pub(crate) fn explored() -> &'static Seen {
    static SEEN: OnceLock<Seen> = OnceLock::new();
    SEEN.get_or_init(|| {
        let mut seen = Seen::default();
        for seed in 0..500 {
            match std::panic::catch_unwind(|| run(seed)) {
                Ok(more) => seen.add(more),
                Err(panic) => {
                    eprintln!("seed {seed}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
        seen
    })
}

#[test]
fn five_hundred_random_rollouts_keep_every_invariant_and_end() {
    let seen = explored();
    let phases = [
        PhaseName::Running,
        PhaseName::Baking,
        PhaseName::Gated,
        PhaseName::Paused,
        PhaseName::Halted,
        PhaseName::Reverting,
        PhaseName::Done,
    ];
    assert_eq!(seen.phases, BTreeSet::from(phases));
    assert_eq!(seen.progress, BTreeSet::from(ProgressName::ALL));
    assert_eq!(seen.outcomes, BTreeSet::from(["aborted", "completed", "reverted"]));
}
