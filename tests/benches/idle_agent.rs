//! What an idle agent costs. One command builds what it needs and runs it: `tests/bench-idle`.
//!
//! Starts a coordinator and one agent that runs one small service, built as packages ship it, and
//! two agents of other systems from Debian (`apt-get install mender-client prometheus-node-exporter`),
//! waits until all are quiet, and reads the kernel's own figures over 60 seconds.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and stops")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use groundswell_tests::fleet::{Fleet, sleeper_tree};

const QUIET: Duration = Duration::from_secs(15);
const WATCHED: Duration = Duration::from_secs(60);

fn main() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/small/groundswell-agent");
    assert!(program.is_file(), "{} is missing: run tests/bench-idle", program.display());
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), "127.0.0.1");
    fleet.apply("service = \"shop\"\ntargets = \"role=web\"\nbake_secs = 0\nhost_bake_secs = 1\n");
    let agent = fleet.agent_of(&program, "bench-1", "role=web");
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
    let mut rows = vec![("groundswell-agent", agent.pid(), program)];
    rows.extend(peers.iter().map(|p| (p.name, p.child.id(), p.binary.clone())));
    let before: Vec<Usage> = rows.iter().map(|(_, pid, _)| usage(*pid)).collect();
    std::thread::sleep(WATCHED);
    println!(
        "{:<26} {:>9} {:>14} {:>11} {:>13} {:>11}",
        "idle over 60 s", "RSS kB", "private kB", "CPU ms/60s", "wake-ups/60s", "binary kB"
    );
    for ((name, pid, binary), before) in rows.iter().zip(before) {
        let after = usage(*pid);
        println!(
            "{name:<26} {:>9} {:>14} {:>11} {:>13} {:>11}",
            after.rss_kb,
            after.private_dirty_kb,
            (after.ticks - before.ticks) * 10,
            after.wakeups - before.wakeups,
            fs::metadata(binary).unwrap().len() / 1024,
        );
    }
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
        // It may have ended already; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Usage {
    rss_kb: u64,
    private_dirty_kb: u64,
    /// Hundredths of a second of user and system time.
    ticks: u64,
    wakeups: u64,
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
