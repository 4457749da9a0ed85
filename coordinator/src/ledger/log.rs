//! The segment files: opened and checked, appended to, read back. Blocking IO; no thread of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use groundswell_common::api::{AuditEntry, AuditHead};
use rustix::fs::{FlockOperation, flock};

use super::record::{Chain, HEAD_BYTES, decode, encode, later_group};
use crate::entry::PAYLOAD_MAX_BYTES;

/// Bytes after which a segment is closed and the next one begun.
pub(super) const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Entries between two marks of the in-memory index: what a read of one entry scans at most.
const MARK_EVERY: u64 = 256;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file system fails.
    #[error("use {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("open the ledger {0}: another coordinator has it open; stop that one first")]
    Locked(PathBuf),
    /// Bytes that were durable are damaged or gone.
    #[error(
        "read the ledger {path} at byte {offset}: entry {seq} was durable and is damaged; \
         restore the ledger directory from a backup, do not cut it"
    )]
    Damaged {
        /// Which segment.
        path: PathBuf,
        /// Where the damage begins.
        offset: u64,
        /// The entry that should be there.
        seq: u64,
    },
    /// An entry whose chain value does not follow from the one before.
    #[error(
        "read the ledger {path}: the chain breaks at entry {seq}; entries were changed or removed, \
         restore the ledger directory from a backup"
    )]
    Chain {
        /// Which segment.
        path: PathBuf,
        /// The first entry that does not follow.
        seq: u64,
    },
    /// A segment that does not begin where the one before ended.
    #[error(
        "read the ledger: segment {path} does not begin with entry {seq}; a segment is missing, \
         restore the ledger directory from a backup"
    )]
    Gap {
        /// The segment.
        path: PathBuf,
        /// The entry that should come next.
        seq: u64,
    },
    /// A file that is no segment.
    #[error("read the ledger: {0} is no segment; move it elsewhere")]
    Foreign(PathBuf),
    /// An entry over 16 MiB.
    #[error("append to the ledger: an entry of {0} bytes, at most 16777216; plan fewer hosts")]
    TooLarge(usize),
}

impl LedgerError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// One entry found while a ledger is opened or verified.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its number.
    pub seq: u64,
    /// Its exact payload.
    pub payload: &'a [u8],
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first: u64,
    bytes: u64,
    /// Offset of every 256th entry, from the first.
    marks: Vec<u64>,
}

/// What readers need; shared with the appending side.
#[derive(Debug)]
struct Index {
    segments: Vec<Segment>,
    head: u64,
    chain: Chain,
}

/// The appending side; one per process.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    file: File,
    index: Arc<Mutex<Index>>,
    segment_bytes: u64,
    /// Holds the lock of the directory for as long as the log is open.
    _lock: File,
}

/// The reading side; cheap to clone. Reads only what is durable.
#[derive(Clone, Debug)]
pub struct Reader {
    index: Arc<Mutex<Index>>,
}

