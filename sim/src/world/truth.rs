//! What is true in the world, kept beside what the coordinator believes, and what must hold of both after every
//! event and at the end.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::condition::Lack;
use groundswell_common::directive::Action;
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::report::{HostState, Verdict};
use groundswell_common::{HostId, ReleaseId, RolloutId, ServiceName, Timestamp};
use groundswell_machine::State;
use groundswell_rollout::{
    HaltCause, HostEntry, Off, Outcome as RolloutOutcome, Phase, Progress, ProgressName, Rollout,
    check, check_state, explain,
};

use super::{Number, World};
use crate::check::Finding;
use crate::host::Host;
use crate::site::{Brought, Seen, Site};

/// A halt that a person asked for.
#[derive(Clone, Debug)]
pub(super) struct Halt {
    pub(super) rollout: RolloutId,
    /// Whether the person was told that it is complete.
    pub(super) answered: bool,
}

/// A service that a person takes off its hosts.
#[derive(Clone, Debug)]
pub(super) struct Removal {
    pub(super) off: Off,
    /// Whether a person stopped it, or ended it.
    pub(super) stopped: bool,
    /// Hosts that were told to while it went on.
    pub(super) told: BTreeSet<HostId>,
    /// What persons had started before.
    pub(super) started: u64,
}

/// What is true of one service.
#[derive(Clone, Debug, Default)]
pub(super) struct OfService {
    /// The number of its newest release.
    pub(super) releases: u64,
    /// Since when its newest rollout has been stopped.
    pub(super) stopped_since: Option<Timestamp>,
    /// Hosts that a rollout before had in flight, and until when they count.
    pub(super) carried: BTreeMap<HostId, Timestamp>,
    /// Hosts that a rollout before had in flight as the newest took over: what they run by that is its business.
    pub(super) inherited: BTreeSet<HostId>,
    /// The newest rollout that was seen.
    pub(super) newest: Option<RolloutId>,
    pub(super) halt: Option<Halt>,
    /// What a person went back from, until something newer is decided.
    pub(super) left: Option<ReleaseId>,
    /// Releases whose rollouts another one took over from, and when last.
    pub(super) taken_over: BTreeMap<ReleaseId, Timestamp>,
    /// How often a person started something: a release, an older one, a way back.
    pub(super) started: u64,
    /// By which rollouts it is taken off, and how far.
    pub(super) removals: BTreeMap<RolloutId, Removal>,
    /// How often a person let it go on, at the end.
    pub(super) asked: u64,
}

/// What is true.
#[derive(Debug, Default)]
pub(super) struct Truth {
    services: BTreeMap<ServiceName, OfService>,
    nothing: OfService,
    /// Releases that are bad on many hosts.
    pub(super) bad: BTreeSet<ReleaseId>,
    /// When something last spoke against a release: a host after its switch, or a person.
    evidence: BTreeMap<ReleaseId, u64>,
    /// When a person last went back from it.
    left: BTreeMap<ReleaseId, u64>,
    /// When a person last cleared it.
    cleared: BTreeMap<ReleaseId, u64>,
    /// What is poisoned, and since when.
    poisoned: BTreeMap<ReleaseId, Timestamp>,
    /// What hosts have got permits for in their sessions.
    pub(super) granted: BTreeMap<HostId, BTreeSet<(ServiceName, ReleaseId)>>,
    /// Rollouts that a person turned round.
    pub(super) turned: BTreeSet<RolloutId>,
    /// Hosts that are drained, and since when.
    drained: BTreeMap<HostId, Timestamp>,
    /// Hosts that were deleted.
    pub(super) gone: BTreeSet<HostId>,
    /// Hosts whose machine was put back to an earlier time.
    pub(super) put_back: BTreeSet<HostId>,
    /// Keys that two machines have had.
    pub(super) twins: BTreeSet<HostId>,
    /// Keys whose machine lies.
    pub(super) liars: BTreeSet<HostId>,
    /// Whether decisions were lost by a restore.
    pub(super) restored: bool,
    moment: u64,
}

impl Truth {
    pub(super) fn of(&self, service: &ServiceName) -> &OfService {
        self.services.get(service).unwrap_or(&self.nothing)
    }

    pub(super) fn of_mut(&mut self, service: &ServiceName) -> &mut OfService {
        self.services.entry(service.clone()).or_default()
    }

