//! The whole way on hosts with a real systemd: agents installed as services, a server that nobody
//! here wrote in two published versions, waves, a broken release, and a host that is cut off.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use groundswell_common::api::{OutcomeName, PhaseName, RolloutPage};
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{
    Bed, Host, bed, configure, enrol, finish, install_agent, install_units,
};
use groundswell_tests::tools::tool;
use groundswell_tests::wait::until;

const MONITOR_PORT: u16 = 8222;
const AGENT: &str = "groundswell-agent.service";
const APPLY: &str = "groundswell-apply.service";
const OLD: &str = "2.15.0";
const NEW: &str = "2.15.1";
const SERVICE_DIR: &str = "/var/lib/groundswell/services/nats";

/// A canary, then everyone; one host may be lost on the way.
const POLICY: &str = r#"
service = "nats"
targets = "role=queue"
max_in_flight = 2
failure_budget = 1
bake_secs = 1
host_bake_secs = 2
probe_deadline_secs = 30
progress_deadline_secs = 180
absent_after_secs = 5

[[wave]]
name = "canary"
count = 1
failure_budget = 0

[[wave]]
name = "all"
percent = 100
"#;

const UNIT: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/var/lib/groundswell/services/nats/current/tree/bin/nats-server \
-c /var/lib/groundswell/services/nats/current/tree/etc/nats.conf
DynamicUser=yes
";

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.nats]
units = ["nats.service"]
"#;

#[test]
fn a_foreign_server_goes_through_waves_on_real_hosts() {
    bed("a_foreign_server_goes_through_waves_on_real_hosts", |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(POLICY);
        let mut hosts = ["queue-1", "queue-2", "queue-3", "queue-4"].map(|name| bed.host(name));
        install(bed, &mut hosts);
        for host in &hosts {
            enrol(host, &fleet.token("role=queue"));
        }

        publish(&fleet, bed.dir(), OLD, "good");
        expect(&fleet, &hosts, OutcomeName::Completed, OLD);
        publish(&fleet, bed.dir(), NEW, "good");
        expect(&fleet, &hosts, OutcomeName::Completed, NEW);

        // A configuration that the server refuses: it ends at once, on the canary only.
        let tree = tree(bed.dir(), NEW, "broken");
        let mut command = fleet.swell(&["publish", "--service", "nats", "--version", "2.16.0"]);
        let output = command.args(["--wait"]).arg(tree).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", describe(&output));
        let page = expect(&fleet, &hosts, OutcomeName::Reverted, NEW);
        let untouched = page.hosts.iter().filter(|host| host.wave == 1);
        assert!(untouched.clone().count() == 3, "{page:?}");
        assert!(untouched.clone().all(|host| host.progress == "pending"), "{page:?}");
        let canary = page.hosts.iter().find(|host| host.wave == 0).unwrap();
        let why = canary.why.clone().unwrap_or_default();
        assert!(why.contains("nats.service"), "the report names the unit: {why:?}");
        assert!(why.contains("interface conversion"), "and has its last lines: {why:?}");
    });
}

#[test]
fn a_host_cut_off_in_its_wave_does_not_stop_the_others_and_catches_up() {
    let name = "a_host_cut_off_in_its_wave_does_not_stop_the_others_and_catches_up";
    bed(name, |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(POLICY);
        let mut hosts = ["queue-1", "queue-2", "queue-3", "queue-4"].map(|name| bed.host(name));
        install(bed, &mut hosts);
        for host in &hosts {
            enrol(host, &fleet.token("role=queue"));
        }
        publish(&fleet, bed.dir(), OLD, "good");
        expect(&fleet, &hosts, OutcomeName::Completed, OLD);

        publish(&fleet, bed.dir(), NEW, "good");
        let page = until("the second wave", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("nats");
            (page.rollout.wave == 1).then_some(page)
        });
        let names_in_wave: Vec<String> = page
            .hosts
            .iter()
            .filter(|host| host.wave == 1 && host.progress != "committed")
            .map(|host| host.name.to_string())
            .collect();
        let cut = hosts.iter().find(|host| names_in_wave.iter().any(|n| n == host.name())).unwrap();
        cut.cut_silent();

        let others: Vec<&Host> = hosts.iter().filter(|host| host.name() != cut.name()).collect();
        for host in &others {
            until("the new version on the others", ROLLOUT_BOUND, || answers(host, NEW));
        }
        until("the rollout goes on without it", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("nats");
            (page.rollout.phase == PhaseName::Done).then_some(())
        });
        cut.heal_silent();
        until("the new version on the host that was away", ROLLOUT_BOUND, || answers(cut, NEW));
        let done = until("its report", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("nats");
            page.hosts.iter().all(|host| host.progress == "committed").then_some(page)
        });
        assert_eq!(done.rollout.outcome, Some(OutcomeName::Completed));
    });
}

