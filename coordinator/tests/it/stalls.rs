//! A newest release that nothing brings to hosts any more: it is said, with the cause and the step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use groundswell_common::condition::{Condition, Held, Lack, ServiceCondition};
use groundswell_common::report::HostState;
use groundswell_common::time::Clock;
use groundswell_coordinator::driver::Desk;
use groundswell_rollout::PhaseName;

use crate::bed::fleet;
use crate::clock::Ahead;
use crate::fake::{Fake, ada, release, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    [[wave]]\nname = \"all\"\nrest = true\n";

async fn stalls(fake: &Fake) -> Vec<String> {
    let ask = |desk: &Desk| desk.services().remove(0).stalls;
    fake.handle.query(ask).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_of_which_no_plan_can_be_made_is_said_until_the_policy_is_mended() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(&POLICY.replace("rest = true", "rest = true\nmin_healthy = \"100%\"")).await;
    assert_eq!(fake.publish_as(release(1)).await.rollout, None);
    let want = "1.0 cannot be rolled out: plan: all 1 hosts of wave all must stay up, so none could ever switch; \
                lower its min_healthy; it starts by itself once that is mended";
    assert_eq!(stalls(&fake).await, [want]);
    let why = fake.handle.query(|desk| desk.host_why(&"h1".parse().unwrap())).await.unwrap();
    assert!(why.unwrap().contains(&format!("web: {want}")));
    fake.policy(POLICY).await;
    assert_eq!(stalls(&fake).await, [""; 0]);
    let first = groundswell_common::ReleaseId::from_digest(release(1).tree);
    host.commits((first, None)).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newest_release_that_silence_took_back_is_said_with_who_was_silent_until_it_is_started_again()
 {
    let (place, _) = fleet();
    let clock = Arc::new(Ahead::default());
    let state = place.path().join("state");
    let fake = Fake::by(&state, Arc::clone(&clock) as Arc<dyn Clock>);
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(POLICY).await;
    let (first, rollout) = fake.publish(1).await;
    host.commits((first, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let (second, rollout) = fake.publish(2).await;
    let generation = host.granted((second, Some(first))).await;
    host.report((HostState::Switching, Some(first)), (second, generation)).await;
    // Not a word while all its time goes by.
    clock.0.store(3_600_000, Ordering::Relaxed);
    fake.policy(POLICY).await;
    let back = groundswell_common::directive::Action::Revert { from: second, to: Some(first) };
    let generation = host.wished(back).await;
    host.report((HostState::Committed, Some(first)), (second, generation)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let want = "2.0 is reverted, since 1 host of wave 1 failed, its budget is 0 (1 did not say in time that it was \
                done, and nothing against the release): h1 (it did not say in time that it was done); nothing brings \
                it again: once the cause is mended, 'swell rollout start web 2.0'";
    assert_eq!(stalls(&fake).await, [want]);
    let start = groundswell_coordinator::driver::Start { release: "2.0", ..Default::default() };
    let again = fake.handle.change(move |desk| desk.start(&ada(), (&web(), None), start));
    again.await.unwrap().unwrap();
    assert_eq!(stalls(&fake).await, [""; 0]);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_that_a_slip_in_the_targets_leaves_behind_are_told_how_it_was_before() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(POLICY).await;
    let (first, rollout) = fake.publish(1).await;
    host.commits((first, None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let slip = POLICY.replace("\"*\"", "\"role=wbe\"");
    // Put a second time, it is still known what was before the slip.
    for text in [slip.clone(), slip.replace("bake_secs = 0\nhost", "bake_secs = 1\nhost")] {
        fake.policy(&text).await;
    }
    fake.stop().await;
    let fake = Fake::start(&state);
    let why = fake.handle.query(|desk| desk.host_why(&"h1".parse().unwrap())).await.unwrap();
    let want = "web 1.0 runs here, and is no more its policy's: targets = \"role=wbe\" does not match, and was \"*\" \
                before; if that was a mistake, write targets = \"*\" again and 'swell service apply' it; if not, \
                'swell service remove web --left-over' takes it off";
    assert_eq!(why.unwrap()[1], want);
    fake.policy(POLICY).await;
    let why = fake.handle.query(|desk| desk.host_why(&"h1".parse().unwrap())).await.unwrap();
    assert!(!why.unwrap().join("\n").contains("left-over"));
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_at_rest_is_said_before_a_release_is_held_by_it() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(POLICY).await;
    let (first, _) = fake.publish(1).await;
    host.commits((first, None)).await;
    let say = async |condition: Condition| {
        fake.handle.condition(id, 1, condition).await.unwrap();
        fake.handle.query(move |desk| desk.host_notes(&id)).await.unwrap()
    };
    let full = Condition { free_bytes: 9, free_inodes: 0, ..Condition::default() };
    let said = say(full.clone()).await;
    assert!(said[0].starts_with("no inode is free on the disk of its agent"), "{said:?}");
    let (why, lack) = ("9 inodes are needed".to_owned(), Lack::Inodes);
    let held = Some(Held { release: first, lack, why });
    let services = vec![ServiceCondition { held, ..ServiceCondition::new(web()) }];
    assert_eq!(say(Condition { services, ..full }).await, [""; 0]);
    fake.stop().await;
}
