use std::sync::Arc;
use std::time::Duration;

use groundswell_common::Clock;
use groundswell_common::condition::{Held, Lack, ServiceCondition};
use groundswell_common::directive::Action as Desired;
use groundswell_common::report::{HostState, Standing, Verdict};
use groundswell_common::wire::{Deny, PermitAnswer, PermitRequest};
use tokio::time::timeout;

use super::*;
use crate::clock::SteadyClock;
use crate::config::Settings;
use crate::fixture::{self, Made, MemoryDepot, directive, release, shop};
use crate::layout::Layout;
use crate::live::Live;
use crate::ports::{Probes, Units};
use crate::probe::RealProbes;
use crate::units::ProcessUnits;
use crate::units::simulated::SimulatedUnits;

mod again;
mod contact;
mod disks;
mod drifts;
mod frozen;
mod hand;
mod held;
mod hooks;
mod switches;

const SOON: Duration = Duration::from_secs(20);

/// One host and the coordinator that the test plays.
struct Host {
    dir: tempfile::TempDir,
    depot: Arc<MemoryDepot>,
    units: Arc<dyn Units>,
    settings: Live,
    probes: Arc<dyn Probes>,
    clock: Arc<dyn Clock>,
    running: Option<Running>,
}

struct Running {
    heard: mpsc::Sender<Heard>,
    says: mpsc::Receiver<Say>,
    said: watch::Receiver<Option<Said>>,
    root: watch::Receiver<Envelope>,
    places: watch::Receiver<Places>,
    stop: tokio::sync::oneshot::Sender<()>,
    task: JoinHandle<Result<(), DriverError>>,
}

impl Host {
    fn new(units: impl FnOnce(Layout) -> Arc<dyn Units>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let units = units(Layout::new(dir.path()));
        let depot = Arc::new(MemoryDepot::default());
        let settings = Live::fixed(fixture::settings());
        let (probes, clock) = (Arc::new(RealProbes), Arc::new(SteadyClock::start()));
        Self { dir, depot, units, settings, probes, clock, running: None }
    }

    fn simulated() -> (Self, Arc<SimulatedUnits>) {
        let units = Arc::new(SimulatedUnits::default());
        let held = units.clone();
        (Self::new(move |_| held), units)
    }

    fn layout(&self) -> Layout {
        Layout::new(self.dir.path())
    }

