//! What the catalog holds: versions of names, each with the dot under which it was minted.

use crate::types::{ChunkHash, ContentId, InstanceId};

/// One event of one instance: minted once, ever, by the acting proxy. Ordered by counter first,
/// so that of two concurrent versions the one from the longer history sorts last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Position in the instance's sequence, from 1.
    pub counter: u64,
    /// Who minted it.
    pub instance: InstanceId,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A file: its content and size in bytes.
    File {
        /// Where its bytes are found.
        content: ContentId,
        /// Size in bytes.
        size: u64,
    },
    /// A symbolic link and where it points, as text that is never followed by us.
    Symlink {
        /// At most [`crate::limits::SYMLINK_BYTES_MAX`] bytes.
        target: Box<str>,
    },
    /// An empty folder; a folder with files needs no entry.
    Folder,
}

impl Body {
    /// The content and size of a file.
    #[must_use]
    pub fn content(&self) -> Option<(ContentId, u64)> {
        match self {
            Body::File { content, size } => Some((*content, *size)),
            Body::Symlink { .. } | Body::Folder => None,
        }
    }
}

/// The wanted number of copies: a multi-value register. Each setting has a dot of its own; those
/// that were set concurrently stand side by side and the greatest wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The number the version was put with, in force while `later` is empty; its dot is the
    /// version's own.
    pub initial: u8,
    /// Settings made after the put, sorted by dot; boxed because they are rare.
    #[allow(clippy::box_collection, reason = "8 bytes in each of a million versions instead of 24")]
    pub later: Option<Box<Vec<(Dot, u8)>>>,
}

impl Wanted {
    /// As put, never changed.
    #[must_use]
    pub fn new(initial: u8) -> Wanted {
        Wanted { initial, later: None }
    }

    /// The number in force.
    #[must_use]
    pub fn count(&self) -> u8 {
        match &self.later {
            Some(settings) => settings.iter().map(|(_, count)| *count).max().unwrap_or(self.initial),
            None => self.initial,
        }
    }
}

/// One version of a name. When it is removed or replaced, a version with a new dot and the same body
/// takes its place in the trash; that one is never live again (to restore is to put anew).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Minted for this version alone.
    pub dot: Dot,
    /// What it is.
    pub body: Body,
    /// Permission bits, the low 12 of `st_mode`.
    pub mode: u16,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// How many copies are wanted.
    pub wanted: Wanted,
    /// 0 while it is live; else it is in the trash, and was removed or replaced at this time,
    /// seconds since 1970 by the clock of the proxy that did it.
    pub removed_s: u32,
}

impl Version {
    /// Whether the name stands for it, and not only the trash has it.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.removed_s == 0
    }
}

/// A chunk of a content: its hash and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRef {
    /// SHA-256 of the bytes.
    pub hash: ChunkHash,
    /// Length in bytes, 1 to [`crate::limits::CHUNK_BYTES_MAX`].
    pub bytes: u32,
}
