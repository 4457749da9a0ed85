//! Confirm by contact: A2.12.

use super::*;
use crate::Contact;

/// A host that switched to `new` under a wish that asks for contact; its probes may take until 30 s.
fn switched() -> Service {
    let staged = service("staged", State::Staged { target: known("new") });
    let wish = Wish { confirm_by_contact: true, ..wish(5, switch("new")) };
    let asked = Service { wish: Some(wish), ..staged };
    let permit = Event::Permitted { release: id("new"), generation: 5 };
    let (switching, _) = asked.step(permit, NOW);
    let (probing, actions) = switching.step(Event::Switched { killed: false }, NOW);
    let deadline = NOW.plus_secs(30);
    assert_eq!(actions, [Action::Probe { deadline, interval_secs: 2 }]);
    probing
}

/// What each order of events leads to; times in seconds after the switch.
#[test]
fn a_release_commits_only_with_contact_since_its_switch() {
    use Event::{Contact as C, Linked as L, Passed as P};
    type Row<'a> = (&'a str, &'a [(Event, u64)], &'a str);
    let rows: &[Row<'_>] = &[
        ("nothing", &[], "probing"),
        ("contact alone proves nothing", &[(C, 1)], "probing"),
        ("passed alone waits", &[(P, 1)], "probing"),
        ("a session alone is none", &[(P, 1), (L, 2)], "probing"),
        ("passed, then contact", &[(P, 1), (C, 29)], "baking"),
        ("contact, then passed", &[(C, 1), (P, 2)], "baking"),
        ("contact twice", &[(C, 1), (C, 1), (P, 2)], "baking"),
        ("never contact", &[(P, 1), (P, 30)], "reverting"),
        ("passed at the last moment, never contact", &[(P, 30)], "reverting"),
        ("ill while it waits", &[(P, 1), (Event::Failed { why: "no".into() }, 2)], "reverting"),
        ("contact after it went back", &[(P, 30), (C, 31)], "reverting"),
        ("baked", &[(P, 1), (C, 2), (P, 12)], "committed"),
    ];
    for (name, events, want) in rows {
        let mut machine = switched();
        for (event, secs) in *events {
            machine = machine.step(event.clone(), NOW.plus_secs(*secs)).0;
        }
        assert_eq!(machine.state.name(), *want, "{name}");
    }
}

#[test]
fn without_contact_the_host_goes_back_and_says_why() {
    let (waits, actions) = switched().step(Event::Passed, NOW.plus_secs(1));
    assert!(waits.wants_contact());
    assert_eq!(actions, [Action::Watch { until: NOW.plus_secs(30), interval_secs: 2 }]);
    let (back, _) = waits.step(Event::Passed, NOW.plus_secs(30));
    let failure = back.failure.clone().unwrap();
    assert_eq!(failure.why, "no contact with the coordinator within 30 s of the switch");
    assert_eq!(failure.step, FailedStep::Probe);
    let (done, _) = back.step(Event::Restored, NOW.plus_secs(31));
    assert_eq!(done.running, Some(known("old")));
    assert!(done.failure.unwrap().reverted);
    assert!(!done.failed.is_empty(), "it is not tried again by itself");
}

#[test]
fn contact_that_comes_last_ends_the_wait_at_once() {
    let (waits, _) = switched().step(Event::Passed, NOW.plus_secs(1));
    let (bakes, actions) = waits.step(Event::Contact, NOW.plus_secs(3));
    let until = NOW.plus_secs(13);
    assert_eq!(actions, [Action::Cancel, Action::Watch { until, interval_secs: 2 }]);
    assert_eq!(bakes.contact, Contact::Seen);
}

#[test]
fn a_restart_of_the_agent_keeps_the_rule_and_what_was_seen() {
    let (waits, _) = switched().step(Event::Passed, NOW.plus_secs(1));
    let (up, actions) = waits.resume(Some(id("new")), NOW.plus_secs(2));
    let deadline = NOW.plus_secs(30);
    assert_eq!(actions, [Action::Probe { deadline, interval_secs: 2 }], "the same deadline");
    let (up, _) = up.step(Event::Passed, NOW.plus_secs(3));
    assert_eq!(up.state.name(), "probing", "it still waits");

    let (seen, _) = switched().step(Event::Contact, NOW);
    let (up, _) = seen.resume(Some(id("new")), NOW);
    assert_eq!(up.step(Event::Passed, NOW).0.state.name(), "baking");
}

#[test]
fn what_a_later_wish_says_changes_nothing_of_a_switch_under_way() {
    let hold = Event::Wish(wish(6, Desired::Hold {}));
    let (held, _) = switched().step(hold, NOW);
    assert_eq!(held.step(Event::Passed, NOW).0.state.name(), "probing");
    let plain = service("probing", state("probing"));
    let wish = Wish { confirm_by_contact: true, ..wish(6, switch("new")) };
    let (plain, _) = plain.step(Event::Wish(wish), NOW);
    assert_eq!(plain.step(Event::Passed, NOW).0.state.name(), "baking");
}
