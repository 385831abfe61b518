//! A storage node's part: reporting what it holds, pulling what it is told to, and dropping only
//! under keep-promises.
//!
//! Invariant (promise P3): a copy is dropped only while unexpired promises of as many other holders
//! as copies are wanted are in hand, each given after that holder checked its copy; and a node
//! that is dropping a content promises nothing about it. Of two holders that would both drop, each
//! refuses the other, so both stay.

use super::Engine;
use super::event::Effect;
use super::exchange::AfterSave;
use super::office::FRESH_MS;
use crate::clock::{Moment, Rng};
use crate::limits::{
    CHECKS_MAX, KEEP_ASK_MS, KEEP_LEASE_MS, KEEP_TRUST_MS, ORPHAN_GRACE_MS, PROMISES_MAX, PULLS_ORDERED_MAX,
};
use crate::replication::inventory::content_digest;
use crate::replication::{Catalog, Merged};
use crate::types::{ContentId, ContentSet, NodeId, NodeRoute, Term};
use crate::wire::message::{Message, PullState};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Contents in one page of an inventory: 256 KiB.
const INVENTORY_PAGE: usize = 8_192;
/// Pages of an inventory sent a tick: they wait in memory for the link.
const INVENTORY_PAGES_A_TICK: usize = 4;
/// How often a pull that is under way is reported, in milliseconds.
const PULL_REPORT_MS: u64 = 3_000;
/// Changes of the inventory are told at most this often, in milliseconds, while several come together.
const FLUSH_MS: u64 = 5;
/// The same after one that came alone: somebody puts one file after the other, and waits for each to be told.
const FLUSH_ALONE_MS: u64 = 1;
/// With so many changes the proxy is told at once.
const CHANGES_MAX: usize = 4_096;
/// Contents thrown away in one round: the disk has other things to do.
const GARBAGE_STEP_MAX: usize = 512;
/// How long contents are kept that have left the trash too, in milliseconds.
const REMOVED_GRACE_MS: u64 = 2_000;
/// How often orphans are looked through, in milliseconds.
const ORPHANS_INTERVAL_MS: u64 = 2_000;

/// State of a storage node.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Pulls under way and when they were last reported.
    pulls: BTreeMap<ContentId, Moment>,
    drops: BTreeMap<ContentId, Dropping>,
    /// Promises given, by content and nonce, and until when each holds.
    promised: BTreeMap<(ContentId, u64), Moment>,
    /// Contents that no entry names, and since when.
    orphans: BTreeMap<ContentId, Orphan>,
    orphans_at: Moment,
    /// Orphans that the shell is throwing away: they are no copies any more.
    pub(super) garbage: BTreeSet<ContentId>,
    nonces: Rng,
    /// What is held, or no longer held, and the proxy has not been told.
    changes: BTreeMap<ContentId, bool>,
    flushed: Moment,
    /// How long after that more is told.
    pause_ms: u64,
    /// The report to the proxy that is under way.
    report: Option<Report>,
    /// Copies being checked for a promise.
    checking: usize,
}

/// A report of everything: the next page, and what came last in those before.
#[derive(Clone, Copy, Debug)]
struct Report {
    page: u32,
    after: Option<ContentId>,
}

/// A content that no entry names.
#[derive(Clone, Copy, Debug)]
struct Orphan {
    since: Moment,
    /// An entry named it and was removed or replaced; else its put may still be under way.
    removed: bool,
}

#[derive(Debug)]
struct Dropping {
    nonce: u64,
    asked: Moment,
    wanted: usize,
    promises: BTreeSet<NodeId>,
    /// Asked, and not refused.
    asked_of: BTreeSet<NodeId>,
    /// Who could be asked next, the likeliest to stay a holder first.
    further: VecDeque<NodeId>,
    /// The shell is at it: it cannot be called off any more.
    dropping: bool,
}

