//! Why it is waiting, as data with one sentence each: all that the core knows of a rollout or one of its hosts.
//! `why.rs` of the control puts what a host says of itself before it. Changes nothing.

use std::fmt;

use groundswell_common::condition::Lack;
use groundswell_common::report::{FailedStep, Verdict};
use groundswell_common::{
    Digest, HostId, HostName, RolloutId, ServiceName, Timestamp, name_of, one_line,
};
use serde::{Deserialize, Serialize};

use crate::calendar::Opening;
use crate::desired::goes_forward;
use crate::gate::gates;
use crate::hosts::may_still_run;
use crate::phase::{Breach, HaltCause, Outcome, PauseCause, Phase, Resumable, RevertCause};
use crate::plan::{Evidence, GuardKind, SkipReason};
use crate::settle::{evidence_missing, waits_for_held};
use crate::slots::{lane_is_shut, slots};
use crate::state::{HostEntry, Parked, Progress, Rollout, Tally, usize_of};

/// One reason. Waves are counted from 0 here and from 1 in the sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The rollout has not started.
    NotStarted,
    /// A wave is open and waits for its hosts.
    WaveOpen {
        /// Which wave.
        wave: u32,
        /// Where its hosts stand.
        tally: Tally,
        /// Slots that it has.
        slots: u32,
        /// When it halts unless a host commits; absent while the time does not count.
        progress_by: Option<Timestamp>,
    },
    /// Every host of the open wave is away.
    WaveAway {
        /// Which wave.
        wave: u32,
        /// Its hosts.
        hosts: u32,
        /// When it halts; absent while the time does not count.
        progress_by: Option<Timestamp>,
    },
    /// Hosts of the open wave are held, and nothing else is left to wait for.
    WaveHeld {
        /// Which wave.
        wave: u32,
        /// Hosts that are held.
        held: u32,
        /// How many may be when it is finished.
        budget: u32,
        /// The first of them, and what it lacks.
        first: Option<(HostName, Lack)>,
    },
    /// A wave is watched.
    WaveBakes {
        /// Which wave.
        wave: u32,
        /// Until when.
        until: Timestamp,
        /// Milliseconds left.
        left_millis: u64,
    },
    /// Persons must approve.
    Approval {
        /// The wave that would open.
        wave: u32,
        /// Persons who did.
        have: u32,
        /// Persons needed.
        needed: u32,
        /// The plan to approve.
        plan: Digest,
        /// Of which service.
        service: ServiceName,
    },
    /// A person must open the wave.
    Manual {
        /// The wave that would open.
        wave: u32,
    },
    /// The webhook must answer.
    Webhook {
        /// The wave that would open.
        wave: u32,
        /// What it answered last.
        answer: Option<Verdict>,
    },
    /// The bake of a wave has seen too little.
    Evidence {
        /// Which wave.
        wave: u32,
        /// Host-seconds missing.
        host_secs: u64,
        /// Committed hosts missing.
        hosts: u32,
        /// When it looks again.
        until: Timestamp,
    },
    /// No window is open: nobody switches.
    Shut {
        /// When the next one opens; `None` where none does within a year.
        until: Option<Timestamp>,
    },
    /// A freeze: nobody switches.
    Frozen {
        /// When it is over.
        until: Timestamp,
        /// Its reason.
        why: String,
    },
    /// A person bounds the slots below the plan.
    Slowed {
        /// Hosts in flight at once.
        max_in_flight: u32,
    },
    /// It is paused.
    Paused {
        /// What stopped it.
        cause: PauseCause,
        /// Where a resume goes on.
        resume: Resumable,
    },
    /// It is halted.
    Halted {
        /// What stopped it.
        cause: HaltCause,
        /// Where a resume goes on.
        resume: Resumable,
    },
    /// The previous release is put back.
    Reverting {
        /// Why.
        cause: RevertCause,
        /// The wave that goes back now.
        wave: u32,
        /// Connected hosts that still have to go back.
        left: u32,
    },
    /// It is over.
    Done {
        /// How it ended.
        outcome: Outcome,
        /// Hosts that have not arrived where the outcome says.
        stragglers: u32,
    },
    /// A newer rollout took over.
    Superseded {
        /// Which.
        by: RolloutId,
    },
    /// Stragglers wait, since too many of them failed.
    LaneShut {
        /// Failures of late hosts not acknowledged.
        failures: u32,
        /// What they may have.
        budget: u32,
    },
    /// The host would not be done before the window is over.
    HostWindowTooShort {
        /// Seconds that it needs.
        needs_secs: u64,
        /// When the window is over.
        until: Option<Timestamp>,
    },
    /// Too many hosts that belong together are down already.
    HostGuarded {
        /// What they have in common.
        kind: GuardKind,
        /// The value of the label, or the name of the wave.
        name: String,
        /// Hosts of it that are down.
        down: u32,
        /// How many may be.
        max_down: u32,
        /// Failure domains with hosts in flight.
        domains: u32,
    },
    /// The host was left out.
    HostExcluded {
        /// Whether it was deleted from the fleet.
        gone: bool,
    },
    /// The host was left out when the plan was made.
    HostSkipped {
        /// Why.
        why: SkipReason,
    },
    /// The host is not in the plan.
    NotPlanned {
        /// The host.
        host: HostId,
    },
    /// The host's wave is not open.
    HostPending {
        /// Its wave.
        wave: u32,
        /// The wave that the rollout is at; `None` before the start and after the end.
        current: Option<u32>,
    },
    /// The host fetches and unpacks.
    HostStaging {
        /// Thousandths of the release's bytes that have arrived.
        permille: u16,
    },
    /// The host waits for a slot.
    HostWaitsForSlot {
        /// Hosts before it.
        before: u32,
        /// Slots in use.
        in_flight: u32,
        /// Slots.
        slots: u32,
    },
    /// The host may switch and has not reported that it did.
    HostGranted {
        /// When it counts as lost.
        deadline: Timestamp,
    },
    /// The host's probes have not passed yet.
    HostProbing {
        /// When it counts as lost.
        deadline: Timestamp,
    },
    /// The host's probes pass; it is watched.
    HostBaking {
        /// When it counts as lost.
        deadline: Timestamp,
    },
    /// The host is there.
    HostCommitted,
    /// The release failed on the host.
    HostFailed {
        /// At which step.
        step: FailedStep,
        /// What happened.
        why: String,
        /// Whether the release before it is live again.
        reverted: bool,
    },
    /// The host held a slot and was not heard to be done in time.
    HostLost {
        /// Whether a person may have it tried again.
        again: bool,
    },
    /// The host was away when its turn came.
    HostAbsent {
        /// Whether the rollout still brings it there.
        comes: bool,
    },
    /// The host lacks something that says nothing about the release.
    HostHeld {
        /// What.
        lack: Lack,
        /// The cause and the next step.
        why: String,
    },
    /// The host is not connected.
    HostAway {
        /// Since when.
        since: Timestamp,
    },
    /// The host goes back.
    HostReverting {
        /// When its slot is taken back.
        deadline: Timestamp,
    },
    /// The host was told to go back and has not answered.
    HostOverdue,
    /// The host went back.
    HostReverted,
    /// The service is off the host.
    HostOff,
    /// The service is to be taken off the host, whose turn has not come.
    HostStillOn,
}

