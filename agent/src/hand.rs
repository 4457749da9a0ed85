//! What a person on the host asks for: files in the state directory that the agent looks for, and finds at
//! its start as well. A pause lasts as long as its file; a revert is asked for once.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use groundswell_common::digest::hex;
use groundswell_common::limits::SERVICES_PER_HOST_MAX;
use groundswell_common::{ReleaseId, ServiceName, chain};
use groundswell_machine::State;
use rustix::fs::{FlockOperation, access};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::accepted;
use crate::config::Settings;
use crate::durable::{self, Access, Fault};
use crate::journal;
use crate::layout::Layout;
use crate::switch;

/// How long a verb waits for the agent to see what it asks; three of the agent's own looks.
const SEEN_WITHIN: Duration = Duration::from_secs(15);
const GLANCE: Duration = Duration::from_millis(10);
/// A mark for the host and one for each service, quoted.
const IN_FORCE_MAX_BYTES: usize = 64 * (SERVICES_PER_HOST_MAX + 1);

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
    /// Whoever asks may not.
    #[error("note the request: only root may write in {}; say it again with sudo", .0.display())]
    NotAllowed(PathBuf),
    /// Nothing is live.
    #[error("note the request: nothing of {0} is live")]
    Nothing(ServiceName),
    /// There is nothing to try again.
    #[error(
        "note the request: it is {state}, not stuck; 'groundswell-agent why {service}' says what holds it"
    )]
    NotStuck {
        /// Of which service.
        service: ServiceName,
        /// Where it stands.
        state: &'static str,
    },
    /// A person must look first.
    #[error(
        "note the request: {0} is stuck on its journal or its live link; see that what is live is what should run, \
         stop the agent, run 'groundswell-agent unstick {0}' and start it"
    )]
    Unstick(ServiceName),
    /// It is stuck, and goes nowhere.
    #[error(
        "note the request: it is stuck; 'groundswell-agent retry {0}' starts and probes what is live"
    )]
    Stuck(ServiceName),
    /// Nothing is to go back to.
    #[error("note the request: it stays: {0}")]
    Stays(&'static str),
    /// The system has no random bytes.
    #[error("note the request: no random bytes from the system")]
    Random(#[source] getrandom::Error),
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
    /// Names this request; files of older versions have none.
    #[serde(default)]
    mark: Option<String>,
}

/// The requests that the agent has seen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InForce {
    marks: BTreeSet<String>,
}

/// What became of a request until the verb ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The agent has seen it and goes by it. These services were in the middle of a switch then.
    InForce {
        /// By name.
        amid: Vec<ServiceName>,
    },
    /// No agent runs: the next one finds it at its start.
    NotRunning,
    /// One runs, and did not say that it has seen it.
    Unseen,
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

/// The layout, where whoever asks may write what is asked for.
fn writable(settings: &Settings) -> Result<Layout, HandError> {
    let layout = settings.layout();
    match access(layout.state(), rustix::fs::Access::WRITE_OK) {
        Err(Errno::ACCESS | Errno::PERM) => Err(HandError::NotAllowed(layout.state().to_owned())),
        // What else is wrong shows when it is written.
        Ok(()) | Err(_) => Ok(layout),
    }
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
) -> Result<Taken, HandError> {
    let layout = writable(settings)?;
    let why = checked(reason)?;
    if let Some(service) = service {
        exists(&layout, service)?;
    }
    let mark = mark()?;
    let pause = Pause { why, mark: Some(mark.clone()) };
    let json = serde_json::to_vec(&pause).map_err(state)?;
    durable::write(&pause_file(&layout, service), &json, Access::All).map_err(state)?;
    Ok(wait(&layout, || in_force(&layout).is_some_and(|marks| marks.contains(&mark))))
}

