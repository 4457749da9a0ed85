//! The way back of a service, and what must never take a healthy host down on any way.

use groundswell_common::api::RevertPreview;
use groundswell_common::condition::{Condition, Held, Lack, ServiceCondition};
use groundswell_common::directive::Action;
use groundswell_common::report::{FailedStep, Failure, HostState, Verdict};
use groundswell_common::wire::Deny;
use groundswell_common::{ReleaseId, RolloutId};
use groundswell_coordinator::driver::{Desk, Refused, Start, Verb};
use groundswell_coordinator::entry::Published;
use groundswell_coordinator::present::{self, Detail};
use groundswell_rollout::{KeepOrRevert, PhaseName, ProgressName};

use crate::bed::{fleet, now};
use crate::fake::{Fake, Fakehost, ada, release, web};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    max_in_flight = 9\n[[wave]]\nname = \"all\"\nrest = true\n";

async fn revert(fake: &Fake, to: Option<&str>) -> Result<RolloutId, Refused> {
    let to = to.map(|to| to.parse().unwrap());
    let change =
        move |desk: &mut Desk| desk.revert(&ada(), (&web(), None), (to.as_ref(), "it is slow"));
    fake.handle.change(change).await.unwrap()
}

async fn preview(fake: &Fake, to: Option<&str>) -> Result<RevertPreview, Refused> {
    let to = to.map(|to| to.parse().unwrap());
    fake.handle.query(move |desk| desk.revert_preview((&web(), None), to.as_ref())).await.unwrap()
}

async fn poisoned(fake: &Fake, release: ReleaseId) -> bool {
    let ask = move |desk: &Desk| desk.view().releases[&release].poisoned.is_some();
    fake.handle.query(ask).await.unwrap()
}

/// The host is told to go back and does.
async fn goes_back(host: &mut Fakehost, (from, to): (ReleaseId, Option<ReleaseId>)) {
    let generation = host.wished(Action::Revert { from, to }).await;
    host.report((HostState::Committed, to), (from, generation)).await;
}

/// The host switches and goes back by itself.
async fn fails(host: &mut Fakehost, (new, old): (ReleaseId, Option<ReleaseId>)) {
    let generation = host.granted((new, old)).await;
    host.report((HostState::Probing, Some(new)), (new, generation)).await;
    let why = "answers 500".to_owned();
    host.failure = Some(Failure { release: new, step: FailedStep::Probe, why, reverted: true });
    host.report((HostState::Committed, old), (new, generation)).await;
    host.failure = None;
}

