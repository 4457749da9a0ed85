//! The root document: which keys speak for which role, and the certificate authority of the wire.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::envelope::{Document, written};
use super::key::PublicKey;
use crate::limits::{DOCUMENT_MAX_BYTES, JSON_INTEGER_MAX, ROOT_KEYS_MAX};
use crate::name::{Environment, Fleet, HostId, ServiceName};
use crate::name_of;

/// A root document as it stands in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRoot {
    /// Grows by exactly one with each root.
    pub version: u64,
    /// The fleet that this root governs.
    pub fleet: Fleet,
    /// Seconds UTC after which no new switch is accepted under this root.
    pub expires: u64,
    /// Certificate authorities of the wire, DER in base64.
    pub tls_ca: Vec<String>,
    /// Keys and thresholds.
    pub roles: Vec<RoleEntry>,
    /// Units that a release of a service may name; an absent service may name what the host's own
    /// configuration allows.
    pub units: Vec<UnitsEntry>,
    /// Hosts whose keys are no longer trusted.
    pub revoked_hosts: Vec<HostId>,
}

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The next root.
    Root,
    /// Release manifests, by the coordinator.
    Release,
    /// Release manifests, by a builder.
    Builder,
    /// Approvals.
    Approver,
    /// Directives and permits.
    Director,
}

/// Keys and threshold of one role, for everything or for one service or environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleEntry {
    /// The role.
    pub role: Role,
    /// Only for this service; `null` for every service without an entry of its own.
    #[serde(deserialize_with = "written")]
    pub service: Option<ServiceName>,
    /// Only for this environment; `null` for every environment without an entry of its own.
    #[serde(deserialize_with = "written")]
    pub environment: Option<Environment>,
    /// Distinct keys that must sign. 0 only for builders and approvers: none is asked for.
    pub threshold: u32,
    /// The keys.
    pub keys: Vec<PublicKey>,
}

/// Units that releases of one service may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitsEntry {
    /// The service.
    pub service: ServiceName,
    /// Unit names.
    pub units: Vec<String>,
}

/// Why JSON is no valid root.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum RootError {
    /// A version of 0 or beyond 2^53.
    #[error("check a root: version must be 1 to 2^53 - 1")]
    Version,
    /// More than 64 keys.
    #[error("check a root: {0} keys, at most 64")]
    Keys(usize),
    /// A threshold that can never or always be met.
    #[error(
        "check a root: role {} has threshold {threshold} with {keys} distinct keys; want 1 to the number of keys",
        name_of(role)
    )]
    Threshold {
        /// The role.
        role: Role,
        /// Its threshold.
        threshold: u32,
        /// Its distinct keys.
        keys: usize,
    },
    /// Two entries for the same role, service and environment.
    #[error(
        "check a root: role {} is given twice for the same service and environment",
        name_of(.0)
    )]
    Twice(Role),
    /// No entry at all for a role that every fleet needs.
    #[error("check a root: role {} is missing", name_of(.0))]
    Missing(Role),
    /// A certificate authority that is no base64.
    #[error("check a root: tls_ca must hold 1 to 8 certificates as base64 of DER")]
    Ca,
}

/// A root that holds every rule that one root alone can break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    raw: RawRoot,
    tls_ca: Vec<Vec<u8>>,
}

/// The keys of one role and how many must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// Distinct keys.
    pub keys: BTreeSet<PublicKey>,
    /// How many of them must sign.
    pub threshold: u32,
}

impl std::ops::Deref for Root {
    type Target = RawRoot;

    fn deref(&self) -> &RawRoot {
        &self.raw
    }
}

impl Root {
    /// The certificate authorities of the wire, DER.
    #[must_use]
    pub fn tls_ca(&self) -> &[Vec<u8>] {
        &self.tls_ca
    }

    /// The keys of `role` for this service and environment: the most specific entry, service before
    /// environment; `None` where no entry speaks (builders and approvers: nobody is asked).
    #[must_use]
    pub fn role(
        &self,
        role: Role,
        service: Option<&ServiceName>,
        environment: Option<&Environment>,
    ) -> Option<RoleKeys> {
        let fits = |entry: &&RoleEntry| {
            entry.role == role
                && (entry.service.is_none() || entry.service.as_ref() == service)
                && (entry.environment.is_none() || entry.environment.as_ref() == environment)
        };
        self.raw
            .roles
            .iter()
            .filter(fits)
            .max_by_key(|entry| (entry.service.is_some(), entry.environment.is_some()))
            .map(|entry| RoleKeys {
                keys: entry.keys.iter().copied().collect(),
                threshold: entry.threshold,
            })
    }
}

impl Document for Root {
    type Raw = RawRoot;
    type Invalid = RootError;
    const TYPE: &'static str = "groundswell.root.v1";
    const MAX_BYTES: usize = DOCUMENT_MAX_BYTES;

    fn check(raw: RawRoot) -> Result<Self, RootError> {
        if raw.version == 0 || raw.version > JSON_INTEGER_MAX || raw.expires > JSON_INTEGER_MAX {
            return Err(RootError::Version);
        }
        let keys: usize = raw.roles.iter().map(|entry| entry.keys.len()).sum();
        if keys > ROOT_KEYS_MAX {
            return Err(RootError::Keys(keys));
        }
        let mut seen = BTreeSet::new();
        for entry in &raw.roles {
            check_role(entry)?;
            if !seen.insert((entry.role, entry.service.clone(), entry.environment.clone())) {
                return Err(RootError::Twice(entry.role));
            }
        }
        for role in [Role::Root, Role::Release, Role::Director] {
            if !seen.contains(&(role, None, None)) {
                return Err(RootError::Missing(role));
            }
        }
        let tls_ca: Vec<Vec<u8>> = raw
            .tls_ca
            .iter()
            .map(|text| STANDARD.decode(text).map_err(|_| RootError::Ca))
            .collect::<Result<_, _>>()?;
        if !(1..=8).contains(&tls_ca.len()) {
            return Err(RootError::Ca);
        }
        Ok(Self { raw, tls_ca })
    }
}

fn check_role(entry: &RoleEntry) -> Result<(), RootError> {
    let keys = entry.keys.iter().collect::<BTreeSet<_>>().len();
    let least = match entry.role {
        Role::Root | Role::Release | Role::Director => 1,
        Role::Builder | Role::Approver => 0,
    };
    let threshold = usize::try_from(entry.threshold).unwrap_or(usize::MAX);
    if (least..=keys).contains(&threshold) && keys == entry.keys.len() {
        Ok(())
    } else {
        Err(RootError::Threshold { role: entry.role, threshold: entry.threshold, keys })
    }
}
