//! The values of a policy and their bounds.

use groundswell_common::api::OperatorRole;
use groundswell_common::selector::Selector;
use groundswell_common::{Environment, Label, ServiceName};
use serde::{Deserialize, Serialize};

use crate::calendar::{Freeze, Window};

/// Largest policy text, in bytes.
pub const POLICY_MAX_BYTES: usize = 64 * 1024;
/// Waves in one policy; keeps every scan over waves short.
pub const WAVES_MAX: usize = 64;
/// Persons that one gate may ask for.
pub const APPROVALS_PER_GATE_MAX: u32 = 16;
/// Largest number of hosts that a count may name.
pub const COUNT_MAX: u32 = 1_000_000;
/// Longest probe deadline and interval, in seconds: what a directive can carry.
pub const PROBE_MAX_SECS: u64 = 86_400;
/// Longest bake on a host, in seconds: what a directive can carry.
pub const HOST_BAKE_MAX_SECS: u64 = 604_800;
/// Longest bake of a wave and longest progress deadline, in seconds (30 days).
pub const WAVE_WAIT_MAX_SECS: u64 = 30 * 86_400;
/// The version of the format; a text may name it.
pub const POLICY_VERSION: u64 = 1;
/// Windows in one policy.
pub const WINDOWS_MAX: usize = 32;
/// Freezes in one policy.
pub const FREEZES_MAX: usize = 64;
/// Longest address of a webhook, in bytes.
pub const WEBHOOK_MAX_BYTES: usize = 2_048;
/// Most failures in a row that a quarantine may wait for.
pub const QUARANTINE_MAX: u64 = 100;
/// Longest wait for a host that is away, in seconds.
pub const ABSENT_AFTER_MAX_SECS: u64 = 86_400;

/// Environments in one policy.
pub const ENVIRONMENTS_MAX: usize = 16;
/// How long a release soaks before it goes on to the next environment, in seconds, where no policy says it.
pub const PROMOTE_AFTER_SECS: u64 = 3_600;

/// A valid policy of a service for one environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The service.
    pub service: ServiceName,
    /// The environment that its section is for; `None` where the text has no sections.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Seconds for which a completed release soaks before it goes on to the next environment.
    #[serde(default = "promote_after_secs")]
    pub promote_after_secs: u64,
    /// Which hosts run it; the empty selector stands for every host and is written `*`.
    pub targets: Selector,
    /// Whether a new release starts a rollout by itself.
    pub auto: bool,
    /// Hosts of a wave that may be in flight at once.
    pub max_in_flight: Amount,
    /// Failures that a wave may have.
    pub failure_budget: Amount,
    /// Hosts of a wave that may be held when it is finished; `None` for any number of them.
    #[serde(default)]
    pub held_budget: Option<Amount>,
    /// Failures that the whole rollout may have, as a share of all its hosts; `None` for no bound
    /// beyond those of the waves.
    pub rollout_budget: Option<Amount>,
    /// What happens when there are more.
    pub on_breach: OnBreach,
    /// Which hosts come first inside a wave.
    pub order: Order,
    /// A label whose number is the host's weight when a wave takes a percent; hosts without it
    /// weigh 1.
    pub weight_label: Option<Label>,
    /// Hosts of a wave that must stay up.
    pub min_healthy: Option<Amount>,
    /// Which hosts may be down together.
    pub domain: Option<DomainPolicy>,
    /// A label that names the group of which a majority must stay up.
    pub quorum_label: Option<Label>,
    /// When hosts may switch; none for always.
    pub windows: Vec<Window>,
    /// When no host may switch.
    pub freezes: Vec<Freeze>,
    /// Where gates with `webhook` ask: an `http://` or `https://` address.
    pub webhook: Option<String>,
    /// Whether hosts fetch before their wave opens.
    pub prefetch: bool,
    /// Hosts that were away: hosts in flight at once, as a share of all hosts.
    pub straggler_max_in_flight: Amount,
    /// Failures that they may have, as a share of all hosts.
    pub straggler_budget: Amount,
    /// Failures in a row, over releases, after which a host is left out; 0 for never.
    pub quarantine_after: u32,
    /// Seconds for which a finished wave is watched.
    pub bake_secs: u64,
    /// What a bake must have seen at least.
    pub evidence: EvidencePolicy,
    /// Seconds for which a host's probes must keep passing before it commits.
    pub host_bake_secs: u64,
    /// Seconds from the switch to a pass of all probes.
    pub probe_deadline_secs: u64,
    /// Seconds between two tries of a probe.
    pub probe_interval_secs: u64,
    /// Whether a host must have reached the coordinator since its switch before it commits.
    pub confirm_by_contact: bool,
    /// Seconds that an open wave may go without a host that commits.
    pub progress_deadline_secs: u64,
    /// Seconds after which a host that is away no longer holds its wave.
    pub absent_after_secs: u64,
    /// What a newer release does to a rollout under way.
    pub when_newer: WhenNewer,
    /// At least one; the last takes every host left.
    pub waves: Vec<WavePolicy>,
}

