//! Why a host is not what it should be: the cause first, then what is so, from what the host itself says and what
//! its rollouts say of it. The whole answer for a host; tables show its notes, or what its rollout has of it.

use std::collections::BTreeSet;

use groundswell_common::condition::Lack;
use groundswell_common::directive::Action;
use groundswell_common::report::{Failure, HostState, Standing, Verdict};
use groundswell_common::selector::nearest;
use groundswell_common::{Environment, HostName, ReleaseId, ServiceName, one_line};
use groundswell_common::{HostId, name_of};
use groundswell_rollout::{
    Outcome, Phase, PhaseName, Policy, Progress, Rollout, Why, earliest, explain,
};

use crate::control::Control;
use crate::preflight;
use crate::present;
use crate::refused::Refused;
use crate::twins;
use crate::view::{Host, PolicyRecord, Service};

/// How near a sentence is to the cause: what is wrong comes before what is waited for, that before what is well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Wrong,
    Waits,
    Well,
}

impl Control {
    /// Why a host is where it is, one sentence each, the cause first. Never empty.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn host_why(&self, name: &HostName) -> Result<Vec<String>, Refused> {
        let id = self.host_id(name)?;
        let host = self.view.hosts.get(&id).ok_or_else(|| Refused::UnknownHost(name.clone()))?;
        let mut why: Vec<(Rank, String)> =
            self.host_notes(&id).into_iter().map(|note| (Rank::Wrong, note)).collect();
        if !self.is_connected(&id) {
            let next = "look at 'groundswell-agent doctor' there";
            why.push((Rank::Wrong, format!("the host is not connected; {next}")));
        }
        for (name, service) in &self.view.services {
            self.trouble(&id, name, &mut why);
            why.extend(self.left_over(name, (&id, host)).map(|text| (Rank::Wrong, text)));
            self.course((&id, host), (name, service), &mut why);
            let waits = self.stalls(name).into_iter().chain(self.waits(name));
            let here = waits.filter(|(environment, _)| *environment == host.environment);
            why.extend(here.map(|(_, waits)| (Rank::Waits, format!("{name}: {waits}"))));
        }
        if self.view.services.is_empty() {
            why.push((Rank::Waits, "no service has a policy or a release yet".to_owned()));
        }
        why.sort_by_key(|(rank, _)| *rank);
        Ok(why.into_iter().map(|(_, sentence)| sentence).collect())
    }

    /// What an operator should know of a host itself, a sentence each, with the next step.
    #[must_use]
    pub fn host_notes(&self, id: &HostId) -> Vec<String> {
        let mut notes = Vec::new();
        let Some(host) = self.view.hosts.get(id) else { return notes };
        if self.is_twin(id) {
            notes.push(twins::WHY.to_owned());
        }
        if let Some(why) = &host.drained {
            notes.push(preflight::said(&host.name, (Lack::Drained, why)));
        }
        let word = self.words.get(id);
        if let Some(why) = word.and_then(|word| word.condition.as_ref()?.settings.as_ref()) {
            notes.push(format!(
                "its agent.toml cannot be read, so it goes on with the settings before: {why}"
            ));
        }
        let condition = word.and_then(|word| word.condition.as_ref());
        let report = word.and_then(|word| word.report.as_ref());
        let (no_byte, no_inode) = (
            report.is_some_and(|report| report.free_bytes == 0),
            condition.is_some_and(|at| at.free_inodes == 0 && at.free_bytes > 0),
        );
        // What holds a release for want of room says it with the numbers.
        let is_told = condition.into_iter().flat_map(|at| &at.services).any(|of| {
            let told = [Lack::Room, Lack::Inodes, Lack::Journal];
            of.held.as_ref().is_some_and(|held| told.contains(&held.lack))
        });
        if (no_byte || no_inode) && !is_told {
            let (what, shows) = if no_byte { ("byte", "df") } else { ("inode", "df --inodes") };
            notes.push(format!(
                "no {what} is free on the disk of its agent, so nothing is fetched, switched or taken back; make room \
                 there ('{shows}' shows where)"
            ));
        }
        if let Some(claimed) = word.and_then(|word| self.claims_too_much(word)) {
            notes.push(format!(
                "it says that it accepted directive {claimed}, which this coordinator cannot have given: do not trust \
                 what that machine says; 'swell host remove {}', and set it up anew",
                host.name
            ));
        }
        if let Some(refusal) = report.and_then(|report| report.refusal.as_ref()) {
            notes.extend(refused(&refusal.code));
        }
        notes.extend(self.nowhere(host));
        notes.extend(self.view.services.iter().filter_map(|found| self.behind((id, host), found)));
        notes
    }

    /// That a host is in an environment that no policy names, as after a slip in its token.
    fn nowhere(&self, host: &Host) -> Option<String> {
        let services = self.view.services.values();
        let policies = services.filter_map(|service| service.policy.as_ref());
        let here = &host.environment;
        if policies.clone().any(|record| record.of(here).is_some()) {
            return None;
        }
        let lanes: BTreeSet<Environment> = policies
            .flat_map(|record| record.environments().map(Policy::environment_or_default))
            .collect();
        let names: Vec<&str> = lanes.iter().map(Environment::as_str).collect();
        let meant = nearest(here.as_str(), names.iter().copied());
        let meant = meant.map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
        (!names.is_empty()).then(|| {
            format!(
                "its environment is {here}, which no policy names, so it gets nothing{meant}; they have {}: \
                 'swell host remove {}', then enrol it with a token for one of them",
                names.join(", "),
                host.name
            )
        })
    }

    /// That a host runs less than what is proven and no rollout brings it there any more: it was away when its turn
    /// came, and the rollout ended or gave way before it was back.
    fn behind(
        &self,
        (id, host): (&HostId, &Host),
        (name, service): (&ServiceName, &Service),
    ) -> Option<String> {
        let (rollout, wish) = self.view.governing(service, id)?;
        let passed_by = matches!(
            rollout.host(id)?.progress,
            Progress::Pending
                | Progress::Staging
                | Progress::Staged
                | Progress::Absent
                | Progress::Held { .. }
        );
        let progress = &rollout.host(id)?.progress;
        let late = matches!(progress, Progress::Staging | Progress::Staged | Progress::Absent);
        let completed = matches!(rollout.phase(), Phase::Done { outcome: Outcome::Completed, .. });
        // It comes late, by itself.
        if late && completed && rollout.successor().is_none() {
            return None;
        }
        let over = rollout.is_over() && wish.action == (Action::Hold {});
        let found = |release: &ReleaseId| self.view.releases.get(release).map(|r| &r.published);
        let runs = found(host.runs.get(name)?)?;
        let proven = found(&self.view.baseline(service, &host.environment)?)?;
        if !over || !passed_by || host.drained.is_some() || runs.seq >= proven.seq {
            return None;
        }
        let several = service.policy.as_ref()?.environments().count() > 1;
        let place =
            if several { format!(" --environment {}", host.environment) } else { String::new() };
        Some(format!(
            "{name}: it runs {}, is behind the proven {}, and no rollout brings it there any more; 'swell rollout \
             start {name} {}{place}'",
            runs.version, proven.version, proven.version
        ))
    }

    /// What a host says is wrong with a service.
    fn trouble(&self, id: &HostId, name: &ServiceName, why: &mut Vec<(Rank, String)>) {
        let Some(word) = self.words.get(id) else { return };
        if let Some(condition) = word.condition_of(name) {
            let paused = preflight::paused_by_owner(condition);
            why.extend(paused.map(|paused| (Rank::Wrong, format!("{name}: {paused}"))));
            let held = condition.held.as_ref().map(|held| held.why.clone());
            why.extend(held.map(|held| (Rank::Wrong, format!("{name}: {held}"))));
            let notes = condition.notes.iter().map(|note| (Rank::Wrong, format!("{name}: {note}")));
            why.extend(notes);
        }
        let Some(standing) = word.standing(name) else { return };
        let cause = standing.failure.as_ref().map(|failure| one_line(&failure.why));
        let cause = cause.filter(|cause| !cause.is_empty());
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        let runs = self.version_text(standing.running.as_ref());
        match (standing.state, standing.health) {
            (HostState::Stuck, _) => {
                let next = match cause.as_str() {
                    // Such as a journal that it cannot read: it has nothing to tell.
                    "" => {
                        "'groundswell-agent doctor' there names the cause and the step".to_owned()
                    }
                    _ => format!(
                        "mend that, then 'groundswell-agent retry {name}' there starts and probes what is live"
                    ),
                };
                why.push((Rank::Wrong, format!("{name}: it is stuck with {runs}{cause}; {next}")));
            }
            // What failed is what it leaves; of what it goes back to nothing is known yet.
            (HostState::Reverting, _) => {
                let to = self.version_text(standing.target.as_ref());
                let left = standing.failure.as_ref().map(|failure| failure.release);
                let from = self.version_text(left.as_ref().or(standing.running.as_ref()));
                let back = format!("{name}: it goes back from {from} to {to}{cause}");
                why.push((Rank::Wrong, back));
            }
            (_, Verdict::Fail) => {
                let condition = word.condition_of(name);
                let held = condition.and_then(|condition| condition.held.as_ref());
                // What was changed on this host says nothing of the release.
                let drifted = held.is_some_and(|held| held.lack == Lack::Drift);
                let mut next = "'groundswell-agent doctor' there says more".to_owned();
                if !drifted {
                    next.push_str(&format!(
                        "; where the release is at fault, 'swell revert {name}' takes the release back everywhere"
                    ));
                }
                why.push((Rank::Wrong, format!("{name}: {runs} fails its probes{cause}; {next}")));
            }
            (
                HostState::Idle
                | HostState::Fetching
                | HostState::Staged
                | HostState::Switching
                | HostState::Probing
                | HostState::Baking
                | HostState::Committed,
                Verdict::Pass | Verdict::Inconclusive,
            ) => {}
        }
    }

    /// Where a host stands by the rollout that speaks for it, or by what new hosts get.
    fn course(
        &self,
        (id, host): (&HostId, &Host),
        (name, service): (&ServiceName, &Service),
        why: &mut Vec<(Rank, String)>,
    ) {
        let skips = |rollout: &&Rollout| rollout.plan().skipped.iter().any(|host| host.id == *id);
        let skipped = self.view.newest_in(name, &host.environment).filter(skips);
        let governing = self.view.governing(service, id).map(|(rollout, _)| rollout);
        if let Some(rollout) = skipped.or(governing) {
            return self.by_rollout(id, (name, rollout), why);
        }
        let policy = service.policy_of(&host.environment);
        if let (Some(record), None) = (&service.policy, policy) {
            if self.nowhere(host).is_some() {
                return;
            }
            let text = not_named(&host.environment, record);
            return why.push((Rank::Wrong, format!("{name}: {text}")));
        }
        let targets = policy.map(|policy| &policy.targets);
        let fits = targets.is_some_and(|targets| targets.matches(&host.labels));
        let standing = self.words.get(id).and_then(|word| word.standing(name));
        let (rank, text) = match (targets, fits, self.view.baseline(service, &host.environment)) {
            _ if self.view.is_taken_off(service, &host.environment) => {
                self.by_removal(id, host, name)
            }
            // A slip in a name, or what is yet to be set up, is no matter of a host that has nothing of it.
            (None, _, _) if standing.is_none() && self.view.has_policies() => return,
            (None, _, _) => (Rank::Waits, "the service has no policy".to_owned()),
            (Some(targets), false, _) => {
                let keeps = match host.runs.get(name) {
                    Some(runs) => format!(", so it keeps {}", self.version_text(Some(runs))),
                    None => String::new(),
                };
                let text = format!("the host's labels do not match targets = \"{targets}\"{keeps}");
                (Rank::Waits, text)
            }
            (Some(_), true, None) => (Rank::Waits, "no release has been proven yet".to_owned()),
            (Some(_), true, Some(release)) => match self.view.runs_poisoned((name, host), &release)
            {
                Some(bad) if !bad.is_taken_back(&host.environment) => {
                    let version = &bad.published.version;
                    let next = format!("'swell revert {name}' takes it back");
                    let text = format!(
                        "it keeps {version}, which is poisoned: no rollout brought it here; {next}"
                    );
                    (Rank::Wrong, text)
                }
                Some(_) | None => self.by_baseline(standing, &release),
            },
        };
        why.push((rank, format!("{name}: {text}")));
    }

    fn by_rollout(
        &self,
        id: &HostId,
        (name, rollout): (&ServiceName, &Rollout),
        why: &mut Vec<(Rank, String)>,
    ) {
        let now = self.now;
        let version = &rollout.plan().release.version;
        for reason in explain(rollout, Some(id), now) {
            // What the host says itself, or is said of the host as a whole, is said once.
            let held =
                matches!(&reason, Why::HostHeld { lack, .. } if self.is_told(id, name, *lack));
            // What is stuck fetches nothing.
            let stuck = matches!(&reason, Why::HostStaging { .. }) && self.is_stuck(id, name);
            if held || stuck || matches!(&reason, Why::HostAway { .. }) {
                continue;
            }
            let failed =
                self.failed_before(id, (name, rollout)).filter(|_| reason == Why::HostReverted);
            let (rank, reason) = match (failed, &reason) {
                (Some(failed), _) => (Rank::Wrong, failed),
                (None, Why::HostFailed { reverted: true, .. }) => {
                    (Rank::Wrong, format!("{reason}; {}", self.after_failure(id, rollout)))
                }
                (None, Why::HostProbing { .. }) => {
                    let starts = self.starts(id, (name, rollout));
                    (Rank::Waits, starts.unwrap_or_else(|| reason.to_string()))
                }
                (None, reason) => (rank_of(reason), reason.to_string()),
            };
            let host = self.view.hosts.get(id).map(|host| &host.name);
            let reason = present::typed(&reason, rollout, host);
            why.push((rank, format!("{name} {version}: {reason}")));
        }
        let at = earliest(rollout, id, now).filter(|at| *at > now);
        let at = at.map(|at| format!("{name} {version}: it may switch at {at} at the earliest"));
        why.extend(at.map(|at| (Rank::Waits, at)));
    }

    /// What a host does that has switched and not yet started what is live; `None` where it does something else.
    fn starts(&self, id: &HostId, (name, rollout): (&ServiceName, &Rollout)) -> Option<String> {
        let standing = self.words.get(id)?.standing(name)?;
        let times = standing.switched.filter(|times| times.passed.is_none())?;
        let ours =
            standing.state == HostState::Switching && standing.target == Some(rollout.release());
        let until = times.started.plus_secs(rollout.plan().probe_deadline_secs);
        ours.then(|| {
            format!(
                "it has switched at {} and what is live is being started; what ran before and does not obey its stop \
                 is killed at {until}, by its clock",
                times.started
            )
        })
    }

    /// What a person does about a host on which the release failed and the one before is back.
    fn after_failure(&self, id: &HostId, rollout: &Rollout) -> String {
        let over = matches!(rollout.phase(), Phase::Done { outcome, .. } if *outcome != Outcome::Completed);
        let host = self.view.hosts.get(id).map(|host| host.name.as_str()).unwrap_or("NAME");
        if over || rollout.phase().name() == PhaseName::Reverting {
            return "publish a corrected release".to_owned();
        }
        format!(
            "mend the cause, then 'swell rollout retry {} --host {host}', or publish a corrected release",
            rollout.id()
        )
    }

    /// Why a host went back that failed itself: by its own last words, or else by what it said then.
    fn failed_before(
        &self,
        id: &HostId,
        (name, rollout): (&ServiceName, &Rollout),
    ) -> Option<String> {
        let standing = self.words.get(id).and_then(|word| word.standing(name));
        let failure = standing.and_then(|standing| standing.failure.as_ref());
        let ours = |failure: &&Failure| failure.release == rollout.release() && failure.reverted;
        let words =
            |failure: &Failure| format!("({}): {}", name_of(&failure.step), one_line(&failure.why));
        let now = failure.filter(ours).map(words);
        let then = || {
            let record = self.view.rollouts.get(rollout.id())?;
            Some(format!("({})", record.evidence.line_of(id)?))
        };
        let said = now.or_else(then)?;
        Some(format!(
            "the release failed on it {said}; the release before it is live again; publish a corrected release"
        ))
    }

    fn is_stuck(&self, id: &HostId, name: &ServiceName) -> bool {
        let standing = self.words.get(id).and_then(|word| word.standing(name));
        standing.is_some_and(|standing| standing.state == HostState::Stuck)
    }

    /// Whether a lack is in the host's own words already, or in what is said of the host as a whole.
    fn is_told(&self, id: &HostId, name: &ServiceName, lack: Lack) -> bool {
        let condition = self.words.get(id).and_then(|word| word.condition_of(name));
        match lack {
            Lack::Drained => true,
            Lack::Stage => false,
            Lack::Twin => self.is_twin(id),
            Lack::Paused => condition.is_some_and(|condition| condition.paused.is_some()),
            Lack::UnitNotAllowed
            | Lack::UnitNotLoaded
            | Lack::User
            | Lack::Room
            | Lack::Inodes
            | Lack::Bytes
            | Lack::Drift
            | Lack::Journal
            | Lack::Bus
            | Lack::Approval
            | Lack::Root
            | Lack::Platform
            | Lack::StepDown
            | Lack::Agent
            | Lack::Settings => condition.is_some_and(|condition| condition.held.is_some()),
        }
    }

    /// What is so of a host outside the plan by which the service is taken off everyone.
    fn by_removal(&self, id: &HostId, host: &Host, name: &ServiceName) -> (Rank, String) {
        match self.keeps(id, host) {
            _ if !host.runs.contains_key(name) => {
                (Rank::Well, "it was taken off the fleet, and is not here".to_owned())
            }
            Some((lack, why)) => {
                let why = preflight::said(&host.name, (lack, &why));
                (Rank::Wrong, format!("it is taken off the fleet, and stays: {why}"))
            }
            None => (Rank::Waits, "it is taken off".to_owned()),
        }
    }

    /// What is so of a host that gets the last proven release outside any plan.
    fn by_baseline(&self, standing: Option<&Standing>, release: &ReleaseId) -> (Rank, String) {
        let version = self.version_text(Some(release));
        let running = standing.and_then(|standing| standing.running);
        if running == Some(*release) {
            return (Rank::Well, format!("it runs {version}, the last proven release"));
        }
        let failed = standing.and_then(|standing| standing.failure.as_ref());
        if let Some(failure) = failed.filter(|failure| failure.release == *release) {
            let why = one_line(&failure.why);
            let next = "'swell host clear' and 'swell rollout start' try it again";
            return (Rank::Wrong, format!("{version} failed on it: {why}; {next}"));
        }
        (Rank::Waits, format!("it gets {version}, the last proven release"))
    }

    /// A release as people know it.
    fn version_text(&self, release: Option<&ReleaseId>) -> String {
        let Some(release) = release else { return "nothing".to_owned() };
        match self.view.releases.get(release) {
            Some(found) => found.published.version.to_string(),
            None => format!("a release that is not known here ({})", release.digest().short()),
        }
    }
}

