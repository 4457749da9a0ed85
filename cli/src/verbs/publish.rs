//! `swell publish`: pack, upload what the depot lacks, publish, and follow the rollout where asked to.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use groundswell_common::api::{HoldRequest, Profile, PublishAnswer, StartRequest};
use groundswell_common::manifest::{BlobEntry, Hook, Manifest, Probe, RawManifest, Source};
use groundswell_common::trust::{Document as _, Envelope, SecretKey};
use groundswell_common::wire::Backoff;
use groundswell_common::{Digest, Environment, ReleaseId, ServiceName, Timestamp, Version};
use groundswell_net::Retry;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::rollout::{follow_start, hold, start_now};
use super::service::service_page;
use super::{again, onward};
use crate::args::PublishArgs;
use crate::client::Client;
use crate::context::Context;
use crate::exit::{Exit, Misuse};
use crate::fit;
use crate::git;
use crate::output::{bytes, clean};
use crate::pack::{self, Packed};
use crate::spec::Spec;

/// How long publishers who take the same number make way for each other.
const SEQ_PATIENCE: Duration = Duration::from_secs(60);
/// Waits of a publisher whose number was taken.
const SEQ_WAITS: Backoff = Backoff { base_ms: 50, cap_ms: 2_000 };
/// The API's code for a number that another release has.
const SEQ_TAKEN: &str = "seq_taken";

/// What is published, but for what the coordinator and git know.
struct Draft<'a> {
    args: &'a PublishArgs,
    spec: Spec,
    service: ServiceName,
    packed: Packed,
}

/// Runs `swell publish`.
pub(crate) async fn publish(context: &Context, args: &PublishArgs) -> anyhow::Result<Exit> {
    if !args.tree.is_dir() {
        return Err(Misuse::NoTree(args.tree.display().to_string()).into());
    }
    let spec = Spec::load(&args.tree, args.spec.as_deref())?;
    if let (Some(given), Some(written)) = (&args.service, &spec.release.service)
        && given != written
    {
        let (given, written) = (given.clone(), written.clone());
        return Err(Misuse::OtherService { given, written }.into());
    }
    let service = args.service.clone().or_else(|| spec.release.service.clone());
    let service = service.ok_or(Misuse::NoService)?;
    let root = args.tree.clone();
    let packed = tokio::task::spawn_blocking(move || pack::pack(&root)).await??;
    let draft = Draft { args, spec, service, packed };
    let warnings = draft.check()?;
    for warning in &warnings {
        context.out.note(format_args!("warning: {warning}"))?;
    }
    if args.dry_run {
        return dry_run(context, &draft, warnings);
    }
    let profile = context.profile()?;
    let client = Client::new(&profile)?;
    let found = next(&client, &draft.service).await?;
    onward::check(&draft.service, &found.environments, args.wait_for.as_ref())?;
    let raw = draft.manifest(found.next_seq, source(context, args, found.commit.as_deref())?);
    Manifest::check(raw.clone())?;
    let keys = keys(&profile, args.sign_key.as_deref())?;
    upload(context, &client, &draft.packed).await?;
    let answer = post(&client, raw, (&keys, args.at)).await?;
    context.out.answer(&answer, published)?;
    if let Some(newest) =
        found.newest.filter(|newest| !answer.existing && is_lower(&answer.version, newest))
    {
        let (service, version) = (&answer.service, &answer.version);
        context.out.note(format_args!(
            "warning: {version} is a lower number than {newest}, which was published before it; what is published \
             last counts as the newest all the same. To go back: swell revert {service} --to VERSION"
        ))?;
    }
    if answer.existing
        && let Some(why) = again::not_rolled_out(&client, &answer).await?
    {
        context.out.note(why)?;
        return Ok(Exit::Ended);
    }
    if let Some(environment) = &args.skip_to {
        return skip_to(context, &client, (&answer, environment), args).await;
    }
    if args.wait.wait {
        let within = Duration::from_secs(args.wait.timeout);
        onward::wait(context, &client, &answer, (args.wait_for.as_ref(), within)).await
    } else {
        Ok(Exit::Done)
    }
}

/// Starts what was published in an environment without those before; that needs an operator's role.
async fn skip_to(
    context: &Context,
    client: &Client,
    (answer, environment): (&PublishAnswer, &Environment),
    args: &PublishArgs,
) -> anyhow::Result<Exit> {
    let why = args.why.clone().unwrap_or_default();
    let (release, environment) = (answer.version.to_string(), Some(environment.clone()));
    let skip = Some(why.clone());
    let service = &answer.service;
    if let Some(at) = args.at {
        let until = Some(at.as_secs());
        let request = HoldRequest { release, environment, until, skip, why };
        return hold(context, client, (service, request)).await;
    }
    let request = StartRequest { release, plan: None, environment, skip };
    let rollout = start_now(context, client, (service, &request)).await?;
    follow_start(context, client, (&rollout, &args.wait)).await
}

