//! The form of the view and the questions that it answers by itself. Changed by `apply` only.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::api::{OperatorRole, RolloutSummary};
use groundswell_common::directive::{Action, ServiceWish};
use groundswell_common::name::{AGENT_SERVICE, DEFAULT_ENVIRONMENT};
use groundswell_common::selector::Selector;
use groundswell_common::trust::{Envelope, PublicKey};
use groundswell_common::wire::LEVEL_REMOVES;
use groundswell_common::{
    Digest, Environment, Fleet, HostId, HostName, Labels, OperatorName, ReleaseId, RolloutId,
    ServiceName, Timestamp,
};
use groundswell_rollout::{
    HostEntry, Off, Outcome, Phase, Policy, Progress, Rollout, SkipReason, Skipped, desired,
    generation,
};
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::past::Past;
use super::records::Key;
use crate::entry::{By, Published};

/// Rollouts of a service that are kept whole in each environment.
pub(super) const LIVE_ROLLOUTS_PER_LANE: usize = 2;
/// Rollouts of a service that the view lists; older ones are in the ledger only.
pub(super) const ROLLOUTS_LISTED_PER_SERVICE: usize = 100;
/// Completed releases of a service in an environment that a revert can fall back on.
pub(super) const PROVEN_MAX: usize = 16;

/// What the entries add up to.
#[derive(Debug, Default)]
pub struct View {
    /// The newest entry folded in.
    pub seq: u64,
    /// Its time.
    pub at: Option<Timestamp>,
    /// The fleet; `None` before the first entry.
    pub fleet: Option<Fleet>,
    /// Rollouts planned so far: the next one's number, less one.
    pub rollouts_planned: u64,
    /// Who may use the API.
    pub operators: BTreeMap<OperatorName, Operator>,
    /// Tokens by the digest of their secret.
    pub tokens: BTreeMap<Digest, Token>,
    /// Enrolled hosts.
    pub hosts: BTreeMap<HostId, Host>,
    /// Their names.
    pub host_names: BTreeMap<HostName, HostId>,
    /// Services, by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Releases.
    pub releases: BTreeMap<ReleaseId, Release>,
    /// Rollouts.
    pub rollouts: BTreeMap<RolloutId, RolloutRecord>,
    /// Where hosts reach the coordinator; `None` before it was told for the first time.
    pub addresses: Option<Addresses>,
    /// What is added to the number of an entry for the number of a wish: more than 0 once a ledger was put back.
    pub lift: u64,
    /// Records that changed since they were last taken for the store.
    pub dirty: BTreeSet<Key>,
}

/// A person or a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// What they may do.
    pub role: OperatorRole,
    /// The key of their certificate.
    pub key: PublicKey,
    /// When they got it; `None` in a record of a build that did not keep it.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

/// One enrolment token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Labels of the host.
    pub labels: Labels,
    /// Environment of the host.
    pub environment: Environment,
    /// Seconds UTC after which it is refused.
    pub expires: u64,
    /// The host that used it.
    pub used_by: Option<HostId>,
}

/// One enrolled host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// What people call it.
    pub name: HostName,
    /// Its key.
    pub key: PublicKey,
    /// Its labels.
    pub labels: Labels,
    /// Its environment.
    pub environment: Environment,
    /// When it was enrolled.
    pub enrolled: Timestamp,
    /// The entry that enrolled it.
    pub seq: u64,
    /// What it did with releases before, by service.
    #[serde(default)]
    pub past: BTreeMap<ServiceName, Past>,
    /// The release that it ran of each service when it was heard of last.
    #[serde(default)]
    pub runs: BTreeMap<ServiceName, ReleaseId>,
    /// The reason that an operator gave for taking it out of all rollouts.
    #[serde(default)]
    pub drained: Option<String>,
    /// What its agent understands: a level of the wire protocol.
    #[serde(default)]
    pub level: u8,
    /// The entry that gave it its name, where that is not the one that enrolled it.
    #[serde(default)]
    pub renamed: u64,
}

