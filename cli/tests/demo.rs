//! `swell demo` with the real coordinator and agents, which must have been built (`tests/run` does): the whole
//! story with what it measured, and Ctrl-C in the middle of it. Nothing may be left of either.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Longest that a demo may take on a busy machine.
const DEMO_MAX: Duration = Duration::from_secs(240);

fn demo(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_swell"));
    command.args(args).args(["demo", "--hosts", "4", "--dir"]).arg(dir).stdin(Stdio::null());
    command
}

fn end(mut child: Child) -> i32 {
    let limit = Instant::now() + DEMO_MAX;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if Instant::now() > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the demo was not over after {DEMO_MAX:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Processes that were started with a path below `dir`, or work there.
fn left(dir: &Path) -> Vec<String> {
    let name = dir.to_string_lossy();
    let ours = |process: &Path| {
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let cwd = fs::read_link(process.join("cwd")).unwrap_or_default();
        (arguments.contains(name.as_ref()) || cwd.starts_with(dir)).then_some(arguments)
    };
    fs::read_dir("/proc").unwrap().filter_map(|entry| ours(&entry.unwrap().path())).collect()
}

/// What a line says, without times, numbers and how many they are.
fn words(line: &str) -> String {
    let plain = line.replace("hosts", "host");
    let plain: String = plain.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lines of the page's transcript that the program prints while it runs.
fn transcript() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, block) = page.split_once("$ swell demo\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let during = |line: &&str| line.starts_with(' ') && line.trim() != "...";
    block.lines().filter(during).map(words).collect()
}

#[test]
fn three_releases_go_through_a_real_fleet_and_nothing_is_left() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, picture) = (temp.path().join("fleet"), temp.path().join("demo.svg"));
    let out = fs::File::create(temp.path().join("out")).unwrap();
    let err = fs::File::create(temp.path().join("err")).unwrap();
    let mut command = demo(&dir, &["--json"]);
    let child = command.arg("--svg").arg(&picture).stdout(out).stderr(err).spawn().unwrap();
    let code = end(child);
    let said = fs::read_to_string(temp.path().join("err")).unwrap();
    assert_eq!(code, 0, "{said}");
    let lines: Vec<String> = said.lines().map(words).collect();
    let transcript = transcript();
    assert!(transcript.len() > 10, "{transcript:?}");
    for line in transcript {
        assert!(
            lines.contains(&line),
            "README.md: the demo does not say {line:?}; it says\n{said}"
        );
    }
    let text = fs::read_to_string(temp.path().join("out")).unwrap();
    let summary: Value = serde_json::from_str(&text).unwrap();
    let hosts = summary["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 4);
    assert!(hosts.iter().all(|host| host["first_ms"].is_u64() && host["good_ms"].is_u64()));
    let broken: Vec<&Value> = hosts.iter().filter(|host| host["broken_ms"].is_u64()).collect();
    assert_eq!(broken.len(), 1, "the broken release reached its canary alone");
    assert_eq!(broken[0]["host"], summary["revert"]["host"]);
    assert!(summary["ledger_entries"].as_u64().unwrap() > 20, "{text}");
    assert!(fs::read_to_string(&picture).unwrap().ends_with("</svg>\n"));
    assert!(!dir.exists(), "the folder is removed");
    assert_eq!(left(temp.path()), [""; 0]);
}

#[test]
fn an_interrupted_demo_cleans_up() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("fleet");
    let mut child = demo(&dir, &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let enrolled = lines.any(|line| line.unwrap().contains("4 agents enrolled"));
    assert!(enrolled, "the demo ended before its agents were enrolled");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    assert!(lines.any(|line| line.unwrap().contains("nothing is left running")));
    assert_eq!(end(child), 1);
    assert!(!dir.exists(), "the folder is removed");
    assert_eq!(left(temp.path()), [""; 0]);
}
