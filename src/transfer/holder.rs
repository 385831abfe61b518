//! The serving side of a transfer connection: parts of contents, or a place in a put chain.
//!
//! The first frame decides which; a third kind is a command that wants copies verified. Invariant: what a reader asked for is answered in the order of
//! its requests, and no reader makes this node hold more than a few chunks in memory: requests
//! wait in the socket until the answers before them are on their way.

use super::connection::{Connection, ConnectionError, Endpoint, FrameReader, FrameWriter};
use super::doubts::Doubts;
use super::hop;
use super::verify::serve_verify;
use crate::limits::{
    CHUNK_BYTES_MAX, FETCH_WINDOW_REQUESTS, IDLE_TIMEOUT, SERVE_BATCH_BYTES, SERVE_BYTES_TARGET,
    WORKING_INTERVAL,
};
use crate::store::{Store, StoreError};
use crate::types::{ContentId, NodeId};
use crate::wire::message::ErrorCode;
use crate::wire::transfer::{FetchPart, TransferFrame};
use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// What serving needs from the node.
pub struct HolderContext {
    /// Contents on disk.
    pub store: Store,
    /// For dialling the next holder of a chain.
    pub endpoint: Arc<Endpoint>,
    /// Who we are.
    pub node: NodeId,
    /// Told of each content that became durable, with its size in bytes. Must not block.
    pub on_stored: Box<dyn Fn(ContentId, u64) + Send + Sync>,
    /// Told of each content that was found damaged and put aside. Must not block.
    pub on_bad: Box<dyn Fn(ContentId) + Send + Sync>,
    /// Transfer connections being served now.
    pub transfers: AtomicU32,
    /// What readers say of copies here.
    pub doubts: Doubts,
    /// Places for verifications on request, [`VERIFIES_AT_ONCE`](crate::limits::VERIFIES_AT_ONCE).
    pub verifies: Semaphore,
}

/// Why serving a connection ended before the peer closed it.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The connection failed.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer broke the protocol.
    #[error("{address} broke the protocol: {what}")]
    Protocol {
        /// Who.
        address: SocketAddr,
        /// How.
        what: &'static str,
    },
    /// Our own side could not go on, and the peer was told so.
    #[error("{message}")]
    Failed {
        /// As told to the peer.
        code: ErrorCode,
        /// As told to the peer.
        message: Box<str>,
    },
}

