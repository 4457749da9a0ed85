//! GET of an `http://` or `https://` URL: the status that is wanted passes, or any from 200 to 299. The body is
//! not read. A certificate is always checked: against the authorities that the probe names, and no other.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use groundswell_net::tls::{ClientConfig, chain, client_config};
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::ProbeError;

/// Bytes held of an answer's head.
const BUFFER_BYTES: usize = 16 * 1024;
/// A bundle of all public authorities has a quarter of it.
const CA_MAX_BYTES: usize = 1024 * 1024;

/// What is asked, and what passes.
pub(super) struct Get<'a> {
    pub(super) url: &'a str,
    /// 0 for any success.
    pub(super) status: u16,
    /// The authorities of an `https://` URL.
    pub(super) ca: Option<&'a Path>,
    pub(super) time: Duration,
}

pub(super) async fn get(get: Get<'_>) -> Result<(), ProbeError> {
    let what = || get.url.to_owned();
    let uri: Uri = get.url.parse().map_err(|_| ProbeError::Url(what()))?;
    let authority = uri.authority().ok_or_else(|| ProbeError::Url(what()))?;
    let address = |port| match authority.port_u16() {
        Some(_) => authority.as_str().to_owned(),
        None => format!("{authority}:{port}"),
    };
    let status = match get.ca {
        None => {
            let io = |source| ProbeError::Io { what: what(), source };
            ask(TcpStream::connect(address(80)).await.map_err(io)?, &uri, get.url).await?
        }
        Some(ca) => {
            let tls = trusting(ca, get.url)?;
            let net = |source| ProbeError::Net { what: what(), source };
            let stream = groundswell_net::connect(&address(443), tls, get.time).await;
            ask(stream.map_err(net)?, &uri, get.url).await?
        }
    };
    let good = match get.status {
        0 => status.is_success(),
        wanted => status.as_u16() == wanted,
    };
    if good { Ok(()) } else { Err(ProbeError::Status { what: what(), status: status.as_u16() }) }
}

/// Trust in the authorities of a PEM file.
fn trusting(ca: &Path, url: &str) -> Result<Arc<ClientConfig>, ProbeError> {
    let authority =
        |source| ProbeError::Authority { what: url.to_owned(), path: ca.to_owned(), source };
    let bytes = crate::durable::read(ca, CA_MAX_BYTES).map_err(|fault| authority(fault.source))?;
    let bytes = bytes.ok_or_else(|| authority(std::io::ErrorKind::NotFound.into()))?;
    let tls = |source| ProbeError::Tls { what: url.to_owned(), source };
    let authorities = chain(&String::from_utf8_lossy(&bytes)).map_err(tls)?;
    let authorities: Vec<Vec<u8>> = authorities.iter().map(|der| der.to_vec()).collect();
    client_config(&authorities, None).map_err(tls)
}

async fn ask<S>(stream: S, uri: &Uri, url: &str) -> Result<StatusCode, ProbeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |source| ProbeError::Http { what: url.to_owned(), source };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(USER_AGENT, "groundswell-agent")
        .body(Empty::<Bytes>::new())
        .map_err(|_| ProbeError::Url(url.to_owned()))?;
    // Driven here and not in a task of its own: a try that is given up leaves nothing behind.
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut asked => answer,
        // A server may answer and then close without a word: what counts is the answer.
        _closed = &mut connection => asked.await,
    };
    Ok(answer.map_err(http)?.status())
}
