//! Supervisors: whoever starts and stops a service. `process` runs the release's command itself, `systemd`
//! asks systemd over D-Bus, `simulated` does neither (tests).

mod log;
mod proc_table;
mod process;
mod program;
mod shipped;
#[cfg(test)]
pub(crate) mod simulated;
mod systemd;

use groundswell_common::condition::UnitLoad;
use groundswell_common::{ReleaseId, ServiceName};

use crate::durable::Fault;

pub(crate) use process::ProcessUnits;
pub(crate) use shipped::ShippedError;
pub(crate) use systemd::{SystemdUnits, hook_unit};

/// Crashes after which a service is said not to come up; it is still started again and again.
const HOPELESS_CRASHES: u64 = 3;

/// The unit that runs a release where it names `unit`: of a template, the release's own instance.
pub(crate) fn instance(unit: &str, release: &ReleaseId) -> String {
    match unit.strip_suffix("@.service") {
        Some(stem) => format!("{stem}@{release}.service"),
        None => unit.to_owned(),
    }
}

/// What a release names where `unit` runs: of a release's instance, the template.
pub(crate) fn named(unit: &str) -> String {
    let parts = unit.strip_suffix(".service").and_then(|stem| stem.split_once('@'));
    match parts.map(|(stem, instance)| (stem, instance.parse::<ReleaseId>())) {
        Some((stem, Ok(_))) => format!("{stem}@.service"),
        Some((_, Err(_))) | None => unit.to_owned(),
    }
}

/// What systemd's `LoadState` and `NeedDaemonReload` say of a unit.
pub(crate) fn load_of(state: &str, needs_reload: bool) -> UnitLoad {
    match state {
        "loaded" | "merged" if needs_reload => UnitLoad::NeedsReload,
        "loaded" | "merged" => UnitLoad::Loaded,
        "masked" => UnitLoad::Masked,
        "not-found" => UnitLoad::NotFound,
        _ => UnitLoad::Faulty,
    }
}

/// Why a supervisor could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// A release without a command under the process supervisor.
    #[error("start the service: the release has no command; set [release] command")]
    NoCommand,
    /// A unit that the host's configuration does not allow.
    #[error("start or stop {1}: not allowed here; add it to [services.{0}] units of the agent")]
    NotAllowed(ServiceName, String),
    /// The command cannot be run.
    #[error("start {program}")]
    Spawn {
        /// What was to be run.
        program: String,
        #[source]
        source: std::io::Error,
    },
    /// A process that outlives its SIGKILL.
    #[error("stop the service: process {0} outlives SIGKILL; look at the host's storage")]
    Unkillable(i32),
    /// The state directory or /proc failed.
    #[error("supervise the service")]
    Fault(#[from] Fault),
    /// The bus cannot be reached, or is not the way to systemd just now.
    #[error("ask systemd to {verb} {unit}")]
    Bus {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        #[source]
        source: Box<zbus::Error>,
    },
    /// An answer that did not come.
    #[error("ask systemd to {verb} {unit}: no answer within {secs} s; see 'systemctl status dbus'")]
    Silent {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        /// The bound.
        secs: u64,
    },
    /// What systemd itself answered instead of doing it.
    #[error("ask systemd to {verb} {unit}")]
    Answer {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        #[source]
        source: Box<zbus::Error>,
    },
    /// A job that systemd finished otherwise than done.
    #[error("{verb} {unit}: the job ended as {result:?}; see 'systemctl status {unit}'")]
    Job {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        /// `failed`, `timeout`, `dependency`, ...
        result: String,
    },
}

impl UnitError {
    /// Whether a job ended since another one took its place.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Job { result, .. } if result == "canceled")
    }

    /// Whether it says something of the way to systemd, and nothing of a unit.
    pub(crate) fn is_of_the_bus(&self) -> bool {
        match self {
            Self::Bus { .. } | Self::Silent { .. } => true,
            Self::NoCommand
            | Self::NotAllowed(..)
            | Self::Spawn { .. }
            | Self::Unkillable(_)
            | Self::Fault(_)
            | Self::Answer { .. }
            | Self::Job { .. } => false,
        }
    }
}
