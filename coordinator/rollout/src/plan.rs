//! From a policy and the hosts to the plan: exact hosts per wave, frozen and hashed. Owns who is in
//! which wave; never changes a plan.

use std::io;

use groundswell_common::digest::Hasher;
use groundswell_common::{
    Digest, HostId, HostName, Label, Labels, ReleaseId, ServiceName, Version,
};
use serde::{Deserialize, Serialize};

use crate::policy::{Gate, OnBreach, Policy, Take};

/// Hosts in one plan; bounds the record that keeps a rollout.
pub const PLAN_HOSTS_MAX: usize = 100_000;

/// What the planner knows of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Its identity.
    pub id: HostId,
    /// For people.
    pub name: HostName,
    /// What selectors see.
    pub labels: Labels,
    /// The release of this service that it would go back to: the one that it runs.
    pub running: Option<ReleaseId>,
    /// Whether it is connected; hosts that are away come last in the order, so that a canary is
    /// chosen among those that can answer.
    pub connected: bool,
}

/// The release that is planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Its identity.
    pub id: ReleaseId,
    /// For people.
    pub version: Version,
    /// Whether it cannot be reverted once it ran.
    pub one_way: bool,
}

/// One release going to exactly these hosts in exactly this order. What was approved is its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The service.
    pub service: ServiceName,
    /// The release.
    pub release: ReleaseRef,
    /// What happens when a wave has more failures than its budget.
    pub on_breach: OnBreach,
    /// Seconds for which a host's probes must keep passing before it commits.
    pub host_bake_secs: u64,
    /// Seconds from the switch to a pass of all probes.
    pub probe_deadline_secs: u64,
    /// Seconds between two tries of a probe.
    pub probe_interval_secs: u64,
    /// Seconds that an open wave may go without a host that commits.
    pub progress_deadline_secs: u64,
    /// Seconds after which a host that is away no longer holds its wave.
    pub absent_after_secs: u64,
    /// In order; never empty, and no wave is empty.
    pub waves: Vec<PlannedWave>,
}

/// One wave of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWave {
    /// For people.
    pub name: Label,
    /// What must hold before it opens.
    pub gate: Gate,
    /// Hosts in flight at once.
    pub max_in_flight: u32,
    /// Failures that it may have.
    pub failure_budget: u32,
    /// Seconds for which it is watched when it is finished.
    pub bake_secs: u64,
    /// Its hosts, in the order in which they get their slots.
    pub hosts: Vec<PlannedHost>,
}

/// One host of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHost {
    /// Its identity.
    pub id: HostId,
    /// For people.
    pub name: HostName,
    /// What a revert puts back; `None` for whatever it ran before.
    pub previous: Option<ReleaseId>,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The selector takes no host.
    #[error(
        "plan {service}: none of {hosts} hosts matches targets = \"{targets}\"; \
         compare it with the labels in 'swell host ls'"
    )]
    NoHosts {
        /// The service.
        service: ServiceName,
        /// Hosts looked at.
        hosts: usize,
        /// The selector.
        targets: String,
    },
    /// More hosts than a rollout may have.
    #[error("plan {service}: {hosts} hosts, at most 100000; split the service by selector")]
    TooManyHosts {
        /// The service.
        service: ServiceName,
        /// Hosts matched.
        hosts: usize,
    },
    /// One identity twice among the hosts.
    #[error("plan: host {0} is listed twice")]
    TwinHosts(HostId),
}

impl Plan {
    /// The digest of its canonical JSON: fields in declared order, no spaces.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut sink = HashSink(Hasher::new());
        match serde_json::to_writer(&mut sink, self) {
            Ok(()) => sink.0.finish(),
            // Neither the sink nor any of the plain fields can fail; a value that no plan has.
            Err(_) => Digest::from_bytes([0; 32]),
        }
    }

    /// The number of its hosts.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.waves.iter().map(|wave| wave.hosts.len()).sum()
    }
}

