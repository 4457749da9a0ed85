//! A service that is taken off its hosts, all of them or those that nothing targets any more; and hosts that are
//! called otherwise.

use groundswell_common::api::RemovalPreview;
use groundswell_common::directive::Action;
use groundswell_common::name::AGENT_SERVICE;
use groundswell_common::report::HostState;
use groundswell_common::{ReleaseId, RolloutId, ServiceName};
use groundswell_coordinator::driver::{Desk, Refused, Verb};
use groundswell_coordinator::entry::Published;
use groundswell_rollout::{Off, PhaseName};

use crate::bed::fleet;
use crate::fake::{Fake, Fakehost, ada, release, web};

const POLICY: &str = "service = \"web\"\ntargets = \"role notin (db)\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    max_in_flight = 1\n[[wave]]\nname = \"all\"\nrest = true\n";

async fn preview(fake: &Fake, off: Off) -> Result<RemovalPreview, Refused> {
    fake.handle.query(move |desk| desk.removal_preview(&web(), off)).await.unwrap()
}

async fn remove(fake: &Fake, off: Off) -> Result<RolloutId, Refused> {
    let change = move |desk: &mut Desk| desk.take_off(&ada(), &web(), (off, "end of life"));
    fake.handle.change(change).await.unwrap()
}

async fn why(fake: &Fake, host: &str) -> String {
    let host = host.parse().unwrap();
    fake.handle.query(move |desk| desk.host_why(&host)).await.unwrap().unwrap().join("\n")
}

async fn label(fake: &Fake, host: &str, labels: &str) {
    let (host, labels) = (host.parse().unwrap(), labels.parse().unwrap());
    let change = move |desk: &mut Desk| desk.label_host(&ada(), &host, labels);
    fake.handle.change(change).await.unwrap().unwrap();
}

async fn verb(fake: &Fake, rollout: &RolloutId, verb: Verb) {
    let rollout = rollout.clone();
    let change = move |desk: &mut Desk| desk.verb(&ada(), &rollout, (verb, "a look"));
    fake.handle.change(change).await.unwrap().unwrap();
}

/// The host is told to take it off and does.
async fn goes(host: &mut Fakehost, ran: ReleaseId) {
    let generation = host.wished(Action::Remove {}).await;
    host.report((HostState::Reverting, Some(ran)), (ran, generation)).await;
    host.report((HostState::Idle, None), (ran, generation)).await;
}

