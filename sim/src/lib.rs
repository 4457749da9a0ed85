//! A whole fleet in one thread: the control of the coordinator and the machines of every agent over a
//! simulated network, disk and clock. One seed is one run; the same seed gives the same trace.
//! And the rehearsal of a policy: the core alone, with hosts that are made up, in virtual time.
//! Reads no clock, file or random source. See docs/simulator.md and docs/rehearsal.md.

mod check;
mod draw;
pub mod faults;
mod host;
pub mod lanes;
mod random;
pub mod rehearse;
mod site;
mod world;

pub use check::{Finding, NOT_HELD_YET, Property};
pub use random::Random;
pub use world::{FAULTS, Faults, Outcome, run, run_but};
