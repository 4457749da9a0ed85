//! Budgets, evidence, gates, late and ill hosts, and what a person may steer.

use groundswell_common::report::{HostState, Verdict};
use groundswell_rollout::{
    Breach, Busy, Evidence, HaltCause, HostFact, Input, Outcome, PauseCause, Phase, PhaseName,
    Plan, Progress, ProgressName, RULES, Refusal, Short, Steer, Why, asks_webhook, busy, explain,
    fact, generation,
};

use crate::bed::{Bed, begun, host, name, person, planned, steer};

#[test]
fn a_rollout_may_have_fewer_failures_than_its_waves_together() {
    let keys = "max_in_flight = 9\nfailure_budget = 1\nrollout_budget = 1\non_breach = \"halt\"\n\
        bake_secs = 0\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    for host in bed.wave(0) {
        bed.obey(host, None);
    }
    let (one, two) = (bed.wave(0)[0], bed.wave(0)[1]);
    bed.failed(one);
    while bed.obey(two, None) {}
    assert_eq!(bed.rollout.wave(), Some(1), "one failure is within both budgets");
    for host in bed.wave(1) {
        bed.obey(host, None);
    }
    let third = bed.wave(1)[0];
    bed.failed(third);
    let breach = Breach { wave: None, failures: 2, budget: 1, silent: 0 };
    let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(*cause, HaltCause::Breach(breach));
}

/// Two waves; the second is in flight and one of its hosts fails.
fn breached(on_breach: &str) -> Bed {
    let keys = format!(
        "max_in_flight = 9\nbake_secs = 0\non_breach = \"{on_breach}\"\n[[wave]]\ncount = 2\n\
         [[wave]]\nrest = true"
    );
    let mut bed = Bed::start(&keys, 4);
    bed.obey_all_of(0);
    for host in bed.wave(1) {
        bed.obey(host, None);
        bed.obey(host, None);
    }
    let failing = bed.wave(1)[0];
    bed.failed(failing);
    bed
}

