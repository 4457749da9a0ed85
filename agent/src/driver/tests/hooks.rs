//! Hooks around a switch: their order, what follows when one fails, and that nothing of them is left.

use groundswell_common::manifest::{Hook, HookPoint};

use super::*;

const ALL: [HookPoint; 4] =
    [HookPoint::Drain, HookPoint::PreSwitch, HookPoint::PostSwitch, HookPoint::Failed];

fn hooked(seq: u64, points: &[HookPoint], line: &str) -> Made {
    hooked_for(1, seq, points, line)
}

fn hooked_for(timeout_secs: u64, seq: u64, points: &[HookPoint], line: &str) -> Made {
    let hook = |at: &HookPoint| Hook { at: *at, argv: vec!["bin/hook".to_owned()], timeout_secs };
    let hooks = points.iter().map(hook).collect();
    let (hook, shop) = (format!("#!/bin/sh\n{line}\n"), format!("#!/bin/sh\nexec sleep 60{seq}\n"));
    let files = [("bin/hook", hook.as_bytes()), ("bin/shop", shop.as_bytes())];
    release(seq, &files, &[], |raw| raw.hooks = hooks)
}

/// A host on which the first release is committed, and the second one is due.
async fn due(host: &mut Host, one: &Made, two: &Made) {
    host.depot.put(one);
    host.depot.put(two);
    host.start_on(one).await;
    host.direct(2, Desired::Stage { release: two.id }, &[two]).await;
    host.until_state(HostState::Staged, Some(one.id)).await;
    host.direct(3, Desired::Switch { release: two.id }, &[two]).await;
}

/// What happens at the second switch with these hooks broken: the calls in order, and the failure.
async fn second_switch(broken: &[&str]) -> (Vec<String>, Option<Failure>) {
    let (mut host, units) = Host::simulated();
    let (one, two) = (hooked(1, &ALL, ""), hooked(2, &ALL, ""));
    due(&mut host, &one, &two).await;
    units.broken.lock().unwrap().extend(broken.iter().map(|title| (*title).to_owned()));
    changes(&units);
    host.let_switch().await;
    let ended = |s: &Standing| {
        let (failed, running) = (s.failure.is_some(), s.running);
        s.state == HostState::Committed && (failed || running == Some(two.id))
    };
    let standing = host.until("the end", ended).await;
    let runs = if standing.failure.is_some() { one.id } else { two.id };
    assert_eq!(standing.running, Some(runs));
    assert!(!host.layout().drained(&shop()).exists(), "nothing is drained in the end");
    assert!(!host.layout().hook(&shop()).exists(), "no hook is due in the end");
    host.stop().await;
    (changes(&units), standing.failure)
}

const PREPARED: [&str; 2] = ["hook drain of shop 1.0", "hook pre-switch of shop 2.0"];
const STARTED: [&str; 2] = ["restart 2.0", "hook post-switch of shop 2.0"];
const FAILED: &str = "hook failed of shop 2.0";
const BACK: [&str; 2] = ["restart 1.0", "hook post-switch of shop 1.0"];

#[tokio::test]
async fn hooks_run_in_their_order_and_a_drain_that_fails_holds_nobody() {
    for broken in [&[][..], &[PREPARED[0]]] {
        let (calls, failure) = second_switch(broken).await;
        assert_eq!(calls, [PREPARED, STARTED].concat(), "{broken:?}");
        assert_eq!(failure, None);
    }
}

#[tokio::test]
async fn a_pre_switch_that_fails_switches_nothing_and_what_was_drained_serves_again() {
    let (calls, failure) = second_switch(&[PREPARED[1]]).await;
    assert_eq!(calls, [&PREPARED[..], &[FAILED], &BACK].concat());
    let failure = failure.unwrap();
    assert_eq!((failure.step, failure.reverted), (FailedStep::Stage, false));
    assert_eq!(
        failure.why,
        "hook pre-switch of 2.0: it is broken; its last output:\nits last line"
    );
}

#[tokio::test]
async fn a_post_switch_that_fails_goes_back_whatever_becomes_of_the_hooks_on_the_way() {
    for more in [&[][..], &[FAILED, BACK[1]]] {
        let (calls, failure) = second_switch(&[&[STARTED[1]], more].concat()).await;
        assert_eq!(calls, [&PREPARED[..], &STARTED, &[FAILED], &BACK].concat(), "{more:?}");
        let failure = failure.unwrap();
        assert_eq!((failure.step, failure.reverted), (FailedStep::Switch, true));
        assert!(failure.why.starts_with("hook post-switch of 2.0: it is broken"), "{failure:?}");
    }
}

