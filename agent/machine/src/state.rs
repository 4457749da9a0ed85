//! What a service on a host is and remembers: the part that the journal keeps. Decides nothing.

use groundswell_common::condition::{Held, Lack};
use groundswell_common::directive::Action as Desired;
use groundswell_common::report::{FailedStep, Failure, HostState, Standing, SwitchTimes, Verdict};
use groundswell_common::{ReleaseId, RolloutId, ServiceName, Timestamp, Version};
use serde::{Deserialize, Serialize};

use super::contact::Contact;
use super::hand::BY_HAND;

/// Times that the agent may start again inside one state before it gives that state up.
pub(crate) const RESUMES_MAX: u32 = 8;
/// Failed releases that are remembered; the oldest is forgotten first.
pub(crate) const FAILED_MAX: usize = 16;
/// What is said of a service that is stuck for a reason that is not kept, and the characters of one that is.
const STUCK: &str = "its journal is not what is live";
const STUCK_MAX_CHARS: usize = 200;

/// What is remembered of a release that was verified on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Which release.
    pub id: ReleaseId,
    /// Its version, for people.
    pub version: Version,
    /// Its place among the releases of the service.
    pub seq: u64,
    /// The floor that holds once it is committed.
    pub floor: u64,
    /// Whether it cannot be left again once it ran.
    pub one_way: bool,
}

/// The newest wish for this service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The generation of the directive that carried it.
    pub generation: u64,
    /// What to do.
    pub action: Desired,
    /// Seconds from the switch to passing probes.
    pub probe_deadline_secs: u64,
    /// Seconds that the probes must keep passing.
    pub bake_secs: u64,
    /// Seconds between two tries of a probe.
    pub probe_interval_secs: u64,
    /// Whether the coordinator must have been reached since the switch before the release commits.
    #[serde(default)]
    pub confirm_by_contact: bool,
    /// The rollout behind it.
    pub rollout: Option<RolloutId>,
}

impl Wish {
    /// The release that it asks for, if it asks for one to be brought here.
    pub fn names(&self) -> Option<ReleaseId> {
        match &self.action {
            Desired::Stage { release } | Desired::Switch { release } => Some(*release),
            Desired::Hold {} | Desired::Revert { .. } | Desired::Remove {} => None,
        }
    }

    /// What takes its place once a directive with a newer `generation` says nothing of the service: it stays as it
    /// is. `None` where that is so already.
    #[must_use]
    pub fn withdrawn(&self, generation: u64) -> Option<Self> {
        let hold = Desired::Hold {};
        let over = self.generation < generation && self.action != hold;
        over.then(|| Self { generation, action: hold, rollout: None, ..self.clone() })
    }
}

/// Where the machine stands. What is needed to go on after a restart is inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case", deny_unknown_fields)]
pub enum State {
    /// Nothing live, nothing to do.
    Idle {},
    /// Bringing `target` to this host's disk.
    Fetching {
        /// Which release.
        target: ReleaseId,
        /// What the host lacked at the last try; it is tried again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<Held>,
    },
    /// `target` is on disk, complete and verified; not live.
    Staged {
        /// Which release.
        target: Known,
    },
    /// A permit was given: the live link is being replaced, the service restarted.
    Switching {
        /// Which release.
        target: Known,
        /// Since the link is known to be replaced: when what starts must have started.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline: Option<Timestamp>,
    },
    /// `target` is live and must pass its probes before `deadline`.
    Probing {
        /// Which release.
        target: Known,
        /// When its probes must have passed.
        deadline: Timestamp,
    },
    /// `target` passes its probes and is watched until `until`.
    Baking {
        /// Which release.
        target: Known,
        /// How long.
        until: Timestamp,
    },
    /// What runs has proved itself.
    Committed {},
    /// Going from `from` to `to`, or to nothing.
    Reverting {
        /// What is left.
        from: Known,
        /// What becomes live again; `None` for nothing.
        to: Option<Known>,
        /// Why.
        cause: Cause,
    },
    /// Only a person, or for [`StuckCause::Revert`] another release, can help.
    Stuck {
        /// Why.
        cause: StuckCause,
        /// The generation of the directive.
        generation: u64,
    },
}

impl State {
    /// What the report says of it.
    pub fn seen(&self) -> HostState {
        match self {
            Self::Idle {} => HostState::Idle,
            Self::Fetching { .. } => HostState::Fetching,
            Self::Staged { .. } => HostState::Staged,
            Self::Switching { .. } => HostState::Switching,
            Self::Probing { .. } => HostState::Probing,
            Self::Baking { .. } => HostState::Baking,
            Self::Committed {} => HostState::Committed,
            Self::Reverting { .. } => HostState::Reverting,
            Self::Stuck { .. } => HostState::Stuck,
        }
    }

