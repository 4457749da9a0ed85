//! Owns finding the built programs that tests start.
//!
//! It only looks: a test never builds anything, because cargo holds its lock while tests run.

use std::path::{Path, PathBuf};

use crate::must::Must;

/// The path of a program of this workspace, built into the same target folder as this test.
///
/// # Panics
/// When it is not there; the message tells how to build it.
#[track_caller]
pub fn bin(name: &str) -> PathBuf {
    let test = std::env::current_exe().must("learn the path of this test");
    let path = folder_of(&test).join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

/// Test programs lie in `deps/`, the others one level up.
fn folder_of(test: &Path) -> PathBuf {
    let folder = test.parent().must("find the folder of this test");
    if folder.ends_with("deps") {
        folder.parent().must("find the target folder").to_owned()
    } else {
        folder.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_lie_above_the_tests() {
        assert_eq!(folder_of(Path::new("/t/debug/deps/bed-1f")), Path::new("/t/debug"));
        assert_eq!(folder_of(Path::new("/t/debug/cutdisk")), Path::new("/t/debug"));
    }

    #[test]
    #[should_panic(expected = "no-such-program is missing: run `cargo build --workspace --bins`")]
    fn a_missing_program_tells_how_to_build_it() {
        bin("no-such-program");
    }
}
