//! The agent as a service of its own host: which program of it runs, and when the next one takes over
//! (docs/agent.md A12). Must never leave the host without an agent that works.

use std::path::PathBuf;
use std::time::Duration;

use groundswell_common::manifest::{Manifest, Mode, Switch};
use groundswell_common::name::AGENT_SERVICE;
use groundswell_common::{ReleaseId, ServiceName, chain};
use groundswell_machine::{Service, State};
use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::durable::{self, Access, Fault};
use crate::journal::{self, JournalError};
use crate::layout::Layout;
use crate::switch::{self, LiveError};

/// The service that is the agent itself.
pub(crate) const NAME: &str = AGENT_SERVICE;
/// The program, at the top of the tree of its releases.
pub(crate) const PROGRAM: &str = "groundswell-agent";
/// The network side's unit, which a release of the agent restarts.
const UNIT: &str = "groundswell-agent.service";
/// Says to a released program which release it is of.
pub const RELEASE_VARIABLE: &str = "GROUNDSWELL_RELEASE";
/// Starts of a new program that may end without contact with the coordinator.
const TRIES_MAX: u32 = 2;
/// Releases that are remembered as proven.
const CONFIRMED_MAX: usize = 4;
const RECORD_MAX_BYTES: usize = 4 * 1024;

/// Which of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The network side.
    Net,
    /// The apply side.
    Apply,
}

/// Why it cannot be told which program is to run.
#[derive(Debug, thiserror::Error)]
enum OwnError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What is known of the programs that the apply side took up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// Releases that had contact with the coordinator, the newest last.
    pub(crate) confirmed: Vec<ReleaseId>,
    /// The release that has yet to, and how often it was started.
    pub(crate) on_trial: Option<(ReleaseId, u32)>,
}

impl Record {
    /// Whether the release did not prove itself in all its tries.
    pub(crate) fn has_failed(&self, release: &ReleaseId) -> bool {
        self.on_trial.is_some_and(|(id, tries)| id == *release && tries >= TRIES_MAX)
            && !self.confirmed.contains(release)
    }

    pub(crate) fn is_on_trial(&self, release: &ReleaseId) -> bool {
        !self.confirmed.contains(release)
    }

    /// The release had contact.
    pub(crate) fn confirm(&mut self, release: ReleaseId) {
        self.confirmed.push(release);
        if self.confirmed.len() > CONFIRMED_MAX {
            self.confirmed.remove(0);
        }
        self.on_trial = None;
    }

    fn take_up(&mut self, release: ReleaseId) {
        let before = self.on_trial.filter(|(id, _)| *id == release).map_or(0, |(_, tries)| tries);
        self.on_trial = Some((release, before + 1));
    }
}

pub(crate) fn is_own(service: &ServiceName) -> bool {
    service.as_str() == NAME
}

/// The release whose program the apply side should be; `None` for the one that the package installed. A
/// release that is not committed is the network side's to try.
pub(crate) fn choose(machine: &Service, record: &Record) -> Option<ReleaseId> {
    let confirmed = |id: &ReleaseId| record.confirmed.contains(id);
    let running = machine.running.as_ref().map(|known| known.id);
    let previous = machine.previous.as_ref().map(|known| known.id);
    match &machine.state {
        State::Probing { .. } | State::Baking { .. } => previous.filter(confirmed),
        State::Reverting { to, .. } => to.as_ref().map(|known| known.id).filter(confirmed),
        State::Idle {}
        | State::Fetching { .. }
        | State::Staged { .. }
        | State::Switching { .. }
        | State::Committed {}
        | State::Stuck { .. } => match running {
            Some(id) if record.has_failed(&id) => previous.filter(confirmed),
            Some(_) | None => running,
        },
    }
}

/// The program that a freshly started one should become; `None` where it is the one to run, or where that cannot be
/// told: the installed one goes on. Counts a try of a release that has not proved itself.
pub fn successor(settings: &Settings, side: Side) -> Option<(PathBuf, ReleaseId)> {
    next(&settings.layout(), side).unwrap_or_else(|error| {
        tracing::error!(error = %chain(&error), "it cannot be told which program is to run");
        None
    })
}

fn next(layout: &Layout, side: Side) -> Result<Option<(PathBuf, ReleaseId)>, OwnError> {
    let Some(service) = service() else { return Ok(None) };
    let release = match side {
        Side::Net => switch::live(layout, &service)?,
        Side::Apply => {
            let Some(machine) = journal::load(layout, &service)? else { return Ok(None) };
            let mut record = load(layout)?;
            let chosen = choose(&machine, &record);
            if let Some(release) = chosen.filter(|release| record.is_on_trial(release)) {
                record.take_up(release);
                save(layout, &record)?;
            }
            chosen
        }
    };
    Ok(release.map(|id| (layout.release(&service, &id).join("tree").join(PROGRAM), id)))
}

/// Whether the agent of this host can become the release.
///
/// # Errors
/// What to do.
pub(crate) fn fits(manifest: &Manifest, layout: &Layout) -> Result<(), &'static str> {
    if !layout.is_split() {
        return Err("it runs as one process here; update its package or image");
    }
    let mut files = manifest.files.iter();
    if !files.any(|file| file.path.as_str() == PROGRAM && file.mode == Mode::Executable) {
        return Err("its tree has no executable file groundswell-agent at the top; add it");
    }
    if manifest.units != [UNIT] || manifest.switch != Switch::Restart {
        return Err("its units must be groundswell-agent.service alone, restarted");
    }
    if !manifest.hooks.is_empty() {
        return Err("it cannot have hooks; leave them out");
    }
    Ok(())
}

/// How long a program on trial waits for contact with the coordinator before it gives way to the one before.
pub(crate) const TRIAL: Duration = Duration::from_secs(60);

/// The name of the agent's own service.
pub(crate) fn service() -> Option<ServiceName> {
    NAME.parse().ok()
}

pub(crate) fn load(layout: &Layout) -> Result<Record, Fault> {
    let Some(bytes) = durable::read(&layout.own(), RECORD_MAX_BYTES)? else {
        return Ok(Record::default());
    };
    Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        // At worst a program is tried once more.
        tracing::error!(%error, "what is known of the agent's own releases is damaged and forgotten");
        Record::default()
    }))
}

pub(crate) fn save(layout: &Layout, record: &Record) -> Result<(), Fault> {
    // Text and numbers only: nothing in it can fail to become JSON.
    let json = serde_json::to_vec(record).unwrap_or_default();
    durable::write(&layout.own(), &json, Access::Owner)
}