    /// Something speaks against the release.
    pub(super) fn speaks_against(&mut self, release: ReleaseId) {
        self.moment += 1;
        self.evidence.insert(release, self.moment);
    }

    /// A person goes back from the release.
    pub(super) fn leaves(&mut self, release: ReleaseId) {
        self.speaks_against(release);
        self.left.insert(release, self.moment);
    }

    /// A person clears the release.
    pub(super) fn clears(&mut self, release: ReleaseId) {
        self.moment += 1;
        self.cleared.insert(release, self.moment);
    }

    fn was_left(&self, release: &ReleaseId) -> bool {
        let cleared = self.cleared.get(release).copied().unwrap_or(0);
        self.left.get(release).is_some_and(|at| *at > cleared)
    }

    fn has_evidence(&self, release: &ReleaseId) -> bool {
        let cleared = self.cleared.get(release).copied().unwrap_or(0);
        self.evidence.get(release).is_some_and(|at| *at > cleared)
    }

    /// Whether a permit for the release, given before it became poisoned, may still be used.
    pub(super) fn may_be_permitted(&self, release: &ReleaseId, now: Timestamp) -> bool {
        let since = self.poisoned.get(release);
        since.is_none_or(|since| now.millis_since(*since) < PERMIT_VALID_MS)
    }

    /// Which hosts are drained now.
    pub(super) fn drains(&mut self, drained: BTreeSet<HostId>, now: Timestamp) {
        self.drained.retain(|host, _| drained.contains(host));
        for host in drained {
            self.drained.entry(host).or_insert(now);
        }
    }

    /// Whether the host was drained for longer than a permit lives.
    pub(super) fn was_drained(&self, host: &HostId, now: Timestamp) -> bool {
        let since = self.drained.get(host);
        since.is_some_and(|since| now.millis_since(*since) > PERMIT_VALID_MS)
    }

    /// Nobody counts on the host any more.
    pub(super) fn forget(&mut self, key: &HostId) {
        for service in self.services.values_mut() {
            service.carried.remove(key);
            service.inherited.remove(key);
        }
    }

    /// The newest decisions were lost.
    pub(super) fn restored(&mut self) {
        self.restored = true;
        for service in self.services.values_mut() {
            service.carried.clear();
            service.stopped_since = None;
            service.halt = None;
            service.left = None;
            service.newest = None;
        }
    }
}

impl World {
    /// After entries: what the rollouts are now, and what became poisoned.
    pub(super) fn decided(&mut self, services: &[ServiceName]) -> Result<(), Finding> {
        for service in services {
            let is_new = self.newest_changed(service)?;
            let Some(rollout) = self.newest(service) else { continue };
            let sound = if is_new { check(rollout) } else { check_state(rollout) };
            let phase = rollout.phase().clone();
            self.out.phases.insert(phase.name());
            if let Some(finding) = sound.first() {
                return self.found(Finding::Core(finding.to_string()));
            }
            let stopped = !goes_on(&phase);
            let (now, of) = (self.now, self.truth.of_mut(service));
            let stopped_now = stopped && of.stopped_since.is_none();
            of.stopped_since = match (stopped, of.stopped_since) {
                (true, None) => Some(now),
                (true, since) => since,
                (false, _) => None,
            };
            if !stopped {
                of.halt = None;
            }
            self.budget(service)?;
            self.poison(service)?;
            // Before the calm the clock may have jumped past every deadline.
            if stopped_now && !self.faults_on {
                self.heard_everyone(service, &phase)?;
            }
        }
        Ok(())
    }

    /// Nobody who has said that it is ready is why a rollout comes no further.
    fn heard_everyone(&mut self, service: &ServiceName, phase: &Phase) -> Result<(), Finding> {
        let Phase::Halted { cause: HaltCause::NoProgress { .. }, .. } = phase else {
            return Ok(());
        };
        let Some(rollout) = self.newest(service).cloned() else { return Ok(()) };
        let release = rollout.release();
        let waits = |entry: &HostEntry| entry.away.is_none() && entry.progress == Progress::Staging;
        let says_staged = |id: &HostId| {
            let word = self.office.control.word(id).and_then(|word| word.standing(service));
            let staged = word.filter(|standing| standing.state == HostState::Staged);
            staged.is_some_and(|standing| standing.target == Some(release))
        };
        let mut hosts = rollout.hosts().filter(|(_, _, entry)| waits(entry));
        let unheard = hosts
            .find(|(_, host, _)| !self.truth.liars.contains(&host.id) && says_staged(&host.id));
        let unheard = unheard.map(|(_, host, _)| host.id);
        match unheard {
            Some(host) => self.found(Finding::Unheard(host)),
            None => Ok(()),
        }
    }

