//! What a person on the host asks for: files in the state directory that the agent looks for, and finds at
//! its start as well. A pause lasts as long as its file; a revert is asked for once.

use std::path::PathBuf;

use groundswell_common::{ReleaseId, ServiceName, chain};
use serde::{Deserialize, Serialize};

use crate::config::Settings;
use crate::durable::{self, Access, Fault};
use crate::layout::Layout;
use crate::switch;

/// Longest reason, in bytes.
const REASON_MAX_BYTES: usize = 1024;
/// A reason with every byte escaped, and a digest.
const FILE_MAX_BYTES: usize = 8 * 1024;

/// Why a person's request cannot be noted.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// No reason, or too long a one.
    #[error("note the request: give a --reason of 1 to 1024 bytes")]
    Reason,
    /// The host has no such service.
    #[error("note the request: this host has no service {0}; see 'groundswell-agent status'")]
    Service(ServiceName),
    /// Nothing is live.
    #[error("note the request: nothing of {0} is live")]
    Nothing(ServiceName),
    /// The state directory cannot be read or written.
    #[error("note the request; are you root or the agent's user?")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
}

fn state(error: impl std::error::Error + Send + Sync + 'static) -> HandError {
    HandError::State(Box::new(error))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pause {
    why: String,
}

/// A release that is to be left.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Leave {
    /// What was live when the person asked: nothing else is left for it.
    pub(crate) release: ReleaseId,
    pub(crate) why: String,
}

fn checked(reason: &str) -> Result<String, HandError> {
    let reason = reason.trim();
    let fits = !reason.is_empty() && reason.len() <= REASON_MAX_BYTES;
    if fits { Ok(reason.to_owned()) } else { Err(HandError::Reason) }
}

fn pause_file(layout: &Layout, service: Option<&ServiceName>) -> PathBuf {
    service.map_or_else(|| layout.pause(), |service| layout.service_pause(service))
}

fn exists(layout: &Layout, service: &ServiceName) -> Result<(), HandError> {
    let there = layout.service(service).is_dir();
    if there { Ok(()) } else { Err(HandError::Service(service.clone())) }
}

/// Keeps the host, or one service of it, from starting a switch.
///
/// # Errors
/// [`HandError`].
pub fn pause(
    settings: &Settings,
    service: Option<&ServiceName>,
    reason: &str,
) -> Result<(), HandError> {
    let layout = settings.layout();
    let why = checked(reason)?;
    if let Some(service) = service {
        exists(&layout, service)?;
    }
    let json = serde_json::to_vec(&Pause { why }).map_err(state)?;
    durable::write(&pause_file(&layout, service), &json, Access::All).map_err(state)
}

/// Ends a pause of the host, or of one service.
///
/// # Errors
/// [`HandError`].
pub fn resume(settings: &Settings, service: Option<&ServiceName>) -> Result<(), HandError> {
    let layout = settings.layout();
    durable::forget(&pause_file(&layout, service)).map_err(state)
}

/// Asks for the release before what is live.
///
/// # Errors
/// [`HandError`].
pub fn revert(settings: &Settings, service: &ServiceName, reason: &str) -> Result<(), HandError> {
    let layout = settings.layout();
    let why = checked(reason)?;
    exists(&layout, service)?;
    let live = switch::live(&layout, service).map_err(state)?;
    let release = live.ok_or_else(|| HandError::Nothing(service.clone()))?;
    let json = serde_json::to_vec(&Leave { release, why }).map_err(state)?;
    durable::write(&layout.leave(service), &json, Access::All).map_err(state)
}

/// Why the service is paused, by itself or with the whole host. A file that cannot be read pauses too.
pub(crate) fn paused(layout: &Layout, service: &ServiceName) -> Option<String> {
    [layout.service_pause(service), layout.pause()].iter().find_map(|path| {
        match durable::read(path, FILE_MAX_BYTES) {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                let read = serde_json::from_slice::<Pause>(&bytes);
                Some(read.map_or_else(|error| chain(&error), |pause| pause.why))
            }
            Err(error) => Some(chain(&error)),
        }
    })
}

/// The revert that was asked for, if any.
pub(crate) fn asked(layout: &Layout, service: &ServiceName) -> Option<Leave> {
    let read = durable::read(&layout.leave(service), FILE_MAX_BYTES);
    let bytes =
        read.inspect_err(|error| tracing::error!(error = %chain(error), "not read")).ok()??;
    match serde_json::from_slice(&bytes) {
        Ok(leave) => Some(leave),
        Err(error) => {
            tracing::error!(%service, %error, "a request to go back cannot be read; ask again");
            None
        }
    }
}

/// The request was taken up.
pub(crate) fn done(layout: &Layout, service: &ServiceName) -> Result<(), Fault> {
    durable::forget(&layout.leave(service))
}
