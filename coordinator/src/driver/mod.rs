//! The driver: one task owns the control. It takes inputs, lets the control decide, makes that durable,
//! acts and replies, in that order. Nothing else writes to the ledger.

mod desk;
mod ends;
mod hosts;
mod pages;
mod permits;
mod run;
mod seats;

pub use desk::{Desk, Settled};
pub use groundswell_control::{ErrorKind, Hold, Refused, Start, Verb, WebhookAsk, Word};
pub use hosts::TokensMade;
pub use pages::AboutProcess;
pub use run::{Driver, DriverParts, Gone, Handle, Operators};
pub use seats::{Admission, Answer, Arrival, Seat, Wish};
