//! What systemd says of units, for a person on the host: whether it can use them, and whether it starts them at
//! boot. Asks by `systemctl show`, which needs no right; changes nothing.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use groundswell_common::condition::UnitLoad;

use crate::durable;
use crate::units::load_of;

const CGROUP_MAX_BYTES: usize = 16 * 1024;
/// How long systemd has to answer: it does within milliseconds, or stands still.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);
/// The answer is a line a property.
const SAID_MAX_BYTES: u64 = 32 * 1024;

/// One unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) load: UnitLoad,
    /// Something starts it at boot: it is enabled, or another unit wants or triggers it.
    pub(crate) is_wanted: bool,
    /// It does its work and ends.
    pub(crate) is_oneshot: bool,
}

/// systemd did not answer within [`PATIENCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silent;

/// Asks for one unit; `None` where systemd cannot be asked.
///
/// # Errors
/// [`Silent`].
pub(crate) fn unit(name: &str) -> Result<Option<Unit>, Silent> {
    let wanted =
        "WantedBy,RequiredBy,TriggeredBy,UpheldBy,UnitFileState,LoadState,NeedDaemonReload,Type";
    Ok(show(name, wanted)?.map(|text| read(&text)))
}

/// The unit that this process runs in, where its end is the end of all that it started.
pub(crate) fn unit_that_ends_all() -> Option<String> {
    let bytes = durable::read(Path::new("/proc/self/cgroup"), CGROUP_MAX_BYTES).ok()??;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let unit = text.lines().find_map(|line| line.rsplit('/').next())?.to_owned();
    let is_unit = unit.strip_suffix(".service").is_some_and(|name| !name.is_empty());
    let ends_all = is_unit && show(&unit, "KillMode").ok()??.trim() == "KillMode=control-group";
    ends_all.then_some(unit)
}

fn show(unit: &str, properties: &str) -> Result<Option<String>, Silent> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property", properties, "--", unit]);
    said_by(command, PATIENCE)
}

/// What a command prints, a few lines; `None` where it fails.
fn said_by(mut command: Command, patience: Duration) -> Result<Option<String>, Silent> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Ok(None) };
    let end = Instant::now() + patience;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                if let Err(error) = child.kill().and_then(|()| child.wait()) {
                    tracing::warn!(%error, "a command that does not answer is not ended");
                }
                return Err(Silent);
            }
        }
    };
    let mut said = String::new();
    let read = child.stdout.take().map(|out| out.take(SAID_MAX_BYTES).read_to_string(&mut said));
    Ok(read.is_some_and(|read| read.is_ok()).then_some(said).filter(|_| status.success()))
}

fn read(text: &str) -> Unit {
    let value = |name: &str| {
        let of = |line: &str| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
        text.lines().find_map(of).unwrap_or_default()
    };
    let load = load_of(&value("LoadState"), value("NeedDaemonReload") == "yes");
    let enabled = matches!(
        value("UnitFileState").as_str(),
        "enabled" | "enabled-runtime" | "alias" | "generated" | "indirect"
    );
    let by = ["WantedBy", "RequiredBy", "TriggeredBy", "UpheldBy"];
    let is_wanted = enabled || by.iter().any(|name| !value(name).is_empty());
    Unit { load, is_wanted, is_oneshot: value("Type") == "oneshot" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let run = |script: &str, patience| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            said_by(command, patience)
        };
        assert_eq!(run("exec sleep 600", Duration::from_millis(50)), Err(Silent));
        let long = Duration::from_secs(60);
        assert_eq!(run("echo LoadState=loaded", long), Ok(Some("LoadState=loaded\n".to_owned())));
        assert_eq!(run("exit 1", long), Ok(None));
    }

    #[test]
    fn what_systemctl_prints_is_read() {
        let text = "LoadState=loaded\nUnitFileState=static\nNeedDaemonReload=no\nWantedBy=\n";
        let plain = Unit { load: UnitLoad::Loaded, is_wanted: false, is_oneshot: false };
        assert_eq!(read(text), plain);
        let enabled = text.replace("static", "enabled");
        assert_eq!(read(&enabled), Unit { is_wanted: true, ..plain });
        let oneshot = text.to_owned() + "Type=oneshot\n";
        assert_eq!(read(&oneshot), Unit { is_oneshot: true, ..plain });
        let triggered = text.to_owned() + "TriggeredBy=shop.socket\n";
        assert_eq!(read(&triggered), Unit { is_wanted: true, ..plain });
        let stale = text.replace("Reload=no", "Reload=yes");
        assert_eq!(read(&stale), Unit { load: UnitLoad::NeedsReload, ..plain });
        for (state, load) in [
            ("not-found", UnitLoad::NotFound),
            ("masked", UnitLoad::Masked),
            ("error", UnitLoad::Faulty),
        ] {
            assert_eq!(read(&format!("LoadState={state}\n")).load, load);
        }
    }
}
