//! The store on disk. The one file that names the engine, and all the care that it needs: its flush is
//! not durable, so its file is synced by a handle of our own; values stay small, because large ones go
//! to files that it never syncs; every value carries its own checksum.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use groundswell_common::codec::{from_record, to_record};

use super::{Changes, Store, StoreError};

/// Schema of the pieces.
const SCHEMA: u16 = 1;
/// Bytes of one piece of a record: the engine is at its best below 4 KiB.
const PIECE_BYTES: usize = 3_500;
/// Memory for its cache, in bytes.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// Records in an embedded database.
#[derive(Debug)]
pub struct SledStore {
    db: sled::Db,
    file: File,
}

impl SledStore {
    /// Opens or creates the database in `directory`.
    ///
    /// # Errors
    /// [`StoreError`]; the caller moves the directory aside then.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let db = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .open()
            .map_err(engine)?;
        let file = File::open(directory.join("db")).map_err(StoreError::Io)?;
        for place in [Some(directory), directory.parent()].into_iter().flatten() {
            File::open(place).and_then(|place| place.sync_all()).map_err(StoreError::Io)?;
        }
        Ok(Self { db, file })
    }

    fn pieces(&self, key: &str) -> Result<Vec<sled::IVec>, StoreError> {
        self.db.scan_prefix(prefix(key)).keys().collect::<Result<_, _>>().map_err(engine)
    }
}

fn engine(error: sled::Error) -> StoreError {
    StoreError::Engine(Box::new(error))
}

impl Store for SledStore {
    fn load(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let mut whole: BTreeMap<String, (u32, Vec<u8>, u32)> = BTreeMap::new();
        for item in self.db.iter() {
            let (raw, value) = item.map_err(engine)?;
            let (key, at) = split_key(&raw)?;
            let (count, bytes): (u32, Vec<u8>) = from_record(SCHEMA, &value)
                .map_err(|source| StoreError::Record { key: key.clone(), source })?;
            let entry = whole.entry(key.clone()).or_insert((0, Vec::new(), count));
            if entry.0 != at || entry.2 != count {
                return Err(StoreError::Pieces(key));
            }
            entry.0 += 1;
            entry.1.extend_from_slice(&bytes);
        }
        whole
            .into_iter()
            .map(
                |(key, (found, bytes, count))| {
                    if found == count { Ok((key, bytes)) } else { Err(StoreError::Pieces(key)) }
                },
            )
            .collect()
    }

    fn save(&mut self, changes: &Changes) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            for old in self.pieces(key)? {
                batch.remove(old);
            }
            let Some(value) = value else { continue };
            let pieces: Vec<&[u8]> = value.chunks(PIECE_BYTES).collect();
            let count = u32::try_from(pieces.len()).map_err(|_| StoreError::Pieces(key.clone()))?;
            for (piece, at) in pieces.into_iter().zip(0_u32..) {
                let record = to_record(SCHEMA, &(count, piece.to_vec()))
                    .map_err(|source| StoreError::Record { key: key.clone(), source })?;
                let mut name = prefix(key);
                name.extend_from_slice(&at.to_be_bytes());
                batch.insert(name, record);
            }
        }
        self.db.apply_batch(batch).map_err(engine)?;
        self.db.flush().map_err(engine)?;
        self.file.sync_data().map_err(StoreError::Io)
    }
}

/// The key, closed by a byte that no key contains.
fn prefix(key: &str) -> Vec<u8> {
    let mut bytes = key.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn split_key(raw: &[u8]) -> Result<(String, u32), StoreError> {
    let bad = || StoreError::Pieces(String::from_utf8_lossy(raw).into_owned());
    let (name, at) = raw.split_last_chunk::<4>().ok_or_else(bad)?;
    let name = name.strip_suffix(&[0]).ok_or_else(bad)?;
    let key = String::from_utf8(name.to_vec()).map_err(|_| bad())?;
    Ok((key, u32::from_be_bytes(*at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_any_size_come_back_shrink_and_go() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("view");
        let large: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut store = SledStore::open(&path).unwrap();
        let put = |key: &str, value: &[u8]| (key.to_owned(), Some(value.to_vec()));
        store.save(&[put("a", &large), put("ab", b"2"), put("b", b"")].into()).unwrap();
        drop(store);
        let mut store = SledStore::open(&path).unwrap();
        let found = store.load().unwrap();
        assert_eq!((found["a"].len(), found["ab"].as_slice()), (large.len(), &b"2"[..]));
        store.save(&[put("a", b"short"), ("ab".to_owned(), None)].into()).unwrap();
        let found = store.load().unwrap();
        assert_eq!(found["a"], b"short");
        assert!(!found.contains_key("ab"));
        assert!(store.db.iter().all(|item| item.unwrap().1.len() <= 4096));
    }

    #[test]
    fn a_damaged_or_missing_piece_is_an_error() {
        let place = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(&place.path().join("view")).unwrap();
        store.save(&[("k".to_owned(), Some(vec![7; 9_000]))].into()).unwrap();
        let (name, value) = store.db.iter().next().unwrap().unwrap();
        let mut bad = value.to_vec();
        bad[20] ^= 1;
        store.db.insert(&name, bad).unwrap();
        assert!(matches!(store.load(), Err(StoreError::Record { key, .. }) if key == "k"));
        store.db.remove(&name).unwrap();
        assert!(matches!(store.load(), Err(StoreError::Pieces(key)) if key == "k"));
    }
}
