//! Asks systemd over D-Bus to restart units that this host's configuration allows. The one file that names
//! zbus. The bus is connected to when it is first needed.

use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use groundswell_common::manifest::Switch;
use groundswell_common::{ServiceName, chain};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::timeout;
use zbus::message::Type;
use zbus::zvariant::DynamicType;
use zbus::{
    Connection, MatchRule, Message, MessageStream, ObjectPath, OwnedObjectPath, OwnedVariant,
};

use super::log::last_lines;
use super::{HOPELESS_CRASHES, ShippedError, UnitError, named, shipped};
use crate::hooks::{HookError, Order};
use crate::live::Live;
use crate::ports::{Alive, RunSpec, Units, Work};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Longest job: systemd's default start time-out is 90 s, its stop time-out as much again.
const JOB: Duration = Duration::from_secs(300);
const CALL: Duration = Duration::from_secs(30);
/// Signals that may wait: jobs of other units end meanwhile, too.
const SIGNALS_MAX: usize = 256;

/// The systemd supervisor of one agent.
#[derive(Debug)]
pub(crate) struct SystemdUnits {
    settings: Live,
    bus: Mutex<Option<Connection>>,
}

impl SystemdUnits {
    pub(crate) fn new(settings: Live) -> Self {
        Self { settings, bus: Mutex::new(None) }
    }

    fn check(&self, spec: &RunSpec) -> Result<(), UnitError> {
        match self.refused_unit(&spec.service, &spec.units) {
            Some(unit) => Err(UnitError::NotAllowed(unit)),
            None if spec.units.is_empty() => Err(UnitError::NoUnits),
            None => Ok(()),
        }
    }

    /// The bus, connected anew when the last connection broke.
    async fn bus(&self) -> Result<Connection, UnitError> {
        let mut held = self.bus.lock().await;
        if let Some(bus) = held.as_ref() {
            return Ok(bus.clone());
        }
        let failed = |source| bus_error("reach the bus for", "systemd", source);
        let bus = Connection::system().await.map_err(failed)?;
        // Without a subscription systemd sends no signals, and the end of a job goes unheard.
        bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "Subscribe", &())
            .await
            .map_err(|source| bus_error("subscribe to", "systemd", source))?;
        *held = Some(bus.clone());
        Ok(bus)
    }

    /// Runs one job to its end: RestartUnit, ReloadUnit, StartUnit or StopUnit.
    async fn job(&self, verb: &'static str, unit: &str) -> Result<(), UnitError> {
        let bus = self.bus().await?;
        if verb != "StopUnit" {
            self.forget_starts(&bus, unit).await;
        }
        let ran = self.job_on(&bus, verb, unit).await;
        if matches!(ran, Err(UnitError::Bus { .. } | UnitError::JobSilent { .. })) {
            // Perhaps the bus has gone: the next job connects again.
            *self.bus.lock().await = None;
        }
        ran
    }

    async fn job_on(
        &self,
        bus: &Connection,
        verb: &'static str,
        unit: &str,
    ) -> Result<(), UnitError> {
        let failed = |source| bus_error(verb, unit, source);
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SYSTEMD)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(failed)?;
        // Listening first: the job may end before its number is known here.
        let ends = MessageStream::for_match_rule(rule, bus, NonZeroUsize::new(SIGNALS_MAX))
            .await
            .map_err(failed)?;
        let answer = ask(bus, (verb, unit), &(unit, "replace")).await?;
        let job: OwnedObjectPath = answer.body().deserialize().map_err(failed)?;
        let silent = || UnitError::JobSilent { verb, unit: unit.to_owned(), secs: JOB.as_secs() };
        let result = timeout(JOB, job_result(ends, &job)).await.map_err(|_| silent())?;
        let Some(result) = result else { return Err(silent()) };
        if result == "done" || (verb == "StopUnit" && result == "skipped") {
            return Ok(());
        }
        Err(UnitError::Job { verb, unit: unit.to_owned(), result })
    }

    /// Lets systemd read its units again, where the release that is live may have brought others.
    async fn reread(&self, spec: &RunSpec) -> Result<(), UnitError> {
        if !self.settings.now().shipped_units.contains(&spec.service) {
            return Ok(());
        }
        ask(&self.bus().await?, ("Reload", "units"), &()).await.map(drop)
    }

    /// What another release used up of the unit's start limit, or a person, is not held against the start that
    /// comes, which may be the way back. Whether it was used up cannot be told beforehand, nor always afterwards.
    async fn forget_starts(&self, bus: &Connection, unit: &str) {
        if let Err(error) = ask(bus, ("ResetFailedUnit", unit), &(unit,)).await {
            // A unit that is not loaded was not started.
            tracing::debug!(unit, error = %chain(&error), "starts are not forgotten");
        }
    }

    async fn property(
        &self,
        bus: &Connection,
        unit: &str,
        interface: &str,
        name: &'static str,
    ) -> Result<Option<String>, UnitError> {
        let value = self.raw_property(bus, unit, interface, name).await?;
        Ok(String::try_from(value).ok())
    }

    async fn raw_property(
        &self,
        bus: &Connection,
        unit: &str,
        interface: &str,
        name: &'static str,
    ) -> Result<OwnedVariant, UnitError> {
        let failed = |source| bus_error(name, unit, source);
        let loaded = bus
            .call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "LoadUnit", &(unit,))
            .await
            .map_err(failed)?;
        let path: OwnedObjectPath = loaded.body().deserialize().map_err(failed)?;
        let got = bus
            .call_method(Some(SYSTEMD), &path, Some(PROPERTIES), "Get", &(interface, name))
            .await
            .map_err(failed)?;
        got.body().deserialize().map_err(failed)
    }

    async fn state(&self, unit: &str) -> Result<String, UnitError> {
        let bus = self.bus().await?;
        Ok(self.property(&bus, unit, UNIT, "ActiveState").await?.unwrap_or_default())
    }

    async fn active(&self, unit: &str) -> Result<bool, UnitError> {
        Ok(self.state(unit).await? == "active")
    }

    async fn all_alive(&self, spec: &RunSpec) -> Result<Alive, UnitError> {
        let bus = self.bus().await?;
        let (mut running, mut crashes, mut hopeless) = (true, 0_u64, false);
        for unit in &spec.units {
            let state = self.state(unit).await?;
            running &= state == "active";
            // A unit that systemd starts again by itself is "activating" meanwhile.
            hopeless |= state == "failed";
            let restarts = self.raw_property(&bus, unit, SERVICE, "NRestarts").await?;
            let restarts = u64::from(u32::try_from(restarts).unwrap_or(0));
            hopeless |= restarts >= HOPELESS_CRASHES;
            crashes += restarts;
        }
        Ok(Alive { running, crashes, hopeless })
    }

    /// How units ended that do not run, a line each: the journal may not have it yet.
    async fn ends(&self, spec: &RunSpec) -> String {
        let mut lines = String::new();
        let Ok(bus) = self.bus().await else { return lines };
        for unit in &spec.units {
            let result = self.property(&bus, unit, SERVICE, "Result").await.ok().flatten();
            let Some(result) = result.filter(|result| result != "success") else { continue };
            let status = self.raw_property(&bus, unit, SERVICE, "ExecMainStatus").await.ok();
            let status = status.and_then(|status| i32::try_from(status).ok()).unwrap_or_default();
            lines.push_str(&format!("\n{unit}: {result}, status {status}"));
        }
        lines
    }

    async fn all(&self, verb: &'static str, spec: &RunSpec) -> Result<(), UnitError> {
        for unit in &spec.units {
            self.job(verb, unit).await?;
        }
        Ok(())
    }
}

