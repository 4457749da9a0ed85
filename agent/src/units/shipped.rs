//! Units that a release brings itself. Read by systemd as root, so only those that give nothing away: they run
//! as nobody in particular, and have no key but those that are listed here. What an owner wants to add stands
//! in a drop-in of the host.

use std::io;
use std::path::{Path, PathBuf};

use groundswell_common::ServiceName;

use crate::durable::{self, Fault};

/// Where a tree has them.
const DIR: &str = "systemd";
const UNIT_MAX_BYTES: usize = 64 * 1024;

/// Whole keys of `[Unit]` and `[Service]`.
const KEYS: &[&str] = &[
    "After",
    "CPUQuota",
    "CPUWeight",
    "CapabilityBoundingSet",
    "Description",
    "Documentation",
    "Environment",
    "IOWeight",
    "IPAddressAllow",
    "IPAddressDeny",
    "KillMode",
    "KillSignal",
    "LockPersonality",
    "MemoryHigh",
    "MemoryMax",
    "MemorySwapMax",
    "NoNewPrivileges",
    "NotifyAccess",
    "OOMPolicy",
    "RemoveIPC",
    "Restart",
    "RestartForceExitStatus",
    "RestartPreventExitStatus",
    "RestartSec",
    "SendSIGHUP",
    "SendSIGKILL",
    "StartLimitBurst",
    "StartLimitIntervalSec",
    "SuccessExitStatus",
    "SyslogIdentifier",
    "SystemCallArchitectures",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "TasksMax",
    "TimeoutAbortSec",
    "TimeoutSec",
    "TimeoutStartSec",
    "TimeoutStopSec",
    "UMask",
    "WatchdogSec",
    "WatchdogSignal",
    "WorkingDirectory",
];
/// Keys by their beginning: what they may say takes something away.
const FAMILIES: &[&str] = &[
    "Limit",
    "MemoryDeny",
    "Private",
    "Protect",
    "RestrictAddress",
    "RestrictNamespaces",
    "RestrictRealtime",
    "RestrictSUIDSGID",
];
const COMMANDS: &[&str] = &[
    "ExecCondition",
    "ExecReload",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "ExecStop",
    "ExecStopPost",
];
/// Directories that systemd makes for the service; it would take over one that is there.
const DIRECTORIES: &[&str] = &[
    "CacheDirectory",
    "ConfigurationDirectory",
    "LogsDirectory",
    "RuntimeDirectory",
    "StateDirectory",
];

/// Why a release that brings this unit is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShippedError {
    #[error("stage the release: its unit {path} says {line:?}: {why}")]
    Line { path: PathBuf, line: String, why: &'static str },
    #[error("stage the release: its unit {0} must say DynamicUser=yes in [Service]")]
    User(PathBuf),
    #[error("stage the release: its unit {0} is not UTF-8")]
    Text(PathBuf),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Looks at each of the units that the tree brings.
pub(crate) fn check(
    service: &ServiceName,
    tree: &Path,
    units: &[String],
) -> Result<(), ShippedError> {
    for unit in units {
        let path = Path::new(DIR).join(unit);
        let file = tree.join(&path);
        match std::fs::symlink_metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Ok(found) if !found.is_file() => {
                let (line, why) = (String::new(), "it must be a file, not a link");
                return Err(ShippedError::Line { path, line, why });
            }
            Ok(_) | Err(_) => {}
        }
        let bytes = durable::read(&file, UNIT_MAX_BYTES)?.unwrap_or_default();
        let text = String::from_utf8(bytes).map_err(|_| ShippedError::Text(path.clone()))?;
        match look(service, &text) {
            Ok(true) => {}
            Ok(false) => return Err(ShippedError::User(path)),
            Err((line, why)) => return Err(ShippedError::Line { path, line, why }),
        }
    }
    Ok(())
}

