//! What a person does on the coordinator's machine where something ends: the next root, signed by the root key, and a
//! new profile for an admin who has none that counts. The coordinator is stopped meanwhile, or started again after.

use std::path::{Path, PathBuf};

use groundswell_common::api::OperatorRole;
use groundswell_common::trust::{
    Document as _, Envelope, KeyError, RawRoot, Root, SecretKey, TrustError, Verified, first_root,
    next_root,
};
use groundswell_common::{OperatorName, Timestamp};

use crate::ca::{Authority, CaError};
use crate::config::Settings;
use crate::entry::{By, Entry, What};
use crate::files::{self, Access, FileError};
use crate::init::{InitError, Layout, NewProfile, seed, write_profile};
use crate::ledger::LedgerError;
use crate::recover::{RecoverError, recover};

const DAY_SECS: u64 = 86_400;

/// Why nothing was renewed; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// A file that cannot be read or written.
    #[error("use the state directory")]
    File(#[source] FileError),
    /// A root that is no envelope.
    #[error("read {0}")]
    Envelope(PathBuf, #[source] groundswell_common::trust::EnvelopeError),
    /// Roots that do not follow each other, or a key that is not the root's.
    #[error("sign the next root; is {key} the root key of this fleet?")]
    Root {
        /// The key's file.
        key: PathBuf,
        /// What the check says.
        #[source]
        source: TrustError,
    },
    /// A root that no host could follow.
    #[error("read the roots in the state directory")]
    Roots(#[source] TrustError),
    /// A file that is no key.
    #[error("read the key {0}")]
    Key(PathBuf, #[source] KeyError),
    /// A root that would end before the one that it follows.
    #[error("the root ends at {0} already, which is later; give more --days")]
    Earlier(Timestamp),
    /// A document without a JSON form.
    #[error("write a document")]
    Json(#[source] serde_json::Error),
    /// The ledger, also where the coordinator runs.
    #[error("open the ledger; is the coordinator stopped?")]
    Recover(#[source] RecoverError),
    /// The ledger takes no entry.
    #[error("write the ledger")]
    Ledger(#[source] LedgerError),
    /// No certificate can be made.
    #[error("make a certificate")]
    Ca(#[source] CaError),
    /// No key or profile can be made.
    #[error("make a profile")]
    Profile(#[source] InitError),
}

/// Every root of a state directory from version 1 on, each checked against the one before.
///
/// # Errors
/// [`RenewError`].
pub fn roots(layout: &Layout) -> Result<(Vec<Envelope>, Verified<Root>), RenewError> {
    let path = |version: u64| layout.roots().join(format!("{version}.json"));
    let load = |version: u64| {
        let text = files::read(&path(version)).map_err(RenewError::File)?;
        Envelope::from_json(text.as_bytes(), Root::MAX_BYTES)
            .map_err(|source| RenewError::Envelope(path(version), source))
    };
    let first = load(1)?;
    let mut root = first_root(&first, &first.digest()).map_err(RenewError::Roots)?;
    let mut roots = vec![first];
    while path(root.version + 1).exists() {
        let next = load(root.version + 1)?;
        root = next_root(&root, &next).map_err(RenewError::Roots)?;
        roots.push(next);
    }
    Ok((roots, root))
}

/// Makes the next root: as the present one, with another end. The coordinator takes it at its next start, and hosts
/// with their next connection.
///
/// # Errors
/// [`RenewError`].
pub fn root(
    state: &Path,
    key: &Path,
    (days, now): (u64, Timestamp),
) -> Result<(u64, Timestamp), RenewError> {
    let layout = Layout::new(state);
    let (_, present) = roots(&layout)?;
    let text = files::read_private(key).map_err(RenewError::File)?;
    let secret =
        SecretKey::from_pem(&text).map_err(|source| RenewError::Key(key.to_owned(), source))?;
    let (version, expires) = (present.version + 1, now.as_secs() + days * DAY_SECS);
    if expires <= present.expires {
        return Err(RenewError::Earlier(Timestamp::from_secs(present.expires)));
    }
    let raw = RawRoot { version, expires, ..RawRoot::clone(&present) };
    let payload = serde_json::to_vec(&raw).map_err(RenewError::Json)?;
    let envelope = Envelope::new::<Root>(payload).signed_by(&secret);
    next_root(&present, &envelope)
        .map_err(|source| RenewError::Root { key: key.to_owned(), source })?;
    let path = layout.roots().join(format!("{version}.json"));
    files::write(&path, &envelope.to_json(), Access::Public).map_err(RenewError::File)?;
    Ok((version, Timestamp::from_secs(expires)))
}

/// Gives a person the role of an admin and a new profile, in place of what they had.
///
/// # Errors
/// [`RenewError`]; also where the coordinator runs.
pub fn admin(
    (state, settings): (&Path, &Settings),
    name: &OperatorName,
    (output, now): (&Path, Timestamp),
) -> Result<(), RenewError> {
    let layout = Layout::new(state);
    let mut recovered = recover(&layout, now).map_err(RenewError::Recover)?;
    let key = SecretKey::from_seed(&seed().map_err(RenewError::Profile)?);
    let pem = files::read_private(&layout.keys().join("ca.pem")).map_err(RenewError::File)?;
    let authority = Authority::load(&settings.fleet, &pem).map_err(RenewError::Ca)?;
    let ca_pem = files::read(&layout.ca()).map_err(RenewError::File)?;
    let profile = NewProfile { settings, name, key: &key }.profile(&authority, &ca_pem, now);
    write_profile(output, &profile.map_err(RenewError::Profile)?).map_err(RenewError::Profile)?;
    let at = recovered.view.at.map_or(now, |before| before.max(now));
    let what =
        What::OperatorPut { name: name.clone(), role: OperatorRole::Admin, key: key.public() };
    let entry = Entry { seq: recovered.view.seq + 1, at, by: By::Coordinator, what };
    let payload = entry.to_payload().map_err(RenewError::Json)?;
    recovered.log.append(&[payload]).map(drop).map_err(RenewError::Ledger)
}
