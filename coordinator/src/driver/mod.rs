//! The driver: one task owns the view and the rollouts. It takes inputs, steps, makes the step durable,
//! acts and replies, in that order. Nothing else writes to the ledger.

mod desk;
mod hosts;
mod pages;
mod permits;
mod refused;
mod releases;
mod rollouts;
mod run;
mod seats;
mod webhooks;

pub use desk::{Desk, Settled};
pub use hosts::TokensMade;
pub use pages::AboutProcess;
pub use permits::Verb;
pub use refused::{ErrorKind, Refused};
pub use run::{Driver, DriverParts, Gone, Handle, Operators};
pub use seats::{Answer, Arrival, Seat, Wish, Word};
pub use webhooks::WebhookAsk;
