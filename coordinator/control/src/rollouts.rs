//! Planning and starting rollouts, and approvals.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::report::Verdict;
use groundswell_common::trust::{Approval, Envelope, Purpose, RoleKeys, verify};
use groundswell_common::{
    Digest, Environment, HostId, OperatorName, ReleaseId, RolloutId, ServiceName, Timestamp,
    Version,
};
use groundswell_rollout::{
    Busy, HostFacts, Input, Off, Phase, PhaseName, Plan, ReleaseRef, Rollout, WhenNewer, busy, plan,
};

use crate::control::Control;
use crate::entry::{By, What};
use crate::lanes::{self, Lane, Of};
use crate::present;
use crate::refused::Refused;
use crate::releases::read_policy;
use crate::view::{Held, Host, Past, Release};

/// Fewest digits of a plan's hash that name it.
const PLAN_DIGITS_MIN: usize = 8;

/// Why no rollout was planned by itself.
#[derive(Debug, thiserror::Error)]
pub enum Waiting {
    /// Planned by hand only.
    #[error("the policy says auto = false; start it with 'swell rollout start'")]
    ByHand,
    /// The newest release has been rolled out.
    #[error("the newest release has been rolled out before")]
    Rolled,
    /// It has not been well for long enough in the environment before.
    #[error("{version} soaks in {before} until {until}")]
    Soaks {
        /// Its version.
        version: Version,
        /// Where.
        before: Environment,
        /// Until when.
        until: Timestamp,
    },
    /// It is not well in the environment before.
    #[error(
        "{version} fails its probes on {hosts} of the hosts in {before}; see 'swell status'; it goes on when none does"
    )]
    Ill {
        /// Its version.
        version: Version,
        /// Where.
        before: Environment,
        /// On how many hosts.
        hosts: usize,
    },
    /// Nobody says how it is in the environment before.
    #[error(
        "no connected host in {before} says that it runs {version} well; it goes on when one does"
    )]
    Silent {
        /// Its version.
        version: Version,
        /// Where.
        before: Environment,
    },
    /// A person holds it back.
    #[error("{}", held_text(.service, .version, .held))]
    Held {
        /// Its service.
        service: ServiceName,
        /// Its version.
        version: Version,
        /// Until when, by whom and why.
        held: Box<Held>,
    },
    /// Another rollout comes first.
    #[error("rollout {0} comes first; it is planned when that is over")]
    Behind(RolloutId),
    /// It cannot be planned.
    #[error("{0}")]
    Refused(#[from] Refused),
}

impl Waiting {
    /// Whether people are told: not that nothing is new, and what is so in every service only where a release was to
    /// come from the environment before.
    pub(crate) fn is_told(&self, promoted: bool) -> bool {
        match self {
            Self::Soaks { .. } | Self::Ill { .. } | Self::Silent { .. } | Self::Held { .. } => true,
            Self::ByHand | Self::Behind(_) | Self::Refused(_) => promoted,
            Self::Rolled => false,
        }
    }
}

fn held_text(service: &ServiceName, version: &Version, held: &Held) -> String {
    let by = held.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let place = held.environment.as_ref().map(|name| format!(" --environment {name}"));
    let (place, why) = (place.unwrap_or_default(), &held.why);
    match held.until {
        Some(until) => format!(
            "{version} is held until {until}{by}: {why}; 'swell release cancel {service}@{version}{place} --why ...' \
             takes that back"
        ),
        None => format!(
            "{version} waits for a person{by}: {why}; 'swell rollout start {service} {version}{place}' starts it"
        ),
    }
}

/// Why a release whose turn it is was not planned.
#[derive(Clone, Debug)]
pub(crate) struct Hindrance {
    pub(crate) version: Version,
    /// Whether it stays so until a person acts.
    pub(crate) stands: bool,
    pub(crate) why: String,
}

/// What a person starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Version or id of the release.
    pub release: &'a str,
    /// The hash of the plan that was shown, or its first digits.
    pub plan: Option<&'a str>,
    /// Why it does not go through the environments before.
    pub skip: Option<&'a str>,
}

