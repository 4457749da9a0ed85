//! Dividing hosts into waves.

use std::collections::BTreeSet;

use groundswell_common::Digest;
use groundswell_rollout::{PlanError, Policy, plan};

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
    let plan = planned("[[wave]]\nselector = \"none\"\n[[wave]]\nrest = true", 3);
    assert_eq!(plan.waves.len(), 1);
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
        service: "shop".parse().unwrap(),
        hosts: 3,
        targets: "role=db".to_owned(),
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("'swell host ls'"));
    let mut twins = hosts(2);
    twins[1].id = twins[0].id;
    let policy = crate::bed::policy("");
    let error = plan(&policy, &twins, &reference(false), &seed).unwrap_err();
    assert_eq!(error, PlanError::TwinHosts(host(0)));
}
