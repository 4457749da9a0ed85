//! One input, one step. Refuses what does not fit the phase and then changes nothing; otherwise
//! applies it and lets the rest follow. Deterministic: the ledger replays it.

use groundswell_common::condition::CONDITION_TEXT_MAX_BYTES;
use groundswell_common::condition::Lack;
use groundswell_common::limits::{FAILURE_TEXT_MAX_BYTES, TEXT_MAX_BYTES};
use groundswell_common::{Digest, HostId, OperatorName, RolloutId, Timestamp};

use crate::explain::Wave;
use crate::fact::{health_news, next_progress};
use crate::gate::{approvals_needed, approvers};
use crate::hosts::Step;
use crate::input::{Busy, HostFact, Input, KeepOrRevert, Moment};
use crate::phase::{HaltCause, Outcome, PauseCause, Phase, PhaseName, Resumable, RevertCause};
use crate::plan::{Back, RULES_BEGUN};
use crate::settle::{
    go_to_wave, renew_grants, renew_progress, resumable, settle, turn_back, wave_that_waits,
};
use crate::slots::busy_until;
use crate::state::{Approved, HostEntry, Progress, ProgressName, Rollout};
use crate::steer::{answer, removed};

/// What the shell must do after a step is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Hosts whose wish changed, in plan order: compute and push their directives.
    pub changed_hosts: Vec<HostId>,
    /// Whether every host of the plan has a new wish (the start).
    pub all_hosts: bool,
    /// The changes of phase, in order, for log and audit.
    pub transitions: Vec<Transition>,
}

/// One change of phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: Phase,
    /// After; its data says why.
    pub to: Phase,
}

/// Why an input is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has not started.
    #[error("the rollout has not started; abort it if it never should")]
    NotStarted,
    /// It runs already.
    #[error("the rollout has started already")]
    Started,
    /// It is paused already.
    #[error("the rollout is paused already; resume it, or abort it")]
    Paused,
    /// It is halted already.
    #[error("the rollout is halted already; resume it, revert it, or abort it")]
    Halted,
    /// It is neither paused nor halted.
    #[error("the rollout is neither paused nor halted; there is nothing to resume")]
    NotStopped,
    /// It is going back.
    #[error("the rollout is being reverted; wait for the end, or halt it first")]
    Reverting,
    /// It is over.
    #[error(
        "the rollout is over; 'swell rollout start SERVICE VERSION' starts another, of a poisoned release after \
         'swell release clear SERVICE@VERSION --why TEXT'"
    )]
    Over,
    /// It went back already.
    #[error("the rollout has been reverted already")]
    Reverted,
    /// A newer rollout took over.
    #[error("rollout {0} took over; act on that one")]
    Superseded(RolloutId),
    /// The release cannot go back.
    #[error("the release is one-way and cannot be reverted; publish a release that repairs it")]
    OneWay,
    /// An approval of another plan.
    #[error("the approval is for another plan; approve plan {have}")]
    WrongPlan {
        /// The plan of this rollout.
        have: Digest,
    },
    /// An approval or a skip of a wave that does not exist, is open already or was skipped.
    #[error("{} does not exist, is open already or was skipped; name a later one", Wave(*.0))]
    WrongWave(u32),
    /// An approval for which nobody asks.
    #[error("no wave that is still to open asks for an approval")]
    NoGate,
    /// A second approval by one person.
    #[error("{0} has approved this already; another person must")]
    ApprovedBefore(OperatorName),
    /// A host that is not in the plan.
    #[error("host {0} is not in the plan")]
    UnknownHost(HostId),
    /// Nothing waits for a promotion.
    #[error("no wave waits for a promotion; 'swell show' says what it waits for")]
    NothingToPromote,
    /// A promotion of a wave that has shown nothing.
    #[error(
        "no host of {} has committed yet; wait for one, or leave hosts out with 'swell rollout exclude'",
        Wave(*.0)
    )]
    NothingShown(u32),
    /// A host that cannot be left out, since it runs the release.
    #[error("host {0} runs the release or goes back from it; revert the rollout instead")]
    HostRuns(HostId),
    /// A host that is not tried again.
    #[error("host {0} neither failed nor was left out; there is nothing to retry")]
    NotRetryable(HostId),
    /// No slots at all.
    #[error("0 hosts in flight would never end; write at least 1, or pause it")]
    NoSlots,
    /// An answer of a webhook that nobody waits for.
    #[error("nobody waits for a webhook's answer about {}", Wave(*.0))]
    NobodyAsked(u32),
    /// An approval by somebody who made the release, where four eyes are wanted.
    #[error("{0} published this release; another person must approve it")]
    FourEyes(OperatorName),
    /// A fact or tick that changes nothing.
    #[error("nothing changes")]
    NoChange,
    /// A reason that is too long.
    #[error("the reason has {bytes} bytes, at most {limit_bytes}; shorten it")]
    TextTooLong {
        /// What came.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
}

