//! Sessions with agents: one connection, one task, an outbox that holds the latest directive only and a
//! bounded queue of answers. Identity comes from the certificate, never from a message. Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use groundswell_common::codec::WIRE_VERSION;
use groundswell_common::limits::HEARTBEATS_MISSED_MAX;
use groundswell_common::time::Clock;
use groundswell_common::trust::{Envelope, RawTold};
use groundswell_common::wire::{
    Backoff, DirectiveMessage, Farewell, Hello, LEVEL_TWINS, PermitAnswer, ToAgent, ToCoordinator,
    Welcome,
};
use groundswell_common::{Fleet, HostId};
use groundswell_net::{FrameReader, FrameWriter, Framed, NetError, Peer, PeerRole};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::driver::{Admission, Answer, Arrival, Gone, Handle, Seat, Wish};
use crate::signer::{Signer, SignerError};

/// Time for the first message, and for each message that is sent.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(5);
/// Answers that may wait for one session.
const ANSWERS_MAX: usize = 8;
/// Roots in one welcome.
const ROOTS_MAX: usize = 16;
/// Milliseconds that a refused host waits at least.
const REFUSED_RETRY_MS: u64 = 60_000;

/// Why a connection is over, where the coordinator stops.
const STOPS: &str =
    "the coordinator stops; what runs keeps running, and the agent connects again by itself";
/// The same, where it does not.
const REPLACED: &str = "this connection is over: another one of this host took its place, the host was taken out of \
                        the fleet, or it did not read its answers; the next connection tells which";

/// What all sessions share.
#[derive(Debug)]
pub struct Shared {
    /// The driver.
    pub handle: Handle,
    /// Signs directives and permits.
    pub signer: Signer,
    /// The fleet whose agents may connect.
    pub fleet: Fleet,
    /// All roots, from version 1 on.
    pub roots: Vec<Envelope>,
    /// Base of the blob URLs.
    pub blobs: String,
    /// Seconds between beats.
    pub heartbeat_secs: u64,
    /// How agents come back.
    pub backoff: Backoff,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Numbers sessions.
    pub sessions: AtomicU64,
    /// Whether the process stops.
    pub stop: watch::Receiver<bool>,
}

/// Why a session ended otherwise than by the agent's wish.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection.
    #[error("talk to the agent")]
    Net(#[source] NetError),
    /// A certificate of another fleet, or not of an agent.
    #[error("admit the agent: its certificate is not that of an agent of this fleet")]
    Identity,
    /// The first message was no greeting.
    #[error("admit the agent: its first message is not Hello")]
    NoHello,
    /// Another version of the protocol.
    #[error("admit the agent: it speaks wire version {0}; update it or the coordinator")]
    Version(u8),
    /// A host that is not enrolled.
    #[error("admit the agent: the host is not enrolled")]
    NotEnrolled,
    /// A second machine with the key of a host that is connected.
    #[error(
        "admit the agent: another machine with its key is connected; enrol one of the two anew"
    )]
    Twin,
    /// A second greeting.
    #[error("talk to the agent: it sent Hello twice")]
    HelloTwice,
    /// No beat in time.
    #[error("talk to the agent: it has been silent too long")]
    Silent,
    /// A directive or permit that cannot be signed.
    #[error("talk to the agent")]
    Sign(#[source] SignerError),
    /// The driver is gone.
    #[error("talk to the agent")]
    Gone(#[source] Gone),
}

struct Session<'a> {
    shared: &'a Shared,
    host: HostId,
    number: u64,
    seen: Arc<AtomicU64>,
    wish: watch::Receiver<Option<Arc<Wish>>>,
    /// What both ends know.
    level: u8,
    /// What it was told last.
    told: Option<RawTold>,
    /// Whether it was told last that another machine uses its key.
    twin: bool,
    answers: mpsc::Receiver<Answer>,
}

