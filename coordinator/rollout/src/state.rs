//! Where a rollout stands: its phase and each of its hosts, with the sets and counters that keep
//! the cost of one fact logarithmic. Owns the form of the state; [`crate::step`] is its only
//! writer.

use std::collections::BTreeSet;

use groundswell_common::condition::Lack;
use groundswell_common::report::{FailedStep, Verdict};
use groundswell_common::{Digest, HostId, HostName, OperatorName, ReleaseId, RolloutId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::calendar::Opening;
use crate::hosts::may_still_run;
use crate::phase::{Course, Phase, PhaseName};
use crate::plan::{GuardKind, Plan, PlannedHost, PlannedWave, RULES_SPOKEN};

/// One release on its way to the hosts of one plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub(crate) id: RolloutId,
    pub(crate) plan: Plan,
    pub(crate) plan_hash: Digest,
    pub(crate) phase: Phase,
    pub(crate) approvals: Vec<Approved>,
    /// The newer rollout that took over; nothing changes any more.
    pub(crate) successor: Option<RolloutId>,
    /// The ledger entry that started it.
    pub(crate) started: Option<u64>,
    /// By ordinal: the place of the host in the plan, counted over all waves.
    pub(crate) hosts: Vec<HostEntry>,
    pub(crate) waves: Vec<WaveState>,
    /// In the order of [`Plan::guards`].
    pub(crate) guards: Vec<GuardState>,
    pub(crate) counts: Counts,
    /// Whether hosts may switch by the calendar, as of the last step.
    pub(crate) opening: Opening,
    /// A person's bound on the slots, below the plan's.
    pub(crate) slow: Option<u32>,
    /// Ordinals in the order of the host ids.
    pub(crate) by_id: Vec<u32>,
    pub(crate) sets: Sets,
}

/// Ordinals of hosts by what has to be found fast. Each is a function of the entries and the phase.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sets {
    /// Staging, staged or granted: those whose wish a pause changes.
    pub(crate) open: BTreeSet<u32>,
    /// Staged, connected and not parked: next in line for a slot.
    pub(crate) ready: BTreeSet<u32>,
    /// As `ready`, for hosts that were away when their turn came.
    pub(crate) lane_ready: BTreeSet<u32>,
    /// Hosts that wait for something else than a slot, by what.
    pub(crate) parked: BTreeSet<(Parked, u32)>,
    /// Guards that have room and parked hosts.
    pub(crate) roomy: BTreeSet<u32>,
    /// Failure domains that have room and parked hosts, and no host in flight.
    pub(crate) sleeping: BTreeSet<u32>,
    /// Guards that have parked hosts and neither room nor a host in flight: only dead hosts hold
    /// them.
    pub(crate) dead: BTreeSet<u32>,
    /// Hosts that hold a slot.
    pub(crate) in_flight: BTreeSet<u32>,
    /// Hosts that use one though they hold none: the rollout before took them down.
    pub(crate) busy: BTreeSet<u32>,
    /// Connected hosts that run or may run the release and are not on their way back.
    pub(crate) may_run: BTreeSet<u32>,
    /// Those of them that are not parked.
    pub(crate) back_ready: BTreeSet<u32>,
    /// Failures that nobody has acknowledged.
    pub(crate) failures: BTreeSet<u32>,
    /// When a slot is taken back from a silent host.
    pub(crate) deadlines: BTreeSet<(Timestamp, u32)>,
    /// Hosts that hold a wave while they are away, by the time from which their wait counts.
    pub(crate) away: BTreeSet<(Timestamp, u32)>,
}

