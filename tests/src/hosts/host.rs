//! Owns one host: its disk, its power, its cable, and running commands in it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::base;
use super::net::Port;
use crate::bins::bin;
use crate::mounts;
use crate::must::Must;
use crate::tools::{locate, output, run, tool};
use crate::wait::until;

/// A boot takes 0.6 s alone and half a minute among forty on a busy machine of two cores.
const BOOT_BOUND: Duration = Duration::from_secs(120);
/// Units have until now to stop in order; systemd's own patience is 90 s.
const OFF_BOUND: Duration = Duration::from_secs(120);
/// How long the kernel may take to end all processes of a host.
const KILL_BOUND: Duration = Duration::from_secs(20);
/// The longest one command in a host may take, in seconds. Ended, its exit code is 137.
const EXEC_BOUND_SECS: &str = "120";
/// The longest message of nspawn we read, in bytes: `READY=1` and a line or two of status.
const NOTICE_BYTES: usize = 4096;
/// Lines of the console that a failure shows.
const CONSOLE_LINES: usize = 25;

/// What a disk does with its file system's own log when the power goes. Neither keeps file content
/// that was not synced. Test with both: each shows another kind of missing fsync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutFlag {
    /// The log is written first: renames and new names survive, content that was not synced does
    /// not. Shows a rename before its file's fsync (the name then points to an empty file).
    KeepLog,
    /// The log is lost too: names and renames not yet committed are gone. Shows a missing fsync of
    /// a file or of its folder.
    DropLog,
}

/// Where a host's things are.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) cgroup: PathBuf,
    pub(super) base: PathBuf,
    /// The layer over the machine's /usr.
    pub(super) usr: PathBuf,
    pub(super) writable: Writable,
}

/// What of a host can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writable {
    /// All but /usr, which is the machine's.
    State,
    /// /usr too, whose changes stay on the host's own disk; packages can be installed.
    Everything,
}

/// A host with a real systemd. Dropped, it goes on until the end of the test.
#[derive(Debug)]
pub struct Host {
    name: String,
    place: Place,
    port: Port,
    shares: BTreeMap<String, PathBuf>,
    owns_network: bool,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    nspawn: Child,
    notices: Arc<UnixDatagram>,
    /// The host's process 1 as seen from here, once nspawn has told it.
    leader: Option<u32>,
}

impl Host {
    pub(super) fn new(name: &str, place: Place, port: Port, disk_bytes: u64) -> Self {
        let image = place.dir.join("disk");
        let file = File::create_new(&image).must(format_args!("make the disk of {name}"));
        file.set_len(disk_bytes).must(format_args!("set the size of the disk of {name}"));
        run(tool("mkfs.ext4").args(["-q", "-F", "-m", "0", "-d"]).arg(&place.base).arg(&image));
        let (name, shares) = (name.to_owned(), BTreeMap::new());
        let host = Self { name, place, port, shares, owns_network: false, running: None };
        if host.place.writable == Writable::Everything {
            host.mount_disk();
            base::add_packages(&host.root());
        }
        host
    }

    /// The host's name, in the test and in itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host's address, the same at every boot.
    pub fn addr(&self) -> Ipv4Addr {
        self.port.address()
    }

    /// Shows a folder of the machine in the host, read-only, from the next power-on. For programs
    /// too large to copy.
    ///
    /// # Panics
    /// When the host is on.
    pub fn share(&mut self, folder: &Path, path_in_host: &str) {
        assert!(self.running.is_none(), "{} is on: share folders before", self.name);
        self.shares.insert(path_in_host.to_owned(), folder.to_owned());
    }

    /// Lets root in the host change the host's own network, from the next power-on.
    ///
    /// # Panics
    /// When the host is on.
    pub fn own_network(&mut self) {
        assert!(self.running.is_none(), "{} is on: give it its network before", self.name);
        self.owns_network = true;
    }

