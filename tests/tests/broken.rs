//! Releases that are broken in every way that a service can be, on a host with a real systemd, through real
//! rollouts: each goes back by itself within its deadline, and `swell` says why.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use groundswell_common::api::OutcomeName;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Bed, Host, bed};
use groundswell_tests::shop::{Shop, answer, one_host};
use groundswell_tests::wait::{Over, until};

const SERVICE_DIR: &str = "/var/lib/groundswell/services/shop";
/// Seconds from the switch to a pass of all probes, and of the bake.
const DEADLINE_SECS: u64 = 6;
const BAKE_SECS: u64 = 10;
/// What a busy machine may add to a revert: the stop, the start and the probe of the old release.
const SLACK: Duration = Duration::from_secs(8);

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
bake_secs = 1
host_bake_secs = 10
probe_deadline_secs = 6
progress_deadline_secs = 120

[[wave]]
name = "all"
percent = 100
"#;

/// A release that breaks, and what follows from it.
struct Broken {
    name: &'static str,
    /// As the service reads it, with the seconds from its start.
    fault: &'static str,
    after_secs: u64,
    /// What `swell` must say.
    why: &'static [&'static str],
    /// The longest that nobody may be answered well.
    outage: Duration,
}

/// Seconds in which a bake sees a fault: two probes of at most a second each, and the second between tries.
const SEEN_SECS: u64 = 4;

const BROKEN: [Broken; 6] = [
    Broken {
        name: "does not start",
        fault: "exit",
        after_secs: 0,
        why: &["probes did not pass", "this release does not start"],
        outage: Duration::from_secs(DEADLINE_SECS),
    },
    Broken {
        name: "dies in the bake",
        fault: "die",
        after_secs: 5,
        why: &["failed while it was watched"],
        outage: Duration::from_secs(SEEN_SECS),
    },
    Broken {
        name: "hangs",
        fault: "hang",
        after_secs: 0,
        why: &["probes did not pass", "no answer within 1 s"],
        outage: Duration::from_secs(DEADLINE_SECS),
    },
    Broken {
        name: "answers 500",
        fault: "ill",
        after_secs: 0,
        why: &["probes did not pass", "status 500"],
        outage: Duration::from_secs(DEADLINE_SECS),
    },
    Broken {
        name: "leaks memory until it dies",
        fault: "leak",
        after_secs: 2,
        why: &["failed while it was watched", "memory allocation"],
        outage: Duration::from_secs(SEEN_SECS),
    },
    Broken {
        name: "slow burn: ill late in the bake",
        fault: "ill",
        after_secs: 8,
        why: &["failed while it was watched", "status 500"],
        outage: Duration::from_secs(SEEN_SECS),
    },
];

#[test]
fn each_broken_release_goes_back_within_its_deadline_and_says_why() {
    bed("each_broken_release_goes_back_within_its_deadline_and_says_why", |bed| {
        let (fleet, host) = start(bed);
        eprintln!("\n| release | nobody served for | switch to old again |\n| --- | --- | --- |");
        for (number, broken) in BROKEN.iter().enumerate() {
            goes_back(&fleet, bed.dir(), &host, broken, &format!("2.{number}"));
        }
    });
}

