//! The JSON documents that commands print with `--json`.
//!
//! Keys and their order are promises: scripts read them. What is not known, or makes no sense (the
//! content of a folder), is `null` and never left out. Times are RFC 3339 in UTC.

mod settings;

pub use settings::{Origin, SettingRow, setting_value};

mod letters;

pub use letters::{FlushDocument, HookPart, LetterRow, RetriedRow, RetryDocument};

use crate::cli::units::format_rfc3339_seconds;
use crate::types::{DiskState, NodeId, NodeRoute, Pin};
use crate::wire::message::{
    ClusterStatus, Explanation, FileState, HolderState, NodeState, NodeStatus, Row, Waiting,
};
use serde::Serialize;
use std::collections::BTreeMap;

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

/// `thorp status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusDocument {
    /// The cluster.
    pub cluster: ClusterPart,
    /// Every node known.
    pub nodes: Vec<NodePart>,
    /// The files, counted.
    pub files: FilesPart,
    /// The messages, counted.
    pub messages: MessagesPart,
}

/// The cluster, in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterPart {
    /// Its name (`--cluster`).
    pub name: String,
    /// Its uuid.
    pub id: String,
    /// Whether a key is set.
    pub secured: bool,
    /// Number of the current term.
    pub term: u64,
    /// Id of the node that leads.
    pub proxy: String,
}

/// A node, in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodePart {
    /// Its id.
    pub id: String,
    /// Its display name.
    pub name: String,
    /// The machine that it counts as.
    pub machine: String,
    /// `ip:port` of its TCP port; `null` if none is known.
    pub addr: Option<String>,
    /// Of `proxy`, `storage`, `client`.
    pub roles: Vec<&'static str>,
    /// `up`, `suspect`, `away`, `down` or `draining`.
    pub state: &'static str,
    /// How its disk is: `ok`, `full` or `suspect`.
    pub disk: &'static str,
    /// What it may fill in all.
    pub capacity_bytes: u64,
    /// What it has filled.
    pub used_bytes: u64,
    /// What it could still take.
    pub free_bytes: u64,
    /// Contents that it holds.
    pub contents: u64,
    /// Digest of its list of files, as hex: nodes whose lists are equal say the same. `null` of one that keeps no list.
    pub catalog: Option<String>,
    /// Of the program.
    pub version: String,
}

/// The messages, in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MessagesPart {
    /// That wait for a machine.
    pub waiting: u64,
}

/// The files, in `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FilesPart {
    /// How many.
    pub count: u64,
    /// Their bytes, each file counted once.
    pub bytes: u64,
    /// With as many copies as wanted.
    pub ok: u64,
    /// Being mended.
    pub healing: u64,
    /// Short of copies, with nowhere to put more now.
    pub degraded: u64,
    /// Without a live copy.
    pub lost: u64,
}

impl StatusDocument {
    /// What the proxy says of the cluster that the command calls `name`.
    #[must_use]
    pub fn new(name: &str, secured: bool, status: &ClusterStatus) -> StatusDocument {
        let [ok, healing, degraded, lost] = status.states;
        StatusDocument {
            cluster: ClusterPart {
                name: name.to_owned(),
                id: status.lineage.to_string(),
                secured,
                term: status.term.number,
                proxy: status.term.proxy.to_string(),
            },
            nodes: status.nodes.iter().map(|node| NodePart::new(node, status.term.proxy)).collect(),
            files: FilesPart { count: status.files, bytes: status.bytes, ok, healing, degraded, lost },
            messages: MessagesPart { waiting: status.letters },
        }
    }
}

impl NodePart {
    /// A node, when `proxy` leads.
    #[must_use]
    pub fn new(node: &NodeStatus, proxy: NodeId) -> NodePart {
        let presence = &node.presence;
        NodePart {
            id: presence.node.to_string(),
            name: presence.name.to_string(),
            machine: presence.machine.to_string(),
            addr: node.route.addresses.first().map(ToString::to_string),
            roles: roles(presence.node == proxy, presence.storage),
            state: node_state(node.state),
            disk: disk_state(presence.disk_state),
            capacity_bytes: presence.capacity_bytes,
            used_bytes: presence.used_bytes,
            free_bytes: presence.free_bytes,
            contents: presence.contents,
            catalog: (presence.pin != Pin::Client).then(|| format!("{:016x}", presence.catalog_digest)),
            version: presence.version.to_string(),
        }
    }
}

/// What a node does now, which may be less than what it was told to be.
fn roles(leads: bool, stores: bool) -> Vec<&'static str> {
    let mut roles = Vec::new();
    if leads {
        roles.push("proxy");
    }
    if stores {
        roles.push("storage");
    }
    if roles.is_empty() {
        roles.push("client");
    }
    roles
}

/// The word for a node's state.
#[must_use]
pub fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Up => "up",
        NodeState::Suspect => "suspect",
        NodeState::Away => "away",
        NodeState::Down => "down",
        NodeState::Draining => "draining",
    }
}

/// The word for the state of a disk.
#[must_use]
pub fn disk_state(state: DiskState) -> &'static str {
    match state {
        DiskState::Ok => "ok",
        DiskState::Full => "full",
        DiskState::Suspect => "suspect",
    }
}

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
