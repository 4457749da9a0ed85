//! Asks systemd over D-Bus to restart units that this host's configuration allows. Jobs are waited for until
//! they end; for how long, whoever asked decides. A bus that breaks meanwhile is connected to again.

mod bus;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use groundswell_common::condition::{
    Lack, ServiceCondition, UNITS_LISTED_MAX, UnitCondition, UnitLoad,
};
use groundswell_common::manifest::{Manifest, Switch};
use groundswell_common::{ServiceName, chain};
use tokio::time::{sleep, timeout};
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, ObjectPath, OwnedObjectPath};

use self::bus::{Bus, MANAGER, SYSTEMD, Unit};
use super::log::{Run, ended_by_hand, last_lines, was_told_to_stop};
use super::program::is_missing;
use super::{HOPELESS_CRASHES, ShippedError, UnitError, load_of, named, shipped};
use crate::clock::wall;
use crate::hooks::{HookError, Order};
use crate::live::Live;
use crate::ports::{Alive, Lacking, RunSpec, Since, Units, Work};

/// A hook's own time-out is at most 240 s, and its unit's comes after it.
const HOOK: Duration = Duration::from_secs(330);
/// Signals that may wait: jobs of other units end meanwhile, too.
const SIGNALS_MAX: usize = 256;
/// A job whose end was not signalled for this long is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The longest that users are looked up, and the code by which `getent` says that there is no such user.
const GETENT: Duration = Duration::from_secs(5);
const GETENT_UNKNOWN: i32 = 2;
/// How often a job that somebody else cancelled is asked for again.
const CANCELLED_MAX: u32 = 3;
/// Waits between two tries to reach the bus, from the first to the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// The systemd supervisor of one agent.
#[derive(Debug)]
pub(crate) struct SystemdUnits {
    settings: Live,
    bus: Bus,
    /// What is waited for, by unit.
    waits: Mutex<BTreeMap<String, Wait>>,
    /// The run of each unit that was asked for last.
    runs: Mutex<BTreeMap<String, Run>>,
}

/// One job that is waited for.
#[derive(Clone, Debug)]
struct Wait {
    verb: &'static str,
    since: Instant,
    /// Its number, once systemd has told it.
    job: Option<u32>,
    /// Why systemd cannot be asked now.
    away: Option<String>,
}

/// Takes the note of a wait away, however it ends.
struct Noted<'a> {
    units: &'a SystemdUnits,
    unit: &'a str,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.units.waits().remove(self.unit);
    }
}

impl Noted<'_> {
    fn change(&self, change: impl FnOnce(&mut Wait)) {
        if let Some(wait) = self.units.waits().get_mut(self.unit) {
            change(wait);
        }
    }
}

impl SystemdUnits {
    pub(crate) fn new(settings: Live) -> Self {
        Self { settings, bus: Bus::default(), waits: Mutex::default(), runs: Mutex::default() }
    }

