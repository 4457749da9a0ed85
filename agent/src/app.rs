//! Puts the agent together, runs it, and takes it apart in order. The only place where real ports are made.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use groundswell_common::token::{Token, TokenError};
use groundswell_common::wire::LEVEL_NEWEST;
use groundswell_common::{Clock, ReleaseId, ServiceName, chain};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::access::Keeper;
use crate::boot;
use crate::clock::{SteadyClock, wall};
use crate::config::{self, Opened, Settings, Supervisor};
use crate::contact::Notes;
use crate::driver::{Driver, DriverError, Ends, LOOK};
use crate::durable::{self, Fault, at};
pub use crate::enroll::Again;
use crate::enroll::{self, EnrollError};
use crate::fetch::HttpDepot;
use crate::hand;
use crate::hooks::{self, RunError};
use crate::identity::{self, Credentials, IdentityError, Loaded};
use crate::layout::Layout;
use crate::link::{self, QUEUE_MAX};
use crate::live::Live;
use crate::ports::{Depot, Units};
use crate::probe::RealProbes;
use crate::relay::{self, Gate};
use crate::text::span;
use crate::units::{ProcessUnits, SystemdUnits};
use crate::work::Outside;
use groundswell_net::Notify;

/// Events of jobs and timers that may wait for the driver.
const BACK_MAX: usize = 64;
/// Blocking work (unpacking, hashing) at the same time.
const BLOCKING_THREADS_MAX: usize = 4;

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Not enrolled, or the identity is damaged.
    #[error(transparent)]
    Identity(#[from] AnyIdentityError),
    /// The driver cannot go on.
    #[error(transparent)]
    Driver(#[from] AnyDriverError),
    /// Another agent holds the state directory.
    #[error("lock {0}: another agent runs on this state directory; stop it first")]
    Locked(String),
    /// One side alone, without a directory for the other.
    #[error(
        "start the agent: net_dir is not set; name the network side's directory, or use 'groundswell-agent run'"
    )]
    NotSplit,
    /// The system refuses something at start.
    #[error("start the agent")]
    System(#[source] io::Error),
    /// A line that is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Enrolment failed.
    #[error(transparent)]
    Enroll(#[from] AnyEnrollError),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] AnyHookError),
}

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        pub struct $name($inner);

        impl From<$inner> for AppError {
            fn from(error: $inner) -> Self {
                Self::from($name(error))
            }
        }
    };
}

opaque!(
    /// An [`IdentityError`], whose cases are of no use outside.
    AnyIdentityError,
    IdentityError
);
opaque!(
    /// A [`DriverError`], whose cases are of no use outside.
    AnyDriverError,
    DriverError
);
opaque!(
    /// A [`RunError`], whose cases are of no use outside.
    AnyHookError,
    RunError
);
opaque!(
    /// An [`EnrollError`], whose cases are of no use outside.
    AnyEnrollError,
    EnrollError
);

impl From<Fault> for AppError {
    fn from(fault: Fault) -> Self {
        Self::from(DriverError::from(fault))
    }
}

impl AppError {
    /// The exit code of docs/agent.md A7: 75 when the same command may work later, 78 when the host or
    /// its configuration must be changed first.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let temporary = match self {
            Self::Identity(_) | Self::Token(_) | Self::NotSplit => false,
            Self::Driver(_) | Self::Locked(_) | Self::System(_) | Self::Hook(_) => true,
            Self::Enroll(error) => error.0.is_temporary(),
        };
        if temporary { 75 } else { 78 }
    }
}

/// What the environment says to whatever runs.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `NOTIFY_SOCKET`.
    pub notify_socket: Option<String>,
    /// `WATCHDOG_USEC`.
    pub watchdog_usec: Option<String>,
    /// The release that this program is of, where it is not the one that the package installed.
    pub release: Option<ReleaseId>,
}

fn runtime() -> Result<tokio::runtime::Runtime, AppError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(512 * 1024)
        .build()
        .map_err(AppError::System)
}

