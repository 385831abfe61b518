//! Why a sync was not done.

use crate::transfer::chain::ChainError;
use crate::transfer::connection::ConnectionError;
use crate::types::TreePathError;
use crate::wire::message::ErrorCode;
use crate::wire::run::Denial;
use std::io;
use std::path::{Path, PathBuf};

/// Why a sync was not done, or not all of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The node cannot be reached, or went away.
    #[error("the connection failed")]
    Connection(#[from] ConnectionError),
    /// Contents could not be sent.
    #[error("contents could not be sent")]
    Contents(#[source] ChainError),
    /// The node's owner does not allow it.
    #[error("{0}")]
    Denied(Denial),
    /// The node could not do it.
    #[error("{message}")]
    Refused {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// The node answered something else than was asked.
    #[error("the node gave an answer that makes no sense")]
    Nonsense,
    /// Something of this machine that was named.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A path that cannot be on the other machine.
    #[error("`{}` cannot be synced: {why}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: TreePathError,
    },
    /// A path that was to be in the folder.
    #[error("`{}` is not in the folder", .0.display())]
    Outside(PathBuf),
    /// Two paths would be one on the other machine.
    #[error("`{}` and `{}` would be one file there", .0.display(), .1.display())]
    Collision(PathBuf, PathBuf),
    /// More than a workspace takes.
    #[error("there are too many files in the folder")]
    TooMany,
    /// There is no file here, and files there would be removed.
    #[error("there is no file here, and {files} files there would be removed")]
    Emptied {
        /// How many.
        files: usize,
    },
    /// This process is ending.
    #[error("it was interrupted")]
    Interrupted,
}

impl SyncError {
    pub(super) fn file(path: &Path, source: io::Error) -> SyncError {
        SyncError::File { path: path.to_owned(), source }
    }

    /// Whether another try, a little later, may go better.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            SyncError::Connection(
                ConnectionError::OtherKey { .. } | ConnectionError::OtherVersion { .. },
            ) => false,
            SyncError::Connection(_) => true,
            SyncError::Refused { code, .. } => {
                matches!(
                    code,
                    ErrorCode::NotReady | ErrorCode::Connection | ErrorCode::NoSpace | ErrorCode::Disk
                )
            }
            SyncError::Contents(_) | SyncError::File { .. } => true,
            _ => false,
        }
    }
}

impl From<ChainError> for SyncError {
    fn from(error: ChainError) -> SyncError {
        match error {
            ChainError::Failed { code, message, .. } => SyncError::Refused { code, message: message.into() },
            error => SyncError::Contents(error),
        }
    }
}
