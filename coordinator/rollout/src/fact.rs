//! From a host's report to what it adds to the rollout, and from that to the host's next progress.
//! Changes nothing.

use groundswell_common::condition::{CONDITION_TEXT_MAX_BYTES, Fetched, Lack, ServiceCondition};
use groundswell_common::limits::FAILURE_TEXT_MAX_BYTES;
use groundswell_common::report::{FailedStep, HostState, Standing, Verdict};
use groundswell_common::{HostId, ReleaseId, Timestamp};

use crate::desired::{Want, generation, want};
use crate::input::HostFact;
use crate::phase::{Course, Phase};
use crate::plan::{RULES_HELD, RULES_SPOKEN, RULES_STOPS};
use crate::state::{HostEntry, Progress, Rollout};

/// Seconds beyond the host's own deadlines before its silence counts: the permit, the switch itself
/// and a reconnect.
pub const LOST_GRACE_SECS: u64 = 30;
/// How often a host may say that it switches and then that it has not.
const SWITCH_TRIES_MAX: u8 = 16;
/// What is said of a host that is stuck and names no failure.
const UNREADABLE: &str =
    "its agent cannot read its journal or its live link; see 'groundswell-agent doctor' there";
/// How often a host that was lost without having switched is tried again.
pub const LOST_RETRIES_MAX: u8 = 1;

/// What `standing` says that the rollout does not know; `None` where it says nothing new, so that
/// idle reports write nothing. `accepted` is the newest generation that the host accepted
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
    if !listens(rollout) || standing.service != rollout.plan.service {
        return None;
    }
    let entry = rollout.host(host)?;
    let busy = entry.busy.is_some();
    // Of what it said before it knew of its newest wish, nothing tells whether it is done.
    if busy && accepted < generation(rollout, host) {
        return None;
    }
    // Left out or held with a slot, it may have switched all the same.
    let gave_up_a_slot =
        matches!(entry.progress, Progress::Excluded { .. } | Progress::Held { .. });
    let listens = !busy || gave_up_a_slot;
    let news = observe(rollout, entry, standing, accepted)
        .filter(|_| listens)
        .filter(|seen| *seen != HostFact::Staged || !waits_staged(entry))
        .filter(|seen| next_progress(rollout, entry, seen, Timestamp::from_millis(0)).is_some());
    if busy {
        return news.or_else(|| rested(standing));
    }
    // Who is stuck and was permitted nothing is ill first: what it is stuck with counts against nobody then.
    match news {
        Some(stuck @ HostFact::Stuck { .. }) => health(rollout, entry, standing).or(Some(stuck)),
        news => news.or_else(|| health(rollout, entry, standing)),
    }
}

/// Whether the host stands staged and says what it lacks to ask for a permit: that it is staged is no news then, and
/// a slot would be lost on it. It says when it lacks that no longer.
fn waits_staged(entry: &HostEntry) -> bool {
    let waits = |lack: &Lack| matches!(lack, Lack::Approval | Lack::Root | Lack::StepDown);
    matches!(&entry.progress, Progress::Held { lack, .. } if waits(lack))
}

/// What `condition` says that the rollout does not know: that the host lacks something for the release, lacks it
/// no longer, or has more of its bytes.
#[must_use]
pub fn lack(rollout: &Rollout, host: &HostId, condition: &ServiceCondition) -> Option<HostFact> {
    if !listens(rollout) || condition.service != rollout.plan.service {
        return None;
    }
    let entry = rollout.host(host)?;
    let held = condition.held.as_ref().filter(|held| held.release == rollout.release());
    let seen = match (held, &entry.progress) {
        (Some(held), _) => {
            HostFact::Held { lack: held.lack, why: clip_to(&held.why, CONDITION_TEXT_MAX_BYTES) }
        }
        (None, Progress::Held { lack, .. }) if tries_again(*lack) => HostFact::Freed,
        (None, _) => HostFact::Fetched { permille: condition.fetched.map_or(0, permille) },
    };
    next_progress(rollout, entry, &seen, Timestamp::from_millis(0)).map(|_| seen)
}

