//! The manifest: what a release is made of and how a host runs it. Raw JSON -> [`RawManifest`] -> [`Manifest`];
//! only a valid one becomes a `Manifest`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use crate::digest::{Digest, Hasher};
use crate::limits::{
    ARG_MAX_BYTES, ARGV_MAX, BLOB_MAX_BYTES, FILE_MAX_BYTES, JSON_INTEGER_MAX, MANIFEST_FILES_MAX,
    MANIFEST_MAX_BYTES, PROBES_MAX, RELEASE_MAX_BYTES, SOURCE_COMMITS_MAX, TEXT_MAX_BYTES,
    UNITS_MAX,
};
use crate::name::{ServiceName, Version};
use crate::path::TreePath;
use crate::selector::Selector;
use crate::trust::{Document, written};

/// A manifest as it stands in JSON, before it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawManifest {
    /// The service that this is a release of.
    pub service: ServiceName,
    /// The version as people know it.
    pub version: Version,
    /// Orders the releases of a service; a host goes down only by a revert.
    pub seq: u64,
    /// No host may ever go below this `seq` again.
    pub floor: u64,
    /// `any` or `OS-ARCH`, e.g. `linux-x86_64`.
    pub platform: String,
    /// Whether the release cannot be reverted once it ran.
    pub one_way: bool,
    /// Digest of the tree alone ([`tree_digest`]): equal trees are equal on every machine.
    pub tree: Digest,
    /// Regular files, by path.
    pub files: Vec<FileEntry>,
    /// Symbolic links, by path.
    pub links: Vec<LinkEntry>,
    /// Where the bytes come from; exactly one entry of kind `full` must be there.
    pub blobs: Vec<BlobEntry>,
    /// systemd units of the service (`supervisor = "systemd"`); templates run as instances of the release.
    pub units: Vec<String>,
    /// What a switch does to the units.
    pub switch: Switch,
    /// The command to run, relative to the tree (`supervisor = "process"`); empty for none.
    pub command: Vec<String>,
    /// Health checks that must pass after a switch.
    pub probes: Vec<Probe>,
    /// What else runs on the host around a switch; each point at most once.
    pub hooks: Vec<Hook>,
    /// Where the release comes from.
    pub source: Source,
    /// What must hold for the labels of a host that gets it. This and the next two are for the
    /// coordinator: a host does not look at them.
    pub requires: Selector,
    /// Whether hosts must run it before they get any newer one.
    pub barrier: bool,
    /// Whether it does not wait for a rollout under way where the policy's `when_newer` is `hotfix`.
    pub hotfix: bool,
}

/// One regular file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// 0644 or 0755.
    pub mode: Mode,
    /// Bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Digest,
}

/// The two modes that a file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Readable.
    #[serde(rename = "0644")]
    Plain,
    /// Readable and executable.
    #[serde(rename = "0755")]
    Executable,
}

/// One symbolic link; its target stays inside the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkEntry {
    /// Where it lies in the tree.
    pub path: TreePath,
    /// What it points to, relative to its directory.
    pub target: String,
}

/// One blob that carries bytes of the release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobEntry {
    /// What the blob holds.
    pub kind: BlobKind,
    /// Its name in every depot and cache.
    pub sha256: Digest,
    /// Bytes on the wire.
    pub size: u64,
}

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobKind {
    /// A bundle with every file content of the release.
    Full,
}

/// One health check on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// GET of an `http://` or `https://` URL.
    Http {
        /// The URL; only a host of this machine makes sense.
        url: String,
        /// Seconds that one try may take.
        timeout_secs: u64,
        /// The status that passes; 0 for any from 200 to 299.
        status: u16,
        /// Of an `https://` URL the PEM file of the authorities that its certificate is checked against,
        /// in the tree where it is relative; empty for `http://`.
        ca: String,
    },
    /// A TCP connection that opens.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// Seconds that one try may take.
        timeout_secs: u64,
    },
    /// A command that exits with 0; run in the release's directory.
    Exec {
        /// Argument vector; a relative first argument is in the tree.
        argv: Vec<String>,
        /// Seconds that one try may take.
        timeout_secs: u64,
    },
    /// A file that is there and, where an age is given, was written lately.
    File {
        /// Absolute.
        path: String,
        /// Seconds since it was written at most, up to a week; 0 for any age.
        max_age_secs: u64,
    },
    /// A systemd unit that is active.
    Unit {
        /// The unit's name.
        unit: String,
    },
}

