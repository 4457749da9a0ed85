//! What happened in a rehearsal, written down as it goes, and the answer made of it. Decides nothing.

use std::collections::BTreeMap;

use groundswell_common::Timestamp;
use groundswell_rollout::{GuardKind, Opening, Outcome, Parked, Phase, Rollout, Transition};
use serde::Serialize;

use super::host::{Host, Place};
use super::world::Case;

/// Points of a curve at most.
pub const POINTS_MAX: u64 = 480;

/// How a rehearsal ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Every wave finished and baked.
    Finished,
    /// It waits for a person's answer.
    Paused,
    /// It was stopped, and waits for a person.
    Halted,
    /// Hosts went back.
    Reverted,
    /// It was not over when the rehearsal gave up.
    Unfinished,
}

/// One case from its start to its end. Times are whole seconds since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Course {
    /// Which case.
    pub case: Case,
    /// How it ended.
    pub end: End,
    /// How long it took: to the end, or to the stop that waits for a person.
    pub secs: u64,
    /// Hosts of the plan.
    pub hosts: u32,
    /// Hosts of the plan on which the release fails.
    pub failing: u32,
    /// Hosts that ran the release for any time.
    pub reached: u32,
    /// The most hosts that ran it at once.
    pub most_on: u32,
    /// The most hosts in flight at once.
    pub most_in_flight: u32,
    /// Hosts on which it failed and that said so.
    pub failures: u32,
    /// Hosts that failed only because they needed longer than the probe deadline.
    pub too_slow: u32,
    /// The first stop; `None` where nothing stopped it.
    pub stop: Option<Stop>,
    /// From the stop until the last host was back; `None` where they did not all go back.
    pub back_secs: Option<u64>,
    /// Hosts that run the release at the end.
    pub left_on: u32,
    /// Those of them on which it fails, now or later.
    pub left_failing: u32,
    /// What connected hosts still wait for at the end, beside a slot.
    pub waiting: Vec<Waiting>,
    /// In order.
    pub waves: Vec<WaveCourse>,
    /// Gates that a person opened.
    pub gates: Vec<GateOpened>,
    /// When nobody might switch.
    pub shut: Vec<Span>,
    /// Hosts over time, at most [`POINTS_MAX`].
    pub points: Vec<Point>,
}

/// The first stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// When.
    pub at_secs: u64,
    /// In which wave, counted from 0.
    pub wave: Option<u32>,
    /// Failures until then.
    pub failures: u32,
    /// Since the first host switched.
    pub after_switch_secs: Option<u64>,
    /// Since the first failure.
    pub after_failure_secs: Option<u64>,
    /// What the core says.
    pub why: String,
}

/// Hosts that still wait at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// How many.
    pub hosts: u32,
    /// For what.
    pub what: WaitsFor,
}

/// What a host waits for beside a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// A window that is long enough.
    Window,
    /// Room in its failure domain.
    Domain,
    /// Room in its quorum group.
    Quorum,
    /// Room in its wave, of which a part must stay up.
    Wave,
}

/// One wave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaveCourse {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub hosts: u32,
    /// Hosts in flight at once.
    pub max_in_flight: u32,
    /// Failures that it may have.
    pub failure_budget: u32,
    /// When it opened.
    pub opened_secs: Option<u64>,
    /// When its last host was done, and the bake began.
    pub finished_secs: Option<u64>,
    /// When its bake was over.
    pub ended_secs: Option<u64>,
    /// Its hosts that ran the release for any time.
    pub reached: u32,
    /// Its hosts on which the release failed.
    pub failures: u32,
}

/// A gate that persons opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GateOpened {
    /// The wave behind it, counted from 0.
    pub wave: u32,
    /// Approvals that it asks for.
    pub approvals: u32,
    /// Whether a person has to open it.
    pub manual: bool,
    /// When it asked.
    pub asked_secs: u64,
    /// When it opened; `None` where it was over before.
    pub opened_secs: Option<u64>,
}

/// A time from begin to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Begin.
    pub from_secs: u64,
    /// End.
    pub to_secs: u64,
}

/// The most of a part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Begin of the part.
    pub at_secs: u64,
    /// Hosts that ran the release.
    pub on: u32,
    /// Hosts in flight.
    pub in_flight: u32,
}

/// What has happened so far.
#[derive(Clone, Debug)]
pub(super) struct Record {
    start: Timestamp,
    pub(super) now: Timestamp,
    pub(super) on: u32,
    samples: Vec<(Timestamp, u32, u32)>,
    first_switch: Option<Timestamp>,
    first_failure: Option<Timestamp>,
    pub(super) failures: u32,
    pub(super) too_slow: u32,
    stop: Option<Stop>,
    waves: Vec<WaveCourse>,
    gates: Vec<GateOpened>,
    shut: Vec<Span>,
    shut_since: Option<Timestamp>,
}

