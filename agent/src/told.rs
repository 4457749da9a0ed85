//! What the coordinator has told this host of itself and of the way to the coordinator: read, taken and kept. What
//! was enrolled counts before, and where nothing can be read.

use groundswell_common::trust::Told;
use groundswell_common::{HostName, chain};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Access, Fault};
use crate::identity::Identity;
use crate::layout::Layout;

const FILE_MAX_BYTES: usize = 64 * 1024;
/// Addresses of one kind that are kept at most.
const KEPT_MAX: usize = 16;

/// Where the coordinator is, and as whom this host goes there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Places {
    /// What people call this host.
    pub(crate) name: HostName,
    /// `HOST:PORT` for the agent's connection, tried in this order; never empty.
    pub(crate) agents: Vec<String>,
    /// `HOST:PORT` of the API, likewise.
    pub(crate) api: Vec<String>,
    /// The number of what was told last; 0 before that.
    pub(crate) number: u64,
}

impl Places {
    /// What enrolment said.
    fn enrolled(identity: &Identity) -> Self {
        let (agents, api) = (vec![identity.agents.clone()], vec![identity.api.clone()]);
        Self { name: identity.name.clone(), agents, api, number: 0 }
    }

    /// What counts now.
    pub(crate) fn load(layout: &Layout, identity: &Identity) -> Self {
        let kept = durable::read(&layout.told(), FILE_MAX_BYTES)
            .map(|bytes| bytes.map(|bytes| serde_json::from_slice::<Self>(&bytes)));
        match kept {
            Ok(Some(Ok(kept))) if !kept.agents.is_empty() && !kept.api.is_empty() => kept,
            Ok(Some(Ok(_))) | Ok(None) => Self::enrolled(identity),
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "told.json is damaged; goes by what was enrolled");
                Self::enrolled(identity)
            }
            Err(fault) => {
                tracing::warn!(error = %chain(&fault), "goes by what was enrolled");
                Self::enrolled(identity)
            }
        }
    }

    /// What counts once the coordinator, reached at `used`, has said this. What it does not name any more is kept
    /// until one that it names has worked.
    pub(crate) fn told(&self, told: &Told, used: &str) -> Self {
        let works = told.agents.iter().any(|address| address == used);
        let with = |new: &[String], old: &[String]| {
            let old = old.iter().filter(|address| !works && !new.contains(address));
            new.iter().chain(old).take(KEPT_MAX).cloned().collect()
        };
        Self {
            name: told.name.clone(),
            agents: with(&told.agents, &self.agents),
            api: with(&told.api, &self.api),
            number: told.number,
        }
    }

    /// Makes it durable.
    pub(crate) fn save(&self, layout: &Layout) -> Result<(), Fault> {
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        durable::write(&layout.told(), &json, Access::Owner)
    }
}

#[cfg(test)]
mod tests {
    use groundswell_common::HostId;
    use groundswell_common::trust::{Document as _, RawTold};

    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn told(number: u64, agents: &[&str], api: &[&str]) -> Told {
        let (host, name) = (HostId::of_key(&[1; 32]), "web-2".parse().unwrap());
        Told::check(RawTold { host, name, number, agents: texts(agents), api: texts(api) }).unwrap()
    }

    #[test]
    fn old_and_new_are_tried_until_a_new_one_has_worked() {
        let name: HostName = "web-1".parse().unwrap();
        let (agents, api) = (texts(&["old:1"]), texts(&["old:2"]));
        let had = Places { name, agents, api, number: 0 };
        // Still reached at the old one, of which nothing is said any more.
        let both = had.told(&told(5, &["new:1", "other:1"], &["new:2"]), "old:1");
        assert_eq!(both.agents, ["new:1", "other:1", "old:1"]);
        assert_eq!(both.api, ["new:2", "old:2"]);
        assert_eq!((both.name.as_str(), both.number), ("web-2", 5));
        // Said again there, it is no news.
        assert_eq!(both.told(&told(5, &["new:1", "other:1"], &["new:2"]), "old:1"), both);
        let moved = both.told(&told(5, &["new:1", "other:1"], &["new:2"]), "new:1");
        assert_eq!((moved.agents, moved.api), (texts(&["new:1", "other:1"]), texts(&["new:2"])));
    }

    #[test]
    fn what_cannot_be_read_is_what_was_enrolled() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let identity = crate::fixture::loaded().identity;
        let enrolled = Places::load(&layout, &identity);
        assert_eq!(enrolled.agents, std::slice::from_ref(&identity.agents));
        let kept = enrolled.told(&told(7, &["new:1"], &["new:2"]), "new:1");
        kept.save(&layout).unwrap();
        assert_eq!(Places::load(&layout, &identity), kept);
        std::fs::write(layout.told(), "{").unwrap();
        assert_eq!(Places::load(&layout, &identity), enrolled);
    }
}