/// Enrols this host with the line that `swell host enroll-token` printed; returns what to tell people.
///
/// # Errors
/// [`AppError`].
pub fn enroll(settings: &Settings, line: &str, again: Again) -> Result<String, AppError> {
    let token: Token = line.parse()?;
    let layout = settings.layout();
    let work = enroll::enroll(&layout, &token, settings.name.clone(), again);
    let identity = runtime()?.block_on(work)?;
    let mut text = format!(
        "enrolled {} as {} in {} ({})\n",
        identity.name, identity.host, identity.fleet, identity.environment
    );
    let ahead = wall().as_secs().saturating_sub(token.expires);
    if ahead > 0 {
        text.push_str(&format!(
            "the clock of this host is at least {} ahead: it is past the end of a token that the \
             coordinator took; set it\n",
            span(ahead)
        ));
    }
    text.push_str(match (layout.is_split(), again) {
        (true, Again::No) => "next: systemctl enable --now groundswell-agent groundswell-apply\n",
        (true, Again::Yes) => "next: systemctl restart groundswell-agent groundswell-apply\n",
        (false, Again::No) => "next: groundswell-agent run\n",
        (false, Again::Yes) => "next: restart the agent\n",
    });
    Ok(text)
}

/// Runs the hook that is due for a service, in this process' own sandbox.
///
/// # Errors
/// [`AppError`].
pub fn hook(settings: &Settings, service: &ServiceName) -> Result<(), AppError> {
    Ok(runtime()?.block_on(hooks::run_due(&settings.layout(), service))?)
}

/// Runs the agent as one process until it is told to stop.
///
/// # Errors
/// [`AppError`].
pub fn run(opened: Opened, environment: &Environment) -> Result<(), AppError> {
    let layout = opened.settings.layout();
    let loaded = identity::load(&layout)?;
    let credentials = Credentials::load(&layout)?;
    let _lock = lock(&layout.lock())?;
    keep(&opened);
    let live = Live::new(opened);
    block_on(async {
        let (ends, depot) = connect(&live, &loaded, credentials)?;
        serve(live, loaded, (ends, depot), environment).await
    })
}

/// Runs the apply side until it is told to stop.
///
/// # Errors
/// [`AppError`].
pub fn apply(opened: Opened, environment: &Environment) -> Result<(), AppError> {
    let layout = split(&opened.settings)?;
    let live = Live::new(opened);
    let loaded = identity::load(&layout)?;
    let _lock = lock(&layout.lock())?;
    block_on(async {
        let gate = Gate::open(&layout, &live.now().socket)?;
        let (ends, depot) = listen(layout, gate, &loaded);
        serve(live, loaded, (ends, depot), environment).await
    })
}

/// Runs the network side until it is told to stop.
///
/// # Errors
/// [`AppError`].
pub fn net(opened: Opened, environment: &Environment) -> Result<(), AppError> {
    let layout = split(&opened.settings)?;
    let live = Live::new(opened);
    Credentials::load(&layout)?;
    let _lock = lock(&layout.net_lock())?;
    let notify = notify(environment);
    block_on(async {
        let stop = stop()?;
        listen_for_reload(&live)?;
        let (socket, net_dir) = (live.now().socket.clone(), layout.net().to_owned());
        tell(&notify, "READY=1\nSTATUS=running");
        tokio::spawn(watchdog(notify.clone()));
        tokio::select! {
            () = relay::net(layout, &socket, live.clone()) => {}
            () = reread(&live) => {}
            () = shut_out(net_dir) => {}
            () = stop => {}
        }
        tell(&notify, "STOPPING=1");
        Ok(())
    })
}

/// One process keeps what it begins with itself, where it may write; of two, root does (groundswell-apply.service).
fn keep(opened: &Opened) {
    if let Err(error) = config::keep(&opened.file) {
        tracing::debug!(error = %chain(&error), "no copy of the settings is kept");
    }
}

