//! Changes of the catalog: merged, made durable, told, and compared until all are equal.
//!
//! Invariant: nobody is told that a change is durable before it is. A change that is already known
//! may still be on its way to the disk, so its answer waits for the last save under way.

use super::Engine;
use super::event::{Effect, Note};
use crate::clock::Moment;
use crate::limits::{COUNTER_LEAP_MAX, SYNC_BUCKETS, SYNC_INTERVAL_MS};
use crate::replication::{CausalContext, Merged, SyncIn};
use crate::types::{ContentId, Dot, FileName, InstanceId, LetterId, NodeId, Pin, StreamId, Version};
use crate::wire::message::{Context, Delta, Message};
use crate::wire::record::CatalogWrite;
use std::collections::{BTreeMap, BTreeSet};

/// State of the exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    saves_begun: u64,
    /// What waits for a save to be durable.
    waiting: BTreeMap<u64, Vec<AfterSave>>,
    under_way: BTreeSet<u64>,
    /// Dots minted by this run so far.
    minted: u64,
    broken: bool,
    sessions: u64,
    /// Answers being sent, a few pages at a time.
    outgoing: BTreeMap<NodeId, Outgoing>,
    /// The question last put to each peer, whose answer is the only one listened to.
    asked: BTreeMap<NodeId, u64>,
    /// Answers being received.
    incoming: BTreeMap<NodeId, Incoming>,
    /// When a peer was last asked, and its digest when it was first seen to differ.
    differing: BTreeMap<NodeId, Differing>,
}

/// The dots of a version: its own and those of its settings.
fn dots_of(version: &Version) -> impl Iterator<Item = Dot> {
    let later = version.wanted.later.iter().flat_map(|settings| settings.iter().map(|(dot, _)| *dot));
    std::iter::once(version.dot).chain(later)
}

/// What waits for a save.
#[derive(Debug)]
pub(super) enum AfterSave {
    /// Tell the proxy.
    TellStored { to: NodeId, ack: u64, contents: Vec<ContentId> },
    /// A request of a command has its change durable on this node.
    Committed { commit: u64 },
    /// Tell who sent letters.
    TellLetters { to: NodeId, ack: u64 },
    /// Letters that were given to this node are durable here.
    Posted { post: u64 },
    /// It is durable that these letters were delivered here.
    Delivered { ids: Vec<LetterId>, cursors: Vec<(StreamId, u64)> },
    /// Tell what is known of letters: none of it before it is durable.
    TellMailbox { to: NodeId, pages: Vec<Message> },
    /// Promise to keep a copy that was found good.
    Keep { asker: NodeId, content: ContentId, nonce: u64 },
}

#[derive(Debug)]
struct Outgoing {
    session: u64,
    buckets: BTreeSet<u16>,
    after: Option<FileName>,
    page: u32,
    context: Option<Context>,
    /// When a page was last sent.
    at: Moment,
}

#[derive(Debug)]
struct Incoming {
    session: u64,
    next_page: u32,
    state: SyncIn,
    at: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Differing {
    digests: (u64, u64),
    since: Moment,
    first: Moment,
    asked: Option<Moment>,
}

/// Pages sent a tick: some 20 MiB a second, well within what a link's queue takes.
const PAGES_A_TICK: usize = 8;
/// Answers that are sent at the same time: each has pages waiting in memory.
const ANSWERS_MAX: usize = 8;
/// Digests must have stood still this long before a difference is looked into: changes under way
/// make them differ all the time.
const SETTLED_MS: u64 = 700;
/// After this long a difference is looked into even if the digests keep moving.
const UNSETTLED_MS_MAX: u64 = 6_000;
/// An answer that makes no progress for this long is given up.
const SYNC_SILENCE_MS: u64 = 10_000;

impl Exchange {
    /// Sessions begin at the run's random id: an answer to an earlier run must not be taken for one
    /// to this, whose disk may lack what the earlier one had only in memory.
    pub(super) fn new(instance: InstanceId) -> Exchange {
        Exchange {
            saves_begun: 0,
            waiting: BTreeMap::new(),
            under_way: BTreeSet::new(),
            minted: 0,
            broken: false,
            sessions: instance.0,
            outgoing: BTreeMap::new(),
            asked: BTreeMap::new(),
            incoming: BTreeMap::new(),
            differing: BTreeMap::new(),
        }
    }

