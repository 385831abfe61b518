//! Taking chunks from this disk instead of having them sent: from the content itself, from another
//! content, from a broken-off one. Whatever is taken is hashed anew first.

use super::{Backing, Incoming, SlotState};
use crate::limits::DUPLICATES_MAX;
use crate::store::error::{StoreError, at};
use crate::store::partials::Paths;
use crate::store::reading::open_plain;
use crate::transfer::manifest::{chunk_hash, content_of_one};
use crate::types::{ChunkHash, ChunkRef, ContentId};
use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::FileExt;

/// Where a chunk can be had without its travelling.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Own(u64),
    Content(ContentId, u64),
    Partial(u64, u64),
}

/// The chunks seen last, each at its first place.
#[derive(Default)]
pub(super) struct Seen {
    chunks: BTreeMap<ChunkHash, (u32, u64, u32)>,
    order: VecDeque<ChunkHash>,
}

impl Seen {
    pub(super) fn insert(&mut self, chunk: ChunkRef, index: u32, offset: u64) {
        if self.chunks.contains_key(&chunk.hash) {
            return;
        }
        if self.order.len() >= DUPLICATES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.chunks.remove(&oldest);
        }
        self.chunks.insert(chunk.hash, (index, offset, chunk.bytes));
        self.order.push_back(chunk.hash);
    }

    pub(super) fn find(&self, chunk: ChunkRef) -> Option<(u32, u64)> {
        let (index, offset, bytes) = self.chunks.get(&chunk.hash)?;
        (*bytes == chunk.bytes).then_some((*index, *offset))
    }
}

impl Incoming {
    /// Where a chunk might be had on this disk, nearest first.
    pub(super) fn sources(&self, chunk: ChunkRef) -> Result<Vec<Source>, StoreError> {
        let shared = self.shared();
        let mut sources = Vec::new();
        if let Some((first, offset)) = self.seen.find(chunk) {
            let there = self.slot(first).is_none_or(|slot| slot.state == SlotState::Present);
            sources.extend(there.then_some(Source::Own(offset)));
        }
        let single = content_of_one(chunk);
        if shared.index.size(&single).is_some() || shared.asides().size(&single).is_some() {
            sources.push(Source::Content(single, 0));
        }
        if let Some(place) = shared.catalog.chunk(&chunk.hash)?
            && place.bytes == chunk.bytes
        {
            sources.push(Source::Content(place.content, place.offset));
        }
        if let Some((id, offset)) = shared.partials().find(chunk) {
            sources.push(Source::Partial(id, offset));
        }
        Ok(sources)
    }

    /// Takes a chunk from this disk, if it is what its hash says.
    pub(super) fn take(&mut self, source: Source, chunk: ChunkRef, offset: u64) -> Result<bool, StoreError> {
        let own = match (&self.backing, source) {
            (Backing::File(part), Source::Partial(id, at)) if part.id == id => Some(at),
            (_, Source::Own(at)) => Some(at),
            _ => None,
        };
        let bytes = match (own, source) {
            (Some(at), _) | (None, Source::Own(at)) => self.read_own(at, chunk.bytes),
            (None, Source::Content(content, at)) => {
                self.shared().read_held_or_aside(&content, at, chunk.bytes).map(Vec::from)
            }
            (None, Source::Partial(id, at)) => self.read_partial(id, at, chunk.bytes),
        };
        let bytes = match bytes {
            Ok(bytes) if chunk_hash(&bytes) == chunk.hash => bytes,
            Ok(_) => {
                tracing::warn!(?source, "a chunk on this disk is not what it was; it travels again");
                return Ok(false);
            }
            Err(error) => {
                tracing::debug!(?source, %error, "a chunk on this disk cannot be read; it travels again");
                return Ok(false);
            }
        };
        if own != Some(offset) {
            self.place(offset, &bytes)?;
        }
        if let Source::Partial(id, _) = source {
            *self.used_partials.entry(id).or_insert(0) += 1;
        }
        Ok(true)
    }

    fn read_partial(&self, id: u64, offset: u64, bytes: u32) -> Result<Vec<u8>, StoreError> {
        let path = Paths::new(&self.shared().folder.incoming(), id).part;
        let mut buffer = vec![0; bytes as usize];
        open_plain(&path)?.read_exact_at(&mut buffer, offset).map_err(at(&path))?;
        Ok(buffer)
    }
}
