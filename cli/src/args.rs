//! The command line. The one file that names clap; what the verbs do is in `verbs/`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use groundswell_common::api::OperatorRole;
use groundswell_common::name::DEFAULT_ENVIRONMENT;
use groundswell_common::{
    Environment, HostName, Labels, OperatorName, RolloutId, ServiceName, Timestamp, Version,
};
use groundswell_rollout::calendar::moment;
use groundswell_sim::rehearse::{LabelShare, Share};

/// Exit codes, printed below the help.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 usage, 3 the rollout ended halted, \
    aborted, superseded or reverted, 4 coordinator not reachable, 5 refused (no such operator or \
    role), 6 time-out waiting.";

/// Deploys releases to fleets of hosts: publish, watch, approve, halt, revert.
#[derive(Debug, Parser)]
#[command(name = "swell", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// The operator's profile [default: $XDG_CONFIG_HOME/groundswell/profile.json]
    #[arg(long, global = true, env = "GROUNDSWELL_PROFILE", value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
    /// Print JSON: one object, or one a line where there are many; errors too, on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say with an error what was asked of the coordinator
    #[arg(long, global = true)]
    pub(crate) verbose: bool,
    /// What to do
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Pack a directory, upload it and publish it as a release
    Publish(PublishArgs),
    /// Services and their policies
    #[command(subcommand)]
    Service(ServiceVerb),
    /// Show how a release would roll out, without doing it
    Plan(PlanArgs),
    /// Rehearse a policy on a fleet that is made up: how long it takes, how far a bad release gets
    Simulate(SimulateArgs),
    /// Rollouts: look, follow, pause, resume, halt, revert, steer, abort
    #[command(subcommand)]
    Rollout(RolloutVerb),
    /// Approve the wave that a rollout waits before, by your signature
    Approve(ApproveArgs),
    /// Hosts and enrolment
    #[command(subcommand)]
    Host(HostVerb),
    /// Releases
    #[command(subcommand)]
    Release(ReleaseVerb),
    /// People and jobs that may use the coordinator
    #[command(subcommand)]
    Operator(OperatorVerb),
    /// The ledger of every decision
    #[command(subcommand)]
    Audit(AuditVerb),
    /// The fleet at a glance
    Status,
    /// Stop the newest rollout of a service now: no host switches after the answer
    Halt(RolloutArgs),
    /// Put a release that was proven before back on the hosts of a service
    #[command(alias = "rollback")]
    Revert(RevertArgs),
    /// Stop a rollout for a while: no host switches after the answer
    Pause(RolloutArgs),
    /// Go on after a pause or halt; the failures seen so far are accepted
    Resume(RolloutArgs),
    /// Open the next wave now: end a bake, or pass a manual gate
    Promote(RolloutArgs),
    /// Follow a rollout to its end
    Watch(WatchArgs),
    /// One rollout: waves, hosts, and what it waits for
    Show {
        /// A rollout, or a service for its newest one
        rollout: RolloutId,
    },
    /// Run a whole fleet on this machine and watch releases roll through it
    Demo(DemoArgs),
}

