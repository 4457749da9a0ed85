//! Owns running one test inside namespaces of its own: processes, mounts and network.
//!
//! The test program starts itself again below `unshare`, asking for the same test; there the body
//! runs, outside its verdict is passed on. However the run ends, by a panic, by Ctrl-C or by
//! SIGKILL, the kernel then ends every process, mount, loop device and link made in it. Only empty
//! control groups and one folder below the temporary folder remain; the run removes them, or the
//! next run where this one could not.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::must::Must;
use crate::tools::{locate, require_root, run, tool};
use crate::wait::within;

/// Set in the inner run only: the name of the one test that runs there.
const TEST_VARIABLE: &str = "GROUNDSWELL_PRIVATE_TEST";
/// Set in the inner run only: the folder of this run.
const DIR_VARIABLE: &str = "GROUNDSWELL_PRIVATE_DIR";
/// Set in the inner run only: the control group of this run.
const CGROUP_VARIABLE: &str = "GROUNDSWELL_PRIVATE_CGROUP";
/// The inner run leaves this file when its body has returned, so that a name that matches no test
/// cannot pass as "0 tests, all good".
const VERDICT: &str = "passed";

/// What a run leaves outside is called this, the test program's process number, and a counter.
const NAME_PREFIX: &str = "groundswell-";

/// The longest a whole test may take before it is ended from outside. Every wait inside has a
/// shorter bound of its own; this one is for what those did not foresee.
const RUN_BOUND: Duration = Duration::from_secs(600);
/// How long the kernel may take to end the processes of a control group.
const KILL_BOUND: Duration = Duration::from_secs(10);

/// What a test owns in its private namespaces.
#[derive(Debug)]
pub struct Private {
    dir: PathBuf,
    cgroup: PathBuf,
}

impl Private {
    /// An empty folder on the machine's disk, removed after the run.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A control group (version 2) for the run's own groups, killed and removed after the run.
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }
}

/// Runs `body` in new process, mount and network namespaces. `test` is the calling test's name as
/// cargo prints it (with its modules, without the program's name).
///
/// # Panics
/// When the body panics, when it takes more than ten minutes, when this process is not root or a
/// tool is missing, and when `test` names no test.
#[track_caller]
pub fn inside(test: &str, body: impl FnOnce(&Private)) {
    match env::var(TEST_VARIABLE) {
        Ok(name) if name == test => run_body(body),
        Ok(name) => panic!("`{test}` was started inside the private run of `{name}`"),
        Err(_) => run_again(test),
    }
}

