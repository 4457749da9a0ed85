//! Owns our programs on hosts, installed where the packages put them, and what a host's owner types first.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bins::bin;
use crate::hosts::{Bed, Host};
use crate::must::Must;

/// The agent with this configuration on hosts that are off, beside units of the hosts' own; then boots them.
///
/// # Panics
/// When a step fails.
pub fn boot_with_agent(bed: &Bed, hosts: &mut [Host], config: &str, units: &[(&str, &str)]) {
    let program = fs::read(bin("groundswell-agent")).must("read the agent's program");
    bed.install_usr("bin/groundswell-agent", &program, 0o755);
    install_units(bed, "groundswell-agent");
    let rules = repository().join("systemd/groundswell-agent.rules");
    let rules = fs::read(rules).must("read the agent's polkit rules");
    for host in hosts.iter_mut() {
        host.install_file("/etc/groundswell/agent.toml", config.as_bytes(), 0o644);
        for (unit, text) in units {
            host.install_file(&format!("/etc/systemd/system/{unit}"), text.as_bytes(), 0o644);
        }
        host.install_file("/etc/polkit-1/rules.d/50-groundswell-agent.rules", &rules, 0o644);
        host.power_on();
    }
    for host in hosts {
        host.wait_up();
        host.exec_ok(&["systemd-sysusers"]);
        host.exec_ok(&["systemd-tmpfiles", "--create"]);
    }
}

/// The unit of a program and what goes with it, at the places that a package gives them.
///
/// # Panics
/// When one is missing.
pub fn install_units(bed: &Bed, program: &str) {
    for (ending, place) in [
        ("service", format!("lib/systemd/system/{program}.service")),
        ("sysusers", format!("lib/sysusers.d/{program}.conf")),
        ("tmpfile", format!("lib/tmpfiles.d/{program}.conf")),
    ] {
        let file = repository().join(format!("systemd/{program}.{ending}"));
        let bytes = fs::read(&file).must(format_args!("read {}", file.display()));
        bed.install_usr(&place, &bytes, 0o644);
    }
}

/// What the owner of a host types: one enrolment line, then the service.
///
/// # Panics
/// When a step fails.
#[track_caller]
pub fn enrol(host: &Host, token: &str) {
    host.exec_ok(&[
        "groundswell-agent",
        "enroll",
        "--config",
        "/etc/groundswell/agent.toml",
        token,
    ]);
    host.exec_ok(&["systemctl", "enable", "--now", "groundswell-agent.service"]);
}

/// The root of the sources.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
