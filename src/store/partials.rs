//! Broken-off contents: what had arrived when a transfer ended early, kept so that its next try
//! need not send it again.
//!
//! `incoming/<id>.part` has the bytes at their places; `incoming/<id>.journal` lists what arrived:
//! chunk hash (32), length (u32 LE), offset (u64 LE). Neither is synced. Invariant: a journal is
//! only a hint; whatever is read by it is hashed before it is used.

use super::disk::{Disk, DiskFile, bytes_on_disk, modified_ms};
use super::error::{StoreError, at};
use crate::clock;
use crate::limits::{CHUNK_BYTES_MAX, PARTIAL_CHUNKS_MAX, PARTIAL_KEEP};
use crate::types::{ChunkHash, ChunkRef};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a journal record.
const RECORD_BYTES: usize = 44;

/// The files of an incoming or broken-off content.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) part: PathBuf,
    pub(super) journal: PathBuf,
}

impl Paths {
    pub(super) fn new(incoming: &Path, id: u64) -> Paths {
        Paths {
            part: incoming.join(format!("{id:016x}.part")),
            journal: incoming.join(format!("{id:016x}.journal")),
        }
    }

    /// Removes both files; what cannot be removed goes at the next start.
    pub(super) fn remove(&self, disk: &Disk) {
        for path in [&self.journal, &self.part] {
            if let Err(error) = disk.remove(path) {
                tracing::warn!(%error, "left behind");
            }
        }
    }
}

/// The journal of an incoming content.
#[derive(Debug)]
pub(super) struct Journal {
    file: DiskFile,
    /// Where the next record goes: what a crash tore is written over.
    end: u64,
}

impl Journal {
    /// A new one, or that of a broken-off content that goes on.
    pub(super) fn open(disk: &Disk, path: &Path, is_new: bool) -> Result<Journal, StoreError> {
        let file = if is_new { disk.create(path) } else { disk.open_to_write(path) }.map_err(at(path))?;
        let bytes = file.len().map_err(at(path))?;
        Ok(Journal { file, end: bytes - bytes % RECORD_BYTES as u64 })
    }

    pub(super) fn append(&mut self, chunk: ChunkRef, offset: u64) -> io::Result<()> {
        let mut record = [0; RECORD_BYTES];
        record[..32].copy_from_slice(&chunk.hash.0);
        record[32..36].copy_from_slice(&chunk.bytes.to_le_bytes());
        record[36..].copy_from_slice(&offset.to_le_bytes());
        self.file.write_at(&record, self.end)?;
        self.end += RECORD_BYTES as u64;
        Ok(())
    }
}

#[derive(Debug)]
struct Partial {
    bytes: u64,
    until_ms: u64,
    chunks: usize,
}

/// All broken-off contents and their chunks.
#[derive(Debug, Default)]
pub(super) struct Partials {
    files: BTreeMap<u64, Partial>,
    /// Those that go on now; their chunks are still listed.
    adopted: BTreeSet<u64>,
    chunks: BTreeMap<ChunkHash, (u64, u64, u32)>,
}

impl Partials {
    /// Registers what `<id>.journal` lists; `false` if there is nothing worth keeping.
    pub(super) fn add(&mut self, disk: &Disk, incoming: &Path, id: u64) -> bool {
        let paths = Paths::new(incoming, id);
        let Ok(part) = disk.look(&paths.part) else { return false };
        let keep_ms = u64::try_from(PARTIAL_KEEP.as_millis()).unwrap_or(u64::MAX);
        let until_ms = modified_ms(&part).saturating_add(keep_ms);
        if !part.is_file() || until_ms <= clock::wall().0 {
            return false;
        }
        let room = PARTIAL_CHUNKS_MAX.saturating_sub(self.chunks.len());
        let Ok(journal) = disk.read_start(&paths.journal, room * RECORD_BYTES) else { return false };
        let mut known = 0;
        for record in journal.chunks_exact(RECORD_BYTES) {
            let (mut hash, mut offset) = ([0; 32], [0; 8]);
            hash.copy_from_slice(&record[..32]);
            offset.copy_from_slice(&record[36..]);
            let bytes = u32::from_le_bytes([record[32], record[33], record[34], record[35]]);
            if bytes == 0 || bytes as usize > CHUNK_BYTES_MAX {
                break;
            }
            self.chunks.insert(ChunkHash(hash), (id, u64::from_le_bytes(offset), bytes));
            known += 1;
        }
        if known > 0 {
            self.files.insert(id, Partial { bytes: bytes_on_disk(&part), until_ms, chunks: known });
        }
        known > 0
    }

    /// Where a chunk lies: in which broken-off content, at which offset.
    pub(super) fn find(&self, chunk: ChunkRef) -> Option<(u64, u64)> {
        let (id, offset, bytes) = self.chunks.get(&chunk.hash)?;
        (*bytes == chunk.bytes).then_some((*id, *offset))
    }

    /// Bytes on disk of a broken-off content that goes on now; it is no longer dropped.
    pub(super) fn adopt(&mut self, id: u64) -> Option<u64> {
        let partial = self.files.remove(&id)?;
        self.adopted.insert(id);
        Some(partial.bytes)
    }

    /// Forgets the chunks of `id`.
    pub(super) fn forget(&mut self, id: u64) {
        let known = self.files.remove(&id).is_some();
        // Most files never broke off: the list is searched only for those that did.
        if self.adopted.remove(&id) || known {
            self.chunks.retain(|_, (owner, ..)| *owner != id);
        }
    }

    /// Those of which at least half of the chunks are among the `used`: their content is whole now.
    pub(super) fn finished(&self, used: &BTreeMap<u64, usize>) -> BTreeSet<u64> {
        let done = |(id, count): &(&u64, &usize)| {
            self.files.get(*id).is_some_and(|partial| **count * 2 >= partial.chunks)
        };
        used.iter().filter(done).map(|(id, _)| *id).collect()
    }

    /// Those kept for long enough.
    pub(super) fn expired(&self, wall_ms: u64) -> BTreeSet<u64> {
        self.files.iter().filter(|(_, partial)| partial.until_ms <= wall_ms).map(|(id, _)| *id).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> BTreeSet<u64> {
        self.files.keys().copied().collect()
    }

    /// Bytes on disk of one of them.
    pub(super) fn bytes(&self, id: u64) -> u64 {
        self.files.get(&id).map_or(0, |partial| partial.bytes)
    }
}
