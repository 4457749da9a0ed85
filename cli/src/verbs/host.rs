//! `swell host`: hosts and enrolment.

use std::fmt::Write as _;

use anyhow::Context as _;
use groundswell_common::api::{
    HostPage, HostService, HostSummary, HostsAnswer, LabelsRequest, RenameRequest, TokensAnswer,
    TokensRequest, WhyAnswer, WhyRequest,
};
use groundswell_common::{Labels, name_of};

use crate::args::{HostVerb, TokenArgs};
use crate::client::part;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::{Table, bytes, cause_cell, clean, confirm, may_ask, now, or_empty, when};

/// Services of a host that are shown though nobody here asks for them.
const CLAIMED_SHOWN: usize = 4;

/// Runs `swell host …`.
pub(crate) async fn host(context: &Context, verb: &HostVerb) -> anyhow::Result<Exit> {
    let client = context.client()?;
    match verb {
        HostVerb::Ls { selector, environment } => {
            let query = selector.as_ref().map(|s| format!("?selector={}", part(s)));
            let path = format!("/v1/hosts{}", query.unwrap_or_default());
            let mut answer: HostsAnswer = client.get(&path).await?;
            let here =
                |host: &HostSummary| environment.as_ref().is_none_or(|e| host.environment == *e);
            answer.hosts.retain(here);
            context.out.answer(&answer, |answer| hosts_table(&answer.hosts).to_string())?;
        }
        HostVerb::Show { host } => {
            let page: HostPage = client.get(&format!("/v1/hosts/{}", part(host.as_str()))).await?;
            context.out.answer(&page, show)?;
        }
        HostVerb::Why { host } => {
            let path = format!("/v1/hosts/{}/why", part(host.as_str()));
            let answer: WhyAnswer = client.get(&path).await?;
            context.out.answer(&answer, |answer| clean_lines(&answer.why))?;
        }
        HostVerb::EnrollToken(args) => return tokens(context, args).await,
        HostVerb::Clear { host, why } => {
            let path = format!("/v1/hosts/{}/clear", part(host.as_str()));
            let page: HostPage = client.post(&path, &WhyRequest { why: why.clone() }).await?;
            context.out.answer(&page, |_| format!("{host} is taken in by the next plan"))?;
        }
        HostVerb::Drain { host, why } => {
            let path = format!("/v1/hosts/{}/drain", part(host.as_str()));
            let page: HostPage = client.post(&path, &WhyRequest { why: why.clone() }).await?;
            let next = format!(
                "{host} is drained: no rollout switches it, only a revert takes it back; swell host undrain {host}"
            );
            context.out.answer(&page, |_| next.clone())?;
        }
        HostVerb::Undrain { host, why } => {
            let path = format!("/v1/hosts/{}/undrain", part(host.as_str()));
            let page: HostPage = client.post(&path, &WhyRequest { why: why.clone() }).await?;
            context.out.answer(&page, |_| format!("{host} takes part again and catches up"))?;
        }
        HostVerb::Label { host, labels } => {
            let path = format!("/v1/hosts/{}/labels", part(host.as_str()));
            let request = LabelsRequest { labels: labels.clone() };
            let page: HostPage = client.post(&path, &request).await?;
            context.out.answer(&page, |page| {
                let left = page.host.services.iter().filter(|service| service.left_over);
                let left = left.map(|service| {
                    let (name, runs) = (&service.service, runs(service));
                    format!(
                        "\n{name} {runs} runs on there and is no longer its: if that was a mistake, give it the \
                         labels back; if not, swell service remove {name} --left-over"
                    )
                });
                format!("{host} has the labels {labels}{}", left.collect::<String>())
            })?;
        }
        HostVerb::Rename { host, name } => {
            let path = format!("/v1/hosts/{}/rename", part(host.as_str()));
            let request = RenameRequest { name: name.clone() };
            let page: HostPage = client.post(&path, &request).await?;
            context.out.answer(&page, |_| format!("{host} is called {name} from now on"))?;
        }
        HostVerb::Remove { host, yes } => {
            may_ask(&format!("forget host {host}"), *yes)?;
            if !*yes {
                let path = format!("/v1/hosts/{}", part(host.as_str()));
                let page: HostPage = client.get(&path).await?;
                if !confirm(context.out, &forgetting(&page.host), false)? {
                    return Ok(Exit::Failed);
                }
            }
            client.delete(&format!("/v1/hosts/{}", part(host.as_str()))).await?;
            let gone = serde_json::json!({ "removed": host });
            context.out.answer(&gone, |_| format!("{host} is removed"))?;
        }
    }
    Ok(Exit::Done)
}

