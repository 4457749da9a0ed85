//! Why a request is refused: for people, with what to do next, and for programs, with a stable code.

use groundswell_common::{Digest, Environment, HostId, HostName, RolloutId, ServiceName, Version};
use groundswell_rollout::{PlanError, PolicyError, Refusal};

use crate::view::Unfit;

/// What kind of refusal it is; the API turns it into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// Not by this person or host.
    Forbidden,
    /// There is no such thing.
    Missing,
    /// It does not fit what is there.
    Conflict,
    /// Not now.
    Unavailable,
}

/// A refused request; nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A host that nobody enrolled.
    #[error("no host is called {0}")]
    UnknownHost(HostName),
    /// A service without policy and release.
    #[error("no service is called {0}")]
    UnknownService(ServiceName),
    /// A release that is not published.
    #[error("no release {0:?} is published")]
    UnknownRelease(String),
    /// A rollout that was never planned.
    #[error("no rollout is called {0}")]
    UnknownRollout(RolloutId),
    /// A service whose newest rollout does not exist.
    #[error("service {0} has no rollout")]
    NoRollout(ServiceName),
    /// A host name in use.
    #[error("host name {0} is taken by another key")]
    NameTaken(HostName),
    /// A token that cannot be used.
    #[error("the enrolment token is not known, used by another host, or expired")]
    Token,
    /// A host that is drained, or is not, already.
    #[error("host {host} is {} already", if *drained { "drained" } else { "not drained" })]
    Drained {
        /// Its name.
        host: HostName,
        /// Whether it is drained.
        drained: bool,
    },
    /// A key that is not that of any host.
    #[error("this host is not enrolled any more")]
    NotEnrolled,
    /// A `seq` that is not above all before it.
    #[error("seq {got} is taken: the next release of the service is seq {next}")]
    SeqTaken {
        /// What came.
        got: u64,
        /// What is free.
        next: u64,
    },
    /// A version that names other content.
    #[error("version {version} of {service} exists with other content")]
    VersionTaken {
        /// The service.
        service: ServiceName,
        /// The version.
        version: Version,
    },
    /// A way back to nothing that nobody said may be one.
    #[error(
        "nothing of {service} was proven before {from}: to revert it would stop {service} on every host \
         that runs it ({hosts})"
    )]
    Stops {
        /// The service.
        service: ServiceName,
        /// What its hosts run.
        from: Version,
        /// On how many of them it would stop.
        hosts: u64,
    },
    /// A service without a policy.
    #[error("service {0} has no policy")]
    NoPolicy(ServiceName),
    /// A policy that cannot be read.
    #[error("{}: {}", .0, .0.hint())]
    Policy(#[source] PolicyError),
    /// A policy put under another name than its own.
    #[error("the policy is for service {0}")]
    PolicyService(ServiceName),
    /// A plan that cannot be made.
    #[error("{0}")]
    Plan(#[source] PlanError),
    /// A service with several environments, of which none is named.
    #[error("{service} has the environments {names}; name one with --environment")]
    WhichEnvironment {
        /// The service.
        service: ServiceName,
        /// Their names.
        names: String,
    },
    /// A service with several rollouts under way, of which none is named.
    #[error("{service} has several rollouts under way: {names}; name one of them")]
    WhichRollout {
        /// The service.
        service: ServiceName,
        /// Their names.
        names: String,
    },
    /// An environment that the policy does not name.
    #[error("the policy of {service} has no environment {environment}; it has {names}")]
    UnknownEnvironment {
        /// The service.
        service: ServiceName,
        /// What was asked for.
        environment: Environment,
        /// What it has.
        names: String,
    },
    /// An environment without hosts.
    #[error("{0}")]
    NoHostIn(String),
    /// A release that has not gone through the environment before.
    #[error(
        "{version} does not start in {environment} yet: {why}; wait, or start it with --skip --why ..."
    )]
    NotPromoted {
        /// Its version.
        version: Version,
        /// Where it was to start.
        environment: Environment,
        /// Why it does not.
        why: String,
    },
    /// A service without a release.
    #[error("service {0} has no release")]
    NoRelease(ServiceName),
    /// A poisoned release.
    #[error(
        "{service} {version} is poisoned: {why}; 'swell release clear {service}@{version} --why ...' lets it be \
         rolled out again"
    )]
    Poisoned {
        /// The service.
        service: ServiceName,
        /// Its version.
        version: Version,
        /// Why.
        why: String,
    },
    /// A release that nobody holds back.
    #[error("nobody holds {service} {version} back")]
    NotHeld {
        /// The service.
        service: ServiceName,
        /// Its version.
        version: Version,
    },
    /// A release that is not poisoned.
    #[error("{0} {1} is not poisoned")]
    NotPoisoned(ServiceName, Version),
    /// A release below the one rolled out last.
    #[error(
        "{version} is older than {newest}, which was completed last; 'swell revert {service} --to {version}' goes \
         back to it"
    )]
    GoesDown {
        /// The service.
        service: ServiceName,
        /// Its version.
        version: Version,
        /// What was completed last.
        newest: Version,
    },
    /// Hosts, labels or the policy have changed since the plan was shown.
    #[error("plan {shown} was shown, and today's is {now}")]
    OtherPlan {
        /// What was asked for.
        shown: String,
        /// The hash of the plan that would run now.
        now: Digest,
    },
    /// A rollout under way, where another release than the one before it is asked for.
    #[error("rollout {0} is under way: its hosts go back to what they ran before it")]
    UnderWay(RolloutId),
    /// A service of which no release is proven.
    #[error("no release of {0} was completed, so there is nothing to go back from")]
    NothingToLeave(ServiceName),
    /// A policy that no longer reaches hosts which run the service.
    #[error("{0}; they keep what they run and get nothing of {1} any more")]
    LeavesHosts(String, ServiceName),
    /// A service that no host runs.
    #[error("no host runs anything of {0}, so there is nothing to take off")]
    NothingRuns(ServiceName),
    /// A service that stays on every host that runs it, for now.
    #[error("it stays on every host that runs it; on {host}, since {why}")]
    AllHeld {
        /// The first of them.
        host: HostName,
        /// Why, and the next step.
        why: String,
    },
    /// A ledger that no host is ahead of.
    #[error(
        "no host has accepted a newer directive than the ledger holds, so there is nothing to lift"
    )]
    NothingToLift,
    /// A release that is nothing to go back to.
    #[error("{version} is nothing to go back to: {why}")]
    NoTarget {
        /// Its version.
        version: Version,
        /// Why not.
        why: &'static str,
    },
    /// A rollout that goes back stands in the way.
    #[error("rollout {0} is on its way back or paused")]
    Busy(RolloutId),
    /// A rollout that is not the newest of its service.
    #[error("rollout {rollout} is not the newest of its service: {newest} is")]
    NotNewest {
        /// What was asked for.
        rollout: RolloutId,
        /// What is newest.
        newest: RolloutId,
    },
    /// The rollout says no.
    #[error("{0}")]
    Step(#[source] Refusal),
    /// A rollout that is over.
    #[error("rollout {rollout} of {service} {version} is over, {outcome}; {next}")]
    Over {
        /// Which.
        rollout: RolloutId,
        /// Of which service.
        service: ServiceName,
        /// Of which version.
        version: Version,
        /// How it ended.
        outcome: String,
        /// What a person does then.
        next: String,
    },
    /// The rollout says no about one host, which people know by its name.
    #[error("{}", with_name(.host, .refusal))]
    StepOn {
        /// The host's name.
        host: HostName,
        /// What the rollout says, naming the host by its id.
        refusal: Refusal,
    },
    /// An approval that does not fit.
    #[error("the approval does not fit: {0}")]
    Approval(&'static str),
    /// A number out of its bounds.
    #[error("{key} must be {want}")]
    Bounds {
        /// Which.
        key: &'static str,
        /// What it may be.
        want: &'static str,
    },
    /// An entry too large for the ledger.
    #[error("the ledger's entry would be {0} bytes, at most 16777216")]
    EntryTooLarge(usize),
    /// The view refuses the entry.
    #[error("{0}")]
    Unfit(#[source] Unfit),
    /// A value without a JSON form.
    #[error("write the entry")]
    Json(#[source] serde_json::Error),
    /// No random bytes from the system.
    #[error("no random bytes from the system")]
    Random(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The host that a refusal is about.
pub(crate) fn host_of(refusal: &Refusal) -> Option<&HostId> {
    if let Refusal::UnknownHost(host) | Refusal::HostRuns(host) | Refusal::NotRetryable(host) =
        refusal
    {
        Some(host)
    } else {
        None
    }
}

fn with_name(name: &HostName, refusal: &Refusal) -> String {
    let text = refusal.to_string();
    host_of(refusal).map_or(text.clone(), |id| text.replace(&id.to_string(), name.as_str()))
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Step { source, .. } => Self::Step(source),
            Unfit::Token => Self::Token,
            Unfit::Policy(source) => Self::Policy(source),
            Unfit::UnknownRollout(rollout) => Self::UnknownRollout(rollout),
            Unfit::UnknownRelease(release) => Self::UnknownRelease(release.to_string()),
            Unfit::Order { .. } | Unfit::UnknownHost(_) => Self::Unfit(unfit),
        }
    }
}

impl Refused {
    /// The kind, a stable code, and what to do next.
    #[must_use]
    pub fn describe(&self) -> (ErrorKind, &'static str, &'static str) {
        use ErrorKind::{Conflict, Forbidden, Invalid, Missing, Unavailable};
        match self {
            Self::UnknownHost(_) => (Missing, "unknown_host", "see 'swell host ls'"),
            Self::UnknownService(_) => (Missing, "unknown_service", "see 'swell service ls'"),
            Self::UnknownRelease(_) => {
                (Missing, "unknown_release", "give a release id or SERVICE@VERSION as published")
            }
            Self::UnknownRollout(_) => (Missing, "unknown_rollout", "see 'swell rollout ls'"),
            Self::NoRollout(_) => {
                (Missing, "no_rollout", "publish a release, or start one by hand")
            }
            Self::NameTaken(_) => {
                (Conflict, "name_taken", "choose another name, or remove the old host first")
            }
            Self::Token => (Forbidden, "token", "ask for a new token"),
            Self::Drained { .. } => (Conflict, "drained", "see 'swell host show'"),
            Self::NotEnrolled => (Forbidden, "not_enrolled", "enrol the host again"),
            Self::SeqTaken { .. } => (Conflict, "seq_taken", "take the service's next_seq"),
            Self::VersionTaken { .. } => {
                (Conflict, "version_taken", "publish changed content under a new version")
            }
            Self::Stops { .. } => {
                (Conflict, "stops", "publish a corrected release; --stop where it should stop")
            }
            Self::NoPolicy(_) => (Conflict, "no_policy", "apply a policy first"),
            Self::Policy(_) => (Invalid, "policy", "correct the line named; see docs/policy.md"),
            Self::PolicyService(_) => {
                (Invalid, "policy_service", "put it under the service that it names")
            }
            Self::Plan(PlanError::NoRoom { .. }) => {
                (Conflict, "plan", "mend that line and 'swell service apply' the policy again")
            }
            Self::Plan(_) => (Conflict, "plan", "compare the policy's targets with the hosts"),
            Self::WhichEnvironment { .. } => {
                (Invalid, "which_environment", "name one with --environment")
            }
            Self::WhichRollout { .. } => (Conflict, "which_rollout", "name one of them"),
            Self::UnknownEnvironment { .. } => {
                (Missing, "unknown_environment", "'swell service show' prints the policy")
            }
            Self::NoHostIn(_) => (Conflict, "no_host_in", "compare it with 'swell host ls'"),
            Self::NotPromoted { .. } => {
                (Conflict, "not_promoted", "wait, or skip the environments before with a reason")
            }
            Self::NoRelease(_) => (Conflict, "no_release", "publish a release first"),
            Self::Poisoned { .. } => {
                (Conflict, "poisoned", "publish a fixed release, or clear this one with a reason")
            }
            Self::NotHeld { .. } => (Conflict, "not_held", "'swell status' says what waits"),
            Self::NotPoisoned(..) => (Conflict, "not_poisoned", "nothing needs to be done"),
            Self::GoesDown { .. } => {
                (Conflict, "goes_down", "revert the newest rollout, or publish the content anew")
            }
            Self::OtherPlan { .. } => {
                (Conflict, "other_plan", "look at 'swell plan' again and start what it shows now")
            }
            Self::UnderWay(_) => {
                (Conflict, "under_way", "revert without --to first, then go on from there")
            }
            Self::NothingToLeave(_) => (Conflict, "nothing_to_leave", "see 'swell release ls'"),
            Self::LeavesHosts(..) => (
                Conflict,
                "leaves_hosts",
                "add --yes to leave them so, or name their environments and labels in the policy",
            ),
            Self::NothingRuns(_) => (Conflict, "nothing_runs", "see 'swell host ls'"),
            Self::AllHeld { .. } => (Conflict, "all_held", "do that first, then ask again"),
            Self::NothingToLift => (Conflict, "nothing_to_lift", "nothing needs to be done"),
            Self::NoTarget { .. } => {
                (Conflict, "no_target", "'swell release ls' shows what is proven")
            }
            Self::Busy(_) => (Conflict, "busy", "resume, abort or wait for that rollout first"),
            Self::NotNewest { .. } => (Conflict, "not_newest", "act on the newest rollout"),
            Self::Step(Refusal::FourEyes(_)) => {
                (Forbidden, "four_eyes", "ask somebody who did not publish the release")
            }
            Self::Step(Refusal::UnknownHost(_))
            | Self::StepOn { refusal: Refusal::UnknownHost(_), .. } => {
                (Missing, "not_planned", "'swell show' of it lists the hosts of its plan")
            }
            Self::StepOn { .. } | Self::Step(_) | Self::Over { .. } => {
                (Conflict, "step", "'swell show' of it says where it stands")
            }
            Self::Approval(_) => (Invalid, "approval", "sign what the rollout page asks for"),
            Self::Bounds { .. } => (Invalid, "bounds", "give a value within the bounds"),
            Self::EntryTooLarge(_) => (Invalid, "too_large", "plan fewer hosts at once"),
            Self::Unfit(_) | Self::Json(_) => (Unavailable, "internal", "report this as a defect"),
            Self::Random(_) => (Unavailable, "random", "look at the coordinator's machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_a_policy_is_said_once() {
        let text = "service = \"web\"\ntargets = \"*\"\nmax_in_flight = \"many\"\n\
                    [[wave]]\nname = \"all\"\nrest = true\n";
        let fault = groundswell_rollout::Policy::from_toml(text).unwrap_err();
        let text = Refused::Policy(fault).to_string();
        let want = "read the policy, line 3: max_in_flight must be a count such as 4 or a percent such as \"25%\" \
                    (0% to 100%)";
        assert_eq!(text, want);
    }

    #[test]
    fn a_refusal_about_a_host_names_it_as_people_do() {
        let id = HostId::of_key(&[7; 32]);
        let told = |refusal| Refused::StepOn { host: "web-3".parse().unwrap(), refusal };
        for refusal in [Refusal::UnknownHost(id), Refusal::HostRuns(id), Refusal::NotRetryable(id)]
        {
            let text = told(refusal).to_string();
            assert!(text.starts_with("host web-3 ") && !text.contains(&id.to_string()), "{text}");
        }
        let (kind, code, _) = told(Refusal::UnknownHost(id)).describe();
        assert_eq!((kind, code), (ErrorKind::Missing, "not_planned"));
    }
}
