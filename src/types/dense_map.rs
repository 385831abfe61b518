//! A sorted map that is dense in memory: a node keeps several of them as long as its catalog.
//!
//! Invariant: keys ascend, within a leaf and from leaf to leaf; no leaf is empty, none has more than
//! [`LEAF_MAX`] rows, and none has room for more than [`LEAF_SLACK`] further ones. The standard
//! `BTreeMap` leaves 30 to 45 % of its nodes empty; here it is some 5 %. What is here does the same.

use super::ContentId;
use std::borrow::Borrow;
use std::ops::{Bound, RangeBounds};

/// Rows in a leaf. Long enough that the list of leaves is short, short enough to be shifted at once.
const LEAF_MAX: usize = 128;
/// Rows by which a leaf grows.
const LEAF_SLACK: usize = 8;

/// Keys in order, and a value for each.
#[derive(Clone, Debug)]
pub struct DenseMap<K, V> {
    leaves: Vec<Vec<(K, V)>>,
    len: usize,
}

/// What is known of each content.
pub type ContentMap<V> = DenseMap<ContentId, V>;

/// Contents, in the order of their ids.
pub type ContentSet = ContentMap<()>;

/// Where a key is, or belongs: its leaf, and its row there.
struct Place {
    leaf: usize,
    row: Result<usize, usize>,
}

impl<K, V> Default for DenseMap<K, V> {
    fn default() -> DenseMap<K, V> {
        DenseMap { leaves: Vec::new(), len: 0 }
    }
}

