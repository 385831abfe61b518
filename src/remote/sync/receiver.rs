//! The receiving side of the contents of a sync: answers offers, takes chunks, and keeps each
//! content in the staging of the workspace once it is whole.
//!
//! Invariants: a chunk that is anywhere in the workspace, or is already asked for, is not asked
//! for; bytes are taken only if they were asked for and have the hash that was offered; a content
//! is stored only if its id follows from its chunks.

use super::SyncFailure;
use crate::limits::{
    CHUNK_BYTES_MAX, OFFER_WINDOW_CHUNKS, PUT_OUTSTANDING_MAX, SYNC_CHUNKS_MAX, SYNC_PENDING_CHUNKS_MAX,
};
use crate::remote::hashing::Hashed;
use crate::remote::workspace::Workspace;
use crate::remote::workspace::staging::{Places, Staging};
use crate::transfer::manifest::{ManifestBuilder, chunk_hash};
use crate::types::{ChunkHash, ChunkRef, ContentId};
use crate::wire::transfer::{ContentEnd, TransferFrame};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// An offer that is not answered yet.
struct Offer {
    content_no: u32,
    first: u32,
    chunks: Vec<ChunkRef>,
    end: Option<ContentEnd>,
}

/// A chunk that has not come.
struct Missing {
    chunk: ChunkRef,
    offset: u64,
    /// Another chunk of this content, with the same bytes, was asked for in its place.
    repeated: bool,
}

/// A content that is coming.
struct Incoming {
    name: String,
    /// Made with the first byte: most contents are one chunk that has yet to come.
    file: Option<File>,
    source: u32,
    manifest: ManifestBuilder,
    chunks: Vec<ChunkRef>,
    missing: BTreeMap<u32, Missing>,
    end: Option<ContentEnd>,
}

impl Incoming {
    fn file(&mut self, staging: &Staging) -> io::Result<&File> {
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(staging.create(&self.name)?)),
        }
    }
}

/// Takes the contents of one sync.
pub struct Receiver {
    places: Places,
    contents: BTreeMap<u32, Incoming>,
    /// How far each content has been offered; `None` once that is all of it.
    offered: BTreeMap<u32, Option<u32>>,
    queue: VecDeque<Offer>,
    /// Chunks in the queue or missing.
    waiting: usize,
    /// Which content has asked for a chunk that has not come.
    asked: BTreeMap<ChunkHash, u32>,
    stored: BTreeMap<ContentId, Hashed>,
    answers: Vec<TransferFrame>,
}

