//! From a policy and the hosts to the plan: exact hosts per wave, frozen and hashed. Owns who is in
//! which wave; never changes a plan.

use std::io;

use groundswell_common::condition::Lack;
use groundswell_common::digest::Hasher;
use groundswell_common::selector::Selector;
use groundswell_common::{
    Digest, Environment, HostId, HostName, Label, Labels, OperatorName, ReleaseId, ServiceName,
    Version,
};
use serde::{Deserialize, Serialize};

use crate::calendar::{Freeze, Window};
use crate::policy::{Gate, OnBreach, Order, Policy, Short, Take, WavePolicy};
use crate::state::usize_of;
use crate::{guards, predicted};

/// Hosts in one plan; bounds the record that keeps a rollout.
pub const PLAN_HOSTS_MAX: usize = 100_000;

/// The rules that a plan goes by, so that an older plan is never judged again by newer ones: from these on a host
/// that cannot stage is held, before it had failed.
pub const RULES_HELD: u8 = 2;
/// From these on silence alone poisons no release, and a host that commits without a slot of the rollout keeps what
/// it runs.
pub const RULES_SPOKEN: u8 = 3;
/// From these on a host that the rollout before left in flight goes back by the slot that it uses.
pub const RULES_TURNED: u8 = 4;
/// From these on a host that was left out before it got a slot, and that something else brought there, keeps what it
/// runs, unless a person takes it back.
pub const RULES_BROUGHT: u8 = 5;
/// From these on a wave that has waited for held hosts has its whole progress deadline again once it waits for them
/// no more, whatever ended the wait.
pub const RULES_WAITED: u8 = 6;
/// From these on a host has its slot for as long as what it leaves may take to stop, beside what it starts.
pub const RULES_STOPS: u8 = 7;
/// From these on a host that is held after its switch may run the release: a revert takes it back, and what it fails
/// at counts. And a wave in which only hosts failed that were ill before has shown nothing.
pub const RULES_BEGUN: u8 = 8;
/// The rules of plans that are made now.
pub const RULES: u8 = RULES_BEGUN;

/// What the planner knows of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// Its identity.
    pub id: HostId,
    /// For people.
    pub name: HostName,
    /// What selectors see.
    pub labels: Labels,
    /// The release of this service that it would go back to: the one that it runs.
    pub running: Option<ReleaseId>,
    /// What a revert puts back where it runs the planned release already: the release proven before
    /// that one; `None` where there is none.
    pub fallback: Option<ReleaseId>,
    /// Whether it is connected; hosts that are away come last in the order, so that a canary is
    /// chosen among those that can answer.
    pub connected: bool,
    /// Whether its service fails its probes now.
    pub ill: bool,
    /// How long it took before, in seconds: from the slot to the commit, the longest of its last
    /// switches; `None` where it has none.
    pub usual_secs: Option<u64>,
    /// Failures in a row, over releases.
    pub failures_in_a_row: u32,
    /// Whether the planned release failed on it before and nobody cleared that.
    pub failed_before: bool,
    /// The place of the running release among the releases of the service; 0 for none.
    pub running_seq: u64,
    /// The version that it runs, where that is newer than the planned release: it would refuse to step down.
    pub newer: Option<Version>,
    /// What it lacks now for the release, and the next step.
    pub lacks: Option<(Lack, String)>,
}

impl HostFacts {
    /// A host that is connected, runs nothing of the service and has no history.
    #[must_use]
    pub fn new(id: HostId, name: HostName, labels: Labels) -> Self {
        Self {
            id,
            name,
            labels,
            running: None,
            fallback: None,
            connected: true,
            ill: false,
            usual_secs: None,
            failures_in_a_row: 0,
            failed_before: false,
            running_seq: 0,
            newer: None,
            lacks: None,
        }
    }
}

/// The release that is planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// Its identity.
    pub id: ReleaseId,
    /// For people.
    pub version: Version,
    /// Whether it cannot be reverted once it ran.
    pub one_way: bool,
    /// What must hold for the labels of a host that gets it.
    #[serde(default)]
    pub requires: Selector,
    /// The release that a host must have run before: its place and version.
    #[serde(default)]
    pub barrier: Option<(u64, Version)>,
    /// Who published it or wrote it: they do not count where a gate wants four eyes.
    #[serde(default)]
    pub authors: Vec<OperatorName>,
}

