//! One task owns every machine of this host: takes an event, steps, saves, acts. In that order; nothing
//! is done and nothing reported before the state behind it is durable.

mod conditions;
mod drifts;
mod endings;
mod links;
pub(crate) mod permits;
mod pruning;
mod reports;
mod requests;
mod revivals;
mod unkept;
mod updates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use groundswell_common::condition::{Held, ServiceCondition};
use groundswell_common::limits::SERVICES_PER_HOST_MAX;
use groundswell_common::report::{FailedStep, Failure, RefusalNote};
use groundswell_common::trust::{
    DirectiveFloor, Envelope, PermitAsk, Refusal, check_directive, check_told,
};
use groundswell_common::wire::{DirectiveMessage, ReleaseProof, Welcome};
use groundswell_common::{Digest, ReleaseId, ServiceName, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::accepted::{self, Accepted};
use crate::bring::{Bring, Progress};
use crate::cancel::{self, Canceller};
use crate::clock::{SinceBoot, wall};
use crate::identity::{Loaded, save_root};
use crate::journal;
use crate::link::{Heard, Said, Say};
use crate::live::Live;
use crate::own;
use crate::text::failure;
use crate::told::Places;
use crate::trustee::{Trustee, walk};
use crate::work::{Job, Outside};
use crate::{stage, switch};
use groundswell_common::chain;
use groundswell_machine::{Action, Again, Event, Service, State, StuckCause, Wish};
use unkept::{Input, Unkept};

const SOON: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(30);
/// A question that was not answered for this long is asked again under a new nonce.
const ANSWER: Duration = Duration::from_secs(10);
/// How often a person's requests and the settings are looked for; asked to, at once.
pub(crate) const LOOK: Duration = Duration::from_secs(5);
/// Roots that one Welcome carries at most; as many mean that there may be more.
const ROOTS_PER_WELCOME: usize = 16;

/// What comes back to the driver from what it started.
#[derive(Clone, Debug)]
pub(crate) enum Back {
    /// A job of a service ended.
    Job { service: ServiceName, number: u64, event: Event },
    /// Whoever keeps an eye on a service saw something.
    Seen { service: ServiceName, number: u64, event: Event },
    /// It is time to try again what is held.
    Retry { service: ServiceName, number: u64 },
    /// It is time to ask for a permit again.
    Timer { service: ServiceName, number: u64 },
    /// Nothing runs of what is live and unproven.
    Down { service: ServiceName, number: u64 },
    /// How the units stand that the owner allows.
    Units(Vec<ServiceCondition>),
    /// What is live was compared with what was released.
    Looked(drifts::Looked),
}

/// The driver's ends of everything.
pub(crate) struct Ends {
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) says: mpsc::Sender<Say>,
    pub(crate) said: watch::Sender<Option<Said>>,
    /// The newest root, for those who connect.
    pub(crate) root: watch::Sender<Envelope>,
    /// Where they connect to, and under which name.
    pub(crate) places: watch::Sender<Places>,
    pub(crate) back: (mpsc::Sender<Back>, mpsc::Receiver<Back>),
}

/// One service.
struct Slot {
    machine: Service,
    /// Set when the journal cannot be read: it is then never written.
    frozen: bool,
    /// Whether its journal was taken up since the start, and written.
    resumed: bool,
    /// What is told of a live link that somebody changed.
    relinked: Option<String>,
    work: Option<(Canceller, JoinHandle<()>)>,
    number: u64,
    /// Whoever keeps an eye on what is live, beside the work.
    eye: Option<Canceller>,
    eyes: u64,
    /// Closed once what is live was seen to, at a start of the agent.
    seen_to: Option<watch::Receiver<()>>,
    /// Whoever waits to start again what is stuck and down.
    reviver: revivals::Reviver,
    timer: u64,
    /// The newest wait for another try of what is held, and tries so far.
    retry: u64,
    tries: u32,
    /// What keeps it from asking for a permit.
    lacks: Option<Held>,
    progress: Progress,
    asked: Option<Asked>,
    /// The first report that says of the newest switch that it is done.
    probing_since: u64,
    pruning: Option<JoinHandle<()>>,
}

/// A question for a permit that was not answered yet.
struct Asked {
    nonce: [u8; 16],
    ask: PermitAsk,
    at: SinceBoot,
}

