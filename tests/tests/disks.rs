//! Disks of hosts with a real systemd that are full, slow, or read-only: what the host lacks is said with its cure,
//! the cure is enough, and the host catches up; the way back works whatever the disk is like.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use groundswell_common::api::{HostsAnswer, OutcomeName, RolloutPage, WhyAnswer};
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Host, bed};
use groundswell_tests::shop::{Log, Shop, answer, one_host, one_host_on};
use groundswell_tests::slow::SlowDisk;
use groundswell_tests::wait::until;

/// From the order to go back until a host counts as overdue: `probe_deadline_secs` and 30 s.
const BACK_BOUND: Duration = Duration::from_secs(50);
/// The same, where `probe_deadline_secs` is 120.
const SLOW_BACK_BOUND: Duration = Duration::from_secs(150);
const STATE_DIR: &str = "/var/lib/groundswell";

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
failure_budget = 0
on_breach = "revert"
bake_secs = 1
host_bake_secs = 20
probe_deadline_secs = 20
progress_deadline_secs = 3600

[[wave]]
name = "all"
rest = true
"#;

fn completes(fleet: &Fleet, dir: &std::path::Path, version: &str) {
    let page = Shop::good(version).publish(fleet, dir);
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
}

fn completed(fleet: &Fleet, version: &str) {
    let page = fleet.wait_end("shop", version);
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
}

/// Waits until the desk, the fleet at a glance and the host itself say this of the host, and that nothing failed.
fn is_held(fleet: &Fleet, host: &Host, words: &str) -> RolloutPage {
    until(&format!("every surface on {words:?}"), ROLLOUT_BOUND, || {
        let why: WhyAnswer = fleet.swell_json(&["host", "why", host.name()]);
        let surfaces = [
            why.why.first().cloned().unwrap_or_default(),
            fleet.swell_ok(&["status"]),
            host.exec_ok(&["groundswell-agent", "why", "shop"]),
            String::from_utf8(host.exec(&["groundswell-agent", "doctor"]).stdout).unwrap(),
        ];
        surfaces.iter().all(|said| said.contains(words)).then_some(())
    });
    let page = fleet.newest_rollout("shop");
    assert!(page.hosts.iter().all(|host| host.progress == "held"), "{page:?}");
    page
}

fn no_failure(fleet: &Fleet) {
    let answer: HostsAnswer = fleet.swell_json(&["host", "ls"]);
    let failed = answer.hosts.iter().flat_map(|host| &host.services).find(|s| s.failure.is_some());
    assert!(failed.is_none(), "{failed:?}");
}

#[test]
fn a_full_disk_and_a_disk_without_inodes_hold_the_host_and_room_is_enough_to_cure_it() {
    let name = "a_full_disk_and_a_disk_without_inodes_hold_the_host_and_room_is_enough_to_cure_it";
    bed(name, |bed| {
        let (fleet, host) = one_host(bed, POLICY);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0.0");
        let sh = |line: &str| host.exec(&["sh", "-c", line]);

        sh("fallocate --length $(df --output=avail --block-size=1 / | tail -1) /srv/full");
        Shop::good("2.0.0").publish_only(&fleet, bed.dir());
        is_held(&fleet, &host, "bytes are needed and");
        assert_eq!(answer(&host).as_deref(), Some("1.0.0"));
        // Nothing is written to a full disk but what has its place there: a pause of the desk is taken up.
        fleet.swell_ok(&["host", "drain", "web-1", "--why", "a new disk"]);
        fleet.swell_ok(&["host", "undrain", "web-1"]);
        host.exec_ok(&["rm", "/srv/full"]);
        completed(&fleet, "2.0.0");

        // xargs ends with an error: the inodes are used up before the names are.
        sh("mkdir /srv/many && cd /srv/many && seq 1 200000 | xargs touch");
        Shop::good("3.0.0").publish_only(&fleet, bed.dir());
        is_held(&fleet, &host, "inodes are needed at most and");
        assert_eq!(answer(&host).as_deref(), Some("2.0.0"));
        host.exec_ok(&["rm", "-rf", "/srv/many"]);
        completed(&fleet, "3.0.0");
        no_failure(&fleet);

        // The way back needs no room.
        sh("fallocate --length $(df --output=avail --block-size=1 / | tail -1) /srv/full");
        fleet.swell_ok(&["revert", "shop", "--yes", "--why", "the disk is full"]);
        until("2.0.0 on a full disk", BACK_BOUND, || {
            (answer(&host).as_deref() == Some("2.0.0")).then_some(())
        });
    });
}

