//! Proves the test bed itself: hosts boot, networks fail and heal, power cuts lose what they must
//! lose and nothing else.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use groundswell_tests::hosts::{Bed, CutFlag, Host, bed};
use groundswell_tests::private::{cgroup_root, inside, sweep};
use groundswell_tests::wait::until;

const ECHO_PORT: u16 = 7;
const PROXY_PORT: u16 = 8;
/// How long a healed network may need: lost packets are sent again at doubling pauses.
const HEAL_BOUND: Duration = Duration::from_secs(20);
/// How long a victim lives when nobody kills it: far longer than its end is awaited.
const VICTIM_BOUND: Duration = Duration::from_secs(120);
const VICTIM_VARIABLE: &str = "GROUNDSWELL_VICTIM";
/// A reachable host answers in under a millisecond; this long without an answer is silence.
const SILENCE: Duration = Duration::from_millis(700);

#[test]
fn four_hosts_boot_and_answer() {
    bed("four_hosts_boot_and_answer", |bed| {
        let start = Instant::now();
        bed.install_usr("lib/groundswell/say", b"#!/bin/echo ran", 0o755);
        let mut hosts = ["web-1", "web-2", "web-3", "db-1"].map(|name| bed.host(name));
        hosts[3].share(bed.dir(), "/opt/shared");
        std::fs::write(bed.dir().join("note"), "from outside").unwrap();
        boot(&mut hosts);
        eprintln!("4 hosts made and up after {:?}", start.elapsed());
        for host in &hosts {
            assert_eq!(host.exec_ok(&["systemctl", "is-system-running"]), "running");
            assert_eq!(host.exec_ok(&["hostname"]), host.name());
            assert_eq!(host.exec(&["false"]).status.code(), Some(1));
        }
        assert_eq!(hosts[3].exec_ok(&["cat", "/opt/shared/note"]), "from outside");
        let said = hosts[2].exec_ok(&["/usr/lib/groundswell/say"]);
        assert_eq!(said, "ran /usr/lib/groundswell/say");
        assert!(!Path::new("/usr/lib/groundswell").exists(), "the machine's own /usr has changed");
        let service = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "id", "-un"];
        assert_eq!(hosts[0].exec_ok(&service), "root");
        hosts[0].exec_ok(&["systemctl", "start", "polkit"]);
        assert_eq!(
            hosts[0].exec_ok(&["systemctl", "is-active", "polkit", "dbus"]),
            "active\nactive"
        );
        hosts[1].install_file("/run/deep/er/note", b"hello", 0o640);
        assert_eq!(
            hosts[1].exec_ok(&["stat", "-c", "%a %U %s", "/run/deep/er/note"]),
            "640 root 5"
        );
        assert_eq!(hosts[1].read_file("/run/deep/er/note").unwrap(), b"hello");
        assert_eq!(hosts[1].read_file("/run/deep/er/other"), None);
        let addresses: Vec<_> = hosts.iter().map(Host::addr).collect();
        assert_eq!(addresses.len(), 4);
        assert_eq!(addresses[3].to_string(), "10.99.1.4");
    });
}

#[test]
fn a_pulled_cable_and_a_silent_one_heal() {
    bed("a_pulled_cable_and_a_silent_one_heal", |bed| {
        let mut hosts = [echo_host(bed, "web-1"), echo_host(bed, "web-2")];
        proxy(&hosts[1], &hosts[0]);
        boot(&mut hosts);
        let [cut, other] = &hosts;
        // From one host over the other and back: what passes the switch between hosts.
        let mut detour = connect_port(other, PROXY_PORT).unwrap();
        assert!(echoes(&mut detour));
        let mut line = connect(cut).unwrap();
        let mut other_line = connect(other).unwrap();
        assert!(echoes(&mut line) && echoes(&mut other_line));

        cut.cut_link();
        assert!(!has_carrier(cut));
        assert!(!echoes(&mut line), "a pulled cable still carries");
        assert!(echoes(&mut other_line), "a pulled cable cuts the other host off");
        assert!(connect(cut).is_err());
        cut.heal_link();
        until("a connection over the healed cable", HEAL_BOUND, || connect(cut).ok());
        detour.write_all(b"?").unwrap();
        until("an echo over the detour", HEAL_BOUND, || answer(&mut detour));

        let mut line = connect(cut).unwrap();
        assert!(echoes(&mut line));
        cut.cut_silent();
        assert!(has_carrier(cut));
        assert!(!echoes(&mut line), "a silent cable still carries");
        assert!(!echoes(&mut detour), "a silent cable still carries between hosts");
        assert!(echoes(&mut other_line), "a silent cable cuts the other host off");
        assert_eq!(connect(cut).unwrap_err().kind(), ErrorKind::TimedOut);
        cut.heal_silent();
        until("an echo over the same connection", HEAL_BOUND, || answer(&mut line));
        until("an echo between hosts", HEAL_BOUND, || answer(&mut detour));
    });
}