/// The one owner of the host's state.
pub(crate) struct Driver {
    outside: Outside,
    trustee: Trustee,
    accepted: Option<Accepted>,
    floor: DirectiveFloor,
    slots: BTreeMap<ServiceName, Slot>,
    ends: Ends,
    connected: bool,
    refusal: Option<RefusalNote>,
    /// How the units stand that the owner allows, as it was seen last.
    units: Vec<ServiceCondition>,
    /// What was found changed, of which release.
    drifted: BTreeMap<ServiceName, (ReleaseId, String)>,
    seq: u64,
    own: own::Record,
    /// Whether the agent has just started.
    starting: bool,
    /// Requests of a person on the host that were looked at, by their marks.
    in_force: Option<BTreeSet<String>>,
    /// Random at each start: what tells two machines with one key from one that was started again.
    instance: [u8; 16],
    unkept: Unkept,
    /// Whether the directive on disk is of an enrolment before this one.
    enrolled_anew: bool,
}

/// Why the driver ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    /// State that cannot be kept: acting without it would break every promise.
    #[error("keep the agent's state")]
    Journal(#[from] journal::JournalError),
    /// The directive or root cannot be kept.
    #[error("keep the agent's state")]
    Fault(#[from] crate::durable::Fault),
    /// This program is of a new release and found no coordinator.
    #[error(
        "hear from the coordinator within 60 s of the start of a new release of the agent; it is tried \
             once more, then the release before goes on"
    )]
    Unproven,
    /// The directive on disk cannot be read.
    #[error("start the agent")]
    Accepted(#[from] accepted::AcceptedError),
}

impl Driver {
    /// Loads every journal and resumes every service.
    pub(crate) fn start(outside: Outside, loaded: Loaded, ends: Ends) -> Result<Self, DriverError> {
        let trustee = loaded.trustee;
        let on_disk = accepted::load(&outside.layout)?;
        // Before the first directive of an enrolment, what journals wish for is of the one before.
        let accepted = on_disk.filter(|accepted| accepted.is_for(&trustee.pin.host));
        let enrolled_anew = accepted.is_none();
        let floor = accepted.as_ref().map(Accepted::floor).unwrap_or_default();
        let own = own::load(&outside.layout)?;
        let mut driver = Self {
            outside,
            trustee,
            accepted,
            floor,
            slots: BTreeMap::new(),
            ends,
            connected: false,
            refusal: None,
            units: Vec::new(),
            drifted: BTreeMap::new(),
            seq: 0,
            own,
            starting: true,
            in_force: None,
            instance: instance(),
            unkept: Unkept::default(),
            enrolled_anew,
        };
        driver.take(Input::Start)?;
        driver.report();
        Ok(driver)
    }

    fn take_up(&mut self) -> Result<(), DriverError> {
        let mut kept = Ok(());
        for service in accepted::services_on_disk(&self.outside.layout)? {
            match self.resume(&service).and_then(|()| self.look(&service)) {
                // The others run on, and are told of, all the same.
                Err(error) if error.is_of_the_disk() => kept = Err(error),
                resumed => resumed?,
            }
        }
        kept?;
        self.starting = false;
        if std::mem::take(&mut self.enrolled_anew) {
            accepted::forget(&self.outside.layout)?;
        }
        self.leave_own_failure()?;
        self.pursue_accepted()?;
        self.look_at_all()
    }

