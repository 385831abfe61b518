//! Frames of a sync: a folder of a node is made equal to one of a command. See `docs/protocol.md`,
//! Folders.
//!
//! Invariant: a path that comes out of here stays below the folder it is meant for.

use super::message::ErrorCode;
use super::run::Denial;
use crate::types::{ChunkRef, ContentId, TreePath, WorkspaceName};
use bincode::{Decode, Encode};

/// One frame of a connection for a sync; between [`SyncFrame::Contents`] and
/// [`ContentsEnd`](super::transfer::TransferFrame::ContentsEnd) there are frames of a transfer instead.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SyncFrame {
    /// Command → node: this workspace is to be made equal.
    Open {
        /// Which; it is made if it is not there.
        workspace: WorkspaceName,
    },
    /// Node → command: it is yours until the connection ends.
    Opened,
    /// Node → command: you may not.
    Denied {
        /// Why.
        why: Denial,
    },
    /// Either way: it cannot be done.
    Failed {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: Box<str>,
    },
    /// Either way: still at it.
    Working,
    /// Command → node: what is to be there, sorted; a folder before what is in it.
    Tree {
        /// The next of it.
        entries: Vec<TreeEntry>,
    },
    /// Command → node: that was all.
    TreeEnd {
        /// Do not trust sizes and times: look at the bytes of every file.
        checksum: bool,
    },
    /// Node → command: what is different.
    Plan {
        /// Of what is to be there.
        differences: Vec<Difference>,
        /// What is there beyond it, sorted.
        surplus: Vec<Surplus>,
    },
    /// Node → command: that was all.
    PlanEnd,
    /// Command → node: contents follow.
    Contents,
    /// Command → node: these files are these contents.
    Placed {
        /// The next of them.
        files: Vec<Placed>,
    },
    /// Command → node: this is to go, of what you have beyond the tree.
    Remove {
        /// Positions in what [`SyncFrame::Plan`] listed as surplus.
        surplus: Vec<u32>,
    },
    /// Command → node: do it.
    Apply,
    /// Node → command: this one could not be done.
    Problem {
        /// Which.
        path: TreePath,
        /// What the system said.
        message: Box<str>,
    },
    /// Node → command: the rest is done.
    Applied,
}

/// Something that is to be in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TreeEntry {
    /// Where.
    pub path: TreePath,
    /// What.
    pub item: TreeItem,
}

/// What it is. Only the permission bits of a mode are looked at.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TreeItem {
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// When it was changed, nanoseconds since 1970.
        modified_ns: i64,
        /// Permission bits.
        mode: u16,
        /// It was changed so lately that it may change again without a new time.
        young: bool,
    },
    /// A folder.
    Folder {
        /// Permission bits.
        mode: u16,
    },
    /// A symbolic link that stays inside.
    Symlink {
        /// What it says.
        target: Vec<u8>,
    },
}

/// An entry of the tree that is not there, or not so.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Difference {
    /// Its position in the tree.
    pub at: u32,
    /// What is different.
    pub kind: DifferenceKind,
    /// The content that is there, of a file of the same size.
    pub holds: Option<ContentId>,
}

/// How something is different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum DifferenceKind {
    /// Nothing is there.
    New,
    /// Something else is there, or may be.
    Content,
    /// It is there with other permission bits.
    Attributes,
}

/// Something that is there and not in the tree.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Surplus {
    /// Where.
    pub path: TreePath,
    /// Whether it is a folder.
    pub folder: bool,
}

/// Which content a file is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Placed {
    /// Its position in the tree.
    pub at: u32,
    /// What it is.
    pub content: ContentId,
    /// When it was changed, as of when it was read.
    pub modified_ns: i64,
}

/// One record of a workspace's index on its disk: a file, followed by its chunks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum IndexRecord {
    /// A file of which the chunks are known.
    File(IndexedFile),
    /// The next chunks of the file before.
    Chunks(Vec<ChunkRef>),
    /// That was all.
    End,
}

/// What is known of a file, for as long as it has not been touched.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct IndexedFile {
    /// Where it is.
    pub path: TreePath,
    /// How it looked right after it was written or hashed.
    pub stamp: Stamp,
    /// What it is.
    pub content: ContentId,
    /// It is to be offered again: its source may have changed without a new time.
    pub young: bool,
}

/// What changes when somebody touches a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When its bytes changed, nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about it changed.
    pub changed_ns: i64,
    /// Its inode.
    pub inode: u64,
}

/// Adds a record to the bytes of an index: its length (u32 LE), then itself.
pub fn append_record(bytes: &mut Vec<u8>, record: &IndexRecord) {
    let record = super::encode(record);
    bytes.extend_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&record);
}

/// The first record of these bytes, and the bytes after it; `None` if there is no whole and valid one.
#[must_use]
pub fn split_record(bytes: &[u8]) -> Option<(IndexRecord, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((super::decode(record).ok()?, rest))
}
