//! What a name stands for: names as people see and type them.
//!
//! Versions that were written on two sides of a split live side by side under one name. The one
//! with the greatest dot is shown under the plain name, each other one under a conflict name made
//! from its dot: `a.tar.gz` → `a~1f2e3d4c-17.tar.gz`. A name under which other names lie is a
//! folder, and a file of that name is shown under its conflict name always. An entry for an empty
//! folder is shown under the plain name unless it is not empty; there is never a reason to show two.
//!
//! Invariant: shown names are valid, no two things are shown under one, every file and link that
//! the catalog has is shown, and [`resolve`] takes each shown name back to what it shows. They
//! follow from the catalog alone, so all nodes show the same.

use super::catalog::Catalog;
use super::removed::{self, Fate};
use crate::limits::{NAME_BYTES_MAX, NAME_PART_BYTES_MAX};
use crate::types::{Body, Dot, FileName, Version, Wanted};
use crate::wire::message::Delta;

/// Longest extension that a conflict name keeps whole, in bytes with its dot: beyond it a dot in
/// a name is hardly the start of one.
const EXTENSION_BYTES_MAX: usize = 24;

/// How often another conflict name is tried when somebody has a file of that very name.
const TRIES: u32 = 100;

/// All that `name` stands for, each under the name it is shown as; the plain one first.
#[must_use]
pub fn shown<'a>(catalog: &'a Catalog, name: &FileName) -> Vec<(FileName, &'a Version)> {
    let versions = catalog.versions(name);
    let plain = plain(catalog, name);
    let mut list: Vec<(FileName, &Version)> =
        plain.map(|version| (name.clone(), version)).into_iter().collect();
    for version in versions.iter().rev() {
        if version.body != Body::Folder && plain.is_none_or(|plain| plain.dot != version.dot) {
            list.push((conflict_name(catalog, name, version.dot), version));
        }
    }
    list
}

/// What is shown under the plain name.
#[must_use]
pub fn plain<'a>(catalog: &'a Catalog, name: &FileName) -> Option<&'a Version> {
    let versions = catalog.versions(name);
    let folder = versions.iter().rev().find(|version| version.body == Body::Folder);
    if (folder.is_some() || catalog.conflicts().contains(name)) && catalog.is_folder(name.as_str()) {
        return None;
    }
    folder.or(versions.last())
}

/// The real name and the version behind a shown name; `None` if nothing is shown under it.
#[must_use]
pub fn resolve<'a>(catalog: &'a Catalog, shown_name: &FileName) -> Option<(FileName, &'a Version)> {
    if let Some(version) = plain(catalog, shown_name) {
        return Some((shown_name.clone(), version));
    }
    let text = shown_name.as_str();
    let start = text.len() - shown_name.base().len();
    let mut tagged = false;
    for (at, _) in text.match_indices('~').filter(|(at, _)| *at >= start) {
        let Some(tag) = tag_bytes(&text[at..]) else { continue };
        tagged = true;
        let Ok(real) = FileName::parse(&format!("{}{}", &text[..at], &text[at + tag..])) else { continue };
        if let Some(version) = shown_as(catalog, &real, shown_name) {
            return Some((real, version));
        }
    }
    if !tagged {
        return None;
    }
    // The name may have been shortened to make room for the tag.
    let mut conflicts = catalog.conflicts().iter();
    conflicts.find_map(|real| Some((real.clone(), shown_as(catalog, real, shown_name)?)))
}

/// The version of `real` that is shown as `shown_name`, if it is one in conflict.
fn shown_as<'a>(catalog: &'a Catalog, real: &FileName, shown_name: &FileName) -> Option<&'a Version> {
    if !catalog.conflicts().contains(real) {
        return None;
    }
    shown(catalog, real).into_iter().find(|(name, _)| name == shown_name).map(|(_, version)| version)
}

/// What is in the way of putting `body` under `name`: a folder of the name that is shown as a file
/// or link; the name itself if it is a folder and `body` is none, or if it is shown as a file or
/// link and `body` is a folder. An empty folder is not in the way of a file.
#[must_use]
pub fn obstacle(catalog: &Catalog, name: &FileName, body: &Body) -> Option<FileName> {
    let is_file = |name: &FileName| plain(catalog, name).is_some_and(|version| version.body != Body::Folder);
    let above = name.folders().filter_map(|folder| FileName::parse(folder).ok()).find(is_file);
    above.or_else(|| {
        let taken = if *body == Body::Folder { is_file(name) } else { catalog.is_folder(name.as_str()) };
        taken.then(|| name.clone())
    })
}

