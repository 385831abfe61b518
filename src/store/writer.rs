//! The one thread that writes to the database: takes whatever has queued up, commits it with one
//! sync, then tells each caller. Ten thousand small contents so cost some dozens of syncs.
//!
//! Invariant: nobody is told "durable" before the commit's sync returned. A commit that failed may
//! or may not be on disk, so after one the store is suspect and refuses every later write until it
//! is opened again.

use super::change::Change;
use super::database::Catalog;
use super::error::StoreError;
use crate::limits::{COMMIT_BYTES_TARGET, DATABASE_QUEUE_MAX};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Called once with the outcome, on the writer's thread, or at once on the caller's where nothing
/// was queued. It must not block, and not write to the store.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Job {
    change: Change,
    done: Done,
}

/// What the writer and its callers share.
#[derive(Debug, Default)]
pub(super) struct Health {
    suspect: AtomicBool,
    commits: AtomicU64,
}

impl Health {
    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(super) fn set_suspect(&self) {
        if !self.suspect.swap(true, Ordering::AcqRel) {
            tracing::error!("a sync failed: the disk is suspect, nothing is written to it any more");
        }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_suspect() { Err(StoreError::Suspect) } else { Ok(()) }
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

/// The queue to the writer's thread.
pub(super) struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    health: Arc<Health>,
}

impl Writer {
    pub(super) fn start(catalog: Arc<Catalog>, health: Arc<Health>) -> std::io::Result<Writer> {
        let (queue, jobs) = sync_channel(DATABASE_QUEUE_MAX);
        let shared = Arc::clone(&health);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(&jobs, &catalog, &shared))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread), health })
    }

    /// Queues a change; blocks while the queue is full.
    pub(super) fn submit(&self, change: Change, done: Done) {
        if self.health.is_suspect() {
            return done(Err(StoreError::Suspect));
        }
        let Some(queue) = &self.queue else { return done(Err(StoreError::Suspect)) };
        if let Err(unsent) = queue.send(Job { change, done }) {
            self.health.set_suspect();
            (unsent.0.done)(Err(StoreError::Suspect));
        }
    }

    /// Queues a change and waits until it is durable.
    pub(super) fn write(&self, change: Change) -> Result<(), StoreError> {
        let (sender, outcome) = sync_channel(1);
        self.submit(
            change,
            Box::new(move |result| {
                // The receiver waits below for as long as the sender lives.
                let _ = sender.send(result);
            }),
        );
        outcome.recv().unwrap_or(Err(StoreError::Suspect))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            // A callback may have held the last handle to the store: a thread cannot await itself.
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn run(jobs: &Receiver<Job>, catalog: &Catalog, health: &Health) {
    while let Ok(first) = jobs.recv() {
        let mut bytes = size_of_change(&first.change);
        let mut batch = vec![first];
        while batch.len() < DATABASE_QUEUE_MAX && bytes < COMMIT_BYTES_TARGET {
            let Ok(job) = jobs.try_recv() else { break };
            bytes += size_of_change(&job.change);
            batch.push(job);
        }
        let result = match health.check() {
            Ok(()) => catalog.apply(batch.iter().map(|job| &job.change)),
            suspect => suspect,
        };
        match result {
            Ok(()) => {
                health.commits.fetch_add(1, Ordering::Relaxed);
                batch.into_iter().for_each(|job| (job.done)(Ok(())));
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed");
                health.set_suspect();
                let source = match &error {
                    StoreError::Database { source } => Some(Arc::clone(source)),
                    _ => None,
                };
                let mut error = Some(error);
                for job in batch {
                    let error = match (error.take(), &source) {
                        (Some(error), _) => error,
                        (None, Some(source)) => StoreError::database(source),
                        (None, None) => StoreError::Suspect,
                    };
                    (job.done)(Err(error));
                }
            }
        }
    }
}

/// Roughly how many bytes a change writes.
fn size_of_change(change: &Change) -> usize {
    match change {
        Change::Catalog(writes) => writes.len() * 256,
        Change::Content(new) => {
            new.inline.as_ref().map_or(0, Vec::len) + new.record.chunks as usize * 128 + 256
        }
        Change::Blob(_, bytes) => bytes.len(),
        Change::Verified(contents) => contents.len() * 256,
        Change::ForgetAsides(contents) => contents.len() * 256,
        Change::Term(_) | Change::Remove(_) | Change::Aside(..) | Change::Readopt(..) | Change::Stopped => {
            256
        }
    }
}
