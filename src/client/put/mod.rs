//! Puts files: places them in batches, streams each batch down one chain, commits what is durable.
//!
//! Invariant (promise P1): a file is reported with the nodes that confirmed both its content and
//! its entry. Where a chain comes out shorter than planned, other machines pull the missing copies
//! before the commit, as long as there are any; a node that failed is not tried again in this put.
//!
//! | file | what |
//! |---|---|
//! | `worker` | one batch after the other, over connections that it keeps |
//! | [`coming`] | a file that is still being written |

pub mod coming;
mod worker;

use super::{ClientError, Session};
use crate::limits::{PUT_BATCH_BYTES, PUT_BATCH_FILES};
use crate::transfer::Progress;
use crate::types::{Body, FileName};
use coming::Coming;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;
use worker::Worker;

/// One file, link or empty folder to be stored.
#[derive(Clone, Debug)]
pub struct PutItem {
    /// Its name.
    pub name: FileName,
    /// What it is.
    pub what: PutKind,
    /// Permission bits.
    pub mode: u16,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
}

/// What is stored.
#[derive(Clone, Debug)]
pub enum PutKind {
    /// A file, and its size as last seen.
    File {
        /// Where it is.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// A file that is still being written, and the size that it will have.
    Coming {
        /// Where it is.
        path: PathBuf,
        /// Bytes.
        size: u64,
        /// How far it is.
        coming: Coming,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: Box<str>,
    },
    /// An empty folder.
    Folder,
}

impl PutKind {
    /// Bytes of its content.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            PutKind::File { size, .. } | PutKind::Coming { size, .. } => *size,
            PutKind::Symlink { .. } | PutKind::Folder => 0,
        }
    }

    fn has_bytes(&self) -> bool {
        matches!(self, PutKind::File { .. } | PutKind::Coming { .. })
    }
}

/// A file that is stored.
#[derive(Clone, Debug)]
pub struct PutDone {
    /// Its name.
    pub name: FileName,
    /// What it is.
    pub body: Body,
    /// Copies wanted.
    pub wanted: u8,
    /// Who confirmed it: display names.
    pub holders: Vec<String>,
    /// Bytes that left this machine for it.
    pub sent_bytes: u64,
    /// Bytes that the first holder had already.
    pub reused_bytes: u64,
}

/// A file that is not stored.
#[derive(Debug)]
pub struct PutFailed {
    /// Its name.
    pub name: FileName,
    /// Why.
    pub error: ClientError,
}

/// What became of a put.
#[derive(Debug, Default)]
pub struct PutReport {
    /// Stored.
    pub done: Vec<PutDone>,
    /// Not stored: their own files could not be read.
    pub failed: Vec<PutFailed>,
}

/// Batches under way at once: one moves while the other commits.
const WORKERS: usize = 2;

/// Puts `items`, each in `replicas` copies.
///
/// # Errors
/// When the cluster refuses or cannot be reached: what `report` says is stored is stored all the
/// same. A file that cannot be read is no error of the whole.
pub async fn put(
    session: &Session,
    items: Vec<PutItem>,
    replicas: u8,
    progress: Arc<dyn Progress>,
) -> (PutReport, Result<(), ClientError>) {
    let queue = Arc::new(Mutex::new(batches(items).into_iter()));
    let failed_nodes = Arc::default();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let mut worker = Worker::new(session, replicas, Arc::clone(&progress), Arc::clone(&failed_nodes));
        let queue = Arc::clone(&queue);
        workers.spawn(async move {
            let mut result = Ok(());
            loop {
                let next = queue.lock().await.next();
                let Some(batch) = next else { break };
                if let Err(error) = worker.put_batch(batch).await {
                    // The other worker ends after its batch, too.
                    while queue.lock().await.next().is_some() {}
                    result = Err(error);
                    break;
                }
            }
            worker.close().await;
            (worker.take_report(), result)
        });
    }
    let mut report = PutReport::default();
    let mut result = Ok(());
    while let Some(ended) = workers.join_next().await {
        match ended {
            Ok((part, ended)) => {
                report.done.extend(part.done);
                report.failed.extend(part.failed);
                if result.is_ok() {
                    result = ended;
                }
            }
            Err(_) => result = Err(ClientError::Nonsense),
        }
    }
    report.done.sort_by(|a, b| a.name.cmp(&b.name));
    (report, result)
}

/// Cuts the work into placements: small enough to balance, large enough to pay for a round trip.
fn batches(items: Vec<PutItem>) -> Vec<Vec<PutItem>> {
    let mut all = Vec::new();
    let mut batch = Vec::new();
    let mut bytes = 0_u64;
    for item in items {
        let size = item.what.size();
        let full = batch.len() >= PUT_BATCH_FILES || bytes.saturating_add(size) > PUT_BATCH_BYTES;
        if full && !batch.is_empty() {
            all.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes = bytes.saturating_add(size);
        batch.push(item);
    }
    if !batch.is_empty() {
        all.push(batch);
    }
    all
}

/// Puts one file after the other, over connections that it keeps between them.
pub struct Putter(Worker);

impl Putter {
    /// Nothing is dialled before something is put.
    #[must_use]
    pub fn new(session: &Session) -> Putter {
        Putter(Worker::new(session, 1, Arc::new(|_: u64| {}), Arc::default()))
    }

    /// Puts a file in `replicas` copies. One whose put was given up, or failed, is not to be used again.
    ///
    /// # Errors
    /// When it is not stored, or that is not known.
    pub async fn put(&mut self, item: PutItem, replicas: u8) -> Result<PutDone, ClientError> {
        let Putter(worker) = self;
        worker.begin_anew(replicas).await;
        let ended = worker.put_batch(vec![item]).await;
        let report = worker.take_report();
        ended?;
        if let Some(failed) = report.failed.into_iter().next() {
            return Err(failed.error);
        }
        report.done.into_iter().next().ok_or(ClientError::Nonsense)
    }
}
