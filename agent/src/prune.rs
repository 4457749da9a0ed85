//! Removes releases that are neither live, previous nor staged.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use groundswell_common::{ReleaseId, ServiceName};

use crate::durable::{Fault, at, remove_tree, sync_parent};
use crate::layout::Layout;

/// Removes every release directory of `service` but those in `kept`.
///
/// # Errors
/// [`Fault`] of the first directory that cannot be removed.
pub(crate) fn prune(
    layout: &Layout,
    service: &ServiceName,
    kept: &[ReleaseId],
) -> Result<(), Fault> {
    let releases = layout.releases(service);
    let entries = match fs::read_dir(&releases) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at("list", &releases)(error)),
    };
    let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
    for entry in entries {
        let entry = entry.map_err(at("list", &releases))?;
        let name = entry.file_name();
        let is_kept = name.to_str().is_some_and(|name| {
            kept.iter().any(|kept| name == kept || name.strip_suffix(".tmp") == Some(kept))
        });
        if !is_kept {
            remove_tree(&take_name(&entry.path())?)?;
        }
    }
    Ok(())
}

/// Takes a release's name away before any of it goes: what has the name is complete, whenever a removal ends.
fn take_name(path: &Path) -> Result<PathBuf, Fault> {
    let gone = path.with_extension("gone");
    if gone != path {
        remove_tree(&gone)?;
        fs::rename(path, &gone).map_err(at("rename", path))?;
        sync_parent(&gone)?;
    }
    Ok(gone)
}

#[cfg(test)]
mod tests {
    use groundswell_common::Digest;

    use super::*;

    #[test]
    fn live_previous_and_staged_stay_all_else_goes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let service: ServiceName = "shop".parse().unwrap();
        prune(&layout, &service, &[]).unwrap();
        let ids: Vec<ReleaseId> =
            (0..4_u8).map(|n| ReleaseId::from_digest(Digest::of(&[n]))).collect();
        for id in &ids {
            fs::create_dir_all(layout.release(&service, id).join("tree")).unwrap();
        }
        let half = layout.releases(&service).join(format!("{}.tmp", ids[3]));
        fs::create_dir_all(&half).unwrap();
        prune(&layout, &service, &ids[..2]).unwrap();
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(layout.release(&service, id).exists(), at < 2, "{at}");
        }
        assert!(!half.exists());
    }

    #[test]
    fn a_removal_that_ends_early_leaves_nothing_under_the_name_of_a_release() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let service: ServiceName = "shop".parse().unwrap();
        let release = layout.release(&service, &ReleaseId::from_digest(Digest::of(b"old")));
        fs::create_dir_all(release.join("tree")).unwrap();
        let gone = take_name(&release).unwrap();
        assert!(!release.exists() && gone.join("tree").exists());
        // It came back meanwhile; both go, and the next prune finishes what the first began.
        fs::create_dir_all(release.join("tree")).unwrap();
        prune(&layout, &service, &[]).unwrap();
        assert!(!release.exists() && !gone.exists());
    }
}
