//! What of a mailbox is to be delivered to whom, and what was.

use super::{AFTERWARDS_MS, Mailbox, Merged};
use crate::limits::LETTERS_SEEN_MAX;
use crate::types::{Letter, LetterId, LetterPlace, NodeId, StreamId};
use crate::wire::mail::{MailKey, MailRow, MailWrite, StreamState};
use std::ops::Bound;
use std::sync::Arc;

impl Mailbox {
    /// The letters of some streams that wait for `node`.
    #[must_use]
    pub fn waiting_of(
        &self,
        node: NodeId,
        which: impl Fn(&StreamId) -> bool,
    ) -> Vec<(LetterPlace, Arc<Letter>)> {
        let mut waiting = Vec::new();
        for (id, stream) in self.streams.iter().filter(|(id, _)| which(id)) {
            let after = stream.cursors.get(&node).copied().unwrap_or(0);
            let later = stream.letters.range((Bound::Excluded(after), Bound::Unbounded));
            let meant = later.filter(|(_, letter)| letter.addressees.binary_search(&node).is_ok());
            let place = |number: &u64| LetterPlace { stream: *id, number: *number };
            waiting.extend(meant.map(|(number, letter)| (place(number), Arc::clone(letter))));
        }
        waiting
    }

    /// Whether a letter that is held between two numbers is meant for `node`.
    #[must_use]
    pub fn is_meant(&self, node: NodeId, stream: StreamId, after: u64, upto: u64) -> bool {
        self.streams.get(&stream).is_some_and(|stream| {
            let mut letters = stream.letters.range((Bound::Excluded(after), Bound::Included(upto)));
            letters.any(|(_, letter)| letter.addressees.binary_search(&node).is_ok())
        })
    }

    /// Whether a letter is in the inbox of `node`.
    #[must_use]
    pub fn has_got(&self, node: NodeId, place: LetterPlace) -> bool {
        self.streams.get(&place.stream).is_some_and(|stream| {
            stream.done.contains(place.number)
                || stream.cursors.get(&node).is_some_and(|at| *at >= place.number)
        })
    }

    /// Up to which number `node` has got what is meant for it.
    #[must_use]
    pub fn cursor(&self, node: NodeId, stream: StreamId) -> u64 {
        self.streams.get(&stream).and_then(|s| s.cursors.get(&node)).copied().unwrap_or(0)
    }

    /// What of a stream is to be delivered to `node` after the number `after`, at most `most`, and up
    /// to which number that goes.
    #[must_use]
    pub fn due(
        &self,
        node: NodeId,
        id: StreamId,
        after: u64,
        most: usize,
    ) -> (Vec<(LetterPlace, Arc<Letter>)>, u64) {
        let (mut due, mut at) = (Vec::new(), after);
        let Some(stream) = self.streams.get(&id) else { return (due, at) };
        while due.len() < most {
            let number = at + 1;
            // Spans are passed at once: a peer may say one that no loop over its numbers would end.
            if let Some(end) = stream.done.end_of(number) {
                at = end;
                continue;
            }
            let Some(letter) = stream.letters.get(&number) else { break };
            if letter.addressees.binary_search(&node).is_ok() && !self.seen.contains_key(&letter.id) {
                due.push((LetterPlace { stream: id, number }, Arc::clone(letter)));
            }
            at = number;
        }
        (due, at)
    }

    /// Whether letters of a stream beyond `after` are held although the next is not known.
    #[must_use]
    pub fn has_gap(&self, id: StreamId, after: u64) -> Option<u64> {
        let stream = self.streams.get(&id)?;
        let next = after + 1;
        if stream.knows(next) {
            return None;
        }
        stream.letters.range(next..).next().map(|(number, _)| *number - 1)
    }

    /// Whether a letter was delivered here.
    #[must_use]
    pub fn is_seen(&self, id: LetterId) -> bool {
        self.seen.contains_key(&id)
    }

    /// Letters were put where `node`, this one, finds them; up to `upto` it has got all of the stream.
    pub fn delivered(
        &mut self,
        node: NodeId,
        stream: StreamId,
        upto: u64,
        letters: &[(LetterId, u64)],
    ) -> Merged {
        let mut merged = Merged::default();
        for (id, expires_ms) in letters {
            let until_ms = expires_ms.saturating_add(AFTERWARDS_MS);
            if self.seen.insert(*id, until_ms).is_none() {
                self.seen_order.push_back(*id);
            }
            merged.writes.push(MailWrite::Put(Box::new(MailRow::Seen { id: *id, until_ms })));
        }
        while self.seen.len() > LETTERS_SEEN_MAX
            && let Some(id) = self.seen_order.pop_front()
        {
            self.seen.remove(&id);
            merged.writes.push(MailWrite::Remove(MailKey::Seen(id)));
        }
        let cursors = vec![(node, upto)];
        self.merge_state(stream, &StreamState { until_ms: 0, done: Vec::new(), cursors }, &mut merged);
        self.settle(&mut merged);
        merged
    }
}
