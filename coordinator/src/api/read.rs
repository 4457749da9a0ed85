//! Reads requests: bounded bodies, names in paths, queries. Everything unreadable has its typed error.

use axum::body::{Body, to_bytes};
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use bytes::Bytes;
use groundswell_common::api::WhyRequest;
use serde::de::DeserializeOwned;

use super::ApiError;

/// Largest JSON request, in bytes, where a route says nothing else.
pub(super) const JSON_MAX_BYTES: usize = 64 * 1024;
/// Longest reason, in bytes.
const WHY_MAX_BYTES: usize = 1_024;

/// A body of at most `limit_bytes`.
pub(super) async fn bytes(body: Body, limit_bytes: usize) -> Result<Bytes, ApiError> {
    to_bytes(body, limit_bytes).await.map_err(|error| {
        let texts = (
            format!("the body cannot be read within {limit_bytes} bytes: {error}"),
            "send less, or send it again",
        );
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", texts)
    })
}

/// A JSON body of at most 64 KiB.
pub(super) async fn json<T: DeserializeOwned>(body: Body) -> Result<T, ApiError> {
    let bytes = bytes(body, JSON_MAX_BYTES).await?;
    serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid("read the body", &error))
}

/// A name in the path.
pub(super) fn name<T>(text: &str) -> Result<T, ApiError>
where
    T: std::str::FromStr,
    T::Err: std::error::Error,
{
    text.parse().map_err(|error: T::Err| ApiError::invalid("read the path", &error))
}

/// A query.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    match query {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(ApiError::invalid("read the query", &error)),
    }
}

/// A reason given by a person: 1 to 1,024 bytes.
pub(super) fn why(text: &str) -> Result<String, ApiError> {
    let text = text.trim();
    if (1..=WHY_MAX_BYTES).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    let texts = ("why must be 1 to 1024 bytes", "give a reason; it is kept in the ledger");
    Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "why", texts))
}

/// The reason of a decision that needs no more.
pub(super) async fn only_why(body: Body) -> Result<String, ApiError> {
    let request: WhyRequest = json(body).await?;
    why(&request.why)
}