/// Why a host gets nothing whose environment the policy does not name.
pub(crate) fn not_named(environment: &Environment, record: &PolicyRecord) -> String {
    let names = record.environments().map(|policy| policy.environment_or_default().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    format!(
        "its environment is {environment}, which the policy does not name, so it gets nothing; the policy has {names}: \
         add [[environment]] name = \"{environment}\", or enrol the host again with a token for one of them"
    )
}

/// What the code of a refused directive means, and what to do; `None` for codes that a condition says better.
fn refused(code: &str) -> Option<String> {
    match code.split_once(": ").unwrap_or((code, "")) {
        ("paused_on_host", _) => None,
        ("drifted", path) => Some(format!("what is live was changed on the host: {path}")),
        ("root_expired", _) => Some(
            "the root that it trusts has ended, so it takes no release; on the coordinator's machine \
             'groundswell-coordinator root renew' with the root key makes the next one"
                .to_owned(),
        ),
        ("old_generation" | "equivocation", _) => Some(
            "the host refuses what it is told, since it accepted something newer: was the ledger put back from a \
             backup? then 'swell audit lift --why TEXT'"
                .to_owned(),
        ),
        (code, _) => Some(format!("the host refuses its directive: {code}; see docs/trust.md")),
    }
}

/// How near a reason of a rollout is to the cause.
fn rank_of(reason: &Why) -> Rank {
    match reason {
        Why::HostFailed { .. }
        | Why::HostLost { .. }
        | Why::HostOverdue
        | Why::HostHeld { .. }
        | Why::HostAway { .. }
        | Why::HostExcluded { .. }
        | Why::HostSkipped { .. }
        | Why::NotPlanned { .. } => Rank::Wrong,
        Why::HostCommitted | Why::HostReverted | Why::HostOff => Rank::Well,
        Why::NotStarted
        | Why::WaveOpen { .. }
        | Why::WaveAway { .. }
        | Why::WaveHeld { .. }
        | Why::WaveBakes { .. }
        | Why::Approval { .. }
        | Why::Manual { .. }
        | Why::Webhook { .. }
        | Why::Evidence { .. }
        | Why::Shut { .. }
        | Why::Frozen { .. }
        | Why::Slowed { .. }
        | Why::Paused { .. }
        | Why::Halted { .. }
        | Why::Reverting { .. }
        | Why::Done { .. }
        | Why::Superseded { .. }
        | Why::LaneShut { .. }
        | Why::HostWindowTooShort { .. }
        | Why::HostGuarded { .. }
        | Why::HostPending { .. }
        | Why::HostStaging { .. }
        | Why::HostWaitsForSlot { .. }
        | Why::HostGranted { .. }
        | Why::HostProbing { .. }
        | Why::HostBaking { .. }
        | Why::HostAbsent { .. }
        | Why::HostStillOn
        | Why::HostReverting { .. } => Rank::Waits,
    }
}