    fn waits(&self) -> MutexGuard<'_, BTreeMap<String, Wait>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, spec: &RunSpec) -> Result<(), UnitError> {
        let refused = self.refused_unit(&spec.service, &spec.units);
        refused.map_or(Ok(()), |unit| Err(UnitError::NotAllowed(spec.service.clone(), unit)))
    }

    /// Runs one job to its end: RestartUnit, ReloadUnit, StartUnit or StopUnit. Only what systemd says of it ends
    /// it; a bus that cannot be reached is asked again.
    async fn job(&self, verb: &'static str, unit: &str) -> Result<(), UnitError> {
        let wait = Wait { verb, since: Instant::now(), job: None, away: None };
        self.waits().insert(unit.to_owned(), wait);
        let noted = Noted { units: self, unit };
        let (mut before, mut pause) = (None, AGAIN.0);
        let mut cancelled = 0;
        loop {
            let error = match self.job_once((verb, unit), &mut before, &noted).await {
                Err(error) if error.is_of_the_bus() => error,
                // Somebody else's job took its place, such as a person's: that says nothing of what was asked.
                Err(error) if error.is_cancelled() && cancelled < CANCELLED_MAX => {
                    cancelled += 1;
                    before = None;
                    tracing::warn!(
                        verb,
                        unit,
                        "somebody else cancelled the job; it is asked for again"
                    );
                    sleep(AGAIN.1).await;
                    continue;
                }
                // What systemd does not have does not run.
                Err(error) if verb == "StopUnit" && bus::is_not_loaded(&error) => return Ok(()),
                ended => return ended,
            };
            self.bus.forget().await;
            tracing::debug!(verb, unit, error = %chain(&error), "asks systemd again");
            noted.change(|wait| wait.away = Some(chain(&error)));
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// One try. `before` is the start of the unit that was the newest when it was asked first.
    async fn job_once(
        &self,
        (verb, unit): (&'static str, &str),
        before: &mut Option<Vec<u8>>,
        noted: &Noted<'_>,
    ) -> Result<(), UnitError> {
        if verb == "StartUnit" || verb == "RestartUnit" {
            let found = self.bus.unit(unit).await?;
            let newest: Vec<u8> = found.of_unit("InvocationID").await?;
            let busy = found.job().await? != 0;
            match before {
                None => {
                    self.note_run(unit, &newest);
                    *before = Some(newest);
                }
                // The bus broke once systemd was asked, and it did what was asked, or is at it.
                Some(before) if busy || *before != newest => return settle(&found, verb).await,
                Some(_) => {}
            }
        }
        if verb != "StopUnit" {
            self.forget_starts(unit).await;
        }
        let failed = |source| bus::error(verb, unit, source);
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(failed)?;
        // Listening first: the job may end before its number is known here.
        let connection = self.bus.connection().await?;
        let ends = MessageStream::for_match_rule(rule, &connection, NonZeroUsize::new(SIGNALS_MAX));
        let ends = ends.await.map_err(failed)?;
        let answer = self.bus.ask((verb, unit), &(unit, "replace")).await?;
        let job: OwnedObjectPath = answer.body().deserialize().map_err(failed)?;
        let number = job.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
        noted.change(|wait| (wait.job, wait.away) = (number, None));
        match self.job_end(ends, &job, unit).await? {
            Some(result) => judge(verb, unit, result),
            None => settle(&self.bus.unit(unit).await?, verb).await,
        }
    }

    /// Notes which run of a unit ends with the one that is asked for now.
    fn note_run(&self, unit: &str, before: &[u8]) {
        let before = hex(before);
        let run = Run { since_secs: wall().as_secs(), before };
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).insert(unit.to_owned(), run);
    }

    /// What the runs wrote that these units are in. Of one that an agent before this one asked for, nothing is
    /// known but how long a host may have been up.
    async fn said(&self, units: &[String]) -> String {
        let mut runs = Vec::new();
        for unit in units {
            runs.push((unit.clone(), self.noted_run(unit).await));
        }
        last_lines(&runs).await
    }

    /// The run of a unit that was asked for last.
    async fn noted_run(&self, unit: &str) -> Run {
        let noted = self.runs.lock().unwrap_or_else(PoisonError::into_inner).get(unit).cloned();
        match noted {
            Some(run) => run,
            None => self.run_of(unit).await,
        }
    }

    /// The run that a unit is in, by the time of its start; where that is not known, one that begins now.
    async fn run_of(&self, name: &str) -> Run {
        let since_us = match self.bus.unit(name).await {
            Ok(unit) => unit.of_unit::<u64>("InactiveExitTimestamp").await.unwrap_or_default(),
            Err(_) => 0,
        };
        let since_secs = if since_us == 0 { wall().as_secs() } else { since_us / 1_000_000 };
        Run { since_secs, before: String::new() }
    }

    /// How the job ended, once its own removal is signalled; `None` where it has ended without a signal.
    async fn job_end(
        &self,
        mut ends: MessageStream,
        job: &OwnedObjectPath,
        unit: &str,
    ) -> Result<Option<String>, UnitError> {
        let failed = |source| bus::error("wait for", unit, source);
        loop {
            let Ok(message) = timeout(LOOK, ends.next()).await else {
                if self.bus.unit(unit).await?.job().await? == 0 {
                    return Ok(None);
                }
                continue;
            };
            let gone = || {
                zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::BrokenPipe.into()))
            };
            let message = message.ok_or_else(gone).and_then(|message| message).map_err(failed)?;
            let body = message.body();
            let removed: Result<(u32, ObjectPath<'_>, &str, &str), _> = body.deserialize();
            if let Ok((_, path, _, result)) = removed
                && path == job.as_ref()
            {
                return Ok(Some(result.to_owned()));
            }
        }
    }

    /// Lets systemd read its units again, where the release that is live may have brought others.
    async fn reread(&self, spec: &RunSpec) -> Result<(), UnitError> {
        if !self.settings.now().shipped_units.contains(&spec.service) {
            return Ok(());
        }
        let mut pause = AGAIN.0;
        loop {
            match self.bus.ask(("Reload", "units"), &()).await {
                Err(error) if error.is_of_the_bus() => sleep(pause).await,
                answer => return answer.map(drop),
            }
            pause = (pause * 2).min(AGAIN.1);
        }
    }

    /// What another release used up of the unit's start limit, or a person, is not held against the start that
    /// comes, which may be the way back. Whether it was used up cannot be told beforehand, nor always afterwards.
    async fn forget_starts(&self, unit: &str) {
        if let Err(error) = self.bus.ask(("ResetFailedUnit", unit), &(unit,)).await {
            // A unit that is not loaded was not started.
            tracing::debug!(unit, error = %chain(&error), "starts are not forgotten");
        }
    }

    async fn state(&self, unit: &str) -> Result<String, UnitError> {
        let state = self.bus.unit(unit).await?.of_unit("ActiveState").await;
        self.bus.heed(state).await
    }

    async fn load(&self, unit: &str) -> Result<UnitLoad, UnitError> {
        // Of a template only instances can be looked at.
        let instance = unit.replace("@.", "@groundswell.");
        let found = load(&self.bus.unit(&instance).await?).await;
        self.bus.heed(found).await
    }

    /// That what a timer starts failed when it ran last: no probe of the timer sees that.
    async fn failed_by(&self, timer: &str) -> Result<Option<String>, UnitError> {
        if !timer.ends_with(".timer") || self.state(timer).await? != "active" {
            return Ok(None);
        }
        let starts: Vec<String> = self.bus.unit(timer).await?.of_unit("Triggers").await?;
        for unit in starts {
            if self.state(&unit).await? == "failed" {
                return Ok(Some(format!(
                    "{unit} failed when {timer} started it last: 'systemctl status {unit}' there says why; it counts \
                     against a release only where a probe looks at it"
                )));
            }
        }
        Ok(None)
    }

    async fn active(&self, unit: &str) -> Result<bool, UnitError> {
        Ok(self.state(unit).await? == "active")
    }

    async fn all_alive(&self, spec: &RunSpec) -> Result<Alive, UnitError> {
        let runs = Vec::new();
        let mut all = Alive { running: true, crashes: 0, runs, hopeless: false, stopped: None };
        for name in &spec.units {
            let unit = self.bus.unit(name).await?;
            let one = self.bus.heed(alive(&unit).await).await?;
            all.running &= one.running;
            all.hopeless |= one.hopeless;
            all.crashes += one.crashes;
            all.runs.extend(one.runs);
            all.stopped = all.stopped.or(one.stopped);
        }
        Ok(all)
    }

    /// How units ended that do not run, a line each: the journal may not have it yet.
    async fn ends(&self, spec: &RunSpec) -> String {
        let mut lines = String::new();
        for name in spec.units.iter().filter(|name| is_service(name)) {
            let Ok(unit) = self.bus.unit(name).await else { return lines };
            let Ok(result) = unit.of_service::<String>("Result").await else { continue };
            if result == "success" {
                continue;
            }
            let status = unit.of_service::<i32>("ExecMainStatus").await.unwrap_or_default();
            lines.push_str(&format!("\n{name}: {result}, status {status}"));
        }
        lines
    }

    async fn all(&self, verb: &'static str, spec: &RunSpec) -> Result<(), UnitError> {
        for unit in &spec.units {
            self.job(verb, unit).await?;
        }
        Ok(())
    }

    /// Stops what this agent may stop: what the configuration no longer allows is not its own.
    async fn stop_allowed(&self, spec: &RunSpec) -> Result<(), UnitError> {
        for unit in &spec.units {
            match self.refused_unit(&spec.service, std::slice::from_ref(unit)) {
                None => self.job("StopUnit", unit).await?,
                Some(unit) => tracing::warn!(unit, "is no longer allowed here, and is left alone"),
            }
        }
        Ok(())
    }

    /// Takes back a job that does not end, and says what it waited for; `None` where all that is missing is the bus.
    async fn take_back(&self, spec: &RunSpec) -> Option<String> {
        let waits = self.waits().clone();
        let mut of_spec = waits.iter().filter(|(unit, _)| spec.units.contains(unit));
        let (unit, wait) = of_spec.next()?;
        if wait.away.is_some() {
            return None;
        }
        // Who asked for a job may take it back; after a restart of the agent the next job replaces it.
        if let Some(job) = wait.job
            && let Err(error) = self.bus.ask(("CancelJob", unit), &(job,)).await
        {
            tracing::debug!(unit, error = %chain(&error), "a job is not taken back");
        }
        let (verb, secs) = (wait.verb, wait.since.elapsed().as_secs());
        let state = self.state(unit).await.unwrap_or_else(|_| "unknown".to_owned());
        Some(format!(
            "{verb} {unit}: the job did not end within {secs} s and was taken back, the unit is {state}; \
             see 'systemctl status {unit}'"
        ))
    }

    /// Ends what does not obey its stop; whether there was any. Nothing else may be killed.
    async fn kill_stopping(&self, spec: &RunSpec) -> bool {
        let mut killed = false;
        for unit in &spec.units {
            if self.state(unit).await.is_ok_and(|state| state == "deactivating") {
                tracing::warn!(unit, "does not stop, and is killed");
                match self.bus.ask(("KillUnit", unit), &(unit, "all", SIGKILL)).await {
                    Ok(_) => killed = true,
                    Err(error) => tracing::warn!(unit, error = %chain(&error), "is not killed"),
                }
            }
        }
        killed
    }
}