/// Where the record of a policy does not say it.
fn promote_after_secs() -> u64 {
    PROMOTE_AFTER_SECS
}

impl Policy {
    /// The environment whose hosts belong to its plans: the default one where it names none.
    #[must_use]
    pub fn environment_or_default(&self) -> Environment {
        self.environment.clone().unwrap_or_default()
    }
}

/// One wave as the policy describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WavePolicy {
    /// For people.
    pub name: Label,
    /// Which hosts it takes from those that no earlier wave took.
    pub take: Take,
    /// What must hold before it opens.
    pub gate: Gate,
    /// Replaces [`Policy::bake_secs`].
    pub bake_secs: Option<u64>,
    /// Replaces [`Policy::min_healthy`].
    pub min_healthy: Option<Amount>,
    /// Replaces [`Policy::max_in_flight`].
    pub max_in_flight: Option<Amount>,
    /// Replaces [`Policy::failure_budget`].
    pub failure_budget: Option<Amount>,
    /// Whether the wave may be empty though it is the first or has a gate.
    #[serde(default)]
    pub optional: bool,
}

/// Which hosts a wave takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Take {
    /// This many.
    Count(u32),
    /// So many that this percent of all targets is reached, rounded up.
    Percent(u8),
    /// Those with these labels.
    Selector(Selector),
    /// Everyone left.
    Rest,
}

/// What must hold before a wave opens, beyond the bake of the wave before. All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// This many distinct persons approved the plan.
    pub approvals: u32,
    /// Whether the persons who published or planned the release are no such persons.
    pub four_eyes: bool,
    /// The role that those who approve must have; `None` for anyone who may approve.
    #[serde(default)]
    pub role: Option<OperatorRole>,
    /// Whether a person must open it.
    pub manual: bool,
    /// Whether the policy's webhook must answer that it may.
    pub webhook: bool,
}

/// Which hosts come first inside a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// A stable order that the release and the host's identity give.
    Seeded,
    /// Hosts whose service fails its probes come first, then as [`Order::Seeded`].
    BrokenFirst,
}

/// Which hosts may be down together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainPolicy {
    /// The label that names a host's failure domain: a rack, a zone.
    pub label: Label,
    /// Domains that may have hosts in flight at once, at least 1.
    pub at_once: u32,
    /// Hosts of a domain that must stay up.
    pub min_healthy: Amount,
}

/// What a bake must have seen at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidencePolicy {
    /// Seconds that committed and connected hosts of the wave ran, added up.
    pub host_secs: u64,
    /// Hosts of the wave that committed.
    pub hosts: u32,
    /// What happens when the bake is over and has seen less.
    pub short: Short,
}

/// What happens when a bake is over and has seen too little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Short {
    /// It bakes on, at most for the progress deadline, then it asks.
    #[default]
    Extend,
    /// It pauses and asks a person.
    Ask,
}

/// A number of hosts, or a share of a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Amount {
    /// Hosts.
    Count(u32),
    /// Percent of the wave's hosts, 0 to 100, rounded down.
    Percent(u8),
}

impl Amount {
    /// The number of hosts that it means for a wave of `hosts`, rounded down.
    #[must_use]
    pub fn of(self, hosts: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let share = u64::from(hosts) * u64::from(percent) / 100;
                u32::try_from(share).unwrap_or(u32::MAX)
            }
        }
    }
}

/// What happens when a wave has more failures than its budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBreach {
    /// Pause and ask: the release is not poisoned.
    Pause,
    /// Halt and wait for a person.
    Halt,
    /// Halt, then put the previous release back on the hosts of the wave; earlier waves keep what
    /// they run.
    RevertWave,
    /// Halt, then put the previous release back on every host that left it.
    #[serde(alias = "revert")]
    RevertAll,
}

/// What a newer release does to a rollout under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenNewer {
    /// Takes its place.
    Supersede,
    /// Waits for its end.
    Queue,
    /// Waits for its end, unless it is published as a hotfix: then it takes its place at once.
    Hotfix,
}