/// Why the rollout, or one of its hosts, is where it is; the nearest reason first. Never empty.
#[must_use]
pub fn explain(rollout: &Rollout, host: Option<&HostId>, now: Timestamp) -> Vec<Why> {
    let newer = rollout.successor.iter().map(|by| Why::Superseded { by: by.clone() });
    let Some(host) = host else {
        let whole = newer.chain([phase_why(rollout, now)]).chain(bounds_why(rollout));
        return whole.collect();
    };
    let Some((ordinal, entry)) = rollout.found(host) else {
        let skipped = rollout.plan.skipped.iter().find(|skipped| skipped.id == *host);
        let why = skipped.map(|skipped| Why::HostSkipped { why: skipped.why.clone() });
        return vec![why.unwrap_or(Why::NotPlanned { host: *host })];
    };
    let away = entry.away.map(|since| Why::HostAway { since });
    let own = Some(host_why(rollout, ordinal, entry));
    // It does nothing before it is back.
    let idle = |own: &Why| entry.away.is_some() && matches!(own, Why::HostStaging { .. });
    // Nor is its wave or its turn what holds it, where the rollout goes nowhere: that is the cause.
    let turn = |own: &Why| {
        matches!(
            own,
            Why::HostPending { .. } | Why::HostStaging { .. } | Why::HostWaitsForSlot { .. }
        )
    };
    let passed = |own: &Why| !goes_forward(rollout) && turn(own);
    let own = own.filter(|own| !idle(own) && !passed(own));
    let held = parked_why(rollout, ordinal, entry);
    let still_on = own == Some(Why::HostStillOn);
    let mut why: Vec<Why> = newer.chain(away).chain(own).chain(held).collect();
    if waits_for_rollout(&entry.progress) || still_on {
        why.push(phase_why(rollout, now));
        why.extend(bounds_why(rollout));
    }
    why
}

