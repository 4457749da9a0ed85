//! Failures reported against other systems of this field, each asked of the core; docs/traps.md says
//! which is which.

use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Verdict};
use groundswell_common::wire::Deny;
use groundswell_common::{Digest, Timestamp};
use groundswell_rollout::{
    Breach, Guard, GuardKind, HaltCause, HostFact, Input, KeepOrRevert, Outcome, Parked, Phase,
    PhaseName, Progress, ProgressName, Refusal, Steer, Window, asks_webhook, desired, explain,
    generation, may_switch, next_deadline, plan,
};

use crate::bed::{
    Bed, begun, host, hosts, name, person, planned, policy, reference, release, steer,
};

fn switch() -> Action {
    Action::Switch { release: release(2) }
}

/// Everyone in one wave, all at once.
const AT_ONCE: &str = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\nrest = true";

/// A canary, then everyone.
const CANARY: &str = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\nrest = true";

/// Monday 13:48 for ten minutes: the bed begins at 13:46:40 on a Monday.
fn with_window(keys: &str, count: u8) -> Bed {
    let mut plan = planned(keys, count);
    let start_minute = 13 * 60 + 48;
    plan.windows =
        vec![Window { days: vec![0], start_minute, minutes: 10, zone: "UTC".to_owned() }];
    begun(plan)
}

#[test]
fn a_host_that_may_not_go_takes_no_slot_from_others() {
    let mut plan = planned("max_in_flight = 1\n[[wave]]\nrest = true", 3);
    let guard = Guard { kind: GuardKind::Domain, name: "r0".to_owned(), hosts: 2, max_down: 1 };
    plan.guards = vec![guard];
    for at in [0, 1] {
        plan.waves[0].hosts[at].guards = vec![0];
    }
    let mut bed = begun(plan);
    let [first, dead, other] = bed.wave(0)[..] else { panic!() };
    bed.apply(Input::Disconnected { host: dead });
    bed.fact(first, HostFact::Staged);
    assert_eq!(bed.rollout.host(&first).unwrap().parked, Some(Parked::Guard(0)));
    assert_eq!(bed.rollout.in_flight(), 0, "what may not go holds nothing");
    bed.fact(other, HostFact::Staged);
    assert_eq!(name(&bed, 0, 2), ProgressName::Granted, "the only slot is for who may use it");
}

#[test]
fn the_slot_of_a_deleted_host_is_free_at_once() {
    for facts in [&[][..], &[HostFact::SwitchStarted], &[HostFact::SwitchStarted, HostFact::Passed]]
    {
        let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 3);
        let [owner, next, _] = bed.wave(0)[..] else { panic!() };
        bed.fact(owner, HostFact::Staged);
        bed.fact(next, HostFact::Staged);
        for fact in facts {
            bed.fact(owner, fact.clone());
        }
        assert_eq!((bed.rollout.in_flight(), name(&bed, 0, 1)), (1, ProgressName::Staged));
        bed.apply(Input::Removed { host: owner });
        assert_eq!((bed.rollout.in_flight(), name(&bed, 0, 1)), (1, ProgressName::Granted));
        assert_eq!(bed.rollout.failures(0), 0);
    }
}

#[test]
fn a_host_that_left_with_a_slot_as_its_window_closed_frees_it_in_the_next() {
    let mut bed = with_window("bake_secs = 0\nmax_in_flight = 1\n[[wave]]\nrest = true", 2);
    let [owner, next] = bed.wave(0)[..] else { panic!() };
    bed.pass(600);
    bed.fact(owner, HostFact::Staged);
    bed.fact(next, HostFact::Staged);
    assert_eq!(bed.action(owner), switch());
    bed.apply(Input::Disconnected { host: owner });
    bed.pass(80);
    assert_eq!(bed.action(owner), Action::Stage { release: release(2) }, "the window is over");
    bed.pass(7 * 86_400 - 600);
    assert_eq!(bed.action(owner), switch(), "the next window gives it its whole time again");
    bed.pass(159);
    assert_eq!(name(&bed, 0, 1), ProgressName::Staged);
    bed.pass(1);
    assert_eq!(bed.progress(owner), Progress::Lost);
    assert_eq!(bed.phase(), PhaseName::Done, "{:?}", bed.outcome());
}

#[test]
fn a_newer_release_replaces_one_that_waits_for_its_window() {
    let mut bed = with_window(AT_ONCE, 2);
    for id in bed.wave(0) {
        bed.fact(id, HostFact::Staged);
    }
    bed.apply(Input::Supersede { by: "shop-8".parse().unwrap() });
    assert_eq!(next_deadline(&bed.rollout), None, "no window wakes it");
    bed.at.now = bed.at.now.plus_secs(100);
    for id in bed.wave(0) {
        assert_eq!(bed.action(id), Action::Hold {});
        assert_eq!(
            may_switch(&bed.rollout, &id, &release(2), u64::MAX, bed.at.now),
            Err(Deny::Stopped)
        );
    }
}

