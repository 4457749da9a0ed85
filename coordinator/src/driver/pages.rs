//! Answers to questions: what the API shows. Read-only.

use std::collections::BTreeMap;
use std::path::PathBuf;

use groundswell_common::api::{
    HostPage, HostService, HostSummary, ReleaseSummary, RolloutPage, RolloutSummary, RunningCount,
    ServicePage, ServiceSummary, StatusAnswer, WhyAnswer,
};
use groundswell_common::directive::Action;
use groundswell_common::selector::Selector;
use groundswell_common::{
    Environment, Fleet, HostId, HostName, ReleaseId, RolloutId, ServiceName, Timestamp,
};

use super::desk::Desk;
use crate::present::{self, Detail};
use crate::view::{Host, Release, Service};
use groundswell_control::Refused;

/// Releases and rollouts that one list shows.
const LIST_MAX: usize = 100;

/// What the process knows of itself for the status page.
#[derive(Clone, Debug)]
pub struct AboutProcess {
    /// The fleet.
    pub fleet: Fleet,
    /// When the process started.
    pub started: Timestamp,
    /// The root's version.
    pub root_version: u64,
    /// Seconds UTC of the root's end.
    pub root_expires: u64,
    /// When the coordinator's own certificate ends.
    pub server_ends: Timestamp,
    /// Its state directory, for commands that people type.
    pub state: PathBuf,
}

impl Desk {
    /// The whole fleet on one page.
    #[must_use]
    pub fn status(&self, about: &AboutProcess) -> StatusAnswer {
        let active = self.view().services.keys().flat_map(|name| self.under_way(name));
        let active = active.filter_map(|id| self.view().rollouts.get(&id));
        StatusAnswer {
            fleet: about.fleet.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: about.started,
            ledger_seq: self.view().seq,
            hosts: self.view().hosts.len() as u64,
            connected: self.connected() as u64,
            starting: self.is_starting(),
            root_version: about.root_version,
            root_expires: about.root_expires,
            ends: self.ends(about),
            put_back: self.put_back(),
            services: self.services(),
            rollouts: active.map(present::record_summary).collect(),
        }
    }

