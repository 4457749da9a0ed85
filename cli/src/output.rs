//! Where everything that people and programs read is printed: data to stdout, the rest to stderr, tables
//! for people, one JSON object a line with `--json`. Text from elsewhere never reaches a terminal raw.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use groundswell_common::{Environment, Timestamp, reason, telling_line};
use serde::Serialize;

use crate::exit::Misuse;

/// Where and how to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    /// Whether programs read it.
    pub(crate) json: bool,
}

impl Out {
    /// One line of data.
    pub(crate) fn line(self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(io::stdout().lock(), "{text}")
    }

    /// An answer: its JSON on one line, or what `show` makes of it for people.
    pub(crate) fn answer<T: Serialize>(
        self,
        answer: &T,
        show: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json { serde_json::to_string(answer)? } else { show(answer) };
        self.line(text.trim_end())?;
        Ok(())
    }

    /// A line for people that is no data.
    pub(crate) fn note(self, text: impl fmt::Display) -> io::Result<()> {
        writeln!(io::stderr().lock(), "{text}")
    }
}

/// Whether somebody can be asked, before anything is found out for the question.
pub(crate) fn may_ask(what: &str, yes: bool) -> Result<(), Misuse> {
    if yes || io::stdin().is_terminal() { Ok(()) } else { Err(Misuse::NeedsYes(what.to_owned())) }
}

/// Asks before something that cannot be taken back. Without a terminal only `--yes` will do.
pub(crate) fn confirm(out: Out, what: &str, yes: bool) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    may_ask(what, yes)?;
    let mut stderr = io::stderr().lock();
    write!(stderr, "{}? [y/N] ", clean(what))?;
    stderr.flush()?;
    drop(stderr);
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let yes = ["y", "yes"].contains(&line.trim().to_lowercase().as_str());
    if !yes {
        out.note("nothing was done")?;
    }
    Ok(yes)
}

/// Text without control characters: what a host or a commit says must not move the cursor.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Characters of a cause in a table; `show` has the whole text.
const CAUSE_MAX_CHARS: usize = 60;

/// The cause of a failure in one line, without what the service printed.
pub(crate) fn cause(text: &str) -> String {
    clean(reason(text))
}

/// The cause as a cell of a table.
pub(crate) fn cause_cell(text: &str) -> String {
    cut(&cause(text), CAUSE_MAX_CHARS)
}

/// The line that tells most of what a service printed before it failed, where a failure's text has any.
pub(crate) fn last_words(text: &str) -> Option<String> {
    telling_line(text).map(clean)
}

/// The present by this machine's clock; one before 1970 reads as 1970.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A moment in UTC to the second.
pub(crate) fn utc(at: Timestamp) -> String {
    let text = at.to_string();
    text.split_once('.').map_or(text.clone(), |(whole, _)| format!("{whole}Z"))
}

/// A moment in UTC, and how long ago it is.
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    let secs = now.millis_since(at) / 1000;
    let ago = match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        3_600..172_800 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    };
    format!("{} ({ago} ago)", utc(at))
}

/// A number with its noun.
pub(crate) fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// At most `max` characters of a text.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A table of left-aligned columns.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with the heads of its columns.
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()] }
    }

    /// Appends a row; an empty cell shows as `-`.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cell = |text: String| if text.is_empty() { "-".to_owned() } else { clean(&text) };
        self.rows.push(cells.into_iter().map(cell).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// An optional value as text, empty for none.
pub(crate) fn or_empty<T: fmt::Display>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// Where something is, behind a name: nothing where a service has no environments.
pub(crate) fn place(environment: Option<&Environment>) -> String {
    environment.map(|name| format!(" in {name}")).unwrap_or_default()
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_no_cell_moves_the_cursor() {
        let mut table = Table::new(&["HOST", "STATE", "WHY"]);
        table.row(["wéb-1".into(), "committed".into(), String::new()]);
        table.row(["a".into(), "x".into(), "\u{1b}[2Jgone\nnext".into()]);
        assert_eq!(
            table.to_string(),
            "HOST   STATE      WHY\nwéb-1  committed  -\na      x           [2Jgone next\n"
        );
    }

    #[test]
    fn a_failure_is_told_by_its_cause_and_the_last_words_of_the_service() {
        let text =
            "probe http://127.0.0.1:80: refused; its last output:\nstarting\nno such file\n\n";
        assert_eq!(cause(text), "probe http://127.0.0.1:80: refused");
        assert_eq!(last_words(text).as_deref(), Some("no such file"));
        assert_eq!((cause("plain"), last_words("plain")), ("plain".to_owned(), None));
        assert_eq!(cause_cell(&"x".repeat(1_300)).chars().count(), CAUSE_MAX_CHARS);
    }

    #[test]
    fn moments_are_told_in_utc_and_by_their_age() {
        let at = Timestamp::from_secs(1_795_417_929);
        let told = |secs| when(at, at.plus_secs(secs)).replace("2026-11-23T07:12:09Z ", "");
        assert_eq!(told(59), "(59 s ago)");
        assert_eq!(told(60), "(1 min ago)");
        assert_eq!(told(7_200), "(2 h ago)");
        assert_eq!(told(3 * 86_400), "(3 d ago)");
        assert_eq!((count(1, "host"), count(0, "host")), ("1 host".into(), "0 hosts".into()));
    }

    #[test]
    fn long_text_is_cut_by_characters() {
        assert_eq!(cut("ääää", 4), "ääää");
        assert_eq!(cut("ääääb", 4), "äää…");
    }

    #[test]
    fn without_a_terminal_only_yes_will_do() {
        let out = Out { json: false };
        assert!(confirm(out, "revert shop", true).expect("yes"));
        if !io::stdin().is_terminal() {
            let error = confirm(out, "revert shop", false).expect_err("no terminal");
            assert_eq!(
                error.downcast_ref::<Misuse>(),
                Some(&Misuse::NeedsYes("revert shop".into()))
            );
        }
    }
}
