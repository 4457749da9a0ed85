//! What a host lacks is no evidence against a release; a rollout undoes only what it did; what a host says now
//! beats what it said once; a way back is a plan of its own.

use groundswell_common::condition::{Fetched, Held, Lack, ServiceCondition};
use groundswell_common::directive::Action;
use groundswell_common::report::HostState;
use groundswell_common::{Digest, HostId};
use groundswell_rollout::{
    Back, HaltCause, HostEntry, HostFact, HostFacts, Input, Outcome, Phase, PhaseName, Plan,
    ProgressName, RULES, RULES_WAITED, ReleaseRef, Rollout, SkipReason, Steer, bytes_count,
    explain, fact, generation, lack, plan,
};

use crate::bed::{Bed, begun, hosts, name, person, planned, policy, reference, release, steer};

const CANARY: &str = "[[wave]]\ncount = 1\nbake_secs = 0\n[[wave]]\nrest = true\nbake_secs = 0";

fn condition(held: Option<Lack>) -> ServiceCondition {
    let held = held.map(|lack| Held { release: release(2), lack, why: "make room".to_owned() });
    ServiceCondition { held, ..ServiceCondition::new("shop".parse().unwrap()) }
}

/// The host says what it lacks; whether that was news.
fn says(bed: &mut Bed, id: HostId, held: Option<Lack>) -> bool {
    let fact = lack(&bed.rollout, &id, &condition(held));
    fact.map(|fact| bed.fact(id, fact)).is_some()
}

#[test]
fn who_is_held_after_its_switch_goes_back_with_the_others_and_what_it_fails_at_counts() {
    let keys = "on_breach = \"halt\"\nmax_in_flight = 9\n[[wave]]\nrest = true\nbake_secs = 0";
    let stopped = |rules: u8| {
        let mut bed = begun(Plan { rules, ..planned(keys, 2) });
        let host = bed.wave(0)[0];
        for fact in [HostFact::Staged, HostFact::SwitchStarted, HostFact::Passed] {
            bed.fact(host, fact);
        }
        assert!(says(&mut bed, host, Some(Lack::Paused)));
        assert_eq!(bed.progress(host).name(), ProgressName::Held);
        (bed, host)
    };
    let (mut bed, host) = stopped(RULES);
    bed.apply(Input::Revert { by: person("ann"), why: "it leaks".to_owned() });
    assert!(matches!(bed.action(host), Action::Revert { .. }), "it may run the release");
    assert_eq!(bed.rollout.goes_back(), [host]);

    let (mut bed, host) = stopped(RULES);
    bed.failed(host);
    assert_eq!((bed.phase(), bed.rollout.failures(0)), (PhaseName::Halted, 1));

    // Plans of before are judged as before.
    let (mut bed, host) = stopped(RULES - 1);
    bed.apply(Input::Revert { by: person("ann"), why: "it leaks".to_owned() });
    assert!(matches!(bed.action(host), Action::Hold {}));
}

/// The first sentence about a host.
fn why(bed: &Bed, id: HostId) -> String {
    explain(&bed.rollout, Some(&id), bed.at.now)[0].to_string()
}

/// Hosts of which `number` run the planned release already.
fn some_run_it(numbers: &[usize], count: u8) -> Vec<HostFacts> {
    let mut facts = hosts(count);
    for number in numbers {
        facts[*number].running = Some(release(2));
    }
    facts
}

#[test]
fn a_host_that_lacks_something_fails_nothing_and_catches_up_by_itself() {
    let mut bed = Bed::start(CANARY, 3);
    bed.obey_all_of(0);
    bed.obey_all();
    let late = bed.wave(1)[1];
    let mut bed = Bed::start(CANARY, 3);
    bed.obey_all_of(0);
    assert_eq!(bed.phase(), PhaseName::Running);
    assert!(says(&mut bed, late, Some(Lack::Room)));
    assert!(!says(&mut bed, late, Some(Lack::Room)), "said once");
    assert_eq!(bed.progress(late).name(), ProgressName::Held);
    assert!(matches!(bed.action(late), Action::Stage { .. }), "it goes on trying");
    assert_eq!(why(&bed, late), "make room; it goes on by itself then");
    let other = bed.wave(1)[0];
    while bed.obey(other, None) {}
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    let whole = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert_eq!(whole, "it is over: completed; not there yet: 1 host");
    assert!(says(&mut bed, late, None));
    assert!(bed.rollout.host(&late).unwrap().late);
    while bed.obey(late, None) {}
    assert_eq!(bed.progress(late).name(), ProgressName::Committed);
}

