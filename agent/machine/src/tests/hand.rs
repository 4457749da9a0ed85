//! What a person on the host does: A6.3 to A6.5.

use super::*;

fn by_hand() -> Event {
    Event::RevertByHand("it eats the disk".to_owned())
}

#[test]
fn what_runs_is_left_by_hand_wherever_that_is_possible() {
    for (name, state) in states() {
        let before = service(name, state);
        let (after, actions) = before.clone().step(by_hand(), NOW);
        match name {
            // Whoever replaces the link says first what is live.
            "switching" => assert_eq!(actions, [Action::Interrupt]),
            "idle" | "reverting" | "stuck" => {
                assert_eq!((after, actions), (before, vec![]), "{name}");
            }
            _ => {
                assert_eq!(after.state.name(), "reverting", "{name}");
                assert!(matches!(actions[..], [Action::Cancel, Action::Restore { .. }]), "{name}");
            }
        }
    }
}

#[test]
fn what_was_left_by_hand_does_not_come_back_by_itself() {
    let baking = service("baking", state("baking"));
    let (back, _) = baking.step(by_hand(), NOW);
    let (done, actions) = back.step(Event::Restored, NOW);
    let watched = vec![Action::Prune, guard(Some(Verdict::Pass))];
    assert_eq!((done.state.name(), actions), ("committed", watched));
    assert_eq!(done.running, Some(known("old")));
    let failure = done.failure.clone().unwrap();
    assert!(failure.reverted);
    assert_eq!(failure.why, "put back by a person on the host: it eats the disk");
    // The coordinator still wants it, and says so again.
    let (still, actions) = done.step(Event::Wish(wish(6, switch("new"))), NOW);
    assert_eq!((still.state.name(), actions), ("committed", vec![]));
    // A person let it go there: then it is tried again.
    let (hold, _) = still.step(Event::Wish(wish(7, Desired::Hold {})), NOW);
    let (again, _) = hold.step(Event::Wish(wish(8, switch("new"))), NOW);
    assert_eq!(again.state.name(), "fetching");
}

#[test]
fn where_no_way_leads_back_it_stays_and_says_why() {
    let plain = service("committed", State::Committed {});
    let one_way = Known { one_way: true, ..known("old") };
    let cases = [
        (Service { previous: None, ..plain.clone() }, "no release before it"),
        (Service { floor: 2, ..plain.clone() }, "below_floor"),
        (Service { running: Some(one_way), ..plain }, "one-way"),
    ];
    for (before, want) in cases {
        let (after, actions) = before.clone().step(by_hand(), NOW);
        assert_eq!((after.state, actions), (before.state, vec![]));
        assert_eq!((after.running, after.failed), (before.running, before.failed));
        let why = after.failure.unwrap().why;
        assert!(why.contains(want) && why.contains("it eats the disk"), "{why}");
    }
}

#[test]
fn a_paused_service_asks_for_no_permit_and_takes_none() {
    let staged = service("staged", State::Staged { target: known("new") });
    let (paused, actions) = staged.step(Event::Paused(Some("hands off".to_owned())), NOW);
    assert!(actions.is_empty());
    let permit = Event::Permitted { release: id("new"), generation: 5 };
    for event in [Event::Linked, Event::AskAgain, permit, Event::Wish(wish(6, switch("new")))] {
        let (after, actions) = paused.clone().step(event.clone(), NOW);
        assert_eq!((after.state.name(), actions), ("staged", vec![]), "{event:?}");
    }
    let (_, actions) = paused.step(Event::Paused(None), NOW);
    assert_eq!(actions, [Action::Ask { release: id("new"), generation: 5 }]);
}

#[test]
fn what_is_live_bakes_and_goes_back_in_a_pause() {
    let paused = Some("hands off".to_owned());
    let baking = Service { paused, ..service("baking", state("baking")) };
    assert_eq!(baking.clone().step(Event::Passed, NOW).0.state.name(), "committed");
    let failed = Event::Failed { why: "no".to_owned() };
    assert_eq!(baking.clone().step(failed, NOW).0.state.name(), "reverting");
    let told = Event::Wish(wish(6, revert("new", None)));
    assert_eq!(baking.step(told, NOW).0.state.name(), "reverting");
}
