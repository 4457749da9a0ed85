//! One input, one step. Refuses what does not fit the phase and then changes nothing; otherwise applies
//! it and lets the rest follow. Deterministic: the ledger replays it.

use groundswell_common::{Digest, HostId, OperatorName, RolloutId, Timestamp};

use crate::input::{Input, Moment};
use crate::state::{Phase, PhaseName, Rollout};

/// What the shell must do after a step is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Hosts whose wish changed, in plan order: compute and push their directives.
    pub changed_hosts: Vec<HostId>,
    /// Whether every host of the plan has a new wish (the start).
    pub all_hosts: bool,
    /// The changes of phase, in order, for log and audit.
    pub transitions: Vec<Transition>,
}

/// One change of phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: Phase,
    /// After; its data says why.
    pub to: Phase,
}

/// Why an input is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has not started.
    #[error("the rollout has not started; abort it if it never should")]
    NotStarted,
    /// It runs already.
    #[error("the rollout has started already")]
    Started,
    /// It is paused already.
    #[error("the rollout is paused already; resume it, or abort it")]
    Paused,
    /// It is halted already.
    #[error("the rollout is halted already; resume it, revert it, or abort it")]
    Halted,
    /// It is neither paused nor halted.
    #[error("the rollout is neither paused nor halted; there is nothing to resume")]
    NotStopped,
    /// It is going back.
    #[error("the rollout is being reverted; wait for the end, or halt it first")]
    Reverting,
    /// It is over.
    #[error("the rollout is over; start a new one")]
    Over,
    /// It went back already.
    #[error("the rollout has been reverted already")]
    Reverted,
    /// A newer rollout took over.
    #[error("rollout {0} took over; act on that one")]
    Superseded(RolloutId),
    /// The release cannot go back.
    #[error("the release is one-way and cannot be reverted; publish a release that repairs it")]
    OneWay,
    /// An approval of another plan.
    #[error("the approval is for another plan; approve plan {have}")]
    WrongPlan {
        /// The plan of this rollout.
        have: Digest,
    },
    /// An approval of a wave that does not exist or is open already.
    #[error("wave {0} (counted from 0) does not exist or is open already; approve a later one")]
    WrongWave(u32),
    /// An approval for which nobody asks.
    #[error("no wave that is still to open asks for an approval")]
    NoGate,
    /// A second approval by one person.
    #[error("{0} has approved this already; another person must")]
    ApprovedBefore(OperatorName),
    /// A host that is not in the plan.
    #[error("host {0} is not in the plan")]
    UnknownHost(HostId),
    /// A fact or tick that changes nothing.
    #[error("nothing changes")]
    NoChange,
    /// A reason that is too long.
    #[error("the reason has {bytes} bytes, at most 16384; shorten it")]
    TextTooLong {
        /// What came.
        bytes: usize,
    },
}

/// Applies one input as ledger entry `at.seq`.
///
/// # Errors
/// [`Refusal`] where the input does not fit or changes nothing; the rollout is then as it was.
pub fn step(rollout: &mut Rollout, input: &Input, at: Moment) -> Result<Effects, Refusal> {
    let _ = (input, at);
    match rollout.phase.name() {
        PhaseName::Planned => Err(Refusal::NotStarted),
        PhaseName::Running
        | PhaseName::Baking
        | PhaseName::Gated
        | PhaseName::Paused
        | PhaseName::Halted
        | PhaseName::Reverting
        | PhaseName::Done => Err(Refusal::NoChange),
    }
}

/// Whether a [`Input::Tick`] at `now` would change something.
#[must_use]
pub fn due(rollout: &Rollout, now: Timestamp) -> bool {
    next_deadline(rollout).is_some_and(|deadline| deadline <= now)
}

/// When the next tick is due; `None` where time alone changes nothing.
#[must_use]
pub fn next_deadline(rollout: &Rollout) -> Option<Timestamp> {
    rollout.sets.deadlines.first().map(|(time, _)| *time)
}
