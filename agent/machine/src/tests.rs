use groundswell_common::condition::{Held, Lack};
use groundswell_common::directive::Action as Desired;
use groundswell_common::report::{FailedStep, Failure, Verdict};
use groundswell_common::{Digest, ReleaseId, Timestamp};

use super::state::{Cause, FAILED_MAX, Failed, RESUMES_MAX};
use super::*;

mod again;
mod contact;
mod hand;
mod off;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn id(name: &str) -> ReleaseId {
    ReleaseId::from_digest(Digest::of(name.as_bytes()))
}

/// `old` runs, `new` is wished for; seq by name.
fn known(name: &str) -> Known {
    let seq = match name {
        "older" => 1,
        "old" => 2,
        "new" => 3,
        _ => 4,
    };
    let version = name.parse().unwrap();
    Known { id: id(name), version, seq, floor: 0, one_way: false }
}

fn wish(generation: u64, action: Desired) -> Wish {
    Wish {
        generation,
        action,
        probe_deadline_secs: 30,
        bake_secs: 10,
        probe_interval_secs: 2,
        confirm_by_contact: false,
        rollout: None,
    }
}

fn switch(name: &str) -> Desired {
    Desired::Switch { release: id(name) }
}

fn revert(from: &str, to: Option<&str>) -> Desired {
    Desired::Revert { from: id(from), to: to.map(id) }
}

fn held() -> Held {
    Held { release: id("new"), lack: Lack::Room, why: "make room".to_owned() }
}

/// The slow watch of what is at rest.
fn guard(known: Option<Verdict>) -> Action {
    Action::Guard { until: NOW.plus_secs(86_400), interval_secs: 60, known }
}

fn failed_cause() -> Cause {
    Cause::Failed { step: FailedStep::Probe, why: "no answer".to_owned() }
}

fn state(name: &str) -> State {
    states().into_iter().find(|(named, _)| *named == name).unwrap().1
}

/// Every saved state, with `old` before it and a wish to switch to `new` at generation 5.
fn states() -> Vec<(&'static str, State)> {
    let target = known("new");
    let (deadline, until) = (NOW.plus_secs(30), NOW.plus_secs(10));
    vec![
        ("idle", State::Idle {}),
        ("fetching", State::Fetching { target: target.id, held: None }),
        ("held", State::Fetching { target: target.id, held: Some(held()) }),
        ("staged", State::Staged { target: target.clone() }),
        ("switching", State::Switching { target: target.clone(), deadline: None }),
        ("starting", State::Switching { target: target.clone(), deadline: Some(deadline) }),
        ("probing", State::Probing { target: target.clone(), deadline }),
        ("baking", State::Baking { target: target.clone(), until }),
        ("committed", State::Committed {}),
        (
            "reverting",
            State::Reverting { from: target, to: Some(known("old")), cause: failed_cause() },
        ),
        ("stuck", State::Stuck { cause: StuckCause::Revert, generation: 5 }),
    ]
}

fn service(name: &str, state: State) -> Service {
    let (running, previous) = match name {
        "idle" => (None, None),
        "starting" | "probing" | "baking" | "reverting" => (Some(known("new")), Some(known("old"))),
        _ => (Some(known("old")), Some(known("older"))),
    };
    let wish = Some(wish(5, switch("new")));
    Service { state, running, previous, wish, ..Service::new() }
}

fn events() -> Vec<(&'static str, Event)> {
    let release = id("new");
    vec![
        ("hold", Event::Wish(wish(6, Desired::Hold {}))),
        ("stage", Event::Wish(wish(6, Desired::Stage { release: id("next") }))),
        ("revert", Event::Wish(wish(6, revert("new", None)))),
        ("remove", Event::Wish(wish(6, Desired::Remove {}))),
        ("late wish", Event::Wish(wish(4, Desired::Hold {}))),
        ("linked", Event::Linked),
        ("ask again", Event::AskAgain),
        ("staged", Event::Staged(known("new"))),
        ("stage failed", Event::StageFailed { release, why: "full".to_owned() }),
        ("held", Event::StageHeld(held())),
        ("stage again", Event::StageAgain),
        ("permitted", Event::Permitted { release, generation: 5 }),
        ("other permit", Event::Permitted { release, generation: 4 }),
        ("denied", Event::Denied { generation: 5, again: Again::Later }),
        ("permit late", Event::PermitLate),
        ("switched", Event::Switched { killed: false }),
        ("switch failed", Event::SwitchFailed { why: "no".to_owned() }),
        ("passed", Event::Passed),
        ("failed", Event::Failed { why: "no".to_owned() }),
        ("ill", Event::Ill { why: "no".to_owned() }),
        ("well", Event::Well),
        ("replaced", Event::Replaced),
        ("interrupted late", Event::Interrupted { live: Some(release) }),
        ("interrupted", Event::Interrupted { live: Some(id("old")) }),
        ("stopped", Event::Stopped { unit: "a.service".to_owned() }),
        ("overslept", Event::Overslept),
        ("restored", Event::Restored),
        ("restore failed", Event::RestoreFailed { why: "no".to_owned(), back: true }),
        ("retry by hand", Event::RetryByHand),
        ("down", Event::Down),
        ("back held", Event::BackHeld { why: "no".to_owned() }),
    ]
}