fn run_body(body: impl FnOnce(&Private)) {
    let path = |name: &str| env::var_os(name).map(PathBuf::from).must(format_args!("read {name}"));
    let private = Private { dir: path(DIR_VARIABLE), cgroup: path(CGROUP_VARIABLE) };
    // Hosts keep hidden copies of the mounts present when they started. Shared, an unmount reaches
    // those too; private, a dead disk stays pinned and the next mount of it answers EIO.
    run(tool("mount").args(["--make-rshared", "/"]));
    // nspawn wants a tmpfs on /run, and names of network namespaces must not meet other runs'.
    run(tool("mount").args(["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]));
    run(tool("ip").args(["link", "set", "lo", "up"]));
    body(&private);
    fs::write(private.dir.join(VERDICT), "").must("leave the verdict of the private run");
}

#[track_caller]
fn run_again(test: &str) {
    require_root();
    let outside = Outside::new();
    let log = outside.dir.path().join("output");
    let status = outside.start_and_wait(test, &log);
    let output = fs::read(&log).must("read the output of the private run");
    // Through the test harness, which shows it when the test fails.
    eprintln!("{}", String::from_utf8_lossy(&output));
    let status = status.must(format_args!("finish `{test}` within {} s", RUN_BOUND.as_secs()));
    assert!(status.success(), "the private run of `{test}` failed: {status}");
    assert!(
        outside.dir.path().join(VERDICT).is_file(),
        "no test of this program is called `{test}`: pass the name as cargo prints it"
    );
    outside.remove();
}

/// What a run leaves outside of its namespaces. Dropped, it is cleaned up as far as possible.
struct Outside {
    dir: tempfile::TempDir,
    cgroup: PathBuf,
}

impl Outside {
    fn new() -> Self {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        sweep();
        let name = format!("{NAME_PREFIX}{}-{run}", std::process::id());
        let prefix = format!("{name}-");
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().must("make a folder");
        let cgroup = cgroup_root().join(name);
        fs::create_dir(&cgroup).must(format_args!("make the control group {}", cgroup.display()));
        Self { dir, cgroup }
    }

    /// The exit status of the inner run, `None` when it had to be ended.
    fn start_and_wait(&self, test: &str, log: &Path) -> Option<ExitStatus> {
        let log = File::create(log).must("make the file for the output");
        let copy = log.try_clone().must("share the file for the output");
        let program = env::current_exe().must("learn the path of this test");
        // With --pdeathsig and --kill-child, the death of this process ends the inner run too.
        let mut command: Command = tool("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(locate("unshare"));
        command.args(["--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc"]);
        command.args(["--propagation", "private", "--"]).arg(program);
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        command.env(TEST_VARIABLE, test).env(DIR_VARIABLE, self.dir.path());
        command.env(CGROUP_VARIABLE, &self.cgroup);
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        let mut child = command.spawn().must("start the private run");
        let status = within(RUN_BOUND, || child.try_wait().must("look at the private run"));
        if status.is_none() {
            child.kill().must("end the private run");
            child.wait().must("wait for the end of the private run");
        }
        status
    }

    /// Cleans up, and fails the test when that is not possible.
    fn remove(self) {
        remove_cgroup(&self.cgroup).must("remove the control group of this run");
        // `drop` would repeat the above, which then finds nothing, and remove the folder.
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Err(error) = remove_cgroup(&self.cgroup) {
            eprintln!("{} remains: {error}", self.cgroup.display());
        }
    }
}

/// The root of the version 2 hierarchy: beside version 1 on a hybrid machine, alone elsewhere.
///
/// # Panics
/// When this machine has none: hosts cannot be made then.
pub fn cgroup_root() -> PathBuf {
    let hybrid = Path::new("/sys/fs/cgroup/unified");
    let root = if hybrid.is_dir() { hybrid } else { Path::new("/sys/fs/cgroup") };
    assert!(
        root.join("cgroup.procs").is_file(),
        "no version 2 control groups at {}: hosts need them",
        root.display()
    );
    root.to_owned()
}

/// Removes what earlier runs left that were killed before they could clean up: control groups and
/// folders named after a process that is no more. What cannot be removed now waits for the next
/// run. Every run does this first.
pub fn sweep() {
    for root in [cgroup_root(), env::temp_dir()] {
        let Ok(entries) = fs::read_dir(&root) else { continue };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_orphan(path)) {
            let result =
                if is_cgroup(&path) { remove_cgroup(&path) } else { fs::remove_dir_all(&path) };
            if let Err(error) = result {
                eprintln!("{} of an earlier run remains: {error}", path.display());
            }
        }
    }
}

/// Whether a path is named like those of a run, and the run's process is gone.
fn is_orphan(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let process = name
        .and_then(|name| name.strip_prefix(NAME_PREFIX))
        .and_then(|rest| rest.split('-').next())
        .and_then(|process| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

fn is_cgroup(path: &Path) -> bool {
    path.join("cgroup.kill").is_file()
}

fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    if !cgroup.exists() {
        return Ok(());
    }
    fs::write(cgroup.join("cgroup.kill"), "1")?;
    // On a hybrid machine nspawn makes groups of the same names in systemd's own hierarchy.
    let named = cgroup.file_name().map(|name| Path::new("/sys/fs/cgroup/systemd").join(name));
    let mut last = Ok(());
    within(KILL_BOUND, || {
        last = [Some(cgroup), named.as_deref()]
            .into_iter()
            .flatten()
            .try_for_each(remove_tree_of_groups);
        last.is_ok().then_some(())
    });
    last
}

/// Removes folders only: the files in a control group go with it.
fn remove_tree_of_groups(group: &Path) -> io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree_of_groups(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
