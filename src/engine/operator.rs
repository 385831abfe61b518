//! What the people who look after a cluster ask: drain a machine, merge two clusters, and why a file
//! is as it is.
//!
//! That a node is drained is its own durable word, which it announces: so it holds whoever leads,
//! and while the node is off. It counts as no place for copies, and its copies as ones that leave.

use super::Engine;
use super::event::{AskId, Effect};
use crate::discovery::membership::Freshness;
use crate::limits::{LINEAGE_MAX, SAFE_MODE_MS_MAX};
use crate::replication::planner::{self, Decision, HolderState, PlanInput};
use crate::replication::{removed, shown};
use crate::types::{FileName, Lineage, MachineId, NodeId, Term};
use crate::wire::message::{Copy, DrainState, ErrorCode, Explanation, Message, Reply, Waiting};
use std::collections::BTreeSet;

impl Engine {
    /// Drains the node with this name or id, or ends that; says how far it is.
    pub(super) fn drain(&mut self, ask: AskId, named: &str, undo: bool) {
        let known = self.all_nodes().map(|node| (node.node, node.name.clone()));
        let exact: Vec<NodeId> = known
            .filter(|(node, name)| **name == *named || node.to_string() == *named)
            .map(|(node, _)| node)
            .collect();
        let node = match exact.as_slice() {
            [node] => *node,
            [] => {
                let mut names: Vec<String> = self.all_nodes().map(|node| node.name.to_string()).collect();
                names.sort_unstable();
                let message = format!("no machine `{named}`; there are {}", names.join(", "));
                return self.fail(ask, ErrorCode::NotFound, &message);
            }
            _ => {
                let message =
                    format!("several machines are called `{named}`: use its id from `thorp status --json`");
                return self.fail(ask, ErrorCode::Invalid, &message);
            }
        };
        if self.freshness_of(node) != Freshness::Up {
            let message = format!("`{named}` is not up: its copies are replaced by themselves");
            return self.fail(ask, ErrorCode::Connection, &message);
        }
        let draining = self.presence_of(node).is_some_and(|presence| presence.draining);
        if draining == undo {
            let term = self.me.term;
            self.send(node, Message::Drain { term, draining: !undo });
        }
        let (needed, stuck) = if undo { (0, 0) } else { self.needed_at(node) };
        let name = self.presence_of(node).map(|presence| presence.name.clone()).unwrap_or_default();
        self.answer(ask, Reply::Drain(DrainState { node, name, draining, needed, stuck }));
    }

    /// How many contents would have fewer copies than there could be without `node`, and of how
    /// many of them there is nowhere to put another.
    fn needed_at(&self, node: NodeId) -> (u64, u64) {
        let Some(office) = &self.office else {
            return (0, 0);
        };
        let stays = |node: NodeId| self.presence_of(node).is_some_and(|presence| !presence.draining);
        let Some(machine) = self.presence_of(node).map(|presence| presence.machine.clone()) else {
            return (0, 0);
        };
        let others: BTreeSet<&MachineId> = self
            .up_nodes()
            .filter(|other| other.storage && !other.draining && other.machine != machine)
            .map(|other| &other.machine)
            .collect();
        let candidates = self.candidates(&[]);
        let (mut needed, mut stuck) = (0, 0);
        for (content, refs) in self.catalog.contents() {
            let content = *content;
            if office.inventories.holders(&content).all(|holder| holder != node) {
                continue;
            }
            let holders = self.holders_of(&content);
            let elsewhere: BTreeSet<&MachineId> = holders
                .iter()
                .filter(|holder| holder.state == HolderState::Up && stays(holder.node))
                .map(|holder| &holder.machine)
                .filter(|other| **other != machine)
                .collect();
            if elsewhere.len() < usize::from(refs.wanted()).min(others.len().max(1)) {
                needed += 1;
                let (size, wanted) = (refs.size, refs.wanted());
                let pulling = self.pulling(&content);
                let input = PlanInput {
                    content,
                    size,
                    wanted,
                    holders: &holders,
                    pulling: &pulling,
                    candidates: &candidates,
                };
                stuck += u64::from(planner::plan(&input) == Decision::Stuck);
            }
        }
        (needed, stuck)
    }

    /// The proxy wants this node drained, or no longer.
    pub(super) fn drain_ordered(&mut self, from: NodeId, term: Term, draining: bool) {
        if self.obeys(from, term) && self.me.draining != draining {
            self.effects.push_back(Effect::SaveDraining { draining });
        }
    }

    /// It is durable, or could not be made so: then nothing has changed.
    pub(super) fn draining_saved(&mut self, draining: bool, durable: bool) {
        if durable && self.me.draining != draining {
            self.me.draining = draining;
            self.hurry_beacon();
            self.look_at_all();
        }
    }

