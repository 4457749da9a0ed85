//! The first hour as README.md tells it: its blocks are taken from the page and typed as they stand, by a
//! person with an account and sudo, on hosts with a real systemd and the packages. Only a token is put in the
//! place of `gsw1.…`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Output;

use groundswell_tests::bins::{bin, package};
use groundswell_tests::fleet::{ROLLOUT_BOUND, describe};
use groundswell_tests::hosts::{Bed, Host, bed};
use groundswell_tests::wait::until;

/// Who types.
const ANN: &str = "ann";
const HOME: &str = "/home/ann";
/// Where the packages were copied to.
const SHELF: &str = "/opt/packages";
const COORDINATOR_NAME: &str = "deploy.example";
/// What stands in the page for a token.
const TOKEN: &str = "gsw1.…";

/// One fenced block of the page.
#[derive(Clone, Debug)]
struct Block {
    kind: String,
    text: String,
}

/// The blocks of the section about a real fleet, up to what to do when something is wrong, in order.
fn blocks() -> Vec<Block> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = fs::read_to_string(page).unwrap();
    let section = page.split("\n## A real fleet in ten minutes\n").nth(1).unwrap();
    let section = section.split("\n### 5. ").next().unwrap();
    let fenced = section.split("\n```").collect::<Vec<_>>();
    assert_eq!(fenced.len() % 2, 1, "a block is not closed");
    let block = |text: &&str| {
        let (kind, text) = text.split_once('\n').unwrap();
        Block { kind: kind.to_owned(), text: text.to_owned() }
    };
    fenced.iter().skip(1).step_by(2).map(block).collect()
}

/// The next block, which must be of this kind and begin so: a page that goes another way must be followed here.
fn next<'a>(blocks: &mut impl Iterator<Item = &'a Block>, kind: &str, begins: &str) -> &'a str {
    let block = blocks.next().unwrap_or_else(|| panic!("README has no block {begins:?} any more"));
    assert!(block.kind == kind && block.text.starts_with(begins), "want {begins:?}: {block:?}");
    &block.text
}

/// Types a block into a login shell of Ann, in this directory.
fn type_in(host: &Host, dir: &str, block: &str) -> Output {
    let script = format!("set -e\ncd {dir}\n{block}\n");
    let path = format!("{HOME}/typed");
    host.install_file(&path, script.as_bytes(), 0o755);
    host.exec(&["runuser", "--login", ANN, "--command", "bash ~/typed"])
}

