//! Limits that systemd sets a service, on a host with a real systemd: starts used up, a watchdog that
//! nobody feeds, a process that is killed.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use groundswell_common::api::RolloutPage;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Bed, Host, bed, boot_with_agent, enrol, install_agent};
use groundswell_tests::wait::until;

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.shop]
units = ["shop.service"]
"#;

/// The bake is long against the watchdog's time.
const POLICY: &str = r#"
service = "shop"
targets = "role=web"
max_in_flight = 1
failure_budget = 0
bake_secs = 1
host_bake_secs = 8
probe_deadline_secs = 5
progress_deadline_secs = 120
absent_after_secs = 30

[[wave]]
name = "all"
percent = 100
"#;

const RUN: &str =
    "ExecStart=/var/lib/groundswell/services/shop/current/tree/run\nDynamicUser=yes\n";
const FEEDS: &str = "#!/bin/sh\nwhile :; do systemd-notify WATCHDOG=1; sleep 0.3; done\n";
const ENDS: &str = "#!/bin/sh\nexit 1\n";
const HANGS: &str = "#!/bin/sh\nexec sleep inf\n";

#[test]
fn starts_that_are_used_up_hold_neither_a_release_nor_the_way_back() {
    bed("starts_that_are_used_up_hold_neither_a_release_nor_the_way_back", |bed| {
        // systemd's own burst of 5, over a time that a busy machine keeps to.
        let unit = format!("[Unit]\nStartLimitIntervalSec=120\n[Service]\nRestart=always\n{RUN}");
        let (fleet, host) = begin(bed, &unit);
        publish(&fleet, bed.dir(), "1.0.0", HANGS);
        assert_eq!(ended(&fleet, "1.0.0"), "");
        for _ in 0..4 {
            host.exec_ok(&["systemctl", "restart", "shop.service"]);
        }
        publish(&fleet, bed.dir(), "1.0.1", HANGS);
        assert_eq!(ended(&fleet, "1.0.1"), "");
        runs(&host, "1.0.1");
        // This one uses them up by itself.
        publish(&fleet, bed.dir(), "1.0.2", ENDS);
        let why = ended(&fleet, "1.0.2");
        assert!(why.contains("does not come up again"), "{why:?}");
        runs(&host, "1.0.1");
    });
}

#[test]
fn a_watchdog_and_a_kill_in_the_bake_go_back_and_say_why() {
    bed("a_watchdog_and_a_kill_in_the_bake_go_back_and_say_why", |bed| {
        let unit = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nWatchdogSec=3\nNotifyAccess=all\n{RUN}"
        );
        let (fleet, host) = begin(bed, &unit);
        publish(&fleet, bed.dir(), "1.0.0", FEEDS);
        assert_eq!(ended(&fleet, "1.0.0"), "");

        publish(&fleet, bed.dir(), "1.0.1", HANGS);
        let why = ended(&fleet, "1.0.1");
        assert!(why.contains("shop.service: watchdog, status "), "{why:?}");
        runs(&host, "1.0.0");

        publish(&fleet, bed.dir(), "1.0.2", FEEDS);
        until("the bake of 1.0.2", ROLLOUT_BOUND, || {
            let page = newest(&fleet, "1.0.2")?;
            page.hosts.iter().any(|host| host.progress == "baking").then_some(())
        });
        host.exec_ok(&["systemctl", "kill", "-s", "KILL", "shop.service"]);
        let why = ended(&fleet, "1.0.2");
        assert!(why.contains("shop.service: signal, status 9"), "{why:?}");
        runs(&host, "1.0.0");
    });
}

fn begin(bed: &mut Bed, unit: &str) -> (Fleet, Host) {
    let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
    fleet.apply(POLICY);
    install_agent(bed);
    let mut host = bed.host("web-1");
    host.install_file("/etc/systemd/system/shop.service", unit.as_bytes(), 0o644);
    boot_with_agent(&mut host, AGENT_CONFIG);
    enrol(&host, &fleet.token("role=web"));
    (fleet, host)
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, run: &str) {
    let tree = dir.join(version);
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("run"), run).unwrap();
    fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("groundswell.toml"), "[release]\nunits = [\"shop.service\"]\n").unwrap();
    fleet.publish("shop", version, &tree);
}

/// The rollout of this version, once it is the newest.
fn newest(fleet: &Fleet, version: &str) -> Option<RolloutPage> {
    let page = fleet.newest_rollout("shop");
    (page.rollout.version.to_string() == version).then_some(page)
}

/// Why the host failed in the rollout of this version, once that has ended; empty where it did not.
fn ended(fleet: &Fleet, version: &str) -> String {
    fleet.wait_end("shop", version).hosts[0].why.clone().unwrap_or_default()
}

/// The unit is up on this version.
fn runs(host: &Host, version: &str) {
    let manifest = "/var/lib/groundswell/services/shop/current/manifest.json";
    let manifest = host.exec_ok(&["cat", manifest]);
    assert!(manifest.contains(&format!("\"version\":\"{version}\"")), "{manifest}");
    let active = host.exec(&["systemctl", "is-active", "shop.service"]);
    let status = || String::from_utf8(host.exec(&["systemctl", "status", "shop.service"]).stdout);
    assert!(active.status.success(), "{}", status().unwrap());
}