#[test]
fn a_power_cut_loses_what_was_not_synced() {
    bed("a_power_cut_loses_what_was_not_synced", |bed| {
        let mut hosts = [echo_host(bed, "drop-log"), echo_host(bed, "keep-log")];
        boot(&mut hosts);
        for (host, flag) in hosts.iter_mut().zip([CutFlag::DropLog, CutFlag::KeepLog]) {
            host.install_file("/opt/synced", b"kept", 0o644);
            host.exec_ok(&["cp", "/opt/synced", "/opt/unsynced"]);
            host.exec_ok(&["cp", "/opt/synced", "/opt/renamed.tmp"]);
            host.exec_ok(&["mv", "/opt/renamed.tmp", "/opt/renamed"]);
            assert_eq!(host.read_file("/opt/renamed").unwrap(), b"kept");
            let mut line = connect(host).unwrap();
            assert!(echoes(&mut line));

            let start = Instant::now();
            host.power_cut(flag);
            eprintln!("power cut in {:?}", start.elapsed());
            assert!(!echoes(&mut line));
            assert_eq!(line.take_error().unwrap().map(|error| error.kind()), None);
        }
        let [drop_log, keep_log] = &mut hosts;
        assert_eq!(drop_log.read_file("/opt/synced").unwrap(), b"kept");
        assert_eq!(keep_log.read_file("/opt/synced").unwrap(), b"kept");
        // The journal's own sync may have committed the name, never the content.
        for path in ["/opt/unsynced", "/opt/renamed"] {
            assert_eq!(drop_log.read_file(path).unwrap_or_default(), b"");
            assert_eq!(keep_log.read_file(path).unwrap(), b"", "{path}");
        }
        let start = Instant::now();
        boot(&mut hosts);
        eprintln!("both up again after {:?}", start.elapsed());
        for host in &hosts {
            until("the echo after the second boot", HEAL_BOUND, || connect(host).ok());
            assert_eq!(host.exec_ok(&["cat", "/opt/synced"]), "kept");
        }
    });
}

#[test]
fn a_host_stops_in_order_reboots_and_freezes() {
    bed("a_host_stops_in_order_reboots_and_freezes", |bed| {
        let mut host = echo_host(bed, "web-1");
        host.install_unit("kept.service", "[Service]\nExecStart=sleep infinity\n");
        host.power_on();
        host.wait_up();
        assert_eq!(host.exec_ok(&["systemctl", "is-active", "kept"]), "active");
        host.exec_ok(&["cp", "/etc/hostname", "/opt/unsynced"]);
        host.power_off();
        assert_eq!(host.read_file("/opt/unsynced").unwrap(), b"web-1\n");

        host.power_on();
        host.wait_up();
        let boots = host.exec_ok(&["journalctl", "--list-boots", "--no-pager", "--quiet"]);
        assert_eq!(boots.lines().filter(|line| line.contains("UTC")).count(), 2, "{boots}");
        host.exec_ok(&["systemctl", "reboot"]);
        assert_eq!(host.wait_off().code(), Some(133));

        host.power_on();
        host.wait_up();
        let mut line = connect(&host).unwrap();
        assert!(echoes(&mut line));
        host.freeze();
        assert!(!echoes(&mut line), "a frozen host answers");
        host.thaw();
        until("an echo of the thawed host", HEAL_BOUND, || answer(&mut line));
    });
}

