//! The coordinator's own keys: the release key countersigns manifests, the director key signs directives
//! and permits. The one place that holds them; they never leave it.

use std::path::Path;
use std::sync::Arc;

use groundswell_common::directive::{Directive, Permit, RawDirective, RawPermit};
use groundswell_common::manifest::Manifest;
use groundswell_common::trust::{
    Envelope, KeyError, PublicKey, RawTold, SecretKey, Signature, Told,
};

use crate::files::{FileError, read_private};

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// A key file that cannot be read, or is open to others.
    #[error("load the signing keys")]
    File(#[source] FileError),
    /// A file that is no key.
    #[error("load the signing key {name}")]
    Key {
        /// Which key.
        name: &'static str,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// A document without a JSON form.
    #[error("sign a document")]
    Json(#[source] serde_json::Error),
}

/// Signs; cheap to clone.
#[derive(Clone, Debug)]
pub struct Signer {
    release: Arc<SecretKey>,
    director: Arc<SecretKey>,
}

impl Signer {
    /// A signer with these keys.
    #[must_use]
    pub fn new(release: SecretKey, director: SecretKey) -> Self {
        Self { release: Arc::new(release), director: Arc::new(director) }
    }

    /// Loads `release.pem` and `director.pem` from `directory`.
    ///
    /// # Errors
    /// [`SignerError`]; keys that others may read are refused.
    pub fn load(directory: &Path) -> Result<Self, SignerError> {
        let load = |name: &'static str| {
            let text = read_private(&directory.join(format!("{name}.pem")));
            SecretKey::from_pem(&text.map_err(SignerError::File)?)
                .map_err(|source| SignerError::Key { name, source })
        };
        Ok(Self::new(load("release")?, load("director")?))
    }

    /// The release key's public half.
    #[must_use]
    pub fn release_key(&self) -> PublicKey {
        self.release.public()
    }

    /// The signature of the release key over a manifest's exact bytes.
    #[must_use]
    pub fn countersign(&self, manifest: &[u8]) -> Vec<Signature> {
        Envelope::new::<Manifest>(manifest.to_vec()).signed_by(&self.release).signatures
    }

    /// Signs a directive. Equal directives give equal bytes.
    ///
    /// # Errors
    /// [`SignerError::Json`].
    pub fn directive(&self, raw: &RawDirective) -> Result<Envelope, SignerError> {
        let payload = serde_json::to_vec(raw).map_err(SignerError::Json)?;
        Ok(Envelope::new::<Directive>(payload).signed_by(&self.director))
    }

    /// Signs what a host is told.
    ///
    /// # Errors
    /// [`SignerError::Json`].
    pub fn told(&self, raw: &RawTold) -> Result<Envelope, SignerError> {
        let payload = serde_json::to_vec(raw).map_err(SignerError::Json)?;
        Ok(Envelope::new::<Told>(payload).signed_by(&self.director))
    }

    /// Signs a permit.
    ///
    /// # Errors
    /// [`SignerError::Json`].
    pub fn permit(&self, raw: &RawPermit) -> Result<Envelope, SignerError> {
        let payload = serde_json::to_vec(raw).map_err(SignerError::Json)?;
        Ok(Envelope::new::<Permit>(payload).signed_by(&self.director))
    }
}
