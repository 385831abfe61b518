//! What can go wrong in the store, and what to do about it.

use crate::types::ContentId;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder has things in it that are not ours.
    #[error("{folder} is not empty and is no data folder of thorp")]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// A folder that was in use does not say that it is ours.
    #[error("{path}, which says what the data folder is, is missing or damaged")]
    Format {
        /// Where it should be said.
        path: PathBuf,
    },
    /// The folder was written by a later program.
    #[error("{folder} has a format that this program does not know: {found}")]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// What its `format` file says.
        found: Box<str>,
    },
    /// Another process has it open.
    #[error("{folder} is in use by another process")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It cannot be made or written to.
    #[error("{folder} cannot be written to")]
    NotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder was in use before, and its database or its contents are not there.
    #[error("{missing} is missing from a data folder that was in use")]
    Missing {
        /// The file or folder that should be there.
        missing: PathBuf,
    },
    /// A rebuild was interrupted.
    #[error("the catalog of {folder} was being rebuilt, and that did not come to its end")]
    HalfRebuilt {
        /// The folder.
        folder: PathBuf,
    },
    /// The disk id of a folder that was in use is gone or unreadable.
    #[error("{path}, the id of this disk, is missing or damaged")]
    DiskId {
        /// Where it should be.
        path: PathBuf,
    },
    /// The database is not what was written.
    #[error("the catalog {path} is damaged: {reason}")]
    CatalogDamaged {
        /// The database file.
        path: PathBuf,
        /// What was found.
        reason: Box<str>,
    },
    /// No room: less than the headroom, or than the capacity that was set, would be left.
    #[error("no room for {needed_bytes} bytes, {free_bytes} are free")]
    Full {
        /// What was to be written.
        needed_bytes: u64,
        /// What may still be written.
        free_bytes: u64,
    },
    /// A disk operation failed. What was being written is thrown away, nothing is tried again.
    #[error("disk: {path}")]
    Disk {
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A database operation failed.
    #[error("database")]
    Database {
        /// What the database said; shared by all writes of one commit.
        #[source]
        source: Arc<redb::Error>,
    },
    /// A sync or a commit failed earlier: what is durable is unknown, so nothing is written now.
    #[error("the disk is suspect since a sync failed; nothing is written to it any more")]
    Suspect,
    /// The content is not held here.
    #[error("content {0} is not held here")]
    NotHeld(ContentId),
    /// The part asked for is not in the content.
    #[error("content {content} has no {what}")]
    NoSuchPart {
        /// Of which content.
        content: ContentId,
        /// What was asked for.
        what: Box<str>,
    },
    /// A held content does not hash to its id; it was put aside.
    #[error("the copy of content {0} on this disk is damaged")]
    Damaged(ContentId),
    /// The bytes of a chunk are not those of its hash and length.
    #[error("chunk {index} arrived damaged")]
    ChunkDamaged {
        /// Of which chunk of the incoming content.
        index: u32,
    },
    /// Whoever sends does not keep to the rules.
    #[error("refused: {0}")]
    Refused(&'static str),
    /// The offered chunks do not make the content that was announced.
    #[error("the chunks make content {found}, not {announced}")]
    Mismatch {
        /// What was announced.
        announced: ContentId,
        /// What follows from the chunks.
        found: ContentId,
    },
    /// A record is larger than can be read back.
    #[error("a record is too large for the catalog")]
    RecordTooLarge,
}

impl StoreError {
    /// What the owner of the machine can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StoreError::Foreign { .. } => Some("name an empty or a new folder"),
            StoreError::Newer { .. } => Some("start the newer thorp that wrote it, or name another folder"),
            StoreError::Format { .. } => Some(
                "if only thorp of this version used it, write `thorp data folder, format 1` into that file; \
                 else move the whole folder away: peers have the copies",
            ),
            StoreError::Locked { .. } => Some("stop the other thorp, or give this one a folder of its own"),
            StoreError::NotWritable { .. } => Some("check the folder's owner and permissions"),
            StoreError::Missing { .. } => Some(
                "check that the disk is mounted; if it is really lost, `thorp up --rebuild` takes in the \
                 contents that are there and gets the rest from the peers",
            ),
            StoreError::HalfRebuilt { .. } => Some("`thorp up --rebuild` begins again"),
            StoreError::DiskId { .. } | StoreError::CatalogDamaged { .. } => Some(
                "`thorp up --rebuild` puts the catalog into `quarantine`, takes in the contents that are \
                 whole, and gets the rest from the peers",
            ),
            StoreError::Full { .. } => Some("make room on the disk, or raise the capacity"),
            StoreError::Disk { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("check who owns it and its permissions")
            }
            StoreError::Disk { .. } | StoreError::Database { .. } | StoreError::Suspect => {
                Some("check the disk (dmesg, SMART), then start thorp again")
            }
            StoreError::Damaged(_) => Some("nothing: another copy takes its place"),
            StoreError::NotHeld(_)
            | StoreError::NoSuchPart { .. }
            | StoreError::ChunkDamaged { .. }
            | StoreError::Refused(_)
            | StoreError::Mismatch { .. }
            | StoreError::RecordTooLarge => None,
        }
    }

    /// Whether it says that the copy is bad, rather than that the machine is short of something.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            StoreError::Damaged(_) | StoreError::NoSuchPart { .. } => true,
            StoreError::Disk { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
                    || super::disk::is_no_file(source)
                    || source.raw_os_error() == Some(Errno::IO.raw_os_error())
            }
            _ => false,
        }
    }

    /// The error for a failed operation on `path`; a full disk has its own.
    pub(super) fn disk(path: &Path, source: io::Error) -> StoreError {
        if super::health::is_full(&source) {
            StoreError::Full { needed_bytes: 0, free_bytes: 0 }
        } else {
            StoreError::Disk { path: path.into(), source }
        }
    }

    /// The error for a failed database operation; a full disk has its own.
    pub(super) fn database(source: &Arc<redb::Error>) -> StoreError {
        match source.as_ref() {
            redb::Error::Io(error) if super::health::is_full(error) => {
                StoreError::Full { needed_bytes: 0, free_bytes: 0 }
            }
            _ => StoreError::Database { source: Arc::clone(source) },
        }
    }
}

/// For `map_err` on a disk operation.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::disk(path, source)
}

/// For `map_err` on the many error types of the database.
pub(super) fn database<E: Into<redb::Error>>(error: E) -> StoreError {
    StoreError::database(&Arc::new(error.into()))
}
