//! THE verifier: the only maker of [`Verified`] values. Size, type and signatures are judged over the exact
//! bytes before a byte of the payload is parsed.

use std::collections::BTreeSet;

use super::envelope::{Document, Envelope, Signature, pae};
use super::key::PublicKey;
use super::root::{Role, RoleKeys, Root};
use crate::digest::Digest;
use crate::limits::{JSON_INTEGER_MAX, SIGNATURES_MAX};
use crate::time::Timestamp;

/// A document whose signatures met a threshold and whose content holds its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<D> {
    document: D,
    digest: Digest,
    signers: BTreeSet<PublicKey>,
}

impl<D> Verified<D> {
    /// The digest of the exact payload.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The keys of the asked roles that signed it.
    #[must_use]
    pub fn signers(&self) -> &BTreeSet<PublicKey> {
        &self.signers
    }

    /// The document itself.
    #[must_use]
    pub fn get(&self) -> &D {
        &self.document
    }
}

impl<D> std::ops::Deref for Verified<D> {
    type Target = D;

    fn deref(&self) -> &D {
        &self.document
    }
}

/// Why a document is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Larger than its kind may be.
    #[error("verify {kind}: {bytes} bytes, at most {limit_bytes}")]
    TooLarge {
        /// The document's kind.
        kind: &'static str,
        /// What came.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// A document of another kind.
    #[error("verify {want}: the document says it is {got:?}")]
    Kind {
        /// What was asked for.
        want: &'static str,
        /// What came.
        got: String,
    },
    /// Fewer distinct keys of the role signed than its threshold asks for.
    #[error(
        "verify {kind}: {good} good signatures, {threshold} needed; sign it with the role's keys"
    )]
    Signatures {
        /// The document's kind.
        kind: &'static str,
        /// Distinct keys of the role with a good signature.
        good: u32,
        /// What the role asks for.
        threshold: u32,
    },
    /// Signed, but not the JSON of its kind.
    #[error("verify {kind}: not its JSON form")]
    Json {
        /// The document's kind.
        kind: &'static str,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
    /// Signed, but against the rules of its kind.
    #[error("verify {kind}: against its rules")]
    Invalid {
        /// The document's kind.
        kind: &'static str,
        /// The rule.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A first root that is not the one named by the enrolment token.
    #[error(
        "verify the first root: its digest {got} is not the {want} that the token names; ask for a new token"
    )]
    Pin {
        /// What came.
        got: Digest,
        /// What was pinned.
        want: Digest,
    },
    /// A root that does not follow the present one.
    #[error("verify the next root: version {got} does not follow {have}; fetch the roots between")]
    RootVersion {
        /// What came.
        got: u64,
        /// What is trusted now.
        have: u64,
    },
    /// A root that governs another fleet.
    #[error("verify the next root: it governs another fleet")]
    RootFleet,
    /// A root past its end.
    #[error(
        "verify the root: it ended at {}; on the coordinator's machine 'groundswell-coordinator root renew' makes \
         the next one",
        Timestamp::from_secs(*.0)
    )]
    RootExpired(u64),
}

/// Verifies an envelope against the keys of a role.
///
/// # Errors
/// In this order: size, kind, signatures, JSON, rules of the kind.
pub fn verify<D: Document>(
    envelope: &Envelope,
    role: &RoleKeys,
) -> Result<Verified<D>, TrustError> {
    if envelope.kind != D::TYPE {
        let got = envelope.kind.chars().take(64).collect();
        return Err(TrustError::Kind { want: D::TYPE, got });
    }
    verify_payload(&envelope.payload, &envelope.signatures, &[role])
}

