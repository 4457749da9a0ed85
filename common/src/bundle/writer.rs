//! Packs a stream of contents into frames. The table stands in front, so the frames go to a spool first.

use std::io::{self, Read, Seek, SeekFrom, Write};

use super::{MAGIC, VERSION};
use crate::digest::{Digest, Hasher};
use crate::limits::{BUNDLE_FRAME_MAX_BYTES, BUNDLE_FRAMES_MAX};

/// Compression level: fast to pack, and unpacking is what hosts wait for.
const ZSTD_LEVEL: i32 = 3;

/// Why a bundle could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The spool or the output failed.
    #[error("pack the bundle")]
    Io(#[from] io::Error),
    /// More content than a bundle may carry.
    #[error("pack the bundle: over 256 GiB of content; split the service into smaller ones")]
    TooLarge,
}

/// Collects contents, then writes the bundle. `S` is a spool that can be read back.
#[derive(Debug)]
pub struct BundleWriter<S> {
    spool: S,
    raw: Vec<u8>,
    table: Vec<(u32, u32)>,
}

impl<S: Read + Write + Seek> BundleWriter<S> {
    /// Starts an empty bundle on an empty spool.
    #[must_use]
    pub fn new(spool: S) -> Self {
        Self { spool, raw: Vec::new(), table: Vec::new() }
    }

    /// Appends content; contents follow each other without a mark, their sizes stand in the manifest.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn append(&mut self, mut content: &[u8]) -> Result<(), PackError> {
        while !content.is_empty() {
            let room = BUNDLE_FRAME_MAX_BYTES - self.raw.len();
            let (now, later) = content.split_at(content.len().min(room));
            self.raw.extend_from_slice(now);
            content = later;
            if self.raw.len() == BUNDLE_FRAME_MAX_BYTES {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) -> Result<(), PackError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        if self.table.len() == BUNDLE_FRAMES_MAX {
            return Err(PackError::TooLarge);
        }
        let packed = zstd::bulk::compress(&self.raw, ZSTD_LEVEL)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(|_| PackError::TooLarge);
        self.table.push((length(&packed)?, length(&self.raw)?));
        self.spool.write_all(&packed)?;
        self.raw.clear();
        Ok(())
    }

    /// Writes the whole bundle; returns its digest and size.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn finish(mut self, out: &mut impl Write) -> Result<(Digest, u64), PackError> {
        self.end_frame()?;
        let frames = u32::try_from(self.table.len()).map_err(|_| PackError::TooLarge)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&0_u16.to_le_bytes());
        head.extend_from_slice(&frames.to_le_bytes());
        for (packed, raw) in &self.table {
            head.extend_from_slice(&packed.to_le_bytes());
            head.extend_from_slice(&raw.to_le_bytes());
        }
        let (mut hasher, mut size) = (Hasher::new(), 0_u64);
        let mut emit = |bytes: &[u8]| {
            hasher.update(bytes);
            size += bytes.len() as u64;
            out.write_all(bytes)
        };
        emit(&head)?;
        self.spool.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.spool.read(&mut buffer)? {
                0 => break,
                count => emit(&buffer[..count])?,
            }
        }
        Ok((hasher.finish(), size))
    }
}
