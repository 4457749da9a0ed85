//! The table of routes: method, path, who may use it. A route without a row does not exist.

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, head, post, put};
use groundswell_common::api::OperatorRole::{Admin, Approver, Operator, Publisher, Viewer};

use super::access::{Access, guard};
use super::{Api, ApiError, audit, blobs, enrol, hosts, releases, rollouts, services};

const READERS: Access = Access::Roles(&[Admin, Operator, Approver, Publisher, Viewer]);
const PUBLISHERS: Access = Access::Roles(&[Admin, Publisher]);
const OPERATORS: Access = Access::Roles(&[Admin, Operator]);
const APPROVERS: Access = Access::Roles(&[Admin, Approver]);
const ADMINS: Access = Access::Roles(&[Admin]);

/// One row.
#[derive(Debug)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, parts in braces standing for names.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// What answers it.
    handler: fn() -> MethodRouter<Api>,
}

macro_rules! row {
    ($method:ident $path:literal $access:expr, $verb:ident $handler:path) => {
        Route { method: Method::$method, path: $path, access: $access, handler: || $verb($handler) }
    };
}

/// All rows.
pub static ROUTES: &[Route] = &[
    row!(GET "/healthz" Access::Anyone, get audit::health),
    row!(POST "/v1/enroll" Access::Anyone, post enrol::enrol),
    row!(POST "/v1/certificate/renew" Access::Agent, post enrol::renew),
    row!(GET "/v1/status" READERS, get audit::status),
    row!(GET "/v1/hosts" READERS, get hosts::list),
    row!(GET "/v1/hosts/{host}" READERS, get hosts::show),
    row!(GET "/v1/hosts/{host}/why" READERS, get hosts::why),
    row!(DELETE "/v1/hosts/{host}" OPERATORS, delete hosts::remove),
    row!(POST "/v1/hosts/{host}/clear" OPERATORS, post hosts::clear),
    row!(POST "/v1/hosts/{host}/drain" OPERATORS, post hosts::drain),
    row!(POST "/v1/hosts/{host}/undrain" OPERATORS, post hosts::undrain),
    row!(POST "/v1/hosts/{host}/labels" OPERATORS, post hosts::label),
    row!(POST "/v1/hosts/{host}/rename" OPERATORS, post hosts::rename),
    row!(POST "/v1/enroll-tokens" OPERATORS, post enrol::tokens),
    row!(POST "/v1/operators" ADMINS, post enrol::operator),
    row!(GET "/v1/services" READERS, get services::list),
    row!(GET "/v1/services/{service}" READERS, get services::show),
    row!(PUT "/v1/services/{service}/policy" ADMINS, put services::put_policy),
    row!(POST "/v1/services/{service}/plan" READERS, post services::plan),
    row!(POST "/v1/services/{service}/rollout" OPERATORS, post services::start),
    row!(POST "/v1/services/{service}/hold" OPERATORS, post services::hold),
    row!(POST "/v1/services/{service}/halt" OPERATORS, post services::halt),
    row!(GET "/v1/services/{service}/revert" READERS, get services::revert_preview),
    row!(POST "/v1/services/{service}/revert" OPERATORS, post services::revert),
    row!(GET "/v1/services/{service}/removal" READERS, get services::removal_preview),
    row!(POST "/v1/services/{service}/remove" OPERATORS, post services::remove),
    row!(HEAD "/v1/blobs/{digest}" PUBLISHERS, head blobs::size),
    row!(PUT "/v1/blobs/{digest}" PUBLISHERS, put blobs::upload),
    row!(POST "/v1/releases" PUBLISHERS, post releases::publish),
    row!(POST "/v1/releases/held" PUBLISHERS, post releases::publish_held),
    row!(GET "/v1/releases" READERS, get releases::list),
    row!(GET "/v1/releases/{release}" READERS, get releases::show),
    row!(POST "/v1/releases/{release}/clear" OPERATORS, post releases::clear),
    row!(GET "/v1/rollouts" READERS, get rollouts::list),
    row!(GET "/v1/rollouts/{rollout}" READERS, get rollouts::show),
    row!(GET "/v1/rollouts/{rollout}/watch" READERS, get rollouts::watch),
    row!(POST "/v1/rollouts/{rollout}/pause" OPERATORS, post rollouts::pause),
    row!(POST "/v1/rollouts/{rollout}/resume" OPERATORS, post rollouts::resume),
    row!(POST "/v1/rollouts/{rollout}/halt" OPERATORS, post rollouts::halt),
    row!(POST "/v1/rollouts/{rollout}/abort" OPERATORS, post rollouts::abort),
    row!(POST "/v1/rollouts/{rollout}/revert" OPERATORS, post rollouts::revert),
    row!(POST "/v1/rollouts/{rollout}/steer" OPERATORS, post rollouts::steer),
    row!(POST "/v1/rollouts/{rollout}/approve" APPROVERS, post rollouts::approve),
    row!(GET "/v1/audit" READERS, get audit::entries),
    row!(GET "/v1/audit/head" READERS, get audit::head),
    row!(POST "/v1/ledger/lift" ADMINS, post audit::lift),
];

/// The API's service.
pub fn router(api: &Api) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let layer = from_fn_with_state((api.clone(), route.access), guard);
        router = router.route(route.path, (route.handler)().layer(layer));
    }
    router.fallback(no_route).method_not_allowed_fallback(no_method).with_state(api.clone())
}

async fn no_route() -> ApiError {
    let texts = ("there is no such route", "see docs/operations.md for the API");
    ApiError::new(StatusCode::NOT_FOUND, "no_route", texts)
}

async fn no_method() -> ApiError {
    let texts = ("the route has no such method", "see docs/operations.md for the API");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", texts)
}
