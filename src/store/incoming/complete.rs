//! The end of an incoming content: is it all there, is it what was announced, and then durable.

use super::{Backing, Incoming};
use crate::clock;
use crate::limits::INLINE_BYTES_MAX;
use crate::store::change::NewContent;
use crate::store::error::StoreError;
use crate::store::index::{Claim, Pin};
use crate::store::part_file::PartFile;
use crate::store::space;
use crate::transfer::manifest::chunk_at;
use crate::types::ContentId;
use crate::wire::record::ContentRecord;

/// What [`Incoming::complete`] comes to.
pub(super) enum Ready {
    New(Box<NewContent>, Option<PartFile>, Claim),
    Already(Pin),
}

impl Incoming {
    /// Everything up to the commit of the row.
    pub(super) fn complete(&mut self, content: ContentId, size: u64) -> Result<Ready, StoreError> {
        if !self.window.is_empty() {
            return Err(StoreError::Refused("the content ends before all its chunks came"));
        }
        self.shared().health.check()?;
        let manifest = self.builder.clone().finish();
        if manifest.content != content || manifest.size != size {
            return Err(StoreError::Mismatch { announced: content, found: manifest.content });
        }
        if let Backing::Mirror(mirror) = &self.backing {
            if mirror.content != content {
                self.materialise(size)?;
            } else if self.shared().index.size(&content).is_none() {
                return Err(StoreError::Damaged(content));
            }
        }
        let claim = self.shared().index.claim(content);
        if self.shared().index.size(&content).is_some() {
            let pin = self.shared().index.pin(content);
            drop(claim);
            if let Backing::File(part) = std::mem::replace(&mut self.backing, Backing::Nothing) {
                part.discard(self.shared());
            }
            let used = self.shared().partials().finished(&self.used_partials);
            self.shared().remove_partials(used);
            return Ok(Ready::Already(pin));
        }
        let inline = size <= INLINE_BYTES_MAX;
        let (inline_bytes, part) = match std::mem::replace(&mut self.backing, Backing::Nothing) {
            Backing::File(part) => (None, Some(self.put_in_place(part, &content, size)?)),
            Backing::Memory(bytes) => (Some(bytes), None),
            Backing::Nothing | Backing::Mirror(_) => (Some(Vec::new()), None),
        };
        if inline != inline_bytes.is_some() || inline_bytes.as_ref().is_some_and(|b| b.len() as u64 != size) {
            return Err(StoreError::Refused("the content's bytes are not all there"));
        }
        if inline {
            space::check(self.shared(), size)?;
        }
        let now = clock::wall().0;
        let single = chunk_at(self.builder.open_page(), 0).filter(|_| manifest.chunks == 1);
        let record = ContentRecord {
            size,
            inline,
            chunks: manifest.chunks,
            single: single.map(|chunk| chunk.hash),
            stored_ms: now,
            verified_ms: now,
        };
        let mut pages = std::mem::take(&mut self.pages);
        pages.last = self.builder.open_page().to_vec();
        let new = NewContent { content, record, inline: inline_bytes, root: manifest.root, pages };
        Ok(Ready::New(Box::new(new), part, claim))
    }

    /// Syncs the file and moves it to its place, durably. If that fails it is thrown away.
    fn put_in_place(&self, part: PartFile, content: &ContentId, size: u64) -> Result<PartFile, StoreError> {
        let shared = self.shared();
        if let Err(error) = part.sync(shared, size) {
            part.discard(shared);
            return Err(error);
        }
        if let Err(error) = shared.folder.place(&part.paths.part, content) {
            // The name may be there without being durable: without a row it is no copy.
            part.discard(shared);
            return Err(error);
        }
        shared.partials().forget(part.id);
        part.paths.remove(&shared.disk);
        Ok(part)
    }
}