impl Control {
    /// Plans what comes next by itself in a lane, now or not yet.
    pub(crate) fn plan_next(
        &mut self,
        name: &ServiceName,
        lane: &Lane,
    ) -> Result<RolloutId, Waiting> {
        let key = (name.clone(), lane.environment.clone());
        self.hindered.remove(&key);
        let (release, skip) = self.next_release(name, lane)?;
        let planned = self.plan_release((name, lane), &release, skip.as_deref());
        if let Err(why) = &planned {
            let stands = matches!(why, Waiting::Refused(_));
            let version = release.published.version.clone();
            self.hindered.insert(key, Hindrance { version, stands, why: why.to_string() });
        }
        planned
    }

    fn plan_release(
        &mut self,
        (name, lane): (&ServiceName, &Lane),
        release: &Release,
        skip: Option<&str>,
    ) -> Result<RolloutId, Waiting> {
        let newest = self.view.newest_in(name, &lane.environment);
        if let Some(current) = newest.filter(|r| !r.is_over()) {
            let hotfix = release.published.hotfix;
            let there = self.view.releases.get(&current.release());
            let newer = there.is_some_and(|there| there.published.seq > release.published.seq);
            let waits = newer
                || match (current.phase().name(), lane.policy.when_newer) {
                    (PhaseName::Reverting, _) | (_, WhenNewer::Queue) => true,
                    (_, WhenNewer::Hotfix) => !hotfix,
                    (PhaseName::Paused, WhenNewer::Supersede) => true,
                    (
                        PhaseName::Planned
                        | PhaseName::Running
                        | PhaseName::Baking
                        | PhaseName::Gated
                        | PhaseName::Halted
                        | PhaseName::Done,
                        WhenNewer::Supersede,
                    ) => false,
                };
            if waits {
                return Err(Waiting::Behind(current.id().clone()));
            }
        }
        let plan = self.make_plan(lane, release).map_err(Waiting::Refused)?;
        self.begin(By::Coordinator, plan, skip).map_err(Waiting::Refused)
    }

    /// Plans what comes next in the first environment of a service.
    pub(crate) fn plan_newest(&mut self, name: &ServiceName) -> Result<RolloutId, Waiting> {
        let lane = self.lane_or_first((name, None))?;
        self.plan_next(name, &lane)
    }

    /// As [`Control::plan_next`], wherever something has changed that a release may have waited for;
    /// says what came of it, for the log.
    pub fn plan_waiting(&mut self) -> Vec<(ServiceName, Result<RolloutId, Waiting>)> {
        let mut planned = Vec::new();
        for name in std::mem::take(&mut self.waiting) {
            match self.lanes(&name) {
                Err(refused) => planned.push((name, Err(refused.into()))),
                Ok(lanes) => {
                    for lane in lanes {
                        planned.push((name.clone(), self.plan_next(&name, &lane)));
                    }
                }
            }
        }
        planned
    }

    /// Starts a rollout by hand.
    ///
    /// # Errors
    /// [`Refused`]: no policy, poisoned, below what runs, a rollout in the way, not through the environment
    /// before, or another plan by now than the one that was shown.
    pub fn start(
        &mut self,
        by: &OperatorName,
        of: Of<'_>,
        start: Start<'_>,
    ) -> Result<RolloutId, Refused> {
        let (name, lane) = (of.0, self.lane_or_first(of)?);
        let release = self.release_to_plan((name, &lane), Some(start.release))?;
        if let Some(current) = self.view.newest_in(name, &lane.environment) {
            match current.phase().name() {
                PhaseName::Reverting | PhaseName::Paused => {
                    return Err(Refused::Busy(current.id().clone()));
                }
                PhaseName::Planned
                | PhaseName::Running
                | PhaseName::Baking
                | PhaseName::Gated
                | PhaseName::Halted
                | PhaseName::Done => {}
            }
            let newest = self.view.releases.get(&current.release()).map(|found| &found.published);
            let newer = newest.filter(|newest| release.published.seq < newest.seq);
            if let Some(newest) = newer.filter(|_| current.is_proven()) {
                return Err(Refused::GoesDown {
                    service: name.clone(),
                    version: release.published.version.clone(),
                    newest: newest.version.clone(),
                });
            }
        }
        if start.skip.is_none() {
            self.may_start(name, (&lane, &release))?;
        }
        let plan = self.make_plan(&lane, &release)?;
        if let Some(shown) = start.plan {
            let now = plan.hash();
            if shown.len() < PLAN_DIGITS_MIN || !now.to_string().starts_with(shown) {
                let shown = shown.chars().take(64).collect();
                return Err(Refused::OtherPlan { shown, now });
            }
        }
        let skip = start.skip.filter(|_| !lane.before.is_empty());
        self.begin(By::Operator(by.clone()), plan, skip)
    }

