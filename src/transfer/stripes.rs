//! Who is asked for which chunk in a striped get. Pure: the time is an argument.
//!
//! Chunks wait in one queue, in order; a holder with room takes the next one, so a fast holder
//! gives more without anybody measuring. At the end an idle holder is asked again for a chunk that
//! a slower one would take much longer to give.
//!
//! Invariant: every chunk that was added is waiting, asked for, or arrived, until
//! [`Stripes::done`] is called for it.

use crate::clock::Moment;
use crate::limits::{FETCH_WINDOW_BYTES, FETCH_WINDOW_REQUESTS};
use crate::types::ChunkHash;
use std::collections::{BTreeMap, VecDeque};

/// A chunk to be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stripe {
    pub(super) index: u32,
    pub(super) offset: u64,
    pub(super) bytes: u32,
    pub(super) hash: ChunkHash,
}

#[derive(Debug)]
struct Asked {
    stripe: Stripe,
    /// Who owes it.
    by: Vec<usize>,
    arrived: bool,
}

#[derive(Debug, Default)]
struct Lane {
    /// What it was asked for and has not answered, oldest first.
    window: VecDeque<(u32, u32)>,
    bytes: u64,
    given: u64,
    busy_ms: u64,
    /// Since when it owes the oldest of the window.
    since: Moment,
}

impl Lane {
    /// Milliseconds that it takes for so many bytes, by what it gave so far; `unknown` if it has
    /// given nothing and cannot be blamed for it yet.
    fn takes(&self, bytes: u64, now: Moment, unknown: u64) -> u64 {
        let waited = if self.window.is_empty() { 0 } else { now.since(self.since) };
        if self.given == 0 {
            return if waited < 100 { unknown } else { 4 * waited };
        }
        let busy = (self.busy_ms + waited).max(1);
        bytes.saturating_mul(busy) / self.given
    }
}

/// The state of one striped get.
#[derive(Debug)]
pub(super) struct Stripes {
    waiting: BTreeMap<u32, Stripe>,
    asked: BTreeMap<u32, Asked>,
    lanes: Vec<Lane>,
    ahead: Option<u64>,
}

impl Stripes {
    /// For so many holders; no chunk is asked for that starts `ahead` bytes or more beyond the
    /// first one that is not done.
    pub(super) fn new(holders: usize, ahead: Option<u64>) -> Stripes {
        let lanes = (0..holders).map(|_| Lane::default()).collect();
        Stripes { waiting: BTreeMap::new(), asked: BTreeMap::new(), lanes, ahead }
    }

    /// One more chunk.
    pub(super) fn add(&mut self, stripe: Stripe) {
        self.waiting.insert(stripe.index, stripe);
    }

