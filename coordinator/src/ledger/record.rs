//! One record in a segment: head, chain value, payload. A pure codec over byte slices.
//!
//! `"GSL1" | payload length u32 | crc32c u32 | group u64 | chain [32] | payload`, integers
//! little-endian. The checksum covers all that follows it and the length. `group` is the number of the
//! first entry of the group commit that wrote the record: everything before it was durable by then.

use groundswell_common::digest::{Digest, Hasher};
use groundswell_control::entry::PAYLOAD_MAX_BYTES;

/// First bytes of each record.
pub(super) const MAGIC: [u8; 4] = *b"GSL1";
/// Bytes in front of a payload.
pub(super) const HEAD_BYTES: usize = 4 + 4 + 4 + 8 + 32;

/// The chain value after an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(Digest);

impl Chain {
    /// The value before entry 1.
    #[must_use]
    pub fn start() -> Self {
        Self(Digest::from_bytes([0; 32]))
    }

    /// The value after an entry with this payload.
    #[must_use]
    pub fn next(self, payload: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(self.0.as_bytes());
        hasher.update(payload);
        Self(hasher.finish())
    }

    /// The value itself.
    #[must_use]
    pub fn digest(self) -> Digest {
        self.0
    }
}

/// A record as it stands in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) group: u64,
    pub(super) chain: Chain,
    pub(super) payload: &'a [u8],
}

impl Record<'_> {
    /// Bytes that the record takes in the segment.
    pub(super) fn length(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }
}

/// Appends one record to `bytes`; the payload's size has been checked.
pub(super) fn encode(bytes: &mut Vec<u8>, group: u64, chain: Chain, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let group = group.to_le_bytes();
    let crc = checksum(&length, &group, chain.0.as_bytes(), payload).to_le_bytes();
    for part in [&MAGIC[..], &length, &crc, &group, chain.0.as_bytes(), payload] {
        bytes.extend_from_slice(part);
    }
}

/// The record at the start of `bytes`; `None` where they hold no whole and sound one.
pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let (magic, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let (group, rest) = rest.split_first_chunk::<8>()?;
    let (chain, rest) = rest.split_first_chunk::<32>()?;
    let payload_bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if *magic != MAGIC || payload_bytes > PAYLOAD_MAX_BYTES {
        return None;
    }
    let payload = rest.get(..payload_bytes)?;
    if checksum(length, group, chain, payload) != u32::from_le_bytes(*crc) {
        return None;
    }
    let group = u64::from_le_bytes(*group);
    Some(Record { group, chain: Chain(Digest::from_bytes(*chain)), payload })
}

/// Whether a sound record whose group began after entry `seq` stands anywhere in `bytes`: then entry
/// `seq` was durable, and bytes missing there are damage and not a torn write.
pub(super) fn later_group(bytes: &[u8], seq: u64) -> bool {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= HEAD_BYTES) {
        if rest.starts_with(&MAGIC) && decode(rest).is_some_and(|record| record.group > seq) {
            return true;
        }
        at += 1;
    }
    false
}

fn checksum(length: &[u8; 4], group: &[u8; 8], chain: &[u8; 32], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(length);
    let crc = crc32c::crc32c_append(crc, group);
    let crc = crc32c::crc32c_append(crc, chain);
    crc32c::crc32c_append(crc, payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_byte_and_every_cut_is_seen() {
        let mut good = Vec::new();
        encode(&mut good, 7, Chain::start().next(b"x"), b"payload");
        let record = decode(&good).expect("record");
        assert_eq!((record.group, record.payload), (7, &b"payload"[..]));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(decode(&bad), None, "byte {at}");
            assert_eq!(decode(&good[..at]), None, "cut at {at}");
        }
    }
}
