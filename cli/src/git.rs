//! What git knows of a tree: commit, time, authors and the commits since the release that runs now. Asks
//! git by argument vector, within bounds; a tree outside any repository simply has no source.

use std::env;
use std::io::Read;
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

/// End of a commit's name where tracked files differ from it, as `git describe --dirty` says it.
const DIRTY: &str = "-dirty";
/// What turns git away from the repository that a tree lies in.
const FOREIGN: [&str; 5] =
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY"];

/// Where a tree comes from, and what people should be told about how sure that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// What is known.
    pub(crate) source: Source,
    /// Why nothing is known although there is a repository; kept with the release.
    pub(crate) unknown: Option<String>,
    /// To be said now, a line each.
    pub(crate) said: Vec<String>,
}

/// Why git said nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Silent {
    /// The tree is in no repository, or in one without a commit.
    NoRepository,
    /// A repository that cannot be asked, and why.
    Refused(String),
}

/// The commit without the mark of uncommitted changes.
pub(crate) fn bare(commit: &str) -> &str {
    commit.strip_suffix(DIRTY).unwrap_or(commit)
}

/// The source of the work tree at `root`, its commits being those after `since` where git knows it.
pub(crate) fn source(root: &Path, since: Option<&str>) -> Provenance {
    let mut told = Provenance::default();
    let foreign = FOREIGN.into_iter().find(|name| env::var_os(name).is_some());
    if let Some(name) = foreign {
        told.said.push(format!(
            "{name} is set and not followed: the commit is that of the repository that {} lies in",
            root.display()
        ));
    }
    match git(root, &["log", "-1", "--format=%H %ct", "HEAD"]) {
        Ok(head) => told.source = at_head(root, &head, since.map(bare)),
        Err(Silent::NoRepository) => return told,
        Err(Silent::Refused(why)) => {
            told.said.push(format!(
                "the release gets no commit and no authors: {why}; give --commit, or let git read \
                 the repository (git config --global --add safe.directory DIRECTORY)"
            ));
            told.unknown = Some(format!("no commit is known: {why}"));
            return told;
        }
    }
    let changed = ["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=none"];
    match git(root, &changed).map(|text| text.lines().count()) {
        Ok(0) => {}
        Ok(files) => {
            if let Some(commit) = &mut told.source.commit {
                commit.push_str(DIRTY);
            }
            told.said.push(format!(
                "{files} tracked {} uncommitted changes; the release records {}",
                if files == 1 { "file has" } else { "files have" },
                told.source.commit.as_deref().unwrap_or_default(),
            ));
        }
        Err(Silent::NoRepository) => {}
        Err(Silent::Refused(why)) => {
            told.said.push(format!("nobody knows whether tracked files were changed: {why}"));
        }
    }
    told
}

