//! `swell rollout`, and its verbs that stand at the top as well.

use std::fmt::Write as _;
use std::time::Duration;

use groundswell_common::api::{
    HoldAnswer, HoldRequest, HostCounts, OutcomeName, RolloutHost, RolloutPage, RolloutSummary,
    RolloutsAnswer, StartAnswer, StartRequest, SteerAct, SteerRequest, VerbAnswer, VerbRequest,
};
use groundswell_common::{Environment, RolloutId, ServiceName, name_of};
use serde::Serialize;

use super::watch::watch_to_the_end;
use super::which::on_rollout;
use crate::args::{Decision, RolloutArgs, RolloutVerb, StartArgs, WaitArgs, WatchArgs};
use crate::client::{Client, part};
use crate::context::Context;
use crate::exit::Exit;
use crate::follow::{Until, counts_text, exit_of, standing, wave_line};
use crate::output::{
    Table, cause_cell, clean, confirm, count, may_ask, now, or_empty, place, when,
};

/// Runs `swell rollout …`.
pub(crate) async fn rollout(context: &Context, verb: &RolloutVerb) -> anyhow::Result<Exit> {
    match verb {
        RolloutVerb::Ls { service, environment } => {
            list(context, service.as_ref(), environment.as_ref()).await
        }
        RolloutVerb::Show { rollout } => show(context, rollout).await,
        RolloutVerb::Watch(args) => watch(context, args).await,
        RolloutVerb::Start(args) => start(context, args).await,
        RolloutVerb::Pause(args) => pause(context, args).await,
        RolloutVerb::Resume(args) => resume(context, args).await,
        RolloutVerb::Halt(args) => decide(context, "halt", args).await,
        RolloutVerb::Revert(args) => go_back(context, ("revert", false), args).await,
        RolloutVerb::Promote(args) => promote(context, args).await,
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
        RolloutVerb::Abort { rollout: args, keep } => {
            go_back(context, ("abort", *keep), args).await
        }
    }
}

/// Runs `swell show`.
pub(crate) async fn show(context: &Context, rollout: &RolloutId) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let page = on_rollout(&client, rollout, async |id| page_of(&client, id).await).await?;
    context.out.answer(&page, page_text)?;
    Ok(Exit::Done)
}

/// Runs `swell pause`.
pub(crate) async fn pause(context: &Context, args: &RolloutArgs) -> anyhow::Result<Exit> {
    decide(context, "pause", args).await
}

/// Runs `swell resume`.
pub(crate) async fn resume(context: &Context, args: &RolloutArgs) -> anyhow::Result<Exit> {
    decide(context, "resume", args).await
}

/// Runs `swell promote`.
pub(crate) async fn promote(context: &Context, args: &RolloutArgs) -> anyhow::Result<Exit> {
    steer(context, "promote", args, SteerAct::Promote {}).await
}

/// Runs `swell halt`: of the service's newest rollout, or of the rollout of this id where no service has
/// the name. One request where it is a service: this is the red button.
pub(crate) async fn halt(context: &Context, args: &RolloutArgs) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let request = VerbRequest { why: why("halt", &args.decision), keep: false };
    let name = part(args.rollout.as_str());
    let of_service =
        client.post::<VerbAnswer>(&format!("/v1/services/{name}/halt"), &request).await;
    let answer = match of_service {
        Err(error) if error.is_missing() => {
            let of_rollout = client.post(&format!("/v1/rollouts/{name}/halt"), &request).await;
            match of_rollout {
                // What is missing is what the name looks like: a service.
                Err(second) if second.is_missing() => return Err(error.into()),
                other => other?,
            }
        }
        other => other?,
    };
    context.out.answer(&answer, |answer| decided("halt", answer))?;
    Ok(Exit::Done)
}

async fn page_of(client: &Client, rollout: &RolloutId) -> anyhow::Result<RolloutPage> {
    Ok(client.get(&format!("/v1/rollouts/{}", part(rollout.as_str()))).await?)
}

async fn decide(context: &Context, name: &str, args: &RolloutArgs) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let request = VerbRequest { why: why(name, &args.decision), keep: false };
    on_rollout(&client, &args.rollout, async |id| {
        send(context, &client, (name, id, name), &request).await
    })
    .await
}

