//! Ports for the demo's processes, all on the loopback address.

use std::net::{Ipv4Addr, TcpListener};

/// Ports tried: below those that Linux hands out to outgoing connections (32768 and up), so that no
/// connection of the demo itself takes one before its owner listens.
const FIRST: u16 = 20_000;
/// Ports tried, counted from [`FIRST`].
const COUNT: u16 = 12_000;

/// Why there are no ports.
#[derive(Debug, thiserror::Error)]
#[error("find {wanted} free ports between 20000 and 32000 on 127.0.0.1; end what listens there")]
pub(super) struct NoPorts {
    wanted: usize,
}

/// Distance of the first tries of two demos that start one after the other: more than one takes.
const APART: u32 = 101;

/// `wanted` ports that nobody listens on now, in an order that differs from process to process.
pub(super) fn free(wanted: usize) -> Result<Vec<u16>, NoPorts> {
    let start =
        u16::try_from(std::process::id().wrapping_mul(APART) % u32::from(COUNT)).unwrap_or(0);
    let candidates = (0..COUNT).map(|step| FIRST + (start + step) % COUNT);
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = candidates.filter(is_free).take(wanted).collect();
    if ports.len() == wanted { Ok(ports) } else { Err(NoPorts { wanted }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_free() {
        let ports = free(20).expect("ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), 20);
        // Whoever else looks for ports on this machine may try one of them at the same moment.
        let hold = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).ok();
        let held = ports.iter().find_map(hold).expect("one of them can be had");
        let port = held.local_addr().expect("its address").port();
        assert!(!free(20).expect("ports").contains(&port), "a port in use is not given");
        drop(held);
        assert!(free(usize::from(COUNT) + 1).is_err());
    }
}
