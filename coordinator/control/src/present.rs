//! What people see of the view: the API's answers. Decides nothing and changes nothing.

use std::collections::BTreeSet;

use groundswell_common::api::{
    ApprovalAsk, HostCounts, OutcomeName, PhaseName, PlanGuard, PlanPreview, PlanSkipped, PlanWave,
    ReleaseIn, ReleaseState, ReleaseSummary, RolloutHost, RolloutPage, RolloutSummary, ServiceIn,
    ServiceSummary, WavePage,
};
use groundswell_common::condition::Lack;
use groundswell_common::report::FailedStep;
use groundswell_common::{Environment, HostId, HostName, OperatorName, Timestamp, name_of};
use groundswell_rollout::{
    Outcome, Phase, Plan, PlannedHost, Progress, ProgressName, Rollout, Tally, Why, explain,
};

use crate::preflight;
use crate::view::{
    PolicyRecord, Proven, Release, RolloutBody, RolloutRecord, Service, View, speaks_for,
};

/// A rollout in short.
#[must_use]
pub fn summary(record: &RolloutRecord, rollout: &Rollout) -> RolloutSummary {
    let plan = rollout.plan();
    let mut counts = HostCounts::default();
    for wave in wave_numbers(plan) {
        add(&mut counts, &rollout.tally(wave).unwrap_or_default());
    }
    let (phase, outcome, why) = phase(rollout.phase());
    let why = why.map(|why| record.evidence.beside(rollout.phase(), &why));
    let why = why.or_else(|| waits(rollout, record.changed));
    RolloutSummary {
        rollout: rollout.id().clone(),
        service: plan.service.clone(),
        environment: plan.environment.clone(),
        skip: record.skip.clone(),
        release: plan.release.id,
        version: plan.release.version.clone(),
        phase,
        outcome,
        why,
        plan: rollout.plan_hash(),
        started: record.planned,
        changed: record.changed,
        wave: rollout.wave().unwrap_or(0),
        counts,
    }
}

/// What a rollout on its way waits for beside its own hosts; the moment is of no matter for that.
fn waits(rollout: &Rollout, at: Timestamp) -> Option<String> {
    let outside = |why: &Why| match why {
        Why::Approval { .. }
        | Why::Manual { .. }
        | Why::Webhook { .. }
        | Why::WaveAway { .. }
        | Why::WaveHeld { .. }
        | Why::Shut { .. }
        | Why::Frozen { .. } => true,
        Why::NotStarted
        | Why::WaveOpen { .. }
        | Why::WaveBakes { .. }
        | Why::Evidence { .. }
        | Why::Slowed { .. }
        | Why::Paused { .. }
        | Why::Halted { .. }
        | Why::Reverting { .. }
        | Why::Done { .. }
        | Why::Superseded { .. }
        | Why::LaneShut { .. }
        | Why::NotPlanned { .. }
        | Why::HostSkipped { .. }
        | Why::HostWindowTooShort { .. }
        | Why::HostGuarded { .. }
        | Why::HostPending { .. }
        | Why::HostStaging { .. }
        | Why::HostWaitsForSlot { .. }
        | Why::HostGranted { .. }
        | Why::HostProbing { .. }
        | Why::HostBaking { .. }
        | Why::HostCommitted
        | Why::HostFailed { .. }
        | Why::HostLost { .. }
        | Why::HostOverdue
        | Why::HostHeld { .. }
        | Why::HostAway { .. }
        | Why::HostAbsent { .. }
        | Why::HostExcluded { .. }
        | Why::HostReverted
        | Why::HostReverting { .. }
        | Why::HostStillOn
        | Why::HostOff => false,
    };
    let on_its_way = rollout.phase().name() != groundswell_rollout::PhaseName::Done;
    let mut why = explain(rollout, None, at).into_iter();
    why.find(|why| on_its_way && outside(why)).map(|why| typed(&why.to_string(), rollout, None))
}

/// The summary of a rollout, live or archived.
#[must_use]
pub fn record_summary(record: &RolloutRecord) -> RolloutSummary {
    match &record.body {
        RolloutBody::Live(rollout) => summary(record, rollout),
        RolloutBody::Archived(summary) => (**summary).clone(),
    }
}

/// Whether the page lists each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Waves only.
    Waves,
    /// Every host.
    Hosts,
}

