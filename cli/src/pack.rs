//! Packs a directory: a sorted walk, a digest a file, every distinct content once in one bundle. The same
//! tree gives the same tree digest on every machine; owners, times and the order of entries leave no
//! trace. Refuses what a host could not hold, naming the path; follows no link.

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

use crate::spec::SPEC_NAME;

/// Bytes read from a file at once.
const READ_BYTES: usize = 256 * 1024;
/// Set-user-id, set-group-id and sticky: a host gives modes 0644 and 0755 only.
const SPECIAL_BITS: u32 = 0o7000;
/// Executable by its owner.
const OWNER_EXECUTES: u32 = 0o100;

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
    /// A link that leaves the tree.
    #[error("pack {path}: a link to {target:?}, which is outside the tree; link inside it")]
    LinkOut {
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
    let mut tree = Tree { files: Vec::new(), links: Vec::new() };
    let mut open = vec![PathBuf::new()];
    while let Some(inner) = open.pop() {
        let directory = root.join(&inner);
        let at = |source| PackError::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(at)? {
            let inner = inner.join(entry.map_err(at)?.file_name());
            if inner != Path::new(SPEC_NAME) {
                take(&mut tree, &mut open, (root, &real), inner)?;
            }
        }
        if tree.files.len() + tree.links.len() > MANIFEST_FILES_MAX {
            return Err(PackError::TooMany(root.to_owned()));
        }
    }
    if tree.files.is_empty() {
        return Err(PackError::Empty(root.to_owned()));
    }
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    tree.links.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

/// Adds one entry of a directory to the tree, or to the directories that are still to be read.
fn take(
    tree: &mut Tree,
    open: &mut Vec<PathBuf>,
    (root, real): (&Path, &Path),
    inner: PathBuf,
) -> Result<(), PackError> {
    let full = root.join(&inner);
    let found = metadata(&full, |path| fs::symlink_metadata(path))?;
    let kind = found.file_type();
    if inner.ends_with(".git") {
        return Err(PackError::Git(full));
    }
    if kind.is_dir() {
        open.push(inner);
        return Ok(());
    }
    let text = inner.to_str().ok_or_else(|| PackError::Name(full.clone()))?;
    let path = text
        .parse::<TreePath>()
        .map_err(|source| PackError::Path { path: full.clone(), source })?;
    if kind.is_symlink() {
        let target = link_target(&full, &path, real)?;
        tree.links.push(LinkEntry { path, target });
        return Ok(());
    }
    if !kind.is_file() {
        return Err(PackError::Kind { path: full, what: kind_name(found.mode()) });
    }
    let bits = found.permissions().mode() & 0o7777;
    if bits & SPECIAL_BITS != 0 {
        return Err(PackError::Special { path: full, mode: bits });
    }
    let mode = if bits & OWNER_EXECUTES == 0 { Mode::Plain } else { Mode::Executable };
    let (sha256, size) = each_piece(&full, |_| Ok(()))?;
    if size > FILE_MAX_BYTES {
        return Err(PackError::TooLarge { path: full, size });
    }
    tree.files.push(FileEntry { path, mode, size, sha256 });
    Ok(())
}

/// A link's target, which must be inside the tree both as written and as resolved: a link through
/// another link can climb higher than its text shows.
fn link_target(full: &Path, path: &TreePath, real: &Path) -> Result<String, PackError> {
    let target = metadata(full, |path| fs::read_link(path))?;
    let target = target.to_str().ok_or_else(|| PackError::Name(full.to_owned()))?.to_owned();
    let path_buf = || full.to_owned();
    if !path.link_stays_inside(&target) {
        return Err(PackError::LinkOut { path: path_buf(), target });
    }
    match fs::canonicalize(full) {
        Ok(resolved) if resolved.starts_with(real) => Ok(target),
        Ok(_) => Err(PackError::LinkOut { path: path_buf(), target }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(PackError::LinkNowhere { path: path_buf(), target })
        }
        Err(source) => Err(PackError::Read { path: path_buf(), source }),
    }
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
        assert_eq!(one.tree, two.tree);
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
        let cases: [(Spoil, &str); 13] = [
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
