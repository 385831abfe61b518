//! What was asked for, what was acknowledged, and what each node has said: the truth against which
//! promises are checked.
//!
//! A put's number travels as the modification time of its version, so every version in any catalog
//! tells whose it is. Invariant: nothing here is known to any node.

use crate::clients::Ask;
use crate::disk::{Bytes, Image};
use crate::letters::LetterLedger;
use std::collections::{BTreeMap, BTreeSet};
use thorp::engine::event::{AskId, Input};
use thorp::types::{
    ContentId, Dot, FileName, InstanceId, LetterId, NodeId, Presence, Priority, Term, Version,
};
use thorp::wire::message::{Delta, Message, Request};

/// What a command is to do.
#[derive(Clone, Debug)]
pub enum Work {
    Put { name: FileName, content: ContentId, size: u64, replicas: u8 },
    Remove { name: FileName },
    Replicas { name: FileName, replicas: u8 },
    Get { name: FileName },
    List,
    Send { id: LetterId, target: Option<usize>, priority: Priority, brief: bool },
}

/// A command and what became of it.
#[derive(Clone, Debug)]
pub struct Op {
    pub work: Work,
    /// Its answer was "done".
    pub acknowledged: bool,
    pub begun_at: u64,
    /// When its change was first asked for.
    pub asked_at: Option<u64>,
    pub ended: bool,
    /// Faults took what it was answered for before the answer: nothing is promised.
    pub exempt: bool,
    /// Versions minted for it.
    pub dots: Vec<Dot>,
    /// Who took its place.
    pub replaced_by: BTreeSet<u64>,
}

/// Why an engine was called: who may take a version away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Merge,
    Asked(AskId),
    Other,
}

/// What one request brought about.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// Versions that it removed.
    pub kills: Vec<(FileName, Dot)>,
    /// Settings that it made.
    pub settings: Vec<(FileName, Dot)>,
    /// Who else was told what, and is waited for.
    pub told: Vec<(usize, Delta)>,
}

/// A keep-promise, and when it was given.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    pub at_ms: u64,
    pub run: u64,
}

/// What a node last said of itself.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    pub at_ms: u64,
    pub instance: InstanceId,
    pub storage: bool,
    generation: u64,
    /// Of its datagrams and of what came over links.
    sequences: [u64; 2],
    pub left: bool,
}

/// What a node has heard and promised in its present run.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The versions in its memory.
    pub shadow: BTreeMap<FileName, BTreeSet<Dot>>,
    /// Versions that left its memory.
    pub gone: BTreeSet<Dot>,
    /// Who announced itself: when, in which run, and whether it stores.
    pub announced: BTreeMap<NodeId, Announced>,
    /// Who reported everything it holds: in which run, for which term.
    pub reported: BTreeSet<(NodeId, InstanceId, Term)>,
    /// Orders to drop that it got, and how many must promise.
    pub orders: BTreeMap<ContentId, u8>,
    /// What it asks promises for: the nonce, and how many it needs.
    pub nonces: BTreeMap<ContentId, (u64, u8)>,
}

#[derive(Default)]
pub struct Ledger {
    pub ops: Vec<Op>,
    /// Each version's name and put.
    pub dots: BTreeMap<Dot, (FileName, u64)>,
    pub settings: BTreeSet<Dot>,
    /// Versions that a command removed or replaced.
    pub killed: BTreeSet<Dot>,
    pub changes: BTreeMap<AskId, Change>,
    pub heard: BTreeMap<usize, Heard>,
    /// Promises: by giver, content and nonce.
    pub promises: BTreeMap<(usize, ContentId, u64), Promise>,
    /// Who speaks in which run.
    speakers: BTreeMap<InstanceId, NodeId>,
    /// Good copies destroyed by faults since all was last well.
    pub damage: BTreeMap<ContentId, u8>,
    /// When a drop of a content was last under way.
    pub dropping_at: BTreeMap<ContentId, u64>,
    pub destroyed_at: Option<u64>,
    pub ops_of_name: BTreeMap<FileName, BTreeSet<u64>>,
    pub ops_of_content: BTreeMap<ContentId, BTreeSet<u64>>,
    /// Removals that were acknowledged.
    pub removed: BTreeSet<(FileName, Dot)>,
    /// Settings that were acknowledged.
    pub set: BTreeSet<(FileName, Dot)>,
    pub letters: LetterLedger,
}

impl Ledger {
    pub fn begin(&mut self, work: Work, now: u64) -> u64 {
        let op = self.ops.len() as u64;
        if let Work::Put { name, content, .. } = &work {
            self.ops_of_name.entry(name.clone()).or_default().insert(op);
            self.ops_of_content.entry(*content).or_default().insert(op);
        }
        self.ops.push(Op {
            work,
            acknowledged: false,
            begun_at: now,
            asked_at: None,
            ended: false,
            exempt: false,
            dots: Vec::new(),
            replaced_by: BTreeSet::new(),
        });
        op
    }

    pub fn op(&self, op: u64) -> &Op {
        &self.ops[op as usize]
    }

