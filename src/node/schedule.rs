//! When a copy is hashed anew: the slowest steady pace that keeps every deadline. Pure: the time is
//! an argument.
//!
//! Each copy has a deadline before the time that was promised is over, at a place in between that
//! follows from node and content, so that the holders of one content, which all stored it in the same
//! minute, look at it days apart. The copies are taken by deadline, and the pace is the least at which
//! none is late, counted in bytes: a folder that was put in an evening is spread over the whole time,
//! and a machine that was off for weeks takes hours over what is overdue rather than beginning with a
//! burst.

use crate::limits::{SCRUB_BYTES_PER_SECOND_MAX, SCRUB_CONTENT_COST};
use crate::types::ContentId;
use std::collections::BinaryHeap;

/// Copies named by one plan: it is made anew long before they are through.
const NEXT_MAX: usize = 256;
/// A time stamp this far ahead of the clock, in milliseconds, was made by a wrong clock.
const AHEAD_MAX_MS: u64 = 3_600_000;

/// A copy held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Which.
    pub content: ContentId,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was last hashed whole, wall milliseconds.
    pub verified_ms: u64,
}

/// What to do until the next plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The first copies to look at, in order.
    pub next: Vec<ContentId>,
    /// The pace, in bytes a millisecond.
    pub pace: f64,
}

/// What a copy of so many bytes costs: also a small one moves the disk's head.
#[must_use]
pub fn cost(bytes: u64) -> u64 {
    bytes.saturating_add(SCRUB_CONTENT_COST)
}

/// Which copies to look at next, and how fast, so that each is looked at every `every_ms`. Nodes with
/// different seeds look at one content at different times. Takes 16 bytes of memory for each copy.
#[must_use]
pub fn plan(copies: impl IntoIterator<Item = Copy>, now_ms: u64, every_ms: u64, seed: u64) -> Plan {
    let (mut due, mut next) = (Vec::new(), BinaryHeap::new());
    for copy in copies {
        let deadline = deadline(&copy, now_ms, every_ms, seed);
        due.push((deadline, cost(copy.bytes)));
        next.push((deadline, copy.content));
        if next.len() > NEXT_MAX {
            next.pop();
        }
    }
    due.sort_unstable();
    let (mut owed, mut pace) = (0_u64, 0_f64);
    for (deadline, cost) in due {
        owed = owed.saturating_add(cost);
        // What is overdue is spread as well.
        let left_ms = deadline.saturating_sub(now_ms).max(every_ms / 8).max(1);
        pace = pace.max(owed as f64 / left_ms as f64);
    }
    let next = next.into_sorted_vec().into_iter().map(|(_, content)| content).collect();
    Plan { next, pace: pace.min(pace_max()) }
}

/// The greatest pace, in bytes a millisecond.
#[must_use]
pub fn pace_max() -> f64 {
    SCRUB_BYTES_PER_SECOND_MAX as f64 / 1_000.0
}

/// Between six and nine tenths of the time after the last look.
fn deadline(copy: &Copy, now_ms: u64, every_ms: u64, seed: u64) -> u64 {
    let verified_ms =
        if copy.verified_ms > now_ms.saturating_add(AHEAD_MAX_MS) { 0 } else { copy.verified_ms };
    let tenth = every_ms / 10;
    let spread = (u128::from(mix(seed, &copy.content)) * u128::from(3 * tenth)) >> 64;
    verified_ms.saturating_add(6 * tenth).saturating_add(u64::try_from(spread).unwrap_or(0))
}

/// A number that follows from both, evenly spread.
fn mix(seed: u64, content: &ContentId) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&content.0[..8]);
    let mut z = u64::from_le_bytes(word) ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// What was read and is not yet earned by waiting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debt(f64);

impl Debt {
    /// So many bytes are going to be read, or were.
    pub fn add(&mut self, bytes: u64) {
        self.0 += bytes as f64;
    }

    /// So much time went by at this pace.
    pub fn wait(&mut self, ms: u64, pace: f64) {
        self.0 = (self.0 - ms as f64 * pace).max(0.0);
    }

