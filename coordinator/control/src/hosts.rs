//! What becomes of hosts by persons: enrolment, removal, clearing, drains, labels and names. Also operators, and
//! the addresses where hosts reach the coordinator.

use groundswell_common::api::OperatorRole;
use groundswell_common::condition::Lack;
use groundswell_common::trust::PublicKey;
use groundswell_common::{Digest, Environment, HostId, HostName, Labels, OperatorName, RolloutId};
use groundswell_rollout::{HostFact, Input, Rollout};

use crate::control::Control;
use crate::entry::{By, What};
use crate::refused::Refused;
use crate::view::{Host, speaks_for};

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
        let was = self.view.hosts.get(&host).map(|known| known.environment.clone());
        let (name, key) = (name.clone(), *key);
        let what = What::HostEnrolled { host, name, key, token, stays_drained: true };
        self.submit(By::Host(host), what)?;
        let is = self.view.hosts.get(&host).map(|known| known.environment.clone());
        if was.is_some() && was != is {
            // The rollouts of the environment that it has left wait for it no longer.
            self.leave_rollouts(&By::Host(host), host, is.as_ref());
        }
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
        self.leave_rollouts(&By::Operator(by.clone()), host, None);
        self.connected.remove(&host);
        self.words.remove(&host);
        Ok(())
    }

    /// Tells rollouts that a host is gone: all that have it, but those of the environment where it stays.
    fn leave_rollouts(&mut self, by: &By, host: HostId, stays: Option<&Environment>) {
        let goes = |rollout: &&Rollout| {
            let plan = rollout.plan();
            let here = stays.is_some_and(|stays| speaks_for(plan.environment.as_ref(), stays));
            !here && rollout.successor().is_none() && rollout.host(&host).is_some()
        };
        let live: Vec<RolloutId> =
            self.view.live_rollouts().filter(goes).map(|rollout| rollout.id().clone()).collect();
        for rollout in live {
            self.submit_or_note(by.clone(), &rollout, Input::Removed { host });
        }
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

    /// Takes a host out of all rollouts with this reason, or lets it in again without one. What it runs stays.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`], or [`Refused::Drained`] where it is so already.
    pub fn drain_host(
        &mut self,
        by: &OperatorName,
        name: &HostName,
        why: Option<&str>,
    ) -> Result<(), Refused> {
        self.set_drained(by, name, why, None)
    }

    /// Lets a drained host in again; the ledger keeps the reason.
    ///
    /// # Errors
    /// As [`Self::drain_host`].
    pub fn undrain_host(
        &mut self,
        by: &OperatorName,
        name: &HostName,
        why: &str,
    ) -> Result<(), Refused> {
        self.set_drained(by, name, None, Some(why))
    }

    fn set_drained(
        &mut self,
        by: &OperatorName,
        name: &HostName,
        why: Option<&str>,
        lifted: Option<&str>,
    ) -> Result<(), Refused> {
        let host = self.host_id(name)?;
        let now = self.view.hosts.get(&host).and_then(|found| found.drained.as_deref());
        if now.is_some() == why.is_some() {
            return Err(Refused::Drained { host: name.clone(), drained: now.is_some() });
        }
        let (kept, lifted) = (why.map(ToOwned::to_owned), lifted.map(ToOwned::to_owned));
        let what = What::HostDrained { host, why: kept, lifted };
        self.submit(By::Operator(by.clone()), what)?;
        let fact = match why {
            Some(why) => HostFact::Held { lack: Lack::Drained, why: why.to_owned() },
            None => HostFact::Freed,
        };
        self.tell_rollouts(By::Operator(by.clone()), host, &fact);
        self.hear_again(host);
        Ok(())
    }

    /// Gives a host other labels, in place of all it had.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`].
    pub fn label_host(
        &mut self,
        by: &OperatorName,
        name: &HostName,
        labels: Labels,
    ) -> Result<(), Refused> {
        let host = self.host_id(name)?;
        if self.view.hosts.get(&host).is_some_and(|found| found.labels == labels) {
            return Ok(());
        }
        self.submit(By::Operator(by.clone()), What::HostLabelled { host, labels })?;
        // A release may have waited for a host that fits.
        self.waiting.extend(self.view.services.keys().cloned());
        Ok(())
    }

    /// Gives a host another name; its key, its services and their rollouts stay.
    ///
    /// # Errors
    /// [`Refused::UnknownHost`], [`Refused::NameTaken`].
    pub fn rename_host(
        &mut self,
        by: &OperatorName,
        (name, new): (&HostName, &HostName),
    ) -> Result<(), Refused> {
        let host = self.host_id(name)?;
        if self.view.host_names.contains_key(new) {
            return Err(Refused::NameTaken(new.clone()));
        }
        let what = What::HostRenamed { host, name: new.clone() };
        self.submit(By::Operator(by.clone()), what).map(drop)
    }

    /// Where hosts reach the coordinator from now on, the address to try first in front; kept where it is news.
    ///
    /// # Errors
    /// [`Refused`] of the ledger.
    pub fn tell_addresses(&mut self, agents: Vec<String>, api: Vec<String>) -> Result<(), Refused> {
        let had = self.view.addresses.as_ref();
        if had.is_some_and(|had| had.agents == agents && had.api == api) {
            return Ok(());
        }
        self.submit(By::Coordinator, What::AddressesTold { agents, api }).map(drop)
    }

    /// Tells every rollout that is kept whole and has the host, where it is news there.
    pub(crate) fn tell_rollouts(&mut self, by: By, host: HostId, fact: &HostFact) {
        let has =
            |rollout: &&Rollout| rollout.successor().is_none() && rollout.host(&host).is_some();
        let rollouts: Vec<RolloutId> =
            self.view.live_rollouts().filter(has).map(|rollout| rollout.id().clone()).collect();
        for id in rollouts {
            self.submit_or_note(by.clone(), &id, Input::Host { host, fact: fact.clone() });
        }
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