#[test]
fn a_wave_that_only_held_hosts_are_left_in_waits_and_does_not_halt() {
    let mut bed = Bed::start(CANARY, 3);
    let canary = bed.wave(0)[0];
    assert!(says(&mut bed, canary, Some(Lack::Paused)));
    bed.pass(1_000_000);
    assert_eq!(bed.phase(), PhaseName::Running);
    let whole = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    let name = bed.rollout.planned(&canary).unwrap().1.name.clone();
    assert_eq!(
        whole,
        format!(
            "wave 1 waits for 1 host that cannot take the release now ({name}: paused or stopped \
             by a person there), and no other has shown anything"
        )
    );
    assert!(says(&mut bed, canary, None));
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn more_held_hosts_than_the_budget_hold_the_wave() {
    let keys = "held_budget = 1\nmax_in_flight = 9\n[[wave]]\nrest = true\nbake_secs = 0";
    let mut bed = Bed::start(keys, 4);
    let ids = bed.wave(0);
    for id in &ids[..2] {
        assert!(says(&mut bed, *id, Some(Lack::Drift)));
    }
    for id in &ids[2..] {
        while bed.obey(*id, None) {}
    }
    bed.pass(100_000);
    assert_eq!(bed.phase(), PhaseName::Running);
    let whole = explain(&bed.rollout, None, bed.at.now)[0].to_string();
    assert!(whole.ends_with("its held_budget is 1"), "{whole}");
    assert!(says(&mut bed, ids[0], None));
    while bed.obey(ids[0], None) {}
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
}

#[test]
fn a_held_host_gives_its_slot_back_and_keeps_its_place_until_it_is_at_rest() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 2);
    let (first, second) = (bed.wave(0)[0], bed.wave(0)[1]);
    bed.fact(first, HostFact::Staged);
    bed.fact(second, HostFact::Staged);
    assert_eq!(name(&bed, 0, 0), ProgressName::Granted);
    assert!(says(&mut bed, first, Some(Lack::Paused)));
    // It may have its permit in its hands.
    assert_eq!(bed.rollout.in_flight(), 1);
    assert_eq!(name(&bed, 0, 1), ProgressName::Staged);
    bed.report(first);
    assert_eq!(name(&bed, 0, 1), ProgressName::Granted);
    // One that switched all the same is in flight again.
    assert!(says(&mut bed, second, Some(Lack::Paused)));
    bed.fact(second, HostFact::SwitchStarted);
    assert_eq!(name(&bed, 0, 1), ProgressName::Probing);
}

#[test]
fn a_host_that_may_not_ask_for_a_permit_gets_no_slot_for_being_staged() {
    for lacks in [Lack::Root, Lack::Approval, Lack::StepDown] {
        let mut bed = Bed::start("[[wave]]\nrest = true", 1);
        let id = bed.wave(0)[0];
        let standing = bed.standing(id);
        (standing.state, standing.target) = (HostState::Staged, Some(release(2)));
        assert!(bed.report(id));
        assert_eq!(name(&bed, 0, 0), ProgressName::Granted);
        assert!(says(&mut bed, id, Some(lacks)));
        // Its next report has the same staged release, and it says again what it lacks, which is no news.
        bed.report(id);
        bed.report(id);
        assert_eq!(name(&bed, 0, 0), ProgressName::Held, "{lacks:?}");
        assert!(says(&mut bed, id, None));
        assert!(bed.report(id));
        assert_eq!(name(&bed, 0, 0), ProgressName::Granted);
    }
}