struct HashSink(Hasher);

impl io::Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Divides the hosts that the policy targets into waves. The same input gives the same plan.
///
/// # Errors
/// [`PlanError`], with what to compare or change.
pub fn plan(
    policy: &Policy,
    hosts: &[HostFacts],
    release: &ReleaseRef,
    seed: &Digest,
) -> Result<Plan, PlanError> {
    let mut left = targets(policy, hosts, seed)?;
    let total = left.len();
    let mut waves = Vec::new();
    for wave in &policy.waves {
        let taken = total - left.len();
        let hosts: Vec<&HostFacts> = match &wave.take {
            Take::Count(count) => take_first(&mut left, usize_of(*count)),
            Take::Percent(percent) => {
                let upto = (total * usize::from(*percent)).div_ceil(100);
                take_first(&mut left, upto.saturating_sub(taken))
            }
            Take::Selector(selector) => {
                let (chosen, rest) =
                    left.into_iter().partition(|host| selector.matches(&host.labels));
                left = rest;
                chosen
            }
            Take::Rest => std::mem::take(&mut left),
        };
        if hosts.is_empty() {
            continue;
        }
        let count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let host = |host: &HostFacts| PlannedHost {
            id: host.id,
            name: host.name.clone(),
            previous: host.running.filter(|running| *running != release.id),
        };
        waves.push(PlannedWave {
            name: wave.name.clone(),
            gate: wave.gate,
            max_in_flight: wave.max_in_flight.unwrap_or(policy.max_in_flight).of(count).max(1),
            failure_budget: wave.failure_budget.unwrap_or(policy.failure_budget).of(count),
            bake_secs: wave.bake_secs.unwrap_or(policy.bake_secs),
            hosts: hosts.into_iter().map(host).collect(),
        });
    }
    Ok(Plan {
        service: policy.service.clone(),
        release: release.clone(),
        on_breach: policy.on_breach,
        host_bake_secs: policy.host_bake_secs,
        probe_deadline_secs: policy.probe_deadline_secs,
        probe_interval_secs: policy.probe_interval_secs,
        progress_deadline_secs: policy.progress_deadline_secs,
        absent_after_secs: policy.absent_after_secs,
        waves,
    })
}

/// The targeted hosts in the order of the seed, those that are away last.
fn targets<'a>(
    policy: &Policy,
    hosts: &'a [HostFacts],
    seed: &Digest,
) -> Result<Vec<&'a HostFacts>, PlanError> {
    let mut keyed: Vec<(bool, Digest, &HostFacts)> = hosts
        .iter()
        .filter(|host| policy.targets.matches(&host.labels))
        .map(|host| (!host.connected, order_of(seed, &host.id), host))
        .collect();
    let service = policy.service.clone();
    if keyed.is_empty() {
        let targets = match policy.targets.to_string() {
            text if text.is_empty() => "*".to_owned(),
            text => text,
        };
        return Err(PlanError::NoHosts { service, hosts: hosts.len(), targets });
    }
    if keyed.len() > PLAN_HOSTS_MAX {
        return Err(PlanError::TooManyHosts { service, hosts: keyed.len() });
    }
    keyed.sort_by_key(|(away, order, host)| (*away, *order, host.id));
    let mut ids: Vec<HostId> = keyed.iter().map(|(_, _, host)| host.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first) {
        Some(twin) => Err(PlanError::TwinHosts(*twin)),
        None => Ok(keyed.into_iter().map(|(_, _, host)| host).collect()),
    }
}

fn order_of(seed: &Digest, host: &HostId) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.update(host.as_bytes());
    hasher.finish()
}

fn take_first<'a>(left: &mut Vec<&'a HostFacts>, count: usize) -> Vec<&'a HostFacts> {
    let rest = left.split_off(count.min(left.len()));
    std::mem::replace(left, rest)
}

fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
