//! The proxy's answers to commands.
//!
//! Invariant (promises P1, P12): an answer says only what is durable. A commit is answered once the
//! entry is durable here and each holder that is counted has said that content and entry are
//! durable there; a change of a count or a removal once it is durable here, on every live holder
//! and on a majority of the nodes that keep catalogs. What cannot be known is answered "unknown".

use super::Engine;
use super::event::{AskId, Effect};
use super::exchange::AfterSave;
use super::office::Office;
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::{COMMIT_WAIT_MS, PULL_SILENCE_MS, REPLICAS_MAX};
use crate::replication::removed::{self, Fate};
use crate::replication::shown;
use crate::types::{ContentId, Dot, FileName, MachineId, NodeId, NodeRoute, Pin, Version, Wanted};
use crate::wire::message::{Delta, ErrorCode, Message, NewFile, Reply, Request};
use std::collections::{BTreeMap, BTreeSet};

/// A change that a command waits for.
#[derive(Debug)]
pub(super) struct Commit {
    ask: AskId,
    kind: CommitKind,
    /// Who has not said yet that the change is durable.
    waiting: BTreeSet<NodeId>,
    /// Who has, and which of the contents they hold.
    stored: BTreeMap<NodeId, BTreeSet<ContentId>>,
    contents: Vec<ContentId>,
    saved_here: bool,
    /// The change, told again to those who have not answered: a message may get lost.
    delta: Delta,
    told: Moment,
    /// How many must have said so, this node included, once the deadline has passed.
    quorum: usize,
    deadline: Moment,
}

#[derive(Debug)]
pub(super) enum CommitKind {
    Put { files: Vec<NewFile> },
    Replicas { name: FileName, before: u8 },
    Remove { count: u32 },
    Restore { names: Vec<FileName> },
}

/// A commit none of whose holders has told of the content itself. It replaces nothing before one
/// has: else a holder that died meanwhile would leave a name without any copy.
#[derive(Debug)]
pub(super) struct WaitingCommit {
    ask: AskId,
    files: Vec<NewFile>,
    since: Moment,
}

/// How long somebody who asked for more copies does not wait for machines that are off, in milliseconds.
const WISH_MS: u64 = 600_000;
/// Such wishes noted at a time.
const WISHES_MAX: usize = 4_096;
/// Wait before a change is told again to a node that has not answered, in milliseconds.
const TELL_AGAIN_MS: u64 = 1_000;
/// After this long a change that is not durable here is answered "unknown", in milliseconds.
const SAVE_MS_MAX: u64 = 15_000;

impl Engine {
    pub(super) fn asked(&mut self, ask: AskId, machine: &MachineId, request: Request) {
        if let Request::Post { sender, source, letters, wait_ms } = request {
            self.post(ask, sender, &source, letters, wait_ms);
            return;
        }
        let Some(office) = &self.office else {
            let proxy = self.me.proxy.and_then(|proxy| self.route(proxy));
            self.answer(ask, Reply::NotProxy { proxy });
            return;
        };
        if !office.is_ready() && !matches!(request, Request::Status) {
            self.fail(ask, ErrorCode::NotReady, "the proxy is new and is still hearing from the others");
            return;
        }
        match request {
            Request::PutOpen { names, bytes, replicas, exclude } => {
                self.put_open(ask, machine, &names, bytes, replicas, &exclude);
            }
            Request::Extend { content, size, holders, replicas, exclude } => {
                self.extend(ask, content, size, &holders, replicas, &exclude);
            }
            Request::Commit { files } => self.commit(ask, files),
            Request::List { selector, after } => self.list(ask, &selector, after.as_ref()),
            Request::SetReplicas { name, replicas } => self.set_replicas(ask, &name, replicas),
            Request::Remove { names, now } => self.remove(ask, &names, now),
            Request::Restore { names } => self.restore(ask, &names),
            Request::Status => self.status(ask),
            Request::Drain { node, undo } => self.drain(ask, &node, undo),
            Request::Merge { lineage } => self.merge_clusters(ask, lineage),
            Request::Why { name } => self.why(ask, &name),
            Request::Watch { term, after, wait_ms } => self.watch(ask, term, after, wait_ms),
            Request::Post { .. } => {} // any node takes letters: see above
        }
    }

