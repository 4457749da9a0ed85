//! The bodies of the HTTP API under `/v1`: one type a request and one an answer, all JSON. Owns their
//! form only; what they mean is decided by the coordinator, how they look by its clients.
//!
//! Requests refuse unknown fields; answers may grow fields, so clients ignore what they do not know.

mod environments;
mod hosts;
mod lives;

pub use environments::{HoldAnswer, HoldRequest, ReleaseIn, ServiceIn};
pub use hosts::{HostPage, HostService, HostSummary, HostsAnswer, LabelsRequest, WhyAnswer};
pub use lives::{
    LiftAnswer, PUT_BACK_NAMES_MAX, PutBack, RemovalPreview, RemovalRequest, RemovalRuns,
    RenameRequest,
};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::manifest::Source;
use crate::name::{
    Environment, Fleet, HostId, HostName, Labels, OperatorName, ReleaseId, RolloutId, ServiceName,
    Version,
};
use crate::time::Timestamp;
use crate::trust::PublicKey;

/// The body of every answer with a status of 400 or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What went wrong.
    pub error: ErrorBody,
}

/// What went wrong, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable over versions, lower case with underscores, e.g. `seq_taken`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// `GET /healthz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `ok`.
    pub status: String,
    /// Version of the coordinator.
    pub version: String,
}

/// What an operator may do; each includes what its routes say, see docs/operations.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorRole {
    /// Everything.
    Admin,
    /// Runs, halts and reverts rollouts, enrols hosts.
    Operator,
    /// Approves gates.
    Approver,
    /// Publishes releases.
    Publisher,
    /// Reads.
    Viewer,
}

/// What `swell` needs to reach a coordinator: the JSON of a profile file (0600: it holds a key).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// `HOST:PORT` of the API.
    pub api: String,
    /// Base of the blob URLs, `http://HOST:PORT`.
    #[serde(default)]
    pub blobs: Option<String>,
    /// The authority that the API's certificate must come from, PEM.
    pub ca_pem: String,
    /// Who the certificate names.
    pub name: OperatorName,
    /// The operator's certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PKCS#8 PEM; also signs approvals and releases.
    pub key_pem: String,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Profile({} at {})", self.name, self.api)
    }
}

/// `POST /v1/enroll`, without a client certificate.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// The secret of the token.
    pub secret: String,
    /// How people will call the host.
    pub name: HostName,
    /// The host's public key; its private half never leaves the host.
    pub key: PublicKey,
}

impl std::fmt::Debug for EnrollRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EnrollRequest({}, {:?})", self.name, self.key)
    }
}

/// Answer to [`EnrollRequest`]; the same key asking again with the same token gets the same identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollAnswer {
    /// The fleet.
    pub fleet: Fleet,
    /// The hash of the key.
    pub host: HostId,
    /// The name.
    pub name: HostName,
    /// Labels that the token gave.
    pub labels: Labels,
    /// Environment to pin.
    pub environment: Environment,
    /// The host's certificate, PEM.
    pub certificate_pem: String,
    /// `HOST:PORT` for the agent's connection.
    pub agents: String,
    /// `HOST:PORT` of the API, for renewals.
    pub api: String,
    /// Base of the blob URLs.
    pub blobs: String,
}

/// `POST /v1/operators`: a new person or job, or another role or key for a known one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// Who.
    pub name: OperatorName,
    /// What they may do.
    pub role: OperatorRole,
    /// Their public key; the private half never leaves them.
    pub key: PublicKey,
}

/// Answer to [`OperatorRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorAnswer {
    /// The certificate for the key, PEM.
    pub certificate_pem: String,
}

/// Answer to `POST /v1/certificate/renew` (no body; the client certificate says who asks).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAnswer {
    /// The new certificate for the same key, PEM.
    pub certificate_pem: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The fleet.
    pub fleet: Fleet,
    /// Version of the coordinator.
    pub version: String,
    /// When the process started.
    pub started: Timestamp,
    /// Newest entry of the ledger.
    pub ledger_seq: u64,
    /// Hosts enrolled.
    pub hosts: u64,
    /// Hosts connected now.
    pub connected: u64,
    /// Whether permits are still withheld because the coordinator has just started.
    pub starting: bool,
    /// Root version, and seconds UTC of its end.
    pub root_version: u64,
    /// Seconds UTC after which hosts switch no more.
    pub root_expires: u64,
    /// What ends within 60 days or has ended, and what cures it: a sentence each.
    #[serde(default)]
    pub ends: Vec<String>,
    /// What shows that the ledger was put back from a backup.
    #[serde(default)]
    pub put_back: Option<PutBack>,
    /// One entry a service.
    pub services: Vec<ServiceSummary>,
    /// Rollouts that are not over.
    pub rollouts: Vec<RolloutSummary>,
}

