//! Machines that stand still and machines that are copied: a host whose control group is frozen in the middle of a
//! permit or a bake, and a state directory that comes up on a second host.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, Instant};

use groundswell_common::api::{HostsAnswer, OutcomeName, WhyAnswer};
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{Host, bed};
use groundswell_tests::kept::copy_tree;
use groundswell_tests::shop::{Log, Shop, another_host, answer, one_host};
use groundswell_tests::slow::SlowDisk;
use groundswell_tests::wait::{until, within};

/// Longer than a permit counts, and than the whole bake.
const STILL: Duration = Duration::from_secs(45);
const BAKE_SECS: u64 = 12;
/// There are a few from a permit to the rename, and a permit counts 2 s.
const SYNC: Duration = Duration::from_millis(250);

fn policy() -> String {
    format!(
        "service = \"shop\"\ntargets = \"role=web\"\nfailure_budget = 1\nbake_secs = 0\n\
         host_bake_secs = {BAKE_SECS}\nprobe_deadline_secs = 60\n\
         progress_deadline_secs = 3600\n\n[[wave]]\nrest = true\n"
    )
}

fn completes(fleet: &Fleet, dir: &std::path::Path, version: &str) {
    let page = Shop::good(version).publish(fleet, dir);
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
}

fn live(host: &Host) -> String {
    host.exec_ok(&["readlink", "/var/lib/groundswell/services/shop/current"])
}

fn log(host: &Host) -> String {
    host.exec_ok(&["journalctl", "--unit=groundswell-apply", "--output=cat", "--no-pager"])
}

#[test]
fn a_machine_that_stands_still_over_its_permit_switches_nothing_after_a_halt() {
    let name = "a_machine_that_stands_still_over_its_permit_switches_nothing_after_a_halt";
    bed(name, |bed| {
        let (fleet, host) = one_host(bed, &policy());
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0.0");
        let before = live(&host);
        // On this disk it takes longer from the permit to the rename than it takes to see the permit and to stop the
        // machine: it is stopped at many places of the switch, most of them in the permit's time.
        let _slow = SlowDisk::of_the_host(SYNC);
        let mut still_in_permit = 0;
        for round in 0..6 {
            let version = format!("2.0.{round}");
            Shop::good(&version).publish_only(&fleet, bed.dir());
            until("the turn of the host", ROLLOUT_BOUND, || {
                let page = fleet.newest_rollout("shop");
                let its_turn = ["granted", "probing", "baking", "committed"];
                let hosts = page.hosts.iter();
                let turn = hosts.filter(|host| its_turn.contains(&host.progress.as_str()));
                (turn.count() > 0).then_some(())
            });
            std::thread::sleep(Duration::from_millis(50 * round));
            host.freeze();
            let began = Instant::now();
            let answered = fleet.swell_ok(&["halt", "shop", "--why", "it stands still"]);
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
            // On the disk of a machine that stands still nothing changes: what is live now was renamed before.
            let at_the_answer =
                std::fs::read_link(host.outside_path("/var/lib/groundswell/services/shop/current"));
            let at_the_answer = at_the_answer.unwrap();
            std::thread::sleep(Duration::from_secs(3));
            host.thaw();
            // Whatever it had in its hands, it has had its say now.
            std::thread::sleep(Duration::from_secs(3));
            let now = live(&host);
            assert_eq!(
                now,
                at_the_answer.to_string_lossy(),
                "a rename after the answer: {answered}"
            );
            still_in_permit += u32::from(now == before);
            fleet.swell_ok(&["rollout", "abort", "shop", "--yes", "--why", "again"]);
            until("1.0.0 again", ROLLOUT_BOUND, || {
                (answer(&host).as_deref() == Some("1.0.0")).then_some(())
            });
            fleet.wait_done("shop");
        }
        eprintln!("{still_in_permit} of 6 stops came before the rename");
        assert!(
            still_in_permit > 0,
            "each stop came after the rename: nothing was shown\n{}",
            log(&host)
        );
    });
}

