//! The journal of one service: its whole [`Service`], versioned, written before each act. What cannot be
//! read is an error for a person, never a fresh start.

use groundswell_common::ServiceName;
use serde::{Deserialize, Serialize};

use crate::durable::{self, Fault};
use crate::layout::Layout;
use groundswell_machine::Service;

const VERSION: u32 = 1;
/// A journal holds a few releases and failure texts.
const JOURNAL_MAX_BYTES: usize = 1024 * 1024;

#[derive(Serialize)]
struct Out<'a> {
    version: u32,
    service: &'a Service,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    version: u32,
    service: Service,
}

#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The file system failed.
    #[error("use the journal")]
    Fault(#[from] Fault),
    /// Not JSON of a journal.
    #[error(
        "read the journal: it is damaged; look at the host, then run 'groundswell-agent unstick'"
    )]
    Damaged(#[source] serde_json::Error),
    /// Written by another version of the agent.
    #[error("read the journal: its version is {0}, this agent reads 1; update the agent")]
    Version(u32),
    /// Not there although the service has a live release.
    #[error(
        "read the journal: it is missing; look at the host, then run 'groundswell-agent unstick'"
    )]
    Missing,
}

impl JournalError {
    /// Whether the disk failed, and not what lies on it.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        match self {
            Self::Fault(_) => true,
            Self::Damaged(_) | Self::Version(_) | Self::Missing => false,
        }
    }
}

/// Makes `service` durable.
pub(crate) fn save(
    layout: &Layout,
    name: &ServiceName,
    service: &Service,
) -> Result<(), JournalError> {
    durable::make_dir(&layout.releases(name), 0o755)?;
    // A service holds text, numbers and lists only: nothing in it can fail to become JSON.
    let json = serde_json::to_vec(&Out { version: VERSION, service }).unwrap_or_default();
    Ok(durable::write_json(&layout.journal(name), json)?)
}

/// Reads the journal of a service; `None` for a service that never had one.
pub(crate) fn load(layout: &Layout, name: &ServiceName) -> Result<Option<Service>, JournalError> {
    let Some(bytes) = durable::read(&layout.journal(name), JOURNAL_MAX_BYTES)? else {
        let live = layout.current(name).symlink_metadata().is_ok();
        return if live { Err(JournalError::Missing) } else { Ok(None) };
    };
    let version: VersionOnly = serde_json::from_slice(&bytes).map_err(JournalError::Damaged)?;
    if version.version != VERSION {
        return Err(JournalError::Version(version.version));
    }
    let read: In = serde_json::from_slice(&bytes).map_err(JournalError::Damaged)?;
    debug_assert_eq!(read.version, VERSION, "both readings see one number");
    Ok(Some(read.service))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Layout, ServiceName) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        (dir, layout, "shop".parse().unwrap())
    }

    #[test]
    fn what_was_saved_is_read() {
        let (_dir, layout, name) = place();
        assert!(load(&layout, &name).unwrap().is_none(), "never had one");
        save(&layout, &name, &Service::new()).unwrap();
        assert_eq!(load(&layout, &name).unwrap(), Some(Service::new()));
    }

    #[test]
    fn every_cut_and_every_missing_file_is_an_error_and_no_fresh_start() {
        let (_dir, layout, name) = place();
        save(&layout, &name, &Service::new()).unwrap();
        let path = layout.journal(&name);
        let good = std::fs::read(&path).unwrap().trim_ascii_end().to_vec();
        for at in 0..good.len() {
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(load(&layout, &name), Err(JournalError::Damaged(_))), "cut at {at}");
        }
        let text = String::from_utf8(good).unwrap();
        std::fs::write(&path, text.replace("\"version\":1", "\"version\":2")).unwrap();
        assert!(matches!(load(&layout, &name), Err(JournalError::Version(2))));
        std::fs::write(&path, text.replace("\"floor\"", "\"flour\"")).unwrap();
        assert!(matches!(load(&layout, &name), Err(JournalError::Damaged(_))));
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("releases/x", layout.current(&name)).unwrap();
        assert!(matches!(load(&layout, &name), Err(JournalError::Missing)));
    }

    #[test]
    fn a_journal_goes_into_the_blocks_of_the_one_before_the_last() {
        let (_dir, layout, name) = place();
        let inode = || {
            let found = std::fs::metadata(layout.journal(&name)).unwrap();
            std::os::unix::fs::MetadataExt::ino(&found)
        };
        let (mut inodes, mut service) = (Vec::new(), Service::new());
        for floor in 1..=5 {
            service.floor = floor;
            save(&layout, &name, &service).unwrap();
            assert_eq!(load(&layout, &name).unwrap().unwrap().floor, floor);
            inodes.push(inode());
        }
        assert_ne!(inodes[3], inodes[4]);
        assert_eq!(inodes[2], inodes[4], "two files take turns: none is made, none is freed");
    }

    #[test]
    fn a_journal_too_large_is_refused() {
        let (_dir, layout, name) = place();
        save(&layout, &name, &Service::new()).unwrap();
        std::fs::write(layout.journal(&name), vec![b' '; JOURNAL_MAX_BYTES + 1]).unwrap();
        assert!(matches!(load(&layout, &name), Err(JournalError::Fault(_))));
    }
}
