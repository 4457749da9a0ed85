//! A ledger that was put back from a backup: hosts have accepted directives with higher numbers than it gives, and
//! refuse what it says. Finds that out from their reports, and lifts the numbers past them when a person says so.

use groundswell_common::api::{PUT_BACK_NAMES_MAX, PutBack};
use groundswell_common::{HostId, HostName, OperatorName};

use crate::control::{Control, Word};
use crate::entry::{By, What};
use crate::refused::Refused;

/// Numbers that a ledger may have lost at most. A host that claims more than that says what no ledger gives: to
/// lift past it would take the numbers from everybody else.
const LOST_MAX: u64 = 1 << 32;

impl Control {
    /// What shows that the ledger was put back from a backup; `None` where nothing does.
    #[must_use]
    pub fn put_back(&self) -> Option<PutBack> {
        let ahead = self.words.iter().filter_map(|(id, word)| Some((id, self.ahead(word)?)));
        let ahead: Vec<(&HostId, u64)> = ahead.collect();
        let newest = ahead.iter().map(|(_, accepted)| *accepted).max()?;
        let name = |(id, _): &(&HostId, u64)| Some(self.view.hosts.get(id)?.name.clone());
        let mut names: Vec<HostName> = ahead.iter().filter_map(name).collect();
        names.sort();
        names.truncate(PUT_BACK_NAMES_MAX);
        Some(PutBack { hosts: ahead.len() as u64, newest, names })
    }

    /// What a host claims to have accepted that no ledger of this fleet can have given.
    pub(crate) fn claims_too_much(&self, word: &Word) -> Option<u64> {
        let accepted = word.report.as_ref()?.generation;
        let too_much = accepted > self.view.seq.saturating_add(LOST_MAX);
        too_much.then(|| accepted.saturating_add(self.view.lift))
    }

    /// The number that a host accepted, where it refuses what the ledger says for that.
    fn ahead(&self, word: &Word) -> Option<u64> {
        let report = word.report.as_ref()?;
        let refuses = report.refusal.as_ref().is_some_and(|refusal| {
            matches!(refusal.code.as_str(), "old_generation" | "equivocation")
        });
        let ahead = refuses || report.generation > self.view.seq;
        let believed = ahead && self.claims_too_much(word).is_none();
        believed.then(|| report.generation + self.view.lift)
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
