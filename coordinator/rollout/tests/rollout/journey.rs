//! From start to completed: waves, slots, gates, hosts that are away.

use groundswell_common::directive::Action;
use groundswell_rollout::{
    Approved, HaltCause, HostFact, Input, Outcome, Phase, PhaseName, Progress, ProgressName,
    Refusal, Resumable, Rollout, Why, desired, explain, generation, step,
};

use crate::bed::{Bed, host, person, planned, release};

fn approve(bed: &Bed, by: &str, wave: Option<u32>) -> Input {
    Input::Approve { by: person(by), plan: bed.rollout.plan_hash(), wave }
}

#[test]
fn three_waves_to_completed() {
    let mut bed = Bed::start("", 10);
    let seen = |bed: &Bed| (bed.phase(), bed.rollout.wave());
    for wave in 0..3 {
        assert_eq!(seen(&bed), (PhaseName::Running, Some(wave)));
        bed.obey_all();
        assert_eq!(seen(&bed), (PhaseName::Baking, Some(wave)));
        bed.pass(59);
        assert_eq!(seen(&bed), (PhaseName::Baking, Some(wave)));
        bed.pass(1);
    }
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert!(bed.rollout.is_proven());
    assert_eq!(bed.rollout.started(), Some(101));
    let committed: u32 = (0..3).map(|wave| bed.rollout.tally(wave).unwrap().committed).sum();
    assert_eq!(committed, 10);
    for number in 0..10 {
        assert_eq!(bed.action(host(number)), Action::Switch { release: release(2) });
    }
}

#[test]
fn a_replay_of_the_ledger_gives_the_same_rollout() {
    let mut bed = Bed::start("bake_secs = 5", 12);
    bed.apply(Input::Disconnected { host: host(3) });
    bed.obey_all();
    bed.pass(40);
    bed.obey_all();
    bed.halt();
    bed.resume();
    bed.pass(10);
    bed.obey_all();
    let mut again = Rollout::new(bed.rollout.id().clone(), planned("bake_secs = 5", 12));
    for (input, at) in &bed.log {
        let json = serde_json::to_string(input).unwrap();
        step(&mut again, &serde_json::from_str(&json).unwrap(), *at).unwrap();
    }
    assert_eq!(again, bed.rollout);
    let json = serde_json::to_string(&again).unwrap();
    assert_eq!(serde_json::from_str::<Rollout>(&json).unwrap(), again);
}

#[test]
fn before_its_start_a_rollout_has_no_say() {
    let bed = Bed::of(planned("", 3));
    assert_eq!(desired(&bed.rollout, &host(0)), None);
    assert_eq!(generation(&bed.rollout, &host(0)), 0);
    let bed = Bed::start("", 3);
    assert_eq!(desired(&bed.rollout, &host(99)), None);
    let last = bed.wave(1)[0];
    assert_eq!(bed.action(last), Action::Hold {});
    assert_eq!(generation(&bed.rollout, &last), 101);
}

#[test]
fn slots_bound_how_many_switch_at_once() {
    let mut bed = Bed::start("max_in_flight = 2\n[[wave]]\nrest = true", 5);
    let ids = bed.wave(0);
    for id in &ids {
        bed.fact(*id, HostFact::Staged);
    }
    let granted = |bed: &Bed| {
        let switch = Action::Switch { release: release(2) };
        ids.iter().filter(|id| bed.action(**id) == switch).count()
    };
    assert_eq!((granted(&bed), bed.rollout.in_flight()), (2, 2));
    bed.fact(ids[0], HostFact::SwitchStarted);
    bed.fact(ids[0], HostFact::Passed);
    assert_eq!(granted(&bed), 2, "a host that bakes keeps its slot");
    bed.fact(ids[0], HostFact::Committed);
    assert_eq!((granted(&bed), bed.rollout.in_flight()), (3, 2));
    let why = explain(&bed.rollout, Some(&ids[4]), bed.at.now);
    assert_eq!(why[0], Why::HostWaitsForSlot { before: 1, in_flight: 2, slots: 2 });
}

