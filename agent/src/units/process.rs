//! Runs the release's command itself: its own process group, restarted with backoff when it crashes, found
//! again by number and start time after a restart of the agent. The process outlives the agent.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use groundswell_common::ServiceName;
use groundswell_common::condition::ServiceCondition;
use groundswell_common::limits::FAILURE_TEXT_MAX_BYTES;
use groundswell_common::manifest::{Manifest, Switch};
use groundswell_common::wire::Backoff;
use groundswell_net::Retry;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::proc_table::{self, ProcessId};
use super::{HOPELESS_CRASHES, ShippedError, UnitError};
use crate::durable::{self, Access, at};
use crate::exec::Output;
use crate::hooks::{HookError, Order};
use crate::layout::Layout;
use crate::ports::{Alive, Lacking, RunSpec, Since, Units, Work};

/// Time from SIGTERM to SIGKILL, and from SIGKILL to giving up.
const TERM: Duration = Duration::from_secs(10);
const KILL: Duration = Duration::from_secs(5);
/// A run that lasted this long resets the waits between restarts.
const SETTLED: Duration = Duration::from_secs(60);
const CRASHES: Backoff = Backoff { base_ms: 500, cap_ms: 30_000 };
/// The variable that marks a process as one of this state directory, by the path of its service.
const MARK: &str = "GROUNDSWELL_SERVICE_DIR";
/// Output above which the file begins anew, and what is kept of it beside it.
const OUTPUT_MAX_BYTES: u64 = 2 * 1024 * 1024;
const OUTPUT_KEPT_BYTES: u64 = 1024 * 1024;
/// How often its size is looked at, and while it grows by more than it may hold in a second.
const OUTPUT_LOOK: Duration = Duration::from_secs(1);
const OUTPUT_HURRY: Duration = Duration::from_millis(10);
/// Variables that speak to the agent and not to its services.
const NOT_INHERITED: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "CREDENTIALS_DIRECTORY",
];

/// The process supervisor of one agent.
#[derive(Debug)]
pub(crate) struct ProcessUnits {
    layout: Layout,
    running: Mutex<BTreeMap<ServiceName, Arc<Keeper>>>,
    turns: Mutex<BTreeMap<ServiceName, Arc<tokio::sync::Mutex<()>>>>,
}

/// The task that keeps one service running.
#[derive(Debug)]
struct Keeper {
    stop: watch::Sender<bool>,
    status: watch::Receiver<Status>,
    task: Mutex<Option<JoinHandle<Result<(), UnitError>>>>,
}

#[derive(Clone, Debug, Default)]
struct Status {
    /// The process that runs now.
    process: Option<ProcessId>,
    crashes: u64,
    /// Why the first start failed.
    broken: Option<Arc<UnitError>>,
}

impl ProcessUnits {
    pub(crate) fn new(layout: Layout) -> Self {
        Self { layout, running: Mutex::default(), turns: Mutex::default() }
    }

