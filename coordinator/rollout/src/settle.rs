//! What follows by itself after an input: time-outs, breaches, slots, the next wave. Owns the
//! course of a rollout; never refuses.

use groundswell_common::Timestamp;

use crate::calendar::{Opening, opening};
use crate::desired::{calendar_is_open, goes_forward};
use crate::fact::{back_at, lost_at};
use crate::gate::gates;
use crate::hosts::Step;
use crate::phase::{
    Breach, Course, HaltCause, Outcome, PauseCause, Phase, PhaseName, Resumable, RevertCause,
};
use crate::plan::{Evidence, RULES_BEGUN, RULES_WAITED};
use crate::policy::{OnBreach, Short, WAVES_MAX};
use crate::slots::{grant, send_back, unpark_windows};
use crate::state::{Progress, Rollout, Tally, WaveState, usize_of};

/// Changes of phase in one step: each wave waits, opens, bakes and is reverted at most once.
const PHASES_PER_STEP_MAX: usize = 4 * WAVES_MAX;

/// Lets everything follow that follows from the state and the time. `waited` is the wave that waited for held hosts
/// before the input.
pub(crate) fn settle(rollout: &mut Rollout, step: &mut Step, waited: Option<u32>) {
    look_at_calendar(rollout, step);
    take_slots_back(rollout, step);
    let absent_after = rollout.plan.absent_after_secs;
    while let Some((since, ordinal)) = rollout.sets.away.first().copied() {
        if !goes_forward(rollout) || step.at.now < since.plus_secs(absent_after) {
            break;
        }
        rollout.advance(step, ordinal, Progress::Absent);
    }
    if waited.is_some() && rollout.phase.wave() == waited && wave_that_waits(rollout).is_none() {
        stop_waiting(rollout, step.at.now);
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
        Phase::Running { progress_by, .. } => {
            Some(*progress_by).filter(|_| progress_counts(rollout))
        }
        Phase::Baking { until, .. } => Some(*until),
        Phase::Planned
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    };
    let forward = goes_forward(rollout);
    let slot = rollout.sets.deadlines.first().map(|(deadline, _)| *deadline);
    let away = rollout.sets.away.first().filter(|_| forward);
    let away = away.map(|(since, _)| since.plus_secs(rollout.plan.absent_after_secs));
    let calendar = forward && (!rollout.is_over() || has_stragglers(rollout));
    let calendar = next_change(&rollout.opening).filter(|_| calendar);
    [phase, slot, away, calendar].into_iter().flatten().min()
}

/// When the calendar says something else.
pub(crate) fn next_change(opening: &Opening) -> Option<Timestamp> {
    match opening {
        Opening::Open { until } | Opening::Shut { until } => *until,
        Opening::Frozen { until, .. } => Some(*until),
    }
}

/// Takes note of windows and freezes that began or ended. Time spent shut does not count.
fn look_at_calendar(rollout: &mut Rollout, step: &mut Step) {
    let now = step.at.now;
    if next_change(&rollout.opening).is_none_or(|change| now < change) {
        return;
    }
    let was_open = calendar_is_open(rollout);
    let next = opening(&rollout.plan.windows, &rollout.plan.freezes, now);
    rollout.open_or_shut(step, next);
    if was_open || !calendar_is_open(rollout) {
        return;
    }
    renew_progress(rollout, now);
    unpark_windows(rollout, step);
    renew_grants(rollout, step);
}

/// Whether the progress deadline of the open wave counts now.
fn progress_counts(rollout: &Rollout) -> bool {
    calendar_is_open(rollout) && wave_that_waits(rollout).is_none()
}

/// The open wave, where it waits for held hosts.
pub(crate) fn wave_that_waits(rollout: &Rollout) -> Option<u32> {
    match &rollout.phase {
        Phase::Running { wave, .. } => Some(*wave).filter(|wave| waits_for_held(rollout, *wave)),
        Phase::Planned
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => None,
    }
}

/// While a wave waits for held hosts no deadline counts, so none is over once it waits no more.
fn stop_waiting(rollout: &mut Rollout, now: Timestamp) {
    if rollout.plan.rules >= RULES_WAITED {
        renew_progress(rollout, now);
    }
}

/// Gives the open wave its whole progress deadline again.
pub(crate) fn renew_progress(rollout: &mut Rollout, now: Timestamp) {
    let renewed = now.plus_secs(rollout.plan.progress_deadline_secs);
    if let Phase::Running { progress_by, .. } = &mut rollout.phase {
        *progress_by = renewed;
    }
}

