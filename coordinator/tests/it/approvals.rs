//! Signed approvals through the driver: whose count.

use groundswell_common::RolloutId;
use groundswell_common::api::OperatorRole;
use groundswell_common::condition::{Condition, Held, Lack, ServiceCondition};
use groundswell_common::directive::Action;
use groundswell_common::trust::{Approval, Envelope, Purpose, RawApproval, SecretKey};
use groundswell_coordinator::driver::Refused;
use groundswell_rollout::PhaseName;

use crate::bed::{fleet, key, now};
use crate::fake::{Fake, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\n[[wave]]\nname = \"all\"\nrest = true\n\
    gate = \"approval\"\napprover_role = \"approver\"\n";

async fn approve(
    fake: &Fake,
    (rollout, wave): (&RolloutId, u32),
    (name, key): (&str, &SecretKey),
) -> Result<(), Refused> {
    let asked = rollout.clone();
    let plan = fake.handle.query(move |desk| {
        desk.view().rollout(&asked).map(|rollout| (rollout.release(), rollout.plan_hash()))
    });
    let (release, plan) = plan.await.unwrap().unwrap();
    let at = now().as_secs();
    let raw = RawApproval {
        release,
        service: web(),
        environment: "production".parse().unwrap(),
        plan,
        wave: Some(wave),
        purpose: Purpose::Deploy,
        not_before: at - 60,
        not_after: at + 600,
    };
    let envelope = Envelope::new::<Approval>(serde_json::to_vec(&raw).unwrap()).signed_by(key);
    let (by, rollout) = (name.parse().unwrap(), rollout.clone());
    fake.handle.change(move |desk| desk.approve(&by, &rollout, &envelope)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_by_role_counts_only_persons_of_just_that_role() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    fake.put_operator("eve", OperatorRole::Admin, 61).await;
    fake.put_operator("bob", OperatorRole::Approver, 62).await;
    fake.enrol("h1", 50).await;
    fake.policy(POLICY).await;
    let (_, rollout) = fake.publish(1).await;
    assert_eq!(fake.phase(&rollout).await, PhaseName::Gated);
    let refused = approve(&fake, (&rollout, 0), ("eve", &key(61))).await.unwrap_err();
    let Refused::Approval(why) = refused else { panic!("{refused:?}") };
    assert_eq!(why, "a gate asks for a person of another role");
    assert_eq!(fake.phase(&rollout).await, PhaseName::Gated);
    let forged = approve(&fake, (&rollout, 0), ("bob", &key(61))).await;
    assert!(matches!(forged, Err(Refused::Approval(_))), "{forged:?}");
    approve(&fake, (&rollout, 0), ("bob", &key(62))).await.unwrap();
    assert_eq!(fake.phase(&rollout).await, PhaseName::Running);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_root_wants_an_approval_gets_the_one_that_comes() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    fake.put_operator("bob", OperatorRole::Approver, 62).await;
    let ids = [fake.enrol("h1", 50).await, fake.enrol("h2", 51).await];
    let mut hosts = [fake.arrive(ids[0], 1).await, fake.arrive(ids[1], 2).await];
    let canary = "[[wave]]\nname = \"canary\"\ncount = 1\n";
    fake.policy(&POLICY.replacen("[[wave]]", &format!("{canary}[[wave]]"), 1)).await;
    let (release, rollout) = fake.publish(1).await;
    let (asked, of) = (rollout.clone(), ids);
    let first = fake.handle.query(move |desk| {
        let first = desk.view().rollout(&asked)?.plan().waves[0].hosts[0].id;
        of.iter().position(|id| *id == first)
    });
    let first = first.await.unwrap().unwrap();
    let (host, session) = (&mut hosts[first], [1, 2][first]);
    let generation = host.granted((release, None)).await;
    let why = "0 of 1 approvals".to_owned();
    let held = Some(Held { release, lack: Lack::Approval, why });
    let service = ServiceCondition { held, ..ServiceCondition::new(web()) };
    let condition = Condition { services: vec![service], ..Condition::default() };
    fake.handle.condition(host.host, session, condition).await.unwrap();
    let staging = host.wished(Action::Stage { release }).await;
    assert!(staging > generation);
    approve(&fake, (&rollout, 1), ("bob", &key(62))).await.unwrap();
    assert_eq!(host.approved().await, staging, "the same wish, with what it lacked");
    fake.stop().await;
}
