//! Rehearsals of whole policies: what a person may rely on in their answers.
#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use groundswell_common::Timestamp;
use groundswell_common::selector::Selector;
use groundswell_rollout::calendar::moment;
use groundswell_rollout::{PlanError, Policy};
use groundswell_sim::rehearse::{
    Case, Course, End, Fleet, FleetError, Pace, Rehearsal, RehearseError, Waiting, WaitsFor, fleet,
    rehearse, send_away,
};

const PACE: Pace = Pace { stage_secs: 30, switch_secs: 5, person_secs: 0 };

fn start() -> Timestamp {
    moment("2026-11-23T10:00Z").expect("a moment")
}

fn setup(policy: &str, hosts: u32) -> Rehearsal {
    let text = format!("service = \"shop\"\n{policy}");
    let policy = Policy::from_toml(&text).expect(&text);
    let wanted = Fleet { hosts, domains: None, labels: Vec::new() };
    let (hosts, _) = fleet(&policy, &wanted).expect("a fleet");
    let (failing, fails_after_secs) = ("0%".parse().expect("none"), None);
    let (start, seed, pace) = (start(), 1, PACE);
    Rehearsal { policy, hosts, start, seed, pace, failing, fails_after_secs }
}

fn run(setup: &Rehearsal, case: Case) -> Course {
    rehearse(setup, case).expect("an answer")
}

const THREE: &str = "targets = \"role=web\"\n[[wave]]\nname = \"canary\"\ncount = 1\n\
    [[wave]]\nname = \"tenth\"\npercent = 10\n[[wave]]\nname = \"rest\"\nrest = true\n";

#[test]
fn the_same_seed_gives_the_same_answer_and_another_seed_another() {
    let one = Rehearsal { failing: "5%".parse().expect("some"), ..setup(THREE, 200) };
    for case in [Case::Good, Case::Bad] {
        assert_eq!(run(&one, case), run(&one, case));
    }
    let other = Rehearsal { seed: 2, ..one.clone() };
    assert_ne!(run(&one, Case::Bad), run(&other, Case::Bad));
}

#[test]
fn a_good_release_reaches_everybody_wave_by_wave() {
    let good = run(&setup(THREE, 200), Case::Good);
    assert_eq!((good.end, good.reached, good.left_on), (End::Finished, 200, 200));
    assert_eq!((good.failures, good.left_failing, good.stop.is_none()), (0, 0, true));
    let sizes: Vec<u32> = good.waves.iter().map(|wave| wave.hosts).collect();
    assert_eq!(sizes, [1, 19, 180]);
    assert!(good.most_in_flight <= 18, "{}", good.most_in_flight);
    let mut last = 0;
    for wave in &good.waves {
        let times = [wave.opened_secs, wave.finished_secs, wave.ended_secs].map(Option::unwrap);
        assert!(times[0] >= last && times.is_sorted(), "{wave:?}");
        assert_eq!(times[2] - times[1], 60, "the bake of the policy");
        assert_eq!(wave.reached, wave.hosts);
        last = times[2];
    }
    assert_eq!(last, good.secs);
    assert!(good.points.len() <= 480 && good.points.iter().any(|point| point.on == 200));
}

#[test]
fn a_bad_release_with_no_budget_and_a_canary_of_one_reaches_one_host() {
    for answer in ["halt", "pause", "revert-all"] {
        let policy = format!("failure_budget = 0\non_breach = \"{answer}\"\n{THREE}");
        let bad = run(&setup(&policy, 1_000), Case::Bad);
        assert_eq!((bad.reached, bad.most_on, bad.failures), (1, 1, 1), "{answer}");
        let stop = bad.stop.as_ref().expect("a stop");
        assert_eq!((stop.wave, stop.failures, stop.after_failure_secs), (Some(0), 1, Some(0)));
        // Its probes never pass, which shows at their deadline.
        assert_eq!(stop.after_switch_secs, Some(60));
        assert_eq!(stop.why, "1 host of wave 1 failed, its budget is 0");
        let want = match answer {
            "halt" => End::Halted,
            "pause" => End::Paused,
            _ => End::Reverted,
        };
        assert_eq!((bad.end, bad.left_on), (want, 0), "it went back by itself");
        assert_eq!(bad.back_secs.is_some(), want == End::Reverted);
        assert!(bad.waves[1].opened_secs.is_none());
    }
}

