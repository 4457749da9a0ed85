//! Real processes through what becomes of them over the years: a service that ends, a host with another name, a
//! coordinator that moves, roots and profiles that end, a ledger put back from a backup.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use groundswell_common::api::{HostsAnswer, OutcomeName, StatusAnswer};
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Agent, Fleet, ROLLOUT_BOUND, describe, sleeper_tree, succeed};
use groundswell_tests::kept::{files, put_back};
use groundswell_tests::private::{Private, inside};
use groundswell_tests::wait::until;

const HOST: &str = "127.0.0.1";

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
max_in_flight = 1
bake_secs = 0
host_bake_secs = 0
probe_deadline_secs = 20
progress_deadline_secs = 120

[[wave]]
rest = true
"#;

fn fleet(private: &Private, names: &[&str]) -> (Fleet, Vec<Agent>) {
    let fleet = Fleet::start(private.dir(), HOST);
    fleet.apply(POLICY);
    let agents = names.iter().map(|name| fleet.agent(name, "role=web")).collect();
    connected(&fleet, names.len());
    (fleet, agents)
}

/// Waits until so many hosts are connected; their names.
fn connected(fleet: &Fleet, count: usize) -> Vec<String> {
    until("every agent connected", ROLLOUT_BOUND, || {
        let output = fleet.swell(&["--json", "host", "ls"]).output().ok()?;
        let answer: HostsAnswer = serde_json::from_slice(&output.stdout).ok()?;
        let up = answer.hosts.iter().filter(|host| host.connected);
        let names: Vec<String> = up.map(|host| host.name.to_string()).collect();
        (names.len() == count).then_some(names)
    })
}

fn bring(fleet: &Fleet, dir: &Path, version: &str) {
    fleet.publish("shop", version, &sleeper_tree(dir, version, true));
    let page = fleet.wait_end("shop", version);
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
}

/// What is left of the service below the agent's state folder.
fn left(agent: &Agent) -> Vec<String> {
    let service = agent.state().join("services/shop");
    let releases = fs::read_dir(service.join("releases")).into_iter().flatten();
    let releases = releases.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let links = ["current", "previous", "process.json"].into_iter();
    let links = links.filter(|link| service.join(link).symlink_metadata().is_ok());
    releases.chain(links.map(str::to_owned)).collect()
}

fn gone(agent: &Agent) {
    let what = format!("nothing left on {}", agent.name());
    until(&what, ROLLOUT_BOUND, || left(agent).is_empty().then_some(()));
}

fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "{}", path.display());
    fs::write(path, changed).unwrap();
}

fn restart(fleet: &mut Fleet) {
    fleet.kill_coordinator();
    fleet.serve();
}

#[test]
fn a_service_is_taken_off_every_host_and_off_those_that_are_left_over() {
    inside("a_service_is_taken_off_every_host_and_off_those_that_are_left_over", |private| {
        let names = ["web-1", "web-2", "web-3"];
        let (fleet, mut agents) = fleet(private, &names);
        // Two releases, so that there is one before what runs.
        bring(&fleet, private.dir(), "1.0.0");
        bring(&fleet, private.dir(), "1.1.0");
        let said = fleet.swell_ok(&["host", "label", "web-3", "role=db"]);
        assert!(said.contains("swell service remove shop --left-over"), "{said}");
        let status = fleet.swell_ok(&["status"]);
        assert!(
            status.contains("! shop runs on web-3, which its policy does not target"),
            "{status}"
        );
        fleet.swell_ok(&["service", "remove", "shop", "--left-over", "--yes", "--wait"]);
        gone(&agents[2]);
        for agent in &agents[..2] {
            assert_eq!(agent.live_version("shop").as_deref(), Some("1.1.0"));
        }
        assert!(!fleet.swell_ok(&["status"]).contains("does not target"));
        // One is away while the others lose it.
        agents[0].kill();
        connected(&fleet, 2);
        fleet.swell_ok(&["service", "remove", "shop", "--yes", "--why", "end of life", "--wait"]);
        gone(&agents[1]);
        assert!(!left(&agents[0]).is_empty(), "it is away");
        agents[0].run();
        gone(&agents[0]);
        let said = fleet.swell_ok(&["host", "why", "web-2"]);
        assert!(said.contains("the service is off it"), "{said}");
        let output = fleet.swell(&["service", "remove", "shop", "--yes"]).output().unwrap();
        assert!(
            describe(&output).contains("no host runs anything of shop"),
            "{}",
            describe(&output)
        );
        // It comes back by publishing.
        bring(&fleet, private.dir(), "2.0.0");
        assert_eq!(agents[1].live_version("shop").as_deref(), Some("2.0.0"));
        fleet.swell_ok(&["audit", "verify"]);
    });
}