/// Applies one input as ledger entry `at.seq`.
///
/// # Errors
/// [`Refusal`] where the input does not fit or changes nothing; the rollout is then as it was.
pub fn step(rollout: &mut Rollout, input: &Input, at: Moment) -> Result<Effects, Refusal> {
    if let Some(newer) = &rollout.successor {
        return Err(Refusal::Superseded(newer.clone()));
    }
    fits(input)?;
    let mut step = Step::new(at);
    let waited = wave_that_waits(rollout);
    apply(rollout, &mut step, input)?;
    settle(rollout, &mut step, waited);
    Ok(Effects {
        changed_hosts: step.changed_ids(rollout),
        all_hosts: step.all_hosts,
        transitions: step.transitions,
    })
}

/// Whether an [`Input::Tick`] at `now` would change something.
#[must_use]
pub fn due(rollout: &Rollout, now: Timestamp) -> bool {
    next_deadline(rollout).is_some_and(|deadline| deadline <= now)
}

/// When the next tick is due; `None` where time alone changes nothing.
#[must_use]
pub fn next_deadline(rollout: &Rollout) -> Option<Timestamp> {
    crate::settle::next_deadline(rollout)
}

/// The table of all phases and inputs. Each arm checks before it changes.
#[rustfmt::skip]
fn apply(rollout: &mut Rollout, step: &mut Step, input: &Input) -> Result<(), Refusal> {
    use Input as I;
    use PhaseName as P;
    match (rollout.phase.name(), input) {
        (P::Planned, I::Start { away, busy }) => start(rollout, step, away, busy),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Start { .. }) => Err(Refusal::Started),

        (P::Planned | P::Running | P::Baking | P::Gated | P::Paused | P::Halted,
            I::Approve { by, plan, wave }) => approve(rollout, step, by, (plan, *wave)),
        (P::Reverting, I::Approve { .. }) => Err(Refusal::Reverting),
        (P::Done, I::Approve { .. }) => Err(Refusal::Over),

        (P::Planned, I::Pause { .. } | I::Resume { .. } | I::Halt { .. } | I::Revert { .. }
            | I::Steer { .. } | I::Answer { .. } | I::Host { .. } | I::Connected { .. }
            | I::Disconnected { .. } | I::Tick) => {
            Err(Refusal::NotStarted)
        }

        (P::Running | P::Baking | P::Gated | P::Reverting | P::Done, I::Pause { by, why }) => {
            pause(rollout, step, by, why)
        }
        (P::Paused, I::Pause { .. }) => Err(Refusal::Paused),
        (P::Halted, I::Pause { .. } | I::Halt { .. }) => Err(Refusal::Halted),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Reverting | P::Done,
            I::Halt { by, why }) => halt(rollout, step, by, why),

        (P::Paused | P::Halted, I::Resume { .. }) => resume(rollout, step),
        (P::Running | P::Baking | P::Gated | P::Reverting, I::Resume { .. }) => {
            Err(Refusal::NotStopped)
        }
        (P::Done, I::Resume { .. }) => Err(Refusal::Over),

        (P::Planned, I::Abort { by, why, .. })
        | (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting,
            I::Abort { by, why, keep: KeepOrRevert::Keep }) => abort(rollout, step, by, why),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted,
            I::Abort { by, why, keep: KeepOrRevert::Revert } | I::Revert { by, why }) => {
            revert(rollout, step, by, why)
        }
        (P::Reverting, I::Abort { by, why, keep: KeepOrRevert::Revert } | I::Revert { by, why }) => {
            widen(rollout, step, by, why)
        }
        (P::Done, I::Abort { .. }) => Err(Refusal::Over),
        (P::Done, I::Revert { by, why }) => revert_done(rollout, step, by, why),

        (P::Planned | P::Running | P::Baking | P::Gated | P::Paused | P::Halted,
            I::Supersede { by }) => supersede(rollout, step, by),
        (P::Reverting, I::Supersede { .. }) => Err(Refusal::Reverting),
        (P::Done, I::Supersede { by }) => retire(rollout, step, by),

        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Steer { steer, .. }) => crate::steer::steer(rollout, step, steer),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Answer { wave, verdict, why }) => answer(rollout, step, (*wave, *verdict, why)),
        (P::Planned | P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting
            | P::Done, I::Removed { host }) => removed(rollout, step, host),

        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Host { host, fact }) => learn(rollout, step, host, fact),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Connected { host }) => connected(rollout, step, host),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Disconnected { host }) => disconnected(rollout, step, host),
        (P::Running | P::Baking | P::Gated | P::Paused | P::Halted | P::Reverting | P::Done,
            I::Tick) => tick(rollout, step),
    }
}

