//! The coordinator: it keeps the ledger, plans and steps rollouts, signs what hosts should be, and
//! answers people and agents. The shell around the pure control and rollout core.

pub mod api;
pub mod app;
pub mod blobs;
pub mod ca;
pub mod config;
pub mod depot;
pub mod driver;
pub mod files;
pub mod init;
pub mod ledger;
pub mod listen;
mod places;
pub mod recover;
pub mod renew;
pub mod sessions;
pub mod signer;
pub mod store;
pub mod webhooks;

pub use groundswell_control::{entry, present, view};
