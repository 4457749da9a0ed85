//! Services that end, hosts that are called otherwise, what ends soon, and a ledger that was put back.

use serde::{Deserialize, Serialize};

use super::RevertOther;
use crate::name::{HostName, ServiceName, Version};

/// `GET /v1/services/{s}/removal[?left_over=true]`: what taking the service off would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalPreview {
    /// The service.
    pub service: ServiceName,
    /// Hosts that it is taken off, those that are away among them.
    pub hosts: u64,
    /// What runs on them.
    pub runs: Vec<RemovalRuns>,
    /// Hosts that it stays on for now, with the reason.
    pub others: Vec<RevertOther>,
}

/// One version and its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalRuns {
    /// The version; `None` for a release that is not known, or that nobody has said.
    pub version: Option<Version>,
    /// Hosts that run it.
    pub hosts: u64,
}

/// `POST /v1/services/{s}/remove`; answered as a revert is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemovalRequest {
    /// Why, for the ledger: 1 to 1,024 bytes.
    pub why: String,
    /// Only off hosts that the policy's targets do not match.
    #[serde(default)]
    pub left_over: bool,
}

/// `POST /v1/hosts/{name}/rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenameRequest {
    /// The new name.
    pub name: HostName,
}

/// What shows that the ledger was put back from a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutBack {
    /// Connected hosts that accepted more than the ledger knows.
    pub hosts: u64,
    /// The newest number that one of them accepted.
    pub newest: u64,
    /// The first of them by name, at most [`PUT_BACK_NAMES_MAX`].
    #[serde(default)]
    pub names: Vec<HostName>,
}

/// Hosts that [`PutBack`] names at most.
pub const PUT_BACK_NAMES_MAX: usize = 3;

/// Answer to `POST /v1/ledger/lift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiftAnswer {
    /// The number that wishes are above from now on.
    pub past: u64,
}
