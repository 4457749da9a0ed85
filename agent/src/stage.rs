//! Turns a verified bundle into a complete release directory. Only a complete one gets its final name;
//! only this file makes a [`StagedRelease`]. Must never follow a link or leave its own directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use groundswell_common::bundle::{BundleError, BundleReader};
use groundswell_common::limits::MANIFEST_MAX_BYTES;
use groundswell_common::manifest::{FileEntry, Manifest, Mode, Switch};
use groundswell_common::path::TreePath;
use groundswell_common::trust::{Document as _, Refusal, Verified, check_release};
use groundswell_common::wire::ReleaseProof;
use groundswell_common::{Digest, Hasher, ReleaseId, ServiceName, name_of};
use rustix::fs::{AtFlags, Mode as RawMode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::durable::{self, Access, Fault, at};
use crate::layout::Layout;
use crate::trustee::Trustee;
use groundswell_machine::Known;

/// Bytes read from the bundle at once.
const READ_BYTES: usize = 64 * 1024;
/// Zeros in a row that become a hole.
const HOLE_BYTES: usize = 64 * 1024;
/// Signatures and approvals of one release, as stored beside it.
const PROOF_MAX_BYTES: usize = 512 * 1024;

/// Why a release cannot be staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// The manifest is not what was assigned, or not signed as the root asks.
    #[error("stage the release ({})", .0.code())]
    Refused(#[source] Refusal),
    /// The bundle is not one, or does not hold what the manifest lists.
    #[error("stage the release")]
    Bundle(#[source] BundleError),
    /// A content with another digest than the manifest says.
    #[error("stage the release: {0} has another content than the manifest says; fetch it again")]
    Content(TreePath),
    /// The file system failed.
    #[error("stage the release")]
    Fault(#[from] Fault),
    /// The work is no longer wanted.
    #[error("stage the release: no longer wanted")]
    Cancelled,
    /// A directory with the final name whose manifest is not the one of that name.
    #[error("open the staged release {0}: its manifest is damaged or missing")]
    Damaged(ReleaseId),
    /// A unit that the release may not name.
    #[error(
        "stage the release: unit {unit} is not allowed here; add it to units of [services.{service}] in agent.toml"
    )]
    Unit {
        /// Which.
        unit: String,
        /// Of which service.
        service: ServiceName,
    },
    /// A unit that the root names for no release of the service.
    #[error(
        "stage the release: unit {unit} is not allowed by the fleet's root for {service}; publish without it, or let \
         those who keep the root's keys add it"
    )]
    UnitByRoot {
        /// Which.
        unit: String,
        /// Of which service.
        service: ServiceName,
    },
    /// A switch that the host's supervisor does not know.
    #[error(
        "stage the release: a switch by {} needs supervisor = \"systemd\" in the agent's configuration",
        name_of(.0)
    )]
    Switch(Switch),
    /// A release that names nothing for this host's supervisor, or nothing at all in the place of one that does.
    #[error(
        "stage the release: it names nothing that this host could run; set [release] units, or command under \
         supervisor = \"process\"; files alone are a service of their own"
    )]
    Nothing,
    /// A release of the agent itself that it cannot become.
    #[error("stage the release of the agent itself: {0}")]
    Own(&'static str),
}

/// A complete, verified release directory. Made here and nowhere else.
#[derive(Debug)]
pub(crate) struct StagedRelease {
    service: ServiceName,
    known: Known,
    manifest: Verified<Manifest>,
}

impl StagedRelease {
    pub(crate) fn service(&self) -> &ServiceName {
        &self.service
    }

    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.manifest.get()
    }
}

/// What is remembered of a release.
pub(crate) fn known(id: ReleaseId, manifest: &Manifest) -> Known {
    Known {
        id,
        version: manifest.version.clone(),
        seq: manifest.seq,
        floor: manifest.floor,
        one_way: manifest.one_way,
    }
}

/// Checks a manifest's bytes against the release that was assigned.
pub(crate) fn verify_manifest(
    payload: &[u8],
    proof: &ReleaseProof,
    service: &ServiceName,
    trustee: &Trustee,
) -> Result<Verified<Manifest>, StageError> {
    let who = (service, &trustee.pin.environment);
    check_release(payload, &proof.signatures, &proof.release, who, &trustee.root)
        .map_err(StageError::Refused)
}

