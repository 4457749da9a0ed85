//! What each host should be, derived from the state each time and never queued; and who may switch.
//! Changes nothing.

use groundswell_common::directive::{Action, ServiceWish};
use groundswell_common::wire::Deny;
use groundswell_common::{HostId, ReleaseId, Timestamp};

use crate::calendar::Opening;
use crate::fact::tries_again;
use crate::phase::{Outcome, Phase};
use crate::settle::next_change;
use crate::state::{HostEntry, Progress, Rollout};

/// The kind of wish for a host, before names and numbers are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Hold,
    Stage,
    Switch,
    Revert,
}

/// What the host should do with the rollout's service; `None` where the rollout has no say: it has
/// not started, or the host is not in its plan. Equal states give equal wishes.
///
/// A rollout that was superseded still answers; the caller asks the newest started rollout of a
/// service that has the host.
#[must_use]
pub fn desired(rollout: &Rollout, host: &HostId) -> Option<ServiceWish> {
    rollout.started?;
    let (ordinal, entry) = rollout.found(host)?;
    let (_, planned) = rollout.planned_at(ordinal)?;
    let release = rollout.release();
    let action = match want(rollout, entry) {
        Want::Hold => Action::Hold {},
        Want::Stage => Action::Stage { release },
        Want::Switch => Action::Switch { release },
        Want::Revert if rollout.plan.off().is_some() => Action::Remove {},
        Want::Revert => Action::Revert { from: release, to: planned.previous },
    };
    Some(ServiceWish {
        service: rollout.plan.service.clone(),
        action,
        probe_deadline_secs: rollout.plan.probe_deadline_secs,
        bake_secs: rollout.plan.host_bake_secs,
        probe_interval_secs: rollout.plan.probe_interval_secs,
        confirm_by_contact: rollout.plan.confirm_by_contact,
        rollout: Some(rollout.id.clone()),
    })
}

/// The number of the ledger entry that changed the host's wish last; 0 where it has no say.
#[must_use]
pub fn generation(rollout: &Rollout, host: &HostId) -> u64 {
    let entry = rollout.host(host).zip(rollout.started);
    entry.map_or(0, |(entry, started)| entry.generation.max(started))
}

/// Whether the host may switch to `release` at `now`, asked right before each switch. `generation` is
/// that of the directive which the host acts on. The calendar is looked at again here: a window may be over
/// before a tick takes note of it, as after a start or when the clock was set.
///
/// # Errors
/// [`Deny::Stopped`] where nobody may switch; [`Deny::Stale`] where this host may not: it has no
/// slot, another release is wanted, or its directive is older than its slot.
pub fn may_switch(
    rollout: &Rollout,
    host: &HostId,
    release: &ReleaseId,
    generation: u64,
    now: Timestamp,
) -> Result<(), Deny> {
    let is_still = next_change(&rollout.opening).is_none_or(|change| now < change);
    let is_open = calendar_is_open(rollout) && is_still;
    if !goes_forward(rollout) || !is_open {
        return Err(Deny::Stopped);
    }
    let entry = rollout.host(host).ok_or(Deny::Stale)?;
    let current = generation >= entry.generation && *release == rollout.release();
    match entry.progress {
        Progress::Granted { .. } | Progress::Probing { .. } if current => Ok(()),
        Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => Err(Deny::Stale),
    }
}

/// Whether hosts may be brought to the release now.
pub(crate) fn goes_forward(rollout: &Rollout) -> bool {
    let phase = match &rollout.phase {
        Phase::Running { .. } | Phase::Baking { .. } | Phase::Gated { .. } => true,
        Phase::Done { outcome: Outcome::Completed, .. } => true,
        Phase::Planned
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { outcome: Outcome::Reverted { .. }, .. }
        | Phase::Done { outcome: Outcome::Aborted { .. }, .. }
        | Phase::Done { outcome: Outcome::Superseded { .. }, .. } => false,
    };
    phase && rollout.successor.is_none()
}

/// Whether hosts may switch by the calendar.
pub(crate) fn calendar_is_open(rollout: &Rollout) -> bool {
    match rollout.opening {
        Opening::Open { .. } => true,
        Opening::Shut { .. } | Opening::Frozen { .. } => false,
    }
}

pub(crate) fn want(rollout: &Rollout, entry: &HostEntry) -> Want {
    let forward = goes_forward(rollout);
    match &entry.progress {
        Progress::Staging | Progress::Staged if forward => Want::Stage,
        // Whoever says that it lacks something tries again as long as it is asked to.
        Progress::Held { lack, .. } if forward && tries_again(*lack) => Want::Stage,
        Progress::Pending if forward && rollout.plan.prefetch => Want::Stage,
        Progress::Granted { .. } if forward && calendar_is_open(rollout) => Want::Switch,
        Progress::Granted { .. } if forward => Want::Stage,
        // It keeps what it runs, which may be any release.
        Progress::Committed if rollout.plan.off().is_some() => Want::Hold,
        Progress::Probing { .. } | Progress::Baking { .. } | Progress::Committed => Want::Switch,
        Progress::Reverting { .. } | Progress::Overdue => Want::Revert,
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => Want::Hold,
    }
}
