//! One striped get: the manifest page by page, chunks from all holders, one writing thread.
//!
//! Invariant: every request that was sent and every task of the writing thread comes back as one
//! [`Event`], so nothing is waited for that cannot come.

use super::Progress;
use super::fetch::{FetchError, FetchItem, FetchReport};
use super::manifest::{check_root, chunk_hash, parse_page};
use super::pool::{HolderFailure, HolderPool, Link};
use super::sink::{Sink, SinkError};
use super::stripes::{Stripe, Stripes};
use crate::clock;
use crate::limits::{CHUNK_BYTES_MAX, FETCH_WINDOW_REQUESTS, MANIFEST_PAGE_CHUNKS};
use crate::types::{ChunkRef, ContentId, NodeId, NodeRoute};
use crate::wire::transfer::FetchPart;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How often it is looked whether a chunk had better be asked for elsewhere.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Chunks on their way to the writing thread.
const WRITE_QUEUE: usize = 4;
/// The next page is asked for when fewer chunks than this wait.
const CHUNKS_AHEAD: usize = MANIFEST_PAGE_CHUNKS / 4;

/// What the writing thread has to do.
enum Task {
    Offer { first: u32, offset: u64, chunks: Vec<ChunkRef> },
    Write { holder: usize, stripe: Stripe, bytes: Bytes },
    Finish,
}

/// Which holder, and whether over its first connection.
type From = (usize, bool);

/// What happened.
enum Event {
    Linked(usize, Result<Arc<Link>, HolderFailure>),
    Root(From, Result<Bytes, HolderFailure>),
    Page(From, Result<Bytes, HolderFailure>),
    Chunk(From, u32, Result<Bytes, HolderFailure>),
    Offered { first: u32, offset: u64, chunks: Vec<ChunkRef>, needed: Vec<bool> },
    Written { holder: usize, stripe: Stripe },
    Wrong { holder: usize, stripe: Stripe },
    Finished(Result<(), SinkError>),
}

/// How far the manifest is known.
enum ManifestState {
    /// The root is needed.
    Root,
    /// Page hashes, and how many pages have come.
    Pages(Vec<[u8; 32]>, usize),
}

/// One striped get.
pub(super) struct Striped {
    pool: Arc<HolderPool>,
    content: ContentId,
    size: u64,
    holders: Vec<NodeRoute>,
    links: Vec<Option<Arc<Link>>>,
    /// Holders whose connection may be dialled anew once.
    fresh: Vec<bool>,
    /// Holders that may still come.
    hoped: usize,
    sink: Option<Box<dyn Sink>>,
    stripes: Stripes,
    manifest: ManifestState,
    /// Whether the root or a page is on its way or being offered.
    manifest_busy: bool,
    next_index: u32,
    next_offset: u64,
    bytes_from: BTreeMap<NodeId, u64>,
    report: FetchReport,
    progress: Arc<dyn Progress>,
    /// Holders being told that what they gave is wrong.
    doubts: JoinSet<()>,
}

impl Striped {
    pub(super) fn new(
        pool: &Arc<HolderPool>,
        item: FetchItem,
        progress: Arc<dyn Progress>,
        report: FetchReport,
    ) -> Striped {
        let left: Vec<NodeId> = report.failed.iter().map(|(node, _)| *node).collect();
        let holders: Vec<NodeRoute> =
            item.holders.into_iter().filter(|route| !left.contains(&route.node)).collect();
        let count = holders.len();
        Striped {
            pool: Arc::clone(pool),
            content: item.content,
            size: item.size,
            links: vec![None; count],
            fresh: vec![true; count],
            hoped: count,
            holders,
            stripes: Stripes::new(count, item.sink.ahead()),
            sink: Some(item.sink),
            manifest: ManifestState::Root,
            manifest_busy: false,
            next_index: 0,
            next_offset: 0,
            bytes_from: BTreeMap::new(),
            report,
            progress,
            doubts: JoinSet::new(),
        }
    }

    pub(super) async fn run(mut self) -> Result<FetchReport, FetchError> {
        let result = self.fetch().await;
        // Each of them is short.
        while self.doubts.join_next().await.is_some() {}
        result.map(|()| self.report)
    }

