//! Packs a directory: a sorted walk, a digest a file, every distinct content once in one bundle. The same
//! tree gives the same tree digest on every machine; owners, times and the order of entries leave no
//! trace. Refuses what a host could not hold, naming the path, and notes what a host gets otherwise; follows
//! no link.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use groundswell_common::bundle::{self, BundleWriter};
use groundswell_common::limits::{FILE_MAX_BYTES, MANIFEST_FILES_MAX};
use groundswell_common::manifest::tree_digest;
use groundswell_common::manifest::{BlobEntry, BlobKind, FileEntry, LinkEntry, Mode, contents};
use groundswell_common::path::{PathError, TreePath};
use groundswell_common::{Digest, Hasher};
use tempfile::NamedTempFile;

use crate::output::clean;
use crate::spec::SPEC_NAME;

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;
/// Set-user-id, set-group-id and sticky: a host gives modes 0644 and 0755 only.
const SPECIAL_BITS: u32 = 0o7000;
/// Executable by its owner.
const OWNER_EXECUTES: u32 = 0o100;
/// Readable by everybody, as every file is on a host.
const ALL_READ: u32 = 0o004;
/// May be entered by everybody, as every directory may on a host.
const ALL_ENTER: u32 = 0o001;
/// The longest list of attributes that the kernel gives, in bytes.
const ATTRIBUTES_MAX_BYTES: usize = 64 * 1024;
/// Where file capabilities are kept.
const CAPABILITIES: &[u8] = b"security.capability";
/// Paths that one note names.
const NOTE_PATHS: usize = 5;

