//! The task itself, and the handle by which everyone else reaches it.

use std::sync::Arc;
use std::time::Duration;

use groundswell_common::condition::Condition;
use groundswell_common::report::Report;
use groundswell_common::time::Clock;
use groundswell_common::wire::PermitRequest;
use groundswell_common::{HostId, Timestamp};
use groundswell_control::Refused;
use groundswell_rollout::next_deadline;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::desk::{Desk, Finish, Settled};
use super::seats::Arrival;
use crate::ledger::{AppendError, Ledger};
use crate::present;
use crate::store::{Changes, Writer};
use crate::view::{Operator, View};

/// Commands that may wait for the driver; senders wait beyond it.
const QUEUE_COMMANDS: usize = 4_096;
/// Commands that are stepped and made durable together at most.
const BATCH_COMMANDS: usize = 1_024;
/// Entries after which the view is kept without waiting for quiet.
const KEEP_AFTER_ENTRIES: u64 = 10_000;
/// How long the view may lag behind the ledger in the store.
const KEEP_AFTER: Duration = Duration::from_secs(5);

type Work = Box<dyn FnOnce(&mut Desk) -> (Settled, Finish) + Send>;

enum Command {
    Arrive(Box<Arrival>),
    Condition(HostId, u64, Box<Condition>),
    Report(HostId, u64, Box<Report>),
    Permit(HostId, u64, Box<PermitRequest>),
    PermitDone(HostId, [u8; 16]),
    Leave(HostId, u64),
    Work(Work),
}

/// Who may use the API, as the ledger says.
pub type Operators = Arc<std::collections::BTreeMap<groundswell_common::OperatorName, Operator>>;

/// The driver is gone: the process is stopping.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("ask the driver: the coordinator is stopping; try again")]
pub struct Gone;

/// The way to the driver; cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    changes: watch::Receiver<u64>,
    operators: watch::Receiver<Operators>,
}

/// What a driver is made from.
pub struct DriverParts {
    /// What the ledger adds up to.
    pub view: View,
    /// The ledger, already read.
    pub ledger: Ledger,
    /// Where the view's records are kept.
    pub writer: Writer,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Version of the root that directives are made under.
    pub root_version: u64,
    /// How long agents take to come back after a start; until then nobody counts as away and no
    /// deadline fires.
    pub settle: Duration,
}

/// The task's own state.
pub struct Driver {
    desk: Desk,
    ledger: Ledger,
    writer: Writer,
    commands: mpsc::Receiver<Command>,
    changes: watch::Sender<u64>,
    operators: watch::Sender<Operators>,
    settle_at: Option<Instant>,
    kept: (Instant, u64),
    parked: Option<Changes>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Driver({:?})", self.desk)
    }
}

impl Driver {
    /// A driver that has not started, and its handle. Run it with [`Driver::run`].
    #[must_use]
    pub fn new(parts: DriverParts) -> (Self, Handle) {
        let (sender, commands) = mpsc::channel(QUEUE_COMMANDS);
        let (changes, changes_seen) = watch::channel(0);
        let (operators, operators_seen) = watch::channel(Arc::new(parts.view.operators.clone()));
        let seq = parts.view.seq;
        let reader = parts.ledger.reader();
        let desk = Desk::new(parts.view, (parts.clock, reader), parts.root_version);
        let driver = Self {
            desk,
            ledger: parts.ledger,
            writer: parts.writer,
            commands,
            changes,
            operators,
            settle_at: Some(Instant::now() + parts.settle),
            kept: (Instant::now(), seq),
            parked: None,
        };
        let handle = Handle { commands: sender, changes: changes_seen, operators: operators_seen };
        (driver, handle)
    }

