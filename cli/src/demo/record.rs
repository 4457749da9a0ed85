//! What happened in the demo, as measured: which version every host really answered with and when, and
//! the marks between. Read by the summary and the picture; decides nothing.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC, now.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What one host answered with, from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Milliseconds since the start.
    pub(super) from_ms: u64,
    /// The version; `None` where nothing answered.
    pub(super) version: Option<String>,
}

/// One host's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Track {
    /// The host.
    pub(super) host: String,
    /// Its wave in the newest plan, counted from 0.
    pub(super) wave: Option<u32>,
    /// In order.
    pub(super) spans: Vec<Span>,
}

/// Something worth a line in the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Milliseconds since the start.
    pub(super) at_ms: u64,
    /// In a few words.
    pub(super) what: String,
}

/// The whole history.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// When it began, milliseconds since 1970-01-01 UTC.
    pub(super) start_ms: u64,
    /// By name.
    pub(super) tracks: Vec<Track>,
    /// In order.
    pub(super) marks: Vec<Mark>,
}

impl Record {
    /// An empty history of `hosts` that begins now.
    pub(super) fn new<'a>(hosts: impl Iterator<Item = &'a str>, start_ms: u64) -> Self {
        let track = |host: &str| {
            let nothing = Span { from_ms: 0, version: None };
            Track { host: host.to_owned(), wave: None, spans: vec![nothing] }
        };
        Self { start_ms, tracks: hosts.map(track).collect(), marks: Vec::new() }
    }

    /// Milliseconds since the start.
    pub(super) fn elapsed_ms(&self) -> u64 {
        now_ms().saturating_sub(self.start_ms)
    }

    /// Notes something that happens now.
    pub(super) fn mark(&mut self, what: &str) {
        self.marks.push(Mark { at_ms: self.elapsed_ms(), what: what.to_owned() });
    }

    /// Notes what the host at `at` answers with; the version before when that is a change from one
    /// version to another.
    pub(super) fn saw(&mut self, at: usize, version: Option<String>) -> Option<Change> {
        let from_ms = self.elapsed_ms();
        let track = self.tracks.get_mut(at)?;
        if track.spans.last().is_some_and(|last| last.version == version) {
            return None;
        }
        let before = track.spans.iter().rev().find_map(|span| span.version.clone());
        track.spans.push(Span { from_ms, version: version.clone() });
        let after = version.filter(|version| before.as_ref() != Some(version))?;
        Some(Change { host: track.host.clone(), before, after })
    }

    /// What the host at `at` answers with now.
    pub(super) fn version(&self, at: usize) -> Option<&str> {
        self.tracks.get(at)?.spans.last()?.version.as_deref()
    }
}

impl Track {
    /// When it first answered with `version`, milliseconds since the start.
    pub(super) fn first(&self, version: &str) -> Option<u64> {
        let is = |span: &&Span| span.version.as_deref() == Some(version);
        self.spans.iter().find(is).map(|span| span.from_ms)
    }

    /// Since when it has answered with what it last answered with, milliseconds since the start.
    pub(super) fn settled(&self) -> Option<u64> {
        let last = self.spans.iter().rev().find_map(|span| span.version.as_ref())?;
        let other = |span: &Span| span.version.as_ref().is_some_and(|version| version != last);
        let after = self.spans.iter().rposition(other).map_or(0, |at| at + 1);
        let rest = self.spans.get(after..)?;
        rest.iter().find(|span| span.version.is_some()).map(|span| span.from_ms)
    }
}

/// A host that answers with another version than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The host.
    pub(super) host: String,
    /// What it answered with before; `None` for nothing yet.
    pub(super) before: Option<String>,
    /// What it answers with now.
    pub(super) after: String,
}

/// Seconds with one decimal.
pub(super) fn secs(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_no_change_and_a_return_is() {
        let mut record = Record::new(["web-01"].into_iter(), now_ms());
        let v = |text: &str| Some(text.to_owned());
        let change = record.saw(0, v("1")).expect("first");
        assert_eq!((change.before, change.after.as_str()), (None, "1"));
        assert_eq!(record.saw(0, v("1")), None);
        assert_eq!(record.saw(0, None), None, "a pause is kept but no change");
        assert_eq!(record.saw(0, v("1")), None, "the same version again is none either");
        assert_eq!(record.saw(0, v("2")).and_then(|c| c.before), v("1"));
        assert_eq!(record.saw(0, v("1")).and_then(|c| c.before), v("2"));
        assert_eq!(record.version(0), Some("1"));
        assert_eq!(record.tracks[0].spans.len(), 6);
    }

    #[test]
    fn the_times_of_a_track_are_its_first_and_its_last_return() {
        let span =
            |from_ms, version: Option<&str>| Span { from_ms, version: version.map(str::to_owned) };
        let spans = vec![
            span(0, None),
            span(10, Some("1")),
            span(20, Some("2")),
            span(30, None),
            span(40, Some("1")),
        ];
        let track = Track { host: "a".into(), wave: None, spans };
        assert_eq!(
            (track.first("1"), track.first("2"), track.first("3")),
            (Some(10), Some(20), None)
        );
        assert_eq!(track.settled(), Some(40));
        assert_eq!(secs(12_345), "12.3 s");
    }
}