/// Counts a connection for as long as it is served.
struct Counted(Arc<HolderContext>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.transfers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves a transfer connection until the peer closes it.
///
/// # Errors
/// When the connection breaks, the peer breaks the protocol, or our disk fails.
pub async fn serve(connection: Connection, context: Arc<HolderContext>) -> Result<(), HolderError> {
    context.transfers.fetch_add(1, Ordering::Relaxed);
    let _counted = Counted(Arc::clone(&context));
    let address = connection.address();
    let (mut reader, writer) = connection.split();
    reader.set_timeout(Some(IDLE_TIMEOUT));
    match reader.read::<TransferFrame>().await? {
        Some((TransferFrame::ChainOpen { onward }, _)) => {
            hop::serve_chain(reader, writer, onward, context).await
        }
        Some((TransferFrame::Fetch { tag, content, part }, _)) => {
            let first = Asked { tag, content, what: What::Part(part) };
            serve_fetch(first, reader, writer, context).await
        }
        Some((TransferFrame::Verify { contents }, _)) => {
            serve_verify(contents, reader, writer, context).await
        }
        Some(_) => Err(HolderError::Protocol { address, what: "it begins with no chain, fetch or verify" }),
        None => Ok(()),
    }
}

/// What a failure of the store is called on the wire.
pub(super) fn code_of(error: &StoreError) -> ErrorCode {
    match error {
        StoreError::Full { .. } => ErrorCode::NoSpace,
        StoreError::ChunkDamaged { .. } | StoreError::Refused(_) | StoreError::Mismatch { .. } => {
            ErrorCode::Connection
        }
        StoreError::NotHeld(_) | StoreError::NoSuchPart { .. } => ErrorCode::NotFound,
        _ => ErrorCode::Disk,
    }
}

/// What a reader asks of a content.
#[derive(Clone, Copy)]
enum What {
    Part(FetchPart),
    /// What it was given is wrong.
    Doubt,
}

/// A reader's request.
#[derive(Clone, Copy)]
struct Asked {
    tag: u32,
    content: ContentId,
    what: What,
}

impl Asked {
    /// About how many bytes the answer has.
    fn weight(&self) -> usize {
        match self.what {
            What::Part(FetchPart::Root | FetchPart::Page(_)) => super::manifest::PAGE_BYTES,
            What::Part(FetchPart::Bytes { bytes, .. }) => bytes as usize,
            What::Doubt => 0,
        }
    }

    fn read(&self, context: &HolderContext) -> Result<Bytes, StoreError> {
        let What::Part(part) = self.what else { return Ok(Bytes::new()) };
        let result = match part {
            FetchPart::Root => context.store.root(&self.content).map(Bytes::from),
            FetchPart::Page(number) => context.store.page(&self.content, number).map(Bytes::from),
            FetchPart::Bytes { bytes, .. } if bytes as usize > CHUNK_BYTES_MAX => {
                Err(StoreError::Refused("more than a chunk at once"))
            }
            FetchPart::Bytes { offset, bytes } => context.store.read(&self.content, offset, bytes),
        };
        // Out of descriptors, say, is no damage: only a copy that is put aside is told of.
        if result.as_ref().is_err_and(StoreError::is_damage)
            && context.store.verify(&self.content).is_ok_and(|whole| !whole)
        {
            (context.on_bad)(self.content);
        }
        result
    }
}

type Answer = (u32, Result<Bytes, StoreError>);

/// Three stages: requests are read from the wire, parts from the disk, answers are written.
async fn serve_fetch(
    first: Asked,
    mut reader: FrameReader,
    mut writer: FrameWriter,
    context: Arc<HolderContext>,
) -> Result<(), HolderError> {
    let (ask, mut asked) = mpsc::channel::<Asked>(FETCH_WINDOW_REQUESTS);
    let (answer, mut answers) = mpsc::channel::<Vec<Answer>>(1);
    // Requests read and not yet answered.
    let due = AtomicUsize::new(1);
    let reading = async {
        let address = reader.address();
        let mut request = first;
        while ask.send(request).await.is_ok() {
            request = loop {
                match reader.read::<TransferFrame>().await {
                    Ok(Some((TransferFrame::Fetch { tag, content, part }, _))) => {
                        break Asked { tag, content, what: What::Part(part) };
                    }
                    Ok(Some((TransferFrame::Doubt { tag, content }, _))) => {
                        Doubts::raise(&context, address.ip(), content);
                        break Asked { tag, content, what: What::Doubt };
                    }
                    Ok(Some((TransferFrame::Working, _))) => {}
                    Ok(Some(_)) => {
                        return Err(HolderError::Protocol { address, what: "a frame out of place" });
                    }
                    Ok(None) => {
                        drop(ask);
                        return Ok(());
                    }
                    // A slow reader asks for no more until it has what it asked for.
                    Err(ConnectionError::Timeout { .. }) if due.load(Ordering::Relaxed) > 0 => {}
                    Err(error) => return Err(error.into()),
                }
            };
            due.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    };
    let disk = async {
        let mut waiting: Option<Asked> = None;
        loop {
            let mut batch: Vec<Asked> = waiting.take().into_iter().collect();
            if batch.is_empty() {
                match asked.recv().await {
                    Some(request) => batch.push(request),
                    None => break,
                }
            }
            let mut bytes = batch.iter().map(Asked::weight).sum::<usize>();
            // Three batches a reader are in memory at once: read, waiting, being written.
            let readers = context.transfers.load(Ordering::Relaxed).max(1) as usize;
            let batch_bytes = SERVE_BATCH_BYTES.min(SERVE_BYTES_TARGET / readers);
            while let Ok(request) = asked.try_recv() {
                bytes += request.weight();
                if bytes > batch_bytes {
                    waiting = Some(request);
                    break;
                }
                batch.push(request);
            }
            let context = Arc::clone(&context);
            let read = tokio::task::spawn_blocking(move || {
                batch.iter().map(|request| (request.tag, request.read(&context))).collect()
            });
            let Ok(read) = read.await else { break };
            if answer.send(read).await.is_err() {
                break;
            }
        }
        drop(answer);
    };
    let writing = write_answers(&mut writer, &mut answers, &due);
    tokio::pin!(reading, disk, writing);
    let (mut read_done, mut disk_done) = (false, false);
    loop {
        tokio::select! {
            result = &mut writing => return Ok(result?),
            result = &mut reading, if !read_done => {
                result?;
                read_done = true;
            }
            () = &mut disk, if !disk_done => disk_done = true,
        }
    }
}

/// Writes the answers, and `Working` while one is due and the disk is slow.
async fn write_answers(
    writer: &mut FrameWriter,
    answers: &mut mpsc::Receiver<Vec<Answer>>,
    due: &AtomicUsize,
) -> Result<(), ConnectionError> {
    loop {
        let batch = match answers.try_recv() {
            Ok(batch) => batch,
            Err(_) => {
                writer.flush().await?;
                match timeout(WORKING_INTERVAL, answers.recv()).await {
                    Ok(Some(batch)) => batch,
                    Ok(None) => return writer.close().await,
                    Err(_) if due.load(Ordering::Relaxed) == 0 => continue,
                    Err(_) => {
                        writer.write(&TransferFrame::Working, &[]).await?;
                        continue;
                    }
                }
            }
        };
        for (tag, result) in batch {
            due.fetch_sub(1, Ordering::Relaxed);
            match result {
                Ok(bytes) => writer.write(&TransferFrame::Data { tag }, &bytes).await?,
                Err(error) => {
                    let message = error.to_string().into();
                    writer.write(&TransferFrame::Missing { tag, message }, &[]).await?;
                }
            }
        }
    }
}
