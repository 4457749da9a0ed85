//! Who is at the other end, read from the verified certificate and from nothing else.

use groundswell_common::trust::PublicKey;
use groundswell_common::{Fleet, HostId, OperatorName};
use rustls_pki_types::CertificateDer;

/// DER of an Ed25519 SubjectPublicKeyInfo up to the 32 key bytes (RFC 8410), without its outer
/// sequence head, which the certificate parser has taken off.
const ED25519_SPKI_HEAD: [u8; 10] = [0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The identity in a certificate: `groundswell://FLEET/agent/ID` or `groundswell://FLEET/operator/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The fleet that it belongs to.
    pub fleet: Fleet,
    /// What it is.
    pub role: PeerRole,
    /// The key of its certificate.
    pub key: PublicKey,
}

/// What a peer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// A host's agent.
    Agent(HostId),
    /// A person or a job.
    Operator(OperatorName),
}

/// Why a certificate names no peer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeerError {
    /// Not a certificate that can be read.
    #[error("read the peer's certificate")]
    Certificate,
    /// No `groundswell://` name, or more than one.
    #[error("read the peer's certificate: want exactly one name groundswell://FLEET/ROLE/NAME")]
    Name,
    /// Not an Ed25519 key.
    #[error("read the peer's certificate: its key is not Ed25519")]
    Key,
    /// An agent whose id is not the hash of its key.
    #[error("read the peer's certificate: the host id is not the hash of the key; enrol again")]
    HostId,
}

impl Peer {
    /// Reads the identity from the chain that TLS has verified; `None` for an anonymous client.
    ///
    /// # Errors
    /// [`PeerError`]; a certificate of the fleet without a plain identity is refused.
    pub fn from_certificates(
        chain: Option<&[CertificateDer<'_>]>,
    ) -> Result<Option<Self>, PeerError> {
        let Some(leaf) = chain.and_then(|chain| chain.first()) else { return Ok(None) };
        let certificate =
            webpki::EndEntityCert::try_from(leaf).map_err(|_| PeerError::Certificate)?;
        let spki = certificate.subject_public_key_info();
        let key = public_key(&spki).ok_or(PeerError::Key)?;
        let mut names = certificate.valid_uri_names().filter(|n| n.starts_with("groundswell://"));
        let name = names.next().ok_or(PeerError::Name)?;
        if names.next().is_some() {
            return Err(PeerError::Name);
        }
        let (fleet, role) = parse_name(name).ok_or(PeerError::Name)?;
        match &role {
            PeerRole::Agent(id) if *id != HostId::of_key(key.as_bytes()) => Err(PeerError::HostId),
            PeerRole::Agent(_) | PeerRole::Operator(_) => Ok(Some(Self { fleet, role, key })),
        }
    }

    /// The name that a certificate of this identity carries.
    #[must_use]
    pub fn uri(fleet: &Fleet, role: &PeerRole) -> String {
        match role {
            PeerRole::Agent(id) => format!("groundswell://{fleet}/agent/{id}"),
            PeerRole::Operator(name) => format!("groundswell://{fleet}/operator/{name}"),
        }
    }
}

fn parse_name(name: &str) -> Option<(Fleet, PeerRole)> {
    let mut parts = name.strip_prefix("groundswell://")?.split('/');
    let fleet = parts.next()?.parse().ok()?;
    let role = match parts.next()? {
        "agent" => PeerRole::Agent(parts.next()?.parse().ok()?),
        "operator" => PeerRole::Operator(parts.next()?.parse().ok()?),
        _ => return None,
    };
    parts.next().is_none().then_some((fleet, role))
}

fn public_key(spki: &[u8]) -> Option<PublicKey> {
    let at = spki.len().checked_sub(32)?;
    let (head, key) = spki.split_at(at);
    if !head.ends_with(&ED25519_SPKI_HEAD) {
        return None;
    }
    PublicKey::from_bytes(key.try_into().ok()?).ok()
}
