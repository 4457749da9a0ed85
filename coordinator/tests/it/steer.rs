//! Steering through the driver: in the ledger, in force when it is answered, and found again after a
//! restart.

use groundswell_common::api::SteerAct;
use groundswell_common::directive::Action;
use groundswell_common::report::HostState;
use groundswell_common::{HostName, RolloutId, Timestamp};
use groundswell_coordinator::driver::{Refused, Settled};
use groundswell_rollout::{PhaseName, Progress, Refusal, Rollout, Why, explain};

use crate::bed::fleet;
use crate::fake::{Fake, ada, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    [[wave]]\nname = \"first\"\ncount = 1\n[[wave]]\nname = \"all\"\nrest = true\n\
    gate = \"manual\"\n";

async fn steer(fake: &Fake, rollout: &RolloutId, act: SteerAct) -> Result<(), Refused> {
    let rollout = rollout.clone();
    let change = move |desk: &mut groundswell_coordinator::driver::Desk| {
        let verb = desk.steer_of(&act)?;
        desk.verb(&ada(), &rollout, (verb, "a test"))?;
        Ok::<_, Refused>((Settled::NoPermits(rollout.clone()), ()))
    };
    fake.handle.change_then(change, |(), _| Ok::<_, Refused>(())).await.unwrap()
}

async fn look<T: Send + 'static>(fake: &Fake, rollout: &RolloutId, what: fn(&Rollout) -> T) -> T {
    let rollout = rollout.clone();
    let ask = fake.handle.query(move |desk| desk.view().rollout(&rollout).map(what));
    ask.await.unwrap().unwrap()
}

fn named(name: &str) -> HostName {
    name.parse().unwrap()
}

/// A rollout of two hosts that waits at the manual gate of its second wave.
async fn at_the_gate(fake: &Fake) -> (RolloutId, HostName) {
    let (one, two) = (fake.enrol("h1", 50).await, fake.enrol("h2", 51).await);
    let (mut first, mut second) = (fake.arrive(one, 1).await, fake.arrive(two, 2).await);
    let put = fake.handle.change(|desk| desk.put_policy(&ada(), &web(), POLICY));
    put.await.unwrap().unwrap();
    let (release, rollout) = fake.publish(1).await;
    let canary = look(fake, &rollout, |r| r.plan().waves[0].hosts[0].name.clone()).await;
    let (host, left) = match canary == named("h1") {
        true => (&mut first, named("h2")),
        false => (&mut second, named("h1")),
    };
    host.commits((release, None)).await;
    fake.phase_is(&rollout, PhaseName::Gated).await;
    (rollout, left)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_comes_during_a_rollout_says_that_it_changes_nothing_of_it() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (rollout, _) = at_the_gate(&fake).await;
    let put = async |text: String| {
        let put = fake.handle.change(move |desk| desk.put_policy(&ada(), &web(), &text));
        put.await.unwrap().unwrap().notes
    };
    assert_eq!(put(POLICY.to_owned()).await, [""; 0], "nothing is new");
    let notes = put(POLICY.replace("host_bake_secs = 0", "host_bake_secs = 1")).await;
    let want = format!(
        "rollout {rollout} goes on by the policy that it was planned with; 'swell rollout start web 1.0' \
         plans it anew"
    );
    assert_eq!(notes, [want]);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_waits_for_a_freeze_is_told_when_it_may_go() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    let text = "service = \"web\"\ntargets = \"*\"\n[[freeze]]\nfrom = \"2020-01-01T00:00:00Z\"\n\
        until = \"2099-01-01T00:00:00Z\"\nwhy = \"audit\"\n";
    let put = fake.handle.change(move |desk| desk.put_policy(&ada(), &web(), text));
    put.await.unwrap().unwrap();
    let (release, _) = fake.publish(1).await;
    let generation = host.wished(Action::Stage { release }).await;
    host.report((HostState::Staged, None), (release, generation)).await;
    let answer = fake.handle.query(|desk| desk.host_why(&named("h1"))).await.unwrap().unwrap();
    let until = "2099-01-01T00:00:00.000Z";
    let held = format!("web 1.0: a freeze holds it until {until}: audit");
    assert!(answer.contains(&held), "{answer:?}");
    let last = format!("web 1.0: it may switch at {until} at the earliest");
    assert_eq!(answer.last(), Some(&last));
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_opens_a_manual_gate_once() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (rollout, _) = at_the_gate(&fake).await;
    steer(&fake, &rollout, SteerAct::Promote {}).await.unwrap();
    assert_eq!(fake.phase(&rollout).await, PhaseName::Running);
    let again = steer(&fake, &rollout, SteerAct::Promote {}).await.unwrap_err();
    assert!(matches!(again, Refused::Step(Refusal::NothingToPromote)), "{again:?}");
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_left_out_stays_out_after_a_restart_until_it_is_tried_again() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (rollout, left) = at_the_gate(&fake).await;
    steer(&fake, &rollout, SteerAct::Exclude { host: left.clone() }).await.unwrap();
    steer(&fake, &rollout, SteerAct::Slow { max_in_flight: Some(1) }).await.unwrap();
    let unknown = SteerAct::Exclude { host: named("nobody") };
    let unknown = steer(&fake, &rollout, unknown).await.unwrap_err();
    assert!(matches!(unknown, Refused::UnknownHost(_)), "{unknown:?}");
    fake.stop().await;
    let fake = Fake::start(&state);
    let after = look(&fake, &rollout, Rollout::clone).await;
    assert_eq!(after.tally(1).unwrap().excluded, 1);
    let why = explain(&after, None, Timestamp::from_secs(0));
    assert!(why.contains(&Why::Slowed { max_in_flight: 1 }), "{why:?}");
    steer(&fake, &rollout, SteerAct::Retry { host: left }).await.unwrap();
    assert_eq!(look(&fake, &rollout, |r| r.tally(1).unwrap().excluded).await, 0);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_deleted_leaves_the_rollout_and_shifts_nobody() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (rollout, left) = at_the_gate(&fake).await;
    let plan = look(&fake, &rollout, Rollout::plan_hash).await;
    let remove = fake.handle.change(move |desk| desk.remove_host(&ada(), &left));
    remove.await.unwrap().unwrap();
    let gone = look(&fake, &rollout, |r| {
        let gone = Progress::Excluded { ran: false, gone: true };
        r.hosts().filter(|(wave, _, entry)| *wave == 1 && entry.progress == gone).count()
    });
    assert_eq!(gone.await, 1);
    assert_eq!(look(&fake, &rollout, Rollout::plan_hash).await, plan);
    fake.stop().await;
}
