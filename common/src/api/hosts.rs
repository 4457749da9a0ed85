//! Hosts.

use serde::{Deserialize, Serialize};

use crate::directive::Action;
use crate::name::{
    Environment, HostId, HostName, Labels, ReleaseId, RolloutId, ServiceName, Version,
};
use crate::report::{Failure, HostState, SwitchTimes, Verdict};
use crate::time::Timestamp;

/// `GET /v1/hosts[?selector=]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsAnswer {
    /// By name.
    pub hosts: Vec<HostSummary>,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSummary {
    /// The hash of its key.
    pub id: HostId,
    /// Its name.
    pub name: HostName,
    /// Its labels.
    pub labels: Labels,
    /// Its environment.
    pub environment: Environment,
    /// Whether it is connected now.
    pub connected: bool,
    /// When it was last heard of by this process.
    pub last_seen: Option<Timestamp>,
    /// Version of its agent.
    pub agent_version: Option<String>,
    /// What an operator should know of it, a sentence each: drained, two machines with its key, settings that
    /// cannot be read.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What it said of its services.
    pub services: Vec<HostService>,
}

/// One service on one host, as the host reported it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostService {
    /// The service.
    pub service: ServiceName,
    /// What the host is doing; `None` before its first report.
    pub state: Option<HostState>,
    /// The live release.
    pub running: Option<ReleaseId>,
    /// Its version, where the release is known here.
    pub version: Option<Version>,
    /// The release before it.
    pub previous: Option<ReleaseId>,
    /// The release on its way.
    pub target: Option<ReleaseId>,
    /// What the probes say.
    pub health: Option<Verdict>,
    /// The newest failure.
    pub failure: Option<Failure>,
    /// When its newest switch began and passed, by the host's clock.
    #[serde(default)]
    pub switched: Option<SwitchTimes>,
    /// What the coordinator wants now.
    pub wish: Option<Action>,
    /// The rollout behind the wish.
    pub rollout: Option<RolloutId>,
    /// Why the host does not take the wished release now, with the next step.
    #[serde(default)]
    pub held: Option<String>,
    /// Bytes of the release on its way that have arrived, and all of them.
    #[serde(default)]
    pub fetched: Option<(u64, u64)>,
    /// What a person should know, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Which line of the policy leaves it out where it is left over, and what to do if that was a mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_why: Option<String>,
    /// Whether it runs though the policy's targets do not match the host, and nothing takes it off.
    #[serde(default)]
    pub left_over: bool,
}

/// `GET /v1/hosts/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPage {
    /// The host.
    pub host: HostSummary,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// Generation of the directive that it should have.
    pub generation: u64,
    /// Generation that it accepted last, by its own word.
    pub accepted: Option<u64>,
    /// Code of the refusal of its newest directive, if it refused it.
    pub refusal: Option<String>,
    /// Free bytes where releases are kept, by its own word.
    pub free_bytes: Option<u64>,
}

/// `POST /v1/hosts/{name}/labels`: all labels of the host from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelsRequest {
    /// The labels.
    pub labels: Labels,
}

/// `GET /v1/hosts/{name}/why`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyAnswer {
    /// The host.
    pub host: HostName,
    /// Reasons, one sentence each, the most important first.
    pub why: Vec<String>,
}
