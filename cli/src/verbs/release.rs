//! `swell release`: what was published.

use std::fmt::Write as _;

use groundswell_common::api::{
    HoldRequest, ReleasePage, ReleaseSummary, ReleasesAnswer, WhyRequest,
};
use groundswell_common::name_of;
use groundswell_common::time::Timestamp;

use super::rollout::{hold, rollouts_table};
use crate::args::ReleaseVerb;
use crate::client::{Client, part};
use crate::context::Context;
use crate::exit::{Exit, Misuse};
use crate::output::{Table, bytes, clean, confirm, or_empty};

/// Runs `swell release …`.
pub(crate) async fn release(context: &Context, verb: &ReleaseVerb) -> anyhow::Result<Exit> {
    let client = context.client()?;
    match verb {
        ReleaseVerb::Ls { service } => {
            let query = service.as_ref().map(|s| format!("?service={}", part(s.as_str())));
            let path = format!("/v1/releases{}", query.unwrap_or_default());
            let answer: ReleasesAnswer = client.get(&path).await?;
            context.out.answer(&answer, |a| releases_table(&a.releases).to_string())?;
            Ok(Exit::Done)
        }
        ReleaseVerb::Show { release } => {
            context.out.answer(&page(&client, release).await?, show)?;
            Ok(Exit::Done)
        }
        ReleaseVerb::Cancel { release, environment, why } => {
            let found = page(&client, release).await?.release;
            let request = HoldRequest {
                release: found.version.to_string(),
                environment: environment.clone(),
                until: None,
                skip: None,
                why: why.clone(),
            };
            hold(context, &client, (&found.service, request)).await
        }
        ReleaseVerb::Clear { release, why, yes } => {
            let found = page(&client, release).await?.release;
            let what = format!("let {} {} be rolled out again", found.service, found.version);
            if !confirm(context.out, &what, *yes)? {
                return Ok(Exit::Failed);
            }
            let path = format!("/v1/releases/{}/clear", found.release);
            let cleared: serde_json::Value =
                client.post(&path, &WhyRequest { why: why.clone() }).await?;
            context
                .out
                .answer(&cleared, |_| format!("{} {} is cleared", found.service, found.version))?;
            Ok(Exit::Done)
        }
    }
}

async fn page(client: &Client, release: &str) -> anyhow::Result<ReleasePage> {
    let is_id = release.len() == 64 && release.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_id && !release.contains('@') {
        return Err(Misuse::Release(release.to_owned()).into());
    }
    Ok(client.get(&format!("/v1/releases/{}", part(release))).await?)
}

/// One line a release.
pub(crate) fn releases_table(releases: &[ReleaseSummary]) -> Table {
    let mut table =
        Table::new(&["RELEASE", "SEQ", "STATE", "FILES", "SIZE", "PUBLISHED", "BY", "ID"]);
    for release in releases {
        table.row([
            format!("{}@{}", release.service, release.version),
            release.seq.to_string(),
            name_of(&release.state),
            release.files.to_string(),
            bytes(release.bytes),
            release.published.to_string(),
            or_empty(release.by.as_ref()),
            release.release.digest().short(),
        ]);
    }
    table
}

fn show(page: &ReleasePage) -> String {
    let (release, source) = (&page.release, &page.source);
    let mut table = Table::new(&["release", &format!("{}@{}", release.service, release.version)]);
    table.row(["id".into(), release.release.to_string()]);
    table.row(["tree".into(), release.tree.to_string()]);
    table.row(["seq".into(), release.seq.to_string()]);
    let why = release.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    table.row(["state".into(), name_of(&release.state) + &why]);
    for of in release.environments.iter().filter(|_| release.environments.len() > 1) {
        let why = of.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        table.row([format!("in {}", of.environment), name_of(&of.state) + &why]);
    }
    let marks =
        [("one-way", release.one_way), ("barrier", release.barrier), ("hotfix", release.hotfix)];
    let marks = marks.into_iter().filter(|(_, is)| *is).map(|(mark, _)| mark);
    table.row(["marks".into(), marks.collect::<Vec<_>>().join(", ")]);
    table.row(["requires".into(), release.requires.clone()]);
    table.row(["files".into(), format!("{}, {}", release.files, bytes(release.bytes))]);
    table.row([
        "published".into(),
        format!("{} by {}", release.published, or_empty(release.by.as_ref())),
    ]);
    table.row(["commit".into(), source.commit.clone().unwrap_or_default()]);
    let time = source.commit_time.map(|secs| Timestamp::from_secs(secs).to_string());
    table.row(["commit time".into(), time.unwrap_or_default()]);
    table.row(["authors".into(), source.authors.join(", ")]);
    table.row(["built at".into(), source.build_url.clone().unwrap_or_default()]);
    table.row(["notes".into(), source.notes.clone().unwrap_or_default()]);
    let signers: Vec<String> = page.signers.iter().map(ToString::to_string).collect();
    table.row(["signed by".into(), signers.join(" ")]);
    // Writing to a string cannot fail.
    let mut text = table.to_string();
    if !source.commits.is_empty() {
        text.push_str("\ncommits:\n");
    }
    for commit in &source.commits {
        let _ = writeln!(text, "  {}", clean(commit));
    }
    if !page.rollouts.is_empty() {
        let _ = write!(text, "\n{}", rollouts_table(&page.rollouts));
    }
    text
}