#[test]
fn a_host_that_said_that_it_switches_and_has_not_gives_its_slot_back() {
    for (state, then) in
        [(HostState::Staged, ProgressName::Granted), (HostState::Fetching, ProgressName::Staging)]
    {
        let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 2);
        let id = bed.wave(0)[0];
        bed.fact(id, HostFact::Staged);
        bed.fact(id, HostFact::SwitchStarted);
        assert_eq!(name(&bed, 0, 0), ProgressName::Probing);
        let standing = bed.standing(id);
        (standing.state, standing.target) = (state, Some(release(2)));
        assert!(bed.report(id), "{state:?}");
        // Nobody else wants the slot, so one that is on disk has it again at once.
        assert_eq!(name(&bed, 0, 0), then);
        assert_eq!(bed.rollout.failures(0), 0);
    }
}

#[test]
fn permits_that_run_out_again_and_again_hold_the_host_and_fail_nothing() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 1);
    let id = bed.wave(0)[0];
    bed.fact(id, HostFact::Staged);
    for _ in 0..17 {
        assert_eq!(name(&bed, 0, 0), ProgressName::Granted);
        bed.fact(id, HostFact::SwitchStarted);
        bed.fact(id, HostFact::Staged);
    }
    assert_eq!(name(&bed, 0, 0), ProgressName::Held);
    assert!(why(&bed, id).contains("look at its disk"));
    assert_eq!(bed.rollout.failures(0), 0);
}

#[test]
fn a_drained_host_waits_for_an_operator_and_no_report_frees_it() {
    let mut bed = Bed::start(CANARY, 2);
    let id = bed.wave(0)[0];
    bed.fact(id, HostFact::Held { lack: Lack::Drained, why: "new disk".to_owned() });
    assert_eq!(bed.action(id), Action::Hold {});
    assert!(!says(&mut bed, id, None));
    bed.standing(id).state = HostState::Staged;
    bed.standing(id).target = Some(release(2));
    assert!(!bed.report(id));
    bed.fact(id, HostFact::Freed);
    assert!(bed.report(id));
    assert_eq!(bed.progress(id).name(), ProgressName::Granted);
}

#[test]
fn bytes_that_arrive_are_progress() {
    let mut bed = Bed::start(&format!("progress_deadline_secs = 100\n{CANARY}"), 1);
    let id = bed.wave(0)[0];
    let fetched = |bed: &mut Bed, bytes| {
        let fetched = Some(Fetched { bytes, of: 1 << 40 });
        let condition = ServiceCondition { fetched, ..condition(None) };
        lack(&bed.rollout, &id, &condition).map(|fact| drop(bed.fact(id, fact))).is_some()
    };
    assert!(!bytes_count(&bed.rollout, bed.at.now.plus_secs(49)));
    for step in 1..8 {
        bed.pass(90);
        assert!(bytes_count(&bed.rollout, bed.at.now));
        assert!(fetched(&mut bed, (1 << 40) / 100 * step));
        assert!(!fetched(&mut bed, (1 << 40) / 100 * step), "no more, no news");
    }
    assert_eq!(bed.phase(), PhaseName::Running);
    assert_eq!(why(&bed, id), "it has fetched 6 % of the release");
    bed.pass(101);
    let Phase::Halted { cause, .. } = bed.rollout.phase() else { panic!() };
    assert_eq!(*cause, HaltCause::NoProgress { wave: 0 });
}

#[test]
fn a_rollout_takes_nothing_back_that_it_did_not_bring() {
    let policy = policy("max_in_flight = 9\n[[wave]]\nrest = true");
    let facts = some_run_it(&[0, 1], 3);
    let plan = plan(&policy, &facts, &reference(false), &Digest::of(b"seed")).unwrap();
    let mut bed = begun(plan);
    for kept in [facts[0].id, facts[1].id] {
        bed.standing(kept).running = Some(release(2));
        assert!(bed.report(kept));
    }
    let new = facts[2].id;
    bed.failed_with_slot(new);
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })), "{:?}", bed.phase());
    for kept in [facts[0].id, facts[1].id] {
        assert_eq!(bed.progress(kept).name(), ProgressName::Committed);
        assert!(matches!(bed.action(kept), Action::Switch { .. }), "it keeps what it runs");
    }
    // What runs where nothing was changed says nothing about the rollout either.
    let mut bed = begun(bed.rollout.plan().clone());
    let standing = bed.standing(facts[0].id);
    standing.running = Some(release(2));
    standing.health = groundswell_common::report::Verdict::Fail;
    assert!(bed.report(facts[0].id));
    assert!(!bed.report(facts[0].id));
    assert_eq!(bed.rollout.failures(0), 0);
}

