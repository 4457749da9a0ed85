//! Invariants of a rollout as a list of findings: run after every step in tests and on load in
//! production. Repairs nothing.

use std::collections::BTreeSet;

use groundswell_common::HostId;

use crate::phase::PhaseName;
use crate::slots::slots;
use crate::state::{Progress, ProgressName, Rollout, Tally, usize_of};

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
    #[error("the sets of hosts are not those that the entries ask for")]
    Sets,
    /// A counter over all hosts that differs from a recount.
    #[error("the counters over all hosts differ from a recount")]
    Counts,
    /// A guard whose counters differ from a recount.
    #[error("the counters of guard {0} differ from a recount")]
    Guard(usize),
    /// Hosts in flight in more failure domains than allowed.
    #[error("hosts are in flight in {domains} failure domains, at most {at_once}")]
    Domains {
        /// Failure domains with a host in flight.
        domains: u32,
        /// How many may have one.
        at_once: u32,
    },
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
    let mut findings = check_state(rollout);
    if rollout.plan.hash() != rollout.plan_hash {
        findings.insert(0, Finding::PlanHash);
    }
    findings
}

/// The same without the plan's hash, which no step changes.
#[must_use]
pub fn check_state(rollout: &Rollout) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (state, plan) = (rollout.hosts.len(), rollout.plan.host_count());
    let waves = rollout.waves.len() == rollout.plan.waves.len();
    if state != plan || rollout.by_id.len() != plan || !waves {
        findings.push(Finding::Shape { state, plan });
        return findings;
    }
    index(rollout, &mut findings);
    counters(rollout, &mut findings);
    recount(rollout, &mut findings);
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
    let mut found = vec![Tally::default(); rollout.waves.len()];
    for (wave, _, entry) in rollout.hosts() {
        if let Some(tally) = found.get_mut(usize_of(wave)) {
            *tally.slot(entry.progress.name()) += 1;
        }
    }
    for ((state, tally), wave) in rollout.waves.iter().zip(found).zip(0_u32..) {
        for name in ProgressName::ALL {
            let (counted, found) = (state.tally.of(name), tally.of(name));
            if counted != found {
                findings.push(Finding::Count { wave, name, counted, found });
            }
        }
    }
}

/// Counts everything again from the entries alone.
fn recount(rollout: &Rollout, findings: &mut Vec<Finding>) {
    let mut fresh = rollout.clone();
    fresh.forget_counts();
    fresh.count_all();
    if fresh.sets != rollout.sets {
        findings.push(Finding::Sets);
    }
    if fresh.counts != rollout.counts {
        findings.push(Finding::Counts);
    }
    let guards = fresh.guards.iter().zip(&rollout.guards).enumerate();
    findings.extend(guards.filter(|(_, (a, b))| a != b).map(|(at, _)| Finding::Guard(at)));
    for ((state, fresh), wave) in rollout.waves.iter().zip(&fresh.waves).zip(0_u32..) {
        let (counted, found) = (state.failures, fresh.failures);
        if counted != found {
            findings.push(Finding::Failures { wave, counted, found });
        }
        if state.watch.hosts != fresh.watch.hosts {
            findings.push(Finding::Counts);
        }
    }
}

fn in_flight(rollout: &Rollout, findings: &mut Vec<Finding>) {
    let back = |entry: &Progress| matches!(entry, Progress::Reverting { .. });
    let goes_back = rollout.hosts.iter().any(|entry| back(&entry.progress));
    let open = |wave: u32| goes_back || rollout.is_open(wave);
    let caps = (0..=rollout.last_wave()).filter(|wave| open(*wave));
    let slots = caps.map(|wave| rollout.cap(wave)).max().unwrap_or(0).max(slots(rollout));
    let in_flight = rollout.sets.in_flight.len();
    let at_once = rollout.plan.domains_at_once;
    let is_domain = |guard: &&u32| rollout.is_domain(**guard);
    // What the rollout before left behind was not this one's doing.
    let holders = rollout.sets.in_flight.iter().filter_map(|host| rollout.planned_at(*host));
    let domains: BTreeSet<u32> =
        holders.filter_map(|(_, host)| host.guards.iter().find(is_domain).copied()).collect();
    let domains = u32::try_from(domains.len()).unwrap_or(u32::MAX);
    if at_once > 0 && domains > at_once {
        findings.push(Finding::Domains { domains, at_once });
    }
    if in_flight > slots {
        findings.push(Finding::InFlight { in_flight, slots });
    }
}

fn waves_and_phase(rollout: &Rollout, findings: &mut Vec<Finding>) {
    for wave in 1..=rollout.last_wave() {
        let before = rollout.is_open(wave - 1) || rollout.is_skipped(wave - 1);
        if rollout.is_open(wave) && !before {
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
            | ProgressName::Excluded
            | ProgressName::Lost => true,
            ProgressName::Staging
            | ProgressName::Staged
            | ProgressName::Granted
            | ProgressName::Probing
            | ProgressName::Baking
            | ProgressName::Held
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