impl Draft<'_> {
    /// Everything that needs nobody else: the manifest's own rules, and whether a host could run it.
    fn check(&self) -> anyhow::Result<Vec<String>> {
        let release = &self.spec.release;
        let raw = self.manifest(release.floor.max(1), Source::default());
        let mut warnings = self.packed.tree.notes.clone();
        warnings.extend(fit::check(&raw, release.files_only)?);
        Manifest::check(raw)?;
        Ok(warnings)
    }

    fn manifest(&self, seq: u64, source: Source) -> RawManifest {
        let (release, packed) = (&self.spec.release, &self.packed);
        RawManifest {
            service: self.service.clone(),
            version: self.args.version.clone(),
            seq,
            floor: release.floor,
            platform: release.platform.clone(),
            one_way: release.one_way,
            requires: release.requires.clone(),
            barrier: release.barrier,
            hotfix: self.args.hotfix,
            tree: packed.tree.digest(),
            files: packed.tree.files.clone(),
            links: packed.tree.links.clone(),
            blobs: vec![packed.blob.clone()],
            units: release.units.clone(),
            switch: release.switch,
            command: release.command.clone(),
            probes: self.spec.probes(),
            hooks: self.spec.hook.clone(),
            source,
        }
    }
}

/// What a dry run prints.
#[derive(Serialize)]
struct Dry<'a> {
    service: &'a ServiceName,
    version: &'a Version,
    tree: Digest,
    files: usize,
    links: usize,
    bytes: u64,
    blob: &'a BlobEntry,
    units: &'a [String],
    command: &'a [String],
    probes: Vec<Probe>,
    hooks: &'a [Hook],
    source: Source,
    warnings: Vec<String>,
}

fn dry_run(context: &Context, draft: &Draft<'_>, warnings: Vec<String>) -> anyhow::Result<Exit> {
    let (tree, release) = (&draft.packed.tree, &draft.spec.release);
    let dry = Dry {
        service: &draft.service,
        version: &draft.args.version,
        tree: tree.digest(),
        files: tree.files.len(),
        links: tree.links.len(),
        bytes: tree.bytes(),
        blob: &draft.packed.blob,
        units: &release.units,
        command: &release.command,
        probes: draft.spec.probes(),
        hooks: &draft.spec.hook,
        source: source(context, draft.args, None)?,
        warnings,
    };
    context.out.answer(&dry, dry_text)?;
    Ok(Exit::Done)
}

fn dry_text(dry: &Dry<'_>) -> String {
    let starts = match (dry.units, dry.command) {
        ([], []) => "files only: nothing is started".to_owned(),
        ([], command) => format!("runs {}", command.join(" ")),
        (units, []) => format!("units {}", units.join(", ")),
        (units, command) => format!("units {}, or runs {}", units.join(", "), command.join(" ")),
    };
    let mut lines = vec![format!("{} {}", dry.service, dry.version), format!("  {starts}")];
    lines.extend(dry.probes.iter().map(|probe| format!("  probe {}", probe_text(probe))));
    let hook = |hook: &Hook| format!("  hook {}: {}", hook.at, hook.argv.join(" "));
    lines.extend(dry.hooks.iter().map(hook));
    if dry.probes.is_empty() {
        lines.push("  no probe: a host that starts it counts as healthy".to_owned());
    }
    if let Some(commit) = &dry.source.commit {
        lines.push(format!("  commit {commit}"));
    }
    let (size, packed) = (bytes(dry.bytes), bytes(dry.blob.size));
    lines.push(format!("  {} files, {} links, {size}; bundle {packed}", dry.files, dry.links));
    lines.push(format!("  tree {}", dry.tree));
    lines.push("nothing was published".to_owned());
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}

fn probe_text(probe: &Probe) -> String {
    match probe {
        Probe::Http { url, .. } => format!("GET {url}"),
        Probe::Tcp { address, .. } => format!("connect to {address}"),
        Probe::Exec { argv, .. } => format!("run {}", argv.join(" ")),
        Probe::File { path, .. } => format!("file {path}"),
        Probe::Unit { unit } => format!("unit {unit}"),
    }
}

/// What the coordinator knows of the service so far.
struct Next {
    next_seq: u64,
    commit: Option<String>,
    environments: Vec<Environment>,
    /// The version that was published last.
    newest: Option<Version>,
}

