//! The reading side of a put: reads, cuts and hashes on a thread of its own, ahead of the network.
//!
//! Invariant: the bytes that are read and not yet sent or found unneeded are at most
//! [`OFFER_WINDOW_BYTES`], the chunks at most [`OFFER_WINDOW_CHUNKS`]; the thread waits for room.

use super::chain::{PutResult, SourceError};
use super::chunking::Chunker;
use super::manifest::{ManifestBuilder, chunk_hash};
use crate::limits::{
    CHUNK_BYTES_MAX, INLINE_BYTES_MAX, OFFER_WINDOW_BYTES, OFFER_WINDOW_CHUNKS, PUT_OUTSTANDING_FILE_COST,
    PUT_OUTSTANDING_MAX,
};
use crate::types::ChunkRef;
use crate::wire::transfer::ContentEnd;
use bytes::Bytes;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Most bytes of the reading buffer: a chunk is cut while the next one is being filled.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_MAX;
/// Bytes with which it begins; it grows with what is read. To clear all of it costs milliseconds, more than all else
/// of a put of one small file.
const BUFFER_BYTES_LEAST: usize = 64 << 10;
/// Bytes asked for in one read, so that cutting starts before the buffer is full.
const READ_BYTES: usize = 1 << 20;

/// Looks at a source after its last byte, given how many bytes there were.
pub type SourceCheck = Box<dyn FnOnce(u64) -> io::Result<()> + Send>;
/// A source that has been opened.
pub type OpenSource = (Box<dyn Read + Send>, Option<SourceCheck>);

/// Something to be put: opened only when its turn comes, so that 100,000 files need one
/// descriptor.
pub struct Source {
    /// Chosen by the caller, comes back with the result.
    pub tag: u64,
    /// Opens it. Runs on the reading thread.
    pub open: Box<dyn FnOnce() -> io::Result<OpenSource> + Send>,
}

impl Source {
    /// The file at `path`. It is an error if its size or modification time changes meanwhile.
    #[must_use]
    pub fn file(tag: u64, path: PathBuf) -> Source {
        let open = move || -> io::Result<OpenSource> {
            let file = std::fs::File::open(&path)?;
            let before = file.metadata()?;
            let again = file.try_clone()?;
            let check = move |read: u64| {
                let after = again.metadata()?;
                let same = read == before.len()
                    && after.len() == before.len()
                    && after.modified().ok() == before.modified().ok();
                if same { Ok(()) } else { Err(io::Error::other("the file changed while it was read")) }
            };
            let opened: OpenSource = (Box::new(file), Some(Box::new(check)));
            Ok(opened)
        };
        Source { tag, open: Box::new(open) }
    }

    /// Anything that can be read to its end.
    #[must_use]
    pub fn reader(tag: u64, reader: impl Read + Send + 'static) -> Source {
        Source { tag, open: Box::new(move || Ok((Box::new(reader), None))) }
    }
}

