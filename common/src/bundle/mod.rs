//! The bundle: one container with every distinct file content of a release, in independent zstd frames
//! behind a frame table. Knows nothing of disks. The specification is docs/bundle-format.md.

mod check;
mod reader;
mod writer;

pub use check::{ContentError, check_bundle};
pub use reader::{BundleError, BundleReader};
pub use writer::{BundleWriter, PackError};

/// First bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"GSBUNDLE";
/// The version written and read here.
pub const VERSION: u16 = 1;
/// Magic, version `u16`, reserved `u16` (0), frame count `u32`.
pub const HEAD_BYTES: usize = 16;
/// One entry of the frame table: packed length `u32`, raw length `u32`.
pub const ENTRY_BYTES: usize = 8;

#[cfg(test)]
mod tests;
