//! The one file that names `bincode`: a version byte, a size limit, nothing left over.
//!
//! Two envelopes: a frame body (`version u8`, payload) for the wire, whose length the frame header
//! carries, and a record (`magic`, `schema u16`, `length u32`, payload, `crc32c u32`) for the store's view.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{FRAME_MAX_BYTES, RECORD_MAX_BYTES};

/// The version of the wire's messages, first byte of each frame body.
pub const WIRE_VERSION: u8 = 1;
/// First bytes of each record of the store's view.
const RECORD_MAGIC: [u8; 2] = *b"gs";
const RECORD_HEAD_BYTES: usize = 8;
const RECORD_TAIL_BYTES: usize = 4;

/// Why bytes could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A value that would be larger than its limit.
    #[error("encode a message: {bytes} bytes exceed the limit of {limit_bytes}")]
    TooLarge {
        /// What it would take.
        bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// A version that this build does not read.
    #[error(
        "read a message of version {got}: this build reads version {want}; update the older side"
    )]
    Version {
        /// The version found.
        got: u16,
        /// The version that is read here.
        want: u16,
    },
    /// Bytes after the end of the value.
    #[error("read a message: {0} bytes left over after its end")]
    Trailing(usize),
    /// Fewer bytes than the envelope says, or none.
    #[error("read a message: cut short")]
    Truncated,
    /// A checksum that does not fit.
    #[error("read a record: checksum does not fit; the record is damaged")]
    Checksum,
    /// The payload does not decode.
    #[error("read a message: malformed payload")]
    Decode(#[source] bincode::error::DecodeError),
    /// The value does not encode.
    #[error("encode a message")]
    Encode(#[source] bincode::error::EncodeError),
}

/// Encodes one message as a frame body.
///
/// # Errors
/// [`CodecError::TooLarge`] over [`FRAME_MAX_BYTES`]; [`CodecError::Encode`] for a type the codec cannot carry.
pub fn to_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![WIRE_VERSION];
    encode_into(&mut bytes, message)?;
    fits(bytes.len(), FRAME_MAX_BYTES)?;
    Ok(bytes)
}

/// Reads one message from a whole frame body.
///
/// # Errors
/// Every defect of the bytes, typed; never panics and never allocates beyond the limit.
pub fn from_frame<T: DeserializeOwned>(body: &[u8]) -> Result<T, CodecError> {
    fits(body.len(), FRAME_MAX_BYTES)?;
    let (version, payload) = body.split_first().ok_or(CodecError::Truncated)?;
    if *version != WIRE_VERSION {
        return Err(CodecError::Version {
            got: u16::from(*version),
            want: u16::from(WIRE_VERSION),
        });
    }
    decode::<T, FRAME_MAX_BYTES>(payload)
}

/// Encodes one value of schema `schema` as a record.
///
/// # Errors
/// [`CodecError::TooLarge`] over [`RECORD_MAX_BYTES`]; [`CodecError::Encode`].
pub fn to_record<T: Serialize>(schema: u16, value: &T) -> Result<Vec<u8>, CodecError> {
    let mut payload = Vec::new();
    encode_into(&mut payload, value)?;
    fits(payload.len(), RECORD_MAX_BYTES)?;
    let length = u32::try_from(payload.len()).map_err(|_| CodecError::Truncated)?;
    let mut bytes = Vec::with_capacity(payload.len() + RECORD_HEAD_BYTES + RECORD_TAIL_BYTES);
    bytes.extend_from_slice(&RECORD_MAGIC);
    bytes.extend_from_slice(&schema.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    Ok(bytes)
}

/// Reads one record of schema `schema`.
///
/// # Errors
/// Every defect of the bytes, typed; a record of another schema is [`CodecError::Version`].
pub fn from_record<T: DeserializeOwned>(schema: u16, bytes: &[u8]) -> Result<T, CodecError> {
    let (sealed, tail) =
        bytes.split_last_chunk::<RECORD_TAIL_BYTES>().ok_or(CodecError::Truncated)?;
    if crc32c::crc32c(sealed) != u32::from_le_bytes(*tail) {
        return Err(CodecError::Checksum);
    }
    let (head, payload) =
        sealed.split_first_chunk::<RECORD_HEAD_BYTES>().ok_or(CodecError::Truncated)?;
    let [m0, m1, s0, s1, l0, l1, l2, l3] = *head;
    let found = u16::from_le_bytes([s0, s1]);
    if [m0, m1] != RECORD_MAGIC || found != schema {
        return Err(CodecError::Version { got: found, want: schema });
    }
    if usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])) != Ok(payload.len()) {
        return Err(CodecError::Truncated);
    }
    decode::<T, RECORD_MAX_BYTES>(payload)
}

fn encode_into<T: Serialize>(bytes: &mut Vec<u8>, value: &T) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, bytes, bincode::config::standard())
        .map(|_| ())
        .map_err(CodecError::Encode)
}

fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, read) =
        bincode::serde::decode_from_slice(bytes, config).map_err(CodecError::Decode)?;
    match bytes.len() - read {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}

fn fits(bytes: usize, limit_bytes: usize) -> Result<(), CodecError> {
    if bytes > limit_bytes { Err(CodecError::TooLarge { bytes, limit_bytes }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nine_byte_message_that_claims_a_huge_string_is_an_error() {
        let mut body = vec![WIRE_VERSION, 253];
        body.extend_from_slice(&(u64::MAX / 2).to_le_bytes());
        assert!(matches!(
            from_frame::<String>(&body),
            Err(CodecError::Decode(bincode::error::DecodeError::LimitExceeded))
        ));
    }

    #[test]
    fn each_defect_of_a_frame_has_its_error() {
        let good = to_frame(&(7_u32, "x")).expect("frame");
        assert_eq!(from_frame::<(u32, String)>(&good).expect("frame"), (7, "x".to_owned()));
        assert!(matches!(from_frame::<u32>(&[]), Err(CodecError::Truncated)));
        assert!(matches!(from_frame::<u32>(&[9, 1]), Err(CodecError::Version { got: 9, want: 1 })));
        assert!(matches!(from_frame::<u32>(&[1, 1, 1]), Err(CodecError::Trailing(1))));
        assert!(matches!(from_frame::<u32>(&[1]), Err(CodecError::Decode(_))));
        let large = vec![WIRE_VERSION; FRAME_MAX_BYTES + 1];
        assert!(matches!(from_frame::<u32>(&large), Err(CodecError::TooLarge { .. })));
        assert!(matches!(to_frame(&"x".repeat(FRAME_MAX_BYTES)), Err(CodecError::TooLarge { .. })));
    }

    #[test]
    fn every_flipped_byte_of_a_record_is_seen() {
        let good = to_record(3, &("shop", 9_u64)).expect("record");
        assert_eq!(from_record::<(String, u64)>(3, &good).expect("good"), ("shop".to_owned(), 9));
        assert!(matches!(
            from_record::<(String, u64)>(4, &good),
            Err(CodecError::Version { got: 3, want: 4 })
        ));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(matches!(from_record::<(String, u64)>(3, &bad), Err(CodecError::Checksum)));
            assert!(from_record::<(String, u64)>(3, &good[..at]).is_err());
        }
    }
}
