//! Contents and catalog on disk: one plain file a content (small ones inside the database), an
//! embedded database for everything else. Synchronous; call it from threads that may block.
//!
//! Promise P1 rests on the order of things here. A content is acknowledged after:
//!
//! 1. its chunks were hashed one by one as they were written to `incoming/<id>.part`;
//! 2. the file's data is synced;
//! 3. it is renamed to `contents/ab/cdef…`, and that folder synced (a new one also in its parent);
//! 4. its row, manifest and chunk rows are committed, with one sync for all that queued meanwhile.
//!
//! After a crash between 3 and 4 there is a file without a row: it was never acknowledged, is no
//! copy, is replaced if the content comes again, and is removed after
//! [`ORPHAN_GRACE_MS`](crate::limits::ORPHAN_GRACE_MS). A row without its file is impossible: a
//! removal commits before it unlinks, so it also leaves at worst a file without a row. Nothing has
//! to be completed or undone at the next start.
//!
//! Invariants: a sync that failed is never tried again, what it was for is thrown away, and the
//! store then refuses all writes ([`StoreError::Suspect`]). Every byte taken from this disk for a
//! new content is hashed anew. Memory is bounded whatever the size of a content.

mod aside;
mod backend;
mod change;
mod database;
mod disk;
mod error;
mod folder;
mod health;
mod incoming;
mod index;
mod open;
mod part_file;
mod partials;
mod reading;
mod rebuild;
mod removed;
mod reserve;
mod space;
mod verify;
mod writer;

pub use error::StoreError;
pub use incoming::{Finished, FinishedFn, Incoming};
pub use index::{HeldCopy, Pin};
pub use rebuild::Rebuilt;
pub use space::Usage;
pub use verify::{Verification, Verified};
pub use writer::Done;

use crate::clock;
use crate::limits::QUARANTINE_INTERVAL_MS;
use crate::types::{ContentId, DiskId, DiskState, FileName, Term, Version};
use crate::wire::mail::MailRow;
use crate::wire::message::Context;
use crate::wire::record::{CatalogWrite, ContentRecord};
use aside::Asides;
use bytes::Bytes;
use change::Change;
use database::Catalog;
use disk::Disk;
use error::at;
use folder::Folder;
use health::Health;
use index::Index;
use part_file::WriteBack;
use partials::{Partials, Paths};
use reading::Readers;
use removed::Removed;
use reserve::Reserve;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use writer::Writer;

/// The open store of a data folder. Clones are handles to the same store; it closes, and the
/// folder is free for others, when the last handle and the last [`Incoming`] are gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What the store held when it was opened.
#[derive(Debug)]
pub struct Loaded {
    /// All dots seen.
    pub context: Context,
    /// The catalog.
    pub names: Vec<(FileName, Vec<Version>)>,
    /// The contents held, with their sizes in bytes.
    pub contents: Vec<(ContentId, u64)>,
    /// The highest term obeyed.
    pub term: Term,
    /// The rows of the table of letters.
    pub mail: Vec<MailRow>,
    /// Contents that the disk may not have kept, because the run before did not end on purpose and
    /// they were written in its last minutes: to be verified first.
    pub doubtful: Vec<ContentId>,
    /// How often this folder was opened, this time included; durable before it is given out.
    pub generation: u64,
}

/// Fields are dropped in this order: the threads end before the folder is unlocked.
struct Inner {
    writer: Writer,
    write_back: WriteBack,
    shared: Shared,
}

/// What all parts of the store work on.
struct Shared {
    catalog: Arc<Catalog>,
    index: Arc<Index>,
    health: Arc<Health>,
    partials: Mutex<Partials>,
    asides: Mutex<Asides>,
    removed: Removed,
    readers: Readers,
    /// Bytes on disk of contents in the making and broken-off ones.
    incoming_bytes: Arc<AtomicU64>,
    capacity: Option<u64>,
    /// When the quarantine was last looked through, wall milliseconds.
    quarantine_looked_ms: AtomicU64,
    disk_id: DiskId,
    reserve: Arc<Reserve>,
    folder: Folder,
    disk: Disk,
}

impl Shared {
    fn partials(&self) -> MutexGuard<'_, Partials> {
        self.partials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes broken-off contents and their files.
    fn remove_partials(&self, ids: BTreeSet<u64>) {
        for id in ids {
            let bytes = {
                let mut partials = self.partials();
                let bytes = partials.bytes(id);
                partials.forget(id);
                bytes
            };
            Paths::new(&self.folder.incoming(), id).remove(&self.disk);
            self.incoming_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Removes damaged contents that were kept for long enough.
    fn expire_quarantine(&self, wall_ms: u64) {
        self.folder.expire_quarantine(wall_ms, |content| self.index.size(content).is_some());
    }

    /// Removes all broken-off contents: room is needed.
    fn drop_partials(&self) {
        let all = self.partials().all();
        self.remove_partials(all);
    }
}

impl Store {
    /// Opens the data folder, and makes it if it is new. `capacity` caps the bytes of contents
    /// held; without it the disk's size less the headroom does.
    ///
    /// # Errors
    /// When the folder is not ours, of a newer format, in use, not writable, damaged, or has lost
    /// its database, contents or id; each has its own error and hint.
    pub fn open(folder: &Path, capacity: Option<u64>) -> Result<(Store, Loaded), StoreError> {
        open::open(folder, capacity, false)
    }

    /// Puts the database of a folder aside, makes a new one and takes in the contents that lie
    /// there, each hashed anew. What only the database had must come from the peers.
    ///
    /// # Errors
    /// As [`Store::open`]; a database that is damaged or missing is what this is for.
    pub fn rebuild(folder: &Path) -> Result<Rebuilt, StoreError> {
        rebuild::rebuild(folder)
    }

    /// The id of the disk.
    #[must_use]
    pub fn disk(&self) -> DiskId {
        self.inner.shared.disk_id
    }

    /// How the disk is.
    #[must_use]
    pub fn disk_state(&self) -> DiskState {
        self.inner.shared.health.state()
    }

    /// Whether the catalog can be written now: the disk is not suspect, and has some room.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.inner.shared.health.commits_go_on()
    }

    /// Commits since the store was opened.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.shared.health.commits()
    }

