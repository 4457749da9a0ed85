//! What the host has and lacks, as it is told to the coordinator (docs/agent.md A14).

use std::time::Duration;

use groundswell_common::condition::{
    CONDITION_TEXT_MAX_BYTES, Condition, Held, Lack, NOTES_MAX, ServiceCondition, UnitLoad,
};
use groundswell_common::{ServiceName, chain};

use super::{Back, Driver, Slot};
use crate::bring::{self, Free};
use crate::text::head;
use crate::why::{TOO_SLOW, stopped};

/// What follows the cause where something on the disk cannot be read.
const NEXT: &str = "; it goes on by itself once that can be read: see 'dmesg' and 'mount' there";
/// How often the units that the owner allows are looked at.
pub(super) const EVERY: Duration = Duration::from_secs(60);

impl Driver {
    /// Looks at the units that the owner allows, beside everything else.
    pub(super) fn look_at_units(&self) {
        let (units, back) = (self.outside.units.clone(), self.ends.back.0.clone());
        tokio::spawn(async move {
            match units.conditions().await {
                Ok(conditions) => drop(back.send(Back::Units(conditions)).await),
                Err(error) => tracing::debug!(error = %chain(&error), "units are not looked at"),
            }
        });
    }

    /// What the host has and lacks.
    pub(super) fn condition(&self) -> Condition {
        let mut services = self.units.clone();
        for (service, slot) in &self.slots {
            let at = services.iter().position(|condition| condition.service == *service);
            let mut condition = match at {
                Some(at) => services.swap_remove(at),
                None => ServiceCondition::new(service.clone()),
            };
            self.tell(&mut condition, slot);
            services.push(condition);
        }
        self.tell_unkept(&mut services);
        services.sort_by(|one, other| one.service.cmp(&other.service));
        // What cannot be measured is no room.
        let none = Free { bytes: 0, inodes: u64::MAX };
        for condition in &mut services {
            condition.notes.truncate(NOTES_MAX);
        }
        let free = bring::free(&self.outside.layout).unwrap_or(none);
        Condition {
            instance: self.instance,
            free_bytes: free.bytes,
            free_inodes: free.inodes,
            platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
            settings: self.settings_note(),
            services,
        }
    }

    fn tell(&self, condition: &mut ServiceCondition, slot: &Slot) {
        let frozen = || {
            let failure = slot.machine.failure.as_ref().filter(|_| slot.frozen)?;
            let (release, why) = (failure.release, failure.why.clone());
            Some(Held { release, lack: Lack::Journal, why })
        };
        let unread = || {
            let (release, why) = slot.machine.target().zip(slot.progress.disk())?;
            let why = head(&why, CONDITION_TEXT_MAX_BYTES - NEXT.len()).to_owned() + NEXT;
            Some(Held { release, lack: Lack::Journal, why })
        };
        condition.paused.clone_from(&slot.machine.paused);
        let held = slot.machine.held().or_else(|| slot.lacks.clone());
        condition.held = held.or_else(unread).or_else(frozen);
        condition.fetched = slot.progress.look(&self.outside.layout);
        let looked = std::mem::take(&mut condition.notes);
        condition.notes = self.notes(&condition.service, slot);
        condition.notes.extend(looked);
        let stale = condition.units.iter().filter(|unit| unit.load == UnitLoad::NeedsReload);
        condition.notes.extend(stale.map(|unit| {
            let unit = &unit.unit;
            format!(
                "systemd runs {unit} by files that were changed since; 'systemctl daemon-reload'"
            )
        }));
    }

    fn notes(&self, service: &ServiceName, slot: &Slot) -> Vec<String> {
        let mut notes = Vec::new();
        // Before its commit it is held by that.
        let rests = slot.machine.watched().is_some();
        notes.extend(slot.machine.stopped.as_ref().filter(|_| rests).map(|unit| stopped(unit)));
        notes.extend(slot.relinked.clone());
        notes.extend(slot.machine.is_too_slow().then(|| TOO_SLOW.to_owned()));
        notes.extend(self.drift_of(service).map(|path| {
            format!("{path} of the live release was changed on this host; restore it")
        }));
        notes
    }
}

/// Whether two conditions say the same to the coordinator: what is free changes with every file that is written,
/// and is news where it changed by a tenth.
pub(super) fn same(before: &Condition, now: &Condition) -> bool {
    let near = |before: u64, now: u64| before.abs_diff(now) <= before / 10;
    let free = near(before.free_bytes, now.free_bytes) && near(before.free_inodes, now.free_inodes);
    let (free_bytes, free_inodes) = (now.free_bytes, now.free_inodes);
    free && Condition { free_bytes, free_inodes, ..before.clone() } == *now
}
