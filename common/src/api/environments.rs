//! What the API says of a service and of a release in each environment of a policy with sections.

use serde::{Deserialize, Serialize};

use super::ReleaseState;
use crate::name::{Environment, ReleaseId, RolloutId};

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
