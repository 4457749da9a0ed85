//! What the director tells one host of itself and of the way to the coordinator.

use serde::{Deserialize, Serialize};

use super::envelope::Document;
use crate::limits::JSON_INTEGER_MAX;
use crate::name::{HostId, HostName};

/// Addresses of one kind.
pub const ADDRESSES_MAX: usize = 8;
/// Longest address: a name of 253 characters and a port.
const ADDRESS_MAX_BYTES: usize = 260;
/// Largest document, in bytes.
const TOLD_MAX_BYTES: usize = 16 * 1024;

/// What is told, as it stands in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTold {
    /// For whom.
    pub host: HostId,
    /// What people call it now.
    pub name: HostName,
    /// Grows with each change; what has a lower one is old.
    pub number: u64,
    /// `HOST:PORT` for the agent's connection, the one to try first in front.
    pub agents: Vec<String>,
    /// `HOST:PORT` of the API, likewise.
    pub api: Vec<String>,
}

/// Why JSON tells a host nothing.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ToldError {
    /// A number beyond 2^53.
    #[error("check what a host is told: number must be below 2^53")]
    Number,
    /// No address, too many, or what is none.
    #[error("check what a host is told: want 1 to 8 addresses of each kind, HOST:PORT")]
    Addresses,
}

/// What is told, within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told(RawTold);

impl std::ops::Deref for Told {
    type Target = RawTold;

    fn deref(&self) -> &RawTold {
        &self.0
    }
}

impl Document for Told {
    type Raw = RawTold;
    type Invalid = ToldError;
    const TYPE: &'static str = "groundswell.told.v1";
    const MAX_BYTES: usize = TOLD_MAX_BYTES;

    fn check(raw: RawTold) -> Result<Self, ToldError> {
        if raw.number > JSON_INTEGER_MAX {
            return Err(ToldError::Number);
        }
        let fit = |addresses: &Vec<String>| {
            (1..=ADDRESSES_MAX).contains(&addresses.len())
                && addresses.iter().all(|at| is_address(at))
        };
        if fit(&raw.agents) && fit(&raw.api) { Ok(Self(raw)) } else { Err(ToldError::Addresses) }
    }
}

/// Whether a text is `HOST:PORT`, the host being a name, or an address, of version 6 in brackets.
#[must_use]
pub fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let host_fits = match bracketed {
        Some(host) => host.parse::<core::net::Ipv6Addr>().is_ok(),
        None => plain(host),
    };
    text.len() <= ADDRESS_MAX_BYTES && host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["deploy.example:7443", "10.0.0.1:1", "[fd00::1]:7443", "a_b-c:65535"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "deploy.example",
            ":7443",
            "a:0",
            "a:65536",
            "fd00::1:7443",
            "[fd00::1]",
            "[x]:1",
            "a b:1",
            "http://a:1",
            "a:1/",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_told_has_bounds() {
        let raw = |number, agents: usize| RawTold {
            host: HostId::of_key(&[1; 32]),
            name: "web-1".parse().unwrap(),
            number,
            agents: vec!["a:1".to_owned(); agents],
            api: vec!["a:2".to_owned()],
        };
        assert!(Told::check(raw(1, 1)).is_ok());
        assert_eq!(Told::check(raw(u64::MAX, 1)), Err(ToldError::Number));
        for agents in [0, 9] {
            assert_eq!(Told::check(raw(1, agents)), Err(ToldError::Addresses));
        }
    }
}
