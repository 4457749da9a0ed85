//! Owns running the machine's own tools: finds each, or fails naming the package that brings it.
//!
//! Every command is an argument vector; nothing here may go through a shell.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::must::Must;

/// Debian's package for each tool the test bed calls. `tests/setup` installs the same packages.
const PACKAGES: [(&str, &str); 20] = [
    ("cp", "coreutils"),
    ("dpkg-deb", "dpkg"),
    ("ip", "iproute2"),
    ("lintian", "lintian"),
    ("losetup", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mknod", "coreutils"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("systemctl", "systemd"),
    ("systemd-analyze", "systemd"),
    ("systemd-nspawn", "systemd-container"),
    ("timeout", "coreutils"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
    ("dbus-daemon", "dbus-daemon"),
    ("xfs_io", "xfsprogs"),
    ("strace", "strace"),
];

/// Administrators' folders are searched even when the caller's `PATH` leaves them out.
const ADMIN_PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";

/// A command for one of the machine's tools.
///
/// # Panics
/// When the tool is not installed; the message names the package to install.
#[track_caller]
pub fn tool(name: &str) -> Command {
    Command::new(locate(name))
}

/// Where a tool is.
///
/// # Panics
/// As [`tool`].
#[track_caller]
pub fn locate(name: &str) -> PathBuf {
    let path = env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(ADMIN_PATH.split(':'))
        .map(|folder| Path::new(folder).join(name))
        .find(|candidate| candidate.is_absolute() && candidate.is_file());
    match found {
        Some(path) => path,
        None => panic!("{}", complaint(name)),
    }
}

fn complaint(name: &str) -> String {
    match PACKAGES.iter().find(|(tool, _)| *tool == name) {
        Some((_, package)) => {
            format!("`{name}` is missing: run tests/setup, or apt-get install -y {package}")
        }
        None => format!("`{name}` is missing on this machine"),
    }
}

/// Runs a command to its end and returns what it wrote to standard output, trimmed.
///
/// # Panics
/// When it does not start or does not exit with 0; the message holds the whole command line and
/// what it wrote to standard error.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs a command to its end, whatever its exit status.
///
/// # Panics
/// When it does not start.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let result = command.output();
    result.must(format_args!("start {command:?}"))
}

/// Checks that this process may make namespaces, mounts and hosts.
///
/// # Panics
/// When it does not run as root.
#[track_caller]
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test boots hosts and mounts disks: run it as root"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_a_tool_and_trims_its_output() {
        assert_eq!(run(tool("timeout").args(["5", "echo", "hello"])), "hello");
    }

    #[test]
    #[should_panic(expected = "\"--no-such-option\" ended with exit status: 1")]
    fn a_failing_tool_is_quoted() {
        run(tool("cp").arg("--no-such-option"));
    }

    #[test]
    fn a_missing_tool_names_its_package() {
        assert_eq!(
            complaint("systemd-nspawn"),
            "`systemd-nspawn` is missing: run tests/setup, or apt-get install -y systemd-container"
        );
    }

    #[test]
    #[should_panic(expected = "`no-such-tool` is missing on this machine")]
    fn a_missing_tool_is_named() {
        tool("no-such-tool");
    }
}
