//! Owns finding the built programs that tests start, and the built packages.
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

/// The path of a Debian package of this workspace.
///
/// # Panics
/// When there is none, or more than one version of it; the message tells how to build it.
#[track_caller]
pub fn package(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/packages");
    let prefix = format!("{name}_");
    let of_the_name = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str());
        file.is_some_and(|file| file.starts_with(&prefix) && file.ends_with(".deb"))
    };
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut found = entries.map(|entry| entry.path()).filter(of_the_name);
    let package = found.next();
    let package = package.must(format_args!("find the package {name}: run packaging/build first"));
    assert!(found.next().is_none(), "two packages {name}: run packaging/build first");
    package
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
