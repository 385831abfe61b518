//! What one channel says now, and what of it is new to one who follows. Pure.
//!
//! Invariant: a follower that is slow costs no queue. It keeps a [`Cursor`]; what changed since is
//! found when it asks, each client once with its last body.

use crate::types::ClientId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The clients of a channel in the order in which they came, each with its last body and with what
/// the owner of the feed keeps of it.
#[derive(Clone, Debug)]
pub struct Feed<T> {
    rows: BTreeMap<u64, Row<T>>,
    places: BTreeMap<ClientId, u64>,
    next_place: u64,
    /// Of the last change.
    version: u64,
    /// Of the last time a client went.
    lost: u64,
    /// Of all bodies.
    bytes: usize,
}

/// A client.
#[derive(Clone, Debug)]
pub struct Row<T> {
    /// Who.
    pub id: ClientId,
    /// What it said last.
    pub body: Arc<str>,
    /// The owner's.
    pub more: T,
    version: u64,
}

/// How far a follower has been told.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    begun: bool,
    epoch: u64,
    version: u64,
    told: BTreeSet<ClientId>,
}

/// What is new to a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The updates are all that there is: whoever is not among them is gone.
    pub whole: bool,
    /// Who is no longer there.
    pub gone: Vec<ClientId>,
    /// Who said something, in the order in which they came.
    pub updates: Vec<(ClientId, Arc<str>)>,
}

impl Changes {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.whole && self.gone.is_empty() && self.updates.is_empty()
    }
}

impl<T> Feed<T> {
    /// An empty one, made at `version`: whatever a follower was told before is gone.
    #[must_use]
    pub fn new(version: u64) -> Feed<T> {
        Feed {
            rows: BTreeMap::new(),
            places: BTreeMap::new(),
            next_place: 0,
            version,
            lost: version,
            bytes: 0,
        }
    }

    /// A client.
    #[must_use]
    pub fn get(&self, id: &ClientId) -> Option<&Row<T>> {
        self.rows.get(self.places.get(id)?)
    }

    /// A client, to change what the owner keeps of it.
    pub fn get_mut(&mut self, id: &ClientId) -> Option<&mut T> {
        self.rows.get_mut(self.places.get(id)?).map(|row| &mut row.more)
    }

    /// All clients, in the order in which they came.
    pub fn rows(&self) -> impl Iterator<Item = &Row<T>> {
        self.rows.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of all bodies.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A client says something; a new one comes last. Gives whether it is anything new.
    pub fn set(&mut self, id: &ClientId, body: Arc<str>, version: u64, new: impl FnOnce() -> T) -> bool {
        let row = self.places.get(id).and_then(|place| self.rows.get_mut(place));
        match row {
            Some(row) if row.body == body => return false,
            Some(row) => {
                self.bytes = self.bytes - row.body.len() + body.len();
                (row.body, row.version) = (body, version);
            }
            None => {
                self.bytes += body.len();
                self.places.insert(id.clone(), self.next_place);
                let row = Row { id: id.clone(), body, more: new(), version };
                self.rows.insert(self.next_place, row);
                self.next_place += 1;
            }
        }
        self.version = version;
        true
    }

    /// A client goes.
    pub fn remove(&mut self, id: &ClientId, version: u64) -> Option<Row<T>> {
        let row = self.rows.remove(&self.places.remove(id)?)?;
        self.bytes -= row.body.len();
        (self.version, self.lost) = (version, version);
        Some(row)
    }

    /// The bodies as a JSON list, but for that of `except`.
    #[must_use]
    pub fn list(&self, except: Option<&ClientId>) -> String {
        let mut text = String::with_capacity(self.bytes + self.len() + 2);
        text.push('[');
        for row in self.rows().filter(|row| Some(&row.id) != except) {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&row.body);
        }
        text.push(']');
        text
    }
}

impl Cursor {
    /// What is new in `feed` (`None`: the channel is not there), which is now at `version` of
    /// `epoch`. In another epoch everything is.
    pub fn catch_up<T>(&mut self, feed: Option<&Feed<T>>, epoch: u64, version: u64) -> Changes {
        let whole = !self.begun || self.epoch != epoch;
        let mut changes = Changes { whole, ..Changes::default() };
        if whole {
            self.told.clear();
        } else if feed.is_none_or(|feed| feed.lost > self.version) {
            let gone = |id: &ClientId| feed.is_none_or(|feed| feed.get(id).is_none());
            changes.gone = self.told.iter().filter(|id| gone(id)).cloned().collect();
            for id in &changes.gone {
                self.told.remove(id);
            }
        }
        for row in feed.into_iter().flat_map(Feed::rows) {
            if whole || row.version > self.version {
                self.told.insert(row.id.clone());
                changes.updates.push((row.id.clone(), Arc::clone(&row.body)));
            }
        }
        (self.begun, self.epoch, self.version) = (true, epoch, version);
        changes
    }

    /// Something may have been missed: the next changes are whole.
    pub fn begin_anew(&mut self) {
        self.begun = false;
    }
}

/// A copy of a channel that is held elsewhere, kept up with what is told of it.
#[derive(Debug)]
pub struct Mirror {
    feed: Feed<()>,
    version: u64,
    /// What was told of a whole that is not complete.
    pending: Option<Vec<(ClientId, Arc<str>)>>,
    complete: bool,
}

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror { feed: Feed::new(0), version: 0, pending: None, complete: false }
    }
}

impl Mirror {
    /// Whether it is how the channel stands, as far as is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What is told from now on is unsure, up to the next whole.
    pub fn lose(&mut self) {
        (self.complete, self.pending) = (false, None);
    }

    /// A whole begins.
    pub fn reset(&mut self) {
        self.pending = Some(Vec::new());
    }

    /// A client says something.
    pub fn update(&mut self, id: ClientId, body: Arc<str>) {
        match &mut self.pending {
            Some(pending) => pending.push((id, body)),
            None => {
                self.version += 1;
                self.feed.set(&id, body, self.version, || ());
            }
        }
    }

    /// A client went.
    pub fn gone(&mut self, id: &ClientId) {
        self.version += 1;
        self.feed.remove(id, self.version);
    }

    /// The whole is told: only now those who are not in it are gone. What is as before is no change.
    pub fn complete(&mut self) {
        self.complete = true;
        let Some(pending) = self.pending.take() else { return };
        let there: BTreeSet<&ClientId> = pending.iter().map(|(id, _)| id).collect();
        let gone = self.feed.rows().filter(|row| !there.contains(&row.id));
        for id in gone.map(|row| row.id.clone()).collect::<Vec<_>>() {
            self.gone(&id);
        }
        for (id, body) in pending {
            self.update(id, body);
        }
    }

    /// What is new to a follower; `None` while it is not known how the channel stands.
    pub fn changes(&self, cursor: &mut Cursor) -> Option<Changes> {
        self.complete.then(|| cursor.catch_up(Some(&self.feed), 0, self.version))
    }

    /// Bodies and clients held, those of an incomplete whole included.
    #[must_use]
    pub fn room(&self) -> (usize, usize) {
        let pending = self.pending.iter().flatten();
        let (bytes, clients) =
            pending.fold((0, 0), |(bytes, count), (_, body)| (bytes + body.len(), count + 1));
        (self.feed.bytes().max(bytes), self.feed.len().max(clients))
    }
}