/// `POST /v1/enroll-tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokensRequest {
    /// Labels of the hosts that enrol with them.
    #[serde(default)]
    pub labels: Labels,
    /// Environment that those hosts pin.
    pub environment: Environment,
    /// Seconds until they expire: 60 to 2,592,000 (30 days).
    pub ttl_secs: u64,
    /// How many: 1 to 1,000.
    pub count: u32,
}

/// Answer to [`TokensRequest`]. The tokens are secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokensAnswer {
    /// One line each, for one enrolment each.
    pub tokens: Vec<String>,
    /// Seconds UTC after which they are refused.
    pub expires: u64,
}

/// `GET /v1/services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesAnswer {
    /// By name.
    pub services: Vec<ServiceSummary>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSummary {
    /// Its name.
    pub service: ServiceName,
    /// Whether it has a policy; without one nothing rolls out.
    pub has_policy: bool,
    /// Its newest release.
    pub newest: Option<ReleaseSummary>,
    /// The release that new hosts get, in the last environment: the last one whose rollout completed.
    pub proven: Option<ReleaseId>,
    /// Its newest rollout.
    pub rollout: Option<RolloutId>,
    /// The same in each environment, in order, where the policy has sections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<ServiceIn>,
    /// Releases that are to start and do not yet, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// Releases that nothing brings any more before a person acts, a sentence each with the step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalls: Vec<String>,
}

/// `GET /v1/services/{s}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePage {
    /// The service.
    pub service: ServiceSummary,
    /// The policy's TOML, as it was put.
    pub policy: Option<String>,
    /// The `seq` that the next release should take.
    pub next_seq: u64,
    /// Releases, newest first, at most 100.
    pub releases: Vec<ReleaseSummary>,
    /// Hosts by the release that they say they run.
    pub running: Vec<RunningCount>,
    /// The newest rollout.
    pub rollout: Option<RolloutSummary>,
}

/// How many hosts run a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningCount {
    /// The release; `None` for none.
    pub release: Option<ReleaseId>,
    /// Its version.
    pub version: Option<Version>,
    /// Hosts.
    pub hosts: u64,
}

/// Answer to `PUT /v1/services/{s}/policy[?leave=true]` (the request's body is TOML text, at most 64 KiB). Without
/// `leave` a policy that no longer reaches hosts which run the service is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyAnswer {
    /// The service.
    pub service: ServiceName,
    /// Whether it differs from the policy before.
    pub changed: bool,
    /// How the newest release would roll out now; `None` where there is none or no host fits.
    pub plan: Option<PlanPreview>,
    /// A rollout that started at once because the newest release had been waiting for a policy.
    pub rollout: Option<RolloutId>,
    /// Environments without hosts, and hosts that fit in no environment, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// `POST /v1/services/{s}/plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// Release id or version; the newest where it is not given.
    #[serde(default)]
    pub release: Option<String>,
    /// Policy TOML to plan with in place of the stored one.
    #[serde(default)]
    pub policy: Option<String>,
    /// The environment; without it the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
}

/// A plan: exact hosts a wave, and the hash that approvals name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanPreview {
    /// The service.
    pub service: ServiceName,
    /// The environment, where the policy has sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: Version,
    /// The hash of the plan.
    pub hash: Digest,
    /// Hosts over all waves.
    pub hosts: u64,
    /// In order.
    pub waves: Vec<PlanWave>,
    /// Seconds that it takes when nothing fails, windows not counted.
    #[serde(default)]
    pub predicted_secs: u64,
    /// Hosts that match and are left out, by name.
    #[serde(default)]
    pub skipped: Vec<PlanSkipped>,
    /// Hosts that must not be down together.
    #[serde(default)]
    pub guards: Vec<PlanGuard>,
    /// Hosts of the waves that could not take the release now, by name, each with the cause and the next step.
    #[serde(default)]
    pub held: Vec<PlanSkipped>,
    /// Waves of the policy that no host is in.
    #[serde(default)]
    pub empty_waves: Vec<String>,
    /// For a way back: the version that hosts go to.
    #[serde(default)]
    pub back_to: Option<Version>,
    /// Where a policy was typed: environments of it without hosts, and hosts that fit in none, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the environment waits for, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
}

