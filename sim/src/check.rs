//! What must hold after every event, each with its evidence. Repairs nothing.

use groundswell_common::{HostId, ReleaseId, ServiceName};

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
    /// A halt for want of progress while a connected host had all that it was asked for.
    #[error(
        "it halts for want of progress, and host {0} has the release staged and was asked for no more"
    )]
    Unheard(HostId),
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
    /// One generation was used for two wishes.
    #[error("host {0} was sent two directives of one generation that differ")]
    Equivocal(HostId),
    /// A host was told to leave what no rollout of that order had brought, and no person had said so.
    #[error("host {host} is told to leave {release:?} by a rollout that did not bring it")]
    TurnedBack {
        /// Which host.
        host: HostId,
        /// What it leaves.
        release: ReleaseId,
    },
    /// Nothing runs where something else had proved itself before.
    #[error("host {host} left {release:?} for nothing, though it ran another release before")]
    Emptied {
        /// Which host.
        host: HostId,
        /// What it left.
        release: ReleaseId,
    },
    /// A release became poisoned and no host that switched to it speaks against it.
    #[error("{release:?} of {service} is poisoned without evidence: {why}")]
    Poisoned {
        /// The service.
        service: ServiceName,
        /// The release.
        release: ReleaseId,
        /// What is written.
        why: String,
    },
    /// A person cannot go back though an older release is proven.
    #[error("{service} cannot be reverted: {why}")]
    NoWayBack {
        /// The service.
        service: ServiceName,
        /// The refusal.
        why: String,
    },
    /// A person went back, and a host still runs what was left, without a word.
    #[error("host {host} still runs {release:?} after a person reverted it")]
    LeftBehind {
        /// Which host.
        host: HostId,
        /// What should have been left.
        release: ReleaseId,
    },
    /// A rename after a person was told that the halt is complete.
    #[error("host {0} replaced its live link after the halt was answered")]
    AfterHalt(HostId),
    /// The coordinator says that a host runs the release, and it does not.
    #[error("host {host} counts as committed, and runs {runs}")]
    Untrue {
        /// Which host.
        host: HostId,
        /// What it runs.
        runs: String,
    },
    /// A host does not have its wish and nothing says why.
    #[error("host {host} waits for {release:?} and nothing says why")]
    Unsaid {
        /// Which host.
        host: HostId,
        /// What it waits for.
        release: ReleaseId,
    },
    /// A host was told to take a service off though no removal that goes on has it.
    #[error("host {0} is told to take the service off, and no removal has its turn there")]
    TakenOff(HostId),
    /// A service that was taken off everyone comes back, and nobody started anything.
    #[error("{0} was taken off and comes back by itself")]
    Revived(ServiceName),
    /// A service was taken off everyone, and a host still runs it, without a word.
    #[error("host {0} still runs the service that was taken off")]
    StillThere(HostId),
    /// A switch of a service that its owner has paused.
    #[error("host {0} began to switch though its owner has paused it")]
    SwitchedWhilePaused(HostId),
    /// A switch of a host that an operator has taken out of all rollouts.
    #[error("host {0} began to switch though it was drained")]
    SwitchedWhileDrained(HostId),
    /// A switch outside of every rollout to a release that must not be rolled out.
    #[error(
        "host {host} began to switch to {release:?}, which is poisoned, outside of any rollout"
    )]
    Offered {
        /// Which host.
        host: HostId,
        /// What it was given.
        release: ReleaseId,
    },
    /// A person cleared a release, and it is poisoned all the same.
    #[error("{0:?} was cleared and stays poisoned")]
    NotCleared(ReleaseId),
    /// A host that is held though it lacks nothing.
    #[error("host {0} is held and lacks nothing")]
    HeldForNothing(HostId),
    /// A host that is in the middle of something for ever.
    #[error("host {host} is {state} for ever")]
    Hung {
        /// Which host.
        host: HostId,
        /// Where its machine stands.
        state: String,
    },
}

