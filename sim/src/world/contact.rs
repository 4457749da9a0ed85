//! Contact since a switch, where the policy asks for it: what the coordinator acknowledges, and what must
//! hold. Found out by time here and by number on the host, so that a mistake of either shows.

use groundswell_common::{ServiceName, Timestamp};
use groundswell_machine::State;

use super::{Mail, Number, World};
use crate::check::Finding;

/// A report, as its acknowledgement names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Its number on the host.
    pub(super) number: u64,
    /// When it left.
    pub(super) at: Timestamp,
}

/// A switch that must be followed by contact.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unconfirmed {
    /// Under way.
    Switching,
    /// Done at this time.
    Since(Timestamp),
}

impl World {
    /// The answer to a report. Those that nobody waits for are left out, to save events.
    pub(super) fn acknowledge(&mut self, number: Number, sent: Sent) {
        if self.hosts.get(&number).is_some_and(crate::host::Host::wants_contact) {
            self.post(number, 20, Mail::Ack(sent));
        }
    }

    pub(super) fn acknowledged(&mut self, number: Number, sent: Sent) -> Result<(), Finding> {
        self.unconfirmed.retain(|(of, _), entry| {
            let since = match entry {
                Unconfirmed::Since(switched) => sent.at >= *switched,
                Unconfirmed::Switching => false,
            };
            !(*of == number && since)
        });
        self.host(number, |host, now| host.acknowledged(sent.number, now))
    }

    /// No host bakes or commits without contact since its switch when its wish asked for that.
    pub(super) fn confirmed(
        &mut self,
        (number, service): (Number, &ServiceName),
        before: &State,
        after: &State,
    ) -> Result<(), Finding> {
        let id = (number, service.clone());
        let Some(host) = self.hosts.get(&number) else { return Ok(()) };
        let (key, site) = (host.key, host.sites.get(service));
        match after {
            State::Switching { .. } if !matches!(before, State::Switching { .. }) => {
                let asks = site.is_some_and(crate::site::Site::confirms_by_contact);
                match asks {
                    true => self.unconfirmed.insert(id, Unconfirmed::Switching),
                    false => self.unconfirmed.remove(&id),
                };
            }
            State::Probing { .. } if !matches!(before, State::Probing { .. }) => {
                let now = self.now;
                self.unconfirmed.entry(id).and_modify(|entry| *entry = Unconfirmed::Since(now));
            }
            State::Baking { .. } | State::Committed {} if flies(before) => {
                if self.unconfirmed.remove(&id).is_some() {
                    return self.found(Finding::Unconfirmed(key));
                }
            }
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Switching { .. }
            | State::Probing { .. }
            | State::Baking { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => {}
        }
        Ok(())
    }
}

/// Whether it runs what it switched to and has not proved it.
fn flies(state: &State) -> bool {
    matches!(state, State::Probing { .. } | State::Baking { .. })
}
