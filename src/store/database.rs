//! The embedded database: its tables, what each change writes, what is read back.
//!
//! | table | key | value |
//! |---|---|---|
//! | `names` | name | record of its versions |
//! | `prefixes` | instance | counter up to which all its dots were seen |
//! | `extra` | instance, counter | further dots seen |
//! | `contents` | content | [`ContentRecord`] |
//! | `asides` | content | [`AsideRecord`]: no copy, its bytes are kept a while in `aside/` |
//! | `inline` | content | its bytes, if at most [`INLINE_BYTES_MAX`](crate::limits::INLINE_BYTES_MAX) |
//! | `pages` | content, page number (u32 BE) | manifest page, if there is more than one chunk |
//! | `roots` | content | manifest root, if there is more than one page |
//! | `chunks` | chunk hash | a content that has it, offset (u64 LE), length (u32 LE) |
//! | `mail` | key of a [`MailRow`] | the row |
//! | `meta` | text | term, generation, blobs of others |
//!
//! A content that is one chunk has neither page nor chunk row: its id follows from the chunk, so
//! its row is found without. `chunks` is a hint: bytes read by it are hashed before they are used.

use super::backend::Backend;
use super::change::{Change, Tables};
use super::disk::{Disk, DiskFile, is_no_file};
use super::error::{StoreError, at, database};
use crate::clock::{self, Moment};
use crate::limits::{CATALOG_CHECK_BYTES_MAX, DATABASE_CACHE_BYTES};
use crate::transfer::manifest::{encode_chunk, page_hash};
use crate::types::{ChunkHash, ChunkRef, ContentId, Dot, FileName, InstanceId, Term, Version};
use crate::wire::mail::MailRow;
use crate::wire::message::Context;
use crate::wire::record::{AsideRecord, ContentRecord, decode_record};
use redb::backends::FileBackend;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

pub(super) const NAMES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("names");
pub(super) const PREFIXES: TableDefinition<u64, u64> = TableDefinition::new("prefixes");
pub(super) const EXTRA: TableDefinition<(u64, u64), ()> = TableDefinition::new("extra");
pub(super) const CONTENTS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("contents");
pub(super) const ASIDES: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("asides");
pub(super) const INLINE: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("inline");
pub(super) const PAGES: TableDefinition<&[u8; 36], &[u8]> = TableDefinition::new("pages");
pub(super) const ROOTS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("roots");
pub(super) const CHUNKS: TableDefinition<&[u8; 32], &[u8; 44]> = TableDefinition::new("chunks");
pub(super) const MAIL: TableDefinition<&[u8], &[u8]> = TableDefinition::new("mail");
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

pub(super) const TERM: &str = "term";
pub(super) const GENERATION: &str = "generation";
/// Present between a clean stop and the next start.
pub(super) const STOPPED: &str = "stopped";
pub(super) const BLOB: &str = "blob:";

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) content: ContentId,
    pub(super) offset: u64,
    pub(super) bytes: u32,
}

/// What is kept in memory of a content's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldRow {
    pub(super) content: ContentId,
    pub(super) size: u64,
    pub(super) stored_ms: u64,
    pub(super) verified_ms: u64,
}

/// All that the database says at the start.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) context: Context,
    pub(super) names: Vec<(FileName, Vec<Version>)>,
    /// Contents that are there, and their sizes.
    pub(super) held: Vec<HeldRow>,
    /// Contents that are not, and their sizes.
    pub(super) gone: Vec<(ContentId, u64)>,
    pub(super) term: Term,
    pub(super) mail: Vec<MailRow>,
}

/// The database. One operation that failed leaves it unusable, as the library has it; it is then
/// opened anew: by whoever reads next, and by the writer once there is room.
pub(super) struct Catalog {
    open: RwLock<Option<Open>>,
    disk: Disk,
    path: PathBuf,
    reopened: Mutex<Option<Moment>>,
}

struct Open {
    database: Database,
    read_only: bool,
}

/// Time between two tries to open a database that failed, for those who only read.
const REOPEN_INTERVAL_MS: u64 = 10_000;

