//! The last lines that units wrote to the system's journal. Asked of `journalctl`, which reads every
//! form the journal may have; bounded in lines, bytes and time.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::text::tail;

const LINES: &str = "--lines=20";
/// A journal of gigabytes on a slow disk must not hold up a revert.
const PATIENCE: Duration = Duration::from_secs(5);
const LINES_MAX_BYTES: usize = 2048;

/// The lines, or where to look where there are none to be had: the agent's user must be in the group
/// that may read the journal.
pub(super) async fn last_lines(units: &[String]) -> String {
    // Without a unit the journal of the whole host would be meant.
    if units.is_empty() {
        return String::new();
    }
    let mut command = Command::new("journalctl");
    command.args(["--quiet", "--no-pager", "--output=cat", LINES]);
    command.args(units.iter().map(|unit| format!("--unit={unit}")));
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = match timeout(PATIENCE, command.output()).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(_) | Err(_)) | Err(_) => Vec::new(),
    };
    let said = String::from_utf8_lossy(&said);
    match said.trim() {
        "" => {
            let hints = units.iter().map(|unit| format!("see 'journalctl -u {unit}'"));
            hints.collect::<Vec<_>>().join(", ")
        }
        lines => tail(lines, LINES_MAX_BYTES).to_owned(),
    }
}
