//! The coordinator's settings: `coordinator.toml` in the state directory, then `coordinator.d/*.toml` in
//! the order of their names, each key of a later file replacing the earlier. Unknown keys are refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use groundswell_common::Fleet;
use groundswell_common::limits::HEARTBEAT_SECS;
use groundswell_common::trust::is_address;
use groundswell_common::wire::Backoff;
use serde::{Deserialize, Serialize};

use crate::files::{FileError, read};

/// Port for agents where none is given.
pub const AGENTS_PORT: u16 = 7443;
/// Port of the API where none is given.
pub const API_PORT: u16 = 7444;
/// Port for blobs where none is given.
pub const BLOBS_PORT: u16 = 7480;

/// Where Debian and its kin keep the authorities that they trust.
const WEBHOOK_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// The fleet's name; fixed once the fleet has begun.
    pub fleet: Option<Fleet>,
    /// Names and addresses under which agents and people reach the coordinator; the first is told to
    /// them, all are in its certificate.
    pub hosts: Option<Vec<String>>,
    /// `ADDRESS:PORT` to listen on for agents.
    pub agents: Option<String>,
    /// `ADDRESS:PORT` to listen on for the API.
    pub api: Option<String>,
    /// `ADDRESS:PORT` to listen on for blobs.
    pub blobs: Option<String>,
    /// `http://HOST:PORT` told to agents in place of the own blob listener, e.g. of a cache.
    pub blobs_url: Option<String>,
    /// `HOST:PORT` at which agents will reach the coordinator once it has moved: told to hosts beforehand.
    pub next_agents: Option<String>,
    /// `HOST:PORT` of the API then.
    pub next_api: Option<String>,
    /// Seconds between an idle agent's beats.
    pub heartbeat_secs: Option<u64>,
    /// Longest wait of an agent before its first try to come back, in milliseconds.
    pub backoff_base_ms: Option<u64>,
    /// Longest wait of an agent before any try to come back, in milliseconds.
    pub backoff_cap_ms: Option<u64>,
    /// Agents connected at once.
    pub agents_max: Option<usize>,
    /// API connections at once.
    pub api_connections_max: Option<usize>,
    /// Blob connections at once.
    pub blob_connections_max: Option<usize>,
    /// PEM file of the authorities that certificates of `https://` webhooks must come from.
    pub webhook_ca: Option<PathBuf>,
    /// Seconds from one question to a webhook to the next about the same wave.
    pub webhook_again_secs: Option<u64>,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or filters by module.
    pub log: Option<String>,
}

