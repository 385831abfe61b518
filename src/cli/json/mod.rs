//! The JSON documents that commands print with `--json`.
//!
//! Keys and their order are promises: scripts read them. What is not known, or makes no sense (the
//! content of a folder), is `null` and never left out. Times are RFC 3339 in UTC.

mod settings;

pub use settings::{Origin, SettingRow, setting_value};

mod channels;
mod letters;
mod run;
mod sync;

pub use channels::{ChannelDocument, ChannelEvent};
pub use letters::{FlushDocument, HookPart, LetterRow, RetriedRow, RetryDocument};
pub use run::{DetachedDocument, JobDocument, StoppedDocument};
pub use sync::{SyncChange, SyncDocument, SyncReason};

pub use crate::documents::{
    ErrorBody, ErrorDocument, FileRow, FilesPart, NodeNames, NodePart, PutFile, RemovedRow, StatusDocument,
    disk_state, file_state, node_state,
};

use crate::wire::message::{Explanation, HolderState, Waiting};
use serde::Serialize;

/// `thorp send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendDocument {
    /// The message's id.
    pub id: String,
    /// Who gets it.
    pub addressees: Vec<SendAddressee>,
}

/// One who gets a message, in `send`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SendAddressee {
    /// Its id.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Whether it is up.
    pub up: bool,
    /// Whether the message is in its inbox.
    pub delivered: bool,
}

/// `thorp up`, once it is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReadyDocument {
    /// The node's id.
    pub node: String,
    /// Where it takes connections.
    pub tcp: String,
    /// Where it serves HTTP.
    pub http: Option<String>,
}

/// `thorp drain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DrainDocument {
    /// Which machine.
    pub node: String,
    /// Whether it is being drained.
    pub draining: bool,
    /// Contents that still need it.
    pub needed: u64,
    /// Those of them that there is nowhere else to put.
    pub stuck: u64,
}

/// `thorp merge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MergeDocument {
    /// The ids of the clusters that are one.
    pub merged: Vec<String>,
}

/// `thorp why`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyDocument {
    /// As in `ls`.
    #[serde(flatten)]
    pub file: FileRow,
    /// The greatest number of copies that any file with these bytes wants.
    pub wanted: u8,
    /// How many files have these bytes.
    pub versions: u32,
    /// Every copy that was reported.
    pub copies: Vec<WhyCopy>,
    /// `nothing`, `pull`, `drop`, `return`, `machine`, `source`, `unheard` or `turn`.
    pub waiting: &'static str,
    /// The machines that this is about.
    #[serde(rename = "waiting_nodes")]
    pub nodes: Vec<String>,
    /// For how long; 0 if that is not known.
    pub for_seconds: f64,
}

/// A copy, in `why`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyCopy {
    /// On which machine.
    pub node: String,
    /// `up`, `suspect`, `away`, `gone`, `draining` or `dropping`.
    pub state: &'static str,
    /// Since when nothing was heard of the machine.
    pub silent_seconds: f64,
    /// When the machine last hashed all of it; `null` if it does not tell.
    pub verified: Option<String>,
}

impl WhyDocument {
    /// As the proxy explained it.
    #[must_use]
    pub fn new(explanation: &Explanation, names: &NodeNames) -> WhyDocument {
        let (waiting, nodes) = match &explanation.waiting {
            Waiting::Nothing => ("nothing", Vec::new()),
            Waiting::Pull { to } => ("pull", to.clone()),
            Waiting::Drop { at } => ("drop", vec![*at]),
            Waiting::Return => ("return", Vec::new()),
            Waiting::Machine => ("machine", Vec::new()),
            Waiting::Source => ("source", Vec::new()),
            Waiting::Unheard { nodes } => ("unheard", nodes.clone()),
            Waiting::Turn => ("turn", Vec::new()),
        };
        let copies = explanation.copies.iter().map(|copy| WhyCopy {
            node: names.of(copy.node),
            state: match copy.state {
                HolderState::Up => "up",
                HolderState::Suspect => "suspect",
                HolderState::Away => "away",
                HolderState::Gone => "gone",
                HolderState::Draining => "draining",
                HolderState::Dropping => "dropping",
                HolderState::Failing => "failing",
            },
            silent_seconds: seconds(copy.silent_ms),
            verified: None,
        });
        WhyDocument {
            file: FileRow::new(&explanation.row, names),
            wanted: explanation.wanted,
            versions: explanation.versions,
            copies: copies.collect(),
            waiting,
            nodes: nodes.into_iter().map(|node| names.of(node)).collect(),
            for_seconds: seconds(explanation.for_ms),
        }
    }
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

/// `thorp put`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PutDocument {
    /// What was put, in the order of the names.
    pub files: Vec<PutFile>,
    /// How long it took.
    pub seconds: f64,
}

/// `thorp get`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GetDocument {
    /// What was fetched.
    pub files: Vec<GetFile>,
    /// How long it took.
    pub seconds: f64,
}

/// A file, in `get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GetFile {
    /// Its name.
    pub name: String,
    /// Where it was written.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Its content id; `null` for a link or an empty folder.
    pub content: Option<String>,
    /// Who gave how much.
    pub from: Vec<GetSource>,
}

/// A holder, in `get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GetSource {
    /// Its display name.
    pub node: String,
    /// Bytes that came from it.
    pub bytes: u64,
}

/// `thorp rm`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RemoveDocument {
    /// The names that were removed.
    pub removed: Vec<String>,
}

/// `thorp verify`. A copy is a name and a machine that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyDocument {
    /// Copies that were read and hashed anew.
    pub checked: u64,
    /// Those that were bad, and were set aside.
    pub bad: Vec<BadCopyPart>,
    /// Of the bad ones, those whose file has all its copies again.
    pub mended: u64,
    /// Copies that could not be read now.
    pub unchecked: Vec<UncheckedPart>,
    /// Names of files without any good copy on a machine that is up.
    pub lost: Vec<String>,
}

/// A copy, in `verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadCopyPart {
    /// Of which file.
    pub name: String,
    /// Display name of the node.
    pub node: String,
}

/// A copy that was not read, in `verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UncheckedPart {
    /// Of which file.
    pub name: String,
    /// Display name of the node.
    pub node: String,
    /// Why.
    pub why: String,
}

/// A row of `thorp hash`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HashRow {
    /// The file's path; `-` for standard input.
    pub path: String,
    /// Size.
    pub bytes: u64,
    /// Its content id.
    pub content: String,
}

/// `thorp open`.
#[derive(Debug, Serialize)]
pub struct OpenDocument {
    /// The page's address, with the token where one is needed.
    pub url: String,
}

/// `thorp status --token`.
#[derive(Debug, Serialize)]
pub struct TokenDocument {
    /// What HTTP requests carry; `null` where none is needed.
    pub token: Option<String>,
}

/// `thorp key new`.
#[derive(Serialize)]
pub struct KeyDocument<'key> {
    /// The key.
    pub key: &'key str,
}

#[cfg(test)]
mod tests;

/// `thorp demo`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DemoDocument {
    /// The steps that held, in order.
    pub steps: Vec<DemoStep>,
    /// How long it took.
    pub seconds: f64,
}

/// A step of the demo.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DemoStep {
    /// What was seen.
    pub what: String,
    /// How long it took.
    pub seconds: f64,
}
