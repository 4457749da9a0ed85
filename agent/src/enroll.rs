//! Enrolment: pins the root that the token names, makes the host's key, asks for a certificate. And the
//! certificate's renewal. The private key never leaves the host.

use groundswell_common::api::{EnrollAnswer, EnrollRequest, RenewAnswer};
use groundswell_common::limits::DOCUMENT_MAX_BYTES;
use groundswell_common::token::Token;
use groundswell_common::trust::{
    Envelope, EnvelopeError, SecretKey, TrustError, Verified, first_root,
};
use groundswell_common::{Clock as _, HostId, HostName};
use groundswell_net::tls::{TlsError, client_config};
use zeroize::Zeroizing;

use crate::cancel;
use crate::clock::SteadyClock;
use crate::durable::{self, Access, Fault};
use crate::fetch::{FetchError, HttpDepot};
use crate::https::{HttpsError, post};
use crate::identity::{Identity, IdentityError, Tls, save_root};
use crate::layout::Layout;
use crate::ports::Depot as _;

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// Enrolled already.
    #[error(
        "enrol: this host is {0} already; stop the agent and remove the state directory to start over"
    )]
    Already(HostId),
    /// A token past its end.
    #[error("enrol: the token has expired; ask for a new one with 'swell host enroll-token'")]
    Expired,
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
    /// A certificate for another host than asked.
    #[error("enrol: the coordinator answered for another host; nothing was kept")]
    OtherHost,
    /// The identity on disk cannot be used.
    #[error("enrol")]
    Identity(#[from] IdentityError),
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
            | Self::Expired
            | Self::Envelope(_)
            | Self::Root(_)
            | Self::Key(_)
            | Self::Tls(_)
            | Self::OtherHost
            | Self::Identity(_)
            | Self::Fault(_) => false,
        }
    }
}

/// Enrols this host. Asked again with the same token after a lost answer, it gets the same identity.
pub(crate) async fn enroll(
    layout: &Layout,
    token: &Token,
    name: HostName,
) -> Result<Identity, EnrollError> {
    match crate::identity::load(layout) {
        Ok(loaded) => return Err(EnrollError::Already(loaded.identity.host)),
        Err(IdentityError::NotEnrolled) => {}
        Err(error) => return Err(error.into()),
    }
    if SteadyClock::start().now().as_secs() > token.expires {
        return Err(EnrollError::Expired);
    }
    durable::make_dir(layout.state(), 0o755)?;
    durable::make_dir(layout.net(), 0o750)?;
    for dir in [layout.identity_dir(), layout.spool()] {
        durable::not_a_link(&dir)?;
    }
    durable::make_dir(&layout.identity_dir(), 0o700)?;
    let envelope = fetch_root(layout, token).await?;
    let root: Verified<_> = first_root(&envelope, &token.root).map_err(EnrollError::Root)?;
    let (key, _pem) = own_key(layout)?;
    let request = EnrollRequest { secret: token.secret.clone(), name, key: key.public() };
    let body = serde_json::to_vec(&request).unwrap_or_default();
    let tls = client_config(root.tls_ca(), None).map_err(EnrollError::Tls)?;
    let answer: EnrollAnswer =
        post(&token.api, "/v1/enroll", body, tls).await.map_err(EnrollError::Https)?;
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
    save_root(layout, &envelope)?;
    let certificate = answer.certificate_pem.as_bytes();
    durable::write(&layout.host_certificate(), certificate, Access::Owner)?;
    // The identity comes last: with it the host counts as enrolled.
    let json = serde_json::to_vec_pretty(&identity).unwrap_or_default();
    durable::write(&layout.identity(), &json, Access::Owner)?;
    let own = [layout.host_key(), layout.host_certificate(), layout.identity_dir(), layout.spool()];
    durable::hand_over(layout.net(), &own)?;
    durable::hand_over(layout.state(), &[layout.root(), layout.identity()])?;
    Ok(identity)
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

/// The host's key: the one of an enrolment that was cut short, or a new one.
fn own_key(layout: &Layout) -> Result<(SecretKey, Zeroizing<String>), EnrollError> {
    if let Some(bytes) = durable::read(&layout.host_key(), 4096)? {
        let pem = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
        let key = SecretKey::from_pem(&pem).map_err(|error| EnrollError::Key(Box::new(error)))?;
        return Ok((key, pem));
    }
    let mut seed = Zeroizing::new([0_u8; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| EnrollError::Key(Box::new(error)))?;
    let key = SecretKey::from_seed(&seed);
    let pem = key.to_pem().map_err(|error| EnrollError::Key(Box::new(error)))?;
    durable::write(&layout.host_key(), pem.as_bytes(), Access::Owner)?;
    Ok((key, pem))
}

/// Asks for a new certificate with the present one.
pub(crate) async fn renew(api: &str, tls: Tls) -> Result<String, EnrollError> {
    let answer: RenewAnswer =
        post(api, "/v1/certificate/renew", Vec::new(), tls).await.map_err(EnrollError::Https)?;
    Ok(answer.certificate_pem)
}
