//! GET of an `http://` URL: a status from 200 to 299 passes. The body is not read.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::ProbeError;

/// Bytes held of an answer's head.
const BUFFER_BYTES: usize = 16 * 1024;

pub(super) async fn get(url: &str) -> Result<(), ProbeError> {
    let bad = || ProbeError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let authority = uri.authority().ok_or_else(bad)?;
    let address = match authority.port_u16() {
        Some(_) => authority.as_str().to_owned(),
        None => format!("{authority}:80"),
    };
    let stream = TcpStream::connect(&address)
        .await
        .map_err(|source| ProbeError::Io { what: url.to_owned(), source })?;
    let http = |source| ProbeError::Http { what: url.to_owned(), source };
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(http)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, "groundswell-agent")
        .body(Empty::<Bytes>::new())
        .map_err(|_| bad())?;
    // Driven here and not in a task of its own: a try that is given up leaves nothing behind.
    let mut connection = std::pin::pin!(connection);
    let mut asked = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut asked => answer,
        driven = &mut connection => {
            driven.map_err(http)?;
            asked.await
        }
    };
    let status = answer.map_err(http)?.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(ProbeError::Status { what: url.to_owned(), status: status.as_u16() })
    }
}