const SIGKILL: i32 = 9;

/// The unit in which the hooks of a service run.
pub(crate) fn hook_unit(service: &ServiceName) -> String {
    format!("groundswell-hook@{service}.service")
}

fn is_service(unit: &str) -> bool {
    unit.ends_with(".service")
}

fn judge(verb: &'static str, unit: &str, result: String) -> Result<(), UnitError> {
    if result == "done" || (verb == "StopUnit" && result == "skipped") {
        return Ok(());
    }
    Err(UnitError::Job { verb, unit: unit.to_owned(), result })
}

/// Waits until the unit has no job, and says by its state how the last one ended: its own word was not heard.
async fn settle(unit: &Unit<'_>, verb: &'static str) -> Result<(), UnitError> {
    while unit.job().await? != 0 {
        sleep(AGAIN.1).await;
    }
    let state: String = unit.of_unit("ActiveState").await?;
    let result = if state == "failed" || state == "activating" { "failed" } else { "done" };
    judge(verb, unit.name, result.to_owned())
}

/// A run of a unit, as the journal names it.
fn hex(run: &[u8]) -> String {
    run.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How one unit is doing.
async fn alive(unit: &Unit<'_>) -> Result<Alive, UnitError> {
    let state: String = unit.of_unit("ActiveState").await?;
    let crashes = match is_service(unit.name) {
        true => u64::from(unit.of_service::<u32>("NRestarts").await?),
        false => 0,
    };
    let (active, failed) = (state == "active" || state == "reloading", state == "failed");
    // A oneshot that a timer has started is at its work, and is over by itself.
    let done = match state.as_str() {
        "inactive" => has_done_its_work(unit).await?,
        "activating" => is_oneshot(unit).await?,
        _ => false,
    };
    let stopped = (state == "inactive" && !done).then(|| unit.name.to_owned());
    let mut runs = Vec::new();
    if active && is_service(unit.name) {
        let run = hex(&unit.of_unit::<Vec<u8>>("InvocationID").await?);
        runs.push((unit.name.to_owned(), run));
    }
    // A unit that systemd starts again by itself is "activating" meanwhile.
    let hopeless = failed || crashes >= HOPELESS_CRASHES;
    Ok(Alive { running: active || done, crashes, runs, hopeless, stopped })
}

/// Whether systemd could start the unit.
async fn load(unit: &Unit<'_>) -> Result<UnitLoad, UnitError> {
    let state: String = unit.of_unit("LoadState").await?;
    Ok(load_of(&state, unit.of_unit("NeedDaemonReload").await?))
}

/// What the host lacks to start the unit.
async fn lacks(unit: &Unit<'_>, state: &Path) -> Result<Option<Lacking>, UnitError> {
    let name = unit.name;
    let why = match load(unit).await? {
        UnitLoad::Loaded | UnitLoad::NeedsReload => {
            let lacking = missing_user(unit).await?;
            return match lacking {
                None => missing_program(unit, state).await,
                lacking => Ok(lacking),
            };
        }
        UnitLoad::NotFound => {
            format!("unit {name} is not on this host; install it, then 'systemctl daemon-reload'")
        }
        UnitLoad::Masked => {
            format!("unit {name} is masked on this host; 'systemctl unmask {name}'")
        }
        UnitLoad::Faulty => {
            format!("systemd cannot read unit {name}; see 'systemctl status {name}'")
        }
    };
    Ok(Some(Lacking { lack: Lack::UnitNotLoaded, why }))
}

/// A user that the unit runs as and that the host does not know.
async fn missing_user(unit: &Unit<'_>) -> Result<Option<Lacking>, UnitError> {
    if !is_service(unit.name) || unit.of_service::<bool>("DynamicUser").await? {
        return Ok(None);
    }
    let user: String = unit.of_service("User").await?;
    if user.is_empty() || user.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let mut getent = tokio::process::Command::new("getent");
    getent.args(["passwd", "--"]).arg(&user).kill_on_drop(true);
    getent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let found = timeout(GETENT, getent.status()).await;
    // Only its plain word that there is none counts; a directory of users that is away does not.
    let unknown = matches!(found, Ok(Ok(status)) if status.code() == Some(GETENT_UNKNOWN));
    let name = unit.name;
    let why = format!("user {user} of unit {name} is not on this host; 'useradd --system {user}'");
    Ok(unknown.then_some(Lacking { lack: Lack::User, why }))
}

/// A command of a unit, as systemd tells it: the program, its arguments, whether its end is ignored, and how it ran
/// last.
type Command = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);
/// A path that a unit sees another place at.
type Bound = (String, String, bool, u64);

