//! Minds the live links while the agent runs, and at its start: one that somebody took away, or pointed at another
//! release, is put back to what the journal says that runs, and that is told (docs/agent.md A2.10).

use groundswell_common::{ReleaseId, ServiceName, chain};
use groundswell_machine::{Service, State};

use super::Driver;
use crate::layout::Layout;
use crate::switch::{self, LiveError};

impl Driver {
    /// Puts back each live link that is not what its journal says.
    pub(super) fn mind_links(&mut self) {
        for (service, slot) in &mut self.slots {
            let Some(release) = is_live(&slot.machine).filter(|_| !slot.frozen) else { continue };
            if let Some(note) = put_back(&self.outside.layout, service, release) {
                slot.relinked = Some(note);
            }
        }
    }
}

/// What must be live; `None` where nothing is, or the link is about to change.
fn is_live(machine: &Service) -> Option<ReleaseId> {
    match machine.state {
        State::Idle {}
        | State::Switching { .. }
        | State::Reverting { .. }
        | State::Stuck { .. } => None,
        State::Fetching { .. }
        | State::Staged { .. }
        | State::Probing { .. }
        | State::Baking { .. }
        | State::Committed {} => machine.running.as_ref().map(|known| known.id),
    }
}

/// At the start a link that is gone is put back; one that names something else may be newer than the journal.
pub(super) fn missing(
    layout: &Layout,
    (service, machine): (&ServiceName, &Service),
    live: Option<ReleaseId>,
) -> (Option<ReleaseId>, Option<String>) {
    let gone = is_live(machine).filter(|_| live.is_none());
    let note = gone.and_then(|release| put_back(layout, service, release));
    // Whether it could be put back, the link itself says.
    let live = if note.is_some() { switch::live(layout, service).ok().flatten() } else { live };
    (live, note)
}

/// What is told where the link was not what it should be and is now.
fn put_back(layout: &Layout, service: &ServiceName, release: ReleaseId) -> Option<String> {
    let was = match switch::live(layout, service) {
        Ok(Some(live)) if live == release => return None,
        Ok(Some(live)) => format!("pointed at {}", live.digest().short()),
        Ok(None) => "removed".to_owned(),
        Err(LiveError::Foreign(_)) => "pointed elsewhere".to_owned(),
        // What cannot be read now is looked at again.
        Err(LiveError::Fault(_)) => return None,
    };
    if !layout.release(service, &release).is_dir() {
        return None;
    }
    let link = layout.current(service);
    match switch::point(layout, service, &release) {
        Ok(()) => {
            tracing::error!(%service, was, "the live link was changed on this host and is put back");
            Some(format!(
                "{} was {was} on this host and is put back; look for who did that: a start in between ran something \
                 else",
                link.display()
            ))
        }
        Err(fault) => {
            tracing::error!(%service, was, error = %chain(&fault), "the live link is not put back");
            Some(format!("{} was {was} on this host: {}", link.display(), chain(&fault)))
        }
    }
}
