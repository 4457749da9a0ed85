//! A supervisor of tests: remembers what it was told, and fails where a test says so.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use groundswell_common::ServiceName;
use groundswell_common::condition::ServiceCondition;
use groundswell_common::manifest::{Manifest, Switch};

use tokio::sync::watch;

use super::{ShippedError, UnitError};
use crate::hooks::{HookError, Order};
use crate::ports::{Alive, Lacking, RunSpec, Since, Units, Work};

/// How long it takes to find what runs.
const LOOK: Duration = Duration::from_millis(50);

/// Versions that do not start, and titles of hooks that fail, are in `broken`.
#[derive(Debug, Default)]
pub(crate) struct SimulatedUnits {
    pub(crate) broken: Mutex<BTreeSet<String>>,
    /// Verb, version and units of each.
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) crashes: Mutex<u64>,
    /// Versions whose start does not end by itself.
    pub(crate) hang: Mutex<BTreeSet<String>>,
    /// Whether the way to the supervisor is missing.
    pub(crate) away: watch::Sender<bool>,
    /// Whether what runs does not obey its stop; a kill ends it.
    pub(crate) stays: watch::Sender<bool>,
    /// What the host lacks to start a version.
    pub(crate) lacking: Mutex<Option<(String, Lacking)>>,
    /// Whether the host goes down.
    pub(crate) ending: Mutex<bool>,
    /// The runs that it is in, and whether somebody ended those before.
    pub(crate) runs: Mutex<Vec<(String, String)>>,
    pub(crate) by_hand: Mutex<bool>,
    /// A unit that somebody stopped.
    pub(crate) stopped: Mutex<Option<String>>,
    /// Whether the newest start failed.
    down: Mutex<bool>,
    /// Whether nothing is known of what runs, as after a start of the agent, until it was seen to.
    pub(crate) unseen: Mutex<bool>,
}

impl SimulatedUnits {
    async fn run(&self, verb: &'static str, spec: &RunSpec) -> Result<(), UnitError> {
        let mut away = self.away.subscribe();
        drop(away.wait_for(|away| !away).await);
        drop(self.stays.subscribe().wait_for(|stays| !stays).await);
        let told = self.told(verb, spec);
        if self.hang.lock().unwrap().contains(spec.version.as_str()) {
            std::future::pending::<()>().await;
        }
        told
    }

    fn told(&self, verb: &str, spec: &RunSpec) -> Result<(), UnitError> {
        let units: String = spec.units.iter().map(|unit| format!(" {unit}")).collect();
        self.calls.lock().unwrap().push(format!("{verb} {}{units}", spec.version));
        let broken = self.broken.lock().unwrap().contains(spec.version.as_str());
        *self.down.lock().unwrap() = broken;
        if broken {
            let (unit, result) = (spec.service.to_string(), "failed".to_owned());
            return Err(UnitError::Job { verb: "start", unit, result });
        }
        Ok(())
    }
}

impl Units for SimulatedUnits {
    fn restart<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(self.run("restart", spec))
    }

    fn reload<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(self.run("reload", spec))
    }

    fn start<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(self.run("start", spec))
    }

    fn is_ending(&self) -> Work<'_, bool> {
        Box::pin(async { *self.ending.lock().unwrap() })
    }

    fn boot(&self) -> Work<'_, Result<String, UnitError>> {
        Box::pin(std::future::ready(Ok(String::new())))
    }

    fn ensure<'a>(&'a self, spec: &'a RunSpec, _since: Since) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move {
            if *self.unseen.lock().unwrap() {
                tokio::time::sleep(LOOK).await;
            }
            self.run("ensure", spec).await?;
            *self.unseen.lock().unwrap() = false;
            Ok(())
        })
    }

    fn stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(async move { self.run("stop", spec).await.or(Ok(())) })
    }

    fn give_up<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Option<String>> {
        self.calls.lock().unwrap().push(format!("give up {}", spec.version));
        let why = "the job did not end".to_owned();
        Box::pin(std::future::ready((!*self.away.borrow()).then_some(why)))
    }

    fn kill<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, bool> {
        self.calls.lock().unwrap().push(format!("kill {}", spec.version));
        Box::pin(std::future::ready(self.stays.send_replace(false)))
    }

    fn alive<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, Result<Alive, UnitError>> {
        let (crashes, stopped) =
            (*self.crashes.lock().unwrap(), self.stopped.lock().unwrap().clone());
        let hopeless = *self.down.lock().unwrap();
        let running = stopped.is_none() && !hopeless && !*self.unseen.lock().unwrap();
        let runs = self.runs.lock().unwrap().clone();
        let alive = Alive { running, crashes, runs, hopeless, stopped };
        let silent =
            UnitError::Silent { verb: "look at", unit: "shop.service".to_owned(), secs: 0 };
        Box::pin(std::future::ready(if *self.away.borrow() { Err(silent) } else { Ok(alive) }))
    }

    fn unit_active<'a>(
        &'a self,
        _spec: &'a RunSpec,
        _unit: &'a str,
    ) -> Work<'a, Result<bool, UnitError>> {
        Box::pin(std::future::ready(Ok(true)))
    }

    fn told_to_stop<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, Option<String>> {
        Box::pin(std::future::ready(self.stopped.lock().unwrap().clone()))
    }

    fn ended_by_hand<'a>(&'a self, _runs: &'a [(String, String)]) -> Work<'a, bool> {
        Box::pin(std::future::ready(*self.by_hand.lock().unwrap()))
    }

    fn last_output<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, String> {
        Box::pin(std::future::ready("the last line".to_owned()))
    }

    fn hook<'a>(&'a self, order: &'a Order) -> Work<'a, Result<(), HookError>> {
        self.calls.lock().unwrap().push(order.title());
        let failed = order.failed("it is broken".to_owned(), "its last line");
        let broken = self.broken.lock().unwrap().contains(&order.title());
        Box::pin(std::future::ready(if broken { Err(failed) } else { Ok(()) }))
    }

    fn refused_unit(&self, _service: &ServiceName, units: &[String]) -> Option<String> {
        units.iter().find(|unit| unit.starts_with("forbidden")).cloned()
    }

    fn takes(
        &self,
        _service: &ServiceName,
        _tree: &Path,
        _units: &[String],
    ) -> Result<(), ShippedError> {
        Ok(())
    }

    fn lacks<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<Option<Lacking>, UnitError>> {
        let lacking = self.lacking.lock().unwrap().clone();
        let lacking = lacking.filter(|(version, _)| version == spec.version.as_str());
        Box::pin(std::future::ready(Ok(lacking.map(|(_, held)| held))))
    }

    fn conditions(&self) -> Work<'_, Result<Vec<ServiceCondition>, UnitError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn runs(&self, _manifest: &Manifest) -> bool {
        true
    }

    fn switches(&self, _switch: Switch) -> bool {
        true
    }

    fn stop_all(&self) -> Work<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