    /// Whoever starts or stops a service waits for its turn: two starts side by side would leave two
    /// processes, one of them of another release. What takes time in a turn is the end of processes, which
    /// has its bounds.
    async fn turn(&self, service: &ServiceName) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(service.clone()).or_default())
        };
        turn.lock_owned().await
    }

    fn keepers(&self) -> std::sync::MutexGuard<'_, BTreeMap<ServiceName, Arc<Keeper>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper(&self, service: &ServiceName) -> Option<Arc<Keeper>> {
        self.keepers().get(service).cloned()
    }

    async fn stop_service(&self, service: &ServiceName) -> Result<(), UnitError> {
        if let Some(keeper) = self.keeper(service) {
            keeper.stop.send_replace(true);
            let task = keeper.task.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(task) = task {
                // A keeper that panicked has stopped nothing; the record below still finds its process.
                if let Ok(stopped) = task.await {
                    stopped?;
                }
            }
            self.keepers().remove(service);
        }
        if let Some(process) = self.recorded(service)? {
            end(process).await?;
        }
        Ok(durable::remove(&self.layout.process(service))?)
    }

    /// The process that an earlier agent started and that still runs.
    fn recorded(&self, service: &ServiceName) -> Result<Option<ProcessId>, UnitError> {
        let Some(bytes) = durable::read(&self.layout.process(service), 1024)? else {
            return Ok(None);
        };
        let process: Option<ProcessId> = serde_json::from_slice(&bytes).ok();
        Ok(process.filter(ProcessId::runs))
    }

    /// What the environment of this service's processes holds.
    fn mark(&self, service: &ServiceName) -> Vec<u8> {
        format!("{MARK}={}", self.layout.service(service).display()).into_bytes()
    }

    async fn start_service(&self, spec: &RunSpec) -> Result<(), UnitError> {
        // A release of files alone.
        if spec.command.is_empty() {
            return Ok(());
        }
        let adopted = self.recorded(&spec.service)?;
        if adopted.is_none() {
            // An agent that was killed between a start and its record left a process that nobody knows.
            begin_anew(&self.layout.output(&spec.service))?;
            for stray in proc_table::marked(&self.mark(&spec.service)) {
                tracing::warn!(service = %spec.service, pid = stray.pid, "ends a stray process");
                end(stray).await?;
            }
        }
        let (stop, stopped) = watch::channel(false);
        let (status_sender, mut status) = watch::channel(Status::default());
        let run =
            Run { spec: spec.clone(), layout: self.layout.clone(), stopped, status: status_sender };
        let task = Mutex::new(Some(tokio::spawn(run.keep(adopted))));
        let keeper = Arc::new(Keeper { stop, status: status.clone(), task });
        self.keepers().insert(spec.service.clone(), keeper);
        let seen = status
            .wait_for(|status| status.process.is_some() || status.broken.is_some())
            .await
            .map(|status| status.broken.clone());
        match seen {
            Ok(None) => Ok(()),
            Ok(Some(_)) | Err(_) => self.first_start_failed(&spec.service).await,
        }
    }

    /// Takes the error out of a keeper that could not start its service.
    async fn first_start_failed(&self, service: &ServiceName) -> Result<(), UnitError> {
        let keeper = self.keepers().remove(service);
        let task = keeper
            .and_then(|keeper| keeper.task.lock().unwrap_or_else(PoisonError::into_inner).take());
        match task {
            Some(task) => task.await.unwrap_or(Err(UnitError::NoCommand)),
            None => Err(UnitError::NoCommand),
        }
    }
}

impl Units for ProcessUnits {
    fn restart<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            let _turn = self.turn(&spec.service).await;
            self.stop_service(&spec.service).await?;
            self.start_service(spec).await
        })
    }

    fn reload<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        // Such releases are refused here, unless this was another supervisor's host when they came.
        self.restart(spec)
    }

    fn start<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        self.ensure(spec, Since::Boot)
    }

    fn is_ending(&self) -> Work<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    fn boot(&self) -> Work<'_, Result<String, UnitError>> {
        Box::pin(std::future::ready(Ok(String::new())))
    }

    fn ensure<'a>(&'a self, spec: &'a RunSpec, _since: Since) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            let _turn = self.turn(&spec.service).await;
            if self.keeper(&spec.service).is_some() {
                return Ok(());
            }
            self.start_service(spec).await
        })
    }

    fn stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            let _turn = self.turn(&spec.service).await;
            self.stop_service(&spec.service).await
        })
    }

    fn give_up<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, Option<String>> {
        let why = "the process neither starts nor ends".to_owned();
        Box::pin(std::future::ready(Some(why)))
    }

    fn kill<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, bool> {
        // A stop of this supervisor ends with a kill by itself.
        Box::pin(std::future::ready(false))
    }

    fn alive<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<Alive, UnitError>> {
        let status = self.keeper(&spec.service).map(|keeper| keeper.status.borrow().clone());
        let status = status.unwrap_or_default();
        let running =
            spec.command.is_empty() || status.process.is_some_and(|process| process.runs());
        let crashes = status.crashes;
        let hopeless = crashes >= HOPELESS_CRASHES;
        Box::pin(std::future::ready(Ok(Alive {
            running,
            crashes,
            runs: Vec::new(),
            hopeless,
            stopped: None,
        })))
    }

    fn unit_active<'a>(
        &'a self,
        spec: &'a RunSpec,
        _unit: &'a str,
    ) -> Work<'a, Result<bool, UnitError>> {
        Box::pin(async move { Ok(self.alive(spec).await?.running) })
    }

    fn told_to_stop<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, Option<String>> {
        // Nobody but the agent is told to stop anything here.
        Box::pin(std::future::ready(None))
    }

    fn ended_by_hand<'a>(&'a self, _runs: &'a [(String, String)]) -> Work<'a, bool> {
        Box::pin(std::future::ready(false))
    }

    fn last_output<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, String> {
        let path = self.layout.output(&spec.service);
        let read = move || -> std::io::Result<String> {
            let mut file = File::open(path)?;
            let size = file.metadata()?.len();
            let most = u64::try_from(FAILURE_TEXT_MAX_BYTES).unwrap_or(u64::MAX);
            file.seek(SeekFrom::Start(size.saturating_sub(most)))?;
            let mut bytes = Vec::new();
            file.take(most).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Box::pin(std::future::ready(read().unwrap_or_default()))
    }

    fn hook<'a>(&'a self, order: &'a Order) -> Work<'a, Result<(), HookError>> {
        Box::pin(async move {
            let ran = order.run(Output::Kept).await;
            ran.map_err(|error| order.failed(groundswell_common::chain(&error), error.output()))
        })
    }

    fn refused_unit(&self, _service: &ServiceName, _units: &[String]) -> Option<String> {
        None
    }

    fn takes(
        &self,
        _service: &ServiceName,
        _tree: &Path,
        _units: &[String],
    ) -> Result<(), ShippedError> {
        Ok(())
    }

    fn lacks<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, Result<Option<Lacking>, UnitError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn conditions(&self) -> Work<'_, Result<Vec<ServiceCondition>, UnitError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn runs(&self, manifest: &Manifest) -> bool {
        !manifest.command.is_empty() || manifest.units.is_empty()
    }

    fn switches(&self, switch: Switch) -> bool {
        switch == Switch::Restart
    }

    fn stop_all(&self) -> Work<'_, ()> {
        Box::pin(async move {
            let services: Vec<ServiceName> = self.keepers().keys().cloned().collect();
            for service in services {
                let _turn = self.turn(&service).await;
                if let Err(error) = self.stop_service(&service).await {
                    tracing::error!(%service, error = %groundswell_common::chain(&error), "not stopped");
                }
            }
        })
    }
}