impl ReleaseRef {
    /// A release that can be reverted and asks for nothing.
    #[must_use]
    pub fn new(id: ReleaseId, version: Version) -> Self {
        let (requires, authors) = (Selector::default(), Vec::new());
        Self { id, version, one_way: false, requires, barrier: None, authors }
    }
}

/// One release going to exactly these hosts in exactly this order. What was approved is its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The rules that it goes by.
    #[serde(default = "first_rules", skip_serializing_if = "is_first_rules")]
    pub rules: u8,
    /// The service.
    pub service: ServiceName,
    /// The environment of its hosts; `None` where the policy has no sections, and before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// The release.
    pub release: ReleaseRef,
    /// What happens when a wave has more failures than its budget.
    pub on_breach: OnBreach,
    /// Seconds for which a host's probes must keep passing before it commits.
    pub host_bake_secs: u64,
    /// Seconds from the switch to a pass of all probes.
    pub probe_deadline_secs: u64,
    /// Seconds between two tries of a probe.
    pub probe_interval_secs: u64,
    /// Whether a host must have reached the coordinator since its switch before it commits.
    pub confirm_by_contact: bool,
    /// Seconds that an open wave may go without a host that commits.
    pub progress_deadline_secs: u64,
    /// Seconds after which a host that is away no longer holds its wave.
    pub absent_after_secs: u64,
    /// Failures that the whole rollout may have; `None` for no bound beyond those of the waves.
    pub rollout_budget: Option<u32>,
    /// When hosts may switch; none for always.
    pub windows: Vec<Window>,
    /// When no host may switch.
    pub freezes: Vec<Freeze>,
    /// Where gates with `webhook` ask.
    pub webhook: Option<String>,
    /// Whether hosts fetch before their wave opens.
    pub prefetch: bool,
    /// Late hosts in flight at once, at least 1.
    pub lane_max_in_flight: u32,
    /// Failures that late hosts may have.
    pub lane_budget: u32,
    /// Failure domains that may have hosts in flight at once; 0 for any number.
    pub domains_at_once: u32,
    /// What happens when a bake is over and has seen too little.
    pub evidence_short: Short,
    /// Groups of hosts of which only so many may be down at once. Those of kind
    /// [`GuardKind::Domain`] come first.
    pub guards: Vec<Guard>,
    /// In order; never empty, and no wave is empty.
    pub waves: Vec<PlannedWave>,
    /// Hosts that match the targets and are left out, with the reason.
    pub skipped: Vec<Skipped>,
    /// Hosts of the waves that would not take the release when the plan was made, by name: they come last among
    /// those that are connected, and are held until they lack it no longer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<PlannedHold>,
    /// Waves of the policy that no host is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_waves: Vec<Label>,
    /// Where the plan takes hosts back from its release; `None` for a plan that brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
    /// How long it takes by the history of its hosts when nothing fails and every gate opens at
    /// once, in seconds, windows not counted.
    pub predicted_secs: u64,
}

/// A host that lacked something when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHold {
    /// Its identity.
    pub id: HostId,
    /// For people.
    pub name: HostName,
    /// What it lacks.
    pub lack: Lack,
    /// The cause and the next step.
    pub why: String,
}

/// A way back that a person ordered: the plan's release is what hosts leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Back {
    /// What they go to; `None` where nothing was there before the release, so that the service stops.
    pub to: Option<(ReleaseId, Version)>,
    /// Who ordered it.
    pub by: OperatorName,
    /// The reason given.
    pub why: String,
    /// Where the service is taken off its hosts, whatever release of it they run: off which of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<Off>,
}

/// Which hosts a service is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Off {
    /// All of them: nobody shall run it any more.
    Everyone,
    /// Those that the policy's targets do not match, and that run it all the same.
    LeftOver,
}

