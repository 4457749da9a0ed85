//! Releases: publishing, listing, clearing.

use std::fs::File;
use std::io::BufReader;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use groundswell_common::api::{PublishAnswer, ReleasePage, ReleaseSummary, ReleasesAnswer};
use groundswell_common::bundle::check_bundle;
use groundswell_common::limits::MANIFEST_MAX_BYTES;
use groundswell_common::manifest::{Manifest, RawManifest};
use groundswell_common::trust::{
    Document as _, Envelope, Role, RoleKeys, Signature, verify_payload,
};
use groundswell_common::{Digest, OperatorName, ReleaseId, ServiceName, Timestamp, chain};
use serde::Deserialize;

use super::access::Operator;
use super::{Api, ApiError, blobs, read};
use crate::driver::Desk;
use crate::entry::Published;
use crate::present;

/// Largest publishing request, in bytes: a manifest in base64 and its signatures.
const PUBLISH_MAX_BYTES: usize = MANIFEST_MAX_BYTES / 3 * 4 + 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    service: Option<String>,
}

/// `?until=SECS`: seconds UTC before which it does not start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldQuery {
    until: u64,
}

pub(super) async fn publish(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    body: Body,
) -> Result<Json<PublishAnswer>, ApiError> {
    publish_until(&api, by, (body, None)).await
}

/// A path of its own: a coordinator that cannot hold a release refuses it, and does not start it at once.
pub(super) async fn publish_held(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    query: Result<Query<HeldQuery>, QueryRejection>,
    body: Body,
) -> Result<Json<PublishAnswer>, ApiError> {
    let until = Timestamp::from_secs(read::query(query)?.until);
    publish_until(&api, by, (body, Some(until))).await
}

async fn publish_until(
    api: &Api,
    by: OperatorName,
    (body, held_until): (Body, Option<Timestamp>),
) -> Result<Json<PublishAnswer>, ApiError> {
    let bytes = read::bytes(body, PUBLISH_MAX_BYTES).await?;
    let envelope = Envelope::from_json(&bytes, MANIFEST_MAX_BYTES)
        .map_err(|error| ApiError::invalid("read the release", &error))?;
    let manifest = check(api, &envelope)?;
    for blob in &manifest.blobs {
        let size = api.depot.size(&blob.sha256).await.map_err(|error| ApiError::fault(&error))?;
        if size != Some(blob.size) {
            let texts = (
                format!("blob {} of {} bytes is not in the depot", blob.sha256, blob.size),
                "upload it first",
            );
            return Err(ApiError::new(StatusCode::CONFLICT, "unknown_blob", texts));
        }
    }
    look_inside(api, &manifest).await?;
    let published = published(api, (&manifest, &envelope), held_until)?;
    let checked = published.clone();
    // Before anything is written: a second check follows when it is decided.
    api.handle.query(move |desk| desk.find_same(&checked).map(drop)).await??;
    let kept = api.depot.put_bytes(envelope.payload).await;
    kept.map_err(|error| blobs::refused(&error))?;
    let change = move |desk: &mut Desk| desk.publish(&by, published);
    Ok(Json(api.handle.change(change).await??))
}

/// The manifest, when it holds its rules and every signature on it is good and of a known key.
fn check(api: &Api, envelope: &Envelope) -> Result<Manifest, ApiError> {
    let refuse = |message: String| {
        let texts = (message, "pack and sign the release again");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "manifest", texts)
    };
    if envelope.kind != Manifest::TYPE {
        return Err(refuse("the document is no manifest of a release".to_owned()));
    }
    if envelope.payload.len() > MANIFEST_MAX_BYTES {
        return Err(refuse(format!("the manifest has {} bytes", envelope.payload.len())));
    }
    let operators = api.handle.operators();
    for signature in &envelope.signatures {
        let known = operators.values().any(|operator| operator.key == signature.key)
            || is_builder(api, signature);
        if !known {
            return Err(refuse(format!("it is signed by {}, which nobody knows", signature.key)));
        }
        let one = RoleKeys { keys: [signature.key].into(), threshold: 1 };
        verify_payload::<Manifest>(&envelope.payload, std::slice::from_ref(signature), &[&one])
            .map_err(|error| refuse(chain(&error)))?;
    }
    let raw: RawManifest =
        serde_json::from_slice(&envelope.payload).map_err(|error| refuse(error.to_string()))?;
    Manifest::check(raw).map_err(|error| refuse(error.to_string()))
}

