//! A simulated machine: an agent, its clock and its link, and the services on it. Owns which directives it
//! accepts and what it reports; never judges.

use std::collections::BTreeMap;

use groundswell_common::condition::Condition;
use groundswell_common::directive::ServiceWish;
use groundswell_common::report::{RefusalNote, Report};
use groundswell_common::{HostId, ServiceName, Timestamp};

use crate::site::{Ask, Seen, Site};

/// One machine.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Whose key its agent has.
    pub(crate) key: HostId,
    /// Services, by name.
    pub(crate) sites: BTreeMap<ServiceName, Site>,
    /// The newest generation that it accepted, and what that said.
    pub(crate) accepted: u64,
    wishes: Vec<ServiceWish>,
    /// Whether its network is up.
    pub(crate) connected: bool,
    /// Whether its agent runs.
    pub(crate) up: bool,
    /// Until when the whole machine is suspended.
    pub(crate) asleep_until: Option<Timestamp>,
    /// What its clock will be ahead by at its next start, in milliseconds: while the agent runs, it is steady.
    pub(crate) next_ahead: i64,
    /// Which of its connections this is.
    pub(crate) session: u64,
    reports: u64,
    /// What it said last in this session.
    said: Option<Report>,
    /// What it has and lacked when it said so last in this session.
    had: Option<Condition>,
    /// Why it refused the newest directive.
    refused: Option<RefusalNote>,
    /// Tells starts of its agent apart.
    instance: [u8; 16],
    /// Whether what it says has nothing to do with what it is.
    pub(crate) lies: bool,
}

/// A directive with a number that was used for other contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Equivocal;

impl Host {
    pub(crate) fn new(key: HostId) -> Self {
        Self {
            key,
            sites: BTreeMap::new(),
            accepted: 0,
            wishes: Vec::new(),
            connected: false,
            up: true,
            asleep_until: None,
            next_ahead: 0,
            session: 0,
            reports: 0,
            said: None,
            had: None,
            refused: None,
            instance: [0; 16],
            lies: false,
        }
    }

    /// Whether messages reach it and it acts.
    pub(crate) fn is_awake(&self) -> bool {
        self.up && self.asleep_until.is_none()
    }

    /// Takes a directive, unless it is older than one before.
    pub(crate) fn directive(
        &mut self,
        generation: u64,
        wishes: &[ServiceWish],
        now: Timestamp,
    ) -> Result<(), Equivocal> {
        let refused = |code: &str| Some(RefusalNote { generation, code: code.to_owned() });
        if generation < self.accepted {
            self.refused = refused("old_generation");
            return Ok(());
        }
        if generation == self.accepted && self.wishes != wishes {
            self.refused = refused("equivocation");
            return Err(Equivocal);
        }
        self.refused = None;
        self.accepted = generation;
        self.wishes = wishes.to_vec();
        for (service, site) in &mut self.sites {
            match wishes.iter().find(|wish| wish.service == *service) {
                Some(wish) => site.wish(generation, wish, now),
                None => site.unwished(generation, now),
            }
        }
        Ok(())
    }

    /// A session begins: everything is said anew.
    pub(crate) fn begin_session(&mut self, session: u64) {
        self.connected = true;
        self.session = session;
        self.said = None;
        self.had = None;
    }

    /// What it says, where that is news in this session.
    pub(crate) fn report(&mut self) -> Option<Report> {
        if !self.connected || !self.is_awake() {
            return None;
        }
        let report = Report {
            seq: self.reports + 1,
            generation: self.accepted,
            services: self.sites.values().map(Site::standing).collect(),
            free_bytes: 1 << 40,
            refusal: self.refused.clone(),
        };
        let news = self.said.as_ref().is_none_or(|said| {
            let of = |report: &Report| (report.generation, report.refusal.clone());
            of(said) != of(&report) || said.services != report.services
        });
        if !news {
            return None;
        }
        self.reports += 1;
        for site in self.sites.values_mut() {
            site.number_report(self.reports);
        }
        self.said = Some(report.clone());
        Some(report)
    }

    /// What it has and lacks, where that is news in this session.
    pub(crate) fn condition(&mut self) -> Option<Condition> {
        if !self.connected || !self.is_awake() {
            return None;
        }
        let room = self.sites.values().all(|site| site.lot.room);
        let condition = Condition {
            instance: self.instance,
            free_bytes: if room { 1 << 40 } else { 0 },
            free_inodes: u64::MAX,
            platform: "linux-x86_64".to_owned(),
            settings: None,
            services: self.sites.values().map(Site::condition).collect(),
        };
        if self.had.as_ref() == Some(&condition) {
            return None;
        }
        self.had = Some(condition.clone());
        Some(condition)
    }

    /// The coordinator has one of its reports.
    pub(crate) fn acknowledged(&mut self, report: u64, now: Timestamp) {
        for site in self.sites.values_mut() {
            site.acknowledged(report, now);
        }
    }

    /// Whether contact would bring any of its services on.
    pub(crate) fn wants_contact(&self) -> bool {
        self.sites.values().any(Site::wants_contact)
    }

    pub(crate) fn linked(&mut self, now: Timestamp) {
        for site in self.sites.values_mut() {
            site.linked(now);
        }
    }

    /// The agent dies.
    pub(crate) fn crash(&mut self) {
        self.up = false;
        self.reports = 0;
        for site in self.sites.values_mut() {
            site.crash();
        }
    }

    /// The agent starts again.
    pub(crate) fn restart(&mut self, instance: u64, now: Timestamp) {
        self.up = true;
        self.instance[..8].copy_from_slice(&instance.to_be_bytes());
        for site in self.sites.values_mut() {
            site.restart(self.next_ahead, now);
        }
    }

    /// Whether one of its services died of what it did: then the agent is dead.
    pub(crate) fn has_died(&self) -> bool {
        self.up && self.sites.values().any(|site| !site.is_up())
    }

    pub(crate) fn take_asks(&mut self) -> Vec<Ask> {
        self.sites.values_mut().flat_map(Site::take_asks).collect()
    }

    pub(crate) fn take_seen(&mut self) -> Vec<(ServiceName, Seen)> {
        let sites = self.sites.iter_mut();
        sites
            .flat_map(|(name, site)| site.take_seen().into_iter().map(|seen| (name.clone(), seen)))
            .collect()
    }

    /// When something happens on it by itself.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        if let Some(until) = self.asleep_until {
            return Some(until);
        }
        self.sites.values().filter_map(Site::next).min().filter(|_| self.up)
    }

    /// Lets one thing happen that is due.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let ripe = |site: &&mut Site| site.next().is_some_and(|at| at <= now);
        if let Some(site) = self.sites.values_mut().find(ripe) {
            site.advance(now);
        }
    }

    pub(crate) fn in_flight(&self) -> bool {
        self.sites.values().any(Site::in_flight)
    }
}
