//! Hosts: how they stand and why, and what people do to them.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use groundswell_common::HostName;
use groundswell_common::api::{HostPage, HostsAnswer, LabelsRequest, RenameRequest, WhyAnswer};
use groundswell_common::selector::Selector;
use serde::Deserialize;

use super::access::Operator;
use super::{Api, ApiError, read};
use crate::driver::Desk;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostsQuery {
    #[serde(default)]
    selector: String,
}

pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<HostsQuery>, QueryRejection>,
) -> Result<Json<HostsAnswer>, ApiError> {
    let text = read::query(query)?.selector;
    let selector: Selector =
        text.parse().map_err(|error| ApiError::invalid("read the query", &error))?;
    let hosts = api.handle.query(move |desk| desk.hosts(&selector)).await?;
    Ok(Json(HostsAnswer { hosts }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(host): Path<String>,
) -> Result<Json<HostPage>, ApiError> {
    let host: HostName = read::name(&host)?;
    Ok(Json(api.handle.query(move |desk| desk.host_page(&host)).await??))
}

pub(super) async fn why(
    State(api): State<Api>,
    Path(host): Path<String>,
) -> Result<Json<WhyAnswer>, ApiError> {
    let host: HostName = read::name(&host)?;
    Ok(Json(api.handle.query(move |desk| desk.host_why_answer(&host)).await??))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(host): Path<String>,
) -> Result<StatusCode, ApiError> {
    let host: HostName = read::name(&host)?;
    api.handle.change(move |desk| desk.remove_host(&by, &host)).await??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn drain(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(host): Path<String>,
    body: Body,
) -> Result<Json<HostPage>, ApiError> {
    let (host, why) = (read::name(&host)?, read::only_why(body).await?);
    let change = move |desk: &mut Desk| {
        desk.drain_host(&by, &host, Some(&why))?;
        desk.host_page(&host)
    };
    Ok(Json(api.handle.change(change).await??))
}

pub(super) async fn undrain(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(host): Path<String>,
    body: Body,
) -> Result<Json<HostPage>, ApiError> {
    let (host, why) = (read::name(&host)?, read::only_why(body).await?);
    let change = move |desk: &mut Desk| {
        desk.undrain_host(&by, &host, &why)?;
        desk.host_page(&host)
    };
    Ok(Json(api.handle.change(change).await??))
}

pub(super) async fn label(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(host): Path<String>,
    body: Body,
) -> Result<Json<HostPage>, ApiError> {
    let host: HostName = read::name(&host)?;
    let request: LabelsRequest = read::json(body).await?;
    let change = move |desk: &mut Desk| {
        desk.label_host(&by, &host, request.labels)?;
        desk.host_page(&host)
    };
    Ok(Json(api.handle.change(change).await??))
}

pub(super) async fn rename(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(host): Path<String>,
    body: Body,
) -> Result<Json<HostPage>, ApiError> {
    let host: HostName = read::name(&host)?;
    let request: RenameRequest = read::json(body).await?;
    let change = move |desk: &mut Desk| {
        desk.rename_host(&by, (&host, &request.name))?;
        desk.host_page(&request.name)
    };
    Ok(Json(api.handle.change(change).await??))
}

pub(super) async fn clear(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(host): Path<String>,
    body: Body,
) -> Result<Json<HostPage>, ApiError> {
    let host: HostName = read::name(&host)?;
    let why = read::only_why(body).await?;
    let change = move |desk: &mut Desk| {
        desk.clear_host(&by, &host, &why)?;
        desk.host_page(&host)
    };
    Ok(Json(api.handle.change(change).await??))
}
