//! `incgroup DIR COMMAND...` enters the control group at DIR and becomes COMMAND.
//!
//! A process must be in its group before it starts its first child, and only the process itself can
//! do that without a race. It never does anything else.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let group = arguments.next().map(PathBuf::from).context("name the control group's folder")?;
    let program = arguments.next().context("name the command to become")?;
    let rest: Vec<OsString> = arguments.collect();
    // "0" is the writer itself, whatever number its namespace gives it.
    std::fs::write(group.join("cgroup.procs"), "0")
        .with_context(|| format!("enter {}", group.display()))?;
    let error = Command::new(&program).args(rest).exec();
    Err(error).with_context(|| format!("become {}", program.display()))
}
