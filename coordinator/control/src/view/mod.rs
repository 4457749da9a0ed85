//! The view: what the entries of the ledger add up to. A pure fold; the same entries give the same view,
//! now and at every later start.

mod apply;
mod evidence;
mod past;
mod records;
mod state;

pub use apply::{Applied, Unfit};
pub use evidence::Evidence;
pub use past::Past;
pub use records::{Key, RecordError};
pub(crate) use state::speaks_for;
pub use state::{
    Addresses, Fate, Held, Host, Operator, PolicyRecord, Proven, Release, RolloutBody,
    RolloutRecord, Service, Token, View,
};
