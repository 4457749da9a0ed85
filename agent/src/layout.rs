//! Where things lie in the state directory and in that of the network side. Names paths; touches no file.

use std::path::{Path, PathBuf};

use groundswell_common::{Digest, ReleaseId, ServiceName};

/// The directories of one agent. Under one process they are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    state: PathBuf,
    net: PathBuf,
}

impl Layout {
    /// One directory for all.
    #[cfg(test)]
    pub(crate) fn new(state: &Path) -> Self {
        Self::split(state, state)
    }

    /// The state directory, and the one that the network side owns.
    pub(crate) fn split(state: &Path, net: &Path) -> Self {
        Self { state: state.to_owned(), net: net.to_owned() }
    }

    pub(crate) fn is_split(&self) -> bool {
        self.state != self.net
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// What is known of the programs that the agent itself was updated to.
    pub(crate) fn own(&self) -> PathBuf {
        self.state.join("own.json")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    pub(crate) fn net(&self) -> &Path {
        &self.net
    }

    pub(crate) fn net_lock(&self) -> PathBuf {
        self.net.join("lock")
    }

    pub(crate) fn identity_dir(&self) -> PathBuf {
        self.net.join("identity")
    }

    pub(crate) fn host_key(&self) -> PathBuf {
        self.identity_dir().join("host.key")
    }

    /// The key of an enrolment under way.
    pub(crate) fn next_key(&self) -> PathBuf {
        self.identity_dir().join("next.key")
    }

    /// An enrolment that is whole, and of which not each part is in its place.
    pub(crate) fn next_identity(&self) -> PathBuf {
        self.identity_dir().join("next.json")
    }

    /// What the side that talks to the coordinator notes of its connection.
    pub(crate) fn contact(&self) -> PathBuf {
        self.net.join("contact.json")
    }

    /// Which requests of a person on the host are in force.
    pub(crate) fn in_force(&self) -> PathBuf {
        self.state.join("in_force.json")
    }

    pub(crate) fn host_certificate(&self) -> PathBuf {
        self.identity_dir().join("host.crt")
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.state.join("identity.json")
    }

    /// The refusal of the newest directive, for `doctor`.
    pub(crate) fn refused(&self) -> PathBuf {
        self.state.join("refused.json")
    }

    /// What the coordinator has told this host since it was enrolled.
    pub(crate) fn told(&self) -> PathBuf {
        self.state.join("told.json")
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.state.join("root.json")
    }

    pub(crate) fn directive(&self) -> PathBuf {
        self.state.join("directive.json")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.net.join("spool")
    }

    pub(crate) fn part(&self, blob: &Digest) -> PathBuf {
        self.spool().join(format!("{blob}.part"))
    }

    pub(crate) fn services(&self) -> PathBuf {
        self.state.join("services")
    }

    pub(crate) fn service(&self, service: &ServiceName) -> PathBuf {
        self.services().join(service.as_str())
    }

    pub(crate) fn releases(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("releases")
    }

    pub(crate) fn release(&self, service: &ServiceName, release: &ReleaseId) -> PathBuf {
        self.releases(service).join(release.to_string())
    }

    pub(crate) fn current(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("current")
    }

    pub(crate) fn previous(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("previous")
    }

    pub(crate) fn journal(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("journal.json")
    }

    /// Pauses every service.
    pub(crate) fn pause(&self) -> PathBuf {
        self.state.join("pause.json")
    }

    pub(crate) fn service_pause(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("pause.json")
    }

    /// A person's request to leave what is live.
    pub(crate) fn leave(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("revert.json")
    }

    /// A person's request to try again what is stuck.
    pub(crate) fn retry(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("retry")
    }

    pub(crate) fn process(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("process.json")
    }

    /// The hook that is due.
    pub(crate) fn hook(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("hook.json")
    }

    /// There while what runs was drained, and neither it nor another release was started since.
    /// The run of the host in which the service was started last.
    pub(crate) fn booted(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("booted")
    }

    pub(crate) fn drained(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("drained")
    }

    pub(crate) fn output(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join("output.log")
    }
}