/// Opens a release directory that is complete, and verifies it again under today's root and proof.
pub(crate) fn open(
    layout: &Layout,
    service: &ServiceName,
    proof: &ReleaseProof,
    trustee: &Trustee,
) -> Result<Option<StagedRelease>, StageError> {
    let dir = layout.release(service, &proof.release);
    let Some(payload) = durable::read(&dir.join("manifest.json"), MANIFEST_MAX_BYTES)? else {
        return if dir.exists() { Err(StageError::Damaged(proof.release)) } else { Ok(None) };
    };
    let manifest = verify_manifest(&payload, proof, service, trustee)?;
    let known = known(proof.release, &manifest);
    Ok(Some(StagedRelease { service: service.clone(), known, manifest }))
}

/// The manifest of a release that was staged here before. Its bytes are held to the release's digest;
/// its signatures were verified when it was staged, so that going back needs nobody.
pub(crate) fn reopen(
    layout: &Layout,
    service: &ServiceName,
    release: &ReleaseId,
) -> Result<Manifest, StageError> {
    let path = layout.release(service, release).join("manifest.json");
    let damaged = || StageError::Damaged(*release);
    let payload = durable::read(&path, MANIFEST_MAX_BYTES)?.ok_or_else(damaged)?;
    if Digest::of(&payload) != *release.digest() {
        return Err(damaged());
    }
    let raw = serde_json::from_slice(&payload).map_err(|_| damaged())?;
    Manifest::check(raw).map_err(|_| damaged())
}

/// What unpacking needs.
pub(crate) struct Unpack<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) service: &'a ServiceName,
    /// The exact bytes that `manifest` was verified over.
    pub(crate) payload: &'a [u8],
    pub(crate) proof: &'a ReleaseProof,
    pub(crate) manifest: Verified<Manifest>,
    /// The bundle, verified as the open file that it is.
    pub(crate) bundle: File,
    /// Asked between pieces.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// Unpacks into `releases/DIGEST.tmp`, syncs the file system once, and gives the directory its name.
///
/// # Errors
/// [`StageError`]; nothing is left on the disk.
pub(crate) fn unpack(work: Unpack<'_>) -> Result<StagedRelease, StageError> {
    let id = work.proof.release;
    let last = work.layout.release(work.service, &id);
    let temporary = work.layout.releases(work.service).join(format!("{id}.tmp"));
    durable::make_dir(&work.layout.releases(work.service), 0o755)?;
    durable::remove_tree(&temporary)?;
    let done = fill(&work, &temporary).and_then(|()| {
        durable::remove_tree(&last)?;
        std::fs::rename(&temporary, &last).map_err(at("rename", &temporary))?;
        Ok(durable::sync_parent(&last)?)
    });
    if let Err(error) = done {
        durable::remove_tree(&temporary)?;
        return Err(error);
    }
    let known = known(id, &work.manifest);
    Ok(StagedRelease { service: work.service.clone(), known, manifest: work.manifest })
}

fn fill(work: &Unpack<'_>, dir: &Path) -> Result<(), StageError> {
    let tree = dir.join("tree");
    for made in [dir, tree.as_path()] {
        std::fs::create_dir(made).map_err(at("create", made))?;
        set_mode(made, 0o755)?;
    }
    let top = File::open(&tree).map_err(at("open", &tree))?;
    let mut builder = Builder { top: OwnedFd::from(top), tree, made: BTreeSet::new() };
    let bundle = work.bundle.try_clone().map_err(at("open", dir))?;
    let source = BufReader::with_capacity(READ_BYTES, bundle);
    let mut reader = BundleReader::open(source).map_err(StageError::Bundle)?;
    builder.files(&work.manifest, &mut reader, work.cancelled)?;
    reader.finish().map_err(StageError::Bundle)?;
    for link in &work.manifest.links {
        builder.link(&link.path, &link.target)?;
    }
    let proof = serde_json::to_vec(work.proof).unwrap_or_default();
    let small = [("manifest.json", work.payload), ("proof.json", proof.as_slice())];
    for (name, bytes) in small {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(at("write", &path))?;
    }
    let held = File::open(dir).map_err(at("open", dir))?;
    rustix::fs::syncfs(&held).map_err(|error| at("sync", dir)(error.into()).into())
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Fault> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(at("set the mode of", path))
}

