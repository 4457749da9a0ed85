//! Permits: who may switch this instant, and who was told so and has not answered. A halt is
//! acknowledged only when nobody is left who could still begin to switch.

use std::collections::BTreeMap;
use std::time::Duration;

use groundswell_common::api::{SteerAct, VerbAnswer};
use groundswell_common::directive::{Action, RawPermit};
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::wire::{Deny, PermitRequest};
use groundswell_common::{HostId, OperatorName, RolloutId, ServiceName};
use groundswell_rollout::{Input, KeepOrRevert, Steer, may_switch};
use tokio::time::Instant;

use super::desk::{Desk, Finish};
use super::refused::Refused;
use super::seats::Answer;
use crate::entry::By;
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

/// What a person does to a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Stop new switches until resumed.
    Pause,
    /// Go on.
    Resume,
    /// The red button.
    Halt,
    /// End it; hosts keep what they run or go back.
    Abort(KeepOrRevert),
    /// Put the previous release back.
    Revert,
    /// Change its course, not its plan.
    Steer(Steer),
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
        self.may_switch(&host, request)?;
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

    /// Whether the host may switch now: by its rollout, or to what new hosts get.
    fn may_switch(&self, host: &HostId, request: &PermitRequest) -> Result<(), Deny> {
        let service = self.view.services.get(&request.service).ok_or(Deny::Stale)?;
        if let Some((rollout, _)) = self.view.governing(service, host) {
            return may_switch(rollout, host, &request.release, request.generation);
        }
        let (wish, generation) = self.view.wish(&request.service, host).ok_or(Deny::Stale)?;
        let wanted = Action::Switch { release: request.release };
        if wish.action == wanted && request.generation >= generation {
            Ok(())
        } else {
            Err(Deny::Stale)
        }
    }

    /// Applies a person's verb to a rollout.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn verb(
        &mut self,
        by: &OperatorName,
        rollout: &RolloutId,
        (verb, why): (Verb, &str),
    ) -> Result<(), Refused> {
        let record = self.view.rollouts.get(rollout);
        let record = record.ok_or_else(|| Refused::UnknownRollout(rollout.clone()))?;
        let service = present::record_summary(record).service;
        let newest = self.newest_rollout_id(&service)?;
        if newest != *rollout {
            return Err(Refused::NotNewest { rollout: rollout.clone(), newest });
        }
        let (by_name, why) = (by.clone(), why.to_owned());
        let input = match verb {
            Verb::Pause => Input::Pause { by: by_name, why },
            Verb::Resume => Input::Resume { by: by_name, why },
            Verb::Halt => Input::Halt { by: by_name, why },
            Verb::Abort(keep) => Input::Abort { by: by_name, why, keep },
            Verb::Revert => Input::Revert { by: by_name, why },
            Verb::Steer(steer) => Input::Steer { by: by_name, why, steer },
        };
        self.rollout_input(By::Operator(by.clone()), rollout, input).map(drop)
    }

    /// What a person asked for, with the host's name looked up.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn steer_of(&self, act: &SteerAct) -> Result<Verb, Refused> {
        let steer = match act {
            SteerAct::Promote {} => Steer::Promote,
            SteerAct::SkipWave { wave } => Steer::SkipWave { wave: *wave },
            SteerAct::Exclude { host } => Steer::Exclude { host: self.host_id(host)? },
            SteerAct::Retry { host } => Steer::Retry { host: self.host_id(host)? },
            SteerAct::Slow { max_in_flight } => Steer::Slow { max_in_flight: *max_in_flight },
        };
        Ok(Verb::Steer(steer))
    }

    /// The newest rollout of a service.
    ///
    /// # Errors
    /// [`Refused::UnknownService`] or [`Refused::NoRollout`].
    pub fn newest_rollout_id(&self, name: &ServiceName) -> Result<RolloutId, Refused> {
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        service.rollouts.last().cloned().ok_or_else(|| Refused::NoRollout(name.clone()))
    }

    /// The answer to a verb.
    ///
    /// # Errors
    /// [`Refused::UnknownRollout`].
    pub fn verb_answer(&self, rollout: &RolloutId, asked: Instant) -> Result<VerbAnswer, Refused> {
        let record = self.view.rollouts.get(rollout);
        let record = record.ok_or_else(|| Refused::UnknownRollout(rollout.clone()))?;
        let in_flight = record.live().map_or(0, |live| live.in_flight() as u64);
        let halt_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(VerbAnswer { rollout: present::record_summary(record), halt_ms, in_flight })
    }
}
