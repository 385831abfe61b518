//! Removing, replacing and restoring: what goes to the trash, what comes back, what is emptied.
//!
//! What a put replaces or `rm` removes leaves its name and goes to the trash, under a dot of its
//! own. To restore is to put again what a removed version has; what it replaces goes to the trash
//! in turn, so a restore can be undone too. Invariant: nothing here takes a version from the trash
//! by the clock alone: the caller gives the time, and says whether its clock can be trusted.

use super::catalog::Catalog;
use super::shown::{self, conflict_tag, tag_bytes, tagged};
use crate::limits::{REMOVED_PER_NAME_MAX, TRASH_VERSIONS_MAX};
use crate::types::{Body, Dot, FileName, Version, Wanted};
use crate::wire::message::Delta;

/// How a change treats what it takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes to the trash, as removed at this time, seconds since 1970.
    Trash(u32),
    /// It is gone.
    Gone,
}

/// What goes when something else takes its place: dots to be replaced, and the versions that the
/// trash gets for them.
pub(super) fn discard(
    catalog: &Catalog,
    name: &FileName,
    gone: &[Dot],
    fate: Fate,
    mint: &mut dyn FnMut() -> Dot,
) -> (Vec<Dot>, Vec<Version>) {
    let Fate::Trash(removed_s) = fate else {
        return (gone.to_vec(), Vec::new());
    };
    let going = catalog.versions(name).iter().filter(|version| gone.contains(&version.dot));
    // Empty folders hidden behind a file are nothing that anybody could miss.
    let file = going.clone().any(|version| version.body != Body::Folder);
    let trashed: Vec<Version> = going
        .filter(|version| !file || version.body != Body::Folder)
        .map(|version| Version {
            dot: mint(),
            wanted: Wanted::new(version.wanted.count()),
            removed_s: removed_s.max(1),
            ..version.clone()
        })
        .collect();
    let mut older: Vec<&Version> = catalog.trash().versions(name).iter().collect();
    older.sort_by_key(|version| (version.removed_s, version.dot));
    let over = (older.len() + trashed.len()).saturating_sub(REMOVED_PER_NAME_MAX);
    let mut dots = gone.to_vec();
    dots.extend(older.iter().take(over).map(|version| version.dot));
    (dots, trashed)
}

/// The change that removes these live versions of these names. Dots that are not of live versions
/// of their name are left out. A page of names at a time fits a frame.
#[must_use]
pub fn delta_remove(
    catalog: &Catalog,
    names_and_dots: &[(FileName, Vec<Dot>)],
    fate: Fate,
    mint: &mut dyn FnMut() -> Dot,
) -> Delta {
    let mut delta = Delta::default();
    for (name, dots) in names_and_dots {
        let (dots, trashed) = discard(catalog, name, dots, fate, mint);
        let change = catalog.delta_replace(name, trashed, &dots);
        delta.context.extend(change.context);
        delta.names.extend(change.names);
    }
    delta
}

/// The change by which the removed version `dot` of `name` is live again under its plain name;
/// `None` if the trash has no such version.
#[must_use]
pub fn delta_restore(
    catalog: &Catalog,
    name: &FileName,
    dot: Dot,
    fate: Fate,
    mint: &mut dyn FnMut() -> Dot,
) -> Option<Delta> {
    let removed = catalog.trash().versions(name).iter().find(|version| version.dot == dot)?;
    let version = Version { removed_s: 0, ..removed.clone() };
    Some(shown::delta_put_plain(catalog, name, version, &[dot], fate, mint))
}

/// All removed versions of `name`, each under the name it is listed as and restored by: the one
/// removed last under the plain name, the others with a tag made from their dots.
#[must_use]
pub fn listed<'a>(catalog: &'a Catalog, name: &FileName) -> Vec<(FileName, &'a Version)> {
    let mut versions: Vec<&Version> = catalog.trash().versions(name).iter().collect();
    versions.sort_by_key(|version| std::cmp::Reverse((version.removed_s, version.dot)));
    let names = versions
        .iter()
        .enumerate()
        .map(|(at, version)| if at == 0 { name.clone() } else { tagged(name, &conflict_tag(version.dot)) });
    names.zip(versions.iter().copied()).collect()
}

/// The name and the removed version behind a listed name.
#[must_use]
pub fn resolve<'a>(catalog: &'a Catalog, listed_name: &FileName) -> Option<(FileName, &'a Version)> {
    let of = |real: FileName| {
        let found = listed(catalog, &real).into_iter().find(|(name, _)| name == listed_name)?.1;
        Some((real, found))
    };
    if let Some(found) = of(listed_name.clone()) {
        return Some(found);
    }
    let text = listed_name.as_str();
    let start = text.len() - listed_name.base().len();
    let mut tags = text.match_indices('~').filter(|(at, _)| *at >= start);
    let by_tag = tags.find_map(|(at, _)| {
        let tag = tag_bytes(&text[at..])?;
        of(FileName::parse(&format!("{}{}", &text[..at], &text[at + tag..])).ok()?)
    });
    // The name may have been shortened to make room for the tag.
    by_tag.or_else(|| catalog.trash().names().find_map(|(real, _)| of(real.clone())))
}

/// Removed versions that are to be emptied: those removed before `before_s`, seconds since 1970,
/// and the oldest of those beyond [`TRASH_VERSIONS_MAX`]; at most `names_max` names at a time.
#[must_use]
pub fn to_empty(catalog: &Catalog, before_s: u32, names_max: usize) -> Vec<(FileName, Vec<Dot>)> {
    let trash = catalog.trash();
    let mut before_s = before_s;
    let over = trash.len().saturating_sub(TRASH_VERSIONS_MAX);
    if over > 0 {
        let mut times: Vec<u32> = trash
            .names()
            .flat_map(|(_, versions)| versions.iter().map(|version| version.removed_s))
            .collect();
        let (_, time, _) = times.select_nth_unstable(over - 1);
        before_s = before_s.max(time.saturating_add(1));
    }
    let old = trash.names().filter_map(|(name, versions)| {
        let dots: Vec<Dot> = versions
            .iter()
            .filter(|version| version.removed_s < before_s)
            .map(|version| version.dot)
            .collect();
        (!dots.is_empty()).then(|| (name.clone(), dots))
    });
    old.take(names_max).collect()
}
