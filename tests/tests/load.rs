//! What clients lose over switches and a revert on a host with a real systemd: a service that gets its
//! socket from systemd, restarted or with releases that overlap, and beside it the same program under the same
//! load that opens its own.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{Host, bed, boot_with_agent, enrol, install_agent};
use groundswell_tests::wait::{Over, until};

/// Clients of each kind: one connection a request, and connections that are kept.
const CLIENTS: usize = 8;
/// What a client waits between two requests.
const PACE: Duration = Duration::from_millis(2);
/// What a client waits for one answer at most.
const PATIENCE: Duration = Duration::from_secs(20);

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.handed]
units = ["handed.service"]

[services.overlap]
units = ["overlap@.service"]

[services.plain]
units = ["plain.service"]
"#;

const SOCKET: &str = "[Socket]\nListenStream=8001\n";
const HANDED: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/drain /var/lib/groundswell/services/handed/current/tree/version
StandardInput=socket
StandardOutput=journal
DynamicUser=yes
";
const OVERLAP_SOCKET: &str = "[Socket]\nListenStream=8003\n";
/// Keeps systemd from looking at the socket, which is for the instances.
const OVERLAP_KEEPER: &str = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
const OVERLAP: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
Type=exec
ExecStart=/usr/bin/drain /var/lib/groundswell/services/overlap/releases/%i/tree/version
Sockets=overlap.socket
StandardInput=socket
StandardOutput=journal
DynamicUser=yes
";
const PLAIN: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/drain /var/lib/groundswell/services/plain/current/tree/version 0.0.0.0:8002
DynamicUser=yes
";

