//! A disk that fails or takes nothing says nothing about a release: it is waited for, and said.

use groundswell_common::trust::{Approval, Purpose, RawApproval, Role, RoleEntry};

use super::*;
use crate::why;

/// Puts a directory where the agent writes: whatever it makes there fails until it is taken away.
fn block(path: &std::path::Path) {
    std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path)).ok();
    std::fs::create_dir(path).unwrap();
}

fn free(path: &std::path::Path) {
    std::fs::remove_dir(path).unwrap();
}

fn next_to(path: &std::path::Path) -> std::path::PathBuf {
    let name = path.file_name().unwrap().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// What `why` says of the service.
fn said(host: &Host) -> String {
    let file = host.dir.path().join("agent.toml");
    std::fs::write(&file, format!("state_dir = {:?}\n", host.dir.path())).unwrap();
    why::to_text(&why::why(&crate::config::load(&file).unwrap(), None).unwrap())
}

#[tokio::test]
async fn a_disk_that_fails_before_the_rename_holds_the_release_and_is_tried_again() {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    for link in [host.layout().current(&shop()), host.layout().previous(&shop())] {
        units.calls.lock().unwrap().clear();
        block(&next_to(&link));
        host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
        let request = host.asked().await;
        host.permit(&request, 2_000).await;
        assert!(matches!(host.say().await, Say::Done { used: false, .. }));
        let held = host.until_held(Lack::Bytes).await;
        assert!(held.why.contains(".new"), "it names what failed: {held:?}");
        let standing = host.until("no failure", |s| s.running == Some(one.id)).await;
        assert_eq!((standing.failure, host.live()), (None, Some(one.id)));
        let previous = switch::before(&host.layout(), &shop()).unwrap();
        assert_eq!(previous, None, "what a revert puts back is as it was");
        assert_eq!(*units.calls.lock().unwrap(), [""; 0], "not a unit was touched");
        free(&next_to(&link));
    }
    host.let_switch().await;
    let done = host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!((done.failure, done.previous), (None, Some(one.id)));
    host.stop().await;
}

#[tokio::test]
async fn a_disk_that_takes_no_state_is_waited_for_and_said_and_nothing_is_lost() {
    let (mut host, _) = Host::simulated();
    let (one, two, three) = (good(1), good(2), good(3));
    for made in [&one, &two, &three] {
        host.depot.put(made);
    }
    host.start_on(&one).await;
    let (directive, journal) =
        (next_to(&host.layout().directive()), next_to(&host.layout().journal(&shop())));
    for (path, generation, made) in [(&directive, 2, &two), (&journal, 4, &three)] {
        block(path);
        let before = host.live();
        // The newest wish is the one that counts in the end.
        host.direct(generation, Desired::Hold {}, &[]).await;
        let wish = Desired::Switch { release: made.id };
        host.direct(generation + 1, wish, &[made]).await;
        let held = host.until_held(Lack::Journal).await;
        assert_eq!(held.release, made.id);
        assert!(held.why.starts_with("the agent cannot keep its state: "), "{held:?}");
        assert!(held.why.contains("it goes on by itself then"), "{held:?}");
        assert_eq!(host.live(), before);
        free(path);
        host.let_switch().await;
        let done = host.until_state(HostState::Committed, Some(made.id)).await;
        assert_eq!(done.failure, None);
        host.until_has("nothing lacks", |s| s.held.is_none() && s.notes.is_empty()).await;
    }
    host.stop().await;
}

#[tokio::test]
async fn a_start_on_a_disk_that_takes_no_state_runs_what_is_live_and_goes_on_later() {
    let (mut host, units) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    host.stop().await;
    let journal = next_to(&host.layout().journal(&shop()));
    block(&journal);
    units.calls.lock().unwrap().clear();
    host.start().await;
    let noted = |service: &ServiceCondition| {
        service.notes.iter().any(|note| note.starts_with("the agent cannot keep its state: "))
    };
    host.until_has("the note", noted).await;
    host.until("what runs", |s| s.running == Some(one.id)).await;
    let ensured = async {
        while *units.calls.lock().unwrap() != ["ensure 1.0"] {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, ensured).await.expect("what is live runs all the same");
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    assert_eq!(host.until_held(Lack::Journal).await.release, two.id);
    free(&journal);
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn an_approval_that_is_missing_is_named_on_the_host_and_looked_for_also_without_a_turn() {
    let (mut host, _) = Host::simulated();
    let mut one = good(1);
    host.depot.put(&one);
    let role = RoleEntry {
        role: Role::Approver,
        service: None,
        environment: None,
        threshold: 1,
        keys: vec![fixture::key(4).public()],
    };
    let root = fixture::root(2, |raw| raw.roles.push(role));
    host.start().await;
    host.hear_roots(vec![root]).await;
    host.hear_roots(Vec::new()).await;
    let identity = serde_json::to_vec(&fixture::loaded().identity).unwrap();
    std::fs::write(host.layout().identity(), identity).unwrap();
    let tell = |generation, action, made: &Made| {
        let message =
            fixture::directive_with(generation, action, &[made], |raw| raw.root_version = 2);
        Heard::Directive(Box::new(message))
    };
    host.hear(tell(1, Desired::Switch { release: one.id }, &one)).await;
    let held = host.until_held(Lack::Approval).await;
    assert!(held.why.contains("0 of 1 approvals"), "{held:?}");
    let why = said(&host);
    assert!(why.contains("shop  held: accept the release: 0 of 1 approvals"), "{why}");
    assert!(!why.contains("waits for a permit"), "{why}");
    // Held, it is told to stage: the approval that comes then is seen all the same.
    let now = wall().as_secs();
    let approval = RawApproval {
        release: one.id,
        service: shop(),
        environment: "dev".parse().unwrap(),
        plan: Digest::of(b"plan"),
        wave: None,
        purpose: Purpose::Deploy,
        not_before: now - 60,
        not_after: now + 600,
    };
    let approval = Envelope::new::<Approval>(serde_json::to_vec(&approval).unwrap());
    host.hear(tell(2, Desired::Stage { release: one.id }, &one)).await;
    host.until_held(Lack::Approval).await;
    one.proof.approvals.push(approval.signed_by(&fixture::key(4)));
    host.hear(tell(2, Desired::Stage { release: one.id }, &one)).await;
    host.until_has("nothing lacks", |service| service.held.is_none()).await;
    assert!(said(&host).contains("the coordinator gave it no slot"), "{}", said(&host));
    host.stop().await;
}
