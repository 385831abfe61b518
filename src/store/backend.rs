//! How the database reaches its file: each call through [`Health::call`], like all others.
//!
//! Once the disk is suspect, what the database would write stays in memory (an [`Overlay`]): it can
//! then still be opened, with the recovery that needs, and read, while the disk stays as it is.

use super::disk::Call;
use super::health::Health;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that the overlay keeps together.
const BLOCK: u64 = 4_096;

/// The database's file.
#[derive(Debug)]
pub(super) struct Backend {
    file: FileBackend,
    path: Arc<Path>,
    health: Arc<Health>,
    overlay: Option<Mutex<Overlay>>,
}

/// What would have been written: whole blocks, and the length. A recovery writes little.
#[derive(Debug)]
struct Overlay {
    blocks: BTreeMap<u64, Vec<u8>>,
    bytes: u64,
    /// Length of what is still visible of the file below.
    below: u64,
}

impl Backend {
    /// `read_only`: the file is left as it is.
    pub(super) fn new(
        file: FileBackend,
        path: &Path,
        health: &Arc<Health>,
        read_only: bool,
    ) -> io::Result<Backend> {
        let mut backend = Backend { file, path: path.into(), health: Arc::clone(health), overlay: None };
        if read_only {
            let bytes = backend.len()?;
            backend.overlay = Some(Mutex::new(Overlay { blocks: BTreeMap::new(), bytes, below: bytes }));
        }
        Ok(backend)
    }

    fn call<T>(&self, call: Call, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.health.call(call, &self.path, work)
    }

    fn overlay(&self) -> Option<MutexGuard<'_, Overlay>> {
        self.overlay.as_ref().map(|overlay| overlay.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A file open for reading alone cannot be locked; the data folder is.
    fn lockable(&self) -> Result<(), BackendError> {
        if self.overlay.is_some() { Err(BackendError::Unsupported) } else { Ok(()) }
    }

    fn read_file(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let result = self.call(Call::Read, || self.file.read(offset, out));
        // A file that is too short is damaged; it is the system's word that says it of the disk.
        if let Err(error) = &result
            && error.raw_os_error().is_some()
        {
            // Of contents there are other copies; the catalog here is this one.
            self.health.set_suspect(&format!("reading {}: {error}", self.path.display()));
        }
        result
    }
}

impl Overlay {
    fn read(
        &self,
        offset: u64,
        out: &mut [u8],
        below: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let at = offset + done as u64;
            let (block, inside) = (at / BLOCK, (at % BLOCK) as usize);
            let part = (BLOCK as usize - inside).min(out.len() - done);
            let target = &mut out[done..done + part];
            match self.blocks.get(&block) {
                Some(bytes) => target.copy_from_slice(&bytes[inside..inside + part]),
                None => {
                    let there = usize::try_from(self.below.saturating_sub(at)).unwrap_or(part).min(part);
                    if there > 0 {
                        below(at, &mut target[..there])?;
                    }
                    target[there..].fill(0);
                }
            }
            done += part;
        }
        Ok(())
    }

    fn write(
        &mut self,
        offset: u64,
        data: &[u8],
        below: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (block, inside) = (at / BLOCK, (at % BLOCK) as usize);
            let part = (BLOCK as usize - inside).min(data.len() - done);
            if !self.blocks.contains_key(&block) {
                let mut bytes = vec![0; BLOCK as usize];
                let there = self.below.saturating_sub(block * BLOCK).min(BLOCK) as usize;
                if there > 0 {
                    below(block * BLOCK, &mut bytes[..there])?;
                }
                self.blocks.insert(block, bytes);
            }
            if let Some(bytes) = self.blocks.get_mut(&block) {
                bytes[inside..inside + part].copy_from_slice(&data[done..done + part]);
            }
            done += part;
        }
        self.bytes = self.bytes.max(offset.saturating_add(data.len() as u64));
        Ok(())
    }

    fn set_len(&mut self, bytes: u64) {
        self.blocks.retain(|block, _| block * BLOCK < bytes);
        if let Some(last) = self.blocks.get_mut(&(bytes / BLOCK)) {
            last[(bytes % BLOCK) as usize..].fill(0);
        }
        self.below = self.below.min(bytes);
        self.bytes = bytes;
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        match self.overlay() {
            Some(overlay) => Ok(overlay.bytes),
            None => self.call(Call::Look, || self.file.len()),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.overlay() {
            Some(overlay) => overlay.read(offset, out, |offset, out| self.read_file(offset, out)),
            None => self.read_file(offset, out),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        match self.overlay() {
            Some(mut overlay) => overlay.set_len(bytes),
            None => self.call(Call::Resize, || self.file.set_len(bytes))?,
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.overlay.is_some() {
            return Ok(());
        }
        self.call(Call::Sync, || self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Some(mut overlay) = self.overlay() {
            return overlay.write(offset, data, |offset, out| self.read_file(offset, out));
        }
        #[cfg(test)]
        if let Some(part) = self.health.faults.torn(Call::Write, &self.path, data.len()) {
            self.file.write(offset, &data[..part])?;
        }
        self.call(Call::Write, || self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lockable()?;
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.lockable()?;
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?;
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?;
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.lockable()?;
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Rng;

    #[test]
    fn an_overlay_reads_as_if_it_had_been_written() {
        let mut rng = Rng::seeded(3);
        let below: Vec<u8> = (0..20_000).map(|at| (at % 251) as u8).collect();
        let read_below = |offset: u64, out: &mut [u8]| {
            out.copy_from_slice(&below[offset as usize..offset as usize + out.len()]);
            Ok(())
        };
        let mut overlay = Overlay { blocks: BTreeMap::new(), bytes: 20_000, below: 20_000 };
        let mut model = below.clone();
        for step in 0..2_000_u32 {
            let (at, bytes) = (rng.below(25_000), rng.below(9_000) as usize);
            if step % 10 == 0 {
                overlay.set_len(at);
                model.resize(at as usize, 0);
            } else if at as usize <= model.len() {
                let data = vec![step as u8; bytes];
                overlay.write(at, &data, read_below).expect("written");
                model.resize(model.len().max(at as usize + bytes), 0);
                model[at as usize..at as usize + bytes].copy_from_slice(&data);
            }
            let mut out = vec![1; model.len()];
            overlay.read(0, &mut out, read_below).expect("read");
            assert!(out == model, "step {step}");
            assert!(overlay.read(1, &mut out, read_below).is_err() || out.is_empty());
        }
    }
}
