//! `swell rollout`, and the shortcuts `swell halt` and `swell revert`.

use std::fmt::Write as _;
use std::time::Duration;

use groundswell_common::api::{
    RolloutPage, RolloutSummary, RolloutsAnswer, StartAnswer, StartRequest, SteerAct, SteerRequest,
    VerbAnswer, VerbRequest,
};
use groundswell_common::{RolloutId, ServiceName};
use serde::Serialize;

use crate::args::{Decision, RolloutArgs, RolloutVerb, StopArgs};
use crate::client::part;
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Live, Until, counts_text, exit_of, follow, standing, wave_line};
use crate::output::{Table, clean, confirm, name_of};

/// Runs `swell rollout …`.
pub(crate) async fn rollout(context: &Context, verb: &RolloutVerb) -> anyhow::Result<Exit> {
    let decide = |name, args| decide(context, name, args, Ask::No);
    match verb {
        RolloutVerb::Ls { service } => list(context, service.as_ref()).await,
        RolloutVerb::Show { rollout } => {
            let path = format!("/v1/rollouts/{}", part(rollout.as_str()));
            let page: RolloutPage = context.client()?.get(&path).await?;
            context.out.answer(&page, show)?;
            Ok(Exit::Done)
        }
        RolloutVerb::Watch { rollout, timeout } => watch(context, rollout, *timeout).await,
        RolloutVerb::Start { service, release, plan } => {
            start(context, service, (release, plan.clone())).await
        }
        RolloutVerb::Pause(args) => decide("pause", args).await,
        RolloutVerb::Resume(args) => decide("resume", args).await,
        RolloutVerb::Halt(args) => decide("halt", args).await,
        RolloutVerb::Revert(args) => self::decide(context, "revert", args, Ask::Yes).await,
        RolloutVerb::Promote(args) => steer(context, "promote", args, SteerAct::Promote {}).await,
        RolloutVerb::Skip { rollout: args, wave } => {
            steer(context, "skip", args, SteerAct::SkipWave { wave: wave - 1 }).await
        }
        RolloutVerb::Exclude { rollout: args, host } => {
            steer(context, "exclude", args, SteerAct::Exclude { host: host.clone() }).await
        }
        RolloutVerb::Retry { rollout: args, host } => {
            steer(context, "retry", args, SteerAct::Retry { host: host.clone() }).await
        }
        RolloutVerb::Slow { rollout: args, max_in_flight } => {
            let max_in_flight = *max_in_flight;
            steer(context, "slow", args, SteerAct::Slow { max_in_flight }).await
        }
        RolloutVerb::Abort { rollout: args, keep } => abort(context, args, *keep).await,
    }
}

/// The two buttons that name a service in place of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// No host switches after the answer.
    Halt,
    /// Every host that left its release goes back.
    Revert,
}

/// Runs `swell halt` or `swell revert`.
pub(crate) async fn stop(context: &Context, stop: Stop, args: &StopArgs) -> anyhow::Result<Exit> {
    let name = match stop {
        Stop::Halt => "halt",
        Stop::Revert => "revert",
    };
    let what = format!("revert the newest rollout of {} on every host it touched", args.service);
    if stop == Stop::Revert && !confirm(context.out, &what, args.decision.yes)? {
        return Ok(Exit::Failed);
    }
    let path = format!("/v1/services/{}/{name}", part(args.service.as_str()));
    send(context, &path, name, VerbRequest { why: why(name, &args.decision), keep: false }).await
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Yes,
    No,
}

async fn decide(
    context: &Context,
    name: &str,
    args: &RolloutArgs,
    ask: Ask,
) -> anyhow::Result<Exit> {
    let what = format!("{name} {} on every host it touched", args.rollout);
    if ask == Ask::Yes && !confirm(context.out, &what, args.decision.yes)? {
        return Ok(Exit::Failed);
    }
    let path = format!("/v1/rollouts/{}/{name}", part(args.rollout.as_str()));
    send(context, &path, name, VerbRequest { why: why(name, &args.decision), keep: false }).await
}

async fn abort(context: &Context, args: &RolloutArgs, keep: bool) -> anyhow::Result<Exit> {
    let then = if keep { "keep what runs" } else { "revert every host it touched" };
    let what = format!("abort {} and {then}", args.rollout);
    if !confirm(context.out, &what, args.decision.yes)? {
        return Ok(Exit::Failed);
    }
    let path = format!("/v1/rollouts/{}/abort", part(args.rollout.as_str()));
    send(context, &path, "abort", VerbRequest { why: why("abort", &args.decision), keep }).await
}

