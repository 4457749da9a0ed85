//! Framed connections: one message a frame, a deadline on every send and receive.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use groundswell_common::codec::{CodecError, from_frame, to_frame};
use groundswell_common::wire::{FrameError, FrameParser, frame};
use rustls_pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

/// Bytes read at once, on the stack of the reading task: an idle connection holds no buffer.
const READ_BYTES: usize = 2 * 1024;

/// A TLS connection made by [`connect`].
pub type TlsClient = tokio_rustls::client::TlsStream<TcpStream>;

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The peer cannot be reached, or closed the connection.
    #[error("reach {peer}")]
    Io {
        /// `HOST:PORT`, or what is known of the peer.
        peer: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// No answer within the deadline.
    #[error("hear from {peer} within {millis} ms")]
    Deadline {
        /// `HOST:PORT`, or what is known of the peer.
        peer: String,
        /// The deadline.
        millis: u128,
    },
    /// The address is no `HOST:PORT` with a name or address that certificates can carry.
    #[error("read the address {0:?}: want HOST:PORT")]
    Address(String),
    /// Bytes that are no frame.
    #[error("read from {peer}")]
    Frame {
        /// What is known of the peer.
        peer: String,
        /// The defect.
        #[source]
        source: FrameError,
    },
    /// A frame that is no message, or a message that makes no frame.
    #[error("understand {peer}")]
    Codec {
        /// What is known of the peer.
        peer: String,
        /// The defect.
        #[source]
        source: CodecError,
    },
}

/// Connects over TLS to `address` (`HOST:PORT`), the certificate being checked against HOST.
///
/// # Errors
/// [`NetError`]; nothing is left open.
pub async fn connect(
    address: &str,
    config: Arc<ClientConfig>,
    deadline: Duration,
) -> Result<TlsClient, NetError> {
    let bad = || NetError::Address(address.to_owned());
    let (host, _) = address.rsplit_once(':').ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare).map_err(|_| bad())?;
    let open = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(name, stream).await
    };
    within(address, deadline, open).await
}

async fn within<T>(
    peer: &str,
    deadline: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, NetError> {
    match timeout(deadline, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(NetError::Io { peer: peer.to_owned(), source }),
        Err(_) => Err(NetError::Deadline { peer: peer.to_owned(), millis: deadline.as_millis() }),
    }
}

/// A stream that carries messages both ways.
#[derive(Debug)]
pub struct Framed<S> {
    stream: S,
    peer: String,
    rest: Vec<u8>,
    parser: FrameParser,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framed<S> {
    /// Frames `stream`; `peer` is what errors call the other end.
    #[must_use]
    pub fn new(stream: S, peer: impl Into<String>) -> Self {
        Self { stream, peer: peer.into(), rest: Vec::new(), parser: FrameParser::default() }
    }

    /// Sends one message.
    ///
    /// # Errors
    /// [`NetError`]; after one the connection is of no use.
    pub async fn send<T: Serialize>(
        &mut self,
        message: &T,
        deadline: Duration,
    ) -> Result<(), NetError> {
        let bytes = encode(&self.peer, message)?;
        let stream = &mut self.stream;
        within(&self.peer, deadline, async move {
            stream.write_all(&bytes).await?;
            stream.flush().await
        })
        .await
    }

    /// Receives one message; `None` when the peer has closed between two frames. May be dropped
    /// and called again without losing bytes.
    ///
    /// # Errors
    /// [`NetError`]; after one the connection is of no use.
    pub async fn recv<T: DeserializeOwned>(
        &mut self,
        deadline: Duration,
    ) -> Result<Option<T>, NetError> {
        let parts = (&mut self.stream, &mut self.rest, &mut self.parser);
        recv(&self.peer, parts, deadline).await
    }

    /// Parts it into a reader and a writer for two tasks or one `select!`.
    pub fn split(
        self,
    ) -> (FrameReader<tokio::io::ReadHalf<S>>, FrameWriter<tokio::io::WriteHalf<S>>) {
        let (read, write) = tokio::io::split(self.stream);
        let peer = self.peer.clone();
        let reader =
            FrameReader { stream: read, peer: self.peer, rest: self.rest, parser: self.parser };
        (reader, FrameWriter { stream: write, peer })
    }
}

/// The reading half of a [`Framed`].
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: R,
    peer: String,
    rest: Vec<u8>,
    parser: FrameParser,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// As [`Framed::recv`].
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn recv<T: DeserializeOwned>(
        &mut self,
        deadline: Duration,
    ) -> Result<Option<T>, NetError> {
        let parts = (&mut self.stream, &mut self.rest, &mut self.parser);
        recv(&self.peer, parts, deadline).await
    }
}

/// The writing half of a [`Framed`].
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: W,
    peer: String,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// As [`Framed::send`].
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn send<T: Serialize>(
        &mut self,
        message: &T,
        deadline: Duration,
    ) -> Result<(), NetError> {
        let bytes = encode(&self.peer, message)?;
        let stream = &mut self.stream;
        within(&self.peer, deadline, async move {
            stream.write_all(&bytes).await?;
            stream.flush().await
        })
        .await
    }

    /// Closes the writing side in order.
    ///
    /// # Errors
    /// [`NetError`].
    pub async fn close(&mut self, deadline: Duration) -> Result<(), NetError> {
        within(&self.peer, deadline, self.stream.shutdown()).await
    }
}

fn encode<T: Serialize>(peer: &str, message: &T) -> Result<Vec<u8>, NetError> {
    let body =
        to_frame(message).map_err(|source| NetError::Codec { peer: peer.to_owned(), source })?;
    frame(&body).map_err(|source| NetError::Frame { peer: peer.to_owned(), source })
}

async fn recv<R: AsyncRead + Unpin, T: DeserializeOwned>(
    peer: &str,
    (stream, rest, parser): (&mut R, &mut Vec<u8>, &mut FrameParser),
    deadline: Duration,
) -> Result<Option<T>, NetError> {
    let until = tokio::time::Instant::now() + deadline;
    loop {
        let mut input = rest.as_slice();
        let found = parser
            .take(&mut input)
            .map_err(|source| NetError::Frame { peer: peer.to_owned(), source })?;
        *rest = if input.is_empty() { Vec::new() } else { input.to_vec() };
        if let Some(body) = found {
            return from_frame(&body)
                .map(Some)
                .map_err(|source| NetError::Codec { peer: peer.to_owned(), source });
        }
        let mut buffer = [0; READ_BYTES];
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let count = match within(peer, left, stream.read(&mut buffer)).await {
            Err(NetError::Deadline { peer, .. }) => {
                return Err(NetError::Deadline { peer, millis: deadline.as_millis() });
            }
            other => other?,
        };
        if count == 0 {
            let source = io::Error::from(io::ErrorKind::UnexpectedEof);
            return if parser.is_between_frames() {
                Ok(None)
            } else {
                Err(NetError::Io { peer: peer.to_owned(), source })
            };
        }
        rest.extend_from_slice(&buffer[..count]);
    }
}
