//! A disk with a volatile write cache that can lose power.
//!
//! A loop device is backed by a file in user space (FUSE); the kernel turns a flush of the device
//! into an fsync of that file, so it is known which writes are durable. At a cut each 4 KiB block
//! that was written but not flushed reaches the disk with a given probability, in any order, as on
//! a drive without power-loss protection. The file is served by a process of its own (`cutdisk`):
//! threads of the test that hang in a write to a dead disk must not keep its server alive.

mod cache;
mod disk;
mod serve;

pub use cache::{BLOCK_BYTES, Cache, CutReport};
pub use disk::CutDisk;
pub use serve::{ServeError, serve};
