//! Reads a bundle as one bounded stream of content. Holds one frame at a time; trusts no length.

use std::io::{self, Read};

use super::{ENTRY_BYTES, HEAD_BYTES, MAGIC, VERSION};
use crate::limits::{BUNDLE_FRAME_MAX_BYTES, BUNDLE_FRAME_PACKED_MAX_BYTES, BUNDLE_FRAMES_MAX};

/// Why bytes are no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The source failed or ended early.
    #[error("read the bundle")]
    Io(#[source] io::Error),
    /// Not a bundle, or of a version unknown here.
    #[error("read the bundle: not a version 1 bundle; publish it again or update the agent")]
    Magic,
    /// A frame count over the bound.
    #[error("read the bundle: {0} frames, at most 262144")]
    Frames(u32),
    /// A frame length that is 0 or over its bound.
    #[error("read the bundle: frame {frame} claims {bytes} bytes, at most {limit_bytes}")]
    FrameLength {
        /// Which frame, from 0.
        frame: usize,
        /// What it claims.
        bytes: u32,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// A frame that does not unpack to what the table says.
    #[error("read the bundle: frame {0} is damaged; fetch it again")]
    Frame(usize),
    /// Fewer bytes of content than asked for.
    #[error("read the bundle: its content ends {0} bytes early")]
    Short(u64),
    /// Content or bytes after the last that was asked for.
    #[error("read the bundle: bytes left over after its content")]
    Trailing,
}

/// A bundle being read.
pub struct BundleReader<R> {
    source: R,
    table: std::vec::IntoIter<(u32, u32)>,
    next_frame: usize,
    raw: Vec<u8>,
    read: usize,
    unpack: zstd::bulk::Decompressor<'static>,
}

impl<R> std::fmt::Debug for BundleReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BundleReader(frame {})", self.next_frame)
    }
}

impl<R: Read> BundleReader<R> {
    /// Reads head and table.
    ///
    /// # Errors
    /// [`BundleError`]; at most 2 MiB are held for the table.
    pub fn open(mut source: R) -> Result<Self, BundleError> {
        let mut head = [0; HEAD_BYTES];
        source.read_exact(&mut head).map_err(BundleError::Io)?;
        let mut want = MAGIC.to_vec();
        want.extend_from_slice(&VERSION.to_le_bytes());
        want.extend_from_slice(&[0, 0]);
        let (fixed, count) = head.split_at(want.len());
        if fixed != want.as_slice() {
            return Err(BundleError::Magic);
        }
        let count = u32::from_le_bytes(count.try_into().map_err(|_| BundleError::Magic)?);
        let frames = usize::try_from(count).unwrap_or(usize::MAX);
        if frames > BUNDLE_FRAMES_MAX {
            return Err(BundleError::Frames(count));
        }
        let mut table = Vec::new();
        for frame in 0..frames {
            let mut entry = [0; ENTRY_BYTES];
            source.read_exact(&mut entry).map_err(BundleError::Io)?;
            let [p0, p1, p2, p3, r0, r1, r2, r3] = entry;
            let packed = u32::from_le_bytes([p0, p1, p2, p3]);
            let raw = u32::from_le_bytes([r0, r1, r2, r3]);
            bounded(frame, packed, BUNDLE_FRAME_PACKED_MAX_BYTES)?;
            bounded(frame, raw, BUNDLE_FRAME_MAX_BYTES)?;
            table.push((packed, raw));
        }
        let unpack = zstd::bulk::Decompressor::new().map_err(BundleError::Io)?;
        let table = table.into_iter();
        Ok(Self { source, table, next_frame: 0, raw: Vec::new(), read: 0, unpack })
    }

    /// Passes the next `size` bytes of content to `sink`, piece by piece.
    ///
    /// # Errors
    /// [`BundleError`] of the source, or what `sink` returns as [`BundleError::Io`].
    pub fn content(
        &mut self,
        size: u64,
        mut sink: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), BundleError> {
        let mut left = size;
        while left > 0 {
            if self.read == self.raw.len() && !self.fill()? {
                return Err(BundleError::Short(left));
            }
            let ready = self.raw.get(self.read..).unwrap_or_default();
            let take = usize::try_from(left).map_or(ready.len(), |left| left.min(ready.len()));
            let (now, _) = ready.split_at(take);
            sink(now).map_err(BundleError::Io)?;
            self.read += take;
            left -= take as u64;
        }
        Ok(())
    }

    /// Unpacks the next frame; `false` when there is none.
    fn fill(&mut self) -> Result<bool, BundleError> {
        let Some((packed, raw)) = self.table.next() else { return Ok(false) };
        let frame = self.next_frame;
        self.next_frame += 1;
        // Both lengths were bounded when the table was read.
        let (packed, raw) = (packed as usize, raw as usize);
        let mut bytes = vec![0; packed];
        self.source.read_exact(&mut bytes).map_err(BundleError::Io)?;
        self.raw = self.unpack.decompress(&bytes, raw).map_err(|_| BundleError::Frame(frame))?;
        self.read = 0;
        if self.raw.len() == raw { Ok(true) } else { Err(BundleError::Frame(frame)) }
    }

    /// Ends the reading: nothing may be left.
    ///
    /// # Errors
    /// [`BundleError::Trailing`].
    pub fn finish(mut self) -> Result<(), BundleError> {
        let mut one = [0];
        let content_left = self.read < self.raw.len() || self.table.next().is_some();
        if content_left || self.source.read(&mut one).map_err(BundleError::Io)? != 0 {
            return Err(BundleError::Trailing);
        }
        Ok(())
    }
}

fn bounded(frame: usize, bytes: u32, limit_bytes: usize) -> Result<(), BundleError> {
    if bytes == 0 || usize::try_from(bytes).is_ok_and(|bytes| bytes > limit_bytes) {
        return Err(BundleError::FrameLength { frame, bytes, limit_bytes });
    }
    Ok(())
}
