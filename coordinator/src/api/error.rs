//! Every error of the API: a status, a stable code, what happened, what to do about it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use groundswell_common::api::{ErrorAnswer, ErrorBody};

use crate::driver::{ErrorKind, Gone, Refused};

/// An error answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// 400 to 599.
    pub status: StatusCode,
    /// Stable over versions.
    pub code: &'static str,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl ApiError {
    /// An error answer.
    #[must_use]
    pub fn new(
        status: StatusCode,
        code: &'static str,
        (message, hint): (impl Into<String>, impl Into<String>),
    ) -> Self {
        Self { status, code, message: message.into(), hint: hint.into() }
    }

    /// A fault of the coordinator itself: logged here, once, and told without detail.
    #[must_use]
    pub fn fault(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = groundswell_common::chain(error), "failed to answer a request");
        let what = ("the coordinator failed", "look at its log");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", what)
    }

    /// All connections that one profile or the whole API may have are open.
    #[must_use]
    pub fn no_place() -> Self {
        let texts = (
            "too many connections are open, of this profile or of all together",
            "close some (each 'swell watch' is one), give each job a profile of its own, or raise api_connections_max",
        );
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_connections", texts)
    }

    /// A part of the request that cannot be read.
    #[must_use]
    pub fn invalid(what: &str, error: &dyn std::error::Error) -> Self {
        let texts = (format!("{what}: {error}"), "correct the request");
        Self::new(StatusCode::BAD_REQUEST, "invalid", texts)
    }
}

impl From<Gone> for ApiError {
    fn from(gone: Gone) -> Self {
        let texts = (gone.to_string(), "try again in a few seconds");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", texts)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (kind, code, hint) = refused.describe();
        let status = match kind {
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Missing => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, code, (refused.to_string(), hint))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, hint } = self;
        let error = ErrorBody { code: code.to_owned(), message, hint };
        (status, Json(ErrorAnswer { error })).into_response()
    }
}