/// Hosts of which only so many may be down at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// What they have in common.
    pub kind: GuardKind,
    /// The value of the label, or the name of the wave.
    pub name: String,
    /// How many they are.
    pub hosts: u32,
    /// How many of them may be down at once.
    pub max_down: u32,
}

/// What the hosts of a guard have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardKind {
    /// The failure domain.
    Domain,
    /// The quorum group.
    Quorum,
    /// The wave.
    Wave,
}

/// What a wave's bake must have seen at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Seconds that committed and connected hosts of the wave ran, added up.
    pub host_secs: u64,
    /// Hosts of the wave that committed; never more than the wave has.
    pub hosts: u32,
}

/// A host that matches the targets and is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its identity.
    pub id: HostId,
    /// For people.
    pub name: HostName,
    /// Why.
    pub why: SkipReason,
}

/// Why a host is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// It failed too often in a row.
    Quarantined {
        /// How often.
        failures: u32,
    },
    /// This release failed on it before.
    FailedBefore,
    /// Its labels do not meet what the release requires.
    Unmet {
        /// What the release requires.
        requires: String,
    },
    /// It must run another release first.
    Barrier {
        /// Which.
        version: Version,
    },
    /// It runs a newer release: only a revert goes down.
    Newer {
        /// What it runs.
        version: Version,
    },
    /// No window is long enough for it.
    NoWindow {
        /// How long it usually takes, in seconds.
        usual_secs: u64,
    },
}

/// One wave of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedWave {
    /// For people.
    pub name: Label,
    /// What must hold before it opens.
    pub gate: Gate,
    /// Hosts in flight at once.
    pub max_in_flight: u32,
    /// Failures that it may have.
    pub failure_budget: u32,
    /// Hosts that may be held when it is finished.
    #[serde(default = "unbounded", skip_serializing_if = "is_unbounded")]
    pub held_budget: u32,
    /// Seconds for which it is watched when it is finished.
    pub bake_secs: u64,
    /// What its bake must have seen at least.
    pub evidence: Evidence,
    /// Its hosts, in the order in which they get their slots.
    pub hosts: Vec<PlannedHost>,
}

/// One host of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHost {
    /// Its identity.
    pub id: HostId,
    /// For people.
    pub name: HostName,
    /// What a revert puts back; `None` for whatever it ran before.
    pub previous: Option<ReleaseId>,
    /// How long it needs from its slot to its commit, in seconds: a window must be open for so long.
    pub needs_secs: u64,
    /// Whether its service failed its probes when the plan was made.
    pub ill: bool,
    /// Whether it ran the plan's release when the plan was made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
    /// Places in [`Plan::guards`] of the groups that it belongs to, at most one of each kind.
    pub guards: Vec<u32>,
}

/// Why there is no plan.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The selector takes no host.
    #[error(
        "plan {service}: none of {hosts} hosts{} matches targets = \"{targets}\"; \
         compare it with the labels in 'swell host ls'",
        .environment.as_ref().map(|name| format!(" in environment {name}")).unwrap_or_default()
    )]
    NoHosts {
        /// The service.
        service: ServiceName,
        /// The environment, where the policy has sections.
        environment: Option<Environment>,
        /// Hosts looked at.
        hosts: usize,
        /// The selector.
        targets: String,
    },
    /// More hosts than a rollout may have.
    #[error("plan {service}: {hosts} hosts, at most 100000; split the service by selector")]
    TooManyHosts {
        /// The service.
        service: ServiceName,
        /// Hosts matched.
        hosts: usize,
    },
    /// Every host that the selector takes is left out.
    #[error("plan {service}: all {hosts} hosts are left out; the first since {why}")]
    AllSkipped {
        /// The service.
        service: ServiceName,
        /// Hosts matched.
        hosts: usize,
        /// Why the first of them is.
        why: SkipReason,
    },
    /// A wave of the policy that has a gate or is the first, and that no host is in.
    #[error(
        "plan {service}: no host is in wave {wave}{}; {}",
        selected(selector),
        wave_hint(meant)
    )]
    EmptyWave {
        /// The service.
        service: ServiceName,
        /// The wave.
        wave: Label,
        /// Its selector, where it has one.
        selector: Option<String>,
        /// What was perhaps meant, by the labels of the hosts.
        meant: Option<String>,
    },
    /// Hosts of which none may ever be down.
    #[error("{}", stuck(*kind, name, *hosts))]
    NoRoom {
        /// What they have in common.
        kind: GuardKind,
        /// The value of the label, or the name of the wave.
        name: String,
        /// How many they are.
        hosts: u32,
    },
    /// One identity twice among the hosts.
    #[error("plan: host {0} is listed twice")]
    TwinHosts(HostId),
}

