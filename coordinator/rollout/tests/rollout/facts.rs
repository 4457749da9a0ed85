//! Corners of what reports say and what facts do: each case here once went unnoticed when it was changed.

use groundswell_common::HostId;
use groundswell_common::condition::Lack;
use groundswell_common::limits::FAILURE_TEXT_MAX_BYTES;
use groundswell_common::report::{FailedStep, Failure, HostState, Standing, Verdict};
use groundswell_rollout::{
    HostFact, Input, PhaseName, Plan, Progress, ProgressName, RULES_STOPS, Refusal, Steer, fact,
    generation,
};

use crate::bed::{Bed, begun, host, person, release};

const OLD: u8 = 1;
const NEW: u8 = 2;
const OTHER: u8 = 3;

/// A host that runs `running`, aims at `target`, and stands so.
fn says(bed: &mut Bed, state: HostState, (running, target): (u8, Option<u8>)) -> Option<HostFact> {
    let now = generation(&bed.rollout, &host(0));
    says_under(bed, state, (running, target), now)
}

fn says_under(
    bed: &mut Bed,
    state: HostState,
    (running, target): (u8, Option<u8>),
    accepted: u64,
) -> Option<HostFact> {
    let standing = bed.standing(host(0));
    standing.state = state;
    standing.running = Some(release(running));
    standing.target = target.map(release);
    let standing = standing.clone();
    fact(&bed.rollout, &host(0), &standing, accepted)
}

/// A rollout of one host that has its slot.
fn granted() -> Bed {
    let mut bed = Bed::start("failure_budget = 1\n", 1);
    bed.fact(host(0), HostFact::Staged);
    bed
}

fn steer(bed: &mut Bed, steer: Steer) {
    bed.apply(Input::Steer { by: person("ann"), why: String::new(), steer });
}

fn failed(step: FailedStep, reverted: bool) -> HostFact {
    HostFact::Failed { step, why: "broken".to_owned(), reverted }
}

#[test]
fn the_health_of_the_release_before_is_news_both_ways_and_only_of_that_release() {
    let mut bed = Bed::start("", 1);
    bed.standing(host(0)).health = Verdict::Fail;
    assert_eq!(says(&mut bed, HostState::Committed, (OLD, None)), Some(HostFact::Ill));
    bed.fact(host(0), HostFact::Ill);
    assert_eq!(says(&mut bed, HostState::Committed, (OLD, None)), None, "said before");
    bed.standing(host(0)).health = Verdict::Pass;
    assert_eq!(says(&mut bed, HostState::Committed, (OLD, None)), Some(HostFact::Well));
    // What it says while it runs the release is of that one, whatever else it says.
    assert_eq!(says(&mut bed, HostState::Staged, (NEW, Some(NEW))), None);
    let mut well = Bed::start("", 1);
    well.standing(host(0)).health = Verdict::Fail;
    assert_eq!(says(&mut well, HostState::Staged, (NEW, Some(NEW))), None);
    // Left out, it may run the release by other ways: what its probes say is then not of the one before.
    steer(&mut bed, Steer::Exclude { host: host(0) });
    bed.fact(host(0), HostFact::Committed);
    let excluded = Progress::Excluded { ran: true, gone: false };
    assert_eq!(bed.progress(host(0)), excluded);
    bed.standing(host(0)).health = Verdict::Fail;
    assert_eq!(says(&mut bed, HostState::Committed, (NEW, None)), None);
}

#[test]
fn a_switch_to_another_release_is_no_step_of_this_rollout() {
    for (state, step) in [
        (HostState::Switching, HostFact::SwitchStarted),
        (HostState::Probing, HostFact::SwitchStarted),
        (HostState::Baking, HostFact::Passed),
    ] {
        let other = says(&mut granted(), state, (OLD, Some(OTHER)));
        assert_eq!(other, None, "{state:?}");
        for (running, target) in [(OLD, Some(NEW)), (NEW, None), (NEW, Some(NEW))] {
            let said = says(&mut granted(), state, (running, target));
            assert_eq!(said, Some(step.clone()), "{state:?} {running} {target:?}");
        }
    }
    let mut staging = Bed::start("", 1);
    assert_eq!(says(&mut staging, HostState::Staged, (OLD, Some(OTHER))), None);
    assert_eq!(says(&mut staging, HostState::Staged, (OLD, Some(NEW))), Some(HostFact::Staged));
}