/// Runs one session to its end.
///
/// # Errors
/// [`SessionError`].
pub async fn run<S>(
    shared: &Shared,
    stream: S,
    (peer, address, level): (Option<Peer>, String, u8),
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let host = match peer {
        Some(Peer { fleet, role: PeerRole::Agent(host), .. }) if fleet == shared.fleet => host,
        Some(_) | None => return Err(SessionError::Identity),
    };
    let mut framed = Framed::new(stream, address);
    let hello = match framed.recv(MESSAGE_DEADLINE).await.map_err(SessionError::Net)? {
        Some(ToCoordinator::Hello(hello)) => hello,
        Some(
            ToCoordinator::Report(_)
            | ToCoordinator::PermitRequest(_)
            | ToCoordinator::PermitDone { .. }
            | ToCoordinator::Beat
            | ToCoordinator::Condition(_),
        ) => return Err(SessionError::NoHello),
        None => return Ok(()),
    };
    if hello.wire_version != WIRE_VERSION {
        let version = hello.wire_version;
        farewell(&mut framed, "another wire version").await?;
        return Err(SessionError::Version(version));
    }
    let welcome = welcome(shared, &hello);
    let session = match arrive(shared, host, (hello, level)).await? {
        Ok(session) => session,
        Err(Admission::Twin) => {
            let why = "another machine with the key of this host is connected; enrol this one anew";
            farewell(&mut framed, why).await?;
            return Err(SessionError::Twin);
        }
        Err(Admission::NotEnrolled | Admission::Stays) => {
            farewell(&mut framed, "the host is not enrolled; enrol it again").await?;
            return Err(SessionError::NotEnrolled);
        }
    };
    let number = session.number;
    let ended = match framed.send(&ToAgent::Welcome(welcome), MESSAGE_DEADLINE).await {
        Err(source) => Err(SessionError::Net(source)),
        Ok(()) => {
            let (reader, writer) = framed.split();
            session.talk(reader, writer).await
        }
    };
    shared.handle.leave(host, number).await.map_err(SessionError::Gone)?;
    ended
}

async fn arrive<'a>(
    shared: &'a Shared,
    host: HostId,
    (hello, level): (Hello, u8),
) -> Result<Result<Session<'a>, Admission>, SessionError> {
    let (wish_sender, wish) = watch::channel(None);
    let (answer_sender, answers) = mpsc::channel(ANSWERS_MAX);
    let number = shared.sessions.fetch_add(1, Ordering::Relaxed);
    let seen = Arc::new(AtomicU64::new(shared.clock.now().as_millis()));
    let seat = Seat { session: number, wish: wish_sender, answers: answer_sender };
    let (reply, stays) = oneshot::channel();
    let arrival = Arrival { host, hello, level, seat, seen: Arc::clone(&seen), reply };
    shared.handle.arrive(arrival).await.map_err(SessionError::Gone)?;
    Ok(match stays.await.map_err(|_| SessionError::Gone(Gone))? {
        Admission::Stays => {
            let (told, twin) = (None, false);
            Ok(Session { shared, host, number, seen, wish, level, told, twin, answers })
        }
        refused @ (Admission::NotEnrolled | Admission::Twin) => Err(refused),
    })
}

fn welcome(shared: &Shared, hello: &Hello) -> Welcome {
    let known = usize::try_from(hello.root_version).unwrap_or(usize::MAX);
    Welcome {
        heartbeat_secs: shared.heartbeat_secs,
        backoff: shared.backoff,
        blobs: shared.blobs.clone(),
        roots: shared.roots.iter().skip(known).take(ROOTS_MAX).cloned().collect(),
    }
}

async fn farewell<S>(framed: &mut Framed<S>, why: &str) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let message =
        ToAgent::Farewell(Farewell { why: why.to_owned(), retry_after_ms: REFUSED_RETRY_MS });
    framed.send(&message, MESSAGE_DEADLINE).await.map_err(SessionError::Net)
}

