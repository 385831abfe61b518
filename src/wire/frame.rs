//! Frames: how messages and chunks follow each other on a TLS connection.
//!
//! Layout: head length (u32 LE), payload length (u32 LE), head (bincode), payload (raw bytes).
//! Lengths come first and are checked before anything is read or allocated. A chunk's bytes are
//! the payload, so they are never copied through the codec.

use super::DecodeError;
use crate::limits::{FRAME_HEAD_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};

/// Bytes of the two lengths.
pub const FRAME_PREFIX_BYTES: usize = 8;

/// The lengths that a frame starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramePrefix {
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Bytes of the payload, 0 for most frames.
    pub payload_bytes: usize,
}

impl FramePrefix {
    /// The eight bytes of the prefix.
    #[must_use]
    pub fn encode(self) -> [u8; FRAME_PREFIX_BYTES] {
        let head = u32::try_from(self.head_bytes).unwrap_or(u32::MAX).to_le_bytes();
        let payload = u32::try_from(self.payload_bytes).unwrap_or(u32::MAX).to_le_bytes();
        [head[0], head[1], head[2], head[3], payload[0], payload[1], payload[2], payload[3]]
    }

    /// Reads a prefix.
    ///
    /// # Errors
    /// When a length is over its limit, or there is no head.
    pub fn decode(bytes: [u8; FRAME_PREFIX_BYTES]) -> Result<FramePrefix, DecodeError> {
        let [a, b, c, d, e, f, g, h] = bytes;
        let head_bytes = u32::from_le_bytes([a, b, c, d]) as usize;
        let payload_bytes = u32::from_le_bytes([e, f, g, h]) as usize;
        for (bytes, limit) in [(head_bytes, FRAME_HEAD_BYTES_MAX), (payload_bytes, FRAME_PAYLOAD_BYTES_MAX)] {
            if bytes > limit {
                return Err(DecodeError::TooLong { bytes, limit });
            }
        }
        if head_bytes == 0 {
            return Err(DecodeError::Malformed("a frame without a head".into()));
        }
        Ok(FramePrefix { head_bytes, payload_bytes })
    }
}
