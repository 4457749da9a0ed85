//! The fold: one entry at a time. The driver and every later start go through this one function, so an
//! entry that fits once fits for ever.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::condition::Lack;
use groundswell_common::limits::APPROVALS_MAX;
use groundswell_common::report::FailedStep;
use groundswell_common::{
    Environment, HostId, OperatorName, ReleaseId, RolloutId, ServiceName, Timestamp,
};
use groundswell_rollout::{
    Back, Effects, HaltCause, HostFact, Input, Moment, Off, Phase, Plan, Policy, PolicyError,
    Progress, RULES_SPOKEN, Resumable, RevertCause, Rollout, Transition, silent, step,
};

use super::evidence::Evidence;
use super::records::Key;
use super::state::{
    Addresses, Fate, Held, Host, Operator, PROVEN_MAX, PolicyRecord, Proven,
    ROLLOUTS_LISTED_PER_SERVICE, Release, RolloutBody, RolloutRecord, Service, Token, View,
};
use crate::entry::{By, Entry, Published, What};
use crate::present;

/// What an entry changed, for whoever must act on it.
#[derive(Debug, Default)]
pub struct Applied {
    /// Hosts whose wish may have changed.
    pub hosts: Vec<HostId>,
    /// Whether every host's wish may have changed.
    pub all_hosts: bool,
    /// The rollout's step, where the entry was one.
    pub effects: Option<Effects>,
}

/// Why an entry does not fit; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Not the next number.
    #[error("apply entry {got}: entry {want} comes next")]
    Order {
        /// What came.
        got: u64,
        /// What was due.
        want: u64,
    },
    /// A token that nobody made, or that is used up or expired.
    #[error("apply an enrolment: the token is not known, used or expired; ask for a new one")]
    Token,
    /// A host that is not enrolled.
    #[error("apply an entry about host {0}: it is not enrolled")]
    UnknownHost(HostId),
    /// A release that was never published.
    #[error("apply an entry about release {0}: it is not published")]
    UnknownRelease(ReleaseId),
    /// A rollout that was never planned, or is only kept in short.
    #[error("apply an entry about rollout {0}: it is over or was never planned")]
    UnknownRollout(RolloutId),
    /// A policy that cannot be read.
    #[error("apply a policy")]
    Policy(#[source] PolicyError),
    /// A step that the rollout refuses.
    #[error("step rollout {rollout}")]
    Step {
        /// Which rollout.
        rollout: RolloutId,
        /// Why not.
        #[source]
        source: groundswell_rollout::Refusal,
    },
}

impl View {
    /// Folds in the next entry.
    ///
    /// # Errors
    /// [`Unfit`]; nothing has changed then.
    pub fn apply(&mut self, entry: &Entry) -> Result<Applied, Unfit> {
        let want = self.seq + 1;
        if entry.seq != want {
            return Err(Unfit::Order { got: entry.seq, want });
        }
        let applied = self.apply_what(entry)?;
        self.seq = entry.seq;
        self.at = Some(entry.at);
        self.dirty.insert(Key::Meta);
        Ok(applied)
    }