/// One host of a rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEntry {
    /// How far it has come.
    pub progress: Progress,
    /// Since when it is not connected; `None` while it is.
    pub away: Option<Timestamp>,
    /// The ledger entry that changed its wish last; 0 where none did since the start.
    pub generation: u64,
    /// Whether a person has seen its failure.
    pub acknowledged: bool,
    /// How often it was lost and came back without having switched.
    pub retries: u8,
    /// Whether the release before failed its probes: what happens to it then does not count.
    pub ill: bool,
    /// Whether it was away when its turn came.
    pub late: bool,
    /// What it waits for instead of a slot.
    pub parked: Option<Parked>,
    /// Until when it counts as busy with the rollout before, or with this one though it was left out; `None`
    /// where it is not.
    #[serde(default)]
    pub busy: Option<Timestamp>,
    /// Whether it ran the release when the plan was made and has not been given a slot since: this rollout
    /// changed nothing on it, and takes nothing back.
    #[serde(default)]
    pub kept: bool,
    /// Whether this rollout has given it a slot.
    #[serde(default)]
    pub granted: bool,
    /// Whether it is held although it had switched: it may run the release.
    #[serde(default)]
    pub begun: bool,
    /// Thousandths of the release's bytes that it has fetched.
    #[serde(default)]
    pub permille: u16,
}

/// What a host that is ready waits for instead of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parked {
    /// A window that is long enough for it.
    Window,
    /// Room in a guard: its place in [`Plan::guards`].
    Guard(u32),
}

/// What changes about one guard while it rolls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GuardState {
    /// Hosts that are down, for whatever reason.
    pub(crate) down: u32,
    /// Hosts that use a slot.
    pub(crate) in_flight: u32,
    /// Hosts that wait for room in it.
    pub(crate) parked: u32,
}

/// Counters over all hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Failures not acknowledged that count against the budgets.
    pub(crate) failures: u32,
    /// Failures not acknowledged that a host has told of itself.
    #[serde(default)]
    pub(crate) spoken: u32,
    /// Failures of late hosts not acknowledged.
    pub(crate) lane_failures: u32,
    /// Late hosts that hold a slot.
    pub(crate) lane_in_flight: u32,
    /// Failure domains with a host that holds a slot.
    pub(crate) domains: u32,
}

/// How far a host has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Its wave has not opened.
    Pending,
    /// Fetching and unpacking, or about to.
    Staging,
    /// The release is on disk; it waits for a slot.
    Staged,
    /// It holds a slot and may ask for its permit.
    Granted {
        /// When the slot was given.
        since: Timestamp,
        /// When the slot is taken back if nothing is heard.
        deadline: Timestamp,
    },
    /// It has switched; the probes have not passed yet.
    Probing {
        /// When it counts as lost if nothing more is heard.
        deadline: Timestamp,
    },
    /// The probes pass; it is watched.
    Baking {
        /// When it counts as lost if nothing more is heard.
        deadline: Timestamp,
    },
    /// It runs the release and has baked it.
    Committed,
    /// The release failed on it.
    Failed {
        /// At which step; `Revert` means that a person must look.
        step: FailedStep,
        /// What happened, at most 4 KiB.
        why: String,
        /// Whether the release before it is live again.
        reverted: bool,
    },
    /// It fell silent while it held a slot; it may run the release.
    Lost,
    /// It was away before it got a slot; it no longer holds its wave and is staged when it is back.
    Absent,
    /// It holds a slot to go back.
    Reverting {
        /// When the slot is taken back if nothing is heard.
        deadline: Timestamp,
    },
    /// It was told to go back and did not answer in time; it is still told to.
    Overdue,
    /// It does not run the release any more.
    Reverted,
    /// Left out by a person, or deleted.
    Excluded {
        /// Whether it runs the release or may run it: a revert reaches it.
        ran: bool,
        /// Whether the host was deleted from the fleet.
        gone: bool,
    },
    /// It lacks something that says nothing about the release; no longer holds its wave and goes on by itself
    /// once it lacks it no longer.
    Held {
        /// What.
        lack: Lack,
        /// The cause and the next step, at most 1 KiB.
        why: String,
    },
}

