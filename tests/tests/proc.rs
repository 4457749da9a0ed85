//! A fleet of real processes: releases through waves, stop stops, kills at any moment lose nothing.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use groundswell_common::api::{
    AuditPage, HostsAnswer, OutcomeName, PhaseName, RolloutPage, VerbAnswer,
};
use groundswell_tests::fleet::{Agent, Fleet, ROLLOUT_BOUND, describe, sleeper_tree, succeed};
use groundswell_tests::private::{Private, inside};
use groundswell_tests::wait::{Over, until};

const HOST: &str = "127.0.0.1";

/// Quick waves: a canary, then everyone.
const POLICY: &str = r#"
service = "shop"
targets = "role=web"
max_in_flight = 2
failure_budget = 0
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 20
progress_deadline_secs = 120
absent_after_secs = 5

[[wave]]
name = "canary"
count = 1

[[wave]]
name = "all"
percent = 100
"#;

fn fleet(private: &Private, names: &[&str]) -> (Fleet, Vec<Agent>) {
    fleet_with(private, names, POLICY)
}

fn fleet_with(private: &Private, names: &[&str], policy: &str) -> (Fleet, Vec<Agent>) {
    let fleet = Fleet::start(private.dir(), HOST);
    fleet.apply(policy);
    let agents = names.iter().map(|name| fleet.agent(name, "role=web")).collect();
    wait_connected(&fleet, names.len());
    (fleet, agents)
}

fn wait_connected(fleet: &Fleet, count: usize) {
    until("every agent connected", ROLLOUT_BOUND, || {
        let output = fleet.swell(&["--json", "host", "ls"]).output().ok()?;
        let answer: HostsAnswer = serde_json::from_slice(&output.stdout).ok()?;
        (answer.hosts.iter().filter(|host| host.connected).count() == count).then_some(())
    });
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, healthy: bool) {
    fleet.publish("shop", version, &sleeper_tree(dir, version, healthy));
}

#[test]
fn releases_go_through_waves_and_a_broken_one_is_halted_and_reverted() {
    let name = "releases_go_through_waves_and_a_broken_one_is_halted_and_reverted";
    inside(name, |private| {
        let names = ["web-1", "web-2", "web-3", "web-4"];
        let (fleet, agents) = fleet(private, &names);
        for version in ["1.0.0", "1.1.0"] {
            publish(&fleet, private.dir(), version, true);
            assert_eq!(fleet.wait_done("shop").rollout.outcome, Some(OutcomeName::Completed));
            for agent in &agents {
                assert_eq!(agent.live_version("shop").as_deref(), Some(version));
            }
        }
        let tree = sleeper_tree(private.dir(), "2.0.0", false);
        let mut command = fleet.swell(&["publish", "--service", "shop", "--version", "2.0.0"]);
        let output = command.arg("--wait").arg(tree).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", describe(&output));
        let page = fleet.wait_done("shop");
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted));
        let touched: Vec<_> =
            page.hosts.iter().filter(|h| h.progress != "pending" && h.wave > 0).collect();
        assert!(touched.is_empty(), "only the canary saw 2.0.0: {touched:?}");
        for agent in &agents {
            assert_eq!(agent.live_version("shop").as_deref(), Some("1.1.0"));
        }
        let again = fleet.swell(&["publish", "--service", "shop", "--version", "2.0.0"]);
        let mut again = again;
        let tree = private.dir().join("tree-2.0.0");
        let output = again.arg(tree).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", describe(&output));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("shop 2.0.0 is poisoned: "), "{said}");
        assert!(said.contains("swell release clear shop@2.0.0 --why"), "{said}");
        assert_eq!(fleet.newest_rollout("shop").rollout.outcome, Some(OutcomeName::Reverted));
        fleet.swell_ok(&["audit", "verify"]);
    });
}

