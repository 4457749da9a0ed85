//! The control: what the entries of the ledger add up to, what hosts said last, and every decision that
//! follows from both. Pure: time, words of hosts and wishes of people come in as values; entries, wishes of
//! hosts and refusals come out. No task, clock, file or connection; the driver of the coordinator and the
//! simulator are its two shells.

mod back;
mod backup;
mod control;
pub mod entry;
mod hosts;
mod lanes;
mod off;
mod preflight;
pub mod present;
mod refused;
mod releases;
mod rollouts;
mod steer;
mod time;
mod twins;
pub mod view;
mod webhooks;
mod why;

pub use control::{Control, Pending, Wished, Word};
pub use lanes::{Hold, Of};
pub use refused::{ErrorKind, Refused};
pub use rollouts::{Start, Waiting};
pub use steer::Verb;
pub use webhooks::WebhookAsk;