#[test]
fn services_with_a_socket_of_systemd_lose_no_request_over_switches_and_a_revert() {
    let name = "services_with_a_socket_of_systemd_lose_no_request_over_switches_and_a_revert";
    bed(name, |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        install_agent(bed);
        bed.install_usr("bin/drain", &fs::read(bin("drain")).unwrap(), 0o755);
        let mut host = bed.host("web-1");
        for (unit, text) in [
            ("handed.socket", SOCKET),
            ("handed.service", HANDED),
            ("overlap.socket", OVERLAP_SOCKET),
            ("overlap.service", OVERLAP_KEEPER),
            ("overlap@.service", OVERLAP),
            ("plain.service", PLAIN),
        ] {
            host.install_file(&format!("/etc/systemd/system/{unit}"), text.as_bytes(), 0o644);
        }
        boot_with_agent(&mut host, AGENT_CONFIG);
        host.exec_ok(&["systemctl", "start", "handed.socket", "overlap.socket"]);
        enrol(&host, &fleet.token("role=web"));

        let measure = |service: &Service| {
            fleet.apply(&policy(service.name));
            service.publish(&fleet, bed.dir(), "1.0.0", "good");
            let address = SocketAddr::from((host.addr(), service.port));
            let seen = under_load(address, || {
                service.publish(&fleet, bed.dir(), "1.0.1", "good");
                service.publish(&fleet, bed.dir(), "1.0.2", "good");
                service.publish(&fleet, bed.dir(), "1.0.3", "broken");
            });
            eprintln!(
                "{}: {} requests, {} failed, the longest took {} ms",
                service.name,
                seen.asked,
                seen.errors.len(),
                seen.longest.as_millis()
            );
            seen
        };
        let plain = measure(&PLAINLY);
        let handed = measure(&HANDED_ON);
        let overlap = measure(&OVERLAPPING);
        for seen in [&plain, &handed, &overlap] {
            let versions: Vec<&str> = seen.versions.iter().map(String::as_str).collect();
            let all = ["1.0.0 good", "1.0.1 good", "1.0.2 good", "1.0.3 broken"];
            assert_eq!(versions, all, "the load ran over every switch");
            assert!(seen.asked > 1000, "a load: {} requests", seen.asked);
        }
        for seen in [&handed, &overlap] {
            assert!(seen.errors.is_empty(), "{:?}", seen.errors.first());
        }
        // One instance runs, and it is of the release before the broken one.
        let instances = |host: &Host| {
            let list = ["systemctl", "list-units", "--plain", "--no-legend", "overlap@*.service"];
            let listed = host.exec_ok(&list);
            let running = listed.lines().filter(|line| line.contains(" active running "));
            running.map(|line| line.split('.').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let live = host.exec_ok(&["readlink", "/var/lib/groundswell/services/overlap/current"]);
        let live = format!("overlap@{}", live.trim().trim_start_matches("releases/"));
        assert_eq!(instances(&host), [live.as_str()]);
        // Nobody but the agent starts it after a boot.
        host.power_off();
        host.power_on();
        host.wait_up();
        until("the live instance", ROLLOUT_BOUND, || {
            (instances(&host) == [live.as_str()]).then_some(())
        });
    });
}

fn policy(service: &str) -> String {
    format!(
        "service = \"{service}\"\ntargets = \"role=web\"\nmax_in_flight = 1\nfailure_budget = 0\n\
         bake_secs = 1\nhost_bake_secs = 1\nprobe_deadline_secs = 3\nprogress_deadline_secs = 120\n\
         absent_after_secs = 30\n\n[[wave]]\nname = \"all\"\npercent = 100\n"
    )
}

struct Service {
    name: &'static str,
    port: u16,
    /// How its releases say that they are run.
    run: &'static str,
}

const HANDED_ON: Service =
    Service { name: "handed", port: 8001, run: "units = [\"handed.service\"]" };
const PLAINLY: Service = Service { name: "plain", port: 8002, run: "units = [\"plain.service\"]" };
const OVERLAPPING: Service = Service {
    name: "overlap",
    port: 8003,
    run: "units = [\"overlap@.service\"]\nswitch = \"overlap\"",
};

impl Service {
    /// Publishes and waits for the end: a broken release must have been reverted.
    fn publish(&self, fleet: &Fleet, dir: &Path, version: &str, kind: &str) {
        let Self { name, port, run } = self;
        let tree = dir.join(format!("{name}-{version}"));
        fs::create_dir_all(&tree).unwrap();
        fs::write(tree.join("version"), format!("{version} {kind}")).unwrap();
        let spec = format!(
            "[release]\n{run}\n\n[[probe]]\nkind = \"http\"\n\
             url = \"http://127.0.0.1:{port}/healthz\"\n"
        );
        fs::write(tree.join("groundswell.toml"), spec).unwrap();
        let mut command = fleet.swell(&["publish", "--service", name, "--version", version]);
        let output = command.arg("--wait").arg(&tree).output().unwrap();
        let code = if kind == "good" { 0 } else { 3 };
        assert_eq!(output.status.code(), Some(code), "{}", describe(&output));
    }
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    asked: usize,
    errors: Vec<String>,
    versions: BTreeSet<String>,
    longest: Duration,
}

/// Runs `work` while all clients ask.
fn under_load(address: SocketAddr, work: impl FnOnce()) -> Seen {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let clients: Vec<_> = (0..2 * CLIENTS)
            .map(|number| scope.spawn(move || client(address, number % 2 == 0, over)))
            .collect();
        let end = Over(over);
        work();
        drop(end);
        clients.into_iter().fold(Seen::default(), |mut all, client| {
            let one = client.join().unwrap();
            all.asked += one.asked;
            all.errors.extend(one.errors);
            all.versions.extend(one.versions);
            all.longest = all.longest.max(one.longest);
            all
        })
    })
}

/// Asks until it is over; each request that gets no whole answer is an error, on a kept connection too.
fn client(address: SocketAddr, keep: bool, over: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut kept: Option<TcpStream> = None;
    while !over.load(Ordering::Relaxed) {
        seen.asked += 1;
        let start = Instant::now();
        match ask(address, kept.take()) {
            Ok((version, line)) => {
                seen.versions.insert(version);
                kept = line.filter(|_| keep);
            }
            Err(error) => seen.errors.push(error.to_string()),
        }
        seen.longest = seen.longest.max(start.elapsed());
        thread::sleep(PACE);
    }
    seen
}

/// One request; the connection again where the server keeps it.
fn ask(address: SocketAddr, kept: Option<TcpStream>) -> io::Result<(String, Option<TcpStream>)> {
    let mut line = match kept {
        Some(line) => line,
        None => TcpStream::connect_timeout(&address, PATIENCE)?,
    };
    line.set_read_timeout(Some(PATIENCE))?;
    line.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let mut text = String::new();
    let mut chunk = [0; 1024];
    loop {
        let count = line.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        if length.and_then(|length| length.parse().ok()) != Some(body.len()) {
            continue;
        }
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(head.to_owned()));
        }
        let keeps = head.contains("Connection: keep-alive");
        return Ok((body.to_owned(), keeps.then_some(line)));
    }
}