impl Receiver {
    /// Looks at what is there.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn new(workspace: &mut Workspace) -> Result<Receiver, SyncFailure> {
        let mut places = Places::of(&workspace.index);
        let mut stored = BTreeMap::new();
        for hashed in workspace.staging.leftovers()? {
            places.add_content(&hashed);
            stored.insert(hashed.content, hashed);
        }
        Ok(Receiver {
            places,
            contents: BTreeMap::new(),
            offered: BTreeMap::new(),
            queue: VecDeque::new(),
            waiting: 0,
            asked: BTreeMap::new(),
            stored,
            answers: Vec::new(),
        })
    }

    /// What is in staging, whole.
    #[must_use]
    pub fn into_stored(self) -> BTreeMap<ContentId, Hashed> {
        self.stored
    }

    /// Takes a frame; gives what there is to say.
    ///
    /// # Errors
    /// When the frame makes no sense or the disk fails: the sync ends.
    pub fn take(
        &mut self,
        workspace: &mut Workspace,
        frame: TransferFrame,
        payload: &[u8],
    ) -> Result<Vec<TransferFrame>, SyncFailure> {
        match frame {
            TransferFrame::Offer { content_no, first, chunks, end } => {
                self.offered(Offer { content_no, first, chunks, end })?;
            }
            TransferFrame::Chunk { content_no, index } => {
                self.arrived(workspace, content_no, index, payload)?;
            }
            TransferFrame::Abandon { content_no } => self.abandon(workspace, content_no),
            TransferFrame::Working => {}
            _ => return Err(SyncFailure::Refused("a frame out of place")),
        }
        self.answer_offers(workspace)?;
        Ok(std::mem::take(&mut self.answers))
    }

    /// Whether nothing is expected any more.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.contents.is_empty() && self.queue.is_empty()
    }

    fn offered(&mut self, offer: Offer) -> Result<(), SyncFailure> {
        let valid = |chunk: &ChunkRef| chunk.bytes > 0 && chunk.bytes as usize <= CHUNK_BYTES_MAX;
        if offer.chunks.len() > OFFER_WINDOW_CHUNKS || !offer.chunks.iter().all(valid) {
            return Err(SyncFailure::Refused("an offer beyond the limits"));
        }
        if offer.first == 0 && !self.offered.contains_key(&offer.content_no) {
            if self.offered.len() >= PUT_OUTSTANDING_MAX {
                return Err(SyncFailure::Refused("too many contents at once"));
            }
            self.offered.insert(offer.content_no, Some(0));
        }
        match self.offered.get_mut(&offer.content_no) {
            Some(next) if *next == Some(offer.first) => {
                let count = u32::try_from(offer.chunks.len()).unwrap_or(u32::MAX);
                let after = offer.first.checked_add(count).ok_or(SyncFailure::Refused("too many chunks"))?;
                *next = offer.end.is_none().then_some(after);
            }
            _ => return Err(SyncFailure::Refused("an offer out of order")),
        }
        self.waiting += offer.chunks.len();
        if self.waiting > SYNC_PENDING_CHUNKS_MAX {
            return Err(SyncFailure::Refused("too many chunks at once"));
        }
        self.queue.push_back(offer);
        Ok(())
    }

    /// Answers offers in their order. One with a chunk that another content has asked for waits
    /// until that has come, so that equal contents travel once.
    fn answer_offers(&mut self, workspace: &mut Workspace) -> Result<(), SyncFailure> {
        while let Some(offer) = self.queue.front() {
            let elsewhere = |chunk: &ChunkRef| {
                self.asked.get(&chunk.hash).is_some_and(|content_no| *content_no != offer.content_no)
            };
            if offer.chunks.iter().any(elsewhere) {
                return Ok(());
            }
            let Some(offer) = self.queue.pop_front() else { return Ok(()) };
            self.answer(workspace, offer)?;
        }
        Ok(())
    }

    fn answer(&mut self, workspace: &mut Workspace, offer: Offer) -> Result<(), SyncFailure> {
        let Offer { content_no, first, chunks, end } = offer;
        if !self.contents.contains_key(&content_no) {
            let name = content_no.to_string();
            let source = self.places.add_staged(name.clone());
            let (manifest, missing) = (ManifestBuilder::new(), BTreeMap::new());
            let incoming =
                Incoming { name, file: None, source, manifest, chunks: Vec::new(), missing, end: None };
            self.contents.insert(content_no, incoming);
        }
        let Some(incoming) = self.contents.get_mut(&content_no) else { return Ok(()) };
        let mut needed = Vec::with_capacity(chunks.len());
        for (index, chunk) in (first..).zip(chunks) {
            if incoming.manifest.is_full() {
                return Err(SyncFailure::Refused("a content beyond the limits"));
            }
            let offset = incoming.manifest.size();
            incoming.manifest.push(chunk);
            if incoming.chunks.len() < SYNC_CHUNKS_MAX {
                incoming.chunks.push(chunk);
            }
            let repeated = self.asked.contains_key(&chunk.hash);
            if !repeated
                && let Some(bytes) = self.places.fetch(chunk, &mut workspace.root, &workspace.staging)
            {
                workspace.staging.check_room(u64::from(chunk.bytes))?;
                incoming.file(&workspace.staging)?.write_all_at(&bytes, offset)?;
                self.waiting -= 1;
                needed.push(false);
                continue;
            }
            self.asked.insert(chunk.hash, content_no);
            incoming.missing.insert(index, Missing { chunk, offset, repeated });
            needed.push(!repeated);
        }
        if !needed.is_empty() {
            self.answers.push(TransferFrame::Need { content_no, first, needed });
        }
        incoming.end = end;
        self.finish(workspace, content_no)
    }

    fn arrived(
        &mut self,
        workspace: &mut Workspace,
        content_no: u32,
        index: u32,
        payload: &[u8],
    ) -> Result<(), SyncFailure> {
        let Some(incoming) = self.contents.get_mut(&content_no) else {
            return Err(SyncFailure::Refused("a chunk of no content"));
        };
        let Some(Missing { chunk, offset, .. }) =
            incoming.missing.get(&index).filter(|missing| !missing.repeated)
        else {
            return Err(SyncFailure::Refused("a chunk that nobody asked for"));
        };
        let (chunk, offset) = (*chunk, *offset);
        if payload.len() != chunk.bytes as usize || chunk_hash(payload) != chunk.hash {
            return Err(SyncFailure::Refused("a chunk that is not what was offered"));
        }
        workspace.staging.check_room(u64::from(chunk.bytes))?;
        let same = |(_, missing): &(&u32, &Missing)| missing.chunk.hash == chunk.hash;
        let places: Vec<(u32, u64)> =
            incoming.missing.iter().filter(same).map(|(index, missing)| (*index, missing.offset)).collect();
        for (index, offset) in places {
            incoming.file(&workspace.staging)?.write_all_at(payload, offset)?;
            incoming.missing.remove(&index);
            self.waiting -= 1;
        }
        self.asked.remove(&chunk.hash);
        self.places.add(incoming.source, offset, chunk);
        self.finish(workspace, content_no)
    }

    fn abandon(&mut self, workspace: &mut Workspace, content_no: u32) {
        self.offered.remove(&content_no);
        let waiting = &mut self.waiting;
        self.queue.retain(|offer| {
            let stays = offer.content_no != content_no;
            *waiting -= if stays { 0 } else { offer.chunks.len() };
            stays
        });
        let Some(incoming) = self.contents.remove(&content_no) else { return };
        self.waiting -= incoming.missing.len();
        self.asked.retain(|_, asked| *asked != content_no);
        workspace.staging.remove(&incoming.name);
    }

    /// Keeps a content that is whole.
    fn finish(&mut self, workspace: &mut Workspace, content_no: u32) -> Result<(), SyncFailure> {
        let whole = |incoming: &Incoming| incoming.end.is_some() && incoming.missing.is_empty();
        if !self.contents.get(&content_no).is_some_and(whole) {
            return Ok(());
        }
        let Some(mut incoming) = self.contents.remove(&content_no) else { return Ok(()) };
        self.offered.remove(&content_no);
        incoming.file(&workspace.staging)?; // of an empty one there is none yet
        let Incoming { name, source, manifest, chunks, end, .. } = incoming;
        let manifest = manifest.finish();
        if end != Some(ContentEnd { content: manifest.content, size: manifest.size }) {
            return Err(SyncFailure::Refused("a content that is not what it was called"));
        }
        workspace.staging.name_content(&name, manifest.content)?;
        self.places.rename(source, manifest.content.to_string());
        let known = if chunks.len() == manifest.chunks as usize { chunks } else { Vec::new() };
        let hashed = Hashed { content: manifest.content, size: manifest.size, chunks: known };
        self.stored.insert(manifest.content, hashed);
        let (nodes, failed) = (Vec::new(), Vec::new());
        self.answers.push(TransferFrame::Stored { content_no, nodes, failed });
        Ok(())
    }
}