/// What each pair leads to, an entry an event in its order above; `-` says that nothing changes and nothing is
/// done.
#[rustfmt::skip]
const TABLE: &[(&str, &[&str])] = &[
    ("idle", &[
        "idle", "fetching", "idle", "idle", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("fetching", &[
        "committed", "fetching", "committed", "reverting", "-", "-", "-", "staged", "committed", "fetching",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "fetching", "fetching", "-", "-", "-", "fetching", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("held", &[
        "committed", "fetching", "committed", "reverting", "-", "fetching", "-", "staged", "committed", "fetching",
        "fetching", "-", "-", "-", "-", "-", "-", "-", "-",
        "fetching", "fetching", "-", "-", "-", "fetching", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("staged", &[
        "staged", "fetching", "committed", "reverting", "-", "asks", "asks", "-", "-", "-",
        "-", "switching", "-", "waits", "-", "-", "-", "-", "-",
        "staged", "staged", "-", "-", "-", "staged", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("switching", &[
        "switching", "switching", "switching", "switching", "-", "-", "-", "-", "committed", "fetching",
        "-", "-", "-", "-", "staged", "probing", "reverting", "-", "reverting",
        "-", "-", "switching", "reverting", "staged", "-", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("starting", &[
        "switching", "switching", "reverting", "reverting", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "probing", "reverting", "-", "reverting",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("probing", &[
        "probing", "probing", "reverting", "reverting", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "baking", "reverting",
        "-", "-", "-", "-", "-", "probing", "probing", "-", "-",
        "-", "-", "-",
    ]),
    ("baking", &[
        "baking", "baking", "reverting", "reverting", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "committed", "reverting",
        "-", "-", "-", "-", "-", "baking", "probing", "-", "-",
        "-", "-", "-",
    ]),
    ("committed", &[
        "committed", "fetching", "committed", "reverting", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "committed", "committed", "-", "-", "-", "committed", "-", "-", "-",
        "-", "-", "-",
    ]),
    ("reverting", &[
        "reverting", "reverting", "reverting", "reverting", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "fetching", "stuck",
        "-", "-", "committed",
    ]),
    ("stuck", &[
        "stuck", "fetching", "switching", "reverting", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "-", "-", "-", "-", "-", "-", "-", "-", "-",
        "switching", "-", "-",
    ]),
];

#[test]
fn every_state_takes_every_event_as_the_table_says() {
    let (states, events) = (states(), events());
    assert_eq!(TABLE.len(), states.len());
    for ((name, state), (row, cells)) in states.iter().zip(TABLE) {
        assert_eq!(name, row);
        assert_eq!(cells.len(), events.len(), "{name}");
        for ((event_name, event), want) in events.iter().zip(*cells) {
            let before = service(name, state.clone());
            let (after, actions) = before.clone().step(event.clone(), NOW);
            let got = match (after == before, actions.as_slice()) {
                (true, []) => "-",
                (true, [Action::Ask { .. }]) => "asks",
                (true, [Action::AskAfter(_)]) => "waits",
                (true | false, _) => after.state.name(),
            };
            assert_eq!(got, *want, "{name} x {event_name}: {after:?} {actions:?}");
        }
    }
}

#[test]
fn every_saved_state_is_resumed_in_its_own_way() {
    let restore = Action::Restore { to: Some(known("old")), probe_secs: 30, interval_secs: 2 };
    let ask = Action::Ask { release: id("new"), generation: 5 };
    let fetch = Action::Stage { release: id("new"), back: false };
    let resting = vec![Action::Ensure, Action::Prune];
    let watched = vec![guard(None)];
    let wants: [(&str, Vec<Action>); 11] = [
        ("fetching", [resting.clone(), vec![Action::Cancel, fetch.clone()]].concat()),
        ("fetching", vec![Action::Ensure, fetch.clone(), guard(None)]),
        ("fetching", vec![Action::Ensure, fetch.clone(), guard(None)]),
        ("staged", [resting.clone(), vec![ask], watched.clone()].concat()),
        ("switching", vec![Action::TakeLinkBack]),
        ("switching", vec![Action::Start { deadline: NOW.plus_secs(30) }]),
        ("probing", vec![Action::Probe { deadline: NOW.plus_secs(30), interval_secs: 2 }]),
        ("baking", vec![Action::Watch { until: NOW.plus_secs(10), interval_secs: 2 }]),
        ("fetching", [resting, vec![Action::Cancel, fetch], watched].concat()),
        ("reverting", vec![restore]),
        ("stuck", vec![]),
    ];
    for ((name, state), (want_state, want)) in states().into_iter().zip(wants) {
        let saved = service(name, state);
        let live = match name {
            "idle" => None,
            "switching" | "starting" | "probing" | "baking" | "reverting" => Some(id("new")),
            _ => Some(id("old")),
        };
        let (after, actions) = saved.resume(live, NOW);
        assert_eq!((after.state.name(), actions), (want_state, want), "{name}");
    }
}

#[test]
fn a_switch_cut_before_the_rename_waits_for_a_new_permit() {
    let saved = service("switching", State::Switching { target: known("new"), deadline: None });
    let (after, actions) = saved.resume(Some(id("old")), NOW);
    assert_eq!(after.state, State::Staged { target: known("new") });
    assert_eq!(actions, [Action::Ensure, guard(None)]);
    let (_, actions) = after.step(Event::Linked, NOW);
    assert_eq!(actions, [Action::Ask { release: id("new"), generation: 5 }]);
}

#[test]
fn a_switch_cut_after_the_rename_goes_on_only_where_the_host_has_started_since() {
    let saved = service("switching", State::Switching { target: known("new"), deadline: None });
    let (unsure, _) = saved.resume(Some(id("new")), NOW);
    assert_eq!(unsure.running, Some(known("old")), "it may have been too late");
    let (back, actions) = unsure.clone().step(Event::Interrupted { live: Some(id("old")) }, NOW);
    assert_eq!(back.state, State::Staged { target: known("new") });
    assert!(
        actions.contains(&Action::Ensure)
            && actions.iter().any(|a| matches!(a, Action::Ask { .. }))
    );
    let (on, actions) = unsure.step(Event::Replaced, NOW);
    assert_eq!((on.running, on.previous), (Some(known("new")), Some(known("old"))));
    assert_eq!(actions, [Action::Start { deadline: NOW.plus_secs(30) }]);
}

#[test]
fn what_a_person_stops_before_its_commit_is_held_and_proved_anew_once_it_runs() {
    for (name, state) in
        states().into_iter().filter(|(name, _)| ["probing", "baking"].contains(name))
    {
        let unit = "a.service".to_owned();
        let (stopped, actions) = service(name, state).step(Event::Stopped { unit }, NOW);
        assert_eq!(actions, [Action::AwaitStart { interval_secs: 2 }], "{name}");
        let held = stopped.held().unwrap();
        assert_eq!((held.release, held.lack), (id("new"), Lack::Paused));
        assert!(held.why.ends_with("'systemctl start a.service' lets it go on"), "{}", held.why);
        assert_eq!((stopped.failure.as_ref(), stopped.failed.len()), (None, 0));
        // Held, it is told to stage, and that is no other wish.
        let stage = Event::Wish(wish(6, Desired::Stage { release: id("new") }));
        let (stopped, actions) = stopped.step(stage, NOW);
        assert_eq!(actions, []);
        let (again, actions) = stopped.step(Event::Well, NOW);
        assert_eq!((again.state.name(), again.held()), ("probing", None));
        let deadline = NOW.plus_secs(30);
        assert_eq!(actions, [Action::Probe { deadline, interval_secs: 2 }]);
    }
}

#[test]
fn a_reboot_before_the_commit_proves_the_release_anew_or_leaves_it() {
    for (name, state) in states() {
        if !["switching", "probing", "baking"].contains(&name) {
            continue;
        }
        let (up, _) = service(name, state).resume(Some(id("new")), NOW);
        assert_eq!(up.state.name(), name, "a start of the machine is no proof");
        assert!(up.failure.is_none());
        let (back, actions) = up.step(Event::Failed { why: "no answer".to_owned() }, NOW);
        let to = Some(known("old"));
        let restore = Action::Restore { to: to.clone(), probe_secs: 30, interval_secs: 2 };
        assert_eq!(actions, [Action::Cancel, restore], "{name}");
        let (done, _) = back.step(Event::Restored, NOW);
        assert_eq!((done.running, done.state), (to, State::Committed {}), "{name}");
    }
}

#[test]
fn a_live_link_that_the_journal_does_not_know_is_stuck_in_every_state() {
    for (name, state) in states() {
        let (after, actions) = service(name, state).resume(Some(id("foreign")), NOW);
        // Going back names its own end, whatever is live; stuck stays as it is.
        match name {
            "reverting" => assert_eq!(after.state.name(), "reverting"),
            "stuck" => assert!(actions.is_empty()),
            _ => {
                let stuck = State::Stuck { cause: StuckCause::Tree, generation: 5 };
                assert_eq!((after.state, actions), (stuck, vec![]), "{name}");
            }
        }
    }
}

#[test]
fn restarting_in_one_state_for_ever_ends() {
    let resume = |name: &str, live: &str| {
        let mut machine = service(name, state(name));
        for _ in 0..RESUMES_MAX {
            machine = machine.resume(Some(id(live)), NOW).0;
            assert_eq!(machine.state.name(), name);
        }
        machine.resume(Some(id(live)), NOW).0
    };
    for live in ["new", "old"] {
        let stuck = resume("reverting", live);
        assert_eq!(stuck.state.name(), "stuck", "{live}");
        assert_eq!(stuck.running, Some(known(live)), "what the link names");
        assert!(stuck.failure.as_ref().unwrap().why.contains("restarted 9 times"));
        // A newer directive that asks for what is live starts and probes it.
        let (proven, actions) = stuck.step(Event::Wish(wish(6, switch("old"))), NOW);
        match live {
            "old" => assert!(matches!(actions[..], [Action::Start { .. }]), "{actions:?}"),
            _ => assert_eq!(proven.state.name(), "fetching"),
        }
    }
    assert_eq!(resume("reverting", "next").state.name(), "stuck");
    for name in ["switching", "probing", "baking"] {
        let after = resume(name, "new");
        assert_eq!(after.state.name(), "reverting", "{name}");
        assert!(after.failure.unwrap().why.contains("restarted 9 times"));
    }
    let after = resume("fetching", "old");
    assert_eq!((after.held().unwrap().lack, after.failure), (Lack::Agent, None));
}

#[test]
fn deadlines_from_before_a_restart_are_held_to_the_present() {
    let far = NOW.plus_secs(86_400);
    let saved = service("probing", State::Probing { target: known("new"), deadline: far });
    let (_, actions) = saved.resume(Some(id("new")), NOW);
    assert_eq!(actions, [Action::Probe { deadline: NOW.plus_secs(30), interval_secs: 2 }]);
    let until = NOW.plus_secs(3);
    let saved = service("baking", State::Baking { target: known("new"), until });
    let (_, actions) = saved.clone().resume(Some(id("new")), NOW);
    assert_eq!(actions, [Action::Watch { until, interval_secs: 2 }]);
    // Time that went by unwatched is no bake.
    let late = NOW.plus_secs(3_600);
    let (_, actions) = saved.resume(Some(id("new")), late);
    let until = late.plus_secs(10);
    assert_eq!(actions, [Action::Watch { until, interval_secs: 2 }]);
}

/// Takes the events one by one.
fn after(machine: Service, events: impl IntoIterator<Item = Event>) -> (Service, Vec<Action>) {
    let start = (machine, Vec::new());
    events.into_iter().fold(start, |(machine, _), event| machine.step(event, NOW))
}

fn committed() -> Service {
    Service {
        state: State::Committed {},
        running: Some(known("old")),
        previous: Some(known("older")),
        ..Service::new()
    }
}

fn to_probing() -> Service {
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(known("new")),
        Event::Permitted { release: id("new"), generation: 5 },
        Event::Switched { killed: false },
    ];
    after(committed(), events).0
}

#[test]
fn a_release_that_failed_here_is_let_go_before_it_is_tried_again() {
    let failed = Event::Failed { why: "no answer".to_owned() };
    let (machine, actions) = after(to_probing(), [failed, Event::Restored]);
    let watched = vec![Action::Prune, guard(Some(Verdict::Pass))];
    assert_eq!((machine.state.clone(), actions), (State::Committed {}, watched));
    let failure = Failure {
        release: id("new"),
        step: FailedStep::Probe,
        why: "no answer".to_owned(),
        reverted: true,
    };
    assert_eq!(machine.failure, Some(failure));
    assert_eq!((machine.running.clone(), machine.previous.clone()), (Some(known("old")), None));
    // Naming it again, even with higher generations, is not enough.
    let again = [Event::Wish(wish(5, switch("new"))), Event::Wish(wish(6, switch("new")))];
    let (machine, _) = after(machine, again);
    assert_eq!(machine.state, State::Committed {});
    // A hold lets it go; the next generation that names it is followed, and the failure forgotten.
    let (machine, _) = after(machine, [Event::Wish(wish(7, Desired::Hold {}))]);
    let (same, _) = after(machine.clone(), [Event::Wish(wish(7, switch("new")))]);
    assert_eq!(same.state, State::Committed {}, "not with the same generation");
    let (machine, _) = after(machine, [Event::Wish(wish(8, switch("new")))]);
    assert_eq!((machine.state.name(), machine.failure), ("fetching", None));
}

#[test]
fn memory_of_failures_is_bounded() {
    let mut machine = committed();
    for at in 0..u64::try_from(FAILED_MAX).unwrap() + 3 {
        let release = id(&format!("bad {at}"));
        let events = [
            Event::Wish(wish(at + 1, Desired::Stage { release })),
            Event::StageFailed { release, why: String::new() },
        ];
        machine = after(machine, events).0;
    }
    assert_eq!(machine.failed.len(), FAILED_MAX);
    assert!(machine.failed.iter().all(|failed| failed.release != id("bad 2")));
}

#[test]
fn another_rollout_of_a_release_that_failed_is_a_new_decision() {
    let of = |generation, rollout: &str| {
        let rollout = Some(rollout.parse().unwrap());
        Event::Wish(Wish { rollout, ..wish(generation, Desired::Stage { release: id("new") }) })
    };
    let failed = Event::StageFailed { release: id("new"), why: "full".to_owned() };
    let (machine, _) = after(committed(), [of(5, "shop-1"), failed]);
    let (same, actions) = machine.clone().step(of(6, "shop-1"), NOW);
    assert_eq!((same.state.name(), actions.as_slice()), ("committed", [].as_slice()));
    let (next, _) = machine.step(of(6, "shop-2"), NOW);
    assert_eq!(next.state.name(), "fetching");
}

#[test]
fn a_revert_to_what_failed_here_keeps_what_runs_where_nothing_else_is_known() {
    let mut machine = Service { previous: None, ..committed() };
    machine.failed.push(Failed {
        release: id("bad"),
        generation: 1,
        released: true,
        rollout: None,
    });
    let back = Desired::Revert { from: id("old"), to: Some(id("bad")) };
    let (machine, actions) = machine.step(Event::Wish(wish(5, back)), NOW);
    assert_eq!((machine.state.name(), actions.as_slice()), ("committed", [].as_slice()));
    assert_eq!(machine.running, Some(known("old")));
    let failure = machine.failure.unwrap();
    assert_eq!((failure.release, failure.step), (id("old"), FailedStep::Revert));
    assert!(failure.why.contains("failed here"), "{}", failure.why);
}

#[test]
fn a_first_release_that_fails_leaves_nothing_live() {
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(known("new")),
        Event::Permitted { release: id("new"), generation: 5 },
        Event::SwitchFailed { why: "no".to_owned() },
    ];
    let (machine, actions) = after(Service::new(), events);
    let restore = Action::Restore { to: None, probe_secs: 30, interval_secs: 2 };
    assert_eq!(actions, [Action::Cancel, restore]);
    let (machine, _) = after(machine, [Event::Restored]);
    assert_eq!((machine.state.name(), machine.running), ("idle", None));
    assert!(machine.failure.unwrap().reverted);
}

#[test]
fn a_wish_to_go_back_during_the_switch_is_followed_once_it_is_done() {
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(known("new")),
        Event::Permitted { release: id("new"), generation: 5 },
        Event::Wish(wish(6, revert("new", Some("old")))),
        Event::Switched { killed: false },
    ];
    let (machine, _) = after(committed(), events);
    let State::Reverting { from, to, cause } = machine.state.clone() else { panic!("{machine:?}") };
    assert_eq!((from, to, cause), (known("new"), Some(known("old")), Cause::Told {}));
    let (machine, _) = after(machine, [Event::Restored]);
    assert_eq!((machine.state.name(), machine.failure), ("committed", None));
    assert_eq!(machine.running, Some(known("old")));
}

#[test]
fn a_hold_after_the_switch_lets_the_release_finish() {
    let hold = Event::Wish(wish(6, Desired::Hold {}));
    let (machine, _) = after(to_probing(), [hold, Event::Passed, Event::Passed]);
    assert_eq!((machine.state.name(), machine.health), ("committed", Verdict::Pass));
    assert_eq!((machine.running, machine.previous), (Some(known("new")), Some(known("old"))));
}

#[test]
fn a_newer_release_waits_for_the_bake_and_then_begins() {
    let newer = Event::Wish(wish(6, switch("next")));
    let (machine, _) = after(to_probing(), [newer, Event::Passed]);
    assert_eq!(machine.state.name(), "baking");
    let (machine, actions) = after(machine, [Event::Passed]);
    assert_eq!(machine.state, State::Fetching { target: id("next"), held: None });
    let stage = Action::Stage { release: id("next"), back: false };
    let (until, known) = (NOW.plus_secs(10 + 900), Some(Verdict::Pass));
    let guard = Action::Guard { until, interval_secs: 5, known };
    assert_eq!(actions, [Action::Prune, Action::Cancel, stage, guard]);
}

#[test]
fn a_revert_fetches_what_is_not_on_disk_and_then_needs_no_permit() {
    let gone = Event::Wish(wish(6, revert("old", Some("gone"))));
    let (machine, actions) = after(committed(), [gone]);
    let stage = Action::Stage { release: id("gone"), back: true };
    assert_eq!(actions, [Action::Cancel, stage]);
    let (machine, actions) = after(machine, [Event::Staged(known("gone"))]);
    assert_eq!(machine.state.name(), "reverting");
    let restore = Action::Restore { to: Some(known("gone")), probe_secs: 30, interval_secs: 2 };
    assert_eq!(actions, [Action::Prune, Action::Cancel, restore]);
}

#[test]
fn below_the_floor_and_from_a_one_way_release_nothing_goes_back() {
    let back = || Event::Wish(wish(6, revert("old", None)));
    let floor = Service { floor: 2, ..committed() };
    let (machine, _) = after(floor, [back()]);
    assert_eq!(machine.state, State::Committed {});
    assert!(machine.failure.unwrap().why.starts_with("below_floor"));
    let one_way = Known { one_way: true, ..known("old") };
    let (machine, _) = after(Service { running: Some(one_way), ..committed() }, [back()]);
    assert_eq!(machine.state, State::Committed {});
    assert_eq!(machine.failure.unwrap().step, FailedStep::Revert);
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(Known { one_way: true, ..known("new") }),
        Event::Permitted { release: id("new"), generation: 5 },
        Event::Switched { killed: false },
        Event::Failed { why: "no".to_owned() },
    ];
    let (machine, _) = after(committed(), events);
    assert_eq!(machine.state.name(), "stuck");
    assert!(!machine.failure.unwrap().reverted);
}

#[test]
fn a_commit_raises_the_floor_and_forgets_the_failure() {
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(Known { floor: 3, ..known("new") }),
        Event::Permitted { release: id("new"), generation: 5 },
        Event::Switched { killed: false },
        Event::Passed,
    ];
    let (machine, _) = after(committed(), events);
    assert_eq!(machine.floor, 0, "not before it has baked");
    assert_eq!(after(machine, [Event::Passed]).0.floor, 3);
}

#[test]
fn a_committed_release_is_watched_for_ever_and_its_health_is_of_now() {
    let (machine, actions) = after(to_probing(), [Event::Passed, Event::Passed]);
    let until = NOW.plus_secs(10 + 900);
    let guard = |known| Action::Guard { until, interval_secs: 5, known };
    let (pass, fail) = (Some(Verdict::Pass), Some(Verdict::Fail));
    assert_eq!(actions, [Action::Prune, guard(pass)]);
    let (machine, actions) = after(machine, [Event::Ill { why: "500".to_owned() }]);
    assert_eq!((machine.health, actions), (Verdict::Fail, vec![guard(fail)]));
    assert_eq!(machine.failure.as_ref().unwrap().why, "500");
    let (machine, actions) = after(machine, [Event::Well]);
    assert_eq!((machine.health, machine.failure.clone()), (Verdict::Pass, None));
    assert_eq!(actions, [guard(pass)]);
    // What a person stopped is neither well nor ill, and that is known from then on.
    let stopped = Event::Stopped { unit: "shop.service".to_owned() };
    let (stopped, actions) = after(machine.clone(), [stopped]);
    assert_eq!((stopped.health, stopped.failure.clone()), (Verdict::Inconclusive, None));
    assert_eq!(actions, [guard(Some(Verdict::Inconclusive))]);
    assert_eq!(stopped.stopped.as_deref(), Some("shop.service"));
    assert_eq!(after(stopped, [Event::Well]).0.stopped, None);
    // An idle host is looked at now and then, for ever.
    let (_, actions) = machine.clone().step(Event::Well, until);
    let slow = |from: Timestamp, known| {
        let until = from.plus_secs(86_400);
        Action::Guard { until, interval_secs: 60, known }
    };
    assert_eq!(actions, [slow(until, pass)]);
    // What was seen before a restart is not known after it.
    let (again, actions) = machine.resume(Some(id("new")), NOW);
    assert_eq!(again.health, Verdict::Inconclusive);
    assert!(actions.contains(&guard(None)), "goes on after a restart: {actions:?}");
}

#[test]
fn an_answer_to_an_older_question_is_asked_again_at_once() {
    let events = [Event::Wish(wish(5, switch("new"))), Event::Staged(known("new"))];
    let (machine, _) = after(committed(), events);
    let (machine, _) = after(machine, [Event::Wish(wish(6, switch("new")))]);
    let denied = |generation| Event::Denied { generation, again: Again::Later };
    let (_, actions) = after(machine.clone(), [denied(5)]);
    assert_eq!(actions, [Action::Ask { release: id("new"), generation: 6 }]);
    let (_, actions) = after(machine, [denied(6)]);
    assert_eq!(actions, [Action::AskAfter(Again::Later)]);
}

#[test]
fn what_is_live_previous_or_worked_on_is_kept() {
    let machine = to_probing();
    assert_eq!(machine.kept(), [id("new"), id("old"), id("new")]);
    let (machine, _) = after(machine, [Event::Failed { why: String::new() }]);
    assert_eq!(machine.kept(), [id("new"), id("old"), id("old"), id("new")]);
}

#[test]
fn a_host_whose_permits_run_out_again_and_again_says_that_it_is_too_slow() {
    let permitted = || Event::Permitted { release: id("new"), generation: 5 };
    let staged = [Event::Wish(wish(5, switch("new"))), Event::Staged(known("new"))];
    let (machine, _) = after(committed(), staged);
    let (machine, _) = after(machine, [permitted(), Event::PermitLate]);
    assert!(!machine.is_too_slow(), "once is chance");
    let (machine, _) = after(machine, [permitted(), Event::PermitLate]);
    assert!(machine.is_too_slow());
    let (held, _) = machine.clone().step(Event::Wish(wish(6, Desired::Hold {})), NOW);
    assert!(!held.is_too_slow(), "nothing is asked of it");
    let (switched, _) = after(machine, [permitted(), Event::Replaced]);
    assert_eq!((switched.is_too_slow(), switched.late), (false, 0));
}

#[test]
fn what_cannot_be_brought_back_speaks_of_what_stays() {
    let no = |release| Event::StageFailed { release, why: "no room for it".to_owned() };
    let back = Event::Wish(wish(6, revert("old", Some("first"))));
    let (machine, _) = after(committed(), [back, no(id("first"))]);
    assert_eq!(machine.state, State::Committed {});
    let failure = machine.failure.unwrap();
    assert_eq!((failure.release, failure.step), (id("old"), FailedStep::Revert));
    assert!(failure.why.ends_with("cannot be brought here: no room for it"), "{}", failure.why);
    // Left before its probes passed, what stays is not as good as what was proven.
    let first = Service { running: None, previous: None, ..committed() };
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(known("new")),
        Event::Permitted { release: id("new"), generation: 5 },
        Event::Switched { killed: false },
        Event::Wish(wish(6, revert("new", Some("first")))),
        no(id("first")),
    ];
    let (machine, _) = after(first, events);
    assert_eq!(machine.running, Some(known("new")));
    assert_eq!((machine.state.name(), machine.is_unproven()), ("stuck", true));
}

#[test]
fn what_a_directive_says_nothing_of_any_more_stays_as_it_is() {
    let asked = wish(5, Desired::Revert { from: id("old"), to: Some(id("first")) });
    assert_eq!(asked.withdrawn(5), None, "the same directive");
    let (machine, _) = committed().step(Event::Wish(asked.clone()), NOW);
    assert_eq!(machine.state.name(), "fetching");
    let (machine, actions) = machine.step(Event::Wish(asked.withdrawn(6).unwrap()), NOW);
    assert_eq!((machine.state, actions), (State::Committed {}, vec![Action::Cancel]));
    assert_eq!(machine.wish.unwrap().withdrawn(7), None, "it stays already");
}

#[test]
fn a_release_that_failed_here_is_nothing_to_go_back_to() {
    let mut machine = committed();
    machine.previous = Some(known("older"));
    machine.failed.push(Failed {
        release: id("bad"),
        generation: 1,
        released: true,
        rollout: None,
    });
    let back = Event::Wish(wish(9, Desired::Revert { from: id("old"), to: Some(id("bad")) }));
    let (machine, actions) = machine.step(back, NOW);
    assert_eq!(machine.state.name(), "reverting", "{actions:?}");
    assert!(actions.iter().any(|action| {
        matches!(action, Action::Restore { to: Some(to), .. } if to.id == id("older"))
    }));
}

#[test]
fn the_deadline_runs_from_the_link_and_survives_a_restart_in_the_switch() {
    let events = [
        Event::Wish(wish(5, switch("new"))),
        Event::Staged(known("new")),
        Event::Permitted { release: id("new"), generation: 5 },
    ];
    let (machine, _) = after(Service { health: Verdict::Pass, ..committed() }, events);
    assert_eq!(machine.health, Verdict::Inconclusive, "what was seen before is not said of it");
    let (machine, actions) = after(machine, [Event::Replaced]);
    let deadline = NOW.plus_secs(30);
    assert_eq!(actions, [Action::Start { deadline }]);
    assert_eq!((&machine.running, &machine.previous), (&Some(known("new")), &Some(known("old"))));
    // The agent starts again ten seconds later: what is left of it is left.
    let later = NOW.plus_secs(10);
    let (machine, actions) = machine.resume(Some(id("new")), later);
    assert_eq!(actions, [Action::Start { deadline }]);
    let (probing, actions) = machine.clone().step(Event::Switched { killed: false }, later);
    assert_eq!(actions, [Action::Probe { deadline, interval_secs: 2 }]);
    assert_eq!(probing.state, State::Probing { target: known("new"), deadline });
    // What started at the last moment is looked at all the same.
    let (_, actions) = machine.clone().step(Event::Switched { killed: false }, deadline);
    let looks = deadline.plus_secs(6);
    assert_eq!(actions, [Action::Probe { deadline: looks, interval_secs: 2 }]);
    // The time that another one's stop took is not its own.
    let (_, actions) = machine.clone().step(Event::Switched { killed: true }, deadline);
    let whole = deadline.plus_secs(30);
    assert_eq!(actions, [Action::Probe { deadline: whole, interval_secs: 2 }]);
    let late = Event::SwitchFailed { why: "the job did not end".to_owned() };
    let (back, _) = machine.step(late, deadline);
    assert_eq!((back.state.name(), back.health), ("reverting", Verdict::Fail));
}

#[test]
fn going_back_is_taken_up_at_once_wherever_the_switch_is() {
    let told = || Event::Wish(wish(6, revert("new", Some("old"))));
    let hand = || Event::RevertByHand("orders fail".to_owned());
    let restore = Action::Restore { to: Some(known("old")), probe_secs: 30, interval_secs: 2 };
    for event in [told(), hand()] {
        let (back, actions) = service("starting", state("starting")).step(event.clone(), NOW);
        assert_eq!(actions, [Action::Cancel, restore.clone()], "{event:?}");
        assert_eq!(back.state.name(), "reverting");
        // Before the link is known to be replaced, whoever replaces it says what is live.
        let (asked, actions) = service("switching", state("switching")).step(event.clone(), NOW);
        assert_eq!((asked.state.name(), actions), ("switching", vec![Action::Interrupt]));
        let late = Event::Interrupted { live: Some(id("new")) };
        let (back, actions) = asked.clone().step(late, NOW);
        assert_eq!(
            (back.state.name(), actions),
            ("reverting", vec![Action::Cancel, restore.clone()])
        );
        let before = Event::Interrupted { live: Some(id("old")) };
        let (kept, _) = asked.step(before, NOW);
        assert_eq!((kept.state, kept.running), (State::Committed {}, Some(known("old"))));
    }
    let (asked, _) = service("switching", state("switching")).step(hand(), NOW);
    let (kept, _) = asked.step(Event::Interrupted { live: Some(id("old")) }, NOW);
    let failure = kept.failure.clone().unwrap();
    assert!(failure.reverted && failure.why.contains("orders fail"), "{failure:?}");
    assert!(kept.refuses(&id("new")), "it does not come back by itself");
}

fn stuck() -> Service {
    let failed = Event::Failed { why: "no answer".to_owned() };
    let not_back = Event::RestoreFailed { why: "no start".to_owned(), back: true };
    after(to_probing(), [failed, not_back]).0
}

#[test]
fn stuck_is_left_only_by_a_start_and_probes_of_what_should_run() {
    let of = |generation, action, rollout: &str| {
        let rollout = Some(rollout.parse().unwrap());
        Event::Wish(Wish { rollout, ..wish(generation, action) })
    };
    assert_eq!((stuck().state.name(), stuck().running), ("stuck", Some(known("old"))));
    // The same release: started and probed, and then only at rest.
    let again = [
        of(6, Desired::Stage { release: id("old") }, "shop-2"),
        of(6, switch("old"), "shop-2"),
        of(6, revert("new", Some("old")), "shop-2"),
    ];
    for event in again {
        let (proving, actions) = after(stuck(), [event]);
        assert_eq!(actions, [Action::Start { deadline: NOW.plus_secs(30) }]);
        assert_eq!(proving.failure, None, "the old failure does not count again");
        let (well, _) = after(
            proving.clone(),
            [Event::Switched { killed: false }, Event::Passed, Event::Passed],
        );
        assert_eq!((well.state.name(), well.health), ("committed", Verdict::Pass));
        let (ill, actions) = after(proving, [Event::SwitchFailed { why: "no".to_owned() }]);
        let wants = ("stuck", vec![Action::Revive]);
        assert_eq!((ill.state.name(), actions), wants, "nothing is better");
        assert_eq!(ill.running, Some(known("old")));
    }
    // Another one is brought here meanwhile; where it is let go, what runs is as little proven as before.
    let (fetching, _) = after(stuck(), [of(6, switch("next"), "shop-2")]);
    assert_eq!((fetching.state.name(), fetching.failure.clone()), ("fetching", None));
    let staged = after(fetching.clone(), [Event::Staged(known("next"))]).0;
    for busy in [fetching.clone(), staged] {
        let (proving, actions) = after(busy, [of(7, switch("old"), "shop-3")]);
        assert_eq!(actions, [Action::Cancel, Action::Start { deadline: NOW.plus_secs(30) }]);
        assert_eq!(proving.state.name(), "switching", "it does not stand there stuck");
    }
    let (held, _) = after(fetching, [of(7, Desired::Hold {}, "shop-2")]);
    assert_eq!(held.state, State::Stuck { cause: StuckCause::Revert, generation: 7 });
    let hold = of(6, Desired::Hold {}, "shop-2");
    assert_eq!(after(stuck(), [hold]).0.state.name(), "stuck");
    // A person's word is no look either.
    let mut told = stuck();
    told.suspect();
    let (probing, actions) = told.resume(Some(id("old")), NOW);
    assert_eq!(actions, [Action::Probe { deadline: NOW.plus_secs(30), interval_secs: 2 }]);
    let failed = Event::Failed { why: "no answer".to_owned() };
    assert_eq!(after(probing, [failed]).0.state.name(), "stuck");
}

#[test]
fn a_failure_is_not_news_under_another_rollout() {
    let of = |generation, rollout: &str| {
        let rollout = Some(rollout.parse().unwrap());
        Event::Wish(Wish { rollout, ..wish(generation, switch("old")) })
    };
    let ill = Event::Ill { why: "500".to_owned() };
    let (machine, _) = after(committed(), [of(5, "shop-1"), ill]);
    let (same, _) = after(machine.clone(), [of(6, "shop-1")]);
    assert!(same.failure.is_some());
    assert_eq!(after(machine, [of(6, "shop-2")]).0.failure, None);
}

#[test]
fn what_nobody_watched_is_watched_anew() {
    let later = NOW.plus_secs(500);
    // In a bake the service may have to start once more: it is probed first.
    for name in ["probing", "baking"] {
        let (probing, actions) = service(name, state(name)).step(Event::Overslept, later);
        let deadline = later.plus_secs(30);
        assert_eq!(actions, [Action::Probe { deadline, interval_secs: 2 }]);
        assert_eq!(probing.state, State::Probing { target: known("new"), deadline });
    }
}

#[test]
fn a_journal_of_an_earlier_agent_is_read() {
    let json = serde_json::to_value(service("switching", state("switching"))).unwrap();
    // What is new is left out where it says nothing, so that an agent before this one reads it as well.
    assert_eq!(json["state"].as_object().unwrap().len(), 2, "{json}");
    assert!(json.get("unproven").is_none() && json.get("stopped").is_none(), "{json}");
    let read: Service = serde_json::from_value(json).unwrap();
    assert_eq!(read, service("switching", state("switching")));
}

#[test]
fn what_the_host_lacks_is_no_failure_and_is_tried_again() {
    let wished = after(committed(), [Event::Wish(wish(5, switch("new")))]).0;
    let stage = Action::Stage { release: id("new"), back: false };
    let lacking = Event::StageHeld(held());
    let (machine, actions) = after(wished, [lacking.clone()]);
    assert_eq!(actions, [Action::StageAfter(Lack::Room)]);
    assert_eq!((machine.held(), machine.failure.clone()), (Some(held()), None));
    assert!(!machine.refuses(&id("new")));
    // By itself, with a session, with a newer directive: each is a reason to try again.
    let newer = Event::Wish(wish(6, switch("new")));
    for event in [Event::StageAgain, Event::Linked, newer] {
        let (same, actions) = machine.clone().step(event, NOW);
        assert_eq!((same.held(), actions), (Some(held()), vec![stage.clone()]), "it is still so");
    }
    let (machine, _) = after(machine, [Event::Staged(known("new"))]);
    assert_eq!((machine.state.name(), machine.held()), ("staged", None));
    // At the last look before the switch as well.
    let (machine, _) = after(machine, [Event::Permitted { release: id("new"), generation: 5 }]);
    let (machine, actions) = after(machine, [lacking]);
    assert_eq!(actions[..1], [Action::StageAfter(Lack::Room)]);
    assert_eq!((machine.running.clone(), machine.failure.clone()), (Some(known("old")), None));
    // A pause of the owner holds what is staged.
    let paused = [Event::Staged(known("new")), Event::Paused(Some("new disk".to_owned()))];
    let (machine, _) = after(machine, paused);
    let held = machine.held().unwrap();
    assert!(held.lack == Lack::Paused && held.why.contains("new disk"), "{held:?}");
}
