//! Owns the target of the ledger's records. Their codec is pure, so it is taken by its file: the
//! coordinator's other dependencies stay out of this build.

#[path = "../../coordinator/src/ledger/record.rs"]
mod record;

use record::{Chain, decode, encode, later_group};

use crate::memory::bounded;

/// A record borrows its payload: reading one holds nothing.
const LEDGER_HELD_MAX: usize = 64 * 1024;

/// A segment: every sound record in it is written again as the bytes that were read.
pub fn ledger(data: &[u8]) {
    bounded(LEDGER_HELD_MAX, || later_group(data, 0));
    let mut rest = data;
    while let Some(found) = bounded(LEDGER_HELD_MAX, || decode(rest)) {
        let mut again = Vec::new();
        encode(&mut again, found.group, found.chain, found.payload);
        assert_eq!(rest.get(..found.length()), Some(again.as_slice()));
        rest = rest.get(found.length()..).unwrap_or_default();
    }
    // Whatever the bytes are, as a payload they come back, and the next record is found behind them.
    let (first, second) = (Chain::start().next(data), Chain::start().next(data).next(b"next"));
    let mut segment = Vec::new();
    encode(&mut segment, 1, first, data);
    let length = segment.len();
    encode(&mut segment, 2, second, b"next");
    let read = decode(&segment).expect("a record that was written can be read");
    assert_eq!((read.group, read.payload, read.length()), (1, data, length));
    assert_eq!(read.chain.digest(), first.digest());
    let behind = segment.get(length..).and_then(decode).expect("the next record");
    assert_eq!(behind.payload, b"next");
    assert!(later_group(&segment, 1), "a later group is found whatever stands before it");
}

/// A segment of two entries, for the seed corpus.
#[must_use]
pub fn ledger_segment() -> Vec<u8> {
    let mut segment = Vec::new();
    let mut chain = Chain::start();
    for (group, payload) in [(1, &b"{\"seq\":1}"[..]), (2, b"{\"seq\":2}")] {
        chain = chain.next(payload);
        encode(&mut segment, group, chain, payload);
    }
    segment
}