/// Whether the texts in the input are short enough to be kept.
fn fits(input: &Input) -> Result<(), Refusal> {
    let (text, limit_bytes) = match input {
        Input::Pause { why, .. }
        | Input::Resume { why, .. }
        | Input::Halt { why, .. }
        | Input::Abort { why, .. }
        | Input::Steer { why, .. }
        | Input::Answer { why, .. }
        | Input::Revert { why, .. } => (why, TEXT_MAX_BYTES),
        Input::Host { fact: HostFact::Failed { why, .. } | HostFact::Stuck { why }, .. } => {
            (why, FAILURE_TEXT_MAX_BYTES)
        }
        Input::Host { fact: HostFact::Held { why, .. }, .. } => (why, CONDITION_TEXT_MAX_BYTES),
        Input::Host {
            fact:
                HostFact::Staged
                | HostFact::SwitchStarted
                | HostFact::Passed
                | HostFact::Committed
                | HostFact::Ill
                | HostFact::Well
                | HostFact::Rested
                | HostFact::Freed
                | HostFact::Fetched { .. }
                | HostFact::Gone { .. }
                | HostFact::RevertDone { .. },
            ..
        }
        | Input::Start { .. }
        | Input::Approve { .. }
        | Input::Supersede { .. }
        | Input::Removed { .. }
        | Input::Connected { .. }
        | Input::Disconnected { .. }
        | Input::Tick => return Ok(()),
    };
    match text.len() {
        bytes if bytes > limit_bytes => Err(Refusal::TextTooLong { bytes, limit_bytes }),
        _ => Ok(()),
    }
}

fn start(
    rollout: &mut Rollout,
    step: &mut Step,
    away: &[HostId],
    busy: &[Busy],
) -> Result<(), Refusal> {
    let ordinal = |host: &HostId| rollout.ordinal(host).ok_or(Refusal::UnknownHost(*host));
    let away: Vec<u32> = away.iter().map(ordinal).collect::<Result<_, _>>()?;
    let busy: Vec<(u32, Timestamp)> = busy
        .iter()
        .map(|busy| Ok((ordinal(&busy.host)?, busy.until)))
        .collect::<Result<_, Refusal>>()?;
    let now = step.at.now;
    rollout.started = Some(step.at.seq);
    step.all_hosts = true;
    for ordinal in away {
        rollout.edit(step, ordinal, |entry| entry.away = Some(now));
    }
    for (ordinal, until) in busy {
        rollout.edit(step, ordinal, |entry| entry.busy = Some(until));
    }
    match rollout.plan.back.clone() {
        None => go_to_wave(rollout, step, 0),
        Some(Back { by, why, off, .. }) => {
            let cause = match off {
                None => RevertCause::Person { by, why },
                Some(_) => RevertCause::Removed { by, why },
            };
            turn_back(rollout, step, (cause, 0));
        }
    }
    Ok(())
}

