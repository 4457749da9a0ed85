//! Connections to a name that may have many addresses: the families take turns, and a next address is
//! tried while the one before has not answered (RFC 8305), all within one deadline. Owns how an address
//! is read and what is said of each that failed.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Wait before the next address is tried as well; the value that RFC 8305 recommends.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// `HOST:PORT`, the host without the brackets of an IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Address {
    /// Reads `NAME:PORT`, `192.0.2.1:PORT` or `[2001:db8::1]:PORT`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let whole = !host.is_empty() && !host.contains(['[', ']', '/', ' ']);
        whole.then_some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// What became of each address that was tried, in the order in which they failed.
#[derive(Debug, Default)]
pub struct Tries {
    name: String,
    failed: Vec<(SocketAddr, io::Error)>,
}

impl Tries {
    pub(crate) fn of(name: &str) -> Self {
        Self { name: name.to_owned(), failed: Vec::new() }
    }

    pub(crate) fn failed(&mut self, address: SocketAddr, error: io::Error) {
        self.failed.push((address, error));
    }

    /// The error that the last address ended with.
    #[must_use]
    pub fn last(&self) -> Option<&io::Error> {
        self.failed.last().map(|(_, error)| error)
    }
}

impl fmt::Display for Tries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (address, error)) in self.failed.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            let address = address.to_string();
            if address == self.name {
                write!(f, "{error}")?;
            } else {
                write!(f, "{address}: {error}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Tries {}

impl Tries {
    /// What each address ended with.
    pub(crate) fn errors(&self) -> impl Iterator<Item = &io::Error> {
        self.failed.iter().map(|(_, error)| error)
    }
}

/// Addresses that are still to be tried, and when each that is under way began.
pub(crate) struct Dial {
    left: VecDeque<SocketAddr>,
    until: Instant,
    began: Instant,
}

impl Dial {
    /// Looks the name up.
    ///
    /// # Errors
    /// What the resolver says, or [`io::ErrorKind::TimedOut`].
    pub(crate) async fn look_up(address: &Address, deadline: Duration) -> io::Result<Self> {
        let until = Instant::now() + deadline;
        let found = match address.host.parse::<IpAddr>() {
            Ok(literal) => vec![SocketAddr::new(literal, address.port)],
            Err(_) => {
                let host = (address.host.as_str(), address.port);
                timeout_at(until, lookup_host(host)).await.map_err(|_| late(deadline))??.collect()
            }
        };
        if found.is_empty() {
            let text = "the name has no address";
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        Ok(Self::to(found, until.saturating_duration_since(Instant::now())))
    }

    /// These addresses, in the resolver's order.
    pub(crate) fn to(found: Vec<SocketAddr>, deadline: Duration) -> Self {
        let began = Instant::now();
        Self { left: take_turns(found), until: began + deadline, began }
    }

    /// Until when all addresses together may be tried.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Whether an address is left to be tried.
    pub(crate) fn is_over(&self) -> bool {
        self.left.is_empty() || Instant::now() >= self.until
    }

    /// The first address that takes the connection; the failed ones and it are tried no more.
    /// `None` when none did, `tries` then saying why.
    pub(crate) async fn next(&mut self, tries: &mut Tries) -> Option<(SocketAddr, TcpStream)> {
        let mut under_way = JoinSet::new();
        let mut open: Vec<SocketAddr> = Vec::new();
        let mut queue = self.left.clone();
        let mut next_at = Instant::now();
        loop {
            let turn = Instant::now() >= next_at || under_way.is_empty();
            if let Some(address) = queue.front().copied().filter(|_| turn) {
                queue.pop_front();
                open.push(address);
                under_way.spawn(async move { (address, TcpStream::connect(address).await) });
                next_at = Instant::now() + NEXT_ADDRESS;
            }
            if under_way.is_empty() {
                return None;
            }
            let wake = if queue.is_empty() { self.until } else { next_at.min(self.until) };
            tokio::select! {
                Some(Ok((address, done))) = under_way.join_next() => {
                    open.retain(|other| *other != address);
                    self.left.retain(|other| *other != address);
                    match done {
                        Ok(stream) => return Some((address, stream)),
                        Err(error) => tries.failed(address, error),
                    }
                }
                () = sleep_until(wake) => if Instant::now() >= self.until {
                    let waited = self.began.elapsed();
                    open.into_iter().for_each(|address| tries.failed(address, late(waited)));
                    self.left.clear();
                    return None;
                }
            }
        }
    }
}

/// The addresses with their families in turn, the resolver's first one first.
fn take_turns(found: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let first = found.first().is_some_and(SocketAddr::is_ipv6);
    let (same, other): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| a.is_ipv6() == first);
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    let mut turns = VecDeque::new();
    loop {
        let pair = [same.next(), other.next()];
        if pair.iter().all(Option::is_none) {
            return turns;
        }
        for address in pair.into_iter().flatten().filter(|a| !turns.contains(a)).collect::<Vec<_>>()
        {
            turns.push_back(address);
        }
    }
}

/// What an address that did not answer ended with.
pub(crate) fn late(waited: Duration) -> io::Error {
    let text = format!("no answer within {} ms", waited.as_millis());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("address")).collect()
    }

    #[test]
    fn families_take_turns_and_the_resolver_s_first_is_the_first() {
        let found = ["[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:1"];
        let want = ["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"];
        assert_eq!(take_turns(addresses(&found)), addresses(&want));
        let found = ["10.0.0.1:1", "[::1]:1"];
        assert_eq!(take_turns(addresses(&found)), addresses(&found));
    }

    #[test]
    fn addresses_are_read_with_and_without_brackets() {
        let read = |text| Address::parse(text).map(|a| (a.host, a.port));
        assert_eq!(read("[fd00::1]:7444"), Some(("fd00::1".into(), 7444)));
        assert_eq!(read("fd00::1:7444"), Some(("fd00::1".into(), 7444)));
        assert_eq!(read("deploy.example:1"), Some(("deploy.example".into(), 1)));
        for bad in ["deploy.example", ":1", "a:70000", "[[fd00::1]]:1", "http://a:1", "[a:1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
