//! The proxy's part: knowing where copies are, and ordering pulls and drops until every content
//! has as many as are wanted.
//!
//! Invariants: a new proxy knows nothing and does no harm. It orders no pull before it has heard
//! from everybody or [`SAFE_MODE_MS_MAX`] have passed, and no drop before every storage node that
//! is up has reported its whole inventory in its present run. For one content at most one drop is out
//! at a time.

use super::Engine;
use super::agenda::Agenda;
use super::balancing::Moves;
use super::event::{Effect, Note};
use super::fresh::Fresh;
use super::placing::Extension;
use super::requests::{Commit, WaitingCommit};
use super::watching::Watching;
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::{PULL_SILENCE_MS, PULLS_PER_NODE_MAX, SAFE_MODE_MS_MAX};
use crate::replication::inventory::Inventories;
use crate::types::{ContentId, ContentMap, DiskId, InstanceId, NodeId, Pin, Term};
use crate::wire::message::{Message, PullState};
use std::collections::{BTreeMap, BTreeSet};

/// State of a proxy in its term.
#[derive(Debug)]
pub(super) struct Office {
    pub(super) term: Term,
    pub(super) since: Moment,
    pub(super) ready: bool,
    /// Nothing is healed before: a node that has just come back is about to report what it holds.
    pub(super) unsettled_until: Moment,
    pub(super) inventories: Inventories,
    /// Peers whose catalogs were seen equal, or were read whole, in this term.
    pub(super) synced: BTreeSet<NodeId>,
    /// When a peer's inventory was last asked for.
    asked: BTreeMap<NodeId, Moment>,
    /// Commits none of whose holders has reported the content yet.
    pub(super) waiting_commits: Vec<WaitingCommit>,
    /// Since when a peer's own count of contents has differed from what it reported.
    mismatched: BTreeMap<NodeId, (u64, Moment)>,
    /// Which contents are looked at next.
    pub(super) agenda: Agenda,
    /// Contents that wait for another machine, as many as are noted, and since when.
    pub(super) short: ContentMap<Moment>,
    pub(super) pulls: BTreeMap<(ContentId, NodeId), PullJob>,
    pub(super) drops: BTreeMap<ContentId, (NodeId, Moment)>,
    /// Contents that a put brought lately, and until when none of their copies is dropped: its
    /// commit is about to count them.
    pub(super) fresh: Fresh,
    /// An entry names a content that nobody is known to hold: it may be among those only counted.
    pub(super) unheard: bool,
    /// Contents of which somebody asked for more copies, as many as are noted, and until when they do
    /// not wait for machines that are off.
    pub(super) wished: ContentMap<Moment>,
    /// Copies on their way to emptier machines.
    pub(super) moves: Moves,
    /// Nodes that failed a pull, and until when others are preferred.
    pub(super) avoided: BTreeMap<NodeId, Moment>,
    pub(super) commits: BTreeMap<u64, Commit>,
    pub(super) extensions: Vec<Extension>,
    /// Who watches, and for what.
    pub(super) watching: Watching,
}

#[derive(Debug)]
pub(super) struct PullJob {
    pub(super) small: bool,
    pub(super) since: Moment,
    pub(super) heard: Moment,
    /// Whether it mends a loss (and not a wish for more copies).
    pub(super) heals: bool,
}

/// Contents up to this size count as small: many of them may be pulled at once.
pub(super) const SMALL_BYTES: u64 = 1 << 20;
/// Small pulls under way at one node.
const SMALL_PULLS_PER_NODE_MAX: usize = 64;
/// Wait before an order that failed is thought over, in milliseconds.
const RETRY_MS: u64 = 2_000;
/// A drop that has not been answered for this long is thought over, in milliseconds.
const DROP_SILENCE_MS: u64 = 15_000;
/// Wait for the inventory of a node that has just come, before anything is healed, in milliseconds.
const SETTLE_MS: u64 = 5_000;
/// A name that is not known is "not found" at the latest this long after taking office, whoever is
/// still silent about its catalog, in milliseconds.
const NAMES_MS_MAX: u64 = 20_000;
/// How long the word of a put's holders may take, in milliseconds.
pub(super) const UNHEARD_MS: u64 = 1_500;
/// How long a put's copies are left alone, in milliseconds: longer than a commit may take.
pub(super) const FRESH_MS: u64 = 8_000;
/// Drops ordered at one node at a time: a link's queue is bounded.
pub(super) const DROPS_PER_NODE_MAX: usize = 64;
/// An inventory whose pages are coming is not asked for anew before this, in milliseconds.
const INVENTORY_PATIENCE_MS: u64 = 10_000;
/// How often an inventory is asked for, in milliseconds.
const INVENTORY_ASK_MS: u64 = 2_000;
/// A peer's count must differ from its report for this long before it is asked anew.
const MISMATCH_MS: u64 = 4_000;

