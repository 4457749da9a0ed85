//! Owns a service on hosts whose releases are broken as they say: unit, configuration, releases, and what it answers.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use groundswell_common::api::RolloutPage;

use crate::bins::bin;
use crate::fleet::Fleet;
use crate::hosts::{Bed, Host, boot_with_agent, enrol, install_agent};
use crate::must::Must;

/// Where it answers; see `src/bin/faulty.rs`.
pub const PORT: u16 = 8080;

/// As people write it: systemd starts it again and again, has a bound of memory for it, and stops it within 5 s.
const UNIT: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/var/lib/groundswell/services/shop/current/tree/bin/faulty
DynamicUser=yes
StateDirectory=shop
LimitAS=400M
LimitCORE=0
Restart=always
RestartSec=200ms
TimeoutStopSec=5
";

/// Nobody but the agent ends a job of this unit; its program is the release's `run`.
pub const ENDLESS: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=all
TimeoutStartSec=infinity
TimeoutStopSec=infinity
ExecStart=/var/lib/groundswell/services/shop/current/tree/run
DynamicUser=yes
";

/// Programs of a unit of `Type=notify`: one that is ready, one that never is, one that ignores its stop.
pub const READY: &str = "#!/bin/sh\nsystemd-notify --ready\nexec sleep inf\n";
/// See [`READY`].
pub const NEVER_READY: &str = "#!/bin/sh\necho the lock is taken\nexec sleep inf\n";
/// See [`READY`].
pub const STAYS: &str =
    "#!/bin/sh\ntrap '' TERM\nsystemd-notify --ready\nwhile :; do sleep 1; done\n";

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 67108864

[services.shop]
units = ["shop.service", "worker.service"]
"#;

/// One release of the service.
#[derive(Clone, Copy, Debug)]
pub struct Shop<'a> {
    /// What it answers.
    pub version: &'a str,
    /// What breaks it: `none`, `exit`, `die`, `hang`, `ill`, `leak`, `fill`.
    pub fault: &'a str,
    /// How many seconds after its start.
    pub after_secs: u64,
    /// More of its description, and programs for it: name below `bin/`, and script.
    pub more: (&'a str, &'a [(&'a str, &'a str)]),
}

impl<'a> Shop<'a> {
    /// A release that is well.
    pub fn good(version: &'a str) -> Self {
        Self { version, fault: "none", after_secs: 0, more: ("", &[]) }
    }

    /// Publishes it and waits for the end of its rollout.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn publish(&self, fleet: &Fleet, dir: &Path) -> RolloutPage {
        self.publish_only(fleet, dir);
        fleet.wait_end("shop", self.version)
    }

    /// Publishes it.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn publish_only(&self, fleet: &Fleet, dir: &Path) {
        fleet.publish("shop", self.version, &self.tree(dir));
    }

    fn tree(&self, dir: &Path) -> PathBuf {
        let tree = dir.join(format!("shop-{}", self.version));
        let what = "make a release's tree";
        for folder in ["bin", "etc"] {
            fs::create_dir_all(tree.join(folder)).must(what);
        }
        fs::copy(bin("faulty"), tree.join("bin/faulty")).must(what);
        for (name, script) in self.more.1 {
            fs::write(tree.join("bin").join(name), script).must(what);
        }
        let programs = self.more.1.iter().map(|(name, _)| *name);
        for name in programs.chain(["faulty"]) {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(tree.join("bin").join(name), mode).must(what);
        }
        let fault = format!("{} {} {}\n", self.version, self.fault, self.after_secs);
        fs::write(tree.join("etc/fault"), fault).must(what);
        let spec = format!(
            "[release]\nunits = [\"shop.service\"]\nplatform = \"linux-x86_64\"\n\n\
             [[probe]]\nkind = \"http\"\nurl = \"http://127.0.0.1:{PORT}/\"\ntimeout_secs = 1\n\n{}",
            self.more.0
        );
        fs::write(tree.join("groundswell.toml"), spec).must(what);
        tree
    }
}

/// A fleet of one host under this policy.
///
/// # Panics
/// When a step fails.
pub fn one_host(bed: &mut Bed, policy: &str) -> (Fleet, Host) {
    one_host_with(bed, policy, UNIT)
}

/// As [`one_host`], with this unit.
///
/// # Panics
/// When a step fails.
pub fn one_host_with(bed: &mut Bed, policy: &str, unit: &str) -> (Fleet, Host) {
    make(bed, policy, unit, |_| {})
}

/// As [`one_host`]; `prepare` is done on the booted host before it is enrolled.
///
/// # Panics
/// When a step fails.
pub fn one_host_on(bed: &mut Bed, policy: &str, prepare: impl FnOnce(&Host)) -> (Fleet, Host) {
    make(bed, policy, UNIT, prepare)
}

fn make(bed: &mut Bed, policy: &str, unit: &str, prepare: impl FnOnce(&Host)) -> (Fleet, Host) {
    let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
    fleet.apply(policy);
    install_agent(bed);
    let host = boot(bed, "web-1", unit);
    prepare(&host);
    enrol(&host, &fleet.token("role=web"));
    (fleet, host)
}

/// A host that runs this unit, booted and enrolled.
///
/// # Panics
/// When a step fails.
pub fn booted(bed: &mut Bed, name: &str, unit: &str, token: &str) -> Host {
    install_agent(bed);
    let host = boot(bed, name, unit);
    enrol(&host, token);
    host
}

/// One more host, booted and not enrolled.
///
/// # Panics
/// When a step fails.
pub fn another_host(bed: &mut Bed, name: &str) -> Host {
    boot(bed, name, UNIT)
}

fn boot(bed: &mut Bed, name: &str, unit: &str) -> Host {
    let mut host = bed.host(name);
    host.install_file("/etc/systemd/system/shop.service", unit.as_bytes(), 0o644);
    boot_with_agent(&mut host, AGENT_CONFIG);
    host
}

/// The version that answers well on the host; `None` for no or a bad answer.
pub fn answer(host: &Host) -> Option<String> {
    let address = SocketAddr::from((host.addr(), PORT));
    let patience = Duration::from_millis(300);
    let mut line = TcpStream::connect_timeout(&address, patience).ok()?;
    line.set_read_timeout(Some(patience)).ok()?;
    line.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    line.read_to_string(&mut text).ok()?;
    let (head, version) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| version.to_owned())
}

/// Shows what the agent said, where a test fails.
#[derive(Debug)]
pub struct Log<'a>(pub &'a Host);

impl Drop for Log<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let units =
                ["--unit=groundswell-apply", "--unit=groundswell-agent", "--unit=shop.service"];
            let log =
                self.0.exec(&[&["journalctl", "--no-pager", "--lines=120"], &units[..]].concat());
            eprintln!("{}", String::from_utf8_lossy(&log.stdout));
            for verb in ["status", "why", "doctor"] {
                let said = self.0.exec(&["groundswell-agent", verb]);
                eprintln!("{verb}: {}", String::from_utf8_lossy(&said.stdout));
            }
        }
    }
}
