//! What the demo measured, as a table for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::record::{Track, secs};
use super::release::{BROKEN, FIRST, GOOD};
use super::story::{Halt, Reverted, Told, halt_text};
use crate::output::Table;

/// The measured numbers, stable for programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    hosts: Vec<Row<'a>>,
    halt: &'a Halt,
    revert: &'a Reverted,
    ledger_entries: u64,
    whole_ms: u64,
}

/// One host: milliseconds from the start to its first answer with each version.
#[derive(Debug, Serialize)]
struct Row<'a> {
    host: &'a str,
    wave: Option<&'a str>,
    first_ms: Option<u64>,
    good_ms: Option<u64>,
    broken_ms: Option<u64>,
    settled_ms: Option<u64>,
}

impl<'a> Summary<'a> {
    /// The summary of a story.
    pub(super) fn new(told: &'a Told) -> Self {
        let wave =
            |track: &Track| told.waves.get(usize::try_from(track.wave?).ok()?).map(String::as_str);
        let row = |track: &'a Track| Row {
            host: &track.host,
            wave: wave(track),
            first_ms: track.first(FIRST),
            good_ms: track.first(GOOD),
            broken_ms: track.first(BROKEN),
            settled_ms: track.settled(),
        };
        Self {
            hosts: told.record.tracks.iter().map(row).collect(),
            halt: &told.halt,
            revert: &told.reverted,
            ledger_entries: told.ledger_entries,
            whole_ms: told.record.elapsed_ms(),
        }
    }
}

/// The summary for people.
pub(super) fn tables(told: &Told) -> String {
    let summary = Summary::new(told);
    let mut table = Table::new(&["HOST", "WAVE OF 1.1.0", FIRST, GOOD, BROKEN, "1.1.0 SINCE"]);
    let at = |ms: Option<u64>| ms.map(secs).unwrap_or_default();
    for row in &summary.hosts {
        table.row([
            row.host.to_owned(),
            row.wave.unwrap_or_default().to_owned(),
            at(row.first_ms),
            at(row.good_ms),
            at(row.broken_ms),
            at(row.settled_ms),
        ]);
    }
    let reverted = &told.reverted;
    let mut text = format!("\nwhen each host first answered with a release, over HTTP:\n{table}\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "halt    {}", halt_text(&told.halt));
    let _ = writeln!(
        text,
        "revert  {BROKEN} answered on {} alone, for {}; back everywhere {} after it was published",
        reverted.host,
        secs(reverted.live_ms),
        secs(reverted.whole_ms)
    );
    let _ =
        writeln!(text, "ledger  {} entries, chain computed again: it holds", told.ledger_entries);
    let (hosts, whole) = (summary.hosts.len(), secs(summary.whole_ms));
    let _ = write!(text, "all {hosts} hosts answer with {GOOD} and are healthy; {whole} in all");
    text
}
