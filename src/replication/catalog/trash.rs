//! The trash: removed and replaced versions, apart from what is live.
//!
//! They are versions like any other (a dot of their own, merged and sent with their name) and only
//! kept in another map: so no question about live names has to leave them out, and a removal that
//! is undone, or emptied for good, spreads like every other change. A content that the trash alone
//! names is no copy of anything: nobody mends it, and whoever needs the room drops it.
//!
//! Invariant: a version is here exactly if its `removed_s` is not 0; no name is here without one;
//! contents and bytes are what a scan over all of them would give.

use crate::types::{ContentId, ContentMap, DenseMap, FileName, Version};

/// What the trash says of one content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrashRefs {
    /// Size in bytes.
    pub size: u64,
    /// How many removed versions have it.
    pub versions: u32,
    /// When the last of them was removed, seconds since 1970; may be too late once one has left.
    pub removed_s: u32,
}

/// All removed versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trash {
    pub(super) names: DenseMap<FileName, Box<[Version]>>,
    contents: ContentMap<TrashRefs>,
    versions: usize,
}

impl Trash {
    /// The removed versions of `name`, ascending by dot.
    #[must_use]
    pub fn versions(&self, name: &FileName) -> &[Version] {
        self.names.get(name).map_or(&[], |versions| versions)
    }

    /// All names with removed versions, in order.
    pub fn names(&self) -> impl Iterator<Item = (&FileName, &[Version])> {
        self.names.iter().map(|(name, versions)| (name, &**versions))
    }

    /// How many removed versions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.versions
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.versions == 0
    }

    /// What it says of `content`; `None` if no removed version has it.
    #[must_use]
    pub fn content(&self, content: &ContentId) -> Option<&TrashRefs> {
        self.contents.get(content)
    }

    /// All contents of removed versions, in order; live versions may have some of them too.
    pub fn contents(&self) -> impl Iterator<Item = (&ContentId, &TrashRefs)> {
        self.contents.iter()
    }

    /// Puts the removed versions of one name in the place of those before, which it gives.
    pub(super) fn replace(&mut self, name: &FileName, after: Vec<Version>) -> Vec<Version> {
        for version in &after {
            self.add(version);
        }
        let before = if after.is_empty() {
            self.names.remove(name)
        } else {
            self.names.insert(name.clone(), after.into_boxed_slice())
        };
        let before = before.map_or(Vec::new(), Vec::from);
        for version in &before {
            self.subtract(version);
        }
        before
    }

    fn add(&mut self, version: &Version) {
        self.versions += 1;
        let Some((content, size)) = version.body.content() else { return };
        let removed_s = version.removed_s;
        if let Some(refs) = self.contents.get_mut(&content) {
            refs.versions = refs.versions.saturating_add(1);
            refs.removed_s = refs.removed_s.max(removed_s);
        } else {
            self.contents.insert(content, TrashRefs { size, versions: 1, removed_s });
        }
    }

    fn subtract(&mut self, version: &Version) {
        self.versions = self.versions.saturating_sub(1);
        let Some((content, _)) = version.body.content() else { return };
        let Some(refs) = self.contents.get_mut(&content) else { return };
        refs.versions = refs.versions.saturating_sub(1);
        if refs.versions == 0 {
            self.contents.remove(&content);
        }
    }
}