fn approve(
    rollout: &mut Rollout,
    step: &Step,
    by: &OperatorName,
    (plan, wave): (&Digest, Option<u32>),
) -> Result<(), Refusal> {
    if *plan != rollout.plan_hash {
        return Err(Refusal::WrongPlan { have: rollout.plan_hash });
    }
    let waiting = |wave: u32| {
        let closed = !rollout.is_open(wave) && !rollout.is_skipped(wave);
        closed && rollout.planned_wave(wave).is_some()
    };
    let asks = |wave: u32| waiting(wave) && approvals_needed(rollout, wave) > 0;
    let last = rollout.last_wave();
    match wave {
        Some(wave) if !waiting(wave) => return Err(Refusal::WrongWave(wave)),
        Some(wave) if !asks(wave) => return Err(Refusal::NoGate),
        Some(wave) if approvers(rollout, wave).contains(by) => {
            return Err(Refusal::ApprovedBefore(by.clone()));
        }
        None if !(0..=last).any(asks) => return Err(Refusal::NoGate),
        None if rollout.approvals.iter().any(|had| had.by == *by && had.wave.is_none()) => {
            return Err(Refusal::ApprovedBefore(by.clone()));
        }
        Some(_) | None => {}
    }
    let four_eyes = |at: u32| {
        let meant = wave.is_none_or(|only| only == at) && asks(at);
        meant && rollout.planned_wave(at).is_some_and(|wave| wave.gate.four_eyes)
    };
    if rollout.plan.release.authors.contains(by) && (0..=last).any(four_eyes) {
        return Err(Refusal::FourEyes(by.clone()));
    }
    rollout.approvals.push(Approved { by: by.clone(), wave, at: step.at.now });
    Ok(())
}

fn pause(
    rollout: &mut Rollout,
    step: &mut Step,
    by: &OperatorName,
    why: &str,
) -> Result<(), Refusal> {
    let since = step.at.now;
    let resume = resumable(rollout, since).ok_or(Refusal::Over)?;
    let cause = PauseCause::Person { by: by.clone(), why: why.to_owned() };
    rollout.enter(step, Phase::Paused { cause, since, resume });
    Ok(())
}

fn halt(
    rollout: &mut Rollout,
    step: &mut Step,
    by: &OperatorName,
    why: &str,
) -> Result<(), Refusal> {
    let since = step.at.now;
    let resume = resumable(rollout, since).ok_or(Refusal::Over)?;
    let cause = HaltCause::Person { by: by.clone(), why: why.to_owned() };
    rollout.enter(step, Phase::Halted { cause, since, resume });
    Ok(())
}

fn resume(rollout: &mut Rollout, step: &mut Step) -> Result<(), Refusal> {
    let now = step.at.now;
    let back = resumable(rollout, now).ok_or(Refusal::NotStopped)?;
    acknowledge(rollout, step);
    let phase = match back {
        Resumable::Running { wave } => {
            let progress_by = now.plus_secs(rollout.plan.progress_deadline_secs);
            Phase::Running { wave, progress_by }
        }
        Resumable::Baking { wave, left_millis } => {
            Phase::Baking { wave, until: now.plus_millis(left_millis) }
        }
        Resumable::Gated { wave, since } => Phase::Gated { wave, since },
        Resumable::Reverting { cause, wave, down_to } => Phase::Reverting { cause, wave, down_to },
        Resumable::Completed { at } => Phase::Done { outcome: Outcome::Completed, at },
    };
    rollout.enter(step, phase);
    renew_grants(rollout, step);
    Ok(())
}

