//! The wire's transport: mutual TLS 1.3, the peer's identity as a type, framed connections with
//! deadlines, backoff. The one crate that names `rustls`. Knows no message and takes no decision.

mod connect;
mod dial;
mod framed;
mod notify;
mod peer;
mod plain;
mod retry;
pub mod tls;
mod untimely;
mod validity;

pub use connect::{TlsClient, connect, connect_plain};
pub use dial::Tries;
pub use framed::{FrameReader, FrameWriter, Framed, NetError};
pub use notify::Notify;
pub use peer::{Peer, PeerError, PeerRole};
pub use plain::meaning;
pub use retry::Retry;
pub use untimely::Untimely;
pub use validity::{Validity, validity};
