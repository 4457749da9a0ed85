//! A service that is taken off the host: nothing is live then, whatever ran before what runs.

use super::*;

fn remove(generation: u64) -> Event {
    Event::Wish(wish(generation, Desired::Remove {}))
}

/// Takes the way to its end; what is left.
fn to_the_end(service: Service) -> (Service, Vec<Action>) {
    if let State::Reverting { to, .. } = &service.state {
        assert_eq!(*to, None, "whatever ran before stays off");
        return service.step(Event::Restored, NOW);
    }
    (service, Vec::new())
}

#[test]
fn from_every_state_it_ends_with_nothing_live_and_nothing_kept() {
    for (name, state) in states() {
        let before = service(name, state);
        let (mut after, actions) = before.step(remove(6), NOW);
        match name {
            "switching" => {
                assert_eq!(actions, [Action::Interrupt]);
                // The link may be replaced already, or not.
                for live in ["new", "old"] {
                    let live = Some(id(live));
                    let (stopped, _) = after.clone().step(Event::Interrupted { live }, NOW);
                    let (off, _) = to_the_end(stopped);
                    assert_eq!((off.state.name(), off.running), ("idle", None));
                }
                continue;
            }
            // What was begun goes to its end, and then on.
            "reverting" => {
                assert_eq!(actions, []);
                after = after.step(Event::Restored, NOW).0;
            }
            "idle" => assert_eq!(actions, []),
            _ => {
                let restores =
                    matches!(actions[..], [Action::Cancel, Action::Restore { to: None, .. }]);
                assert!(restores, "{name}: {actions:?}");
            }
        }
        let (off, actions) = to_the_end(after);
        assert_eq!(
            (off.state.name(), &off.running, &off.previous),
            ("idle", &None, &None),
            "{name}"
        );
        assert_eq!(off.kept(), [], "{name}");
        assert!(name == "idle" || actions.contains(&Action::Prune), "{name}: {actions:?}");
        // Said again it is no news, and a release may come again.
        let (same, actions) = off.clone().step(remove(7), NOW);
        assert_eq!((same.state, actions), (State::Idle {}, vec![]), "{name}");
        let (again, _) = off.step(Event::Wish(wish(8, switch("next"))), NOW);
        assert_eq!(again.state.name(), "fetching", "{name}");
    }
}

#[test]
fn neither_one_way_nor_the_floor_nor_what_failed_keeps_it() {
    let plain = service("committed", State::Committed {});
    let one_way = Known { one_way: true, ..known("old") };
    let (release, rollout) = (id("old"), None);
    let failed = Failed { release, generation: 1, released: false, rollout };
    for before in [
        Service { running: Some(one_way), ..plain.clone() },
        Service { floor: 9, ..plain.clone() },
        Service { failed: vec![failed], ..plain },
    ] {
        let (off, _) = to_the_end(before.step(remove(6), NOW).0);
        assert_eq!((off.state.name(), off.failure), ("idle", None));
    }
}

#[test]
fn the_way_is_taken_up_again_after_a_restart() {
    let (off, _) = service("committed", State::Committed {}).step(remove(6), NOW);
    let (resumed, actions) = off.resume(Some(id("old")), NOW);
    assert!(matches!(actions[..], [Action::Restore { to: None, .. }]), "{actions:?}");
    assert_eq!(to_the_end(resumed).0.state, State::Idle {});
    // One that committed while the order was on its way.
    let mut late = service("committed", State::Committed {});
    late.wish = Some(wish(6, Desired::Remove {}));
    let (resumed, _) = late.resume(Some(id("old")), NOW);
    assert_eq!(resumed.state.name(), "reverting");
}
