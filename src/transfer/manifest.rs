//! Manifests: a content is its chunks, and its id follows from them. Pure.
//!
//! | part | bytes |
//! |---|---|
//! | record | chunk hash (32), chunk length (u32 LE) |
//! | page | [`MANIFEST_PAGE_CHUNKS`] records, the last page fewer |
//! | root | SHA-256 of each page, one after the other |
//! | [`ContentId`] | SHA-256 of `"thorp content 1\0"`, size (u64 LE), root |
//!
//! An empty content has no chunk and no page. Invariant: from the id alone every level can be
//! checked before the next is asked for, and no level is larger than a frame, so 1 TiB needs no
//! more memory than a page and the root.

use crate::limits::{CHUNK_BYTES_MAX, MANIFEST_PAGE_CHUNKS, MANIFEST_PAGES_MAX};
use crate::types::{ChunkHash, ChunkRef, ContentId};
use sha2::{Digest, Sha256};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 36;
/// Bytes of a full page.
pub const PAGE_BYTES: usize = MANIFEST_PAGE_CHUNKS * RECORD_BYTES;

const TAG: &[u8; 16] = b"thorp content 1\0";

/// Why a manifest, or a part of one, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The root is not the one that the content id follows from.
    #[error("the manifest's root does not belong to content {0}")]
    Root(ContentId),
    /// The root is not whole hashes, too long, or does not fit the size.
    #[error("a manifest root of {0} bytes makes no sense")]
    RootLength(usize),
    /// The page's hash is not the one that the root has.
    #[error("a manifest page does not have the hash that the root gives")]
    Page,
    /// The page is not whole records, empty, or too long.
    #[error("a manifest page of {0} bytes makes no sense")]
    PageLength(usize),
    /// A chunk is empty or over [`CHUNK_BYTES_MAX`].
    #[error("a chunk of {0} bytes makes no sense")]
    ChunkLength(u32),
}

/// What follows from all chunks of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The content's id.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// How many chunks it has.
    pub chunks: u32,
    /// The hashes of its pages, 32 bytes each.
    pub root: Vec<u8>,
}

/// Builds a manifest chunk by chunk; holds one page and the root.
#[derive(Clone, Debug, Default)]
pub struct ManifestBuilder {
    page: Vec<u8>,
    root: Vec<u8>,
    size: u64,
    chunks: u32,
}

impl ManifestBuilder {
    /// A manifest without chunks.
    #[must_use]
    pub fn new() -> ManifestBuilder {
        ManifestBuilder::default()
    }

    /// Adds the next chunk; gives the bytes of the page that it filled.
    pub fn push(&mut self, chunk: ChunkRef) -> Option<Vec<u8>> {
        self.page.extend_from_slice(&encode_chunk(chunk));
        self.size = self.size.saturating_add(u64::from(chunk.bytes));
        self.chunks = self.chunks.saturating_add(1);
        (self.page.len() == PAGE_BYTES).then(|| {
            self.root.extend_from_slice(&page_hash(&self.page));
            std::mem::take(&mut self.page)
        })
    }

    /// Whether no further chunk fits: the root would be over [`MANIFEST_PAGES_MAX`] pages.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.chunks as usize >= MANIFEST_PAGES_MAX * MANIFEST_PAGE_CHUNKS
    }

    /// Bytes of the page that is being built: the last page, if it is not empty at the end.
    #[must_use]
    pub fn open_page(&self) -> &[u8] {
        &self.page
    }

    /// Hashes of the pages that are full.
    #[must_use]
    pub fn closed_root(&self) -> &[u8] {
        &self.root
    }

    /// Size of all chunks so far, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Chunks so far.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// The manifest of all chunks pushed.
    #[must_use]
    pub fn finish(mut self) -> Manifest {
        if !self.page.is_empty() {
            self.root.extend_from_slice(&page_hash(&self.page));
        }
        let content = content_id(self.size, &self.root);
        Manifest { content, size: self.size, chunks: self.chunks, root: self.root }
    }
}

/// The hash under which a page stands in the root.
#[must_use]
pub fn page_hash(page: &[u8]) -> [u8; 32] {
    Sha256::digest(page).into()
}

/// The hash of a chunk's bytes.
#[must_use]
pub fn chunk_hash(bytes: &[u8]) -> ChunkHash {
    ChunkHash(Sha256::digest(bytes).into())
}

/// The id of the content with this size in bytes and this root.
#[must_use]
pub fn content_id(size: u64, root: &[u8]) -> ContentId {
    let mut hasher = Sha256::new();
    hasher.update(TAG);
    hasher.update(size.to_le_bytes());
    hasher.update(root);
    ContentId(hasher.finalize().into())
}

/// The id of the content that is this one chunk.
#[must_use]
pub fn content_of_one(chunk: ChunkRef) -> ContentId {
    content_id(u64::from(chunk.bytes), &page_hash(&encode_chunk(chunk)))
}

/// A chunk's record in a page.
#[must_use]
pub fn encode_chunk(chunk: ChunkRef) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..32].copy_from_slice(&chunk.hash.0);
    record[32..].copy_from_slice(&chunk.bytes.to_le_bytes());
    record
}

/// The chunk that a record stands for, unchecked.
#[must_use]
pub fn decode_chunk(record: &[u8; RECORD_BYTES]) -> ChunkRef {
    let mut hash = [0; 32];
    hash.copy_from_slice(&record[..32]);
    let [.., a, b, c, d] = *record;
    ChunkRef { hash: ChunkHash(hash), bytes: u32::from_le_bytes([a, b, c, d]) }
}

