//! Owns a whole fleet of real processes: a coordinator, agents under the process supervisor, and
//! `swell` calls against them. Everything lives below one folder and speaks real TLS.
//!
//! Use it inside a private run (`private::inside`), whose network is its own: ports are fixed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use groundswell_common::api::{HostsAnswer, PhaseName, RolloutPage, RolloutsAnswer};
use groundswell_common::digest::Digest;
use groundswell_common::manifest::{Mode, RawManifest};
use groundswell_common::name::DEFAULT_ENVIRONMENT;
use serde::de::DeserializeOwned;

use crate::bins::bin;
use crate::must::Must;
use crate::wait::{until, within};

/// Ports of the three listeners: agents, API, blobs.
const PORTS: [u16; 3] = [7443, 7444, 7480];
/// How long a process may take to end when it is asked to.
const STOP_BOUND: Duration = Duration::from_secs(15);
/// How long a rollout of a small fleet may take on a busy machine.
pub const ROLLOUT_BOUND: Duration = Duration::from_secs(120);

/// A coordinator with its state and its admin's profile.
#[derive(Debug)]
pub struct Fleet {
    dir: PathBuf,
    /// Where the coordinator keeps its state; may be a disk that loses power.
    state: PathBuf,
    host: String,
    coordinator: Mutex<Option<Child>>,
}

impl Fleet {
    /// Makes a new fleet below `dir`, its coordinator reachable at the address `host`, and starts it.
    ///
    /// # Panics
    /// When a step fails.
    pub fn start(dir: &Path, host: &str) -> Self {
        let mut fleet = Self::init(dir, &dir.join("coordinator"), host);
        fleet.serve();
        fleet
    }

    /// As [`Fleet::start`] with the coordinator's state at `state`, and without starting it.
    ///
    /// # Panics
    /// When a step fails.
    pub fn init(dir: &Path, state: &Path, host: &str) -> Self {
        let [agents, api, blobs] = PORTS.map(|port| format!("{host}:{port}"));
        let mut command = Command::new(bin("groundswell-coordinator"));
        command.args(["init", "--fleet", "test", "--host", host, "--admin", "ann", "--state"]);
        command.arg(state).args(["--agents", &agents, "--api", &api, "--blobs", &blobs]);
        succeed(&mut command);
        let profile = dir.join("admin.profile");
        fs::copy(state.join("admin.profile"), &profile).must("keep the admin's profile");
        Self {
            dir: dir.to_owned(),
            state: state.to_owned(),
            host: host.to_owned(),
            coordinator: Mutex::new(None),
        }
    }

    /// A fleet whose coordinator runs elsewhere; `profile` is the text of its admin's profile.
    ///
    /// # Panics
    /// When the profile cannot be kept.
    pub fn elsewhere(dir: &Path, host: &str, profile: &[u8]) -> Self {
        fs::write(dir.join("admin.profile"), profile).must("keep the admin's profile");
        Self {
            dir: dir.to_owned(),
            state: dir.join("elsewhere"),
            host: host.to_owned(),
            coordinator: Mutex::new(None),
        }
    }

    /// The coordinator's state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The profile of the admin.
    pub fn profile(&self) -> PathBuf {
        self.dir.join("admin.profile")
    }

    /// Starts the coordinator and waits until it listens.
    ///
    /// # Panics
    /// When it runs already or does not become ready.
    pub fn serve(&mut self) {
        assert!(self.try_serve(), "the coordinator does not start; {}", self.log());
    }

    /// As [`Fleet::serve`], `false` when the coordinator ends before it is ready.
    ///
    /// # Panics
    /// When it runs already.
    pub fn try_serve(&mut self) -> bool {
        self.start_in(&mut self.slot())
    }

    /// Ends the coordinator by SIGKILL and starts it again, while others go on talking to it.
    ///
    /// # Panics
    /// When it does not run or does not start again.
    pub fn kill_and_serve(&self) {
        let mut slot = self.slot();
        kill(slot.take());
        assert!(self.start_in(&mut slot), "the coordinator does not start; {}", self.log());
    }

    fn slot(&self) -> MutexGuard<'_, Option<Child>> {
        self.coordinator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_in(&self, slot: &mut Option<Child>) -> bool {
        assert!(slot.is_none(), "the coordinator runs already");
        let log = append(&self.dir.join("coordinator.log"));
        let mut command = Command::new(bin("groundswell-coordinator"));
        command.args(["serve", "--state"]).arg(&self.state);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().must("start the coordinator");
        let stdout = child.stdout.take().must("read what the coordinator prints");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let ready = read.is_ok() && line.starts_with("ready ");
        if ready {
            *slot = Some(child);
        } else {
            child.wait().must("wait for the coordinator");
        }
        ready
    }

