//! Why it is waiting, as data with one sentence each: the one answer that every surface prints.
//! Changes nothing.

use std::fmt;

use groundswell_common::report::FailedStep;
use groundswell_common::{Digest, HostId, OperatorName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::{HaltCause, Outcome, Phase, Resumable, RevertCause, Rollout, Tally};

/// One reason. Waves are counted from 0 here and from 1 in the sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The rollout has not started.
    NotStarted,
    /// A wave is open and waits for its hosts.
    WaveOpen {
        /// Which wave.
        wave: u32,
        /// Where its hosts stand.
        tally: Tally,
        /// Slots that it has.
        slots: u32,
        /// When it halts unless a host commits.
        progress_by: Timestamp,
    },
    /// Every host of the open wave is away.
    WaveAway {
        /// Which wave.
        wave: u32,
        /// Its hosts.
        hosts: u32,
        /// When it halts.
        progress_by: Timestamp,
    },
    /// A wave is watched.
    WaveBakes {
        /// Which wave.
        wave: u32,
        /// Until when.
        until: Timestamp,
        /// Milliseconds left.
        left_millis: u64,
    },
    /// Persons must approve.
    Approval {
        /// The wave that would open.
        wave: u32,
        /// Persons who did.
        have: u32,
        /// Persons needed.
        needed: u32,
        /// The plan to approve.
        plan: Digest,
    },
    /// A person paused it.
    Paused {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
        /// Where a resume goes on.
        resume: Resumable,
    },
    /// It is halted.
    Halted {
        /// What stopped it.
        cause: HaltCause,
        /// Where a resume goes on.
        resume: Resumable,
    },
    /// The previous release is put back.
    Reverting {
        /// Why.
        cause: RevertCause,
        /// The wave that goes back now.
        wave: u32,
        /// Connected hosts that still have to go back.
        left: u32,
    },
    /// It is over.
    Done {
        /// How it ended.
        outcome: Outcome,
        /// Hosts that have not arrived where the outcome says.
        stragglers: u32,
    },
    /// A newer rollout took over.
    Superseded {
        /// Which.
        by: RolloutId,
    },
    /// Stragglers wait, since too many of them failed.
    LaneShut {
        /// The wave whose budget is used up.
        wave: u32,
        /// Failures not acknowledged.
        failures: u32,
        /// What it may have.
        budget: u32,
    },
    /// The host is not in the plan.
    NotPlanned {
        /// The host.
        host: HostId,
    },
    /// The host's wave is not open.
    HostPending {
        /// Its wave.
        wave: u32,
        /// The wave that the rollout is at; `None` before the start and after the end.
        current: Option<u32>,
    },
    /// The host fetches and unpacks.
    HostStaging,
    /// The host waits for a slot.
    HostWaitsForSlot {
        /// Hosts before it.
        before: u32,
        /// Slots in use.
        in_flight: u32,
        /// Slots.
        slots: u32,
    },
    /// The host may switch and has not reported that it did.
    HostGranted {
        /// When it counts as lost.
        deadline: Timestamp,
    },
    /// The host's probes have not passed yet.
    HostProbing {
        /// When it counts as lost.
        deadline: Timestamp,
    },
    /// The host's probes pass; it is watched.
    HostBaking {
        /// When it counts as lost.
        deadline: Timestamp,
    },
    /// The host is there.
    HostCommitted,
    /// The release failed on the host.
    HostFailed {
        /// At which step.
        step: FailedStep,
        /// What happened.
        why: String,
        /// Whether the release before it is live again.
        reverted: bool,
    },
    /// The host fell silent while it held a slot.
    HostLost,
    /// The host was away when its turn came.
    HostAbsent,
    /// The host is not connected.
    HostAway {
        /// Since when.
        since: Timestamp,
    },
    /// The host goes back.
    HostReverting {
        /// When its slot is taken back.
        deadline: Timestamp,
    },
    /// The host was told to go back and has not answered.
    HostOverdue,
    /// The host went back.
    HostReverted,
}

/// Why the rollout, or one of its hosts, is where it is; the nearest reason first.
#[must_use]
pub fn explain(rollout: &Rollout, host: Option<&HostId>, now: Timestamp) -> Vec<Why> {
    let _ = host;
    vec![phase_why(rollout, now)]
}

/// The reason that the phase gives.
pub(crate) fn phase_why(rollout: &Rollout, now: Timestamp) -> Why {
    match &rollout.phase {
        Phase::Planned => Why::NotStarted,
        Phase::Running { wave, progress_by } => Why::WaveOpen {
            wave: *wave,
            tally: rollout.tally(*wave).unwrap_or_default(),
            slots: rollout.planned_wave(*wave).map_or(0, |wave| wave.max_in_flight),
            progress_by: *progress_by,
        },
        Phase::Baking { wave, until } => {
            Why::WaveBakes { wave: *wave, until: *until, left_millis: until.millis_since(now) }
        }
        Phase::Gated { wave, .. } => Why::Approval {
            wave: *wave,
            have: u32::try_from(crate::gate::approvers(rollout, *wave).len()).unwrap_or(u32::MAX),
            needed: crate::gate::approvals_needed(rollout, *wave),
            plan: rollout.plan_hash,
        },
        Phase::Paused { by, why, resume, .. } => {
            Why::Paused { by: by.clone(), why: why.clone(), resume: resume.clone() }
        }
        Phase::Halted { cause, resume, .. } => {
            Why::Halted { cause: cause.clone(), resume: resume.clone() }
        }
        Phase::Reverting { cause, wave } => Why::Reverting {
            cause: cause.clone(),
            wave: *wave,
            left: u32::try_from(rollout.sets.may_run.len()).unwrap_or(u32::MAX),
        },
        Phase::Done { outcome, .. } => Why::Done { outcome: outcome.clone(), stragglers: 0 },
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
