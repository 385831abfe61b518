//! A data folder: what is durable, what is on its way there, and what a crash leaves of it.
//!
//! As in `store`: one writer takes whatever has queued up and commits it as a group, all or none;
//! nobody is told before the group is durable; after a failed commit nothing is written any more.
//! A copy is listed only while its row is durable and nobody is removing it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use thorp::replication::{Catalog, CausalContext};
use thorp::types::{
    ContentId, DiskId, Dot, FileName, InstanceId, Letter, LetterId, Lineage, NodeRoute, Term, Version,
};
use thorp::wire::mail::{MailKey, MailRow};
use thorp::wire::message::Context;
use thorp::wire::record::CatalogWrite;

/// The bytes of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// As put.
    Good,
    /// Others; only whoever hashes them notices.
    Wrong,
    /// The disk gives an error for them.
    Unreadable,
}

/// A durable copy.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub size: u64,
    pub bytes: Bytes,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub names: BTreeMap<FileName, Vec<Version>>,
    pub prefixes: BTreeMap<InstanceId, u64>,
    pub extra: BTreeSet<Dot>,
    pub held: BTreeMap<ContentId, Stored>,
    pub term: Term,
    pub lineage: Vec<Lineage>,
    pub draining: bool,
    pub generation: u64,
    pub id: DiskId,
    /// Whether other nodes' addresses are remembered.
    pub met: bool,
    pub mail: BTreeMap<MailKey, MailRow>,
    /// Durable, and seen by nobody.
    pub staged: Vec<Letter>,
    /// All letters that ever appeared, in that order.
    pub inbox: Vec<LetterId>,
}

impl Image {
    /// The versions that the name stands for; the trash may have others.
    pub fn live(&self, name: &FileName) -> impl Iterator<Item = &Version> {
        self.names.get(name).into_iter().flatten().filter(|version| version.is_live())
    }

    /// All of them.
    pub fn all_live(&self) -> impl Iterator<Item = &Version> {
        self.names.values().flatten().filter(|version| version.is_live())
    }

    /// Whether this version of the name is listed.
    pub fn lists(&self, name: &FileName, dot: Dot) -> bool {
        self.live(name).any(|version| version.dot == dot)
    }

    /// Whether the dot was seen.
    pub fn knows(&self, name: &FileName, dot: Dot) -> bool {
        self.prefixes.get(&dot.instance).is_some_and(|counter| dot.counter <= *counter)
            || self.extra.contains(&dot)
            || self.lists(name, dot)
    }

    /// Whether any live version names the content.
    pub fn names_content(&self, content: &ContentId) -> bool {
        let mut versions = self.all_live();
        versions.any(|version| version.body.content().is_some_and(|(known, _)| known == *content))
    }

    /// The catalog as a node loads it at its start.
    pub fn catalog(&self) -> Result<Catalog, String> {
        let wire = Context {
            prefixes: self.prefixes.iter().map(|(instance, counter)| (*instance, *counter)).collect(),
            extra: self.extra.iter().copied().collect(),
        };
        let context = CausalContext::from_wire(&wire).map_err(|error| error.to_string())?;
        let names = self.names.iter().map(|(name, versions)| (name.clone(), versions.clone()));
        Catalog::load(context, names).map_err(|error| error.to_string())
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Catalog { writes, .. } => writes.iter().for_each(|write| self.write(write)),
            Change::Term(term) => self.term = *term,
            Change::Lineage(lineage) => self.lineage.clone_from(lineage),
            Change::Draining(draining) => self.draining = *draining,
            Change::Content { content, size, .. } => {
                self.held.insert(*content, Stored { size: *size, bytes: Bytes::Good });
            }
            Change::Remove { content, .. } => {
                self.held.remove(content);
            }
        }
    }

    fn write(&mut self, write: &CatalogWrite) {
        match write {
            CatalogWrite::Name { name, versions } if versions.is_empty() => {
                self.names.remove(name);
            }
            CatalogWrite::Name { name, versions } => {
                self.names.insert(name.clone(), versions.clone());
            }
            CatalogWrite::Prefix { instance, counter } => {
                self.prefixes.insert(*instance, *counter);
            }
            CatalogWrite::Extra { dots } => self.extra = dots.iter().copied().collect(),
            CatalogWrite::Mail(write) => self.write_mail(write),
        }
    }
}

