//! Trust documents: exact bytes, signatures, roles, and the one verifier that makes [`Verified`] values.

mod approval;
mod check;
mod envelope;
mod key;
mod root;
mod told;
mod verify;

pub use approval::{Approval, Purpose, RawApproval};
pub use check::{
    DirectiveFloor, HostPin, PermitAsk, Refusal, check_approvals, check_directive, check_permit,
    check_release, check_step, check_told,
};
pub(crate) use envelope::written;
pub use envelope::{Document, Envelope, EnvelopeError, Signature, pae};
pub use key::{KeyError, PublicKey, SecretKey};
pub use root::{RawRoot, Role, RoleEntry, RoleKeys, Root, RootError, UnitsEntry};
pub use told::{ADDRESSES_MAX, RawTold, Told, ToldError, is_address};
pub use verify::{TrustError, Verified, first_root, next_root, verify, verify_payload};
