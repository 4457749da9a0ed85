//! Dividing hosts into waves.

use std::collections::BTreeSet;

use groundswell_common::{Digest, HostId, Timestamp};
use groundswell_rollout::{
    Evidence, Guard, GuardKind, HostFacts, Plan, PlanError, Policy, ReleaseRef, Rollout,
    SkipReason, explain, plan,
};

use crate::bed::{host, hosts, planned, policy, reference, release};

#[test]
fn waves_are_cumulative_round_up_and_take_everyone_once() {
    let keys = "[[wave]]\ncount = 1\n[[wave]]\nselector = \"rack=r1\"\n[[wave]]\npercent = 55\n\
        [[wave]]\nrest = true\n";
    let plan = planned(keys, 10);
    let sizes: Vec<usize> = plan.waves.iter().map(|wave| wave.hosts.len()).collect();
    let racked = plan.waves[1].hosts.len();
    assert!((2..=3).contains(&racked), "{sizes:?}");
    assert_eq!(sizes, [1, racked, 6 - 1 - racked, 4]);
    let ids: BTreeSet<_> = plan.waves.iter().flat_map(|wave| &wave.hosts).map(|h| h.id).collect();
    assert_eq!(ids, (0..10).map(host).collect());
    assert_eq!(plan.host_count(), 10);
}

#[test]
fn empty_waves_are_left_out() {
    let plan = planned("", 1);
    assert_eq!(plan.waves.len(), 1);
    assert_eq!(plan.waves[0].name.as_str(), "canary");
    // Said, where it takes nothing away: here everybody is in the first wave.
    let names: Vec<&str> = plan.empty_waves.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["quarter", "rest"]);
}

#[test]
fn a_wave_that_nobody_is_in_takes_no_gate_with_it() {
    let of = |waves: &str| {
        plan(&policy(waves), &hosts(3), &reference(false), &Digest::of(b"seed"))
            .map(|plan| plan.empty_waves.len())
            .map_err(|error| error.to_string())
    };
    let typo = "[[wave]]\nname = \"canary\"\nselector = \"rack=r11\"\n";
    let rest = "[[wave]]\nrest = true\n";
    let error = of(&format!("{typo}{rest}")).unwrap_err();
    assert_eq!(
        error,
        "plan shop: no host is in wave canary (selector = \"rack=r11\"); did you mean rack=r1?"
    );
    assert_eq!(of(&format!("{typo}optional = true\n{rest}")), Ok(1));
    let first = "[[wave]]\ncount = 1\n";
    assert_eq!(of(&format!("{first}{typo}{rest}")), Ok(1), "without a gate it is only said");
    let gated = of(&format!("{first}{typo}gate = \"approval\"\n{rest}"));
    assert!(gated.unwrap_err().contains("no host is in wave canary"));
    // Nobody is left who could pass without it.
    let last = "[[wave]]\ncount = 9\n[[wave]]\nrest = true\ngate = \"approval\"";
    assert_eq!(of(last), Ok(1));
}

#[test]
fn slots_are_at_least_one_and_budgets_round_down() {
    let plan = planned("failure_budget = \"25%\"\n[[wave]]\ncount = 3\n[[wave]]\nrest = true", 11);
    let numbers: Vec<(u32, u32)> =
        plan.waves.iter().map(|wave| (wave.max_in_flight, wave.failure_budget)).collect();
    assert_eq!(numbers, [(1, 0), (1, 2)]);
}

#[test]
fn the_same_input_gives_the_same_hash_and_any_change_another() {
    let base = planned("", 10);
    let mut facts = hosts(10);
    facts.reverse();
    let seed = Digest::of(b"seed");
    let again = plan(&policy(""), &facts, &reference(false), &seed).unwrap();
    assert_eq!(again, base);
    assert_eq!(again.hash(), base.hash());
    assert_eq!(base.hash(), Digest::of(&serde_json::to_vec(&base).unwrap()));
    let other = plan(&policy(""), &facts, &reference(false), &Digest::of(b"x")).unwrap();
    assert_ne!(other.hash(), base.hash());
    assert_ne!(planned("bake_secs = 61", 10).hash(), base.hash());
    let mut moved = base.clone();
    moved.waves[1].hosts.swap(0, 1);
    assert_ne!(moved.hash(), base.hash());
}