#[test]
#[should_panic(expected = "the private run of `a_failing_body_fails_the_test` failed")]
fn a_failing_body_fails_the_test() {
    inside("a_failing_body_fails_the_test", |_| panic!("as this one does"));
}

#[test]
#[should_panic(expected = "no test of this program is called `a_name_of_no_test`")]
fn a_wrong_name_fails_the_test() {
    inside("a_name_of_no_test", |_| {});
}

/// A run killed without a chance to clean up ends its hosts all the same, and the next run removes
/// the empty rest. The victim is this very test, started as a program of its own.
#[test]
fn the_death_of_the_test_ends_its_hosts() {
    let name = "the_death_of_the_test_ends_its_hosts";
    if std::env::var_os(VICTIM_VARIABLE).is_some() {
        return bed(name, |bed| {
            boot(&mut [bed.host("web-1")]);
            until("being killed", VICTIM_BOUND, || None)
        });
    }
    let log = tempfile::tempfile().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(VICTIM_VARIABLE, "1")
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let group = cgroup_root().join(format!("groundswell-{}-0", victim.id()));
    let populated = |flag: &str| {
        let events = std::fs::read_to_string(group.join("cgroup.events")).ok()?;
        events.lines().any(|line| line == flag).then_some(())
    };
    until("the first host of the victim", HEAL_BOUND, || populated("populated 1"));
    victim.kill().unwrap();
    victim.wait().unwrap();
    // Another test may sweep at any moment from now on.
    let is_gone = || (!group.exists()).then_some(());
    until("the end of its hosts", HEAL_BOUND, || populated("populated 0").or_else(is_gone));
    sweep();
    until("the end of its control group", HEAL_BOUND, is_gone);
}

fn boot(hosts: &mut [Host]) {
    for host in hosts.iter_mut() {
        host.power_on();
    }
    for host in hosts {
        host.wait_up();
    }
}

/// A host that sends back what it is sent, without any program of ours.
fn echo_host(bed: &mut Bed, name: &str) -> Host {
    let host = bed.host(name);
    host.install_file("/etc/hostname", format!("{name}\n").as_bytes(), 0o644);
    let socket = format!("[Socket]\nListenStream={ECHO_PORT}\nAccept=yes\n");
    host.install_unit("echo.socket", &socket);
    let service = "[Service]\nExecStart=cat\nStandardInput=socket\n";
    host.install_file("/etc/systemd/system/echo@.service", service.as_bytes(), 0o644);
    host
}

/// Lets `host` pass connections on to the echo of `to`.
fn proxy(host: &Host, to: &Host) {
    host.install_unit("proxy.socket", &format!("[Socket]\nListenStream={PROXY_PORT}\n"));
    let program = "/usr/lib/systemd/systemd-socket-proxyd";
    let service = format!("[Service]\nExecStart={program} {}:{ECHO_PORT}\n", to.addr());
    host.install_file("/etc/systemd/system/proxy.service", service.as_bytes(), 0o644);
}

fn connect(host: &Host) -> std::io::Result<TcpStream> {
    connect_port(host, ECHO_PORT)
}

fn connect_port(host: &Host, port: u16) -> std::io::Result<TcpStream> {
    let address = SocketAddr::from((host.addr(), port));
    let line = TcpStream::connect_timeout(&address, SILENCE)?;
    line.set_read_timeout(Some(SILENCE))?;
    Ok(line)
}

/// Whether a byte comes back in time.
fn echoes(line: &mut TcpStream) -> bool {
    line.write_all(b"?").unwrap();
    answer(line).is_some()
}

fn answer(line: &mut TcpStream) -> Option<()> {
    let mut byte = [0];
    match line.read(&mut byte) {
        Ok(0) => panic!("the host closed the connection"),
        Ok(_) => Some(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("failed to read from the host: {error}"),
    }
}

/// Asked by `ip`: the /sys of a host shows another network namespace than its own.
fn has_carrier(host: &Host) -> bool {
    host.exec_ok(&["ip", "-oneline", "link", "show", "eth0"]).contains("LOWER_UP")
}
