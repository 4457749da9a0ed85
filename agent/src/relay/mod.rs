//! The socket between the two processes of an agent: the network side, which talks to the coordinator and
//! fetches, and the apply side, which verifies, stages, switches and probes. Carries what one process passes
//! by channels (docs/agent.md A9). To the apply side, everything that comes over it is outside data.

mod apply;
mod depot;
mod message;
mod net;

pub(crate) use apply::{Ends, Gate, run as apply};
pub(crate) use net::run as net;

#[cfg(test)]
mod tests;
