//! Hosts and releases that come while a rollout is under way: what they get, and what they are told.

use groundswell_common::directive::Action;
use groundswell_coordinator::driver::Verb;
use groundswell_rollout::PhaseName;

use crate::bed::fleet;
use crate::fake::{Fake, ada, release, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    when_newer = \"queue\"\n[[wave]]\nname = \"all\"\nrest = true\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_host_gets_the_proven_release_while_a_newer_one_is_paused() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(POLICY).await;
    let (proven, rollout) = fake.publish(1).await;
    host.commits((proven, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let (newer, rollout) = fake.publish(2).await;
    host.wished(Action::Stage { release: newer }).await;
    let paused = rollout.clone();
    let pause = move |desk: &mut groundswell_coordinator::driver::Desk| {
        desk.verb(&ada(), &paused, (Verb::Pause, "lunch"))
    };
    fake.handle.change(pause).await.unwrap().unwrap();

    let id = fake.enrol("h2", 51).await;
    let mut new = fake.arrive(id, 1).await;
    let generation = new.wished(Action::Switch { release: proven }).await;
    new.ask_when_started((proven, generation)).await.unwrap();
    let name = "h2".parse().unwrap();
    let answer = fake.handle.query(move |desk| desk.host_why(&name)).await.unwrap().unwrap();
    assert_eq!(answer, ["web: it gets 1.0, the last proven release"]);
    assert_eq!(fake.phase(&rollout).await, PhaseName::Paused);
    // The one in the paused rollout waits.
    host.wished(Action::Hold {}).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_waits_says_for_what_and_starts_when_that_is_over() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(POLICY).await;
    let (first, under_way) = fake.publish(1).await;
    let second = fake.publish_as(release(2)).await;
    assert_eq!(second.rollout, None);
    let says = format!("rollout {under_way} comes first; it is planned when that is over");
    assert_eq!((second.waiting, second.behind), (Some(says), Some(under_way)));
    let third = fake.publish_as(release(3)).await;
    assert_eq!(third.rollout, None);
    host.commits((first, None)).await;
    // Nobody asks for it: the newest goes, not the next in the row.
    host.commits((third.release, None)).await;
    let newest = |desk: &groundswell_coordinator::driver::Desk| {
        desk.view().newest_rollout(&web()).map(|rollout| (rollout.release(), rollout.id().clone()))
    };
    let (release, rollout) = fake.handle.query(newest).await.unwrap().unwrap();
    assert_eq!(release, third.release);
    fake.phase_is(&rollout, PhaseName::Done).await;
    fake.stop().await;
}
