//! Lanes: one service in one environment. Owns who belongs to which, and what goes on from one to the next, and
//! when.

use std::collections::BTreeMap;

use groundswell_common::report::{HostState, Verdict};
use groundswell_common::selector::nearest;
use groundswell_common::{Environment, ReleaseId, ServiceName, Timestamp};
use groundswell_rollout::Policy;

use crate::control::Control;
use crate::refused::Refused;
use crate::rollouts::Waiting;
use crate::view::{Host, PolicyRecord, Release, Service};

/// After how long what was in the way of a release that is due is looked at again, in milliseconds.
const AGAIN_MILLIS: u64 = 60_000;

/// A service, and the environment that a person named, if one was.
pub type Of<'a> = (&'a ServiceName, Option<&'a Environment>);

/// The policy of a service for one environment, and what is ahead of it.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) policy: Policy,
    pub(crate) environment: Environment,
    /// The environments that a release goes through before, in order.
    pub(crate) before: Vec<Environment>,
    /// For how long it soaks in the last of them.
    soak_secs: u64,
    /// Whether hosts of every environment belong to it.
    everyone: bool,
}

impl Lane {
    /// The lanes of a policy, in order.
    pub(crate) fn each(record: &PolicyRecord) -> Vec<Self> {
        let mut lanes: Vec<Self> = Vec::new();
        for policy in record.environments() {
            let last = lanes.last();
            let mut before = last.map_or_else(Vec::new, |last| last.before.clone());
            before.extend(last.map(|last| last.environment.clone()));
            let soak_secs = last.map_or(0, |last| last.policy.promote_after_secs);
            let (environment, everyone) = (policy.lane(), !record.separates);
            lanes.push(Self { policy: policy.clone(), environment, before, soak_secs, everyone });
        }
        lanes
    }

    /// Whether a host belongs to it, whatever its labels.
    pub(crate) fn has(&self, host: &Host) -> bool {
        self.everyone || host.environment == self.environment
    }
}

impl Control {
    /// The lanes of a service, in order; never none.
    pub(crate) fn lanes(&self, name: &ServiceName) -> Result<Vec<Lane>, Refused> {
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let record = service.policy.as_ref();
        record.map(Lane::each).ok_or_else(|| Refused::NoPolicy(name.clone()))
    }

    /// The lane that a person named, or the first.
    pub(crate) fn lane_or_first(&self, (name, asked): Of<'_>) -> Result<Lane, Refused> {
        first(name, self.lanes(name)?, asked)
    }

    /// The lane that a person named, or the only one.
    pub(crate) fn lane(&self, (name, asked): Of<'_>) -> Result<Lane, Refused> {
        let lanes = self.lanes(name)?;
        if asked.is_none() && lanes.len() > 1 {
            return Err(Refused::WhichEnvironment { service: name.clone(), names: names(&lanes) });
        }
        first(name, lanes, asked)
    }

    /// Why a release must not start in a lane: it is poisoned there or in an environment before it.
    pub(crate) fn poison_of(&self, release: &Release, lane: &Lane) -> Option<String> {
        let here = release.poisoned_in(&lane.environment).cloned();
        here.or_else(|| {
            let said =
                |name: &Environment| Some(format!("in {name}: {}", release.poisoned_in(name)?));
            lane.before.iter().find_map(said)
        })
    }

    /// The release that starts next in a lane by itself.
    pub(crate) fn next_release(&self, name: &ServiceName, lane: &Lane) -> Result<Release, Waiting> {
        let Some(before) = lane.before.last() else {
            let release = self.release_to_plan((name, lane), None)?;
            if !lane.policy.auto {
                return Err(Waiting::ByHand);
            }
            return match release.rolled_in(&lane.environment) {
                true => Err(Waiting::Rolled),
                false => Ok(release),
            };
        };
        let (release, since) = self.promoted(name, lane).ok_or(Waiting::Rolled)?;
        let version = release.published.version.clone();
        if let Some(why) = self.poison_of(release, lane) {
            return Err(Refused::Poisoned { service: name.clone(), version, why }.into());
        }
        if !lane.policy.auto {
            return Err(Waiting::ByHand);
        }
        let until = since.plus_secs(lane.soak_secs);
        if until > self.now {
            return Err(Waiting::Soaks { version, before: before.clone(), until });
        }
        self.is_well(name, before, release)?;
        Ok(release.clone())
    }

    /// What is proven in the environment before and was never planned here, with the moment since which it soaks.
    fn promoted(&self, name: &ServiceName, lane: &Lane) -> Option<(&Release, Timestamp)> {
        let service = self.view.services.get(name)?;
        let proven = service.proven_in(lane.before.last()?).next_back()?;
        let release = self.view.releases.get(&proven.release)?;
        let here = self.place_of(service.baseline(&lane.environment));
        let news = !release.rolled_in(&lane.environment) && release.published.seq > here;
        let since = proven.at.unwrap_or(Timestamp::from_millis(0));
        news.then_some((release, since))
    }

    fn place_of(&self, release: Option<ReleaseId>) -> u64 {
        let found = release.and_then(|id| self.view.releases.get(&id));
        found.map_or(0, |found| found.published.seq)
    }

