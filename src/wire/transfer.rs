//! Frames of a transfer: the put chain and the fetch of contents. See `docs/protocol.md`,
//! Transfers, and [`crate::transfer`] for who sends what when.

use crate::types::{ChunkRef, ContentId, NodeId, NodeRoute};
use bincode::{Decode, Encode};

/// One frame of a transfer connection. Chunk and data bytes are the frame's payload.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum TransferFrame {
    /// Sender → holder: be the first of this chain, the rest comes after you.
    ChainOpen {
        /// The holders after the receiver, in order.
        onward: Vec<NodeRoute>,
    },
    /// Holder → sender: the chain stands as far as `nodes`.
    ChainReady {
        /// Who is in the chain, the answering holder first.
        nodes: Vec<NodeId>,
        /// Who could not be reached.
        failed: Vec<NodeId>,
    },
    /// Sender → holder: the next chunks of a content, in order.
    Offer {
        /// Number of the content within this chain, counted from 0.
        content_no: u32,
        /// Index of the first chunk of this offer.
        first: u32,
        /// The chunks.
        chunks: Vec<ChunkRef>,
        /// Set on the last offer of a content.
        end: Option<ContentEnd>,
    },
    /// Holder → sender: which of the offered chunks must travel, in the order of the offer.
    Need {
        /// As in the offer.
        content_no: u32,
        /// As in the offer.
        first: u32,
        /// One a chunk.
        needed: Vec<bool>,
    },
    /// Sender → holder: a needed chunk; its bytes are the payload.
    Chunk {
        /// As in the offer.
        content_no: u32,
        /// Index of the chunk in its content.
        index: u32,
    },
    /// Holder → sender: this content is durable on `nodes`.
    Stored {
        /// As in the offer.
        content_no: u32,
        /// Who has it, the answering holder first.
        nodes: Vec<NodeId>,
        /// Who dropped out of the chain.
        failed: Vec<NodeId>,
    },
    /// Either way: still at it (syncing, or reading a slow pipe), do not give up.
    Working,
    /// Either way: this connection is of no use any more, and why.
    Failed {
        /// For programs.
        code: super::message::ErrorCode,
        /// For people.
        message: Box<str>,
    },
    /// Reader → holder: send me this part of a content.
    Fetch {
        /// Chosen by the reader, comes back with the data.
        tag: u32,
        /// Of which content.
        content: ContentId,
        /// Which part.
        part: FetchPart,
    },
    /// Holder → reader: the part asked for is the payload.
    Data {
        /// As in the fetch.
        tag: u32,
    },
    /// Holder → reader: I cannot give that.
    Missing {
        /// As in the fetch.
        tag: u32,
        /// Why.
        message: Box<str>,
    },
    /// Sender → holder: this content cannot be finished (its file changed while it was read);
    /// nothing more comes for it, and nothing is answered.
    Abandon {
        /// As in the offer.
        content_no: u32,
    },
    /// Reader → holder: what you gave of this content is wrong; look at your copy. Answered, in its
    /// turn among the fetches, by a [`TransferFrame::Data`] without payload.
    Doubt {
        /// Chosen by the reader, comes back with the answer.
        tag: u32,
        /// Of which content.
        content: ContentId,
    },
    /// Command → holder: how are your copies of these contents?
    Verify {
        /// At most [`crate::limits::VERIFY_CONTENTS_MAX`].
        contents: Vec<ContentId>,
        /// Hash them anew; else tell when that was last done.
        anew: bool,
    },
    /// Holder → command: one of them, in the order of the question.
    Verified {
        /// Which.
        content: ContentId,
        /// How the copy is.
        state: CopyState,
        /// When it was last hashed whole, wall milliseconds; 0 if that is not known.
        verified_ms: u64,
    },
    /// Command → node, within a sync: that was the last content; what follows is a
    /// [`SyncFrame`](super::sync::SyncFrame) again.
    ContentsEnd,
}

/// How a copy is, after all of it was hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum CopyState {
    /// What it should be.
    Whole,
    /// It was damaged; it is put aside and no longer held.
    Bad,
    /// Not held.
    Missing,
    /// It could not be read, for a reason that says nothing of the copy.
    Unreadable,
}

/// What ends a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ContentEnd {
    /// The id that follows from all its chunks.
    pub content: ContentId,
    /// Size in bytes.
    pub size: u64,
}

/// Part of a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum FetchPart {
    /// The manifest's root: the hashes of its pages, 32 bytes each.
    Root,
    /// One page of the manifest: 36 bytes a chunk.
    Page(u32),
    /// A run of bytes, at most one chunk long.
    Bytes {
        /// From this offset.
        offset: u64,
        /// So many.
        bytes: u32,
    },
}
