//! The coordinator as a whole: real listeners, a driver with seats that no network is behind, and what
//! comes back after a restart.
#![expect(clippy::unwrap_used, reason = "tests")]

mod approvals;
mod back;
mod bed;
mod blobs;
mod clock;
mod crowd;
mod environments;
mod fake;
mod history;
mod lifted;
mod newcomers;
mod off;
mod rollouts;
mod routes;
mod stalls;
mod steer;
mod view;
mod webhooks;
