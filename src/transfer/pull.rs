//! Pulling a content from other holders into the own store: repair. What the store kept aside does
//! not travel.

use super::Progress;
use super::fetch::{FetchError, FetchItem, FetchReport, fetch};
use super::pool::HolderPool;
use super::sink::{Sink, SinkError};
use crate::store::{Finished, Incoming, Store};
use crate::types::{ChunkRef, ContentId, NodeRoute};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};

type Outcome = Arc<Mutex<Option<Finished>>>;

/// Writes into the store. Chunks that any content here has already do not travel.
struct StoreSink {
    incoming: Incoming,
    content: ContentId,
    size: u64,
    outcome: Outcome,
}

impl Sink for StoreSink {
    fn offer(&mut self, _: u32, _: u64, chunks: &[ChunkRef]) -> Result<Vec<bool>, SinkError> {
        Ok(self.incoming.offer(chunks)?)
    }

    fn write(&mut self, index: u32, _: u64, bytes: &Bytes) -> Result<(), SinkError> {
        Ok(self.incoming.write(index, bytes)?)
    }

    fn finish(self: Box<Self>) -> Result<(), SinkError> {
        let finished = self.incoming.finish(self.content, self.size)?;
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(finished);
        Ok(())
    }
}

/// Gets a content from `from` into `store`, durably. The content stays pinned for as long as the
/// [`Finished`] is kept; `None` if it was held already.
///
/// # Errors
/// When no holder gives it, or the store fails; what came is kept, and the next pull continues.
pub async fn pull(
    store: &Store,
    content: ContentId,
    size: u64,
    from: Vec<NodeRoute>,
    pool: &Arc<HolderPool>,
    progress: Arc<dyn Progress>,
) -> Result<(FetchReport, Option<Finished>), FetchError> {
    // Asked for again, it may be because somebody found it damaged: it counts only if it is whole.
    let (held, checked) = (store.clone(), content);
    let whole = move || held.holds(&checked).is_some() && held.verify(&checked).unwrap_or(false);
    if tokio::task::spawn_blocking(whole).await.unwrap_or(false) {
        return Ok((FetchReport::default(), None));
    }
    let (aside, wanted) = (store.clone(), content);
    let readopted = tokio::task::spawn_blocking(move || aside.readopt(&wanted));
    match readopted.await.map_err(|_| FetchError::Interrupted)? {
        Ok(Some(finished)) => {
            progress.advance(size);
            return Ok((FetchReport { reused_bytes: size, ..FetchReport::default() }, Some(finished)));
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%content, %error, "what was kept in the trash is of no use"),
    }
    let outcome = Outcome::default();
    let sink = StoreSink { incoming: store.receive(), content, size, outcome: Arc::clone(&outcome) };
    let item = FetchItem { tag: 0, content, size, holders: from, sink: Box::new(sink) };
    let report = fetch(pool, item, progress).await?;
    let finished = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok((report, finished))
}
