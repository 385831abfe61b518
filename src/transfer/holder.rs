//! The serving side of a transfer connection: parts of contents, or a place in a put chain.
//!
//! The first frame decides which; a third kind is a command that wants copies verified. Invariant:
//! what a reader asked for is answered in the order of its requests, and all readers together make
//! this node hold [`SERVE_BYTES_MAX`] in memory, and each [`SERVE_PIECE_BYTES`] a few times: requests
//! wait in the socket until the answers before them are on their way, and a part that finds no room
//! goes in pieces.

use super::connection::{Connection, ConnectionError, Endpoint, FrameReader, FrameWriter};
use super::doubts::Doubts;
use super::hop;
use super::verify::serve_verify;
use crate::limits::{
    CHUNK_BYTES_MAX, FETCH_WINDOW_REQUESTS, IDLE_TIMEOUT, SERVE_BATCH_BYTES, SERVE_BYTES_MAX,
    SERVE_PIECE_BYTES, WORKING_INTERVAL,
};
use crate::store::{Store, StoreError};
use crate::types::{ContentId, NodeId};
use crate::wire::message::ErrorCode;
use crate::wire::transfer::{FetchPart, TransferFrame};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
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
    /// Room in memory for parts on their way to readers: see [`room_to_serve`].
    pub serving: Arc<Semaphore>,
    /// What readers say of copies here.
    pub doubts: Doubts,
    /// Places for verifications on request, [`VERIFIES_AT_ONCE`](crate::limits::VERIFIES_AT_ONCE).
    pub verifies: Semaphore,
}

/// The larger of two sizes of pieces in which a part goes that finds no room as a whole.
const PIECE_BYTES: u32 = 1 << 20;
/// Bytes that one permit of [`HolderContext::serving`] stands for.
const SERVING_UNIT: usize = 1 << 10;

/// The room for parts that wait to be written to readers, [`SERVE_BYTES_MAX`] in all.
#[must_use]
pub fn room_to_serve() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(SERVE_BYTES_MAX / SERVING_UNIT))
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
        Some((TransferFrame::Verify { contents, anew }, _)) => {
            serve_verify((contents, anew), reader, writer, context).await
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
            // More is refused.
            What::Part(FetchPart::Bytes { bytes, .. }) => (bytes as usize).min(CHUNK_BYTES_MAX),
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

/// What goes to the wire.
enum Answer {
    /// All of a part, or why it is missing.
    Whole { tag: u32, result: Result<Bytes, StoreError> },
    /// A part of so many bytes, which follow in pieces.
    Begin { tag: u32, bytes: usize },
    /// The next of them; the last ends the answer.
    Piece { bytes: Bytes, last: bool },
}

/// Answers read in one go, and their room in memory; without it they are small.
struct Batch {
    answers: Vec<Answer>,
    _room: Option<OwnedSemaphorePermit>,
}

impl HolderContext {
    fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(SERVING_UNIT)).ok()?;
        Arc::clone(&self.serving).try_acquire_many_owned(units).ok()
    }
}

/// Three stages: requests are read from the wire, parts from the disk, answers are written.
async fn serve_fetch(
    first: Asked,
    mut reader: FrameReader,
    mut writer: FrameWriter,
    context: Arc<HolderContext>,
) -> Result<(), HolderError> {
    let (ask, mut asked) = mpsc::channel::<Asked>(FETCH_WINDOW_REQUESTS);
    let (answer, mut answers) = mpsc::channel::<Batch>(1);
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
    let disk = read_parts(&mut asked, answer, &context);
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

/// Reads what is asked for: as much at once as there is room for in memory. Ends when nobody asks or
/// listens any more, or a part that was begun cannot be read to its end.
async fn read_parts(
    asked: &mut mpsc::Receiver<Asked>,
    answers: mpsc::Sender<Batch>,
    context: &Arc<HolderContext>,
) {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            match asked.recv().await {
                Some(request) => waiting.push_back(request),
                None => return,
            }
        }
        while waiting.len() < FETCH_WINDOW_REQUESTS
            && let Ok(request) = asked.try_recv()
        {
            waiting.push_back(request);
        }
        // Three batches a reader are in memory at once: read, waiting, being written.
        let readers = context.transfers.load(Ordering::Relaxed).max(1) as usize;
        let most = SERVE_BATCH_BYTES.min(SERVE_BYTES_MAX / 3 / readers);
        let (mut count, mut bytes) = (0, 0);
        for request in &waiting {
            if count > 0 && bytes + request.weight() > most {
                break;
            }
            count += 1;
            bytes += request.weight();
        }
        let room = context.room(bytes);
        let Some(first) = waiting.front().copied() else { return };
        let sent = if room.is_none() && first.weight() > SERVE_PIECE_BYTES {
            waiting.pop_front();
            read_in_pieces(first, &answers, context).await
        } else {
            let batch: Vec<Asked> = waiting.drain(..if room.is_some() { count } else { 1 }).collect();
            let reader = Arc::clone(context);
            let read = tokio::task::spawn_blocking(move || {
                let whole =
                    |request: &Asked| Answer::Whole { tag: request.tag, result: request.read(&reader) };
                batch.iter().map(whole).collect()
            });
            let Ok(read) = read.await else { return };
            answers.send(Batch { answers: read, _room: room }).await.is_ok()
        };
        if !sent {
            return;
        }
    }
}

