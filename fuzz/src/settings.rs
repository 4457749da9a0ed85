//! Owns the targets of files that people write, settings and release descriptions, and of the ledger's
//! payloads. The files are read from a disk, as they are in real life.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use groundswell_coordinator::config::Settings;
use groundswell_coordinator::entry::Entry;

use crate::memory::bounded;

#[path = "../../cli/src/spec.rs"]
mod spec;

/// What reading one of these may hold: the text, its tree of values, and the result.
const HELD_MAX: usize = 4 << 20;

/// A folder of this process.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("groundswell-fuzz-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the files");
        folder
    })
}

/// The agent's settings: those that are read can be shown.
pub fn agent_settings(data: &[u8]) {
    let file = folder().join("agent.toml");
    fs::write(&file, data).expect("write the file");
    if let Ok(settings) = bounded(HELD_MAX, || groundswell_agent::config::load(&file)) {
        assert!(settings.show().contains("state_dir"));
    }
}

/// The coordinator's settings: those that are read hold their bounds.
pub fn coordinator_settings(data: &[u8]) {
    let file = folder().join("coordinator.toml");
    fs::write(&file, data).expect("write the file");
    if let Ok(settings) = bounded(HELD_MAX, || Settings::load(folder())) {
        assert!((1..=600).contains(&settings.heartbeat_secs) && !settings.hosts.is_empty());
        assert!((1..=settings.backoff_cap_ms).contains(&settings.backoff_base_ms));
    }
}

/// The description of a release.
pub fn description(data: &[u8]) {
    let file = folder().join("groundswell.toml");
    fs::write(&file, data).expect("write the file");
    if let Ok(spec) = bounded(HELD_MAX, || spec::Spec::load(folder(), Some(&file))) {
        let _ = spec.probes();
    }
}

/// The payload of a ledger entry: one that is read is written again as the same entry.
pub fn entry(data: &[u8]) {
    if let Ok(entry) = bounded(HELD_MAX, || Entry::from_payload(1, data)) {
        let again = entry.to_payload().expect("an entry that was read can be written");
        assert_eq!(Entry::from_payload(1, &again).expect("read again"), entry);
    }
}
