//! Units that releases bring, on a host with a real systemd whose owner lets them.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use groundswell_common::api::{OutcomeName, RolloutPage};
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Host, bed, boot_with_agent, enrol, install_agent};
use groundswell_tests::wait::until;

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.shop]
units = ["shop.service"]
shipped_units = true
"#;

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 5

[[wave]]
rest = true
"#;

/// What the owner types once.
const LINK: [&str; 4] = [
    "ln",
    "--symbolic",
    "/var/lib/groundswell/services/shop/current/tree/systemd/shop.service",
    "/etc/systemd/system/",
];

#[test]
fn a_release_brings_its_unit_and_takes_it_away_again() {
    bed("a_release_brings_its_unit_and_takes_it_away_again", |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(POLICY);
        install_agent(bed);
        let mut host = bed.host("web-1");
        boot_with_agent(&mut host, AGENT_CONFIG);
        host.exec_ok(&LINK);
        enrol(&host, &fleet.token("role=web"));

        for (version, secs) in [("1.0", "1001"), ("2.0", "1002")] {
            let unit = format!("[Service]\nExecStart=/bin/sleep {secs}\nDynamicUser=yes\n");
            let page = release(&fleet, bed.dir(), version, &unit);
            assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
            assert_eq!(runs(&host), format!("/bin/sleep {secs}"));
        }
        // As root it would own the host.
        let unit = "[Service]\nExecStart=/bin/sleep 1003\nDynamicUser=yes\nUser=root\n";
        publish(&fleet, bed.dir(), "3.0", unit);
        until("the refusal", ROLLOUT_BOUND, || {
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            (why.contains("User=root") && why.contains("drop-in")).then_some(())
        });
        assert_eq!(runs(&host), "/bin/sleep 1002");
        // One that cannot start takes its unit with it.
        let unit = "[Service]\nExecStart=/nowhere/shop\nType=exec\nDynamicUser=yes\n";
        let page = release(&fleet, bed.dir(), "4.0", unit);
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
        assert_eq!(runs(&host), "/bin/sleep 1002");
    });
}

/// Publishes a release that is its unit, and waits for the end.
fn release(fleet: &Fleet, dir: &Path, version: &str, unit: &str) -> RolloutPage {
    publish(fleet, dir, version, unit);
    fleet.wait_end("shop", version)
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, unit: &str) {
    let tree = dir.join(version);
    fs::create_dir_all(tree.join("systemd")).unwrap();
    fs::write(tree.join("systemd/shop.service"), unit).unwrap();
    fs::write(tree.join("groundswell.toml"), "[release]\nunits = [\"shop.service\"]\n").unwrap();
    fleet.publish("shop", version, &tree);
}

/// The command line of the service's process.
fn runs(host: &Host) -> String {
    let pid = host.exec_ok(&["systemctl", "show", "--property=MainPID", "--value", "shop.service"]);
    host.exec_ok(&["ps", "--pid", &pid, "-o", "args="])
}