#[test]
fn a_machine_that_stands_still_in_a_bake_bakes_anew() {
    bed("a_machine_that_stands_still_in_a_bake_bakes_anew", |bed| {
        let (fleet, host) = one_host(bed, &policy());
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0.0");
        Shop::good("2.0.0").publish_only(&fleet, bed.dir());
        until("the bake", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("shop");
            page.hosts.iter().any(|host| host.progress == "baking").then_some(())
        });
        host.freeze();
        std::thread::sleep(STILL);
        host.thaw();
        let woke = Instant::now();
        // Silent for so long it counts as lost, until it says that it committed.
        until("the host to commit", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("shop");
            page.hosts.iter().any(|host| host.progress == "committed").then_some(())
        });
        let baked = woke.elapsed();
        assert!(baked >= Duration::from_secs(BAKE_SECS), "committed {baked:?} after it woke");
        assert_eq!(answer(&host).as_deref(), Some("2.0.0"));
    });
}

fn why(fleet: &Fleet) -> String {
    let why: WhyAnswer = fleet.swell_json(&["host", "why", "web-1"]);
    why.why.join("\n")
}

fn doctor(host: &Host) -> String {
    String::from_utf8(host.exec(&["groundswell-agent", "doctor"]).stdout).unwrap()
}

#[test]
fn a_copied_machine_is_found_out_gets_nothing_and_is_cured_by_an_enrolment_of_its_own() {
    let name = "a_copied_machine_is_found_out_gets_nothing_and_is_cured_by_an_enrolment_of_its_own";
    bed(name, |bed| {
        let (fleet, host) = one_host(bed, &policy());
        let _log = Log(&host);
        completes(&fleet, bed.dir(), "1.0.0");
        let copy = another_host(bed, "web-2");
        let sides = ["groundswell-agent", "groundswell-apply"];
        for dir in ["/var/lib/groundswell", "/var/lib/groundswell-agent"] {
            copy_tree(&host.outside_path(dir), &copy.outside_path(dir));
        }
        copy.exec_ok(&["systemctl", "start", sides[0], sides[1]]);

        until("the twins at the desk", ROLLOUT_BOUND, || {
            why(&fleet).contains("two machines use the key of this host").then_some(())
        });
        let status = fleet.swell_ok(&["status"]);
        assert!(status.contains("! web-1: two machines use the key of this host"), "{status}");
        // One of them stays connected; both say what is wrong and what to do.
        let told = |host: &Host, what: &str| {
            let said = doctor(host);
            let both = said.contains("another machine with the key of this host");
            both && said.contains(what) && said.contains("enroll --again --name NAME")
        };
        until("the twins on both hosts", ROLLOUT_BOUND, || {
            let pairs = [(&host, &copy), (&copy, &host)];
            pairs.into_iter().find(|(stays, goes)| {
                told(stays, "BAD   connected to the coordinator")
                    && told(goes, "BAD   not connected")
            })
        });
        Shop::good("2.0.0").publish_only(&fleet, bed.dir());
        let moved = within(Duration::from_secs(15), || {
            let moved = [&host, &copy].iter().any(|host| answer(host).as_deref() == Some("2.0.0"));
            moved.then_some(())
        });
        assert!(moved.is_none(), "a twin got a permit");
        for host in [&host, &copy] {
            assert_eq!(answer(host).as_deref(), Some("1.0.0"));
        }

        let token = fleet.token("role=web");
        let again = ["groundswell-agent", "enroll", "--again", "--name", "web-2", &token];
        let done = copy.exec(&again);
        assert!(done.status.success(), "{}", describe(&done));
        until("the copy as a host of its own", ROLLOUT_BOUND, || {
            let hosts: HostsAnswer = fleet.swell_json(&["host", "ls"]);
            hosts
                .hosts
                .iter()
                .any(|host| host.name.as_str() == "web-2" && host.connected)
                .then_some(())
        });
        Shop::good("3.0.0").publish_only(&fleet, bed.dir());
        until("3.0.0 on the copy", ROLLOUT_BOUND, || {
            (answer(&copy).as_deref() == Some("3.0.0")).then_some(())
        });
        assert!(doctor(&copy).contains("connected to the coordinator since"), "{}", doctor(&copy));
    });
}
