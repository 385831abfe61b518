//! A command's side of a sync: says what is to be there, sends what is missing, has the rest done.
//!
//! Invariants: a file is sent as it was at one moment, or is reported; nothing is removed there
//! that is here, is left out by a rule, or could not be looked at.

mod error;
mod exchange;
pub mod source;
pub mod watch;

pub use error::SyncError;
pub use source::{Skipped, SyncSource};

use crate::transfer::Progress;
use crate::transfer::connection::Endpoint;
use crate::types::{MachineId, NodeRoute, TreePath, WorkspaceName};
use crate::wire::sync::{DifferenceKind, TreeEntry, TreeItem};
use exchange::Exchange;
use sha2::{Digest, Sha256};
use source::Scan;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a sync is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncOptions {
    /// Remove there what is not here.
    pub delete: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Compare the bytes of all files, and not their sizes and times.
    pub checksum: bool,
    /// Leave out what ignore rules name.
    pub ignore: bool,
    /// Remove everything there even if there is no file here.
    pub force: bool,
}

impl Default for SyncOptions {
    fn default() -> SyncOptions {
        SyncOptions { delete: false, dry_run: false, checksum: false, ignore: true, force: false }
    }
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It was not there.
    New,
    /// It was another.
    Changed,
    /// It had other permissions.
    Attributes,
    /// It is not there any more.
    Removed,
}

/// One difference that was, or with `dry_run` would be, done away with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub path: TreePath,
    /// What.
    pub kind: ChangeKind,
    /// Whether it is a folder.
    pub folder: bool,
    /// Bytes of a file that is there now.
    pub bytes: u64,
}

/// What a sync did.
#[derive(Clone, Debug, Default)]
pub struct SyncReport {
    /// Sorted by path.
    pub changes: Vec<Change>,
    /// What was left out, and why.
    pub skipped: Vec<(PathBuf, Skipped)>,
    /// What could not be done, and why: it is there as it was.
    pub failed: Vec<(TreePath, String)>,
    /// Files of the folder.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of contents that travelled.
    pub sent_bytes: u64,
    /// Bytes of new and changed files that were there already.
    pub reused_bytes: u64,
}

/// The name of a folder's workspace, unless it is given another: the folder's own, and what tells it
/// from others of that name here and on other machines.
#[must_use]
pub fn workspace_of(folder: &Path, machine: &MachineId) -> WorkspaceName {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mut hasher = Sha256::new();
    hasher.update(machine.as_str().as_bytes());
    hasher.update([0]);
    hasher.update(whole.as_os_str().as_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    let name = whole.file_name().unwrap_or_default().to_string_lossy();
    WorkspaceName::derive(&name, u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]))
}

/// Makes `workspace` of the node at `route` equal to `source`.
///
/// # Errors
/// When nothing, or not all of it, was done. Files that could not be read or put in place are no
/// error of the whole: they are in the report.
pub async fn sync(
    route: &NodeRoute,
    endpoint: &Arc<Endpoint>,
    workspace: &WorkspaceName,
    source: &SyncSource,
    options: &SyncOptions,
    progress: Arc<dyn Progress>,
) -> Result<SyncReport, SyncError> {
    let (source, ignore) = (source.clone(), options.ignore);
    let scan = tokio::task::spawn_blocking(move || Scan::of(&source, ignore));
    let mut scan = scan.await.map_err(|_| SyncError::Interrupted)??;
    let mut exchange = Exchange::open(route, endpoint, workspace).await?;
    let mut report = SyncReport { skipped: std::mem::take(&mut scan.skipped), ..SyncReport::default() };
    for entry in &scan.entries {
        if let TreeItem::File { size, .. } = entry.item {
            report.files += 1;
            report.bytes = report.bytes.saturating_add(size);
        }
    }
    let plan = exchange.compare(&scan.entries, options.checksum).await?;
    let remove = if options.delete { removals(&mut scan, &plan) } else { Vec::new() };
    let surplus = |at: u32| plan.surplus.get(at as usize);
    let files = remove.iter().filter(|at| surplus(**at).is_some_and(|surplus| !surplus.folder)).count();
    if report.files == 0 && files > 0 && !options.force {
        return Err(SyncError::Emptied { files });
    }
    let known = exchange.compare_contents(&scan, &plan).await?;
    let is_equal = plan.differences.is_empty() && remove.is_empty();
    if !options.dry_run && !is_equal {
        let sent = exchange.send(&scan, &plan, &known, progress).await?;
        report.sent_bytes = sent.sent_bytes;
        report.reused_bytes = sent.reused_bytes;
        report.failed = sent.failed;
        let problems = exchange.apply(&sent.placed, &remove).await?;
        report.failed.extend(problems);
    }
    for difference in &plan.differences {
        let Some(entry) = scan.entries.get(difference.at as usize) else { continue };
        if !known.contains_key(&difference.at) {
            report.changes.push(change(entry, difference.kind));
        }
    }
    for surplus in remove.iter().filter_map(|at| surplus(*at)) {
        let (path, folder) = (surplus.path.clone(), surplus.folder);
        report.changes.push(Change { path, kind: ChangeKind::Removed, folder, bytes: 0 });
    }
    report.changes.sort_by(|a, b| a.path.cmp(&b.path));
    let failed: std::collections::BTreeSet<_> = report.failed.iter().map(|(path, _)| path.clone()).collect();
    report.changes.retain(|change| !failed.contains(&change.path));
    exchange.close().await;
    Ok(report)
}

fn change(entry: &TreeEntry, kind: DifferenceKind) -> Change {
    let (folder, bytes) = match entry.item {
        TreeItem::File { size, .. } => (false, size),
        TreeItem::Folder { .. } => (true, 0),
        TreeItem::Symlink { .. } => (false, 0),
    };
    let kind = match kind {
        DifferenceKind::New => ChangeKind::New,
        DifferenceKind::Content => ChangeKind::Changed,
        DifferenceKind::Attributes => ChangeKind::Attributes,
    };
    Change { path: entry.path.clone(), kind, folder, bytes }
}

/// Positions of what is to go. A folder goes only if all in it does.
fn removals(scan: &mut Scan, plan: &exchange::Plan) -> Vec<u32> {
    let mut all = Vec::new();
    let mut kept: Option<TreePath> = None;
    // From the end: what is in a folder is looked at before the folder.
    for (at, surplus) in (0_u32..).zip(&plan.surplus).collect::<Vec<_>>().into_iter().rev() {
        let holds_kept = kept.as_ref().is_some_and(|kept| kept.is_within(&surplus.path));
        if holds_kept || !scan.may_remove(&surplus.path, surplus.folder) {
            kept = Some(surplus.path.clone());
        } else {
            all.push(at);
        }
    }
    all.reverse();
    all
}
