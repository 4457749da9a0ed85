//! Owns the binary targets: frames, messages, records of the store, bundles.

use std::fmt::Debug;

use groundswell_common::bundle::{BundleError, BundleReader};
use groundswell_common::codec::{from_frame, from_record, to_frame, to_record};
use groundswell_common::report::Report;
use groundswell_common::selector::Selector;
use groundswell_common::wire::{FrameError, FrameParser, ToAgent, ToCoordinator, frame as framed};
use groundswell_common::{Labels, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::memory::bounded;

const MIB: usize = 1 << 20;
/// A text may claim the largest record before its bytes are looked for; each list reserves up to 1 MiB.
const RECORD_HELD_MAX: usize = 24 * MIB;

/// A frame body: what is read is written and read again as the same value, in no more bytes.
fn message<T: Serialize + DeserializeOwned + PartialEq + Debug>(data: &[u8]) {
    let mut body = vec![1];
    body.extend_from_slice(data);
    let Ok(read) = bounded(16 * MIB, || from_frame::<T>(&body)) else { return };
    let written = to_frame(&read).expect("a message that was read can be written");
    assert!(written.len() <= body.len(), "the written form is the shortest");
    let again: T = from_frame(&written).expect("a message that was written can be read");
    assert_eq!(again, read);
    assert_eq!(to_frame(&again).expect("write"), written);
}

/// What an agent says.
pub fn to_coordinator(data: &[u8]) {
    message::<ToCoordinator>(data);
}

/// What the coordinator says.
pub fn to_agent(data: &[u8]) {
    message::<ToAgent>(data);
}

/// A report by itself.
pub fn report(data: &[u8]) {
    message::<Report>(data);
}

fn cut(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Vec<u8>>, Option<FrameError>) {
    let (mut parser, mut bodies) = (FrameParser::default(), Vec::new());
    for mut piece in pieces {
        loop {
            match parser.take(&mut piece) {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break,
                Err(error) => return (bodies, Some(error)),
            }
        }
    }
    (bodies, None)
}

/// A stream: the same frames however it is cut, and what was framed is the stream again.
pub fn frame(data: &[u8]) {
    let Some((first, stream)) = data.split_first() else { return };
    let (bodies, error) = bounded(MIB, || cut(&mut [stream].into_iter()));
    let size = usize::from(*first % 17) + 1;
    assert_eq!(cut(&mut stream.chunks(size)), (bodies.clone(), error));
    let mut whole = Vec::new();
    for body in &bodies {
        whole.extend(framed(body).expect("a body that came in a frame fits one"));
        let _ = from_frame::<ToCoordinator>(body);
    }
    assert!(stream.starts_with(&whole));
}

/// A record of the store: damaged ones, and ones whose checksum fits whatever they hold.
pub fn record(data: &[u8]) {
    type Value = (Labels, Selector, Vec<Report>, Option<Timestamp>);
    let _ = bounded(RECORD_HELD_MAX, || from_record::<Value>(1, data));
    let mut sealed = b"gs\x01\x00".to_vec();
    sealed.extend_from_slice(&u32::try_from(data.len()).expect("short").to_le_bytes());
    sealed.extend_from_slice(data);
    sealed.extend_from_slice(&crc32c::crc32c(&sealed).to_le_bytes());
    let Ok(read) = bounded(RECORD_HELD_MAX, || from_record::<Value>(1, &sealed)) else { return };
    let written = to_record(1, &read).expect("a record that was read can be written");
    assert_eq!(from_record::<Value>(1, &written).expect("read again"), read);
}

/// A bundle: its contents come in the sizes asked for or not at all, one frame at a time.
pub fn bundle(data: &[u8]) {
    let Some((size, data)) = data.split_first_chunk::<2>() else { return };
    let size = u64::from(u16::from_le_bytes(*size));
    // The table (2 MiB of entries, doubled while it grows), one packed and one raw frame, zstd's state.
    bounded(12 * MIB, || {
        let Ok(mut reader) = BundleReader::open(data) else { return };
        for asked in [size, 1, size * 64] {
            let mut got = 0;
            let end = reader.content(asked, |piece| {
                got += piece.len() as u64;
                Ok(())
            });
            match end {
                Ok(()) => assert_eq!(got, asked),
                Err(BundleError::Short(left)) => {
                    assert_eq!(got + left, asked);
                    reader.finish().unwrap_or_else(|error| {
                        assert!(matches!(error, BundleError::Trailing), "{error:?}");
                    });
                    return;
                }
                Err(_) => return,
            }
        }
    });
}
