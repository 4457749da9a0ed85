//! Whether a wave may open: the one place where gates are judged. Changes nothing.

use groundswell_common::{Digest, OperatorName, Timestamp};
use std::collections::BTreeSet;

use crate::explain::Why;
use crate::state::{Phase, Rollout};

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
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => {
            approvals(rollout, wave)
        }
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

/// What the gates of `wave` say, whatever the phase.
pub(crate) fn approvals(rollout: &Rollout, wave: u32) -> Judgement {
    let have = u32::try_from(approvers(rollout, wave).len()).unwrap_or(u32::MAX);
    let needed = approvals_needed(rollout, wave);
    if have >= needed {
        return Judgement::Open;
    }
    let plan: Digest = rollout.plan_hash;
    Judgement::Wait(Why::Approval { wave, have, needed, plan })
}
