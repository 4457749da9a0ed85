//! Rollouts: what they do, and what people do to them.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::{Extension, Json};
use futures_util::Stream;
use groundswell_common::api::{
    ApproveAnswer, PhaseName, RolloutPage, RolloutsAnswer, SteerRequest, VerbAnswer, VerbRequest,
};
use groundswell_common::limits::APPROVAL_MAX_BYTES;
use groundswell_common::trust::Envelope;
use groundswell_common::{OperatorName, RolloutId, ServiceName};
use groundswell_rollout::{KeepOrRevert, Refusal, Steer};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::access::Operator;
use super::{Api, ApiError, read};
use crate::driver::{Desk, Refused, Settled, Verb};
use crate::present::{self, Detail};

/// Time between two events of one watch at least: 5 a second.
const EVENT_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    service: Option<String>,
}

/// Which rollout a verb is for.
pub(super) enum Target {
    /// This one.
    Rollout(RolloutId),
    /// The newest of a service.
    NewestOf(ServiceName),
}

pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<RolloutsAnswer>, ApiError> {
    let service: Option<ServiceName> =
        read::query(query)?.service.as_deref().map(read::name).transpose()?;
    let rollouts = api.handle.query(move |desk| desk.rollouts(service.as_ref())).await?;
    Ok(Json(RolloutsAnswer { rollouts }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(rollout): Path<String>,
) -> Result<Json<RolloutPage>, ApiError> {
    Ok(Json(page(&api, read::name(&rollout)?, Detail::Hosts).await?))
}

async fn page(api: &Api, rollout: RolloutId, detail: Detail) -> Result<RolloutPage, ApiError> {
    Ok(api.handle.query(move |desk| desk.rollout_page(&rollout, detail)).await??)
}

struct Watch {
    api: Api,
    rollout: RolloutId,
    changes: watch::Receiver<u64>,
    last: Option<RolloutPage>,
    next: Instant,
}

pub(super) async fn watch(
    State(api): State<Api>,
    Path(rollout): Path<String>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let rollout: RolloutId = read::name(&rollout)?;
    let changes = api.handle.changes();
    // Asked once before the stream begins, so that an unknown rollout is a plain error.
    page(&api, rollout.clone(), Detail::Waves).await?;
    let watch = Watch { api, rollout, changes, last: None, next: Instant::now() };
    let stream = futures_util::stream::unfold(watch, |mut watch| async move {
        let event = watch.event().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()))
}

impl Watch {
    /// The next event; `None` when the rollout is over or the coordinator stops.
    async fn event(&mut self) -> Option<Event> {
        loop {
            if self.last.as_ref().is_some_and(|page| page.rollout.phase == PhaseName::Done) {
                return None;
            }
            tokio::time::sleep_until(self.next).await;
            self.changes.borrow_and_update();
            let page = page(&self.api, self.rollout.clone(), Detail::Waves).await.ok()?;
            self.next = Instant::now() + EVENT_EVERY;
            if self.last.as_ref() != Some(&page) {
                let event = Event::default().json_data(&page).ok()?;
                self.last = Some(page);
                return Some(event);
            }
            self.changes.changed().await.ok()?;
        }
    }
}

pub(super) async fn pause(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: VerbRequest = read::json(body).await?;
    act(&api, by, (Target::Rollout(read::name(&rollout)?), Verb::Pause, request.why)).await
}

pub(super) async fn resume(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: VerbRequest = read::json(body).await?;
    act(&api, by, (Target::Rollout(read::name(&rollout)?), Verb::Resume, request.why)).await
}

pub(super) async fn halt(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: VerbRequest = read::json(body).await?;
    act(&api, by, (Target::Rollout(read::name(&rollout)?), Verb::Halt, request.why)).await
}

pub(super) async fn abort(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: VerbRequest = read::json(body).await?;
    let keep = if request.keep { KeepOrRevert::Keep } else { KeepOrRevert::Revert };
    act(&api, by, (Target::Rollout(read::name(&rollout)?), Verb::Abort(keep), request.why)).await
}

pub(super) async fn revert(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: VerbRequest = read::json(body).await?;
    act(&api, by, (Target::Rollout(read::name(&rollout)?), Verb::Revert, request.why)).await
}

pub(super) async fn steer(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<VerbAnswer>, ApiError> {
    let request: SteerRequest = read::json(body).await?;
    let rollout: RolloutId = read::name(&rollout)?;
    let act = request.steer;
    let verb = api.handle.query(move |desk| desk.steer_of(&act)).await??;
    self::act(&api, by, (Target::Rollout(rollout), verb, request.why)).await
}

/// Applies a verb; the answer waits until no host could still begin to switch under it.
pub(super) async fn act(
    api: &Api,
    by: OperatorName,
    (target, verb, why): (Target, Verb, String),
) -> Result<Json<VerbAnswer>, ApiError> {
    let why = read::why(&why)?;
    let asked = Instant::now();
    let change = move |desk: &mut Desk| {
        let rollout = match target {
            Target::Rollout(rollout) => rollout,
            Target::NewestOf(service) => desk.newest_rollout_id((&service, None))?,
        };
        let already = match desk.verb(&by, &rollout, (verb, &why)) {
            Ok(()) => false,
            // Whoever presses the button twice wants what is so; the answer waits for permits all the same.
            Err(Refused::Step(Refusal::Halted)) if verb == Verb::Halt => true,
            Err(Refused::Step(Refusal::Paused)) if verb == Verb::Pause => true,
            Err(Refused::Step(refusal)) => return Err(desk.named(refusal)),
            Err(other) => return Err(other),
        };
        let settled = match verb {
            Verb::Resume
            | Verb::Steer(Steer::Promote | Steer::SkipWave { .. } | Steer::Retry { .. }) => {
                Settled::Durable
            }
            Verb::Steer(Steer::Exclude { .. } | Steer::Slow { .. })
            | Verb::Pause
            | Verb::Halt
            | Verb::Abort(_)
            | Verb::Revert => Settled::NoPermits(rollout.clone()),
        };
        Ok((settled, (rollout, already)))
    };
    let then = move |(rollout, already): (RolloutId, bool), desk: &Desk| {
        Ok(VerbAnswer { already, ..desk.verb_answer(&rollout, asked)? })
    };
    Ok(Json(api.handle.change_then(change, then).await??))
}

pub(super) async fn approve(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(rollout): Path<String>,
    body: Body,
) -> Result<Json<ApproveAnswer>, ApiError> {
    let rollout: RolloutId = read::name(&rollout)?;
    let bytes = read::bytes(body, read::JSON_MAX_BYTES).await?;
    let envelope = Envelope::from_json(&bytes, APPROVAL_MAX_BYTES)
        .map_err(|error| ApiError::invalid("read the approval", &error))?;
    let change = move |desk: &mut Desk| {
        desk.approve(&by, &rollout, &envelope).map(|()| (Settled::Durable, rollout))
    };
    let then = |rollout: RolloutId, desk: &Desk| {
        let record = desk.view().rollouts.get(&rollout);
        let record = record.ok_or_else(|| Refused::UnknownRollout(rollout.clone()))?;
        let ask = record.live().and_then(|live| present::ask(desk.view(), live));
        Ok(ApproveAnswer { rollout: present::record_summary(record), ask })
    };
    Ok(Json(api.handle.change_then(change, then).await??))
}
