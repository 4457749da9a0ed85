//! The form of the view and the questions that it answers by itself. Changed by `apply` only.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::api::{OperatorRole, RolloutSummary};
use groundswell_common::directive::{Action, ServiceWish};
use groundswell_common::trust::{Envelope, PublicKey};
use groundswell_common::wire::LEVEL_REMOVES;
use groundswell_common::{
    Digest, Environment, Fleet, HostId, HostName, Labels, OperatorName, ReleaseId, RolloutId,
    ServiceName, Timestamp,
};
use groundswell_rollout::{
    Off, Outcome, Phase, Policy, Progress, Rollout, SkipReason, Skipped, desired, generation,
};
use serde::{Deserialize, Serialize};

use super::past::Past;
use super::records::Key;
use crate::entry::{By, Published};

/// Rollouts of a service that are kept whole: the newest, and the one before, which still speaks for
/// hosts that the newest has not.
pub(super) const LIVE_ROLLOUTS_PER_SERVICE: usize = 2;
/// Rollouts of a service that the view lists; older ones are in the ledger only.
pub(super) const ROLLOUTS_LISTED_PER_SERVICE: usize = 100;
/// Completed releases of a service that a revert can fall back on.
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
    /// The newest entry that changed what hosts without a rollout should run.
    pub wish_seq: u64,
}

/// A policy as it was put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The TOML text.
    pub text: String,
    /// The same, parsed.
    pub policy: Policy,
}

/// A release whose rollout completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// The release.
    pub release: ReleaseId,
    /// The entry with which it completed.
    pub seq: u64,
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
    /// Why it must not be rolled out, if so.
    pub poisoned: Option<String>,
    /// Whether a rollout of it was ever planned.
    pub rolled: bool,
    /// Approvals that go to the hosts with it, the newest last.
    pub approvals: Vec<Envelope>,
}

/// One rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// When it was planned.
    pub planned: Timestamp,
    /// When its phase last changed.
    pub changed: Timestamp,
    /// Whether its release was poisoned by it, or cleared since: what its hosts say later does not poison it again.
    #[serde(default)]
    pub judged: bool,
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

impl Service {
    /// The release that new hosts get.
    #[must_use]
    pub fn baseline(&self) -> Option<ReleaseId> {
        self.proven.last().map(|proven| proven.release)
    }

    /// The release with the highest `seq`.
    #[must_use]
    pub fn newest(&self) -> Option<ReleaseId> {
        self.releases.last().copied()
    }
}

impl View {
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

    /// Rollouts that are kept whole.
    pub fn live_rollouts(&self) -> impl Iterator<Item = &Rollout> {
        self.services.values().flat_map(|service| {
            let newest = service.rollouts.iter().rev().take(LIVE_ROLLOUTS_PER_SERVICE);
            newest.filter_map(|id| self.rollout(id))
        })
    }

    /// The rollout that speaks for the host: the newest started one that has it.
    #[must_use]
    pub fn governing(&self, service: &Service, host: &HostId) -> Option<(&Rollout, ServiceWish)> {
        for rollout in self.live(service) {
            if let Some(wish) = desired(rollout, host) {
                let again = self.is_wanted_again(service, rollout, host);
                return Some((rollout, wish)).filter(|_| !again);
            }
            // Of a service that is taken off everyone nothing before that speaks any more.
            if rollout.plan().off() == Some(Off::Everyone) {
                return None;
            }
        }
        None
    }

    /// Rollouts of a service that are kept whole, the newest first.
    fn live(&self, service: &Service) -> impl Iterator<Item = &Rollout> {
        let newest = service.rollouts.iter().rev().take(LIVE_ROLLOUTS_PER_SERVICE);
        newest.filter_map(|id| self.rollout(id))
    }

    /// Whether a host that was left over, and that the service was taken off, is one of its targets again.
    fn is_wanted_again(&self, service: &Service, rollout: &Rollout, host: &HostId) -> bool {
        let off = rollout.plan().off() == Some(Off::LeftOver);
        off && self.is_targeted(service, host)
            && rollout.host(host).is_some_and(|entry| entry.progress == Progress::Reverted)
    }

    fn is_targeted(&self, service: &Service, host: &HostId) -> bool {
        let policy = service.policy.as_ref().map(|record| &record.policy);
        let matches = |host: &Host| policy.is_some_and(|p| p.targets.matches(&host.labels));
        self.hosts.get(host).is_some_and(matches)
    }