    /// Starts the agent and welcomes it.
    async fn start(&mut self) {
        let outside = Outside {
            layout: self.layout(),
            units: self.units.clone(),
            probes: self.probes.clone(),
            depot: self.depot.clone(),
            clock: self.clock.clone(),
            settings: self.settings.clone(),
            program: None,
        };
        let loaded = fixture::loaded();
        let (heard_sender, heard) = mpsc::channel(8);
        let (says, says_receiver) = mpsc::channel(8);
        let (said, said_receiver) = watch::channel(None);
        let (root, newest) = watch::channel(loaded.root.clone());
        let (places, places_seen) = watch::channel(loaded.places.clone());
        let back = mpsc::channel(8);
        let ends = Ends { heard, says, said, root, places, back };
        let mut driver = Driver::start(outside, loaded, ends).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move { driver.run(async { drop(stopped.await) }).await });
        let running = Running {
            heard: heard_sender,
            says: says_receiver,
            said: said_receiver,
            root: newest,
            places: places_seen,
            stop,
            task,
        };
        self.running = Some(running);
        self.hear_roots(Vec::new()).await;
    }

    async fn hear_roots(&mut self, roots: Vec<Envelope>) {
        let welcome = Welcome { roots, ..fixture::welcome() };
        self.hear(Heard::Welcome(Box::new(welcome))).await;
    }

    /// Writes the journal as it stands when the agent, now stopped, dies in the switch that was due.
    fn as_in_a_switch(&self) -> Layout {
        let layout = self.layout();
        let mut machine = crate::journal::load(&layout, &shop()).unwrap().unwrap();
        let State::Staged { target } = machine.state.clone() else { panic!("{machine:?}") };
        machine.state = State::Switching { target, deadline: None };
        crate::journal::save(&layout, &shop(), &machine).unwrap();
        layout
    }

    /// Starts the agent and has its first release commit.
    async fn start_on(&mut self, one: &Made) {
        self.start().await;
        self.direct(1, Desired::Switch { release: one.id }, &[one]).await;
        self.let_switch().await;
        self.until_state(HostState::Committed, Some(one.id)).await;
    }

    /// Ends the agent as a kill would: nothing is told to the machines.
    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.stop.send(()).unwrap();
        running.task.await.unwrap().unwrap();
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    async fn hear(&mut self, heard: Heard) {
        self.running().heard.send(heard).await.unwrap();
    }

    async fn direct(&mut self, generation: u64, action: Desired, of: &[&Made]) {
        let message = directive(generation, action, of);
        self.hear(Heard::Directive(Box::new(message))).await;
    }

    async fn say(&mut self) -> Say {
        timeout(SOON, self.running().says.recv()).await.expect("something is said").unwrap()
    }

    /// Takes the question for a permit.
    async fn asked(&mut self) -> PermitRequest {
        let said = self.say().await;
        let Say::Ask(request) = said else { panic!("not a question: {said:?}") };
        request
    }

    async fn permit(&mut self, request: &PermitRequest, valid_ms: u64) {
        let envelope = fixture::permit(request, valid_ms);
        let answer = PermitAnswer::Granted { nonce: request.nonce, envelope };
        self.hear(Heard::Permit(Box::new(answer))).await;
    }

    /// Answers the next question and sees the permit used.
    async fn let_switch(&mut self) {
        let request = self.asked().await;
        self.permit(&request, 2_000).await;
        let said = self.say().await;
        let Say::Done { nonce, used: true } = said else { panic!("it is not used: {said:?}") };
        assert_eq!(nonce, request.nonce);
    }

    /// Waits until the report says so.
    async fn until(&mut self, what: &str, fits: impl Fn(&Standing) -> bool) -> Standing {
        let report = &mut self.running().said;
        let fitting = |said: &Option<Said>| {
            said.as_ref().is_some_and(|said| said.report.services.iter().any(&fits))
        };
        let found =
            timeout(SOON, report.wait_for(fitting)).await.map(|found| found.unwrap().clone());
        match found {
            Ok(found) => found.unwrap().report.services[0].clone(),
            Err(_) => panic!("never {what}: {:?}", report.borrow()),
        }
    }

    /// Waits until the host says so of what it has and lacks for the service.
    async fn until_has(
        &mut self,
        what: &str,
        fits: impl Fn(&ServiceCondition) -> bool,
    ) -> ServiceCondition {
        let said = &mut self.running().said;
        let find = |said: &Said| {
            let condition = said.condition.as_ref()?;
            condition.services.iter().find(|service| fits(service)).cloned()
        };
        let fitting = |said: &Option<Said>| said.as_ref().and_then(find).is_some();
        let found = timeout(SOON, said.wait_for(fitting)).await.map(|found| found.unwrap().clone());
        match found {
            Ok(found) => found.as_ref().and_then(find).unwrap(),
            Err(_) => panic!("never {what}: {:?}", said.borrow()),
        }
    }

    async fn until_held(&mut self, lack: Lack) -> Held {
        let held = |service: &ServiceCondition| {
            service.held.as_ref().is_some_and(|held| held.lack == lack)
        };
        self.until_has(&format!("{lack:?}"), held).await.held.unwrap()
    }

    async fn until_state(&mut self, state: HostState, running: Option<ReleaseId>) -> Standing {
        let what = format!("{state:?}");
        self.until(&what, |s| s.state == state && s.running == running).await
    }

    fn live(&self) -> Option<ReleaseId> {
        switch::live(&self.layout(), &shop()).unwrap()
    }
}

fn script(seq: u64, line: &str) -> Made {
    let body = format!("#!/bin/sh\n{line}\n");
    release(seq, &[("bin/shop", body.as_bytes())], &[], |_| {})
}

fn good(seq: u64) -> Made {
    script(seq, &format!("echo this is {seq}\nexec sleep 600"))
}

fn pid(host: &Host) -> String {
    std::fs::read_to_string(host.layout().process(&shop())).unwrap()
}

