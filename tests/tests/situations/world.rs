//! Owns the fleets that rows are run in: what runs, what is published next, what people read and type there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use groundswell_common::api::{HostsAnswer, OutcomeName, PhaseName};
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Agent, Fleet, describe};
use groundswell_tests::hosts::Host;
use groundswell_tests::must::Must as _;
use groundswell_tests::shop::READY;
use groundswell_tests::wait::within;

use crate::table::Surface;

/// What is in force where a row says nothing else.
pub(crate) const POLICY: &str = r#"
service = "shop"
targets = "role=web"
max_in_flight = "100%"
failure_budget = 0
bake_secs = 0
host_bake_secs = 0
probe_deadline_secs = 4
progress_deadline_secs = 60
absent_after_secs = 1
promote_after_secs = 0

[[wave]]
name = "everyone"
rest = true
"#;

/// Hosts come back at once, and webhooks are asked again soon.
pub(crate) const SETTINGS: &str = "backoff_base_ms = 100\nbackoff_cap_ms = 400\nheartbeat_secs = 1\n\
                        webhook_again_secs = 10\n";

/// How long anything may take that makes a situation.
const PATIENCE: Duration = Duration::from_secs(30);

/// One fleet, and where it stands.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) dir: PathBuf,
    /// Its hosts under the process supervisor.
    pub(crate) agents: Vec<Agent>,
    /// Its booted hosts.
    pub(crate) hosts: Vec<Host>,
    /// What every host runs at the begin of a row, and what was proven before that.
    pub(crate) old: String,
    pub(crate) before: String,
    /// What this row may publish.
    pub(crate) new: String,
    /// What the command of the row answered.
    pub(crate) answer: String,
    /// A second machine with the key of the first.
    pub(crate) copy: Option<Agent>,
    /// Files that are put back later.
    pub(crate) kept: BTreeMap<PathBuf, Vec<u8>>,
    /// The policy where a row says nothing else; empty for [`POLICY`].
    pub(crate) base: String,
    number: u32,
    policy: String,
}

/// A coordinator that agents find again at once.
pub(crate) fn quick_fleet(dir: &Path, host: &str) -> Fleet {
    let mut fleet = Fleet::init(dir, &dir.join("coordinator"), host);
    let folder = fleet.state().join("coordinator.d");
    fs::create_dir_all(&folder).must("make the folder for settings");
    fs::write(folder.join("quick.toml"), SETTINGS).must("write settings");
    fleet.serve();
    fleet
}

impl World {
    /// Hosts under the process supervisor: name and labels.
    pub(crate) fn of_processes(dir: &Path, hosts: &[(&str, &str)]) -> Self {
        let fleet = quick_fleet(dir, "127.0.0.1");
        let agents = hosts.iter().map(|(name, labels)| fleet.agent(name, labels)).collect();
        Self::new(fleet, dir, agents, Vec::new())
    }

    pub(crate) fn new(fleet: Fleet, dir: &Path, agents: Vec<Agent>, hosts: Vec<Host>) -> Self {
        fs::create_dir_all(dir.join("ill")).must("make the folder of what is ill");
        let none = String::new;
        Self {
            fleet,
            dir: dir.to_owned(),
            agents,
            hosts,
            old: none(),
            before: none(),
            new: none(),
            answer: none(),
            copy: None,
            kept: BTreeMap::new(),
            base: none(),
            number: 0,
            policy: none(),
        }
    }

    /// The begin of a row: the policy as it always is, every host well on one version, two of them proven.
    pub(crate) fn begin(&mut self) {
        self.answer.clear();
        self.heal();
        for agent in &mut self.agents {
            if agent.has_ended() {
                agent.run();
            }
        }
        // A newer release waits behind a rollout that a person has stopped.
        let stopped = self.fleet.try_newest_rollout("shop");
        if stopped.is_some_and(|page| page.rollout.phase == PhaseName::Paused) {
            self.fleet.swell_ok(&["rollout", "abort", "shop", "--yes"]);
            self.wait_phase(PhaseName::Done);
        }
        self.policy(&self.base());
        let runs = self.runs();
        let same = runs.iter().all(|version| !version.is_empty() && *version == runs[0]);
        let newest = self.fleet.try_newest_rollout("shop");
        let over = newest.is_some_and(|page| {
            page.rollout.outcome == Some(OutcomeName::Completed)
                && runs[0] == page.rollout.version.as_str()
        });
        if !same || !over || self.before.is_empty() || self.old != runs[0] {
            self.advance();
            if self.before.is_empty() {
                self.advance();
            }
        }
        self.next_version();
    }