/// The variants of [`Progress`] without their data, for counters and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressName {
    /// See [`Progress::Pending`].
    Pending,
    /// See [`Progress::Staging`].
    Staging,
    /// See [`Progress::Staged`].
    Staged,
    /// See [`Progress::Granted`].
    Granted,
    /// See [`Progress::Probing`].
    Probing,
    /// See [`Progress::Baking`].
    Baking,
    /// See [`Progress::Committed`].
    Committed,
    /// See [`Progress::Failed`].
    Failed,
    /// See [`Progress::Lost`].
    Lost,
    /// See [`Progress::Absent`].
    Absent,
    /// See [`Progress::Reverting`].
    Reverting,
    /// See [`Progress::Overdue`].
    Overdue,
    /// See [`Progress::Reverted`].
    Reverted,
    /// See [`Progress::Excluded`].
    Excluded,
    /// See [`Progress::Held`].
    Held,
}

/// How many hosts of a wave stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// See [`Progress::Pending`].
    pub pending: u32,
    /// See [`Progress::Staging`].
    pub staging: u32,
    /// See [`Progress::Staged`].
    pub staged: u32,
    /// See [`Progress::Granted`].
    pub granted: u32,
    /// See [`Progress::Probing`].
    pub probing: u32,
    /// See [`Progress::Baking`].
    pub baking: u32,
    /// See [`Progress::Committed`].
    pub committed: u32,
    /// See [`Progress::Failed`].
    pub failed: u32,
    /// See [`Progress::Lost`].
    pub lost: u32,
    /// See [`Progress::Absent`].
    pub absent: u32,
    /// See [`Progress::Reverting`].
    pub reverting: u32,
    /// See [`Progress::Overdue`].
    pub overdue: u32,
    /// See [`Progress::Reverted`].
    pub reverted: u32,
    /// See [`Progress::Excluded`].
    #[serde(default)]
    pub excluded: u32,
    /// See [`Progress::Held`].
    #[serde(default)]
    pub held: u32,
}

/// What changes about one wave while it rolls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaveState {
    /// Ordinal of its first host.
    pub(crate) first: u32,
    /// When it opened.
    pub(crate) opened: Option<Timestamp>,
    /// Whether a person let it finish though none of its hosts could be reached.
    pub(crate) waived: bool,
    pub(crate) tally: Tally,
    /// Failures not acknowledged that count against its budget.
    pub(crate) failures: u32,
    /// Whether a person left it out.
    pub(crate) skipped: bool,
    /// Whether a person opened its manual gate.
    pub(crate) promoted: bool,
    /// What the webhook answered last.
    pub(crate) answer: Option<Verdict>,
    /// Since when its bake goes on for want of evidence.
    pub(crate) extended: Option<Timestamp>,
    /// Whether a person let it through without the evidence.
    pub(crate) unproven: bool,
    pub(crate) watch: Watch,
}

/// How long committed hosts of a wave have run, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watch {
    /// Hosts that are committed and connected.
    pub(crate) hosts: u32,
    /// Since when they are so many, in milliseconds after the epoch.
    pub(crate) since_millis: u64,
    /// Added up before that.
    pub(crate) millis: u64,
}

/// One approval that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approved {
    /// Who.
    pub by: OperatorName,
    /// For which wave; `None` for every wave.
    pub wave: Option<u32>,
    /// When.
    pub at: Timestamp,
}