    /// All peers are strangers from now on.
    pub(super) fn forget_peers(&mut self) {
        self.outgoing.clear();
        self.asked.clear();
        self.incoming.clear();
        self.differing.clear();
    }

    /// A peer restarted: what was under way with it is void.
    pub(super) fn forget_peer(&mut self, peer: NodeId) {
        self.outgoing.remove(&peer);
        self.asked.remove(&peer);
        self.incoming.remove(&peer);
        self.differing.remove(&peer);
    }

    /// Whether all that is in memory is on disk.
    pub(super) fn is_saved(&self) -> bool {
        self.under_way.is_empty() && !self.broken
    }

    /// The last save under way: with it, all that is in memory now is on disk.
    pub(super) fn last_save(&self) -> Option<u64> {
        self.under_way.last().copied()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// The next dot of this run: never minted before, as the run's instance is new at each start.
    /// Nor may anybody have seen it: whoever makes up dots of this run must not take them from it.
    pub(super) fn mint(&mut self, instance: InstanceId, seen: &CausalContext) -> Dot {
        self.minted = self.minted.max(seen.prefix(instance)) + 1;
        while seen.contains(Dot { instance, counter: self.minted }) {
            self.minted += 1;
        }
        Dot { instance, counter: self.minted }
    }

    /// Whether a peer speaks of a dot of this run that is beyond all that it can have minted.
    fn is_made_up(&self, instance: InstanceId, mut dots: impl Iterator<Item = Dot>) -> bool {
        let most = self.minted.saturating_add(COUNTER_LEAP_MAX);
        dots.any(|dot| dot.instance == instance && dot.counter > most)
    }
}

impl Engine {
    /// Merges a change and begins to make it durable. Gives the save to wait for, if any.
    pub(super) fn apply(&mut self, delta: &Delta) -> Option<u64> {
        self.note_stored(delta);
        let merged = self.catalog.merge_delta(delta);
        self.save(merged)
    }

    /// Says which files are new by this change, for those who wait for such.
    fn note_stored(&mut self, delta: &Delta) {
        for (name, version) in delta.names.iter().flat_map(|(name, all)| all.iter().map(move |v| (name, v))) {
            let new = version.removed_s == 0 && !self.catalog.context().contains(version.dot);
            if let (true, Some((content, size))) = (new, version.body.content()) {
                let replicas = version.wanted.count();
                self.note(Note::FileStored { name: name.clone(), content, size, replicas });
            }
        }
    }

    fn save(&mut self, merged: Merged) -> Option<u64> {
        self.catalog_changed(&merged);
        if let Some(office) = &mut self.office {
            let names = merged.writes.iter().filter_map(|write| match write {
                CatalogWrite::Name { name, .. } => Some(name),
                _ => None,
            });
            office.watching.names_changed(names, self.catalog.conflicts(), self.catalog.conflicts_changed());
        }
        if merged.writes.is_empty() {
            return self.exchange.last_save();
        }
        Some(self.save_writes(merged.writes))
    }

    pub(super) fn save_writes(&mut self, writes: Vec<CatalogWrite>) -> u64 {
        self.exchange.saves_begun += 1;
        let save = self.exchange.saves_begun;
        self.exchange.under_way.insert(save);
        self.effects.push_back(Effect::SaveCatalog { save, writes });
        save
    }

    /// Does `then` once `save` is durable; at once if there is nothing to wait for.
    pub(super) fn after_save(&mut self, save: Option<u64>, then: AfterSave) {
        match save {
            Some(save) => self.exchange.waiting.entry(save).or_default().push(then),
            None => self.do_after_save(then),
        }
    }

    pub(super) fn catalog_saved(&mut self, save: u64, durable: bool) {
        self.exchange.under_way.remove(&save);
        let waiting = self.exchange.waiting.remove(&save).unwrap_or_default();
        if !durable {
            self.break_down();
            return;
        }
        for then in waiting {
            self.do_after_save(then);
        }
    }