#[test]
fn a_disk_that_is_read_only_is_said_and_waited_for() {
    bed("a_disk_that_is_read_only_is_said_and_waited_for", |bed| {
        let (fleet, host) = one_host_on(bed, POLICY, |host| {
            host.exec_ok(&["mkdir", "-p", STATE_DIR]);
            let options = ["-t", "tmpfs", "-o", "size=256m,mode=755", "tmpfs", STATE_DIR];
            host.exec_ok(&[&["mount"], &options[..]].concat());
        });
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0.0");
        let apply = |verb| host.exec_ok(&["systemctl", verb, "groundswell-apply"]);
        let remount = |how: &str| {
            host.exec_ok(&["mount", "-o", &format!("remount,{how}"), STATE_DIR]);
        };
        let pid = || {
            let show = ["systemctl", "show", "--value", "--property=MainPID", "groundswell-apply"];
            host.exec_ok(&show)
        };
        for (version, runs) in [("2.0.0", true), ("3.0.0", false)] {
            if runs {
                remount("ro");
            } else {
                apply("stop");
                remount("ro");
                apply("start");
            }
            let (running, before) = (pid(), answer(&host));
            Shop::good(version).publish_only(&fleet, bed.dir());
            until("the desk on the disk", ROLLOUT_BOUND, || {
                let why: WhyAnswer = fleet.swell_json(&["host", "why", "web-1"]);
                let first = why.why.first()?;
                let named = first.contains("the agent cannot keep its state")
                    && first.contains("mount it writable again");
                named.then_some(())
            });
            assert!(fleet.swell_ok(&["status"]).contains("the agent cannot keep its state"));
            let held = fleet.newest_rollout("shop").hosts;
            assert!(held.iter().all(|host| host.progress == "held"), "{held:?}");
            let doctor = host.exec(&["groundswell-agent", "doctor"]);
            let doctor = String::from_utf8(doctor.stdout).unwrap();
            let bad = "BAD   the disk of /var/lib/groundswell is mounted read-only";
            assert!(doctor.contains(bad) && doctor.contains("remount,rw"), "{doctor}");
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            assert!(why.starts_with("shop  held: the disk of /var/lib/groundswell is"), "{why}");
            assert_eq!((pid(), answer(&host)), (running.clone(), before), "what runs goes on");
            remount("rw");
            completed(&fleet, version);
            assert_eq!(answer(&host).as_deref(), Some(version));
            // What a start on such a disk sees of it stays read-only: it ends once, when the disk is well.
            assert_eq!(pid() == running, runs);
        }
        no_failure(&fleet);
    });
}

#[test]
fn every_way_back_works_while_an_fsync_takes_five_seconds() {
    bed("every_way_back_works_while_an_fsync_takes_five_seconds", |bed| {
        let patient = POLICY.replace("probe_deadline_secs = 20", "probe_deadline_secs = 120");
        let (fleet, host) = one_host(bed, &patient);
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0.0");
        completes(&fleet, bed.dir(), "2.0.0");

        // Ordered.
        let slow = SlowDisk::of_the_host(Duration::from_secs(5));
        let began = Instant::now();
        fleet.swell_ok(&["revert", "shop", "--yes", "--why", "slow disk"]);
        until("1.0.0 after an order", SLOW_BACK_BOUND, || {
            (answer(&host).as_deref() == Some("1.0.0")).then_some(())
        });
        eprintln!("ordered: back after {:.1} s", began.elapsed().as_secs_f32());
        fleet.wait_done("shop");
        drop(slow);

        // By itself: the release goes bad in its bake, when the disk is slow.
        let bad = Shop { version: "4.0.0", fault: "ill", after_secs: 12, more: ("", &[]) };
        bad.publish_only(&fleet, bed.dir());
        until("the bake of 4.0.0", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("shop");
            page.hosts.iter().any(|host| host.progress == "baking").then_some(())
        });
        let slow = SlowDisk::of_the_host(Duration::from_secs(5));
        let page = fleet.wait_end("shop", "4.0.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{page:?}");
        assert_eq!(answer(&host).as_deref(), Some("1.0.0"));

        // No switch under it: each permit is over before the one rename. That is no failure of the release.
        let process = || {
            host.exec_ok(&["systemctl", "show", "--property=MainPID", "--value", "shop.service"])
        };
        let before = process();
        Shop::good("5.0.0").publish_only(&fleet, bed.dir());
        until("two permits that ran out", Duration::from_secs(240), || {
            let said = host.exec_ok(&["journalctl", "--unit=groundswell-apply", "--output=cat"]);
            (said.matches("permit late").count() > 1).then_some(())
        });
        assert_eq!(process(), before, "what runs was touched");
        until("that its disk is too slow", Duration::from_secs(120), || {
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            let desk = fleet.swell_ok(&["host", "why", "web-1"]);
            let said = |text: &str| text.contains("takes longer than the 2 s of a permit");
            (said(&why) && said(&desk)).then_some(())
        });
        until("what runs to answer", SLOW_BACK_BOUND, || {
            (answer(&host).as_deref() == Some("1.0.0")).then_some(())
        });
        let page = fleet.newest_rollout("shop");
        assert_eq!(page.rollout.counts.failed, 0, "{page:?}");
        drop(slow);
    });
}