    /// The plan that would run now.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn preview(
        &self,
        of: Of<'_>,
        (release, policy): (Option<&str>, Option<&str>),
    ) -> Result<Plan, Refused> {
        let lane = match policy {
            None => self.lane_or_first(of)?,
            Some(text) => lanes::first(of.0, Lane::each(&read_policy(of.0, text)?), of.1)?,
        };
        let release = self.release_to_plan((of.0, &lane), release)?;
        self.make_plan(&lane, &release)
    }

    /// The release to plan: the one named by id or version, or the newest. Never a poisoned one.
    pub(crate) fn release_to_plan(
        &self,
        (name, lane): (&ServiceName, &Lane),
        text: Option<&str>,
    ) -> Result<Release, Refused> {
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let release = match text {
            None => service.newest().ok_or_else(|| Refused::NoRelease(name.clone()))?,
            Some(text) => self.find_release(name, text)?,
        };
        let found = self.view.releases.get(&release);
        let found = found.ok_or_else(|| Refused::UnknownRelease(release.to_string()))?;
        self.refuse_poisoned(name, (found, lane))?;
        Ok(found.clone())
    }

    /// A release of a service by id or version.
    ///
    /// # Errors
    /// [`Refused::UnknownRelease`].
    pub fn find_release(&self, name: &ServiceName, text: &str) -> Result<ReleaseId, Refused> {
        let unknown = || Refused::UnknownRelease(text.chars().take(128).collect());
        let service = self.view.services.get(name).ok_or_else(unknown)?;
        let is_it = |id: &&ReleaseId| {
            let version = self.view.releases.get(*id).map(|r| r.published.version.as_str());
            version == Some(text) || id.to_string() == text
        };
        service.releases.iter().find(is_it).copied().ok_or_else(unknown)
    }

    pub(crate) fn make_plan(&self, lane: &Lane, release: &Release) -> Result<Plan, Refused> {
        let policy = &lane.policy;
        let hosts = self.view.hosts.iter().filter(|(_, host)| lane.has(host));
        let facts: Vec<HostFacts> = hosts.map(|host| self.host_facts(host, release)).collect();
        if facts.is_empty() && !self.view.hosts.is_empty() {
            return Err(Refused::NoHostIn(self.no_host_in(&lane.environment)));
        }
        let reference = self.reference(lane, release);
        let seed = Digest::of(release.published.release.digest().as_bytes());
        plan(policy, &facts, &reference, &seed).map_err(Refused::Plan)
    }

    /// What a host runs by its own word; of one that has not spoken since a restart, what it ran last.
    pub(crate) fn runs(
        &self,
        (id, host): (&HostId, &Host),
        service: &ServiceName,
    ) -> Option<ReleaseId> {
        match self.words.get(id).and_then(|word| word.standing(service)) {
            Some(standing) => standing.running,
            None => host.runs.get(service).copied(),
        }
    }

    /// What the planner is told of a host.
    pub(crate) fn host_facts(&self, (id, host): (&HostId, &Host), release: &Release) -> HostFacts {
        let (service, planned) = (&release.published.service, release.published.release);
        let service_of = self.view.services.get(service);
        let proven =
            service_of.into_iter().flat_map(|of| self.view.proven_in(of, &host.environment).rev());
        let fallback = proven.map(|proven| proven.release).find(|proven| *proven != planned);
        let standing = self.words.get(id).and_then(|word| word.standing(service));
        // What is not committed yet may fail, and is nothing to go back to: of a host in the middle of a switch
        // nobody knows what it ends with.
        let unsure = standing.filter(|standing| !standing.state.is_at_rest());
        let running = match unsure.and_then(|standing| standing.running) {
            Some(_) => fallback,
            None => self.runs((id, host), service),
        };
        let runs = running.and_then(|release| self.view.releases.get(&release));
        let runs = runs.map(|runs| &runs.published);
        let newer = runs.filter(|runs| runs.seq > release.published.seq);
        let past = host.past.get(service);
        HostFacts {
            running,
            usual_secs: past.and_then(Past::usual_secs),
            failures_in_a_row: past.map_or(0, Past::failures_in_a_row),
            failed_before: past.is_some_and(|past| past.has_failed(&planned)),
            fallback,
            connected: self.is_connected(id),
            ill: standing.is_some_and(|standing| standing.health == Verdict::Fail),
            running_seq: runs.map_or(0, |runs| runs.seq),
            newer: newer.map(|runs| runs.version.clone()),
            lacks: self.lacks(id, &release.published),
            ..HostFacts::new(*id, host.name.clone(), host.labels.clone())
        }
    }

    /// The release as a plan names it.
    pub(crate) fn reference(&self, lane: &Lane, release: &Release) -> ReleaseRef {
        let published = &release.published;
        ReleaseRef {
            one_way: published.one_way,
            requires: published.requires.clone(),
            barrier: self.barrier_before(lane, published.seq),
            authors: release.by.operator().into_iter().collect(),
            ..ReleaseRef::new(published.release, published.version.clone())
        }
    }

    /// The newest barrier below `seq` that may be run: its place and version.
    fn barrier_before(&self, lane: &Lane, seq: u64) -> Option<(u64, Version)> {
        let service = self.view.services.get(&lane.policy.service);
        let may_run = |found: &&Release| found.poisoned_in(&lane.environment).is_none();
        let releases = service.map(|service| &service.releases);
        releases
            .into_iter()
            .flatten()
            .filter_map(|id| self.view.releases.get(id))
            .filter(|release| release.published.barrier)
            .filter(may_run)
            .map(|release| (release.published.seq, release.published.version.clone()))
            .filter(|(barrier, _)| *barrier < seq)
            .max_by_key(|(barrier, _)| *barrier)
    }

    /// The rollouts that a plan takes over from: the one before in its environment; in every one, where it takes the
    /// service off everyone; and none where it takes it off hosts that nothing targets, for the others go on.
    ///
    /// # Errors
    /// [`Refused::Busy`]: what speaks for every environment is not ended by what comes to one of several.
    fn before(&self, plan: &Plan, id: Option<&RolloutId>) -> Result<Vec<&Rollout>, Refused> {
        let service = &plan.service;
        let all = self.lanes(service).unwrap_or_default();
        let one_of_several = plan.environment.is_some() && all.len() > 1;
        let lanes = match plan.off() {
            None => vec![plan.lane()],
            Some(Off::Everyone) => all.into_iter().map(|lane| lane.environment).collect(),
            Some(Off::LeftOver) => Vec::new(),
        };
        let newest = lanes.iter().filter_map(|lane| self.view.newest_but(service, lane, id));
        let mut before: Vec<&Rollout> = Vec::new();
        for rollout in newest {
            match one_of_several && rollout.plan().environment.is_none() {
                true if rollout.is_over() => {}
                true => return Err(Refused::Busy(rollout.id().clone())),
                false if rollout.successor().is_none_or(|by| Some(by) == id) => {
                    before.push(rollout)
                }
                false => {}
            }
        }
        before.dedup_by_key(|rollout| rollout.id().clone());
        Ok(before)
    }

    /// Takes over from the rollout before in the plan's environment, and starts.
    pub(crate) fn begin(
        &mut self,
        by: By,
        plan: Plan,
        skip: Option<&str>,
    ) -> Result<RolloutId, Refused> {
        // What is refused is refused before there is an entry.
        let before = self.before(&plan, None)?;
        let left_out = self.left_out(&plan, &before);
        let id = rollout_id(&plan.service, self.view.rollouts_planned + 1)?;
        let what = What::RolloutPlanned {
            rollout: id.clone(),
            plan: Box::new(plan),
            skip: skip.map(ToOwned::to_owned),
        };
        self.submit(by, what)?;
        self.set_off(&id, left_out)?;
        Ok(id)
    }

    /// Hosts that use a slot of a rollout which is archived now, since the one after it, which left them out, is not
    /// the newest any more either; also where several left them out, as far as this process knows.
    fn left_out(&self, plan: &Plan, before: &[&Rollout]) -> Vec<Busy> {
        let lane = plan.lane();
        let service = self.view.services.get(&plan.service).filter(|_| !before.is_empty());
        let Some(service) = service else { return Vec::new() };
        let speaking = self.view.speaking(service, &lane);
        let older =
            speaking.filter(|rollout| before.iter().all(|newer| newer.id() != rollout.id()));
        let found = older.flat_map(|rollout| busy(rollout, self.now));
        let of_it = self.passed_over.iter().filter(|((name, _), _)| *name == plan.service);
        let of_it = of_it.map(|((_, host), until)| Busy { host: *host, until: *until });
        let mut users: BTreeMap<HostId, Busy> =
            of_it.filter(|user| user.until > self.now).map(|user| (user.host, user)).collect();
        users.extend(found.map(|user| (user.host, user)));
        users.retain(|host, _| before.iter().all(|newer| newer.host(host).is_none()));
        users.into_values().collect()
    }

    /// Starts a rollout that is planned, in place of those before it.
    fn set_off(&mut self, id: &RolloutId, left_out: Vec<Busy>) -> Result<(), Refused> {
        let planned = self.view.rollout(id).ok_or_else(|| Refused::UnknownRollout(id.clone()))?;
        let plan = planned.plan();
        let before = self.before(plan, Some(id))?;
        let now = self.now;
        let hosts = || plan.waves.iter().flat_map(|wave| &wave.hosts).map(|host| host.id);
        let planned: BTreeSet<HostId> = hosts().collect();
        let users = before.iter().flat_map(|rollout| busy(rollout, now)).chain(left_out);
        let (busy, passed): (Vec<Busy>, Vec<Busy>) =
            users.partition(|user| planned.contains(&user.host));
        let passed = passed.into_iter().map(|user| ((plan.service.clone(), user.host), user.until));
        let passed: Vec<((ServiceName, HostId), Timestamp)> = passed.collect();
        let away = hosts().filter(|host| !self.is_connected(host)).collect();
        let stands = before.into_iter().filter(|rollout| rollout.successor().is_none());
        let stands: Vec<RolloutId> = stands.map(|rollout| rollout.id().clone()).collect();
        for before in stands {
            let input = Input::Supersede { by: id.clone() };
            self.submit_or_note(By::Coordinator, &before, input);
        }
        self.passed_over.retain(|_, until| *until > now);
        self.passed_over.extend(passed);
        self.rollout_input(By::Coordinator, id, Input::Start { away, busy })?;
        self.facts_known(id);
        Ok(())
    }

    /// Starts what was planned just before the end of the process, of which nothing more became durable.
    pub(crate) fn start_planned(&mut self) {
        let planned = self.view.live_rollouts().filter(|rollout| {
            rollout.phase().name() == PhaseName::Planned && rollout.successor().is_none()
        });
        let planned: Vec<RolloutId> = planned.map(|rollout| rollout.id().clone()).collect();
        for id in planned {
            if let Err(refused) = self.set_off(&id, Vec::new()) {
                self.refusals.push((id.to_string(), refused));
            }
        }
    }

    /// Feeds a new rollout what its hosts have said already.
    fn facts_known(&mut self, id: &RolloutId) {
        let Some(rollout) = self.view.rollout(id) else { return };
        let service = rollout.plan().service.clone();
        let known: Vec<(HostId, groundswell_rollout::HostFact)> = rollout
            .hosts()
            .filter(|(_, host, _)| self.is_connected(&host.id))
            .filter_map(|(_, host, _)| {
                let word = self.words.get(&host.id)?;
                let accepted = word.report.as_ref()?.generation;
                let standing = word.standing(&service)?;
                let fact = groundswell_rollout::fact(rollout, &host.id, standing, accepted)?;
                Some((host.id, fact))
            })
            .collect();
        for (host, fact) in known {
            self.submit_or_note(By::Host(host), id, Input::Host { host, fact });
        }
    }

    /// Takes a person's signed approval of a plan.
    ///
    /// # Errors
    /// [`Refused::Approval`] with what does not fit; [`Refused::Step`].
    pub fn approve(
        &mut self,
        by: &OperatorName,
        id: &RolloutId,
        envelope: &Envelope,
    ) -> Result<(), Refused> {
        let rollout = self.view.rollout(id).ok_or_else(|| Refused::UnknownRollout(id.clone()))?;
        let approval = self.check_approval(by, rollout, envelope)?;
        let (release, wave) = (rollout.release(), approval.wave);
        let plan = rollout.plan_hash();
        let covered = self.environments_left(by, rollout, &approval)?.is_empty();
        let (rollout, envelope) = (id.clone(), envelope.clone());
        let by_whom = By::Operator(by.clone());
        if covered {
            // The step first: a refused approval must leave nothing behind.
            let input = Input::Approve { by: by.clone(), plan, wave };
            self.rollout_input(by_whom.clone(), id, input)?;
        }
        self.submit(by_whom, What::ApprovalSigned { rollout, release, envelope }).map(drop)
    }

    fn check_approval(
        &self,
        by: &OperatorName,
        rollout: &Rollout,
        envelope: &Envelope,
    ) -> Result<Approval, Refused> {
        let refuse = |why| Err(Refused::Approval(why));
        let Some(person) = self.view.operators.get(by) else {
            return refuse("the person is not known");
        };
        let keys = RoleKeys { keys: [person.key].into(), threshold: 1 };
        let Ok(approval) = verify::<Approval>(envelope, &keys) else {
            return refuse("it is not signed by the key of the person who sends it");
        };
        let now = self.now.as_secs();
        let environments = present::environments(&self.view, rollout.plan());
        if approval.purpose != Purpose::Deploy {
            return refuse("its purpose is not deploy");
        }
        if approval.release != rollout.release() || approval.service != rollout.plan().service {
            return refuse("it is of another release or service");
        }
        if approval.plan != rollout.plan_hash() {
            return refuse("it is of another plan");
        }
        if !(approval.not_before..=approval.not_after).contains(&now) {
            return refuse("its time has not come or is over");
        }
        if !environments.contains(&approval.environment) {
            return refuse("no host of the plan is in its environment");
        }
        let meant = |at: u32| approval.wave.is_none_or(|only| only == at) && !rollout.is_open(at);
        let asks = rollout.plan().waves.iter().zip(0_u32..).filter(|(_, at)| meant(*at));
        if asks.filter_map(|(wave, _)| wave.gate.role).any(|role| role != person.role) {
            return refuse("a gate asks for a person of another role");
        }
        if let (Some(wave), Phase::Gated { wave: gated, .. }) = (approval.wave, rollout.phase())
            && wave != *gated
        {
            return refuse("it is for another wave");
        }
        Ok(approval.get().clone())
    }

    /// Environments of the plan for which this person has not signed yet, this approval counted.
    fn environments_left(
        &self,
        by: &OperatorName,
        rollout: &Rollout,
        approval: &Approval,
    ) -> Result<Vec<Environment>, Refused> {
        let mut left = present::environments(&self.view, rollout.plan());
        left.retain(|environment| *environment != approval.environment);
        let release = self.view.releases.get(&rollout.release());
        for envelope in release.map(|release| &release.approvals).into_iter().flatten() {
            if left.is_empty() {
                break;
            }
            if let Ok(before) = self.check_approval(by, rollout, envelope)
                && (before.wave.is_none() || before.wave == approval.wave)
            {
                left.retain(|environment| *environment != before.environment);
            }
        }
        Ok(left)
    }
}

/// SERVICE-NUMBER; the number is the fleet's, so that a shortened service name stays unique.
fn rollout_id(service: &ServiceName, number: u64) -> Result<RolloutId, Refused> {
    let short: String = service.as_str().chars().take(42).collect();
    let text = format!("{}-{number}", short.trim_end_matches('-'));
    text.parse().map_err(|_| Refused::UnknownService(service.clone()))
}