    /// A new plan ends what was true of the one before. Whether there is one.
    fn newest_changed(&mut self, service: &ServiceName) -> Result<bool, Finding> {
        let newest = self.newest(service).map(|rollout| rollout.id().clone());
        if self.truth.of(service).newest == newest {
            return Ok(false);
        }
        self.comes_back(service, newest.as_ref())?;
        self.carry(service);
        let before = self.truth.of(service).newest.as_ref();
        let before = before.and_then(|before| self.office.view().rollout(before));
        let (before, now) = (before.map(Rollout::release), self.now);
        let of = self.truth.of_mut(service);
        of.taken_over.extend(before.map(|before| (before, now)));
        of.newest = newest;
        of.stopped_since = None;
        of.halt = None;
        of.left = None;
        Ok(true)
    }

    fn poison(&mut self, service: &ServiceName) -> Result<(), Finding> {
        let releases = self.office.view().releases.values();
        let ours = releases.filter(|release| release.published.service == *service);
        let states: Vec<(ReleaseId, Option<String>)> =
            ours.map(|found| (found.published.release, found.poisoned.clone())).collect();
        for (release, poisoned) in states {
            let Some(why) = poisoned else {
                self.truth.poisoned.remove(&release);
                continue;
            };
            if self.truth.poisoned.contains_key(&release) {
                continue;
            }
            self.truth.poisoned.insert(release, self.now);
            if self.truth.restored {
                continue;
            }
            if !self.truth.has_evidence(&release) && !self.is_unproven_somewhere(service, release) {
                let service = service.clone();
                self.found(Finding::Poisoned { service, release, why })?;
            }
        }
        Ok(())
    }

    /// Whether a host has switched to the release and not come to an end with it.
    fn is_unproven_somewhere(&self, service: &ServiceName, release: ReleaseId) -> bool {
        self.hosts.values().filter_map(|host| Some((host, host.sites.get(service)?))).any(
            |(host, site)| {
                let brought = site.live == Some(release) && site.brought.is_some();
                brought && !(host.connected && matches!(site.state(), State::Committed {}))
            },
        )
    }

