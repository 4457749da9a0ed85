//! Enrolment: pins the root that the token names, makes the host's key, asks for a certificate. And the
//! certificate's renewal. The private key never leaves the host.

use std::path::PathBuf;

use groundswell_common::api::{EnrollAnswer, EnrollRequest, RenewAnswer};
use groundswell_common::limits::DOCUMENT_MAX_BYTES;
use groundswell_common::token::Token;
use groundswell_common::trust::{
    Envelope, EnvelopeError, SecretKey, TrustError, Verified, first_root,
};
use groundswell_common::{Clock as _, Digest, HostId, HostName, Timestamp};
use groundswell_net::Untimely;
use groundswell_net::tls::{TlsError, client_config};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::accepted;
use crate::cancel;
use crate::clock::SteadyClock;
use crate::durable::{self, Access, Fault};
use crate::fetch::{FetchError, HttpDepot};
use crate::https::{HttpsError, post};
use crate::identity::{Identity, IdentityError, Tls, save_root};
use crate::layout::Layout;
use crate::ports::Depot as _;
use crate::text::span;

/// A root's envelope, an identity, a key and a certificate.
const BEGUN_MAX_BYTES: usize = 4 * DOCUMENT_MAX_BYTES;

/// The users of the two sides, as packages make them.
pub(crate) const APPLY_USER: &str = "groundswell-apply";
pub(crate) const NET_USER: &str = "groundswell-agent";

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// Enrolled already.
    #[error(
        "enrol: this host is {0} already; 'groundswell-agent enroll --again TOKEN' enrols it anew and keeps \
         its services"
    )]
    Already(HostId),
    /// A token that the coordinator refuses, and that is over by this host's clock.
    #[error(
        "enrol: the coordinator refuses the token, and by this host's clock, which says {now}, it ended {} \
         ago; if that clock is right, ask for a new one with 'swell host enroll-token', else set the clock \
         first", span(*ended_secs)
    )]
    Expired {
        /// What the clock says.
        now: Timestamp,
        /// For how long.
        ended_secs: u64,
    },
    /// The root cannot be fetched.
    #[error("enrol: fetch the root")]
    Fetch(#[source] FetchError),
    /// What was fetched is no root envelope.
    #[error("enrol: read the root")]
    Envelope(#[source] EnvelopeError),
    /// Another root than the token names.
    #[error("enrol")]
    Root(#[source] TrustError),
    /// No randomness, or a key on disk that is none.
    #[error("enrol: make the host's key")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The root's authorities make no TLS configuration.
    #[error("enrol")]
    Tls(#[source] TlsError),
    /// The coordinator refuses or cannot be reached.
    #[error("enrol")]
    Https(#[source] HttpsError),
    /// The two clocks are too far apart for TLS.
    #[error("enrol: {0}; set the clock of this host, then enrol again")]
    Clock(Untimely, #[source] HttpsError),
    /// A certificate for another host than asked.
    #[error("enrol: the coordinator answered for another host; nothing was kept")]
    OtherHost,
    /// The identity on disk cannot be used.
    #[error("enrol")]
    Identity(#[from] IdentityError),
    /// An enrolment that was begun and cannot be read.
    #[error("enrol: {} is damaged; remove it and enrol again with a new token", .0.display())]
    Begun(PathBuf, #[source] serde_json::Error),
    /// The file system failed.
    #[error("enrol")]
    Fault(#[from] Fault),
}

impl EnrollError {
    /// Whether the same line may work later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Fetch(_) => true,
            Self::Https(error) => error.is_temporary(),
            Self::Already(_)
            | Self::Expired { .. }
            | Self::Envelope(_)
            | Self::Root(_)
            | Self::Key(_)
            | Self::Tls(_)
            | Self::Clock(..)
            | Self::OtherHost
            | Self::Identity(_)
            | Self::Begun(..)
            | Self::Fault(_) => false,
        }
    }
}

/// Whether a host that is enrolled may be enrolled anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// An enrolment that stands is kept.
    No,
    /// Another one takes its place; services and their state stay.
    Yes,
}

/// All that an enrolment brings, in one file until each of it is in its place.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    /// Of the token's secret: the same line again goes on here.
    token: Digest,
    identity: Identity,
    root: Envelope,
    key_pem: Zeroizing<String>,
    certificate_pem: String,
}

/// Enrols this host. Asked again with the same token after a lost answer, or after an end in the middle, it gets
/// the same identity. What was enrolled before counts until the new one is whole.
pub(crate) async fn enroll(
    layout: &Layout,
    token: &Token,
    name: HostName,
    again: Again,
) -> Result<Identity, EnrollError> {
    let secret = Digest::of(token.secret.as_bytes());
    if let Some(begun) = begun(layout)?.filter(|begun| begun.token == secret) {
        return finish(layout, begun);
    }
    match (again, crate::identity::load(layout)) {
        (Again::No, Ok(loaded)) => return Err(EnrollError::Already(loaded.identity.host)),
        (Again::Yes, _) | (Again::No, Err(IdentityError::NotEnrolled)) => {}
        (Again::No, Err(error)) => return Err(error.into()),
    }
    make_dirs(layout)?;
    let envelope = fetch_root(layout, token).await;
    // Refused or not, what is fetched on has its owner's spool.
    let made = [layout.identity_dir(), layout.spool()].into_iter().filter(|dir| dir.exists());
    durable::hand_over(layout.net(), &made.collect::<Vec<_>>())?;
    let envelope = envelope?;
    let root: Verified<_> = first_root(&envelope, &token.root).map_err(EnrollError::Root)?;
    let (key, key_pem) = new_key(layout)?;
    let request = EnrollRequest { secret: token.secret.clone(), name, key: key.public() };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    let tls = client_config(root.tls_ca(), None).map_err(EnrollError::Tls)?;
    let posted = post(&token.api, "/v1/enroll", body, tls).await;
    let answer: EnrollAnswer = posted.map_err(|error| refused(error, token))?;
    if answer.host != HostId::of_key(key.public().as_bytes()) || answer.fleet != root.fleet {
        return Err(EnrollError::OtherHost);
    }
    let identity = Identity {
        fleet: answer.fleet,
        host: answer.host,
        name: answer.name,
        environment: answer.environment,
        labels: answer.labels,
        agents: answer.agents,
        api: answer.api,
        blobs: answer.blobs,
    };
    let certificate_pem = answer.certificate_pem;
    let begun = Begun { token: secret, identity, root: envelope, key_pem, certificate_pem };
    let json = serde_json::to_vec(&begun).unwrap_or_default();
    durable::write(&layout.next_identity(), &json, Access::Owner)?;
    finish(layout, begun)
}

/// Says where the clock of this host is the cause.
fn refused(error: HttpsError, token: &Token) -> EnrollError {
    let now = SteadyClock::start().now();
    let ended_secs = now.as_secs().saturating_sub(token.expires);
    let of_token = matches!(&error, HttpsError::Refused { code, .. } if code == "token");
    match error.untimely() {
        Some(untimely) => EnrollError::Clock(untimely, error),
        None if of_token && ended_secs > 0 => EnrollError::Expired { now, ended_secs },
        None => EnrollError::Https(error),
    }
}

/// The enrolment that is whole and not yet in its place.
pub(crate) fn is_begun(layout: &Layout) -> bool {
    layout.next_identity().exists()
}

fn begun(layout: &Layout) -> Result<Option<Begun>, EnrollError> {
    let path = layout.next_identity();
    let Some(bytes) = durable::read(&path, BEGUN_MAX_BYTES)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| EnrollError::Begun(path, source))
}

/// Puts everything into its place; ended in the middle, it is done again from the start.
fn finish(layout: &Layout, begun: Begun) -> Result<Identity, EnrollError> {
    durable::write(&layout.host_key(), begun.key_pem.as_bytes(), Access::Owner)?;
    let certificate = begun.certificate_pem.as_bytes();
    durable::write(&layout.host_certificate(), certificate, Access::Owner)?;
    save_root(layout, &begun.root)?;
    durable::forget(&layout.told())?;
    // A directive that cannot be read would keep the agent from starting; it was of the enrolment before.
    if accepted::load(layout).is_err_and(|error| error.is_damaged()) {
        accepted::forget(layout)?;
    }
    // The identity comes last: with it the host counts as enrolled.
    let json = serde_json::to_vec_pretty(&begun.identity).unwrap_or_default();
    durable::write(&layout.identity(), &json, Access::Owner)?;
    // What was noted of the connection is about who this host was before.
    durable::forget(&layout.contact())?;
    let own = [layout.host_key(), layout.host_certificate(), layout.identity_dir(), layout.spool()];
    durable::hand_over(layout.net(), &own)?;
    durable::hand_over(layout.state(), &[layout.root(), layout.identity()])?;
    durable::forget(&layout.next_key())?;
    durable::forget(&layout.next_identity())?;
    Ok(begun.identity)
}

/// Makes both directories, each its own user's, whatever existed before.
fn make_dirs(layout: &Layout) -> Result<(), Fault> {
    for dir in [layout.state(), layout.net()] {
        durable::is_no_link(dir)?;
    }
    durable::make_dir(layout.state(), 0o755)?;
    durable::make_dir(layout.net(), 0o750)?;
    if layout.is_split() {
        durable::settle(layout.state(), (APPLY_USER, NET_USER))?;
        durable::settle(layout.net(), (NET_USER, NET_USER))?;
    }
    for dir in [layout.identity_dir(), layout.spool()] {
        durable::not_a_link(&dir)?;
    }
    durable::make_dir(&layout.identity_dir(), 0o700)
}

async fn fetch_root(layout: &Layout, token: &Token) -> Result<Envelope, EnrollError> {
    let depot = HttpDepot::new(layout.clone(), &token.blobs, None);
    let (_keep, never) = cancel::switch();
    let limit = u64::try_from(2 * DOCUMENT_MAX_BYTES).unwrap_or(u64::MAX);
    let work = depot.fetch(&token.root_blob, limit, &never);
    let patience = std::time::Duration::from_secs(60);
    let mut file = tokio::time::timeout(patience, work)
        .await
        .map_err(|_| EnrollError::Fetch(FetchError::Slow(token.root_blob)))?
        .map_err(EnrollError::Fetch)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes)
        .map_err(durable::at("read", &layout.spool()))?;
    depot.discard(&token.root_blob);
    Envelope::from_json(&bytes, DOCUMENT_MAX_BYTES).map_err(EnrollError::Envelope)
}

/// The key to enrol with: the one of an enrolment that was cut short, or a new one.
fn new_key(layout: &Layout) -> Result<(SecretKey, Zeroizing<String>), EnrollError> {
    if let Some(bytes) = durable::read(&layout.next_key(), 4096)? {
        let pem = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let key = SecretKey::from_pem(&pem).map_err(|error| EnrollError::Key(Box::new(error)))?;
        return Ok((key, pem));
    }
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| EnrollError::Key(Box::new(error)))?;
    let key = SecretKey::from_seed(&seed);
    let pem = key.to_pem().map_err(|error| EnrollError::Key(Box::new(error)))?;
    durable::write(&layout.next_key(), pem.as_bytes(), Access::Owner)?;
    Ok((key, pem))
}

/// Asks for a new certificate with the present one, at the first of these addresses that answers.
pub(crate) async fn renew(api: &[String], tls: Tls) -> Result<String, EnrollError> {
    let mut ended = HttpsError::Silent("no address".to_owned());
    for address in api {
        match post(address, "/v1/certificate/renew", Vec::new(), tls.clone()).await {
            Ok::<RenewAnswer, _>(answer) => return Ok(answer.certificate_pem),
            Err(error @ HttpsError::Net(_)) => ended = error,
            Err(error) => return Err(EnrollError::Https(error)),
        }
    }
    Err(EnrollError::Https(ended))
}