/// Ends a rollout: its hosts go back, or with `keep` stay as they are.
async fn go_back(
    context: &Context,
    (name, keep): (&str, bool),
    args: &RolloutArgs,
) -> anyhow::Result<Exit> {
    may_ask(&format!("{name} {}", args.rollout), args.decision.yes)?;
    let client = context.client()?;
    let request = VerbRequest { why: why(name, &args.decision), keep };
    on_rollout(&client, &args.rollout, async |id| {
        if !args.decision.yes {
            let what = ending((name, keep), &page_of(&client, id).await?.rollout);
            if !confirm(context.out, &what, false)? {
                return Ok(Exit::Failed);
            }
        }
        send(context, &client, (name, id, name), &request).await
    })
    .await
}

/// What the question before the end of a rollout names.
fn ending((name, keep): (&str, bool), rollout: &RolloutSummary) -> String {
    let HostCounts { committed, in_flight, .. } = rollout.counts;
    let touched = count(committed + in_flight, "host");
    let then = if keep {
        format!("{touched} that switched or are about to keep it")
    } else {
        format!("{touched} that switched or are about to go back")
    };
    let (id, service, version) = (&rollout.rollout, &rollout.service, &rollout.version);
    format!("{name} {id} of {service} {version}{}: {then}", place(rollout.environment.as_ref()))
}

async fn steer(
    context: &Context,
    name: &str,
    args: &RolloutArgs,
    steer: SteerAct,
) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let request = SteerRequest { why: why(name, &args.decision), steer };
    on_rollout(&client, &args.rollout, async |id| {
        send(context, &client, (name, id, "steer"), &request).await
    })
    .await
}

/// Why, for the ledger: what the person says, or the command.
pub(super) fn why(name: &str, decision: &Decision) -> String {
    decision.why.clone().unwrap_or_else(|| format!("swell {name}"))
}

async fn send(
    context: &Context,
    client: &Client,
    (name, rollout, route): (&str, &RolloutId, &str),
    request: &impl Serialize,
) -> anyhow::Result<Exit> {
    let path = format!("/v1/rollouts/{}/{route}", part(rollout.as_str()));
    let answer: VerbAnswer = client.post(&path, request).await?;
    context.out.answer(&answer, |answer| decided(name, answer))?;
    Ok(Exit::Done)
}

fn decided(name: &str, answer: &VerbAnswer) -> String {
    let rollout = &answer.rollout;
    let phase = rollout.outcome.map_or_else(|| name_of(&rollout.phase), |o| name_of(&o));
    let already = if answer.already { " already" } else { "" };
    let others: Vec<String> = answer.others.iter().map(named).collect();
    let others =
        if others.is_empty() { String::new() } else { format!("; so is {}", others.join(", ")) };
    format!(
        "{name}: {} is {phase}{already}, {}{others}\nin force after {} ms; {}",
        named(rollout),
        counts_text(&rollout.counts),
        answer.halt_ms,
        inside(answer),
    )
}

fn named(rollout: &RolloutSummary) -> String {
    let RolloutSummary { rollout: id, service, version, environment, .. } = rollout;
    format!("{id} ({service} {version}{})", place(environment.as_ref()))
}

/// Hosts that go on with what they have begun, by name.
fn inside(answer: &VerbAnswer) -> String {
    if answer.in_flight == 0 {
        return "no host is in the middle of a switch".to_owned();
    }
    let names: Vec<&str> = answer.hosts.iter().map(|host| host.as_str()).collect();
    let more = answer.in_flight.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let begun = count(answer.in_flight, "host");
    format!("{begun} had begun to switch before and will end it: {}{more}", names.join(", "))
}

async fn list(
    context: &Context,
    service: Option<&ServiceName>,
    environment: Option<&Environment>,
) -> anyhow::Result<Exit> {
    let query = service.map(|s| format!("?service={}", part(s.as_str()))).unwrap_or_default();
    let mut answer: RolloutsAnswer = context.client()?.get(&format!("/v1/rollouts{query}")).await?;
    answer
        .rollouts
        .retain(|rollout| environment.is_none() || rollout.environment.as_ref() == environment);
    context.out.answer(&answer, |answer| rollouts_table(&answer.rollouts).to_string())?;
    Ok(Exit::Done)
}

