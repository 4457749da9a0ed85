//! A command that must exit with 0.

use super::ProbeError;
use crate::exec::{Exec, ExecError, Output, run};
use crate::ports::RunSpec;

pub(super) async fn probe(
    argv: &[String],
    timeout_secs: u64,
    spec: &RunSpec,
) -> Result<(), ProbeError> {
    let what = argv.join(" ");
    let exec = Exec { argv, timeout_secs, spec, hook: None, output: Output::Kept };
    run(exec).await.map_err(|error| match error {
        ExecError::Late { secs, .. } => ProbeError::Late { what, secs },
        ExecError::Io(source) => ProbeError::Io { what, source },
        ExecError::Exit { how, output } => ProbeError::Exit { what, how: how.to_string(), output },
    })
}