/// Hosts `h1` to `hN`, all of which run release 1.
async fn running(fake: &Fake, count: u8) -> (Vec<Fakehost>, ReleaseId) {
    let mut hosts = Vec::new();
    for at in 1..=count {
        let id = fake.enrol(&format!("h{at}"), 50 + at).await;
        hosts.push(fake.arrive(id, u64::from(at)).await);
    }
    fake.policy(POLICY).await;
    let (release, rollout) = fake.publish(1).await;
    for host in &mut hosts {
        let generation = host.wished(Action::Stage { release }).await;
        host.report((HostState::Staged, None), (release, generation)).await;
    }
    let mut left: Vec<usize> = (0..hosts.len()).collect();
    // One at a time, in the order of the plan, which is not that of the names.
    while !left.is_empty() {
        let rollout = rollout.clone();
        let granted = fake
            .handle
            .query(move |desk| {
                let hosts = desk.view().rollout(&rollout).unwrap().hosts();
                let mut granted = hosts.filter(|(_, _, entry)| {
                    matches!(entry.progress, groundswell_rollout::Progress::Granted { .. })
                });
                granted.next().map(|(_, host, _)| host.id)
            })
            .await
            .unwrap()
            .unwrap();
        let at = left.iter().position(|at| hosts[*at].host == granted).unwrap();
        let host = &mut hosts[left.remove(at)];
        let generation = host.wished(Action::Switch { release }).await;
        host.report((HostState::Committed, Some(release)), (release, generation)).await;
    }
    fake.phase_is(&rollout, PhaseName::Done).await;
    (hosts, release)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_taken_off_host_by_host_can_be_halted_and_stays_off() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (mut hosts, release) = running(&fake, 3).await;
    // One that is away is in the plan, and is cleaned when it returns.
    fake.handle.leave(hosts[2].host, 3).await.unwrap();
    let away = hosts.remove(2).host;
    let asked = preview(&fake, Off::Everyone).await.unwrap();
    assert_eq!((asked.hosts, asked.runs.len(), asked.runs[0].hosts), (3, 1, 3));
    assert_eq!(asked.runs[0].version.as_ref().unwrap().as_str(), "1.0");
    let rollout = remove(&fake, Off::Everyone).await.unwrap();
    assert!(matches!(remove(&fake, Off::Everyone).await, Err(Refused::Busy(_))));
    // One slot: the other one is left as it is until the first is done, and longer while it is halted.
    let first = async |fake: &Fake, hosts: &[Fakehost]| {
        let ids: Vec<_> = hosts.iter().map(|host| host.host).collect();
        let ask = fake.handle.query(move |desk: &Desk| {
            let told = |id| desk.view().wish(&web(), id).unwrap().0.action == Action::Remove {};
            ids.iter().map(told).collect::<Vec<bool>>()
        });
        ask.await.unwrap()
    };
    let told = first(&fake, &hosts).await;
    assert_eq!(told.iter().filter(|told| **told).count(), 1, "{told:?}");
    let at = told.iter().position(|told| *told).unwrap();
    verb(&fake, &rollout, Verb::Halt).await;
    goes(&mut hosts[at], release).await;
    let other = 1 - at;
    hosts[other].wished(Action::Hold {}).await;
    assert!(why(&fake, &format!("h{}", other + 1)).await.contains("ada halted it"));
    verb(&fake, &rollout, Verb::Resume).await;
    goes(&mut hosts[other], release).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let said = why(&fake, &format!("h{}", other + 1)).await;
    assert!(said.contains("the service is off it"), "{said}");
    // The release is as good as it was, and nobody gets it by itself, after a restart too.
    let poisoned = async |fake: &Fake| {
        fake.handle
            .query(move |desk| desk.view().releases[&release].poisoned.clone())
            .await
            .unwrap()
    };
    assert_eq!(poisoned(&fake).await, None);
    fake.stop().await;
    let fake = Fake::start(&state);
    let mut back = fake.arrive(away, 9).await;
    goes(&mut back, release).await;
    let id = fake.enrol("h4", 60).await;
    let _new = fake.arrive(id, 10).await;
    let wish = fake.handle.query(move |desk| desk.view().wish(&web(), &id)).await.unwrap();
    assert_eq!(wish, None, "a new host gets nothing");
    // One that comes with it all the same, from a snapshot, is cleaned as well.
    let mut snapshot = fake.arrive(id, 11).await;
    snapshot.report((HostState::Committed, Some(release)), (release, u64::MAX >> 12)).await;
    goes(&mut snapshot, release).await;
    assert!(matches!(preview(&fake, Off::Everyone).await, Err(Refused::NothingRuns(_))));
    // A person brings it again by publishing.
    let (newer, _) = fake.publish(2).await;
    back.wished(Action::Stage { release: newer }).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_service_on_a_host_is_named_and_it_goes_once_that_is_over() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut hosts, release) = running(&fake, 2).await;
    let drain = |why: Option<&'static str>| {
        fake.handle
            .change(move |desk: &mut Desk| desk.drain_host(&ada(), &"h1".parse().unwrap(), why))
    };
    drain(Some("a new disk")).await.unwrap().unwrap();
    let asked = preview(&fake, Off::Everyone).await.unwrap();
    assert_eq!((asked.hosts, asked.others.len()), (1, 1));
    let other = asked.others[0].why.as_ref().unwrap();
    assert!(other.contains("a new disk; 'swell host undrain h1'"), "{other}");
    let rollout = remove(&fake, Off::Everyone).await.unwrap();
    goes(&mut hosts[1], release).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    let said = why(&fake, "h1").await;
    assert!(
        said.contains("it is taken off the fleet, and stays: an operator drained it"),
        "{said}"
    );
    drain(None).await.unwrap().unwrap();
    goes(&mut hosts[0], release).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_is_stopped_takes_nothing_off_hosts_outside_its_plan() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (hosts, release) = running(&fake, 2).await;
    let drain = |why: Option<&'static str>| {
        fake.handle
            .change(move |desk: &mut Desk| desk.drain_host(&ada(), &"h1".parse().unwrap(), why))
    };
    drain(Some("a new disk")).await.unwrap().unwrap();
    let rollout = remove(&fake, Off::Everyone).await.unwrap();
    verb(&fake, &rollout, Verb::Halt).await;
    drain(None).await.unwrap().unwrap();
    let id = hosts[0].host;
    let wish = fake.handle.query(move |desk| desk.view().wish(&web(), &id)).await.unwrap();
    let action = wish.map(|(wish, _)| wish.action);
    let keeps = matches!(action, None | Some(Action::Hold {}) | Some(Action::Switch { .. }));
    assert!(keeps, "{action:?} of {release:?}");
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_taken_off_a_host_whose_agent_goes_back_to_an_older_one() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut hosts, ran) = running(&fake, 1).await;
    let host = &mut hosts[0];
    let own: ServiceName = AGENT_SERVICE.parse().unwrap();
    let text = POLICY.replace("\"web\"", &format!("{AGENT_SERVICE:?}"));
    let name = own.clone();
    let put = fake.handle.change(move |desk| desk.put_policy(&ada(), &name, &text));
    put.await.unwrap().unwrap();
    host.service = own.clone();
    let mut agents: Vec<ReleaseId> = Vec::new();
    for seq in [11, 12] {
        let published = Published { service: own.clone(), ..release(seq) };
        let answer = fake.publish_as(published).await;
        host.commits((answer.release, agents.last().copied())).await;
        fake.phase_is(&answer.rollout.unwrap(), PhaseName::Done).await;
        agents.push(answer.release);
    }
    remove(&fake, Off::Everyone).await.unwrap();
    host.wished(Action::Remove {}).await;
    // An older agent may not know Remove, and finds the directive that the newer one kept.
    let back =
        fake.handle.change(move |desk| desk.revert(&ada(), (&own, None), (None, "it leaks")));
    let back = back.await.unwrap().unwrap();
    let from_to = Action::Revert { from: agents[1], to: Some(agents[0]) };
    let generation = host.wished(from_to).await;
    let id = host.host;
    let told = fake.handle.query(move |desk| desk.view().wishes(&id).0).await.unwrap();
    let actions: Vec<Action> = told.iter().map(|wish| wish.action).collect();
    assert!(actions.contains(&from_to) && actions.contains(&Action::Hold {}), "{actions:?}");
    host.report((HostState::Committed, Some(agents[0])), (agents[1], generation)).await;
    fake.phase_is(&back, PhaseName::Done).await;
    host.service = web();
    goes(host, ran).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_no_target_any_more_is_named_and_cleaned_alone() {
    let (place, _) = fleet();
    let fake = Fake::start(&place.path().join("state"));
    let (mut hosts, release) = running(&fake, 2).await;
    assert!(matches!(remove(&fake, Off::LeftOver).await, Err(Refused::NothingRuns(_))));
    // What was published under a name by a slip is no matter of the hosts, and nothing is there to take off.
    let slip: ServiceName = "wbe".parse().unwrap();
    fake.publish_as(Published { service: slip.clone(), ..crate::fake::release(9) }).await;
    assert!(!why(&fake, "h1").await.contains("wbe"));
    let asked = move |desk: &Desk| desk.removal_preview(&slip, Off::Everyone);
    let refused = fake.handle.query(asked).await.unwrap();
    assert!(matches!(refused, Err(Refused::NothingRuns(_))), "{refused:?}");
    label(&fake, "h1", "role=db").await;
    let said = why(&fake, "h1").await;
    assert!(said.contains("'swell service remove web --left-over'"), "{said}");
    let left = |host: &'static str| {
        fake.handle.query(move |desk: &Desk| {
            desk.host_page(&host.parse().unwrap()).unwrap().host.services[0].left_over
        })
    };
    assert_eq!((left("h1").await.unwrap(), left("h2").await.unwrap()), (true, false));
    let asked = preview(&fake, Off::LeftOver).await.unwrap();
    assert_eq!((asked.hosts, asked.others.len()), (1, 0));
    let rollout = remove(&fake, Off::LeftOver).await.unwrap();
    hosts[1].wished(Action::Switch { release }).await;
    goes(&mut hosts[0], release).await;
    fake.phase_is(&rollout, PhaseName::Done).await;
    assert!(!left("h1").await.unwrap());
    // The others are what they were, and so is what new hosts get.
    hosts[1].wished(Action::Switch { release }).await;
    let id = fake.enrol("h3", 60).await;
    let mut new = fake.arrive(id, 9).await;
    new.wished(Action::Switch { release }).await;
    // Made a target again, it gets what the others run.
    label(&fake, "h1", "role=web").await;
    hosts[0].wished(Action::Switch { release }).await;
    fake.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_called_otherwise_and_keeps_everything_else() {
    let (place, _) = fleet();
    let state = place.path().join("state");
    let fake = Fake::start(&state);
    let (hosts, release) = running(&fake, 2).await;
    let tell = |desk: &mut Desk| desk.tell_addresses(vec!["a:1".into()], vec!["a:2".into()]);
    fake.handle.change(tell).await.unwrap().unwrap();
    let rename = |from: &'static str, to: &'static str| {
        fake.handle.change(move |desk: &mut Desk| {
            desk.rename_host(&ada(), (&from.parse().unwrap(), &to.parse().unwrap()))
        })
    };
    assert!(matches!(rename("h1", "h2").await.unwrap(), Err(Refused::NameTaken(_))));
    assert!(matches!(rename("h9", "x").await.unwrap(), Err(Refused::UnknownHost(_))));
    rename("h1", "web-one").await.unwrap().unwrap();
    let id = hosts[0].host;
    let told = async |fake: &Fake| {
        fake.handle.query(move |desk: &Desk| desk.wish(&id).unwrap().told.unwrap()).await.unwrap()
    };
    let said = told(&fake).await;
    assert_eq!((said.name.as_str(), said.agents), ("web-one", vec!["a:1".to_owned()]));
    fake.stop().await;
    let fake = Fake::start(&state);
    assert_eq!(told(&fake).await.number, said.number);
    let page = fake.handle.query(|desk: &Desk| desk.host_page(&"web-one".parse().unwrap()));
    assert_eq!(page.await.unwrap().unwrap().host.services[0].running, Some(release));
    let gone = fake.handle.query(|desk: &Desk| desk.host_page(&"h1".parse().unwrap()));
    assert!(gone.await.unwrap().is_err());
    // A plan that was made before names it as people do now.
    let hosts = fake.handle.query(|desk: &Desk| {
        let id = desk.newest_rollout_id((&web(), None)).unwrap();
        desk.rollout_page(&id, groundswell_coordinator::present::Detail::Hosts).unwrap().hosts
    });
    let names: Vec<String> =
        hosts.await.unwrap().iter().map(|host| host.name.to_string()).collect();
    assert!(
        names.contains(&"web-one".to_owned()) && !names.contains(&"h1".to_owned()),
        "{names:?}"
    );
    // The old name is free again.
    fake.enrol("h1", 70).await;
    fake.stop().await;
}