    /// Writes a file, its missing parent folders too, owned by root. On or off, it is durable when
    /// this returns. The path must be absolute and cross no symbolic link.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install_file(&self, path_in_host: &str, bytes: &[u8], mode: u32) {
        let path = self.outside_path(path_in_host);
        let what = format!("install {path_in_host} on {}", self.name);
        let parent = path.parent().must(&what);
        fs::create_dir_all(parent).must(&what);
        let mut file = File::create(&path).must(&what);
        file.write_all(bytes).must(&what);
        file.set_permissions(Permissions::from_mode(mode)).must(&what);
        file.sync_all().must(&what);
        File::open(parent).and_then(|folder| folder.sync_all()).must(&what);
    }

    /// A file's content, on or off; `None` when there is no such file. Paths as for
    /// [`Host::install_file`].
    ///
    /// # Panics
    /// When it is there but cannot be read.
    pub fn read_file(&self, path_in_host: &str) -> Option<Vec<u8>> {
        match fs::read(self.outside_path(path_in_host)) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => panic!("failed to read {path_in_host} on {}: {error}", self.name),
        }
    }

    /// Puts a unit into /etc/systemd/system and enables it for boots to come.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn install_unit(&self, unit: &str, content: &str) {
        self.install_file(&format!("/etc/systemd/system/{unit}"), content.as_bytes(), 0o644);
        let wants = format!("/etc/systemd/system/multi-user.target.wants/{unit}");
        let link = self.outside_path(&wants);
        let made = std::os::unix::fs::symlink(format!("../{unit}"), &link);
        made.must(format_args!("enable {unit} on {}", self.name));
    }

    /// Switches the host on and returns at once; see [`Host::wait_up`].
    ///
    /// # Panics
    /// When it is on, or when a step fails.
    pub fn power_on(&mut self) {
        assert!(self.running.is_none(), "{} is on already", self.name);
        self.mount_disk();
        self.port.connect();
        fs::create_dir_all(&self.place.cgroup).must("make the control group of a host");
        let socket = self.place.dir.join("notices");
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                panic!("failed to remove {}: {error}", socket.display())
            }
            Ok(()) | Err(_) => {}
        }
        let notices = Arc::new(UnixDatagram::bind(&socket).must("listen for nspawn"));
        let nspawn = self.nspawn(&socket).spawn().must(format_args!("start {}", self.name));
        self.running = Some(Running { nspawn, notices, leader: None });
    }

    /// Waits until systemd in the host says `running`.
    ///
    /// # Panics
    /// When it is off, dies, says anything else (the failed units are then shown), or takes more
    /// than two minutes.
    pub fn wait_up(&mut self) {
        self.wait_ready();
        let result = self.exec(&["systemctl", "is-system-running", "--wait"]);
        let state = String::from_utf8_lossy(&result.stdout).trim_end().to_owned();
        if state != "running" {
            let failed = self.exec(&["systemctl", "--failed", "--no-legend", "--plain"]);
            let failed = String::from_utf8_lossy(&failed.stdout).into_owned();
            panic!("{} is `{state}`, not `running`; {failed}{}", self.name, self.console_tail());
        }
    }

    /// A command to run in the host, as root and outside of any unit, with a bare environment.
    /// It is ended after two minutes.
    ///
    /// # Panics
    /// When the host is not up.
    pub fn command(&self, argv: &[&str]) -> Command {
        let leader = self.running.as_ref().and_then(|running| running.leader);
        let leader = leader.must(format_args!("enter {}: it is not up", self.name));
        let mut command = tool("timeout");
        command.args(["--signal=KILL", EXEC_BOUND_SECS]).arg(locate("nsenter"));
        command.args(["--target", &leader.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"]);
        command.args(argv).env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LC_ALL", "C.UTF-8").env("HOME", "/root");
        command
    }

    /// Runs a command in the host to its end; see [`Host::command`].
    ///
    /// # Panics
    /// When the host is not up. A command that fails is the caller's to judge.
    pub fn exec(&self, argv: &[&str]) -> Output {
        output(&mut self.command(argv))
    }

    /// Runs a command that must succeed, and returns its output, trimmed.
    ///
    /// # Panics
    /// When the host is not up or the command fails.
    #[track_caller]
    pub fn exec_ok(&self, argv: &[&str]) -> String {
        run(&mut self.command(argv))
    }

    /// Switches the host off in order: units stop, file systems sync.
    ///
    /// # Panics
    /// When it is off already, or does not stop in order within two minutes.
    pub fn power_off(&mut self) {
        let running = self.running.as_ref().must(format_args!("switch off {}", self.name));
        // nspawn turns it into the signal by which systemd is asked to power off.
        signal(&running.nspawn, Signal::TERM);
        let status = self.wait_off();
        assert!(status.success(), "{} stopped with {status}; {}", self.name, self.console_tail());
    }

    /// Waits until the host has switched itself off. The exit code is 0 after `systemctl poweroff`
    /// and 133 after `systemctl reboot`: the caller then powers it on again.
    ///
    /// # Panics
    /// When it does not end within two minutes.
    pub fn wait_off(&mut self) -> ExitStatus {
        self.reap(OFF_BOUND)
    }

    /// The power goes: the cable first, so that no goodbye reaches anyone, then the disk, then
    /// every process at once. What was not synced is lost as `flag` says.
    ///
    /// # Panics
    /// When the host is off, or a step fails.
    pub fn power_cut(&mut self, flag: CutFlag) {
        assert!(self.running.is_some(), "{} is off: there is no power to cut", self.name);
        self.port.pull();
        let shutdown = match flag {
            CutFlag::KeepLog => "shutdown -f",
            CutFlag::DropLog => "shutdown",
        };
        run(tool("xfs_io").args(["-x", "-c", shutdown]).arg(self.root()));
        self.write_cgroup("cgroup.kill", "1");
        self.reap(KILL_BOUND);
    }

    /// Stops every process of the host where it stands, as a stuck hypervisor does.
    ///
    /// # Panics
    /// When the host is off.
    pub fn freeze(&self) {
        self.write_cgroup("cgroup.freeze", "1");
    }

    /// Lets a frozen host go on.
    ///
    /// # Panics
    /// When the host is off.
    pub fn thaw(&self) {
        self.write_cgroup("cgroup.freeze", "0");
    }

    /// Pulls the cable out: the host and the switch see the carrier go.
    ///
    /// # Panics
    /// When the host is off.
    pub fn cut_link(&self) {
        self.port.pull();
    }

    /// Plugs the cable in again. The first connection after it may still fail for a second or two.
    ///
    /// # Panics
    /// When the host is off.
    pub fn heal_link(&self) {
        self.port.plug();
    }

    /// Lets every packet from and to the host vanish while all carriers stay: connections are then
    /// half-open, and nobody is told.
    ///
    /// # Panics
    /// When it is silent already.
    pub fn cut_silent(&self) {
        self.port.silence();
    }

    /// Ends the silence.
    ///
    /// # Panics
    /// When the host was not silent.
    pub fn heal_silent(&self) {
        self.port.unsilence();
    }

    /// What the host wrote to its console, of all boots.
    ///
    /// # Panics
    /// When the host was never switched on.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.place.dir.join("console")).must("read the console");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn console_tail(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        let tail = &lines[lines.len().saturating_sub(CONSOLE_LINES)..];
        format!("the end of its console:\n{}", tail.join("\n"))
    }

    fn nspawn(&self, notices: &Path) -> Command {
        let console = self.place.dir.join("console");
        let console = OpenOptions::new().create(true).append(true).open(console);
        let console = console.must("open the console's file");
        let copy = console.try_clone().must("share the console's file");
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut command = Command::new(bin("incgroup"));
        command.arg(&self.place.cgroup).arg(locate("systemd-nspawn"));
        command.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--notify-ready=yes"]);
        command.args(["--link-journal=no", "--resolv-conf=off", "--timezone=off"]);
        command.args(["--console=pipe", &format!("--machine={}", self.name)]);
        command.arg(self.overlay());
        command.arg(option("directory", &self.root()));
        command.arg(option("network-namespace-path", &self.port.namespace()));
        if self.owns_network {
            command.arg("--capability=CAP_NET_ADMIN");
        }
        for (inside, outside) in &self.shares {
            command.arg(format!("--bind-ro={}:{inside}", outside.display()));
        }
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").env("NOTIFY_SOCKET", notices);
        command.stdin(Stdio::null()).stdout(console).stderr(copy);
        command
    }

    /// What the host sees as its /usr: the machine's, below what the test put there for all hosts.
    fn overlay(&self) -> String {
        let layer = self.place.usr.display();
        match self.place.writable {
            Writable::State => format!("--overlay-ro=/usr:{layer}:/usr"),
            Writable::Everything => {
                let changes = self.root().join(base::USR_CHANGES);
                format!("--overlay=/usr:{layer}:{}:/usr", changes.display())
            }
        }
    }

    /// Waits for nspawn's word that the host's systemd has finished its start.
    ///
    /// # Panics
    /// When it is off, dies, or takes more than two minutes.
    pub fn wait_ready(&mut self) {
        let start = Instant::now();
        loop {
            let running = self.running.as_mut().must(format_args!("wait for {}", self.name));
            if running.hear() {
                return running.keep_reading();
            }
            let ended = running.nspawn.try_wait().must("look at nspawn");
            let waited = start.elapsed();
            if ended.is_some() || waited > BOOT_BOUND {
                let ended = ended.map_or("still starting".to_owned(), |status| status.to_string());
                panic!(
                    "{} is not up after {waited:?}: {ended}; {}",
                    self.name,
                    self.console_tail()
                );
            }
        }
    }

    /// Waits for the end of nspawn, and puts away what belonged to this boot.
    fn reap(&mut self, bound: Duration) -> ExitStatus {
        let mut running =
            self.running.take().must(format_args!("wait for {}: it is off", self.name));
        let what = format!("the end of {}", self.name);
        let status = until(&what, bound, || running.nspawn.try_wait().must("look at nspawn"));
        mounts::release(&self.root(), &self.image());
        self.port.disconnect();
        status
    }

    /// Where a path of the host is for us: below its process 1 when it is up, else on its disk.
    ///
    /// # Panics
    /// While the host starts, and where the path is not absolute.
    pub fn outside_path(&self, path_in_host: &str) -> PathBuf {
        let inner = path_in_host.strip_prefix('/');
        let inner = inner.must(format_args!("use `{path_in_host}`: it must be absolute"));
        match self.running.as_ref().map(|running| running.leader) {
            Some(Some(leader)) => Path::new("/proc").join(format!("{leader}/root")).join(inner),
            Some(None) => panic!("{} is starting: call wait_up first", self.name),
            None => {
                self.mount_disk();
                self.root().join(inner)
            }
        }
    }

    fn mount_disk(&self) {
        if !mounts::is_mounted(&self.root()) {
            let mut mount = tool("mount");
            mount.args(["-t", "ext4", "-o", "loop,noatime"]);
            run(mount.arg(self.image()).arg(self.root()));
        }
    }

    fn write_cgroup(&self, file: &str, value: &str) {
        let path = self.place.cgroup.join(file);
        fs::write(&path, value).must(format_args!("write {}", path.display()));
    }

    fn root(&self) -> PathBuf {
        self.place.dir.join("root")
    }

    fn image(&self) -> PathBuf {
        self.place.dir.join("disk")
    }
}