    /// Process number of the running coordinator.
    ///
    /// # Panics
    /// When it does not run.
    pub fn coordinator_pid(&self) -> u32 {
        self.slot().as_ref().must("find the coordinator").id()
    }

    /// Ends the coordinator by SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill_coordinator(&mut self) {
        kill(self.slot().take());
    }

    /// Whether the coordinator has ended by itself.
    pub fn coordinator_ended(&mut self) -> bool {
        self.slot().as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))))
    }

    /// The last lines of the coordinator's log.
    pub fn log(&self) -> String {
        tail(&self.dir.join("coordinator.log"))
    }

    /// A `swell` command with the admin's profile.
    pub fn swell(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bin("swell"));
        command.arg("--profile").arg(self.profile()).args(args).stdin(Stdio::null());
        command
    }

    /// Runs `swell`, which must succeed; its standard output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn swell_ok(&self, args: &[&str]) -> String {
        succeed(&mut self.swell(args))
    }

    /// Runs `swell --json`, which must succeed, and reads its answer.
    ///
    /// # Panics
    /// When it fails or prints anything else.
    #[track_caller]
    pub fn swell_json<T: DeserializeOwned>(&self, args: &[&str]) -> T {
        let text = self.swell_ok(&[&["--json"], args].concat());
        serde_json::from_str(&text).must(format_args!("read the answer of swell {args:?}: {text}"))
    }

    /// A new enrolment token for production.
    ///
    /// # Panics
    /// When the coordinator gives none.
    #[track_caller]
    pub fn token(&self, labels: &str) -> String {
        self.token_in(labels, DEFAULT_ENVIRONMENT)
    }

    /// A new enrolment token for an environment.
    ///
    /// # Panics
    /// When the coordinator gives none.
    #[track_caller]
    pub fn token_in(&self, labels: &str, environment: &str) -> String {
        let make = ["host", "enroll-token", "--label", labels, "--environment", environment];
        let text = self.swell_ok(&make);
        let line = text.lines().map(str::trim).find(|line| line.starts_with("gsw1."));
        line.must(format_args!("find the token in {text:?}")).to_owned()
    }

    /// Applies a policy.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn apply(&self, policy: &str) {
        let path = self.dir.join("policy.toml");
        fs::write(&path, policy).must("write the policy");
        self.swell_ok(&["service", "apply", &path.to_string_lossy()]);
    }

    /// The newest rollout of a service, in full.
    ///
    /// # Panics
    /// When there is none or the coordinator does not answer.
    #[track_caller]
    pub fn newest_rollout(&self, service: &str) -> RolloutPage {
        let list: RolloutsAnswer = self.swell_json(&["rollout", "ls", "--service", service]);
        let newest = list.rollouts.first().must("find a rollout");
        self.swell_json(&["rollout", "show", newest.rollout.as_str()])
    }

    /// As [`Fleet::newest_rollout`], `None` where the coordinator does not answer or has none.
    pub fn try_newest_rollout(&self, service: &str) -> Option<RolloutPage> {
        let ask = |args: &[&str]| self.swell(&[&["--json"], args].concat()).output().ok();
        let output = ask(&["rollout", "ls", "--service", service])?;
        let list: RolloutsAnswer = serde_json::from_slice(&output.stdout).ok()?;
        let output = ask(&["rollout", "show", list.rollouts.first()?.rollout.as_str()])?;
        serde_json::from_slice(&output.stdout).ok()
    }

    /// Publishes a tree as a release of the service.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn publish(&self, service: &str, version: &str, tree: &Path) {
        let tree = tree.to_string_lossy();
        self.swell_ok(&["publish", "--service", service, "--version", version, &tree]);
    }

    /// Waits for the end of the newest rollout of the service.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_done(&self, service: &str) -> RolloutPage {
        until("the end of the newest rollout", ROLLOUT_BOUND, || {
            let page = self.newest_rollout(service);
            (page.rollout.phase == PhaseName::Done).then_some(page)
        })
    }

    /// Waits for the end of the rollout of this version, which may have yet to begin.
    ///
    /// # Panics
    /// When it does not come.
    #[track_caller]
    pub fn wait_end(&self, service: &str, version: &str) -> RolloutPage {
        until(&format!("the end of {service} {version}"), ROLLOUT_BOUND, || {
            let page = self.newest_rollout(service);
            let own = page.rollout.version.as_str() == version;
            (own && page.rollout.phase == PhaseName::Done).then_some(page)
        })
    }

    /// Waits until every host of `names` reports to run `version` of `service`.
    ///
    /// # Panics
    /// When that takes longer than [`ROLLOUT_BOUND`].
    #[track_caller]
    pub fn wait_for_version(&self, service: &str, version: &str, names: &[&str]) {
        let what = format!("{service} {version} on {names:?}");
        until(&what, ROLLOUT_BOUND, || {
            let output = self.swell(&["--json", "host", "ls"]).output().ok()?;
            let answer: HostsAnswer = serde_json::from_slice(&output.stdout).ok()?;
            let runs = |name: &&str| {
                answer.hosts.iter().any(|host| {
                    let mut services = host.services.iter();
                    host.name.as_str() == *name
                        && services.any(|s| {
                            s.service.as_str() == service
                                && s.version.as_ref().is_some_and(|v| v.as_str() == version)
                        })
                })
            };
            names.iter().all(runs).then_some(())
        });
    }

    /// Enrols an agent under the process supervisor and starts it.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn agent(&self, name: &str, labels: &str) -> Agent {
        self.agent_of(name, &self.token(labels))
    }

    /// As [`Fleet::agent`], with a token that is there.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn agent_of(&self, name: &str, token: &str) -> Agent {
        let state = self.dir.join("agents").join(name).join("state");
        self.enrolled(&bin("groundswell-agent"), (name, token), &state)
    }

    /// As [`Fleet::agent`], of another build or with a state folder elsewhere.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn agent_in(&self, program: &Path, (name, labels): (&str, &str), state: &Path) -> Agent {
        self.enrolled(program, (name, &self.token(labels)), state)
    }

    #[track_caller]
    fn enrolled(&self, program: &Path, (name, token): (&str, &str), state: &Path) -> Agent {
        let dir = self.dir.join("agents").join(name);
        fs::create_dir_all(&dir).must("make the agent's folder");
        let config = dir.join("agent.toml");
        let text = format!(
            "state_dir = {:?}\nname = {name:?}\nsupervisor = \"process\"\nkeep_free_bytes = 0\n\
             stop_services_on_exit = true\n",
            state.display().to_string()
        );
        fs::write(&config, text).must("write the agent's configuration");
        let (name, program) = (name.to_owned(), program.to_owned());
        let state = state.to_owned();
        let mut agent = Agent { name, program, dir, state, config, child: None };
        succeed(agent.command(&["enroll"]).arg(token));
        agent.run();
        agent
    }

    /// The address that everything listens on.
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// An agent under the process supervisor.
#[derive(Debug)]
pub struct Agent {
    name: String,
    program: PathBuf,
    dir: PathBuf,
    state: PathBuf,
    config: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// The host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A second machine with a copy of its state, started: it has the same key.
    ///
    /// # Panics
    /// When a step fails.
    #[track_caller]
    pub fn over(&self, name: &str, state: &Path) -> Self {
        let dir = self.dir.with_file_name(name);
        fs::create_dir_all(&dir).must("make the agent's folder");
        let config = dir.join("agent.toml");
        let text = fs::read_to_string(&self.config).must("read the agent's configuration");
        let (old, new) = (self.state.display().to_string(), state.display().to_string());
        fs::write(&config, text.replace(&old, &new)).must("write the agent's configuration");
        let (program, state) = (self.program.clone(), state.to_owned());
        let mut agent = Self { name: name.to_owned(), program, dir, state, config, child: None };
        agent.run();
        agent
    }

