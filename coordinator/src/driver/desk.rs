//! What the driver works on: the control, and what it needs around it: sessions, permits that are out, the
//! clock, answers that wait until what is decided is durable.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use groundswell_common::api::PublishAnswer;
use groundswell_common::condition::Condition;
use groundswell_common::directive::RawDirective;
use groundswell_common::report::Report;
use groundswell_common::time::Clock;
use groundswell_common::{HostId, OperatorName, RolloutId, Timestamp};
use groundswell_control::entry::{Entry, PAYLOAD_MAX_BYTES, Published};
use groundswell_control::{Control, Pending, Refused};
use tokio::time::Instant;

use super::permits::Permits;
use super::seats::{Admission, Answer, Arrival, Seats, Wish};
use crate::ledger::Reader;
use crate::view::View;

/// Times of entries that are kept in memory; older ones are read from the ledger.
const TIMES_MAX: usize = 65_536;

/// What runs once a change is durable.
pub(super) type Finish = Box<dyn FnOnce(&mut Desk) + Send>;

/// When the reply to a change may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// As soon as it is durable.
    Durable,
    /// Once no permit of this rollout's service is outstanding any more.
    NoPermits(RolloutId),
}

/// The driver's state. What needs no session, clock or permit is asked of the control in it.
pub struct Desk {
    pub(super) control: Control,
    pub(super) seats: Seats,
    pub(super) permits: Permits,
    pub(super) clock: Arc<dyn Clock>,
    started: Instant,
    pub(super) reader: Reader,
    pub(super) root_version: u64,
    /// Answers that may go out once what is pending is durable.
    pub(super) answers: Vec<(HostId, u64, Answer)>,
    times: BTreeMap<u64, Timestamp>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desk(seq {}, {} connected)", self.view().seq, self.connected())
    }
}

impl Deref for Desk {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for Desk {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Desk {
    pub(super) fn new(
        view: View,
        (clock, reader): (Arc<dyn Clock>, Reader),
        root_version: u64,
    ) -> Self {
        Self {
            control: Control::new(view),
            seats: Seats::default(),
            permits: Permits::new(Instant::now()),
            clock,
            started: Instant::now(),
            reader,
            root_version,
            answers: Vec::new(),
            times: BTreeMap::new(),
        }
    }

    /// The present, as decisions go by it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.control.now()
    }

    /// Lets the control know the present.
    pub(super) fn look_at_the_clock(&mut self) {
        self.control.look_at_the_clock(self.clock.now(), self.started.elapsed());
    }

    /// Whether permits are still withheld after the start.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.permits.is_starting(Instant::now())
    }

    /// Payloads of what is to become durable; the times of its entries are kept.
    pub(super) fn take_payloads(&mut self) -> Vec<Vec<u8>> {
        let pending = self.control.take_pending().into_iter();
        let payloads = pending.map(|Pending { seq, at, payload }| {
            self.times.insert(seq, at);
            if self.times.len() > TIMES_MAX {
                self.times.pop_first();
            }
            payload
        });
        payloads.collect()
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { host, hello, level, seat, seen, reply } = arrival;
        let admission = match self.view().hosts.contains_key(&host) {
            false => Admission::NotEnrolled,
            // One of the two stays, so that they do not throw each other out for ever.
            true if self.control.is_twin(&host) && self.control.is_connected(&host) => {
                Admission::Twin
            }
            true => Admission::Stays,
        };
        if admission == Admission::Twin {
            self.control.sent_away(&host);
        }
        if reply.send(admission).is_err() || admission != Admission::Stays {
            return;
        }
        self.seats.take(host, seat, seen);
        self.control.arrive(host, (hello.agent_version, level));
    }

    pub(super) fn leave(&mut self, host: HostId, session: u64) {
        if self.seats.is_current(&host, session) {
            self.seats.end(&host);
            self.control.leave(host);
        }
    }

    pub(super) fn condition(&mut self, (host, session): (HostId, u64), condition: Condition) {
        if self.seats.is_current(&host, session) {
            self.control.condition(host, condition);
        }
    }

    pub(super) fn report(&mut self, (host, session): (HostId, u64), report: Report) {
        if !self.seats.is_current(&host, session) {
            return;
        }
        self.answers.push((host, session, Answer::Ack(report.seq)));
        self.control.report(host, report);
    }

    /// Publishes a release, and says so in the log where it is new.
    ///
    /// # Errors
    /// As [`Control::publish`].
    pub fn publish(
        &mut self,
        by: &OperatorName,
        published: Published,
    ) -> Result<PublishAnswer, Refused> {
        let answer = self.control.publish(by, published)?;
        if !answer.existing {
            let (service, version) = (&answer.service, &answer.version);
            tracing::info!(%service, release = ?answer.release, %version, "release published");
        }
        Ok(answer)
    }

    /// Gives each connected host with a stale wish its new one.
    pub(super) fn push_wishes(&mut self) {
        for host in self.control.take_stale() {
            if let Some(wish) = self.wish(&host) {
                self.seats.wish(&host, wish);
            }
        }
    }

    /// Hands out answers to what is durable by now.
    pub(super) fn send_answers(&mut self) {
        for (host, session, answer) in std::mem::take(&mut self.answers) {
            if !self.seats.answer(&host, session, answer) {
                self.control.close(&host);
            }
        }
    }

    /// What the host should be now; `None` where it is not enrolled.
    fn wish(&mut self, host: &HostId) -> Option<Wish> {
        let wished = self.control.wish(host)?;
        let seq = wished.generation.checked_sub(self.view().lift)?;
        let issued = self.entry_time(seq)?.as_secs();
        let raw = RawDirective {
            host: *host,
            environment: wished.environment,
            generation: wished.generation,
            issued,
            root_version: self.root_version,
            services: wished.services,
        };
        let twin = self.control.is_twin(host);
        Some(Wish { raw, proofs: wished.proofs, told: wished.told, twin })
    }

    /// The time of an entry: the same whenever it is asked for, so that equal wishes are equal bytes.
    fn entry_time(&mut self, seq: u64) -> Option<Timestamp> {
        if let Some(at) = self.times.get(&seq) {
            return Some(*at);
        }
        let entries = match self.reader.read(seq.checked_sub(1)?, 1, PAYLOAD_MAX_BYTES) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(seq, %error, "failed to read an entry of the ledger");
                return None;
            }
        };
        let payload = entries.first()?.payload.as_bytes();
        match Entry::from_payload(seq, payload) {
            Ok(entry) => {
                self.times.insert(seq, entry.at);
                Some(entry.at)
            }
            Err(error) => {
                tracing::error!(seq, %error, "failed to read an entry of the ledger");
                None
            }
        }
    }
}
