//! What an admin wants for one service: its values, how they are read from TOML, and what may be wrong
//! with a text. Never looks at hosts.

mod fault;
mod read;
mod values;

pub use fault::{PolicyError, PolicyFault};
pub use values::*;
