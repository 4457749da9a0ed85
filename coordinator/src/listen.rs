//! The three listeners: agents over mutual TLS, the API over TLS, blobs over plain HTTP. They accept at
//! once, bound connections and handshakes by number and time, and hand each connection on.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use groundswell_common::chain;
use groundswell_common::wire::level_of;
use groundswell_net::Peer;
use groundswell_net::tls::ServerConfig;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::api::Caller;
use crate::sessions::{self, Shared};

/// Time for a TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Time for the head of an HTTP request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at once; more wait for their turn, already accepted.
const HANDSHAKES_MAX: usize = 512;
/// Pause after a failed accept, which means that the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections on one listener.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    name: &'static str,
    places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl Door {
    /// A door for at most `places` connections at once.
    #[must_use]
    pub fn new(
        name: &'static str,
        listener: TcpListener,
        places: usize,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { listener, name, places: Arc::new(Semaphore::new(places)), stop }
    }

    /// The next connection and its place; `None` when the process stops.
    async fn next(&mut self) -> Option<(TcpStream, String, OwnedSemaphorePermit)> {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(listener = self.name, %error, "cannot accept; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                tracing::warn!(listener = self.name, %address, "all places are taken; refused");
                continue;
            };
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%address, %error, "cannot set TCP_NODELAY");
            }
            return Some((stream, address.to_string(), place));
        }
    }
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

    async fn shake(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        timeout(HANDSHAKE_DEADLINE, self.acceptor.accept(stream)).await?
    }
}

/// Serves agents until the process stops.
pub async fn agents(mut door: Door, config: Arc<ServerConfig>, shared: Arc<Shared>) {
    let hands = Hands::new(config);
    while let Some((stream, address, place)) = door.next().await {
        let (hands, shared) = (hands.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let _place = place;
            // The handshake's state is gone before the session begins: an idle agent must be light.
            let Some((stream, peer)) = Box::pin(admit(&hands, stream, &address)).await else {
                return;
            };
            let level = level_of(stream.get_ref().1.alpn_protocol());
            let who = (peer, address.clone(), level);
            if let Err(error) = sessions::run(&shared, stream, who).await {
                tracing::info!(%address, error = chain(&error), "an agent's session ended");
            }
        });
    }
}

async fn admit(
    hands: &Hands,
    stream: TcpStream,
    address: &str,
) -> Option<(TlsStream<TcpStream>, Option<Peer>)> {
    let stream = match hands.shake(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(address, %error, "no handshake");
            return None;
        }
    };
    match Peer::from_certificates(stream.get_ref().1.peer_certificates()) {
        Ok(peer) => Some((stream, peer)),
        Err(error) => {
            tracing::info!(address, %error, "refused a certificate");
            None
        }
    }
}

/// Serves the API until the process stops.
pub async fn api(mut door: Door, config: Arc<ServerConfig>, router: Router) {
    let hands = Hands::new(config);
    while let Some((stream, address, place)) = door.next().await {
        let (hands, router) = (hands.clone(), router.clone());
        tokio::spawn(async move {
            let _place = place;
            let Some((stream, peer)) = admit(&hands, stream, &address).await else { return };
            let caller = peer.map_or(Caller::Nobody, Caller::Peer);
            http(stream, router.layer(Extension(caller)), &address).await;
        });
    }
}

/// Serves blobs until the process stops.
pub async fn blobs(mut door: Door, router: Router) {
    while let Some((stream, address, place)) = door.next().await {
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
