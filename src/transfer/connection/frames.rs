//! The two directions of a connection.
//!
//! Invariant: nothing is allocated for a peer beyond what it has really sent: a length is checked
//! before it is believed, and the buffer grows with the bytes that arrive.

use super::{ConnectionError, Stream, refused};
use crate::limits::{
    FRAME_PAYLOAD_BYTES_MAX, HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, READ_BUFFER_BYTES, WRITE_BUFFER_BYTES,
};
use crate::wire::frame::{FRAME_PREFIX_BYTES, FramePrefix};
use crate::wire::{Decode, DecodeError, Encode, decode, encode};
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

/// The receiving direction.
pub struct FrameReader {
    stream: ReadHalf<Stream>,
    pub(super) buffer: BytesMut,
    address: SocketAddr,
    timeout: Option<Duration>,
    /// Largest payload that is taken.
    payload_bytes_max: usize,
    /// The largest frame that came: room for one is not asked for on a mere announcement.
    largest: usize,
    received: u64,
}

impl FrameReader {
    /// `buffer` has what was read behind the hello.
    pub(super) fn new(stream: ReadHalf<Stream>, buffer: BytesMut, address: SocketAddr) -> FrameReader {
        FrameReader {
            stream,
            buffer,
            address,
            timeout: Some(IDLE_TIMEOUT),
            payload_bytes_max: FRAME_PAYLOAD_BYTES_MAX,
            largest: 0,
            received: 0,
        }
    }

    /// Bytes received so far: shows that a large frame is on its way before it is whole.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How long the peer may be silent in one read. A large frame that keeps arriving is not
    /// silence. Starts as [`IDLE_TIMEOUT`]; `None` waits for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Frames with a payload make no sense here: one is refused before it is read.
    pub fn refuse_payloads(&mut self) {
        self.payload_bytes_max = 0;
    }

    /// Whose frames these are.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next frame and its payload; `None` when the peer has closed between two frames.
    ///
    /// Cancel-safe: a partly received frame stays in the buffer, and the next call goes on.
    ///
    /// # Errors
    /// [`ConnectionError::Timeout`] after silence (the connection can still be read),
    /// `Malformed` for lengths over the limits and undecodable heads, `Broken` for the rest.
    pub async fn read<T: Decode<()>>(&mut self) -> Result<Option<(T, Bytes)>, ConnectionError> {
        let address = self.address;
        let malformed = |source| ConnectionError::Malformed { address, source };
        loop {
            let mut whole = FRAME_PREFIX_BYTES;
            if let Some(prefix) = self.buffer.first_chunk::<FRAME_PREFIX_BYTES>() {
                let prefix = FramePrefix::decode(*prefix).map_err(malformed)?;
                let (bytes, limit) = (prefix.payload_bytes, self.payload_bytes_max);
                if bytes > limit {
                    return Err(malformed(DecodeError::TooLong { bytes, limit }));
                }
                whole += prefix.head_bytes + prefix.payload_bytes;
                if self.buffer.len() >= whole {
                    self.largest = self.largest.max(whole);
                    self.buffer.advance(FRAME_PREFIX_BYTES);
                    let head = decode(&self.buffer[..prefix.head_bytes]).map_err(malformed)?;
                    self.buffer.advance(prefix.head_bytes);
                    let payload = self.take(prefix.payload_bytes);
                    return Ok(Some((head, payload)));
                }
            }
            if self.fill(whole).await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let source = io::ErrorKind::UnexpectedEof.into();
                return Err(ConnectionError::Broken { address, source });
            }
        }
    }

    /// Cuts the payload off the buffer. A small one is copied, so that it does not keep the whole
    /// buffer alive for as long as it waits somewhere.
    fn take(&mut self, bytes: usize) -> Bytes {
        if bytes >= READ_BUFFER_BYTES {
            return self.buffer.split_to(bytes).freeze();
        }
        let payload = Bytes::copy_from_slice(&self.buffer[..bytes]);
        self.buffer.advance(bytes);
        payload
    }

    /// Reads once, with room for at most `whole` bytes of the frame that is under way.
    async fn fill(&mut self, whole: usize) -> Result<usize, ConnectionError> {
        let address = self.address;
        if self.buffer.capacity() - self.buffer.len() < READ_BUFFER_BYTES / 4 {
            // Doubling copies each byte once on average; a size that has been seen is taken at once.
            let wanted = (2 * self.buffer.len()).max(whole.min(self.largest)).min(whole);
            let more = wanted.saturating_sub(self.buffer.len()).max(READ_BUFFER_BYTES);
            self.buffer.reserve(more.min(FRAME_PAYLOAD_BYTES_MAX));
        }
        let reading = self.stream.read_buf(&mut self.buffer);
        let result = match self.timeout {
            Some(limit) => timeout(limit, reading).await.map_err(|_| ConnectionError::Timeout { address })?,
            None => reading.await,
        };
        if let Ok(count) = result {
            self.received += count as u64;
        }
        result.or_else(|error| match error.kind() {
            // The peer closed TCP without the TLS goodbye. Between two frames that is an end.
            io::ErrorKind::UnexpectedEof => Ok(0),
            _ => Err(refused(address, error)),
        })
    }
}

