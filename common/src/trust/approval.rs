//! Approvals: what a person signed, for exactly one release, plan and environment, within a time.

use serde::{Deserialize, Serialize};

use super::envelope::{Document, written};
use crate::digest::Digest;
use crate::limits::{APPROVAL_MAX_BYTES, JSON_INTEGER_MAX};
use crate::name::{Environment, ReleaseId, ServiceName};

/// An approval as it stands in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawApproval {
    /// The release approved.
    pub release: ReleaseId,
    /// Its service.
    pub service: ServiceName,
    /// Where it may run.
    pub environment: Environment,
    /// The plan that was shown.
    pub plan: Digest,
    /// The wave that it opens, counted from 0; `null` for every wave.
    #[serde(deserialize_with = "written")]
    pub wave: Option<u32>,
    /// What for.
    pub purpose: Purpose,
    /// Seconds UTC before which it does not count.
    pub not_before: u64,
    /// Seconds UTC after which it does not count; at most 7 days after `not_before`.
    pub not_after: u64,
}

/// What an approval is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Purpose {
    /// Bring the release to the hosts.
    Deploy,
    /// Put the release back in place of a newer one.
    Revert,
}

/// Why JSON is no valid approval.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ApprovalError {
    /// A time that ends before it starts, or lasts too long.
    #[error(
        "check an approval: not_after must be later than not_before and at most 7 days after it"
    )]
    Validity,
}

/// Longest time for which an approval may count.
const VALID_MAX_SECS: u64 = 7 * 24 * 3600;

/// An approval that holds its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval(RawApproval);

impl std::ops::Deref for Approval {
    type Target = RawApproval;

    fn deref(&self) -> &RawApproval {
        &self.0
    }
}

impl Document for Approval {
    type Raw = RawApproval;
    type Invalid = ApprovalError;
    const TYPE: &'static str = "groundswell.approval.v1";
    const MAX_BYTES: usize = APPROVAL_MAX_BYTES;

    fn check(raw: RawApproval) -> Result<Self, ApprovalError> {
        let lasts = raw.not_after.checked_sub(raw.not_before);
        let fits = raw.not_after <= JSON_INTEGER_MAX
            && lasts.is_some_and(|secs| (1..=VALID_MAX_SECS).contains(&secs));
        if fits { Ok(Self(raw)) } else { Err(ApprovalError::Validity) }
    }
}