impl Office {
    fn new(term: Term, since: Moment) -> Office {
        Office {
            term,
            since,
            ready: false,
            unsettled_until: since,
            inventories: Inventories::default(),
            synced: BTreeSet::new(),
            asked: BTreeMap::new(),
            waiting_commits: Vec::new(),
            mismatched: BTreeMap::new(),
            agenda: Agenda::default(),
            pulls: BTreeMap::new(),
            drops: BTreeMap::new(),
            fresh: Fresh::default(),
            unheard: false,
            short: ContentMap::default(),
            wished: ContentMap::default(),
            moves: Moves::default(),
            avoided: BTreeMap::new(),
            commits: BTreeMap::new(),
            extensions: Vec::new(),
            watching: Watching::default(),
        }
    }

    /// These contents shall be looked at.
    pub(super) fn look_at(&mut self, contents: impl IntoIterator<Item = ContentId>) {
        for content in contents {
            self.agenda.look_at(content);
            self.watching.copies_changed(content);
        }
    }

    /// Anything may have happened to any content.
    fn look_at_all(&mut self) {
        self.agenda.look_at_all();
        self.watching.all_changed();
    }

    /// Whether it has heard from everybody, so that "not found" is the truth.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    fn pulls_at(&self, node: NodeId, small: bool) -> usize {
        self.pulls.iter().filter(|((_, to), job)| *to == node && job.small == small).count()
    }

    pub(super) fn has_slot(&self, node: NodeId, size: u64) -> bool {
        if size <= SMALL_BYTES {
            self.pulls_at(node, true) < SMALL_PULLS_PER_NODE_MAX
        } else {
            self.pulls_at(node, false) < PULLS_PER_NODE_MAX
        }
    }

    pub(super) fn drops_at(&self, node: NodeId) -> usize {
        self.drops.values().filter(|(at, _)| *at == node).count()
    }
}

impl Engine {
    pub(super) fn take_office(&mut self, term: Term) {
        self.leave_office();
        let mut office = Office::new(term, self.now);
        office.look_at_all();
        self.office = Some(office);
    }

    pub(super) fn leave_office(&mut self) {
        if let Some(office) = self.office.take() {
            self.abandon_requests(office);
        }
    }

    /// A node is new or restarted: what it reported before is void.
    pub(super) fn void_reports(&mut self, node: NodeId) {
        self.exchange.forget_peer(node);
        self.end_extensions(|extension| extension.to == node);
        self.commits_forget(node);
        let now = self.now;
        if let Some(office) = &mut self.office {
            office.unsettled_until = now.plus(SETTLE_MS);
            office.synced.remove(&node);
            office.asked.remove(&node);
            if office.inventories.void(node) {
                office.look_at_all();
            }
        }
    }

    /// A node came, fell silent or left: that concerns its contents, and those that wait for a
    /// machine.
    pub(super) fn member_changed(&mut self, node: NodeId) {
        let up = self.freshness_of(node) == Freshness::Up;
        if let Some(office) = &mut self.office {
            if !up {
                office.synced.remove(&node); // it may change its catalog where we do not hear it
            }
            office.look_at_all();
        }
        self.requests_lose(node);
    }

    /// A node is drained, or its disk failed, or no longer: its copies count otherwise.
    pub(super) fn look_at_all(&mut self) {
        if let Some(office) = &mut self.office {
            office.look_at_all();
        }
    }

    pub(super) fn must_sync_with(&self, peer: NodeId) -> bool {
        self.office.as_ref().is_some_and(|office| !office.synced.contains(&peer))
    }

