//! Opening a data folder: refuse what is not right, load the database, compare it with the files.

use super::database::{Catalog, HeldRow};
use super::disk::{Disk, modified_ms};
use super::error::{StoreError, at};
use super::folder::Folder;
use super::health::Health;
use super::index::Index;
use super::part_file::WriteBack;
use super::partials::Partials;
use super::reading::Readers;
use super::removed::Removed;
use super::reserve::Reserve;
use super::writer::Writer;
use super::{Inner, Loaded, Shared, Store, space};
use crate::clock;
use crate::limits::{DOUBTFUL_MS, INLINE_BYTES_MAX, ORPHAN_GRACE_MS};
use crate::types::{ContentId, DiskId};
use crate::wire::record::ContentRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

/// `rebuilding`: contents without a row are what is looked for, not leftovers.
pub(super) fn open(
    root: &Path,
    capacity: Option<u64>,
    rebuilding: bool,
) -> Result<(Store, Loaded), StoreError> {
    let disk = Disk::new(Arc::new(Health::of(root)));
    let folder = Folder::lock(&disk, root)?;
    if !rebuilding && exists(&disk, &folder.rebuild_mark())? {
        return Err(StoreError::HalfRebuilt { folder: root.into() });
    }
    let reserve = Reserve::new(&disk, root);
    let (catalog, disk_id) = or_with_reserve(&reserve, || open_catalog(&disk, &folder))?;
    let rows = catalog.load(|content, record| is_there(&disk, &folder, content, record))?;
    for (content, size) in &rows.gone {
        tracing::warn!(%content, size, "the file is missing or cut short; it is no copy");
    }
    let gone: Vec<ContentId> = rows.gone.into_iter().map(|(content, _)| content).collect();
    let (catalog, (generation, stopped)) = begin(&disk, &folder, &reserve, catalog, &gone)?;
    for content in &gone {
        folder.quarantine(content)?;
    }
    let index = Index::default();
    for row in &rows.held {
        index.insert(row.content, row.size, row.verified_ms);
    }
    let doubtful = if stopped { Vec::new() } else { written_last(&rows.held) };
    folder.make_asides()?;
    let (partials, partial_bytes) = load_partials(&disk, &folder)?;

    let (catalog, reserve) = (Arc::new(catalog), Arc::new(reserve));
    let health = Arc::clone(disk.health());
    let writer =
        Writer::start(Arc::clone(&catalog), Arc::clone(&reserve), Arc::clone(&health)).map_err(at(root))?;
    let write_back = WriteBack::start().map_err(at(root))?;
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
        quarantine_looked_ms: AtomicU64::new(clock::wall().0),
        disk_id,
        reserve,
        folder,
        disk,
    };
    shared.load_asides(shared.catalog.asides()?)?;
    if !rebuilding {
        put_strays_aside(&shared.disk, &shared.folder, &shared.index)?;
    }
    space::look(&shared);
    shared.health.check()?;
    shared.expire_quarantine(clock::wall().0);
    let store = Store { inner: Arc::new(Inner { writer, write_back, shared }) };
    let loaded = Loaded {
        context: rows.context,
        names: rows.names,
        contents: rows.held.into_iter().map(|row| (row.content, row.size)).collect(),
        term: rows.term,
        mail: rows.mail,
        doubtful,
        generation,
    };
    Ok((store, loaded))
}

/// Does `work`, and if there is no room for it once more with that of the reserve.
fn or_with_reserve<T>(
    reserve: &Reserve,
    mut work: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match work() {
        Err(StoreError::Full { .. }) => {
            reserve.release();
            work()
        }
        result => result,
    }
}

/// Begins a generation. A database that found no room has to be opened anew.
fn begin(
    disk: &Disk,
    folder: &Folder,
    reserve: &Reserve,
    catalog: Catalog,
    gone: &[ContentId],
) -> Result<(Catalog, (u64, bool)), StoreError> {
    match catalog.begin_generation(gone) {
        Ok(begun) => Ok((catalog, begun)),
        Err(StoreError::Full { .. }) => {
            reserve.release();
            drop(catalog);
            let catalog = Catalog::open(disk, &folder.catalog())?;
            let begun = catalog.begin_generation(gone)?;
            Ok((catalog, begun))
        }
        Err(error) => Err(error),
    }
}

/// Whether something lies at `path`.
fn exists(disk: &Disk, path: &Path) -> Result<bool, StoreError> {
    match disk.look(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(error) => Err(StoreError::disk(path, error)),
    }
}

