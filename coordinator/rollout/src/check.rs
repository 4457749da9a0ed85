//! Invariants of a rollout as a list of findings: run after every step in tests and on load in
//! production. Repairs nothing.

use std::collections::BTreeSet;

use groundswell_common::HostId;

use crate::hosts::{Places, places};
use crate::settle::slots;
use crate::state::{PhaseName, Progress, ProgressName, Rollout, Tally, usize_of};

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
    let (state, plan) = (rollout.hosts.len(), rollout.plan.host_count());
    let waves = rollout.waves.len() == rollout.plan.waves.len();
    if state != plan || rollout.by_id.len() != plan || !waves {
        findings.push(Finding::Shape { state, plan });
        return findings;
    }
    index(rollout, &mut findings);
    counters(rollout, &mut findings);
    sets(rollout, &mut findings);
    in_flight(rollout, &mut findings);
    waves_and_phase(rollout, &mut findings);
    findings
}

fn index(rollout: &Rollout, findings: &mut Vec<Finding>) {
    for ((_, planned, _), ordinal) in rollout.hosts().zip(0_u32..) {
        if rollout.ordinal(&planned.id) != Some(ordinal) {
            findings.push(Finding::Index(planned.id));
        }
    }
}

fn counters(rollout: &Rollout, findings: &mut Vec<Finding>) {
    let mut found = vec![(Tally::default(), 0_u32); rollout.waves.len()];
    for (wave, _, entry) in rollout.hosts() {
        if let Some((tally, failures)) = found.get_mut(usize_of(wave)) {
            *tally.slot(entry.progress.name()) += 1;
            let failed = matches!(entry.progress, Progress::Failed { .. } | Progress::Lost);
            *failures += u32::from(failed && !entry.acknowledged);
        }
    }
    for ((state, (tally, failures)), wave) in rollout.waves.iter().zip(found).zip(0_u32..) {
        for name in ProgressName::ALL {
            let (counted, found) = (state.tally.of(name), tally.of(name));
            if counted != found {
                findings.push(Finding::Count { wave, name, counted, found });
            }
        }
        if state.failures != failures {
            let (counted, found) = (state.failures, failures);
            findings.push(Finding::Failures { wave, counted, found });
        }
    }
}

fn sets(rollout: &Rollout, findings: &mut Vec<Finding>) {
    let sets = &rollout.sets;
    let mut sizes = [0_usize; 7];
    for ((_, planned, entry), ordinal) in rollout.hosts().zip(0_u32..) {
        let wanted = places(rollout, ordinal, entry);
        let time = |set: &BTreeSet<_>, time: Option<_>| {
            time.filter(|time| set.contains(&(*time, ordinal)))
        };
        let found = Places {
            open: sets.open.contains(&ordinal),
            ready: sets.ready.contains(&ordinal),
            in_flight: sets.in_flight.contains(&ordinal),
            may_run: sets.may_run.contains(&ordinal),
            failure: sets.failures.contains(&ordinal),
            deadline: time(&sets.deadlines, wanted.deadline),
            away: time(&sets.away, wanted.away),
        };
        if wanted != found {
            findings.push(Finding::Sets(planned.id));
        }
        let member = [
            wanted.open,
            wanted.ready,
            wanted.in_flight,
            wanted.may_run,
            wanted.failure,
            wanted.deadline.is_some(),
            wanted.away.is_some(),
        ];
        for (size, member) in sizes.iter_mut().zip(member) {
            *size += usize::from(member);
        }
    }
    let lengths = [
        sets.open.len(),
        sets.ready.len(),
        sets.in_flight.len(),
        sets.may_run.len(),
        sets.failures.len(),
        sets.deadlines.len(),
        sets.away.len(),
    ];
    if sizes != lengths {
        findings.push(Finding::StraySet);
    }
}

fn in_flight(rollout: &Rollout, findings: &mut Vec<Finding>) {
    let back = |entry: &Progress| matches!(entry, Progress::Reverting { .. });
    let goes_back = rollout.hosts.iter().any(|entry| back(&entry.progress));
    let open = |wave: u32| goes_back || rollout.is_open(wave);
    let caps = (0..=rollout.last_wave()).filter(|wave| open(*wave));
    let slots = caps.map(|wave| rollout.cap(wave)).max().unwrap_or(0).max(slots(rollout));
    let in_flight = rollout.in_flight();
    if in_flight > slots {
        findings.push(Finding::InFlight { in_flight, slots });
    }
}

fn waves_and_phase(rollout: &Rollout, findings: &mut Vec<Finding>) {
    for wave in 1..=rollout.last_wave() {
        if rollout.is_open(wave) && !rollout.is_open(wave - 1) {
            findings.push(Finding::WaveOrder(wave));
        }
    }
    for (wave, planned, entry) in rollout.hosts() {
        let fits = match entry.progress.name() {
            ProgressName::Pending => !rollout.is_open(wave),
            // A host may run the release, and go back from it, though its wave never opened.
            ProgressName::Committed
            | ProgressName::Failed
            | ProgressName::Reverting
            | ProgressName::Overdue
            | ProgressName::Reverted
            | ProgressName::Lost => true,
            ProgressName::Staging
            | ProgressName::Staged
            | ProgressName::Granted
            | ProgressName::Probing
            | ProgressName::Baking
            | ProgressName::Absent => rollout.is_open(wave),
        };
        if !fits {
            findings.push(Finding::ClosedWave(planned.id));
        }
    }
    if let Some(wave) = rollout.phase.wave() {
        let fits = match rollout.phase.name() {
            PhaseName::Running | PhaseName::Baking => rollout.is_open(wave),
            PhaseName::Gated => !rollout.is_open(wave) && wave <= rollout.last_wave(),
            PhaseName::Planned
            | PhaseName::Paused
            | PhaseName::Halted
            | PhaseName::Reverting
            | PhaseName::Done => wave <= rollout.last_wave(),
        };
        if !fits {
            findings.push(Finding::PhaseWave(wave));
        }
    }
    let given: Vec<_> = rollout.approvals.iter().map(|given| (&given.by, given.wave)).collect();
    if given.iter().collect::<BTreeSet<_>>().len() != given.len() {
        findings.push(Finding::TwinApproval);
    }
}