    /// What is in memory is not on disk: this node acknowledges nothing, keeps nothing and leads
    /// nobody any more, until it is started again.
    pub(super) fn break_down(&mut self) {
        if !self.exchange.broken {
            self.exchange.broken = true;
            self.leave_office();
            self.me.storage = false;
            self.me.proxy = None;
            self.me.pin = Pin::Client;
            self.hurry_beacon();
            self.note(Note::SaveFailed);
        }
    }

    fn do_after_save(&mut self, then: AfterSave) {
        if self.exchange.broken {
            return;
        }
        match then {
            AfterSave::TellStored { to, ack, contents } => {
                let held: Vec<ContentId> =
                    contents.into_iter().filter(|content| self.stays_here(content)).collect();
                self.keep_for_commit(ack, &held);
                self.send(to, Message::DeltaStored { ack, held });
            }
            AfterSave::Committed { commit } => self.committed_here(commit),
            AfterSave::TellLetters { to, ack } => self.send(to, Message::LettersStored { ack }),
            AfterSave::Posted { post } => self.posted_here(post),
            AfterSave::Delivered { ids, cursors } => self.letters_delivered(ids, &cursors),
            AfterSave::TellMailbox { to, pages } => pages.into_iter().for_each(|page| self.send(to, page)),
            AfterSave::Keep { asker, content, nonce } => self.promise(asker, content, nonce),
        }
    }

    pub(super) fn delta_heard(
        &mut self,
        from: NodeId,
        delta: &Delta,
        ack: Option<u64>,
        contents: Vec<ContentId>,
    ) {
        if self.config.pin == Pin::Client {
            return;
        }
        let carried = delta.names.iter().flat_map(|(_, versions)| versions.iter().flat_map(dots_of));
        let dots = delta.context.iter().copied().chain(carried);
        if self.exchange.is_made_up(self.config.instance, dots)
            || !self.catalog.has_room_for(delta, &self.present_runs())
        {
            return;
        }
        let save = self.apply(delta);
        if ack.is_some() {
            contents.iter().for_each(|content| self.keep_after_all(*content));
        }
        if let Some(ack) = ack {
            self.after_save(save, AfterSave::TellStored { to: from, ack, contents });
        }
    }

    pub(super) fn present_runs(&self) -> BTreeSet<InstanceId> {
        self.all_nodes().map(|presence| presence.instance).collect()
    }

    /// Looks for peers whose catalogs differ: a follower compares with the proxy, the proxy with
    /// everybody.
    pub(super) fn exchange_tick(&mut self) {
        self.send_pages();
        let now = self.now;
        self.exchange.incoming.retain(|_, incoming| now.since(incoming.at) < SYNC_SILENCE_MS);
        if self.config.pin == Pin::Client {
            return;
        }
        let mine = self.catalog.digest();
        let peers: Vec<(NodeId, u64)> = self
            .up_nodes()
            .filter(|peer| peer.node != self.config.node && peer.pin != Pin::Client)
            .filter(|peer| self.leads() || self.me.proxy == Some(peer.node))
            .map(|peer| (peer.node, peer.catalog_digest))
            .collect();
        self.exchange.differing.retain(|node, _| peers.iter().any(|(peer, _)| peer == node));
        for (peer, theirs) in peers {
            if theirs == mine {
                self.exchange.differing.remove(&peer);
                self.synced_with(peer);
                continue;
            }
            let digests = (mine, theirs);
            let fresh = Differing { digests, since: now, first: now, asked: None };
            let urgent = self.must_sync_with(peer);
            let state = self.exchange.differing.entry(peer).or_insert(fresh);
            if state.digests != digests {
                state.digests = digests;
                state.since = now;
            }
            let settled = now.since(state.since) >= SETTLED_MS || now.since(state.first) >= UNSETTLED_MS_MAX;
            let rested = state.asked.is_none_or(|at| now.since(at) >= SYNC_INTERVAL_MS);
            if rested && (settled || urgent) && !self.exchange.incoming.contains_key(&peer) {
                state.asked = Some(now);
                self.ask_sync(peer);
            }
        }
    }

