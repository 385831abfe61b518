//! The sending side of a put: one chain of holders, through which contents stream.
//!
//! Invariant: a content is reported as stored only on nodes that said so themselves, each after
//! syncing it. The sender's wire carries each needed chunk once, however many holders there are.

use super::Progress;
use super::connection::{ConnectionError, Endpoint, FrameReader, FrameWriter, dial_route};
use super::patience::Patience;
pub use super::reading::{OpenSource, Source, SourceCheck};
use super::reading::{Piece, ReadingThread, Step, Windows};
use crate::clock;
use crate::limits::{IDLE_TIMEOUT, PUT_PIECES_QUEUE, STALL_TIMEOUT, WORKING_INTERVAL};
use crate::types::{ChunkRef, ContentId, NodeId, NodeRoute};
use crate::wire::message::ErrorCode;
use crate::wire::transfer::{ContentEnd, TransferFrame};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

/// Why a source was not put; the chain goes on.
#[derive(Debug, thiserror::Error)]
#[error("cannot be read")]
pub struct SourceError {
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Why a chain ended.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The route is empty.
    #[error("no holder to send to")]
    Empty,
    /// None of the holders could be reached; one cause for each.
    #[error("none of {} holders can be reached", failed.len())]
    Unreachable {
        /// Who, and why.
        failed: Vec<(NodeId, ConnectionError)>,
    },
    /// The first holder sent nothing for [`STALL_TIMEOUT`] though something was due.
    #[error("node {0} stalled")]
    Stalled(NodeId),
    /// The first holder said that it cannot go on.
    #[error("node {node}: {message}")]
    Failed {
        /// Who.
        node: NodeId,
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: Box<str>,
    },
    /// The connection to the first holder broke.
    #[error("the connection to node {node} broke")]
    Connection {
        /// Who.
        node: NodeId,
        /// Why.
        #[source]
        source: ConnectionError,
    },
    /// The first holder broke the protocol.
    #[error("node {node} broke the protocol: {what}")]
    Protocol {
        /// Who.
        node: NodeId,
        /// How.
        what: &'static str,
    },
    /// The caller stopped listening for results.
    #[error("nobody listens for the results")]
    Abandoned,
}

impl ChainError {
    /// The node that failed; the rest of the chain may be fine.
    #[must_use]
    pub fn node(&self) -> Option<NodeId> {
        match self {
            ChainError::Stalled(node)
            | ChainError::Failed { node, .. }
            | ChainError::Connection { node, .. }
            | ChainError::Protocol { node, .. } => Some(*node),
            ChainError::Empty | ChainError::Unreachable { .. } | ChainError::Abandoned => None,
        }
    }
}

/// A content that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredContent {
    /// Its id.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Who has it on disk.
    pub nodes: Vec<NodeId>,
    /// Who dropped out of the chain. Nodes of the chain in neither list were cut off by that.
    pub failed: Vec<NodeId>,
    /// Bytes that travelled from here.
    pub sent_bytes: u64,
    /// Bytes that the first holder had already.
    pub reused_bytes: u64,
}

/// What became of one source.
#[derive(Debug)]
pub struct PutResult {
    /// As in the [`Source`].
    pub tag: u64,
    /// Stored, or why it could not be read.
    pub outcome: Result<StoredContent, SourceError>,
}

/// An open chain. Dropping it ends it; holders keep half-received contents for a repeated put.
pub struct ChainSender {
    first: NodeId,
    nodes: Vec<NodeId>,
    failed: Vec<NodeId>,
    reader: FrameReader,
    writer: FrameWriter,
    next_no: u32,
    broken: bool,
}

impl ChainSender {
    /// Opens a chain through the nodes of `route`, in order. Those that cannot be reached are
    /// skipped and reported by [`ChainSender::failed`].
    ///
    /// # Errors
    /// When not even one can be reached.
    pub async fn open(route: &[NodeRoute], endpoint: &Arc<Endpoint>) -> Result<ChainSender, ChainError> {
        let mut failed = Vec::new();
        for (at, first) in route.iter().enumerate() {
            match open_first(first, &route[at + 1..], endpoint).await {
                Ok((mut ready, reader, writer)) => {
                    ready.failed.extend(failed.iter().map(|(node, _)| *node));
                    return Ok(ChainSender {
                        first: first.node,
                        nodes: ready.nodes,
                        failed: ready.failed,
                        reader,
                        writer,
                        next_no: 0,
                        broken: false,
                    });
                }
                Err(error) => failed.push((first.node, error)),
            }
        }
        Err(if route.is_empty() { ChainError::Empty } else { ChainError::Unreachable { failed } })
    }

