//! Confirm by contact: where the wish asks for it, a release whose probes pass is left again unless the
//! coordinator was reached since its switch. Owns that rule; which message is contact, the driver says.

use groundswell_common::Timestamp;
use serde::{Deserialize, Serialize};

use super::state::{Service, State, Wish};
use super::step::Action;

/// What is known of contact with the coordinator since the newest switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contact {
    /// The switch needs none.
    #[default]
    Unasked,
    /// None yet.
    Missing,
    /// None yet, and it is all that is missing: the probes have passed.
    Awaited,
    /// There was contact.
    Seen,
}

impl Contact {
    /// At the beginning of a switch.
    pub(crate) fn since_switch(wish: Option<&Wish>) -> Self {
        let asked = wish.is_some_and(|wish| wish.confirm_by_contact);
        if asked { Self::Missing } else { Self::Unasked }
    }

    /// The probes start anew; contact that was seen is not forgotten.
    pub(crate) fn after_restart(self) -> Self {
        match self {
            Self::Awaited => Self::Missing,
            Self::Unasked | Self::Missing | Self::Seen => self,
        }
    }

    pub(crate) fn is_missing(self) -> bool {
        match self {
            Self::Missing | Self::Awaited => true,
            Self::Unasked | Self::Seen => false,
        }
    }
}

impl Service {
    /// Whether contact with the coordinator would bring this service on.
    pub fn wants_contact(&self) -> bool {
        matches!(self.state, State::Probing { .. }) && self.contact.is_missing()
    }

    pub(crate) fn on_contact(&mut self, now: Timestamp) -> Vec<Action> {
        let State::Probing { target, .. } = &self.state else { return Vec::new() };
        let target = target.clone();
        match self.contact {
            Contact::Unasked | Contact::Seen => Vec::new(),
            Contact::Missing => {
                self.contact = Contact::Seen;
                Vec::new()
            }
            Contact::Awaited => {
                self.contact = Contact::Seen;
                let mut actions = vec![Action::Cancel];
                actions.extend(self.bake(target, now));
                actions
            }
        }
    }

    /// The probes passed and contact is missing: they must keep passing until it comes or the deadline.
    pub(crate) fn wait_for_contact(&mut self, deadline: Timestamp, now: Timestamp) -> Vec<Action> {
        if now >= deadline {
            let secs = self.probe_secs();
            let why = format!("no contact with the coordinator within {secs} s of the switch");
            return self.on_failed(why, false);
        }
        self.contact = Contact::Awaited;
        vec![Action::Watch { until: deadline, interval_secs: self.interval() }]
    }
}
