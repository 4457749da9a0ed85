//! A file of what is live that somebody changed: reported, until it is as released again.

use super::*;

fn drifted(said: &Option<Said>) -> Option<String> {
    let note = said.as_ref()?.report.refusal.clone()?;
    note.code.strip_prefix("drifted: ").map(str::to_owned)
}

#[tokio::test]
async fn a_changed_file_of_what_is_live_is_reported_until_it_is_back() {
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.depot.put(&one);
    host.start_on(&one).await;
    host.stop().await;

    let file = host.layout().release(&shop(), &one.id).join("tree/bin/shop");
    let released = std::fs::read(&file).unwrap();
    std::fs::write(&file, b"#!/bin/sh\nexec sleep 99\n").unwrap();
    host.start().await;
    let found = |said: &Option<Said>| drifted(said).is_some();
    let report = timeout(SOON, host.running().said.wait_for(found)).await.unwrap().unwrap().clone();
    assert!(drifted(&report).unwrap().ends_with("bin/shop"), "{report:?}");
    assert_eq!(
        report.unwrap().report.services[0].running,
        Some(one.id),
        "and nothing else happens"
    );

    std::fs::write(&file, released).unwrap();
    tokio::time::pause();
    tokio::time::advance(crate::driver::drifts::EVERY).await;
    tokio::time::resume();
    let gone = |said: &Option<Said>| drifted(said).is_none();
    drop(timeout(SOON, host.running().said.wait_for(gone)).await.unwrap().unwrap());
    host.stop().await;
}

#[tokio::test]
async fn a_live_link_that_somebody_changed_is_put_back_and_told() {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    let (layout, calls) = (host.layout(), units.calls.lock().unwrap().len());
    for (change, word) in [(None, "removed"), (Some(one.id), "pointed at")] {
        switch::restore(&layout, &shop(), change.as_ref()).unwrap();
        host.settings.nudge();
        let told = |service: &ServiceCondition| service.notes.iter().any(|n| n.contains(word));
        host.until_has(word, told).await;
        host.until_state(HostState::Committed, Some(two.id)).await;
        assert_eq!(host.live(), Some(two.id), "{word}");
    }
    assert_eq!(units.calls.lock().unwrap().len(), calls, "nothing was started or stopped");
    // While the agent is away, too.
    host.stop().await;
    switch::restore(&layout, &shop(), None).unwrap();
    host.start().await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!(host.live(), Some(two.id));
    host.stop().await;
}