/// SIGHUP asks that the settings, and what a person on the host wants, are looked at now.
fn listen_for_reload(live: &Live) -> Result<(), AppError> {
    let mut hangup = signal(SignalKind::hangup()).map_err(AppError::System)?;
    let live = live.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            live.nudge();
        }
    });
    Ok(())
}

/// Reads the settings again, for ever.
async fn reread(live: &Live) {
    loop {
        tokio::select! {
            () = live.nudged() => {}
            () = sleep(LOOK) => {}
        }
        live.reread();
    }
}

fn split(settings: &Settings) -> Result<Layout, AppError> {
    let layout = settings.layout();
    if layout.is_split() { Ok(layout) } else { Err(AppError::NotSplit) }
}

fn block_on(work: impl Future<Output = Result<(), AppError>>) -> Result<(), AppError> {
    let runtime = runtime()?;
    let ended = runtime.block_on(work);
    // Work in the blocking threads is cut off: every state on disk is one to resume from.
    runtime.shutdown_background();
    ended
}

fn notify(environment: &Environment) -> Arc<Notify> {
    let (socket, usec) = (&environment.notify_socket, &environment.watchdog_usec);
    Arc::new(Notify::new(socket.as_deref(), usec.as_deref()))
}

/// Nobody else may open a lock, and so nobody else can hold it.
const LOCK_MODE: u32 = 0o600;

pub(crate) fn lock(path: &Path) -> Result<File, AppError> {
    use rustix::fs::FlockOperation;
    use rustix::io::Errno;

    // Whoever may open it may hold it, and keep the agent from starting.
    let mut options = File::options();
    let written = match options.create(true).truncate(false).write(true).mode(LOCK_MODE).open(path)
    {
        // What is there can be held all the same.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => None,
        opened => Some(opened.map_err(at("open", path))?),
    };
    // One of an older agent is open to everybody.
    if let Some(file) = &written {
        file.set_permissions(Permissions::from_mode(LOCK_MODE))
            .map_err(at("close to others", path))?;
    }
    let exclusive = FlockOperation::NonBlockingLockExclusive;
    // Held for reading it keeps no disk busy.
    let held = File::open(path).map_err(at("open", path))?;
    let locked = rustix::fs::flock(&held, exclusive);
    // Whom to wake up; without it requests are seen a few seconds later.
    let signed = written.as_ref().map_or(Ok(()), |file| match locked {
        Ok(()) => hand::sign(file),
        Err(_) => Ok(()),
    });
    if let Err(error) = signed {
        tracing::warn!(%error, path = %path.display(), "the lock is held and not signed");
    }
    match (locked, written) {
        (Ok(()), _) => Ok(held),
        // Over a network some file systems lock for writing only.
        (Err(Errno::BADF), Some(file)) if rustix::fs::flock(&file, exclusive).is_ok() => Ok(file),
        (Err(_), _) => Err(AppError::Locked(path.display().to_string())),
    }
}

/// Ends with the signal to stop.
fn stop() -> Result<impl Future<Output = ()>, AppError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::System)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ends once a disk that was read-only at the start is not, and only the next start sees that.
async fn shut_out(dir: PathBuf) {
    // One that is shut out from the start is so by its owner's mount, and the next start would see the same.
    if !durable::is_read_only(&dir) || durable::is_shut_out(&dir) {
        std::future::pending::<()>().await;
    }
    while !durable::is_shut_out(&dir) {
        sleep(LOOK).await;
    }
    tracing::info!(dir = %dir.display(), "its disk can be written again: the agent starts again for that");
}

