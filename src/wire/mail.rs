//! Letters between nodes and on disk: what is told of streams, and the rows of the database. See
//! `docs/protocol.md`, Letters.

use crate::types::{Letter, LetterId, LetterPlace, NodeId, StreamId};
use bincode::{Decode, Encode};

/// What is known of a stream besides the letters themselves. Two of one stream merge: the later
/// time, all that either has done with, of each cursor the higher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct StreamState {
    /// The last of its letters expires then, milliseconds since 1970.
    pub until_ms: u64,
    /// Numbers, first and last of each span, that nobody needs any more: delivered to all
    /// their addressees, or expired. Sorted, with gaps between them.
    pub done: Vec<(u64, u64)>,
    /// Up to which number each addressee has got what is meant for it. Sorted by node.
    pub cursors: Vec<(NodeId, u64)>,
}

/// A stream, as told to find out what the other lacks.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StreamSummary {
    /// Which.
    pub stream: StreamId,
    /// What is known of it.
    pub state: StreamState,
    /// Numbers of the letters held, in spans as in [`StreamState::done`].
    pub held: Vec<(u64, u64)>,
}

/// A machine that gets letters, whether it is here or not.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RosterRow {
    /// Who.
    pub node: NodeId,
    /// Its display name, as last heard.
    pub name: Box<str>,
    /// The day when it was last heard, counted from 1970.
    pub day: u32,
}

/// A letter that was taken, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PostedLetter {
    /// Which.
    pub id: LetterId,
    /// Who gets it.
    pub addressees: Vec<Addressee>,
}

/// One who gets a letter.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Addressee {
    /// Who.
    pub node: NodeId,
    /// Its display name.
    pub name: Box<str>,
    /// Whether it is up.
    pub up: bool,
    /// Whether the letter is in its inbox.
    pub delivered: bool,
}

/// The key of a row of the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum MailKey {
    /// A letter.
    Letter(LetterPlace),
    /// A stream.
    Stream(StreamId),
    /// A letter that was delivered here.
    Seen(LetterId),
    /// A machine.
    Roster(NodeId),
}

/// A row of the database; it has its key in it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MailRow {
    /// A letter that waits for somebody.
    Letter {
        /// Where it stands.
        place: LetterPlace,
        /// The letter.
        letter: Letter,
    },
    /// A stream.
    Stream {
        /// Which.
        stream: StreamId,
        /// What is known of it.
        state: StreamState,
    },
    /// A letter that was delivered here: never again.
    Seen {
        /// Which.
        id: LetterId,
        /// Until when it could come again, milliseconds since 1970.
        until_ms: u64,
    },
    /// A machine.
    Roster(RosterRow),
}

impl MailRow {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> MailKey {
        match self {
            MailRow::Letter { place, .. } => MailKey::Letter(*place),
            MailRow::Stream { stream, .. } => MailKey::Stream(*stream),
            MailRow::Seen { id, .. } => MailKey::Seen(*id),
            MailRow::Roster(row) => MailKey::Roster(row.node),
        }
    }
}

/// A change of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailWrite {
    /// This row is there from now on.
    Put(Box<MailRow>),
    /// No row of this key is.
    Remove(MailKey),
}

impl MailWrite {
    /// The key of the row that it changes.
    #[must_use]
    pub fn key(&self) -> MailKey {
        match self {
            MailWrite::Put(row) => row.key(),
            MailWrite::Remove(key) => key.clone(),
        }
    }
}