/// Builds a tree beneath one open directory.
struct Builder {
    top: OwnedFd,
    tree: PathBuf,
    made: BTreeSet<String>,
}

impl Builder {
    fn fault(&self, verb: &'static str, path: &str, error: Errno) -> Fault {
        Fault { verb, path: self.tree.join(path), source: error.into() }
    }

    /// Opens what lies at `path`, which can neither climb out nor pass a link.
    fn open(&self, path: &str, flags: OFlags, mode: RawMode) -> Result<OwnedFd, Errno> {
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.top, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // Filters of system calls cannot look into its arguments, so sandboxes that forbid set-id
            // files (systemd's RestrictSUIDSGID=) hide it.
            Err(Errno::NOSYS) => self.open_by_parts(path, flags, mode),
            other => other,
        }
    }

    /// The same, one part at a time: no part is a link, and a [`TreePath`] has no `..`.
    fn open_by_parts(&self, path: &str, flags: OFlags, mode: RawMode) -> Result<OwnedFd, Errno> {
        let safe = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let into = safe | OFlags::RDONLY | OFlags::DIRECTORY;
        let mut dir = rustix::fs::openat(&self.top, ".", into, RawMode::empty())?;
        let (above, last) = path.rsplit_once('/').unwrap_or((".", path));
        for part in above.split('/') {
            dir = rustix::fs::openat(&dir, part, into, RawMode::empty())?;
        }
        rustix::fs::openat(&dir, last, flags | safe, mode)
    }

    /// Splits a path into its open directory, made if needed, and its last part.
    fn parent(&mut self, path: &TreePath) -> Result<(OwnedFd, String), Fault> {
        let above: Vec<String> = path.parents().map(str::to_owned).collect();
        for dir in above.iter().rev() {
            if self.made.contains(dir) {
                continue;
            }
            let (upper, name) = dir.rsplit_once('/').unwrap_or((".", dir));
            let made = self
                .open(upper, OFlags::RDONLY | OFlags::DIRECTORY, RawMode::empty())
                .and_then(|fd| rustix::fs::mkdirat(fd.as_fd(), name, RawMode::from(0o755_u32)))
                .and_then(|()| self.open(dir, OFlags::RDONLY | OFlags::DIRECTORY, RawMode::empty()))
                .and_then(|fd| rustix::fs::fchmod(fd, RawMode::from(0o755_u32)));
            made.map_err(|error| self.fault("create", dir, error))?;
            self.made.insert(dir.clone());
        }
        let (upper, name) = path.as_str().rsplit_once('/').unwrap_or((".", path.as_str()));
        let fd = self
            .open(upper, OFlags::RDONLY | OFlags::DIRECTORY, RawMode::empty())
            .map_err(|error| self.fault("open", upper, error))?;
        Ok((fd, name.to_owned()))
    }

    fn create(&mut self, entry: &FileEntry) -> Result<File, Fault> {
        self.parent(&entry.path)?;
        let mode = match entry.mode {
            Mode::Plain => 0o644_u32,
            Mode::Executable => 0o755_u32,
        };
        let path = entry.path.as_str();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = self
            .open(path, flags, RawMode::from(mode))
            .map_err(|error| self.fault("create", path, error))?;
        rustix::fs::fchmod(&fd, RawMode::from(mode))
            .map_err(|error| self.fault("set the mode of", path, error))?;
        Ok(File::from(fd))
    }

    /// Writes every file: the first with a content from the bundle, the others as its copies.
    fn files<R: Read>(
        &mut self,
        manifest: &Manifest,
        reader: &mut BundleReader<R>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), StageError> {
        let mut first: BTreeMap<Digest, TreePath> = BTreeMap::new();
        for entry in &manifest.files {
            if cancelled() {
                return Err(StageError::Cancelled);
            }
            let mut file = self.create(entry)?;
            match first.get(&entry.sha256) {
                Some(original) => self.copy(original, entry, &mut file)?,
                None => {
                    write_content(entry, reader, &mut file, cancelled)?;
                    first.insert(entry.sha256, entry.path.clone());
                }
            }
        }
        Ok(())
    }

    fn copy(
        &self,
        original: &TreePath,
        entry: &FileEntry,
        file: &mut File,
    ) -> Result<(), StageError> {
        let fd = self
            .open(original.as_str(), OFlags::RDONLY, RawMode::empty())
            .map_err(|error| self.fault("open", original.as_str(), error))?;
        let path = self.tree.join(entry.path.as_str());
        let size = copy_sparse(fd, file).map_err(at("copy", &path))?;
        if size == entry.size { Ok(()) } else { Err(StageError::Content(entry.path.clone())) }
    }

    fn link(&mut self, path: &TreePath, target: &str) -> Result<(), Fault> {
        let (dir, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, dir.as_fd(), name.as_str())
            .map_err(|error| self.fault("link", path.as_str(), error))?;
        rustix::fs::statat(dir.as_fd(), name.as_str(), AtFlags::SYMLINK_NOFOLLOW)
            .map(|_| ())
            .map_err(|error| self.fault("find", path.as_str(), error))
    }
}