    pub fn op_mut(&mut self, op: u64) -> &mut Op {
        &mut self.ops[op as usize]
    }

    pub fn ended(&mut self, op: u64) {
        self.op_mut(op).ended = true;
    }

    /// Contents put so far, with their sizes.
    pub fn contents_put(&self) -> Vec<(ContentId, u64)> {
        let puts = self.ops.iter().filter_map(|op| match &op.work {
            Work::Put { content, size, .. } => Some((*content, *size)),
            _ => None,
        });
        puts.collect()
    }

    /// The least number of copies that may be asked for: damage that is not mended must stay within
    /// what that number promises to survive.
    pub fn least_replicas(&self, content: &ContentId) -> u8 {
        self.damage.get(content).map_or(1, |damage| damage + 1)
    }

    pub fn least_replicas_of_name(&self, name: &FileName) -> u8 {
        let ops = self.ops_of_name.get(name).into_iter().flatten();
        let contents = ops.filter_map(|op| match &self.op(*op).work {
            Work::Put { content, .. } => Some(self.least_replicas(content)),
            _ => None,
        });
        contents.max().unwrap_or(1)
    }

    /// The least number of copies that was ever asked for of a content.
    pub fn floor(&self, content: &ContentId) -> u8 {
        let puts = self.ops_of_content.get(content).into_iter().flatten();
        let mut floor = u8::MAX;
        for op in puts {
            if let Work::Put { name, replicas, .. } = &self.op(*op).work {
                floor = floor.min(*replicas);
                let set = self.ops.iter().filter_map(|op| match &op.work {
                    Work::Replicas { name: of, replicas } if of == name => Some(*replicas),
                    _ => None,
                });
                floor = set.fold(floor, u8::min);
            }
        }
        floor
    }

    pub fn cause(&self, input: &Input, asks: &BTreeMap<AskId, Ask>) -> Cause {
        match input {
            Input::Told { message, .. } => match message.as_ref() {
                Message::Delta { .. } | Message::SyncPage { .. } => Cause::Merge,
                _ => Cause::Other,
            },
            Input::Asked { ask, .. } if asks.contains_key(ask) || self.changes.contains_key(ask) => {
                Cause::Asked(*ask)
            }
            _ => Cause::Other,
        }
    }

    pub fn asked(&mut self, ask: AskId, op: u64, request: &Request, now: u64) {
        if matches!(request, Request::Commit { .. } | Request::Remove { .. } | Request::SetReplicas { .. }) {
            self.changes.insert(ask, Change::default());
            self.op_mut(op).asked_at.get_or_insert(now);
        }
    }

    /// A node starts with what is on its disk.
    pub fn started(&mut self, at: usize, image: &Image) {
        let live = |name| image.live(name).map(|version| version.dot).collect();
        let shadow = image.names.keys().map(|name| (name.clone(), live(name)));
        self.heard.insert(at, Heard { shadow: shadow.collect(), ..Heard::default() });
    }

    /// What a node said and heard in its run is void.
    pub fn roles_forget(&mut self, at: usize) {
        self.heard.remove(&at);
    }

    /// A run begins: what is said in it, this node says.
    pub fn speaks(&mut self, instance: InstanceId, node: NodeId) {
        self.speakers.insert(instance, node);
    }

    pub fn speaker(&self, instance: InstanceId) -> Option<NodeId> {
        self.speakers.get(&instance).copied()
    }

    pub fn announced(&mut self, at: usize, presence: &Presence, proven: bool, meets: bool, now: u64) {
        let Some(heard) = self.heard.get_mut(&at).filter(|_| meets) else {
            return;
        };
        let way = usize::from(proven);
        let mut said = Announced {
            at_ms: now,
            instance: presence.instance,
            storage: presence.storage,
            generation: presence.generation,
            sequences: [0, 0],
            left: false,
        };
        if let Some(known) = heard.announced.get(&presence.node) {
            let newer = if known.instance == presence.instance {
                said.sequences = known.sequences;
                if known.sequences.iter().any(|sequence| presence.sequence < *sequence) {
                    said.storage = known.storage; // what it said later counts
                }
                presence.sequence > known.sequences[way]
            } else {
                let silent = now - known.at_ms >= thorp::limits::SUSPECT_AFTER_MS;
                let lower = presence.generation < known.generation;
                presence.generation > known.generation || (proven && (!lower || silent))
            };
            if !newer {
                return;
            }
        }
        said.sequences[way] = presence.sequence;
        heard.announced.insert(presence.node, said);
    }

    /// A node said that it leaves.
    pub fn left(&mut self, at: usize, node: NodeId, instance: InstanceId) {
        let heard = self.heard.entry(at).or_default();
        if let Some(known) = heard.announced.get_mut(&node)
            && known.instance == instance
        {
            known.left = true;
        }
    }

