//! Publishing, policies, and clearing poisoned releases.

use std::collections::BTreeMap;

use groundswell_common::api::{PolicyAnswer, PublishAnswer};
use groundswell_common::{Environment, OperatorName, ReleaseId, RolloutId, ServiceName};
use groundswell_rollout::{Policy, Rollout};

use crate::control::Control;
use crate::entry::{By, Published, What};
use crate::present;
use crate::refused::Refused;
use crate::rollouts::Waiting;
use crate::view::{Host, PolicyRecord, Release};

/// Hosts that a policy leaves out and that are named.
const LEFT_NAMED_MAX: usize = 8;

impl Control {
    /// The `seq` that the next release of a service must have at least.
    #[must_use]
    pub fn next_seq(&self, service: &ServiceName) -> u64 {
        let newest = self.view.services.get(service).and_then(|service| service.newest());
        let newest = newest.and_then(|release| self.view.releases.get(&release));
        let next = newest.map_or(1, |release| release.published.seq + 1);
        // Hosts may run what a ledger that was put back does not know: nothing that is published now is below that.
        next.max(self.view.lift + 1)
    }

    /// The very same content under the same version, published before.
    ///
    /// # Errors
    /// [`Refused::VersionTaken`] for other content under that version; [`Refused::SeqTaken`].
    pub fn find_same(&self, published: &Published) -> Result<Option<&Release>, Refused> {
        let (name, version) = (&published.service, &published.version);
        let releases = self.view.services.get(name).map(|service| &service.releases);
        let mut releases =
            releases.into_iter().flatten().filter_map(|id| self.view.releases.get(id));
        if let Some(before) = releases.find(|release| release.published.version == *version) {
            return if before.published.content == published.content {
                Ok(Some(before))
            } else {
                let (service, version) = (name.clone(), version.clone());
                Err(Refused::VersionTaken { service, version })
            };
        }
        let next = self.next_seq(name);
        if published.seq < next {
            return Err(Refused::SeqTaken { got: published.seq, next });
        }
        Ok(None)
    }

    /// Publishes a release whose manifest and blobs are in the depot, and plans its rollout where the
    /// policy says so.
    ///
    /// # Errors
    /// As [`Control::find_same`].
    pub fn publish(
        &mut self,
        by: &OperatorName,
        published: Published,
    ) -> Result<PublishAnswer, Refused> {
        if let Some(before) = self.find_same(&published)? {
            let before = before.published.clone();
            let rollout = self.rollout_of(&before.service, &before.release);
            return Ok(answer(&before, Existing::Yes, Planned::as_found(rollout)));
        }
        if let Some(until) = published.held_until {
            self.check_time(until)?;
        }
        let what = What::ReleasePublished(Box::new(published.clone()));
        self.submit(By::Operator(by.clone()), what)?;
        let planned = match self.plan_newest(&published.service) {
            Ok(rollout) => Planned::as_found(Some(rollout)),
            Err(why) => Planned::not_yet(&why),
        };
        Ok(answer(&published, Existing::No, planned))
    }

