//! What a host did with the releases of one service before: how long it took, what failed. Owns what
//! the next plan knows of it.

use groundswell_common::report::FailedStep;
use groundswell_common::{ReleaseId, Timestamp};
use groundswell_rollout::{HostEntry, Progress};
use serde::{Deserialize, Serialize};

/// Switches whose time is kept.
const SWITCHES_KEPT: usize = 3;
/// Releases that failed on a host and are kept; older ones are never offered again anyhow.
const FAILED_KEPT: usize = 16;

/// The past of one host with one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Past {
    /// When it got its slot for the switch under way.
    began: Option<Timestamp>,
    /// Seconds from the slot to the commit, of its last switches, the newest last.
    secs: Vec<u64>,
    /// Failures since its last commit, over releases.
    failures_in_a_row: u32,
    /// Releases that it switched to and that failed, the newest last.
    failed: Vec<ReleaseId>,
}

impl Past {
    /// The longest of its last switches, in seconds; `None` before the first.
    #[must_use]
    pub fn usual_secs(&self) -> Option<u64> {
        self.secs.iter().max().copied()
    }

    /// Failures since its last commit, over releases.
    #[must_use]
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Whether the release failed on it, and nobody has cleared that.
    #[must_use]
    pub fn has_failed(&self, release: &ReleaseId) -> bool {
        self.failed.contains(release)
    }

    /// Takes what one fact changed; whether it was news.
    pub(super) fn learn(
        &mut self,
        before: &HostEntry,
        after: &Progress,
        (release, now): (ReleaseId, Timestamp),
    ) -> bool {
        let was = self.clone();
        if let Progress::Granted { since, .. } = before.progress {
            self.began = Some(since);
        }
        match after {
            Progress::Committed if before.progress != Progress::Committed => {
                if let Some(began) = self.began.take() {
                    self.secs.push(now.millis_since(began).div_ceil(1000));
                    let more = self.secs.len().saturating_sub(SWITCHES_KEPT);
                    self.secs.drain(..more);
                }
                self.failures_in_a_row = 0;
                self.failed.retain(|failed| *failed != release);
            }
            Progress::Failed { step, .. } => self.fail(before, *step, release),
            Progress::Reverted => self.began = None,
            Progress::Pending
            | Progress::Staging
            | Progress::Staged
            | Progress::Granted { .. }
            | Progress::Probing { .. }
            | Progress::Baking { .. }
            | Progress::Committed
            | Progress::Lost
            | Progress::Absent
            | Progress::Held { .. }
            | Progress::Reverting { .. }
            | Progress::Overdue
            | Progress::Excluded { .. } => {}
        }
        *self != was
    }

    fn fail(&mut self, before: &HostEntry, step: FailedStep, release: ReleaseId) {
        self.began = None;
        // What was ill before, and a second word about the same failure, are not its doing.
        if before.ill || matches!(before.progress, Progress::Failed { .. }) {
            return;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if step != FailedStep::Stage && !self.failed.contains(&release) {
            self.failed.push(release);
            let more = self.failed.len().saturating_sub(FAILED_KEPT);
            self.failed.drain(..more);
        }
    }

    /// Forgets that the release failed; whether it had.
    pub(super) fn forgive(&mut self, release: &ReleaseId) -> bool {
        let before = self.failed.len();
        self.failed.retain(|failed| failed != release);
        before != self.failed.len()
    }
}