/// Where hosts reach the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The entry that says so.
    pub seq: u64,
    /// `HOST:PORT` for agents, the one to try first in front.
    pub agents: Vec<String>,
    /// `HOST:PORT` of the API, likewise.
    pub api: Vec<String>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// What its admin wants.
    pub policy: Option<PolicyRecord>,
    /// Its releases, by their `seq`.
    pub releases: Vec<ReleaseId>,
    /// Releases whose rollout completed, the newest last.
    pub proven: Vec<Proven>,
    /// Its rollouts, the newest last.
    pub rollouts: Vec<RolloutId>,
    /// Those of its rollouts that are kept whole, the newest last.
    #[serde(skip)]
    pub live: Vec<RolloutId>,
    /// The newest entry that changed what hosts without a rollout should run.
    pub wish_seq: u64,
    /// Releases that a person holds back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<Held>,
}

/// A release that starts in an environment at a time, or when a person starts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The release.
    pub release: ReleaseId,
    /// The environment; `None` for the first.
    pub environment: Option<Environment>,
    /// When it starts; `None` for when a person starts it.
    pub until: Option<Timestamp>,
    /// Who holds it.
    pub by: Option<OperatorName>,
    /// Why it will not go through the environments before, where a person skips them.
    pub skip: Option<String>,
    /// The reason given.
    pub why: String,
}

impl Held {
    /// Whether it holds the release in an environment, which is the first or not.
    #[must_use]
    pub fn is_in(&self, environment: &Environment, first: bool) -> bool {
        self.environment.as_ref().map_or(first, |held| held == environment)
    }
}

/// A policy as it was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The TOML text.
    pub text: String,
    /// The same, parsed, for its first environment.
    pub policy: Policy,
    /// The same for the environments behind it, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<Policy>,
    /// Whether it takes hosts of its environments only. A policy from before there were environments takes all.
    #[serde(default)]
    pub separates: bool,
    /// The targets that a policy before this one had, where they were others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub was: Vec<(Environment, Selector)>,
}

/// A release whose rollout completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The release.
    pub release: ReleaseId,
    /// The environment; `None` for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The entry with which it completed.
    pub seq: u64,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// One release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// As it was published.
    pub published: Published,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: By,
    /// Why it must not be rolled out anywhere, if so.
    pub poisoned: Option<String>,
    /// Environments in which a person took it back; `None` for every one.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub taken_back: BTreeSet<Option<Environment>>,
    /// Whether a rollout of it was ever planned where the policy had no sections.
    pub rolled: bool,
    /// What became of it in each environment of a policy with sections.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lanes: BTreeMap<Environment, Fate>,
    /// Environments in which a rollout of it was completed, whatever became of it since; `None` for all of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub completed: BTreeSet<Option<Environment>>,
    /// Approvals that go to the hosts with it, the newest last.
    pub approvals: Vec<Envelope>,
}

/// What became of a release in one environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Why it must not be rolled out there, if so.
    pub poisoned: Option<String>,
    /// Whether a rollout of it was ever planned there.
    pub rolled: bool,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// When it was planned.
    pub planned: Timestamp,
    /// When its phase last changed.
    pub changed: Timestamp,
    /// Why it does not go through the environments before, where a person skipped them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<String>,
    /// Whether its release was poisoned by it, or cleared since: what its hosts say later does not poison it again.
    #[serde(default)]
    pub judged: bool,
    /// The hosts that failed in it.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    pub evidence: Evidence,
    /// The machine itself, or what is left of it.
    pub body: RolloutBody,
}

/// A rollout as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutBody {
    /// One of the newest of its service.
    Live(Box<Rollout>),
    /// An older one: only what lists show.
    Archived(Box<RolloutSummary>),
}

impl RolloutRecord {
    /// The machine, where it is still kept.
    #[must_use]
    pub fn live(&self) -> Option<&Rollout> {
        match &self.body {
            RolloutBody::Live(rollout) => Some(rollout),
            RolloutBody::Archived(_) => None,
        }
    }
}

impl PolicyRecord {
    /// Whether an environment is its first.
    #[must_use]
    pub fn begins_in(&self, environment: &Environment) -> bool {
        self.policy.environment_or_default() == *environment
    }