    /// Sends over a connection on which something else was said before: the contents of a sync. The
    /// node at its other end is all of the chain, and in no list of it.
    #[must_use]
    pub fn over(node: NodeId, reader: FrameReader, writer: FrameWriter) -> ChainSender {
        let (nodes, failed) = (vec![node], Vec::new());
        ChainSender { first: node, nodes, failed, reader, writer, next_no: 0, broken: false }
    }

    /// The connection, for what follows on it.
    #[must_use]
    pub fn into_connection(self) -> (FrameReader, FrameWriter) {
        (self.reader, self.writer)
    }

    /// Who is in the chain, in order.
    #[must_use]
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// Who could not be reached when the chain was opened.
    #[must_use]
    pub fn failed(&self) -> &[NodeId] {
        &self.failed
    }

    /// Sends all `sources`, until the channel is closed and every content is stored. Results come
    /// in any order; the caller must take them all the while, else the chain stands still. May be
    /// called again on the same chain.
    ///
    /// # Errors
    /// When the first holder is lost: sources without a result are then not known to be stored.
    pub async fn put(
        &mut self,
        sources: mpsc::Receiver<Source>,
        results: mpsc::Sender<PutResult>,
        progress: Arc<dyn Progress>,
    ) -> Result<(), ChainError> {
        let node = self.first;
        if self.broken {
            return Err(ChainError::Protocol { node, what: "the chain broke before" });
        }
        // Stays set if this call ends early, or is dropped in the middle of a frame.
        self.broken = true;
        let (to, pieces) = mpsc::channel(PUT_PIECES_QUEUE);
        let thread = ReadingThread {
            handle: tokio::runtime::Handle::current(),
            windows: Windows::new(),
            to,
            results: results.clone(),
            next_no: self.next_no,
        };
        let reading = tokio::task::spawn_blocking(move || thread.run(sources));
        let put = Put { node, state: Mutex::default(), changed: Notify::new(), results, progress };
        tokio::select! {
            result = put.write_all(&mut self.writer, pieces) => result?,
            result = put.read_all(&mut self.reader) => result?,
        }
        self.next_no = reading.await.map_err(|_| ChainError::Abandoned)?;
        self.broken = false;
        Ok(())
    }

    /// Ends the chain properly.
    pub async fn close(mut self) {
        if !self.broken {
            let _ = self.writer.close().await;
        }
    }
}

/// The answer to `ChainOpen`.
pub(super) struct Ready {
    pub(super) nodes: Vec<NodeId>,
    pub(super) failed: Vec<NodeId>,
}

/// Dials `first` and makes it the start of a chain that goes on with `onward`. Each `Working`
/// frame gives it [`STALL_TIMEOUT`] more, while it dials on.
pub(super) async fn open_first(
    first: &NodeRoute,
    onward: &[NodeRoute],
    endpoint: &Arc<Endpoint>,
) -> Result<(Ready, FrameReader, FrameWriter), ConnectionError> {
    let connection = dial_route(first, endpoint).await?;
    let address = connection.address();
    let (mut reader, mut writer) = connection.split();
    writer.write(&TransferFrame::ChainOpen { onward: onward.to_vec() }, &[]).await?;
    writer.flush().await?;
    reader.set_timeout(Some(STALL_TIMEOUT));
    let refused = |what: &str| ConnectionError::Broken { address, source: io::Error::other(what.to_owned()) };
    loop {
        match reader.read::<TransferFrame>().await? {
            Some((TransferFrame::Working, _)) => {}
            Some((TransferFrame::ChainReady { nodes, failed }, _)) if nodes.first() == Some(&first.node) => {
                return Ok((Ready { nodes, failed }, reader, writer));
            }
            Some((TransferFrame::Failed { message, .. }, _)) => return Err(refused(&message)),
            Some(_) => return Err(refused("it opened no chain")),
            None => return Err(refused("it closed the connection")),
        }
    }
}

/// One call of [`ChainSender::put`].
struct Put {
    node: NodeId,
    state: Mutex<State>,
    /// The state changed in a way that the writing side must see.
    changed: Notify,
    results: mpsc::Sender<PutResult>,
    progress: Arc<dyn Progress>,
}

