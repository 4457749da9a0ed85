//! Signed approvals through the driver: whose count.

use groundswell_common::RolloutId;
use groundswell_common::api::OperatorRole;
use groundswell_common::trust::{Approval, Envelope, Purpose, RawApproval, SecretKey};
use groundswell_coordinator::driver::Refused;
use groundswell_rollout::PhaseName;

use crate::bed::{fleet, key, now};
use crate::fake::{Fake, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\n[[wave]]\nname = \"all\"\nrest = true\n\
    gate = \"approval\"\napprover_role = \"approver\"\n";

async fn approve(
    fake: &Fake,
    rollout: &RolloutId,
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
        wave: Some(0),
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
    let refused = approve(&fake, &rollout, ("eve", &key(61))).await.unwrap_err();
    let Refused::Approval(why) = refused else { panic!("{refused:?}") };
    assert_eq!(why, "a gate asks for a person of another role");
    assert_eq!(fake.phase(&rollout).await, PhaseName::Gated);
    let forged = approve(&fake, &rollout, ("bob", &key(61))).await;
    assert!(matches!(forged, Err(Refused::Approval(_))), "{forged:?}");
    approve(&fake, &rollout, ("bob", &key(62))).await.unwrap();
    assert_eq!(fake.phase(&rollout).await, PhaseName::Running);
    fake.stop().await;
}
