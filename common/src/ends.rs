//! What ends one day: said beforehand, and the cause named once it has ended.

use crate::time::Timestamp;

/// Days beforehand from which it is said.
pub const WARN_DAYS: u64 = 60;

const DAY_MILLIS: u64 = 86_400_000;

/// That `what` ends soon or has ended; `None` where that is further away than [`WARN_DAYS`].
#[must_use]
pub fn ends_soon(what: &str, end: Timestamp, now: Timestamp) -> Option<String> {
    let left = end.millis_since(now);
    if left > WARN_DAYS * DAY_MILLIS {
        return None;
    }
    let days = |millis: u64| match millis / DAY_MILLIS {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    Some(match left {
        0 => format!("{what} ended {} ago, at {end}", days(now.millis_since(end))),
        left => format!("{what} ends in {}, at {end}", days(left)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_from_sixty_days_before_it_on() {
        let day = 86_400;
        let end = Timestamp::from_secs(1_000 * day);
        let at = "1972-09-27T00:00:00.000Z";
        for (now, want) in [
            (939 * day, None),
            (940 * day - 1, None),
            (940 * day, Some(format!("root 1 ends in 60 days, at {at}"))),
            (999 * day, Some(format!("root 1 ends in 1 day, at {at}"))),
            (1_000 * day - 1, Some(format!("root 1 ends in less than a day, at {at}"))),
            (1_000 * day, Some(format!("root 1 ended less than a day ago, at {at}"))),
            (1_003 * day, Some(format!("root 1 ended 3 days ago, at {at}"))),
        ] {
            assert_eq!(ends_soon("root 1", end, Timestamp::from_secs(now)), want, "{now}");
        }
    }
}
