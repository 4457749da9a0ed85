//! Puts the agent together, runs it, and takes it apart in order. The only place where real ports are made.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use groundswell_common::Clock;
use groundswell_common::token::{Token, TokenError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use crate::clock::{SteadyClock, wall};
use crate::config::{Settings, Supervisor};
use crate::driver::{Back, Driver, DriverError, Ends};
use crate::durable::{self, Fault, at};
use crate::enroll::{self, EnrollError};
use crate::fetch::HttpDepot;
use crate::identity::{self, IdentityError, Loaded};
use crate::layout::Layout;
use crate::link::{self, Access, QUEUE_MAX};
use crate::ports::Units;
use crate::probe::RealProbes;
use crate::units::{ProcessUnits, SystemdUnits};
use crate::work::Outside;
use groundswell_common::chain;
use groundswell_net::Notify;

/// Events of jobs and timers that may wait for the driver.
const BACK_MAX: usize = 64;
/// Longest sleep towards a renewal: the wall may be set meanwhile.
const RENEW_LOOK: Duration = Duration::from_secs(6 * 3600);
const RENEW_RETRY: Duration = Duration::from_secs(15 * 60);
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
    /// The system refuses something at start.
    #[error("start the agent")]
    System(#[source] io::Error),
    /// A line that is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Enrolment failed.
    #[error(transparent)]
    Enroll(#[from] AnyEnrollError),
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
    /// The exit code of docs/operations.md: 75 when the same command may work later, 78 when the host or
    /// its configuration must be changed first.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let temporary = match self {
            Self::Identity(_) | Self::Token(_) => false,
            Self::Driver(_) | Self::Locked(_) | Self::System(_) => true,
            Self::Enroll(error) => error.0.is_temporary(),
        };
        if temporary { 75 } else { 78 }
    }
}

/// What the environment says to `run`.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `NOTIFY_SOCKET`.
    pub notify_socket: Option<String>,
    /// `WATCHDOG_USEC`.
    pub watchdog_usec: Option<String>,
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
pub fn enroll(settings: &Settings, line: &str) -> Result<String, AppError> {
    let token: Token = line.parse()?;
    let layout = Layout::new(&settings.state_dir);
    let work = enroll::enroll(&layout, &token, settings.name.clone());
    let identity = runtime()?.block_on(work)?;
    Ok(format!(
        "enrolled {} as {} in {} ({})",
        identity.name, identity.host, identity.fleet, identity.environment
    ))
}

/// Runs the agent until it is told to stop.
///
/// # Errors
/// [`AppError`].
pub fn run(settings: &Settings, environment: &Environment) -> Result<(), AppError> {
    let layout = Layout::new(&settings.state_dir);
    let loaded = identity::load(&layout)?;
    let _lock = lock(&layout)?;
    durable::make_dir(&layout.services(), 0o755)?;
    let notify =
        Notify::new(environment.notify_socket.as_deref(), environment.watchdog_usec.as_deref());
    let runtime = runtime()?;
    let ended = runtime.block_on(serve(settings, layout, loaded, notify));
    // Work in the blocking threads is cut off: every state on disk is one to resume from.
    runtime.shutdown_background();
    ended
}

pub(crate) fn lock(layout: &Layout) -> Result<File, AppError> {
    use rustix::fs::FlockOperation;
    let path = layout.lock();
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(at("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(AppError::Locked(path.display().to_string())),
    }
}

async fn serve(
    settings: &Settings,
    layout: Layout,
    loaded: Loaded,
    notify: Notify,
) -> Result<(), AppError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(AppError::System)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AppError::System)?;
    let units: Arc<dyn Units> = match settings.supervisor {
        Supervisor::Process => Arc::new(ProcessUnits::new(layout.clone())),
        Supervisor::Systemd => Arc::new(SystemdUnits::new(settings.units.clone())),
    };
    let rate = settings.bandwidth_bytes_per_sec;
    let depot = HttpDepot::new(layout.clone(), &loaded.identity.blobs, rate);
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::start());
    let outside = Outside {
        layout,
        units: units.clone(),
        probes: Arc::new(RealProbes),
        depot: Arc::new(depot),
        clock,
        keep_free_bytes: settings.keep_free_bytes,
        allow_drift: Arc::new(settings.allow_drift.clone()),
    };
    let (back_sender, back) = mpsc::channel(BACK_MAX);
    let ends = connect(&loaded, (back_sender.clone(), back))?;
    tokio::spawn(renewals(outside.layout.clone(), back_sender));
    let mut driver = Driver::start(outside, loaded, ends)?;
    tell(&notify, "READY=1\nSTATUS=running");
    let notify = Arc::new(notify);
    tokio::spawn(watchdog(notify.clone()));
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let ended = driver.run(stop).await;
    tell(&notify, "STOPPING=1");
    if settings.stop_services_on_exit {
        units.stop_all().await;
    }
    Ok(ended?)
}

/// Starts the link and returns the driver's ends.
fn connect(
    loaded: &Loaded,
    back: (mpsc::Sender<Back>, mpsc::Receiver<Back>),
) -> Result<Ends, AppError> {
    let access = Access {
        address: loaded.identity.agents.clone(),
        tls: loaded.tls(&loaded.trustee.root)?,
        hello: link::hello(loaded.identity.name.clone(), loaded.trustee.root.version),
    };
    let (access_sender, access) = watch::channel(access);
    let (report_sender, report) = watch::channel(None);
    let (heard_sender, heard) = mpsc::channel(QUEUE_MAX);
    let (says_sender, says) = mpsc::channel(QUEUE_MAX);
    tokio::spawn(link::run(link::Ends { access, says, report, heard: heard_sender }));
    Ok(Ends { heard, says: says_sender, report: report_sender, access: access_sender, back })
}

/// Renews the certificate once a third of its life is left.
async fn renewals(layout: Layout, back: mpsc::Sender<Back>) {
    loop {
        let Ok(loaded) = identity::load(&layout) else { return };
        let Some(validity) = loaded.validity() else { return };
        let left = Duration::from_millis(validity.renew_at().millis_since(wall()));
        if !left.is_zero() {
            sleep(left.min(RENEW_LOOK)).await;
            continue;
        }
        match enroll::renew(&loaded).await {
            Ok(certificate_pem) => {
                tracing::info!("the certificate is renewed");
                if back.send(Back::Renewed(certificate_pem)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the certificate is not renewed"),
        }
        sleep(RENEW_RETRY).await;
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
