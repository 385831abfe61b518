//! The replicated table of letters: streams, cursors, and who is to get what. Pure.
//!
//! Every node has all letters that wait for somebody, so that a letter outlives its sender and the
//! proxy. A stream (sender, run, priority) is numbered without gaps by the run that takes the
//! letters; each addressee keeps one cursor a stream. All that is known of a stream merges: letters
//! by union, cursors by maximum, and what nobody needs any more (delivered to all its addressees, or
//! expired) is a growing set of numbers that letters never leave again. So any two nodes that
//! compare what they know come to be equal, in whatever order they hear it.
//!
//! Invariant: a number is unknown, held or done, and moves only in that order. A letter is given out
//! for delivery after all before it in its stream were, and once: the ids of delivered letters are
//! remembered until no copy of them can come any more, which also meets letters that were posted
//! twice because the first answer was lost.

mod comparing;
mod delivery;
mod spans;

use crate::limits::{
    LETTER_LIVES_MAX, LETTERS_BYTES_MAX, LETTERS_MAX, ROSTER_MAX, SPANS_MAX, STREAM_SPANS_MAX, STREAMS_MAX,
};
use crate::types::{InstanceId, Letter, LetterId, LetterPlace, NodeId, StreamId, is_label};
use crate::wire::mail::{MailKey, MailRow, MailWrite, RosterRow, StreamState};
use spans::Spans;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What is remembered of streams and delivered letters after they expired: clocks differ, and so much
/// later nobody has them any more.
const AFTERWARDS_MS: u64 = 24 * 3_600_000;
/// A machine that was not heard for so many days gets no letters any more.
const ROSTER_DAYS: u32 = 31;
const DAY_MS: u64 = 24 * 3_600_000;

/// All that a node knows of letters.
#[derive(Clone, Debug, Default)]
pub struct Mailbox {
    streams: BTreeMap<StreamId, Stream>,
    /// Where each letter that is held stands.
    places: BTreeMap<LetterId, LetterPlace>,
    /// Delivered here, and until when they could come again.
    seen: BTreeMap<LetterId, u64>,
    /// In the order in which they are forgotten when there are too many.
    seen_order: VecDeque<LetterId>,
    roster: BTreeMap<NodeId, RosterRow>,
    bytes: usize,
    /// In what is done with, of all streams.
    spans: usize,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    letters: BTreeMap<u64, Arc<Letter>>,
    done: Spans,
    cursors: BTreeMap<NodeId, u64>,
    until_ms: u64,
}

/// What a change brought about.
#[derive(Debug, Default)]
pub struct Merged {
    /// To be made durable, in one go.
    pub writes: Vec<MailWrite>,
    /// Streams that have letters they did not have, or lack some that are done with.
    pub streams: BTreeSet<StreamId>,
}

/// Why letters are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxFull {
    /// [`LETTERS_MAX`] or [`LETTERS_BYTES_MAX`].
    #[error("too many messages wait for machines that are off")]
    Letters,
    /// [`STREAMS_MAX`].
    #[error("too many streams of messages")]
    Streams,
}

impl Stream {
    fn state(&self) -> StreamState {
        StreamState {
            until_ms: self.until_ms,
            done: self.done.to_wire(),
            cursors: self.cursors.iter().map(|(node, at)| (*node, *at)).collect(),
        }
    }

    /// The greatest number that anybody can have given.
    fn last(&self) -> u64 {
        let held = self.letters.last_key_value().map_or(0, |(number, _)| *number);
        let cursors = self.cursors.values().copied().max().unwrap_or(0);
        held.max(self.done.last()).max(cursors)
    }

    fn knows(&self, number: u64) -> bool {
        self.letters.contains_key(&number) || self.done.contains(number)
    }

    fn is_delivered(&self, number: u64, letter: &Letter) -> bool {
        letter.addressees.iter().all(|node| self.cursors.get(node).is_some_and(|at| *at >= number))
    }
}

/// No honest letter is of use beyond then.
fn horizon(now_ms: u64) -> u64 {
    let lives_ms = u64::try_from(LETTER_LIVES_MAX.as_millis()).unwrap_or(u64::MAX);
    now_ms.saturating_add(lives_ms).saturating_add(AFTERWARDS_MS)
}

fn day(now_ms: u64) -> u32 {
    u32::try_from(now_ms / DAY_MS).unwrap_or(u32::MAX)
}

