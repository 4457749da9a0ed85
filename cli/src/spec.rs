//! The release's description: `groundswell.toml` at the top of the published tree, or `--spec FILE`.
//! Says how a host runs and probes the release; what is in it comes from the tree alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use groundswell_common::ServiceName;
use groundswell_common::manifest::{Hook, Probe, Switch};
use groundswell_common::selector::Selector;
use serde::Deserialize;

/// Name of the description at the top of a tree; it is not packed.
pub(crate) const SPEC_NAME: &str = "groundswell.toml";
/// Largest description, in bytes.
const SPEC_MAX_BYTES: u64 = 64 * 1024;

/// Why a description is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    /// A file that cannot be read.
    #[error("read the release's description {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Larger than any.
    #[error("read the release's description {0}: over 64 KiB")]
    TooLarge(PathBuf),
    /// One table where a list of them is wanted.
    #[error(
        "read the release's description {path}: write [[{key}]], with two brackets; there may be many"
    )]
    OneTable {
        /// The file.
        path: PathBuf,
        /// `probe` or `hook`.
        key: &'static str,
    },
    /// Not TOML, or not of this form.
    #[error("read the release's description {path}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line and column.
        #[source]
        source: Box<toml::de::Error>,
    },
}

/// How a release is run and probed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Spec {
    /// The release itself.
    #[serde(default)]
    pub(crate) release: ReleaseSpec,
    /// Health checks.
    #[serde(default)]
    probe: Vec<ProbeSpec>,
    /// What else runs around a switch, written as in the manifest.
    #[serde(default)]
    pub(crate) hook: Vec<Hook>,
}

/// How a release is run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReleaseSpec {
    /// The service, where the command line does not name it.
    pub(crate) service: Option<ServiceName>,
    /// What to run, relative to the tree.
    pub(crate) command: Vec<String>,
    /// systemd units of the service.
    pub(crate) units: Vec<String>,
    /// What a switch does to them.
    pub(crate) switch: Switch,
    /// `any` or `OS-ARCH`.
    pub(crate) platform: String,
    /// Whether it cannot be reverted once it ran.
    pub(crate) one_way: bool,
    /// What must hold for the labels of a host that gets it.
    pub(crate) requires: Selector,
    /// Whether hosts must run it before any newer one.
    pub(crate) barrier: bool,
    /// No host may go below this `seq` again.
    pub(crate) floor: u64,
    /// Whether it is meant to start nothing on a host; for `swell publish` alone.
    pub(crate) files_only: bool,
}

impl Default for ReleaseSpec {
    fn default() -> Self {
        Self {
            service: None,
            command: Vec::new(),
            units: Vec::new(),
            switch: Switch::default(),
            platform: "any".to_owned(),
            one_way: false,
            requires: Selector::default(),
            barrier: false,
            floor: 0,
            files_only: false,
        }
    }
}

/// A probe as people write it: as in the manifest, its time-out being 5 seconds where it is not given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum ProbeSpec {
    Http {
        url: String,
        #[serde(default = "default_timeout_secs")]
        timeout_secs: u64,
        #[serde(default)]
        status: u16,
        #[serde(default)]
        ca: String,
    },
    Tcp {
        address: String,
        #[serde(default = "default_timeout_secs")]
        timeout_secs: u64,
    },
    Exec {
        argv: Vec<String>,
        #[serde(default = "default_timeout_secs")]
        timeout_secs: u64,
    },
    File {
        path: String,
        #[serde(default)]
        max_age_secs: u64,
    },
    Unit {
        unit: String,
    },
}

fn default_timeout_secs() -> u64 {
    5
}

impl Spec {
    /// The description of the tree at `root`: `given`, else the one at its top, else the default.
    pub(crate) fn load(root: &Path, given: Option<&Path>) -> Result<Self, SpecError> {
        let path = given.map_or_else(|| root.join(SPEC_NAME), Path::to_owned);
        let read = |source| SpecError::Read { path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(read(error)),
            Ok(found) if found.len() > SPEC_MAX_BYTES => return Err(SpecError::TooLarge(path)),
            Ok(_) => {}
        }
        let text = fs::read_to_string(&path).map_err(read)?;
        toml::from_str(&text).map_err(|source| {
            let table: Option<toml::Table> = toml::from_str(&text).ok();
            let is_one = |key: &&str| {
                table
                    .as_ref()
                    .is_some_and(|table| table.get(*key).is_some_and(toml::Value::is_table))
            };
            match ["probe", "hook"].into_iter().find(is_one) {
                Some(key) => SpecError::OneTable { path, key },
                None => SpecError::Toml { path, source: Box::new(source) },
            }
        })
    }

    /// The probes as the manifest holds them.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        let probe = |spec: &ProbeSpec| match spec.clone() {
            ProbeSpec::Http { url, timeout_secs, status, ca } => {
                Probe::Http { url, timeout_secs, status, ca }
            }
            ProbeSpec::Tcp { address, timeout_secs } => Probe::Tcp { address, timeout_secs },
            ProbeSpec::Exec { argv, timeout_secs } => Probe::Exec { argv, timeout_secs },
            ProbeSpec::File { path, max_age_secs } => Probe::File { path, max_age_secs },
            ProbeSpec::Unit { unit } => Probe::Unit { unit },
        };
        self.probe.iter().map(probe).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_and_its_probes_get_their_time_out() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(Spec::load(dir.path(), None).expect("none"), Spec::default());
        let text = "[release]\nservice = \"shop\"\ncommand = [\"bin/shop\"]\none_way = true\n\
                    [[probe]]\nkind = \"http\"\nurl = \"http://127.0.0.1:80/health\"\n\
                    [[probe]]\nkind = \"exec\"\nargv = [\"bin/check\"]\ntimeout_secs = 9\n";
        fs::write(dir.path().join(SPEC_NAME), text).expect("write");
        let spec = Spec::load(dir.path(), None).expect("spec");
        assert_eq!(spec.release.command, ["bin/shop"]);
        assert_eq!(spec.release.platform, "any");
        assert!(spec.release.one_way);
        let url = "http://127.0.0.1:80/health".to_owned();
        let argv = vec!["bin/check".to_owned()];
        assert_eq!(
            spec.probes(),
            [
                Probe::Http { url, timeout_secs: 5, status: 0, ca: String::new() },
                Probe::Exec { argv, timeout_secs: 9 }
            ]
        );
    }

    #[test]
    fn a_key_that_is_not_known_is_refused_with_its_line() {
        let dir = tempfile::tempdir().expect("dir");
        fs::write(dir.path().join(SPEC_NAME), "[release]\ncomand = []\n").expect("write");
        let error = anyhow::Error::new(Spec::load(dir.path(), None).expect_err("unknown"));
        let text = format!("{error:#}");
        assert!(text.contains("line 2") && text.contains("comand"), "{text}");
        for key in ["probe", "hook"] {
            fs::write(dir.path().join(SPEC_NAME), format!("[{key}]\nkind = \"tcp\"\n"))
                .expect("write");
            let error = Spec::load(dir.path(), None).expect_err("one table").to_string();
            assert!(error.contains(&format!("write [[{key}]], with two brackets")), "{error}");
        }
        let missing = dir.path().join("other.toml");
        let error = Spec::load(dir.path(), Some(&missing)).expect_err("missing");
        assert!(matches!(error, SpecError::Read { .. }), "a spec that was named must be there");
    }
}
