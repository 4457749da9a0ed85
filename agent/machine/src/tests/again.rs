//! Being stuck is left without a desk: by a person on the host, or by the agent itself.

use super::*;

fn start() -> Vec<Action> {
    vec![Action::Start { deadline: NOW.plus_secs(30) }]
}

#[test]
fn what_is_stuck_and_down_is_started_again_by_itself_until_it_passes() {
    let failed = Event::Failed { why: "no answer".to_owned() };
    let full = Event::RestoreFailed { why: "no space left".to_owned(), back: true };
    let (was, actions) = after(to_probing(), [failed, full]);
    assert_eq!((was.state.name(), actions), ("stuck", vec![Action::Revive]));
    // A start of the agent goes on looking.
    let (again, actions) = was.clone().resume(Some(id("old")), NOW);
    assert_eq!((again.state.name(), actions), ("stuck", vec![Action::Revive]));
    // The disk is still full, as often as it is tried.
    let mut machine = was;
    for _ in 0..3 {
        let (down, actions) = machine.step(Event::Down, NOW);
        assert_eq!((down.state.name(), actions), ("switching", start()));
        let why = "no space left".to_owned();
        let (stuck, actions) = down.step(Event::SwitchFailed { why }, NOW);
        assert_eq!((stuck.state.name(), actions), ("stuck", vec![Action::Revive]));
        machine = stuck;
    }
    // It has room.
    let (well, _) = after(
        machine,
        [Event::Down, Event::Switched { killed: false }, Event::Passed, Event::Passed],
    );
    assert_eq!((well.running.clone(), well.health), (Some(known("old")), Verdict::Pass));
    assert!(!well.failed_here(&id("old")), "{well:?}");
    let failure = well.failure.unwrap();
    let (release, step, why) = (id("new"), FailedStep::Probe, "no answer".to_owned());
    assert_eq!(
        failure,
        Failure { release, step, why, reverted: true },
        "as if it went back at once"
    );
}

#[test]
fn an_order_that_could_not_be_followed_is_forgotten_once_what_is_live_is_well() {
    let told = Event::Wish(wish(6, revert("old", Some("older"))));
    let not_back = Event::RestoreFailed { why: "no start".to_owned(), back: true };
    let (stuck, _) = after(committed(), [told, not_back]);
    assert_eq!(stuck.state.name(), "stuck");
    let tried =
        [Event::RetryByHand, Event::Switched { killed: false }, Event::Passed, Event::Passed];
    assert_eq!(after(stuck, tried).0.failure, None);
}

#[test]
fn a_host_that_waits_for_another_release_starts_what_it_has_meanwhile() {
    let (held, _) = after(
        stuck(),
        [
            Event::Wish(wish(6, switch("next"))),
            Event::StageHeld(Held { release: id("next"), ..held() }),
        ],
    );
    assert!(held.state.name() == "fetching" && held.revives(), "{held:?}");
    let (ill, actions) =
        after(held.clone(), [Event::Down, Event::SwitchFailed { why: String::new() }]);
    let stage = Action::Stage { release: id("next"), back: false };
    let watch = guard(Some(Verdict::Fail));
    let wants = [Action::Cancel, stage, watch, Action::Revive];
    assert_eq!(actions, wants, "that is wished for still");
    assert_eq!(ill.state.name(), "fetching");
    let (well, _) =
        after(held, [Event::Down, Event::Switched { killed: false }, Event::Passed, Event::Passed]);
    assert_eq!((well.state.name(), well.unproven), ("fetching", None));
}

#[test]
fn a_pause_keeps_what_is_stuck_as_it_is_and_its_end_does_not() {
    let (paused, _) = after(stuck(), [Event::Paused(Some("mine".to_owned()))]);
    assert_eq!(after(paused.clone(), [Event::Down]).0.state.name(), "stuck");
    let (_, actions) = after(paused.clone(), [Event::Paused(None)]);
    assert_eq!(actions, [Action::Revive]);
    // A person's own word counts all the same.
    assert_eq!(after(paused, [Event::RetryByHand]).1, start());
}