impl Probe {
    /// Seconds that one try may take; 0 where it takes no time to speak of.
    #[must_use]
    pub fn timeout_secs(&self) -> u64 {
        match self {
            Self::Http { timeout_secs, .. }
            | Self::Tcp { timeout_secs, .. }
            | Self::Exec { timeout_secs, .. } => *timeout_secs,
            Self::File { .. } | Self::Unit { .. } => 0,
        }
    }
}

/// How units come to run another release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// They are stopped and started.
    #[default]
    Restart,
    /// Those that run are told to read their files again.
    Reload,
    /// Those of the new release are started before those of the one before are stopped.
    Overlap,
}

/// A program of the release that runs around a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// When it runs.
    pub at: HookPoint,
    /// Argument vector; the first argument is a path in the tree.
    pub argv: Vec<String>,
    /// Seconds that it may take.
    pub timeout_secs: u64,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookPoint {
    /// Of the release that runs: before another one takes its place.
    Drain,
    /// Of the new release: before it takes the place of the one that runs.
    PreSwitch,
    /// Of the release that was started: before it is probed.
    PostSwitch,
    /// Of the release that failed: before the one before it is put back.
    Failed,
}

impl HookPoint {
    /// As manifests and hooks see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::PreSwitch => "pre-switch",
            Self::PostSwitch => "post-switch",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for HookPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a release comes from; shown to people, decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Commit id.
    #[serde(deserialize_with = "written")]
    pub commit: Option<String>,
    /// Commit time, seconds UTC.
    #[serde(deserialize_with = "written")]
    pub commit_time: Option<u64>,
    /// People whose commits are in it.
    pub authors: Vec<String>,
    /// One line a commit, newest first.
    pub commits: Vec<String>,
    /// Where it was built.
    #[serde(deserialize_with = "written")]
    pub build_url: Option<String>,
    /// What people should know.
    #[serde(deserialize_with = "written")]
    pub notes: Option<String>,
}

/// Why JSON is no valid manifest.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Too many files and links.
    #[error("check a manifest: {0} files and links, at most 100000; pack them into fewer")]
    TooManyFiles(usize),
    /// Paths not in ascending order, or one twice.
    #[error("check a manifest: path {0} is out of order or listed twice; sort by path, each once")]
    Order(TreePath),
    /// Two paths that a case-folding file system cannot keep apart, wholly or in a directory of theirs.
    #[error("check a manifest: paths {0} and {1} differ only in case or form; rename one")]
    Twins(TreePath, TreePath),
    /// A path that is both a file and a directory.
    #[error("check a manifest: {0} is a file or link and also the parent of another; rename one")]
    FileAsParent(String),
    /// A path not in Unicode's normal form C.
    #[error("check a manifest: path {0} is not in Unicode normal form C; rename the file")]
    NotNfc(TreePath),
    /// A link that leaves the tree.
    #[error(
        "check a manifest: link {path} -> {target:?} leaves the tree; link inside it, with '..' in front only"
    )]
    LinkOut {
        /// The link.
        path: TreePath,
        /// Where it points.
        target: String,
    },
    /// A number over its bound.
    #[error("check a manifest: {field} is {value}, at most {limit}")]
    TooLarge {
        /// Which number.
        field: &'static str,
        /// What it is.
        value: u64,
        /// What is allowed.
        limit: u64,
    },
    /// One content with two sizes.
    #[error(
        "check a manifest: {0} gives its content another size than a file before it; pack again"
    )]
    TwoSizes(TreePath),
    /// A `floor` above the release's own `seq`.
    #[error("check a manifest: floor {floor} is above its own seq {seq}")]
    FloorAboveSeq {
        /// The floor.
        floor: u64,
        /// The release's seq.
        seq: u64,
    },
    /// Not exactly one full bundle.
    #[error("check a manifest: {0} blobs of kind full, want exactly 1")]
    FullBlobs(usize),
    /// The tree digest is not that of the listed files.
    #[error("check a manifest: tree digest does not fit its files; pack the release again")]
    Tree,
    /// A platform that is neither `any` nor `OS-ARCH`.
    #[error("check a manifest: platform {0:?}; want any or OS-ARCH such as linux-x86_64")]
    Platform(String),
    /// A command, probe or unit that cannot be run.
    #[error("check a manifest: {0}")]
    Run(&'static str),
}

/// A manifest that holds every rule of docs/bundle-format.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest(RawManifest);

impl std::ops::Deref for Manifest {
    type Target = RawManifest;

    fn deref(&self) -> &RawManifest {
        &self.0
    }
}