    fn apply_what(&mut self, entry: &Entry) -> Result<Applied, Unfit> {
        match &entry.what {
            What::Initialised { fleet, .. } => self.fleet = Some(fleet.clone()),
            What::OperatorPut { name, role, key } => {
                let operator = Operator { role: *role, key: *key, since: Some(entry.at) };
                self.operators.insert(name.clone(), operator);
                self.dirty.insert(Key::Operator(name.clone()));
            }
            What::TokensMade { secrets, labels, environment, expires } => {
                self.drop_old_tokens(entry.at);
                for secret in secrets {
                    let (labels, environment) = (labels.clone(), environment.clone());
                    let token = Token { labels, environment, expires: *expires, used_by: None };
                    self.tokens.insert(*secret, token);
                    self.dirty.insert(Key::Token(*secret));
                }
            }
            What::HostEnrolled { .. } => return self.enrol(entry),
            What::HostRemoved { host } => {
                let gone = self.hosts.remove(host).ok_or(Unfit::UnknownHost(*host))?;
                self.host_names.remove(&gone.name);
                self.dirty.insert(Key::Host(*host));
            }
            What::HostCleared { host, .. } => {
                self.hosts.get_mut(host).ok_or(Unfit::UnknownHost(*host))?.past.clear();
                self.dirty.insert(Key::Host(*host));
            }
            What::HostRuns { host, service, release } => {
                let wish = |view: &Self| view.wish(service, host).map(|(wish, _)| wish);
                let before = wish(self);
                self.hosts.get(host).ok_or(Unfit::UnknownHost(*host))?;
                self.runs(*host, service, *release);
                // Another wish needs a number of its own; the same one keeps its number.
                if wish(self) != before
                    && let Some(found) = self.hosts.get_mut(host)
                {
                    found.seq = entry.seq;
                }
                return Ok(Applied { hosts: vec![*host], ..Applied::default() });
            }
            What::HostDrained { host, why, lifted: _ } => {
                let found = self.hosts.get_mut(host).ok_or(Unfit::UnknownHost(*host))?;
                found.drained.clone_from(why);
                found.seq = entry.seq;
                self.dirty.insert(Key::Host(*host));
                return Ok(Applied { hosts: vec![*host], ..Applied::default() });
            }
            What::HostLabelled { host, labels } => {
                let found = self.hosts.get_mut(host).ok_or(Unfit::UnknownHost(*host))?;
                found.labels = labels.clone();
                found.seq = entry.seq;
                self.dirty.insert(Key::Host(*host));
                return Ok(Applied { hosts: vec![*host], ..Applied::default() });
            }
            What::PolicyPut { service, text, separates } => {
                return self.put_policy(service, (text, *separates), entry.seq);
            }
            What::ReleasePublished(published) => self.publish(published, entry),
            What::ReleaseCleared { release, .. } => {
                let found = self.releases.get(release).ok_or(Unfit::UnknownRelease(*release))?;
                let service = found.published.service.clone();
                // A service that was taken off everyone comes back where a person starts something, not by this.
                let newest = self.newest_rollout(&service);
                let off = newest.is_some_and(|newest| newest.plan().off() == Some(Off::Everyone));
                let found =
                    self.releases.get_mut(release).ok_or(Unfit::UnknownRelease(*release))?;
                found.poisoned = None;
                found.rolled = off;
                found.taken_back.clear();
                for fate in found.lanes.values_mut().filter(|fate| fate.poisoned.is_some()) {
                    *fate = Fate { poisoned: None, rolled: off };
                }
                self.dirty.insert(Key::Release(*release));
                self.judge(release);
                self.forgive(&service, release);
                self.touch(&service, entry.seq);
                return Ok(Applied { all_hosts: true, ..Applied::default() });
            }
            What::ReleaseHeld { release, environment, until, skip, why } => {
                let found = self.releases.get(release).ok_or(Unfit::UnknownRelease(*release))?;
                let service = found.published.service.clone();
                self.hold(
                    &service,
                    Held {
                        release: *release,
                        environment: Some(environment.clone()),
                        until: *until,
                        by: entry.by.operator(),
                        skip: skip.clone(),
                        why: why.clone(),
                    },
                );
            }
            What::RolloutPlanned { rollout, plan, skip } => {
                return self.plan(rollout, (plan, skip.as_ref()), entry);
            }
            What::RolloutInput { rollout, input } => return self.step(rollout, input, entry),
            What::ApprovalSigned { release, envelope, .. } => {
                let found =
                    self.releases.get_mut(release).ok_or(Unfit::UnknownRelease(*release))?;
                if found.approvals.len() >= APPROVALS_MAX {
                    found.approvals.remove(0);
                }
                found.approvals.push(envelope.clone());
                self.dirty.insert(Key::Release(*release));
                let hosts = self.held_for_approval(release);
                return Ok(Applied { hosts, ..Applied::default() });
            }
            What::HostSpeaks { host, level } => {
                let found = self.hosts.get_mut(host).ok_or(Unfit::UnknownHost(*host))?;
                found.level = *level;
                found.seq = entry.seq;
                self.dirty.insert(Key::Host(*host));
                return Ok(Applied { hosts: vec![*host], ..Applied::default() });
            }
            What::HostRenamed { host, name } => {
                let found = self.hosts.get_mut(host).ok_or(Unfit::UnknownHost(*host))?;
                let before = std::mem::replace(&mut found.name, name.clone());
                found.renamed = entry.seq;
                self.host_names.remove(&before);
                self.host_names.insert(name.clone(), *host);
                self.dirty.insert(Key::Host(*host));
                return Ok(Applied { hosts: vec![*host], ..Applied::default() });
            }
            What::AddressesTold { agents, api } => {
                let (agents, api) = (agents.clone(), api.clone());
                self.addresses = Some(Addresses { seq: entry.seq, agents, api });
                return Ok(Applied { all_hosts: true, ..Applied::default() });
            }
            What::Lifted { past, .. } => {
                self.lift = self.lift.max(*past);
                return Ok(Applied { all_hosts: true, ..Applied::default() });
            }
        }
        Ok(Applied::default())
    }

