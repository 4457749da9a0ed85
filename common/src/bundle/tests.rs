use std::io::Cursor;

use super::*;
use crate::digest::Digest;
use crate::limits::BUNDLE_FRAME_MAX_BYTES;

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..bytes).map(|_| next()).collect()
}

fn pack(contents: &[&[u8]]) -> Vec<u8> {
    let mut writer = BundleWriter::new(Cursor::new(Vec::new()));
    for content in contents {
        writer.append(content).expect("append");
    }
    let mut out = Vec::new();
    let (digest, size) = writer.finish(&mut out).expect("finish");
    assert_eq!((digest, size), (Digest::of(&out), out.len() as u64));
    out
}

fn unpack(bundle: &[u8], sizes: &[u64]) -> Result<Vec<Vec<u8>>, BundleError> {
    let mut reader = BundleReader::open(bundle)?;
    let mut all = Vec::new();
    for size in sizes {
        let mut content = Vec::new();
        reader.content(*size, |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        all.push(content);
    }
    reader.finish().map(|()| all)
}

#[test]
fn contents_come_back_over_frame_borders() {
    let large = noise(BUNDLE_FRAME_MAX_BYTES * 2 + 77);
    let bundle = pack(&[b"one", b"", &large, b"end"]);
    let sizes = [3, 0, large.len() as u64, 3];
    assert_eq!(
        unpack(&bundle, &sizes).expect("unpack"),
        [b"one".to_vec(), vec![], large, b"end".to_vec()]
    );
}

#[test]
fn equal_contents_pack_to_equal_bytes() {
    assert_eq!(pack(&[b"ab", b"c"]), pack(&[b"a", b"bc"]));
}

#[test]
fn each_defect_has_its_error() {
    let good = pack(&[b"hello"]);
    assert!(matches!(unpack(&good[..10], &[5]), Err(BundleError::Io(_))));
    assert!(matches!(unpack(&good[..good.len() - 1], &[5]), Err(BundleError::Io(_))));
    assert!(matches!(unpack(&good, &[6]), Err(BundleError::Short(1))));
    assert!(matches!(unpack(&good, &[4]), Err(BundleError::Trailing)));
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(unpack(&longer, &[5]), Err(BundleError::Trailing)));
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        unpack(&bad, &[5])
    };
    assert!(matches!(with(0, b"X"), Err(BundleError::Magic)));
    assert!(matches!(with(8, &[2]), Err(BundleError::Magic)));
    assert!(matches!(with(12, &[0xff; 4]), Err(BundleError::Frames(u32::MAX))));
    assert!(matches!(with(16, &[0xff; 4]), Err(BundleError::FrameLength { frame: 0, .. })));
    assert!(matches!(with(20, &[0; 4]), Err(BundleError::FrameLength { frame: 0, .. })));
    assert!(matches!(with(20, &[4, 0, 0, 0]), Err(BundleError::Frame(0))));
    assert!(matches!(with(24, &[0; 4]), Err(BundleError::Frame(0))));
}
