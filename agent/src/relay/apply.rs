//! The apply side's end of the socket: listens, lets in the network side's user alone, one session at a time,
//! and hands what comes to the driver, which believes none of it.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use groundswell_common::chain;
use groundswell_common::trust::Envelope;
use groundswell_net::{FrameReader, FrameWriter, Framed, NetError};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::depot::{Order, RelayDepot, Session};
use super::message::{
    BEAT, Begin, FETCHES_MAX, Open, SEND, SILENCE, ToApply, ToNet, WHY_MAX_BYTES,
};
use crate::durable::{self, Fault, at};
use crate::layout::Layout;
use crate::link::{Heard, QUEUE_MAX, Said, Say};
use crate::text::head;
use crate::told::Places;

/// What the other end is called in errors.
const PEER: &str = "the network side";
/// Pause after a connection that was refused, or could not be taken.
const REFUSED: Duration = Duration::from_millis(200);

/// The listening socket.
pub(crate) struct Gate {
    listener: UnixListener,
    /// The network side's directory: its owner is the one user that is let in.
    net: PathBuf,
}

impl Gate {
    /// Opens the socket for whoever owns the network side's directory, and nobody else. Until its mode is
    /// set only our own user could connect.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) fn open(layout: &Layout, socket: &Path) -> Result<Self, Fault> {
        // One that a killed process left behind.
        durable::remove(socket)?;
        let listener = UnixListener::bind(socket).map_err(at("listen on", socket))?;
        let mode = std::fs::Permissions::from_mode(0o660);
        std::fs::set_permissions(socket, mode).map_err(at("set the mode of", socket))?;
        Ok(Self { listener, net: layout.net().to_owned() })
    }

    /// Who may connect is looked up each time: the directory may be made, or given away, after the start.
    fn lets_in(&self, user: u32) -> Result<bool, Fault> {
        let dir = std::fs::metadata(&self.net).map_err(at("look at", &self.net))?;
        Ok(dir.uid() == user)
    }

    async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => match stream.peer_cred() {
                    Ok(peer) => match self.lets_in(peer.uid()) {
                        Ok(true) => return stream,
                        Ok(false) => {
                            tracing::warn!(uid = peer.uid(), "a user that may not connect");
                        }
                        Err(fault) => tracing::warn!(error = %chain(&fault), "who may connect?"),
                    },
                    Err(error) => tracing::warn!(%error, "who connects cannot be told"),
                },
                Err(error) => tracing::warn!(%error, "a connection cannot be taken"),
            }
            sleep(REFUSED).await;
        }
    }
}

/// The driver's ends of the socket.
pub(crate) struct Ends {
    says: mpsc::Receiver<Say>,
    said: watch::Receiver<Option<Said>>,
    root: watch::Receiver<Envelope>,
    places: watch::Receiver<Places>,
    heard: mpsc::Sender<Heard>,
    session: watch::Sender<Session>,
}

impl Ends {
    /// The ends that belong to a driver's, and the depot that goes with them.
    pub(crate) fn new(
        layout: Layout,
        (says, said): (mpsc::Receiver<Say>, watch::Receiver<Option<Said>>),
        (root, places, heard): (
            watch::Receiver<Envelope>,
            watch::Receiver<Places>,
            mpsc::Sender<Heard>,
        ),
    ) -> (Self, RelayDepot) {
        let (depot, session) = RelayDepot::new(layout);
        (Self { says, said, root, places, heard, session }, depot)
    }
}

/// Takes one session after another for as long as the driver listens; `blobs` is the base that enrolment said.
pub(crate) async fn run(gate: Gate, blobs: String, mut ends: Ends) {
    let mut newer = true;
    loop {
        let stream = tokio::select! {
            stream = gate.accept() => stream,
            () = ends.heard.closed() => return,
        };
        tracing::info!("the network side is here");
        let (ended, heard) = session(stream, (&blobs, newer), &mut ends).await;
        // A network side of a build before hangs up on what it does not know, without a word.
        newer = heard || !newer;
        ends.session.send_replace(None);
        let why = ended.err().map_or_else(|| "it closed the socket".to_owned(), |e| chain(&e));
        tracing::warn!(why, "the network side is gone; what runs keeps running");
        if ends.heard.send(Heard::Lost).await.is_err() {
            return;
        }
        // What was to be said is void with the session.
        while ends.says.try_recv().is_ok() {}
    }
}

/// Fetches that were asked for in a session.
#[derive(Default)]
struct Wanted(Mutex<BTreeMap<u64, oneshot::Sender<Option<String>>>>);

impl Wanted {
    fn take(&self, number: u64) -> Option<oneshot::Sender<Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    /// Notes a fetch; gives the answer's end back when there are too many.
    fn put(
        &self,
        number: u64,
        answer: oneshot::Sender<Option<String>>,
    ) -> Option<oneshot::Sender<Option<String>>> {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.retain(|_, answer| !answer.is_closed());
        if wanted.len() >= FETCHES_MAX {
            return Some(answer);
        }
        wanted.insert(number, answer);
        None
    }
}