impl Keeper {
    pub(super) fn new(now: Moment, catalog: &Catalog, held: &ContentSet) -> Keeper {
        let orphans =
            held.iter().map(|(content, ())| content).filter(|content| !catalog.names_content(content));
        Keeper {
            pulls: BTreeMap::new(),
            drops: BTreeMap::new(),
            promised: BTreeMap::new(),
            orphans: orphans.map(|content| (*content, Orphan { since: now, removed: false })).collect(),
            orphans_at: now,
            garbage: BTreeSet::new(),
            nonces: Rng::seeded(catalog.digest() ^ now.0),
            changes: BTreeMap::new(),
            flushed: Moment::default(),
            pause_ms: FLUSH_MS,
            report: None,
            checking: 0,
        }
    }

    /// When the proxy is to be told of changes.
    pub(super) fn flush_at(&self) -> Option<Moment> {
        (!self.changes.is_empty()).then(|| self.flushed.plus(self.pause_ms))
    }
}

impl Engine {
    pub(super) fn content_stored(&mut self, content: ContentId) {
        if let Some(orphan) = self.keeper.orphans.get_mut(&content) {
            // Put once more: its entry is on the way.
            *orphan = Orphan { since: self.now, removed: false };
        }
        if self.held.insert(content, ()).is_some() {
            return;
        }
        self.me.inventory_digest = self.me.inventory_digest.wrapping_add(content_digest(&content));
        if !self.catalog.names_content(&content) {
            self.keeper.orphans.insert(content, Orphan { since: self.now, removed: false });
        }
        self.report_change(content, true);
    }

    pub(super) fn content_gone(&mut self, content: ContentId) {
        self.keeper.orphans.remove(&content);
        if self.held.remove(&content).is_none() {
            return;
        }
        self.me.inventory_digest = self.me.inventory_digest.wrapping_sub(content_digest(&content));
        self.report_change(content, false);
    }

    /// Changes are told together: a group commit of the store makes hundreds at once, and a link's
    /// queue is bounded.
    fn report_change(&mut self, content: ContentId, held: bool) {
        self.keeper.changes.insert(content, held);
        if self.keeper.changes.len() >= CHANGES_MAX {
            self.keeper.flushed = Moment::default();
        }
    }

    pub(super) fn flush_changes(&mut self) {
        if self.keeper.flush_at().is_none_or(|at| self.now < at) {
            return;
        }
        self.keeper.flushed = self.now;
        let changes = std::mem::take(&mut self.keeper.changes);
        self.keeper.pause_ms = if changes.len() == 1 { FLUSH_ALONE_MS } else { FLUSH_MS };
        if let Some(proxy) = self.me.proxy {
            let (term, disk) = (self.me.term, self.config.disk);
            let pick = |wanted: bool| {
                let chosen = changes.iter().filter(|(_, held)| **held == wanted);
                chosen.map(|(content, _)| *content).collect::<Vec<ContentId>>()
            };
            let (added, removed) = (pick(true), pick(false));
            self.send(proxy, Message::InventoryChange { term, disk, added, removed });
        }
    }

    /// Reports everything to the proxy: on a new term, and when it asks.
    pub(super) fn report_inventory(&mut self) {
        self.keeper.report = Some(Report { page: 0, after: None });
        self.send_inventory();
    }

    /// The next pages of the report under way. What changes meanwhile is told as such, before or
    /// after the page that it belongs to; both come to the same.
    fn send_inventory(&mut self) {
        let Some(proxy) = self.me.proxy else {
            self.keeper.report = None;
            return;
        };
        if self.congestion.holds_up(proxy) {
            return;
        }
        for _ in 0..INVENTORY_PAGES_A_TICK {
            let Some(Report { page, after }) = self.keeper.report else {
                return;
            };
            let rest = self.held.iter_after(after.as_ref()).map(|(content, ())| *content);
            let contents: Vec<ContentId> = rest.take(INVENTORY_PAGE).collect();
            let last = contents.len() < INVENTORY_PAGE;
            let after = contents.last().copied();
            self.keeper.report = (!last).then_some(Report { page: page.saturating_add(1), after });
            let (term, disk) = (self.me.term, self.config.disk);
            self.send(proxy, Message::Inventory { term, disk, page, contents, last });
        }
    }