    /// What a site showed by what it did.
    pub(super) fn saw(
        &mut self,
        number: Number,
        (service, seen): (&ServiceName, Seen),
    ) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let key = host.key;
        match seen {
            Seen::Failed(release) => {
                self.truth.speaks_against(release);
                Ok(())
            }
            Seen::Renamed(brought) => self.renamed((number, service), &brought),
            Seen::Emptied(release) => {
                let spoken = self.truth.left_by_person(service);
                if spoken || !self.is_plain(&key) || self.truth.restored {
                    return Ok(());
                }
                self.found(Finding::Emptied { host: key, release })
            }
            Seen::Unearned(_) if !self.is_plain(&key) => Ok(()),
            Seen::Unearned(_) => self.found(Finding::Unearned(key)),
            Seen::Done(nonce) => {
                self.post(number, 20, super::Mail::Done { service: service.clone(), nonce });
                Ok(())
            }
        }
    }

    /// No live link is replaced for a rollout whose halt was answered.
    fn renamed(
        &mut self,
        (number, service): (Number, &ServiceName),
        brought: &Brought,
    ) -> Result<(), Finding> {
        let halt = self.truth.of(service).halt.as_ref().filter(|halt| halt.answered);
        let ours = halt.is_some_and(|halt| brought.rollout.as_ref() == Some(&halt.rollout));
        let key = self.hosts.get(&number).map(|host| host.key).filter(|key| self.is_plain(key));
        match key.filter(|_| ours) {
            Some(key) => self.found(Finding::AfterHalt(key)),
            None => Ok(()),
        }
    }

    /// A person who halted is told so once nobody can begin to switch any more.
    pub(super) fn answer_halts(&mut self) {
        for service in self.services.clone() {
            let waits = self.truth.of(&service).halt.as_ref().is_some_and(|halt| !halt.answered);
            if waits
                && !self.permits_are_out(&service)
                && let Some(halt) = &mut self.truth.of_mut(&service).halt
            {
                halt.answered = true;
            }
        }
    }

    /// A host goes back because it was told to: by the rollout that brought it there, or by a person.
    pub(super) fn told_back(
        &mut self,
        (number, service): (Number, &ServiceName),
        release: ReleaseId,
        brought: Option<&Brought>,
    ) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let key = host.key;
        let site = host.sites.get(service);
        let by = site.and_then(Site::wished_by).cloned();
        // Whether it may be told to was looked at when it was.
        let taken_off = site.is_some_and(Site::is_told_off);
        let by_person = by.as_ref().is_some_and(|by| self.truth.turned.contains(by))
            || taken_off
            || self.truth.left_by_person(service);
        // One that was on its way there already got a slot for it as well.
        let granted = by.as_ref().and_then(|by| self.office.view().rollout(by)?.host(&key));
        let granted = granted.is_some_and(|entry| entry.granted);
        let its_own = brought.is_some_and(|brought| {
            let ours = brought.rollout.is_some() && brought.rollout == by;
            brought.release == release && (ours || granted)
        });
        // Of a release that fails there nobody says that it was healthy; and what the rollout before had in flight
        // is the business of the one that took over.
        let ill = site.is_some_and(|site| site.standing().health == Verdict::Fail);
        let inherited = self.truth.of(service).inherited.contains(&key);
        // What a person left everywhere is left by a host that comes back with it after that, too.
        let comes_late = by.is_none() && self.truth.was_left(&release);
        if by_person
            || its_own
            || ill
            || inherited
            || comes_late
            || !self.is_plain(&key)
            || self.truth.restored
        {
            return Ok(());
        }
        self.found(Finding::TurnedBack { host: key, release })
    }

    // ---- the end ----

    /// Whether the machine counts at the end: enrolled, alone with its key, and honest.
    fn counts(&self, host: &Host) -> bool {
        host.connected && self.is_plain(&host.key) && !self.truth.gone.contains(&host.key)
    }

    pub(super) fn ended(&mut self) -> Result<(), Finding> {
        for service in self.services.clone() {
            let Some(rollout) = self.newest(&service).cloned() else { continue };
            if !rollout.is_over() {
                let why = self.why_endless(&rollout);
                self.found(Finding::Endless(why))?;
                continue;
            }
            self.ended_well(&rollout)?;
            let hosts: Vec<Number> =
                self.hosts.iter().filter(|(_, host)| self.counts(host)).map(|(n, _)| *n).collect();
            for number in hosts {
                self.ended_on(number, &service)?;
            }
        }
        Ok(())
    }

    fn why_endless(&self, rollout: &Rollout) -> String {
        let holds = rollout.hosts().filter(|(_, _, entry)| entry.parked.is_some());
        let mut why: Vec<String> = [None]
            .into_iter()
            .chain(holds.map(|(_, host, _)| Some(host.id)))
            .flat_map(|host| explain(rollout, host.as_ref(), self.clock()))
            .map(|why| why.to_string())
            .collect();
        why.push(format!("{:?}", rollout.phase()));
        why.join("; ")
    }

    /// Every host of the rollout that can be reached is where its end says.
    fn ended_well(&mut self, rollout: &Rollout) -> Result<(), Finding> {
        let Phase::Done { outcome, .. } = rollout.phase() else { return Ok(()) };
        let (release, service) = (rollout.release(), &rollout.plan().service);
        for (wave, planned, entry) in rollout.hosts() {
            let host = self.hosts.values().find(|host| host.key == planned.id);
            let Some(host) = host.filter(|host| self.counts(host)) else { continue };
            let Some(site) = host.sites.get(service) else { continue };
            let ours = site.brought.as_ref().is_some_and(|brought| {
                brought.release == release && brought.rollout.as_ref() == Some(rollout.id())
            });
            let wrong = match (outcome, &entry.progress) {
                (RolloutOutcome::Reverted { down_to, .. }, progress) if wave >= *down_to => {
                    // What keeps it from going back, it says itself.
                    let named = matches!(progress.name(), ProgressName::Failed) || site.is_held();
                    site.live == Some(release) && ours && !named
                }
                (
                    RolloutOutcome::Completed
                    | RolloutOutcome::Reverted { .. }
                    | RolloutOutcome::Aborted { .. }
                    | RolloutOutcome::Superseded { .. },
                    _,
                ) => false,
            };
            // What it forgot that it brought, it does not take back.
            if wrong && !self.truth.restored {
                let (outcome, state) = (outcome.to_string(), format!("{:?}", site.state()));
                self.found(Finding::WrongEnd { outcome, host: planned.id, state })?;
            }
        }
        Ok(())
    }

    /// What is said of one host is so, and it waits for nothing without a reason.
    fn ended_on(&mut self, number: Number, service: &ServiceName) -> Result<(), Finding> {
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let Some(site) = host.sites.get(service) else { return Ok(()) };
        let (key, live, state) = (host.key, site.live, site.state().clone());
        let fetches = matches!(state, State::Fetching { .. }) && !site.is_held();
        if site.in_flight() || fetches {
            return self.found(Finding::Hung { host: key, state: format!("{state:?}") });
        }
        let view = self.office.view();
        let Some(of) = view.services.get(service) else { return Ok(()) };
        let governing = view.governing(of, &key).map(|(rollout, _)| rollout.clone());
        let entry = governing.as_ref().and_then(|rollout| rollout.host(&key)).cloned();
        let standing = site.standing();
        if let (Some(rollout), Some(entry)) = (&governing, &entry) {
            let committed = entry.progress == Progress::Committed && rollout.successor().is_none();
            if committed && (live != Some(rollout.release()) || standing.state.is_busy()) {
                let runs = live.map_or_else(|| "nothing".to_owned(), |live| format!("{live:?}"));
                return self.found(Finding::Untrue { host: key, runs });
            }
        }
        if let Some(Progress::Held { lack, .. }) = entry.as_ref().map(|entry| &entry.progress) {
            let own = ![Lack::StepDown, Lack::Stage].contains(lack);
            // Where nothing is brought forward any more, what holds a host does not matter.
            let wanted = governing
                .as_ref()
                .is_some_and(|rollout| rollout.successor().is_none() && goes_on(rollout.phase()));
            let known = *lack == Lack::Twin && self.office.control.is_twin(&key);
            let rests = !site.is_held() && !known && wanted;
            if own && rests {
                return self.found(Finding::HeldForNothing(key));
            }
        }
        let held = site.is_held();
        // Of what a newer rollout took over, `why` says so, and why that one leaves the host out.
        let over = governing.as_ref().is_some_and(|rollout| rollout.successor().is_some());
        let named = |release: ReleaseId| {
            let failed = standing.failure.as_ref().is_some_and(|failed| failed.release == release);
            let entry = entry.as_ref().map(|entry| entry.progress.name());
            // What holds it, it says itself, on its way back as well.
            failed
                || site.was_put_back_by_hand()
                || site.is_too_slow()
                || held
                || over
                || entry == Some(ProgressName::Failed)
                || entry == Some(ProgressName::Excluded)
        };
        // Who came back as no target after that is told so, and keeps what it has.
        let record = view.hosts.get(&key);
        let aside = governing.is_none() && record.is_some_and(|record| !of.targets(record));
        // What it forgot that it brought outside of every rollout, it does not take back.
        let forgotten = governing.is_none() && self.truth.restored;
        let left = self.truth.of(service).left.filter(|_| !aside && !forgotten);
        if live.is_some_and(|live| !named(live)) && self.is_off_everyone(service) {
            return self.found(Finding::StillThere(key));
        }
        if let Some(left) = left.filter(|left| live == Some(*left) && !named(*left)) {
            return self.found(Finding::LeftBehind { host: key, release: left });
        }
        let wish = view.wish(service, &key).map(|(wish, _)| wish.action);
        let wished = match wish {
            Some(Action::Switch { release }) => Some(release),
            Some(
                Action::Hold {} | Action::Stage { .. } | Action::Revert { .. } | Action::Remove {},
            )
            | None => None,
        };
        match wished.filter(|release| live != Some(*release) && !named(*release)) {
            Some(release) => self.found(Finding::Unsaid { host: key, release }),
            None => Ok(()),
        }
    }
}

impl Truth {
    /// Whether a person has taken the service back from what ran.
    fn left_by_person(&self, service: &ServiceName) -> bool {
        self.services
            .get(service)
            .is_some_and(|of| of.newest.as_ref().is_some_and(|newest| self.turned.contains(newest)))
    }
}

/// Whether hosts may be brought forward in this phase.
pub(super) fn goes_on(phase: &Phase) -> bool {
    match phase {
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => true,
        Phase::Done { outcome, .. } => *outcome == RolloutOutcome::Completed,
        Phase::Planned | Phase::Paused { .. } | Phase::Halted { .. } | Phase::Reverting { .. } => {
            false
        }
    }
}
