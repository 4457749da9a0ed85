//! `swell simulate`: what a policy would do to a fleet that is made up. Asks a coordinator, where one
//! answers, for its hosts' labels and nothing else; reads the clock for the default start alone.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use groundswell_common::api::{HostService, HostSummary, HostsAnswer};
use groundswell_common::report::Verdict;
use groundswell_common::{Environment, Timestamp};
use groundswell_rollout::{Gate, HostFacts, Policy, PolicyError};
use groundswell_sim::rehearse::{Case, Fleet, Pace, Rehearsal, fleet, rehearse, send_away};

use tokio::time::timeout;

use crate::args::SimulateArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::labels::strangers;
use crate::rehearsal::{Answer, draw, show, span};

/// How long the real fleet's labels are waited for.
const FLEET_PATIENCE: Duration = Duration::from_secs(2);

/// A policy file that is no policy: the line, what is wrong, and the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", text_of(.error))]
struct BadPolicy {
    // No source: its text is in the message, and the parser's own is a drawing of several lines.
    error: PolicyError,
}

/// The line, and what to write instead, once.
fn text_of(error: &PolicyError) -> String {
    let (text, hint) = (error.to_string(), error.hint());
    if text.contains(&hint) { text } else { format!("{text}: {hint}") }
}

/// Runs `swell simulate`.
pub(crate) async fn simulate(context: &Context, args: &SimulateArgs) -> anyhow::Result<Exit> {
    let file = args.policy.display();
    let text =
        fs::read_to_string(&args.policy).with_context(|| format!("read the policy {file}"))?;
    let (first, behind) = Policy::each_from_toml(&text)
        .map_err(|error| BadPolicy { error })
        .with_context(|| format!("rehearse {file}"))?;
    let policies: Vec<Policy> = std::iter::once(first).chain(behind).collect();
    let policy =
        one_of(&policies, args.environment.as_ref()).with_context(|| format!("rehearse {file}"))?;
    let (mut hosts, mut assumed) = hosts(args, &policy)?;
    let strangers = if args.hosts_file.is_some() {
        strangers(&policy, hosts.iter().map(|host| &host.labels))
    } else {
        against_the_fleet(context, &policies).await
    };
    for line in strangers {
        context.out.note(format_args!("warning: {line}"))?;
    }
    let away = send_away(&mut hosts, &policy, args.away, args.seed);
    let start = args.start.map_or_else(next_hour, Ok)?;
    let pace = Pace {
        stage_secs: args.stage_secs,
        switch_secs: args.switch_secs,
        person_secs: args.approval_mins * 60,
    };
    assumed.extend(assumptions(args, &policy, away));
    let (seed, failing, fails_after_secs) = (args.seed, args.failure_rate, args.fails_after);
    let rehearsal = Rehearsal { policy, hosts, start, seed, pace, failing, fails_after_secs };
    let good = Some(Case::Good).filter(|_| !args.bad_release);
    let cases = good.into_iter().chain([Case::Bad]);
    let cases = cases.map(|case| rehearse(&rehearsal, case)).collect::<Result<Vec<_>, _>>()?;
    let service = rehearsal.policy.service.clone();
    let answer = Answer { service, start, seed, assumed, cases };
    if let Some(file) = &args.svg {
        fs::write(file, draw(&answer)).with_context(|| format!("write {}", file.display()))?;
    }
    context.out.answer(&answer, show)?;
    Ok(Exit::Done)
}

/// What the policy asks for and no host of the real fleet has. Without a profile, or without a coordinator
/// that answers at once, nothing is known of it, and a rehearsal needs neither.
pub(super) async fn against_the_fleet(context: &Context, policies: &[Policy]) -> Vec<String> {
    let Ok(client) = context.client() else { return Vec::new() };
    let answer = timeout(FLEET_PATIENCE, client.get::<HostsAnswer>("/v1/hosts")).await;
    let Ok(Ok(answer)) = answer else { return Vec::new() };
    let mut said = Vec::new();
    for policy in policies {
        let hosts =
            answer.hosts.iter().filter(|host| host.environment == policy.environment_or_default());
        let labels: Vec<_> = hosts.map(|host| &host.labels).collect();
        // That nobody is in an environment the coordinator says itself.
        if !labels.is_empty() {
            let place = policy.environment.as_ref().map(|name| format!("{name}, "));
            let place = place.unwrap_or_default();
            said.extend(strangers(policy, labels).into_iter().map(|line| format!("{place}{line}")));
        }
    }
    said
}

