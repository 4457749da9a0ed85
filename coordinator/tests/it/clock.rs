//! A coordinator whose clock was ahead for a while and is right again: nothing that waits for a time stands still.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use groundswell_common::time::Clock;
use groundswell_common::{HostId, Timestamp};
use groundswell_coordinator::app::SystemClock;
use groundswell_coordinator::driver::AboutProcess;
use groundswell_rollout::PhaseName;

use crate::bed::fleet;
use crate::fake::Fake;

const HOUR_MILLIS: u64 = 3_600_000;
const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 1\nhost_bake_secs = 0\n\
    [[wave]]\nname = \"all\"\nrest = true\n";

/// The system's clock, set ahead by so many milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Ahead(pub(crate) AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus_millis(self.0.load(Ordering::Relaxed))
    }
}

async fn says_behind(fake: &Fake) -> bool {
    let ends = fake.handle.query(|desk| {
        let about = AboutProcess {
            fleet: "main".parse().unwrap(),
            state: "/srv/c".into(),
            started: desk.now(),
            root_version: 1,
            root_expires: u64::MAX / 1_000,
            server_ends: desk.now().plus_secs(86_400 * 100),
        };
        desk.ends(&about)
    });
    let said = ends.await.unwrap();
    said.iter().any(|what| what.starts_with("the coordinator's clock is 120 min behind"))
}

/// One release through its wave and its bake.
async fn goes_through(fake: &Fake, id: HostId, seq: u64) {
    let mut host = fake.arrive(id, seq).await;
    let (release, rollout) = fake.publish(seq).await;
    host.commits((release, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_and_is_right_again_stops_no_bake() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let clock = Arc::new(Ahead::default());
    let fake = Fake::by(&state, Arc::clone(&clock) as Arc<dyn Clock>);
    let id = fake.enrol("h1", 50).await;
    fake.policy(POLICY).await;
    goes_through(&fake, id, 1).await;
    assert!(!says_behind(&fake).await);

    clock.0.store(2 * HOUR_MILLIS, Ordering::Relaxed);
    fake.policy(&POLICY.replace("bake_secs = 1", "bake_secs = 2")).await;
    clock.0.store(0, Ordering::Relaxed);
    goes_through(&fake, id, 2).await;
    assert!(says_behind(&fake).await, "and it is said");
    fake.stop().await;

    // The next process finds the ledger as it is.
    let fake = Fake::by(&state, clock);
    goes_through(&fake, id, 3).await;
    assert!(says_behind(&fake).await);
    fake.stop().await;
}
