//! Hooks on a host with a real systemd: in their order, in a sandbox of their own, and gone when they are over.

use groundswell_common::api::OutcomeName;
use groundswell_tests::hosts::{Host, bed};
use groundswell_tests::shop::{Shop, answer, one_host};

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 30
progress_deadline_secs = 180

[[wave]]
name = "all"
percent = 100
"#;

const HOOKS: &str = r#"
[[hook]]
at = "drain"
argv = ["bin/hook", "slowly"]
timeout_secs = 20

[[hook]]
at = "pre-switch"
argv = ["bin/hook"]
timeout_secs = 20

[[hook]]
at = "post-switch"
argv = ["bin/hook"]
timeout_secs = 2

[[hook]]
at = "failed"
argv = ["bin/hook"]
timeout_secs = 20
"#;

/// Says what it is; a drain takes longer than a permit lasts. The keys of the host are not for it.
const WELL: &str = r#"#!/bin/sh
set -e
test "$1" != slowly || sleep 3
test ! -r /var/lib/groundswell-agent/identity/host.key
test "$(id -un)" != groundswell-agent
test "$(id -un)" != groundswell-apply
test "$(id -u)" != 0
echo "$GROUNDSWELL_HOOK of $GROUNDSWELL_SERVICE $GROUNDSWELL_VERSION"
"#;

/// Leaves a process behind that has left its group and its session, and its parent, then takes too long.
const HANGS: &str = r#"#!/bin/sh
echo "$GROUNDSWELL_HOOK of $GROUNDSWELL_SERVICE $GROUNDSWELL_VERSION"
test "$GROUNDSWELL_HOOK" = post-switch || exit 0
setsid --fork sleep 777
echo "and something is left behind"
sleep 778
"#;

#[test]
fn hooks_run_in_order_and_one_that_hangs_is_killed_with_all_it_left_behind() {
    let name = "hooks_run_in_order_and_one_that_hangs_is_killed_with_all_it_left_behind";
    bed(name, |bed| {
        let (fleet, host) = one_host(bed, POLICY);
        for version in ["1.0", "2.0"] {
            let shop = Shop { more: (HOOKS, &[("hook", WELL)]), ..Shop::good(version) };
            let page = shop.publish(&fleet, bed.dir());
            assert_eq!(
                page.rollout.outcome,
                Some(OutcomeName::Completed),
                "{page:?}\n{:#?}",
                said(&host)
            );
            assert_eq!(answer(&host).as_deref(), Some(version));
        }
        let first = ["pre-switch of shop 1.0", "1.0 starts", "post-switch of shop 1.0"];
        let second = [
            "drain of shop 1.0",
            "pre-switch of shop 2.0",
            "2.0 starts",
            "post-switch of shop 2.0",
        ];
        assert_eq!(said(&host), [&first[..], &second].concat());

        let shop = Shop { more: (HOOKS, &[("hook", HANGS)]), ..Shop::good("3.0") };
        let page = shop.publish(&fleet, bed.dir());
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
        let third = [
            "drain of shop 2.0",
            "pre-switch of shop 3.0",
            "3.0 starts",
            "post-switch of shop 3.0",
            "failed of shop 3.0",
            "2.0 starts",
            "post-switch of shop 2.0",
        ];
        assert_eq!(said(&host)[first.len() + second.len()..], third);
        assert_eq!(answer(&host).as_deref(), Some("2.0"));
        let why = page.hosts.first().unwrap().why.clone().unwrap();
        for part in ["hook post-switch of 3.0", "left behind", "no end within 2 s"] {
            assert!(why.contains(part), "{part:?} is not in {why}");
        }
        let runs = host.exec_ok(&["ps", "-e", "-o", "args="]);
        assert!(runs.contains("bin/faulty") && !runs.contains("sleep 77"), "{runs}");
        let state = host.exec(&["systemctl", "is-active", "groundswell-hook@shop.service"]);
        assert_eq!(String::from_utf8_lossy(&state.stdout).trim(), "inactive");
    });
}

/// What the hooks and the service wrote of themselves, in order.
fn said(host: &Host) -> Vec<String> {
    host.exec_ok(&["journalctl", "--sync"]);
    let journal = host.exec_ok(&[
        "journalctl",
        "--output=cat",
        "--unit=shop.service",
        "--unit=groundswell-hook@shop.service",
    ]);
    let own = journal.lines().filter(|line| {
        (line.contains(" of shop ") && !line.starts_with("hook ")) || line.ends_with(" starts")
    });
    own.map(str::to_owned).collect()
}
