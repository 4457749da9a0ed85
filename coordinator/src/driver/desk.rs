//! What the driver works on: the view, who is connected, what is not durable yet. All steps go through
//! [`Desk::submit`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use groundswell_common::condition::Condition;
use groundswell_common::directive::{Action, RawDirective};
use groundswell_common::time::Clock;
use groundswell_common::wire::ReleaseProof;
use groundswell_common::{HostId, ReleaseId, RolloutId, ServiceName, Timestamp};
use groundswell_rollout::{Input, Transition};
use tokio::time::Instant;

use super::permits::Permits;
use super::refused::Refused;
use super::seats::{Answer, Arrival, Seats, Wish, Word};
use crate::entry::{By, Entry, What};
use crate::ledger::{PAYLOAD_MAX_BYTES, Reader};
use crate::view::{Applied, View};

/// Times of entries that are kept in memory; older ones are read from the ledger.
const TIMES_MAX: usize = 65_536;
/// Facts that one standing may give at once.
const FACTS_PER_STANDING_MAX: usize = 8;

/// What runs once a change is durable.
pub(super) type Finish = Box<dyn FnOnce(&mut Desk) + Send>;

/// When the reply to a change may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// As soon as it is durable.
    Durable,
    /// Once no permit of this rollout's service is outstanding any more.
    NoPermits(RolloutId),
}

/// The driver's state.
pub struct Desk {
    pub(super) view: View,
    pub(super) seats: Seats,
    pub(super) permits: Permits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) reader: Reader,
    pub(super) root_version: u64,
    /// Payloads of entries that are applied and not durable.
    pub(super) pending: Vec<Vec<u8>>,
    /// Hosts whose wish must be computed again.
    pub(super) stale: BTreeSet<HostId>,
    pub(super) all_stale: bool,
    /// Answers that may go out once what is pending is durable.
    pub(super) answers: Vec<(HostId, u64, Answer)>,
    pub(super) transitions: Vec<(RolloutId, Transition)>,
    /// Services where a release may be waiting for the end of a rollout.
    pub(super) waiting: BTreeSet<ServiceName>,
    times: BTreeMap<u64, Timestamp>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desk(seq {}, {} seats)", self.view.seq, self.seats.seats.len())
    }
}

impl Desk {
    pub(super) fn new(
        view: View,
        (clock, reader): (Arc<dyn Clock>, Reader),
        root_version: u64,
    ) -> Self {
        Self {
            view,
            seats: Seats::default(),
            permits: Permits::new(Instant::now()),
            clock,
            reader,
            root_version,
            pending: Vec::new(),
            stale: BTreeSet::new(),
            all_stale: false,
            answers: Vec::new(),
            transitions: Vec::new(),
            waiting: BTreeSet::new(),
            times: BTreeMap::new(),
        }
    }

    /// What the ledger adds up to.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What a host said last.
    #[must_use]
    pub fn word(&self, host: &HostId) -> Option<&Word> {
        self.seats.words.get(host)
    }

    /// Whether a host is connected.
    #[must_use]
    pub fn is_connected(&self, host: &HostId) -> bool {
        self.seats.is_connected(host)
    }

