//! The agent killed, or refused by the disk, at every system call by which it changes its state: the live
//! release is the old or the new one and complete at every moment, and the agent goes on by itself.
//!
//! The tracer counts calls by thread, so a number alone names no call: the same number of another thread may
//! come first. A call is named by its path as well, in which digests stand by their part in the journey.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use groundswell_common::api::{HostsAnswer, OutcomeName, PhaseName, RolloutPage};
use groundswell_common::manifest::{BlobKind, RawManifest};
use groundswell_tests::fleet::{Agent, Fleet, live_version, release_version, sleeper_tree};
use groundswell_tests::private::inside;
use groundswell_tests::tools::locate;
use groundswell_tests::wait::{until, within};
use rustix::process::{Pid, Signal, kill_process};

/// How long one case may take; a stuck host would take for ever.
const CASE_BOUND: Duration = Duration::from_secs(60);
/// The calls by which files are changed; a machine does not have all of them.
const CALLS: [&str; 34] = [
    "open",
    "openat",
    "openat2",
    "creat",
    "write",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "truncate",
    "ftruncate",
    "fallocate",
    "copy_file_range",
    "sendfile",
    "splice",
    "fsync",
    "fdatasync",
    "syncfs",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mkdir",
    "mkdirat",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "lchown",
];
const LANES: usize = 2;
/// What sends a message to the coordinator.
const SEND: &str = "writev";
/// Every case is tried where this is set to `all`; otherwise one in [`TRIED_ONE_IN`], drawn anew at each run.
const CASES_VARIABLE: &str = "GROUNDSWELL_INJECT";
const TRIED_ONE_IN: usize = 3;
/// Of the calls of a recorded run, how many may not come again: one in so many.
const MISSED_ONE_IN: usize = 20;
/// Hexadecimal digits of a digest.
const DIGEST_CHARS: usize = 64;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Eio,
    Enospc,
    Erofs,
    Emfile,
}

impl Fault {
    /// The faults that a call can have.
    fn of(call: &str) -> &'static [Self] {
        let every = &[Self::Kill, Self::Eio, Self::Enospc, Self::Erofs, Self::Emfile];
        match call {
            SEND => &every[..1],
            "openat" | "openat2" | "open" | "creat" => every,
            // Through an open file nobody sees that the file system became read-only.
            "write" | "ftruncate" | "fsync" | "syncfs" | "fchmod" => &every[..3],
            _ => &every[..4],
        }
    }

    /// As the tracer is told.
    fn injected(self) -> &'static str {
        match self {
            Self::Kill => "signal=SIGKILL",
            Self::Eio => "error=EIO",
            Self::Enospc => "error=ENOSPC",
            Self::Erofs => "error=EROFS",
            Self::Emfile => "error=EMFILE",
        }
    }
}

/// What the host is told while it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journey {
    /// To run a newer release.
    Forward,
    /// To go back.
    Back,
}

/// One call of a journey.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    call: &'static str,
    /// Below the state directory, digests by their part; `None` for messages to the coordinator.
    path: Option<String>,
    /// Which one of its thread with this call and this path, from 1.
    number: usize,
}

#[derive(Debug)]
struct Case {
    journey: Journey,
    point: Point,
    fault: Fault,
}

/// One lane: a host with a service of its own, so that lanes do not wait for each other.
struct Lane<'a> {
    fleet: &'a Fleet,
    dir: PathBuf,
    service: String,
    agent: Agent,
    /// Counts releases.
    next: u32,
}