/// Whether bytes that arrived are worth an entry now: at most one for each half of the progress deadline, for those
/// alone hold it.
#[must_use]
pub fn bytes_count(rollout: &Rollout, now: Timestamp) -> bool {
    let half_millis = rollout.plan.progress_deadline_secs.saturating_mul(500);
    match &rollout.phase {
        Phase::Running { progress_by, .. } => progress_by.millis_since(now) < half_millis,
        Phase::Planned
        | Phase::Baking { .. }
        | Phase::Gated { .. }
        | Phase::Paused { .. }
        | Phase::Halted { .. }
        | Phase::Reverting { .. }
        | Phase::Done { .. } => false,
    }
}

/// Whether the host itself tries again, and says when it no longer lacks this.
pub(crate) fn tries_again(lack: Lack) -> bool {
    match lack {
        Lack::Drained | Lack::Stage | Lack::Twin => false,
        Lack::Paused
        | Lack::UnitNotAllowed
        | Lack::UnitNotLoaded
        | Lack::User
        | Lack::Room
        | Lack::Inodes
        | Lack::Bytes
        | Lack::Drift
        | Lack::Journal
        | Lack::Bus
        | Lack::Approval
        | Lack::Root
        | Lack::Platform
        | Lack::StepDown
        | Lack::Agent
        | Lack::Settings => true,
    }
}

fn permille(fetched: Fetched) -> u16 {
    let thousandths = fetched.bytes.saturating_mul(1_000).checked_div(fetched.of).unwrap_or(0);
    u16::try_from(thousandths).unwrap_or(1_000).min(1_000)
}

/// That the host is in the middle of nothing.
fn rested(standing: &Standing) -> Option<HostFact> {
    // On a stuck host nothing goes on before a person has looked; its slot is freed for others.
    (!standing.state.is_busy()).then_some(HostFact::Rested)
}

/// What the report says of the release before, where that is news.
fn health(rollout: &Rollout, entry: &HostEntry, standing: &Standing) -> Option<HostFact> {
    // Nor is a host that is stuck with this very release ill by this rollout.
    let before = standing.state == HostState::Stuck
        || standing.running.is_some_and(|running| running != rollout.release());
    let seen = match standing.health {
        Verdict::Fail if before => HostFact::Ill,
        Verdict::Pass if before => HostFact::Well,
        Verdict::Fail | Verdict::Pass | Verdict::Inconclusive => return None,
    };
    health_news(entry, &seen).map(|_| seen)
}

/// Whether the release before is ill, where `fact` says so and that is news. What a host with a
/// slot says is about the new release.
pub(crate) fn health_news(entry: &HostEntry, fact: &HostFact) -> Option<bool> {
    let ill = match fact {
        HostFact::Ill => true,
        HostFact::Well => false,
        HostFact::Staged
        | HostFact::SwitchStarted
        | HostFact::Passed
        | HostFact::Committed
        | HostFact::Rested
        | HostFact::Failed { .. }
        | HostFact::RevertDone { .. }
        | HostFact::Held { .. }
        | HostFact::Freed
        | HostFact::Fetched { .. }
        | HostFact::Gone { .. }
        | HostFact::Stuck { .. } => return None,
    };
    let before = match entry.progress {
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Absent
        | Progress::Held { .. }
        | Progress::Excluded { ran: false, .. } => true,
        Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Excluded { ran: true, .. } => false,
    };
    Some(ill).filter(|ill| before && entry.ill != *ill)
}

/// Whether the rollout wants to be told that the host's connection came (`connected`) or went.
/// After a restart the caller reports no connection as gone before agents had time to come back.
#[must_use]
pub fn cares_about_link(rollout: &Rollout, host: &HostId, connected: bool) -> bool {
    let Some(entry) = rollout.host(host).filter(|_| listens(rollout)) else { return false };
    // Of a rollout that is over nothing waits for a host that is where it should be.
    let waits = connected || !rollout.is_over() || !has_arrived(&entry.progress);
    waits && entry.away.is_some() == connected
}

