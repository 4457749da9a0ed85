//! What a person on the host does: A6.3 to A6.5.

use super::*;
use crate::config::Settings;
use crate::{hand, why};

pub(super) fn settings(host: &Host) -> Settings {
    let text = format!("state_dir = {:?}\n", host.dir.path());
    let file = host.dir.path().join("agent.toml");
    std::fs::write(&file, text).unwrap();
    crate::config::load(&file).unwrap()
}

/// A host that ran `one` and runs `two`, both committed.
async fn runs_two() -> (Host, [Made; 2]) {
    let (mut host, _) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.start().await;
    for (generation, made) in [(1, &one), (2, &two)] {
        host.depot.put(made);
        host.direct(generation, Desired::Switch { release: made.id }, &[made]).await;
        host.let_switch().await;
        host.until_state(HostState::Committed, Some(made.id)).await;
    }
    (host, [one, two])
}

#[tokio::test]
async fn a_person_puts_the_release_before_back_while_the_agent_runs_or_not() {
    for running in [true, false] {
        let (mut host, [one, two]) = runs_two().await;
        if !running {
            host.stop().await;
        }
        hand::revert(&settings(&host), &shop(), "it eats the disk").unwrap();
        if !running {
            host.start().await;
        }
        let back = host.until("back", |s| s.failure.as_ref().is_some_and(|f| f.reverted)).await;
        let failure = back.failure.unwrap();
        assert_eq!(failure.why, "put back by a person on the host: it eats the disk");
        assert_eq!((back.state, back.running), (HostState::Committed, Some(one.id)));
        // The coordinator still wants the newer one; nothing is fetched or asked for it.
        host.direct(3, Desired::Switch { release: two.id }, &[&two]).await;
        let report = &mut host.running().said;
        let newer = |said: &Option<Said>| said.as_ref().is_some_and(|s| s.report.generation == 3);
        let seen = timeout(SOON, report.wait_for(newer)).await.unwrap().unwrap().clone();
        assert_eq!(seen.unwrap().report.services[0].state, HostState::Committed);
        assert_eq!(host.live(), Some(one.id));
        assert!(hand::asked(&host.layout(), &shop()).is_none(), "it was asked for once");
        let held = why::to_text(&why::why(&settings(&host), None).unwrap());
        assert!(held.contains("failed here (put back by a person"), "{held}");
        host.stop().await;
    }
}

#[tokio::test]
async fn a_request_leaves_nothing_but_what_was_live_when_it_was_made() {
    let (mut host, [one, two]) = runs_two().await;
    host.stop().await;
    hand::revert(&settings(&host), &shop(), "it eats the disk").unwrap();
    let path = host.layout().leave(&shop());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&two.id.to_string(), &one.id.to_string())).unwrap();
    host.start().await;
    let layout = host.layout();
    let standing = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!(standing.failure, None);
    assert!(!layout.leave(&shop()).exists(), "it is over");
    host.stop().await;
}

#[tokio::test]
async fn a_pause_holds_a_switch_until_it_ends() {
    let (mut host, [_, two]) = runs_two().await;
    let three = good(3);
    host.depot.put(&three);
    for service in [None, Some(shop())] {
        hand::pause(&settings(&host), service.as_ref(), "hands off").unwrap();
    }
    let says = |said: &Option<Said>| {
        let refusal = said.as_ref().and_then(|said| said.report.refusal.clone());
        refusal.is_some_and(|refusal| refusal.code == "paused_on_host")
    };
    timeout(SOON, host.running().said.wait_for(says)).await.expect("reported").unwrap();
    host.direct(3, Desired::Switch { release: three.id }, &[&three]).await;
    host.until_state(HostState::Staged, Some(two.id)).await;
    assert!(host.running().says.try_recv().is_err(), "no permit is asked for");
    hand::resume(&settings(&host), None).unwrap();
    host.stop().await;
    host.start().await;
    host.until_state(HostState::Staged, Some(two.id)).await;
    let held = why::to_text(&why::why(&settings(&host), None).unwrap());
    assert!(held.contains("paused on this host: hands off"), "the service still is: {held}");
    assert!(host.running().says.try_recv().is_err(), "no permit is asked for");
    hand::resume(&settings(&host), Some(&shop())).unwrap();
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(three.id)).await;
    host.stop().await;
}

#[test]
fn a_request_needs_a_reason_and_a_service() {
    let (host, _) = Host::simulated();
    let settings = settings(&host);
    let long = "x".repeat(1025);
    for reason in ["", "  ", long.as_str()] {
        let refused = hand::pause(&settings, None, reason);
        assert!(matches!(refused, Err(hand::HandError::Reason)), "{reason:?}");
    }
    let refused = hand::revert(&settings, &shop(), "why not");
    assert!(matches!(refused, Err(hand::HandError::Service(_))));
    assert_eq!(hand::paused(&host.layout(), &shop()), None);
}