impl<K: Ord, V: PartialEq> PartialEq for DenseMap<K, V> {
    fn eq(&self, other: &DenseMap<K, V>) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord, V: Eq> Eq for DenseMap<K, V> {}

impl<K: Ord, V> DenseMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> DenseMap<K, V> {
        DenseMap::default()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `key` is there.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.place(key).row.is_ok()
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let place = self.place(key);
        self.leaves.get(place.leaf).zip(place.row.ok()).map(|(leaf, row)| &leaf[row].1)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key);
        self.leaves.get_mut(place.leaf).zip(place.row.ok()).map(|(leaf, row)| &mut leaf[row].1)
    }

    /// Gives `key` the `value`; gives the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Place { leaf: mut at, row } = self.place(&key);
        let mut row = match row {
            Ok(row) => return Some(std::mem::replace(&mut self.leaves[at][row].1, value)),
            Err(row) => row,
        };
        if self.leaves.is_empty() {
            self.leaves.push(Vec::new());
        }
        if self.leaves[at].len() >= LEAF_MAX {
            // Keys that come in order, as from a disk, leave full leaves behind.
            let last = at + 1 == self.leaves.len() && row == LEAF_MAX;
            self.split(at, if last { LEAF_MAX } else { LEAF_MAX / 2 });
            if last || row > self.leaves[at].len() {
                row -= self.leaves[at].len();
                at += 1;
            }
        }
        let leaf = &mut self.leaves[at];
        if leaf.len() == leaf.capacity() {
            leaf.reserve_exact(LEAF_SLACK);
        }
        leaf.insert(row, (key, value));
        self.len += 1;
        None
    }

    /// Takes `key` away; gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let Place { leaf: at, row: Ok(row) } = self.place(key) else {
            return None;
        };
        let (_, value) = self.leaves[at].remove(row);
        self.len -= 1;
        self.tighten(at);
        Some(value)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.leaves.iter().flatten().map(|(key, value)| (key, value))
    }

    /// Those within `range`, in order.
    pub fn range<Q, R>(&self, range: R) -> impl Iterator<Item = (&K, &V)> + use<'_, K, V, Q, R>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        R: RangeBounds<Q>,
    {
        let (first, from) = match range.start_bound() {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => self.edge(key, false),
            Bound::Excluded(key) => self.edge(key, true),
        };
        let (last, to) = match range.end_bound() {
            Bound::Unbounded => (self.leaves.len(), 0),
            Bound::Included(key) => self.edge(key, true),
            Bound::Excluded(key) => self.edge(key, false),
        };
        let leaves = self.leaves.iter().enumerate().skip(first).take((last + 1).saturating_sub(first));
        let rows = leaves.flat_map(move |(at, leaf)| {
            let to = if at == last { to } else { leaf.len() };
            leaf.get(if at == first { from } else { 0 }..to).unwrap_or_default()
        });
        rows.map(|(key, value)| (key, value))
    }

    /// Those after `after`, in order; all if there is none.
    pub fn iter_after(&self, after: Option<&K>) -> impl Iterator<Item = (&K, &V)> {
        self.range::<K, _>((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for leaf in &mut self.leaves {
            leaf.retain_mut(|(key, value)| keep(key, value));
        }
        self.len = self.leaves.iter().map(Vec::len).sum();
        self.leaves.retain(|leaf| !leaf.is_empty());
        for at in (0..self.leaves.len()).rev() {
            self.tighten(at);
        }
    }

    fn place<Q>(&self, key: &Q) -> Place
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let starts_by = |leaf: &Vec<(K, V)>| leaf.first().is_some_and(|(first, _)| first.borrow() <= key);
        let leaf = self.leaves.partition_point(starts_by).saturating_sub(1);
        let find = |rows: &Vec<(K, V)>| rows.binary_search_by(|(other, _)| other.borrow().cmp(key));
        Place { leaf, row: self.leaves.get(leaf).map_or(Err(0), find) }
    }

    /// The leaf and row where what comes after `key` begins, or `key` itself.
    fn edge<Q>(&self, key: &Q, after: bool) -> (usize, usize)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let Place { leaf, row } = self.place(key);
        (leaf, row.map_or_else(|row| row, |row| row + usize::from(after)))
    }

    /// Moves the rows of a leaf from `from` on to a new one after it.
    fn split(&mut self, at: usize, from: usize) {
        let mut right = Vec::with_capacity(LEAF_MAX - from + LEAF_SLACK);
        right.extend(self.leaves[at].drain(from..));
        self.leaves[at].shrink_to_fit();
        self.leaves.insert(at + 1, right);
    }

    /// A leaf has become shorter: gives its room back, or its rows to a neighbour.
    fn tighten(&mut self, at: usize) {
        let mut at = at;
        let short = |leaf: &Vec<(K, V)>| leaf.len() <= LEAF_MAX / 4;
        if short(&self.leaves[at]) {
            let fits = |other: &Vec<(K, V)>| other.len() <= LEAF_MAX / 2;
            if self.leaves.get(at + 1).is_some_and(fits) {
                let mut right = self.leaves.remove(at + 1);
                self.leaves[at].append(&mut right);
            } else if at > 0 && fits(&self.leaves[at - 1]) {
                let mut right = self.leaves.remove(at);
                at -= 1;
                self.leaves[at].append(&mut right);
            }
        }
        let leaf = &mut self.leaves[at];
        if leaf.is_empty() {
            self.leaves.remove(at);
        } else if leaf.capacity() > leaf.len() + LEAF_SLACK {
            leaf.shrink_to_fit();
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for DenseMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(rows: I) -> DenseMap<K, V> {
        let mut map = DenseMap::default();
        for (key, value) in rows {
            map.insert(key, value);
        }
        map
    }
}

impl FromIterator<ContentId> for ContentSet {
    fn from_iter<I: IntoIterator<Item = ContentId>>(contents: I) -> ContentSet {
        contents.into_iter().map(|content| (content, ())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Ids that share all but their last bytes: the order must not depend on their being random.
    fn id(number: u16) -> ContentId {
        let mut id = [7; 32];
        id[30..].copy_from_slice(&number.to_be_bytes());
        ContentId(id)
    }

    fn check<V: PartialEq + Clone + std::fmt::Debug>(map: &ContentMap<V>) {
        let ids: Vec<ContentId> = map.iter().map(|(content, _)| *content).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(ids.len(), map.len());
        let again: ContentMap<V> = map.iter().map(|(content, value)| (*content, value.clone())).collect();
        assert_eq!(again, *map);
        for leaf in &map.leaves {
            assert!(!leaf.is_empty() && leaf.len() <= LEAF_MAX);
            assert!(leaf.capacity() <= leaf.len() + LEAF_SLACK, "{} {}", leaf.capacity(), leaf.len());
        }
    }

    proptest! {
        #[test]
        fn it_does_what_a_standard_map_does(
            steps in prop::collection::vec((0_u16..900, 0_u8..8), 0..3_000)
        ) {
            let (mut map, mut model) = (ContentMap::default(), BTreeMap::new());
            for (at, (number, step)) in steps.into_iter().enumerate() {
                let content = id(number);
                match step {
                    0..=3 => prop_assert_eq!(map.insert(content, at), model.insert(content, at)),
                    4..=6 => prop_assert_eq!(map.remove(&content), model.remove(&content)),
                    _ => {
                        prop_assert_eq!(map.get(&content), model.get(&content));
                        let after = map.iter_after(Some(&content)).map(|(c, v)| (*c, *v));
                        let expected = model.range(content..).filter(|(c, _)| **c != content);
                        prop_assert!(after.eq(expected.map(|(c, v)| (*c, *v))));
                        let other = id(u16::try_from(at % 900).expect("small"));
                        let (low, high) = (content.min(other), content.max(other));
                        prop_assert!(map.range(low..high).eq(model.range(low..high)));
                        prop_assert!(map.range(low..=high).eq(model.range(low..=high)));
                    }
                }
            }
            check(&map);
            prop_assert!(map.iter().eq(model.iter()));
            map.retain(|_, value| *value % 3 == 0);
            model.retain(|_, value| *value % 3 == 0);
            check(&map);
            prop_assert!(map.iter().eq(model.iter()));
        }
    }

    #[test]
    fn what_comes_in_order_leaves_full_leaves() {
        let set: ContentSet = (0..10_000).map(id).collect();
        check(&set);
        assert_eq!(set.leaves.len(), 10_000_usize.div_ceil(LEAF_MAX));
    }

    #[test]
    fn what_comes_in_no_order_wastes_little() {
        // A multiplier that is odd goes through all numbers in a scattered order.
        let set: ContentSet = (0..=u16::MAX).map(|number| id(number.wrapping_mul(40_503))).collect();
        check(&set);
        let room: usize = set.leaves.iter().map(Vec::capacity).sum();
        assert!(room * 100 <= set.len() * 108, "room for {room} of {}", set.len());
    }

    #[test]
    fn what_was_emptied_keeps_nothing() {
        let mut set: ContentSet = (0..1_000).map(id).collect();
        for number in 0..1_000 {
            assert_eq!(set.remove(&id(number)), Some(()));
        }
        assert!(set.is_empty() && set.leaves.is_empty());
    }
}
