//! Moves contents between nodes. Pure: [`chunking`], [`manifest`], `patience`; the rest is shell.
//!
//! | file | what it is |
//! |---|---|
//! | [`connection`] | TCP + TLS + hellos, then frames |
//! | [`chunking`], [`manifest`] | where a content is cut, and the id that follows from its chunks |
//! | [`chain`] | the sending side of a put; `reading` cuts and hashes ahead of it |
//! | [`holder`] | the serving side; `hop` is its place in a chain |
//! | [`pool`] | connections to holders, requests pipelined |
//! | [`fetch`] | gets: small contents whole, large ones `striped`; `stripes` decides who is asked for which chunk |
//! | `doubts`, [`verify`] | a holder looks at its copies: for a reader that got wrong bytes, for a command |
//! | [`sink`], [`output`], [`pull`] | where fetched bytes go: a pipe, a file, the store |
//!
//! # Put
//!
//! ```text
//! sender                      holder A                      holder B
//!   ChainOpen{[B]}      ->      ChainOpen{[]}         ->
//!                       <-      ChainReady{[A,B]}     <-      ChainReady{[B]}
//!   Offer{0, chunks}    ->      Offer{0, chunks}      ->
//!                       <-      Need{0, which}        <-      Need{0, which}
//!   Chunk{0, i}         ->      Chunk{0, i}           ->
//!   Offer{0, [], end}   ->      Offer{0, [], end}     ->
//!                       <-      Stored{0, [A,B]}      <-      Stored{0, [B]}
//! ```
//!
//! Contents are numbered and follow each other without waiting: offers run ahead of chunks by at
//! most [`OFFER_WINDOW_BYTES`](crate::limits::OFFER_WINDOW_BYTES), and `Stored` comes when both
//! the answering holder and those after it have the content on disk, in any order of contents.
//! Every offer that has chunks is answered by one `Need`. A chunk that a holder has already and
//! the next one lacks is read from its own disk, so it costs the sender nothing.
//!
//! Frames away from the sender may have to wait (for a disk, for a window); frames towards it are
//! always read and never wait for the other direction. Hence no cycle can stand still.
//!
//! A link that breaks or stalls never fails what is before it: the holder goes on alone and names
//! the next holder as failed. Those behind that one are cut off: they are neither in `nodes` nor
//! in `failed`, and can be used again. A holder whose own disk fails says `Failed` and ends.
//!
//! # Get
//!
//! `Fetch` asks for the root, a page, or a run of bytes; the answers come in the order of the
//! requests, each `Data` or `Missing`, with `Working` in between if the disk is slow. A reader that
//! can prove that bytes are wrong says so with `Doubt`, in the same session.

pub mod chain;
pub mod chunking;
pub mod connection;
mod doubts;
pub mod fetch;
pub mod holder;
mod hop;
pub mod manifest;
pub mod output;
mod patience;
pub mod pool;
pub mod pull;
mod reading;
pub mod sink;
mod striped;
mod stripes;
pub mod verify;

pub use doubts::Doubts;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

/// Told how many more bytes of contents are done, whether they travelled or were there already.
pub trait Progress: Send + Sync {
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
}

impl<F: Fn(u64) + Send + Sync> Progress for F {
    fn advance(&self, bytes: u64) {
        self(bytes);
    }
}