async fn steer(
    context: &Context,
    name: &str,
    args: &RolloutArgs,
    steer: SteerAct,
) -> anyhow::Result<Exit> {
    let path = format!("/v1/rollouts/{}/steer", part(args.rollout.as_str()));
    send(context, &path, name, SteerRequest { why: why(name, &args.decision), steer }).await
}

fn why(name: &str, decision: &Decision) -> String {
    decision.why.clone().unwrap_or_else(|| format!("swell {name}"))
}

async fn send(
    context: &Context,
    path: &str,
    name: &str,
    request: impl Serialize,
) -> anyhow::Result<Exit> {
    let answer: VerbAnswer = context.client()?.post(path, &request).await?;
    context.out.answer(&answer, |answer| decided(name, answer))?;
    Ok(Exit::Done)
}

fn decided(name: &str, answer: &VerbAnswer) -> String {
    let rollout = &answer.rollout;
    let phase = rollout.outcome.map_or_else(|| name_of(&rollout.phase), |o| name_of(&o));
    format!(
        "{name}: {} ({} {}) is {phase}, {}\nin force after {} ms; {} hosts had switched before and \
         are still being watched",
        rollout.rollout,
        rollout.service,
        rollout.version,
        counts_text(&rollout.counts),
        answer.halt_ms,
        answer.in_flight
    )
}

async fn list(context: &Context, service: Option<&ServiceName>) -> anyhow::Result<Exit> {
    let query = service.map(|s| format!("?service={}", part(s.as_str()))).unwrap_or_default();
    let answer: RolloutsAnswer = context.client()?.get(&format!("/v1/rollouts{query}")).await?;
    context.out.answer(&answer, |answer| rollouts_table(&answer.rollouts).to_string())?;
    Ok(Exit::Done)
}

async fn start(
    context: &Context,
    service: &ServiceName,
    (release, plan): (&str, Option<String>),
) -> anyhow::Result<Exit> {
    let path = format!("/v1/services/{}/rollout", part(service.as_str()));
    let request = StartRequest { release: release.to_owned(), plan };
    let answer: StartAnswer = context.client()?.post(&path, &request).await?;
    context.out.answer(&answer, |answer| {
        let (id, version) = (&answer.rollout.rollout, &answer.rollout.version);
        format!("rollout {id} of {service} {version}; swell rollout watch {id}")
    })?;
    Ok(Exit::Done)
}

async fn watch(context: &Context, rollout: &RolloutId, secs: u64) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let rollout = rollout_of(&client, rollout).await?;
    let within = (Until::Done, Duration::from_secs(secs));
    watch_to_the_end(context, &client, &rollout, within).await
}

/// Follows a rollout, shows it, and says at the end which hosts failed and why.
pub(crate) async fn watch_to_the_end(
    context: &Context,
    client: &Client,
    rollout: &RolloutId,
    within: (Until, Duration),
) -> anyhow::Result<Exit> {
    let (out, mut live) = (context.out, Live::on_stderr());
    let each = out.json && within.0 == Until::Done;
    let end = follow(client, rollout, within, |seen| match seen {
        Seen::Page(page) if each => {
            out.line(serde_json::to_string(page).map_err(std::io::Error::other)?)
        }
        Seen::Page(_) if out.json => Ok(()),
        Seen::Page(_) | Seen::Away(_) | Seen::Back => live.see(seen),
    })
    .await?;
    let Some(page) = end else {
        let secs = within.1.as_secs();
        out.note(format_args!("{rollout} is not over after {secs} s; it goes on"))?;
        return Ok(Exit::TimedOut);
    };
    if out.json && !each {
        out.line(serde_json::to_string(&page)?)?;
    }
    for line in failures(client, &page).await {
        out.note(line)?;
    }
    Ok(exit_of(&page.rollout))
}

/// The hosts that failed and the cause of each, a line a host.
async fn failures(client: &Client, end: &RolloutPage) -> Vec<String> {
    let counts = &end.rollout.counts;
    if exit_of(&end.rollout) == Exit::Done && counts.failed + counts.reverted == 0 {
        return Vec::new();
    }
    let id = &end.rollout.rollout;
    let path = format!("/v1/rollouts/{}", part(id.as_str()));
    // The end is known; without the hosts it is told all the same.
    let Ok(page) = client.get::<RolloutPage>(&path).await else {
        return vec![format!("which hosts failed: swell rollout show {id}")];
    };
    let failed: Vec<&RolloutHost> = page.hosts.iter().filter(|host| host.why.is_some()).collect();
    let mut lines: Vec<String> = failed.iter().take(FAILURES_SHOWN).map(|host| failure(host)).collect();
    if failed.len() > FAILURES_SHOWN {
        let more = failed.len() - FAILURES_SHOWN;
        lines.push(format!("  and {more} more: swell rollout show {id}"));
    }
    lines
}

