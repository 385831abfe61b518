//! Sets of numbers, kept as spans: what was delivered is mostly everything up to some number.

/// Spans that are sorted, do not touch and hold no zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans(Vec<(u64, u64)>);

impl Spans {
    /// What a peer or a disk says; `None` if it is no such set.
    #[must_use]
    pub fn from_wire(spans: &[(u64, u64)]) -> Option<Spans> {
        let ordered = spans.iter().all(|(first, last)| *first > 0 && first <= last && *last < u64::MAX);
        let apart = spans.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0);
        (ordered && apart).then(|| Spans(spans.to_vec()))
    }

    /// As it is told.
    #[must_use]
    pub fn to_wire(&self) -> Vec<(u64, u64)> {
        self.0.clone()
    }

    /// The set of these numbers, which are in ascending order.
    pub fn of(numbers: impl Iterator<Item = u64>) -> Spans {
        let mut spans = Spans::default();
        numbers.for_each(|number| spans.insert(number, number));
        spans
    }

    /// Whether a number is in it.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.end_of(number).is_some()
    }

    /// The last of the numbers that follow `number` without a gap, if that one is in it.
    #[must_use]
    pub fn end_of(&self, number: u64) -> Option<u64> {
        let at = self.0.partition_point(|(_, last)| *last < number);
        self.0.get(at).filter(|(first, _)| *first <= number).map(|(_, last)| *last)
    }

    /// How many numbers up to `number` are in it.
    #[must_use]
    pub fn count_upto(&self, number: u64) -> u64 {
        let below = self.0.iter().take_while(|(first, _)| *first <= number);
        below.map(|(first, last)| (*last).min(number) - first + 1).sum()
    }

    /// Adds all numbers from `first` to `last`.
    pub fn insert(&mut self, first: u64, last: u64) {
        let from = self.0.partition_point(|span| span.1.saturating_add(1) < first);
        let to = self.0.partition_point(|span| span.0 <= last.saturating_add(1));
        let merged = self.0[from..to]
            .iter()
            .fold((first, last), |merged, span| (merged.0.min(span.0), merged.1.max(span.1)));
        self.0.splice(from..to, [merged]);
    }

    /// Adds all that another has; whether that changed anything.
    pub fn join(&mut self, other: &Spans) -> bool {
        let mut changed = false;
        for (first, last) in &other.0 {
            if self.end_of(*first).is_none_or(|end| end < *last) {
                self.insert(*first, *last);
                changed = true;
            }
        }
        changed
    }

    /// The greatest number in it; 0 if it is empty.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, last)| *last)
    }

    /// How many spans there are.
    #[must_use]
    pub fn spans(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn spans_are_the_set_that_was_inserted(
            inserts in prop::collection::vec((1_u64..60, 0_u64..9), 0..40),
        ) {
            let (mut spans, mut oracle) = (Spans::default(), BTreeSet::new());
            for (first, more) in inserts {
                spans.insert(first, first + more);
                oracle.extend(first..=first + more);
            }
            for number in 0..80 {
                prop_assert_eq!(spans.contains(number), oracle.contains(&number));
                prop_assert_eq!(spans.count_upto(number), oracle.range(..=number).count() as u64);
                let end = (number..).take_while(|next| oracle.contains(next)).last();
                prop_assert_eq!(spans.end_of(number), end);
            }
            let before = spans.clone();
            prop_assert!(!spans.join(&before));
            prop_assert!(spans.join(&Spans(vec![(90, 91)])) && spans.contains(91));
            let spans = before;
            prop_assert_eq!(spans.last(), oracle.last().copied().unwrap_or(0));
            prop_assert_eq!(Spans::of(oracle.into_iter()), spans.clone());
            prop_assert_eq!(Spans::from_wire(&spans.to_wire()), Some(spans));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [&[(0, 1)][..], &[(2, 1)], &[(1, 2), (3, 4)], &[(5, 6), (1, 2)], &[(1, u64::MAX)]] {
            assert_eq!(Spans::from_wire(bad), None, "{bad:?}");
        }
    }
}