fn has_arrived(progress: &Progress) -> bool {
    match progress {
        Progress::Committed | Progress::Reverted => true,
        Progress::Pending
        | Progress::Absent
        | Progress::Staging
        | Progress::Staged
        | Progress::Held { .. }
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Lost
        | Progress::Failed { .. }
        | Progress::Excluded { .. } => false,
    }
}

fn listens(rollout: &Rollout) -> bool {
    rollout.started.is_some() && rollout.successor.is_none()
}

fn observe(
    rollout: &Rollout,
    entry: &HostEntry,
    standing: &Standing,
    accepted: u64,
) -> Option<HostFact> {
    let runs = is_of(rollout, standing.running);
    let aims = standing.target == Some(rollout.release());
    match standing.state {
        HostState::Switching | HostState::Probing if aims || runs => Some(HostFact::SwitchStarted),
        HostState::Baking if aims || runs => Some(HostFact::Passed),
        // It goes back: that it could not is an old story.
        HostState::Reverting => failed(rollout, standing).filter(|news| !is_stuck_back(news)),
        // What it was stuck with before it was told to take the service off is an old story.
        HostState::Stuck if rollout.plan.off().is_some() && !is_told(entry, accepted) => None,
        HostState::Stuck if is_old_story(rollout, entry, accepted) => None,
        HostState::Stuck => {
            not_staged_stuck(rollout, entry, standing).or(stuck(rollout, entry, standing))
        }
        HostState::Idle | HostState::Committed if runs => {
            let refused = refused_back(rollout, entry, standing, accepted);
            Some(refused.unwrap_or_else(|| committed(rollout, entry, standing)))
        }
        // It ran the release before this rollout, and has something else of an older one on its disk; of a service that
        // is taken off, what is on its disk says nothing.
        HostState::Staged | HostState::Fetching
            if runs && (!aims || rollout.plan.off().is_some()) =>
        {
            Some(committed(rollout, entry, standing))
        }
        HostState::Idle | HostState::Committed | HostState::Staged | HostState::Fetching => {
            elsewhere(rollout, entry, standing, accepted)
        }
        HostState::Switching | HostState::Probing | HostState::Baking => None,
    }
}

/// Whether the host knows that it is to go back.
fn is_told(entry: &HostEntry, accepted: u64) -> bool {
    let goes = matches!(entry.progress, Progress::Reverting { .. } | Progress::Overdue);
    goes && accepted >= entry.generation
}

/// Whether what a host is stuck with is from before it was asked for anything by this rollout: asked for what it
/// runs, it starts and probes that, and says how it went.
fn is_old_story(rollout: &Rollout, entry: &HostEntry, accepted: u64) -> bool {
    let told = accepted >= rollout.started.map_or(0, |started| started.max(entry.generation));
    match &entry.progress {
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Absent
        | Progress::Held { .. } => !told || want(rollout, entry) == Want::Hold,
        Progress::Committed | Progress::Reverting { .. } | Progress::Overdue => !told,
        Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Reverted
        | Progress::Excluded { .. } => false,
    }
}

fn is_stuck_back(news: &HostFact) -> bool {
    matches!(news, HostFact::Failed { step: FailedStep::Revert, .. })
}

/// That the host was told to go back and has nothing to go back to.
fn refused_back(
    rollout: &Rollout,
    entry: &HostEntry,
    standing: &Standing,
    accepted: u64,
) -> Option<HostFact> {
    let told = match entry.progress {
        // A report from before the order says nothing about it.
        Progress::Reverting { .. } | Progress::Overdue => is_told(entry, accepted),
        // It stays so until the host says something else.
        Progress::Failed { step: FailedStep::Revert, .. } => true,
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => false,
    };
    let news = failed(rollout, standing).filter(|_| told);
    news.filter(is_stuck_back)
}

fn committed(rollout: &Rollout, entry: &HostEntry, standing: &Standing) -> HostFact {
    let fails = standing.health == Verdict::Fail;
    let sick = match entry.progress {
        Progress::Committed => fails,
        // Stays as it is until its probes pass again: after a start of the agent nothing is known at first.
        Progress::Failed { step: FailedStep::Bake, reverted: false, .. } => {
            standing.health != Verdict::Pass
        }
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => false,
    };
    // What runs where this rollout changed nothing says nothing about it.
    if sick && !entry.kept && rollout.phase.course() == Course::Waves {
        let why = "its probes fail after it committed".to_owned();
        return HostFact::Failed { step: FailedStep::Bake, why, reverted: false };
    }
    HostFact::Committed
}

