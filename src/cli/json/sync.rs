//! The document of `thorp sync`.

use serde::Serialize;

/// `thorp sync`; with `--watch` one for each time that something changed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SyncDocument {
    /// The machine's name.
    pub node: String,
    /// The workspace there.
    pub workspace: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// What was, or would be, done; sorted by path.
    pub changes: Vec<SyncChange>,
    /// What was left out here.
    pub skipped: Vec<SyncReason>,
    /// What could not be done.
    pub failed: Vec<SyncReason>,
    /// Files of the folder.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of contents that travelled.
    pub sent_bytes: u64,
    /// Bytes of new and changed files that were there already.
    pub reused_bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SyncChange {
    /// Which.
    pub path: String,
    /// `new`, `changed`, `attributes` or `removed`.
    pub change: &'static str,
    /// Whether it is a folder.
    pub folder: bool,
    /// Bytes of a file that is there now.
    pub bytes: u64,
}

/// A path, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SyncReason {
    /// Which.
    pub path: String,
    /// Why.
    pub reason: String,
}