/// A put that a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Put {
    pub client: usize,
    pub op: u64,
    /// Which chain of it.
    pub chain: u64,
}

/// Who waits for a copy to be durable.
#[derive(Clone, Debug)]
pub enum StoredFor {
    Put(Put),
    Pull,
}

/// Who waits for a copy to be gone.
#[derive(Clone, Debug)]
pub enum RemovedFor {
    /// The engine ordered it.
    Drop,
    /// It was found damaged by a pull, which goes on.
    Pull { from: Vec<NodeRoute> },
    /// It was found damaged.
    Damage,
}

/// One write to the database.
#[derive(Clone, Debug)]
pub enum Change {
    Catalog { save: u64, writes: Vec<CatalogWrite> },
    Term(Term),
    Lineage(Vec<Lineage>),
    Draining(bool),
    Content { content: ContentId, size: u64, waits: StoredFor },
    Remove { content: ContentId, size: u64, waits: RemovedFor },
}

/// The folder of a running node.
#[derive(Debug, Default)]
pub struct Disk {
    pub image: Image,
    /// Waiting for the writer.
    pub queue: VecDeque<Change>,
    /// Being committed.
    pub group: Vec<Change>,
    /// Numbers the groups of a run.
    pub groups: u64,
    /// A sync failed.
    pub suspect: bool,
    /// A failed group that a restart may find on disk all the same.
    pub limbo: Vec<Change>,
    /// Contents listed, with their sizes.
    pub index: BTreeMap<ContentId, u64>,
    /// Contents in the making or being removed.
    pub claims: BTreeSet<ContentId>,
    pub pins: BTreeMap<ContentId, BTreeSet<Put>>,
    /// An older state, for a rollback.
    pub snapshot: Option<Image>,
    pub capacity: u64,
    /// No content is taken.
    pub full: bool,
    /// The next commit fails.
    pub fails: bool,
    /// The inbox is at work until then.
    pub inbox_until: u64,
}

impl Disk {
    /// What a process finds that starts now. `persists`: whether the group under way made it.
    pub fn restart(&mut self, persists: bool) {
        let mut last = std::mem::take(&mut self.limbo);
        last.append(&mut self.group);
        if persists {
            last.iter().for_each(|change| self.image.apply(change));
        }
        self.image.recover_staged();
        self.queue.clear();
        self.claims.clear();
        self.pins.clear();
        self.suspect = false;
        self.fails = false;
        self.inbox_until = 0;
        self.index = self.image.held.iter().map(|(content, stored)| (*content, stored.size)).collect();
    }

    /// Begins to commit what has queued up; false if there is nothing to do.
    pub fn begin_group(&mut self) -> bool {
        if !self.group.is_empty() || self.queue.is_empty() {
            return false;
        }
        self.group = self.queue.drain(..).collect();
        self.groups += 1;
        true
    }

    /// The group is durable.
    pub fn end_group(&mut self) -> Vec<Change> {
        let group = std::mem::take(&mut self.group);
        for change in &group {
            self.image.apply(change);
        }
        group
    }

    pub fn used(&self) -> u64 {
        self.index.values().sum()
    }

    pub fn free(&self) -> u64 {
        if self.full { 0 } else { self.capacity.saturating_sub(self.used()) }
    }

    pub fn holds(&self, content: &ContentId) -> bool {
        self.index.contains_key(content)
    }

    /// How the bytes of a listed copy are.
    pub fn bytes(&self, content: &ContentId) -> Option<Bytes> {
        self.holds(content).then(|| self.image.held.get(content).map(|stored| stored.bytes)).flatten()
    }

    pub fn unpin(&mut self, put: Put) {
        self.pins.retain(|_, puts| {
            puts.retain(|known| (known.client, known.op) != (put.client, put.op));
            !puts.is_empty()
        });
    }
}
