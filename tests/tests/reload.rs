//! A service that reads its files again instead of being restarted, on a host with a real systemd.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;

use groundswell_common::api::OutcomeName;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Host, bed, boot_with_agent, enrol, install_agent};
use groundswell_tests::wait::until;

const AGENT_CONFIG: &str = r#"
state_dir = "/var/lib/groundswell"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.words]
units = ["words.service"]
"#;

const POLICY: &str = r#"
service = "words"
targets = "role=web"
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 3

[[wave]]
rest = true
"#;

/// What it reads stands in the journal; where it reads "unreadable", it does not obey.
const UNIT: &str = "[Service]
WorkingDirectory=/var/lib/groundswell/services/words/current/tree
ExecStart=/bin/sleep inf
ExecReload=/bin/grep --invert-match unreadable words
DynamicUser=yes
";

const SPEC: &str = "[release]\nunits = [\"words.service\"]\nswitch = \"reload\"\n";

#[test]
fn a_reload_keeps_the_process_and_a_release_that_fails_restarts_it() {
    bed("a_reload_keeps_the_process_and_a_release_that_fails_restarts_it", |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(POLICY);
        install_agent(bed);
        let mut host = bed.host("web-1");
        host.install_file("/etc/systemd/system/words.service", UNIT.as_bytes(), 0o644);
        boot_with_agent(&mut host, AGENT_CONFIG);
        enrol(&host, &fleet.token("role=web"));

        let first = release(&fleet, bed.dir(), "1.0", "one\n", OutcomeName::Completed);
        assert_eq!(first, "");
        let started = process(&host);
        release(&fleet, bed.dir(), "2.0", "two\n", OutcomeName::Completed);
        assert_eq!(process(&host), started, "it was reloaded");
        host.exec_ok(&["journalctl", "--sync"]);
        let said = host.exec_ok(&["journalctl", "--output=cat", "--unit=words.service"]);
        assert!(said.lines().any(|line| line == "two"), "{said}");

        let why = release(&fleet, bed.dir(), "3.0", "unreadable\n", OutcomeName::Reverted);
        assert!(why.contains("ReloadUnit words.service: the job ended as"), "{why}");
        assert_ne!(process(&host), started, "what failed may not obey");
        let live = "/var/lib/groundswell/services/words/current/tree/words";
        assert_eq!(host.exec_ok(&["cat", live]), "two");
        // An ordered way back reloads.
        let started = process(&host);
        release(&fleet, bed.dir(), "4.0", "four\n", OutcomeName::Completed);
        fleet.swell_ok(&["revert", "words", "--yes", "--why", "the words were better"]);
        until("the words before", ROLLOUT_BOUND, || {
            (host.exec_ok(&["cat", live]) == "two").then_some(())
        });
        until("the end", ROLLOUT_BOUND, || {
            let status = host.exec_ok(&["groundswell-agent", "status"]);
            status.contains("committed").then_some(())
        });
        assert_eq!(process(&host), started, "it was reloaded");
    });
}

/// Publishes these words and waits for the end; why the host failed, empty where it did not.
fn release(fleet: &Fleet, dir: &Path, version: &str, words: &str, want: OutcomeName) -> String {
    let tree = dir.join(version);
    fs::create_dir_all(&tree).unwrap();
    fs::write(tree.join("words"), words).unwrap();
    fs::write(tree.join("groundswell.toml"), SPEC).unwrap();
    fleet.publish("words", version, &tree);
    let page = fleet.wait_end("words", version);
    assert_eq!(page.rollout.outcome, Some(want), "{page:?}");
    page.hosts.first().unwrap().why.clone().unwrap_or_default()
}

fn process(host: &Host) -> String {
    host.exec_ok(&["systemctl", "show", "--property=MainPID", "--value", "words.service"])
}
