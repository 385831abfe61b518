//! One input in, effects out: composes the pure parts of a node into one state machine. Pure.
//!
//! The contract with the shell, as in other sans-io machines: call [`Engine::handle`] with the time
//! and what happened; then take [`Engine::next_effect`] until it gives `None` and perform each, in
//! order; then call again no later than [`Engine::next_wakeup`], with [`Input::Tick`] if nothing
//! else happened. Time never goes back. `handle` cannot fail: what makes no sense is ignored.
//!
//! | file | what it decides |
//! |---|---|
//! | [`event`] | the vocabulary |
//! | `agenda` | the proxy's part: which contents it looks at next |
//! | `announce` | what this node says of itself, which cluster it is of, who leads |
//! | `balancing` | the proxy's part: copies that move to emptier machines |
//! | `exchange` | changes of the catalog: durable, told, and made equal |
//! | `fresh` | the proxy's part: contents whose copies are left alone |
//! | `keeper` | a storage node's part: inventory, pulls, drops under keep-promises |
//! | `office` | the proxy's part: inventories, readiness, how orders end |
//! | `planning` | the proxy's part: which content needs a pull or a drop |
//! | `placing` | where a put's copies go |
//! | `post` | letters: taken, told, compared, delivered |
//! | `requests` | the proxy's answers to commands |
//! | `operator` | draining a node, merging clusters, explaining a file |
//! | `rows` | what `ls` and `status` show |
//! | `watching` | what changed, for those who watch the proxy's answers live |
//! | `trash` | what is removed, restored and emptied, and whose clock counts |

mod agenda;
mod announce;
mod balancing;
pub mod event;
mod exchange;
mod fresh;
mod keeper;
mod office;
mod operator;
mod placing;
mod planning;
mod post;
mod requests;
mod rows;
#[cfg(test)]
mod tests;
mod trash;
mod watching;

use crate::clock::Moment;
use crate::discovery::membership::{Freshness, Membership};
use crate::limits::SUSPECT_AFTER_MS;
use crate::messages::mailbox::Mailbox;
use crate::replication::Catalog;
use crate::replication::inventory::content_digest;
use crate::types::{
    ContentId, ContentSet, DiskId, DiskState, FileName, InstanceId, Lineage, MachineId, NodeId, Pin,
    Presence, Term,
};
use crate::wire::message::Message;
use event::{Congestion, Effect, Input, Note};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What a node is, for as long as it runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it is.
    pub node: NodeId,
    /// This run.
    pub instance: InstanceId,
    /// Number of this run, counted durably.
    pub generation: u64,
    /// Its data folder.
    pub disk: DiskId,
    /// Its machine.
    pub machine: MachineId,
    /// Display name.
    pub name: Box<str>,
    /// Where it takes connections.
    pub tcp_port: u16,
    /// Where it serves HTTP; 0 for nowhere.
    pub http_port: u16,
    /// What it was told to be.
    pub pin: Pin,
    /// Silence after which a node's copies are replaced, in milliseconds.
    pub heal_after_ms: u64,
    /// Whether the cluster has a key of its own: the same key is consent to merge.
    pub secured: bool,
    /// Version of the program.
    pub version: Box<str>,
    /// How long removed versions are kept, in milliseconds; 0 for not at all.
    pub keep_removed_ms: u64,
    /// Whether it met other nodes in earlier runs: then hearing nobody may just mean to be early.
    pub met_others: bool,
}

/// What a node remembers from its earlier runs.
#[derive(Debug)]
pub struct Restored {
    /// Its catalog.
    pub catalog: Catalog,
    /// The contents it holds.
    pub held: Vec<ContentId>,
    /// The highest term it obeyed.
    pub term: Term,
    /// The cluster's uuids, at least one.
    pub lineage: Vec<Lineage>,
    /// Whether it is being drained.
    pub draining: bool,
    /// What it knows of letters.
    pub mailbox: Mailbox,
}

/// The state machine of one node.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    now: Moment,
    started: Moment,
    effects: VecDeque<Effect>,
    /// Messages of this node to itself: a proxy is its own storage node.
    to_self: VecDeque<Message>,
    /// What this node says of itself; its sequence is that of the last beacon.
    me: Presence,
    members: Membership,
    /// How fresh each member was when last looked at, to notice changes.
    freshness: BTreeMap<NodeId, Freshness>,
    /// Clusters in sight that are not this one.
    foreign: BTreeMap<Lineage, Moment>,
    announcing: announce::Announcing,
    catalog: Catalog,
    exchange: exchange::Exchange,
    held: ContentSet,
    keeper: keeper::Keeper,
    trashing: trash::Trashing,
    posting: post::Posting,
    /// Present while this node leads.
    office: Option<office::Office>,
    ticked: Moment,
    /// Where pages must wait.
    congestion: Congestion,
    /// Where this node can be reached.
    addresses: Vec<std::net::SocketAddr>,
    /// Changes asked for by commands. Begins at the run's random id, so that an answer to an earlier
    /// run's change is never taken for one to this run's.
    commits_begun: u64,
}

/// How often the periodic work is done, in milliseconds.
const TICK_MS: u64 = 100;

