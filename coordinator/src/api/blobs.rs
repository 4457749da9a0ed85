//! Uploads: streamed to disk, hashed on the way.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use groundswell_common::Digest;

use super::{Api, ApiError, read};
use crate::depot::DepotError;

/// Longest silence of an uploading client.
const STALL_DEADLINE: Duration = Duration::from_secs(60);

/// How long the rest of a refused upload is read and thrown away.
const LINGER: Duration = Duration::from_secs(10);

pub(super) async fn size(
    State(api): State<Api>,
    Path(digest): Path<String>,
) -> Result<Response, ApiError> {
    let digest: Digest = read::name(&digest)?;
    match api.depot.size(&digest).await {
        Ok(Some(size)) => Ok([("x-blob-bytes", size.to_string())].into_response()),
        Ok(None) => {
            let texts = ("the blob is not in the depot", "upload it");
            Err(ApiError::new(StatusCode::NOT_FOUND, "unknown_blob", texts))
        }
        Err(error) => Err(ApiError::fault(&error)),
    }
}

pub(super) async fn upload(
    State(api): State<Api>,
    Path(digest): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let digest: Digest = read::name(&digest)?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let Some(length) = length.and_then(|text| text.parse().ok()) else {
        let texts = ("the upload has no Content-Length", "send the size of the blob");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "no_length", texts));
    };
    let mut stream =
        Box::pin(futures_util::stream::unfold(body.into_data_stream(), |mut stream| async move {
            let piece = match tokio::time::timeout(STALL_DEADLINE, stream.next()).await {
                Ok(piece) => piece?.map_err(std::io::Error::other),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            };
            Some((piece, stream))
        }));
    match api.depot.put(&digest, length, &mut stream).await {
        Ok(true) => Ok(StatusCode::CREATED),
        Ok(false) => Ok(StatusCode::OK),
        Err(error) => {
            // Closed while the client still writes, the connection would be reset and the answer lost with
            // it. The client reads the answer meanwhile and hangs up.
            let rest = async move { while let Some(Ok(_)) = stream.next().await {} };
            tokio::spawn(tokio::time::timeout(LINGER, rest));
            Err(refused(&error))
        }
    }
}

pub(super) fn refused(error: &DepotError) -> ApiError {
    let (status, code) = match error {
        DepotError::Full { .. } => {
            tracing::error!(%error, "a blob was refused");
            let hint = "make room on its machine (docs/operations.md, O6.3), then publish again";
            let texts = (error.to_string(), hint);
            return ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", texts);
        }
        DepotError::Io { .. } => return ApiError::fault(error),
        DepotError::Receive(_) => (StatusCode::BAD_REQUEST, "receive"),
        DepotError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
        DepotError::TooLong(_) | DepotError::TooShort { .. } => {
            (StatusCode::BAD_REQUEST, "wrong_length")
        }
        DepotError::WrongDigest { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "wrong_digest"),
    };
    ApiError::new(status, code, (error.to_string(), "send exactly the bytes that were announced"))
}
