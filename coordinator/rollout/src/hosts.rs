//! The one way in which a host's entry changes: sets, counters, generation and the list of changed
//! wishes follow from it. Decides nothing.

use std::collections::BTreeSet;

use groundswell_common::report::FailedStep;
use groundswell_common::{HostId, RolloutId, Timestamp};

use crate::desired::{Want, want};
use crate::input::Moment;
use crate::state::{HostEntry, Phase, Progress, Rollout};
use crate::step::Transition;

/// What one step has done so far.
pub(crate) struct Step {
    pub(crate) at: Moment,
    pub(crate) changed: BTreeSet<u32>,
    pub(crate) all_hosts: bool,
    pub(crate) transitions: Vec<Transition>,
}

/// In which sets a host belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) open: bool,
    pub(crate) ready: bool,
    pub(crate) in_flight: bool,
    pub(crate) may_run: bool,
    pub(crate) failure: bool,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) away: Option<Timestamp>,
}

impl Step {
    pub(crate) fn new(at: Moment) -> Self {
        Self { at, changed: BTreeSet::new(), all_hosts: false, transitions: Vec::new() }
    }

    pub(crate) fn changed_ids(&self, rollout: &Rollout) -> Vec<HostId> {
        let id = |ordinal: &u32| rollout.planned_at(*ordinal).map(|(_, host)| host.id);
        self.changed.iter().filter_map(id).collect()
    }
}

/// Where a host with this entry belongs.
pub(crate) fn places(rollout: &Rollout, ordinal: u32, entry: &HostEntry) -> Places {
    let stopped = matches!(rollout.phase, Phase::Paused { .. } | Phase::Halted { .. });
    let here = entry.away.is_none();
    let opened = || rollout.wave_state(rollout.wave_of(ordinal)).and_then(|wave| wave.opened);
    let waits_away = || entry.away.map(|since| opened().map_or(since, |opened| since.max(opened)));
    let none = Places {
        open: false,
        ready: false,
        in_flight: false,
        may_run: false,
        failure: false,
        deadline: None,
        away: None,
    };
    match &entry.progress {
        Progress::Pending | Progress::Absent | Progress::Overdue | Progress::Reverted => none,
        Progress::Staging => Places { open: true, away: waits_away(), ..none },
        Progress::Staged => Places { open: true, ready: here, away: waits_away(), ..none },
        Progress::Granted { deadline, .. } => Places {
            open: true,
            in_flight: true,
            deadline: Some(*deadline).filter(|_| !stopped),
            ..none
        },
        Progress::Probing { deadline }
        | Progress::Baking { deadline }
        | Progress::Reverting { deadline } => {
            Places { in_flight: true, deadline: Some(*deadline), ..none }
        }
        Progress::Committed => Places { may_run: here, ..none },
        Progress::Lost => Places { may_run: here, failure: !entry.acknowledged, ..none },
        Progress::Failed { .. } => Places {
            may_run: here && may_still_run(&entry.progress),
            failure: !entry.acknowledged,
            ..none
        },
    }
}

/// Whether a host with this progress runs the release or may run it: a revert must reach it.
pub(crate) fn may_still_run(progress: &Progress) -> bool {
    match progress {
        Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Lost
        | Progress::Reverting { .. }
        | Progress::Overdue => true,
        Progress::Failed { step, reverted, .. } => match step {
            FailedStep::Switch | FailedStep::Probe | FailedStep::Bake => !reverted,
            FailedStep::Stage | FailedStep::Revert => false,
        },
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Absent
        | Progress::Reverted => false,
    }
}

impl Rollout {
    /// Replaces the progress of one host.
    pub(crate) fn advance(&mut self, step: &mut Step, ordinal: u32, progress: Progress) {
        self.edit(step, ordinal, |entry| {
            let failure = matches!(progress, Progress::Failed { .. } | Progress::Lost);
            entry.acknowledged = entry.acknowledged && failure;
            entry.progress = progress;
        });
    }

