//! What the side that talks to the coordinator notes of its connection, for a person on the host: a small file
//! that is replaced at each change. Nothing else reads it.

use groundswell_common::{HostId, Timestamp, chain};
use serde::{Deserialize, Serialize};

use crate::clock::wall;
use crate::durable::{self, Access};
use crate::identity;
use crate::layout::Layout;
use crate::text::head;

const FILE_MAX_BYTES: usize = 16 * 1024;
/// Longest reason that is kept, in bytes.
const WHY_MAX_BYTES: usize = 2 * 1024;

/// What a copied machine is told apart by.
pub(crate) const TWIN: &str = "another machine with the key of this host";
/// What to do about it.
pub(crate) const TWIN_NEXT: &str = "one of the two is a copy: 'swell host enroll-token' at a desk, then on the copy \
    'groundswell-agent enroll --again --name NAME TOKEN' with a name of its own";

/// How it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Link {
    /// A session stands.
    Up {
        /// Whether another machine uses the key of this host, as the coordinator says.
        #[serde(default)]
        twin: bool,
    },
    /// None does.
    Down {
        /// What the last try failed of.
        why: String,
    },
}

/// How the connection stands, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contact {
    pub(crate) link: Link,
    /// By the host's clock.
    pub(crate) since: Timestamp,
}

/// Who notes it.
#[derive(Clone, Debug)]
pub(crate) struct Notes {
    layout: Layout,
    /// Who this host was as the process began.
    of: Option<HostId>,
    last: Option<Contact>,
}

impl Notes {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), of: enrolled_as(layout), last: load(layout) }
    }

    /// A session stands.
    pub(crate) fn connected(&mut self) {
        self.note(Contact { link: Link::Up { twin: false }, since: wall() });
    }

    /// The coordinator says whether another machine uses the key of this host.
    pub(crate) fn twin(&mut self, twin: bool) {
        if let Some(Contact { link: Link::Up { .. }, since }) = self.last {
            self.note(Contact { link: Link::Up { twin }, since });
        }
    }

    /// None does: its time is kept while the reason changes.
    pub(crate) fn lost(&mut self, why: &str) {
        let why = head(why, WHY_MAX_BYTES).to_owned();
        let since = match &self.last {
            Some(Contact { link: Link::Down { .. }, since }) => *since,
            Some(Contact { link: Link::Up { .. }, .. }) | None => wall(),
        };
        self.note(Contact { link: Link::Down { why }, since });
    }

    fn note(&mut self, contact: Contact) {
        // Once the host is enrolled anew, what becomes of the connection of before is no news.
        if self.last.as_ref() == Some(&contact) || self.of != enrolled_as(&self.layout) {
            return;
        }
        // Text and a number: nothing in it can fail to become JSON.
        let json = serde_json::to_vec(&contact).unwrap_or_default();
        if let Err(fault) = durable::write(&self.layout.contact(), &json, Access::All) {
            tracing::debug!(error = %chain(&fault), "how the connection stands is not noted");
        }
        self.last = Some(contact);
    }
}

fn enrolled_as(layout: &Layout) -> Option<HostId> {
    Some(identity::load(layout).ok()?.identity.host)
}

/// What was noted last, of this process or one before it.
pub(crate) fn load(layout: &Layout) -> Option<Contact> {
    let bytes = durable::read(&layout.contact(), FILE_MAX_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}