async fn start(context: &Context, args: &StartArgs) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let (service, release) = (&args.service, args.release.clone());
    let environment = args.environment.clone();
    let why = args.why.clone().unwrap_or_else(|| "swell rollout start".to_owned());
    let skip = args.skip.then(|| why.clone());
    if let Some(at) = args.at {
        let until = Some(at.as_secs());
        let request = HoldRequest { release, environment, until, skip, why };
        return hold(context, &client, (service, request)).await;
    }
    let request = StartRequest { release, plan: args.plan.clone(), environment, skip };
    let rollout = start_now(context, &client, (service, &request)).await?;
    follow_start(context, &client, (&rollout, &args.wait)).await
}

/// Starts a rollout and says which.
pub(super) async fn start_now(
    context: &Context,
    client: &Client,
    (service, request): (&ServiceName, &StartRequest),
) -> anyhow::Result<RolloutId> {
    let path = format!("/v1/services/{}/rollout", part(service.as_str()));
    let answer: StartAnswer = client.post(&path, request).await?;
    let id = answer.rollout.rollout.clone();
    let place = place(answer.rollout.environment.as_ref());
    context.out.answer(&answer, |answer| {
        format!("rollout {id} of {service} {}{place}; swell watch {id}", answer.rollout.version)
    })?;
    Ok(id)
}

pub(super) async fn follow_start(
    context: &Context,
    client: &Client,
    (id, wait): (&RolloutId, &WaitArgs),
) -> anyhow::Result<Exit> {
    if !wait.wait {
        return Ok(Exit::Done);
    }
    let within = (Until::DoneOrHalted, Duration::from_secs(wait.timeout));
    let end = watch_to_the_end(context, client, id, within).await?;
    Ok(end.map_or(Exit::TimedOut, |page| exit_of(&page.rollout)))
}

/// Holds a release back until a time, or takes that back; says what the service waits for then.
pub(super) async fn hold(
    context: &Context,
    client: &Client,
    (service, request): (&ServiceName, HoldRequest),
) -> anyhow::Result<Exit> {
    let path = format!("/v1/services/{}/hold", part(service.as_str()));
    let answer: HoldAnswer = client.post(&path, &request).await?;
    context.out.answer(&answer, |answer| {
        let lines = answer.waits.iter().map(|waits| format!("{service} waits: {}", clean(waits)));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Done)
}

/// Runs `swell watch`.
pub(crate) async fn watch(context: &Context, args: &WatchArgs) -> anyhow::Result<Exit> {
    let client = context.client()?;
    let within = (Until::Done, Duration::from_secs(args.timeout));
    let follow = async |id: &RolloutId| watch_to_the_end(context, &client, id, within).await;
    let end = on_rollout(&client, &args.rollout, follow).await?;
    Ok(end.map_or(Exit::TimedOut, |page| exit_of(&page.rollout)))
}

/// One line a rollout.
pub(crate) fn rollouts_table(rollouts: &[RolloutSummary]) -> Table {
    let several = rollouts.iter().any(|rollout| rollout.environment.is_some());
    let place = several.then_some("ENVIRONMENT");
    let heads = ["ROLLOUT", "RELEASE"].into_iter().chain(place);
    let heads = heads.chain(["PHASE", "HOSTS", "PLANNED", "WHY"]);
    let mut table = Table::new(&heads.collect::<Vec<_>>());
    let now = now();
    for rollout in rollouts {
        let place = several.then(|| or_empty(rollout.environment.as_ref()));
        let release = format!("{}@{}", rollout.service, rollout.version);
        let cells = [rollout.rollout.to_string(), release].into_iter().chain(place);
        table.row(cells.chain([
            rollout.outcome.map_or_else(|| name_of(&rollout.phase), |o| name_of(&o)),
            counts_text(&rollout.counts),
            when(rollout.started, now),
            rollout.why.as_deref().map(cause_cell).unwrap_or_default(),
        ]));
    }
    table
}

/// What became of a host: in a rollout that ended on its way nobody is about to switch any more.
fn done<'a>(page: &RolloutPage, host: &'a RolloutHost) -> &'a str {
    let ended = page.rollout.outcome.is_some_and(|outcome| outcome != OutcomeName::Completed);
    match host.progress.as_str() {
        "pending" | "staging" | "staged" if ended => "untouched",
        progress => progress,
    }
}