    pub(super) fn inventory_asked(&mut self, from: NodeId, term: Term) {
        if term == self.me.term && self.me.proxy == Some(from) {
            self.report_inventory();
        }
    }

    /// Orders count only from the proxy of the term this node obeys.
    pub(super) fn obeys(&self, from: NodeId, term: Term) -> bool {
        term == self.me.term && term.proxy == from
    }

    pub(super) fn pull_ordered(
        &mut self,
        from: NodeId,
        term: Term,
        content: ContentId,
        size: u64,
        holders: Vec<NodeRoute>,
    ) {
        if !self.obeys(from, term) {
            return;
        }
        let state = if self.stays_here(&content) {
            PullState::Done
        } else if !self.me.storage || self.is_dropping(&content) || self.pulls_enough(&content) {
            PullState::Failed
        } else {
            if self.keeper.pulls.insert(content, self.now).is_none() {
                // This node's own view of the way comes first: the proxy may sit elsewhere.
                let known = holders.into_iter().map(|holder| match self.route(holder.node) {
                    Some(mut own) => {
                        own.addresses.extend(holder.addresses);
                        own.addresses.dedup();
                        own
                    }
                    None => holder,
                });
                let from = known.collect();
                self.effects.push_back(Effect::Pull { content, size, from });
            }
            PullState::Working
        };
        self.send(from, Message::PullState { term, content, state });
    }

    /// Whether as many pulls are under way as any proxy orders.
    fn pulls_enough(&self, content: &ContentId) -> bool {
        self.keeper.pulls.len() >= PULLS_ORDERED_MAX && !self.keeper.pulls.contains_key(content)
    }

    pub(super) fn pull_ended(&mut self, content: ContentId, stored: bool) {
        if self.keeper.pulls.remove(&content).is_none() {
            return;
        }
        if let Some(proxy) = self.me.proxy {
            let term = self.me.term;
            let state = if stored { PullState::Done } else { PullState::Failed };
            self.send(proxy, Message::PullState { term, content, state });
        }
    }

    pub(super) fn is_dropping(&self, content: &ContentId) -> bool {
        self.keeper.drops.contains_key(content) || self.keeper.garbage.contains(content)
    }

    /// A commit is told that these are here: none of them goes before it can have been answered,
    /// whoever leads by then.
    pub(super) fn keep_for_commit(&mut self, commit: u64, contents: &[ContentId]) {
        let until = self.now.plus(FRESH_MS);
        let room = PROMISES_MAX.saturating_sub(self.keeper.promised.len());
        let contents = contents.iter().take(room);
        self.keeper.promised.extend(contents.map(|content| ((*content, commit), until)));
    }

    /// Whether a copy is here and nothing takes it away now.
    pub(super) fn stays_here(&self, content: &ContentId) -> bool {
        self.held.contains(content) && !self.is_dropping(content)
    }

    pub(super) fn is_promised(&self, content: &ContentId) -> bool {
        let mut promises = self.keeper.promised.range((*content, 0)..=(*content, u64::MAX));
        promises.any(|(_, until)| self.now < *until)
    }

