//! A ledger that was put back from a backup: hosts have accepted directives with higher numbers than it gives, and
//! refuse what it says. Finds that out from their reports, and lifts the numbers past them when a person says so.

use groundswell_common::OperatorName;
use groundswell_common::api::PutBack;

use crate::control::{Control, Word};
use crate::entry::{By, What};
use crate::refused::Refused;

impl Control {
    /// What shows that the ledger was put back from a backup; `None` where nothing does.
    #[must_use]
    pub fn put_back(&self) -> Option<PutBack> {
        let ahead: Vec<u64> = self.words.values().filter_map(|word| self.ahead(word)).collect();
        let newest = ahead.iter().max()?;
        Some(PutBack { hosts: ahead.len() as u64, newest: *newest })
    }

    /// The number that a host accepted, where it refuses what the ledger says for that.
    fn ahead(&self, word: &Word) -> Option<u64> {
        let report = word.report.as_ref()?;
        let refuses = report.refusal.as_ref().is_some_and(|refusal| {
            matches!(refusal.code.as_str(), "old_generation" | "equivocation")
        });
        let ahead = refuses || report.generation > self.view.seq;
        ahead.then(|| report.generation + self.view.lift)
    }

    /// Numbers every wish above what hosts accepted; the number that was passed.
    ///
    /// # Errors
    /// [`Refused::NothingToLift`].
    pub fn lift(&mut self, by: &OperatorName, why: &str) -> Result<u64, Refused> {
        let past = self.put_back().ok_or(Refused::NothingToLift)?.newest;
        let what = What::Lifted { past, why: why.to_owned() };
        let before = self.view.lift;
        self.submit(By::Operator(by.clone()), what)?;
        let more = self.view.lift - before;
        for report in self.words.values_mut().filter_map(|word| word.report.as_mut()) {
            report.generation = report.generation.saturating_sub(more);
        }
        Ok(past)
    }
}