/// The first steps of the README: a coordinator as a service on a host of its own, two more hosts, a
/// policy, a release.
#[test]
fn the_first_steps_lead_to_a_fleet() {
    bed("the_first_steps_lead_to_a_fleet", |bed| {
        bed.install_usr(
            "bin/groundswell-coordinator",
            &fs::read(bin("groundswell-coordinator")).unwrap(),
            0o755,
        );
        install_units(bed, "groundswell-coordinator");
        let mut hosts = ["queue-1", "queue-2", "deploy"].map(|name| bed.host(name));
        install(bed, &mut hosts);
        let [first, second, deploy] = hosts;
        let state = "/var/lib/groundswell-coordinator";
        let address = deploy.addr().to_string();
        deploy.exec_ok(&[
            "runuser",
            "-u",
            "groundswell-coordinator",
            "--",
            "groundswell-coordinator",
            "init",
            "--state",
            state,
            "--host",
            &address,
            "--admin",
            "ann",
        ]);
        deploy.exec_ok(&["systemctl", "enable", "--now", "groundswell-coordinator"]);
        assert_eq!(
            deploy.exec_ok(&["systemctl", "is-active", "groundswell-coordinator"]),
            "active"
        );
        let profile = deploy.read_file(&format!("{state}/admin.profile")).unwrap();
        let fleet = Fleet::elsewhere(bed.dir(), &address, &profile);
        let hosts = [first, second];
        for host in &hosts {
            enrol(host, &fleet.token("role=queue"));
        }
        fleet.apply(POLICY);
        publish(&fleet, bed.dir(), OLD, "good");
        expect(&fleet, &hosts, OutcomeName::Completed, OLD);

        // A restart of the service forgets nothing, and the agents come back by themselves.
        deploy.exec_ok(&["systemctl", "restart", "groundswell-coordinator"]);
        publish(&fleet, bed.dir(), NEW, "good");
        expect(&fleet, &hosts, OutcomeName::Completed, NEW);
        for unit in ["groundswell-agent", "groundswell-apply", "groundswell-coordinator"] {
            let host = if unit == "groundswell-coordinator" { &deploy } else { &hosts[0] };
            let user = host.exec_ok(&["systemctl", "show", "--property=User", "--value", unit]);
            assert_eq!(user, unit, "no service of ours runs as root");
        }
    });
}