    /// Runs until every handle is gone or `stop` is told; then keeps the view.
    ///
    /// # Errors
    /// [`AppendError`] when the ledger takes no more.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), AppendError> {
        let mut batch = Vec::with_capacity(BATCH_COMMANDS);
        loop {
            let wake = self.next_wake();
            tokio::select! {
                count = self.commands.recv_many(&mut batch, BATCH_COMMANDS) => {
                    if count == 0 { break }
                }
                () = tokio::time::sleep_until(wake) => {}
                changed = stop.changed() => {
                    if changed.is_err() || *stop.borrow() { break }
                }
            }
            let mut finishes = Vec::new();
            for command in batch.drain(..) {
                self.take(command, &mut finishes);
            }
            self.tick();
            self.commit().await?;
            self.act(finishes);
            self.keep();
        }
        self.finish();
        Ok(())
    }

    fn take(&mut self, command: Command, finishes: &mut Vec<(Settled, Finish)>) {
        let desk = &mut self.desk;
        desk.look_at_the_clock();
        match command {
            Command::Arrive(arrival) => desk.arrive(*arrival),
            Command::Condition(host, session, condition) => {
                desk.condition((host, session), *condition);
            }
            Command::Report(host, session, report) => desk.report((host, session), *report),
            Command::Permit(host, session, request) => desk.permit((host, session), &request),
            Command::PermitDone(host, nonce) => desk.permits.done(host, nonce),
            Command::Leave(host, session) => desk.leave(host, session),
            Command::Work(work) => finishes.push(work(desk)),
        }
    }

    /// What time alone brings: the end of the settling after a start, and deadlines of rollouts.
    fn tick(&mut self) {
        self.desk.look_at_the_clock();
        if self.settle_at.is_some_and(|at| at <= Instant::now()) {
            self.settle_at = None;
            self.desk.sweep();
        }
        self.plan_waiting();
        if self.settle_at.is_some() {
            return;
        }
        self.desk.tick();
        self.plan_waiting();
    }

    fn plan_waiting(&mut self) {
        for (service, planned) in self.desk.plan_waiting() {
            match planned {
                Ok(rollout) => tracing::info!(%service, %rollout, "planned a waiting release"),
                Err(why) => tracing::debug!(%service, %why, "nothing is planned"),
            }
        }
    }

    async fn commit(&mut self) -> Result<(), AppendError> {
        if !self.desk.has_pending() {
            return Ok(());
        }
        let payloads = self.desk.take_payloads();
        let appended = self.ledger.append(payloads)?;
        // The committer ends the process when the disk fails; without an answer it is gone.
        appended.await.map(drop).map_err(|_| AppendError::Closed)
    }

    fn act(&mut self, finishes: Vec<(Settled, Finish)>) {
        for (rollout, transition) in self.desk.take_transitions() {
            let (from, _) = present::phase_line(&transition.from);
            let (to, why) = present::phase_line(&transition.to);
            let service = self.desk.view().rollout(&rollout).map(|r| r.plan().service.clone());
            let service = service.map(|service| service.to_string()).unwrap_or_default();
            tracing::info!(%rollout, service, from, to, why, "rollout");
        }
        for (about, error) in self.desk.take_refusals() {
            tracing::debug!(%about, %error, "an input was refused");
        }
        if self.desk.view().seq != *self.changes.borrow() {
            self.changes.send_replace(self.desk.view().seq);
            if self.desk.view().operators != **self.operators.borrow() {
                self.operators.send_replace(Arc::new(self.desk.view().operators.clone()));
            }
        }
        self.desk.push_wishes();
        self.desk.send_answers();
        for (settled, finish) in finishes {
            match settled {
                Settled::Durable => finish(&mut self.desk),
                Settled::NoPermits(rollout) => match self.desk.view().rollout(&rollout) {
                    Some(_) => self.desk.wait_for_permits(&rollout, finish),
                    // Archived: nobody holds a permit under it any more.
                    None => finish(&mut self.desk),
                },
            }
        }
        for finish in self.desk.permits.settled(Instant::now()) {
            finish(&mut self.desk);
        }
    }

    /// Hands the view's changes to the store, when enough came together and it is not busy.
    fn keep(&mut self) {
        if let Some(changes) = self.parked.take()
            && let Err(changes) = self.writer.offer(changes)
        {
            self.parked = Some(changes);
            return;
        }
        let (at, seq) = self.kept;
        let many = self.desk.view().seq - seq >= KEEP_AFTER_ENTRIES;
        if self.desk.view().dirty.is_empty() || !(many || at.elapsed() >= KEEP_AFTER) {
            return;
        }
        if let Some(changes) = self.take_changes()
            && let Err(changes) = self.writer.offer(changes)
        {
            self.parked = Some(changes);
        }
    }

    fn take_changes(&mut self) -> Option<Changes> {
        self.kept = (Instant::now(), self.desk.view().seq);
        match self.desk.take_dirty() {
            Ok(changes) => Some(changes),
            Err(error) => {
                tracing::error!(%error, "failed to write the view as records");
                None
            }
        }
    }

    fn finish(mut self) {
        let last = self.take_changes().unwrap_or_default();
        let mut changes = self.parked.take().unwrap_or_default();
        changes.extend(last);
        self.writer.finish(changes);
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let mut wake = now + Duration::from_secs(3_600);
        if !self.desk.view().dirty.is_empty() {
            wake = wake.min(self.kept.0 + KEEP_AFTER);
        }
        if self.parked.is_some() {
            wake = wake.min(now + Duration::from_millis(200));
        }
        if let Some(at) = self.desk.permits.next_deadline() {
            wake = wake.min(at);
        }
        if let Some(at) = self.settle_at {
            return wake.min(at);
        }
        let deadlines = self.desk.view().live_rollouts().filter_map(next_deadline);
        match deadlines.chain(self.desk.next_start(self.desk.now())).min() {
            None => wake,
            Some(deadline) => wake.min(now + until(self.desk.now(), deadline)),
        }
    }
}