/// What a keeper needs.
struct Run {
    spec: RunSpec,
    layout: Layout,
    stopped: watch::Receiver<bool>,
    status: watch::Sender<Status>,
}

impl Run {
    /// Keeps the service running until it is told to stop; then stops it.
    async fn keep(mut self, mut adopted: Option<ProcessId>) -> Result<(), UnitError> {
        let mut retry = Retry::new(CRASHES);
        loop {
            let began = Instant::now();
            let (process, child) = match adopted.take() {
                Some(process) => (process, None),
                None => match self.spawn() {
                    Ok((process, child)) => (process, Some(child)),
                    Err(error) if self.status.borrow().crashes == 0 => {
                        self.status.send_modify(|status| {
                            status.broken = Some(Arc::new(UnitError::NoCommand));
                        });
                        return Err(error);
                    }
                    Err(error) => {
                        self.crashed(&groundswell_common::chain(&error));
                        if self.pause(&mut retry).await {
                            return Ok(());
                        }
                        continue;
                    }
                },
            };
            self.status.send_modify(|status| status.process = Some(process));
            let mut stopped = self.stopped.clone();
            let output = self.layout.output(&self.spec.service);
            let how = tokio::select! {
                how = ended(process, child) => Some(how),
                () = bounded(&output) => None,
                () = told(&mut stopped) => None,
            };
            match how {
                Some(how) => self.crashed(&how),
                None => return end(process).await,
            }
            // What the crashed process left in its group must not hold its port.
            end(process).await?;
            if began.elapsed() > SETTLED {
                retry.reset();
            }
            if self.pause(&mut retry).await {
                return Ok(());
            }
        }
    }

    fn crashed(&self, how: &str) {
        tracing::warn!(service = %self.spec.service, how, "the service ended by itself; restarting");
        self.status.send_modify(|status| {
            status.process = None;
            status.crashes += 1;
        });
    }

    /// Waits before the next start; `true` when it was told to stop.
    async fn pause(&mut self, retry: &mut Retry) -> bool {
        tokio::select! {
            () = sleep(retry.next_wait()) => false,
            () = told(&mut self.stopped) => true,
        }
    }

