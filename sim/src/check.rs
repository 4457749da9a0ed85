//! What must hold after every event, each with its evidence. Repairs nothing.

use groundswell_common::{HostId, ReleaseId};

/// One thing that must never be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The core's own invariants.
    #[error("the rollout is not sound: {0}")]
    Core(String),
    /// A replay of the ledger gives another state.
    #[error("a replay of {entries} ledger entries gives another state")]
    Replay {
        /// Entries replayed.
        entries: usize,
    },
    /// A host runs what is not complete on its disk.
    #[error("host {0} runs a release that is not whole on its disk")]
    Incomplete(HostId),
    /// More hosts between switch and commit than the rollout allows and has lost sight of.
    #[error("{in_flight} hosts are in flight, {allowed} allowed")]
    InFlight {
        /// Hosts in flight.
        in_flight: usize,
        /// Slots, and hosts that the rollout has lost sight of.
        allowed: usize,
    },
    /// A switch that began though the rollout had been stopped for longer than a permit lives.
    #[error("host {0} began to switch while the rollout was stopped")]
    SwitchedWhileStopped(HostId),
    /// A switch to a release that nobody wishes any more.
    #[error("host {0} began to switch to {1:?}, which no rollout brings forward")]
    SwitchedAway(HostId, ReleaseId),
    /// A switch of a host that counts as gone back.
    #[error("host {0} counts as gone back and began to switch")]
    GoneBack(HostId),
    /// A switch that began while the calendar was shut.
    #[error("host {0} began to switch outside its window or in a freeze")]
    OutsideWindow(HostId),
    /// A directive with a lower number than one sent before.
    #[error("host {host} was sent generation {now} after {before}")]
    Generation {
        /// Which host.
        host: HostId,
        /// The newest before.
        before: u64,
        /// What was sent.
        now: u64,
    },
    /// A success that no host has earned.
    #[error("host {0} counts as committed and has not baked the release")]
    Unearned(HostId),
    /// A commit that its policy makes depend on contact, without it.
    #[error("host {0} goes on to its bake or commit without contact since its switch")]
    Unconfirmed(HostId),
    /// More failures than allowed, and the rollout goes on.
    #[error("wave {wave} has {failures} failures, its budget is {budget}, and it goes on")]
    Budget {
        /// Which wave, from 0.
        wave: u32,
        /// Failures that nobody acknowledged.
        failures: u32,
        /// What it may have.
        budget: u32,
    },
    /// A stop for failures that were within the budget.
    #[error("it stopped for {failures} failures, its budget is {budget}")]
    Hasty {
        /// Failures counted.
        failures: u32,
        /// What was allowed.
        budget: u32,
    },
    /// Wishes and facts change each other for ever.
    #[error("wishes and facts change each other without an end")]
    Restless,
    /// After all faults were over, it did not come to an end.
    #[error("it came to no end: {0}")]
    Endless(String),
    /// The end is not what the phase says.
    #[error("it ended as {outcome}, and host {host} is {state}")]
    WrongEnd {
        /// The outcome.
        outcome: String,
        /// Which host.
        host: HostId,
        /// Where its machine stands.
        state: String,
    },
}
