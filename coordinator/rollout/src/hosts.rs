//! The one way in which a host's entry changes: sets, counters, generation and the list of changed
//! wishes follow from it. Decides nothing.

use std::collections::BTreeSet;

use groundswell_common::report::FailedStep;
use groundswell_common::{HostId, RolloutId, Timestamp};

use crate::calendar::Opening;
use crate::desired::{Want, calendar_is_open, want};
use crate::fact::tries_again;
use crate::input::Moment;
use crate::phase::{Course, Phase};
use crate::plan::{GuardKind, RULES_BROUGHT, RULES_SPOKEN};
use crate::state::{
    Counts, GuardState, HostEntry, Parked, Progress, ProgressName, Rollout, Sets, Watch, usize_of,
};
use crate::step::Transition;

/// What one step has done so far.
pub(crate) struct Step {
    pub(crate) at: Moment,
    pub(crate) changed: BTreeSet<u32>,
    pub(crate) all_hosts: bool,
    pub(crate) transitions: Vec<Transition>,
}

/// In which sets a host belongs and in which counters it counts: a function of its entry and of
/// what [`Rollout::turn`] changes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) open: bool,
    pub(crate) ready: bool,
    pub(crate) lane_ready: bool,
    pub(crate) in_flight: bool,
    pub(crate) busy: bool,
    pub(crate) may_run: bool,
    pub(crate) back_ready: bool,
    pub(crate) failure: bool,
    /// Whether the host itself has said so.
    pub(crate) spoken: bool,
    /// Whether the failure counts against the budgets of its wave and of the rollout.
    pub(crate) counts: bool,
    pub(crate) late: bool,
    /// Whether it serves less than it should, for whatever reason.
    pub(crate) down: bool,
    /// Whether it is evidence for the release.
    pub(crate) watched: bool,
    pub(crate) parked: Option<Parked>,
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
    let free = entry.parked.is_none();
    let may_run = here && !entry.kept && runs_unasked(&entry.progress);
    let opened = || rollout.wave_state(rollout.wave_of(ordinal)).and_then(|wave| wave.opened);
    let waits_away = || entry.away.map(|since| opened().map_or(since, |opened| since.max(opened)));
    let base = Places {
        busy: entry.busy.is_some(),
        deadline: entry.busy,
        late: entry.late,
        down: down(entry),
        may_run,
        back_ready: may_run && free,
        parked: entry.parked,
        ..Places::default()
    };
    let fails = |base| {
        let failure = !entry.acknowledged;
        // Of older plans nobody has counted it.
        let counted = rollout.plan.rules >= RULES_SPOKEN;
        let spoken = counted && failure && entry.progress.name() == ProgressName::Failed;
        Places { failure, spoken, counts: failure && !entry.ill && !entry.late, ..base }
    };
    match &entry.progress {
        Progress::Pending => Places { open: rollout.plan.prefetch, ..base },
        Progress::Absent | Progress::Overdue | Progress::Reverted | Progress::Excluded { .. } => {
            base
        }
        // What it lacks it says again when it is back; one that is gone for good must not hold its wave for ever.
        Progress::Held { lack, .. } => {
            let says_again = tries_again(*lack) && rollout.plan.rules >= RULES_SPOKEN;
            Places { open: true, away: waits_away().filter(|_| says_again), ..base }
        }
        Progress::Staging => Places { open: true, away: waits_away(), ..base },
        Progress::Staged => Places {
            open: true,
            ready: here && free && !entry.late && entry.busy.is_none(),
            lane_ready: here && free && entry.late && entry.busy.is_none(),
            away: waits_away(),
            ..base
        },
        Progress::Granted { deadline, .. } => Places {
            open: true,
            in_flight: true,
            deadline: Some(*deadline).filter(|_| !stopped && calendar_is_open(rollout)),
            ..base
        },
        Progress::Probing { deadline }
        | Progress::Baking { deadline }
        | Progress::Reverting { deadline } => {
            Places { in_flight: true, deadline: Some(*deadline), ..base }
        }
        Progress::Committed => Places { watched: here, ..base },
        Progress::Lost | Progress::Failed { .. } => fails(base),
    }
}