/// A program that the unit starts and that is neither on the host nor brought by a release.
async fn missing_program(unit: &Unit<'_>, state: &Path) -> Result<Option<Lacking>, UnitError> {
    if !is_service(unit.name) {
        return Ok(None);
    }
    // What cannot be read says nothing.
    let Ok(commands) = unit.of_service::<Vec<Command>>("ExecStart").await else { return Ok(None) };
    let missing = commands
        .into_iter()
        .find(|(program, _, ignored, ..)| !ignored && is_missing(Path::new(program), state));
    let Some((program, ..)) = missing else { return Ok(None) };
    if !sees_the_host(unit).await {
        return Ok(None);
    }
    let name = unit.name;
    let why = format!(
        "unit {name} starts {program}, which is not on this host; install it, or mend ExecStart= and \
         'systemctl daemon-reload'"
    );
    Ok(Some(Lacking { lack: Lack::UnitNotLoaded, why }))
}

/// Whether what the unit finds at a path is what the host has there.
async fn sees_the_host(unit: &Unit<'_>) -> bool {
    for root in ["RootDirectory", "RootImage"] {
        if !unit.of_service::<String>(root).await.is_ok_and(|root| root.is_empty()) {
            return false;
        }
    }
    for bound in ["BindPaths", "BindReadOnlyPaths"] {
        if !unit.of_service::<Vec<Bound>>(bound).await.is_ok_and(|bound| bound.is_empty()) {
            return false;
        }
    }
    true
}

