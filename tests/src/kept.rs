//! Owns folders that are kept as they are, and put back later: backups, snapshots, copies.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fleet::succeed;
use crate::must::Must;

/// All files below a folder, by their path.
///
/// # Panics
/// When one cannot be read.
pub fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).must("look at a folder") {
        let path = entry.must("look at a folder").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).must("read a file"));
        }
    }
    found
}

/// Puts a folder back as it was; what came since is gone.
///
/// # Panics
/// When that is not possible.
pub fn put_back(dir: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    fs::remove_dir_all(dir).must("remove what is to be put back");
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().must("find a folder")).must("make a folder");
        fs::write(path, bytes).must("put a file back");
    }
}

/// Copies all below a folder into another one, with owners, modes and links.
///
/// # Panics
/// When that is not possible.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).must("make a folder");
    succeed(Command::new("cp").arg("--archive").arg(from.join(".")).arg(to));
}