/// What the apply side's user may ask of systemd: three verbs on the unit that the configuration names, and
/// nothing else. The network side's user may ask for nothing; what changes nothing needs no right.
#[test]
fn the_apply_side_may_do_five_things_to_its_own_units_and_the_network_side_nothing() {
    let name = "the_apply_side_may_do_five_things_to_its_own_units_and_the_network_side_nothing";
    bed(name, |bed| {
        let mut hosts = ["queue-1"].map(|name| bed.host(name));
        hosts[0].install_file("/etc/systemd/system/other.service", SLEEPS, 0o644);
        hosts[0].install_file("/etc/systemd/system/nats@.service", SLEEPS, 0o644);
        install(bed, &mut hosts);
        let [host] = hosts;
        host.install_file("/etc/systemd/system/nats.service", SLEEPS, 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        for side in ["groundswell-apply", "groundswell-agent"] {
            for (allowed, argv) in ASKED {
                let reads = argv.contains(&"is-enabled");
                let allowed = *allowed && (side == "groundswell-apply" || reads);
                let answer = host.exec(&as_side(side, argv));
                let said = String::from_utf8_lossy(&answer.stderr).into_owned();
                assert_eq!(answer.status.success(), allowed, "{side}: {argv:?}: {said}");
                if !allowed {
                    let refused = ["ccess denied", "authentication required", "is not valid"];
                    let is_refused = refused.iter().any(|word| said.contains(word));
                    assert!(is_refused, "{side}: {argv:?}: {said}");
                }
            }
            let active = host.exec_ok(&["systemctl", "is-active", "nats.service"]);
            assert_eq!(active, "active", "nobody stopped or killed it after the restart");
            host.exec_ok(&["systemctl", "is-active", "dbus.service"]);
        }
    });
}

/// The network side's user can change nothing that decides over what runs, and neither side reads the other's
/// secrets. Then both are killed in the middle of a rollout, which ends as if nobody had been.
#[test]
fn the_two_sides_own_apart_and_either_may_be_killed_amid_a_rollout() {
    bed("the_two_sides_own_apart_and_either_may_be_killed_amid_a_rollout", |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(
            "service = \"nats\"\ntargets = \"role=queue\"\nbake_secs = 1\nhost_bake_secs = 2\n",
        );
        let mut hosts = ["queue-1"].map(|name| bed.host(name));
        install(bed, &mut hosts);
        let [host] = &hosts;
        enrol(host, &fleet.token("role=queue"));
        publish(&fleet, bed.dir(), OLD, "good");
        expect(&fleet, &hosts, OutcomeName::Completed, OLD);

        let nice = host.exec_ok(&["ps", "-C", "groundswell-agent", "-o", "ni="]);
        assert_eq!(
            nice.split_whitespace().collect::<Vec<_>>(),
            ["5", "5"],
            "what runs here is first"
        );
        let of = |path: &str| host.exec_ok(&["stat", "--format=%a %U %G", path]);
        assert_eq!(of("/run/groundswell"), "750 groundswell-apply groundswell-agent");
        assert_eq!(of("/run/groundswell/apply.sock"), "660 groundswell-apply groundswell-agent");
        assert_eq!(of("/var/lib/groundswell-agent"), "750 groundswell-agent groundswell-agent");
        let secrets =
            ["root.json", "directive.json", "identity.json", "services/nats/journal.json"];
        for name in secrets {
            let path = format!("/var/lib/groundswell/{name}");
            assert!(of(&path).starts_with("600 groundswell-apply "), "{path}: {}", of(&path));
            refused(host, "groundswell-agent", &["cat", &path]);
        }
        for name in
            ["root.json", "services/nats", "services/nats/current", "services/nats/releases"]
        {
            let path = format!("/var/lib/groundswell/{name}");
            refused(host, "groundswell-agent", &["mv", &path, "/var/lib/groundswell-agent/away"]);
            refused(host, "groundswell-agent", &["chmod", "777", &path]);
            refused(
                host,
                "groundswell-agent",
                &["ln", "--symbolic", "/tmp", &format!("{path}.new")],
            );
        }
        refused(
            host,
            "groundswell-apply",
            &["cat", "/var/lib/groundswell-agent/identity/host.key"],
        );
        refused(host, "groundswell-apply", &["touch", "/var/lib/groundswell-agent/spool"]);
        refused(host, "nobody", &["ls", "/run/groundswell"]);

        // So that there is a middle of the fetch.
        let slow = b"bandwidth_bytes_per_sec = 1500000\n";
        host.install_file("/etc/groundswell/agent.d/slow.toml", slow, 0o644);
        host.exec_ok(&["systemctl", "restart", AGENT]);
        publish(&fleet, bed.dir(), NEW, "good");
        until("the middle of the fetch", ROLLOUT_BOUND, || {
            let parts = host.exec(&["du", "--bytes", "/var/lib/groundswell-agent/spool"]).stdout;
            let bytes = String::from_utf8_lossy(&parts).split_whitespace().next()?.parse::<u64>();
            bytes.is_ok_and(|bytes| bytes > 500_000).then_some(())
        });
        kill(host, AGENT);
        kill(host, APPLY);
        until("the bake", ROLLOUT_BOUND, || says(host, "baking"));
        kill(host, APPLY);
        expect(&fleet, &hosts, OutcomeName::Completed, NEW);
        assert!(says(host, "committed").is_some());
        let page = host.exec_ok(&["groundswell-agent", "doctor"]);
        assert!(
            page.contains("the apply side runs") && page.contains("the network side runs"),
            "{page}"
        );

        // Somebody changes what is live: it is said, and nothing else happens.
        let file = format!("{SERVICE_DIR}/current/tree/etc/nats.conf");
        host.exec_ok(&["sed", "--in-place", "1i # by hand", &file]);
        host.exec_ok(&["systemctl", "restart", APPLY]);
        let why = until("the changed file", ROLLOUT_BOUND, || {
            let why = fleet.swell_ok(&["host", "why", "queue-1"]);
            why.contains("was changed on the host").then_some(why)
        });
        assert!(why.contains("etc/nats.conf"), "{why}");
    });
}

