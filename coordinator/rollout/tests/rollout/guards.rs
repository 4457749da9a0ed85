//! Guards on the way forward and back.

use groundswell_common::report::FailedStep;
use groundswell_rollout::{
    Busy, Guard, GuardKind, HostFact, Input, Parked, PhaseName, Plan, Progress, ProgressName,
    Steer, Why, explain,
};

use crate::bed::{Bed, host, person, planned, steer};

/// One guard a rack; host N of the plan is in rack N modulo `racks`.
pub(crate) fn racked(plan: Plan, racks: (u32, u32)) -> Bed {
    grouped(GuardKind::Domain, plan, racks)
}

fn grouped(kind: GuardKind, mut plan: Plan, (racks, max_down): (u32, u32)) -> Bed {
    let guard = |rack| Guard { kind, name: format!("r{rack}"), hosts: 0, max_down };
    plan.guards = (0..racks).map(guard).collect();
    let hosts = plan.waves.iter_mut().flat_map(|wave| &mut wave.hosts);
    for (host, number) in hosts.zip(0_u32..) {
        host.guards = vec![number % racks];
    }
    let mut bed = Bed::of(plan);
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed
}

fn named(bed: &Bed, name: ProgressName) -> usize {
    bed.rollout.hosts().filter(|(_, _, entry)| entry.progress.name() == name).count()
}

fn staged(bed: &mut Bed) {
    for host in bed.wave(0) {
        bed.obey(host, None);
    }
}

#[test]
fn a_guard_lets_down_no_more_than_it_allows_and_others_pass() {
    let plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 6);
    let mut bed = racked(plan, (2, 1));
    staged(&mut bed);
    assert_eq!(named(&bed, ProgressName::Granted), 2, "one in each rack");
    let waits = bed.rollout.hosts().filter(|(_, _, entry)| entry.parked.is_some()).count();
    assert_eq!(waits, 4);
    let third = bed.wave(0)[2];
    assert_eq!(bed.rollout.host(&third).unwrap().parked, Some(Parked::Guard(0)));
    let why = explain(&bed.rollout, Some(&third), bed.at.now);
    let guarded = Why::HostGuarded {
        kind: GuardKind::Domain,
        name: "r0".to_owned(),
        down: 1,
        max_down: 1,
        domains: 2,
    };
    assert!(why.contains(&guarded), "{why:?}");
    bed.obey_all();
    assert_eq!(named(&bed, ProgressName::Committed), 6);
}

#[test]
fn one_rack_at_a_time() {
    let mut plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 6);
    plan.domains_at_once = 1;
    let mut bed = racked(plan, (2, 3));
    staged(&mut bed);
    let racks: Vec<usize> = (0..6)
        .filter(|at| bed.progress(bed.wave(0)[*at]).name() == ProgressName::Granted)
        .collect();
    assert_eq!(racks, [0, 2, 4]);
    bed.obey_all();
    assert_eq!(named(&bed, ProgressName::Committed), 6);
}

#[test]
fn the_rack_that_has_its_turn_fills_up_as_its_hosts_are_done() {
    let mut plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 8);
    plan.domains_at_once = 1;
    let mut bed = racked(plan, (2, 2));
    staged(&mut bed);
    assert_eq!(named(&bed, ProgressName::Granted), 2);
    bed.fact(bed.wave(0)[0], HostFact::Committed);
    assert_eq!(named(&bed, ProgressName::Granted), 2, "the next one of the same rack");
    assert_eq!(bed.progress(bed.wave(0)[4]).name(), ProgressName::Granted);
}

#[test]
fn quorum_groups_have_no_turns() {
    let mut plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 4);
    plan.domains_at_once = 1;
    let mut bed = grouped(GuardKind::Quorum, plan, (2, 1));
    staged(&mut bed);
    assert_eq!(named(&bed, ProgressName::Granted), 2, "one in each group");
}

