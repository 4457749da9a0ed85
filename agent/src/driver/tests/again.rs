//! What is stuck comes back without a desk, and a tree that was changed does not come back unseen.

use std::path::PathBuf;

use super::hand::settings;
use super::*;
use crate::ports::Lacking;
use crate::{hand, why};

/// A host that went back from `two` to `one`, which did not start.
async fn stuck_on_one() -> (Host, Arc<SimulatedUnits>, [Made; 2]) {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    units.broken.lock().unwrap().extend(["1.0".to_owned(), "2.0".to_owned()]);
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    let stuck = host.until("stuck", |standing| standing.state == HostState::Stuck).await;
    assert_eq!(stuck.running, Some(one.id));
    let why = stuck.failure.unwrap().why;
    assert!(why.ends_with("the last line"), "systemd's own word is told: {why}");
    (host, units, [one, two])
}

#[tokio::test]
async fn what_was_stopped_by_us_is_brought_back_by_us_once_the_host_lets_it() {
    let (mut host, units, [one, two]) = stuck_on_one().await;
    // Tried again while nothing has changed, it is as it was.
    host.until("tried", |standing| standing.state == HostState::Switching).await;
    let stuck = host.until("as it was", |standing| standing.state == HostState::Stuck).await;
    let failure = stuck.failure.unwrap();
    assert_eq!((failure.release, failure.step), (two.id, FailedStep::Revert));
    assert!(failure.why.starts_with("switch failed: start shop: "), "{}", failure.why);
    units.broken.lock().unwrap().clear();
    let well = host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!(well.health, Verdict::Pass);
    host.stop().await;
}

#[tokio::test]
async fn a_rollout_of_what_is_live_starts_and_probes_it() {
    let (mut host, units, [one, _]) = stuck_on_one().await;
    units.broken.lock().unwrap().clear();
    hand::pause(&settings(&host), None, "so that it is not tried by itself").unwrap();
    host.settings.nudge();
    host.until_has("the pause", |service| service.paused.is_some()).await;
    host.direct(3, Desired::Stage { release: one.id }, &[&one]).await;
    host.until_state(HostState::Committed, Some(one.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn a_person_tries_again_what_is_stuck_and_nothing_else() {
    let (mut host, units, [one, _]) = stuck_on_one().await;
    let own = settings(&host);
    hand::pause(&own, None, "so that it is not tried by itself").unwrap();
    host.settings.nudge();
    host.until_has("the pause", |service| service.paused.is_some()).await;
    let told = why::to_text(&why::why(&own, None).unwrap());
    assert!(told.contains("'groundswell-agent retry shop'"), "{told}");
    assert!(told.contains("the last line"), "the cause is named: {told}");
    // No step is printed beside it that a desk would refuse.
    host.direct(3, Desired::Hold {}, &[]).await;
    let report = &mut host.running().said;
    let heard = |said: &Option<Said>| said.as_ref().is_some_and(|s| s.report.generation == 3);
    timeout(SOON, report.wait_for(heard)).await.unwrap().unwrap();
    let told = why::to_text(&why::why(&own, None).unwrap());
    assert!(!told.contains("swell "), "{told}");
    units.broken.lock().unwrap().clear();
    hand::retry(&own, &shop()).unwrap();
    host.settings.nudge();
    host.until_state(HostState::Committed, Some(one.id)).await;
    assert!(!host.layout().retry(&shop()).exists(), "it was asked for once");
    let refused = hand::retry(&own, &shop()).unwrap_err().to_string();
    assert!(refused.contains("it is committed, not stuck"), "{refused}");
    let refused = hand::revert(&own, &shop(), "x").unwrap_err().to_string();
    assert!(refused.contains("no release before it is known"), "{refused}");
    host.stop().await;
}

/// Changes a file of a release on the disk.
fn change(host: &Host, release: ReleaseId) -> PathBuf {
    let path = host.layout().release(&shop(), &release).join("tree/bin/shop");
    std::fs::write(&path, b"nobody signed this").unwrap();
    path
}

/// A host with `two` live, and `one` before it changed.
async fn on_two() -> (Host, Arc<SimulatedUnits>, [Made; 2], PathBuf) {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    let changed = change(&host, one.id);
    (host, units, [one, two], changed)
}

#[tokio::test]
async fn an_ordered_way_back_brings_what_was_changed_anew() {
    let (mut host, units, [one, two], changed) = on_two().await;
    let was = units.calls.lock().unwrap().len();
    host.direct(3, Desired::Revert { from: two.id, to: Some(one.id) }, &[]).await;
    host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!(crate::drift::check(&host.layout(), &shop(), &one.id, &|| false).ok(), Some(()));
    assert_ne!(std::fs::read(changed).unwrap(), b"nobody signed this");
    let calls = units.calls.lock().unwrap()[was..].to_vec();
    assert_eq!(calls, ["restart 1.0"], "what ran was not touched before");
    host.stop().await;
}

#[tokio::test]
async fn what_the_host_could_not_start_is_no_place_to_go_back_to_while_what_runs_works() {
    let (mut host, units, [one, two], changed) = on_two().await;
    // Nothing was changed; the account that its unit names is gone.
    std::fs::remove_file(changed).unwrap();
    let was = units.calls.lock().unwrap().len();
    host.depot.put(&one);
    let why = "shop.service runs as ghost, who is not on this host; 'useradd'".to_owned();
    let lacking = Lacking { lack: Lack::User, why };
    *units.lacking.lock().unwrap() = Some(("1.0".to_owned(), lacking));
    host.direct(3, Desired::Revert { from: two.id, to: Some(one.id) }, &[]).await;
    let held = host.until_held(Lack::User).await;
    assert!(held.why.contains("ghost"), "{}", held.why);
    assert_eq!((held.release, host.live()), (one.id, Some(two.id)));
    assert_eq!(units.calls.lock().unwrap().len(), was, "what runs was not touched");
    // Mended, it goes back by itself.
    *units.lacking.lock().unwrap() = None;
    host.until_state(HostState::Committed, Some(one.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn what_cannot_be_brought_anew_stays_away_while_what_runs_works() {
    let (mut host, units, [one, two], _) = on_two().await;
    host.depot.clear();
    let was = units.calls.lock().unwrap().len();
    host.direct(3, Desired::Revert { from: two.id, to: Some(one.id) }, &[]).await;
    let held = host.until_held(Lack::Bytes).await;
    assert_eq!((held.release, host.live()), (one.id, Some(two.id)));
    assert_eq!(units.calls.lock().unwrap().len(), was);
    host.stop().await;
}

#[tokio::test]
async fn a_release_that_failed_leaves_for_what_was_changed_and_that_is_told_at_once() {
    let (mut host, units, [_, two], _) = on_two().await;
    let three = good(3);
    host.depot.put(&three);
    units.broken.lock().unwrap().insert("3.0".to_owned());
    host.direct(4, Desired::Switch { release: three.id }, &[&three]).await;
    let request = host.asked().await;
    let changed = change(&host, two.id);
    host.permit(&request, 2_000).await;
    host.until("back", |s| s.failure.as_ref().is_some_and(|f| f.reverted)).await;
    assert_eq!(host.live(), Some(two.id));
    let note = format!("{} of the live release was changed", changed.display());
    host.until_has("the drift", |service| service.notes.iter().any(|n| n.contains(&note))).await;
    host.stop().await;
}