#[test]
fn hosts_follow_a_coordinator_to_another_port_and_name_and_take_another_name() {
    inside(
        "hosts_follow_a_coordinator_to_another_port_and_name_and_take_another_name",
        |private| {
            let (mut fleet, agents) = fleet(private, &["web-1", "web-2"]);
            bring(&fleet, private.dir(), "1.0.0");
            let settings = fleet.state().join("coordinator.toml");
            let told = |agent: &Agent| -> String {
                fs::read_to_string(agent.state().join("told.json")).unwrap_or_default()
            };
            let all_told = |agents: &[Agent], what: &str, holds: &dyn Fn(&str) -> bool| {
                until(what, ROLLOUT_BOUND, || {
                    agents.iter().all(|agent| holds(&told(agent))).then_some(())
                });
            };
            // Where it will be is said beforehand, and both are tried.
            edit(&settings, |text| {
                text + "next_agents = \"127.0.0.1:9443\"\nnext_api = \"127.0.0.1:9444\"\n"
            });
            restart(&mut fleet);
            let both =
                |told: &str| told.contains("127.0.0.1:7443") && told.contains("127.0.0.1:9443");
            all_told(&agents, "both ports known", &both);
            edit(&settings, |text| {
                text.replace(":7443", ":9443").replace(":7444", ":9444").replace("next_", "# next_")
            });
            restart(&mut fleet);
            edit(&fleet.profile(), |text| text.replace(":7444", ":9444"));
            connected(&fleet, 2);
            all_told(&agents, "the old port forgotten", &|told| !told.contains(":7443"));
            bring(&fleet, private.dir(), "1.1.0");
            // Another name: first beside the old one, then alone.
            edit(&settings, |text| {
                text.replace("hosts = [\"127.0.0.1\"]", "hosts = [\"localhost\", \"127.0.0.1\"]")
            });
            restart(&mut fleet);
            all_told(&agents, "both names known", &|told| told.contains("localhost:9443"));
            edit(&settings, |text| text.replace("\"localhost\", \"127.0.0.1\"", "\"localhost\""));
            restart(&mut fleet);
            edit(&fleet.profile(), |text| text.replace("127.0.0.1:9444", "localhost:9444"));
            connected(&fleet, 2);
            all_told(&agents, "the old name forgotten", &|told| !told.contains("127.0.0.1:9443"));
            // A host is called otherwise, and says so itself.
            fleet.swell_ok(&["host", "rename", "web-1", "shop-1"]);
            until("the host knows its name", ROLLOUT_BOUND, || {
                let said = succeed(&mut agents[0].command(&["status"]));
                said.contains("shop-1").then_some(())
            });
            let mut names = connected(&fleet, 2);
            names.sort();
            assert_eq!(names, ["shop-1", "web-2"]);
            bring(&fleet, private.dir(), "1.2.0");
            let audit = fleet.swell_ok(&["audit", "log", "--limit", "1000"]);
            assert!(audit.contains("host-renamed") && audit.contains("addresses-told"), "{audit}");
        },
    );
}

