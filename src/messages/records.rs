//! What became of a letter's hook. Three places, so that listing what waits costs what waits:
//!
//! | path | when |
//! |---|---|
//! | `.pending/<name>` | until the hook is done or has given up; holds the letter as well |
//! | `inbox/.hooks/<name>` | it is done |
//! | `failed/.hooks/<name>` | it has given up |
//!
//! Invariant: the letter in a waiting record is enough to run its hook, so a program that takes the
//! file out of the inbox at once takes nothing from the hook.

use super::disk::read_bounded;
use super::letter_file::Document;
use crate::limits::LETTER_FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// How far a hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HookState {
    /// To be run, or to be run again.
    Pending,
    /// Being run.
    Running,
    /// It ended with exit code 0.
    Done,
    /// It failed as often as it is tried, or may not be run.
    Failed,
}

impl HookState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            HookState::Pending => "pending",
            HookState::Running => "running",
            HookState::Done => "done",
            HookState::Failed => "failed",
        }
    }
}

/// One run of a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attempt {
    /// RFC 3339, UTC, microseconds.
    pub started_at: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Its exit code, if it ended by itself.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Why it could not be run, or had to be ended.
    pub error: Option<String>,
    /// The end of what it wrote to standard output and error.
    pub output: String,
}

impl Attempt {
    /// Whether it did what it was to do.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.exit == Some(0) && self.error.is_none()
    }

    /// How it ended, in words.
    #[must_use]
    pub fn outcome(&self) -> String {
        match (&self.error, self.exit, self.signal) {
            (Some(error), _, _) => error.clone(),
            (None, Some(code), _) => format!("exit code {code}"),
            (None, None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None, None) => "no outcome".to_owned(),
        }
    }
}

/// What became of a letter's hook so far.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct HookRecord {
    /// How far it is.
    pub state: HookState,
    /// Its runs, the latest last.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// The letter, while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub letter: Option<Document>,
}

impl HookRecord {
    /// Of a letter whose hook has not been run.
    #[must_use]
    pub fn pending(letter: Document) -> HookRecord {
        HookRecord { state: HookState::Pending, attempts: Vec::new(), letter: Some(letter) }
    }

    /// As it is kept.
    #[must_use]
    pub fn to_text(&self) -> String {
        // Every part can be written, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads one.
    ///
    /// # Errors
    /// When it is not there, or no record.
    pub fn read(path: &Path) -> io::Result<HookRecord> {
        let bytes = read_bounded(path, 2 * LETTER_FILE_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }
}
