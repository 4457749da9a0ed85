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