/// Runs one session to its end; also says whether anything was heard in it.
async fn session(
    stream: UnixStream,
    (blobs, newer): (&str, bool),
    ends: &mut Ends,
) -> (Result<(), NetError>, bool) {
    let mut heard = false;
    let ended = talk(stream, (blobs, newer), ends, &mut heard).await;
    (ended, heard)
}

async fn talk(
    stream: UnixStream,
    (blobs, newer): (&str, bool),
    ends: &mut Ends,
    anything: &mut bool,
) -> Result<(), NetError> {
    let (mut reader, mut writer) = Framed::new(stream, PEER).split();
    let root = ends.root.borrow_and_update().clone();
    let (places, blobs) = (ends.places.borrow_and_update().clone(), blobs.to_owned());
    let first = if newer {
        ToNet::Begin(Begin { places, blobs, root })
    } else {
        let one = |addresses: Vec<String>| addresses.into_iter().next().unwrap_or_default();
        let (name, agents, api) = (places.name, one(places.agents), one(places.api));
        ToNet::Open(Open { name, agents, api, blobs, root })
    };
    writer.send(&first, SEND).await?;
    ends.said.mark_changed();
    let (orders_sender, mut orders) = mpsc::channel(QUEUE_MAX);
    ends.session.send_replace(Some(orders_sender));
    let (wanted, heard) = (Wanted::default(), ends.heard.clone());
    // Neither direction waits for the other, so two full buffers cannot hold each other up.
    tokio::select! {
        ended = hear(&mut reader, &heard, &wanted, anything) => ended,
        ended = tell(&mut writer, (ends, newer), &mut orders, &wanted) => ended,
    }
}

/// Takes what comes, until the session ends.
async fn hear(
    reader: &mut FrameReader<ReadHalf<UnixStream>>,
    heard: &mpsc::Sender<Heard>,
    wanted: &Wanted,
    anything: &mut bool,
) -> Result<(), NetError> {
    while let Some(message) = reader.recv::<ToApply>(SILENCE).await? {
        *anything = true;
        let message = match message {
            ToApply::Welcome(welcome) => Heard::Welcome(Box::new(welcome)),
            ToApply::Directive(directive) => Heard::Directive(Box::new(directive)),
            ToApply::Ack(seq) => Heard::Ack(seq),
            ToApply::Permit(answer) => Heard::Permit(Box::new(answer)),
            ToApply::Told(told, used) => Heard::Told(Box::new(told), used),
            ToApply::Lost => Heard::Lost,
            ToApply::Fetched { number, failure } => {
                let why =
                    failure.map(|why| head(&why, WHY_MAX_BYTES).replace(char::is_control, " "));
                if let Some(answer) = wanted.take(number) {
                    // Who no longer waits no longer wants it.
                    drop(answer.send(why));
                }
                continue;
            }
            ToApply::Beat => continue,
        };
        if heard.send(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Says what there is to say, until the session ends.
async fn tell(
    writer: &mut FrameWriter<WriteHalf<UnixStream>>,
    (ends, newer): (&mut Ends, bool),
    orders: &mut mpsc::Receiver<Order>,
    wanted: &Wanted,
) -> Result<(), NetError> {
    let mut last: Option<Said> = None;
    loop {
        let beat_at = Instant::now() + BEAT;
        let message = tokio::select! {
            changed = ends.said.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let said = ends.said.borrow_and_update().clone();
                let Some(said) = said else { continue };
                let before = last.replace(said.clone());
                let had = before.as_ref().and_then(|before| before.condition.as_ref());
                let condition = said.condition.as_ref().filter(|_| newer);
                if let Some(condition) = condition.filter(|condition| had != Some(condition)) {
                    writer.send(&ToNet::Condition((**condition).clone()), SEND).await?;
                }
                if before.as_ref().is_some_and(|before| before.report == said.report) {
                    continue;
                }
                ToNet::Report((*said.report).clone())
            }
            changed = ends.root.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                ToNet::Root(ends.root.borrow_and_update().clone())
            }
            changed = ends.places.changed(), if newer => {
                if changed.is_err() {
                    return Ok(());
                }
                ToNet::Places(ends.places.borrow_and_update().clone())
            }
            say = ends.says.recv() => match say {
                Some(Say::Ask(request)) => ToNet::Ask(request),
                Some(Say::Done { nonce, used }) => ToNet::Done { nonce, used },
                None => return Ok(()),
            },
            order = orders.recv() => match order {
                Some(Order::Fetch { number, digest, limit_bytes, answer }) => {
                    if let Some(answer) = wanted.put(number, answer) {
                        drop(answer.send(Some("too many blobs at once".to_owned())));
                        continue;
                    }
                    ToNet::Fetch { number, digest, limit_bytes }
                }
                // What has ended needs no word.
                Some(Order::Stop { number }) => match wanted.take(number) {
                    Some(_) => ToNet::Stop { number },
                    None => continue,
                },
                Some(Order::Discard(digest)) => ToNet::Discard(digest),
                Some(Order::Clear) => ToNet::Clear,
                None => return Ok(()),
            },
            () = sleep_until(beat_at) => ToNet::Beat,
        };
        writer.send(&message, SEND).await?;
    }
}
