//! Contents that were a copy too many: no copies any more, but their bytes are kept a while, so that
//! a count that is raised again, or a machine that comes and goes, moves nothing over the network.
//!
//! A content aside lies in `aside/`, its row is in a table of its own, its manifest stays. It is not
//! held, served, reported or counted; its room counts as free, and it goes when room is needed, the
//! oldest first, and when it was kept for long enough. It becomes a copy again only after all of it
//! was hashed anew.
//!
//! Invariant: a content is held or aside, never both, and the rows say which: they are durable before
//! a file moves out of `contents/`, and after it moved back there. So a crash in between leaves a
//! file in the wrong one of the two folders, which the next start puts right, and never a copy that
//! is not there. Small contents, which lie in the database, are not kept: they travel in one frame.

use super::change::Change;
use super::error::{StoreError, at};
use super::incoming::Finished;
use super::verify::Hashing;
use super::{Shared, Store};
use crate::clock;
use crate::limits::INLINE_BYTES_MAX;
use crate::types::ContentId;
use crate::wire::record::AsideRecord;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// The contents aside.
#[derive(Debug, Default)]
pub(super) struct Asides {
    /// Size, and since when.
    contents: BTreeMap<ContentId, (u64, u64)>,
    /// The same, the oldest first.
    by_age: BTreeSet<(u64, ContentId)>,
    bytes: u64,
    /// Their files are gone, their rows not yet.
    gone: Vec<ContentId>,
}

impl Asides {
    pub(super) fn insert(&mut self, content: ContentId, size: u64, since_ms: u64) {
        self.take(&content);
        self.contents.insert(content, (size, since_ms));
        self.by_age.insert((since_ms, content));
        self.bytes += size;
    }

    fn take(&mut self, content: &ContentId) -> Option<u64> {
        let (size, since_ms) = self.contents.remove(content)?;
        self.by_age.remove(&(since_ms, *content));
        self.bytes -= size;
        Some(size)
    }

    pub(super) fn size(&self, content: &ContentId) -> Option<u64> {
        self.contents.get(content).map(|(size, _)| *size)
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn oldest(&self) -> Option<(ContentId, u64)> {
        self.by_age.first().map(|(since_ms, content)| (*content, *since_ms))
    }
}

impl Shared {
    pub(super) fn asides(&self) -> MutexGuard<'_, Asides> {
        self.asides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The content is held anew: what was kept of it is of no use.
    pub(super) fn drop_aside(&self, content: &ContentId) {
        if self.asides().take(content).is_some() {
            self.remove_aside_file(content);
        }
    }

    /// Removes the oldest content aside, because room is needed or if it is as old as `before_ms`;
    /// `false` if there is none. Its row goes later: without the file it means nothing.
    pub(super) fn drop_oldest_aside(&self, before_ms: u64) -> bool {
        let content = {
            let mut asides = self.asides();
            let Some((content, since_ms)) = asides.oldest() else { return false };
            if since_ms > before_ms {
                return false;
            }
            asides.take(&content);
            asides.gone.push(content);
            content
        };
        self.remove_aside_file(&content);
        true
    }

    fn remove_aside_file(&self, content: &ContentId) {
        if let Err(error) = self.disk.remove(&self.folder.aside(content)) {
            tracing::warn!(%content, %error, "a content aside could not be removed; the next start does it");
        }
    }

    /// As [`Shared::read`], also of a content that is aside. Not hashed: whoever uses it does.
    pub(super) fn read_held_or_aside(
        &self,
        content: &ContentId,
        offset: u64,
        bytes: u32,
    ) -> Result<Bytes, StoreError> {
        if self.asides().size(content).is_none() {
            return self.read(content, offset, bytes);
        }
        let path = self.folder.aside(content);
        let mut buffer = vec![0; bytes as usize];
        let file = self.disk.open_to_read(&path).map_err(at(&path))?;
        file.read_at(&mut buffer, offset).map_err(at(&path))?;
        Ok(buffer.into())
    }