#[test]
fn hosts_that_are_away_come_last() {
    let mut facts = hosts(10);
    let canary = planned("", 10).waves[0].hosts[0].id;
    for facts in &mut facts {
        facts.connected = facts.id != canary;
    }
    let seed = Digest::of(b"seed");
    let plan = plan(&policy(""), &facts, &reference(false), &seed).unwrap();
    assert_eq!(plan.waves.last().unwrap().hosts.last().unwrap().id, canary);
}

#[test]
fn what_a_revert_puts_back_is_in_the_plan_and_never_the_release_itself() {
    let mut facts = hosts(2);
    facts[0].running = Some(release(2));
    let plan = plan(&policy(""), &facts, &reference(false), &Digest::of(b"seed")).unwrap();
    let hosts: Vec<_> = plan.waves.iter().flat_map(|wave| &wave.hosts).collect();
    let previous =
        |number| hosts.iter().find(|planned| planned.id == host(number)).unwrap().previous;
    assert_eq!((previous(0), previous(1)), (None, Some(release(1))));
}

#[test]
fn nobody_too_many_and_twins_are_refused() {
    let seed = Digest::of(b"seed");
    let policy = Policy::from_toml("service = \"shop\"\ntargets = \"role=db\"").unwrap();
    let error = plan(&policy, &hosts(3), &reference(false), &seed).unwrap_err();
    let expected = PlanError::NoHosts {
        environment: None,
        service: "shop".parse().unwrap(),
        hosts: 3,
        targets: "role=db".to_owned(),
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("'swell host ls'"));
    let all = Policy::from_toml("service = \"shop\"\ntargets = \"*\"").unwrap();
    let error = plan(&all, &[], &reference(false), &seed).unwrap_err();
    assert!(matches!(&error, PlanError::NoHosts { hosts: 0, targets, .. } if targets == "*"));
    let many: Vec<HostFacts> = std::iter::repeat_n(hosts(1)[0].clone(), 100_001).collect();
    // As many as allowed get further: to their being one and the same.
    for (count, too_many) in [(100_000, false), (100_001, true)] {
        let error = plan(&all, &many[..count], &reference(false), &seed).unwrap_err();
        assert_eq!(matches!(error, PlanError::TooManyHosts { .. }), too_many, "{error}");
    }
    let mut twins = hosts(2);
    twins[1].id = twins[0].id;
    let policy = crate::bed::policy("");
    let error = plan(&policy, &twins, &reference(false), &seed).unwrap_err();
    assert_eq!(error, PlanError::TwinHosts(host(0)));
}

fn made(keys: &str, facts: &[HostFacts]) -> Result<Plan, PlanError> {
    plan(&policy(keys), facts, &reference(false), &Digest::of(b"seed"))
}

fn first(plan: &Plan) -> Vec<HostId> {
    plan.waves[0].hosts.iter().map(|host| host.id).collect()
}

#[test]
fn broken_hosts_come_first_where_the_policy_says_so() {
    let mut facts = hosts(9);
    facts[4].ill = true;
    facts[7].ill = true;
    facts[8].ill = true;
    facts[8].connected = false;
    let keys = "order = \"broken-first\"\n[[wave]]\ncount = 2\n[[wave]]\nrest = true";
    let found: BTreeSet<HostId> = first(&made(keys, &facts).unwrap()).into_iter().collect();
    assert_eq!(found, BTreeSet::from([host(4), host(7)]));
    let seeded = made("[[wave]]\ncount = 2\n[[wave]]\nrest = true", &facts).unwrap();
    assert_eq!(first(&seeded), first(&planned("[[wave]]\ncount = 2\n[[wave]]\nrest = true", 8)));
    assert!(seeded.waves[1].hosts.iter().any(|host| host.ill));
}

