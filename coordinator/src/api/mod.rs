//! The HTTP API: one file a resource, one table of routes with who may use each. Decides nothing: it
//! checks who asks, reads the request, asks the driver, and writes the answer.

mod access;
mod audit;
mod blobs;
mod enrol;
mod error;
mod hosts;
mod read;
mod releases;
mod rollouts;
mod routes;
mod services;

pub use access::{Access, Caller};
pub use error::ApiError;
pub use routes::{ROUTES, Route, router};

use std::sync::Arc;

use groundswell_common::time::Clock;
use groundswell_common::trust::{Root, Verified};
use groundswell_common::{Digest, Fleet};

use crate::ca::Authority;
use crate::depot::Depot;
use crate::driver::{AboutProcess, Handle};
use crate::ledger::Reader;
use crate::signer::Signer;

/// What every route may need; cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(Arc<Parts>);

/// See [`Api`].
#[derive(Debug)]
pub struct Parts {
    /// The driver.
    pub handle: Handle,
    /// Blobs.
    pub depot: Depot,
    /// Countersigns manifests.
    pub signer: Signer,
    /// Gives certificates.
    pub authority: Authority,
    /// The ledger, for audits.
    pub reader: Reader,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What the process knows of itself.
    pub about: AboutProcess,
    /// The newest root.
    pub root: Verified<Root>,
    /// The newest root's blob.
    pub root_blob: Digest,
    /// Where everyone reaches the coordinator.
    pub addresses: Addresses,
}

/// Where everyone reaches the coordinator.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// `HOST:PORT` for agents.
    pub agents: String,
    /// `HOST:PORT` of the API.
    pub api: String,
    /// Base of the blob URLs.
    pub blobs: String,
}

impl Api {
    /// Shares the parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// The fleet.
    #[must_use]
    pub fn fleet(&self) -> &Fleet {
        &self.0.about.fleet
    }
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
