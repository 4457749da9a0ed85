//! The demo's three releases, written as anybody would write them: a program, its configuration, its data
//! and a description. The third forgets its data.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The service.
pub(super) const SERVICE: &str = "shop";
/// The first release.
pub(super) const FIRST: &str = "1.0.0";
/// A good one.
pub(super) const GOOD: &str = "1.1.0";
/// One that answers 500 on its health check.
pub(super) const BROKEN: &str = "2.0.0";
/// All, in the order in which they are published.
pub(super) const ALL: [&str; 3] = [FIRST, GOOD, BROKEN];

/// How the demo's releases go out: one host, then a quarter, then everyone, a third of them at once.
pub(super) const POLICY: &str = r#"service = "shop"
targets = "role=shop"
max_in_flight = "34%"       # of a wave, rounded down, at least one
failure_budget = 0          # the first failure ends it ...
on_breach = "revert"        # ... and puts the release before back
bake_secs = 1               # watch each wave before the next
host_bake_secs = 1          # watch each host before it counts
probe_deadline_secs = 5
progress_deadline_secs = 60

[[wave]]
name = "canary"
count = 1

[[wave]]
name = "quarter"
percent = 25

[[wave]]
name = "everyone"
percent = 100
"#;

const DESCRIPTION: &str = r#"[release]
service = "shop"
command = ["bin/shop"]

[[probe]]
kind = "exec"
argv = ["bin/shop", "--check"]
timeout_secs = 2
"#;

/// Writes one release's directory below `dir`; its path.
pub(super) fn write(dir: &Path, version: &str, program: &Path) -> io::Result<PathBuf> {
    let tree = dir.join(format!("{SERVICE}-{version}"));
    fs::create_dir_all(tree.join("bin"))?;
    fs::create_dir_all(tree.join("conf"))?;
    fs::copy(program, tree.join("bin/shop"))?;
    fs::set_permissions(tree.join("bin/shop"), fs::Permissions::from_mode(0o755))?;
    let configuration =
        format!("# What the shop is.\nname = shop\nversion = {version}\nstock = data/stock.txt\n");
    fs::write(tree.join("conf/shop.conf"), configuration)?;
    fs::write(tree.join("groundswell.toml"), DESCRIPTION)?;
    if version != BROKEN {
        fs::create_dir_all(tree.join("data"))?;
        fs::write(tree.join("data/stock.txt"), format!("lamps\nchairs\ntables of {version}\n"))?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack;
    use crate::spec::Spec;

    #[test]
    fn releases_differ_and_the_broken_one_lacks_its_data() {
        let dir = tempfile::tempdir().expect("dir");
        let program = Path::new("/bin/true");
        let trees = ALL.map(|version| write(dir.path(), version, program).expect("write"));
        let digests = trees.clone().map(|tree| pack::walk(&tree).expect("walk").digest());
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
        assert!(trees[1].join("data/stock.txt").exists());
        assert!(!trees[2].join("data/stock.txt").exists());
        let spec = Spec::load(&trees[0], None).expect("description");
        assert_eq!((spec.release.command.len(), spec.probes().len()), (1, 1));
        toml::from_str::<toml::Table>(POLICY).expect("the policy is TOML");
    }
}
