//! Directives, what a host should be, and permits, the leave to switch now.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::limits::{DOCUMENT_MAX_BYTES, JSON_INTEGER_MAX, SERVICES_PER_HOST_MAX};
use crate::name::{Environment, HostId, ReleaseId, RolloutId, ServiceName};
use crate::trust::{Document, written};

/// The whole wish for one host. Level-triggered: the newest generation replaces all before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDirective {
    /// For whom.
    pub host: HostId,
    /// Must be the environment that the host has pinned.
    pub environment: Environment,
    /// Grows with each change; an older one is refused, an equal one must be byte for byte the same.
    pub generation: u64,
    /// Seconds UTC of the decision behind it.
    pub issued: u64,
    /// The root under which it was signed.
    pub root_version: u64,
    /// One entry a service, in ascending order of name. A service not listed is left alone.
    pub services: Vec<ServiceWish>,
}

/// What one service on the host should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceWish {
    /// The service.
    pub service: ServiceName,
    /// What to do with it.
    pub action: Action,
    /// Seconds from switch to a passing verdict of all probes.
    pub probe_deadline_secs: u64,
    /// Seconds that the probes must keep passing before the host commits: the policy's `host_bake_secs`, not its
    /// `bake_secs`, which is a wave's.
    pub bake_secs: u64,
    /// Seconds between two tries of a probe.
    pub probe_interval_secs: u64,
    /// Whether the host must have reached the coordinator since the switch before it commits.
    pub confirm_by_contact: bool,
    /// The rollout behind the wish, for logs and people.
    #[serde(deserialize_with = "written")]
    pub rollout: Option<RolloutId>,
}

/// What a host should do with one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Keep what runs; start nothing new.
    Hold {},
    /// Fetch, verify and unpack; do not switch.
    Stage {
        /// What to have on disk.
        release: ReleaseId,
    },
    /// Run it. A switch from anything else needs a fresh permit.
    Switch {
        /// What to run.
        release: ReleaseId,
    },
    /// Go back from `from` to `to`, with no permit and no download.
    Revert {
        /// What must not run any more.
        from: ReleaseId,
        /// What ran before; `null` to return to whatever the host ran before `from`.
        #[serde(deserialize_with = "written")]
        to: Option<ReleaseId>,
    },
    /// Stop it and take it off, whatever release runs: nothing of it is live then, and no release of it stays on
    /// the disk. Needs no permit. For agents of [`crate::wire::LEVEL_REMOVES`] and above.
    Remove {},
}

/// Why JSON is no valid directive or permit.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum DirectiveError {
    /// A number beyond 2^53.
    #[error("check a directive: generation, issued and root_version must be below 2^53")]
    Number,
    /// Services unsorted, listed twice, or too many.
    #[error("check a directive: at most 256 services, in ascending order, each once")]
    Services,
    /// A time outside its bounds.
    #[error(
        "check a directive: probe_deadline_secs and probe_interval_secs must be 1 to 86400, bake_secs at most 604800"
    )]
    Times,
}

/// A directive that holds its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive(RawDirective);

impl std::ops::Deref for Directive {
    type Target = RawDirective;

    fn deref(&self) -> &RawDirective {
        &self.0
    }
}

impl Document for Directive {
    type Raw = RawDirective;
    type Invalid = DirectiveError;
    const TYPE: &'static str = "groundswell.directive.v1";
    const MAX_BYTES: usize = DOCUMENT_MAX_BYTES;

    fn check(raw: RawDirective) -> Result<Self, DirectiveError> {
        if [raw.generation, raw.issued, raw.root_version].iter().any(|n| *n > JSON_INTEGER_MAX) {
            return Err(DirectiveError::Number);
        }
        let sorted = raw.services.windows(2).all(|pair| match pair {
            [before, after] => before.service < after.service,
            _ => true,
        });
        if !sorted || raw.services.len() > SERVICES_PER_HOST_MAX {
            return Err(DirectiveError::Services);
        }
        let day = 1..=86_400;
        let in_bounds = |wish: &ServiceWish| {
            day.contains(&wish.probe_deadline_secs)
                && day.contains(&wish.probe_interval_secs)
                && wish.bake_secs <= 604_800
        };
        if raw.services.iter().all(in_bounds) { Ok(Self(raw)) } else { Err(DirectiveError::Times) }
    }
}

/// The leave to switch one service of one host, once, soon after it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPermit {
    /// For whom.
    pub host: HostId,
    /// For which service.
    pub service: ServiceName,
    /// For which release.
    pub release: ReleaseId,
    /// The generation of the directive that asks for the switch.
    pub generation: u64,
    /// Digest of the nonce that the host sent: this permit answers that question and no other.
    pub nonce: Digest,
    /// Milliseconds, counted by the host from the moment it asked, after which the permit is void.
    pub valid_ms: u64,
}

/// A permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit(RawPermit);

impl std::ops::Deref for Permit {
    type Target = RawPermit;

    fn deref(&self) -> &RawPermit {
        &self.0
    }
}

impl Document for Permit {
    type Raw = RawPermit;
    type Invalid = DirectiveError;
    const TYPE: &'static str = "groundswell.permit.v1";
    const MAX_BYTES: usize = DOCUMENT_MAX_BYTES;

    fn check(raw: RawPermit) -> Result<Self, DirectiveError> {
        if raw.generation > JSON_INTEGER_MAX || raw.valid_ms > JSON_INTEGER_MAX {
            return Err(DirectiveError::Number);
        }
        Ok(Self(raw))
    }
}
