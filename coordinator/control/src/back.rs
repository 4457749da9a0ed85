//! The way back of a service: from what its hosts run to a release that was proven before, also after a failed one
//! in between, again and again, on every host that runs it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::api::{RevertOther, RevertPreview};
use groundswell_common::directive::Action;
use groundswell_common::{HostId, OperatorName, ReleaseId, RolloutId, Version};
use groundswell_rollout::{
    Back, HostFacts, Outcome, Phase, Plan, Refusal, Resumable, Rollout, plan_back,
};

use crate::control::Control;
use crate::entry::By;
use crate::lanes::{Lane, Of};
use crate::refused::Refused;
use crate::steer::Verb;
use crate::view::{Host, Release};

/// How a service goes back.
enum Way {
    /// The rollout under way turns round: its hosts get what they ran before it.
    Turn(RolloutId),
    /// A plan of its own takes every host from what runs to what was proven before.
    Plan { leaving: Box<Release>, to: Option<Box<Release>> },
}

impl Control {
    /// What [`Control::revert`] would do.
    ///
    /// # Errors
    /// [`Refused`]: what every host would have to refuse is refused here.
    pub fn revert_preview(
        &self,
        of: Of<'_>,
        to: Option<&Version>,
    ) -> Result<RevertPreview, Refused> {
        let (service, lane) = (of.0, self.lane(of)?);
        match self.way_back(&lane, to)? {
            Way::Turn(id) => {
                let rollout = self.view.rollout(&id).ok_or(Refused::UnknownRollout(id))?;
                Ok(self.turn_preview(&lane, rollout))
            }
            Way::Plan { leaving, to } => {
                let (facts, others) = self.who_goes_back(&lane, &leaving, to.as_deref());
                let hosts = facts.len() as u64;
                Ok(RevertPreview {
                    service: service.clone(),
                    environment: lane.policy.environment.clone(),
                    from: leaving.published.version.clone(),
                    stops: if to.is_none() { hosts } else { 0 },
                    to: to.map(|to| to.published.version),
                    hosts,
                    others,
                })
            }
        }
    }

    /// Refuses a way back to nothing, which stops a service that runs.
    ///
    /// # Errors
    /// [`Refused::Stops`], and as [`Control::revert_preview`].
    pub fn keeps_running(&self, of: Of<'_>, to: Option<&Version>) -> Result<(), Refused> {
        match self.revert_preview(of, to)? {
            RevertPreview { service, from, to: None, stops, .. } if stops > 0 => {
                Err(Refused::Stops { service, from, hosts: stops })
            }
            _ => Ok(()),
        }
    }

    /// Takes a service back; the rollout that does it.
    ///
    /// # Errors
    /// As [`Control::revert_preview`]; nothing has changed then.
    pub fn revert(
        &mut self,
        by: &OperatorName,
        of: Of<'_>,
        (to, why): (Option<&Version>, &str),
    ) -> Result<RolloutId, Refused> {
        let lane = self.lane(of)?;
        match self.way_back(&lane, to)? {
            Way::Turn(id) => self.verb(by, &id, (Verb::Revert, why)).map(|()| id),
            Way::Plan { leaving, to } => {
                let plan = self.plan_back(&lane, (&leaving, to.as_deref()), (by, why))?;
                self.begin(By::Operator(by.clone()), plan, None)
            }
        }
    }

    fn way_back(&self, lane: &Lane, to: Option<&Version>) -> Result<Way, Refused> {
        let newest = self.view.newest_in(&lane.policy.service, &lane.environment);
        let newest = newest.filter(|r| r.successor().is_none());
        match newest.map(|rollout| (rollout, turns(rollout))) {
            // It brings what was proven before to more hosts: whoever runs that goes back, not only those.
            Some((rollout, Ok(true))) if self.is_baseline(lane, rollout) => {
                self.planned_way(lane, None, to)
            }
            // An older rollout brought the same release elsewhere: this one undoes only what it did.
            Some((rollout, Ok(true))) if self.runs_beyond(lane, rollout, rollout.goes_back()) => {
                self.planned_way(lane, Some(rollout.release()), to)
            }
            Some((rollout, Ok(true))) if to.is_none() => Ok(Way::Turn(rollout.id().clone())),
            Some((rollout, Ok(true))) => Err(Refused::UnderWay(rollout.id().clone())),
            Some((_, Err(refusal))) => Err(Refused::Step(refusal)),
            Some((rollout, Ok(false))) => {
                let left = self.is_newer(lane, rollout) && self.still_runs(lane, rollout);
                let from = left.then(|| self.newest_on_as_many(lane, rollout.release()));
                self.planned_way(lane, from, to)
            }
            None => self.planned_way(lane, None, to),
        }
    }