impl Catalog {
    /// Makes a new database with all tables, under a draft name until it is complete.
    pub(super) fn create(disk: &Disk, path: &Path) -> Result<(), StoreError> {
        let draft = path.with_extension("new");
        disk.remove(&draft).map_err(at(&draft))?;
        let file = disk.create(&draft).map_err(at(&draft))?;
        let backend = backend(disk, file, false).map_err(database)?;
        let made = Builder::new()
            .set_cache_size(DATABASE_CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(database)?;
        let transaction = made.begin_write().map_err(database)?;
        Tables::open(&transaction)?;
        transaction.commit().map_err(database)?;
        drop(made);
        // What it wrote while it was closed went unsaid.
        disk.health().check()?;
        let file = disk.open_to_write(&draft).map_err(at(&draft))?;
        file.sync().map_err(at(&draft))?;
        disk.rename(&draft, path).map_err(at(path))?;
        let folder = path.parent().unwrap_or(path);
        disk.sync_folder(folder).map_err(at(folder))
    }

    /// Opens a database and checks it whole, unless it is very large. The library may panic over damaged pages, so that is caught here, where nothing has
    /// been read yet.
    pub(super) fn open(disk: &Disk, path: &Path) -> Result<Catalog, StoreError> {
        let bytes = disk.look(path).map_err(at(path))?.len();
        let open = open_database(disk, path, false, bytes <= CATALOG_CHECK_BYTES_MAX)?;
        Ok(Catalog {
            open: RwLock::new(Some(open)),
            disk: disk.clone(),
            path: path.into(),
            reopened: Mutex::default(),
        })
    }

    /// Does something with the database; if that failed at the disk, opens it anew and tries once
    /// more. Reads alone are tried again.
    fn reading<T>(&self, read: impl Fn(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let attempt = || {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            match &*open {
                Some(open) => read(&open.database),
                None => Err(StoreError::Suspect),
            }
        };
        match attempt() {
            Err(StoreError::Database { source }) if failed_at_the_disk(&source) => {}
            Err(StoreError::Suspect | StoreError::Full { .. }) => {}
            result => return result,
        }
        {
            let mut reopened = self.reopened.lock().unwrap_or_else(PoisonError::into_inner);
            let now = clock::now();
            if reopened.is_none_or(|at| now.since(at) >= REOPEN_INTERVAL_MS) {
                if let Err(error) = self.reopen() {
                    tracing::warn!(%error, "the catalog could not be opened anew for writing");
                }
                *reopened = Some(clock::now());
            }
        }
        attempt()
    }

    /// Opens the database anew from what is on disk: for reading alone once the disk is suspect, or
    /// while it has no room even for that, which is then the error.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // The old one first: what it still writes must not come after.
        *open = None;
        let read_only = self.disk.health().is_suspect();
        let fresh = open_database(&self.disk, &self.path, read_only, false);
        let (fresh, result) = match fresh {
            Err(error) if !read_only => (open_database(&self.disk, &self.path, true, false)?, Err(error)),
            fresh => (fresh?, Ok(())),
        };
        if fresh.read_only {
            tracing::warn!("the catalog goes on for reading alone");
        }
        *open = Some(fresh);
        result
    }

    fn damaged(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::CatalogDamaged { path: self.path.clone(), reason: format!("{what}: {error}").into() }
    }

    /// Reads everything that is kept in memory. `is_there` tells whether a content still is.
    pub(super) fn load(
        &self,
        is_there: impl Fn(&ContentId, &ContentRecord) -> Result<bool, StoreError>,
    ) -> Result<Rows, StoreError> {
        let rows = || self.reading(|database| self.load_rows(database, &is_there));
        match catch_unwind(AssertUnwindSafe(rows)) {
            Ok(Err(StoreError::Database { source })) if !failed_at_the_disk(&source) => {
                Err(self.damaged("reading", &source))
            }
            Ok(result) => result,
            Err(_) => Err(self.damaged("reading", &"its pages make no sense")),
        }
    }

    fn load_rows(
        &self,
        opened: &Database,
        is_there: impl Fn(&ContentId, &ContentRecord) -> Result<bool, StoreError>,
    ) -> Result<Rows, StoreError> {
        let read = opened.begin_read().map_err(database)?;
        let mut names = Vec::new();
        for row in read.open_table(NAMES).map_err(database)?.iter().map_err(database)? {
            let (name, versions) = row.map_err(database)?;
            let name = std::str::from_utf8(name.value()).map_err(|error| self.damaged("a name", &error))?;
            let name = FileName::parse(name).map_err(|error| self.damaged("a name", &error))?;
            let versions =
                decode_record(versions.value()).map_err(|error| self.damaged("an entry", &error))?;
            names.push((name, versions));
        }
        let (mut held, mut gone) = (Vec::new(), Vec::new());
        for row in read.open_table(CONTENTS).map_err(database)?.iter().map_err(database)? {
            let (content, record) = row.map_err(database)?;
            let content = ContentId(*content.value());
            let record: ContentRecord =
                decode_record(record.value()).map_err(|error| self.damaged("a content", &error))?;
            let ContentRecord { size, stored_ms, verified_ms, .. } = record;
            if is_there(&content, &record)? {
                held.push(HeldRow { content, size, stored_ms, verified_ms });
            } else {
                gone.push((content, size));
            }
        }
        let mut context = Context::default();
        for row in read.open_table(PREFIXES).map_err(database)?.iter().map_err(database)? {
            let (instance, counter) = row.map_err(database)?;
            context.prefixes.push((InstanceId(instance.value()), counter.value()));
        }
        for row in read.open_table(EXTRA).map_err(database)?.iter().map_err(database)? {
            let (instance, counter) = row.map_err(database)?.0.value();
            context.extra.push(Dot { counter, instance: InstanceId(instance) });
        }
        context.extra.sort_unstable();
        let term = match read.open_table(META).map_err(database)?.get(TERM).map_err(database)? {
            Some(term) => decode_record(term.value()).map_err(|error| self.damaged("the term", &error))?,
            None => Term::default(),
        };
        let mail = self.load_mail(&read)?;
        Ok(Rows { context, names, held, gone, term, mail })
    }

    /// The rows of the table of letters; none in a folder that is older than letters.
    fn load_mail(&self, read: &ReadTransaction) -> Result<Vec<MailRow>, StoreError> {
        let table = match read.open_table(MAIL) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(database(error)),
        };
        let mut mail = Vec::new();
        for row in table.iter().map_err(database)? {
            let row = row.map_err(database)?.1;
            mail.push(decode_record(row.value()).map_err(|error| self.damaged("a message", &error))?);
        }
        Ok(mail)
    }