fn selected(selector: &Option<String>) -> String {
    selector.as_ref().map(|text| format!(" (selector = \"{text}\")")).unwrap_or_default()
}

fn wave_hint(meant: &Option<String>) -> String {
    match meant {
        Some(meant) => format!("did you mean {meant}?"),
        None => "compare it with the labels in 'swell host ls', or say optional = true".to_owned(),
    }
}

/// The rules of plans that name none.
fn first_rules() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_first_rules(rules: &u8) -> bool {
    *rules == 1
}

/// The bound of a wave that has none.
fn unbounded() -> u32 {
    u32::MAX
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_unbounded(budget: &u32) -> bool {
    *budget == u32::MAX
}

fn stuck(kind: GuardKind, name: &str, hosts: u32) -> String {
    match kind {
        GuardKind::Domain => format!(
            "plan: all {hosts} hosts of failure domain {name} must stay up, so none could ever \
             switch; lower failure_domain.min_healthy"
        ),
        GuardKind::Quorum => format!(
            "plan: quorum group {name} has {hosts} hosts and a majority of them must stay up, so \
             none could ever switch; add a third member or take the label off"
        ),
        GuardKind::Wave => format!(
            "plan: all {hosts} hosts of wave {name} must stay up, so none could ever switch; lower \
             its min_healthy"
        ),
    }
}

impl Plan {
    /// The digest of its canonical JSON: fields in declared order, no spaces.
    #[must_use]
    pub fn hash(&self) -> Digest {
        let mut sink = HashSink(Hasher::new());
        match serde_json::to_writer(&mut sink, self) {
            Ok(()) => sink.0.finish(),
            // Neither the sink nor any of the plain fields can fail; a value that no plan has.
            Err(_) => Digest::from_bytes([0; 32]),
        }
    }

    /// Off which hosts it takes the service; `None` for a plan that brings a release, or goes back to one.
    #[must_use]
    pub fn off(&self) -> Option<Off> {
        self.back.as_ref().and_then(|back| back.off)
    }

    /// The environment that it is for.
    #[must_use]
    pub fn lane(&self) -> Environment {
        self.environment.clone().unwrap_or_default()
    }

    /// The number of its hosts.
    #[must_use]
    pub fn host_count(&self) -> usize {
        self.waves.iter().map(|wave| wave.hosts.len()).sum()
    }
}

struct HashSink(Hasher);

impl io::Write for HashSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Divides the hosts that the policy targets into waves. The same input gives the same plan.
///
/// # Errors
/// [`PlanError`], with what to compare or change.
pub fn plan(
    policy: &Policy,
    hosts: &[HostFacts],
    release: &ReleaseRef,
    seed: &Digest,
) -> Result<Plan, PlanError> {
    divided(policy, hosts, (release, seed), 0)
}

/// A plan in which each guard lets at least so many hosts be down.
fn divided(
    policy: &Policy,
    hosts: &[HostFacts],
    (release, seed): (&ReleaseRef, &Digest),
    least_down: u32,
) -> Result<Plan, PlanError> {
    let (hosts, skipped) = targets(policy, hosts, (release, seed))?;
    let total = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let held = holds(&hosts);
    let (mut waves, empty_waves) = divide(policy, hosts, release)?;
    let guards = guards::guards(policy, &mut waves, least_down)?;
    let predicted_secs = waves.iter().map(predicted::wave_secs).sum();
    Ok(Plan {
        rules: RULES,
        service: policy.service.clone(),
        environment: policy.environment.clone(),
        release: release.clone(),
        on_breach: policy.on_breach,
        host_bake_secs: policy.host_bake_secs,
        probe_deadline_secs: policy.probe_deadline_secs,
        probe_interval_secs: policy.probe_interval_secs,
        confirm_by_contact: policy.confirm_by_contact,
        progress_deadline_secs: policy.progress_deadline_secs,
        absent_after_secs: policy.absent_after_secs,
        rollout_budget: policy.rollout_budget.map(|budget| budget.of(total)),
        windows: policy.windows.clone(),
        freezes: policy.freezes.clone(),
        webhook: policy.webhook.clone(),
        prefetch: policy.prefetch,
        lane_max_in_flight: policy.straggler_max_in_flight.of(total).max(1),
        lane_budget: policy.straggler_budget.of(total),
        domains_at_once: policy.domain.as_ref().map_or(0, |domain| domain.at_once),
        evidence_short: policy.evidence.short,
        guards,
        waves: waves.into_iter().map(|(wave, _)| wave).collect(),
        skipped,
        held,
        empty_waves,
        back: None,
        predicted_secs,
    })
}

/// The plan by which a person takes every host that runs `leaving`, or may, to what `back` names. Hosts go in the
/// waves of the policy, the last first; nothing is left out, since whoever does not run it stays as it is.
///
/// # Errors
/// [`PlanError`], with what to compare or change.
pub fn plan_back(
    policy: &Policy,
    hosts: &[HostFacts],
    leaving: &ReleaseRef,
    back: Back,
) -> Result<Plan, PlanError> {
    let everyone = Policy {
        targets: Selector::default(),
        quarantine_after: 0,
        windows: Vec::new(),
        waves: policy.waves.iter().map(|wave| optional(wave.clone())).collect(),
        ..policy.clone()
    };
    let to = back.to.as_ref().map(|(release, _)| *release);
    let any = ReleaseRef { requires: Selector::default(), barrier: None, ..leaving.clone() };
    let seed = Digest::of(leaving.id.digest().as_bytes());
    let hosts: Vec<HostFacts> = hosts
        .iter()
        .map(|host| HostFacts { failed_before: false, newer: None, lacks: None, ..host.clone() })
        .collect();
    // There is always a way back: where all must stay up, one host after the other.
    let mut made = divided(&everyone, &hosts, (&any, &seed), 1)?;
    for host in made.waves.iter_mut().flat_map(|wave| &mut wave.hosts) {
        host.previous = to;
    }
    Ok(Plan { back: Some(back), ..made })
}

/// The plan by which a person takes the service off these hosts, whatever release of it they run. `leaving` stands
/// for all of them; `held` are hosts that it leaves out. Nothing has to stay up of a service that ends.
///
/// # Errors
/// [`PlanError`], with what to compare or change.
pub fn plan_off(
    policy: &Policy,
    hosts: &[HostFacts],
    leaving: &ReleaseRef,
    (back, held): (Back, Vec<PlannedHold>),
) -> Result<Plan, PlanError> {
    let waves = policy.waves.iter().map(|wave| WavePolicy { min_healthy: None, ..wave.clone() });
    let policy = Policy {
        min_healthy: None,
        domain: None,
        quorum_label: None,
        waves: waves.collect(),
        ..policy.clone()
    };
    let leaving = ReleaseRef { one_way: false, ..leaving.clone() };
    // It speaks for the hosts of every environment.
    Ok(Plan { held, environment: None, ..plan_back(&policy, hosts, &leaving, back)? })
}

fn optional(wave: WavePolicy) -> WavePolicy {
    WavePolicy { optional: true, ..wave }
}

/// Hosts that lack something, by name.
fn holds(hosts: &[&HostFacts]) -> Vec<PlannedHold> {
    let hold = |host: &&HostFacts| {
        let (lack, why) = host.lacks.clone()?;
        Some(PlannedHold { id: host.id, name: host.name.clone(), lack, why })
    };
    let mut held: Vec<PlannedHold> = hosts.iter().filter_map(hold).collect();
    held.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    held
}

/// A wave and what the planner knows of its hosts, in the same order.
type Filled<'a> = (PlannedWave, Vec<&'a HostFacts>);