    /// The end of one: what was published is what runs, where everybody has it.
    pub(crate) fn end(&mut self) {
        let runs = self.runs();
        if runs.iter().all(|version| *version == self.new) {
            self.before = std::mem::replace(&mut self.old, self.new.clone());
        } else if runs.iter().any(|version| *version != self.old) {
            // What is proven now is not what was: the next row makes it anew.
            self.old.clear();
            self.before.clear();
        }
    }

    fn next_version(&mut self) {
        self.number += 1;
        self.new = format!("1.{}.0", self.number);
    }

    /// Brings a good version to everybody.
    pub(crate) fn advance(&mut self) {
        self.next_version();
        self.publish();
        self.wait_completed(&self.new.clone());
        self.wait_runs(&self.new.clone(), PATIENCE);
        self.before = std::mem::replace(&mut self.old, self.new.clone());
        self.next_version();
    }

    fn base(&self) -> String {
        if self.base.is_empty() { POLICY.to_owned() } else { self.base.clone() }
    }

    /// Puts a policy in force.
    pub(crate) fn policy(&mut self, policy: &str) {
        if self.policy != policy {
            self.fleet.apply(policy);
            policy.clone_into(&mut self.policy);
        }
    }

    /// As [`World::policy`], with lines before the waves and others in place of them.
    pub(crate) fn policy_with(&mut self, lines: &str, waves: &str) {
        let (head, every) = POLICY.split_once("[[wave]]").must("read the policy");
        let waves = if waves.is_empty() { format!("[[wave]]{every}") } else { waves.to_owned() };
        let keys: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
        let kept =
            head.lines().filter(|line| !keys.contains(&line.split(' ').next().unwrap_or("-")));
        let kept: Vec<&str> = kept.collect();
        self.policy(&format!("{}\n{lines}\n\n{waves}", kept.join("\n")));
    }

    /// Writes a policy to a file without putting it in force; its path.
    pub(crate) fn policy_file(&self, policy: &str) -> String {
        let path = self.dir.join("typed.toml");
        fs::write(&path, policy).must("write a policy");
        path.display().to_string()
    }

    /// A good release of the new version, published.
    pub(crate) fn publish(&mut self) {
        let tree = self.tree(&self.new, "");
        self.fleet.publish("shop", &self.new, &tree);
    }

    /// The tree of a release whose probe fails on hosts of which a file in `ill/` says so; `more` is written to its
    /// description.
    pub(crate) fn tree(&self, version: &str, more: &str) -> PathBuf {
        let tree = self.dir.join(format!("tree-{version}"));
        fs::create_dir_all(tree.join("bin")).must("make a tree");
        let ill = self.dir.join("ill").display().to_string();
        let check = format!(
            "#!/bin/sh\nh=${{PWD#*/agents/}}\nh=${{h%%/*}}\n\
             if test -e {ill}/{version}-$h || test -e {ill}/$h; then echo $h is ill; exit 1; fi\n"
        );
        program(&tree, "check", &check);
        let run = "#!/bin/sh\necho shop starts\nexec sleep 1000000\n";
        program(&tree, "run", if self.hosts.is_empty() { run } else { READY });
        fs::write(tree.join("version"), version).must("write a file");
        let starts = match more.contains("command") || more.contains("units") {
            true => "",
            false if self.hosts.is_empty() => "command = [\"bin/run\"]\n",
            false => "units = [\"shop.service\"]\n",
        };
        let spec = format!(
            "[release]\n{starts}{more}\n[[probe]]\nkind = \"exec\"\nargv = [\"bin/check\"]\ntimeout_secs = 5\n"
        );
        fs::write(tree.join("groundswell.toml"), spec).must("describe a release");
        tree
    }

