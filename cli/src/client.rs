//! The HTTP client of the coordinator's API: hyper over mutual TLS, one connection a call, a time-out
//! on everything. Knows routes' form, not their meaning.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use groundswell_common::api::{ErrorAnswer, ErrorBody, Profile};
use groundswell_net::tls::{self, ClientConfig, TlsError};
use groundswell_net::{NetError, connect};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::exit::Exit;

/// Longest wait for a connection.
const CONNECT_SECS: u64 = 10;
/// Longest wait for an answer. A halt may wait for permits, a large fleet takes a moment to list.
const ANSWER_SECS: u64 = 60;
/// Slowest upload that is borne, in bytes a second, on top of [`ANSWER_SECS`].
const UPLOAD_BYTES_PER_SEC: u64 = 32 * 1024;
/// Longest silence of an event stream before it is opened again, in seconds.
const EVENTS_SILENT_SECS: u64 = 60;
/// Largest answer that is read, in bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Longest event of a stream, in bytes.
const EVENT_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Bytes read from a file at once while uploading.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks read ahead of the network.
const CHUNKS_AHEAD: usize = 8;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The profile's certificates or key cannot be used.
    #[error("use the profile's certificates")]
    Tls(#[source] TlsError),
    /// No connection.
    #[error(
        "connect to the coordinator at {api}; is it running, and is the address right? Hosts go on meanwhile with \
         what they run"
    )]
    Connect {
        /// `HOST:PORT`.
        api: String,
        /// What went wrong.
        #[source]
        source: NetError,
    },
    /// The connection broke.
    #[error("talk to the coordinator at {api}")]
    Http {
        /// `HOST:PORT`.
        api: String,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
    /// The connection was closed, which says more than the library's words for it.
    #[error("talk to the coordinator at {api}: {why}")]
    Closed {
        /// `HOST:PORT`.
        api: String,
        /// What it means, and what to do.
        why: String,
    },
    /// The request cannot be built.
    #[error("build the request for {path}")]
    Request {
        /// The route.
        path: String,
        /// What is wrong with it.
        #[source]
        source: hyper::http::Error,
    },
    /// No answer in time.
    #[error("hear from the coordinator at {api} within {secs} s; try again")]
    Silent {
        /// `HOST:PORT`.
        api: String,
        /// The bound.
        secs: u64,
    },
    /// An answer larger than any, or one cut short.
    #[error("read the coordinator's answer to {path}")]
    Body {
        /// The route.
        path: String,
        /// What went wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is not the JSON of its route.
    #[error("understand the coordinator's answer to {path}; are swell and it of one version?")]
    Json {
        /// The route.
        path: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// The coordinator said no.
    #[error("call {path}: {} [{}]", .body.message, .body.code)]
    Api {
        /// The route.
        path: String,
        /// The status.
        status: StatusCode,
        /// What it says.
        body: ErrorBody,
    },
    /// The coordinator said no without saying why.
    #[error("call {path}: the coordinator answers {status}{}", hint(*status))]
    Status {
        /// The route.
        path: String,
        /// The status.
        status: StatusCode,
    },
}

/// What an answer without a word most likely means.
fn hint(status: StatusCode) -> &'static str {
    if status == StatusCode::FORBIDDEN {
        "; the role of this profile does not allow it, 'swell operator add' makes one whose role does"
    } else {
        ""
    }
}

impl ClientError {
    /// The exit code that belongs to it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Connect { .. }
            | Self::Http { .. }
            | Self::Closed { .. }
            | Self::Silent { .. } => Exit::Unreachable,
            Self::Api { status, .. } | Self::Status { status, .. } => {
                if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(status) {
                    Exit::Refused
                } else {
                    Exit::Failed
                }
            }
            Self::Tls(_) | Self::Request { .. } | Self::Body { .. } | Self::Json { .. } => {
                Exit::Failed
            }
        }
    }

    /// Whether waiting may mend it: the coordinator stops, starts, or cannot be reached now.
    pub(crate) fn passes(&self) -> bool {
        match self {
            Self::Connect { source, .. } => match source {
                NetError::Io { .. }
                | NetError::LookUp { .. }
                | NetError::Reach { .. }
                | NetError::Deadline { .. } => true,
                NetError::Address(_) | NetError::Frame { .. } | NetError::Codec { .. } => false,
            },
            Self::Http { .. } | Self::Closed { .. } | Self::Silent { .. } | Self::Body { .. } => {
                true
            }
            Self::Api { status, .. } | Self::Status { status, .. } => status.is_server_error(),
            Self::Tls(_) | Self::Request { .. } | Self::Json { .. } => false,
        }
    }

    /// Whether the coordinator does not know what was asked for.
    pub(crate) fn is_missing(&self) -> bool {
        if let Self::Api { status, .. } | Self::Status { status, .. } = self {
            *status == StatusCode::NOT_FOUND
        } else {
            false
        }
    }

    /// The API's code, where it gave one.
    pub(crate) fn code(&self) -> Option<&str> {
        if let Self::Api { body, .. } = self { Some(&body.code) } else { None }
    }

    /// What to do about it, where the API said so.
    pub(crate) fn hint(&self) -> Option<&str> {
        if let Self::Api { body, .. } = self {
            Some(body.hint.as_str()).filter(|hint| !hint.is_empty())
        } else {
            None
        }
    }
}

