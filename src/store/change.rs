//! What is written to the database: one [`Change`] at a time, many in a transaction.

use super::database::{
    ASIDES, BLOB, CHUNKS, CONTENTS, EXTRA, INLINE, Location, MAIL, META, NAMES, PAGES, PREFIXES, ROOTS,
    STOPPED, TERM, page_key,
};
use super::disk::DiskFile;
use super::error::{StoreError, at, database};
use crate::limits::{FRAME_HEAD_BYTES_MAX, MANIFEST_PAGE_CHUNKS};
use crate::transfer::manifest::{PAGE_BYTES, decode_chunks};
use crate::types::{ContentId, Term};
use crate::wire::mail::MailWrite;
use crate::wire::record::{AsideRecord, CatalogWrite, ContentRecord, decode_record, encode_record};
use crate::wire::{DecodeError, encode};
use redb::{ReadableTable, Table, WriteTransaction};
use std::collections::BTreeSet;
use std::path::Path;

/// One change, applied whole or not at all.
#[derive(Debug)]
pub(super) enum Change {
    Catalog(Vec<CatalogWrite>),
    Term(Term),
    Content(Box<NewContent>),
    Remove(ContentId),
    /// Hashed whole, when.
    Verified(Vec<(ContentId, u64)>),
    /// Is no copy from now on; its bytes are kept a while.
    Aside(ContentId, u64),
    /// What was aside is a copy again, verified at that time.
    Readopt(ContentId, u64),
    /// Their bytes are gone.
    ForgetAsides(Vec<ContentId>),
    Blob(Box<str>, Vec<u8>),
    /// The last change of a run that ends on purpose.
    Stopped,
}

/// A content whose bytes are complete, and durable if they are in a file.
#[derive(Debug)]
pub(super) struct NewContent {
    pub(super) content: ContentId,
    pub(super) record: ContentRecord,
    pub(super) inline: Option<Vec<u8>>,
    pub(super) root: Vec<u8>,
    pub(super) pages: Pages,
}

/// The pages of a manifest: the first in memory, the full ones after them in a file, the last.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) first: Vec<Vec<u8>>,
    pub(super) spilled: Option<DiskFile>,
    pub(super) spilled_pages: u32,
    pub(super) last: Vec<u8>,
}

impl Pages {
    /// A full page.
    pub(super) fn full(&self, number: u32) -> std::io::Result<Option<Vec<u8>>> {
        let number = number as usize;
        if let Some(page) = self.first.get(number) {
            return Ok(Some(page.clone()));
        }
        let at = number - self.first.len();
        match &self.spilled {
            Some(file) if at < self.spilled_pages as usize => {
                let mut page = vec![0; PAGE_BYTES];
                file.read_at(&mut page, (at * PAGE_BYTES) as u64)?;
                Ok(Some(page))
            }
            _ => Ok(None),
        }
    }

    /// How many full pages there are.
    pub(super) fn full_pages(&self) -> u32 {
        u32::try_from(self.first.len()).unwrap_or(u32::MAX).saturating_add(self.spilled_pages)
    }
}

