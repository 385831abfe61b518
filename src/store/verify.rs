//! Hashing contents anew from disk, and putting the damaged ones aside.
//!
//! Invariants: a copy is condemned only after a second look, alone with it ([`Claim`]), went wrong
//! too, because a read can go wrong by itself; and only what this disk says counts, never the word
//! of a peer. What is hashed is what is on the disk: the system's cache of it is dropped first.
//! That a content was verified is kept in memory and written now and then, many at once: a scrub
//! costs no sync, and after a crash some contents are merely verified once more.
//!
//! [`Claim`]: super::index::Claim

use super::change::Change;
use super::disk::DiskFile;
use super::error::{StoreError, at};
use super::{Shared, Store};
use crate::clock;
use crate::limits::{INLINE_BYTES_MAX, VERIFIED_BATCH_MAX};
use crate::transfer::manifest::{check_root, chunk_hash, parse_page};
use crate::types::{ChunkRef, ContentId};
use std::collections::VecDeque;
use std::path::PathBuf;

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// So far it is what it was; there is more.
    More,
    /// All of it is what it was.
    Whole,
    /// It is damaged, was put aside, and is held no longer.
    Bad,
}

/// A content that is being hashed anew, a piece at a time, so that whoever does it sets the pace
/// and may stop at any time.
pub struct Verification {
    store: Store,
    hashing: Hashing,
    condemned: bool,
}

/// How far the hashing of a content's bytes and manifest is. Goes on where it was after an error.
pub(super) struct Hashing {
    content: ContentId,
    size: u64,
    /// Where its bytes are, if not in the database.
    path: Option<PathBuf>,
    file: Option<DiskFile>,
    pages: Option<Vec<[u8; 32]>>,
    next_page: u32,
    chunks: VecDeque<ChunkRef>,
    offset: u64,
}

impl Hashing {
    /// Of bytes at `path`, or in the database.
    pub(super) fn new(content: ContentId, size: u64, path: Option<PathBuf>) -> Hashing {
        let chunks = VecDeque::new();
        Hashing { content, size, path, file: None, pages: None, next_page: 0, chunks, offset: 0 }
    }

    /// Hashes at least `bytes` more; `true` once all is done, and well. What is wrong is an error
    /// that [`StoreError::is_damage`] knows.
    pub(super) fn go_on(&mut self, shared: &Shared, bytes: u64) -> Result<bool, StoreError> {
        let damaged = || StoreError::Damaged(self.content);
        if self.pages.is_none() {
            let root = shared.catalog.root(&self.content)?.ok_or_else(damaged)?;
            let pages = check_root(self.content, self.size, &root).map_err(|_| damaged())?;
            self.pages = Some(pages);
        }
        let until = self.offset.saturating_add(bytes.max(1));
        while self.offset < until {
            if let Some(chunk) = self.chunks.front().copied() {
                if chunk_hash(&self.read(shared, chunk.bytes)?) != chunk.hash {
                    return Err(StoreError::Damaged(self.content));
                }
                self.offset += u64::from(chunk.bytes);
                self.chunks.pop_front();
                continue;
            }
            let hash = self.pages.as_ref().and_then(|pages| pages.get(self.next_page as usize));
            let Some(hash) = hash else { return self.check_end(shared) };
            let damaged = || StoreError::Damaged(self.content);
            let page = shared.catalog.page(&self.content, self.next_page)?.ok_or_else(damaged)?;
            self.chunks = parse_page(hash, &page).map_err(|_| damaged())?.into();
            self.next_page += 1;
        }
        Ok(false)
    }

    /// Looks at the file by its name again at the next piece: it may have been replaced.
    fn look_again(&mut self) {
        self.file = None;
    }

    fn read(&mut self, shared: &Shared, bytes: u32) -> Result<Vec<u8>, StoreError> {
        let Some(path) = &self.path else {
            let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
            let part = start..start.saturating_add(bytes as usize);
            return shared.catalog.inline(&self.content, part)?.ok_or(StoreError::Damaged(self.content));
        };
        let file = match self.file.take() {
            Some(file) => file,
            None => shared.disk.open_to_read(path).map_err(at(path))?,
        };
        file.forget_cached(self.offset, u64::from(bytes));
        let mut buffer = vec![0; bytes as usize];
        file.read_at(&mut buffer, self.offset).map_err(at(path))?;
        // Terabytes that nobody asked for must not push out what others use.
        file.forget_cached(self.offset, u64::from(bytes));
        self.file = Some(file);
        Ok(buffer)
    }

    /// Neither shorter nor longer than it should be.
    fn check_end(&self, shared: &Shared) -> Result<bool, StoreError> {
        let is_longer = match &self.path {
            Some(path) => shared.disk.look(path).map_err(at(path))?.len() != self.size,
            None => false,
        };
        if self.offset != self.size || is_longer { Err(StoreError::Damaged(self.content)) } else { Ok(true) }
    }
}

impl Verification {
    /// The content.
    #[must_use]
    pub fn content(&self) -> ContentId {
        self.hashing.content
    }