    fn resume(&mut self, service: &ServiceName) -> Result<(), DriverError> {
        if self.slots.get(service).is_some_and(|slot| slot.resumed) {
            return Ok(());
        }
        let (layout, enrolled_anew) = (&self.outside.layout, self.enrolled_anew);
        let live = switch::live(layout, service);
        let loaded = match (&live, journal::load(layout, service)) {
            (Ok(_), Ok(loaded)) => Ok(loaded.unwrap_or_else(Service::new)),
            (Err(error), _) => Err((StuckCause::Tree, chain(error))),
            (Ok(_), Err(error)) => Err((StuckCause::Journal, chain(&error))),
        };
        let mut live = live.ok().flatten();
        let mut relinked = None;
        let now = self.outside.clock.now();
        let (machine, actions, frozen) = match loaded {
            Ok(mut machine) => {
                (live, relinked) = links::missing(layout, (service, &machine), live);
                if enrolled_anew {
                    machine.enrolled_anew();
                }
                let (machine, actions) = machine.resume(live, now);
                (machine, actions, false)
            }
            Err((cause, why)) => {
                tracing::error!(%service, why, "the service is stuck; a person must look");
                let mut machine = Service::new();
                machine.stick(cause);
                let release = live.unwrap_or(ReleaseId::from_digest(Digest::from_bytes([0; 32])));
                let (step, why) = (FailedStep::Revert, failure(&why, ""));
                machine.failure = Some(Failure { release, step, why, reverted: false });
                (machine, Vec::new(), true)
            }
        };
        let mut slot = Slot::new(machine, frozen);
        slot.resumed = false;
        slot.relinked = relinked;
        let first = self.slots.insert(service.clone(), slot).is_none();
        if let Err(error) = self.save(service) {
            // What is live runs whatever the disk takes; all else waits for it.
            if first {
                self.act(service, vec![Action::Ensure], now)?;
            }
            return Err(error);
        }
        if let Some(slot) = self.slots.get_mut(service) {
            slot.resumed = true;
        }
        self.act(service, actions, now)
    }

    /// Gives every machine its wish of the directive on disk; one of which it says nothing stays as it is.
    fn pursue_accepted(&mut self) -> Result<(), DriverError> {
        let wishes = self.accepted.as_ref().map(Accepted::wishes).unwrap_or_default();
        let generation = self.accepted.as_ref().map_or(0, Accepted::generation);
        let unnamed = |service: &ServiceName| wishes.iter().all(|(named, _)| named != service);
        let left = self.slots.iter().filter(|(service, _)| unnamed(service));
        let withdrawn = |(service, slot): (&ServiceName, &Slot)| {
            let wish = slot.machine.wish.as_ref()?.withdrawn(generation)?;
            Some((service.clone(), wish))
        };
        let withdrawn: Vec<(ServiceName, Wish)> = left.filter_map(withdrawn).collect();
        for (service, wish) in wishes.into_iter().chain(withdrawn) {
            self.wish(service, wish)?;
        }
        self.look_at_lacks();
        Ok(())
    }

    fn wish(&mut self, service: ServiceName, wish: Wish) -> Result<(), DriverError> {
        let room = self.slots.len() < SERVICES_PER_HOST_MAX;
        if !self.slots.contains_key(&service) {
            if !room {
                tracing::error!(%service, "more than 256 services on this host; left alone");
                return Ok(());
            }
            self.slots.insert(service.clone(), Slot::new(Service::new(), false));
            self.look(&service)?;
        }
        self.step(&service, Event::Wish(wish))
    }