/// The policy for the environment that was named, or the first.
fn one_of(policies: &[Policy], named: Option<&Environment>) -> anyhow::Result<Policy> {
    let is_it =
        |policy: &&Policy| named.is_none_or(|named| policy.environment_or_default() == *named);
    let names: Vec<String> =
        policies.iter().map(|policy| policy.environment_or_default().to_string()).collect();
    let found = policies.iter().find(is_it).cloned();
    found.with_context(|| format!("find the environment; the policy has {}", names.join(", ")))
}

/// The fleet of the file, or one that is made up, and what was made up.
fn hosts(args: &SimulateArgs, policy: &Policy) -> anyhow::Result<(Vec<HostFacts>, Vec<String>)> {
    if let Some(file) = &args.hosts_file {
        let hosts = listed(file, policy)?;
        let said = format!("the fleet of {}; hosts: {}", file.display(), hosts.len());
        return Ok((hosts, vec![said]));
    }
    let (hosts, domains) = (args.hosts.unwrap_or_default(), args.domains);
    let (hosts, mut said) = fleet(policy, &Fleet { hosts, domains, labels: args.labels.clone() })?;
    said.insert(0, format!("the fleet is made up; hosts: {}", hosts.len()));
    Ok((hosts, said))
}

/// Hosts as `swell host ls --json` prints them.
fn listed(file: &Path, policy: &Policy) -> anyhow::Result<Vec<HostFacts>> {
    let at =
        || format!("read the hosts {}; want what 'swell host ls --json' prints", file.display());
    let text = fs::read_to_string(file).with_context(at)?;
    let answer: HostsAnswer = serde_json::from_str(&text).with_context(at)?;
    let facts = |host: HostSummary| {
        let is_ours = |service: &&HostService| service.service == policy.service;
        let service = host.services.iter().find(is_ours);
        let fails = |service: &HostService| service.health == Some(Verdict::Fail);
        HostFacts {
            running: service.and_then(|service| service.running),
            connected: host.connected,
            ill: service.is_some_and(fails),
            ..HostFacts::new(host.id, host.name, host.labels)
        }
    };
    let here = |host: &HostSummary| host.environment == policy.environment_or_default();
    Ok(answer.hosts.into_iter().filter(here).map(facts).collect())
}

/// What the answer takes for granted beside the fleet.
fn assumptions(args: &SimulateArgs, policy: &Policy, away: u32) -> Vec<String> {
    let mut said = Vec::new();
    if away > 0 {
        said.push(format!("away, and not back before the end: {away} more hosts"));
    }
    let (stage, switch) = (span(args.stage_secs), span(args.switch_secs));
    said.push(format!(
        "a host stages in about {stage}, and its probes pass about {switch} after the switch; each \
         host draws its own, half to twice as long"
    ));
    said.push(match args.fails_after {
        None => format!(
            "where the release fails its probes never pass, which shows at probe_deadline_secs, {}",
            span(policy.probe_deadline_secs)
        ),
        Some(secs) => {
            format!("where the release fails, it fails {} after its probes passed", span(secs))
        }
    });
    let asks = |gate: &Gate| gate.approvals > 0 || gate.manual || gate.webhook;
    if policy.waves.iter().any(|wave| asks(&wave.gate)) {
        said.push(format!(
            "who opens a gate, person or webhook, does so {} after it asked",
            span(args.approval_mins * 60)
        ));
    }
    said.push(
        "messages take no time, the network has room for every host at once, and nobody answers a \
         pause or a halt"
            .to_owned(),
    );
    said
}

fn next_hour() -> anyhow::Result<Timestamp> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("read the clock")?.as_secs();
    Ok(Timestamp::from_secs((now / 3600 + 1) * 3600))
}