impl Log {
    /// Opens or creates the ledger in `directory`, checks every checksum and the whole chain, cuts a
    /// torn tail, and shows every entry to `each`.
    ///
    /// # Errors
    /// [`LedgerError`]; a ledger that was damaged after it was durable is refused.
    pub fn open(directory: &Path, each: &mut dyn FnMut(Found<'_>)) -> Result<Self, LedgerError> {
        Self::open_with(directory, SEGMENT_BYTES, each)
    }

    /// As [`Log::open`] with another size of segments.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub(super) fn open_with(
        directory: &Path,
        segment_bytes: u64,
        each: &mut dyn FnMut(Found<'_>),
    ) -> Result<Self, LedgerError> {
        create_directory(directory)?;
        let lock = lock(directory)?;
        let mut index = scan(directory, Tail::Cut, each)?;
        if index.segments.is_empty() {
            index.segments.push(create_segment(directory, 1)?);
        }
        let Some(last) = index.segments.last() else {
            return Err(LedgerError::Foreign(directory.to_owned()));
        };
        let file = OpenOptions::new()
            .append(true)
            .open(&last.path)
            .map_err(LedgerError::io(&last.path))?;
        let index = Arc::new(Mutex::new(index));
        let directory = directory.to_owned();
        Ok(Self { directory, file, index, segment_bytes, _lock: lock })
    }

    /// Checks a ledger without changing a byte and without its lock; a torn tail is tolerated.
    ///
    /// # Errors
    /// The first defect.
    pub fn verify(
        directory: &Path,
        each: &mut dyn FnMut(Found<'_>),
    ) -> Result<AuditHead, LedgerError> {
        let index = scan(directory, Tail::Leave, each)?;
        Ok(AuditHead { seq: index.head, chain: index.chain.digest() })
    }

    /// A reader of what is durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { index: Arc::clone(&self.index) }
    }

    /// Writes the payloads as the next entries, one group, and makes them durable.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`] before a byte is written. After any other the caller must stop the
    /// process: what the disk holds is not known any more.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<AuditHead, LedgerError> {
        if let Some(large) = payloads.iter().find(|p| p.len() > PAYLOAD_MAX_BYTES) {
            return Err(LedgerError::TooLarge(large.len()));
        }
        let (head, mut chain) = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            (index.head, index.chain)
        };
        let mut bytes = Vec::new();
        let mut lengths = Vec::with_capacity(payloads.len());
        for payload in payloads {
            chain = chain.next(payload);
            encode(&mut bytes, head + 1, chain, payload);
            lengths.push((HEAD_BYTES + payload.len()) as u64);
        }
        let path = self.rotate_if_full(head + 1)?;
        self.file.write_all(&bytes).map_err(LedgerError::io(&path))?;
        self.file.sync_data().map_err(LedgerError::io(&path))?;
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        for length in lengths {
            index.head += 1;
            let seq = index.head;
            if let Some(segment) = index.segments.last_mut() {
                segment.take(seq, length);
            }
        }
        index.chain = chain;
        Ok(AuditHead { seq: index.head, chain: chain.digest() })
    }

    /// The path of the segment to write to, after beginning a new one where the last is full.
    fn rotate_if_full(&mut self, next: u64) -> Result<PathBuf, LedgerError> {
        let full = {
            let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
            match index.segments.last() {
                Some(last) if last.bytes < self.segment_bytes => return Ok(last.path.clone()),
                Some(_) | None => index.segments.last().map(|last| last.path.clone()),
            }
        };
        if let Some(path) = full {
            self.file.sync_all().map_err(LedgerError::io(&path))?;
        }
        let segment = create_segment(&self.directory, next)?;
        let path = segment.path.clone();
        self.file = OpenOptions::new().append(true).open(&path).map_err(LedgerError::io(&path))?;
        self.index.lock().unwrap_or_else(PoisonError::into_inner).segments.push(segment);
        Ok(path)
    }
}

impl Segment {
    fn take(&mut self, seq: u64, length: u64) {
        if (seq - self.first).is_multiple_of(MARK_EVERY) {
            self.marks.push(self.bytes);
        }
        self.bytes += length;
    }
}

impl Reader {
    /// The newest durable entry.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        AuditHead { seq: index.head, chain: index.chain.digest() }
    }

    /// Entries after `after`, in order: at most `limit`, and no more once `bytes_max` are exceeded.
    /// Blocking.
    ///
    /// # Errors
    /// [`LedgerError`] when a segment cannot be read or is damaged.
    pub fn read(
        &self,
        after: u64,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Vec<AuditEntry>, LedgerError> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut next = after.saturating_add(1);
        while entries.len() < limit && bytes < bytes_max {
            let Some((path, offset, first, end, last)) = self.locate(next) else { break };
            let mut file = File::open(&path).map_err(LedgerError::io(&path))?;
            file.seek(SeekFrom::Start(offset)).map_err(LedgerError::io(&path))?;
            let mut part = Vec::new();
            file.take(end - offset).read_to_end(&mut part).map_err(LedgerError::io(&path))?;
            let (mut rest, mut seq) = (part.as_slice(), first);
            while seq <= last && entries.len() < limit && bytes < bytes_max {
                let record = decode(rest).ok_or_else(|| LedgerError::Damaged {
                    path: path.clone(),
                    offset: end - rest.len() as u64,
                    seq,
                })?;
                if seq >= next {
                    bytes += record.payload.len();
                    let payload = String::from_utf8_lossy(record.payload).into_owned();
                    entries.push(AuditEntry { seq, chain: record.chain.digest(), payload });
                }
                rest = rest.get(record.length()..).unwrap_or_default();
                seq += 1;
            }
            next = seq;
        }
        Ok(entries)
    }

    /// Where entry `seq` can be found: segment, offset of the mark before it, the entry there, the
    /// end of the next two marks' stretch, and the last entry in that stretch.
    fn locate(&self, seq: u64) -> Option<(PathBuf, u64, u64, u64, u64)> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if seq == 0 || seq > index.head {
            return None;
        }
        let at = index.segments.partition_point(|segment| segment.first <= seq).checked_sub(1)?;
        let segment = index.segments.get(at)?;
        let mark = usize::try_from((seq - segment.first) / MARK_EVERY).ok()?;
        let offset = *segment.marks.get(mark)?;
        let first = segment.first + mark as u64 * MARK_EVERY;
        let segment_last = match index.segments.get(at + 1) {
            Some(next) => next.first - 1,
            None => index.head,
        };
        Some(match segment.marks.get(mark + 1) {
            Some(end) => (segment.path.clone(), offset, first, *end, first + MARK_EVERY - 1),
            None => (segment.path.clone(), offset, first, segment.bytes, segment_last),
        })
    }
}