#[test]
fn a_host_that_ran_the_release_before_and_has_another_one_staged_counts_as_running_it() {
    for state in [HostState::Staged, HostState::Fetching] {
        let mut bed = Bed::start("", 1);
        assert_eq!(
            says(&mut bed, state, (NEW, Some(OTHER))),
            Some(HostFact::Committed),
            "{state:?}"
        );
        assert_eq!(says(&mut bed, state, (NEW, Some(NEW))), None, "{state:?}");
    }
}

#[test]
fn a_host_that_was_told_to_go_back_long_ago_has_done_so_only_when_it_runs_something_else() {
    let mut bed = granted();
    bed.fact(host(0), HostFact::Committed);
    bed.apply(Input::Revert { by: person("ann"), why: String::new() });
    bed.pass(600);
    assert_eq!(bed.progress(host(0)), Progress::Overdue);
    assert_eq!(says(&mut bed, HostState::Fetching, (NEW, Some(NEW))), None);
    let done = HostFact::RevertDone { running: Some(release(OLD)) };
    let told = generation(&bed.rollout, &host(0));
    let before = says_under(&mut bed, HostState::Staged, (OLD, Some(NEW)), told - 1);
    assert_eq!(before, None, "said before the order: it may switch yet");
    assert_eq!(says(&mut bed, HostState::Fetching, (OLD, Some(OTHER))), Some(done));
}

#[test]
fn what_a_host_said_before_it_was_told_to_try_again_is_an_old_story() {
    let mut bed = Bed::start("failure_budget = 1\n", 1);
    bed.failed_stage(host(0));
    steer(&mut bed, Steer::Retry { host: host(0) });
    let told = generation(&bed.rollout, &host(0));
    let why = "broken".to_owned();
    let failure = Failure { release: release(NEW), step: FailedStep::Stage, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure.clone());
    assert_eq!(says_under(&mut bed, HostState::Committed, (OLD, None), told - 1), None);
    let news = Some(failed(FailedStep::Stage, false));
    assert_eq!(says_under(&mut bed, HostState::Committed, (OLD, None), told), news);
    // For a host with a slot no failure is old: it may not have heard of the slot yet.
    let mut bed = granted();
    bed.standing(host(0)).failure = Some(Failure { step: FailedStep::Switch, ..failure });
    let told = generation(&bed.rollout, &host(0));
    let news = Some(failed(FailedStep::Switch, false));
    assert_eq!(says_under(&mut bed, HostState::Committed, (OLD, None), told - 1), news);
}

#[test]
fn a_host_that_is_stuck_says_so_to_the_rollout_whose_release_it_is_about() {
    let of = |number: u8| {
        let why = "no room".to_owned();
        Failure { release: release(number), step: FailedStep::Revert, why, reverted: false }
    };
    let ask = |running: u8, target: Option<u8>, failure: Option<Failure>| {
        let mut bed = granted();
        bed.standing(host(0)).failure = failure;
        says(&mut bed, HostState::Stuck, (running, target))
    };
    let stuck = |why: &str| Some(HostFact::Stuck { why: why.to_owned() });
    assert_eq!(ask(OLD, None, Some(of(NEW))), stuck("no room"));
    assert_eq!(ask(NEW, Some(OTHER), Some(of(OTHER))), stuck("no room"));
    assert_eq!(ask(OLD, Some(OTHER), Some(of(OTHER))), None);
}

