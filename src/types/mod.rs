//! Shared nouns: what the protocol, the store and the commands talk about. Pure.
//!
//! Invariant: a value that exists is valid. Names, labels and counts are parsed once, where they
//! come in (an argument, a frame, a disk), and never checked again. No noun knows its bytes on the
//! wire: that is [`crate::wire`]'s.

mod channel;
mod dense_map;
mod digest;
mod ids;
mod letter;
mod name;
mod node;
mod origin;
mod tree_path;
mod version;
mod workspace;

pub use channel::{ChannelKey, ClientId, ClientTime, ClientToken};
pub use dense_map::{ContentMap, ContentSet, DenseMap};
pub use digest::Digest;
pub use ids::{ChunkHash, ContentId, DiskId, InstanceId, JobId, Lineage, MachineId, NodeId};
pub use letter::{
    Letter, LetterId, LetterPlace, LetterType, NewLetter, OWN_TYPES, Priority, StreamId, is_label,
};
pub use name::{FileName, NameError};
pub use node::{DiskState, NodeRoute, Pin, Presence, Term};
pub use origin::Origin;
pub use tree_path::{TreePath, TreePathError};
pub use version::{Body, ChunkRef, Dot, Version, Wanted};
pub use workspace::WorkspaceName;