fn divide<'a>(
    policy: &Policy,
    mut left: Vec<&'a HostFacts>,
    release: &ReleaseRef,
) -> Result<(Vec<Filled<'a>>, Vec<Label>), PlanError> {
    let all = left.clone();
    let weight = |hosts: &[&HostFacts]| hosts.iter().map(|host| weight_of(policy, host)).sum();
    let total: u64 = weight(&left);
    let (mut waves, mut empty) = (Vec::new(), Vec::new());
    for (wave, at) in policy.waves.iter().zip(0_usize..) {
        let taken = total - weight(&left);
        let hosts: Vec<&HostFacts> = match &wave.take {
            Take::Count(count) => take_first(&mut left, usize_of(*count)),
            Take::Percent(percent) => {
                let upto = (total * u64::from(*percent)).div_ceil(100);
                take_weight(policy, &mut left, upto.saturating_sub(taken))
            }
            Take::Selector(selector) => {
                let (chosen, rest) =
                    left.into_iter().partition(|host| selector.matches(&host.labels));
                left = rest;
                chosen
            }
            Take::Rest => std::mem::take(&mut left),
        };
        if !hosts.is_empty() {
            waves.push(fill(policy, wave, (hosts, release)));
            continue;
        }
        // Where nobody is left, nobody passes its gate either.
        let last = left.is_empty() && !matches!(wave.take, Take::Selector(_));
        let guards = at == 0 || wave.gate != Gate::default();
        if guards && !last && !wave.optional {
            return Err(empty_wave(policy, wave, &all));
        }
        empty.push(wave.name.clone());
    }
    Ok((waves, empty))
}