impl Rollout {
    /// A rollout of `plan` that has not started.
    #[must_use]
    pub fn new(id: RolloutId, plan: Plan) -> Self {
        let plan_hash = plan.hash();
        let (mut hosts, mut waves, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for wave in &plan.waves {
            let entries = wave.hosts.iter().map(|host| HostEntry::new(host, plan.back.is_some()));
            let entries: Vec<HostEntry> = entries.collect();
            let mut tally = Tally::default();
            for entry in &entries {
                *tally.slot(entry.progress.name()) += 1;
            }
            waves.push(WaveState {
                first: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
                opened: None,
                waived: false,
                tally,
                failures: 0,
                skipped: false,
                promoted: false,
                answer: None,
                extended: None,
                unproven: false,
                watch: Watch::default(),
            });
            ids.extend(wave.hosts.iter().map(|host| host.id));
            hosts.extend(entries);
        }
        let mut keyed: Vec<(HostId, u32)> = ids.into_iter().zip(0_u32..).collect();
        keyed.sort_unstable();
        // Looked up in the first step.
        let opening = Opening::Shut { until: Some(Timestamp::from_millis(0)) };
        let mut rollout = Self {
            id,
            plan_hash,
            phase: Phase::Planned,
            approvals: Vec::new(),
            successor: None,
            started: None,
            hosts,
            waves,
            guards: vec![GuardState::default(); plan.guards.len()],
            counts: Counts::default(),
            opening,
            slow: None,
            by_id: keyed.into_iter().map(|(_, ordinal)| ordinal).collect(),
            sets: Sets::default(),
            plan,
        };
        rollout.count_all();
        rollout
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> &RolloutId {
        &self.id
    }

    /// What it rolls, where and how.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The hash that approvals are bound to.
    #[must_use]
    pub fn plan_hash(&self) -> Digest {
        self.plan_hash
    }

    /// The release that it brings.
    #[must_use]
    pub fn release(&self) -> ReleaseId {
        self.plan.release.id
    }

    /// Where it stands.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The approvals that count, in the order in which they came.
    #[must_use]
    pub fn approvals(&self) -> &[Approved] {
        &self.approvals
    }

    /// The newer rollout of the service that took over, if one did.
    #[must_use]
    pub fn successor(&self) -> Option<&RolloutId> {
        self.successor.as_ref()
    }

    /// The ledger entry that started it; `None` before.
    #[must_use]
    pub fn started(&self) -> Option<u64> {
        self.started
    }

    /// Whether it is over (stragglers may remain).
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase.name() == PhaseName::Done
    }

    /// Whether the release went to every wave, was not taken back and runs somewhere: new hosts get
    /// it. Where every failure was tolerated and nobody runs it, nothing is proven.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.phase.course() == Course::Late && self.runs_somewhere()
    }

    /// Whether a host has committed the release and keeps it.
    pub(crate) fn runs_somewhere(&self) -> bool {
        self.waves.iter().any(|wave| wave.tally.committed > 0)
    }

    /// Whether a host has said that the release failed on it, and nobody has acknowledged that. Silence says nothing
    /// about a release: the host, or the way to it, may be gone.
    #[must_use]
    pub fn is_spoken_against(&self) -> bool {
        self.plan.rules < RULES_SPOKEN || self.counts.spoken > 0
    }

    /// Hosts that have begun to switch, or to go back, and are not done; in plan order.
    #[must_use]
    pub fn inside(&self) -> Vec<HostName> {
        let begun = |ordinal: &&u32| {
            let name = self.entry(**ordinal).map(|entry| entry.progress.name());
            name.is_some_and(|name| name != ProgressName::Granted)
        };
        let begun = self.sets.in_flight.iter().filter(begun);
        begun.filter_map(|at| self.planned_at(*at)).map(|(_, host)| host.name.clone()).collect()
    }

    /// Hosts that the rollout before left in flight and that have not said since that they are at rest.
    pub fn left_in_flight(&self) -> impl Iterator<Item = &PlannedHost> {
        self.sets.busy.iter().filter_map(|at| self.planned_at(*at)).map(|(_, host)| host)
    }

    /// Hosts that a revert would take back: those that run the release, or may, and have it by this rollout.
    #[must_use]
    pub fn goes_back(&self) -> Vec<HostId> {
        let goes =
            |entry: &HostEntry| !entry.kept && (entry.begun || may_still_run(&entry.progress));
        self.hosts().filter(|(_, _, entry)| goes(entry)).map(|(_, host, _)| host.id).collect()
    }

    /// The wave that the phase is about, counted from 0; `None` before the start and after the end.
    #[must_use]
    pub fn wave(&self) -> Option<u32> {
        self.phase.wave()
    }

    /// Whether wave `wave` has opened.
    #[must_use]
    pub fn is_open(&self, wave: u32) -> bool {
        self.wave_state(wave).is_some_and(|wave| wave.opened.is_some())
    }