    /// Takes whatever happens next, until `stop` ends.
    pub(crate) async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), DriverError> {
        let mut stop = std::pin::pin!(stop);
        let settings = self.outside.settings.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drifts = interval(drifts::EVERY);
        let mut units = interval(conditions::EVERY);
        units.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut trial = std::pin::pin!(sleep(own::TRIAL));
        loop {
            if self.hands_over() {
                tracing::info!(
                    "this program ends, and the one of the agent's newest release begins"
                );
                return Ok(());
            }
            // On a slow disk each of these takes seconds: whoever speaks to the coordinator has its turn in between.
            yield_now().await;
            if self.unkept.waits() {
                tokio::select! {
                    heard = self.wait_for_the_disk() => match heard {
                        Some(heard) => self.take(heard)?,
                        None => self.take_waiting()?,
                    },
                    () = &mut stop => return Ok(()),
                }
                self.report();
                continue;
            }
            tokio::select! {
                heard = self.ends.heard.recv() => match heard {
                    Some(heard) => self.take(Input::Heard(heard))?,
                    None => return Ok(()),
                },
                back = self.ends.back.1.recv() => match back {
                    Some(back) => self.take(Input::Back(back))?,
                    None => return Ok(()),
                },
                () = look_is_due(&mut looks, &settings) => {
                    if self.is_another_host() {
                        tracing::info!(
                            "this host was enrolled anew: the agent starts again as that one"
                        );
                        return Ok(());
                    }
                    self.take(Input::Look)?;
                }
                _ = drifts.tick() => self.look_for_drift(None),
                _ = units.tick() => self.look_at_units(),
                () = &mut stop => return Ok(()),
                () = &mut trial, if self.is_on_trial() => return Err(DriverError::Unproven),
            }
            self.report();
        }
    }

    fn on_heard(&mut self, heard: Heard) -> Result<(), DriverError> {
        match heard {
            Heard::Welcome(welcome) => self.on_welcome(&welcome),
            Heard::Directive(message) => self.on_directive(*message),
            Heard::Ack(seq) => self.on_ack(seq),
            Heard::Permit(answer) => self.on_permit(&answer),
            Heard::Told(envelope, used) => self.on_told(&envelope, &used),
            Heard::Lost => self.on_lost(),
        }
    }

    /// An acknowledged report that left after a switch is contact since that switch. A new session counts
    /// by this as well: the whole report follows each Welcome.
    fn on_ack(&mut self, seq: u64) -> Result<(), DriverError> {
        for service in self.services() {
            let slot = self.slots.get(&service);
            if slot.is_some_and(|slot| slot.machine.wants_contact() && seq >= slot.probing_since) {
                self.step(&service, Event::Contact)?;
            }
        }
        Ok(())
    }

    fn on_welcome(&mut self, welcome: &Welcome) -> Result<(), DriverError> {
        self.connected = true;
        self.prove_own()?;
        self.outside.depot.set_base(&welcome.blobs);
        if self.walk_roots(welcome)? {
            return Ok(());
        }
        for service in self.services() {
            self.step(&service, Event::Linked)?;
        }
        Ok(())
    }

    /// Walks to newer roots; `true` when the connection is made anew because of them.
    fn walk_roots(&mut self, welcome: &Welcome) -> Result<bool, DriverError> {
        let mut newest = None;
        for envelope in welcome.roots.iter().take(ROOTS_PER_WELCOME) {
            let next = match walk(&self.trustee.root, envelope) {
                Ok(Some(next)) => next,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(error = %chain(&error), "a root from the coordinator is refused");
                    let code = Refusal::Trust(error).code().to_owned();
                    self.refusal = Some(RefusalNote { generation: 0, code });
                    break;
                }
            };
            save_root(&self.outside.layout, envelope)?;
            tracing::info!(version = next.version, "a newer root is trusted");
            self.take_root(next)?;
            newest = Some(envelope);
        }
        // The connection is made anew under it.
        if let Some(envelope) = newest {
            self.ends.root.send_replace(envelope.clone());
        }
        Ok(newest.is_some())
    }

    fn take_root(
        &mut self,
        next: groundswell_common::trust::Verified<groundswell_common::trust::Root>,
    ) -> Result<(), DriverError> {
        use groundswell_common::trust::Role;
        let environment = self.trustee.pin.environment.clone();
        let director = |root: &groundswell_common::trust::Root| {
            root.role(Role::Director, None, Some(&environment))
        };
        // A new director starts counting anew: without this, a thief of the old key who signed the
        // largest generation would lock the host out for ever.
        if director(&next) != director(&self.trustee.root) {
            self.floor = DirectiveFloor::default();
            self.accepted = None;
            accepted::forget(&self.outside.layout)?;
        }
        self.trustee.root = next;
        Ok(())
    }

    fn on_directive(&mut self, message: DirectiveMessage) -> Result<(), DriverError> {
        let checked =
            check_directive(&message.envelope, &self.trustee.root, &self.trustee.pin, &self.floor);
        let directive = match checked {
            Ok(directive) => directive,
            Err(refusal) => {
                let error = chain(&refusal);
                tracing::error!(code = refusal.code(), error, "a directive is refused");
                let generation = accepted::claimed_generation(&message.envelope);
                let code = refusal.code().to_owned();
                self.refusal = Some(RefusalNote { generation, code });
                accepted::note_refusal(&self.outside.layout, self.refusal.as_ref());
                return Ok(());
            }
        };
        accepted::note_refusal(&self.outside.layout, None);
        tracing::debug!(generation = directive.generation, "a directive is accepted");
        let accepted = Accepted::new(&directive, message);
        // The same one comes with each connection; the disk is spared then.
        if self.accepted.as_ref() != Some(&accepted) {
            accepted::save(&self.outside.layout, &accepted)?;
        }
        self.floor = accepted.floor();
        self.accepted = Some(accepted);
        self.refusal = None;
        self.pursue_accepted()
    }

    /// Keeps what the coordinator says of this host and of the way there.
    fn on_told(&mut self, envelope: &Envelope, used: &str) -> Result<(), DriverError> {
        let have = self.ends.places.borrow().clone();
        let trustee = &self.trustee;
        let told = match check_told(envelope, &trustee.root, &trustee.pin, have.number) {
            Ok(told) => told,
            Err(refusal) => {
                tracing::error!(error = %chain(&refusal), "what the coordinator tells is refused");
                return Ok(());
            }
        };
        let places = have.told(&told, used);
        if places != have {
            places.save(&self.outside.layout)?;
            let (name, agents) = (&places.name, places.agents.join(", "));
            tracing::info!(%name, agents, "the coordinator says who this host is and where to go");
            self.ends.places.send_replace(places);
        }
        Ok(())
    }

    fn refuse(&mut self, generation: u64, refusal: &Refusal) {
        tracing::warn!(code = refusal.code(), error = %chain(refusal), "refused");
        self.refusal = Some(RefusalNote { generation, code: refusal.code().to_owned() });
    }

    fn on_lost(&mut self) -> Result<(), DriverError> {
        self.connected = false;
        for service in self.services() {
            let asked = self.slots.get_mut(&service).and_then(|slot| slot.asked.take());
            if let Some(asked) = asked {
                let generation = asked.ask.generation;
                self.step(&service, Event::Denied { generation, again: Again::Later })?;
            }
        }
        Ok(())
    }

    fn on_back(&mut self, back: Back) -> Result<(), DriverError> {
        match back {
            Back::Job { service, number, event } => {
                let current = self.slots.get_mut(&service).filter(|slot| slot.number == number);
                match current {
                    Some(slot) => {
                        slot.work = None;
                        self.step(&service, event)
                    }
                    None => Ok(()),
                }
            }
            Back::Seen { service, number, event } => {
                let current = self.slots.get(&service).is_some_and(|slot| slot.eyes == number);
                if current { self.step(&service, event) } else { Ok(()) }
            }
            Back::Retry { service, number } => {
                let due = self.slots.get(&service).is_some_and(|slot| slot.retry == number);
                if due { self.step(&service, Event::StageAgain) } else { Ok(()) }
            }
            Back::Timer { service, number } => {
                let due = self.slots.get(&service).is_some_and(|slot| slot.timer == number);
                if due { self.step(&service, Event::AskAgain) } else { Ok(()) }
            }
            Back::Down { service, number } => {
                let due = self.slots.get(&service).is_some_and(|slot| slot.reviver.is(number));
                if due { self.step(&service, Event::Down) } else { Ok(()) }
            }
            Back::Units(units) => {
                self.units = units;
                Ok(())
            }
            Back::Looked(looked) => {
                self.on_looked(looked);
                Ok(())
            }
        }
    }

    fn services(&self) -> Vec<ServiceName> {
        self.slots.keys().cloned().collect()
    }

    fn proof(&self, release: &ReleaseId) -> Option<ReleaseProof> {
        self.accepted.as_ref().and_then(|accepted| accepted.proof(release))
    }

    /// Step, save, act.
    fn step(&mut self, service: &ServiceName, event: Event) -> Result<(), DriverError> {
        self.step_with(service, event, |_| false).map(drop)
    }

    /// As [`Self::step`], but hands back the action that the caller carries out itself.
    fn step_with(
        &mut self,
        service: &ServiceName,
        event: Event,
        mine: impl Fn(&Action) -> bool,
    ) -> Result<Option<Action>, DriverError> {
        let now = self.outside.clock.now();
        let Some(slot) = self.slots.get_mut(service) else { return Ok(None) };
        let why = event.name();
        let (next, mut actions) = slot.machine.clone().step(event, now);
        if next != slot.machine {
            // Where that fails nothing has happened, and the event is taken once more.
            if !slot.frozen {
                journal::save(&self.outside.layout, service, &next)?;
            }
            let (from, to) = (slot.machine.state.name(), next.state.name());
            if from != to {
                slot.probing_since = self.seq + 1;
                let release = next.target().or(next.running.as_ref().map(|known| known.id));
                let release = release.map(|id| id.digest().short()).unwrap_or_default();
                tracing::info!(%service, from, to, why, release, "transition");
                (slot.tries, slot.lacks) = (0, None);
                // The link is changed by the agent itself now: what somebody did to it is over.
                slot.relinked.take_if(|_| matches!(next.state, State::Switching { .. }));
            }
            if next.watched() != slot.machine.watched() {
                slot.close_eye();
            }
            slot.reviver.settle(&next);
            let went_back = from != to && matches!(slot.machine.state, State::Reverting { .. });
            slot.machine = next;
            // What had to go back may not have been looked at before.
            if went_back {
                self.look_for_drift(Some(service));
            }
        }
        let taken = actions.iter().position(mine).map(|at| actions.remove(at));
        self.act(service, actions, now)?;
        Ok(taken)
    }

    fn save(&self, service: &ServiceName) -> Result<(), DriverError> {
        match self.slots.get(service) {
            Some(slot) if !slot.frozen => {
                Ok(journal::save(&self.outside.layout, service, &slot.machine)?)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Does what was decided `at` that time.
    fn act(
        &mut self,
        service: &ServiceName,
        actions: Vec<Action>,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        for action in actions {
            self.act_one(service, action, at)?;
        }
        Ok(())
    }

    fn act_one(
        &mut self,
        service: &ServiceName,
        action: Action,
        at: Timestamp,
    ) -> Result<(), DriverError> {
        let Some(slot) = self.slots.get_mut(service) else { return Ok(()) };
        let running = slot.machine.running.clone();
        let secs = Duration::from_secs;
        // What a time is ahead counts from when the work begins: the disk may be slow, or the host stand still.
        let left = |until: Timestamp| Duration::from_millis(until.millis_since(at));
        match action {
            Action::Cancel => slot.cancel(),
            Action::Stage { release, back } => {
                // What the owner has just allowed is allowed.
                self.outside.settings.reread();
                let floor = slot.machine.floor;
                let (proof, trustee) = (self.proof(&release), self.trustee.clone());
                // What was here before was proven here; what it must satisfy now is looked at again.
                let kept = || stage::kept_proof(&self.outside.layout, service, &release);
                let proof = proof.or_else(|| kept().filter(|_| back));
                let bring = Bring { release, proof, trustee, floor, running, back };
                if let Some(slot) = self.slots.get_mut(service) {
                    slot.retry += 1;
                }
                self.launch(service, |job| job.stage(bring));
            }
            Action::StageAfter(lack) => self.stage_after(service, lack),
            Action::Ask { release, generation } => return self.ask(service, release, generation),
            Action::AskAfter(again) => self.ask_after(service, again),
            // Only ever an answer to a permit, which carries it out itself.
            Action::Activate { .. } => {}
            Action::Start { deadline } => {
                if let Some(release) = slot.machine.target() {
                    let before = slot.machine.previous.as_ref().map(|known| known.id);
                    self.launch(service, |job| job.start(release, before, left(deadline)));
                }
            }
            Action::Interrupt => self.launch(service, Job::interrupted),
            Action::TakeLinkBack => {
                if let Some(target) = slot.machine.target() {
                    let before = [running, slot.machine.previous.clone()];
                    let [running, previous] = before.map(|known| known.map(|known| known.id));
                    self.launch(service, |job| job.take_link_back(target, (running, previous)));
                }
            }
            Action::Probe { deadline, interval_secs } => {
                if let Some(release) = slot.machine.target() {
                    let left = left(deadline);
                    self.launch(service, |job| job.probe(release, left, secs(interval_secs)));
                }
            }
            Action::Watch { until, interval_secs } => {
                if let Some(release) = slot.machine.target() {
                    let left = left(until);
                    self.launch(service, |job| job.watch(release, left, secs(interval_secs)));
                }
            }
            Action::AwaitStart { interval_secs } => {
                if let Some(release) = slot.machine.target() {
                    self.launch(service, |job| job.await_start(release, secs(interval_secs)));
                }
            }
            Action::Guard { until, interval_secs, known } => {
                if let Some(running) = running {
                    let every = secs(interval_secs);
                    self.keep_an_eye(service, |job| job.guard(running.id, until, every, known));
                }
            }
            Action::Restore { to, probe_secs, interval_secs } => {
                if let State::Reverting { from, cause, .. } = slot.machine.state.clone() {
                    let times = (secs(probe_secs), secs(interval_secs));
                    self.launch(service, |job| job.restore((from, cause), to, times));
                }
            }
            Action::Revive => self.revive(service),
            Action::Ensure => {
                if let Some(known) = running {
                    let (over, seen_to) = watch::channel(());
                    slot.seen_to = Some(seen_to);
                    let job = self.job(service).1;
                    tokio::spawn(async move {
                        job.ensure(known.id).await;
                        drop(over);
                    });
                }
            }
            Action::Prune => self.prune(service),
        }
        Ok(())
    }

    fn job(&self, service: &ServiceName) -> (Canceller, Job) {
        let (canceller, cancel) = cancel::switch();
        let (outside, service) = (self.outside.clone(), service.clone());
        let progress = self.slots.get(&service).map(|slot| slot.progress.clone());
        let (starting, progress) = (self.starting, progress.unwrap_or_default());
        let job = Job { outside, service, cancel, starting, progress };
        (canceller, job)
    }

    /// Starts the one job of a service; what was under way ends first.
    fn launch<F>(&mut self, service: &ServiceName, make: impl FnOnce(Job) -> F)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let (canceller, job) = self.job(service);
        let cancel = job.cancel.clone();
        let work = make(job);
        let Some(slot) = self.slots.get_mut(service) else { return };
        slot.cancel();
        let before = slot.work.take();
        let pruning = slot.pruning.take();
        slot.number += 1;
        let (number, service) = (slot.number, service.clone());
        let (back, progress) = (self.ends.back.0.clone(), slot.progress.clone());
        let units = self.outside.units.clone();
        let handle = tokio::spawn(async move {
            for earlier in [before.map(|(_, handle)| handle), pruning].into_iter().flatten() {
                // One that panicked is over as well.
                drop(earlier.await);
            }
            progress.wait_for_the_disk(None);
            tokio::select! {
                event = endings::unless_ending(units, work) => {
                    drop(back.send(Back::Job { service, number, event }).await);
                }
                () = cancel.cancelled() => {}
            }
        });
        slot.work = Some((canceller, handle));
    }

    /// Keeps an eye on what is live, in place of the one before.
    fn keep_an_eye<F>(&mut self, service: &ServiceName, make: impl FnOnce(Job) -> F)
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let (canceller, job) = self.job(service);
        let cancel = job.cancel.clone();
        let work = make(job);
        let Some(slot) = self.slots.get_mut(service) else { return };
        slot.close_eye();
        slot.eye = Some(canceller);
        let seen_to = slot.seen_to.clone();
        let work = async move {
            // Before it was seen to, nothing is known of it; nobody ever sends here.
            if let Some(mut seen_to) = seen_to {
                drop(seen_to.changed().await);
            }
            work.await
        };
        let (number, service) = (slot.eyes, service.clone());
        let back = self.ends.back.0.clone();
        let units = self.outside.units.clone();
        tokio::spawn(async move {
            tokio::select! {
                event = endings::unless_ending(units, work) => {
                    drop(back.send(Back::Seen { service, number, event }).await);
                }
                () = cancel.cancelled() => {}
            }
        });
    }
}