fn failure(host: &RolloutHost) -> String {
    let why = host.why.as_deref().unwrap_or_default();
    let words = last_words(why).map(|words| format!("; it said last: {words}"));
    format!("  {} {}: {}{}", host.name, clean(&host.progress), cause(why), words.unwrap_or_default())
}

/// The rollout that a person means: one with this id, or else the newest of the service of this name.
pub(crate) async fn rollout_of(client: &Client, text: &RolloutId) -> anyhow::Result<RolloutId> {
    if may_be_id(text) {
        let path = format!("/v1/rollouts/{}", part(text.as_str()));
        match client.get::<RolloutPage>(&path).await {
            Ok(_) => return Ok(text.clone()),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error.into()),
        }
    }
    newest_of(client, text).await
}

async fn newest_of(client: &Client, text: &RolloutId) -> anyhow::Result<RolloutId> {
    let path = format!("/v1/rollouts?service={}", part(text.as_str()));
    let answer: RolloutsAnswer = client.get(&path).await?;
    let newest = answer.rollouts.into_iter().next().map(|rollout| rollout.rollout);
    newest.ok_or_else(|| Misuse::NoRollout(text.to_string()).into())
}

/// Whether it ends as ids do: in `-` and a number.
fn may_be_id(text: &RolloutId) -> bool {
    let number = text.as_str().rsplit_once('-').map(|(_, number)| number);
    number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
}

/// One line a rollout.
pub(crate) fn rollouts_table(rollouts: &[RolloutSummary]) -> Table {
    let mut table = Table::new(&["ROLLOUT", "RELEASE", "PHASE", "HOSTS", "STARTED", "WHY"]);
    for rollout in rollouts {
        table.row([
            rollout.rollout.to_string(),
            format!("{}@{}", rollout.service, rollout.version),
            rollout.outcome.map_or_else(|| name_of(&rollout.phase), |o| name_of(&o)),
            counts_text(&rollout.counts),
            rollout.started.to_string(),
            rollout.why.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn show(page: &RolloutPage) -> String {
    let rollout = &page.rollout;
    let mut text = format!(
        "{} of {} {}: {}\nplan {}, started {}\n",
        rollout.rollout,
        rollout.service,
        rollout.version,
        standing(page),
        rollout.plan.short(),
        rollout.started
    );
    // Writing to a string cannot fail.
    for why in rollout.why.iter().chain(&page.why) {
        let _ = writeln!(text, "  {}", clean(why));
    }
    for wave in &page.waves {
        let _ = writeln!(text, "{}", wave_line(wave, false));
    }
    if let Some(ask) = &page.ask {
        let id = &rollout.rollout;
        let (have, needed) = (ask.have.len(), ask.needed);
        let _ = writeln!(text, "{have} of {needed} approvals; swell approve {id}");
    }
    let mut table = Table::new(&["HOST", "WAVE", "PROGRESS", "WHY"]);
    for host in &page.hosts {
        let wave = usize::try_from(host.wave).ok().and_then(|wave| page.waves.get(wave));
        let wave = wave.map_or_else(|| host.wave.to_string(), |wave| wave.name.clone());
        let why = host.why.clone().unwrap_or_default();
        table.row([host.name.to_string(), wave, host.progress.clone(), why]);
    }
    let _ = write!(text, "\n{table}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::tests::page;

    #[test]
    fn a_rollout_is_shown_with_its_waves_and_hosts() {
        let mut page = page();
        page.hosts = serde_json::from_str(
            r#"[{"name":"web-1","wave":0,"progress":"committed","why":null},
                {"name":"web-2","wave":1,"progress":"probing","why":null}]"#,
        )
        .expect("hosts");
        let text = show(&page);
        assert!(text.starts_with("shop-2 of shop 1.1.0: running, wave 2 of 3 (25 %)\n"), "{text}");
        assert!(text.contains("web-1  canary  committed  -\n"), "{text}");
        assert!(text.contains("wave 2: 1 host has not baked yet"), "{text}");
        let table = rollouts_table(std::slice::from_ref(&page.rollout)).to_string();
        assert!(table.contains("shop-2   shop@1.1.0  running"), "{table}");
    }
}
