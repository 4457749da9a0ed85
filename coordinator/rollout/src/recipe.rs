//! From a few answers to the text of a first policy, with comments for the person who will change it.
//! Owns which numbers a fleet starts with; never looks at hosts and decides nothing.

use std::fmt::Write as _;

use groundswell_common::ServiceName;
use groundswell_common::selector::Selector;
use toml::Value;

/// Largest fleet that goes in two waves, in hosts.
pub const SMALL_HOSTS_MAX: u32 = 20;
/// Hosts for which a canary wave has one more host.
const HOSTS_PER_CANARY: u32 = 200;
/// Largest canary wave, in hosts.
const CANARY_MAX: u32 = 10;

/// What a first policy depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// The service.
    pub service: ServiceName,
    /// Which hosts run it; the empty selector stands for every host.
    pub targets: Selector,
    /// About how many hosts they are.
    pub hosts: u32,
    /// When hosts may switch.
    pub windows: Windows,
    /// Whether a person must approve the wave after the canary.
    pub approval: bool,
}

/// When hosts may switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Windows {
    /// Always.
    Always,
    /// In the evening of one zone, by its IANA name.
    One(String),
    /// Many sites: in the evening of each of these zones, one site at a time.
    Many(Vec<String>),
}

/// A policy for these answers. [`crate::Policy::from_toml`] reads it where each zone is one that
/// [`crate::calendar::zone_exists`] knows and there are at most
/// [`crate::policy::WINDOWS_MAX`] of them.
#[must_use]
pub fn policy_text(answers: &Answers) -> String {
    let mut text = String::new();
    head(&mut text, answers);
    windows(&mut text, &answers.windows);
    waves(&mut text, answers);
    text
}

// Writing to a string cannot fail, here and below.

fn head(text: &mut String, answers: &Answers) {
    let targets = match answers.targets.to_string() {
        all if all.is_empty() => "*".to_owned(),
        some => some,
    };
    let _ = write!(
        text,
        "# A first policy for about {hosts} hosts. 'swell plan' shows what it does to yours.\n\
         version = 1\n\
         service = {service}\n\
         # Which hosts run it, by their labels; \"*\" is every host.\n\
         targets = {targets}\n\n\
         # Hosts of a wave that may be switching at once: a count, or a percent of the wave.\n\
         max_in_flight = {flight}\n\
         # Failures that a wave may have; with one more the release before is put back everywhere.\n\
         failure_budget = {budget}\n\
         on_breach = \"revert-all\"\n\
         # Seconds for which a finished wave is watched before the next one opens.\n\
         bake_secs = {bake}\n\
         # true for releases that can cut a host's own network, such as firewalls: a host that does not reach the\n\
         # coordinator after its switch goes back by itself.\n\
         confirm_by_contact = false\n",
        hosts = answers.hosts,
        service = quoted(answers.service.as_str()),
        targets = quoted(&targets),
        flight = if is_small(answers) { "1" } else { "\"10%\"" },
        budget = if is_small(answers) { "0" } else { "\"2%\"" },
        bake = if is_small(answers) { 60 } else { 600 },
    );
}

fn windows(text: &mut String, windows: &Windows) {
    let zones = match windows {
        Windows::Always => return,
        Windows::One(zone) => std::slice::from_ref(zone),
        Windows::Many(zones) => {
            text.push_str(
                "\n# One site at a time, by the label \"site\". Hosts without it are not held back.\n\
                 [failure_domain]\nlabel = \"site\"\nat_once = 1\n",
            );
            zones
        }
    };
    text.push_str("\n# Hosts switch only inside a window. Each window counts for every host");
    text.push_str(match windows {
        Windows::Always | Windows::One(_) => ".\n",
        Windows::Many(_) => {
            ":\n# where a site must keep to its own, give it a service with targets of its own.\n"
        }
    });
    for zone in zones {
        let zone = quoted(zone);
        let _ = write!(
            text,
            "[[window]]\ndays = \"weekdays\"\nstart = \"22:00\"\nminutes = 240\nzone = {zone}\n"
        );
    }
}

fn waves(text: &mut String, answers: &Answers) {
    let canary = match is_small(answers) {
        true => 1,
        false => (answers.hosts / HOSTS_PER_CANARY).clamp(1, CANARY_MAX),
    };
    let _ = write!(
        text,
        "\n# The waves, in order. Each takes from the hosts that no earlier wave took.\n\
         [[wave]]\nname = \"canary\"\ncount = {canary}\n"
    );
    let gate = match answers.approval {
        true => {
            "# It waits until somebody types 'swell approve'. With four_eyes = true whoever published\n\
             # the release does not count.\n\
             gate = \"approval\"\napprovals = 1\nfour_eyes = false\n"
        }
        false => "",
    };
    let rest = "\n[[wave]]\nname = \"rest\"\nrest = true\n";
    if is_small(answers) {
        let _ = write!(text, "{rest}{gate}");
    } else {
        let _ = write!(
            text,
            "\n[[wave]]\nname = \"tenth\"\npercent = 10\n{gate}\
             \n[[wave]]\nname = \"half\"\npercent = 50\n{rest}"
        );
    }
}

fn is_small(answers: &Answers) -> bool {
    answers.hosts <= SMALL_HOSTS_MAX
}

/// A TOML string with everything escaped that needs it.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}