    async fn fetch(&mut self) -> Result<(), FetchError> {
        // Room for all that can be on its way at once, so that nobody ever waits to report.
        let capacity = 2 * self.holders.len() * (FETCH_WINDOW_REQUESTS + 4) + 4 * WRITE_QUEUE + 16;
        let (events, mut happened) = mpsc::channel(capacity);
        let (tasks, to_do) = mpsc::channel(WRITE_QUEUE);
        if let Some(sink) = self.sink.take() {
            let events = events.clone();
            tokio::task::spawn_blocking(move || write(sink, to_do, &events));
        }
        let mut dialling = JoinSet::new();
        for holder in 0..self.holders.len() {
            self.dial(holder, &events, &mut dialling);
        }
        loop {
            if self.is_complete() {
                let _ = tasks.send(Task::Finish).await;
                self.manifest_busy = true;
            } else {
                self.ask(&events);
            }
            if self.hoped == 0 && self.lacks() {
                let failed = std::mem::take(&mut self.report.failed);
                return Err(FetchError::NoHolder { content: self.content, failed });
            }
            let event = match timeout(LOOK_INTERVAL, happened.recv()).await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(FetchError::Interrupted),
                Err(_) if tasks.is_closed() && happened.is_empty() => return Err(FetchError::Interrupted),
                Err(_) => continue,
            };
            if let Event::Finished(result) = event {
                result?;
                self.report.from.extend(std::mem::take(&mut self.bytes_from));
                return Ok(());
            }
            self.take(event, &tasks, &events, &mut dialling).await?;
        }
    }

    /// Whether every chunk is written and `Finish` has not been said.
    fn is_complete(&self) -> bool {
        let all_pages = matches!(&self.manifest, ManifestState::Pages(hashes, come) if *come == hashes.len());
        all_pages && !self.manifest_busy && self.stripes.is_done()
    }

    /// Whether anything must still come from a holder.
    fn lacks(&self) -> bool {
        let all_pages = matches!(&self.manifest, ManifestState::Pages(hashes, come) if *come == hashes.len());
        self.stripes.lacks() || (!all_pages && !self.manifest_busy)
    }

    fn dial(&self, holder: usize, events: &mpsc::Sender<Event>, dialling: &mut JoinSet<()>) {
        let Some(route) = self.holders.get(holder).cloned() else { return };
        let (pool, events) = (Arc::clone(&self.pool), events.clone());
        dialling.spawn(async move {
            let result = pool.link(&route).await;
            let _ = events.send(Event::Linked(holder, result)).await;
        });
    }

    /// Asks everybody for as much as there is room for.
    fn ask(&mut self, events: &mpsc::Sender<Event>) {
        self.ask_manifest(events);
        let now = clock::now();
        for (holder, link) in self.links.iter().enumerate() {
            let Some(link) = link else { continue };
            while let Some(stripe) = self.stripes.next(holder, now) {
                let part = FetchPart::Bytes { offset: stripe.offset, bytes: stripe.bytes };
                let events = events.clone();
                let from = (holder, self.fresh[holder]);
                let asked = link.try_ask(self.content, part, move |result| {
                    let _ = events.try_send(Event::Chunk(from, stripe.index, result));
                });
                if !asked {
                    self.stripes.unasked(holder, &stripe);
                    break;
                }
            }
        }
    }

    /// Asks the holder that owes least for the root or the next page, when it is time.
    fn ask_manifest(&mut self, events: &mpsc::Sender<Event>) {
        if self.manifest_busy || self.stripes.waiting() >= CHUNKS_AHEAD {
            return;
        }
        let part = match &self.manifest {
            ManifestState::Root => FetchPart::Root,
            ManifestState::Pages(hashes, come) if *come < hashes.len() => {
                FetchPart::Page(u32::try_from(*come).unwrap_or(u32::MAX))
            }
            ManifestState::Pages(..) => return,
        };
        let linked =
            self.links.iter().enumerate().filter_map(|(at, link)| link.as_ref().map(|link| (at, link)));
        let Some((holder, link)) = linked.min_by_key(|(at, _)| self.stripes.owed(*at)) else { return };
        let (from, events) = ((holder, self.fresh[holder]), events.clone());
        self.manifest_busy = link.try_ask(self.content, part, move |result| {
            let event = match part {
                FetchPart::Root => Event::Root(from, result),
                _ => Event::Page(from, result),
            };
            let _ = events.try_send(event);
        });
    }

    async fn take(
        &mut self,
        event: Event,
        tasks: &mpsc::Sender<Task>,
        events: &mpsc::Sender<Event>,
        dialling: &mut JoinSet<()>,
    ) -> Result<(), FetchError> {
        match event {
            Event::Linked(holder, Ok(link)) => self.links[holder] = Some(link),
            Event::Linked(holder, Err(why)) => self.leave_for_good(holder, why),
            Event::Root(from, result) => {
                self.manifest_busy = false;
                match result.map(|root| check_root(self.content, self.size, &root)) {
                    Ok(Ok(hashes)) => self.manifest = ManifestState::Pages(hashes, 0),
                    Ok(Err(_)) => self.leave_for_good(from.0, HolderFailure::WrongBytes),
                    Err(why) => self.leave(from, why, events, dialling),
                }
            }
            Event::Page(from, result) => match result {
                Ok(bytes) => match self.page(&bytes)? {
                    Some(task) => {
                        let _ = tasks.send(task).await;
                    }
                    None => {
                        self.manifest_busy = false;
                        self.leave_for_good(from.0, HolderFailure::WrongBytes);
                    }
                },
                Err(why) => {
                    self.manifest_busy = false;
                    self.leave(from, why, events, dialling);
                }
            },
            Event::Offered { first, offset, chunks, needed } => self.offered(first, offset, &chunks, &needed),
            Event::Chunk((holder, _), index, Ok(bytes)) => {
                let stripe = self.stripes.asked(index);
                if self.stripes.arrived(holder, index, clock::now())
                    && let Some(stripe) = stripe
                {
                    let _ = tasks.send(Task::Write { holder, stripe, bytes }).await;
                }
            }
            Event::Chunk(from, _, Err(why)) => self.leave(from, why, events, dialling),
            Event::Written { holder, stripe } => {
                self.stripes.done(stripe.index);
                self.progress.advance(u64::from(stripe.bytes));
                if let Some(route) = self.holders.get(holder) {
                    *self.bytes_from.entry(route.node).or_default() += u64::from(stripe.bytes);
                }
            }
            Event::Wrong { holder, stripe } => {
                self.stripes.wrong(holder, stripe.index);
                self.leave_for_good(holder, HolderFailure::WrongBytes);
            }
            Event::Finished(_) => {}
        }
        Ok(())
    }

    /// A page of the manifest, as a task for the writing thread; `None` if it is not the page.
    fn page(&mut self, bytes: &[u8]) -> Result<Option<Task>, FetchError> {
        let ManifestState::Pages(hashes, come) = &mut self.manifest else { return Ok(None) };
        let Some(hash) = hashes.get(*come) else { return Ok(None) };
        let Ok(chunks) = parse_page(hash, bytes) else { return Ok(None) };
        *come += 1;
        let last = *come == hashes.len();
        let (first, offset) = (self.next_index, self.next_offset);
        self.next_index = first.saturating_add(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
        let bytes = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        self.next_offset = offset.saturating_add(bytes);
        // Hashes vouch for what the content's maker wrote, not for its sense.
        let sound = if last { self.next_offset == self.size } else { chunks.len() == MANIFEST_PAGE_CHUNKS };
        if !sound || self.next_offset > self.size {
            return Err(FetchError::Impossible(self.content));
        }
        Ok(Some(Task::Offer { first, offset, chunks }))
    }

    fn offered(&mut self, first: u32, offset: u64, chunks: &[ChunkRef], needed: &[bool]) {
        self.manifest_busy = false;
        let (mut offset, mut reused) = (offset, 0);
        for ((index, chunk), needed) in (first..).zip(chunks).zip(needed) {
            if *needed {
                self.stripes.add(Stripe { index, offset, bytes: chunk.bytes, hash: chunk.hash });
            } else {
                reused += u64::from(chunk.bytes);
            }
            offset += u64::from(chunk.bytes);
        }
        self.report.reused_bytes += reused;
        self.progress.advance(reused);
    }

    /// A request to `holder` failed. A connection that was closed while idle is dialled again.
    fn leave(
        &mut self,
        (holder, fresh): From,
        why: HolderFailure,
        events: &mpsc::Sender<Event>,
        dialling: &mut JoinSet<()>,
    ) {
        if fresh != self.fresh[holder] {
            // A late word of the connection before this one.
            return;
        }
        let used = self.bytes_from.contains_key(&self.holders[holder].node);
        if matches!(why, HolderFailure::Closed) && fresh && !used && self.links[holder].is_some() {
            self.fresh[holder] = false;
            self.links[holder] = None;
            self.stripes.leave(holder);
            self.dial(holder, events, dialling);
        } else if self.links[holder].is_some() {
            self.leave_for_good(holder, why);
        }
    }

    /// `holder` is not asked any more; what it owes is asked of others.
    fn leave_for_good(&mut self, holder: usize, why: HolderFailure) {
        let node = self.holders[holder].node;
        let link = self.links[holder].take();
        if let (Some(link), HolderFailure::WrongBytes) = (link, &why) {
            let content = self.content;
            self.doubts.spawn(async move { link.doubt(content).await });
        }
        self.stripes.leave(holder);
        if self.report.failed.iter().all(|(left, _)| *left != node) {
            tracing::debug!(%node, content = %self.content, %why, "left in a get");
            self.report.failed.push((node, why));
            self.hoped -= 1;
        }
    }
}

/// The writing thread: hashes what comes and gives it to the sink.
fn write(mut sink: Box<dyn Sink>, mut tasks: mpsc::Receiver<Task>, events: &mpsc::Sender<Event>) {
    while let Some(task) = tasks.blocking_recv() {
        let event = match task {
            Task::Offer { first, offset, chunks } => match sink.offer(first, offset, &chunks) {
                Ok(needed) => Event::Offered { first, offset, chunks, needed },
                Err(error) => Event::Finished(Err(error)),
            },
            Task::Write { holder, stripe, bytes } => {
                let right = bytes.len() == stripe.bytes as usize
                    && bytes.len() <= CHUNK_BYTES_MAX
                    && chunk_hash(&bytes) == stripe.hash;
                if !right {
                    Event::Wrong { holder, stripe }
                } else if let Err(error) = sink.write(stripe.index, stripe.offset, &bytes) {
                    Event::Finished(Err(error))
                } else {
                    Event::Written { holder, stripe }
                }
            }
            Task::Finish => {
                let _ = events.blocking_send(Event::Finished(sink.finish()));
                return;
            }
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}