/// A host that a plan leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanSkipped {
    /// Which.
    pub host: HostName,
    /// Why, in a sentence.
    pub why: String,
}

/// Hosts of which only so many may be down at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanGuard {
    /// Failure domain, quorum group or wave, with its name.
    pub name: String,
    /// How many they are.
    pub hosts: u32,
    /// How many may be down at once.
    pub max_down: u32,
}

/// One wave of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanWave {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<HostName>,
    /// Distinct approvals that open it; 0 for none.
    pub approvals: u32,
    /// Hosts in flight at once.
    pub max_in_flight: u64,
    /// Failures allowed.
    pub failure_budget: u64,
    /// Seconds that it is watched before the next opens.
    pub bake_secs: u64,
}

/// Answer to `POST /v1/releases` (the request is the JSON of an envelope with the manifest).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishAnswer {
    /// The digest of the manifest.
    pub release: ReleaseId,
    /// The service.
    pub service: ServiceName,
    /// The version.
    pub version: Version,
    /// Its place in the order of releases.
    pub seq: u64,
    /// Whether the very same release had been published before.
    pub existing: bool,
    /// The rollout that runs it or has been planned for it.
    pub rollout: Option<RolloutId>,
    /// Why no rollout was planned at once, for people.
    pub waiting: Option<String>,
    /// The rollout that comes first, where one is planned by itself after it.
    #[serde(default)]
    pub behind: Option<RolloutId>,
}

/// `GET /v1/releases?service=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasesAnswer {
    /// Newest first.
    pub releases: Vec<ReleaseSummary>,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSummary {
    /// The digest of its manifest.
    pub release: ReleaseId,
    /// Its service.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// Its place in the order.
    pub seq: u64,
    /// The digest of its tree.
    pub tree: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: u64,
    /// Whether it can never be reverted.
    pub one_way: bool,
    /// What must hold for the labels of a host that gets it; empty for nothing.
    #[serde(default)]
    pub requires: String,
    /// Whether hosts must run it before any newer one.
    #[serde(default)]
    pub barrier: bool,
    /// Whether it goes before a rollout under way, where the policy's `when_newer` is `hotfix`.
    #[serde(default)]
    pub hotfix: bool,
    /// When it was published.
    pub published: Timestamp,
    /// By whom; `None` where it was not a person or a job.
    pub by: Option<OperatorName>,
    /// Whether it may be rolled out.
    pub state: ReleaseState,
    /// Why it is poisoned.
    pub why: Option<String>,
    /// What became of it in each environment, in order, where the policy has sections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<ReleaseIn>,
}

/// Whether a release may be rolled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseState {
    /// Never rolled out to the end.
    Available,
    /// A rollout of it has completed.
    Proven,
    /// Failed on more hosts than it may, or was taken back; refused until cleared with a reason.
    Poisoned,
}

/// `GET /v1/releases/{id}` or `GET /v1/releases/{service}@{version}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleasePage {
    /// The release.
    pub release: ReleaseSummary,
    /// Where it comes from.
    pub source: Source,
    /// Keys that signed it.
    pub signers: Vec<PublicKey>,
    /// Its rollouts, newest first.
    pub rollouts: Vec<RolloutSummary>,
}

/// A decision that needs no more than its reason: `POST /v1/releases/{id}/clear`, and `/clear`, `/drain` and
/// `/undrain` of `/v1/hosts/{name}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// Why, for the ledger: 1 to 1,024 bytes.
    pub why: String,
}

/// `GET /v1/rollouts[?service=]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutsAnswer {
    /// Newest first, at most 100.
    pub rollouts: Vec<RolloutSummary>,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// Waits until the rollout before it is over.
    Queued,
    /// A wave is open.
    Running,
    /// A wave is done and watched.
    Baking,
    /// Waits for its gate.
    Gated,
    /// Stopped; waits for a person.
    Paused,
    /// The machine, or the red button, stopped it.
    Halted,
    /// Hosts go back.
    Reverting,
    /// Over; see the outcome.
    Done,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeName {
    /// Every host that could be reached runs the release.
    Completed,
    /// Its hosts went back.
    Reverted,
    /// A person ended it and kept what runs.
    Aborted,
    /// A newer release took over.
    Superseded,
}

