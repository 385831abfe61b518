//! Placeholder until the branch `sync` is merged.
#![allow(missing_docs)]
use crate::cli::failure::Failure;
use crate::client::sync::SyncError;
pub fn failure(error: &SyncError) -> Failure {
    Failure::failed(error.to_string())
}