#[test]
fn a_gate_asks_for_distinct_persons_and_this_plan() {
    let keys = "bake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\nrest = true\n\
        gate = \"approval\"\napprovals = 2";
    let mut bed = Bed::start(keys, 3);
    bed.obey_all();
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Gated, Some(1)));
    let plan = groundswell_common::Digest::of(b"another plan");
    let wrong = Input::Approve { by: person("ann"), plan, wave: Some(1) };
    assert_eq!(bed.refused(wrong), Refusal::WrongPlan { have: bed.rollout.plan_hash() });
    let input = approve(&bed, "ann", Some(0));
    assert_eq!(bed.refused(input), Refusal::WrongWave(0));
    let input = approve(&bed, "ann", Some(2));
    assert_eq!(bed.refused(input), Refusal::WrongWave(2));
    bed.apply(approve(&bed, "ann", Some(1)));
    let input = approve(&bed, "ann", Some(1));
    assert_eq!(bed.refused(input), Refusal::ApprovedBefore(person("ann")));
    bed.apply(approve(&bed, "ann", None));
    let plan = bed.rollout.plan_hash();
    let waits =
        Why::Approval { wave: 1, have: 1, needed: 2, plan, service: "shop".parse().unwrap() };
    assert_eq!(explain(&bed.rollout, None, bed.at.now), [waits]);
    assert_eq!(bed.phase(), PhaseName::Gated);
    bed.apply(approve(&bed, "ben", Some(1)));
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(1)));
    let input = approve(&bed, "cat", None);
    assert_eq!(bed.refused(input), Refusal::NoGate);
    let given: Vec<&Approved> = bed.rollout.approvals().iter().collect();
    assert_eq!(given.len(), 3);
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn an_approval_may_come_before_the_gate_is_reached() {
    let keys = "bake_secs = 0\n[[wave]]\ncount = 1\ngate = \"approval\"\n[[wave]]\nrest = true\n\
        gate = \"approval\"";
    let mut bed = Bed::of(planned(keys, 3));
    bed.apply(approve(&bed, "ann", Some(1)));
    let effects = bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Gated, Some(0)));
    assert!(effects.all_hosts);
    assert_eq!(effects.transitions.len(), 1);
    bed.apply(approve(&bed, "ann", Some(0)));
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn a_host_that_is_away_holds_nobody_and_catches_up() {
    let mut bed = Bed::of(planned("bake_secs = 0\n[[wave]]\nrest = true", 4));
    let late = bed.wave(0)[0];
    bed.apply(Input::Start { away: vec![late], busy: Vec::new() });
    bed.obey_all();
    assert_eq!(bed.phase(), PhaseName::Running);
    bed.pass(29);
    assert_eq!((bed.phase(), bed.progress(late)), (PhaseName::Running, Progress::Staging));
    bed.pass(1);
    assert_eq!(bed.progress(late), Progress::Absent);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert_eq!(bed.rollout.failures(0), 0);
    let why = explain(&bed.rollout, Some(&late), bed.at.now);
    assert!(matches!(why[0], Why::HostAway { .. }), "{why:?}");
    assert_eq!(why[1], Why::HostAbsent { comes: true });
    assert_eq!(why[2], Why::Done { outcome: Outcome::Completed, stragglers: 1 });
    bed.pass(86_400);
    bed.apply(Input::Connected { host: late });
    assert_eq!(bed.action(late), Action::Stage { release: release(2) });
    bed.obey_all();
    assert_eq!(bed.progress(late), Progress::Committed);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn of_a_host_that_was_away_a_rollout_that_gave_way_says_that_it_brings_it_there_no_more() {
    let mut bed = Bed::of(planned("bake_secs = 0\n[[wave]]\nrest = true", 4));
    let late = bed.wave(0)[0];
    bed.apply(Input::Start { away: vec![late], busy: Vec::new() });
    bed.obey_all();
    bed.pass(30);
    bed.apply(Input::Supersede { by: "shop-9".parse().unwrap() });
    let why = explain(&bed.rollout, Some(&late), bed.at.now);
    assert!(why.contains(&Why::HostAbsent { comes: false }), "{why:?}");
    assert!(!why.iter().any(|why| why.to_string().contains("is staged when")), "{why:?}");
}

#[test]
fn a_host_that_comes_back_in_time_holds_its_wave_again() {
    let mut bed = Bed::start("[[wave]]\nrest = true", 2);
    let [first, second] = bed.wave(0)[..] else { panic!() };
    bed.apply(Input::Disconnected { host: first });
    assert_eq!(bed.refused(Input::Disconnected { host: first }), Refusal::NoChange);
    bed.pass(29);
    bed.apply(Input::Connected { host: first });
    assert_eq!(bed.refused(Input::Connected { host: first }), Refusal::NoChange);
    bed.pass(60);
    assert_eq!(bed.progress(first), Progress::Staging);
    bed.fact(second, HostFact::Staged);
    bed.fact(second, HostFact::Committed);
    assert_eq!(bed.phase(), PhaseName::Running);
}

#[test]
fn a_wave_that_nobody_was_reached_in_halts_and_a_person_lets_it_through() {
    let mut bed = Bed::of(planned("bake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\nrest = true", 2));
    let canary = bed.wave(0)[0];
    bed.apply(Input::Start { away: vec![canary], busy: Vec::new() });
    bed.pass(599);
    assert_eq!((bed.phase(), bed.progress(canary)), (PhaseName::Running, Progress::Absent));
    let why = explain(&bed.rollout, None, bed.at.now);
    assert!(matches!(why[0], Why::WaveAway { wave: 0, hosts: 1, .. }), "{why:?}");
    bed.pass(1);
    let Phase::Halted { cause, resume, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(*cause, HaltCause::NoProgress { wave: 0 });
    assert_eq!(*resume, Resumable::Running { wave: 0 });
    bed.resume();
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(1)));
}