/// Verifies a payload whose signatures travel apart from it, against every role given.
///
/// # Errors
/// In this order: size, signatures of each role, JSON, rules of the kind.
pub fn verify_payload<D: Document>(
    payload: &[u8],
    signatures: &[Signature],
    roles: &[&RoleKeys],
) -> Result<Verified<D>, TrustError> {
    let kind = D::TYPE;
    if payload.len() > D::MAX_BYTES || signatures.len() > SIGNATURES_MAX {
        let (bytes, limit_bytes) = (payload.len(), D::MAX_BYTES);
        return Err(TrustError::TooLarge { kind, bytes, limit_bytes });
    }
    let message = pae(kind, payload);
    let mut signers = BTreeSet::new();
    for role in roles {
        let keys = good_keys(&message, signatures, role);
        let good = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        signers.extend(keys);
        if good < role.threshold {
            return Err(TrustError::Signatures { kind, good, threshold: role.threshold });
        }
    }
    // An empty list of roles would accept anything: a document always answers to one.
    if roles.iter().all(|role| role.threshold == 0) {
        return Err(TrustError::Signatures { kind, good: 0, threshold: 1 });
    }
    let raw = serde_json::from_slice::<D::Raw>(payload)
        .map_err(|source| TrustError::Json { kind, source })?;
    let document =
        D::check(raw).map_err(|source| TrustError::Invalid { kind, source: Box::new(source) })?;
    Ok(Verified { document, digest: Digest::of(payload), signers })
}

/// Distinct keys of the role with a good signature; a key is its bytes.
fn good_keys(message: &[u8], signatures: &[Signature], role: &RoleKeys) -> BTreeSet<PublicKey> {
    signatures
        .iter()
        .filter(|s| role.keys.contains(&s.key) && s.key.verifies(message, &s.sig))
        .map(|s| s.key)
        .collect()
}

/// Trusts a first root: by the digest of its payload that came with the token, and by its own keys.
///
/// # Errors
/// [`TrustError::Pin`] before anything is parsed; then as [`verify`].
pub fn first_root(envelope: &Envelope, pinned: &Digest) -> Result<Verified<Root>, TrustError> {
    let got = envelope.digest();
    if got != *pinned {
        return Err(TrustError::Pin { got, want: *pinned });
    }
    if envelope.payload.len() > Root::MAX_BYTES {
        let (bytes, limit_bytes) = (envelope.payload.len(), Root::MAX_BYTES);
        return Err(TrustError::TooLarge { kind: Root::TYPE, bytes, limit_bytes });
    }
    // The pin vouches for these bytes, so their own role table may be read to check their signatures.
    let raw = serde_json::from_slice(&envelope.payload)
        .map_err(|source| TrustError::Json { kind: Root::TYPE, source })?;
    let claimed = Root::check(raw)
        .map_err(|source| TrustError::Invalid { kind: Root::TYPE, source: Box::new(source) })?;
    verify(envelope, &root_keys(&claimed))
}

/// Follows the root `have` to its successor: version one higher, signed by the thresholds of both.
///
/// # Errors
/// Signatures of the present root first; then version, fleet, and the new root's own signatures.
pub fn next_root(have: &Verified<Root>, envelope: &Envelope) -> Result<Verified<Root>, TrustError> {
    let next: Verified<Root> = verify(envelope, &root_keys(have))?;
    if have.version.checked_add(1).filter(|v| *v <= JSON_INTEGER_MAX) != Some(next.version) {
        return Err(TrustError::RootVersion { got: next.version, have: have.version });
    }
    if next.fleet != have.fleet {
        return Err(TrustError::RootFleet);
    }
    verify(envelope, &root_keys(&next))
}

impl Verified<Root> {
    /// Refuses a root past its end.
    ///
    /// # Errors
    /// [`TrustError::RootExpired`].
    pub fn unexpired(&self, now: Timestamp) -> Result<(), TrustError> {
        if now.as_secs() > self.expires {
            return Err(TrustError::RootExpired(self.expires));
        }
        Ok(())
    }
}

fn root_keys(root: &Root) -> RoleKeys {
    // A checked root always names its root role; without it nothing could sign.
    root.role(Role::Root, None, None)
        .unwrap_or(RoleKeys { keys: BTreeSet::new(), threshold: u32::MAX })
}
