//! One switch that tells work to stop. Work looks at it between pieces and waits on it beside its sockets.

use tokio::sync::watch;

/// The side that stops the work.
#[derive(Debug)]
pub(crate) struct Canceller(watch::Sender<bool>);

/// The side that is told.
#[derive(Clone, Debug)]
pub(crate) struct Cancel(watch::Receiver<bool>);

/// A new switch, not thrown.
pub(crate) fn switch() -> (Canceller, Cancel) {
    let (sender, receiver) = watch::channel(false);
    (Canceller(sender), Cancel(receiver))
}

impl Canceller {
    /// Tells the work to stop.
    pub(crate) fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl Cancel {
    /// Whether the work should stop.
    pub(crate) fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when the work should stop.
    pub(crate) async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        // A canceller that is gone without a word will never cancel.
        if receiver.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