impl Engine {
    /// A node that starts at `now`.
    #[must_use]
    pub fn new(now: Moment, config: Config, restored: Restored) -> Engine {
        let mut lineage = restored.lineage;
        lineage.sort_unstable();
        let me = Presence {
            node: config.node,
            instance: config.instance,
            generation: config.generation,
            sequence: 0,
            machine: config.machine.clone(),
            name: config.name.clone(),
            tcp_port: config.tcp_port,
            http_port: config.http_port,
            pin: config.pin,
            storage: false,
            draining: restored.draining,
            term: restored.term,
            proxy: None,
            disk: config.disk,
            disk_state: DiskState::Ok,
            capacity_bytes: 0,
            used_bytes: 0,
            free_bytes: 0,
            contents: 0,
            inventory_digest: restored.held.iter().map(content_digest).fold(0, u64::wrapping_add),
            catalog_digest: restored.catalog.digest(),
            lineage,
            established: !restored.catalog.context().is_empty(),
            wall_ms: 0,
            version: config.version.clone(),
        };
        let held: ContentSet = restored.held.into_iter().collect();
        Engine {
            now,
            started: now,
            effects: VecDeque::new(),
            to_self: VecDeque::new(),
            me: Presence { contents: held.len() as u64, ..me },
            members: Membership::default(),
            freshness: BTreeMap::new(),
            foreign: BTreeMap::new(),
            announcing: announce::Announcing::default(),
            exchange: exchange::Exchange::new(config.instance),
            keeper: keeper::Keeper::new(now, &restored.catalog, &held),
            catalog: restored.catalog,
            held,
            trashing: trash::Trashing::default(),
            posting: post::Posting::new(restored.mailbox, config.instance),
            office: None,
            ticked: Moment::default(),
            congestion: Congestion::default(),
            addresses: Vec::new(),
            commits_begun: config.instance.0,
            config,
        }
    }

    /// Takes in what happened at `now`.
    pub fn handle(&mut self, now: Moment, input: Input) {
        self.now = self.now.max(now);
        if self.ticked != Moment::default() && self.now.since(self.ticked) >= SUSPECT_AFTER_MS {
            self.woke_up();
        }
        match input {
            Input::Tick => {}
            Input::Announced { presence, source, via } => self.announced(*presence, source, via),
            Input::GoodbyeHeard { node, instance } => self.goodbye_heard(node, instance),
            Input::Queried => self.queried(),
            Input::Told { from, instance, message } => self.told(from, instance, *message),
            Input::Asked { ask, machine, request } => self.asked(ask, &machine, *request),
            Input::AskGone { ask } => self.ask_gone(ask),
            Input::CatalogSaved { save, durable } => self.catalog_saved(save, durable),
            Input::TermSaved { term, durable } => self.term_saved(term, durable),
            Input::ContentStored { content, size: _ } => self.content_stored(content),
            Input::ContentLost { content } => self.content_gone(content),
            Input::PullEnded { content, stored } => self.pull_ended(content, stored),
            Input::Checked { content, nonce, asker, good } => self.checked(content, nonce, asker, good),
            Input::DropEnded { content, dropped } => self.drop_ended(content, dropped),
            Input::LettersStaged { durable } => self.letters_staged(durable),
            Input::Congested(congestion) => self.congestion = congestion,
            Input::OwnAddresses { addresses } => self.addresses = addresses,
            Input::DrainingSaved { draining, durable } => self.draining_saved(draining, durable),
            Input::WallClock { wall_ms } => self.wall_clock(wall_ms),
            Input::RoomWanted { bytes } => self.room_wanted(bytes),
            Input::Usage { capacity_bytes, used_bytes, free_bytes, disk, usable } => {
                self.usage((capacity_bytes, used_bytes, free_bytes), disk, usable);
            }
        }
        self.hear_myself();
        if self.now.since(self.ticked) >= TICK_MS {
            self.ticked = self.now;
            self.tick();
            self.hear_myself();
        }
        self.flush_changes();
        self.flush_letters();
        self.hear_myself();
    }

    /// The next thing to do, if any.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to call again if nothing happens before.
    #[must_use]
    pub fn next_wakeup(&self) -> Moment {
        let flushes = [self.keeper.flush_at(), self.posting.flush_at()];
        flushes.into_iter().flatten().fold(self.ticked.plus(TICK_MS), Moment::min)
    }