/// `swell publish`.
#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    /// The directory with the release's files
    #[arg(default_value = ".")]
    pub(crate) tree: PathBuf,
    /// The service [default: `service` in groundswell.toml]
    #[arg(long)]
    pub(crate) service: Option<ServiceName>,
    /// The version as people know it
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Version,
    /// The release's description [default: groundswell.toml at the top of the directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// Commit it was built from [default: asked of git]
    #[arg(long)]
    pub(crate) commit: Option<String>,
    /// What people should know of it
    #[arg(long)]
    pub(crate) notes: Option<String>,
    /// Where it was built
    #[arg(long, value_name = "URL")]
    pub(crate) build_url: Option<String>,
    /// A builder's key (PKCS#8 PEM) that signs too, beside the profile's
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Go before a rollout under way, where the policy says when_newer = "hotfix"
    #[arg(long)]
    pub(crate) hotfix: bool,
    /// Start it in this environment at once, without those before
    #[arg(long, value_name = "NAME", requires_all = ["hotfix", "why"])]
    pub(crate) skip_to: Option<Environment>,
    /// Why it skips environments, for the ledger
    #[arg(long, requires = "skip_to")]
    pub(crate) why: Option<String>,
    /// Start it then, e.g. 2026-12-01T22:00+01:00, and not before
    #[arg(long, value_name = "MOMENT", value_parser = moment_of, conflicts_with = "wait")]
    pub(crate) at: Option<Timestamp>,
    /// Wait for this environment, and so for those before it, instead of for the first
    #[arg(long, value_name = "NAME", requires = "wait", conflicts_with = "skip_to")]
    pub(crate) wait_for: Option<Environment>,
    /// Check and print what would be published; talk to nobody
    #[arg(long, conflicts_with = "wait")]
    pub(crate) dry_run: bool,
    /// Whether to wait for the end
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `swell service`.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceVerb {
    /// Write a first policy; asks on the terminal for what no flag answers
    New(NewArgs),
    /// Store a policy and show the plan that it makes
    Apply {
        /// The policy, TOML
        file: PathBuf,
        /// Also where hosts that run the service get nothing of it any more; do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List services
    Ls,
    /// One service: policy, releases, what runs where
    Show {
        /// The service
        service: ServiceName,
    },
    /// Take a service off its hosts, wave by wave: it stops, and nothing of it stays on their disks
    Remove(RemoveArgs),
}

/// `swell service remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The service
    pub(crate) service: ServiceName,
    /// Only off hosts that run it though the policy's targets do not match them any more
    #[arg(long)]
    pub(crate) left_over: bool,
    /// Whether to wait for the end
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Why and whether to ask
    #[command(flatten)]
    pub(crate) decision: Decision,
}

/// `swell service new`.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NewArgs {
    /// The service
    #[arg(long)]
    pub(crate) name: Option<ServiceName>,
    /// Which hosts run it, e.g. role=web; "*" for every host
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) targets: Option<String>,
    /// About how many hosts they are
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) hosts: Option<u32>,
    /// When hosts may switch: always, in one evening window, or in many
    #[arg(long, value_name = "none|one|many")]
    pub(crate) windows: Option<WindowsWord>,
    /// The zone of a window, e.g. Europe/Berlin; repeat it for --windows many
    #[arg(long = "zone", value_name = "ZONE")]
    pub(crate) zones: Vec<String>,
    /// Whether somebody must approve what follows the canary
    #[arg(long, value_name = "yes|no")]
    pub(crate) approval: Option<YesNo>,
    /// Where to write it; a file that is there is never replaced [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// How many windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WindowsWord {
    /// Hosts may always switch
    None,
    /// One window
    One,
    /// A window for each of many zones
    Many,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum YesNo {
    /// Yes
    Yes,
    /// No
    No,
}

/// `swell plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The service
    pub(crate) service: ServiceName,
    /// Version or release id [default: the newest]
    #[arg(long)]
    pub(crate) release: Option<String>,
    /// Plan with this policy in place of the stored one
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,
    /// The environment [default: the first of the policy]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<Environment>,
}

