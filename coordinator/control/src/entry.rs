//! The entries of the ledger: what was decided, by whom and when. Owns their JSON form; an old form is
//! read for ever, so variants and fields are only added.

use groundswell_common::api::OperatorRole;
use groundswell_common::selector::Selector;
use groundswell_common::trust::{Envelope, PublicKey, Signature};
use groundswell_common::{
    Digest, Environment, Fleet, HostId, HostName, Labels, OperatorName, ReleaseId, RolloutId,
    ServiceName, Timestamp, Version,
};
use groundswell_rollout::{Input, Plan};
use serde::{Deserialize, Serialize};

/// Largest JSON form of one entry, in bytes: a frozen plan of about 150,000 hosts.
pub const PAYLOAD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When it was decided; never before the entry in front of it.
    pub at: Timestamp,
    /// Who decided.
    pub by: By,
    /// What was decided.
    pub what: What,
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A person or a job.
    Operator(OperatorName),
    /// The coordinator, by policy or because time has passed.
    Coordinator,
    /// A host, by what it reported or asked.
    Host(HostId),
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The fleet begins.
    Initialised {
        /// Its name.
        fleet: Fleet,
        /// Digest of the first root's payload.
        root: Digest,
    },
    /// A person or a job may use the API, or gets another role or key.
    OperatorPut {
        /// Who.
        name: OperatorName,
        /// What they may do.
        role: OperatorRole,
        /// The key of their certificate, which also signs.
        key: PublicKey,
    },
    /// Tokens for enrolment were made.
    TokensMade {
        /// SHA-256 of each secret.
        secrets: Vec<Digest>,
        /// Labels of the hosts.
        labels: Labels,
        /// Environment of the hosts.
        environment: Environment,
        /// Seconds UTC after which they are refused.
        expires: u64,
    },
    /// A host was enrolled.
    HostEnrolled {
        /// The hash of its key.
        host: HostId,
        /// What people call it.
        name: HostName,
        /// Its key.
        key: PublicKey,
        /// SHA-256 of the token's secret.
        token: Digest,
        /// Whether an operator's drain outlives it. Entries from before it did had ended it.
        #[serde(default)]
        stays_drained: bool,
    },
    /// A host was removed; its certificate is refused from now on.
    HostRemoved {
        /// The host.
        host: HostId,
    },
    /// What a host failed at before no longer counts.
    HostCleared {
        /// The host.
        host: HostId,
        /// The reason given.
        why: String,
    },
    /// A host runs another release of a service than was known, outside of any rollout's facts.
    HostRuns {
        /// The host.
        host: HostId,
        /// The service.
        service: ServiceName,
        /// What runs; `None` for nothing.
        release: Option<ReleaseId>,
    },
    /// An operator takes a host out of all rollouts, or lets it in again.
    HostDrained {
        /// The host.
        host: HostId,
        /// The reason given; `None` where it is let in again.
        why: Option<String>,
        /// Why it is let in again. Entries from before it was kept have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lifted: Option<String>,
    },
    /// An operator gives a host other labels.
    HostLabelled {
        /// The host.
        host: HostId,
        /// All of its labels from now on.
        labels: Labels,
    },
    /// A service got a policy.
    PolicyPut {
        /// The service.
        service: ServiceName,
        /// The TOML text.
        text: String,
        /// Whether it takes hosts of its environments only, as all do by now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        separates: bool,
    },
    /// A release was published.
    ReleasePublished(Box<Published>),
    /// A poisoned release may be rolled out again.
    ReleaseCleared {
        /// The release.
        release: ReleaseId,
        /// The reason given.
        why: String,
    },
    /// A release starts in an environment at a time, or when a person starts it, and not by itself before.
    ReleaseHeld {
        /// The release.
        release: ReleaseId,
        /// Where.
        environment: Environment,
        /// When it starts; `None` where that was taken back and a person must start it.
        until: Option<Timestamp>,
        /// Why it will not go through the environments before, where a person skips them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skip: Option<String>,
        /// The reason given.
        why: String,
    },
    /// A rollout was planned; its plan is frozen.
    RolloutPlanned {
        /// The rollout.
        rollout: RolloutId,
        /// Its plan.
        plan: Box<Plan>,
        /// Why it does not go through the environments before, where a person skips them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skip: Option<String>,
    },
    /// Something happened to a rollout.
    RolloutInput {
        /// The rollout.
        rollout: RolloutId,
        /// What happened.
        input: Input,
    },
    /// A person signed an approval.
    ApprovalSigned {
        /// The rollout that it was given for.
        rollout: RolloutId,
        /// The release that it is of.
        release: ReleaseId,
        /// The signed document.
        envelope: Envelope,
    },
    /// What the agent of a host understands has changed.
    HostSpeaks {
        /// The host.
        host: HostId,
        /// A level of the wire protocol.
        level: u8,
    },
    /// A host is called otherwise from now on.
    HostRenamed {
        /// The host.
        host: HostId,
        /// Its new name.
        name: HostName,
    },
    /// Where hosts reach the coordinator from now on.
    AddressesTold {
        /// `HOST:PORT` for agents, the one to try first in front.
        agents: Vec<String>,
        /// `HOST:PORT` of the API, likewise.
        api: Vec<String>,
    },
    /// The ledger was put back from a backup: wishes are numbered above what hosts accepted before.
    Lifted {
        /// The newest number that a host accepted.
        past: u64,
        /// The reason given.
        why: String,
    },
}

/// What the ledger keeps of a release; the rest is in its manifest's blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The digest of the manifest: the name of its blob.
    pub release: ReleaseId,
    /// The service.
    pub service: ServiceName,
    /// The version.
    pub version: Version,
    /// Its place in the order of releases.
    pub seq: u64,
    /// No host may go below this `seq` again.
    pub floor: u64,
    /// The digest of the tree.
    pub tree: Digest,
    /// The digest over all that decides what runs: equal for a release that is published again.
    pub content: Digest,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Whether it can never be reverted.
    pub one_way: bool,
    /// What must hold for the labels of a host that gets it.
    #[serde(default)]
    pub requires: Selector,
    /// Whether hosts must run it before any newer one.
    #[serde(default)]
    pub barrier: bool,
    /// Whether it goes before a rollout under way, where the policy's `when_newer` is `hotfix`.
    #[serde(default)]
    pub hotfix: bool,
    /// Units that it runs, by name.
    #[serde(default)]
    pub units: Vec<String>,
    /// Such as `linux-x86_64`; empty or `any` for every platform.
    #[serde(default)]
    pub platform: String,
    /// Signatures over the manifest, the coordinator's among them.
    pub signatures: Vec<Signature>,
    /// When it starts in the first environment; `None` for at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<Timestamp>,
}

/// Why bytes are no entry.
#[derive(Debug, thiserror::Error)]
#[error("read entry {seq} of the ledger: it was written by a newer version; start that one")]
pub struct EntryError {
    /// The entry's number.
    pub seq: u64,
    /// What the parser says.
    #[source]
    pub source: serde_json::Error,
}

impl Entry {
    /// Its JSON form: what the chain covers.
    ///
    /// # Errors
    /// When a value has no JSON form; no entry holds such a value.
    pub fn to_payload(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Reads the JSON form of entry `seq`.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn from_payload(seq: u64, payload: &[u8]) -> Result<Self, EntryError> {
        serde_json::from_slice(payload).map_err(|source| EntryError { seq, source })
    }
}
