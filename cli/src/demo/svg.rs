//! The picture of a demo: one row a host, coloured by what it really answered, with the marks above.
//! Made from the record alone, so that it shows what happened and nothing else.

use std::fmt::Write as _;

use super::record::{Record, Track, secs};
use super::release::{ALL, BROKEN, FIRST, GOOD};
use crate::svg::{escape, open};

/// Pixels: the whole width, the column of names, a row, the space above the rows.
const WIDTH: u64 = 900;
const LEFT: u64 = 150;
const RIGHT: u64 = 30;
const ROW: u64 = 20;
const TOP: u64 = 96;
/// Fill of a host that answers nothing.
const NOTHING: &str = "#e3e6ea";

/// Draws the record.
pub(super) fn draw(record: &Record, waves: &[String]) -> String {
    let end_ms = record.marks.iter().map(|mark| mark.at_ms).max().unwrap_or(0) + 3_000;
    let x = |ms: u64| LEFT + (WIDTH - LEFT - RIGHT) * ms.min(end_ms) / end_ms;
    let mut tracks: Vec<&Track> = record.tracks.iter().collect();
    tracks.sort_by_key(|track| (track.wave.unwrap_or(u32::MAX), track.host.clone()));
    let rows = u64::try_from(tracks.len()).unwrap_or(0) * ROW;
    let height = TOP + rows + 58;
    let hosts = tracks.len();
    let title = format!("Three releases rolling through {hosts} hosts, as measured by swell demo");
    let mut out = open((WIDTH, height), &title);
    // Writing to a string cannot fail.
    let _ = write!(out, "{}", legend());
    for (track, y) in tracks.iter().zip((TOP..).step_by(20)) {
        row(&mut out, track, (y, waves), (end_ms, &x));
    }
    for (at, mark) in record.marks.iter().enumerate() {
        let (x, y) = (x(mark.at_ms), if at % 2 == 0 { TOP - 28 } else { TOP - 12 });
        let bottom = TOP + rows + 4;
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\" stroke=\"#444\" \
             stroke-dasharray=\"3 3\"/><text x=\"{}\" y=\"{y}\" fill=\"#222\">{}</text>",
            y + 4,
            x + 3,
            escape(&mark.what)
        );
    }
    axis(&mut out, end_ms, (TOP + rows + 24, &x));
    out.push_str("</svg>\n");
    out
}

fn colour(version: Option<&str>) -> &'static str {
    match version {
        Some(FIRST) => "#6f9bd1",
        Some(GOOD) => "#3fa66b",
        Some(BROKEN) => "#d64545",
        Some(_) | None => NOTHING,
    }
}

fn legend() -> String {
    let mut out =
        "<text x=\"16\" y=\"28\" font-size=\"15\" fill=\"#111\">What every host answered \
                   over HTTP, second by second</text>\n"
            .to_owned();
    let entries = ALL.iter().map(|version| (Some(*version), *version)).chain([(None, "nothing")]);
    for ((version, text), x) in entries.zip((540..).step_by(84)) {
        let fill = colour(version);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"18\" width=\"12\" height=\"12\" fill=\"{fill}\"/>\
             <text x=\"{}\" y=\"28\" fill=\"#222\">{text}</text>",
            x + 17
        );
    }
    out
}

fn row(
    out: &mut String,
    track: &Track,
    (y, waves): (u64, &[String]),
    (end_ms, x): (u64, &impl Fn(u64) -> u64),
) {
    let wave = track.wave.and_then(|wave| waves.get(usize::try_from(wave).ok()?));
    let (name, wave) = (escape(&track.host), escape(wave.map_or("", String::as_str)));
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"16\" y=\"{0}\" fill=\"#222\">{name}</text>\
         <text x=\"76\" y=\"{0}\" fill=\"#777\">{wave}</text>",
        y + 13
    );
    let ends = track.spans.iter().skip(1).map(|span| span.from_ms).chain([end_ms]);
    for (span, to) in track.spans.iter().zip(ends) {
        let (from, to) = (x(span.from_ms), x(to));
        let (width, fill) = (to.saturating_sub(from), colour(span.version.as_deref()));
        let _ = writeln!(
            out,
            "<rect x=\"{from}\" y=\"{}\" width=\"{width}\" height=\"{}\" fill=\"{fill}\"/>",
            y + 2,
            ROW - 4
        );
    }
}

fn axis(out: &mut String, end_ms: u64, (y, x): (u64, &impl Fn(u64) -> u64)) {
    for at in (0..=end_ms).step_by(5_000) {
        let (x, text) = (x(at), secs(at).replace(".0", ""));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"#777\">{text}</text>");
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Mark, Span};
    use super::*;

    #[test]
    fn the_picture_holds_every_span_and_mark_and_escapes_text() {
        let spans = vec![
            Span { from_ms: 0, version: None },
            Span { from_ms: 1_000, version: Some(FIRST.into()) },
            Span { from_ms: 2_000, version: Some(BROKEN.into()) },
        ];
        let track = Track { host: "a<b".into(), wave: Some(0), spans };
        let marks = vec![Mark { at_ms: 7_000, what: "publish & go".into() }];
        let record = Record { start_ms: 0, tracks: vec![track], marks };
        let text = draw(&record, &["canary".into()]);
        assert!(text.contains("a&lt;b") && text.contains("publish &amp; go"));
        assert!(text.contains(">canary<"));
        // 720 pixels for 10 seconds.
        assert!(
            text.contains("<rect x=\"150\" y=\"98\" width=\"72\" height=\"16\" fill=\"#e3e6ea\"/>")
        );
        assert!(
            text.contains("<rect x=\"222\" y=\"98\" width=\"72\" height=\"16\" fill=\"#6f9bd1\"/>")
        );
        assert!(
            text.contains(
                "<rect x=\"294\" y=\"98\" width=\"576\" height=\"16\" fill=\"#d64545\"/>"
            )
        );
    }
}
