//! The Debian packages as `packaging/build` leaves them: what is in them, what Debian's checker says, and their life on
//! hosts with a real systemd: installed, upgraded in the middle of a rollout, removed, purged.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use groundswell_common::api::{OutcomeName, PhaseName, RolloutPage};
use groundswell_tests::bins::package;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{Bed, Host, bed};
use groundswell_tests::tools::{output, run, tool};
use groundswell_tests::wait::until;

const PACKAGES: [&str; 3] = ["groundswell-agent", "groundswell-coordinator", "groundswell-cli"];
/// Where hosts find the packages.
const SHELF: &str = "/opt/packages";
const AGENT: &str = "groundswell-agent";
const APPLY: &str = "groundswell-apply";
const COORDINATOR: &str = "groundswell-coordinator";
const COORDINATOR_STATE: &str = "/var/lib/groundswell-coordinator";
const SERVICE_DIR: &str = "/var/lib/groundswell/services/shop";

/// The canary bakes long enough for an upgrade in its midst; a person opens the wave after it.
const POLICY: &str = r#"
service = "shop"
targets = "role=web"
failure_budget = 0
bake_secs = 1
host_bake_secs = 10
probe_deadline_secs = 30
progress_deadline_secs = 180

[[wave]]
name = "canary"
count = 1

[[wave]]
name = "all"
percent = 100
gate = "approval"
"#;

const UNIT: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/var/lib/groundswell/services/shop/current/tree/bin/shop
DynamicUser=yes
";

const ALLOWED: &str = "[services.shop]\nunits = [\"shop.service\"]\n";

#[test]
fn packages_hold_these_files_and_no_others() {
    let daemon = |name: &str, more: &[&str]| {
        let own = [
            format!("-rwxr-xr-x /usr/bin/{name}"),
            format!("-rw-r--r-- /usr/lib/systemd/system/{name}.service"),
            format!("-rw-r--r-- /usr/lib/sysusers.d/{name}.conf"),
            format!("-rw-r--r-- /usr/lib/tmpfiles.d/{name}.conf"),
        ];
        let more = more.iter().map(|line| (*line).to_owned());
        [shared(name, name), own.into_iter().chain(more).collect()].concat()
    };
    let agent = daemon(
        AGENT,
        &[
            "-rw-r--r-- /etc/groundswell/agent.toml",
            "-rw-r--r-- /usr/lib/systemd/system/groundswell-apply.service",
            "-rw-r--r-- /usr/lib/systemd/system/groundswell-hook@.service",
            "-rw-r--r-- /usr/share/polkit-1/rules.d/50-groundswell-agent.rules",
        ],
    );
    let cli = [shared("groundswell-cli", "swell"), vec!["-rwxr-xr-x /usr/bin/swell".to_owned()]];
    for (name, want) in
        [(AGENT, agent), (COORDINATOR, daemon(COORDINATOR, &[])), ("groundswell-cli", cli.concat())]
    {
        let mut want = want;
        want.sort();
        let command = if name == "groundswell-cli" { "swell" } else { name };
        let (pages, files) = files(name, &format!("/usr/share/man/man1/{command}-"));
        assert_eq!(files, want, "the files of {name}");
        assert!(pages > 5, "{name} has a page a verb, not {pages}");
    }
    let conffiles = run(tool("dpkg-deb").arg("--info").arg(package(AGENT)).arg("conffiles"));
    assert_eq!(conffiles, "/etc/groundswell/agent.toml");
}

/// What each package brings for its command.
fn shared(package: &str, command: &str) -> Vec<String> {
    [
        format!("bash-completion/completions/{command}"),
        format!("doc/{package}/CHANGELOG.md"),
        format!("doc/{package}/changelog.gz"),
        format!("doc/{package}/copyright"),
        format!("doc/{package}/crates"),
        format!("fish/vendor_completions.d/{command}.fish"),
        format!("man/man1/{command}.1.gz"),
        format!("zsh/vendor-completions/_{command}"),
    ]
    .map(|path| format!("-rw-r--r-- /usr/share/{path}"))
    .to_vec()
}

