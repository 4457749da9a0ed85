//! Keeps how this host connects: its certificate, renewed in time, under the newest root. Knows no directive
//! and touches nothing but the certificate.

use std::time::Duration;

use groundswell_common::chain;
use groundswell_common::trust::Envelope;
use groundswell_common::wire::LEVEL_FIRST;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::clock::wall;
use crate::enroll;
use crate::identity::{Credentials, IdentityError};
use crate::layout::Layout;
use crate::link::{Access, hello};
use crate::told::Places;
use crate::trustee::stored_root;

/// Longest sleep towards a renewal: the wall may be set meanwhile.
const LOOK: Duration = Duration::from_secs(6 * 3600);
const RETRY: Duration = Duration::from_secs(15 * 60);

/// Where the coordinator is, and as whom this host goes there.
pub(crate) struct Keeper {
    pub(crate) layout: Layout,
    /// Come from whoever verifies what is told.
    pub(crate) places: watch::Receiver<Places>,
    /// What this side, and the one that verifies, know of the wire.
    pub(crate) level: u8,
    pub(crate) credentials: Credentials,
    /// Comes from whoever verifies roots; what is here was verified.
    pub(crate) root: watch::Receiver<Envelope>,
}

impl Keeper {
    /// How to connect now.
    ///
    /// # Errors
    /// [`IdentityError`]: a root, or key and certificate, that make no connection.
    pub(crate) fn access(&mut self) -> Result<Access, IdentityError> {
        let root = stored_root(&self.root.borrow_and_update()).map_err(IdentityError::Root)?;
        let places = self.places.borrow_and_update().clone();
        Ok(Access {
            addresses: places.agents,
            tls: self.credentials.tls(&root, self.level)?,
            hello: hello(places.name, root.version),
        })
    }

    /// Keeps `access` up to date for as long as roots may come.
    pub(crate) async fn run(mut self, access: watch::Sender<Access>) {
        let mut pause = Duration::ZERO;
        loop {
            let left = self.credentials.validity().map_or(LOOK, |validity| {
                Duration::from_millis(validity.renew_at().millis_since(wall())).min(LOOK)
            });
            tokio::select! {
                changed = self.root.changed() => match changed {
                    Ok(()) => self.publish(&access),
                    Err(_) => return,
                },
                changed = self.places.changed() => match changed {
                    Ok(()) => self.publish(&access),
                    Err(_) => return,
                },
                () = sleep(left.max(pause)) => {
                    pause = Duration::ZERO;
                    if left.is_zero() {
                        self.renew(&access).await;
                        pause = RETRY;
                    }
                }
            }
        }
    }

    fn publish(&mut self, access: &watch::Sender<Access>) {
        match self.access() {
            Ok(next) => drop(access.send_replace(next)),
            Err(error) => tracing::error!(error = %chain(&error), "the old connection stays"),
        }
    }

    async fn renew(&mut self, access: &watch::Sender<Access>) {
        let renewed = async {
            let root = stored_root(&self.root.borrow()).map_err(IdentityError::Root)?;
            let tls = self.credentials.tls(&root, LEVEL_FIRST)?;
            let api = self.places.borrow().api.clone();
            let pem = enroll::renew(&api, tls).await?;
            Ok::<_, enroll::EnrollError>(self.credentials.renewed(&self.layout, &root, pem)?)
        };
        match renewed.await {
            Ok(()) => {
                tracing::info!("the certificate is renewed");
                self.publish(access);
            }
            Err(error) => tracing::warn!(error = %chain(&error), "the certificate is not renewed"),
        }
    }
}