/// What was written in the minutes before the last write, of a run that ended unexpectedly.
pub(super) fn written_last(held: &[HeldRow]) -> Vec<ContentId> {
    let last = held.iter().map(|row| row.stored_ms).max().unwrap_or(0);
    held.iter().filter(|row| last - row.stored_ms <= DOUBTFUL_MS).map(|row| row.content).collect()
}

/// Opens the database, and makes it in a folder that was never in use.
fn open_catalog(disk: &Disk, folder: &Folder) -> Result<(Catalog, DiskId), StoreError> {
    let path = folder.catalog();
    if let Some(disk_id) = folder.disk()? {
        for missing in [path.clone(), folder.contents(), folder.incoming()] {
            if !exists(disk, &missing)? {
                return Err(StoreError::Missing { missing });
            }
        }
        return Ok((Catalog::open(disk, &path)?, disk_id));
    }
    if exists(disk, &path)? {
        // Only a first start that was interrupted just before its last step looks like this.
        let catalog = Catalog::open(disk, &path)?;
        if catalog.generation()? > 0 {
            return Err(StoreError::DiskId { path: folder.root().join("disk") });
        }
        folder.make()?;
        return Ok((catalog, folder.draw_disk()?));
    }
    if exists(disk, &folder.contents())? {
        let contents = folder.contents();
        if !disk.list(&contents).map_err(at(&contents))?.is_empty() {
            return Err(StoreError::Missing { missing: path });
        }
    }
    folder.make()?;
    Catalog::create(disk, &path)?;
    let catalog = Catalog::open(disk, &path)?;
    Ok((catalog, folder.draw_disk()?))
}

/// Whether the file of a content is there in its full length. A disk that does not answer is not
/// one that lacks it.
fn is_there(
    disk: &Disk,
    folder: &Folder,
    content: &ContentId,
    record: &ContentRecord,
) -> Result<bool, StoreError> {
    if record.inline {
        return Ok(true);
    }
    let path = folder.content(content);
    match disk.look(&path) {
        Ok(file) => Ok(file.is_file() && file.len() == record.size),
        Err(error) => {
            let error = StoreError::disk(&path, error);
            if error.is_damage() { Ok(false) } else { Err(error) }
        }
    }
}

/// Puts old content files aside that no row names; younger ones may belong to a put under way
/// elsewhere. A catalog of long ago, put back over newer contents, makes the same picture: so they
/// are kept for some days. Files that do not look like ours are left alone.
fn put_strays_aside(disk: &Disk, folder: &Folder, index: &Index) -> Result<(), StoreError> {
    let now = clock::wall().0;
    let contents = folder.contents();
    for prefix in disk.list(&contents).map_err(at(&contents))? {
        let below = contents.join(&prefix);
        let Ok(files) = disk.list(&below) else { continue };
        for file in files {
            let path = below.join(&file);
            let name = format!("{}{}", prefix.display(), file.display());
            let Some(content) = ContentId::parse(&name) else { continue };
            let Ok(metadata) = disk.look(&path) else { continue };
            let old = now.saturating_sub(modified_ms(&metadata)) > ORPHAN_GRACE_MS;
            let kept_inside = index.size(&content).is_some_and(|size| size <= INLINE_BYTES_MAX);
            if (index.size(&content).is_none() || kept_inside) && metadata.is_file() && old {
                tracing::warn!(%content, "a file that no row names is put into quarantine");
                folder.quarantine(&content)?;
            }
        }
    }
    Ok(())
}

/// Registers broken-off contents and removes what cannot be continued.
fn load_partials(disk: &Disk, folder: &Folder) -> Result<(Partials, u64), StoreError> {
    let incoming = folder.incoming();
    let mut found: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for name in disk.list(&incoming).map_err(at(&incoming))? {
        let name = name.display().to_string();
        let Some((id, "part" | "journal")) = name.split_once('.') else { continue };
        if let (16, Ok(id)) = (id.len(), u64::from_str_radix(id, 16)) {
            found.entry(id).or_default().insert(name);
        }
    }
    let (mut partials, mut bytes) = (Partials::default(), 0);
    for (id, names) in found {
        if partials.add(disk, &incoming, id) {
            bytes += partials.bytes(id);
            continue;
        }
        for name in names {
            // A hint at most: what cannot be removed is in nobody's way.
            if let Err(error) = disk.remove(&incoming.join(name)) {
                tracing::warn!(%error, "left behind");
            }
        }
    }
    Ok((partials, bytes))
}