    /// Hosts whose root asks for an approval of the release: they get it with the directive that they have.
    fn held_for_approval(&self, release: &ReleaseId) -> Vec<HostId> {
        let rollouts = self.live_rollouts().filter(|rollout| rollout.release() == *release);
        let held =
            |progress: &Progress| matches!(progress, Progress::Held { lack: Lack::Approval, .. });
        let hosts = rollouts.flat_map(|rollout| rollout.hosts());
        hosts.filter(|(_, _, entry)| held(&entry.progress)).map(|(_, host, _)| host.id).collect()
    }

    /// Tokens that no enrolment can name any more: expired for a day.
    fn drop_old_tokens(&mut self, now: Timestamp) {
        let old = |token: &Token| token.expires.saturating_add(86_400) < now.as_secs();
        let gone: Vec<_> =
            self.tokens.iter().filter(|(_, token)| old(token)).map(|(secret, _)| *secret).collect();
        for secret in gone {
            self.tokens.remove(&secret);
            self.dirty.insert(Key::Token(secret));
        }
    }

    fn enrol(&mut self, entry: &Entry) -> Result<Applied, Unfit> {
        let What::HostEnrolled { host, name, key, token, stays_drained } = &entry.what else {
            return Ok(Applied::default());
        };
        let found = self.tokens.get_mut(token).ok_or(Unfit::Token)?;
        if found.used_by.is_some() || found.expires < entry.at.as_secs() {
            return Err(Unfit::Token);
        }
        found.used_by = Some(*host);
        let record = Host {
            name: name.clone(),
            key: *key,
            labels: found.labels.clone(),
            environment: found.environment.clone(),
            enrolled: entry.at,
            seq: entry.seq,
            past: BTreeMap::new(),
            runs: BTreeMap::new(),
            // What an operator has decided of it does not end with its enrolment.
            drained: self
                .hosts
                .get(host)
                .and_then(|before| before.drained.clone())
                .filter(|_| *stays_drained),
            level: 0,
            renamed: 0,
        };
        if let Some(before) = self.hosts.insert(*host, record) {
            self.host_names.remove(&before.name);
        }
        self.host_names.insert(name.clone(), *host);
        self.dirty.extend([Key::Token(*token), Key::Host(*host)]);
        Ok(Applied { hosts: vec![*host], ..Applied::default() })
    }

    fn put_policy(
        &mut self,
        name: &ServiceName,
        (text, separates): (&str, bool),
        seq: u64,
    ) -> Result<Applied, Unfit> {
        let (policy, behind) = Policy::each_from_toml(text).map_err(Unfit::Policy)?;
        let service = self.services.entry(name.clone()).or_default();
        let mut record =
            PolicyRecord { text: text.to_owned(), policy, behind, separates, was: Vec::new() };
        if let Some(before) = &service.policy {
            record.comes_after(before);
        }
        // What was proven for all is from now on proven for each.
        let names: Vec<Option<Environment>> =
            record.environments().map(|policy| policy.environment.clone()).collect();
        let each = std::mem::take(&mut service.proven).into_iter().flat_map(|proven| {
            let all = proven.environment.is_none();
            let names = if all { names.clone() } else { vec![proven.environment.clone()] };
            names.into_iter().map(move |environment| Proven { environment, ..proven.clone() })
        });
        service.proven = each.collect();
        service.policy = Some(record);
        service.wish_seq = seq;
        self.dirty.insert(Key::Service(name.clone()));
        Ok(Applied { all_hosts: true, ..Applied::default() })
    }

