//! What follows by itself after an input: time-outs, breaches, slots, the next wave. Owns the
//! course of a rollout; never refuses.

use groundswell_common::Timestamp;

use crate::desired::goes_forward;
use crate::fact::{LOST_GRACE_SECS, lost_at};
use crate::gate::{Judgement, approvals};
use crate::hosts::Step;
use crate::policy::{OnBreach, WAVES_MAX};
use crate::state::{
    HaltCause, Outcome, Phase, Progress, Resumable, RevertCause, Rollout, WaveState, usize_of,
};

/// Changes of phase in one step: each wave waits, opens, bakes and is reverted at most once.
const PHASES_PER_STEP_MAX: usize = 4 * WAVES_MAX;

/// Lets everything follow that follows from the state and the time.
pub(crate) fn settle(rollout: &mut Rollout, step: &mut Step) {
    take_slots_back(rollout, step);
    let absent_after = rollout.plan.absent_after_secs;
    while let Some((since, ordinal)) = rollout.sets.away.first().copied() {
        if !goes_forward(rollout) || step.at.now < since.plus_secs(absent_after) {
            break;
        }
        rollout.advance(step, ordinal, Progress::Absent);
    }
    for _ in 0..PHASES_PER_STEP_MAX {
        if !course(rollout, step) {
            return;
        }
    }
}

/// When time alone changes something next.
pub(crate) fn next_deadline(rollout: &Rollout) -> Option<Timestamp> {
    if rollout.successor.is_some() {
        return None;
    }
    let phase = match &rollout.phase {
        Phase::Running { progress_by, .. } => Some(*progress_by),
        Phase::Baking { until, .. } => Some(*until),
        Phase::Planned
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    };
    let slot = rollout.sets.deadlines.first().map(|(deadline, _)| *deadline);
    let away = rollout.sets.away.first().filter(|_| goes_forward(rollout));
    let away = away.map(|(since, _)| since.plus_secs(rollout.plan.absent_after_secs));
    [phase, slot, away].into_iter().flatten().min()
}

/// Opens wave `wave`, or stands before its gate; after the last wave the rollout is complete.
pub(crate) fn go_to_wave(rollout: &mut Rollout, step: &mut Step, wave: u32) {
    let now = step.at.now;
    if rollout.planned_wave(wave).is_none() {
        let done = Phase::Done { outcome: Outcome::Completed, at: now };
        return rollout.enter(step, done);
    }
    match approvals(rollout, wave) {
        Judgement::Open => open(rollout, step, wave),
        Judgement::Wait(_) | Judgement::Shut(_) => {
            rollout.enter(step, Phase::Gated { wave, since: now });
        }
    }
}

/// Turns round: every host that runs or may run the release goes back, the last wave first.
pub(crate) fn turn_back(rollout: &mut Rollout, step: &mut Step, cause: RevertCause) {
    let wave = rollout.last_wave();
    rollout.enter(step, Phase::Reverting { cause, wave });
    let in_flight: Vec<u32> = rollout.sets.in_flight.iter().copied().collect();
    for ordinal in in_flight {
        let Some(entry) = rollout.entry(ordinal) else { continue };
        let next = match (&entry.progress, entry.away) {
            (Progress::Reverting { .. }, _) => continue,
            (_, None) => Progress::Reverting { deadline: back_at(rollout, step.at.now) },
            (_, Some(_)) => Progress::Lost,
        };
        rollout.advance(step, ordinal, next);
    }
}

/// Where a resume would go on, were the rollout stopped now; `None` where nothing is to stop.
pub(crate) fn resumable(rollout: &Rollout, now: Timestamp) -> Option<Resumable> {
    match &rollout.phase {
        Phase::Running { wave, .. } => Some(Resumable::Running { wave: *wave }),
        Phase::Baking { wave, until } => {
            Some(Resumable::Baking { wave: *wave, left_millis: until.millis_since(now) })
        }
        Phase::Gated { wave, since } => Some(Resumable::Gated { wave: *wave, since: *since }),
        Phase::Paused { resume, .. } | Phase::Halted { resume, .. } => Some(resume.clone()),
        Phase::Reverting { cause, wave } => {
            Some(Resumable::Reverting { cause: cause.clone(), wave: *wave })
        }
        Phase::Done { outcome: Outcome::Completed, at } if has_stragglers(rollout) => {
            Some(Resumable::Completed { at: *at })
        }
        Phase::Done { .. } | Phase::Planned => None,
    }
}

