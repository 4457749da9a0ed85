//! The last lines that units wrote to the system's journal. Asked of `journalctl`, which reads every
//! form the journal may have; bounded in lines, bytes and time.

use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

use crate::text::tail;

/// Lines that are asked for, of which those of other runs are left out; and those that are shown.
const LINES: &str = "--lines=100";
const SHOWN: usize = 20;
/// A journal of gigabytes on a slow disk must not hold up a revert.
const PATIENCE: Duration = Duration::from_secs(5);
const LINES_MAX_BYTES: usize = 2048;

/// What tells the lines of one run of a unit from those of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// When it was asked to start, by the wall.
    pub(super) since_secs: u64,
    /// The run before it, whose last words may come later than that.
    pub(super) before: String,
}

/// One line, as `journalctl` writes it.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "MESSAGE")]
    message: serde_json::Value,
    /// The run that wrote it, and the one that systemd says it of.
    #[serde(rename = "_SYSTEMD_INVOCATION_ID")]
    by: Option<String>,
    #[serde(rename = "INVOCATION_ID")]
    of: Option<String>,
}

impl Line {
    /// Whether it belongs to a run before these.
    fn is_older(&self, units: &[(String, Run)]) -> bool {
        let runs = [&self.by, &self.of];
        let mut runs = runs.into_iter().flatten();
        runs.any(|run| units.iter().any(|(_, this)| this.before == *run))
    }

    fn text(self) -> Option<String> {
        match self.message {
            serde_json::Value::String(text) => Some(text),
            // Bytes that are no text, or too many of them.
            serde_json::Value::Null
            | serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => None,
        }
    }
}

/// The lines of these runs, or where to look where there are none to be had: the agent's user must be in the
/// group that may read the journal.
pub(super) async fn last_lines(units: &[(String, Run)]) -> String {
    // Without a unit the journal of the whole host would be meant.
    let Some(since_secs) = units.iter().map(|(_, run)| run.since_secs).min() else {
        return String::new();
    };
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=json", LINES]);
    command.arg("--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID,INVOCATION_ID");
    command.arg(format!("--since=@{since_secs}"));
    command.args(units.iter().map(|(unit, _)| format!("--unit={unit}")));
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(_) | Err(_)) | Err(_) => Vec::new(),
    };
    let said = String::from_utf8_lossy(&said);
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let lines: Vec<String> =
        lines.filter(|line| !line.is_older(units)).filter_map(Line::text).collect();
    let lines = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n");
    match lines.trim() {
        "" => {
            let hints = units.iter().map(|(unit, _)| format!("see 'journalctl -u {unit}'"));
            hints.collect::<Vec<_>>().join(", ")
        }
        lines => tail(lines, LINES_MAX_BYTES).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_units_nobody_is_quoted() {
        assert_eq!(last_lines(&[]).await, "");
    }

    #[test]
    fn a_line_of_a_run_before_is_told_from_one_of_this_run() {
        let run = Run { since_secs: 1, before: "aa".to_owned() };
        let units = [("shop.service".to_owned(), run)];
        let line = |json: &str| serde_json::from_str::<Line>(json).unwrap();
        for older in ["_SYSTEMD_INVOCATION_ID", "INVOCATION_ID"] {
            assert!(line(&format!(r#"{{"MESSAGE":"late","{older}":"aa"}}"#)).is_older(&units));
        }
        let own = line(r#"{"MESSAGE":"two is broken","_SYSTEMD_INVOCATION_ID":"bb"}"#);
        assert!(!own.is_older(&units));
        assert_eq!(own.text().as_deref(), Some("two is broken"));
        assert_eq!(line(r#"{"MESSAGE":[1,2]}"#).text(), None, "no text");
    }
}
