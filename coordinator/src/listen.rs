//! The three listeners: agents over mutual TLS, the API over TLS, blobs over plain HTTP. They accept at
//! once, bound connections by number and by who is there, and handshakes by number and time, and hand each
//! connection on.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use groundswell_common::chain;
use groundswell_common::trust::PublicKey;
use groundswell_common::wire::level_of;
use groundswell_net::tls::ServerConfig;
use groundswell_net::{Peer, PeerRole};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::api::{ApiError, Caller};
use crate::places::{Place, Places};
use crate::sessions::{self, Shared};

/// Time for a TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Time for the head of an HTTP request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Time for a connection to the API that shows no certificate: an enrolment is a moment.
const STRANGER_DEADLINE: Duration = Duration::from_secs(30);
/// Handshakes at once; more wait for their turn, already accepted.
const HANDSHAKES_MAX: usize = 512;
/// Connections to one listener that have shown no certificate yet, or show none.
pub(crate) const STRANGERS_MAX: usize = 1_024;
/// Of these, as many from one address.
const STRANGERS_OF_ONE_MAX: usize = STRANGERS_MAX / 4;
/// A stranger that has been there for longer makes room for a newcomer.
const STRANGER_PATIENCE: Duration = Duration::from_secs(1);
/// Connections of one agent's key: the one that ends, the one that begins, and those of a copied machine.
const OF_ONE_AGENT_MAX: usize = 4;
/// What one operator may take of the API, and one address of the blobs: one of so many parts.
const OPERATOR_PART: usize = 4;
const ADDRESS_PART: usize = 2;
/// Pause after a failed accept, which means that the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Refusals are logged once in this time, with their number.
const REFUSALS_EVERY: Duration = Duration::from_secs(10);

/// Accepts connections on one listener.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    name: &'static str,
    most: usize,
    stop: watch::Receiver<bool>,
    refused: Refusals,
}

/// How many were refused since that was logged.
#[derive(Debug, Default)]
struct Refusals {
    number: u64,
    logged: Option<Instant>,
}

impl Refusals {
    fn one_more(&mut self, listener: &str, address: &str, why: &str) {
        self.number += 1;
        if self.logged.is_none_or(|logged| logged.elapsed() >= REFUSALS_EVERY) {
            tracing::warn!(listener, address, refused = self.number, "{why}; refused");
            (self.number, self.logged) = (0, Some(Instant::now()));
        }
    }
}

impl Door {
    /// A door for at most `most` connections at once that have a certificate, or need none.
    #[must_use]
    pub fn new(
        name: &'static str,
        listener: TcpListener,
        most: usize,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { listener, name, most, stop, refused: Refusals::default() }
    }

    /// The next connection with its place among `places`, of which one address may hold `each`; `None` when the
    /// process stops.
    async fn next(&mut self, places: &Places<IpAddr>, each: usize) -> Option<Accepted> {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            };
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address),
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot accept; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = places.take(network(address.ip()), each, Instant::now());
            let address = address.to_string();
            let Some(place) = place else {
                self.refused.one_more(self.name, &address, "all places are taken");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%address, %error, "cannot set TCP_NODELAY");
            }
            return Some(Accepted { stream, address, place });
        }
    }
}

/// A connection, and its place.
struct Accepted {
    stream: TcpStream,
    address: String,
    place: Place<IpAddr>,
}

/// Whom an address stands for: itself, or the network of 64 bits that one machine may choose its addresses in.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn strangers() -> Places<IpAddr> {
    Places::new(STRANGERS_MAX, Some(STRANGER_PATIENCE))
}

/// Shakes hands, a bounded number at once and each within its time.
#[derive(Clone)]
struct Hands {
    acceptor: TlsAcceptor,
    turns: Arc<Semaphore>,
}

impl Hands {
    fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            acceptor: TlsAcceptor::from(config),
            turns: Arc::new(Semaphore::new(HANDSHAKES_MAX)),
        }
    }

    /// Whoever says nothing waits without a turn.
    async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        timeout(HANDSHAKE_DEADLINE, stream.readable()).await??;
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        timeout(HANDSHAKE_DEADLINE, self.acceptor.accept(stream)).await?
    }
}