/// All about one rollout.
#[must_use]
pub fn rollout_page(
    view: &View,
    record: &RolloutRecord,
    detail: Detail,
    now: Timestamp,
) -> RolloutPage {
    let Some(rollout) = record.live() else {
        let rollout = record_summary(record);
        return RolloutPage { rollout, waves: vec![], why: vec![], ask: None, hosts: vec![] };
    };
    let waves = rollout.plan().waves.iter().zip(0..).map(|(wave, at)| {
        let mut counts = HostCounts::default();
        add(&mut counts, &rollout.tally(at).unwrap_or_default());
        WavePage {
            name: wave.name.to_string(),
            counts,
            failure_budget: u64::from(wave.failure_budget),
            approvals: wave.gate.approvals,
        }
    });
    let hosts = match detail {
        Detail::Waves => Vec::new(),
        Detail::Hosts => rollout
            .hosts()
            .map(|(wave, host, entry)| RolloutHost {
                name: name_now(view, host),
                wave,
                progress: progress(entry.progress.name()).to_owned(),
                stays: stays(&entry.progress),
                why: host_why(view, record, (rollout, host, &entry.progress), now),
            })
            .collect(),
    };
    let beside = |why: &Why| {
        let why = typed(&why.to_string(), rollout, None);
        record.evidence.beside(rollout.phase(), &why)
    };
    let why: Vec<String> = explain(rollout, None, now).iter().map(beside).collect();
    let empty = rollout.plan().empty_waves.iter().map(|wave| {
        format!("wave {wave} of the policy has no host and is left out, its gate with it")
    });
    RolloutPage {
        rollout: summary(record, rollout),
        waves: waves.collect(),
        why: why.into_iter().chain(empty).collect(),
        ask: ask(view, rollout),
        hosts,
    }
}

