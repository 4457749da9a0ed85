//! Holds what style can be held by a test: layout, one place per dependency, purity of the cores,
//! what each crate uses, lengths, words that must not stand in the tree, links that lead somewhere, tests that
//! the docs name.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Files that git tracks (or would track), relative to the root.
fn files() -> Vec<PathBuf> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(listing.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listing.stderr));
    let text = String::from_utf8(listing.stdout).unwrap();
    text.lines().map(PathBuf::from).filter(|path| root().join(path).is_file()).collect()
}

fn texts(endings: &[&str]) -> Vec<(String, String)> {
    let wanted = |path: &PathBuf| {
        path.extension().and_then(|e| e.to_str()).is_some_and(|e| endings.contains(&e))
    };
    let read = |path: PathBuf| {
        (path.to_string_lossy().into_owned(), std::fs::read_to_string(root().join(path)).unwrap())
    };
    files().into_iter().filter(wanted).map(read).collect()
}

fn rust() -> Vec<(String, String)> {
    let sources = texts(&["rs"]);
    assert!(sources.len() > 50, "the tree has its sources");
    sources
}

/// The part of a source before its tests.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn each_named_crate_has_one_home() {
    let homes = [
        ("bincode::", "common/src/codec.rs"),
        ("sha2::", "common/src/digest.rs"),
        ("ed25519_dalek::", "common/src/trust/key.rs"),
        ("sled::", "coordinator/src/store/"),
        ("zbus::", "agent/src/units/"),
        ("unicode_normalization::", "common/src/manifest.rs"),
    ];
    let findings = rust()
        .iter()
        .filter(|(path, _)| path.contains("/src/"))
        .flat_map(|(path, text)| {
            homes
                .iter()
                .filter(|(name, home)| product(text).contains(name) && !path.starts_with(home))
                .map(move |(name, home)| format!("{path} names {name}, whose home is {home}"))
        })
        .collect();
    none(findings);
}

#[test]
fn the_pure_parts_do_no_io_and_read_no_clock() {
    let banned = [
        "std::fs",
        "std::net",
        "std::process",
        "std::thread",
        "std::env::var",
        "SystemTime",
        "Instant",
        "tokio",
        "tracing",
        "getrandom",
        "HashMap",
        "HashSet",
        "println!",
    ];
    let pure = |path: &str| {
        path.starts_with("common/src/")
            || path.starts_with("coordinator/control/src/")
            || path.starts_with("coordinator/rollout/src/")
            || path.starts_with("agent/machine/src")
    };
    let findings = rust()
        .iter()
        .filter(|(path, _)| pure(path))
        .flat_map(|(path, text)| {
            let code = product(text).lines().filter(|line| !line.trim_start().starts_with("//"));
            let code: String = code.collect::<Vec<_>>().join("\n");
            banned
                .into_iter()
                .filter(move |word| code.contains(word))
                .map(move |word| format!("{path} uses {word}"))
        })
        .collect();
    none(findings);
}

#[test]
fn agent_and_coordinator_never_import_each_other() {
    let manifest =
        |folder: &str| std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    assert!(!manifest("agent").contains("groundswell-coordinator"));
    assert!(!manifest("agent").contains("groundswell-rollout"));
    assert!(!manifest("coordinator").contains("groundswell-agent"));
    for folder in ["coordinator/control", "coordinator/rollout"] {
        for name in ["groundswell-net", "tokio", "sled", "tracing"] {
            assert!(!manifest(folder).contains(name), "{folder} depends on {name}");
        }
    }
}

/// The parts of a text between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).map(|name| name.trim_end_matches('/')).collect()
}

#[test]
fn the_code_map_says_what_each_crate_uses() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (workspace, map) = (read("Cargo.toml"), read("ARCHITECTURE.md"));
    let crates: Vec<(&str, &str)> = workspace
        .lines()
        .filter(|line| line.starts_with("groundswell-"))
        .filter_map(|line| Some((line.split_once(' ')?.0, line.split('"').nth(1)?)))
        .collect();
    assert!(crates.len() > 5, "the workspace has its crates");
    let mut findings = Vec::new();
    for row in map.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [folder, _, may_use] = cells.as_slice() else { continue };
        let folder = quoted(folder).first().copied().unwrap_or_default();
        let manifest = format!("{folder}/Cargo.toml");
        if !root().join(&manifest).is_file() {
            continue;
        }
        let manifest = read(&manifest);
        let uses = |name: &str| {
            let named = |line: &str| line.split(['.', ' ']).next() == Some(name);
            manifest.lines().any(named)
        };
        let used: BTreeSet<&str> =
            crates.iter().filter(|(name, _)| uses(name)).map(|(_, folder)| *folder).collect();
        if used != quoted(may_use) {
            findings.push(format!("ARCHITECTURE.md: {folder} uses {used:?}"));
        }
    }
    none(findings);
}

