//! The depot on local disk: immutable blobs named by their SHA-256. Owns the files below `depot/`. A blob
//! appears under its name only when its bytes are whole, right and durable.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use groundswell_common::limits::BLOB_MAX_BYTES;
use groundswell_common::{Digest, Hasher};
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt as _;

/// End of the names of files that are still being written.
const PART: &str = ".part";
/// Bytes that no upload takes: one segment of the ledger, which mostly lies on the same disk and whose
/// failure ends the process.
const KEEP_FREE_BYTES: u64 = 64 * 1024 * 1024;

/// Why a blob cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum DepotError {
    /// The file system fails.
    #[error("use the depot's {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No room, or so little that the ledger would be next to fail.
    #[error(
        "the coordinator's disk is full: {} free where {} are wanted, and {} are kept for the ledger",
        mebibytes(*free), mebibytes(*want), mebibytes(KEEP_FREE_BYTES)
    )]
    Full {
        /// Bytes free in the depot.
        free: u64,
        /// Bytes of the blob.
        want: u64,
    },
    /// The sender's connection fails.
    #[error("receive the blob")]
    Receive(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// More than was announced, or more than any blob may have.
    #[error("receive the blob: more than the announced {0} bytes; send exactly those")]
    TooLong(u64),
    /// Fewer than were announced.
    #[error("receive the blob: {got} of {want} announced bytes; send it again")]
    TooShort {
        /// What came.
        got: u64,
        /// What was announced.
        want: u64,
    },
    /// Bytes with another digest than their name.
    #[error("receive the blob: its bytes are {got}, not {want}; hash the file again")]
    WrongDigest {
        /// What came.
        got: Digest,
        /// The name that it was sent under.
        want: Digest,
    },
    /// An announced size over the bound.
    #[error("receive the blob: {0} bytes, at most 274877906944")]
    TooLarge(u64),
}

/// Blobs below one directory.
#[derive(Clone, Debug)]
pub struct Depot {
    root: PathBuf,
    keep_free_bytes: u64,
}

impl Depot {
    /// Opens or creates the depot in `directory` and removes what was never finished. Blocking; at
    /// start-up only.
    ///
    /// # Errors
    /// [`DepotError::Io`].
    pub fn open(directory: &Path) -> Result<Self, DepotError> {
        let root = directory.join("sha256");
        std::fs::create_dir_all(&root).map_err(at(&root))?;
        for shelf in std::fs::read_dir(&root).map_err(at(&root))? {
            let shelf = shelf.map_err(at(&root))?.path();
            for file in std::fs::read_dir(&shelf).map_err(at(&shelf))? {
                let path = file.map_err(at(&shelf))?.path();
                if path.as_os_str().as_encoded_bytes().ends_with(PART.as_bytes()) {
                    std::fs::remove_file(&path).map_err(at(&path))?;
                }
            }
        }
        Ok(Self { root, keep_free_bytes: KEEP_FREE_BYTES })
    }

