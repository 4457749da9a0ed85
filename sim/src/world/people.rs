//! Persons: what they press and type, in any order, and what they do when they are asked.

use std::collections::BTreeMap;

use groundswell_common::condition::Lack;
use groundswell_common::report::{FailedStep, Failure};
use groundswell_common::{
    HostId, HostName, Labels, OperatorName, ReleaseId, RolloutId, ServiceName,
};
use groundswell_control::entry::{By, What};
use groundswell_control::{Start, Verb};
use groundswell_machine::State;
use groundswell_rollout::{Input, KeepOrRevert, Phase, PhaseName, Progress, Rollout, Steer};

use super::office::ann;
use super::truth::Halt;
use super::{CALM_EVENTS_MAX, Number, World};
use crate::check::Finding;
use crate::draw::{labels, nature, published, release, seq, spelt};
use crate::host::Host;
use crate::random::Random;
use crate::site::{Lot, Nature, Site, WRONG_BYTES};

/// Releases of one service that a world brings.
const RELEASES_MAX: u64 = 5;

/// How long everybody waits for the end, in seconds: windows open once a day.
const CALM_SECS: u64 = 30 * 86_400;
/// How often a person lets a rollout go on at the end.
const PATIENCE: u64 = 30;

fn ben() -> OperatorName {
    spelt("ben")
}

impl World {
    /// A new release of a service.
    pub(super) fn publish(&mut self, service: &ServiceName) -> Result<(), Finding> {
        if self.truth.of(service).releases >= RELEASES_MAX {
            return Ok(());
        }
        let bad = self.random.one_in(3);
        if bad {
            let number = self.truth.of(service).releases + 1;
            self.truth.bad.insert(release(service, number).0);
        }
        self.bring(service, |random| nature(random, bad))
    }

    /// The next release of a service, which does on each host what is drawn for it.
    pub(super) fn bring(
        &mut self,
        service: &ServiceName,
        nature: impl Fn(&mut Random) -> Nature,
    ) -> Result<(), Finding> {
        let of = self.truth.of_mut(service);
        of.releases += 1;
        of.started += 1;
        let number = of.releases;
        let (id, version) = release(service, number);
        for host in self.hosts.values_mut() {
            let nature = nature(&mut self.random);
            if let Some(site) = host.sites.get_mut(service) {
                site.meet(id, nature, (seq(number), version.clone()));
            }
        }
        drop(self.control().publish(&ann(), published(service, number)));
        self.settle()
    }

    /// A rollout by hand of a release that was there before, or of the newest.
    pub(super) fn start_by_hand(
        &mut self,
        service: &ServiceName,
        number: u64,
    ) -> Result<(), Finding> {
        let (_, version) = release(service, number);
        let start = Start { release: version.as_str(), ..Start::default() };
        self.truth.of_mut(service).started += 1;
        drop(self.control().start(&ann(), (service, None), start));
        self.settle()
    }

    fn some_release(&mut self, service: &ServiceName) -> ReleaseId {
        let number = self.random.below(self.truth.of(service).releases + 1);
        release(service, number).0
    }

    /// Lets a poisoned release be rolled out again.
    pub(super) fn clear(&mut self, service: &ServiceName) -> Result<(), Finding> {
        let release = self.some_release(service);
        if self.control().clear(&ann(), &release, "a person").is_ok() {
            self.out.faults.add("releases cleared");
            self.truth.clears(release);
            // What nobody has heard of yet was not cleared.
            if self.fails_unheard(service, release) {
                self.truth.speaks_against(release);
            }
            let found = self.office.view().releases.get(&release);
            if found.is_some_and(|found| found.poisoned.is_some()) {
                self.found(Finding::NotCleared(release))?;
            }
        }
        self.settle()
    }

    /// Whether the release has failed on a host, and the coordinator does not know it yet.
    fn fails_unheard(&self, service: &ServiceName, release: ReleaseId) -> bool {
        let of = |failure: Option<&Failure>| {
            failure.is_some_and(|it| it.release == release && it.step != FailedStep::Stage)
        };
        self.hosts.values().any(|host| {
            let site = host.sites.get(service).map(Site::standing);
            let word = self.office.control.word(&host.key);
            let heard = word.and_then(|word| word.standing(service));
            of(site.as_ref().and_then(|site| site.failure.as_ref()))
                && !of(heard.and_then(|heard| heard.failure.as_ref()))
        })
    }

    pub(super) fn clear_host(&mut self, number: Number) -> Result<(), Finding> {
        if let Some(name) = self.name_of(number) {
            self.out.faults.add("hosts cleared");
            drop(self.control().clear_host(&ann(), &name, "a person"));
        }
        self.settle()
    }