#[test]
fn a_root_is_renewed_and_an_admin_without_a_profile_gets_one() {
    inside("a_root_is_renewed_and_an_admin_without_a_profile_gets_one", |private| {
        let (mut fleet, agents) = fleet(private, &["web-1"]);
        let state = fleet.state().display().to_string();
        let key = fleet.state().join("keys/root.pem").display().to_string();
        let renew = |days: &str| {
            let mut command = Command::new(bin("groundswell-coordinator"));
            command.args(["root", "renew", "--state", &state, "--key", &key, "--days", days]);
            command
        };
        let output = renew("30").output().unwrap();
        assert!(describe(&output).contains("give more --days"), "{}", describe(&output));
        let mut wrong = Command::new(bin("groundswell-coordinator"));
        let director = fleet.state().join("keys/director.pem");
        wrong.args(["root", "renew", "--state", &state, "--days", "700", "--key"]).arg(director);
        let output = wrong.output().unwrap();
        assert!(
            describe(&output).contains("director.pem the root key of this fleet?"),
            "{}",
            describe(&output)
        );
        let said = succeed(&mut renew("700"));
        assert!(said.starts_with("root 2 counts until "), "{said}");
        restart(&mut fleet);
        connected(&fleet, 1);
        until("the agent trusts root 2", ROLLOUT_BOUND, || {
            let output = agents[0].command(&["doctor"]).output().ok()?;
            String::from_utf8_lossy(&output.stdout).contains("it trusts root 2").then_some(())
        });
        bring(&fleet, private.dir(), "1.0.0");
        // Every profile is lost: one is made on the coordinator's machine, while it is stopped.
        let lost = fs::read(fleet.profile()).unwrap();
        let output = private.dir().join("new.profile");
        let reset = || {
            let mut command = Command::new(bin("groundswell-coordinator"));
            command.args(["operator", "reset", "ann", "--state", &state, "--output"]).arg(&output);
            command
        };
        let refused = reset().output().unwrap();
        assert!(
            describe(&refused).contains("is the coordinator stopped?"),
            "{}",
            describe(&refused)
        );
        fleet.kill_coordinator();
        succeed(&mut reset());
        fleet.serve();
        let refused = fleet.swell(&["status"]).output().unwrap();
        assert_eq!(
            refused.status.code(),
            Some(5),
            "the old key counts no more: {}",
            describe(&refused)
        );
        fs::copy(&output, fleet.profile()).unwrap();
        fleet.swell_ok(&["status"]);
        fleet.swell_ok(&["audit", "verify"]);
        assert_ne!(fs::read(fleet.profile()).unwrap(), lost);
    });
}

#[test]
fn a_ledger_put_back_from_a_backup_is_said_and_lifted() {
    inside("a_ledger_put_back_from_a_backup_is_said_and_lifted", |private| {
        let (mut fleet, agents) = fleet(private, &["web-1", "web-2"]);
        bring(&fleet, private.dir(), "1.0.0");
        fleet.kill_coordinator();
        let ledger = fleet.state().join("ledger");
        let backup = files(&ledger);
        fleet.serve();
        connected(&fleet, 2);
        let refused = fleet.swell(&["audit", "lift", "--why", "x", "--yes"]).output().unwrap();
        assert!(describe(&refused).contains("nothing to lift"), "{}", describe(&refused));
        bring(&fleet, private.dir(), "1.1.0");
        bring(&fleet, private.dir(), "1.2.0");
        fleet.kill_coordinator();
        put_back(&ledger, &backup);
        fs::remove_dir_all(fleet.state().join("view")).unwrap();
        fleet.serve();
        connected(&fleet, 2);
        let put_back = until("the ledger said to be put back", ROLLOUT_BOUND, || {
            let status: StatusAnswer = fleet.swell_json(&["status"]);
            status.put_back.filter(|put_back| put_back.hosts == 2)
        });
        let said = fleet.swell_ok(&["status"]);
        assert!(said.contains("'swell audit lift --why TEXT'"), "{said}");
        let ledger_seq = fleet.swell_json::<StatusAnswer>(&["status"]).ledger_seq;
        assert!(put_back.newest > 0 && ledger_seq > 0);
        until("doctor names the refusal", ROLLOUT_BOUND, || {
            let output = agents[0].command(&["doctor"]).output().ok()?;
            String::from_utf8_lossy(&output.stdout).contains("put back from a backup").then_some(())
        });
        fleet.swell_ok(&["audit", "lift", "--why", "restored", "--yes"]);
        until("nobody refuses any more", ROLLOUT_BOUND, || {
            let status: StatusAnswer = fleet.swell_json(&["status"]);
            status.put_back.is_none().then_some(())
        });
        bring(&fleet, private.dir(), "1.3.0");
        for agent in &agents {
            assert_eq!(agent.live_version("shop").as_deref(), Some("1.3.0"));
            let output = agent.command(&["doctor"]).output().unwrap();
            assert!(!String::from_utf8_lossy(&output.stdout).contains("backup"));
        }
        // After a restart the numbers are where they were.
        restart(&mut fleet);
        connected(&fleet, 2);
        bring(&fleet, private.dir(), "1.4.0");
    });
}