/// A chunk on its way: read, not yet sent.
pub(super) struct Piece {
    pub(super) chunk: ChunkRef,
    pub(super) bytes: Bytes,
    /// Room that is given back when the piece is dropped.
    _room: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// What the reading thread tells the sending side, in order.
pub(super) enum Step {
    /// The next content begins.
    Begin { content_no: u32, tag: u64 },
    /// Its next chunk.
    Piece { content_no: u32, index: u32, piece: Piece },
    /// It ends. `room` counts it as outstanding until it is stored.
    End { content_no: u32, end: ContentEnd, room: Option<OwnedSemaphorePermit> },
    /// It cannot be finished.
    Abandon { content_no: u32 },
}

/// How much may be under way.
#[derive(Clone)]
pub(super) struct Windows {
    bytes: Arc<Semaphore>,
    chunks: Arc<Semaphore>,
    contents: Arc<Semaphore>,
}

impl Windows {
    pub(super) fn new() -> Windows {
        Windows {
            bytes: Arc::new(Semaphore::new(OFFER_WINDOW_BYTES)),
            chunks: Arc::new(Semaphore::new(OFFER_WINDOW_CHUNKS)),
            contents: Arc::new(Semaphore::new(PUT_OUTSTANDING_MAX)),
        }
    }
}

/// The sending side has gone: there is nothing left to do.
struct Gone;

pub(super) struct ReadingThread {
    pub(super) handle: Handle,
    pub(super) windows: Windows,
    pub(super) to: mpsc::Sender<Step>,
    pub(super) results: mpsc::Sender<PutResult>,
    pub(super) next_no: u32,
}

impl ReadingThread {
    /// Works through `sources`; gives the number of the next content.
    pub(super) fn run(mut self, mut sources: mpsc::Receiver<Source>) -> u32 {
        let mut buffer = Vec::new();
        while let Some(source) = sources.blocking_recv() {
            let tag = source.tag;
            let outcome = match (source.open)() {
                Ok(opened) => self.read(tag, opened, &mut buffer),
                Err(error) => Ok(Err(SourceError { source: error })),
            };
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    if self.results.blocking_send(PutResult { tag, outcome: Err(error) }).is_err() {
                        break;
                    }
                }
                Err(Gone) => break,
            }
        }
        self.next_no
    }

    fn read(
        &mut self,
        tag: u64,
        (mut reader, check): OpenSource,
        buffer: &mut Vec<u8>,
    ) -> Result<Result<(), SourceError>, Gone> {
        let content_no = self.next_no;
        self.next_no = self.next_no.wrapping_add(1);
        self.send(Step::Begin { content_no, tag })?;
        let mut cutting = Cutting { content_no, ..Cutting::default() };
        let outcome = loop {
            match cutting.fill(&mut reader, buffer) {
                Ok(()) => self.cut(&mut cutting, buffer)?,
                Err(error) => break Err(error),
            }
            if cutting.at_end {
                break match check {
                    Some(check) => check(cutting.manifest.size()),
                    None => Ok(()),
                };
            }
            if cutting.manifest.is_full() {
                break Err(io::Error::other("too large: its manifest would not fit"));
            }
        };
        if let Err(source) = outcome {
            self.send(Step::Abandon { content_no })?;
            return Ok(Err(SourceError { source }));
        }
        if cutting.room.is_none() {
            cutting.room = Some(self.wait(&self.windows.contents, 1)?);
        }
        let manifest = cutting.manifest.finish();
        let end = ContentEnd { content: manifest.content, size: manifest.size };
        self.send(Step::End { content_no, end, room: cutting.room })?;
        Ok(Ok(()))
    }

    /// Cuts all whole chunks off the buffer and sends them.
    fn cut(&self, cutting: &mut Cutting, buffer: &[u8]) -> Result<(), Gone> {
        while let Some(length) = cutting.chunker.cut(&buffer[cutting.start..cutting.filled], cutting.at_end) {
            let bytes = &buffer[cutting.start..cutting.start + length];
            cutting.start += length;
            let weight = u32::try_from(length).unwrap_or(u32::MAX);
            if cutting.room.is_none() {
                let large = length as u64 > INLINE_BYTES_MAX;
                let cost = if large { PUT_OUTSTANDING_FILE_COST } else { 1 };
                cutting.room = Some(self.wait(&self.windows.contents, cost)?);
            }
            let room = (self.wait(&self.windows.bytes, weight)?, self.wait(&self.windows.chunks, 1)?);
            let chunk = ChunkRef { hash: chunk_hash(bytes), bytes: weight };
            let index = cutting.manifest.chunks();
            cutting.manifest.push(chunk);
            let piece = Piece { chunk, bytes: Bytes::copy_from_slice(bytes), _room: room };
            self.send(Step::Piece { content_no: cutting.content_no, index, piece })?;
        }
        Ok(())
    }

    fn send(&self, what: Step) -> Result<(), Gone> {
        self.to.blocking_send(what).map_err(|_| Gone)
    }

    /// Waits for room, unless the sending side goes away meanwhile.
    fn wait(&self, window: &Arc<Semaphore>, count: u32) -> Result<OwnedSemaphorePermit, Gone> {
        if let Ok(permit) = Arc::clone(window).try_acquire_many_owned(count) {
            return Ok(permit);
        }
        self.handle.block_on(async {
            tokio::select! {
                permit = Arc::clone(window).acquire_many_owned(count) => permit.map_err(|_| Gone),
                () = self.to.closed() => Err(Gone),
            }
        })
    }
}

#[derive(Default)]
struct Cutting {
    content_no: u32,
    chunker: Chunker,
    manifest: ManifestBuilder,
    room: Option<OwnedSemaphorePermit>,
    start: usize,
    filled: usize,
    at_end: bool,
}

impl Cutting {
    /// Reads once into the buffer. When it is full it grows; once it is as large as it may be, what is
    /// left in it is moved to its start.
    fn fill(&mut self, reader: &mut dyn Read, buffer: &mut Vec<u8>) -> io::Result<()> {
        if self.filled == buffer.len() && buffer.len() < BUFFER_BYTES {
            buffer.resize((2 * buffer.len()).clamp(BUFFER_BYTES_LEAST, BUFFER_BYTES), 0);
        } else if self.filled == buffer.len() {
            buffer.copy_within(self.start..self.filled, 0);
            self.filled -= self.start;
            self.start = 0;
        }
        let until = buffer.len().min(self.filled + READ_BYTES);
        loop {
            match reader.read(&mut buffer[self.filled..until]) {
                Ok(count) => {
                    self.filled += count;
                    self.at_end = count == 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `data` to its end, cutting as the thread does; gives the chunks.
    fn read_all(mut data: &[u8], buffer: &mut Vec<u8>) -> Vec<Vec<u8>> {
        let (mut cutting, mut chunks) = (Cutting::default(), Vec::new());
        while !cutting.at_end {
            cutting.fill(&mut data, buffer).expect("bytes");
            let (at_end, filled) = (cutting.at_end, cutting.filled);
            while let Some(length) = cutting.chunker.cut(&buffer[cutting.start..filled], at_end) {
                chunks.push(buffer[cutting.start..cutting.start + length].to_vec());
                cutting.start += length;
            }
        }
        chunks
    }

    #[test]
    fn the_buffer_is_as_large_as_what_is_read_needs() {
        let mut data = vec![0; 3 * BUFFER_BYTES + 1];
        crate::clock::Rng::seeded(1).fill(&mut data);
        let mut buffer = Vec::new();
        assert_eq!(read_all(&data[..10_000], &mut buffer).concat(), &data[..10_000]);
        assert_eq!(buffer.len(), BUFFER_BYTES_LEAST);
        let grown = read_all(&data, &mut buffer);
        assert!(grown.concat() == data, "other bytes");
        assert_eq!(buffer.len(), BUFFER_BYTES);
        // Where it is cut does not depend on how large the buffer was.
        assert!(read_all(&data, &mut buffer) == grown, "other chunks");
        for bytes in [0, BUFFER_BYTES_LEAST - 1, BUFFER_BYTES_LEAST, BUFFER_BYTES_LEAST + 1, BUFFER_BYTES] {
            assert!(read_all(&data[..bytes], &mut Vec::new()).concat() == data[..bytes], "{bytes}");
        }
    }
}