/// Hosts that were given a slot before a stop and have not switched get their whole time again.
pub(crate) fn renew_grants(rollout: &mut Rollout, step: &mut Step) {
    let (since, deadline) = (step.at.now, lost_at(rollout, step.at.now));
    let holders: Vec<u32> = rollout.sets.in_flight.iter().copied().collect();
    for ordinal in holders {
        let granted = |rollout: &Rollout| Some(rollout.entry(ordinal)?.progress.clone());
        if let Some(Progress::Granted { .. }) = granted(rollout) {
            rollout.advance(step, ordinal, Progress::Granted { since, deadline });
        }
    }
}

/// Opens wave `wave`, or stands before its gate; after the last wave the rollout is complete.
pub(crate) fn go_to_wave(rollout: &mut Rollout, step: &mut Step, wave: u32) {
    let now = step.at.now;
    if rollout.planned_wave(wave).is_none() {
        let done = Phase::Done { outcome: Outcome::Completed, at: now };
        return rollout.enter(step, done);
    }
    if rollout.is_skipped(wave) {
        return go_to_wave(rollout, step, wave + 1);
    }
    match gates(rollout, wave) {
        None => open(rollout, step, wave),
        Some(_) => {
            rollout.enter(step, Phase::Gated { wave, since: now });
        }
    }
}

/// Turns round: every host from wave `down_to` on that runs or may run the release goes back, the
/// last wave first.
pub(crate) fn turn_back(
    rollout: &mut Rollout,
    step: &mut Step,
    (cause, down_to): (RevertCause, u32),
) {
    let wave = rollout.last_wave();
    rollout.enter(step, Phase::Reverting { cause, wave, down_to });
    let first = rollout.wave_state(down_to).map_or(0, |wave| wave.first);
    let in_flight: Vec<u32> = rollout.sets.in_flight.range(first..).copied().collect();
    for ordinal in in_flight {
        let Some(entry) = rollout.entry(ordinal) else { continue };
        let next = match (&entry.progress, entry.away) {
            (Progress::Reverting { .. }, _) => continue,
            (_, None) => Progress::Reverting { deadline: back_at(rollout, step.at.now) },
            (_, Some(_)) => Progress::Lost,
        };
        rollout.advance(step, ordinal, next);
    }
    // One that is held after its switch may run the release: as one that was lost, it is told to go when it can be.
    let open = rollout.sets.open.range(first..).copied();
    let begun = |ordinal: &u32| rollout.entry(*ordinal).is_some_and(|entry| entry.begun);
    let begun: Vec<u32> = open.filter(begun).collect();
    for ordinal in begun {
        rollout.advance(step, ordinal, Progress::Lost);
        rollout.edit(step, ordinal, |entry| entry.acknowledged = true);
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
        Phase::Reverting { cause, wave, down_to } => {
            Some(Resumable::Reverting { cause: cause.clone(), wave: *wave, down_to: *down_to })
        }
        Phase::Done { outcome: Outcome::Completed, at } if has_stragglers(rollout) => {
            Some(Resumable::Completed { at: *at })
        }
        Phase::Done { .. } | Phase::Planned => None,
    }
}

/// Whether hosts of a completed rollout may still switch.
pub(crate) fn has_stragglers(rollout: &Rollout) -> bool {
    let late = |tally: Tally| tally.holding() + tally.absent + tally.lost + tally.held;
    let waits = |wave: &WaveState| late(wave.tally) > 0;
    rollout.waves.iter().any(waits)
}

/// Whether nothing of an open wave is under way and it is not finished since hosts of it are held: what they lack is
/// no reason to halt, and they go on by themselves.
pub(crate) fn waits_for_held(rollout: &Rollout, wave: u32) -> bool {
    let tally = rollout.tally(wave).unwrap_or_default();
    tally.held > 0 && tally.holding() == 0 && !has_shown(rollout, wave)
}

/// Whether a wave of which no host is under way any more is finished. No data is never a pass: one whose every
/// host is away or held has shown nothing, nor has one in which only hosts failed that were ill before; one that nobody
/// is left in is like one that was skipped, once another has shown something.
fn has_shown(rollout: &Rollout, wave: u32) -> bool {
    let Some((state, planned)) = rollout.wave_state(wave).zip(rollout.planned_wave(wave)) else {
        return false;
    };
    let tally = state.tally;
    let left = tally.total() - tally.excluded;
    let shown = tally.absent + tally.held < left || (left == 0 && rollout.runs_somewhere());
    let shown = shown && !only_the_ill_failed(rollout, state);
    (shown && tally.held <= planned.held_budget) || state.waived
}