/// Ends a pause of the host, or of one service.
///
/// # Errors
/// [`HandError`].
pub fn resume(settings: &Settings, service: Option<&ServiceName>) -> Result<Taken, HandError> {
    let layout = writable(settings)?;
    let file = pause_file(&layout, service);
    let mark = read_mark(&file);
    durable::forget(&file).map_err(state)?;
    let is_seen = || match (&mark, in_force(&layout)) {
        (Some(mark), Some(marks)) => !marks.contains(mark),
        (Some(_), None) => false,
        // A file that nothing names; it is gone with the next look.
        (None, _) => true,
    };
    Ok(wait(&layout, is_seen))
}

/// Asks for the release before what is live.
///
/// # Errors
/// [`HandError`].
pub fn revert(
    settings: &Settings,
    service: &ServiceName,
    reason: &str,
) -> Result<Taken, HandError> {
    let layout = writable(settings)?;
    let why = checked(reason)?;
    exists(&layout, service)?;
    let live = switch::live(&layout, service).map_err(state)?;
    let release = live.ok_or_else(|| HandError::Nothing(service.clone()))?;
    if let Some(machine) = journal::load(&layout, service).ok().flatten() {
        let not = machine.no_way_back().filter(|_| machine.state.seen().is_at_rest());
        not.map_or(Ok(()), |not| Err(HandError::Stays(not)))?;
        if let State::Stuck { .. } = machine.state {
            return Err(HandError::Stuck(service.clone()));
        }
    }
    let json = serde_json::to_vec(&Leave { release, why }).map_err(state)?;
    let file = layout.leave(service);
    durable::write(&file, &json, Access::All).map_err(state)?;
    Ok(wait(&layout, || !file.exists()))
}

/// Asks for a start and probes of what is live and stuck.
///
/// # Errors
/// [`HandError`].
pub fn retry(settings: &Settings, service: &ServiceName) -> Result<Taken, HandError> {
    let layout = writable(settings)?;
    exists(&layout, service)?;
    let stray = |_| HandError::Unstick(service.clone());
    let machine = journal::load(&layout, service).map_err(stray)?.unwrap_or_default();
    if machine.is_unreadable() {
        return Err(HandError::Unstick(service.clone()));
    }
    if !machine.takes_retry_by_hand() {
        let (service, state) = (service.clone(), machine.state.name());
        return Err(HandError::NotStuck { service, state });
    }
    let file = layout.retry(service);
    durable::write(&file, b"", Access::All).map_err(state)?;
    Ok(wait(&layout, || !file.exists()))
}

/// For people.
#[must_use]
pub fn to_text(taken: &Taken, what: &str) -> String {
    match taken {
        Taken::InForce { amid } => {
            let amid = amid.iter().map(|service| {
                format!("{service} is in the middle of a switch, which goes to its end\n")
            });
            format!("{what}, and the agent goes by it\n{}", amid.collect::<String>())
        }
        Taken::NotRunning => {
            format!("{what}; the agent does not run, and goes by it from its next start\n")
        }
        Taken::Unseen => format!(
            "{what}, but the agent did not say within {} s that it goes by it; see 'groundswell-agent \
             doctor'\n",
            SEEN_WITHIN.as_secs()
        ),
    }
}

/// Names a request, so that it can be said which one is in force.
fn mark() -> Result<String, HandError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(HandError::Random)?;
    Ok(hex(&bytes))
}

/// Wakes the agent up and waits until it has seen a request.
fn wait(layout: &Layout, is_seen: impl Fn() -> bool) -> Taken {
    let began = Instant::now();
    let mut woken = false;
    while began.elapsed() < SEEN_WITHIN {
        if !is_held(&layout.lock()) {
            return Taken::NotRunning;
        }
        if !woken {
            wake(&layout.lock());
            woken = true;
        }
        if is_seen() {
            return Taken::InForce { amid: amid(layout) };
        }
        std::thread::sleep(GLANCE);
    }
    Taken::Unseen
}