    /// Whether hosts run the release of a rollout that is over, such as one that failed too often after its end; but
    /// for those that go back by it once they can.
    fn still_runs(&self, lane: &Lane, rollout: &Rollout) -> bool {
        let back = matches!(rollout.phase(), Phase::Done { outcome: Outcome::Reverted { .. }, .. });
        let reached = if back { rollout.goes_back() } else { Vec::new() };
        rollout.plan().off().is_none() && self.runs_beyond(lane, rollout, reached)
    }

    /// Whether other hosts than these run the release of a rollout.
    fn runs_beyond(&self, lane: &Lane, rollout: &Rollout, reached: Vec<HostId>) -> bool {
        let (release, service) = (rollout.release(), &lane.policy.service);
        let reached: BTreeSet<HostId> = reached.into_iter().collect();
        let mut hosts = self.view.hosts.iter().filter(|(_, host)| lane.has(host));
        hosts.any(|host| self.runs(host, service) == Some(release) && !reached.contains(host.0))
    }

    /// Whether a rollout brings what new hosts get.
    fn is_baseline(&self, lane: &Lane, rollout: &Rollout) -> bool {
        self.baseline_of(lane) == Some(rollout.release())
    }

    /// Whether a rollout brings something newer than what new hosts get: an older release that a person started is not
    /// what is left where the newer one runs as well.
    fn is_newer(&self, lane: &Lane, rollout: &Rollout) -> bool {
        self.place_of(Some(rollout.release())) > self.place_of(self.baseline_of(lane))
    }

    /// What new hosts get.
    fn baseline_of(&self, lane: &Lane) -> Option<ReleaseId> {
        let service = self.view.services.get(&lane.policy.service)?;
        self.view.baseline(service, &lane.environment)
    }

    /// A release, or what is newer and runs on as many hosts: a person may have started the older one since.
    fn newest_on_as_many(&self, lane: &Lane, release: ReleaseId) -> ReleaseId {
        let mut hosts: BTreeMap<ReleaseId, usize> = BTreeMap::new();
        let here = |host: &&Host| lane.has(host) && host.drained.is_none();
        for (id, host) in self.view.hosts.iter().filter(|(_, host)| here(host)) {
            if let Some(runs) = self.runs((id, host), &lane.policy.service) {
                *hosts.entry(runs).or_default() += 1;
            }
        }
        let least = hosts.get(&release).copied().unwrap_or(0);
        let as_many = hosts.into_iter().filter(|(_, count)| *count >= least).map(|(id, _)| id);
        as_many.chain([release]).max_by_key(|id| self.place_of(Some(*id))).unwrap_or(release)
    }

    /// A plan away from a release, or else from what [`Control::may_leave`] says first that leads anywhere.
    fn planned_way(
        &self,
        lane: &Lane,
        from: Option<ReleaseId>,
        to: Option<&Version>,
    ) -> Result<Way, Refused> {
        let leaving = match from {
            Some(release) => vec![release],
            None => self.may_leave(lane, to.is_some())?,
        };
        let leaving = leaving.iter().filter_map(|id| self.view.releases.get(id));
        let mut ways = leaving.map(|leaving| self.way_from(lane, leaving, to));
        let Some(first) = ways.next() else {
            return Err(Refused::NothingToLeave(lane.policy.service.clone()));
        };
        let leads = |way: &Result<Way, Refused>| matches!(way, Ok(Way::Plan { to: Some(_), .. }));
        if leads(&first) { first } else { ways.find(leads).unwrap_or(first) }
    }

    /// What may be left: what new hosts get, and whatever newer runs on a host that can be asked or on as many hosts,
    /// the newest first; where it is said whither, what most hosts run comes first.
    fn may_leave(&self, lane: &Lane, most_first: bool) -> Result<Vec<ReleaseId>, Refused> {
        let name = &lane.policy.service;
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let Some(baseline) = self.view.baseline(service, &lane.environment) else {
            return Ok(Vec::new());
        };
        let seq = |id: &ReleaseId| self.view.releases.get(id).map(|found| found.published.seq);
        // On how many hosts each runs, and whether one of them can be asked.
        let mut hosts = BTreeMap::from([(baseline, (0_usize, true))]);
        for (id, host) in self.view.hosts.iter().filter(|(_, host)| lane.has(host)) {
            let Some(runs) = self.runs((id, host), name) else { continue };
            let newer = host.drained.is_none() && seq(&runs) > seq(&baseline);
            if runs == baseline || newer {
                let (count, asked) = hosts.entry(runs).or_default();
                *count += 1;
                *asked |= self.is_connected(id);
            }
        }
        // Who is away goes back as it returns; but few of them do not stand before what new hosts get.
        let least = hosts.get(&baseline).map_or(0, |(count, _)| *count);
        hosts.retain(|_, (count, asked)| *asked || *count >= least);
        let order = hosts.into_iter().map(|(id, (count, _))| (id, count));
        let mut order: Vec<(ReleaseId, usize)> = order.collect();
        order.sort_by_key(|(id, hosts)| Reverse((if most_first { *hosts } else { 0 }, seq(id))));
        Ok(order.into_iter().map(|(id, _)| id).collect())
    }

