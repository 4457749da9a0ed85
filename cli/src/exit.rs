//! Exit codes, and which failure ends with which. The one table that docs and scripts rely on.

use std::process::ExitCode;

use groundswell_common::ServiceName;

use crate::client::ClientError;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// Failed for a reason that has no code of its own.
    Failed,
    /// The command line asks for something that cannot be.
    Usage,
    /// The rollout ended halted, failed, aborted or reverted.
    Ended,
    /// The coordinator cannot be reached.
    Unreachable,
    /// The coordinator refuses this operator.
    Refused,
    /// What was waited for did not happen in time.
    TimedOut,
}

impl Exit {
    /// The names of all, as errors for programs carry them.
    pub(crate) const NAMES: [&str; 7] =
        ["done", "failed", "usage", "ended", "unreachable", "refused", "timed_out"];

    /// Its name, where an error has no code of the API.
    pub(crate) fn name(self) -> &'static str {
        let [done, failed, usage, ended, unreachable, refused, timed_out] = Self::NAMES;
        match self {
            Self::Done => done,
            Self::Failed => failed,
            Self::Usage => usage,
            Self::Ended => ended,
            Self::Unreachable => unreachable,
            Self::Refused => refused,
            Self::TimedOut => timed_out,
        }
    }

    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Ended => 3,
            Self::Unreachable => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
        }
    }

    /// The code of an error, by the first error in its chain that has one.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(error) = cause.downcast_ref::<ClientError>() {
                return error.exit();
            }
            if cause.downcast_ref::<Misuse>().is_some() {
                return Self::Usage;
            }
        }
        Self::Failed
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command line that parses and still makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// A destructive verb without a terminal to ask on.
    #[error("{0}: standard input is no terminal, so nobody can say yes; add --yes")]
    NeedsYes(String),
    /// No service on the command line nor in the release's description.
    #[error("name the service: give --service NAME, or service = \"NAME\" in groundswell.toml")]
    NoService,
    /// Another service than the release says itself.
    #[error(
        "publish: --service says {given}, the release's description {written}; a release is published under one name"
    )]
    OtherService {
        /// On the command line.
        given: ServiceName,
        /// In the description.
        written: ServiceName,
    },
    /// A tree that is not there.
    #[error("publish {0}: there is no such directory; give the one that holds what the build made")]
    NoTree(String),
    /// A word that is neither a rollout nor a service with one.
    #[error(
        "find {0:?}: no rollout has this id, and no service of this name has a rollout; see 'swell status'"
    )]
    NoRollout(String),
    /// A service with several rollouts under way.
    #[error("{0} has several rollouts under way: {1}; name one of them")]
    WhichRollout(String, String),
    /// A policy file that names no service.
    #[error("name the service: write service = \"NAME\" at the top of {0}")]
    PolicyService(String),
    /// A rollout or service that cannot be told apart.
    #[error("read {0:?}: want SERVICE@VERSION or the 64 digits of a release")]
    Release(String),
    /// A question without an answer and nobody to ask.
    #[error("write a policy: nobody answers; give {0}")]
    Unanswered(&'static str),
    /// An answer that makes no sense.
    #[error("write a policy: {flag} {given:?} does not fit: {want}")]
    Answer {
        /// The flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What to give instead.
        want: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_the_documented_one() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Ended,
            Exit::Unreachable,
            Exit::Refused,
            Exit::TimedOut,
        ]
        .map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_misuse_is_found_below_its_context() {
        let error = anyhow::Error::new(Misuse::NoService).context("publish ./dist");
        assert_eq!(Exit::of(&error), Exit::Usage);
        assert_eq!(Exit::of(&anyhow::anyhow!("anything else")), Exit::Failed);
    }
}