fn empty_wave(policy: &Policy, wave: &WavePolicy, hosts: &[&HostFacts]) -> PlanError {
    let selector = match &wave.take {
        Take::Selector(selector) => Some(selector),
        Take::Count(_) | Take::Percent(_) | Take::Rest => None,
    };
    PlanError::EmptyWave {
        service: policy.service.clone(),
        wave: wave.name.clone(),
        selector: selector.map(ToString::to_string),
        meant: selector.and_then(|selector| selector.meant(hosts.iter().map(|host| &host.labels))),
    }
}

fn fill<'a>(
    policy: &Policy,
    wave: &WavePolicy,
    (hosts, release): (Vec<&'a HostFacts>, &ReleaseRef),
) -> Filled<'a> {
    let size = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let host = |host: &&HostFacts| PlannedHost {
        id: host.id,
        name: host.name.clone(),
        previous: match host.running {
            Some(running) if running == release.id => host.fallback,
            other => other,
        },
        keeps: host.running == Some(release.id),
        needs_secs: needs_secs(policy, host),
        ill: host.ill,
        guards: Vec::new(),
    };
    let planned = PlannedWave {
        name: wave.name.clone(),
        gate: wave.gate,
        max_in_flight: wave.max_in_flight.unwrap_or(policy.max_in_flight).of(size).max(1),
        failure_budget: wave.failure_budget.unwrap_or(policy.failure_budget).of(size),
        held_budget: policy.held_budget.map_or(u32::MAX, |budget| budget.of(size)),
        bake_secs: wave.bake_secs.unwrap_or(policy.bake_secs),
        evidence: Evidence {
            host_secs: policy.evidence.host_secs,
            hosts: policy.evidence.hosts.min(size),
        },
        hosts: hosts.iter().map(host).collect(),
    };
    (planned, hosts)
}

/// What a host needs by its own history, or at most by the policy.
fn needs_secs(policy: &Policy, host: &HostFacts) -> u64 {
    host.usual_secs.unwrap_or(policy.probe_deadline_secs + policy.host_bake_secs)
}

fn weight_of(policy: &Policy, host: &HostFacts) -> u64 {
    let label = policy.weight_label.as_ref().and_then(|key| host.labels.get(key.as_str()));
    label.and_then(|text| text.parse::<u32>().ok()).map_or(1, |weight| u64::from(weight.max(1)))
}

