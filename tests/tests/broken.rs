//! Releases that are broken in every way that a service can be, on a host with a real systemd, through real
//! rollouts: each goes back by itself within its deadline, and `swell` says why.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use groundswell_common::api::{OutcomeName, PhaseName, RolloutPage};
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{Bed, Host, bed, boot_with_agent, enrol, install_agent};
use groundswell_tests::wait::until;

const PORT: u16 = 8080;
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

/// As people write it: systemd starts it again and again, has a bound of memory for it, and stops it within 5 s.
const UNIT: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/var/lib/groundswell/services/shop/current/tree/bin/faulty
DynamicUser=yes
StateDirectory=shop
LimitAS=400M
LimitCORE=0
Restart=always
RestartSec=200ms
TimeoutStopSec=5
";

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 67108864

[services.shop]
units = ["shop.service"]
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

        // Too full for another release, and it says so; with room again, the next one goes through.
        let page = publish(&fleet, bed.dir(), "3.0", ("none", 0));
        let why = page.hosts.first().unwrap().why.clone().unwrap_or_default();
        assert!(why.contains("make room"), "{why}");
        host.exec_ok(&["rm", "/var/lib/private/shop/filling"]);
        let page = publish(&fleet, bed.dir(), "3.1", ("none", 0));
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
        assert_eq!(answer(&host).as_deref(), Some("3.1"));
    });
}

/// A fleet of one host on which version 1.0 is well.
fn start(bed: &mut Bed) -> (Fleet, Host) {
    let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
    fleet.apply(POLICY);
    install_agent(bed);
    let mut host = bed.host("web-1");
    host.install_file("/etc/systemd/system/shop.service", UNIT.as_bytes(), 0o644);
    boot_with_agent(&mut host, AGENT_CONFIG);
    enrol(&host, &fleet.token("role=web"));
    let page = publish(&fleet, bed.dir(), "1.0", ("none", 0));
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
    assert_eq!(answer(&host).as_deref(), Some("1.0"));
    (fleet, host)
}

fn goes_back(fleet: &Fleet, dir: &Path, host: &Host, broken: &Broken, version: &str) {
    let watch = AtomicBool::new(true);
    let (page, seen) = thread::scope(|scope| {
        let seen = scope.spawn(|| timeline(host, &watch));
        let end = End(&watch);
        let page = publish(fleet, dir, version, (broken.fault, broken.after_secs));
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

/// Ends the watch, also where an assertion fails meanwhile.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
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

/// What the host answers, from now until `watch` is taken back.
fn timeline(host: &Host, watch: &AtomicBool) -> Vec<(Instant, Option<String>)> {
    let mut seen = Vec::new();
    while watch.load(Ordering::Relaxed) {
        let answer = answer(host);
        seen.push((Instant::now(), answer));
        thread::sleep(Duration::from_millis(20));
    }
    seen
}

/// The version that answers well on the host; `None` for no or a bad answer.
fn answer(host: &Host) -> Option<String> {
    let address = SocketAddr::from((host.addr(), PORT));
    let patience = Duration::from_millis(300);
    let mut line = TcpStream::connect_timeout(&address, patience).ok()?;
    line.set_read_timeout(Some(patience)).ok()?;
    line.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    line.read_to_string(&mut text).ok()?;
    let (head, version) = text.split_once("\r\n\r\n")?;
    head.contains(" 200 ").then(|| version.to_owned())
}

/// Publishes a release with this fault and waits for the end of its rollout.
fn publish(fleet: &Fleet, dir: &Path, version: &str, fault: (&str, u64)) -> RolloutPage {
    let tree = tree(dir, version, fault);
    let mut command = fleet.swell(&["publish", "--service", "shop", "--version", version]);
    let output = command.arg(&tree).output().unwrap();
    assert!(output.status.success(), "{}", describe(&output));
    until("the end of the rollout", ROLLOUT_BOUND, || {
        let page = fleet.newest_rollout("shop");
        let over =
            page.rollout.phase == PhaseName::Done && page.rollout.version.as_str() == version;
        over.then_some(page)
    })
}

fn tree(dir: &Path, version: &str, (fault, after_secs): (&str, u64)) -> PathBuf {
    let tree = dir.join(format!("shop-{version}"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::copy(bin("faulty"), tree.join("bin/faulty")).unwrap();
    fs::set_permissions(tree.join("bin/faulty"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("etc/fault"), format!("{version} {fault} {after_secs}\n")).unwrap();
    let spec = format!(
        "[release]\nunits = [\"shop.service\"]\nplatform = \"linux-x86_64\"\n\n\
         [[probe]]\nkind = \"http\"\nurl = \"http://127.0.0.1:{PORT}/\"\ntimeout_secs = 1\n"
    );
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    tree
}