/// The dots that leave when the shown `version` of `name` is removed or replaced: its own, and for
/// what is under the plain name those of the empty folders that are hidden behind it.
#[must_use]
pub fn behind(catalog: &Catalog, name: &FileName, version: &Version) -> Vec<Dot> {
    let is_plain = plain(catalog, name).is_some_and(|plain| plain.dot == version.dot);
    catalog
        .versions(name)
        .iter()
        .filter(|other| other.dot == version.dot || (is_plain && other.body == Body::Folder))
        .map(|other| other.dot)
        .collect()
}

/// The change by which `version` becomes what is shown under the plain `name`, in the place of
/// what is shown there now; its `dot` is ignored and minted by `mint`, whose dots must ascend.
///
/// What is replaced meets its `fate`, unless the new version has the same body: then only a date or
/// a count has changed. The dots in `also` go too.
///
/// A version that stays under a conflict name may have a greater dot than the first that `mint`
/// gives, for instances count each for itself. It is then minted anew with a lower dot than the
/// new version's: otherwise a put would not change what a get of the same name gives.
#[must_use]
pub fn delta_put_plain(
    catalog: &Catalog,
    name: &FileName,
    version: Version,
    also: &[Dot],
    fate: Fate,
    mint: &mut dyn FnMut() -> Dot,
) -> Delta {
    let old = plain(catalog, name);
    let gone = old.map_or(Vec::new(), |plain| behind(catalog, name, plain));
    let fate = if old.is_some_and(|old| old.body == version.body) { Fate::Gone } else { fate };
    let mut stays: Vec<&Version> =
        catalog.versions(name).iter().filter(|other| !gone.contains(&other.dot)).collect();
    let (mut replaces, mut versions) = removed::discard(catalog, name, &gone, fate, mint);
    replaces.extend(also);
    let mut dot = mint();
    while let Some(greater) = stays.pop_if(|other| other.dot > dot) {
        replaces.push(greater.dot);
        versions.push(Version { dot, wanted: Wanted::new(greater.wanted.count()), ..greater.clone() });
        dot = mint();
    }
    versions.push(Version { dot, ..version });
    catalog.delta_replace(name, versions, &replaces)
}

/// The name under which the version `dot` of `name` is shown beside the plain one.
fn conflict_name(catalog: &Catalog, name: &FileName, dot: Dot) -> FileName {
    let short = |dot: Dot| (dot.instance.0 & 0xFFFF_FFFF, dot.counter);
    let others = catalog.versions(name).iter().filter(|other| short(other.dot) == short(dot)).count();
    let tag =
        if others > 1 { format!("~{:016x}-{}", dot.instance.0, dot.counter) } else { conflict_tag(dot) };
    let mut conflict = tagged(name, &tag);
    for attempt in 2..TRIES {
        if catalog.versions(&conflict).is_empty() && !catalog.is_folder(conflict.as_str()) {
            break;
        }
        conflict = tagged(name, &format!("{tag}~{attempt}"));
    }
    conflict
}

/// What tells the version `dot` from others of its name.
pub(super) fn conflict_tag(dot: Dot) -> String {
    format!("~{:08x}-{}", dot.instance.0 & 0xFFFF_FFFF, dot.counter)
}

/// `name` with `tag` (short ASCII that starts with `~`) before its extension, shortened as needed.
pub(super) fn tagged(name: &FileName, tag: &str) -> FileName {
    let text = name.as_str();
    let base = name.base();
    let folder = &text[..text.len() - base.len()];
    let (stem, extension) = split_extension(base);
    let room = NAME_PART_BYTES_MAX.min(NAME_BYTES_MAX - folder.len());
    let conflict = if let Some(room) = room.checked_sub(tag.len() + extension.len()) {
        format!("{folder}{}{tag}{extension}", cut(stem, room))
    } else {
        // Deep below long folder names there is no room: the tag takes the place of the end.
        let kept = cut(text, NAME_BYTES_MAX - tag.len());
        let part = kept.len() - kept.rsplit('/').next().map_or(0, str::len);
        format!("{}{}{tag}", &kept[..part], cut(&kept[part..], NAME_PART_BYTES_MAX - tag.len()))
    };
    FileName::parse(&conflict).unwrap_or_else(|_| name.clone())
}

/// Stem and extension of the last part of a name. Dots at its start belong to the stem; `.tar`
/// goes with the extension after it.
fn split_extension(base: &str) -> (&str, &str) {
    let leading = base.len() - base.trim_start_matches('.').len();
    let last = |stem: &str| stem.rfind('.').filter(|at| *at > leading);
    let Some(mut at) = last(base).filter(|at| base.len() - at <= EXTENSION_BYTES_MAX) else {
        return (base, "");
    };
    if let Some(tar) = last(&base[..at]).filter(|tar| base[*tar..at].eq_ignore_ascii_case(".tar")) {
        at = tar;
    }
    base.split_at(at)
}

