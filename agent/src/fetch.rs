//! Brings blobs by plain HTTP GET: resumed, hashed while written, capped, with time-outs and a minimum
//! rate. Nothing that it fetches is trusted before its digest fits.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use groundswell_common::wire::Backoff;
use groundswell_common::{Digest, Hasher};
use groundswell_net::{NetError, Retry, connect_plain};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_RANGE, HOST, RANGE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};

use crate::cancel::Cancel;
use crate::durable::{self, Fault, at};
use crate::layout::Layout;
use crate::live::Live;
use crate::ports::{Depot, Work};

/// Bytes held of one response, and of a file that is hashed again.
const BUFFER_BYTES: usize = 64 * 1024;
const CONNECT: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(30);
/// A transfer that brings fewer than `RATE_MIN_BYTES` in this time is started again elsewhere in time.
const RATE_WINDOW: Duration = Duration::from_secs(30);
const RATE_MIN_BYTES: u64 = 16 * 1024;
/// Tries in a row that brought nothing after which whoever wants the blob is told why. What came is kept.
const VAIN_MAX: u32 = 4;
/// Wrong contents in a row after which a blob is given up.
const MISMATCHES_MAX: u32 = 3;
const WAITS: Backoff = Backoff { base_ms: 500, cap_ms: 30_000 };

/// Why a blob cannot be brought.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Not `http://HOST:PORT`.
    #[error("read the blob address {0:?}: want http://HOST:PORT")]
    Address(String),
    /// The depot cannot be reached or stopped answering.
    #[error("fetch from {peer}")]
    Io {
        peer: String,
        #[source]
        source: std::io::Error,
    },
    /// No address of the depot takes a connection.
    #[error("fetch a blob")]
    Net(#[source] NetError),
    /// The HTTP connection broke.
    #[error("fetch from {peer}")]
    Http {
        peer: String,
        #[source]
        source: hyper::Error,
    },
    /// An answer that is neither the blob nor the rest of it.
    #[error("fetch {digest}: the depot answered {status}{}", unanswered(*.status))]
    Status { digest: Digest, status: StatusCode },
    /// Too slow, or silent.
    #[error("fetch {0}: under 16 KiB in 30 s")]
    Slow(Digest),
    /// More bytes than the blob has.
    #[error("fetch {digest}: more than {limit_bytes} bytes came")]
    TooLarge { digest: Digest, limit_bytes: u64 },
    /// What the network side says of its own attempt, or what it put into the spool instead of a file.
    #[error("fetch {digest}: {why}")]
    Relayed { digest: Digest, why: Box<str> },
    /// Other bytes than the digest names.
    #[error("fetch {0}: other bytes came; a cache or the depot is damaged")]
    Mismatch(Digest),
    /// The spool failed.
    #[error("fetch a blob")]
    Fault(#[from] Fault),
    /// The work is no longer wanted.
    #[error("fetch a blob: no longer wanted")]
    Cancelled,
}

/// What a person does about an answer that has no bytes.
fn unanswered(status: StatusCode) -> &'static str {
    if status == StatusCode::NOT_FOUND {
        "; 'swell publish' of the same files brings it back"
    } else {
        "; is a proxy in the way?"
    }
}

impl FetchError {
    /// Whether trying again can help without anybody's doing.
    fn passes(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::Net(_)
            | Self::Http { .. }
            | Self::Status { .. }
            | Self::Slow(_)
            | Self::Mismatch(_) => true,
            Self::Relayed { .. }
            | Self::Address(_)
            | Self::TooLarge { .. }
            | Self::Fault(_)
            | Self::Cancelled => false,
        }
    }
}

/// Blobs over HTTP. The base address may change with each session.
#[derive(Debug)]
pub(crate) struct HttpDepot {
    layout: Layout,
    base: Mutex<String>,
    /// Who says how fast; `None` for no limit.
    settings: Option<Live>,
}

impl HttpDepot {
    pub(crate) fn new(layout: Layout, base: &str, settings: Option<Live>) -> Self {
        Self { layout, base: Mutex::new(base.to_owned()), settings }
    }