    fn publish(&mut self, published: &Published, entry: &Entry) {
        let release = Release {
            published: published.clone(),
            at: entry.at,
            by: entry.by.clone(),
            poisoned: None,
            taken_back: BTreeSet::new(),
            rolled: false,
            completed: BTreeSet::new(),
            lanes: BTreeMap::new(),
            approvals: Vec::new(),
        };
        self.releases.insert(published.release, release);
        let service = self.services.entry(published.service.clone()).or_default();
        service.releases.push(published.release);
        service.held.extend(published.held_until.map(|until| Held {
            release: published.release,
            environment: None,
            until: Some(until),
            by: entry.by.operator(),
            skip: None,
            why: "published so".to_owned(),
        }));
        let key = Key::Service(published.service.clone());
        self.dirty.extend([Key::Release(published.release), key]);
    }

    /// Holds a release in an environment, in place of what held it there before.
    fn hold(&mut self, name: &ServiceName, held: Held) {
        if let Some(environment) = &held.environment {
            self.let_go(name, held.release, environment);
        }
        self.services.entry(name.clone()).or_default().held.push(held);
        self.dirty.insert(Key::Service(name.clone()));
    }

    /// Nothing holds a release back in an environment any more.
    fn let_go(&mut self, name: &ServiceName, release: ReleaseId, environment: &Environment) {
        let Some(service) = self.services.get_mut(name) else { return };
        let first = service.policy.as_ref().is_none_or(|record| record.begins_in(environment));
        service.held.retain(|held| held.release != release || !held.is_in(environment, first));
    }

    fn plan(
        &mut self,
        id: &RolloutId,
        (plan, skip): (&Plan, Option<&String>),
        entry: &Entry,
    ) -> Result<Applied, Unfit> {
        let at = entry.at;
        let release = plan.release.id;
        let environment = plan.environment.as_ref();
        let found = self.releases.get_mut(&release).ok_or(Unfit::UnknownRelease(release))?;
        // What takes a service off speaks of no release.
        if plan.off().is_none() {
            let service = self.services.get(&plan.service);
            let policy = service.and_then(|service| service.policy.as_ref());
            let named = policy.into_iter().flat_map(PolicyRecord::environments);
            let named = named.filter_map(|policy| policy.environment.as_ref());
            found.roll(environment, named.take_while(|name| Some(*name) != environment));
        }
        match &plan.back {
            Some(back) if back.off == Some(Off::Everyone) => self.unwanted(&plan.service),
            Some(back) => self.proven_again(&plan.service, (back, environment), entry),
            None => {}
        }
        let body = RolloutBody::Live(Box::new(Rollout::new(id.clone(), plan.clone())));
        let skip = skip.cloned();
        let record = RolloutRecord {
            planned: at,
            changed: at,
            skip,
            judged: false,
            evidence: Evidence::default(),
            body,
        };
        self.rollouts.insert(id.clone(), record);
        self.rollouts_planned += 1;
        let service = self.services.entry(plan.service.clone()).or_default();
        service.rollouts.push(id.clone());
        service.live.push(id.clone());
        // Hosts of a rollout that is archived, and those that this plan leaves out, fall back to
        // another wish, which must be newer than the one before.
        service.wish_seq = entry.seq;
        let service = service.clone();
        self.dirty.extend([
            Key::Release(release),
            Key::Rollout(id.clone()),
            Key::Service(plan.service.clone()),
        ]);
        self.let_go(&plan.service, release, &plan.lane());
        self.archive(&plan.service, &service);
        Ok(Applied { all_hosts: true, ..Applied::default() })
    }

