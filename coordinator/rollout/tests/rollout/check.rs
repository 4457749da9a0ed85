//! The invariants find what is wrong: each test breaks one thing in a sound rollout.

use groundswell_rollout::{Finding, HostFact, ProgressName, Rollout, check};
use serde_json::{Value, json};

use crate::bed::{Bed, person, planned};
use crate::guards::racked;

/// Four hosts of which two are in flight, one is ready and one is staging.
fn sound() -> Bed {
    let keys = "max_in_flight = 2\n[[wave]]\ncount = 4\n[[wave]]\nrest = true\ngate = \"approval\"";
    let mut bed = Bed::start(keys, 6);
    let ids = bed.wave(0);
    for id in &ids[..3] {
        bed.fact(*id, HostFact::Staged);
    }
    let (by, plan) = (person("ann"), bed.rollout.plan_hash());
    bed.apply(groundswell_rollout::Input::Approve { by, plan, wave: Some(1) });
    bed
}

fn broken(path: &str, with: impl FnOnce(&Value) -> Value) -> Vec<Finding> {
    let mut json = serde_json::to_value(sound().rollout).unwrap();
    let place = json.pointer_mut(path).expect(path);
    *place = with(place);
    check(&serde_json::from_value::<Rollout>(json).unwrap())
}

#[test]
fn each_broken_invariant_is_found() {
    let bed = sound();
    let second = bed.wave(1);
    assert_eq!(check(&bed.rollout), []);
    assert_eq!(broken("/plan/waves/0/bake_secs", |_| json!(1)), [Finding::PlanHash]);
    let shape = [Finding::Shape { state: 6, plan: 6 }];
    assert_eq!(broken("/waves", |_| json!([])), shape);
    assert_eq!(broken("/by_id", |by_id| json!([by_id[0]])), shape);
    let swapped = |by_id: &Value| {
        let mut by_id = by_id.as_array().unwrap().clone();
        by_id.reverse();
        Value::Array(by_id)
    };
    let lost = broken("/by_id", swapped);
    assert!(matches!(lost[0], Finding::Index(_)), "{lost:?}");
    let counted = broken("/waves/0/tally/granted", |_| json!(3));
    let name = ProgressName::Granted;
    assert_eq!(counted, [Finding::Count { wave: 0, name, counted: 3, found: 2 }]);
    let failures = broken("/waves/0/failures", |_| json!(1));
    assert_eq!(failures, [Finding::Failures { wave: 0, counted: 1, found: 0 }]);
    let missing = broken("/sets/in_flight", |_| json!([0]));
    assert_eq!(missing, [Finding::Sets]);
    assert_eq!(broken("/sets/ready", |_| json!([2, 77])), [Finding::Sets]);
    let early = broken("/hosts/4/progress", |_| json!("staging"));
    assert!(early.contains(&Finding::ClosedWave(second[0])), "{early:?}");
    assert_eq!(broken("/phase/running/wave", |_| json!(1)), [Finding::PhaseWave(1)]);
    assert_eq!(broken("/phase/running/wave", |_| json!(9)), [Finding::PhaseWave(9)]);
    let twice = |given: &Value| json!([given[0], given[0]]);
    assert_eq!(broken("/approvals", twice), [Finding::TwinApproval]);
    let closed = broken("/waves/0/opened", |_| Value::Null);
    assert!(closed.contains(&Finding::PhaseWave(0)), "{closed:?}");
    let order = broken("/waves/1/opened", |_| json!(5));
    assert!(order.contains(&Finding::ClosedWave(second[0])), "{order:?}");
}

#[test]
fn hosts_in_flight_in_too_many_racks_are_found() {
    let mut plan = planned("max_in_flight = 9\n[[wave]]\nrest = true", 2);
    plan.domains_at_once = 2;
    let mut bed = racked(plan, (2, 1));
    for host in bed.wave(0) {
        bed.fact(host, HostFact::Staged);
    }
    assert_eq!(bed.rollout.in_flight(), 2);
    let mut json = serde_json::to_value(bed.rollout).unwrap();
    json["plan"]["domains_at_once"] = json!(1);
    let findings = check(&serde_json::from_value::<Rollout>(json).unwrap());
    assert_eq!(findings, [Finding::PlanHash, Finding::Domains { domains: 2, at_once: 1 }]);
}

#[test]
fn a_gate_of_a_wave_that_is_not_there_is_found() {
    let keys = "bake_secs = 0\n[[wave]]\ncount = 1\n[[wave]]\nrest = true\ngate = \"manual\"";
    let mut bed = Bed::start(keys, 3);
    bed.obey_all();
    let mut json = serde_json::to_value(bed.rollout).unwrap();
    json["phase"]["gated"]["wave"] = json!(9);
    let findings = check(&serde_json::from_value::<Rollout>(json).unwrap());
    assert_eq!(findings, [Finding::PhaseWave(9)]);
}

#[test]
fn too_many_in_flight_and_waves_out_of_order_are_found() {
    let mut json = serde_json::to_value(sound().rollout).unwrap();
    json["plan"]["waves"][0]["max_in_flight"] = json!(1);
    let findings = check(&serde_json::from_value::<Rollout>(json.clone()).unwrap());
    assert_eq!(findings, [Finding::PlanHash, Finding::InFlight { in_flight: 2, slots: 1 }]);
    json["waves"][0]["opened"] = Value::Null;
    json["waves"][1]["opened"] = json!(5);
    let findings = check(&serde_json::from_value::<Rollout>(json).unwrap());
    assert!(findings.contains(&Finding::WaveOrder(1)), "{findings:?}");
}
