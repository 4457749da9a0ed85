//! Who gets a free slot: late hosts in their lane, hosts in plan order, hosts that go back. Owns the
//! rules of room: slots, guards, failure domains, windows. Never changes the phase.

use groundswell_common::Timestamp;

use crate::calendar::Opening;
use crate::desired::calendar_is_open;
use crate::fact::{LOST_GRACE_SECS, back_at, lost_at};
use crate::hosts::{Step, down};
use crate::input::Busy;
use crate::phase::Phase;
use crate::plan::RULES_TURNED;
use crate::settle::breach;
use crate::state::{HostEntry, Parked, Progress, Rollout, usize_of};

/// Slots that may be used now: those of the newest open wave, or fewer where a person says so.
pub(crate) fn slots(rollout: &Rollout) -> usize {
    let opened = rollout.waves.iter().rposition(|wave| wave.opened.is_some());
    let opened = opened.and_then(|wave| rollout.plan.waves.get(wave));
    opened.map_or(0, |wave| slowed(rollout, wave.max_in_flight))
}

/// Slots for hosts of wave `wave` that go back.
pub(crate) fn back_slots(rollout: &Rollout, wave: u32) -> usize {
    rollout.planned_wave(wave).map_or(0, |wave| slowed(rollout, wave.max_in_flight))
}

fn slowed(rollout: &Rollout, slots: u32) -> usize {
    usize_of(rollout.slow.map_or(slots, |slow| slow.min(slots)))
}

/// Whether late hosts get no slots, since too many of them failed.
pub(crate) fn lane_is_shut(rollout: &Rollout) -> bool {
    rollout.counts.lane_failures > rollout.plan.lane_budget
}

/// Gives free slots to hosts that are ready.
pub(crate) fn grant(rollout: &mut Rollout, step: &mut Step) {
    if breach(rollout).is_some() || !calendar_is_open(rollout) || too_many_domains(rollout) {
        return;
    }
    let slots = slots(rollout);
    let (since, deadline) = (step.at.now, lost_at(rollout, step.at.now));
    while rollout.in_flight() < slots {
        let Some(ordinal) = next(rollout, step, Way::Forward) else { break };
        let Some(entry) = rollout.entry(ordinal) else { break };
        let blocked = blocked_by(rollout, (ordinal, entry), Way::Forward);
        match blocked.or_else(|| too_long(rollout, ordinal, since)) {
            Some(parked) => rollout.edit(step, ordinal, |entry| entry.parked = Some(parked)),
            None => rollout.advance(step, ordinal, Progress::Granted { since, deadline }),
        }
    }
}

/// Gives free slots to hosts of wave `wave` and later that must go back.
pub(crate) fn send_back(rollout: &mut Rollout, step: &mut Step, wave: u32) {
    if too_many_domains(rollout) {
        return;
    }
    let way = Way::Back { first: rollout.wave_state(wave).map_or(0, |wave| wave.first) };
    let (slots, deadline) = (back_slots(rollout, wave), back_at(rollout, step.at.now));
    // Who uses a slot already needs no other one, and need not finish what it is to leave.
    while let Some(ordinal) = busy_to_turn(rollout).filter(|_| rollout.sets.in_flight.len() < slots)
    {
        rollout.advance(step, ordinal, Progress::Reverting { deadline });
    }
    while rollout.in_flight() < slots {
        let Some(ordinal) = next(rollout, step, way) else { break };
        let Some(entry) = rollout.entry(ordinal) else { break };
        match blocked_by(rollout, (ordinal, entry), way) {
            Some(parked) => rollout.edit(step, ordinal, |entry| entry.parked = Some(parked)),
            None => rollout.advance(step, ordinal, Progress::Reverting { deadline }),
        }
    }
}

/// A host that the rollout before left in flight and that must go back.
fn busy_to_turn(rollout: &Rollout) -> Option<u32> {
    let Phase::Reverting { down_to, .. } = &rollout.phase else { return None };
    let first = rollout.wave_state(*down_to).map_or(0, |wave| wave.first);
    let turns = rollout.plan.rules >= RULES_TURNED;
    let mut busy = rollout.sets.busy.range(first..).filter(|_| turns);
    busy.find(|ordinal| rollout.sets.back_ready.contains(ordinal)).copied()
}

/// Whether the rollout before left hosts in flight in more failure domains than this one may touch:
/// nobody is added to any of them before they are fewer.
fn too_many_domains(rollout: &Rollout) -> bool {
    let cap = rollout.plan.domains_at_once;
    cap > 0 && rollout.counts.domains > cap
}

/// Lets hosts that waited for a window be looked at again.
pub(crate) fn unpark_windows(rollout: &mut Rollout, step: &mut Step) {
    let until = (Parked::Guard(0), 0);
    let waiting: Vec<u32> = rollout.sets.parked.range(..until).map(|(_, host)| *host).collect();
    for ordinal in waiting {
        rollout.edit(step, ordinal, |entry| entry.parked = None);
    }
}