/// Room that a letter takes in memory, in bytes.
fn weight(letter: &Letter) -> usize {
    let names: usize = letter.attachments.iter().map(|name| name.as_str().len() + 16).sum();
    letter.payload.len() + names + letter.addressees.len() * 16 + 256
}

impl Mailbox {
    /// What the rows of the database say; rows that contradict one another are left out.
    #[must_use]
    pub fn load(rows: impl Iterator<Item = MailRow>) -> Mailbox {
        let mut mailbox = Mailbox::default();
        let (mut letters, mut seen) = (Vec::new(), Vec::new());
        for row in rows {
            match row {
                MailRow::Letter { place, letter } => letters.push((place, letter)),
                MailRow::Stream { stream, state } => {
                    mailbox.merge_state(stream, &state, &mut Merged::default());
                }
                MailRow::Seen { id, until_ms } => seen.push((until_ms, id)),
                MailRow::Roster(row) => drop(mailbox.roster.insert(row.node, row)),
            }
        }
        for (place, letter) in letters {
            mailbox.hold(place, letter, &mut Merged::default());
        }
        seen.sort_unstable();
        mailbox.seen_order = seen.iter().map(|(_, id)| *id).collect();
        mailbox.seen = seen.into_iter().map(|(until_ms, id)| (id, until_ms)).collect();
        mailbox
    }

    // ---- who there is ----

    /// A machine was heard on a day, counted from 1970.
    pub fn heard(&mut self, node: NodeId, name: &str, day: u32) -> Vec<MailWrite> {
        self.merge_roster(&[RosterRow { node, name: name.into(), day }], None)
    }

    /// What another knows of machines. A day that is far ahead would keep a machine for ever.
    pub fn merge_roster(&mut self, rows: &[RosterRow], now_ms: Option<u64>) -> Vec<MailWrite> {
        let mut writes = Vec::new();
        let last = now_ms.map_or(u32::MAX, |now_ms| day(now_ms).saturating_add(ROSTER_DAYS));
        for row in rows.iter().filter(|row| row.day <= last) {
            let known = self.roster.get(&row.node);
            let newer = known.is_none_or(|known| (known.day, &known.name) < (row.day, &row.name));
            let room = known.is_some() || self.roster.len() < ROSTER_MAX;
            if newer && room && is_label(&row.name) {
                self.roster.insert(row.node, row.clone());
                writes.push(MailWrite::Put(Box::new(MailRow::Roster(row.clone()))));
            }
        }
        writes
    }

    /// All machines that get letters, whether they are here or not.
    pub fn roster(&self) -> impl Iterator<Item = &RosterRow> {
        self.roster.values()
    }

    // ---- letters ----

    /// Where a letter stands that is held.
    #[must_use]
    pub fn place(&self, id: LetterId) -> Option<LetterPlace> {
        self.places.get(&id).copied()
    }

    /// A letter that is held.
    #[must_use]
    pub fn letter(&self, place: LetterPlace) -> Option<&Arc<Letter>> {
        self.streams.get(&place.stream)?.letters.get(&place.number)
    }

    /// How many letters wait for somebody.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All letters that are held.
    pub fn letters(&self) -> impl Iterator<Item = &Arc<Letter>> {
        self.streams.values().flat_map(|stream| stream.letters.values())
    }

    /// Whether a letter at this place is held or done with.
    #[must_use]
    pub fn knows(&self, place: LetterPlace) -> bool {
        self.streams.get(&place.stream).is_some_and(|stream| stream.knows(place.number))
    }

    /// The next number of a stream.
    #[must_use]
    pub fn next_number(&self, stream: StreamId) -> u64 {
        self.streams.get(&stream).map_or(1, |stream| stream.last().saturating_add(1))
    }

