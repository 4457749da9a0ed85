//! What this host trusts now: its pin and its root. A value, shared by whoever verifies; changed only by
//! walking to a newer root.

use groundswell_common::trust::{
    Envelope, HostPin, Root, TrustError, Verified, first_root, next_root,
};

/// The pin and the root.
#[derive(Clone, Debug)]
pub(crate) struct Trustee {
    pub(crate) pin: HostPin,
    pub(crate) root: Verified<Root>,
}

/// Reads a root that this host stored after verifying it. The state directory vouches for it, as the
/// enrolment token vouched for the first one.
pub(crate) fn stored_root(envelope: &Envelope) -> Result<Verified<Root>, TrustError> {
    first_root(envelope, &envelope.digest())
}

/// One step of the walk. A root that is trusted already is no step.
pub(crate) fn walk(
    have: &Verified<Root>,
    next: &Envelope,
) -> Result<Option<Verified<Root>>, TrustError> {
    if next.digest() == have.digest() { Ok(None) } else { next_root(have, next).map(Some) }
}
