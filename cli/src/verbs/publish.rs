//! `swell publish`: pack, upload what the depot lacks, publish, and follow the rollout where asked to.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use groundswell_common::api::{Profile, PublishAnswer, ServicePage};
use groundswell_common::manifest::{Manifest, RawManifest, Source};
use groundswell_common::trust::{Document as _, Envelope, SecretKey};
use groundswell_common::{ReleaseId, ServiceName};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::PublishArgs;
use crate::client::{Client, part};
use crate::context::Context;
use crate::exit::{Exit, Misuse};
use crate::follow::{Live, Until, exit_of, follow};
use crate::git;
use crate::output::bytes;
use crate::pack::{self, Packed};
use crate::spec::Spec;

/// Times that the next number is asked for again when another publisher took it.
const SEQ_TRIES: u32 = 5;
/// The API's code for a number that another release has.
const SEQ_TAKEN: &str = "seq_taken";

/// Runs `swell publish`.
pub(crate) async fn publish(context: &Context, args: &PublishArgs) -> anyhow::Result<Exit> {
    let spec = Spec::load(&args.tree, args.spec.as_deref())?;
    let service = args.service.clone().or_else(|| spec.release.service.clone());
    let service = service.ok_or(Misuse::NoService)?;
    let root = args.tree.clone();
    let packed = tokio::task::spawn_blocking(move || pack::pack(&root)).await??;
    if args.dry_run {
        return dry_run(context, &packed);
    }
    let profile = context.profile()?;
    let client = Client::new(&profile)?;
    let found = next(&client, &service).await?;
    let raw = RawManifest {
        service,
        version: args.version.clone(),
        seq: found.next_seq,
        floor: spec.release.floor,
        platform: spec.release.platform.clone(),
        one_way: spec.release.one_way,
        requires: spec.release.requires.clone(),
        barrier: spec.release.barrier,
        hotfix: args.hotfix,
        tree: packed.tree.digest(),
        files: packed.tree.files.clone(),
        links: packed.tree.links.clone(),
        blobs: vec![packed.blob.clone()],
        units: spec.release.units.clone(),
        switch: spec.release.switch,
        command: spec.release.command.clone(),
        probes: spec.probes(),
        hooks: spec.hook.clone(),
        source: source(args, found.commit.as_deref()),
    };
    Manifest::check(raw.clone())?;
    let keys = keys(&profile, args.sign_key.as_deref())?;
    upload(context, &client, &packed).await?;
    let answer = post(&client, raw, &keys).await?;
    context.out.answer(&answer, published)?;
    if args.wait { wait(context, &client, &answer, args.timeout).await } else { Ok(Exit::Done) }
}

/// What a dry run prints.
#[derive(Serialize)]
struct Dry<'a> {
    tree: groundswell_common::Digest,
    files: usize,
    links: usize,
    bytes: u64,
    blob: &'a groundswell_common::manifest::BlobEntry,
}

fn dry_run(context: &Context, packed: &Packed) -> anyhow::Result<Exit> {
    let (tree, blob) = (&packed.tree, &packed.blob);
    let (files, links) = (tree.files.len(), tree.links.len());
    let dry = Dry { tree: tree.digest(), files, links, bytes: tree.bytes(), blob };
    context.out.answer(&dry, |dry| {
        let (size, packed) = (bytes(dry.bytes), bytes(dry.blob.size));
        format!("tree {}\n{files} files, {links} links, {size}; bundle {packed}", dry.tree)
    })?;
    Ok(Exit::Done)
}

/// What the coordinator knows of the service so far.
struct Next {
    next_seq: u64,
    commit: Option<String>,
}

/// The number that the next release takes, and the commit that the newest release was built from.
async fn next(client: &Client, service: &ServiceName) -> anyhow::Result<Next> {
    let path = format!("/v1/services/{}", part(service.as_str()));
    let page = match client.get::<ServicePage>(&path).await {
        Ok(page) => page,
        Err(error) if error.is_missing() => {
            return Ok(Next { next_seq: 1, commit: None });
        }
        Err(error) => return Err(error.into()),
    };
    let commit = match page.service.proven {
        None => None,
        Some(proven) => commit_of(client, proven).await?,
    };
    Ok(Next { next_seq: page.next_seq, commit })
}

async fn commit_of(client: &Client, release: ReleaseId) -> anyhow::Result<Option<String>> {
    use groundswell_common::api::ReleasePage;
    let page: ReleasePage = client.get(&format!("/v1/releases/{release}")).await?;
    Ok(page.source.commit)
}