#[test]
fn each_commit_renews_the_progress_deadline() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 3);
    let ids = bed.wave(0);
    bed.pass(500);
    bed.fact(ids[0], HostFact::Staged);
    bed.fact(ids[0], HostFact::Committed);
    bed.pass(599);
    assert_eq!(bed.phase(), PhaseName::Running);
    bed.fact(ids[1], HostFact::Staged);
    assert_eq!(bed.phase(), PhaseName::Running, "a staged host renews nothing");
    bed.pass(1);
    assert_eq!(bed.phase(), PhaseName::Halted);
}

#[test]
fn a_host_lost_after_its_grant_counts_and_may_still_commit() {
    let keys = "failure_budget = 1\nmax_in_flight = 1\nbake_secs = 0\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 2);
    let [first, second] = bed.wave(0)[..] else { panic!() };
    bed.fact(first, HostFact::Staged);
    bed.fact(second, HostFact::Staged);
    bed.fact(first, HostFact::SwitchStarted);
    bed.apply(Input::Disconnected { host: first });
    bed.pass(159);
    assert_eq!(bed.progress(first).name(), ProgressName::Probing);
    assert_eq!(bed.progress(second).name(), ProgressName::Staged);
    bed.pass(1);
    assert_eq!(bed.progress(first), Progress::Lost);
    assert_eq!(bed.progress(second).name(), ProgressName::Granted, "the slot is free again");
    assert_eq!((bed.rollout.failures(0), bed.phase()), (1, PhaseName::Running));
    bed.apply(Input::Connected { host: first });
    bed.fact(first, HostFact::Committed);
    assert_eq!((bed.progress(first), bed.rollout.failures(0)), (Progress::Committed, 0));
    bed.fact(second, HostFact::Committed);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn a_lost_host_that_never_switched_is_tried_once_more() {
    let keys = "failure_budget = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 1);
    for round in 0..2 {
        bed.fact(host(0), HostFact::Staged);
        assert_eq!(bed.progress(host(0)).name(), ProgressName::Granted, "round {round}");
        bed.pass(160);
        assert_eq!(bed.progress(host(0)), Progress::Lost);
    }
    let again = Input::Host { host: host(0), fact: HostFact::Staged };
    assert_eq!(bed.refused(again), Refusal::NoChange);
}

#[test]
fn a_newer_rollout_takes_over_and_nobody_switches_for_the_old_one() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 3);
    let ids = bed.wave(0);
    bed.fact(ids[0], HostFact::Staged);
    bed.fact(ids[0], HostFact::Committed);
    bed.fact(ids[1], HostFact::Staged);
    let by: groundswell_common::RolloutId = "shop-8".parse().unwrap();
    bed.apply(Input::Supersede { by: by.clone() });
    assert_eq!(bed.outcome(), Some(Outcome::Superseded { by: by.clone() }));
    assert_eq!(bed.action(ids[0]), Action::Switch { release: release(2) });
    assert_eq!(bed.action(ids[1]), Action::Hold {});
    assert_eq!(bed.action(ids[2]), Action::Hold {});
    let input = Input::Host { host: ids[2], fact: HostFact::Staged };
    assert_eq!(bed.refused(input), Refusal::Superseded(by.clone()));
    assert_eq!(groundswell_rollout::next_deadline(&bed.rollout), None);
    assert!(!bed.report(ids[2]));
    assert_eq!(explain(&bed.rollout, None, bed.at.now)[0], Why::Superseded { by });
}

#[test]
fn a_completed_rollout_hands_its_stragglers_to_the_newer_one() {
    let mut bed = Bed::of(planned("bake_secs = 0\n[[wave]]\nrest = true", 2));
    let late = bed.wave(0)[0];
    bed.apply(Input::Start { away: vec![late], busy: Vec::new() });
    bed.obey_all();
    bed.pass(30);
    bed.apply(Input::Connected { host: late });
    bed.apply(Input::Supersede { by: "shop-8".parse().unwrap() });
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert_eq!(bed.rollout.successor(), Some(&"shop-8".parse().unwrap()));
    assert_eq!(bed.action(late), Action::Hold {});
    let input = Input::Revert { by: person("ann"), why: String::new() };
    assert_eq!(bed.refused(input), Refusal::Superseded("shop-8".parse().unwrap()));
}

#[test]
fn a_host_that_waits_for_a_slot_and_leaves_is_absent_in_the_end() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 3);
    let ids = bed.wave(0);
    for id in &ids {
        bed.fact(*id, HostFact::Staged);
    }
    bed.apply(Input::Disconnected { host: ids[1] });
    bed.pass(30);
    assert_eq!(bed.progress(ids[1]), Progress::Absent);
}

#[test]
fn a_host_that_is_away_gets_no_slot() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 3);
    let ids = bed.wave(0);
    for id in &ids {
        bed.fact(*id, HostFact::Staged);
    }
    bed.apply(Input::Disconnected { host: ids[1] });
    bed.fact(ids[0], HostFact::Committed);
    assert_eq!(bed.progress(ids[1]), Progress::Staged);
    assert_eq!(bed.progress(ids[2]).name(), ProgressName::Granted);
    bed.apply(Input::Connected { host: ids[1] });
    bed.fact(ids[2], HostFact::Committed);
    assert_eq!(bed.progress(ids[1]).name(), ProgressName::Granted);
}
