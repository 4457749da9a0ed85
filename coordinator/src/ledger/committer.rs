//! The committer: one thread of its own that makes groups of entries durable, in order, and only then
//! answers. Any failure of the disk ends the process: afterwards nobody knows what the disk holds.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use groundswell_common::api::AuditHead;
use tokio::sync::oneshot;

use super::log::{LedgerError, Log, Reader};

/// Groups that may wait for the disk.
const QUEUE_GROUPS: usize = 64;
/// Entries that are made durable by one sync at most.
const COMMIT_ENTRIES_MAX: usize = 8_192;

/// Told when a group is durable; the newest entry by then.
pub type Appended = oneshot::Receiver<AuditHead>;

struct Group {
    payloads: Vec<Vec<u8>>,
    done: oneshot::Sender<AuditHead>,
}

/// The way to the committer. Dropping it ends the thread after all that waits is durable.
#[derive(Debug)]
pub struct Ledger {
    queue: Option<SyncSender<Group>>,
    thread: Option<JoinHandle<()>>,
    reader: Reader,
}

/// Why a group was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk is far behind.
    #[error("append to the ledger: 64 groups wait for the disk; slow down")]
    Full,
    /// The committer is gone.
    #[error("append to the ledger: it is closed")]
    Closed,
}

impl Ledger {
    /// Starts the committer over an open log.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(log: Log) -> std::io::Result<Self> {
        let reader = log.reader();
        let (queue, groups) = sync_channel(QUEUE_GROUPS);
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || run(log, &groups))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), reader })
    }

    /// A reader of what is durable.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Asks for the payloads to become the next entries. They are durable once the answer comes.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended.
    pub fn append(&self, payloads: Vec<Vec<u8>>) -> Result<Appended, AppendError> {
        let (done, appended) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(AppendError::Closed)?;
        match queue.try_send(Group { payloads, done }) {
            Ok(()) => Ok(appended),
            Err(TrySendError::Full(_)) => Err(AppendError::Full),
            Err(TrySendError::Disconnected(_)) => Err(AppendError::Closed),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer of the ledger panicked");
        }
    }
}

fn run(mut log: Log, groups: &Receiver<Group>) {
    // A panic of this thread must not leave a process that waits for a disk that nobody writes to.
    let guard = AbortOnPanic;
    while let Ok(first) = groups.recv() {
        let mut batch = vec![first];
        let mut entries: usize = batch.iter().map(|group| group.payloads.len()).sum();
        while entries < COMMIT_ENTRIES_MAX
            && let Ok(group) = groups.try_recv()
        {
            entries += group.payloads.len();
            batch.push(group);
        }
        commit(&mut log, batch);
    }
    std::mem::forget(guard);
}

fn commit(log: &mut Log, batch: Vec<Group>) {
    let mut payloads = Vec::new();
    let mut waiting = Vec::new();
    for group in batch {
        payloads.extend(group.payloads);
        waiting.push(group.done);
    }
    match log.append(&payloads) {
        Ok(head) => {
            for done in waiting {
                // Whoever asked may have gone; the entries are durable all the same.
                let _ = done.send(head);
            }
        }
        Err(error) => breach(&error),
    }
}

fn breach(error: &LedgerError) -> ! {
    tracing::error!(
        error = groundswell_common::chain(error),
        "failed to commit to the ledger; the process ends"
    );
    std::process::abort();
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_means_that_the_entries_can_be_read_from_the_disk() {
        let place = tempfile::tempdir().unwrap();
        let log = Log::open(place.path(), &mut |_| {}).unwrap();
        let ledger = Ledger::start(log).unwrap();
        let first = ledger.append(vec![b"a".to_vec(), b"b".to_vec()]).unwrap();
        let second = ledger.append(vec![b"c".to_vec()]).unwrap();
        assert!(first.await.unwrap().seq >= 2);
        assert_eq!(second.await.unwrap().seq, 3);
        let mut count = 0;
        let head = Log::verify(place.path(), &mut |_| count += 1).unwrap();
        assert_eq!((head.seq, count), (3, 3));
        assert_eq!(ledger.reader().head(), head);
    }
}
