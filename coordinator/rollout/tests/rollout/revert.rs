//! Going back.

use groundswell_common::Digest;
use groundswell_common::directive::Action;
use groundswell_common::report::FailedStep;
use groundswell_rollout::{
    Back, Breach, Busy, HaltCause, HostFact, HostFacts, Input, KeepOrRevert, Outcome, Phase,
    PhaseName, Plan, Progress, ProgressName, Refusal, Resumable, RevertCause, explain, plan,
    plan_back,
};

use crate::bed::{Bed, host, hosts, person, policy, reference, release};

fn revert() -> Input {
    Input::Revert { by: person("ann"), why: "wrong".to_owned() }
}

fn back() -> Action {
    Action::Revert { from: release(2), to: Some(release(1)) }
}

fn reverted(cause: RevertCause) -> Option<Outcome> {
    Some(Outcome::Reverted { cause, down_to: 0 })
}

#[test]
fn a_breach_puts_everyone_back_in_reverse_order_under_the_same_cap() {
    let keys = "max_in_flight = 2\nbake_secs = 0\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 7);
    bed.obey_all_of(0);
    let second = bed.wave(1);
    for id in &second[..3] {
        bed.fact(*id, HostFact::Staged);
        bed.fact(*id, HostFact::Committed);
    }
    bed.fact(second[3], HostFact::Staged);
    let effects = bed.failed(second[3]);
    let cause = RevertCause::Breach(Breach { wave: Some(1), failures: 1, budget: 0, silent: 0 });
    let expected = Phase::Reverting { cause: cause.clone(), wave: 1, down_to: 0 };
    assert_eq!(effects.transitions.last().unwrap().to, expected);
    let told = |bed: &Bed, ids: &[_]| ids.iter().filter(|id| bed.action(**id) == back()).count();
    assert_eq!((told(&bed, &second[..3]), told(&bed, &bed.wave(0))), (2, 0));
    assert_eq!(bed.action(second[3]), Action::Hold {}, "it went back by itself");
    assert_eq!(bed.action(second[4]), Action::Hold {}, "it never left");
    for id in &second[..3] {
        assert_eq!(told(&bed, &bed.wave(0)), 0, "the first wave comes last");
        bed.fact(*id, HostFact::RevertDone { running: Some(release(1)) });
        assert!(bed.rollout.in_flight() <= 2);
    }
    assert_eq!(told(&bed, &bed.wave(0)), 2);
    for id in bed.wave(0) {
        bed.fact(id, HostFact::RevertDone { running: Some(release(1)) });
    }
    assert_eq!(bed.outcome(), reverted(cause));
    for id in [bed.wave(0), bed.wave(1)].concat() {
        assert_eq!(bed.action(id), Action::Hold {});
    }
}

#[test]
fn a_completed_rollout_goes_back_on_one_button() {
    let mut bed = Bed::start("bake_secs = 0", 8);
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    bed.apply(revert());
    bed.obey_all();
    let cause = RevertCause::Person { by: person("ann"), why: "wrong".to_owned() };
    assert_eq!(bed.outcome(), reverted(cause));
    for number in 0..8 {
        assert_eq!(bed.progress(host(number)), Progress::Reverted);
        assert_eq!(bed.standing(host(number)).running, Some(release(1)));
    }
    assert_eq!(bed.refused(revert()), Refusal::Reverted);
}

#[test]
fn hosts_that_cannot_be_reached_go_back_when_they_return() {
    let mut bed = Bed::start("bake_secs = 0\nmax_in_flight = 2\n[[wave]]\nrest = true", 4);
    bed.obey_all();
    let away = bed.wave(0)[1];
    bed.apply(Input::Disconnected { host: away });
    bed.apply(revert());
    bed.obey_all();
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })));
    assert_eq!(bed.progress(away), Progress::Committed);
    let why = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert!(why.ends_with("not there yet: 1 host"), "{why}");
    bed.apply(Input::Connected { host: away });
    assert_eq!(bed.action(away), back());
    bed.obey_all();
    assert_eq!(bed.progress(away), Progress::Reverted);
}