/// What the user of a side tries, and must be denied.
fn refused(host: &Host, user: &str, argv: &[&str]) {
    let reuid = format!("--reuid={user}");
    let regid = if user == "nobody" { "--regid=nogroup" } else { "--regid=groundswell-agent" };
    let answer = host.exec(&[&["setpriv", &reuid, regid, "--clear-groups", "--"], argv].concat());
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success(), "{user} may {argv:?}");
    assert!(
        said.contains("Permission denied") || said.contains("Operation not permitted"),
        "{said}"
    );
}

/// Ends a unit as a crash does, and waits until systemd has started it again.
fn kill(host: &Host, unit: &str) {
    let pid = || host.exec_ok(&["systemctl", "show", "--property=MainPID", "--value", unit]);
    let before = pid();
    host.exec_ok(&["systemctl", "kill", "--signal=KILL", unit]);
    until(&format!("{unit} again"), ROLLOUT_BOUND, || {
        (pid() != before && host.exec(&["systemctl", "is-active", unit]).status.success())
            .then_some(())
    });
}

/// Whether the state directory says that the service stands so.
fn says(host: &Host, state: &str) -> Option<()> {
    host.exec_ok(&["groundswell-agent", "status"]).contains(state).then_some(())
}

/// The units hold to a bound of systemd's own measure of exposure; 10 is a unit without any setting.
#[test]
fn the_units_expose_little() {
    for (unit, most) in [
        ("groundswell-agent", "12"),
        ("groundswell-apply", "12"),
        ("groundswell-hook@", "14"),
        ("groundswell-coordinator", "15"),
    ] {
        let unit = repository().join(format!("systemd/{unit}.service"));
        let threshold = format!("--threshold={most}");
        let output = tool("systemd-analyze")
            .args(["security", "--offline=yes", "--no-pager", &threshold])
            .arg(&unit)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}: {}", unit.display(), describe(&output));
        let strict = tool("systemd-analyze")
            .args(["security", "--offline=yes", "--no-pager", "--threshold=1"])
            .arg(&unit)
            .output()
            .unwrap();
        assert!(!strict.status.success(), "a threshold that nothing can pass is passed");
    }
}

/// A unit that does nothing, as often as it is asked to.
const SLEEPS: &[u8] = b"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep inf\n\
    ExecReload=/bin/true\n";