/// Whether hosts of a completed rollout may still switch.
pub(crate) fn has_stragglers(rollout: &Rollout) -> bool {
    let waits = |wave: &WaveState| wave.tally.holding() + wave.tally.absent + wave.tally.lost > 0;
    rollout.waves.iter().any(waits)
}

/// The first wave that has more failures than its budget: wave, failures, budget.
pub(crate) fn breach(rollout: &Rollout) -> Option<(u32, u32, u32)> {
    let budgets = rollout.plan.waves.iter().map(|wave| wave.failure_budget);
    let waves = rollout.waves.iter().zip(budgets).zip(0_u32..);
    waves
        .map(|((state, budget), wave)| (wave, state.failures, budget))
        .find(|(_, failures, budget)| failures > budget)
}

/// Slots that may be used now, and from which wave they are counted.
pub(crate) fn slots(rollout: &Rollout) -> usize {
    let opened = rollout.waves.iter().rposition(|wave| wave.opened.is_some());
    let opened = opened.and_then(|wave| rollout.plan.waves.get(wave));
    opened.map_or(0, |wave| usize_of(wave.max_in_flight))
}

fn take_slots_back(rollout: &mut Rollout, step: &mut Step) {
    while let Some((deadline, ordinal)) = rollout.sets.deadlines.first().copied() {
        let Some(entry) = rollout.entry(ordinal).filter(|_| deadline <= step.at.now) else {
            return;
        };
        let back = matches!(entry.progress, Progress::Reverting { .. });
        let next = if back { Progress::Overdue } else { Progress::Lost };
        rollout.advance(step, ordinal, next);
    }
}

/// Does what the phase asks for; whether the phase has changed.
fn course(rollout: &mut Rollout, step: &mut Step) -> bool {
    if answer_breach(rollout, step) {
        return true;
    }
    let now = step.at.now;
    match rollout.phase.clone() {
        Phase::Running { wave, progress_by } => run(rollout, step, wave, progress_by),
        Phase::Baking { wave, until } if until <= now => {
            go_to_wave(rollout, step, wave + 1);
            true
        }
        Phase::Gated { wave, .. } if approvals(rollout, wave) == Judgement::Open => {
            open(rollout, step, wave);
            true
        }
        Phase::Baking { .. } | Phase::Gated { .. } => grant(rollout, step),
        Phase::Reverting { cause, wave } => go_back(rollout, step, wave, cause),
        Phase::Done { outcome: Outcome::Completed, .. } => grant(rollout, step),
        Phase::Done { outcome: Outcome::Reverted { .. }, .. } => send_back(rollout, step, 0),
        Phase::Done { outcome: Outcome::Aborted { .. } | Outcome::Superseded { .. }, .. }
        | Phase::Planned
        | Phase::Paused { .. }
        | Phase::Halted { .. } => false,
    }
}

fn answer_breach(rollout: &mut Rollout, step: &mut Step) -> bool {
    let counts = match &rollout.phase {
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => true,
        Phase::Paused { resume, .. } => match resume {
            Resumable::Running { .. } | Resumable::Baking { .. } | Resumable::Gated { .. } => true,
            Resumable::Reverting { .. } | Resumable::Completed { .. } => false,
        },
        Phase::Planned | Phase::Halted { .. } | Phase::Reverting { .. } | Phase::Done { .. } => {
            false
        }
    };
    let Some((wave, failures, budget)) = breach(rollout).filter(|_| counts) else { return false };
    if rollout.plan.on_breach == OnBreach::RevertAll && !rollout.plan.release.one_way {
        turn_back(rollout, step, RevertCause::Breach { wave, failures, budget });
        return true;
    }
    let since = step.at.now;
    let Some(resume) = resumable(rollout, since) else { return false };
    let cause = HaltCause::Breach { wave, failures, budget };
    rollout.enter(step, Phase::Halted { cause, since, resume });
    true
}