#[test]
fn a_person_tries_again_whatever_failed_here_before_and_without_contact() {
    let asks = Wish { confirm_by_contact: true, ..wish(6, switch("old")) };
    let (ill, _) = after(stuck(), [Event::Wish(asks), Event::SwitchFailed { why: String::new() }]);
    assert!(ill.refuses(&id("old")));
    let (well, _) = after(
        ill,
        [Event::RetryByHand, Event::Switched { killed: false }, Event::Passed, Event::Passed],
    );
    assert_eq!((well.state.name(), well.failure), ("committed", None));
    // What was not stuck is left alone.
    let (same, actions) = after(committed(), [Event::RetryByHand, Event::Down]);
    assert_eq!((same, actions), (committed(), vec![]));
}

#[test]
fn where_what_failed_is_live_still_another_try_goes_back() {
    let failed = Event::Failed { why: "no answer".to_owned() };
    let disk = Event::RestoreFailed { why: "input/output error".to_owned(), back: false };
    let (stuck, _) = after(to_probing(), [failed, disk]);
    assert_eq!((stuck.state.name(), &stuck.running), ("stuck", &Some(known("new"))));
    let restore = Action::Restore { to: Some(known("old")), probe_secs: 30, interval_secs: 2 };
    for event in [Event::Down, Event::RetryByHand] {
        let (back, actions) = stuck.clone().step(event, NOW);
        assert_eq!(actions, [Action::Cancel, restore.clone()]);
        let (well, _) = after(back, [Event::Restored]);
        assert_eq!(well.running, Some(known("old")));
        let failure = well.failure.unwrap();
        let (release, step, why) = (id("new"), FailedStep::Probe, "no answer".to_owned());
        assert_eq!(failure, Failure { release, step, why, reverted: true });
    }
}

#[test]
fn a_release_before_that_was_changed_is_brought_anew_before_it_goes_back() {
    let changed = || Event::BackHeld { why: "bin/shop was changed".to_owned() };
    let told = Event::Wish(wish(6, revert("old", Some("older"))));
    let (held, actions) = after(committed(), [told, changed()]);
    assert_eq!((held.state.name(), held.health), ("fetching", Verdict::Pass), "it runs on");
    assert_eq!(held.running, Some(known("old")));
    assert!(held.failure.clone().unwrap().why.contains("bin/shop"), "{held:?}");
    let stage = Action::Stage { release: id("older"), back: true };
    assert!(actions.contains(&stage), "{actions:?}");
    // Also where the order names nothing, and the host goes back to whatever ran before.
    let nothing = Event::Wish(wish(6, revert("old", None)));
    assert!(after(committed(), [nothing, changed()]).1.contains(&stage));
    let (back, actions) = after(held, [Event::Staged(known("older"))]);
    assert_eq!(back.state.name(), "reverting");
    let restore = Action::Restore { to: Some(known("older")), probe_secs: 30, interval_secs: 2 };
    assert!(actions.contains(&restore), "{actions:?}");
    assert_eq!(after(back, [Event::Restored]).0.running, Some(known("older")));
}

#[test]
fn a_persons_way_back_to_what_was_changed_is_not_gone_and_says_why() {
    let hand = Event::RevertByHand("orders fail".to_owned());
    let (back, _) = after(committed(), [hand]);
    assert!(matches!(&back.state, State::Reverting { cause, .. } if cause.is_asked_for()));
    let (kept, _) = after(back, [Event::BackHeld { why: "bin/shop was changed".to_owned() }]);
    assert_eq!((kept.state.name(), kept.running.clone()), ("committed", Some(known("old"))));
    let why = kept.failure.clone().unwrap().why;
    assert!(why.contains("orders fail") && why.contains("bin/shop"), "{why}");
    assert!(!kept.refuses(&id("old")), "it did not fail");
    assert!(!failed_cause().is_asked_for());
}