impl Running {
    /// Reads one message of nspawn if there comes one soon; true when it says that the host is up.
    fn hear(&mut self) -> bool {
        self.notices
            .set_read_timeout(Some(Duration::from_millis(100)))
            .must("set how long to listen for nspawn");
        let mut notice = [0; NOTICE_BYTES];
        let length = match self.notices.recv(&mut notice) {
            Ok(length) => length,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return false;
            }
            Err(error) => panic!("failed to listen for nspawn: {error}"),
        };
        let notice = String::from_utf8_lossy(&notice[..length]).into_owned();
        for line in notice.lines() {
            if let Some(leader) = line.strip_prefix("X_NSPAWN_LEADER_PID=") {
                self.leader = Some(leader.parse().must("read the leader's process number"));
            }
        }
        notice.lines().any(|line| line == "READY=1")
    }

    /// Reads on until the host is off: with nobody to read what it says of a job that takes long, its systemd stands
    /// still.
    fn keep_reading(&self) {
        let notices = Arc::downgrade(&self.notices);
        thread::spawn(move || {
            while let Some(notices) = notices.upgrade() {
                match notices.recv(&mut [0; NOTICE_BYTES]) {
                    Ok(_) => {}
                    Err(error)
                        if matches!(
                            error.kind(),
                            ErrorKind::WouldBlock | ErrorKind::Interrupted
                        ) => {}
                    Err(error) => panic!("failed to listen for nspawn: {error}"),
                }
            }
        });
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.must("know the process number of nspawn"), signal).must("signal nspawn");
}
