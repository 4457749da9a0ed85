//! The one routine that writes state files: temporary file, fsync, rename, fsync of the directory. A file
//! written by it holds the old or the new bytes after a power cut, never others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

/// What a file that must always be written is filled up to a multiple of: room for two failure texts in JSON.
const ROOM_BYTES: usize = 64 * 1024;
/// Why the state of a side cannot lie behind a link: its unit's StateDirectory= refuses one.
pub(crate) const LINKED: &str =
    "it is a link, which systemd refuses; put a bind mount in its place (docs/operations.md O8.6)";
/// Where the system lists its users.
const USERS_FILE: &str = "/etc/passwd";
const USERS_MAX_BYTES: usize = 4 * 1024 * 1024;

/// A call to the system about one path that failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}", path.display())]
pub(crate) struct Fault {
    pub(crate) verb: &'static str,
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: io::Error,
}

/// Names the path in an error.
pub(crate) fn at<'a>(verb: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Fault + 'a {
    move |source| Fault { verb, path: path.to_owned(), source: with_next(source) }
}

/// What the system says, with the next step where a person on the host has one.
fn with_next(error: io::Error) -> io::Error {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    let next = if full.contains(&error.kind()) {
        "make room"
    } else if error.kind() == io::ErrorKind::ReadOnlyFilesystem {
        "mount it writable again"
    } else {
        return error;
    };
    io::Error::new(error.kind(), format!("{error}; {next}"))
}

/// Whether the file system of `dir` takes no changes now.
pub(crate) fn is_read_only(dir: &Path) -> bool {
    rustix::fs::statvfs(dir)
        .is_ok_and(|found| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// Whether the file system of `dir` takes changes, and what this process sees of it does not: systemd made that view
/// while the disk was read-only, and makes another one at the next start only.
pub(crate) fn is_shut_out(dir: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let (own, shared) = line.split_once(" - ")?;
        let (mut own, shared) = (own.split(' ').skip(4), shared.rsplit(' ').next()?);
        let (point, options) = (own.next()?, own.next()?);
        dir.starts_with(point).then_some((point.len(), options, shared))
    });
    let reads_only = |options: &str| options.split(',').any(|option| option == "ro");
    // Of equals the last one lies on top.
    let found = above.max_by_key(|(depth, ..)| *depth);
    found.is_some_and(|(_, own, shared)| reads_only(own) && !reads_only(shared))
}

/// Who may read a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// 0600.
    Owner,
    /// 0644.
    All,
}

