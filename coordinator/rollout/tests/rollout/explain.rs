//! One sentence a reason, for every phase and every kind of progress.

use groundswell_common::{HostId, Timestamp};
use groundswell_rollout::{HostFact, Input, KeepOrRevert, PhaseName, earliest, explain};

use crate::bed::{Bed, host, person, planned};

fn whole(bed: &Bed) -> String {
    let why = explain(&bed.rollout, None, bed.at.now);
    why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

fn of(bed: &Bed, at: usize) -> String {
    explain(&bed.rollout, Some(&bed.wave(0)[at]), bed.at.now)[0].to_string()
}

const KEYS: &str = "max_in_flight = 2\n[[wave]]\ncount = 3\n[[wave]]\nrest = true\n\
    gate = \"approval\"";

#[test]
fn each_phase_says_what_it_waits_for() {
    let mut bed = Bed::of(planned(KEYS, 4));
    assert_eq!(whole(&bed), "the rollout has not started");
    bed.apply(Input::Start { away: Vec::new(), busy: Vec::new() });
    assert_eq!(
        whole(&bed),
        "wave 1 is open: 0 of 3 hosts committed, 0 in flight (2 slots), 3 staging, 0 ready; it \
         halts at 1970-01-12T13:56:40.000Z unless a host commits or bytes arrive before"
    );
    bed.obey_all();
    assert_eq!(
        whole(&bed),
        "wave 1 is finished and bakes until 1970-01-12T13:47:40.000Z (60 s left)"
    );
    bed.apply(Input::Pause { by: person("ann"), why: "lunch".to_owned() });
    let paused = "ann paused it: lunch; 'swell resume' goes on in the bake of wave 1 (60 s left)";
    assert_eq!(whole(&bed), paused);
    bed.resume();
    bed.pass(60);
    let plan = bed.rollout.plan_hash().short();
    let waits = format!(
        "wave 2 waits for approval: 0 of 1 persons approved plan {plan}; 'swell approve shop'"
    );
    assert_eq!(whole(&bed), waits);
    let (by, why) = (person("ann"), "slow".to_owned());
    bed.apply(Input::Revert { by, why });
    let back =
        "it goes back, now in wave 1, 3 hosts left of those connected: ann reverted it: slow";
    assert_eq!(whole(&bed), back);
    let (by, why, keep) = (person("ben"), "fine".to_owned(), KeepOrRevert::Keep);
    bed.apply(Input::Abort { by, why, keep });
    assert_eq!(whole(&bed), "it is over: ben aborted it and kept what runs: fine");
    bed.apply(Input::Supersede { by: "shop-8".parse().unwrap() });
    assert!(whole(&bed).starts_with("rollout shop-8 took over | it is over"));
}

#[test]
fn each_host_says_where_it_is() {
    let mut bed = Bed::start(&format!("failure_budget = 3\n{KEYS}"), 4);
    let pending = bed.wave(1)[0];
    let why = explain(&bed.rollout, Some(&pending), bed.at.now);
    assert_eq!(why[0].to_string(), "it is in wave 2; the rollout is at wave 1");
    assert!(why[1].to_string().starts_with("wave 1 is open"), "{why:?}");
    let id = bed.wave(0)[0];
    assert_eq!(of(&bed, 0), "it fetches and unpacks the release");
    bed.fact(id, HostFact::Staged);
    assert!(of(&bed, 0).starts_with("it may switch and has not said that it did"));
    bed.fact(id, HostFact::SwitchStarted);
    assert!(of(&bed, 0).starts_with("it has switched and its probes have not passed yet"));
    bed.fact(id, HostFact::Passed);
    assert!(of(&bed, 0).starts_with("its probes pass and it is watched"));
    bed.fact(id, HostFact::Committed);
    assert_eq!(of(&bed, 0), "it runs the release");
    let failing = bed.wave(0)[1];
    bed.failed_stage(failing);
    let staged = "it could not stage the release, which is no failure of it: digest differs; \
        'swell rollout retry' tries it again";
    assert_eq!(of(&bed, 1), staged);
    bed.fact(failing, HostFact::Staged);
    bed.failed(failing);
    assert_eq!(
        of(&bed, 1),
        "the release failed on it (probe): probe answered 500; the release before it is live again"
    );
    let id = bed.wave(0)[2];
    bed.fact(id, HostFact::Staged);
    bed.apply(Input::Disconnected { host: id });
    assert_eq!(of(&bed, 2), "it is not connected since 1970-01-12T13:46:40.000Z");
    bed.pass(160);
    let why = explain(&bed.rollout, Some(&id), bed.at.now)[1].to_string();
    assert_eq!(
        why,
        "it held a slot and did not say in time that it was done: it may run the release; 'swell rollout retry' \
         tries it again"
    );
    let stranger = explain(&bed.rollout, Some(&host(99)), bed.at.now);
    assert_eq!(stranger.len(), 1);
    assert!(stranger[0].to_string().ends_with("is not in this rollout's plan"));
}

#[test]
fn an_open_wave_counts_its_hosts_by_what_they_do() {
    let mut bed = Bed::start("max_in_flight = 9\n[[wave]]\nrest = true", 6);
    let ids = bed.wave(0);
    bed.fact(ids[0], HostFact::Staged);
    for (id, facts) in [
        (ids[1], &[HostFact::Staged, HostFact::SwitchStarted][..]),
        (ids[2], &[HostFact::Staged, HostFact::SwitchStarted]),
        (ids[3], &[HostFact::Staged, HostFact::SwitchStarted, HostFact::Passed]),
        (ids[4], &[HostFact::Staged, HostFact::Passed, HostFact::Committed]),
    ] {
        for fact in facts {
            bed.fact(id, fact.clone());
        }
    }
    let said = whole(&bed);
    let counts = "1 of 6 hosts committed, 4 in flight (9 slots), 1 staging, 0 ready";
    assert!(said.contains(counts), "{said}");
    let done = explain(&bed.rollout, Some(&ids[4]), bed.at.now);
    assert_eq!(done.len(), 1, "a host that is done waits for nothing: {done:?}");
}

#[test]
fn the_earliest_moment_counts_the_bakes_in_between() {
    let keys = "bake_secs = 60\n[[wave]]\ncount = 1\n[[wave]]\ncount = 1\nbake_secs = 100\n\
        [[wave]]\ncount = 1\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 4);
    let hosts: Vec<HostId> = (0..4).map(|wave| bed.wave(wave)[0]).collect();
    let secs = |bed: &Bed| -> Vec<Option<u64>> {
        let at = |id: &HostId| earliest(&bed.rollout, id, bed.at.now);
        let since = |at: Timestamp| at.millis_since(bed.at.now) / 1_000;
        hosts.iter().map(|id| at(id).map(since)).collect()
    };
    assert_eq!(secs(&bed), [Some(0), Some(60), Some(160), Some(220)]);
    bed.obey_all();
    assert_eq!(secs(&bed), [None, Some(60), Some(160), Some(220)], "the first wave bakes");
    bed.apply(Input::Disconnected { host: hosts[2] });
    assert_eq!(secs(&bed), [None, Some(60), None, Some(220)], "time alone brings nobody back");
    bed.pass(60);
    assert_eq!(secs(&bed), [None, Some(0), None, Some(160)], "the second wave is open");

    let mut bed =
        Bed::start("absent_after_secs = 5\n[[wave]]\ncount = 2\n[[wave]]\nrest = true", 3);
    let late = bed.wave(0)[0];
    bed.apply(Input::Disconnected { host: late });
    bed.obey_all();
    bed.pass(10);
    assert_eq!(bed.phase(), PhaseName::Baking);
    bed.apply(Input::Connected { host: late });
    let now = bed.at.now;
    assert_eq!(earliest(&bed.rollout, &late, now), Some(now), "its wave is open");
    bed.pass(60);
    assert_eq!((bed.phase(), bed.rollout.wave()), (PhaseName::Running, Some(1)));
    let now = bed.at.now;
    assert_eq!(earliest(&bed.rollout, &late, now), Some(now), "and it may still go");
}

#[test]
fn the_end_names_those_that_are_not_there_yet() {
    let mut bed = Bed::start("max_in_flight = 9\nfailure_budget = 2\n[[wave]]\nrest = true", 4);
    let ids = bed.wave(0);
    bed.fact(ids[0], HostFact::Staged);
    for away in [ids[0], ids[1]] {
        bed.apply(Input::Disconnected { host: away });
    }
    bed.obey_all();
    bed.pass(100_000);
    assert_eq!(whole(&bed), "it is over: completed; not there yet: 2 hosts");
}

#[test]
fn a_breach_and_a_guard_name_what_is_full() {
    let mut bed = Bed::start("on_breach = \"halt\"\n[[wave]]\nrest = true", 3);
    bed.failed_with_slot(bed.wave(0)[0]);
    assert!(whole(&bed).contains("1 host of wave 1 failed, its budget is 0"), "{}", whole(&bed));
    let keys =
        "failure_budget = 9\nrollout_budget = 0\non_breach = \"halt\"\n[[wave]]\nrest = true";
    let mut bed = Bed::start(keys, 3);
    bed.failed_with_slot(bed.wave(0)[0]);
    let all = "1 host failed, the budget of the whole rollout is 0";
    assert!(whole(&bed).contains(all), "{}", whole(&bed));

    for (keys, name) in [
        ("[failure_domain]\nlabel = \"rack\"\nmin_healthy = 1\n", "failure domain r"),
        ("quorum_label = \"rack\"\n", "quorum group r"),
        ("min_healthy = 8\n", "wave "),
    ] {
        let mut bed = Bed::start(&format!("max_in_flight = 9\n{keys}[[wave]]\nrest = true"), 9);
        for id in bed.wave(0) {
            bed.fact(id, HostFact::Staged);
        }
        let waits = |id: &HostId| explain(&bed.rollout, Some(id), bed.at.now);
        let guarded = |id: &HostId| waits(id).iter().any(|why| why.to_string().starts_with(name));
        assert!(bed.wave(0).iter().any(guarded), "{name}");
    }
}

#[test]
fn a_host_that_is_away_is_not_said_to_fetch_and_a_failure_is_one_line_with_its_cause() {
    let mut bed = Bed::start(KEYS, 4);
    let [away, failing] = [bed.wave(0)[0], bed.wave(0)[1]];
    let told = |bed: &Bed, id: &HostId| {
        let why = explain(&bed.rollout, Some(id), bed.at.now);
        why.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    };
    assert!(told(&bed, &away).contains("it fetches and unpacks the release"));
    bed.apply(Input::Disconnected { host: away });
    let said = told(&bed, &away);
    assert!(said.contains("it is not connected") && !said.contains("fetches"), "{said}");
    bed.fact(failing, HostFact::Staged);
    let why = "no; its last output:\nno space left\nweb.service: Failed with result 'resources'.";
    bed.fact(failing, HostFact::Stuck { why: why.to_owned() });
    let said = told(&bed, &failing);
    assert!(said.contains("no; it said last: no space left; once that is mended"), "{said}");
    assert!(!said.contains('\n'), "{said}");
}
