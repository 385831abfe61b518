//! Causal contexts: which dots have been seen.
//!
//! Invariant: a context is always in its one normal form. Of each instance it has a prefix (all
//! counters from 1 up to a number), and apart from those only dots that lie beyond a gap. So two
//! contexts with the same dots are equal field by field and in their digest, and a context of a
//! catalog without gaps needs 16 bytes for each proxy there ever was.

use super::digest;
use crate::limits::{CONTEXT_DOTS_MAX, CONTEXT_INSTANCES_MAX};
use crate::types::{Dot, InstanceId};
use crate::wire::message::Context;
use std::collections::{BTreeMap, BTreeSet};

/// A set of dots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CausalContext {
    /// Of each instance all dots from 1 to this counter, which is never 0.
    prefixes: BTreeMap<InstanceId, u64>,
    /// Dots beyond the prefix of their instance by two at least.
    extra: BTreeSet<Dot>,
    /// Wrapping sum of the hashes of both.
    digest: u64,
}

/// Why a context from a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// Instances or dots are not in strictly ascending order.
    #[error("a causal context that is not sorted, or names something twice")]
    Unsorted,
    /// Counters start at 1.
    #[error("a causal context with a counter of 0")]
    Zero,
    /// Over [`CONTEXT_DOTS_MAX`].
    #[error("a causal context with {0} dots beyond its prefixes, over the limit of {CONTEXT_DOTS_MAX}")]
    TooMany(usize),
    /// Over [`CONTEXT_INSTANCES_MAX`].
    #[error("a causal context of {0} runs, over the limit of {CONTEXT_INSTANCES_MAX}")]
    TooManyRuns(usize),
}

impl CausalContext {
    /// The context that has seen nothing.
    #[must_use]
    pub fn new() -> CausalContext {
        CausalContext::default()
    }

    /// Whether `dot` has been seen. No dot has counter 0.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter != 0 && (dot.counter <= self.prefix(dot.instance) || self.extra.contains(&dot))
    }

    /// All counters of `instance` from 1 to this have been seen; 0 for none.
    #[must_use]
    pub fn prefix(&self, instance: InstanceId) -> u64 {
        self.prefixes.get(&instance).copied().unwrap_or(0)
    }

    /// The prefixes, by instance.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = (InstanceId, u64)> {
        self.prefixes.iter().map(|(instance, counter)| (*instance, *counter))
    }

    /// The dots beyond the prefixes.
    #[must_use]
    pub fn extra(&self) -> &BTreeSet<Dot> {
        &self.extra
    }

    /// Whether the runs known and these are few enough to be sent.
    pub(super) fn has_room_for(&self, instances: impl IntoIterator<Item = InstanceId>) -> bool {
        let new: BTreeSet<InstanceId> =
            instances.into_iter().filter(|instance| !self.prefixes.contains_key(instance)).collect();
        new.is_empty() || self.prefixes.len() + new.len() <= CONTEXT_INSTANCES_MAX
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.extra.is_empty()
    }

    /// Adds `dot`; whether it is new. A counter of 0 is no dot and is not added.
    pub fn insert(&mut self, dot: Dot) -> bool {
        if dot.counter == 0 || self.contains(dot) {
            return false;
        }
        if dot.counter - 1 == self.prefix(dot.instance) {
            self.raise(dot.instance, dot.counter);
        } else {
            self.extra.insert(dot);
            self.digest = self.digest.wrapping_add(digest::of_dot(dot));
        }
        true
    }

    /// Adds all dots of `other`.
    pub fn join(&mut self, other: &CausalContext) {
        let higher: Vec<(InstanceId, u64)> =
            other.prefixes().filter(|(instance, counter)| *counter > self.prefix(*instance)).collect();
        if !higher.is_empty() {
            // Dots that the raised prefixes cover leave first, in one pass over all of them.
            let raised: BTreeMap<InstanceId, u64> = higher.iter().copied().collect();
            let digest = &mut self.digest;
            self.extra.retain(|dot| {
                let beyond = raised.get(&dot.instance).is_none_or(|prefix| dot.counter > *prefix);
                if !beyond {
                    *digest = digest.wrapping_sub(digest::of_dot(*dot));
                }
                beyond
            });
            for (instance, counter) in higher {
                self.raise(instance, counter);
            }
        }
        for dot in &other.extra {
            self.insert(*dot);
        }
    }

    /// Sets a prefix to `counter`, or further if the dots that follow are there. No dot up to
    /// `counter` may be among the extra ones.
    fn raise(&mut self, instance: InstanceId, counter: u64) {
        let before = self.prefix(instance);
        let mut reached = counter;
        while let Some(next) = reached.checked_add(1) {
            let dot = Dot { counter: next, instance };
            if !self.extra.remove(&dot) {
                break;
            }
            self.digest = self.digest.wrapping_sub(digest::of_dot(dot));
            reached = next;
        }
        self.prefixes.insert(instance, reached);
        self.digest = self
            .digest
            .wrapping_sub(digest::of_prefix(instance, before))
            .wrapping_add(digest::of_prefix(instance, reached));
    }

    /// A number that two contexts share exactly if they have the same dots (up to a collision of
    /// 64 bits), in constant time.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// What a peer sent, brought to normal form.
    ///
    /// # Errors
    /// When it is not sorted, names something twice, has a counter of 0, or more than
    /// [`CONTEXT_DOTS_MAX`] dots beyond its prefixes.
    pub fn from_wire(wire: &Context) -> Result<CausalContext, ContextError> {
        if wire.extra.len() > CONTEXT_DOTS_MAX {
            return Err(ContextError::TooMany(wire.extra.len()));
        }
        if wire.prefixes.len() > CONTEXT_INSTANCES_MAX {
            return Err(ContextError::TooManyRuns(wire.prefixes.len()));
        }
        let zero = wire.prefixes.iter().any(|(_, counter)| *counter == 0)
            || wire.extra.iter().any(|dot| dot.counter == 0);
        if zero {
            return Err(ContextError::Zero);
        }
        if !wire.prefixes.is_sorted_by(|a, b| a.0 < b.0) || !wire.extra.is_sorted_by(|a, b| a < b) {
            return Err(ContextError::Unsorted);
        }
        let mut context = CausalContext::new();
        for (instance, counter) in &wire.prefixes {
            context.raise(*instance, *counter);
        }
        for dot in &wire.extra {
            context.insert(*dot);
        }
        Ok(context)
    }

    /// The form that is sent.
    #[must_use]
    pub fn to_wire(&self) -> Context {
        Context { prefixes: self.prefixes().collect(), extra: self.extra.iter().copied().collect() }
    }
}