    /// The agent's state folder.
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// Starts it.
    ///
    /// # Panics
    /// When it runs already.
    pub fn run(&mut self) {
        self.run_as(self.command(&["run"]));
    }

    /// Starts it below `tracer`, which is given the whole command of the agent.
    ///
    /// # Panics
    /// When it runs already.
    pub fn run_below(&mut self, mut tracer: Command) {
        let command = self.command(&["run"]);
        tracer.arg(command.get_program()).args(command.get_args());
        self.run_as(tracer);
    }

    fn run_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "agent {} runs already", self.name);
        let log = append(&self.dir.join("log"));
        let copy = log.try_clone().must("share the agent's log");
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        self.child = Some(command.spawn().must("start the agent"));
    }

    /// Whether it, or what it was started below, has ended by itself; it may be started again then.
    pub fn has_ended(&mut self) -> bool {
        let ended = |child: &mut Child| matches!(child.try_wait(), Ok(Some(_)));
        let ended = self.child.as_mut().is_none_or(ended);
        if ended {
            self.child = None;
        }
        ended
    }

    /// Ends it by SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        kill(self.child.take());
    }

    /// Process number.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().must("find the agent").id()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        tail(&self.dir.join("log"))
    }

    /// An agent command with this agent's configuration.
    pub fn command(&self, verb: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(verb).arg("--config").arg(&self.config);
        command
    }

    /// The version that is live, after every file of its tree was compared with its manifest;
    /// `None` when nothing is live.
    ///
    /// # Panics
    /// When the live tree is not a complete release.
    #[track_caller]
    pub fn live_version(&self, service: &str) -> Option<String> {
        live_version(&self.state().join("services").join(service))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let child = self.slot().take();
        stop(child);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        stop(self.child.take());
    }
}

