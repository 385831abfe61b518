//! Where fetched bytes go. A sink is used by one thread that may block.

use crate::limits::STREAM_AHEAD_BYTES;
use crate::store::StoreError;
use crate::types::ChunkRef;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Why bytes could not be put where they belong.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file operation failed.
    #[error("{path}")]
    File {
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else is there already.
    #[error("{path} exists and is different")]
    Exists {
        /// What is in the way.
        path: PathBuf,
    },
    /// Another get is writing the same file now.
    #[error("{path} is being written by another get")]
    Busy {
        /// The file that both write.
        path: PathBuf,
    },
    /// The pipe is closed, or failed.
    #[error("cannot write the output")]
    Stream {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes the chunks of one content. Chunks were checked before they are written, and each is
/// written once; the order is any.
pub trait Sink: Send {
    /// Which of these chunks, the first with this index and offset, must travel; the others are
    /// there already and were checked. Called for all chunks of a content, in order.
    ///
    /// # Errors
    /// When the place cannot be prepared.
    fn offer(&mut self, first: u32, offset: u64, chunks: &[ChunkRef]) -> Result<Vec<bool>, SinkError>;

    /// Writes a chunk that was offered and must travel.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&mut self, index: u32, offset: u64, bytes: &Bytes) -> Result<(), SinkError>;

    /// All chunks are there: makes the content appear, durably.
    ///
    /// # Errors
    /// When that fails; nothing appears then.
    fn finish(self: Box<Self>) -> Result<(), SinkError>;

    /// How far beyond the first missing byte chunks may come, in bytes; `None`: any distance.
    fn ahead(&self) -> Option<u64> {
        None
    }
}

/// Writes in order to something that only goes forward: standard output.
pub struct StreamSink<W> {
    output: W,
    written: u64,
    /// Chunks beyond `written`, at most [`STREAM_AHEAD_BYTES`].
    waiting: BTreeMap<u64, Bytes>,
}

impl<W: Write + Send> StreamSink<W> {
    /// Writes to `output`.
    #[must_use]
    pub fn new(output: W) -> StreamSink<W> {
        StreamSink { output, written: 0, waiting: BTreeMap::new() }
    }
}

impl<W: Write + Send> Sink for StreamSink<W> {
    fn offer(&mut self, _: u32, _: u64, chunks: &[ChunkRef]) -> Result<Vec<bool>, SinkError> {
        Ok(vec![true; chunks.len()])
    }

    fn write(&mut self, _: u32, offset: u64, bytes: &Bytes) -> Result<(), SinkError> {
        self.waiting.insert(offset, bytes.clone());
        while let Some(bytes) = self.waiting.remove(&self.written) {
            self.output.write_all(&bytes).map_err(|source| SinkError::Stream { source })?;
            self.written += bytes.len() as u64;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<(), SinkError> {
        self.output.flush().map_err(|source| SinkError::Stream { source })
    }

    fn ahead(&self) -> Option<u64> {
        Some(STREAM_AHEAD_BYTES)
    }
}
