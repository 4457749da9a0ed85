//! What a host lacks, jobs that do not end and a bus that breaks: none of it is held against a release.

use groundswell_common::manifest::RawManifest;

use super::*;
use crate::ports::Lacking;

fn lacking(lack: Lack) -> Lacking {
    Lacking { lack, why: "unit shop.service is not on this host".to_owned() }
}

/// A host with `one` live, and `two` at the depot.
async fn on_one() -> (Host, Arc<SimulatedUnits>, [Made; 2]) {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    (host, units, [one, two])
}

#[tokio::test]
async fn what_is_lacking_is_found_before_a_permit_is_asked_for_and_cures_itself() {
    let (mut host, units, [one, two]) = on_one().await;
    let missing = Some(("2.0".to_owned(), lacking(Lack::UnitNotLoaded)));
    *units.lacking.lock().unwrap() = missing.clone();
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    let held = host.until_held(Lack::UnitNotLoaded).await;
    assert_eq!((held.release, held.why), (two.id, lacking(Lack::UnitNotLoaded).why));
    let standing = host.until_state(HostState::Fetching, Some(one.id)).await;
    assert_eq!(standing.failure, None);
    // Nobody does anything but install it.
    *units.lacking.lock().unwrap() = None;
    let request = host.asked().await;
    // It goes away again right before the switch.
    *units.lacking.lock().unwrap() = missing;
    host.permit(&request, 2_000).await;
    assert!(matches!(host.say().await, Say::Done { used: false, .. }), "not a unit was touched");
    host.until_held(Lack::UnitNotLoaded).await;
    assert_eq!(host.live(), Some(one.id));
    *units.lacking.lock().unwrap() = None;
    host.let_switch().await;
    let done = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!(done.failure, None);
    host.stop().await;
}

#[tokio::test]
async fn bytes_that_cannot_be_had_hold_and_come_later() {
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.start().await;
    host.direct(1, Desired::Stage { release: one.id }, &[&one]).await;
    let held = host.until_held(Lack::Bytes).await;
    assert!(held.why.contains("other bytes came"), "{}", held.why);
    host.depot.put(&one);
    host.until_state(HostState::Staged, None).await;
    host.until_has("no lack", |service| service.held.is_none()).await;
    host.stop().await;
}

#[tokio::test]
async fn a_release_that_names_nothing_takes_no_place_of_one_that_does() {
    let (mut host, units, [one, _]) = on_one().await;
    let empty = |raw: &mut RawManifest| raw.command.clear();
    let files = release(3, &[("index.html", b"hello")], &[], empty);
    host.depot.put(&files);
    host.direct(2, Desired::Stage { release: files.id }, &[&files]).await;
    let failed = host.until("the refusal", |standing| standing.failure.is_some()).await;
    let failure = failed.failure.unwrap();
    assert_eq!(failure.step, FailedStep::Stage);
    assert!(failure.why.contains("names nothing that this host could run"), "{}", failure.why);
    assert_eq!(host.live(), Some(one.id));
    assert!(!units.calls.lock().unwrap().iter().any(|call| call.starts_with("stop")));
    host.stop().await;
}

