//! The merge of one name: its versions, and within each version the register of wanted copies.
//!
//! Both follow one rule. What both sides have stays; what one side has stays unless the other has
//! seen its dot, for then the other has removed or replaced it. A version takes its settings with
//! it, so a count that was set meanwhile never revives a removed file. A setting leaves only by a
//! newer one that saw it, so once a version has settings it always has, and the count it was put
//! with never comes back.

use crate::types::{Dot, Version};

/// What one name came to.
pub(super) struct NameMerge {
    /// All its versions now, ascending by dot.
    pub(super) versions: Vec<Version>,
    /// Whether they differ from mine before.
    pub(super) changed: bool,
    /// Dots of mine, of versions and settings, that are gone.
    pub(super) dropped: Vec<Dot>,
}

/// Merges the versions of one name. Mine and theirs ascend by dot; `i_saw` and `they_saw` tell
/// whether the dot of something that only the other side has was seen.
pub(super) fn merge_name(
    mine: &[Version],
    theirs: &[Version],
    i_saw: &impl Fn(Dot) -> bool,
    they_saw: &impl Fn(Dot) -> bool,
) -> NameMerge {
    // No more room than nearly always needed: the versions are kept, and what is cut off lies waste.
    let versions = Vec::with_capacity(mine.len().max(theirs.len()));
    let mut merge = NameMerge { versions, changed: false, dropped: Vec::new() };
    let mut theirs = theirs.iter().peekable();
    for version in mine {
        while let Some(other) = theirs.next_if(|other| other.dot < version.dot) {
            merge.take(other, i_saw);
        }
        if let Some(same) = theirs.next_if(|other| other.dot == version.dot) {
            merge.both(version, same, i_saw, they_saw);
        } else if they_saw(version.dot) {
            merge.changed = true;
            merge.dropped.extend(dots_of(version));
        } else {
            merge.versions.push(version.clone());
        }
    }
    for other in theirs {
        merge.take(other, i_saw);
    }
    merge
}

impl NameMerge {
    fn take(&mut self, other: &Version, i_saw: &impl Fn(Dot) -> bool) {
        if !i_saw(other.dot) {
            self.versions.push(other.clone());
            self.changed = true;
        }
    }

    fn both(
        &mut self,
        mine: &Version,
        theirs: &Version,
        i_saw: &impl Fn(Dot) -> bool,
        they_saw: &impl Fn(Dot) -> bool,
    ) {
        let mut version = mine.clone();
        let (my, their) = (settings(mine), settings(theirs));
        if my != their {
            let has = |list: &[(Dot, u8)], dot| list.binary_search_by_key(&dot, |s| s.0).is_ok();
            let mut kept = Vec::new();
            for setting in my {
                if has(their, setting.0) || !they_saw(setting.0) {
                    kept.push(*setting);
                } else {
                    self.dropped.push(setting.0);
                }
            }
            kept.extend(their.iter().filter(|setting| !has(my, setting.0) && !i_saw(setting.0)));
            kept.sort_unstable();
            self.changed |= kept != my;
            version.wanted.later = if kept.is_empty() { None } else { Some(Box::new(kept)) };
        }
        self.versions.push(version);
    }
}

/// The settings of a version, ascending by dot.
pub(super) fn settings(version: &Version) -> &[(Dot, u8)] {
    version.wanted.later.as_ref().map_or(&[], |settings| settings.as_slice())
}

/// The dot of a version and those of its settings.
pub(super) fn dots_of(version: &Version) -> impl Iterator<Item = Dot> {
    std::iter::once(version.dot).chain(settings(version).iter().map(|(dot, _)| *dot))
}

/// Brings versions from outside into normal form: ascending by dot, none twice, settings too, no
/// counter of 0, no empty list of settings.
pub(super) fn normalise(versions: &mut Vec<Version>) {
    versions.retain(|version| version.dot.counter != 0);
    versions.sort_by_key(|version| version.dot);
    versions.dedup_by_key(|version| version.dot);
    for version in versions {
        if let Some(mut settings) = version.wanted.later.take() {
            settings.retain(|(dot, _)| dot.counter != 0);
            settings.sort_unstable();
            settings.dedup_by_key(|(dot, _)| *dot);
            version.wanted.later = (!settings.is_empty()).then_some(settings);
        }
    }
}
