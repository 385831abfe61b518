//! Bytes ↔ messages: the only module that knows bytes, and the only user of bincode. Pure.
//!
//! Three kinds of bytes leave a node: [`datagram`]s (discovery), [`frame`]s (everything over TLS)
//! and [`record`]s (the database). Each is described byte by byte in `docs/protocol.md`, whose
//! examples are this module's test vectors.
//!
//! Invariant: decoding is total and bounded. It never panics, never allocates more than it has
//! bytes for, refuses what is left over at the end, and a value that it gives is valid.

pub mod channel;
mod codec;
pub mod datagram;
pub mod frame;
pub mod mail;
pub mod message;
pub mod record;
pub mod run;
pub mod sync;
pub mod transfer;

pub use bincode::{Decode, Encode};
pub use codec::{DecodeError, decode, encode};

/// The protocol this program speaks, in datagrams and frames. A node speaks with the one before.
///
/// | version | change |
/// |---|---|
/// | 1 | the first |
pub const PROTOCOL_VERSION: u8 = 1;