/// The unit in which the hooks of a service run.
pub(crate) fn hook_unit(service: &ServiceName) -> String {
    format!("groundswell-hook@{service}.service")
}

/// One call of systemd's manager, with its bound; `verb` and `unit` are for people, too.
async fn ask<B: Serialize + DynamicType + Sync>(
    bus: &Connection,
    (verb, unit): (&'static str, &str),
    body: &B,
) -> Result<Message, UnitError> {
    let answer = bus.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), verb, body);
    let late = || UnitError::JobSilent { verb, unit: unit.to_owned(), secs: CALL.as_secs() };
    let answered = timeout(CALL, answer).await.map_err(|_| late())?;
    answered.map_err(|source| bus_error(verb, unit, source))
}

/// How the job ended, once its own removal is signalled.
async fn job_result(mut ends: MessageStream, job: &OwnedObjectPath) -> Option<String> {
    while let Some(message) = ends.next().await {
        let Ok(message) = message else { continue };
        let body = message.body();
        let removed: Result<(u32, ObjectPath<'_>, &str, &str), _> = body.deserialize();
        if let Ok((_, path, _, result)) = removed
            && path == job.as_ref()
        {
            return Some(result.to_owned());
        }
    }
    None
}

fn bus_error(verb: &'static str, unit: &str, source: zbus::Error) -> UnitError {
    UnitError::Bus { verb, unit: unit.to_owned(), source: Box::new(source) }
}

impl Units for SystemdUnits {
    fn restart<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            self.check(spec)?;
            self.reread(spec).await?;
            self.all("RestartUnit", spec).await
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

    fn ensure<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            self.check(spec)?;
            for unit in &spec.units {
                // A unit that systemd starts at boot is on its way already; starting it twice is one job.
                if !self.active(unit).await? {
                    self.reread(spec).await?;
                    self.job("StartUnit", unit).await?;
                }
            }
            Ok(())
        })
    }

    fn stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            // What the configuration no longer allows is not this agent's to stop.
            match self.check(spec) {
                Err(UnitError::NoUnits) => return Ok(()),
                other => other?,
            }
            self.all("StopUnit", spec).await
        })
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
                Some(unit) => Err(UnitError::NotAllowed(unit)),
                None => self.active(unit).await,
            }
        })
    }

    fn last_output<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, String> {
        Box::pin(async move { last_lines(&spec.units).await + &self.ends(spec).await })
    }

    fn hook<'a>(&'a self, order: &'a Order) -> Work<'a, Result<(), HookError>> {
        Box::pin(async move {
            let unit = hook_unit(&order.service);
            // One that an agent before this one started may still run; and what a hook left behind must end.
            let ran = match self.job("StopUnit", &unit).await {
                Ok(()) => self.job("StartUnit", &unit).await,
                Err(error) => Err(error),
            };
            let stopped = self.job("StopUnit", &unit).await;
            let Err(error) = ran.and(stopped) else { return Ok(()) };
            let lines = last_lines(&[unit]).await;
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

    fn switches(&self, _switch: Switch) -> bool {
        true
    }

    fn stop_all(&self) -> Work<'_, ()> {
        // systemd's services are systemd's: they outlive the agent.
        Box::pin(std::future::ready(()))
    }
}