    /// How often the store was opened; 0 if the folder was made and never used.
    pub(super) fn generation(&self) -> Result<u64, StoreError> {
        let bytes = self.meta(GENERATION)?;
        let Some(bytes) = bytes else { return Ok(0) };
        match bytes.try_into() {
            Ok(bytes) => Ok(u64::from_le_bytes(bytes)),
            Err(bytes) => Err(self.damaged("the generation", &format!("{bytes:?}"))),
        }
    }

    /// Counts the generation up and forgets contents whose files are gone, durably. Also says whether
    /// the one before ended on purpose.
    pub(super) fn begin_generation(&self, gone: &[ContentId]) -> Result<(u64, bool), StoreError> {
        let generation = self.generation()?.saturating_add(1);
        let mut stopped = false;
        self.write(|tables| {
            stopped = generation == 1 || tables.meta.remove(STOPPED).map_err(database)?.is_some();
            gone.iter().try_for_each(|content| tables.remove(content))?;
            tables.meta.insert(GENERATION, generation.to_le_bytes().as_slice()).map_err(database)?;
            Ok(())
        })?;
        Ok((generation, stopped))
    }

    /// Applies changes in one transaction; once it returns they are durable.
    pub(super) fn apply<'a>(&self, mut changes: impl Iterator<Item = &'a Change>) -> Result<(), StoreError> {
        self.write(|tables| changes.try_for_each(|change| tables.apply(change)))
    }

    fn write(&self, work: impl FnOnce(&mut Tables<'_>) -> Result<(), StoreError>) -> Result<(), StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let open = open.as_ref().filter(|open| !open.read_only).ok_or(StoreError::Suspect)?;
        let transaction = open.database.begin_write().map_err(database)?;
        work(&mut Tables::open(&transaction)?)?;
        transaction.commit().map_err(database)
    }

    /// The row of a content.
    pub(super) fn record(&self, content: &ContentId) -> Result<Option<ContentRecord>, StoreError> {
        let Some(record) = self.row(CONTENTS, &content.0)? else { return Ok(None) };
        decode_record(&record).map(Some).map_err(|error| self.damaged("a content", &error))
    }

    /// All contents that are kept aside.
    pub(super) fn asides(&self) -> Result<Vec<(ContentId, AsideRecord)>, StoreError> {
        self.reading(|opened| {
            let read = opened.begin_read().map_err(database)?;
            let mut asides = Vec::new();
            for row in read.open_table(ASIDES).map_err(database)?.iter().map_err(database)? {
                let (content, record) = row.map_err(database)?;
                let record =
                    decode_record(record.value()).map_err(|error| self.damaged("an aside", &error))?;
                asides.push((ContentId(*content.value()), record));
            }
            Ok(asides)
        })
    }

    /// The row of a content that is held or kept aside.
    fn any_record(&self, content: &ContentId) -> Result<Option<ContentRecord>, StoreError> {
        if let Some(record) = self.record(content)? {
            return Ok(Some(record));
        }
        let Some(row) = self.row(ASIDES, &content.0)? else { return Ok(None) };
        let aside = decode_record::<AsideRecord>(&row);
        aside.map(|aside| Some(aside.record)).map_err(|error| self.damaged("an aside", &error))
    }

    /// A page of a content's manifest; `None` if there is no such page.
    pub(super) fn page(&self, content: &ContentId, number: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(record) = self.any_record(content)? else { return Ok(None) };
        if let Some(page) = single_page(&record) {
            return Ok((number == 0).then_some(page));
        }
        self.row(PAGES, &page_key(content, number))
    }

    /// The root of a content's manifest.
    pub(super) fn root(&self, content: &ContentId) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(record) = self.any_record(content)? else { return Ok(None) };
        if record.chunks == 0 {
            return Ok(Some(Vec::new()));
        }
        if let Some(root) = self.row(ROOTS, &content.0)? {
            return Ok(Some(root));
        }
        Ok(self.page(content, 0)?.map(|page| page_hash(&page).to_vec()))
    }

    /// Bytes of a content that is kept in the database; `None` if it is not, or has no such part.
    pub(super) fn inline(
        &self,
        content: &ContentId,
        part: Range<usize>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.reading(|opened| {
            let read = opened.begin_read().map_err(database)?;
            let table = read.open_table(INLINE).map_err(database)?;
            let bytes = table.get(&content.0).map_err(database)?;
            Ok(bytes.and_then(|bytes| bytes.value().get(part.clone()).map(<[u8]>::to_vec)))
        })
    }

    /// All bytes of a content that is kept in the database.
    pub(super) fn all_inline(&self, content: &ContentId) -> Result<Option<Vec<u8>>, StoreError> {
        self.row(INLINE, &content.0)
    }

    /// Where a chunk lies, if that is known.
    pub(super) fn chunk(&self, hash: &ChunkHash) -> Result<Option<Location>, StoreError> {
        self.reading(|opened| {
            let read = opened.begin_read().map_err(database)?;
            let table = read.open_table(CHUNKS).map_err(database)?;
            Ok(table.get(&hash.0).map_err(database)?.map(|row| Location::decode(row.value())))
        })
    }

    /// A blob kept for others.
    pub(super) fn blob(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.meta(&format!("{BLOB}{key}"))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.reading(|opened| {
            let read = opened.begin_read().map_err(database)?;
            let table = read.open_table(META).map_err(database)?;
            Ok(table.get(key).map_err(database)?.map(|value| value.value().to_vec()))
        })
    }

    fn row<const BYTES: usize>(
        &self,
        table: TableDefinition<&'static [u8; BYTES], &'static [u8]>,
        key: &[u8; BYTES],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.reading(|opened| {
            let read = opened.begin_read().map_err(database)?;
            let table = read.open_table(table).map_err(database)?;
            Ok(table.get(key).map_err(database)?.map(|value| value.value().to_vec()))
        })
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("path", &self.path).finish_non_exhaustive()
    }
}

