//! Releases that go from staging to production by themselves, and what is kept apart between the two.

use std::time::Duration;

use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Failure, HostState, Verdict};
use groundswell_common::wire::Deny;
use groundswell_common::{Environment, ReleaseId, RolloutId, Timestamp};
use groundswell_coordinator::driver::{Desk, Hold, Refused, Start};
use groundswell_coordinator::entry::{By, Published, What};
use groundswell_rollout::{Off, PhaseName, ProgressName};
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use crate::bed::{PATIENCE, Served, fleet, now};
use crate::fake::{Fake, Fakehost, ada, release, web};

const TOP: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    max_in_flight = 9\n";
const ALL: &str = "[[environment.wave]]\nrest = true\n";

fn policy(soak_secs: u64) -> String {
    format!(
        "{TOP}promote_after_secs = {soak_secs}\n[[environment]]\nname = \"staging\"\n{ALL}\
         [[environment]]\nname = \"production\"\n{ALL}"
    )
}

fn named(text: &str) -> Environment {
    text.parse().unwrap()
}

/// A fleet with a host in staging and one in production.
struct Two {
    fake: Fake,
    staging: Fakehost,
    production: Fakehost,
}

impl Two {
    async fn start(state: &std::path::Path, policy: &str) -> Self {
        let fake = Fake::start(state);
        let (s, p) = (fake.enrol_in("s1", 50, "staging").await, fake.enrol("p1", 51).await);
        let (staging, production) = (fake.arrive(s, 1).await, fake.arrive(p, 1).await);
        fake.policy(policy).await;
        Self { fake, staging, production }
    }

    /// As the coordinator is after a restart; the hosts come back and say what they run.
    async fn again(self, state: &std::path::Path, runs: ReleaseId) -> Self {
        let (s, p) = (self.staging.host, self.production.host);
        self.fake.stop().await;
        let fake = Fake::start(state);
        let (mut staging, production) = (fake.arrive(s, 2).await, fake.arrive(p, 2).await);
        staging.report((HostState::Committed, Some(runs)), (runs, 0)).await;
        Self { fake, staging, production }
    }

    /// Publishes a release; staging has it when this returns.
    async fn through_staging(&mut self, seq: u64, old: Option<ReleaseId>) -> ReleaseId {
        let (release, rollout) = self.fake.publish(seq).await;
        self.staging.commits((release, old)).await;
        self.fake.phase_is(&rollout, PhaseName::Done).await;
        release
    }

    /// As before, and production too.
    async fn through(&mut self, seq: u64, old: Option<ReleaseId>) -> ReleaseId {
        let release = self.through_staging(seq, old).await;
        self.production.commits((release, old)).await;
        self.is_proven("production", release).await;
        release
    }