/// Why a tree cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackError {
    /// A file or directory that cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What was given is no directory.
    #[error("pack {0}: not a directory; give the directory with the release's files")]
    NotADirectory(PathBuf),
    /// Nothing to release.
    #[error("pack {0}: no file in it")]
    Empty(PathBuf),
    /// The history of a repository would be shipped to every host.
    #[error("pack {0}: it belongs to a git repository; publish a build directory such as ./dist")]
    Git(PathBuf),
    /// A name that is not UTF-8.
    #[error("pack {0}: its name is not UTF-8; rename it")]
    Name(PathBuf),
    /// A name that no release may hold.
    #[error("pack {path}")]
    Path {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// A device, socket or pipe.
    #[error("pack {path}: a {what}; a release holds files, directories and links only")]
    Kind {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Set-user-id, set-group-id or sticky.
    #[error("pack {path}: mode {mode:04o} has special bits, which no host sets; remove them")]
    Special {
        /// Where.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// File capabilities.
    #[error(
        "pack {path}: it has file capabilities, which no host sets; 'setcap -r' takes them off, and \
         AmbientCapabilities= in the service's unit gives them to the service"
    )]
    Capabilities {
        /// Where.
        path: PathBuf,
    },
    /// A link that leaves the tree.
    #[error(
        "pack {path}: a link to {target:?}, which is outside the tree; link inside it, or put a copy there"
    )]
    LinkOut {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: String,
    },
    /// A link that leads into the tree by a way that a host need not have.
    #[error(
        "pack {path}: a link to {target:?}, which is in the tree as this machine alone goes there; write it as \
         {plain:?}"
    )]
    LinkForm {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: String,
        /// A target that says the same.
        plain: String,
    },
    /// A link to something that stays behind.
    #[error(
        "pack {path}: a link to {target:?}, which is left out of the release: it is an empty directory or the \
         release's description"
    )]
    LinkLeft {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: String,
    },
    /// A link to nothing.
    #[error("pack {path}: a link to {target:?}, which is not there")]
    LinkNowhere {
        /// The link.
        path: PathBuf,
        /// Where it points.
        target: String,
    },
    /// A file that no host would take.
    #[error("pack {path}: {size} bytes, at most {FILE_MAX_BYTES} a file")]
    TooLarge {
        /// Where.
        path: PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// More than a manifest can list.
    #[error("pack {0}: over {MANIFEST_FILES_MAX} files and links; pack them into fewer")]
    TooMany(PathBuf),
    /// A file that changed between the two readings.
    #[error("pack {0}: it changed while it was packed; wait for the build to end and try again")]
    Changed(PathBuf),
    /// The bundle cannot be written.
    #[error("write the bundle to a temporary file; is the disk full?")]
    Spool(#[source] io::Error),
    /// The bundle cannot be made.
    #[error("make the bundle")]
    Bundle(#[source] bundle::PackError),
}

/// What a tree holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    /// By path.
    pub(crate) files: Vec<FileEntry>,
    /// By path.
    pub(crate) links: Vec<LinkEntry>,
    /// What a host gets otherwise than it is here, a line each.
    pub(crate) notes: Vec<String>,
}

impl Tree {
    /// The digest that names it on every machine.
    pub(crate) fn digest(&self) -> Digest {
        tree_digest(&self.files, &self.links)
    }

    /// Bytes of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// A packed tree; the bundle's file is removed with it.
#[derive(Debug)]
pub(crate) struct Packed {
    /// What it holds.
    pub(crate) tree: Tree,
    /// The bundle's entry in the manifest.
    pub(crate) blob: BlobEntry,
    /// The bundle.
    pub(crate) file: NamedTempFile,
}

/// Packs the tree at `root`; the release's description at its top ([`SPEC_NAME`]) is left out.
pub(crate) fn pack(root: &Path) -> Result<Packed, PackError> {
    let tree = walk(root)?;
    let spool = tempfile::tempfile().map_err(PackError::Spool)?;
    let mut writer = BundleWriter::new(spool);
    let mut wanted = contents(&tree.files).into_iter().peekable();
    for file in &tree.files {
        if wanted.next_if(|(digest, _)| *digest == file.sha256).is_some() {
            append(&mut writer, root, file)?;
        }
    }
    let mut file = NamedTempFile::new().map_err(PackError::Spool)?;
    let (sha256, size) = writer.finish(file.as_file_mut()).map_err(PackError::Bundle)?;
    Ok(Packed { tree, blob: BlobEntry { kind: BlobKind::Full, sha256, size }, file })
}

/// Lists the tree at `root`, hashing every file.
pub(crate) fn walk(root: &Path) -> Result<Tree, PackError> {
    if !metadata(root, |path| fs::metadata(path))?.is_dir() {
        return Err(PackError::NotADirectory(root.to_owned()));
    }
    let real = metadata(root, |path| fs::canonicalize(path))?;
    let (open, list) = (vec![PathBuf::new()], vec![0; ATTRIBUTES_MAX_BYTES]);
    let mut walk = Walk { root: root.to_owned(), real, open, list, ..Walk::default() };
    while let Some(inner) = walk.open.pop() {
        walk.directory(&inner)?;
        if walk.files.len() + walk.links.len() > MANIFEST_FILES_MAX {
            return Err(PackError::TooMany(root.to_owned()));
        }
    }
    walk.end()
}

/// A tree that is being listed.
#[derive(Default)]
struct Walk {
    root: PathBuf,
    real: PathBuf,
    /// Directories that are still to be read.
    open: Vec<PathBuf>,
    files: Vec<FileEntry>,
    links: Vec<LinkEntry>,
    /// What each link leads to in the end.
    leads: Vec<(TreePath, PathBuf)>,
    empty: Vec<PathBuf>,
    directories: usize,
    /// Files and directories that are not for everybody here.
    private: Vec<PathBuf>,
    /// Files and directories with access lists or attributes of their own.
    attributed: Vec<PathBuf>,
    /// For names of attributes.
    list: Vec<u8>,
}

impl Walk {
    fn directory(&mut self, inner: &Path) -> Result<(), PackError> {
        let directory = self.root.join(inner);
        let at = |source| PackError::Read { path: directory.clone(), source };
        let mut is_empty = true;
        for entry in fs::read_dir(&directory).map_err(at)? {
            is_empty = false;
            let inner = inner.join(entry.map_err(at)?.file_name());
            if inner != Path::new(SPEC_NAME) {
                self.take(inner)?;
            }
        }
        if is_empty {
            self.empty.push(inner.to_owned());
        }
        Ok(())
    }

    /// Adds one entry of a directory to the tree, or to the directories that are still to be read.
    fn take(&mut self, inner: PathBuf) -> Result<(), PackError> {
        let full = self.root.join(&inner);
        let found = metadata(&full, |path| fs::symlink_metadata(path))?;
        let kind = found.file_type();
        let bits = found.permissions().mode() & 0o7777;
        if inner.ends_with(".git") {
            return Err(PackError::Git(full));
        }
        if kind.is_dir() {
            self.look(&full, &inner, bits & ALL_ENTER != 0)?;
            self.directories += 1;
            self.open.push(inner);
            return Ok(());
        }
        let text = inner.to_str().ok_or_else(|| PackError::Name(full.clone()))?;
        let path = text
            .parse::<TreePath>()
            .map_err(|source| PackError::Path { path: full.clone(), source })?;
        if kind.is_symlink() {
            let (target, leads) = link_target(&full, &path, &self.real)?;
            self.leads.push((path.clone(), leads));
            self.links.push(LinkEntry { path, target });
            return Ok(());
        }
        if !kind.is_file() {
            return Err(PackError::Kind { path: full, what: kind_name(found.mode()) });
        }
        if bits & SPECIAL_BITS != 0 {
            return Err(PackError::Special { path: full, mode: bits });
        }
        self.look(&full, &inner, bits & ALL_READ != 0)?;
        let mode = if bits & OWNER_EXECUTES == 0 { Mode::Plain } else { Mode::Executable };
        let (sha256, size) = each_piece(&full, |_| Ok(()))?;
        if size > FILE_MAX_BYTES {
            return Err(PackError::TooLarge { path: full, size });
        }
        self.files.push(FileEntry { path, mode, size, sha256 });
        Ok(())
    }

    /// Looks at what of a file or directory does not come to hosts.
    fn look(&mut self, full: &Path, inner: &Path, is_for_all: bool) -> Result<(), PackError> {
        if !is_for_all {
            self.private.push(inner.to_owned());
        }
        // A file system without attributes has none to lose.
        let length = rustix::fs::llistxattr(full, self.list.as_mut_slice()).unwrap_or(0);
        let names = self.list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
        let mut own = false;
        for name in names {
            if name == CAPABILITIES {
                return Err(PackError::Capabilities { path: full.to_owned() });
            }
            own |= name.starts_with(b"user.") || name.starts_with(b"system.posix_acl");
        }
        if own {
            self.attributed.push(inner.to_owned());
        }
        Ok(())
    }

    /// The whole tree, once everything was read.
    fn end(mut self) -> Result<Tree, PackError> {
        if self.files.is_empty() {
            return Err(PackError::Empty(self.root));
        }
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.links.sort_by(|a, b| a.path.cmp(&b.path));
        self.hold_links()?;
        let notes = self.notes();
        Ok(Tree { files: self.files, links: self.links, notes })
    }

    /// Each link leads to what hosts get.
    fn hold_links(&self) -> Result<(), PackError> {
        let files = self.files.iter().map(|file| &file.path);
        let links = self.links.iter().map(|link| &link.path);
        let mut there: BTreeSet<&str> = files.clone().map(TreePath::as_str).collect();
        there.extend(files.chain(links).flat_map(TreePath::parents));
        there.insert("");
        let left = |(_, leads): &&(TreePath, PathBuf)| {
            leads.to_str().is_none_or(|leads| !there.contains(leads))
        };
        let Some((path, _)) = self.leads.iter().find(left) else { return Ok(()) };
        let link = self.links.iter().find(|link| link.path == *path);
        let target = link.map(|link| link.target.clone()).unwrap_or_default();
        Err(PackError::LinkLeft { path: self.root.join(path.as_str()), target })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.empty.is_empty() {
            let counted = ("empty directory is", "empty directories are");
            notes.push(format!(
                "{}; a service makes its own, or has StateDirectory= and LogsDirectory= in its unit",
                listed(&self.empty, counted, "left out")
            ));
        }
        // Where everything is private the umask was narrow, and nothing is said by it.
        if !self.private.is_empty() && self.private.len() < self.files.len() + self.directories {
            notes.push(format!(
                "{}; put no secrets into a release, which travels in the clear as well",
                listed(
                    &self.private,
                    (
                        "path that is not for everybody here is",
                        "paths that are not for everybody here are"
                    ),
                    "readable by everybody on hosts"
                )
            ));
        }
        if !self.attributed.is_empty() {
            notes.push(listed(
                &self.attributed,
                ("path has", "paths have"),
                "access lists or attributes that no host sets",
            ));
        }
        notes
    }
}

/// "2 empty directories are left out: logs, tmp/sub".
fn listed(paths: &[PathBuf], (one, many): (&str, &str), what: &str) -> String {
    let shown = |path: &PathBuf| clean(&path.display().to_string());
    let mut names: Vec<String> = paths.iter().map(shown).collect();
    names.sort();
    let more = names.len().saturating_sub(NOTE_PATHS);
    names.truncate(NOTE_PATHS);
    let names = names.join(", ");
    let counted = if paths.len() == 1 { one } else { many };
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{} {counted} {what}: {names}{more}", paths.len())
}

/// A link's target, which must be inside the tree both as written and as resolved (a link through another
/// link can climb higher than its text shows), and what it leads to there.
fn link_target(full: &Path, path: &TreePath, real: &Path) -> Result<(String, PathBuf), PackError> {
    let target = metadata(full, |path| fs::read_link(path))?;
    let target = target.to_str().ok_or_else(|| PackError::Name(full.to_owned()))?.to_owned();
    let path_buf = || full.to_owned();
    let inside = |target: &String| path.link_stays_inside(target);
    let plain = Some(target.clone()).filter(inside).or_else(|| plain(full, &target).filter(inside));
    let leads = match fs::canonicalize(full) {
        Ok(resolved) => resolved.strip_prefix(real).map(Path::to_owned).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound && plain.is_some() => {
            return Err(PackError::LinkNowhere { path: path_buf(), target });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(PackError::Read { path: path_buf(), source }),
    };
    match (plain, leads) {
        (Some(plain), Some(leads)) => Ok((plain, leads)),
        (_, None) => Err(PackError::LinkOut { path: path_buf(), target }),
        (None, Some(leads)) => {
            let from = Path::new(path.as_str()).parent().unwrap_or(Path::new(""));
            let plain = relative(from, &leads);
            Err(PackError::LinkForm { path: path_buf(), target, plain })
        }
    }
}

/// The same target without empty parts and without `..` behind a directory's name. `None` where that name is
/// not a directory's, and leads elsewhere than it reads.
fn plain(full: &Path, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let from = full.parent()?;
    let mut parts: Vec<&str> = Vec::new();
    for part in target.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(&last)) if last != ".." => {
                let named = from.join(parts.join("/"));
                fs::symlink_metadata(named).ok().filter(fs::Metadata::is_dir)?;
                parts.pop();
            }
            (part, _) => parts.push(part),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// The way from one directory of the tree to something else in it.
fn relative(from: &Path, to: &Path) -> String {
    let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(common).map(|_| "..".to_owned());
    let name = |part: std::path::Component<'_>| part.as_os_str().to_string_lossy().into_owned();
    let parts: Vec<String> = up.chain(to.components().skip(common).map(name)).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

fn append(writer: &mut BundleWriter<File>, root: &Path, file: &FileEntry) -> Result<(), PackError> {
    let full = root.join(file.path.as_str());
    let found = each_piece(&full, |piece| writer.append(piece).map_err(PackError::Bundle))?;
    if found == (file.sha256, file.size) { Ok(()) } else { Err(PackError::Changed(full)) }
}

/// Reads a file piece by piece; its digest and size.
fn each_piece(
    path: &Path,
    mut piece: impl FnMut(&[u8]) -> Result<(), PackError>,
) -> Result<(Digest, u64), PackError> {
    let at = |source| PackError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(at)?;
    let (mut hasher, mut size, mut buffer) = (Hasher::new(), 0_u64, vec![0; READ_BYTES]);
    loop {
        let count = file.read(&mut buffer).map_err(at)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        size = size.saturating_add(bytes.len() as u64);
        piece(bytes)?;
    }
    Ok((hasher.finish(), size))
}

fn metadata<T>(path: &Path, look: impl Fn(&Path) -> io::Result<T>) -> Result<T, PackError> {
    look(path).map_err(|source| PackError::Read { path: path.to_owned(), source })
}

/// The name of a file kind that no release holds, by the type bits of its mode.
fn kind_name(mode: u32) -> &'static str {
    match mode & 0o170_000 {
        0o140_000 => "socket",
        0o020_000 => "character device",
        0o060_000 => "block device",
        0o010_000 => "named pipe",
        _ => "special file",
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, SystemTime};

    use groundswell_common::bundle::BundleReader;

    use super::*;

    fn put(root: &Path, path: &str, content: &[u8], mode: u32) {
        let full = root.join(path);
        fs::create_dir_all(full.parent().expect("parent")).expect("mkdir");
        fs::write(&full, content).expect("write");
        fs::set_permissions(&full, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    fn small() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("dir");
        put(dir.path(), "bin/run", b"#!/bin/sh\n", 0o755);
        dir
    }

    #[test]
    fn the_same_tree_made_in_another_way_has_the_same_digest_and_bundle() {
        let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
        let files: [(&str, &[u8], u32, u32); 5] = [
            ("bin/run", b"run", 0o755, 0o700),
            ("a", b"same", 0o644, 0o600),
            ("a.b/c", b"same", 0o664, 0o644),
            ("a/b".trim_end_matches("/b"), b"same", 0o644, 0o640),
            ("z/deep/er", &[7; 3_000_000], 0o644, 0o604),
        ];
        for (path, content, mode, _) in files {
            put(one.path(), path, content, mode);
        }
        symlink("../a", one.path().join("bin/link")).expect("link");
        fs::create_dir(two.path().join("bin")).expect("mkdir");
        symlink("../a", two.path().join("bin/link")).expect("link");
        for (path, content, _, mode) in files.into_iter().rev() {
            put(two.path(), path, content, mode);
            let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
            let file = File::options().append(true).open(two.path().join(path)).expect("open");
            file.set_modified(old).expect("mtime");
        }
        let (one, two) = (pack(one.path()).expect("one"), pack(two.path()).expect("two"));
        assert_eq!((&one.tree.files, &one.tree.links), (&two.tree.files, &two.tree.links));
        assert_eq!(one.tree.digest(), two.tree.digest());
        assert_eq!(one.blob, two.blob);
        let paths: Vec<&str> = one.tree.files.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["a", "a.b/c", "bin/run", "z/deep/er"]);
        let modes: Vec<Mode> = one.tree.files.iter().map(|f| f.mode).collect();
        assert_eq!(modes, [Mode::Plain, Mode::Plain, Mode::Executable, Mode::Plain]);
    }

    #[test]
    fn the_digest_of_a_tree_is_over_the_documented_lines() {
        let dir = small();
        symlink("run", dir.path().join("bin/go")).expect("link");
        let content = Digest::of(b"#!/bin/sh\n");
        let lines = format!("f 0755 10 {content} bin/run\0l run\0bin/go\0");
        assert_eq!(walk(dir.path()).expect("walk").digest(), Digest::of(lines.as_bytes()));
    }

    #[test]
    fn a_bundle_gives_back_every_content_once() {
        let dir = small();
        put(dir.path(), "a", b"twice", 0o644);
        put(dir.path(), "b", b"twice", 0o644);
        let packed = pack(dir.path()).expect("pack");
        let bytes = fs::read(packed.file.path()).expect("bundle");
        assert_eq!(
            (Digest::of(&bytes), bytes.len() as u64),
            (packed.blob.sha256, packed.blob.size)
        );
        let mut reader = BundleReader::open(bytes.as_slice()).expect("reader");
        let mut raw = Vec::new();
        for (_, size) in contents(&packed.tree.files) {
            let sink = |piece: &[u8]| {
                raw.extend_from_slice(piece);
                Ok(())
            };
            reader.content(size, sink).expect("content");
        }
        reader.finish().expect("nothing is left");
        assert_eq!(raw, b"twice#!/bin/sh\n");
    }

    #[test]
    fn the_description_stays_behind_only_at_the_top() {
        let dir = small();
        let before = walk(dir.path()).expect("walk");
        put(dir.path(), SPEC_NAME, b"[release]\n", 0o644);
        assert_eq!(walk(dir.path()).expect("walk"), before);
        put(dir.path(), "conf/groundswell.toml", b"", 0o644);
        assert_eq!(walk(dir.path()).expect("walk").files.len(), 2);
    }

    #[test]
    fn each_refused_tree_has_its_error_with_the_path() {
        type Spoil = fn(&Path);
        let cases: [(Spoil, &str); 18] = [
            (|r| put(r, ".git", b"gitdir: elsewhere", 0o644), "git repository"),
            (|r| symlink("/etc/passwd", r.join("l")).unwrap(), "outside the tree"),
            (|r| symlink("../x", r.join("l")).unwrap(), "outside the tree"),
            (|r| symlink("nothing", r.join("l")).unwrap(), "which is not there"),
            (|r| symlink("l", r.join("l")).unwrap(), "read "),
            (|r| drop(UnixListener::bind(r.join("l")).unwrap()), "a socket"),
            (|r| put(r, "l", b"", 0o4755), "mode 4755 has special bits"),
            (|r| put(r, "l\\", b"", 0o644), "pack "),
            (|r| put(r, "l\n", b"", 0o644), "pack "),
            (|r| put(r, ".git/l", b"", 0o644), "git repository"),
            (|r| put(r, "l/.git/HEAD", b"", 0o644), "git repository"),
            (|r| symlink_through_a_link(r), "outside the tree"),
            (|r| symlink_to_the_empty(r), "which is left out of the release"),
            (|r| symlink_to_the_description(r), "which is left out of the release"),
            (|r| symlink_in_another_way(r, "up/../bin/run"), "write it as \"../bin/run\""),
            (|r| symlink(r.join("bin/run"), r.join("l")).unwrap(), "write it as \"bin/run\""),
            (|r| symlink_by_name(r), "write it as \"bin/run\""),
            (|r| fs::remove_dir_all(r.join("bin")).unwrap(), "no file in it"),
        ];
        for (at, (spoil, want)) in cases.into_iter().enumerate() {
            let dir = small();
            spoil(dir.path());
            let error = walk(dir.path()).expect_err(want).to_string();
            assert!(error.contains(want), "case {at}: {error}");
            assert!(error.contains(&dir.path().display().to_string()), "case {at}: {error}");
        }
    }

    /// `a/b/up` leads to the top, so `a/b/l` -> `up/../x` leaves the tree although its text does not show it.
    fn symlink_through_a_link(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.parent().unwrap().join("groundswell-pack-outside"), b"").unwrap();
        symlink("../..", root.join("a/b/up")).unwrap();
        symlink("up/../groundswell-pack-outside", root.join("a/b/l")).unwrap();
    }

    fn symlink_to_the_empty(root: &Path) {
        fs::create_dir(root.join("logs")).unwrap();
        symlink("logs", root.join("l")).unwrap();
    }

    fn symlink_to_the_description(root: &Path) {
        put(root, SPEC_NAME, b"[release]\n", 0o644);
        symlink(SPEC_NAME, root.join("l")).unwrap();
    }

    /// From `a/l`, where `a/up` is a link to the top.
    fn symlink_in_another_way(root: &Path, target: &str) {
        fs::create_dir(root.join("a")).unwrap();
        symlink("../bin", root.join("a/up")).unwrap();
        symlink(target, root.join("a/l")).unwrap();
    }

    /// Out of the tree and into it again, by the name that it has on this machine.
    fn symlink_by_name(root: &Path) {
        let name = root.file_name().unwrap().to_str().unwrap();
        symlink(format!("../{name}/bin/run"), root.join("l")).unwrap();
    }

    #[test]
    fn a_link_that_reads_otherwise_and_stays_inside_is_put_in_its_plain_form() {
        let dir = small();
        let root = dir.path();
        fs::create_dir_all(root.join("a/deep")).expect("mkdir");
        for (name, target) in [
            ("l1", "bin/"),
            ("l2", "bin//run"),
            ("l3", "a/../bin/run"),
            ("l4", "a/deep/../../bin"),
            ("l5", "./bin"),
            ("a/l6", "../a/../bin/run"),
            ("a/l7", "..//"),
            ("l8", "bin/.."),
        ] {
            symlink(target, root.join(name)).expect("link");
        }
        let tree = walk(root).expect("all of them stay inside");
        let links: Vec<(&str, &str)> =
            tree.links.iter().map(|link| (link.path.as_str(), link.target.as_str())).collect();
        let want = [
            ("a/l6", "../bin/run"),
            ("a/l7", ".."),
            ("l1", "bin"),
            ("l2", "bin/run"),
            ("l3", "bin/run"),
            ("l4", "bin"),
            ("l5", "./bin"),
            ("l8", "."),
        ];
        assert_eq!(links, want);
        assert!(tree.links.iter().all(|link| link.path.link_stays_inside(&link.target)));
    }

    #[test]
    fn what_hosts_get_otherwise_is_said() {
        let dir = small();
        let root = dir.path();
        assert_eq!(walk(root).expect("walk").notes, [""; 0]);
        for empty in ["logs", "tmp/sub"] {
            fs::create_dir_all(root.join(empty)).expect("mkdir");
        }
        put(root, ".env", b"TOKEN=1", 0o600);
        put(root, "keys/a", b"", 0o640);
        let notes = walk(root).expect("walk").notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(
            notes[0].starts_with("2 empty directories are left out: logs, tmp/sub; "),
            "{notes:?}"
        );
        let want = "2 paths that are not for everybody here are readable by everybody on hosts: .env, keys/a; ";
        assert!(notes[1].starts_with(want), "{notes:?}");
        let mut many: Vec<PathBuf> = (0..7).map(|n| PathBuf::from(format!("d{n}"))).collect();
        many.reverse();
        let want = "7 are left out: d0, d1, d2, d3, d4 and 2 more";
        assert_eq!(listed(&many, ("is", "are"), "left out"), want);
        let private = tempfile::tempdir().expect("dir");
        put(private.path(), "lib/a", b"", 0o600);
        fs::set_permissions(private.path().join("lib"), fs::Permissions::from_mode(0o700))
            .expect("chmod");
        assert_eq!(walk(private.path()).expect("walk").notes, [""; 0], "a narrow umask");
    }

    #[test]
    fn attributes_that_do_not_travel_are_said() {
        let dir = tempfile::tempdir().expect("dir");
        put(dir.path(), "run", b"", 0o755);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(dir.path().join("run"), "user.shop", b"1", flags).expect("setxattr");
        let notes = walk(dir.path()).expect("walk").notes;
        assert_eq!(notes, ["1 path has access lists or attributes that no host sets: run"]);
    }

    #[test]
    fn devices_and_pipes_are_named() {
        assert_eq!(kind_name(0o020_666), "character device");
        assert_eq!(kind_name(0o060_660), "block device");
        assert_eq!(kind_name(0o010_644), "named pipe");
        let error = walk(Path::new("/dev/null")).expect_err("a device");
        assert!(matches!(error, PackError::NotADirectory(_)), "{error}");
    }

    #[test]
    fn a_file_that_changes_between_the_readings_is_refused() {
        let dir = small();
        let tree = walk(dir.path()).expect("walk");
        put(dir.path(), "bin/run", b"#!/bin/no\n", 0o755);
        let mut writer = BundleWriter::new(tempfile::tempfile().expect("spool"));
        let error = append(&mut writer, dir.path(), &tree.files[0]).expect_err("changed");
        assert!(matches!(error, PackError::Changed(_)), "{error}");
    }
}
