//! Owns what each fuzz target does with its bytes: decode, and where that succeeds, hold the value against
//! rules that must be true of it. A panic is a finding. Each target also has a bound of memory.

mod documents;
mod ledger;
mod memory;
mod messages;
mod settings;
mod texts;

pub use documents::{approval, directive, envelope, manifest, permit, root, tree};
pub use ledger::{ledger, ledger_segment};
pub use messages::{bundle, frame, record, report, to_agent, to_coordinator};
pub use settings::{agent_settings, coordinator_settings, description, entry};
pub use texts::{labels, policy, selector, token};