/// The earliest moment at which the host may switch by the rules that hold it now, as far as time
/// alone decides: nobody may go before it. `None` where a person, another host or a webhook must
/// act first, and where the host has nothing to wait for.
#[must_use]
pub fn earliest(rollout: &Rollout, host: &HostId, now: Timestamp) -> Option<Timestamp> {
    let entry = rollout.host(host)?;
    if !waits_for_rollout(&entry.progress) || entry.away.is_some() {
        return None;
    }
    let calendar = match &rollout.opening {
        Opening::Open { .. } => Some(now),
        Opening::Shut { until } => *until,
        Opening::Frozen { until, .. } => Some(*until),
    }?;
    let wave = rollout.planned(host).map(|(wave, _)| wave)?;
    let turn = match &rollout.phase {
        Phase::Baking { wave: current, until } if wave > *current => {
            let between = rollout.plan.waves.get(usize_of(*current + 1)..usize_of(wave))?;
            let bakes = between.iter().map(|wave| wave.bake_secs).sum();
            Some((*until).max(now).plus_secs(bakes))
        }
        Phase::Running { wave: current, .. } if wave > *current => {
            let between = rollout.plan.waves.get(usize_of(*current)..usize_of(wave))?;
            Some(now.plus_secs(between.iter().map(|wave| wave.bake_secs).sum()))
        }
        Phase::Running { .. } | Phase::Baking { .. } => Some(now),
        Phase::Done { outcome: Outcome::Completed, .. } => Some(now),
        Phase::Planned
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    }?;
    Some(turn.max(calendar))
}

/// Hosts that were to have switched by now and have not said so: they are lost with the next step.
#[must_use]
pub fn silent(rollout: &Rollout, now: Timestamp) -> Vec<HostId> {
    let over = rollout.sets.deadlines.range(..=(now, u32::MAX));
    let over = over.filter_map(|(_, ordinal)| {
        let (_, host) = rollout.planned_at(*ordinal)?;
        Some((host.id, rollout.host(&host.id)?))
    });
    // Neither on its way back, nor busy with what the rollout before told it.
    let switches = |entry: &HostEntry| {
        entry.busy.is_none() && !matches!(entry.progress, Progress::Reverting { .. })
    };
    over.filter(|(_, entry)| switches(entry)).map(|(id, _)| id).collect()
}

