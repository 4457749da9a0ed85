//! What `swell publish` records of where a tree comes from, asked of the program itself.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

fn git(dir: &Path, args: &[&str]) -> String {
    let ann = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-C"];
    let output = Command::new("git").args(ann).arg(dir).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A repository with one commit and a tree of one program in it.
fn repository() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    git(dir.path(), &["init", "-q"]);
    git(dir.path(), &["commit", "-q", "--allow-empty", "-m", "one"]);
    fs::create_dir(dir.path().join("dist")).unwrap();
    let program = dir.path().join("dist/run");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let spec = "[release]\nservice = \"shop\"\ncommand = [\"run\"]\n";
    fs::write(dir.path().join("dist/groundswell.toml"), spec).unwrap();
    let head = git(dir.path(), &["rev-parse", "HEAD"]);
    (dir, head)
}

fn dry_run(dir: &Path, name: &str, value: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swell"));
    command.args(["publish", "--version", "1", "--dry-run"]).arg(dir.join("dist"));
    let output = command.env(name, value).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

#[test]
fn a_variable_that_turns_git_to_another_repository_is_said_and_not_followed() {
    let (dir, head) = repository();
    let (other, _) = repository();
    git(other.path(), &["commit", "-q", "--allow-empty", "-m", "two"]);
    let output = dry_run(dir.path(), "GIT_DIR", other.path().join(".git").to_str().unwrap());
    let (said, warned) = (text(&output.stdout), text(&output.stderr));
    assert!(said.contains(&format!("commit {head}")) && !said.contains("-dirty"), "{said}");
    assert!(warned.contains("GIT_DIR is set and not followed"), "{warned}");
}

/// A job runs as root in a checkout of somebody else, as in containers of build services.
#[test]
fn a_checkout_of_somebody_else_is_said_to_have_no_commit() {
    let (dir, head) = repository();
    // What git itself takes for the test of its own refusal.
    let output = dry_run(dir.path(), "GIT_TEST_ASSUME_DIFFERENT_OWNER", "1");
    let (said, warned) = (text(&output.stdout), text(&output.stderr));
    assert!(!said.contains(&head), "{said}");
    assert!(warned.contains("the release gets no commit and no authors: git says: "), "{warned}");
    assert!(warned.contains("safe.directory"), "{warned}");
}
