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
use groundswell_tests::hosts::{Bed, Host, bed};
use groundswell_tests::installed::{boot_with_agent, enrol, install_units, repository};
use groundswell_tests::tools::tool;
use groundswell_tests::wait::until;

const MONITOR_PORT: u16 = 8222;
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
        for unit in ["groundswell-agent", "groundswell-coordinator"] {
            let host = if unit == "groundswell-agent" { &hosts[0] } else { &deploy };
            let user = host.exec_ok(&["systemctl", "show", "--property=User", "--value", unit]);
            assert_eq!(user, unit, "no service of ours runs as root");
        }
    });
}

/// What the agent's user may ask of systemd: three verbs on the unit that the configuration names, and
/// nothing else. Asked as the agent runs: without a capability, unable to gain any.
#[test]
fn the_agent_may_do_three_things_to_its_own_units_and_nothing_else() {
    bed("the_agent_may_do_three_things_to_its_own_units_and_nothing_else", |bed| {
        let mut hosts = ["queue-1"].map(|name| bed.host(name));
        hosts[0].install_file("/etc/systemd/system/other.service", SLEEPS, 0o644);
        hosts[0].install_file("/etc/systemd/system/nats@.service", SLEEPS, 0o644);
        install(bed, &mut hosts);
        let [host] = hosts;
        host.install_file("/etc/systemd/system/nats.service", SLEEPS, 0o644);
        host.exec_ok(&["systemctl", "daemon-reload"]);
        for (allowed, argv) in ASKED {
            let answer = host.exec(&[&AS_AGENT[..], argv].concat());
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            assert_eq!(answer.status.success(), *allowed, "{argv:?}: {said}");
            if !allowed {
                let refused = ["ccess denied", "authentication required", "is not valid"];
                assert!(refused.iter().any(|word| said.contains(word)), "{argv:?}: {said}");
            }
        }
        let active = host.exec_ok(&["systemctl", "is-active", "nats.service"]);
        assert_eq!(active, "active", "nobody stopped or killed it after the restart");
        host.exec_ok(&["systemctl", "is-active", "dbus.service"]);
    });
}

/// The units hold to a bound of systemd's own measure of exposure; 10 is a unit without any setting.
#[test]
fn the_units_expose_little() {
    for (unit, most) in [("groundswell-agent", "15"), ("groundswell-coordinator", "15")] {
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
const SLEEPS: &[u8] = b"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sleep inf\n";

const AS_AGENT: [&str; 8] = [
    "setpriv",
    "--reuid=groundswell-agent",
    "--regid=groundswell-agent",
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--bounding-set=-all",
    "--",
];

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

/// Whether it is allowed, and the command.
#[rustfmt::skip]
const ASKED: &[(bool, &[&str])] = &[
    (true, systemctl!("start", "nats.service")),
    (true, systemctl!("stop", "nats.service")),
    (true, systemctl!("restart", "nats.service")),
    (true, systemctl!("is-enabled", "dbus.socket")),
    (false, systemctl!("restart", "other.service")),
    (false, systemctl!("start", "nats@evil.service")),
    (false, call!("RestartUnit", "ss", "../nats.service", "replace")),
    (false, call!("StartTransientUnit", "ssa(sv)a(sa(sv))", "nats.service", "replace", "0", "0")),
    (false, call!("StartTransientUnit", "ssa(sv)a(sa(sv))", "ghost.service", "replace", "1",
        "ExecStart", "a(sasb)", "1", "/bin/true", "1", "/bin/true", "false", "0")),
    (false, &["systemd-run", "--no-ask-password", "--unit=pwn", "/bin/true"]),
    (false, systemctl!("set-property", "--runtime", "nats.service", "CPUWeight=1")),
    (false, systemctl!("kill", "nats.service")),
    (false, systemctl!("reset-failed", "nats.service")),
    (false, systemctl!("reload", "nats.service")),
    (false, systemctl!("enable", "other.service")),
    (false, systemctl!("link", "/etc/systemd/system/other.service")),
    (false, systemctl!("daemon-reload")),
    (false, systemctl!("set-environment", "A=b")),
    (false, call!("Reboot")),
    (false, call!("BindMountUnit", "sssbb", "nats.service", "/etc", "/mnt", "0", "0")),
];

/// The agent with the server's unit, on hosts that are then up.
fn install(bed: &Bed, hosts: &mut [Host]) {
    boot_with_agent(bed, hosts, AGENT_CONFIG, &[("nats.service", UNIT)]);
}

fn publish(fleet: &Fleet, dir: &Path, version: &str, kind: &str) {
    let tree = tree(dir, version, kind);
    let tree = tree.to_string_lossy();
    fleet.swell_ok(&["publish", "--service", "nats", "--version", version, &tree]);
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
    let page = until("the end of the rollout", ROLLOUT_BOUND, || {
        let page = fleet.newest_rollout("nats");
        (page.rollout.phase == PhaseName::Done).then_some(page)
    });
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