#[test]
fn it_stops_with_the_first_failure_beyond_the_budget() {
    for budget in [0, 1, 4, 9] {
        let policy = format!(
            "targets = \"*\"\nfailure_budget = {budget}\non_breach = \"halt\"\nmax_in_flight = 1\n\
             progress_deadline_secs = 6000\n[[wave]]\nrest = true\n"
        );
        let bad = run(&setup(&policy, 40), Case::Bad);
        let stop = bad.stop.expect("a stop");
        assert_eq!(
            (stop.failures, bad.failures, bad.reached),
            (budget + 1, budget + 1, budget + 1)
        );
    }
    // One at a time nobody commits for ten minutes before there are so many failures.
    let policy = "targets = \"*\"\nfailure_budget = 20\nmax_in_flight = 1\n[[wave]]\nrest = true\n";
    let bad = run(&setup(policy, 40), Case::Bad);
    assert_eq!((bad.end, bad.stop.expect("a stop").at_secs / 60), (End::Halted, 10));
    // As many failures as there may be do not stop a good release.
    let policy = "targets = \"*\"\nfailure_budget = \"2%\"\n[[wave]]\nrest = true\n";
    let lucky = Rehearsal { failing: "2%".parse().expect("some"), ..setup(policy, 500) };
    let good = run(&lucky, Case::Good);
    assert_eq!((good.end, good.failing, good.failures, good.left_on), (End::Finished, 10, 10, 490));
    let unlucky = Rehearsal { failing: "2.2%".parse().expect("some"), ..lucky };
    let good = run(&unlucky, Case::Good);
    assert_eq!((good.end, good.stop.expect("a stop").failures), (End::Reverted, 11));
    assert_eq!(good.left_on, 0);
}

#[test]
fn fewer_at_once_take_longer_and_reach_fewer() {
    let with = |flight: u32| {
        let policy = format!(
            "targets = \"*\"\nmax_in_flight = {flight}\nfailure_budget = 3\non_breach = \"halt\"\n\
             [[wave]]\nrest = true\n"
        );
        let setup = setup(&policy, 120);
        (run(&setup, Case::Good), run(&setup, Case::Bad))
    };
    let answers = [1, 5, 20, 60].map(with);
    for pair in answers.windows(2) {
        let [(slow, few), (fast, many)] = pair else { panic!("two") };
        assert!(slow.secs > fast.secs, "{} {}", slow.secs, fast.secs);
        assert!(few.reached < many.reached, "{} {}", few.reached, many.reached);
        assert_eq!(few.stop.as_ref().expect("a stop").failures, 4);
    }
}

#[test]
fn a_window_makes_it_last_over_night() {
    let policy = "targets = \"*\"\nmax_in_flight = 10\n[[window]]\nstart = \"22:00\"\nminutes = 120\n\
        [[freeze]]\nfrom = \"2026-11-24T00:00Z\"\nuntil = \"2026-11-26T00:00Z\"\nwhy = \"a sale\"\n\
        [[wave]]\ncount = 1\nbake_secs = 7200\n[[wave]]\nrest = true\n";
    let good = run(&setup(policy, 100), Case::Good);
    assert_eq!(good.end, End::Finished);
    let hour = 3600;
    let canary = good.waves[0].finished_secs.expect("finished");
    assert!((12 * hour..13 * hour).contains(&canary), "it waits for 22:00: {canary}");
    // The bake is over at midnight, the window of the next two nights is frozen.
    let rest = good.waves[1].finished_secs.expect("finished");
    assert!((84 * hour..86 * hour).contains(&rest), "{rest}");
    assert_eq!(good.shut.first().map(|span| (span.from_secs, span.to_secs)), Some((0, 12 * hour)));
    assert_eq!(good.shut.get(1).map(|span| span.to_secs), Some(84 * hour));
}