#[test]
fn a_journal_that_cannot_be_read_says_nothing_against_a_release() {
    for facts in [&[][..], &[HostFact::SwitchStarted], &[HostFact::SwitchStarted, HostFact::Passed]]
    {
        let mut bed = Bed::start("failure_budget = 0\n", 1);
        bed.fact(host(0), HostFact::Staged);
        for fact in facts {
            bed.fact(host(0), fact.clone());
        }
        // Its agent knows nothing any more: neither what runs nor why.
        let told = generation(&bed.rollout, &host(0));
        let standing = bed.standing(host(0));
        (standing.state, standing.running, standing.target) = (HostState::Stuck, None, None);
        let standing = standing.clone();
        let held = fact(&bed.rollout, &host(0), &standing, told).unwrap();
        assert!(matches!(held, HostFact::Held { lack: Lack::Journal, .. }), "{held:?}");
        bed.fact(host(0), held);
        assert_eq!((bed.rollout.failures(0), bed.phase()), (0, PhaseName::Running));
        let once = fact(&bed.rollout, &host(0), &standing, u64::MAX);
        assert!(!matches!(once, Some(HostFact::Held { .. })), "said once: {once:?}");
        // A person has looked, and what is live has passed its probes.
        let said = says(&mut bed, HostState::Committed, (NEW, None)).unwrap();
        bed.fact(host(0), said);
        assert_eq!(bed.progress(host(0)), Progress::Committed);
    }
    // After it has committed, it is ill at most.
    let mut bed = granted();
    bed.fact(host(0), HostFact::Committed);
    bed.standing(host(0)).health = Verdict::Fail;
    assert_eq!(says(&mut bed, HostState::Stuck, (NEW, None)), None);
}

#[test]
fn what_is_gone_without_a_word_is_brought_there_again_and_has_not_failed() {
    let baking = || {
        let mut bed = Bed::start("failure_budget = 0\n", 1);
        for fact in [HostFact::Staged, HostFact::SwitchStarted, HostFact::Passed] {
            bed.fact(host(0), fact);
        }
        bed
    };
    for (state, target) in [
        (HostState::Committed, None),
        (HostState::Staged, Some(NEW)),
        (HostState::Fetching, Some(NEW)),
    ] {
        let mut bed = baking();
        let told = generation(&bed.rollout, &host(0));
        assert_eq!(says_under(&mut bed, state, (OLD, target), told - 1), None, "of before");
        let gone = says(&mut bed, state, (OLD, target)).unwrap();
        assert_eq!(gone, HostFact::Gone { running: Some(release(OLD)) }, "{state:?}");
        bed.fact(host(0), gone);
        assert_eq!(bed.progress(host(0)), Progress::Staging);
        assert_eq!((bed.rollout.failures(0), bed.phase()), (0, PhaseName::Running));
    }
    // What it says against the release counts.
    let mut bed = baking();
    let why = "no answer".to_owned();
    let failure = Failure { release: release(NEW), step: FailedStep::Bake, why, reverted: true };
    bed.standing(host(0)).failure = Some(failure);
    let said = says(&mut bed, HostState::Committed, (OLD, None));
    assert!(matches!(said, Some(HostFact::Failed { .. })), "{said:?}");
    // Somebody puts it back each time: in the end a person looks.
    let mut bed = baking();
    for _ in 0..16 {
        let gone = says(&mut bed, HostState::Committed, (OLD, None)).unwrap();
        bed.fact(host(0), gone);
        for fact in [HostFact::Staged, HostFact::SwitchStarted, HostFact::Passed] {
            bed.fact(host(0), fact);
        }
    }
    let gone = says(&mut bed, HostState::Committed, (OLD, None)).unwrap();
    bed.fact(host(0), gone);
    let held = bed.progress(host(0));
    assert!(matches!(&held, Progress::Held { lack: Lack::Stage, .. }), "{held:?}");
}