    /// Puts rollouts that no longer speak for any host into short form, and forgets the oldest.
    fn archive(&mut self, name: &ServiceName, service: &Service) {
        let environments: BTreeSet<Environment> = match &service.policy {
            Some(record) => record.environments().map(Policy::environment_or_default).collect(),
            None => BTreeSet::from([Environment::default()]),
        };
        let speaking = environments.iter().flat_map(|name| self.speaking(service, name));
        let speaking: BTreeSet<RolloutId> = speaking.map(|rollout| rollout.id().clone()).collect();
        for id in service.live.iter().filter(|id| !speaking.contains(*id)) {
            let Some(record) = self.rollouts.get_mut(id) else { continue };
            let Some(rollout) = record.live() else { continue };
            record.body = RolloutBody::Archived(Box::new(present::summary(record, rollout)));
            self.dirty.insert(Key::Rollout(id.clone()));
        }
        let Some(service) = self.services.get_mut(name) else { return };
        service.live.retain(|id| speaking.contains(id));
        while service.rollouts.len() > ROLLOUTS_LISTED_PER_SERVICE {
            let is_old = |id: &RolloutId| !speaking.contains(id);
            let Some(oldest) = service.rollouts.iter().position(is_old) else { return };
            let oldest = service.rollouts.remove(oldest);
            self.rollouts.remove(&oldest);
            self.dirty.insert(Key::Rollout(oldest));
        }
    }

    fn step(&mut self, id: &RolloutId, input: &Input, entry: &Entry) -> Result<Applied, Unfit> {
        let unknown = || Unfit::UnknownRollout(id.clone());
        let record = self.rollouts.get_mut(id).ok_or_else(unknown)?;
        let RolloutBody::Live(rollout) = &mut record.body else { return Err(unknown()) };
        let moment = Moment { seq: entry.seq, now: entry.at };
        let (was_proven, was_blamed) = (rollout.is_proven(), rollout.is_spoken_against());
        let told = if let Input::Host { host, .. } = input { Some(*host) } else { None };
        let before = told.and_then(|host| Some((host, rollout.host(&host)?.clone())));
        let (late, forward) = (silent(rollout, entry.at), !goes_on_back(rollout.phase()));
        let effects = step(rollout, input, moment)
            .map_err(|source| Unfit::Step { rollout: id.clone(), source })?;
        let is_told = |host: &&HostId| told == Some(**host);
        late.iter()
            .filter(|host| !is_told(host))
            .for_each(|host| record.evidence.silent(*host, rollout));
        if let Input::Host { host, fact, .. } = input {
            record.evidence.hear((*host, fact), rollout, forward);
        }
        if !effects.transitions.is_empty() {
            record.changed = entry.at;
        }
        let (service, release) = (rollout.plan().service.clone(), rollout.release());
        let environment = rollout.plan().environment.clone();
        let after = told.and_then(|host| Some(rollout.host(&host)?.progress.clone()));
        let proven = rollout.is_proven();
        // Poison is an event: what is cleared later stays cleared, whatever hosts say.
        let poison = poison(rollout, (&effects.transitions, input), (was_blamed, record.judged));
        let poison = poison.map(|why| record.evidence.beside(rollout.phase(), &why));
        record.judged |= poison.is_some();
        let by_person = effects.transitions.iter().any(is_taken_back);
        // Hosts outside its plan follow a plan that leads back to nothing, as each does that takes the service off.
        let to_nothing = rollout.plan().back.as_ref().is_some_and(|back| back.to.is_none());
        let turns_all = to_nothing && !effects.transitions.is_empty();
        let runs = told.and_then(|host| Some((host, runs_now(rollout, input)?)));
        self.dirty.insert(Key::Rollout(id.clone()));
        if let Some((host, runs)) = runs {
            self.runs(host, &service, runs);
        }
        if let Some(((host, before), after)) = before.zip(after)
            && let Some(record) = self.hosts.get_mut(&host)
        {
            let past = record.past.entry(service.clone()).or_default();
            if past.learn(&before, &after, (release, entry.at)) {
                self.dirty.insert(Key::Host(host));
            }
        }
        let mut applied = Applied {
            hosts: effects.changed_hosts.clone(),
            all_hosts: effects.all_hosts,
            effects: Some(effects),
        };
        if turns_all {
            self.touch(&service, entry.seq);
            applied.all_hosts = true;
        }
        if proven && !was_proven {
            self.prove(&service, (release, environment.clone()), entry);
            applied.all_hosts = true;
        }
        if let Some(why) = poison {
            self.poison(&service, (release, environment.clone(), why), entry.seq);
            applied.all_hosts = true;
        }
        if by_person
            && let Some(found) = self.releases.get_mut(&release)
            && found.taken_back.insert(environment)
        {
            self.dirty.insert(Key::Release(release));
            self.touch(&service, entry.seq);
            applied.all_hosts = true;
        }
        Ok(applied)
    }