fn backend(disk: &Disk, file: DiskFile, read_only: bool) -> Result<Backend, redb::DatabaseError> {
    let path = file.path().to_path_buf();
    let file = FileBackend::new(file.into_file())?;
    Ok(Backend::new(file, &path, disk.health(), read_only)?)
}

/// Opens the file at `path`; for reading alone without changing it.
fn open_database(disk: &Disk, path: &Path, read_only: bool, check: bool) -> Result<Open, StoreError> {
    let damaged = |reason: &str| StoreError::CatalogDamaged { path: path.into(), reason: reason.into() };
    let file = if read_only { disk.open_to_read(path) } else { disk.open_to_write(path) };
    let file = file.map_err(|error| {
        if is_no_file(&error) { damaged("it is no plain file") } else { StoreError::disk(path, error) }
    })?;
    // What a failed sync left behind in memory is not what is on the disk.
    file.forget_cached(0, 0);
    if file.len().map_err(at(path))? == 0 {
        return Err(damaged("it is empty"));
    }
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let backend = backend(disk, file, read_only)?;
        let mut database =
            Builder::new().set_cache_size(DATABASE_CACHE_BYTES).create_with_backend(backend)?;
        let whole = !check || database.check_integrity()?;
        Ok::<_, redb::DatabaseError>((database, whole))
    }));
    match opened {
        Ok(Ok((database, true))) => Ok(Open { database, read_only }),
        Ok(Ok((_, false))) => Err(damaged("a page does not have its checksum")),
        Ok(Err(redb::DatabaseError::DatabaseAlreadyOpen)) => {
            Err(StoreError::Locked { folder: path.parent().unwrap_or(path).into() })
        }
        Ok(Err(error)) => match redb::Error::from(error) {
            redb::Error::Io(error) if error.raw_os_error().is_some() => Err(StoreError::disk(path, error)),
            error if failed_at_the_disk(&error) => Err(StoreError::Suspect),
            error => Err(damaged(&error.to_string())),
        },
        Err(_) => Err(damaged("its pages make no sense")),
    }
}