impl FromIterator<Dot> for CausalContext {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> CausalContext {
        let mut context = CausalContext::new();
        for dot in dots {
            context.insert(dot);
        }
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn dot(instance: u64, counter: u64) -> Dot {
        Dot { counter, instance: InstanceId(instance) }
    }

    fn dots() -> impl Strategy<Value = BTreeSet<Dot>> {
        prop::collection::btree_set((0_u64..3, 1_u64..12).prop_map(|(i, c)| dot(i, c)), 0..30)
    }

    proptest! {
        #[test]
        fn a_context_is_the_set_of_its_dots(a in dots(), b in dots(), order in any::<u64>()) {
            let one: CausalContext = a.iter().copied().collect();
            let mut shuffled: Vec<Dot> = a.iter().copied().collect();
            shuffled.sort_by_key(|d| digest::of_dot(*d) ^ order);
            let same: CausalContext = shuffled.into_iter().collect();
            prop_assert_eq!(&one, &same);
            let other: CausalContext = b.iter().copied().collect();
            prop_assert_eq!(a == b, one.digest() == other.digest());
            prop_assert_eq!(a == b, one == other);
            let mut joined = one.clone();
            joined.join(&other);
            let union: CausalContext = a.union(&b).copied().collect();
            prop_assert_eq!(&joined, &union);
            for i in 0..3 {
                for c in 0..13 {
                    prop_assert_eq!(one.contains(dot(i, c)), a.contains(&dot(i, c)));
                }
            }
            prop_assert_eq!(CausalContext::from_wire(&one.to_wire()), Ok(one));
        }
    }

    #[test]
    fn a_gap_that_is_filled_leaves_only_the_prefix() {
        let mut context = CausalContext::new();
        assert!(context.insert(dot(1, 3)) && context.insert(dot(1, 2)) && context.extra().len() == 2);
        assert!(context.insert(dot(1, 1)) && !context.insert(dot(1, 2)));
        assert!(context.extra().is_empty());
        assert_eq!(context.prefix(InstanceId(1)), 3);
    }

    #[test]
    fn a_context_of_a_peer_is_normalised_or_refused() {
        let wire = |prefixes: &[(u64, u64)], extra: &[(u64, u64)]| Context {
            prefixes: prefixes.iter().map(|(i, c)| (InstanceId(*i), *c)).collect(),
            extra: extra.iter().map(|(i, c)| dot(*i, *c)).collect(),
        };
        let context = CausalContext::from_wire(&wire(&[(1, 3)], &[(2, 1), (1, 2), (1, 4)])).expect("valid");
        assert!(context.extra().is_empty());
        assert_eq!(context.prefixes().collect::<Vec<_>>(), [(InstanceId(1), 4), (InstanceId(2), 1)]);
        for (bad, why) in [
            (wire(&[(2, 1), (1, 1)], &[]), ContextError::Unsorted),
            (wire(&[(1, 1), (1, 2)], &[]), ContextError::Unsorted),
            (wire(&[], &[(1, 5), (1, 5)]), ContextError::Unsorted),
            (wire(&[], &[(1, 6), (1, 5)]), ContextError::Unsorted),
            (wire(&[(1, 0)], &[]), ContextError::Zero),
            (wire(&[], &[(1, 0)]), ContextError::Zero),
        ] {
            assert_eq!(CausalContext::from_wire(&bad), Err(why));
        }
        let many = Context {
            prefixes: vec![],
            extra: (0..=CONTEXT_DOTS_MAX as u64).map(|n| dot(1, 2 + n)).collect(),
        };
        assert_eq!(CausalContext::from_wire(&many), Err(ContextError::TooMany(CONTEXT_DOTS_MAX + 1)));
    }

    #[test]
    fn the_greatest_counter_does_not_overflow() {
        let mut context =
            CausalContext::from_wire(&Context { prefixes: vec![(InstanceId(1), u64::MAX)], extra: vec![] })
                .expect("valid");
        assert!(context.contains(dot(1, u64::MAX)) && !context.insert(dot(1, u64::MAX)));
        assert!(context.insert(dot(2, u64::MAX)) && context.contains(dot(2, u64::MAX)));
    }
}