/// The sending direction. Frames are collected and go out together: call [`FrameWriter::flush`]
/// when there is nothing more to send for now.
pub struct FrameWriter {
    stream: WriteHalf<Stream>,
    buffer: BytesMut,
    address: SocketAddr,
    timeout: Option<Duration>,
}

impl FrameWriter {
    pub(super) fn new(stream: WriteHalf<Stream>, address: SocketAddr) -> FrameWriter {
        let buffer = BytesMut::with_capacity(WRITE_BUFFER_BYTES);
        FrameWriter { stream, buffer, address, timeout: Some(IDLE_TIMEOUT) }
    }

    /// How long the peer may take no byte at all. Starts as [`IDLE_TIMEOUT`].
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Whom the frames go to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a frame with its payload (at most [`FRAME_PAYLOAD_BYTES_MAX`] bytes). Small ones are
    /// collected, a large payload goes straight to TLS. Not cancel-safe: a frame that was written
    /// in part makes the connection useless.
    ///
    /// # Errors
    /// `Timeout` when the peer takes nothing, `Broken` when it is gone.
    pub async fn write<T: Encode>(&mut self, frame: &T, payload: &[u8]) -> Result<(), ConnectionError> {
        let head = encode(frame);
        let prefix = FramePrefix { head_bytes: head.len(), payload_bytes: payload.len() };
        let small = FRAME_PREFIX_BYTES + head.len();
        if !self.buffer.is_empty() && self.buffer.len() + small + payload.len() > WRITE_BUFFER_BYTES {
            self.send_buffer().await?;
        }
        self.buffer.extend_from_slice(&prefix.encode());
        self.buffer.extend_from_slice(&head);
        if small + payload.len() <= WRITE_BUFFER_BYTES {
            self.buffer.extend_from_slice(payload);
            return Ok(());
        }
        self.send_buffer().await?;
        self.send(payload).await
    }

    /// Begins a frame whose payload has `payload_bytes` bytes and comes piece by piece, with
    /// [`FrameWriter::write_piece`]. What was begun and is not ended makes the connection useless.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub async fn begin<T: Encode>(&mut self, frame: &T, payload_bytes: usize) -> Result<(), ConnectionError> {
        let head = encode(frame);
        let prefix = FramePrefix { head_bytes: head.len(), payload_bytes };
        self.buffer.extend_from_slice(&prefix.encode());
        self.buffer.extend_from_slice(&head);
        self.send_buffer().await
    }

    /// Writes the next piece of a payload.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub async fn write_piece(&mut self, piece: &[u8]) -> Result<(), ConnectionError> {
        self.send(piece).await
    }

    /// Sends what was collected.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        self.send_buffer().await?;
        let (address, flushing) = (self.address, self.stream.flush());
        let result = match self.timeout {
            Some(limit) => {
                timeout(limit, flushing).await.map_err(|_| ConnectionError::Timeout { address })?
            }
            None => flushing.await,
        };
        result.map_err(|error| refused(address, error))
    }

    /// Sends what was collected and ends this direction properly.
    ///
    /// # Errors
    /// As [`FrameWriter::write`].
    pub async fn close(&mut self) -> Result<(), ConnectionError> {
        self.flush().await?;
        let address = self.address;
        match timeout(HANDSHAKE_TIMEOUT, self.stream.shutdown()).await {
            Ok(result) => result.map_err(|source| ConnectionError::Broken { address, source }),
            Err(_) => Err(ConnectionError::Timeout { address }),
        }
    }

    async fn send_buffer(&mut self) -> Result<(), ConnectionError> {
        let bytes = self.buffer.split();
        let result = self.send(&bytes).await;
        drop(bytes);
        // Nothing else refers to the buffer now, so its memory is used again.
        self.buffer.reserve(WRITE_BUFFER_BYTES);
        result
    }

    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        let address = self.address;
        while !bytes.is_empty() {
            let writing = self.stream.write(bytes);
            let written = match self.timeout {
                Some(limit) => {
                    timeout(limit, writing).await.map_err(|_| ConnectionError::Timeout { address })?
                }
                None => writing.await,
            };
            match written {
                Ok(0) => {
                    let source = io::ErrorKind::WriteZero.into();
                    return Err(ConnectionError::Broken { address, source });
                }
                Ok(count) => bytes = &bytes[count..],
                Err(error) => return Err(refused(address, error)),
            }
        }
        Ok(())
    }
}
