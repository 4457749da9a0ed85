//! What may be wrong with the text of a policy, with the line and what to write instead.

use groundswell_common::name::NameError;
use groundswell_common::selector::SelectorError;
use groundswell_common::{Environment, Label, chain};

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
    #[error("read the policy, line {line}: see the keys in docs/policy.md")]
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
    /// A rule of docs/policy.md broken.
    #[error("read the policy, line {line}")]
    Rule {
        /// Where.
        line: usize,
        /// Which rule.
        #[source]
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
            Self::Selector { source, .. } => chain(source),
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
    #[error("{0} is 0; write at least 1 (a percent counts as at least 1 host)")]
    NothingInFlight(&'static str),
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
    /// A role whose persons cannot approve.
    #[error("approver_role must be \"approver\" or \"admin\": nobody else may approve")]
    ApproverRole,
    /// `approvals`, `four_eyes` or `approver_role` without a gate.
    #[error("approvals, four_eyes and approver_role need gate = \"approval\"")]
    ApprovalsWithoutGate,
    /// A format that this version does not read.
    #[error("version {0} is not known; this version of Groundswell reads version 1")]
    Version(u64),
    /// No gate.
    #[error("gate must be \"approval\", \"manual\", \"webhook\" or a list of these")]
    Gate,
    /// A gate that asks nobody.
    #[error("gate \"webhook\" needs webhook = \"http://...\" at the top of the policy")]
    WebhookMissing,
    /// No address.
    #[error("webhook must be an http:// or https:// address of at most 2048 bytes")]
    Webhook,
    /// Too many windows or freezes.
    #[error("at most {max} of {key}; merge some")]
    TooMany {
        /// The key.
        key: &'static str,
        /// How many.
        max: usize,
    },
    /// No days.
    #[error("days must be \"daily\", \"weekdays\" or a list of mon tue wed thu fri sat sun")]
    Days,
    /// No time of day.
    #[error("start must be a time of day such as \"22:00\"")]
    Start,
    /// A zone that nobody knows.
    #[error("zone {0:?} is not an IANA zone; write one such as \"Europe/Berlin\" or \"UTC\"")]
    Zone(String),
    /// No moment.
    #[error("{0} must be a moment such as \"2026-12-20T00:00:00+01:00\"")]
    Moment(&'static str),
    /// No sections, or one without a name.
    #[error(
        "environments are sections [[environment]], each with name = \"...\", the first in order first"
    )]
    Environments,
    /// Two sections of one name.
    #[error("two environments are named {0}; rename one")]
    TwinEnvironments(Environment),
    /// A key that is for the whole policy.
    #[error("{0} is for every environment; write it at the top")]
    OfTheService(&'static str),
    /// A freeze that ends before it begins.
    #[error("until must be after from")]
    FreezeBackwards,
}
