//! Whether a typed policy speaks of the fleet that is there: labels that no host has are mostly mistyped,
//! and a wave that nobody is in is passed over with its gate.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::Labels;
use groundswell_common::selector::nearest;
use groundswell_rollout::{Policy, Take};

/// Values that are named where none is near.
const VALUES_SHOWN: usize = 5;

/// What the policy asks for and no host has, a sentence each.
pub(crate) fn strangers<'a>(
    policy: &Policy,
    hosts: impl IntoIterator<Item = &'a Labels>,
) -> Vec<String> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for labels in hosts {
        for (key, value) in labels.iter() {
            known.entry(key.as_str().to_owned()).or_default().insert(value.as_str().to_owned());
        }
    }
    let mut said = Vec::new();
    for (whose, selector) in selectors(policy) {
        for (key, values) in selector.wanted() {
            let Some(there) = known.get(key) else {
                let near = nearest(key, known.keys().map(String::as_str));
                let near = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                said.push(format!("{whose}: no host has a label {key}{near}"));
                continue;
            };
            let none = !values.iter().any(|value| there.contains(*value));
            for value in values.into_iter().filter(|value| !there.contains(*value)) {
                let hint = match nearest(value, there.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean {key}={near}?"),
                    // One of many values may be of hosts that are still to come.
                    None if !none => continue,
                    None => {
                        let some: Vec<&str> =
                            there.iter().take(VALUES_SHOWN).map(String::as_str).collect();
                        format!("hosts have {}", some.join(", "))
                    }
                };
                said.push(format!("{whose}: no host has {key}={value}; {hint}"));
            }
        }
    }
    said
}

/// The policy's selectors that choose hosts, with the place that each stands at.
fn selectors(policy: &Policy) -> Vec<(String, &groundswell_common::selector::Selector)> {
    let mut found = vec![("targets".to_owned(), &policy.targets)];
    for wave in &policy.waves {
        match &wave.take {
            Take::Selector(selector) => found.push((format!("wave {}", wave.name), selector)),
            Take::Count(_) | Take::Percent(_) | Take::Rest => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(policy: &str) -> Vec<String> {
        let policy = Policy::from_toml(policy).expect("policy");
        let labels = ["role=web,canary=yes", "role=web,canary=no,region=eu", "role=db"];
        let labels: Vec<Labels> =
            labels.iter().map(|labels| labels.parse().expect("labels")).collect();
        strangers(&policy, &labels)
    }

    fn with_canary(selector: &str) -> String {
        format!(
            "service = \"shop\"\ntargets = \"role=web\"\n[[wave]]\nname = \"canary\"\n\
             selector = \"{selector}\"\n[[wave]]\nrest = true\n"
        )
    }

    #[test]
    fn a_label_that_no_host_has_is_named_with_what_was_meant() {
        assert_eq!(said(&with_canary("canary=yes")), [""; 0]);
        let yes = "wave canary: no host has canary=yse; did you mean canary=yes?";
        assert_eq!(said(&with_canary("canary=yse")), [yes]);
        let far = "wave canary: no host has region=asia; hosts have eu";
        assert_eq!(said(&with_canary("region=asia")), [far]);
        let key = "wave canary: no host has a label canray; did you mean canary?";
        assert_eq!(said(&with_canary("canray=yes")), [key]);
        assert_eq!(said(&with_canary("stage")), ["wave canary: no host has a label stage"]);
        assert_eq!(said(&with_canary("region in (eu, us)")), [""; 0], "hosts may be to come");
        let one = said(&with_canary("canary in (yes, noo)"));
        assert_eq!(one, ["wave canary: no host has canary=noo; did you mean canary=no?"]);
        let targets = "service = \"shop\"\ntargets = \"rol=web\"\n[[wave]]\nrest = true\n";
        assert_eq!(said(targets), ["targets: no host has a label rol; did you mean role?"]);
        assert_eq!(said(&with_canary("canary!=maybe")), [""; 0], "what must not be may be unknown");
    }
}
