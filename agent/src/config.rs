//! The agent's configuration: fragments, merged by name, then settings. An unknown key is refused with
//! the file that holds it. Reads files; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use groundswell_common::manifest::UNIT_KINDS;
use groundswell_common::{HostName, ServiceName, chain};
use serde::Deserialize;

use crate::durable::{self, Access, Fault, at};
use crate::layout::Layout;
use crate::text::head;
use crate::units::{hook_unit, named};

const DEFAULT_STATE_DIR: &str = "/var/lib/groundswell";
const DEFAULT_SOCKET: &str = "/run/groundswell/apply.sock";
/// Bytes that staging leaves free where nothing is said.
pub(crate) const KEEP_FREE_BYTES: u64 = 256 * 1024 * 1024;
const FRAGMENT_MAX_BYTES: usize = 64 * 1024;
/// Of a line with a defect, what is shown at most.
const LINE_SHOWN_MAX_BYTES: usize = 80;
/// A file and its fragments, as they were when they could be read.
const KEPT_MAX_BYTES: usize = 1024 * 1024;
const UNITS_PER_SERVICE_MAX: usize = 32;

/// Who runs the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Supervisor {
    /// systemd, asked over D-Bus.
    Systemd,
    /// The agent itself.
    Process,
}

/// One file as it stands.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fragment {
    state_dir: Option<PathBuf>,
    net_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    name: Option<HostName>,
    supervisor: Option<Supervisor>,
    stop_services_on_exit: Option<bool>,
    keep_free_bytes: Option<u64>,
    bandwidth_bytes_per_sec: Option<u64>,
    #[serde(default)]
    services: BTreeMap<ServiceName, ServiceFragment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceFragment {
    units: Option<Vec<String>>,
    allow_drift: Option<bool>,
    shipped_units: Option<bool>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory that cannot be read.
    #[error("read the configuration")]
    Read(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file that was named does not exist.
    #[error("read the configuration: {} does not exist; write it or pass --config FILE", .0.display())]
    Missing(PathBuf),
    /// Not TOML, an unknown key, or a value of the wrong form.
    #[error("read the configuration {}, line {line} ({text})", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What stands there.
        text: String,
        /// The key, and what it must be.
        #[source]
        source: Box<Defect>,
    },
    /// Bytes that are no text.
    #[error("read the configuration {}: it is no UTF-8 text", .0.display())]
    Text(PathBuf),
    /// A value that cannot be used.
    #[error("read the configuration {}: {key} {want}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it must be.
        want: &'static str,
    },
    /// Units of a service that cannot be used.
    #[error("read the configuration {}: units of [services.{service}]: {fault}", path.display())]
    Units {
        /// The file.
        path: PathBuf,
        /// The service.
        service: ServiceName,
        /// Which unit, and what it must be.
        fault: String,
    },
    /// No host name can be found.
    #[error("read the host's name: it is no usable name; set name = \"...\" in the configuration")]
    HostName,
}

/// What is wrong in a TOML text, in one line: it goes into logs and reports.
#[derive(Debug)]
pub struct Defect(toml::de::Error);

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message().replace('\n', ", "))
    }
}

impl std::error::Error for Defect {}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self::Read(Box::new(fault))
    }
}

/// What the agent runs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// What the network side owns, where it is a process of its own; `None` for one process.
    pub net_dir: Option<PathBuf>,
    /// Where the two processes meet.
    pub socket: PathBuf,
    /// The name to enrol under.
    pub name: HostName,
    /// Who runs the services.
    pub supervisor: Supervisor,
    /// Whether the process supervisor stops its services when the agent ends.
    pub stop_services_on_exit: bool,
    /// Bytes that staging leaves free.
    pub keep_free_bytes: u64,
    /// Most bytes a second that fetching takes; `None` for no limit.
    pub bandwidth_bytes_per_sec: Option<u64>,
    /// Units that a release of a service may name, under systemd.
    pub units: BTreeMap<ServiceName, Vec<String>>,
    /// Services that go on though files of their live release were changed.
    pub allow_drift: BTreeSet<ServiceName>,
    /// Services whose releases bring their units.
    pub shipped_units: BTreeSet<ServiceName>,
    /// Which file set which key; a key that is absent has its default.
    pub origins: BTreeMap<String, PathBuf>,
}

/// Settings to start with.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The file that was named.
    pub file: PathBuf,
    /// What is in force.
    pub settings: Settings,
    /// Why that is a copy of an earlier start, where it is: the files cannot be read.
    pub trouble: Option<String>,
}