/// What a host says that is not in the middle of anything and does not run the release, or is still
/// fetching or holding something.
fn elsewhere(
    rollout: &Rollout,
    entry: &HostEntry,
    standing: &Standing,
    accepted: u64,
) -> Option<HostFact> {
    let release = Some(rollout.release());
    let runs = is_of(rollout, standing.running);
    let done = HostFact::RevertDone { running: standing.running };
    match &entry.progress {
        // A report from before the order to go back says nothing about whether it was obeyed.
        Progress::Reverting { .. } | Progress::Overdue if !runs && accepted >= entry.generation => {
            return Some(done);
        }
        // What it says now beats what it said once. One that said that it switches and has not, since its permit ran
        // out or it lacked something at the last look, gives its slot back.
        Progress::Committed if !runs && accepted >= entry.generation => {
            return Some(HostFact::Gone { running: standing.running });
        }
        Progress::Probing { .. } if !runs && standing.state == HostState::Fetching => {
            return Some(HostFact::Gone { running: standing.running });
        }
        // Nor has the release failed where it is gone without a word: the machine was put back to an earlier time, or
        // somebody changed its live link.
        Progress::Probing { .. } | Progress::Baking { .. } | Progress::Lost
            if !runs && accepted >= entry.generation && is_gone(rollout, entry, standing) =>
        {
            return Some(HostFact::Gone { running: standing.running });
        }
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => {}
    }
    match standing.state {
        HostState::Staged if standing.target == release && !runs => Some(HostFact::Staged),
        HostState::Idle | HostState::Committed => {
            let gone_back = matches!(
                entry.progress,
                Progress::Failed { reverted: false, .. } | Progress::Excluded { ran: true, .. }
            );
            // What it said before it was told to try again is an old story.
            let stale = entry.progress == Progress::Staging && accepted < entry.generation;
            let failed = failed(rollout, standing).filter(|_| !stale);
            failed.or(gone_back.then_some(done))
        }
        HostState::Staged
        | HostState::Fetching
        | HostState::Switching
        | HostState::Probing
        | HostState::Baking
        | HostState::Reverting
        | HostState::Stuck => None,
    }
}

/// Whether what had begun there is gone, and the host says nothing against the release.
fn is_gone(rollout: &Rollout, entry: &HostEntry, standing: &Standing) -> bool {
    let rests = match standing.state {
        HostState::Idle | HostState::Committed => true,
        // One that stands staged says so itself: its permit ran out, or it was silent and has not switched.
        HostState::Staged | HostState::Fetching => {
            matches!(entry.progress, Progress::Baking { .. })
        }
        HostState::Switching
        | HostState::Probing
        | HostState::Baking
        | HostState::Reverting
        | HostState::Stuck => false,
    };
    rests && failed(rollout, standing).is_none()
}

/// Whether a release is what the rollout is about: of one that takes the service off, any.
fn is_of(rollout: &Rollout, release: Option<ReleaseId>) -> bool {
    release.is_some_and(|release| rollout.plan.off().is_some() || release == rollout.release())
}

/// The failure of this release in this rollout; what an earlier rollout left behind is not news.
fn failed(rollout: &Rollout, standing: &Standing) -> Option<HostFact> {
    let ours = standing.rollout.as_ref().is_none_or(|id| *id == rollout.id);
    let failure = standing.failure.as_ref();
    let failure = failure.filter(|failure| ours && is_of(rollout, Some(failure.release)))?;
    // What failed before a service is taken off is an old story.
    if rollout.plan.off().is_some() && failure.step != FailedStep::Revert {
        return None;
    }
    let (step, reverted) = (failure.step, failure.reverted);
    Some(HostFact::Failed { step, why: clip(&failure.why), reverted })
}

