//! Power cuts of the coordinator on a disk with a volatile write cache: no acknowledged decision is
//! lost, and the store always opens.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use groundswell_common::api::{AuditPage, ServicesAnswer};
use groundswell_tests::cutdisk::CutDisk;
use groundswell_tests::fleet::Fleet;
use groundswell_tests::private::inside;

const CUTS: u32 = 52;
const DISK_BYTES: u64 = 256 * 1024 * 1024;

/// Every cut drops what was not flushed: all of it, half, or a tenth, block by block at random.
const KEEP: [f64; 3] = [0.0, 0.5, 0.9];

#[test]
fn power_cuts_lose_no_acknowledged_decision() {
    inside("power_cuts_lose_no_acknowledged_decision", |private| {
        let seed = getrandom::u64().unwrap();
        eprintln!("seed {seed}");
        let mut disk = CutDisk::new(&private.dir().join("disk"), DISK_BYTES, seed);
        let state = disk.mount().join("coordinator");
        let mut fleet = Fleet::init(private.dir(), &state, "127.0.0.1");
        // The fleet exists once init has returned: from here on nothing may be lost.
        fleet.serve();
        let mut acknowledged = BTreeSet::new();
        let mut dropped = 0;
        for round in 0..CUTS {
            let keep = KEEP[usize::try_from(round).unwrap() % KEEP.len()];
            dropped += decide_until_the_cut(&fleet, &mut disk, (round, keep), &mut acknowledged);
            fleet.kill_coordinator();
            disk.unmount();
            disk.remount();
            assert!(fleet.try_serve(), "cut {round}: the store does not open; {}", fleet.log());
            if round % 10 == 9 {
                check(&fleet, &acknowledged, round);
            }
        }
        check(&fleet, &acknowledged, CUTS);
        fleet.swell_ok(&["audit", "verify"]);
        fleet.kill_coordinator();
        std::fs::remove_dir_all(state.join("view")).unwrap();
        fleet.serve();
        check(&fleet, &acknowledged, CUTS);
        eprintln!(
            "{CUTS} cuts, {} acknowledged decisions, 0 lost; {dropped} unflushed writes dropped",
            acknowledged.len()
        );
    });
}

/// Decisions one after another from two operators, until the power goes at a random moment.
/// Returns how many unflushed writes the disk lost.
fn decide_until_the_cut(
    fleet: &Fleet,
    disk: &mut CutDisk,
    (round, keep): (u32, f64),
    acknowledged: &mut BTreeSet<String>,
) -> u64 {
    let decide = |who: &str| {
        let mut done = Vec::new();
        for number in 0.. {
            let name = format!("svc-{who}-{round}-{number}");
            let policy = format!("service = \"{name}\"\ntargets = \"role={name}\"\n");
            let path = fleet.profile().with_file_name(format!("decision-{who}.toml"));
            std::fs::write(&path, policy).unwrap();
            let mut apply = fleet.swell(&["service", "apply", &path.to_string_lossy()]);
            if !apply.output().unwrap().status.success() {
                break;
            }
            done.push(name);
        }
        done
    };
    std::thread::scope(|scope| {
        let operators = ["a", "b"].map(|who| scope.spawn(move || decide(who)));
        // The bound is the length of the experiment, not a wait for a condition.
        std::thread::sleep(Duration::from_millis(50 + u64::from(getrandom::u32().unwrap() % 400)));
        let report = disk.cut(keep);
        for operator in operators {
            acknowledged.extend(operator.join().unwrap());
        }
        report.dropped
    })
}

fn check(fleet: &Fleet, acknowledged: &BTreeSet<String>, round: u32) {
    let answer: ServicesAnswer = fleet.swell_json(&["service", "ls"]);
    let known: BTreeSet<String> =
        answer.services.iter().map(|service| service.service.to_string()).collect();
    let lost: Vec<_> = acknowledged.difference(&known).collect();
    assert!(lost.is_empty(), "after cut {round} these acknowledged policies are gone: {lost:?}");
    let page: AuditPage = fleet.swell_json(&["audit", "log", "--limit", "1"]);
    assert!(page.head.seq >= u64::try_from(acknowledged.len()).unwrap());
}
