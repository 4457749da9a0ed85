//! A host that goes down: what ends then speaks against nobody.

use std::sync::Arc;
use std::time::Duration;

use groundswell_machine::Event;

use crate::ports::Units;

/// How often it is looked whether a host still goes down.
const ENDING_LOOK: Duration = Duration::from_secs(1);

/// What came of the work. A host that goes down ends what runs on it: what fails then is not told, and the next
/// start looks anew.
pub(super) async fn unless_ending(
    units: Arc<dyn Units>,
    work: impl Future<Output = Event>,
) -> Event {
    let event = work.await;
    let fails = matches!(
        event,
        Event::SwitchFailed { .. }
            | Event::Failed { .. }
            | Event::RestoreFailed { .. }
            | Event::Ill { .. }
    );
    while fails && units.is_ending().await {
        tokio::time::sleep(ENDING_LOOK).await;
    }
    event
}
