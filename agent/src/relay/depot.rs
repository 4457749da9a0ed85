//! The depot of the apply side: asks the network side for blobs and opens what it put into the spool. Says
//! nothing about their content: who reads one holds what it read to its digest.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use groundswell_common::Digest;
use rustix::fs::{FileType, Mode, OFlags};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::cancel::Cancel;
use crate::durable::{Fault, at};
use crate::fetch::FetchError;
use crate::layout::Layout;
use crate::ports::{Depot, Work};

/// Times that a blob which was brought may be gone before it counts as a failure.
const MISSING_MAX: u32 = 2;

/// How long a session of the network side may be missing before whoever wants a blob is told.
const SESSION: Duration = Duration::from_secs(30);
const AWAY: &str =
    "the agent's network side does not run; see 'systemctl status groundswell-agent'";

/// What the depot wants of the session under way.
pub(super) enum Order {
    Fetch { number: u64, digest: Digest, limit_bytes: u64, answer: oneshot::Sender<Option<String>> },
    Stop { number: u64 },
    Discard(Digest),
    Clear,
}

/// The session under way, if there is one.
pub(super) type Session = Option<mpsc::Sender<Order>>;

/// Blobs by way of the network side.
pub(crate) struct RelayDepot {
    layout: Layout,
    session: watch::Receiver<Session>,
    numbers: AtomicU64,
}

impl RelayDepot {
    /// A depot, and the end by which sessions are told to it.
    pub(super) fn new(layout: Layout) -> (Self, watch::Sender<Session>) {
        let (sender, session) = watch::channel(None);
        (Self { layout, session, numbers: AtomicU64::new(0) }, sender)
    }

    async fn bring(&self, digest: &Digest, limit_bytes: u64) -> Result<File, FetchError> {
        let mut missing = 0;
        loop {
            let orders = self.orders(digest).await?;
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let (answer, answered) = oneshot::channel();
            let _stop = Stop { orders: &orders, number };
            let order = Order::Fetch { number, digest: *digest, limit_bytes, answer };
            if orders.send(order).await.is_err() {
                continue;
            }
            match answered.await {
                Ok(None) => match self.open(digest, limit_bytes) {
                    // It was cleared away as it came.
                    Err(error) if missing < MISSING_MAX && is_missing(&error) => missing += 1,
                    opened => return opened,
                },
                Ok(Some(why)) => {
                    return Err(FetchError::Relayed { digest: *digest, why: why.into() });
                }
                // The session ended: what is wanted is asked for in the next one.
                Err(_) => {}
            }
        }
    }

    /// Waits for a session.
    async fn orders(&self, digest: &Digest) -> Result<mpsc::Sender<Order>, FetchError> {
        let stands = |session: &Session| session.as_ref().is_some_and(|orders| !orders.is_closed());
        let mut session = self.session.clone();
        let found = timeout(SESSION, session.wait_for(stands)).await;
        let away = |_| FetchError::Relayed { digest: *digest, why: AWAY.into() };
        let found = found.map_err(away)?.map_err(|_| FetchError::Cancelled)?;
        found.clone().ok_or(FetchError::Cancelled)
    }

    /// Opens a file of the spool, which belongs to somebody who is not believed: never through a link,
    /// never what could block or is no file.
    fn open(&self, digest: &Digest, limit_bytes: u64) -> Result<File, FetchError> {
        let path = self.layout.part(digest);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        let file = File::from(opened.map_err(|error| at("open", &path)(error.into()))?);
        let found = rustix::fs::fstat(&file).map_err(|error| at("look at", &path)(error.into()))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            let why = "what lies in the spool is no file".into();
            return Err(FetchError::Relayed { digest: *digest, why });
        }
        if u64::try_from(found.st_size).map_or(true, |bytes| bytes > limit_bytes) {
            return Err(FetchError::TooLarge { digest: *digest, limit_bytes });
        }
        Ok(file)
    }

    /// Says it to the session under way. Without one it is left: the next time that nothing is fetched, all
    /// that is in the spool goes.
    fn say(&self, order: Order) {
        if let Some(orders) = self.session.borrow().as_ref() {
            drop(orders.try_send(order));
        }
    }
}

fn is_missing(error: &FetchError) -> bool {
    matches!(error, FetchError::Fault(fault) if fault.source.kind() == ErrorKind::NotFound)
}

/// Ends a fetch that is no longer wanted, however its work ends.
struct Stop<'a> {
    orders: &'a mpsc::Sender<Order>,
    number: u64,
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        drop(self.orders.try_send(Order::Stop { number: self.number }));
    }
}

impl Depot for RelayDepot {
    fn fetch<'a>(
        &'a self,
        digest: &'a Digest,
        limit_bytes: u64,
        cancel: &'a Cancel,
    ) -> Work<'a, Result<File, FetchError>> {
        Box::pin(async move {
            tokio::select! {
                brought = self.bring(digest, limit_bytes) => brought,
                () = cancel.cancelled() => Err(FetchError::Cancelled),
            }
        })
    }

    fn discard(&self, digest: &Digest) {
        self.say(Order::Discard(*digest));
    }

    fn clear(&self) -> Result<(), Fault> {
        self.say(Order::Clear);
        Ok(())
    }

    /// The network side hears it itself.
    fn set_base(&self, _base: &str) {}
}
