//! Where a content is cut: boundaries follow from the bytes, so an insertion moves them along and
//! all but a few chunks stay the same. Pure.
//!
//! Chunks that start within the first [`CHUNK_FINE_BYTES`] are small ([`CHUNK_FINE`]), the others
//! large ([`CHUNK_COARSE`]). A content of at most [`INLINE_BYTES_MAX`] is one chunk.
//!
//! Invariant: the boundaries are a function of the content alone, never of how it is read, and
//! they are part of the storage format: two nodes that cut differently would share nothing. The
//! golden test below freezes them.

use crate::limits::{CHUNK_BYTES_MAX, CHUNK_COARSE, CHUNK_FINE, CHUNK_FINE_BYTES, INLINE_BYTES_MAX};
use fastcdc::v2020::{Normalization, select_masks};

const _: () = assert!(CHUNK_COARSE.2 <= CHUNK_BYTES_MAX && CHUNK_FINE.2 <= CHUNK_COARSE.2);
const _: () = assert!(INLINE_BYTES_MAX < CHUNK_FINE.2 as u64);

/// Cuts one content, from its start to its end.
#[derive(Clone, Debug, Default)]
pub struct Chunker {
    offset: u64,
}

impl Chunker {
    /// At the start of a content.
    #[must_use]
    pub fn new() -> Chunker {
        Chunker::default()
    }

    /// Bytes cut so far: the offset of the next chunk.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Length in bytes of the next chunk, which starts where `buffer` starts; the caller then
    /// drops that many bytes from the buffer. `at_end` says that the content ends with `buffer`.
    /// `None`: more bytes are needed ([`CHUNK_BYTES_MAX`] are always enough), or none are left.
    pub fn cut(&mut self, buffer: &[u8], at_end: bool) -> Option<usize> {
        let (least, mean, most) = if self.offset < CHUNK_FINE_BYTES { CHUNK_FINE } else { CHUNK_COARSE };
        if buffer.is_empty() || (!at_end && buffer.len() < most) {
            return None;
        }
        let length = if at_end && self.offset == 0 && buffer.len() as u64 <= INLINE_BYTES_MAX {
            buffer.len()
        } else {
            let (strict, relaxed) = select_masks(mean, Normalization::Level1);
            let (_, length) =
                fastcdc::v2020::cut(buffer, least, mean, most, strict, relaxed, strict << 1, relaxed << 1);
            length
        };
        self.offset = self.offset.saturating_add(length as u64);
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Rng;
    use std::collections::BTreeSet;

    fn random(bytes: usize, seed: u64) -> Vec<u8> {
        let mut data = vec![0; bytes];
        Rng::seeded(seed).fill(&mut data);
        data
    }

    /// Cuts `data` as it comes in pieces of `piece` bytes.
    fn cut_all(data: &[u8], piece: usize) -> Vec<usize> {
        let (mut chunker, mut lengths, mut start, mut end) = (Chunker::new(), Vec::new(), 0, 0);
        loop {
            while let Some(length) = chunker.cut(&data[start..end], end == data.len()) {
                lengths.push(length);
                start += length;
            }
            if end == data.len() {
                assert_eq!(start, end);
                return lengths;
            }
            end = data.len().min(end + piece);
        }
    }

    #[test]
    fn boundaries_are_frozen() {
        let lengths = cut_all(&random(12 << 20, 1), 12 << 20);
        assert_eq!(lengths[..8], [29272, 93452, 38065, 63536, 84570, 89223, 70680, 77656]);
        assert_eq!(lengths[lengths.len() - 6..], [1730715, 1794292, 2489665, 1190980, 451927, 375248]);
        assert_eq!(lengths.len(), 61);
    }

    #[test]
    fn boundaries_do_not_depend_on_how_the_content_is_read() {
        let data = random(9 << 20, 2);
        let whole = cut_all(&data, data.len());
        for piece in [1 << 20, 77_777, 5 << 20] {
            assert_eq!(cut_all(&data, piece), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn chunks_keep_their_limits_and_cover_everything() {
        for (bytes, seed) in [(0, 3), (1, 4), (40_000, 5), (9 << 20, 6)] {
            let data = random(bytes, seed);
            let lengths = cut_all(&data, 1 << 20);
            assert_eq!(lengths.iter().sum::<usize>(), bytes);
            let mut offset = 0;
            for (at, length) in lengths.iter().enumerate() {
                let (least, _, most) = if offset < CHUNK_FINE_BYTES { CHUNK_FINE } else { CHUNK_COARSE };
                assert!(*length <= most && (*length >= least || at + 1 == lengths.len()));
                offset += *length as u64;
            }
        }
        assert!(cut_all(&vec![0; 3 << 20], 1 << 20).iter().all(|length| *length == CHUNK_FINE.2));
    }

    #[test]
    fn what_is_kept_inside_the_database_is_one_chunk() {
        let inline = INLINE_BYTES_MAX as usize;
        for bytes in [1, 100, CHUNK_FINE.0 + 1, inline - 1, inline] {
            for seed in 0..20 {
                assert_eq!(cut_all(&random(bytes, seed), 1_000), [bytes]);
            }
        }
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let data = random(8 << 20, 9);
        let mut edited = data.clone();
        edited.splice(100_000..100_000, *b"inserted");
        let pieces = |data: &[u8]| {
            let mut rest = data;
            let mut set = BTreeSet::new();
            for length in cut_all(data, data.len()) {
                set.insert(rest[..length].to_vec());
                rest = &rest[length..];
            }
            set
        };
        let (before, after) = (pieces(&data), pieces(&edited));
        assert!(after.difference(&before).count() <= 5, "{}", after.difference(&before).count());
    }
}