/// Waits until it is time to look at what a person on the host may have changed, or somebody asks for that.
async fn look_is_due(looks: &mut Interval, settings: &Live) {
    tokio::select! {
        _ = looks.tick() => {}
        () = settings.nudged() => {}
    }
}

/// Random bytes; without any the process is told apart by its start.
fn instance() -> [u8; 16] {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        bytes = u128::from(wall().as_millis()).to_be_bytes();
    }
    bytes
}

impl Slot {
    fn new(machine: Service, frozen: bool) -> Self {
        let (number, timer, probing_since) = (0, 0, 1);
        Self {
            machine,
            frozen,
            resumed: true,
            relinked: None,
            work: None,
            number,
            eye: None,
            eyes: 0,
            seen_to: None,
            reviver: revivals::Reviver::default(),
            timer,
            retry: 0,
            tries: 0,
            lacks: None,
            progress: Progress::default(),
            asked: None,
            probing_since,
            pruning: None,
        }
    }

    /// Nobody keeps an eye on it any more; what was seen no longer counts.
    fn close_eye(&mut self) {
        if let Some(canceller) = self.eye.take() {
            canceller.cancel();
        }
        self.eyes += 1;
    }

    /// Tells the job under way to stop; its result no longer counts.
    fn cancel(&mut self) {
        if let Some((canceller, _)) = &self.work {
            canceller.cancel();
            self.number += 1;
        }
    }
}

#[cfg(test)]
mod tests;