fn at_head(root: &Path, head: &str, since: Option<&str>) -> Source {
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
    let text = git(root, &["log", &count, "--format=%an%x09%h %s", "--end-of-options", range]);
    let text = text.ok()?;
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

/// Output of git in `root`, which is asked about the repository that `root` lies in and no other.
fn git(root: &Path, args: &[&str]) -> Result<String, Silent> {
    let refused = |why: &str| Silent::Refused(why.to_owned());
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(args).env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C");
    // Looking at a tree changes nothing in its repository, not even git's own notes on the index.
    command.env("GIT_OPTIONAL_LOCKS", "0");
    for name in FOREIGN {
        command.env_remove(name);
    }
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| no_git(root, &error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reader = thread::spawn(move || read(stdout));
    let complaints = thread::spawn(move || read(stderr));
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
    let text = reader.join().map_err(|_| refused("git's output cannot be read"))?;
    let complaint = complaints.join().unwrap_or_default();
    match status {
        None => Err(refused("git did not end within 5 s")),
        Some(status) if status.success() => Ok(text),
        Some(_) => Err(complained(&complaint)),
    }
}

fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is all that there is; git's exit code says whether it is whole.
    let _ = from.map(|from| from.take(OUTPUT_MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Without git a repository is not read, which matters only where there is one.
fn no_git(root: &Path, error: &std::io::Error) -> Silent {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    if root.ancestors().any(|above| above.join(".git").exists()) {
        return Silent::Refused(format!("git cannot be run ({error})"));
    }
    Silent::NoRepository
}

fn complained(text: &str) -> Silent {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let line: String = line.trim_start_matches("fatal: ").chars().take(SUBJECT_MAX_CHARS).collect();
    let nothing = ["not a git repository", "ambiguous argument 'HEAD'", "bad revision 'HEAD'"];
    if nothing.iter().any(|known| line.contains(known)) {
        return Silent::NoRepository;
    }
    Silent::Refused(format!("git says: {line}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let source = |since: Option<&str>| source(dir.path(), since).source;
        assert_eq!(super::source(dir.path(), None), Provenance::default());
        run(dir.path(), &["init", "-q"]);
        assert_eq!(super::source(dir.path(), None), Provenance::default(), "no commit yet");
        for subject in ["one", "two", "three"] {
            run(dir.path(), &["commit", "-q", "--allow-empty", "-m", subject]);
        }
        let whole = source(None);
        assert_eq!(whole.authors, ["Ann"]);
        assert_eq!(whole.commits.len(), 3);
        assert!(whole.commits[0].ends_with(" three"), "{:?}", whole.commits);
        assert!(whole.commit_time.is_some());
        let head = whole.commit.clone().expect("commit");
        assert_eq!(source(Some(&head)).commits, [""; 0]);
        run(dir.path(), &["commit", "-q", "--allow-empty", "-m", "four"]);
        for since in [head.clone(), head + DIRTY] {
            let since = source(Some(&since));
            assert_eq!(since.commits.len(), 1);
            assert!(since.commits[0].ends_with(" four"));
        }
        let unknown = source(Some(&"0".repeat(40)));
        assert_eq!(unknown.commits.len(), 4, "an unknown commit falls back to the newest few");
    }

    #[test]
    fn changes_that_nobody_committed_are_recorded_and_said() {
        let dir = tempfile::tempdir().expect("dir");
        run(dir.path(), &["init", "-q"]);
        fs::write(dir.path().join("a"), "1").expect("write");
        run(dir.path(), &["add", "a"]);
        run(dir.path(), &["commit", "-q", "-m", "one"]);
        fs::create_dir(dir.path().join("dist")).expect("mkdir");
        fs::write(dir.path().join("dist/new"), "built").expect("write");
        let clean = source(&dir.path().join("dist"), None);
        let commit = clean.source.commit.expect("commit");
        assert!(clean.said.is_empty() && commit.len() == 40, "what is not tracked is no change");
        fs::write(dir.path().join("a"), "2").expect("write");
        let dirty = source(&dir.path().join("dist"), None);
        assert_eq!(dirty.source.commit, Some(format!("{commit}-dirty")));
        let said =
            format!("1 tracked file has uncommitted changes; the release records {commit}-dirty");
        assert_eq!(dirty.said, [said]);
        assert_eq!(bare(&format!("{commit}-dirty")), commit);
    }

    #[test]
    fn a_repository_that_git_refuses_is_not_passed_over() {
        let why = "fatal: detected dubious ownership in repository at '/src'\nTo add an exception";
        let want = "git says: detected dubious ownership in repository at '/src'";
        assert_eq!(complained(why), Silent::Refused(want.into()));
        let none = "fatal: not a git repository (or any of the parent directories): .git\n";
        assert_eq!(complained(none), Silent::NoRepository);
        let dir = tempfile::tempdir().expect("dir");
        run(dir.path(), &["init", "-q"]);
        fs::write(dir.path().join(".git/config"), "[broken").expect("write");
        let told = source(dir.path(), None);
        let unknown = told.unknown.expect("recorded");
        assert!(unknown.starts_with("no commit is known: git says: "), "{unknown}");
        assert!(told.said[0].starts_with("the release gets no commit and no authors: git says: "));
    }
}
