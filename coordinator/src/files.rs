//! Small files that must be whole or absent: written beside their place, synced, renamed, and their
//! directory synced. Secrets are private from the first byte and refused when they are not.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Largest file read here, in bytes.
const FILE_MAX_BYTES: u64 = 1024 * 1024;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system fails.
    #[error("use {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A secret that others can read.
    #[error("read {path}: mode {mode:o} lets others read it; run chmod 600 on it")]
    Wide {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Over 1 MiB.
    #[error("read {0}: over 1048576 bytes; it is not what it should be")]
    TooLarge(PathBuf),
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The owner only (0600).
    Private,
    /// Everybody (0644).
    Public,
}

/// Writes a file whole and durably, in place of the one before.
///
/// # Errors
/// [`FileError::Io`].
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let part = PathBuf::from(name);
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let fill = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&part)?;
        // An older leftover keeps its mode when it is opened again.
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        File::open(parent)?.sync_all()
    };
    fill().map_err(at(path))
}

/// Creates a directory, and those above it, where it is not there; `Private` ones are 0700.
///
/// # Errors
/// [`FileError::Io`].
pub fn directory(path: &Path, access: Access) -> Result<(), FileError> {
    let mode = match access {
        Access::Private => 0o700,
        Access::Public => 0o755,
    };
    std::fs::create_dir_all(path).map_err(at(path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(at(path))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all()).map_err(at(path))
}

/// Reads a text file.
///
/// # Errors
/// [`FileError`].
pub fn read(path: &Path) -> Result<String, FileError> {
    let meta = std::fs::metadata(path).map_err(at(path))?;
    if meta.len() > FILE_MAX_BYTES {
        return Err(FileError::TooLarge(path.to_owned()));
    }
    std::fs::read_to_string(path).map_err(at(path))
}

/// Reads a secret; refuses one that group or others may touch.
///
/// # Errors
/// [`FileError`].
pub fn read_private(path: &Path) -> Result<String, FileError> {
    let meta = std::fs::metadata(path).map_err(at(path))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(FileError::Wide { path: path.to_owned(), mode });
    }
    read(path)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_private_and_wide_ones_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("key");
        write(&path, b"secret", Access::Private).unwrap();
        assert_eq!(read_private(&path).unwrap(), "secret");
        for mode in [0o640, 0o604, 0o660, 0o610] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private(&path).unwrap_err();
            assert!(matches!(error, FileError::Wide { mode: found, .. } if found == mode));
        }
        write(&path, b"again", Access::Private).unwrap();
        assert_eq!(read_private(&path).unwrap(), "again");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1, "no part file stays");
    }
}
