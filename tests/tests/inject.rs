//! The agent killed, or refused by the disk, at every system call by which it changes its state: the live
//! release is the old or the new one and complete at every moment, and the agent goes on by itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use groundswell_common::api::{HostsAnswer, OutcomeName, PhaseName, RolloutPage};
use groundswell_common::manifest::RawManifest;
use groundswell_tests::fleet::{Agent, Fleet, live_version, sleeper_tree};
use groundswell_tests::private::inside;
use groundswell_tests::tools::locate;
use groundswell_tests::wait::{until, within};
use rustix::process::{Pid, Signal, kill_process};

/// How long one case may take; a stuck host would take for ever.
const CASE_BOUND: Duration = Duration::from_secs(60);
/// The calls by which state is changed.
const CALLS: [&str; 7] = ["write", "fsync", "rename", "renameat2", "unlink", "symlink", "mkdir"];

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Eio,
    Enospc,
}

const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Eio, Fault::Enospc];

/// What the host is told while it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Journey {
    /// To run a newer release.
    Forward,
    /// To go back.
    Back,
}

struct Case {
    journey: Journey,
    call: &'static str,
    number: usize,
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
        let count = cases.len();
        let queue = std::sync::Mutex::new(cases);
        let missed: usize = std::thread::scope(|scope| {
            let work = |mut lane: Lane<'_>| {
                let mut missed = 0;
                loop {
                    let case = queue.lock().unwrap().pop();
                    let Some(case) = case else { return missed };
                    missed += usize::from(!lane.run(&case));
                }
            };
            let threads: Vec<_> =
                lanes.into_iter().map(|lane| scope.spawn(move || work(lane))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        eprintln!("{count} cases, {missed} of them calls that did not come, 0 bad");
        assert!(missed * 4 < count, "{missed} of {count} calls never came");
    });
}

const LANES: usize = 4;

/// Every case of a journey, from a run in which calls are only counted.
fn enumerate(lane: &mut Lane<'_>, journey: Journey) -> Vec<Case> {
    let log = lane.dir.join(format!("calls-{}-{journey:?}", lane.service));
    let mut tracer = Command::new(locate("strace"));
    tracer
        .args(["-D", "-f", "-qq", "-o"])
        .arg(&log)
        .arg("-e")
        .arg(format!("trace={}", CALLS.join(",")));
    lane.prepare(journey);
    lane.agent.run_below(tracer);
    lane.go(journey);
    lane.wait_done();
    lane.end_agent();
    let text = fs::read_to_string(&log).unwrap();
    let mut cases = Vec::new();
    for call in CALLS {
        let begins = |line: &&str| {
            line.split_whitespace().nth(1).is_some_and(|word| word.starts_with(&format!("{call}(")))
        };
        let count = text.lines().filter(begins).count();
        eprintln!("{journey:?}: {count} calls of {call}");
        assert!(count > 0 || journey == Journey::Back, "the journey has no {call}");
        for number in 1..=count {
            // Most writes wake a thread or fill a socket, where no disk answers.
            let faults = if call == "write" { &FAULTS[..1] } else { &FAULTS[..] };
            let case = |fault: &Fault| Case { journey, call, number, fault: *fault };
            cases.extend(faults.iter().map(case));
        }
    }
    cases
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
        lane.go(Journey::Forward);
        lane.wait_done();
        lane.end_agent();
        lane
    }

    /// One case; `false` where the call did not come.
    fn run(&mut self, case: &Case) -> bool {
        let Case { journey, call, number, fault } = case;
        let what = format!("{journey:?} {call} {number} {fault:?} on {}", self.service);
        self.prepare(*journey);
        let before = self.live();
        let log = self.dir.join(format!("injected-{}", self.service));
        let how = match fault {
            Fault::Kill => "signal=SIGKILL",
            Fault::Eio => "error=EIO",
            Fault::Enospc => "error=ENOSPC",
        };
        let mut tracer = Command::new(locate("strace"));
        tracer.args(["-D", "-f", "-qq", "-o"]).arg(&log);
        tracer.arg("-e").arg(format!("trace={call}"));
        tracer.arg("-e").arg(format!("inject={call}:{how}:when={number}"));
        self.agent.run_below(tracer);
        let version = self.go(*journey);
        // Until it died or the rollout is over, whichever comes first: at every look the live tree is whole.
        let ended = until(&what, CASE_BOUND, || {
            let live = self.live();
            assert!(live.is_some(), "{what}: nothing is live");
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
            // A disk that fails makes the release fail here, and that is all.
            (Journey::Forward, Fault::Eio | Fault::Enospc, Some(OutcomeName::Reverted)) => before,
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
            (self.live() == end).then_some(())
        });
        let status = String::from_utf8(self.agent.command(&["status"]).output().unwrap().stdout);
        let status = status.unwrap();
        let (live, said) = (self.live(), self.agent.log());
        assert!(
            arrived.is_some(),
            "{what}: {live:?} is live, not {end:?}; {page:?}\n{status}\n{said}"
        );
        assert!(!status.contains("stuck"), "{what}: it is stuck\n{status}\n{said}");
        self.end_agent();
        fs::read_to_string(&log).unwrap().contains(match fault {
            Fault::Kill => "killed by SIGKILL",
            Fault::Eio | Fault::Enospc => "(INJECTED)",
        })
    }

    /// Brings the host where the journey begins, with the agent stopped.
    fn prepare(&mut self, journey: Journey) {
        if journey == Journey::Back {
            self.agent.run();
            self.go(Journey::Forward);
            self.wait_done();
            self.end_agent();
        }
    }

    /// Orders the journey; the version that it ends with, where it is known.
    fn go(&mut self, journey: Journey) -> Option<String> {
        match journey {
            Journey::Forward => {
                self.next += 1;
                let version = format!("1.0.{}", self.next);
                let dir = self.dir.join(&self.service);
                fs::create_dir_all(&dir).unwrap();
                let tree = sleeper_tree(&dir, &version, true);
                let tree = tree.to_string_lossy();
                let publish = ["publish", "--service", &self.service, "--version", &version, &tree];
                self.fleet.swell_ok(&publish);
                fs::remove_dir_all(&*tree).unwrap();
                Some(version)
            }
            Journey::Back => {
                let service = self.agent.state().join("services").join(&self.service);
                let manifest = fs::read(service.join("previous/manifest.json")).unwrap();
                let manifest: RawManifest = serde_json::from_slice(&manifest).unwrap();
                // Ordered while it is away, the rollout would be over before it came.
                until("the host, or its end", CASE_BOUND, || {
                    (self.agent.has_ended() || self.is_connected()).then_some(())
                });
                let revert = ["revert", &self.service, "--yes", "--why", "to and fro"];
                self.fleet.swell_ok(&revert);
                Some(manifest.version.to_string())
            }
        }
    }

    fn is_connected(&self) -> bool {
        let answer: HostsAnswer = self.fleet.swell_json(&["host", "ls"]);
        let name = self.agent.name();
        answer.hosts.iter().any(|host| host.name.as_str() == name && host.connected)
    }

    fn live(&self) -> Option<String> {
        live_version(&self.agent.state().join("services").join(&self.service))
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