#[tokio::test]
async fn a_release_is_staged_switched_baked_and_a_bad_one_goes_back_by_itself() {
    let mut host = Host::new(|layout| Arc::new(ProcessUnits::new(layout)));
    let (one, two) = (good(1), script(2, "echo two is broken; exit 3"));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start().await;
    host.direct(1, Desired::Stage { release: one.id }, &[&one]).await;
    host.until_state(HostState::Staged, None).await;
    host.direct(2, Desired::Switch { release: one.id }, &[&one]).await;
    host.let_switch().await;
    let standing = host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!(standing.health, Verdict::Pass);
    assert!(standing.switched.unwrap().passed.is_some());
    host.direct(3, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    let back = host.until("reverted", |s| s.failure.as_ref().is_some_and(|f| f.reverted)).await;
    let failure = back.failure.unwrap();
    assert_eq!((failure.release, failure.step), (two.id, FailedStep::Probe));
    assert!(failure.why.contains("two is broken"), "{}", failure.why);
    assert_eq!((back.state, back.running), (HostState::Committed, Some(one.id)));
    // Not again by itself; again once a newer directive let it go and a later one names it.
    host.direct(4, Desired::Switch { release: two.id }, &[&two]).await;
    host.direct(5, Desired::Hold {}, &[]).await;
    host.direct(6, Desired::Stage { release: two.id }, &[&two]).await;
    let again = host.until_state(HostState::Staged, Some(one.id)).await;
    assert_eq!((again.target, again.failure), (Some(two.id), None));
    host.stop().await;
    host.units.stop_all().await;
}

#[tokio::test]
async fn a_restart_of_the_agent_finds_its_process_and_goes_on() {
    let mut host = Host::new(|layout| Arc::new(ProcessUnits::new(layout)));
    let one = good(1);
    host.depot.put(&one);
    host.start().await;
    host.direct(1, Desired::Switch { release: one.id }, &[&one]).await;
    host.let_switch().await;
    host.until_state(HostState::Baking, Some(one.id)).await;
    let before = pid(&host);
    host.stop().await;
    // A new agent knows nothing but the disk, and gets by without the depot.
    host.depot.clear();
    host.units = Arc::new(ProcessUnits::new(host.layout()));
    host.start().await;
    host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!(pid(&host), before, "the same process runs on");
    host.direct(2, Desired::Revert { from: one.id, to: None }, &[]).await;
    host.until_state(HostState::Idle, None).await;
    assert_eq!(host.live(), None);
    assert!(!host.layout().process(&shop()).exists(), "nothing runs");
    host.stop().await;
}

#[tokio::test]
async fn an_agent_that_starts_says_of_nothing_that_it_is_ill_before_it_was_seen_to() {
    let (mut host, units) = Host::simulated();
    let one = good(1);
    host.depot.put(&one);
    host.start_on(&one).await;
    host.stop().await;
    *units.unseen.lock().unwrap() = true;
    host.start().await;
    let well = |standing: &Standing| {
        assert_ne!(standing.health, Verdict::Fail, "{standing:?}");
        standing.health == Verdict::Pass
    };
    host.until("what runs to be looked at", well).await;
    assert!(!*units.unseen.lock().unwrap(), "it was looked at before");
    host.stop().await;
}

#[tokio::test]
async fn a_release_is_staged_only_where_a_revert_could_put_back_what_runs() {
    let (mut host, _) = Host::simulated();
    let (one, two) = (good(1), good(2));
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    let changed = host.layout().release(&shop(), &one.id).join("tree/bin/shop");
    let was = std::fs::read(&changed).unwrap();
    std::fs::write(&changed, "#!/bin/sh\n# edited on the host\n").unwrap();
    host.direct(2, Desired::Stage { release: two.id }, &[&two]).await;
    let held = host.until_held(Lack::Drift).await;
    assert!(held.why.contains("tree/bin/shop of the live release was changed"), "{}", held.why);
    let standing = host.until_state(HostState::Fetching, Some(one.id)).await;
    assert_eq!((standing.failure, host.live()), (None, Some(one.id)));
    // As released again, it goes on by itself; and where the owner of the host says that drift is fine, too.
    std::fs::write(&changed, was).unwrap();
    host.until_state(HostState::Staged, Some(one.id)).await;
    host.stop().await;
    std::fs::remove_file(&changed).unwrap();
    let allow_drift = [shop()].into();
    host.settings = Live::fixed(Settings { allow_drift, ..fixture::settings() });
    host.start().await;
    host.direct(5, Desired::Hold {}, &[]).await;
    host.direct(6, Desired::Stage { release: two.id }, &[&two]).await;
    host.until_state(HostState::Staged, Some(one.id)).await;
    host.stop().await;
}

#[tokio::test]
async fn without_a_permit_in_time_nothing_switches() {
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.depot.put(&one);
    host.start().await;
    host.direct(1, Desired::Switch { release: one.id }, &[&one]).await;
    let request = host.asked().await;
    // Denied while starting: asked again after a second, with another nonce.
    let (nonce, deny) = (request.nonce, Deny::Starting);
    host.hear(Heard::Permit(Box::new(PermitAnswer::Denied { nonce, deny }))).await;
    let second = host.asked().await;
    assert_ne!(second.nonce, request.nonce);
    // An answer to the old question, and one that is void, are given back unused.
    host.permit(&request, 2_000).await;
    assert!(matches!(host.say().await, Say::Done { nonce, used: false } if nonce == request.nonce));
    host.permit(&second, 0).await;
    assert!(matches!(host.say().await, Say::Done { nonce, used: false } if nonce == second.nonce));
    assert_eq!(host.live(), None);
    let third = host.asked().await;
    // A permit for another question is refused, and said.
    let wrong = PermitRequest { generation: 9, ..third.clone() };
    let envelope = fixture::permit(&wrong, 2_000);
    let answer = PermitAnswer::Granted { nonce: third.nonce, envelope };
    host.hear(Heard::Permit(Box::new(answer))).await;
    assert!(matches!(host.say().await, Say::Done { used: false, .. }));
    let refused = |said: &Option<Said>| {
        let refusal = said.as_ref().and_then(|said| said.report.refusal.clone());
        refusal.is_some_and(|refusal| refusal.code == "wrong_permit")
    };
    timeout(SOON, host.running().said.wait_for(refused)).await.expect("reported").unwrap();
    assert_eq!(host.live(), None);
    host.stop().await;
}

#[tokio::test]
async fn a_service_that_the_newest_directive_does_not_name_stays_as_it_is() {
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.start().await;
    host.direct(5, Desired::Stage { release: one.id }, &[&one]).await;
    host.until_state(HostState::Fetching, None).await;
    let silent = fixture::directive_with(6, Desired::Hold {}, &[], |raw| raw.services.clear());
    host.hear(Heard::Directive(Box::new(silent))).await;
    host.until_state(HostState::Idle, None).await;
    // So it is after a restart.
    host.stop().await;
    host.start().await;
    host.until_state(HostState::Idle, None).await;
    host.stop().await;
}

#[tokio::test]
async fn refused_directives_change_nothing_and_are_reported() {
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.depot.put(&one);
    host.start().await;
    host.direct(5, Desired::Stage { release: one.id }, &[&one]).await;
    host.until_state(HostState::Staged, None).await;
    let hold = |generation, change: fn(&mut groundswell_common::directive::RawDirective)| {
        fixture::directive_with(generation, Desired::Hold {}, &[], change)
    };
    let mut unsigned = hold(6, |_| {});
    unsigned.envelope.signatures.clear();
    for (message, code) in [
        (hold(4, |_| {}), "old_generation"),
        (hold(5, |_| {}), "equivocation"),
        (hold(6, |raw| raw.environment = "prod".parse().unwrap()), "wrong_environment"),
        (hold(6, |raw| raw.host = HostId::of_key(&[1; 32])), "wrong_host"),
        (hold(6, |raw| raw.root_version = 0), "old_root"),
        (unsigned, "untrusted"),
    ] {
        host.hear(Heard::Directive(Box::new(message))).await;
        let refused = |said: &Option<Said>| {
            let report = &said.as_ref().unwrap().report;
            let is_code = report.refusal.as_ref().is_some_and(|refusal| refusal.code == code);
            is_code && report.generation == 5
        };
        let report = &mut host.running().said;
        timeout(SOON, report.wait_for(refused)).await.expect(code).unwrap();
    }
    // After a restart the floor still stands.
    host.stop().await;
    host.start().await;
    host.hear(Heard::Directive(Box::new(hold(4, |_| {})))).await;
    let refused = |said: &Option<Said>| {
        let report = said.as_ref().map(|said| &said.report);
        report.is_some_and(|report| report.refusal.is_some() && report.generation == 5)
    };
    timeout(SOON, host.running().said.wait_for(refused)).await.expect("refused").unwrap();
    host.stop().await;
}

#[tokio::test]
async fn a_service_that_neither_starts_nor_goes_back_is_stuck_until_another_release() {
    let (mut host, units) = Host::simulated();
    let made = [good(1), good(2), good(3)];
    for made in &made {
        host.depot.put(made);
    }
    let [one, two, three] = &made;
    host.start_on(one).await;
    units.broken.lock().unwrap().extend(["1.0".to_owned(), "2.0".to_owned()]);
    host.direct(2, Desired::Switch { release: two.id }, &[two]).await;
    host.let_switch().await;
    let stuck = host.until_state(HostState::Stuck, Some(one.id)).await;
    let failure = stuck.failure.unwrap();
    assert_eq!((failure.step, failure.reverted), (FailedStep::Revert, false));
    host.direct(3, Desired::Switch { release: three.id }, &[three]).await;
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(three.id)).await;
    host.stop().await;
}

