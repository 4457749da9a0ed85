//! Hosts with a real systemd on a private network, and the faults real hosts suffer.
//!
//! Each host is a container of systemd-nspawn with a disk image, a control group and a network
//! namespace of its own; `/usr` is the machine's, read-only. The run's own network namespace is the
//! switch, with a leg of its own at [`SWITCH_ADDRESS`]: a coordinator started by the test listens
//! there. Everything lives in the namespaces of [`crate::private`] and ends with the test.

mod agent;
mod base;
mod bed;
mod host;
mod net;

pub use agent::{boot_with_agent, configure, enrol, finish, install_agent, install_units};
pub use bed::{Bed, bed};
pub use host::{CutFlag, Host};
pub use net::SWITCH_ADDRESS;