/// The targeted hosts in the order of the policy and the seed, those that lack something after the others,
/// those that are away last; and those that are left out.
fn targets<'a>(
    policy: &Policy,
    hosts: &'a [HostFacts],
    (release, seed): (&ReleaseRef, &Digest),
) -> Result<(Vec<&'a HostFacts>, Vec<Skipped>), PlanError> {
    let matched: Vec<&HostFacts> =
        hosts.iter().filter(|host| policy.targets.matches(&host.labels)).collect();
    let service = policy.service.clone();
    if matched.is_empty() {
        let targets = match policy.targets.to_string() {
            text if text.is_empty() => "*".to_owned(),
            text => text,
        };
        let (environment, hosts) = (policy.environment.clone(), hosts.len());
        return Err(PlanError::NoHosts { service, environment, hosts, targets });
    }
    if matched.len() > PLAN_HOSTS_MAX {
        return Err(PlanError::TooManyHosts { service, hosts: matched.len() });
    }
    let mut ids: Vec<HostId> = matched.iter().map(|host| host.id).collect();
    ids.sort_unstable();
    let twin = ids.windows(2).find(|pair| pair.first() == pair.last()).and_then(<[_]>::first);
    if let Some(twin) = twin {
        return Err(PlanError::TwinHosts(*twin));
    }
    let (mut keyed, mut skipped) = (Vec::new(), Vec::new());
    for host in matched {
        match skip_reason(policy, host, release) {
            Some(why) => skipped.push(Skipped { id: host.id, name: host.name.clone(), why }),
            None => {
                let first = policy.order == Order::BrokenFirst && host.ill;
                let rank = (!host.connected, host.lacks.is_some(), !first);
                keyed.push((rank, order_of(seed, &host.id), host));
            }
        }
    }
    skipped.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
    if let (true, Some(first)) = (keyed.is_empty(), skipped.first()) {
        let (hosts, why) = (skipped.len(), first.why.clone());
        return Err(PlanError::AllSkipped { service, hosts, why });
    }
    keyed.sort_by_key(|(rank, order, host)| (*rank, *order, host.id));
    Ok((keyed.into_iter().map(|(_, _, host)| host).collect(), skipped))
}

fn skip_reason(policy: &Policy, host: &HostFacts, release: &ReleaseRef) -> Option<SkipReason> {
    let limit = policy.quarantine_after;
    if limit > 0 && host.failures_in_a_row >= limit {
        return Some(SkipReason::Quarantined { failures: host.failures_in_a_row });
    }
    if host.failed_before {
        return Some(SkipReason::FailedBefore);
    }
    if !release.requires.matches(&host.labels) {
        return Some(SkipReason::Unmet { requires: release.requires.to_string() });
    }
    if let Some((seq, version)) = &release.barrier
        && host.running.is_some()
        && host.running_seq < *seq
    {
        return Some(SkipReason::Barrier { version: version.clone() });
    }
    if let Some(version) = &host.newer {
        return Some(SkipReason::Newer { version: version.clone() });
    }
    let longest = policy.windows.iter().map(|window| u64::from(window.minutes) * 60).max();
    let usual_secs = needs_secs(policy, host);
    longest.filter(|secs| *secs < usual_secs).map(|_| SkipReason::NoWindow { usual_secs })
}

fn order_of(seed: &Digest, host: &HostId) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.update(host.as_bytes());
    hasher.finish()
}

fn take_first<'a>(left: &mut Vec<&'a HostFacts>, count: usize) -> Vec<&'a HostFacts> {
    let rest = left.split_off(count.min(left.len()));
    std::mem::replace(left, rest)
}

/// The first hosts that together weigh at least so much.
fn take_weight<'a>(
    policy: &Policy,
    left: &mut Vec<&'a HostFacts>,
    weight: u64,
) -> Vec<&'a HostFacts> {
    let mut sum = 0;
    let count = left
        .iter()
        .take_while(|host| {
            let before = sum;
            sum += weight_of(policy, host);
            before < weight
        })
        .count();
    take_first(left, count)
}