/// Whether a host with this progress runs the release, or may, and nobody has told it to go back.
fn runs_unasked(progress: &Progress) -> bool {
    match progress {
        Progress::Committed
        | Progress::Lost
        | Progress::Failed { .. }
        | Progress::Excluded { .. } => may_still_run(progress),
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Held { .. }
        | Progress::Reverted => false,
    }
}

/// Whether a host serves less than it should: away, ill, in flight, failed or gone.
pub(crate) fn down(entry: &HostEntry) -> bool {
    let by_progress = match &entry.progress {
        Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Lost => true,
        Progress::Failed { step, reverted, .. } => *step != FailedStep::Stage && !reverted,
        Progress::Excluded { ran, gone } => *ran || *gone,
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Committed
        | Progress::Absent
        | Progress::Held { .. }
        | Progress::Reverted => false,
    };
    by_progress || entry.begun || entry.ill || entry.away.is_some() || entry.busy.is_some()
}

/// Whether a host may come to this progress while it is still busy with the rollout before.
fn says_nothing_of_before(progress: &Progress) -> bool {
    match progress {
        Progress::Pending | Progress::Staging | Progress::Absent | Progress::Held { .. } => true,
        Progress::Excluded { gone, .. } => !gone,
        Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted => false,
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
        Progress::Excluded { ran, .. } => *ran,
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Absent
        | Progress::Held { .. }
        | Progress::Reverted => false,
    }
}