/// A person who presses the button again is told that it is so, and a host is called by its name.
#[test]
fn a_second_halt_is_no_error_and_refusals_name_hosts() {
    inside("a_second_halt_is_no_error_and_refusals_name_hosts", |private| {
        let (fleet, _agents) = fleet(private, &["web-1", "web-2"]);
        publish(&fleet, private.dir(), "1.0.0", true);
        fleet.wait_done("shop");
        publish(&fleet, private.dir(), "1.1.0", true);
        let id = fleet.newest_rollout("shop").rollout.rollout.to_string();
        let first = fleet.swell_ok(&["halt", "shop", "--why", "a test"]);
        assert!(first.contains("is halted, "), "{first}");
        for again in [["halt", "shop"], ["halt", id.as_str()]] {
            let said = fleet.swell_ok(&again);
            assert!(said.contains("is halted already, "), "{said}");
        }
        fleet.swell_ok(&["resume", "shop"]);
        fleet.swell_ok(&["pause", "shop"]);
        let said = fleet.swell_ok(&["pause", "shop"]);
        assert!(said.contains("is paused already, "), "{said}");
        let output =
            fleet.swell(&["rollout", "retry", "shop", "--host", "web-2"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("swell: host web-2 neither failed nor was left out"), "{said}");
    });
}

/// What is free and what is wanted reaches the person, although the upload is refused in its middle; the
/// ledger's room stays.
#[test]
fn a_full_depot_says_so_and_takes_what_fits() {
    inside("a_full_depot_says_so_and_takes_what_fits", |private| {
        let disk = private.dir().join("disk");
        fs::create_dir(&disk).unwrap();
        let mut mount = Command::new("mount");
        succeed(mount.args(["-t", "tmpfs", "-o", "size=130M", "tmpfs"]).arg(&disk));
        let mut fleet = Fleet::init(private.dir(), &disk.join("coordinator"), HOST);
        fleet.serve();
        let tree = sleeper_tree(private.dir(), "1.0.0", true);
        let mut noise = vec![0; 80_000_000];
        File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
        fs::write(tree.join("noise"), noise).unwrap();
        let publish = || {
            let mut command = fleet.swell(&["publish", "--service", "shop", "--version", "1.0.0"]);
            let output = command.arg(&tree).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        // An answer that comes while the client still writes is lost now and then where nobody reads on.
        for _ in 0..5 {
            let (code, said) = publish();
            assert_eq!(code, Some(1), "{said}");
            assert!(said.contains("swell: the coordinator's disk is full: "), "{said}");
            assert!(said.contains(" MiB free where 77 MiB are wanted"), "{said}");
        }
        fs::remove_file(tree.join("noise")).unwrap();
        let (code, said) = publish();
        assert_eq!(code, Some(0), "what fits is taken: {said}");
    });
}

/// After a halt is acknowledged no host starts a switch.
#[test]
fn stop_stops() {
    inside("stop_stops", |private| {
        let names = ["web-1", "web-2", "web-3", "web-4", "web-5", "web-6"];
        let (fleet, agents) = fleet(private, &names);
        publish(&fleet, private.dir(), "1.0.0", true);
        fleet.wait_done("shop");
        for round in 1..=5 {
            let version = format!("1.0.{round}");
            publish(&fleet, private.dir(), &version, true);
            let page = until("hosts in flight in the second wave", ROLLOUT_BOUND, || {
                let page = fleet.newest_rollout("shop");
                let busy = page.rollout.wave == 1 && page.rollout.counts.in_flight > 0;
                busy.then_some(page)
            });
            let pressed = millis();
            let answer: VerbAnswer =
                fleet.swell_json(&["halt", "shop", "--yes", "--why", "test of the red button"]);
            let acknowledged = millis();
            assert_eq!(answer.rollout.rollout, page.rollout.rollout);
            let before = switches(&agents);
            let old = agents.iter().filter(|a| a.live_version("shop").as_deref() != Some(&version));
            assert!(old.count() > 0, "the halt came after the last switch");
            // Long enough for every host to be staged, permitted and switched if it were let.
            std::thread::sleep(Duration::from_secs(3));
            let after = switches(&agents);
            assert_eq!(before, after, "a host switched after the halt was acknowledged");
            let newest = after.values().copied().max().unwrap();
            eprintln!(
                "halt latency: pressed to acknowledged {} ms, pressed to last switch start {} ms",
                acknowledged - pressed,
                newest.saturating_sub(pressed)
            );
            assert!(newest <= acknowledged, "a switch began {} ms late", newest - acknowledged);
            assert_eq!(fleet.newest_rollout("shop").rollout.phase, PhaseName::Halted);
            let id = page.rollout.rollout.to_string();
            fleet.swell_ok(&["rollout", "resume", &id, "--yes", "--why", "test goes on"]);
            assert_eq!(fleet.wait_done("shop").rollout.outcome, Some(OutcomeName::Completed));
        }
    });
}

/// When each agent last began a switch, by its own journal.
fn switches(agents: &[Agent]) -> BTreeMap<String, u64> {
    agents
        .iter()
        .filter_map(|agent| {
            let live = agent.state().join("services/shop/current");
            let changed = fs::symlink_metadata(live).ok()?.modified().ok()?;
            let at = changed.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
            Some((agent.name().to_owned(), u64::try_from(at).unwrap()))
        })
        .collect()
}

fn millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// What was acknowledged, to be found again at the end.
#[derive(Default)]
struct Acknowledged {
    releases: BTreeSet<String>,
    reasons: BTreeSet<String>,
    /// Rollouts that were approved.
    approvals: BTreeSet<String>,
    /// (rollout, host) pairs seen as committed.
    committed: BTreeSet<(String, String)>,
}

/// Kills, where [`KILLS_VARIABLE`] says nothing else.
const KILLS: u32 = 70;
const KILLS_VARIABLE: &str = "GROUNDSWELL_KILLS";

#[test]
fn kills_at_any_moment_lose_nothing_that_was_acknowledged() {
    inside("kills_at_any_moment_lose_nothing_that_was_acknowledged", |private| {
        let names = ["web-1", "web-2", "web-3", "web-4"];
        // The second wave opens by a person's approval.
        let gated = format!("{POLICY}gate = \"approval\"\n");
        let (fleet, mut agents) = fleet_with(private, &names, &gated);
        publish(&fleet, private.dir(), "1.0.0", true);
        wait_approving(&fleet, &names, "1.0.0");
        let mut seed = getrandom::u64().unwrap();
        eprintln!("seed {seed}");
        let over = AtomicBool::new(false);
        let mut work =
            Work { dir: private.dir().to_owned(), next: 1, seed: next(&mut seed), rollouts: 0 };
        let (acknowledged, rollouts) = std::thread::scope(|scope| {
            let people = scope.spawn(|| {
                let mut acknowledged = Acknowledged::default();
                while !over.load(Ordering::Relaxed) {
                    work.something(&fleet, &mut acknowledged);
                }
                (acknowledged, work.rollouts)
            });
            let end = Over(&over);
            let killed = kill_at_random(&fleet, &mut agents, &mut seed);
            drop(end);
            eprintln!("{} kills of the coordinator, {} of agents", killed.0, killed.1);
            people.join().unwrap()
        });
        eprintln!("{rollouts} times a rollout was seen on its way");
        let Acknowledged { releases, reasons, approvals, committed } = &acknowledged;
        assert!(releases.len() > 5 && !reasons.is_empty(), "the storm hit people at work");
        assert!(!approvals.is_empty() && !committed.is_empty(), "the storm hit moving rollouts");
        finish(&fleet, &agents, private.dir(), &acknowledged);
    });
}

/// Deleting the view, or damaging it, loses nothing: it is made again from the ledger.
#[test]
fn the_view_may_be_deleted() {
    inside("the_view_may_be_deleted", |private| {
        let (mut fleet, agents) = fleet(private, &["web-1", "web-2"]);
        let mut acknowledged = Acknowledged::default();
        for version in ["1.0.0", "1.1.0"] {
            publish(&fleet, private.dir(), version, true);
            acknowledged.releases.insert(version.to_owned());
            fleet.wait_done("shop");
        }
        let before = fleet.newest_rollout("shop");
        fleet.kill_coordinator();
        fs::remove_dir_all(fleet.state().join("view")).unwrap();
        fleet.serve();
        let after = fleet.newest_rollout("shop");
        assert_eq!(before.hosts, after.hosts);
        assert_eq!(before.rollout, after.rollout);
        fleet.kill_coordinator();
        let view = fleet.state().join("view");
        for entry in fs::read_dir(&view).unwrap().flatten().filter(|e| e.path().is_file()) {
            fs::write(entry.path(), b"damaged").unwrap();
        }
        fleet.serve();
        assert_eq!(fleet.newest_rollout("shop").hosts, before.hosts);
        finish(&fleet, &agents, private.dir(), &acknowledged);
    });
}

/// Kills a process again and again, at moments that have nothing to do with what it is doing.
fn kill_at_random(fleet: &Fleet, agents: &mut [Agent], seed: &mut u64) -> (u32, u32) {
    let mut killed = (0, 0);
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().unwrap());
    for number in 0..kills {
        // Bursts: right after its start a coordinator gives no permits, and a storm without a pause
        // would only ever hit rollouts that stand still.
        let pause = if number % 10 == 0 { 3_500 } else { 50 };
        std::thread::sleep(Duration::from_millis(pause + next(seed) % 500));
        if next(seed).is_multiple_of(3) {
            fleet.kill_and_serve();
            killed.0 += 1;
        } else {
            let index = usize::try_from(next(seed) % 64).unwrap() % agents.len();
            agents[index].kill();
            killed.1 += 1;
            agents[index].run();
        }
        for agent in agents.iter() {
            assert!(agent.live_version("shop").is_some(), "{} runs nothing", agent.name());
        }
    }
    killed
}

/// People who publish, halt, resume, approve and look, and remember what was acknowledged.
struct Work {
    dir: PathBuf,
    next: u32,
    seed: u64,
    rollouts: u64,
}

impl Work {
    fn something(&mut self, fleet: &Fleet, acknowledged: &mut Acknowledged) {
        let choice = next(&mut self.seed);
        let reason = format!("reason-{choice:016x}");
        let page = fleet.try_newest_rollout("shop");
        let done = page.as_ref().is_some_and(|page| page.rollout.phase == PhaseName::Done);
        if done || choice.is_multiple_of(40) {
            let version = format!("2.0.{}", self.next);
            self.next += 1;
            let tree = sleeper_tree(&self.dir, &version, true);
            let mut command = fleet.swell(&["publish", "--service", "shop", "--version", &version]);
            if command.arg(tree).output().unwrap().status.success() {
                acknowledged.releases.insert(version);
            }
            return;
        }
        let Some(page) = page else { return };
        self.rollouts += u64::from(page.rollout.phase != PhaseName::Done);
        let id = page.rollout.rollout.to_string();
        for host in page.hosts.iter().filter(|host| host.progress == "committed") {
            acknowledged.committed.insert((id.clone(), host.name.to_string()));
        }
        let says = |args: &[&str]| fleet.swell(args).output().unwrap().status.success();
        match page.rollout.phase {
            PhaseName::Gated if says(&["approve", &id, "--yes"]) => {
                acknowledged.approvals.insert(id);
            }
            PhaseName::Halted if says(&["rollout", "resume", &id, "--yes", "--why", &reason]) => {
                acknowledged.reasons.insert(reason);
            }
            PhaseName::Running | PhaseName::Baking
                if choice % 16 == 1
                    && says(&["rollout", "halt", &id, "--yes", "--why", &reason]) =>
            {
                acknowledged.reasons.insert(reason);
            }
            PhaseName::Queued
            | PhaseName::Running
            | PhaseName::Baking
            | PhaseName::Gated
            | PhaseName::Paused
            | PhaseName::Halted
            | PhaseName::Reverting
            | PhaseName::Done => {}
        }
    }
}

/// The end of a storm: all that was acknowledged is there, and the fleet still takes a release.
fn finish(fleet: &Fleet, agents: &[Agent], dir: &Path, acknowledged: &Acknowledged) {
    let start = Instant::now();
    // One by one: a list shows the newest hundred.
    let is_lost = |version: &&String| {
        let name = format!("shop@{version}");
        !fleet.swell(&["release", "show", &name]).output().unwrap().status.success()
    };
    let lost: Vec<_> = acknowledged.releases.iter().filter(is_lost).collect();
    assert!(lost.is_empty(), "acknowledged releases that are gone: {lost:?}");
    let log = audit(fleet);
    let hosts: HostsAnswer = fleet.swell_json(&["host", "ls"]);
    let ids: BTreeMap<String, String> =
        hosts.hosts.iter().map(|h| (h.name.to_string(), h.id.to_string())).collect();
    let lost: Vec<_> = acknowledged.reasons.iter().filter(|why| !log.contains(*why)).collect();
    assert!(lost.is_empty(), "acknowledged decisions that are gone: {lost:?}");
    for id in &acknowledged.approvals {
        let found = log.lines().any(|entry| is_approval_of(entry, id));
        assert!(found, "the acknowledged approval of {id} is gone");
    }
    for (id, host) in &acknowledged.committed {
        let page: RolloutPage = fleet.swell_json(&["rollout", "show", id]);
        // Of older rollouts the ledger alone keeps what each host reported.
        let found = page.hosts.iter().find(|h| h.name.as_str() == host);
        let kept = match found {
            Some(found) => found.progress == "committed",
            None => log.lines().any(|entry| is_commit_of(entry, id, &ids[host])),
        };
        let said = agents.iter().find(|agent| agent.name() == host).map(Agent::log);
        let said = said.unwrap_or_default();
        let of_it =
            |entry: &&str| entry.contains(&format!("\"{id}\"")) && entry.contains(&ids[host]);
        let told: Vec<&str> = log.lines().filter(of_it).collect();
        let said = format!("{}\n{said}", told.join("\n"));
        assert!(kept, "an acknowledged report of {host} in {id} was lost: {found:?}; {said}");
    }
    fleet.swell_ok(&["audit", "verify"]);
    let newest = fleet.newest_rollout("shop");
    if newest.rollout.phase == PhaseName::Halted {
        let id = newest.rollout.rollout.to_string();
        fleet.swell_ok(&["rollout", "resume", &id, "--yes", "--why", "the storm is over"]);
    }
    publish(fleet, dir, "9.0.0", true);
    let names: Vec<&str> = agents.iter().map(Agent::name).collect();
    wait_approving(fleet, &names, "9.0.0");
    for agent in agents {
        assert_eq!(agent.live_version("shop").as_deref(), Some("9.0.0"));
    }
    eprintln!(
        "{} releases, {} decisions, {} approvals, {} reports found again; converged in {:?}",
        acknowledged.releases.len(),
        acknowledged.reasons.len(),
        acknowledged.approvals.len(),
        acknowledged.committed.len(),
        start.elapsed()
    );
}

/// Waits until every host runs `version`, approving the newest rollout where it asks for that.
fn wait_approving(fleet: &Fleet, names: &[&str], version: &str) {
    let what = "the end of the rollout, approved where it asks";
    until(what, ROLLOUT_BOUND, || {
        let rollout = fleet.newest_rollout("shop").rollout;
        if rollout.phase == PhaseName::Gated {
            fleet.swell_ok(&["approve", rollout.rollout.as_str(), "--yes"]);
        }
        (rollout.phase == PhaseName::Done && rollout.version.as_str() == version).then_some(())
    });
    fleet.wait_for_version("shop", version, names);
}

/// Whether a payload is an approval of this rollout.
fn is_approval_of(payload: &str, rollout: &str) -> bool {
    let entry: serde_json::Value = serde_json::from_str(payload).unwrap();
    entry["what"]["approval-signed"]["rollout"] == rollout
}

/// Whether a payload says that this host committed in this rollout.
fn is_commit_of(payload: &str, rollout: &str, host: &str) -> bool {
    let entry: serde_json::Value = serde_json::from_str(payload).unwrap();
    let input = &entry["what"]["rollout-input"];
    input["rollout"] == rollout
        && input["input"]["host"]["host"] == host
        && input["input"]["host"]["fact"] == "committed"
}

/// Every payload of the ledger, one a line.
fn audit(fleet: &Fleet) -> String {
    let page: AuditPage = fleet.swell_json(&["audit", "log", "--limit", "1000"]);
    let mut text: String =
        page.entries.iter().map(|entry| format!("{}\n", entry.payload)).collect();
    let mut after = page.entries.last().map_or(0, |entry| entry.seq);
    while after < page.head.seq {
        let after_text = after.to_string();
        let more: AuditPage =
            fleet.swell_json(&["audit", "log", "--after", &after_text, "--limit", "1000"]);
        let Some(last) = more.entries.last() else { break };
        after = last.seq;
        text.extend(more.entries.iter().map(|entry| format!("{}\n", entry.payload)));
    }
    text
}

fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}