    /// Whether a letter with this room in bytes can still be taken into a stream.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_room(&self, stream: StreamId, letter: &Letter) -> Result<(), MailboxFull> {
        if self.places.len() >= LETTERS_MAX || self.bytes + weight(letter) > LETTERS_BYTES_MAX {
            return Err(MailboxFull::Letters);
        }
        if !self.streams.contains_key(&stream) && self.streams.len() >= STREAMS_MAX {
            return Err(MailboxFull::Streams);
        }
        Ok(())
    }

    /// Takes letters in. Those that are held, done with or beyond all bounds change nothing.
    pub fn merge_letters(&mut self, letters: Vec<(LetterPlace, Letter)>, now_ms: Option<u64>) -> Merged {
        let mut merged = Merged::default();
        for (place, letter) in letters {
            let expired = now_ms.is_some_and(|now_ms| letter.expires_ms <= now_ms);
            let absurd = now_ms.is_some_and(|now_ms| letter.expires_ms > horizon(now_ms));
            if absurd || place.number == 0 || place.number == u64::MAX {
                continue;
            }
            if expired && self.has_room_for_done(place) {
                self.finish(place, letter.expires_ms, &mut merged);
            } else if !expired && self.check_room(place.stream, &letter).is_ok() {
                self.hold(place, letter, &mut merged);
            }
        }
        self.settle(&mut merged);
        merged
    }

    /// Whether a number that was not held may be done with.
    fn has_room_for_done(&self, place: LetterPlace) -> bool {
        let Some(stream) = self.streams.get(&place.stream) else {
            return self.streams.len() < STREAMS_MAX && self.spans < SPANS_MAX;
        };
        stream.letters.contains_key(&place.number)
            || stream.done.spans() < STREAM_SPANS_MAX && self.spans < SPANS_MAX
    }

    fn hold(&mut self, place: LetterPlace, letter: Letter, merged: &mut Merged) {
        let stream = self.streams.entry(place.stream).or_default();
        if stream.knows(place.number) {
            return;
        }
        stream.until_ms = stream.until_ms.max(letter.expires_ms);
        self.bytes += weight(&letter);
        self.places.insert(letter.id, place);
        merged.writes.push(MailWrite::Put(Box::new(MailRow::Letter { place, letter: letter.clone() })));
        merged.streams.insert(place.stream);
        stream.letters.insert(place.number, Arc::new(letter));
    }

    /// A number is done with, whether a letter is held under it or not.
    fn finish(&mut self, place: LetterPlace, until_ms: u64, merged: &mut Merged) {
        let stream = self.streams.entry(place.stream).or_default();
        if stream.done.contains(place.number) {
            return;
        }
        stream.until_ms = stream.until_ms.max(until_ms);
        self.spans -= stream.done.spans();
        stream.done.insert(place.number, place.number);
        self.spans += stream.done.spans();
        merged.streams.insert(place.stream);
        self.let_go(place, merged);
    }

    fn let_go(&mut self, place: LetterPlace, merged: &mut Merged) {
        let letter = self.streams.get_mut(&place.stream).and_then(|s| s.letters.remove(&place.number));
        if let Some(letter) = letter {
            self.bytes -= weight(&letter);
            if self.places.get(&letter.id) == Some(&place) {
                self.places.remove(&letter.id);
            }
            merged.writes.push(MailWrite::Remove(MailKey::Letter(place)));
        }
    }

    /// What another knows of streams. What has no bounds changes nothing.
    pub fn merge_states(&mut self, states: &[(StreamId, StreamState)], now_ms: Option<u64>) -> Merged {
        let mut merged = Merged::default();
        let last = now_ms.map_or(u64::MAX, horizon);
        for (stream, state) in states.iter().filter(|(_, state)| state.until_ms <= last) {
            self.merge_state(*stream, state, &mut merged);
        }
        self.settle(&mut merged);
        merged
    }

    /// An addressee has got what is meant for it.
    pub fn merge_cursors(&mut self, node: NodeId, cursors: &[(StreamId, u64)]) -> Merged {
        let state = |at: u64| StreamState { until_ms: 0, done: Vec::new(), cursors: vec![(node, at)] };
        let known = cursors.iter().filter(|(stream, _)| self.streams.contains_key(stream));
        let states: Vec<(StreamId, StreamState)> = known.map(|(stream, at)| (*stream, state(*at))).collect();
        self.merge_states(&states, None)
    }

    fn merge_state(&mut self, id: StreamId, state: &StreamState, merged: &mut Merged) {
        let Some(done) = Spans::from_wire(&state.done) else { return };
        let known = self.streams.get(&id);
        let room = known.is_some() || self.streams.len() < STREAMS_MAX;
        if !room || state.cursors.len() > ROSTER_MAX {
            return;
        }
        let before = known.map_or(0, |stream| stream.done.spans());
        let mut joined = known.map(|stream| stream.done.clone()).unwrap_or_default();
        let mut changed = joined.join(&done) || known.is_none();
        let spans = self.spans - before + joined.spans();
        if joined.spans() > before && (joined.spans() > STREAM_SPANS_MAX || spans > SPANS_MAX) {
            return;
        }
        self.spans = spans;
        let stream = self.streams.entry(id).or_default();
        stream.done = joined;
        for (node, at) in state.cursors.iter().filter(|(_, at)| *at < u64::MAX) {
            let room = stream.cursors.len() < ROSTER_MAX || stream.cursors.contains_key(node);
            if room && stream.cursors.get(node).copied().unwrap_or(0) < *at {
                stream.cursors.insert(*node, *at);
                changed = true;
            }
        }
        if stream.until_ms < state.until_ms {
            stream.until_ms = state.until_ms;
            changed = true;
        }
        let letters =
            |(first, last): (u64, u64)| stream.letters.range(first..=last).map(|(number, _)| *number);
        let gone: Vec<u64> = done.to_wire().into_iter().flat_map(letters).collect();
        for number in gone {
            self.let_go(LetterPlace { stream: id, number }, merged);
        }
        if changed {
            merged.streams.insert(id);
        }
    }

    /// Lets go of what all its addressees have, and writes down what is known of the streams touched.
    fn settle(&mut self, merged: &mut Merged) {
        for id in merged.streams.clone() {
            let Some(stream) = self.streams.get(&id) else { continue };
            let delivered: Vec<(u64, u64)> = stream
                .letters
                .iter()
                .filter(|(number, letter)| stream.is_delivered(**number, letter))
                .map(|(number, letter)| (*number, letter.expires_ms))
                .collect();
            for (number, until_ms) in delivered {
                self.finish(LetterPlace { stream: id, number }, until_ms, merged);
            }
            if let Some(stream) = self.streams.get(&id) {
                let row = MailRow::Stream { stream: id, state: stream.state() };
                merged.writes.push(MailWrite::Put(Box::new(row)));
            }
        }
    }

    /// Whether all of a stream up to this place is known: only then is a letter safe here, because
    /// it cannot be delivered before those that come first.
    #[must_use]
    pub fn is_whole(&self, place: LetterPlace) -> bool {
        self.streams.get(&place.stream).is_some_and(|stream| {
            let held = stream.letters.range(..=place.number).count() as u64;
            stream.done.count_upto(place.number) + held == place.number
        })
    }

    /// The streams, by their ids.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
    }

    // ---- time ----

    /// Lets expire what is of no use any more. `present`: runs that still number letters.
    pub fn expire(&mut self, now_ms: u64, present: &BTreeSet<InstanceId>) -> Merged {
        let mut merged = Merged::default();
        // What came while the clock was not trusted may have no end.
        let last = horizon(now_ms).saturating_add(AFTERWARDS_MS);
        let old = |(stream, known): (&StreamId, &Stream)| {
            let stream = *stream;
            let over = |letter: &Letter| letter.expires_ms <= now_ms || letter.expires_ms > last;
            let expired = known.letters.iter().filter(|(_, letter)| over(letter));
            expired
                .map(|(number, letter)| (LetterPlace { stream, number: *number }, letter.expires_ms))
                .collect::<Vec<_>>()
        };
        let expired: Vec<(LetterPlace, u64)> = self.streams.iter().flat_map(old).collect();
        for (place, until_ms) in expired {
            self.finish(place, until_ms, &mut merged);
        }
        self.settle(&mut merged);
        let over = |until_ms: u64| until_ms.saturating_add(AFTERWARDS_MS) <= now_ms || until_ms > last;
        let ended = self.streams.iter().filter(|(id, stream)| {
            stream.letters.is_empty() && over(stream.until_ms) && !present.contains(&id.instance)
        });
        for id in ended.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.spans -= self.streams.remove(&id).map_or(0, |stream| stream.done.spans());
            merged.writes.push(MailWrite::Remove(MailKey::Stream(id)));
        }
        let seen: Vec<LetterId> =
            self.seen.iter().filter(|(_, until_ms)| **until_ms <= now_ms).map(|(id, _)| *id).collect();
        if !seen.is_empty() {
            self.seen_order.retain(|id| self.seen.get(id).is_some_and(|until_ms| *until_ms > now_ms));
        }
        for id in seen {
            self.seen.remove(&id);
            merged.writes.push(MailWrite::Remove(MailKey::Seen(id)));
        }
        let today = day(now_ms);
        let absent = |row: &&RosterRow| {
            row.day.saturating_add(ROSTER_DAYS) < today || row.day > today.saturating_add(ROSTER_DAYS)
        };
        let lost: Vec<NodeId> = self.roster.values().filter(absent).map(|row| row.node).collect();
        for node in lost {
            self.roster.remove(&node);
            merged.writes.push(MailWrite::Remove(MailKey::Roster(node)));
        }
        merged
    }
}

#[cfg(test)]
mod tests;