/// All tables, open for writing.
pub(super) struct Tables<'t> {
    names: Table<'t, &'static [u8], &'static [u8]>,
    prefixes: Table<'t, u64, u64>,
    extra: Table<'t, (u64, u64), ()>,
    contents: Table<'t, &'static [u8; 32], &'static [u8]>,
    asides: Table<'t, &'static [u8; 32], &'static [u8]>,
    inline: Table<'t, &'static [u8; 32], &'static [u8]>,
    pages: Table<'t, &'static [u8; 36], &'static [u8]>,
    roots: Table<'t, &'static [u8; 32], &'static [u8]>,
    chunks: Table<'t, &'static [u8; 32], &'static [u8; 44]>,
    mail: Table<'t, &'static [u8], &'static [u8]>,
    pub(super) meta: Table<'t, &'static str, &'static [u8]>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Tables<'t>, StoreError> {
        Ok(Tables {
            names: transaction.open_table(NAMES).map_err(database)?,
            prefixes: transaction.open_table(PREFIXES).map_err(database)?,
            extra: transaction.open_table(EXTRA).map_err(database)?,
            contents: transaction.open_table(CONTENTS).map_err(database)?,
            asides: transaction.open_table(ASIDES).map_err(database)?,
            inline: transaction.open_table(INLINE).map_err(database)?,
            pages: transaction.open_table(PAGES).map_err(database)?,
            roots: transaction.open_table(ROOTS).map_err(database)?,
            chunks: transaction.open_table(CHUNKS).map_err(database)?,
            mail: transaction.open_table(MAIL).map_err(database)?,
            meta: transaction.open_table(META).map_err(database)?,
        })
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        match change {
            Change::Catalog(writes) => writes.iter().try_for_each(|write| self.write(write)),
            Change::Term(term) => {
                self.meta.insert(TERM, encode_record(term).as_slice()).map_err(database)?;
                Ok(())
            }
            Change::Content(new) => self.insert(new),
            Change::Remove(content) => self.remove(content),
            Change::Verified(contents) => {
                contents.iter().try_for_each(|(content, wall_ms)| self.verified(content, *wall_ms))
            }
            Change::Aside(content, wall_ms) => self.put_aside(content, *wall_ms),
            Change::Readopt(content, wall_ms) => self.readopt(content, *wall_ms),
            Change::ForgetAsides(contents) => {
                contents.iter().try_for_each(|content| self.forget_aside(content))
            }
            Change::Stopped => {
                self.meta.insert(STOPPED, [].as_slice()).map_err(database)?;
                Ok(())
            }
            Change::Blob(key, bytes) => {
                self.meta.insert(format!("{BLOB}{key}").as_str(), bytes.as_slice()).map_err(database)?;
                Ok(())
            }
        }
    }

    fn write(&mut self, write: &CatalogWrite) -> Result<(), StoreError> {
        match write {
            CatalogWrite::Name { name, versions } if versions.is_empty() => {
                self.names.remove(name.as_str().as_bytes()).map_err(database)?;
            }
            CatalogWrite::Name { name, versions } => {
                let record = encode_record(versions);
                self.names.insert(name.as_str().as_bytes(), record.as_slice()).map_err(database)?;
            }
            CatalogWrite::Prefix { instance, counter } => {
                self.prefixes.insert(instance.0, counter).map_err(database)?;
            }
            CatalogWrite::Extra { dots } => {
                let wanted: BTreeSet<(u64, u64)> =
                    dots.iter().map(|dot| (dot.instance.0, dot.counter)).collect();
                self.extra.retain(|dot, ()| wanted.contains(&dot)).map_err(database)?;
                for dot in &wanted {
                    self.extra.insert(dot, ()).map_err(database)?;
                }
            }
            CatalogWrite::Mail(MailWrite::Put(row)) => {
                let (key, record) = (encode(&row.key()), encode_record(row.as_ref()));
                self.mail.insert(key.as_slice(), record.as_slice()).map_err(database)?;
            }
            CatalogWrite::Mail(MailWrite::Remove(key)) => {
                self.mail.remove(encode(key).as_slice()).map_err(database)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, new: &NewContent) -> Result<(), StoreError> {
        let id = &new.content.0;
        self.asides.remove(id).map_err(database)?;
        self.contents.insert(id, encode_record(&new.record).as_slice()).map_err(database)?;
        if let Some(bytes) = &new.inline {
            self.inline.insert(id, bytes.as_slice()).map_err(database)?;
        }
        if new.record.chunks < 2 {
            return Ok(());
        }
        let (full, mut offset) = (new.pages.full_pages(), 0);
        for number in 0..full {
            let page = new.pages.full(number).map_err(at(Path::new("incoming")))?.unwrap_or_default();
            offset = self.insert_page(&new.content, number, &page, offset)?;
        }
        if !new.pages.last.is_empty() {
            self.insert_page(&new.content, full, &new.pages.last, offset)?;
        }
        if new.root.len() > 32 {
            self.roots.insert(id, new.root.as_slice()).map_err(database)?;
        }
        Ok(())
    }

    /// Writes a page and where its chunks lie; gives the offset after it.
    fn insert_page(
        &mut self,
        content: &ContentId,
        number: u32,
        page: &[u8],
        mut offset: u64,
    ) -> Result<u64, StoreError> {
        self.pages.insert(&page_key(content, number), page).map_err(database)?;
        for chunk in decode_chunks(page) {
            // The first content that has a chunk keeps its row: versions of one file then lead
            // to the oldest, which has been checked the longest.
            if self.chunks.get(&chunk.hash.0).map_err(database)?.is_none() {
                let row = Location { content: *content, offset, bytes: chunk.bytes }.encode();
                self.chunks.insert(&chunk.hash.0, &row).map_err(database)?;
            }
            offset = offset.saturating_add(u64::from(chunk.bytes));
        }
        Ok(offset)
    }

    pub(super) fn remove(&mut self, content: &ContentId) -> Result<(), StoreError> {
        let Some(chunks) = self.content(content)?.map(|record| record.chunks) else { return Ok(()) };
        self.contents.remove(&content.0).map_err(database)?;
        self.remove_parts(content, chunks)
    }

    /// Removes all rows that belong to a content but its own.
    fn remove_parts(&mut self, content: &ContentId, chunks: u32) -> Result<(), StoreError> {
        self.inline.remove(&content.0).map_err(database)?;
        self.roots.remove(&content.0).map_err(database)?;
        if chunks < 2 {
            return Ok(());
        }
        for number in 0..chunks.div_ceil(MANIFEST_PAGE_CHUNKS as u32) {
            let Some(page) = self.pages.remove(&page_key(content, number)).map_err(database)? else {
                continue;
            };
            for chunk in decode_chunks(page.value()) {
                let row = self.chunks.get(&chunk.hash.0).map_err(database)?;
                let ours = row.is_some_and(|row| Location::decode(row.value()).content == *content);
                if ours {
                    self.chunks.remove(&chunk.hash.0).map_err(database)?;
                }
            }
        }
        Ok(())
    }

    fn verified(&mut self, content: &ContentId, wall_ms: u64) -> Result<(), StoreError> {
        if let Some(mut record) = self.content(content)? {
            record.verified_ms = wall_ms;
            self.contents.insert(&content.0, encode_record(&record).as_slice()).map_err(database)?;
        }
        Ok(())
    }

    fn put_aside(&mut self, content: &ContentId, since_ms: u64) -> Result<(), StoreError> {
        let Some(record) = self.content(content)? else { return Ok(()) };
        self.contents.remove(&content.0).map_err(database)?;
        let row = encode_record(&AsideRecord { record, since_ms });
        self.asides.insert(&content.0, row.as_slice()).map_err(database)?;
        Ok(())
    }

    fn readopt(&mut self, content: &ContentId, wall_ms: u64) -> Result<(), StoreError> {
        let Some(mut record) = self.aside(content)? else { return Ok(()) };
        self.asides.remove(&content.0).map_err(database)?;
        (record.stored_ms, record.verified_ms) = (wall_ms, wall_ms);
        self.contents.insert(&content.0, encode_record(&record).as_slice()).map_err(database)?;
        Ok(())
    }

    /// A content that came back meanwhile has no row aside, and keeps all its rows.
    pub(super) fn forget_aside(&mut self, content: &ContentId) -> Result<(), StoreError> {
        let Some(record) = self.aside(content)? else { return Ok(()) };
        self.asides.remove(&content.0).map_err(database)?;
        self.remove_parts(content, record.chunks)
    }

    fn content(&self, content: &ContentId) -> Result<Option<ContentRecord>, StoreError> {
        let row = self.contents.get(&content.0).map_err(database)?;
        row.map(|record| decode_record(record.value())).transpose().map_err(damaged)
    }

    fn aside(&self, content: &ContentId) -> Result<Option<ContentRecord>, StoreError> {
        let row = self.asides.get(&content.0).map_err(database)?;
        let aside = row.map(|row| decode_record::<AsideRecord>(row.value())).transpose();
        aside.map(|aside| aside.map(|aside| aside.record)).map_err(damaged)
    }
}

fn damaged(error: DecodeError) -> StoreError {
    StoreError::CatalogDamaged { path: "catalog.redb".into(), reason: error.to_string().into() }
}

/// Whether the writes can be read back: a value over the codec's limit leaves its version byte alone.
pub(super) fn check_writes(writes: &[CatalogWrite]) -> Result<(), StoreError> {
    let readable = writes.iter().all(|write| match write {
        CatalogWrite::Name { versions, .. } => {
            let bytes = encode_record(versions).len();
            bytes > 1 && bytes <= FRAME_HEAD_BYTES_MAX
        }
        // Each has its bounds where it comes in.
        CatalogWrite::Prefix { .. } | CatalogWrite::Extra { .. } | CatalogWrite::Mail(_) => true,
    });
    if readable { Ok(()) } else { Err(StoreError::RecordTooLarge) }
}
