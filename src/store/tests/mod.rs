//! Tests of the store as a whole: what is acknowledged is there after a crash, nothing travels or
//! is written twice, and no folder that is not right is opened.

use super::*;
use crate::clock::Rng;
use crate::limits::{CHUNK_FINE, INLINE_BYTES_MAX, MANIFEST_PAGE_CHUNKS, ORPHAN_GRACE_MS};
use crate::transfer::chunking::Chunker;
use crate::transfer::manifest::{Manifest, ManifestBuilder, check_root, chunk_hash, parse_page};
use crate::types::{Body, ChunkRef, Dot, InstanceId, NodeId, Wanted};
use std::fs::{self, FileTimes};
use std::path::PathBuf;
use std::sync::mpsc::{channel, sync_channel};
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

mod aside;
mod contents;
mod damaged;
mod disk_states;
mod failing;
mod letters;
mod opening;
mod verify;

fn random(bytes: usize, seed: u64) -> Vec<u8> {
    let mut data = vec![0; bytes];
    Rng::seeded(seed).fill(&mut data);
    data
}

/// A content cut into chunks.
struct Sample {
    data: Vec<u8>,
    chunks: Vec<ChunkRef>,
    manifest: Manifest,
}

impl Sample {
    fn new(data: Vec<u8>) -> Sample {
        let (mut chunker, mut start, mut lengths) = (Chunker::new(), 0, Vec::new());
        while let Some(length) = chunker.cut(&data[start..], true) {
            lengths.push(length);
            start += length;
        }
        Sample::cut(data, &lengths)
    }

    fn cut(data: Vec<u8>, lengths: &[usize]) -> Sample {
        let (mut builder, mut chunks, mut start) = (ManifestBuilder::new(), Vec::new(), 0);
        for length in lengths {
            let part = &data[start..start + length];
            chunks.push(ChunkRef { hash: chunk_hash(part), bytes: *length as u32 });
            builder.push(chunks[chunks.len() - 1]);
            start += length;
        }
        assert_eq!(start, data.len());
        Sample { data, chunks, manifest: builder.finish() }
    }

    fn id(&self) -> ContentId {
        self.manifest.content
    }

    fn part(&self, index: usize) -> &[u8] {
        let start: usize = self.chunks[..index].iter().map(|chunk| chunk.bytes as usize).sum();
        &self.data[start..start + self.chunks[index].bytes as usize]
    }

    /// Offers everything in windows and sends what is needed; gives how many bytes travelled.
    fn send(&self, incoming: &mut Incoming) -> u64 {
        self.send_first(incoming, self.chunks.len())
    }

    fn send_first(&self, incoming: &mut Incoming, count: usize) -> u64 {
        let (mut first, mut sent) = (0, 0);
        for window in self.chunks[..count].chunks(7) {
            let needed = incoming.offer(window).expect("offer");
            assert_eq!(needed.len(), window.len());
            for (at, needed) in needed.iter().enumerate() {
                if *needed {
                    incoming.write((first + at) as u32, self.part(first + at)).expect("write");
                    sent += u64::from(window[at].bytes);
                }
            }
            first += window.len();
        }
        sent
    }

    fn put(&self, store: &Store) -> (u64, Finished) {
        let mut incoming = store.receive();
        let sent = self.send(&mut incoming);
        (sent, incoming.finish(self.id(), self.data.len() as u64).expect("finish"))
    }

    /// Reads the content back as a peer would, checking every level.
    fn check(&self, store: &Store) {
        let id = self.id();
        assert_eq!(store.holds(&id), Some(self.data.len() as u64));
        let root = store.root(&id).expect("root");
        let (mut offset, mut read) = (0, Vec::new());
        for (number, hash) in check_root(id, self.manifest.size, &root).expect("root").iter().enumerate() {
            let page = store.page(&id, number as u32).expect("page");
            for chunk in parse_page(hash, &page).expect("page") {
                let bytes = store.read(&id, offset, chunk.bytes).expect("read");
                assert_eq!(chunk_hash(&bytes), chunk.hash);
                offset += u64::from(chunk.bytes);
                read.extend_from_slice(&bytes);
            }
        }
        assert!(read == self.data, "other bytes came back");
    }
}

fn open(folder: &TempDir) -> (Store, Loaded) {
    Store::open(folder.path(), None).expect("open")
}

fn fresh() -> (TempDir, Store) {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder).0;
    (folder, store)
}

/// What is on disk now, as a crash of the process would leave it. The lock is not copied along.
fn crash_copy(folder: &TempDir) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).expect("read") {
            let entry = entry.expect("entry");
            let target = to.join(entry.file_name());
            if entry.file_type().expect("type").is_dir() {
                fs::create_dir_all(&target).expect("folder");
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), &target).expect("copy");
            }
        }
    }
    let copied = tempfile::tempdir().expect("folder");
    copy(folder.path(), copied.path());
    copied
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(folder).expect("read").map(|e| e.expect("entry").path()).collect();
    found.sort();
    found
}

fn wait_for(write: impl FnOnce(Done)) -> Result<(), StoreError> {
    let (sender, outcome) = sync_channel(1);
    write(Box::new(move |result| sender.send(result).expect("waiting")));
    outcome.recv_timeout(Duration::from_secs(30)).expect("answer")
}

fn version(counter: u64) -> Version {
    Version {
        dot: Dot { counter, instance: InstanceId(9) },
        body: Body::Folder,
        mode: 0o755,
        modified_ns: -5,
        wanted: Wanted::new(2),
        removed_s: 0,
    }
}

fn name(text: &str) -> FileName {
    FileName::parse(text).expect("name")
}