/// The settings, complete and within their bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// See [`Fragment::fleet`].
    pub fleet: Fleet,
    /// See [`Fragment::hosts`]; never empty.
    pub hosts: Vec<String>,
    /// See [`Fragment::agents`].
    pub agents: String,
    /// See [`Fragment::api`].
    pub api: String,
    /// See [`Fragment::blobs`].
    pub blobs: String,
    /// See [`Fragment::blobs_url`].
    pub blobs_url: Option<String>,
    /// See [`Fragment::next_agents`].
    pub next_agents: Option<String>,
    /// See [`Fragment::next_api`].
    pub next_api: Option<String>,
    /// See [`Fragment::heartbeat_secs`]; 1 to 600.
    pub heartbeat_secs: u64,
    /// See [`Fragment::backoff_base_ms`]; 1 to the cap.
    pub backoff_base_ms: u64,
    /// See [`Fragment::backoff_cap_ms`]; 100 to 600,000.
    pub backoff_cap_ms: u64,
    /// See [`Fragment::agents_max`].
    pub agents_max: usize,
    /// See [`Fragment::api_connections_max`].
    pub api_connections_max: usize,
    /// See [`Fragment::blob_connections_max`].
    pub blob_connections_max: usize,
    /// See [`Fragment::webhook_ca`].
    pub webhook_ca: PathBuf,
    /// See [`Fragment::webhook_again_secs`]; 10 to 3,600.
    pub webhook_again_secs: u64,
    /// See [`Fragment::log`].
    pub log: String,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that cannot be read.
    #[error("read the settings")]
    File(#[source] FileError),
    /// The directory of fragments cannot be listed.
    #[error("list {path}")]
    List {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, or an unknown key.
    #[error("read the settings in {path}; the keys are in docs/operations.md")]
    Toml {
        /// Which file.
        path: PathBuf,
        /// What the parser says.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key without a default that no file sets.
    #[error("read the settings: no file sets {0}")]
    Missing(&'static str),
    /// One of the above, or a value out of its bounds, in the file that sets it.
    #[error("read the settings in {path}")]
    In {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<Self>,
    },
    /// A value out of its bounds.
    #[error("read the settings: {key} must be {want}")]
    Bounds {
        /// Which key.
        key: &'static str,
        /// What it may be.
        want: &'static str,
    },
}

impl Settings {
    /// Reads the settings of a state directory.
    ///
    /// # Errors
    /// [`ConfigError`], naming file and key.
    pub fn load(state: &Path) -> Result<Self, ConfigError> {
        let mut merged = Fragment::default();
        let mut origins: BTreeMap<String, PathBuf> = BTreeMap::new();
        for path in fragment_paths(state)? {
            let text = read(&path).map_err(ConfigError::File)?;
            let bad = |source| ConfigError::Toml { path: path.clone(), source: Box::new(source) };
            merged.merge(toml::from_str(&text).map_err(bad)?);
            let keys: toml::Table = toml::from_str(&text).map_err(bad)?;
            origins.extend(keys.into_iter().map(|(key, _)| (key, path.clone())));
        }
        merged.complete().map_err(|error| match &error {
            ConfigError::Bounds { key, .. } => match origins.get(*key) {
                Some(path) => ConfigError::In { path: path.clone(), source: Box::new(error) },
                None => error,
            },
            ConfigError::File(_)
            | ConfigError::List { .. }
            | ConfigError::Toml { .. }
            | ConfigError::Missing(_)
            | ConfigError::In { .. } => error,
        })
    }

    /// How agents come back.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        Backoff { base_ms: self.backoff_base_ms, cap_ms: self.backoff_cap_ms }
    }

    /// The first name under which the coordinator is reached.
    #[must_use]
    pub fn host(&self) -> &str {
        self.hosts.first().map_or("localhost", String::as_str)
    }
}

fn fragment_paths(state: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let mut paths = vec![state.join("coordinator.toml")];
    let directory = state.join("coordinator.d");
    if directory.is_dir() {
        let list = |source| ConfigError::List { path: directory.clone(), source };
        let mut more = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(list)? {
            let path = entry.map_err(list)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                more.push(path);
            }
        }
        more.sort();
        paths.extend(more);
    }
    Ok(paths)
}

impl Fragment {
    fn merge(&mut self, later: Self) {
        fn over<T>(slot: &mut Option<T>, later: Option<T>) {
            if later.is_some() {
                *slot = later;
            }
        }
        over(&mut self.fleet, later.fleet);
        over(&mut self.hosts, later.hosts);
        over(&mut self.agents, later.agents);
        over(&mut self.api, later.api);
        over(&mut self.blobs, later.blobs);
        over(&mut self.blobs_url, later.blobs_url);
        over(&mut self.next_agents, later.next_agents);
        over(&mut self.next_api, later.next_api);
        over(&mut self.heartbeat_secs, later.heartbeat_secs);
        over(&mut self.backoff_base_ms, later.backoff_base_ms);
        over(&mut self.backoff_cap_ms, later.backoff_cap_ms);
        over(&mut self.agents_max, later.agents_max);
        over(&mut self.api_connections_max, later.api_connections_max);
        over(&mut self.blob_connections_max, later.blob_connections_max);
        over(&mut self.webhook_ca, later.webhook_ca);
        over(&mut self.webhook_again_secs, later.webhook_again_secs);
        over(&mut self.log, later.log);
    }

    /// Fills in defaults and checks bounds.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] or [`ConfigError::Bounds`].
    pub fn complete(self) -> Result<Settings, ConfigError> {
        let address = |port: u16| format!("0.0.0.0:{port}");
        let settings = Settings {
            fleet: self.fleet.ok_or(ConfigError::Missing("fleet"))?,
            hosts: self.hosts.map(bare).ok_or(ConfigError::Missing("hosts"))?,
            agents: self.agents.unwrap_or_else(|| address(AGENTS_PORT)),
            api: self.api.unwrap_or_else(|| address(API_PORT)),
            blobs: self.blobs.unwrap_or_else(|| address(BLOBS_PORT)),
            blobs_url: self.blobs_url,
            next_agents: self.next_agents,
            next_api: self.next_api,
            heartbeat_secs: self.heartbeat_secs.unwrap_or(HEARTBEAT_SECS),
            backoff_base_ms: self.backoff_base_ms.unwrap_or(500),
            backoff_cap_ms: self.backoff_cap_ms.unwrap_or(10_000),
            agents_max: self.agents_max.unwrap_or(50_000),
            api_connections_max: self.api_connections_max.unwrap_or(1_024),
            blob_connections_max: self.blob_connections_max.unwrap_or(4_096),
            webhook_ca: self.webhook_ca.unwrap_or_else(|| WEBHOOK_CA.into()),
            webhook_again_secs: self.webhook_again_secs.unwrap_or(30),
            log: self.log.unwrap_or_else(|| "info".to_owned()),
        };
        let bound = |holds: bool, key, want| {
            if holds { Ok(()) } else { Err(ConfigError::Bounds { key, want }) }
        };
        bound(!settings.hosts.is_empty(), "hosts", "at least one name or address")?;
        let names = "names or addresses without a port, such as deploy.example or fd00::1";
        bound(settings.hosts.iter().all(|host| is_host(host)), "hosts", names)?;
        let next = [("next_agents", &settings.next_agents), ("next_api", &settings.next_api)];
        for (key, address) in next {
            let fits = address.as_ref().is_none_or(|address| is_address(address));
            bound(fits, key, "HOST:PORT, such as deploy.example:7443")?;
        }
        bound((1..=600).contains(&settings.heartbeat_secs), "heartbeat_secs", "1 to 600")?;
        let cap = settings.backoff_cap_ms;
        bound((100..=600_000).contains(&cap), "backoff_cap_ms", "100 to 600000")?;
        let base = settings.backoff_base_ms;
        bound((1..=cap).contains(&base), "backoff_base_ms", "1 to backoff_cap_ms")?;
        let again = settings.webhook_again_secs;
        bound((10..=3_600).contains(&again), "webhook_again_secs", "10 to 3600")?;
        bound(settings.agents_max >= 1, "agents_max", "at least 1")?;
        bound(settings.api_connections_max >= 1, "api_connections_max", "at least 1")?;
        bound(settings.blob_connections_max >= 1, "blob_connections_max", "at least 1")?;
        Ok(settings)
    }
}

/// Hosts without the brackets that IPv6 addresses have before a port.
fn bare(hosts: Vec<String>) -> Vec<String> {
    let inner = |host: &str| host.strip_prefix('[')?.strip_suffix(']').map(str::to_owned);
    hosts.into_iter().map(|host| inner(&host).unwrap_or(host)).collect()
}

/// Whether certificates and addresses can carry it: a name, or an address without its port.
fn is_host(host: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.chars().all(name))
}

