//! A driver over a real ledger and store, and a host whose seat has no network behind it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use groundswell_common::api::{OperatorRole, PublishAnswer, TokensRequest, VerbAnswer};
use groundswell_common::directive::Action;
use groundswell_common::report::{Failure, HostState, Report, Standing, Verdict};
use groundswell_common::time::Clock;
use groundswell_common::wire::{Deny, Hello, LEVEL_NEWEST, PermitRequest};
use groundswell_common::{Digest, HostId, OperatorName, ReleaseId, RolloutId, ServiceName};
use groundswell_coordinator::app::SystemClock;
use groundswell_coordinator::driver::{
    Admission, Answer, Arrival, Driver, DriverParts, Gone, Handle, Refused, Seat, Settled, Verb,
    Wish,
};
use groundswell_coordinator::entry::Published;
use groundswell_coordinator::init::Layout;
use groundswell_coordinator::ledger::{AppendError, Ledger};
use groundswell_coordinator::recover::recover;
use groundswell_coordinator::store::Writer;
use groundswell_rollout::PhaseName;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::bed::{PATIENCE, key, now};

const POLICY: &str = "service = \"web\"\ntargets = \"*\"\nbake_secs = 0\nhost_bake_secs = 0\n\
    [[wave]]\nname = \"all\"\nrest = true\n";

pub(crate) fn ada() -> OperatorName {
    "ada".parse().unwrap()
}

pub(crate) fn hello() -> Hello {
    Hello {
        agent_version: "test".to_owned(),
        host_name: "any".parse().unwrap(),
        root_version: 1,
        wire_version: 1,
    }
}

pub(crate) fn web() -> ServiceName {
    "web".parse().unwrap()
}

/// Release number `seq`, version `SEQ.0`.
pub(crate) fn release(seq: u64) -> Published {
    let digest = Digest::of(format!("release {seq}").as_bytes());
    Published {
        release: ReleaseId::from_digest(digest),
        service: web(),
        version: format!("{seq}.0").parse().unwrap(),
        seq,
        floor: 0,
        tree: digest,
        content: digest,
        bytes: 1,
        files: 1,
        one_way: false,
        requires: groundswell_common::selector::Selector::default(),
        barrier: false,
        hotfix: false,
        units: Vec::new(),
        platform: String::new(),
        signatures: Vec::new(),
        held_until: None,
    }
}

/// A driver that runs.
pub(crate) struct Fake {
    pub(crate) handle: Handle,
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), AppendError>>,
}

impl Fake {
    pub(crate) fn start(state: &Path) -> Self {
        Self::by(state, Arc::new(SystemClock))
    }