/// Whether the unit is one that runs to its end and is over well: it is not started again.
async fn has_done_its_work(unit: &Unit<'_>) -> Result<bool, UnitError> {
    Ok(is_oneshot(unit).await?
        && unit.of_service::<String>("Result").await? == "success"
        && !unit.of_service::<bool>("RemainAfterExit").await?)
}

/// Whether the unit is one that runs to its end.
async fn is_oneshot(unit: &Unit<'_>) -> Result<bool, UnitError> {
    Ok(is_service(unit.name) && unit.of_service::<String>("Type").await? == "oneshot")
}

impl Units for SystemdUnits {
    fn restart<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            self.check(spec)?;
            self.reread(spec).await?;
            for unit in &spec.units {
                // A socket that is open keeps who waits at it, and cannot be restarted beside its service.
                let is_socket = unit.ends_with(".socket");
                self.job(if is_socket { "StartUnit" } else { "RestartUnit" }, unit).await?;
            }
            Ok(())
        })
    }

    fn reload<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            self.check(spec)?;
            self.reread(spec).await?;
            for unit in &spec.units {
                let verb = if self.active(unit).await? { "ReloadUnit" } else { "StartUnit" };
                self.job(verb, unit).await?;
            }
            Ok(())
        })
    }

    fn start<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            self.check(spec)?;
            self.reread(spec).await?;
            self.all("StartUnit", spec).await
        })
    }

    fn is_ending(&self) -> Work<'_, bool> {
        Box::pin(async {
            let state = self.bus.state().await;
            state.is_ok_and(|state| state == "stopping")
        })
    }

    fn boot(&self) -> Work<'_, Result<String, UnitError>> {
        Box::pin(async move { Ok(self.bus.began().await?.to_string()) })
    }

    fn ensure<'a>(&'a self, spec: &'a RunSpec, since: Since) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            // Services of systemd do not end with the agent: what does not run was stopped.
            if since == Since::Agent {
                return Ok(());
            }
            self.check(spec)?;
            for name in &spec.units {
                let unit = self.bus.unit(name).await?;
                // A unit that systemd starts at boot is on its way already; starting it twice is one job.
                if !alive(&unit).await?.running {
                    self.reread(spec).await?;
                    self.job("StartUnit", name).await?;
                }
            }
            Ok(())
        })
    }

    fn stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(self.stop_allowed(spec))
    }

    fn give_up<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Option<String>> {
        Box::pin(self.take_back(spec))
    }

    fn kill<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, bool> {
        Box::pin(self.kill_stopping(spec))
    }

    fn alive<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<Alive, UnitError>> {
        Box::pin(self.all_alive(spec))
    }

    fn unit_active<'a>(
        &'a self,
        spec: &'a RunSpec,
        unit: &'a str,
    ) -> Work<'a, Result<bool, UnitError>> {
        let running = spec.units.iter().find(|running| named(running) == unit);
        let unit = running.map_or(unit, String::as_str);
        Box::pin(async move {
            match self.refused_unit(&spec.service, &[unit.to_owned()]) {
                Some(unit) => Err(UnitError::NotAllowed(spec.service.clone(), unit)),
                None => Ok(alive(&self.bus.unit(unit).await?).await?.running),
            }
        })
    }

    fn told_to_stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Option<String>> {
        Box::pin(async move {
            let mut stopped = None;
            for name in &spec.units {
                let Ok(unit) = self.bus.unit(name).await else { continue };
                if alive(&unit).await.is_ok_and(|alive| alive.running) {
                    continue;
                }
                // A unit that nothing refers to is forgotten as it ends, and its run with it.
                if !was_told_to_stop((name.clone(), self.noted_run(name).await)).await {
                    // It ended by itself, and may have taken those with it that are bound to it.
                    return None;
                }
                stopped = stopped.or_else(|| Some(name.clone()));
            }
            stopped
        })
    }

    fn ended_by_hand<'a>(&'a self, runs: &'a [(String, String)]) -> Work<'a, bool> {
        Box::pin(async move {
            for (unit, run) in runs {
                if !ended_by_hand(unit, run).await {
                    return false;
                }
            }
            true
        })
    }

    fn last_output<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, String> {
        Box::pin(async move { self.said(&spec.units).await + &self.ends(spec).await })
    }

    fn hook<'a>(&'a self, order: &'a Order) -> Work<'a, Result<(), HookError>> {
        Box::pin(async move {
            let unit = hook_unit(&order.service);
            // One that an agent before this one started may still run; and what a hook left behind must end.
            let whole = async {
                self.job("StopUnit", &unit).await?;
                let ran = self.job("StartUnit", &unit).await;
                ran.and(self.job("StopUnit", &unit).await)
            };
            let (verb, secs) = ("StartUnit", HOOK.as_secs());
            let late = |_| Err(UnitError::Silent { verb, unit: unit.clone(), secs });
            let Err(error) = timeout(HOOK, whole).await.unwrap_or_else(late) else { return Ok(()) };
            let lines = self.said(std::slice::from_ref(&unit)).await;
            let output = lines.rsplit_once(&order.title()).map_or(lines.as_str(), |(_, own)| own);
            Err(order.failed(chain(&error), output.trim_start()))
        })
    }

    fn refused_unit(&self, service: &ServiceName, units: &[String]) -> Option<String> {
        let settings = self.settings.now();
        let allowed = settings.units.get(service);
        let is_allowed =
            |unit: &&String| allowed.is_some_and(|allowed| allowed.contains(&named(unit)));
        units.iter().find(|unit| !is_allowed(unit)).cloned()
    }

    fn takes(
        &self,
        service: &ServiceName,
        tree: &Path,
        units: &[String],
    ) -> Result<(), ShippedError> {
        let ships = self.settings.now().shipped_units.contains(service);
        if ships { shipped::check(service, tree, units) } else { Ok(()) }
    }

    fn lacks<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<Option<Lacking>, UnitError>> {
        Box::pin(async move {
            // Units that releases bring are read when they are live.
            if self.settings.now().shipped_units.contains(&spec.service) {
                return Ok(None);
            }
            for name in &spec.units {
                let unit = self.bus.unit(name).await?;
                if let Some(lacking) =
                    self.bus.heed(lacks(&unit, &self.settings.now().state_dir).await).await?
                {
                    return Ok(Some(lacking));
                }
            }
            Ok(None)
        })
    }

    fn conditions(&self) -> Work<'_, Result<Vec<ServiceCondition>, UnitError>> {
        Box::pin(async move {
            let (mut all, settings) = (Vec::new(), self.settings.now());
            for (service, units) in &settings.units {
                let mut condition = ServiceCondition::new(service.clone());
                for name in units.iter().take(UNITS_LISTED_MAX) {
                    let load = match settings.shipped_units.contains(service) {
                        true => UnitLoad::Loaded,
                        false => self.load(name).await?,
                    };
                    condition.units.push(UnitCondition { unit: name.clone(), load });
                    condition.notes.extend(self.failed_by(name).await?);
                }
                all.push(condition);
            }
            Ok(all)
        })
    }

    fn runs(&self, manifest: &Manifest) -> bool {
        !manifest.units.is_empty() || manifest.command.is_empty()
    }

    fn switches(&self, _switch: Switch) -> bool {
        true
    }

    fn stop_all(&self) -> Work<'_, ()> {
        // systemd's services are systemd's: they outlive the agent.
        Box::pin(std::future::ready(()))
    }
}
