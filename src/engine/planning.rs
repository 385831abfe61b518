//! The proxy's planning: looks at contents one by one and orders pulls and drops.
//!
//! Invariants: no pull is ordered in safe mode, no drop before everybody that is up has reported its
//! inventory and its catalog; for one content at most one drop is out at a time.

use super::Engine;
use super::office::{DROPS_PER_NODE_MAX, FRESH_MS, PullJob, SMALL_BYTES, UNHEARD_MS};
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::{PLAN_STEP_MAX, SAFE_MODE_MS_MAX};
use crate::replication::Candidate;
use crate::replication::planner::{self, Decision, Holder, HolderState, PlanInput};
use crate::types::{ContentId, DiskState, NodeId, Pin};
use crate::wire::message::Message;

impl Engine {
    /// The nodes that could take a copy.
    pub(super) fn candidates(&self, exclude: &[NodeId]) -> Vec<Candidate> {
        self.all_nodes()
            .map(|presence| {
                let node = presence.node;
                let avoided = self.office.as_ref().is_some_and(|office| office.avoided.contains_key(&node));
                let up = self.freshness_of(node) == Freshness::Up;
                let pulls = self
                    .office
                    .as_ref()
                    .map_or(0, |office| office.pulls.keys().filter(|(_, to)| *to == node).count());
                Candidate {
                    node,
                    machine: presence.machine.clone(),
                    up: up && !exclude.contains(&node),
                    storage: presence.storage,
                    free_bytes: presence.free_bytes,
                    capacity_bytes: presence.capacity_bytes,
                    // One that failed lately comes after all others, not never.
                    transfers: u32::try_from(pulls).unwrap_or(u32::MAX) + if avoided { 1_000_000 } else { 0 },
                    draining: false,
                }
            })
            .collect()
    }

    /// What is known of the holders of a content.
    pub(super) fn holders_of(&self, content: &ContentId) -> Vec<Holder> {
        let Some(office) = &self.office else {
            return Vec::new();
        };
        let known: Vec<(NodeId, Freshness)> =
            office.inventories.holders(content).map(|node| (node, self.freshness_of(node))).collect();
        let dropping = office.drops.get(content).map(|(node, _)| *node);
        let up = known.iter().filter(|(_, fresh)| *fresh == Freshness::Up).count();
        known
            .into_iter()
            .filter_map(|(node, fresh)| {
                let presence = self.presence_of(node)?;
                let state = match fresh {
                    Freshness::Up if dropping == Some(node) => HolderState::Dropping,
                    Freshness::Up if presence.disk_state == DiskState::Suspect => HolderState::Failing,
                    Freshness::Up => HolderState::Up,
                    Freshness::Suspect => HolderState::Suspect,
                    // One live copy left shortens the silence.
                    Freshness::Late if up <= 1 => HolderState::Gone,
                    Freshness::Late => HolderState::Suspect,
                    Freshness::Away => HolderState::Away,
                    Freshness::Gone => HolderState::Gone,
                };
                Some(Holder { node, machine: presence.machine.clone(), state })
            })
            .collect()
    }

    pub(super) fn plan(&mut self) {
        let Some(office) = &self.office else {
            return;
        };
        let safe = office.ready || self.now.since(office.since) >= SAFE_MODE_MS_MAX;
        let reported = self.all_reported();
        let settled = self.up_nodes().all(|node| {
            let keeps = matches!(node.pin, Pin::Auto | Pin::Storage);
            !keeps || office.inventories.is_complete(node.node, node.instance)
        });
        if !safe || (!settled && self.now < office.unsettled_until) {
            return;
        }
        let may_drop = reported && self.all_synced();
        if let Some(office) = self.office.as_mut().filter(|_| may_drop) {
            let blocked = std::mem::take(&mut office.blocked);
            office.look_at(blocked);
        }
        if self.office.as_ref().is_none_or(|office| office.dirty.order.is_empty()) {
            return;
        }
        let candidates = self.candidates(&[]);
        for _ in 0..PLAN_STEP_MAX {
            let Some(content) = self.office.as_mut().and_then(|office| office.dirty.pop()) else {
                return;
            };
            self.plan_one(content, &candidates, may_drop);
        }
    }

    /// Nodes that were ordered to pull `content` and are at it.
    pub(super) fn pulling(&self, content: &ContentId) -> Vec<NodeId> {
        let Some(office) = &self.office else {
            return Vec::new();
        };
        let range = (*content, NodeId([0; 16]))..=(*content, NodeId([255; 16]));
        office.pulls.range(range).map(|((_, to), _)| *to).collect()
    }

    fn plan_one(&mut self, content: ContentId, candidates: &[Candidate], may_drop: bool) {
        let Some(refs) = self.catalog.content(&content) else {
            return;
        };
        let (wanted, size) = (refs.wanted(), refs.size);
        let now = self.now;
        loop {
            let holders = self.holders_of(&content);
            let pulling = self.pulling(&content);
            let input = PlanInput { content, size, wanted, holders: &holders, pulling: &pulling, candidates };
            let decision = planner::plan(&input);
            let Some(office) = &mut self.office else {
                return;
            };
            match decision {
                Decision::Nothing => return,
                Decision::Wait => {
                    return; // looked at again when an order ends, or a holder comes, or is given up
                }
                Decision::Stuck => {
                    office.stuck.insert(content);
                    return;
                }
                Decision::Pull { to, from } => {
                    // The word of a put's other holders may be on its way.
                    let soon =
                        office.fresh.get(&content).map(|until| Moment(until.0 - FRESH_MS + UNHEARD_MS));
                    if let Some(soon) = soon.filter(|soon| now < *soon) {
                        office.retry.insert((soon, content));
                        return;
                    }
                    if !office.has_slot(to, size) {
                        let queue = usize::from(from.len() > 1);
                        if let Some(queue) = office.deferred.get_mut(queue) {
                            queue.push(content);
                        }
                        return;
                    }
                    let heals = holders.iter().any(|holder| holder.state == HolderState::Gone);
                    let job = PullJob { small: size <= SMALL_BYTES, heard: now, heals };
                    office.pulls.insert((content, to), job);
                    let term = office.term;
                    let from = self.routes_of(from.into_iter());
                    self.send(to, Message::PullOrder { term, content, size, from });
                }
                Decision::Drop { at, keepers, wanted } => {
                    if let Some(until) = office.fresh.get(&content) {
                        office.retry.insert((*until, content));
                    } else if office.drops_at(at) >= DROPS_PER_NODE_MAX {
                        office.deferred[1].push(content);
                    } else if may_drop {
                        office.drops.insert(content, (at, now));
                        let term = office.term;
                        self.send(at, Message::DropOrder { term, content, wanted, keepers });
                    } else {
                        office.blocked.insert(content);
                    }
                    return;
                }
            }
        }
    }
}
