//! What ends within 60 days or has ended, and a clock that went back, with the command that cures it: for `swell
//! status` and the log.

use groundswell_common::ends::{WARN_DAYS, ends_soon};
use groundswell_common::{OperatorName, Timestamp};

use super::desk::Desk;
use super::pages::AboutProcess;
use crate::ca::OPERATOR_DAYS;
use crate::view::Operator;

const DAY_SECS: u64 = 86_400;
/// By how much the clock must be behind the ledger before that is said.
const CLOCK_BEHIND_MILLIS: u64 = 60_000;

impl Desk {
    /// A sentence each, the clock first.
    #[must_use]
    pub fn ends(&self, about: &AboutProcess) -> Vec<String> {
        let now = self.clock.now();
        let operators = self.view().operators.iter();
        let profiles = operators.filter_map(|(name, operator)| profile(name, operator, now));
        let behind = clock_behind(self.control.ahead_millis());
        behind.into_iter().chain(own(about, now)).chain(profiles).collect()
    }
}

/// That the clock went back behind the ledger, by so much.
fn clock_behind(millis: u64) -> Option<String> {
    if millis < CLOCK_BEHIND_MILLIS {
        return None;
    }
    let minutes = millis.div_ceil(60_000);
    Some(format!(
        "the coordinator's clock is {minutes} min behind the newest entry of its ledger: it was ahead, or is behind \
         now. Times of rollouts are that much ahead, and what waits for one takes twice as long, until the clock has \
         caught up; compare it on the coordinator's machine with 'timedatectl'"
    ))
}

/// What is the coordinator's own.
fn own(about: &AboutProcess, now: Timestamp) -> Vec<String> {
    let root = ends_soon(
        &format!("root {}", about.root_version),
        Timestamp::from_secs(about.root_expires),
        now,
    );
    let root = root.map(|said| {
        let state = about.state.display();
        format!(
            "{said}; past its end no host takes a release. 'groundswell-coordinator root renew --state {state} \
             --key FILE' with the root key makes the next one; then restart the coordinator"
        )
    });
    let server = ends_soon("the coordinator's own certificate", about.server_ends, now);
    let server = server.map(|said| format!("{said}; a restart of the coordinator makes a new one"));
    [root, server].into_iter().flatten().collect()
}

/// A profile whose certificate ends. One that ended long ago is nobody's any more.
fn profile(name: &OperatorName, operator: &Operator, now: Timestamp) -> Option<String> {
    let days = u64::try_from(OPERATOR_DAYS).unwrap_or(0);
    let end = operator.since?.plus_secs(days * DAY_SECS);
    if now > end.plus_secs(WARN_DAYS * DAY_SECS) {
        return None;
    }
    let said = ends_soon(&format!("the profile of {name}"), end, now)?;
    let role = serde_json::to_value(operator.role).ok()?;
    let role = role.as_str()?;
    Some(format!("{said}; 'swell operator add {name} --role {role}' makes another"))
}

#[cfg(test)]
mod tests {
    use groundswell_common::api::OperatorRole;
    use groundswell_common::trust::SecretKey;
    use zeroize::Zeroizing;

    use super::*;

    const DAY: u64 = 86_400;

    fn at(day: u64) -> Timestamp {
        Timestamp::from_secs(day * DAY)
    }

    #[test]
    fn what_ends_is_said_with_what_cures_it() {
        let about = AboutProcess {
            fleet: "main".parse().unwrap(),
            state: "/srv/c".into(),
            started: at(0),
            root_version: 3,
            root_expires: 365 * DAY,
            server_ends: at(730),
        };
        let operator = Operator {
            role: OperatorRole::Publisher,
            key: SecretKey::from_seed(&Zeroizing::new([1; 32])).public(),
            since: Some(at(0)),
        };
        let ci: OperatorName = "ci".parse().unwrap();
        for (day, root, server, profile_of_ci) in [
            (0, None, None, None),
            (304, None, None, None),
            (305, Some("ends in 60 days"), None, Some("ends in 60 days")),
            (365, Some("ended less"), None, Some("ended less")),
            (426, Some("ended 61 days"), None, None),
            (670, Some("ended"), Some("ends in 60 days"), None),
            (731, Some("ended"), Some("ended 1 day ago"), None),
        ] {
            let said = own(&about, at(day));
            let mut said = said.iter();
            if let Some(root) = root {
                let text = said.next().unwrap();
                assert!(text.starts_with(&format!("root 3 {root}")), "{day}: {text}");
                let cure = "'groundswell-coordinator root renew --state /srv/c --key FILE'";
                assert!(text.contains(cure), "{text}");
            }
            if let Some(server) = server {
                let text = said.next().unwrap();
                assert!(text.contains(&format!("certificate {server}")), "{day}: {text}");
                assert!(text.contains("a restart of the coordinator"), "{text}");
            }
            assert_eq!(said.next(), None, "{day}");
            let text = profile(&ci, &operator, at(day));
            assert_eq!(text.is_some(), profile_of_ci.is_some(), "{day}: {text:?}");
            if let (Some(text), Some(want)) = (text, profile_of_ci) {
                assert!(text.starts_with(&format!("the profile of ci {want}")), "{text}");
                assert!(text.ends_with("'swell operator add ci --role publisher' makes another"));
            }
        }
        let before = Operator { since: None, ..operator };
        assert_eq!(profile(&ci, &before, at(364)), None, "of an older record nobody knows");
    }
}