    /// What the newest rollout of a service is told; whether it was taken.
    pub(super) fn tell(&mut self, service: &ServiceName, verb: Verb) -> Result<bool, Finding> {
        // Where a removal of what is left over is under way beside it, a person is asked which, and names the newest.
        let named = self.control().newest_rollout_id((service, None)).ok();
        let newest = self.newest(service).map(|rollout| rollout.id().clone());
        let Some(id) = named.or(newest) else { return Ok(false) };
        let release = self.newest(service).map(Rollout::release);
        let off = self.truth.of(service).removals.contains_key(&id);
        if self.control().verb(&ann(), &id, (verb, "a person")).is_err() {
            return Ok(false);
        }
        if off {
            self.steers_removal((service, &id), verb);
            return self.settle().map(|()| true);
        }
        match verb {
            Verb::Halt => {
                let halt = Halt { rollout: id, answered: false };
                self.truth.of_mut(service).halt = Some(halt);
            }
            Verb::Revert | Verb::Abort(KeepOrRevert::Revert) => {
                self.truth.turned.insert(id);
                self.truth.of_mut(service).halt = None;
                if let Some(release) = release {
                    self.truth.leaves(release);
                }
            }
            Verb::Resume | Verb::Abort(KeepOrRevert::Keep) => {
                self.truth.of_mut(service).halt = None;
            }
            Verb::Pause | Verb::Steer(_) => {}
        }
        self.settle()?;
        Ok(true)
    }

    /// The release that most hosts run, committed, also of those that are away; not of those that are drained, nor of
    /// those that go back by the newest rollout as soon as they can.
    fn runs_mostly(&self, service: &ServiceName) -> Option<ReleaseId> {
        let mut counts: BTreeMap<ReleaseId, usize> = BTreeMap::new();
        let known = &self.office.view().hosts;
        let back = self.newest(service).map(Rollout::goes_back).unwrap_or_default();
        let asked = |key: &HostId| {
            known.get(key).is_some_and(|record| record.drained.is_none()) && !back.contains(key)
        };
        let hosts = self.hosts.values().filter(|host| self.is_plain(&host.key) && asked(&host.key));
        let sites: Vec<&Site> = hosts.filter_map(|host| host.sites.get(service)).collect();
        for site in sites.iter().filter(|site| matches!(site.state(), State::Committed {})) {
            if let Some(live) = site.live {
                *counts.entry(live).or_insert(0) += 1;
            }
        }
        counts.into_iter().find(|(_, count)| count * 2 > sites.len()).map(|(release, _)| release)
    }

    /// Whether an older release than this one is proven and may run.
    fn has_way_back(&self, service: &ServiceName, from: ReleaseId) -> bool {
        let view = self.office.view();
        let seq = |id: &ReleaseId| view.releases.get(id).map(|found| found.published.seq);
        let proven = view.services.get(service).map(|of| &of.proven);
        let mut proven = proven.into_iter().flatten().map(|proven| proven.release);
        let is_proven = proven.clone().any(|proven| proven == from);
        is_proven && proven.any(|older| seq(&older) < seq(&from))
    }

    /// A person wants the release before back.
    pub(super) fn go_back(&mut self, service: &ServiceName) -> Result<(), Finding> {
        let runs = self.runs_mostly(service);
        let busy = self.newest(service).map(|rollout| rollout.phase().name());
        self.truth.of_mut(service).started += 1;
        let id = match self.control().revert(&ann(), (service, None), (None, "a person")) {
            Ok(id) => id,
            Err(refused) => {
                let expected = runs.is_some_and(|runs| self.has_way_back(service, runs));
                if expected && busy == Some(PhaseName::Done) && !self.truth.restored {
                    let (service, why) = (service.clone(), refused.to_string());
                    self.found(Finding::NoWayBack { service, why })?;
                }
                return self.settle();
            }
        };
        self.truth.turned.insert(id.clone());
        let left = self.office.view().rollout(&id).map(Rollout::release);
        let number = |id: &ReleaseId| Some(self.office.view().releases.get(id)?.published.seq);
        let newer = runs.zip(left).is_some_and(|(runs, left)| number(&runs) > number(&left));
        if newer && busy == Some(PhaseName::Done) && !self.truth.restored {
            let why = format!("most hosts run {runs:?}, and it leaves the older {left:?}");
            self.found(Finding::NoWayBack { service: service.clone(), why })?;
        }
        left.into_iter().for_each(|left| self.truth.leaves(left));
        self.settle()?;
        let of = self.truth.of_mut(service);
        of.halt = None;
        of.left = left.filter(|_| of.newest.as_ref() == Some(&id));
        Ok(())
    }