/// Services whose switch has begun and is not over.
fn amid(layout: &Layout) -> Vec<ServiceName> {
    let mut services = accepted::services_on_disk(layout).unwrap_or_default();
    services.retain(|service| match journal::load(layout, service) {
        Ok(Some(machine)) => match machine.state {
            State::Switching { .. } | State::Probing { .. } | State::Baking { .. } => true,
            State::Idle {}
            | State::Fetching { .. }
            | State::Staged { .. }
            | State::Committed {}
            | State::Reverting { .. }
            | State::Stuck { .. } => false,
        },
        Ok(None) | Err(_) => false,
    });
    services
}

/// Whether a process holds this lock. It is only looked at: making it here would make it root's.
pub(crate) fn is_held(lock: &Path) -> bool {
    File::open(lock)
        .is_ok_and(|lock| rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
}

/// Writes into a lock who holds it.
///
/// # Errors
/// That of the system.
pub(crate) fn sign(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(std::process::id().to_string().as_bytes(), 0)
}

/// Asks the process that holds the lock to look now. Where that cannot be, it looks by itself a little later.
fn wake(lock: &Path) {
    let holder = || {
        let text = durable::read(lock, 16).ok()??;
        let pid = Pid::from_raw(String::from_utf8(text).ok()?.trim().parse().ok()?)?;
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Held still, and by this program: the number was not given to somebody else meanwhile.
        let program = |of: String| std::fs::read(format!("/proc/{of}/comm")).ok();
        let ours = program(pid.to_string())? == program("self".to_owned())?;
        (ours && is_held(lock)).then_some(process)
    };
    let Some(process) = holder() else { return };
    if let Err(error) = pidfd_send_signal(&process, Signal::HUP) {
        tracing::debug!(%error, "the agent is not woken up");
    }
}

fn read_mark(file: &Path) -> Option<String> {
    let bytes = durable::read(file, FILE_MAX_BYTES).ok()??;
    serde_json::from_slice::<Pause>(&bytes).ok()?.mark
}

fn in_force(layout: &Layout) -> Option<BTreeSet<String>> {
    let bytes = durable::read(&layout.in_force(), IN_FORCE_MAX_BYTES).ok()??;
    serde_json::from_slice::<InForce>(&bytes).ok().map(|seen| seen.marks)
}

/// The requests that lie on the disk now.
pub(crate) fn marks(layout: &Layout, services: &[ServiceName]) -> BTreeSet<String> {
    let of_services = services.iter().map(|service| layout.service_pause(service));
    std::iter::once(layout.pause()).chain(of_services).filter_map(|file| read_mark(&file)).collect()
}

/// Says which requests were seen; that it cannot be said stops nothing.
pub(crate) fn say_in_force(layout: &Layout, marks: &BTreeSet<String>) {
    let json = serde_json::to_vec(&InForce { marks: marks.clone() }).unwrap_or_default();
    if let Err(fault) = durable::write(&layout.in_force(), &json, Access::All) {
        tracing::warn!(error = %chain(&fault), "a pause is in force, and cannot be said to be");
    }
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

/// What ends the pause that a service is still under.
#[must_use]
pub fn stays_paused(settings: &Settings, service: &ServiceName) -> Option<String> {
    let layout = settings.layout();
    paused(&layout, service).map(|_| ends_pause(&layout, service))
}

/// What ends a pause of the service: a pause of the host and one of a service end each by its own verb.
pub(crate) fn ends_pause(layout: &Layout, service: &ServiceName) -> String {
    let own = (layout.service_pause(service), format!("'groundswell-agent resume {service}'"));
    let all = (layout.pause(), "'groundswell-agent resume'".to_owned());
    let there = [own, all].into_iter().filter(|(file, _)| file.exists());
    let verbs: Vec<String> = there.map(|(_, verb)| verb).collect();
    format!("{} lets it go on", verbs.join(" and "))
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

/// The request to try again was taken up.
pub(crate) fn retried(layout: &Layout, service: &ServiceName) -> Result<(), Fault> {
    durable::forget(&layout.retry(service))
}

/// The request was taken up.
pub(crate) fn done(layout: &Layout, service: &ServiceName) -> Result<(), Fault> {
    durable::forget(&layout.leave(service))
}
