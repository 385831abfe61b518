//! What mailboxes tell each other to find out what either lacks.

use super::Mailbox;
use super::spans::Spans;
use crate::types::{Digest, LetterPlace, StreamId};
use crate::wire::encode;
use crate::wire::mail::StreamSummary;
use std::collections::BTreeMap;
use std::ops::Bound;

/// Kinds of what is digested; those below are the catalog's.
const STREAM: u8 = 6;
const ROSTER: u8 = 7;

impl Mailbox {
    /// Equal for two that know the same of letters that wait, streams and machines. What was
    /// delivered here is one's own matter. A wrapping sum of each part's digest.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let of = |kind: u8, bytes: &[u8]| Digest::new(kind).bytes(bytes).finish();
        let streams = self.streams.keys().map(|id| of(STREAM, &encode(&self.summary_of(*id))));
        let roster = self.roster.values().map(|row| of(ROSTER, &encode(row)));
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
            let Some(row) = self.summary_of(id) else { continue };
            size += 64 + row.held.len() * 18 + row.state.done.len() * 18 + row.state.cursors.len() * 25;
            if size > bytes && !rows.is_empty() {
                return (rows, false);
            }
            rows.push(row);
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