#[test]
fn a_kill_or_an_error_at_any_call_leaves_the_old_release_or_the_new_one() {
    let name = "a_kill_or_an_error_at_any_call_leaves_the_old_release_or_the_new_one";
    inside(name, |private| {
        let fleet = Fleet::start(private.dir(), "127.0.0.1");
        let mut lanes: Vec<Lane<'_>> =
            (0..LANES).map(|at| Lane::new(&fleet, private.dir(), at)).collect();
        let mut cases = Vec::new();
        for journey in [Journey::Forward, Journey::Back] {
            cases.extend(enumerate(&mut lanes[0], journey));
        }
        let every = cases.len();
        if !std::env::var(CASES_VARIABLE).is_ok_and(|which| which == "all") {
            cases = drawn(cases);
        }
        let count = cases.len();
        let queue = std::sync::Mutex::new(cases);
        let missed: usize = std::thread::scope(|scope| {
            let work = |mut lane: Lane<'_>| {
                let mut missed = 0;
                loop {
                    let case = queue.lock().unwrap().pop();
                    let Some(case) = case else { return missed };
                    if !lane.run(&case) {
                        eprintln!("did not come: {case:?}");
                        missed += 1;
                    }
                }
            };
            let threads: Vec<_> =
                lanes.into_iter().map(|lane| scope.spawn(move || work(lane))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        eprintln!("{count} of {every} cases, {missed} of them calls that did not come, 0 bad");
        assert!(missed * MISSED_ONE_IN < count, "{missed} of {count} calls never came");
    });
}

/// One in so many, neighbours apart: the call that a run leaves out is tried by another.
fn drawn(cases: Vec<Case>) -> Vec<Case> {
    let first = usize::try_from(getrandom::u32().unwrap()).unwrap() % TRIED_ONE_IN;
    eprintln!(
        "one case in {TRIED_ONE_IN}, from number {first} on; {CASES_VARIABLE}=all tries every one"
    );
    cases.into_iter().skip(first).step_by(TRIED_ONE_IN).collect()
}

/// Every case of a journey, from a run in which calls are only counted.
fn enumerate(lane: &mut Lane<'_>, journey: Journey) -> Vec<Case> {
    let log = lane.dir.join(format!("calls-{}-{journey:?}", lane.service));
    let traced: Vec<String> = CALLS.iter().chain([&SEND]).map(|call| format!("?{call}")).collect();
    let mut tracer = Command::new(locate("strace"));
    tracer.args(["-D", "-f", "-qq", "-y", "-o"]).arg(&log);
    tracer.arg("-e").arg(format!("trace={}", traced.join(",")));
    lane.prepare(journey);
    let parts = lane.depart(journey, tracer);
    lane.wait_done();
    lane.end_agent();
    let state = lane.agent.state().to_string_lossy().into_owned();
    let points = points(&fs::read_to_string(&log).unwrap(), &state, &parts);
    let mut counts = BTreeMap::<&str, u32>::new();
    for point in &points {
        *counts.entry(point.call).or_default() += 1;
    }
    eprintln!("{journey:?}: {} calls: {counts:?}", points.len());
    // Without these it was not the whole journey.
    let named = |call: &str, path: &str| {
        points.iter().any(|point| point.call == call && point.path.as_deref() == Some(path))
    };
    let service = "/services/SERVICE";
    match journey {
        Journey::Forward => {
            assert!(named("syncfs", &format!("{service}/releases/NEW.tmp")), "{points:?}");
            assert!(named("rename", &format!("{service}/releases/NEW.tmp")), "{points:?}");
            assert!(named("rename", &format!("{service}/.current.new")), "{points:?}");
            assert!(named("rename", &format!("{service}/releases/BEFORE")), "{points:?}");
        }
        Journey::Back => {
            assert!(named("rename", &format!("{service}/previous")), "{points:?}");
            assert!(named("rename", &format!("{service}/releases/LIVE")), "{points:?}");
        }
    }
    let mut cases = Vec::new();
    for point in points {
        let case = |fault: &Fault| Case { journey, point: point.clone(), fault: *fault };
        cases.extend(Fault::of(point.call).iter().map(case));
    }
    cases
}

/// The calls of a trace that change something below `state`, or send a message.
fn points(trace: &str, state: &str, parts: &[(&str, String)]) -> BTreeSet<Point> {
    let mut seen = BTreeMap::<(&str, &str, &str), usize>::new();
    let mut points = BTreeSet::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, rest)) = rest.trim_start().split_once('(') else { continue };
        let Some(call) = CALLS.into_iter().chain([SEND]).find(|call| *call == name) else {
            continue;
        };
        let arguments = rest.rsplit_once(") = ").map_or(rest, |(arguments, _)| arguments);
        let path = arguments.find(state).and_then(|at| arguments[at..].split(['"', '>']).next());
        if path.is_none() && call != SEND {
            continue;
        }
        let number = seen.entry((thread, call, path.unwrap_or_default())).or_default();
        *number += 1;
        let reads = call.starts_with("open") && !arguments.contains("O_CREAT");
        if !reads {
            let path = path.map(|path| with_parts(&path[state.len()..], parts));
            points.insert(Point { call, path, number: *number });
        }
    }
    points
}