    pub(super) fn synced_with(&mut self, peer: NodeId) {
        if let Some(office) = &mut self.office {
            office.synced.insert(peer);
        }
    }

    pub(super) fn inventory_heard(
        &mut self,
        from: NodeId,
        instance: InstanceId,
        term: Term,
        disk: DiskId,
        (page, contents, last): (u32, &[ContentId], bool),
    ) {
        let Some(office) = self.office.as_mut().filter(|office| office.term == term) else {
            return;
        };
        match office.inventories.page((from, instance, disk), page, contents, last) {
            Some(changed) => {
                office.look_at_all();
                let catalog = &self.catalog;
                office.inventories.settle(|content| catalog.names_content(content));
                self.extensions_hear(from, &changed);
            }
            None => {
                office.asked.remove(&from);
            }
        }
    }

    pub(super) fn inventory_changed(
        &mut self,
        from: NodeId,
        instance: InstanceId,
        term: Term,
        disk: DiskId,
        added: &[ContentId],
        removed: &[ContentId],
    ) {
        let until = self.now.plus(FRESH_MS);
        let Some(office) = self.office.as_mut().filter(|office| office.term == term) else {
            return;
        };
        let brought = added.iter().filter(|content| !office.pulls.contains_key(&(**content, from)));
        let brought: Vec<ContentId> = brought.copied().collect();
        for content in brought {
            office.fresh.insert(content, until);
        }
        if let Some(changed) = office.inventories.change((from, instance, disk), added, removed) {
            office.look_at(changed);
            let catalog = &self.catalog;
            office.inventories.settle(|content| catalog.names_content(content));
        }
        for content in removed {
            if office.drops.get(content).is_some_and(|(node, _)| *node == from) {
                office.drops.remove(content);
            }
        }
        self.extensions_hear(from, added);
        self.resume_commits();
    }

    pub(super) fn pull_state(&mut self, from: NodeId, term: Term, content: ContentId, state: PullState) {
        let now = self.now;
        let Some(office) = self.office.as_mut().filter(|office| office.term == term) else {
            return;
        };
        match state {
            PullState::Working => {
                if let Some(job) = office.pulls.get_mut(&(content, from)) {
                    job.heard = now;
                }
                self.extension_works(from, content);
            }
            PullState::Done => {
                if office.inventories.confirm(from, content) {
                    office.look_at([content]);
                }
                if let Some(job) = office.pulls.remove(&(content, from)) {
                    office.look_at([content]);
                    office.agenda.resume(4);
                    if job.heals {
                        self.effects.push_back(Effect::Note(Note::Healed { content, node: from }));
                    }
                }
                self.extensions_hear(from, &[content]);
            }
            PullState::Failed => {
                if office.pulls.remove(&(content, from)).is_some() {
                    office.avoided.insert(from, now.plus(5 * RETRY_MS));
                    office.agenda.look_at_later(now.plus(RETRY_MS), content);
                    office.agenda.resume(4);
                }
                self.extension_failed(from, content);
            }
        }
    }

    pub(super) fn drop_refused(&mut self, from: NodeId, term: Term, content: ContentId) {
        let again = self.now.plus(RETRY_MS);
        if let Some(office) = self.office.as_mut().filter(|office| office.term == term)
            && office.drops.get(&content).is_some_and(|(node, _)| *node == from)
        {
            office.drops.remove(&content);
            office.agenda.look_at_later(again, content);
        }
    }

    pub(super) fn office_tick(&mut self) {
        if self.office.is_none() {
            return;
        }
        self.ask_inventories();
        self.judge_readiness();
        self.requests_tick();
        let now = self.now;
        if let Some(office) = &mut self.office {
            office.avoided.retain(|_, until| now < *until);
            office.fresh.tick(now);
            office.wished.retain(|_, until| now < *until);
            let catalog = &self.catalog;
            office.inventories.settle(|content| catalog.names_content(content));
            let silent = office.pulls.iter().filter(|(_, job)| now.since(job.heard) >= PULL_SILENCE_MS);
            let silent: Vec<(ContentId, NodeId)> = silent.map(|(key, _)| *key).collect();
            for (content, to) in silent {
                office.pulls.remove(&(content, to));
                office.avoided.insert(to, now.plus(5 * RETRY_MS));
                office.agenda.look_at(content);
            }
            let late = office.drops.iter().filter(|(_, (_, at))| now.since(*at) >= DROP_SILENCE_MS);
            let late: Vec<ContentId> = late.map(|(content, _)| *content).collect();
            for content in late {
                office.drops.remove(&content);
                office.agenda.look_at(content);
            }
            office.agenda.tick(now);
            office.agenda.resume(16);
        }
        self.plan();
    }

