//! Records of the database: an entry of the catalog, a content held here.
//!
//! Each starts with a version byte, so that a later program can read what this one wrote.

use super::mail::MailWrite;
use super::{DecodeError, decode, encode};
use crate::types::{ChunkHash, FileName, InstanceId, Version};
use bincode::{Decode, Encode};

/// First byte of every record.
pub const RECORD_VERSION: u8 = 1;

/// A change of the durable catalog; several are committed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogWrite {
    /// These are all versions of the name; none removes it.
    Name {
        /// Which.
        name: FileName,
        /// All its versions.
        versions: Vec<Version>,
    },
    /// All dots of `instance` up to `counter` have been seen.
    Prefix {
        /// Whose.
        instance: InstanceId,
        /// Up to here.
        counter: u64,
    },
    /// The dots seen beyond the prefixes, all of them.
    Extra {
        /// Sorted.
        dots: Vec<crate::types::Dot>,
    },
    /// A row of the table of letters.
    Mail(MailWrite),
}

/// A content held here, as the database has it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ContentRecord {
    /// Size in bytes.
    pub size: u64,
    /// Whether its bytes are in the database rather than in a file.
    pub inline: bool,
    /// Chunks in its manifest.
    pub chunks: u32,
    /// The chunk of a content that is one chunk, the usual case: its page follows from it and
    /// needs no row of its own.
    pub single: Option<ChunkHash>,
    /// When it became durable, wall milliseconds.
    pub stored_ms: u64,
    /// When it was last hashed whole, wall milliseconds.
    pub verified_ms: u64,
}

/// A content that is no copy any more, and whose bytes are kept a while.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AsideRecord {
    /// As it was when it was held.
    pub record: ContentRecord,
    /// Since when, wall milliseconds.
    pub since_ms: u64,
}

/// The bytes of a record.
#[must_use]
pub fn encode_record<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = vec![RECORD_VERSION];
    bytes.extend_from_slice(&encode(value));
    bytes
}

/// Reads a record.
///
/// # Errors
/// When it is of a newer version or malformed.
pub fn decode_record<T: Decode<()>>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&RECORD_VERSION, rest)) => decode(rest),
        Some((&version, _)) => Err(DecodeError::Version(version)),
        None => Err(DecodeError::Malformed("an empty record".into())),
    }
}
