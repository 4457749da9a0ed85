//! Paths inside a release: relative, plain and unable to leave their directory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{PATH_MAX_BYTES, PATH_PART_MAX_BYTES};

/// A relative path of a file or link in a release: no empty part, no `.` or `..`, no NUL or other
/// control character, no backslash, parts of at most 255 bytes, at most 1,024 bytes in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

/// Why a text is no path inside a release.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum PathError {
    /// Nothing, or a part with nothing in it (`a//b`, a leading or trailing `/`).
    #[error("read path {0:?}: empty part; give a relative path such as bin/shop")]
    Empty(String),
    /// A part that is `.` or `..`.
    #[error("read path {0:?}: '.' and '..' are refused; give the plain path")]
    Climbs(String),
    /// NUL, another control character or a backslash.
    #[error("read path {0:?}: control characters and backslashes are refused; rename the file")]
    Character(String),
    /// A part or the whole is too long.
    #[error("read path {0:?}: at most 255 bytes a part and 1024 in all; shorten it")]
    Long(String),
}

impl TreePath {
    /// The path as text, parts separated by `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts from the top down.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Every directory above this path, longest first, without the empty one.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.char_indices().rev().filter(|(_, c)| *c == '/').map(|(at, _)| &self.0[..at])
    }

    /// Whether a symlink at this path to `target` stays inside the tree. Absolute targets never do, and
    /// `..` may stand in front only: behind a name it would climb from wherever that name leads.
    #[must_use]
    pub fn link_stays_inside(&self, target: &str) -> bool {
        if target.is_empty() || target.starts_with('/') || target.len() > PATH_MAX_BYTES {
            return false;
        }
        let (mut depth, mut climbs) = (self.parts().count().saturating_sub(1), true);
        for part in target.split('/') {
            match part {
                "" => return false,
                "." => {}
                ".." if depth == 0 || !climbs => return false,
                ".." => depth -= 1,
                part if part.chars().any(is_refused) || part.len() > PATH_PART_MAX_BYTES => {
                    return false;
                }
                _ => climbs = false,
            }
        }
        true
    }
}

fn is_refused(c: char) -> bool {
    c.is_control() || c == '\\'
}

impl FromStr for TreePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let shown = || text.chars().take(80).collect::<String>();
        if text.len() > PATH_MAX_BYTES || text.split('/').any(|p| p.len() > PATH_PART_MAX_BYTES) {
            return Err(PathError::Long(shown()));
        }
        if text.split('/').any(str::is_empty) {
            return Err(PathError::Empty(shown()));
        }
        if text.split('/').any(|part| part == "." || part == "..") {
            return Err(PathError::Climbs(shown()));
        }
        if text.chars().any(is_refused) {
            return Err(PathError::Character(shown()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TreePath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        text.parse()
    }
}

impl From<TreePath> for String {
    fn from(path: TreePath) -> String {
        path.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defect_has_its_error() {
        let long = "a".repeat(256);
        for (text, want) in [
            ("", PathError::Empty(String::new())),
            ("/etc/passwd", PathError::Empty("/etc/passwd".into())),
            ("a//b", PathError::Empty("a//b".into())),
            ("a/", PathError::Empty("a/".into())),
            ("..", PathError::Climbs("..".into())),
            ("a/../b", PathError::Climbs("a/../b".into())),
            ("./a", PathError::Climbs("./a".into())),
            ("a\0b", PathError::Character("a\0b".into())),
            ("a\nb", PathError::Character("a\nb".into())),
            ("a\\b", PathError::Character("a\\b".into())),
            (&long, PathError::Long("a".repeat(80))),
        ] {
            assert_eq!(text.parse::<TreePath>(), Err(want));
        }
    }

    #[test]
    fn links_may_climb_only_inside() {
        let path: TreePath = "lib/v1/x".parse().expect("path");
        for good in ["y", "../y", "../../y", "../../lib/v2/x", "./y"] {
            assert!(path.link_stays_inside(good), "{good}");
        }
        for bad in ["", "/etc", "../../../y", "a//b", "a/../../../../y", "a/../y", "a\0"] {
            assert!(!path.link_stays_inside(bad), "{bad}");
        }
    }

    #[test]
    fn parents_come_longest_first() {
        let path: TreePath = "a/b/c".parse().expect("path");
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a/b", "a"]);
    }
}