    /// Asks for what is missing, and anew where a node's own count differs from its report.
    fn ask_inventories(&mut self) {
        let now = self.now;
        let storage: Vec<(NodeId, InstanceId, u64, u64)> = self
            .up_nodes()
            .filter(|node| node.storage)
            .map(|node| (node.node, node.instance, node.contents, node.inventory_digest))
            .collect();
        let me = self.config.node;
        let Some(office) = &mut self.office else {
            return;
        };
        office.unheard &= storage.iter().any(|(node, ..)| office.inventories.hides(*node));
        let mut asks = Vec::new();
        for (node, instance, contents, digest) in storage {
            let complete = office.inventories.is_complete(node, instance);
            let equal = office.inventories.tally(node) == (contents, digest);
            if equal || node == me {
                office.mismatched.remove(&node);
            }
            let stale = !equal && complete && node != me && {
                let (seen, since) = *office.mismatched.entry(node).or_insert((digest, now));
                if seen != digest {
                    office.mismatched.insert(node, (digest, now));
                }
                seen == digest && now.since(since) >= MISMATCH_MS
            };
            let rested = office.asked.get(&node).is_none_or(|at| now.since(*at) >= INVENTORY_ASK_MS);
            let early = now.since(office.since) < 500; // it reports by itself when it follows
            let coming = office.inventories.is_under_way(node, instance)
                && office.asked.get(&node).is_none_or(|at| now.since(*at) < INVENTORY_PATIENCE_MS);
            let patient = office.asked.get(&node).is_none_or(|at| now.since(*at) >= INVENTORY_PATIENCE_MS);
            let hides = office.unheard && complete && patient && office.inventories.hides(node);
            if (stale || hides || (!complete && !early && !coming)) && rested {
                office.asked.insert(node, now);
                office.mismatched.remove(&node);
                asks.push(node);
            }
        }
        office.unheard &= asks.is_empty();
        let term = office.term;
        for node in asks {
            self.send(node, Message::InventoryAsk { term });
        }
    }

    fn judge_readiness(&mut self) {
        let me = self.config.node;
        let Some(office) = &self.office else {
            return;
        };
        if office.ready {
            return;
        }
        let heard = self.up_nodes().filter(|node| node.pin != Pin::Client).all(|node| {
            let synced = node.node == me || office.synced.contains(&node.node);
            let reported = !node.storage || office.inventories.is_complete(node.node, node.instance);
            synced && reported
        });
        // A node with files that hears nobody may just be the first to be back.
        let alone = self.members.iter().next().is_none()
            && self.config.met_others
            && !self.catalog.context().is_empty();
        let (term, in_office) = (office.term, self.now.since(office.since));
        let done = if alone { in_office >= SAFE_MODE_MS_MAX } else { heard };
        if done || in_office >= NAMES_MS_MAX {
            if let Some(office) = &mut self.office {
                office.ready = true;
            }
            self.note(Note::Ready { term });
        }
    }

    /// Whether every storage node that is up has reported its whole inventory.
    pub(super) fn all_reported(&self) -> bool {
        self.office.as_ref().is_some_and(|office| {
            self.up_nodes()
                .filter(|node| node.storage)
                .all(|node| office.inventories.is_complete(node.node, node.instance))
        })
    }

    /// Whether every catalog of a node that is up has been read: one may know of a greater wish.
    pub(super) fn all_synced(&self) -> bool {
        let me = self.config.node;
        self.office.as_ref().is_some_and(|office| {
            self.up_nodes()
                .filter(|node| node.pin != Pin::Client && node.node != me)
                .all(|node| office.synced.contains(&node.node))
        })
    }
}