/// Hosts that use a slot of this rollout now: a newer one of the service starts with them as busy.
#[must_use]
pub fn busy(rollout: &Rollout, now: Timestamp) -> Vec<Busy> {
    let users = rollout.sets.in_flight.union(&rollout.sets.busy);
    let user = |ordinal: &u32| {
        let until = busy_until(rollout.entry(*ordinal)?, now)?;
        let (_, planned) = rollout.planned_at(*ordinal)?;
        Some(Busy { host: planned.id, until })
    };
    users.filter_map(user).collect()
}

/// Until when a host that uses a slot now may be in the middle of something, if nothing is heard.
pub(crate) fn busy_until(entry: &HostEntry, now: Timestamp) -> Option<Timestamp> {
    // One that held its slot through a stop may have asked for its permit just before.
    let least = now.plus_secs(LOST_GRACE_SECS);
    match &entry.progress {
        Progress::Granted { deadline, .. }
        | Progress::Probing { deadline }
        | Progress::Baking { deadline }
        | Progress::Reverting { deadline } => Some((*deadline).max(least)),
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => entry.busy,
    }
}

/// Where hosts that want a slot are going.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    /// Dead hosts never hold a revert: where only they fill a guard, its others go one at a time.
    Back {
        /// The ordinal of the first host that goes back now.
        first: u32,
    },
}

/// What keeps a host from being taken down now; `None` where nothing does.
fn blocked_by(rollout: &Rollout, (ordinal, entry): (u32, &HostEntry), way: Way) -> Option<Parked> {
    let (_, planned) = rollout.planned_at(ordinal)?;
    let is_down = down(entry);
    let cap = rollout.plan.domains_at_once;
    let blocks = |guard: &&u32| {
        let at = usize_of(**guard);
        let Some((rule, state)) = rollout.plan.guards.get(at).zip(rollout.guards.get(at)) else {
            return false;
        };
        let held = way == Way::Forward || state.in_flight > 0;
        let full = !is_down && state.down >= rule.max_down && held;
        let new_domain = rollout.is_domain(**guard) && state.in_flight == 0;
        full || (new_domain && cap > 0 && rollout.counts.domains >= cap)
    };
    planned.guards.iter().find(blocks).map(|guard| Parked::Guard(*guard))
}

/// Whether the host would not be done before the window is over.
fn too_long(rollout: &Rollout, ordinal: u32, now: Timestamp) -> Option<Parked> {
    let (_, planned) = rollout.planned_at(ordinal)?;
    match rollout.opening {
        Opening::Open { until: Some(until) } => {
            (now.plus_secs(planned.needs_secs) > until).then_some(Parked::Window)
        }
        Opening::Open { until: None } | Opening::Shut { .. } | Opening::Frozen { .. } => None,
    }
}

/// The host that is next for a slot, those that waited for room looked at again first.
fn next(rollout: &mut Rollout, step: &mut Step, way: Way) -> Option<u32> {
    loop {
        let woke = wake(rollout, step, way);
        let next = match way {
            Way::Forward => next_ready(rollout),
            Way::Back { first } => rollout.sets.back_ready.range(first..).next().copied(),
        };
        // The one that was woken may be late with its lane shut, or of an earlier wave.
        if next.is_some() || !woke {
            return next;
        }
    }
}

fn next_ready(rollout: &Rollout) -> Option<u32> {
    let lane_slots = rollout.plan.lane_max_in_flight;
    let lane = !lane_is_shut(rollout) && rollout.counts.lane_in_flight < lane_slots;
    let late = rollout.sets.lane_ready.first().filter(|_| lane);
    late.or_else(|| rollout.sets.ready.first()).copied()
}

/// Looks again at one host that waits for room where there is room now; whether there was one.
fn wake(rollout: &mut Rollout, step: &mut Step, way: Way) -> bool {
    let cap = rollout.plan.domains_at_once;
    let one_more = cap == 0 || rollout.counts.domains < cap;
    let sleeping = rollout.sets.sleeping.first().filter(|_| one_more);
    let mut dead = rollout.sets.dead.iter().filter(|_| way != Way::Forward);
    let dead = || dead.find(|guard| one_more || !rollout.is_domain(**guard));
    let guard = rollout.sets.roomy.first().or(sleeping).or_else(dead).copied();
    let Some(guard) = guard else { return false };
    let from = (Parked::Guard(guard), 0);
    let parked = rollout.sets.parked.range(from..).next().copied();
    if let Some((_, ordinal)) = parked.filter(|(parked, _)| *parked == from.0) {
        rollout.edit(step, ordinal, |entry| entry.parked = None);
        return true;
    }
    false
}
