//! A program of a release that must exit with 0: run in the tree, in its own process group, killed as a whole at
//! the time-out and whenever nobody waits for it any more. Its output is read to a bound, and the end of it kept.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use crate::ports::RunSpec;
use crate::text::tail;

/// Output that a failure text may carry.
const OUTPUT_MAX_BYTES: usize = 1024;

/// What to run.
pub(crate) struct Exec<'a> {
    /// A relative program lies in the tree; a bare name that is not there is looked up in PATH.
    pub(crate) argv: &'a [String],
    pub(crate) timeout_secs: u64,
    pub(crate) spec: &'a RunSpec,
    /// The hook that this is.
    pub(crate) hook: Option<&'static str>,
    pub(crate) output: Output,
}

/// Where the output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// The end of it into the error.
    Kept,
    /// To where the agent's own goes.
    Inherited,
}

/// How it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecError {
    /// Killed at the time-out.
    #[error("no end within {secs} s")]
    Late { secs: u64, output: String },
    /// It cannot be run.
    #[error("run it")]
    Io(#[source] std::io::Error),
    /// Another code than 0, or a signal.
    #[error("{how}")]
    Exit { how: ExitStatus, output: String },
}

impl ExecError {
    /// The end of its output.
    pub(crate) fn output(&self) -> &str {
        match self {
            Self::Late { output, .. } | Self::Exit { output, .. } => output,
            Self::Io(_) => "",
        }
    }
}

/// Runs it to its end.
pub(crate) async fn run(exec: Exec<'_>) -> Result<(), ExecError> {
    let mut child = command(&exec)?.spawn().map_err(ExecError::Io)?;
    let _group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let work = async {
        let (status, (), ()) =
            tokio::join!(child.wait(), drain(stdout, &mut out), drain(stderr, &mut err));
        status
    };
    let ended = timeout(Duration::from_secs(exec.timeout_secs), work).await;
    let said = String::from_utf8_lossy(&out) + String::from_utf8_lossy(&err);
    let output = tail(said.trim(), OUTPUT_MAX_BYTES).to_owned();
    match ended {
        Err(_) => Err(ExecError::Late { secs: exec.timeout_secs, output }),
        Ok(Err(source)) => Err(ExecError::Io(source)),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(how)) => Err(ExecError::Exit { how, output }),
    }
}

fn command(exec: &Exec<'_>) -> Result<Command, ExecError> {
    let (program, arguments) = exec
        .argv
        .split_first()
        .ok_or_else(|| ExecError::Io(std::io::ErrorKind::InvalidInput.into()))?;
    let in_tree = exec.spec.tree.join(program);
    let program = if program.contains('/') || in_tree.is_file() {
        in_tree.into_os_string()
    } else {
        program.into()
    };
    let stdio = match exec.output {
        Output::Kept => Stdio::piped,
        Output::Inherited => Stdio::inherit,
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&exec.spec.tree)
        .env("GROUNDSWELL_SERVICE", exec.spec.service.as_str())
        .env("GROUNDSWELL_VERSION", exec.spec.version.as_str())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(stdio())
        .stderr(stdio())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(hook) = exec.hook {
        command.env("GROUNDSWELL_HOOK", hook);
    }
    Ok(command)
}

/// Kills what is left of the group when the try is over, however it ends.
struct Group(Option<i32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.and_then(Pid::from_raw) {
            // An error says that nobody is left, which is what is wanted.
            let _gone = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Reads to the end, keeping only the last bytes.
async fn drain<R: AsyncRead + Unpin>(stream: Option<R>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 4096];
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if kept.len() > 2 * OUTPUT_MAX_BYTES {
            kept.drain(..kept.len() - OUTPUT_MAX_BYTES);
        }
    }
}
