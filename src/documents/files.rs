//! Files, with the machines that hold them.

use super::times::format_rfc3339_seconds;
use crate::types::{NodeId, NodeRoute};
use crate::wire::message::{FileState, Row};
use serde::Serialize;
use std::collections::BTreeMap;

/// The word for a file's state.
#[must_use]
pub fn file_state(state: FileState) -> &'static str {
    match state {
        FileState::Ok => "ok",
        FileState::Healing => "healing",
        FileState::Degraded => "degraded",
        FileState::Lost => "lost",
    }
}

/// Display names of nodes, to show them instead of their ids.
#[derive(Clone, Debug, Default)]
pub struct NodeNames(BTreeMap<NodeId, String>);

impl NodeNames {
    /// The names in `routes`.
    #[must_use]
    pub fn new(routes: &[NodeRoute]) -> NodeNames {
        let mut names = NodeNames::default();
        names.extend(routes);
        names
    }

    /// Learns the names in `routes` too.
    pub fn extend(&mut self, routes: &[NodeRoute]) {
        self.0.extend(routes.iter().map(|route| (route.node, route.name.to_string())));
    }

    /// A node's name; its id if no name is known.
    #[must_use]
    pub fn of(&self, node: NodeId) -> String {
        self.0.get(&node).cloned().unwrap_or_else(|| node.to_string())
    }

    /// The names of `nodes`, sorted.
    #[must_use]
    pub fn all(&self, nodes: &[NodeId]) -> Vec<String> {
        let mut names: Vec<String> = nodes.iter().map(|node| self.of(*node)).collect();
        names.sort();
        names
    }
}

/// A row of `thorp ls`, and the document of `thorp replicas`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileRow {
    /// As shown.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Its content id; `null` for a link or an empty folder.
    pub content: Option<String>,
    /// Copies wanted.
    pub replicas_wanted: u8,
    /// Copies that live holders reported.
    pub replicas: usize,
    /// Who holds them.
    pub nodes: Vec<String>,
    /// `ok`, `healing`, `degraded` or `lost`.
    pub state: &'static str,
    /// When the file was last modified where it was put from.
    pub modified: String,
}

impl FileRow {
    /// A row as the proxy gave it.
    #[must_use]
    pub fn new(row: &Row, names: &NodeNames) -> FileRow {
        let content = row.body.content();
        FileRow {
            name: row.name.to_string(),
            bytes: content.map_or(0, |(_, size)| size),
            content: content.map(|(content, _)| content.to_string()),
            replicas_wanted: row.wanted,
            replicas: row.holders.len(),
            nodes: names.all(&row.holders),
            state: file_state(row.state),
            modified: format_rfc3339_seconds(row.modified_ns),
        }
    }
}

/// A row of `thorp ls --removed`: as of `ls`, with the copies that are left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemovedRow {
    /// As in `ls`; `state` is `ok` while a live machine has the bytes, else `lost`.
    #[serde(flatten)]
    pub file: FileRow,
    /// When it was removed or replaced.
    pub removed: String,
}

impl RemovedRow {
    /// A row as the proxy gave it.
    #[must_use]
    pub fn new(row: &Row, names: &NodeNames) -> RemovedRow {
        let at_s = row.removed.map_or(0, |removed| removed.at_s);
        let removed = format_rfc3339_seconds(i64::from(at_s) * 1_000_000_000);
        RemovedRow { file: FileRow::new(row, names), removed }
    }
}

/// A file, in `put`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PutFile {
    /// Under which name.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// Its content id; `null` for a link or an empty folder.
    pub content: Option<String>,
    /// Copies wanted.
    pub replicas_wanted: u8,
    /// Copies that holders confirmed.
    pub replicas: usize,
    /// Who holds them.
    pub nodes: Vec<String>,
    /// Bytes that travelled.
    pub sent_bytes: u64,
    /// Bytes that were there already.
    pub reused_bytes: u64,
}
