//! What is stuck and down is started again by itself, with pauses that grow (docs/agent.md A2.10).

use std::time::Duration;

use groundswell_common::ServiceName;
use groundswell_common::report::HostState;
use groundswell_machine::Service;

use super::{Back, Driver};
use crate::cancel::Canceller;

/// The pause before the first look, and the longest one; each is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The wait for what is down, of one service.
#[derive(Default)]
pub(super) struct Reviver {
    waits: Option<Canceller>,
    number: u64,
    /// Tries since it was well.
    tries: u32,
}

impl Reviver {
    /// Whether this is the wait that counts.
    pub(super) fn is(&self, number: u64) -> bool {
        self.waits.is_some() && self.number == number
    }

    /// Ends the wait of a service that waits no more.
    pub(super) fn settle(&mut self, machine: &Service) {
        if !machine.revives()
            && let Some(canceller) = self.waits.take()
        {
            canceller.cancel();
        }
        if machine.state.seen() == HostState::Committed {
            self.tries = 0;
        }
    }

    fn pause(&self) -> Duration {
        PAUSES.0.saturating_mul(1 << self.tries.min(10)).min(PAUSES.1)
    }
}

impl Driver {
    /// Looks whether nothing runs of what is live, in place of the look before.
    pub(super) fn revive(&mut self, service: &ServiceName) {
        let (canceller, job) = self.job(service);
        let Some(slot) = self.slots.get_mut(service) else { return };
        let Some(running) = slot.machine.running.as_ref().map(|known| known.id) else { return };
        let reviver = &mut slot.reviver;
        let pause = reviver.pause();
        reviver.number += 1;
        reviver.tries += 1;
        if let Some(before) = reviver.waits.replace(canceller) {
            before.cancel();
        }
        let (number, service) = (reviver.number, service.clone());
        let back = self.ends.back.0.clone();
        let cancel = job.cancel.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = job.until_down(running, pause) => {
                    drop(back.send(Back::Down { service, number }).await);
                }
                () = cancel.cancelled() => {}
            }
        });
    }
}
