//! Reading contents back.

use super::Shared;
use super::error::{StoreError, at};
use crate::limits::{CHUNK_BYTES_MAX, INLINE_BYTES_MAX, OPEN_CONTENTS_MAX};
use crate::transfer::manifest::chunk_hash;
use crate::types::{ChunkRef, ContentId};
use crate::wire::record::ContentRecord;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Content files lately read, most recent last: a fetch reads one file a thousand times.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<VecDeque<(ContentId, Arc<File>)>>);

impl Readers {
    fn get(&self, content: &ContentId, path: &Path) -> Result<Arc<File>, StoreError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| known == content)
            && let Some(entry) = open.remove(at)
        {
            let file = Arc::clone(&entry.1);
            open.push_back(entry);
            return Ok(file);
        }
        let file = Arc::new(open_plain(path)?);
        if open.len() >= OPEN_CONTENTS_MAX {
            open.pop_front();
        }
        open.push_back((*content, Arc::clone(&file)));
        Ok(file)
    }

    pub(super) fn forget(&self, content: &ContentId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(known, _)| known != content);
    }
}

/// Opens a file for reading, never through a symbolic link.
pub(super) fn open_plain(path: &Path) -> Result<File, StoreError> {
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    OpenOptions::new().read(true).custom_flags(no_follow).open(path).map_err(at(path))
}

impl Shared {
    pub(super) fn record(&self, content: &ContentId) -> Result<ContentRecord, StoreError> {
        self.held(content)?;
        let record = self.catalog.record(content)?.ok_or(StoreError::NotHeld(*content))?;
        // The row follows later.
        let verified_ms = self.index.verified_ms(content).unwrap_or(record.verified_ms);
        Ok(ContentRecord { verified_ms, ..record })
    }

    pub(super) fn root(&self, content: &ContentId) -> Result<Vec<u8>, StoreError> {
        self.held(content)?;
        self.catalog.root(content)?.ok_or(StoreError::NotHeld(*content))
    }

    pub(super) fn page(&self, content: &ContentId, number: u32) -> Result<Vec<u8>, StoreError> {
        self.held(content)?;
        let what = || format!("manifest page {number}").into();
        self.catalog
            .page(content, number)?
            .ok_or_else(|| StoreError::NoSuchPart { content: *content, what: what() })
    }

    pub(super) fn read(&self, content: &ContentId, offset: u64, bytes: u32) -> Result<Bytes, StoreError> {
        let size = self.held(content)?;
        let end = offset.checked_add(u64::from(bytes)).filter(|end| *end <= size);
        let missing = || StoreError::NoSuchPart {
            content: *content,
            what: format!("{bytes} bytes from {offset} on").into(),
        };
        let end = end.filter(|_| bytes as usize <= CHUNK_BYTES_MAX).ok_or_else(missing)?;
        if size <= INLINE_BYTES_MAX {
            let part =
                usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
            return self.catalog.inline(content, part)?.map(Bytes::from).ok_or_else(missing);
        }
        let path = self.folder.content(content);
        let file = self.readers.get(content, &path)?;
        let mut buffer = vec![0; bytes as usize];
        file.read_exact_at(&mut buffer, offset).map_err(at(&path))?;
        Ok(buffer.into())
    }

    /// A chunk of a held content; an error if it is not what its hash says.
    pub(super) fn read_chunk(
        &self,
        content: &ContentId,
        offset: u64,
        chunk: ChunkRef,
    ) -> Result<Bytes, StoreError> {
        let bytes = self.read(content, offset, chunk.bytes)?;
        if chunk_hash(&bytes) == chunk.hash { Ok(bytes) } else { Err(StoreError::Damaged(*content)) }
    }

    fn held(&self, content: &ContentId) -> Result<u64, StoreError> {
        self.index.size(content).ok_or(StoreError::NotHeld(*content))
    }
}

/// Whether an error says that the copy is bad, rather than that the machine is short of something.
pub(super) fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Damaged(_) | StoreError::NoSuchPart { .. } => true,
        StoreError::Disk { source, .. } => {
            matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
                || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
                || source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
        }
        _ => false,
    }
}
