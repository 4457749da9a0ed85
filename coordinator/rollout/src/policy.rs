//! What an admin wants for one service, parsed from TOML. Owns the keys, their defaults and bounds;
//! never looks at hosts.

use groundswell_common::name::NameError;
use groundswell_common::selector::{Selector, SelectorError};
use groundswell_common::{Label, ServiceName};
use serde::{Deserialize, Serialize};
use toml::{Spanned, Value};

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
/// Longest wait for a host that is away, in seconds.
pub const ABSENT_AFTER_MAX_SECS: u64 = 86_400;

/// A valid policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The service.
    pub service: ServiceName,
    /// Which hosts run it; the empty selector stands for every host and is written `*`.
    pub targets: Selector,
    /// Whether a new release starts a rollout by itself.
    pub auto: bool,
    /// Hosts of a wave that may be in flight at once.
    pub max_in_flight: Amount,
    /// Failures that a wave may have.
    pub failure_budget: Amount,
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
    /// Seconds that an open wave may go without a host that commits.
    pub progress_deadline_secs: u64,
    /// Seconds after which a host that is away no longer holds its wave.
    pub absent_after_secs: u64,
    /// What a newer release does to a rollout under way.
    pub when_newer: WhenNewer,
    /// At least one; the last takes every host left.
    pub waves: Vec<WavePolicy>,
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

/// Why a text is no policy. Every variant but the first names the line, counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// More than 64 KiB.
    #[error("read the policy: {bytes} bytes, at most 65536; use selectors instead of host lists")]
    TooLarge {
        /// What came.
        bytes: usize,
    },
    /// Not TOML, or a key that is missing, unknown or of the wrong type.
    #[error("read the policy, line {line}: see the keys in docs/rollout.md")]
    Toml {
        /// Where.
        line: usize,
        /// What the parser says.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A name with a forbidden form.
    #[error("read the policy, line {line}")]
    Name {
        /// Where.
        line: usize,
        /// What is wanted.
        #[source]
        source: NameError,
    },
    /// A selector that cannot be read.
    #[error("read the policy, line {line}")]
    Selector {
        /// Where.
        line: usize,
        /// What is wanted.
        #[source]
        source: SelectorError,
    },
    /// A rule of docs/rollout.md broken.
    #[error("read the policy, line {line}: {fault}")]
    Rule {
        /// Where.
        line: usize,
        /// Which rule.
        fault: PolicyFault,
    },
}

impl PolicyError {
    /// The line of the text, counted from 1; `None` where the whole text is at fault.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::TooLarge { .. } => None,
            Self::Toml { line, .. }
            | Self::Name { line, .. }
            | Self::Selector { line, .. }
            | Self::Rule { line, .. } => Some(*line),
        }
    }

    /// What to do, for people; includes what the parser said.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::TooLarge { .. } => "use selectors instead of lists of hosts".to_owned(),
            Self::Toml { source, .. } => source.message().to_owned(),
            Self::Name { source, .. } => source.to_string(),
            Self::Selector { source, .. } => source.to_string(),
            Self::Rule { fault, .. } => fault.to_string(),
        }
    }
}

/// A rule of a policy that a text breaks.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PolicyFault {
    /// An empty `targets`.
    #[error("targets is empty; write targets = \"*\" for every host")]
    EmptyTargets,
    /// Neither a count nor a percent.
    #[error("{0} must be a count such as 4 or a percent such as \"25%\" (0% to 100%)")]
    Amount(&'static str),
    /// Nothing could ever be in flight.
    #[error("max_in_flight is 0; write at least 1 (a percent counts as at least 1 host)")]
    NothingInFlight,
    /// A number outside its bounds.
    #[error("{key} must be {min} to {max}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// A progress deadline that a single host could not meet.
    #[error("progress_deadline_secs must be more than probe_deadline_secs + host_bake_secs = {0}")]
    Progress(u64),
    /// Too many waves.
    #[error("at most 64 waves; merge some")]
    TooManyWaves,
    /// A wave with no take or with two.
    #[error("a wave needs exactly one of count, percent, selector and rest = true")]
    Take,
    /// A percent that does not grow.
    #[error("percent counts all targets up to this wave and must grow; the wave before has {0}")]
    PercentShrinks(u8),
    /// A wave after the one that takes everyone.
    #[error("nobody is left for this wave; only the last wave may have percent = 100 or rest")]
    AfterTheRest,
    /// Hosts that no wave takes.
    #[error("the last wave must take everyone left; give it rest = true or percent = 100")]
    HostsLeft,
    /// Two waves of one name.
    #[error("two waves are named {0}; rename one")]
    TwinWaves(Label),
    /// `approvals` without a gate.
    #[error("approvals needs gate = \"approval\"")]
    ApprovalsWithoutGate,
}