/// What a host waits for that is ready and gets no slot.
fn parked_why(rollout: &Rollout, ordinal: u32, entry: &HostEntry) -> Option<Why> {
    match entry.parked? {
        Parked::Window => {
            let needs_secs = rollout.planned_at(ordinal).map_or(0, |(_, host)| host.needs_secs);
            let until = match rollout.opening {
                Opening::Open { until } => until,
                Opening::Shut { .. } | Opening::Frozen { .. } => None,
            };
            Some(Why::HostWindowTooShort { needs_secs, until })
        }
        Parked::Guard(guard) => {
            let at = usize_of(guard);
            let (rule, state) = rollout.plan.guards.get(at).zip(rollout.guards.get(at))?;
            Some(Why::HostGuarded {
                kind: rule.kind,
                name: rule.name.clone(),
                down: state.down,
                max_down: rule.max_down,
                domains: rollout.counts.domains,
            })
        }
    }
}

/// What bounds every host that waits: the calendar, a person, the failures of late hosts.
fn bounds_why(rollout: &Rollout) -> Vec<Why> {
    let mut why = Vec::new();
    if goes_forward(rollout) {
        match &rollout.opening {
            Opening::Open { .. } => {}
            Opening::Shut { until } => why.push(Why::Shut { until: *until }),
            Opening::Frozen { until, why: reason } => {
                why.push(Why::Frozen { until: *until, why: reason.clone() });
            }
        }
        why.extend(rollout.slow.map(|max_in_flight| Why::Slowed { max_in_flight }));
    }
    if lane_is_shut(rollout) {
        let (failures, budget) = (rollout.counts.lane_failures, rollout.plan.lane_budget);
        why.push(Why::LaneShut { failures, budget });
    }
    why
}

fn waits_for_rollout(progress: &Progress) -> bool {
    match progress {
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Absent
        | Progress::Held { .. }
        | Progress::Lost => true,
        Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Excluded { .. } => false,
    }
}

fn host_why(rollout: &Rollout, ordinal: u32, entry: &HostEntry) -> Why {
    match &entry.progress {
        Progress::Pending => {
            Why::HostPending { wave: rollout.wave_of(ordinal), current: rollout.wave() }
        }
        Progress::Staging => Why::HostStaging { permille: entry.permille },
        Progress::Held { lack, why } => Why::HostHeld { lack: *lack, why: why.clone() },
        Progress::Staged => Why::HostWaitsForSlot {
            before: count(rollout.sets.ready.range(..ordinal).count()),
            in_flight: count(rollout.in_flight()),
            slots: count(slots(rollout)),
        },
        Progress::Granted { deadline, .. } => Why::HostGranted { deadline: *deadline },
        Progress::Probing { deadline } => Why::HostProbing { deadline: *deadline },
        Progress::Baking { deadline } => Why::HostBaking { deadline: *deadline },
        Progress::Committed if rollout.plan.off().is_some() => Why::HostStillOn,
        Progress::Committed => Why::HostCommitted,
        Progress::Failed { step, why, reverted } => {
            Why::HostFailed { step: *step, why: why.clone(), reverted: *reverted }
        }
        Progress::Lost => Why::HostLost { again: goes_forward(rollout) },
        Progress::Absent => Why::HostAbsent { comes: goes_forward(rollout) || !rollout.is_over() },
        Progress::Reverting { deadline } => Why::HostReverting { deadline: *deadline },
        Progress::Overdue => Why::HostOverdue,
        Progress::Reverted if rollout.plan.off().is_some() => Why::HostOff,
        Progress::Reverted => Why::HostReverted,
        Progress::Excluded { gone, .. } => Why::HostExcluded { gone: *gone },
    }
}