/// A release that names these units.
fn with_units(seq: u64, units: &[&str]) -> Made {
    let body = format!("#!/bin/sh\necho this is {seq}\n");
    let units = units.iter().map(|unit| (*unit).to_owned()).collect();
    release(seq, &[("bin/shop", body.as_bytes())], &[], |raw| raw.units = units)
}

/// What the supervisor was told since it was asked last, without the looks whether all runs.
fn changes(units: &SimulatedUnits) -> Vec<String> {
    let mut calls = std::mem::take(&mut *units.calls.lock().unwrap());
    calls.retain(|call| !call.starts_with("ensure"));
    calls
}

#[tokio::test]
async fn going_back_stops_and_starts_exactly_what_the_switch_did() {
    let (mut host, units) = Host::simulated();
    let one = with_units(1, &["api.service", "old.service"]);
    let two = with_units(2, &["api.service", "new.service"]);
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    changes(&units);
    host.direct(2, Desired::Switch { release: two.id }, &[&two]).await;
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    let told = || changes(&units);
    let forth = ["stop 2.0 old.service", "restart 2.0 api.service new.service"];
    assert_eq!(told(), forth);
    let to = Some(one.id);
    host.direct(3, Desired::Revert { from: two.id, to }, &[]).await;
    host.until_state(HostState::Committed, Some(one.id)).await;
    assert_eq!(told(), ["stop 1.0 new.service", "restart 1.0 api.service old.service"]);
    host.stop().await;
}