/// The disk has no room left for anything, the agent's journal included, and what is freed is taken at once.
#[test]
fn a_release_that_fills_the_disk_goes_back_on_the_full_disk() {
    bed("a_release_that_fills_the_disk_goes_back_on_the_full_disk", |bed| {
        let (fleet, host) = start(bed);
        eprintln!("\n| release | nobody served for | switch to old again |\n| --- | --- | --- |");
        let broken = Broken {
            name: "fills the disk",
            fault: "fill",
            after_secs: 2,
            why: &["failed while it was watched", "status 500"],
            outage: Duration::from_secs(SEEN_SECS),
        };
        goes_back(&fleet, bed.dir(), &host, &broken, "2.0");
        // The agent neither ended nor lost count: what it says is what is there.
        let restarts = ["systemctl", "show", "--property=NRestarts", "--value"];
        let restarts = host.exec_ok(&[&restarts[..], &["groundswell-agent"]].concat());
        assert_eq!(restarts, "0", "the agent ran on, on a full disk");
        let free = host.exec_ok(&["stat", "--file-system", "--format=%a", "/var/lib/groundswell"]);
        assert!(free.parse::<u64>().unwrap() < 16 * 1024, "the disk is still full: {free} blocks");

        // Too full for another release, and it says so; with room again, the same one goes through by itself.
        Shop::good("3.0").publish_only(&fleet, bed.dir());
        until("the cause", ROLLOUT_BOUND, || {
            let why = host.exec_ok(&["groundswell-agent", "why", "shop"]);
            why.contains("make room").then_some(())
        });
        host.exec_ok(&["rm", "/var/lib/private/shop/filling"]);
        let page = fleet.wait_end("shop", "3.0");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        assert_eq!(answer(&host).as_deref(), Some("3.0"));
    });
}

/// A fleet of one host on which version 1.0 is well.
fn start(bed: &mut Bed) -> (Fleet, Host) {
    let (fleet, host) = one_host(bed, POLICY);
    let page = Shop::good("1.0").publish(&fleet, bed.dir());
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
    assert_eq!(answer(&host).as_deref(), Some("1.0"));
    (fleet, host)
}

fn goes_back(fleet: &Fleet, dir: &Path, host: &Host, broken: &Broken, version: &str) {
    let over = AtomicBool::new(false);
    let (page, seen) = thread::scope(|scope| {
        let seen = scope.spawn(|| timeline(host, &over));
        let end = Over(&over);
        let shop =
            Shop { fault: broken.fault, after_secs: broken.after_secs, ..Shop::good(version) };
        let page = shop.publish(fleet, dir);
        until("the old release", ROLLOUT_BOUND, || {
            (answer(host).as_deref() == Some("1.0")).then_some(())
        });
        drop(end);
        (page, seen.join().unwrap())
    });
    let name = broken.name;
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{name}: {page:?}");
    let shown = fleet.swell_ok(&["rollout", "show", page.rollout.rollout.as_str()]);
    for part in broken.why {
        assert!(shown.contains(part), "{name}: {part:?} is not in {shown}");
    }
    let manifest = host.exec_ok(&["cat", &format!("{SERVICE_DIR}/current/manifest.json")]);
    assert!(manifest.contains("\"version\":\"1.0\""), "{name}: {manifest}");

    let times = Times::of(&seen);
    eprintln!(
        "| {name} | {:.1} s | {:.1} s |",
        times.outage.as_secs_f32(),
        times.whole.as_secs_f32()
    );
    assert!(times.outage <= broken.outage + SLACK, "{name}: {:?}", times.outage);
    let most = Duration::from_secs(DEADLINE_SECS + BAKE_SECS) + SLACK;
    assert!(times.whole <= most, "{name}: {:?}", times.whole);
}

/// What callers saw of one broken release.
struct Times {
    /// The longest time without a good answer.
    outage: Duration,
    /// From the last answer of the old release to the next of it.
    whole: Duration,
}

impl Times {
    fn of(seen: &[(Instant, Option<String>)]) -> Self {
        let good: Vec<_> = seen.iter().filter(|(_, answer)| answer.is_some()).collect();
        let longest = |times: Vec<&Instant>| {
            let gaps = times.windows(2).map(|pair| *pair[1] - *pair[0]);
            gaps.max().unwrap_or_default()
        };
        let old = good.iter().filter(|(_, answer)| answer.as_deref() == Some("1.0"));
        Self {
            outage: longest(good.iter().map(|(at, _)| at).collect()),
            whole: longest(old.map(|(at, _)| at).collect()),
        }
    }
}

/// What the host answers, from now until it is over.
fn timeline(host: &Host, over: &AtomicBool) -> Vec<(Instant, Option<String>)> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let answer = answer(host);
        seen.push((Instant::now(), answer));
        thread::sleep(Duration::from_millis(20));
    }
    seen
}
