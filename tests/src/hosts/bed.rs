//! Owns one test's switch and the making of its hosts.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::host::{Host, Place, Writable};
use super::net::{Port, build_switch};
use super::{SWITCH_ADDRESS, base};
use crate::must::Must;
use crate::private::{Private, inside};
use crate::tools::{locate, require_root};

/// Processes of one systemd host watch files with up to seven inotify instances; the kernel's usual
/// limit of 128 would let the nineteenth host fail with odd errors.
const INOTIFY_INSTANCES_A_HOST: u32 = 7;
/// What the machine's own processes may hold.
const INOTIFY_INSTANCES_OTHERS: u32 = 30;
const INOTIFY_LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";

/// Room for `/etc`, the journal and debug builds of our programs, in bytes; sparse until written.
const DISK_BYTES: u64 = 1 << 30;

/// A switch with hosts on it, in the private namespaces of one test.
#[derive(Debug)]
pub struct Bed {
    dir: PathBuf,
    cgroup: PathBuf,
    hosts: u8,
}

/// Runs one test with a bed of its own. `test` is the calling test's name as cargo prints it.
///
/// ```no_run
/// # use groundswell_tests::hosts::bed;
/// // #[test]
/// fn one_host_boots() {
///     bed("one_host_boots", |bed| {
///         let mut web = bed.host("web-1");
///         web.power_on();
///         web.wait_up();
///         assert_eq!(web.exec_ok(&["hostname"]), "web-1");
///     });
/// }
/// ```
///
/// # Panics
/// When the body panics, and as [`inside`] does: without root or a tool the test fails.
#[track_caller]
pub fn bed(test: &str, body: impl FnOnce(&mut Bed)) {
    require_root();
    for tool in ["systemd-nspawn", "dbus-daemon", "nft", "mkfs.ext4", "xfs_io", "ip", "nsenter"] {
        locate(tool);
    }
    inside(test, |private| body(&mut Bed::new(private)));
}

impl Bed {
    /// A switch without hosts.
    ///
    /// # Panics
    /// When the switch or the tree for the hosts' disks cannot be built.
    pub fn new(private: &Private) -> Self {
        build_switch();
        let (dir, cgroup) = (private.dir().to_owned(), private.cgroup().to_owned());
        base::assemble(&dir.join("base"));
        fs::create_dir(dir.join("usr")).must("make the layer over /usr");
        Self { dir, cgroup, hosts: 0 }
    }

    /// A new host, switched off, with a fresh disk. Its name becomes its hostname.
    ///
    /// # Panics
    /// When the name was given before, when the disk cannot be made, or when the machine's limit of
    /// inotify instances is too low for one more host.
    pub fn host(&mut self, name: &str) -> Host {
        self.make(name, Writable::State)
    }

    /// As [`Bed::host`], with a /usr that can be written and the machine's list of packages, so that
    /// `dpkg` works in it. What is installed lies on the host's own disk; the machine's /usr stays as
    /// it is.
    ///
    /// # Panics
    /// As [`Bed::host`].
    pub fn host_for_packages(&mut self, name: &str) -> Host {
        self.make(name, Writable::Everything)
    }

    fn make(&mut self, name: &str, writable: Writable) -> Host {
        self.hosts = self.hosts.checked_add(1).must("number another host: 255 is the most");
        self.require_inotify();
        let dir = self.dir.join("hosts").join(name);
        assert!(!dir.exists(), "there is a host `{name}` already");
        fs::create_dir_all(dir.join("root")).must(format_args!("make a place for {name}"));
        let (base, usr) = (self.dir.join("base"), self.dir.join("usr"));
        let place = Place { cgroup: self.cgroup.join(name), base, usr, writable, dir };
        Host::new(name, place, Port::new(self.hosts), DISK_BYTES)
    }

    /// Puts a file into the /usr of all hosts, where a package would: `bin/swell` becomes
    /// /usr/bin/swell. It lies in a read-only layer over the machine's /usr, which stays as it is.
    /// Do this before the first power-on: a layer must not change under a running host.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install_usr(&self, path_below_usr: &str, bytes: &[u8], mode: u32) {
        let what = format!("install /usr/{path_below_usr} for all hosts");
        let path = self.dir.join("usr").join(path_below_usr);
        fs::create_dir_all(path.parent().must(&what)).must(&what);
        fs::write(&path, bytes).must(&what);
        fs::set_permissions(&path, Permissions::from_mode(mode)).must(&what);
    }

    /// A folder on the machine's disk for what the test itself keeps; removed with the bed.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where hosts reach what the test starts beside them, such as a coordinator. Also known to
    /// hosts by the name `coordinator`.
    pub fn addr(&self) -> std::net::Ipv4Addr {
        SWITCH_ADDRESS
    }

    fn require_inotify(&self) {
        let limit = fs::read_to_string(INOTIFY_LIMIT).must("read the limit of inotify instances");
        let limit: u32 = limit.trim().parse().must("read the limit of inotify instances");
        let needed = u32::from(self.hosts) * INOTIFY_INSTANCES_A_HOST + INOTIFY_INSTANCES_OTHERS;
        assert!(
            limit >= needed,
            "{} hosts need {INOTIFY_LIMIT} at {needed} or more, it is {limit}: run tests/setup",
            self.hosts
        );
    }
}