/// One file's path and text.
type Source = (PathBuf, String);

/// Reads `file` and the fragments of the directory beside it (`agent.toml` -> `agent.d/*.toml`).
///
/// # Errors
/// [`ConfigError`], naming the file.
pub fn load(file: &Path) -> Result<Settings, ConfigError> {
    parse(file, &sources(file)?)
}

/// As [`load`]; where that fails, what [`keep`] kept.
///
/// # Errors
/// [`ConfigError`] of the files as they are, where nothing was kept.
pub fn open(file: &Path) -> Result<Opened, ConfigError> {
    let (file, read) = (file.to_owned(), load(file));
    match read {
        Ok(settings) => Ok(Opened { file, settings, trouble: None }),
        Err(error) => match kept(&file) {
            Some(settings) => Ok(Opened { file, settings, trouble: Some(chain(&error)) }),
            None => Err(error),
        },
    }
}

/// Keeps what can be read now, beside the file: where only its owner, who decides which units are allowed, writes.
///
/// # Errors
/// [`ConfigError`]; the copy before stands.
pub fn keep(file: &Path) -> Result<(), ConfigError> {
    let sources = sources(file)?;
    parse(file, &sources)?;
    // Paths that are no text are named approximately; they are for people.
    let shown = |(path, text): &Source| (path.to_string_lossy().into_owned(), text.clone());
    let json = serde_json::to_vec(&sources.iter().map(shown).collect::<Vec<_>>());
    let json = json.unwrap_or_default();
    let path = kept_file(file);
    if durable::read(&path, KEPT_MAX_BYTES).ok().flatten().as_deref() == Some(json.as_slice()) {
        return Ok(());
    }
    Ok(durable::write(&path, &json, Access::All)?)
}

fn kept_file(file: &Path) -> PathBuf {
    file.with_extension("toml.kept")
}

fn kept(file: &Path) -> Option<Settings> {
    let bytes = durable::read(&kept_file(file), KEPT_MAX_BYTES).ok()??;
    let sources: Vec<Source> = serde_json::from_slice(&bytes).ok()?;
    parse(file, &sources).ok()
}

fn sources(file: &Path) -> Result<Vec<Source>, ConfigError> {
    let mut sources = Vec::new();
    for path in std::iter::once(file.to_owned()).chain(fragments(file)?) {
        let Some(bytes) = durable::read(&path, FRAGMENT_MAX_BYTES)? else { continue };
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::Text(path.clone()))?;
        sources.push((path, text));
    }
    Ok(sources)
}

fn parse(file: &Path, sources: &[Source]) -> Result<Settings, ConfigError> {
    let mut settings = Settings::defaults().ok_or(ConfigError::HostName)?;
    for (path, text) in sources {
        let form = |source: toml::de::Error| {
            let before = source.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count();
            let stands = text.lines().nth(line).unwrap_or_default().trim();
            let stands = head(stands, LINE_SHOWN_MAX_BYTES).to_owned();
            let source = Box::new(Defect(source));
            ConfigError::Form { path: path.clone(), line: line + 1, text: stands, source }
        };
        let fragment: Fragment = toml::from_str(text).map_err(form)?;
        settings.take(fragment, path)?;
    }
    if sources.is_empty() {
        return Err(ConfigError::Missing(file.to_owned()));
    }
    // Who owns a directory can put another one in the place of those below it.
    if settings.net_dir.as_ref().is_some_and(|net| settings.state_dir.starts_with(net)) {
        let (path, want) = (file.to_owned(), "must neither be state_dir nor hold it");
        return Err(ConfigError::Value { path, key: "net_dir", want });
    }
    Ok(settings)
}

fn host_name() -> Option<HostName> {
    let uname = rustix::system::uname();
    uname.nodename().to_str().ok()?.to_ascii_lowercase().parse().ok()
}

