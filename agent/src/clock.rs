//! The agent's one clock. The wall is read once; from then on time moves as the monotonic clock moves, so
//! that a wall that is set while the agent runs shortens and lengthens no deadline.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use groundswell_common::{Clock, Timestamp};

/// Wall time at the start, monotonic since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SteadyClock {
    wall: Timestamp,
    started: Instant,
}

impl SteadyClock {
    pub(crate) fn start() -> Self {
        Self { wall: wall(), started: Instant::now() }
    }
}

/// What the wall says now: for certificates and documents, which live by it.
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wall.plus_millis(passed)
    }
}
