//! The agent on a host: installed as a package would, enrolled as its owner would.

use std::fs;
use std::path::Path;

use super::{Bed, Host};
use crate::bins::bin;
use crate::must::Must;

/// Puts the agent where all hosts of the bed find it.
pub fn install_agent(bed: &Bed) {
    let program = fs::read(bin("groundswell-agent")).must("read the agent");
    bed.install_usr("bin/groundswell-agent", &program, 0o755);
    install_units(bed, "groundswell-agent");
    for unit in ["groundswell-apply.service", "groundswell-hook@.service"] {
        let file = fs::read(systemd(unit)).must("read a unit");
        bed.install_usr(&format!("lib/systemd/system/{unit}"), &file, 0o644);
    }
}

/// Configures a host that is off, boots it and makes the agent's user.
pub fn boot_with_agent(host: &mut Host, config: &str) {
    configure(host, config);
    host.power_on();
    finish(host);
}

/// The agent's configuration and what the bus lets it do, on a host that is off.
pub fn configure(host: &Host, config: &str) {
    host.install_file("/etc/groundswell/agent.toml", config.as_bytes(), 0o644);
    let rules = fs::read(systemd("groundswell-agent.rules")).must("read the rules");
    host.install_file("/etc/polkit-1/rules.d/50-groundswell-agent.rules", &rules, 0o644);
}

/// Waits for a booted host and makes the users and folders that packages make.
pub fn finish(host: &mut Host) {
    host.wait_up();
    host.exec_ok(&["systemd-sysusers"]);
    host.exec_ok(&["systemd-tmpfiles", "--create"]);
}

/// The unit of a program and what goes with it, at the places that a package gives them.
pub fn install_units(bed: &Bed, program: &str) {
    for (ending, place) in [
        ("service", format!("lib/systemd/system/{program}.service")),
        ("sysusers", format!("lib/sysusers.d/{program}.conf")),
        ("tmpfile", format!("lib/tmpfiles.d/{program}.conf")),
    ] {
        let file = systemd(&format!("{program}.{ending}"));
        bed.install_usr(&place, &fs::read(&file).must("read a unit's file"), 0o644);
    }
}

/// What the owner of a host types: one enrolment line, then the service.
pub fn enrol(host: &Host, token: &str) {
    host.exec_ok(&[
        "groundswell-agent",
        "enroll",
        "--config",
        "/etc/groundswell/agent.toml",
        token,
    ]);
    let units = ["groundswell-agent.service", "groundswell-apply.service"];
    host.exec_ok(&[&["systemctl", "enable", "--now"], &units[..]].concat());
}

fn systemd(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name)
}