#[test]
fn who_is_lost_and_rests_is_brought_there_once_more_and_then_by_a_person() {
    let mut bed = Bed::start("failure_budget = 1\n", 2);
    let (id, other) = (host(0), host(1));
    bed.fact(id, HostFact::Staged);
    bed.pass(160);
    assert_eq!(bed.progress(id), Progress::Lost);
    let gone = says(&mut bed, HostState::Committed, (OLD, None)).unwrap();
    bed.fact(id, gone);
    assert_eq!(bed.progress(id), Progress::Staging);
    bed.fact(id, HostFact::Staged);
    bed.pass(160);
    assert_eq!(bed.progress(id), Progress::Lost);
    assert_eq!(says(&mut bed, HostState::Committed, (OLD, None)), None, "it was tried again");
    steer(&mut bed, Steer::Retry { host: id });
    assert_eq!((bed.progress(id), bed.rollout.failures(0)), (Progress::Staging, 0));
    assert!(bed.rollout.host(&other).is_some());
}

#[test]
fn what_a_host_was_stuck_with_before_a_rollout_asked_for_what_it_runs_is_an_old_story() {
    let mut bed = Bed::start("failure_budget = 0\n", 1);
    let why = "the old release did not start".to_owned();
    let failure =
        Failure { release: release(OTHER), step: FailedStep::Revert, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure);
    bed.standing(host(0)).health = Verdict::Fail;
    let told = generation(&bed.rollout, &host(0));
    let stuck = |bed: &mut Bed, accepted| says_under(bed, HostState::Stuck, (NEW, None), accepted);
    // Until it was asked, it is ill and has failed nothing.
    let ill = stuck(&mut bed, told - 1);
    assert_eq!(ill, Some(HostFact::Ill));
    bed.fact(host(0), HostFact::Ill);
    assert_eq!(stuck(&mut bed, told - 1), None);
    // Asked, it started and probed what it runs, and that failed: it is said, and counts against nobody.
    let Some(HostFact::Stuck { why }) = stuck(&mut bed, told) else { panic!("it was asked") };
    bed.fact(host(0), HostFact::Stuck { why });
    assert_eq!((bed.rollout.failures(0), bed.progress(host(0)).name()), (0, ProgressName::Failed));
    let phase = bed.phase();
    assert!(!matches!(phase, PhaseName::Halted | PhaseName::Reverting), "{phase:?}");
    // Mended, it is tried again, and what it said before is old once more.
    steer(&mut bed, Steer::Retry { host: host(0) });
    let told = generation(&bed.rollout, &host(0));
    assert_eq!(stuck(&mut bed, told - 1), None);
    let runs = says_under(&mut bed, HostState::Committed, (NEW, None), told);
    assert_eq!(runs, Some(HostFact::Committed));
}

#[test]
fn what_a_host_was_stuck_with_before_it_counted_as_running_the_release_is_an_old_story_too() {
    let mut bed = Bed::start("failure_budget = 0\n", 1);
    bed.fact(host(0), HostFact::Committed);
    let why = "its unit is not found".to_owned();
    let failure =
        Failure { release: release(OTHER), step: FailedStep::Revert, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure);
    let told = generation(&bed.rollout, &host(0));
    let stuck = |bed: &mut Bed, accepted| {
        let said = says_under(bed, HostState::Stuck, (NEW, None), accepted);
        matches!(said, Some(HostFact::Stuck { .. }))
    };
    assert!(!stuck(&mut bed, told - 1), "it has not heard that it is to run it");
    assert!(stuck(&mut bed, told), "it has tried, and it does not run");
}

#[test]
fn who_cannot_go_back_from_an_older_switch_is_ill_before_it_says_so() {
    let mut bed = Bed::start("failure_budget = 0\n", 1);
    let why = "probe failed: no answer; then going back failed: its unit is not found".to_owned();
    let failure =
        Failure { release: release(OTHER), step: FailedStep::Revert, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure);
    bed.standing(host(0)).health = Verdict::Fail;
    let told = generation(&bed.rollout, &host(0));
    for want in ["ill", "stuck"] {
        let fact = says_under(&mut bed, HostState::Stuck, (NEW, None), told).unwrap();
        let is =
            matches!((want, &fact), ("ill", HostFact::Ill) | ("stuck", HostFact::Stuck { .. }));
        assert!(is, "{want}: {fact:?}");
        bed.fact(host(0), fact);
    }
    assert_eq!((bed.rollout.failures(0), bed.progress(host(0)).name()), (0, ProgressName::Failed));
}