    async fn is_proven(&self, environment: &str, release: ReleaseId) {
        let mut changes = self.fake.handle.changes();
        let wait = async {
            while self.proven(environment).await != Some(release) {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }

    async fn proven(&self, environment: &str) -> Option<ReleaseId> {
        let environment = named(environment);
        let ask =
            move |desk: &Desk| desk.view().baseline(&desk.view().services[&web()], &environment);
        self.fake.handle.query(ask).await.unwrap()
    }

    /// The release of the newest rollout in an environment.
    async fn newest(&self, environment: &str) -> Option<(ReleaseId, RolloutId)> {
        let environment = named(environment);
        let ask = move |desk: &Desk| {
            let found = desk.view().newest_in(&web(), &environment);
            found.map(|rollout| (rollout.release(), rollout.id().clone()))
        };
        self.fake.handle.query(ask).await.unwrap()
    }

    async fn why(&self, host: &str) -> String {
        let host = host.parse().unwrap();
        let why = self.fake.handle.query(move |desk| desk.host_why(&host)).await.unwrap();
        why.unwrap().join("\n")
    }

    async fn waits(&self) -> String {
        let ask = |desk: &Desk| desk.waits_text(&web()).join("\n");
        self.fake.handle.query(ask).await.unwrap()
    }

    async fn start_in(
        &self,
        environment: &str,
        (version, skip): (&str, Option<&str>),
    ) -> Result<RolloutId, Refused> {
        let (environment, version) = (named(environment), version.to_owned());
        let skip = skip.map(ToOwned::to_owned);
        let start = move |desk: &mut Desk| {
            let start = Start { release: &version, plan: None, skip: skip.as_deref() };
            desk.start(&ada(), (&web(), Some(&environment)), start)
        };
        self.fake.handle.change(start).await.unwrap()
    }

    async fn revert_in(&self, environment: Option<&str>) -> Result<RolloutId, Refused> {
        let environment = environment.map(named);
        let revert = move |desk: &mut Desk| {
            desk.revert(&ada(), (&web(), environment.as_ref()), (None, "it is slow"))
        };
        self.fake.handle.change(revert).await.unwrap()
    }

    async fn hold(&self, version: &str, until: Option<Timestamp>) -> Result<(), Refused> {
        let version = version.to_owned();
        let hold = move |desk: &mut Desk| {
            let hold = Hold { release: &version, until, skip: None, why: "a test" };
            desk.hold(&ada(), (&web(), None), hold)
        };
        self.fake.handle.change(hold).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_soaks_in_staging_and_goes_to_production_by_itself() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(1)).await;
    let first = two.through_staging(1, None).await;
    assert_eq!(two.newest("production").await, None, "it soaks");
    let says = two.waits().await;
    assert!(says.starts_with("production: 1.0 soaks in staging until "), "{says}");
    assert!(two.why("p1").await.contains("1.0 soaks in staging until "));
    // No permit is to be had in production before its own rollout asks for it.
    assert_eq!(two.production.ask_when_started((first, u64::MAX)).await, Err(Deny::Stale));
    two.production.commits((first, None)).await;
    two.is_proven("production", first).await;
    assert_eq!(two.waits().await, "");
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_soak_goes_on_where_the_coordinator_was_started_again() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let mut two = Two::start(&state, &policy(2)).await;
    let first = two.through_staging(1, None).await;
    let mut two = two.again(&state, first).await;
    assert_eq!(two.newest("production").await, None, "it soaks");
    two.production.commits((first, None)).await;
    two.is_proven("production", first).await;
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_fails_in_staging_never_reaches_production_and_the_next_one_does() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(0)).await;
    let good = two.through(1, None).await;
    let (bad, rollout) = two.fake.publish(2).await;
    let generation = two.staging.granted((bad, Some(good))).await;
    two.staging.report((HostState::Probing, Some(bad)), (bad, generation)).await;
    let why = "answers 500".to_owned();
    two.staging.failure =
        Some(Failure { release: bad, step: FailedStep::Probe, why, reverted: true });
    two.staging.report((HostState::Committed, Some(good)), (bad, generation)).await;
    two.staging.failure = None;
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    let refused = two.start_in("production", ("2.0", Some("no time"))).await.unwrap_err();
    assert!(refused.to_string().contains("is poisoned: in staging: "), "{refused}");
    // Nor does a policy that forgets staging, or puts it last, bring it there.
    let alone = format!("{TOP}[[wave]]\nrest = true\n");
    let turned = policy(0).replace("staging", "x").replace("production", "staging");
    for text in [alone, turned.replace("\"x\"", "\"production\"")] {
        two.fake.policy(&text).await;
        let newest = two.newest("production").await.map(|(release, _)| release);
        assert_eq!(newest, Some(good), "{text}");
    }
    two.fake.policy(&policy(0)).await;
    let next = two.through(3, Some(good)).await;
    let newest = two.newest("production").await.map(|(release, _)| release);
    assert_eq!(newest, Some(next));
    let rolled = move |desk: &Desk| {
        let rollouts = desk.view().rollouts.values();
        rollouts.filter_map(|record| record.live()).filter(|r| r.release() == bad).count()
    };
    assert_eq!(two.fake.handle.query(rolled).await.unwrap(), 1, "in staging alone");
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_does_not_go_on_while_it_fails_its_probes_in_staging() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(1)).await;
    let first = two.through_staging(1, None).await;
    two.staging.health = Verdict::Fail;
    two.staging.report((HostState::Committed, Some(first)), (first, 0)).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let says = two.waits().await;
    assert!(
        says.contains("production: 1.0 fails its probes on 1 of the hosts in staging"),
        "{says}"
    );
    assert_eq!(two.newest("production").await, None);
    two.staging.health = Verdict::Pass;
    two.staging.report((HostState::Committed, Some(first)), (first, 0)).await;
    // Time looks again once a minute; an admin who puts the policy has it looked at now.
    two.fake.policy(&policy(0)).await;
    two.production.commits((first, None)).await;
    two.is_proven("production", first).await;
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_soaked_does_not_take_the_place_of_a_newer_hotfix_under_way() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(1)).await;
    let first = two.through_staging(1, None).await;
    let (fix, _) = two.fake.publish(2).await;
    let rollout = two.start_in("production", ("2.0", Some("orders fail"))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(two.newest("production").await, Some((fix, rollout.clone())));
    assert_eq!(two.fake.phase(&rollout).await, PhaseName::Running);
    two.production.commits((fix, None)).await;
    two.is_proven("production", fix).await;
    assert_eq!(two.proven("staging").await, Some(first));
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_release_that_completes_takes_the_place_of_one_that_soaks() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(1)).await;
    let first = two.through_staging(1, None).await;
    let second = two.through_staging(2, Some(first)).await;
    two.production.commits((second, None)).await;
    two.is_proven("production", second).await;
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hotfix_skips_staging_with_a_reason_that_is_kept() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(3_600)).await;
    let (fix, _) = two.fake.publish(1).await;
    let refused = two.start_in("production", ("1.0", None)).await.unwrap_err().to_string();
    assert!(refused.contains("it has not completed in staging"), "{refused}");
    let rollout = two.start_in("production", ("1.0", Some("orders fail"))).await.unwrap();
    two.production.commits((fix, None)).await;
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    let page = move |desk: &Desk| {
        let found = desk.rollouts(Some(&web())).into_iter().find(|found| found.rollout == rollout);
        found.map(|found| (found.environment, found.skip))
    };
    let kept = two.fake.handle.query(page).await.unwrap();
    assert_eq!(kept, Some((Some(named("production")), Some("orders fail".to_owned()))));
    // Staging gets it as always, and production is not asked again.
    two.staging.commits((fix, None)).await;
    two.is_proven("staging", fix).await;
    assert_eq!(two.waits().await, "");
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_in_production_leaves_staging_alone() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(0)).await;
    let old = two.through(1, None).await;
    let new = two.through(2, Some(old)).await;
    let which = two.revert_in(None).await.unwrap_err();
    assert!(which.to_string().contains("staging, production"), "{which}");
    let rollout = two.revert_in(Some("production")).await.unwrap();
    let generation = two.production.wished(Action::Revert { from: new, to: Some(old) }).await;
    two.production.report((HostState::Committed, Some(old)), (new, generation)).await;
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    assert_eq!(two.proven("production").await, Some(old));
    assert_eq!(two.proven("staging").await, Some(new));
    two.staging.wished(Action::Switch { release: new }).await;
    let state = move |desk: &Desk| {
        let found = &desk.view().releases[&new];
        let poisoned = |name: &str| found.poisoned_in(&named(name)).is_some();
        (poisoned("staging"), poisoned("production"))
    };
    assert_eq!(two.fake.handle.query(state).await.unwrap(), (false, true));
    // A new host of each gets what is proven there.
    for (name, seed, environment, gets) in
        [("s2", 52, "staging", new), ("p2", 53, "production", old)]
    {
        let id = two.fake.enrol_in(name, seed, environment).await;
        let mut host = two.fake.arrive(id, 1).await;
        host.wished(Action::Switch { release: gets }).await;
    }
    // What was taken back does not come again by itself.
    let says = two.waits().await;
    assert_eq!(says, "");
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_waits_for_its_time_also_after_a_restart_and_the_time_can_be_taken_back() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let mut two = Two::start(&state, &policy(0)).await;
    let first = two.through(1, None).await;
    let mut second = release(2);
    second.held_until = Some(now().plus_millis(1_500));
    let answer = two.fake.publish_as(second).await;
    let says = answer.waiting.unwrap();
    assert!(says.contains("2.0 is held until ") && says.contains(" by ada: "), "{says}");
    assert!(two.why("s1").await.contains("2.0 is held until "));
    let mut two = two.again(&state, first).await;
    assert!(two.waits().await.contains("2.0 is held until "));
    assert_eq!(two.newest("staging").await.map(|(release, _)| release), Some(first));
    two.staging.commits((answer.release, Some(first))).await;
    two.is_proven("staging", answer.release).await;

    let mut third = release(3);
    third.held_until = Some(now().plus_millis(700));
    let third = two.fake.publish_as(third).await;
    two.hold("3.0", None).await.unwrap();
    let says = two.waits().await;
    let next = "3.0 waits for a person by ada: a test; 'swell rollout start web 3.0 --environment staging' starts it";
    assert!(says.contains(next), "{says}");
    tokio::time::sleep(Duration::from_millis(900)).await;
    let newest = two.newest("staging").await.map(|(release, _)| release);
    assert_eq!(newest, Some(answer.release), "its time was taken back");
    two.start_in("staging", ("3.0", None)).await.unwrap();
    two.staging.commits((third.release, Some(answer.release))).await;
    assert!(matches!(two.hold("3.0", None).await, Err(Refused::NotHeld { .. })));
    let past = two.hold("3.0", Some(Timestamp::from_secs(1))).await.unwrap_err().to_string();
    assert!(past.contains("a moment to come"), "{past}");
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_button_halts_every_environment_and_the_api_names_each() {
    let (place, settings) = fleet();
    let two = Two::start(&place.path().join("state"), &policy(3_600)).await;
    let (_, staging) = two.fake.publish(1).await;
    let production = two.start_in("production", ("1.0", Some("it burns"))).await.unwrap();
    two.fake.publish_as(Published { held_until: Some(now().plus_secs(600)), ..release(2) }).await;
    two.fake.stop().await;
    let served = Served::on((place, settings)).await;
    let tls = served.admin_tls();
    let path = |path: &str| format!("/v1/services/web{path}");
    let why = json!({"why": "orders fail"});
    let halted = served.json(&tls, (&Method::POST, &path("/halt")), why.clone()).await;
    assert_eq!(halted["rollout"]["rollout"], production.as_str());
    assert_eq!(halted["rollout"]["environment"], "production");
    assert_eq!(halted["others"][0]["rollout"], staging.as_str());
    for rollout in [&halted["rollout"], &halted["others"][0]] {
        assert_eq!(rollout["phase"], "halted", "{halted}");
    }
    let again = served.json(&tls, (&Method::POST, &path("/halt")), why.clone()).await;
    assert_eq!(again["already"], true);

    let status = served.json(&tls, (&Method::GET, "/v1/status"), json!(null)).await;
    let service = &status["services"][0];
    assert_eq!(service["environments"][0]["rollout"], staging.as_str());
    assert_eq!(service["environments"][1]["rollout"], production.as_str());
    let waits = service["waits"][0].as_str().unwrap();
    assert!(waits.starts_with("staging: 2.0 is held until "), "{waits}");
    let plan = json!({"environment": "production"});
    let plan = served.json(&tls, (&Method::POST, &path("/plan")), plan).await;
    assert_eq!((&plan["environment"], &plan["hosts"]), (&json!("production"), &json!(1)));
    assert_eq!(plan["notes"], json!(null), "the stored policy fits");
    let typed = policy(1).replace("\"production\"", "\"prodcution\"");
    let typed = served.json(&tls, (&Method::POST, &path("/plan")), json!({"policy": typed})).await;
    let note = "no host is in environment prodcution; did you mean production?";
    assert_eq!(typed["notes"][0], note, "{typed}");
    let cancel = json!({"release": "2.0", "why": "not tonight"});
    let answer = served.json(&tls, (&Method::POST, &path("/hold")), cancel).await;
    assert!(answer["waits"][0].as_str().unwrap().contains("2.0 waits for a person"), "{answer}");
    let revert = serde_json::to_vec(&why).unwrap();
    let answer = served.ask(&tls, (&Method::POST, &path("/revert")), revert).await.unwrap();
    assert_eq!(answer.code(), "which_environment");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_of_an_environment_that_the_policy_does_not_name_get_nothing_and_are_named() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    for (name, seed, environment) in [("s1", 50, "staging"), ("p1", 51, "production")] {
        fake.enrol_in(name, seed, environment).await;
    }
    let put = |text: String| fake.handle.change(move |desk| desk.put_policy(&ada(), &web(), &text));
    let only = put(format!("{TOP}[[wave]]\nrest = true\n")).await.unwrap().unwrap();
    assert_eq!(only.notes.len(), 1);
    assert!(only.notes[0].starts_with("1 host in environment staging would fit"), "{only:?}");
    let (_, rollout) = fake.publish(1).await;
    let hosts = move |desk: &Desk| desk.view().rollout(&rollout).map(|r| r.plan().host_count());
    assert_eq!(fake.handle.query(hosts).await.unwrap(), Some(1));
    let why = || async {
        let why = fake.handle.query(|desk| desk.host_why(&"s1".parse().unwrap())).await.unwrap();
        why.unwrap().join("\n")
    };
    let said = why().await;
    let nowhere = "its environment is staging, which no policy names, so it gets nothing; they have production";
    assert!(said.starts_with(nowhere) && said.contains("'swell host remove s1'"), "{said}");
    assert!(!said.contains("which the policy does not name"), "said once: {said}");
    let slip = put(policy(1).replace("\"staging\"", "\"stagign\"")).await.unwrap().unwrap();
    assert_eq!(slip.notes[0], "no host is in environment stagign; did you mean staging?");
    let said = why().await;
    assert!(said.contains("gets nothing (did you mean stagign?); they have "), "{said}");
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_from_before_there_were_environments_takes_every_host_until_it_is_put_again() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol_in("s1", 50, "staging").await;
    fake.enrol("p1", 51).await;
    let mut staging = fake.arrive(id, 1).await;
    let text = format!("{TOP}[[wave]]\nrest = true\n");
    // As it stands in ledgers from before.
    let old = format!(r#"{{"policy-put":{{"service":"web","text":{text:?}}}}}"#);
    let what: What = serde_json::from_str(&old).unwrap();
    let put = fake.handle.change(move |desk| desk.submit(By::Operator(ada()), what));
    put.await.unwrap().unwrap();
    let (release, rollout) = fake.publish(1).await;
    staging.wished(Action::Stage { release }).await;
    let hosts = move |desk: &Desk| desk.view().rollout(&rollout).map(|r| r.plan().host_count());
    assert_eq!(fake.handle.query(hosts).await.unwrap(), Some(2));
    staging.report((HostState::Committed, Some(release)), (release, 1)).await;
    let same = text.clone();
    let keeps = fake.handle.query(move |desk| desk.keeps_hosts(&web(), &same)).await.unwrap();
    let left = keeps.unwrap_err().to_string();
    assert!(left.contains("environment staging, which the policy does not name"), "{left}");
    let again = fake.handle.change(move |desk| desk.put_policy(&ada(), &web(), &text));
    let again = again.await.unwrap().unwrap();
    assert!(again.changed && again.notes[0].contains("environment staging"), "{again:?}");
    let preview = |desk: &Desk| desk.preview((&web(), None), (None, None)).map(|p| p.host_count());
    assert_eq!(fake.handle.query(preview).await.unwrap().unwrap(), 1);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_loses_its_environments_goes_back_to_what_was_proven_in_them() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(0)).await;
    let old = two.through(1, None).await;
    let new = two.through(2, Some(old)).await;
    two.fake.policy(&format!("{TOP}[[wave]]\nrest = true\n")).await;
    let rollout = two.revert_in(None).await.unwrap();
    let generation = two.production.wished(Action::Revert { from: new, to: Some(old) }).await;
    two.production.report((HostState::Committed, Some(old)), (new, generation)).await;
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    assert_eq!(two.proven("production").await, Some(old));
    let id = two.fake.enrol("p2", 53).await;
    two.fake.arrive(id, 1).await.wished(Action::Switch { release: old }).await;
    // It was the first one of its environment: nothing is left to go back to.
    two.revert_in(None).await.unwrap();
    two.production.wished(Action::Revert { from: old, to: None }).await;
    assert_eq!(two.proven("production").await, None);
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_from_before_the_environments_says_for_ever_how_it_ended() {
    let (place, _) = fleet();
    let mut two =
        Two::start(&place.path().join("state"), &format!("{TOP}[[wave]]\nrest = true\n")).await;
    let (old, first) = two.fake.publish(1).await;
    two.production.commits((old, None)).await;
    two.fake.phase_is(&first, PhaseName::Done).await;
    two.fake.policy(&policy(0)).await;
    let (new, _) = two.fake.publish(2).await;
    two.staging.commits((new, None)).await;
    two.production.commits((new, Some(old))).await;
    two.is_proven("production", new).await;
    let entry = move |desk: &Desk| {
        let rollout = desk.view().rollout(&first).unwrap();
        rollout.hosts().map(|(_, _, entry)| entry.progress.name()).collect::<Vec<_>>()
    };
    assert_eq!(two.fake.handle.query(entry).await.unwrap(), [ProgressName::Committed]);
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_proven_for_all_is_taken_back_in_one_environment_alone() {
    let (place, _) = fleet();
    let everyone = format!("{TOP}[[wave]]\nrest = true\n");
    let mut two = Two::start(&place.path().join("state"), &everyone).await;
    // It completes for all when its policy has environments already.
    let (new, rollout) = two.fake.publish(1).await;
    let generation = two.production.granted((new, None)).await;
    two.fake.policy(&policy(0)).await;
    two.production.report((HostState::Committed, Some(new)), (new, generation)).await;
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    let rollout = two.revert_in(Some("production")).await.unwrap();
    let generation = two.production.wished(Action::Revert { from: new, to: None }).await;
    two.production.report((HostState::Committed, None), (new, generation)).await;
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    assert_eq!(two.proven("production").await, None);
    assert_eq!(two.proven("staging").await, Some(new));
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_was_taken_off_and_started_anew_goes_on_by_itself_again() {
    let (place, _) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(0)).await;
    let first = two.through(1, None).await;
    let off = |desk: &mut Desk| desk.take_off(&ada(), &web(), (Off::Everyone, "a pause"));
    let rollout = two.fake.handle.change(off).await.unwrap().unwrap();
    for host in [&mut two.production, &mut two.staging] {
        let generation = host.wished(Action::Remove {}).await;
        host.report((HostState::Idle, None), (first, generation)).await;
    }
    two.fake.phase_is(&rollout, PhaseName::Done).await;
    two.fake.policy(&format!("{}# again\n", policy(0))).await;
    let newest = |found: Option<(ReleaseId, RolloutId)>| found.map(|(_, rollout)| rollout);
    for name in ["staging", "production"] {
        assert_eq!(
            newest(two.newest(name).await).as_ref(),
            Some(&rollout),
            "{name} stays as it is"
        );
    }
    two.start_in("staging", ("1.0", None)).await.unwrap();
    two.staging.commits((first, None)).await;
    two.is_proven("staging", first).await;
    two.production.commits((first, None)).await;
    two.is_proven("production", first).await;
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_a_release_off_a_host_that_nothing_targets_plans_it_nowhere_else() {
    let (place, _) = fleet();
    let text = policy(3_600).replace("\"*\"", "\"role notin (db)\"");
    let mut two = Two::start(&place.path().join("state"), &text).await;
    let first = two.through_staging(1, None).await;
    let off = |desk: &mut Desk| {
        desk.label_host(&ada(), &"s1".parse().unwrap(), "role=db".parse().unwrap())?;
        desk.take_off(&ada(), &web(), (Off::LeftOver, "a database now"))
    };
    two.fake.handle.change(off).await.unwrap().unwrap();
    let rolled = move |desk: &Desk| desk.view().releases[&first].rolled_in(&named("production"));
    assert!(!two.fake.handle.query(rolled).await.unwrap(), "it still soaks for production");
    two.fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_leaves_hosts_which_run_the_service_is_refused_until_somebody_says_so() {
    let (place, settings) = fleet();
    let mut two = Two::start(&place.path().join("state"), &policy(0)).await;
    two.through(1, None).await;
    two.fake.stop().await;
    let served = Served::on((place, settings)).await;
    let tls = served.admin_tls();
    let put = async |path: &str, text: &str| {
        let path = format!("/v1/services/web/policy{path}");
        served.ask(&tls, (&Method::PUT, &path), text.as_bytes().to_vec()).await.unwrap()
    };
    // Everybody stays: nothing is asked.
    let same = format!("{}# again\n", policy(0));
    assert_eq!(put("", &same).await.status, StatusCode::OK);
    let one = format!("{TOP}[[wave]]\nrest = true\n");
    let narrow = policy(0).replace("\"*\"", "\"role=web\"");
    for (text, says) in [
        (&one, "1 host in environment staging, which the policy does not name, run web: s1"),
        (&narrow, "environment production, whose labels do not match its targets, run web: p1"),
    ] {
        let refused = put("", text).await;
        assert_eq!(refused.code(), "leaves_hosts");
        let body = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(body.contains(says), "{body}");
    }
    let page = served.json(&tls, (&Method::GET, "/v1/services/web"), json!(null)).await;
    assert_eq!(page["policy"], same, "what is refused changes nothing");
    assert_eq!(put("?leave=true", &one).await.status, StatusCode::OK);
    served.stop().await;
}
