//! One JSON request over TLS to the coordinator's API. For enrolment and renewal only.

use std::time::Duration;

use groundswell_common::api::ErrorAnswer;
use groundswell_net::{NetError, Untimely, connect};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::identity::Tls;

const DEADLINE: Duration = Duration::from_secs(30);
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// Why the API did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpsError {
    /// The coordinator cannot be reached.
    #[error("ask the coordinator")]
    Net(#[source] NetError),
    /// The connection broke or spoke no HTTP.
    #[error("ask the coordinator at {peer}")]
    Http {
        peer: String,
        #[source]
        source: hyper::Error,
    },
    /// No answer in time, or one too large.
    #[error("ask the coordinator at {0}: no usable answer within 30 s")]
    Silent(String),
    /// The coordinator says no.
    #[error("ask the coordinator: {message} ({code}); {hint}")]
    Refused { status: u16, code: String, message: String, hint: String },
    /// An answer of another form.
    #[error("read the coordinator's answer (status {status})")]
    Form {
        status: u16,
        #[source]
        source: serde_json::Error,
    },
}

impl HttpsError {
    /// Whether the coordinator's certificate was refused for its time.
    pub(crate) fn untimely(&self) -> Option<Untimely> {
        match self {
            Self::Net(error) => error.untimely(),
            Self::Http { .. } | Self::Silent(_) | Self::Refused { .. } | Self::Form { .. } => None,
        }
    }

    /// Whether the same request may be answered later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Net(_) | Self::Http { .. } | Self::Silent(_) => true,
            Self::Refused { status, .. } | Self::Form { status, .. } => *status >= 500,
        }
    }
}

/// Posts `body` and reads the answer.
pub(crate) async fn post<T: DeserializeOwned>(
    address: &str,
    path: &str,
    body: Vec<u8>,
    tls: Tls,
) -> Result<T, HttpsError> {
    let silent = || HttpsError::Silent(address.to_owned());
    let work = ask(address, path, body, tls);
    let (status, bytes) = tokio::time::timeout(DEADLINE, work).await.map_err(|_| silent())??;
    let form = |source| HttpsError::Form { status, source };
    if (200..300).contains(&status) {
        return serde_json::from_slice(&bytes).map_err(form);
    }
    let answer: ErrorAnswer = serde_json::from_slice(&bytes).map_err(form)?;
    let error = answer.error;
    let (code, message, hint) = (error.code, error.message, error.hint);
    Err(HttpsError::Refused { status, code, message, hint })
}

async fn ask(
    address: &str,
    path: &str,
    body: Vec<u8>,
    tls: Tls,
) -> Result<(u16, Bytes), HttpsError> {
    let silent = || HttpsError::Silent(address.to_owned());
    let http = |source| HttpsError::Http { peer: address.to_owned(), source };
    let stream = connect(address, tls, DEADLINE).await.map_err(HttpsError::Net)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let driven = tokio::spawn(connection);
    let request = Request::post(path)
        .header(HOST, address)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| silent())?;
    let response = sender.send_request(request).await.map_err(http)?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_MAX_BYTES);
    let bytes = body.collect().await.map_err(|_| silent())?.to_bytes();
    drop(sender);
    driven.abort();
    Ok((status, bytes))
}