fn typed(host: &Host, dir: &str, block: &str) -> String {
    let output = type_in(host, dir, block);
    assert!(output.status.success(), "{}: {block}\n{}", host.name(), describe(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A host that is new but for Ann's account and the packages that were copied to it.
fn boot(bed: &mut Bed, name: &str, deploy: Option<&Host>) -> Host {
    let mut host = bed.host_for_packages(name);
    host.share(&bed.dir().join("packages"), SHELF);
    let deploy = deploy.unwrap_or(&host).addr();
    let names = format!("127.0.0.1 localhost {name}\n{deploy} {COORDINATOR_NAME}\n");
    host.install_file("/etc/hosts", names.as_bytes(), 0o644);
    host.install_file("/etc/sudoers.d/ann", b"ann ALL=(ALL) NOPASSWD: ALL\n", 0o440);
    host.power_on();
    host.wait_up();
    host.exec_ok(&["useradd", "--create-home", "--shell", "/bin/bash", ANN]);
    host
}

#[test]
fn the_first_hour_is_as_the_page_says() {
    bed("the_first_hour_is_as_the_page_says", |bed| {
        let blocks = blocks();
        let mut page = blocks.iter();
        let shelf = bed.dir().join("packages");
        fs::create_dir(&shelf).unwrap();
        for name in ["groundswell-agent", "groundswell-coordinator", "groundswell-cli"] {
            let package = package(name);
            fs::copy(&package, shelf.join(package.file_name().unwrap())).unwrap();
        }
        let deploy = boot(bed, "deploy", None);
        let hosts = ["web-1", "web-2"].map(|name| boot(bed, name, Some(&deploy)));

        let said =
            typed(&deploy, SHELF, next(&mut page, "sh", "sudo apt install ./groundswell-coord"));
        // What it prints as the next steps is what the page says.
        let steps = next(&mut page, "sh", "mkdir -p ~/.config/groundswell");
        for line in
            ["systemctl start groundswell-coordinator", "admin.profile ~/.config/groundswell"]
        {
            assert!(said.contains(line), "{said}");
        }
        typed(&deploy, "~", steps);
        let owners = deploy.exec_ok(&["stat", "--format=%U", &format!("{HOME}/.config")]);
        assert_eq!(owners, ANN, "her directories are hers");

        let line = next(&mut page, "sh", "swell host enroll-token --label role=web");
        let tokens = typed(&deploy, "~", line);
        let tokens: Vec<&str> = tokens.lines().filter(|line| line.starts_with("gsw1.")).collect();
        assert_eq!(tokens.len(), hosts.len(), "{tokens:?}");
        let agent = next(&mut page, "sh", "sudo apt install ./groundswell-agent");
        let unit = next(&mut page, "ini", "# /etc/systemd/system/shop.service");
        let enable = next(&mut page, "sh", "sudo systemctl daemon-reload");
        assert!(agent.contains(TOKEN), "{agent}");
        for (host, token) in hosts.iter().zip(tokens) {
            let said = typed(host, SHELF, &agent.replace(TOKEN, token));
            assert!(said.contains("groundswell-agent groundswell-apply"), "the next step: {said}");
            host.install_file("/etc/systemd/system/shop.service", unit.as_bytes(), 0o644);
            // Doctor ends with 1 until the agent, just started, has connected.
            let found = until("a host that is well", ROLLOUT_BOUND, || {
                let found = type_in(host, "~", enable);
                found.status.success().then(|| String::from_utf8_lossy(&found.stdout).into_owned())
            });
            assert!(found.contains("connected to the coordinator since"), "{found}");
        }
        let listed = typed(&deploy, "~", "swell host ls");
        assert!(listed.contains("web-1") && listed.contains("web-2"), "{listed}");

        // The wizard leaves a whole policy where it is answered, also after a slip.
        let answers = "printf 'shop\\nrole=web\\nmany hosts\\n2\\n\\n\\n'";
        let wizard = format!(
            "{answers} | script --quiet --return --command 'swell service new --out w.toml'"
        );
        typed(&deploy, "~", &wizard);
        typed(&deploy, "~", "swell simulate --policy w.toml --hosts 2");

        let policy = next(&mut page, "toml", "# shop.toml");
        deploy.install_file(&format!("{HOME}/shop.toml"), policy.as_bytes(), 0o644);
        typed(&deploy, "~", next(&mut page, "sh", "swell simulate --policy shop.toml"));

        let dist = format!("{HOME}/dist");
        let spec = next(&mut page, "toml", "# dist/groundswell.toml");
        deploy.install_file(&format!("{dist}/groundswell.toml"), spec.as_bytes(), 0o644);
        // What the build made: a program that answers on the port that the page probes.
        let program = fs::read(bin("faulty")).unwrap();
        deploy.install_file(&format!("{dist}/bin/shop"), &program, 0o755);
        deploy.install_file(&format!("{dist}/etc/fault"), b"1.0.0 none 0\n", 0o644);
        typed(&deploy, "~", next(&mut page, "sh", "swell publish --version 1.0.0 --wait ./dist"));
        assert!(page.next().is_none(), "the page has a block that nobody types here");

        for mut host in hosts {
            let active = || host.exec_ok(&["systemctl", "is-active", "shop"]);
            assert_eq!(active(), "active", "{}", host.name());
            let found = host.exec(&["groundswell-agent", "doctor"]);
            assert!(found.status.success(), "{}", describe(&found));
            // Enabled, it comes up although the agent is gone.
            host.exec_ok(&["dpkg", "--remove", "groundswell-agent"]);
            host.power_off();
            host.power_on();
            host.wait_up();
            assert_eq!(host.exec_ok(&["systemctl", "is-active", "shop"]), "active");
        }
    });
}
