//! Staging and production as real processes: a release goes from one to the other by itself, a bad one never
//! does, and each goes back alone.

use std::path::Path;
use std::time::{Duration, Instant};

use groundswell_common::api::{OutcomeName, PhaseName, RolloutSummary, RolloutsAnswer};
use groundswell_tests::fleet::{Agent, Fleet, ROLLOUT_BOUND, sleeper_tree};
use groundswell_tests::private::inside;
use groundswell_tests::wait::until;

/// How long a release soaks in staging.
const SOAK: Duration = Duration::from_secs(3);
const POLICY: &str = r#"
service = "shop"
targets = "role=web"
failure_budget = 0
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 20
progress_deadline_secs = 120
promote_after_secs = 3

[[wave]]
name = "all"
rest = true

[[environment]]
name = "staging"

[[environment]]
name = "production"
"#;

fn newest(fleet: &Fleet, environment: &str) -> Option<RolloutSummary> {
    let list: RolloutsAnswer = fleet.swell_json(&["rollout", "ls", "--environment", environment]);
    list.rollouts.into_iter().next()
}

/// Waits until the newest rollout of an environment is over, and is one of this version.
fn over(fleet: &Fleet, environment: &str, version: &str) -> OutcomeName {
    until(&format!("the end of {version} in {environment}"), ROLLOUT_BOUND, || {
        let rollout = newest(fleet, environment)?;
        let over = rollout.phase == PhaseName::Done && rollout.version.as_str() == version;
        rollout.outcome.filter(|_| over)
    })
}

fn runs(agent: &Agent, version: &str) {
    until(&format!("{version} is live"), ROLLOUT_BOUND, || {
        (agent.live_version("shop").as_deref() == Some(version)).then_some(())
    });
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, healthy: bool) {
    fleet.publish("shop", version, &sleeper_tree(dir, version, healthy));
}

#[test]
fn a_release_goes_from_staging_to_production_by_itself_and_a_bad_one_does_not() {
    let name = "a_release_goes_from_staging_to_production_by_itself_and_a_bad_one_does_not";
    inside(name, |private| {
        let fleet = Fleet::start(private.dir(), "127.0.0.1");
        fleet.apply(POLICY);
        let staging = fleet.agent_of("stage-1", &fleet.token_in("role=web", "staging"));
        let production = fleet.agent("web-1", "role=web");

        publish(&fleet, private.dir(), "1.0.0", true);
        runs(&staging, "1.0.0");
        assert_eq!(over(&fleet, "staging", "1.0.0"), OutcomeName::Completed);
        let completed = Instant::now();
        assert_eq!(production.live_version("shop"), None, "it soaks");
        let said = fleet.swell_ok(&["status"]);
        assert!(said.contains("shop waits: production: 1.0.0 soaks in staging until "), "{said}");
        runs(&production, "1.0.0");
        let took = completed.elapsed();
        assert!(took > SOAK - Duration::from_secs(1), "it soaked for {took:?}");
        assert_eq!(over(&fleet, "production", "1.0.0"), OutcomeName::Completed);

        publish(&fleet, private.dir(), "2.0.0", false);
        assert_eq!(over(&fleet, "staging", "2.0.0"), OutcomeName::Reverted);
        runs(&staging, "1.0.0");
        publish(&fleet, private.dir(), "3.0.0", true);
        runs(&production, "3.0.0");
        assert_eq!(over(&fleet, "production", "3.0.0"), OutcomeName::Completed);
        let list: RolloutsAnswer =
            fleet.swell_json(&["rollout", "ls", "--environment", "production"]);
        let seen: Vec<&str> = list.rollouts.iter().map(|r| r.version.as_str()).collect();
        assert_eq!(seen, ["3.0.0", "1.0.0"], "what failed in staging was never in production");

        let back = ["revert", "shop", "--environment", "production", "--yes", "--wait"];
        fleet.swell_ok(&back);
        runs(&production, "1.0.0");
        runs(&staging, "3.0.0");
        let fix = sleeper_tree(private.dir(), "3.0.1", true).to_string_lossy().into_owned();
        let hotfix = ["publish", "--service", "shop", "--version", "3.0.1", "--hotfix"];
        let skip = ["--skip-to", "production", "--why", "orders fail", "--wait", &fix];
        fleet.swell_ok(&[&hotfix[..], &skip].concat());
        runs(&production, "3.0.1");
        let skipped = newest(&fleet, "production").and_then(|rollout| rollout.skip);
        assert_eq!(skipped.as_deref(), Some("orders fail"));
        fleet.swell_ok(&["audit", "verify"]);
    });
}
