//! A content in the making: chunks are offered in order, what is here already is taken from this
//! disk, the rest arrives and is hashed, and at the end the whole is made durable.
//!
//! It starts as nothing. While its chunks are exactly the first ones of a content held here it only
//! *mirrors* that one and writes nothing: a file that is put again unchanged costs no disk. At the
//! first difference the part so far is copied. Up to
//! [`INLINE_BYTES_MAX`] it lies in memory, beyond in a file.
//!
//! Invariant: what is kept in memory of chunks is a window (from the first that is not there yet),
//! a page of the manifest, its root, and a bounded number of hashes.

mod complete;
mod local;
mod mirror;

use crate::clock;
use crate::limits::{
    CHUNK_BYTES_MAX, INCOMING_CHUNKS_MAX, INCOMING_PAGES_IN_MEMORY, INLINE_BYTES_MAX, PARTIAL_BYTES_MIN,
};
use crate::store::change::{Change, Pages};
use crate::store::error::{StoreError, at};
use crate::store::index::Pin;
use crate::store::part_file::PartFile;
use crate::store::{Shared, Store, space};
use crate::transfer::manifest::{ManifestBuilder, PAGE_BYTES, chunk_hash};
use crate::types::{ChunkRef, ContentId};
use bytes::Bytes;
use complete::Ready;
use local::{Seen, Source};
use mirror::Mirror;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::sync_channel;

/// A content that is durable here.
#[derive(Debug)]
pub struct Finished {
    /// Which.
    pub content: ContentId,
    /// Size in bytes.
    pub size: u64,
    /// Whether it was held before.
    pub already: bool,
    /// Keeps it while whoever put it goes on.
    pub pin: Pin,
}

/// Called once with the outcome of [`Incoming::finish_async`]; as [`Done`](crate::store::Done).
pub type FinishedFn = Box<dyn FnOnce(Result<Finished, StoreError>) + Send>;

/// A content in the making. One that is dropped unfinished is kept for its next try if enough of
/// it had arrived.
pub struct Incoming {
    store: Store,
    builder: ManifestBuilder,
    /// Full pages; empty while mirroring, since they are the mirrored content's.
    pages: Pages,
    /// Offset of the first chunk of each page.
    page_starts: Vec<u64>,
    /// Chunks from `base` on: the first one is not there yet.
    window: VecDeque<Slot>,
    base: u32,
    /// For each chunk that is asked for: later chunks that are the same.
    waiting: BTreeMap<u32, Vec<u32>>,
    seen: Seen,
    /// Chunks taken from broken-off contents.
    used_partials: BTreeMap<u64, usize>,
    backing: Backing,
    /// A page of the mirrored content, or of ours, lately looked at by [`Incoming::chunk`].
    looked_at: Option<(u32, Vec<u8>)>,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    chunk: ChunkRef,
    offset: u64,
    state: SlotState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotState {
    Present,
    Needed,
    /// Comes with an earlier chunk that is the same.
    Waiting,
}

/// Where the bytes so far are.
enum Backing {
    Nothing,
    Mirror(Mirror),
    Memory(Vec<u8>),
    File(PartFile),
}

impl Incoming {
    pub(super) fn new(store: Store) -> Incoming {
        Incoming {
            store,
            builder: ManifestBuilder::new(),
            pages: Pages::default(),
            page_starts: Vec::new(),
            window: VecDeque::new(),
            base: 0,
            waiting: BTreeMap::new(),
            seen: Seen::default(),
            used_partials: BTreeMap::new(),
            backing: Backing::Nothing,
            looked_at: None,
            failed: false,
        }
    }

    /// Announces the next chunks, in order; the answer says of each whether it must travel.
    ///
    /// # Errors
    /// When a chunk's length is impossible, more are announced than is sensible, there is no room,
    /// or the disk fails; the content is then given up.
    pub fn offer(&mut self, chunks: &[ChunkRef]) -> Result<Vec<bool>, StoreError> {
        self.check_alive()?;
        let needed = chunks.iter().map(|chunk| self.offer_one(*chunk)).collect();
        self.settle(needed)
    }