impl Manifest {
    /// The bundle with all contents.
    #[must_use]
    pub fn full_blob(&self) -> &BlobEntry {
        // A valid manifest has exactly one; validation counted it.
        &self.0.blobs[0]
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn unpacked_bytes(&self) -> u64 {
        self.0.files.iter().map(|file| file.size).sum()
    }

    /// The hook that runs at this point.
    #[must_use]
    pub fn hook(&self, at: HookPoint) -> Option<&Hook> {
        self.0.hooks.iter().find(|hook| hook.at == at)
    }

    /// The distinct contents in bundle order: by the path at which each first appears.
    #[must_use]
    pub fn contents(&self) -> Vec<(Digest, u64)> {
        contents(&self.0.files)
    }
}

/// The distinct contents of `files` (sorted by path) in the order in which a bundle carries them.
#[must_use]
pub fn contents(files: &[FileEntry]) -> Vec<(Digest, u64)> {
    let mut seen = BTreeSet::new();
    files.iter().filter(|f| seen.insert(f.sha256)).map(|f| (f.sha256, f.size)).collect()
}

/// The digest of a tree: SHA-256 over one line a file (`f MODE SIZE SHA256 PATH\0`) and one a link
/// (`l TARGET\0PATH\0`), in path order, files first.
#[must_use]
pub fn tree_digest(files: &[FileEntry], links: &[LinkEntry]) -> Digest {
    let mut hasher = Hasher::new();
    for file in files {
        let mode = match file.mode {
            Mode::Plain => "0644",
            Mode::Executable => "0755",
        };
        let line = format!("f {mode} {} {} {}\0", file.size, file.sha256, file.path);
        hasher.update(line.as_bytes());
    }
    for link in links {
        hasher.update(format!("l {}\0{}\0", link.target, link.path).as_bytes());
    }
    hasher.finish()
}

impl Document for Manifest {
    type Raw = RawManifest;
    type Invalid = ManifestError;
    const TYPE: &'static str = "groundswell.release.v1";
    const MAX_BYTES: usize = MANIFEST_MAX_BYTES;