    fn ask_sync(&mut self, peer: NodeId) {
        self.exchange.sessions = self.exchange.sessions.wrapping_add(1);
        let session = self.exchange.sessions;
        self.exchange.asked.insert(peer, session);
        let message = Message::SyncAsk {
            session,
            context: self.catalog.context_to_send(),
            buckets: self.catalog.buckets(),
        };
        self.send(peer, message);
    }

    pub(super) fn sync_asked(&mut self, from: NodeId, session: u64, context: &Context, buckets: &[u64]) {
        if self.config.pin == Pin::Client || buckets.len() != SYNC_BUCKETS {
            return;
        }
        let differing: BTreeSet<u16> = self.catalog.differing(buckets).into_iter().collect();
        let mine = self.catalog.context_to_send();
        if differing.is_empty() && *context == mine {
            return;
        }
        if self.exchange.outgoing.len() >= ANSWERS_MAX && !self.exchange.outgoing.contains_key(&from) {
            // Who takes nothing makes room; else the asker asks again.
            let congestion = &self.congestion;
            let stuck = self.exchange.outgoing.keys().find(|node| congestion.holds_up(**node)).copied();
            let Some(stuck) = stuck else { return };
            self.exchange.outgoing.remove(&stuck);
        }
        let at = self.now;
        let outgoing =
            Outgoing { session, buckets: differing, after: None, page: 0, context: Some(mine), at };
        self.exchange.outgoing.insert(from, outgoing);
        self.send_pages();
    }

    fn send_pages(&mut self) {
        let now = self.now;
        self.exchange.outgoing.retain(|_, outgoing| now.since(outgoing.at) < SYNC_SILENCE_MS);
        let congestion = &self.congestion;
        let free = self.exchange.outgoing.keys().filter(|to| !congestion.holds_up(**to));
        let targets: Vec<NodeId> = free.copied().collect();
        for to in targets {
            for _ in 0..PAGES_A_TICK {
                let Some(outgoing) = self.exchange.outgoing.get_mut(&to) else {
                    break;
                };
                let slice = self.catalog.sync_page(&outgoing.buckets, outgoing.after.as_ref());
                let message = Message::SyncPage {
                    session: outgoing.session,
                    page: outgoing.page,
                    context: outgoing.context.take(),
                    buckets: if outgoing.page == 0 {
                        outgoing.buckets.iter().copied().collect()
                    } else {
                        Vec::new()
                    },
                    last: slice.last,
                    names: slice.names,
                };
                outgoing.page += 1;
                outgoing.at = now;
                if let Message::SyncPage { names, .. } = &message
                    && let Some((name, _)) = names.last()
                {
                    outgoing.after = Some(name.clone());
                }
                if slice.last {
                    self.exchange.outgoing.remove(&to);
                }
                self.send(to, message);
            }
        }
    }

    pub(super) fn sync_page(
        &mut self,
        from: NodeId,
        (session, page): (u64, u32),
        context: Option<Context>,
        buckets: &[u16],
        names: Vec<(FileName, Vec<Version>)>,
        last: bool,
    ) {
        if page == 0 {
            if self.exchange.asked.remove(&from) != Some(session) {
                return;
            }
            let Some(Ok(context)) = context.map(|context| CausalContext::from_wire(&context)) else {
                return;
            };
            let me = self.config.instance;
            let told = Dot { instance: me, counter: context.prefix(me) };
            if self.exchange.is_made_up(me, context.extra().iter().copied().chain([told])) {
                return;
            }
            let state = SyncIn::begin(context, buckets.iter().copied()).with_present(self.present_runs());
            self.exchange.incoming.insert(from, Incoming { session, next_page: 0, state, at: self.now });
        }
        let Some(mut incoming) = self.exchange.incoming.remove(&from) else {
            return;
        };
        let carried = names.iter().flat_map(|(_, versions)| versions.iter().flat_map(dots_of));
        if incoming.session != session
            || incoming.next_page != page
            || self.exchange.is_made_up(self.config.instance, carried)
        {
            return;
        }
        let Ok(merged) = self.catalog.merge_page(&mut incoming.state, names, last) else {
            return;
        };
        self.save(merged);
        if last {
            self.synced_with(from);
        } else {
            incoming.next_page += 1;
            incoming.at = self.now;
            self.exchange.incoming.insert(from, incoming);
        }
    }
}
