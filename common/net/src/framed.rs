//! Framed connections: one message a frame, a deadline on every send and receive.

use std::io;
use std::time::Duration;

use groundswell_common::codec::{CodecError, from_frame, to_frame};
use groundswell_common::wire::{FrameError, FrameParser, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use crate::dial::Tries;
use crate::plain::{When, plain};

/// Bytes read at once, on the stack of the reading task: an idle connection holds no buffer.
const READ_BYTES: usize = 2 * 1024;

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
    /// A name that the resolver does not know.
    #[error("find {peer}; is the name right, and does this machine's resolver know it?")]
    LookUp {
        /// `HOST:PORT`.
        peer: String,
        /// What the resolver says.
        #[source]
        source: io::Error,
    },
    /// No address of the peer takes a connection.
    #[error("connect to {peer}")]
    Reach {
        /// `HOST:PORT`.
        peer: String,
        /// What each address ended with.
        #[source]
        source: Tries,
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

impl NetError {
    /// The same error after a wait that began earlier: a deadline that counts down says how long the
    /// whole wait was, not what was left of it.
    #[must_use]
    pub fn waited(self, whole: Duration) -> Self {
        match self {
            Self::Deadline { peer, .. } => Self::Deadline { peer, millis: whole.as_millis() },
            Self::Io { .. }
            | Self::LookUp { .. }
            | Self::Reach { .. }
            | Self::Address(_)
            | Self::Frame { .. }
            | Self::Codec { .. } => self,
        }
    }
}

async fn within<T>(
    peer: &str,
    deadline: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, NetError> {
    let failed = |error| NetError::Io { peer: peer.to_owned(), source: plain(error, When::Talk) };
    match timeout(deadline, work).await {
        Ok(done) => done.map_err(failed),
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
    let until = Instant::now() + deadline;
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
        let left = until.saturating_duration_since(Instant::now());
        let read = within(peer, left, stream.read(&mut buffer)).await;
        let count = read.map_err(|error| error.waited(deadline))?;
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