#[test]
fn messages_use_no_attribute_that_a_positional_codec_cannot_carry() {
    let carried = [
        "common/src/wire/",
        "common/src/report.rs",
        "coordinator/rollout/src/state.rs",
        "agent/src/relay/message.rs",
    ];
    let banned = ["untagged", "flatten", "skip_serializing_if", "serde(tag"];
    let findings = rust()
        .iter()
        .filter(|(path, _)| carried.iter().any(|home| path.starts_with(home)))
        .flat_map(|(path, text)| {
            banned
                .into_iter()
                .filter(move |word| text.contains(word))
                .map(move |word| format!("{path} uses {word}"))
        })
        .collect();
    none(findings);
}

#[test]
fn files_lines_and_pages_keep_their_lengths() {
    let mut findings = Vec::new();
    for (path, text) in texts(&["rs", "md", "toml", "service"]) {
        let widest = if path.ends_with(".md") { 140 } else { 120 };
        for (at, line) in text.lines().enumerate() {
            if line.chars().count() > widest && !line.starts_with('|') {
                findings.push(format!("{path}:{} is wider than {widest} columns", at + 1));
            }
        }
        let most = match path.as_str() {
            p if p.starts_with("docs/decisions/") => 60,
            p if p.starts_with("docs/") => 300,
            p if p.ends_with(".rs") && p.contains("/src/") => 900,
            _ => usize::MAX,
        };
        let lines = text.lines().count();
        if lines > most {
            findings.push(format!("{path} has {lines} lines, at most {most}"));
        }
    }
    none(findings);
}

#[test]
fn rust_files_say_what_they_own() {
    let findings = rust()
        .iter()
        .filter(|(path, _)| !path.ends_with("tests.rs") && !path.starts_with("fuzz/"))
        .filter(|(_, text)| !text.lines().take(3).any(|line| line.starts_with("//!")))
        .map(|(path, _)| format!("{path} does not begin with //!"))
        .collect();
    none(findings);
}

#[test]
fn words_that_must_not_stand_in_the_tree() {
    let banned = [
        concat!("FIX", "ME"),
        concat!("X", "XX"),
        concat!("todo", "!("),
        concat!("#[ig", "nore"),
        concat!("#[al", "low("),
        concat!("/wo", "rk/"),
        concat!("../sha", "red"),
        concat!("mod uti", "ls"),
    ];
    let mut findings = Vec::new();
    for (path, text) in texts(&["rs", "md", "toml", "sh", "py", "service"]) {
        for (at, line) in text.lines().enumerate() {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{path}:{}: {word}", at + 1));
            }
        }
    }
    none(findings);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut findings = Vec::new();
    for (path, text) in texts(&["md"]) {
        let folder = root().join(&path).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap();
            let outside = target.is_empty() || target.contains("://");
            if !outside && !folder.join(target).exists() {
                findings.push(format!("{path} links to {target}, which is not there"));
            }
        }
    }
    none(findings);
}

/// The tests that a row of docs/traps.md names, as file and function.
fn tests_named(row: &str) -> Vec<(&str, &str)> {
    row.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

#[test]
fn each_trap_and_wish_has_one_row_and_its_tests_are_there() {
    let page = std::fs::read_to_string(root().join("docs/traps.md")).unwrap();
    let rows: Vec<(&str, &str)> = page
        .lines()
        .filter_map(|row| Some((row.strip_prefix("| ")?.split_once(" |")?.0, row)))
        .filter(|(number, _)| number.starts_with(['T', 'U']))
        .collect();
    let traps = (1..=86).map(|number| format!("T{number}"));
    let wanted: Vec<String> = traps.chain((1..=41).map(|number| format!("U{number}"))).collect();
    let found: Vec<&str> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(found, wanted, "one row each, in order");
    let mut findings = Vec::new();
    for (number, row) in rows {
        let named = tests_named(row);
        if named.is_empty() && (number.starts_with('T') || !row.ends_with("| none |")) {
            findings.push(format!("docs/traps.md: {number} names no test"));
        }
        for (path, name) in named {
            let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            let test = text.split(&format!("fn {name}(")).next().filter(|before| *before != text);
            let is_test = test.is_some_and(|before| {
                let mut above = before.lines().rev().skip_while(|line| !line.contains("#["));
                above.next().is_some_and(|line| line.contains("test"))
            });
            if !is_test {
                findings.push(format!("docs/traps.md: {number}: {path} has no test {name}"));
            }
        }
    }
    none(findings);
}