/// A fleet of one host on which releases 1 to `count` were completed one after the other.
async fn proven(fake: &Fake, count: u64) -> (Fakehost, Vec<ReleaseId>) {
    let id = fake.enrol("h1", 50).await;
    let mut host = fake.arrive(id, 1).await;
    fake.policy(POLICY).await;
    let mut releases: Vec<ReleaseId> = Vec::new();
    for seq in 1..=count {
        let (release, rollout) = fake.publish(seq).await;
        host.commits((release, releases.last().copied())).await;
        fake.phase_is(&rollout, PhaseName::Done).await;
        releases.push(release);
    }
    (host, releases)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_goes_from_what_runs_to_the_release_proven_before_also_twice() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 3).await;
    // One that fails in between changes nothing about what runs.
    let (bad, rollout) = fake.publish(4).await;
    fails(&mut host, (bad, Some(releases[2]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    for (from, to) in [(2, 1), (1, 0)] {
        let asked = preview(&fake, None).await.unwrap();
        assert_eq!((asked.from.to_string(), asked.hosts), (format!("{}.0", from + 1), 1));
        assert_eq!(asked.to.unwrap().to_string(), format!("{}.0", to + 1));
        fake.handle.query(|desk| desk.keeps_running((&web(), None), None)).await.unwrap().unwrap();
        let rollout = revert(&fake, None).await.unwrap();
        goes_back(&mut host, (releases[from], Some(releases[to]))).await;
        fake.phase_is(&rollout, PhaseName::Done).await;
        assert!(poisoned(&fake, releases[from]).await);
        assert!(!poisoned(&fake, releases[to]).await);
    }
    // Nothing is before the first one: the service stops, and the question says so.
    let asked = preview(&fake, None).await.unwrap();
    assert_eq!((asked.to, asked.stops, asked.hosts), (None, 1, 1));
    let keeps = fake.handle.query(|desk| desk.keeps_running((&web(), None), None)).await.unwrap();
    let refused = keeps.unwrap_err().to_string();
    assert_eq!(
        refused,
        "nothing of web was proven before 1.0: to revert it would stop web on every host that runs it (1)"
    );
    let rollout = revert(&fake, None).await.unwrap();
    goes_back(&mut host, (releases[0], None)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    assert!(matches!(revert(&fake, None).await, Err(Refused::NothingToLeave(_))));
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_may_name_any_proven_release_and_what_every_host_would_refuse_is_refused() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (mut host, releases) = proven(&fake, 3).await;
    // Bringing an older release is no plan, and says how to go back; nothing is poisoned for it.
    let start = fake.handle.change(|desk| {
        desk.start(&ada(), (&web(), None), Start { release: "1.0", ..Start::default() })
    });
    let refused = start.await.unwrap().unwrap_err().to_string();
    assert!(refused.contains("swell revert web --to 1.0"), "{refused}");
    assert!(!poisoned(&fake, releases[0]).await);
    for (to, why) in [("3.0", "it is what runs"), ("9.0", "no release")] {
        let refused = revert(&fake, Some(to)).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
    }
    let rollout = revert(&fake, Some("1.0")).await.unwrap();
    goes_back(&mut host, (releases[2], Some(releases[0]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let refused = revert(&fake, Some("2.0")).await.unwrap_err().to_string();
    assert!(refused.contains("newer than what runs"), "{refused}");
    fake.stop().await;
    // The ledger replays, and a host that comes now gets what the others went back to.
    let fake = Fake::start(&state);
    let id = fake.enrol("h2", 51).await;
    let mut new = fake.arrive(id, 2).await;
    new.wished(Action::Switch { release: releases[0] }).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_completed_and_is_cleared_may_be_gone_back_to_though_newer_ones_run() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 2).await;
    revert(&fake, None).await.unwrap();
    goes_back(&mut host, (releases[1], Some(releases[0]))).await;
    // What a newer one waits for is said, and not what became of the one before.
    let later = Published { held_until: Some(now().plus_secs(600)), ..release(9) };
    let says = fake.publish_as(later).await.waiting.unwrap();
    assert!(says.contains("9.0 is held until "), "{says}");
    let (newer, rollout) = fake.publish(10).await;
    host.commits((newer, Some(releases[0]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let refused = revert(&fake, Some("2.0")).await.unwrap_err().to_string();
    assert!(refused.contains("it is poisoned; 'swell release clear' first"), "{refused}");
    let taken_back = releases[1];
    let clear = fake.handle.change(move |desk| desk.clear(&ada(), &taken_back, "it was the disk"));
    clear.await.unwrap().unwrap();
    let rollout = revert(&fake, Some("2.0")).await.unwrap();
    goes_back(&mut host, (newer, Some(releases[1]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let id = fake.enrol("h2", 51).await;
    let mut new = fake.arrive(id, 2).await;
    new.wished(Action::Switch { release: releases[1] }).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_got_the_release_outside_the_plan_goes_back_too() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 2).await;
    let id = fake.enrol("h2", 51).await;
    let mut late = fake.arrive(id, 2).await;
    let generation = late.wished(Action::Switch { release: releases[1] }).await;
    late.report((HostState::Committed, Some(releases[1])), (releases[1], generation)).await;
    assert_eq!(preview(&fake, None).await.unwrap().hosts, 2);
    let rollout = revert(&fake, None).await.unwrap();
    for host in [&mut host, &mut late] {
        goes_back(host, (releases[1], Some(releases[0]))).await;
    }
    fake.phase_is(&rollout, PhaseName::Done).await;
    // One that comes back later with it, from a snapshot, is told to go back as well.
    late.report((HostState::Committed, Some(releases[1])), (releases[1], u64::MAX >> 12)).await;
    late.wished(Action::Revert { from: releases[1], to: Some(releases[0]) }).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_was_away_all_the_while_is_said_to_be_behind_and_one_command_brings_it_up() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 1).await;
    let id = fake.enrol("h2", 51).await;
    let mut other = fake.arrive(id, 2).await;
    let generation = other.wished(Action::Switch { release: releases[0] }).await;
    other.report((HostState::Committed, Some(releases[0])), (releases[0], generation)).await;
    fake.handle.leave(id, 2).await.unwrap();
    let soon = "max_in_flight = 9\nabsent_after_secs = 1";
    fake.policy(&POLICY.replace("max_in_flight = 9", soon)).await;
    let mut before = releases[0];
    let mut newer = Vec::new();
    for seq in [2, 3] {
        let (release, rollout) = fake.publish(seq).await;
        host.commits((release, Some(before))).await;
        fake.phase_is(&rollout, PhaseName::Done).await;
        before = release;
        newer.push(release);
    }
    let rollout = revert(&fake, None).await.unwrap();
    goes_back(&mut host, (newer[1], Some(newer[0]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let mut back = fake.arrive(id, 3).await;
    back.report((HostState::Committed, Some(releases[0])), (releases[0], generation)).await;
    let why = async || {
        let asked = fake.handle.query(|desk| desk.host_why(&"h2".parse().unwrap())).await;
        asked.unwrap().unwrap().remove(0)
    };
    let behind = "web: it runs 1.0, is behind the proven 2.0, and no rollout brings it there any more; \
                  'swell rollout start web 2.0'";
    assert_eq!(why().await, behind);
    let start = fake.handle.change(|desk| {
        desk.start(&ada(), (&web(), None), Start { release: "2.0", ..Start::default() })
    });
    start.await.unwrap().unwrap();
    back.commits((newer[0], Some(releases[0]))).await;
    assert_ne!(why().await, behind);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cleared_stays_cleared_whatever_reconnects() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (mut host, releases) = proven(&fake, 1).await;
    let (bad, rollout) = fake.publish(2).await;
    fails(&mut host, (bad, Some(releases[0]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    assert!(poisoned(&fake, bad).await);
    let clear = fake.handle.change(move |desk| desk.clear(&ada(), &bad, "the port was taken"));
    clear.await.unwrap().unwrap();
    for session in 2..5 {
        fake.handle.leave(host.host, session - 1).await.unwrap();
        host = fake.arrive(host.host, session).await;
        host.report((HostState::Committed, Some(releases[0])), (bad, 1)).await;
        assert!(!poisoned(&fake, bad).await);
    }
    fake.stop().await;
    let fake = Fake::start(&state);
    assert!(!poisoned(&fake, bad).await, "after a restart too");
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_host_that_cannot_take_what_runs_takes_nobody_down() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 2).await;
    let id = fake.enrol("h2", 51).await;
    let mut new = fake.arrive(id, 2).await;
    let again = fake.handle.change(|desk| {
        desk.start(&ada(), (&web(), None), Start { release: "2.0", ..Start::default() })
    });
    let rollout = again.await.unwrap().unwrap();
    let generation = new.wished(Action::Stage { release: releases[1] }).await;
    let why = "unit shop.service is not allowed here".to_owned();
    let (release, step) = (releases[1], FailedStep::Stage);
    new.failure = Some(Failure { release, step, why, reverted: false });
    new.report((HostState::Idle, None), (releases[1], generation)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    host.wished(Action::Switch { release: releases[1] }).await;
    assert!(!poisoned(&fake, releases[1]).await);
    let why = fake.handle.query(|desk| desk.host_why(&"h2".parse().unwrap())).await.unwrap();
    let why = why.unwrap();
    assert!(why[0].contains("unit shop.service is not allowed here"), "{why:?}");
    // Whatever else is wrong there, how it is tried again is said.
    let note = "web.service was stopped on this host".to_owned();
    let service = ServiceCondition { notes: vec![note.clone()], ..ServiceCondition::new(web()) };
    let condition = Condition { services: vec![service], ..Condition::default() };
    fake.handle.condition(id, 2, condition).await.unwrap();
    let why = fake.handle.query(|desk| desk.host_why(&"h2".parse().unwrap())).await.unwrap();
    let why = why.unwrap().join("\n");
    assert!(why.contains(&note) && why.contains("--host h2' tries it again"), "{why}");
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_with_one_key_are_found_out_and_get_no_permit() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (host, _) = proven(&fake, 1).await;
    let says = async |session, number| {
        let here = fake.arrive(host.host, session).await;
        let condition = Condition { instance: [number; 16], ..Condition::default() };
        fake.handle.condition(host.host, session, condition).await.unwrap();
        here
    };
    let twin = async || {
        let id = host.host;
        fake.handle.query(move |desk| desk.is_twin(&id)).await.unwrap()
    };
    drop(says(10, 1).await);
    drop(says(11, 2).await);
    assert!(!twin().await, "a restart is none");
    let mut one = says(12, 1).await;
    assert!(twin().await);
    one.hears_of_a_twin().await;
    let why = fake.handle.query(|desk| desk.host_why(&"h1".parse().unwrap())).await.unwrap();
    assert!(why.unwrap()[0].starts_with("two machines use the key of this host"));
    let (release, _) = fake.publish(2).await;
    one.wished(Action::Hold {}).await;
    let asked = one.ask_when_started((release, u64::MAX >> 12)).await;
    assert_eq!(asked, Err(Deny::Stopped));
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_host_is_left_out_and_catches_up_when_it_is_let_in() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 1).await;
    let id = fake.enrol("h2", 51).await;
    let mut other = fake.arrive(id, 2).await;
    let generation = other.wished(Action::Switch { release: releases[0] }).await;
    other.report((HostState::Committed, Some(releases[0])), (releases[0], generation)).await;
    let drain = |why: Option<&'static str>| {
        fake.handle.change(move |desk| desk.drain_host(&ada(), &"h1".parse().unwrap(), why))
    };
    drain(Some("new disk")).await.unwrap().unwrap();
    assert!(matches!(drain(Some("again")).await.unwrap(), Err(Refused::Drained { .. })));
    let (newer, rollout) = fake.publish(2).await;
    other.commits((newer, Some(releases[0]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    host.wished(Action::Hold {}).await;
    let undrained = fake
        .handle
        .change(move |desk| desk.undrain_host(&ada(), &"h1".parse().unwrap(), "the disk is in"));
    undrained.await.unwrap().unwrap();
    host.commits((newer, Some(releases[0]))).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_host_that_is_away_ran_is_known_after_a_restart() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (host, _) = proven(&fake, 2).await;
    fake.handle.leave(host.host, 1).await.unwrap();
    fake.stop().await;
    let fake = Fake::start(&state);
    let page = fake.handle.query(|desk| desk.host_page(&"h1".parse().unwrap())).await.unwrap();
    let service = page.unwrap().host.services.remove(0);
    assert_eq!(service.version.unwrap().to_string(), "2.0");
    assert_eq!(preview(&fake, None).await.unwrap().hosts, 1);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_in_the_middle_of_a_switch_goes_back_at_once_by_a_plan_of_its_own_too() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (_host, releases) = proven(&fake, 2).await;
    fake.policy(&POLICY.replace("max_in_flight = 9", "max_in_flight = 1")).await;
    let id = fake.enrol("h2", 51).await;
    let mut new = fake.arrive(id, 2).await;
    let again = fake.handle.change(|desk| {
        desk.start(&ada(), (&web(), None), Start { release: "2.0", ..Start::default() })
    });
    let rollout = again.await.unwrap().unwrap();
    let generation = new.granted((releases[1], None)).await;
    new.report((HostState::Switching, None), (releases[1], generation)).await;
    let abort = fake.handle.change(move |desk| {
        let keep = Verb::Abort(KeepOrRevert::Keep);
        desk.verb(&ada(), &rollout, (keep, "a look"))
    });
    abort.await.unwrap().unwrap();
    revert(&fake, None).await.unwrap();
    // On a slow disk it would be long before it has finished what it is to leave.
    goes_back(&mut new, (releases[1], Some(releases[0]))).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_names_the_host_on_which_the_release_before_is_still_on_its_way() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut old, releases) = proven(&fake, 1).await;
    let id = fake.enrol("h2", 51).await;
    let mut other = fake.arrive(id, 2).await;
    other.report((HostState::Committed, Some(releases[0])), (releases[0], 0)).await;
    // One host is in the middle of the second release when the third is published, halted and taken back.
    let (two, _) = fake.publish(2).await;
    let generation = old.granted((two, Some(releases[0]))).await;
    old.report((HostState::Probing, Some(two)), (two, generation)).await;
    let (_, third) = fake.publish(3).await;
    let halt = fake.handle.change(move |desk| {
        desk.verb(&ada(), &third, (Verb::Halt, "a look"))
            .map(|()| desk.verb_answer(&third, tokio::time::Instant::now()))
    });
    let halted = halt.await.unwrap().unwrap().unwrap();
    assert_eq!(halted.hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), ["h1"]);
    let asked = preview(&fake, None).await.unwrap();
    let why = "2.0 is on its way there; 'swell revert web' after that takes it back as well";
    let others: Vec<_> =
        asked.others.iter().map(|other| (other.host.to_string(), other.why.as_deref())).collect();
    assert_eq!(others, [("h1".to_owned(), Some(why))]);
    revert(&fake, None).await.unwrap();
    old.report((HostState::Committed, Some(two)), (two, generation)).await;
    // And so it does.
    let asked = preview(&fake, None).await.unwrap();
    assert_eq!((asked.from.to_string(), asked.hosts), ("2.0".to_owned(), 1));
    revert(&fake, None).await.unwrap();
    goes_back(&mut old, (two, Some(releases[0]))).await;
    fake.stop().await;
}

/// Its wish is the same before and after its wave opens: there is nothing for it to answer to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fetched_before_its_wave_gets_its_turn_without_another_word() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let mut hosts = Vec::new();
    for number in [1, 2] {
        let id = fake.enrol(&format!("h{number}"), 50 + number).await;
        hosts.push(fake.arrive(id, u64::from(number)).await);
    }
    let waves = "prefetch = true\n[[wave]]\nname = \"one\"\ncount = 1\n[[wave]]\nname = \"all\"\nrest = true\n";
    fake.policy(&POLICY.replace("[[wave]]\nname = \"all\"\nrest = true\n", waves)).await;
    let (release, rollout) = fake.publish(1).await;
    for host in &mut hosts {
        let generation = host.wished(Action::Stage { release }).await;
        host.report((HostState::Staged, None), (release, generation)).await;
    }
    // Whichever is first, the other one says nothing more until it is told to switch.
    let [one, two] = &mut hosts[..] else { panic!() };
    let (first, second) = tokio::select! {
        generation = one.wished(Action::Switch { release }) => ((&mut *one, generation), &mut *two),
        generation = two.wished(Action::Switch { release }) => ((&mut *two, generation), &mut *one),
    };
    first.0.report((HostState::Committed, Some(release)), (release, first.1)).await;
    let generation = second.wished(Action::Switch { release }).await;
    second.report((HostState::Committed, Some(release)), (release, generation)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    fake.stop().await;
}

/// Its report says that it bakes, and its condition that nothing of it runs: the time of its slot does not run on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_whose_service_somebody_stops_in_its_bake_is_held_until_it_goes_on() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 1).await;
    let (two, rollout) = fake.publish(2).await;
    let generation = host.granted((two, Some(releases[0]))).await;
    host.report((HostState::Baking, Some(two)), (two, generation)).await;
    let id = host.host;
    let says = async |held: Option<Held>| {
        let service = ServiceCondition { held, ..ServiceCondition::new(web()) };
        let condition = Condition { services: vec![service], ..Condition::default() };
        fake.handle.condition(id, 1, condition).await.unwrap();
    };
    let progress = async || {
        let rollout = rollout.clone();
        let ask = move |desk: &Desk| {
            desk.view().rollout(&rollout).unwrap().host(&id).unwrap().progress.name()
        };
        fake.handle.query(ask).await.unwrap()
    };
    assert_eq!(progress().await, ProgressName::Baking);
    let why = "web.service was stopped on this host".to_owned();
    says(Some(Held { release: two, lack: Lack::Paused, why })).await;
    assert_eq!(progress().await, ProgressName::Held);
    let generation = host.wished(Action::Stage { release: two }).await;
    host.report((HostState::Baking, Some(two)), (two, generation)).await;
    assert_eq!(progress().await, ProgressName::Held, "it goes on in nothing");
    says(None).await;
    host.report((HostState::Probing, Some(two)), (two, generation)).await;
    assert_eq!(progress().await, ProgressName::Probing);
    host.report((HostState::Committed, Some(two)), (two, generation)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    assert!(!poisoned(&fake, two).await);
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_host_is_named_with_its_cause_and_a_rollout_of_what_is_live_brings_it_back() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut host, releases) = proven(&fake, 2).await;
    let (newer, _) = fake.publish(3).await;
    let generation = host.granted((newer, Some(releases[1]))).await;
    host.report((HostState::Probing, Some(newer)), (newer, generation)).await;
    let why = "switch failed: no; then going back failed: the job ended as \"failed\"; its last output:\n\
        web.service: Failed to run 'start' task: No space left on device\n\
        web.service: Failed with result 'resources'.\nweb.service: resources, status 0\n";
    let (release, step, why) = (newer, FailedStep::Revert, why.to_owned());
    host.failure = Some(Failure { release, step, why, reverted: false });
    host.health = Verdict::Fail;
    host.report((HostState::Stuck, Some(releases[1])), (newer, generation)).await;
    let ask = async || {
        let why = fake.handle.query(|desk| desk.host_why(&"h1".parse().unwrap())).await.unwrap();
        why.unwrap().join("\n")
    };
    let said = ask().await;
    assert!(said.contains("No space left on device; mend that, then"), "{said}");
    assert!(said.contains("'groundswell-agent retry web' there starts and probes"), "{said}");
    // Mended, what is live is rolled out again: what the host said before is not said of this rollout.
    let again = fake.handle.change(|desk| {
        desk.start(&ada(), (&web(), None), Start { release: "2.0", ..Start::default() })
    });
    let rollout = again.await.unwrap().unwrap();
    let generation = host.wished(Action::Stage { release: releases[1] }).await;
    host.report((HostState::Stuck, Some(releases[1])), (releases[1], generation - 1)).await;
    let said = ask().await;
    assert!(!said.contains("fetches"), "what is stuck fetches nothing: {said}");
    assert_eq!(fake.phase(&rollout).await, PhaseName::Running);
    (host.failure, host.health) = (None, Verdict::Pass);
    host.report((HostState::Committed, Some(releases[1])), (releases[1], generation)).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    host.wished(Action::Switch { release: releases[1] }).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_brought_a_release_down_is_named_also_after_it_went_back() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (mut host, releases) = proven(&fake, 1).await;
    let (bad, rollout) = fake.publish(2).await;
    let generation = host.granted((bad, Some(releases[0]))).await;
    host.report((HostState::Probing, Some(bad)), (bad, generation)).await;
    let (step, why) = (FailedStep::Probe, "answers 500".to_owned());
    host.failure = Some(Failure { release: bad, step, why, reverted: false });
    host.report((HostState::Reverting, Some(bad)), (bad, generation)).await;
    // It is well again, and says nothing of what was.
    host.failure = None;
    goes_back(&mut host, (bad, Some(releases[0]))).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    fake.stop().await;
    let fake = Fake::start(&state);
    let because = "1 host of wave 1 failed, its budget is 0: h1 (probe: answers 500)";
    let ask = move |desk: &Desk| {
        let record = &desk.view().rollouts[&rollout];
        let page = present::rollout_page(desk.view(), record, Detail::Hosts, now());
        (desk.view().releases[&bad].poisoned.clone(), page, desk.host_why(&"h1".parse().unwrap()))
    };
    let (poisoned, page, why) = fake.handle.query(ask).await.unwrap();
    assert_eq!(poisoned.unwrap(), format!("reverted: {because}"));
    assert_eq!(page.rollout.why.unwrap(), format!("reverted, since {because}"));
    assert_eq!(page.why, [format!("it is over: reverted, since {because}")]);
    let said = page.hosts[0].why.as_deref();
    assert_eq!(said, Some("it went back; the release failed on it: probe: answers 500"));
    let why = why.unwrap().join("\n");
    assert!(
        why.contains("the release failed on it (probe: answers 500); the release before"),
        "{why}"
    );
    fake.stop().await;
}
