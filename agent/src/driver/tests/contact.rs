//! Confirm by contact: A2.12.

use groundswell_common::directive::RawDirective;

use super::*;
use crate::fixture::directive_with;

/// The number of the report that says this.
async fn reported(host: &mut Host, state: HostState) -> u64 {
    let says = |said: &Option<Said>| {
        said.as_ref().is_some_and(|said| said.report.services.iter().any(|s| s.state == state))
    };
    let report = &mut host.running().said;
    let found = timeout(SOON, report.wait_for(says)).await.expect("reported").unwrap().clone();
    found.unwrap().report.seq
}

/// A host with `one` live; `two` is switched to under a directive that asks for contact.
async fn switched(probe_deadline_secs: u64) -> (Host, [Made; 2]) {
    let (mut host, _) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    let asks = |raw: &mut RawDirective| {
        raw.services[0].confirm_by_contact = true;
        raw.services[0].probe_deadline_secs = probe_deadline_secs;
    };
    let action = Desired::Switch { release: two.id };
    let message = directive_with(2, action, &[&two], asks);
    host.hear(Heard::Directive(Box::new(message))).await;
    host.let_switch().await;
    (host, [one, two])
}

#[tokio::test]
async fn only_a_report_sent_after_the_switch_confirms_it() {
    let (mut host, [_, two]) = switched(60).await;
    let seq = reported(&mut host, HostState::Probing).await;
    // All that was said before the switch is safe: that proves nothing of the network now.
    host.hear(Heard::Ack(seq - 1)).await;
    host.hear(Heard::Directive(Box::new(directive(3, Desired::Hold {}, &[])))).await;
    let report = &mut host.running().said;
    let newer = |said: &Option<Said>| said.as_ref().is_some_and(|s| s.report.generation == 3);
    let later = timeout(SOON, report.wait_for(newer)).await.expect("reported").unwrap().clone();
    assert_eq!(later.unwrap().report.services[0].state, HostState::Probing);
    host.hear(Heard::Ack(seq)).await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_agent_waits_for_contact_as_well() {
    let (mut host, [_, two]) = switched(60).await;
    reported(&mut host, HostState::Probing).await;
    host.stop().await;
    host.start().await;
    let seq = reported(&mut host, HostState::Probing).await;
    assert_eq!(host.live(), Some(two.id));
    host.hear(Heard::Ack(seq)).await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn without_contact_the_release_before_is_back_in_time() {
    let (mut host, [one, two]) = switched(2).await;
    let back = host.until("reverted", |s| s.failure.as_ref().is_some_and(|f| f.reverted)).await;
    let failure = back.failure.unwrap();
    assert_eq!((failure.release, failure.step), (two.id, FailedStep::Probe));
    assert_eq!(failure.why, "no contact with the coordinator within 2 s of the switch");
    assert_eq!((back.running, host.live()), (Some(one.id), Some(one.id)));
    host.stop().await;
}
