//! What agent and coordinator say to each other: length-prefixed frames and versioned messages.
//! The specification is docs/wire-protocol.md.

mod frame;
mod message;

pub use frame::{FRAME_HEAD_BYTES, FrameError, FrameParser, frame};
pub use message::{
    ALPN_CONDITIONS, ALPN_REMOVES, ALPN_TWINS, Backoff, Deny, DirectiveMessage, Farewell, Hello,
    LEVEL_CONDITIONS, LEVEL_FIRST, LEVEL_NEWEST, LEVEL_REMOVES, LEVEL_TWINS, PermitAnswer,
    PermitRequest, ReleaseProof, ToAgent, ToCoordinator, Welcome, alpn_names, level_of,
};
