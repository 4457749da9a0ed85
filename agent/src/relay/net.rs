//! The network side's end of the socket: connects, and for as long as a session stands runs the link to the
//! coordinator and the fetches of the apply side. Keeps nothing from one session to the next.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use groundswell_common::condition::Condition;
use groundswell_common::trust::Envelope;
use groundswell_common::wire::{Backoff, LEVEL_CONDITIONS, LEVEL_NEWEST};
use groundswell_common::{Digest, chain};
use groundswell_net::{FrameReader, FrameWriter, Framed, NetError, Retry};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::message::{
    BEAT, Begin, FETCHES_MAX, Open, SEND, SILENCE, ToApply, ToNet, WHY_MAX_BYTES,
};
use crate::access::Keeper;
use crate::cancel;
use crate::contact::Notes;
use crate::fetch::HttpDepot;
use crate::identity::{Credentials, IdentityError};
use crate::layout::Layout;
use crate::link::{self, Heard, QUEUE_MAX, Said, Say};
use crate::live::Live;
use crate::ports::Depot as _;
use crate::text::head;
use crate::told::Places;

/// What the other end is called in errors.
const PEER: &str = "the apply side";
/// Between tries to reach the apply side, which is on the same host.
const WAITS: Backoff = Backoff { base_ms: 100, cap_ms: 5_000 };
const CONNECT: Duration = Duration::from_secs(10);

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    /// The socket failed, or the apply side says what nobody understands.
    #[error(transparent)]
    Net(#[from] NetError),
    /// Key, certificate and root that make no connection.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Serves the apply side for ever.
pub(crate) async fn run(layout: Layout, socket: &Path, settings: Live) {
    let mut retry = Retry::new(WAITS);
    let mut last_shown = String::new();
    loop {
        let began = Instant::now();
        let ended = match connect(socket).await {
            Ok(stream) => session(stream, &layout, settings.clone()).await,
            Err(error) => Err(error.into()),
        };
        let why = match ended {
            Err(error @ SessionError::Identity(_)) => {
                format!("this host cannot say who it is, enrol it again: {}", chain(&error))
            }
            Err(error @ SessionError::Net(_)) => {
                format!("the apply side is away: {}", chain(&error))
            }
            Ok(()) => "the apply side is away: it closed the socket".to_owned(),
        };
        // The same trouble is said once, not at every try.
        if why != last_shown {
            tracing::warn!(why, "nothing is asked or fetched meanwhile");
            Notes::new(&layout).lost(&why);
            last_shown = why;
        }
        if began.elapsed() > Duration::from_millis(WAITS.cap_ms) {
            retry.reset();
        }
        sleep(retry.next_wait()).await;
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, NetError> {
    let peer = || format!("{PEER} at {}", socket.display());
    let late = || NetError::Deadline { peer: peer(), millis: CONNECT.as_millis() };
    let connected = timeout(CONNECT, UnixStream::connect(socket)).await.map_err(|_| late())?;
    connected.map_err(|source| NetError::Io { peer: peer(), source })
}

async fn session(stream: UnixStream, layout: &Layout, settings: Live) -> Result<(), SessionError> {
    let (mut reader, mut writer) = Framed::new(stream, PEER).split();
    // Anything else is a peer of another version: it closes.
    let (begin_with, level) = match reader.recv::<ToNet>(CONNECT).await? {
        // What is above that side's own level is for this one alone.
        Some(ToNet::Begin(begin)) => (begin, LEVEL_NEWEST),
        // A side of a build before: it must not hear what it does not know.
        Some(ToNet::Open(Open { name, agents, api, blobs, root })) => {
            let places = Places { name, agents: vec![agents], api: vec![api], number: 0 };
            (Begin { places, blobs, root }, LEVEL_CONDITIONS)
        }
        Some(_) | None => return Ok(()),
    };
    let depot = Arc::new(HttpDepot::new(layout.clone(), &begin_with.blobs, Some(settings)));
    // Dropped with the session, it ends all that was started for it.
    let mut tasks = JoinSet::new();
    let (fetched_sender, mut fetched) = mpsc::channel(FETCHES_MAX);
    let (mut side, mut heard) =
        begin((begin_with, level), layout, &mut tasks, (depot.clone(), fetched_sender))?;
    tracing::info!("the apply side is here");
    // Neither direction waits for the other, so two full buffers cannot hold each other up.
    tokio::select! {
        ended = side.hear(&mut reader) => ended?,
        ended = tell(&mut writer, (&mut heard, &mut fetched), &depot) => ended?,
    }
    Ok(())
}

/// What the apply side moves.
struct Side {
    root: watch::Sender<Envelope>,
    places: watch::Sender<Places>,
    said: watch::Sender<Option<Said>>,
    condition: Option<Arc<Condition>>,
    says: mpsc::Sender<Say>,
    depot: Arc<HttpDepot>,
    fetches: JoinSet<()>,
    under_way: BTreeMap<u64, AbortHandle>,
    fetched: mpsc::Sender<ToApply>,
}

/// Starts the link and what keeps its access.
fn begin(
    (begin, level): (Begin, u8),
    layout: &Layout,
    tasks: &mut JoinSet<()>,
    (depot, fetched): (Arc<HttpDepot>, mpsc::Sender<ToApply>),
) -> Result<(Side, mpsc::Receiver<Heard>), IdentityError> {
    let (root, newest) = watch::channel(begin.root);
    let (places, places_seen) = watch::channel(begin.places);
    let mut keeper = Keeper {
        layout: layout.clone(),
        places: places_seen,
        level,
        credentials: Credentials::load(layout)?,
        root: newest,
    };
    let (access_sender, access) = watch::channel(keeper.access()?);
    tasks.spawn(keeper.run(access_sender));
    let (said, sayings) = watch::channel(None);
    let (says, asked) = mpsc::channel(QUEUE_MAX);
    let (heard_sender, heard) = mpsc::channel(QUEUE_MAX);
    let notes = Notes::new(layout);
    let ends = link::Ends { access, says: asked, said: sayings, heard: heard_sender, notes };
    tasks.spawn(link::run(ends));
    let (fetches, under_way) = (JoinSet::new(), BTreeMap::new());
    let condition = None;
    Ok((Side { root, places, said, condition, says, depot, fetches, under_way, fetched }, heard))
}

impl Side {
    /// Takes what comes, until the session ends.
    async fn hear(
        &mut self,
        reader: &mut FrameReader<ReadHalf<UnixStream>>,
    ) -> Result<(), NetError> {
        while let Some(message) = reader.recv::<ToNet>(SILENCE).await? {
            match message {
                ToNet::Root(root) => drop(self.root.send_replace(root)),
                ToNet::Places(places) => drop(self.places.send_replace(places)),
                ToNet::Condition(condition) => {
                    let condition = Some(Arc::new(condition));
                    self.condition.clone_from(&condition);
                    // Before the first report there is nothing to explain.
                    self.said.send_if_modified(|said| {
                        let said = said.as_mut();
                        said.map(|said| said.condition = condition).is_some()
                    });
                }
                ToNet::Report(report) => {
                    let (report, condition) = (Arc::new(report), self.condition.clone());
                    self.said.send_replace(Some(Said { report, condition }));
                }
                ToNet::Ask(request) => self.say(Say::Ask(request)),
                ToNet::Done { nonce, used } => self.say(Say::Done { nonce, used }),
                ToNet::Fetch { number, digest, limit_bytes } => {
                    self.fetch(number, digest, limit_bytes);
                }
                ToNet::Stop { number } => {
                    if let Some(fetch) = self.under_way.remove(&number) {
                        fetch.abort();
                    }
                }
                ToNet::Discard(digest) => self.depot.discard(&digest),
                ToNet::Clear => self.clear(),
                ToNet::Beat => {}
                // Once is enough: a second one is a peer that has lost its way.
                ToNet::Open(_) | ToNet::Begin(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn say(&self, say: Say) {
        if self.says.try_send(say).is_err() {
            tracing::debug!("the link is busy; the next session settles it");
        }
    }

    fn fetch(&mut self, number: u64, digest: Digest, limit_bytes: u64) {
        self.tidy();
        let (depot, fetched) = (self.depot.clone(), self.fetched.clone());
        let work = async move {
            let (_keep, never) = cancel::switch();
            let brought = depot.fetch(&digest, limit_bytes, &never).await;
            let failure = brought.err().map(|error| head(&chain(&error), WHY_MAX_BYTES).to_owned());
            drop(fetched.send(ToApply::Fetched { number, failure }).await);
        };
        self.under_way.insert(number, self.fetches.spawn(work));
    }

    /// Forgets fetches that have ended.
    fn tidy(&mut self) {
        while self.fetches.try_join_next().is_some() {}
        self.under_way.retain(|_, fetch| !fetch.is_finished());
    }

    fn clear(&mut self) {
        self.tidy();
        // One has begun meanwhile: its file must stay.
        if !self.under_way.is_empty() {
            return;
        }
        if let Err(fault) = self.depot.clear() {
            tracing::warn!(error = %chain(&fault), "blobs stay in the spool");
        }
    }
}

/// Says what there is to say, until the session ends.
async fn tell(
    writer: &mut FrameWriter<WriteHalf<UnixStream>>,
    (heard, fetched): (&mut mpsc::Receiver<Heard>, &mut mpsc::Receiver<ToApply>),
    depot: &HttpDepot,
) -> Result<(), NetError> {
    loop {
        let beat_at = Instant::now() + BEAT;
        let message = tokio::select! {
            heard = heard.recv() => match heard {
                Some(Heard::Welcome(welcome)) => {
                    depot.set_base(&welcome.blobs);
                    ToApply::Welcome(*welcome)
                }
                Some(Heard::Directive(directive)) => ToApply::Directive(*directive),
                Some(Heard::Ack(seq)) => ToApply::Ack(seq),
                Some(Heard::Permit(answer)) => ToApply::Permit(*answer),
                Some(Heard::Told(told, used)) => ToApply::Told(*told, used),
                Some(Heard::Lost) => ToApply::Lost,
                None => return Ok(()),
            },
            done = fetched.recv() => match done {
                Some(done) => done,
                None => return Ok(()),
            },
            () = sleep_until(beat_at) => ToApply::Beat,
        };
        writer.send(&message, SEND).await?;
    }
}