    /// What a host runs now, for those who ask when it is away.
    fn runs(&mut self, host: HostId, service: &ServiceName, release: Option<ReleaseId>) {
        let Some(record) = self.hosts.get_mut(&host) else { return };
        let before = match release {
            Some(release) => record.runs.insert(service.clone(), release),
            None => record.runs.remove(service),
        };
        if before != release {
            self.dirty.insert(Key::Host(host));
        }
    }

    /// A person goes back to an older release: from now on that is what new hosts get.
    fn proven_again(
        &mut self,
        name: &ServiceName,
        (back, environment): (&Back, Option<&Environment>),
        entry: &Entry,
    ) {
        let Some((to, _)) = &back.to else { return };
        let all = self.told_apart(name, to, environment);
        let Some(service) = self.services.get_mut(name) else { return };
        // What was cleared is proven no more, but may be gone back to.
        let seq = service.take_proven(*to, environment, &all).map_or(entry.seq, |again| again.seq);
        let environment = environment.cloned();
        service.proven.push(Proven { release: *to, environment, seq, at: Some(entry.at) });
        self.dirty.insert(Key::Service(name.clone()));
    }

    /// Nobody shall run the service any more: new hosts get nothing, and nothing brings it back by itself.
    fn unwanted(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else { return };
        service.proven.clear();
        service.held.clear();
        for id in &service.releases {
            if let Some(release) = self.releases.get_mut(id) {
                release.put_away();
                self.dirty.insert(Key::Release(*id));
            }
        }
    }

    /// What the release did to hosts no longer keeps it from them.
    fn forgive(&mut self, service: &ServiceName, release: &ReleaseId) {
        for (id, host) in &mut self.hosts {
            if host.past.get_mut(service).is_some_and(|past| past.forgive(release)) {
                self.dirty.insert(Key::Host(*id));
            }
        }
    }

    /// What hosts say in rollouts of the release that there are already poisons it no more.
    fn judge(&mut self, release: &ReleaseId) {
        for (id, record) in &mut self.rollouts {
            if !record.judged && record.live().is_some_and(|rollout| rollout.release() == *release)
            {
                record.judged = true;
                self.dirty.insert(Key::Rollout(id.clone()));
            }
        }
    }

    fn prove(
        &mut self,
        name: &ServiceName,
        (release, environment): (ReleaseId, Option<Environment>),
        entry: &Entry,
    ) {
        let all = self.told_apart(name, &release, environment.as_ref());
        if let Some(found) = self.releases.get_mut(&release) {
            // A rollout that a person let finish has answered for its failures.
            found.absolve(environment.as_ref(), &all);
            found.completed.insert(environment.clone());
        }
        if let Some(service) = self.services.get_mut(name) {
            let here = |proven: &Proven| proven.environment == environment;
            service.take_proven(release, environment.as_ref(), &all);
            let (seq, at) = (entry.seq, Some(entry.at));
            service.proven.push(Proven { release, environment: environment.clone(), seq, at });
            if service.proven.iter().filter(|proven| here(proven)).count() > PROVEN_MAX
                && let Some(oldest) = service.proven.iter().position(here)
            {
                service.proven.remove(oldest);
            }
            service.wish_seq = entry.seq;
        }
        self.dirty.extend([Key::Release(release), Key::Service(name.clone())]);
    }

    /// The release is offered to nobody any more, in the rollout's environment.
    fn poison(
        &mut self,
        name: &ServiceName,
        (release, environment, why): (ReleaseId, Option<Environment>, String),
        seq: u64,
    ) {
        let all = self.told_apart(name, &release, environment.as_ref());
        if let Some(found) = self.releases.get_mut(&release) {
            found.poison(environment.as_ref(), why);
            self.dirty.insert(Key::Release(release));
        }
        if let Some(service) = self.services.get_mut(name) {
            service.take_proven(release, environment.as_ref(), &all);
        }
        self.touch(name, seq);
    }

