//! Getting contents from their holders: small ones whole and many at once, large ones striped.
//!
//! Invariant: a sink gets only bytes that follow from the content id: the root is checked against
//! the id, each page against the root, each chunk against its page; a content that is fetched
//! whole is cut and hashed again. A holder that gives anything else is left and reported.

use super::Progress;
use super::chunking::Chunker;
use super::manifest::{ManifestBuilder, chunk_hash};
pub use super::pool::HolderFailure;
use super::pool::{HolderPool, Link};
use super::sink::{Sink, SinkError};
use super::striped::Striped;
use crate::limits::{FETCH_WHOLE_AT_ONCE, FETCH_WHOLE_BYTES, OFFER_WINDOW_BYTES};
use crate::types::{ChunkRef, ContentId, NodeId, NodeRoute};
use crate::wire::transfer::FetchPart;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

/// A content to get.
pub struct FetchItem {
    /// Chosen by the caller, comes back with the result.
    pub tag: u64,
    /// What.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Who has it.
    pub holders: Vec<NodeRoute>,
    /// Where it goes.
    pub sink: Box<dyn Sink>,
}

/// How a content came.
#[derive(Clone, Debug, Default)]
pub struct FetchReport {
    /// Bytes that each holder gave, without those that were not used.
    pub from: Vec<(NodeId, u64)>,
    /// Bytes that were there already.
    pub reused_bytes: u64,
    /// Holders that were left, and why.
    pub failed: Vec<(NodeId, HolderFailure)>,
}

/// Why a content did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody is left to ask.
    #[error("no holder gives content {content}")]
    NoHolder {
        /// What.
        content: ContentId,
        /// Who was asked, and what was wrong.
        failed: Vec<(NodeId, HolderFailure)>,
    },
    /// The id and size contradict each other, or the chunks their sizes.
    #[error("content {0} cannot have that size")]
    Impossible(ContentId),
    /// It could not be written.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The program is stopping.
    #[error("interrupted")]
    Interrupted,
}

/// What became of one item.
#[derive(Debug)]
pub struct FetchResult {
    /// As in the [`FetchItem`].
    pub tag: u64,
    /// How it came, or why it did not.
    pub outcome: Result<FetchReport, FetchError>,
}