/// The reason that the phase gives.
pub(crate) fn phase_why(rollout: &Rollout, now: Timestamp) -> Why {
    match &rollout.phase {
        Phase::Planned => Why::NotStarted,
        Phase::Running { wave, progress_by } => wave_why(rollout, *wave, *progress_by),
        Phase::Baking { wave, until } => bake_why(rollout, (*wave, *until), now),
        // One that stands open is passed in the same step.
        Phase::Gated { wave, .. } => gates(rollout, *wave).unwrap_or(Why::Manual { wave: *wave }),
        Phase::Paused { cause, resume, .. } => {
            Why::Paused { cause: cause.clone(), resume: resume.clone() }
        }
        Phase::Halted { cause, resume, .. } => {
            Why::Halted { cause: cause.clone(), resume: resume.clone() }
        }
        Phase::Reverting { cause, wave, .. } => Why::Reverting {
            cause: cause.clone(),
            wave: *wave,
            left: count(rollout.sets.may_run.len() + rollout.in_flight()),
        },
        Phase::Done { outcome, .. } => {
            Why::Done { outcome: outcome.clone(), stragglers: stragglers(rollout, outcome) }
        }
    }
}

fn bake_why(rollout: &Rollout, (wave, until): (u32, Timestamp), now: Timestamp) -> Why {
    let extended = rollout.wave_state(wave).is_some_and(|wave| wave.extended.is_some());
    match evidence_missing(rollout, wave, now).filter(|_| extended) {
        Some(Evidence { host_secs, hosts }) => Why::Evidence { wave, host_secs, hosts, until },
        None => Why::WaveBakes { wave, until, left_millis: until.millis_since(now) },
    }
}

fn wave_why(rollout: &Rollout, wave: u32, progress_by: Timestamp) -> Why {
    let progress_by = match &rollout.opening {
        Opening::Open { .. } => Some(progress_by),
        Opening::Shut { .. } | Opening::Frozen { .. } => None,
    };
    let tally = rollout.tally(wave).unwrap_or_default();
    if waits_for_held(rollout, wave) {
        let budget = rollout.planned_wave(wave).map_or(0, |wave| wave.held_budget);
        return Why::WaveHeld { wave, held: tally.held, budget, first: first_held(rollout, wave) };
    }
    if tally.absent + tally.excluded == tally.total() {
        return Why::WaveAway { wave, hosts: tally.absent, progress_by };
    }
    Why::WaveOpen { wave, tally, slots: count(slots(rollout)), progress_by }
}

/// The first host of a wave that is held, and what it lacks.
fn first_held(rollout: &Rollout, wave: u32) -> Option<(HostName, Lack)> {
    let planned = &rollout.planned_wave(wave)?.hosts;
    let first = usize_of(rollout.wave_state(wave)?.first);
    let entries = rollout.hosts.iter().skip(first);
    planned.iter().zip(entries).find_map(|(host, entry)| match &entry.progress {
        Progress::Held { lack, .. } => Some((host.name.clone(), *lack)),
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Excluded { .. } => None,
    })
}

/// Hosts that are not where the outcome says.
fn stragglers(rollout: &Rollout, outcome: &Outcome) -> u32 {
    match outcome {
        Outcome::Completed => {
            let late = |tally: Tally| tally.holding() + tally.absent + tally.lost + tally.held;
            rollout.waves.iter().map(|wave| late(wave.tally)).sum()
        }
        Outcome::Reverted { down_to, .. } => {
            let first = rollout.wave_state(*down_to).map_or(0, |wave| wave.first);
            let back = rollout.hosts.iter().skip(usize_of(first));
            count(back.filter(|entry| entry.begun || may_still_run(&entry.progress)).count())
        }
        Outcome::Aborted { .. } | Outcome::Superseded { .. } => 0,
    }
}

fn count(hosts: usize) -> u32 {
    u32::try_from(hosts).unwrap_or(u32::MAX)
}