/// What the question before a host is forgotten names: what goes on running there.
fn forgetting(host: &HostSummary) -> String {
    let running = |service: &HostService| format!("{} {}", service.service, runs(service));
    let runs: Vec<String> =
        host.services.iter().filter(|service| service.running.is_some()).map(running).collect();
    let rest = match (host.connected, runs.is_empty()) {
        (_, true) => String::new(),
        (true, false) => format!("; {} runs on there and is watched no more", runs.join(", ")),
        (false, false) => format!("; it is away and ran {} at last", runs.join(", ")),
    };
    format!("forget host {} and refuse its certificate{rest}", host.name)
}

fn clean_lines(lines: &[String]) -> String {
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

async fn tokens(context: &Context, args: &TokenArgs) -> anyhow::Result<Exit> {
    let request = TokensRequest {
        labels: once(&args.labels)?,
        environment: args.environment.clone(),
        ttl_secs: args.ttl.saturating_mul(3600),
        count: args.count,
    };
    let answer: TokensAnswer = context.client()?.post("/v1/enroll-tokens", &request).await?;
    context.out.answer(&answer, |answer| answer.tokens.join("\n"))?;
    if !context.out.json {
        context.out.note("each is for one host: sudo groundswell-agent enroll TOKEN")?;
    }
    Ok(Exit::Done)
}

/// All labels together, each key once.
fn once(given: &[Labels]) -> anyhow::Result<Labels> {
    let given: Vec<String> = given.iter().map(ToString::to_string).collect();
    given.join(",").parse().context("read --label")
}

/// One line a host and service.
fn hosts_table(hosts: &[HostSummary]) -> Table {
    let several = hosts.windows(2).any(|two| two[0].environment != two[1].environment);
    let heads = ["HOST"].into_iter().chain(several.then_some("ENVIRONMENT"));
    let heads = heads.chain(["LINK", "SERVICE", "RUNS", "STATE", "HEALTH", "LABELS", "WHY"]);
    let mut table = Table::new(&heads.collect::<Vec<_>>());
    for host in hosts {
        let link = if host.connected { "up" } else { "away" };
        let mut row = |service: [String; 4], why: Option<&String>| {
            let [name, runs, state, health] = service;
            let why = host.notes.first().or(why).map(|why| cause_cell(why)).unwrap_or_default();
            let (host_name, labels) = (host.name.to_string(), host.labels.to_string());
            let place = several.then(|| host.environment.to_string());
            let cells = [link.to_owned(), name, runs, state, health, labels, why];
            table.row([host_name].into_iter().chain(place).chain(cells));
        };
        if host.services.is_empty() {
            row([const { String::new() }; 4], None);
        }
        // What a host claims and nobody here asks for must not fill the page.
        let (asked, claimed): (Vec<_>, Vec<_>) =
            host.services.iter().partition(|service| service.wish.is_some() || service.left_over);
        for service in asked.into_iter().chain(claimed.iter().copied().take(CLAIMED_SHOWN)) {
            let cells = [
                service.service.to_string(),
                runs(service),
                service.state.map(|state| name_of(&state)).unwrap_or_default(),
                service.health.map(|health| name_of(&health)).unwrap_or_default(),
            ];
            let failure = service.failure.as_ref().map(|failure| &failure.why);
            row(cells, service.held.as_ref().or(failure).or(service.notes.first()));
        }
        if let Some(more) = claimed.len().checked_sub(CLAIMED_SHOWN).filter(|more| *more > 0) {
            let what = format!("and {more} more that no policy brings there");
            row([what, String::new(), String::new(), String::new()], None);
        }
    }
    table
}

fn runs(service: &HostService) -> String {
    let short = || service.running.map(|release| release.digest().short());
    service.version.as_ref().map(ToString::to_string).or_else(short).unwrap_or_default()
}

fn show(page: &HostPage) -> String {
    let host = &page.host;
    let mut table = Table::new(&["host", host.name.as_str()]);
    table.row(["id".into(), host.id.to_string()]);
    table.row(["labels".into(), host.labels.to_string()]);
    table.row(["environment".into(), host.environment.to_string()]);
    table.row(["connected".into(), if host.connected { "yes" } else { "no" }.into()]);
    let seen = host.last_seen.map(|at| when(at, now()));
    table.row(["last seen".into(), seen.unwrap_or_default()]);
    table.row(["enrolled".into(), when(page.enrolled, now())]);
    table.row(["agent".into(), or_empty(host.agent_version.as_ref())]);
    table.row(["free".into(), page.free_bytes.map(bytes).unwrap_or_default()]);
    let accepted = page.accepted.map_or_else(|| "none".to_owned(), |g| g.to_string());
    table.row(["directive".into(), format!("{} (accepted: {accepted})", page.generation)]);
    table.row(["refused".into(), or_empty(page.refusal.as_ref())]);
    let mut text = table.to_string();
    let mut services =
        Table::new(&["SERVICE", "RUNS", "STATE", "HEALTH", "PREVIOUS", "TARGET", "ROLLOUT"]);
    for service in &host.services {
        let short = |release: Option<groundswell_common::ReleaseId>| {
            release.map(|release| release.digest().short()).unwrap_or_default()
        };
        services.row([
            service.service.to_string(),
            runs(service),
            service.state.map(|state| name_of(&state)).unwrap_or_default(),
            service.health.map(|health| name_of(&health)).unwrap_or_default(),
            short(service.previous),
            short(service.target),
            or_empty(service.rollout.as_ref()),
        ]);
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "\n{services}");
    for note in &host.notes {
        let _ = writeln!(text, "\n{}", clean(note));
    }
    for service in &host.services {
        let held = service.held.iter().map(|held| format!("held: {held}"));
        for line in held.chain(service.notes.iter().cloned()) {
            let _ = writeln!(text, "\n{}: {}", service.service, clean(&line));
        }
        if let Some(failure) = &service.failure {
            let (step, why) = (name_of(&failure.step), &failure.why);
            let release = failure.release.digest().short();
            let lines: Vec<String> = why.lines().map(clean).collect();
            let why = lines.join("\n  ");
            let _ = writeln!(text, "\n{}: {release} failed at {step}: {why}", service.service);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_host_claims_and_no_policy_brings_there_does_not_fill_the_page() {
        let service = |name: &str, wish: serde_json::Value| {
            json!({"service": name, "state": "committed", "running": null, "version": "1.0.0",
                "previous": null, "target": null, "health": "pass", "failure": null, "wish": wish,
                "rollout": null})
        };
        let mut services: Vec<_> =
            (0..50).map(|n| service(&format!("a{n:02}"), json!(null))).collect();
        services.push(service("shop", json!({"do": "hold"})));
        let host: HostSummary =
            serde_json::from_value(json!({"id": "0".repeat(32), "name": "web-1",
            "labels": {}, "environment": "production", "connected": true, "last_seen": null,
            "agent_version": null, "services": services}))
            .expect("host");
        let text = hosts_table(&[host]).to_string();
        assert_eq!(text.lines().count(), 1 + 1 + CLAIMED_SHOWN + 1, "{text}");
        assert!(text.contains("  shop ") && text.contains("and 46 more that no policy"), "{text}");
    }

    #[test]
    fn labels_may_be_given_one_at_a_time() {
        let given = |texts: &[&str]| {
            let labels: Vec<Labels> =
                texts.iter().map(|text| text.parse().expect("labels")).collect();
            once(&labels).map(|labels| labels.to_string())
        };
        assert_eq!(given(&[]).expect("none"), "");
        assert_eq!(given(&["role=web", "dc=fra,rack=2"]).expect("three"), "dc=fra,rack=2,role=web");
        let twice = given(&["role=web", "role=db"]).expect_err("which?").root_cause().to_string();
        assert!(twice.contains("each key once"), "{twice}");
    }

    #[test]
    fn hosts_without_services_are_listed_too() {
        let hosts: Vec<HostSummary> = serde_json::from_str(
            r#"[{"id":"00000000000000000000000000000001","name":"web-1","labels":{"role":"web"},
                 "environment":"production","connected":true,"last_seen":null,
                 "agent_version":null,"services":[]}]"#,
        )
        .expect("hosts");
        assert_eq!(
            hosts_table(&hosts).to_string(),
            "HOST   LINK  SERVICE  RUNS  STATE  HEALTH  LABELS    WHY\n\
             web-1  up    -        -     -      -       role=web  -\n"
        );
    }

    #[test]
    fn the_question_before_a_host_is_forgotten_says_what_runs_on() {
        let digest = "0".repeat(64);
        let mut host: HostSummary = serde_json::from_value(json!({
            "id": "0".repeat(32), "name": "web-1", "labels": {}, "environment": "production",
            "connected": true, "last_seen": null, "agent_version": null, "services": [{
                "service": "shop", "state": "committed", "running": digest, "version": "1.0.0",
                "previous": null, "target": null, "health": "pass", "failure": null,
                "wish": null, "rollout": null}]}))
        .expect("host");
        let on = "forget host web-1 and refuse its certificate; shop 1.0.0 runs on there and is watched no more";
        assert_eq!(forgetting(&host), on);
        host.connected = false;
        assert!(forgetting(&host).ends_with("; it is away and ran shop 1.0.0 at last"));
        host.services.clear();
        assert_eq!(forgetting(&host), "forget host web-1 and refuse its certificate");
    }
}
