//! Enrolment, removal and clearing of hosts, and operators.

use groundswell_common::api::OperatorRole;
use groundswell_common::trust::PublicKey;
use groundswell_common::{Digest, HostId, HostName, OperatorName, RolloutId};
use groundswell_rollout::Input;

use crate::control::Control;
use crate::entry::{By, What};
use crate::refused::Refused;
use crate::view::Host;

impl Control {
    /// Enrols the holder of `key`. The same key with the same token gets the same answer again.
    ///
    /// # Errors
    /// [`Refused::Token`] or [`Refused::NameTaken`].
    pub fn enrol(
        &mut self,
        secret: &str,
        name: &HostName,
        key: &PublicKey,
    ) -> Result<(HostId, Host), Refused> {
        let token = Digest::of(secret.as_bytes());
        let host = HostId::of_key(key.as_bytes());
        let used_by = self.view.tokens.get(&token).ok_or(Refused::Token)?.used_by;
        let known = self.view.hosts.get(&host).filter(|known| known.name == *name);
        if let Some(known) = known.filter(|_| used_by == Some(host)) {
            return Ok((host, known.clone()));
        }
        if self.view.host_names.get(name).is_some_and(|holder| *holder != host) {
            return Err(Refused::NameTaken(name.clone()));
        }
        let what = What::HostEnrolled { host, name: name.clone(), key: *key, token };
        self.submit(By::Host(host), what)?;
        // A release may have waited for a host that fits.
        self.waiting.extend(self.view.services.keys().cloned());
        let record = self.view.hosts.get(&host).ok_or(Refused::NotEnrolled)?;
        Ok((host, record.clone()))
    }

    /// Removes a host: the shell ends its session, and its certificate is refused from now on.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn remove_host(&mut self, by: &OperatorName, name: &HostName) -> Result<(), Refused> {
        let host = self.host_id(name)?;
        self.submit(By::Operator(by.clone()), What::HostRemoved { host })?;
        self.link_changed(host, false);
        let newest = self.view.services.keys().filter_map(|name| self.view.newest_rollout(name));
        let live: Vec<RolloutId> = newest
            .filter(|rollout| rollout.successor().is_none() && rollout.host(&host).is_some())
            .map(|rollout| rollout.id().clone())
            .collect();
        for rollout in live {
            self.submit_or_note(By::Operator(by.clone()), &rollout, Input::Removed { host });
        }
        self.connected.remove(&host);
        self.words.remove(&host);
        Ok(())
    }

    /// Forgets what failed on a host: the next plan takes it in again.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn clear_host(
        &mut self,
        by: &OperatorName,
        name: &HostName,
        why: &str,
    ) -> Result<(), Refused> {
        let host = self.host_id(name)?;
        let what = What::HostCleared { host, why: why.to_owned() };
        self.submit(By::Operator(by.clone()), what).map(drop)
    }

    /// The host that people call `name`.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn host_id(&self, name: &HostName) -> Result<HostId, Refused> {
        let id = self.view.host_names.get(name).copied();
        id.ok_or_else(|| Refused::UnknownHost(name.clone()))
    }

    /// Gives a person or job a role and a key, in place of the ones before.
    ///
    /// # Errors
    /// [`Refused`] of the ledger.
    pub fn put_operator(
        &mut self,
        by: &OperatorName,
        name: &OperatorName,
        (role, key): (OperatorRole, PublicKey),
    ) -> Result<(), Refused> {
        let what = What::OperatorPut { name: name.clone(), role, key };
        self.submit(By::Operator(by.clone()), what).map(drop)
    }
}
