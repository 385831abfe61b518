//! What `ls` and `status` show: what the holders reported, nothing guessed (promise P12). A row
//! names one holder on each machine: two nodes of one machine are one copy.

use super::Engine;
use super::event::AskId;
use crate::discovery::membership::Freshness;
use crate::limits::{PAGE_BYTES_TARGET, PAGE_ROWS_MAX};
use crate::replication::placement::Candidate;
use crate::replication::planner::{self, Holder, HolderState};
use crate::replication::shown;
use crate::types::{Body, ContentId, FileName, NodeId, NodeRoute, Pin, Version};
use crate::wire::message::{
    ClusterStatus, ErrorCode, FileState, NodeState, NodeStatus, Reply, Row, Selector,
};
use std::collections::BTreeSet;

/// A cluster that has not been heard for this long is out of sight.
const FOREIGN_MS: u64 = 10_000;

impl Engine {
    pub(super) fn list(&mut self, ask: AskId, selector: &Selector, after: Option<&FileName>) {
        let (prefix, folder) = match selector {
            Selector::Name(name) => {
                match self.row(name) {
                    Some(row) => self.answer_rows(ask, vec![row], None),
                    None => self.fail(ask, ErrorCode::NotFound, &format!("no file `{name}`")),
                }
                return;
            }
            Selector::Under(folder) => (folder.trim_end_matches('/').to_owned(), true),
            Selector::Prefix(prefix) => (prefix.to_string(), false),
            Selector::Removed(prefix) => return self.list_removed(ask, prefix, after),
        };
        let candidates = self.candidates(&[]);
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut more = None;
        for (name, _) in self.catalog.names_from(after, &prefix) {
            if folder && !name.is_under(&prefix) {
                continue;
            }
            if rows.len() >= PAGE_ROWS_MAX || bytes >= PAGE_BYTES_TARGET {
                more = rows.last().map(|(real, _): &(FileName, Row)| real.clone());
                break;
            }
            for (shown, version) in shown::shown(&self.catalog, name) {
                let row = self.row_of(shown, version, &candidates);
                bytes += row.name.as_str().len() + 100 + row.holders.len() * 16;
                rows.push((name.clone(), row));
            }
        }
        let rows = rows.into_iter().map(|(_, row)| row).collect();
        self.answer_rows(ask, rows, more);
    }

    pub(super) fn answer_rows(&mut self, ask: AskId, rows: Vec<Row>, more: Option<FileName>) {
        let mentioned: BTreeSet<NodeId> = rows.iter().flat_map(|row| row.holders.iter().copied()).collect();
        let nodes = self.routes_of(mentioned.into_iter());
        self.answer(ask, Reply::Rows { rows, nodes, more });
    }

    /// The row of one shown name.
    pub(super) fn row(&self, name: &FileName) -> Option<Row> {
        let (_, version) = shown::resolve(&self.catalog, name)?;
        Some(self.row_of(name.clone(), version, &self.candidates(&[])))
    }

    pub(super) fn row_of(&self, name: FileName, version: &Version, candidates: &[Candidate]) -> Row {
        let wanted = version.wanted.count();
        let (holders, state) = match version.body.content() {
            Some((content, size)) => {
                let known = self.holders_of(&content);
                let state = self.content_state(&content, size, wanted, &known, candidates);
                let with = |state: HolderState| {
                    let holders = known.iter().filter(|holder| holder.state == state);
                    self.one_a_machine(holders.map(|holder| holder.node))
                };
                let up = with(HolderState::Up);
                (if up.is_empty() { with(HolderState::Failing) } else { up }, state)
            }
            // Links and empty folders are their entry, which every keeper of the catalog has.
            None => {
                let keepers = self.up_nodes().filter(|node| node.pin != Pin::Client).map(|node| node.node);
                let mut holders = self.one_a_machine(keepers);
                holders.truncate(usize::from(wanted));
                (holders, FileState::Ok)
            }
        };
        Row {
            name,
            body: version.body.clone(),
            mode: version.mode,
            modified_ns: version.modified_ns,
            wanted,
            holders,
            state,
            dot: version.dot,
            removed: None,
        }
    }

    fn content_state(
        &self,
        content: &ContentId,
        size: u64,
        wanted: u8,
        holders: &[Holder],
        candidates: &[Candidate],
    ) -> FileState {
        // A content that several names want is kept as often as the one that wants most.
        let wanted = self.catalog.content(content).map_or(wanted, |refs| refs.wanted().max(wanted));
        let pulling = self.pulling(content);
        let pulling = &pulling;
        planner::state(&planner::PlanInput { content: *content, size, wanted, holders, pulling, candidates })
    }

    pub(super) fn status(&mut self, ask: AskId) {
        let candidates = self.candidates(&[]);
        let mut states = [0_u64; 4];
        let mut files = 0_u64;
        for (_, versions) in self.catalog.names_from(None, "") {
            for version in versions {
                files += 1;
                let state = match &version.body {
                    Body::File { content, size } => {
                        let wanted = version.wanted.count();
                        self.content_state(content, *size, wanted, &self.holders_of(content), &candidates)
                    }
                    Body::Symlink { .. } | Body::Folder => FileState::Ok,
                };
                let at = match state {
                    FileState::Ok => 0,
                    FileState::Healing => 1,
                    FileState::Degraded => 2,
                    FileState::Lost => 3,
                };
                states[at] += 1;
            }
        }
        let now = self.now;
        self.foreign.retain(|_, at| now.since(*at) < FOREIGN_MS);
        let status = ClusterStatus {
            lineage: self.me.lineage.first().copied().unwrap_or_default(),
            term: self.me.term,
            ready: self.office.as_ref().is_some_and(super::office::Office::is_ready),
            nodes: self.node_statuses(),
            others: self.foreign.keys().copied().collect(),
            files,
            bytes: self.catalog.bytes(),
            states,
            letters: self.letters_waiting(),
        };
        self.answer(ask, Reply::Status(Box::new(status)));
    }

    fn node_statuses(&self) -> Vec<NodeStatus> {
        let state = |node: NodeId, draining: bool| match self.freshness_of(node) {
            Freshness::Up if draining => NodeState::Draining,
            Freshness::Up => NodeState::Up,
            Freshness::Suspect | Freshness::Late => NodeState::Suspect,
            Freshness::Away => NodeState::Away,
            Freshness::Gone => NodeState::Down,
        };
        let mut statuses: Vec<NodeStatus> = self
            .all_nodes()
            .map(|presence| NodeStatus {
                presence: presence.clone(),
                route: self.routes_of(std::iter::once(presence.node)).pop().unwrap_or(NodeRoute {
                    node: presence.node,
                    name: presence.name.clone(),
                    machine: presence.machine.clone(),
                    addresses: Vec::new(),
                }),
                state: state(presence.node, presence.draining),
            })
            .collect();
        statuses.sort_by(|a, b| a.presence.name.cmp(&b.presence.name));
        statuses
    }
}
