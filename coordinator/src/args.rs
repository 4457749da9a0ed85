//! The coordinator's command line. The manual and the completions are made from it (packaging/manuals), so it
//! uses nothing of the coordinator.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use groundswell_common::{Fleet, OperatorName};

/// Signs, plans and halts rollouts for a fleet of hosts.
#[derive(Debug, Parser)]
#[command(name = "groundswell-coordinator", version)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage, 75 try again, 78 settings.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a new fleet: keys, one-machine trust, certificates, the first admin.
    Init(InitArgs),
    /// Serve agents and people until told to stop.
    Serve {
        /// The state directory that `init` made.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
    /// Look at the settings.
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Make the next root, before or after the present one ends.
    #[command(subcommand)]
    Root(RootVerb),
    /// Give a person a profile from this machine, where no admin has one that counts.
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// Look at the ledger while the coordinator is stopped or running.
    #[command(subcommand)]
    Ledger(LedgerVerb),
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitArgs {
    /// Where to make it; must not hold a fleet yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// What the fleet is called.
    #[arg(long, default_value = "main")]
    pub(crate) fleet: Fleet,
    /// A name or address under which hosts and people reach this machine; may be given several times,
    /// the first is told to them.
    #[arg(long = "host", value_name = "NAME_OR_ADDRESS", required = true)]
    pub(crate) hosts: Vec<String>,
    /// Listen for agents here [default: 0.0.0.0:7443].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) agents: Option<String>,
    /// Listen for people and CI jobs here [default: 0.0.0.0:7444].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) api: Option<String>,
    /// Serve blobs here [default: 0.0.0.0:7480].
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) blobs: Option<String>,
    /// Who the first admin is.
    #[arg(long, default_value = "admin")]
    pub(crate) admin: OperatorName,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Print the settings in force, as TOML.
    Show {
        /// The state directory.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RootVerb {
    /// Sign a root like the present one with another end; the coordinator takes it at its next start.
    Renew {
        /// The state directory.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// The root key, `root.pem`, from where it is kept.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Days from now on for which it counts.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3650))]
        days: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorVerb {
    /// Make a person an admin with a new key and profile, in place of the ones before; the coordinator is stopped.
    Reset {
        /// Who.
        name: OperatorName,
        /// The state directory.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
        /// Where to write the profile.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerVerb {
    /// Check every checksum and the whole chain.
    Verify {
        /// The state directory.
        #[arg(long, value_name = "DIR")]
        state: PathBuf,
    },
}
