//! Placeholder until the branch `sync` is merged.
#![allow(missing_docs)]
use crate::transfer::Progress;
use crate::transfer::connection::Endpoint;
use crate::types::{MachineId, NodeRoute, WorkspaceName};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug, Default)]
pub struct SyncOptions {
    pub delete: bool,
    pub dry_run: bool,
    pub checksum: bool,
    pub ignore: bool,
    pub force: bool,
}
#[derive(Clone, Debug)]
pub enum SyncSource {
    Folder { folder: PathBuf, also: Vec<PathBuf> },
    Files { base: PathBuf, paths: Vec<PathBuf> },
}
#[derive(Debug)]
pub struct SyncReport;
#[derive(Debug, thiserror::Error)]
#[error("sync")]
pub struct SyncError;
pub async fn sync(
    _route: &NodeRoute,
    _endpoint: &Arc<Endpoint>,
    _workspace: &WorkspaceName,
    _source: &SyncSource,
    _options: &SyncOptions,
    _progress: Arc<dyn Progress>,
) -> Result<SyncReport, SyncError> {
    Ok(SyncReport)
}
pub fn workspace_of(folder: &Path, machine: &MachineId) -> WorkspaceName {
    let _ = machine;
    WorkspaceName::derive(&folder.file_name().unwrap_or_default().to_string_lossy(), 7)
}
