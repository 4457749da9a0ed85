//! Hooks: programs of a release that run around a switch. Which one is to run stands in a file, so that the unit in
//! whose sandbox hooks run under systemd takes nothing from anybody but the agent.

use std::io::Write as _;
use std::path::PathBuf;

use groundswell_common::manifest::{HookPoint, Manifest};
use groundswell_common::{ReleaseId, ServiceName, Version, chain};
use serde::{Deserialize, Serialize};

use crate::durable::{self, Access};
use crate::exec::{Exec, ExecError, Output, run};
use crate::layout::Layout;
use crate::ports::RunSpec;
use crate::work::Job;

/// An argument vector within the limits of a manifest.
const ORDER_MAX_BYTES: usize = 1024 * 1024;

/// One hook to run: what the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Order {
    pub(crate) at: HookPoint,
    pub(crate) service: ServiceName,
    version: Version,
    argv: Vec<String>,
    timeout_secs: u64,
    tree: PathBuf,
}

/// A hook that did not exit with 0.
#[derive(Debug, thiserror::Error)]
#[error("hook {at} of {version}: {why}")]
pub(crate) struct HookError {
    at: HookPoint,
    version: Version,
    why: String,
    /// The end of what it wrote.
    pub(crate) output: String,
}

impl Order {
    /// What the output of the hook begins with under systemd, whose journal has older ones too.
    pub(crate) fn title(&self) -> String {
        format!("hook {} of {} {}", self.at, self.service, self.version)
    }

    pub(crate) fn failed(&self, why: String, output: &str) -> HookError {
        let (at, version, output) = (self.at, self.version.clone(), output.to_owned());
        HookError { at, version, why, output }
    }

    /// Runs it here, as a child of this process.
    pub(crate) async fn run(&self, output: Output) -> Result<(), ExecError> {
        let spec = RunSpec {
            service: self.service.clone(),
            version: self.version.clone(),
            units: Vec::new(),
            command: Vec::new(),
            tree: self.tree.clone(),
        };
        let (timeout_secs, hook) = (self.timeout_secs, Some(self.at.as_str()));
        run(Exec { argv: &self.argv, timeout_secs, spec: &spec, hook, output }).await
    }
}

/// Why the command of the hooks' unit fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The file cannot be read.
    #[error("run a hook")]
    Fault(#[from] durable::Fault),
    /// Nothing to run.
    #[error("run a hook of {0}: none is due; hooks are started by the agent")]
    None(ServiceName),
    /// The hook's own end.
    #[error("run the hook {0}")]
    Exec(HookPoint, #[source] ExecError),
}

/// The command of the hooks' unit: runs what the agent wrote down.
pub(crate) async fn run_due(layout: &Layout, service: &ServiceName) -> Result<(), RunError> {
    let bytes = durable::read(&layout.hook(service), ORDER_MAX_BYTES)?;
    let order: Option<Order> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let order = order.ok_or_else(|| RunError::None(service.clone()))?;
    // The journal is the only reader; where it is gone the hook runs all the same.
    drop(writeln!(std::io::stderr(), "{}", order.title()));
    order.run(Output::Inherited).await.map_err(|error| RunError::Exec(order.at, error))
}

impl Job {
    /// Runs the hook that a release has at this point, if it has one.
    pub(crate) async fn hook(
        &self,
        at: HookPoint,
        (release, manifest): (&ReleaseId, &Manifest),
    ) -> Result<(), HookError> {
        let Some(hook) = manifest.hook(at) else { return Ok(()) };
        let layout = &self.outside.layout;
        let tree = layout.release(&self.service, release).join("tree");
        let mut argv = hook.argv.clone();
        if let Some(program) = argv.first_mut() {
            // Of the tree alone: a bare name is not looked up anywhere else.
            *program = tree.join(&*program).display().to_string();
        }
        let order = Order {
            at,
            service: self.service.clone(),
            version: manifest.version.clone(),
            argv,
            timeout_secs: hook.timeout_secs,
            tree,
        };
        tracing::info!(service = %self.service, hook = %at, version = %order.version, "runs a hook");
        let path = layout.hook(&self.service);
        let json = serde_json::to_vec(&order).map_err(|error| order.failed(chain(&error), ""))?;
        durable::write(&path, &json, Access::All)
            .map_err(|fault| order.failed(chain(&fault), ""))?;
        let ran = self.outside.units.hook(&order).await;
        if let Err(fault) = durable::remove(&path) {
            tracing::warn!(service = %self.service, error = %chain(&fault), "stays");
        }
        ran
    }

    /// As [`Job::hook`], where going on matters more than the hook.
    pub(crate) async fn try_hook(&self, at: HookPoint, of: (&ReleaseId, &Manifest)) {
        if let Err(error) = self.hook(at, of).await {
            tracing::warn!(service = %self.service, error = %chain(&error), output = error.output,
                "a hook failed; the agent goes on");
        }
    }
}