/// `swell simulate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct SimulateArgs {
    /// The policy, TOML
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: PathBuf,
    /// The environment of the policy to rehearse [default: the first]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<Environment>,
    /// How many hosts to make up
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000),
          required_unless_present = "hosts_file")]
    pub(crate) hosts: Option<u32>,
    /// The real fleet instead: what 'swell host ls --json' printed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["hosts", "labels", "domains"])]
    pub(crate) hosts_file: Option<PathBuf>,
    /// A label of the hosts: key=value for the rest, key=value*30% or key=value*120 [default: what
    /// the policy's selectors ask for]
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<LabelShare>,
    /// Failure domains, such as racks [default: one for 40 hosts, at least 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) domains: Option<u32>,
    /// Hosts on which a good release fails all the same
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub(crate) failure_rate: Share,
    /// The release fails so many seconds after its probes passed [default: they never pass]
    #[arg(long, value_name = "SECS", value_parser = clap::value_parser!(u64).range(..=2_592_000))]
    pub(crate) fails_after: Option<u64>,
    /// Hosts that are away
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    pub(crate) away: Share,
    /// Median seconds in which a host stages the release
    #[arg(long, value_name = "SECS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) stage_secs: u64,
    /// Median seconds from the switch to the first pass of all probes
    #[arg(long, value_name = "SECS", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) switch_secs: u64,
    /// Minutes after which the persons of a gate answer
    #[arg(long, value_name = "MINUTES", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=525_600))]
    pub(crate) approval_mins: u64,
    /// When it starts, e.g. 2026-11-23T10:00Z [default: the next whole hour]
    #[arg(long, value_name = "MOMENT", value_parser = moment_of)]
    pub(crate) start: Option<Timestamp>,
    /// Another seed is another fleet: other canaries, other times, other failures
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Rehearse the bad release alone
    #[arg(long)]
    pub(crate) bad_release: bool,
    /// Draw it too; a file that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

fn moment_of(text: &str) -> Result<Timestamp, &'static str> {
    moment(text).ok_or("want a moment with its offset, such as 2026-11-23T10:00Z")
}

/// `swell rollout`.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// List rollouts, newest first
    Ls {
        /// Of this service only
        #[arg(long)]
        service: Option<ServiceName>,
        /// In this environment only
        #[arg(long, value_name = "NAME")]
        environment: Option<Environment>,
    },
    /// One rollout: waves, hosts, and what it waits for
    Show {
        /// A rollout, or a service for its newest one
        rollout: RolloutId,
    },
    /// Follow a rollout to its end
    Watch(WatchArgs),
    /// Roll out a release by hand, or at a time
    Start(StartArgs),
    /// Stop it for a while: no host switches after the answer
    Pause(RolloutArgs),
    /// Go on after a pause or halt; the failures seen so far are accepted
    Resume(RolloutArgs),
    /// Stop it now: no host switches after the answer
    Halt(RolloutArgs),
    /// Put the release before back on every host that left it
    Revert(RolloutArgs),
    /// Open the next wave now: end a bake, or pass a manual gate
    Promote(RolloutArgs),
    /// Leave out a wave that has not opened
    Skip {
        /// Which
        #[command(flatten)]
        rollout: RolloutArgs,
        /// The wave, counted from 1
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        wave: u32,
    },
    /// Leave out a host that does not run the release
    Exclude {
        /// Which
        #[command(flatten)]
        rollout: RolloutArgs,
        /// The host
        #[arg(long)]
        host: HostName,
    },
    /// Try a host again that failed and went back, or was left out
    Retry {
        /// Which
        #[command(flatten)]
        rollout: RolloutArgs,
        /// The host
        #[arg(long)]
        host: HostName,
    },
    /// Bound the hosts in flight below the plan
    Slow {
        /// Which
        #[command(flatten)]
        rollout: RolloutArgs,
        /// At most so many; without it the plan's own bound counts again
        #[arg(long, value_name = "HOSTS", value_parser = clap::value_parser!(u32).range(1..))]
        max_in_flight: Option<u32>,
    },
    /// End it for good; hosts that switched go back, or stay with --keep
    Abort {
        /// Which
        #[command(flatten)]
        rollout: RolloutArgs,
        /// Hosts that switched keep the release
        #[arg(long)]
        keep: bool,
    },
}