#[test]
fn a_release_that_fails_late_is_seen_only_while_somebody_looks() {
    let late = |secs, bake| {
        let policy = format!("bake_secs = {bake}\n{THREE}");
        let setup = Rehearsal { fails_after_secs: Some(secs), ..setup(&policy, 100) };
        run(&setup, Case::Bad)
    };
    // Within the bake of the host: it goes back by itself.
    let bad = late(5, 60);
    assert_eq!((bad.end, bad.reached, bad.left_on), (End::Reverted, 1, 0));
    // Within the bake of the wave.
    let bad = late(40, 60);
    assert_eq!((bad.end, bad.reached, bad.failures), (End::Reverted, 1, 1));
    assert!(bad.back_secs.is_some_and(|secs| secs > 0), "somebody must put it back");
    // The canary's bake is over before; another wave has it when the canary fails.
    let bad = late(100, 60);
    assert_eq!((bad.end, bad.left_on), (End::Reverted, 0));
    assert!((2..=10).contains(&bad.reached), "{}", bad.reached);
    // Nobody looks any more: the release is everywhere, and fails everywhere.
    let bad = late(3_600, 60);
    assert_eq!((bad.end, bad.left_on, bad.left_failing), (End::Finished, 100, 100));
    // The agent does not look for so long, whatever the wave's bake.
    let bad = late(1_000, 2_000);
    assert_eq!((bad.end, bad.left_failing), (End::Finished, 100));
}

#[test]
fn gates_open_when_their_persons_come_and_are_listed() {
    let policy = "targets = \"*\"\n[[wave]]\ncount = 1\n[[wave]]\ncount = 9\ngate = \"approval\"\n\
        approvals = 2\nfour_eyes = true\n[[wave]]\nrest = true\ngate = [\"approval\", \"manual\"]\n";
    let prompt = setup(policy, 50);
    let pace = Pace { person_secs: 1_800, ..PACE };
    let slow = Rehearsal { pace, ..prompt.clone() };
    let (prompt, slow) = (run(&prompt, Case::Good), run(&slow, Case::Good));
    assert_eq!(
        (prompt.end, slow.end, slow.secs),
        (End::Finished, End::Finished, prompt.secs + 3_600)
    );
    let gates: Vec<_> =
        slow.gates.iter().map(|gate| (gate.wave, gate.approvals, gate.manual)).collect();
    assert_eq!(gates, [(1, 2, false), (2, 1, true)]);
    for gate in &slow.gates {
        assert_eq!(gate.opened_secs, Some(gate.asked_secs + 1_800));
    }
}

#[test]
fn hosts_that_are_away_hold_nobody_and_are_not_reached() {
    let mut setup = setup(THREE, 100);
    let away = send_away(&mut setup.hosts, &setup.policy, "10%".parse().expect("some"), 1);
    let good = run(&setup, Case::Good);
    assert_eq!((away, good.end, good.reached, good.hosts), (10, End::Finished, 90, 100));
    let away = send_away(&mut setup.hosts, &setup.policy, "100%".parse().expect("all"), 1);
    let good = run(&setup, Case::Good);
    assert_eq!((away, good.end, good.reached), (100, End::Halted, 0), "nobody can show anything");
}

#[test]
fn hosts_slower_than_the_probe_deadline_fail() {
    let setup = Rehearsal { pace: Pace { switch_secs: 40, ..PACE }, ..setup(THREE, 300) };
    let good = run(&setup, Case::Good);
    assert_eq!(good.end, End::Reverted);
    assert!(good.too_slow > 0 && good.failing == 0, "{}", good.too_slow);
    assert_eq!(good.too_slow, good.failures);
}