/// The names of findings, to say which of them the code is known not to hold yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// See [`Finding::Core`].
    Core,
    /// See [`Finding::Replay`].
    Replay,
    /// See [`Finding::Incomplete`].
    Incomplete,
    /// See [`Finding::InFlight`].
    InFlight,
    /// See [`Finding::Unheard`].
    Unheard,
    /// See [`Finding::SwitchedWhileStopped`].
    SwitchedWhileStopped,
    /// See [`Finding::SwitchedAway`].
    SwitchedAway,
    /// See [`Finding::GoneBack`].
    GoneBack,
    /// See [`Finding::OutsideWindow`].
    OutsideWindow,
    /// See [`Finding::Generation`].
    Generation,
    /// See [`Finding::Unearned`].
    Unearned,
    /// See [`Finding::Unconfirmed`].
    Unconfirmed,
    /// See [`Finding::Budget`].
    Budget,
    /// See [`Finding::Hasty`].
    Hasty,
    /// See [`Finding::Restless`].
    Restless,
    /// See [`Finding::Endless`].
    Endless,
    /// See [`Finding::WrongEnd`].
    WrongEnd,
    /// See [`Finding::Equivocal`].
    Equivocal,
    /// See [`Finding::TurnedBack`].
    TurnedBack,
    /// See [`Finding::Emptied`].
    Emptied,
    /// See [`Finding::Poisoned`].
    Poisoned,
    /// See [`Finding::NoWayBack`].
    NoWayBack,
    /// See [`Finding::LeftBehind`].
    LeftBehind,
    /// See [`Finding::AfterHalt`].
    AfterHalt,
    /// See [`Finding::Untrue`].
    Untrue,
    /// See [`Finding::Unsaid`].
    Unsaid,
    /// See [`Finding::SwitchedWhilePaused`].
    SwitchedWhilePaused,
    /// See [`Finding::SwitchedWhileDrained`].
    SwitchedWhileDrained,
    /// See [`Finding::Offered`].
    Offered,
    /// See [`Finding::NotCleared`].
    NotCleared,
    /// See [`Finding::HeldForNothing`].
    HeldForNothing,
    /// See [`Finding::Hung`].
    Hung,
    /// See [`Finding::TakenOff`].
    TakenOff,
    /// See [`Finding::Revived`].
    Revived,
    /// See [`Finding::StillThere`].
    StillThere,
}

/// What the code does not hold yet: counted, and not a failure. Empty in the end.
pub const NOT_HELD_YET: &[Property] = &[];

impl Property {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::Core,
        Self::Replay,
        Self::Incomplete,
        Self::InFlight,
        Self::Unheard,
        Self::SwitchedWhileStopped,
        Self::SwitchedAway,
        Self::GoneBack,
        Self::OutsideWindow,
        Self::Generation,
        Self::Unearned,
        Self::Unconfirmed,
        Self::Budget,
        Self::Hasty,
        Self::Restless,
        Self::Endless,
        Self::WrongEnd,
        Self::Equivocal,
        Self::TurnedBack,
        Self::Emptied,
        Self::Poisoned,
        Self::NoWayBack,
        Self::LeftBehind,
        Self::AfterHalt,
        Self::Untrue,
        Self::Unsaid,
        Self::SwitchedWhilePaused,
        Self::SwitchedWhileDrained,
        Self::Offered,
        Self::NotCleared,
        Self::HeldForNothing,
        Self::Hung,
        Self::TakenOff,
        Self::Revived,
        Self::StillThere,
    ];
}

impl Finding {
    /// Which property does not hold.
    #[must_use]
    pub fn property(&self) -> Property {
        match self {
            Self::Core(_) => Property::Core,
            Self::Replay { .. } => Property::Replay,
            Self::Incomplete(_) => Property::Incomplete,
            Self::InFlight { .. } => Property::InFlight,
            Self::Unheard(_) => Property::Unheard,
            Self::SwitchedWhileStopped(_) => Property::SwitchedWhileStopped,
            Self::SwitchedAway(..) => Property::SwitchedAway,
            Self::GoneBack(_) => Property::GoneBack,
            Self::OutsideWindow(_) => Property::OutsideWindow,
            Self::Generation { .. } => Property::Generation,
            Self::Unearned(_) => Property::Unearned,
            Self::Unconfirmed(_) => Property::Unconfirmed,
            Self::Budget { .. } => Property::Budget,
            Self::Hasty { .. } => Property::Hasty,
            Self::Restless => Property::Restless,
            Self::Endless(_) => Property::Endless,
            Self::WrongEnd { .. } => Property::WrongEnd,
            Self::Equivocal(_) => Property::Equivocal,
            Self::TurnedBack { .. } => Property::TurnedBack,
            Self::Emptied { .. } => Property::Emptied,
            Self::Poisoned { .. } => Property::Poisoned,
            Self::NoWayBack { .. } => Property::NoWayBack,
            Self::LeftBehind { .. } => Property::LeftBehind,
            Self::AfterHalt(_) => Property::AfterHalt,
            Self::Untrue { .. } => Property::Untrue,
            Self::Unsaid { .. } => Property::Unsaid,
            Self::SwitchedWhilePaused(_) => Property::SwitchedWhilePaused,
            Self::SwitchedWhileDrained(_) => Property::SwitchedWhileDrained,
            Self::Offered { .. } => Property::Offered,
            Self::NotCleared(_) => Property::NotCleared,
            Self::HeldForNothing(_) => Property::HeldForNothing,
            Self::Hung { .. } => Property::Hung,
            Self::TakenOff(_) => Property::TakenOff,
            Self::Revived(_) => Property::Revived,
            Self::StillThere(_) => Property::StillThere,
        }
    }
}
