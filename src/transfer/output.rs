//! The file that a get writes: a hidden part file beside it, continued if it was interrupted,
//! synced and renamed at the end.
//!
//! Invariant: under the output's name there is the whole content or whatever was there before,
//! never a part of it. A part file's bytes are believed only after they were hashed again.

use super::chunking::Chunker;
use super::manifest::{ManifestBuilder, chunk_hash};
use super::sink::{Sink, SinkError};
use crate::limits::CHUNK_BYTES_MAX;
use crate::types::{ChunkRef, ContentId};
use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, RenameFlags};
use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What the file will be.
#[derive(Clone, Debug)]
pub struct OutputFile {
    /// Where. Its folder must exist.
    pub path: PathBuf,
    /// What.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Permission bits; only the low nine are used.
    pub mode: u16,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Whether a different file may be replaced.
    pub force: bool,
}

/// Writes one output file. Nothing is opened before the first chunk is offered.
pub struct FileSink {
    file: OutputFile,
    part: PathBuf,
    open: Option<File>,
    /// Bytes that an earlier get left in the part file.
    resumed: u64,
    buffer: Vec<u8>,
}

impl FileSink {
    /// Will write `file`.
    #[must_use]
    pub fn new(file: OutputFile) -> FileSink {
        let part = part_path(&file.path, &file.content);
        FileSink { file, part, open: None, resumed: 0, buffer: Vec::new() }
    }

    /// Where the bytes are until the file is whole.
    #[must_use]
    pub fn part_path(&self) -> &Path {
        &self.part
    }

    fn open(&mut self) -> Result<&File, SinkError> {
        if self.open.is_none() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                // Whoever can write to the folder must not lead us elsewhere.
                .custom_flags(i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0))
                .open(&self.part)
                .map_err(at(&self.part))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SinkError::Busy { path: self.part.clone() }),
                // Some network file systems have no locks; the hashes still hold.
                Err(TryLockError::Error(_)) => {}
            }
            self.resumed = file.metadata().map_err(at(&self.part))?.len();
            self.open = Some(file);
        }
        self.open.as_ref().ok_or_else(|| SinkError::Busy { path: self.part.clone() })
    }

    /// Whether an earlier get has written this chunk.
    fn has(&mut self, offset: u64, chunk: &ChunkRef) -> bool {
        if offset + u64::from(chunk.bytes) > self.resumed {
            return false;
        }
        self.buffer.resize(chunk.bytes as usize, 0);
        let Some(file) = &self.open else { return false };
        file.read_exact_at(&mut self.buffer, offset).is_ok() && chunk_hash(&self.buffer) == chunk.hash
    }

    /// Gives the part file its final name.
    fn appear(&self) -> Result<(), SinkError> {
        let target = &self.file.path;
        if self.file.force {
            return std::fs::rename(&self.part, target).map_err(at(target));
        }
        match rustix::fs::renameat_with(CWD, &self.part, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::EXIST) => self.replace_same(),
            // Not every file system can do that; a hard link does not replace either.
            Err(_) => match rustix::fs::linkat(CWD, &self.part, CWD, target, AtFlags::empty()) {
                Ok(()) => std::fs::remove_file(&self.part).map_err(at(&self.part)),
                Err(rustix::io::Errno::EXIST) => self.replace_same(),
                Err(error) => Err(SinkError::File { path: target.clone(), source: error.into() }),
            },
        }
    }

    /// Replaces the file that is there if it has the same bytes: mode and time become ours.
    fn replace_same(&self) -> Result<(), SinkError> {
        let target = &self.file.path;
        if is_content(target, &self.file.content, self.file.size).map_err(at(target))? {
            std::fs::rename(&self.part, target).map_err(at(target))
        } else {
            Err(SinkError::Exists { path: target.clone() })
        }
    }
}

impl Sink for FileSink {
    fn offer(&mut self, _: u32, offset: u64, chunks: &[ChunkRef]) -> Result<Vec<bool>, SinkError> {
        self.open()?;
        let mut offset = offset;
        let mut needed = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            needed.push(!self.has(offset, chunk));
            offset += u64::from(chunk.bytes);
        }
        Ok(needed)
    }

    fn write(&mut self, _: u32, offset: u64, bytes: &Bytes) -> Result<(), SinkError> {
        let part = self.part.clone();
        self.open()?.write_all_at(bytes, offset).map_err(at(&part))
    }

    fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        let size = self.file.size;
        let mode = u32::from(self.file.mode & 0o777);
        let modified = system_time(self.file.modified_ns);
        let part = self.part.clone();
        let file = self.open()?;
        let prepare = || -> io::Result<()> {
            file.set_len(size)?;
            file.set_permissions(std::fs::Permissions::from_mode(mode))?;
            if let Some(modified) = modified {
                file.set_modified(modified)?;
            }
            file.sync_all()
        };
        prepare().map_err(at(&part))?;
        self.appear()?;
        let folder = match self.file.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(at(folder))
    }
}

/// Whether the file at `path` is that content. Of a link or a folder it is not.
///
/// # Errors
/// When it cannot be read.
pub fn is_content(path: &Path, content: &ContentId, size: u64) -> io::Result<bool> {
    let metadata = std::fs::symlink_metadata(path)?;
    if !metadata.is_file() || metadata.len() != size {
        return Ok(false);
    }
    Ok(content_of(File::open(path)?)? == *content)
}

/// The id of the content that `reader` gives.
///
/// # Errors
/// When it cannot be read.
pub fn content_of(mut reader: impl Read) -> io::Result<ContentId> {
    let mut buffer = Vec::new();
    let (mut chunker, mut manifest) = (Chunker::new(), ManifestBuilder::new());
    loop {
        let want = (CHUNK_BYTES_MAX - buffer.len().min(CHUNK_BYTES_MAX)) as u64;
        let at_end = want > 0 && reader.by_ref().take(want).read_to_end(&mut buffer)? == 0;
        let mut start = 0;
        while let Some(length) = chunker.cut(&buffer[start..], at_end) {
            let bytes = &buffer[start..start + length];
            let chunk =
                ChunkRef { hash: chunk_hash(bytes), bytes: u32::try_from(length).unwrap_or(u32::MAX) };
            manifest.push(chunk);
            start += length;
        }
        buffer.drain(..start);
        if at_end {
            return Ok(manifest.finish().content);
        }
    }
}

/// `.NAME.<8 hex digits of the content>.thorp-part` in the same folder; a name too long is cut.
fn part_path(path: &Path, content: &ContentId) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut end = name.len().min(crate::limits::NAME_PART_BYTES_MAX - 32);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let id = content.to_string();
    let part = OsString::from(format!(".{}.{}.thorp-part", &name[..end], &id[..8]));
    path.with_file_name(part)
}

fn system_time(ns: i64) -> Option<SystemTime> {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    if ns >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> SinkError {
    let path = path.to_path_buf();
    move |source| SinkError::File { path, source }
}
