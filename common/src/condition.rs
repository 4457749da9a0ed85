//! The condition of a host: what it has and lacks, beside what it runs. Sent whole, before the report that it
//! explains, so that the coordinator knows what a host would refuse before it gives the host a slot.

use serde::{Deserialize, Serialize};

use crate::name::{ReleaseId, ServiceName};

/// Units of one service that a condition lists at most.
pub const UNITS_LISTED_MAX: usize = 16;
/// Bytes of one text in a condition at most.
pub const CONDITION_TEXT_MAX_BYTES: usize = 1_024;
/// Notes of one service at most.
pub const NOTES_MAX: usize = 4;

/// What a host has and lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Random at each start of the agent: two machines with one key alternate between two of them, one
    /// machine never comes back to an earlier one.
    pub instance: [u8; 16],
    /// Free bytes where releases are kept.
    pub free_bytes: u64,
    /// Free inodes there; `u64::MAX` where the file system has no bound.
    pub free_inodes: u64,
    /// Such as `linux-x86_64`: compared with what a manifest asks for.
    pub platform: String,
    /// Why the agent's settings on disk cannot be read now, so that it goes on with the last good ones.
    pub settings: Option<String>,
    /// One entry a service that the host's owner allows or that the host knows, by name.
    pub services: Vec<ServiceCondition>,
}

/// What a host has and lacks for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCondition {
    /// The service.
    pub service: ServiceName,
    /// The reason that a person on the host gave for a pause that is in force.
    pub paused: Option<String>,
    /// Units that the owner allows for it, and how they stand; templates by their own name.
    pub units: Vec<UnitCondition>,
    /// Why the host does not take the wished release now, though nothing speaks against the release. It tries
    /// again by itself.
    pub held: Option<Held>,
    /// How far a download under way has come.
    pub fetched: Option<Fetched>,
    /// What a person should know and what holds nothing, each one sentence.
    pub notes: Vec<String>,
}

impl ServiceCondition {
    /// The condition of a service of which nothing is known.
    #[must_use]
    pub fn new(service: ServiceName) -> Self {
        let (units, notes) = (Vec::new(), Vec::new());
        Self { service, paused: None, units, held: None, fetched: None, notes }
    }
}

/// One unit that the owner allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCondition {
    /// Its name.
    pub unit: String,
    /// Whether the supervisor could start it.
    pub load: UnitLoad,
}

/// Whether a supervisor could start a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitLoad {
    /// It could.
    Loaded,
    /// There is no such unit.
    NotFound,
    /// It is masked.
    Masked,
    /// Its file cannot be read.
    Faulty,
    /// Its file was changed and the supervisor has not read it again.
    NeedsReload,
}

/// How far a download has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Bytes on the host's disk.
    pub bytes: u64,
    /// Bytes in all.
    pub of: u64,
}

/// Why a host does not take a release now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which release.
    pub release: ReleaseId,
    /// What it lacks.
    pub lack: Lack,
    /// The cause, then the next step; at most [`CONDITION_TEXT_MAX_BYTES`].
    pub why: String,
}

/// What a host lacks. None of it says anything about the release. It stands in messages by its place, and in the
/// ledger, in plans and in answers by its name: a build from before ends a session at one that it does not know, and
/// cannot read it in a ledger. A new one is for agents and coordinators of a new level, or is said as one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lack {
    /// A person on the host has paused it, or stopped a unit of it before its release had passed.
    Paused,
    /// An operator has taken the host out from the coordinator.
    Drained,
    /// The owner does not allow a unit that the release names.
    UnitNotAllowed,
    /// A unit that the release names cannot be started here, or a program that it starts is missing.
    UnitNotLoaded,
    /// A user that a unit runs as does not exist.
    User,
    /// Too few bytes are free.
    Room,
    /// Too few inodes are free.
    Inodes,
    /// The release cannot be had now, or not be kept: the network, wrong bytes, a disk that fails.
    Bytes,
    /// What runs was changed, so that a revert would not bring it back.
    Drift,
    /// The service is stuck, the agent's state or the live link cannot be read, or the disk does not take them.
    Journal,
    /// The supervisor does not answer.
    Bus,
    /// The host's root asks for an approval that is missing.
    Approval,
    /// The host's root has ended.
    Root,
    /// The release is for another platform.
    Platform,
    /// The release is older than what runs; only a revert goes down.
    StepDown,
    /// The agent is too old for what is wished, or was restarted again and again while it staged the release.
    Agent,
    /// The agent's settings cannot be read. They are told as [`Condition::settings`] by now.
    Settings,
    /// Two machines use the key of this host.
    Twin,
    /// It could not stage the release, and its agent says no more.
    Stage,
}

impl Lack {
    /// Every lack, in the order of the wire.
    pub const ALL: [Self; 19] = [
        Self::Paused,
        Self::Drained,
        Self::UnitNotAllowed,
        Self::UnitNotLoaded,
        Self::User,
        Self::Room,
        Self::Inodes,
        Self::Bytes,
        Self::Drift,
        Self::Journal,
        Self::Bus,
        Self::Approval,
        Self::Root,
        Self::Platform,
        Self::StepDown,
        Self::Agent,
        Self::Settings,
        Self::Twin,
        Self::Stage,
    ];

    /// What is lacking, in a few words that read after a host's name.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Paused => "paused or stopped by a person there",
            Self::Drained => "drained by an operator",
            Self::UnitNotAllowed => "a unit is not allowed there",
            Self::UnitNotLoaded => "a unit cannot be started there",
            Self::User => "a user is missing",
            Self::Room => "too little room on its disk",
            Self::Inodes => "too few free inodes on its disk",
            Self::Bytes => "the release cannot be brought there",
            Self::Drift => "the live files were changed",
            Self::Journal => "its state there cannot be read or kept",
            Self::Bus => "systemd does not answer",
            Self::Approval => "its root asks for an approval",
            Self::Root => "its root has ended",
            Self::Platform => "it has another platform",
            Self::StepDown => "it runs a newer release",
            Self::Agent => "its agent cannot take the release",
            Self::Settings => "its agent.toml cannot be read",
            Self::Twin => "two machines use its key",
            Self::Stage => "it cannot stage the release",
        }
    }
}
