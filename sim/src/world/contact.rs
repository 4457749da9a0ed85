//! Contact since a switch, where the policy asks for it: what the coordinator acknowledges, and what must
//! hold. Found out by time here and by number on the host, so that a mistake of either shows.

use groundswell_common::{HostId, Timestamp};
use groundswell_machine::State;

use super::{Mail, World};
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
    pub(super) fn acknowledge(&mut self, id: HostId, sent: Sent) {
        if self.hosts.get(&id).is_some_and(crate::host::Host::wants_contact) {
            self.post(id, 20, Mail::Ack(sent));
        }
    }

    pub(super) fn acknowledged(&mut self, id: HostId, sent: Sent) -> Result<(), Finding> {
        if let Some(Unconfirmed::Since(switched)) = self.unconfirmed.get(&id)
            && sent.at >= *switched
        {
            self.unconfirmed.remove(&id);
        }
        self.host(id, |host, now| host.acknowledged(sent.number, now))
    }

    /// No host bakes or commits without contact since its switch when its wish asked for that.
    pub(super) fn confirmed(
        &mut self,
        id: HostId,
        before: &State,
        after: &State,
    ) -> Result<(), Finding> {
        match after {
            State::Switching { .. } if !matches!(before, State::Switching { .. }) => {
                let asks = self.hosts.get(&id).is_some_and(|host| host.confirms_by_contact());
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
                    return Err(Finding::Unconfirmed(id));
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
