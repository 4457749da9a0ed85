//! What the state directory says of this host, without the agent or the network; and the one verb that
//! frees a service that is stuck on its journal.

use groundswell_common::report::{Failure, Standing, Verdict};
use groundswell_common::{HostId, HostName, ReleaseId, ServiceName};
use serde::Serialize;

use crate::accepted::{self, Accepted};
use crate::bring;
use crate::config::Settings;
use crate::durable;
use crate::hand;
use crate::identity;
use crate::journal;
use crate::layout::Layout;
use crate::stage;
use crate::switch;
use groundswell_common::{chain, name_of};
use groundswell_machine::Service;

/// The whole status. The JSON form is an interface: fields are only added.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Version of this program.
    pub agent_version: String,
    /// The host's id, when enrolled.
    pub host: Option<HostId>,
    /// The name it was enrolled under.
    pub name: Option<HostName>,
    /// The root that it trusts.
    pub root_version: Option<u64>,
    /// The newest directive that it accepted.
    pub generation: u64,
    /// That nothing fits on its disk, and what to do.
    pub full: Option<String>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
}

/// One service.
#[derive(Debug, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub service: ServiceName,
    /// What the live link names.
    pub live: Option<ReleaseId>,
    /// The version of that.
    pub version: Option<String>,
    /// What the journal says; absent when it cannot be read.
    pub standing: Option<Standing>,
    /// Why it cannot be read.
    pub error: Option<String>,
    /// Why a person on this host has paused it.
    pub paused: Option<String>,
    /// What the host lacks for the release that it is told to bring here.
    pub held: Option<String>,
}

/// Why there is no status, or a service cannot be freed.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The state directory cannot be read or written.
    #[error("look at the state directory")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An agent runs, and would overwrite what is repaired here.
    #[error("free the service: the agent runs; stop it first")]
    Running,
}

pub(crate) fn state(error: impl std::error::Error + Send + Sync + 'static) -> StatusError {
    StatusError::State(Box::new(error))
}

/// Reads the status.
///
/// # Errors
/// [`StatusError::State`].
pub fn status(settings: &Settings) -> Result<Status, StatusError> {
    let layout = settings.layout();
    let identity = match identity::load(&layout) {
        Ok(loaded) => Some(loaded.identity),
        Err(identity::IdentityError::NotEnrolled) => None,
        Err(error) => return Err(state(error)),
    };
    let accepted = accepted::load(&layout).map_err(state)?;
    let services = accepted::services_on_disk(&layout).map_err(state)?;
    Ok(Status {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: identity.as_ref().map(|identity| identity.host),
        name: identity.map(|identity| identity.name),
        root_version: identity::root_version(&layout),
        generation: accepted.as_ref().map_or(0, |accepted| Accepted::floor(accepted).generation),
        full: bring::full(&layout),
        services: services.iter().map(|service| service_status(&layout, service)).collect(),
    })
}

fn service_status(layout: &Layout, service: &ServiceName) -> ServiceStatus {
    let live = switch::live(layout, service);
    let (machine, error) = match (&live, journal::load(layout, service)) {
        (Err(error), _) => (None, Some(chain(error))),
        (Ok(_), Ok(machine)) => (machine, None),
        (Ok(_), Err(error)) => (None, Some(chain(&error))),
    };
    let standing = machine.as_ref().map(|machine| machine.standing(service));
    let held = machine.and_then(|machine| machine.held()).map(|held| held.why);
    let live = live.ok().flatten();
    let manifest = live.and_then(|live| stage::reopen(layout, service, &live).ok());
    let version = manifest.map(|manifest| manifest.version.to_string());
    let paused = hand::paused(layout, service);
    ServiceStatus { service: service.clone(), live, version, standing, error, paused, held }
}

impl Status {
    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// A table for people.
    #[must_use]
    pub fn to_table(&self) -> String {
        let host = match (&self.name, &self.host) {
            (Some(name), Some(host)) => format!("{name} ({host})"),
            (None, _) | (_, None) => "not enrolled".to_owned(),
        };
        let mut text = format!("host {host}, directive {}\n", self.generation);
        text.extend(self.full.iter().map(|full| format!("{full}\n")));
        for service in &self.services {
            let version = service.version.as_deref().unwrap_or("nothing");
            let state = match (&service.standing, &service.error) {
                (_, Some(error)) => format!("stuck: {error}"),
                (Some(standing), None) => {
                    let state = name_of(&standing.state);
                    let fails = standing.health == Verdict::Fail;
                    let live = |failure: &Failure| standing.running == Some(failure.release);
                    match &standing.failure {
                        Some(failure) if fails && live(failure) => {
                            format!("{state}; fails its probes: {}", failure.why)
                        }
                        Some(failure) => {
                            format!("{state}; {} failed: {}", name_of(&failure.step), failure.why)
                        }
                        None => state,
                    }
                }
                (None, None) => "new".to_owned(),
            };
            let mut more = String::new();
            for (word, why) in [("held", &service.held), ("paused", &service.paused)] {
                more.extend(why.iter().map(|why| format!("; {word}: {why}")));
            }
            text.push_str(&format!("{}  {version}  {state}{more}\n", service.service));
        }
        text
    }
}

/// Writes a new journal from what the live link names. For a person who has looked at the host.
///
/// # Errors
/// [`StatusError`]; the old journal is kept beside the new one.
pub fn unstick(settings: &Settings, service: &ServiceName) -> Result<(), StatusError> {
    let layout = settings.layout();
    let _lock = crate::app::lock(&layout.lock()).map_err(|_| StatusError::Running)?;
    let live = switch::live(&layout, service).map_err(state)?;
    let mut machine = Service::new();
    if let Some(live) = live {
        let known = |id| stage::reopen(&layout, service, &id).map(|m| stage::known(id, &m));
        let previous = switch::before(&layout, service).map_err(state)?;
        // One that is not whole is nothing to go back to.
        let previous = previous.and_then(|previous| known(previous).ok());
        machine.adopt(known(live).map_err(state)?, previous);
        // A person has looked at the disk; whether it runs, the agent's start and its probes say.
        machine.suspect();
    }
    let path = layout.journal(service);
    if path.exists() {
        let aside = path.with_extension("json.bad");
        std::fs::rename(&path, &aside).map_err(durable::at("rename", &path)).map_err(state)?;
    }
    journal::save(&layout, service, &machine).map_err(state)?;
    durable::hand_over(layout.state(), &[path]).map_err(state)
}
