//! Which contents the proxy looks at next: those that something happened to, those that wait, and
//! now and then all.
//!
//! Invariant: whatever happens to a content, it is looked at afterwards: it is queued, or a sweep
//! through the whole catalog that has not come to it is due. So no queue is ever as long as the
//! catalog: what does not fit is left to a sweep, and so is what concerns a whole node.

use crate::clock::Moment;
use crate::types::{ContentId, ContentSet};
use std::collections::{BTreeSet, VecDeque};

/// Contents in a queue: some 70 bytes each.
const QUEUE_MAX: usize = 16_384;
/// Contents that wait for another machine are looked at again this often, in milliseconds: room may
/// have come up.
const STUCK_MS: u64 = 15_000;

/// See above.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// In the order in which something happened to them.
    dirty: Queue,
    /// Contents down to their last copy that wait for a free slot, and all others that do.
    deferred: [Queue; 2],
    /// To be looked at again later.
    later: BTreeSet<(Moment, ContentId)>,
    /// Where the sweep is, if one is under way.
    sweep: Option<Sweep>,
    /// Another is due after it.
    sweep_again: bool,
    sweep_at: Option<Moment>,
    /// Some have a copy too many, while not everybody has reported.
    blocked: bool,
    /// Some wait for another machine, since then.
    stuck: Option<Moment>,
    /// Some wait for a slot and are in no queue.
    undeferred: bool,
}

/// A sweep has been through all contents up to this one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweep {
    pub(super) after: Option<ContentId>,
}

/// Contents in order, each once.
#[derive(Debug, Default)]
struct Queue {
    order: VecDeque<ContentId>,
    queued: ContentSet,
}

impl Queue {
    /// Whether there is room for it, or it is there.
    fn push(&mut self, content: ContentId) -> bool {
        if self.queued.contains(&content) {
            return true;
        }
        if self.order.len() >= QUEUE_MAX {
            return false;
        }
        self.queued.insert(content, ());
        self.order.push_back(content);
        true
    }

    fn pop(&mut self) -> Option<ContentId> {
        let content = self.order.pop_front()?;
        self.queued.remove(&content);
        if self.order.is_empty() {
            self.order = VecDeque::new(); // it may have been long
        }
        Some(content)
    }
}

impl Agenda {
    /// Something happened to `content`.
    pub(super) fn look_at(&mut self, content: ContentId) {
        if !self.dirty.push(content) {
            self.look_at_all();
        }
    }

    /// Something happened that may concern any content.
    pub(super) fn look_at_all(&mut self) {
        if self.sweep.is_some() {
            self.sweep_again = true;
        } else {
            self.sweep = Some(Sweep::default());
        }
    }

    pub(super) fn look_at_later(&mut self, at: Moment, content: ContentId) {
        if self.later.len() < QUEUE_MAX {
            self.later.insert((at, content));
        } else {
            self.sweep_at = self.sweep_at.max(Some(at));
        }
    }

    /// `content` needs a slot and there is none.
    pub(super) fn defer(&mut self, content: ContentId, last_copy: bool) {
        let queue = &mut self.deferred[usize::from(!last_copy)];
        self.undeferred |= !queue.push(content);
    }

    /// A copy is too many, and may not be dropped yet.
    pub(super) fn block(&mut self) {
        self.blocked = true;
    }

    /// Copies may be dropped now.
    pub(super) fn unblock(&mut self) {
        if std::mem::take(&mut self.blocked) {
            self.look_at_all();
        }
    }

    /// There is no machine for a content that wants one.
    pub(super) fn wait_for_machine(&mut self, now: Moment) {
        self.stuck.get_or_insert(now);
    }

    /// Slots may be free: the most endangered of those that wait come next.
    pub(super) fn resume(&mut self, count: usize) {
        for queue in &mut self.deferred {
            for content in std::iter::from_fn(|| queue.pop()).take(count) {
                if !self.dirty.push(content) {
                    self.undeferred = true;
                }
            }
        }
        if self.undeferred && self.deferred.iter().all(|queue| queue.order.len() < QUEUE_MAX / 2) {
            self.undeferred = false;
            self.look_at_all();
        }
    }

    pub(super) fn tick(&mut self, now: Moment) {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, content)) = self.later.pop_first() {
                self.look_at(content);
            }
        }
        let stuck = self.stuck.is_some_and(|since| now.since(since) >= STUCK_MS);
        let due = self.sweep_at.is_some_and(|at| at <= now);
        if stuck || due {
            self.look_at_all();
        }
        if stuck {
            self.stuck = None;
        }
        if due {
            self.sweep_at = None;
        }
    }

    /// Whether there is nothing to look at now.
    pub(super) fn is_empty(&self) -> bool {
        self.dirty.order.is_empty() && self.sweep.is_none()
    }

    /// The next one that something happened to.
    pub(super) fn next(&mut self) -> Option<ContentId> {
        self.dirty.pop()
    }

    /// Where to go on with the sweep, if there is one.
    pub(super) fn sweep(&self) -> Option<Sweep> {
        self.sweep
    }

    /// The sweep has come to `after`; to the end, if that is none.
    pub(super) fn swept(&mut self, after: Option<ContentId>) {
        self.sweep = match after {
            Some(_) => Some(Sweep { after }),
            None => std::mem::take(&mut self.sweep_again).then(Sweep::default),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(number: usize) -> ContentId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        ContentId(id)
    }

    #[test]
    fn what_does_not_fit_is_left_to_a_sweep() {
        let mut agenda = Agenda::default();
        for number in 0..QUEUE_MAX {
            agenda.look_at(content(number));
        }
        agenda.look_at(content(0));
        assert!(agenda.sweep().is_none());
        agenda.look_at(content(QUEUE_MAX));
        assert!(agenda.sweep().is_some());
        for number in 0..QUEUE_MAX {
            assert_eq!(agenda.next(), Some(content(number)));
        }
        assert_eq!(agenda.next(), None);
    }

    #[test]
    fn what_happens_during_a_sweep_brings_another() {
        let mut agenda = Agenda::default();
        agenda.look_at_all();
        agenda.swept(Some(content(5)));
        agenda.look_at_all();
        assert_eq!(agenda.sweep().and_then(|sweep| sweep.after), Some(content(5)));
        agenda.swept(None);
        assert!(agenda.sweep().is_some_and(|sweep| sweep.after.is_none()));
        agenda.swept(None);
        assert!(agenda.is_empty());
    }

    #[test]
    fn those_that_found_no_room_to_wait_in_are_found_again() {
        let mut agenda = Agenda::default();
        for number in 0..=QUEUE_MAX {
            agenda.defer(content(number), false);
        }
        agenda.defer(content(QUEUE_MAX + 1), true);
        agenda.resume(1);
        assert_eq!(agenda.next(), Some(content(QUEUE_MAX + 1)));
        assert_eq!(agenda.next(), Some(content(0)));
        assert!(agenda.is_empty());
        agenda.resume(QUEUE_MAX);
        assert!(agenda.sweep().is_some());
    }

    #[test]
    fn whatever_waits_for_a_time_comes_at_that_time() {
        let mut agenda = Agenda::default();
        for number in 0..=QUEUE_MAX {
            agenda.look_at_later(Moment(1_000), content(number));
        }
        agenda.wait_for_machine(Moment(500));
        agenda.tick(Moment(999));
        assert!(agenda.is_empty());
        agenda.tick(Moment(1_000));
        assert!(agenda.next().is_some() && agenda.sweep().is_some());
        agenda.swept(None);
        agenda.tick(Moment(500 + STUCK_MS));
        assert!(agenda.sweep().is_some());
    }
}