impl Record {
    pub(super) fn new(rollout: &Rollout, start: Timestamp) -> Self {
        let wave = |wave: &groundswell_rollout::PlannedWave| WaveCourse {
            name: wave.name.to_string(),
            hosts: u32::try_from(wave.hosts.len()).unwrap_or(u32::MAX),
            max_in_flight: wave.max_in_flight,
            failure_budget: wave.failure_budget,
            opened_secs: None,
            finished_secs: None,
            ended_secs: None,
            reached: 0,
            failures: 0,
        };
        Self {
            start,
            now: start,
            on: 0,
            samples: vec![(start, 0, 0)],
            first_switch: None,
            first_failure: None,
            failures: 0,
            too_slow: 0,
            stop: None,
            waves: rollout.plan().waves.iter().map(wave).collect(),
            gates: Vec::new(),
            shut: Vec::new(),
            shut_since: None,
        }
    }

    fn secs(&self) -> u64 {
        self.now.millis_since(self.start) / 1000
    }

    /// A host begins to run the release; `first` for the first time.
    pub(super) fn switches(&mut self, wave: usize, first: bool) {
        self.on += 1;
        self.first_switch.get_or_insert(self.now);
        if let Some(wave) = self.waves.get_mut(wave).filter(|_| first) {
            wave.reached += 1;
        }
    }

    /// The release fails on a host for the first time.
    pub(super) fn fails(&mut self, wave: usize) {
        self.failures += 1;
        self.first_failure.get_or_insert(self.now);
        if let Some(wave) = self.waves.get_mut(wave) {
            wave.failures += 1;
        }
    }

    /// What follows from one step.
    pub(super) fn stepped(&mut self, rollout: &Rollout, transitions: &[Transition]) {
        for transition in transitions {
            self.moved(rollout, transition);
        }
        let open = matches!(rollout.opening(), Opening::Open { .. });
        match (open, self.shut_since) {
            (false, None) => self.shut_since = Some(self.now),
            (true, Some(since)) => {
                self.shut_since = None;
                self.shut.push(self.span(since));
            }
            (true, None) | (false, Some(_)) => {}
        }
        self.sample(rollout);
    }

    /// Writes down how many hosts run the release, where that is news.
    pub(super) fn sample(&mut self, rollout: &Rollout) {
        let in_flight = u32::try_from(rollout.in_flight()).unwrap_or(u32::MAX);
        if self.samples.last().is_none_or(|last| (last.1, last.2) != (self.on, in_flight)) {
            self.samples.push((self.now, self.on, in_flight));
        }
    }

    fn span(&self, since: Timestamp) -> Span {
        Span { from_secs: since.millis_since(self.start) / 1000, to_secs: self.secs() }
    }

    fn wave(&mut self, wave: u32) -> Option<&mut WaveCourse> {
        self.waves.get_mut(usize::try_from(wave).ok()?)
    }

    fn moved(&mut self, rollout: &Rollout, Transition { from, to }: &Transition) {
        let now = Some(self.secs());
        if let Phase::Baking { wave, .. } = from
            && goes_on(to)
            && let Some(wave) = self.wave(*wave)
        {
            wave.ended_secs = now;
        }
        match to {
            Phase::Running { wave, .. } => {
                if let Some(wave) = self.wave(*wave) {
                    wave.opened_secs = wave.opened_secs.or(now);
                }
            }
            Phase::Baking { wave, .. } => {
                if let Some(wave) = self.wave(*wave) {
                    wave.finished_secs = wave.finished_secs.or(now);
                }
            }
            Phase::Gated { wave, .. } => {
                let planned =
                    usize::try_from(*wave).ok().and_then(|at| rollout.plan().waves.get(at));
                let gate = planned.map(|wave| wave.gate).unwrap_or_default();
                let (approvals, manual, asked_secs) = (gate.approvals, gate.manual, self.secs());
                let opened_secs = None;
                self.gates.push(GateOpened {
                    wave: *wave,
                    approvals,
                    manual,
                    asked_secs,
                    opened_secs,
                });
            }
            Phase::Paused { cause, .. } => self.stops(from, cause.to_string()),
            Phase::Halted { cause, .. } => self.stops(from, cause.to_string()),
            Phase::Reverting { cause, .. } => self.stops(from, cause.to_string()),
            Phase::Planned | Phase::Done { .. } => {}
        }
        if let (Phase::Gated { .. }, Phase::Running { .. }) = (from, to)
            && let Some(gate) = self.gates.last_mut()
        {
            gate.opened_secs = now;
        }
    }

    fn stops(&mut self, from: &Phase, why: String) {
        let since = |at: Timestamp| self.now.millis_since(at) / 1000;
        let stop = Stop {
            at_secs: self.secs(),
            wave: from.wave(),
            failures: self.failures,
            after_switch_secs: self.first_switch.map(since),
            after_failure_secs: self.first_failure.map(since),
            why,
        };
        self.stop.get_or_insert(stop);
    }