/// Gets all `items` until the channel is closed: small contents many at once, so that a round trip
/// is paid for many together, and large ones as fast as all their holders give them. Results come
/// in any order.
pub async fn fetch_many(
    pool: &Arc<HolderPool>,
    mut items: mpsc::Receiver<FetchItem>,
    results: mpsc::Sender<FetchResult>,
    progress: Arc<dyn Progress>,
) {
    // In units of one small content; a large one takes a third, so that two or three overlap and
    // none waits for another's sync.
    let room = Arc::new(Semaphore::new(FETCH_WHOLE_AT_ONCE));
    let mut tasks = JoinSet::new();
    while let Some(item) = items.recv().await {
        let share = if item.size <= FETCH_WHOLE_BYTES {
            1
        } else {
            let third = FETCH_WHOLE_AT_ONCE as u64 / 3;
            (item.size * FETCH_WHOLE_AT_ONCE as u64 / (3 * OFFER_WINDOW_BYTES as u64)).clamp(4, third)
        };
        let share = u32::try_from(share).unwrap_or(1);
        let Ok(permit) = Arc::clone(&room).acquire_many_owned(share).await else { return };
        while tasks.try_join_next().is_some() {}
        let (pool, results, progress) = (Arc::clone(pool), results.clone(), Arc::clone(&progress));
        if results.is_closed() {
            return;
        }
        tasks.spawn(async move {
            let tag = item.tag;
            let outcome = fetch(&pool, item, progress).await;
            drop(permit);
            let _ = results.send(FetchResult { tag, outcome }).await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Gets one content.
///
/// # Errors
/// When no holder gives all of it, or it cannot be written.
pub async fn fetch(
    pool: &Arc<HolderPool>,
    item: FetchItem,
    progress: Arc<dyn Progress>,
) -> Result<FetchReport, FetchError> {
    let mut report = FetchReport::default();
    if item.size == 0 {
        if ManifestBuilder::new().finish().content != item.content {
            return Err(FetchError::Impossible(item.content));
        }
        let chunks = Whole { bytes: Bytes::new(), chunks: Vec::new() };
        write_whole(item.sink, chunks).await?;
        return Ok(report);
    }
    if item.size <= FETCH_WHOLE_BYTES
        && let Some((node, whole)) =
            fetch_whole(pool, item.content, item.size, &item.holders, &mut report).await
    {
        let reused = write_whole(item.sink, whole).await?;
        progress.advance(item.size);
        report.reused_bytes = reused;
        report.from.push((node, item.size));
        return Ok(report);
    }
    Striped::new(pool, item, progress, report).run().await
}

/// A small content, proved and cut.
struct Whole {
    bytes: Bytes,
    chunks: Vec<ChunkRef>,
}

impl Whole {
    /// Cuts and hashes `bytes`; `None` if they are not the content. (A holder may also have cut it
    /// differently: then the manifest says how.)
    fn prove(bytes: Bytes, content: &ContentId) -> Option<Whole> {
        let (mut chunker, mut manifest, mut chunks) = (Chunker::new(), ManifestBuilder::new(), Vec::new());
        let mut start = 0;
        while let Some(length) = chunker.cut(&bytes[start..], true) {
            let hash = chunk_hash(&bytes[start..start + length]);
            let chunk = ChunkRef { hash, bytes: u32::try_from(length).ok()? };
            chunks.push(chunk);
            manifest.push(chunk);
            start += length;
        }
        (manifest.finish().content == *content).then_some(Whole { bytes, chunks })
    }
}

/// Asks one holder after the other, the least busy first, for all bytes at once.
async fn fetch_whole(
    pool: &Arc<HolderPool>,
    content: ContentId,
    size: u64,
    holders: &[NodeRoute],
    report: &mut FetchReport,
) -> Option<(NodeId, Whole)> {
    let mut links = pool.any(holders, &mut report.failed).await;
    links.sort_by_key(|link| link.outstanding());
    let bytes = u32::try_from(size).ok()?;
    let mut doubted: Vec<Arc<Link>> = Vec::new();
    for link in links {
        match link.ask(content, FetchPart::Bytes { offset: 0, bytes }).await {
            Ok(data) => match Whole::prove(data, &content) {
                Some(whole) => {
                    // One of these bytes follows from the id, so the others did not.
                    for doubted in doubted {
                        report.failed.push((doubted.node(), HolderFailure::WrongBytes));
                        doubted.doubt(content).await;
                    }
                    return Some((link.node(), whole));
                }
                None => doubted.push(link),
            },
            // Closed while idle, perhaps: the next attempt dials it again.
            Err(HolderFailure::Closed) => {}
            Err(why) => report.failed.push((link.node(), why)),
        }
    }
    None
}

/// Writes a whole content; gives the bytes that were there already.
async fn write_whole(mut sink: Box<dyn Sink>, whole: Whole) -> Result<u64, FetchError> {
    let writing = tokio::task::spawn_blocking(move || -> Result<u64, SinkError> {
        let needed = sink.offer(0, 0, &whole.chunks)?;
        let (mut offset, mut reused) = (0_usize, 0_u64);
        for ((index, chunk), needed) in (0_u32..).zip(&whole.chunks).zip(needed) {
            let end = offset + chunk.bytes as usize;
            if needed {
                sink.write(index, offset as u64, &whole.bytes.slice(offset..end))?;
            } else {
                reused += u64::from(chunk.bytes);
            }
            offset = end;
        }
        sink.finish()?;
        Ok(reused)
    });
    Ok(writing.await.map_err(|_| FetchError::Interrupted)??)
}
