//! Where contents come together before they are put in place, and where chunks are found again.
//!
//! Invariant: a file called by a content's id is that content, hashed as it came or when the
//! staging was opened again; a chunk that is given out was hashed as it was read.

use super::index::Index;
use super::root::{Root, open_folder};
use crate::limits::{SYNC_CHUNKS_MAX, SYNC_HEADROOM_BYTES, SYNC_ROOM_LOOK_BYTES};
use crate::remote::hashing::{Hashed, hash};
use crate::transfer::manifest::chunk_hash;
use crate::types::{ChunkHash, ChunkRef, ContentId, TreePath};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

/// The folder of a workspace in which contents come together.
pub struct Staging {
    path: PathBuf,
    folder: OwnedFd,
    /// Bytes written since the room on the disk was looked at.
    unlooked: u64,
}

impl Staging {
    /// # Errors
    /// What the system says.
    pub fn open(path: PathBuf) -> io::Result<Staging> {
        let folder = open_folder(&path)?;
        Ok(Staging { path, folder, unlooked: SYNC_ROOM_LOOK_BYTES })
    }

    /// Its descriptor.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// A new, empty file.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::options().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// A file that is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn file(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    /// Calls a file by what it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn name_content(&self, name: &str, content: ContentId) -> io::Result<()> {
        fs::rename(self.path.join(name), self.path.join(content.to_string()))
    }

    /// Makes a second file of a content, which shares its blocks where the disk can do that.
    ///
    /// # Errors
    /// What the system says.
    pub fn copy(&mut self, content: ContentId, name: &str) -> io::Result<File> {
        let mut from = self.file(&content.to_string())?;
        self.check_room(from.metadata()?.len())?;
        let mut to = self.create(name)?;
        io::copy(&mut from, &mut to)?;
        Ok(to)
    }

    /// Makes a symbolic link, to be put in place.
    ///
    /// # Errors
    /// What the system says.
    pub fn link(&self, name: &str, target: &[u8]) -> io::Result<()> {
        self.remove(name);
        Ok(rustix::fs::symlinkat(target, &self.folder, name)?)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    /// Removes everything.
    ///
    /// # Errors
    /// What the system says.
    pub fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// What a sync that was cut short has left, each called by what it is now.
    ///
    /// # Errors
    /// What the system says.
    pub fn leftovers(&self) -> io::Result<Vec<Hashed>> {
        let (mut all, mut buffer) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|_| entry.file_type().is_ok_and(|kind| kind.is_file()))
            else {
                fs::remove_file(entry.path())?;
                continue;
            };
            let hashed = hash(&mut self.file(name)?, &mut buffer)?;
            if name != hashed.content.to_string() {
                self.name_content(name, hashed.content)?;
            }
            all.push(hashed);
        }
        Ok(all)
    }

    /// Before `bytes` are written: whether the disk has room for them.
    ///
    /// # Errors
    /// `StorageFull`.
    pub fn check_room(&mut self, bytes: u64) -> io::Result<()> {
        self.unlooked = self.unlooked.saturating_add(bytes);
        if self.unlooked < SYNC_ROOM_LOOK_BYTES {
            return Ok(());
        }
        self.unlooked = 0;
        let disk = rustix::fs::fstatvfs(&self.folder)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if has_room(free, bytes) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

fn has_room(free: u64, bytes: u64) -> bool {
    free.saturating_sub(bytes) >= SYNC_HEADROOM_BYTES
}

/// A file in which there are chunks.
#[derive(Clone, Debug)]
enum Source {
    Workspace(TreePath),
    Staged(String),
}

#[derive(Clone, Copy)]
struct Place {
    source: u32,
    offset: u64,
    bytes: u32,
}

/// Where chunks are.
#[derive(Default)]
pub struct Places {
    chunks: BTreeMap<ChunkHash, Place>,
    sources: Vec<Source>,
    /// The file that was read last.
    open: Option<(u32, File)>,
}

impl Places {
    /// All chunks that the index knows.
    #[must_use]
    pub fn of(index: &Index) -> Places {
        let mut places = Places::default();
        for (path, known) in index.iter() {
            let source = places.add_source(Source::Workspace(path.clone()));
            places.add_chunks(source, &known.chunks);
        }
        places
    }

    /// The chunks of a content in staging.
    pub fn add_content(&mut self, hashed: &Hashed) {
        let source = self.add_staged(hashed.content.to_string());
        self.add_chunks(source, &hashed.chunks);
    }

    /// A file in staging, of which chunks will be known.
    pub fn add_staged(&mut self, name: String) -> u32 {
        self.add_source(Source::Staged(name))
    }

    /// A file in staging has another name now.
    pub fn rename(&mut self, source: u32, name: String) {
        if let Some(known) = self.sources.get_mut(source as usize) {
            *known = Source::Staged(name);
        }
    }

    fn add_source(&mut self, source: Source) -> u32 {
        self.sources.push(source);
        u32::try_from(self.sources.len() - 1).unwrap_or(u32::MAX)
    }

    fn add_chunks(&mut self, source: u32, chunks: &[ChunkRef]) {
        let mut offset = 0;
        for chunk in chunks {
            self.add(source, offset, *chunk);
            offset += u64::from(chunk.bytes);
        }
    }

    /// This chunk is there.
    pub fn add(&mut self, source: u32, offset: u64, chunk: ChunkRef) {
        if self.chunks.len() < SYNC_CHUNKS_MAX {
            self.chunks.insert(chunk.hash, Place { source, offset, bytes: chunk.bytes });
        }
    }

    /// The bytes of a chunk, if it is anywhere and still what it was.
    pub fn fetch(&mut self, chunk: ChunkRef, root: &mut Root, staging: &Staging) -> Option<Vec<u8>> {
        let place = self.chunks.get(&chunk.hash).copied().filter(|place| place.bytes == chunk.bytes)?;
        let bytes = self.read(place, root, staging).ok().filter(|bytes| chunk_hash(bytes) == chunk.hash);
        if bytes.is_none() {
            self.chunks.remove(&chunk.hash);
        }
        bytes
    }

    fn read(&mut self, place: Place, root: &mut Root, staging: &Staging) -> io::Result<Vec<u8>> {
        if self.open.as_ref().is_none_or(|(source, _)| *source != place.source) {
            let file = match self.sources.get(place.source as usize) {
                Some(Source::Workspace(path)) => root.open_file(path)?,
                Some(Source::Staged(name)) => staging.file(name)?,
                None => return Err(io::ErrorKind::NotFound.into()),
            };
            self.open = Some((place.source, file));
        }
        let mut bytes = vec![0; place.bytes as usize];
        if let Some((_, file)) = &self.open {
            file.read_exact_at(&mut bytes, place.offset)?;
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_room_stays_free() {
        assert!(has_room(SYNC_HEADROOM_BYTES + 10, 10));
        assert!(!has_room(SYNC_HEADROOM_BYTES + 10, 11));
        assert!(!has_room(0, u64::MAX));
    }

    #[test]
    fn what_is_left_is_called_by_what_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut staging = Staging::open(folder.path().to_owned()).expect("staging");
        fs::write(folder.path().join("17"), b"half").expect("written");
        let wrong = ContentId([7; 32]).to_string();
        fs::write(folder.path().join(&wrong), b"not that content").expect("written");
        let left = staging.leftovers().expect("read");
        assert_eq!(left.len(), 2);
        assert!(!folder.path().join(wrong).exists());
        for hashed in &left {
            let read = fs::read(folder.path().join(hashed.content.to_string())).expect("there");
            assert_eq!(hash(&mut read.as_slice(), &mut Vec::new()).expect("bytes"), *hashed);
        }
        staging.copy(left[0].content, "copy").expect("copied");
        staging.clear().expect("cleared");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
