//! The view as records: one a thing, under a key, as JSON. What the store keeps and gives back.

use std::collections::BTreeMap;

use groundswell_common::{
    Digest, Fleet, HostId, OperatorName, ReleaseId, RolloutId, ServiceName, Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::state::{Addresses, View};

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Counters, and the newest entry folded in.
    Meta,
    /// One operator.
    Operator(OperatorName),
    /// One token.
    Token(Digest),
    /// One host.
    Host(HostId),
    /// One service.
    Service(ServiceName),
    /// One release.
    Release(ReleaseId),
    /// One rollout.
    Rollout(RolloutId),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Meta {
    seq: u64,
    at: Option<Timestamp>,
    fleet: Option<Fleet>,
    rollouts_planned: u64,
    #[serde(default)]
    addresses: Option<Addresses>,
    #[serde(default)]
    lift: u64,
}

/// Why records are no view.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A key of no known kind.
    #[error("read the view: no record is called {0:?}")]
    Key(String),
    /// A value that is not the JSON of its kind.
    #[error("read the view's record {key:?}")]
    Value {
        /// Its key.
        key: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

impl Key {
    /// The key as the store spells it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Meta => "m".to_owned(),
            Self::Operator(name) => format!("o/{name}"),
            Self::Token(secret) => format!("t/{secret}"),
            Self::Host(host) => format!("h/{host}"),
            Self::Service(service) => format!("s/{service}"),
            Self::Release(release) => format!("r/{release}"),
            Self::Rollout(rollout) => format!("x/{rollout}"),
        }
    }
}

impl View {
    /// The record under `key`; `None` where the thing is gone.
    ///
    /// # Errors
    /// When a value has no JSON form; no record holds such a value.
    pub fn record(&self, key: &Key) -> Result<Option<Vec<u8>>, serde_json::Error> {
        fn json<T: Serialize>(value: Option<&T>) -> Result<Option<Vec<u8>>, serde_json::Error> {
            value.map(serde_json::to_vec).transpose()
        }
        match key {
            Key::Meta => json(Some(&Meta {
                seq: self.seq,
                at: self.at,
                fleet: self.fleet.clone(),
                rollouts_planned: self.rollouts_planned,
                addresses: self.addresses.clone(),
                lift: self.lift,
            })),
            Key::Operator(name) => json(self.operators.get(name)),
            Key::Token(secret) => json(self.tokens.get(secret)),
            Key::Host(host) => json(self.hosts.get(host)),
            Key::Service(service) => json(self.services.get(service)),
            Key::Release(release) => json(self.releases.get(release)),
            Key::Rollout(rollout) => json(self.rollouts.get(rollout)),
        }
    }

    /// Takes all records that changed since the last time, for the store.
    ///
    /// # Errors
    /// As [`View::record`].
    pub fn take_dirty(&mut self) -> Result<BTreeMap<String, Option<Vec<u8>>>, serde_json::Error> {
        let keys = std::mem::take(&mut self.dirty);
        keys.iter().map(|key| Ok((key.text(), self.record(key)?))).collect()
    }

    /// The view that these records make up.
    ///
    /// # Errors
    /// The first record that is none.
    pub fn from_records(records: &BTreeMap<String, Vec<u8>>) -> Result<Self, RecordError> {
        let mut view = Self::default();
        for (key, value) in records {
            view.take_record(key, value)?;
        }
        view.host_names = view.hosts.iter().map(|(id, host)| (host.name.clone(), *id)).collect();
        let rollouts = &view.rollouts;
        let live = |id: &&RolloutId| rollouts.get(*id).is_some_and(|found| found.live().is_some());
        for service in view.services.values_mut() {
            service.live = service.rollouts.iter().filter(live).cloned().collect();
        }
        Ok(view)
    }

    fn take_record(&mut self, key: &str, value: &[u8]) -> Result<(), RecordError> {
        fn json<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, RecordError> {
            serde_json::from_slice(value)
                .map_err(|source| RecordError::Value { key: key.to_owned(), source })
        }
        let bad = || RecordError::Key(key.to_owned());
        if key == "m" {
            let meta: Meta = json(key, value)?;
            (self.seq, self.at) = (meta.seq, meta.at);
            (self.fleet, self.rollouts_planned) = (meta.fleet, meta.rollouts_planned);
            (self.addresses, self.lift) = (meta.addresses, meta.lift);
            return Ok(());
        }
        let (kind, name) = key.split_once('/').ok_or_else(bad)?;
        match kind {
            "o" => {
                self.operators.insert(name.parse().map_err(|_| bad())?, json(key, value)?);
            }
            "t" => {
                self.tokens.insert(name.parse().map_err(|_| bad())?, json(key, value)?);
            }
            "h" => {
                self.hosts.insert(name.parse().map_err(|_| bad())?, json(key, value)?);
            }
            "s" => {
                self.services.insert(name.parse().map_err(|_| bad())?, json(key, value)?);
            }
            "r" => {
                self.releases.insert(name.parse().map_err(|_| bad())?, json(key, value)?);
            }
            "x" => {
                self.rollouts.insert(name.parse().map_err(|_| bad())?, json(key, value)?);
            }
            _ => return Err(bad()),
        }
        Ok(())
    }
}
