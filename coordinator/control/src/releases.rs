//! Publishing, policies, and clearing poisoned releases.

use groundswell_common::api::{PolicyAnswer, PublishAnswer};
use groundswell_common::{OperatorName, ReleaseId, ServiceName};
use groundswell_rollout::Policy;

use crate::control::Control;
use crate::entry::{By, Published, What};
use crate::present;
use crate::refused::Refused;
use crate::view::{Host, PolicyRecord, Release};

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
            return Ok(answer(&before, rollout, Existing::Yes, None));
        }
        if let Some(until) = published.held_until {
            self.check_time(until)?;
        }
        let what = What::ReleasePublished(Box::new(published.clone()));
        self.submit(By::Operator(by.clone()), what)?;
        let (rollout, waiting) = match self.plan_newest(&published.service) {
            Ok(rollout) => (Some(rollout), None),
            Err(why) => (None, Some(why.to_string())),
        };
        Ok(answer(&published, rollout, Existing::No, waiting))
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
        let notes = self.misfits(&record).into_iter().chain(refused).collect();
        Ok(PolicyAnswer { service: service.clone(), changed, plan, rollout, notes })
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

fn answer(
    published: &Published,
    rollout: Option<groundswell_common::RolloutId>,
    existing: Existing,
    waiting: Option<String>,
) -> PublishAnswer {
    PublishAnswer {
        release: published.release,
        service: published.service.clone(),
        version: published.version.clone(),
        seq: published.seq,
        existing: existing == Existing::Yes,
        rollout,
        waiting,
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
    Ok(PolicyRecord { text: text.to_owned(), policy, behind, separates: true })
}
