//! The rehearsal of a policy: the real planner and the real core with hosts that are made up, in
//! virtual time. Reads no clock and no file; the same question gives the same answer. See
//! docs/rehearsal.md.

mod fleet;
mod host;
mod record;
mod share;
mod world;

pub use fleet::{FLEET_HOSTS_MAX, Fleet, FleetError, fleet, send_away};
pub use host::Pace;
pub use record::{
    Course, End, GateOpened, POINTS_MAX, Point, Span, Stop, Waiting, WaitsFor, WaveCourse,
};
pub use share::{LabelShare, Portion, Share, ShareError};
pub use world::{Case, Rehearsal, RehearseError, rehearse};