/// Whether the database stopped because a call of its file failed.
fn failed_at_the_disk(error: &redb::Error) -> bool {
    match error {
        // What the library itself complains of has no number of the system.
        redb::Error::Io(error) => error.raw_os_error().is_some(),
        error => matches!(error, redb::Error::PreviousIo),
    }
}

impl Location {
    pub(super) fn encode(self) -> [u8; 44] {
        let mut row = [0; 44];
        row[..32].copy_from_slice(&self.content.0);
        row[32..40].copy_from_slice(&self.offset.to_le_bytes());
        row[40..].copy_from_slice(&self.bytes.to_le_bytes());
        row
    }

    pub(super) fn decode(row: &[u8; 44]) -> Location {
        let (mut content, mut offset, mut bytes) = ([0; 32], [0; 8], [0; 4]);
        content.copy_from_slice(&row[..32]);
        offset.copy_from_slice(&row[32..40]);
        bytes.copy_from_slice(&row[40..]);
        Location {
            content: ContentId(content),
            offset: u64::from_le_bytes(offset),
            bytes: u32::from_le_bytes(bytes),
        }
    }
}

/// The page of a content that is one chunk.
fn single_page(record: &ContentRecord) -> Option<Vec<u8>> {
    let bytes = u32::try_from(record.size).ok()?;
    record.single.map(|hash| encode_chunk(ChunkRef { hash, bytes }).to_vec())
}

pub(super) fn page_key(content: &ContentId, number: u32) -> [u8; 36] {
    let mut key = [0; 36];
    key[..32].copy_from_slice(&content.0);
    key[32..].copy_from_slice(&number.to_be_bytes());
    key
}