    fn base(&self) -> String {
        self.base.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    async fn bring(
        &self,
        digest: &Digest,
        limit_bytes: u64,
        cancel: &Cancel,
    ) -> Result<File, FetchError> {
        let (mut retry, mut mismatches) = (Retry::new(WAITS), 0);
        let (mut most, mut vain) = (0, 0);
        loop {
            let part = Part::open(&self.layout, digest).await?;
            // What came in the last try is a reason to go on.
            if part.have > most {
                (most, vain) = (part.have, 0);
                retry.reset();
            }
            let error = match self.once(part, digest, limit_bytes, cancel).await {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            if matches!(error, FetchError::Mismatch(_)) {
                mismatches += 1;
                self.discard(digest);
            }
            vain += 1;
            if !error.passes() || mismatches >= MISMATCHES_MAX || vain >= VAIN_MAX {
                return Err(error);
            }
            let wait = retry.next_wait();
            tracing::debug!(blob = %digest.short(), ?wait, error = %groundswell_common::chain(&error),
                "the transfer broke; trying again");
            tokio::select! {
                () = sleep(wait) => {}
                () = cancel.cancelled() => return Err(FetchError::Cancelled),
            }
        }
    }

    async fn once(
        &self,
        mut part: Part,
        digest: &Digest,
        limit_bytes: u64,
        cancel: &Cancel,
    ) -> Result<File, FetchError> {
        if part.have > limit_bytes {
            part.restart()?;
        }
        if part.have > 0 && part.hasher.clone().finish() == *digest {
            return part.done(digest);
        }
        let base = self.base();
        tokio::select! {
            moved = self.transfer(&base, &mut part, digest, limit_bytes) => moved?,
            () = cancel.cancelled() => return Err(FetchError::Cancelled),
        }
        part.done(digest)
    }

    async fn transfer(
        &self,
        base: &str,
        part: &mut Part,
        digest: &Digest,
        limit_bytes: u64,
    ) -> Result<(), FetchError> {
        let authority = authority(base)?;
        let mut response = get(&authority, digest, part.have).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(&response, part.have) => {}
            StatusCode::OK => part.restart()?,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                // What is here is as long as the blob and is not it.
                return Err(FetchError::Mismatch(*digest));
            }
            status => return Err(FetchError::Status { digest: *digest, status }),
        }
        // What is in force as the transfer begins.
        let rate = self.settings.as_ref().and_then(|live| live.now().bandwidth_bytes_per_sec);
        let mut pace = Pace::new(rate);
        loop {
            let frame = match timeout(RATE_WINDOW, response.body_mut().frame()).await {
                Err(_) => return Err(FetchError::Slow(*digest)),
                Ok(None) => return Ok(()),
                Ok(Some(frame)) => frame.map_err(|source| http(&authority, source))?,
            };
            let Ok(bytes) = frame.into_data() else { continue };
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if part.have.saturating_add(size) > limit_bytes {
                part.restart()?;
                return Err(FetchError::TooLarge { digest: *digest, limit_bytes });
            }
            part.take(&bytes)?;
            if !pace.moved(size).await {
                return Err(FetchError::Slow(*digest));
            }
        }
    }
}

impl Depot for HttpDepot {
    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        limit_bytes: u64,
        cancel: &'a Cancel,
    ) -> Work<'a, Result<File, FetchError>> {
        Box::pin(self.bring(digest, limit_bytes, cancel))
    }

    fn discard(&self, digest: &Digest) {
        if let Err(error) = durable::remove(&self.layout.part(digest)) {
            tracing::warn!(error = %groundswell_common::chain(&error), "a blob stays in the spool");
        }
    }

    fn clear(&self) -> Result<(), Fault> {
        durable::remove_tree(&self.layout.spool())
    }

    fn set_base(&self, base: &str) {
        let mut held = self.base.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.as_str() != base {
            base.clone_into(&mut held);
        }
    }
}

/// The `HOST:PORT` of `http://HOST:PORT`.
fn authority(base: &str) -> Result<String, FetchError> {
    let bad = || FetchError::Address(base.to_owned());
    let rest = base.strip_prefix("http://").ok_or_else(bad)?.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '@', ' ']) {
        return Err(bad());
    }
    Ok(if rest.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        rest.to_owned()
    } else {
        format!("{rest}:80")
    })
}

fn http(peer: &str, source: hyper::Error) -> FetchError {
    FetchError::Http { peer: peer.to_owned(), source }
}