/// Whether it says as whom it runs; the first line that may not be there, and why.
fn look(service: &ServiceName, text: &str) -> Result<bool, (String, &'static str)> {
    let (mut section, mut nobody) = ("", false);
    for line in text.lines().map(str::trim) {
        let refused = |why| Err((line.chars().take(200).collect(), why));
        // Some of them end a line for systemd.
        if line.chars().any(|char| char.is_control() && char != '\t') {
            return refused("control characters may not be there");
        }
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.ends_with('\\') {
            return refused("write it in one line");
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
            continue;
        }
        let Some((key, value)) =
            line.split_once('=').map(|(key, value)| (key.trim(), value.trim()))
        else {
            return refused("it is neither a section nor a key with a value");
        };
        if !matches!((section, key), ("Unit" | "Service", _) | ("Install", "WantedBy")) {
            return refused("only [Unit], [Service] and WantedBy= in [Install] may be there");
        }
        if section == "Install" {
            continue;
        }
        match key {
            "DynamicUser" if is_yes(value) => nobody = true,
            "DynamicUser" => return refused("it must be yes"),
            "Type" if value != "dbus" => {}
            "StandardOutput" | "StandardError" if ["journal", "null"].contains(&value) => {}
            _ if DIRECTORIES.contains(&key) && value == service.as_str() => {}
            _ if DIRECTORIES.contains(&key) => return refused("it must be the service's name"),
            _ if COMMANDS.contains(&key) => {
                let prefix = value.chars().take_while(|char| "@-:+!|".contains(*char));
                if prefix.clone().any(|char| "+!|".contains(char)) {
                    return refused("a command with +, ! or | has privileges");
                }
                if value.split_whitespace().any(|word| word == ";") {
                    return refused("write each command as a key of its own");
                }
            }
            _ if KEYS.contains(&key) || FAMILIES.iter().any(|start| key.starts_with(start)) => {}
            _ => return refused("a release may not set this; put it into a drop-in on the host"),
        }
    }
    Ok(nobody)
}

fn is_yes(value: &str) -> bool {
    ["1", "yes", "true", "on"].contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# as people write it\n[Unit]\nDescription=Shop\n\n[Service]\nType=notify\n\
        ExecStart=-/var/lib/groundswell/services/shop/current/tree/bin/shop --port 80\n\
        DynamicUser=yes\nStateDirectory=shop\nProtectSystem=strict\nLimitNOFILE=1024\n\
        [Install]\nWantedBy=multi-user.target\n";

    fn checked(text: &str) -> Result<(), ShippedError> {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("systemd")).unwrap();
        std::fs::write(tree.path().join("systemd/shop.service"), text).unwrap();
        check(&"shop".parse().unwrap(), tree.path(), &["shop.service".to_owned()])
    }

    #[test]
    fn a_unit_that_gives_nothing_away_may_be_brought() {
        checked(GOOD).unwrap();
        let tree = tempfile::tempdir().unwrap();
        check(&"shop".parse().unwrap(), tree.path(), &["shop.service".to_owned()]).unwrap();
    }

    #[test]
    fn a_unit_that_says_not_as_whom_is_refused() {
        for text in [GOOD.replace("DynamicUser=yes\n", ""), String::new()] {
            assert!(matches!(checked(&text), Err(ShippedError::User(_))), "{text}");
        }
    }

    #[test]
    fn what_would_give_something_away_is_refused_with_its_line() {
        for (line, says) in [
            ("DynamicUser=no", "must be yes"),
            ("User=root", "drop-in"),
            ("User=groundswell-apply", "drop-in"),
            ("AmbientCapabilities=CAP_SYS_ADMIN", "drop-in"),
            ("SupplementaryGroups=disk", "drop-in"),
            ("BindPaths=/etc", "drop-in"),
            ("EnvironmentFile=/etc/shadow", "drop-in"),
            ("LoadCredential=a:/etc/shadow", "drop-in"),
            ("Sockets=sshd.socket", "drop-in"),
            ("OnFailure=reboot.target", "drop-in"),
            ("FailureAction=reboot", "drop-in"),
            ("Wants=poweroff.target", "drop-in"),
            ("StandardOutput=file:/etc/passwd", "drop-in"),
            ("Type=dbus", "drop-in"),
            ("ReadWritePaths=/etc", "drop-in"),
            ("ExecStartPre=+/bin/sh", "privileges"),
            ("ExecStop=-!!/bin/sh", "privileges"),
            ("ExecStart=/bin/true ; +/bin/sh", "its own"),
            ("ExecStart=/bin/true \\", "in one line"),
            ("StateDirectory=groundswell", "service's name"),
            ("StateDirectory=shop groundswell", "service's name"),
            ("dynamicuser=yes", "drop-in"),
            ("nonsense", "neither"),
            ("Description=shop\rUser=root", "control characters"),
            ("# shop\0User=root", "control characters"),
            ("[Socket]\nListenStream=22", "only [Unit]"),
            ("[Install]\nAlias=sshd.service", "only [Unit]"),
        ] {
            let text = GOOD.replace("ProtectSystem=strict", line);
            let error = checked(&text).unwrap_err().to_string();
            let shown = line.lines().last().unwrap().trim();
            assert!(error.contains(says) && error.contains(&format!("{shown:?}")), "{error}");
        }
    }

    #[test]
    fn a_link_is_no_unit() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("systemd")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.path().join("systemd/shop.service"))
            .unwrap();
        let units = ["shop.service".to_owned()];
        let error = check(&"shop".parse().unwrap(), tree.path(), &units).unwrap_err();
        assert!(error.to_string().contains("not a link"), "{error}");
    }
}
