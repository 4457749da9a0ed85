//! Stop must stop; go on goes on.

use groundswell_common::directive::Action;
use groundswell_common::report::FailedStep;
use groundswell_common::wire::Deny;
use groundswell_rollout::{
    Breach, HaltCause, HostFact, Input, KeepOrRevert, Outcome, Phase, PhaseName, Progress,
    ProgressName, Refusal, explain, generation, may_switch,
};

use crate::bed::{Bed, host, person, release};

/// Six hosts of one wave, one in each state of a host's course.
fn mixed() -> Bed {
    let keys = "max_in_flight = 3\nfailure_budget = 5\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 6);
    let ids = bed.wave(0);
    for id in &ids[..5] {
        bed.fact(*id, HostFact::Staged);
    }
    bed.fact(ids[0], HostFact::Committed);
    bed.fact(ids[1], HostFact::SwitchStarted);
    bed.fact(ids[2], HostFact::Passed);
    bed
}

fn names(bed: &Bed) -> Vec<ProgressName> {
    bed.wave(0).iter().map(|id| bed.progress(*id).name()).collect()
}

fn pause() -> Input {
    Input::Pause { by: person("ann"), why: "lunch".to_owned() }
}

fn abort(keep: KeepOrRevert) -> Input {
    Input::Abort { by: person("ann"), why: "no".to_owned(), keep }
}

#[test]
fn a_stop_of_any_kind_holds_everyone_who_has_not_switched_and_permits_nobody() {
    use ProgressName as N;
    let halt = Input::Halt { by: person("ann"), why: "smoke".to_owned() };
    let newer = Input::Supersede { by: "shop-8".parse().unwrap() };
    let back = Input::Revert { by: person("ann"), why: "no".to_owned() };
    for input in
        [halt, pause(), abort(KeepOrRevert::Keep), abort(KeepOrRevert::Revert), newer, back]
    {
        let mut bed = mixed();
        let ids = bed.wave(0);
        let course = [N::Committed, N::Probing, N::Baking, N::Granted, N::Staged, N::Staging];
        assert_eq!(names(&bed), course);
        let now = generation(&bed.rollout, &ids[3]);
        assert_eq!(may_switch(&bed.rollout, &ids[3], &release(2), now, bed.at.now), Ok(()));
        bed.apply(input.clone());
        for id in &ids {
            let denied = may_switch(&bed.rollout, id, &release(2), u64::MAX, bed.at.now);
            assert_eq!(denied, Err(Deny::Stopped), "{input:?}");
        }
        for id in &ids[4..] {
            assert_eq!(bed.action(*id), Action::Hold {}, "{input:?}");
        }
        let back = matches!(bed.phase(), PhaseName::Reverting);
        let granted = Action::Revert { from: release(2), to: Some(release(1)) };
        let expected = if back { granted } else { Action::Hold {} };
        assert_eq!(bed.action(ids[3]), expected, "{input:?}");
        if !back {
            for id in &ids[..3] {
                assert_eq!(bed.action(*id), Action::Switch { release: release(2) }, "{input:?}");
            }
        }
    }
}

#[test]
fn nothing_is_granted_while_stopped_and_all_goes_on_after() {
    let mut bed = mixed();
    let ids = bed.wave(0);
    let effects = bed.halt();
    assert_eq!(effects.changed_hosts, ids[3..], "only those whose wish changes are told");
    bed.fact(ids[1], HostFact::Committed);
    bed.fact(ids[2], HostFact::Committed);
    bed.fact(ids[5], HostFact::Staged);
    bed.pass(100_000);
    assert_eq!(bed.phase(), PhaseName::Halted);
    assert_eq!(bed.rollout.tally(0).unwrap().granted, 1, "it keeps its slot through the stop");
    let why = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert_eq!(
        why,
        "ann halted it: smoke; 'swell resume' goes on in wave 1, 'swell revert' takes it back"
    );
    bed.resume();
    assert_eq!(bed.rollout.tally(0).unwrap().granted, 3);
    bed.pass(99);
    assert_eq!(bed.rollout.tally(0).unwrap().lost, 0, "it has its whole time again");
    bed.obey_all();
    assert_eq!(bed.phase(), PhaseName::Baking);
}