/// That a host which is stuck with something older could not stage the release: it has not switched to it.
fn not_staged_stuck(rollout: &Rollout, entry: &HostEntry, standing: &Standing) -> Option<HostFact> {
    let news = failed(rollout, standing).filter(|_| !is_of(rollout, standing.running))?;
    let not_staged = matches!(news, HostFact::Failed { step: FailedStep::Stage, .. });
    let is_news = next_progress(rollout, entry, &news, Timestamp::from_millis(0)).is_some();
    Some(news).filter(|_| not_staged && is_news)
}

fn stuck(rollout: &Rollout, entry: &HostEntry, standing: &Standing) -> Option<HostFact> {
    let Some(failure) = &standing.failure else { return unreadable(rollout, entry, standing) };
    let named = [standing.running, standing.target, Some(failure.release)];
    let ours = named.into_iter().any(|release| is_of(rollout, release));
    ours.then(|| HostFact::Stuck { why: clip(&failure.why) })
}

/// An agent that is stuck and names no failure cannot read its journal or its live link: that is the host's own
/// trouble, and says nothing about the release.
fn unreadable(rollout: &Rollout, entry: &HostEntry, standing: &Standing) -> Option<HostFact> {
    let names = [standing.running, standing.target];
    let ours = names.into_iter().any(|release| is_of(rollout, release));
    match &entry.progress {
        Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Absent => {
            Some(HostFact::Held { lack: Lack::Journal, why: UNREADABLE.to_owned() })
        }
        // Whether it runs still is not known; it is ill, and runs what it said.
        Progress::Pending | Progress::Committed | Progress::Held { .. } => None,
        Progress::Failed { .. }
        | Progress::Lost
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Excluded { .. } => ours.then(|| HostFact::Stuck { why: UNREADABLE.to_owned() }),
    }
}

fn clip(text: &str) -> String {
    clip_to(text, FAILURE_TEXT_MAX_BYTES)
}

