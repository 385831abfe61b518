//! One file a command.
//!
//! A command gets what was typed, already checked, and gives its outcome or why it failed; it
//! prints by the printer alone and never ends the process.

pub mod channel;
pub mod completions;
pub mod config;
pub mod demo;
pub mod drain;
pub mod flush;
pub mod get;
pub mod hash;
pub mod inbox;
pub mod jobs;
pub mod key;
pub mod list;
pub mod ls;
pub mod man;
pub mod merge;
pub mod open;
pub mod put;
pub mod replicas;
pub mod restore;
pub mod retry;
pub mod rm;
pub mod run;
pub mod send;
pub mod share;
pub mod status;
pub mod supervise;
pub mod sync;
pub mod up;
pub mod verify;
pub mod why;