#[tokio::test]
async fn what_was_drained_when_the_agent_died_is_started_again() {
    let (mut host, units) = Host::simulated();
    let (one, two) = (hooked(1, &ALL, ""), hooked(2, &ALL, ""));
    due(&mut host, &one, &two).await;
    host.asked().await;
    host.stop().await;
    // As the journal and the link stand when the agent dies in the drain.
    let layout = host.as_in_a_switch();
    std::fs::write(layout.drained(&shop()), "").unwrap();
    changes(&units);
    host.start().await;
    host.until_state(HostState::Staged, Some(one.id)).await;
    let started = async {
        let mut calls = Vec::new();
        while calls != BACK {
            calls.extend(changes(&units));
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, started).await.expect("the release that was drained serves again");
    host.stop().await;
}

#[tokio::test]
async fn a_hook_that_takes_too_long_is_killed_with_its_children_and_its_output_reported() {
    let mut host = Host::new(|layout| Arc::new(ProcessUnits::new(layout)));
    let child = host.dir.path().join("child");
    let hangs = format!(
        "echo \"$GROUNDSWELL_HOOK of $GROUNDSWELL_SERVICE $GROUNDSWELL_VERSION hangs\"\n\
         sleep 601 &\necho $! > {}\nwait",
        child.display()
    );
    let (one, two) = (good(1), hooked(2, &[HookPoint::PostSwitch], &hangs));
    due(&mut host, &one, &two).await;
    host.let_switch().await;
    let back = host.until("reverted", |s| s.failure.as_ref().is_some_and(|f| f.reverted)).await;
    let failure = back.failure.unwrap();
    assert_eq!((failure.release, failure.step), (two.id, FailedStep::Switch));
    assert_eq!(
        failure.why,
        "hook post-switch of 2.0: no end within 1 s; its last output:\n\
         post-switch of shop 2.0 hangs"
    );
    assert_eq!(back.running, Some(one.id));
    let child = std::fs::read_to_string(child).unwrap();
    let stat = format!("/proc/{}/stat", child.trim());
    let gone = async {
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, gone).await.expect("the child is killed, too");
    host.stop().await;
    host.units.stop_all().await;
}

#[tokio::test]
async fn a_mark_that_the_disk_does_not_take_holds_the_release_and_drains_nobody() {
    let (mut host, units) = Host::simulated();
    let (one, two) = (hooked(1, &ALL, ""), hooked(2, &ALL, ""));
    due(&mut host, &one, &two).await;
    let mark = host.layout().drained(&shop()).with_file_name(".drained.new");
    std::fs::create_dir(&mark).unwrap();
    changes(&units);
    host.let_switch().await;
    assert!(host.until_held(Lack::Bytes).await.why.contains(".drained.new"));
    assert_eq!(changes(&units), [""; 0]);
    std::fs::remove_dir(&mark).unwrap();
    host.let_switch().await;
    let done = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!(done.failure, None);
    host.stop().await;
}

#[tokio::test]
async fn a_live_link_that_cannot_be_read_in_a_switch_is_waited_for_and_said() {
    let mut host = Host::new(|layout| Arc::new(ProcessUnits::new(layout)));
    let (one, two) = (good(1), hooked_for(60, 2, &[HookPoint::PreSwitch], "exec sleep 600"));
    due(&mut host, &one, &two).await;
    host.let_switch().await;
    host.until_state(HostState::Switching, Some(one.id)).await;
    let (live, aside) = (host.layout().current(&shop()), host.dir.path().join("aside"));
    std::fs::rename(&live, &aside).unwrap();
    std::fs::create_dir(&live).unwrap();
    host.direct(4, Desired::Revert { from: two.id, to: Some(one.id) }, &[&one]).await;
    let held = host.until_held(Lack::Journal).await;
    assert_eq!(held.release, two.id);
    assert!(held.why.contains("read the live link"), "{held:?}");
    let waits = host.until("it waits", |s| s.state == HostState::Switching).await;
    assert_eq!(waits.failure, None);
    std::fs::remove_dir(&live).unwrap();
    std::fs::rename(&aside, &live).unwrap();
    let back = host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!(back.failure, None);
    host.until_has("nothing lacks", |service| service.held.is_none()).await;
    host.stop().await;
    host.units.stop_all().await;
}