    pub(super) fn drop_ordered(
        &mut self,
        from: NodeId,
        term: Term,
        content: ContentId,
        wanted: u8,
        keepers: Vec<NodeId>,
    ) {
        if !self.obeys(from, term) || self.is_dropping(&content) {
            return;
        }
        let mut further: VecDeque<NodeId> = VecDeque::new();
        for keeper in keepers {
            if keeper != self.config.node && !further.contains(&keeper) {
                further.push_back(keeper);
            }
        }
        // The proxy may not have heard yet of a greater wish that this node knows of. One of two
        // copies on a machine is too many whatever is wanted.
        let beside_another = further.iter().any(|keeper| {
            self.presence_of(*keeper).is_some_and(|keeper| keeper.machine == self.config.machine)
        });
        let known = self.catalog.content(&content).map_or(0, |refs| refs.wanted());
        let wanted = usize::from(if beside_another { wanted } else { wanted.max(known) });
        let possible = self.held.contains(&content) && wanted > 0 && further.len() >= wanted;
        if !possible || self.is_promised(&content) {
            self.send(from, Message::DropRefused { term, content });
            return;
        }
        let dropping = Dropping {
            nonce: self.keeper.nonces.next_u64(),
            asked: self.now,
            wanted,
            promises: BTreeSet::new(),
            asked_of: BTreeSet::new(),
            further,
            dropping: false,
        };
        self.keeper.drops.insert(content, dropping);
        self.ask_keepers(content);
    }

    /// Asks as many as must promise, and no more: a promise keeps its giver from dropping.
    fn ask_keepers(&mut self, content: ContentId) {
        let Some(drop) = self.keeper.drops.get_mut(&content) else {
            return;
        };
        let nonce = drop.nonce;
        let mut asks = Vec::new();
        while drop.asked_of.len() < drop.wanted {
            let Some(keeper) = drop.further.pop_front() else {
                break;
            };
            drop.asked_of.insert(keeper);
            asks.push(keeper);
        }
        let hopeless = drop.asked_of.len() < drop.wanted;
        for keeper in asks {
            self.send(keeper, Message::KeepAsk { content, nonce });
        }
        if hopeless {
            self.call_off_drop(content);
        }
    }

    /// Whether this node could promise to keep its copy.
    fn may_keep(&self, content: &ContentId) -> bool {
        self.stays_here(content) && self.catalog.content(content).is_some() && !self.exchange.is_broken()
    }

    /// A promise is given only after the copy and its entry were checked.
    pub(super) fn keep_asked(&mut self, from: NodeId, content: ContentId, nonce: u64) {
        let room = self.keeper.promised.len() < PROMISES_MAX && self.keeper.checking < CHECKS_MAX;
        if room && self.may_keep(&content) {
            self.keeper.checking += 1;
            self.effects.push_back(Effect::Check { content, nonce, asker: from });
        } else {
            self.send(from, Message::KeepAnswer { content, nonce, kept: false });
        }
    }

    pub(super) fn checked(&mut self, content: ContentId, nonce: u64, asker: NodeId, good: bool) {
        self.keeper.checking = self.keeper.checking.saturating_sub(1);
        if good && self.may_keep(&content) {
            // The entry may be in memory only: with it lost, the copy would be nobody's.
            let save = self.exchange.last_save();
            self.after_save(save, AfterSave::Keep { asker, content, nonce });
        } else {
            self.send(asker, Message::KeepAnswer { content, nonce, kept: false });
        }
    }

    /// The copy is good and all that is in memory is on disk.
    pub(super) fn promise(&mut self, asker: NodeId, content: ContentId, nonce: u64) {
        let kept = self.may_keep(&content);
        if kept {
            let until = self.now.plus(KEEP_LEASE_MS);
            self.keeper.promised.insert((content, nonce), until);
        }
        self.send(asker, Message::KeepAnswer { content, nonce, kept });
    }

    pub(super) fn keep_answered(&mut self, from: NodeId, content: ContentId, nonce: u64, kept: bool) {
        let Some(drop) = self.keeper.drops.get_mut(&content) else {
            return;
        };
        if drop.nonce != nonce || drop.dropping || !drop.asked_of.contains(&from) {
            return;
        }
        if kept {
            drop.promises.insert(from);
        } else {
            drop.asked_of.remove(&from);
        }
        if drop.promises.len() >= drop.wanted && self.now.since(drop.asked) < KEEP_TRUST_MS {
            drop.dropping = true;
            let until = Some(drop.asked.plus(KEEP_TRUST_MS));
            self.effects.push_back(Effect::Drop { content, until });
        } else if !kept {
            self.ask_keepers(content);
        }
    }

