//! The sessions of connected hosts. In memory only: agents come back by themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use groundswell_common::directive::RawDirective;
use groundswell_common::directive::RawPermit;
use groundswell_common::trust::RawTold;
use groundswell_common::wire::{Deny, Hello, ReleaseProof};
use groundswell_common::{HostId, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

/// What a host should be, before it is signed: the session signs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The directive.
    pub raw: RawDirective,
    /// Proofs of the releases that it names.
    pub proofs: Vec<ReleaseProof>,
    /// What the host should know of itself and of the way here.
    pub told: Option<RawTold>,
    /// Whether another machine uses the host's key.
    pub twin: bool,
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
    /// What both ends know, by the handshake: a level of the wire protocol.
    pub level: u8,
    /// The driver's end.
    pub seat: Seat,
    /// When the host was heard of last, in milliseconds since 1970.
    pub seen: Arc<AtomicU64>,
    /// Whether the host may stay.
    pub reply: oneshot::Sender<Admission>,
}

/// Whether a host that connects may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Stays,
    /// Nobody enrolled it, or it was removed.
    NotEnrolled,
    /// Another machine with the same key is connected.
    Twin,
}

/// All seats, and when each host was heard of last.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: BTreeMap<HostId, Seat>,
    /// In milliseconds since 1970.
    seen: BTreeMap<HostId, Arc<AtomicU64>>,
}

impl Seats {
    pub(super) fn take(&mut self, host: HostId, seat: Seat, seen: Arc<AtomicU64>) {
        self.seats.insert(host, seat);
        self.seen.insert(host, seen);
    }

    /// Ends the session of a host.
    pub(super) fn end(&mut self, host: &HostId) {
        self.seats.remove(host);
    }

    /// When the host was heard of last.
    pub(super) fn last_seen(&self, host: &HostId) -> Option<Timestamp> {
        let seen = self.seen.get(host)?.load(Ordering::Relaxed);
        Some(Timestamp::from_millis(seen)).filter(|at| at.as_millis() > 0)
    }

    /// Whether this very session still speaks for the host.
    pub(super) fn is_current(&self, host: &HostId, session: u64) -> bool {
        self.seats.get(host).is_some_and(|seat| seat.session == session)
    }

    /// Gives the session of a host its newest wish.
    pub(super) fn wish(&self, host: &HostId, wish: Wish) {
        if let Some(seat) = self.seats.get(host) {
            seat.wish.send_replace(Some(Arc::new(wish)));
        }
    }

    /// Queues an answer. `false` where the queue is full: the session is closed, and the host comes back.
    pub(super) fn answer(&mut self, host: &HostId, session: u64, answer: Answer) -> bool {
        let Some(seat) = self.seats.get(host).filter(|seat| seat.session == session) else {
            return true;
        };
        if seat.answers.try_send(answer).is_ok() {
            return true;
        }
        tracing::warn!(%host, "a session does not take its answers; closed");
        self.end(host);
        false
    }
}
