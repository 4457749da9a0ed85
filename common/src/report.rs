//! Reports: what a host says it is. The whole standing each time, so that any one may be lost.

use serde::{Deserialize, Serialize};

use crate::name::{ReleaseId, RolloutId, ServiceName};
use crate::time::Timestamp;

/// The whole standing of one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Grows with each report of one agent process; echoed by the acknowledgement.
    pub seq: u64,
    /// The newest generation that the host accepted; 0 before the first.
    pub generation: u64,
    /// One entry a service that the host knows, by name.
    pub services: Vec<Standing>,
    /// Free bytes where releases are kept.
    pub free_bytes: u64,
    /// Why the newest directive was refused, if it was.
    pub refusal: Option<RefusalNote>,
}

/// A refused directive, as the host explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalNote {
    /// The generation refused; 0 where it could not be read.
    pub generation: u64,
    /// A code of docs/trust.md.
    pub code: String,
}

/// Where one service on the host stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The service.
    pub service: ServiceName,
    /// What the host is doing with it.
    pub state: HostState,
    /// The release that is live, as read from the live tree.
    pub running: Option<ReleaseId>,
    /// The release before it, still on disk and verified.
    pub previous: Option<ReleaseId>,
    /// The release that is being fetched, staged, switched or baked.
    pub target: Option<ReleaseId>,
    /// The rollout that the state belongs to.
    pub rollout: Option<RolloutId>,
    /// What the probes say of the live release.
    pub health: Verdict,
    /// The newest failure, kept until another release commits.
    pub failure: Option<Failure>,
    /// When the newest switch of the live tree began and ended, by the host's clock.
    pub switched: Option<SwitchTimes>,
}

/// What a host is doing with one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// Nothing to do and nothing live.
    Idle,
    /// Downloading and unpacking the target.
    Fetching,
    /// The target is on disk, verified, not live.
    Staged,
    /// The live tree is being replaced and the service restarted.
    Switching,
    /// The target is live and its probes have not passed yet.
    Probing,
    /// The target is live and its probes pass; watched for the bake time.
    Baking,
    /// The live release passed its bake time.
    Committed,
    /// Going back to the previous release.
    Reverting,
    /// Only a person can help; the reason is in the failure.
    Stuck,
}

impl HostState {
    /// Whether the host is between one live release and another, or watches what it switched to.
    #[must_use]
    pub fn is_busy(self) -> bool {
        match self {
            Self::Switching | Self::Probing | Self::Baking | Self::Reverting => true,
            Self::Idle | Self::Fetching | Self::Staged | Self::Committed | Self::Stuck => false,
        }
    }

    /// Whether what is live stays live until the host is told otherwise.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        !self.is_busy() && self != Self::Stuck
    }
}

/// What a check says. No data is inconclusive, never pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every probe passed.
    Pass,
    /// A probe failed.
    Fail,
    /// No probe has answered yet.
    Inconclusive,
}

/// A release that failed on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The release that failed.
    pub release: ReleaseId,
    /// The step that failed.
    pub step: FailedStep,
    /// What happened, at most 4 KiB.
    pub why: String,
    /// Whether the release before it is live again and passes its probes.
    pub reverted: bool,
}

/// The step at which a release failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailedStep {
    /// Download, verification or unpacking; the live tree was never touched.
    Stage,
    /// Replacing the live tree or restarting the service.
    Switch,
    /// Probes did not pass within the deadline.
    Probe,
    /// A probe failed during the bake time.
    Bake,
    /// Going back did not work; a person must look.
    Revert,
}

/// When a switch began and ended, by the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchTimes {
    /// Just before the live link was replaced.
    pub started: Timestamp,
    /// When the probes first passed; `None` until then.
    pub passed: Option<Timestamp>,
}