#[tokio::test]
async fn a_start_that_does_not_end_is_taken_back_at_the_deadline_and_an_order_does_not_wait_for_it()
{
    let (mut host, units, [one, two]) = on_one().await;
    units.hang.lock().unwrap().insert("2.0".to_owned());
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    let back = host.until("back", |s| s.failure.as_ref().is_some_and(|f| f.reverted)).await;
    assert_eq!(back.running, Some(one.id));
    let failure = back.failure.unwrap();
    assert_eq!(
        (failure.step, &*failure.why),
        (FailedStep::Switch, "the job did not end; its last output:\nthe last line")
    );
    // With an hour to wait, the order counts at once.
    host.direct(3, Desired::Hold {}, &[]).await;
    let long = |raw: &mut groundswell_common::directive::RawDirective| {
        raw.services[0].probe_deadline_secs = 3_600;
    };
    let message = fixture::directive_with(4, Desired::Switch { release: two.id }, &[&two], long);
    host.hear(Heard::Directive(Box::new(message))).await;
    host.let_switch().await;
    host.until_state(HostState::Switching, Some(two.id)).await;
    host.direct(5, Desired::Revert { from: two.id, to: Some(one.id) }, &[]).await;
    host.until_state(HostState::Committed, Some(one.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn a_release_that_does_not_obey_its_stop_speaks_not_against_the_next_one() {
    let (mut host, units, [_, two]) = on_one().await;
    units.stays.send_replace(true);
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    let well = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!((well.running, well.failure, well.health), (Some(two.id), None, Verdict::Pass));
    assert!(units.calls.lock().unwrap().iter().any(|call| call == "kill 2.0"));
    host.stop().await;
}

#[tokio::test]
async fn what_does_not_obey_its_stop_is_killed_on_the_way_back() {
    let (mut host, units, [one, two]) = on_one().await;
    units.hang.lock().unwrap().extend(["1.0".to_owned(), "2.0".to_owned()]);
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    host.until_state(HostState::Reverting, Some(one.id)).await;
    // The simulated start of the old release hangs for good: killed, and then given up.
    let stuck = host.until("stuck", |standing| standing.state == HostState::Stuck).await;
    assert!(stuck.failure.unwrap().why.contains("the job did not end"));
    let calls = units.calls.lock().unwrap().clone();
    let at = |call: &str| calls.iter().position(|said| said == call).expect(call);
    assert!(at("give up 2.0") < at("kill 1.0") && at("kill 1.0") < at("give up 1.0"), "{calls:?}");
    units.hang.lock().unwrap().clear();
    // Left by a start and probes of what is live.
    host.direct(3, Desired::Switch { release: one.id }, &[&one]).await;
    let well = host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!((well.health, well.failure), (Verdict::Pass, None));
    host.stop().await;
}

#[tokio::test]
async fn a_bus_that_is_away_is_waited_for_in_a_switch_and_in_a_bake() {
    let (mut host, units, [one, two]) = on_one().await;
    units.away.send_replace(true);
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    host.until_state(HostState::Switching, Some(two.id)).await;
    until_called(&units, "give up 2.0").await;
    units.away.send_replace(false);
    host.until_state(HostState::Baking, Some(two.id)).await;
    units.away.send_replace(true);
    // Twice the bake: what was not seen is neither well nor ill.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(host.until_state(HostState::Baking, Some(two.id)).await.failure, None);
    units.away.send_replace(false);
    let done = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!((done.previous, done.failure), (Some(one.id), None));
    host.stop().await;
}

async fn until_called(units: &SimulatedUnits, call: &str) {
    let called = async {
        while !units.calls.lock().unwrap().iter().any(|said| said == call) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, called).await.expect(call);
}

#[tokio::test]
async fn what_a_person_stopped_stays_stopped_and_is_said() {
    let (mut host, units, [one, _]) = on_one().await;
    units.calls.lock().unwrap().clear();
    *units.stopped.lock().unwrap() = Some("shop.service".to_owned());
    let stopped = host.until("stopped", |s| s.health == Verdict::Inconclusive).await;
    assert_eq!((stopped.state, stopped.failure), (HostState::Committed, None));
    let said = host.until_has("the note", |service| !service.notes.is_empty()).await;
    assert!(said.notes[0].starts_with("shop.service was stopped on this host"), "{said:?}");
    assert_eq!(*units.calls.lock().unwrap(), [""; 0], "nothing is started");
    *units.stopped.lock().unwrap() = None;
    host.until("well again", |s| s.health == Verdict::Pass && s.running == Some(one.id)).await;
    host.until_has("no note", |service| service.notes.is_empty()).await;
    host.stop().await;
}
