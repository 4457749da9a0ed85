//! The rollout core: from a policy and the hosts to a frozen plan, from a plan and what happens to
//! what each host should be now.
//!
//! Owns: plan, step, desired, explain, check. Must never do IO, read a clock, log, use
//! randomness or an order that differs between runs: the ledger replays it. See docs/rollout.md.

pub mod calendar;
pub mod check;
pub mod desired;
pub mod explain;
pub mod fact;
pub mod gate;
mod guards;
mod hosts;
pub mod input;
pub mod phase;
pub mod plan;
pub mod policy;
mod predicted;
pub mod recipe;
mod settle;
mod slots;
pub mod state;
mod steer;
pub mod step;

pub use calendar::{Freeze, Opening, Window, opening};
pub use check::{Finding, check, check_state};
pub use desired::{desired, generation, may_switch};
pub use explain::{Why, earliest, explain, silent};
pub use fact::{LOST_GRACE_SECS, bytes_count, cares_about_link, fact, lack};
pub use gate::asks_webhook;
pub use input::{Busy, HostFact, Input, KeepOrRevert, Moment, Steer};
pub use phase::{Breach, HaltCause, Outcome, PauseCause, Phase, PhaseName, Resumable, RevertCause};
pub use plan::{
    Back, Evidence, Guard, GuardKind, HostFacts, Off, Plan, PlanError, PlannedHold, PlannedHost,
    PlannedWave, RULES, RULES_BEGUN, RULES_SPOKEN, RULES_STOPS, RULES_WAITED, ReleaseRef,
    SkipReason, Skipped, plan, plan_back, plan_off,
};
pub use policy::{
    Amount, DomainPolicy, EvidencePolicy, Gate, OnBreach, Order, Policy, PolicyError, Short, Take,
    WavePolicy, WhenNewer,
};
pub use slots::busy;
pub use state::{Approved, HostEntry, Parked, Progress, ProgressName, Rollout, Tally};
pub use step::{Effects, Refusal, Transition, due, next_deadline, step};
