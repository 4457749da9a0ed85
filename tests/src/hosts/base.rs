//! Owns what every host's disk starts with: the machine's /etc without its identity, and an empty
//! skeleton. Nothing is downloaded; /usr is bound in later.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::must::Must;
use crate::tools::{run, tool};

/// Empty folders of a host's root, each with its mode.
const FOLDERS: [(&str, u32); 17] = [
    ("usr", 0o755),
    ("etc", 0o755),
    ("proc", 0o755),
    ("sys", 0o755),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("root", 0o700),
    ("home", 0o755),
    ("opt", 0o755),
    ("srv", 0o755),
    ("mnt", 0o755),
    ("var/lib", 0o755),
    ("var/log/journal", 0o755),
    ("var/tmp", 0o1777),
    ("var/cache", 0o755),
    ("var/lib/polkit-1", 0o700),
];

/// What makes the machine's /etc this machine's: identity, secrets, and units of its own.
const NOT_OURS: [&str; 11] = [
    "hostname",
    "machine-id",
    "fstab",
    "hosts",
    "resolv.conf",
    "apt",
    "os-release",
    "ssh",
    "ssl/private",
    "systemd/system",
    "systemd/journald.conf.d",
];

const HOSTS_FILE: &str = "127.0.0.1 localhost\n10.99.0.1 coordinator\n";

/// The journal outlives power cuts, all but its last second.
const JOURNAL: &str = "[Journal]\nStorage=persistent\nSyncIntervalSec=1s\n";

/// Where on a host's disk the changes of its /usr are, relative to the root.
pub(super) const USR_CHANGES: &str = "var/usr/changes";

/// Assembles the tree below `base`, about 4 MiB.
pub(super) fn assemble(base: &Path) {
    for (folder, mode) in FOLDERS {
        make_folder(&base.join(folder), mode);
    }
    for link in ["bin", "sbin", "lib", "lib32", "lib64"] {
        if Path::new("/").join(link).is_symlink() {
            symlink(format!("usr/{link}"), base.join(link)).must("link into /usr");
        }
    }
    let etc = base.join("etc");
    run(tool("cp").args(["--archive", "/etc/."]).arg(&etc));
    for name in NOT_OURS {
        remove(&etc.join(name));
    }
    // nspawn looks at it before /usr is bound in, so it cannot stay a link.
    fs::copy("/etc/os-release", etc.join("os-release")).must("copy os-release");
    for (name, content) in [("machine-id", ""), ("fstab", ""), ("hosts", HOSTS_FILE)] {
        fs::write(etc.join(name), content).must(format_args!("write /etc/{name}"));
    }
    make_folder(&etc.join("systemd/system/multi-user.target.wants"), 0o755);
    make_folder(&etc.join("systemd/journald.conf.d"), 0o755);
    fs::write(etc.join("systemd/journald.conf.d/bed.conf"), JOURNAL).must("set up the journal");
    let target = "/usr/lib/systemd/system/multi-user.target";
    symlink(target, etc.join("systemd/system/default.target")).must("set the default target");
    // No one logs in: without it a host boots 80 ms faster.
    symlink("/dev/null", etc.join("systemd/system/systemd-logind.service")).must("mask logind");
}

/// What a host needs beyond that so that packages can be installed: what is installed already, as
/// dpkg knows it on this machine, about 40 MiB, and a place for what changes below /usr.
pub(super) fn add_packages(root: &Path) {
    run(tool("cp").args(["--archive", "/var/lib/dpkg"]).arg(root.join("var/lib/")));
    // Where apt keeps what it downloads: nothing here.
    for folder in ["var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt"] {
        make_folder(&root.join(folder), 0o755);
    }
    let changes = root.join(USR_CHANGES);
    make_folder(&changes.join("sbin"), 0o755);
    // A machine made from a container image forbids packages to start services; hosts do not. Such
    // a device is how an overlay says that a file below is gone.
    let forbids = changes.join("sbin/policy-rc.d");
    run(tool("mknod").arg(forbids).args(["c", "0", "0"]));
}

fn make_folder(path: &Path, mode: u32) {
    fs::create_dir_all(path).must(format_args!("make {}", path.display()));
    fs::set_permissions(path, Permissions::from_mode(mode))
        .must(format_args!("set the mode of {}", path.display()));
}

fn remove(path: &Path) {
    let is_folder = path.is_dir() && !path.is_symlink();
    let result = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("failed to remove {}: {error}", path.display())
        }
        Ok(()) | Err(_) => {}
    }
}