/// One rollout in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutSummary {
    /// Its id.
    pub rollout: RolloutId,
    /// The service.
    pub service: ServiceName,
    /// The environment, where the policy has sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Why it does not go through the environments before, where a person skipped them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// The release.
    pub release: ReleaseId,
    /// Its version.
    pub version: Version,
    /// Where it stands.
    pub phase: PhaseName,
    /// How it ended; only with [`PhaseName::Done`].
    pub outcome: Option<OutcomeName>,
    /// Why it stands there, for people.
    pub why: Option<String>,
    /// The hash of its plan.
    pub plan: Digest,
    /// When it was planned, which may be long before its start: the name stays, as programs read it.
    pub started: Timestamp,
    /// When its phase last changed.
    pub changed: Timestamp,
    /// The open (or next) wave, counted from 0.
    pub wave: u32,
    /// Hosts, all waves together.
    pub counts: HostCounts,
}

/// Hosts by progress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCounts {
    /// All.
    pub hosts: u64,
    /// Not asked for anything yet.
    pub pending: u64,
    /// Fetching, or on disk and waiting for a slot.
    pub staging: u64,
    /// Holding a slot: about to switch, probing or baking.
    pub in_flight: u64,
    /// Baked.
    pub committed: u64,
    /// Failed or lost.
    pub failed: u64,
    /// Gone back.
    pub reverted: u64,
    /// Told to go back, and not there yet.
    #[serde(default)]
    pub reverting: u64,
    /// Lacking something that says nothing about the release.
    #[serde(default)]
    pub held: u64,
    /// Away.
    pub absent: u64,
    /// Left out by a person, or deleted.
    #[serde(default)]
    pub excluded: u64,
}

/// `GET /v1/rollouts/{id}`, and each event of `GET /v1/rollouts/{id}/watch` (without hosts there).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutPage {
    /// The rollout.
    pub rollout: RolloutSummary,
    /// In order.
    pub waves: Vec<WavePage>,
    /// What it waits for, one sentence each.
    pub why: Vec<String>,
    /// What an approver is asked; only while it is gated.
    pub ask: Option<ApprovalAsk>,
    /// By wave and name; empty in events.
    pub hosts: Vec<RolloutHost>,
}

/// One wave of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePage {
    /// Its name.
    pub name: String,
    /// Its hosts by progress.
    pub counts: HostCounts,
    /// Failures allowed.
    pub failure_budget: u64,
    /// Distinct approvals that open it; 0 for none.
    pub approvals: u32,
}

/// What an approver is asked to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalAsk {
    /// The release.
    pub release: ReleaseId,
    /// The service.
    pub service: ServiceName,
    /// The plan.
    pub plan: Digest,
    /// The wave that it opens.
    pub wave: u32,
    /// Environments of the hosts in the plan: one approval each.
    pub environments: Vec<Environment>,
    /// Who has approved.
    pub have: Vec<OperatorName>,
    /// Distinct approvals needed.
    pub needed: u32,
    /// The role that those who approve must have; `None` for anyone who may approve.
    #[serde(default)]
    pub role: Option<OperatorRole>,
}

/// One host in a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutHost {
    /// Its name.
    pub name: HostName,
    /// Its wave, counted from 0.
    pub wave: u32,
    /// Its progress in one word: pending, staging, staged, granted, probing, baking, committed,
    /// failed, reverting, overdue, reverted, absent, lost, held or excluded.
    pub progress: String,
    /// Why it is not further.
    pub why: Option<String>,
    /// Whether it failed and did not go back.
    #[serde(default)]
    pub stays: bool,
}

/// `POST /v1/rollouts/{id}/{pause|resume|halt|abort|revert}` and
/// `POST /v1/services/{s}/{halt|revert}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerbRequest {
    /// Why, for the ledger: 1 to 1,024 bytes.
    pub why: String,
    /// Only for abort: whether the hosts that switched keep the release.
    #[serde(default)]
    pub keep: bool,
}

/// `POST /v1/rollouts/{id}/steer`; the answer is a [`VerbAnswer`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteerRequest {
    /// Why, for the ledger: 1 to 1,024 bytes.
    pub why: String,
    /// What to do.
    pub steer: SteerAct,
}

/// What a person does to a rollout under way without changing its plan; docs/rollout.md, 9.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SteerAct {
    /// Opens the next wave.
    Promote {},
    /// Leaves out a wave that has not opened.
    SkipWave {
        /// Which, counted from 0.
        wave: u32,
    },
    /// Leaves out a host.
    Exclude {
        /// Which.
        host: HostName,
    },
    /// Tries a host again.
    Retry {
        /// Which.
        host: HostName,
    },
    /// Bounds the hosts in flight.
    Slow {
        /// At most so many, at least 1; `None` for the plan's own bound.
        max_in_flight: Option<u32>,
    },
}

