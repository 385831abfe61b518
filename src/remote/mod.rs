//! Build here, run there: folders kept equal on another machine, and programs run in them. Shell.
//!
//! | file | what it does |
//! |---|---|
//! | [`consent`] | who may do any of it |
//! | [`workspace`] | the folders on this node's disk, and nothing outside them |
//! | [`sync`] | a node's side of a sync |
//! | [`hashing`] | what a file on a disk is |
//! | [`job`] | programs that run for others |
//! | [`supervisor`] | the process that watches over one program |

mod account;
pub mod consent;
pub mod hashing;
pub mod job;
pub mod supervisor;
pub mod sync;
pub mod workspace;

pub use consent::Consent;