#[derive(Default)]
struct State {
    /// Offered, the answer is due.
    offered: BTreeMap<(u32, u32), Piece>,
    /// Needed, to be sent.
    ready: VecDeque<(u32, u32, Piece)>,
    contents: BTreeMap<u32, Sending>,
    patience: Patience,
}

struct Sending {
    tag: u64,
    end: Option<ContentEnd>,
    /// Whether its first offer is out.
    begun: bool,
    sent: u64,
    reused: u64,
    /// Held until the content is stored.
    _room: Option<OwnedSemaphorePermit>,
}

impl Put {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn broke(&self, source: ConnectionError) -> ChainError {
        ChainError::Connection { node: self.node, source }
    }

    /// Offers what the reading thread gives and sends what is needed; ends when all is stored.
    async fn write_all(
        &self,
        writer: &mut FrameWriter,
        mut pieces: mpsc::Receiver<Step>,
    ) -> Result<(), ChainError> {
        // Silence is judged by the reading side: a holder with a full disk queue takes no bytes
        // for a while, but says that it is working.
        writer.set_timeout(Some(IDLE_TIMEOUT));
        let mut offer = PendingOffer::default();
        let mut open = true;
        loop {
            // All offers that are at hand go ahead of the next chunk.
            while open {
                match pieces.try_recv() {
                    Ok(piece) => self.offer(&mut offer, piece, writer).await?,
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => open = false,
                }
            }
            self.send_offer(&mut offer, None, writer).await?;
            let next = self.state().ready.pop_front();
            if let Some((content_no, index, piece)) = next {
                let frame = TransferFrame::Chunk { content_no, index };
                writer.write(&frame, &piece.bytes).await.map_err(|error| self.broke(error))?;
                self.progress.advance(u64::from(piece.chunk.bytes));
                continue;
            }
            writer.flush().await.map_err(|error| self.broke(error))?;
            if !open && self.state().contents.is_empty() {
                return Ok(());
            }
            tokio::select! {
                piece = pieces.recv(), if open => match piece {
                    Some(piece) => self.offer(&mut offer, piece, writer).await?,
                    None => open = false,
                },
                () = self.changed.notified() => {}
                () = tokio::time::sleep(IDLE_TIMEOUT / 4) => {
                    writer.write(&TransferFrame::Working, &[]).await.map_err(|error| self.broke(error))?;
                }
            }
        }
    }

    /// Takes one step of the reading thread into the offer that is being made.
    async fn offer(
        &self,
        offer: &mut PendingOffer,
        step: Step,
        writer: &mut FrameWriter,
    ) -> Result<(), ChainError> {
        match step {
            Step::Begin { content_no, tag } => {
                self.send_offer(offer, None, writer).await?;
                let sending = Sending { tag, end: None, begun: false, sent: 0, reused: 0, _room: None };
                self.state().contents.insert(content_no, sending);
                *offer = PendingOffer { content_no, first: 0, chunks: Vec::new() };
            }
            Step::Piece { content_no, index, piece } => {
                if offer.chunks.is_empty() {
                    offer.first = index;
                }
                offer.chunks.push(piece.chunk);
                self.state().offered.insert((content_no, index), piece);
            }
            Step::End { content_no, end, room } => {
                if let Some(sending) = self.state().contents.get_mut(&content_no) {
                    sending.end = Some(end);
                    sending._room = room;
                }
                self.send_offer(offer, Some(end), writer).await?;
            }
            Step::Abandon { content_no } => {
                offer.chunks.clear();
                if self.abandon(content_no) {
                    let frame = TransferFrame::Abandon { content_no };
                    writer.write(&frame, &[]).await.map_err(|error| self.broke(error))?;
                }
            }
        }
        Ok(())
    }

    /// Forgets a content; whether the holder has heard of it.
    fn abandon(&self, content_no: u32) -> bool {
        let mut state = self.state();
        state.offered.retain(|(no, _), _| *no != content_no);
        state.ready.retain(|(no, _, _)| *no != content_no);
        let begun = state.contents.remove(&content_no).is_some_and(|sending| sending.begun);
        if begun {
            state.patience.end();
        }
        begun
    }