#[test]
fn a_host_that_switched_just_before_the_stop_finishes() {
    let mut bed = mixed();
    let granted = bed.wave(0)[3];
    bed.halt();
    bed.fact(granted, HostFact::SwitchStarted);
    assert_eq!(bed.action(granted), Action::Switch { release: release(2) });
    bed.fact(granted, HostFact::Passed);
    bed.fact(granted, HostFact::Committed);
    assert_eq!(bed.progress(granted), Progress::Committed);
}

#[test]
fn a_pause_keeps_what_is_left_of_the_bake() {
    let mut bed = Bed::start("[[wave]]\nrest = true", 1);
    bed.obey_all();
    bed.pass(20);
    bed.apply(pause());
    bed.pass(5_000);
    bed.resume();
    bed.pass(39);
    assert_eq!(bed.phase(), PhaseName::Baking);
    bed.pass(1);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn a_halt_of_a_completed_rollout_stops_its_stragglers() {
    let mut bed = Bed::start("bake_secs = 0\n[[wave]]\nrest = true", 2);
    let late = bed.wave(0)[1];
    bed.apply(Input::Disconnected { host: late });
    bed.obey_all();
    bed.pass(30);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    bed.halt();
    bed.apply(Input::Connected { host: late });
    assert_eq!(bed.action(late), Action::Hold {});
    assert!(bed.rollout.is_proven());
    bed.resume();
    bed.obey_all();
    assert_eq!(bed.progress(late), Progress::Committed);
    let halt = Input::Halt { by: person("ann"), why: String::new() };
    assert_eq!(bed.refused(halt), Refusal::Over);
}

#[test]
fn failures_of_stragglers_shut_their_lane_and_a_resume_opens_it() {
    let mut bed = Bed::start("bake_secs = 0\n[[wave]]\nrest = true", 3);
    let [_, second, third] = bed.wave(0)[..] else { panic!() };
    bed.apply(Input::Disconnected { host: second });
    bed.apply(Input::Disconnected { host: third });
    bed.obey_all();
    bed.pass(30);
    for id in [second, third] {
        bed.apply(Input::Connected { host: id });
        bed.fact(id, HostFact::Staged);
    }
    assert_eq!(bed.rollout.in_flight(), 1);
    bed.failed(second);
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    assert_eq!(bed.rollout.in_flight(), 0);
    let why = explain(&bed.rollout, Some(&third), bed.at.now).pop().unwrap().to_string();
    assert!(why.starts_with("late hosts wait: 1 host failed late, the budget is 0"), "{why}");
    bed.halt();
    bed.resume();
    assert_eq!(bed.progress(third).name(), ProgressName::Granted);
}

#[test]
fn a_breach_halts_with_exactly_one_failure_too_many() {
    for budget in 0..4 {
        let keys = format!(
            "failure_budget = {budget}\nmax_in_flight = 9\non_breach = \"halt\"\n\
             [[wave]]\nrest = true"
        );
        let mut bed = Bed::start(&keys, 6);
        let ids = bed.wave(0);
        for id in &ids {
            bed.fact(*id, HostFact::Staged);
        }
        for id in &ids[..usize::from(u8::try_from(budget).unwrap())] {
            bed.failed(*id);
            assert_eq!(bed.phase(), PhaseName::Running, "budget {budget}");
        }
        bed.failed(ids[5]);
        let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!("budget {budget}") };
        assert_eq!(
            *cause,
            HaltCause::Breach(Breach { wave: Some(0), failures: budget + 1, budget, silent: 0 })
        );
    }
}