/// Answer to [`VerbRequest`]. After it, no host starts to switch that had not switched before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerbAnswer {
    /// The rollout after it.
    pub rollout: RolloutSummary,
    /// Milliseconds from the request until the last outstanding permit was resolved.
    pub halt_ms: u64,
    /// Hosts that had begun to switch, or to go back, and are not done.
    pub in_flight: u64,
    /// Their names, at most 20.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// Whether it was so before: a second halt or pause is no error.
    #[serde(default)]
    pub already: bool,
    /// Other rollouts of the service that were stopped with it, in other environments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<RolloutSummary>,
}

/// `GET /v1/services/{s}/revert[?to=VERSION]`: what the revert of a service would do, without doing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertPreview {
    /// The service.
    pub service: ServiceName,
    /// The environment, where the policy has sections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// What its hosts run: the version that is left.
    pub from: Version,
    /// The version that they get; `None` where nothing ran before it.
    pub to: Option<Version>,
    /// Hosts that get it.
    pub hosts: u64,
    /// Hosts on which the service stops, since nothing ran there before.
    pub stops: u64,
    /// Hosts that run something else and are left as they are.
    #[serde(default)]
    pub others: Vec<RevertOther>,
}

/// A host that a revert leaves as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertOther {
    /// Its name.
    pub host: HostName,
    /// What it runs; `None` for nothing, or for a release that is not known.
    pub runs: Option<Version>,
    /// Why it is left so, where that is not what it runs.
    #[serde(default)]
    pub why: Option<String>,
}

/// `POST /v1/services/{s}/revert`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevertRequest {
    /// Why, for the ledger: 1 to 1,024 bytes.
    pub why: String,
    /// The proven version to go back to; without it the one before what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Version>,
    /// The environment; without it the only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Although nothing ran before what it leaves, so that the service stops; refused without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
}

/// Answer to [`RevertRequest`]. After it, no host switches to what is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevertAnswer {
    /// The rollout that goes back.
    pub rollout: RolloutSummary,
    /// Milliseconds from the request to the answer.
    #[serde(alias = "halt_ms")]
    pub answered_ms: u64,
}

/// Answer to `POST /v1/rollouts/{id}/approve` (the request is the JSON of an envelope).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveAnswer {
    /// The rollout after it.
    pub rollout: RolloutSummary,
    /// What is still asked; `None` once the wave is open.
    pub ask: Option<ApprovalAsk>,
}

/// `POST /v1/services/{s}/rollout`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// Release id or version.
    pub release: String,
    /// The hash of the plan that was shown, or its first 8 or more digits: another one is not started.
    #[serde(default)]
    pub plan: Option<String>,
    /// The environment; without it the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Why it does not go through the environments before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
}

/// Answer to [`StartRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAnswer {
    /// The rollout.
    pub rollout: RolloutSummary,
}

/// `GET /v1/audit?after=SEQ&limit=N`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPage {
    /// In order, at most 1,000 entries or about 1 MiB.
    pub entries: Vec<AuditEntry>,
    /// The newest entry.
    pub head: AuditHead,
}

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// SHA-256 over the chain value before it (32 zero bytes before entry 1) and the payload's bytes.
    pub chain: Digest,
    /// The exact JSON of the entry: `{seq, at, by, what}`.
    pub payload: String,
}

/// `GET /v1/audit/head`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Number of the newest entry; 0 for none.
    pub seq: u64,
    /// Its chain value.
    pub chain: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_refuse_what_they_do_not_know_and_debug_hides_secrets() {
        let error = serde_json::from_str::<VerbRequest>(r#"{"why":"x","kep":true}"#);
        assert!(error.expect_err("unknown").to_string().contains("unknown field `kep`"));
        let verb: VerbRequest = serde_json::from_str(r#"{"why":"x"}"#).expect("verb");
        assert!(!verb.keep, "an abort reverts unless it is told to keep");
        let profile = Profile {
            api: "a:1".into(),
            blobs: None,
            ca_pem: String::new(),
            name: "ann".parse().expect("name"),
            certificate_pem: String::new(),
            key_pem: "SECRET".into(),
        };
        assert!(!format!("{profile:?}").contains("SECRET"));
    }
}
