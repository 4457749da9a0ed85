//! Waits between tries to connect: exponential, capped, with full jitter, set by the coordinator.

use std::time::Duration;

use groundswell_common::wire::Backoff;

/// Longest wait that is believed, in milliseconds: an hour.
const CAP_MAX_MS: u64 = 3_600_000;

/// The waits of one connection's tries.
#[derive(Debug)]
pub struct Retry {
    backoff: Backoff,
    tries: u32,
}

impl Retry {
    /// Starts with no try made.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        Self { backoff, tries: 0 }
    }

    /// Takes what the coordinator sets, without forgetting the tries made.
    pub fn set(&mut self, backoff: Backoff) {
        self.backoff = backoff;
    }

    /// A connection held: the next failure starts from the base again.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// The wait before the next try: between 0 and min(cap, base * 2^tries).
    #[must_use]
    pub fn next_wait(&mut self) -> Duration {
        // Without randomness every host would come back at once; the bound itself is then the wait.
        let random = getrandom::u64().unwrap_or(u64::MAX);
        self.wait_with(random)
    }

    fn wait_with(&mut self, random: u64) -> Duration {
        let cap = self.backoff.cap_ms.clamp(1, CAP_MAX_MS);
        let base = self.backoff.base_ms.clamp(1, cap);
        let bound = base.saturating_mul(1_u64 << self.tries.min(32)).min(cap);
        self.tries = self.tries.saturating_add(1);
        let share = (u128::from(random) * (u128::from(bound) + 1)) >> 64;
        Duration::from_millis(u64::try_from(share).unwrap_or(bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_cap_and_spread_over_the_whole_range() {
        let mut retry = Retry::new(Backoff { base_ms: 100, cap_ms: 1_000 });
        let most: Vec<u128> = (0..6).map(|_| retry.wait_with(u64::MAX).as_millis()).collect();
        assert_eq!(most, [100, 200, 400, 800, 1_000, 1_000]);
        retry.reset();
        assert_eq!(retry.wait_with(0).as_millis(), 0);
        assert_eq!(retry.wait_with(u64::MAX / 2).as_millis(), 100);
    }

    #[test]
    fn a_hostile_backoff_is_bounded() {
        let mut retry = Retry::new(Backoff { base_ms: u64::MAX, cap_ms: u64::MAX });
        assert_eq!(retry.wait_with(u64::MAX).as_millis(), u128::from(CAP_MAX_MS));
        let mut retry = Retry::new(Backoff { base_ms: 0, cap_ms: 0 });
        assert!(retry.wait_with(u64::MAX).as_millis() <= 1);
    }
}