    /// An operator takes a host out of all rollouts, or lets it in again.
    pub(super) fn drain(&mut self, number: Number, lift: bool) -> Result<(), Finding> {
        if let Some(name) = self.name_of(number) {
            let why = (!lift).then_some("a person");
            if self.control().drain_host(&ann(), &name, why).is_ok() {
                self.out.faults.add("hosts drained");
            }
        }
        self.settle()
    }

    pub(super) fn relabel(&mut self, number: Number) -> Result<(), Finding> {
        if self.name_of(number).is_none() {
            return self.settle();
        }
        self.out.faults.add("hosts labelled");
        let labels = labels(&mut self.random);
        self.label(number, labels)
    }

    pub(super) fn label(&mut self, number: Number, labels: Labels) -> Result<(), Finding> {
        if let Some(name) = self.name_of(number) {
            drop(self.control().label_host(&ann(), &name, labels));
        }
        self.settle()
    }

    fn name_of(&self, number: Number) -> Option<HostName> {
        let key = self.hosts.get(&number)?.key;
        self.office.view().hosts.get(&key).map(|host| host.name.clone())
    }

    pub(super) fn button(&mut self, service: &ServiceName) -> Result<(), Finding> {
        self.out.faults.add("buttons");
        let hosts: Vec<HostId> = self.hosts.values().map(|host| host.key).collect();
        let Some(host) = self.random.pick(&hosts).copied() else { return Ok(()) };
        let verb = match self.random.below(18) {
            0 => Verb::Pause,
            1 | 2 => Verb::Halt,
            3..=8 => Verb::Resume,
            9 | 10 => return self.go_back(service),
            11 if self.random.one_in(4) => Verb::Abort(KeepOrRevert::Revert),
            12 => return self.approve(service).map(drop),
            13 => Verb::Steer(Steer::Exclude { host }),
            14 => Verb::Steer(Steer::Retry { host }),
            15 => Verb::Steer(Steer::Slow { max_in_flight: Some(1) }),
            16 => Verb::Steer(Steer::SkipWave { wave: 1 }),
            _ => Verb::Steer(Steer::Promote),
        };
        self.tell(service, verb).map(drop)
    }

    /// The red button.
    #[cfg(test)]
    pub(super) fn halt(&mut self, service: &ServiceName) -> Result<(), Finding> {
        self.tell(service, Verb::Halt).map(drop)
    }

    fn approve(&mut self, service: &ServiceName) -> Result<bool, Finding> {
        let Some(rollout) = self.newest(service) else { return Ok(false) };
        let (id, plan): (RolloutId, _) = (rollout.id().clone(), rollout.plan_hash());
        let input = Input::Approve { by: ben(), plan, wave: None };
        let what = What::RolloutInput { rollout: id, input };
        let taken = self.control().submit(By::Operator(ben()), what).is_ok();
        self.settle()?;
        Ok(taken)
    }

    // ---- the end ----

    /// Faults stop, persons go on wherever they are asked; it must come to an end that is true.
    pub(super) fn calm(&mut self) -> Result<(), Finding> {
        self.faults_on = false;
        self.tidy_up()?;
        let patient_until = self.now.plus_secs(CALM_SECS);
        for _ in 0..CALM_EVENTS_MAX {
            if self.now > patient_until {
                break;
            }
            let mut acted = self.lift()?;
            for service in self.services.clone() {
                acted |= self.person(&service)?;
            }
            let over = |name| self.newest(name).is_none_or(Rollout::is_over);
            let over = self.services.iter().all(over);
            let lost = |name| self.truth.of(name).asked > PATIENCE + self.made;
            let lost = self.services.iter().any(lost);
            if self.over || lost || (!self.event()? && !acted) || (over && self.at_rest()) {
                break;
            }
        }
        if self.over { Ok(()) } else { self.ended() }
    }

    /// Owners and admins put right what they can.
    fn tidy_up(&mut self) -> Result<(), Finding> {
        let numbers: Vec<Number> = self.hosts.keys().copied().collect();
        for number in numbers {
            let Some(host) = self.hosts.get_mut(&number) else { continue };
            let (key, lies, up) = (host.key, host.lies, host.up);
            host.asleep_until = None;
            for site in host.sites.values_mut() {
                site.fuse = None;
                // Nothing is lost any more: asking seldom saves events.
                site.lot = Lot { ask_later_millis: 3_600_000, ..Lot::default() };
            }
            if lies {
                self.delete(number)?;
            }
            if host_of(&self.hosts, key) != Some(number) {
                // The copy of a machine is taken away.
                self.cut(number)?;
                self.hosts.remove(&number);
                continue;
            }
            if !up {
                self.again(number)?;
            }
            self.host(number, |host, now| {
                for site in host.sites.values_mut() {
                    site.unstick(now);
                    if site.is_paused() {
                        site.pause(None, now);
                    }
                }
            })?;
            self.drain(number, true)?;
            self.link(number)?;
        }
        Ok(())
    }

