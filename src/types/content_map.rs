//! Maps and sets with contents as keys, dense in memory: a node keeps several of them as long as
//! its catalog.
//!
//! Invariant: keys ascend, within a leaf and from leaf to leaf; no leaf is empty, none has more than
//! [`LEAF_MAX`] rows, and none has room for more than [`LEAF_SLACK`] further ones. The standard
//! `BTreeMap` leaves 30 to 45 % of its nodes empty; here it is some 5 %.

use super::ContentId;

/// Rows in a leaf. Long enough that the list of leaves is short, short enough to be shifted at once.
const LEAF_MAX: usize = 128;
/// Rows by which a leaf grows.
const LEAF_SLACK: usize = 8;

/// What is known of each content, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentMap<V> {
    leaves: Vec<Vec<(ContentId, V)>>,
    len: usize,
}

/// Contents, in the order of their ids.
pub type ContentSet = ContentMap<()>;

/// Where a content is, or belongs: its leaf, and its place there.
struct Place {
    leaf: usize,
    row: Result<usize, usize>,
}

impl<V> Default for ContentMap<V> {
    fn default() -> ContentMap<V> {
        ContentMap { leaves: Vec::new(), len: 0 }
    }
}

impl<V> ContentMap<V> {
    /// How many contents there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `content` is there.
    #[must_use]
    pub fn contains(&self, content: &ContentId) -> bool {
        self.place(content).row.is_ok()
    }

    /// What is known of `content`.
    #[must_use]
    pub fn get(&self, content: &ContentId) -> Option<&V> {
        let place = self.place(content);
        self.leaves.get(place.leaf).zip(place.row.ok()).map(|(leaf, row)| &leaf[row].1)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, content: &ContentId) -> Option<&mut V> {
        let place = self.place(content);
        self.leaves.get_mut(place.leaf).zip(place.row.ok()).map(|(leaf, row)| &mut leaf[row].1)
    }

    /// Puts `value` to `content`; gives what was there.
    pub fn insert(&mut self, content: ContentId, value: V) -> Option<V> {
        let Place { leaf: at, row } = self.place(&content);
        let mut at = at;
        let mut row = match row {
            Ok(row) => return Some(std::mem::replace(&mut self.leaves[at][row].1, value)),
            Err(row) => row,
        };
        if self.leaves.is_empty() {
            self.leaves.push(Vec::new());
        }
        if self.leaves[at].len() >= LEAF_MAX {
            // Contents that come in order, as from a disk, leave full leaves behind.
            let last = at + 1 == self.leaves.len() && row == LEAF_MAX;
            let right = self.split(at, if last { LEAF_MAX } else { LEAF_MAX / 2 });
            if last || row > self.leaves[at].len() {
                row -= self.leaves[at].len();
                at = right;
            }
        }
        let leaf = &mut self.leaves[at];
        if leaf.len() == leaf.capacity() {
            leaf.reserve_exact(LEAF_SLACK);
        }
        leaf.insert(row, (content, value));
        self.len += 1;
        None
    }

    /// Takes `content` away; gives what was there.
    pub fn remove(&mut self, content: &ContentId) -> Option<V> {
        let Place { leaf: at, row: Ok(row) } = self.place(content) else {
            return None;
        };
        let (_, value) = self.leaves[at].remove(row);
        self.len -= 1;
        self.tighten(at);
        Some(value)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&ContentId, &V)> {
        self.iter_after(None)
    }

    /// Those after `after`, in order.
    pub fn iter_after(&self, after: Option<&ContentId>) -> impl Iterator<Item = (&ContentId, &V)> {
        let (leaf, row) = match after.map(|after| self.place(after)) {
            None => (0, 0),
            Some(Place { leaf, row: Ok(row) }) => (leaf, row + 1),
            Some(Place { leaf, row: Err(row) }) => (leaf, row),
        };
        let first = self.leaves.get(leaf).map_or(&[][..], |rows| &rows[row..]);
        let further = self.leaves.get(leaf + 1..).unwrap_or_default().iter().flatten();
        first.iter().chain(further).map(|(content, value)| (content, value))
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&ContentId, &mut V) -> bool) {
        for leaf in &mut self.leaves {
            leaf.retain_mut(|(content, value)| keep(content, value));
        }
        self.len = self.leaves.iter().map(Vec::len).sum();
        self.leaves.retain(|leaf| !leaf.is_empty());
        for at in (0..self.leaves.len()).rev() {
            self.tighten(at);
        }
    }

    fn place(&self, content: &ContentId) -> Place {
        let later =
            self.leaves.partition_point(|leaf| leaf.first().is_some_and(|(first, _)| first <= content));
        let leaf = later.saturating_sub(1);
        let row =
            self.leaves.get(leaf).map_or(Err(0), |rows| rows.binary_search_by(|(id, _)| id.cmp(content)));
        Place { leaf, row }
    }

    /// Moves the rows of a leaf from `from` on to a new one after it. Gives the new one.
    fn split(&mut self, at: usize, from: usize) -> usize {
        let mut right = Vec::with_capacity(LEAF_MAX - from + LEAF_SLACK);
        right.extend(self.leaves[at].drain(from..));
        self.leaves[at].shrink_to_fit();
        self.leaves.insert(at + 1, right);
        at + 1
    }

    /// A leaf has become shorter: gives its room back, or its rows to a neighbour.
    fn tighten(&mut self, at: usize) {
        let mut at = at;
        let short = |leaf: &Vec<(ContentId, V)>| leaf.len() <= LEAF_MAX / 4;
        if short(&self.leaves[at]) {
            let fits = |other: &Vec<(ContentId, V)>| other.len() <= LEAF_MAX / 2;
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

impl<V> FromIterator<(ContentId, V)> for ContentMap<V> {
    fn from_iter<I: IntoIterator<Item = (ContentId, V)>>(rows: I) -> ContentMap<V> {
        let mut map = ContentMap::default();
        for (content, value) in rows {
            map.insert(content, value);
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

    fn check<V>(map: &ContentMap<V>) {
        let ids: Vec<ContentId> = map.iter().map(|(content, _)| *content).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert_eq!(ids.len(), map.len());
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
