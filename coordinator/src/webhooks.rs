//! Asks webhooks whether a wave may open, and tells the driver what they answer. Decides nothing: no
//! answer, or one that cannot be read, is inconclusive, and leaves the gate shut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use groundswell_common::limits::TEXT_MAX_BYTES;
use groundswell_common::report::Verdict;
use groundswell_common::{RolloutId, chain};
use groundswell_net::tls::{self, ClientConfig, TlsError};
use groundswell_net::{NetError, connect};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::driver::{Handle, WebhookAsk};
use crate::files::{FileError, read};

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const ANSWER_MAX_BYTES: usize = 64 * 1024;
/// Webhooks asked at the same time; others wait.
const CALLS_MAX: usize = 16;
/// Longest sleep where nothing is to be asked.
const IDLE: Duration = Duration::from_secs(3_600);

/// How webhooks are asked.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Authorities that certificates of `https://` webhooks must come from, as PEM; read anew for each
    /// call, since the system replaces it.
    pub ca: PathBuf,
    /// From one question to the next about the same wave.
    pub again: Duration,
}

/// Why a webhook gave no verdict.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("read the authorities for webhooks; see webhook_ca in docs/operations.md")]
    Authorities(#[source] FileError),
    #[error("set up TLS for webhooks")]
    Tls(#[source] TlsError),
    #[error("use its address: it has no host")]
    Address,
    #[error("connect to it")]
    Connect(#[source] std::io::Error),
    #[error("connect to it over TLS 1.3")]
    ConnectTls(#[source] NetError),
    #[error("talk to it")]
    Http(#[source] hyper::Error),
    #[error("build the request")]
    Request(#[source] hyper::http::Error),
    #[error("write the question")]
    Write(#[source] serde_json::Error),
    #[error("hear from it within {} s", ANSWER.as_secs())]
    Silent,
    #[error("get a verdict: it answers {0}")]
    Status(StatusCode),
    #[error("read its answer, at most 65536 bytes")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(r#"understand its answer; want {{"verdict": "pass" | "fail" | "inconclusive", "why": "..."}}"#)]
    Json(#[source] serde_json::Error),
}

/// What a webhook answers.
#[derive(Debug, Deserialize)]
struct Answer {
    verdict: Verdict,
    #[serde(default)]
    why: String,
}

/// Asks whatever must be asked until `stop` is told.
pub async fn run(handle: Handle, caller: Caller, mut stop: watch::Receiver<bool>) {
    let mut changes = handle.changes();
    let mut next: BTreeMap<(RolloutId, u32), Instant> = BTreeMap::new();
    let mut calls = JoinSet::new();
    loop {
        changes.mark_unchanged();
        let Ok(asks) = handle.query(|desk| desk.webhooks()).await else { return };
        let key = |ask: &WebhookAsk| (ask.rollout.clone(), ask.wave);
        let open: Vec<_> = asks.iter().map(key).collect();
        next.retain(|asked, _| open.contains(asked));
        let now = Instant::now();
        for ask in asks {
            let due = next.get(&key(&ask)).is_none_or(|at| *at <= now);
            if due && calls.len() < CALLS_MAX {
                next.insert(key(&ask), now + caller.again.max(ANSWER));
                calls.spawn(one(handle.clone(), caller.clone(), ask));
            }
        }
        let wake = next.values().min().copied().unwrap_or(now + IDLE);
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            // A halt ends the question; after a resume it is asked anew, and at once.
            Some(done) = calls.join_next() => if let Ok(Some(halted)) = done {
                next.remove(&halted);
            },
            () = tokio::time::sleep_until(wake.max(now + Duration::from_millis(100))) => {}
            told = stop.changed() => if told.is_err() || *stop.borrow() { return },
        }
    }
}

/// One question and what follows from its answer; which one it was, where it halts the rollout.
async fn one(handle: Handle, caller: Caller, ask: WebhookAsk) -> Option<(RolloutId, u32)> {
    let answered = timeout(ANSWER, call(&caller, &ask)).await;
    let (verdict, why) = match answered.unwrap_or(Err(CallError::Silent)) {
        Ok(Answer { verdict, why }) => (verdict, why),
        Err(error) => {
            let why = format!("failed to {}", chain(&error));
            tracing::warn!(service = %ask.service, rollout = %ask.rollout, wave = ask.wave, %why, "webhook");
            (Verdict::Inconclusive, why)
        }
    };
    let mut why = why;
    why.truncate(why.floor_char_boundary(TEXT_MAX_BYTES));
    let WebhookAsk { rollout, wave, .. } = ask;
    let halted = (verdict == Verdict::Fail).then(|| (rollout.clone(), wave));
    let told = handle.change(move |desk| desk.webhook_answered(&rollout, wave, (verdict, why)));
    // The same answer again, and an answer that nobody waits for any more, change nothing.
    if let Ok(Err(refused)) = told.await {
        tracing::debug!(error = %chain(&refused), "a webhook's answer was not news");
    }
    halted
}

async fn call(caller: &Caller, ask: &WebhookAsk) -> Result<Answer, CallError> {
    let uri: Uri = ask.url.parse().map_err(|_| CallError::Address)?;
    let host = uri.host().ok_or(CallError::Address)?;
    let secure = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let address = format!("{host}:{port}");
    let body = serde_json::to_vec(ask).map_err(CallError::Write)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(CallError::Request)?;
    let response = if secure {
        let tls = tls_of(caller).await?;
        let stream = connect(&address, tls, ANSWER).await.map_err(CallError::ConnectTls)?;
        send(TokioIo::new(stream), request).await?
    } else {
        let stream = TcpStream::connect(&address).await.map_err(CallError::Connect)?;
        send(TokioIo::new(stream), request).await?
    };
    serde_json::from_slice(&response).map_err(CallError::Json)
}

async fn tls_of(caller: &Caller) -> Result<Arc<ClientConfig>, CallError> {
    let path = caller.ca.clone();
    let pem = tokio::task::spawn_blocking(move || read(&path)).await;
    let pem = pem.map_err(|_| CallError::Silent)?.map_err(CallError::Authorities)?;
    let authorities = tls::chain(&pem).map_err(CallError::Tls)?;
    let authorities: Vec<Vec<u8>> = authorities.iter().map(|der| der.to_vec()).collect();
    tls::client_config(&authorities, None).map_err(CallError::Tls)
}

/// Sends the request and reads the whole answer.
async fn send<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Bytes, CallError>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.map_err(CallError::Http)?;
    // The connection's own error reaches the caller through the request that it breaks.
    let connection = tokio::spawn(connection);
    let answered = async {
        let response = sender.send_request(request).await.map_err(CallError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(CallError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES).collect().await;
        Ok(body.map_err(CallError::Body)?.to_bytes())
    };
    let answered = answered.await;
    connection.abort();
    answered
}