fn fragments(file: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let dir = file.with_extension("d");
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(at("list", &dir))? {
        let path = entry.map_err(at("list", &dir))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl Settings {
    /// What is in force where nothing is said; `None` where the host has no usable name.
    pub(crate) fn defaults() -> Option<Self> {
        Some(Self {
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            net_dir: None,
            socket: PathBuf::from(DEFAULT_SOCKET),
            name: host_name()?,
            supervisor: Supervisor::Systemd,
            stop_services_on_exit: false,
            keep_free_bytes: KEEP_FREE_BYTES,
            bandwidth_bytes_per_sec: None,
            units: BTreeMap::new(),
            allow_drift: BTreeSet::new(),
            shipped_units: BTreeSet::new(),
            origins: BTreeMap::new(),
        })
    }

    /// These, with what only a start can change taken from `running`; the first key that differs there.
    pub(crate) fn with_fixed_of(self, running: &Self) -> (Self, Option<&'static str>) {
        let differs = [
            ("state_dir", self.state_dir != running.state_dir),
            ("net_dir", self.net_dir != running.net_dir),
            ("socket", self.socket != running.socket),
            ("supervisor", self.supervisor != running.supervisor),
        ];
        let first = differs.iter().find_map(|(key, differs)| differs.then_some(*key));
        let settings = Self {
            state_dir: running.state_dir.clone(),
            net_dir: running.net_dir.clone(),
            socket: running.socket.clone(),
            supervisor: running.supervisor,
            ..self
        };
        (settings, first)
    }

    fn take(&mut self, fragment: Fragment, path: &Path) -> Result<(), ConfigError> {
        let value = |key, want| ConfigError::Value { path: path.to_owned(), key, want };
        if fragment.state_dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            return Err(value("state_dir", "must be an absolute path"));
        }
        if fragment.bandwidth_bytes_per_sec.is_some_and(|rate| rate < 1024) {
            return Err(value("bandwidth_bytes_per_sec", "must be at least 1024"));
        }
        for (dir, key) in [(&fragment.net_dir, "net_dir"), (&fragment.socket, "socket")] {
            if dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
                return Err(value(key, "must be an absolute path"));
            }
        }
        let mut origins = Vec::new();
        set(&mut self.state_dir, fragment.state_dir, "state_dir", &mut origins);
        set(&mut self.net_dir, fragment.net_dir.map(Some), "net_dir", &mut origins);
        set(&mut self.socket, fragment.socket, "socket", &mut origins);
        set(&mut self.name, fragment.name, "name", &mut origins);
        set(&mut self.supervisor, fragment.supervisor, "supervisor", &mut origins);
        let stop = fragment.stop_services_on_exit;
        set(&mut self.stop_services_on_exit, stop, "stop_services_on_exit", &mut origins);
        let keep = fragment.keep_free_bytes;
        set(&mut self.keep_free_bytes, keep, "keep_free_bytes", &mut origins);
        let rate = fragment.bandwidth_bytes_per_sec.map(Some);
        set(&mut self.bandwidth_bytes_per_sec, rate, "bandwidth_bytes_per_sec", &mut origins);
        for key in origins {
            self.origins.insert(key.to_owned(), path.to_owned());
        }
        for (service, given) in fragment.services {
            let units = given.units.unwrap_or_default();
            let refused = |fault| ConfigError::Units {
                path: path.to_owned(),
                service: service.clone(),
                fault,
            };
            if let Some(unit) = units.iter().find(|unit| !is_unit(unit)) {
                return Err(refused(format!(
                    "{unit:?} is no NAME.service, NAME.timer, NAME.socket or NAME.path"
                )));
            }
            if units.len() > UNITS_PER_SERVICE_MAX {
                return Err(refused(format!(
                    "{} are given, at most {UNITS_PER_SERVICE_MAX} may be",
                    units.len()
                )));
            }
            for (key, given, services) in [
                ("allow_drift", given.allow_drift, &mut self.allow_drift),
                ("shipped_units", given.shipped_units, &mut self.shipped_units),
            ] {
                let Some(given) = given else { continue };
                self.origins.insert(format!("services.{service}.{key}"), path.to_owned());
                if given {
                    services.insert(service.clone());
                } else {
                    services.remove(&service);
                }
            }
            self.origins.insert(format!("services.{service}.units"), path.to_owned());
            self.units.insert(service, units);
        }
        Ok(())
    }

    pub(crate) fn layout(&self) -> Layout {
        Layout::split(&self.state_dir, self.net_dir.as_deref().unwrap_or(&self.state_dir))
    }

    /// Whether the agent may start and stop this unit: one that releases may name, or that of a service's hooks.
    #[must_use]
    pub fn allows(&self, unit: &str) -> bool {
        let release_unit = named(unit);
        self.units.values().flatten().any(|allowed| *allowed == release_unit)
            || self.units.keys().any(|service| hook_unit(service) == unit)
    }

    /// Every key with its value and the file that set it, one a line.
    #[must_use]
    pub fn show(&self) -> String {
        let supervisor = match self.supervisor {
            Supervisor::Systemd => "\"systemd\"",
            Supervisor::Process => "\"process\"",
        };
        let net_dir = self.net_dir.as_ref().map_or("none".to_owned(), |dir| format!("{dir:?}"));
        let rate = self.bandwidth_bytes_per_sec.map_or("none".to_owned(), |r| r.to_string());
        let mut lines = vec![
            ("state_dir".to_owned(), format!("{:?}", self.state_dir)),
            ("net_dir".to_owned(), net_dir),
            ("socket".to_owned(), format!("{:?}", self.socket)),
            ("name".to_owned(), format!("{:?}", self.name.as_str())),
            ("supervisor".to_owned(), supervisor.to_owned()),
            ("stop_services_on_exit".to_owned(), self.stop_services_on_exit.to_string()),
            ("keep_free_bytes".to_owned(), self.keep_free_bytes.to_string()),
            ("bandwidth_bytes_per_sec".to_owned(), rate),
        ];
        for (service, units) in &self.units {
            lines.push((format!("services.{service}.units"), format!("{units:?}")));
            for (key, services) in
                [("allow_drift", &self.allow_drift), ("shipped_units", &self.shipped_units)]
            {
                let value = services.contains(service).to_string();
                lines.push((format!("services.{service}.{key}"), value));
            }
        }
        let origin = |key: &str| {
            self.origins.get(key).map_or("default".to_owned(), |path| path.display().to_string())
        };
        lines.iter().map(|(key, value)| format!("{key} = {value}  # {}\n", origin(key))).collect()
    }
}

