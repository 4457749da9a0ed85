//! Where a rollout as a whole stands: its phase, what stopped or turned it, how it ended. Values only.

use groundswell_common::{OperatorName, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

/// Where the rollout as a whole stands. Waves are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not started: queued, or just made.
    Planned,
    /// A wave is open.
    Running {
        /// Which.
        wave: u32,
        /// Halted at this point unless a host of it commits or fetches before, or goes on after it was held.
        progress_by: Timestamp,
    },
    /// A wave is finished and watched.
    Baking {
        /// Which.
        wave: u32,
        /// Until when.
        until: Timestamp,
    },
    /// A wave waits for its gate.
    Gated {
        /// The wave that would open.
        wave: u32,
        /// Since when.
        since: Timestamp,
    },
    /// Stopped, and waits for a person's answer.
    Paused {
        /// What stopped it.
        cause: PauseCause,
        /// Since when.
        since: Timestamp,
        /// Where a resume goes on.
        resume: Resumable,
    },
    /// Stopped by the machine or by the red button.
    Halted {
        /// What stopped it.
        cause: HaltCause,
        /// Since when.
        since: Timestamp,
        /// Where a resume goes on.
        resume: Resumable,
    },
    /// The previous release is put back, from the last wave to the first.
    Reverting {
        /// Why.
        cause: RevertCause,
        /// The wave that goes back now.
        wave: u32,
        /// The first wave that goes back; earlier ones keep what they run.
        down_to: u32,
    },
    /// Over. Stragglers of a completed rollout still catch up, those of a reverted one go back.
    Done {
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Timestamp,
    },
}

/// The variants of [`Phase`] without their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhaseName {
    /// See [`Phase::Planned`].
    Planned,
    /// See [`Phase::Running`].
    Running,
    /// See [`Phase::Baking`].
    Baking,
    /// See [`Phase::Gated`].
    Gated,
    /// See [`Phase::Paused`].
    Paused,
    /// See [`Phase::Halted`].
    Halted,
    /// See [`Phase::Reverting`].
    Reverting,
    /// See [`Phase::Done`].
    Done,
}

/// Where a resume goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resumable {
    /// In an open wave, with its whole progress deadline again.
    Running {
        /// Which.
        wave: u32,
    },
    /// In the bake of a wave.
    Baking {
        /// Which.
        wave: u32,
        /// Milliseconds of the bake that were left.
        left_millis: u64,
    },
    /// Before a wave.
    Gated {
        /// Which.
        wave: u32,
        /// Since when its gate was shut.
        since: Timestamp,
    },
    /// On the way back.
    Reverting {
        /// Why it goes back.
        cause: RevertCause,
        /// The wave that goes back now.
        wave: u32,
        /// The first wave that goes back.
        down_to: u32,
    },
    /// Completed, with stragglers.
    Completed {
        /// When it completed.
        at: Timestamp,
    },
}

/// What paused a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PauseCause {
    /// A person.
    Person {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// More failures than allowed, and the policy says pause.
    Breach(Breach),
    /// A bake is over and has seen too little.
    Evidence {
        /// Which wave.
        wave: u32,
    },
}

/// More failures than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// The wave whose budget it is, from 0; `None` for the budget of the whole rollout.
    pub wave: Option<u32>,
    /// Failures not acknowledged before.
    pub failures: u32,
    /// What was allowed.
    pub budget: u32,
    /// Of the failures, hosts that fell silent while they held a slot.
    #[serde(default)]
    pub silent: u32,
}

/// What halted a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HaltCause {
    /// The red button.
    Person {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// More failures than allowed.
    Breach(Breach),
    /// No host of the open wave committed or fetched anything within the progress deadline.
    NoProgress {
        /// Which wave.
        wave: u32,
    },
    /// The webhook of a gate answered that the wave must not open.
    Gate {
        /// Which wave.
        wave: u32,
        /// The reason given.
        why: String,
    },
}

