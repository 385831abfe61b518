//! Programs run for others. See `docs/protocol.md`, Running programs.

use bincode::{Decode, Encode};

/// Why a node does not take folders and programs from a peer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Denial {
    /// The LAN is open.
    #[error("its cluster has no key, so anybody on the LAN could run programs")]
    Open,
    /// The owner has not allowed it.
    #[error("it was not started with `--allow-run`")]
    NotAllowed,
    /// The owner has not allowed it from there.
    #[error("its owner lets other machines alone run programs (`run_from`)")]
    NotFrom,
    /// The owner has not allowed this program.
    #[error("its owner lets certain programs alone be run (`run_programs`), and `{0}` is none of them")]
    NotProgram(Box<str>),
}
