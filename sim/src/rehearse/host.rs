//! A host of a rehearsal: what it says of itself at each point of its course, and the times drawn
//! for it. Decides nothing about rollouts.

use groundswell_common::report::{FailedStep, Failure, HostState, Standing, Verdict};
use groundswell_common::{HostId, ReleaseId};
use groundswell_rollout::Rollout;

use crate::random::Random;

/// How long things take, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Median from the order to stage to the staged release.
    pub stage_secs: u64,
    /// Median from the switch to the first pass of all probes, and again for the way back.
    pub switch_secs: u64,
    /// How long a gate waits for its persons.
    pub person_secs: u64,
}

/// Where a host is in its course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Runs what it ran before.
    Before,
    /// Fetches and unpacks the release.
    Fetching,
    /// Has the release on disk.
    Staged,
    /// Runs the release; its probes have not passed yet.
    Probing,
    /// Its probes pass; it is watched.
    Baking,
    /// Runs the release and has baked it.
    Committed,
    /// Puts back what it ran before; the release may still serve.
    GoingBack,
}

/// One host.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) id: HostId,
    pub(super) wave: usize,
    pub(super) before: Option<ReleaseId>,
    /// Whether what it ran before fails its probes.
    pub(super) before_ill: bool,
    pub(super) place: Place,
    /// The newest generation that it accepted.
    pub(super) accepted: u64,
    /// What was due under an older number is forgotten.
    pub(super) number: u32,
    /// Whether the release fails on it.
    pub(super) bad: bool,
    pub(super) away: bool,
    /// Whether its probes fail after it committed.
    pub(super) ill: bool,
    /// Whether it has run the release for any time.
    pub(super) reached: bool,
    /// At which step the release failed, and whether it went back by itself.
    pub(super) failed: Option<(FailedStep, bool)>,
    pub(super) stage_millis: u64,
    pub(super) switch_millis: u64,
    pub(super) back_millis: u64,
}

impl Host {
    /// Draws the times of a host.
    pub(super) fn new((id, wave): (HostId, usize), pace: &Pace, random: &mut Random) -> Self {
        Self {
            id,
            wave,
            before: None,
            before_ill: false,
            place: Place::Before,
            accepted: 0,
            number: 0,
            bad: false,
            away: false,
            ill: false,
            reached: false,
            failed: None,
            stage_millis: spread(pace.stage_secs, random),
            switch_millis: spread(pace.switch_secs, random),
            back_millis: spread(pace.switch_secs, random),
        }
    }

    /// Whether the release is what it runs.
    pub(super) fn runs(&self) -> bool {
        match self.place {
            Place::Probing | Place::Baking | Place::Committed | Place::GoingBack => true,
            Place::Before | Place::Fetching | Place::Staged => false,
        }
    }

    /// What it says of itself, as an agent in its place would.
    pub(super) fn standing(&self, rollout: &Rollout) -> Standing {
        let release = rollout.release();
        let state = match self.place {
            Place::Before if self.before.is_none() => HostState::Idle,
            Place::Before | Place::Committed => HostState::Committed,
            Place::Fetching => HostState::Fetching,
            Place::Staged => HostState::Staged,
            Place::Probing => HostState::Probing,
            Place::Baking => HostState::Baking,
            Place::GoingBack => HostState::Reverting,
        };
        let target = match self.place {
            Place::Fetching | Place::Staged | Place::Probing | Place::Baking => Some(release),
            Place::Before | Place::Committed | Place::GoingBack => None,
        };
        let failure = self.failed.map(|(step, reverted)| {
            let why = match step {
                FailedStep::Bake => "its probes fail",
                FailedStep::Probe => "its probes do not pass",
                FailedStep::Stage | FailedStep::Switch | FailedStep::Revert => "it fails",
            };
            Failure { release, step, why: why.to_owned(), reverted }
        });
        let sick = if self.runs() { self.ill } else { self.before_ill };
        Standing {
            service: rollout.plan().service.clone(),
            state,
            running: if self.runs() { Some(release) } else { self.before },
            previous: if self.runs() { self.before } else { None },
            target,
            rollout: Some(rollout.id().clone()),
            health: if sick { Verdict::Fail } else { Verdict::Pass },
            failure,
            switched: None,
        }
    }
}

/// Milliseconds from half to twice the median, the median the likeliest.
fn spread(median_secs: u64, random: &mut Random) -> u64 {
    const HALF: u64 = 1 << 19;
    let median = median_secs.saturating_mul(1000);
    // The sum of two throws has its peak in the middle; below it shrinks, above it grows.
    let throw = random.below(HALF) + random.below(HALF);
    match throw.checked_sub(HALF) {
        None => median.saturating_mul(HALF + throw) / (2 * HALF),
        Some(above) => median.saturating_mul(HALF + above) / HALF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lie_between_half_and_twice_the_median() {
        let mut random = Random::new(1);
        let mut drawn: Vec<u64> = (0..10_001).map(|_| spread(10, &mut random)).collect();
        drawn.sort_unstable();
        assert!(drawn[0] >= 5_000 && drawn[10_000] <= 20_000, "{} {}", drawn[0], drawn[10_000]);
        assert!((9_800..10_200).contains(&drawn[5_000]), "{}", drawn[5_000]);
    }
}