#[test]
fn a_breach_may_pause_and_ask() {
    let mut bed = breached("pause");
    let breach = Breach { wave: Some(1), failures: 1, budget: 0, silent: 0 };
    let Phase::Paused { cause, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(*cause, PauseCause::Breach(breach));
    bed.resume();
    assert_eq!(bed.phase(), PhaseName::Running);
}

#[test]
fn a_breach_may_turn_only_its_wave_round_and_a_person_the_rest() {
    let mut bed = breached("revert-wave");
    bed.obey_all();
    let Some(Outcome::Reverted { down_to: 1, .. }) = bed.outcome() else {
        panic!("{:?}", bed.outcome())
    };
    assert_eq!(name(&bed, 0, 0), ProgressName::Committed, "the first wave keeps it");
    assert_eq!(name(&bed, 1, 1), ProgressName::Reverted);
    bed.apply(Input::Revert { by: person("ann"), why: "all".to_owned() });
    bed.obey_all();
    let Some(Outcome::Reverted { down_to: 0, .. }) = bed.outcome() else {
        panic!("{:?}", bed.outcome())
    };
    assert_eq!(name(&bed, 0, 0), ProgressName::Reverted);
    let again = Input::Revert { by: person("ann"), why: "again".to_owned() };
    assert_eq!(bed.refused(again), Refusal::Reverted);
}

#[test]
fn a_host_that_was_ill_before_costs_no_budget() {
    let mut bed = Bed::start("on_breach = \"halt\"\n[[wave]]\nrest = true", 3);
    let ill = bed.wave(0)[0];
    bed.standing(ill).health = Verdict::Fail;
    assert!(bed.report(ill));
    assert!(bed.rollout.host(&ill).unwrap().ill);
    bed.fact(ill, HostFact::Staged);
    assert_eq!(name(&bed, 0, 0), ProgressName::Granted);
    bed.failed(ill);
    assert_eq!((bed.phase(), bed.rollout.failures(0)), (PhaseName::Running, 0));
    let well = bed.wave(0)[1];
    bed.fact(well, HostFact::Staged);
    bed.failed(well);
    assert_eq!(bed.phase(), PhaseName::Halted);
}

#[test]
fn a_wave_in_which_only_an_ill_host_failed_has_shown_nothing() {
    let keys = "on_breach = \"halt\"\n[[wave]]\ncount = 1\nbake_secs = 0\n[[wave]]\nrest = true";
    for (rules, goes_on) in [(RULES, false), (RULES - 1, true)] {
        let mut bed = begun(Plan { rules, ..planned(keys, 3) });
        let canary = bed.wave(0)[0];
        bed.standing(canary).health = Verdict::Fail;
        bed.report(canary);
        bed.fact(canary, HostFact::Staged);
        bed.failed(canary);
        assert_eq!(bed.rollout.wave() == Some(1), goes_on, "plans of before are judged as before");
        if goes_on {
            continue;
        }
        bed.pass(bed.rollout.plan().progress_deadline_secs);
        assert_eq!(bed.phase(), PhaseName::Halted);
        bed.resume();
        assert_eq!(bed.rollout.wave(), Some(1), "a person has seen it");
    }
}

#[test]
fn a_bake_without_evidence_goes_on_until_it_has_seen_enough() {
    let keys = "max_in_flight = 9\nbake_secs = 10\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let mut plan = planned(keys, 3);
    plan.waves[0].evidence = Evidence { host_secs: 120, hosts: 2 };
    let mut bed = begun(plan);
    bed.obey_all();
    bed.pass(10);
    assert_eq!(bed.phase(), PhaseName::Baking);
    let why = explain(&bed.rollout, None, bed.at.now);
    let Why::Evidence { wave: 0, host_secs: 100, hosts: 0, .. } = why[0] else { panic!("{why:?}") };
    bed.pass(49);
    assert_eq!(bed.phase(), PhaseName::Baking);
    bed.pass(2);
    assert_eq!(bed.rollout.wave(), Some(1), "two hosts ran for a minute");
}

#[test]
fn a_bake_without_evidence_asks_where_the_policy_says_so_or_time_is_up() {
    let keys = "max_in_flight = 9\nbake_secs = 10\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    for (short, after) in [(Short::Ask, 10), (Short::Extend, 610)] {
        let mut plan = planned(keys, 3);
        plan.evidence_short = short;
        plan.waves[0].evidence = Evidence { host_secs: 1_000_000, hosts: 1 };
        let mut bed = begun(plan);
        bed.obey_all();
        bed.pass(after - 1);
        assert_eq!(bed.phase(), PhaseName::Baking);
        bed.pass(1);
        let Phase::Paused { cause, .. } = bed.rollout.phase() else { panic!() };
        assert_eq!(*cause, PauseCause::Evidence { wave: 0 });
        bed.resume();
        assert_eq!(bed.rollout.wave(), Some(1), "a person let it through");
    }
}

#[test]
fn late_hosts_go_in_their_own_lane_and_cost_only_its_budget() {
    let keys = "max_in_flight = 9\nstraggler_max_in_flight = 1\nstraggler_budget = 1\n\
        bake_secs = 600\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    let late: Vec<_> = bed.wave(0)[1..].to_vec();
    for id in &late {
        bed.apply(Input::Disconnected { host: *id });
    }
    bed.obey_all();
    bed.pass(30);
    for id in &late {
        bed.apply(Input::Connected { host: *id });
        bed.fact(*id, HostFact::Staged);
    }
    assert_eq!(bed.rollout.in_flight(), 1, "one slot in the lane, nine in the wave");
    bed.failed(late[0]);
    assert_eq!((bed.rollout.lane_failures(), bed.rollout.failures(0)), (1, 0));
    bed.failed(late[1]);
    assert_eq!(bed.rollout.lane_failures(), 2);
    assert_eq!(bed.rollout.in_flight(), 0, "the lane is shut");
    assert_eq!(bed.phase(), PhaseName::Baking, "and the rollout goes on");
}

