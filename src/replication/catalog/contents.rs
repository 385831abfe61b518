//! Which contents the catalog names, and how many copies of each are wanted.
//!
//! Invariant: the index is exactly what a scan over all versions would give. A content that several
//! versions name keeps a count of each wanted number, so that one version can leave without a look
//! at the others. It has 48 bytes a content: nearly always one number is wanted, and the counts of
//! those of which several are stand apart.

use crate::types::{Body, ContentId, ContentMap, Version};
use std::collections::BTreeMap;

/// What the catalog says of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRefs {
    /// Size in bytes.
    pub size: u64,
    versions: u32,
    wanted: u8,
}

impl ContentRefs {
    /// The greatest wanted count over the live versions that name it.
    #[must_use]
    pub fn wanted(&self) -> u8 {
        self.wanted
    }

    /// How many live versions name it; never none.
    #[must_use]
    pub fn versions(&self) -> u32 {
        self.versions
    }
}

/// All contents that live versions name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    refs: ContentMap<ContentRefs>,
    /// How many versions want how many copies, of contents for which that is more than one number.
    mixed: BTreeMap<ContentId, BTreeMap<u8, u32>>,
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
        self.refs.iter_after(after)
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
        let Some(refs) = self.refs.get_mut(&content) else {
            self.bytes = self.bytes.wrapping_add(size);
            self.refs.insert(content, ContentRefs { size, versions: 1, wanted });
            return;
        };
        if refs.wanted != wanted {
            let same = || BTreeMap::from([(refs.wanted, refs.versions)]);
            self.mixed.entry(content).or_insert_with(same);
        }
        if let Some(counts) = self.mixed.get_mut(&content) {
            let count = counts.entry(wanted).or_default();
            *count = count.saturating_add(1);
        }
        refs.versions = refs.versions.saturating_add(1);
        refs.wanted = refs.wanted.max(wanted);
    }

    pub(super) fn remove(&mut self, version: &Version) {
        let Body::File { content, .. } = version.body else { return };
        let Some(refs) = self.refs.get_mut(&content) else { return };
        refs.versions = refs.versions.saturating_sub(1);
        if refs.versions == 0 {
            self.bytes = self.bytes.wrapping_sub(refs.size);
            self.refs.remove(&content);
            return;
        }
        let Some(counts) = self.mixed.get_mut(&content) else { return };
        let wanted = version.wanted.count();
        if let Some(count) = counts.get_mut(&wanted) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&wanted);
            }
        }
        refs.wanted = counts.last_key_value().map_or(refs.wanted, |(wanted, _)| *wanted);
        if counts.len() == 1 {
            self.mixed.remove(&content);
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
        assert_eq!(size_of::<(ContentId, ContentRefs)>(), 48);
    }
}
