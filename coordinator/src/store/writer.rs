//! The thread that keeps the store a little behind the ledger. A failure ends the process: the engine
//! must not be trusted afterwards, and the next start decides.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::{Changes, Store};

/// The way to the store's thread. Dropping it ends the thread after what waits is kept.
#[derive(Debug)]
pub struct Writer {
    queue: Option<SyncSender<Changes>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread over an open store.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let (queue, changes) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("view".to_owned())
            .spawn(move || run(store, &changes))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands over changes; gives them back while the thread is still busy with those before.
    ///
    /// # Errors
    /// The changes themselves.
    pub fn offer(&self, changes: Changes) -> Result<(), Changes> {
        match &self.queue {
            None => Err(changes),
            Some(queue) => match queue.try_send(changes) {
                Ok(()) => Ok(()),
                Err(TrySendError::Full(changes) | TrySendError::Disconnected(changes)) => {
                    Err(changes)
                }
            },
        }
    }

    /// Keeps the last changes and ends the thread. Blocking.
    pub fn finish(mut self, changes: Changes) {
        if let Some(queue) = self.queue.take()
            && queue.send(changes).is_err()
        {
            tracing::error!("the thread of the view's store is gone; the next start rebuilds it");
        }
        self.join();
    }

    fn join(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the view's store panicked; the next start rebuilds it");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

fn run(mut store: Box<dyn Store>, changes: &Receiver<Changes>) {
    while let Ok(changes) = changes.recv() {
        if let Err(error) = store.save(&changes) {
            tracing::error!(
                error = groundswell_common::chain(&error),
                "failed to keep the view; the process ends"
            );
            std::process::abort();
        }
    }
}