    /// All services, by name.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceSummary> {
        let services = self.view().services.iter();
        services.map(|(name, service)| self.service(name, service)).collect()
    }

    fn service(&self, name: &ServiceName, service: &Service) -> ServiceSummary {
        let (waits, stalls) = (self.waits_text(name), self.with_place(name, self.stalls(name)));
        ServiceSummary { waits, stalls, ..present::service_summary(self.view(), name, service) }
    }

    /// What a service waits for, a sentence each, which names the environment where there are several.
    #[must_use]
    pub fn waits_text(&self, name: &ServiceName) -> Vec<String> {
        self.with_place(name, self.waits(name))
    }

    fn with_place(&self, name: &ServiceName, said: Vec<(Environment, String)>) -> Vec<String> {
        let several = self.view().services.get(name).and_then(|service| service.policy.as_ref());
        let several = several.is_some_and(|record| !record.behind.is_empty());
        let place = |(environment, why): (Environment, String)| match several {
            true => format!("{environment}: {why}"),
            false => why,
        };
        said.into_iter().map(place).collect()
    }

    /// One service.
    ///
    /// # Errors
    /// [`Refused::UnknownService`].
    pub fn service_page(&self, name: &ServiceName) -> Result<ServicePage, Refused> {
        let service = self.view().services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let mut running: BTreeMap<Option<ReleaseId>, u64> = BTreeMap::new();
        for (id, host) in &self.view().hosts {
            let policy = service.policy_of(&host.environment);
            if policy.is_some_and(|policy| policy.targets.matches(&host.labels)) {
                let release = match self.word(id).and_then(|word| word.standing(name)) {
                    Some(standing) => standing.running,
                    None => host.runs.get(name).copied(),
                };
                *running.entry(release).or_default() += 1;
            }
        }
        let running = running.into_iter().map(|(release, hosts)| {
            let known = release.and_then(|release| self.view().releases.get(&release));
            let version = known.map(|known| known.published.version.clone());
            RunningCount { release, version, hosts }
        });
        let record = service.rollouts.last().and_then(|id| self.view().rollouts.get(id));
        Ok(ServicePage {
            service: self.service(name, service),
            policy: service.policy.as_ref().map(|record| record.text.clone()),
            next_seq: self.next_seq(name),
            releases: self.releases(Some(name)),
            running: running.collect(),
            rollout: record.map(present::record_summary),
        })
    }

    /// Releases, newest first: of one service or of all.
    #[must_use]
    pub fn releases(&self, service: Option<&ServiceName>) -> Vec<ReleaseSummary> {
        let mut found: Vec<&Release> = self
            .view()
            .releases
            .values()
            .filter(|release| service.is_none_or(|name| release.published.service == *name))
            .collect();
        found.sort_by_key(|release| std::cmp::Reverse((release.at, release.published.seq)));
        found.truncate(LIST_MAX);
        found.into_iter().map(|release| present::release_summary(self.view(), release)).collect()
    }

    /// A release by its id, or `SERVICE@VERSION`.
    ///
    /// # Errors
    /// [`Refused::UnknownRelease`].
    pub fn release(&self, text: &str) -> Result<&Release, Refused> {
        let unknown = || Refused::UnknownRelease(text.chars().take(200).collect());
        let id = match text.split_once('@') {
            Some((service, version)) => {
                let service = service.parse().map_err(|_| unknown())?;
                self.find_release(&service, version)?
            }
            None => text.parse().map_err(|_| unknown())?,
        };
        self.view().releases.get(&id).ok_or_else(unknown)
    }

    /// Rollouts, newest first: of one service or of all.
    #[must_use]
    pub fn rollouts(&self, service: Option<&ServiceName>) -> Vec<RolloutSummary> {
        let services = self.view().services.iter();
        let of_service = services.filter(|(name, _)| service.is_none_or(|want| *name == want));
        // Of two that began in one moment, the later one of a service comes first.
        let ids = of_service.flat_map(|(_, service)| service.rollouts.iter().rev());
        let records = ids.filter_map(|id| self.view().rollouts.get(id));
        let mut found: Vec<RolloutSummary> = records.map(present::record_summary).collect();
        found.sort_by_key(|summary| std::cmp::Reverse(summary.started));
        found.truncate(LIST_MAX);
        found
    }

    /// The rollouts of one release, newest first.
    #[must_use]
    pub fn rollouts_of(&self, release: &Release) -> Vec<RolloutSummary> {
        let mut found = self.rollouts(Some(&release.published.service));
        found.retain(|summary| summary.release == release.published.release);
        found
    }

    /// One rollout.
    ///
    /// # Errors
    /// [`Refused::UnknownRollout`].
    pub fn rollout_page(&self, id: &RolloutId, detail: Detail) -> Result<RolloutPage, Refused> {
        let record = self.view().rollouts.get(id);
        let record = record.ok_or_else(|| Refused::UnknownRollout(id.clone()))?;
        let mut page = present::rollout_page(self.view(), record, detail, self.now());
        for host in page.hosts.iter_mut().filter(|host| host.why.is_none()) {
            host.why = self.failure_of(&host.name, &page.rollout);
        }
        Ok(page)
    }

    /// What the host itself says of its failure in a rollout, also after it has gone back.
    fn failure_of(&self, name: &HostName, rollout: &RolloutSummary) -> Option<String> {
        let word = self.word(self.view().host_names.get(name)?)?;
        let standing = word.standing(&rollout.service)?;
        let failure = standing.failure.as_ref().filter(|f| f.release == rollout.release)?;
        let ours = standing.rollout.as_ref().is_none_or(|id| *id == rollout.rollout);
        ours.then(|| failure.why.clone())
    }

    /// Hosts, by name.
    #[must_use]
    pub fn hosts(&self, selector: &Selector) -> Vec<HostSummary> {
        let ids = self.view().host_names.values();
        let hosts = ids.filter_map(|id| self.view().hosts.get(id).map(|host| (id, host)));
        hosts
            .filter(|(_, host)| selector.matches(&host.labels))
            .map(|(id, host)| self.host_summary(id, host))
            .collect()
    }

    /// One host.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn host_page(&self, name: &HostName) -> Result<HostPage, Refused> {
        let id = self.host_id(name)?;
        let host = self.view().hosts.get(&id).ok_or_else(|| Refused::UnknownHost(name.clone()))?;
        let report = self.word(&id).and_then(|word| word.report.as_ref());
        Ok(HostPage {
            host: self.host_summary(&id, host),
            enrolled: host.enrolled,
            generation: self.view().wishes(&id).1,
            // Below a lift nobody knows the number any more.
            accepted: report
                .filter(|report| report.generation > 0)
                .map(|report| report.generation.saturating_add(self.view().lift)),
            refusal: report.and_then(|report| report.refusal.as_ref()).map(|r| r.code.clone()),
            free_bytes: report.map(|report| report.free_bytes),
        })
    }

    /// Why a host is where it is.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn host_why_answer(&self, name: &HostName) -> Result<WhyAnswer, Refused> {
        Ok(WhyAnswer { host: name.clone(), why: self.host_why(name)? })
    }

    fn host_summary(&self, id: &HostId, host: &Host) -> HostSummary {
        let word = self.word(id);
        let seen = self.seats.last_seen(id);
        let wishes = self.view().wishes(id).0;
        let mut services: BTreeMap<ServiceName, HostService> = BTreeMap::new();
        for standing in word.and_then(|w| w.report.as_ref()).map_or(&[][..], |r| &r.services) {
            let service = services.entry(standing.service.clone()).or_insert_with_key(empty);
            service.state = Some(standing.state);
            service.running = standing.running;
            service.version = standing.running.and_then(|running| self.version(&running));
            service.previous = standing.previous;
            service.target = standing.target;
            service.health = Some(standing.health);
            service.failure = standing.failure.clone();
            service.switched = standing.switched;
        }
        for (name, release) in &host.runs {
            let service = services.entry(name.clone()).or_insert_with_key(empty);
            // Of a host that is away and has not spoken since a restart: what it ran last.
            if service.state.is_none() {
                service.running = Some(*release);
                service.version = self.version(release);
            }
        }
        let conditions = word.and_then(|word| word.condition.as_ref());
        for condition in conditions.map_or(&[][..], |condition| &condition.services) {
            let service = services.entry(condition.service.clone()).or_insert_with_key(empty);
            service.held = condition.held.as_ref().map(|held| held.why.clone());
            service.fetched = condition.fetched.map(|fetched| (fetched.bytes, fetched.of));
            service.notes.clone_from(&condition.notes);
        }
        for wish in wishes {
            let service = services.entry(wish.service.clone()).or_insert_with_key(empty);
            service.wish = Some(wish.action);
            service.rollout = wish.rollout;
        }
        for service in services.values_mut() {
            let runs = service.running.is_some();
            service.left_over = self.view().is_left_over(&service.service, id, runs);
            let left_over = service.left_over.then(|| self.untargeted(&service.service, host));
            service.left_why = left_over.flatten();
        }
        HostSummary {
            id: *id,
            name: host.name.clone(),
            labels: host.labels.clone(),
            environment: host.environment.clone(),
            connected: self.is_connected(id),
            last_seen: seen,
            agent_version: word.map(|word| word.agent_version.clone()),
            notes: self.host_notes(id),
            services: services.into_values().collect(),
        }
    }

    fn version(&self, release: &ReleaseId) -> Option<groundswell_common::Version> {
        self.view().releases.get(release).map(|release| release.published.version.clone())
    }
}

fn empty(service: &ServiceName) -> HostService {
    HostService {
        service: service.clone(),
        state: None,
        running: None,
        version: None,
        previous: None,
        target: None,
        health: None,
        failure: None,
        switched: None,
        wish: None::<Action>,
        rollout: None,
        held: None,
        fetched: None,
        notes: Vec::new(),
        left_over: false,
        left_why: None,
    }
}