    /// Hosts connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.seats.seats.len()
    }

    /// Whether permits are still withheld after the start.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.permits.is_starting(Instant::now())
    }

    /// Applies one decision; it becomes durable at the end of the batch.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub fn submit(&mut self, by: By, what: What) -> Result<u64, Refused> {
        let seq = self.view.seq + 1;
        let at = self.view.at.map_or(self.now(), |before| before.max(self.now()));
        let entry = Entry { seq, at, by, what };
        let payload = entry.to_payload().map_err(Refused::Json)?;
        if payload.len() > PAYLOAD_MAX_BYTES {
            return Err(Refused::EntryTooLarge(payload.len()));
        }
        let applied = self.view.apply(&entry)?;
        self.pending.push(payload);
        self.times.insert(seq, at);
        if self.times.len() > TIMES_MAX {
            self.times.pop_first();
        }
        self.note(&entry.what, applied);
        Ok(seq)
    }

    /// Keeps what must be done about an entry once it is durable.
    fn note(&mut self, what: &What, applied: Applied) {
        self.all_stale |= applied.all_hosts;
        self.stale.extend(applied.hosts);
        let (What::RolloutInput { rollout, .. }, Some(effects)) = (what, applied.effects) else {
            return;
        };
        let over = self.view.rollout(rollout).filter(|rollout| rollout.is_over());
        if let Some(over) = over.filter(|_| !effects.transitions.is_empty()) {
            self.waiting.insert(over.plan().service.clone());
        }
        let transitions = effects.transitions.into_iter();
        self.transitions.extend(transitions.map(|transition| (rollout.clone(), transition)));
    }

    pub(super) fn rollout_input(
        &mut self,
        by: By,
        rollout: &RolloutId,
        input: Input,
    ) -> Result<u64, Refused> {
        self.submit(by, What::RolloutInput { rollout: rollout.clone(), input })
    }

    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let Arrival { host, hello, seat, seen, reply } = arrival;
        let enrolled = self.view.hosts.contains_key(&host);
        if reply.send(enrolled).is_err() || !enrolled {
            return;
        }
        let before = self.seats.words.remove(&host).unwrap_or_default();
        let word = Word { agent_version: hello.agent_version, seen, ..before };
        self.seats.words.insert(host, word);
        self.seats.seats.insert(host, seat);
        self.link_changed(host, true);
        self.stale.insert(host);
    }

    pub(super) fn leave(&mut self, host: HostId, session: u64) {
        if self.seats.is_current(&host, session) {
            self.seats.seats.remove(&host);
            self.link_changed(host, false);
        }
    }

    pub(super) fn link_changed(&mut self, host: HostId, connected: bool) {
        let cares = |rollout: &&groundswell_rollout::Rollout| {
            groundswell_rollout::cares_about_link(rollout, &host, connected)
        };
        let rollouts: Vec<RolloutId> =
            self.view.live_rollouts().filter(cares).map(|r| r.id().clone()).collect();
        for rollout in rollouts {
            let input =
                if connected { Input::Connected { host } } else { Input::Disconnected { host } };
            self.submit_or_log(By::Coordinator, &rollout, input);
        }
    }

    /// For inputs that the core itself asked for: a refusal is worth a line, and no more.
    pub(super) fn submit_or_log(&mut self, by: By, rollout: &RolloutId, input: Input) -> bool {
        match self.rollout_input(by, rollout, input) {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%rollout, %error, "a rollout refused an input");
                false
            }
        }
    }

    pub(super) fn condition(&mut self, (host, session): (HostId, u64), condition: Condition) {
        if !self.seats.is_current(&host, session) {
            return;
        }
        if let Some(word) = self.seats.words.get_mut(&host) {
            word.condition = Some(condition);
        }
    }

    pub(super) fn report(
        &mut self,
        (host, session): (HostId, u64),
        report: groundswell_common::report::Report,
    ) {
        if !self.seats.is_current(&host, session) {
            return;
        }
        for standing in &report.services {
            for _ in 0..FACTS_PER_STANDING_MAX {
                let found = self.live_of(&standing.service).into_iter().find_map(|id| {
                    let rollout = self.view.rollout(&id)?;
                    let fact =
                        groundswell_rollout::fact(rollout, &host, standing, report.generation)?;
                    Some((id, fact))
                });
                let Some((rollout, fact)) = found else { break };
                if !self.submit_or_log(By::Host(host), &rollout, Input::Host { host, fact }) {
                    break;
                }
            }
        }
        self.answers.push((host, session, Answer::Ack(report.seq)));
        if let Some(word) = self.seats.words.get_mut(&host) {
            word.report = Some(report);
        }
    }

    /// Rollouts of a service that are kept whole, the newest first.
    fn live_of(&self, service: &ServiceName) -> Vec<RolloutId> {
        let rollouts = self.view.services.get(service).map(|service| &service.rollouts);
        let newest = rollouts.into_iter().flatten().rev();
        newest.take_while(|id| self.view.rollout(id).is_some()).cloned().collect()
    }

    /// Gives each connected host with a stale wish its new one.
    pub(super) fn push_wishes(&mut self) {
        let stale = std::mem::take(&mut self.stale);
        let hosts: Vec<HostId> = if std::mem::take(&mut self.all_stale) {
            self.seats.seats.keys().copied().collect()
        } else {
            stale.into_iter().filter(|host| self.seats.is_connected(host)).collect()
        };
        for host in hosts {
            let Some(wish) = self.wish(&host) else {
                // The host was removed: its session ends.
                self.seats.seats.remove(&host);
                continue;
            };
            if let Some(seat) = self.seats.seats.get(&host) {
                seat.wish.send_replace(Some(Arc::new(wish)));
            }
        }
    }

    /// What the host should be now; `None` where it is not enrolled.
    fn wish(&mut self, host: &HostId) -> Option<Wish> {
        let environment = self.view.hosts.get(host)?.environment.clone();
        let (services, generation) = self.view.wishes(host);
        let mut releases = BTreeSet::new();
        for wish in &services {
            releases.extend(named(&wish.action));
        }
        let proof = |release: &ReleaseId| {
            let found = self.view.releases.get(release)?;
            Some(ReleaseProof {
                release: *release,
                signatures: found.published.signatures.clone(),
                approvals: found.approvals.clone(),
            })
        };
        let proofs = releases.iter().filter_map(proof).collect();
        let issued = self.entry_time(generation)?.as_secs();
        let root_version = self.root_version;
        let raw =
            RawDirective { host: *host, environment, generation, issued, root_version, services };
        Some(Wish { raw, proofs })
    }

    /// The time of an entry: the same whenever it is asked for, so that equal wishes are equal bytes.
    fn entry_time(&mut self, seq: u64) -> Option<Timestamp> {
        if let Some(at) = self.times.get(&seq) {
            return Some(*at);
        }
        let entries = match self.reader.read(seq.checked_sub(1)?, 1, PAYLOAD_MAX_BYTES) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(seq, %error, "failed to read an entry of the ledger");
                return None;
            }
        };
        let payload = entries.first()?.payload.as_bytes();
        match Entry::from_payload(seq, payload) {
            Ok(entry) => {
                self.times.insert(seq, entry.at);
                Some(entry.at)
            }
            Err(error) => {
                tracing::error!(seq, %error, "failed to read an entry of the ledger");
                None
            }
        }
    }
}

/// The releases that a host may have to fetch for an action.
fn named(action: &Action) -> Option<ReleaseId> {
    match action {
        Action::Hold {} => None,
        Action::Stage { release } | Action::Switch { release } => Some(*release),
        Action::Revert { to, .. } => *to,
    }
}
