//! The operator's profile: where it is looked for and how it is read. Holds a private key, so it is
//! never printed.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use groundswell_common::api::Profile;

/// Largest profile that is read, in bytes: a chain of certificates and a key fit many times.
const PROFILE_MAX_BYTES: u64 = 256 * 1024;

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// Nowhere to look.
    #[error(
        "find a profile: give --profile FILE, or set GROUNDSWELL_PROFILE, HOME or XDG_CONFIG_HOME"
    )]
    Nowhere,
    /// A file that cannot be read.
    #[error(
        "read the profile {path}; give --profile FILE (the coordinator's `init` and `operator add` write one)"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file that is no profile.
    #[error("read the profile {path}: not the JSON of a profile; copy the file again")]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// The profile's path: `--profile`, then `$GROUNDSWELL_PROFILE` (clap reads both), then
/// `$XDG_CONFIG_HOME/groundswell/profile.json`, then below `$HOME/.config`.
pub(crate) fn path(given: Option<&Path>) -> Result<PathBuf, ProfileError> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    config.map(|dir| dir.join("groundswell/profile.json")).ok_or(ProfileError::Nowhere)
}

/// Reads a profile.
pub(crate) fn load(path: &Path) -> Result<Profile, ProfileError> {
    let at = || path.to_owned();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(PROFILE_MAX_BYTES).read_to_string(&mut text))
        .map_err(|source| ProfileError::Read { path: at(), source })?;
    serde_json::from_str(&text).map_err(|source| ProfileError::Json { path: at(), source })
}