    /// What hosts without a rollout should run may be another from entry `seq` on.
    fn touch(&mut self, name: &ServiceName, seq: u64) {
        if let Some(service) = self.services.get_mut(name) {
            service.wish_seq = seq;
            self.dirty.insert(Key::Service(name.clone()));
        }
    }
}

/// What a host runs by this fact; `None` where the fact does not say.
fn runs_now(rollout: &Rollout, input: &Input) -> Option<Option<ReleaseId>> {
    let Input::Host { fact, .. } = input else { return None };
    match fact {
        HostFact::SwitchStarted | HostFact::Passed | HostFact::Committed => {
            Some(Some(rollout.release()))
        }
        HostFact::RevertDone { running } | HostFact::Gone { running } => Some(*running),
        HostFact::Staged
        | HostFact::Failed { .. }
        | HostFact::Ill
        | HostFact::Well
        | HostFact::Rested
        | HostFact::Stuck { .. }
        | HostFact::Held { .. }
        | HostFact::Freed
        | HostFact::Fetched { .. } => None,
    }
}

/// Why a step poisons the release; `None` where it does not. More hosts than allowed have failed after their switch
/// and one of them has said so, at once or later; or a person has taken the release back.
fn poison(
    rollout: &Rollout,
    (moved, input): (&[Transition], &Input),
    (blamed, judged): (bool, bool),
) -> Option<String> {
    let fact = if let Input::Host { fact, .. } = input { Some(fact) } else { None };
    let failed = |fact: &HostFact| {
        let after = matches!(fact, HostFact::Failed { step, .. } if *step != FailedStep::Stage);
        after || matches!(fact, HostFact::Stuck { .. })
    };
    let spoken = fact.is_some_and(failed);
    let breach = rollout.phase().breach();
    if let Some(why) = moved.iter().rev().find_map(turned) {
        // What was said before it was cleared says nothing now.
        return Some(why).filter(|_| breach.is_none() || (blamed && !judged) || spoken);
    }
    let late = spoken && !judged && rollout.plan().rules >= RULES_SPOKEN;
    breach.filter(|_| late).map(|breach| format!("stopped: {breach}"))
}

/// Whether a person takes the release of a rollout that moves so back.
fn is_taken_back(moved: &Transition) -> bool {
    matches!(moved.to, Phase::Reverting { cause: RevertCause::Person { .. }, .. })
}

/// Why a rollout that moves so speaks against its release; that a stopped way back goes on is not said again.
fn turned(moved: &Transition) -> Option<String> {
    match &moved.to {
        Phase::Halted { cause, .. } => match cause {
            HaltCause::Breach(_) => Some(format!("halted: {cause}")),
            // The release may be good: nobody has seen it fail.
            HaltCause::NoProgress { .. } | HaltCause::Person { .. } | HaltCause::Gate { .. } => {
                None
            }
        },
        // The release is as good as it was.
        Phase::Reverting { cause: RevertCause::Removed { .. }, .. } => None,
        Phase::Reverting { cause, .. } => {
            (!goes_on_back(&moved.from)).then(|| format!("reverted: {cause}"))
        }
        Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Done { .. } => None,
    }
}

/// Whether a rollout in this phase is on its way back, stopped or not.
fn goes_on_back(phase: &Phase) -> bool {
    match phase {
        Phase::Reverting { .. } => true,
        Phase::Paused { resume, .. } | Phase::Halted { resume, .. } => match resume {
            Resumable::Reverting { .. } => true,
            Resumable::Running { .. }
            | Resumable::Baking { .. }
            | Resumable::Gated { .. }
            | Resumable::Completed { .. } => false,
        },
        Phase::Planned
        | Phase::Running { .. }
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Done { .. } => false,
    }
}

impl By {
    /// The person or job, where it was one.
    #[must_use]
    pub fn operator(&self) -> Option<OperatorName> {
        match self {
            Self::Operator(name) => Some(name.clone()),
            Self::Coordinator | Self::Host(_) => None,
        }
    }
}
