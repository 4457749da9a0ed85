//! A command that must exit with 0: run in the tree, in its own process group, killed as a whole at the
//! time-out. Its output is read to a bound and the end of it reported.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::ProbeError;
use crate::ports::RunSpec;
use crate::text::tail;

/// Output of a probe that a failure text may carry.
const OUTPUT_MAX_BYTES: usize = 1024;

pub(super) async fn run(
    argv: &[String],
    timeout_secs: u64,
    spec: &RunSpec,
) -> Result<(), ProbeError> {
    let what = argv.join(" ");
    let Some((program, arguments)) = argv.split_first() else {
        return Err(ProbeError::Url(what));
    };
    // A relative program lies in the tree; a bare name that is not there is looked up in PATH.
    let in_tree = spec.tree.join(program);
    let program = if program.contains('/') || in_tree.is_file() {
        in_tree.into_os_string()
    } else {
        program.into()
    };
    let io = |source| ProbeError::Io { what: what.clone(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(&spec.tree)
        .env("GROUNDSWELL_SERVICE", spec.service.as_str())
        .env("GROUNDSWELL_VERSION", spec.version.as_str())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(io)?;
    let _group = Group(child.id().and_then(|pid| i32::try_from(pid).ok()));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (out, err, status) = tokio::join!(drain(stdout), drain(stderr), child.wait());
        status.map(|status| (status, out + &err))
    };
    match timeout(Duration::from_secs(timeout_secs), work).await {
        Err(_) => Err(ProbeError::Late { what, secs: timeout_secs }),
        Ok(Err(source)) => Err(ProbeError::Io { what, source }),
        Ok(Ok((status, _))) if status.success() => Ok(()),
        Ok(Ok((status, output))) => {
            let output = tail(output.trim(), OUTPUT_MAX_BYTES).to_owned();
            Err(ProbeError::Exit { what, how: status.to_string(), output })
        }
    }
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
async fn drain<R: AsyncRead + Unpin>(stream: Option<R>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), vec![0; 4096]);
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        if kept.len() > 2 * OUTPUT_MAX_BYTES {
            kept.drain(..kept.len() - OUTPUT_MAX_BYTES);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}