#[test]
fn a_host_that_lost_what_it_had_committed_is_brought_there_again() {
    let mut bed = Bed::start("max_in_flight = 9\n[[wave]]\nrest = true\nbake_secs = 0", 2);
    bed.obey_all();
    assert_eq!(bed.outcome(), Some(Outcome::Completed));
    let id = bed.wave(0)[0];
    let standing = bed.standing(id);
    (standing.running, standing.target) = (Some(release(1)), None);
    let before = bed.standing(id).clone();
    let told = generation(&bed.rollout, &id);
    assert_eq!(fact(&bed.rollout, &id, &before, told - 1), None, "from before its last wish");
    assert!(bed.report(id));
    assert_eq!(bed.progress(id).name(), ProgressName::Staging);
    assert!(generation(&bed.rollout, &id) > told);
    while bed.obey(id, None) {}
    assert_eq!(bed.progress(id).name(), ProgressName::Committed);
}

#[test]
fn hosts_that_run_a_newer_release_are_left_out() {
    let mut facts = hosts(2);
    facts[0].newer = Some("3.0.0".parse().unwrap());
    let seed = Digest::of(b"seed");
    let made = plan(&policy(""), &facts, &reference(false), &seed).unwrap();
    let version = "3.0.0".parse().unwrap();
    assert_eq!(made.skipped[0].why, SkipReason::Newer { version });
    facts[1].newer = Some("3.0.0".parse().unwrap());
    let error = plan(&policy(""), &facts, &reference(false), &seed).unwrap_err().to_string();
    assert!(error.contains("only a revert goes down"), "{error}");
}

#[test]
fn hosts_that_lack_something_come_after_those_that_do_not() {
    let mut facts = hosts(3);
    let first = planned(CANARY, 3).waves[0].hosts[0].id;
    let of = |facts: &mut Vec<HostFacts>| facts.iter().position(|host| host.id == first).unwrap();
    let at = of(&mut facts);
    facts[at].lacks = Some((Lack::Room, "make room".to_owned()));
    let made = plan(&policy(CANARY), &facts, &reference(false), &Digest::of(b"seed")).unwrap();
    assert_ne!(made.waves[0].hosts[0].id, first, "no canary");
    assert_eq!(made.held.len(), 1);
    assert_eq!((made.held[0].id, made.held[0].lack), (first, Lack::Room));
}

/// A way back from release 2 for hosts of which the last may run something else.
fn way_back(to: Option<u8>) -> Bed {
    let leaving = ReleaseRef::new(release(2), "2.0.0".parse().unwrap());
    let facts = some_run_it(&[0, 1], 3);
    let back = Back {
        to: to.map(|to| (release(to), "1.0.0".parse().unwrap())),
        by: person("ann"),
        why: "it is slow".to_owned(),
        off: None,
    };
    let made = groundswell_rollout::plan_back(&policy(CANARY), &facts, &leaving, back);
    let mut bed = Bed::of(made.unwrap());
    for id in [facts[0].id, facts[1].id] {
        bed.standing(id).running = Some(release(2));
        bed.standing(id).previous = to.map(release);
    }
    bed
}

#[test]
fn a_way_back_takes_every_host_that_runs_the_release_there() {
    let mut bed = way_back(Some(0));
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    assert_eq!(bed.phase(), PhaseName::Reverting);
    let ids: Vec<HostId> = bed.rollout.hosts().map(|(_, host, _)| host.id).collect();
    for _ in 0..8 {
        for id in &ids {
            bed.obey(*id, None);
        }
    }
    let Some(Outcome::Reverted { down_to: 0, .. }) = bed.outcome() else {
        panic!("{:?}", bed.rollout.phase())
    };
    let back = ids.iter().filter(|id| bed.standing(**id).running == Some(release(0))).count();
    assert_eq!(back, 2);
    assert!(ids.iter().all(|id| bed.progress(*id).name() == ProgressName::Reverted));
    assert!(!bed.rollout.is_proven());
}

