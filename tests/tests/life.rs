//! The life of a host with a real systemd beside its rollouts: enrolled anew in place and from nothing, its
//! configuration edited, broken and mended, booted without the agent, its clock wrong, its directories somebody else's.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::Output;

use groundswell_common::api::OutcomeName;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{Host, bed};
use groundswell_tests::shop::{Shop, answer, one_host};
use groundswell_tests::wait::until;

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 20
progress_deadline_secs = 120

[[wave]]
rest = true
"#;

const CONFIG: &str = "/etc/groundswell/agent.toml";
/// The unit that the beds allow beside the shop's own, and that these hosts do not have.
const WORKER: &str = ", \"worker.service\"";
const UNIT: &str = "/etc/systemd/system/shop.service";
const SIDES: [&str; 2] = ["groundswell-agent", "groundswell-apply"];
const DIRS: [&str; 2] = ["/var/lib/groundswell", "/var/lib/groundswell-agent"];

fn bring(fleet: &Fleet, dir: &Path, version: &str) {
    let page = Shop::good(version).publish(fleet, dir);
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
}

fn doctor(host: &Host) -> String {
    let output = host.exec(&["groundswell-agent", "doctor"]);
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until doctor says this.
fn diagnosed(host: &Host, words: &str) -> String {
    until(&format!("doctor on {words:?}"), ROLLOUT_BOUND, || {
        let said = doctor(host);
        said.contains(words).then_some(said)
    })
}

fn property(host: &Host, unit: &str, name: &str) -> String {
    host.exec_ok(&["systemctl", "show", "--value", &format!("--property={name}"), unit])
}

fn edit(host: &Host, path: &str, from: &str, to: &str) {
    let text = String::from_utf8(host.read_file(path).unwrap()).unwrap();
    assert!(text.contains(from), "{from:?} is not in {path}");
    host.install_file(path, text.replace(from, to).as_bytes(), 0o644);
}

fn reboot(host: &mut Host) {
    host.power_off();
    host.power_on();
    host.wait_up();
}

fn fails(output: &Output, words: &str) {
    assert!(!output.status.success(), "{}", describe(output));
    assert!(describe(output).contains(words), "{}", describe(output));
}

#[test]
fn a_host_is_enrolled_anew_in_place_and_from_nothing() {
    bed("a_host_is_enrolled_anew_in_place_and_from_nothing", |bed| {
        let (fleet, host) = one_host(bed, POLICY);
        bring(&fleet, bed.dir(), "1.0.0");
        diagnosed(&host, "connected to the coordinator since");
        let runs = property(&host, "shop", "InvocationID");

        // What an operator has removed says so here, and what to type.
        fleet.swell_ok(&["host", "remove", "web-1", "--yes"]);
        let said = diagnosed(&host, "enroll --again TOKEN");
        assert!(said.contains("not connected to the coordinator since"), "{said}");
        let line = fleet.token("role=web");
        fails(&host.exec(&["groundswell-agent", "enroll", &line]), "enroll --again TOKEN");
        let done = host.exec_ok(&["groundswell-agent", "enroll", "--again", &line]);
        assert!(done.contains("next: systemctl restart"), "{done}");
        // Both sides take it up by themselves too.
        fleet.wait_for_version("shop", "1.0.0", &["web-1"]);
        assert_eq!(property(&host, "shop", "InvocationID"), runs, "the service was left alone");
        bring(&fleet, bed.dir(), "1.1.0");
        assert_eq!(answer(&host).as_deref(), Some("1.1.0"));

        // From nothing, as a person does who removes both directories: enrolment makes them root's first.
        fleet.swell_ok(&["host", "remove", "web-1", "--yes"]);
        host.exec_ok(&["systemctl", "stop", SIDES[0], SIDES[1]]);
        host.exec_ok(&["rm", "-rf", DIRS[0], DIRS[1]]);
        host.exec_ok(&["groundswell-agent", "enroll", &fleet.token("role=web")]);
        for (dir, owner) in DIRS.iter().zip(["groundswell-apply", "groundswell-agent"]) {
            assert_eq!(
                host.exec_ok(&["stat", "--format=%U %G", dir]),
                format!("{owner} groundswell-agent")
            );
        }
        host.exec_ok(&["systemctl", "start", SIDES[0], SIDES[1]]);
        fleet.wait_for_version("shop", "1.1.0", &["web-1"]);

        // A directory that is somebody else's is named, and what is said cures it.
        host.exec_ok(&["chown", "root", &format!("{}/identity.json", DIRS[0])]);
        let said = diagnosed(&host, "identity.json does not belong to groundswell-apply");
        let next = said.lines().find_map(|line| line.trim().strip_prefix("-> chown ")).unwrap();
        let (arguments, _) = next.split_once(", then").unwrap();
        let arguments: Vec<&str> = arguments.split(' ').collect();
        host.exec_ok(&[&["chown"], &arguments[..]].concat());
        assert!(!doctor(&host).contains("does not belong"));
    });
}

#[test]
fn a_configuration_is_read_again_and_a_broken_one_keeps_nothing_down() {
    bed("a_configuration_is_read_again_and_a_broken_one_keeps_nothing_down", |bed| {
        let (fleet, mut host) = one_host(bed, POLICY);
        edit(&host, CONFIG, WORKER, "");
        edit(&host, CONFIG, "[services.shop]\nunits = [\"shop.service\"]\n", "");
        host.exec_ok(&["systemctl", "reload", SIDES[1]]);
        let tree = Shop::good("1.0.0");
        tree.publish_only(&fleet, bed.dir());
        until("the unit to be refused", ROLLOUT_BOUND, || {
            let said = host.exec_ok(&["groundswell-agent", "status"]);
            said.contains("shop.service is not allowed here").then_some(())
        });
        // Allowed, it needs no restart of anything.
        let text = String::from_utf8(host.read_file(CONFIG).unwrap()).unwrap();
        let allowed = text.clone() + "[services.shop]\nunits = [\"shop.service\"]\n";
        let pid = property(&host, SIDES[1], "MainPID");
        host.install_file(CONFIG, allowed.as_bytes(), 0o644);
        bring(&fleet, bed.dir(), "1.1.0");
        assert_eq!(property(&host, SIDES[1], "MainPID"), pid);

        // A typo, while it runs: said by the reload, by doctor, and nothing stops.
        host.exec_ok(&["systemctl", "reload", SIDES[1]]);
        edit(&host, CONFIG, "units = ", "unit = ");
        fails(
            &host.exec(&["systemctl", "reload", SIDES[1]]),
            "Job for groundswell-apply.service failed",
        );
        diagnosed(&host, "unknown field `unit`");
        assert_eq!(property(&host, SIDES[1], "ActiveState"), "active");
        // At the next boot the service comes up, started by the agent: its unit is not enabled.
        diagnosed(&host, "at boot nobody but the agent starts shop.service");
        reboot(&mut host);
        until("1.1.0 after a boot", ROLLOUT_BOUND, || {
            (answer(&host).as_deref() == Some("1.1.0")).then_some(())
        });
        for side in SIDES {
            assert_eq!(property(&host, side, "ActiveState"), "active", "{side}");
        }
        diagnosed(&host, "connected to the coordinator since");
        edit(&host, CONFIG, "unit = ", "units = ");
        diagnosed(&host, "/etc/groundswell/agent.toml can be read");
        bring(&fleet, bed.dir(), "1.2.0");

        // Enabled, it comes up without the agent.
        edit(&host, UNIT, "[Service]", "[Install]\nWantedBy=multi-user.target\n[Service]");
        host.exec_ok(&["systemctl", "daemon-reload"]);
        host.exec_ok(&["systemctl", "enable", "shop.service"]);
        assert!(!doctor(&host).contains("nobody but the agent"));
        host.exec_ok(&["systemctl", "disable", SIDES[0], SIDES[1]]);
        reboot(&mut host);
        until("1.2.0 without an agent", ROLLOUT_BOUND, || {
            (answer(&host).as_deref() == Some("1.2.0")).then_some(())
        });
        assert_eq!(property(&host, SIDES[1], "ActiveState"), "inactive");
    });
}

#[test]
fn a_state_directory_on_another_disk_is_mounted_and_a_link_is_named() {
    bed("a_state_directory_on_another_disk_is_mounted_and_a_link_is_named", |bed| {
        let (fleet, mut host) = one_host(bed, POLICY);
        edit(&host, CONFIG, WORKER, "");
        bring(&fleet, bed.dir(), "1.0.0");
        host.exec_ok(&["systemctl", "stop", SIDES[0], SIDES[1]]);
        host.exec_ok(&["mv", DIRS[0], "/srv/groundswell"]);
        host.exec_ok(&["ln", "-s", "/srv/groundswell", DIRS[0]]);
        assert!(doctor(&host).contains("it is a link, which systemd refuses"));
        // As operations.md says.
        host.exec_ok(&["rm", DIRS[0]]);
        host.exec_ok(&["mkdir", DIRS[0]]);
        let mount = "/srv/groundswell /var/lib/groundswell none bind 0 0\n";
        host.install_file("/etc/fstab", mount.as_bytes(), 0o644);
        reboot(&mut host);
        until("1.0.0 after a move", ROLLOUT_BOUND, || {
            (answer(&host).as_deref() == Some("1.0.0")).then_some(())
        });
        bring(&fleet, bed.dir(), "1.1.0");
        assert!(!doctor(&host).contains("BAD"), "{}", doctor(&host));
    });
}

#[test]
fn a_service_is_taken_off_a_host_once_nothing_keeps_it_there() {
    bed("a_service_is_taken_off_a_host_once_nothing_keeps_it_there", |bed| {
        let (fleet, host) = one_host(bed, POLICY);
        edit(&host, CONFIG, WORKER, "");
        bring(&fleet, bed.dir(), "1.0.0");
        bring(&fleet, bed.dir(), "1.1.0");
        let dir = format!("{}/services/shop", DIRS[0]);
        let entries = |dir: &str| host.exec_ok(&["find", dir, "-mindepth", "1", "-maxdepth", "1"]);
        // What the owner does not allow any more the agent cannot stop: said, and nothing is broken.
        let allowed = host.read_file(CONFIG).unwrap();
        edit(&host, CONFIG, "[services.shop]\nunits = [\"shop.service\"]\n", "");
        host.exec_ok(&["systemctl", "reload", SIDES[1]]);
        fleet.swell_ok(&["service", "remove", "shop", "--yes"]);
        until("the host to say what keeps the service", ROLLOUT_BOUND, || {
            let said = fleet.swell_ok(&["host", "why", "web-1"]);
            (said.contains("it is stuck with 1.1.0: ") && said.contains("shop.service"))
                .then_some(())
        });
        assert_eq!(answer(&host).as_deref(), Some("1.1.0"));
        host.install_file(CONFIG, &allowed, 0o644);
        host.exec_ok(&["systemctl", "reload", SIDES[1]]);
        fleet.swell_ok(&["service", "remove", "shop", "--yes", "--wait"]);
        assert_eq!(property(&host, "shop", "ActiveState"), "inactive");
        until("no release on the disk", ROLLOUT_BOUND, || {
            entries(&format!("{dir}/releases")).trim().is_empty().then_some(())
        });
        let left = entries(&dir);
        assert!(!left.contains("current") && !left.contains("previous"), "{left}");
        // A boot starts nothing of it, and the host knows its new name, told from one side to the other.
        fleet.swell_ok(&["host", "rename", "web-1", "shop-1"]);
        until("the host knows its name", ROLLOUT_BOUND, || {
            let said = host.exec_ok(&["groundswell-agent", "status"]);
            said.contains("shop-1").then_some(())
        });
        let told = format!("{}/told.json", DIRS[0]);
        assert_eq!(host.exec_ok(&["stat", "--format=%U %a", &told]), "groundswell-apply 600");
        bring(&fleet, bed.dir(), "1.2.0");
        assert_eq!(answer(&host).as_deref(), Some("1.2.0"));
    });
}
