//! Values and bytes that both sides of Groundswell share.
//!
//! Owns: names, digests, limits, the codec, the manifest, the bundle container, trust documents and their one
//! verifier, wire messages. Must never do IO, read a clock, log or run async code.

pub mod api;
pub mod bundle;
mod chain;
pub mod codec;
pub mod condition;
pub mod digest;
pub mod directive;
pub mod ends;
pub mod limits;
pub mod manifest;
pub mod name;
mod name_of;
pub mod path;
pub mod report;
pub mod selector;
mod telling;
pub mod time;
pub mod token;
pub mod trust;
pub mod wire;

pub use chain::chain;
pub use digest::{Digest, Hasher};
pub use name::{
    Environment, Fleet, HostId, HostName, Label, Labels, OperatorName, ReleaseId, RolloutId,
    ServiceName, Version,
};
pub use name_of::name_of;
pub use telling::{one_line, reason, telling_line};
pub use time::{Clock, Timestamp};
