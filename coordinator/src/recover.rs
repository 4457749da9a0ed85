//! Brings a state directory back to life: the view's records, then the entries of the ledger that they
//! do not hold yet. Records that cannot be used are moved aside and made again from the ledger.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use groundswell_common::Timestamp;

use crate::entry::{Entry, EntryError};
use crate::init::Layout;
use crate::ledger::{LedgerError, Log};
use crate::store::{SledStore, Store, StoreError};
use crate::view::{RecordError, Unfit, View};

/// What a state directory holds.
pub struct Recovered {
    /// What the ledger adds up to.
    pub view: View,
    /// The ledger, open for appending.
    pub log: Log,
    /// The store that the view's records go to.
    pub store: Box<dyn Store>,
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recovered(seq {})", self.view.seq)
    }
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The ledger.
    #[error("open the ledger")]
    Ledger(#[source] LedgerError),
    /// An entry that is no JSON of an entry.
    #[error("read the ledger; it was written by a newer version, or is not of this program")]
    Entry(#[source] EntryError),
    /// An entry that does not follow from those before.
    #[error(
        "replay entry {seq} of the ledger; this version reads it in another way, use the one before"
    )]
    Unfit {
        /// Which entry.
        seq: u64,
        /// Why it does not fit.
        #[source]
        source: Unfit,
    },
    /// The store does not open even when it is new.
    #[error("open the view's store in {path}")]
    Store {
        /// Its directory.
        path: PathBuf,
        /// What it says.
        #[source]
        source: StoreError,
    },
    /// The damaged store cannot be moved aside.
    #[error("move the damaged view {path} aside")]
    Aside {
        /// Its directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// Why the records of the view are not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Store(#[source] StoreError),
    #[error("{0}")]
    Records(#[source] RecordError),
    #[error("the engine panicked")]
    Panicked,
    #[error("it is ahead of the ledger, which was restored from a backup")]
    Ahead,
}

/// Opens everything. `now` names a view that is moved aside.
///
/// # Errors
/// [`RecoverError`]; the ledger decides, a damaged view never stops a start.
pub fn recover(layout: &Layout, now: Timestamp) -> Result<Recovered, RecoverError> {
    let path = layout.view();
    let unusable = match open_view(&path) {
        Ok((store, view)) => {
            let (log, view) = replay(&layout.ledger(), view)?;
            if view.seq <= log.reader().head().seq {
                return Ok(Recovered { view, log, store });
            }
            drop(store);
            Unusable::Ahead
        }
        Err(unusable) => unusable,
    };
    tracing::warn!(path = %path.display(), why = %unusable, "the view is made again from the ledger");
    move_aside(&path, now)?;
    let store = SledStore::open(&path)
        .map_err(|source| RecoverError::Store { path: path.clone(), source })?;
    let (log, view) = replay(&layout.ledger(), View::default())?;
    Ok(Recovered { view, log, store: Box::new(store) })
}

fn open_view(path: &Path) -> Result<(Box<dyn Store>, View), Unusable> {
    // The engine is known to panic over damaged files instead of returning an error.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let store = SledStore::open(path).map_err(Unusable::Store)?;
        let records = store.load().map_err(Unusable::Store)?;
        Ok((store, records))
    }));
    let (store, records) = opened.map_err(|_| Unusable::Panicked)??;
    let view = View::from_records(&records).map_err(Unusable::Records)?;
    Ok((Box::new(store), view))
}

fn move_aside(path: &Path, now: Timestamp) -> Result<(), RecoverError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", now.as_millis()));
    match std::fs::rename(path, &name) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RecoverError::Aside { path: path.to_owned(), source: error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Folds in the entries after those that the view holds.
fn replay(ledger: &Path, mut view: View) -> Result<(Log, View), RecoverError> {
    let mut failed = None;
    let log = Log::open(ledger, &mut |found| {
        if failed.is_some() || found.seq <= view.seq {
            return;
        }
        let applied = Entry::from_payload(found.seq, found.payload)
            .map_err(RecoverError::Entry)
            .and_then(|entry| {
                view.apply(&entry)
                    .map(drop)
                    .map_err(|source| RecoverError::Unfit { seq: found.seq, source })
            });
        failed = applied.err();
    })
    .map_err(RecoverError::Ledger)?;
    match failed {
        None => Ok((log, view)),
        Some(error) => Err(error),
    }
}