#[rustfmt::skip]
impl fmt::Display for Why {
    /// One sentence without a full stop; waves are counted from 1.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStarted => write!(f, "the rollout has not started"),
            Self::WaveOpen { wave, tally, slots, progress_by } => {
                let (done, total) = (tally.committed, tally.total());
                let (stage, ready) = (tally.staging, tally.staged);
                let flying = tally.granted + tally.probing + tally.baking;
                write!(f, "{} is open: {done} of {total} hosts committed, {flying} in flight \
                    ({slots} slots), {stage} staging, {ready} ready", Wave(*wave))?;
                match progress_by {
                    Some(at) => write!(f, "; it halts at {at} unless a host commits or bytes arrive before"),
                    None => Ok(()),
                }
            }
            Self::WaveAway { wave, hosts: 0, progress_by } => {
                write!(f, "{} is open and every host of it was left out or deleted", Wave(*wave))?;
                match progress_by {
                    Some(at) => write!(f, "; it halts at {at} and asks"),
                    None => Ok(()),
                }
            }
            Self::WaveAway { wave, hosts, progress_by } => {
                write!(f, "{} is open and nobody of its {} is connected", Wave(*wave), Hosts(*hosts))?;
                match progress_by {
                    Some(at) => write!(f, "; it halts at {at} unless one comes back"),
                    None => Ok(()),
                }
            }
            Self::WaveHeld { wave, held, budget, first } => {
                write!(f, "{} waits for {} that cannot take the release now", Wave(*wave),
                    Hosts(*held))?;
                if let Some((host, lack)) = first {
                    write!(f, " ({host}: {})", lack.words())?;
                }
                match *budget {
                    u32::MAX => write!(f, ", and no other has shown anything"),
                    budget => write!(f, ", its held_budget is {budget}"),
                }
            }
            Self::WaveBakes { wave, until, left_millis } => {
                let left = left_millis.div_ceil(1000);
                write!(f, "{} is finished and bakes until {until} ({left} s left)", Wave(*wave))
            }
            Self::Approval { wave, have, needed, plan, service } => {
                write!(f, "{} waits for approval: {have} of {needed} persons approved plan {}; \
                    'swell approve {service}'", Wave(*wave), plan.short())
            }
            Self::Manual { wave } => {
                write!(f, "{} waits for a person to open it: 'swell rollout promote'", Wave(*wave))
            }
            Self::Webhook { wave, answer } => {
                let said = match answer {
                    None => "has not answered yet",
                    Some(Verdict::Pass) => "says yes",
                    Some(Verdict::Fail) => "says no",
                    Some(Verdict::Inconclusive) => "cannot say yet",
                };
                write!(f, "{} waits for its webhook, which {said}", Wave(*wave))
            }
            Self::Evidence { wave, host_secs, hosts, until } => {
                write!(f, "{} bakes on until {until}: {host_secs} host-seconds and {} more are \
                    missing", Wave(*wave), Hosts(*hosts))
            }
            Self::Shut { until: Some(until) } => {
                write!(f, "no window is open; the next one opens at {until}")
            }
            Self::Shut { until: None } => {
                write!(f, "no window is open and none opens within a year; mend the policy")
            }
            Self::Frozen { until, why } => write!(f, "a freeze holds it until {until}: {why}"),
            Self::Slowed { max_in_flight } => {
                write!(f, "a person slowed it down to {} in flight; 'swell rollout slow' without a \
                    number ends that", Hosts(*max_in_flight))
            }
            Self::Paused { cause, resume } => {
                write!(f, "{cause}; 'swell resume' goes on {resume}")
            }
            Self::Halted { cause, resume } => {
                write!(f, "{cause}; 'swell resume' goes on {resume}, 'swell revert' takes it back")
            }
            Self::Reverting { cause, wave, left } => {
                write!(f, "it goes back, now in {}, {} left of those connected: {cause}",
                    Wave(*wave), Hosts(*left))
            }
            Self::Done { outcome, stragglers: 0 } => write!(f, "it is over: {outcome}"),
            Self::Done { outcome, stragglers } => {
                write!(f, "it is over: {outcome}; not there yet: {}", Hosts(*stragglers))
            }
            Self::Superseded { by } => write!(f, "rollout {by} took over"),
            Self::LaneShut { failures, budget } => {
                write!(f, "late hosts wait: {} failed late, the budget is {budget}; halt \
                    and resume to acknowledge them", Hosts(*failures))
            }
            Self::HostWindowTooShort { needs_secs, until } => {
                write!(f, "it needs {needs_secs} s by its own history, and the window is over ")?;
                match until {
                    Some(until) => write!(f, "at {until}"),
                    None => write!(f, "before that"),
                }
            }
            Self::HostGuarded { kind, name, down, max_down, domains } => {
                write!(f, "{kind} {name} has {} down, {max_down} allowed, and {domains} failure \
                    domains have hosts in flight", Hosts(*down))
            }
            Self::HostExcluded { gone: true } => write!(f, "it was deleted from the fleet"),
            Self::HostExcluded { gone: false } => {
                write!(f, "a person left it out; 'swell rollout retry' takes it in again")
            }
            Self::HostSkipped { why } => write!(f, "the plan leaves it out: {why}"),
            Self::NotPlanned { host } => write!(f, "host {host} is not in this rollout's plan"),
            Self::HostPending { wave, current: Some(current) } => {
                write!(f, "it is in {}; the rollout is at {}", Wave(*wave), Wave(*current))
            }
            Self::HostPending { wave, current: None } => {
                write!(f, "it is in {}, which has not opened", Wave(*wave))
            }
            Self::HostStaging { permille: 0 } => write!(f, "it fetches and unpacks the release"),
            Self::HostStaging { permille } => {
                write!(f, "it has fetched {} % of the release", permille / 10)
            }
            Self::HostHeld { lack: Lack::Drained, why } => {
                write!(f, "an operator drained it: {why}; 'swell host undrain' lets it in again")
            }
            Self::HostHeld { lack: Lack::Stage, why } => {
                write!(f, "it could not stage the release, which is no failure of it: {why}; \
                    'swell rollout retry' tries it again")
            }
            Self::HostHeld { why, .. } => {
                write!(f, "{why}; it goes on by itself then")
            }
            Self::HostWaitsForSlot { before, in_flight, slots } => {
                write!(f, "it is staged and waits for a slot: {in_flight} of {slots} are in use, \
                    {} before it", Hosts(*before))
            }
            Self::HostGranted { deadline } => {
                write!(f, "it may switch and has not said that it did; it counts as lost at \
                    {deadline}")
            }
            Self::HostProbing { deadline } => {
                write!(f, "it has switched and its probes have not passed yet; it counts as lost \
                    at {deadline}")
            }
            Self::HostBaking { deadline } => {
                write!(f, "its probes pass and it is watched; it counts as lost at {deadline}")
            }
            Self::HostCommitted => write!(f, "it runs the release"),
            Self::HostFailed { step, why, reverted } => {
                let after = match (step, reverted) {
                    (_, true) => "the release before it is live again",
                    (FailedStep::Stage, false) => "the live tree was not touched",
                    (FailedStep::Revert, false) => {
                        "once that is mended, 'groundswell-agent retry' there starts and probes what is live"
                    }
                    (FailedStep::Switch | FailedStep::Probe | FailedStep::Bake, false) => {
                        "it has not said that it went back"
                    }
                };
                let why = one_line(why);
                write!(f, "the release failed on it ({}): {why}; {after}", name_of(step))
            }
            Self::HostLost { again } => {
                let next = if *again { "; 'swell rollout retry' tries it again" } else { "" };
                write!(
                    f,
                    "it held a slot and did not say in time that it was done: it may run the release{next}"
                )
            }
            Self::HostAbsent { comes: true } => {
                write!(f, "it was away when its turn came; it is staged when it is back")
            }
            Self::HostAbsent { comes: false } => {
                write!(f, "it was away when its turn came, and this rollout brings it there no more")
            }
            Self::HostAway { since } => write!(f, "it is not connected since {since}"),
            Self::HostReverting { deadline } => {
                write!(f, "it goes back; its slot is taken back at {deadline}")
            }
            Self::HostOverdue => write!(f, "it was told to go back and has not said that it did"),
            Self::HostReverted => write!(f, "it went back"),
            Self::HostOff => write!(f, "the service is off it"),
            Self::HostStillOn => write!(f, "the service is still on it; its turn has not come"),
        }
    }
}