    /// Whether a policy reaches every host that runs the service and that the policy before reaches.
    ///
    /// # Errors
    /// [`Refused::LeavesHosts`] with those that it does not; as [`Control::put_policy`].
    pub fn keeps_hosts(&self, service: &ServiceName, text: &str) -> Result<(), Refused> {
        let after = read_policy(service, text)?;
        let Some(before) = self.view.services.get(service) else { return Ok(()) };
        let mut left: BTreeMap<(&Environment, &str), Vec<&str>> = BTreeMap::new();
        for (id, host) in &self.view.hosts {
            if !before.targets(host) || self.runs((id, host), service).is_none() {
                continue;
            }
            let why = match after.of(&host.environment) {
                None => "which the policy does not name",
                Some(policy) if !policy.targets.matches(&host.labels) => {
                    "whose labels do not match its targets"
                }
                Some(_) => continue,
            };
            left.entry((&host.environment, why)).or_default().push(host.name.as_str());
        }
        if left.is_empty() {
            return Ok(());
        }
        let says = |((environment, why), mut names): ((&Environment, &str), Vec<&str>)| {
            names.sort_unstable();
            let hosts = if names.len() == 1 { "host" } else { "hosts" };
            let named = names.iter().take(LEFT_NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
            let more = names.len().saturating_sub(LEFT_NAMED_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let count = names.len();
            format!(
                "{count} {hosts} in environment {environment}, {why}, run {service}: {named}{more}"
            )
        };
        let says: Vec<String> = left.into_iter().map(says).collect();
        Err(Refused::LeavesHosts(says.join("; "), service.clone()))
    }

    /// Stores a policy; a newest release that has waited for one is planned.
    ///
    /// # Errors
    /// [`Refused::Policy`] or [`Refused::PolicyService`].
    pub fn put_policy(
        &mut self,
        by: &OperatorName,
        service: &ServiceName,
        text: &str,
    ) -> Result<PolicyAnswer, Refused> {
        let record = read_policy(service, text)?;
        let before = self.view.services.get(service).and_then(|s| s.policy.as_ref());
        let changed = before.is_none_or(|before| before.text != text || !before.separates);
        let kept = if changed { self.plans_kept(service) } else { Vec::new() };
        if changed {
            let (service, text) = (service.clone(), text.to_owned());
            let what = What::PolicyPut { service, text, separates: true };
            self.submit(By::Operator(by.clone()), what)?;
        }
        let plan = self.preview((service, None), (None, None));
        let refused = match &plan {
            Err(refused @ Refused::Plan(_)) => {
                Some(format!("nothing is rolled out by it: {refused}"))
            }
            Ok(_) | Err(_) => None,
        };
        let plan = plan.ok().as_ref().map(present::plan_preview);
        let rollout = self.plan_newest(service).ok();
        self.waiting.insert(service.clone());
        let mut notes = self.misfits(&record);
        notes.extend(kept);
        notes.extend(refused);
        Ok(PolicyAnswer { service: service.clone(), changed, plan, rollout, notes })
    }

    /// Rollouts under way, which a new policy changes nothing of.
    fn plans_kept(&self, service: &ServiceName) -> Vec<String> {
        let under_way =
            |rollout: &&Rollout| rollout.plan().service == *service && !rollout.is_over();
        let say = |rollout: &Rollout| {
            let found = self.view.releases.get(&rollout.release());
            let version = found.map_or("VERSION".to_owned(), |r| r.published.version.to_string());
            format!(
                "rollout {} goes on by the policy that it was planned with; 'swell rollout start {service} \
                 {version}' plans it anew",
                rollout.id()
            )
        };
        self.view.live_rollouts().filter(under_way).map(say).collect()
    }

    /// Lets a poisoned release be rolled out again.
    ///
    /// # Errors
    /// [`Refused::UnknownRelease`] or [`Refused::NotPoisoned`].
    pub fn clear(
        &mut self,
        by: &OperatorName,
        release: &ReleaseId,
        why: &str,
    ) -> Result<(), Refused> {
        let found = self.view.releases.get(release);
        let found = found.ok_or_else(|| Refused::UnknownRelease(release.to_string()))?;
        let has_failed = |host: &Host| host.past.values().any(|past| past.has_failed(release));
        if !found.is_poisoned() && !self.view.hosts.values().any(has_failed) {
            let published = &found.published;
            let (service, version) = (published.service.clone(), published.version.clone());
            return Err(Refused::NotPoisoned(service, version));
        }
        let what = What::ReleaseCleared { release: *release, why: why.to_owned() };
        self.submit(By::Operator(by.clone()), what).map(drop)
    }

    /// The newest rollout of a service, if it is of this release.
    fn rollout_of(
        &self,
        service: &ServiceName,
        release: &ReleaseId,
    ) -> Option<groundswell_common::RolloutId> {
        let lanes = self.lanes(service).ok()?;
        let newest =
            lanes.iter().filter_map(|lane| self.view.newest_in(service, &lane.environment));
        newest.filter(|rollout| rollout.release() == *release).map(|r| r.id().clone()).next()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Yes,
    No,
}

/// What became of the plan of a release that was published.
struct Planned {
    rollout: Option<RolloutId>,
    waiting: Option<String>,
    behind: Option<RolloutId>,
}

impl Planned {
    fn as_found(rollout: Option<RolloutId>) -> Self {
        Self { rollout, waiting: None, behind: None }
    }

    fn not_yet(why: &Waiting) -> Self {
        let behind = match why {
            Waiting::Behind(first) => Some(first.clone()),
            Waiting::Rolled
            | Waiting::ByHand
            | Waiting::Soaks { .. }
            | Waiting::Ill { .. }
            | Waiting::Silent { .. }
            | Waiting::Held { .. }
            | Waiting::Refused(_) => None,
        };
        Self { rollout: None, waiting: Some(why.to_string()), behind }
    }
}

fn answer(published: &Published, existing: Existing, planned: Planned) -> PublishAnswer {
    let Planned { rollout, waiting, behind } = planned;
    PublishAnswer {
        release: published.release,
        service: published.service.clone(),
        version: published.version.clone(),
        seq: published.seq,
        existing: existing == Existing::Yes,
        rollout,
        waiting,
        behind,
    }
}

/// Reads a policy of a service.
///
/// # Errors
/// [`Refused`]: not a policy, or of another service.
pub(crate) fn read_policy(service: &ServiceName, text: &str) -> Result<PolicyRecord, Refused> {
    let (policy, behind) = Policy::each_from_toml(text).map_err(Refused::Policy)?;
    if policy.service != *service {
        return Err(Refused::PolicyService(policy.service));
    }
    Ok(PolicyRecord { text: text.to_owned(), policy, behind, separates: true, was: Vec::new() })
}
