//! A host that stands still right where a step was decided and its work has not begun.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use groundswell_common::manifest::{Probe, RawManifest};

use super::*;
use crate::ports::{RunSpec, Work};
use crate::probe::ProbeError;

const STANDS_SECS: u64 = 45;

/// A clock that, once it is armed, is read once more before the host stands still.
#[derive(Debug)]
struct Leaping {
    clock: SteadyClock,
    reads: AtomicU64,
}

impl Leaping {
    const IDLE: u64 = u64::MAX;

    fn new() -> Self {
        Self { clock: SteadyClock::start(), reads: AtomicU64::new(Self::IDLE) }
    }
}

impl Clock for Leaping {
    fn now(&self) -> Timestamp {
        match self.reads.load(Ordering::SeqCst) {
            Self::IDLE => self.clock.now(),
            0 => {
                self.reads.store(1, Ordering::SeqCst);
                self.clock.now()
            }
            _ => self.clock.now().plus_secs(STANDS_SECS),
        }
    }
}

/// Passes, and arms the clock with that.
struct Arms(Arc<Leaping>);

impl Probes for Arms {
    fn once<'a>(&'a self, _: &'a Probe, _: &'a RunSpec) -> Work<'a, Result<(), ProbeError>> {
        let idle = Leaping::IDLE;
        let _ = self.0.reads.compare_exchange(idle, 0, Ordering::SeqCst, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }
}

#[tokio::test]
async fn a_host_that_stood_still_as_its_probes_passed_bakes_the_whole_time_afterwards() {
    let (mut host, _) = Host::simulated();
    let clock = Arc::new(Leaping::new());
    host.clock = clock.clone();
    host.probes = Arc::new(Arms(clock));
    let probed = |raw: &mut RawManifest| {
        raw.probes = vec![Probe::Tcp { address: "127.0.0.1:1".to_owned(), timeout_secs: 1 }];
    };
    let one = release(1, &[("bin/shop", b"#!/bin/sh\nexec sleep 600\n")], &[], probed);
    host.depot.put(&one);
    host.start().await;
    host.direct(1, Desired::Switch { release: one.id }, &[&one]).await;
    host.let_switch().await;
    host.until_state(HostState::Baking, Some(one.id)).await;
    let began = Instant::now();
    host.until_state(HostState::Committed, Some(one.id)).await;
    // A little of its second was over when it was seen to bake.
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    host.stop().await;
}