    /// The drop that a promise was given for is over.
    pub(super) fn keep_released(&mut self, content: ContentId, nonce: u64) {
        self.keeper.promised.remove(&(content, nonce));
    }

    fn end_drop(&mut self, content: ContentId) {
        if let Some(drop) = self.keeper.drops.remove(&content) {
            let nonce = drop.nonce;
            for keeper in drop.asked_of {
                self.send(keeper, Message::KeepRelease { content, nonce });
            }
        }
    }

    /// A put counts on this copy: a drop that has not come to the disk yet is called off.
    pub(super) fn keep_after_all(&mut self, content: ContentId) {
        if self.keeper.drops.get(&content).is_some_and(|drop| !drop.dropping) {
            self.call_off_drop(content);
        }
    }

    fn call_off_drop(&mut self, content: ContentId) {
        self.end_drop(content);
        if let Some(proxy) = self.me.proxy {
            let term = self.me.term;
            self.send(proxy, Message::DropRefused { term, content });
        }
    }

    pub(super) fn drop_ended(&mut self, content: ContentId, dropped: bool) {
        self.keeper.garbage.remove(&content);
        if dropped {
            self.content_gone(content);
            self.end_drop(content);
        } else if self.keeper.drops.contains_key(&content) {
            self.call_off_drop(content);
        }
    }

    /// Notes which contents gained their first entry or lost their last.
    pub(super) fn catalog_changed(&mut self, merged: &Merged) {
        for content in &merged.contents {
            if self.catalog.names_content(content) {
                self.keeper.orphans.remove(content);
            } else if self.held.contains(content) {
                let orphan = Orphan { since: self.now, removed: true };
                self.keeper.orphans.entry(*content).or_insert(orphan);
            }
        }
        if let Some(office) = &mut self.office {
            for content in &merged.contents {
                if !self.catalog.names_content(content) {
                    office.inventories.unnamed(*content);
                } else if office.inventories.holders(content).next().is_none() {
                    office.unheard = true;
                }
            }
            office.look_at(merged.contents.iter().copied());
        }
    }

    pub(super) fn keeper_tick(&mut self) {
        let now = self.now;
        self.send_inventory();
        let late = self.keeper.drops.iter();
        let late: Vec<ContentId> = late
            .filter(|(_, drop)| !drop.dropping && now.since(drop.asked) >= KEEP_ASK_MS)
            .map(|(content, _)| *content)
            .collect();
        late.into_iter().for_each(|content| self.call_off_drop(content));
        self.keeper.promised.retain(|_, until| now < *until);
        if let Some(proxy) = self.me.proxy {
            let term = self.me.term;
            let due = self.keeper.pulls.iter_mut().filter(|(_, at)| now.since(**at) >= PULL_REPORT_MS);
            let due: Vec<ContentId> = due
                .map(|(content, at)| {
                    *at = now;
                    *content
                })
                .collect();
            for content in due {
                self.send(proxy, Message::PullState { term, content, state: PullState::Working });
            }
        }
        // What a removal that is not durable yet took away could come back with a restart.
        if now.since(self.keeper.orphans_at) >= ORPHANS_INTERVAL_MS && self.exchange.is_saved() {
            self.keeper.orphans_at = now;
            let old = self.keeper.orphans.iter().filter(|(_, orphan)| {
                let grace = if orphan.removed { REMOVED_GRACE_MS } else { ORPHAN_GRACE_MS };
                now.since(orphan.since) >= grace
            });
            // What was promised is kept, even if only another knows what it is for.
            let free = |content: &ContentId| !self.is_promised(content) && !self.is_dropping(content);
            let old = old.map(|(content, _)| *content).filter(free);
            let old: Vec<ContentId> = old.take(GARBAGE_STEP_MAX).collect();
            for content in old {
                self.discard(content);
            }
        }
    }
}