/// Reads the bundle once: what hosts would refuse is refused here.
async fn look_inside(api: &Api, manifest: &Manifest) -> Result<(), ApiError> {
    let path = api.depot.path(&manifest.full_blob().sha256);
    let manifest = manifest.clone();
    let look = move || match File::open(path) {
        Ok(bundle) => {
            check_bundle(BufReader::new(bundle), &manifest).map_err(|error| chain(&error))
        }
        Err(error) => Err(chain(&error)),
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|error| ApiError::fault(&error))?.map_err(|message| {
        let texts = (message, "pack the release again and publish it");
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "bundle", texts)
    })
}

fn is_builder(api: &Api, signature: &Signature) -> bool {
    api.root
        .roles
        .iter()
        .any(|entry| entry.role == Role::Builder && entry.keys.contains(&signature.key))
}

fn published(
    api: &Api,
    (manifest, envelope): (&Manifest, &Envelope),
    held_until: Option<Timestamp>,
) -> Result<Published, ApiError> {
    let content = (
        (&manifest.tree, &manifest.platform, manifest.one_way, manifest.floor),
        (&manifest.units, &manifest.command, &manifest.probes),
        (&manifest.requires, manifest.barrier),
    );
    let content = serde_json::to_vec(&content).map_err(|error| ApiError::fault(&error))?;
    let mut signatures = envelope.signatures.clone();
    signatures.extend(api.signer.countersign(&envelope.payload));
    Ok(Published {
        release: ReleaseId::from_digest(envelope.digest()),
        service: manifest.service.clone(),
        version: manifest.version.clone(),
        seq: manifest.seq,
        floor: manifest.floor,
        tree: manifest.tree,
        content: Digest::of(&content),
        bytes: manifest.unpacked_bytes(),
        files: manifest.files.len() as u64,
        one_way: manifest.one_way,
        requires: manifest.requires.clone(),
        barrier: manifest.barrier,
        hotfix: manifest.hotfix,
        units: manifest.units.clone(),
        platform: manifest.platform.clone(),
        signatures,
        held_until,
    })
}

pub(super) async fn list(
    State(api): State<Api>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ReleasesAnswer>, ApiError> {
    let service: Option<ServiceName> =
        read::query(query)?.service.as_deref().map(read::name).transpose()?;
    let releases = api.handle.query(move |desk| desk.releases(service.as_ref())).await?;
    Ok(Json(ReleasesAnswer { releases }))
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(release): Path<String>,
) -> Result<Json<ReleasePage>, ApiError> {
    let ask = move |desk: &Desk| {
        let found = desk.release(&release)?;
        let signers = found.published.signatures.iter().map(|signature| signature.key);
        Ok::<_, crate::driver::Refused>((
            present::release_summary(desk.view(), found),
            signers.collect(),
            desk.rollouts_of(found),
        ))
    };
    let (release, signers, rollouts) = api.handle.query(ask).await??;
    let id: ReleaseId = release.release;
    let payload = api.depot.read(id.digest(), MANIFEST_MAX_BYTES).await;
    let payload = payload.map_err(|error| ApiError::fault(&error))?.unwrap_or_default();
    let manifest: RawManifest =
        serde_json::from_slice(&payload).map_err(|error| ApiError::fault(&error))?;
    Ok(Json(ReleasePage { release, source: manifest.source, signers, rollouts }))
}

pub(super) async fn clear(
    State(api): State<Api>,
    Extension(Operator(by)): Extension<Operator>,
    Path(release): Path<String>,
    body: Body,
) -> Result<Json<ReleaseSummary>, ApiError> {
    let why = read::only_why(body).await?;
    let change = move |desk: &mut Desk| {
        let id = desk.release(&release)?.published.release;
        desk.clear(&by, &id, &why)?;
        let found = desk.release(&release)?;
        Ok(present::release_summary(desk.view(), found))
    };
    Ok(Json(api.handle.change(change).await??))
}