/// Why a host of a rollout is not further.
fn host_why(
    view: &View,
    record: &RolloutRecord,
    (rollout, host, progress): (&Rollout, &PlannedHost, &Progress),
    now: Timestamp,
) -> Option<String> {
    let name = name_now(view, host);
    let said = match progress {
        Progress::Held { lack: Lack::Drained | Lack::Stage, .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Overdue
        | Progress::Excluded { .. } => standing(rollout, &host.id, now),
        Progress::Failed { why, .. } | Progress::Held { why, .. } => return Some(why.clone()),
        Progress::Reverted => record.evidence.of(&host.id).map(failed_before),
        Progress::Pending | Progress::Committed => None,
        Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Reverting { .. } => {
            let mut why = explain(rollout, Some(&host.id), now).into_iter();
            why.find(|why| matches!(why, Why::HostAway { .. })).map(|why| why.to_string())
        }
    };
    said.map(|said| typed(&said, rollout, Some(&name)))
}

/// What is said of a host that went back and was one of those that brought the release down.
pub(crate) fn failed_before(why: &str) -> String {
    format!("it went back; the release failed on it: {why}")
}

/// Why a host that is left behind is so; that it is away is no reason of its own.
fn standing(rollout: &Rollout, host: &HostId, now: Timestamp) -> Option<String> {
    let mut why = explain(rollout, Some(host), now).into_iter();
    let why = why.find(|why| !matches!(why, Why::HostAway { .. } | Why::Superseded { .. }));
    why.map(|why| why.to_string())
}

/// What people call a host of a plan now.
fn name_now(view: &View, host: &PlannedHost) -> HostName {
    view.hosts.get(&host.id).map_or(&host.name, |known| &known.name).clone()
}

/// What an approver is asked now; `None` unless a gate is shut.
#[must_use]
pub fn ask(view: &View, rollout: &Rollout) -> Option<ApprovalAsk> {
    let Phase::Gated { wave, .. } = rollout.phase() else { return None };
    let plan = rollout.plan();
    let planned = plan.waves.get(usize::try_from(*wave).ok()?)?;
    let counts = |given: &Option<u32>| given.is_none_or(|given| given == *wave);
    let have: BTreeSet<OperatorName> = rollout
        .approvals()
        .iter()
        .filter(|approval| counts(&approval.wave))
        .map(|approval| approval.by.clone())
        .collect();
    (planned.gate.approvals > 0).then(|| ApprovalAsk {
        release: plan.release.id,
        service: plan.service.clone(),
        plan: rollout.plan_hash(),
        wave: *wave,
        environments: environments(view, plan),
        have: have.into_iter().collect(),
        needed: planned.gate.approvals,
        role: planned.gate.role,
    })
}

/// The environments of a plan's hosts, by name.
#[must_use]
pub fn environments(view: &View, plan: &Plan) -> Vec<Environment> {
    let hosts = plan.waves.iter().flat_map(|wave| &wave.hosts);
    let found: BTreeSet<&Environment> =
        hosts.filter_map(|host| view.hosts.get(&host.id)).map(|host| &host.environment).collect();
    found.into_iter().cloned().collect()
}

/// A plan for people.
#[must_use]
pub fn plan_preview(plan: &Plan) -> PlanPreview {
    PlanPreview {
        service: plan.service.clone(),
        environment: plan.environment.clone(),
        release: plan.release.id,
        version: plan.release.version.clone(),
        hash: plan.hash(),
        hosts: plan.host_count() as u64,
        waves: plan
            .waves
            .iter()
            .map(|wave| PlanWave {
                name: wave.name.to_string(),
                hosts: wave.hosts.iter().map(|host| host.name.clone()).collect(),
                approvals: wave.gate.approvals,
                max_in_flight: u64::from(wave.max_in_flight),
                failure_budget: u64::from(wave.failure_budget),
                bake_secs: wave.bake_secs,
            })
            .collect(),
        predicted_secs: plan.predicted_secs,
        skipped: plan
            .skipped
            .iter()
            .map(|host| PlanSkipped { host: host.name.clone(), why: host.why.to_string() })
            .collect(),
        held: plan
            .held
            .iter()
            .map(|host| PlanSkipped {
                host: host.name.clone(),
                why: preflight::said(&host.name, (host.lack, &host.why)),
            })
            .collect(),
        empty_waves: plan.empty_waves.iter().map(ToString::to_string).collect(),
        notes: Vec::new(),
        waits: Vec::new(),
        back_to: plan.back.as_ref().and_then(|back| back.to.clone()).map(|(_, version)| version),
        guards: plan
            .guards
            .iter()
            .map(|guard| PlanGuard {
                name: format!("{} {}", guard.kind, guard.name),
                hosts: guard.hosts,
                max_down: guard.max_down,
            })
            .collect(),
    }
}

/// A release in short.
#[must_use]
pub fn release_summary(view: &View, release: &Release) -> ReleaseSummary {
    let published = &release.published;
    let service = view.services.get(&published.service);
    let proven = |lane: Option<&Environment>| {
        let here =
            |proven: &&Proven| lane.is_none_or(|l| speaks_for(proven.environment.as_ref(), l));
        let mut proven = service.into_iter().flat_map(|service| &service.proven).filter(here);
        proven.any(|proven| proven.release == published.release)
    };
    let state = |poisoned: Option<&String>, proven: bool| match (poisoned, proven) {
        (Some(_), _) => ReleaseState::Poisoned,
        (None, true) => ReleaseState::Proven,
        (None, false) => ReleaseState::Available,
    };
    let policy = service.and_then(|service| service.policy.as_ref());
    let named = policy.into_iter().flat_map(PolicyRecord::environments);
    let environments: Vec<ReleaseIn> = named
        .filter_map(|policy| policy.environment.clone())
        .map(|environment| {
            let why = release.poisoned_in(&environment).cloned();
            ReleaseIn { state: state(why.as_ref(), proven(Some(&environment))), environment, why }
        })
        .collect();
    let elsewhere =
        release.lanes.iter().filter_map(|(name, fate)| Some((name, fate.poisoned.as_ref()?)));
    let elsewhere: Vec<String> = elsewhere.map(|(name, why)| format!("in {name}: {why}")).collect();
    let elsewhere = (!elsewhere.is_empty()).then(|| elsewhere.join("; "));
    let why = release.poisoned.clone().or(elsewhere);
    ReleaseSummary {
        release: published.release,
        service: published.service.clone(),
        version: published.version.clone(),
        seq: published.seq,
        tree: published.tree,
        bytes: published.bytes,
        files: published.files,
        one_way: published.one_way,
        requires: published.requires.to_string(),
        barrier: published.barrier,
        hotfix: published.hotfix,
        published: release.at,
        by: release.by.operator(),
        state: state(why.as_ref(), proven(None)),
        why,
        environments,
    }
}

/// A service in short.
#[must_use]
pub fn service_summary(
    view: &View,
    name: &groundswell_common::ServiceName,
    service: &Service,
) -> ServiceSummary {
    let newest = service.newest().and_then(|release| view.releases.get(&release));
    let last = service.policy.as_ref().and_then(|record| record.environments().next_back());
    let environments = |service: &Service| {
        let policies = service.policy.iter().flat_map(PolicyRecord::environments);
        let named = policies.filter_map(|policy| policy.environment.clone());
        let summary = |environment: Environment| ServiceIn {
            proven: view.baseline(service, &environment),
            rollout: view.newest_in(name, &environment).map(|rollout| rollout.id().clone()),
            environment,
        };
        named.map(summary).collect()
    };
    ServiceSummary {
        service: name.clone(),
        has_policy: service.policy.is_some(),
        newest: newest.map(|release| release_summary(view, release)),
        proven: last.and_then(|policy| view.baseline(service, &policy.environment_or_default())),
        rollout: service.rollouts.last().cloned(),
        environments: environments(service),
        waits: Vec::new(),
        stalls: Vec::new(),
    }
}

/// How a rollout ended, in one word.
pub(crate) fn outcome_name(outcome: &Outcome) -> String {
    let name = match outcome {
        Outcome::Completed => OutcomeName::Completed,
        Outcome::Reverted { .. } => OutcomeName::Reverted,
        Outcome::Aborted { .. } => OutcomeName::Aborted,
        Outcome::Superseded { .. } => OutcomeName::Superseded,
    };
    name_of(&name)
}

/// A sentence about a rollout, or one host of it, with their names in the commands that it tells people to type.
pub(crate) fn typed(text: &str, rollout: &Rollout, host: Option<&HostName>) -> String {
    let (id, service) = (rollout.id(), &rollout.plan().service);
    let of_rollout =
        ["resume", "rollout promote", "rollout slow"].map(|verb| (verb, format!("{verb} {id}")));
    let of_host = host.into_iter().flat_map(|host| {
        [
            ("rollout retry", format!("rollout retry {id} --host {host}")),
            ("host undrain", format!("host undrain {host}")),
            ("host clear", format!("host clear {host}")),
        ]
    });
    let revert = ("revert", format!("revert {service}"));
    of_rollout
        .into_iter()
        .chain([revert])
        .chain(of_host)
        .fold(text.to_owned(), |text, (verb, typed)| {
            text.replace(&format!("'swell {verb}'"), &format!("'swell {typed}'"))
        })
}

/// The phase in one word, how it ended, and why.
fn phase(phase: &Phase) -> (PhaseName, Option<OutcomeName>, Option<String>) {
    match phase {
        Phase::Planned => (PhaseName::Queued, None, None),
        Phase::Running { .. } => (PhaseName::Running, None, None),
        Phase::Baking { .. } => (PhaseName::Baking, None, None),
        Phase::Gated { .. } => (PhaseName::Gated, None, None),
        Phase::Paused { cause, .. } => (PhaseName::Paused, None, Some(cause.to_string())),
        Phase::Halted { cause, .. } => (PhaseName::Halted, None, Some(cause.to_string())),
        Phase::Reverting { cause, .. } => (PhaseName::Reverting, None, Some(cause.to_string())),
        Phase::Done { outcome, .. } => {
            let (name, why) = match outcome {
                Outcome::Completed => (OutcomeName::Completed, None),
                Outcome::Reverted { .. } => (OutcomeName::Reverted, Some(outcome.to_string())),
                Outcome::Aborted { .. } => (OutcomeName::Aborted, Some(outcome.to_string())),
                Outcome::Superseded { .. } => (OutcomeName::Superseded, Some(outcome.to_string())),
            };
            (PhaseName::Done, Some(name), why)
        }
    }
}

/// One line for the log about a phase.
#[must_use]
pub fn phase_line(value: &Phase) -> (String, String) {
    let (name, outcome, why) = phase(value);
    let name = match outcome {
        None => name_of(&name),
        Some(outcome) => name_of(&outcome),
    };
    let wave = value.wave().map(|wave| format!("wave {}", wave + 1));
    (name, why.or(wave).unwrap_or_default())
}

fn wave_numbers(plan: &Plan) -> std::ops::Range<u32> {
    0..u32::try_from(plan.waves.len()).unwrap_or(u32::MAX)
}

fn add(counts: &mut HostCounts, tally: &Tally) {
    counts.hosts += u64::from(tally.total());
    counts.pending += u64::from(tally.pending);
    counts.staging += u64::from(tally.staging + tally.staged);
    counts.in_flight += u64::from(tally.granted + tally.probing + tally.baking);
    counts.committed += u64::from(tally.committed);
    counts.failed += u64::from(tally.failed + tally.lost);
    counts.reverting += u64::from(tally.reverting + tally.overdue);
    counts.reverted += u64::from(tally.reverted);
    counts.held += u64::from(tally.held);
    counts.absent += u64::from(tally.absent);
    counts.excluded += u64::from(tally.excluded);
}

/// Whether a host has a release that failed there, or is stuck on the way back from it.
fn stays(progress: &Progress) -> bool {
    match progress {
        Progress::Failed { step, reverted, .. } => *step != FailedStep::Stage && !reverted,
        Progress::Lost => true,
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => false,
    }
}

fn progress(name: ProgressName) -> &'static str {
    match name {
        ProgressName::Pending => "pending",
        ProgressName::Staging => "staging",
        ProgressName::Staged => "staged",
        ProgressName::Granted => "granted",
        ProgressName::Probing => "probing",
        ProgressName::Baking => "baking",
        ProgressName::Committed => "committed",
        ProgressName::Failed => "failed",
        ProgressName::Lost => "lost",
        ProgressName::Absent => "absent",
        ProgressName::Reverting => "reverting",
        ProgressName::Overdue => "overdue",
        ProgressName::Reverted => "reverted",
        ProgressName::Excluded => "excluded",
        ProgressName::Held => "held",
    }
}
