//! The chunks of a file and the content that they are.

use crate::limits::CHUNK_BYTES_MAX;
use crate::transfer::chunking::Chunker;
use crate::transfer::manifest::{ManifestBuilder, chunk_hash};
use crate::types::{ChunkRef, ContentId};
use std::io::{self, Read};

/// Bytes with which the buffer begins, and the most that are read at once.
const READ_BYTES: usize = 256 << 10;

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hashed {
    /// Its id.
    pub content: ContentId,
    /// Bytes.
    pub size: u64,
    /// Its chunks, in order.
    pub chunks: Vec<ChunkRef>,
}

/// Reads to the end. `buffer` is used again for the next file.
///
/// # Errors
/// What the system says, and for a file that is too large for a manifest.
pub fn hash(reader: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<Hashed> {
    let (mut chunker, mut manifest, mut chunks) = (Chunker::new(), ManifestBuilder::new(), Vec::new());
    let (mut start, mut filled, mut at_end) = (0, 0, false);
    while !at_end {
        if filled == buffer.len() && buffer.len() < 2 * CHUNK_BYTES_MAX {
            buffer.resize((2 * buffer.len()).clamp(READ_BYTES, 2 * CHUNK_BYTES_MAX), 0);
        } else if filled == buffer.len() {
            buffer.copy_within(start..filled, 0);
            filled -= start;
            start = 0;
        }
        let until = buffer.len().min(filled + READ_BYTES);
        match reader.read(&mut buffer[filled..until]) {
            Ok(count) => {
                filled += count;
                at_end = count == 0;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        while let Some(length) = chunker.cut(&buffer[start..filled], at_end) {
            if manifest.is_full() {
                return Err(io::Error::other("too large: its manifest would not fit"));
            }
            let bytes = &buffer[start..start + length];
            let chunk =
                ChunkRef { hash: chunk_hash(bytes), bytes: u32::try_from(length).unwrap_or(u32::MAX) };
            manifest.push(chunk);
            chunks.push(chunk);
            start += length;
        }
    }
    let manifest = manifest.finish();
    Ok(Hashed { content: manifest.content, size: manifest.size, chunks })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Rng;
    use crate::transfer::manifest::content_of_one;

    #[test]
    fn a_content_has_one_id_however_it_is_read() {
        let mut data = vec![0; 9 << 20];
        Rng::seeded(3).fill(&mut data);
        let mut buffer = Vec::new();
        let whole = hash(&mut data.as_slice(), &mut buffer).expect("bytes");
        let mut pieces = data
            .chunks(70_001)
            .fold(Box::new(io::empty()) as Box<dyn Read>, |before, piece| Box::new(before.chain(piece)));
        assert_eq!(hash(&mut pieces, &mut buffer).expect("bytes"), whole);
        assert_eq!(whole.size, data.len() as u64);
        let lengths: u64 = whole.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        assert_eq!(lengths, whole.size);
        let small = hash(&mut b"small".as_slice(), &mut buffer).expect("bytes");
        assert_eq!(small.content, content_of_one(small.chunks[0]));
        assert!(hash(&mut io::empty(), &mut buffer).expect("bytes").chunks.is_empty());
    }
}