impl Policy {
    /// Reads a policy. `docs/rollout.md` lists the keys with their defaults.
    ///
    /// # Errors
    /// [`PolicyError`] with the line and what to write instead.
    pub fn from_toml(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_MAX_BYTES {
            return Err(PolicyError::TooLarge { bytes: text.len() });
        }
        let raw: RawPolicy = toml::from_str(text).map_err(|source| PolicyError::Toml {
            line: line_of(text, source.span().map_or(0, |span| span.start)),
            source: Box::new(source),
        })?;
        Reader { text }.policy(raw)
    }

    /// The waves of a policy that names none: one host, a quarter, everyone.
    #[must_use]
    pub fn default_waves() -> Vec<WavePolicy> {
        let takes =
            [("canary", Take::Count(1)), ("quarter", Take::Percent(25)), ("rest", Take::Rest)];
        let wave = |(name, take): (&str, Take)| {
            Some(WavePolicy {
                name: name.parse().ok()?,
                take,
                gate: Gate::default(),
                bake_secs: None,
                min_healthy: None,
                max_in_flight: None,
                failure_budget: None,
            })
        };
        takes.into_iter().filter_map(wave).collect()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    service: Spanned<String>,
    targets: Spanned<String>,
    auto: Option<bool>,
    max_in_flight: Option<Spanned<Value>>,
    failure_budget: Option<Spanned<Value>>,
    on_breach: Option<OnBreach>,
    bake_secs: Option<Spanned<u64>>,
    host_bake_secs: Option<Spanned<u64>>,
    probe_deadline_secs: Option<Spanned<u64>>,
    probe_interval_secs: Option<Spanned<u64>>,
    progress_deadline_secs: Option<Spanned<u64>>,
    absent_after_secs: Option<Spanned<u64>>,
    when_newer: Option<WhenNewer>,
    #[serde(default)]
    wave: Vec<Spanned<RawWave>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWave {
    name: Option<Spanned<String>>,
    count: Option<Spanned<u64>>,
    percent: Option<Spanned<u64>>,
    selector: Option<Spanned<String>>,
    rest: Option<Spanned<bool>>,
    gate: Option<GateWord>,
    approvals: Option<Spanned<u64>>,
    bake_secs: Option<Spanned<u64>>,
    max_in_flight: Option<Spanned<Value>>,
    failure_budget: Option<Spanned<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum GateWord {
    Approval,
}

/// Turns the raw values of one text into a policy and knows where each stood.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn policy(&self, raw: RawPolicy) -> Result<Policy, PolicyError> {
        let flight = self.flight(raw.max_in_flight.as_ref())?.unwrap_or(Amount::Percent(10));
        let budget = self.amount("failure_budget", raw.failure_budget.as_ref())?;
        let policy = Policy {
            service: self.name(&raw.service)?,
            targets: self.targets(&raw.targets)?,
            auto: raw.auto.unwrap_or(true),
            max_in_flight: flight,
            failure_budget: budget.unwrap_or(Amount::Count(0)),
            rollout_budget: None,
            on_breach: raw.on_breach.unwrap_or(OnBreach::RevertAll),
            order: Order::Seeded,
            weight_label: None,
            min_healthy: None,
            domain: None,
            quorum_label: None,
            windows: Vec::new(),
            freezes: Vec::new(),
            webhook: None,
            prefetch: false,
            straggler_max_in_flight: flight,
            straggler_budget: budget.unwrap_or(Amount::Count(0)),
            quarantine_after: 0,
            evidence: EvidencePolicy::default(),
            bake_secs: self.secs("bake_secs", raw.bake_secs, (60, 0, WAVE_WAIT_MAX_SECS))?,
            host_bake_secs: self.secs(
                "host_bake_secs",
                raw.host_bake_secs,
                (10, 0, HOST_BAKE_MAX_SECS),
            )?,
            probe_deadline_secs: self.secs(
                "probe_deadline_secs",
                raw.probe_deadline_secs,
                (60, 1, PROBE_MAX_SECS),
            )?,
            probe_interval_secs: self.secs(
                "probe_interval_secs",
                raw.probe_interval_secs,
                (1, 1, PROBE_MAX_SECS),
            )?,
            progress_deadline_secs: self.secs(
                "progress_deadline_secs",
                raw.progress_deadline_secs.clone(),
                (600, 1, WAVE_WAIT_MAX_SECS),
            )?,
            absent_after_secs: self.secs(
                "absent_after_secs",
                raw.absent_after_secs,
                (30, 1, ABSENT_AFTER_MAX_SECS),
            )?,
            when_newer: raw.when_newer.unwrap_or(WhenNewer::Supersede),
            waves: self.waves(&raw.wave)?,
        };
        let one_host = policy.probe_deadline_secs + policy.host_bake_secs;
        if policy.progress_deadline_secs <= one_host {
            let at = raw.progress_deadline_secs.map_or(0, |value| value.span().start);
            return Err(self.rule(at, PolicyFault::Progress(one_host)));
        }
        Ok(policy)
    }

    fn waves(&self, raw: &[Spanned<RawWave>]) -> Result<Vec<WavePolicy>, PolicyError> {
        let Some(last) = raw.last() else { return Ok(Policy::default_waves()) };
        if raw.len() > WAVES_MAX {
            return Err(self.rule(last.span().start, PolicyFault::TooManyWaves));
        }
        let mut waves: Vec<WavePolicy> = Vec::with_capacity(raw.len());
        for (at, spanned) in raw.iter().enumerate() {
            let wave = self.wave(at, spanned)?;
            let start = spanned.span().start;
            if waves.iter().any(|before| takes_all(&before.take)) {
                return Err(self.rule(start, PolicyFault::AfterTheRest));
            }
            if waves.iter().any(|before| before.name == wave.name) {
                return Err(self.rule(start, PolicyFault::TwinWaves(wave.name)));
            }
            let before = waves.iter().rev().find_map(|wave| percent_of(&wave.take));
            if let (Some(before), Some(percent)) = (before, percent_of(&wave.take))
                && percent <= before
            {
                return Err(self.rule(start, PolicyFault::PercentShrinks(before)));
            }
            waves.push(wave);
        }
        if !waves.last().is_some_and(|wave| takes_all(&wave.take)) {
            return Err(self.rule(last.span().start, PolicyFault::HostsLeft));
        }
        Ok(waves)
    }

    fn wave(&self, at: usize, spanned: &Spanned<RawWave>) -> Result<WavePolicy, PolicyError> {
        let (start, raw) = (spanned.span().start, spanned.get_ref());
        let name = match &raw.name {
            Some(name) => self.name(name)?,
            None => self.parse_name(&format!("wave-{}", at + 1), start)?,
        };
        let approvals = match (&raw.gate, &raw.approvals) {
            (None, None) => None,
            (None, Some(value)) => {
                let fault = PolicyFault::ApprovalsWithoutGate;
                return Err(self.rule(value.span().start, fault));
            }
            (Some(GateWord::Approval), value) => {
                let max = u64::from(APPROVALS_PER_GATE_MAX);
                Some(self.secs("approvals", value.clone(), (1, 1, max))?)
            }
        };
        let bake = raw.bake_secs.clone();
        Ok(WavePolicy {
            name,
            take: self.take(start, raw)?,
            gate: Gate {
                approvals: approvals
                    .map_or(0, |count| u32::try_from(count).unwrap_or(APPROVALS_PER_GATE_MAX)),
                ..Gate::default()
            },
            min_healthy: None,
            bake_secs: bake
                .map(|value| self.secs("bake_secs", Some(value), (0, 0, WAVE_WAIT_MAX_SECS)))
                .transpose()?,
            max_in_flight: self.flight(raw.max_in_flight.as_ref())?,
            failure_budget: self.amount("failure_budget", raw.failure_budget.as_ref())?,
        })
    }

    fn take(&self, start: usize, raw: &RawWave) -> Result<Take, PolicyError> {
        let rest = raw.rest.as_ref().is_some_and(|rest| *rest.get_ref());
        match (&raw.count, &raw.percent, &raw.selector, rest) {
            (Some(count), None, None, false) => {
                let max = u64::from(COUNT_MAX);
                let count = self.secs("count", Some(count.clone()), (1, 1, max))?;
                Ok(Take::Count(u32::try_from(count).unwrap_or(COUNT_MAX)))
            }
            (None, Some(percent), None, false) => {
                let percent = self.secs("percent", Some(percent.clone()), (1, 1, 100))?;
                Ok(Take::Percent(u8::try_from(percent).unwrap_or(100)))
            }
            (None, None, Some(selector), false) => {
                let at = selector.span().start;
                self.selector(selector.get_ref(), at).map(Take::Selector)
            }
            (None, None, None, true) => Ok(Take::Rest),
            (_, _, _, _) => Err(self.rule(start, PolicyFault::Take)),
        }
    }

    fn targets(&self, raw: &Spanned<String>) -> Result<Selector, PolicyError> {
        match raw.get_ref().trim() {
            "" => Err(self.rule(raw.span().start, PolicyFault::EmptyTargets)),
            "*" => Ok(Selector::default()),
            text => self.selector(text, raw.span().start),
        }
    }

    fn selector(&self, text: &str, at: usize) -> Result<Selector, PolicyError> {
        text.parse()
            .map_err(|source| PolicyError::Selector { line: line_of(self.text, at), source })
    }

    fn name<T>(&self, raw: &Spanned<String>) -> Result<T, PolicyError>
    where
        T: std::str::FromStr<Err = NameError>,
    {
        self.parse_name(raw.get_ref(), raw.span().start)
    }

    fn parse_name<T>(&self, text: &str, at: usize) -> Result<T, PolicyError>
    where
        T: std::str::FromStr<Err = NameError>,
    {
        text.parse().map_err(|source| PolicyError::Name { line: line_of(self.text, at), source })
    }

    /// `bounds` is (default, smallest, largest).
    fn secs(
        &self,
        key: &'static str,
        raw: Option<Spanned<u64>>,
        bounds: (u64, u64, u64),
    ) -> Result<u64, PolicyError> {
        let (default, min, max) = bounds;
        let Some(raw) = raw else { return Ok(default) };
        let (value, at) = (*raw.get_ref(), raw.span().start);
        if (min..=max).contains(&value) {
            Ok(value)
        } else {
            Err(self.rule(at, PolicyFault::Bounds { key, min, max }))
        }
    }

    fn flight(&self, raw: Option<&Spanned<Value>>) -> Result<Option<Amount>, PolicyError> {
        let amount = self.amount("max_in_flight", raw)?;
        match (amount, raw) {
            (Some(Amount::Count(0) | Amount::Percent(0)), Some(raw)) => {
                Err(self.rule(raw.span().start, PolicyFault::NothingInFlight))
            }
            (amount, _) => Ok(amount),
        }
    }

    fn amount(
        &self,
        key: &'static str,
        raw: Option<&Spanned<Value>>,
    ) -> Result<Option<Amount>, PolicyError> {
        let Some(raw) = raw else { return Ok(None) };
        let value = raw.get_ref();
        let count = value.as_integer().and_then(|count| u32::try_from(count).ok());
        let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<u8>().ok());
        match (count, percent) {
            (Some(count), _) if count <= COUNT_MAX => Ok(Some(Amount::Count(count))),
            (_, Some(percent)) if percent <= 100 => Ok(Some(Amount::Percent(percent))),
            (_, _) => Err(self.rule(raw.span().start, PolicyFault::Amount(key))),
        }
    }

    fn rule(&self, at: usize, fault: PolicyFault) -> PolicyError {
        PolicyError::Rule { line: line_of(self.text, at), fault }
    }
}

fn takes_all(take: &Take) -> bool {
    match take {
        Take::Rest | Take::Percent(100) => true,
        Take::Count(_) | Take::Percent(_) | Take::Selector(_) => false,
    }
}

fn percent_of(take: &Take) -> Option<u8> {
    match take {
        Take::Percent(percent) => Some(*percent),
        Take::Count(_) | Take::Selector(_) | Take::Rest => None,
    }
}

/// The line of byte `at`, counted from 1.
fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
