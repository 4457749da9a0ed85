//! The fleet at a glance (`/healthz`, `/v1/status`), the ledger for auditors, and its lift after a restore.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::{Extension, Json};
use groundswell_common::api::{AuditHead, AuditPage, Health, LiftAnswer, StatusAnswer};
use serde::Deserialize;

use super::access::Operator;
use super::{Api, ApiError, read};

/// Entries on one page.
const PAGE_ENTRIES_MAX: usize = 1_000;
/// Bytes of payload after which a page ends.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

pub(super) async fn health() -> Json<Health> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Json(Health { status: "ok".to_owned(), version })
}

pub(super) async fn status(State(api): State<Api>) -> Result<Json<StatusAnswer>, ApiError> {
    let about = api.about.clone();
    Ok(Json(api.handle.query(move |desk| desk.status(&about)).await?))
}

pub(super) async fn lift(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    body: Body,
) -> Result<Json<LiftAnswer>, ApiError> {
    let why = read::only_why(body).await?;
    let past = api.handle.change(move |desk| desk.lift(&by, &why)).await??;
    Ok(Json(LiftAnswer { past }))
}

pub(super) async fn head(State(api): State<Api>) -> Json<AuditHead> {
    Json(api.reader.head())
}

pub(super) async fn entries(
    State(api): State<Api>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<AuditPage>, ApiError> {
    let query = read::query(query)?;
    let limit = query.limit.unwrap_or(PAGE_ENTRIES_MAX).min(PAGE_ENTRIES_MAX);
    let reader = api.reader.clone();
    let head = reader.head();
    let work = move || reader.read(query.after, limit, PAGE_BYTES_MAX);
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(entries)) => Ok(Json(AuditPage { entries, head })),
        Ok(Err(error)) => Err(ApiError::fault(&error)),
        Err(error) => Err(ApiError::fault(&error)),
    }
}
