//! What the two sides say to each other, as frames of the wire's codec: at most 256 KiB each.

use std::time::Duration;

use groundswell_common::condition::Condition;
use groundswell_common::limits::{HEARTBEAT_SECS, HEARTBEATS_MISSED_MAX, SERVICES_PER_HOST_MAX};
use groundswell_common::report::Report;
use groundswell_common::trust::Envelope;
use groundswell_common::wire::{DirectiveMessage, PermitAnswer, PermitRequest, Welcome};
use groundswell_common::{Digest, HostName};
use serde::{Deserialize, Serialize};

use crate::told::Places;

/// A side says something at least this often.
pub(super) const BEAT: Duration = Duration::from_secs(HEARTBEAT_SECS);
/// A side that hears nothing for this long, or waits this long for the end of a frame, hangs up.
pub(super) const SILENCE: Duration = Duration::from_secs(HEARTBEAT_SECS * HEARTBEATS_MISSED_MAX);
/// A frame that is not taken within this time ends the session.
pub(super) const SEND: Duration = Duration::from_secs(10);
/// Blobs that are brought at the same time: one a service.
pub(super) const FETCHES_MAX: usize = SERVICES_PER_HOST_MAX;
/// Longest reason of a failed fetch that is believed, in bytes.
pub(super) const WHY_MAX_BYTES: usize = 1024;

/// From the apply side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToNet {
    /// First message of a session: where to go, as whom, under which root.
    Open(Open),
    /// A newer root is trusted.
    Root(Envelope),
    /// The whole standing.
    Report(Report),
    /// Asks for a permit.
    Ask(PermitRequest),
    /// Returns a permit.
    Done { nonce: [u8; 16], used: bool },
    /// Wants a blob in the spool.
    Fetch { number: u64, digest: Digest, limit_bytes: u64 },
    /// Wants it no longer.
    Stop { number: u64 },
    /// Has no more use for it in the spool.
    Discard(Digest),
    /// Has no use for anything in the spool.
    Clear,
    /// Nothing new.
    Beat,
    /// What the host has and lacks, before the report that it explains.
    Condition(Condition),
    /// First message of a session, in the place of [`ToNet::Open`], of a side that knows what is told.
    Begin(Begin),
    /// Where to go, or as whom, has changed.
    Places(Places),
}

/// The way to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) places: Places,
    pub(super) blobs: String,
    pub(super) root: Envelope,
}

/// What enrolment pinned of the way to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) name: HostName,
    pub(super) agents: String,
    pub(super) api: String,
    pub(super) blobs: String,
    pub(super) root: Envelope,
}

/// From the network side: what the coordinator said, unchecked, and how fetches ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ToApply {
    Welcome(Welcome),
    Directive(DirectiveMessage),
    Ack(u64),
    Permit(PermitAnswer),
    /// The session with the coordinator is over.
    Lost,
    /// A fetch ended: the blob is in the spool, or why it is not.
    Fetched {
        number: u64,
        failure: Option<String>,
    },
    /// Nothing new.
    Beat,
    /// What the host is told of itself and of the way to the coordinator, and where the coordinator was reached.
    /// Only to a side that began with [`ToNet::Begin`].
    Told(Envelope, String),
}
