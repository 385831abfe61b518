//! What changed in what the proxy shows, for those who watch it live (the HTTP interface). Pure.
//!
//! Whoever watches says what it has seen, as a term and a revision of that term, and is answered
//! once there is more, with the rows as they are then. So a slow watcher gets the last state and
//! never a queue, and one that missed too much, or has another proxy's revision, is told to look
//! at everything again.
//!
//! Invariant: a change has a revision above all those that were told before it, or everything
//! counts as changed. What is kept for those who have not asked yet is bounded.

use super::Engine;
use super::event::AskId;
use crate::clock::Moment;
use crate::limits::{WATCH_MS_MAX, WATCH_ROWS_MAX, WATCHES_MAX};
use crate::replication::shown;
use crate::types::{ContentId, ContentSet, FileName, NodeId, Term};
use crate::wire::message::{ErrorCode, Reply, Row};
use std::collections::{BTreeSet, VecDeque};

/// Changes that are remembered: more than are told at once.
const REMEMBERED_MAX: usize = 4 * WATCH_ROWS_MAX;
/// Up to so many names are searched for those of a content whose copies changed: some 10 ms.
const SEARCHED_NAMES_MAX: usize = 50_000;

/// What changed.
#[derive(Clone, Debug)]
enum Change {
    Name(FileName),
    Copies(ContentId),
}

/// Somebody who waits for a change.
#[derive(Debug)]
struct Watch {
    ask: AskId,
    after: u64,
    until: Moment,
}

/// See above.
#[derive(Debug, Default)]
pub(super) struct Watching {
    revision: u64,
    /// Who has seen less than this must look at everything.
    floor: u64,
    /// The latest, with their revisions, oldest first.
    changes: VecDeque<(u64, Change)>,
    watches: Vec<Watch>,
    /// How often conflicts had come and gone when that was last looked at.
    conflicts_changed: u64,
}

impl Watching {
    /// The entries of these names changed. What is shown under names of conflicts comes and goes with them
    /// and is found from none of these names: then everything counts as changed.
    pub(super) fn names_changed<'a>(
        &mut self,
        names: impl Iterator<Item = &'a FileName>,
        conflicts: &BTreeSet<FileName>,
        conflicts_changed: u64,
    ) {
        let mut is_of_conflict =
            std::mem::replace(&mut self.conflicts_changed, conflicts_changed) != conflicts_changed;
        for name in names {
            is_of_conflict |= conflicts.contains(name);
            self.push(Change::Name(name.clone()));
        }
        if is_of_conflict {
            self.all_changed();
        }
    }

    /// The copies of a content changed, or what is done about them.
    pub(super) fn copies_changed(&mut self, content: ContentId) {
        self.push(Change::Copies(content));
    }

    /// Anything may have changed.
    pub(super) fn all_changed(&mut self) {
        self.revision += 1;
        self.floor = self.revision;
        self.changes.clear();
    }

    fn push(&mut self, change: Change) {
        self.revision += 1;
        if self.changes.len() >= REMEMBERED_MAX
            && let Some((revision, _)) = self.changes.pop_front()
        {
            self.floor = revision;
        }
        self.changes.push_back((self.revision, change));
    }

    pub(super) fn forget(&mut self, ask: AskId) {
        self.watches.retain(|watch| watch.ask != ask);
    }

    /// All who wait.
    pub(super) fn asks(&self) -> impl Iterator<Item = AskId> {
        self.watches.iter().map(|watch| watch.ask)
    }
}

impl Engine {
    /// Somebody has seen all up to `after` of `term`, and waits at most so long for more.
    pub(super) fn watch(&mut self, ask: AskId, term: Term, after: u64, wait_ms: u64) {
        let now = self.now;
        let Some(office) = &mut self.office else { return };
        let (own, watching) = (office.term, &mut office.watching);
        if term != own || after < watching.floor || after > watching.revision {
            let revision = watching.revision;
            return self.answer(ask, everything(own, revision));
        }
        if watching.watches.len() >= WATCHES_MAX {
            return self.fail(ask, ErrorCode::NotReady, "too many watch already");
        }
        watching.watches.push(Watch { ask, after, until: now.plus(wait_ms.min(WATCH_MS_MAX)) });
    }

