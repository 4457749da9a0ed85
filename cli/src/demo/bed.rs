//! The demo's processes: one coordinator and an agent a host, started as anybody would start them, and
//! ended by id. Holds where everything lies; knows nothing of releases.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use groundswell_common::Environment;
use groundswell_common::api::{Profile, TokensAnswer, TokensRequest};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::ports;
use crate::client::Client;

/// Longest wait for the coordinator to listen.
const READY_MAX: Duration = Duration::from_secs(20);
/// Longest wait for one enrolment.
const ENROLL_MAX: Duration = Duration::from_secs(30);
/// Longest that a person's request on a host may take.
const HAND_MAX: Duration = Duration::from_secs(30);
/// Longest wait for processes that were asked to end.
const STOP_MAX: Duration = Duration::from_secs(15);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Lines of a log that a failure shows.
const LOG_LINES: usize = 12;
/// Label of the demo's hosts.
const LABELS: &str = "role=shop";

/// The programs that the demo runs, built beside this one.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    coordinator: PathBuf,
    agent: PathBuf,
    /// What is deployed.
    pub(super) service: PathBuf,
    /// This program.
    pub(super) swell: PathBuf,
}

impl Programs {
    /// Finds the programs beside this one.
    pub(super) fn find() -> anyhow::Result<Self> {
        let swell = std::env::current_exe().context("find the path of swell itself")?;
        let find = |name: &str| {
            let path = swell.with_file_name(name);
            if path.is_file() {
                return Ok(path);
            }
            bail!("find {}: build all programs first: cargo build --release", path.display())
        };
        Ok(Self {
            coordinator: find("groundswell-coordinator")?,
            agent: find("groundswell-agent")?,
            service: find("groundswell-demo-service")?,
            swell,
        })
    }
}

/// One host: an agent, and the port that its service answers on.
#[derive(Debug)]
pub(super) struct Host {
    /// Its name.
    pub(super) name: String,
    /// Where its service answers.
    pub(super) port: u16,
    agent: Option<Child>,
}

/// The running fleet.
#[derive(Debug)]
pub(super) struct Bed {
    dir: PathBuf,
    programs: Programs,
    coordinator: Option<Child>,
    /// By name.
    pub(super) hosts: Vec<Host>,
}

/// What was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped {
    /// Processes of the demo that were asked to end.
    pub(super) asked: usize,
    /// Processes that did not end by themselves and were killed.
    pub(super) killed: usize,
}

impl Bed {
    /// A bed below `dir`, with nothing running yet.
    pub(super) fn new(dir: &Path, programs: Programs) -> Self {
        Self { dir: dir.to_owned(), programs, coordinator: None, hosts: Vec::new() }
    }

    /// The profile of the demo's operator.
    pub(super) fn profile_path(&self) -> PathBuf {
        self.dir.join("profile.json")
    }

    /// Where the ids of all processes are kept for `--keep`.
    pub(super) fn pids_path(&self) -> PathBuf {
        self.dir.join("pids")
    }