#[test]
fn a_percent_counts_weights_where_a_label_gives_them() {
    let mut facts = hosts(10);
    for (facts, weight) in facts.iter_mut().zip([91, 0, 1, 1, 1, 1, 1, 1, 1, 1]) {
        facts.labels = format!("role=web,capacity={weight}").parse().unwrap();
    }
    // Weight 0 counts as 1: 100 together, of which one host has 91.
    let keys = "weight_label = \"capacity\"\n[[wave]]\npercent = 9\n[[wave]]\nrest = true";
    let plan = made(keys, &facts).unwrap();
    let heavy = plan.waves[0].hosts.iter().any(|planned| planned.id == host(0));
    let weights = plan.waves[0].hosts.len() + if heavy { 90 } else { 0 };
    assert!(heavy || weights == 9, "{weights}");
}

#[test]
fn hosts_that_do_not_fit_are_left_out_with_the_reason() {
    let mut facts = hosts(8);
    facts[0].failures_in_a_row = 3;
    facts[1].failed_before = true;
    facts[2].labels = "role=web,arch=arm".parse().unwrap();
    facts[3].running_seq = 4;
    facts[4].usual_secs = Some(3_601);
    for facts in &mut facts[4..] {
        facts.running_seq = 5;
    }
    // Exactly as long as the window.
    facts[5].usual_secs = Some(3_600);
    facts[6].running = None;
    facts[6].running_seq = 0;
    facts[7].failures_in_a_row = 2;
    let release = ReleaseRef {
        requires: "arch!=arm".parse().unwrap(),
        barrier: Some((5, "1.5".parse().unwrap())),
        ..reference(false)
    };
    let keys = "quarantine_after = 3\n[[window]]\nstart = \"01:00\"\nminutes = 60";
    let plan = plan(&policy(keys), &facts, &release, &Digest::of(b"seed")).unwrap();
    let skipped: Vec<(HostId, SkipReason)> =
        plan.skipped.iter().map(|skipped| (skipped.id, skipped.why.clone())).collect();
    let expected = [
        (host(0), SkipReason::Quarantined { failures: 3 }),
        (host(1), SkipReason::FailedBefore),
        (host(2), SkipReason::Unmet { requires: "arch!=arm".to_owned() }),
        (host(3), SkipReason::Barrier { version: "1.5".parse().unwrap() }),
        (host(4), SkipReason::NoWindow { usual_secs: 3_601 }),
    ];
    assert_eq!(skipped, expected);
    let planned = plan.waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.id);
    assert_eq!(planned.collect::<BTreeSet<_>>(), BTreeSet::from([host(5), host(6), host(7)]));
    let rollout = Rollout::new("shop-1".parse().unwrap(), plan);
    let why = explain(&rollout, Some(&host(3)), Timestamp::from_secs(0));
    assert_eq!(why[0].to_string(), "the plan leaves it out: it must run 1.5 first");
}

#[test]
fn a_plan_that_leaves_everyone_out_is_refused() {
    let mut facts = hosts(2);
    facts.iter_mut().for_each(|facts| facts.failed_before = true);
    let error = made("", &facts).unwrap_err();
    let says = "plan shop: all 2 hosts are left out; the first since this release failed on it \
        before; 'swell release clear' offers it again";
    assert_eq!(error.to_string(), says);
}

#[test]
fn guards_are_domains_then_quorum_groups_then_waves() {
    let mut facts = hosts(9);
    for (facts, number) in facts.iter_mut().zip(0..) {
        let (rack, cluster) = (number % 2, number % 3);
        let labels = format!("role=web,rack=r{rack},cluster=c{cluster}");
        facts.labels = labels.parse().unwrap();
    }
    facts[8].labels = "role=web".parse().unwrap();
    let keys = "quorum_label = \"cluster\"\n[failure_domain]\nlabel = \"rack\"\n\
        min_healthy = \"50%\"\n[[wave]]\ncount = 8\nmin_healthy = 5\n[[wave]]\nrest = true";
    let error = made(keys, &facts).unwrap_err();
    // Host 8 left its cluster, which has two members now.
    let kind = GuardKind::Quorum;
    assert_eq!(error, PlanError::NoRoom { kind, name: "c2".to_owned(), hosts: 2 });
    facts[8].labels = "role=web,cluster=c2".parse().unwrap();
    let plan = made(keys, &facts).unwrap();
    let guard =
        |kind, name: &str, hosts, max_down| Guard { kind, name: name.to_owned(), hosts, max_down };
    let expected = [
        guard(GuardKind::Domain, "r0", 4, 2),
        guard(GuardKind::Domain, "r1", 4, 2),
        guard(GuardKind::Quorum, "c0", 3, 1),
        guard(GuardKind::Quorum, "c1", 3, 1),
        guard(GuardKind::Quorum, "c2", 3, 1),
        guard(GuardKind::Wave, "wave-1", 8, 3),
    ];
    assert_eq!(plan.guards, expected);
    assert_eq!(plan.domains_at_once, 1);
    let of = |number: u8| {
        let mut hosts = plan.waves.iter().flat_map(|wave| &wave.hosts);
        hosts.find(|planned| planned.id == host(number)).unwrap().guards.clone()
    };
    let in_first_wave = first(&plan).contains(&host(8));
    assert_eq!(of(8), if in_first_wave { vec![4, 5] } else { vec![4] });
    assert_eq!(of(1)[..2], [1, 3]);
}