async fn get(peer: &str, digest: &Digest, from: u64) -> Result<Response<Incoming>, FetchError> {
    let io = |source| FetchError::Io { peer: peer.to_owned(), source };
    let late = || io(std::io::Error::from(std::io::ErrorKind::TimedOut));
    let stream = TokioIo::new(connect_plain(peer, CONNECT).await.map_err(FetchError::Net)?);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake(stream)
        .await
        .map_err(|source| http(peer, source))?;
    // The connection ends with the response; its error comes out of the body as well.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "a depot connection ended");
        }
    });
    let mut request = Request::get(format!("/blobs/sha256/{digest}")).header(HOST, peer);
    if from > 0 {
        request = request.header(RANGE, format!("bytes={from}-"));
    }
    let request =
        request.body(Empty::<Bytes>::new()).map_err(|_| FetchError::Address(peer.to_owned()))?;
    timeout(ANSWER, sender.send_request(request))
        .await
        .map_err(|_| late())?
        .map_err(|source| http(peer, source))
}

/// Whether a partial answer begins where it was asked to.
fn starts_at(response: &Response<Incoming>, from: u64) -> bool {
    response
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("bytes "))
        .and_then(|value| value.split_once('-'))
        .is_some_and(|(start, _)| start.parse() == Ok(from))
}

/// Keeps a transfer above the minimum and below the configured rate.
struct Pace {
    bytes_per_sec: Option<u64>,
    started: Instant,
    total_bytes: u64,
    window: Instant,
    window_bytes: u64,
}

impl Pace {
    fn new(bytes_per_sec: Option<u64>) -> Self {
        let now = Instant::now();
        Self { bytes_per_sec, started: now, total_bytes: 0, window: now, window_bytes: 0 }
    }

    /// Counts what came; `false` when too little came in the last window.
    async fn moved(&mut self, bytes: u64) -> bool {
        self.total_bytes = self.total_bytes.saturating_add(bytes);
        self.window_bytes = self.window_bytes.saturating_add(bytes);
        if self.window.elapsed() > RATE_WINDOW {
            if self.window_bytes < RATE_MIN_BYTES && self.bytes_per_sec.is_none() {
                return false;
            }
            (self.window, self.window_bytes) = (Instant::now(), 0);
        }
        if let Some(rate) = self.bytes_per_sec {
            let due_ms = self.total_bytes.saturating_mul(1000) / rate.max(1);
            let due = self.started + Duration::from_millis(due_ms);
            tokio::time::sleep_until(due).await;
        }
        true
    }
}

/// A blob in the spool, as far as it came.
struct Part {
    path: PathBuf,
    file: File,
    have: u64,
    hasher: Hasher,
}

impl Part {
    /// Opens what is there and hashes it again: nothing on disk is believed.
    async fn open(layout: &Layout, digest: &Digest) -> Result<Self, FetchError> {
        let path = layout.part(digest);
        durable::make_dir(&layout.spool(), 0o750)?;
        let opened = {
            let path = path.clone();
            tokio::task::spawn_blocking(move || Self::hash_again(&path))
        };
        match opened.await {
            Ok(part) => Ok(part?),
            Err(_) => Err(FetchError::Cancelled),
        }
    }

    fn hash_again(path: &Path) -> Result<Self, Fault> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Where two processes share the work, the one that stages is in the group of the one that fetches.
            .mode(0o640)
            .custom_flags(durable::no_links())
            .open(path)
            .map_err(at("open", path))?;
        let (mut hasher, mut have) = (Hasher::new(), 0_u64);
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = file.read(&mut buffer).map_err(at("read", path))?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { break };
            hasher.update(piece);
            have = have.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        }
        Ok(Self { path: path.to_owned(), file, have, hasher })
    }

    fn restart(&mut self) -> Result<(), Fault> {
        self.file.set_len(0).map_err(at("empty", &self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(at("rewind", &self.path))?;
        (self.have, self.hasher) = (0, Hasher::new());
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.file.write_all(bytes).map_err(at("write", &self.path))?;
        self.hasher.update(bytes);
        self.have = self.have.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// The verified file, read from its start.
    fn done(mut self, digest: &Digest) -> Result<File, FetchError> {
        if self.hasher.clone().finish() != *digest {
            return Err(FetchError::Mismatch(*digest));
        }
        self.file.seek(SeekFrom::Start(0)).map_err(at("rewind", &self.path))?;
        Ok(self.file)
    }
}

#[cfg(test)]
mod tests;