/// Marks every failure as seen, and a wave that has shown too little as let through.
fn acknowledge(rollout: &mut Rollout, step: &mut Step) {
    let (waived, unproven) = match &rollout.phase {
        Phase::Halted { cause: HaltCause::NoProgress { wave }, .. } => (Some(*wave), None),
        Phase::Paused { cause: PauseCause::Evidence { wave }, .. } => (None, Some(*wave)),
        Phase::Halted { .. }
        | Phase::Paused { .. }
        | Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => (None, None),
    };
    for (state, wave) in rollout.waves.iter_mut().zip(0_u32..) {
        state.waived |= waived == Some(wave);
        state.unproven |= unproven == Some(wave);
    }
    let failures: Vec<u32> = rollout.sets.failures.iter().copied().collect();
    for ordinal in failures {
        rollout.edit(step, ordinal, |entry| entry.acknowledged = true);
    }
}

fn abort(
    rollout: &mut Rollout,
    step: &mut Step,
    by: &OperatorName,
    why: &str,
) -> Result<(), Refusal> {
    let outcome = Outcome::Aborted { by: by.clone(), why: why.to_owned() };
    rollout.enter(step, Phase::Done { outcome, at: step.at.now });
    Ok(())
}

fn revert(
    rollout: &mut Rollout,
    step: &mut Step,
    by: &OperatorName,
    why: &str,
) -> Result<(), Refusal> {
    if rollout.plan.release.one_way {
        return Err(Refusal::OneWay);
    }
    let cause = RevertCause::Person { by: by.clone(), why: why.to_owned() };
    turn_back(rollout, step, (cause, 0));
    Ok(())
}

/// A revert of some waves becomes one of all.
fn widen(
    rollout: &mut Rollout,
    step: &mut Step,
    by: &OperatorName,
    why: &str,
) -> Result<(), Refusal> {
    match &rollout.phase {
        Phase::Reverting { down_to: 1.., .. } => revert(rollout, step, by, why),
        Phase::Reverting { .. }
        | Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Done { .. } => Err(Refusal::Reverting),
    }
}

fn revert_done(
    rollout: &mut Rollout,
    step: &mut Step,
    by: &OperatorName,
    why: &str,
) -> Result<(), Refusal> {
    match &rollout.phase {
        Phase::Done { outcome: Outcome::Reverted { down_to: 0, .. }, .. } => Err(Refusal::Reverted),
        Phase::Done { outcome: Outcome::Superseded { by }, .. } => {
            Err(Refusal::Superseded(by.clone()))
        }
        Phase::Done {
            outcome: Outcome::Completed | Outcome::Aborted { .. } | Outcome::Reverted { .. },
            ..
        }
        | Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. } => revert(rollout, step, by, why),
    }
}

fn supersede(rollout: &mut Rollout, step: &mut Step, by: &RolloutId) -> Result<(), Refusal> {
    let outcome = Outcome::Superseded { by: by.clone() };
    rollout.enter(step, Phase::Done { outcome, at: step.at.now });
    rollout.hand_over(step, by);
    Ok(())
}

/// A rollout that is over keeps its outcome; its stragglers belong to the newer one.
fn retire(rollout: &mut Rollout, step: &mut Step, by: &RolloutId) -> Result<(), Refusal> {
    rollout.hand_over(step, by);
    Ok(())
}

