//! How the cluster stands.

use crate::types::{DiskState, NodeId, Pin};
use crate::wire::message::{ClusterStatus, NodeState, NodeStatus};
use serde::Serialize;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_a_role() {
        assert_eq!(roles(true, true), ["proxy", "storage"]);
        assert_eq!(roles(true, false), ["proxy"]);
        assert_eq!(roles(false, true), ["storage"]);
        assert_eq!(roles(false, false), ["client"]);
    }
}