#[test]
fn guards_domains_and_prefetch_hold() {
    let policy = "targets = \"role=db\"\nquorum_label = \"group\"\nmax_in_flight = 30\nprefetch = true\n\
        min_healthy = \"80%\"\n[failure_domain]\nlabel = \"rack\"\nat_once = 2\nmin_healthy = \"50%\"\n\
        [evidence]\nhost_secs = 600\n[[wave]]\nrest = true\n";
    let good = run(&setup(policy, 90), Case::Good);
    assert_eq!((good.end, good.reached), (End::Finished, 90));
    assert!(good.most_in_flight <= 18, "{}", good.most_in_flight);
}

#[test]
fn a_quorum_group_with_a_host_away_holds_its_others_and_that_is_said() {
    let policy =
        "targets = \"*\"\nquorum_label = \"group\"\nmax_in_flight = 30\n[[wave]]\nrest = true\n";
    let mut setup = setup(policy, 90);
    send_away(&mut setup.hosts, &setup.policy, "1%".parse().expect("one"), 1);
    let good = run(&setup, Case::Good);
    let waiting = vec![Waiting { hosts: 2, what: WaitsFor::Quorum }];
    assert_eq!((good.end, good.reached, good.waiting), (End::Halted, 87, waiting));
}

#[test]
fn a_fleet_has_what_the_policy_asks_for() {
    let policy = "service = \"shop\"\ntargets = \"role=web,zone in (a,b)\"\nquorum_label = \"group\"\n\
        [failure_domain]\nlabel = \"rack\"\n[[wave]]\nname = \"early\"\nselector = \"early\"\n\
        [[wave]]\nrest = true\n";
    let policy = Policy::from_toml(policy).expect("a policy");
    let wanted = Fleet { hosts: 120, domains: None, labels: Vec::new() };
    let (hosts, said) = fleet(&policy, &wanted).expect("a fleet");
    let having = |text: &str| {
        let selector: Selector = text.parse().expect(text);
        hosts.iter().filter(|host| selector.matches(&host.labels)).count()
    };
    assert_eq!((having("role=web"), having("zone=a"), having("early")), (120, 60, 60));
    assert_eq!((having("rack=rack-1"), having("rack=rack-1,early")), (30, 15));
    assert_eq!(having("group=group-40"), 2, "40 groups in two halves");
    assert_eq!(said.len(), 4, "{said:?}");
    let labels = ["role=web", "early=yes*10%", "early=no*5", "zone=a"];
    let labels = labels.map(|label| label.parse().expect(label)).to_vec();
    let (hosts, _) = fleet(&policy, &Fleet { labels, ..wanted.clone() }).expect("a fleet");
    let early = |value| hosts.iter().filter(|host| host.labels.get("early") == value).count();
    assert_eq!((early(Some("yes")), early(Some("no")), early(None)), (12, 5, 103));
    let labels = vec!["early=yes*121".parse().expect("a label")];
    let error = fleet(&policy, &Fleet { labels, ..wanted.clone() }).expect_err("too many");
    assert!(matches!(error, FleetError::Label { wanted: 121, left: 120, .. }), "{error}");
    for hosts in [0, 100_001] {
        let error = fleet(&policy, &Fleet { hosts, ..wanted.clone() }).expect_err("a size");
        assert_eq!(error, FleetError::Size { hosts });
    }
}

#[test]
fn a_webhook_says_pass_and_what_the_planner_refuses_is_refused() {
    let hook =
        "targets = \"*\"\nwebhook = \"http://h\"\n[[wave]]\nrest = true\ngate = \"webhook\"\n";
    let course = rehearse(&setup(hook, 10), Case::Good).expect("a course");
    assert_eq!(course.gates.len(), 1, "{:?}", course.gates);
    let torn = "targets = \"role=web,role=db\"\n[[wave]]\nrest = true\n";
    let error = rehearse(&setup(torn, 10), Case::Good).expect_err("no hosts");
    assert!(matches!(error, RehearseError::Plan(PlanError::NoHosts { .. })), "{error}");
}