    /// The answer. The rollout is over, stopped for good, or given up.
    pub(super) fn course(mut self, case: Case, rollout: &Rollout, hosts: &[Host]) -> Course {
        if let Some(since) = self.shut_since {
            self.shut.push(self.span(since));
        }
        let (end, at) = ending(rollout, self.now);
        let secs = at.millis_since(self.start) / 1000;
        let count = |wanted: &dyn Fn(&Host) -> bool| {
            let many = hosts.iter().filter(|host| wanted(host)).count();
            u32::try_from(many).unwrap_or(u32::MAX)
        };
        let left_on = count(&Host::runs);
        let reverted = end == End::Reverted && left_on == 0;
        let back_secs = self.stop.as_ref().filter(|_| reverted);
        let fails = |host: &Host| host.bad && host.runs() && host.place != Place::GoingBack;
        Course {
            case,
            end,
            secs,
            hosts: count(&|_| true),
            failing: count(&|host| host.bad),
            reached: count(&|host| host.reached),
            most_on: self.samples.iter().map(|sample| sample.1).max().unwrap_or(0),
            most_in_flight: self.samples.iter().map(|sample| sample.2).max().unwrap_or(0),
            failures: self.failures,
            too_slow: self.too_slow,
            back_secs: back_secs.map(|stop| secs - stop.at_secs),
            stop: self.stop.clone(),
            left_on,
            left_failing: count(&fails),
            points: self.points(),
            waiting: waiting(rollout),
            waves: self.waves,
            gates: self.gates,
            shut: self.shut,
        }
    }

    /// The samples in parts of equal length, and what was at the end.
    fn points(&self) -> Vec<Point> {
        let part_secs = self.secs() / (POINTS_MAX - 1) + 1;
        let mut points = Vec::new();
        let (mut samples, mut last) = (self.samples.iter().peekable(), (0, 0));
        for at_secs in (0..=self.secs()).step_by(usize::try_from(part_secs).unwrap_or(1)) {
            let end = self.start.plus_secs(at_secs + part_secs);
            let (mut on, mut in_flight) = last;
            while let Some(sample) = samples.next_if(|sample| sample.0 < end) {
                (on, in_flight) = (on.max(sample.1), in_flight.max(sample.2));
                last = (sample.1, sample.2);
            }
            points.push(Point { at_secs, on, in_flight });
        }
        // The last part may have had more than there is at the end.
        let end = Point { at_secs: self.secs(), on: last.0, in_flight: last.1 };
        if points.last().is_some_and(|point| (point.on, point.in_flight) != last) {
            points.push(end);
        }
        points
    }
}

fn waiting(rollout: &Rollout) -> Vec<Waiting> {
    let guards = &rollout.plan().guards;
    let mut counts: BTreeMap<WaitsFor, u32> = BTreeMap::new();
    let here = rollout.hosts().filter(|(_, _, entry)| entry.away.is_none());
    for parked in here.filter_map(|(_, _, entry)| entry.parked) {
        let what = match parked {
            Parked::Window => WaitsFor::Window,
            Parked::Guard(at) => {
                let guard = usize::try_from(at).ok().and_then(|at| guards.get(at));
                match guard.map_or(GuardKind::Wave, |guard| guard.kind) {
                    GuardKind::Domain => WaitsFor::Domain,
                    GuardKind::Quorum => WaitsFor::Quorum,
                    GuardKind::Wave => WaitsFor::Wave,
                }
            }
        };
        *counts.entry(what).or_default() += 1;
    }
    counts.into_iter().map(|(what, hosts)| Waiting { hosts, what }).collect()
}

/// Whether a bake ended as it should.
fn goes_on(to: &Phase) -> bool {
    match to {
        Phase::Running { .. } | Phase::Gated { .. } => true,
        Phase::Done { outcome: Outcome::Completed, .. } => true,
        Phase::Planned
        | Phase::Baking { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => false,
    }
}

/// How it ended, and when.
fn ending(rollout: &Rollout, now: Timestamp) -> (End, Timestamp) {
    match rollout.phase() {
        Phase::Paused { since, .. } => (End::Paused, *since),
        Phase::Halted { since, .. } => (End::Halted, *since),
        Phase::Done { outcome: Outcome::Completed, at } => (End::Finished, *at),
        Phase::Done { outcome: Outcome::Reverted { .. }, at } => (End::Reverted, *at),
        Phase::Done { outcome: Outcome::Aborted { .. } | Outcome::Superseded { .. }, at } => {
            (End::Unfinished, *at)
        }
        Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Reverting { .. } => (End::Unfinished, now),
    }
}