    pub(super) fn answer(&mut self, ask: AskId, reply: Reply) {
        self.effects.push_back(Effect::Answer { ask, reply: Box::new(reply) });
    }

    pub(super) fn fail(&mut self, ask: AskId, code: ErrorCode, message: &str) {
        self.answer(ask, Reply::Failed { code, message: message.into() });
    }

    pub(super) fn ask_gone(&mut self, ask: AskId) {
        self.post_gone(ask);
        if let Some(office) = &mut self.office {
            office.commits.retain(|_, commit| commit.ask != ask);
            office.waiting_commits.retain(|waiting| waiting.ask != ask);
            office.extensions.retain(|extension| extension.ask != ask);
            office.watching.forget(ask);
        }
    }

    /// Routes to nodes, this one included.
    pub(super) fn routes_of(&self, nodes: impl Iterator<Item = NodeId>) -> Vec<NodeRoute> {
        nodes
            .filter_map(|node| {
                if node == self.config.node {
                    return Some(NodeRoute {
                        node,
                        name: self.config.name.clone(),
                        machine: self.config.machine.clone(),
                        addresses: self.addresses.clone(),
                    });
                }
                self.route(node)
            })
            .collect()
    }

    fn commit(&mut self, ask: AskId, files: Vec<NewFile>) {
        let names: BTreeSet<&FileName> = files.iter().map(|file| &file.name).collect();
        if files.is_empty() || names.len() < files.len() {
            self.fail(ask, ErrorCode::Invalid, "a commit needs files, each name once");
            return;
        }
        for file in &files {
            if file.replicas == 0 || file.replicas > REPLICAS_MAX {
                self.fail(ask, ErrorCode::Invalid, "the number of copies must be 1 to 64");
                return;
            }
            if let Some(obstacle) = shown::obstacle(&self.catalog, &file.name, &file.body) {
                let message = format!("`{}` cannot be stored: `{obstacle}` is in its way", file.name);
                self.fail(ask, ErrorCode::NameTaken, &message);
                return;
            }
        }
        if !files.iter().all(|file| self.is_reported(file)) {
            let since = self.now;
            if let Some(office) = &mut self.office {
                office.waiting_commits.push(WaitingCommit { ask, files, since });
            }
            return;
        }
        self.commit_reported(ask, files);
    }

    /// Whether a node that is up has itself told that it holds the file's content.
    fn is_reported(&self, file: &NewFile) -> bool {
        let Some((content, _)) = file.body.content() else {
            return true;
        };
        // This node knows at once when its own copy is going.
        let goes = |node: NodeId| node == self.config.node && !self.stays_here(&content);
        self.office.as_ref().is_some_and(|office| {
            office.inventories.holders(&content).any(|node| {
                file.holders.contains(&node) && self.freshness_of(node) == Freshness::Up && !goes(node)
            })
        })
    }

    /// Goes on with commits whose contents have been reported by now.
    pub(super) fn resume_commits(&mut self) {
        let Some(office) = self.office.as_mut().filter(|office| !office.waiting_commits.is_empty()) else {
            return;
        };
        for waiting in std::mem::take(&mut office.waiting_commits) {
            if waiting.files.iter().all(|file| self.is_reported(file)) {
                self.commit_reported(waiting.ask, waiting.files);
            } else if self.now.since(waiting.since) >= COMMIT_WAIT_MS {
                let message = "no machine that is up has the content; nothing was changed";
                self.fail(waiting.ask, ErrorCode::Connection, message);
            } else if let Some(office) = &mut self.office {
                office.waiting_commits.push(waiting);
            }
        }
    }

