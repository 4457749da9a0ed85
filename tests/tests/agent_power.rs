//! Power cuts of the agent on a disk with a volatile write cache: the live release is the old or the new
//! one and complete, the agent goes on by itself, and nothing is stuck.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use groundswell_common::api::{OutcomeName, PhaseName};
use groundswell_tests::bins::bin;
use groundswell_tests::busy::{POLICY, keep_busy};
use groundswell_tests::cutdisk::CutDisk;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, live_version, sleeper_tree};
use groundswell_tests::private::inside;
use groundswell_tests::wait::{Over, until, within};
use rustix::process::{Pid, Signal, kill_process};

const CUTS: u32 = 204;
const DISK_BYTES: u64 = 128 * 1024 * 1024;

/// Every cut drops what was not flushed: all of it, half, or a tenth, block by block at random.
const KEEP: [f64; 3] = [0.0, 0.5, 0.9];
/// Every second cut comes when a flush is asked for, up to so many flushes later: about what two releases need.
const FLUSHES_MAX: u32 = 120;

#[test]
fn power_cuts_leave_the_old_release_or_the_new_one() {
    inside("power_cuts_leave_the_old_release_or_the_new_one", |private| {
        let seed = getrandom::u64().unwrap();
        let mut disk = CutDisk::new(&private.dir().join("disk"), DISK_BYTES, seed);
        let state = disk.mount().join("agent");
        let fleet = Fleet::start(private.dir(), "127.0.0.1");
        fleet.apply(POLICY);
        let mut agent = fleet.agent_in(&bin("groundswell-agent"), ("web-1", "role=web"), &state);
        publish(&fleet, private.dir(), "1.0.0");
        fleet.wait_for_version("shop", "1.0.0", &["web-1"]);

        let over = AtomicBool::new(false);
        let (dir, service) = (private.dir().to_owned(), state.join("services/shop"));
        let (lost, changed, published) = std::thread::scope(|scope| {
            let people =
                scope.spawn(|| keep_busy(&fleet, &over, |version| publish(&fleet, &dir, version)));
            let end = Over(&over);
            let (mut dropped, mut kept, mut at_flushes) = (0, 0, 0);
            let (mut changed, mut before) = (0, String::new());
            for round in 0..CUTS {
                // The bound is the length of the experiment, not a wait for a condition.
                let pause = 100 + u64::from(getrandom::u32().unwrap() % 700);
                let pause = Duration::from_millis(pause);
                let keep = KEEP[usize::try_from(round / 2).unwrap() % KEEP.len()];
                if round % 2 == 0 {
                    std::thread::sleep(pause);
                } else {
                    disk.cut_at_flush(1 + getrandom::u32().unwrap() % FLUSHES_MAX, keep);
                    at_flushes +=
                        u32::from(within(pause, || (!disk.has_power()).then_some(())).is_some());
                }
                let report = disk.cut(keep);
                (dropped, kept) = (dropped + report.dropped, kept + report.kept);
                agent.kill();
                end_what_runs_in(disk.mounted());
                disk.unmount();
                disk.remount();
                let live = live_version(&service);
                let live = live.unwrap_or_else(|| panic!("cut {round}: nothing is live"));
                changed += u32::from(live != before);
                before = live;
                agent.run();
            }
            drop(end);
            ((dropped, kept, at_flushes), changed, people.join().unwrap())
        });

        // It is not stuck: a last release goes all the way.
        publish(&fleet, private.dir(), "9.0.0");
        let page = until("the last release", ROLLOUT_BOUND, || {
            assert!(!agent.has_ended(), "the agent ended: {}", agent.log());
            let page = fleet.newest_rollout("shop");
            let done = page.rollout.phase == PhaseName::Done;
            (done && page.rollout.version.as_str() == "9.0.0").then_some(page)
        });
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        assert_eq!(live_version(&service).as_deref(), Some("9.0.0"));
        assert!(changed > CUTS / 10, "{changed} cuts saw another release than the cut before");
        let (dropped, kept, at_flushes) = lost;
        assert!(at_flushes > CUTS / 4, "{at_flushes} cuts came at a flush");
        assert!(dropped > u64::from(CUTS), "{dropped} unflushed writes were lost");
        eprintln!(
            "seed {seed}: {CUTS} cuts, {at_flushes} at a flush, 0 bad; {dropped} unflushed writes dropped, \
             {kept} kept, {published} releases published, {changed} cuts saw another release than the one before"
        );
    });
}

fn publish(fleet: &Fleet, dir: &Path, version: &str) {
    fleet.publish("shop", version, &sleeper_tree(dir, version, true));
}

/// A power cut ends every process: those that run from the disk too.
fn end_what_runs_in(folder: &Path) {
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let there =
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
        if let Some(pid) = Pid::from_raw(number).filter(|_| there) {
            // It may have ended in between.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
