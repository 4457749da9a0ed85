//! What a person may do to a rollout under way without changing its plan, and hosts that were
//! deleted. Each checks before it changes.

use groundswell_common::HostId;
use groundswell_common::condition::Lack;
use groundswell_common::report::{FailedStep, Verdict};

use crate::gate::asks_webhook;
use crate::hosts::{Step, may_still_run};
use crate::input::Steer;
use crate::phase::{Course, HaltCause, Phase};
use crate::settle::{go_to_wave, resumable};
use crate::slots::busy_until;
use crate::state::{Progress, Rollout, usize_of};
use crate::step::Refusal;

/// Takes one act of steering.
pub(crate) fn steer(rollout: &mut Rollout, step: &mut Step, steer: &Steer) -> Result<(), Refusal> {
    let goes_on = match rollout.phase.course() {
        Course::Waves => true,
        // No wave is left to skip once it is over; hosts still come.
        Course::Late => !rollout.is_over() || !matches!(steer, Steer::SkipWave { .. }),
        Course::Planned | Course::Back | Course::Ended => false,
    };
    match steer {
        Steer::Promote => promote(rollout, step),
        Steer::Slow { max_in_flight } => slow(rollout, *max_in_flight),
        Steer::SkipWave { .. } | Steer::Exclude { .. } | Steer::Retry { .. } if !goes_on => {
            Err(too_late(rollout))
        }
        Steer::SkipWave { wave } => skip(rollout, step, *wave),
        Steer::Exclude { host } => exclude(rollout, step, host),
        Steer::Retry { host } => retry(rollout, step, host),
    }
}

/// Why nobody can be brought forward any more.
fn too_late(rollout: &Rollout) -> Refusal {
    match rollout.phase.course() {
        Course::Planned => Refusal::NotStarted,
        Course::Back if !rollout.is_over() => Refusal::Reverting,
        Course::Waves | Course::Late | Course::Back | Course::Ended => Refusal::Over,
    }
}

fn promote(rollout: &mut Rollout, step: &mut Step) -> Result<(), Refusal> {
    match rollout.phase.clone() {
        Phase::Gated { wave, .. } => {
            let manual = rollout.planned_wave(wave).is_some_and(|wave| wave.gate.manual);
            let state = rollout.waves.get_mut(usize_of(wave)).filter(|wave| !wave.promoted);
            let state = state.filter(|_| manual).ok_or(Refusal::NothingToPromote)?;
            state.promoted = true;
            Ok(())
        }
        Phase::Baking { wave, .. } => {
            go_on_to(rollout, step, wave);
            Ok(())
        }
        Phase::Running { wave, .. } => {
            let shown = rollout.tally(wave).is_some_and(|tally| tally.committed > 0);
            let last = wave == rollout.last_wave();
            match (shown, last) {
                (_, true) => Err(Refusal::NothingToPromote),
                (false, false) => Err(Refusal::NothingShown(wave)),
                (true, false) => {
                    go_on_to(rollout, step, wave);
                    Ok(())
                }
            }
        }
        Phase::Planned => Err(Refusal::NotStarted),
        Phase::Paused { .. } => Err(Refusal::Paused),
        Phase::Halted { .. } => Err(Refusal::Halted),
        Phase::Reverting { .. } => Err(Refusal::Reverting),
        Phase::Done { .. } => Err(Refusal::Over),
    }
}

/// A promotion stands for the person at the manual gate of the wave that it opens.
fn go_on_to(rollout: &mut Rollout, step: &mut Step, wave: u32) {
    let next = (wave + 1..=rollout.last_wave()).find(|wave| !rollout.is_skipped(*wave));
    let state = next.and_then(|next| rollout.waves.get_mut(usize_of(next)));
    if let Some(state) = state {
        state.promoted = true;
    }
    go_to_wave(rollout, step, wave + 1);
}

fn skip(rollout: &mut Rollout, step: &mut Step, wave: u32) -> Result<(), Refusal> {
    let hosts = rollout.planned_wave(wave).map_or(0, |wave| wave.hosts.len());
    let state = rollout.waves.get_mut(usize_of(wave));
    let closed = state.filter(|wave| wave.opened.is_none() && !wave.skipped);
    let state = closed.ok_or(Refusal::WrongWave(wave))?;
    state.skipped = true;
    let first = state.first;
    for (ordinal, _) in (first..).zip(0..hosts) {
        if rollout.entry(ordinal).is_some_and(|entry| entry.progress == Progress::Pending) {
            rollout.advance(step, ordinal, Progress::Excluded { ran: false, gone: false });
        }
    }
    Ok(())
}