    /// Hashes at least `bytes` more. After [`Verified::Whole`] and [`Verified::Bad`] there is nothing
    /// more to do.
    ///
    /// # Errors
    /// When it is not held any more, or could not be read for a reason that says nothing of the copy.
    pub fn step(&mut self, bytes: u64) -> Result<Verified, StoreError> {
        let store = self.store.clone();
        let shared = &store.inner.shared;
        if self.condemned || shared.index.size(&self.hashing.content).is_none() {
            return Err(StoreError::NotHeld(self.hashing.content));
        }
        match self.hashing.go_on(shared, bytes) {
            Ok(false) => Ok(Verified::More),
            Ok(true) => self.found_whole(),
            Err(error) if error.is_damage() => self.look_twice(),
            Err(error) => Err(error),
        }
    }

    fn found_whole(&self) -> Result<Verified, StoreError> {
        let content = self.hashing.content;
        if self.store.inner.shared.index.set_verified(&content, clock::wall().0) {
            Ok(Verified::Whole)
        } else {
            Err(StoreError::NotHeld(content))
        }
    }

    /// Something was wrong: was it the disk?
    fn look_twice(&mut self) -> Result<Verified, StoreError> {
        let content = self.hashing.content;
        let shared = &self.store.inner.shared;
        let _claim = shared.index.claim(content);
        if shared.index.size(&content).is_none() {
            return Err(StoreError::NotHeld(content));
        }
        self.hashing.look_again();
        match self.hashing.go_on(shared, 1) {
            Ok(false) => Ok(Verified::More),
            Ok(true) => self.found_whole(),
            Err(error) if error.is_damage() => {
                tracing::error!(%content, %error, "the copy on this disk is damaged; it is put aside");
                self.condemned = true;
                self.store.condemn(&content)?;
                Ok(Verified::Bad)
            }
            Err(error) => Err(error),
        }
    }
}

impl Store {
    /// Begins to hash a content anew.
    ///
    /// # Errors
    /// When it is not held.
    pub fn verification(&self, content: &ContentId) -> Result<Verification, StoreError> {
        let shared = &self.inner.shared;
        let size = shared.index.size(content).ok_or(StoreError::NotHeld(*content))?;
        let path = (size > INLINE_BYTES_MAX).then(|| shared.folder.content(content));
        let hashing = Hashing::new(*content, size, path);
        Ok(Verification { store: self.clone(), hashing, condemned: false })
    }

    /// Hashes a content anew from disk. A damaged one is put aside and no longer held: `false`.
    ///
    /// # Errors
    /// When it is not held, or could not be read for a reason that says nothing of the copy.
    pub fn verify(&self, content: &ContentId) -> Result<bool, StoreError> {
        let mut verification = self.verification(content)?;
        loop {
            match verification.step(u64::MAX)? {
                Verified::More => {}
                Verified::Whole => return Ok(true),
                Verified::Bad => return Ok(false),
            }
        }
    }

    /// A damaged content is held no longer; what is left of it goes to the quarantine. The caller
    /// has claimed it.
    fn condemn(&self, content: &ContentId) -> Result<(), StoreError> {
        let shared = &self.inner.shared;
        let Some(size) = shared.index.take(content, false) else { return Ok(()) };
        if size <= INLINE_BYTES_MAX {
            self.quarantine_inline(content);
        }
        self.inner.writer.write(Change::Remove(*content))?;
        shared.readers.forget(content);
        shared.folder.quarantine(content)
    }

    /// The remains of a small content, as far as the database still gives them.
    fn quarantine_inline(&self, content: &ContentId) {
        let shared = &self.inner.shared;
        let remains = shared.catalog.all_inline(content);
        let path = shared.folder.quarantined().join(content.to_string());
        let kept = match remains {
            Ok(Some(bytes)) => {
                shared.disk.create(&path).and_then(|file| file.write_at(&bytes, 0)).map_err(at(&path))
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::warn!(%content, %error, "what is left of a damaged content could not be kept");
        }
    }

    /// All contents held, in order, and when each was last verified.
    pub fn copies(&self) -> impl Iterator<Item = super::HeldCopy> {
        self.inner.shared.index.list()
    }

    /// Writes down which contents were verified lately; call it now and then. Blocks for one commit,
    /// if there is anything.
    ///
    /// # Errors
    /// When the database fails: they are verified again after the next start.
    pub fn save_verified(&self) -> Result<(), StoreError> {
        loop {
            let verified = self.inner.shared.index.take_unsaved(VERIFIED_BATCH_MAX);
            if verified.is_empty() {
                return Ok(());
            }
            self.inner.writer.write(Change::Verified(verified))?;
        }
    }

    /// The node ends on purpose: the next start need not doubt what was written last.
    ///
    /// # Errors
    /// When the database fails.
    pub fn end_well(&self) -> Result<(), StoreError> {
        self.save_verified()?;
        self.inner.writer.write(Change::Stopped)
    }
}

impl std::fmt::Debug for Verification {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verification")
            .field("content", &self.hashing.content)
            .field("offset", &self.hashing.offset)
            .finish_non_exhaustive()
    }
}