/// How many files of a package begin with `pages`, and each other file with its mode, by name. All belong to root.
fn files(name: &str, pages: &str) -> (usize, Vec<String>) {
    let listing = run(tool("dpkg-deb").arg("--contents").arg(package(name)));
    let mut files = Vec::new();
    let mut count = 0;
    for line in listing.lines() {
        let [mode, owner, _, _, _, path] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("failed to read {line:?}");
        };
        assert_eq!(owner, "0/0", "{line}");
        let path = path.strip_prefix('.').unwrap();
        if path.starts_with(pages) {
            count += 1;
        } else if !mode.starts_with('d') {
            files.push(format!("{mode} {path}"));
        }
    }
    files.sort();
    (count, files)
}

#[test]
fn lintian_finds_nothing() {
    let mut command = tool("lintian");
    command.arg("--allow-root").args(PACKAGES.map(package));
    let found = output(&mut command);
    assert!(found.status.success() && found.stdout.is_empty(), "{}", describe(&found));
}

#[test]
fn an_upgrade_amid_a_rollout_disturbs_neither_it_nor_the_service() {
    bed("an_upgrade_amid_a_rollout_disturbs_neither_it_nor_the_service", |bed| {
        stock(&bed.dir().join("packages"));
        let [deploy, first, second] = ["deploy", "web-1", "web-2"].map(|name| boot(bed, name));
        let fleet = begin(bed, &deploy);
        let hosts = [first, second];
        for host in &hosts {
            enrol(host, &fleet.token("role=web"));
        }
        fleet.apply(&POLICY.replace("host_bake_secs = 10", "host_bake_secs = 1"));
        publish(&fleet, bed.dir(), "1.0.0");
        approve_and_finish(&fleet);
        fleet.apply(POLICY);

        publish(&fleet, bed.dir(), "2.0.0");
        let canary = until("the bake of the canary", ROLLOUT_BOUND, || {
            let page = fleet.newest_rollout("shop");
            page.hosts.iter().find(|host| host.progress == "baking").map(|host| host.name.clone())
        });
        let runs = hosts.each_ref().map(|host| property(host, "shop", "InvocationID"));
        let pids = |host: &Host| [AGENT, APPLY].map(|side| property(host, side, "MainPID"));
        let agents = hosts.each_ref().map(pids);
        upgrade_agents(&hosts);
        let page = fleet.newest_rollout("shop");
        assert_ne!(page.rollout.phase, PhaseName::Done, "the upgrade came too late: {page:?}");
        for (host, before) in hosts.iter().zip(agents) {
            for (now, before) in pids(host).iter().zip(&before) {
                assert_ne!(now, before, "the new agent runs");
            }
        }
        assert_eq!(hosts.each_ref().map(|host| property(host, "shop", "InvocationID")), runs);

        approve_and_finish(&fleet);
        for (host, before) in hosts.iter().zip(runs) {
            assert_eq!(live(host), "2.0.0", "{}", host.name());
            let switched_before = canary.as_str() == host.name();
            let now = property(host, "shop", "InvocationID");
            assert_eq!(now == before, switched_before, "one restart for one switch");
        }

        let [first, second] = hosts;
        remove_and_come_back(&first);
        purge(&second);
        dpkg(&deploy, &["--purge", COORDINATOR]);
        assert!(!is_there(&deploy, COORDINATOR_STATE));
    });
}

/// The packages as built, and the agent's next version: another number and another default configuration.
fn stock(shelf: &Path) {
    fs::create_dir(shelf).unwrap();
    for name in PACKAGES {
        fs::copy(package(name), shelf.join(name).with_extension("deb")).unwrap();
    }
    let tree = shelf.join("next");
    run(tool("dpkg-deb").arg("--raw-extract").arg(package(AGENT)).arg(&tree));
    edit(tree.join("DEBIAN/control"), |text| {
        let version = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
        text.replace(version, &format!("{version}+next"))
    });
    edit(tree.join("etc/groundswell/agent.toml"), |text| format!("{text}\n# A new default.\n"));
    let mut build = tool("dpkg-deb");
    build.args(["--root-owner-group", "-Zgzip", "--build"]);
    run(build.arg(&tree).arg(shelf.join("next.deb")));
}