/// What to do with a tail that was never acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    Cut,
    Leave,
}

fn scan(
    directory: &Path,
    tail: Tail,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<Index, LedgerError> {
    let paths = segment_paths(directory)?;
    let mut index = Index { segments: Vec::new(), head: 0, chain: Chain::start() };
    let count = paths.len();
    for (at, (first, path)) in paths.into_iter().enumerate() {
        if first != index.head + 1 {
            return Err(LedgerError::Gap { path, seq: index.head + 1 });
        }
        let bytes = std::fs::read(&path).map_err(LedgerError::io(&path))?;
        let mut segment = Segment { path, first, bytes: 0, marks: Vec::new() };
        let good = scan_segment(&bytes, &mut segment, &mut index, each)?;
        if good < bytes.len() {
            let torn = bytes.get(good..).unwrap_or_default();
            let (path, seq) = (segment.path.clone(), index.head + 1);
            if at + 1 < count || later_group(torn, seq) {
                return Err(LedgerError::Damaged { path, offset: good as u64, seq });
            }
            if tail == Tail::Cut {
                cut(&path, good as u64)?;
                tracing::warn!(segment = %path.display(), bytes = torn.len(), "cut a torn tail");
            }
        }
        index.segments.push(segment);
    }
    Ok(index)
}

/// Reads records until the end or the first that is not sound; returns the bytes that are good.
fn scan_segment(
    bytes: &[u8],
    segment: &mut Segment,
    index: &mut Index,
    each: &mut dyn FnMut(Found<'_>),
) -> Result<usize, LedgerError> {
    let mut good = 0;
    while let Some(record) = bytes.get(good..).and_then(decode) {
        let seq = index.head + 1;
        if index.chain.next(record.payload) != record.chain {
            return Err(LedgerError::Chain { path: segment.path.clone(), seq });
        }
        index.chain = record.chain;
        index.head = seq;
        segment.take(seq, record.length() as u64);
        good += record.length();
        each(Found { seq, payload: record.payload });
    }
    Ok(good)
}

fn segment_paths(directory: &Path) -> Result<Vec<(u64, PathBuf)>, LedgerError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(LedgerError::io(directory))? {
        let path = entry.map_err(LedgerError::io(directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "lock" {
            continue;
        }
        let first = name
            .strip_suffix(".gsl")
            .filter(|digits| digits.len() == 20)
            .and_then(|digits| digits.parse().ok());
        match first {
            Some(first) => paths.push((first, path)),
            None => return Err(LedgerError::Foreign(path)),
        }
    }
    paths.sort();
    Ok(paths)
}

fn create_directory(directory: &Path) -> Result<(), LedgerError> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory).map_err(LedgerError::io(directory))?;
    directory.parent().map_or(Ok(()), sync_directory)
}

fn create_segment(directory: &Path, first: u64) -> Result<Segment, LedgerError> {
    let path = directory.join(format!("{first:020}.gsl"));
    let file = File::create_new(&path).map_err(LedgerError::io(&path))?;
    file.sync_all().map_err(LedgerError::io(&path))?;
    sync_directory(directory)?;
    Ok(Segment { path, first, bytes: 0, marks: Vec::new() })
}

fn cut(path: &Path, length: u64) -> Result<(), LedgerError> {
    let file = OpenOptions::new().write(true).open(path).map_err(LedgerError::io(path))?;
    file.set_len(length).map_err(LedgerError::io(path))?;
    file.sync_all().map_err(LedgerError::io(path))
}

fn sync_directory(directory: &Path) -> Result<(), LedgerError> {
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(LedgerError::io(directory))
}

fn lock(directory: &Path) -> Result<File, LedgerError> {
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(LedgerError::io(&path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LedgerError::Locked(directory.to_owned())),
        Err(errno) => Err(LedgerError::Io { path, source: errno.into() }),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