impl Rollout {
    /// Replaces the progress of one host.
    pub(crate) fn advance(&mut self, step: &mut Step, ordinal: u32, progress: Progress) {
        // Brought by something else, it is nothing that this rollout may take back; a person takes all of it back.
        let by_person = self.phase.course() == Course::Back && self.phase.breach().is_none();
        let ours = self.plan.rules < RULES_SPOKEN || by_person;
        let runs = self.plan.rules >= RULES_BROUGHT
            && matches!(progress, Progress::Excluded { ran: true, .. });
        self.edit(step, ordinal, |entry| {
            // What the rollout before left in flight is this one's business.
            let comes = runs && entry.busy.is_none() && !may_still_run(&entry.progress);
            let brought = !entry.granted && (comes || progress == Progress::Committed);
            let failure = matches!(progress, Progress::Failed { .. } | Progress::Lost);
            let well = matches!(progress, Progress::Committed | Progress::Reverted);
            entry.acknowledged = entry.acknowledged && failure;
            entry.late = entry.late || progress == Progress::Absent;
            entry.ill = entry.ill && !well;
            entry.parked = None;
            entry.busy = entry.busy.filter(|_| says_nothing_of_before(&progress));
            let granted = matches!(progress, Progress::Granted { .. });
            entry.granted |= granted;
            entry.kept &= !granted;
            entry.begun &= matches!(progress, Progress::Held { .. });
            entry.kept |= brought && !ours;
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
        let (before, want_before) = (places(self, ordinal, entry), want(self, entry));
        let name_before = entry.progress.name();
        let mut entry = entry.clone();
        change(&mut entry);
        if down(&entry) != before.down {
            // What it waited for may not hold it any more.
            entry.parked = None;
        }
        let name_after = entry.progress.name();
        let after = places(self, ordinal, &entry);
        self.replace(ordinal, entry);
        self.place(ordinal, &before, &after);
        self.count(ordinal, (&before, &after), step.at.now);
        let wave = usize_of(self.wave_of(ordinal));
        if let Some(wave) = self.waves.get_mut(wave) {
            *wave.tally.slot(name_before) -= 1;
            *wave.tally.slot(name_after) += 1;
        }
        self.note_want(step, ordinal, want_before);
    }

    /// Empties what [`Rollout::count_all`] fills.
    pub(crate) fn forget_counts(&mut self) {
        self.sets = Sets::default();
        self.counts = Counts::default();
        self.guards.iter_mut().for_each(|guard| *guard = GuardState::default());
        for wave in &mut self.waves {
            wave.failures = 0;
            wave.watch.hosts = 0;
        }
    }

    /// Puts every host of a new rollout where it belongs; its tallies are right already.
    pub(crate) fn count_all(&mut self) {
        for ordinal in (0_u32..).take(self.hosts.len()) {
            let Some(entry) = self.entry(ordinal) else { continue };
            let (before, after) = (Places::default(), places(self, ordinal, entry));
            self.place(ordinal, &before, &after);
            self.count(ordinal, (&before, &after), Timestamp::from_millis(0));
        }
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

    /// Takes note of what the calendar says now.
    pub(crate) fn open_or_shut(&mut self, step: &mut Step, opening: Opening) {
        self.turn(step, |rollout| rollout.opening = opening);
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
            self.place(ordinal, &places_before, &after);
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

    fn place(&mut self, ordinal: u32, before: &Places, after: &Places) {
        let sets = &mut self.sets;
        let flags = [
            (&mut sets.open, before.open, after.open),
            (&mut sets.ready, before.ready, after.ready),
            (&mut sets.lane_ready, before.lane_ready, after.lane_ready),
            (&mut sets.in_flight, before.in_flight, after.in_flight),
            (&mut sets.busy, before.busy, after.busy),
            (&mut sets.may_run, before.may_run, after.may_run),
            (&mut sets.back_ready, before.back_ready, after.back_ready),
            (&mut sets.failures, before.failure, after.failure),
        ];
        for (set, was, is) in flags {
            if was != is {
                set_to(set, ordinal, is);
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
        if before.parked != after.parked {
            before.parked.map(|parked| sets.parked.remove(&(parked, ordinal)));
            after.parked.map(|parked| sets.parked.insert((parked, ordinal)));
        }
    }

    /// Keeps the counters of the wave, the rollout and the host's guards.
    fn count(&mut self, ordinal: u32, (before, after): (&Places, &Places), now: Timestamp) {
        let counts = &mut self.counts;
        shift(&mut counts.failures, before.counts, after.counts);
        shift(&mut counts.spoken, before.spoken, after.spoken);
        let lane =
            |places: &Places| (places.failure && places.late, places.in_flight && places.late);
        shift(&mut counts.lane_failures, lane(before).0, lane(after).0);
        shift(&mut counts.lane_in_flight, lane(before).1, lane(after).1);
        let wave = usize_of(self.wave_of(ordinal));
        if let Some(wave) = self.waves.get_mut(wave) {
            shift(&mut wave.failures, before.counts, after.counts);
            if before.watched != after.watched {
                wave.watch.millis = wave.watch.millis_at(now);
                wave.watch.since_millis = now.as_millis();
                shift(&mut wave.watch.hosts, before.watched, after.watched);
            }
        }
        self.count_guards(ordinal, before, after);
    }

    fn count_guards(&mut self, ordinal: u32, before: &Places, after: &Places) {
        let guards = match self.planned_at(ordinal) {
            Some((_, planned)) if !planned.guards.is_empty() => planned.guards.clone(),
            Some(_) | None => return,
        };
        for guard in guards {
            let Some(rule) = self.plan.guards.get(usize_of(guard)) else { continue };
            let Some(state) = self.guards.get_mut(usize_of(guard)) else { continue };
            let (domain, max_down) = (rule.kind == GuardKind::Domain, rule.max_down);
            let was_awake = state.in_flight > 0;
            shift(&mut state.down, before.down, after.down);
            let uses = |places: &Places| places.in_flight || places.busy;
            shift(&mut state.in_flight, uses(before), uses(after));
            let here = Some(Parked::Guard(guard));
            shift(&mut state.parked, before.parked == here, after.parked == here);
            let awake = state.in_flight > 0;
            if domain {
                shift(&mut self.counts.domains, was_awake, awake);
            }
            let waits = state.parked > 0 && state.down < max_down;
            let asleep = domain && !awake && self.plan.domains_at_once > 0;
            set_to(&mut self.sets.roomy, guard, waits && !asleep);
            set_to(&mut self.sets.sleeping, guard, waits && asleep);
            set_to(&mut self.sets.dead, guard, state.parked > 0 && !waits && !awake);
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

impl Watch {
    /// Milliseconds added up at `now`.
    pub(crate) fn millis_at(&self, now: Timestamp) -> u64 {
        let open = now.millis_since(Timestamp::from_millis(self.since_millis));
        self.millis.saturating_add(open.saturating_mul(u64::from(self.hosts)))
    }
}

fn shift(counter: &mut u32, was: bool, is: bool) {
    *counter -= u32::from(was);
    *counter += u32::from(is);
}

fn set_to(set: &mut BTreeSet<u32>, member: u32, is: bool) {
    if is {
        set.insert(member);
    } else {
        set.remove(&member);
    }
}
