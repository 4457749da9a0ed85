//! The agent updates itself through the same waves: a good release takes over both processes, a bad one is left
//! by itself, whichever of the two it breaks.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use groundswell_common::api::OutcomeName;
use groundswell_tests::bins::bin;
use groundswell_tests::fleet::{Fleet, ROLLOUT_BOUND};
use groundswell_tests::hosts::{Host, bed, boot_with_agent, enrol, install_agent};
use groundswell_tests::wait::until;

const SERVICE: &str = "groundswell-agent";
const RELEASES: &str = "/var/lib/groundswell/services/groundswell-agent/releases/";

/// The wave is watched for longer than an apply side that does not come up takes to be left.
const POLICY: &str = r#"
service = "groundswell-agent"
targets = "role=web"
bake_secs = 60
host_bake_secs = 2
probe_deadline_secs = 20
progress_deadline_secs = 120

[[wave]]
rest = true
"#;

const CONFIG: &str = r#"
net_dir = "/var/lib/groundswell-agent"
supervisor = "systemd"
keep_free_bytes = 1048576

[services.groundswell-agent]
units = ["groundswell-agent.service"]
"#;

/// Ends at once, on either side.
const DEAD: &str = "#!/bin/sh\nexit 1\n";
/// A network side that works, and an apply side that ends at once.
const DEAD_APPLY: &str = "#!/bin/sh\n\
    case \"$1\" in apply) exit 1 ;; esac\nexec /usr/bin/groundswell-agent \"$@\"\n";

#[test]
fn the_agent_updates_itself_and_leaves_a_release_of_itself_that_does_not_work() {
    let name = "the_agent_updates_itself_and_leaves_a_release_of_itself_that_does_not_work";
    bed(name, |bed| {
        let fleet = Fleet::start(bed.dir(), &bed.addr().to_string());
        fleet.apply(POLICY);
        install_agent(bed);
        let mut host = bed.host("web-1");
        boot_with_agent(&mut host, CONFIG);
        enrol(&host, &fleet.token("role=web"));
        assert_eq!(program(&host, "groundswell-apply"), "/usr/bin/groundswell-agent");

        // The first release that fails leaves the agent that the package installed.
        publish(&fleet, bed.dir(), ("0.9.0", DEAD.as_bytes()));
        assert_eq!(fleet.wait_end(SERVICE, "0.9.0").rollout.outcome, Some(OutcomeName::Reverted));
        assert_eq!(program(&host, "groundswell-agent"), "/usr/bin/groundswell-agent");

        publish(&fleet, bed.dir(), ("1.0.0", &fs::read(bin("groundswell-agent")).unwrap()));
        assert_eq!(fleet.wait_end(SERVICE, "1.0.0").rollout.outcome, Some(OutcomeName::Completed));
        let runs = until("both sides of the new release", ROLLOUT_BOUND, || {
            let both = ["groundswell-agent", "groundswell-apply"].map(|unit| program(&host, unit));
            (both[0] == both[1] && both[0].starts_with(RELEASES)).then(|| both[0].clone())
        });

        for (version, program_of_it) in [("2.0.0", DEAD), ("3.0.0", DEAD_APPLY)] {
            publish(&fleet, bed.dir(), (version, program_of_it.as_bytes()));
            let page = fleet.wait_end(SERVICE, version);
            assert_eq!(page.rollout.outcome, Some(OutcomeName::Reverted), "{version}: {page:?}");
            for unit in ["groundswell-agent", "groundswell-apply"] {
                until(&format!("the program before {version}"), ROLLOUT_BOUND, || {
                    (program(&host, unit) == runs).then_some(())
                });
            }
            fleet.wait_for_version(SERVICE, "1.0.0", &["web-1"]);
        }
    });
}

/// What a unit's main process runs.
fn program(host: &Host, unit: &str) -> String {
    let pid = host.exec_ok(&["systemctl", "show", "--property=MainPID", "--value", unit]);
    let link = format!("/proc/{pid}/exe");
    let read = host.exec(&["readlink", &link]);
    String::from_utf8(read.stdout).unwrap().trim_end().to_owned()
}

fn publish(fleet: &Fleet, dir: &Path, (version, program): (&str, &[u8])) {
    let tree: PathBuf = dir.join(format!("agent-{version}"));
    fs::create_dir_all(&tree).unwrap();
    let path = tree.join("groundswell-agent");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let spec = "[release]\nunits = [\"groundswell-agent.service\"]\n";
    fs::write(tree.join("groundswell.toml"), spec).unwrap();
    fleet.publish(SERVICE, version, &tree);
}