    /// Its name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle {} => "idle",
            Self::Fetching { .. } => "fetching",
            Self::Staged { .. } => "staged",
            Self::Switching { .. } => "switching",
            Self::Probing { .. } => "probing",
            Self::Baking { .. } => "baking",
            Self::Committed {} => "committed",
            Self::Reverting { .. } => "reverting",
            Self::Stuck { .. } => "stuck",
        }
    }
}

/// Why a service goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Cause {
    /// The release failed here.
    Failed {
        /// At which step.
        step: FailedStep,
        /// What happened, at most 4 KiB.
        why: String,
    },
    /// The directive says so.
    Told {},
}

impl Cause {
    /// Whether what is left may well work: somebody wants it gone, and it has not failed by itself.
    pub fn is_asked_for(&self) -> bool {
        match self {
            Self::Told {} => true,
            Self::Failed { why, .. } => why.starts_with(BY_HAND),
        }
    }
}

/// Why a service is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StuckCause {
    /// The journal cannot be read.
    Journal,
    /// The live link is not what the journal says.
    Tree,
    /// Going back failed, or was not possible.
    Revert,
    /// The agent restarted too often while going back.
    Loop,
}

/// A release that failed on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// Which.
    pub release: ReleaseId,
    /// The newest generation that asked for it.
    pub generation: u64,
    /// Whether a newer directive has stopped asking for it since.
    pub released: bool,
    /// The rollout that asked for it.
    #[serde(default)]
    pub rollout: Option<RolloutId>,
}

/// One service on this host: all that the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Where the machine stands.
    pub state: State,
    /// What is live.
    pub running: Option<Known>,
    /// What was live before it and proved itself; still on disk.
    pub previous: Option<Known>,
    /// No release below this `seq` is ever accepted again.
    pub floor: u64,
    /// The newest wish.
    pub wish: Option<Wish>,
    /// Releases that failed here and are not tried again by themselves.
    pub failed: Vec<Failed>,
    /// The newest failure, for the report; gone when a release commits.
    pub failure: Option<Failure>,
    /// When the newest switch began, and when its probes passed.
    pub switched: Option<SwitchTimes>,
    /// The rollout under which it began.
    #[serde(default)]
    pub switched_for: Option<RolloutId>,
    /// Whether the coordinator was reached since then.
    #[serde(default)]
    pub contact: Contact,
    /// Why a person on the host has paused it; no switch begins meanwhile.
    #[serde(default)]
    pub paused: Option<String>,
    /// What the probes say of what is live.
    pub health: Verdict,
    /// A unit of what is live that somebody stopped on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// What runs since going back failed, until it has passed its probes again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<ReleaseId>,
    /// The release before, where its files were found changed: it is brought here anew before it goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged: Option<ReleaseId>,
    /// Switches in a row that were given up before the live link was touched, since their permits ran out first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late: u32,
    /// Restarts of the agent inside the present state.
    pub resumes: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Default for Service {
    fn default() -> Self {
        Self::new()
    }
}

impl Service {
    /// A service that this host has never heard of.
    pub fn new() -> Self {
        Self {
            state: State::Idle {},
            running: None,
            previous: None,
            floor: 0,
            wish: None,
            failed: Vec::new(),
            failure: None,
            switched: None,
            switched_for: None,
            contact: Contact::default(),
            paused: None,
            health: Verdict::Inconclusive,
            stopped: None,
            unproven: None,
            damaged: None,
            late: 0,
            resumes: 0,
        }
    }

    /// Takes a live release as committed, and the one before it as what a revert puts back: for a
    /// person who has looked at the host.
    pub fn adopt(&mut self, live: Known, previous: Option<Known>) {
        self.floor = live.floor;
        self.previous = previous.filter(|previous| previous.id != live.id);
        self.running = Some(live);
        self.state = State::Committed {};
    }

    /// The host was enrolled anew: generations count anew, and so does what failed here. What runs stays.
    pub fn enrolled_anew(&mut self) {
        self.wish = None;
        self.failed.clear();
        if let State::Stuck { generation, .. } = &mut self.state {
            *generation = 0;
        }
        // What was being brought was wished for by the enrolment before.
        if let State::Fetching { .. } | State::Staged { .. } = &self.state {
            self.state = self.rest();
        }
    }