/// Drives every service, wherever what is heard and fetched comes from.
async fn serve(
    live: Live,
    loaded: Loaded,
    (ends, depot): (Ends, Arc<dyn Depot>),
    environment: &Environment,
) -> Result<(), AppError> {
    let stop = stop()?;
    listen_for_reload(&live)?;
    let settings = live.now();
    let layout = settings.layout();
    durable::make_dir(&layout.services(), 0o755)?;
    let units: Arc<dyn Units> = match settings.supervisor {
        Supervisor::Process => {
            if !settings.stop_services_on_exit {
                warn_of_unit();
            }
            Arc::new(ProcessUnits::new(layout.clone()))
        }
        Supervisor::Systemd => Arc::new(SystemdUnits::new(live.clone())),
    };
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::start());
    let outside = Outside {
        layout,
        units: units.clone(),
        probes: Arc::new(RealProbes),
        depot,
        clock,
        settings: live.clone(),
        program: environment.release,
    };
    let mut driver = Driver::start(outside, loaded, ends)?;
    let notify = notify(environment);
    tell(&notify, "READY=1\nSTATUS=running");
    tokio::spawn(watchdog(notify.clone()));
    let state = live.now().layout().state().to_owned();
    let comes_back = AtomicBool::new(false);
    let stop = async {
        tokio::select! {
            () = stop => {}
            () = shut_out(state) => comes_back.store(true, Ordering::Relaxed),
        }
    };
    let ended = driver.run(stop).await;
    tell(&notify, "STOPPING=1");
    if live.now().stop_services_on_exit && !comes_back.load(Ordering::Relaxed) {
        units.stop_all().await;
    }
    Ok(ended?)
}

/// Starts the link in this process; returns the driver's ends and its depot.
fn connect(
    live: &Live,
    loaded: &Loaded,
    credentials: Credentials,
) -> Result<(Ends, Arc<dyn Depot>), AppError> {
    let layout = live.now().layout();
    let identity = &loaded.identity;
    let depot = HttpDepot::new(layout.clone(), &identity.blobs, Some(live.clone()));
    let (root, newest) = watch::channel(loaded.root.clone());
    let (places, places_seen) = watch::channel(loaded.places.clone());
    let notes = Notes::new(&layout);
    let mut keeper =
        Keeper { layout, places: places_seen, level: LEVEL_NEWEST, credentials, root: newest };
    let (access_sender, access) = watch::channel(keeper.access()?);
    tokio::spawn(keeper.run(access_sender));
    let (said_sender, said) = watch::channel(None);
    let (heard_sender, heard) = mpsc::channel(QUEUE_MAX);
    let (says_sender, says) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(link::run(link::Ends { access, says, said, heard: heard_sender, notes }));
    let back = mpsc::channel(BACK_MAX);
    let ends = Ends { heard, says: says_sender, said: said_sender, root, places, back };
    Ok((ends, Arc::new(depot)))
}

/// Waits for the network side at the gate; returns the driver's ends and its depot.
fn listen(layout: Layout, gate: Gate, loaded: &Loaded) -> (Ends, Arc<dyn Depot>) {
    let (root, newest) = watch::channel(loaded.root.clone());
    let (said_sender, said) = watch::channel(None);
    let (heard_sender, heard) = mpsc::channel(QUEUE_MAX);
    let (says_sender, says) = mpsc::channel(QUEUE_MAX);
    let (places, places_seen) = watch::channel(loaded.places.clone());
    let (ours, depot) = relay::Ends::new(layout, (says, said), (newest, places_seen, heard_sender));
    tokio::spawn(relay::apply(gate, loaded.identity.blobs.clone(), ours));
    let back = mpsc::channel(BACK_MAX);
    let ends = Ends { heard, says: says_sender, said: said_sender, root, places, back };
    (ends, Arc::new(depot))
}

/// Services of the process supervisor outlive the agent, but not the control group of a unit that it runs in.
fn warn_of_unit() {
    if let Some(unit) = boot::unit_that_ends_all() {
        tracing::warn!(
            unit,
            "this unit ends the services with the agent; give it KillMode=process (docs/agent.md A4.2)"
        );
    }
}

async fn watchdog(notify: Arc<Notify>) {
    let Some(every) = notify.watchdog() else { return };
    loop {
        tell(&notify, "WATCHDOG=1");
        sleep(every).await;
    }
}

/// Tells the service manager; that it cannot be reached stops nothing.
fn tell(notify: &Notify, message: &str) {
    if let Err(error) = notify.send(message) {
        tracing::warn!(%error, "cannot reach the service manager");
    }
}