    fn check(raw: RawManifest) -> Result<Self, ManifestError> {
        check_numbers(&raw)?;
        check_paths(&raw)?;
        check_run(&raw)?;
        match raw.blobs.iter().filter(|blob| blob.kind == BlobKind::Full).count() {
            1 => {}
            count => return Err(ManifestError::FullBlobs(count)),
        }
        if raw.tree != tree_digest(&raw.files, &raw.links) {
            return Err(ManifestError::Tree);
        }
        Ok(Self(raw))
    }
}

fn check_numbers(raw: &RawManifest) -> Result<(), ManifestError> {
    let bound = |field, value, limit| {
        if value > limit { Err(ManifestError::TooLarge { field, value, limit }) } else { Ok(()) }
    };
    let count = raw.files.len() + raw.links.len();
    if count > MANIFEST_FILES_MAX {
        return Err(ManifestError::TooManyFiles(count));
    }
    bound("seq", raw.seq, JSON_INTEGER_MAX)?;
    if raw.floor > raw.seq {
        return Err(ManifestError::FloorAboveSeq { floor: raw.floor, seq: raw.seq });
    }
    let mut whole: u64 = 0;
    let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
    for file in &raw.files {
        if sizes.insert(file.sha256, file.size).is_some_and(|size| size != file.size) {
            return Err(ManifestError::TwoSizes(file.path.clone()));
        }
        bound("file size", file.size, FILE_MAX_BYTES)?;
        whole = whole.saturating_add(file.size);
    }
    bound("release size", whole, RELEASE_MAX_BYTES)?;
    for blob in &raw.blobs {
        bound("blob size", blob.size, BLOB_MAX_BYTES)?;
    }
    let source = &raw.source;
    bound("commit_time", source.commit_time.unwrap_or(0), JSON_INTEGER_MAX)?;
    bound("commits", source.commits.len() as u64, SOURCE_COMMITS_MAX as u64)?;
    bound("authors", source.authors.len() as u64, SOURCE_COMMITS_MAX as u64)?;
    let texts = [&source.commit, &source.build_url, &source.notes].into_iter().flatten();
    for text in texts.chain(&source.commits).chain(&source.authors) {
        bound("source text bytes", text.len() as u64, TEXT_MAX_BYTES as u64)?;
    }
    Ok(())
}

fn check_paths(raw: &RawManifest) -> Result<(), ManifestError> {
    for pair in raw.files.windows(2) {
        if let [before, after] = pair
            && before.path >= after.path
        {
            return Err(ManifestError::Order(after.path.clone()));
        }
    }
    for pair in raw.links.windows(2) {
        if let [before, after] = pair
            && before.path >= after.path
        {
            return Err(ManifestError::Order(after.path.clone()));
        }
    }
    check_neighbours(raw)?;
    for link in &raw.links {
        if !link.path.link_stays_inside(&link.target) {
            let (path, target) = (link.path.clone(), link.target.clone());
            return Err(ManifestError::LinkOut { path, target });
        }
    }
    Ok(())
}

/// Finds twins and files that are parents. Sorted by folded parts, whatever shares a directory stands side
/// by side, so that neighbours tell everything in one pass, however deep the paths are.
fn check_neighbours(raw: &RawManifest) -> Result<(), ManifestError> {
    let files = raw.files.iter().map(|file| &file.path);
    let mut paths: Vec<(String, &TreePath)> = Vec::new();
    for path in files.chain(raw.links.iter().map(|link| &link.path)) {
        if !is_nfc(path.as_str()) {
            return Err(ManifestError::NotNfc(path.clone()));
        }
        paths.push((fold(path.as_str()), path));
    }
    paths.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    for pair in paths.windows(2) {
        if let [(a, before), (b, after)] = pair {
            check_pair((a, before), (b, after))?;
        }
    }
    Ok(())
}

fn check_pair(
    (a, before): (&str, &TreePath),
    (b, after): (&str, &TreePath),
) -> Result<(), ManifestError> {
    if before == after {
        return Err(ManifestError::Order(after.clone()));
    }
    let alike = a.split('/').zip(b.split('/')).take_while(|(a, b)| a == b).count();
    let spelled = before.parts().zip(after.parts()).take_while(|(a, b)| a == b).count();
    if spelled < alike {
        return Err(ManifestError::Twins(before.clone(), after.clone()));
    }
    if alike == before.parts().count() {
        return Err(ManifestError::FileAsParent(before.to_string()));
    }
    Ok(())
}

/// Case folding good enough to keep apart what any common file system would merge.
fn fold(text: &str) -> String {
    text.to_lowercase().to_uppercase().to_lowercase().nfc().collect()
}

fn check_run(raw: &RawManifest) -> Result<(), ManifestError> {
    let platform_part = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let known = raw.platform == "any"
        || raw
            .platform
            .split_once('-')
            .is_some_and(|(os, arch)| platform_part(os) && platform_part(arch));
    if !known || raw.platform.len() > 64 {
        return Err(ManifestError::Platform(raw.platform.chars().take(64).collect()));
    }
    if raw.units.len() > UNITS_MAX || raw.probes.len() > PROBES_MAX {
        return Err(ManifestError::Run("at most 32 units and 32 probes"));
    }
    if !raw.units.iter().all(|unit| is_unit_name(unit)) {
        return Err(ManifestError::Run(
            "a unit name must be NAME.service, .timer, .socket or .path, without '/' or spaces",
        ));
    }
    if !raw.command.is_empty() && !is_argv(&raw.command) {
        return Err(ManifestError::Run(
            "the command must be 1 to 128 arguments of at most 4096 bytes, no NUL",
        ));
    }
    check_switch(raw)?;
    check_hooks(&raw.hooks)?;
    raw.probes.iter().try_for_each(check_probe)
}

fn is_template(unit: &str) -> bool {
    unit.ends_with("@.service")
}

fn check_switch(raw: &RawManifest) -> Result<(), ManifestError> {
    let mut units = raw.units.iter();
    let (any, all) =
        (units.clone().any(|unit| is_template(unit)), units.all(|unit| is_template(unit)));
    match raw.switch {
        Switch::Restart => Ok(()),
        Switch::Reload if raw.units.is_empty() || any => Err(ManifestError::Run(
            "switch = \"reload\" needs units, none of them a template NAME@.service",
        )),
        Switch::Overlap if raw.units.is_empty() || !all => Err(ManifestError::Run(
            "switch = \"overlap\" needs units, each of them a template NAME@.service",
        )),
        Switch::Reload | Switch::Overlap => Ok(()),
    }
}

/// Longest time of a hook, in seconds.
const HOOK_MAX_SECS: u64 = 240;
/// Longest time of a hook that a host's way back waits for, in seconds.
const FAILED_HOOK_MAX_SECS: u64 = 30;

fn check_hooks(hooks: &[Hook]) -> Result<(), ManifestError> {
    for (number, hook) in hooks.iter().enumerate() {
        if hooks.iter().take(number).any(|before| before.at == hook.at) {
            return Err(ManifestError::Run("each hook may be there once"));
        }
        let most = match hook.at {
            HookPoint::Drain | HookPoint::PreSwitch | HookPoint::PostSwitch => HOOK_MAX_SECS,
            HookPoint::Failed => FAILED_HOOK_MAX_SECS,
        };
        if !(1..=most).contains(&hook.timeout_secs) {
            return Err(ManifestError::Run(
                "a hook's timeout_secs must be 1 to 240, of hook failed 1 to 30",
            ));
        }
        let in_tree = hook.argv.first().is_some_and(|first| first.parse::<TreePath>().is_ok());
        if !is_argv(&hook.argv) || !in_tree {
            return Err(ManifestError::Run(
                "a hook needs 1 to 128 arguments of at most 4096 bytes, no NUL, the first a path in the tree",
            ));
        }
    }
    Ok(())
}

/// Longest age of a file that a probe may ask for, in seconds: a week.
const FILE_AGE_MAX_SECS: u64 = 604_800;

fn check_probe(probe: &Probe) -> Result<(), ManifestError> {
    let in_time = |secs: u64| {
        if (1..=600).contains(&secs) {
            Ok(())
        } else {
            Err(ManifestError::Run("a probe's timeout_secs must be 1 to 600"))
        }
    };
    match probe {
        Probe::Http { url, timeout_secs, status, ca } => {
            in_time(*timeout_secs)?;
            check_http(url, *status, ca)
        }
        Probe::Tcp { address, timeout_secs } => {
            in_time(*timeout_secs)?;
            let good = |(host, port): (&str, &str)| {
                !host.is_empty()
                    && !host.contains(|c: char| c.is_whitespace() || c.is_control())
                    && port.parse::<u16>().is_ok_and(|port| port > 0)
            };
            if address.len() <= ARG_MAX_BYTES && address.rsplit_once(':').is_some_and(good) {
                Ok(())
            } else {
                Err(ManifestError::Run("a tcp probe needs address = \"HOST:PORT\""))
            }
        }
        Probe::Exec { argv, timeout_secs } => {
            in_time(*timeout_secs)?;
            if is_argv(argv) {
                Ok(())
            } else {
                Err(ManifestError::Run(
                    "an exec probe needs 1 to 128 arguments of at most 4096 bytes, no NUL",
                ))
            }
        }
        Probe::File { path, max_age_secs } => {
            let good = path.starts_with('/') && path.len() <= ARG_MAX_BYTES && !path.contains('\0');
            if good && *max_age_secs <= FILE_AGE_MAX_SECS {
                Ok(())
            } else {
                Err(ManifestError::Run(
                    "a file probe needs an absolute path of at most 4096 bytes and max_age_secs of at most 604800",
                ))
            }
        }
        Probe::Unit { unit } if is_unit_name(unit) => Ok(()),
        Probe::Unit { .. } => Err(ManifestError::Run(
            "a unit probe needs NAME.service, .timer, .socket or .path, without '/' or spaces",
        )),
    }
}

fn check_http(url: &str, status: u16, ca: &str) -> Result<(), ManifestError> {
    let secure = url.starts_with("https://");
    if !(secure || url.starts_with("http://"))
        || url.len() > ARG_MAX_BYTES
        || url.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(ManifestError::Run(
            "an http probe needs an http:// or https:// URL of at most 4096 bytes",
        ));
    }
    if status != 0 && !(100..=599).contains(&status) {
        return Err(ManifestError::Run("an http probe's status must be 100 to 599, or 0 for any"));
    }
    if secure == ca.is_empty() || ca.len() > ARG_MAX_BYTES || ca.contains('\0') {
        return Err(ManifestError::Run(
            "an http probe needs ca, a path of at most 4096 bytes, for an https:// URL and no other",
        ));
    }
    Ok(())
}

fn is_argv(argv: &[String]) -> bool {
    (1..=ARGV_MAX).contains(&argv.len())
        && argv.iter().all(|arg| arg.len() <= ARG_MAX_BYTES && !arg.contains('\0'))
        && argv.first().is_some_and(|program| !program.is_empty())
}

/// Kinds of units that a release may name.
pub const UNIT_KINDS: [&str; 4] = [".service", ".timer", ".socket", ".path"];

/// Whether `unit` is a plain unit name; templates of services and their instances are allowed, paths are not.
fn is_unit_name(unit: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b":-_.@".contains(&b);
    // The instance of a template is a digest in hexadecimal.
    let most = if is_template(unit) { 255 - 64 } else { 255 };
    unit.len() <= most
        && UNIT_KINDS.iter().find_map(|kind| unit.strip_suffix(kind)).is_some_and(|stem| {
            !stem.is_empty() && !stem.starts_with(['-', '.']) && stem.bytes().all(inner)
        })
}