fn page_text(page: &RolloutPage) -> String {
    let rollout = &page.rollout;
    let mut text = format!(
        "{} of {} {}{}: {}\nplan {}, planned {}\n",
        rollout.rollout,
        rollout.service,
        rollout.version,
        place(rollout.environment.as_ref()),
        standing(page),
        rollout.plan.short(),
        when(rollout.started, now())
    );
    // Writing to a string cannot fail.
    if let Some(skip) = &rollout.skip {
        let _ = writeln!(text, "  it skips the environments before: {}", clean(skip));
    }
    // The page says the same with more, mostly.
    let said = |why: &&String| page.why.iter().any(|more| more.contains(why.as_str()));
    for why in rollout.why.iter().filter(|why| !said(why)).chain(&page.why) {
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
        let why = host.why.as_deref().map(cause_cell).unwrap_or_default();
        table.row([host.name.to_string(), wave, done(page, host).to_owned(), why]);
    }
    let _ = write!(text, "\n{table}");
    let over = rollout.outcome.is_some_and(|outcome| outcome != OutcomeName::Completed);
    if let Some(host) = page.hosts.iter().find(|host| !over && host.progress == "failed") {
        let (id, name) = (&rollout.rollout, &host.name);
        let _ = writeln!(
            text,
            "\n{name}, as any host that failed, is tried again by: swell rollout retry {id} --host {name}"
        );
    }
    for host in &page.hosts {
        if let Some(why) = host.why.as_ref().filter(|why| cause_cell(why) != **why) {
            let _ = writeln!(text, "\n{} {}:", host.name, clean(&host.progress));
            why.lines().for_each(|line| {
                let _ = writeln!(text, "  {}", clean(line));
            });
        }
    }
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
        let text = page_text(&page);
        assert!(text.starts_with("shop-2 of shop 1.1.0: running, wave 2 of 3 (25 %)\n"), "{text}");
        assert!(text.contains("web-1  canary  committed  -\n"), "{text}");
        assert!(text.contains("wave 2: 1 host has not baked yet"), "{text}");
        let long = "probe http://127.0.0.1:80: refused; its last output:\nstarting\nno such file";
        page.hosts[1].why = Some(long.into());
        let text = page_text(&page);
        assert!(
            text.contains("web-2  25 %    probing    probe http://127.0.0.1:80: refused\n"),
            "{text}"
        );
        assert!(
            text.ends_with(
                "\nweb-2 probing:\n  probe http://127.0.0.1:80: refused; its last \
            output:\n  starting\n  no such file\n"
            ),
            "{text}"
        );
        page.hosts[1].progress = "staging".to_owned();
        assert!(page_text(&page).contains("web-2  25 %    staging "), "{text}");
        page.rollout.outcome = Some(OutcomeName::Reverted);
        assert!(page_text(&page).contains("web-2  25 %    untouched "), "{text}");
        page.rollout.outcome = None;
        let table = rollouts_table(std::slice::from_ref(&page.rollout)).to_string();
        assert!(table.contains("shop-2   shop@1.1.0  running"), "{table}");
    }

    #[test]
    fn the_question_before_an_end_names_what_it_ends() {
        let rollout = page().rollout;
        assert_eq!(
            ending(("revert", false), &rollout),
            "revert shop-2 of shop 1.1.0: 3 hosts that switched or are about to go back"
        );
        assert!(
            ending(("abort", true), &rollout)
                .ends_with("3 hosts that switched or are about to keep it")
        );
    }

    #[test]
    fn one_host_is_told_in_the_singular_and_a_second_halt_as_such() {
        let answer = VerbAnswer {
            rollout: page().rollout,
            halt_ms: 3,
            in_flight: 1,
            hosts: vec!["web-2".parse().expect("name")],
            already: true,
            others: Vec::new(),
        };
        let text = decided("halt", &answer);
        assert!(text.starts_with("halt: shop-2 (shop 1.1.0) is running already, "), "{text}");
        assert!(
            text.ends_with("after 3 ms; 1 host had begun to switch before and will end it: web-2"),
            "{text}"
        );
    }
}