#[test]
fn one_survivor_is_no_success() {
    let mut bed = Bed::start(&format!("on_breach = \"halt\"\n{AT_ONCE}"), 5);
    let ids = bed.wave(0);
    for id in &ids {
        bed.fact(*id, HostFact::Staged);
    }
    bed.fact(ids[4], HostFact::Committed);
    bed.failed(ids[0]);
    for id in &ids[1..4] {
        bed.failed(*id);
    }
    let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(
        *cause,
        HaltCause::Breach(Breach { wave: Some(0), failures: 1, budget: 0, silent: 0 })
    );
    assert!(!bed.rollout.is_proven());
}

#[test]
fn a_budget_is_of_the_wave_whatever_the_slots() {
    // One at a time: the first failure is a whole batch, and still one host of ten.
    for (budget, tolerated) in [("99%", 9), ("100%", 10)] {
        let keys = format!(
            "failure_budget = \"{budget}\"\nmax_in_flight = 1\non_breach = \"halt\"\n\
             bake_secs = 0\n[[wave]]\nrest = true"
        );
        let mut bed = Bed::start(&keys, 10);
        let ids = bed.wave(0);
        for (id, failed) in ids.iter().zip(1..) {
            bed.fact(*id, HostFact::Staged);
            bed.failed(*id);
            let halted = bed.phase() == PhaseName::Halted;
            assert_eq!(halted, failed > tolerated, "{budget}: {failed} failed");
        }
    }
}

#[test]
fn a_release_that_failed_everywhere_is_not_proven() {
    let mut bed = Bed::start(&format!("failure_budget = \"100%\"\n{AT_ONCE}"), 2);
    let [one, two] = bed.wave(0)[..] else { panic!() };
    for id in [one, two] {
        bed.fact(id, HostFact::Staged);
        bed.failed(id);
    }
    assert_eq!(bed.outcome(), Some(Outcome::Completed), "so much was tolerated");
    assert!(!bed.rollout.is_proven(), "no new host gets what no host has run");
    bed.apply(steer(Steer::Retry { host: two }));
    bed.fact(two, HostFact::Staged);
    bed.fact(two, HostFact::Committed);
    assert!(bed.rollout.is_proven());
}

#[test]
fn a_failure_of_any_kind_stops_the_same_way() {
    let steps = [FailedStep::Switch, FailedStep::Probe, FailedStep::Bake, FailedStep::Revert];
    let failed = |step| HostFact::Failed { step, why: "no".to_owned(), reverted: false };
    let stuck = HostFact::Stuck { why: "no".to_owned() };
    let facts = steps.map(|step| Some(failed(step))).into_iter().chain([Some(stuck), None]);
    for fact in facts {
        let mut bed = Bed::start(&format!("on_breach = \"halt\"\n{AT_ONCE}"), 3);
        let (bad, other) = (bed.wave(0)[0], bed.wave(0)[1]);
        bed.fact(bad, HostFact::Staged);
        match &fact {
            Some(fact) => drop(bed.fact(bad, fact.clone())),
            // Silence until its slot is taken back.
            None => bed.pass(160),
        }
        let silent = u32::from(fact.is_none());
        let breach = Breach { wave: Some(0), failures: 1, budget: 0, silent };
        assert_eq!(
            breach.to_string().contains("1 did not say in time"),
            fact.is_none(),
            "{breach}"
        );
        let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!("{fact:?}") };
        assert_eq!(*cause, HaltCause::Breach(breach), "{fact:?}");
        bed.fact(other, HostFact::Staged);
        assert_eq!(bed.action(other), Action::Hold {}, "{fact:?}");
    }
}

#[test]
fn an_answer_at_one_gate_is_none_at_the_next() {
    let keys = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\ncount = 1\n\
        [[wave]]\nrest = true";
    let mut plan = planned(keys, 3);
    for wave in &mut plan.waves[1..] {
        (wave.gate.approvals, wave.gate.manual, wave.gate.webhook) = (1, true, true);
    }
    let mut bed = begun(plan);
    for wave in [1, 2] {
        bed.obey_all();
        assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Gated, Some(wave)));
        let plan = bed.rollout.plan_hash();
        bed.apply(Input::Approve { by: person("ann"), plan, wave: Some(wave) });
        assert_eq!(bed.phase(), PhaseName::Gated, "the promotion is missing");
        bed.apply(steer(Steer::Promote));
        assert_eq!((bed.phase(), asks_webhook(&bed.rollout)), (PhaseName::Gated, Some(wave)));
        bed.apply(Input::Answer { wave, verdict: Verdict::Pass, why: String::new() });
        assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(wave)));
    }
}

