//! Whether a wave may open: the one place where gates are judged. Changes nothing.

use std::collections::BTreeSet;

use groundswell_common::report::Verdict;
use groundswell_common::{Digest, OperatorName, Timestamp};

use crate::explain::Why;
use crate::phase::Phase;
use crate::state::Rollout;

/// What the gates of a wave say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It may open.
    Open,
    /// Not yet.
    Wait(Why),
    /// Not before a person acts on the whole rollout.
    Shut(Why),
}

/// Judges whether the wave that is next may open now.
#[must_use]
pub fn judge(rollout: &Rollout, wave: u32, now: Timestamp) -> Judgement {
    match &rollout.phase {
        Phase::Paused { .. } | Phase::Halted { .. } | Phase::Reverting { .. } => {
            Judgement::Shut(crate::explain::phase_why(rollout, now))
        }
        Phase::Done { .. } | Phase::Planned => {
            Judgement::Shut(crate::explain::phase_why(rollout, now))
        }
        Phase::Baking { until, .. } if now < *until => {
            Judgement::Wait(crate::explain::phase_why(rollout, now))
        }
        Phase::Running { wave: current, .. } if *current < wave => {
            Judgement::Wait(crate::explain::phase_why(rollout, now))
        }
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => gates(rollout, wave),
    }
}

/// The persons whose approval counts for `wave`.
#[must_use]
pub fn approvers(rollout: &Rollout, wave: u32) -> BTreeSet<&OperatorName> {
    rollout
        .approvals
        .iter()
        .filter(|approved| approved.wave.is_none_or(|only| only == wave))
        .map(|approved| &approved.by)
        .collect()
}

/// Persons that the gate of `wave` asks for; 0 where it asks for none.
#[must_use]
pub fn approvals_needed(rollout: &Rollout, wave: u32) -> u32 {
    rollout.planned_wave(wave).map_or(0, |wave| wave.gate.approvals)
}

/// What the gates of `wave` say, whatever the phase: approvals, then the person, then the webhook.
pub(crate) fn gates(rollout: &Rollout, wave: u32) -> Judgement {
    let Some((planned, state)) = rollout.planned_wave(wave).zip(rollout.wave_state(wave)) else {
        return Judgement::Open;
    };
    let have = u32::try_from(approvers(rollout, wave).len()).unwrap_or(u32::MAX);
    let needed = planned.gate.approvals;
    if have < needed {
        let plan: Digest = rollout.plan_hash;
        return Judgement::Wait(Why::Approval { wave, have, needed, plan });
    }
    if planned.gate.manual && !state.promoted {
        return Judgement::Wait(Why::Manual { wave });
    }
    if planned.gate.webhook && state.answer != Some(Verdict::Pass) {
        return Judgement::Wait(Why::Webhook { wave, answer: state.answer });
    }
    Judgement::Open
}

/// The wave whose webhook is to be asked now; `None` where nobody waits for an answer.
#[must_use]
pub fn asks_webhook(rollout: &Rollout) -> Option<u32> {
    match &rollout.phase {
        Phase::Gated { wave, .. } => match gates(rollout, *wave) {
            Judgement::Wait(Why::Webhook { wave, .. }) => Some(wave),
            Judgement::Open | Judgement::Wait(_) | Judgement::Shut(_) => None,
        },
        Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    }
}