impl Session<'_> {
    async fn talk<S>(
        mut self,
        mut reader: FrameReader<ReadHalf<S>>,
        mut writer: FrameWriter<WriteHalf<S>>,
    ) -> Result<(), SessionError>
    where
        S: AsyncRead + AsyncWrite,
    {
        let silence = Duration::from_secs(self.shared.heartbeat_secs * HEARTBEATS_MISSED_MAX);
        let mut heard = Instant::now();
        loop {
            let left = (heard + silence).saturating_duration_since(Instant::now());
            let message = tokio::select! {
                received = reader.recv::<ToCoordinator>(left) => match received {
                    Ok(Some(message)) => {
                        heard = Instant::now();
                        self.seen.store(self.shared.clock.now().as_millis(), Ordering::Relaxed);
                        self.take(message).await?
                    }
                    Ok(None) => return Ok(()),
                    Err(NetError::Deadline { .. }) => return Err(SessionError::Silent),
                    Err(source) => return Err(SessionError::Net(source)),
                },
                changed = self.wish.changed() => match changed {
                    Ok(()) => {
                        for news in [self.told()?, self.twin()].into_iter().flatten() {
                            send(&mut writer, &news).await?;
                        }
                        self.directive()?
                    }
                    Err(_) => {
                        let message = self.over();
                        return send(&mut writer, &message).await;
                    }
                },
                Some(answer) = self.answers.recv() => Some(self.answer(answer)?),
            };
            if let Some(message) = message {
                send(&mut writer, &message).await?;
            }
        }
    }

    /// Takes a message; a beat is answered at once, all else by the driver.
    async fn take(&self, message: ToCoordinator) -> Result<Option<ToAgent>, SessionError> {
        let (handle, host) = (&self.shared.handle, self.host);
        let passed = match message {
            ToCoordinator::Hello(_) => return Err(SessionError::HelloTwice),
            ToCoordinator::Beat => return Ok(Some(ToAgent::Beat)),
            ToCoordinator::Report(report) => handle.report(host, self.number, report).await,
            ToCoordinator::Condition(condition) => {
                handle.condition(host, self.number, condition).await
            }
            ToCoordinator::PermitRequest(request) => {
                handle.permit(host, self.number, request).await
            }
            ToCoordinator::PermitDone { nonce, .. } => handle.permit_done(host, nonce).await,
        };
        passed.map_err(SessionError::Gone)?;
        Ok(None)
    }

    /// What the host should know of itself and of the way here, where that is news.
    fn told(&mut self) -> Result<Option<ToAgent>, SessionError> {
        let told = self.wish.borrow().as_ref().and_then(|wish| wish.told.clone());
        let Some(told) = told.filter(|told| self.told.as_ref() != Some(told)) else {
            return Ok(None);
        };
        let envelope = self.shared.signer.told(&told).map_err(SessionError::Sign)?;
        self.told = Some(told);
        Ok(Some(ToAgent::Told(envelope)))
    }

    /// Whether another machine uses the host's key, where that is news.
    fn twin(&mut self) -> Option<ToAgent> {
        let there = self.wish.borrow().as_ref().is_some_and(|wish| wish.twin);
        let is_news = self.level >= LEVEL_TWINS && there != self.twin;
        self.twin = there;
        is_news.then_some(ToAgent::Twin { there })
    }

    fn directive(&mut self) -> Result<Option<ToAgent>, SessionError> {
        let Some(wish) = self.wish.borrow_and_update().clone() else { return Ok(None) };
        let envelope = self.shared.signer.directive(&wish.raw).map_err(SessionError::Sign)?;
        let proofs = wish.proofs.clone();
        Ok(Some(ToAgent::Directive(DirectiveMessage { envelope, proofs })))
    }

    fn answer(&self, answer: Answer) -> Result<ToAgent, SessionError> {
        Ok(match answer {
            Answer::Ack(seq) => ToAgent::ReportAck { seq },
            Answer::Deny { nonce, deny } => ToAgent::Permit(PermitAnswer::Denied { nonce, deny }),
            Answer::Grant { nonce, permit } => {
                let envelope = self.shared.signer.permit(&permit).map_err(SessionError::Sign)?;
                ToAgent::Permit(PermitAnswer::Granted { nonce, envelope })
            }
        })
    }

    /// The driver has let go of this session: a newer one of the host, or the end of the process.
    fn over(&self) -> ToAgent {
        ToAgent::Farewell(Farewell {
            why: if *self.shared.stop.borrow() { STOPS } else { REPLACED }.to_owned(),
            retry_after_ms: self.shared.backoff.base_ms,
        })
    }
}

async fn send<S>(
    writer: &mut FrameWriter<WriteHalf<S>>,
    message: &ToAgent,
) -> Result<(), SessionError>
where
    S: AsyncWrite,
{
    writer.send(message, MESSAGE_DEADLINE).await.map_err(SessionError::Net)
}
