//! When hosts may switch: recurring windows in a time zone, and freezes. Owns the rules of clocks and
//! zones, by the IANA data that the program carries; never reads a clock or a file.

use groundswell_common::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

/// Days in a week of windows; Monday is 0.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Longest window, in minutes: a week.
pub const WINDOW_MAX_MINUTES: u32 = 7 * 24 * 60;
/// How far ahead an opening is looked for, in days: beyond it a freeze that hides every window is
/// taken for one without end.
const AHEAD_MAX_DAYS: i64 = 400;
/// How far ahead windows are laid out when none is hidden, in days: every window comes once a week.
const WEEK_DAYS: i64 = 8;

/// A recurring time in which hosts may switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which it begins; Monday is 0. Never empty.
    pub days: Vec<u8>,
    /// Minutes after midnight at which it begins, by the clocks of the zone. Where clocks skip that
    /// moment it begins after the gap, where they repeat it with the first.
    pub start_minute: u32,
    /// How long it lasts by a clock that no one sets, in minutes; it may cross midnight.
    pub minutes: u32,
    /// The zone's IANA name.
    pub zone: String,
}

/// A time in which no host may switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// When it begins.
    pub from: Timestamp,
    /// When it is over.
    pub until: Timestamp,
    /// For people.
    pub why: String,
}

impl Freeze {
    /// Whether it holds at a second after the epoch.
    fn covers(&self, secs: u64) -> bool {
        (self.from.as_secs()..self.until.as_secs()).contains(&secs)
    }
}

/// Whether hosts may switch at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    /// They may.
    Open {
        /// Until when; `None` for always.
        until: Option<Timestamp>,
    },
    /// No window is open.
    Shut {
        /// When the next one opens; `None` where none does within a year.
        until: Option<Timestamp>,
    },
    /// A freeze.
    Frozen {
        /// When it is over; another freeze or no window may follow.
        until: Timestamp,
        /// Its reason.
        why: String,
    },
}

/// Whether hosts may switch at `now`. A freeze comes before a window; `until` of an opening is never
/// behind the begin of the next freeze.
#[must_use]
pub fn opening(windows: &[Window], freezes: &[Freeze], now: Timestamp) -> Opening {
    let now = now.as_secs();
    if let Some(freeze) = freezes.iter().find(|freeze| freeze.covers(now)) {
        return Opening::Frozen { until: freeze.until, why: freeze.why.clone() };
    }
    let next_freeze = freezes.iter().map(|freeze| freeze.from.as_secs()).filter(|at| *at > now);
    let next_freeze = next_freeze.min();
    if windows.is_empty() {
        return Opening::Open { until: next_freeze.map(Timestamp::from_secs) };
    }
    let spans = spans(windows, now, WEEK_DAYS);
    if let Some(end) = open_until(&spans, now) {
        let end = next_freeze.map_or(end, |freeze| freeze.min(end));
        return Opening::Open { until: Some(Timestamp::from_secs(end)) };
    }
    let free = |spans: &[(u64, u64)]| {
        spans.iter().filter_map(|span| first_free(*span, freezes, now)).min()
    };
    let until = free(&spans).or_else(|| free(&self::spans(windows, now, AHEAD_MAX_DAYS)));
    Opening::Shut { until: until.map(Timestamp::from_secs) }
}

/// Reads a moment as RFC 3339 writes it, with its offset; `None` for any other text, and before 1970.
#[must_use]
pub fn moment(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_secs(u64::try_from(instant.as_second()).ok()?))
}

/// Whether the program knows the zone.
#[must_use]
pub fn zone_exists(name: &str) -> bool {
    zone(name).is_some()
}

fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// Begin and end of each window that is open or begins from `now` on, at most `days` ahead; in
/// seconds after the epoch.
fn spans(windows: &[Window], now: u64, days: i64) -> Vec<(u64, u64)> {
    let mut spans = Vec::new();
    for window in windows {
        let Some((zone, today)) = zone(&window.zone).zip(instant(now)) else { continue };
        let today = today.to_zoned(zone.clone()).date();
        // A window of a week may have begun as long ago, by another date.
        for offset in -WEEK_DAYS..=days {
            let span = jiff::ToSpan::days(offset);
            let Ok(date) = today.checked_add(span) else { continue };
            let Some(begin) = begins(window, date, &zone) else { continue };
            let end = begin.saturating_add(u64::from(window.minutes) * 60);
            if end > now {
                spans.push((begin, end));
            }
        }
    }
    spans.sort_unstable();
    spans
}

fn instant(secs: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(i64::try_from(secs).ok()?).ok()
}

/// When the window begins on a date; `None` where it does not on that day of the week.
fn begins(window: &Window, date: Date, zone: &TimeZone) -> Option<u64> {
    let day = u8::try_from(date.weekday().to_monday_zero_offset()).ok()?;
    if !window.days.contains(&day) {
        return None;
    }
    let (hour, minute) = (window.start_minute / 60, window.start_minute % 60);
    let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
    let at = date.at(hour, minute, 0, 0);
    // In a gap this is the moment by the offset before it, which is behind the gap; in a fold the
    // first of the two.
    let zoned = zone.to_ambiguous_zoned(at).compatible().ok()?;
    u64::try_from(zoned.timestamp().as_second()).ok()
}

/// The end of what is open at `now`, windows that touch taken together; `None` where nothing is.
fn open_until(spans: &[(u64, u64)], now: u64) -> Option<u64> {
    let mut end = None;
    for (begin, until) in spans {
        match end {
            None if *begin <= now => end = Some(*until),
            Some(open) if *begin <= open => end = Some(open.max(*until)),
            None | Some(_) => {}
        }
    }
    end
}

/// The first moment after `now` in a span that no freeze covers.
fn first_free((begin, end): (u64, u64), freezes: &[Freeze], now: u64) -> Option<u64> {
    let mut at = begin.max(now.saturating_add(1));
    // Each round leaves one freeze behind for good.
    for _ in 0..=freezes.len() {
        match freezes.iter().find(|freeze| freeze.covers(at)) {
            Some(freeze) => at = freeze.until.as_secs(),
            None => return (at < end).then_some(at),
        }
    }
    None
}
