//! The JSON documents that commands print with `--json` and that the HTTP interface gives: one form for both.
//!
//! Keys and their order are promises: scripts read them. What is not known, or makes no sense (the
//! content of a folder), is `null` and never left out. Times are RFC 3339 in UTC.

mod files;
mod status;
mod times;
pub mod units;

pub use files::{FileRow, NodeNames, PutFile, RemovedRow, file_state};
pub use status::{ClusterPart, FilesPart, MessagesPart, NodePart, StatusDocument, disk_state, node_state};
pub use times::{format_rfc3339_seconds, parse_rfc3339};

use serde::Serialize;

/// Why a command failed.
#[derive(Debug, Serialize)]
pub struct ErrorDocument<'text> {
    /// The only key.
    pub error: ErrorBody<'text>,
}

/// The body of an [`ErrorDocument`].
#[derive(Debug, Serialize)]
pub struct ErrorBody<'text> {
    /// A word for programs.
    pub code: &'static str,
    /// What failed and why.
    pub message: &'text str,
    /// What to do.
    pub hint: Option<&'text str>,
}

/// An error and its causes in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