    fn way_from(
        &self,
        lane: &Lane,
        leaving: &Release,
        to: Option<&Version>,
    ) -> Result<Way, Refused> {
        let name = &lane.policy.service;
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let release = |id: &ReleaseId| self.view.releases.get(id);
        if leaving.published.one_way {
            return Err(Refused::Step(Refusal::OneWay));
        }
        let older = |found: &&Release| found.published.seq < leaving.published.seq;
        let proven = self.view.proven_in(service, &lane.environment);
        let proven = proven.filter_map(|proven| release(&proven.release));
        let mut targets: Vec<&Release> = proven.filter(older).collect();
        targets.sort_by_key(|found| found.published.seq);
        let target = match to {
            None => targets.last().copied(),
            Some(version) => {
                let id = self.find_release(name, version.as_str())?;
                // What was completed once and cleared since is as good as it was.
                let good = |found: &&Release| {
                    let here = found.poisoned_in(&lane.environment).is_none();
                    here && found.was_completed_in(&lane.environment)
                };
                let known = || release(&id).filter(older).filter(good);
                let found = targets.iter().copied().find(|found| found.published.release == id);
                let found = found.or_else(known);
                let why = self.no_target(&id, (lane, leaving));
                Some(found.ok_or(Refused::NoTarget { version: version.clone(), why })?)
            }
        };
        let below = |found: &Release| found.published.seq < leaving.published.floor;
        if let Some(found) = target.filter(|found| below(found)) {
            let (version, why) = (found.published.version.clone(), "it is below the floor");
            return Err(Refused::NoTarget { version, why });
        }
        let to = target.map(|found| Box::new(found.clone()));
        Ok(Way::Plan { leaving: Box::new(leaving.clone()), to })
    }

