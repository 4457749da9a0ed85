//! People who keep a host busy while its power goes: releases one after another, to and fro.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use groundswell_common::api::PhaseName;

use crate::fleet::Fleet;
use crate::must::Must;

/// A host that is cut off counts as lost; one may be.
pub const POLICY: &str = r#"
service = "shop"
targets = "role=web"
failure_budget = 1
bake_secs = 0
host_bake_secs = 0
probe_deadline_secs = 20
progress_deadline_secs = 60
absent_after_secs = 1

[[wave]]
rest = true
"#;

/// From one look at the rollout to the next.
const LOOK: Duration = Duration::from_millis(50);

/// Publishes the next release of the service `shop` as soon as a rollout is over, and has every third reverted on
/// its way, until `over`; how many there were.
///
/// # Panics
/// When `swell` cannot be run.
pub fn keep_busy(fleet: &Fleet, over: &AtomicBool, publish: impl Fn(&str)) -> u32 {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        let Some(page) = fleet.try_newest_rollout("shop") else { continue };
        if page.rollout.phase == PhaseName::Done {
            number += 1;
            publish(&format!("2.0.{number}"));
        } else if number % 3 == 0 || page.rollout.phase == PhaseName::Halted {
            // It may be over by now.
            let mut revert = fleet.swell(&["revert", "shop", "--yes", "--why", "to and fro"]);
            revert.output().must("run swell");
        }
    }
    number
}
