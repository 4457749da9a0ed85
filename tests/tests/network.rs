//! A release that cuts the network of its own host: with `confirm_by_contact` the host takes itself back.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use groundswell_common::api::{OutcomeName, PhaseName, RolloutPage};
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Bed, Host, bed, configure, enrol, finish, install_agent};
use groundswell_tests::wait::until;

const JOURNAL: &str = "/var/lib/groundswell/services/firewall/journal.json";
const DEADLINE_SECS: u64 = 10;

const UNIT: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
NotifyAccess=all
ExecStart=/var/lib/groundswell/services/firewall/current/tree/bin/start
";

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.firewall]
units = ["firewall.service"]
"#;

/// Its start lets everything through.
const OPEN: &str = "#!/bin/sh
set -e
nft add table inet wall
nft delete table inet wall
systemd-notify --ready
exec sleep 1000000
";

/// Its start lets nothing in or out; it runs on happily.
const SHUT: &str = "#!/bin/sh
set -e
nft -f - <<END
add table inet wall
add chain inet wall in { type filter hook input priority 0; }
add chain inet wall out { type filter hook output priority 0; }
add rule inet wall in iifname != \"lo\" drop
add rule inet wall out oifname != \"lo\" drop
END
systemd-notify --ready
exec sleep 1000000
";

fn policy(on_breach: &str) -> String {
    format!(
        "service = \"firewall\"\ntargets = \"role=edge\"\nmax_in_flight = 1\nfailure_budget = 0\n\
         on_breach = \"{on_breach}\"\nbake_secs = 0\nhost_bake_secs = 1\n\
         probe_deadline_secs = {DEADLINE_SECS}\nprogress_deadline_secs = 180\n\
         absent_after_secs = 60\nconfirm_by_contact = true\n\
         [[wave]]\ncount = 1\n[[wave]]\nrest = true\n"
    )
}

#[test]
fn a_host_that_cuts_its_own_network_takes_itself_back() {
    bed("a_host_that_cuts_its_own_network_takes_itself_back", |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(&policy("revert-all"));
        let mut hosts = ["edge-1", "edge-2"].map(|name| bed.host(name));
        install(bed, &mut hosts);
        for host in &hosts {
            enrol(host, &fleet.token("role=edge"));
        }
        // With contact a release commits as ever.
        publish(&fleet, bed.dir(), "1.0", OPEN);
        let page = done(&fleet);
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");

        publish(&fleet, bed.dir(), "2.0", SHUT);
        let shut = until("a host without a network", ROLLOUT_BOUND, || {
            hosts.iter().find(|host| is_shut(host))
        });
        let live = shut.exec_ok(&["cat", JOURNAL]);
        assert!(live.contains("\"state\":\"probing\""), "nothing is confirmed: {live}");
        until("its network, by itself", ROLLOUT_BOUND, || (!is_shut(shut)).then_some(()));

        let page = done(&fleet);
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
        let canary = page.hosts.iter().find(|host| host.wave == 0).unwrap();
        assert_eq!(canary.name.as_str(), shut.name());
        let why = canary.why.clone().unwrap_or_default();
        let want =
            format!("no contact with the coordinator within {DEADLINE_SECS} s of the switch");
        assert!(why.contains(&want), "{why:?}");
        let other = page.hosts.iter().find(|host| host.wave == 1).unwrap();
        assert_eq!(other.progress, "pending", "the wall reached the canary only");
        for host in &hosts {
            until("the old release", ROLLOUT_BOUND, || {
                let path = "/var/lib/groundswell/services/firewall/current/manifest.json";
                let manifest = host.exec_ok(&["cat", path]);
                manifest.contains("\"version\":\"1.0\"").then_some(())
            });
        }
    });
}

fn is_shut(host: &Host) -> bool {
    host.exec(&["nft", "list", "table", "inet", "wall"]).status.success()
}

fn done(fleet: &Fleet) -> RolloutPage {
    until("the end of the rollout", ROLLOUT_BOUND, || {
        let page = fleet.newest_rollout("firewall");
        (page.rollout.phase == PhaseName::Done).then_some(page)
    })
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, start: &str) {
    let tree = dir.join(format!("firewall-{version}"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/start"), start).unwrap();
    fs::set_permissions(tree.join("bin/start"), fs::Permissions::from_mode(0o755)).unwrap();
    let spec = "[release]\nunits = [\"firewall.service\"]\n\n\
                [[probe]]\nkind = \"unit\"\nunit = \"firewall.service\"\n";
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    fleet.publish("firewall", version, &tree);
}

/// The agent where a package would put it, and the unit of the service; then boots.
fn install(bed: &Bed, hosts: &mut [Host]) {
    install_agent(bed);
    for host in hosts.iter_mut() {
        configure(host, AGENT_CONFIG);
        host.install_file("/etc/systemd/system/firewall.service", UNIT.as_bytes(), 0o644);
        host.own_network();
        host.power_on();
    }
    for host in hosts {
        finish(host);
    }
}
