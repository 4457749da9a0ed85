//! Owns the process that serves one disk: a FUSE mount with the single file `disk`, and a line of
//! control on standard input and output.
//!
//! It answers one line for one line and keeps no file of its own; when its input ends, so does it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, WriteFlags,
};
use thiserror::Error;

use super::cache::Cache;

const DISK: INodeNo = INodeNo(2);
const DISK_NAME: &str = "disk";
/// Nothing about the two files ever changes.
const KEEP_ATTRIBUTES: Duration = Duration::from_secs(3600);

/// Why a disk is not served any more.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The image cannot be opened.
    #[error("open the disk image")]
    Image(#[source] io::Error),
    /// The mount of the disk was refused.
    #[error("mount the disk (root and /dev/fuse are needed)")]
    Mount(#[source] io::Error),
    /// The control lines cannot be read or answered, or the image cannot be written.
    #[error("carry out a control line")]
    Control(#[source] io::Error),
    /// A line that is no command.
    #[error("understand the control line `{line}`: use `cut P`, `arm N P`, `power` or `on`")]
    Unknown {
        /// The line as it came.
        line: String,
    },
}

/// Serves `image` as `mount_point`/disk until `lines` ends. Writes `ready`, then one answer a line:
/// `cut P` gives `kept K dropped D`, `arm N P` (a cut at the Nth flush) `armed`, `power` `on` or `off`, and
/// `on` gives `on`.
///
/// # Errors
/// See [`ServeError`]; each ends the serving.
pub fn serve(
    image: &Path,
    mount_point: &Path,
    seed: u64,
    control: (impl BufRead, impl Write),
) -> Result<(), ServeError> {
    let image = OpenOptions::new().read(true).write(true).open(image).map_err(ServeError::Image)?;
    let cache = Arc::new(Mutex::new(Cache::new(image, seed).map_err(ServeError::Image)?));
    let (lines, mut answers) = control;
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("cutdisk".to_owned())];
    let served = Served { cache: Arc::clone(&cache) };
    let session = fuser::spawn_mount(served, mount_point, &config).map_err(ServeError::Mount)?;
    writeln!(answers, "ready").and_then(|()| answers.flush()).map_err(ServeError::Control)?;
    for line in lines.lines() {
        let answer = obey(&cache, &line.map_err(ServeError::Control)?)?;
        writeln!(answers, "{answer}")
            .and_then(|()| answers.flush())
            .map_err(ServeError::Control)?;
    }
    // Unmounting here would wait for a loop device that still has the disk open. Left alone, the
    // end of this process ends the connection, and what still waits for the disk gets an error.
    std::mem::forget(session);
    Ok(())
}

fn obey(cache: &Mutex<Cache>, line: &str) -> Result<String, ServeError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let unknown = || ServeError::Unknown { line: line.to_owned() };
    match words.as_slice() {
        ["cut", keep] => {
            let keep = keep.parse().map_err(|_| unknown())?;
            let report = lock(cache).cut(keep).map_err(ServeError::Control)?;
            Ok(format!("kept {} dropped {}", report.kept, report.dropped))
        }
        ["arm", flushes, keep] => {
            let flushes = flushes.parse().map_err(|_| unknown())?;
            lock(cache).cut_at_flush(flushes, keep.parse().map_err(|_| unknown())?);
            Ok("armed".to_owned())
        }
        ["power"] => Ok(if lock(cache).has_power() { "on" } else { "off" }.to_owned()),
        ["on"] => {
            lock(cache).power_on();
            Ok("on".to_owned())
        }
        _ => Err(unknown()),
    }
}

/// A request that panicked has changed nothing halfway that a later one could not stand.
fn lock(cache: &Mutex<Cache>) -> MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Served {
    cache: Arc<Mutex<Cache>>,
}

impl Served {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK => (FileType::RegularFile, 0o600, lock(&self.cache).bytes()),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_i32)
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = if parent == INodeNo::ROOT && name == DISK_NAME { DISK } else { INodeNo(0) };
        match self.attributes(inode) {
            Some(attributes) => reply.entry(&KEEP_ATTRIBUTES, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&KEEP_ATTRIBUTES, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Without this the kernel would keep a cache of its own before ours.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        match lock(&self.cache).read(offset, length) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match (lock(&self.cache).write(offset, data), u32::try_from(data.len())) {
            (Ok(()), Ok(length)) => reply.written(length),
            (Ok(()), Err(_)) => reply.error(Errno::EINVAL),
            (Err(error), _) => reply.error(errno(&error)),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        match lock(&self.cache).flush() {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(&error)),
        }
    }

    /// Closing a file is no flush.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }
}