    /// Initialises and starts the coordinator; a client of it.
    pub(super) async fn start_coordinator(&mut self) -> anyhow::Result<Client> {
        let state = self.dir.join("coordinator");
        let ports = ports::free(3)?;
        let mut init = Command::new(&self.programs.coordinator);
        init.args(["init", "--fleet", "demo", "--host", "127.0.0.1", "--admin", "you", "--state"]);
        init.arg(&state);
        for (flag, port) in ["--agents", "--api", "--blobs"].iter().zip(&ports) {
            init.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        let log = self.dir.join("coordinator.log");
        run(init, &log, READY_MAX).await.context("initialise the coordinator")?;
        fs::rename(state.join("admin.profile"), self.profile_path())
            .context("keep the operator's profile")?;
        let ready = self.dir.join("ready");
        let mut serve = Command::new(&self.programs.coordinator);
        serve.args(["serve", "--state"]).arg(&state);
        let stdout = File::create(&ready).context("start the coordinator")?;
        self.coordinator = Some(spawn(serve, &log, stdout).context("start the coordinator")?);
        let end = Instant::now() + READY_MAX;
        while !fs::read_to_string(&ready).is_ok_and(|text| text.contains('\n')) {
            self.alive()?;
            if Instant::now() > end {
                bail!("start the coordinator: not ready after {} s", READY_MAX.as_secs());
            }
            sleep(LOOK).await;
        }
        let text = fs::read_to_string(self.profile_path()).context("read the profile")?;
        let profile: Profile = serde_json::from_str(&text).context("read the profile")?;
        Ok(Client::new(&profile)?)
    }

    /// Enrols and starts `count` agents, each with a token of its own.
    pub(super) async fn start_agents(&mut self, client: &Client, count: u16) -> anyhow::Result<()> {
        let request = TokensRequest {
            labels: LABELS.parse().context("read the demo's labels")?,
            environment: Environment::default(),
            ttl_secs: 3600,
            count: u32::from(count),
        };
        let tokens: TokensAnswer = client.post("/v1/enroll-tokens", &request).await?;
        let ports = ports::free(usize::from(count))?;
        let mut enrolling = Vec::new();
        for (at, (token, port)) in tokens.tokens.iter().zip(ports).enumerate() {
            let name = format!("web-{:02}", at + 1);
            let dir = self.dir.join("hosts").join(&name);
            fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
            let text = configuration(&dir.join("state"), &name)?;
            let config = dir.join("agent.toml");
            fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
            let mut enroll = Command::new(&self.programs.agent);
            enroll.args(["enroll", "--config"]).arg(&config).arg(token);
            enrolling.push((name.clone(), tokio::spawn(run(enroll, dir.join("log"), ENROLL_MAX))));
            self.hosts.push(Host { name, port, agent: None });
        }
        for (name, task) in enrolling {
            task.await?.with_context(|| format!("enrol {name}"))?;
        }
        for host in &mut self.hosts {
            let dir = self.dir.join("hosts").join(&host.name);
            let mut agent = Command::new(&self.programs.agent);
            agent.args(["run", "--config"]).arg(dir.join("agent.toml"));
            agent.env("SHOP_PORT", host.port.to_string());
            let log = dir.join("log");
            let at = || format!("start {}", host.name);
            let stdout = append(&log).with_context(at)?;
            host.agent = Some(spawn(agent, &log, stdout).with_context(at)?);
        }
        Ok(())
    }

    /// Runs the agent's program on a host as a person there would.
    pub(super) async fn by_hand(&self, host: &str, words: &[&str]) -> anyhow::Result<()> {
        let dir = self.dir.join("hosts").join(host);
        let mut agent = Command::new(&self.programs.agent);
        agent.args(words).arg("--config").arg(dir.join("agent.toml"));
        let ran = run(agent, dir.join("log"), HAND_MAX).await;
        ran.with_context(|| format!("run groundswell-agent {} on {host}", words.join(" ")))
    }

    /// Fails when the coordinator or an agent has ended by itself.
    pub(super) fn alive(&mut self) -> anyhow::Result<()> {
        let agents = self.hosts.iter_mut().map(|host| (host.name.clone(), host.agent.as_mut()));
        let coordinator = ("the coordinator".to_owned(), self.coordinator.as_mut());
        for (name, child) in std::iter::once(coordinator).chain(agents) {
            if let Some(status) = child.map(Child::try_wait).transpose()?.flatten() {
                bail!("keep the fleet running: {name} ended by itself ({status})");
            }
        }
        Ok(())
    }

    /// The last lines of the logs that may say what went wrong.
    pub(super) fn log_tails(&self) -> String {
        let mut logs = vec![("coordinator".to_owned(), self.dir.join("coordinator.log"))];
        let first = self.hosts.first();
        logs.extend(
            first.map(|h| (h.name.clone(), self.dir.join("hosts").join(&h.name).join("log"))),
        );
        let tail = |(name, path): (String, PathBuf)| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
            format!("-- {name}:\n{}\n", last.join("\n"))
        };
        logs.into_iter().map(tail).collect()
    }

    /// The ids of coordinator and agents.
    pub(super) fn pids(&self) -> Vec<u32> {
        let agents = self.hosts.iter().filter_map(|host| host.agent.as_ref());
        self.coordinator.iter().chain(agents).map(Child::id).collect()
    }

    /// Ends agents (with their services), then the coordinator, then whatever is left of the demo.
    /// Fails when a process is left even then.
    pub(super) async fn stop(&mut self) -> anyhow::Result<Stopped> {
        let mut agents: Vec<Child> =
            self.hosts.iter_mut().filter_map(|host| host.agent.take()).collect();
        let asked = agents.len() + usize::from(self.coordinator.is_some());
        let mut killed = end(&mut agents).await?;
        let mut coordinator: Vec<Child> = self.coordinator.take().into_iter().collect();
        killed += end(&mut coordinator).await?;
        let until = Instant::now() + STOP_MAX;
        let mut struck = std::collections::BTreeSet::new();
        loop {
            let left = processes_below(&self.dir)?;
            if left.is_empty() {
                return Ok(Stopped { asked, killed });
            }
            if Instant::now() > until {
                bail!(
                    "end every process of the demo: {left:?} are left below {}",
                    self.dir.display()
                );
            }
            for pid in left.into_iter().filter(|pid| struck.insert(*pid)) {
                signal(pid, Signal::KILL);
                killed += 1;
            }
            sleep(LOOK).await;
        }
    }
}