    /// Whether a release is well in an environment: no host that runs it fails its probes, and one at least has
    /// committed to it and is there to say so.
    fn is_well(
        &self,
        name: &ServiceName,
        environment: &Environment,
        release: &Release,
    ) -> Result<(), Waiting> {
        let (mut ill, mut committed) = (0, 0);
        let hosts = self.view.hosts.iter().filter(|(_, host)| host.environment == *environment);
        for (id, _) in hosts.filter(|(id, _)| self.is_connected(id)) {
            let standing = self.words.get(id).and_then(|word| word.standing(name));
            let runs = |running| running == Some(release.published.release);
            let Some(standing) = standing.filter(|found| runs(found.running)) else { continue };
            ill += usize::from(standing.health == Verdict::Fail);
            committed += usize::from(standing.state == HostState::Committed);
        }
        let (version, before) = (release.published.version.clone(), environment.clone());
        match (ill, committed) {
            (0, 0) => Err(Waiting::Silent { version, before }),
            (0, _) => Ok(()),
            (hosts, _) => Err(Waiting::Ill { version, before, hosts }),
        }
    }

    /// The moments at which releases of a service are due to go on.
    fn due(&self, name: &ServiceName, service: &Service) -> Vec<Timestamp> {
        let record = service.policy.as_ref().filter(|record| !record.behind.is_empty());
        let lanes = record.map(Lane::each).unwrap_or_default();
        let goes_on = |lane: &Lane| {
            let (release, since) = self.promoted(name, lane).filter(|_| lane.policy.auto)?;
            self.poison_of(release, lane).is_none().then(|| since.plus_secs(lane.soak_secs))
        };
        lanes.iter().filter_map(goes_on).collect()
    }

    /// The next moment after `after` at which time alone may start a rollout: one is due, or what was in its way is
    /// looked at again.
    #[must_use]
    pub fn next_start(&self, after: Timestamp) -> Option<Timestamp> {
        let due = self.view.services.iter().flat_map(|(name, service)| self.due(name, service));
        due.map(|due| next_try(due, after)).min()
    }

    /// Services of which a release is due at `now` and was not at the last tick.
    pub(crate) fn come_due(&self, now: Timestamp) -> Vec<ServiceName> {
        let comes = |due: &Timestamp| next_try(*due, self.ticked) <= now;
        let services = self.view.services.iter();
        let due = services.filter(|(name, service)| self.due(name, service).iter().any(comes));
        due.map(|(name, _)| name.clone()).collect()
    }

    /// Whether a person may start a release in a lane without skipping one before it.
    pub(crate) fn may_start(
        &self,
        name: &ServiceName,
        (lane, release): (&Lane, &Release),
    ) -> Result<(), Refused> {
        let Some(before) = lane.before.last() else { return Ok(()) };
        let id = release.published.release;
        let service = self.view.services.get(name);
        let found = service.and_then(|of| of.proven_in(before).find(|found| found.release == id));
        let since = found.map(|found| found.at.unwrap_or(Timestamp::from_millis(0)));
        let until = since.map(|since| since.plus_secs(lane.soak_secs));
        let why = match until {
            Some(until) if until <= self.now => return Ok(()),
            Some(until) => format!("it soaks in {before} until {until}"),
            None => format!("it has not completed in {before}"),
        };
        let version = release.published.version.clone();
        Err(Refused::NotPromoted { version, environment: lane.environment.clone(), why })
    }

    /// What a policy and the fleet do not have in common, a sentence each: environments without hosts, and hosts
    /// whose environment the policy does not name.
    pub(crate) fn misfits(&self, record: &PolicyRecord) -> Vec<String> {
        let lanes = Lane::each(record);
        let hosts = || self.view.hosts.values();
        let mut notes: Vec<String> = lanes
            .iter()
            .filter(|lane| !hosts().any(|host| lane.has(host)))
            .map(|lane| self.no_host_in(&lane.environment))
            .collect();
        let out = hosts().filter(|host| !lanes.iter().any(|lane| lane.has(host)));
        let targeted =
            |host: &&Host| lanes.iter().any(|lane| lane.policy.targets.matches(&host.labels));
        let mut counts: BTreeMap<&Environment, u64> = BTreeMap::new();
        for host in out.filter(targeted) {
            *counts.entry(&host.environment).or_default() += 1;
        }
        notes.extend(counts.into_iter().map(|(name, hosts)| {
            let hosts = if hosts == 1 { "1 host".to_owned() } else { format!("{hosts} hosts") };
            format!(
                "{hosts} in environment {name} would fit, and the policy does not name it: they get nothing; add \
                 [[environment]] name = \"{name}\""
            )
        }));
        notes
    }

    /// That an environment has no hosts, and what was perhaps meant.
    pub(crate) fn no_host_in(&self, environment: &Environment) -> String {
        let there = self.view.hosts.values().map(|host| host.environment.as_str());
        let next = match nearest(environment.as_str(), there) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!(
                "'swell host enroll-token --environment {environment}' makes tokens for hosts in it"
            ),
        };
        format!("no host is in environment {environment}; {next}")
    }
}

pub(crate) fn first(
    name: &ServiceName,
    lanes: Vec<Lane>,
    asked: Option<&Environment>,
) -> Result<Lane, Refused> {
    let known = names(&lanes);
    let is_it = |lane: &Lane| asked.is_none_or(|asked| lane.environment == *asked);
    let environment = asked.cloned().unwrap_or_default();
    let unknown =
        || Refused::UnknownEnvironment { service: name.clone(), environment, names: known };
    lanes.into_iter().find(is_it).ok_or_else(unknown)
}

fn names(lanes: &[Lane]) -> String {
    let names: Vec<&str> = lanes.iter().map(|lane| lane.environment.as_str()).collect();
    names.join(", ")
}

/// The first try after `after` of what is due at `due`.
fn next_try(due: Timestamp, after: Timestamp) -> Timestamp {
    if due > after {
        return due;
    }
    let tries = after.millis_since(due) / AGAIN_MILLIS + 1;
    due.plus_millis(tries * AGAIN_MILLIS)
}
