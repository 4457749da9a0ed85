//! What the driver needs from outside, as small traits: units, probes and the depot. The link is a pair of
//! channels and the tree a directory, so tests replace those without a trait.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use groundswell_common::condition::{Lack, ServiceCondition};
use groundswell_common::manifest::{Manifest, Probe, Switch};
use groundswell_common::{Digest, ServiceName, Version};

use crate::cancel::Cancel;
use crate::durable::Fault;
use crate::fetch::FetchError;
use crate::hooks::{HookError, Order};
use crate::probe::ProbeError;
use crate::units::{ShippedError, UnitError};

/// What a host lacks for a release: in words, the cause and the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lacking {
    pub(crate) lack: Lack,
    pub(crate) why: String,
}

/// Asynchronous work behind a trait.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a supervisor runs for a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunSpec {
    /// The service.
    pub(crate) service: ServiceName,
    /// The version that is live.
    pub(crate) version: Version,
    /// Units to restart.
    pub(crate) units: Vec<String>,
    /// The command to run.
    pub(crate) command: Vec<String>,
    /// The tree, through the live link.
    pub(crate) tree: PathBuf,
}

/// How a service is doing, as its supervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alive {
    /// Whether everything that should run runs now.
    pub(crate) running: bool,
    /// Restarts by crash since the supervisor knows it; grows only.
    pub(crate) crashes: u64,
    /// The runs that its units are in, by unit, where anybody else may start them anew.
    pub(crate) runs: Vec<(String, String)>,
    /// Whether it will not come up by itself any more: waiting longer is of no use.
    pub(crate) hopeless: bool,
    /// A unit that neither runs nor failed: somebody stopped it.
    pub(crate) stopped: Option<String>,
}

/// Since when a service may be down, where it is seen to that it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// The host's boot, or a step under way: what does not run has not been started.
    Boot,
    /// The agent's start alone.
    Agent,
}

/// Whoever starts and stops services.
pub(crate) trait Units: Send + Sync {
    /// Stops what runs and starts what is live now.
    fn restart<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>>;
    /// Tells what runs to read its files again, and starts what does not run.
    fn reload<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>>;
    /// Starts what is live beside what runs, and leaves alone what of it runs already.
    fn start<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>>;
    /// What tells this run of the host from others; empty where services outlive nothing but the agent.
    fn boot(&self) -> Work<'_, Result<String, UnitError>>;
    /// Starts what is live, unless it runs already, has done its work, or was stopped on purpose.
    fn ensure<'a>(&'a self, spec: &'a RunSpec, since: Since) -> Work<'a, Result<(), UnitError>>;
    /// Stops the service. What is not there is stopped.
    fn stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<(), UnitError>>;
    /// Takes back what was asked for and does not end, and says what that is; `None` where only the way to the
    /// supervisor is missing, which speaks against nobody. Called while the work still waits.
    fn give_up<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Option<String>>;
    /// Ends processes that do not obey a stop that was asked for; whether there were any.
    fn kill<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, bool>;
    /// How it is doing.
    fn alive<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<Alive, UnitError>>;
    /// Whether one unit is active, for unit probes.
    fn unit_active<'a>(
        &'a self,
        spec: &'a RunSpec,
        unit: &'a str,
    ) -> Work<'a, Result<bool, UnitError>>;
    /// The first unit that does not run, where somebody told the supervisor to stop each of them in its newest run;
    /// `None` where one of them ended by itself.
    fn told_to_stop<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Option<String>>;
    /// Whether somebody told the supervisor to end each of these runs of units.
    fn ended_by_hand<'a>(&'a self, runs: &'a [(String, String)]) -> Work<'a, bool>;
    /// The last lines that the service wrote, for the failure report.
    fn last_output<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, String>;
    /// Runs a hook to its end, in a place of its own of which nothing is left then.
    fn hook<'a>(&'a self, order: &'a Order) -> Work<'a, Result<(), HookError>>;
    /// Whether the units that a release names are allowed on this host; the first that is not.
    fn refused_unit(&self, service: &ServiceName, units: &[String]) -> Option<String>;
    /// Whether the units that the tree of a release brings may be used.
    fn takes(
        &self,
        service: &ServiceName,
        tree: &Path,
        units: &[String],
    ) -> Result<(), ShippedError>;
    /// What the host lacks to start it, where that can be known before.
    fn lacks<'a>(&'a self, spec: &'a RunSpec) -> Work<'a, Result<Option<Lacking>, UnitError>>;
    /// How the units stand that the owner of the host allows.
    fn conditions(&self) -> Work<'_, Result<Vec<ServiceCondition>, UnitError>>;
    /// Whether it can run what the release names, or the release is files alone.
    fn runs(&self, manifest: &Manifest) -> bool;
    /// Whether it can switch so.
    fn switches(&self, switch: Switch) -> bool;
    /// Whether the host itself is going down: what ends then speaks against nobody.
    fn is_ending(&self) -> Work<'_, bool>;
    /// Stops every service, when the agent ends and is configured to.
    fn stop_all(&self) -> Work<'_, ()>;
}

/// Whoever runs one try of a probe.
pub(crate) trait Probes: Send + Sync {
    /// One try. Unit probes never come here.
    fn once<'a>(&'a self, probe: &'a Probe, spec: &'a RunSpec) -> Work<'a, Result<(), ProbeError>>;
}

/// Whoever brings blobs.
pub(crate) trait Depot: Send + Sync {
    /// Brings the blob `digest` of at most `limit_bytes` into the spool, verified as the open file that
    /// is returned, read from its start.
    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        limit_bytes: u64,
        cancel: &'a Cancel,
    ) -> Work<'a, Result<File, FetchError>>;
    /// Removes the blob from the spool.
    fn discard(&self, digest: &Digest);
    /// Removes what interrupted transfers left in the spool; called when nothing is being fetched.
    fn clear(&self) -> Result<(), Fault>;
    /// Takes the base address of the blobs that the coordinator names now.
    fn set_base(&self, base: &str);
}