#[test]
fn a_host_that_is_stuck_with_something_older_and_cannot_stage_the_release_fails_nothing() {
    let mut bed = Bed::start("failure_budget = 0\n", 1);
    let why = "a switch by overlap needs systemd".to_owned();
    let failure = Failure { release: release(NEW), step: FailedStep::Stage, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure);
    let said = says(&mut bed, HostState::Stuck, (OLD, None)).unwrap();
    assert!(matches!(said, HostFact::Failed { step: FailedStep::Stage, .. }), "{said:?}");
    bed.fact(host(0), said);
    assert_eq!((bed.rollout.failures(0), bed.progress(host(0)).name()), (0, ProgressName::Held));
    assert_eq!(says(&mut bed, HostState::Stuck, (OLD, None)), None, "said once");
}

#[test]
fn a_committed_host_that_fails_its_probes_has_failed_until_they_pass_again() {
    let mut bed = Bed::start("failure_budget = 1\n", 2);
    bed.fact(host(0), HostFact::Staged);
    bed.fact(host(0), HostFact::Committed);
    let mut says = |health: Verdict| {
        bed.standing(host(0)).health = health;
        let said = says(&mut bed, HostState::Committed, (NEW, None));
        if let Some(said) = said.clone() {
            bed.fact(host(0), said);
        }
        said
    };
    assert_eq!(says(Verdict::Inconclusive), None, "its agent starts");
    let fails = says(Verdict::Fail);
    assert!(matches!(fails, Some(HostFact::Failed { step: FailedStep::Bake, .. })), "{fails:?}");
    // Its agent starts again, and nothing is known for a while: it is the same failure that goes on.
    assert_eq!(says(Verdict::Inconclusive), None);
    assert_eq!(says(Verdict::Fail), None);
    assert_eq!(says(Verdict::Pass), Some(HostFact::Committed));
}

#[test]
fn a_host_that_is_stuck_is_told_to_go_back_before_that_counts() {
    let mut bed = granted();
    bed.fact(host(0), HostFact::Committed);
    bed.apply(Input::Revert { by: person("ann"), why: String::new() });
    let told = generation(&bed.rollout, &host(0));
    let stuck = |bed: &mut Bed, accepted| says_under(bed, HostState::Stuck, (NEW, None), accepted);
    assert_eq!(stuck(&mut bed, told - 1), None, "from before the order");
    assert!(matches!(stuck(&mut bed, told), Some(HostFact::Stuck { .. })));
}

#[test]
fn what_could_not_go_back_may_be_tried_again() {
    let mut bed = granted();
    bed.fact(host(0), HostFact::SwitchStarted);
    bed.fact(host(0), HostFact::Stuck { why: "no space".to_owned() });
    let progress = &bed.rollout.host(&host(0)).unwrap().progress;
    assert!(matches!(progress, Progress::Failed { step: FailedStep::Revert, .. }), "{progress:?}");
    steer(&mut bed, Steer::Retry { host: host(0) });
    assert_eq!(bed.rollout.host(&host(0)).unwrap().progress, Progress::Staging);
}

#[test]
fn a_long_reason_is_cut_between_two_characters() {
    let mut bed = granted();
    let why = format!("x{}", "é".repeat(FAILURE_TEXT_MAX_BYTES));
    let failure = Failure { release: release(NEW), step: FailedStep::Switch, why, reverted: true };
    bed.standing(host(0)).failure = Some(failure);
    let Some(HostFact::Failed { why, .. }) = says(&mut bed, HostState::Committed, (OLD, None))
    else {
        panic!("no failure");
    };
    assert_eq!(why.len(), FAILURE_TEXT_MAX_BYTES - 1);
    assert!(why.ends_with('é'));
}

