//! What a switch and the way back do to the units, as the release asks.

use groundswell_common::manifest::Switch;

use super::*;

fn switching(seq: u64, switch: Switch, unit: &str) -> Made {
    let body = format!("#!/bin/sh\nexec sleep 60{seq}\n");
    release(seq, &[("bin/shop", body.as_bytes())], &[], |raw| {
        (raw.units, raw.switch) = (vec![unit.to_owned()], switch);
    })
}

/// What the supervisor was told, without repetitions, the digests named.
fn told(units: &SimulatedUnits, releases: [&Made; 2]) -> Vec<String> {
    let calls = std::mem::take(&mut *units.calls.lock().unwrap());
    let [one, two] = releases.map(|made| made.id.to_string());
    let mut calls: Vec<String> =
        calls.iter().map(|call| call.replace(&one, "ONE").replace(&two, "TWO")).collect();
    calls.dedup();
    calls
}

/// What happens at a switch from the first release to the second one, and on the ordered way back; or where the
/// second one does not start.
async fn calls_of(one: &Made, two: &Made, fails: bool) -> Vec<String> {
    let (mut host, units) = Host::simulated();
    host.depot.put(one);
    host.depot.put(two);
    host.start_on(one).await;
    if fails {
        units.broken.lock().unwrap().insert("2.0".to_owned());
    }
    told(&units, [one, two]);
    host.direct(2, Desired::Switch { release: two.id }, &[two]).await;
    host.let_switch().await;
    if fails {
        let back = |standing: &Standing| {
            standing.failure.is_some() && standing.state == HostState::Committed
        };
        host.until("the old release", back).await;
    } else {
        host.until_state(HostState::Committed, Some(two.id)).await;
        host.direct(3, Desired::Revert { from: two.id, to: Some(one.id) }, &[]).await;
        host.until_state(HostState::Committed, Some(one.id)).await;
    }
    host.stop().await;
    told(&units, [one, two])
}

/// These calls in a row are among the calls.
#[track_caller]
fn assert_has(calls: &[String], row: &[String]) {
    assert!(calls.windows(row.len()).any(|calls| calls == row), "{row:?} are not in {calls:?}");
}

/// The link may have been replaced after the permit was over, in a stall that the agent did not outlive: nobody noted
/// that it was not.
#[tokio::test]
async fn a_link_that_a_dead_agent_replaced_goes_back_and_is_asked_for_anew() {
    let (mut host, units) = Host::simulated();
    let [one, two] = [1, 2].map(|seq| switching(seq, Switch::Restart, "shop.service"));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.asked().await;
    host.stop().await;
    let layout = host.as_in_a_switch();
    crate::switch::point(&layout, &shop(), &two.id).unwrap();
    told(&units, [&one, &two]);
    host.start().await;
    let request = host.asked().await;
    assert_eq!(request.release, two.id);
    assert_eq!(crate::switch::live(&layout, &shop()).unwrap(), Some(one.id));
    assert!(told(&units, [&one, &two]).iter().all(|call| call == "ensure 1.0 shop.service"));
    host.permit(&request, 2_000).await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn overlapping_releases_are_started_before_those_before_them_are_stopped() {
    let [one, two] = [1, 2].map(|seq| switching(seq, Switch::Overlap, "shop@.service"));
    let (first, second) = ("shop@ONE.service", "shop@TWO.service");
    let forth = [format!("start 2.0 {second}"), format!("stop 2.0 {first}")];
    let back = [format!("start 1.0 {first}"), format!("stop 1.0 {second}")];
    let calls = calls_of(&one, &two, false).await;
    assert_has(&calls, &[&forth[..], &back].concat());
    // What does not start takes nothing away from what runs.
    let calls = calls_of(&one, &two, true).await;
    assert_has(&calls, &[&forth[..1], &back].concat());
}

#[tokio::test]
async fn a_unit_is_reloaded_both_ways_and_restarted_after_a_failure() {
    let [one, two] = [1, 2].map(|seq| switching(seq, Switch::Reload, "shop.service"));
    let call = |verb: &str, version: &str| format!("{verb} {version} shop.service");
    let calls = calls_of(&one, &two, false).await;
    let changes: Vec<&String> = calls.iter().filter(|call| !call.starts_with("ensure")).collect();
    assert_eq!(changes, [&call("reload", "2.0"), &call("reload", "1.0")]);
    let calls = calls_of(&one, &two, true).await;
    let changes: Vec<&String> = calls.iter().filter(|call| !call.starts_with("ensure")).collect();
    assert_eq!(changes, [&call("reload", "2.0"), &call("restart", "1.0")]);
}

#[tokio::test]
async fn from_a_unit_to_a_template_the_one_before_is_stopped_last() {
    let one = switching(1, Switch::Restart, "shop.service");
    let two = switching(2, Switch::Overlap, "shop@.service");
    let calls = calls_of(&one, &two, false).await;
    let rows = [
        ["start 2.0 shop@TWO.service", "stop 2.0 shop.service"],
        ["stop 1.0 shop@TWO.service", "restart 1.0 shop.service"],
    ];
    for row in rows {
        assert_has(&calls, &row.map(str::to_owned));
    }
}

#[tokio::test]
async fn the_process_supervisor_refuses_what_it_cannot_do() {
    let mut host = Host::new(|layout| Arc::new(ProcessUnits::new(layout)));
    let two = switching(2, Switch::Reload, "shop.service");
    host.depot.put(&two);
    host.start().await;
    host.direct(1, Desired::Stage { release: two.id }, &[&two]).await;
    let failed = host.until("the refusal", |standing| standing.failure.is_some()).await;
    let failure = failed.failure.unwrap();
    assert_eq!(failure.step, FailedStep::Stage);
    assert!(failure.why.contains("needs supervisor = \"systemd\""), "{}", failure.why);
    host.stop().await;
}

#[tokio::test]
async fn what_ends_with_the_host_speaks_against_nobody() {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    // The host goes down in the middle of the switch, and systemd cancels the job.
    *units.ending.lock().unwrap() = true;
    units.broken.lock().unwrap().insert("2.0".to_owned());
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    host.until_state(HostState::Switching, Some(two.id)).await;
    host.stop().await;
    // It is up again, and the release works.
    *units.ending.lock().unwrap() = false;
    units.broken.lock().unwrap().clear();
    host.start().await;
    let well = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!(well.failure, None);
    host.stop().await;
}
