//! What persons do to rollouts; and the answer to a host that asks for a permit: whether it may switch this instant.

use groundswell_common::api::{RolloutSummary, SteerAct};
use groundswell_common::directive::Action;
use groundswell_common::wire::{Deny, PermitRequest};
use groundswell_common::{HostId, OperatorName, RolloutId, ServiceName};
use groundswell_rollout::{Input, KeepOrRevert, Outcome, Phase, Refusal, Steer, may_switch};

use crate::control::Control;
use crate::entry::By;
use crate::lanes::Of;
use crate::present;
use crate::refused::{Refused, host_of};

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

impl Control {
    /// Whether the host may switch now: by its rollout, or to what new hosts get.
    ///
    /// # Errors
    /// Why not.
    pub fn may_switch(&self, host: &HostId, request: &PermitRequest) -> Result<(), Deny> {
        // Of two machines nobody knows which one would switch; and who is drained may be in the middle of it by a
        // permit that ran out, or may have its slot still where the process ended before the rollout was told.
        if self.kept_out(host).is_some() {
            return Err(Deny::Stopped);
        }
        let generation = request.generation.checked_sub(self.view.lift).ok_or(Deny::Stale)?;
        let request = &PermitRequest { generation, ..request.clone() };
        let service = self.view.services.get(&request.service).ok_or(Deny::Stale)?;
        if let Some((rollout, _)) = self.view.governing(service, host) {
            return may_switch(rollout, host, &request.release, request.generation, self.now);
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
        let RolloutSummary { service, environment, .. } = present::record_summary(record);
        let newest = match &environment {
            Some(environment) => self.view.newest_in(&service, environment),
            None => self.view.newest_rollout(&service),
        };
        let newest = newest.ok_or_else(|| Refused::NoRollout(service.clone()))?.id().clone();
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
        let done = self.rollout_input(By::Operator(by.clone()), rollout, input);
        done.map(drop).map_err(|refused| self.with_step(rollout, refused))
    }

    /// What a person does instead where the rollout is over.
    fn with_step(&self, rollout: &RolloutId, refused: Refused) -> Refused {
        let (Refused::Step(Refusal::Over), Some(found)) = (&refused, self.view.rollout(rollout))
        else {
            return refused;
        };
        let Phase::Done { outcome, .. } = found.phase() else { return refused };
        let (name, version) = (&found.plan().service, &found.plan().release.version);
        let named = found.plan().environment.as_ref();
        let place = named.map(|name| format!(" --environment {name}")).unwrap_or_default();
        let start = format!("'swell rollout start {name} {version}{place}' starts another");
        let release = self.view.releases.get(&found.release());
        let poisoned = release.is_some_and(|it| it.poisoned_in(&found.plan().lane()).is_some());
        let next = match outcome {
            Outcome::Completed => format!("'swell revert {name}{place}' takes it back, {start}"),
            Outcome::Reverted { .. } | Outcome::Aborted { .. } | Outcome::Superseded { .. }
                if poisoned =>
            {
                format!(
                    "publish a corrected release, or 'swell release clear {name}@{version} --why TEXT', after which \
                     {start}"
                )
            }
            Outcome::Reverted { .. } | Outcome::Aborted { .. } | Outcome::Superseded { .. } => {
                start
            }
        };
        let outcome = present::outcome_name(outcome);
        let (rollout, service, version) = (rollout.clone(), name.clone(), version.clone());
        Refused::Over { rollout, service, version, outcome, next }
    }

    /// A refusal of a rollout with the name of the host that it is about, where it is about one.
    #[must_use]
    pub fn named(&self, refusal: Refusal) -> Refused {
        let host = host_of(&refusal).and_then(|id| self.view.hosts.get(id));
        match host.map(|host| host.name.clone()) {
            Some(host) => Refused::StepOn { host, refusal },
            None => Refused::Step(refusal),
        }
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

    /// The rollout of a service that a person means who names no more: the one under way, or else the newest.
    ///
    /// # Errors
    /// [`Refused::UnknownService`], [`Refused::NoRollout`], or [`Refused::WhichRollout`] where several
    /// environments have one under way.
    pub fn newest_rollout_id(&self, (name, asked): Of<'_>) -> Result<RolloutId, Refused> {
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let none = || Refused::NoRollout(name.clone());
        if let Some(asked) = asked {
            let newest = self.view.newest_in(name, asked);
            return newest.map(|rollout| rollout.id().clone()).ok_or_else(none);
        }
        match self.under_way(name).as_slice() {
            [] => service.rollouts.last().cloned().ok_or_else(none),
            [only] => Ok(only.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(RolloutId::as_str).collect();
                Err(Refused::WhichRollout { service: name.clone(), names: names.join(", ") })
            }
        }
    }

    /// The rollouts of a service that are under way, the newest first: at most one in an environment.
    #[must_use]
    pub fn under_way(&self, name: &ServiceName) -> Vec<RolloutId> {
        let live = self.view.services.get(name).into_iter().flat_map(|of| of.live.iter().rev());
        let live = live.filter_map(|id| self.view.rollout(id));
        live.filter(|rollout| !rollout.is_over()).map(|rollout| rollout.id().clone()).collect()
    }
}