    fn commit_reported(&mut self, ask: AskId, files: Vec<NewFile>) {
        let mut delta = Delta::default();
        let fate = self.fate();
        for file in &files {
            let old = shown::plain(&self.catalog, &file.name);
            let same = old.is_some_and(|old| {
                old.body == file.body
                    && old.mode == file.mode
                    && old.modified_ns == file.modified_ns
                    && old.wanted.count() == file.replicas
            });
            if let Some(old) = old.filter(|_| same) {
                // A repeated request, or nothing new. A holder may have missed it: it is told again.
                tell_again(&mut delta, &file.name, old);
                continue;
            }
            let version = Version {
                dot: Dot::default(),
                body: file.body.clone(),
                mode: file.mode & 0o7777,
                modified_ns: file.modified_ns,
                wanted: Wanted::new(file.replicas),
                removed_s: 0,
            };
            let change = self.with_mint(|catalog, mint| {
                shown::delta_put_plain(catalog, &file.name, version, &[], fate, mint)
            });
            delta.context.extend(change.context);
            delta.names.extend(change.names);
        }
        let contents: BTreeSet<ContentId> =
            files.iter().filter_map(|file| file.body.content().map(|(content, _)| content)).collect();
        let named = files.iter().flat_map(|file| file.holders.iter().copied());
        let holders: BTreeSet<NodeId> = named.filter(|node| self.presence_of(*node).is_some()).collect();
        let contents = contents.into_iter().collect();
        self.begin_commit(ask, CommitKind::Put { files }, &delta, holders, contents, 1);
    }

    /// Makes a change durable here and there, and remembers who waits for it.
    pub(super) fn begin_commit(
        &mut self,
        ask: AskId,
        kind: CommitKind,
        delta: &Delta,
        waited_for: BTreeSet<NodeId>,
        contents: Vec<ContentId>,
        quorum: usize,
    ) {
        let (now, me) = (self.now, self.config.node);
        let Some(office) = &mut self.office else {
            return;
        };
        self.commits_begun = self.commits_begun.wrapping_add(1);
        let (id, term) = (self.commits_begun, office.term);
        let mut waiting = waited_for;
        waiting.remove(&me);
        let commit = Commit {
            ask,
            kind,
            waiting: waiting.clone(),
            stored: BTreeMap::new(),
            contents: contents.clone(),
            saved_here: false,
            delta: delta.clone(),
            told: now,
            quorum,
            deadline: now.plus(COMMIT_WAIT_MS),
        };
        office.commits.insert(id, commit);
        let keepers: Vec<NodeId> = self
            .up_nodes()
            .filter(|node| node.pin != Pin::Client && node.node != me)
            .map(|node| node.node)
            .collect();
        for node in keepers.iter().chain(waiting.iter().filter(|node| !keepers.contains(node))) {
            let asked = waiting.contains(node);
            if !asked && delta.names.is_empty() {
                continue;
            }
            let message = Message::Delta {
                term,
                delta: delta.clone(),
                ack: asked.then_some(id),
                contents: if asked { contents.clone() } else { Vec::new() },
            };
            self.send(*node, message);
        }
        contents.iter().for_each(|content| self.keep_after_all(*content));
        let save = self.apply(delta);
        self.after_save(save, AfterSave::Committed { commit: id });
    }

    /// The change is durable on this node.
    pub(super) fn committed_here(&mut self, commit: u64) {
        let me = self.config.node;
        let state = self.office.as_ref().and_then(|office| office.commits.get(&commit));
        let contents = state.map(|state| state.contents.clone()).unwrap_or_default();
        let here: Vec<ContentId> = contents.into_iter().filter(|content| self.stays_here(content)).collect();
        self.keep_for_commit(commit, &here);
        if let Some(state) = self.office.as_mut().and_then(|office| office.commits.get_mut(&commit)) {
            state.saved_here = true;
            state.stored.insert(me, here.into_iter().collect());
        }
        self.finish_commit_if_done(commit);
    }

    pub(super) fn delta_stored(&mut self, from: NodeId, ack: u64, held: &[ContentId]) {
        let Some(office) = &mut self.office else {
            return;
        };
        if let Some(commit) = office.commits.get_mut(&ack)
            && commit.waiting.remove(&from)
        {
            commit.stored.insert(from, held.iter().copied().collect());
            let news: Vec<ContentId> =
                held.iter().copied().filter(|content| office.inventories.confirm(from, *content)).collect();
            office.look_at(news);
        }
        self.finish_commit_if_done(ack);
    }

