//! What /proc says of a process: the start time that tells it from another with the same number.

use std::fs;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessId {
    /// Its number; also the number of its group.
    pub(crate) pid: i32,
    /// Clock ticks from boot to its start.
    pub(crate) started: u64,
}

impl ProcessId {
    /// The process that has the number `pid` now; `None` when there is none, or only its zombie.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in brackets and may hold anything, so count from its end.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        if matches!(fields.next()?, "Z" | "X") {
            return None;
        }
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { pid, started })
    }

    /// Whether this very process still runs.
    pub(crate) fn runs(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }
}

/// Leaders of process groups whose environment holds the entry `mark` (`NAME=VALUE`).
pub(crate) fn marked(mark: &[u8]) -> Vec<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has_mark = |pid: &i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|entry| entry == mark))
    };
    let leads = |pid: &i32| {
        let pid = rustix::process::Pid::from_raw(*pid);
        pid.is_some_and(|pid| rustix::process::getpgid(Some(pid)) == Ok(pid))
    };
    pids.filter(has_mark).filter(leads).filter_map(ProcessId::of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = ProcessId::of(pid).unwrap();
        assert!(me.runs());
        assert!(!ProcessId { started: me.started + 1, ..me }.runs());
        assert_eq!(ProcessId::of(i32::MAX), None);
    }
}
