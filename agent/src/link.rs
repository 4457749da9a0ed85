//! The one long-lived connection to the coordinator: says hello, carries messages both ways, beats when
//! idle, and comes back with the waits that the coordinator set. Judges nothing that it carries.

use std::sync::Arc;
use std::time::Duration;

use groundswell_common::codec::WIRE_VERSION;
use groundswell_common::condition::Condition;
use groundswell_common::limits::{HEARTBEAT_SECS, HEARTBEATS_MISSED_MAX};
use groundswell_common::report::Report;
use groundswell_common::trust::Envelope;
use groundswell_common::wire::{
    Backoff, DirectiveMessage, Hello, LEVEL_CONDITIONS, PermitAnswer, PermitRequest, ToAgent,
    ToCoordinator, Welcome,
};
use groundswell_net::{
    FrameReader, FrameWriter, Framed, NetError, Retry, TlsClient, connect, tls::agreed_level,
};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::contact::Notes;
use crate::identity::Tls;

const CONNECT: Duration = Duration::from_secs(10);
const SEND: Duration = Duration::from_secs(10);
/// Waits before the coordinator has said otherwise.
const WAITS: Backoff = Backoff { base_ms: 500, cap_ms: 15_000 };
/// Messages that may wait in either direction.
pub(crate) const QUEUE_MAX: usize = 32;

/// What the driver wants said. Reports go another way, since only the newest counts.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// Asks for a permit.
    Ask(PermitRequest),
    /// Returns a permit.
    Done {
        /// Its nonce.
        nonce: [u8; 16],
        /// Whether the live tree was switched under it.
        used: bool,
    },
}

/// What the host says of itself: the newest alone counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// What it runs and does.
    pub(crate) report: Arc<Report>,
    /// What it has and lacks; `None` from an apply side that does not say it.
    pub(crate) condition: Option<Arc<Condition>>,
}

/// What was heard.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// A session stands.
    Welcome(Box<Welcome>),
    /// A directive, unchecked.
    Directive(Box<DirectiveMessage>),
    /// Reports up to here are safe.
    Ack(u64),
    /// An answer to a question for a permit, unchecked.
    Permit(Box<PermitAnswer>),
    /// What the host is told of itself and of the way to the coordinator, unchecked; and the address of the
    /// session.
    Told(Box<Envelope>, String),
    /// The session is over.
    Lost,
}

/// How to connect. A change ends the connection and opens another.
#[derive(Clone)]
pub(crate) struct Access {
    /// `HOST:PORT`, tried in this order.
    pub(crate) addresses: Vec<String>,
    pub(crate) tls: Tls,
    pub(crate) hello: Hello,
}

/// The hello of this agent.
pub(crate) fn hello(host_name: groundswell_common::HostName, root_version: u64) -> Hello {
    let agent_version = env!("CARGO_PKG_VERSION").to_owned();
    Hello { agent_version, host_name, root_version, wire_version: WIRE_VERSION }
}

/// The driver's ends of the link.
pub(crate) struct Ends {
    pub(crate) access: watch::Receiver<Access>,
    pub(crate) says: mpsc::Receiver<Say>,
    pub(crate) said: watch::Receiver<Option<Said>>,
    pub(crate) heard: mpsc::Sender<Heard>,
    pub(crate) notes: Notes,
}

/// How a session ended that did not fail.
enum Ended {
    /// The other end, or the driver, is gone; or it is made anew.
    Closed,
    /// The coordinator sent us away.
    SentAway {
        /// What it said.
        why: String,
    },
}

/// Keeps the connection for as long as the driver listens.
pub(crate) async fn run(mut ends: Ends) {
    let mut retry = Retry::new(WAITS);
    let mut last_shown = String::new();
    ends.notes.lost("it has just started, and has yet to connect");
    while !ends.heard.is_closed() {
        let access = ends.access.borrow_and_update().clone();
        let mut least = Duration::ZERO;
        let ended = session(&mut ends, access, &mut retry, &mut least).await;
        let shown = match &ended {
            Ok(Ended::Closed) => "the coordinator closed it".to_owned(),
            Ok(Ended::SentAway { why }) => format!("the coordinator sends us away: {why}"),
            Err(Trouble(why)) => why.clone(),
        };
        ends.notes.lost(&shown);
        // The same trouble is said once, not at every try.
        if shown == last_shown {
            tracing::debug!(why = shown, "no connection to the coordinator");
        } else {
            tracing::warn!(
                why = shown,
                "no connection to the coordinator; what runs keeps running"
            );
            last_shown = shown;
        }
        if ends.heard.send(Heard::Lost).await.is_err() {
            return;
        }
        let wait = retry.next_wait().max(least);
        tokio::select! {
            () = sleep(wait) => {}
            () = ends.heard.closed() => return,
        }
        while ends.says.try_recv().is_ok() {}
    }
}

/// What a session failed of, the cause first where it is a clock.
pub(crate) fn trouble(error: &NetError) -> String {
    let chain = groundswell_common::chain(error);
    error.untimely().map_or(chain.clone(), |untimely| format!("{untimely} ({chain})"))
}

/// What a session failed of, for people.
struct Trouble(String);

impl From<NetError> for Trouble {
    fn from(error: NetError) -> Self {
        Self(trouble(&error))
    }
}

/// Connects to the first address that can be reached.
async fn reach(access: &Access) -> Result<(TlsClient, String), Trouble> {
    let mut ends = Vec::new();
    for address in &access.addresses {
        match connect(address, access.tls.clone(), CONNECT).await {
            Ok(stream) => return Ok((stream, address.clone())),
            Err(error) => ends.push(trouble(&error)),
        }
    }
    Err(Trouble(ends.join("; ")))
}