    /// A node is no longer up: what waits for it goes on without it.
    pub(super) fn requests_lose(&mut self, node: NodeId) {
        if self.freshness_of(node) <= Freshness::Suspect {
            return;
        }
        let Some(office) = &mut self.office else {
            return;
        };
        let touched =
            office.commits.iter_mut().filter_map(|(id, commit)| commit.waiting.remove(&node).then_some(*id));
        let touched: Vec<u64> = touched.collect();
        touched.into_iter().for_each(|commit| self.finish_commit_if_done(commit));
        self.end_extensions(|extension| extension.to == node);
    }

    /// A node is in a new run: what it said in the one before holds no more. It is told again.
    pub(super) fn commits_forget(&mut self, node: NodeId) {
        if let Some(office) = &mut self.office {
            for commit in office.commits.values_mut() {
                if commit.stored.remove(&node).is_some() {
                    commit.waiting.insert(node);
                }
            }
        }
    }

    /// This node slept: what holders said before is no longer sure, for others may have led since.
    pub(super) fn requests_wake_up(&mut self) {
        if let Some(office) = &mut self.office {
            for (_, commit) in std::mem::take(&mut office.commits) {
                self.fail(commit.ask, ErrorCode::Unknown, UNKNOWN);
            }
        }
    }

    pub(super) fn requests_tick(&mut self) {
        let now = self.now;
        let Some(office) = &mut self.office else {
            return;
        };
        let (mut again, term) = (Vec::new(), office.term);
        for (id, commit) in &mut office.commits {
            if now.since(commit.told) >= TELL_AGAIN_MS {
                commit.told = now;
                for node in &commit.waiting {
                    let (delta, contents) = (commit.delta.clone(), commit.contents.clone());
                    again.push((*node, Message::Delta { term, delta, ack: Some(*id), contents }));
                }
            }
        }
        let due = office.commits.iter().filter(|(_, commit)| commit.deadline <= now);
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        for (node, message) in again {
            self.send(node, message);
        }
        due.into_iter().for_each(|commit| self.finish_commit_if_done(commit));
        self.resume_commits();
        self.end_extensions(|extension| now.since(extension.since) >= PULL_SILENCE_MS);
    }

    fn finish_commit_if_done(&mut self, id: u64) {
        let now = self.now;
        let Some(office) = &mut self.office else {
            return;
        };
        let Some(commit) = office.commits.get(&id) else {
            return;
        };
        let late = commit.deadline <= now;
        let hopeless = late && now.since(commit.deadline) >= SAVE_MS_MAX - COMMIT_WAIT_MS;
        let done = commit.saved_here && (commit.waiting.is_empty() || late);
        if !done && !hopeless {
            return;
        }
        let Some(commit) = office.commits.remove(&id) else {
            return;
        };
        if !commit.saved_here || commit.stored.len() < commit.quorum {
            self.fail(commit.ask, ErrorCode::Unknown, UNKNOWN);
            return;
        }
        match commit.kind {
            CommitKind::Put { files } => self.answer_put(commit.ask, &files, &commit.stored),
            CommitKind::Replicas { name, before } => self.answer_replicas(commit.ask, &name, before),
            CommitKind::Remove { count } => self.answer(commit.ask, Reply::Removed { count }),
            CommitKind::Restore { names } => self.answer_restored(commit.ask, &names, &commit.stored),
        }
    }

    fn answer_put(&mut self, ask: AskId, files: &[NewFile], stored: &BTreeMap<NodeId, BTreeSet<ContentId>>) {
        let mut holders = Vec::with_capacity(files.len());
        for file in files {
            let confirmed: Vec<NodeId> = match file.body.content() {
                Some((content, _)) => {
                    let holds = |node: &NodeId| stored.get(node).is_some_and(|held| held.contains(&content));
                    self.one_a_machine(file.holders.iter().copied().filter(holds))
                }
                None => self.one_a_machine(stored.keys().copied()),
            };
            if confirmed.is_empty() {
                self.fail(ask, ErrorCode::Unknown, UNKNOWN);
                return;
            }
            holders.push(confirmed);
        }
        let mentioned: BTreeSet<NodeId> = holders.iter().flatten().copied().collect();
        let nodes = self.routes_of(mentioned.into_iter());
        self.answer(ask, Reply::Committed { holders, nodes });
    }

