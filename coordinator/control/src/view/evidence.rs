//! Whose word brought a rollout down. Kept with its record: hosts that went back say it no more.

use groundswell_common::report::FailedStep;
use groundswell_common::{HostId, HostName, name_of, one_line};
use groundswell_rollout::{HostFact, PauseCause, Phase, Rollout};
use serde::{Deserialize, Serialize};

/// Hosts of a rollout that are kept by name.
const KEPT: usize = 3;
/// Characters of what each of them said, and of what is said of it in one line.
const WORDS_MAX_CHARS: usize = 2_048;
const LINE_MAX_CHARS: usize = 240;

/// The first hosts that failed in a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    first: Vec<Against>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Against {
    host: HostId,
    name: HostName,
    why: String,
}

impl Evidence {
    /// Whether no host spoke against the release, or fell silent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// What a host said in one line, where it is one of those that are kept.
    #[must_use]
    pub fn line_of(&self, host: &HostId) -> Option<String> {
        self.of(host).map(in_a_line)
    }

    /// What a host said, where it is one of those that are kept.
    #[must_use]
    pub fn of(&self, host: &HostId) -> Option<&str> {
        self.first.iter().find(|it| it.host == *host).map(|it| it.why.as_str())
    }

    /// What a host says after its switch, on the way `forward` or back; what it takes back before that counted is
    /// forgotten.
    pub(super) fn hear(
        &mut self,
        (host, fact): (HostId, &HostFact),
        rollout: &Rollout,
        forward: bool,
    ) {
        match fact {
            // How the way back went says nothing of the release.
            HostFact::Failed { step: FailedStep::Revert, .. } | HostFact::Stuck { .. }
                if !forward => {}
            HostFact::Failed { step, why, .. } if *step != FailedStep::Stage => {
                self.add(host, &format!("{}: {why}", name_of(step)), rollout);
            }
            HostFact::Stuck { why } => self.add(host, why, rollout),
            HostFact::Committed if rollout.phase().breach().is_none() => {
                self.first.retain(|it| it.host != host);
            }
            HostFact::Failed { .. }
            | HostFact::Committed
            | HostFact::Staged
            | HostFact::SwitchStarted
            | HostFact::Passed
            | HostFact::RevertDone { .. }
            | HostFact::Ill
            | HostFact::Well
            | HostFact::Rested
            | HostFact::Held { .. }
            | HostFact::Freed
            | HostFact::Fetched { .. }
            | HostFact::Gone { .. } => {}
        }
    }

    /// That a host did not say in time that it was done.
    pub(super) fn silent(&mut self, host: HostId, rollout: &Rollout) {
        self.add(host, "it did not say in time that it was done", rollout);
    }

    fn add(&mut self, host: HostId, why: &str, rollout: &Rollout) {
        let Some((_, planned)) = rollout.planned(&host) else { return };
        let why: String = why.chars().take(WORDS_MAX_CHARS).collect();
        if let Some(known) = self.first.iter_mut().find(|it| it.host == host) {
            // Its own words say more than its silence.
            known.why = why;
        } else if self.first.len() < KEPT {
            self.first.push(Against { host, name: planned.name.clone(), why });
        }
    }

    /// A text about a rollout with the hosts behind what it says of their failures.
    #[must_use]
    pub fn beside(&self, phase: &Phase, text: &str) -> String {
        let breach = match phase {
            Phase::Paused { cause: PauseCause::Breach(breach), .. } => Some(breach),
            Phase::Paused { .. }
            | Phase::Planned
            | Phase::Running { .. }
            | Phase::Baking { .. }
            | Phase::Gated { .. }
            | Phase::Halted { .. }
            | Phase::Reverting { .. }
            | Phase::Done { .. } => phase.breach(),
        };
        let Some(breach) = breach.filter(|_| !self.is_empty()) else { return text.to_owned() };
        let named = self.first.iter().map(|it| format!("{} ({})", it.name, in_a_line(&it.why)));
        let named: Vec<String> = named.collect();
        let more =
            match usize::try_from(breach.failures).unwrap_or(KEPT).saturating_sub(named.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
        let breach = breach.to_string();
        text.replacen(&breach, &format!("{breach}: {}{more}", named.join(", ")), 1)
    }
}

fn in_a_line(why: &str) -> String {
    one_line(why).chars().take(LINE_MAX_CHARS).collect()
}
