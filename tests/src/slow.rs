//! Owns the slow disk: each fsync of a host's apply side is held up for a given time.

use std::fs;
use std::process::{Child, Command};
use std::time::Duration;

use crate::fleet::end;
use crate::must::Must;
use crate::tools::locate;
use crate::wait::until;

const SYNCS: &str = "fsync,fdatasync,syncfs";
const ATTACH_BOUND: Duration = Duration::from_secs(60);

/// Each fsync of the apply side takes this much longer while it lives.
#[derive(Debug)]
pub struct SlowDisk(Child);

impl SlowDisk {
    /// The bed has one host, and sees its processes.
    ///
    /// # Panics
    /// When no apply side runs, or it cannot be traced.
    #[must_use]
    pub fn of_the_host(delay: Duration) -> Self {
        let is_apply = |entry: &fs::DirEntry| {
            let argv = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&argv).contains("groundswell-agent\0apply")
        };
        let apply = fs::read_dir("/proc").must("read /proc").flatten().find(is_apply);
        let pid = apply.must("find the apply side").file_name().to_string_lossy().into_owned();
        let inject = format!("inject={SYNCS}:delay_enter={}", delay.as_micros());
        let trace = format!("trace={SYNCS}");
        let mut strace = Command::new(locate("strace"));
        strace.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid, "-e", &trace, "-e", &inject]);
        let slow = Self(strace.spawn().must("start strace"));
        until("the tracer", ATTACH_BOUND, || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).must("read its status");
            (!status.contains("TracerPid:\t0")).then_some(())
        });
        slow
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}
