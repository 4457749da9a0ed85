//! A version that is published again: its content is there, and the question is what became of it. A job
//! that publishes an old version wants to go back, which publishing never does.

use groundswell_common::api::{
    OutcomeName, PublishAnswer, ReleasePage, ReleaseState, RolloutSummary, ServicePage,
};

use super::service::service_page;
use crate::client::Client;
use crate::output::{cause, clean};

/// Why the release will not be rolled out by this, and what to do; `None` where it is, was, or waits.
pub(super) async fn not_rolled_out(
    client: &Client,
    answer: &PublishAnswer,
) -> anyhow::Result<Option<String>> {
    let page: ReleasePage = client.get(&format!("/v1/releases/{}", answer.release)).await?;
    let service = service_page(client, &answer.service).await?;
    Ok(poisoned(answer, &page)
        .or_else(|| went_back(answer, &page))
        .or_else(|| older(answer, &service)))
}

fn poisoned(answer: &PublishAnswer, page: &ReleasePage) -> Option<String> {
    let (service, version) = (&answer.service, &answer.version);
    let why =
        page.release.why.as_deref().map_or_else(String::new, |why| format!(": {}", cause(why)));
    (page.release.state == ReleaseState::Poisoned).then(|| {
        format!(
            "{service} {version} is poisoned{why}\n  publish a repaired release under a new version, or \
             swell release clear {service}@{version} --why ..., then swell rollout start {service} {version}"
        )
    })
}

/// Its newest rollout was taken back, and no other came after it.
fn went_back(answer: &PublishAnswer, page: &ReleasePage) -> Option<String> {
    let (service, version) = (&answer.service, &answer.version);
    let back = |rollout: &&RolloutSummary| rollout.outcome == Some(OutcomeName::Reverted);
    page.rollouts.first().filter(back).map(|rollout| {
        let why =
            rollout.why.as_deref().map_or_else(String::new, |why| format!(": {}", cause(why)));
        format!(
            "rollout {} of {service} {version} went back{}\n  to try it again: swell rollout start \
             {service} {version}",
            rollout.rollout,
            clean(&why)
        )
    })
}

/// A newer release runs, and this one neither rolls out nor waits.
fn older(answer: &PublishAnswer, service: &ServicePage) -> Option<String> {
    if answer.rollout.is_some() {
        return None;
    }
    let runs = service.running.iter().filter_map(|count| count.release);
    let newest = runs
        .filter_map(|id| service.releases.iter().find(|release| release.release == id))
        .max_by_key(|release| release.seq)
        .filter(|newest| newest.seq > answer.seq)?;
    let (name, version) = (&answer.service, &answer.version);
    Some(format!(
        "{name} {version} is older than {}, which runs; publishing it again does not go back to it\n  to \
         go back: swell revert {name} --to {version}",
        newest.version
    ))
}