#[test]
fn a_host_left_out_gets_neither_slot_nor_permit() {
    let mut bed = Bed::start(AT_ONCE, 3);
    let [granted, staging, runs] = bed.wave(0)[..] else { panic!() };
    bed.fact(granted, HostFact::Staged);
    bed.fact(runs, HostFact::Staged);
    bed.fact(runs, HostFact::SwitchStarted);
    let held = generation(&bed.rollout, &granted);
    assert_eq!(may_switch(&bed.rollout, &granted, &release(2), held, bed.at.now), Ok(()));
    for id in [granted, staging] {
        bed.apply(steer(Steer::Exclude { host: id }));
        assert_eq!(bed.action(id), Action::Hold {});
        assert_eq!(
            may_switch(&bed.rollout, &id, &release(2), u64::MAX, bed.at.now),
            Err(Deny::Stale)
        );
        let late = Input::Host { host: id, fact: HostFact::Staged };
        assert_eq!(bed.refused(late), Refusal::NoChange);
    }
    assert_eq!(bed.refused(steer(Steer::Exclude { host: runs })), Refusal::HostRuns(runs));
    bed.fact(runs, HostFact::Committed);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert_eq!(bed.progress(staging), Progress::Excluded { ran: false, gone: false });
}

#[test]
fn delays_make_no_person_open_the_next_wave() {
    let mut bed = Bed::start(CANARY, 3);
    let canary = bed.wave(0)[0];
    bed.apply(Input::Disconnected { host: canary });
    bed.pass(500);
    bed.apply(Input::Connected { host: canary });
    bed.pass(50);
    bed.fact(canary, HostFact::Staged);
    assert_eq!(name(&bed, 0, 0), ProgressName::Granted);
    bed.fact(canary, HostFact::SwitchStarted);
    bed.fact(canary, HostFact::Passed);
    bed.fact(canary, HostFact::Committed);
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(1)));
}

#[test]
fn a_wave_that_a_promotion_left_behind_has_no_deadline() {
    let keys = "max_in_flight = 9\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    let [quick, slow] = bed.wave(0)[..] else { panic!() };
    bed.fact(quick, HostFact::Staged);
    bed.fact(quick, HostFact::Committed);
    bed.pass(590);
    bed.apply(steer(Steer::Promote));
    // The deadline of the first wave would be over; the second has its own.
    bed.pass(590);
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(1)));
    assert_eq!(bed.progress(slow), Progress::Staging);
    bed.obey_all_of(1);
    bed.pass(60);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    let late = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert_eq!(late, "it is over: completed; not there yet: 1 host");
}

#[test]
fn a_wave_whose_hosts_are_gone_or_left_out_has_shown_nothing() {
    let deleted = |host| Input::Removed { host };
    let left_out = |host| steer(Steer::Exclude { host });
    for leave in [deleted, left_out] {
        let mut bed = Bed::start(CANARY, 3);
        let canary = bed.wave(0)[0];
        bed.apply(leave(canary));
        assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(0)));
        let why = explain(&bed.rollout, None, bed.at.now)[0].to_string();
        let says = "wave 1 is open and every host of it was left out or deleted; it halts at";
        assert!(why.starts_with(says), "{why}");
        bed.pass(600);
        let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!() };
        assert_eq!(*cause, HaltCause::NoProgress { wave: 0 });
        assert_eq!(name(&bed, 1, 0), ProgressName::Pending);
        bed.resume();
        assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(1)));
    }
    // After a canary that holds, a wave that nobody is left in is passed over.
    let mut bed = Bed::start(CANARY, 2);
    let last = bed.wave(1)[0];
    bed.apply(deleted(last));
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    // Who is left out is no reason to take an absent host for a pass.
    let keys = "max_in_flight = 9\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 3);
    let [away, gone] = bed.wave(0)[..] else { panic!() };
    bed.apply(Input::Disconnected { host: away });
    bed.apply(deleted(gone));
    bed.pass(599);
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(0)));
    let why = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    let says = "wave 1 is open and nobody of its 1 host is connected; it halts at";
    assert!(why.starts_with(says), "{why}");
}