fn edit(path: PathBuf, change: impl FnOnce(&str) -> String) {
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, change(&text)).unwrap();
}

/// A host with the packages on its shelf, and the unit of the service that it is going to run.
fn boot(bed: &mut Bed, name: &str) -> Host {
    let mut host = bed.host_for_packages(name);
    host.share(&bed.dir().join("packages"), SHELF);
    host.install_file("/etc/systemd/system/shop.service", UNIT.as_bytes(), 0o644);
    host.power_on();
    host.wait_up();
    host
}

/// A coordinator from its package, begun as README.md tells.
fn begin(bed: &Bed, deploy: &Host) -> Fleet {
    install(deploy, &[COORDINATOR, "groundswell-cli"]);
    is_made(deploy, COORDINATOR, COORDINATOR_STATE, "700");
    let address = deploy.addr().to_string();
    let init = [COORDINATOR, "init", "--state", COORDINATOR_STATE, "--host", &address];
    let as_user = ["runuser", "-u", COORDINATOR, "--"];
    deploy.exec_ok(&[&as_user[..], &init, &["--admin", "ann"]].concat());
    deploy.exec_ok(&["systemctl", "start", COORDINATOR]);
    let profile = format!("{COORDINATOR_STATE}/admin.profile");
    deploy.exec_ok(&["swell", "--profile", &profile, "status"]);
    Fleet::elsewhere(bed.dir(), &address, &deploy.read_file(&profile).unwrap())
}

/// An agent from its package; the administrator changes its configuration and enrols it.
fn enrol(host: &Host, token: &str) {
    install(host, &[AGENT]);
    is_made(host, AGENT, "/var/lib/groundswell-agent", "750");
    let state = host.exec_ok(&["stat", "--format=%a %U %G", "/var/lib/groundswell"]);
    assert_eq!(state, format!("755 {APPLY} {AGENT}"));
    is_sound(host, APPLY);
    host.exec_ok(&["systemctl", "start", AGENT, APPLY]);
    for side in [AGENT, APPLY] {
        assert_eq!(property(host, side, "ActiveState"), "inactive", "nothing runs unenrolled");
    }
    let config = "/etc/groundswell/agent.toml";
    let shipped = String::from_utf8(host.read_file(config).unwrap()).unwrap();
    host.install_file(config, format!("{shipped}\n{ALLOWED}").as_bytes(), 0o644);
    host.exec_ok(&[AGENT, "enroll", token]);
    host.exec_ok(&["systemctl", "start", AGENT, APPLY]);
    both_are(host, "active");
}

fn both_are(host: &Host, state: &str) {
    for side in [AGENT, APPLY] {
        assert_eq!(property(host, side, "ActiveState"), state, "{side}");
    }
}

