//! What an idle agent costs. One command builds what it needs and runs it: `tests/bench-idle`.
//!
//! Starts a coordinator and both processes of one agent that runs one small service, built as packages ship it,
//! and two agents of other systems from Debian (`apt-get install mender-client prometheus-node-exporter`),
//! waits until all are quiet, and reads the kernel's own figures over 60 seconds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and stops")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use groundswell_tests::fleet::{Fleet, end, sleeper_tree, succeed};

const QUIET: Duration = Duration::from_secs(15);
const WATCHED: Duration = Duration::from_secs(60);

fn main() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/small/groundswell-agent");
    assert!(program.is_file(), "{} is missing: run tests/bench-idle", program.display());
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), "127.0.0.1");
    fleet.apply("service = \"shop\"\ntargets = \"role=web\"\nbake_secs = 0\nhost_bake_secs = 1\n");
    let sides = sides(&fleet, &program, dir.path());
    let tree = sleeper_tree(dir.path(), "1.0.0", true);
    let tree = tree.to_string_lossy();
    fleet.swell_ok(&["publish", "--service", "shop", "--version", "1.0.0", "--wait", &tree]);
    let peers = [
        mender(dir.path()),
        Peer::start(
            "prometheus-node-exporter",
            "/usr/bin/prometheus-node-exporter",
            &["--web.listen-address=127.0.0.1:19100"],
            dir.path(),
        ),
    ];
    std::thread::sleep(QUIET);
    let rows: Vec<&Peer> = sides.iter().chain(&peers).collect();
    let before: Vec<Usage> = rows.iter().map(|peer| usage(peer.child.id())).collect();
    std::thread::sleep(WATCHED);
    println!(
        "{:<26} {:>9} {:>14} {:>11} {:>13} {:>11}",
        "idle over 60 s", "RSS kB", "private kB", "CPU ms/60s", "wake-ups/60s", "binary kB"
    );
    let spent: Vec<Usage> =
        rows.iter().zip(before).map(|(peer, before)| before.spent(peer)).collect();
    for (peer, used) in rows.iter().zip(&spent) {
        print(peer.name, used, &peer.binary);
    }
    if let [net, apply, ..] = &spent[..] {
        print("both sides", &net.and(apply), &program);
    }
}

fn print(name: &str, used: &Usage, binary: &Path) {
    let binary_kb = fs::metadata(binary).unwrap().len() / 1024;
    println!(
        "{name:<26} {:>9} {:>14} {:>11} {:>13} {binary_kb:>11}",
        used.rss_kb,
        used.private_dirty_kb,
        used.ticks * 10,
        used.wakeups,
    );
}

/// Both processes of an agent, enrolled; the service is the apply side's child instead of systemd's.
fn sides(fleet: &Fleet, program: &Path, dir: &Path) -> [Peer; 2] {
    let path = |name: &str| dir.join(name);
    let (config, net_dir) = (path("agent.toml"), path("net"));
    let text = format!(
        "state_dir = {:?}\nnet_dir = {net_dir:?}\nsocket = {:?}\nname = \"bench-1\"\n\
         supervisor = \"process\"\nkeep_free_bytes = 0\nstop_services_on_exit = true\n",
        path("state"),
        path("apply.sock"),
    );
    fs::write(&config, text).unwrap();
    let config = config.to_string_lossy();
    let token = fleet.token("role=web");
    succeed(Command::new(program).args(["enroll", &token, "--config", &config]));
    let program = program.to_string_lossy();
    let start = |name, side| Peer::start(name, &program, &[side, "--config", &config], dir);
    [start("groundswell-agent", "net"), start("groundswell-apply", "apply")]
}

/// The daemon with a server that does not answer and its usual pauses: it waits, as an idle one does.
fn mender(dir: &Path) -> Peer {
    let (config, data) = (dir.join("mender.conf"), dir.join("mender"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join("device_type"), "device_type=bench\n").unwrap();
    let text = "{\"ServerURL\":\"https://127.0.0.1:9\",\"UpdatePollIntervalSeconds\":1800,\
                \"InventoryPollIntervalSeconds\":28800,\"RetryPollIntervalSeconds\":300}";
    fs::write(&config, text).unwrap();
    let (config, data) = (config.to_string_lossy(), data.to_string_lossy());
    let args = ["--config", &config, "--data", &data, "--no-syslog", "daemon"];
    Peer::start("mender-client", "/usr/bin/mender", &args, dir)
}

struct Peer {
    name: &'static str,
    binary: PathBuf,
    child: Child,
}

impl Peer {
    fn start(name: &'static str, program: &str, args: &[&str], dir: &Path) -> Self {
        let binary = PathBuf::from(program);
        assert!(binary.is_file(), "{program} is missing: apt-get install {name}");
        let log = fs::File::create(dir.join(name)).unwrap();
        let copy = log.try_clone().unwrap();
        let mut command = Command::new(&binary);
        command.args(args).stdin(Stdio::null()).stdout(log).stderr(copy);
        Self { name, binary, child: command.spawn().unwrap() }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

struct Usage {
    rss_kb: u64,
    private_dirty_kb: u64,
    /// Hundredths of a second of user and system time.
    ticks: u64,
    wakeups: u64,
}

impl Usage {
    /// What the process holds now, and what it took since then.
    fn spent(self, peer: &Peer) -> Self {
        let now = usage(peer.child.id());
        Self { ticks: now.ticks - self.ticks, wakeups: now.wakeups - self.wakeups, ..now }
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            rss_kb: self.rss_kb + other.rss_kb,
            private_dirty_kb: self.private_dirty_kb + other.private_dirty_kb,
            ticks: self.ticks + other.ticks,
            wakeups: self.wakeups + other.wakeups,
        }
    }
}

fn usage(pid: u32) -> Usage {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let field = |text: &str, name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let stat = read("stat");
    let after_name: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let number = |at: usize| after_name[at].parse::<u64>().unwrap();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let wakeups = tasks
        .map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default())
        .filter(|text| text.contains("voluntary_ctxt_switches"))
        .map(|text| field(&text, "voluntary_ctxt_switches:"))
        .sum();
    Usage {
        rss_kb: field(&read("status"), "VmRSS:"),
        private_dirty_kb: field(&read("smaps_rollup"), "Private_Dirty:"),
        ticks: number(11) + number(12),
        wakeups,
    }
}
