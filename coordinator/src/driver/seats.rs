//! Who is connected and what each host said last. In memory only: agents tell all of it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use groundswell_common::condition::{Condition, ServiceCondition};
use groundswell_common::directive::RawDirective;
use groundswell_common::directive::RawPermit;
use groundswell_common::report::{Report, Standing};
use groundswell_common::wire::{Deny, Hello, ReleaseProof};
use groundswell_common::{HostId, ReleaseId, ServiceName, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

/// What a host should be, before it is signed: the session signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The directive.
    pub raw: RawDirective,
    /// Proofs of the releases that it names.
    pub proofs: Vec<ReleaseProof>,
}

/// What a session sends besides directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Reports up to this one are durable where it matters.
    Ack(u64),
    /// A permit to sign.
    Grant {
        /// The nonce of the question.
        nonce: [u8; 16],
        /// The permit.
        permit: RawPermit,
    },
    /// No permit.
    Deny {
        /// The nonce of the question.
        nonce: [u8; 16],
        /// Why.
        deny: Deny,
    },
}

/// The driver's end of a session. Dropping it ends the session.
#[derive(Debug)]
pub struct Seat {
    /// Tells two connections of one host apart.
    pub session: u64,
    /// The latest wish; older ones are never queued.
    pub wish: watch::Sender<Option<Arc<Wish>>>,
    /// Bounded; a session that does not take its answers is closed.
    pub answers: mpsc::Sender<Answer>,
}

/// A session that begins.
#[derive(Debug)]
pub struct Arrival {
    /// Who, from the certificate.
    pub host: HostId,
    /// What it says of itself.
    pub hello: Hello,
    /// The driver's end.
    pub seat: Seat,
    /// When the host was heard of last, in milliseconds since 1970.
    pub seen: Arc<AtomicU64>,
    /// Whether the host may stay.
    pub reply: oneshot::Sender<bool>,
}

/// What a host said last.
#[derive(Clone, Debug, Default)]
pub struct Word {
    /// Version of its agent.
    pub agent_version: String,
    /// Its last report.
    pub report: Option<Report>,
    /// What it has and lacks; `None` from an agent that does not say it.
    pub condition: Option<Condition>,
    /// When it was heard of last, in milliseconds since 1970.
    pub seen: Arc<AtomicU64>,
}

impl Word {
    /// When the host was heard of last.
    #[must_use]
    pub fn last_seen(&self) -> Timestamp {
        Timestamp::from_millis(self.seen.load(Ordering::Relaxed))
    }

    /// What the host said of a service.
    #[must_use]
    pub fn standing(&self, service: &ServiceName) -> Option<&Standing> {
        let report = self.report.as_ref()?;
        report.services.iter().find(|standing| standing.service == *service)
    }

    /// What the host has and lacks for a service.
    #[must_use]
    pub fn condition_of(&self, service: &ServiceName) -> Option<&ServiceCondition> {
        let condition = self.condition.as_ref()?;
        condition.services.iter().find(|found| found.service == *service)
    }

    /// The release of a service that the host says it runs.
    #[must_use]
    pub fn running(&self, service: &ServiceName) -> Option<ReleaseId> {
        self.standing(service).and_then(|standing| standing.running)
    }
}

/// All seats and words.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub(super) seats: BTreeMap<HostId, Seat>,
    pub(super) words: BTreeMap<HostId, Word>,
}

impl Seats {
    pub(super) fn is_connected(&self, host: &HostId) -> bool {
        self.seats.contains_key(host)
    }

    /// Whether this very session still speaks for the host.
    pub(super) fn is_current(&self, host: &HostId, session: u64) -> bool {
        self.seats.get(host).is_some_and(|seat| seat.session == session)
    }

    /// Queues an answer; a session whose queue is full is closed, and the host comes back.
    pub(super) fn answer(&mut self, host: &HostId, session: u64, answer: Answer) {
        let Some(seat) = self.seats.get(host).filter(|seat| seat.session == session) else {
            return;
        };
        if seat.answers.try_send(answer).is_err() {
            tracing::warn!(%host, "a session does not take its answers; closed");
            self.seats.remove(host);
        }
    }
}
