//! Takes releases off the disk that nobody goes back to.

use groundswell_common::{ServiceName, chain};
use groundswell_machine::State;

use super::Driver;
use crate::prune;

impl Driver {
    pub(super) fn prune(&mut self, service: &ServiceName) {
        let fetching =
            self.slots.values().any(|slot| matches!(slot.machine.state, State::Fetching { .. }));
        let Some(slot) = self.slots.get_mut(service) else { return };
        let (layout, service) = (self.outside.layout.clone(), service.clone());
        let depot = self.outside.depot.clone();
        let kept = slot.machine.kept();
        let earlier = slot.pruning.take();
        slot.pruning = Some(tokio::spawn(async move {
            if let Some(earlier) = earlier {
                drop(earlier.await);
            }
            let work = move || {
                prune::prune(&layout, &service, &kept)?;
                if fetching { Ok(()) } else { depot.clear() }
            };
            if let Ok(Err(fault)) = tokio::task::spawn_blocking(work).await {
                tracing::warn!(error = %chain(&fault), "old releases stay");
            }
        }));
    }
}