fn learn(
    rollout: &mut Rollout,
    step: &mut Step,
    host: &HostId,
    fact: &HostFact,
) -> Result<(), Refusal> {
    let now = step.at.now;
    let (ordinal, entry) = rollout.found(host).ok_or(Refusal::UnknownHost(*host))?;
    if let Some(ill) = health_news(entry, fact) {
        rollout.edit(step, ordinal, |entry| entry.ill = ill);
        return Ok(());
    }
    if *fact == HostFact::Rested && entry.busy.is_some() {
        rollout.edit(step, ordinal, |entry| entry.busy = None);
        return Ok(());
    }
    let next = next_progress(rollout, entry, fact, now).ok_or(Refusal::NoChange)?;
    let before = entry.progress.name();
    // One that gives its slot up may have its permit in its hands, or may be started again at any time.
    let had_switched = matches!(before, ProgressName::Probing | ProgressName::Baking);
    let stopped = had_switched && matches!(fact, HostFact::Held { lack: Lack::Paused, .. });
    let gives_up =
        stopped || (before == ProgressName::Granted && next.name() == ProgressName::Held);
    let busy = busy_until(entry, now).filter(|_| gives_up);
    let stands =
        next == Progress::Staged && matches!(before, ProgressName::Lost | ProgressName::Probing);
    let anew = next == Progress::Staging
        && matches!(before, ProgressName::Lost | ProgressName::Baking)
        || next.name() == ProgressName::Probing && before == ProgressName::Baking;
    if stands || anew {
        rollout.edit(step, ordinal, |entry| entry.retries = entry.retries.saturating_add(1));
    }
    let of_wave = rollout.wave_of(ordinal);
    let commits = next == Progress::Committed;
    let comes =
        matches!(next.name(), ProgressName::Staging | ProgressName::Staged | ProgressName::Held);
    let waits = comes && !rollout.is_open(of_wave);
    rollout.advance(step, ordinal, if waits { Progress::Pending } else { next });
    if gives_up {
        rollout.edit(step, ordinal, |entry| entry.busy = busy);
    }
    if had_switched && rollout.plan.rules >= RULES_BEGUN {
        let is_held = |entry: &HostEntry| matches!(entry.progress, Progress::Held { .. });
        rollout.edit(step, ordinal, |entry| entry.begun = is_held(entry));
    }
    if let HostFact::Fetched { permille } = fact {
        rollout.edit(step, ordinal, |entry| entry.permille = *permille);
    }
    // Its wave may have gone on without it: then it is late, as one that was away.
    let behind = before == ProgressName::Held || matches!(fact, HostFact::Gone { .. });
    if behind && !commits && rollout.phase.wave() != Some(of_wave) {
        rollout.edit(step, ordinal, |entry| entry.late = true);
    }
    // One that was left out with a slot is done with it then.
    if matches!(fact, HostFact::Committed | HostFact::RevertDone { .. }) {
        rollout.edit(step, ordinal, |entry| entry.busy = None);
    }
    // Bytes that arrive are progress, and so is a host that lacks nothing any more.
    let moves = matches!(fact, HostFact::Fetched { .. }) || before == ProgressName::Held;
    if (commits || moves) && rollout.phase.wave() == Some(of_wave) {
        renew_progress(rollout, now);
    }
    Ok(())
}

fn connected(rollout: &mut Rollout, step: &mut Step, host: &HostId) -> Result<(), Refusal> {
    let (ordinal, entry) = rollout.found(host).ok_or(Refusal::UnknownHost(*host))?;
    if entry.away.is_none() {
        return Err(Refusal::NoChange);
    }
    let catches_up = entry.progress == Progress::Absent;
    rollout.edit(step, ordinal, |entry| entry.away = None);
    if catches_up {
        rollout.advance(step, ordinal, Progress::Staging);
    }
    Ok(())
}

fn disconnected(rollout: &mut Rollout, step: &mut Step, host: &HostId) -> Result<(), Refusal> {
    let now = step.at.now;
    let (ordinal, entry) = rollout.found(host).ok_or(Refusal::UnknownHost(*host))?;
    if entry.away.is_some() {
        return Err(Refusal::NoChange);
    }
    rollout.edit(step, ordinal, |entry| entry.away = Some(now));
    Ok(())
}

fn tick(rollout: &Rollout, step: &Step) -> Result<(), Refusal> {
    if due(rollout, step.at.now) { Ok(()) } else { Err(Refusal::NoChange) }
}