    /// Makes this cluster and the one with this uuid one. The other's nodes see it in our beacons.
    pub(super) fn merge_clusters(&mut self, ask: AskId, lineage: Lineage) {
        if !self.me.lineage.contains(&lineage) {
            if !self.foreign.contains_key(&lineage) {
                let message = format!("no other cluster `{lineage}` is in sight");
                return self.fail(ask, ErrorCode::NotFound, &message);
            }
            if self.me.lineage.len() >= LINEAGE_MAX {
                let message = format!("this cluster was merged from {LINEAGE_MAX} already");
                return self.fail(ask, ErrorCode::Invalid, &message);
            }
            let mut union = self.me.lineage.clone();
            union.push(lineage);
            self.set_lineage(union);
            self.foreign.remove(&lineage);
            self.hurry_beacon();
        }
        self.answer(ask, Reply::Merging { lineages: self.me.lineage.clone() });
    }

    /// Where each copy of a file is, what happens to them next, and what that waits for.
    pub(super) fn why(&mut self, ask: AskId, name: &FileName) {
        let Some(row) = self.row(name) else {
            let removed = removed::resolve(&self.catalog, name).is_some();
            let more = if removed { "; it was removed, and `thorp restore` brings it back" } else { "" };
            return self.fail(ask, ErrorCode::NotFound, &format!("no file `{name}`{more}"));
        };
        let alike = shown::resolve(&self.catalog, name)
            .and_then(|(_, version)| version.body.content())
            .and_then(|(content, _)| self.catalog.content(&content));
        let (wanted, versions) = alike.map_or((row.wanted, 1), |refs| (refs.wanted(), refs.versions()));
        let content = row.body.content();
        let holders = content.map_or(Vec::new(), |(content, _)| self.holders_of(&content));
        let copies = holders.iter().map(|holder| Copy {
            node: holder.node,
            state: holder.state,
            silent_ms: self.members.get(holder.node).map_or(0, |member| self.now.since(member.heard_at())),
        });
        let copies: Vec<Copy> = copies.collect();
        let (waiting, for_ms) = content.map_or((Waiting::Nothing, 0), |(content, size)| {
            let (pulling, candidates) = (self.pulling(&content), self.candidates(&[]));
            self.waiting(&PlanInput {
                content,
                size,
                wanted,
                holders: &holders,
                pulling: &pulling,
                candidates: &candidates,
            })
        });
        let mut mentioned: BTreeSet<NodeId> = copies.iter().map(|copy| copy.node).collect();
        mentioned.extend(&row.holders);
        match &waiting {
            Waiting::Pull { to } => mentioned.extend(to),
            Waiting::Drop { at } => drop(mentioned.insert(*at)),
            Waiting::Unheard { nodes } => mentioned.extend(nodes),
            _ => {}
        }
        let nodes = self.routes_of(mentioned.into_iter());
        let explanation = Explanation { row, nodes, wanted, versions, copies, waiting, for_ms };
        self.answer(ask, Reply::Why(Box::new(explanation)));
    }

    /// What the next step for a content waits for, and how long it has.
    fn waiting(&self, input: &PlanInput<'_>) -> (Waiting, u64) {
        let Some(office) = &self.office else {
            return (Waiting::Nothing, 0);
        };
        let content = input.content;
        let unheard = || {
            let nodes = self.up_nodes().filter(|node| {
                node.storage && !office.inventories.is_complete(node.node, node.instance)
                    || (node.node != self.config.node && !office.synced.contains(&node.node))
            });
            nodes.map(|node| node.node).collect::<Vec<NodeId>>()
        };
        let in_office = self.now.since(office.since);
        if let Some((at, since)) = office.drops.get(&content) {
            return (Waiting::Drop { at: *at }, self.now.since(*since));
        }
        let since = input.pulling.iter().filter_map(|to| office.pulls.get(&(content, *to)));
        if let Some(since) = since.map(|job| job.since).min() {
            return (Waiting::Pull { to: input.pulling.to_vec() }, self.now.since(since));
        }
        match planner::plan(input) {
            Decision::Nothing => (Waiting::Nothing, 0),
            _ if !office.is_ready() && in_office < SAFE_MODE_MS_MAX => {
                (Waiting::Unheard { nodes: unheard() }, in_office)
            }
            Decision::Wait => (Waiting::Return, 0),
            Decision::Stuck => {
                let since = office.short.get(&content).map_or(0, |at| self.now.since(*at));
                let source = input.holders.iter().any(|holder| holder.state <= HolderState::Up);
                (if source { Waiting::Machine } else { Waiting::Source }, since)
            }
            Decision::Drop { .. } if !self.all_reported() || !self.all_synced() => {
                (Waiting::Unheard { nodes: unheard() }, in_office)
            }
            Decision::Pull { .. } | Decision::Drop { .. } => (Waiting::Turn, 0),
        }
    }
}