/// A wave as people count it.
pub(crate) struct Wave(pub(crate) u32);

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wave {}", u64::from(self.0) + 1)
    }
}

impl fmt::Display for GuardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Domain => "failure domain",
            Self::Quorum => "quorum group",
            Self::Wave => "wave",
        })
    }
}

/// A number of hosts as people say it.
struct Hosts(u32);

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => write!(f, "1 host"),
            hosts => write!(f, "{hosts} hosts"),
        }
    }
}

impl fmt::Display for HaltCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { by, why } => write!(f, "{by} halted it: {why}"),
            Self::Breach(breach) => write!(f, "{breach}"),
            Self::Gate { wave, why } => {
                write!(f, "the webhook says that {} must not open: {why}", Wave(*wave))
            }
            Self::NoProgress { wave } => {
                write!(
                    f,
                    "no host of {} committed, and no byte arrived, within the progress deadline",
                    Wave(*wave)
                )
            }
        }
    }
}

impl fmt::Display for PauseCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { by, why } => write!(f, "{by} paused it: {why}"),
            Self::Breach(breach) => write!(f, "{breach}"),
            Self::Evidence { wave } => {
                write!(f, "the bake of {} is over and has seen too little", Wave(*wave))
            }
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hosts, budget) = (Hosts(self.failures), self.budget);
        match self.wave {
            Some(wave) => write!(f, "{hosts} of {} failed, its budget is {budget}", Wave(wave)),
            None => write!(f, "{hosts} failed, the budget of the whole rollout is {budget}"),
        }?;
        match self.silent {
            0 => Ok(()),
            silent => write!(
                f,
                " ({silent} did not say in time that it was done, and nothing against the release)"
            ),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantined { failures } => {
                write!(
                    f,
                    "it failed {failures} times in a row and is in quarantine; 'swell host \
                    clear' takes it in again"
                )
            }
            Self::FailedBefore => {
                write!(f, "this release failed on it before; 'swell release clear' offers it again")
            }
            Self::Unmet { requires } => {
                write!(f, "the release requires {requires}; 'swell host label' gives it labels")
            }
            Self::Barrier { version } => write!(f, "it must run {version} first"),
            Self::Newer { version } => {
                write!(f, "it runs {version}, which is newer; only a revert goes down")
            }
            Self::NoWindow { usual_secs } => {
                write!(f, "it usually takes {usual_secs} s and no window is that long")
            }
        }
    }
}

