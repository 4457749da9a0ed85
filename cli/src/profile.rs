//! The operator's profile: where it is looked for and how it is read. Holds a private key, so it is
//! never printed.

use std::env;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use groundswell_common::api::Profile;
use groundswell_common::ends::ends_soon;
use groundswell_common::{OperatorName, Timestamp};
use groundswell_net::tls::chain;
use groundswell_net::validity;

use crate::output::now;

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
    /// A certificate that counts no more.
    #[error(
        "use the profile {path}: {ended}; an admin makes another with 'swell operator add {name} --role ROLE'. Where \
         no admin's counts: on the coordinator's machine, with the coordinator stopped, 'groundswell-coordinator \
         operator reset {name} --state DIR --output FILE'"
    )]
    Ended {
        /// The file.
        path: PathBuf,
        /// Since when.
        ended: String,
        /// Whose.
        name: OperatorName,
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

/// Refuses a profile whose certificate has ended: the coordinator would, without a word.
fn check_end(path: &Path, profile: &Profile, now: Timestamp) -> Result<(), ProfileError> {
    let chain = chain(&profile.certificate_pem).ok();
    let until = chain.and_then(|chain| Some(validity(chain.first()?)?.until));
    let Some(until) = until.filter(|until| *until <= now) else { return Ok(()) };
    let what = "by this machine's clock its certificate";
    let ended = ends_soon(what, until, now).unwrap_or_default();
    Err(ProfileError::Ended { path: path.to_owned(), ended, name: profile.name.clone() })
}

/// Reads a profile whose certificate counts.
pub(crate) fn load(path: &Path) -> Result<Profile, ProfileError> {
    let at = || path.to_owned();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(PROFILE_MAX_BYTES).read_to_string(&mut text))
        .map_err(|source| ProfileError::Read { path: at(), source })?;
    let profile =
        serde_json::from_str(&text).map_err(|source| ProfileError::Json { path: at(), source })?;
    check_end(path, &profile, now())?;
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_has_ended_names_the_cause_and_the_ways_out() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("key");
        let mut params = rcgen::CertificateParams::new(vec!["ann".to_owned()]).expect("name");
        params.not_before = rcgen::date_time_ymd(2025, 11, 1);
        params.not_after = rcgen::date_time_ymd(2026, 11, 1);
        let certificate_pem = params.self_signed(&pair).expect("certificate").pem();
        let profile = Profile {
            api: "a:1".into(),
            blobs: None,
            ca_pem: String::new(),
            name: "ann".parse().expect("name"),
            certificate_pem,
            key_pem: String::new(),
        };
        let at = Timestamp::from_secs(1_793_491_200); // 2026-11-01T00:00:00Z
        let path = Path::new("p.json");
        assert!(check_end(path, &profile, Timestamp::from_secs(1_793_491_199)).is_ok());
        let error = check_end(path, &profile, at.plus_secs(3 * 86_400)).expect_err("it has ended");
        let text = error.to_string();
        for part in ["ended 3 days ago", "swell operator add ann", "operator reset ann --state DIR"]
        {
            assert!(text.contains(part), "{text}");
        }
    }
}
