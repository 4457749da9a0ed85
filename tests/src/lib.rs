//! The test bed: real systemd hosts on a private network, a disk that can lose power, and the small
//! helpers that every cross-crate test shares.
//!
//! Everything here panics on failure, naming what was awaited or which command failed: a test bed
//! that cannot do its work must fail the test, never skip it. Nothing here may be used by a product
//! crate, and nothing here may touch the machine outside of the namespaces it made.

pub mod bins;
pub mod busy;
pub mod cutdisk;
pub mod fleet;
pub mod hosts;
pub mod kept;
mod mounts;
pub mod must;
pub mod private;
pub mod shop;
pub mod slow;
pub mod tools;
pub mod wait;
