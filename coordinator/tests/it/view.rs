//! The view after a restart: records and tail, or the whole ledger, give the same.

use std::collections::BTreeMap;
use std::path::Path;

use groundswell_common::api::{self, OperatorRole};
use groundswell_common::directive::Action;
use groundswell_common::report::HostState;
use groundswell_coordinator::entry::Entry;
use groundswell_coordinator::init::Layout;
use groundswell_coordinator::ledger::{LedgerError, Log};
use groundswell_coordinator::recover::{RecoverError, recover};
use groundswell_coordinator::store::{MemoryStore, SledStore, Store as _};
use groundswell_coordinator::view::{Key, View};
use groundswell_rollout::PhaseName;

use crate::bed::{fleet, now};
use crate::fake::Fake;

/// All records of a view.
fn records(view: &View) -> BTreeMap<String, Vec<u8>> {
    let mut keys = vec![Key::Meta];
    keys.extend(view.operators.keys().cloned().map(Key::Operator));
    keys.extend(view.tokens.keys().copied().map(Key::Token));
    keys.extend(view.hosts.keys().copied().map(Key::Host));
    keys.extend(view.services.keys().cloned().map(Key::Service));
    keys.extend(view.releases.keys().copied().map(Key::Release));
    keys.extend(view.rollouts.keys().cloned().map(Key::Rollout));
    let record = |key: &Key| (key.text(), view.record(key).unwrap().unwrap());
    keys.iter().map(record).collect()
}

fn assert_same(found: &View, want: &View, what: &str) {
    let (found_records, want_records) = (records(found), records(want));
    for (key, value) in &want_records {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let found = found_records.get(key).map(|value| text(value));
        assert_eq!(found, Some(text(value)), "{what}: {key}");
    }
    assert_eq!(found_records.len(), want_records.len(), "{what}");
    assert_eq!(found.host_names, want.host_names, "{what}");
    for host in want.hosts.keys() {
        assert_eq!(found.wishes(host), want.wishes(host), "{what}");
    }
}

/// Operators, tokens, hosts, a policy, a completed release, one that is halted, a removed host.
async fn history(state: &Path) {
    let fake = Fake::start(state);
    fake.put_operator("eve", OperatorRole::Viewer, 60).await;
    fake.put_operator("eve", OperatorRole::Publisher, 61).await;
    let id = fake.enrol("h1", 50).await;
    fake.enrol("h2", 51).await;
    let gone = |desk: &mut groundswell_coordinator::driver::Desk| {
        desk.remove_host(&crate::fake::ada(), &"h2".parse().unwrap())
    };
    fake.handle.change(gone).await.unwrap().unwrap();
    let mut host = fake.arrive(id, 1).await;
    fake.put_policy().await;
    let (release, rollout) = fake.publish(1).await;
    let generation = host.wished(Action::Stage { release }).await;
    host.report((HostState::Staged, None), (release, generation)).await;
    let generation = host.wished(Action::Switch { release }).await;
    for state in [HostState::Switching, HostState::Baking, HostState::Committed] {
        host.report((state, Some(release)), (release, generation)).await;
    }
    fake.phase_is(&rollout, PhaseName::Done).await;
    let (release, rollout) = fake.publish(2).await;
    host.wished(Action::Stage { release }).await;
    let halted = tokio::time::timeout(crate::bed::PATIENCE, fake.halt(&rollout)).await;
    assert_eq!(halted.unwrap().unwrap().rollout.phase, api::PhaseName::Halted);
    fake.stop().await;
}

fn entries(state: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    let ledger = Layout::new(state).ledger();
    Log::verify(&ledger, &mut |found| {
        entries.push(Entry::from_payload(found.seq, found.payload).unwrap());
    })
    .unwrap();
    entries
}

fn fold(mut view: View, entries: &[Entry]) -> View {
    for entry in entries {
        view.apply(entry).unwrap();
    }
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_tail_make_the_same_view_wherever_the_store_stopped() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    history(&state).await;
    let entries = entries(&state);
    let whole = fold(View::default(), &entries);
    assert_eq!((whole.hosts.len(), whole.operators.len(), whole.rollouts.len()), (1, 2, 2));
    assert_eq!(whole.services[&crate::fake::web()].proven.len(), 1);
    let (mut store, mut view) = (MemoryStore::default(), View::default());
    for at in 0..entries.len() {
        let found = View::from_records(&store.load().unwrap()).unwrap();
        assert_same(&fold(found, &entries[at..]), &whole, &format!("records up to entry {at}"));
        view.apply(&entries[at]).unwrap();
        store.save(&view.take_dirty().unwrap()).unwrap();
    }
    assert_same(&view, &whole, "entry by entry");
    let kept = SledStore::open(&Layout::new(&state).view()).unwrap().load().unwrap();
    assert_same(&View::from_records(&kept).unwrap(), &whole, "as the driver kept it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_damaged_or_foreign_store_is_made_again_from_the_ledger() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    history(&state).await;
    let whole = fold(View::default(), &entries(&state));
    let view = Layout::new(&state).view();
    let aside = || {
        let names = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("view.damaged-")).count()
    };
    let again = |what: &str| {
        let recovered = recover(&Layout::new(&state), now()).unwrap();
        assert_same(&recovered.view, &whole, what);
    };
    again("as it was left");
    std::fs::remove_dir_all(&view).unwrap();
    again("without a store");
    assert_eq!(aside(), 0, "nothing was damaged so far");

    let mut store = SledStore::open(&view).unwrap();
    let bad = [("h/no-such-id".to_owned(), Some(b"{}".to_vec()))].into();
    store.save(&bad).unwrap();
    drop(store);
    again("with a record that is none");
    assert_eq!(aside(), 1, "the store with the bad record is kept aside");

    std::fs::remove_dir_all(&view).unwrap();
    let mut store = SledStore::open(&view).unwrap();
    let ahead = format!("{{\"seq\":{},\"at\":null,\"fleet\":null,\"rollouts_planned\":0}}", 9_999);
    store.save(&[("m".to_owned(), Some(ahead.into_bytes()))].into()).unwrap();
    drop(store);
    again("ahead of a ledger that was restored");
    assert_eq!(aside(), 2);

    std::fs::remove_dir_all(&view).unwrap();
    std::fs::write(&view, b"no directory").unwrap();
    again("with a file in its place");
    assert_eq!(aside(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_were_changed_in_the_store_never_reach_the_view() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    history(&state).await;
    let whole = fold(View::default(), &entries(&state));
    let file = Layout::new(&state).view().join("db");
    let good = std::fs::read(&file).unwrap();
    for step in [97, 1_009, 8_191] {
        let mut bad = good.clone();
        bad.iter_mut().step_by(step).for_each(|byte| *byte ^= 0x55);
        std::fs::write(&file, &bad).unwrap();
        let recovered = recover(&Layout::new(&state), now()).unwrap();
        assert_same(&recovered.view, &whole, &format!("every byte number {step} changed"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_coordinators_never_share_a_state_directory() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let first = Log::open(&Layout::new(&state).ledger(), &mut |_| {}).unwrap();
    let error = recover(&Layout::new(&state), now()).unwrap_err();
    assert!(matches!(error, RecoverError::Ledger(LedgerError::Locked(_))), "{error}");
    drop(first);
    recover(&Layout::new(&state), now()).unwrap();
}
