//! Reading contents back, and checking that they are what they were.

use super::Shared;
use super::disk::{Disk, DiskFile};
use super::error::{StoreError, at};
use crate::limits::{CHUNK_BYTES_MAX, INLINE_BYTES_MAX, OPEN_CONTENTS_MAX};
use crate::transfer::manifest::{check_root, chunk_hash, parse_page};
use crate::types::{ChunkRef, ContentId};
use crate::wire::record::ContentRecord;
use bytes::Bytes;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Content files lately read, most recent last: a fetch reads one file a thousand times.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<VecDeque<(ContentId, Arc<DiskFile>)>>);

impl Readers {
    fn get(&self, disk: &Disk, content: &ContentId, path: &Path) -> Result<Arc<DiskFile>, StoreError> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| known == content)
            && let Some(entry) = open.remove(at)
        {
            let file = Arc::clone(&entry.1);
            open.push_back(entry);
            return Ok(file);
        }
        let file = Arc::new(disk.open_to_read(path).map_err(at(path))?);
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

impl Shared {
    pub(super) fn record(&self, content: &ContentId) -> Result<ContentRecord, StoreError> {
        self.held(content)?;
        self.catalog.record(content)?.ok_or(StoreError::NotHeld(*content))
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
        let file = self.readers.get(&self.disk, content, &path)?;
        let mut buffer = vec![0; bytes as usize];
        file.read_at(&mut buffer, offset).map_err(at(&path))?;
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

    /// Whether all bytes of a content, and its manifest, are what its id says.
    pub(super) fn is_whole(&self, content: &ContentId) -> Result<bool, StoreError> {
        let size = self.held(content)?;
        let Some(root) = self.catalog.root(content)? else { return Ok(false) };
        let Ok(hashes) = check_root(*content, size, &root) else { return Ok(false) };
        if size > INLINE_BYTES_MAX {
            // A file that was replaced or cut must not be read through a handle to the old one.
            self.readers.forget(content);
        }
        let mut offset = 0;
        for (number, hash) in (0_u32..).zip(&hashes) {
            let Some(page) = self.catalog.page(content, number)? else { return Ok(false) };
            let Ok(chunks) = parse_page(hash, &page) else { return Ok(false) };
            for chunk in chunks {
                match self.read_chunk(content, offset, chunk) {
                    Ok(_) => offset += u64::from(chunk.bytes),
                    Err(error) if error.is_damage() => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
        }
        let longer = size > INLINE_BYTES_MAX && {
            let path = self.folder.content(content);
            self.disk.look(&path).map_err(at(&path))?.len() != size
        };
        Ok(offset == size && !longer)
    }

    fn held(&self, content: &ContentId) -> Result<u64, StoreError> {
        self.index.size(content).ok_or(StoreError::NotHeld(*content))
    }
}
