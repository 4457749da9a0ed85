//! Tokens, enrolment, renewal of certificates, and new operators.

use axum::body::Body;
use axum::extract::State;
use axum::{Extension, Json};
use groundswell_common::api::{
    EnrollAnswer, EnrollRequest, OperatorAnswer, OperatorRequest, RenewAnswer, TokensAnswer,
    TokensRequest,
};
use groundswell_common::token::Token;

use super::access::{Agent, Operator};
use super::{Api, ApiError, read};
use crate::driver::Refused;

pub(super) async fn tokens(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    body: Body,
) -> Result<Json<TokensAnswer>, ApiError> {
    let request: TokensRequest = read::json(body).await?;
    let made = api.handle.change(move |desk| desk.make_tokens(&by, &request)).await??;
    let token = |secret: String| Token {
        api: api.addresses.api.clone(),
        blobs: api.addresses.blobs.clone(),
        root_blob: api.root_blob,
        root: api.root.digest(),
        secret,
        expires: made.expires,
    };
    let tokens = made.secrets.into_iter().map(|secret| token(secret).to_string()).collect();
    Ok(Json(TokensAnswer { tokens, expires: made.expires }))
}

pub(super) async fn enrol(
    State(api): State<Api>,
    body: Body,
) -> Result<Json<EnrollAnswer>, ApiError> {
    let request: EnrollRequest = read::json(body).await?;
    let key = request.key;
    let change = move |desk: &mut crate::driver::Desk| {
        desk.enrol(&request.secret, &request.name, &request.key)
    };
    let (host, record) = api.handle.change(change).await??;
    let certificate = api.authority.agent(&key, api.clock.now());
    Ok(Json(EnrollAnswer {
        fleet: api.fleet().clone(),
        host,
        name: record.name,
        labels: record.labels,
        environment: record.environment,
        certificate_pem: certificate.map_err(|error| ApiError::fault(&error))?,
        agents: api.addresses.agents.clone(),
        api: api.addresses.api.clone(),
        blobs: api.addresses.blobs.clone(),
    }))
}

pub(super) async fn renew(
    State(api): State<Api>,
    Extension(agent): Extension<Agent>,
) -> Result<Json<RenewAnswer>, ApiError> {
    let enrolled =
        api.handle.query(move |desk| desk.view().hosts.contains_key(&agent.host)).await?;
    if !enrolled {
        return Err(Refused::NotEnrolled.into());
    }
    let certificate = api.authority.agent(&agent.key, api.clock.now());
    let certificate_pem = certificate.map_err(|error| ApiError::fault(&error))?;
    Ok(Json(RenewAnswer { certificate_pem }))
}

pub(super) async fn operator(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    body: Body,
) -> Result<Json<OperatorAnswer>, ApiError> {
    let request: OperatorRequest = read::json(body).await?;
    let certificate = api.authority.operator(&request.name, &request.key, api.clock.now());
    let certificate_pem = certificate.map_err(|error| ApiError::fault(&error))?;
    let change = move |desk: &mut crate::driver::Desk| {
        desk.put_operator(&by, &request.name, (request.role, request.key))
    };
    api.handle.change(change).await??;
    Ok(Json(OperatorAnswer { certificate_pem }))
}