/// Whether all that a wave has seen are failures of hosts that were ill before, which count for nothing.
fn only_the_ill_failed(rollout: &Rollout, state: &WaveState) -> bool {
    let hosts = state.first..state.first + state.tally.total();
    let ill = |ordinal: &u32| rollout.entry(*ordinal).is_some_and(|entry| entry.ill);
    rollout.plan.rules >= RULES_BEGUN
        && state.tally.committed == 0
        && state.failures == 0
        && rollout.sets.failures.range(hosts).any(ill)
}

/// More failures than a wave or the whole rollout may have: the first wave that does.
pub(crate) fn breach(rollout: &Rollout) -> Option<Breach> {
    let budgets = rollout.plan.waves.iter().map(|wave| wave.failure_budget);
    let waves = rollout.waves.iter().zip(budgets).zip(0_u32..);
    let of_wave = |((state, budget), wave): ((&WaveState, u32), u32)| Breach {
        wave: Some(wave),
        failures: state.failures,
        budget,
        silent: state.tally.lost.min(state.failures),
    };
    let whole = rollout.plan.rollout_budget.map(|budget| {
        let failures = rollout.counts.failures;
        let lost: u32 = rollout.waves.iter().map(|state| state.tally.lost).sum();
        Breach { wave: None, failures, budget, silent: lost.min(failures) }
    });
    waves.map(of_wave).chain(whole).find(|breach| breach.failures > breach.budget)
}