#[test]
fn a_silent_host_gives_its_slot_back_and_is_still_told() {
    let mut bed = Bed::start("bake_secs = 0\nmax_in_flight = 1\n[[wave]]\nrest = true", 2);
    bed.obey_all();
    bed.apply(revert());
    let [first, second] = bed.wave(0)[..] else { panic!() };
    assert_eq!((bed.action(first), bed.action(second) == back()), (back(), false));
    bed.pass(209);
    assert_eq!(bed.progress(first).name(), ProgressName::Reverting);
    bed.pass(1);
    assert_eq!(bed.progress(first), Progress::Overdue);
    assert_eq!((bed.action(first), bed.action(second)), (back(), back()));
    bed.fact(second, HostFact::RevertDone { running: Some(release(1)) });
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })));
    bed.fact(first, HostFact::RevertDone { running: Some(release(1)) });
    assert_eq!(bed.progress(first), Progress::Reverted);
}

#[test]
fn a_report_from_before_the_order_does_not_end_it() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 1);
    bed.tell(0, HostFact::Staged);
    bed.apply(revert());
    assert_eq!(bed.progress(host(0)).name(), ProgressName::Reverting);
    let standing = bed.standing(host(0)).clone();
    let before = groundswell_rollout::generation(&bed.rollout, &host(0)) - 1;
    let told = |accepted| groundswell_rollout::fact(&bed.rollout, &host(0), &standing, accepted);
    assert_eq!(told(before), None);
    assert_eq!(told(before + 1), Some(HostFact::RevertDone { running: Some(release(1)) }));
}

#[test]
fn a_host_that_runs_the_release_after_all_goes_back_again() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 1);
    bed.tell(0, HostFact::Staged);
    bed.apply(revert());
    bed.tell(0, HostFact::RevertDone { running: Some(release(1)) });
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })));
    bed.tell(0, HostFact::SwitchStarted);
    assert_eq!(bed.action(host(0)), back());
    bed.tell(0, HostFact::RevertDone { running: Some(release(1)) });
    assert_eq!(bed.progress(host(0)), Progress::Reverted);
}

#[test]
fn a_revert_can_be_halted_and_resumed_or_kept() {
    let mut bed = Bed::start("bake_secs = 0\nmax_in_flight = 1\n[[wave]]\nrest = true", 3);
    bed.obey_all();
    bed.apply(revert());
    let newer = Input::Supersede { by: "shop-8".parse().unwrap() };
    assert_eq!(bed.refused(newer), Refusal::Reverting);
    bed.halt();
    let first = bed.wave(0)[0];
    bed.fact(first, HostFact::RevertDone { running: Some(release(1)) });
    assert_eq!(bed.rollout.in_flight(), 0, "nobody else is sent back");
    let Phase::Halted { resume, .. } = bed.rollout.phase() else { panic!() };
    assert!(matches!(resume, Resumable::Reverting { wave: 0, .. }));
    bed.resume();
    assert_eq!(bed.rollout.in_flight(), 1);
    bed.apply(Input::Abort {
        by: person("ann"),
        why: "enough".to_owned(),
        keep: KeepOrRevert::Keep,
    });
    assert!(matches!(bed.outcome(), Some(Outcome::Aborted { .. })));
    let last = bed.wave(0)[2];
    assert_eq!(bed.action(last), Action::Switch { release: release(2) });
    bed.apply(revert());
    bed.obey_all();
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })));
}

#[test]
fn a_one_way_release_halts_and_never_goes_back() {
    let policy = policy("[[wave]]\nrest = true");
    let seed = Digest::of(b"seed");
    let mut bed = Bed::of(plan(&policy, &hosts(2), &reference(true), &seed).unwrap());
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed.obey(host(0), None);
    bed.fact(host(0), HostFact::SwitchStarted);
    bed.failed(host(0));
    let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!() };
    assert!(matches!(cause, HaltCause::Breach { .. }));
    assert_eq!(bed.refused(revert()), Refusal::OneWay);
}

#[test]
fn a_host_without_a_known_previous_is_told_to_find_it() {
    let mut facts = hosts(1);
    facts[0].running = None;
    let policy = policy("bake_secs = 0");
    let plan = plan(&policy, &facts, &reference(false), &Digest::of(b"seed")).unwrap();
    let mut bed = Bed::of(plan);
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    bed.obey_all();
    bed.apply(revert());
    assert_eq!(bed.action(host(0)), Action::Revert { from: release(2), to: None });
}