/// Reads a part for which there is no room as a whole. Gives whether all of it went its way.
async fn read_in_pieces(asked: Asked, answers: &mpsc::Sender<Batch>, context: &Arc<HolderContext>) -> bool {
    let send = async |answer, room| answers.send(Batch { answers: vec![answer], _room: room }).await.is_ok();
    let (mut offset, mut left) = match asked.what {
        What::Part(FetchPart::Bytes { offset, bytes }) => (offset, bytes),
        What::Part(FetchPart::Root | FetchPart::Page(_)) | What::Doubt => (0, 0),
    };
    let size = context.store.holds(&asked.content);
    let whole = offset.checked_add(u64::from(left)).is_some_and(|end| size.is_some_and(|size| end <= size));
    let (tag, bytes) = (asked.tag, left as usize);
    if left == 0 || bytes > CHUNK_BYTES_MAX || !whole {
        let reader = Arc::clone(context);
        let read = tokio::task::spawn_blocking(move || asked.read(&reader)).await;
        let Ok(result) = read else { return false };
        return send(Answer::Whole { tag, result }, None).await;
    }
    if !send(Answer::Begin { tag, bytes }, None).await {
        return false;
    }
    while left > 0 {
        let large = left.min(PIECE_BYTES);
        let room = context.room(large as usize);
        let piece = if room.is_some() { large } else { left.min(SERVE_PIECE_BYTES as u32) };
        let what = What::Part(FetchPart::Bytes { offset, bytes: piece });
        let reader = Arc::clone(context);
        let read = tokio::task::spawn_blocking(move || Asked { what, ..asked }.read(&reader)).await;
        let Ok(Ok(bytes)) = read else { return false };
        offset += u64::from(piece);
        left -= piece;
        if !send(Answer::Piece { bytes, last: left == 0 }, room).await {
            return false;
        }
    }
    true
}

/// Writes the answers, and `Working` while one is due and the disk is slow.
async fn write_answers(
    writer: &mut FrameWriter,
    answers: &mut mpsc::Receiver<Batch>,
    due: &AtomicUsize,
) -> Result<(), ConnectionError> {
    let mut in_frame = false;
    loop {
        let batch = match answers.try_recv() {
            Ok(batch) => batch,
            Err(_) => {
                writer.flush().await?;
                match timeout(WORKING_INTERVAL, answers.recv()).await {
                    Ok(Some(batch)) => batch,
                    // Half a frame is no proper end: the reader must not wait for the rest.
                    Ok(None) if in_frame => return Ok(()),
                    Ok(None) => return writer.close().await,
                    Err(_) if in_frame || due.load(Ordering::Relaxed) == 0 => continue,
                    Err(_) => {
                        writer.write(&TransferFrame::Working, &[]).await?;
                        continue;
                    }
                }
            }
        };
        for answer in batch.answers {
            let ends = !matches!(answer, Answer::Begin { .. } | Answer::Piece { last: false, .. });
            due.fetch_sub(usize::from(ends), Ordering::Relaxed);
            match answer {
                Answer::Whole { tag, result: Ok(bytes) } => {
                    writer.write(&TransferFrame::Data { tag }, &bytes).await?;
                }
                Answer::Whole { tag, result: Err(error) } => {
                    let message = error.to_string().into();
                    writer.write(&TransferFrame::Missing { tag, message }, &[]).await?;
                }
                Answer::Begin { tag, bytes } => writer.begin(&TransferFrame::Data { tag }, bytes).await?,
                Answer::Piece { bytes, .. } => writer.write_piece(&bytes).await?,
            }
            in_frame = !ends;
        }
    }
}