    /// Everybody who keeps a catalog and is up, and how many of them are a majority.
    pub(super) fn catalog_keepers(&self) -> (BTreeSet<NodeId>, usize) {
        let keepers: BTreeSet<NodeId> =
            self.up_nodes().filter(|node| node.pin != Pin::Client).map(|node| node.node).collect();
        let majority = keepers.len() / 2 + 1;
        (keepers, majority)
    }

    fn set_replicas(&mut self, ask: AskId, name: &FileName, replicas: u8) {
        if replicas == 0 || replicas > REPLICAS_MAX {
            self.fail(ask, ErrorCode::Invalid, "the number of copies must be 1 to 64");
            return;
        }
        let Some((real, version)) = shown::resolve(&self.catalog, name) else {
            self.fail(ask, ErrorCode::NotFound, &format!("no file `{name}`"));
            return;
        };
        let (dot, before) = (version.dot, version.wanted.count());
        let (keepers, majority) = self.catalog_keepers();
        let kind = CommitKind::Replicas { name: name.clone(), before };
        if before == replicas {
            // It may be on its way to the disks only.
            let mut delta = Delta::default();
            tell_again(&mut delta, &real, version);
            self.begin_commit(ask, kind, &delta, keepers, Vec::new(), majority);
            return;
        }
        let content = version.body.content().map(|(content, _)| content).filter(|_| replicas > before);
        if let (Some(content), Some(office)) = (content, self.office.as_mut())
            && office.wished.len() < WISHES_MAX
        {
            office.wished.insert(content, self.now.plus(WISH_MS));
        }
        let minted = self.exchange.mint(self.config.instance, self.catalog.context());
        let Some(delta) = self.catalog.delta_set_wanted(&real, dot, replicas, minted) else {
            self.fail(ask, ErrorCode::NotFound, &format!("no file `{name}`"));
            return;
        };
        self.begin_commit(ask, kind, &delta, keepers, Vec::new(), majority);
    }

    fn answer_replicas(&mut self, ask: AskId, name: &FileName, before: u8) {
        let Some(row) = self.row(name) else {
            self.fail(ask, ErrorCode::NotFound, &format!("no file `{name}`"));
            return;
        };
        let machines: BTreeSet<&MachineId> =
            self.up_nodes().filter(|node| node.storage).map(|node| &node.machine).collect();
        let machines = u32::try_from(machines.len()).unwrap_or(u32::MAX);
        let nodes = self.routes_of(row.holders.iter().copied());
        self.answer(ask, Reply::ReplicasSet { row, nodes, before, machines });
    }

    fn remove(&mut self, ask: AskId, names: &[FileName], now: bool) {
        let Some(removals) = self.removals(ask, names, now) else {
            return;
        };
        let count = u32::try_from(removals.len()).unwrap_or(u32::MAX);
        let fate = if now { Fate::Gone } else { self.fate() };
        let delta = self.with_mint(|catalog, mint| removed::delta_remove(catalog, &removals, fate, mint));
        let (keepers, majority) = self.catalog_keepers();
        self.begin_commit(ask, CommitKind::Remove { count }, &delta, keepers, Vec::new(), majority);
    }

    /// This node no longer leads: whoever waits is told that the outcome is not known.
    pub(super) fn abandon_requests(&mut self, office: Office) {
        for waiting in office.waiting_commits {
            self.fail(waiting.ask, ErrorCode::NotReady, "the proxy changed");
        }
        for (_, commit) in office.commits {
            self.fail(commit.ask, ErrorCode::Unknown, UNKNOWN);
        }
        for ask in office.watching.asks() {
            self.answer(ask, Reply::NotProxy { proxy: None });
        }
        for extension in office.extensions {
            self.fail(extension.ask, ErrorCode::NotReady, "the proxy changed");
        }
    }
}

/// Adds to a change what is known already: merging it changes nothing where it is known, too.
fn tell_again(delta: &mut Delta, name: &FileName, version: &Version) {
    let settings = version.wanted.later.iter().flat_map(|later| later.iter().map(|(dot, _)| *dot));
    delta.context.extend(std::iter::once(version.dot).chain(settings));
    delta.names.push((name.clone(), vec![version.clone()]));
}

const UNKNOWN: &str = "the outcome is not known: the change may or may not have been made";
