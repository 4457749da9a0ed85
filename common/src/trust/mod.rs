//! Trust documents: exact bytes, signatures, roles, and the one verifier that makes [`Verified`] values.

mod approval;
mod check;
mod envelope;
mod key;
mod root;
mod verify;

pub use approval::{Approval, Purpose, RawApproval};
pub use check::{
    DirectiveFloor, HostPin, PermitAsk, Refusal, check_approvals, check_directive, check_permit,
    check_release, check_step,
};
pub(crate) use envelope::written;
pub use envelope::{Document, Envelope, EnvelopeError, Signature, pae};
pub use key::{KeyError, PublicKey, SecretKey};
pub use root::{RawRoot, Role, RoleEntry, RoleKeys, Root, RootError, UnitsEntry};
pub use verify::{TrustError, Verified, first_root, next_root, verify, verify_payload};
