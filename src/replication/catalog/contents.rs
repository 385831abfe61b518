//! Which contents the catalog names, and how many copies of each are wanted.
//!
//! Invariant: the index is exactly what a scan over all versions would give. A content that several
//! versions name keeps a count of each wanted number, so that one version can leave without a look
//! at the others. It has 56 bytes a content: nearly always one number is wanted.

use crate::types::{Body, ContentId, Version};
use std::collections::BTreeMap;

/// What the catalog says of one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentRefs {
    /// Size in bytes.
    pub size: u64,
    counts: Counts,
}

/// How many versions want how many copies; never none.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Counts {
    /// All want the same.
    Same { wanted: u8, versions: u32 },
    /// At least two numbers, ascending.
    #[expect(clippy::box_collection, reason = "8 bytes in each content instead of 24; rare")]
    Mixed(Box<Vec<(u8, u32)>>),
}

impl ContentRefs {
    /// The greatest wanted count over the live versions that name it.
    #[must_use]
    pub fn wanted(&self) -> u8 {
        match &self.counts {
            Counts::Same { wanted, .. } => *wanted,
            Counts::Mixed(counts) => counts.last().map_or(0, |(wanted, _)| *wanted),
        }
    }

    /// How many live versions name it.
    #[must_use]
    pub fn versions(&self) -> u32 {
        match &self.counts {
            Counts::Same { versions, .. } => *versions,
            Counts::Mixed(counts) => counts.iter().fold(0, |sum, (_, n)| sum.saturating_add(*n)),
        }
    }

    fn add(&mut self, wanted: u8) {
        match &mut self.counts {
            Counts::Same { wanted: same, versions } if *same == wanted => {
                *versions = versions.saturating_add(1);
            }
            Counts::Same { wanted: other, versions } => {
                let mut counts = vec![(*other, *versions), (wanted, 1)];
                counts.sort_unstable();
                self.counts = Counts::Mixed(Box::new(counts));
            }
            Counts::Mixed(counts) => match counts.binary_search_by_key(&wanted, |(w, _)| *w) {
                Ok(at) => counts[at].1 = counts[at].1.saturating_add(1),
                Err(at) => counts.insert(at, (wanted, 1)),
            },
        }
    }

    /// Takes one away; whether none is left.
    fn remove(&mut self, wanted: u8) -> bool {
        match &mut self.counts {
            Counts::Same { wanted: same, versions } if *same == wanted => {
                *versions = versions.saturating_sub(1);
                *versions == 0
            }
            Counts::Same { .. } => false,
            Counts::Mixed(counts) => {
                if let Ok(at) = counts.binary_search_by_key(&wanted, |(w, _)| *w) {
                    counts[at].1 = counts[at].1.saturating_sub(1);
                    if counts[at].1 == 0 {
                        counts.remove(at);
                    }
                }
                if let [(wanted, versions)] = counts.as_slice() {
                    self.counts = Counts::Same { wanted: *wanted, versions: *versions };
                }
                false
            }
        }
    }
}

/// All contents that live versions name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    refs: BTreeMap<ContentId, ContentRefs>,
    bytes: u64,
}

impl Contents {
    pub(super) fn get(&self, content: &ContentId) -> Option<&ContentRefs> {
        self.refs.get(content)
    }

    pub(super) fn iter_after(
        &self,
        after: Option<&ContentId>,
    ) -> impl Iterator<Item = (&ContentId, &ContentRefs)> {
        use std::ops::Bound;
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.refs.range::<ContentId, _>((lower, Bound::Unbounded))
    }

    pub(super) fn len(&self) -> usize {
        self.refs.len()
    }

    /// Sizes added up, each content once. Wraps rather than fails on sizes that nobody can store.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn add(&mut self, version: &Version) {
        let Body::File { content, size } = version.body else { return };
        let wanted = version.wanted.count();
        if let Some(refs) = self.refs.get_mut(&content) {
            refs.add(wanted);
        } else {
            self.bytes = self.bytes.wrapping_add(size);
            self.refs.insert(content, ContentRefs { size, counts: Counts::Same { wanted, versions: 1 } });
        }
    }

    pub(super) fn remove(&mut self, version: &Version) {
        let Body::File { content, .. } = version.body else { return };
        let Some(refs) = self.refs.get_mut(&content) else { return };
        if refs.remove(version.wanted.count()) {
            self.bytes = self.bytes.wrapping_sub(refs.size);
            self.refs.remove(&content);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Dot, Wanted};
    use proptest::prelude::*;

    fn version(content: u8, wanted: u8) -> Version {
        Version {
            dot: Dot::default(),
            body: Body::File { content: ContentId([content; 32]), size: u64::from(content) * 10 },
            mode: 0,
            modified_ns: 0,
            wanted: Wanted::new(wanted),
            removed_s: 0,
        }
    }

    proptest! {
        #[test]
        fn the_index_is_what_a_scan_would_give(
            steps in prop::collection::vec((1_u8..4, 1_u8..5, any::<bool>()), 0..60)
        ) {
            let (mut index, mut live) = (Contents::default(), Vec::new());
            for (content, wanted, add) in steps {
                if add {
                    index.add(&version(content, wanted));
                    live.push((content, wanted));
                } else if let Some(at) = live.iter().position(|entry| *entry == (content, wanted)) {
                    live.remove(at);
                    index.remove(&version(content, wanted));
                }
                let mut bytes = 0;
                for content in 1..4_u8 {
                    let counts: Vec<u8> =
                        live.iter().filter(|(c, _)| *c == content).map(|(_, w)| *w).collect();
                    let refs = index.get(&ContentId([content; 32]));
                    prop_assert_eq!(refs.map(ContentRefs::wanted), counts.iter().max().copied());
                    prop_assert_eq!(refs.map_or(0, |r| r.versions() as usize), counts.len());
                    bytes += if counts.is_empty() { 0 } else { u64::from(content) * 10 };
                }
                prop_assert_eq!(index.bytes(), bytes);
            }
        }
    }

    #[test]
    fn an_entry_of_the_index_stays_small() {
        assert_eq!(size_of::<(ContentId, ContentRefs)>(), 56);
    }
}
