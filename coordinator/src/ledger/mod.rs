//! The ledger: the append-only, hash-chained, checksummed record of every decision. A decision exists
//! when it is durable here. Owns the files below `ledger/`; must never interpret an entry.

mod committer;
mod log;
mod record;

pub use committer::{AppendError, Appended, Ledger};
pub use log::{Found, LedgerError, Log, Reader};
pub use record::Chain;