    /// Chunks kept in memory: those from the first on that is not there yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.window.len()
    }

    /// Takes the bytes of a needed chunk.
    ///
    /// # Errors
    /// [`StoreError::ChunkDamaged`] when they are not what was offered, [`StoreError::Refused`]
    /// when the chunk is not needed (the content goes on in both cases); otherwise as
    /// [`Incoming::offer`].
    pub fn write(&mut self, index: u32, data: &[u8]) -> Result<(), StoreError> {
        self.check_alive()?;
        let slot = *self.slot(index).ok_or(StoreError::Refused("a chunk that is not needed"))?;
        if slot.state != SlotState::Needed {
            return Err(StoreError::Refused("a chunk that is not needed"));
        }
        if data.len() != slot.chunk.bytes as usize || chunk_hash(data) != slot.chunk.hash {
            return Err(StoreError::ChunkDamaged { index });
        }
        let written = self.write_checked(index, slot, data);
        self.settle(written)
    }

    /// The bytes of a chunk that is there, to pass it on; they are hashed anew.
    ///
    /// # Errors
    /// When the chunk is not there, or the disk fails.
    pub fn chunk(&mut self, index: u32) -> Result<Bytes, StoreError> {
        self.check_alive()?;
        let (chunk, offset) = match self.slot(index) {
            Some(slot) if slot.state == SlotState::Present => (slot.chunk, slot.offset),
            None if index < self.base => self.look_up(index)?,
            _ => return Err(StoreError::Refused("a chunk that is not there")),
        };
        let bytes = match &self.backing {
            Backing::Mirror(mirror) => {
                let content = mirror.content;
                let bytes = self.shared().read_chunk(&content, offset, chunk);
                let bytes = bytes.map_err(|error| self.put_aside(content, error));
                return self.settle(bytes);
            }
            _ => self.read_own(offset, chunk.bytes),
        };
        let bytes = self.settle(bytes)?;
        if chunk_hash(&bytes) == chunk.hash {
            Ok(bytes.into())
        } else {
            self.give_up();
            Err(StoreError::ChunkDamaged { index })
        }
    }

    /// Ends the content and waits until it is durable.
    ///
    /// # Errors
    /// As [`Incoming::finish_async`].
    pub fn finish(self, content: ContentId, size: u64) -> Result<Finished, StoreError> {
        let (sender, outcome) = sync_channel(1);
        let done = move |result| {
            // The receiver waits below for as long as the sender lives.
            let _ = sender.send(result);
        };
        self.finish_async(content, size, Box::new(done));
        outcome.recv().unwrap_or(Err(StoreError::Suspect))
    }

    /// Ends the content: syncs its file here and now, queues its row, and calls `done` once that
    /// is durable too. Small contents that are ended one after the other share a commit. `content`
    /// and `size` are what the sender announced.
    ///
    /// # Errors
    /// `done` gets [`StoreError::Refused`] when chunks are missing, [`StoreError::Mismatch`] when
    /// they do not make `content`, [`StoreError::Full`], or what failed on the disk.
    pub fn finish_async(mut self, content: ContentId, size: u64, done: FinishedFn) {
        let ready = self.check_alive().and_then(|()| self.complete(content, size));
        let (new, mut part, claim) = match self.settle(ready) {
            Ok(Ready::New(new, part, claim)) => (new, part, claim),
            Ok(Ready::Already(pin)) => {
                drop(self);
                return done(Ok(Finished { content, size, already: true, pin }));
            }
            Err(error) => {
                drop(self);
                return done(Err(error));
            }
        };
        let used = std::mem::take(&mut self.used_partials);
        let store = self.store.clone();
        let committed = move |result: Result<(), StoreError>| {
            let shared = &store.inner.shared;
            if let Some(part) = &mut part {
                part.uncount();
            }
            let is_file = part.is_some();
            if is_file && matches!(result, Err(StoreError::Full { .. })) {
                // Its row may be durable all the same: at the next start it is one without its file.
                remove(shared, &content);
            }
            let result = result.map(|()| {
                shared.index.insert(content, size, clock::wall().0);
                shared.drop_aside(&content);
                let finished = shared.partials().finished(&used);
                shared.remove_partials(finished);
                Finished { content, size, already: false, pin: shared.index.pin(content) }
            });
            drop(claim);
            // Whoever waits may open the folder anew at once.
            drop(store);
            done(result);
        };
        let store = self.store.clone();
        drop(self);
        store.inner.writer.submit(Change::Content(new), Box::new(committed));
    }