/// A client with the operator's identity.
#[derive(Clone)]
pub(crate) struct Client {
    api: String,
    tls: Arc<ClientConfig>,
}

impl Client {
    /// A client for the coordinator that the profile names.
    pub(crate) fn new(profile: &Profile) -> Result<Self, ClientError> {
        let authorities: Vec<Vec<u8>> = tls::chain(&profile.ca_pem)
            .map_err(ClientError::Tls)?
            .iter()
            .map(|certificate| certificate.to_vec())
            .collect();
        let identity = (profile.certificate_pem.as_str(), profile.key_pem.as_str());
        let tls = tls::client_config(&authorities, Some(identity)).map_err(ClientError::Tls)?;
        Ok(Self { api: profile.api.clone(), tls })
    }

    /// GET of a JSON answer.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.answer(Method::GET, path, Bytes::new()).await
    }

    /// POST of a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body)
            .map_err(|source| ClientError::Json { path: path.to_owned(), source })?;
        self.answer(Method::POST, path, json.into()).await
    }

    /// PUT of text.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        text: String,
    ) -> Result<T, ClientError> {
        self.answer(Method::PUT, path, text.into()).await
    }

    /// DELETE; the answer's body is of no interest.
    pub(crate) async fn delete(&self, path: &str) -> Result<(), ClientError> {
        let response = self.send(Method::DELETE, path, Upload::whole(Bytes::new())).await?;
        self.succeeded(path, response).await.map(drop)
    }

    /// Whether the coordinator has the resource.
    pub(crate) async fn head(&self, path: &str) -> Result<bool, ClientError> {
        let response = self.send(Method::HEAD, path, Upload::whole(Bytes::new())).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            status => Err(ClientError::Status { path: path.to_owned(), status }),
        }
    }

    /// PUT of a file's `size` bytes; `sent` is told of each chunk.
    pub(crate) async fn upload(
        &self,
        path: &str,
        (file, size): (tokio::fs::File, u64),
        sent: impl FnMut(u64) + Send + 'static,
    ) -> Result<(), ClientError> {
        let body = Upload::file(file, size, sent);
        let secs = ANSWER_SECS + size / UPLOAD_BYTES_PER_SEC;
        let call = async {
            let response = self.send(Method::PUT, path, body).await?;
            self.succeeded(path, response).await.map(drop)
        };
        timeout(Duration::from_secs(secs), call)
            .await
            .map_err(|_| ClientError::Silent { api: self.api.clone(), secs })?
    }

    /// Opens a stream of server-sent events.
    pub(crate) async fn events(&self, path: &str) -> Result<Events, ClientError> {
        let call = self.send(Method::GET, path, Upload::whole(Bytes::new()));
        let response = self.in_time(call).await?;
        let response = if response.status().is_success() {
            response
        } else {
            return Err(self.refusal(path, response).await);
        };
        let (api, path) = (self.api.clone(), path.to_owned());
        Ok(Events { body: response.into_body(), rest: Vec::new(), api, path })
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let call = async {
            let response = self.send(method, path, Upload::whole(body)).await?;
            self.succeeded(path, response).await
        };
        let bytes = self.in_time(call).await?;
        serde_json::from_slice(&bytes)
            .map_err(|source| ClientError::Json { path: path.to_owned(), source })
    }

    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        timeout(Duration::from_secs(ANSWER_SECS), call)
            .await
            .map_err(|_| ClientError::Silent { api: self.api.clone(), secs: ANSWER_SECS })?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Upload,
    ) -> Result<Response<Incoming>, ClientError> {
        let api = || self.api.clone();
        let deadline = Duration::from_secs(CONNECT_SECS);
        let stream = connect(&self.api, self.tls.clone(), deadline)
            .await
            .map_err(|source| ClientError::Connect { api: api(), source })?;
        let broken = |source| match groundswell_net::meaning(&source) {
            Some(why) => ClientError::Closed { api: api(), why },
            None => ClientError::Http { api: api(), source },
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // The connection's own error reaches the caller through the request that it breaks.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.api)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|source| ClientError::Request { path: path.to_owned(), source })?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn succeeded(
        &self,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<Bytes, ClientError> {
        if !response.status().is_success() {
            return Err(self.refusal(path, response).await);
        }
        read(path, response).await
    }

    async fn refusal(&self, path: &str, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        match read(path, response).await {
            Ok(bytes) => match serde_json::from_slice::<ErrorAnswer>(&bytes) {
                Ok(answer) => {
                    ClientError::Api { path: path.to_owned(), status, body: answer.error }
                }
                Err(_) => ClientError::Status { path: path.to_owned(), status },
            },
            Err(error) => error,
        }
    }
}

async fn read(path: &str, response: Response<Incoming>) -> Result<Bytes, ClientError> {
    Limited::new(response.into_body(), ANSWER_MAX_BYTES)
        .collect()
        .await
        .map(|body| body.to_bytes())
        .map_err(|source| ClientError::Body { path: path.to_owned(), source })
}

/// A body: bytes at hand, or a file read chunk by chunk by a task of its own.
struct Upload {
    whole: Option<Bytes>,
    chunks: Option<mpsc::Receiver<io::Result<Bytes>>>,
    left: u64,
}

impl Upload {
    fn whole(bytes: Bytes) -> Self {
        let left = bytes.len() as u64;
        Self { whole: Some(bytes).filter(|bytes| !bytes.is_empty()), chunks: None, left }
    }

    fn file(
        mut file: tokio::fs::File,
        size: u64,
        mut sent: impl FnMut(u64) + Send + 'static,
    ) -> Self {
        let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
        tokio::spawn(async move {
            let mut buffer = vec![0; CHUNK_BYTES];
            loop {
                let read = file.read(&mut buffer).await;
                let chunk = match read {
                    Ok(0) => break,
                    Ok(count) => {
                        sent(count as u64);
                        Ok(Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default()))
                    }
                    Err(error) => Err(error),
                };
                // A receiver that is gone means that the request is over; it says why.
                if chunks.send(chunk).await.is_err() {
                    break;
                }
            }
        });
        Self { whole: None, chunks: Some(receiver), left: size }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(bytes) = self.whole.take() {
            self.left = 0;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(chunks) = self.chunks.as_mut() else { return Poll::Ready(None) };
        chunks.poll_recv(context).map(|chunk| {
            chunk.map(|bytes| {
                let bytes = bytes?;
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Ok(Frame::data(bytes))
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A stream of server-sent events with JSON data.
pub(crate) struct Events {
    body: Incoming,
    rest: Vec<u8>,
    api: String,
    path: String,
}

impl Events {
    /// The next event's data; `None` when the coordinator closed the stream. May be dropped and called again.
    pub(crate) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(data) = take_event(&mut self.rest) {
                return serde_json::from_str(&data)
                    .map(Some)
                    .map_err(|source| ClientError::Json { path: self.path.clone(), source });
            }
            let silence = Duration::from_secs(EVENTS_SILENT_SECS);
            let silent = || ClientError::Silent { api: self.api.clone(), secs: EVENTS_SILENT_SECS };
            let frame = timeout(silence, self.body.frame()).await.map_err(|_| silent())?;
            let Some(frame) = frame else { return Ok(None) };
            let frame =
                frame.map_err(|source| ClientError::Http { api: self.api.clone(), source })?;
            if let Ok(bytes) = frame.into_data() {
                self.rest.extend_from_slice(&bytes);
            }
            if self.rest.len() > EVENT_MAX_BYTES {
                let source = "an event is over 4 MiB".into();
                return Err(ClientError::Body { path: self.path.clone(), source });
            }
        }
    }
}

/// Takes the data of the first whole event that has any; comments and other fields are dropped.
fn take_event(rest: &mut Vec<u8>) -> Option<String> {
    loop {
        let (end, mark) = end_of_event(rest)?;
        let event: Vec<u8> = rest.drain(..end + mark).take(end).collect();
        let text = String::from_utf8_lossy(&event);
        let data: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.strip_prefix(' ').unwrap_or(data))
            .collect();
        if !data.is_empty() {
            return Some(data.join("\n"));
        }
    }
}

/// Where the first empty line stands, and how long its mark is.
fn end_of_event(bytes: &[u8]) -> Option<(usize, usize)> {
    let find = |mark: &[u8]| bytes.windows(mark.len()).position(|window| window == mark);
    let (plain, dos) = (find(b"\n\n"), find(b"\r\n\r\n"));
    match (plain, dos) {
        (Some(plain), Some(dos)) if dos < plain => Some((dos, 4)),
        (Some(plain), _) => Some((plain, 2)),
        (None, Some(dos)) => Some((dos, 4)),
        (None, None) => None,
    }
}

/// A text as one part of a route: everything but plain characters percent-encoded.
pub(crate) fn part(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parted_joined_and_comments_dropped() {
        let mut rest =
            b": hello\n\nevent: x\ndata: {\"a\":\ndata: 1}\n\ndata:2\r\n\r\ndata: 3\n".to_vec();
        assert_eq!(take_event(&mut rest).as_deref(), Some("{\"a\":\n1}"));
        assert_eq!(take_event(&mut rest).as_deref(), Some("2"));
        assert_eq!(take_event(&mut rest), None, "an event without its empty line is not whole");
        rest.push(b'\n');
        assert_eq!(take_event(&mut rest).as_deref(), Some("3"));
        assert!(rest.is_empty());
    }

    #[test]
    fn parts_of_routes_are_encoded() {
        assert_eq!(part("shop@1.0.0"), "shop@1.0.0");
        assert_eq!(part("role in (a,b)/ü"), "role%20in%20%28a%2Cb%29%2F%C3%BC");
    }

    #[test]
    fn refusals_have_their_exit_codes() {
        let api = |status| ClientError::Api {
            path: "/v1/status".into(),
            status,
            body: ErrorBody { code: "x".into(), message: "m".into(), hint: "h".into() },
        };
        assert_eq!(api(StatusCode::FORBIDDEN).exit(), Exit::Refused);
        assert_eq!(api(StatusCode::UNAUTHORIZED).exit(), Exit::Refused);
        assert_eq!(api(StatusCode::CONFLICT).exit(), Exit::Failed);
        assert_eq!(api(StatusCode::CONFLICT).hint(), Some("h"));
        let silent = ClientError::Silent { api: "a:1".into(), secs: 1 };
        assert_eq!(silent.exit(), Exit::Unreachable);
    }
}