    /// Compares rows and files at the start: what a crash left between two steps is put right, and
    /// what has a row or a file alone goes.
    pub(super) fn load_asides(&self, rows: Vec<(ContentId, AsideRecord)>) -> Result<(), StoreError> {
        let is_there = |path: &std::path::Path, size: u64| {
            self.disk.look(path).is_ok_and(|file| file.is_file() && file.len() == size)
        };
        let mut asides = self.asides();
        for (content, AsideRecord { record, since_ms }) in rows {
            let (place, contents) = (self.folder.aside(&content), self.folder.content(&content));
            if !is_there(&place, record.size) && is_there(&contents, record.size) {
                self.disk.rename(&contents, &place).map_err(at(&contents))?;
            }
            if is_there(&place, record.size) {
                asides.insert(content, record.size, since_ms);
            } else {
                asides.gone.push(content);
            }
        }
        let folder = self.folder.asides();
        for name in self.disk.list(&folder).map_err(at(&folder))? {
            let content = ContentId::parse(&name.display().to_string());
            if content.is_some_and(|content| asides.size(&content).is_none()) {
                let path = folder.join(name);
                self.disk.remove(&path).map_err(at(&path))?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Makes a content no copy any more, and keeps its bytes aside as long as there is room; `false`
    /// when it is pinned or not held. It is durable that it is no copy before the file moves.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub fn set_aside(&self, content: &ContentId) -> Result<bool, StoreError> {
        let shared = &self.inner.shared;
        if shared.index.size(content).is_some_and(|size| size <= INLINE_BYTES_MAX) {
            return self.remove(content);
        }
        shared.health.check()?;
        let _claim = shared.index.claim(*content);
        let Some(size) = shared.index.take(content, true) else { return Ok(false) };
        let now = clock::wall().0;
        self.inner.writer.write(Change::Aside(*content, now))?;
        shared.readers.forget(content);
        let path = shared.folder.content(content);
        match shared.disk.rename(&path, &shared.folder.aside(content)) {
            Ok(()) => shared.asides().insert(*content, size, now),
            Err(error) => {
                tracing::warn!(%content, %error, "a surplus copy could not be kept aside");
                shared.asides().gone.push(*content);
                shared.disk.remove(&path).map_err(at(&path))?;
            }
        }
        Ok(true)
    }

    /// Makes a content that is aside a copy again, durably, if all of it is still what it was. `None`
    /// if it is neither held nor aside, or damaged.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub fn readopt(&self, content: &ContentId) -> Result<Option<Finished>, StoreError> {
        let shared = &self.inner.shared;
        shared.health.check()?;
        let _claim = shared.index.claim(*content);
        let finished =
            |size, already| Finished { content: *content, size, already, pin: shared.index.pin(*content) };
        if let Some(size) = shared.index.size(content) {
            return Ok(Some(finished(size, true)));
        }
        // Off the list, so that nobody in need of room removes it meanwhile.
        let Some(size) = shared.asides().take(content) else { return Ok(None) };
        let path = shared.folder.aside(content);
        let whole = Hashing::new(*content, size, Some(path.clone())).go_on(shared, u64::MAX);
        if !matches!(whole, Ok(true)) {
            tracing::warn!(%content, "a content aside is not what it was; it travels again");
            shared.asides().gone.push(*content);
            shared.disk.remove(&path).map_err(at(&path))?;
            return Ok(None);
        }
        if let Err(error) = shared.folder.place(&path, content) {
            shared.asides().gone.push(*content);
            return Err(error);
        }
        let now = clock::wall().0;
        self.inner.writer.write(Change::Readopt(*content, now))?;
        shared.index.insert(*content, size, now);
        Ok(Some(finished(size, false)))
    }

    /// Removes what was aside for as long as `keep`; call it now and then. Blocks for one commit, if
    /// there is anything.
    ///
    /// # Errors
    /// When the database fails.
    pub fn expire_asides(&self, keep: Duration) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        while shared.drop_oldest_aside(clock::wall().0.saturating_sub(keep_ms)) {}
        let gone = std::mem::take(&mut shared.asides().gone);
        if gone.is_empty() {
            return Ok(());
        }
        self.inner.writer.write(Change::ForgetAsides(gone))
    }
}
