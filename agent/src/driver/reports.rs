//! What the driver tells whoever speaks to the coordinator: answers, and the host's whole standing where it changed.

use std::sync::Arc;

use groundswell_common::ServiceName;
use groundswell_common::report::Report;

use super::{Driver, Slot, conditions};
use crate::link::{Said, Say};
use crate::switch;

impl Driver {
    pub(super) fn say(&self, say: Say) {
        if self.ends.says.try_send(say).is_err() {
            tracing::debug!("the link is busy or gone; the next session settles it");
        }
    }

    /// Publishes the whole standing when it differs from the one published before.
    pub(super) fn report(&mut self) {
        self.mind_links();
        let layout = &self.outside.layout;
        let standing = |(service, slot): (&ServiceName, &Slot)| {
            let mut standing = slot.machine.standing(service);
            // The live tree has the last word on what runs.
            if let Ok(live) = switch::live(layout, service) {
                standing.running = live;
            }
            standing
        };
        let condition = self.condition();
        let report = Report {
            seq: self.seq,
            generation: self.floor.generation,
            services: self.slots.iter().map(standing).collect(),
            free_bytes: condition.free_bytes,
            refusal: self
                .refusal
                .clone()
                .or_else(|| self.pause_note())
                .or_else(|| self.drift_note()),
        };
        let before = self.ends.said.borrow().clone();
        let same_report = before.as_ref().is_some_and(|before| {
            let before = &before.report;
            let before = (&before.services, &before.refusal, before.generation);
            before == (&report.services, &report.refusal, report.generation)
        });
        let had = before.as_ref().and_then(|before| before.condition.as_deref());
        let same_condition = had.is_some_and(|had| conditions::same(had, &condition));
        let Said { report, condition } = match before {
            Some(_) if same_report && same_condition => return,
            Some(before) if same_report => {
                Said { report: before.report, condition: Some(Arc::new(condition)) }
            }
            Some(_) | None => {
                self.seq += 1;
                let report = Arc::new(Report { seq: self.seq, ..report });
                Said { report, condition: Some(Arc::new(condition)) }
            }
        };
        self.ends.said.send_replace(Some(Said { report, condition }));
    }
}