fn run(rollout: &mut Rollout, step: &mut Step, wave: u32, progress_by: Timestamp) -> bool {
    let now = step.at.now;
    let Some((tally, waived)) = rollout.wave_state(wave).map(|state| (state.tally, state.waived))
    else {
        return false;
    };
    // A wave whose every host is away has shown nothing: no data is never a pass.
    let shown = tally.absent < tally.total() || waived;
    if tally.holding() == 0 && shown {
        let bake_secs = rollout.planned_wave(wave).map_or(0, |wave| wave.bake_secs);
        rollout.enter(step, Phase::Baking { wave, until: now.plus_secs(bake_secs) });
        return true;
    }
    if progress_by <= now {
        let (cause, resume) = (HaltCause::NoProgress { wave }, Resumable::Running { wave });
        rollout.enter(step, Phase::Halted { cause, since: now, resume });
        return true;
    }
    grant(rollout, step)
}

fn open(rollout: &mut Rollout, step: &mut Step, wave: u32) {
    let now = step.at.now;
    let Some(hosts) = rollout.planned_wave(wave).map(|wave| wave.hosts.len()) else { return };
    let Some(state) = rollout.waves.get_mut(usize_of(wave)) else { return };
    state.opened = Some(now);
    let first = state.first;
    let progress_by = now.plus_secs(rollout.plan.progress_deadline_secs);
    rollout.enter(step, Phase::Running { wave, progress_by });
    for (ordinal, _) in (first..).zip(0..hosts) {
        if rollout.entry(ordinal).is_some_and(|entry| entry.progress == Progress::Pending) {
            rollout.advance(step, ordinal, Progress::Staging);
        }
    }
}

/// Gives free slots to hosts that are ready; never changes the phase.
fn grant(rollout: &mut Rollout, step: &mut Step) -> bool {
    if breach(rollout).is_some() {
        return false;
    }
    let slots = slots(rollout);
    let deadline = lost_at(rollout, step.at.now);
    while rollout.sets.in_flight.len() < slots {
        let Some(ordinal) = rollout.sets.ready.first().copied() else { break };
        rollout.advance(step, ordinal, Progress::Granted { since: step.at.now, deadline });
    }
    false
}

/// Gives free slots to hosts of wave `wave` and later that must go back; never changes the phase.
fn send_back(rollout: &mut Rollout, step: &mut Step, wave: u32) -> bool {
    let first = rollout.wave_state(wave).map_or(0, |wave| wave.first);
    let deadline = back_at(rollout, step.at.now);
    while rollout.sets.in_flight.len() < rollout.cap(wave) {
        let Some(ordinal) = rollout.sets.may_run.range(first..).next().copied() else { break };
        rollout.advance(step, ordinal, Progress::Reverting { deadline });
    }
    false
}

fn go_back(rollout: &mut Rollout, step: &mut Step, wave: u32, cause: RevertCause) -> bool {
    send_back(rollout, step, wave);
    let first = rollout.wave_state(wave).map_or(0, |wave| wave.first);
    let busy = rollout.sets.may_run.range(first..).next().is_some()
        || rollout.sets.in_flight.range(first..).next().is_some();
    if busy {
        return false;
    }
    let next = match wave.checked_sub(1) {
        Some(wave) => Phase::Reverting { cause, wave },
        None => Phase::Done { outcome: Outcome::Reverted { cause }, at: step.at.now },
    };
    rollout.enter(step, next);
    true
}

/// When a host that is told now to go back no longer keeps its slot.
fn back_at(rollout: &Rollout, now: Timestamp) -> Timestamp {
    now.plus_secs(rollout.plan.probe_deadline_secs + LOST_GRACE_SECS)
}