    /// How many hosts of wave `wave` stand where.
    #[must_use]
    pub fn tally(&self, wave: u32) -> Option<Tally> {
        self.wave_state(wave).map(|wave| wave.tally)
    }

    /// Failures of wave `wave` that nobody has acknowledged.
    #[must_use]
    pub fn failures(&self, wave: u32) -> u32 {
        self.wave_state(wave).map_or(0, |wave| wave.failures)
    }

    /// Failures of late hosts that nobody has acknowledged.
    #[must_use]
    pub fn lane_failures(&self) -> u32 {
        self.counts.lane_failures
    }

    /// Whether hosts may switch by the calendar, as of the last step.
    #[must_use]
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// What the webhook of wave `wave` answered last.
    #[must_use]
    pub fn answer(&self, wave: u32) -> Option<Verdict> {
        self.wave_state(wave).and_then(|wave| wave.answer)
    }

    /// Whether a person left wave `wave` out.
    #[must_use]
    pub fn is_skipped(&self, wave: u32) -> bool {
        self.wave_state(wave).is_some_and(|wave| wave.skipped)
    }

    /// The number of hosts that use a slot: those that hold one, and those that the rollout before
    /// took down.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sets.in_flight.len() + self.sets.busy.len()
    }

    /// The state of one host; `None` where it is not in the plan.
    #[must_use]
    pub fn host(&self, host: &HostId) -> Option<&HostEntry> {
        self.found(host).map(|(_, entry)| entry)
    }

    /// The host in the plan with its wave; `None` where it is not in the plan.
    #[must_use]
    pub fn planned(&self, host: &HostId) -> Option<(u32, &PlannedHost)> {
        self.planned_at(self.ordinal(host)?)
    }

    /// All hosts in plan order: wave, host, state.
    pub fn hosts(&self) -> impl Iterator<Item = (u32, &PlannedHost, &HostEntry)> {
        let planned = self
            .plan
            .waves
            .iter()
            .zip(0_u32..)
            .flat_map(|(wave, at)| wave.hosts.iter().map(move |host| (at, host)));
        planned.zip(&self.hosts).map(|((wave, host), entry)| (wave, host, entry))
    }

    pub(crate) fn entry(&self, ordinal: u32) -> Option<&HostEntry> {
        self.hosts.get(usize_of(ordinal))
    }

    pub(crate) fn wave_state(&self, wave: u32) -> Option<&WaveState> {
        self.waves.get(usize_of(wave))
    }

    pub(crate) fn planned_wave(&self, wave: u32) -> Option<&PlannedWave> {
        self.plan.waves.get(usize_of(wave))
    }

    pub(crate) fn last_wave(&self) -> u32 {
        u32::try_from(self.waves.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Whether this guard is a failure domain.
    pub(crate) fn is_domain(&self, guard: u32) -> bool {
        let rule = self.plan.guards.get(usize_of(guard));
        rule.is_some_and(|rule| rule.kind == GuardKind::Domain)
    }

    /// Hosts that wave `wave` may have in flight at once.
    pub(crate) fn cap(&self, wave: u32) -> usize {
        self.planned_wave(wave).map_or(0, |wave| usize_of(wave.max_in_flight))
    }

    pub(crate) fn wave_of(&self, ordinal: u32) -> u32 {
        let after = self.waves.partition_point(|wave| wave.first <= ordinal);
        u32::try_from(after.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    pub(crate) fn planned_at(&self, ordinal: u32) -> Option<(u32, &PlannedHost)> {
        let wave = self.wave_of(ordinal);
        let within = ordinal.checked_sub(self.wave_state(wave)?.first)?;
        Some((wave, self.planned_wave(wave)?.hosts.get(usize_of(within))?))
    }

    /// A host of the plan: its ordinal and its entry.
    pub(crate) fn found(&self, host: &HostId) -> Option<(u32, &HostEntry)> {
        let ordinal = self.ordinal(host)?;
        Some((ordinal, self.entry(ordinal)?))
    }

    pub(crate) fn ordinal(&self, host: &HostId) -> Option<u32> {
        let id_at = |ordinal: &u32| self.planned_at(*ordinal).map(|(_, planned)| planned.id);
        let found = self.by_id.binary_search_by(|ordinal| id_at(ordinal).cmp(&Some(*host))).ok()?;
        self.by_id.get(found).copied()
    }
}

impl HostEntry {
    fn new(planned: &PlannedHost, back: bool) -> Self {
        // A way back begins with hosts that run the release, or may: nobody knows what the others run.
        let progress = match (back, planned.keeps) {
            (false, _) => Progress::Pending,
            (true, true) => Progress::Committed,
            (true, false) => Progress::Lost,
        };
        Self {
            progress,
            away: None,
            generation: 0,
            acknowledged: back,
            retries: 0,
            ill: planned.ill,
            late: false,
            parked: None,
            busy: None,
            kept: planned.keeps && !back,
            granted: false,
            begun: false,
            permille: 0,
        }
    }
}

impl ProgressName {
    /// Every name, in the order of a host's course.
    pub const ALL: [Self; 15] = [
        Self::Pending,
        Self::Staging,
        Self::Staged,
        Self::Granted,
        Self::Probing,
        Self::Baking,
        Self::Committed,
        Self::Failed,
        Self::Lost,
        Self::Absent,
        Self::Reverting,
        Self::Overdue,
        Self::Reverted,
        Self::Excluded,
        Self::Held,
    ];
}

impl Progress {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> ProgressName {
        match self {
            Self::Pending => ProgressName::Pending,
            Self::Staging => ProgressName::Staging,
            Self::Staged => ProgressName::Staged,
            Self::Granted { .. } => ProgressName::Granted,
            Self::Probing { .. } => ProgressName::Probing,
            Self::Baking { .. } => ProgressName::Baking,
            Self::Committed => ProgressName::Committed,
            Self::Failed { .. } => ProgressName::Failed,
            Self::Lost => ProgressName::Lost,
            Self::Absent => ProgressName::Absent,
            Self::Reverting { .. } => ProgressName::Reverting,
            Self::Overdue => ProgressName::Overdue,
            Self::Reverted => ProgressName::Reverted,
            Self::Excluded { .. } => ProgressName::Excluded,
            Self::Held { .. } => ProgressName::Held,
        }
    }
}

impl Tally {
    /// The counter of one kind of progress.
    #[must_use]
    pub fn of(&self, name: ProgressName) -> u32 {
        let mut copy = *self;
        *copy.slot(name)
    }

    /// Hosts that an open wave still waits for.
    #[must_use]
    pub fn holding(&self) -> u32 {
        self.staging + self.staged + self.granted + self.probing + self.baking
    }

    /// All hosts of the wave.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.pending
            + self.holding()
            + self.committed
            + self.failed
            + self.lost
            + self.absent
            + self.reverting
            + self.overdue
            + self.reverted
            + self.excluded
            + self.held
    }

    pub(crate) fn slot(&mut self, name: ProgressName) -> &mut u32 {
        match name {
            ProgressName::Pending => &mut self.pending,
            ProgressName::Staging => &mut self.staging,
            ProgressName::Staged => &mut self.staged,
            ProgressName::Granted => &mut self.granted,
            ProgressName::Probing => &mut self.probing,
            ProgressName::Baking => &mut self.baking,
            ProgressName::Committed => &mut self.committed,
            ProgressName::Failed => &mut self.failed,
            ProgressName::Lost => &mut self.lost,
            ProgressName::Absent => &mut self.absent,
            ProgressName::Reverting => &mut self.reverting,
            ProgressName::Overdue => &mut self.overdue,
            ProgressName::Reverted => &mut self.reverted,
            ProgressName::Excluded => &mut self.excluded,
            ProgressName::Held => &mut self.held,
        }
    }
}

pub(crate) fn usize_of(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