    /// Whether a person takes the service off every host, and has neither stopped nor ended that.
    #[must_use]
    pub fn is_taken_off(&self, service: &Service) -> bool {
        let newest = self.live(service).find(|r| r.plan().off() != Some(Off::LeftOver));
        newest.is_some_and(|rollout| {
            let goes = match rollout.phase() {
                Phase::Reverting { .. } => true,
                Phase::Done { outcome, .. } => matches!(outcome, Outcome::Reverted { .. }),
                Phase::Planned
                | Phase::Running { .. }
                | Phase::Baking { .. }
                | Phase::Gated { .. }
                | Phase::Paused { .. }
                | Phase::Halted { .. } => false,
            };
            goes && rollout.plan().off() == Some(Off::Everyone)
        })
    }

    /// Whether a host runs a service that it is no target of, and that nothing takes off it.
    #[must_use]
    pub fn is_left_over(&self, name: &ServiceName, host: &HostId, runs: bool) -> bool {
        let Some(service) = self.services.get(name) else { return false };
        let wish = || self.wish(name, host).map(|(wish, _)| wish.action);
        runs && service.policy.is_some()
            && !self.is_targeted(service, host)
            && wish() != Some(Action::Remove {})
    }

    /// Why the newest plan of a service leaves the host out; `None` where it does not.
    #[must_use]
    pub fn left_out(&self, service: &Service, host: &Host, id: &HostId) -> Option<&SkipReason> {
        let newest = self.rollout(service.rollouts.last()?)?;
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
        let Some(why) = self.left_out(service, host, id) else { return service.baseline() };
        match why {
            SkipReason::Barrier { version } => {
                let is_it = |id: &ReleaseId| {
                    self.releases.get(id).is_some_and(|found| found.published.version == *version)
                };
                service.proven.iter().map(|proven| proven.release).find(is_it)
            }
            SkipReason::Quarantined { .. }
            | SkipReason::Newer { .. }
            | SkipReason::FailedBefore
            | SkipReason::Unmet { .. }
            | SkipReason::NoWindow { .. } => None,
        }
    }

    /// What a host does that no rollout speaks for: it gets what new hosts get. Where it runs something newer that
    /// was taken back everywhere else it goes back too, since only a revert goes down.
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
            let back = self.newest_rollout(name).filter(|rollout| {
                rollout.plan().back.as_ref().is_some_and(|back| back.to.is_none())
            });
            let from = back.map(Rollout::release);
            let runs = from.filter(|from| record.runs.get(name) == Some(from));
            return runs.map(|from| Action::Revert { from, to: None });
        };
        let seq = |id: &ReleaseId| self.releases.get(id).map(|found| found.published.seq);
        let newer = record.runs.get(name).filter(|runs| seq(runs) > seq(&release));
        let taken_back =
            |id: &&ReleaseId| self.releases.get(*id).is_some_and(|found| found.poisoned.is_some());
        Some(match newer.filter(taken_back) {
            Some(from) => Action::Revert { from: *from, to: Some(release) },
            None => Action::Switch { release },
        })
    }

    /// What the host should do with one service, and the entry behind it. `None` to leave it alone.
    #[must_use]
    pub fn wish(&self, name: &ServiceName, host: &HostId) -> Option<(ServiceWish, u64)> {
        let service = self.services.get(name)?;
        if let Some((rollout, wish)) = self.governing(service, host) {
            return Some((wish, generation(rollout, host)));
        }
        let record = self.hosts.get(host)?;
        let policy = &service.policy.as_ref()?.policy;
        let action = if self.is_taken_off(service) {
            let goes = record.runs.contains_key(name) && record.drained.is_none();
            Some(Action::Remove {}).filter(|_| goes && record.level >= LEVEL_REMOVES)?
        } else if policy.targets.matches(&record.labels) {
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
        Some((wish, service.wish_seq.max(record.seq)))
    }

    /// Everything that the host should be, by service, and the generation of that wish.
    #[must_use]
    pub fn wishes(&self, host: &HostId) -> (Vec<ServiceWish>, u64) {
        let mut generation = self.hosts.get(host).map_or(0, |record| record.seq);
        let mut wishes = Vec::new();
        for (name, service) in &self.services {
            if let Some((wish, seq)) = self.wish(name, host) {
                generation = generation.max(seq);
                wishes.push(wish);
            } else {
                // A wish that was withdrawn must not lower the generation again.
                generation = generation.max(service.wish_seq);
            }
        }
        (wishes, generation + self.lift)
    }
}
