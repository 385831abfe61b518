//! How the disk is: every call that failed is judged here.
//!
//! | state | what happened | what follows |
//! |---|---|---|
//! | ok | | |
//! | full | no room, no inodes, or over quota | no content is taken until there is room again |
//! | suspect | a write, sync or rename failed, or the disk is read-only | nothing is written any more |
//!
//! Invariant: once suspect, suspect until the folder is opened anew: after a failed sync nobody can
//! tell what is durable, and a second sync that succeeds would be a lie. A process that is short of
//! descriptors or memory says nothing of the disk.

use super::disk::{Call, is_no_file};
use super::error::StoreError;
use crate::types::DiskState;
use rustix::io::Errno;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What all parts of the store know of the disk.
#[derive(Debug, Default)]
pub(super) struct Health {
    suspect: AtomicBool,
    full: AtomicBool,
    stuck: AtomicBool,
    commits: AtomicU64,
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<super::disk::faults::Faults>,
}

impl Health {
    /// That of the data folder `root`.
    pub(super) fn of(root: &Path) -> Health {
        #[cfg(not(test))]
        let _ = root;
        Health {
            #[cfg(test)]
            faults: super::disk::faults::Faults::of(root),
            ..Health::default()
        }
    }

    /// Does one call on `path` and judges its outcome.
    pub(super) fn call<T>(
        &self,
        call: Call,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        #[cfg(test)]
        let result = self.faults.around(call, path, work);
        #[cfg(not(test))]
        let result = work();
        if let Err(error) = &result {
            self.judge(call, path, error);
        }
        result
    }

    fn judge(&self, call: Call, path: &Path, error: &io::Error) {
        if !call.changes() || is_shortage(error) {
            return;
        }
        // What a sync could not write for want of room is lost like after any failed sync; that of a
        // content in the making is thrown away anyway.
        if is_full(error) && (!call.syncs() || call == Call::SyncContent) {
            self.set_full(&format!("{call:?} of {}: {error}", path.display()));
            return;
        }
        // That something is there, is not, or is no file, is for whoever asked.
        let is_answer = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists)
            || is_no_file(error);
        if !is_answer || call.syncs() {
            self.set_suspect(&format!("{call:?} of {}: {error}", path.display()));
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    pub(super) fn set_suspect(&self, why: &str) {
        if !self.suspect.swap(true, Ordering::AcqRel) {
            tracing::error!(
                why,
                "the disk is suspect: nothing is written to it any more until thorp is started again"
            );
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn set_full(&self, why: &str) {
        if !self.full.swap(true, Ordering::AcqRel) {
            tracing::warn!(why, "the disk is full: no content is taken until there is room again");
        }
    }

    /// There is room again.
    pub(super) fn set_roomy(&self) {
        if self.full.swap(false, Ordering::AcqRel) {
            tracing::info!("there is room on the disk again");
        }
    }

    /// Whether not even the catalog can be written.
    pub(super) fn set_stuck(&self, stuck: bool) {
        if self.stuck.swap(stuck, Ordering::AcqRel) != stuck {
            if stuck {
                tracing::error!("not even the catalog can be written: the disk has no room at all");
            } else {
                tracing::info!("the catalog is written again");
            }
        }
    }

    /// Whether changes can be made durable now.
    pub(super) fn commits_go_on(&self) -> bool {
        !self.is_suspect() && !self.stuck.load(Ordering::Acquire)
    }

    pub(super) fn state(&self) -> DiskState {
        match (self.is_suspect(), self.is_full()) {
            (true, _) => DiskState::Suspect,
            (false, true) => DiskState::Full,
            (false, false) => DiskState::Ok,
        }
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.is_suspect() { Err(StoreError::Suspect) } else { Ok(()) }
    }

    /// As [`Health::check`], for what needs room.
    pub(super) fn check_room(&self) -> Result<(), StoreError> {
        self.check()?;
        if self.is_full() { Err(StoreError::Full { needed_bytes: 0, free_bytes: 0 }) } else { Ok(()) }
    }

    pub(super) fn count_commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }
}

/// Whether there was no room: bytes, inodes, or quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the process is short of something, or the file system does not know the call.
fn is_shortage(error: &io::Error) -> bool {
    let short =
        [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN, Errno::OPNOTSUPP, Errno::NOSYS];
    short.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
