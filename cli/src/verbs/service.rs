//! `swell service`: services and their policies.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use groundswell_common::api::{PolicyAnswer, ServicePage, ServiceSummary, ServicesAnswer};
use groundswell_common::{ServiceName, name_of};
use groundswell_rollout::Policy;
use serde::Deserialize;

use super::plan::plan_text;
use super::release::releases_table;
use super::simulate::against_the_fleet;
use crate::args::ServiceVerb;
use crate::client::{Client, ClientError, part};
use crate::context::Context;
use crate::exit::{Exit, Misuse};
use crate::follow::counts_text;
use crate::output::{Table, clean, confirm, or_empty, place};

/// Runs `swell service …`.
pub(crate) async fn service(context: &Context, verb: &ServiceVerb) -> anyhow::Result<Exit> {
    match verb {
        ServiceVerb::New(args) => super::new::new(context, args),
        ServiceVerb::Apply { file, yes } => apply(context, (file, *yes)).await,
        ServiceVerb::Remove(args) => super::remove::remove(context, args).await,
        ServiceVerb::Ls => {
            let answer: ServicesAnswer = context.client()?.get("/v1/services").await?;
            context.out.answer(&answer, |a| services_table(&a.services).to_string())?;
            Ok(Exit::Done)
        }
        ServiceVerb::Show { service } => {
            let answer = service_page(&context.client()?, service).await?;
            context.out.answer(&answer, show)?;
            Ok(Exit::Done)
        }
    }
}

/// The one key of a policy that the client needs; the coordinator reads the rest.
#[derive(Deserialize)]
struct PolicyHead {
    service: Option<ServiceName>,
}

/// The API's code for a policy that no longer reaches hosts which run the service.
const LEAVES_HOSTS: &str = "leaves_hosts";

async fn apply(context: &Context, (file, yes): (&Path, bool)) -> anyhow::Result<Exit> {
    let shown = file.display();
    let text = fs::read_to_string(file).with_context(|| format!("read the policy {shown}"))?;
    let head: PolicyHead =
        toml::from_str(&text).with_context(|| format!("read the policy {shown}"))?;
    let service = head.service.ok_or_else(|| Misuse::PolicyService(shown.to_string()))?;
    let path = format!("/v1/services/{}/policy", part(service.as_str()));
    // What is no policy the coordinator refuses, with the line.
    if let Ok((first, behind)) = Policy::each_from_toml(&text) {
        let policies: Vec<Policy> = std::iter::once(first).chain(behind).collect();
        for line in against_the_fleet(context, &policies).await {
            context.out.note(format_args!("warning: {line}"))?;
        }
    }
    let client = context.client()?;
    let leaving = format!("{path}?leave=true");
    let answer: PolicyAnswer =
        match client.put(if yes { &leaving } else { &path }, text.clone()).await {
            Err(ClientError::Api { body, .. }) if body.code == LEAVES_HOSTS => {
                context.out.note(clean(&body.message))?;
                if !confirm(context.out, &format!("apply {shown} all the same"), false)? {
                    return Ok(Exit::Failed);
                }
                client.put(&leaving, text).await?
            }
            answer => answer?,
        };
    for note in &answer.notes {
        context.out.note(format_args!("warning: {}", clean(note)))?;
    }
    context.out.answer(&answer, applied)?;
    Ok(Exit::Done)
}

fn applied(answer: &PolicyAnswer) -> String {
    let what = if answer.changed { "stored" } else { "unchanged" };
    let mut text = format!("policy of {} {what}\n", answer.service);
    if let Some(plan) = &answer.plan {
        text.push_str(&plan_text(plan));
    }
    if let Some(rollout) = &answer.rollout {
        let _ = writeln!(text, "rollout {rollout} has started; swell watch {rollout}");
    }
    text
}

/// One line a service.
fn services_table(services: &[ServiceSummary]) -> Table {
    let mut table = Table::new(&["SERVICE", "NEWEST", "STATE", "POLICY", "ROLLOUT"]);
    for service in services {
        let newest = service.newest.as_ref();
        table.row([
            service.service.to_string(),
            or_empty(newest.map(|release| &release.version)),
            newest.map(|release| name_of(&release.state)).unwrap_or_default(),
            if service.has_policy { "yes" } else { "no" }.to_owned(),
            or_empty(service.rollout.as_ref()),
        ]);
    }
    table
}

/// What the coordinator knows of a service.
pub(super) async fn service_page(
    client: &Client,
    service: &ServiceName,
) -> Result<ServicePage, ClientError> {
    client.get(&format!("/v1/services/{}", part(service.as_str()))).await
}

fn show(page: &ServicePage) -> String {
    let service = &page.service.service;
    let mut text = format!("service {service}\n");
    // Writing to a string cannot fail.
    if let Some(rollout) = &page.rollout {
        let (id, version) = (&rollout.rollout, &rollout.version);
        let phase = rollout.outcome.map_or_else(|| name_of(&rollout.phase), |o| name_of(&o));
        let (place, counts) = (place(rollout.environment.as_ref()), counts_text(&rollout.counts));
        let _ = writeln!(text, "rollout {id} of {version}{place}: {phase}, {counts}");
    }
    for stalls in &page.service.stalls {
        let _ = writeln!(text, "! {}", clean(stalls));
    }
    for waits in &page.service.waits {
        let _ = writeln!(text, "waits: {}", clean(waits));
    }
    let mut running = Table::new(&["RUNS", "HOSTS"]);
    for count in &page.running {
        let version = count.version.as_ref().map_or_else(
            || count.release.map_or_else(|| "nothing".into(), |r| r.digest().short()),
            ToString::to_string,
        );
        running.row([version, count.hosts.to_string()]);
    }
    let _ = write!(text, "\n{running}\n{}", releases_table(&page.releases));
    match &page.policy {
        Some(policy) => {
            let _ = write!(text, "\npolicy:\n{}", policy.trim_end());
        }
        None => text.push_str("\nno policy: nothing rolls out; swell service apply FILE"),
    }
    text
}