    /// Chunks that nobody was asked for.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether every chunk that was added is done.
    pub(super) fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty()
    }

    /// Whether a chunk must still come from a holder.
    pub(super) fn lacks(&self) -> bool {
        !self.waiting.is_empty() || self.asked.values().any(|asked| !asked.arrived)
    }

    /// Bytes that a holder owes.
    pub(super) fn owed(&self, holder: usize) -> u64 {
        self.lanes.get(holder).map_or(0, |lane| lane.bytes)
    }

    /// What to ask `holder` for now, if anything.
    pub(super) fn next(&mut self, holder: usize, now: Moment) -> Option<Stripe> {
        let lane = self.lanes.get(holder)?;
        let stripe = match self.waiting.first_key_value() {
            Some((_, stripe)) if self.is_near(stripe) => *stripe,
            _ => self.late(holder, now)?,
        };
        let room = lane.window.is_empty()
            || (lane.bytes + u64::from(stripe.bytes) <= FETCH_WINDOW_BYTES
                && lane.window.len() < FETCH_WINDOW_REQUESTS);
        if !room {
            return None;
        }
        self.waiting.remove(&stripe.index);
        let asked = self.asked.entry(stripe.index).or_insert_with(|| Asked {
            stripe,
            by: Vec::new(),
            arrived: false,
        });
        asked.by.push(holder);
        if let Some(lane) = self.lanes.get_mut(holder) {
            if lane.window.is_empty() {
                lane.since = now;
            }
            lane.window.push_back((stripe.index, stripe.bytes));
            lane.bytes += u64::from(stripe.bytes);
        }
        Some(stripe)
    }

    /// The chunk with this index, if somebody was asked for it.
    pub(super) fn asked(&self, index: u32) -> Option<Stripe> {
        self.asked.get(&index).map(|asked| asked.stripe)
    }

    /// The request for `stripe` could not be sent to `holder` now.
    pub(super) fn unasked(&mut self, holder: usize, stripe: &Stripe) {
        if let Some(lane) = self.lanes.get_mut(holder)
            && lane.window.back().is_some_and(|(index, _)| *index == stripe.index)
        {
            lane.window.pop_back();
            lane.bytes -= u64::from(stripe.bytes);
        }
        self.release(holder, stripe.index);
    }

    /// `holder` answered for a chunk, with bytes; `false` if they are not wanted any more.
    pub(super) fn arrived(&mut self, holder: usize, index: u32, now: Moment) -> bool {
        if let Some(lane) = self.lanes.get_mut(holder)
            && let Some(at) = lane.window.iter().position(|(asked, _)| *asked == index)
            && let Some((_, bytes)) = lane.window.remove(at)
        {
            lane.bytes -= u64::from(bytes);
            lane.given += u64::from(bytes);
            lane.busy_ms += now.since(lane.since);
            lane.since = now;
        }
        let Some(asked) = self.asked.get_mut(&index) else { return false };
        // Whoever has answered owes it no more, also if these bytes turn out wrong.
        asked.by.retain(|by| *by != holder);
        !std::mem::replace(&mut asked.arrived, true)
    }

    /// The chunk is where it belongs.
    pub(super) fn done(&mut self, index: u32) {
        self.asked.remove(&index);
    }

    /// The bytes that arrived were wrong: it is fetched again.
    pub(super) fn wrong(&mut self, holder: usize, index: u32) {
        if let Some(asked) = self.asked.get_mut(&index) {
            asked.arrived = false;
        }
        self.release(holder, index);
    }

    /// `holder` is left: what it owes is waiting again. What has arrived from it stays.
    pub(super) fn leave(&mut self, holder: usize) {
        let Some(lane) = self.lanes.get_mut(holder) else { return };
        let owed = std::mem::take(lane);
        for (index, _) in owed.window {
            self.release(holder, index);
        }
    }

    /// `holder` does not owe this chunk any more; it waits again unless somebody else does.
    fn release(&mut self, holder: usize, index: u32) {
        let Some(asked) = self.asked.get_mut(&index) else { return };
        asked.by.retain(|by| *by != holder);
        if asked.by.is_empty() && !asked.arrived {
            let stripe = asked.stripe;
            self.asked.remove(&index);
            self.waiting.insert(index, stripe);
        }
    }

    fn is_near(&self, stripe: &Stripe) -> bool {
        let first = self.asked.first_key_value().map_or(stripe.offset, |(_, asked)| asked.stripe.offset);
        self.ahead.is_none_or(|ahead| stripe.offset < first.saturating_add(ahead))
    }

    /// The chunk that will be longest in coming, if `holder` would give it in less than half the
    /// time.
    fn late(&self, holder: usize, now: Moment) -> Option<Stripe> {
        let mine = self.lanes.get(holder)?;
        let mut latest: Option<(u64, Stripe)> = None;
        for asked in self.asked.values() {
            let [by] = asked.by[..] else { continue };
            if asked.arrived || by == holder {
                continue;
            }
            let lane = self.lanes.get(by)?;
            let before = lane.window.iter().take_while(|(index, _)| *index != asked.stripe.index);
            let queue =
                before.map(|(_, bytes)| u64::from(*bytes)).sum::<u64>() + u64::from(asked.stripe.bytes);
            let theirs = lane.takes(queue, now, 0);
            let ours = mine.takes(mine.bytes + u64::from(asked.stripe.bytes), now, 100);
            if theirs > 2 * ours + 20 && latest.is_none_or(|(longest, _)| theirs > longest) {
                latest = Some((theirs, asked.stripe));
            }
        }
        latest.map(|(_, stripe)| stripe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stripe(index: u32) -> Stripe {
        Stripe { index, offset: u64::from(index) << 20, bytes: 1 << 20, hash: ChunkHash([0; 32]) }
    }

    fn stripes(holders: usize, chunks: u32, ahead: Option<u64>) -> Stripes {
        let mut stripes = Stripes::new(holders, ahead);
        (0..chunks).for_each(|index| stripes.add(stripe(index)));
        stripes
    }

    #[test]
    fn a_window_is_filled_and_no_more() {
        let mut stripes = stripes(1, 10, None);
        let asked = std::iter::from_fn(|| stripes.next(0, Moment(0))).count();
        assert_eq!(asked as u64, FETCH_WINDOW_BYTES >> 20);
    }

    #[test]
    fn what_a_lost_holder_owes_is_given_to_another_first() {
        let mut stripes = stripes(2, 10, None);
        assert_eq!(stripes.next(0, Moment(0)), Some(stripe(0)));
        assert_eq!(stripes.next(1, Moment(0)), Some(stripe(1)));
        stripes.leave(0);
        assert_eq!(stripes.next(1, Moment(1)), Some(stripe(0)));
    }

    #[test]
    fn nothing_is_asked_too_far_ahead() {
        let mut stripes = stripes(2, 10, Some(2 << 20));
        assert_eq!(stripes.next(0, Moment(0)), Some(stripe(0)));
        assert_eq!(stripes.next(1, Moment(0)), Some(stripe(1)));
        assert_eq!(stripes.next(1, Moment(0)), None);
        assert!(stripes.arrived(0, 0, Moment(1)));
        assert_eq!(stripes.next(0, Moment(1)), None, "arrived is not yet written");
        stripes.done(0);
        assert_eq!(stripes.next(0, Moment(1)), Some(stripe(2)));
    }

    #[test]
    fn the_last_chunk_of_a_slow_holder_is_asked_of_a_fast_one_too() {
        let mut stripes = stripes(2, 4, None);
        assert_eq!(stripes.next(0, Moment(0)), Some(stripe(0)));
        for index in 1..4 {
            assert_eq!(stripes.next(1, Moment(10 * u64::from(index))), Some(stripe(index)));
            assert!(stripes.arrived(1, index, Moment(10 * u64::from(index) + 10)));
            stripes.done(index);
        }
        assert_eq!(stripes.next(1, Moment(500)), Some(stripe(0)));
        assert!(stripes.arrived(1, 0, Moment(510)));
        stripes.done(0);
        assert!(!stripes.arrived(0, 0, Moment(900)), "the second answer is not wanted");
        assert!(stripes.is_done());
    }

    #[test]
    fn a_chunk_that_two_were_asked_for_is_asked_again_if_the_first_lied() {
        let mut stripes = stripes(2, 2, None);
        assert_eq!(stripes.next(0, Moment(0)), Some(stripe(0)));
        assert_eq!(stripes.next(1, Moment(0)), Some(stripe(1)));
        assert!(stripes.arrived(1, 1, Moment(10)));
        stripes.done(1);
        assert_eq!(stripes.next(1, Moment(500)), Some(stripe(0)));
        assert!(stripes.arrived(0, 0, Moment(505)));
        assert!(!stripes.arrived(1, 0, Moment(510)), "the first answer is being checked");
        stripes.wrong(0, 0);
        stripes.leave(0);
        assert_eq!(stripes.next(1, Moment(520)), Some(stripe(0)));
    }

    #[test]
    fn equal_holders_do_not_repeat_each_other() {
        let mut stripes = stripes(2, 4, None);
        for index in [0, 2] {
            for holder in 0..2 {
                let now = Moment(u64::from(index) * 10);
                assert_eq!(stripes.next(holder, now).map(|s| s.index), Some(index + holder as u32));
            }
            assert!(stripes.arrived(0, index, Moment(u64::from(index) * 10 + 10)));
            stripes.done(index);
            if index == 0 {
                assert!(stripes.arrived(1, 1, Moment(11)));
                stripes.done(1);
            }
        }
        assert_eq!(stripes.next(0, Moment(31)), None);
    }

    proptest! {
        #[test]
        fn every_chunk_is_done_once_whatever_fails(
            steps in proptest::collection::vec((0_usize..3, 0_u8..10), 0..300),
        ) {
            let mut stripes = stripes(3, 40, Some(16 << 20));
            let mut owed: Vec<Vec<u32>> = vec![Vec::new(); 3];
            let mut done = std::collections::BTreeSet::new();
            let mut now = 0;
            // Holder 0 never fails for good, so that it ends.
            let tail = (0..2_000).flat_map(|_| [(0, 0), (0, 5)]);
            for (holder, what) in steps.into_iter().chain(tail) {
                now += 7;
                match what {
                    0..=4 => if let Some(stripe) = stripes.next(holder, Moment(now)) {
                        owed[holder].push(stripe.index);
                    },
                    5..=7 if !owed[holder].is_empty() => {
                        let index = owed[holder].remove(0);
                        if stripes.arrived(holder, index, Moment(now)) {
                            if what == 7 { stripes.wrong(holder, index); }
                            else {
                                stripes.done(index);
                                prop_assert!(done.insert(index), "done twice");
                            }
                        }
                    }
                    8 => { stripes.leave(holder); owed[holder].clear(); }
                    _ => {}
                }
            }
            // Those that are still owed by the others come now.
            for (holder, owed) in owed.iter().enumerate().skip(1) {
                for &index in owed {
                    if stripes.arrived(holder, index, Moment(now)) {
                        stripes.done(index);
                        prop_assert!(done.insert(index), "done twice");
                    }
                }
            }
            for _ in 0..200 {
                now += 7;
                while let Some(stripe) = stripes.next(0, Moment(now)) { owed[0].push(stripe.index); }
                for index in std::mem::take(&mut owed[0]) {
                    if stripes.arrived(0, index, Moment(now)) {
                        stripes.done(index);
                        prop_assert!(done.insert(index), "done twice");
                    }
                }
            }
            prop_assert!(stripes.is_done());
            prop_assert_eq!(done.len(), 40);
        }
    }
}
