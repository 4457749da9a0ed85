//! A person on the host, with the real programs: back without the coordinator, pause, resume, why.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Output;

use groundswell_tests::fleet::{Agent, Fleet, ROLLOUT_BOUND, describe, sleeper_tree, succeed};
use groundswell_tests::private::{Private, inside};
use groundswell_tests::wait::until;

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
failure_budget = 0
on_breach = "halt"
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 20
progress_deadline_secs = 120
"#;

fn fleet(private: &Private) -> (Fleet, Agent) {
    let fleet = Fleet::start(private.dir(), "127.0.0.1");
    fleet.apply(POLICY);
    let agent = fleet.agent("web-1", "role=web");
    (fleet, agent)
}

fn publish(fleet: &Fleet, private: &Private, version: &str) {
    fleet.publish("shop", version, &sleeper_tree(private.dir(), version, true));
}

fn bring(fleet: &Fleet, private: &Private, version: &str) {
    publish(fleet, private, version);
    fleet.wait_for_version("shop", version, &["web-1"]);
    fleet.wait_done("shop");
}

fn asked(agent: &Agent, verb: &[&str]) -> Output {
    agent.command(verb).output().unwrap()
}

fn says(agent: &Agent, verb: &[&str], words: &str) -> Option<()> {
    let output = asked(agent, verb);
    String::from_utf8_lossy(&output.stdout).contains(words).then_some(())
}

/// What the coordinator says of its hosts, once it answers.
fn hears(fleet: &Fleet, verb: &[&str], words: &str) -> Option<()> {
    let output = fleet.swell(verb).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains(words).then_some(())
}

#[test]
fn a_person_goes_back_without_the_coordinator_and_without_the_agent() {
    inside("a_person_goes_back_without_the_coordinator_and_without_the_agent", |private| {
        let (mut fleet, mut agent) = fleet(private);
        for version in ["1.0.0", "1.1.0"] {
            bring(&fleet, private, version);
        }
        fleet.kill_coordinator();
        let refused = asked(&agent, &["revert", "shop", "--reason", " "]);
        assert_eq!(refused.status.code(), Some(78), "{}", describe(&refused));
        succeed(&mut agent.command(&["revert", "shop", "--reason", "it eats the disk"]));
        let back = |agent: &Agent, version: &str| {
            until(&format!("{version} again"), ROLLOUT_BOUND, || {
                (agent.live_version("shop").as_deref() == Some(version)).then_some(())
            });
        };
        back(&agent, "1.0.0");
        until("the reason", ROLLOUT_BOUND, || {
            says(&agent, &["status"], "put back by a person on the host: it eats the disk")
        });
        until("why", ROLLOUT_BOUND, || says(&agent, &["why", "shop"], "the wished release failed"));
        // The coordinator is back, hears why, and its old wish brings nothing back.
        fleet.serve();
        until("the report", ROLLOUT_BOUND, || {
            hears(&fleet, &["--json", "host", "ls"], "it eats the disk")
        });
        assert_eq!(agent.live_version("shop").as_deref(), Some("1.0.0"));

        // The next release takes its place; then the same with an agent that does not run.
        bring(&fleet, private, "1.2.0");
        agent.kill();
        succeed(&mut agent.command(&["revert", "shop", "--reason", "again"]));
        assert_eq!(
            agent.live_version("shop").as_deref(),
            Some("1.2.0"),
            "nobody is there to do it"
        );
        agent.run();
        back(&agent, "1.0.0");
    });
}