#[cfg(test)]
mod tests {
    use groundswell_common::chain;

    use super::*;

    #[test]
    fn later_files_win_and_unknown_keys_and_bad_values_are_named() {
        let place = tempfile::tempdir().unwrap();
        let main = place.path().join("coordinator.toml");
        std::fs::write(&main, "fleet = \"main\"\nhosts = [\"a\"]\nheartbeat_secs = 5\n").unwrap();
        let more = place.path().join("coordinator.d");
        std::fs::create_dir(&more).unwrap();
        std::fs::write(more.join("10-x.toml"), "heartbeat_secs = 7\n").unwrap();
        std::fs::write(more.join("note.txt"), "not read").unwrap();
        let settings = Settings::load(place.path()).unwrap();
        assert_eq!((settings.heartbeat_secs, settings.agents.as_str()), (7, "0.0.0.0:7443"));
        std::fs::write(more.join("20-y.toml"), "hartbeat_secs = 7\n").unwrap();
        let error = Settings::load(place.path()).unwrap_err();
        assert!(matches!(&error, ConfigError::Toml { path, .. } if path.ends_with("20-y.toml")));
        std::fs::write(more.join("20-y.toml"), "heartbeat_secs = 0\n").unwrap();
        let error = Settings::load(place.path()).unwrap_err();
        let ConfigError::In { path, source } = error else { panic!("{error}") };
        assert!(path.ends_with("20-y.toml"), "{}", path.display());
        assert!(matches!(*source, ConfigError::Bounds { key: "heartbeat_secs", .. }));
        let literal = "fleet = \"main\"\nhosts = [\"[fd00::1]\", \"a\"]\nheartbeat_secs = 5\n";
        std::fs::write(&main, literal).unwrap();
        std::fs::write(more.join("20-y.toml"), "").unwrap();
        assert_eq!(Settings::load(place.path()).unwrap().hosts, ["fd00::1", "a"]);
        for bad in ["a:7444", "http://a", "[fd00::1]:7444", "[[fd00::1]]", ""] {
            std::fs::write(&main, literal.replace("[fd00::1]", bad)).unwrap();
            let error = chain(&Settings::load(place.path()).unwrap_err());
            assert!(error.contains("without a port, such as"), "{bad}: {error}");
        }
        std::fs::write(&main, "hosts = [\"a\"]\n").unwrap();
        std::fs::remove_file(more.join("20-y.toml")).unwrap();
        let error = Settings::load(place.path()).unwrap_err();
        assert!(matches!(error, ConfigError::Missing("fleet")));
    }
}