#[test]
fn guards_that_would_hold_everyone_for_ever_are_refused() {
    let error = made("min_healthy = 4\n[[wave]]\nrest = true", &hosts(4)).unwrap_err();
    let kind = GuardKind::Wave;
    assert_eq!(error, PlanError::NoRoom { kind, name: "wave-1".to_owned(), hosts: 4 });
    let keys = "[failure_domain]\nlabel = \"rack\"\nmin_healthy = 9";
    let error = made(keys, &hosts(4)).unwrap_err();
    let says = "plan: all 2 hosts of failure domain r0 must stay up, so none could ever switch; \
        lower failure_domain.min_healthy";
    assert_eq!(error.to_string(), says);
}

#[test]
fn history_predicts_how_long_it_takes() {
    let mut facts = hosts(5);
    for (facts, secs) in facts.iter_mut().zip([100, 100, 100, 100, 100]) {
        facts.usual_secs = Some(secs);
    }
    let keys = "max_in_flight = 2\nbake_secs = 30\n[[wave]]\ncount = 1\n[[wave]]\nrest = true";
    // One host, its bake, then four hosts by two, and a bake.
    assert_eq!(made(keys, &facts).unwrap().predicted_secs, 100 + 30 + 200 + 30);
    let alone = "max_in_flight = 1\nbake_secs = 0\n[[wave]]\nrest = true";
    let alike = |host| HostFacts { usual_secs: Some(100), ..host };
    let three: Vec<HostFacts> = hosts(3).into_iter().map(alike).collect();
    assert_eq!(made(alone, &three).unwrap().predicted_secs, 300, "one after the other");
    facts[0].usual_secs = None;
    let total = made(keys, &facts).unwrap();
    let needs: BTreeSet<u64> =
        total.waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.needs_secs).collect();
    assert_eq!(needs, BTreeSet::from([70, 100]), "probe deadline and bake where none is known");
}

#[test]
fn evidence_never_asks_for_more_hosts_than_a_wave_has() {
    let keys = "[evidence]\nhosts = 3\nhost_secs = 60\n[[wave]]\ncount = 1\n[[wave]]\nrest = true";
    let found: Vec<Evidence> = planned(keys, 9).waves.iter().map(|wave| wave.evidence).collect();
    let evidence = |hosts| Evidence { host_secs: 60, hosts };
    assert_eq!(found, [evidence(1), evidence(3)]);
}

#[test]
fn a_revert_puts_back_what_runs_or_what_was_proven_before_the_planned_release() {
    let facts = [Some(release(1)), Some(release(2)), None].into_iter().zip(hosts(3));
    let facts: Vec<HostFacts> = facts
        .map(|(running, host)| HostFacts { running, fallback: Some(release(7)), ..host })
        .collect();
    let plan = made("[[wave]]\nrest = true", &facts).unwrap();
    let previous = |number: u8| {
        let found = plan.waves[0].hosts.iter().find(|planned| planned.id == host(number));
        found.unwrap().previous
    };
    assert_eq!([0, 1, 2].map(previous), [Some(release(1)), Some(release(7)), None]);
}