    /// As [`Fake::start`], by this clock.
    pub(crate) fn by(state: &Path, clock: Arc<dyn Clock>) -> Self {
        let recovered = recover(&Layout::new(state), now()).unwrap();
        let (driver, handle) = Driver::new(DriverParts {
            view: recovered.view,
            ledger: Ledger::start(recovered.log).unwrap(),
            writer: Writer::start(recovered.store).unwrap(),
            clock,
            root_version: 1,
            settle: Duration::ZERO,
        });
        let (stop, stopped) = watch::channel(false);
        Self { handle, stop, task: tokio::spawn(driver.run(stopped)) }
    }

    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) async fn put_operator(&self, name: &str, role: OperatorRole, seed: u8) {
        let (name, key) = (name.parse().unwrap(), key(seed).public());
        let put = self.handle.change(move |desk| desk.put_operator(&ada(), &name, (role, key)));
        put.await.unwrap().unwrap();
    }

    pub(crate) async fn enrol(&self, name: &str, seed: u8) -> HostId {
        self.enrol_in(name, seed, "production").await
    }

    pub(crate) async fn enrol_in(&self, name: &str, seed: u8, environment: &str) -> HostId {
        let request = TokensRequest {
            labels: groundswell_common::Labels::default(),
            environment: environment.parse().unwrap(),
            ttl_secs: 60,
            count: 1,
        };
        let (name, key) = (name.parse().unwrap(), key(seed).public());
        let enrolled = self.handle.change(move |desk| {
            let made = desk.make_tokens(&ada(), &request)?;
            desk.enrol(&made.secrets[0], &name, &key)
        });
        enrolled.await.unwrap().unwrap().0
    }

    pub(crate) async fn put_policy(&self) {
        let put = self.handle.change(|desk| desk.put_policy(&ada(), &web(), POLICY));
        put.await.unwrap().unwrap();
    }

    /// Publishes release number `seq`, which is rolled out at once.
    pub(crate) async fn publish(&self, seq: u64) -> (ReleaseId, RolloutId) {
        let answer = self.publish_as(release(seq)).await;
        (answer.release, answer.rollout.unwrap())
    }

    pub(crate) async fn publish_as(&self, published: Published) -> PublishAnswer {
        let answer = self.handle.change(move |desk| desk.publish(&ada(), published));
        answer.await.unwrap().unwrap()
    }

    pub(crate) async fn policy(&self, text: &str) {
        let text = text.to_owned();
        let put = self.handle.change(move |desk| desk.put_policy(&ada(), &web(), &text));
        put.await.unwrap().unwrap();
    }

    /// As the API does it: the answer waits for permits.
    pub(crate) fn halt(&self, rollout: &RolloutId) -> JoinHandle<VerbAnswer> {
        let (handle, rollout) = (self.handle.clone(), rollout.clone());
        tokio::spawn(async move {
            let asked = Instant::now();
            let change = move |desk: &mut groundswell_coordinator::driver::Desk| {
                desk.verb(&ada(), &rollout, (Verb::Halt, "a test"))?;
                Ok::<_, Refused>((Settled::NoPermits(rollout.clone()), rollout))
            };
            let then = move |rollout: RolloutId, desk: &groundswell_coordinator::driver::Desk| {
                desk.verb_answer(&rollout, asked)
            };
            let answer: Result<_, Gone> = handle.change_then(change, then).await;
            answer.unwrap().unwrap()
        })
    }

    pub(crate) async fn phase(&self, rollout: &RolloutId) -> PhaseName {
        let rollout = rollout.clone();
        let ask =
            self.handle.query(move |desk| desk.view().rollout(&rollout).map(|r| r.phase().name()));
        ask.await.unwrap().unwrap()
    }

    pub(crate) async fn phase_is(&self, rollout: &RolloutId, want: PhaseName) {
        let mut changes = self.handle.changes();
        let wait = async {
            while self.phase(rollout).await != want {
                changes.changed().await.unwrap();
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    }

    /// A host's session, without a network.
    pub(crate) async fn arrive(&self, host: HostId, session: u64) -> Fakehost {
        let (wish_sender, wish) = watch::channel(None);
        let (answer_sender, answers) = mpsc::channel(8);
        let (reply, stays) = oneshot::channel();
        let hello = hello();
        let seat = Seat { session, wish: wish_sender, answers: answer_sender };
        let seen = Arc::new(AtomicU64::new(0));
        self.handle
            .arrive(Arrival { host, hello, level: LEVEL_NEWEST, seat, seen, reply })
            .await
            .unwrap();
        assert_eq!(stays.await.unwrap(), Admission::Stays, "the host is enrolled");
        let handle = self.handle.clone();
        Fakehost {
            host,
            session,
            handle,
            wish,
            answers,
            reports: 0,
            asked: 0,
            service: web(),
            health: Verdict::Pass,
            failure: None,
        }
    }
}

/// The far end of a seat.
pub(crate) struct Fakehost {
    pub(crate) host: HostId,
    session: u64,
    handle: Handle,
    wish: watch::Receiver<Option<Arc<Wish>>>,
    answers: mpsc::Receiver<Answer>,
    reports: u64,
    asked: u8,
    /// The service that its reports are about.
    pub(crate) service: ServiceName,
    /// What its reports say of its probes.
    pub(crate) health: Verdict,
    /// What its reports say of its last failure.
    pub(crate) failure: Option<Failure>,
}

impl Fakehost {
    /// Waits until its wish says that another machine uses its key.
    pub(crate) async fn hears_of_a_twin(&mut self) {
        let wish = self.wish.wait_for(|wish| wish.as_ref().is_some_and(|wish| wish.twin));
        timeout(PATIENCE, wish).await.unwrap().unwrap();
    }

    /// Waits for a wish for the service that is as wanted; its generation.
    pub(crate) async fn wished(&mut self, want: Action) -> u64 {
        let fits = |wish: &Option<Arc<Wish>>| {
            let services = wish.iter().flat_map(|wish| &wish.raw.services);
            services.into_iter().any(|service| service.action == want)
        };
        let wish = timeout(PATIENCE, self.wish.wait_for(fits)).await;
        wish.unwrap().unwrap().as_ref().unwrap().raw.generation
    }

    /// Waits until its newest wish comes with an approval; the generation of that wish.
    pub(crate) async fn approved(&mut self) -> u64 {
        let fits = |wish: &Option<Arc<Wish>>| {
            let proofs = wish.iter().flat_map(|wish| &wish.proofs);
            proofs.into_iter().any(|proof| !proof.approvals.is_empty())
        };
        let wish = timeout(PATIENCE, self.wish.wait_for(fits)).await;
        wish.unwrap().unwrap().as_ref().unwrap().raw.generation
    }

    /// Reports and waits until that is durable.
    pub(crate) async fn report(
        &mut self,
        (state, running): (HostState, Option<ReleaseId>),
        (release, generation): (ReleaseId, u64),
    ) {
        self.reports += 1;
        let standing = Standing {
            service: self.service.clone(),
            state,
            running,
            previous: None,
            target: Some(release),
            rollout: None,
            health: self.health,
            failure: self.failure.clone(),
            switched: None,
        };
        let seq = self.reports;
        let services = vec![standing];
        let report = Report { seq, generation, services, free_bytes: 1, refusal: None };
        self.handle.report(self.host, self.session, report).await.unwrap();
        assert_eq!(self.answer().await, Answer::Ack(seq));
    }

    /// Brings the release to its disk and gets its slot; the generation of that.
    pub(crate) async fn granted(&mut self, (new, old): (ReleaseId, Option<ReleaseId>)) -> u64 {
        let generation = self.wished(Action::Stage { release: new }).await;
        self.report((HostState::Staged, old), (new, generation)).await;
        self.wished(Action::Switch { release: new }).await
    }

    /// Brings the release up and commits it.
    pub(crate) async fn commits(&mut self, what: (ReleaseId, Option<ReleaseId>)) {
        let generation = self.granted(what).await;
        self.report((HostState::Committed, Some(what.0)), (what.0, generation)).await;
    }

    /// Asks for a permit: its nonce, or why not.
    pub(crate) async fn ask(
        &mut self,
        (release, generation): (ReleaseId, u64),
    ) -> Result<[u8; 16], Deny> {
        self.asked += 1;
        let nonce = [self.asked; 16];
        let request = PermitRequest { generation, service: web(), release, nonce };
        self.handle.permit(self.host, self.session, request).await.unwrap();
        match self.answer().await {
            Answer::Grant { nonce: got, permit } => {
                assert_eq!((got, permit.nonce), (nonce, Digest::of(&nonce)));
                assert_eq!((permit.host, permit.release), (self.host, release));
                Ok(nonce)
            }
            Answer::Deny { nonce: got, deny } => {
                assert_eq!(got, nonce);
                Err(deny)
            }
            Answer::Ack(seq) => panic!("an acknowledgement of {seq} for a question"),
        }
    }

    /// Asks until the coordinator no longer says that it has just started.
    pub(crate) async fn ask_when_started(
        &mut self,
        what: (ReleaseId, u64),
    ) -> Result<[u8; 16], Deny> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.ask(what).await {
                Err(Deny::Starting) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                answer => return answer,
            }
        }
    }

    pub(crate) async fn done(&self, nonce: [u8; 16]) {
        self.handle.permit_done(self.host, nonce).await.unwrap();
    }

    async fn answer(&mut self) -> Answer {
        timeout(PATIENCE, self.answers.recv()).await.unwrap().unwrap()
    }
}
