//! The store port: keeps the view's records between two starts. Never the only copy of anything: what it
//! loses is folded from the ledger again.

mod memory;
mod sled;
mod writer;

use std::collections::BTreeMap;

pub use memory::MemoryStore;
pub use sled::SledStore;
pub use writer::Writer;

/// Records by key; `None` removes one.
pub type Changes = BTreeMap<String, Option<Vec<u8>>>;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine fails.
    #[error("use the view's store")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file system fails.
    #[error("use the view's store")]
    Io(#[source] std::io::Error),
    /// A record that is damaged.
    #[error("read the view's record {key:?}")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong with it.
        #[source]
        source: groundswell_common::codec::CodecError,
    },
    /// A record whose pieces are not all there.
    #[error("read the view's record {0:?}: pieces are missing")]
    Pieces(String),
}

/// Keeps records. Blocking.
pub trait Store: Send {
    /// Everything that is kept.
    ///
    /// # Errors
    /// [`StoreError`]; the caller rebuilds from the ledger then.
    fn load(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError>;

    /// Keeps the changes, all or none, and makes them durable.
    ///
    /// # Errors
    /// [`StoreError`]; what is kept is not known then.
    fn save(&mut self, changes: &Changes) -> Result<(), StoreError>;
}
