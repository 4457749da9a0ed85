//! Holds a bundle against the manifest that names it: every content, whole and true, and nothing else.

use std::io::Read;

use super::reader::{BundleError, BundleReader};
use crate::digest::{Digest, Hasher};
use crate::manifest::Manifest;

/// Why a bundle does not carry what its manifest says.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// No bundle, cut short, or with bytes left over.
    #[error("check the bundle against its manifest")]
    Bundle(#[source] BundleError),
    /// Other content than the manifest lists at this place.
    #[error(
        "check the bundle against its manifest: content {got} where {want} is listed; pack again"
    )]
    Other {
        /// What the bundle carries.
        got: Digest,
        /// What the manifest lists.
        want: Digest,
    },
}

/// Reads the whole bundle once; holds one frame at a time.
///
/// # Errors
/// [`ContentError`], at the first content that is not the one listed.
pub fn check_bundle(source: impl Read, manifest: &Manifest) -> Result<(), ContentError> {
    let mut reader = BundleReader::open(source).map_err(ContentError::Bundle)?;
    for (want, size) in manifest.contents() {
        let mut hasher = Hasher::new();
        let take = |piece: &[u8]| {
            hasher.update(piece);
            Ok(())
        };
        reader.content(size, take).map_err(ContentError::Bundle)?;
        let got = hasher.finish();
        if got != want {
            return Err(ContentError::Other { got, want });
        }
    }
    reader.finish().map_err(ContentError::Bundle)
}
