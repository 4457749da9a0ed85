//! A service that is taken off its hosts: off all of them, or off those that its policy does not target any more.
//! A way back to nothing, by the waves and slots of the policy (docs/removal.md).

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::api::{RemovalPreview, RemovalRuns, RevertOther};
use groundswell_common::condition::Lack;
use groundswell_common::directive::Action;
use groundswell_common::selector::Selector;
use groundswell_common::wire::LEVEL_REMOVES;
use groundswell_common::{HostId, OperatorName, ReleaseId, RolloutId, ServiceName, Version};
use groundswell_rollout::{Back, HostFacts, Input, Off, PhaseName, PlannedHold, plan_off};

use crate::control::Control;
use crate::entry::By;
use crate::lanes::Lane;
use crate::preflight;
use crate::refused::Refused;
use crate::view::{Host, Release, Service};
use crate::why::not_named;

/// Hosts that a service is taken off, and those that it stays on for now.
struct Who {
    goes: Vec<HostFacts>,
    stays: Vec<PlannedHold>,
    runs: BTreeMap<Option<ReleaseId>, u64>,
}

impl Control {
    /// What [`Control::take_off`] would do.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn removal_preview(&self, name: &ServiceName, off: Off) -> Result<RemovalPreview, Refused> {
        let (_, _, who) = self.removal(name, off)?;
        let runs = who.runs.iter().map(|(release, hosts)| RemovalRuns {
            version: release.and_then(|release| self.version(&release)),
            hosts: *hosts,
        });
        let other = |held: &PlannedHold| RevertOther {
            host: held.name.clone(),
            runs: self
                .view
                .hosts
                .get(&held.id)
                .and_then(|host| host.runs.get(name).and_then(|release| self.version(release))),
            why: Some(preflight::said(&held.name, (held.lack, &held.why))),
        };
        Ok(RemovalPreview {
            service: name.clone(),
            hosts: who.goes.len() as u64,
            runs: runs.collect(),
            others: who.stays.iter().map(other).collect(),
        })
    }

    /// Takes a service off its hosts; the rollout that does it.
    ///
    /// # Errors
    /// As [`Control::removal_preview`]; nothing has changed then.
    pub fn take_off(
        &mut self,
        by: &OperatorName,
        name: &ServiceName,
        (off, why): (Off, &str),
    ) -> Result<RolloutId, Refused> {
        let (last, leaving, who) = self.removal(name, off)?;
        let back = Back { to: None, by: by.clone(), why: why.to_owned(), off: Some(off) };
        let reference = self.reference(&last, &leaving);
        let plan = plan_off(&last.policy, &who.goes, &reference, (back, who.stays));
        let plan = plan.map_err(Refused::Plan)?;
        let goes: Vec<HostId> = who.goes.iter().map(|host| host.id).collect();
        let lanes = self.lanes(name)?.into_iter();
        let before = lanes.filter_map(|lane| self.view.newest_in(name, &lane.environment));
        let before: BTreeSet<RolloutId> = before.map(|rollout| rollout.id().clone()).collect();
        let rollout = self.begin(By::Operator(by.clone()), plan, None)?;
        match off {
            Off::Everyone => {}
            // The rollout before speaks for the others on, and for these no more.
            Off::LeftOver => before.iter().for_each(|before| self.leave_out(before, &goes)),
        }
        Ok(rollout)
    }

    fn leave_out(&mut self, rollout: &RolloutId, hosts: &[HostId]) {
        for host in hosts {
            let has = self.view.rollout(rollout).is_some_and(|found| found.host(host).is_some());
            if has {
                self.submit_or_note(By::Coordinator, rollout, Input::Removed { host: *host });
            }
        }
    }

    /// The policy by which it goes, the release that stands for all that is left, and the hosts. It is taken off all
    /// environments by one plan, with the policy of the last one, which is the most careful.
    fn removal(&self, name: &ServiceName, off: Off) -> Result<(Lane, Release, Who), Refused> {
        let service = self.view.services.get(name);
        let service = service.ok_or_else(|| Refused::UnknownService(name.clone()))?;
        let none = || Refused::NothingRuns(name.clone());
        let runs = || self.view.hosts.values().any(|host| host.runs.contains_key(name));
        if service.policy.is_none() && !runs() {
            return Err(none());
        }
        let mut lanes = self.lanes(name)?;
        let newest = lanes.iter().filter_map(|lane| self.view.newest_in(name, &lane.environment));
        for current in newest.chain(self.view.newest_rollout(name)) {
            let busy = match current.phase().name() {
                PhaseName::Reverting | PhaseName::Paused => true,
                PhaseName::Planned
                | PhaseName::Running
                | PhaseName::Baking
                | PhaseName::Gated
                | PhaseName::Halted => off == Off::LeftOver,
                PhaseName::Done => false,
            };
            if busy {
                return Err(Refused::Busy(current.id().clone()));
            }
        }
        let last = lanes.pop().ok_or_else(|| Refused::NoPolicy(name.clone()))?;
        let leaving = self.stands_for_all(service, &last).ok_or_else(none)?.clone();
        let who = self.who_loses(name, &leaving, off);
        match who.stays.first() {
            Some(first) if who.goes.is_empty() => {
                let why = preflight::said(&first.name, (first.lack, &first.why));
                Err(Refused::AllHeld { host: first.name.clone(), why })
            }
            None if who.goes.is_empty() => Err(none()),
            Some(_) | None => Ok((last, leaving, who)),
        }
    }

    /// What new hosts get, else what most hosts run, else the newest release.
    fn stands_for_all(&self, service: &Service, last: &Lane) -> Option<&Release> {
        let name = &last.policy.service;
        let mut runs: BTreeMap<ReleaseId, u64> = BTreeMap::new();
        for host in self.view.hosts.values() {
            if let Some(release) = host.runs.get(name) {
                *runs.entry(*release).or_default() += 1;
            }
        }
        let most = runs.into_iter().max_by_key(|(_, hosts)| *hosts).map(|(release, _)| release);
        let known = |release: ReleaseId| self.view.releases.get(&release);
        [self.view.baseline(service, &last.environment), most, service.newest()]
            .into_iter()
            .flatten()
            .find_map(known)
    }

    fn who_loses(&self, name: &ServiceName, leaving: &Release, off: Off) -> Who {
        let mut who = Who { goes: Vec::new(), stays: Vec::new(), runs: BTreeMap::new() };
        let Some(service) = self.view.services.get(name) else { return who };
        for (id, host) in &self.view.hosts {
            let targeted = service.targets(host);
            let taken_off = self.view.is_taken_off(service, &host.environment);
            let standing = self.words.get(id).and_then(|word| word.standing(name));
            let runs = self.runs((id, host), name);
            let rests = standing.is_none_or(|standing| standing.state.is_at_rest());
            // Of one that has not spoken since a restart nobody knows what it has; the coordinator will take that
            // off, where it is to be off everyone already.
            let unheard = standing.is_none() && runs.is_none() && targeted && !taken_off;
            // It may be on its way to a release, with a permit that nobody has heard of again.
            let wished = self.view.wish(name, id).map(|(wish, _)| wish.action);
            let may_switch = matches!(wished, Some(Action::Switch { .. }));
            let has_some = runs.is_some() || !rests || unheard || may_switch;
            if !has_some || (off == Off::LeftOver && targeted) {
                continue;
            }
            if let Some((lack, why)) = self.keeps(id, host) {
                who.stays.push(PlannedHold { id: *id, name: host.name.clone(), lack, why });
                continue;
            }
            *who.runs.entry(runs).or_default() += 1;
            let running = runs.filter(|_| rests).map(|_| leaving.published.release);
            who.goes.push(HostFacts { running, ..self.host_facts((id, host), leaving) });
        }
        who.stays.sort_by(|a, b| a.name.cmp(&b.name));
        who
    }

    /// Why a service cannot be taken off a host now.
    pub(crate) fn keeps(&self, id: &HostId, host: &Host) -> Option<(Lack, String)> {
        if let Some(kept_out) = self.kept_out(id) {
            return Some(kept_out);
        }
        (host.level < LEVEL_REMOVES).then(|| {
            let why = "its agent is not known to be able to; install this version's package there, or let it \
                       connect once";
            (Lack::Agent, why.to_owned())
        })
    }

    /// That a host runs a service that it is no target of, with the next step.
    #[must_use]
    pub fn left_over(&self, name: &ServiceName, (id, host): (&HostId, &Host)) -> Option<String> {
        let runs = self.runs((id, host), name)?;
        let left = self.view.is_left_over(name, id, true);
        left.then(|| {
            let version = self.version(&runs).map(|version| format!(" {version}")).unwrap_or_default();
            let service = self.view.services.get(name);
            let record = service.and_then(|service| service.policy.as_ref());
            let named = service.and_then(|service| service.policy_of(&host.environment)).is_some();
            if let Some(record) = record.filter(|_| !named) {
                let not_named = not_named(&host.environment, record);
                return format!("{name}{version} runs on here, but {not_named}");
            }
            let why = self.untargeted(name, host).unwrap_or_default();
            format!(
                "{name}{version} runs here, and is no more its policy's: {why}; if not, 'swell service remove {name} \
                 --left-over' takes it off"
            )
        })
    }

    /// Which line of its policy leaves a host out, and what to do where that is a mistake.
    #[must_use]
    pub fn untargeted(&self, name: &ServiceName, host: &Host) -> Option<String> {
        let service = self.view.services.get(name)?;
        let record = service.policy.as_ref()?;
        let Some(policy) = service.policy_of(&host.environment) else {
            return Some(not_named(&host.environment, record));
        };
        let targets = &policy.targets;
        let targets = as_written(targets);
        let was = record.was.iter().find(|(of, _)| *of == host.environment);
        let was = was.filter(|(_, was)| was.matches(&host.labels));
        Some(match was.map(|(_, was)| as_written(was)) {
            Some(was) => format!(
                "targets = \"{targets}\" does not match, and was \"{was}\" before; if that was a mistake, write \
                 targets = \"{was}\" again and 'swell service apply' it"
            ),
            None => format!(
                "targets = \"{targets}\" does not match its labels; if that was a mistake, 'swell host label' gives \
                 them back"
            ),
        })
    }

    pub(crate) fn version(&self, release: &ReleaseId) -> Option<Version> {
        self.view.releases.get(release).map(|release| release.published.version.clone())
    }
}

/// Targets as a policy has them.
fn as_written(targets: &Selector) -> String {
    let text = targets.to_string();
    if text.is_empty() { "*".to_owned() } else { text }
}