fn take_slots_back(rollout: &mut Rollout, step: &mut Step) {
    while let Some((deadline, ordinal)) = rollout.sets.deadlines.first().copied() {
        let Some(entry) = rollout.entry(ordinal).filter(|_| deadline <= step.at.now) else {
            return;
        };
        if entry.busy.is_some() {
            rollout.edit(step, ordinal, |entry| entry.busy = None);
            continue;
        }
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
    match rollout.phase.clone() {
        Phase::Running { wave, progress_by } => run(rollout, step, wave, progress_by),
        Phase::Baking { wave, until } => bake(rollout, step, wave, until),
        Phase::Gated { wave, .. } => pass_gate(rollout, step, wave),
        Phase::Reverting { cause, wave, down_to } => go_back(rollout, step, (wave, down_to), cause),
        Phase::Done { outcome: Outcome::Completed, .. } => {
            grant(rollout, step);
            false
        }
        Phase::Done { outcome: Outcome::Reverted { down_to, .. }, .. } => {
            send_back(rollout, step, down_to);
            false
        }
        Phase::Done { outcome: Outcome::Aborted { .. } | Outcome::Superseded { .. }, .. }
        | Phase::Planned
        | Phase::Paused { .. }
        | Phase::Halted { .. } => false,
    }
}

fn answer_breach(rollout: &mut Rollout, step: &mut Step) -> bool {
    let phase = rollout.phase.name();
    if rollout.phase.course() != Course::Waves || phase == PhaseName::Halted {
        return false;
    }
    let Some(breach) = breach(rollout) else { return false };
    let since = step.at.now;
    let one_way = rollout.plan.release.one_way;
    let back_to = match rollout.plan.on_breach {
        OnBreach::Pause if phase == PhaseName::Paused => return false,
        OnBreach::Pause => {
            let Some(resume) = resumable(rollout, since) else { return false };
            let cause = PauseCause::Breach(breach);
            rollout.enter(step, Phase::Paused { cause, since, resume });
            return true;
        }
        OnBreach::Halt => None,
        OnBreach::RevertWave => Some(breach.wave.unwrap_or(0)).filter(|_| !one_way),
        OnBreach::RevertAll => Some(0).filter(|_| !one_way),
    };
    if let Some(down_to) = back_to {
        turn_back(rollout, step, (RevertCause::Breach(breach), down_to));
        return true;
    }
    let Some(resume) = resumable(rollout, since) else { return false };
    let cause = HaltCause::Breach(breach);
    rollout.enter(step, Phase::Halted { cause, since, resume });
    true
}

fn run(rollout: &mut Rollout, step: &mut Step, wave: u32, progress_by: Timestamp) -> bool {
    let now = step.at.now;
    let Some(tally) = rollout.tally(wave) else { return false };
    if tally.holding() == 0 && has_shown(rollout, wave) {
        let bake_secs = rollout.planned_wave(wave).map_or(0, |wave| wave.bake_secs);
        rollout.enter(step, Phase::Baking { wave, until: now.plus_secs(bake_secs) });
        return true;
    }
    if progress_by <= now && progress_counts(rollout) {
        let (cause, resume) = (HaltCause::NoProgress { wave }, Resumable::Running { wave });
        rollout.enter(step, Phase::Halted { cause, since: now, resume });
        return true;
    }
    grant(rollout, step);
    false
}

/// A bake ends when its time is over and it has seen enough.
fn bake(rollout: &mut Rollout, step: &mut Step, wave: u32, until: Timestamp) -> bool {
    let now = step.at.now;
    let extended = rollout.wave_state(wave).and_then(|state| state.extended);
    let enough = evidence_missing(rollout, wave, now).is_none();
    if enough && (until <= now || extended.is_some()) {
        go_to_wave(rollout, step, wave + 1);
        return true;
    }
    if until > now {
        grant(rollout, step);
        return false;
    }
    let patience = rollout.plan.progress_deadline_secs;
    let gives_up = extended.unwrap_or(now).plus_secs(patience);
    let asks = rollout.plan.evidence_short == Short::Ask || gives_up <= now;
    if asks {
        let resume = Resumable::Baking { wave, left_millis: 0 };
        let cause = PauseCause::Evidence { wave };
        rollout.enter(step, Phase::Paused { cause, since: now, resume });
        return true;
    }
    if let Some(state) = rollout.waves.get_mut(usize_of(wave)) {
        state.extended = extended.or(Some(now));
    }
    let until = evidence_by(rollout, wave, now).map_or(gives_up, |at| at.min(gives_up));
    rollout.enter(step, Phase::Baking { wave, until });
    grant(rollout, step);
    false
}

/// What the bake of `wave` has not seen yet: host-seconds and hosts; `None` where it saw enough.
pub(crate) fn evidence_missing(rollout: &Rollout, wave: u32, now: Timestamp) -> Option<Evidence> {
    let (planned, state) = rollout.planned_wave(wave).zip(rollout.wave_state(wave))?;
    let seen_secs = state.watch.millis_at(now) / 1000;
    let missing = Evidence {
        host_secs: planned.evidence.host_secs.saturating_sub(seen_secs),
        hosts: planned.evidence.hosts.saturating_sub(state.watch.hosts),
    };
    (missing != Evidence::default() && !state.unproven).then_some(missing)
}

/// When the host-seconds will be there, if no host comes or goes; `None` where that needs more
/// hosts.
fn evidence_by(rollout: &Rollout, wave: u32, now: Timestamp) -> Option<Timestamp> {
    let missing = evidence_missing(rollout, wave, now)?;
    let hosts = u64::from(rollout.wave_state(wave)?.watch.hosts);
    let secs = missing.host_secs.checked_add(hosts)?.checked_div(hosts)?;
    (missing.hosts == 0).then(|| now.plus_secs(secs.max(1)))
}

/// Opens the wave that waits, where its gates say so.
fn pass_gate(rollout: &mut Rollout, step: &mut Step, wave: u32) -> bool {
    if rollout.is_skipped(wave) || gates(rollout, wave).is_none() {
        go_to_wave(rollout, step, wave);
        return true;
    }
    grant(rollout, step);
    false
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
            // Where it fetched before, its wish is the same and its last report says more.
            if rollout.plan.prefetch {
                step.changed.insert(ordinal);
            }
        }
    }
}

fn go_back(
    rollout: &mut Rollout,
    step: &mut Step,
    (wave, down_to): (u32, u32),
    cause: RevertCause,
) -> bool {
    send_back(rollout, step, wave);
    let first = rollout.wave_state(wave).map_or(0, |wave| wave.first);
    let busy = rollout.sets.may_run.range(first..).next().is_some()
        || rollout.sets.in_flight.range(first..).next().is_some();
    if busy {
        return false;
    }
    let next = match wave.checked_sub(1).filter(|wave| *wave >= down_to) {
        Some(wave) => Phase::Reverting { cause, wave, down_to },
        None => Phase::Done { outcome: Outcome::Reverted { cause, down_to }, at: step.at.now },
    };
    rollout.enter(step, next);
    true
}
