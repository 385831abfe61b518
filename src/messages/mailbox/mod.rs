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

mod spans;

use crate::limits::{LETTER_LIVES_MAX, LETTERS_BYTES_MAX, LETTERS_MAX, ROSTER_MAX, STREAMS_MAX};
use crate::types::{InstanceId, Letter, LetterId, LetterPlace, NodeId, StreamId, is_label};
use crate::wire::encode;
use crate::wire::mail::{MailKey, MailRow, MailWrite, RosterRow, StreamState, StreamSummary};
use spans::Spans;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// What is remembered of streams and delivered letters after they expired: clocks differ, and so much
/// later nobody has them any more.
const AFTERWARDS_MS: u64 = 24 * 3_600_000;
/// Spans in what is done with of a stream; beyond, it is hostile.
const SPANS_MAX: usize = 4_096;
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
    roster: BTreeMap<NodeId, RosterRow>,
    bytes: usize,
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
        let mut letters = Vec::new();
        for row in rows {
            match row {
                MailRow::Letter { place, letter } => letters.push((place, letter)),
                MailRow::Stream { stream, state } => {
                    mailbox.merge_state(stream, &state, &mut Merged::default());
                }
                MailRow::Seen { id, until_ms } => drop(mailbox.seen.insert(id, until_ms)),
                MailRow::Roster(row) => drop(mailbox.roster.insert(row.node, row)),
            }
        }
        for (place, letter) in letters {
            mailbox.hold(place, letter, &mut Merged::default());
        }
        mailbox
    }

    // ---- who there is ----

    /// A machine was heard on a day, counted from 1970.
    pub fn heard(&mut self, node: NodeId, name: &str, day: u32) -> Vec<MailWrite> {
        self.merge_roster(&[RosterRow { node, name: name.into(), day }])
    }

    /// What another knows of machines.
    pub fn merge_roster(&mut self, rows: &[RosterRow]) -> Vec<MailWrite> {
        let mut writes = Vec::new();
        for row in rows {
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

    /// How many letters wait for `node`.
    #[must_use]
    pub fn waiting_for(&self, node: NodeId) -> usize {
        let waits = |stream: &Stream| {
            let after = stream.cursors.get(&node).copied().unwrap_or(0);
            let later = stream.letters.range((Bound::Excluded(after), Bound::Unbounded));
            later.filter(|(_, letter)| letter.addressees.binary_search(&node).is_ok()).count()
        };
        self.streams.values().map(waits).sum()
    }

    /// Whether a letter at this place is held or done with.
    #[must_use]
    pub fn knows(&self, place: LetterPlace) -> bool {
        self.streams.get(&place.stream).is_some_and(|stream| stream.knows(place.number))
    }

    /// Whether a letter that is held between two numbers is meant for `node`.
    #[must_use]
    pub fn is_meant(&self, node: NodeId, stream: StreamId, after: u64, upto: u64) -> bool {
        self.streams.get(&stream).is_some_and(|stream| {
            let mut letters = stream.letters.range((Bound::Excluded(after), Bound::Included(upto)));
            letters.any(|(_, letter)| letter.addressees.binary_search(&node).is_ok())
        })
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
            let lives = u64::try_from(LETTER_LIVES_MAX.as_millis()).unwrap_or(u64::MAX);
            let expired = now_ms.is_some_and(|now| letter.expires_ms <= now);
            let absurd = now_ms.is_some_and(|now| letter.expires_ms > now + lives + AFTERWARDS_MS);
            if absurd || place.number == 0 || place.number == u64::MAX {
                continue;
            }
            if self.check_room(place.stream, &letter).is_err() && !expired {
                continue;
            }
            let until_ms = letter.expires_ms;
            if expired {
                self.finish(place, until_ms, &mut merged);
            } else {
                self.hold(place, letter, &mut merged);
            }
        }
        self.settle(&mut merged);
        merged
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
        stream.done.insert(place.number, place.number);
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

    /// What another knows of streams.
    pub fn merge_states(&mut self, states: &[(StreamId, StreamState)]) -> Merged {
        let mut merged = Merged::default();
        for (stream, state) in states {
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
        self.merge_states(&states)
    }

    fn merge_state(&mut self, id: StreamId, state: &StreamState, merged: &mut Merged) {
        let Some(done) = Spans::from_wire(&state.done).filter(|done| done.spans() <= SPANS_MAX) else {
            return;
        };
        if state.cursors.len() > ROSTER_MAX
            || !self.streams.contains_key(&id) && self.streams.len() >= STREAMS_MAX
        {
            return;
        }
        let stream = self.streams.entry(id).or_default();
        let mut changed = stream.done.join(&done);
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
        let gone: Vec<u64> =
            stream.letters.keys().copied().filter(|number| stream.done.contains(*number)).collect();
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
            let held = |first: u64| (first..=place.number).take_while(|number| stream.knows(*number)).count();
            let first = stream.done.to_wire().first().filter(|span| span.0 == 1).map_or(0, |span| span.1);
            first >= place.number || held(first + 1) as u64 == place.number - first
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

    // ---- delivery ----

    /// The streams, by their ids.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.streams.keys().copied()
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
            if let Some(letter) = stream.letters.get(&number) {
                if letter.addressees.binary_search(&node).is_ok() && !self.seen.contains_key(&letter.id) {
                    due.push((LetterPlace { stream: id, number }, Arc::clone(letter)));
                }
            } else if !stream.done.contains(number) {
                break;
            }
            at = number;
            if stream.last() <= at {
                break;
            }
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
            let until_ms = expires_ms + AFTERWARDS_MS;
            self.seen.insert(*id, until_ms);
            merged.writes.push(MailWrite::Put(Box::new(MailRow::Seen { id: *id, until_ms })));
        }
        let cursors = vec![(node, upto)];
        self.merge_state(stream, &StreamState { until_ms: 0, done: Vec::new(), cursors }, &mut merged);
        self.settle(&mut merged);
        merged
    }

    // ---- time ----

    /// Lets expire what is of no use any more. `present`: runs that still number letters.
    pub fn expire(&mut self, now_ms: u64, present: &BTreeSet<InstanceId>) -> Merged {
        let mut merged = Merged::default();
        let old = |(stream, known): (&StreamId, &Stream)| {
            let stream = *stream;
            let expired = known.letters.iter().filter(|(_, letter)| letter.expires_ms <= now_ms);
            expired
                .map(|(number, letter)| (LetterPlace { stream, number: *number }, letter.expires_ms))
                .collect::<Vec<_>>()
        };
        let expired: Vec<(LetterPlace, u64)> = self.streams.iter().flat_map(old).collect();
        for (place, until_ms) in expired {
            self.finish(place, until_ms, &mut merged);
        }
        self.settle(&mut merged);
        let over = |until_ms: u64| until_ms.saturating_add(AFTERWARDS_MS) <= now_ms;
        let ended = self.streams.iter().filter(|(id, stream)| {
            stream.letters.is_empty() && over(stream.until_ms) && !present.contains(&id.instance)
        });
        for id in ended.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.streams.remove(&id);
            merged.writes.push(MailWrite::Remove(MailKey::Stream(id)));
        }
        let seen: Vec<LetterId> =
            self.seen.iter().filter(|(_, until_ms)| **until_ms <= now_ms).map(|(id, _)| *id).collect();
        for id in seen {
            self.seen.remove(&id);
            merged.writes.push(MailWrite::Remove(MailKey::Seen(id)));
        }
        let today = u32::try_from(now_ms / DAY_MS).unwrap_or(u32::MAX);
        let lost: Vec<NodeId> =
            self.roster.values().filter(|row| row.day + ROSTER_DAYS < today).map(|row| row.node).collect();
        for node in lost {
            self.roster.remove(&node);
            merged.writes.push(MailWrite::Remove(MailKey::Roster(node)));
        }
        merged
    }

    // ---- comparison ----

    /// Equal for two that know the same of letters that wait, streams and machines. What was
    /// delivered here is one's own matter. A wrapping sum of each part's hash (FNV-1a).
    #[must_use]
    pub fn digest(&self) -> u64 {
        let fnv = |bytes: &[u8]| {
            bytes.iter().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
            })
        };
        let streams = self.streams.keys().map(|id| fnv(&encode(&self.summary_of(*id))));
        let roster = self.roster.values().map(|row| fnv(&encode(row)));
        streams.chain(roster).fold(0, u64::wrapping_add)
    }

    fn summary_of(&self, id: StreamId) -> Option<StreamSummary> {
        let stream = self.streams.get(&id)?;
        let held = Spans::of(stream.letters.keys().copied()).to_wire();
        Some(StreamSummary { stream: id, state: stream.state(), held })
    }

    /// What is known of the streams after `after`, some `bytes` of it, and whether that is all.
    #[must_use]
    pub fn summary(&self, after: Option<StreamId>, bytes: usize) -> (Vec<StreamSummary>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (mut rows, mut size) = (Vec::new(), 0);
        for id in self.streams.range((from, Bound::Unbounded)).map(|(id, _)| *id) {
            if size >= bytes {
                return (rows, false);
            }
            if let Some(row) = self.summary_of(id) {
                size += 64 + row.held.len() * 18 + row.state.done.len() * 18 + row.state.cursors.len() * 25;
                rows.push(row);
            }
        }
        (rows, true)
    }

    /// The places of letters held here that somebody lacks who told this summary of the streams
    /// after `after`, to the last of them, or to the end.
    #[must_use]
    pub fn lacking(
        &self,
        after: Option<StreamId>,
        rows: &[StreamSummary],
        to_the_end: bool,
    ) -> Vec<LetterPlace> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = match rows.last() {
            Some(row) if !to_the_end => Bound::Included(row.stream),
            None if !to_the_end => return Vec::new(),
            _ => Bound::Unbounded,
        };
        if let (Bound::Excluded(from), Bound::Included(to)) = (from, to)
            && to <= from
        {
            return Vec::new();
        }
        let known: BTreeMap<StreamId, (Spans, Spans)> = rows
            .iter()
            .map(|row| {
                let spans = |spans: &[(u64, u64)]| Spans::from_wire(spans).unwrap_or_default();
                (row.stream, (spans(&row.held), spans(&row.state.done)))
            })
            .collect();
        let mut lacking = Vec::new();
        for (id, stream) in self.streams.range((from, to)) {
            let theirs = known.get(id);
            let lacks = |number: u64| {
                theirs.is_none_or(|(held, done)| !held.contains(number) && !done.contains(number))
            };
            let numbers = stream.letters.keys().copied().filter(|number| lacks(*number));
            lacking.extend(numbers.map(|number| LetterPlace { stream: *id, number }));
        }
        lacking
    }
}

#[cfg(test)]
mod tests;