    /// A person reads that the ledger was put back from a backup, and lifts its numbers past what hosts accepted.
    fn lift(&mut self) -> Result<bool, Finding> {
        let newest = self.office.control.put_back().map(|found| found.newest);
        match newest.filter(|newest| *newest > self.office.view().lift) {
            None => Ok(false),
            Some(_) => {
                drop(self.control().lift(&ann(), "put back from a backup"));
                self.settle().map(|()| true)
            }
        }
    }

    fn at_rest(&self) -> bool {
        let busy = |host: &Host| {
            let fetches =
                |site: &Site| matches!(site.state(), State::Fetching { .. }) && !site.is_held();
            // A host may fetch what it is to go back to.
            host.in_flight() || (host.up && host.sites.values().any(fetches))
        };
        let flies = |name| self.newest(name).is_some_and(|rollout| rollout.in_flight() > 0);
        self.mail.is_empty() && !self.hosts.values().any(busy) && !self.services.iter().any(flies)
    }

    /// Whether a person was asked and acted.
    pub(super) fn person(&mut self, service: &ServiceName) -> Result<bool, Finding> {
        let hosts = self.made;
        let Some(rollout) = self.newest(service) else { return Ok(false) };
        match rollout.phase() {
            Phase::Paused { .. } | Phase::Halted { .. } => {
                let parked = rollout.hosts().find(|(_, _, entry)| entry.parked.is_some());
                let host = parked.map(|(_, host, _)| host.id);
                let since = self.truth.of(service).stopped_since;
                let stopped = since.is_some_and(|since| since < self.now);
                // A rollout that stops again and again comes to no end: more often than once for each host.
                if self.truth.of(service).asked > PATIENCE + hosts {
                    return Ok(false);
                }
                // It stopped in the moment in which it went on: who keeps it is left out, where that may be.
                if let Some(host) = host.filter(|_| !stopped)
                    && self.tell(service, Verb::Steer(Steer::Exclude { host }))?
                {
                    return Ok(true);
                }
                let goes_on = self.tell(service, Verb::Resume)?;
                self.truth.of_mut(service).asked += u64::from(goes_on);
                Ok(goes_on)
            }
            Phase::Gated { wave, .. } => match waits_for_promotion(rollout, *wave) {
                true => self.tell(service, Verb::Steer(Steer::Promote)),
                false => self.approve(service),
            },
            Phase::Running { .. } => {
                // Bytes that are wrong stay wrong, and what is newer stays newer: a person reads that and leaves the
                // host out.
                let stays = |progress: &Progress| {
                    let Progress::Held { lack, why } = progress else { return false };
                    matches!(lack, Lack::Stage | Lack::StepDown) || why == WRONG_BYTES
                };
                let held = rollout.hosts().find(|(_, _, entry)| stays(&entry.progress));
                match held.map(|(_, host, _)| host.id) {
                    Some(host) => self.tell(service, Verb::Steer(Steer::Exclude { host })),
                    None => Ok(false),
                }
            }
            // The backup ends between its plan and its start: a person begins anew.
            Phase::Planned if rollout.plan().off().is_some() => {
                self.tell(service, Verb::Abort(KeepOrRevert::Keep))
            }
            Phase::Planned => {
                let number = (0..=self.truth.of(service).releases)
                    .find(|number| release(service, *number).0 == rollout.release());
                self.start_by_hand(service, number.unwrap_or(0))?;
                Ok(true)
            }
            Phase::Baking { .. } | Phase::Reverting { .. } | Phase::Done { .. } => Ok(false),
        }
    }
}

/// The first machine with this key.
fn host_of(hosts: &BTreeMap<Number, Host>, key: HostId) -> Option<Number> {
    hosts.iter().find(|(_, host)| host.key == key).map(|(number, _)| *number)
}

/// Whether a person must promote the wave: approvals are there, the manual gate is shut.
fn waits_for_promotion(rollout: &Rollout, wave: u32) -> bool {
    let planned = usize::try_from(wave).ok().and_then(|wave| rollout.plan().waves.get(wave));
    let approved = rollout.approvals().iter().any(|given| given.by.as_str() == "ben");
    planned.is_some_and(|wave| wave.gate.manual && (approved || wave.gate.approvals == 0))
}
