//! Two machines with one key: a copied disk or a cloned virtual machine. An agent draws a number at each start, and
//! one machine never comes back to an earlier number; two machines do, each time that one takes the other's
//! connection.

use std::collections::{BTreeMap, BTreeSet};

use groundswell_common::{HostId, Timestamp};

/// Milliseconds without a number that came back after which a host counts as one machine again.
const QUIET_MILLIS: u64 = 600_000;
/// Numbers of a host that are remembered.
const NUMBERS_MAX: usize = 8;

/// The cause and the next step, as `why` says them.
pub(crate) const WHY: &str = "two machines use the key of this host, so nobody knows which one is meant; on the copy \
    run 'groundswell-agent enroll --again --name NAME TOKEN' with a name and a token of its own";

/// What agents said of themselves at their starts.
#[derive(Debug, Default)]
pub(crate) struct Twins {
    heard: BTreeMap<HostId, Heard>,
    found: BTreeSet<HostId>,
}

#[derive(Debug)]
struct Heard {
    now: [u8; 16],
    before: Vec<[u8; 16]>,
    /// When a number came back last.
    back: Option<Timestamp>,
}

impl Twins {
    /// Takes the number of an agent that has connected; whether it shows for the first time that there are two.
    pub(crate) fn hear(&mut self, host: HostId, instance: [u8; 16], now: Timestamp) -> bool {
        let new = Heard { now: instance, before: Vec::new(), back: None };
        let heard = self.heard.entry(host).or_insert(new);
        if heard.now == instance {
            return false;
        }
        let known = heard.before.contains(&instance);
        heard.before.retain(|number| *number != instance);
        heard.before.push(heard.now);
        let more = heard.before.len().saturating_sub(NUMBERS_MAX);
        heard.before.drain(..more);
        heard.now = instance;
        if known {
            heard.back = Some(now);
        }
        known && self.found.insert(host)
    }

    /// When the next host counts as one machine again.
    pub(crate) fn next_over(&self) -> Option<Timestamp> {
        self.found.iter().map(|host| self.over_at(host)).min()
    }

    fn over_at(&self, host: &HostId) -> Timestamp {
        let back = self.heard.get(host).and_then(|heard| heard.back);
        back.map_or(Timestamp::from_millis(0), |back| back.plus_millis(QUIET_MILLIS + 1))
    }

    /// The other machine asked to be let in and was not.
    pub(crate) fn knocks(&mut self, host: &HostId, now: Timestamp) {
        if let Some(heard) = self.heard.get_mut(host) {
            heard.back = Some(now);
        }
    }

    /// Hosts that are one machine again, as far as anybody can tell.
    pub(crate) fn over(&mut self, now: Timestamp) -> Vec<HostId> {
        // A clock that was set back must not make it wait for longer.
        for host in &self.found {
            if let Some(heard) = self.heard.get_mut(host) {
                heard.back = heard.back.map(|back| back.min(now));
            }
        }
        let quiet = |host: &&HostId| self.over_at(host) <= now;
        let over: Vec<HostId> = self.found.iter().filter(quiet).copied().collect();
        for host in &over {
            self.found.remove(host);
        }
        over
    }

    /// Whether two machines use the host's key.
    pub(crate) fn has(&self, host: &HostId) -> bool {
        self.found.contains(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_number_that_comes_back_is_another_machine_and_a_restart_is_not() {
        let (mut twins, host) = (Twins::default(), HostId::from_bytes([1; 16]));
        for number in 1..20 {
            assert!(!twins.hear(host, [number; 16], at(1)), "a restart");
            assert!(!twins.hear(host, [number; 16], at(1)), "a connection made again");
        }
        assert!(twins.hear(host, [18; 16], at(2)));
        assert!(!twins.hear(host, [19; 16], at(3)), "said once");
        assert!(twins.has(&host));
        assert_eq!(twins.over(at(603)), []);
        twins.knocks(&host, at(603));
        let over = at(1203).plus_millis(1);
        assert_eq!(
            (twins.over(at(1203)), twins.next_over()),
            (Vec::new(), Some(over)),
            "still there"
        );
        assert_eq!(twins.over(over), [host]);
        assert_eq!((twins.has(&host), twins.next_over()), (false, None));
        assert!(!twins.hear(host, [40; 16], at(1300)), "the one that stayed is started again");
        assert!(twins.hear(host, [18; 16], at(1301)), "and the other is still there");
    }
}