impl Bed {
    /// Lets every process run on after this program.
    pub(super) fn leave(&mut self) {
        self.coordinator = None;
        for host in &mut self.hosts {
            host.agent = None;
        }
    }
}

/// Whatever was neither ended nor left on purpose, as after a panic, is asked to end.
impl Drop for Bed {
    fn drop(&mut self) {
        for pid in self.pids() {
            signal(pid, Signal::TERM);
        }
    }
}

fn configuration(state: &Path, name: &str) -> anyhow::Result<String> {
    let table = toml::toml! {
        supervisor = "process"
        stop_services_on_exit = true
        keep_free_bytes = 0
    };
    let state = toml::Value::String(state.to_string_lossy().into_owned());
    let name = toml::Value::String(name.to_owned());
    Ok(format!("state_dir = {state}\nname = {name}\n{}", toml::to_string(&table)?))
}

/// A command in its own process group, so that Ctrl-C reaches this program alone, which ends the rest
/// in order. It works beside its log, so that whatever is left of it can be found below the demo's folder.
fn spawn(mut command: Command, log: &Path, stdout: File) -> io::Result<Child> {
    if let Some(folder) = log.parent() {
        command.current_dir(folder);
    }
    command.stdin(Stdio::null()).stdout(stdout).stderr(append(log)?).process_group(0);
    command.spawn()
}

fn append(log: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(log)
}

/// Runs a command to its end, which must be good.
async fn run(command: Command, log: impl AsRef<Path>, within: Duration) -> anyhow::Result<()> {
    let log = log.as_ref();
    let mut child = spawn(command, log, append(log)?)?;
    let end = Instant::now() + within;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("it ended with {status}; see {}", log.display()),
            None if Instant::now() > end => {
                child.kill()?;
                child.wait()?;
                bail!("it was not done after {} s", within.as_secs());
            }
            None => sleep(LOOK).await,
        }
    }
}

/// Asks processes to end, kills those that do not; how many were killed.
async fn end(children: &mut Vec<Child>) -> io::Result<usize> {
    for child in children.iter() {
        signal(child.id(), Signal::TERM);
    }
    let until = Instant::now() + STOP_MAX;
    let mut killed = 0;
    loop {
        let mut left = Vec::new();
        for mut child in children.drain(..) {
            if child.try_wait()?.is_none() {
                left.push(child);
            }
        }
        if left.is_empty() {
            return Ok(killed);
        }
        if Instant::now() > until {
            for child in &mut left {
                child.kill()?;
                killed += 1;
            }
        }
        *children = left;
        sleep(LOOK).await;
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // A process that has ended already cannot be signalled, which is what is wanted.
    let _ = pid.map(|pid| kill_process(pid, signal));
}

/// Processes whose program or working directory lies below `dir`: services of the demo's releases.
fn processes_below(dir: &Path) -> io::Result<Vec<u32>> {
    let dir = fs::canonicalize(dir)?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Links of processes that ended, or of other users, cannot be read: they are not ours.
        let below = |link: &str| {
            fs::read_link(entry.path().join(link)).is_ok_and(|path| path.starts_with(&dir))
        };
        if pid != std::process::id() && (below("exe") || below("cwd")) {
            found.push(pid);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_below_the_folder_is_found_by_its_program_and_ended_by_its_id() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(processes_below(dir.path()).expect("proc"), [0_u32; 0]);
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000");
        let log = dir.path().join("log");
        let child = spawn(sleeper, &log, append(&log).expect("log")).expect("sleep");
        assert_eq!(processes_below(dir.path()).expect("proc"), [child.id()]);
        let mut children = vec![child];
        assert_eq!(end(&mut children).await.expect("end"), 0, "it ends when it is asked to");
        assert_eq!(processes_below(dir.path()).expect("proc"), [0_u32; 0]);
    }

    #[test]
    fn the_agents_configuration_is_toml_whatever_the_path() {
        let text = configuration(Path::new("/tmp/a \"b\""), "web-01").expect("text");
        let table: toml::Table = text.parse().expect("toml");
        assert_eq!(table["state_dir"].as_str(), Some("/tmp/a \"b\""));
        assert_eq!(table["keep_free_bytes"].as_integer(), Some(0));
    }
}