#[test]
fn what_a_person_must_look_at_is_held_with_its_cause() {
    let (stray, actions) = committed().resume(Some(id("older")), NOW);
    assert_eq!((stray.state.name(), actions), ("stuck", vec![]));
    let why = stray.failure.clone().unwrap().why;
    assert!(why.contains("names older") && why.contains("says that old is live"), "{why}");
    let (told, _) = after(stray, [Event::Wish(wish(6, switch("new")))]);
    let held = told.held().unwrap();
    assert_eq!((held.release, held.lack), (id("new"), Lack::Journal));
    assert!(held.why.contains("names older") && held.why.contains("unstick"), "{held:?}");
}

#[test]
fn an_order_to_go_back_to_what_is_not_here_never_leads_to_nothing() {
    // Stuck, it has nothing before what is live; the order names what must be fetched.
    let told = Event::Wish(wish(6, revert("old", Some("gone"))));
    let (fetching, _) = after(stuck(), [told.clone()]);
    assert!(fetching.state.name() == "fetching" && fetching.revives(), "{fetching:?}");
    let stage = Action::Stage { release: id("gone"), back: true };
    let (started, actions) = after(fetching, [Event::Down, Event::Switched { killed: false }]);
    assert!(actions.contains(&stage), "{actions:?}");
    assert_eq!((started.state.name(), started.running), ("fetching", Some(known("old"))));
    // And where it comes while what is live is started.
    let start = Event::Wish(wish(6, switch("old")));
    let late = Event::Wish(wish(7, revert("old", Some("gone"))));
    for passed in [
        vec![],
        vec![Event::Switched { killed: false }],
        vec![Event::Switched { killed: false }, Event::Passed],
    ] {
        let events = [vec![start.clone()], passed, vec![late.clone()]].concat();
        let (fetching, actions) = after(stuck(), events);
        assert!(actions.contains(&stage), "{actions:?}");
        assert_eq!(fetching.running, Some(known("old")));
    }
}

/// A person had stopped it before it passed, another release came, and its permit ran out as the wish went back.
#[test]
fn what_runs_unproven_is_proved_where_a_permit_for_another_release_runs_out() {
    let unit = "a.service".to_owned();
    let (stopped, _) = to_probing().step(Event::Stopped { unit }, NOW);
    let other = Event::Wish(wish(6, switch("next")));
    let (fetching, actions) = stopped.step(other, NOW);
    assert_eq!(fetching.state.name(), "fetching", "what is stopped holds up nothing: {actions:?}");
    let permitted = Event::Permitted { release: id("next"), generation: 6 };
    let (switching, _) = after(fetching, [Event::Staged(known("next")), permitted]);
    assert_eq!(switching.state.name(), "switching");
    let back = Event::Wish(wish(7, switch("new")));
    let (waiting, _) = switching.step(back, NOW);
    for event in [Event::PermitLate, Event::Interrupted { live: Some(id("new")) }] {
        let (proving, actions) = waiting.clone().step(event, NOW);
        assert_eq!(proving.state.name(), "switching");
        assert!(actions.ends_with(&start()), "{actions:?}");
    }
}

#[test]
fn what_is_still_refused_says_why_whoever_wishes_for_it() {
    let failed = Event::Failed { why: "no answer".to_owned() };
    let full = Event::RestoreFailed { why: "no space left".to_owned(), back: true };
    let (mut stuck, _) = after(to_probing(), [failed, full]);
    let rollout = Some("shop-4".parse().unwrap());
    stuck.wish = stuck.wish.map(|wish| Wish { rollout: rollout.clone(), ..wish });
    stuck.failed.iter_mut().for_each(|failed| failed.rollout.clone_from(&rollout));
    let failure = stuck.failure.clone();
    assert!(failure.is_some() && stuck.refuses(&id("new")));
    // What new hosts get is of no rollout.
    let nobody = Wish { rollout: None, ..wish(6, switch("new")) };
    let (still, actions) = stuck.step(Event::Wish(nobody), NOW);
    assert_eq!((still.failure.clone(), actions), (failure, vec![]));
}