/// A pause that was answered lets no switch through: each round a release is published right after it, and stays
/// staged until the resume.
#[test]
fn a_pause_is_in_force_when_it_answers() {
    inside("a_pause_is_in_force_when_it_answers", |private| {
        let (fleet, mut agent) = fleet(private);
        bring(&fleet, private, "1.0.0");
        for (version, before) in [("1.1.0", "1.0.0"), ("1.2.0", "1.1.0"), ("1.3.0", "1.2.0")] {
            publish(&fleet, private, version);
            let said = succeed(&mut agent.command(&["pause", "--reason", "a cable"]));
            assert!(said.contains("and the agent goes by it"), "{said}");
            // What the switch was, it was before the answer, or it says so.
            let live = agent.live_version("shop");
            let live = live.as_deref();
            assert!(
                live == Some(before)
                    || said.contains("middle of a switch")
                    || live == Some(version)
            );
            let seen = live.map(str::to_owned);
            until("rest", ROLLOUT_BOUND, || {
                let staged = says(&agent, &["why", "shop"], "the wished release is staged");
                staged
                    .or_else(|| says(&agent, &["why", "shop"], "it has the release that is wished"))
            });
            assert!(agent.live_version("shop") == seen || said.contains("middle of a switch"));
            let said = succeed(&mut agent.command(&["resume"]));
            assert!(said.contains("resumed, and the agent goes by it"), "{said}");
            fleet.wait_for_version("shop", version, &["web-1"]);
            fleet.wait_done("shop");
        }
        agent.kill();
        let said = succeed(&mut agent.command(&["pause", "shop", "--reason", "a cable"]));
        assert!(said.contains("shop is paused") && said.contains("does not run"), "{said}");
        publish(&fleet, private, "1.4.0");
        agent.run();
        until("the release, staged", ROLLOUT_BOUND, || {
            says(&agent, &["why", "shop"], "the wished release is staged")
        });
        assert_eq!(agent.live_version("shop").as_deref(), Some("1.3.0"));
        succeed(&mut agent.command(&["resume", "shop"]));
        fleet.wait_for_version("shop", "1.4.0", &["web-1"]);
    });
}

#[test]
fn a_host_that_enrols_anew_keeps_what_it_runs() {
    inside("a_host_that_enrols_anew_keeps_what_it_runs", |private| {
        let (fleet, mut agent) = fleet(private);
        bring(&fleet, private, "1.0.0");
        fleet.swell_ok(&["host", "remove", "web-1", "--yes"]);
        until("doctor", ROLLOUT_BOUND, || says(&agent, &["doctor"], "enroll --again TOKEN"));
        let line = fleet.token("role=web");
        let refused = asked(&agent, &["enroll", &line]);
        assert_eq!(refused.status.code(), Some(78), "{}", describe(&refused));
        succeed(&mut agent.command(&["enroll", "--again", &line]));
        // The same line again does no harm, and makes no other host.
        let host = |agent: &Agent| succeed(&mut agent.command(&["status", "--json"]));
        let enrolled = host(&agent);
        let used = asked(&agent, &["enroll", "--again", &line]);
        assert_eq!(used.status.code(), Some(78), "the token is used: {}", describe(&used));
        assert_eq!(host(&agent), enrolled);
        agent.kill();
        agent.run();
        fleet.wait_for_version("shop", "1.0.0", &["web-1"]);
        bring(&fleet, private, "1.1.0");
    });
}

#[test]
fn a_pause_on_the_host_holds_a_switch_that_the_coordinator_wants() {
    inside("a_pause_on_the_host_holds_a_switch_that_the_coordinator_wants", |private| {
        let (fleet, agent) = fleet(private);
        bring(&fleet, private, "1.0.0");
        let said = succeed(&mut agent.command(&["pause", "--reason", "hands off"]));
        assert!(said.contains("this host is paused") && said.contains("goes by it"), "{said}");
        until("the pause in the report", ROLLOUT_BOUND, || {
            hears(&fleet, &["host", "why", "web-1"], "its owner paused it: hands off")
        });
        publish(&fleet, private, "1.1.0");
        until("the release, staged", ROLLOUT_BOUND, || {
            says(&agent, &["why", "shop"], "the wished release is staged")
        });
        assert!(says(&agent, &["why"], "paused on this host: hands off").is_some());
        assert!(says(&agent, &["status"], "paused: hands off").is_some());
        assert!(says(&agent, &["doctor"], "shop is paused on this host: hands off").is_some());
        assert_eq!(agent.live_version("shop").as_deref(), Some("1.0.0"));
        succeed(&mut agent.command(&["resume"]));
        fleet.wait_for_version("shop", "1.1.0", &["web-1"]);
        let json = succeed(&mut agent.command(&["why", "--json"]));
        let held: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(held[0]["service"], "shop", "{json}");
    });
}
