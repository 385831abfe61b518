//! Where a put's copies go: its chain, and the pulls that fill in for holders that failed.
//!
//! Invariant (promise P1): as many machines as are wanted, or as there are; a machine that is
//! stored on already is never chosen again.

use super::Engine;
use super::event::AskId;
use crate::clock::Moment;
use crate::limits::REPLICAS_MAX;
use crate::replication::{placement, shown};
use crate::types::{Body, ContentId, FileName, MachineId, NodeId};
use crate::wire::message::{ErrorCode, Message, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// A pull that a put waits for.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) ask: AskId,
    pub(super) content: ContentId,
    pub(super) to: NodeId,
    pub(super) since: Moment,
}

impl Engine {
    pub(super) fn put_open(
        &mut self,
        ask: AskId,
        machine: &MachineId,
        names: &[FileName],
        bytes: u64,
        replicas: u8,
        exclude: &[NodeId],
    ) {
        if replicas == 0 || replicas > REPLICAS_MAX {
            self.fail(ask, ErrorCode::Invalid, "the number of copies must be 1 to 64");
            return;
        }
        for name in names {
            let body = Body::File { content: ContentId::default(), size: 0 };
            if let Some(obstacle) = shown::obstacle(&self.catalog, name, &body) {
                let message = format!("`{name}` cannot be stored: `{obstacle}` is in its way");
                self.fail(ask, ErrorCode::NameTaken, &message);
                return;
            }
        }
        let candidates = self.candidates(exclude);
        let wanted = usize::from(replicas);
        let mut chosen = self.holders_of_old(names, machine, &candidates, bytes);
        chosen.truncate(wanted);
        let taken: BTreeSet<MachineId> = chosen
            .iter()
            .filter_map(|node| self.presence_of(*node).map(|presence| presence.machine.clone()))
            .collect();
        let seed = names.first().map_or(&b""[..], |name| name.as_str().as_bytes());
        let more = wanted - chosen.len();
        chosen.extend(placement::choose(&candidates, &taken, bytes, more, seed, Some(machine)));
        if chosen.is_empty() {
            let any = candidates.iter().any(|candidate| candidate.up && candidate.storage);
            if any {
                self.fail(ask, ErrorCode::NoSpace, "no machine has enough free space");
            } else {
                self.fail(ask, ErrorCode::NoStorage, "no machine that stores files is up");
            }
            return;
        }
        let chain = self.routes_of(chosen.into_iter());
        self.answer(ask, Reply::PutPlan { chain });
    }

    /// Who holds what these names stand for now, the most of it first, one node a machine: there
    /// only what changed has to travel.
    fn holders_of_old(
        &self,
        names: &[FileName],
        machine: &MachineId,
        candidates: &[placement::Candidate],
        bytes: u64,
    ) -> Vec<NodeId> {
        let Some(office) = &self.office else {
            return Vec::new();
        };
        let mut held: BTreeMap<NodeId, u64> = BTreeMap::new();
        for name in names {
            let old = shown::plain(&self.catalog, name).and_then(|version| version.body.content());
            if let Some((content, size)) = old {
                for node in office.inventories.holders(&content) {
                    *held.entry(node).or_default() += size;
                }
            }
        }
        let mut nodes: Vec<&placement::Candidate> = candidates
            .iter()
            .filter(|candidate| candidate.takes(bytes) && held.contains_key(&candidate.node))
            .collect();
        nodes.sort_by_key(|candidate| {
            (candidate.machine != *machine, std::cmp::Reverse(held.get(&candidate.node)), candidate.node)
        });
        let mut machines = BTreeSet::new();
        nodes.retain(|candidate| machines.insert(&candidate.machine));
        nodes.into_iter().map(|candidate| candidate.node).collect()
    }

    pub(super) fn extend(
        &mut self,
        ask: AskId,
        content: ContentId,
        size: u64,
        holders: &[NodeId],
        replicas: u8,
        exclude: &[NodeId],
    ) {
        let candidates = self.candidates(exclude);
        let taken: BTreeSet<MachineId> = holders
            .iter()
            .filter_map(|node| self.presence_of(*node).map(|presence| presence.machine.clone()))
            .collect();
        let short = taken.len() < usize::from(replicas);
        let chosen = placement::choose(&candidates, &taken, size, 1, &content.0, None);
        let Some(to) = chosen.first().copied().filter(|_| short) else {
            self.fail(ask, ErrorCode::NoStorage, "there is no other machine that could take a copy");
            return;
        };
        let Some(office) = &mut self.office else {
            return;
        };
        office.extensions.push(Extension { ask, content, to, since: self.now });
        let term = office.term;
        let from = self.routes_of(holders.iter().copied());
        self.send(to, Message::PullOrder { term, content, size, from });
    }

    pub(super) fn extensions_hear(&mut self, from: NodeId, stored: &[ContentId]) {
        let Some(office) = &mut self.office else {
            return;
        };
        if office.extensions.is_empty() {
            return;
        }
        let extensions = std::mem::take(&mut office.extensions);
        let (done, waiting) = extensions
            .into_iter()
            .partition(|extension| extension.to == from && stored.contains(&extension.content));
        office.extensions = waiting;
        let done: Vec<Extension> = done;
        for extension in done {
            self.answer(extension.ask, Reply::Extended { node: from });
        }
    }

    pub(super) fn extension_failed(&mut self, at: NodeId, content: ContentId) {
        self.end_extensions(|extension| extension.to == at && extension.content == content);
    }

    /// The pull is under way.
    pub(super) fn extension_works(&mut self, at: NodeId, content: ContentId) {
        let now = self.now;
        if let Some(office) = &mut self.office {
            let ours = office.extensions.iter_mut();
            ours.filter(|extension| extension.to == at && extension.content == content)
                .for_each(|extension| extension.since = now);
        }
    }

    pub(super) fn end_extensions(&mut self, which: impl Fn(&Extension) -> bool) {
        let Some(office) = &mut self.office else {
            return;
        };
        let extensions = std::mem::take(&mut office.extensions);
        let (failed, waiting): (Vec<Extension>, Vec<Extension>) = extensions.into_iter().partition(which);
        office.extensions = waiting;
        for extension in failed {
            self.fail(extension.ask, ErrorCode::Connection, "the other machine could not take a copy");
        }
    }
}
