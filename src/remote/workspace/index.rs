//! What is known of the files of a workspace: which content each is, and its chunks.
//!
//! Invariant: the index is a hint. What it says of a file counts only while the file looks as it
//! did then (size, both times, inode), and bytes are taken from a file only after they were hashed
//! again. So a damaged or lost index costs time, never a wrong byte.

use super::root::Found;
use crate::limits::SYNC_CHUNKS_MAX;
use crate::types::{ChunkRef, ContentId, TreePath};
use crate::wire::sync::{IndexRecord, IndexedFile, Stamp, append_record, split_record};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Chunks in one record.
const RECORD_CHUNKS: usize = 4_096;
/// Bytes collected before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// What is known of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// How it looked then.
    pub stamp: Stamp,
    /// What it is.
    pub content: ContentId,
    /// It is to be offered again.
    pub young: bool,
    /// Its chunks; none if there were too many.
    pub chunks: Vec<ChunkRef>,
}

/// What is known of a workspace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    files: BTreeMap<TreePath, Known>,
    chunks: usize,
}

impl Index {
    /// Reads an index; what cannot be read is not known.
    #[must_use]
    pub fn load(path: &Path) -> Index {
        let mut index = Index::default();
        let bytes = fs::read(path).unwrap_or_default();
        let mut rest = bytes.as_slice();
        let mut file: Option<(TreePath, Known)> = None;
        while let Some((record, after)) = split_record(rest) {
            rest = after;
            match record {
                IndexRecord::File(next) => {
                    let IndexedFile { path, stamp, content, young } = next;
                    let known = Known { stamp, content, young, chunks: Vec::new() };
                    if let Some((path, known)) = file.replace((path, known)) {
                        index.insert(path, known);
                    }
                }
                IndexRecord::Chunks(chunks) => {
                    if let Some((_, known)) = &mut file {
                        known.chunks.extend(chunks);
                    }
                }
                IndexRecord::End => break,
            }
        }
        if let Some((path, known)) = file {
            index.insert(path, known);
        }
        index
    }

    /// Writes the index in place of the old one.
    ///
    /// # Errors
    /// What the system says; the old one stays.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let unfinished = path.with_extension("new");
        let mut file = fs::File::create(&unfinished)?;
        let mut bytes = Vec::new();
        for (path, known) in &self.files {
            let record = IndexedFile {
                path: path.clone(),
                stamp: known.stamp,
                content: known.content,
                young: known.young,
            };
            append_record(&mut bytes, &IndexRecord::File(record));
            for chunks in known.chunks.chunks(RECORD_CHUNKS) {
                append_record(&mut bytes, &IndexRecord::Chunks(chunks.to_vec()));
            }
            if bytes.len() >= WRITE_BYTES {
                file.write_all(&bytes)?;
                bytes.clear();
            }
        }
        append_record(&mut bytes, &IndexRecord::End);
        file.write_all(&bytes)?;
        fs::rename(unfinished, path)
    }

    /// What is known of the file at this path, if it still looks as it did.
    #[must_use]
    pub fn valid(&self, path: &TreePath, found: &Stamp) -> Option<&Known> {
        self.files.get(path).filter(|known| known.stamp == *found)
    }

    /// Everything that is known, whether it is still so or not.
    pub fn iter(&self) -> impl Iterator<Item = (&TreePath, &Known)> {
        self.files.iter()
    }

    /// Remembers a file.
    pub fn insert(&mut self, path: TreePath, mut known: Known) {
        self.forget(&path);
        if self.chunks + known.chunks.len() > SYNC_CHUNKS_MAX {
            known.chunks = Vec::new();
        }
        self.chunks += known.chunks.len();
        self.files.insert(path, known);
    }

    /// Forgets a file.
    pub fn forget(&mut self, path: &TreePath) {
        if let Some(known) = self.files.remove(path) {
            self.chunks -= known.chunks.len();
        }
    }

    /// Forgets files that are not there any more.
    pub fn keep(&mut self, there: &BTreeMap<TreePath, Found>) {
        let gone: Vec<TreePath> =
            self.files.keys().filter(|path| !there.contains_key(*path)).cloned().collect();
        for path in gone {
            self.forget(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ChunkHash;

    fn path(text: &str) -> TreePath {
        TreePath::parse(text.as_bytes()).expect("a path")
    }

    fn known(size: u64, chunks: u8) -> Known {
        let stamp = Stamp { size, modified_ns: -5, changed_ns: 7, inode: 9 };
        let chunks = (0..chunks).map(|n| ChunkRef { hash: ChunkHash([n; 32]), bytes: 1 }).collect();
        Known { stamp, content: ContentId([1; 32]), young: size == 1, chunks }
    }

    #[test]
    fn an_index_comes_back_and_a_damaged_one_costs_only_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("index");
        let mut index = Index::default();
        for (name, chunks) in [("a", 3), ("b/c", 0), ("b/d", 1)] {
            index.insert(path(name), known(u64::from(chunks), chunks));
        }
        index.save(&at).expect("written");
        assert_eq!(Index::load(&at), index);
        let bytes = fs::read(&at).expect("bytes");
        for cut in 0..bytes.len() {
            fs::write(&at, &bytes[..cut]).expect("written");
            let part = Index::load(&at);
            assert!(part.iter().all(|(path, _)| index.files.contains_key(path)), "{cut}");
        }
        fs::write(&at, vec![0xFF; 1000]).expect("written");
        assert_eq!(Index::load(&at), Index::default());
        assert_eq!(Index::load(&folder.path().join("none")), Index::default());
    }

    #[test]
    fn what_was_touched_is_not_known() {
        let mut index = Index::default();
        index.insert(path("a"), known(5, 1));
        let now = known(5, 1).stamp;
        assert!(index.valid(&path("a"), &now).is_some());
        for touched in [
            Stamp { size: 6, ..now },
            Stamp { modified_ns: 0, ..now },
            Stamp { changed_ns: 8, ..now },
            Stamp { inode: 1, ..now },
        ] {
            assert!(index.valid(&path("a"), &touched).is_none(), "{touched:?}");
        }
        assert!(index.valid(&path("b"), &now).is_none());
    }

    #[test]
    fn an_index_has_an_end() {
        let mut index = Index::default();
        let many = vec![ChunkRef { hash: ChunkHash([0; 32]), bytes: 1 }; SYNC_CHUNKS_MAX];
        index.insert(path("a"), Known { chunks: many, ..known(1, 0) });
        index.insert(path("b"), known(1, 1));
        assert!(index.files[&path("b")].chunks.is_empty());
        index.insert(path("a"), known(1, 1));
        index.insert(path("b"), known(1, 1));
        assert_eq!(index.chunks, 2);
    }
}