#[test]
fn a_late_host_that_has_left_again_gets_no_slot_of_the_lane() {
    let keys = "straggler_max_in_flight = 1\nbake_secs = 600\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    let late: Vec<_> = bed.wave(0)[1..].to_vec();
    for id in &late {
        bed.apply(Input::Disconnected { host: *id });
    }
    bed.obey_all();
    bed.pass(30);
    for id in &late {
        bed.apply(Input::Connected { host: *id });
        bed.fact(*id, HostFact::Staged);
    }
    bed.apply(Input::Disconnected { host: late[1] });
    bed.fact(late[0], HostFact::Committed);
    assert_eq!(bed.progress(late[1]), Progress::Staged);
    assert_eq!(bed.progress(late[2]).name(), ProgressName::Granted);
}

fn gated(change: impl FnOnce(&mut Plan)) -> Bed {
    let keys = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\nrest = true";
    let mut plan = planned(keys, 3);
    change(&mut plan);
    let mut bed = begun(plan);
    bed.obey_all();
    assert_eq!(bed.phase(), PhaseName::Gated);
    bed
}

#[test]
fn an_inconclusive_webhook_never_opens_a_wave_and_a_no_halts() {
    let mut bed = gated(|plan| plan.waves[1].gate.webhook = true);
    assert_eq!(asks_webhook(&bed.rollout), Some(1));
    let answer = |verdict| Input::Answer { wave: 1, verdict, why: "42 errors".to_owned() };
    assert_eq!(bed.rollout.answer(1), None);
    bed.apply(answer(Verdict::Inconclusive));
    assert_eq!(bed.phase(), PhaseName::Gated);
    assert_eq!(bed.rollout.answer(1), Some(Verdict::Inconclusive));
    bed.apply(answer(Verdict::Fail));
    let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(*cause, HaltCause::Gate { wave: 1, why: "42 errors".to_owned() });
    bed.resume();
    assert_eq!(asks_webhook(&bed.rollout), Some(1), "asked again");
    bed.apply(answer(Verdict::Pass));
    assert_eq!(bed.phase(), PhaseName::Running);
}

#[test]
fn who_made_the_release_does_not_count_among_four_eyes() {
    let mut bed = gated(|plan| {
        plan.release.authors = vec![person("ann")];
        plan.waves[1].gate.approvals = 1;
        plan.waves[1].gate.four_eyes = true;
    });
    let plan = bed.rollout.plan_hash();
    let approve = |by: &str| Input::Approve { by: person(by), plan, wave: None };
    assert_eq!(bed.refused(approve("ann")), Refusal::FourEyes(person("ann")));
    bed.apply(approve("ben"));
    assert_eq!(bed.phase(), PhaseName::Running);
}

#[test]
fn four_eyes_hold_an_author_at_the_waves_that_ask_for_them_alone() {
    let keys = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\ncount = 2\n\
        [[wave]]\nrest = true";
    let mut plan = planned(keys, 4);
    plan.release.authors = vec![person("ann")];
    plan.waves[1].gate.approvals = 1;
    plan.waves[2].gate.approvals = 1;
    plan.waves[2].gate.four_eyes = true;
    let mut bed = begun(plan);
    let plan = bed.rollout.plan_hash();
    let approve = |wave| Input::Approve { by: person("ann"), plan, wave };
    let refusal = Refusal::FourEyes(person("ann"));
    for wave in [None, Some(2)] {
        assert_eq!(bed.refused(approve(wave)), refusal, "{wave:?}");
    }
    bed.apply(approve(Some(1)));
    bed.obey_all();
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Gated, Some(2)));
}

#[test]
fn slowing_down_stops_nobody_who_is_on_the_way() {
    let mut bed = Bed::start("max_in_flight = 3\n[[wave]]\nrest = true", 4);
    for host in bed.wave(0) {
        bed.fact(host, HostFact::Staged);
    }
    bed.apply(steer(Steer::Slow { max_in_flight: Some(1) }));
    assert_eq!(bed.rollout.in_flight(), 3);
    let first = bed.wave(0)[0];
    bed.fact(first, HostFact::Committed);
    assert_eq!(bed.rollout.in_flight(), 2, "and nobody joins them");
}

