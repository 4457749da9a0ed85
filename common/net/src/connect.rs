//! Making a connection: each address of a name gets its turn, with or without TLS on top.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::dial::{Address, Dial, Tries, late};
use crate::framed::NetError;
use crate::plain::{When, plain};

/// How long the handshake with one address may take while others are left to be tried.
const HANDSHAKE: Duration = Duration::from_secs(2);

/// A TLS connection made by [`connect`].
pub type TlsClient = tokio_rustls::client::TlsStream<TcpStream>;

/// Connects over TLS to `address` (`HOST:PORT`), the certificate being checked against HOST. Of a name
/// with many addresses each gets its turn within the deadline (docs/wire-protocol.md, W1.6).
///
/// # Errors
/// [`NetError`]; nothing is left open.
pub async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
    deadline: Duration,
) -> Result<TlsClient, NetError> {
    let to = parse(address)?;
    let dial = look_up(address, &to, deadline).await?;
    open(address, &to, dial, config).await
}

async fn open(
    address: &str,
    to: &Address,
    mut dial: Dial,
    config: Arc<ClientConfig>,
) -> Result<TlsClient, NetError> {
    let bad = |_| NetError::Address(address.to_owned());
    let name = ServerName::try_from(to.host.clone()).map_err(bad)?;
    let mut tries = Tries::of(address);
    while let Some((at, stream)) = dial.next(&mut tries).await {
        let connector = TlsConnector::from(Arc::clone(&config));
        let handshake = async {
            stream.set_nodelay(true)?;
            connector.connect(name.clone(), stream).await
        };
        let began = Instant::now();
        let patience =
            if dial.is_over() { dial.until() } else { dial.until().min(began + HANDSHAKE) };
        match timeout_at(patience, handshake).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => tries.failed(at, plain(error, When::Handshake)),
            Err(_) => tries.failed(at, late(began.elapsed())),
        }
    }
    Err(NetError::Reach { peer: address.to_owned(), source: tries })
}

/// Connects to `address` (`HOST:PORT`) without TLS, its addresses getting their turns as in [`connect`].
///
/// # Errors
/// [`NetError`]; nothing is left open.
pub async fn connect_plain(address: &str, deadline: Duration) -> Result<TcpStream, NetError> {
    let to = parse(address)?;
    let mut tries = Tries::of(address);
    match look_up(address, &to, deadline).await?.next(&mut tries).await {
        Some((_, stream)) => Ok(stream),
        None => Err(NetError::Reach { peer: address.to_owned(), source: tries }),
    }
}

fn parse(address: &str) -> Result<Address, NetError> {
    Address::parse(address).ok_or_else(|| NetError::Address(address.to_owned()))
}

async fn look_up(address: &str, to: &Address, deadline: Duration) -> Result<Dial, NetError> {
    let at = |source| NetError::LookUp { peer: address.to_owned(), source };
    Dial::look_up(to, deadline).await.map_err(at)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::tls::client_config;

    const SOON: Duration = Duration::from_secs(20);

    async fn listener(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address).await.expect("bind");
        let at = listener.local_addr().expect("address");
        (listener, at)
    }

    /// A listener whose queue is full: the kernel drops what else wants to connect, as a firewall does.
    async fn dead() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v6().expect("socket");
        socket.bind("[::1]:0".parse().expect("address")).expect("bind");
        let listener = socket.listen(1).expect("listen");
        let address = listener.local_addr().expect("address");
        let mut queue = Vec::new();
        let short = Duration::from_millis(500);
        while let Ok(stream) = tokio::time::timeout(short, TcpStream::connect(address)).await {
            queue.push(stream.expect("the queue has room"));
        }
        (address, listener, queue)
    }

    #[tokio::test]
    async fn a_dead_address_costs_a_moment_and_not_the_whole_deadline() {
        let (dead, _listener, _queue) = dead().await;
        let (_good, good) = listener("127.0.0.1:0").await;
        let mut tries = Tries::of("coordinator:7443");
        let mut dial = Dial::to(vec![dead, good], SOON);
        let (reached, _stream) = dial.next(&mut tries).await.expect("the good one");
        assert_eq!(reached, good, "{tries}");
        assert!(tries.last().is_none(), "the dead one was left, not waited for: {tries}");
    }

    #[tokio::test]
    async fn when_no_address_answers_each_is_named_with_its_end() {
        let (dead, _listener, _queue) = dead().await;
        let (closed, refused) = listener("127.0.0.1:0").await;
        drop(closed);
        let mut tries = Tries::of("coordinator:7443");
        let mut dial = Dial::to(vec![dead, refused], Duration::from_millis(600));
        assert!(dial.next(&mut tries).await.is_none());
        let text = tries.to_string();
        assert!(text.starts_with(&format!("{refused}: Connection refused")), "{text}");
        assert!(text.contains(&format!("; {dead}: no answer within ")), "{text}");
    }

    #[tokio::test]
    async fn an_address_that_takes_the_connection_and_never_speaks_leaves_time_for_the_next() {
        let (_deaf, deaf) = listener("[::1]:0").await;
        let (other, good) = listener("127.0.0.1:0").await;
        let serve = tokio::spawn(async move {
            let (mut stream, _) = other.accept().await.expect("accept");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("answer");
            stream
        });
        let to = parse("coordinator:7443").expect("address");
        let dial = Dial::to(vec![deaf, good], SOON);
        let config = client_config(&[], None).expect("client");
        let error = open("coordinator:7443", &to, dial, config).await.expect_err("no TLS");
        let text = groundswell_common::chain(&error);
        let want = format!("connect to coordinator:7443: {deaf}: no answer within ");
        assert!(text.starts_with(&want), "{text}");
        let want = format!("; {good}: the other end speaks no TLS; is it the right port?");
        assert!(text.ends_with(&want), "{text}");
        drop(serve.await);
    }
}
