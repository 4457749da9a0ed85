//! Owns the targets of what people write: tokens, selectors, labels, policies.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use groundswell_common::selector::Selector;
use groundswell_common::token::Token;
use groundswell_common::{Digest, HostId, Labels, ReleaseId};
use groundswell_rollout::{Gate, HostFacts, PlanError, Policy, ReleaseRef, plan};

use crate::memory::bounded;

const MIB: usize = 1 << 20;

/// What is read prints as a text that reads as the same value and prints the same.
fn printed<T: FromStr + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value = bounded(MIB, || text.parse::<T>()).ok()?;
    let print = value.to_string();
    let again = print.parse::<T>().ok().expect("a printed value can be read");
    assert_eq!(again, value);
    assert_eq!(again.to_string(), print);
    Some(value)
}

/// An enrolment token.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    printed::<Token>(text);
    // The JSON inside, which base64 hides from mutation.
    if let Ok(token) = serde_json::from_str::<Token>(text) {
        let line = token.to_string();
        match line.parse::<Token>() {
            Ok(read) => assert_eq!(read, token),
            Err(error) => assert!(line.len() > 2048, "{error}"),
        }
    }
}

/// A selector, and the labels after the first line: it takes a host exactly when its printed form does.
pub fn selector(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, labels) = text.split_once('\n').unwrap_or((text, ""));
    let Some(selector) = printed::<Selector>(text) else { return };
    let json = serde_json::to_string(&selector).expect("a selector becomes JSON");
    assert_eq!(serde_json::from_str::<Selector>(&json).expect("and comes back"), selector);
    if let Ok(labels) = labels.parse::<Labels>() {
        let again: Selector = selector.to_string().parse().expect("printed");
        assert_eq!(again.matches(&labels), selector.matches(&labels));
        assert!(!selector.is_everything() || selector.matches(&labels));
    }
}

/// Labels.
pub fn labels(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(labels) = printed::<Labels>(text) else { return };
    assert!(labels.iter().all(|(key, value)| labels.get(key.as_str()) == Some(value.as_str())));
    let json = serde_json::to_string(&labels).expect("labels become JSON");
    assert_eq!(serde_json::from_str::<Labels>(&json).expect("and come back"), labels);
}

/// A policy: it survives JSON, and plans every host that it takes exactly once.
pub fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let policy = match bounded(8 * MIB, || Policy::from_toml(text)) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let json = serde_json::to_string(&policy).expect("a policy becomes JSON");
    assert_eq!(serde_json::from_str::<Policy>(&json).expect("and comes back"), policy);
    let hosts: Vec<HostFacts> = (0..23).map(host).collect();
    let id = ReleaseId::from_digest(Digest::of(b"release"));
    let release = ReleaseRef::new(id, "1".parse().expect("version"));
    let taken = hosts.iter().filter(|host| policy.targets.matches(&host.labels)).count();
    let planned = match plan(&policy, &hosts, &release, &Digest::of(b"seed")) {
        Ok(planned) => planned,
        Err(error) => return refused(&policy, taken, &error),
    };
    let mut ids: Vec<HostId> =
        planned.waves.iter().flat_map(|wave| wave.hosts.iter().map(|host| host.id)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), planned.host_count()), (taken, taken), "each host once");
    assert!(planned.waves.iter().all(|wave| wave.max_in_flight >= 1 && !wave.hosts.is_empty()));
}

/// A policy that takes hosts has a plan, unless it says itself which hosts must be there or must stay up.
fn refused(policy: &Policy, taken: usize, error: &PlanError) {
    match error {
        PlanError::NoHosts { .. } => assert_eq!(taken, 0, "{error}"),
        PlanError::EmptyWave { wave, .. } => {
            let at = policy.waves.iter().position(|of| of.name == *wave).expect("a wave of the policy");
            let wave = &policy.waves[at];
            assert!(!wave.optional && (at == 0 || wave.gate != Gate::default()), "{error}");
        }
        PlanError::NoRoom { .. } => {
            let own = policy.waves.iter().any(|wave| wave.min_healthy.is_some());
            let all = policy.domain.is_some() || policy.quorum_label.is_some() || policy.min_healthy.is_some();
            assert!(own || all, "{error}");
        }
        PlanError::TooManyHosts { .. } | PlanError::AllSkipped { .. } | PlanError::TwinHosts(_) => {
            panic!("{error}: each host is there once, and none is left out")
        }
    }
}

fn host(number: u8) -> HostFacts {
    let role = if number.is_multiple_of(3) { "web" } else { "db" };
    let labels = format!("role={role},rack={}", number % 5).parse().expect("labels");
    let name = format!("host-{number}").parse().expect("name");
    let id = HostId::from_bytes([number; 16]);
    HostFacts { connected: number.is_multiple_of(2), ..HostFacts::new(id, name, labels) }
}