#[test]
fn a_way_back_names_its_target_and_replays() {
    let mut bed = way_back(Some(0));
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    let told =
        |(_, _, entry): &(u32, _, &HostEntry)| entry.progress.name() == ProgressName::Reverting;
    let runs = bed.rollout.hosts().find(told).unwrap().1.id;
    let to = Some(release(0));
    assert_eq!(bed.action(runs), Action::Revert { from: release(2), to });
    let mut again = Rollout::new(bed.rollout.id().clone(), bed.rollout.plan().clone());
    for (input, at) in &bed.log {
        groundswell_rollout::step(&mut again, input, *at).unwrap();
    }
    assert_eq!(again, bed.rollout);
    // It can be stopped and goes on, as any revert.
    bed.halt();
    bed.resume();
    assert_eq!(bed.phase(), PhaseName::Reverting);
    let promote = bed.refused(steer(Steer::Promote));
    assert_eq!(
        promote.to_string(),
        "the rollout is being reverted; wait for the end, or halt it first"
    );
}

#[test]
fn silence_alone_speaks_against_no_release() {
    let mut bed = Bed::start("max_in_flight = 9\n[[wave]]\nrest = true", 2);
    let [silent, other] = bed.wave(0)[..] else { panic!() };
    bed.fact(silent, HostFact::Staged);
    bed.pass(160);
    assert_eq!(bed.phase(), PhaseName::Reverting, "what is lost counts");
    assert!(bed.rollout.phase().breach().is_some());
    assert!(!bed.rollout.is_spoken_against());
    let mut bed = Bed::start("max_in_flight = 9\nfailure_budget = 1\n[[wave]]\nrest = true", 2);
    bed.fact(silent, HostFact::Staged);
    bed.pass(160);
    bed.failed_with_slot(other);
    assert_eq!(bed.phase(), PhaseName::Reverting);
    assert!(bed.rollout.is_spoken_against(), "one of them has said so");
}

#[test]
fn a_host_that_something_else_brought_there_keeps_it_unless_a_person_takes_it_back() {
    let keys = "max_in_flight = 1\n[[wave]]\nrest = true";
    let brought = |mut bed: Bed| {
        let [first, second] = bed.wave(0)[..] else { panic!() };
        bed.standing(second).running = Some(release(2));
        assert!(bed.report(second));
        assert_eq!(bed.progress(second).name(), ProgressName::Committed);
        (bed, first, second)
    };
    let (mut bed, first, second) = brought(Bed::start(keys, 2));
    bed.failed_with_slot(first);
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })), "{:?}", bed.phase());
    assert!(matches!(bed.action(second), Action::Switch { .. }));
    // It turns up with the release while a person takes that back.
    let mut bed = Bed::start("max_in_flight = 2\n[[wave]]\nrest = true", 2);
    bed.fact(first, HostFact::Staged);
    bed.fact(first, HostFact::SwitchStarted);
    bed.apply(Input::Revert { by: person("ann"), why: "it is slow".to_owned() });
    bed.standing(second).running = Some(release(2));
    assert!(bed.report(second));
    assert!(matches!(bed.action(second), Action::Revert { .. }), "{:?}", bed.progress(second));
}

#[test]
fn a_host_that_was_left_out_and_that_something_else_brought_there_is_not_taken_back() {
    let brought = |rules: u8| {
        let made = planned("max_in_flight = 2\n[[wave]]\nrest = true", 2);
        let mut bed = begun(groundswell_rollout::Plan { rules, ..made });
        let [first, second] = bed.wave(0)[..] else { panic!() };
        bed.apply(steer(Steer::Exclude { host: second }));
        bed.fact(second, HostFact::Passed);
        (bed, first, second)
    };
    let (mut bed, first, second) = brought(groundswell_rollout::RULES);
    bed.failed_with_slot(first);
    assert!(matches!(bed.outcome(), Some(Outcome::Reverted { .. })), "{:?}", bed.phase());
    assert_eq!(bed.action(second), Action::Hold {}, "{:?}", bed.progress(second));
    // Plans of before have been judged otherwise.
    let (mut bed, first, second) = brought(4);
    bed.failed_with_slot(first);
    assert!(matches!(bed.action(second), Action::Revert { .. }), "{:?}", bed.progress(second));
}