/// Replaces `path` by `bytes`, durably.
///
/// # Errors
/// [`Fault`]; the old content stands.
pub(crate) fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), Fault> {
    let temporary = temporary(path);
    let mode = match access {
        Access::Owner => 0o600,
        Access::All => 0o644,
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(no_links())
        .open(&temporary)
        .map_err(at("create", &temporary))?;
    file.write_all(bytes).map_err(at("write", &temporary))?;
    file.sync_all().map_err(at("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(at("replace", path))?;
    sync_parent(path)
}

/// The flag by which opening fails where somebody has put a link: root writes into directories of others.
pub(crate) fn no_links() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}

/// Whether something else than a link lies at `path`, or nothing.
///
/// # Errors
/// [`Fault`] where it is a link, or cannot be told.
pub(crate) fn not_a_link(path: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => {
            Err(at("open", path)(io::Error::other("it is a link; remove it")))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("look at", path)(error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// As [`not_a_link`], of a directory that holds all of a side's state.
///
/// # Errors
/// [`Fault`], which says what to do instead of a link.
pub(crate) fn is_no_link(dir: &Path) -> Result<(), Fault> {
    not_a_link(dir).map_err(|fault| match fault.verb {
        "open" => at("use", dir)(io::Error::other(LINKED)),
        _ => fault,
    })
}

/// As [`write`], readable for the owner only, for JSON that must be written on a full disk too: each write goes
/// into the blocks of the file before the last one, which is kept beside it. Spaces fill it up, so that those
/// blocks are enough for the next one.
///
/// # Errors
/// [`Fault`]; the old content stands.
pub(crate) fn write_json(path: &Path, mut json: Vec<u8>) -> Result<(), Fault> {
    json.resize(json.len().next_multiple_of(ROOM_BYTES), b' ');
    let spare = temporary(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(no_links())
        .open(&spare)
        .map_err(at("create", &spare))?;
    file.write_all(&json).map_err(at("write", &spare))?;
    let length = u64::try_from(json.len()).unwrap_or(u64::MAX);
    file.set_len(length).map_err(at("write", &spare))?;
    file.sync_all().map_err(at("sync", &spare))?;
    match renameat_with(CWD, &spare, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        // The first one, or a file system that cannot exchange names.
        Err(_) => fs::rename(&spare, path).map_err(at("replace", path))?,
    }
    sync_parent(path)
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Gives what root has written to the owner of the directory that it lies in, which is whom a side of the
/// agent runs as. Anybody else owns what they write.
///
/// # Errors
/// [`Fault`].
pub(crate) fn hand_over(dir: &Path, paths: &[PathBuf]) -> Result<(), Fault> {
    let owner = fs::metadata(dir).map_err(at("look at", dir))?;
    if !rustix::process::geteuid().is_root() || owner.uid() == 0 {
        return Ok(());
    }
    for path in paths {
        lchown(path, Some(owner.uid()), Some(owner.gid())).map_err(at("give away", path))?;
    }
    Ok(())
}

/// Gives a directory that is root's to a user, and to the group of another one, where the system has both.
///
/// # Errors
/// [`Fault`].
pub(crate) fn settle(dir: &Path, (user, group): (&str, &str)) -> Result<(), Fault> {
    let owner = fs::metadata(dir).map_err(at("look at", dir))?.uid();
    if owner != 0 || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (Some((user, _)), Some((_, group))) = (account(user)?, account(group)?) else {
        return Ok(());
    };
    lchown(dir, Some(user), Some(group)).map_err(at("give away", dir))
}

/// The numbers of a user and of its group.
///
/// # Errors
/// [`Fault`].
pub(crate) fn account(name: &str) -> Result<Option<(u32, u32)>, Fault> {
    let users = read(Path::new(USERS_FILE), USERS_MAX_BYTES)?.unwrap_or_default();
    let users = String::from_utf8_lossy(&users).into_owned();
    Ok(users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let named = fields.next() == Some(name);
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        named.then_some((user, group))
    }))
}

/// Syncs the directory that holds `path`, so that its name survives a power cut.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Fault> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at("sync", parent))
}

/// Makes a directory and those above it, each durable.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Fault> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_dir(parent, mode)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at("create", path)(error)),
    }
}

/// Reads a whole file of at most `limit_bytes`; `None` when it is not there.
pub(crate) fn read(path: &Path, limit_bytes: usize) -> Result<Option<Vec<u8>>, Fault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("open", path)(error)),
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(limit_bytes).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(at("read", path))?;
    if bytes.len() > limit_bytes {
        return Err(at("read", path)(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(Some(bytes))
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// As [`remove`], durably.
pub(crate) fn forget(path: &Path) -> Result<(), Fault> {
    remove(path)?;
    sync_parent(path)
}

/// Removes a directory and all in it; one that is not there is fine.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Fault> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_way_is_never_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("host.key"), dir.path().join("other"));
        fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, temporary(&path)).unwrap();
        assert!(write(&path, b"ours", Access::Owner).is_err());
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        assert!(not_a_link(&temporary(&path)).is_err());
        not_a_link(&other).unwrap();
        not_a_link(&path).unwrap();
        fs::remove_file(temporary(&path)).unwrap();
        write(&path, b"ours", Access::Owner).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ours");
    }
}
