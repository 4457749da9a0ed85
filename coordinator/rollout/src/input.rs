//! All that can happen to a rollout, as values that the ledger keeps and replays. Decides nothing.

use groundswell_common::condition::Lack;
use groundswell_common::report::{FailedStep, Verdict};
use groundswell_common::{Digest, HostId, OperatorName, ReleaseId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

/// When an input is applied: its place in the ledger and the coordinator's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The ledger entry's number; grows, and becomes the generation of what changes.
    pub seq: u64,
    /// The time written in that entry.
    pub now: Timestamp,
}

/// One thing that happens to a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// Begins.
    Start {
        /// Hosts of the plan that are not connected.
        away: Vec<HostId>,
        /// Hosts of the plan that are still busy with the rollout before; see [`crate::busy`].
        #[serde(default)]
        busy: Vec<Busy>,
    },
    /// A person approves a wave, or all of them, of the plan with this hash. The caller has checked
    /// the person's role and signature.
    Approve {
        /// Who.
        by: OperatorName,
        /// The plan that was shown.
        plan: Digest,
        /// Counted from 0; `None` for every wave.
        wave: Option<u32>,
    },
    /// Stops new switches until resumed.
    Pause {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// Goes on after a pause or a halt and acknowledges the failures seen so far.
    Resume {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// The red button.
    Halt {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// Ends it for good.
    Abort {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
        /// What becomes of the hosts that switched.
        keep: KeepOrRevert,
    },
    /// Puts the previous release back on every host that left it.
    Revert {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
    },
    /// A person steers it without changing its plan.
    Steer {
        /// Who.
        by: OperatorName,
        /// The reason given.
        why: String,
        /// What to do.
        steer: Steer,
    },
    /// The webhook of the wave that is next has answered.
    Answer {
        /// Which wave, from 0.
        wave: u32,
        /// Pass opens the gate, fail halts, inconclusive leaves it shut.
        verdict: Verdict,
        /// What it said.
        why: String,
    },
    /// A host of the plan was deleted from the fleet.
    Removed {
        /// Which host.
        host: HostId,
    },
    /// A newer rollout takes over.
    Supersede {
        /// The newer one.
        by: RolloutId,
    },
    /// A host reported something new; made by [`crate::fact`].
    Host {
        /// Which host.
        host: HostId,
        /// What is new.
        fact: HostFact,
    },
    /// A host is connected again.
    Connected {
        /// Which host.
        host: HostId,
    },
    /// A host's connection is gone.
    Disconnected {
        /// Which host.
        host: HostId,
    },
    /// Time has passed; only when [`crate::due`] says so.
    Tick,
}

/// A host that the rollout before has taken down and not seen up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// Which host.
    pub host: HostId,
    /// When it no longer counts, if nothing is heard.
    pub until: Timestamp,
}

/// What becomes of the hosts that switched when a rollout is aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepOrRevert {
    /// They keep what they run; the fleet stays mixed.
    Keep,
    /// They go back.
    Revert,
}

/// What a person may do to a rollout under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steer {
    /// Opens the next wave now: ends a bake, passes a manual gate, or leaves the hosts of an open
    /// wave behind. Approvals and webhooks are still asked.
    Promote,
    /// Leaves out a wave that has not opened.
    SkipWave {
        /// Which, from 0.
        wave: u32,
    },
    /// Leaves out one host.
    Exclude {
        /// Which host.
        host: HostId,
    },
    /// Tries a host again that failed or was left out.
    Retry {
        /// Which host.
        host: HostId,
    },
    /// Bounds the hosts in flight below the plan.
    Slow {
        /// At most so many, at least 1; `None` for the plan's own bound.
        max_in_flight: Option<u32>,
    },
}

/// What a host's report adds to what the rollout knew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostFact {
    /// The release is on disk and verified, not live.
    Staged,
    /// The live tree is being replaced, or the probes have not passed yet.
    SwitchStarted,
    /// The probes pass; the host bakes.
    Passed,
    /// The host runs the release and has baked it.
    Committed,
    /// The release failed on the host.
    Failed {
        /// At which step.
        step: FailedStep,
        /// What happened, at most 4 KiB.
        why: String,
        /// Whether the release before it is live again.
        reverted: bool,
    },
    /// The release does not run on the host any more.
    RevertDone {
        /// What runs instead.
        running: Option<ReleaseId>,
    },
    /// The release before fails its probes.
    Ill,
    /// The release before passes its probes again.
    Well,
    /// It is done with what the rollout before told it.
    Rested,
    /// Only a person can help.
    Stuck {
        /// What happened, at most 4 KiB.
        why: String,
    },
    /// The host lacks something that says nothing about the release; it tries again by itself.
    Held {
        /// What.
        lack: Lack,
        /// The cause and the next step, at most 1 KiB.
        why: String,
    },
    /// The host lacks it no longer.
    Freed,
    /// More of the release has arrived on the host.
    Fetched {
        /// Thousandths of its bytes.
        permille: u16,
    },
    /// The host had committed the release and does not run it any more: a snapshot was put back, or somebody
    /// took it away.
    Gone {
        /// What runs instead.
        running: Option<ReleaseId>,
    },
}
