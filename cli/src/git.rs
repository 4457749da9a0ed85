//! What git knows of a tree: commit, time, authors and the commits since the release that runs now. Asks
//! git by argument vector, within bounds; a tree outside any repository simply has no source.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use groundswell_common::limits::SOURCE_COMMITS_MAX;
use groundswell_common::manifest::Source;

/// Longest wait for git.
const GIT_MAX: Duration = Duration::from_secs(5);
/// Most output of git that is read, in bytes.
const OUTPUT_MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Commits listed where the release before has no commit in this repository.
const COMMITS_WITHOUT_RANGE: usize = 20;
/// Longest line of a commit, in characters.
const SUBJECT_MAX_CHARS: usize = 200;

/// The source of the work tree at `root`, its commits being those after `since` where git knows it.
pub(crate) fn source(root: &Path, since: Option<&str>) -> Source {
    let Some(head) = git(root, &["log", "-1", "--format=%H %ct", "HEAD"]) else {
        return Source::default();
    };
    let (commit, time) = head.trim().split_once(' ').unwrap_or((head.trim(), ""));
    let range = since
        .filter(|since| is_commit(since) && *since != commit)
        .map(|since| format!("{since}..HEAD"))
        .and_then(|range| log(root, &range, SOURCE_COMMITS_MAX));
    let lines = match (range, since == Some(commit)) {
        (Some(lines), _) => lines,
        (None, true) => Vec::new(),
        (None, false) => log(root, "HEAD", COMMITS_WITHOUT_RANGE).unwrap_or_default(),
    };
    let mut authors: Vec<String> = lines.iter().map(|(author, _)| author.clone()).collect();
    authors.sort();
    authors.dedup();
    Source {
        commit: Some(commit.to_owned()),
        commit_time: time.parse().ok(),
        authors,
        commits: lines.into_iter().map(|(_, line)| line).collect(),
        build_url: None,
        notes: None,
    }
}

/// Author and "COMMIT SUBJECT" of each commit, newest first.
fn log(root: &Path, range: &str, count: usize) -> Option<Vec<(String, String)>> {
    let count = format!("--max-count={count}");
    let text = git(root, &["log", &count, "--format=%an%x09%h %s", "--end-of-options", range])?;
    let line = |line: &str| {
        let (author, subject) = line.split_once('\t')?;
        let cut = |text: &str| text.chars().take(SUBJECT_MAX_CHARS).collect::<String>();
        Some((cut(author), cut(subject)))
    };
    Some(text.lines().filter_map(line).collect())
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Output of git in `root`; `None` when git is missing, fails, or takes too long.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(args)
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let stdout = child.stdout.take()?;
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        stdout.take(OUTPUT_MAX_BYTES).read_to_end(&mut text).map(|_| text)
    });
    let end = Instant::now() + GIT_MAX;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => break None,
        }
    };
    if status.is_none() {
        // It may have ended by itself meanwhile; either way it is waited for.
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = reader.join().ok()?.ok()?;
    status.filter(|status| status.success())?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &Path, args: &[&str]) {
        let status = Command::new("git")
            .arg("-C")
            .arg(dir)
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com"])
            .args(args)
            .stdout(Stdio::null())
            .status()
            .expect("git");
        assert!(status.success(), "git {args:?}");
    }

    #[test]
    fn a_work_tree_tells_its_commit_and_those_since_the_last_release() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(source(dir.path(), None), Source::default());
        run(dir.path(), &["init", "-q"]);
        for subject in ["one", "two", "three"] {
            run(dir.path(), &["commit", "-q", "--allow-empty", "-m", subject]);
        }
        let whole = source(dir.path(), None);
        assert_eq!(whole.authors, ["Ann"]);
        assert_eq!(whole.commits.len(), 3);
        assert!(whole.commits[0].ends_with(" three"), "{:?}", whole.commits);
        assert!(whole.commit_time.is_some());
        let head = whole.commit.clone().expect("commit");
        assert_eq!(source(dir.path(), Some(&head)).commits, [""; 0]);
        run(dir.path(), &["commit", "-q", "--allow-empty", "-m", "four"]);
        let since = source(dir.path(), Some(&head));
        assert_eq!(since.commits.len(), 1);
        assert!(since.commits[0].ends_with(" four"));
        let unknown = source(dir.path(), Some(&"0".repeat(40)));
        assert_eq!(unknown.commits.len(), 4, "an unknown commit falls back to the newest few");
    }
}
