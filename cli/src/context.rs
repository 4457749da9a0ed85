//! What every verb gets: where to print, and the profile and client, read when first asked for.

use std::path::PathBuf;

use groundswell_common::api::Profile;

use crate::client::Client;
use crate::output::Out;
use crate::profile;

/// What every verb gets.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// Where to print.
    pub(crate) out: Out,
    /// `--profile`, or the environment's.
    pub(crate) profile: Option<PathBuf>,
}

impl Context {
    /// The operator's profile.
    pub(crate) fn profile(&self) -> anyhow::Result<Profile> {
        Ok(profile::load(&profile::path(self.profile.as_deref())?)?)
    }

    /// A client with the operator's identity.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.profile()?)?)
    }
}