#[tokio::test]
async fn a_switch_cut_after_the_rename_stops_what_only_the_release_before_has() {
    let (mut host, units) = Host::simulated();
    let one = with_units(1, &["api.service", "old.service"]);
    let two = with_units(2, &["api.service"]);
    host.depot.put(&one);
    host.depot.put(&two);
    host.start_on(&one).await;
    host.direct(2, Desired::Stage { release: two.id }, &[&two]).await;
    host.until_state(HostState::Staged, Some(one.id)).await;
    host.direct(3, Desired::Switch { release: two.id }, &[&two]).await;
    host.asked().await;
    host.stop().await;
    // As the journal and the link stand when the agent dies between the rename and the restart.
    let layout = host.as_in_a_switch();
    switch::restore(&layout, &shop(), Some(&two.id)).unwrap();
    changes(&units);
    host.start().await;
    // Nobody noted that the rename was in time: it is taken back, and asked for anew.
    host.let_switch().await;
    host.until_state(HostState::Committed, Some(two.id)).await;
    assert_eq!(changes(&units), ["stop 2.0 old.service", "restart 2.0 api.service"]);
    host.stop().await;
}

#[tokio::test]
async fn a_damaged_journal_is_stuck_reported_and_never_overwritten() {
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.depot.put(&one);
    host.start_on(&one).await;
    host.stop().await;
    std::fs::write(host.layout().journal(&shop()), b"{half").unwrap();
    host.start().await;
    let stuck = host.until_state(HostState::Stuck, Some(one.id)).await;
    assert_eq!(stuck.failure, None, "it says nothing about the release");
    host.direct(1, Desired::Stage { release: one.id }, &[&one]).await;
    assert!(host.until_held(Lack::Journal).await.why.contains("unstick"));
    host.direct(2, Desired::Revert { from: one.id, to: None }, &[]).await;
    host.direct(3, Desired::Hold {}, &[]).await;
    let seen = |said: &Option<Said>| said.as_ref().is_some_and(|s| s.report.generation == 3);
    timeout(SOON, host.running().said.wait_for(seen)).await.expect("seen").unwrap();
    host.until_state(HostState::Stuck, Some(one.id)).await;
    host.stop().await;
    assert_eq!(std::fs::read(host.layout().journal(&shop())).unwrap(), b"{half");
    assert_eq!(host.live(), Some(one.id));
}

#[tokio::test]
async fn a_newer_root_is_walked_to_and_kept() {
    let (mut host, _) = Host::simulated();
    host.start().await;
    let next = fixture::root(2, |_| {});
    host.hear_roots(vec![next.clone()]).await;
    timeout(SOON, host.running().root.changed()).await.unwrap().unwrap();
    assert_eq!(crate::identity::root_version(&host.layout()), Some(2));
    host.stop().await;
}