/// Why the previous release is put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevertCause {
    /// A person asked for it.
    Person {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// More failures than allowed, and the policy says revert.
    Breach(Breach),
    /// A person takes the service off.
    Removed {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
}

/// How a rollout ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every wave finished and baked.
    Completed,
    /// Every host that could be reached went back, from wave `down_to` on.
    Reverted {
        /// Why.
        cause: RevertCause,
        /// The first wave that went back; earlier ones keep what they run.
        down_to: u32,
    },
    /// Ended by a person; hosts keep what they run.
    Aborted {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// A newer rollout took over before the end.
    Superseded {
        /// Which.
        by: RolloutId,
    },
}

impl Phase {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> PhaseName {
        match self {
            Self::Planned => PhaseName::Planned,
            Self::Running { .. } => PhaseName::Running,
            Self::Baking { .. } => PhaseName::Baking,
            Self::Gated { .. } => PhaseName::Gated,
            Self::Paused { .. } => PhaseName::Paused,
            Self::Halted { .. } => PhaseName::Halted,
            Self::Reverting { .. } => PhaseName::Reverting,
            Self::Done { .. } => PhaseName::Done,
        }
    }

    /// The failures that halted it or turned it round; `None` where none did.
    #[must_use]
    pub fn breach(&self) -> Option<&Breach> {
        let cause = match self {
            Self::Halted { cause: HaltCause::Breach(breach), .. } => return Some(breach),
            Self::Reverting { cause, .. }
            | Self::Halted { resume: Resumable::Reverting { cause, .. }, .. }
            | Self::Paused { resume: Resumable::Reverting { cause, .. }, .. }
            | Self::Done { outcome: Outcome::Reverted { cause, .. }, .. } => cause,
            Self::Planned
            | Self::Running { .. }
            | Self::Baking { .. }
            | Self::Gated { .. }
            | Self::Paused { .. }
            | Self::Halted { .. }
            | Self::Done { .. } => return None,
        };
        match cause {
            RevertCause::Breach(breach) => Some(breach),
            RevertCause::Person { .. } | RevertCause::Removed { .. } => None,
        }
    }

    /// The wave that it is about, counted from 0.
    #[must_use]
    pub fn wave(&self) -> Option<u32> {
        match self {
            Self::Running { wave, .. }
            | Self::Baking { wave, .. }
            | Self::Gated { wave, .. }
            | Self::Reverting { wave, .. } => Some(*wave),
            Self::Paused { resume, .. } | Self::Halted { resume, .. } => resume.wave(),
            Self::Planned | Self::Done { .. } => None,
        }
    }
}

/// What a rollout is about, seen through a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Course {
    /// It has not started.
    Planned,
    /// Waves open and bake.
    Waves,
    /// Every wave is done; late hosts still come.
    Late,
    /// Hosts go back, or have gone.
    Back,
    /// A person or a newer rollout ended it before.
    Ended,
}

impl Phase {
    /// What it is about; a stop is about what a resume goes on with.
    pub(crate) fn course(&self) -> Course {
        match self {
            Self::Planned => Course::Planned,
            Self::Running { .. } | Self::Baking { .. } | Self::Gated { .. } => Course::Waves,
            Self::Reverting { .. } => Course::Back,
            Self::Paused { resume, .. } | Self::Halted { resume, .. } => match resume {
                Resumable::Running { .. } | Resumable::Baking { .. } | Resumable::Gated { .. } => {
                    Course::Waves
                }
                Resumable::Reverting { .. } => Course::Back,
                Resumable::Completed { .. } => Course::Late,
            },
            Self::Done { outcome, .. } => match outcome {
                Outcome::Completed => Course::Late,
                Outcome::Reverted { .. } => Course::Back,
                Outcome::Aborted { .. } | Outcome::Superseded { .. } => Course::Ended,
            },
        }
    }
}

impl Resumable {
    /// The wave that it is about, counted from 0.
    #[must_use]
    pub fn wave(&self) -> Option<u32> {
        match self {
            Self::Running { wave }
            | Self::Baking { wave, .. }
            | Self::Gated { wave, .. }
            | Self::Reverting { wave, .. } => Some(*wave),
            Self::Completed { .. } => None,
        }
    }
}