    /// Whether a version of this put is listed where a good copy of its content is, in one of
    /// `images`; or was durably taken away by a command.
    pub fn survives(&self, images: &[&Image], op: u64) -> bool {
        let info = self.op(op);
        let Work::Put { name, content, .. } = &info.work else {
            return true;
        };
        let good = |image: &Image| image.held.get(content).is_some_and(|stored| stored.bytes == Bytes::Good);
        let taken = |image: &Image, dot: Dot| {
            self.killed.contains(&dot) && image.knows(name, dot) && !image.lists(name, dot)
        };
        let listed = || images.iter().any(|image| info.dots.iter().any(|dot| image.lists(name, *dot)));
        // A copy may be where this version is not listed yet: promises hold for contents, and
        // entries go everywhere.
        if listed() && images.iter().any(|image| good(image)) {
            return true;
        }
        images.iter().any(|image| info.dots.iter().any(|dot| taken(image, *dot)))
    }

    /// Puts whose loss would break a promise: acknowledged ones, and those that took the place of
    /// such a one on some disk, unless it was removed as well.
    pub fn is_protected(&self, images: &[&Image], op: u64) -> bool {
        let info = self.op(op);
        if info.exempt {
            return false;
        }
        if info.acknowledged {
            return true;
        }
        let Work::Put { name, .. } = &info.work else {
            return false;
        };
        let durable = images.iter().any(|image| info.dots.iter().any(|dot| image.lists(name, *dot)));
        // A removal that saw all that the old one was, and said so, ends what was promised of it: what
        // another proxy put in its place, unheard of there, stands for nothing but itself.
        let removed = |old: &Op| old.dots.iter().all(|dot| self.removed.contains(&(name.clone(), *dot)));
        // Of several that took its place, one that stays is enough.
        let replaces = |old: &Op| {
            let mut others = old.replaced_by.iter().filter(|other| **other != op);
            old.acknowledged
                && old.replaced_by.contains(&op)
                && !removed(old)
                && !others.any(|other| self.survives(images, *other))
        };
        let mut of_name = self.ops_of_name.get(name).into_iter().flatten();
        durable && of_name.any(|old| replaces(self.op(*old)))
    }
}

pub fn dots(versions: &[Version]) -> BTreeSet<Dot> {
    versions.iter().map(|version| version.dot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Stored;
    use thorp::types::{Body, Wanted};

    fn name() -> FileName {
        FileName::parse("f").expect("valid")
    }

    fn dot(instance: u64) -> Dot {
        Dot { counter: 1, instance: InstanceId(instance) }
    }

    /// A put of bytes of its own, with one version.
    fn put(ledger: &mut Ledger, number: u8) -> u64 {
        let content = ContentId([number; 32]);
        let op = ledger.begin(Work::Put { name: name(), content, size: 1, replicas: 1 }, 0);
        ledger.op_mut(op).dots.push(dot(op + 1));
        op
    }

    /// A disk that lists this put, has its bytes or not, and knows all that came before it.
    fn disk(ledger: &Ledger, op: u64, bytes: bool) -> Image {
        let Work::Put { content, size, .. } = ledger.op(op).work else {
            panic!("no put");
        };
        let version = Version {
            dot: dot(op + 1),
            body: Body::File { content, size },
            mode: 0o644,
            modified_ns: op as i64,
            wanted: Wanted::new(1),
            removed_s: 0,
        };
        let mut image = Image { extra: (0..=op).map(|op| dot(op + 1)).collect(), ..Image::default() };
        image.names.insert(name(), vec![version]);
        if bytes {
            image.held.insert(content, Stored { size, bytes: Bytes::Good });
        }
        image
    }

    /// An acknowledged put, and one that took its place without an answer.
    fn replaced() -> (Ledger, u64, u64) {
        let mut ledger = Ledger::default();
        let old = put(&mut ledger, 1);
        let new = put(&mut ledger, 2);
        ledger.op_mut(old).acknowledged = true;
        ledger.op_mut(old).replaced_by.insert(new);
        ledger.killed.insert(dot(old + 1));
        (ledger, old, new)
    }

    #[test]
    fn what_took_the_place_of_an_acknowledged_put_must_be_there() {
        let (ledger, _, new) = replaced();
        let (bare, whole) = (disk(&ledger, new, false), disk(&ledger, new, true));
        assert!(ledger.is_protected(&[&bare], new) && !ledger.survives(&[&bare], new));
        assert!(ledger.is_protected(&[&whole], new) && ledger.survives(&[&whole], new));
    }

    #[test]
    fn what_took_the_place_of_a_put_that_was_removed_elsewhere_need_not() {
        let (mut ledger, old, new) = replaced();
        let bare = disk(&ledger, new, false);
        ledger.removed.insert((name(), dot(old + 1)));
        assert!(!ledger.is_protected(&[&bare], new));
        ledger.op_mut(new).acknowledged = true;
        assert!(ledger.is_protected(&[&bare], new), "it was promised itself");
    }

    #[test]
    fn a_removal_that_saw_half_of_a_put_ends_nothing() {
        let (mut ledger, old, new) = replaced();
        let bare = disk(&ledger, new, false);
        ledger.removed.insert((name(), dot(old + 1)));
        ledger.op_mut(old).dots.push(dot(9));
        assert!(ledger.is_protected(&[&bare], new));
    }
}
