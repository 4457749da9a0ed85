//! Hosts with a real systemd lose their power while releases switch: what boots is the old release or the new
//! one, complete, and the host goes on by itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use groundswell_common::api::OutcomeName;
use groundswell_tests::busy::{POLICY, keep_busy};
use groundswell_tests::fleet::{Fleet, live_version};
use groundswell_tests::hosts::{CutFlag, bed, configure, enrol, finish, install_agent};
use groundswell_tests::wait::Over;

/// Cuts, where [`CUTS_VARIABLE`] says nothing else.
const CUTS: u32 = 6;
const CUTS_VARIABLE: &str = "GROUNDSWELL_HOST_CUTS";
const SERVICE_DIR: &str = "/var/lib/groundswell/services/shop";

const CONFIG: &str = r#"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.shop]
units = ["shop.service"]
"#;

const UNIT: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\n\
    ExecStart=/var/lib/groundswell/services/shop/current/tree/run\nDynamicUser=yes\n";

#[test]
fn a_host_without_power_boots_into_the_old_release_or_the_new_one() {
    bed("a_host_without_power_boots_into_the_old_release_or_the_new_one", |bed| {
        let cuts = std::env::var(CUTS_VARIABLE).map_or(CUTS, |cuts| cuts.parse().unwrap());
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(POLICY);
        install_agent(bed);
        let mut host = bed.host("web-1");
        configure(&host, CONFIG);
        host.install_file("/etc/systemd/system/shop.service", UNIT.as_bytes(), 0o644);
        host.power_on();
        finish(&mut host);
        enrol(&host, &fleet.token("role=web"));
        publish(&fleet, bed.dir(), "1.0.0");
        fleet.wait_for_version("shop", "1.0.0", &["web-1"]);

        let over = AtomicBool::new(false);
        let dir = bed.dir().to_owned();
        let (changed, published) = std::thread::scope(|scope| {
            let people =
                scope.spawn(|| keep_busy(&fleet, &over, |version| publish(&fleet, &dir, version)));
            let end = Over(&over);
            let (mut changed, mut before) = (0, String::new());
            for round in 0..cuts {
                // The bound is the length of the experiment, not a wait for a condition.
                let pause = 500 + u64::from(getrandom::u32().unwrap() % 3_000);
                std::thread::sleep(Duration::from_millis(pause));
                let flag = if round % 2 == 0 { CutFlag::DropLog } else { CutFlag::KeepLog };
                host.power_cut(flag);
                let live = live_version(&host.outside_path(SERVICE_DIR));
                let live = live.unwrap_or_else(|| panic!("cut {round}: nothing is live"));
                changed += u32::from(live != before);
                before = live;
                host.power_on();
                host.wait_ready();
            }
            drop(end);
            (changed, people.join().unwrap())
        });

        publish(&fleet, bed.dir(), "9.0.0");
        let page = fleet.wait_end("shop", "9.0.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        assert_eq!(live_version(&host.outside_path(SERVICE_DIR)).as_deref(), Some("9.0.0"));
        assert_eq!(host.exec_ok(&["systemctl", "is-active", "shop.service"]), "active");
        eprintln!(
            "{cuts} cuts, 0 bad; {published} releases published, {changed} cuts saw another release \
             than the one before"
        );
    });
}

fn publish(fleet: &Fleet, dir: &Path, version: &str) {
    let tree = dir.join(format!("shop-{version}"));
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("run"), "#!/bin/sh\nexec sleep inf\n").unwrap();
    fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("version"), version).unwrap();
    let spec = "[release]\nunits = [\"shop.service\"]\n\n\
                [[probe]]\nkind = \"unit\"\nunit = \"shop.service\"\n";
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    fleet.publish("shop", version, &tree);
}
