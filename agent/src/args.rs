//! The agent's command line. The manual and the completions are made from it (packaging/manuals), so it uses
//! nothing of the agent.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use groundswell_common::{HostName, ServiceName};

/// Where a package installs the configuration.
const DEFAULT_FILE: &str = "/etc/groundswell/agent.toml";

/// Brings releases to this host, as the coordinator directs.
#[derive(Debug, Parser)]
#[command(name = "groundswell-agent", version)]
pub(crate) struct Arguments {
    /// The configuration file; fragments lie in the directory of the same name with ".d".
    #[arg(long, global = true, default_value = DEFAULT_FILE)]
    pub(crate) config: PathBuf,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Enrols this host with a one-time token.
    Enroll {
        /// The line that "swell host enroll-token" printed; "-" reads it from standard input.
        token: String,
        /// The name to enrol under, instead of the configured one.
        #[arg(long)]
        name: Option<HostName>,
        /// Takes the place of an enrolment that stands: a new key and certificate; services and releases stay.
        #[arg(long)]
        again: bool,
    },
    /// Runs the agent as one process until it is told to stop.
    Run,
    /// Runs the network side alone: talks to the coordinator and fetches, for the apply side.
    Net,
    /// Runs the apply side alone: verifies, stages, switches and probes what the network side brings.
    Apply,
    /// Shows what the state directory says, without the network.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says what is wrong on this host and what to do next, without the network; 1 where something does not work.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says what holds a service now, without the network.
    Why {
        /// One service only.
        service: Option<ServiceName>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts the release before back, without the coordinator; what runs is not tried again here by itself.
    Revert {
        /// The service.
        service: ServiceName,
        /// For the report.
        #[arg(long)]
        reason: String,
    },
    /// Starts and probes what is live of a stuck service, once its cause is mended; needs no coordinator.
    Retry {
        /// The service.
        service: ServiceName,
    },
    /// Starts no switch on this host, or of one service, until "resume"; what is live goes on baking or reverting.
    Pause {
        /// One service only.
        service: Option<ServiceName>,
        /// For those who wonder.
        #[arg(long)]
        reason: String,
    },
    /// Ends a pause of this host, or of one service.
    Resume {
        /// One service only.
        service: Option<ServiceName>,
    },
    /// Runs the hook that the agent wrote down for a service; the command of groundswell-hook@SERVICE.service.
    #[command(hide = true)]
    Hook {
        /// The service.
        service: ServiceName,
    },
    /// Writes a new journal for a stuck service from what is live; the agent must not run.
    Unstick {
        /// The service.
        service: ServiceName,
    },
    /// The configuration.
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Prints every value and the file that it comes from.
    Show,
    /// Keeps a copy beside the file, for a start at which it cannot be read; what groundswell-apply.service runs.
    #[command(hide = true)]
    Keep,
    /// Exits with 0 when releases may name this unit, else with 1; what polkit's rule asks.
    Allows {
        /// The unit.
        unit: String,
    },
    /// Exits with 0 when releases of a service bring units, which systemd must read again; what polkit's rule asks.
    Ships,
}