/// That a version has a lower number than the one that was published last, by their digits alone.
fn is_lower(version: &Version, newest: &Version) -> bool {
    let numbers = |version: &Version| {
        let parts = version.as_str().split('.').map(str::parse::<u64>);
        parts.collect::<Result<Vec<_>, _>>().ok()
    };
    numbers(version).zip(numbers(newest)).is_some_and(|(version, newest)| version < newest)
}

/// The number that the next release takes, and the commit that the newest release was built from.
async fn next(client: &Client, service: &ServiceName) -> anyhow::Result<Next> {
    let page = match service_page(client, service).await {
        Ok(page) => page,
        Err(error) if error.is_missing() => {
            return Ok(Next { next_seq: 1, commit: None, environments: Vec::new(), newest: None });
        }
        Err(error) => return Err(error.into()),
    };
    let commit = match page.service.proven {
        None => None,
        Some(proven) => commit_of(client, proven).await?,
    };
    let environments = page.service.environments.into_iter().map(|found| found.environment);
    let newest = page.service.newest.map(|newest| newest.version);
    Ok(Next { next_seq: page.next_seq, commit, environments: environments.collect(), newest })
}

async fn commit_of(client: &Client, release: ReleaseId) -> anyhow::Result<Option<String>> {
    use groundswell_common::api::ReleasePage;
    let page: ReleasePage = client.get(&format!("/v1/releases/{release}")).await?;
    Ok(page.source.commit)
}

/// Where the tree comes from; what is not sure of it is said.
fn source(context: &Context, args: &PublishArgs, since: Option<&str>) -> anyhow::Result<Source> {
    let found = git::source(&args.tree, since);
    let mut source = found.source;
    let mut notes: Vec<String> = args.notes.iter().cloned().collect();
    match &args.commit {
        // Who names the commit knows better; what git would have said is of no matter then.
        Some(commit) if source.commit.as_deref().map(git::bare) != Some(git::bare(commit)) => {
            source = Source { commit: Some(commit.clone()), ..Source::default() };
        }
        Some(_) | None => {
            for line in &found.said {
                context.out.note(format_args!("warning: {}", clean(line)))?;
            }
            notes.extend(found.unknown);
        }
    }
    let notes = Some(notes.join("; ")).filter(|notes| !notes.is_empty());
    Ok(Source { build_url: args.build_url.clone(), notes, ..source })
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

/// Posts the manifest; takes the next number when another publisher was faster, after a wait that
/// differs from publisher to publisher.
async fn post(
    client: &Client,
    mut raw: RawManifest,
    (keys, at): (&[SecretKey], Option<Timestamp>),
) -> anyhow::Result<PublishAnswer> {
    let path = match at {
        None => "/v1/releases".to_owned(),
        Some(at) => format!("/v1/releases/held?until={}", at.as_secs()),
    };
    let end = Instant::now() + SEQ_PATIENCE;
    let mut retry = Retry::new(SEQ_WAITS);
    loop {
        let payload = serde_json::to_vec(&raw).context("write the manifest")?;
        let envelope = keys
            .iter()
            .fold(Envelope::new::<Manifest>(payload), |envelope, key| envelope.signed_by(key));
        match client.post(&path, &envelope).await {
            Err(error) if error.code() == Some(SEQ_TAKEN) && Instant::now() < end => {
                sleep(retry.next_wait()).await;
                raw.seq = next(client, &raw.service).await?.next_seq;
            }
            Err(error) if error.code() == Some(SEQ_TAKEN) => bail!(
                "publish {} {}: other releases of it were published first for {} s; try again",
                raw.service,
                raw.version,
                SEQ_PATIENCE.as_secs()
            ),
            other => return Ok(other?),
        }
    }
}

fn published(answer: &PublishAnswer) -> String {
    let (service, version) = (&answer.service, &answer.version);
    let how = if answer.existing { "was published before" } else { "is published" };
    let mut text =
        format!("{service} {version} {how}: release {}", answer.release.digest().short());
    if let Some(rollout) = &answer.rollout {
        text.push_str(&format!("\nrollout {rollout}; swell watch {rollout}"));
    }
    if let Some(waiting) = &answer.waiting {
        text.push_str(&format!("\nno rollout yet: {waiting}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_goes_down_is_told_from_one_that_goes_up_and_from_names() {
        let lower = |version: &str, newest: &str| {
            is_lower(&version.parse().expect("version"), &newest.parse().expect("version"))
        };
        assert!(lower("1.1.5", "1.2.0") && lower("1.9.0", "1.10.0") && lower("2", "10"));
        assert!(!lower("1.10.0", "1.9.0") && !lower("1.2.0", "1.2.0"));
        assert!(!lower("2026-01-a", "2026-02-b"), "nobody knows how names are ordered");
    }
}