    /// Its environments, in order.
    pub fn environments(&self) -> impl DoubleEndedIterator<Item = &Policy> {
        std::iter::once(&self.policy).chain(&self.behind)
    }

    /// Keeps the targets that its predecessor had in the same environment, or else those before.
    pub(super) fn comes_after(&mut self, before: &Self) {
        let was = |policy: &Policy| {
            let lane = policy.environment_or_default();
            let targets = &before
                .environments()
                .find(|before| before.environment_or_default() == lane)?
                .targets;
            let older =
                || before.was.iter().find(|(of, _)| *of == lane).map(|(_, was)| was.clone());
            let was = if *targets == policy.targets { older()? } else { targets.clone() };
            Some((lane, was))
        };
        self.was = self.environments().filter_map(was).collect();
    }

    /// The policy for hosts of an environment; `None` where they get nothing.
    #[must_use]
    pub fn of(&self, environment: &Environment) -> Option<&Policy> {
        if !self.separates {
            return Some(&self.policy);
        }
        self.environments().find(|policy| match &policy.environment {
            Some(name) => name == environment,
            None => environment.as_str() == DEFAULT_ENVIRONMENT,
        })
    }
}

/// Whether what carries the name `of` speaks for an environment: what carries none speaks for all.
pub(crate) fn speaks_for(of: Option<&Environment>, environment: &Environment) -> bool {
    of.is_none_or(|of| of == environment)
}

/// Whether hosts go back by a rollout, or have, and nobody has stopped or ended that.
fn goes_back(rollout: &Rollout) -> bool {
    match rollout.phase() {
        Phase::Reverting { .. } => true,
        Phase::Done { outcome, .. } => matches!(outcome, Outcome::Reverted { .. }),
        Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. } => false,
    }
}

impl Release {
    /// Why it must not be rolled out in an environment, if so.
    #[must_use]
    pub fn poisoned_in(&self, environment: &Environment) -> Option<&String> {
        let here = || self.lanes.get(environment).and_then(|fate| fate.poisoned.as_ref());
        self.poisoned.as_ref().or_else(here)
    }

    /// Whether a rollout of it was completed in an environment.
    pub(crate) fn was_completed_in(&self, environment: &Environment) -> bool {
        self.completed.iter().any(|of| speaks_for(of.as_ref(), environment))
    }

    /// Whether a person took it back in an environment.
    pub(crate) fn is_taken_back(&self, environment: &Environment) -> bool {
        self.taken_back.iter().any(|of| speaks_for(of.as_ref(), environment))
    }

    /// Whether it must not be rolled out in some environment.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some() || self.lanes.values().any(|fate| fate.poisoned.is_some())
    }

    /// Whether a rollout of it was ever planned in an environment.
    #[must_use]
    pub fn rolled_in(&self, environment: &Environment) -> bool {
        self.rolled || self.lanes.get(environment).is_some_and(|fate| fate.rolled)
    }

    /// It must not be rolled out in an environment; with `None`, in any.
    pub(super) fn poison(&mut self, environment: Option<&Environment>, why: String) {
        let poisoned = match environment {
            None => &mut self.poisoned,
            Some(name) => &mut self.lanes.entry(name.clone()).or_default().poisoned,
        };
        poisoned.get_or_insert(why);
    }

    /// It may be rolled out in an environment again, and stays poisoned in the others of `all`; with `None`, in all.
    pub(super) fn absolve(
        &mut self,
        environment: Option<&Environment>,
        all: &BTreeSet<Environment>,
    ) {
        let everywhere = self.poisoned.take();
        for name in all.iter().filter(|_| environment.is_some()) {
            if let Some(why) = &everywhere {
                self.poison(Some(name), why.clone());
            }
        }
        for (_, fate) in self.lanes.iter_mut().filter(|(name, _)| speaks_for(environment, name)) {
            fate.poisoned = None;
        }
        let all_taken_back = self.taken_back.remove(&None);
        let Some(here) = environment else { return self.taken_back.clear() };
        if all_taken_back {
            self.taken_back.extend(all.iter().cloned().map(Some));
        }
        self.taken_back.remove(&Some(here.clone()));
    }

    /// A rollout of it was planned in an environment, which comes after those in `before`. What was taken off
    /// everywhere is news again in those behind it.
    pub(super) fn roll<'a>(
        &mut self,
        environment: Option<&'a Environment>,
        before: impl Iterator<Item = &'a Environment>,
    ) {
        let Some(environment) = environment else { return self.rolled = true };
        let here = [environment].into_iter();
        let rolled: Vec<&Environment> = match std::mem::take(&mut self.rolled) {
            true => here.chain(before).collect(),
            false => here.collect(),
        };
        for name in rolled {
            self.lanes.entry(name.clone()).or_default().rolled = true;
        }
    }

    /// Nothing brings it by itself any more, until a person starts it.
    pub(super) fn put_away(&mut self) {
        self.rolled = true;
        self.lanes.values_mut().for_each(|fate| fate.rolled = false);
    }
}

