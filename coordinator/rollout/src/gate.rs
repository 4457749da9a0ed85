//! Whether a wave may open: the one place where gates are judged. Changes nothing.

use std::collections::BTreeSet;

use groundswell_common::report::Verdict;
use groundswell_common::{Digest, OperatorName};

use crate::explain::Why;
use crate::phase::Phase;
use crate::state::Rollout;

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

/// Which gate of `wave` is shut, whatever the phase: approvals, then the person, then the webhook.
/// `None` where it may open.
pub(crate) fn gates(rollout: &Rollout, wave: u32) -> Option<Why> {
    let (planned, state) = rollout.planned_wave(wave).zip(rollout.wave_state(wave))?;
    let have = u32::try_from(approvers(rollout, wave).len()).unwrap_or(u32::MAX);
    let needed = planned.gate.approvals;
    if have < needed {
        let plan: Digest = rollout.plan_hash;
        return Some(Why::Approval {
            wave,
            have,
            needed,
            plan,
            service: rollout.plan.service.clone(),
        });
    }
    if planned.gate.manual && !state.promoted {
        return Some(Why::Manual { wave });
    }
    if planned.gate.webhook && state.answer != Some(Verdict::Pass) {
        return Some(Why::Webhook { wave, answer: state.answer });
    }
    None
}

/// The wave whose webhook is to be asked now; `None` where nobody waits for an answer.
#[must_use]
pub fn asks_webhook(rollout: &Rollout) -> Option<u32> {
    match &rollout.phase {
        Phase::Gated { wave, .. } => match gates(rollout, *wave) {
            Some(Why::Webhook { wave, .. }) => Some(wave),
            Some(_) | None => None,
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
