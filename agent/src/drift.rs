//! Whether a release on the disk is still what its manifest lists: what a revert would put back. Reads,
//! and repairs nothing. Files beside those listed are the service's own business.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use groundswell_common::manifest::{FileEntry, Manifest};
use groundswell_common::{Hasher, ReleaseId, ServiceName};
use rustix::fs::{Mode, OFlags};

use crate::layout::Layout;
use crate::stage::{self, StageError};

/// Bytes hashed between two questions whether the work is still wanted.
const PIECE_BYTES: usize = 64 * 1024;

/// Why what runs could not be put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriftError {
    /// A file or link that is not as released.
    #[error(
        "{path} of the live release was changed or removed, so a revert could not put back what runs \
         now; restore it, or set allow_drift = true under [services.{service}] of the agent"
    )]
    Changed {
        /// Whose it is.
        service: ServiceName,
        /// The file.
        path: PathBuf,
    },
    /// The release's manifest.
    #[error("look at the live release")]
    Manifest(#[source] StageError),
    /// The work is no longer wanted.
    #[error("look at the live release: no longer wanted")]
    Cancelled,
}

/// Compares every listed file and link with the manifest.
///
/// # Errors
/// [`DriftError`]: the first that differs.
pub(crate) fn check(
    layout: &Layout,
    service: &ServiceName,
    release: &ReleaseId,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), DriftError> {
    let manifest = stage::reopen(layout, service, release).map_err(DriftError::Manifest)?;
    let tree = layout.release(service, release).join("tree");
    files(service, &manifest, &tree, cancelled)?;
    for link in &manifest.links {
        let path = tree.join(link.path.as_str());
        if std::fs::read_link(&path).ok().as_deref() != Some(Path::new(&link.target)) {
            return Err(DriftError::Changed { service: service.clone(), path });
        }
    }
    Ok(())
}

fn files(
    service: &ServiceName,
    manifest: &Manifest,
    tree: &Path,
    cancelled: &dyn Fn() -> bool,
) -> Result<(), DriftError> {
    for entry in &manifest.files {
        let path = tree.join(entry.path.as_str());
        match same(&path, entry, cancelled) {
            Ok(true) => {}
            Ok(false) | Err(_) if !cancelled() => {
                return Err(DriftError::Changed { service: service.clone(), path });
            }
            Ok(_) | Err(_) => return Err(DriftError::Cancelled),
        }
    }
    Ok(())
}

fn same(path: &Path, entry: &FileEntry, cancelled: &dyn Fn() -> bool) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() || file.metadata()?.len() != entry.size {
        return Ok(false);
    }
    let (mut hasher, mut piece) = (Hasher::new(), vec![0; PIECE_BYTES]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 || cancelled() {
            return Ok(hasher.finish() == entry.sha256);
        }
        hasher.update(piece.get(..read).unwrap_or_default());
    }
}
