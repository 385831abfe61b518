//! Letters as files: the folders that users and their programs see, the outbox that is watched, the
//! hooks that are run. Shell, but for [`mailbox`], what a node knows of all letters, which is pure.
//!
//! | file | what |
//! |---|---|
//! | [`mailbox`] | what is known of letters (pure) |
//! | [`letter_file`] | the document and the name of a letter's file |
//! | [`folders`], [`listing`] | the folders: in the inbox exactly once; listing, retrying, removing |
//! | [`records`] | what became of a letter's hook |
//! | [`watching`] | the system's word about files that change |
//! | [`outbox`] | watches what users drop and has it sent |
//! | `disk` | whole files, durable folders |
//! | [`hook_file`] | which program is the hook of a type, and whether it may be run |
//! | [`hooks`], [`process`] | runs a program for each letter, once it lies in the inbox |
//! | [`mailbox`] | what is known of letters everywhere (pure) |
//! | [`cleaning`] | removes what was kept for long enough |
//!
//! Invariant: what a folder shows is whole (written elsewhere, synced, renamed), and what a letter
//! waits for is on the disk before it is waited for, so a kill at any point loses nothing.

pub mod cleaning;
mod disk;
pub mod folders;
pub mod hook_file;
pub mod hooks;
pub mod letter_file;
pub mod listing;
pub mod mailbox;
pub mod outbox;
pub mod process;
pub mod records;
pub mod watching;

#[cfg(test)]
mod fixture;

use crate::limits::{HOOK_TIMEOUT_DEFAULT, HOOK_TRIES_DEFAULT, HOOKS_AT_ONCE_DEFAULT, SENT_TTL_DEFAULT};
use std::path::PathBuf;
use std::time::Duration;

/// Settings of what a node does with letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long letters that were sent are kept; `None`: for ever.
    pub sent_ttl: Option<Duration>,
    /// The same of letters that came.
    pub inbox_ttl: Option<Duration>,
    /// How long a hook may run.
    pub hook_timeout: Duration,
    /// How often a hook is tried, at least once.
    pub hook_tries: u32,
    /// How many hooks run at once, at least one.
    pub hooks_at_once: u32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sent_ttl: Some(SENT_TTL_DEFAULT),
            inbox_ttl: None,
            hook_timeout: HOOK_TIMEOUT_DEFAULT,
            hook_tries: HOOK_TRIES_DEFAULT,
            hooks_at_once: HOOKS_AT_ONCE_DEFAULT,
        }
    }
}

/// Why the folders cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MessagesError {
    /// The disk refuses.
    #[error("the folder `{}` for messages cannot be used", path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something else lies in its place.
    #[error("`{}` is no folder, and messages need one there", path.display())]
    NotFolder {
        /// Which.
        path: PathBuf,
    },
    /// Somebody else could put hooks there.
    #[error("the folder `{}` for messages belongs to another user", path.display())]
    NotOurs {
        /// Which.
        path: PathBuf,
    },
}

impl MessagesError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            MessagesError::Disk { .. } => {
                "look at who owns it and its permissions, and at the room on the disk"
            }
            MessagesError::NotFolder { .. } => "move it away and start again",
            MessagesError::NotOurs { .. } => "give it to the user that thorp runs as, or move it away",
        }
    }
}

/// Waits until the node ends.
async fn stopped(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // One whose node is gone has ended as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}
