//! Blobs over plain HTTP: GET and HEAD with ranges, immutable, for any cache in between. Serves nothing
//! that is secret: every blob is named by its digest and checked by the host that fetches it.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use groundswell_common::Digest;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use crate::depot::Depot;

/// What caches are told: a blob never changes.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The routes of the blob listener.
pub fn router(depot: Depot) -> Router {
    Router::new().route("/blobs/sha256/{digest}", get(blob)).with_state(depot)
}

async fn blob(State(depot): State<Depot>, Path(name): Path<String>, request: Request) -> Response {
    let Ok(digest) = name.parse::<Digest>() else {
        return (StatusCode::BAD_REQUEST, "want /blobs/sha256/ and 64 hexadecimal digits")
            .into_response();
    };
    let mime = "application/octet-stream".parse().ok();
    let path = depot.path(&digest);
    let file = match mime {
        Some(mime) => ServeFile::new_with_mime(path, &mime),
        None => ServeFile::new(path),
    };
    // The service's error type has no value.
    let Ok(response) = file.oneshot(request).await;
    let mut response = response.map(Body::new);
    if response.status().is_success() {
        response.headers_mut().insert(header::CACHE_CONTROL, IMMUTABLE);
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) {
            response.headers_mut().insert(header::ETAG, tag);
        }
    }
    response
}
