//! The messages. Enum variants are numbered by position: append only, and raise the wire version for
//! any other change.

use serde::{Deserialize, Serialize};

use crate::condition::Condition;
use crate::digest::Digest;
use crate::name::{HostName, ReleaseId, ServiceName};
use crate::report::Report;
use crate::trust::{Envelope, Signature};

/// The name by which a coordinator says in the TLS handshake (ALPN) that it takes
/// [`ToCoordinator::Condition`]. Builds before that offer no name, and none is agreed on with them.
pub const ALPN_CONDITIONS: &[u8] = b"groundswell/conditions";
/// The name of the level above: both know [`crate::directive::Action::Remove`] and [`ToAgent::Told`] too.
pub const ALPN_REMOVES: &[u8] = b"groundswell/2";
/// The name of the level above: both know [`ToAgent::Twin`] too.
pub const ALPN_TWINS: &[u8] = b"groundswell/3";

/// Levels of what both ends know, by what the TLS handshake agreed on: each knows what is below it.
pub const LEVEL_FIRST: u8 = 0;
/// Conditions.
pub const LEVEL_CONDITIONS: u8 = 1;
/// Services that are taken off, and what a host is told of itself and of the coordinator.
pub const LEVEL_REMOVES: u8 = 2;
/// Whether another machine uses the host's key.
pub const LEVEL_TWINS: u8 = 3;
/// All that this build knows.
pub const LEVEL_NEWEST: u8 = LEVEL_TWINS;

/// The names of a build that knows everything up to `level`, the highest first.
#[must_use]
pub fn alpn_names(level: u8) -> Vec<Vec<u8>> {
    let names = [
        (LEVEL_TWINS, ALPN_TWINS),
        (LEVEL_REMOVES, ALPN_REMOVES),
        (LEVEL_CONDITIONS, ALPN_CONDITIONS),
    ];
    let known = names.into_iter().filter(|(of, _)| *of <= level);
    known.map(|(_, name)| name.to_vec()).collect()
}

/// What was agreed on under this name.
#[must_use]
pub fn level_of(name: Option<&[u8]>) -> u8 {
    match name {
        Some(ALPN_TWINS) => LEVEL_TWINS,
        Some(ALPN_REMOVES) => LEVEL_REMOVES,
        Some(ALPN_CONDITIONS) => LEVEL_CONDITIONS,
        Some(_) | None => LEVEL_FIRST,
    }
}

/// From agent to coordinator. Who speaks is known from the certificate, never from the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToCoordinator {
    /// First message of a connection.
    Hello(Hello),
    /// The whole standing, after each change and after each connect.
    Report(Report),
    /// Asks for the leave to switch, right before the switch.
    PermitRequest(PermitRequest),
    /// The permit with this nonce was used or given back; nothing is outstanding under it.
    PermitDone {
        /// The nonce of the request.
        nonce: [u8; 16],
        /// Whether the live tree was switched under it.
        used: bool,
    },
    /// A beat on an idle connection.
    Beat,
    /// What the host has and lacks, whole, before the report that it explains. Sent only where the
    /// coordinator takes it: [`ALPN_CONDITIONS`].
    Condition(Condition),
}

/// From coordinator to agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// Answer to [`Hello`].
    Welcome(Welcome),
    /// The whole wish.
    Directive(DirectiveMessage),
    /// Every report up to this `seq` is durable where it matters.
    ReportAck {
        /// The newest report covered.
        seq: u64,
    },
    /// Answer to a [`PermitRequest`].
    Permit(PermitAnswer),
    /// Answer to a beat.
    Beat,
    /// The connection ends; when to come back.
    Farewell(Farewell),
    /// What the host should know of itself and of the way to the coordinator, signed. Only at
    /// [`LEVEL_REMOVES`].
    Told(Envelope),
    /// Whether another machine uses the key of this host, for the person who looks there. Only at
    /// [`LEVEL_TWINS`].
    Twin {
        /// Whether there is one.
        there: bool,
    },
}

/// Who the agent is and what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's version, for people.
    pub agent_version: String,
    /// The name that the host was enrolled under.
    pub host_name: HostName,
    /// Root version that the host trusts.
    pub root_version: u64,
    /// Version byte of the wire that the agent prefers.
    pub wire_version: u8,
}

/// What the agent needs to stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Seconds between beats.
    pub heartbeat_secs: u64,
    /// How to come back after a lost connection.
    pub backoff: Backoff,
    /// Base of the blob URLs, `http://HOST:PORT`.
    pub blobs: String,
    /// Roots after the agent's, in order, at most 16 at a time.
    pub roots: Vec<Envelope>,
}

/// Capped, jittered, exponential: try n waits between 0 and min(cap, base * 2^n).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Wait before the first try, at most, in milliseconds.
    pub base_ms: u64,
    /// Wait before any try, at most, in milliseconds.
    pub cap_ms: u64,
}

/// A signed directive and the proofs of the releases that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectiveMessage {
    /// The directive.
    pub envelope: Envelope,
    /// One entry a release named.
    pub proofs: Vec<ReleaseProof>,
}

/// What makes a manifest, fetched by its digest from any cache, a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseProof {
    /// The manifest's digest: the name of its blob.
    pub release: ReleaseId,
    /// Signatures over the manifest.
    pub signatures: Vec<Signature>,
    /// Approvals of persons, where the root asks for them.
    pub approvals: Vec<Envelope>,
}

/// Asks for the leave to switch one service now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PermitRequest {
    /// The generation of the directive behind it.
    pub generation: u64,
    /// Which service.
    pub service: ServiceName,
    /// To which release.
    pub release: ReleaseId,
    /// 16 random bytes, new for each question.
    pub nonce: [u8; 16],
}

impl PermitRequest {
    /// What the permit must echo.
    #[must_use]
    pub fn nonce_digest(&self) -> Digest {
        Digest::of(&self.nonce)
    }
}

/// A permit, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PermitAnswer {
    /// Switch within the permit's time, counted from the question.
    Granted {
        /// The nonce of the question.
        nonce: [u8; 16],
        /// The signed permit.
        envelope: Envelope,
    },
    /// Do not switch. A new directive comes when that changes.
    Denied {
        /// The nonce of the question.
        nonce: [u8; 16],
        /// Why.
        deny: Deny,
    },
}

/// Why a permit is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deny {
    /// The wish has changed; a newer directive is on its way.
    Stale,
    /// The coordinator has just started and does not know yet what is in flight; ask again in a second.
    Starting,
    /// The rollout is paused, halted or over.
    Stopped,
}

/// Why a connection ends and when to come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Farewell {
    /// For the agent's log.
    pub why: String,
    /// Milliseconds to wait at least.
    pub retry_after_ms: u64,
}
