//! Permits and halts: after the answer to a halt nobody begins to switch.

use std::time::Duration;

use groundswell_common::directive::Action;
use groundswell_common::limits::PERMIT_VALID_MS;
use groundswell_common::report::HostState;
use groundswell_common::wire::Deny;
use groundswell_common::{ReleaseId, RolloutId, api};
use groundswell_rollout::PhaseName;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

use crate::bed::{PATIENCE, fleet};
use crate::fake::{Fake, Fakehost};

const VALID: Duration = Duration::from_millis(PERMIT_VALID_MS);

struct Ready {
    _place: TempDir,
    fake: Fake,
    host: Fakehost,
    rollout: RolloutId,
    /// What to ask a permit for.
    what: (ReleaseId, u64),
    /// Just before the driver was made.
    began: Instant,
}

/// A host that has staged a release and holds the slot for it.
async fn ready() -> Ready {
    let (place, _) = fleet();
    let began = Instant::now();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.put_policy().await;
    let (release, rollout) = fake.publish(1).await;
    let generation = host.wished(Action::Stage { release }).await;
    host.report((HostState::Staged, None), (release, generation)).await;
    let generation = host.wished(Action::Switch { release }).await;
    Ready { _place: place, fake, host, rollout, what: (release, generation), began }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_permit_is_granted_while_those_of_the_process_before_may_be_out() {
    let mut ready = ready().await;
    let first = ready.host.ask(ready.what).await;
    // On a machine too slow to ask in time there was nothing to deny; the next check holds anyway.
    assert!(first == Err(Deny::Starting) || ready.began.elapsed() >= VALID, "{first:?}");
    ready.host.ask_when_started(ready.what).await.unwrap();
    assert!(ready.began.elapsed() >= VALID, "granted {:?} after the start", ready.began.elapsed());
    ready.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_right_after_a_start_waits_for_permits_of_the_process_before() {
    let ready = ready().await;
    let halt = ready.fake.halt(&ready.rollout);
    timeout(PATIENCE, halt).await.unwrap().unwrap();
    assert!(ready.began.elapsed() >= VALID, "answered {:?} after the start", ready.began.elapsed());
    ready.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_is_answered_when_the_permit_is_returned_and_none_is_granted_afterwards() {
    let mut ready = ready().await;
    let nonce = ready.host.ask_when_started(ready.what).await.unwrap();
    let granted = Instant::now();
    let halt = ready.fake.halt(&ready.rollout);
    ready.fake.phase_is(&ready.rollout, PhaseName::Halted).await;
    assert_eq!(ready.host.ask(ready.what).await, Err(Deny::Stopped));
    // The nonce of another question is no return.
    ready.host.done([0xee; 16]).await;
    ready.fake.phase_is(&ready.rollout, PhaseName::Halted).await;
    assert!(!halt.is_finished() || granted.elapsed() >= VALID, "answered with a permit out");
    ready.host.done(nonce).await;
    let answer = timeout(PATIENCE, halt).await.unwrap().unwrap();
    assert!(granted.elapsed() < VALID, "time freed the answer, not the return");
    assert_eq!(answer.rollout.phase, api::PhaseName::Halted);
    assert_eq!(ready.host.ask(ready.what).await, Err(Deny::Stopped));
    ready.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_waits_for_a_silent_host_exactly_as_long_as_its_permit_is_valid() {
    let mut ready = ready().await;
    ready.host.ask_when_started(ready.what).await.unwrap();
    let granted_by = Instant::now();
    let halting = ready.fake.halt(&ready.rollout);
    // The session is gone; the host may still hold the permit.
    ready.fake.handle.leave(ready.host.host, 1).await.unwrap();
    let answer = timeout(PATIENCE, halting).await.unwrap().unwrap();
    // The grant is a moment older than its answer's arrival here.
    let waited = granted_by.elapsed() + Duration::from_millis(250);
    assert!(waited >= VALID, "answered {waited:?} after the grant");
    assert!(answer.halt_ms < PERMIT_VALID_MS + 1_500, "{} ms", answer.halt_ms);
    ready.fake.stop().await;
}
