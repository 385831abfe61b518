//! Opening a data folder: refuse what is not right, load the database, compare it with the files.

use super::database::{Catalog, HeldRow};
use super::error::{StoreError, at};
use super::folder::{Folder, remove_file};
use super::index::Index;
use super::part_file::WriteBack;
use super::partials::{Partials, modified_ms};
use super::reading::Readers;
use super::removed::Removed;
use super::writer::{Health, Writer};
use super::{Inner, Loaded, Shared, Store};
use crate::clock;
use crate::limits::{DOUBTFUL_MS, ORPHAN_GRACE_MS};
use crate::types::{ContentId, DiskId};
use crate::wire::record::ContentRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

pub(super) fn open(root: &Path, capacity: Option<u64>) -> Result<(Store, Loaded), StoreError> {
    let folder = Folder::lock(root)?;
    let (catalog, disk) = open_catalog(&folder)?;
    let rows = catalog.load(|content, record| is_there(&folder, content, record))?;
    for (content, size) in &rows.gone {
        tracing::warn!(%content, size, "the file is missing or cut short; it is no copy");
    }
    let gone: Vec<ContentId> = rows.gone.into_iter().map(|(content, _)| content).collect();
    let (generation, stopped) = catalog.begin_generation(&gone)?;
    for content in &gone {
        folder.quarantine(content)?;
    }
    let index = Index::default();
    for row in &rows.held {
        index.insert(row.content, row.size, row.verified_ms);
    }
    let doubtful = if stopped { Vec::new() } else { written_last(&rows.held) };
    folder.make_trash()?;
    let (partials, partial_bytes) = load_partials(&folder)?;

    let (catalog, health) = (Arc::new(catalog), Arc::new(Health::default()));
    let writer = Writer::start(Arc::clone(&catalog), Arc::clone(&health)).map_err(at(root))?;
    let write_back = WriteBack::start(Arc::clone(&health)).map_err(at(root))?;
    let shared = Shared {
        catalog,
        index: Arc::new(index),
        health,
        partials: Mutex::new(partials),
        asides: Mutex::default(),
        removed: Removed::default(),
        readers: Readers::default(),
        incoming_bytes: Arc::new(AtomicU64::new(partial_bytes)),
        capacity,
        disk,
        folder,
    };
    shared.load_asides(shared.catalog.asides()?)?;
    remove_strays(&shared.folder, &shared.index)?;
    let store = Store { inner: Arc::new(Inner { writer, write_back, shared }) };
    let loaded = Loaded {
        context: rows.context,
        names: rows.names,
        contents: rows.held.into_iter().map(|row| (row.content, row.size)).collect(),
        term: rows.term,
        doubtful,
        generation,
    };
    Ok((store, loaded))
}

/// What was written in the minutes before the last write, of a run that ended unexpectedly.
pub(super) fn written_last(held: &[HeldRow]) -> Vec<ContentId> {
    let last = held.iter().map(|row| row.stored_ms).max().unwrap_or(0);
    held.iter().filter(|row| last - row.stored_ms <= DOUBTFUL_MS).map(|row| row.content).collect()
}

/// Opens the database, and makes it in a folder that was never in use.
fn open_catalog(folder: &Folder) -> Result<(Catalog, DiskId), StoreError> {
    let path = folder.catalog();
    let has_catalog = fs::symlink_metadata(&path).is_ok();
    if let Some(disk) = folder.disk()? {
        for missing in [path.clone(), folder.contents(), folder.incoming()] {
            if fs::symlink_metadata(&missing).is_err() {
                return Err(StoreError::Missing { missing });
            }
        }
        return Ok((Catalog::open(&path)?, disk));
    }
    if has_catalog {
        // Only a first start that was interrupted just before its last step looks like this.
        let catalog = Catalog::open(&path)?;
        if catalog.generation()? > 0 {
            return Err(StoreError::DiskId { path: folder.root().join("disk") });
        }
        folder.make()?;
        return Ok((catalog, folder.draw_disk()?));
    }
    if fs::read_dir(folder.contents()).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(StoreError::Missing { missing: path });
    }
    folder.make()?;
    Catalog::create(&path)?;
    let catalog = Catalog::open(&path)?;
    Ok((catalog, folder.draw_disk()?))
}

fn is_there(folder: &Folder, content: &ContentId, record: &ContentRecord) -> bool {
    record.inline
        || fs::symlink_metadata(folder.content(content))
            .is_ok_and(|file| file.is_file() && file.len() == record.size)
}

/// Removes old content files that no row names; younger ones may belong to a put under way
/// elsewhere. Files that do not look like ours are left alone.
fn remove_strays(folder: &Folder, index: &Index) -> Result<(), StoreError> {
    let now = clock::wall().0;
    for prefix in fs::read_dir(folder.contents()).map_err(at(&folder.contents()))? {
        let prefix = prefix.map_err(at(&folder.contents()))?;
        let Ok(files) = fs::read_dir(prefix.path()) else { continue };
        for file in files {
            let file = file.map_err(at(&prefix.path()))?;
            let name = format!("{}{}", prefix.file_name().display(), file.file_name().display());
            let Some(content) = ContentId::parse(&name) else { continue };
            let Ok(metadata) = fs::symlink_metadata(file.path()) else { continue };
            let old = now.saturating_sub(modified_ms(&metadata)) > ORPHAN_GRACE_MS;
            let kept_inside =
                index.size(&content).is_some_and(|size| size <= crate::limits::INLINE_BYTES_MAX);
            if (index.size(&content).is_none() || kept_inside) && metadata.is_file() && old {
                tracing::info!(%content, "removing a file that no row names");
                remove_file(&file.path())?;
            }
        }
    }
    Ok(())
}

/// Registers broken-off contents and removes what cannot be continued.
fn load_partials(folder: &Folder) -> Result<(Partials, u64), StoreError> {
    let incoming = folder.incoming();
    let mut found: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(&incoming).map_err(at(&incoming))? {
        let name = entry.map_err(at(&incoming))?.file_name().display().to_string();
        let Some((id, "part" | "journal")) = name.split_once('.') else { continue };
        if let (16, Ok(id)) = (id.len(), u64::from_str_radix(id, 16)) {
            found.entry(id).or_default().insert(name);
        }
    }
    let (mut partials, mut bytes) = (Partials::default(), 0);
    for (id, names) in found {
        if partials.add(&incoming, id) {
            bytes += partials.bytes(id);
            continue;
        }
        for name in names {
            remove_file(&incoming.join(name))?;
        }
    }
    Ok((partials, bytes))
}
