//! What a node says of itself, and how it is reached.

use crate::types::{DiskId, InstanceId, Lineage, MachineId, NodeId};
use std::net::SocketAddr;

/// A period of office of one proxy. Totally ordered: of two proxies that meet the higher stays.
/// Both sides of a split may mint one number; the proxy's id then decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term {
    /// Counts up by one at each takeover.
    pub number: u64,
    /// Who leads.
    pub proxy: NodeId,
}

/// The role a node was told to take (`--role`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pin {
    /// Stores, and leads when it is its turn.
    #[default]
    Auto,
    /// Leads and stores nothing.
    Proxy,
    /// Stores; leads only where nobody else can.
    Storage,
    /// Neither leads nor stores.
    Client,
}

/// How the disk of a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    /// As it should be.
    #[default]
    Ok,
    /// No room: it takes no contents until there is some. What it holds stays.
    Full,
    /// A write failed, or it is read-only: it takes and acknowledges nothing until its node is
    /// started again.
    Suspect,
}

/// What a node says of itself, in its beacons and over its links. A claim, until TLS proves who
/// says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Who.
    pub node: NodeId,
    /// Which run of its process.
    pub instance: InstanceId,
    /// Number of that run, counted up durably at each start: an older one is a replay.
    pub generation: u64,
    /// Counts up with each beacon of a run: a lower or equal one is a replay.
    pub sequence: u64,
    /// On which machine.
    pub machine: MachineId,
    /// Display name.
    pub name: Box<str>,
    /// Where it takes connections.
    pub tcp_port: u16,
    /// Where it serves HTTP; 0 for nowhere.
    pub http_port: u16,
    /// What it was told to be.
    pub pin: Pin,
    /// Whether it can store now (has a usable disk and may).
    pub storage: bool,
    /// Whether its copies are to be moved elsewhere.
    pub draining: bool,
    /// The highest term it obeys.
    pub term: Term,
    /// The proxy it follows and heard within the suspect time.
    pub proxy: Option<NodeId>,
    /// Its data folder's id.
    pub disk: DiskId,
    /// How its disk is.
    pub disk_state: DiskState,
    /// Bytes it may fill in all.
    pub capacity_bytes: u64,
    /// Bytes of contents it holds.
    pub used_bytes: u64,
    /// Bytes it could still take, headroom already subtracted.
    pub free_bytes: u64,
    /// Contents it holds.
    pub contents: u64,
    /// Digest of which contents they are: the wrapping sum of the first 8 bytes of their ids, little-endian.
    pub inventory_digest: u64,
    /// Digest of its catalog; equal digests mean equal catalogs.
    pub catalog_digest: u64,
    /// The uuids of its cluster, lowest first; at most [`crate::limits::LINEAGE_MAX`].
    pub lineage: Vec<Lineage>,
    /// Whether its cluster has files: an empty node adopts another's lineage.
    pub established: bool,
    /// Wall clock, milliseconds since 1970: for the clock check alone.
    pub wall_ms: u64,
    /// Version of the program.
    pub version: Box<str>,
}

/// How to reach a node: what a proxy tells a client about a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRoute {
    /// Who must answer there.
    pub node: NodeId,
    /// Display name.
    pub name: Box<str>,
    /// Its machine.
    pub machine: MachineId,
    /// Where, likeliest first. A loopback address means: on the machine you have this from.
    pub addresses: Vec<SocketAddr>,
}
