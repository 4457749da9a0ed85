//! The agent of Groundswell: fetches, verifies, stages, switches, probes, commits or reverts, and reports.
//! A pure machine a service, one driver that owns them, and ports to the outside. Never imports the
//! coordinator.

mod accepted;
mod access;
pub mod app;
mod back;
mod boot;
mod bring;
mod cancel;
mod clock;
pub mod config;
mod contact;
pub mod doctor;
mod drift;
mod driver;
mod durable;
mod enroll;
mod exec;
mod fetch;
#[cfg(test)]
mod fixture;
pub mod hand;
mod hooks;
mod https;
mod identity;
mod journal;
mod layout;
mod link;
mod live;
pub mod own;
mod ports;
mod probe;
mod prune;
mod relay;
mod stage;
pub mod status;
mod switch;
mod text;
mod told;
mod trustee;
mod units;
mod watch;
pub mod why;
mod work;