#[tokio::test]
async fn roots_that_expired_meanwhile_are_walked_through() {
    let (mut host, _) = Host::simulated();
    host.start().await;
    let expired = |version| fixture::root(version, |raw| raw.expires = 1);
    host.hear_roots(vec![expired(2), expired(3), fixture::root(4, |_| {})]).await;
    timeout(SOON, host.running().root.changed()).await.unwrap().unwrap();
    assert_eq!(crate::identity::root_version(&host.layout()), Some(4));
    host.stop().await;
}

use groundswell_common::HostId;

#[tokio::test]
async fn the_doctor_says_what_is_wrong_and_what_to_do() {
    use crate::doctor::{Level, examine};
    let (mut host, _) = Host::simulated();
    let one = good(1);
    host.depot.put(&one);
    host.start_on(&one).await;
    host.stop().await;
    let config = host.dir.path().join("agent.toml");
    std::fs::write(&config, format!("state_dir = {:?}\n", host.dir.path())).unwrap();
    let settings = crate::config::open(&config).unwrap();
    let found = |level: Level, what: &str| {
        let findings = examine(&settings).findings;
        let found = findings.iter().find(|found| found.what.contains(what));
        let found = found.unwrap_or_else(|| panic!("nothing says {what:?}: {findings:?}"));
        assert_eq!(found.level, level, "{found:?}");
        assert_eq!(found.next.is_none(), level == Level::Ok, "{found:?}");
        found.next.clone().unwrap_or_default()
    };
    // The identity of this test is not on the disk, and nobody holds the lock.
    assert!(found(Level::Bad, "not enrolled").contains("swell host enroll-token"));
    assert!(found(Level::Bad, "does not run").contains("systemctl start"));
    let lock = crate::app::lock(&host.layout().lock()).unwrap();
    found(Level::Ok, "the agent runs");
    drop(lock);
    found(Level::Ok, "shop is committed");
    found(Level::Ok, "directive 1 was accepted");
    let live = host.layout().release(&shop(), &one.id).join("tree/bin/shop");
    std::fs::write(&live, "edited").unwrap();
    assert!(found(Level::Warn, "tree/bin/shop").contains("as it was released"));
    std::fs::write(host.layout().journal(&shop()), "{").unwrap();
    assert!(found(Level::Bad, "shop is stuck").contains("unstick"));
    let diagnosis = examine(&settings);
    assert!(diagnosis.is_bad());
    let text = diagnosis.to_text();
    let worst = text.lines().next().unwrap_or_default();
    assert!(worst.starts_with("BAD "), "what does not work comes first: {text}");
    let full =
        std::fs::read_to_string(&config).unwrap() + "keep_free_bytes = 9223372036854775807\n";
    std::fs::write(&config, full).unwrap();
    let settings = crate::config::open(&config).unwrap();
    let full = examine(&settings).findings;
    assert!(full.iter().any(|f| f.level == Level::Bad && f.what.contains("staging must leave")));
}

#[tokio::test]
async fn what_the_coordinator_tells_is_kept_when_it_is_signed_for_this_host_and_newer() {
    let (mut host, _) = Host::simulated();
    host.start().await;
    let told = |number, agents: &[&str]| fixture::told(number, "web-9", agents);
    let say = async |host: &mut Host, envelope: Envelope, used: &str| {
        host.hear(Heard::Told(Box::new(envelope), used.to_owned())).await;
    };
    let places = |host: &Host| host.running.as_ref().unwrap().places.clone();
    let mut seen = places(&host);
    let had = seen.borrow_and_update().clone();
    let mut forged = told(4, &["evil:1"]);
    forged.payload.push(b' ');
    say(&mut host, forged, "127.0.0.1:1").await;
    say(&mut host, told(5, &["new:1"]), "127.0.0.1:1").await;
    seen.changed().await.unwrap();
    let now = seen.borrow_and_update().clone();
    assert_eq!((now.name.as_str(), now.number), ("web-9", 5));
    assert_eq!(now.agents, ["new:1".to_owned(), had.agents[0].clone()]);
    // What is older says nothing any more; the same over the new address ends the old one.
    say(&mut host, told(4, &["older:1"]), "new:1").await;
    say(&mut host, told(5, &["new:1"]), "new:1").await;
    seen.changed().await.unwrap();
    assert_eq!(seen.borrow_and_update().agents, ["new:1"]);
    let kept = Places::load(&host.layout(), &fixture::loaded().identity);
    assert_eq!((kept.name.as_str(), kept.agents), ("web-9", vec!["new:1".to_owned()]));
}