#[test]
fn a_host_left_out_that_runs_the_release_after_all_is_known_and_goes_back() {
    for shown in [HostFact::SwitchStarted, HostFact::Passed, HostFact::Committed] {
        let mut bed = Bed::start("", 1);
        steer(&mut bed, Steer::Exclude { host: host(0) });
        bed.fact(host(0), shown);
        assert_eq!(bed.progress(host(0)), Progress::Excluded { ran: true, gone: false });
        bed.fact(host(0), HostFact::RevertDone { running: Some(release(OLD)) });
        assert_eq!(bed.progress(host(0)), Progress::Excluded { ran: false, gone: false });
    }
}

#[test]
fn a_host_left_out_with_a_permit_in_its_hands_keeps_its_slot_until_it_is_done() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 2);
    let [first, second] = [0, 1].map(|at| bed.wave(0)[at]);
    let (staged, switching) = (HostState::Staged, HostState::Probing);
    for id in [first, second] {
        bed.fact(id, HostFact::Staged);
    }
    steer(&mut bed, Steer::Exclude { host: first });
    assert_eq!(bed.progress(second), Progress::Staged, "its slot is not free yet");
    let says = |bed: &mut Bed, state, running, accepted| {
        let standing = bed.standing(first);
        (standing.state, standing.running) = (state, Some(release(running)));
        standing.target = Some(release(NEW));
        let standing = standing.clone();
        let fact = fact(&bed.rollout, &first, &standing, accepted);
        if let Some(fact) = fact.clone() {
            bed.fact(first, fact);
        }
        fact
    };
    // What it said before it heard of it says nothing of the permit.
    let accepted = generation(&bed.rollout, &first);
    assert_eq!(says(&mut bed, staged, OLD, accepted - 1), None);
    assert_eq!(says(&mut bed, switching, NEW, accepted), None);
    assert_eq!(bed.progress(second), Progress::Staged, "it is in the middle of it");
    assert_eq!(says(&mut bed, HostState::Baking, NEW, accepted), None);
    assert_eq!(says(&mut bed, HostState::Committed, NEW, accepted), Some(HostFact::Rested));
    assert_eq!(bed.progress(first), Progress::Excluded { ran: true, gone: false });
    assert_eq!(bed.progress(second).name(), ProgressName::Granted);
}

#[test]
fn a_host_left_out_with_a_slot_gives_it_back_where_it_did_not_switch_or_is_not_heard() {
    for heard in [true, false] {
        let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 2);
        let [first, second] = [0, 1].map(|at| bed.wave(0)[at]);
        for id in [first, second] {
            bed.fact(id, HostFact::Staged);
        }
        steer(&mut bed, Steer::Exclude { host: first });
        if heard {
            assert!(bed.report(first), "it stands where it stood");
        } else {
            bed.pass(210);
        }
        assert_eq!(bed.progress(second).name(), ProgressName::Granted, "heard: {heard}");
    }
}

#[test]
fn a_second_word_about_a_failure_is_news_only_where_it_says_more() {
    let after = |first: HostFact, second: HostFact| {
        let mut bed = granted();
        bed.fact(host(0), first);
        bed.try_apply(Input::Host { host: host(0), fact: second }).is_ok()
    };
    let (probe, bake, stage) = (FailedStep::Probe, FailedStep::Bake, FailedStep::Stage);
    assert!(after(failed(probe, false), failed(probe, true)), "it went back");
    assert!(after(failed(probe, false), failed(bake, false)), "another step failed");
    assert!(!after(failed(probe, true), failed(bake, false)), "an older story");
    assert!(!after(failed(probe, false), failed(probe, false)), "the same");
    let back = HostFact::RevertDone { running: Some(release(OLD)) };
    assert!(after(failed(probe, false), back.clone()));
    assert!(!after(failed(stage, false), back), "there was nothing to go back from");
}

#[test]
fn standings_of_other_services_say_nothing() {
    let mut bed = granted();
    let id: HostId = host(0);
    let standing = Standing {
        service: "mail".parse().unwrap(),
        state: HostState::Probing,
        running: Some(release(NEW)),
        ..bed.standing(id).clone()
    };
    assert_eq!(fact(&bed.rollout, &id, &standing, u64::MAX), None);
}