#[test]
fn a_clock_that_goes_back_ends_nothing_early_and_loses_nobody() {
    let keys =
        "max_in_flight = 9\non_breach = \"halt\"\n[[wave]]\ncount = 1\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 3);
    bed.obey_all();
    let began = bed.at.now;
    bed.at.now = Timestamp::from_secs(1_000_000 - 3_600);
    assert_eq!(bed.refused(Input::Tick), Refusal::NoChange);
    bed.pass(3_600 + 59);
    assert_eq!(bed.phase(), PhaseName::Baking);
    bed.pass(1);
    assert_eq!((bed.rollout.wave(), bed.at.now), (Some(1), began.plus_secs(60)));
    let slow = bed.wave(1)[0];
    bed.fact(slow, HostFact::Staged);
    bed.at.now = began;
    bed.fact(slow, HostFact::SwitchStarted);
    bed.pass(159);
    assert_eq!(name(&bed, 1, 0), ProgressName::Probing, "counted from its own report");
    bed.pass(1);
    assert_eq!(bed.progress(slow), Progress::Lost);
}

#[test]
fn a_host_that_no_policy_targets_is_not_even_among_the_rest() {
    let mut facts = hosts(3);
    facts[1].labels = "role=db".parse().unwrap();
    facts[2].labels = groundswell_common::Labels::default();
    let seed = Digest::of(b"seed");
    let plan = plan(&policy(AT_ONCE), &facts, &reference(false), &seed).unwrap();
    assert_eq!((plan.host_count(), plan.skipped.len()), (1, 0));
    let bed = begun(plan);
    assert_eq!(bed.wave(0), [host(0)]);
    for stranger in [host(1), host(2)] {
        assert_eq!(desired(&bed.rollout, &stranger), None);
        let denied = may_switch(&bed.rollout, &stranger, &release(2), u64::MAX, bed.at.now);
        assert_eq!(denied, Err(Deny::Stale));
        let why = explain(&bed.rollout, Some(&stranger), bed.at.now)[0].to_string();
        assert!(why.ends_with("is not in this rollout's plan"), "{why}");
    }
}

#[test]
fn a_small_percent_is_one_host_and_never_all() {
    for count in 1..=9 {
        let plan = planned("max_in_flight = \"1%\"\n[[wave]]\nrest = true", count);
        assert_eq!(plan.waves[0].max_in_flight, 1, "{count} hosts");
        let mut bed = begun(plan);
        for id in bed.wave(0) {
            bed.fact(id, HostFact::Staged);
        }
        assert_eq!(bed.rollout.in_flight(), 1, "{count} hosts");
    }
}

#[test]
fn what_an_abort_keeps_is_known_by_host_and_goes_back_on_a_later_word() {
    let mut bed = Bed::start(CANARY, 3);
    bed.obey_all_of(0);
    let waiting = bed.wave(1)[0];
    bed.fact(waiting, HostFact::Staged);
    let (by, why, keep) = (person("ann"), "enough".to_owned(), KeepOrRevert::Keep);
    bed.apply(Input::Abort { by, why, keep });
    let mix: Vec<ProgressName> =
        bed.rollout.hosts().map(|(_, _, entry)| entry.progress.name()).collect();
    use ProgressName as N;
    assert_eq!(mix, [N::Committed, N::Granted, N::Staging]);
    assert_eq!((bed.action(bed.wave(0)[0]), bed.action(waiting)), (switch(), Action::Hold {}));
    let says = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert_eq!(says, "it is over: ann aborted it and kept what runs: enough");
    bed.apply(Input::Revert { by: person("ann"), why: "after all".to_owned() });
    bed.obey_all();
    let Some(Outcome::Reverted { down_to: 0, .. }) = bed.outcome() else { panic!() };
    for number in 0..3 {
        assert_eq!(bed.standing(host(number)).running, Some(release(1)));
    }
}

#[test]
fn a_cluster_of_four_loses_one_worker_at_a_time() {
    let mut facts = hosts(8);
    for (facts, number) in facts.iter_mut().zip(0..) {
        facts.labels = format!("role=web,cluster=c{}", number / 4).parse().unwrap();
    }
    let policy = policy(&format!("quorum_label = \"cluster\"\n{AT_ONCE}"));
    let plan = plan(&policy, &facts, &reference(false), &Digest::of(b"seed")).unwrap();
    let room: Vec<u32> = plan.guards.iter().map(|guard| guard.max_down).collect();
    assert_eq!(room, [1, 1]);
    let mut bed = begun(plan);
    for id in bed.wave(0) {
        bed.fact(id, HostFact::Staged);
    }
    assert_eq!(bed.rollout.in_flight(), 2, "nine slots, and one host in each cluster");
    let first = bed.wave(0).into_iter().find(|id| bed.action(*id) == switch()).unwrap();
    bed.apply(Input::Disconnected { host: first });
    bed.fact(first, HostFact::Committed);
    assert_eq!(bed.rollout.in_flight(), 1, "it is there no more: its cluster waits");
    bed.apply(Input::Connected { host: first });
    assert_eq!(bed.rollout.in_flight(), 2);
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}
