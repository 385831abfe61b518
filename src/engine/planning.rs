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
use crate::types::{ContentId, DiskState, MachineId, NodeId, Pin};
use crate::wire::message::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Contents glanced at in one step of a sweep: some milliseconds.
const SWEEP_STEP_MAX: usize = 8_192;

/// Wait before a content is looked at again of which silent machines may have copies, in milliseconds.
const UNHEARD_HOLDER_MS: u64 = 2_000;
/// Contents of which it is noted since when they wait for a machine: people ask about a few.
const SHORT_NOTED_MAX: usize = 4_096;

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
                    draining: presence.draining,
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
                    Freshness::Up if presence.draining => HolderState::Draining,
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
            office.agenda.unblock();
        }
        let candidates = self.candidates(&[]);
        if self.office.as_ref().is_none_or(|office| office.agenda.is_empty()) {
            if may_drop {
                self.balance(&candidates);
            }
            return;
        }
        for left in (0..PLAN_STEP_MAX).rev() {
            let Some(content) = self.office.as_mut().and_then(|office| office.agenda.next()) else {
                self.sweep(left + 1, &candidates, may_drop);
                return;
            };
            self.plan_one(content, &candidates, may_drop);
        }
    }

    /// Goes on through the catalog, up to `most` contents that are not as they should be.
    fn sweep(&mut self, most: usize, candidates: &[Candidate], may_drop: bool) {
        let Some(sweep) = self.office.as_ref().and_then(|office| office.agenda.sweep()) else {
            return;
        };
        let up: BTreeMap<NodeId, &MachineId> = self
            .up_nodes()
            .filter(|presence| !presence.draining && presence.disk_state != DiskState::Suspect)
            .map(|presence| (presence.node, &presence.machine))
            .collect();
        let mut found = Vec::new();
        let mut after = None;
        for (content, refs) in self.catalog.contents_after(sweep.after.as_ref()).take(SWEEP_STEP_MAX) {
            if !self.is_calm(content, refs.wanted(), &up) {
                found.push(*content);
            }
            after = Some(*content);
            if found.len() >= most {
                break;
            }
        }
        if let Some(office) = &mut self.office {
            office.agenda.swept(after);
        }
        for content in found {
            self.plan_one(content, candidates, may_drop);
        }
    }

    /// Whether there is nothing to plan at a glance: all its holders are up, on as many machines as
    /// are wanted, and none is leaving.
    fn is_calm(&self, content: &ContentId, wanted: u8, up: &BTreeMap<NodeId, &MachineId>) -> bool {
        let Some(office) = &self.office else {
            return true;
        };
        let mut machines: Vec<Option<&MachineId>> =
            office.inventories.holders(content).map(|node| up.get(&node).copied()).collect();
        let holders = machines.len();
        machines.sort_unstable();
        machines.dedup();
        holders == usize::from(wanted)
            && holders == machines.len()
            && !machines.contains(&None)
            && !office.drops.contains_key(content)
    }

    /// Whether somebody asked for more copies of it lately, and is not to wait for machines that are off.
    fn is_wished(&self, content: &ContentId) -> bool {
        self.office.as_ref().is_some_and(|office| office.wished.contains(content))
    }

    /// Whether copies that no holder told this proxy of may make up for those that are missing: those
    /// of storage nodes that fell silent, or left, before they could, and have not been given up. The
    /// last live copy waits for nobody but for those just fallen silent.
    fn may_be_unheard(&self, holders: &[Holder], wanted: u8) -> bool {
        let Some(office) = &self.office else {
            return false;
        };
        let counts =
            |state: HolderState| matches!(state, HolderState::Up | HolderState::Suspect | HolderState::Away);
        let mut machines: BTreeSet<&MachineId> =
            holders.iter().filter(|holder| counts(holder.state)).map(|holder| &holder.machine).collect();
        let known = machines.len();
        let up = holders.iter().filter(|holder| holder.state == HolderState::Up).count();
        for presence in self.all_nodes().filter(|presence| presence.storage) {
            let waited_for = match self.freshness_of(presence.node) {
                Freshness::Suspect | Freshness::Away => true,
                Freshness::Late => up > 1,
                Freshness::Up | Freshness::Gone => false,
            };
            if waited_for && !office.inventories.is_complete(presence.node, presence.instance) {
                machines.insert(&presence.machine);
            }
        }
        machines.len() > known && machines.len() >= usize::from(wanted)
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
            if let Some(office) = &mut self.office {
                office.short.remove(&content);
            }
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
            if decision != Decision::Stuck {
                office.short.remove(&content);
            }
            match decision {
                Decision::Nothing => return,
                Decision::Wait => {
                    return; // looked at again when an order ends, or a holder comes, or is given up
                }
                Decision::Stuck => {
                    office.agenda.wait_for_machine(now);
                    if office.short.len() < SHORT_NOTED_MAX && !office.short.contains(&content) {
                        office.short.insert(content, now);
                    }
                    return;
                }
                Decision::Pull { to, from } => {
                    // A machine that fell silent before it told this proxy what it holds may have it.
                    if !self.is_wished(&content) && self.may_be_unheard(&holders, wanted) {
                        if let Some(office) = &mut self.office {
                            office.agenda.look_at_later(now.plus(UNHEARD_HOLDER_MS), content);
                        }
                        return;
                    }
                    let Some(office) = &mut self.office else {
                        return;
                    };
                    // The word of a put's other holders may be on its way.
                    let soon =
                        office.fresh.until(&content).map(|until| Moment(until.0 - FRESH_MS + UNHEARD_MS));
                    if let Some(soon) = soon.filter(|soon| now < *soon) {
                        office.agenda.look_at_later(soon, content);
                        return;
                    }
                    if !office.has_slot(to, size) {
                        office.agenda.defer(content, from.len() <= 1);
                        return;
                    }
                    let heals = holders.iter().any(|holder| holder.state == HolderState::Gone);
                    let job = PullJob { small: size <= SMALL_BYTES, since: now, heard: now, heals };
                    office.pulls.insert((content, to), job);
                    office.watching.copies_changed(content);
                    let term = office.term;
                    let from = self.routes_of(from.into_iter());
                    self.send(to, Message::PullOrder { term, content, size, from });
                }
                Decision::Drop { at, keepers, wanted } => {
                    if let Some(until) = office.fresh.kept_until(&content) {
                        office.agenda.look_at_later(until, content);
                    } else if office.drops_at(at) >= DROPS_PER_NODE_MAX {
                        office.agenda.defer(content, false);
                    } else if may_drop {
                        office.drops.insert(content, (at, now));
                        let term = office.term;
                        self.send(at, Message::DropOrder { term, content, wanted, keepers });
                    } else {
                        office.agenda.block();
                    }
                    return;
                }
            }
        }
    }
}
