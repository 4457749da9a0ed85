//! Who this host is, as enrolment left it: what it pinned and trusts, and apart from that the key and the
//! certificate. Reads and writes those files; never talks to anybody.

use std::path::PathBuf;
use std::sync::Arc;

use groundswell_common::limits::DOCUMENT_MAX_BYTES;
use groundswell_common::trust::{Envelope, EnvelopeError, HostPin, Root, TrustError, Verified};
use groundswell_common::wire::LEVEL_FIRST;
use groundswell_common::{Environment, Fleet, HostId, HostName, Labels};
use groundswell_net::tls::{TlsError, chain, client_config, knowing};
use groundswell_net::{Validity, validity};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::durable::{self, Access, Fault};
use crate::layout::Layout;
use crate::told::Places;
use crate::trustee::{Trustee, stored_root};

const FILE_MAX_BYTES: usize = 64 * 1024;
/// A root's envelope: its payload in base64 and up to 64 signatures.
const ROOT_MAX_BYTES: usize = 2 * DOCUMENT_MAX_BYTES;

/// A client's TLS configuration.
pub(crate) type Tls = Arc<groundswell_net::tls::ClientConfig>;

/// What enrolment pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub(crate) fleet: Fleet,
    pub(crate) host: HostId,
    pub(crate) name: HostName,
    pub(crate) environment: Environment,
    pub(crate) labels: Labels,
    /// `HOST:PORT` for the agent's connection.
    pub(crate) agents: String,
    /// `HOST:PORT` of the API.
    pub(crate) api: String,
    /// Base of the blob URLs.
    pub(crate) blobs: String,
}

/// Why there is no identity to run with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// Nobody has enrolled this host.
    #[error("read the host's identity: not enrolled; run 'groundswell-agent enroll TOKEN'")]
    NotEnrolled,
    /// The file system failed.
    #[error("read the host's identity")]
    Fault(#[from] Fault),
    /// A damaged file.
    #[error("read the host's identity: identity.json is damaged; enrol this host again")]
    Damaged(#[source] serde_json::Error),
    /// A key or certificate that is not text.
    #[error("read the host's identity: key or certificate is damaged; enrol this host again")]
    Text,
    /// A root that is no envelope.
    #[error("read the root")]
    Envelope(#[source] EnvelopeError),
    /// A root that does not hold.
    #[error("read the root")]
    Root(#[source] TrustError),
    /// Key, certificate and authorities that make no TLS configuration.
    #[error("use the host's identity")]
    Tls(#[source] TlsError),
}

/// Who this host is and what it trusts: what verifying needs, and no secret.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(crate) identity: Identity,
    pub(crate) trustee: Trustee,
    /// The root as it was signed.
    pub(crate) root: Envelope,
    /// Where the coordinator is, and under which name.
    pub(crate) places: Places,
}

/// Reads what enrolment left.
///
/// # Errors
/// [`IdentityError`].
pub(crate) fn load(layout: &Layout) -> Result<Loaded, IdentityError> {
    let json = read(layout.identity(), FILE_MAX_BYTES)?;
    let mut identity: Identity = serde_json::from_slice(&json).map_err(IdentityError::Damaged)?;
    let places = Places::load(layout, &identity);
    identity.name.clone_from(&places.name);
    let root = read(layout.root(), ROOT_MAX_BYTES)?;
    let root = Envelope::from_json(&root, DOCUMENT_MAX_BYTES).map_err(IdentityError::Envelope)?;
    let trusted = stored_root(&root).map_err(IdentityError::Root)?;
    let pin = HostPin { host: identity.host, environment: identity.environment.clone() };
    Ok(Loaded { identity, trustee: Trustee { pin, root: trusted }, root, places })
}

/// The host that is enrolled here, where that can be read.
pub(crate) fn host(layout: &Layout) -> Option<HostId> {
    let json = read(layout.identity(), FILE_MAX_BYTES).ok()?;
    serde_json::from_slice::<Identity>(&json).ok().map(|identity| identity.host)
}

fn read(path: PathBuf, limit_bytes: usize) -> Result<Vec<u8>, IdentityError> {
    durable::read(&path, limit_bytes)?.ok_or(IdentityError::NotEnrolled)
}

/// The key and the certificate by which the coordinator knows this host; who speaks needs nothing else.
#[derive(Clone)]
pub(crate) struct Credentials {
    certificate_pem: String,
    key_pem: Zeroizing<String>,
}

impl Credentials {
    /// Reads what enrolment or the last renewal left.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub(crate) fn load(layout: &Layout) -> Result<Self, IdentityError> {
        let text = |bytes| String::from_utf8(bytes).map_err(|_| IdentityError::Text);
        let certificate_pem = text(read(layout.host_certificate(), FILE_MAX_BYTES)?)?;
        let key_pem = Zeroizing::new(text(read(layout.host_key(), FILE_MAX_BYTES)?)?);
        Ok(Self { certificate_pem, key_pem })
    }

    /// The TLS configuration of this host under its present root, which asks for what is known up to `level`.
    pub(crate) fn tls(&self, root: &Root, level: u8) -> Result<Tls, IdentityError> {
        let own = (self.certificate_pem.as_str(), self.key_pem.as_str());
        let config = client_config(root.tls_ca(), Some(own)).map_err(IdentityError::Tls)?;
        Ok(knowing(&config, level))
    }

    /// From when to when the certificate counts.
    pub(crate) fn validity(&self) -> Option<Validity> {
        let certificates = chain(&self.certificate_pem).ok()?;
        validity(certificates.first()?)
    }

    /// Takes a renewed certificate, once it fits the key, and keeps it.
    pub(crate) fn renewed(
        &mut self,
        layout: &Layout,
        root: &Root,
        certificate_pem: String,
    ) -> Result<(), IdentityError> {
        let before = std::mem::replace(&mut self.certificate_pem, certificate_pem);
        if let Err(error) = self.tls(root, LEVEL_FIRST) {
            self.certificate_pem = before;
            return Err(error);
        }
        let bytes = self.certificate_pem.as_bytes();
        Ok(durable::write(&layout.host_certificate(), bytes, Access::Owner)?)
    }
}

/// Makes a verified root durable.
pub(crate) fn save_root(layout: &Layout, root: &Envelope) -> Result<(), Fault> {
    durable::write(&layout.root(), &root.to_json(), Access::Owner)
}

/// The root on disk as a verified value, for those who only look.
pub(crate) fn root_version(layout: &Layout) -> Option<u64> {
    let bytes = durable::read(&layout.root(), ROOT_MAX_BYTES).ok()??;
    let envelope = Envelope::from_json(&bytes, DOCUMENT_MAX_BYTES).ok()?;
    let root: Verified<Root> = stored_root(&envelope).ok()?;
    Some(root.version)
}
