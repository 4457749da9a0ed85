//! First policies: each is read, plans, and does what its answers asked for.

use groundswell_common::{Digest, HostId};
use groundswell_rollout::policy::{Gate, PolicyError, PolicyFault};
use groundswell_rollout::recipe::{Answers, Windows, policy_text};
use groundswell_rollout::{Amount, HostFacts, Plan, Policy, plan};

use crate::bed::reference;

fn answers(hosts: u32, windows: Windows, approval: bool) -> Answers {
    let (service, targets) = ("shop".parse().unwrap(), "role=web".parse().unwrap());
    Answers { service, targets, hosts, windows, approval }
}

fn zones() -> Windows {
    Windows::Many(vec!["Europe/Berlin".to_owned(), "America/New_York".to_owned()])
}

/// The policy of the answers, and its plan for as many hosts, on four sites.
fn made(answers: &Answers) -> (Policy, Plan) {
    let policy = Policy::from_toml(&policy_text(answers)).unwrap();
    let host = |number: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let labels = format!("role=web,site=s{}", number % 4).parse().unwrap();
        let name = format!("web-{number}").parse().unwrap();
        HostFacts::new(HostId::from_bytes(id), name, labels)
    };
    let hosts: Vec<HostFacts> = (0..answers.hosts).map(host).collect();
    let plan = plan(&policy, &hosts, &reference(false), &Digest::of(b"seed")).unwrap();
    (policy, plan)
}

fn sizes(plan: &Plan) -> Vec<(&str, usize, u32)> {
    let size = |wave| -> (&str, usize, u32) {
        let wave: &groundswell_rollout::PlannedWave = wave;
        (wave.name.as_str(), wave.hosts.len(), wave.max_in_flight)
    };
    plan.waves.iter().map(size).collect()
}

#[test]
fn a_small_fleet_goes_one_host_and_then_one_by_one() {
    let (policy, plan) = made(&answers(20, Windows::Always, false));
    assert_eq!(sizes(&plan), [("canary", 1, 1), ("rest", 19, 1)]);
    assert_eq!(policy.failure_budget, Amount::Count(0));
    assert_eq!((policy.windows.len(), policy.domain), (0, None));
    assert!(plan.waves.iter().all(|wave| wave.gate == Gate::default()));
}

#[test]
fn one_host_is_one_wave_and_one_more_than_small_is_four() {
    let (_, plan) = made(&answers(1, Windows::Always, true));
    assert_eq!(sizes(&plan), [("canary", 1, 1)]);
    let (_, plan) = made(&answers(21, Windows::Always, false));
    assert_eq!(sizes(&plan), [("canary", 1, 1), ("tenth", 2, 1), ("half", 8, 1), ("rest", 10, 1)]);
}

#[test]
fn one_site_switches_in_its_evening() {
    let (policy, plan) = made(&answers(400, Windows::One("Europe/Berlin".to_owned()), false));
    assert_eq!(policy.domain, None);
    assert_eq!(plan.windows.len(), 1);
    let window = &plan.windows[0];
    assert_eq!((window.zone.as_str(), window.start_minute), ("Europe/Berlin", 22 * 60));
    assert_eq!((window.days.as_slice(), window.minutes), ([0, 1, 2, 3, 4].as_slice(), 240));
    assert_eq!(
        sizes(&plan),
        [("canary", 2, 1), ("tenth", 38, 3), ("half", 160, 16), ("rest", 200, 20)]
    );
}

#[test]
fn many_sites_go_one_at_a_time_after_an_approval() {
    let (policy, plan) = made(&answers(4000, zones(), true));
    let zones: Vec<&str> = plan.windows.iter().map(|window| window.zone.as_str()).collect();
    assert_eq!(zones, ["Europe/Berlin", "America/New_York"]);
    assert_eq!(policy.domain.map(|domain| domain.label.to_string()), Some("site".to_owned()));
    assert_eq!((plan.domains_at_once, plan.guards.len()), (1, 4));
    let approvals: Vec<u32> = plan.waves.iter().map(|wave| wave.gate.approvals).collect();
    assert_eq!(approvals, [0, 1, 0, 0]);
    assert_eq!(plan.waves[0].hosts.len(), 10, "a canary has at most ten hosts");
}

#[test]
fn a_small_fleet_may_have_windows_and_an_approval_too() {
    let (policy, plan) = made(&answers(5, zones(), true));
    assert_eq!(policy.windows.len(), 2);
    assert_eq!(plan.waves[1].gate, Gate { approvals: 1, ..Gate::default() });
}

#[test]
fn every_host_and_labels_with_quotes_are_written_so_that_they_are_read_again() {
    let mut all = answers(3, Windows::Always, false);
    all.targets = groundswell_common::selector::Selector::default();
    assert!(policy_text(&all).contains("\ntargets = \"*\"\n"));
    assert_eq!(made(&all).0.targets, all.targets);
    let some = answers(3, Windows::Always, false);
    assert_eq!(made(&some).0.targets, some.targets);
    let odd = answers(3, Windows::One("no\"where\n".to_owned()), false);
    let error = Policy::from_toml(&policy_text(&odd)).unwrap_err();
    let PolicyError::Rule { fault, .. } = error else { panic!("{error}") };
    assert_eq!(fault, PolicyFault::Zone("no\"where\n".to_owned()));
}
