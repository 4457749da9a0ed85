//! The envelope of a signed document: its type, its exact payload bytes and the signatures over both.

use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::key::{PublicKey, SecretKey};
use crate::digest::{Digest, hex, unhex};
use crate::limits::SIGNATURES_MAX;

/// A document kind: its type tag, its bound, and how raw JSON becomes a checked value.
pub trait Document: Sized {
    /// The JSON form; must refuse unknown fields.
    type Raw: DeserializeOwned;
    /// Why a raw value is no document.
    type Invalid: std::error::Error + Send + Sync + 'static;
    /// Domain tag that is signed with the payload, `groundswell.KIND.vN`.
    const TYPE: &'static str;
    /// Largest payload that is parsed, in bytes.
    const MAX_BYTES: usize;

    /// Checks every rule that one document alone can break.
    ///
    /// # Errors
    /// The first rule broken.
    fn check(raw: Self::Raw) -> Result<Self, Self::Invalid>;
}

/// One signature: by whom and over [`pae`] of the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The key's own bytes; a key id would have to be trusted, bytes need not.
    pub key: PublicKey,
    /// 64 bytes of Ed25519.
    #[serde(with = "signature_bytes")]
    pub sig: [u8; 64],
}

/// A document as it is stored and sent. The payload is kept byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    /// The domain tag ([`Document::TYPE`]).
    #[serde(rename = "type")]
    pub kind: String,
    /// The exact bytes that were signed.
    #[serde(with = "payload_bytes")]
    pub payload: Vec<u8>,
    /// At most 64.
    pub signatures: Vec<Signature>,
}

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// More bytes than any document of the kind may have.
    #[error("read a signed document: {bytes} bytes, at most {limit_bytes}")]
    TooLarge {
        /// What came.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// Not the JSON of an envelope.
    #[error("read a signed document: want JSON with type, payload and signatures")]
    Json(#[source] serde_json::Error),
    /// More signatures than are looked at.
    #[error("read a signed document: {0} signatures, at most 64")]
    Signatures(usize),
}

impl Envelope {
    /// Wraps `payload` as a document of kind `D`, unsigned.
    #[must_use]
    pub fn new<D: Document>(payload: Vec<u8>) -> Self {
        Self { kind: D::TYPE.to_owned(), payload, signatures: Vec::new() }
    }

    /// Adds a signature by `key` over the type and the exact payload.
    #[must_use]
    pub fn signed_by(mut self, key: &SecretKey) -> Self {
        let sig = key.sign(&pae(&self.kind, &self.payload));
        self.signatures.push(Signature { key: key.public(), sig });
        self
    }

    /// The digest of the payload, which names the document.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.payload)
    }

    /// Reads the JSON form, `limit_bytes` being the bound of the payload.
    ///
    /// # Errors
    /// Size first, then JSON, then the number of signatures.
    pub fn from_json(bytes: &[u8], limit_bytes: usize) -> Result<Self, EnvelopeError> {
        // Base64 grows a payload by a third; signatures and keys take under 300 bytes each.
        let most = limit_bytes / 3 * 4 + SIGNATURES_MAX * 300 + 1024;
        if bytes.len() > most {
            return Err(EnvelopeError::TooLarge { bytes: bytes.len(), limit_bytes: most });
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(EnvelopeError::Json)?;
        if envelope.signatures.len() > SIGNATURES_MAX {
            return Err(EnvelopeError::Signatures(envelope.signatures.len()));
        }
        Ok(envelope)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // An envelope holds text, bytes and lists only: nothing in it can fail to become JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Reads an optional field that must stand in the document all the same: "none" is written as `null`,
/// never by leaving the field out, so that nothing is granted by an omission.
pub(crate) fn written<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(d)
}

/// DSSE's pre-authentication encoding: what is really signed, so that no type can pass for another.
/// Source: the DSSE protocol, version 1.
#[must_use]
pub fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

mod signature_bytes {
    use super::{Deserialize, Deserializer, Serialize, Serializer, de, hex, unhex};

    pub(super) fn serialize<S: Serializer>(sig: &[u8; 64], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(&hex(sig)) } else { sig.as_slice().serialize(s) }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 64], D::Error> {
        let bytes = if d.is_human_readable() {
            unhex(&String::deserialize(d)?)
        } else {
            Some(Vec::<u8>::deserialize(d)?)
        };
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| {
            de::Error::custom("a signature is 64 bytes, in JSON 128 hexadecimal digits")
        })
    }
}

mod payload_bytes {
    use base64::Engine as _;

    use super::{Deserialize, Deserializer, STANDARD, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.serialize_str(&STANDARD.encode(bytes))
        } else {
            bytes.serialize(s)
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        if d.is_human_readable() {
            STANDARD.decode(String::deserialize(d)?).map_err(de::Error::custom)
        } else {
            Vec::<u8>::deserialize(d)
        }
    }
}