    /// Whether the service is to be taken off this host.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.wish.as_ref().is_some_and(|wish| wish.action == Desired::Remove {})
    }

    /// The rollout behind the newest wish.
    pub(crate) fn wished_for(&self) -> Option<RolloutId> {
        self.wish.as_ref().and_then(|wish| wish.rollout.clone())
    }

    /// Asks for a start and probes of what runs at the next start of the agent: a person has looked, and knows no
    /// better than that it should run.
    pub fn suspect(&mut self) {
        if let Some(target) = self.running.clone() {
            self.unproven = Some(target.id);
            // A time that is over begins anew at the start.
            self.state = State::Probing { target, deadline: Timestamp::from_millis(0) };
        }
    }

    /// The state that is returned to when there is nothing to do. What could not be put back and was not seen to
    /// run since is not at rest.
    pub(crate) fn rest(&self) -> State {
        let running = self.running.as_ref().map(|known| known.id);
        let generation = self.wish.as_ref().map_or(0, |wish| wish.generation);
        match running {
            None => State::Idle {},
            Some(_) if running == self.unproven => {
                State::Stuck { cause: StuckCause::Revert, generation }
            }
            Some(_) => State::Committed {},
        }
    }

    /// Enters a state afresh.
    pub(crate) fn enter(&mut self, state: State) {
        self.state = state;
        self.resumes = 0;
    }

    /// The release that the machine is working on.
    pub fn target(&self) -> Option<ReleaseId> {
        match &self.state {
            State::Fetching { target, .. } => Some(*target),
            State::Staged { target }
            | State::Switching { target, .. }
            | State::Probing { target, .. }
            | State::Baking { target, .. } => Some(target.id),
            State::Reverting { to, .. } => to.as_ref().map(|to| to.id),
            State::Idle {} | State::Committed {} | State::Stuck { .. } => None,
        }
    }

    /// The newest failure, or that of the wished release, which is not tried again though nobody knows why any more.
    fn told_failure(&self) -> Option<Failure> {
        // What cannot be read is the host's own trouble, told as what holds it; it says nothing about a release.
        if self.is_unreadable() {
            return None;
        }
        let wished = self.wish.as_ref().and_then(Wish::names).filter(|release| {
            self.refuses(release) && self.running.as_ref().map(|known| known.id) != Some(*release)
        });
        let known = self.failure.as_ref().map(|failure| failure.release);
        // Why it is stuck is what a person must know.
        let wished = wished.filter(|_| self.state.seen() != HostState::Stuck);
        match wished.filter(|release| known != Some(*release)) {
            Some(release) => {
                let why = "it failed here before, and the reason is not kept any more".to_owned();
                Some(Failure { release, step: FailedStep::Stage, why, reverted: true })
            }
            None => self.failure.clone(),
        }
    }

    /// Whether it is stuck on its journal or its live link.
    pub fn is_unreadable(&self) -> bool {
        matches!(self.state, State::Stuck { cause: StuckCause::Journal | StuckCause::Tree, .. })
    }

    /// Why the wished release is not taken now, though nothing speaks against it.
    pub fn held(&self) -> Option<Held> {
        match (&self.state, &self.wish) {
            (State::Fetching { held, .. }, _) => held.clone(),
            (
                State::Stuck { cause: StuckCause::Journal | StuckCause::Tree, .. },
                Some(Wish {
                    action: Desired::Stage { release } | Desired::Switch { release }, ..
                }),
            ) => {
                let why = self.failure.as_ref().map_or(STUCK, |failure| failure.why.as_str());
                let why: String = why.chars().take(STUCK_MAX_CHARS).collect();
                let next = "see that what is live is what should run, stop the agent, run 'groundswell-agent unstick' \
                            and start it";
                let (release, lack) = (*release, Lack::Journal);
                Some(Held { release, lack, why: format!("it is stuck: {why}; {next}") })
            }
            (State::Probing { target, .. } | State::Baking { target, .. }, _) => {
                let (release, lack) = (target.id, Lack::Paused);
                let why = |unit: &String| {
                    format!(
                        "{unit} was stopped on this host before {} had passed; 'systemctl start {unit}' lets it go on",
                        target.version
                    )
                };
                self.stopped.as_ref().map(|unit| Held { release, lack, why: why(unit) })
            }
            // Also while it is not its turn: a host that is held is told to stage, and lacks the same then.
            (
                State::Staged { target },
                Some(Wish { action: Desired::Stage { .. } | Desired::Switch { .. }, .. }),
            ) => {
                let why = |reason| {
                    format!(
                        "a person has paused it: {reason}; 'groundswell-agent why' there says what ends that"
                    )
                };
                let (release, lack) = (target.id, Lack::Paused);
                self.paused.as_ref().map(|reason| Held { release, lack, why: why(reason) })
            }
            (
                State::Idle {}
                | State::Staged { .. }
                | State::Switching { .. }
                | State::Committed {}
                | State::Reverting { .. }
                | State::Stuck { .. },
                _,
            ) => None,
        }
    }

    /// Releases that must stay on disk.
    pub fn kept(&self) -> Vec<ReleaseId> {
        let known = [&self.running, &self.previous].into_iter().flatten().map(|known| known.id);
        let from = match &self.state {
            State::Reverting { from, .. } => Some(from.id),
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Stuck { .. } => None,
        };
        known.chain(self.target()).chain(from).collect()
    }

    /// What the report says of this service.
    pub fn standing(&self, service: &ServiceName) -> Standing {
        Standing {
            service: service.clone(),
            state: self.state.seen(),
            running: self.running.as_ref().map(|known| known.id),
            previous: self.previous.as_ref().map(|known| known.id),
            target: self.target(),
            rollout: self.wished_for(),
            health: self.health,
            failure: self.told_failure(),
            switched: self.switched,
        }
    }
}