fn exclude(rollout: &mut Rollout, step: &mut Step, host: &HostId) -> Result<(), Refusal> {
    let (ordinal, entry) = rollout.found(host).ok_or(Refusal::UnknownHost(*host))?;
    let ran = entry.begun || may_still_run(&entry.progress);
    match &entry.progress {
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Held { .. }
        | Progress::Absent => {
            // One with a slot may have its permit in its hands, and switch before it hears of this.
            let until = busy_until(entry, step.at.now);
            rollout.advance(step, ordinal, Progress::Excluded { ran, gone: false });
            rollout.edit(step, ordinal, |entry| entry.busy = until);
            Ok(())
        }
        Progress::Excluded { .. } => Err(Refusal::NoChange),
        Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted => Err(Refusal::HostRuns(*host)),
    }
}

fn retry(rollout: &mut Rollout, step: &mut Step, host: &HostId) -> Result<(), Refusal> {
    let (ordinal, entry) = rollout.found(host).ok_or(Refusal::UnknownHost(*host))?;
    let again = match &entry.progress {
        // One that could not go back is stuck; what is live there is started and probed again.
        Progress::Failed { step, reverted, .. } => {
            *reverted || matches!(step, FailedStep::Stage | FailedStep::Revert)
        }
        Progress::Excluded { ran, gone } => !ran && !gone,
        // Nobody has heard of it; whatever it runs it says once it is there.
        Progress::Lost => true,
        // Who says what it lacks tries again by itself.
        Progress::Held { lack, .. } => *lack == Lack::Stage,
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted => false,
    };
    let wave = rollout.wave_of(ordinal);
    if !again || rollout.is_skipped(wave) {
        return Err(Refusal::NotRetryable(*host));
    }
    let next = if rollout.is_open(wave) { Progress::Staging } else { Progress::Pending };
    rollout.advance(step, ordinal, next);
    rollout.edit(step, ordinal, |entry| entry.retries = 0);
    Ok(())
}

fn slow(rollout: &mut Rollout, max_in_flight: Option<u32>) -> Result<(), Refusal> {
    let over = rollout.is_over() && rollout.phase.course() != Course::Late;
    match max_in_flight {
        _ if over => Err(Refusal::Over),
        Some(0) => Err(Refusal::NoSlots),
        same if same == rollout.slow => Err(Refusal::NoChange),
        other => {
            rollout.slow = other;
            Ok(())
        }
    }
}

/// Takes what a webhook answered about the wave that waits for it.
pub(crate) fn answer(
    rollout: &mut Rollout,
    step: &mut Step,
    (wave, verdict, why): (u32, Verdict, &str),
) -> Result<(), Refusal> {
    if asks_webhook(rollout) != Some(wave) {
        return Err(Refusal::NobodyAsked(wave));
    }
    let state = rollout.waves.get_mut(usize_of(wave)).ok_or(Refusal::WrongWave(wave))?;
    if state.answer == Some(verdict) {
        return Err(Refusal::NoChange);
    }
    // After a halt and a resume it is asked again.
    state.answer = Some(verdict).filter(|verdict| *verdict != Verdict::Fail);
    if verdict == Verdict::Fail {
        let since = step.at.now;
        let resume = resumable(rollout, since).ok_or(Refusal::Over)?;
        let cause = HaltCause::Gate { wave, why: why.to_owned() };
        rollout.enter(step, Phase::Halted { cause, since, resume });
    }
    Ok(())
}

/// A host of the plan was deleted from the fleet: nothing shifts, it is left out.
pub(crate) fn removed(
    rollout: &mut Rollout,
    step: &mut Step,
    host: &HostId,
) -> Result<(), Refusal> {
    let (ordinal, entry) = rollout.found(host).ok_or(Refusal::UnknownHost(*host))?;
    if matches!(entry.progress, Progress::Excluded { gone: true, .. }) {
        return Err(Refusal::NoChange);
    }
    let ran = entry.begun || may_still_run(&entry.progress);
    rollout.advance(step, ordinal, Progress::Excluded { ran, gone: true });
    Ok(())
}