impl Service {
    /// Takes out what is proven of a release in an environment, or with `None` in all; the newest of that. What is
    /// proven for all stays so for the others of `all`.
    pub(super) fn take_proven(
        &mut self,
        release: ReleaseId,
        environment: Option<&Environment>,
        all: &BTreeSet<Environment>,
    ) -> Option<Proven> {
        let mut taken = None;
        for proven in std::mem::take(&mut self.proven) {
            let is_it = proven.release == release;
            match (&proven.environment, environment) {
                _ if !is_it => self.proven.push(proven),
                (None, Some(_)) => {
                    let others = all.iter().filter(|name| Some(*name) != environment);
                    let each = others
                        .map(|name| Proven { environment: Some(name.clone()), ..proven.clone() });
                    self.proven.extend(each);
                    taken = Some(proven);
                }
                (of, _) if environment.is_none() || of.as_ref() == environment => {
                    taken = Some(proven);
                }
                _ => self.proven.push(proven),
            }
        }
        taken
    }

    /// Its policy for hosts of an environment.
    #[must_use]
    pub fn policy_of(&self, environment: &Environment) -> Option<&Policy> {
        self.policy.as_ref()?.of(environment)
    }

    /// Whether a host is one of its targets: by its environment and its labels.
    #[must_use]
    pub fn targets(&self, host: &Host) -> bool {
        self.policy_of(&host.environment).is_some_and(|policy| policy.targets.matches(&host.labels))
    }

    /// The release with the highest `seq`.
    #[must_use]
    pub fn newest(&self) -> Option<ReleaseId> {
        self.releases.last().copied()
    }
}

