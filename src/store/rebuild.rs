//! Starting again after the database was damaged: it is put aside, a new one is made, and the
//! contents whose files are there are taken in again, each hashed from its first byte to its last.
//!
//! Invariant: nothing is removed, and nothing is held that was not hashed. From before the first
//! change until after the last a mark lies in the folder, so that one that was interrupted is never
//! taken for an empty store. What was in the database
//! alone (the catalog, small contents) comes from the peers; the folder gets a new disk id, so that
//! nobody counts on what it reported before.

use super::change::{Change, NewContent, Pages};
use super::database::Catalog;
use super::disk::Disk;
use super::error::{StoreError, at};
use super::folder::Folder;
use super::health::Health;
use super::{Store, open};
use crate::clock;
use crate::limits::{CHUNK_BYTES_MAX, INLINE_BYTES_MAX};
use crate::transfer::chunking::Chunker;
use crate::transfer::manifest::{ManifestBuilder, chunk_at, chunk_hash};
use crate::types::{ChunkRef, ContentId};
use crate::wire::record::ContentRecord;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// Where the damaged database is now; `None` if there was none.
    pub aside: Option<PathBuf>,
    /// Contents that were taken in again.
    pub adopted: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files under `contents/` that are not what their names say; they are in quarantine.
    pub damaged: u64,
}

/// Puts the database of `root` aside and takes in what lies under `contents/`.
pub(super) fn rebuild(root: &Path) -> Result<Rebuilt, StoreError> {
    let disk = Disk::new(Arc::new(Health::of(root)));
    let aside = {
        let folder = Folder::lock(&disk, root)?;
        let mark = folder.rebuild_mark();
        disk.write_whole(&mark, b"").map_err(at(&mark))?;
        let path = folder.catalog();
        let aside = match disk.look(&path) {
            Ok(_) => Some(folder.quarantine_catalog()?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::disk(&path, error)),
        };
        folder.make()?;
        Catalog::create(&disk, &path)?;
        folder.draw_disk()?;
        aside
    };
    let store = open::open(root, None, true)?.0;
    let mut rebuilt = Rebuilt { aside, adopted: 0, bytes: 0, damaged: 0 };
    for (content, path) in files(&store)? {
        match adopt(&store, &content, &path) {
            Ok(size) => {
                rebuilt.adopted += 1;
                rebuilt.bytes += size;
            }
            Err(error @ (StoreError::Suspect | StoreError::Database { .. } | StoreError::Full { .. })) => {
                return Err(error);
            }
            Err(error) => {
                tracing::warn!(%content, %error, "a file is not what its name says; it is put aside");
                store.inner.shared.folder.quarantine(&content)?;
                rebuilt.damaged += 1;
            }
        }
    }
    let (disk, mark) = (&store.inner.shared.disk, store.inner.shared.folder.rebuild_mark());
    disk.remove(&mark).map_err(at(&mark))?;
    disk.sync_folder(root).map_err(at(root))?;
    Ok(rebuilt)
}

/// All files that are named like contents.
fn files(store: &Store) -> Result<Vec<(ContentId, PathBuf)>, StoreError> {
    let (disk, contents) = (&store.inner.shared.disk, store.inner.shared.folder.contents());
    let mut found = Vec::new();
    for prefix in disk.list(&contents).map_err(at(&contents))? {
        let below = contents.join(&prefix);
        for name in disk.list(&below).unwrap_or_default() {
            if let Some(content) = ContentId::parse(&format!("{}{}", prefix.display(), name.display())) {
                found.push((content, below.join(name)));
            }
        }
    }
    Ok(found)
}

/// Hashes a file, cut anew as it was when it was put, and takes it in where it lies if it is
/// `content`. Gives its size.
fn adopt(store: &Store, content: &ContentId, path: &Path) -> Result<u64, StoreError> {
    let shared = &store.inner.shared;
    let file = shared.disk.open_to_write(path).map_err(at(path))?;
    let size = file.len().map_err(at(path))?;
    let (mut chunker, mut builder, mut pages) = (Chunker::new(), ManifestBuilder::new(), Pages::default());
    let (mut buffer, mut read) = (Vec::new(), 0_u64);
    while !buffer.is_empty() || read < size {
        let more = (size - read).min(CHUNK_BYTES_MAX as u64);
        let start = buffer.len();
        buffer.resize(start + usize::try_from(more).unwrap_or(0), 0);
        file.read_at(&mut buffer[start..], read).map_err(at(path))?;
        read += more;
        while let Some(length) = chunker.cut(&buffer, read == size) {
            let bytes = u32::try_from(length).unwrap_or(u32::MAX);
            pages.first.extend(builder.push(ChunkRef { hash: chunk_hash(&buffer[..length]), bytes }));
            buffer.drain(..length);
        }
    }
    pages.last = builder.open_page().to_vec();
    let single = chunk_at(builder.open_page(), 0);
    let manifest = builder.finish();
    if manifest.content != *content || size <= INLINE_BYTES_MAX {
        return Err(StoreError::Damaged(*content));
    }
    // Whether what left it here had synced it is not known.
    let folder = path.parent().unwrap_or(path);
    file.sync().map_err(at(path))?;
    shared.disk.sync_folder(folder).map_err(at(folder))?;
    let now = clock::wall().0;
    let record = ContentRecord {
        size,
        inline: false,
        chunks: manifest.chunks,
        single: single.filter(|_| manifest.chunks == 1).map(|chunk| chunk.hash),
        stored_ms: now,
        verified_ms: now,
    };
    let new = NewContent { content: *content, record, inline: None, root: manifest.root, pages };
    store.inner.writer.write(Change::Content(Box::new(new)))?;
    shared.index.insert(*content, size, now);
    Ok(size)
}
