//! Torn tails, damage, rotation, reading back.

use super::*;

fn payload(n: u64) -> Vec<u8> {
    format!("{{\"seq\":{n},\"text\":\"{}\"}}", "x".repeat(usize::try_from(n % 40).unwrap())).into()
}

fn open(directory: &Path) -> Result<(Log, Vec<Vec<u8>>), LedgerError> {
    let mut seen = Vec::new();
    let log = Log::open_with(directory, 600, &mut |found| {
        assert_eq!(found.seq, seen.len() as u64 + 1);
        seen.push(found.payload.to_vec());
    })?;
    Ok((log, seen))
}

fn fill(directory: &Path, groups: &[u64]) {
    let (mut log, _) = open(directory).unwrap();
    let mut next = 1;
    for size in groups {
        let payloads: Vec<_> = (next..next + size).map(payload).collect();
        assert_eq!(log.append(&payloads).unwrap().seq, next + size - 1);
        next += size;
    }
}

fn last_segment(directory: &Path) -> PathBuf {
    segment_paths(directory).unwrap().pop().unwrap().1
}

#[test]
fn the_last_record_may_be_torn_at_every_byte() {
    let whole = tempfile::tempdir().unwrap();
    fill(whole.path(), &[1, 2, 1]);
    let path = last_segment(whole.path());
    let bytes = std::fs::read(&path).unwrap();
    let last = HEAD_BYTES + payload(4).len();
    for keep in bytes.len() - last..bytes.len() {
        std::fs::write(&path, &bytes[..keep]).unwrap();
        let (mut log, seen) = open(whole.path()).unwrap();
        assert_eq!(seen.len(), 3, "cut at {keep}");
        let whole = u64::try_from(bytes.len() - last).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), whole);
        assert_eq!(log.append(&[payload(4)]).unwrap().seq, 4);
        drop(log);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "written again, byte for byte");
    }
}

#[test]
fn a_torn_group_is_cut_even_where_its_later_pages_reached_the_disk() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), &[2, 3]);
    let path = last_segment(place.path());
    let mut bytes = std::fs::read(&path).unwrap();
    let third = HEAD_BYTES * 2 + payload(1).len() + payload(2).len();
    bytes[third + 3..third + 20].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(open(place.path()).unwrap().1.len(), 2);
}

#[test]
fn damage_to_what_was_durable_is_refused_and_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), &[1, 1, 1]);
    let path = last_segment(place.path());
    let good = std::fs::read(&path).unwrap();
    let second = HEAD_BYTES + payload(1).len();
    for at in 0..second + HEAD_BYTES + payload(2).len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let error = open(place.path()).unwrap_err();
        let seq = if at < second { 1 } else { 2 };
        assert!(
            matches!(&error, LedgerError::Damaged { seq: found, .. } if *found == seq),
            "byte {at}: {error}"
        );
        assert!(Log::verify(place.path(), &mut |_| {}).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bad, "nothing is cut");
    }
}

#[test]
fn an_entry_replaced_with_a_sound_checksum_breaks_the_chain() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), &[1, 1]);
    let path = last_segment(place.path());
    let bytes = std::fs::read(&path).unwrap();
    let mut forged = Vec::new();
    encode(&mut forged, 1, Chain::start().next(b"other"), &payload(1));
    forged.extend_from_slice(&bytes[forged.len()..]);
    std::fs::write(&path, &forged).unwrap();
    assert!(matches!(open(place.path()).unwrap_err(), LedgerError::Chain { seq: 1, .. }));
}

#[test]
fn segments_rotate_read_back_and_a_missing_one_is_named() {
    let place = tempfile::tempdir().unwrap();
    fill(place.path(), &[5; 200]);
    let (log, seen) = open(place.path()).unwrap();
    assert_eq!(seen.len(), 1000);
    let paths = segment_paths(place.path()).unwrap();
    assert!(paths.len() > 10, "{} segments of 600 bytes", paths.len());
    let reader = log.reader();
    for after in [0, 1, 4, 5, 499, 998, 999] {
        let found = reader.read(after, 3, usize::MAX).unwrap();
        let seqs: Vec<u64> = found.iter().map(|entry| entry.seq).collect();
        let want: Vec<u64> = (after + 1..=1000).take(3).collect();
        assert_eq!(seqs, want);
        assert!(found.iter().all(|e| e.payload.as_bytes() == payload(e.seq)));
    }
    assert!(reader.read(1000, 3, usize::MAX).unwrap().is_empty());
    assert_eq!(reader.read(0, 1000, 1).unwrap().len(), 1, "the bound of bytes stops it");
    let error = open(place.path()).unwrap_err();
    assert!(matches!(error, LedgerError::Locked(_)), "{error}");
    drop((log, reader));
    std::fs::remove_file(&paths[3].1).unwrap();
    assert!(matches!(
        open(place.path()).unwrap_err(),
        LedgerError::Gap { seq, .. } if seq == paths[3].0
    ));
}
