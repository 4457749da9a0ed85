//! A supervisor of tests: remembers what it was told, and fails where a test says so.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use groundswell_common::ServiceName;
use groundswell_common::manifest::Switch;

use super::{ShippedError, UnitError};
use crate::hooks::{HookError, Order};
use crate::ports::{Alive, RunSpec, Units, Work};

/// Versions that do not start, and titles of hooks that fail, are in `broken`.
#[derive(Debug, Default)]
pub(crate) struct SimulatedUnits {
    pub(crate) broken: Mutex<BTreeSet<String>>,
    /// Verb, version and units of each.
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) crashes: Mutex<u64>,
}

impl SimulatedUnits {
    fn start(&self, verb: &str, spec: &RunSpec) -> Result<(), UnitError> {
        let units: String = spec.units.iter().map(|unit| format!(" {unit}")).collect();
        self.calls.lock().unwrap().push(format!("{verb} {}{units}", spec.version));
        if self.broken.lock().unwrap().contains(spec.version.as_str()) {
            let (unit, result) = (spec.service.to_string(), "failed".to_owned());
            return Err(UnitError::Job { verb: "start", unit, result });
        }
        Ok(())
    }
}

impl Units for SimulatedUnits {
    fn restart<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(std::future::ready(self.start("restart", spec)))
    }

    fn reload<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(std::future::ready(self.start("reload", spec)))
    }

    fn ensure<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(std::future::ready(self.start("ensure", spec)))
    }

    fn stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>> {
        Box::pin(std::future::ready(self.start("stop", spec).or(Ok(()))))
    }

    fn alive<'a>(&'a self, _spec: &'a RunSpec) -> Work<'a, Result<Alive, UnitError>> {
        let crashes = *self.crashes.lock().unwrap();
        Box::pin(std::future::ready(Ok(Alive { running: true, crashes, hopeless: false })))
    }

    fn unit_active<'a>(
        &'a self,
        _spec: &'a RunSpec,
        _unit: &'a str,
    ) -> Work<'a, Result<bool, UnitError>> {
        Box::pin(std::future::ready(Ok(true)))
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

    fn switches(&self, _switch: Switch) -> bool {
        true
    }

    fn stop_all(&self) -> Work<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}
