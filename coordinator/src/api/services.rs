//! Services: their policies, plans, and the shortcuts to their newest rollout.

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use futures_util::future::join_all;
use groundswell_common::api::{
    HoldAnswer, HoldRequest, PlanPreview, PlanRequest, PolicyAnswer, RemovalPreview,
    RemovalRequest, RevertPreview, RevertRequest, ServicePage, ServicesAnswer, StartAnswer,
    StartRequest, VerbAnswer, VerbRequest,
};
use groundswell_common::{Environment, RolloutId, ServiceName, Timestamp, Version};
use groundswell_rollout::Off;
use serde::Deserialize;
use tokio::time::Instant;

use super::access::Operator;
use super::rollouts::{Target, act};
use super::{Api, ApiError, read};
use crate::driver::{Desk, Hold, Refused, Settled, Start, Verb};
use crate::present;

/// Largest policy, in bytes; the parser's own bound is the same.
const POLICY_MAX_BYTES: usize = groundswell_rollout::policy::POLICY_MAX_BYTES;
/// Largest plan request, in bytes: it may carry a policy.
const PLAN_MAX_BYTES: usize = 2 * POLICY_MAX_BYTES;

pub(super) async fn list(State(api): State<Api>) -> Result<Json<ServicesAnswer>, ApiError> {
    let services = api.handle.query(crate::driver::Desk::services).await?;
    Ok(Json(ServicesAnswer { services }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(service): Path<String>,
) -> Result<Json<ServicePage>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    Ok(Json(api.handle.query(move |desk| desk.service_page(&service)).await??))
}

/// `?leave=true`: also where hosts fall out that run the service.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyQuery {
    #[serde(default)]
    leave: bool,
}

pub(super) async fn put_policy(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(service): Path<String>,
    query: Result<Query<PolicyQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<PolicyAnswer>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    let leave = read::query(query)?.leave;
    let bytes = read::bytes(body, POLICY_MAX_BYTES).await?;
    let text = String::from_utf8(bytes.to_vec())
        .map_err(|error| ApiError::invalid("read the policy", &error))?;
    let change = move |desk: &mut crate::driver::Desk| {
        if !leave {
            desk.keeps_hosts(&service, &text)?;
        }
        desk.put_policy(&by, &service, &text)
    };
    Ok(Json(api.handle.change(change).await??))
}

pub(super) async fn plan(
    State(api): State<Api>,
    Path(service): Path<String>,
    body: Body,
) -> Result<Json<PlanPreview>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    let bytes = read::bytes(body, PLAN_MAX_BYTES).await?;
    let request: PlanRequest = serde_json::from_slice(&bytes)
        .map_err(|error| ApiError::invalid("read the body", &error))?;
    let ask = move |desk: &crate::driver::Desk| {
        let choice = (request.release.as_deref(), request.policy.as_deref());
        let plan = desk.preview((&service, request.environment.as_ref()), choice)?;
        let waits = desk.waits(&service).into_iter();
        let here = waits.filter(|(environment, _)| *environment == plan.lane());
        let waits = here.map(|(_, why)| why).collect();
        let typed = request.policy.as_deref();
        let notes = typed.map(|text| desk.policy_notes(&service, text)).transpose()?;
        let notes = notes.unwrap_or_default();
        Ok::<_, Refused>(PlanPreview { notes, waits, ..present::plan_preview(&plan) })
    };
    Ok(Json(api.handle.query(ask).await??))
}

pub(super) async fn start(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(service): Path<String>,
    body: Body,
) -> Result<Json<StartAnswer>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    let request: StartRequest = read::json(body).await?;
    let skip = request.skip.as_deref().map(read::why).transpose()?;
    let change = move |desk: &mut crate::driver::Desk| {
        let of = (&service, request.environment.as_ref());
        let start = Start {
            release: &request.release,
            plan: request.plan.as_deref(),
            skip: skip.as_deref(),
        };
        desk.start(&by, of, start).map(|id| (Settled::Durable, id))
    };
    let then = |id: groundswell_common::RolloutId, desk: &crate::driver::Desk| {
        let record = desk.view().rollouts.get(&id).ok_or(Refused::UnknownRollout(id))?;
        Ok(StartAnswer { rollout: present::record_summary(record) })
    };
    Ok(Json(api.handle.change_then(change, then).await??))
}

