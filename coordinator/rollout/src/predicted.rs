//! How long a wave takes when nothing fails, by the history of its hosts. Owns the estimate; decides
//! nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::plan::{HostFacts, PlannedWave};

/// Seconds from the opening of the wave to the end of its bake: hosts take slots in plan order, each
/// for as long as it needs. Windows, guards and gates are not counted.
pub(crate) fn wave_secs((wave, _): &(PlannedWave, Vec<&HostFacts>)) -> u64 {
    let slots = usize::try_from(wave.max_in_flight).unwrap_or(usize::MAX);
    let mut busy: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
    let mut last = 0;
    for host in &wave.hosts {
        let free = match busy.len() < slots {
            true => 0,
            false => busy.pop().map_or(0, |Reverse(free)| free),
        };
        let done = free.saturating_add(host.needs_secs);
        busy.push(Reverse(done));
        last = last.max(done);
    }
    last.saturating_add(wave.bake_secs)
}