    /// Writes changes of the catalog, all or none. Never blocks, and needs no room of a disk that
    /// has none: the changes then wait, and later ones of the same names take their place. `done`
    /// is called once they are durable, or never can be.
    pub fn write_catalog(&self, writes: Vec<CatalogWrite>, done: Done) {
        match change::check_writes(&writes) {
            Ok(()) => self.inner.writer.submit(Change::Catalog(writes), done),
            Err(error) => done(Err(error)),
        }
    }

    /// Writes the highest term obeyed; `done` is called once it is durable.
    pub fn set_term(&self, term: Term, done: Done) {
        self.inner.writer.submit(Change::Term(term), done);
    }

    /// The size in bytes of a content, if it is held. An answer given to others needs a [`Pin`]
    /// first: pin, then ask.
    #[must_use]
    pub fn holds(&self, content: &ContentId) -> Option<u64> {
        self.inner.shared.index.size(content)
    }

    /// All contents held.
    #[must_use]
    pub fn contents(&self) -> Vec<ContentId> {
        self.inner.shared.index.list().map(|copy| copy.content).collect()
    }

    /// How to ask for room that removed contents take, in bytes.
    pub fn on_room_wanted(&self, ask: impl Fn(u64) + Send + Sync + 'static) {
        self.inner.shared.removed.set_ask(Box::new(ask));
    }

    /// How many bytes removed contents take.
    pub fn set_removed_bytes(&self, bytes: u64) {
        self.inner.shared.removed.set_bytes(bytes);
    }

    /// How full the store is.
    #[must_use]
    pub fn usage(&self) -> Usage {
        space::usage(&self.inner.shared)
    }

    /// The record of a content: when it was stored and last verified.
    ///
    /// # Errors
    /// When it is not held, or the database fails.
    pub fn record(&self, content: &ContentId) -> Result<ContentRecord, StoreError> {
        self.inner.shared.record(content)
    }

    /// When a content held here was last hashed whole, wall milliseconds.
    #[must_use]
    pub fn verified_ms(&self, content: &ContentId) -> Option<u64> {
        self.inner.shared.index.verified_ms(content)
    }

    /// The root of a content's manifest.
    ///
    /// # Errors
    /// When it is not held, or the database fails.
    pub fn root(&self, content: &ContentId) -> Result<Vec<u8>, StoreError> {
        self.inner.shared.root(content)
    }

    /// A page of a content's manifest, counted from 0.
    ///
    /// # Errors
    /// When the content is not held or has no such page, or the database fails.
    pub fn page(&self, content: &ContentId, number: u32) -> Result<Vec<u8>, StoreError> {
        self.inner.shared.page(content, number)
    }

    /// `bytes` bytes of a content from `offset` on, at most
    /// [`CHUNK_BYTES_MAX`](crate::limits::CHUNK_BYTES_MAX). They are not hashed: the reader does.
    ///
    /// # Errors
    /// When the content is not held or does not reach that far, or the disk fails.
    pub fn read(&self, content: &ContentId, offset: u64, bytes: u32) -> Result<Bytes, StoreError> {
        self.inner.shared.read(content, offset, bytes)
    }

    /// Keeps a content from being removed, held or not, until the pin is dropped.
    pub fn pin(&self, content: &ContentId) -> Pin {
        self.inner.shared.index.pin(*content)
    }

    /// Removes a content; `false` when it is pinned or not held. The removal is durable before the
    /// file goes.
    ///
    /// # Errors
    /// When the disk or the database fails.
    pub fn remove(&self, content: &ContentId) -> Result<bool, StoreError> {
        let shared = &self.inner.shared;
        shared.health.check()?;
        let _claim = shared.index.claim(*content);
        let Some(size) = shared.index.take(content, true) else { return Ok(false) };
        self.inner.writer.write(Change::Remove(*content))?;
        shared.readers.forget(content);
        if size > crate::limits::INLINE_BYTES_MAX {
            let path = shared.folder.content(content);
            shared.disk.remove(&path).map_err(at(&path))?;
        }
        shared.removed.something_went();
        Ok(true)
    }

    /// Begins to receive a content.
    #[must_use]
    pub fn receive(&self) -> Incoming {
        Incoming::new(self.clone())
    }

    /// What is due from time to time: removes broken-off and damaged contents that were kept for
    /// long enough, and looks whether there is room.
    pub fn tend(&self) {
        let shared = &self.inner.shared;
        let now = clock::wall().0;
        let expired = shared.partials().expired(now);
        shared.remove_partials(expired);
        let looked = shared.quarantine_looked_ms.load(Ordering::Relaxed);
        if now.saturating_sub(looked) >= QUARANTINE_INTERVAL_MS {
            shared.quarantine_looked_ms.store(now, Ordering::Relaxed);
            shared.expire_quarantine(now);
        }
        space::look(shared);
    }

    /// A blob that another part of the program keeps here.
    ///
    /// # Errors
    /// When the database fails.
    pub fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.shared.catalog.blob(key)
    }

    /// Keeps a blob; durable when it returns.
    ///
    /// # Errors
    /// When the database fails.
    pub fn meta_set(&self, key: &str, bytes: Vec<u8>) -> Result<(), StoreError> {
        self.inner.writer.write(Change::Blob(key.into(), bytes))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.inner.shared.folder.root()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