fn set<T>(slot: &mut T, given: Option<T>, key: &'static str, origins: &mut Vec<&'static str>) {
    if let Some(given) = given {
        *slot = given;
        origins.push(key);
    }
}

fn is_unit(unit: &str) -> bool {
    UNIT_KINDS.iter().any(|kind| unit.ends_with(kind)) && !unit.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_win_over_the_file_and_every_value_knows_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let extra = dir.path().join("agent.d");
        std::fs::create_dir(&extra).unwrap();
        std::fs::write(&file, "name = \"web-1\"\nsupervisor = \"process\"\n").unwrap();
        std::fs::write(extra.join("10-a.toml"), "keep_free_bytes = 7\n").unwrap();
        let units = "keep_free_bytes = 8\n[services.shop]\nunits = [\"shop.service\"]\n";
        std::fs::write(extra.join("20-b.toml"), units).unwrap();
        std::fs::write(extra.join("ignored.txt"), "x = 1").unwrap();
        let settings = load(&file).unwrap();
        assert_eq!(settings.keep_free_bytes, 8);
        assert_eq!(settings.supervisor, Supervisor::Process);
        let shown = settings.show();
        assert!(shown.contains(&format!("name = \"web-1\"  # {}", file.display())), "{shown}");
        let units = "services.shop.units = [\"shop.service\"]  # ";
        assert!(shown.contains(units) && shown.contains("20-b.toml"), "{shown}");
        assert!(shown.contains("stop_services_on_exit = false  # default"), "{shown}");
    }

    #[test]
    fn units_of_services_and_of_their_hooks_are_allowed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "[services.shop]\nunits = [\"web.service\"]\n").unwrap();
        let settings = load(&file).unwrap();
        assert!(settings.allows("web.service"));
        assert!(settings.allows("groundswell-hook@shop.service"));
        for other in ["shop.service", "groundswell-hook@web.service", "groundswell-hook@.service"] {
            assert!(!settings.allows(other), "{other}");
        }
    }

    #[test]
    fn each_defect_is_refused_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        assert!(matches!(load(&file), Err(ConfigError::Missing(_))));
        for (text, want) in [
            ("colour = 1", "unknown field `colour`"),
            ("state_dir = \"relative\"", "state_dir must be an absolute path"),
            ("net_dir = \"relative\"", "net_dir must be an absolute path"),
            ("socket = \"relative\"", "socket must be an absolute path"),
            ("state_dir = \"/a/b\"\nnet_dir = \"/a\"", "net_dir must neither be state_dir"),
            ("bandwidth_bytes_per_sec = 1", "must be at least 1024"),
            ("supervisor = \"init\"", "unknown variant `init`"),
            (
                "[services.shop]\nunits = [\"shop.servce\"]",
                "units of [services.shop]: \"shop.servce\" is no NAME.service, NAME.timer, NAME.socket or NAME.path",
            ),
            ("[services.shop]\nunit = []", "agent.toml, line 2 (unit = []): unknown field `unit`"),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = load(&file).unwrap_err();
            let shown = groundswell_common::chain(&error);
            assert!(shown.contains("agent.toml") && shown.contains(want), "{text}: {shown}");
        }
    }
}