    /// How long until nothing is owed; `most_ms` if it is longer or for ever.
    #[must_use]
    pub fn left_ms(&self, pace: f64, most_ms: u64) -> u64 {
        let left = self.0 / pace;
        if self.0 <= 0.0 {
            0
        } else if left < most_ms as f64 {
            (left.ceil() as u64).max(1)
        } else {
            most_ms
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Rng;
    use std::collections::BTreeMap;

    const DAY: u64 = 86_400_000;
    const WEEK: u64 = 7 * DAY;
    const NOW: u64 = 1_700_000_000_000;

    fn copies(count: usize, bytes: u64, verified_ms: u64) -> Vec<Copy> {
        let mut rng = Rng::seeded(count as u64);
        let mut content = || {
            let mut id = [0; 32];
            rng.fill(&mut id);
            ContentId(id)
        };
        (0..count).map(|_| Copy { content: content(), bytes, verified_ms }).collect()
    }

    /// Follows the plans for `time`, looking every minute; gives each look: when, and at what.
    fn live(copies: &mut [Copy], start: u64, time: u64, every: u64, seed: u64) -> Vec<(u64, ContentId)> {
        let (mut now, mut looks, mut debt) = (start, Vec::new(), Debt::default());
        let mut began = false;
        while now < start + time {
            let plan = plan(copies.iter().copied(), now, every, seed);
            let step_end = now + every.min(DAY) / 1_440;
            let mut next = plan.next.into_iter();
            let mut content = next.next();
            while now < step_end {
                let Some(current) = content else {
                    now = step_end;
                    break;
                };
                let copy = copies.iter_mut().find(|copy| copy.content == current).expect("held");
                if !began {
                    debt.add(cost(copy.bytes));
                    began = true;
                }
                let ms = debt.left_ms(plan.pace, step_end - now);
                debt.wait(ms, plan.pace);
                now += ms;
                if debt.left_ms(plan.pace, 1) == 0 {
                    copy.verified_ms = now;
                    looks.push((now, current));
                    began = false;
                    content = next.next();
                }
            }
        }
        looks
    }

    #[test]
    fn every_copy_is_looked_at_in_time_for_weeks() {
        let mut copies = copies(150, 3 << 30, NOW);
        let before: Vec<ContentId> = copies.iter().map(|copy| copy.content).collect();
        let looks = live(&mut copies, NOW, 4 * WEEK, WEEK, 7);
        for content in before {
            let mut last = NOW;
            let times = looks.iter().filter(|look| look.1 == content).map(|look| look.0);
            for time in times.chain([NOW + 4 * WEEK]) {
                assert!(time - last <= WEEK, "{content} waited for {} days", (time - last) / DAY);
                last = time;
            }
        }
        assert!(looks.len() < 7 * 150, "and not far more often: {}", looks.len());
    }

    #[test]
    fn what_came_in_one_evening_is_spread_over_days() {
        let mut copies = copies(200, 1 << 30, NOW);
        let looks = live(&mut copies, NOW, WEEK, WEEK, 3);
        let mut a_day: BTreeMap<u64, usize> = BTreeMap::new();
        looks.iter().for_each(|(at, _)| *a_day.entry((at - NOW) / DAY).or_default() += 1);
        assert!(a_day.values().all(|looks| *looks < 200 / 3), "{a_day:?}");
        assert!(!looks.iter().any(|(at, _)| at - NOW < 60_000), "nothing at once");
    }

    #[test]
    fn what_is_overdue_is_no_burst_either() {
        let copies = copies(100, 1 << 30, NOW - 30 * DAY);
        let plan = plan(copies.iter().copied(), NOW, WEEK, 3);
        let all_take_ms = 100.0 * cost(1 << 30) as f64 / plan.pace;
        let eighth = WEEK as f64 / 8.0;
        assert!(all_take_ms > eighth * 0.99 && all_take_ms < eighth * 1.01, "{} h", all_take_ms / 3.6e6);
    }

    #[test]
    fn the_pace_has_a_bound() {
        let copies = copies(10, 1 << 40, 0);
        assert_eq!(plan(copies.iter().copied(), NOW, 1_000, 3).pace.to_bits(), pace_max().to_bits());
    }

    #[test]
    fn the_longest_unseen_comes_first() {
        let mut held = copies(50, 1 << 20, NOW - DAY);
        held[17].verified_ms = NOW - 6 * DAY;
        assert_eq!(plan(held.iter().copied(), NOW, WEEK, 3).next[0], held[17].content);
        // A time in the future is no time.
        held[30].verified_ms = NOW + 900 * DAY;
        assert_eq!(plan(held.iter().copied(), NOW, WEEK, 3).next[0], held[30].content);
        assert_eq!(plan([], NOW, WEEK, 3), Plan::default());
    }

    #[test]
    fn holders_of_the_same_contents_do_not_look_together() {
        let held = copies(200, 1 << 30, NOW);
        let (mut mine, mut theirs) = (held.clone(), held);
        let of = |looks: Vec<(u64, ContentId)>| {
            looks.into_iter().map(|(at, content)| (content, at)).collect::<BTreeMap<ContentId, u64>>()
        };
        let mine = of(live(&mut mine, NOW, 6 * DAY, WEEK, 1));
        let theirs = of(live(&mut theirs, NOW, 6 * DAY, WEEK, 2));
        let apart: Vec<u64> =
            mine.iter().filter_map(|(content, at)| Some(at.abs_diff(*theirs.get(content)?))).collect();
        let together = apart.iter().filter(|ms| **ms < 3_600_000).count();
        assert!(apart.len() > 100 && together < apart.len() / 10, "{together} of {}", apart.len());
    }
}