fn install(host: &Host, names: &[&str]) {
    let paths: Vec<String> = names.iter().map(|name| format!("{SHELF}/{name}.deb")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    dpkg(host, &[&["--install"], &paths[..]].concat());
}

/// User, state and unit are there after an installation: enabled, sound, and not started.
fn is_made(host: &Host, name: &str, state: &str, mode: &str) {
    let state = host.exec_ok(&["stat", "--format=%a %U %G", state]);
    assert_eq!(state, format!("{mode} {name} {name}"));
    is_sound(host, name);
    assert_eq!(host.exec_ok(&[name, "--version"]).split(' ').next(), Some(name));
}

fn is_sound(host: &Host, name: &str) {
    assert_eq!(host.exec_ok(&["systemctl", "is-enabled", name]), "enabled");
    assert_eq!(property(host, name, "ActiveState"), "inactive");
    let found = host.exec(&["systemd-analyze", "verify", "--man=no", &format!("{name}.service")]);
    assert!(found.status.success() && found.stderr.is_empty(), "{}", describe(&found));
}

/// As unattended upgrades do it: what the administrator wrote stays.
fn upgrade_agents(hosts: &[Host]) {
    for host in hosts {
        let before = version(host);
        dpkg(host, &["--force-confold", "--install", &format!("{SHELF}/next.deb")]);
        assert_eq!(version(host), format!("{before}+next"));
        let config = host.exec_ok(&["cat", "/etc/groundswell/agent.toml"]);
        assert!(config.ends_with(ALLOWED.trim_end()), "{config}");
        assert!(is_there(host, "/etc/groundswell/agent.toml.dpkg-dist"));
        both_are(host, "active");
    }
}

/// Removed, the agent is gone while its service runs on; installed again, it goes on where it was.
fn remove_and_come_back(host: &Host) {
    let before = property(host, "shop", "InvocationID");
    dpkg(host, &["--remove", AGENT]);
    both_are(host, "inactive");
    assert!(!is_there(host, "/usr/bin/groundswell-agent"));
    assert!(is_there(host, "/etc/groundswell/agent.toml"));
    assert_eq!(property(host, "shop", "InvocationID"), before);
    assert_eq!(live(host), "2.0.0");

    install(host, &["next"]);
    assert_eq!(host.exec_ok(&["systemctl", "is-enabled", AGENT]), "enabled");
    host.exec_ok(&["systemctl", "start", AGENT, APPLY]);
    both_are(host, "active");
    assert_eq!(property(host, "shop", "InvocationID"), before);
}

/// Purged, nothing of the agent is left but its user; the service's own unit is its owner's.
fn purge(host: &Host) {
    dpkg(host, &["--purge", AGENT]);
    for path in [
        "/var/lib/groundswell",
        "/var/lib/groundswell-agent",
        "/etc/groundswell",
        "/etc/systemd/system/multi-user.target.wants/groundswell-agent.service",
        "/etc/systemd/system/groundswell-agent.service",
        "/etc/systemd/system/multi-user.target.wants/groundswell-apply.service",
        "/etc/systemd/system/groundswell-apply.service",
    ] {
        assert!(!is_there(host, path), "{path} is left");
    }
    assert_eq!(host.exec_ok(&["cat", "/etc/systemd/system/shop.service"]), UNIT.trim_end());
    assert_eq!(property(host, "shop", "ActiveState"), "active");
    assert_eq!(host.exec_ok(&["id", "--user", "--name", AGENT]), AGENT);
}

/// `dpkg`, which must succeed and have nothing to complain of.
fn dpkg(host: &Host, arguments: &[&str]) {
    let result = host.exec(&[&["dpkg"], arguments].concat());
    assert!(result.status.success(), "dpkg {arguments:?}: {}", describe(&result));
}

fn version(host: &Host) -> String {
    host.exec_ok(&["dpkg-query", "--show", "--showformat=${Version}", AGENT])
}

fn property(host: &Host, unit: &str, name: &str) -> String {
    host.exec_ok(&["systemctl", "show", "--value", &format!("--property={name}"), unit])
}

fn is_there(host: &Host, path: &str) -> bool {
    host.exec(&["test", "-e", path]).status.success()
}

/// The version that the live tree holds.
fn live(host: &Host) -> String {
    host.exec_ok(&["cat", &format!("{SERVICE_DIR}/current/tree/version")])
}

fn publish(fleet: &Fleet, dir: &Path, version: &str) {
    let tree = dir.join(format!("shop-{version}"));
    fs::create_dir_all(tree.join("bin")).unwrap();
    let program = tree.join("bin/shop");
    fs::write(&program, "#!/bin/sh\nexec sleep 1000000\n").unwrap();
    run(tool("chmod").arg("755").arg(&program));
    fs::write(tree.join("version"), version).unwrap();
    let spec = "[release]\nunits = [\"shop.service\"]\n\n\
                [[probe]]\nkind = \"unit\"\nunit = \"shop.service\"\n";
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    fleet.publish("shop", version, &tree);
}

/// Opens the second wave and waits until the rollout is complete.
fn approve_and_finish(fleet: &Fleet) -> RolloutPage {
    let rollout = fleet.newest_rollout("shop").rollout.rollout;
    until("somebody to be asked", ROLLOUT_BOUND, || {
        let answer = output(&mut fleet.swell(&["approve", rollout.as_str(), "--yes"]));
        answer.status.success().then_some(())
    });
    let page = fleet.wait_done("shop");
    assert_eq!(page.rollout.outcome, Some(OutcomeName::Completed), "{page:?}");
    page
}
