//! What the API says of a service and of a release in each environment of a policy with sections.

use serde::{Deserialize, Serialize};

use super::ReleaseState;
use crate::name::{Environment, ReleaseId, RolloutId};

/// `POST /v1/services/{s}/hold`: a release does not start by itself in an environment. The answer is a
/// [`HoldAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Release id or version.
    pub release: String,
    /// The environment; without it the first.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Seconds UTC at which it starts; without it what holds it is taken back, and a person must start it.
    #[serde(default)]
    pub until: Option<u64>,
    /// Why it will not go through the environments before.
    #[serde(default)]
    pub skip: Option<String>,
    /// Why, for the ledger: 1 to 1,024 bytes.
    pub why: String,
}

/// Answer to [`HoldRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// What the service waits for now, a sentence each.
    pub waits: Vec<String>,
}

/// A service in one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceIn {
    /// The environment.
    pub environment: Environment,
    /// The release that new hosts there get.
    pub proven: Option<ReleaseId>,
    /// Its newest rollout there.
    pub rollout: Option<RolloutId>,
}

/// A release in one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseIn {
    /// The environment.
    pub environment: Environment,
    /// Whether it may be rolled out there.
    pub state: ReleaseState,
    /// Why it is poisoned there.
    pub why: Option<String>,
}