#[test]
fn a_resume_acknowledges_and_only_new_failures_count() {
    let keys = "failure_budget = 1\nmax_in_flight = 9\non_breach = \"halt\"\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 6);
    let ids = bed.wave(0);
    for id in &ids {
        bed.fact(*id, HostFact::Staged);
    }
    bed.failed(ids[0]);
    bed.failed(ids[1]);
    assert_eq!(bed.phase(), PhaseName::Halted);
    bed.failed(ids[2]);
    bed.resume();
    assert_eq!(bed.rollout.failures(0), 0);
    assert_eq!(bed.rollout.tally(0).unwrap().failed, 3);
    bed.failed(ids[3]);
    assert_eq!(bed.phase(), PhaseName::Running);
    bed.failed(ids[4]);
    assert_eq!(bed.phase(), PhaseName::Halted);
}

#[test]
fn a_breach_during_a_pause_halts_it() {
    let keys = "max_in_flight = 2\non_breach = \"halt\"\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 2);
    bed.tell(0, HostFact::Staged);
    bed.apply(pause());
    bed.failed(host(0));
    assert_eq!(bed.phase(), PhaseName::Halted);
}

#[test]
fn a_failure_in_the_bake_counts() {
    let mut bed = Bed::start("on_breach = \"halt\"\n[[wave]]\nrest = true", 1);
    bed.obey_all();
    assert_eq!(bed.phase(), PhaseName::Baking);
    bed.standing(host(0)).health = groundswell_common::report::Verdict::Fail;
    assert!(bed.report(host(0)));
    let Progress::Failed { step, .. } = bed.progress(host(0)) else { panic!() };
    assert_eq!((step, bed.phase()), (FailedStep::Bake, PhaseName::Halted));
    assert!(!bed.report(host(0)), "the same report again is no news");
    bed.standing(host(0)).health = groundswell_common::report::Verdict::Pass;
    assert!(bed.report(host(0)));
    assert_eq!(bed.progress(host(0)), Progress::Committed);
}

#[test]
fn a_reason_that_is_too_long_is_refused() {
    let mut bed = Bed::start("", 1);
    let why = "x".repeat(16 * 1024 + 1);
    let refusal = bed.refused(Input::Halt { by: person("ann"), why });
    assert_eq!(refusal, Refusal::TextTooLong { bytes: 16_385, limit_bytes: 16_384 });
}

#[test]
fn a_permit_is_for_the_holder_of_a_slot_this_release_and_a_current_directive() {
    let mut bed = mixed();
    let ids = bed.wave(0);
    let since = generation(&bed.rollout, &ids[3]);
    let asks =
        |bed: &Bed, id, to, since| may_switch(&bed.rollout, &id, &release(to), since, bed.at.now);
    assert_eq!(asks(&bed, ids[3], 2, since), Ok(()));
    assert_eq!(asks(&bed, ids[3], 2, since - 1), Err(Deny::Stale), "from before its slot");
    assert_eq!(asks(&bed, ids[3], 3, since), Err(Deny::Stale), "another release");
    assert_eq!(asks(&bed, ids[1], 2, since), Ok(()), "it may ask again while it switches");
    for id in [ids[0], ids[2], ids[4], ids[5], host(99)] {
        assert_eq!(asks(&bed, id, 2, u64::MAX), Err(Deny::Stale), "no slot");
    }
    bed.failed(ids[3]);
    assert_eq!(asks(&bed, ids[3], 2, u64::MAX), Err(Deny::Stale), "it has failed");
}

#[test]
fn a_host_that_recovered_counts_again_when_it_fails_again() {
    let keys = "on_breach = \"halt\"\nmax_in_flight = 2\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 2);
    bed.tell(0, HostFact::Staged);
    bed.failed(host(0));
    assert_eq!(bed.phase(), PhaseName::Halted);
    bed.resume();
    bed.tell(0, HostFact::Committed);
    assert_eq!((bed.phase(), bed.rollout.failures(0)), (PhaseName::Running, 0));
    bed.failed(host(0));
    assert_eq!((bed.phase(), bed.rollout.failures(0)), (PhaseName::Halted, 1));
}
