//! The clock of all deadlines of the agent; certificates and documents are held against the wall alone
//! ([`wall`]). The wall is read once; from then on time moves as the monotonic clock moves, so
//! that a wall that is set while the agent runs shortens and lengthens no deadline.

use std::ops::Add;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// A moment by the host's time since its boot, which goes on while the host is suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SinceBoot(Duration);

impl SinceBoot {
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Self(Duration::try_from(now).unwrap_or_default())
    }

    /// How long ago it was.
    pub(crate) fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

impl Add<Duration> for SinceBoot {
    type Output = Self;

    fn add(self, more: Duration) -> Self {
        Self(self.0.saturating_add(more))
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.wall.plus_millis(passed)
    }
}
