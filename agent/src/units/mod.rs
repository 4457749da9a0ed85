//! Supervisors: whoever starts and stops a service. `process` runs the release's command itself, `systemd`
//! asks systemd over D-Bus, `simulated` does neither (tests).

mod log;
mod proc_table;
mod process;
#[cfg(test)]
pub(crate) mod simulated;
mod systemd;

use crate::durable::Fault;

pub(crate) use process::ProcessUnits;
pub(crate) use systemd::{SystemdUnits, hook_unit};

/// Crashes after which a service is said not to come up; it is still started again and again.
const HOPELESS_CRASHES: u64 = 3;

/// Why a supervisor could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnitError {
    /// A release without a command under the process supervisor.
    #[error("start the service: the release has no command; set [release] command")]
    NoCommand,
    /// A release without units under systemd.
    #[error("start the service: the release names no units; set [release] units")]
    NoUnits,
    /// A unit that the host's configuration does not allow.
    #[error("restart {0}: not allowed here; add it to [services.NAME] units of the agent")]
    NotAllowed(String),
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
    /// The bus cannot be reached, or refuses.
    #[error("ask systemd to {verb} {unit}")]
    Bus {
        /// What was asked.
        verb: &'static str,
        /// Of which unit.
        unit: String,
        #[source]
        source: Box<zbus::Error>,
    },
    /// The unit's start limit is used up.
    #[error(
        "restart {0}: its start limit is hit; run 'systemctl reset-failed {0}' or raise StartLimitBurst= in the unit"
    )]
    StartLimit(String),
    /// A job that systemd finished otherwise than done.
    #[error("restart {unit}: the job ended as {result:?}; see 'systemctl status {unit}'")]
    Job {
        /// The unit.
        unit: String,
        /// `failed`, `timeout`, `dependency`, ...
        result: String,
    },
    /// A job whose end was not heard of.
    #[error("restart {unit}: no result within {secs} s; see 'systemctl list-jobs'")]
    JobSilent {
        /// The unit.
        unit: String,
        /// The bound.
        secs: u64,
    },
}
