//! Which hosts must not be down together: failure domains, quorum groups and waves with a minimum of
//! healthy hosts. Owns how they are found when a plan is made; [`crate::slots`] holds them.

use std::collections::BTreeMap;

use groundswell_common::Label;

use crate::plan::{Guard, GuardKind, HostFacts, PlanError, PlannedWave};
use crate::policy::Policy;

/// Finds the guards of a plan and writes into each host which are its own. A host without the label
/// has no such guard. Each lets `least` hosts be down, whatever the policy says: on the way back one.
pub(crate) fn guards(
    policy: &Policy,
    waves: &mut [(PlannedWave, Vec<&HostFacts>)],
    least: u32,
) -> Result<Vec<Guard>, PlanError> {
    let mut guards = Vec::new();
    let down = |hosts: u32, healthy: u32| (hosts - healthy.min(hosts)).max(least);
    if let Some(domain) = &policy.domain {
        let max_down = |hosts: u32| down(hosts, domain.min_healthy.of(hosts));
        by_label(&mut guards, waves, (GuardKind::Domain, &domain.label, &max_down));
    }
    if let Some(label) = &policy.quorum_label {
        // A majority stays up: more than half of them.
        let max_down = |hosts: u32| down(hosts, hosts / 2 + 1);
        by_label(&mut guards, waves, (GuardKind::Quorum, label, &max_down));
    }
    for (wave, _) in waves.iter_mut() {
        let by_name = policy.waves.iter().find(|of| of.name == wave.name);
        let own = by_name.and_then(|of| of.min_healthy).or(policy.min_healthy);
        let Some(min_healthy) = own else { continue };
        let hosts = u32::try_from(wave.hosts.len()).unwrap_or(u32::MAX);
        let max_down = down(hosts, min_healthy.of(hosts));
        let at = u32::try_from(guards.len()).unwrap_or(u32::MAX);
        let name = wave.name.to_string();
        guards.push(Guard { kind: GuardKind::Wave, name, hosts, max_down });
        wave.hosts.iter_mut().for_each(|host| host.guards.push(at));
    }
    match guards.iter().find(|guard| guard.max_down == 0) {
        None => Ok(guards),
        Some(Guard { kind, name, hosts, .. }) => {
            Err(PlanError::NoRoom { kind: *kind, name: name.clone(), hosts: *hosts })
        }
    }
}

/// One guard for each value of a label.
fn by_label(
    guards: &mut Vec<Guard>,
    waves: &mut [(PlannedWave, Vec<&HostFacts>)],
    (kind, label, max_down): (GuardKind, &Label, &dyn Fn(u32) -> u32),
) {
    let value = |facts: &HostFacts| facts.labels.get(label.as_str()).map(str::to_owned);
    let mut sizes: BTreeMap<String, u32> = BTreeMap::new();
    for facts in waves.iter().flat_map(|(_, facts)| facts) {
        if let Some(name) = value(facts) {
            *sizes.entry(name).or_default() += 1;
        }
    }
    let first = u32::try_from(guards.len()).unwrap_or(u32::MAX);
    let places: BTreeMap<String, u32> = sizes.keys().cloned().zip(first..).collect();
    guards.extend(sizes.into_iter().map(|(name, hosts)| {
        let max_down = max_down(hosts);
        Guard { kind, name, hosts, max_down }
    }));
    for (wave, facts) in waves {
        for (host, facts) in wave.hosts.iter_mut().zip(facts) {
            host.guards.extend(value(facts).and_then(|name| places.get(&name).copied()));
        }
    }
}