fn clip_to(text: &str, bytes: usize) -> String {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Where a fact brings the host; `None` where it changes nothing.
pub(crate) fn next_progress(
    rollout: &Rollout,
    entry: &HostEntry,
    fact: &HostFact,
    now: Timestamp,
) -> Option<Progress> {
    // A held host gave its slot up, and may have switched all the same; once it was at rest it has not.
    let late = rollout.plan.rules < RULES_SPOKEN || entry.busy.is_some();
    let uses_slot = matches!(entry.progress, Progress::Granted { .. })
        || (late && matches!(entry.progress, Progress::Held { .. }));
    match fact {
        HostFact::Staged => staged(entry),
        // Its probes and its bake begin anew: the machine stood still, or somebody started the service anew.
        HostFact::SwitchStarted
            if uses_slot
                || (matches!(entry.progress, Progress::Baking { .. })
                    && entry.retries < SWITCH_TRIES_MAX) =>
        {
            Some(Progress::Probing { deadline: lost_at(rollout, now) })
        }
        HostFact::Passed if uses_slot || matches!(entry.progress, Progress::Probing { .. }) => {
            let left = rollout.plan.host_bake_secs + LOST_GRACE_SECS;
            Some(Progress::Baking { deadline: now.plus_secs(left) })
        }
        HostFact::SwitchStarted | HostFact::Passed | HostFact::Committed
            if matches!(entry.progress, Progress::Excluded { ran: false, .. }) =>
        {
            excluded(entry, true)
        }
        HostFact::SwitchStarted | HostFact::Passed => relapsed(rollout, entry, Progress::Lost),
        HostFact::Committed => match entry.progress {
            Progress::Committed
            | Progress::Reverting { .. }
            | Progress::Overdue
            | Progress::Excluded { .. } => None,
            Progress::Reverted => relapsed(rollout, entry, Progress::Committed),
            Progress::Pending
            | Progress::Staging
            | Progress::Staged
            | Progress::Granted { .. }
            | Progress::Probing { .. }
            | Progress::Baking { .. }
            | Progress::Failed { .. }
            | Progress::Lost
            | Progress::Held { .. }
            | Progress::Absent => Some(Progress::Committed),
        },
        HostFact::Failed { step, why, .. }
            if *step == FailedStep::Stage && rollout.plan.rules >= RULES_HELD =>
        {
            not_staged(entry, why)
        }
        HostFact::Failed { step, why, reverted } => fails(entry, (*step, why, *reverted)),
        HostFact::RevertDone { .. } => reverted(entry),
        // These change no progress.
        HostFact::Ill | HostFact::Well | HostFact::Rested => None,
        HostFact::Held { lack, why } => held(entry, *lack, why),
        HostFact::Freed => freed(entry),
        HostFact::Fetched { permille } => {
            let more = entry.progress == Progress::Staging && *permille > entry.permille;
            more.then_some(Progress::Staging)
        }
        HostFact::Gone { .. } => gone(rollout, entry),
        HostFact::Stuck { why } => fails(entry, (FailedStep::Revert, why, false)),
    }
}

/// A host that lacks something gives up its place; what it lacks is no failure of the release.
fn held(entry: &HostEntry, lack: Lack, why: &str) -> Option<Progress> {
    let held = Progress::Held { lack, why: clip_to(why, CONDITION_TEXT_MAX_BYTES) };
    match &entry.progress {
        // Nothing tells any more how far it came, or a person there has stopped what was being watched.
        Progress::Probing { .. } | Progress::Baking { .. }
            if matches!(lack, Lack::Journal | Lack::Paused) =>
        {
            Some(held)
        }
        Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Absent
        | Progress::Held { .. } => Some(held).filter(|held| *held != entry.progress),
        Progress::Pending
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Excluded { .. } => None,
    }
}

fn freed(entry: &HostEntry) -> Option<Progress> {
    match &entry.progress {
        Progress::Held { .. } => Some(Progress::Staging),
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Excluded { .. } => None,
    }
}

/// A host that had committed, or begun, and does not run the release any more is brought there again, unless the
/// rollout takes its hosts back: then it is where it should be.
fn gone(rollout: &Rollout, entry: &HostEntry) -> Option<Progress> {
    match &entry.progress {
        Progress::Baking { .. } if entry.retries >= SWITCH_TRIES_MAX => {
            let why = "it was brought there again and again, and each time the release was gone \
                while it was watched; look for who puts the host back";
            return Some(Progress::Held { lack: Lack::Stage, why: why.to_owned() });
        }
        Progress::Committed | Progress::Probing { .. } | Progress::Baking { .. } => {}
        Progress::Lost if entry.retries < LOST_RETRIES_MAX => {}
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => return None,
    }
    match rollout.phase.course() {
        Course::Back => Some(Progress::Reverted),
        Course::Waves | Course::Late => Some(Progress::Staging),
        Course::Planned | Course::Ended => None,
    }
}

fn staged(entry: &HostEntry) -> Option<Progress> {
    match &entry.progress {
        Progress::Staging => Some(Progress::Staged),
        Progress::Probing { .. } if entry.retries < SWITCH_TRIES_MAX => Some(Progress::Staged),
        Progress::Probing { .. } => {
            let why =
                "each of its permits ran out before the live link was replaced; look at its disk";
            Some(Progress::Held { lack: Lack::Stage, why: why.to_owned() })
        }
        // What is paused may be staged, and is paused all the same.
        Progress::Held { lack: Lack::Paused, .. } => None,
        Progress::Held { lack, .. } if tries_again(*lack) || *lack == Lack::Stage => {
            Some(Progress::Staged)
        }
        Progress::Failed { step: FailedStep::Stage, .. } => Some(Progress::Staged),
        Progress::Lost if entry.retries < LOST_RETRIES_MAX => Some(Progress::Staged),
        Progress::Pending
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => None,
    }
}

/// A host that is left out, as far as a revert is concerned.
fn excluded(entry: &HostEntry, ran: bool) -> Option<Progress> {
    let gone = matches!(entry.progress, Progress::Excluded { gone: true, .. });
    Some(Progress::Excluded { ran, gone })
}

/// A host that counted as gone back and runs the release after all must go back again.
fn relapsed(rollout: &Rollout, entry: &HostEntry, to: Progress) -> Option<Progress> {
    let back = rollout.phase.course() == Course::Back;
    (back && entry.progress == Progress::Reverted).then_some(to)
}

fn fails(entry: &HostEntry, failure: (FailedStep, &str, bool)) -> Option<Progress> {
    let (step, why, reverted) = failure;
    let failed = |step| Some(Progress::Failed { step, why: clip(why), reverted });
    match &entry.progress {
        Progress::Pending | Progress::Reverted | Progress::Excluded { .. } => None,
        // A host that holds no slot cannot have switched: anything later is an older story.
        Progress::Staging | Progress::Staged | Progress::Absent => match step {
            FailedStep::Stage | FailedStep::Revert => failed(FailedStep::Stage),
            FailedStep::Switch | FailedStep::Probe | FailedStep::Bake => None,
        },
        Progress::Held { .. } if !entry.begun => None,
        Progress::Held { .. }
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Lost => failed(step),
        Progress::Committed => match step {
            FailedStep::Stage => None,
            FailedStep::Switch | FailedStep::Probe | FailedStep::Bake | FailedStep::Revert => {
                failed(step)
            }
        },
        Progress::Failed { step: had, reverted: was, .. } => {
            let news = (step, reverted) != (*had, *was) && (reverted || !*was);
            let before_switch = *had == FailedStep::Stage;
            if news && !before_switch { failed(step) } else { None }
        }
        Progress::Reverting { .. } | Progress::Overdue => match step {
            FailedStep::Revert => failed(step),
            FailedStep::Stage | FailedStep::Switch | FailedStep::Probe | FailedStep::Bake => {
                reverted.then_some(Progress::Reverted)
            }
        },
    }
}

/// A host that could not stage has not switched: nothing is known against the release.
fn not_staged(entry: &HostEntry, why: &str) -> Option<Progress> {
    match &entry.progress {
        Progress::Staging | Progress::Staged | Progress::Absent | Progress::Granted { .. } => {
            held(entry, Lack::Stage, why)
        }
        Progress::Lost => {
            let why = clip_to(why, CONDITION_TEXT_MAX_BYTES);
            Some(Progress::Held { lack: Lack::Stage, why })
        }
        // What the host itself says it lacks says more.
        Progress::Pending
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Reverting { .. }
        | Progress::Overdue
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => None,
    }
}

fn reverted(entry: &HostEntry) -> Option<Progress> {
    match &entry.progress {
        Progress::Reverting { .. } | Progress::Overdue => Some(Progress::Reverted),
        Progress::Excluded { ran: true, .. } => excluded(entry, false),
        Progress::Failed { step, why, reverted: false } if *step != FailedStep::Stage => {
            Some(Progress::Failed { step: *step, why: why.clone(), reverted: true })
        }
        Progress::Pending
        | Progress::Staging
        | Progress::Staged
        | Progress::Granted { .. }
        | Progress::Probing { .. }
        | Progress::Baking { .. }
        | Progress::Committed
        | Progress::Failed { .. }
        | Progress::Lost
        | Progress::Absent
        | Progress::Reverted
        | Progress::Held { .. }
        | Progress::Excluded { .. } => None,
    }
}

/// When a host that gets its slot now counts as lost.
pub(crate) fn lost_at(rollout: &Rollout, now: Timestamp) -> Timestamp {
    // What runs before has as long to stop as what is started has to pass its probes.
    let stops = u64::from(rollout.plan.rules >= RULES_STOPS);
    waited(rollout, now, 1 + stops).plus_secs(rollout.plan.host_bake_secs)
}

/// When a host that is told now to go back no longer keeps its slot.
pub(crate) fn back_at(rollout: &Rollout, now: Timestamp) -> Timestamp {
    // A stop, a start and the probes have as long each.
    let parts = if rollout.plan.rules >= RULES_STOPS { 3 } else { 1 };
    waited(rollout, now, parts)
}

fn waited(rollout: &Rollout, now: Timestamp, times: u64) -> Timestamp {
    now.plus_secs(times * rollout.plan.probe_deadline_secs + LOST_GRACE_SECS)
}