#[test]
fn who_failed_without_serving_less_takes_no_room_and_who_may_serve_less_does() {
    let failed = |step, reverted| HostFact::Failed { step, why: "broken".to_owned(), reverted };
    let excluded = Steer::Exclude { host: host(0) };
    for (fact, room) in [
        (failed(FailedStep::Stage, false), true),
        (failed(FailedStep::Probe, true), true),
        (failed(FailedStep::Probe, false), false),
    ] {
        let keys = "max_in_flight = 9\nfailure_budget = 9\n[[wave]]\nrest = true";
        let mut bed = racked(planned(keys, 3), (1, 1));
        let [first, second] = [0, 1].map(|at| bed.wave(0)[at]);
        let stage = matches!(fact, HostFact::Failed { step: FailedStep::Stage, .. });
        if !stage {
            bed.fact(first, HostFact::Staged);
        }
        bed.fact(first, fact.clone());
        bed.fact(second, HostFact::Staged);
        let granted = bed.progress(second).name() == ProgressName::Granted;
        assert_eq!(granted, room, "{fact:?}");
    }
    // Left out before it ran anything it serves as before; in flight it may not.
    for (in_flight, room) in [(false, true), (true, false)] {
        let mut bed = racked(planned("max_in_flight = 9\n[[wave]]\nrest = true", 3), (1, 1));
        if in_flight {
            bed.fact(host(0), HostFact::Staged);
        }
        bed.apply(steer(excluded));
        let other = bed.wave(0).into_iter().find(|id| *id != host(0)).unwrap();
        bed.fact(other, HostFact::Staged);
        let granted = bed.progress(other).name() == ProgressName::Granted;
        assert_eq!(granted, room, "in flight: {in_flight}");
    }
    // One that was deleted is gone from its rack.
    let mut bed = racked(planned("max_in_flight = 9\n[[wave]]\nrest = true", 3), (1, 1));
    bed.apply(Input::Removed { host: host(0) });
    let other = bed.wave(0).into_iter().find(|id| *id != host(0)).unwrap();
    bed.fact(other, HostFact::Staged);
    assert_eq!(bed.progress(other).name(), ProgressName::Staged);
}

#[test]
fn while_the_rollout_before_is_in_more_racks_than_allowed_nobody_joins_them() {
    let mut plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 6);
    plan.domains_at_once = 1;
    let guard =
        |rack| Guard { kind: GuardKind::Domain, name: format!("r{rack}"), hosts: 0, max_down: 3 };
    plan.guards = (0..2).map(guard).collect();
    for (host, number) in plan.waves[0].hosts.iter_mut().zip(0_u32..) {
        host.guards = vec![number % 2];
    }
    let mut bed = Bed::of(plan);
    let until = bed.at.now.plus_secs(90);
    let busy = [0, 1].map(|number| Busy { host: bed.wave(0)[number], until }).to_vec();
    bed.apply(Input::Start { away: Vec::new(), busy });
    let third = bed.wave(0)[2];
    bed.obey(third, None);
    assert_eq!(bed.progress(third).name(), ProgressName::Staged, "two racks, one is allowed");
    bed.fact(bed.wave(0)[1], HostFact::Rested);
    assert_eq!(bed.progress(third).name(), ProgressName::Granted, "its rack alone is left");
}

#[test]
fn a_host_that_dies_by_itself_takes_the_room_of_its_rack() {
    let plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 4);
    let mut bed = racked(plan, (1, 1));
    let last = bed.wave(0)[3];
    bed.apply(Input::Disconnected { host: last });
    staged(&mut bed);
    assert_eq!(bed.rollout.in_flight(), 0);
    bed.apply(Input::Connected { host: last });
    assert_eq!(bed.rollout.in_flight(), 1);
}

#[test]
fn dead_hosts_never_hold_a_revert() {
    let plan = planned("max_in_flight = 9\nbake_secs = 0\n[[wave]]\nrest = true", 5);
    let mut bed = racked(plan, (1, 1));
    bed.obey_all();
    let dead = bed.wave(0)[0];
    bed.apply(Input::Disconnected { host: dead });
    bed.apply(Input::Revert { by: person("ann"), why: "bad".to_owned() });
    assert_eq!(bed.rollout.in_flight(), 1, "one at a time, as if the dead one did not count");
    bed.obey_all();
    assert_eq!(bed.phase(), PhaseName::Done);
    assert_eq!(named(&bed, ProgressName::Reverted), 4);
}

#[test]
fn a_dead_host_holds_no_revert_where_the_racks_before_have_nobody_left() {
    let plan = planned("max_in_flight = 9\nbake_secs = 0\n[[wave]]\nrest = true", 6);
    let mut bed = racked(plan, (2, 1));
    bed.obey_all();
    // All of the first rack is away, so that nobody waits there; of the second one the first is.
    for at in [0, 2, 4, 1] {
        let dead = bed.wave(0)[at];
        bed.apply(Input::Disconnected { host: dead });
    }
    bed.apply(Input::Revert { by: person("ann"), why: "bad".to_owned() });
    bed.obey_all();
    assert_eq!(named(&bed, ProgressName::Reverted), 2);
}

#[test]
fn a_revert_passes_over_hosts_of_earlier_waves_that_wait_for_room() {
    // Everybody in one rack: the first host that waits for room is of an earlier wave than the one
    // that goes back now.
    let keys = "max_in_flight = 9\nbake_secs = 0\n[[wave]]\ncount = 3\n[[wave]]\nrest = true";
    let mut bed = racked(planned(keys, 6), (1, 1));
    bed.obey_all();
    assert_eq!(bed.phase(), PhaseName::Done);
    bed.apply(Input::Revert { by: person("ann"), why: "bad".to_owned() });
    bed.obey_all();
    let left = bed.rollout.hosts().filter(|(_, _, entry)| entry.progress != Progress::Reverted);
    assert_eq!(left.count(), 0);
}
