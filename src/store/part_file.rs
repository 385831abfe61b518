//! The file of a content in the making, and the thread that syncs large ones while they grow.

use super::disk::DiskFile;
use super::error::{StoreError, at};
use super::partials::{Journal, Paths};
use super::{Shared, space};
use crate::limits::{WRITE_BACK_BYTES, WRITE_BACK_QUEUE_MAX};
use crate::types::ChunkRef;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Early syncs of one file: how many are under way, and whether one failed. The kernel reports a
/// failure once per open file, so one that an early sync was told must not be forgotten.
#[derive(Debug, Default)]
struct Syncs {
    state: Mutex<(usize, bool)>,
    ended: Condvar,
}

impl Syncs {
    fn begin(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
    }

    fn end(&self, failed: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        state.1 |= failed;
        self.ended.notify_all();
    }

    /// Waits for all; `true` if one failed.
    fn wait(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.ended.wait_while(state, |state| state.0 > 0);
        state.unwrap_or_else(PoisonError::into_inner).1
    }
}

/// The thread that syncs growing files early, so that the sync at the end is short.
pub(super) struct WriteBack {
    queue: Option<SyncSender<(Arc<DiskFile>, Arc<Syncs>)>>,
    thread: Option<JoinHandle<()>>,
}

impl WriteBack {
    pub(super) fn start() -> std::io::Result<WriteBack> {
        let (queue, files) = sync_channel::<(Arc<DiskFile>, Arc<Syncs>)>(WRITE_BACK_QUEUE_MAX);
        let thread = std::thread::Builder::new().name("store-write-back".into()).spawn(move || {
            while let Ok((file, syncs)) = files.recv() {
                let result = file.sync_content();
                if let Err(error) = &result {
                    tracing::error!(%error, "an early sync failed");
                }
                syncs.end(result.is_err());
            }
        })?;
        Ok(WriteBack { queue: Some(queue), thread: Some(thread) })
    }

    fn sync(&self, file: &Arc<DiskFile>, syncs: &Arc<Syncs>) {
        let Some(queue) = &self.queue else { return };
        syncs.begin();
        match queue.try_send((Arc::clone(file), Arc::clone(syncs))) {
            Ok(()) => {}
            // The sync at the end does it all the same.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => syncs.end(false),
        }
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `incoming/<id>.part` and its journal.
#[derive(Debug)]
pub(super) struct PartFile {
    pub(super) id: u64,
    pub(super) paths: Paths,
    file: Arc<DiskFile>,
    journal: Journal,
    syncs: Arc<Syncs>,
    unsynced: u64,
    /// Bytes counted in the store's incoming bytes.
    bytes: u64,
    /// Bytes that came from a sender, in this transfer or in the broken-off one that it continues.
    pub(super) received: u64,
    total: Arc<AtomicU64>,
}

impl PartFile {
    /// A new file, or the one of the broken-off content `adopt`.
    pub(super) fn open(shared: &Shared, adopt: Option<u64>) -> Result<PartFile, StoreError> {
        shared.health.check_room()?;
        let adopted = adopt.and_then(|id| shared.partials().adopt(id).map(|bytes| (id, bytes)));
        let incoming = shared.folder.incoming();
        let (id, bytes) = match adopted {
            Some(adopted) => adopted,
            None => (u64::from_le_bytes(crate::clock::entropy().map_err(at(&incoming))?), 0),
        };
        let paths = Paths::new(&incoming, id);
        let file = match adopted {
            Some(_) => shared.disk.open_to_write(&paths.part),
            None => shared.disk.create(&paths.part),
        };
        let opened = file
            .map_err(at(&paths.part))
            .and_then(|file| Ok((file, Journal::open(&shared.disk, &paths.journal, adopted.is_none())?)));
        let (file, journal) = opened.inspect_err(|_| {
            shared.partials().forget(id);
            shared.incoming_bytes.fetch_sub(bytes, Ordering::Relaxed);
            paths.remove(&shared.disk);
        })?;
        Ok(PartFile {
            id,
            paths,
            file: Arc::new(file),
            journal,
            syncs: Arc::default(),
            unsynced: 0,
            bytes,
            received: bytes,
            total: Arc::clone(&shared.incoming_bytes),
        })
    }

    pub(super) fn write(
        &mut self,
        shared: &Shared,
        write_back: &WriteBack,
        offset: u64,
        data: &[u8],
    ) -> Result<(), StoreError> {
        shared.health.check_room()?;
        space::check(shared, data.len() as u64)?;
        self.file.write_at(data, offset).map_err(at(&self.paths.part))?;
        let written = data.len() as u64;
        self.bytes += written;
        self.total.fetch_add(written, Ordering::Relaxed);
        self.unsynced += written;
        if self.unsynced >= WRITE_BACK_BYTES {
            self.unsynced = 0;
            write_back.sync(&self.file, &self.syncs);
        }
        Ok(())
    }

    /// Notes a chunk that came from a sender and has been written.
    pub(super) fn note(&mut self, chunk: ChunkRef, offset: u64) -> Result<(), StoreError> {
        self.received += u64::from(chunk.bytes);
        self.journal.append(chunk, offset).map_err(at(&self.paths.journal))
    }

    pub(super) fn read(&self, offset: u64, bytes: u32) -> Result<Vec<u8>, StoreError> {
        let mut buffer = vec![0; bytes as usize];
        self.file.read_at(&mut buffer, offset).map_err(at(&self.paths.part))?;
        Ok(buffer)
    }

    /// Makes the bytes of the file durable; it then has exactly `size`. Not tried again.
    pub(super) fn sync(&self, shared: &Shared, size: u64) -> Result<(), StoreError> {
        let early_failed = self.syncs.wait();
        let synced = self.file.len().and_then(|bytes| {
            if bytes != size {
                self.file.resize(size)?;
            }
            self.file.sync_content()
        });
        synced.map_err(at(&self.paths.part))?;
        if early_failed {
            shared.health.check()?;
            return Err(StoreError::Full { needed_bytes: 0, free_bytes: 0 });
        }
        Ok(())
    }

    /// No longer counts the file's bytes as incoming; what becomes of it is the caller's.
    pub(super) fn uncount(&mut self) {
        self.total.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }

    /// Throws the file away.
    pub(super) fn discard(mut self, shared: &Shared) {
        self.uncount();
        shared.partials().forget(self.id);
        self.paths.remove(&shared.disk);
    }

    /// Keeps the file for the next try.
    pub(super) fn keep(mut self, shared: &Shared) {
        self.uncount();
        let mut partials = shared.partials();
        partials.forget(self.id);
        if partials.add(&shared.disk, &shared.folder.incoming(), self.id) {
            self.total.fetch_add(partials.bytes(self.id), Ordering::Relaxed);
        } else {
            drop(partials);
            self.paths.remove(&shared.disk);
        }
    }
}