/// Serves agents until the process stops.
pub async fn agents(mut door: Door, config: Arc<ServerConfig>, shared: Arc<Shared>) {
    let (hands, strangers) = (Hands::new(config), strangers());
    let places = Places::new(door.most, None);
    while let Some(accepted) = door.next(&strangers, STRANGERS_OF_ONE_MAX).await {
        let (hands, shared, places) = (hands.clone(), Arc::clone(&shared), places.clone());
        tokio::spawn(async move {
            let address = accepted.address.clone();
            // The handshake's state is gone before the session begins: an idle agent must be light.
            let Some(Admitted { stream, peer, place }) = Box::pin(admit(&hands, accepted)).await
            else {
                return;
            };
            let Some(_place) = peer.as_ref().and_then(|peer| place_of(&places, door.most, peer))
            else {
                tracing::warn!(%address, "all places are taken, or all of this host; refused");
                return;
            };
            drop(place);
            let level = level_of(stream.get_ref().1.alpn_protocol());
            let who = (peer, address.clone(), level);
            if let Err(error) = sessions::run(&shared, stream, who).await {
                tracing::info!(%address, error = chain(&error), "an agent's session ended");
            }
        });
    }
}

/// The place of a connection whose other end has shown who it is.
fn place_of(places: &Places<PublicKey>, most: usize, peer: &Peer) -> Option<Place<PublicKey>> {
    let each = match peer.role {
        PeerRole::Agent(_) => OF_ONE_AGENT_MAX,
        PeerRole::Operator(_) => (most / OPERATOR_PART).max(1),
    };
    places.take(peer.key, each, Instant::now())
}

/// A connection after its handshake. It keeps the place of a stranger until it has one of its own.
struct Admitted {
    stream: TlsStream<TcpStream>,
    peer: Option<Peer>,
    place: Place<IpAddr>,
}

async fn admit(hands: &Hands, accepted: Accepted) -> Option<Admitted> {
    let Accepted { stream, address, mut place } = accepted;
    let shaken = tokio::select! {
        shaken = hands.shake(stream) => shaken,
        () = place.given_up() => Err(io::Error::other("it took its time while others waited")),
    };
    let stream = match shaken {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(address, %error, "no handshake");
            return None;
        }
    };
    match Peer::from_certificates(stream.get_ref().1.peer_certificates()) {
        Ok(peer) => Some(Admitted { stream, peer, place }),
        Err(error) => {
            tracing::info!(address, %error, "refused a certificate");
            None
        }
    }
}

/// Serves the API until the process stops.
pub async fn api(mut door: Door, config: Arc<ServerConfig>, router: Router) {
    let (hands, strangers) = (Hands::new(config), strangers());
    let places = Places::new(door.most, None);
    while let Some(accepted) = door.next(&strangers, STRANGERS_OF_ONE_MAX).await {
        let (hands, router, places) = (hands.clone(), router.clone(), places.clone());
        tokio::spawn(async move {
            let address = accepted.address.clone();
            let Some(Admitted { stream, peer, mut place }) = admit(&hands, accepted).await else {
                return;
            };
            let own = peer.as_ref().and_then(|peer| place_of(&places, door.most, peer));
            let router = match (peer, &own) {
                (None, _) => router.layer(Extension(Caller::Nobody)),
                (Some(peer), Some(_)) => router.layer(Extension(Caller::Peer(peer))),
                (Some(_), None) => Router::new().fallback(async || ApiError::no_place()),
            };
            let served = http(stream, router, &address);
            if own.is_some() {
                drop(place);
                return served.await;
            }
            tokio::select! {
                _ = timeout(STRANGER_DEADLINE, served) => {}
                () = place.given_up() => {}
            }
        });
    }
}

/// Serves blobs until the process stops.
pub async fn blobs(mut door: Door, router: Router) {
    let places = Places::new(door.most, None);
    let each = (door.most / ADDRESS_PART).max(1);
    while let Some(Accepted { stream, address, place }) = door.next(&places, each).await {
        let router = router.clone();
        tokio::spawn(async move {
            let _place = place;
            http(stream, router, &address).await;
        });
    }
}

async fn http<S>(stream: S, router: Router, address: &str)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(address, %error, "an HTTP connection ended");
    }
}