impl View {
    /// What is proven of a service in an environment and not poisoned there, the newest last.
    pub fn proven_in<'a>(
        &'a self,
        service: &'a Service,
        environment: &'a Environment,
    ) -> impl DoubleEndedIterator<Item = &'a Proven> {
        let poisoned = |proven: &Proven| {
            let found = self.releases.get(&proven.release);
            found.is_some_and(|found| found.poisoned_in(environment).is_some())
        };
        let here = |proven: &&Proven| speaks_for(proven.environment.as_ref(), environment);
        service.proven.iter().filter(here).filter(move |proven| !poisoned(proven))
    }

    /// The release that new hosts of an environment get.
    #[must_use]
    pub fn baseline(&self, service: &Service, environment: &Environment) -> Option<ReleaseId> {
        self.proven_in(service, environment).next_back().map(|proven| proven.release)
    }

    /// The environments of a service's policy and of all hosts, where something is said of a release for all of them
    /// and now otherwise of one; else none, as nothing has to be told apart.
    pub(super) fn told_apart(
        &self,
        service: &ServiceName,
        release: &ReleaseId,
        one: Option<&Environment>,
    ) -> BTreeSet<Environment> {
        let of_all = |found: &Service| {
            found.proven.iter().any(|it| it.release == *release && it.environment.is_none())
        };
        let found = self.releases.get(release);
        let said =
            found.is_some_and(|found| found.poisoned.is_some() || found.taken_back.contains(&None));
        if one.is_none() || !(said || self.services.get(service).is_some_and(of_all)) {
            return BTreeSet::new();
        }
        let policy = self.services.get(service).and_then(|service| service.policy.as_ref());
        let named = policy
            .into_iter()
            .flat_map(PolicyRecord::environments)
            .map(Policy::environment_or_default);
        named.chain(self.hosts.values().map(|host| host.environment.clone())).collect()
    }

    /// The machine of a rollout, where it is still kept.
    #[must_use]
    pub fn rollout(&self, id: &RolloutId) -> Option<&Rollout> {
        self.rollouts.get(id).and_then(RolloutRecord::live)
    }

    /// The newest rollout of a service.
    #[must_use]
    pub fn newest_rollout(&self, service: &ServiceName) -> Option<&Rollout> {
        let id = self.services.get(service)?.rollouts.last()?;
        self.rollout(id)
    }

    /// The newest rollout of a service in an environment, but for those that take it off hosts that are no targets.
    #[must_use]
    pub fn newest_in(&self, service: &ServiceName, environment: &Environment) -> Option<&Rollout> {
        self.newest_of(self.services.get(service)?, environment, None)
    }

    /// As [`View::newest_in`], beside one that is planned.
    pub(crate) fn newest_but(
        &self,
        service: &ServiceName,
        environment: &Environment,
        planned: Option<&RolloutId>,
    ) -> Option<&Rollout> {
        self.newest_of(self.services.get(service)?, environment, planned)
    }

    fn newest_of(
        &self,
        service: &Service,
        environment: &Environment,
        but: Option<&RolloutId>,
    ) -> Option<&Rollout> {
        let mut speaking = self.speaking(service, environment);
        let left_over = |rollout: &Rollout| rollout.plan().off() == Some(Off::LeftOver);
        speaking.find(|rollout| !left_over(rollout) && Some(rollout.id()) != but)
    }

    /// Rollouts that speak for hosts of an environment: the newest, and the one before, which still speaks for
    /// hosts that the newest has not.
    pub fn speaking<'a, 'b>(
        &'a self,
        service: &'b Service,
        environment: &'b Environment,
    ) -> impl Iterator<Item = &'a Rollout> + use<'a, 'b> {
        let live = service.live.iter().rev().filter_map(|id| self.rollout(id));
        let ours =
            live.filter(|rollout| speaks_for(rollout.plan().environment.as_ref(), environment));
        // What only takes a service off hosts that are no targets takes no rollout's place.
        let mut left = LIVE_ROLLOUTS_PER_LANE;
        ours.take_while(move |rollout| {
            let counts = rollout.plan().off() != Some(Off::LeftOver);
            let takes = left > 0;
            left -= usize::from(counts && takes);
            takes
        })
    }

    /// Whether any service has a policy.
    pub(crate) fn has_policies(&self) -> bool {
        self.services.values().any(|service| service.policy.is_some())
    }

    /// Rollouts that are kept whole.
    pub fn live_rollouts(&self) -> impl Iterator<Item = &Rollout> {
        let services = self.services.values();
        services.flat_map(|service| service.live.iter().rev().filter_map(|id| self.rollout(id)))
    }

    /// The rollout that speaks for the host: the newest started one of its environment that has it.
    #[must_use]
    pub fn governing(&self, service: &Service, host: &HostId) -> Option<(&Rollout, ServiceWish)> {
        let environment = &self.hosts.get(host)?.environment;
        for rollout in self.speaking(service, environment) {
            if let Some(wish) = desired(rollout, host) {
                let over = self.has_let_go(service, rollout, host);
                return Some((rollout, wish)).filter(|_| !over);
            }
            // Of a service that is taken off everyone nothing before that speaks any more.
            if rollout.plan().off() == Some(Off::Everyone) {
                return None;
            }
        }
        None
    }

    /// Whether a rollout that takes the service off hosts which are no targets has nothing to say of this one any more:
    /// it lost the service and is a target again, or was let go then.
    pub(crate) fn has_let_go(&self, service: &Service, rollout: &Rollout, host: &HostId) -> bool {
        let target = || self.hosts.get(host).is_some_and(|host| service.targets(host));
        let done = |entry: &HostEntry| match entry.progress {
            Progress::Excluded { gone, .. } => gone,
            Progress::Reverted => target(),
            Progress::Pending
            | Progress::Staging
            | Progress::Staged
            | Progress::Granted { .. }
            | Progress::Probing { .. }
            | Progress::Baking { .. }
            | Progress::Committed
            | Progress::Failed { .. }
            | Progress::Lost
            | Progress::Absent
            | Progress::Held { .. }
            | Progress::Reverting { .. }
            | Progress::Overdue => false,
        };
        rollout.plan().off() == Some(Off::LeftOver) && rollout.host(host).is_some_and(done)
    }

    /// Whether a person takes the service off every host, has neither stopped nor ended that, and nothing newer came
    /// to the environment since.
    #[must_use]
    pub fn is_taken_off(&self, service: &Service, environment: &Environment) -> bool {
        self.newest_of(service, environment, None).is_some_and(|rollout| {
            goes_back(rollout) && rollout.plan().off() == Some(Off::Everyone)
        })
    }

    /// Whether a host runs a service that it is no target of, and that nothing takes off it.
    #[must_use]
    pub fn is_left_over(&self, name: &ServiceName, host: &HostId, runs: bool) -> bool {
        let Some((service, record)) = self.services.get(name).zip(self.hosts.get(host)) else {
            return false;
        };
        let wish = || self.wish(name, host).map(|(wish, _)| wish.action);
        runs && service.policy.is_some()
            && !service.targets(record)
            && wish() != Some(Action::Remove {})
    }

    /// Why the newest plan of a service in the host's environment leaves it out; `None` where it does not.
    #[must_use]
    pub fn left_out(&self, service: &Service, host: &Host, id: &HostId) -> Option<&SkipReason> {
        let newest = self.newest_of(service, &host.environment, None)?;
        let skipped = &newest.plan().skipped;
        // They are sorted by the names that hosts had when the plan was made.
        let order = |at: &Skipped| at.name.cmp(&host.name).then(at.id.cmp(id));
        let found = match host.renamed {
            0 => skipped.binary_search_by(order).ok()?,
            _ => skipped.iter().position(|skipped| skipped.id == *id)?,
        };
        skipped.get(found).map(|skipped| &skipped.why)
    }

    /// What a host without a rollout of its own gets: the proven release, unless the newest plan
    /// leaves it out; then the barrier that it must run first, or nothing.
    fn unasked(&self, service: &Service, host: &Host, id: &HostId) -> Option<ReleaseId> {
        let here = &host.environment;
        let Some(why) = self.left_out(service, host, id) else {
            return self.baseline(service, here);
        };
        match why {
            SkipReason::Barrier { version } => {
                let is_it = |id: &ReleaseId| {
                    self.releases.get(id).is_some_and(|found| found.published.version == *version)
                };
                self.proven_in(service, here).map(|proven| proven.release).find(is_it)
            }
            SkipReason::Quarantined { .. }
            | SkipReason::Newer { .. }
            | SkipReason::FailedBefore
            | SkipReason::Unmet { .. }
            | SkipReason::NoWindow { .. } => None,
        }
    }

    /// What a host does that no rollout speaks for: it gets what new hosts get. Where it runs something newer that
    /// must not be rolled out it keeps that, since no rollout brought it; what a person took back it leaves too.
    fn unasked_action(
        &self,
        service: &Service,
        (name, record): (&ServiceName, &Host),
        host: &HostId,
    ) -> Option<Action> {
        if record.drained.is_some() {
            return Some(Action::Hold {});
        }
        let Some(release) = self.unasked(service, record, host) else {
            // It comes back with what a person took back everywhere, to nothing.
            let back = self.newest_in(name, &record.environment).filter(|rollout| {
                let back = rollout.plan().back.as_ref();
                back.is_some_and(|back| back.to.is_none() && back.off.is_none())
                    && goes_back(rollout)
            });
            let from = back.map(Rollout::release);
            let runs = from.filter(|from| record.runs.get(name) == Some(from));
            return runs.map(|from| Action::Revert { from, to: None });
        };
        Some(match self.runs_poisoned((name, record), &release) {
            Some(bad) if bad.is_taken_back(&record.environment) => {
                Action::Revert { from: bad.published.release, to: Some(release) }
            }
            Some(_) => Action::Hold {},
            None => Action::Switch { release },
        })
    }

    /// What a host runs, where that is newer than what new hosts get and must not be rolled out.
    pub(crate) fn runs_poisoned(
        &self,
        (name, record): (&ServiceName, &Host),
        baseline: &ReleaseId,
    ) -> Option<&Release> {
        let found = self.releases.get(record.runs.get(name)?)?;
        let newer = found.published.seq > self.releases.get(baseline)?.published.seq;
        (newer && found.poisoned_in(&record.environment).is_some()).then_some(found)
    }

    /// What the host should do with one service, and the entry behind it. `None` to leave it alone.
    #[must_use]
    pub fn wish(&self, name: &ServiceName, host: &HostId) -> Option<(ServiceWish, u64)> {
        let service = self.services.get(name)?;
        let record = self.hosts.get(host)?;
        if let Some((rollout, mut wish)) = self.governing(service, host) {
            let told = generation(rollout, host);
            if wish.action == (Action::Remove {}) && !self.knows_remove((host, record), name) {
                // An agent that does not know it would refuse the whole directive.
                wish.action = Action::Hold {};
                return Some((wish, told.max(record.seq)));
            }
            return Some((wish, told));
        }
        let here = service.policy_of(&record.environment);
        let policy = here.or_else(|| service.policy.as_ref()?.environments().last())?;
        let action = if self.is_taken_off(service, &record.environment) {
            let goes = record.runs.contains_key(name) && record.drained.is_none();
            let goes = goes && self.knows_remove((host, record), name);
            Some(Action::Remove {}).filter(|_| goes)?
        } else if service.targets(record) {
            self.unasked_action(service, (name, record), host)?
        } else {
            return None;
        };
        let wish = ServiceWish {
            service: name.clone(),
            action,
            probe_deadline_secs: policy.probe_deadline_secs,
            bake_secs: policy.host_bake_secs,
            probe_interval_secs: policy.probe_interval_secs,
            confirm_by_contact: policy.confirm_by_contact,
            rollout: None,
        };
        Some((wish, self.unasked_number(service, (host, record))))
    }

    /// The number of what a host is told, or told no more, outside of every rollout: one that is wanted again was told
    /// something else by the rollout that took the service off it.
    fn unasked_number(&self, service: &Service, (id, host): (&HostId, &Host)) -> u64 {
        let spoke = self.speaking(service, &host.environment).map(|r| generation(r, id));
        service.wish_seq.max(host.seq).max(spoke.max().unwrap_or(0))
    }

    /// Whether the agent of a host knows Remove, and the one that it may be taken back to now need not: it finds what
    /// this one kept.
    fn knows_remove(&self, (id, host): (&HostId, &Host), name: &ServiceName) -> bool {
        let own = self.services.keys().find(|name| name.as_str() == AGENT_SERVICE);
        let goes_back = |own: &ServiceName| {
            let wish = self.wish(own, id).map(|(wish, _)| wish.action);
            own != name && matches!(wish, Some(Action::Revert { .. }))
        };
        host.level >= LEVEL_REMOVES && !own.is_some_and(goes_back)
    }

    /// Everything that the host should be, by service, and the generation of that wish.
    #[must_use]
    pub fn wishes(&self, host: &HostId) -> (Vec<ServiceWish>, u64) {
        let record = self.hosts.get(host);
        let mut generation = record.map_or(0, |record| record.seq);
        let mut wishes = Vec::new();
        for (name, service) in &self.services {
            if let Some((wish, seq)) = self.wish(name, host) {
                generation = generation.max(seq);
                wishes.push(wish);
            } else if let Some(record) = record {
                // A wish that was withdrawn must not lower the generation again.
                generation = generation.max(self.unasked_number(service, (host, record)));
            }
        }
        (wishes, generation + self.lift)
    }
}