    /// Changes one entry and everything that follows from it.
    pub(crate) fn edit(
        &mut self,
        step: &mut Step,
        ordinal: u32,
        change: impl FnOnce(&mut HostEntry),
    ) {
        let Some(entry) = self.entry(ordinal) else { return };
        let (places_before, want_before) = (places(self, ordinal, entry), want(self, entry));
        let name_before = entry.progress.name();
        let mut entry = entry.clone();
        change(&mut entry);
        let name_after = entry.progress.name();
        let after = places(self, ordinal, &entry);
        self.replace(ordinal, entry);
        self.place(ordinal, places_before, after);
        let wave = usize::try_from(self.wave_of(ordinal)).unwrap_or(usize::MAX);
        if let Some(wave) = self.waves.get_mut(wave) {
            *wave.tally.slot(name_before) -= 1;
            *wave.tally.slot(name_after) += 1;
            wave.failures -= u32::from(places_before.failure);
            wave.failures += u32::from(after.failure);
        }
        self.note_want(step, ordinal, want_before);
    }

    /// Moves to another phase; the wishes of hosts that a stop or a go changes follow.
    pub(crate) fn enter(&mut self, step: &mut Step, phase: Phase) {
        let to = phase.clone();
        let from = self.turn(step, |rollout| std::mem::replace(&mut rollout.phase, phase));
        step.transitions.push(Transition { from, to });
    }

    /// Leaves everything to a newer rollout.
    pub(crate) fn hand_over(&mut self, step: &mut Step, newer: &RolloutId) {
        self.turn(step, |rollout| rollout.successor = Some(newer.clone()));
    }

    /// Changes what the wishes of all open hosts depend on.
    fn turn<T>(&mut self, step: &mut Step, change: impl FnOnce(&mut Self) -> T) -> T {
        let open: Vec<u32> = self.sets.open.iter().copied().collect();
        let before: Vec<(u32, Places, Want)> = open
            .into_iter()
            .filter_map(|ordinal| {
                let entry = self.entry(ordinal)?;
                Some((ordinal, places(self, ordinal, entry), want(self, entry)))
            })
            .collect();
        let changed = change(self);
        for (ordinal, places_before, want_before) in before {
            let Some(entry) = self.entry(ordinal) else { continue };
            let after = places(self, ordinal, entry);
            self.place(ordinal, places_before, after);
            self.note_want(step, ordinal, want_before);
        }
        changed
    }

    fn replace(&mut self, ordinal: u32, new: HostEntry) {
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        if let Some(entry) = self.hosts.get_mut(at) {
            *entry = new;
        }
    }

    fn place(&mut self, ordinal: u32, before: Places, after: Places) {
        let sets = &mut self.sets;
        let flags = [
            (&mut sets.open, before.open, after.open),
            (&mut sets.ready, before.ready, after.ready),
            (&mut sets.in_flight, before.in_flight, after.in_flight),
            (&mut sets.may_run, before.may_run, after.may_run),
            (&mut sets.failures, before.failure, after.failure),
        ];
        for (set, was, is) in flags {
            match (was, is) {
                (false, true) => drop(set.insert(ordinal)),
                (true, false) => drop(set.remove(&ordinal)),
                (true, true) | (false, false) => {}
            }
        }
        let times = [
            (&mut sets.deadlines, before.deadline, after.deadline),
            (&mut sets.away, before.away, after.away),
        ];
        for (set, was, is) in times {
            if was != is {
                was.map(|time| set.remove(&(time, ordinal)));
                is.map(|time| set.insert((time, ordinal)));
            }
        }
    }

    fn note_want(&mut self, step: &mut Step, ordinal: u32, before: Want) {
        let Some(entry) = self.entry(ordinal) else { return };
        if want(self, entry) == before {
            return;
        }
        let at = usize::try_from(ordinal).unwrap_or(usize::MAX);
        if let Some(entry) = self.hosts.get_mut(at) {
            entry.generation = step.at.seq;
        }
        step.changed.insert(ordinal);
    }
}
