//! Mirroring: while an incoming content is the start of a held one, nothing is written.

use super::{Backing, Incoming};
use crate::limits::MANIFEST_PAGE_CHUNKS;
use crate::store::error::{StoreError, at};
use crate::store::index::Pin;
use crate::transfer::manifest::{chunk_at, content_of_one, decode_chunks};
use crate::types::{ChunkRef, ContentId};

/// A held content whose first chunks are ours so far.
pub(super) struct Mirror {
    pub(super) content: ContentId,
    page_number: u32,
    page: Vec<u8>,
    _pin: Pin,
}

impl Incoming {
    /// Whether the content still is the start of one held here, this chunk included.
    pub(super) fn follow(&mut self, index: u32, offset: u64, chunk: ChunkRef) -> Result<bool, StoreError> {
        let page_chunks = MANIFEST_PAGE_CHUNKS as u32;
        let (number, at) = (index / page_chunks, (index % page_chunks) as usize);
        let shared = &self.store.inner.shared;
        match &mut self.backing {
            Backing::Nothing if index == 0 => {}
            Backing::Mirror(mirror) => {
                if mirror.page_number != number {
                    mirror.page = shared.catalog.page(&mirror.content, number)?.unwrap_or_default();
                    mirror.page_number = number;
                }
                if chunk_at(&mirror.page, at) == Some(chunk) {
                    return Ok(true);
                }
            }
            _ => return Ok(false),
        }
        let single = (index == 0).then(|| content_of_one(chunk));
        let single = single.filter(|content| shared.index.size(content).is_some());
        let content = match single {
            Some(content) => content,
            None => match shared.catalog.chunk(&chunk.hash)? {
                Some(place) if place.offset == offset && place.bytes == chunk.bytes => place.content,
                _ => return Ok(false),
            },
        };
        let pin = shared.index.pin(content);
        if shared.index.size(&content).is_none() || !self.is_start_of(&content)? {
            return Ok(false);
        }
        let page = shared.catalog.page(&content, number)?.unwrap_or_default();
        if chunk_at(&page, at) != Some(chunk) {
            return Ok(false);
        }
        self.backing = Backing::Mirror(Mirror { content, page_number: number, page, _pin: pin });
        Ok(true)
    }

    /// Whether all chunks so far are the first ones of a held content.
    pub(super) fn is_start_of(&self, content: &ContentId) -> Result<bool, StoreError> {
        let catalog = &self.shared().catalog;
        let (closed, open) = (self.builder.closed_root(), self.builder.open_page());
        if !closed.is_empty() && !catalog.root(content)?.is_some_and(|root| root.starts_with(closed)) {
            return Ok(false);
        }
        let number = u32::try_from(closed.len() / 32).unwrap_or(u32::MAX);
        Ok(open.is_empty() || catalog.page(content, number)?.is_some_and(|page| page.starts_with(open)))
    }

    /// Ends mirroring: copies the part so far, hashed anew, to a backing of its own.
    pub(super) fn materialise(&mut self, total: u64) -> Result<(), StoreError> {
        if !matches!(self.backing, Backing::Mirror(_)) {
            return Ok(());
        }
        let Backing::Mirror(mirror) = std::mem::replace(&mut self.backing, Backing::Nothing) else {
            return Ok(());
        };
        self.ensure_backing(total, None)?;
        let content = mirror.content;
        let full = u32::try_from(self.builder.closed_root().len() / 32).unwrap_or(u32::MAX);
        let mut offset = 0;
        for number in 0..=full {
            let page = if number < full {
                self.shared().page(&content, number)?
            } else {
                self.builder.open_page().to_vec()
            };
            for chunk in decode_chunks(&page) {
                let bytes = match self.shared().read_chunk(&content, offset, chunk) {
                    Ok(bytes) => bytes,
                    Err(error) => return Err(self.put_aside(content, error)),
                };
                self.place(offset, &bytes)?;
                offset += u64::from(chunk.bytes);
            }
            if number < full {
                self.keep_page(page)?;
            }
        }
        Ok(())
    }

    /// A mirrored content turned out damaged after its chunks were said to be here: it is put
    /// aside, so that they are asked for when the transfer is tried again.
    pub(super) fn put_aside(&self, content: ContentId, error: StoreError) -> StoreError {
        match self.store.verify(&content) {
            Ok(true) => error,
            Ok(false) | Err(StoreError::NotHeld(_)) => StoreError::Damaged(content),
            Err(error) => error,
        }
    }

    /// A chunk before the window, and its offset.
    pub(super) fn look_up(&mut self, index: u32) -> Result<(ChunkRef, u64), StoreError> {
        let page_chunks = MANIFEST_PAGE_CHUNKS as u32;
        let (number, position) = (index / page_chunks, (index % page_chunks) as usize);
        let closed = u32::try_from(self.builder.closed_root().len() / 32).unwrap_or(u32::MAX);
        if number < closed && self.looked_at.as_ref().is_none_or(|(known, _)| *known != number) {
            let page = match &self.backing {
                Backing::Mirror(mirror) => self.shared().page(&mirror.content, number)?,
                _ => {
                    let folder = self.shared().folder.incoming();
                    self.pages.full(number).map_err(at(&folder))?.unwrap_or_default()
                }
            };
            self.looked_at = Some((number, page));
        }
        let page = match &self.looked_at {
            Some((known, page)) if number < closed && *known == number => page.as_slice(),
            _ => self.builder.open_page(),
        };
        let mut offset = self.page_starts.get(number as usize).copied().unwrap_or(0);
        for (before, chunk) in decode_chunks(page).enumerate() {
            if before == position {
                return Ok((chunk, offset));
            }
            offset += u64::from(chunk.bytes);
        }
        Err(StoreError::Refused("a chunk that is not there"))
    }
}