    /// A host fails the probes of this version, or of every one where the version is empty, until it is healed.
    pub(crate) fn make_ill(&self, version: &str, host: &str) {
        let name = if version.is_empty() { host.to_owned() } else { format!("{version}-{host}") };
        fs::write(self.dir.join("ill").join(name), "").must("make a host ill");
    }

    pub(crate) fn heal(&self) {
        for entry in fs::read_dir(self.dir.join("ill")).must("look at what is ill").flatten() {
            fs::remove_file(entry.path()).must("heal a host");
        }
    }

    /// Types a line, whose answer the row is about; it may be refused.
    pub(crate) fn ask(&mut self, line: &str) {
        let words = self.words(line);
        let output = self.command(&words).output().must(format_args!("run {line}"));
        self.answer = describe(&output);
    }

    /// Types a line that must succeed.
    pub(crate) fn type_in(&mut self, line: &str) {
        let words = self.words(line);
        let output = self.command(&words).output().must(format_args!("run {line}"));
        assert!(output.status.success(), "{line:?} failed: {}\n{}", describe(&output), self.all());
    }

    /// Types a line at a terminal, where a person is asked, and answers nothing.
    pub(crate) fn ask_at_a_terminal(&mut self, line: &str) {
        let words = self.words(line);
        let line = format!("{:?}", self.command(&words)).replace('"', "");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.stdin(Stdio::null());
        self.answer = describe(&script.output().must(format_args!("run {line}")));
    }

    fn words(&self, line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (at, part) in self.fill(line).split('\'').enumerate() {
            if at % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    /// `swell` at the desk, all else on the first host.
    fn command(&self, words: &[String]) -> Command {
        let (program, rest) = words.split_first().must("find what to type");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = match (program.as_str(), self.hosts.first()) {
            ("swell", _) if words.get(1) == Some(&"--profile") => {
                let mut command = Command::new(bin("swell"));
                command.args(rest);
                command
            }
            ("swell", _) => self.fleet.swell(&words[1..]),
            (_, Some(host)) => host.command(&words),
            ("groundswell-agent", None) => self.agents[0].command(&words[1..]),
            (_, None) => {
                let mut command = Command::new(program);
                command.args(rest);
                command
            }
        };
        command.stdin(Stdio::null());
        command
    }

    /// Fills the names in.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if text.contains("{id}") {
            text = text.replace("{id}", self.id().as_str());
        }
        for (name, value) in
            [("{old}", &self.old), ("{new}", &self.new), ("{before}", &self.before)]
        {
            text = text.replace(name, value);
        }
        text.replace("{dir}", &self.dir.display().to_string())
    }

    /// The newest rollout of the service.
    pub(crate) fn id(&self) -> String {
        self.fleet.newest_rollout("shop").rollout.rollout.to_string()
    }

    /// All that a surface says.
    pub(crate) fn read(&self, surface: Surface) -> String {
        let line = match surface {
            Surface::Answer => return self.answer.clone(),
            Surface::AgentLog => return self.agents.first().map(Agent::log).unwrap_or_default(),
            Surface::Log => return self.fleet.log(),
            Surface::Why => "swell host why web-1",
            Surface::Host => "swell host show web-1",
            Surface::Ls => "swell host ls",
            Surface::Status => "swell status",
            Surface::Show => "swell rollout show shop",
            Surface::Service => "swell service show shop",
            Surface::Plan => "swell plan shop",
            Surface::AgentWhy => "groundswell-agent why",
            Surface::Doctor => "groundswell-agent doctor",
            Surface::AgentStatus => "groundswell-agent status",
            Surface::Audit => "swell audit log --tail 40",
        };
        let output = self.command(&self.words(line)).output().must(format_args!("run {line}"));
        describe(&output)
    }

    /// Everything that everybody says, for a failure.
    pub(crate) fn all(&self) -> String {
        let surfaces = [
            Surface::Answer,
            Surface::Why,
            Surface::Host,
            Surface::Ls,
            Surface::Status,
            Surface::Show,
            Surface::AgentWhy,
            Surface::Doctor,
            Surface::AgentStatus,
            Surface::Audit,
            Surface::AgentLog,
        ];
        let one = |surface: &Surface| format!("== {surface:?}\n{}\n", self.read(*surface));
        surfaces.iter().map(one).collect()
    }