/// The longest start of `text` of at most `bytes` bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The length of the tag `~<8 or 16 hex digits>-<number>` (and `~<number>`) that `text` starts with.
pub(super) fn tag_bytes(text: &str) -> Option<usize> {
    let digits = |text: &str, radix: u32| text.chars().take_while(|c| c.is_digit(radix)).count();
    let hex = digits(text.strip_prefix('~')?, 16);
    let rest = text.get(1 + hex..)?.strip_prefix('-')?;
    let number = digits(rest, 10);
    if !matches!(hex, 8 | 16) || number == 0 {
        return None;
    }
    let attempt = rest[number..].strip_prefix('~').map_or(0, |rest| digits(rest, 10));
    Some(2 + hex + number + if attempt > 0 { 1 + attempt } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ContentId, InstanceId};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("valid")
    }

    fn dot(instance: u64, counter: u64) -> Dot {
        Dot { counter, instance: InstanceId(instance) }
    }

    fn version(dot: Dot, body: Body) -> Version {
        Version { dot, body, mode: 0o644, modified_ns: 0, wanted: Wanted::new(2), removed_s: 0 }
    }

    fn file(dot: Dot) -> Version {
        version(dot, Body::File { content: ContentId([1; 32]), size: 1 })
    }

    fn catalog(entries: &[(&str, Version)]) -> Catalog {
        let mut catalog = Catalog::new();
        for (text, version) in entries {
            catalog.merge_delta(&catalog.delta_put(&name(text), version.clone(), &[]));
        }
        catalog
    }

    fn texts(catalog: &Catalog, text: &str) -> Vec<String> {
        shown(catalog, &name(text)).into_iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn the_tag_stands_before_the_extension() {
        let tag = "~1f2e3d4c-17";
        for (plain, conflict) in [
            ("a.tar.gz", "a~1f2e3d4c-17.tar.gz"),
            ("d/a.txt", "d/a~1f2e3d4c-17.txt"),
            (".bashrc", ".bashrc~1f2e3d4c-17"),
            (".config.toml", ".config~1f2e3d4c-17.toml"),
            ("Makefile", "Makefile~1f2e3d4c-17"),
            ("v1.2 notes.md", "v1.2 notes~1f2e3d4c-17.md"),
            (".tar.gz", ".tar~1f2e3d4c-17.gz"),
            ("...", "...~1f2e3d4c-17"),
            ("a.", "a~1f2e3d4c-17."),
            ("Dr. No, a long story about it", "Dr. No, a long story about it~1f2e3d4c-17"),
        ] {
            assert_eq!(tagged(&name(plain), tag).as_str(), conflict);
        }
    }

    #[test]
    fn the_greatest_dot_has_the_plain_name() {
        let both = catalog(&[("a.txt", file(dot(0xAB_1F2E_3D4C, 17))), ("a.txt", file(dot(2, 18)))]);
        assert_eq!(texts(&both, "a.txt"), ["a.txt", "a~1f2e3d4c-17.txt"]);
        let resolved = |text| resolve(&both, &name(text)).map(|(real, v)| (real.to_string(), v.dot.counter));
        assert_eq!(resolved("a.txt"), Some(("a.txt".into(), 18)));
        assert_eq!(resolved("a~1f2e3d4c-17.txt"), Some(("a.txt".into(), 17)));
        for nothing in ["a~1f2e3d4c-18.txt", "a~1f2e3d4c-17", "b.txt", "a~00000002-18.txt"] {
            assert_eq!(resolved(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_file_that_is_also_a_folder_has_a_conflict_name() {
        let mixed = catalog(&[("a", file(dot(1, 9))), ("a/b", file(dot(2, 1))), ("a b", file(dot(2, 2)))]);
        assert_eq!(texts(&mixed, "a"), ["a~00000001-9"]);
        assert_eq!(resolve(&mixed, &name("a")), None);
        assert_eq!(resolve(&mixed, &name("a~00000001-9")).map(|(real, _)| real), Some(name("a")));
        // An empty folder that is not empty is not shown; one that is wins over the file.
        let folder = version(dot(3, 1), Body::Folder);
        let full = catalog(&[("a", folder.clone()), ("a/b", file(dot(2, 1)))]);
        assert!(texts(&full, "a").is_empty());
        let empty =
            catalog(&[("a", folder), ("a", file(dot(1, 9))), ("a", version(dot(4, 2), Body::Folder))]);
        assert_eq!(texts(&empty, "a"), ["a", "a~00000001-9"]);
        let shown = plain(&empty, &name("a")).expect("shown");
        assert_eq!(behind(&empty, &name("a"), shown), [dot(3, 1), dot(4, 2)]);
    }

    #[test]
    fn a_conflict_name_that_somebody_uses_is_not_taken() {
        let taken = catalog(&[
            ("a", file(dot(1, 1))),
            ("a", file(dot(2, 2))),
            ("a~00000001-1", file(dot(3, 1))),
            ("a~00000001-1~2/x", file(dot(3, 2))),
        ]);
        assert_eq!(texts(&taken, "a"), ["a", "a~00000001-1~3"]);
        let resolved = resolve(&taken, &name("a~00000001-1~3")).map(|(_, v)| v.dot);
        assert_eq!(resolved, Some(dot(1, 1)));
        assert_eq!(resolve(&taken, &name("a~00000001-1")).map(|(_, v)| v.dot), Some(dot(3, 1)));
    }

    #[test]
    fn a_put_is_in_the_way_of_nothing_but_files_above_and_full_folders() {
        let tree = catalog(&[
            ("file", file(dot(1, 1))),
            ("full/x", file(dot(1, 2))),
            ("empty", version(dot(1, 3), Body::Folder)),
            ("both", file(dot(1, 4))),
            ("both/x", file(dot(1, 5))),
        ]);
        let content = Body::File { content: ContentId([2; 32]), size: 1 };
        let blocked = |text: &str, body: &Body| obstacle(&tree, &name(text), body).map(|n| n.to_string());
        assert_eq!(blocked("file/a/b", &content), Some("file".into()));
        assert_eq!(blocked("full", &content), Some("full".into()));
        assert_eq!(blocked("file", &Body::Folder), Some("file".into()));
        for free in ["file", "filex", "empty", "empty/x", "full/x", "full/y", "both/y"] {
            assert_eq!(blocked(free, &content), None, "{free}");
        }
        assert_eq!(blocked("full", &Body::Folder), None);
    }

    #[test]
    fn a_put_shows_under_the_plain_name_whatever_the_dots_of_others() {
        let mut both = catalog(&[("a", file(dot(1, 90))), ("a", file(dot(2, 70))), ("a", file(dot(3, 50)))]);
        let mut counter = 0;
        let mut mint = || {
            counter += 1;
            dot(9, counter)
        };
        let new = version(dot(0, 0), Body::Symlink { target: "there".into() });
        let delta = delta_put_plain(&both, &name("a"), new, &[], Fate::Trash(5), &mut mint);
        both.merge_delta(&delta);
        assert_eq!(both.versions(&name("a")).len(), 3);
        let plain = plain(&both, &name("a")).expect("shown");
        assert!(plain.body == Body::Symlink { target: "there".into() } && plain.dot == dot(9, 4));
    }

    fn part() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[ab]{1,2}",
            2 => "[ab]{1,2}\\.(txt|tar\\.gz|b)",
            1 => "a~0000000[01]-[12](~2)?",
            1 => "[aé日🦀]{1,60}(\\.é{1,9})?",
            1 => "[ab]{220,255}",
        ]
    }

    proptest! {
        #[test]
        fn shown_names_are_unique_and_resolve_to_what_they_show(
            entries in prop::collection::vec(
                (prop::collection::vec(part(), 1..6), 0_u64..3, prop::bool::weighted(0.2)), 1..24),
        ) {
            let mut catalog = Catalog::new();
            for (at, (parts, instance, folder)) in entries.into_iter().enumerate() {
                let Ok(name) = FileName::parse(&parts.join("/")) else { continue };
                // Instances that are alike in their low 32 bits, and small counters: collisions.
                let dot = dot(instance << 32 | (at as u64 / 12), 1 + at as u64 % 12);
                let body = if folder {
                    Body::Folder
                } else {
                    Body::File { content: ContentId([1; 32]), size: 1 }
                };
                catalog.merge_delta(&catalog.delta_put(&name, version(dot, body), &[]));
            }
            let mut all = BTreeSet::new();
            for (real, versions) in catalog.names_from(None, "") {
                let list = shown(&catalog, real);
                let files = versions.iter().filter(|v| v.body != Body::Folder).count();
                prop_assert_eq!(list.iter().filter(|(_, v)| v.body != Body::Folder).count(), files);
                for (name, version) in list {
                    prop_assert_eq!(FileName::parse(name.as_str()), Ok(name.clone()));
                    prop_assert!(all.insert(name.clone()), "{} is shown twice", name);
                    prop_assert!(!catalog.is_folder(name.as_str()));
                    prop_assert_eq!(resolve(&catalog, &name), Some((real.clone(), version)));
                }
            }
        }

        #[test]
        fn tagged_names_are_valid_however_long(
            folder in prop::collection::vec("[a-zé日🦀]{1,85}", 0..8), base in "[a-zé日🦀.]{1,85}",
            counter in any::<u64>(),
        ) {
            let text = folder.into_iter().chain([base]).collect::<Vec<_>>().join("/");
            if let Ok(name) = FileName::parse(&text) {
                let tag = format!("~{counter:016x}-{counter}~99");
                let conflict = tagged(&name, &tag);
                prop_assert!(conflict.as_str().contains(&tag), "{}", conflict);
            }
        }
    }
}