/// The chunks that a page's bytes list, unchecked; what is left over at the end is ignored.
pub fn decode_chunks(page: &[u8]) -> impl Iterator<Item = ChunkRef> {
    page.as_chunks::<RECORD_BYTES>().0.iter().map(decode_chunk)
}

/// The chunk at a position of a page, unchecked.
#[must_use]
pub fn chunk_at(page: &[u8], position: usize) -> Option<ChunkRef> {
    page.as_chunks::<RECORD_BYTES>().0.get(position).map(decode_chunk)
}

/// The page hashes in `root`, once it is sure that `content` follows from it.
///
/// # Errors
/// When it does not, or the root is malformed.
pub fn check_root(content: ContentId, size: u64, root: &[u8]) -> Result<Vec<[u8; 32]>, ManifestError> {
    let (hashes, rest) = root.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() > MANIFEST_PAGES_MAX || hashes.is_empty() != (size == 0) {
        return Err(ManifestError::RootLength(root.len()));
    }
    if content_id(size, root) != content {
        return Err(ManifestError::Root(content));
    }
    Ok(hashes.to_vec())
}

/// The chunks of a page, once it is sure that it is the page with `hash`.
///
/// # Errors
/// When it is not, or a record is malformed.
pub fn parse_page(hash: &[u8; 32], bytes: &[u8]) -> Result<Vec<ChunkRef>, ManifestError> {
    if bytes.is_empty() || bytes.len() > PAGE_BYTES || !bytes.len().is_multiple_of(RECORD_BYTES) {
        return Err(ManifestError::PageLength(bytes.len()));
    }
    if page_hash(bytes) != *hash {
        return Err(ManifestError::Page);
    }
    let chunks: Vec<ChunkRef> = decode_chunks(bytes).collect();
    match chunks.iter().find(|chunk| chunk.bytes == 0 || chunk.bytes as usize > CHUNK_BYTES_MAX) {
        Some(chunk) => Err(ManifestError::ChunkLength(chunk.bytes)),
        None => Ok(chunks),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(number: u32) -> ChunkRef {
        ChunkRef { hash: chunk_hash(&number.to_le_bytes()), bytes: number % 1_000 + 1 }
    }

    #[test]
    fn the_ids_of_known_contents_never_change() {
        let empty = ManifestBuilder::new().finish();
        assert_eq!((empty.size, empty.chunks, empty.root.len()), (0, 0, 0));
        assert_eq!(
            empty.content.to_string(),
            "679fce3e8ad23694e9158259cf02774f07eefb4119089b5c7d4a447a2fcadc75"
        );
        let hello = ChunkRef { hash: chunk_hash(b"hello, thorp\n"), bytes: 13 };
        let mut builder = ManifestBuilder::new();
        assert_eq!(builder.push(hello), None);
        let small = builder.finish();
        assert_eq!(
            small.content.to_string(),
            "14a1cd02af1fa505cf725de43f4208c179d9c775cf262ff632ee054408a1c3a3"
        );
        assert_eq!(small.content, content_of_one(hello));
    }

    #[test]
    fn pages_close_when_full_and_every_level_is_checked() {
        let count = MANIFEST_PAGE_CHUNKS as u32 + 3;
        let (mut builder, mut pages, mut chunks) = (ManifestBuilder::new(), Vec::new(), Vec::new());
        for number in 0..count {
            chunks.push(chunk(number));
            pages.extend(builder.push(chunk(number)));
        }
        assert_eq!((pages.len(), builder.open_page().len()), (1, 3 * RECORD_BYTES));
        pages.push(builder.open_page().to_vec());
        let manifest = builder.finish();
        assert_eq!(manifest.size, chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum::<u64>());
        let hashes = check_root(manifest.content, manifest.size, &manifest.root).expect("valid");
        let parsed: Vec<ChunkRef> = hashes
            .iter()
            .zip(&pages)
            .flat_map(|(hash, page)| parse_page(hash, page).expect("valid"))
            .collect();
        assert_eq!(parsed, chunks);
        assert_eq!(parse_page(&hashes[1], &pages[0]), Err(ManifestError::Page));
        assert_eq!(
            check_root(manifest.content, manifest.size + 1, &manifest.root),
            Err(ManifestError::Root(manifest.content))
        );
        assert!(check_root(manifest.content, manifest.size, &manifest.root[..33]).is_err());
    }

    #[test]
    fn chunks_of_no_or_too_many_bytes_are_refused_though_the_hash_fits() {
        for bytes in [0, CHUNK_BYTES_MAX as u32 + 1] {
            let page = encode_chunk(ChunkRef { hash: ChunkHash([7; 32]), bytes });
            assert_eq!(parse_page(&page_hash(&page), &page), Err(ManifestError::ChunkLength(bytes)));
        }
        assert_eq!(parse_page(&page_hash(&[]), &[]), Err(ManifestError::PageLength(0)));
    }

    #[test]
    fn only_the_empty_content_has_no_page() {
        let empty = ManifestBuilder::new().finish().content;
        assert_eq!(check_root(empty, 0, &[]), Ok(vec![]));
        assert_eq!(check_root(content_id(5, &[]), 5, &[]), Err(ManifestError::RootLength(0)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_never_a_page_or_root(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            hash in any::<[u8; 32]>(),
        ) {
            prop_assert!(parse_page(&hash, &bytes).is_err());
            prop_assert!(check_root(ContentId(hash), 1, &bytes).is_err());
        }
    }
}