fn kill(child: Option<Child>) {
    let mut child = child.must("find the process to kill");
    child.kill().must("kill a process");
    child.wait().must("wait for the killed process");
}

fn stop(child: Option<Child>) {
    if let Some(mut child) = child {
        end(&mut child);
    }
}

/// Asks a process to end, and ends it when it does not.
pub fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    // A process that has ended cannot be asked; it is reaped below all the same.
    let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
    if within(STOP_BOUND, || child.try_wait().ok().flatten()).is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// As [`Agent::live_version`], for the folder of one service on any host.
///
/// # Panics
/// When the live tree is not a complete release.
#[track_caller]
pub fn live_version(service: &Path) -> Option<String> {
    // The link is read once: a switch under our eyes must not mix two releases.
    Some(release_version(&service.join(fs::read_link(service.join("current")).ok()?)))
}

/// The version of a release's folder, after every file of its tree was compared with its manifest.
///
/// # Panics
/// When it is not a complete release.
#[track_caller]
pub fn release_version(release: &Path) -> String {
    let bytes = fs::read(release.join("manifest.json"))
        .must(format_args!("read the manifest of {}", release.display()));
    let manifest: RawManifest =
        serde_json::from_slice(&bytes).must("parse the manifest of a release");
    for file in &manifest.files {
        let path = release.join("tree").join(file.path.as_str());
        let content = fs::read(&path).must(format_args!("read {}", path.display()));
        assert_eq!(Digest::of(&content), file.sha256, "{} is damaged", path.display());
        let mode = fs::metadata(&path).must("look at a live file").permissions().mode() & 0o777;
        let want = if file.mode == Mode::Plain { 0o644 } else { 0o755 };
        assert_eq!(mode, want, "{} has another mode", path.display());
    }
    manifest.version.to_string()
}

/// Writes a release tree of a service that sleeps, with a probe that passes or fails at once.
///
/// # Panics
/// When it cannot be written.
pub fn sleeper_tree(dir: &Path, version: &str, healthy: bool) -> PathBuf {
    let tree = dir.join(format!("tree-{version}"));
    fs::create_dir_all(tree.join("bin")).must("make the tree");
    let program = |name: &str, text: &str| {
        let path = tree.join("bin").join(name);
        fs::write(&path, text).must("write a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).must("make it executable");
    };
    program("run", "#!/bin/sh\nexec sleep 1000000\n");
    program("check", if healthy { "#!/bin/sh\nexit 0\n" } else { "#!/bin/sh\nexit 1\n" });
    fs::write(tree.join("version"), version).must("write the version");
    symlink("version", tree.join("release")).must("link the version");
    let spec = "[release]\ncommand = [\"bin/run\"]\n\n\
                [[probe]]\nkind = \"exec\"\nargv = [\"bin/check\"]\ntimeout_secs = 10\n";
    fs::write(tree.join("groundswell.toml"), spec).must("write the release's description");
    tree
}

/// Runs a command that must succeed; its standard output.
///
/// # Panics
/// When it fails, with all that it printed.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().must(format_args!("run {command:?}"));
    assert!(output.status.success(), "{command:?} failed: {}", describe(&output));
    String::from_utf8(output.stdout).must("read the output as text")
}

/// Exit status, standard output and standard error of a command, for messages.
pub fn describe(output: &Output) -> String {
    let text = String::from_utf8_lossy;
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

fn append(path: &Path) -> File {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.must(format_args!("open {}", path.display()))
}

fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