fn source(args: &PublishArgs, since: Option<&str>) -> Source {
    let mut source = git::source(&args.tree, since);
    if let Some(commit) = &args.commit
        && source.commit.as_ref() != Some(commit)
    {
        source = Source { commit: Some(commit.clone()), ..Source::default() };
    }
    Source { build_url: args.build_url.clone(), notes: args.notes.clone(), ..source }
}

fn keys(profile: &Profile, builder: Option<&Path>) -> anyhow::Result<Vec<SecretKey>> {
    let own = SecretKey::from_pem(&profile.key_pem).context("sign the release with the profile")?;
    let Some(path) = builder else { return Ok(vec![own]) };
    let at = || format!("read the signing key {}", path.display());
    let pem = fs::read_to_string(path).with_context(at)?;
    Ok(vec![own, SecretKey::from_pem(&pem).with_context(at)?])
}

async fn upload(context: &Context, client: &Client, packed: &Packed) -> anyhow::Result<()> {
    let path = format!("/v1/blobs/{}", packed.blob.sha256);
    if client.head(&path).await? {
        if !context.out.json {
            context.out.note("the bundle is in the depot already; nothing to upload")?;
        }
        return Ok(());
    }
    let size = packed.blob.size;
    let bar = bar(size);
    let file = tokio::fs::File::open(packed.file.path()).await.context("read the packed bundle")?;
    let tick = bar.clone();
    client.upload(&path, (file, size), move |count| tick.inc(count)).await?;
    bar.finish_and_clear();
    if !context.out.json {
        context.out.note(format_args!("uploaded {}", bytes(size)))?;
    }
    Ok(())
}

fn bar(size: u64) -> ProgressBar {
    let shown = io::stderr().is_terminal();
    let target = if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(size), target);
    match ProgressStyle::with_template("uploading {bar:30} {bytes}/{total_bytes} {eta}") {
        Ok(style) => bar.with_style(style),
        // The template is a constant; its default look does as well.
        Err(_) => bar,
    }
}

/// Posts the manifest; takes the next number when another publisher was faster.
async fn post(
    client: &Client,
    mut raw: RawManifest,
    keys: &[SecretKey],
) -> anyhow::Result<PublishAnswer> {
    for attempt in 1..=SEQ_TRIES {
        let payload = serde_json::to_vec(&raw).context("write the manifest")?;
        let envelope = keys
            .iter()
            .fold(Envelope::new::<Manifest>(payload), |envelope, key| envelope.signed_by(key));
        match client.post("/v1/releases", &envelope).await {
            Err(error) if error.code() == Some(SEQ_TAKEN) && attempt < SEQ_TRIES => {
                raw.seq = next(client, &raw.service).await?.next_seq;
            }
            other => return Ok(other?),
        }
    }
    bail!("publish: {SEQ_TRIES} other releases were faster; try again")
}

fn published(answer: &PublishAnswer) -> String {
    let (service, version) = (&answer.service, &answer.version);
    let how = if answer.existing { "was published before" } else { "is published" };
    let mut text =
        format!("{service} {version} {how}: release {}", answer.release.digest().short());
    if let Some(rollout) = &answer.rollout {
        text.push_str(&format!("\nrollout {rollout}; swell rollout watch {rollout}"));
    }
    if let Some(waiting) = &answer.waiting {
        text.push_str(&format!("\nno rollout yet: {waiting}"));
    }
    text
}

async fn wait(
    context: &Context,
    client: &Client,
    answer: &PublishAnswer,
    secs: u64,
) -> anyhow::Result<Exit> {
    let Some(rollout) = &answer.rollout else {
        let why = answer.waiting.as_deref().unwrap_or("no rollout was planned");
        bail!("wait for {} {}: {why}", answer.service, answer.version);
    };
    let mut live = Live::on_stderr();
    let within = (Until::DoneOrHalted, Duration::from_secs(secs));
    let json = context.out.json;
    let see = |page: &_| if json { Ok(()) } else { live.show(page) };
    let Some(page) = follow(client, rollout, within, see).await? else {
        context.out.note(format_args!("{rollout} is not over after {secs} s; it goes on"))?;
        return Ok(Exit::TimedOut);
    };
    if context.out.json {
        context.out.line(serde_json::to_string(&page)?)?;
    }
    Ok(exit_of(&page.rollout))
}
