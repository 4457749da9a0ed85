//! What hosts did before, and what a release asks for: who is left out of the next plan, and what
//! becomes of a release that comes while another rolls.

use groundswell_common::ReleaseId;
use groundswell_common::condition::Condition;
use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Failure, HostState};
use groundswell_coordinator::driver::{Refused, Start};
use groundswell_coordinator::entry::Published;
use groundswell_rollout::{PhaseName, Plan, SkipReason};

use crate::bed::fleet;
use crate::fake::{Fake, Fakehost, ada, release, web};

fn policy(keys: &str) -> String {
    format!(
        "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
         failure_budget = 1\n{keys}\n[[wave]]\nname = \"all\"\nrest = true\n"
    )
}

async fn preview(fake: &Fake, version: &str) -> Result<Plan, Refused> {
    let version = version.to_owned();
    fake.handle
        .query(move |desk| desk.preview((&web(), None), (Some(&version), None)))
        .await
        .unwrap()
}

async fn why_left_out(fake: &Fake, version: &str) -> SkipReason {
    let refused = preview(fake, version).await.unwrap_err();
    let Refused::Plan(groundswell_rollout::PlanError::AllSkipped { why, .. }) = refused else {
        panic!("{refused:?}");
    };
    why
}

async fn fails(host: &mut Fakehost, what: (ReleaseId, Option<ReleaseId>)) {
    let generation = host.granted(what).await;
    host.report((HostState::Probing, Some(what.0)), (what.0, generation)).await;
    let why = "answers 500".to_owned();
    host.failure = Some(Failure { release: what.0, step: FailedStep::Probe, why, reverted: true });
    host.report((HostState::Idle, what.1), (what.0, generation)).await;
    host.failure = None;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_failed_on_a_host_comes_back_only_when_it_is_cleared() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(&policy("")).await;
    let (first, rollout) = fake.publish(1).await;
    fails(&mut host, (first, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    assert_eq!(why_left_out(&fake, "1.0").await, SkipReason::FailedBefore);
    fake.stop().await;

    let fake = Fake::start(&state);
    assert_eq!(why_left_out(&fake, "1.0").await, SkipReason::FailedBefore, "after a restart too");
    let clear = fake.handle.change(move |desk| desk.clear(&ada(), &first, "the port was taken"));
    clear.await.unwrap().unwrap();
    assert_eq!(preview(&fake, "1.0").await.unwrap().host_count(), 1);
    let again = fake.handle.change(move |desk| desk.clear(&ada(), &first, "again"));
    assert!(matches!(again.await.unwrap(), Err(Refused::NotPoisoned(..))));
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fails_again_and_again_is_left_alone_until_a_person_clears_it() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(&policy("quarantine_after = 2")).await;
    for seq in [1, 2] {
        let (failing, rollout) = fake.publish(seq).await;
        fails(&mut host, (failing, None)).await;
        fake.phase_is(&rollout, PhaseName::Done).await;
    }
    let answer = fake.publish_as(release(3)).await;
    assert_eq!(answer.rollout, None);
    assert_eq!(why_left_out(&fake, "3.0").await, SkipReason::Quarantined { failures: 2 });
    let name = "h1".parse().unwrap();
    let clear = fake.handle.change(move |desk| desk.clear_host(&ada(), &name, "new disk"));
    clear.await.unwrap().unwrap();
    assert_eq!(preview(&fake, "3.0").await.unwrap().host_count(), 1);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_goes_by_how_long_a_host_took_before() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(&policy("probe_deadline_secs = 300")).await;
    let (first, rollout) = fake.publish(1).await;
    assert_eq!(preview(&fake, "1.0").await.unwrap().waves[0].hosts[0].needs_secs, 300);
    host.commits((first, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let needs = preview(&fake, "1.0").await.unwrap().waves[0].hosts[0].needs_secs;
    assert!(needs <= 10, "{needs} s, as it took");
    // Rolled out again, a revert of the second goes back to the first, though the host runs the second.
    let (second, rollout) = fake.publish(2).await;
    host.commits((second, Some(first))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let previous = preview(&fake, "2.0").await.unwrap().waves[0].hosts[0].previous;
    assert_eq!(previous, Some(first));
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_left_out_gets_nothing_when_the_release_is_proven() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (one, two) = (fake.enrol("h1", 50).await, fake.enrol("h2", 51).await);
    let (mut good, mut bad) = (fake.arrive(one, 1).await, fake.arrive(two, 2).await);
    fake.policy(&policy("quarantine_after = 1\nmax_in_flight = 2")).await;
    let (first, rollout) = fake.publish(1).await;
    good.commits((first, None)).await;
    fails(&mut bad, (first, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    for seq in [2, 3, 4] {
        let (next, rollout) = fake.publish(seq).await;
        good.commits((next, None)).await;
        fake.phase_is(&rollout, PhaseName::Done).await;
    }
    // Its own rollout is archived by now: nothing speaks for it any more.
    let wish = fake.handle.query(move |desk| desk.view().wish(&web(), &two)).await.unwrap();
    assert_eq!(wish, None);
    let proven = fake.handle.query(move |desk| desk.view().wish(&web(), &one)).await.unwrap();
    assert!(proven.is_some());
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_is_not_jumped_over_and_comes_first_by_itself() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (one, two) = (fake.enrol("h1", 50).await, fake.enrol("h2", 51).await);
    let (mut near, mut far) = (fake.arrive(one, 1).await, fake.arrive(two, 2).await);
    fake.policy(&policy("max_in_flight = 2\nabsent_after_secs = 1")).await;
    let (first, rollout) = fake.publish(1).await;
    near.commits((first, None)).await;
    far.commits((first, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;

    // `far` is away while the barrier and two more releases go by.
    fake.handle.leave(two, 2).await.unwrap();
    let mut barrier = release(2);
    barrier.barrier = true;
    let published = fake.publish_as(barrier.clone()).await;
    near.commits((published.release, Some(first))).await;
    fake.phase_is(&published.rollout.unwrap(), PhaseName::Done).await;
    let version = barrier.version;
    for seq in [3, 4] {
        let (next, rollout) = fake.publish(seq).await;
        let skipped = preview(&fake, &format!("{seq}.0")).await.unwrap().skipped;
        let why = SkipReason::Barrier { version: version.clone() };
        assert_eq!(
            skipped.iter().map(|host| (host.id, &host.why)).collect::<Vec<_>>(),
            [(two, &why)]
        );
        near.commits((next, None)).await;
        fake.phase_is(&rollout, PhaseName::Done).await;
    }
    // Back again it is brought to the barrier first, and takes part from then on.
    let mut far = fake.arrive(two, 3).await;
    let generation = far.wished(Action::Switch { release: barrier.release }).await;
    far.report((HostState::Committed, Some(barrier.release)), (barrier.release, generation)).await;
    assert_eq!(preview(&fake, "4.0").await.unwrap().skipped, []);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_skips_hosts_whose_labels_do_not_meet_what_it_requires() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    fake.enrol("h1", 50).await;
    fake.policy(&policy("")).await;
    let mut needs = release(1);
    needs.requires = "disk=nvme".parse().unwrap();
    let answer = fake.publish_as(needs).await;
    assert!(answer.waiting.unwrap().contains("disk=nvme"));
    let requires = "disk=nvme".to_owned();
    assert_eq!(why_left_out(&fake, "1.0").await, SkipReason::Unmet { requires });
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hotfix_goes_before_a_rollout_under_way_and_anything_else_waits() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(&policy("when_newer = \"hotfix\"")).await;
    let (_, under_way) = fake.publish(1).await;
    let waits = fake.publish_as(release(2)).await;
    assert_eq!(waits.rollout, None);
    assert!(waits.waiting.unwrap().contains(under_way.as_str()));
    let mut hotfix = release(3);
    hotfix.hotfix = true;
    let hotfix = fake.publish_as(hotfix).await;
    let rollout = hotfix.rollout.unwrap();
    fake.phase_is(&under_way, PhaseName::Done).await;
    host.commits((hotfix.release, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_was_shown_is_the_one_that_starts() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    fake.policy(&policy("auto = false")).await;
    let answer = fake.publish_as(Published { bytes: 100, ..release(1) }).await;
    assert_eq!(answer.rollout, None);
    // What is free on a host that lacks room changes by the minute, the plan does not.
    let (host, session) = (fake.arrive(id, 1).await.host, 1);
    let mut plans = Vec::new();
    for free_bytes in [5, 4] {
        let condition = Condition { free_bytes, ..Condition::default() };
        fake.handle.condition(host, session, condition).await.unwrap();
        plans.push(preview(&fake, "1.0").await.unwrap());
    }
    assert!(plans[0].held[0].why.contains("100 bytes"), "{:?}", plans[0].held);
    let shown = plans[0].hash();
    assert_eq!(shown, plans[1].hash());
    fake.enrol("h2", 51).await;
    let start = |plan: String| {
        let start = move |desk: &mut groundswell_coordinator::driver::Desk| {
            let start = Start { release: "1.0", plan: Some(&plan), skip: None };
            desk.start(&ada(), (&web(), None), start)
        };
        fake.handle.change(start)
    };
    let now = preview(&fake, "1.0").await.unwrap().hash();
    let refused = start(shown.to_string()).await.unwrap().unwrap_err();
    assert!(matches!(&refused, Refused::OtherPlan { now: is, .. } if *is == now), "{refused:?}");
    let short = start(now.to_string()[..7].to_owned()).await.unwrap();
    assert!(matches!(short, Err(Refused::OtherPlan { .. })), "too short to name a plan");
    let rollout = start(now.short()).await.unwrap().unwrap();
    let hash = fake.handle.query(move |desk| desk.view().rollout(&rollout).map(|r| r.plan_hash()));
    assert_eq!(hash.await.unwrap(), Some(now));
    fake.stop().await;
}
