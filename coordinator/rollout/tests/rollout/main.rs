//! The rollout core against its specification, docs/rollout.md.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bed;
mod check;
mod diagram;
mod explain;
mod facts;
mod guards;
mod held;
mod journey;
mod off;
mod plan;
mod policy;
mod random;
mod recipe;
mod report;
mod revert;
mod rules;
mod stop;
mod table;
mod traps;
mod windows;