/// From now to a deadline; at least a millisecond, so that a deadline which changes nothing cannot spin.
fn until(now: Timestamp, deadline: Timestamp) -> Duration {
    Duration::from_millis(deadline.millis_since(now).max(1))
}

impl Handle {
    /// A number that changes whenever the view does.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Who may use the API now.
    #[must_use]
    pub fn operators(&self) -> Operators {
        self.operators.borrow().clone()
    }

    /// Reads something from the driver's state; sees only what is durable.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Desk) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |_| {
            let finish: Finish = Box::new(move |desk| drop(reply.send(read(desk))));
            (Settled::Durable, finish)
        });
        self.send(Command::Work(work)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Changes something; the answer comes when it is durable.
    ///
    /// # Errors
    /// [`Gone`], or within it what `change` refused.
    pub async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Desk) -> Result<T, Refused> + Send + 'static,
    ) -> Result<Result<T, Refused>, Gone> {
        let finish = |value: T, _: &Desk| Ok(value);
        self.change_then(|desk| change(desk).map(|v| (Settled::Durable, v)), finish).await
    }

    /// Changes something, and builds the answer when it is durable and settled.
    ///
    /// # Errors
    /// [`Gone`], or within it what either closure refused.
    pub async fn change_then<T: Send + 'static, U: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Desk) -> Result<(Settled, T), Refused> + Send + 'static,
        then: impl FnOnce(T, &Desk) -> Result<U, Refused> + Send + 'static,
    ) -> Result<Result<U, Refused>, Gone> {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |desk| match change(desk) {
            Ok((settled, value)) => {
                let finish: Finish = Box::new(move |desk| drop(reply.send(then(value, desk))));
                (settled, finish)
            }
            Err(refused) => {
                let finish: Finish = Box::new(move |_| drop(reply.send(Err(refused))));
                (Settled::Durable, finish)
            }
        });
        self.send(Command::Work(work)).await?;
        answer.await.map_err(|_| Gone)
    }

    /// A session begins.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn arrive(&self, arrival: Arrival) -> Result<(), Gone> {
        self.send(Command::Arrive(Box::new(arrival))).await
    }

    /// A host says what it has and lacks.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn condition(
        &self,
        host: HostId,
        session: u64,
        condition: Condition,
    ) -> Result<(), Gone> {
        self.send(Command::Condition(host, session, Box::new(condition))).await
    }

    /// A host reports.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn report(&self, host: HostId, session: u64, report: Report) -> Result<(), Gone> {
        self.send(Command::Report(host, session, Box::new(report))).await
    }

    /// A host asks for a permit.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn permit(
        &self,
        host: HostId,
        session: u64,
        request: PermitRequest,
    ) -> Result<(), Gone> {
        self.send(Command::Permit(host, session, Box::new(request))).await
    }

    /// A host has used a permit or gives it back.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn permit_done(&self, host: HostId, nonce: [u8; 16]) -> Result<(), Gone> {
        self.send(Command::PermitDone(host, nonce)).await
    }

    /// A session is over.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn leave(&self, host: HostId, session: u64) -> Result<(), Gone> {
        self.send(Command::Leave(host, session)).await
    }

    async fn send(&self, command: Command) -> Result<(), Gone> {
        self.commands.send(command).await.map_err(|_| Gone)
    }
}