type Reader = FrameReader<ReadHalf<TlsClient>>;
type Writer = FrameWriter<WriteHalf<TlsClient>>;

async fn session(
    ends: &mut Ends,
    access: Access,
    retry: &mut Retry,
    least: &mut Duration,
) -> Result<Ended, Trouble> {
    let (stream, address) = reach(&access).await?;
    let conditions = agreed_level(&stream) >= LEVEL_CONDITIONS;
    let (mut reader, mut writer) = Framed::new(stream, address.clone()).split();
    writer.send(&ToCoordinator::Hello(access.hello), SEND).await?;
    let beat = match reader.recv::<ToAgent>(CONNECT).await? {
        Some(ToAgent::Welcome(welcome)) => {
            retry.set(welcome.backoff);
            retry.reset();
            let beat = Duration::from_secs(welcome.heartbeat_secs.clamp(1, 3_600));
            if ends.heard.send(Heard::Welcome(Box::new(welcome))).await.is_err() {
                return Ok(Ended::Closed);
            }
            beat
        }
        Some(ToAgent::Farewell(farewell)) => {
            *least = Duration::from_millis(farewell.retry_after_ms.min(3_600_000));
            return Ok(Ended::SentAway { why: farewell.why });
        }
        Some(
            ToAgent::Directive(_)
            | ToAgent::ReportAck { .. }
            | ToAgent::Permit(_)
            | ToAgent::Beat
            | ToAgent::Told(_)
            | ToAgent::Twin { .. },
        )
        | None => return Ok(Ended::Closed),
    };
    tracing::info!("connected to the coordinator");
    ends.notes.connected();
    ends.said.mark_changed();
    let mut sent = Sent { address, conditions, last: None };
    Ok(talk(ends, (&mut reader, &mut writer), (beat, &mut sent), least).await?)
}

async fn talk(
    ends: &mut Ends,
    (reader, writer): (&mut Reader, &mut Writer),
    (beat, sent): (Duration, &mut Sent),
    least: &mut Duration,
) -> Result<Ended, NetError> {
    let misses = u32::try_from(HEARTBEATS_MISSED_MAX).unwrap_or(3);
    let (mut heard_at, mut said_at) = (Instant::now(), Instant::now());
    loop {
        let patience = (heard_at + beat * misses).saturating_duration_since(Instant::now());
        tokio::select! {
            heard = reader.recv::<ToAgent>(patience) => {
                heard_at = Instant::now();
                let heard = heard.map_err(|error| error.waited(beat * misses))?;
                let Some(message) = heard else { return Ok(Ended::Closed) };
                match pass_on(ends, (message, &sent.address), least).await {
                    None => continue,
                    Some(ended) => return Ok(ended),
                }
            }
            changed = ends.said.changed() => {
                if changed.is_err() {
                    return Ok(Ended::Closed);
                }
                let said = ends.said.borrow_and_update().clone();
                let Some(said) = said else { continue };
                sent.send(writer, said).await?;
            }
            say = ends.says.recv() => match say {
                None => return Ok(Ended::Closed),
                Some(Say::Ask(request)) => {
                    writer.send(&ToCoordinator::PermitRequest(request), SEND).await?;
                }
                Some(Say::Done { nonce, used }) => {
                    writer.send(&ToCoordinator::PermitDone { nonce, used }, SEND).await?;
                }
            },
            _ = ends.access.changed() => return Ok(Ended::Closed),
            () = sleep_until(said_at + beat) => {
                writer.send(&ToCoordinator::Beat, SEND).await?;
            }
        }
        said_at = Instant::now();
    }
}

/// What was said in this session.
struct Sent {
    /// Where the coordinator was reached.
    address: String,
    /// Whether the coordinator takes conditions.
    conditions: bool,
    last: Option<Said>,
}

impl Sent {
    /// Says what is new, a condition before the report that it explains.
    async fn send(&mut self, writer: &mut Writer, said: Said) -> Result<(), NetError> {
        let before = self.last.take();
        let condition = said.condition.as_ref().filter(|_| self.conditions);
        let had = before.as_ref().and_then(|before| before.condition.as_ref());
        if let Some(condition) = condition.filter(|condition| had != Some(condition)) {
            writer.send(&ToCoordinator::Condition((**condition).clone()), SEND).await?;
        }
        if before.is_none_or(|before| before.report != said.report) {
            writer.send(&ToCoordinator::Report((*said.report).clone()), SEND).await?;
        }
        self.last = Some(said);
        Ok(())
    }
}

/// Hands a message to the driver; how the session ended, where it has.
async fn pass_on(
    ends: &mut Ends,
    (message, address): (ToAgent, &str),
    least: &mut Duration,
) -> Option<Ended> {
    let heard = match message {
        ToAgent::Welcome(welcome) => Heard::Welcome(Box::new(welcome)),
        ToAgent::Directive(directive) => Heard::Directive(Box::new(directive)),
        ToAgent::ReportAck { seq } => Heard::Ack(seq),
        ToAgent::Permit(answer) => Heard::Permit(Box::new(answer)),
        ToAgent::Told(told) => Heard::Told(Box::new(told), address.to_owned()),
        ToAgent::Beat => return None,
        ToAgent::Twin { there } => {
            ends.notes.twin(there);
            return None;
        }
        ToAgent::Farewell(farewell) => {
            *least = Duration::from_millis(farewell.retry_after_ms.min(3_600_000));
            return Some(Ended::SentAway { why: farewell.why });
        }
    };
    ends.heard.send(heard).await.err().map(|_| Ended::Closed)
}

const _: () = assert!(HEARTBEAT_SECS > 0);

#[cfg(test)]
mod tests;