    /// Where the blob lies, or would lie.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(name.get(..2).unwrap_or_default()).join(&name)
    }

    /// The blob's size in bytes; `None` where it is not kept.
    ///
    /// # Errors
    /// [`DepotError::Io`].
    pub async fn size(&self, digest: &Digest) -> Result<Option<u64>, DepotError> {
        let path = self.path(digest);
        match fs::metadata(&path).await {
            Ok(meta) => Ok(Some(meta.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// The whole blob, for documents of at most `limit_bytes`; `None` where it is not kept or larger.
    ///
    /// # Errors
    /// [`DepotError::Io`].
    pub async fn read(
        &self,
        digest: &Digest,
        limit_bytes: usize,
    ) -> Result<Option<Vec<u8>>, DepotError> {
        match self.size(digest).await? {
            Some(size) if usize::try_from(size).is_ok_and(|size| size <= limit_bytes) => {
                let path = self.path(digest);
                fs::read(&path).await.map(Some).map_err(at(&path))
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Keeps a small blob under its own digest.
    ///
    /// # Errors
    /// [`DepotError`].
    pub async fn put_bytes(&self, bytes: Vec<u8>) -> Result<Digest, DepotError> {
        let (digest, length) = (Digest::of(&bytes), bytes.len() as u64);
        let stream =
            futures_util::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(bytes))]);
        self.put(&digest, length, stream).await?;
        Ok(digest)
    }

    /// Bytes that may still be written, by anybody but root.
    fn free(&self, shelf: &Path) -> Result<u64, DepotError> {
        let stat = rustix::fs::statvfs(shelf).map_err(|error| at(shelf)(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// A write that failed for want of room says so; somebody else may have filled the disk meanwhile.
    fn full_or(&self, error: DepotError, (shelf, want): (&Path, u64)) -> DepotError {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        if let DepotError::Io { source, .. } = &error
            && [StorageFull, QuotaExceeded].contains(&source.kind())
        {
            return DepotError::Full { free: self.free(shelf).unwrap_or(0), want };
        }
        error
    }

    /// Keeps the stream's bytes under `want`; `false` when the blob was kept before. Whatever goes
    /// wrong, nothing is left behind.
    ///
    /// # Errors
    /// [`DepotError`].
    pub async fn put<S, E>(&self, want: &Digest, length: u64, stream: S) -> Result<bool, DepotError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: std::error::Error + Send + Sync + 'static,
    {
        if length > BLOB_MAX_BYTES {
            return Err(DepotError::TooLarge(length));
        }
        if self.size(want).await? == Some(length) {
            return Ok(false);
        }
        let path = self.path(want);
        let shelf = path.parent().unwrap_or(&self.root).to_owned();
        if !fs::try_exists(&shelf).await.map_err(at(&shelf))? {
            fs::create_dir_all(&shelf).await.map_err(at(&shelf))?;
            sync_directory(&self.root).await?;
        }
        let free = self.free(&shelf)?;
        if length.saturating_add(self.keep_free_bytes) > free {
            return Err(DepotError::Full { free, want: length });
        }
        let part = Part::new(&path).map_err(at(&path))?;
        let mut file = File::create_new(&part.path).await.map_err(at(&part.path))?;
        let received = receive(&mut file, &part.path, (want, length), stream).await;
        let received = match received {
            Ok(()) => file.sync_all().await.map_err(at(&part.path)),
            Err(error) => Err(error),
        };
        drop(file);
        received.map_err(|error| self.full_or(error, (&shelf, length)))?;
        fs::rename(&part.path, &path).await.map_err(at(&path))?;
        part.keep();
        sync_directory(&shelf).await?;
        Ok(true)
    }
}

/// Bytes for people, rounded up: what is wanted is never said to fit where it does not.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

async fn receive<S, E>(
    file: &mut File,
    path: &Path,
    (want, length): (&Digest, u64),
    mut stream: S,
) -> Result<(), DepotError>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    let (mut hasher, mut got) = (Hasher::new(), 0_u64);
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|error| DepotError::Receive(Box::new(error)))?;
        got = got.saturating_add(bytes.len() as u64);
        if got > length {
            return Err(DepotError::TooLong(length));
        }
        hasher.update(&bytes);
        file.write_all(&bytes).await.map_err(at(path))?;
    }
    if got < length {
        return Err(DepotError::TooShort { got, want: length });
    }
    let found = hasher.finish();
    if found != *want {
        return Err(DepotError::WrongDigest { got: found, want: *want });
    }
    file.flush().await.map_err(at(path))
}

async fn sync_directory(path: &Path) -> Result<(), DepotError> {
    let directory = File::open(path).await.map_err(at(path))?;
    directory.sync_all().await.map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> DepotError {
    let path = path.to_owned();
    move |source| DepotError::Io { path, source }
}

/// A file that is being written; removed unless it is kept.
struct Part {
    path: PathBuf,
    armed: bool,
}

impl Part {
    fn new(target: &Path) -> io::Result<Self> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".{random:016x}{PART}"));
        Ok(Self { path: name.into(), armed: true })
    }

    fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "failed to remove a partial blob");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Piece = Result<Bytes, io::Error>;

    async fn put(depot: &Depot, want: Digest, length: u64, pieces: Vec<Piece>) -> DepotError {
        depot.put(&want, length, futures_util::stream::iter(pieces)).await.unwrap_err()
    }

    fn files(root: &Path) -> usize {
        let shelves = std::fs::read_dir(root.join("sha256")).unwrap();
        shelves.map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count()).sum()
    }

    #[tokio::test]
    async fn only_right_bytes_of_the_right_length_stay() {
        let place = tempfile::tempdir().unwrap();
        let depot = Depot::open(place.path()).unwrap();
        let good = || Ok(Bytes::from_static(b"hello"));
        let want = Digest::of(b"hello");
        let other = Digest::of(b"other");
        let error = put(&depot, other, 5, vec![good()]).await;
        assert!(matches!(error, DepotError::WrongDigest { got, .. } if got == want));
        let error = put(&depot, want, 4, vec![good()]).await;
        assert!(matches!(error, DepotError::TooLong(4)));
        let error = put(&depot, want, 6, vec![good()]).await;
        assert!(matches!(error, DepotError::TooShort { got: 5, want: 6 }));
        let broken = vec![good(), Err(io::ErrorKind::ConnectionReset.into())];
        assert!(matches!(put(&depot, want, 9, broken).await, DepotError::Receive(_)));
        let error = put(&depot, want, BLOB_MAX_BYTES + 1, vec![]).await;
        assert!(matches!(error, DepotError::TooLarge(_)));
        assert_eq!(files(place.path()), 0, "a refused blob leaves nothing");

        assert_eq!(depot.put_bytes(b"hello".to_vec()).await.unwrap(), want);
        let again = futures_util::stream::iter(vec![good()]);
        assert!(!depot.put(&want, 5, again).await.unwrap(), "kept before");
        assert_eq!(depot.read(&want, 5).await.unwrap().unwrap(), b"hello");
        assert_eq!(depot.read(&want, 4).await.unwrap(), None, "larger than asked for");
        assert_eq!(depot.size(&other).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_full_disk_is_said_with_what_is_free_and_what_is_wanted() {
        const MIB: u64 = 1024 * 1024;
        let text = DepotError::Full { free: 41 * MIB, want: 60 * MIB - 1 }.to_string();
        assert_eq!(
            text,
            "the coordinator's disk is full: 41 MiB free where 60 MiB are wanted, and 64 MiB are \
             kept for the ledger"
        );
        let place = tempfile::tempdir().unwrap();
        let mut depot = Depot::open(place.path()).unwrap();
        depot.keep_free_bytes = u64::MAX;
        let error = put(&depot, Digest::of(b"x"), 1, vec![Ok(Bytes::from_static(b"x"))]).await;
        assert!(matches!(error, DepotError::Full { want: 1, .. }), "{error}");
        assert_eq!(files(place.path()), 0);
        let late = |kind: io::ErrorKind| at(place.path())(kind.into());
        let told = depot.full_or(late(io::ErrorKind::StorageFull), (place.path(), 5));
        assert!(matches!(told, DepotError::Full { want: 5, .. }), "{told}");
        let told = depot.full_or(late(io::ErrorKind::NotFound), (place.path(), 5));
        assert!(matches!(told, DepotError::Io { .. }), "{told}");
    }

    #[tokio::test]
    async fn what_was_never_finished_is_gone_after_a_start() {
        let place = tempfile::tempdir().unwrap();
        let depot = Depot::open(place.path()).unwrap();
        let want = depot.put_bytes(b"x".to_vec()).await.unwrap();
        let part = depot.path(&want).with_extension("00.part");
        std::fs::write(&part, b"half").unwrap();
        Depot::open(place.path()).unwrap();
        assert!(!part.exists());
        assert_eq!(depot.size(&want).await.unwrap(), Some(1));
    }
}