#[test]
fn a_host_that_cannot_go_back_does_not_hold_the_others() {
    let mut bed = Bed::start("bake_secs = 0\nmax_in_flight = 1\n[[wave]]\nrest = true", 2);
    bed.obey_all();
    bed.apply(revert());
    let [first, second] = bed.wave(0)[..] else { panic!() };
    bed.fact(first, HostFact::Stuck { why: "journal unreadable".to_owned() });
    let Progress::Failed { step, reverted, .. } = bed.progress(first) else { panic!() };
    assert_eq!((step, reverted), (FailedStep::Revert, false));
    bed.fact(second, HostFact::RevertDone { running: Some(release(1)) });
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })));
    assert_eq!(bed.phase(), PhaseName::Done);
}

#[test]
fn a_host_in_flight_that_is_away_goes_back_when_it_returns() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 2);
    let switched = bed.wave(0)[0];
    bed.fact(switched, HostFact::Staged);
    bed.fact(switched, HostFact::SwitchStarted);
    bed.apply(Input::Disconnected { host: switched });
    bed.apply(revert());
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })));
    assert_eq!(bed.progress(switched), Progress::Lost);
    bed.apply(Input::Connected { host: switched });
    assert_eq!(bed.action(switched), back());
    bed.fact(switched, HostFact::RevertDone { running: Some(release(1)) });
    assert_eq!(bed.progress(switched), Progress::Reverted);
}

/// A way back of its own for two hosts, one at a time.
fn way_back() -> Plan {
    way_back_by("max_in_flight = 1\n[[wave]]\nrest = true")
}

fn way_back_by(keys: &str) -> Plan {
    let policy = policy(keys);
    let facts = hosts(2).into_iter().map(|host| HostFacts { running: Some(release(2)), ..host });
    let facts: Vec<HostFacts> = facts.collect();
    let to = Some((release(1), "1.0".parse().unwrap()));
    let back = Back { to, by: person("ann"), why: "it leaks".to_owned(), off: None };
    plan_back(&policy, &facts, &reference(false), back).unwrap()
}

#[test]
fn where_all_must_stay_up_the_way_back_takes_one_host_after_the_other() {
    for keys in [
        "max_in_flight = 9\n[[wave]]\nrest = true\nmin_healthy = 2",
        "max_in_flight = 9\nquorum_label = \"rack\"\n[[wave]]\nrest = true",
        "max_in_flight = 9\n[failure_domain]\nlabel = \"rack\"\nmin_healthy = \"100%\"\n[[wave]]\nrest = true",
    ] {
        let mut bed = Bed::of(way_back_by(keys));
        let hosts = bed.wave(0);
        bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
        let down = |bed: &Bed| hosts.iter().filter(|host| bed.action(**host) == back()).count();
        assert!((1..=2).contains(&down(&bed)), "{keys}");
        for _ in &hosts {
            let next = hosts.iter().copied().find(|host| bed.action(*host) == back());
            bed.fact(next.unwrap(), HostFact::RevertDone { running: Some(release(1)) });
        }
        assert_eq!(bed.rollout.phase().name(), PhaseName::Done, "{keys}");
    }
}

#[test]
fn a_host_that_the_rollout_before_left_in_flight_is_sent_back_at_once_by_the_slot_that_it_uses() {
    let mut bed = Bed::of(way_back());
    let [other, busy] = bed.wave(0)[..] else { panic!() };
    let until = bed.at.now.plus_secs(80);
    bed.apply(Input::Start { away: Vec::new(), busy: vec![Busy { host: busy, until }] });
    assert_eq!(bed.action(busy), back(), "it need not finish what is left");
    assert_ne!(bed.action(other), back(), "there is one slot");
    bed.fact(busy, HostFact::RevertDone { running: Some(release(1)) });
    assert_eq!(bed.action(other), back());
    // Plans of before have been judged otherwise.
    let mut bed = Bed::of(Plan { rules: 3, ..way_back() });
    bed.apply(Input::Start { away: Vec::new(), busy: vec![Busy { host: busy, until }] });
    assert_ne!(bed.action(busy), back());
}
