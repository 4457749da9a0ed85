//! Lanes: one service in one environment. Owns who belongs to which, and what goes on from one to the next, and
//! when.

use std::collections::BTreeMap;

use groundswell_common::report::{HostState, Verdict};
use groundswell_common::selector::nearest;
use groundswell_common::{Environment, OperatorName, ReleaseId, ServiceName, Timestamp};
use groundswell_rollout::{Outcome, Phase, Policy, Rollout};

use crate::control::Control;
use crate::entry::{By, What};
use crate::present;
use crate::refused::Refused;
use crate::releases::read_policy;
use crate::rollouts::{Hindrance, Waiting};
use crate::view::{Held, Host, PolicyRecord, Release, Service};

/// After how long what was in the way of a release that is due is looked at again, in milliseconds.
const AGAIN_MILLIS: u64 = 60_000;
/// Longest time for which a release may be held, in seconds.
const HELD_MAX_SECS: u64 = 366 * 86_400;

/// A service, and the environment that a person named, if one was.
pub type Of<'a> = (&'a ServiceName, Option<&'a Environment>);

/// What a person holds back.
#[derive(Clone, Copy, Debug)]
pub struct Hold<'a> {
    /// Version or id of the release.
    pub release: &'a str,
    /// When it starts; `None` to take a time back: then a person must start it.
    pub until: Option<Timestamp>,
    /// Why it will not go through the environments before.
    pub skip: Option<&'a str>,
    /// Why, for the ledger.
    pub why: &'a str,
}

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
            let (environment, everyone) = (policy.environment_or_default(), !record.separates);
            lanes.push(Self { policy: policy.clone(), environment, before, soak_secs, everyone });
        }
        lanes
    }

    /// Whether this holds a release in it.
    fn is_held_by(&self, held: &Held) -> bool {
        held.is_in(&self.environment, self.before.is_empty())
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

    /// Why a release must not start in a lane: it is poisoned there or in another environment, but for those that
    /// come after it.
    pub(crate) fn poison_of(&self, release: &Release, lane: &Lane) -> Option<String> {
        let here = release.poisoned_in(&lane.environment).cloned();
        here.or_else(|| {
            let lanes = self.lanes(&release.published.service).unwrap_or_default();
            let after: Vec<Environment> = lanes
                .into_iter()
                .map(|lane| lane.environment)
                .skip_while(|name| *name != lane.environment)
                .collect();
            poisons(release).find(|(name, _)| !after.contains(name)).map(said_in)
        })
    }

    /// The release that starts next in a lane by itself, and why it skips the environments before, if it does.
    pub(crate) fn next_release(
        &self,
        name: &ServiceName,
        lane: &Lane,
    ) -> Result<(Release, Option<String>), Waiting> {
        let Some((release, skip)) = self.ordered(name, lane) else {
            return self.next_in_turn(name, lane).map(|release| (release, None));
        };
        let ready = || match skip {
            Some(_) => self.refuse_poisoned(name, (release, lane)),
            None => self
                .refuse_poisoned(name, (release, lane))
                .and_then(|()| self.may_start(name, (lane, release))),
        };
        match ready() {
            Ok(()) => Ok((release.clone(), skip)),
            // What cannot start although its time has come keeps nothing else.
            Err(why) => match self.next_in_turn(name, lane) {
                Err(Waiting::Rolled) => Err(why.into()),
                other => other.map(|release| (release, None)),
            },
        }
    }

    /// The release that starts next in a lane where nobody has ordered one.
    fn next_in_turn(&self, name: &ServiceName, lane: &Lane) -> Result<Release, Waiting> {
        let Some(before) = lane.before.last() else {
            let (release, held) = self.newest_free(name, lane)?;
            // What the newest one waits for is said before what is wrong with an older one.
            if let Err(poisoned) = self.refuse_poisoned_anywhere(name, (release, lane)) {
                return Err(held.unwrap_or(poisoned.into()));
            }
            if !lane.policy.auto {
                return Err(held.unwrap_or(Waiting::ByHand));
            }
            return match release.rolled_in(&lane.environment) {
                true => Err(held.unwrap_or(Waiting::Rolled)),
                false => Ok(release.clone()),
            };
        };
        let (release, since) = self.promoted(name, lane).ok_or(Waiting::Rolled)?;
        let version = release.published.version.clone();
        self.refuse_poisoned_anywhere(name, (release, lane))?;
        if let Some(held) = self.held(name, (lane, release)) {
            return Err(held);
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

    /// What starts by itself is poisoned nowhere: a policy that forgets an environment, or turns two round, brings no
    /// release that failed there to more hosts.
    fn refuse_poisoned_anywhere(
        &self,
        name: &ServiceName,
        (release, lane): (&Release, &Lane),
    ) -> Result<(), Refused> {
        let anywhere = || poisons(release).next().map(said_in);
        refused_for(name, release, self.poison_of(release, lane).or_else(anywhere))
    }

    pub(crate) fn refuse_poisoned(
        &self,
        name: &ServiceName,
        (release, lane): (&Release, &Lane),
    ) -> Result<(), Refused> {
        refused_for(name, release, self.poison_of(release, lane))
    }

    /// What a person ordered for a time that has come, the newest.
    fn ordered<'a>(
        &'a self,
        name: &ServiceName,
        lane: &Lane,
    ) -> Option<(&'a Release, Option<String>)> {
        let come = |held: &Held| held.until.is_some_and(|until| until <= self.now);
        let due = self.orders(name, lane).filter(|(_, held)| come(held));
        let newest = due.max_by_key(|(release, _)| release.published.seq);
        newest.map(|(release, held)| (release, held.skip.clone()))
    }

    /// What a person holds back in a lane and no newer release has overtaken there.
    fn orders<'a, 'b>(
        &'a self,
        name: &ServiceName,
        lane: &'b Lane,
    ) -> impl Iterator<Item = (&'a Release, &'a Held)> + use<'a, 'b> {
        let there = self.place_there(name, lane);
        let held = self.view.services.get(name).into_iter().flat_map(|service| &service.held);
        let here = held.filter(move |held| lane.is_held_by(held));
        let found = here.filter_map(|held| Some((self.view.releases.get(&held.release)?, held)));
        found.filter(move |(release, _)| release.published.seq >= there)
    }

    /// The place of the release of the newest rollout in a lane; 0 for none.
    fn place_there(&self, name: &ServiceName, lane: &Lane) -> u64 {
        self.place_of(self.view.newest_in(name, &lane.environment).map(Rollout::release))
    }

    /// The newest release that nobody holds back in a lane, and what is said of a newer one that somebody does.
    fn newest_free(
        &self,
        name: &ServiceName,
        lane: &Lane,
    ) -> Result<(&Release, Option<Waiting>), Waiting> {
        let service = self.view.services.get(name);
        let releases = service.into_iter().flat_map(|service| service.releases.iter().rev());
        let mut said = None;
        for release in releases.filter_map(|id| self.view.releases.get(id)) {
            match self.held(name, (lane, release)) {
                None => return Ok((release, said)),
                Some(held) => said = said.or(Some(held)),
            }
        }
        Err(said.unwrap_or_else(|| Refused::NoRelease(name.clone()).into()))
    }

    /// What is said of a release that somebody still holds back in a lane.
    fn held(&self, name: &ServiceName, (lane, release): (&Lane, &Release)) -> Option<Waiting> {
        let service = self.view.services.get(name)?;
        let is_it = |held: &&Held| {
            let over = held.until.is_some_and(|until| until <= self.now);
            held.release == release.published.release && lane.is_held_by(held) && !over
        };
        let held = Box::new(service.held.iter().find(is_it)?.clone());
        let version = release.published.version.clone();
        Some(Waiting::Held { service: name.clone(), version, held })
    }

    /// What is to start in each environment of a service and does not yet, a sentence each with its environment.
    #[must_use]
    pub fn waits(&self, name: &ServiceName) -> Vec<(Environment, String)> {
        let lanes = self.lanes(name).unwrap_or_default();
        let several = lanes.len() > 1;
        let says = |lane: Lane| {
            let why = match self.next_release(name, &lane) {
                Ok(_) => {
                    let key = (name.clone(), lane.environment.clone());
                    let passes = |found: &&Hindrance| several && !found.stands;
                    self.hindered.get(&key).filter(passes).map(|found| found.why.clone())
                }
                Err(why) => why.is_told(!lane.before.is_empty()).then(|| why.to_string()),
            };
            Some((lane.environment, why?))
        };
        lanes.into_iter().filter_map(says).collect()
    }

    /// What nothing brings to hosts any more before a person acts, a sentence each with its environment and the step:
    /// a release of which no plan can be made, and a newest one that went back and is not poisoned.
    #[must_use]
    pub fn stalls(&self, name: &ServiceName) -> Vec<(Environment, String)> {
        let lanes = self.lanes(name).unwrap_or_default();
        let several = lanes.len() > 1;
        let says = |lane: Lane| {
            let key = (name.clone(), lane.environment.clone());
            let hindered = self.hindered.get(&key).filter(|found| found.stands);
            let hindered = hindered.filter(|_| self.next_release(name, &lane).is_ok());
            let unplanned = hindered.map(|Hindrance { version, why, .. }| {
                format!(
                    "{version} cannot be rolled out: {why}; it starts by itself once that is mended"
                )
            });
            let why = unplanned.or_else(|| self.went_back(name, (&lane, several)))?;
            Some((lane.environment, why))
        };
        lanes.into_iter().filter_map(says).collect()
    }

    /// That the newest release went back from a lane with nothing said against it: nobody brings it again.
    fn went_back(&self, name: &ServiceName, (lane, several): (&Lane, bool)) -> Option<String> {
        let newest = self.view.newest_in(name, &lane.environment)?;
        let release = self.view.releases.get(&newest.release())?;
        let is_newest = self.view.services.get(name)?.newest() == Some(newest.release());
        let is_good = self.poison_of(release, lane).is_none();
        let Phase::Done { outcome: Outcome::Reverted { .. }, .. } = newest.phase() else {
            return None;
        };
        newest.phase().breach().filter(|_| is_newest && is_good)?;
        let record = self.view.rollouts.get(newest.id())?;
        let (version, why) = (&release.published.version, present::record_summary(record).why?);
        let place =
            if several { format!(" --environment {}", lane.environment) } else { String::new() };
        Some(format!(
            "{version} is {why}; nothing brings it again: once the cause is mended, 'swell rollout start {name} \
             {version}{place}'"
        ))
    }

    /// Holds a release in an environment until a time, or until a person starts it.
    ///
    /// # Errors
    /// [`Refused`]: no such release or environment, a time that is over, or nothing that could be taken back.
    pub fn hold(&mut self, by: &OperatorName, of: Of<'_>, hold: Hold<'_>) -> Result<(), Refused> {
        let lane = self.lane_or_first(of)?;
        let id = self.find_release(of.0, hold.release)?;
        let release = self.view.releases.get(&id);
        let release = release.ok_or_else(|| Refused::UnknownRelease(id.to_string()))?;
        match hold.until {
            None if self.held(of.0, (&lane, release)).is_none() => {
                let version = release.published.version.clone();
                return Err(Refused::NotHeld { service: of.0.clone(), version });
            }
            None => {}
            Some(until) => {
                self.check_time(until)?;
                self.is_not_overtaken(of.0, (&lane, release))?;
                self.refuse_poisoned(of.0, (release, &lane))?;
            }
        }
        let what = What::ReleaseHeld {
            release: id,
            environment: lane.environment,
            until: hold.until,
            skip: hold.skip.map(ToOwned::to_owned),
            why: hold.why.to_owned(),
        };
        self.submit(By::Operator(by.clone()), what).map(drop)
    }

    /// Whether no newer release was planned in a lane.
    fn is_not_overtaken(
        &self,
        name: &ServiceName,
        (lane, release): (&Lane, &Release),
    ) -> Result<(), Refused> {
        let newest = self.view.newest_in(name, &lane.environment).map(Rollout::release);
        let newest =
            newest.and_then(|id| self.view.releases.get(&id)).map(|found| &found.published);
        match newest.filter(|newest| newest.seq > release.published.seq) {
            None => Ok(()),
            Some(newest) => Err(Refused::GoesDown {
                service: name.clone(),
                version: release.published.version.clone(),
                newest: newest.version.clone(),
            }),
        }
    }

    /// Whether a release may be held until then.
    pub(crate) fn check_time(&self, until: Timestamp) -> Result<(), Refused> {
        if until > self.now && until <= self.now.plus_secs(HELD_MAX_SECS) {
            return Ok(());
        }
        Err(Refused::Bounds { key: "at", want: "a moment to come, at most a year ahead" })
    }

    /// What is proven in the environment before and was never planned here, with the moment since which it soaks.
    fn promoted(&self, name: &ServiceName, lane: &Lane) -> Option<(&Release, Timestamp)> {
        let service = self.view.services.get(name)?;
        let proven = self.view.proven_in(service, lane.before.last()?).next_back()?;
        let release = self.view.releases.get(&proven.release)?;
        let here = self.place_of(self.view.baseline(service, &lane.environment));
        let news = !release.rolled_in(&lane.environment) && release.published.seq > here;
        let since = proven.at.unwrap_or(Timestamp::from_millis(0));
        news.then_some((release, since))
    }

    pub(crate) fn place_of(&self, release: Option<ReleaseId>) -> u64 {
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

    /// The moments at which releases of a service are due to start by themselves.
    fn due(&self, name: &ServiceName, service: &Service) -> Vec<Timestamp> {
        let asks = |record: &&PolicyRecord| !(record.behind.is_empty() && service.held.is_empty());
        let mut due = Vec::new();
        for lane in service.policy.as_ref().filter(asks).map(Lane::each).unwrap_or_default() {
            let promoted = self.promoted(name, &lane).filter(|_| lane.policy.auto);
            let promoted = promoted.filter(|(release, _)| self.poison_of(release, &lane).is_none());
            due.extend(promoted.map(|(_, since)| since.plus_secs(lane.soak_secs)));
            due.extend(self.orders(name, &lane).filter_map(|(_, held)| held.until));
        }
        due
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
        let found = service
            .and_then(|of| self.view.proven_in(of, before).find(|found| found.release == id));
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

    /// What a typed policy and the fleet do not have in common, a sentence each.
    ///
    /// # Errors
    /// [`Refused::Policy`] or [`Refused::PolicyService`].
    pub fn policy_notes(&self, name: &ServiceName, text: &str) -> Result<Vec<String>, Refused> {
        Ok(self.misfits(&read_policy(name, text)?))
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

/// The environments in which a release is poisoned, with why.
fn poisons(release: &Release) -> impl Iterator<Item = (&Environment, &String)> {
    let lanes = release.lanes.iter();
    lanes.filter_map(|(name, fate)| Some((name, fate.poisoned.as_ref()?)))
}

fn refused_for(name: &ServiceName, release: &Release, why: Option<String>) -> Result<(), Refused> {
    let Some(why) = why else { return Ok(()) };
    let (service, version) = (name.clone(), release.published.version.clone());
    Err(Refused::Poisoned { service, version, why })
}

fn said_in((environment, why): (&Environment, &String)) -> String {
    format!("in {environment}: {why}")
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