    /// Answers those for whom there is more, or who have waited long enough.
    pub(super) fn watching_tick(&mut self) {
        let now = self.now;
        let Some(office) = &mut self.office else { return };
        let revision = office.watching.revision;
        let watches = std::mem::take(&mut office.watching.watches);
        let (due, waiting): (Vec<Watch>, Vec<Watch>) =
            watches.into_iter().partition(|watch| watch.after < revision || watch.until <= now);
        office.watching.watches = waiting;
        // Most have seen the same: what is found for one is told to the next.
        let mut found: Option<(u64, Reply)> = None;
        for watch in due {
            let reply = match found.take() {
                Some((after, reply)) if after == watch.after => reply,
                _ => self.changed_since(watch.after),
            };
            found = Some((watch.after, reply.clone()));
            self.answer(watch.ask, reply);
        }
    }

    fn changed_since(&self, after: u64) -> Reply {
        let Some(office) = &self.office else { return Reply::NotProxy { proxy: None } };
        let (term, watching) = (office.term, &office.watching);
        let revision = watching.revision;
        if after < watching.floor {
            return everything(term, revision);
        }
        let (mut names, mut contents) = (BTreeSet::new(), ContentSet::default());
        for (_, change) in watching.changes.iter().filter(|(revision, _)| *revision > after) {
            match change {
                Change::Name(name) => drop(names.insert(name)),
                Change::Copies(content) => drop(contents.insert(*content, ())),
            }
        }
        if contents.iter().next().is_some() {
            if self.catalog.len() > SEARCHED_NAMES_MAX {
                return everything(term, revision);
            }
            for (name, versions) in self.catalog.names_from(None, "") {
                let bodies = versions.iter().filter_map(|version| version.body.content());
                if bodies.into_iter().any(|(content, _)| contents.contains(&content)) {
                    names.insert(name);
                }
            }
        }
        let candidates = self.candidates(&[]);
        let (mut rows, mut gone) = (Vec::new(), Vec::new());
        for name in names {
            let shown: Vec<Row> = shown::shown(&self.catalog, name)
                .into_iter()
                .map(|(shown, version)| self.row_of(shown, version, &candidates))
                .collect();
            match shown.as_slice() {
                [] => gone.push(name.clone()),
                [_] => rows.extend(shown),
                // Names of conflicts come and go with each other.
                _ => return everything(term, revision),
            }
            if rows.len() + gone.len() > WATCH_ROWS_MAX {
                return everything(term, revision);
            }
        }
        let mentioned: BTreeSet<NodeId> = rows.iter().flat_map(|row| row.holders.iter().copied()).collect();
        let nodes = self.routes_of(mentioned.into_iter());
        Reply::Changed { term, revision, all: false, rows, gone, nodes }
    }
}

fn everything(term: Term, revision: u64) -> Reply {
    Reply::Changed { term, revision, all: true, rows: Vec::new(), gone: Vec::new(), nodes: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_is_everything() {
        let mut watching = Watching::default();
        let name = FileName::parse("a").expect("valid");
        let changed = std::iter::repeat_n(&name, REMEMBERED_MAX);
        watching.names_changed(changed, &BTreeSet::new(), 0);
        assert_eq!((watching.floor, watching.changes.len()), (0, REMEMBERED_MAX));
        watching.copies_changed(ContentId([1; 32]));
        assert_eq!((watching.floor, watching.changes.len()), (1, REMEMBERED_MAX));
        assert_eq!(watching.revision, REMEMBERED_MAX as u64 + 1);
        watching.all_changed();
        assert_eq!((watching.floor, watching.changes.len()), (watching.revision, 0));
    }

    #[test]
    fn what_touches_a_conflict_is_everything() {
        let mut watching = Watching::default();
        let [name, other] = ["a", "b"].map(|name| FileName::parse(name).expect("valid"));
        let (none, of_name) = (BTreeSet::new(), BTreeSet::from([name.clone()]));
        let mut told = |changed: &FileName, conflicts: &BTreeSet<FileName>, times| {
            watching.names_changed(std::iter::once(changed), conflicts, times);
            watching.floor == watching.revision
        };
        assert!(!told(&name, &none, 0));
        assert!(told(&name, &of_name, 1), "it came to be one");
        assert!(!told(&other, &of_name, 1));
        assert!(told(&name, &of_name, 1), "one of its versions went");
        assert!(told(&other, &none, 2), "it ceased to be one by a change of another name");
        assert!(!told(&name, &none, 2));
    }
}