    /// Why a release is nothing to go back to.
    fn no_target(&self, id: &ReleaseId, (lane, leaving): (&Lane, &Release)) -> &'static str {
        match self.view.releases.get(id) {
            Some(found) if found.published.seq == leaving.published.seq => "it is what runs",
            Some(found) if found.published.seq > leaving.published.seq => {
                match found.poisoned_in(&lane.environment) {
                    None => "it is newer than what runs; 'swell rollout start' brings it",
                    Some(_) => {
                        "it is newer than what runs, and poisoned; 'swell release clear', then 'swell rollout start' \
                         brings it"
                    }
                }
            }
            Some(found) if found.poisoned_in(&lane.environment).is_some() => {
                "it is poisoned; 'swell release clear' first"
            }
            Some(_) | None => "no rollout of it was completed",
        }
    }

    pub(crate) fn plan_back(
        &self,
        lane: &Lane,
        (leaving, to): (&Release, Option<&Release>),
        (by, why): (&OperatorName, &str),
    ) -> Result<Plan, Refused> {
        let (facts, _) = self.who_goes_back(lane, leaving, to);
        let to = to.map(|to| (to.published.release, to.published.version.clone()));
        let back = Back { to, by: by.clone(), why: why.to_owned(), off: None };
        let reference = self.reference(lane, leaving);
        plan_back(&lane.policy, &facts, &reference, back).map_err(Refused::Plan)
    }

    /// Hosts that run what is left, or may; and those that run something else and stay as they are.
    fn who_goes_back(
        &self,
        lane: &Lane,
        leaving: &Release,
        to: Option<&Release>,
    ) -> (Vec<HostFacts>, Vec<RevertOther>) {
        let service = &lane.policy.service;
        let left = leaving.published.release;
        let (mut goes, mut others) = (Vec::new(), Vec::new());
        for (id, host) in self.view.hosts.iter().filter(|(_, host)| lane.has(host)) {
            let standing = self.words.get(id).and_then(|word| word.standing(service));
            let runs = self.runs((id, host), service);
            // It may be on its way there, with a permit that nobody has heard of again.
            let wished = self.view.wish(service, id).map(|(wish, _)| wish.action);
            let works_on_it = wished == Some(Action::Switch { release: left })
                || standing.is_some_and(|standing| {
                    // In the middle of something else, it may come back to it.
                    let returns = !standing.state.is_at_rest() && standing.previous == Some(left);
                    standing.target == Some(left) || returns
                });
            let targeted = lane.policy.targets.matches(&host.labels);
            let unheard = standing.is_none() && runs.is_none() && targeted;
            if runs == Some(left) || works_on_it || unheard {
                let rests = standing.is_none_or(|standing| standing.state.is_at_rest());
                let running = runs.filter(|runs| *runs == left && rests);
                goes.push(HostFacts { running, ..self.host_facts((id, host), leaving) });
                continue;
            }
            let arrived = to.map(|to| to.published.release) == runs;
            if runs.is_some() && !arrived {
                let runs = runs.and_then(|runs| self.version(&runs));
                others.push(RevertOther { host: host.name.clone(), runs, why: None });
            }
        }
        others.sort_by(|a, b| a.host.cmp(&b.host));
        (goes, others)
    }

    /// What turning a rollout round would do.
    fn turn_preview(&self, lane: &Lane, rollout: &Rollout) -> RevertPreview {
        let goes = rollout.goes_back();
        let version = |id: &ReleaseId| self.version(id);
        let id_of = |host: &HostId| rollout.planned(host).and_then(|(_, host)| host.previous);
        let before: Vec<Option<ReleaseId>> = goes.iter().map(id_of).collect();
        let stops = before.iter().filter(|before| before.is_none()).count() as u64;
        let to = before.iter().flatten().next().copied();
        RevertPreview {
            service: lane.policy.service.clone(),
            environment: rollout.plan().environment.clone(),
            from: rollout.plan().release.version.clone(),
            to: to.as_ref().and_then(version),
            hosts: goes.len() as u64,
            stops,
            others: self.who_stays(lane, (rollout.release(), to), &goes),
        }
    }

    /// Hosts that have something else than what is left and what is gone back to, or will have: an older rollout
    /// brought it, or is still at it.
    fn who_stays(
        &self,
        lane: &Lane,
        (left, to): (ReleaseId, Option<ReleaseId>),
        goes: &[HostId],
    ) -> Vec<RevertOther> {
        let service = &lane.policy.service;
        let goes: BTreeSet<&HostId> = goes.iter().collect();
        let mut others = Vec::new();
        for (id, host) in
            self.view.hosts.iter().filter(|(id, host)| lane.has(host) && !goes.contains(id))
        {
            let standing = self.words.get(id).and_then(|word| word.standing(service));
            let at_work = standing.filter(|standing| standing.state.is_busy());
            let aims = at_work.and_then(|standing| standing.target).filter(|aims| *aims != left);
            let runs = self.runs((id, host), service);
            let Some(keeps) = aims.or(runs.filter(|_| to.is_some())) else { continue };
            if keeps == left || Some(keeps) == to {
                continue;
            }
            let runs = self.version(&keeps);
            let why = aims.zip(runs.clone()).map(|(_, version)| {
                format!("{version} is on its way there; 'swell revert {service}' after that takes it back as well")
            });
            others.push(RevertOther { host: host.name.clone(), runs, why });
        }
        others.sort_by(|a, b| a.host.cmp(&b.host));
        others
    }
}

/// Whether a revert of the service turns this rollout, its newest, round; otherwise it needs a plan of its own.
fn turns(rollout: &Rollout) -> Result<bool, Refusal> {
    match rollout.phase() {
        Phase::Planned => Err(Refusal::NotStarted),
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => Ok(true),
        Phase::Paused { resume, .. } | Phase::Halted { resume, .. } => match resume {
            Resumable::Running { .. } | Resumable::Baking { .. } | Resumable::Gated { .. } => {
                Ok(true)
            }
            Resumable::Reverting { .. } => Err(Refusal::Reverting),
            Resumable::Completed { .. } => Ok(false),
        },
        Phase::Reverting { down_to: 0, .. } => Err(Refusal::Reverting),
        Phase::Reverting { .. } => Ok(true),
        Phase::Done { outcome, .. } => Ok(match outcome {
            Outcome::Aborted { .. } => true,
            Outcome::Reverted { down_to, .. } => *down_to > 0,
            Outcome::Completed | Outcome::Superseded { .. } => false,
        }),
    }
}