/// A command as one of the two sides runs: without a capability, unable to gain any.
fn as_side<'a>(side: &'a str, argv: &[&'a str]) -> Vec<&'a str> {
    let reuid = match side {
        "groundswell-apply" => "--reuid=groundswell-apply",
        _ => "--reuid=groundswell-agent",
    };
    let bare = ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"];
    [&["setpriv", reuid, "--regid=groundswell-agent"], &bare[..], argv].concat()
}

/// A call of systemd's manager over the bus.
macro_rules! call {
    ($($word:literal),+) => {
        &[
            "busctl",
            "call",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            $($word),+
        ]
    };
}

/// A verb of `systemctl`, which must ask nobody for a password.
macro_rules! systemctl {
    ($($word:literal),+) => { &["systemctl", "--no-ask-password", $($word),+] };
}

/// Whether the apply side may, and the command.
#[rustfmt::skip]
const ASKED: &[(bool, &[&str])] = &[
    (true, systemctl!("start", "nats.service")),
    (true, systemctl!("stop", "nats.service")),
    (true, systemctl!("restart", "nats.service")),
    (true, systemctl!("reload", "nats.service")),
    (true, systemctl!("reset-failed", "nats.service")),
    (true, systemctl!("is-enabled", "dbus.socket")),
    (false, systemctl!("restart", "other.service")),
    (false, systemctl!("start", "nats@evil.service")),
    (false, systemctl!("start", "groundswell-hook@other.service")),
    (false, call!("RestartUnit", "ss", "../nats.service", "replace")),
    (false, call!("StartTransientUnit", "ssa(sv)a(sa(sv))", "nats.service", "replace", "0", "0")),
    (false, call!("StartTransientUnit", "ssa(sv)a(sa(sv))", "ghost.service", "replace", "1",
        "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0")),
    (false, &["systemd-run", "--no-ask-password", "--unit=pwn", "/bin/true"]),
    (false, systemctl!("set-property", "--runtime", "nats.service", "CPUWeight=1")),
    (false, systemctl!("kill", "nats.service")),
    (false, systemctl!("reset-failed", "dbus.service")),
    (false, systemctl!("reload", "other.service")),
    (false, systemctl!("enable", "other.service")),
    (false, systemctl!("link", "/etc/systemd/system/other.service")),
    (false, systemctl!("daemon-reload")),
    (false, systemctl!("set-environment", "A=b")),
    (false, call!("Reboot")),
    (false, call!("BindMountUnit", "sssbb", "nats.service", "/etc", "/mnt", "0", "0")),
];

/// The agent and its units, where a package would put them; then boots.
fn install(bed: &Bed, hosts: &mut [Host]) {
    install_agent(bed);
    for host in hosts.iter_mut() {
        configure(host, AGENT_CONFIG);
        host.install_file("/etc/systemd/system/nats.service", UNIT.as_bytes(), 0o644);
        host.power_on();
    }
    for host in hosts {
        finish(host);
    }
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, kind: &str) {
    let tree = tree(dir, version, kind);
    fleet.publish("nats", version, &tree);
}

/// A release of the foreign server: its program as published, and our configuration for it.
fn tree(dir: &Path, version: &str, kind: &str) -> PathBuf {
    let program =
        repository().join(format!("target/third-party/nats-server-{version}/nats-server"));
    assert!(program.is_file(), "{} is missing: run tests/setup", program.display());
    let tree = dir.join(format!("nats-{version}-{kind}"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::copy(program, tree.join("bin/nats-server")).unwrap();
    fs::set_permissions(tree.join("bin/nats-server"), fs::Permissions::from_mode(0o755)).unwrap();
    let config = match kind {
        "good" => format!("port: 4222\nhttp: 0.0.0.0:{MONITOR_PORT}\n"),
        _ => "port: no-such-port\n".to_owned(),
    };
    fs::write(tree.join("etc/nats.conf"), config).unwrap();
    let spec = format!(
        "[release]\nunits = [\"nats.service\"]\nplatform = \"linux-x86_64\"\n\n\
         [[probe]]\nkind = \"unit\"\nunit = \"nats.service\"\n\n\
         [[probe]]\nkind = \"http\"\nurl = \"http://127.0.0.1:{MONITOR_PORT}/healthz\"\n\
         timeout_secs = 5\n"
    );
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    tree
}

/// Waits for the end of the newest rollout; then every host must answer with `version`.
fn expect(fleet: &Fleet, hosts: &[Host], outcome: OutcomeName, version: &str) -> RolloutPage {
    let page = fleet.wait_done("nats");
    assert_eq!(page.rollout.outcome, Some(outcome), "{page:?}");
    for host in hosts {
        until(&format!("{version} of {}", host.name()), ROLLOUT_BOUND, || answers(host, version));
        let manifest = host.exec_ok(&["cat", &format!("{SERVICE_DIR}/current/manifest.json")]);
        assert!(manifest.contains(&format!("\"version\":\"{version}\"")), "{manifest}");
    }
    page
}

/// Whether the server on the host says over the network that it is of this version.
fn answers(host: &Host, version: &str) -> Option<()> {
    let address = SocketAddr::from((host.addr(), MONITOR_PORT));
    let mut line = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    line.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    line.write_all(b"GET /varz HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    line.read_to_string(&mut text).ok()?;
    text.contains(&format!("\"version\": \"{version}\"")).then_some(())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}