#[test]
fn a_host_has_its_own_deadlines_and_thirty_seconds_more() {
    // A stop and a start have a probe deadline each, and so have a stop, a start and the probes on the way back; plans
    // of older rules counted one.
    for (rules, forward, back) in [(RULES_STOPS, 2, 3), (RULES_STOPS - 1, 1, 1)] {
        let mut bed = begun(Plan { rules, ..granted().rollout.plan().clone() });
        bed.fact(host(0), HostFact::Staged);
        let plan = bed.rollout.plan();
        let (probe, bake) = (plan.probe_deadline_secs, plan.host_bake_secs);
        assert!(probe > 1 && bake > 1);
        let since = bed.at.now;
        let whole = since.plus_secs(forward * probe + bake + 30);
        assert_eq!(bed.progress(host(0)), Progress::Granted { since, deadline: whole });
        bed.at.now = since.plus_secs(5);
        bed.fact(host(0), HostFact::SwitchStarted);
        let deadline = bed.at.now.plus_secs(forward * probe + bake + 30);
        assert_eq!(bed.progress(host(0)), Progress::Probing { deadline });
        bed.at.now = since.plus_secs(9);
        bed.fact(host(0), HostFact::Passed);
        let deadline = bed.at.now.plus_secs(bake + 30);
        assert_eq!(bed.progress(host(0)), Progress::Baking { deadline });
        bed.apply(Input::Revert { by: person("ann"), why: String::new() });
        let deadline = bed.at.now.plus_secs(back * probe + 30);
        assert_eq!(bed.progress(host(0)), Progress::Reverting { deadline });
    }
}

#[test]
fn an_approval_that_no_gate_asks_for_is_refused() {
    let mut bed = Bed::start("[[wave]]\ncount = 1\n[[wave]]\nrest = true\n", 3);
    let plan = bed.rollout.plan_hash();
    for wave in [Some(1), None] {
        let refused = bed.refused(Input::Approve { by: person("ann"), plan, wave });
        assert_eq!(refused, Refusal::NoGate, "{wave:?}");
    }
}

#[test]
fn a_host_that_has_nothing_to_go_back_to_says_so() {
    let mut bed = granted();
    bed.fact(host(0), HostFact::Committed);
    bed.apply(Input::Revert { by: person("ann"), why: String::new() });
    let why = "no room".to_owned();
    let failure = Failure { release: release(NEW), step: FailedStep::Revert, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure);
    let told = generation(&bed.rollout, &host(0));
    let old = says_under(&mut bed, HostState::Committed, (NEW, None), told - 1);
    assert_eq!(old, None, "it had not heard of it");
    let said = says_under(&mut bed, HostState::Committed, (NEW, None), told).unwrap();
    assert!(matches!(said, HostFact::Failed { step: FailedStep::Revert, .. }), "{said:?}");
    bed.fact(host(0), said);
    let failed = bed.progress(host(0));
    assert!(matches!(failed, Progress::Failed { step: FailedStep::Revert, .. }), "{failed:?}");
    let told = generation(&bed.rollout, &host(0));
    for accepted in [told - 1, told] {
        let again = says_under(&mut bed, HostState::Committed, (NEW, None), accepted);
        assert_eq!(again, None, "said once");
    }
}

#[test]
fn a_host_that_goes_back_keeps_its_slot_though_it_could_not_go_back_once() {
    let mut bed = granted();
    bed.fact(host(0), HostFact::Committed);
    bed.apply(Input::Revert { by: person("ann"), why: String::new() });
    let why = "a person asked to go back, and it stays".to_owned();
    let failure = Failure { release: release(NEW), step: FailedStep::Revert, why, reverted: false };
    bed.standing(host(0)).failure = Some(failure);
    assert_eq!(says(&mut bed, HostState::Reverting, (NEW, Some(OLD))), None);
    let said = says(&mut bed, HostState::Committed, (NEW, None));
    assert!(matches!(said, Some(HostFact::Failed { step: FailedStep::Revert, .. })), "{said:?}");
}