/// Writes a piece of a new file where it stands. Zeros are passed over, so that what was a hole where it was packed
/// takes no room here either; the length is set at the end, for a hole there is no part of the file yet.
fn write_sparse(file: &mut File, piece: &[u8]) -> io::Result<()> {
    for part in piece.chunks(HOLE_BYTES) {
        if part.len() == HOLE_BYTES && part.iter().all(|byte| *byte == 0) {
            let past = i64::try_from(part.len()).unwrap_or(i64::MAX);
            file.seek(SeekFrom::Current(past))?;
        } else {
            file.write_all(part)?;
        }
    }
    Ok(())
}

fn copy_sparse(from: OwnedFd, file: &mut File) -> io::Result<u64> {
    let mut from = BufReader::with_capacity(HOLE_BYTES, File::from(from));
    let mut size = 0_u64;
    loop {
        let piece = from.fill_buf()?;
        let length = piece.len();
        if length == 0 {
            file.set_len(size)?;
            return Ok(size);
        }
        write_sparse(file, piece)?;
        from.consume(length);
        size = size.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }
}

fn write_content<R: Read>(
    entry: &FileEntry,
    reader: &mut BundleReader<R>,
    file: &mut File,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), StageError> {
    let mut hasher = Hasher::new();
    let written = reader.content(entry.size, |piece| {
        if cancelled() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        hasher.update(piece);
        write_sparse(file, piece)
    });
    if cancelled() {
        return Err(StageError::Cancelled);
    }
    written.map_err(StageError::Bundle)?;
    file.set_len(entry.size).map_err(at("write", Path::new(entry.path.as_str())))?;
    if hasher.finish() == entry.sha256 {
        Ok(())
    } else {
        Err(StageError::Content(entry.path.clone()))
    }
}

/// Stores the newest proof of a release beside it, for a later look without the network.
pub(crate) fn save_proof(
    layout: &Layout,
    service: &ServiceName,
    proof: &ReleaseProof,
) -> Result<(), StageError> {
    let path = layout.release(service, &proof.release).join("proof.json");
    let json = serde_json::to_vec(proof).unwrap_or_default();
    if durable::read(&path, PROOF_MAX_BYTES)?.as_deref() == Some(json.as_slice()) {
        return Ok(());
    }
    Ok(durable::write(&path, &json, Access::All)?)
}

/// The proof that was stored beside a release, also of one whose files were changed since.
pub(crate) fn kept_proof(
    layout: &Layout,
    service: &ServiceName,
    release: &ReleaseId,
) -> Option<ReleaseProof> {
    let path = layout.release(service, release).join("proof.json");
    let bytes = durable::read(&path, PROOF_MAX_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok().filter(|proof: &ReleaseProof| proof.release == *release)
}

#[cfg(test)]
mod tests;
