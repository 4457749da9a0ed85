//! The settings in force while the agent runs: read again every few seconds and when somebody asks. A file that
//! cannot be read changes nothing, and is said.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use groundswell_common::chain;
use tokio::sync::Notify;

use crate::config::{self, Opened, Settings};

/// The settings, shared by all that goes by them.
#[derive(Clone, Debug)]
pub(crate) struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Where they come from; `None` where they are fixed.
    file: Option<PathBuf>,
    now: RwLock<Now>,
    nudge: Notify,
}

#[derive(Clone, Debug)]
struct Now {
    settings: Arc<Settings>,
    /// Why what lies on the disk is not in force.
    trouble: Option<String>,
}

impl Live {
    pub(crate) fn new(opened: Opened) -> Self {
        let Opened { file, settings, trouble } = opened;
        if let Some(why) = &trouble {
            tracing::error!(why, "the settings of an earlier start are in force; mend the file");
        }
        let now = RwLock::new(Now { settings: Arc::new(settings), trouble });
        Self(Arc::new(Shared { file: Some(file), now, nudge: Notify::new() }))
    }

    /// Settings that stay as they are.
    #[cfg(test)]
    pub(crate) fn fixed(settings: Settings) -> Self {
        let now = RwLock::new(Now { settings: Arc::new(settings), trouble: None });
        Self(Arc::new(Shared { file: None, now, nudge: Notify::new() }))
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Arc<Settings> {
        self.read().settings
    }

    /// Why what lies on the disk is not in force, where it is not.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.read().trouble
    }

    fn read(&self) -> Now {
        self.0.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Somebody asks that requests and settings are looked at now.
    pub(crate) fn nudge(&self) {
        self.0.nudge.notify_one();
    }

    /// Ends when somebody has asked.
    pub(crate) async fn nudged(&self) {
        self.0.nudge.notified().await;
    }

    /// Reads the file again. What only a start can change stays as it is.
    pub(crate) fn reread(&self) {
        let Some(file) = &self.0.file else { return };
        let before = self.read();
        let (settings, trouble) = match config::load(file) {
            Ok(read) => {
                let (settings, fixed) = read.with_fixed_of(&before.settings);
                (settings, fixed.map(|key| format!("{key} changes at the next start only")))
            }
            Err(error) => ((*before.settings).clone(), Some(chain(&error))),
        };
        let changed = settings != *before.settings;
        match &trouble {
            Some(why) if before.trouble.as_ref() != Some(why) => {
                tracing::error!(why, "the settings on the disk are not in force; mend the file");
            }
            None if before.trouble.is_some() || changed => {
                tracing::info!("the settings were read again and are in force");
            }
            Some(_) | None => {}
        }
        if changed || trouble != before.trouble {
            let settings = Arc::new(settings);
            *self.0.now.write().unwrap_or_else(PoisonError::into_inner) = Now { settings, trouble };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_keeps_what_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let first = "keep_free_bytes = 1\n[services.shop]\nunits = [\"shop.service\"]\n";
        std::fs::write(&file, first).unwrap();
        let live = Live::new(config::open(&file).unwrap());
        config::keep(&file).unwrap();
        let shop = "shop".parse().unwrap();

        let typo = "[services.shop]\nunit = [\"shop.service\"]\n";
        for broken in [typo, "keep_free_bytes = ", "state_dir = \"relative\"\n"] {
            std::fs::write(&file, broken).unwrap();
            live.reread();
            assert_eq!(live.now().units[&shop], ["shop.service"], "{broken}");
            let why = live.trouble().unwrap();
            assert!(why.contains("agent.toml"), "{why}");
            // The next start has what was kept, and says so.
            let opened = config::open(&file).unwrap();
            assert_eq!(opened.settings.units[&shop], ["shop.service"], "{broken}");
            assert_eq!(opened.trouble, Some(why));
        }
        std::fs::remove_file(&file).unwrap();
        live.reread();
        assert!(live.trouble().unwrap().contains("does not exist"));

        let mended = "[services.web]\nunits = [\"web.service\"]\n";
        std::fs::write(&file, mended).unwrap();
        live.reread();
        assert_eq!(live.trouble(), None);
        assert_eq!(live.now().keep_free_bytes, config::KEEP_FREE_BYTES, "back to the default");
        assert!(!live.now().units.contains_key(&shop));

        // A directory is not moved under a running agent.
        let moved = "state_dir = \"/elsewhere\"\nkeep_free_bytes = 5\n";
        std::fs::write(&file, moved).unwrap();
        live.reread();
        assert_eq!(live.now().keep_free_bytes, 5);
        assert_ne!(live.now().state_dir, std::path::Path::new("/elsewhere"));
        assert_eq!(live.trouble().as_deref(), Some("state_dir changes at the next start only"));
    }

    #[test]
    fn without_a_copy_a_broken_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        std::fs::write(&file, "colour = 1").unwrap();
        assert!(config::open(&file).is_err());
        assert!(config::keep(&file).is_err(), "and it is never kept");
        assert!(config::open(&file).is_err());
    }
}
