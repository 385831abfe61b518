//! The bytes of a file on their way from all its holders to one client. Shell.
//!
//! Invariants: a body ends well only when all its bytes were given, else it breaks the connection;
//! only chunks that are wanted travel; what was fetched and not taken is bounded; when the client
//! goes, the fetch ends.

use super::super::Web;
use super::super::body::Pieces;
use super::super::refusal::Refusal;
use super::super::transfers::{Direction, Transfer};
use crate::client::ClientError;
use crate::client::get::Listed;
use crate::limits::{FETCH_WHOLE_BYTES, HTTP_AHEAD_BYTES, HTTP_TURN_TIMEOUT};
use crate::transfer::fetch::{FetchError, FetchItem, fetch};
use crate::transfer::sink::{Sink, SinkError};
use crate::types::{ChunkRef, ContentId};
use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Pieces between the fetch and the client, where all of a content fits: nothing waits for the client then.
const PIECES_SMALL: usize = 64;
/// The same of a large one, in chunks.
const PIECES_LARGE: usize = 1;

type Piece = Result<Bytes, FetchError>;

/// The bytes in `range` of a file with this content and size. Waits for the first of them, so
/// that a file that nobody gives is a refusal.
pub(super) async fn stream(
    web: &Web,
    listed: &Listed,
    (content, size): (ContentId, u64),
    range: Range<u64>,
) -> Result<Body, Refusal> {
    if range.is_empty() {
        return Ok(Body::empty());
    }
    let is_small = size <= FETCH_WHOLE_BYTES;
    let turn = if is_small { None } else { Some(turn(web).await?) };
    let (to, mut pieces) = mpsc::channel::<Piece>(if is_small { PIECES_SMALL } else { PIECES_LARGE });
    let sink = Box::new(RangeSink::new(to.clone(), range.clone()));
    let item = FetchItem { tag: 0, content, size, holders: listed.holders.clone(), sink };
    let pool = Arc::clone(&web.files.pool);
    let task = tokio::spawn(async move {
        if let Err(error) = fetch(&pool, item, Arc::new(|_: u64| {})).await {
            tracing::debug!(%error, "a download ended early");
            let _ = to.send(Err(error)).await;
        }
    });
    let task = Task(task);
    let first = match pieces.recv().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => {
            let name = listed.row.name.to_string();
            return Err(ClientError::Get { name, source: Box::new(error) }.into());
        }
        None => return Err(Refusal::internal("a download ended before it began")),
    };
    let left = range.end - range.start;
    let shown = web.transfers.begin(listed.row.name.as_str(), Direction::Download, Some(left));
    let pieces = Pieces::of(left, first, pieces);
    Ok(Body::new(FileBody { pieces, shown, _task: task, _turn: turn }))
}

/// The right to read a large file.
async fn turn(web: &Web) -> Result<OwnedSemaphorePermit, Refusal> {
    match timeout(HTTP_TURN_TIMEOUT, Arc::clone(&web.files.downloads).acquire_owned()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many",
            "this node gives too many large files at the moment",
        )
        .hint("try again later, or ask another node")),
    }
}

/// A fetch that ends when nobody wants it any more.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the client is given.
struct FileBody {
    pieces: Pieces<FetchError>,
    shown: Transfer,
    _task: Task,
    _turn: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let polled = Pin::new(&mut self.pieces).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.shown.advance(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.pieces.size_hint()
    }
}

/// Gives the bytes of one range in their order.
struct RangeSink {
    to: mpsc::Sender<Piece>,
    range: Range<u64>,
    /// Where the next chunk begins that is wanted; none was offered yet.
    next: Option<u64>,
    /// Chunks beyond it, at most [`HTTP_AHEAD_BYTES`].
    waiting: BTreeMap<u64, Bytes>,
}

impl RangeSink {
    fn new(to: mpsc::Sender<Piece>, range: Range<u64>) -> RangeSink {
        RangeSink { to, range, next: None, waiting: BTreeMap::new() }
    }

    /// What of a chunk at `offset` is wanted.
    fn cut(&self, offset: u64, bytes: &Bytes) -> Bytes {
        let within = |at: u64| {
            let at = at.saturating_sub(offset).min(bytes.len() as u64);
            usize::try_from(at).unwrap_or(bytes.len())
        };
        bytes.slice(within(self.range.start)..within(self.range.end))
    }
}

impl Sink for RangeSink {
    fn offer(&mut self, _: u32, offset: u64, chunks: &[ChunkRef]) -> Result<Vec<bool>, SinkError> {
        let mut offset = offset;
        let mut needed = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let end = offset.saturating_add(u64::from(chunk.bytes));
            let is_needed = offset < self.range.end && end > self.range.start;
            if is_needed {
                self.next.get_or_insert(offset);
            }
            needed.push(is_needed);
            offset = end;
        }
        Ok(needed)
    }

    fn write(&mut self, _: u32, offset: u64, bytes: &Bytes) -> Result<(), SinkError> {
        self.waiting.insert(offset, bytes.clone());
        while let Some(next) = self.next
            && let Some(bytes) = self.waiting.remove(&next)
        {
            self.next = Some(next.saturating_add(bytes.len() as u64));
            let wanted = self.cut(next, &bytes);
            if self.to.blocking_send(Ok(wanted)).is_err() {
                return Err(SinkError::Stream { source: io::ErrorKind::BrokenPipe.into() });
            }
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        Ok(())
    }

    fn ahead(&self) -> Option<u64> {
        Some(HTTP_AHEAD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ChunkHash;

    #[test]
    fn a_range_is_cut_from_the_chunks_that_it_needs() {
        let bytes: Vec<u8> = (0..100).collect();
        let chunks = [ChunkRef { hash: ChunkHash([0; 32]), bytes: 10 }; 10];
        for start in 0..100 {
            for end in start + 1..=100 {
                let (to, mut pieces) = mpsc::channel(16);
                let mut sink = RangeSink::new(to, start..end);
                let mut needed = sink.offer(0, 0, &chunks[..4]).expect("an answer");
                needed.extend(sink.offer(4, 40, &chunks[4..]).expect("an answer"));
                // They come in any order.
                for index in (0..10_u32).rev().filter(|index| needed[*index as usize]) {
                    let offset = index as usize * 10;
                    let chunk = Bytes::copy_from_slice(&bytes[offset..offset + 10]);
                    sink.write(index, offset as u64, &chunk).expect("room");
                }
                drop(sink);
                let mut got = Vec::new();
                while let Some(piece) = pieces.blocking_recv() {
                    got.extend_from_slice(&piece.expect("bytes"));
                }
                assert_eq!(got, bytes[start as usize..end as usize]);
                let travelled = needed.iter().filter(|needed| **needed).count() as u64;
                assert_eq!(travelled, end.div_ceil(10) - start / 10);
            }
        }
    }
}