    fn names(&self) -> Vec<String> {
        let agents = self.agents.iter().map(|agent| agent.name().to_owned());
        agents.chain(self.hosts.iter().map(|host| host.name().to_owned())).collect()
    }

    /// What each host runs of the service by the coordinator's books; empty for nothing, and where it is away.
    pub(crate) fn runs(&self) -> Vec<String> {
        let answer: HostsAnswer = self.fleet.swell_json(&["host", "ls"]);
        let of = |name: &String| {
            let host =
                answer.hosts.iter().find(|host| host.name.as_str() == name && host.connected)?;
            let service =
                host.services.iter().find(|service| service.service.as_str() == "shop")?;
            service.version.as_ref().map(ToString::to_string)
        };
        self.names().iter().map(|name| of(name).unwrap_or_default()).collect()
    }

    /// Looks until there is a value; all that everybody says, where none comes.
    pub(crate) fn wait<T>(
        &self,
        what: &str,
        bound: Duration,
        probe: impl FnMut() -> Option<T>,
    ) -> T {
        match within(bound, probe) {
            Some(value) => value,
            None => panic!("waited {} s in vain for: {what}\n{}", bound.as_secs(), self.all()),
        }
    }

    /// Waits until every host runs this version.
    pub(crate) fn wait_runs(&self, version: &str, bound: Duration) {
        self.wait(&format!("{version} on every host"), bound, || {
            self.runs().iter().all(|runs| runs == version).then_some(())
        });
    }

    /// Waits until the rollout of this version has completed.
    pub(crate) fn wait_completed(&self, version: &str) {
        let page = self.wait(&format!("the end of {version}"), PATIENCE, || {
            let page = self.fleet.newest_rollout("shop");
            let own = page.rollout.version.as_str() == version;
            (own && page.rollout.phase == PhaseName::Done).then_some(page)
        });
        assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
    }

    /// Waits until the newest rollout of the service stands so.
    pub(crate) fn wait_phase(&self, phase: PhaseName) {
        self.wait(&format!("a rollout that is {phase:?}"), PATIENCE, || {
            (self.fleet.newest_rollout("shop").rollout.phase == phase).then_some(())
        });
    }

    /// Waits until a host stands so in the newest rollout.
    pub(crate) fn wait_progress(&self, host: &str, progress: &str) {
        self.wait(&format!("{host} {progress}"), PATIENCE, || {
            let page = self.fleet.newest_rollout("shop");
            page.hosts
                .iter()
                .any(|h| h.name.as_str() == host && h.progress == progress)
                .then_some(())
        });
    }

    /// Waits until so many hosts are away.
    pub(crate) fn wait_away(&self, count: usize) {
        self.wait(&format!("{count} hosts away"), PATIENCE, || {
            let answer: HostsAnswer = self.fleet.swell_json(&["host", "ls"]);
            (answer.hosts.iter().filter(|host| !host.connected).count() == count).then_some(())
        });
    }

    /// Publishes a good release of the new version that waits for a person to start it.
    pub(crate) fn publish_unstarted(&mut self) {
        self.policy_with("auto = false", "");
        self.publish();
    }

    /// As [`World::ask`], on another host.
    pub(crate) fn ask_of(&mut self, host: usize, line: &str) {
        let words = self.words(line);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let output = self.agents[host].command(&words[1..]).output();
        self.answer = describe(&output.must(format_args!("run {line}")));
    }

    /// A second service on the same hosts.
    pub(crate) fn policy_of_cart(&mut self) {
        self.fleet.apply(&POLICY.replace("\"shop\"", "\"cart\""));
    }

    pub(crate) fn publish_cart(&mut self) {
        let tree = self.tree(&self.new, "");
        self.fleet.publish("cart", &self.new, &tree);
        self.fleet.wait_end("cart", &self.new);
    }

    /// Publishes a release that fails on a host, and waits until it is taken back.
    pub(crate) fn fail(&mut self, host: &str) {
        self.make_ill(&self.new.clone(), host);
        self.publish();
        self.wait_phase(PhaseName::Done);
    }
}

/// A program of a tree.
pub(crate) fn program(tree: &Path, name: &str, text: &str) {
    let path = tree.join("bin").join(name);
    fs::write(&path, text).must("write a program");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).must("make it executable");
}
