//! The time that decisions go by: that of the machine's clock, and where the clock is behind the newest entry of the
//! ledger, a time that goes on from there at half speed until the clock has caught up. It never stands still, so
//! whatever waits for a time ends, and it never goes back, so the ledger's times only rise.

use std::time::Duration;

use groundswell_common::Timestamp;

/// Milliseconds of a clock that only counts, for one of the ledger's while its time is ahead.
const SLOWNESS: u64 = 2;

/// See above.
#[derive(Debug)]
pub(crate) struct Time {
    now: Timestamp,
    /// Where the counting clock stood; before the first look nobody knows.
    counted: Option<Duration>,
    ahead_millis: u64,
}

impl Time {
    pub(crate) fn new() -> Self {
        Self { now: Timestamp::from_millis(0), counted: None, ahead_millis: 0 }
    }

    /// Looks at both clocks: the machine's, and one that only counts, from any start. `newest` is the time of the
    /// ledger's newest entry.
    pub(crate) fn look(&mut self, clock: Timestamp, newest: Option<Timestamp>, counted: Duration) {
        let before = *self.counted.get_or_insert(counted);
        let passed = counted.saturating_sub(before).as_millis();
        let on = u64::try_from(passed).unwrap_or(u64::MAX) / SLOWNESS;
        let least = newest.map_or(self.now, |newest| newest.max(self.now)).plus_millis(on);
        if clock >= least {
            (self.now, self.counted, self.ahead_millis) = (clock, Some(counted), 0);
            return;
        }
        // What is no whole millisecond yet counts at the next look.
        self.counted = Some(before + Duration::from_millis(on.saturating_mul(SLOWNESS)));
        (self.now, self.ahead_millis) = (least, least.millis_since(clock));
    }

    /// The time of the newest look.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// By how much it is ahead of the machine's clock.
    pub(crate) fn ahead_millis(&self) -> u64 {
        self.ahead_millis
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_clock_that_went_back_is_waited_for_and_time_goes_on() {
        let after = Duration::from_secs;
        let mut time = Time::new();
        time.look(at(1_000), Some(at(900)), after(0));
        assert_eq!((time.now(), time.ahead_millis()), (at(1_000), 0));
        time.look(at(9_000), Some(at(1_000)), after(1));
        assert_eq!(time.now(), at(9_000), "a clock that goes ahead is believed");
        // It is set right again, while an entry has its time already.
        time.look(at(1_010), Some(at(9_000)), after(11));
        assert_eq!((time.now(), time.ahead_millis()), (at(9_005), 7_995_000));
        // However often it is looked at, it goes on at half speed.
        for millis in 0..=10_000 {
            let counted = after(11) + Duration::from_millis(millis);
            time.look(at(1_010).plus_millis(millis), Some(at(9_000)), counted);
        }
        assert_eq!(time.now(), at(9_010));
        time.look(at(16_999), Some(at(9_010)), after(16_000));
        assert_eq!(time.now(), at(16_999).plus_millis(500), "nearly there");
        time.look(at(18_010), Some(at(17_000)), after(17_011));
        assert_eq!((time.now(), time.ahead_millis()), (at(18_010), 0), "the clock has caught up");
        // A start on a ledger of the future.
        let mut again = Time::new();
        again.look(at(100), Some(at(200)), after(7_000));
        again.look(at(110), Some(at(200)), after(7_010));
        assert_eq!((again.now(), again.ahead_millis()), (at(205), 95_000));
    }
}