#[test]
fn a_promotion_never_stands_for_an_approval() {
    let mut bed = gated(|plan| plan.waves[1].gate.approvals = 1);
    assert_eq!(bed.refused(steer(Steer::Promote)), Refusal::NothingToPromote);
    let mut bed = gated(|plan| {
        plan.waves[1].gate.approvals = 1;
        plan.waves[1].gate.manual = true;
    });
    bed.apply(steer(Steer::Promote));
    assert_eq!(bed.phase(), PhaseName::Gated, "the approval is still missing");
}

#[test]
fn a_promotion_leaves_slow_hosts_behind_and_they_come_after() {
    let keys = "max_in_flight = 1\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 3);
    assert_eq!(bed.refused(steer(Steer::Promote)), Refusal::NothingShown(0));
    let first = bed.wave(0)[0];
    while bed.obey(first, None) {}
    bed.apply(steer(Steer::Promote));
    assert_eq!(bed.rollout.wave(), Some(1));
    bed.obey_all();
    assert_eq!(name(&bed, 0, 1), ProgressName::Committed);
}

#[test]
fn a_skipped_wave_is_passed_over() {
    let keys = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\ncount = 1\n\
        [[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    assert_eq!(bed.refused(steer(Steer::SkipWave { wave: 0 })), Refusal::WrongWave(0));
    bed.apply(steer(Steer::SkipWave { wave: 1 }));
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert_eq!(name(&bed, 1, 0), ProgressName::Excluded);
    assert_eq!(name(&bed, 2, 0), ProgressName::Committed);
}

#[test]
fn a_host_left_out_costs_nothing_and_comes_back_when_it_is_tried_again() {
    let mut bed = Bed::start("on_breach = \"halt\"\n[[wave]]\nrest = true", 2);
    let bad = bed.wave(0)[0];
    bed.fact(bad, HostFact::Staged);
    bed.failed(bad);
    assert_eq!(bed.phase(), PhaseName::Halted);
    bed.apply(steer(Steer::Exclude { host: bad }));
    assert_eq!(bed.rollout.failures(0), 0);
    bed.resume();
    bed.apply(steer(Steer::Retry { host: bad }));
    assert_eq!(bed.progress(bad), Progress::Staging);
    assert_eq!(bed.refused(steer(Steer::Retry { host: bad })), Refusal::NotRetryable(bad));
    let stranger = steer(Steer::Exclude { host: host(99) });
    assert_eq!(bed.refused(stranger), Refusal::UnknownHost(host(99)));
}

#[test]
fn slowed_down_it_uses_fewer_slots_at_once() {
    let mut bed = Bed::start("max_in_flight = 3\n[[wave]]\nrest = true", 4);
    let slow = |max_in_flight| steer(Steer::Slow { max_in_flight });
    assert_eq!(bed.refused(slow(Some(0))), Refusal::NoSlots);
    bed.apply(slow(Some(1)));
    assert_eq!(bed.refused(slow(Some(1))), Refusal::NoChange);
    for id in bed.wave(0) {
        bed.fact(id, HostFact::Staged);
    }
    assert_eq!(bed.rollout.in_flight(), 1);
    bed.apply(slow(None));
    assert_eq!(bed.rollout.in_flight(), 3);
}

#[test]
fn hosts_that_fetched_before_are_found_staged_when_their_wave_opens() {
    let keys = "prefetch = true\nmax_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 1\n\
        [[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 3);
    for id in bed.wave(1) {
        assert!(!bed.obey(id, None), "on disk, and no news before its wave");
    }
    let first = bed.wave(0)[0];
    let mut opened = Vec::new();
    while bed.rollout.wave() == Some(0) {
        let accepted = groundswell_rollout::generation(&bed.rollout, &first);
        let staging = bed.progress(first) == Progress::Staging;
        let fact = if staging { HostFact::Staged } else { HostFact::Committed };
        assert!(accepted > 0);
        opened = bed.fact(first, fact).changed_hosts;
    }
    for id in bed.wave(1) {
        assert!(opened.contains(&id), "its last word is looked at again");
        assert!(bed.report(id));
        assert_eq!(bed.progress(id).name(), ProgressName::Granted);
    }
}

#[test]
fn a_host_that_fetches_before_its_wave_stops_with_the_rollout() {
    let keys = "prefetch = true\nbake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 3);
    let later = bed.wave(1)[0];
    let fetch = bed.action(later);
    let changed = bed.halt().changed_hosts;
    assert_ne!(bed.action(later), fetch);
    assert!(changed.contains(&later), "it is told");
}

#[test]
fn a_busy_host_that_says_something_else_of_itself_is_not_busy_with_it() {
    let mut bed = Bed::of(planned("max_in_flight = 1\n[[wave]]\nrest = true", 3));
    let first = bed.wave(0)[0];
    let until = bed.at.now.plus_secs(90);
    bed.apply(Input::Start { away: Vec::new(), busy: vec![Busy { host: first, until }] });
    bed.fact(first, HostFact::Staged);
    assert_eq!(bed.progress(first).name(), ProgressName::Granted, "the slot is its own now");
    assert_eq!(bed.rollout.host(&first).unwrap().busy, None);
}

#[test]
fn a_deleted_host_shifts_nobody() {
    let keys = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\npercent = 50\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    let (gone, second) = (bed.wave(0)[0], bed.wave(1));
    bed.apply(Input::Removed { host: gone });
    assert_eq!(bed.refused(Input::Removed { host: gone }), Refusal::NoChange);
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert_eq!(bed.wave(1), second);
    let left = Progress::Excluded { ran: false, gone: true };
    assert_eq!(bed.progress(gone), left);
}

/// Three hosts with two slots; two of them are still busy with the rollout before.
fn shared() -> Bed {
    let mut bed = Bed::of(planned("max_in_flight = 2\n[[wave]]\nrest = true\n", 3));
    let until = bed.at.now.plus_secs(90);
    let busy = [0, 1].map(|number| Busy { host: bed.wave(0)[number], until }).to_vec();
    bed.apply(Input::Start { away: Vec::new(), busy });
    bed
}

#[test]
fn hosts_that_the_rollout_before_took_down_use_the_slots_of_the_next() {
    let mut bed = shared();
    let [first, second, third] = [0, 1, 2].map(|number| bed.wave(0)[number]);
    let staged = |bed: &mut Bed, host| bed.apply(Input::Host { host, fact: HostFact::Staged });
    staged(&mut bed, third);
    assert_eq!(bed.progress(third).name(), ProgressName::Staged, "both slots are used");
    assert_eq!(bed.rollout.in_flight(), 2);
    // Only a host that has accepted the new directive and is at rest is done with the old one.
    let accepted = generation(&bed.rollout, &first);
    let mut standing = bed.standing(first).clone();
    assert_eq!(fact(&bed.rollout, &first, &standing, accepted - 1), None);
    standing.state = HostState::Baking;
    assert_eq!(fact(&bed.rollout, &first, &standing, accepted), None);
    standing.state = HostState::Committed;
    assert_eq!(fact(&bed.rollout, &first, &standing, accepted), Some(HostFact::Rested));
    bed.apply(Input::Host { host: first, fact: HostFact::Rested });
    assert_eq!(bed.progress(third).name(), ProgressName::Granted);
    assert_eq!(busy(&bed.rollout, bed.at.now).len(), 2, "a third rollout starts with both");
    staged(&mut bed, first);
    assert_eq!(bed.progress(first).name(), ProgressName::Staged);
    bed.pass(90);
    assert_eq!(bed.rollout.host(&second).unwrap().busy, None, "the silent one no longer counts");
    assert_eq!(bed.progress(first).name(), ProgressName::Granted);
}
