//! The machine of one service on one host: pure. Takes events and the time as values, returns the next
//! state and what is to be done. Must never do IO, read a clock or name a port.

mod again;
mod contact;
mod hand;
mod staging;
mod state;
mod step;
mod switching;
mod watch;

pub use contact::Contact;
pub use state::{Cause, Known, Service, State, StuckCause, Wish};
pub use step::{Action, Again, Event};
pub use watch::GUARD_SECS;

#[cfg(test)]
mod tests;