/// `swell rollout start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The service
    pub(crate) service: ServiceName,
    /// Version or release id
    pub(crate) release: String,
    /// Only if this is still the plan: its hash as 'swell plan' shows it
    #[arg(long, value_name = "HASH", conflicts_with = "at")]
    pub(crate) plan: Option<String>,
    /// The environment [default: the first of the policy]
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<Environment>,
    /// Although it has not completed and soaked in the environment before
    #[arg(long, requires = "why")]
    pub(crate) skip: bool,
    /// Start it then, e.g. 2026-12-01T22:00+01:00, and not before
    #[arg(long, value_name = "MOMENT", value_parser = moment_of, conflicts_with = "wait")]
    pub(crate) at: Option<Timestamp>,
    /// Why it skips or waits, for the ledger
    #[arg(long)]
    pub(crate) why: Option<String>,
    /// Whether to wait for the end
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
}

/// `swell watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// A rollout, or a service for its newest one
    pub(crate) rollout: RolloutId,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECS", default_value_t = 86_400)]
    pub(crate) timeout: u64,
}

/// Whether to wait for the end of what was begun.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitArgs {
    /// Follow it to its end; the exit code tells how it ended
    #[arg(long)]
    pub(crate) wait: bool,
    /// Seconds to wait at most
    #[arg(long, value_name = "SECS", default_value_t = 3600, requires = "wait")]
    pub(crate) timeout: u64,
}

/// A decision about one rollout.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// A rollout, or a service for its newest one
    pub(crate) rollout: RolloutId,
    /// Why and whether to ask
    #[command(flatten)]
    pub(crate) decision: Decision,
}

/// `swell revert`.
#[derive(Debug, Args)]
pub(crate) struct RevertArgs {
    /// The service
    pub(crate) service: ServiceName,
    /// The environment, where the policy has several
    #[arg(long, value_name = "NAME")]
    pub(crate) environment: Option<Environment>,
    /// The version to go back to [default: the one proven before what runs]
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    /// Although nothing was proven before what runs, so that the service stops: without it --yes refuses that
    #[arg(long)]
    pub(crate) stop: bool,
    /// Whether to wait for the end
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Why and whether to ask
    #[command(flatten)]
    pub(crate) decision: Decision,
}

/// Why something is done, and whether to ask first.
#[derive(Clone, Debug, Args)]
pub(crate) struct Decision {
    /// Why, for the ledger
    #[arg(long)]
    pub(crate) why: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `swell approve`.
#[derive(Debug, Args)]
pub(crate) struct ApproveArgs {
    /// The rollout, or a service for its newest
    pub(crate) rollout: RolloutId,
    /// Hours for which the approval counts
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=168))]
    pub(crate) hours: u64,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `swell host`.
