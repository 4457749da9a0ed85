//! What systemd says of units, for a person on the host: whether it can use them, and whether it starts them at
//! boot. Asks by `systemctl show`, which needs no right; changes nothing.

use std::path::Path;
use std::process::Command;

use groundswell_common::condition::UnitLoad;

use crate::durable;
use crate::units::load_of;

const CGROUP_MAX_BYTES: usize = 16 * 1024;

/// One unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) load: UnitLoad,
    /// Something starts it at boot: it is enabled, or another unit wants or triggers it.
    pub(crate) is_wanted: bool,
}

/// Asks for one unit; `None` where systemd cannot be asked.
pub(crate) fn unit(name: &str) -> Option<Unit> {
    let wanted =
        "WantedBy,RequiredBy,TriggeredBy,UpheldBy,UnitFileState,LoadState,NeedDaemonReload";
    show(name, wanted).map(|text| read(&text))
}

/// The unit that this process runs in, where its end is the end of all that it started.
pub(crate) fn unit_that_ends_all() -> Option<String> {
    let bytes = durable::read(Path::new("/proc/self/cgroup"), CGROUP_MAX_BYTES).ok()??;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let unit = text.lines().find_map(|line| line.rsplit('/').next())?.to_owned();
    let is_unit = unit.strip_suffix(".service").is_some_and(|name| !name.is_empty());
    let ends_all = is_unit && show(&unit, "KillMode")?.trim() == "KillMode=control-group";
    ends_all.then_some(unit)
}

fn show(unit: &str, properties: &str) -> Option<String> {
    let mut command = Command::new("systemctl");
    command.args(["show", "--no-pager", "--property", properties, "--", unit]);
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
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
    Unit { load, is_wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_prints_is_read() {
        let text = "LoadState=loaded\nUnitFileState=static\nNeedDaemonReload=no\nWantedBy=\n";
        let plain = Unit { load: UnitLoad::Loaded, is_wanted: false };
        assert_eq!(read(text), plain);
        let enabled = text.replace("static", "enabled");
        assert_eq!(read(&enabled), Unit { is_wanted: true, ..plain });
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