#[test]
fn a_held_host_that_is_gone_does_not_hold_its_wave() {
    let mut bed = Bed::start(CANARY, 3);
    let canary = bed.wave(0)[0];
    assert!(says(&mut bed, canary, Some(Lack::Room)));
    bed.apply(Input::Disconnected { host: canary });
    bed.pass(31);
    assert_eq!(bed.progress(canary).name(), ProgressName::Absent);
    bed.apply(Input::Connected { host: canary });
    assert!(says(&mut bed, canary, Some(Lack::Room)), "it says it again");
    assert_eq!(bed.progress(canary).name(), ProgressName::Held);
}

#[test]
fn a_host_that_was_held_and_at_rest_does_not_switch_without_a_slot() {
    let mut bed = Bed::start("max_in_flight = 1\n[[wave]]\nrest = true", 2);
    let [first, second] = bed.wave(0)[..] else { panic!() };
    bed.fact(first, HostFact::Staged);
    assert!(says(&mut bed, first, Some(Lack::Room)));
    bed.fact(first, HostFact::Rested);
    bed.fact(second, HostFact::Staged);
    assert_eq!(bed.progress(second).name(), ProgressName::Granted);
    let lie = Input::Host { host: first, fact: HostFact::SwitchStarted };
    assert_eq!(bed.refused(lie), groundswell_rollout::Refusal::NoChange);
}

#[test]
fn what_a_plan_of_older_rules_keeps_is_not_counted_by_newer_ones() {
    let made = planned("max_in_flight = 9\nfailure_budget = 2\n[[wave]]\nrest = true", 3);
    let mut bed = begun(groundswell_rollout::Plan { rules: 2, ..made });
    let failed = bed.wave(0)[0];
    bed.failed_with_slot(failed);
    assert!(bed.rollout.is_spoken_against(), "by its rules silence speaks, too");
    // As a record of an older build holds it: nobody has counted who spoke.
    let mut record = serde_json::to_value(&bed.rollout).unwrap();
    record["counts"].as_object_mut().unwrap().remove("spoken").unwrap();
    let again: Rollout = serde_json::from_value(record).unwrap();
    assert_eq!(again, bed.rollout);
    bed.rollout = again;
    bed.apply(Input::Disconnected { host: failed });
    bed.apply(Input::Connected { host: failed });
    assert!(groundswell_rollout::check(&bed.rollout).is_empty());
}

#[test]
fn a_wave_that_waited_for_held_hosts_has_its_whole_time_once_it_waits_no_more() {
    let held = |lack| HostFact::Held { lack, why: "no room".to_owned() };
    let plan = || Bed::start("max_in_flight = 9\n[[wave]]\nrest = true", 2).rollout.plan().clone();
    let waited = |rules: u8, lack: Lack| {
        let mut bed = begun(groundswell_rollout::Plan { rules, ..plan() });
        let (host, away) = (bed.wave(0)[0], bed.wave(0)[1]);
        bed.apply(Input::Disconnected { host: away });
        bed.fact(host, held(lack));
        bed.pass(10_000);
        assert_eq!(bed.phase(), PhaseName::Running, "no deadline counts");
        (bed, host, away)
    };
    let retry = |bed: &mut Bed, host| {
        let (by, why) = (person("ann"), "there is room now".to_owned());
        bed.apply(Input::Steer { by, why, steer: Steer::Retry { host } });
    };
    let progress = |bed: &mut Bed, what: &str| {
        assert_eq!(bed.phase(), PhaseName::Running, "{what}");
        bed.pass(3_600);
        assert_eq!(bed.phase(), PhaseName::Halted, "{what}: then it counts");
    };

    let (mut bed, host, _) = waited(RULES, Lack::Stage);
    retry(&mut bed, host);
    progress(&mut bed, "a retry");
    let (mut bed, _, away) = waited(RULES, Lack::Room);
    bed.apply(Input::Connected { host: away });
    progress(&mut bed, "a host that comes back");
    let (mut bed, host, _) = waited(RULES, Lack::Room);
    bed.apply(Input::Disconnected { host });
    bed.pass(31);
    progress(&mut bed, "the held host is away");
    // As older rules had it, so that an old ledger adds up to what it did.
    let (mut bed, host, _) = waited(RULES_WAITED - 1, Lack::Stage);
    retry(&mut bed, host);
    assert_eq!(bed.phase(), PhaseName::Halted);
}