#[derive(Debug, Subcommand)]
pub(crate) enum HostVerb {
    /// List hosts
    Ls {
        /// Only those with these labels, e.g. role=web,region in (eu,us)
        #[arg(long, short)]
        selector: Option<String>,
        /// Only those in this environment
        #[arg(long, value_name = "NAME")]
        environment: Option<Environment>,
    },
    /// One host
    Show {
        /// The host
        host: HostName,
    },
    /// Make enrolment tokens, one line each, each for one host
    #[command(alias = "enrol-token")]
    EnrollToken(TokenArgs),
    /// Say why a host is not what it should be
    Why {
        /// The host
        host: HostName,
    },
    /// Forget what failed on a host, so that the next plan takes it in again
    Clear {
        /// The host
        host: HostName,
        /// Why; kept in the ledger
        #[arg(long)]
        why: String,
    },
    /// Take a host out of all rollouts; what it runs stays
    Drain {
        /// The host
        host: HostName,
        /// Why; kept in the ledger
        #[arg(long)]
        why: String,
    },
    /// Let a drained host in again; it catches up by itself
    Undrain {
        /// The host
        host: HostName,
        /// Why; kept in the ledger
        #[arg(long, default_value = "done")]
        why: String,
    },
    /// Give a host other labels, in place of all that it has
    Label {
        /// The host
        host: HostName,
        /// key=value,key=value
        labels: Labels,
    },
    /// Call a host otherwise; what it runs, its key and its history stay
    Rename {
        /// The host
        host: HostName,
        /// Its new name
        name: HostName,
    },
    /// Forget a host; its certificate is refused from then on
    Remove {
        /// The host
        host: HostName,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `swell host enroll-token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// Labels of the hosts that use them: key=value,key=value, also one at a time
    #[arg(long = "label", visible_alias = "labels", value_name = "LABELS")]
    pub(crate) labels: Vec<Labels>,
    /// Environment that those hosts pin
    #[arg(long, default_value = DEFAULT_ENVIRONMENT)]
    pub(crate) environment: Environment,
    /// Hours until they expire
    #[arg(long, value_name = "HOURS", default_value_t = 24,
          value_parser = clap::value_parser!(u64).range(1..=720))]
    pub(crate) ttl: u64,
    /// How many
    #[arg(long, default_value_t = 1)]
    pub(crate) count: u32,
}

/// `swell release`.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseVerb {
    /// List releases, newest first
    Ls {
        /// Of this service only
        #[arg(long)]
        service: Option<ServiceName>,
    },
    /// One release: where it comes from, who signed it, where it went
    Show {
        /// SERVICE@VERSION or release id
        release: String,
    },
    /// Take back the time at which a release was to start; it then waits for 'swell rollout start'
    Cancel {
        /// SERVICE@VERSION
        release: String,
        /// The environment [default: the first of the policy]
        #[arg(long, value_name = "NAME")]
        environment: Option<Environment>,
        /// Why, for the ledger
        #[arg(long)]
        why: String,
    },
    /// Let a poisoned release be rolled out again
    Clear {
        /// SERVICE@VERSION or release id
        release: String,
        /// Why it is good now, for the ledger
        #[arg(long)]
        why: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `swell operator`.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorVerb {
    /// Make a key and a profile for a person or job; the same name again gets a new key or role
    Add {
        /// Who
        name: OperatorName,
        /// What they may do
        #[arg(long)]
        role: Role,
        /// Where to write the profile [default: NAME.profile]
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// What an operator may do.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Everything
    Admin,
    /// Run, halt and revert rollouts, enrol hosts
    Operator,
    /// Approve gates
    Approver,
    /// Publish releases
    Publisher,
    /// Read
    Viewer,
}

impl From<Role> for OperatorRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Admin => Self::Admin,
            Role::Operator => Self::Operator,
            Role::Approver => Self::Approver,
            Role::Publisher => Self::Publisher,
            Role::Viewer => Self::Viewer,
        }
    }
}

/// `swell audit`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Print entries, oldest first
    Log {
        /// Only entries after this number
        #[arg(long, default_value_t = 0, conflicts_with = "tail")]
        after: u64,
        /// Only the newest entries, this many
        #[arg(long, value_name = "COUNT")]
        tail: Option<u64>,
        /// At most this many
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
        limit: u64,
    },
    /// Fetch every entry and compute the chain again on this machine
    Verify,
    /// Once the ledger was put back from a backup: number what hosts are told above what they accepted before
    Lift {
        /// Why; kept in the ledger
        #[arg(long)]
        why: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// `swell demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leave the fleet running at the end and say how to use it
    #[arg(long)]
    pub(crate) keep: bool,
    /// Hosts, each with an agent and a service as real processes
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(4..=64))]
    pub(crate) hosts: u16,
    /// Where to keep the fleet's files [default: a new temporary directory]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Write a picture of what happened
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rollback_is_revert_and_json_stands_anywhere() {
        let cli =
            Cli::try_parse_from(["swell", "--json", "rollback", "shop", "-y"]).expect("parse");
        assert!(cli.json && matches!(cli.verb, Verb::Revert(_)));
        let cli = Cli::try_parse_from(["swell", "host", "ls", "--json"]).expect("parse");
        assert!(cli.json);
        assert!(
            Cli::try_parse_from(["swell", "publish", "--version", "1", "--timeout", "9"]).is_err()
        );
    }
}