    fn shared(&self) -> &Shared {
        &self.store.inner.shared
    }

    fn check_alive(&self) -> Result<(), StoreError> {
        if self.failed { Err(StoreError::Refused("this content was given up")) } else { Ok(()) }
    }

    /// Gives the content up if `result` is an error; after a disk error nothing of it is kept.
    fn settle<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => {}
            Err(StoreError::Refused(_) | StoreError::Mismatch { .. } | StoreError::Damaged(_)) => {
                self.failed = true;
            }
            Err(_) => self.give_up(),
        }
        result
    }

    fn give_up(&mut self) {
        self.failed = true;
        if let Backing::File(part) = std::mem::replace(&mut self.backing, Backing::Nothing) {
            part.discard(self.shared());
        }
    }

    fn slot(&self, index: u32) -> Option<&Slot> {
        self.window.get(index.checked_sub(self.base)? as usize)
    }

    fn offer_one(&mut self, chunk: ChunkRef) -> Result<bool, StoreError> {
        if chunk.bytes == 0 || chunk.bytes as usize > CHUNK_BYTES_MAX {
            return Err(StoreError::Refused("a chunk of an impossible length"));
        }
        if self.builder.is_full() || self.window.len() >= INCOMING_CHUNKS_MAX {
            return Err(StoreError::Refused("more chunks than were asked for"));
        }
        let (index, offset) = (self.builder.chunks(), self.builder.size());
        let total = offset + u64::from(chunk.bytes);
        if self.follow(index, offset, chunk)? {
            self.push(chunk, offset, SlotState::Present)?;
            return Ok(false);
        }
        self.materialise(total)?;
        if let Some((first, _)) = self.seen.find(chunk)
            && self.slot(first).is_some_and(|slot| slot.state == SlotState::Needed)
        {
            self.ensure_backing(total, None)?;
            self.waiting.entry(first).or_default().push(index);
            self.push(chunk, offset, SlotState::Waiting)?;
            return Ok(false);
        }
        for source in self.sources(chunk)? {
            let adopt = match source {
                Source::Partial(id, at) if at == offset => Some(id),
                _ => None,
            };
            self.ensure_backing(total, adopt)?;
            if self.take(source, chunk, offset)? {
                self.push(chunk, offset, SlotState::Present)?;
                return Ok(false);
            }
        }
        self.ensure_backing(total, None)?;
        if matches!(self.backing, Backing::File(_)) {
            space::check(self.shared(), u64::from(chunk.bytes))?;
        }
        self.push(chunk, offset, SlotState::Needed)?;
        Ok(true)
    }

    /// Adds a chunk to the manifest and the window.
    fn push(&mut self, chunk: ChunkRef, offset: u64, state: SlotState) -> Result<(), StoreError> {
        let index = self.builder.chunks();
        if self.builder.open_page().is_empty() {
            self.page_starts.push(offset);
        }
        let page = self.builder.push(chunk);
        if !matches!(self.backing, Backing::Mirror(_)) {
            self.seen.insert(chunk, index, offset);
            if let Some(page) = page {
                self.keep_page(page)?;
            }
        }
        self.window.push_back(Slot { chunk, offset, state });
        self.advance();
        Ok(())
    }

    /// Lets go of the chunks at the start of the window that are there.
    fn advance(&mut self) {
        while self.window.front().is_some_and(|slot| slot.state == SlotState::Present) {
            self.window.pop_front();
            self.base += 1;
        }
    }

    fn keep_page(&mut self, page: Vec<u8>) -> Result<(), StoreError> {
        if self.pages.first.len() < INCOMING_PAGES_IN_MEMORY {
            self.pages.first.push(page);
            return Ok(());
        }
        let folder = self.shared().folder.incoming();
        if self.pages.spilled.is_none() {
            self.pages.spilled = Some(self.shared().disk.scratch(&folder).map_err(at(&folder))?);
        }
        if let Some(file) = &self.pages.spilled {
            let offset = u64::from(self.pages.spilled_pages) * PAGE_BYTES as u64;
            file.write_at(&page, offset).map_err(at(&folder))?;
            self.pages.spilled_pages += 1;
        }
        Ok(())
    }

    /// Makes sure that there is a place for `total` bytes.
    fn ensure_backing(&mut self, total: u64, adopt: Option<u64>) -> Result<(), StoreError> {
        match &self.backing {
            Backing::Mirror(_) | Backing::File(_) => return Ok(()),
            Backing::Memory(_) if total <= INLINE_BYTES_MAX => return Ok(()),
            Backing::Nothing if total <= INLINE_BYTES_MAX => {
                self.backing = Backing::Memory(Vec::new());
                return Ok(());
            }
            Backing::Nothing | Backing::Memory(_) => {}
        }
        let mut part = PartFile::open(self.shared(), adopt)?;
        if let Backing::Memory(bytes) = &self.backing
            && let Err(error) = part.write(self.shared(), &self.store.inner.write_back, 0, bytes)
        {
            part.discard(self.shared());
            return Err(error);
        }
        self.backing = Backing::File(part);
        Ok(())
    }

    fn read_own(&self, offset: u64, bytes: u32) -> Result<Vec<u8>, StoreError> {
        match &self.backing {
            Backing::File(part) => part.read(offset, bytes),
            Backing::Memory(memory) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let part = memory.get(start..start.saturating_add(bytes as usize));
                part.map(<[u8]>::to_vec).ok_or(StoreError::Refused("a chunk that is not there"))
            }
            Backing::Nothing | Backing::Mirror(_) => Err(StoreError::Refused("a chunk that is not there")),
        }
    }

    /// Puts bytes at their place.
    fn place(&mut self, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        let inner = &self.store.inner;
        match &mut self.backing {
            Backing::File(part) => part.write(&inner.shared, &inner.write_back, offset, data),
            Backing::Memory(memory) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(data.len());
                if end as u64 > INLINE_BYTES_MAX {
                    return Err(StoreError::Refused("a chunk beyond what memory holds"));
                }
                if memory.len() < end {
                    memory.resize(end, 0);
                }
                memory[start..end].copy_from_slice(data);
                Ok(())
            }
            Backing::Nothing | Backing::Mirror(_) => Err(StoreError::Refused("a chunk without a place")),
        }
    }

    fn write_checked(&mut self, index: u32, slot: Slot, data: &[u8]) -> Result<(), StoreError> {
        self.place(slot.offset, data)?;
        if let Backing::File(part) = &mut self.backing {
            part.note(slot.chunk, slot.offset)?;
        }
        let mut there = self.waiting.remove(&index).unwrap_or_default();
        for waiting in &there {
            if let Some(offset) = self.slot(*waiting).map(|slot| slot.offset) {
                self.place(offset, data)?;
            }
        }
        there.push(index);
        for index in there {
            if let Some(slot) = self.window.get_mut((index - self.base) as usize) {
                slot.state = SlotState::Present;
            }
        }
        self.advance();
        Ok(())
    }
}

/// Removes the file of a content that could not be acknowledged.
fn remove(shared: &Shared, content: &ContentId) {
    if let Err(error) = shared.disk.remove(&shared.folder.content(content)) {
        tracing::warn!(%content, %error, "left behind");
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Backing::File(part) = std::mem::replace(&mut self.backing, Backing::Nothing) {
            if part.received >= PARTIAL_BYTES_MIN && !self.shared().health.is_suspect() {
                part.keep(self.shared());
            } else {
                part.discard(self.shared());
            }
        }
    }
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming")
            .field("chunks", &self.builder.chunks())
            .field("bytes", &self.builder.size())
            .finish_non_exhaustive()
    }
}