pub(super) async fn hold(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(service): Path<String>,
    body: Body,
) -> Result<Json<HoldAnswer>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    let request: HoldRequest = read::json(body).await?;
    let why = read::why(&request.why)?;
    let skip = request.skip.as_deref().map(read::why).transpose()?;
    let change = move |desk: &mut Desk| {
        let hold = Hold {
            release: &request.release,
            until: request.until.map(Timestamp::from_secs),
            skip: skip.as_deref(),
            why: &why,
        };
        desk.hold(&by, (&service, request.environment.as_ref()), hold)?;
        Ok(HoldAnswer { waits: desk.waits_text(&service) })
    };
    Ok(Json(api.handle.change(change).await??))
}

/// Halts what is under way, in every environment.
pub(super) async fn halt(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(service): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: VerbRequest = read::json(body).await?;
    let service: ServiceName = read::name(&service)?;
    let name = service.clone();
    let under_way = api.handle.query(move |desk| desk.under_way(&name)).await?;
    let halt = |target| act(&api, by.clone(), (target, Verb::Halt, request.why.clone()));
    if under_way.len() < 2 {
        return halt(Target::NewestOf(service)).await;
    }
    let halts = under_way.into_iter().map(|id| halt(Target::Rollout(id)));
    let answers: Vec<_> = join_all(halts).await.into_iter().collect::<Result<_, _>>()?;
    let together = answers.into_iter().map(|Json(answer)| answer).reduce(|mut all, one| {
        all.halt_ms = all.halt_ms.max(one.halt_ms);
        all.in_flight += one.in_flight;
        all.hosts.extend(one.hosts);
        all.already &= one.already;
        all.others.push(one.rollout);
        all
    });
    Ok(Json(together.ok_or(Refused::NoRollout(service))?))
}

pub(super) async fn revert(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(service): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: RevertRequest = read::json(body).await?;
    let service: ServiceName = read::name(&service)?;
    let why = read::why(&request.why)?;
    let asked = Instant::now();
    let change = move |desk: &mut Desk| {
        let of = (&service, request.environment.as_ref());
        if !request.stop {
            desk.keeps_running(of, request.to.as_ref())?;
        }
        let rollout = desk.revert(&by, of, (request.to.as_ref(), &why))?;
        Ok((Settled::NoPermits(rollout.clone()), rollout))
    };
    let then = move |rollout: RolloutId, desk: &Desk| desk.verb_answer(&rollout, asked);
    Ok(Json(api.handle.change_then(change, then).await??))
}

/// `?to=VERSION&environment=NAME`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RevertQuery {
    to: Option<String>,
    environment: Option<String>,
}

/// What a revert would do.
pub(super) async fn revert_preview(
    State(api): State<Api>,
    Path(service): Path<String>,
    query: Result<Query<RevertQuery>, QueryRejection>,
) -> Result<Json<RevertPreview>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    let query = read::query(query)?;
    let to: Option<Version> = query.to.as_deref().map(read::name).transpose()?;
    let environment: Option<Environment> =
        query.environment.as_deref().map(read::name).transpose()?;
    let ask = move |desk: &Desk| desk.revert_preview((&service, environment.as_ref()), to.as_ref());
    Ok(Json(api.handle.query(ask).await??))
}

/// `?left_over=true`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemovalQuery {
    #[serde(default)]
    left_over: bool,
}

/// What taking the service off its hosts would do.
pub(super) async fn removal_preview(
    State(api): State<Api>,
    Path(service): Path<String>,
    query: Result<Query<RemovalQuery>, QueryRejection>,
) -> Result<Json<RemovalPreview>, ApiError> {
    let service: ServiceName = read::name(&service)?;
    let off = off(read::query(query)?.left_over);
    let ask = move |desk: &Desk| desk.removal_preview(&service, off);
    Ok(Json(api.handle.query(ask).await??))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(service): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: RemovalRequest = read::json(body).await?;
    let service: ServiceName = read::name(&service)?;
    let (why, off) = (read::why(&request.why)?, off(request.left_over));
    let asked = Instant::now();
    let change = move |desk: &mut Desk| {
        let rollout = desk.take_off(&by, &service, (off, &why))?;
        Ok((Settled::NoPermits(rollout.clone()), rollout))
    };
    let then = move |rollout: RolloutId, desk: &Desk| desk.verb_answer(&rollout, asked);
    Ok(Json(api.handle.change_then(change, then).await??))
}

fn off(left_over: bool) -> Off {
    if left_over { Off::LeftOver } else { Off::Everyone }
}