/// Whether a call belongs to the start of the service, after the live link was replaced.
fn is_of_the_start(path: Option<&str>) -> bool {
    path.is_some_and(|path| path.contains("process.json") || path.contains("output.log"))
}

/// A path with the names of parts where their digests stand.
fn with_parts(path: &str, parts: &[(&str, String)]) -> String {
    let replace = |path: String, (part, digest): &(&str, String)| path.replace(digest, part);
    let path = parts.iter().fold(path.to_owned(), replace);
    let is_digest = |name: &str| {
        name.len() == DIGEST_CHARS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(!path.split(['/', '.']).any(is_digest), "{path} names a digest that no part has");
    path
}

impl<'a> Lane<'a> {
    fn new(fleet: &'a Fleet, dir: &Path, at: usize) -> Self {
        let service = format!("shop-{at}");
        let policy = format!(
            "service = \"{service}\"\ntargets = \"lane={at}\"\nfailure_budget = 1\nbake_secs = 0\n\
             host_bake_secs = 0\nprobe_deadline_secs = 10\nprogress_deadline_secs = 60\n\
             absent_after_secs = 20\n[[wave]]\nrest = true\n"
        );
        fleet.apply(&policy);
        let agent = fleet.agent(&format!("host-{at}"), &format!("lane={at}"));
        let mut lane = Self { fleet, dir: dir.to_owned(), service, agent, next: 0 };
        lane.publish();
        lane.wait_done();
        lane.end_agent();
        lane
    }

    /// One case; `false` where the call did not come.
    fn run(&mut self, case: &Case) -> bool {
        let Case { journey, point: Point { call, path, number }, fault } = case;
        let place = path.as_deref().unwrap_or("the coordinator");
        let what = format!("{journey:?} {call} {number} of {place} {fault:?} on {}", self.service);
        self.prepare(*journey);
        let before = self.live();
        let log = self.dir.join(format!("injected-{}", self.service));
        let mut tracer = Command::new(locate("strace"));
        tracer.args(["-D", "-f", "-qq", "-o"]).arg(&log);
        tracer.arg("-e").arg(format!("trace={call}"));
        tracer.arg("-e").arg(format!("inject={call}:{}:when={number}", fault.injected()));
        let version = Some(self.depart_at(*journey, tracer, path.as_deref()));
        // Until it died or the rollout is over, whichever comes first: at every look the live tree is whole.
        let ended = until(&what, CASE_BOUND, || {
            assert!(self.live().is_some(), "{what}: nothing is live");
            if self.agent.has_ended() {
                return Some(true);
            }
            self.is_over().is_some().then_some(false)
        });
        let live = self.live();
        assert!(
            live == before || live == version,
            "{what}: {live:?} is live, not {before:?} or {version:?}"
        );
        if ended {
            self.assert_whole(&what);
            self.agent.run();
        }
        let page = until(&format!("{what}: the end"), CASE_BOUND, || {
            if self.agent.has_ended() {
                // As systemd does it.
                self.agent.run();
            }
            self.is_over()
        });
        let end = match (journey, fault, page.rollout.outcome) {
            // What cannot be started for the disk fails here; whatever fails before is tried again.
            (
                Journey::Forward,
                Fault::Eio | Fault::Enospc | Fault::Erofs | Fault::Emfile,
                Some(OutcomeName::Reverted),
            ) if is_of_the_start(path.as_deref()) => before,
            (Journey::Forward, _, outcome) => {
                assert_eq!(outcome, Some(OutcomeName::Completed), "{what}: {page:?}");
                let failed = page.hosts.iter().any(|host| host.progress == "failed");
                if failed { before } else { version }
            }
            (Journey::Back, ..) => version,
        };
        let arrived = within(CASE_BOUND, || {
            if self.agent.has_ended() {
                self.agent.run();
            }
            (self.live() == end && self.running() == end).then_some(())
        });
        let status = String::from_utf8(self.agent.command(&["status"]).output().unwrap().stdout);
        let status = status.unwrap();
        let (live, running, said) = (self.live(), self.running(), self.agent.log());
        assert!(
            arrived.is_some(),
            "{what}: {live:?} is live and {running:?} runs, not {end:?}; {page:?}\n{status}\n{said}"
        );
        assert!(!status.contains("stuck"), "{what}: it is stuck\n{status}\n{said}");
        self.end_agent();
        self.assert_whole(&what);
        fs::read_to_string(&log).unwrap().contains(match fault {
            Fault::Kill => "killed by SIGKILL",
            Fault::Eio | Fault::Enospc | Fault::Erofs | Fault::Emfile => "(INJECTED)",
        })
    }

    /// Brings the host where the journey begins, with the agent stopped: two releases are there, and a fault
    /// before this journey may have left one.
    fn prepare(&mut self, journey: Journey) {
        let two = self.service_dir().join("previous").symlink_metadata().is_ok();
        if journey == Journey::Back || !two {
            self.agent.run();
            self.publish();
            self.wait_done();
            // Ended while it removes an older release, it would go on with that below the tracer.
            until("the end of the older releases", CASE_BOUND, || {
                let releases = fs::read_dir(self.service_dir().join("releases")).unwrap();
                (releases.count() == 2).then_some(())
            });
            self.end_agent();
        }
        assert!(self.service_dir().join("previous").symlink_metadata().is_ok(), "one release only");
    }

    /// Starts the agent below a tracer that looks at one path, and orders the journey.
    fn depart_at(&mut self, journey: Journey, mut tracer: Command, path: Option<&str>) -> String {
        let published = (journey == Journey::Forward).then(|| self.publish());
        if let Some(path) = path {
            let replace =
                |path: String, (part, digest): &(&str, String)| path.replace(part, digest);
            let path = self.parts(journey).iter().fold(path.to_owned(), replace);
            tracer.arg("-P").arg(format!("{}{path}", self.agent.state().display()));
        }
        self.agent.run_below(tracer);
        published.unwrap_or_else(|| self.revert())
    }

    /// As [`Self::depart_at`], looking at all paths; its parts.
    fn depart(&mut self, journey: Journey, tracer: Command) -> Vec<(&'static str, String)> {
        let before = self.parts(Journey::Back);
        self.depart_at(journey, tracer, None);
        let news = match journey {
            Journey::Forward => self.news(),
            Journey::Back => Vec::new(),
        };
        [before, news].concat()
    }

    /// What differs from lane to lane and from journey to journey in paths, by its part.
    fn parts(&self, journey: Journey) -> Vec<(&'static str, String)> {
        let named = |link: &str| {
            let target = fs::read_link(self.service_dir().join(link)).unwrap();
            target.file_name().unwrap().to_string_lossy().into_owned()
        };
        let mut parts = vec![
            ("SERVICE", self.service.clone()),
            ("LIVE", named("current")),
            ("BEFORE", named("previous")),
        ];
        if journey == Journey::Forward {
            parts.extend(self.news());
        }
        parts
    }

    /// The newest release and its bundle.
    fn news(&self) -> Vec<(&'static str, String)> {
        let release = self.fleet.newest_rollout(&self.service).rollout.release.to_string();
        let shelf = self.fleet.state().join("depot/sha256").join(&release[..2]);
        let manifest: RawManifest =
            serde_json::from_slice(&fs::read(shelf.join(&release)).unwrap()).unwrap();
        let full = manifest.blobs.iter().find(|blob| blob.kind == BlobKind::Full).unwrap();
        vec![("NEW", release), ("BUNDLE", full.sha256.to_string())]
    }

    /// Publishes the next release; its version.
    fn publish(&mut self) -> String {
        self.next += 1;
        let version = format!("1.0.{}", self.next);
        let dir = self.dir.join(&self.service);
        fs::create_dir_all(&dir).unwrap();
        let tree = sleeper_tree(&dir, &version, true);
        self.fleet.publish(&self.service, &version, &tree);
        fs::remove_dir_all(tree).unwrap();
        version
    }

    /// Orders the way back; the version that it leads to.
    fn revert(&mut self) -> String {
        let manifest = fs::read(self.service_dir().join("previous/manifest.json")).unwrap();
        let manifest: RawManifest = serde_json::from_slice(&manifest).unwrap();
        // Ordered while it is away, the rollout would be over before it came.
        until("the host, or its end", CASE_BOUND, || {
            (self.agent.has_ended() || self.is_connected()).then_some(())
        });
        self.fleet.swell_ok(&["revert", &self.service, "--yes", "--why", "to and fro"]);
        manifest.version.to_string()
    }

    fn service_dir(&self) -> PathBuf {
        self.agent.state().join("services").join(&self.service)
    }

    /// Whatever has the name of a release is one, whole; the agent must not be at work.
    #[track_caller]
    fn assert_whole(&self, what: &str) {
        for entry in fs::read_dir(self.service_dir().join("releases")).unwrap().flatten() {
            if entry.file_name().len() == DIGEST_CHARS {
                assert!(entry.path().join("manifest.json").is_file(), "{what}: {:?}", entry.path());
                let version = release_version(&entry.path());
                assert!(version.starts_with("1.0."), "{what}: {version} is no release of the test");
            }
        }
    }

    /// The version that the process of the service is of.
    fn running(&self) -> Option<String> {
        let record = fs::read(self.service_dir().join("process.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        let environment = fs::read(format!("/proc/{}/environ", record["pid"].as_u64()?)).ok()?;
        let mut variables = environment.split(|byte| *byte == 0);
        let version =
            variables.find_map(|variable| variable.strip_prefix(b"GROUNDSWELL_VERSION="))?;
        Some(String::from_utf8(version.to_vec()).unwrap())
    }

    fn is_connected(&self) -> bool {
        let answer: HostsAnswer = self.fleet.swell_json(&["host", "ls"]);
        let name = self.agent.name();
        answer.hosts.iter().any(|host| host.name.as_str() == name && host.connected)
    }

    fn live(&self) -> Option<String> {
        live_version(&self.service_dir())
    }

    fn is_over(&self) -> Option<RolloutPage> {
        let page = self.fleet.try_newest_rollout(&self.service)?;
        (page.rollout.phase == PhaseName::Done).then_some(page)
    }

    fn wait_done(&self) {
        until("the end of the rollout", CASE_BOUND, || self.is_over().map(drop));
    }

    /// Ends the agent, below a tracer or not, and its service, as an orderly stop does.
    fn end_agent(&mut self) {
        if !self.agent.has_ended() {
            let pid = i32::try_from(self.agent.pid()).ok().and_then(Pid::from_raw).unwrap();
            // It may end by itself in between.
            let _ = kill_process(pid, Signal::TERM);
        }
        until("the end of the agent", CASE_BOUND, || self.agent.has_ended().then_some(()));
    }
}
