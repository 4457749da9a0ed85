//! Hosts that say that they accepted more than the ledger knows: who is believed, and how far a lift goes.

use groundswell_common::report::HostState;
use groundswell_coordinator::driver::Refused;

use crate::bed::fleet;
use crate::fake::{Fake, ada, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
                      failure_budget = 1\n[[wave]]\nname = \"all\"\nrest = true\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_claims_what_no_ledger_gives_is_named_and_lifts_nothing() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (liar, honest) = (fake.enrol("liar", 50).await, fake.enrol("honest", 51).await);
    let (mut lies, mut other) = (fake.arrive(liar, 1).await, fake.arrive(honest, 1).await);
    fake.policy(POLICY).await;
    let (first, _) = fake.publish(1).await;
    other.commits((first, None)).await;
    let asked = || fake.handle.query(|desk| desk.put_back());
    let lift = || fake.handle.change(|desk| desk.lift(&ada(), "put back"));
    for claim in [u64::MAX, u64::MAX - 59, (1 << 53) - 25, 1 << 33] {
        lies.report((HostState::Idle, None), (first, claim)).await;
        assert_eq!(asked().await.unwrap(), None, "{claim}");
        assert!(matches!(lift().await.unwrap(), Err(Refused::NothingToLift)), "{claim}");
        let notes = fake.handle.query(move |desk| desk.host_notes(&liar)).await.unwrap();
        let note = notes.iter().find(|note| note.contains(&claim.to_string()));
        assert!(note.is_some_and(|note| note.contains("'swell host remove liar'")), "{notes:?}");
    }
    // What a backup may have lost is believed, with the name of who says so; and is no end of anything.
    lies.report((HostState::Idle, None), (first, 1 << 31)).await;
    let found = asked().await.unwrap().unwrap();
    assert_eq!((found.hosts, found.newest), (1, 1 << 31));
    assert_eq!(found.names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["liar"]);
    assert_eq!(lift().await.unwrap().unwrap(), 1 << 31);
    fake.stop().await;

    let fake = Fake::start(&state);
    let (mut lies, mut other) = (fake.arrive(liar, 2).await, fake.arrive(honest, 2).await);
    let claim = u64::MAX - 59;
    lies.report((HostState::Idle, None), (first, claim)).await;
    let notes = fake.handle.query(move |desk| desk.host_notes(&liar)).await.unwrap();
    assert!(notes.iter().any(|note| note.contains(&claim.to_string())), "{notes:?}");
    let (second, _) = fake.publish((1 << 31) + 1).await;
    other.commits((second, Some(first))).await;
    let runs = fake.handle.query(move |desk| {
        desk.view().hosts.get(&honest).and_then(|host| host.runs.get(&web()).copied())
    });
    assert_eq!(runs.await.unwrap(), Some(second));
    fake.stop().await;
}
