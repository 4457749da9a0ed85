//! Permits: who may switch this instant, and who was told so and has not answered. A halt is
//! acknowledged only when nobody is left who could still begin to switch.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_common::api::VerbAnswer;
use groundswell_common::directive::RawPermit;
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::wire::{Deny, PermitRequest};
use groundswell_common::{HostId, RolloutId, ServiceName};
use groundswell_control::Refused;
use tokio::time::Instant;

use super::desk::{Desk, Finish};
use super::seats::Answer;
use crate::present;

/// Permits that one host may have outstanding: it asks for one a service at a time.
const OUTSTANDING_PER_HOST_MAX: usize = 64;

#[derive(Debug)]
struct Outstanding {
    service: ServiceName,
    until: Instant,
}

struct Waiter {
    service: ServiceName,
    finish: Finish,
}

/// Permits that may still be used, and replies that wait for them.
pub(super) struct Permits {
    outstanding: BTreeMap<(HostId, [u8; 16]), Outstanding>,
    waiters: Vec<Waiter>,
    /// Permits of the process before may be out until then.
    starting_until: Instant,
}

impl Permits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outstanding: BTreeMap::new(),
            waiters: Vec::new(),
            starting_until: now + Duration::from_millis(PERMIT_VALID_MS),
        }
    }

    pub(super) fn is_starting(&self, now: Instant) -> bool {
        now < self.starting_until
    }

    /// Keeps a reply until no permit of the service is out, whichever rollout it was given under.
    pub(super) fn wait(&mut self, service: ServiceName, finish: Finish) {
        self.waiters.push(Waiter { service, finish });
    }

    pub(super) fn done(&mut self, host: HostId, nonce: [u8; 16]) {
        self.outstanding.remove(&(host, nonce));
    }

    /// Replies that nothing holds back any more.
    pub(super) fn settled(&mut self, now: Instant) -> Vec<Finish> {
        self.outstanding.retain(|_, permit| permit.until > now);
        if self.is_starting(now) || self.waiters.is_empty() {
            return Vec::new();
        }
        let outstanding = &self.outstanding;
        let held =
            |waiter: &Waiter| outstanding.values().any(|permit| permit.service == waiter.service);
        let (held, free): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(held);
        self.waiters = held;
        free.into_iter().map(|waiter| waiter.finish).collect()
    }

    /// When a reply may be free at the latest; `None` where none waits.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let first = self.waiters.first()?;
        let services = self.waiters.iter().map(|waiter| &waiter.service);
        let ours = |permit: &&Outstanding| services.clone().any(|w| *w == permit.service);
        let earliest = self.outstanding.values().filter(ours).map(|permit| permit.until).min();
        tracing::trace!(service = %first.service, "a reply waits for permits");
        Some(earliest.unwrap_or(self.starting_until).max(self.starting_until))
    }

    fn count(&self, host: &HostId) -> usize {
        self.outstanding.range((*host, [0; 16])..=(*host, [0xff; 16])).count()
    }
}

impl Desk {
    /// Answers a question for a permit.
    pub(super) fn permit(&mut self, (host, session): (HostId, u64), request: &PermitRequest) {
        if !self.seats.is_current(&host, session) {
            return;
        }
        let nonce = request.nonce;
        let answer = match self.grant(host, request) {
            Ok(permit) => Answer::Grant { nonce, permit },
            Err(deny) => {
                tracing::debug!(%host, service = %request.service, ?deny, "a permit was denied");
                Answer::Deny { nonce, deny }
            }
        };
        self.answers.push((host, session, answer));
    }

    fn grant(&mut self, host: HostId, request: &PermitRequest) -> Result<RawPermit, Deny> {
        let now = Instant::now();
        if self.permits.is_starting(now) {
            return Err(Deny::Starting);
        }
        self.control.may_switch(&host, request)?;
        if self.permits.count(&host) >= OUTSTANDING_PER_HOST_MAX {
            return Err(Deny::Stale);
        }
        let until = now + Duration::from_millis(PERMIT_VALID_MS);
        let outstanding = Outstanding { service: request.service.clone(), until };
        self.permits.outstanding.insert((host, request.nonce), outstanding);
        Ok(RawPermit {
            host,
            service: request.service.clone(),
            release: request.release,
            generation: request.generation,
            nonce: request.nonce_digest(),
            valid_ms: PERMIT_VALID_MS,
        })
    }

    /// The answer to a verb.
    ///
    /// # Errors
    /// [`Refused::UnknownRollout`].
    pub fn verb_answer(&self, rollout: &RolloutId, asked: Instant) -> Result<VerbAnswer, Refused> {
        let record = self.view().rollouts.get(rollout);
        let record = record.ok_or_else(|| Refused::UnknownRollout(rollout.clone()))?;
        let in_flight = record.live().map_or(0, |live| live.in_flight() as u64);
        let halt_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rollout = present::record_summary(record);
        Ok(VerbAnswer { rollout, halt_ms, in_flight, already: false })
    }
}
