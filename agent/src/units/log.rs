//! The last lines that units wrote to the system's journal. Asked of `journalctl`, which reads every
//! form the journal may have; bounded in lines, bytes and time.

use std::collections::HashSet;
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
/// What systemd writes when it begins to stop a unit.
const STOP_BEGUN: &str = "MESSAGE_ID=de5b426a63be47a7b6ac3eaac82e2f6f";

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
    /// When the journal took it, in microseconds.
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    at_us: Option<String>,
    /// The run that wrote it, and the one that systemd says it of.
    #[serde(rename = "_SYSTEMD_INVOCATION_ID")]
    by: Option<String>,
    #[serde(rename = "INVOCATION_ID")]
    of: Option<String>,
    /// Who wrote it, and through which pipe.
    #[serde(rename = "_PID")]
    pid: Option<String>,
    #[serde(rename = "_STREAM_ID")]
    stream: Option<String>,
}

impl Line {
    /// Whether time or systemd say that it belongs to a run before these.
    fn is_older(&self, units: &[(String, Run)]) -> bool {
        let at_us = self.at_us.as_deref().and_then(|at| at.parse::<u64>().ok());
        let is_early = at_us.is_some_and(|at| at < since_secs(units).saturating_mul(1_000_000));
        let runs = [&self.by, &self.of];
        let mut runs = runs.into_iter().flatten();
        is_early || runs.any(|run| units.iter().any(|(_, this)| this.before == *run))
    }

    /// The process and the pipe that it came from, unless systemd itself wrote it.
    fn origins(&self) -> impl Iterator<Item = &String> {
        let is_systemd = self.pid.as_deref() == Some("1");
        [&self.pid, &self.stream].into_iter().flatten().filter(move |_| !is_systemd)
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
    if units.is_empty() {
        return String::new();
    }
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=json", LINES]);
    command.arg("--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID,INVOCATION_ID,_PID,_STREAM_ID");
    command.args(units.iter().map(|(unit, _)| format!("--unit={unit}")));
    let lines = own_lines(lines_of(command).await, units);
    let lines = lines.get(lines.len().saturating_sub(SHOWN)..).unwrap_or_default().join("\n");
    match lines.trim() {
        "" => {
            let hints = units.iter().map(|(unit, _)| format!("see 'journalctl -u {unit}'"));
            hints.collect::<Vec<_>>().join(", ")
        }
        lines => tail(lines, LINES_MAX_BYTES).to_owned(),
    }
}

/// Whether systemd was told to stop a unit in this run: by a person, or with another unit; what ends by itself is not
/// told to. By systemd's own word, which nobody else can write.
pub(super) async fn was_told_to_stop(run: (String, Run)) -> bool {
    let mut command = stops_of(&run.0);
    command.args([LINES, "--output-fields=MESSAGE,INVOCATION_ID"]);
    let lines = lines_of(command).await;
    let units = [run];
    lines.iter().any(|line| !line.is_older(&units))
}

/// Whether systemd was told to end this run of a unit, by its own word.
pub(super) async fn ended_by_hand(unit: &str, run: &str) -> bool {
    let mut command = stops_of(unit);
    command.args(["--lines=1".to_owned(), format!("INVOCATION_ID={run}")]);
    !lines_of(command).await.is_empty()
}

/// Asks for what systemd itself wrote as it began to stop a unit.
fn stops_of(unit: &str) -> Command {
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=json", "_PID=1", STOP_BEGUN]);
    command.arg(format!("UNIT={unit}"));
    command
}

/// What `journalctl` answers in time.
async fn lines_of(mut command: Command) -> Vec<Line> {
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(_) | Err(_)) | Err(_) => Vec::new(),
    };
    let said = String::from_utf8_lossy(&said);
    said.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()).collect()
}

/// When the first of these runs was asked for.
fn since_secs(units: &[(String, Run)]) -> u64 {
    units.iter().map(|(_, run)| run.since_secs).min().unwrap_or_default()
}

/// What these runs wrote. The journal counts what a process writes at its end to the run that has begun by then, so
/// whoever wrote for a run before is known by what it wrote earlier.
fn own_lines(lines: Vec<Line>, units: &[(String, Run)]) -> Vec<String> {
    let older = lines.iter().filter(|line| line.is_older(units));
    let gone: HashSet<String> = older.flat_map(Line::origins).cloned().collect();
    let own =
        |line: &Line| !line.is_older(units) && !line.origins().any(|origin| gone.contains(origin));
    lines.into_iter().filter(own).filter_map(Line::text).collect()
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
        let own = |lines: &[&str]| {
            let lines = lines.iter().map(|line| serde_json::from_str(line).unwrap());
            own_lines(lines.collect(), &units)
        };
        for older in ["_SYSTEMD_INVOCATION_ID", "INVOCATION_ID"] {
            assert!(own(&[&format!(r#"{{"MESSAGE":"late","{older}":"aa"}}"#)]).is_empty());
        }
        let two = r#"{"MESSAGE":"two is broken","_SYSTEMD_INVOCATION_ID":"bb","_PID":"8"}"#;
        let bytes = r#"{"MESSAGE":[1,2]}"#;
        assert_eq!(own(&[two, bytes]), ["two is broken"], "bytes are no text");
        // Last words that the journal took for the new run's, by the same process or the same pipe.
        let first = r#"{"MESSAGE":"first words","__REALTIME_TIMESTAMP":"999999","_PID":"7","_STREAM_ID":"s"}"#;
        let last = r#"{"MESSAGE":"last words","_SYSTEMD_INVOCATION_ID":"bb","_PID":"7"}"#;
        let child = r#"{"MESSAGE":"its child's","_SYSTEMD_INVOCATION_ID":"bb","_PID":"9","_STREAM_ID":"s"}"#;
        assert_eq!(own(&[first, last, child, two]), ["two is broken"]);
        // Systemd speaks of every run.
        let stopped = r#"{"MESSAGE":"Stopped","INVOCATION_ID":"aa","_PID":"1"}"#;
        let starting = r#"{"MESSAGE":"Starting","INVOCATION_ID":"bb","_PID":"1"}"#;
        assert_eq!(own(&[stopped, starting]), ["Starting"]);
    }
}