impl fmt::Display for RevertCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { by, why } => write!(f, "{by} reverted it: {why}"),
            Self::Breach(breach) => write!(f, "{breach}"),
            Self::Removed { by, why } => write!(f, "{by} takes the service off: {why}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => write!(f, "completed"),
            Self::Reverted { cause: RevertCause::Removed { by, why }, .. } => {
                write!(f, "the service is off its hosts; {by} took it off: {why}")
            }
            Self::Reverted { cause, down_to: 0 } => write!(f, "reverted, since {cause}"),
            Self::Reverted { cause, down_to } => {
                write!(
                    f,
                    "reverted from {} on, earlier waves keep it, since {cause}",
                    Wave(*down_to)
                )
            }
            Self::Aborted { by, why } => write!(f, "{by} aborted it and kept what runs: {why}"),
            Self::Superseded { by } => write!(f, "superseded by {by}"),
        }
    }
}

impl fmt::Display for Resumable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { wave } => write!(f, "in {}", Wave(*wave)),
            Self::Baking { wave, left_millis } => {
                write!(f, "in the bake of {} ({} s left)", Wave(*wave), left_millis.div_ceil(1000))
            }
            Self::Gated { wave, .. } => write!(f, "before {}", Wave(*wave)),
            Self::Reverting { wave, .. } => write!(f, "going back, in {}", Wave(*wave)),
            Self::Completed { .. } => write!(f, "with the late hosts"),
        }
    }
}