    /// What this node says of itself.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.me
    }

    /// Whether this node leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.office.is_some()
    }

    /// How to reach a member.
    #[must_use]
    pub fn route(&self, node: NodeId) -> Option<crate::types::NodeRoute> {
        self.members.get(node).map(crate::discovery::membership::Member::route)
    }

    /// All members that are not gone, with their addresses: what is worth remembering on disk.
    #[must_use]
    pub fn routes(&self) -> Vec<crate::types::NodeRoute> {
        let here = self.members.iter().filter(|(node, _)| self.freshness_of(**node) < Freshness::Gone);
        here.map(|(_, member)| member.route()).collect()
    }

    /// How many members are known, those that are gone included.
    #[must_use]
    pub fn members_known(&self) -> usize {
        self.members.iter().count()
    }

    /// Names of files with a content, some of them if they are many. Goes through the catalog.
    pub fn names_of(&self, content: &ContentId) -> impl Iterator<Item = &FileName> {
        let all = self.catalog.names_from(None, "");
        let named = all.filter(|(_, versions)| {
            versions.iter().any(|version| version.body.content().is_some_and(|(of, _)| of == *content))
        });
        named.map(|(name, _)| name).take(16)
    }

    fn tick(&mut self) {
        self.refresh_members();
        self.elect();
        self.beacon_if_due();
        self.contact_lost();
        self.exchange_tick();
        self.keeper_tick();
        self.trash_tick();
        self.office_tick();
        self.post_tick();
        self.watching_tick();
    }

    fn hear_myself(&mut self) {
        while let Some(message) = self.to_self.pop_front() {
            self.told(self.config.node, self.config.instance, message);
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if to == self.config.node {
            self.to_self.push_back(message);
        } else {
            self.effects.push_back(Effect::Send { to, message: Box::new(message) });
        }
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    /// Messages of a run that is not the one announced are void; this node's own always hold.
    fn told(&mut self, from: NodeId, instance: InstanceId, message: Message) {
        let known = from == self.config.node
            || self.members.get(from).is_some_and(|member| member.presence.instance == instance);
        if !known {
            self.members.spoke(self.now, from, instance);
            return;
        }
        match message {
            Message::Announce(_) | Message::Goodbye => {} // the shell makes inputs of their own of these
            Message::Gossip { routes } => self.gossip_heard(&routes),
            Message::Delta { term: _, delta, ack, contents } => self.delta_heard(from, &delta, ack, contents),
            Message::DeltaStored { ack, held } => self.delta_stored(from, ack, &held),
            Message::SyncAsk { session, context, buckets } => {
                self.sync_asked(from, session, &context, &buckets);
            }
            Message::SyncPage { session, page, context, buckets, names, last } => {
                self.sync_page(from, (session, page), context, &buckets, names, last);
            }
            Message::Inventory { term, disk, page, contents, last } => {
                self.inventory_heard(from, instance, term, disk, (page, &contents, last));
            }
            Message::InventoryChange { term, disk, added, removed } => {
                self.inventory_changed(from, instance, term, disk, &added, &removed);
            }
            Message::InventoryAsk { term } => self.inventory_asked(from, term),
            Message::PullOrder { term, content, size, from: holders } => {
                self.pull_ordered(from, term, content, size, holders);
            }
            Message::PullState { term, content, state } => self.pull_state(from, term, content, state),
            Message::DropOrder { term, content, wanted, keepers } => {
                self.drop_ordered(from, term, content, wanted, keepers);
            }
            Message::DropRefused { term, content } => self.drop_refused(from, term, content),
            Message::KeepAsk { content, nonce } => self.keep_asked(from, content, nonce),
            Message::KeepAnswer { content, nonce, kept } => self.keep_answered(from, content, nonce, kept),
            Message::KeepRelease { content, nonce } => self.keep_released(content, nonce),
            Message::Drain { term, draining } => self.drain_ordered(from, term, draining),
            Message::Letters { letters, ack } => self.letters_heard(from, letters, ack),
            Message::LettersStored { ack } => self.letters_stored(from, ack),
            Message::Cursors { cursors } => self.cursors_heard(from, &cursors),
            Message::MailDigest { digest } => self.mail_digest_heard(from, digest),
            Message::MailSummary { after, streams, last, roster, reply } => {
                self.mail_summary_heard(from, after, &streams, last, &roster, reply);
            }
            // The shell's: channels are in memory alone, and nothing here depends on them.
            Message::ChannelsHeard { .. } => {}
        }
    }

    /// How fresh a node is now; this node always is.
    fn freshness_of(&self, node: NodeId) -> Freshness {
        if node == self.config.node {
            return Freshness::Up;
        }
        self.members
            .get(node)
            .map_or(Freshness::Gone, |member| member.freshness(self.now, self.config.heal_after_ms))
    }

    /// What a node says of itself, this one included.
    fn presence_of(&self, node: NodeId) -> Option<&Presence> {
        if node == self.config.node {
            return Some(&self.me);
        }
        self.members.get(node).map(|member| &member.presence)
    }

    /// The first of these nodes on each machine, in their order. Copies are counted in machines: who
    /// counts copies counts these. A node that is not known any more counts for none.
    fn one_a_machine(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeId> {
        let mut machines = BTreeSet::new();
        nodes
            .filter(|node| self.presence_of(*node).is_some_and(|presence| machines.insert(&presence.machine)))
            .collect()
    }

    /// All nodes known, this one included.
    fn all_nodes(&self) -> impl Iterator<Item = &Presence> {
        std::iter::once(&self.me).chain(self.members.iter().map(|(_, member)| &member.presence))
    }

    /// The nodes that are up, this one included.
    fn up_nodes(&self) -> impl Iterator<Item = &Presence> {
        self.all_nodes().filter(|presence| self.freshness_of(presence.node) == Freshness::Up)
    }
}
