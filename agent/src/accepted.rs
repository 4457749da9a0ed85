//! The newest directive that the host accepted, kept with its proofs: the floor under which no directive
//! is accepted again, and the wishes that a restart goes on with.

use std::io;

use groundswell_common::directive::{Directive, RawDirective};
use groundswell_common::report::RefusalNote;
use groundswell_common::trust::{DirectiveFloor, Document as _, Envelope, Verified};
use groundswell_common::wire::{DirectiveMessage, ReleaseProof};
use groundswell_common::{HostId, ReleaseId, ServiceName, chain};

use crate::durable::{self, Access, Fault, at};
use crate::layout::Layout;
use crate::own;
use groundswell_machine::Wish;

/// An envelope and the proofs of up to 512 releases.
const FILE_MAX_BYTES: usize = 4 * 1024 * 1024;
const REFUSAL_MAX_BYTES: usize = 4 * 1024;

/// Why the directive on disk cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AcceptedError {
    /// The file system failed.
    #[error("read the accepted directive")]
    Fault(#[from] Fault),
    /// Damaged. Without it an older directive could pass for a newer one.
    #[error(
        "read the accepted directive: directive.json is damaged; restore it, or 'swell host remove' this host and \
         'groundswell-agent enroll --again TOKEN' it: services stay as they are"
    )]
    Damaged(#[source] serde_json::Error),
    /// A directive that breaks the rules of its kind.
    #[error(
        "read the accepted directive: directive.json is damaged; restore it, or 'swell host remove' this host and \
         'groundswell-agent enroll --again TOKEN' it: services stay as they are"
    )]
    Invalid(#[source] groundswell_common::directive::DirectiveError),
}

impl AcceptedError {
    /// Whether the file is there and says nothing that may be used.
    pub(crate) fn is_damaged(&self) -> bool {
        match self {
            Self::Fault(_) => false,
            Self::Damaged(_) | Self::Invalid(_) => true,
        }
    }
}

/// A directive that was accepted, and the message that brought it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    directive: RawDirective,
    message: DirectiveMessage,
}

impl Accepted {
    pub(crate) fn new(directive: &Verified<Directive>, message: DirectiveMessage) -> Self {
        let directive: &RawDirective = directive.get();
        Self { directive: directive.clone(), message }
    }

    /// Whether it was made for this host; another one is of an enrolment before.
    pub(crate) fn is_for(&self, host: &HostId) -> bool {
        self.directive.host == *host
    }

    pub(crate) fn generation(&self) -> u64 {
        self.directive.generation
    }

    pub(crate) fn floor(&self) -> DirectiveFloor {
        let digest = Some(self.message.envelope.digest());
        let (generation, root_version) = (self.directive.generation, self.directive.root_version);
        DirectiveFloor { generation, digest, root_version }
    }

    pub(crate) fn proof(&self, release: &ReleaseId) -> Option<ReleaseProof> {
        self.message.proofs.iter().find(|proof| proof.release == *release).cloned()
    }

    /// What it wishes, by service.
    pub(crate) fn wishes(&self) -> Vec<(ServiceName, Wish)> {
        let generation = self.directive.generation;
        let wish = |wish: &groundswell_common::directive::ServiceWish| {
            let made = Wish {
                generation,
                action: wish.action,
                probe_deadline_secs: wish.probe_deadline_secs,
                bake_secs: wish.bake_secs,
                probe_interval_secs: wish.probe_interval_secs,
                // The agent itself is good for nothing without contact.
                confirm_by_contact: wish.confirm_by_contact || own::is_own(&wish.service),
                rollout: wish.rollout.clone(),
            };
            (wish.service.clone(), made)
        };
        self.directive.services.iter().map(wish).collect()
    }
}

/// Makes an accepted directive durable; nothing is done under it before.
pub(crate) fn save(layout: &Layout, accepted: &Accepted) -> Result<(), Fault> {
    let json = serde_json::to_vec(&accepted.message).unwrap_or_default();
    durable::write_json(&layout.directive(), json)
}

/// Drops the floor, which a root with a new director allows.
pub(crate) fn forget(layout: &Layout) -> Result<(), Fault> {
    durable::forget(&layout.directive())
}

/// Reads it back; `None` before the first.
pub(crate) fn load(layout: &Layout) -> Result<Option<Accepted>, AcceptedError> {
    let Some(bytes) = durable::read(&layout.directive(), FILE_MAX_BYTES)? else { return Ok(None) };
    let message: DirectiveMessage =
        serde_json::from_slice(&bytes).map_err(AcceptedError::Damaged)?;
    let raw: RawDirective =
        serde_json::from_slice(&message.envelope.payload).map_err(AcceptedError::Damaged)?;
    let directive = Directive::check(raw).map_err(AcceptedError::Invalid)?;
    Ok(Some(Accepted { directive: (*directive).clone(), message }))
}

/// The generation that a refused directive claims; 0 when it cannot be read. For people only.
pub(crate) fn claimed_generation(envelope: &Envelope) -> u64 {
    if envelope.payload.len() > Directive::MAX_BYTES {
        return 0;
    }
    let raw: Option<RawDirective> = serde_json::from_slice(&envelope.payload).ok();
    raw.map_or(0, |raw| raw.generation)
}

/// Notes that the newest directive was refused, or that it no longer is: for people on the host alone.
pub(crate) fn note_refusal(layout: &Layout, refusal: Option<&RefusalNote>) {
    let path = layout.refused();
    let noted = match refusal {
        Some(refusal) => {
            let json = serde_json::to_vec(refusal).unwrap_or_default();
            durable::write(&path, &json, Access::All)
        }
        None => durable::remove(&path),
    };
    if let Err(fault) = noted {
        tracing::debug!(error = %chain(&fault), "a refusal is not noted");
    }
}

/// The refusal that was noted last; `None` where the newest directive was accepted.
pub(crate) fn refusal(layout: &Layout) -> Option<RefusalNote> {
    let bytes = durable::read(&layout.refused(), REFUSAL_MAX_BYTES).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// Every service that has a directory here.
pub(crate) fn services_on_disk(layout: &Layout) -> Result<Vec<ServiceName>, Fault> {
    let dir = layout.services();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(at("list", &dir)(error)),
    };
    let mut services = Vec::new();
    for entry in entries {
        let name = entry.map_err(at("list", &dir))?.file_name();
        if let Some(service) = name.to_str().and_then(|name| name.parse().ok()) {
            services.push(service);
        }
    }
    services.sort();
    Ok(services)
}