    fn spawn(&self) -> Result<(ProcessId, Child), UnitError> {
        let spec = &self.spec;
        let (program, arguments) = spec.command.split_first().ok_or(UnitError::NoCommand)?;
        let program = spec.tree.join(program);
        let failed = |source| UnitError::Spawn { program: program.display().to_string(), source };
        let output = self.output()?;
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .current_dir(&spec.tree)
            .env("GROUNDSWELL_SERVICE", spec.service.as_str())
            .env("GROUNDSWELL_VERSION", spec.version.as_str())
            .env(MARK, self.layout.service(&spec.service))
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(false);
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        let child = command.spawn().map_err(failed)?;
        let gone = || failed(std::io::Error::from(std::io::ErrorKind::NotFound));
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or_else(gone)?;
        // One that has ended already has no start time; its end is then seen through `child`.
        let process = ProcessId::of(pid).unwrap_or(ProcessId { pid, started: 0 });
        let json = serde_json::to_vec(&process).unwrap_or_default();
        durable::write(&self.layout.process(&spec.service), &json, Access::Owner)?;
        Ok((process, child))
    }

    fn output(&self) -> Result<File, UnitError> {
        let path = self.layout.output(&self.spec.service);
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(at("open", &path))?;
        Ok(file)
    }
}

/// Keeps what a service writes within its bound, for as long as it is waited for. The service writes to the file
/// itself, so that it can outlive the agent.
async fn bounded(path: &Path) {
    let mut size = 0;
    loop {
        let found = std::fs::metadata(path).map_or(0, |found| found.len());
        let grew = found.saturating_sub(size) > OUTPUT_KEPT_BYTES;
        size = found;
        if found > OUTPUT_MAX_BYTES {
            size = 0;
            if let Err(fault) = begin_anew(path) {
                tracing::warn!(error = %groundswell_common::chain(&fault), "output grows on");
            }
        }
        sleep(if grew { OUTPUT_HURRY } else { OUTPUT_LOOK }).await;
    }
}

/// Begins an output file anew; its end is kept beside it.
fn begin_anew(path: &Path) -> Result<(), durable::Fault> {
    let mut file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("open", path)(error)),
    };
    let size = file.metadata().map_err(at("look at", path))?.len();
    let before = path.with_extension("log.1");
    let copied =
        file.seek(SeekFrom::Start(size.saturating_sub(OUTPUT_KEPT_BYTES))).and_then(|_| {
            let mut kept = OpenOptions::new();
            kept.write(true).create(true).truncate(true).mode(0o600);
            std::io::copy(&mut file.by_ref().take(OUTPUT_KEPT_BYTES), &mut kept.open(&before)?)
        });
    // On a full disk what is kept is worth less than the room.
    if let Err(error) = copied {
        tracing::warn!(%error, "the end of an output is not kept");
    }
    file.set_len(0).map_err(at("empty", path))
}

/// Returns when the keeper is told to stop; when its supervisor is gone, nobody will tell.
async fn told(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns how the process ended, when it has.
async fn ended(process: ProcessId, child: Option<Child>) -> String {
    if let Some(mut child) = child {
        return match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
    }
    wait_gone(process).await;
    "ended; it was started by an earlier agent, so how is not known".to_owned()
}

/// Returns when the process is gone, without asking again and again.
async fn wait_gone(process: ProcessId) {
    let opened = Pid::from_raw(process.pid).map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
    let Some(Ok(fd)) = opened else { return };
    if !process.runs() {
        return;
    }
    #[expect(deprecated, reason = "an OwnedFd names one descriptor for its whole life")]
    let watched = AsyncFd::new(fd);
    match watched {
        // A pidfd is readable once its process has ended.
        Ok(watched) => drop(watched.readable().await),
        Err(error) => {
            tracing::warn!(%error, "cannot watch a process; looking every second");
            while process.runs() {
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Ends a process group: SIGTERM, then SIGKILL, each with its bound.
async fn end(process: ProcessId) -> Result<(), UnitError> {
    let Some(group) = Pid::from_raw(process.pid) else { return Ok(()) };
    if !process.runs() {
        return sweep(group);
    }
    for (signal, patience) in [(Signal::TERM, TERM), (Signal::KILL, KILL)] {
        match kill_process_group(group, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(_) => return Err(UnitError::Unkillable(process.pid)),
        }
        if timeout(patience, wait_gone(process)).await.is_ok() && !process.runs() {
            return sweep(group);
        }
    }
    Err(UnitError::Unkillable(process.pid))
}

/// Kills whoever is left of a group whose leader is gone. Its number cannot be anybody else's while a
/// member of it lives.
fn sweep(group: Pid) -> Result<(), UnitError> {
    match kill_process_group(group, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(_) => Err(UnitError::Unkillable(group.as_raw_nonzero().get())),
    }
}

#[cfg(test)]
mod tests;
