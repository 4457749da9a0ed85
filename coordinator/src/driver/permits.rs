//! Permits: who may switch this instant, and who was told so and has not answered. A halt is
//! acknowledged only when nobody is left who could still begin to switch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use groundswell_common::api::VerbAnswer;
use groundswell_common::directive::RawPermit;
use groundswell_common::limits::{PERMIT_COUNTED_MS, PERMIT_VALID_MS};
use groundswell_common::wire::{Deny, PermitRequest};
use groundswell_common::{HostId, HostName, RolloutId, ServiceName};
use groundswell_control::Refused;
use groundswell_rollout::{PlannedHost, Rollout};
use tokio::time::Instant;

use super::desk::{Desk, Finish};
use super::seats::Answer;
use crate::present;

/// Hosts that the answer to a verb names at most.
const HOSTS_NAMED_MAX: usize = 20;
/// Permits that one host may have outstanding: it asks for one a service at a time.
const OUTSTANDING_PER_HOST_MAX: usize = 64;

/// A host and the nonce of its question.
type Key = (HostId, [u8; 16]);

#[derive(Debug)]
struct Outstanding {
    service: ServiceName,
    until: Instant,
}

struct Waiter {
    /// Permits that may still be used under what the reply is about. None is added: it gives none any more.
    permits: BTreeSet<Key>,
    finish: Finish,
}

/// Permits that may still be used, and replies that wait for them.
pub(super) struct Permits {
    outstanding: BTreeMap<Key, Outstanding>,
    waiters: Vec<Waiter>,
    /// Permits of the process before may be out until then.
    starting_until: Instant,
}

impl Permits {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outstanding: BTreeMap::new(),
            waiters: Vec::new(),
            starting_until: now + Duration::from_millis(PERMIT_COUNTED_MS),
        }
    }

    pub(super) fn is_starting(&self, now: Instant) -> bool {
        now < self.starting_until
    }

    /// Keeps a reply until no permit of the rollout's service is out to a host of its plan, whichever rollout it was
    /// given under. A host outside the plan delays no answer.
    pub(super) fn wait(&mut self, rollout: &Rollout, finish: Finish) {
        let service = &rollout.plan().service;
        let ours = |(key, permit): (&Key, &Outstanding)| {
            let of_it = permit.service == *service && rollout.host(&key.0).is_some();
            of_it.then_some(*key)
        };
        let permits = self.outstanding.iter().filter_map(ours).collect();
        self.waiters.push(Waiter { permits, finish });
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
        let held = |waiter: &Waiter| waiter.permits.iter().any(|key| outstanding.contains_key(key));
        let (held, free): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(held);
        self.waiters = held;
        free.into_iter().map(|waiter| waiter.finish).collect()
    }

    /// When a reply may be free at the latest; `None` where none waits.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiters.first()?;
        let keys = self.waiters.iter().flat_map(|waiter| &waiter.permits);
        let earliest =
            keys.filter_map(|key| self.outstanding.get(key)).map(|permit| permit.until).min();
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
        let until = now + Duration::from_millis(PERMIT_COUNTED_MS);
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

    /// Keeps a reply until nobody can begin to switch under this rollout any more.
    pub(super) fn wait_for_permits(&mut self, rollout: &RolloutId, finish: Finish) {
        match self.control.view().rollout(rollout) {
            Some(rollout) => self.permits.wait(rollout, finish),
            None => finish(self),
        }
    }

    /// The answer to a verb.
    ///
    /// # Errors
    /// [`Refused::UnknownRollout`].
    pub fn verb_answer(&self, rollout: &RolloutId, asked: Instant) -> Result<VerbAnswer, Refused> {
        let record = self.view().rollouts.get(rollout);
        let record = record.ok_or_else(|| Refused::UnknownRollout(rollout.clone()))?;
        let inside = record.live().map(|rollout| self.inside(rollout)).unwrap_or_default();
        let in_flight = inside.len() as u64;
        let hosts = inside.into_iter().take(HOSTS_NAMED_MAX).collect();
        let halt_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rollout = present::record_summary(record);
        Ok(VerbAnswer { rollout, halt_ms, in_flight, hosts, already: false, others: Vec::new() })
    }

    /// Hosts of the plan that are in the middle of a hook or a switch, also those that the rollout before put there.
    fn inside(&self, rollout: &Rollout) -> Vec<HostName> {
        let service = &rollout.plan().service;
        let works = |host: &&PlannedHost| {
            let standing = self.control.word(&host.id).and_then(|word| word.standing(service));
            standing.is_some_and(|standing| standing.state.is_busy())
        };
        let before = rollout.left_in_flight().filter(works).map(|host| host.name.clone());
        rollout.inside().into_iter().chain(before).collect()
    }
}