    async fn send_offer(
        &self,
        offer: &mut PendingOffer,
        end: Option<ContentEnd>,
        writer: &mut FrameWriter,
    ) -> Result<(), ChainError> {
        if offer.chunks.is_empty() && end.is_none() {
            return Ok(());
        }
        {
            // Only from now on is an answer due: a slow pipe may give its first byte much later.
            let mut guard = self.state();
            let state = &mut *guard;
            if let Some(sending) = state.contents.get_mut(&offer.content_no).filter(|sending| !sending.begun)
            {
                sending.begun = true;
                state.patience.begin(clock::now());
            }
        }
        let chunks = std::mem::take(&mut offer.chunks);
        let first = offer.first;
        offer.first = first.saturating_add(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        let frame = TransferFrame::Offer { content_no: offer.content_no, first, chunks, end };
        writer.write(&frame, &[]).await.map_err(|error| self.broke(error))
    }

    /// Reads the holder's answers for as long as it is polled; ends only with an error.
    async fn read_all(&self, reader: &mut FrameReader) -> Result<(), ChainError> {
        reader.set_timeout(Some(WORKING_INTERVAL));
        loop {
            let frame = match reader.read::<TransferFrame>().await {
                Ok(Some((frame, _))) => frame,
                Ok(None) => {
                    let source = io::ErrorKind::UnexpectedEof.into();
                    return Err(self.broke(ConnectionError::Broken { address: reader.address(), source }));
                }
                Err(ConnectionError::Timeout { .. }) => {
                    if self.state().patience.is_over(clock::now()) {
                        return Err(ChainError::Stalled(self.node));
                    }
                    continue;
                }
                Err(error) => return Err(self.broke(error)),
            };
            self.state().patience.heard(clock::now());
            match frame {
                TransferFrame::Working => {}
                TransferFrame::Need { content_no, first, needed } => self.needed(content_no, first, &needed),
                TransferFrame::Stored { content_no, nodes, failed } => {
                    self.stored(content_no, nodes, failed).await?;
                }
                TransferFrame::Failed { code, message } => {
                    return Err(ChainError::Failed { node: self.node, code, message });
                }
                _ => {
                    return Err(ChainError::Protocol { node: self.node, what: "a frame out of place" });
                }
            }
        }
    }

    fn needed(&self, content_no: u32, first: u32, needed: &[bool]) {
        let mut reused = 0;
        {
            let mut guard = self.state();
            let state = &mut *guard;
            for (index, &needed) in (first..).zip(needed) {
                // Gone if the content was abandoned meanwhile.
                let Some(piece) = state.offered.remove(&(content_no, index)) else { continue };
                let bytes = u64::from(piece.chunk.bytes);
                if let Some(sending) = state.contents.get_mut(&content_no) {
                    if needed {
                        sending.sent += bytes;
                    } else {
                        sending.reused += bytes;
                    }
                }
                if needed {
                    state.ready.push_back((content_no, index, piece));
                } else {
                    reused += bytes;
                }
            }
        }
        self.changed.notify_one();
        if reused > 0 {
            self.progress.advance(reused);
        }
    }

    async fn stored(
        &self,
        content_no: u32,
        nodes: Vec<NodeId>,
        failed: Vec<NodeId>,
    ) -> Result<(), ChainError> {
        let sending = {
            let mut state = self.state();
            let early = state.offered.range((content_no, 0)..=(content_no, u32::MAX)).next().is_some();
            match state.contents.remove(&content_no) {
                Some(sending) if sending.end.is_some() && !early => {
                    state.patience.end();
                    sending
                }
                _ => {
                    return Err(ChainError::Protocol {
                        node: self.node,
                        what: "stored, before it had everything",
                    });
                }
            }
        };
        let end = sending.end.unwrap_or(ContentEnd { content: ContentId::default(), size: 0 });
        let stored = StoredContent {
            content: end.content,
            size: end.size,
            nodes,
            failed,
            sent_bytes: sending.sent,
            reused_bytes: sending.reused,
        };
        let result = PutResult { tag: sending.tag, outcome: Ok(stored) };
        self.results.send(result).await.map_err(|_| ChainError::Abandoned)?;
        self.changed.notify_one();
        Ok(())
    }
}

/// Chunks of one content that are offered together.
#[derive(Default)]
struct PendingOffer {
    content_no: u32,
    first: u32,
    chunks: Vec<ChunkRef>,
}
