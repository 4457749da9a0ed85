//! What a tree holds at the publisher and what hosts get of it, from `swell publish` to the live release.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Output;

use groundswell_common::api::OutcomeName;
use groundswell_tests::fleet::{Fleet, describe, sleeper_tree};
use groundswell_tests::private::inside;
use rustix::fs::{XattrFlags, setxattr};

const POLICY: &str = r#"
service = "shop"
targets = "role=web"
bake_secs = 0
host_bake_secs = 1
probe_deadline_secs = 20

[[wave]]
rest = true
"#;
/// `cap_net_bind_service=ep`, as `setcap` writes it.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SPARSE_BYTES: u64 = 300_000_000;

fn publish(fleet: &Fleet, tree: &Path, more: &[&str]) -> Output {
    let args = [&["publish", "--service", "shop", "--version", "1.0.0"], more].concat();
    fleet.swell(&args).arg(tree).output().unwrap()
}

#[test]
fn what_a_tree_holds_comes_to_hosts_or_is_named() {
    inside("what_a_tree_holds_comes_to_hosts_or_is_named", |private| {
        let fleet = Fleet::start(private.dir(), "127.0.0.1");
        fleet.apply(POLICY);
        let agent = fleet.agent("web-1", "role=web");
        let tree = sleeper_tree(private.dir(), "1.0.0", true);
        for empty in ["logs", "tmp/sub"] {
            fs::create_dir_all(tree.join(empty)).unwrap();
        }
        File::create(tree.join("disk.img")).unwrap().set_len(SPARSE_BYTES).unwrap();
        fs::create_dir(tree.join("lib")).unwrap();
        fs::write(tree.join("lib/data"), "data").unwrap();
        for (name, target) in
            [("to", "lib/"), ("data", "lib//data"), ("lib/up", "../lib/../lib/data")]
        {
            symlink(target, tree.join(name)).unwrap();
        }
        fs::write(tree.join(".env"), "TOKEN=1").unwrap();
        fs::set_permissions(tree.join(".env"), fs::Permissions::from_mode(0o600)).unwrap();

        let (program, with) = (tree.join("lib/program"), XattrFlags::empty());
        fs::write(&program, "").unwrap();
        setxattr(&program, "security.capability", &CAPABILITY, with).unwrap();
        for more in [&["--dry-run"][..], &[]] {
            let refused = describe(&publish(&fleet, &tree, more));
            assert!(refused.contains("lib/program: it has file capabilities"), "{refused}");
            assert!(refused.contains("AmbientCapabilities="), "{refused}");
        }
        fs::remove_file(&program).unwrap();

        for more in [&["--dry-run"][..], &["--wait"]] {
            let output = publish(&fleet, &tree, more);
            assert!(output.status.success(), "{}", describe(&output));
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("2 empty directories are left out: logs, tmp/sub;"), "{said}");
            assert!(said.contains("is readable by everybody on hosts: .env;"), "{said}");
        }
        assert_eq!(fleet.newest_rollout("shop").rollout.outcome, Some(OutcomeName::Completed));
        let live = agent.state().join("services/shop/current/tree");
        for same in ["lib/data", "to/data", "data", "lib/up"] {
            assert_eq!(fs::read_to_string(live.join(same)).unwrap(), "data", "{same}");
        }
        assert!(!live.join("logs").exists() && !live.join("tmp").exists());
        let image = fs::metadata(live.join("disk.img")).unwrap();
        assert_eq!(image.len(), SPARSE_BYTES);
        assert!(image.blocks() * 512 < SPARSE_BYTES / 100, "{} blocks", image.blocks());
    });
}
