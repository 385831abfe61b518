//! The catalog: which versions each name has. A causal CRDT.
//!
//! Every version, and every later setting of its wanted count, has a dot that was minted once,
//! ever. A catalog keeps the dots it has seen (its [`CausalContext`]), so of two catalogs each can
//! tell for something that only the other has whether it is new or was removed here: a removal
//! needs no tombstone and never expires. Merging is commutative, associative and idempotent.
//!
//! | file | what it is |
//! |---|---|
//! | `mod` | the state, reading it, putting a merge into it |
//! | `register` | the merge of one name |
//! | `changes` | making deltas and merging them |
//! | `sync` | two catalogs find and send what differs |
//! | `contents` | which contents are named, and how often |
//! | `trash` | removed versions, apart from those that are live |
//!
//! Invariants: the dot of everything in the store is in the context; versions ascend by dot and no
//! name is without one; digests, content index and conflict set are what a scan would give.
//!
//! What is durable: names with all their versions, prefixes, and of the dots beyond the prefixes
//! those that nothing in the store carries. The others come back with the store in
//! [`Catalog::load`], so that a first exchange of a million names does not write a million dots
//! anew with each page.

mod changes;
mod contents;
mod register;
mod sync;
#[cfg(test)]
mod tests;
mod trash;

pub use contents::ContentRefs;
pub use sync::{SyncError, SyncIn, SyncSlice};
pub use trash::{Trash, TrashRefs};

use super::context::CausalContext;
use super::digest;
use crate::limits::SYNC_BUCKETS;
use crate::types::{Body, ContentId, DenseMap, Dot, FileName, InstanceId, Version};
use crate::wire::record::CatalogWrite;
use contents::Contents;
use register::{NameMerge, dots_of, merge_name, normalise};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// All versions of all names, and all dots seen. Some 250 bytes an entry.
#[derive(Clone, Debug)]
pub struct Catalog {
    names: DenseMap<FileName, Box<[Version]>>,
    context: CausalContext,
    /// Of the dots beyond the prefixes those that nothing in the store carries (and now and then
    /// one more): what [`CatalogWrite::Extra`] persists.
    dead: BTreeSet<Dot>,
    contents: Contents,
    trash: Trash,
    /// Names with several versions, and names of a file or link that other names lie under.
    conflicts: BTreeSet<FileName>,
    /// How often a name came into that set or left it.
    conflicts_changed: u64,
    /// Wrapping sums of the hashes of the names in each bucket.
    buckets: Vec<u64>,
    /// Wrapping sum of the buckets.
    store_digest: u64,
}

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// What must be persisted, in one commit.
    pub writes: Vec<CatalogWrite>,
    /// Contents whose wanted count, or whether anything names them (live or in the trash), may have
    /// changed.
    pub contents: BTreeSet<ContentId>,
    /// Whether store or context changed at all.
    pub changed: bool,
}

/// Why stored entries make no catalog.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A name came twice.
    #[error("the stored catalog has {0} twice")]
    Twice(FileName),
    /// A name came without versions, or a dot has counter 0 or comes twice in a name.
    #[error("the stored catalog has invalid versions of {0}")]
    Invalid(FileName),
}

/// A merge under way: what it did so far.
#[derive(Default)]
struct Step {
    merged: Merged,
    /// Dots that may have no carrier in the store now.
    loose: Vec<Dot>,
    /// Prefixes before, of the instances whose dots came in.
    prefixes: BTreeMap<InstanceId, u64>,
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog::new()
    }
}

impl Catalog {
    /// The catalog that has seen nothing.
    #[must_use]
    pub fn new() -> Catalog {
        Catalog {
            names: DenseMap::new(),
            context: CausalContext::new(),
            dead: BTreeSet::new(),
            contents: Contents::default(),
            trash: Trash::default(),
            conflicts: BTreeSet::new(),
            conflicts_changed: 0,
            buckets: vec![0; SYNC_BUCKETS],
            store_digest: 0,
        }
    }

    /// The catalog as it was persisted. Cheapest when the names come in order.
    ///
    /// # Errors
    /// When the entries are not ones that [`CatalogWrite`]s can have left.
    pub fn load(
        context: CausalContext,
        names: impl IntoIterator<Item = (FileName, Vec<Version>)>,
    ) -> Result<Catalog, LoadError> {
        let mut catalog = Catalog::new();
        catalog.dead.clone_from(context.extra());
        catalog.context = context;
        let mut entries: Vec<(FileName, Box<[Version]>)> = Vec::new();
        for (name, mut versions) in names {
            let count = versions.len();
            normalise(&mut versions);
            if count == 0 || versions.len() != count {
                return Err(LoadError::Invalid(name));
            }
            for dot in versions.iter().flat_map(dots_of) {
                catalog.context.insert(dot);
                catalog.dead.remove(&dot);
            }
            let name_hash = digest::of_name(&name);
            catalog.count(name_hash, 0, digest::of_versions(name_hash, &versions));
            let (live, removed) = parted(versions);
            if !removed.is_empty() && !catalog.trash.replace(&name, removed).is_empty() {
                return Err(LoadError::Twice(name));
            }
            if !live.is_empty() {
                entries.push((name, live.into_boxed_slice()));
            }
        }
        if !entries.is_sorted_by(|a, b| a.0 <= b.0) {
            entries.sort_by(|a, b| a.0.cmp(&b.0));
        }
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(LoadError::Twice(twice[0].0.clone()));
        }
        // Earlier names that the present one starts with: those that may be folders of it.
        let mut starts: Vec<usize> = Vec::new();
        for (at, (name, versions)) in entries.iter().enumerate() {
            versions.iter().for_each(|version| catalog.contents.add(version));
            if versions.len() > 1 {
                catalog.conflicts.insert(name.clone());
            }
            while starts.pop_if(|start| !name.as_str().starts_with(entries[*start].0.as_str())).is_some() {}
            for (folder, versions) in starts.iter().map(|start| &entries[*start]) {
                if name.is_under(folder.as_str()) && versions.iter().any(is_file) {
                    catalog.conflicts.insert(folder.clone());
                }
            }
            starts.push(at);
        }
        let context = &catalog.context;
        catalog.dead.retain(|dot| context.extra().contains(dot));
        catalog.names = entries.into_iter().collect();
        Ok(catalog)
    }

    /// The live versions of `name`, ascending by dot; empty if there is no such name.
    #[must_use]
    pub fn versions(&self, name: &FileName) -> &[Version] {
        self.names.get(name).map_or(&[], |versions| versions)
    }

    /// The removed versions of all names.
    #[must_use]
    pub fn trash(&self) -> &Trash {
        &self.trash
    }

    /// All versions of `name`, live and removed, ascending by dot.
    pub(super) fn all_versions(&self, name: &FileName) -> Cow<'_, [Version]> {
        let (live, removed) = (self.versions(name), self.trash.versions(name));
        if removed.is_empty() {
            return Cow::Borrowed(live);
        }
        let mut all = [live, removed].concat();
        all.sort_by_key(|version| version.dot);
        Cow::Owned(all)
    }

    /// Names in a range, live or in the trash, in order.
    pub(super) fn all_names<'a>(
        &'a self,
        lower: Bound<FileName>,
        upper: Bound<FileName>,
    ) -> impl Iterator<Item = &'a FileName> + use<'a> {
        let removed = self.trash.names.range((lower.clone(), upper.clone()));
        let mut removed = removed.map(|(name, _)| name).peekable();
        let mut live = self.names.range((lower, upper)).map(|(name, _)| name).peekable();
        std::iter::from_fn(move || match (live.peek(), removed.peek()) {
            (Some(a), Some(b)) if a == b => {
                removed.next();
                live.next()
            }
            (Some(a), Some(b)) if a > b => removed.next(),
            (Some(_), _) => live.next(),
            (None, _) => removed.next(),
        })
    }

    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Names that start with the characters `prefix` and come after `after`, in order, with their
    /// versions. An empty prefix is that of all.
    pub fn names_from<'a>(
        &'a self,
        after: Option<&FileName>,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a FileName, &'a [Version])> + use<'a> {
        let lower = match (first_with(prefix), after) {
            (Some(first), Some(after)) if *after >= first => Bound::Excluded(after.clone()),
            (Some(first), _) => Bound::Included(first),
            (None, Some(after)) => Bound::Excluded(after.clone()),
            (None, None) => Bound::Unbounded,
        };
        self.names
            .range((lower, Bound::Unbounded))
            .take_while(move |(name, _)| name.as_str().starts_with(prefix))
            .map(|(name, versions)| (name, &**versions))
    }

    /// Whether a name lies strictly under `folder`; everything lies under the empty one.
    #[must_use]
    pub fn is_folder(&self, folder: &str) -> bool {
        let folder = folder.strip_suffix('/').unwrap_or(folder);
        if folder.is_empty() {
            return !self.names.is_empty();
        }
        let prefix = format!("{folder}/");
        first_with(&prefix).is_some_and(|first| {
            self.names.range(first..).next().is_some_and(|(name, _)| name.as_str().starts_with(&prefix))
        })
    }

    /// Names with several versions, and names of a file or link that other names lie under: those
    /// of which something is shown under a conflict name. In order.
    #[must_use]
    pub fn conflicts(&self) -> &BTreeSet<FileName> {
        &self.conflicts
    }

    /// How often a name became one of [`Catalog::conflicts`], or ceased to be one.
    #[must_use]
    pub fn conflicts_changed(&self) -> u64 {
        self.conflicts_changed
    }

    /// All dots seen.
    #[must_use]
    pub fn context(&self) -> &CausalContext {
        &self.context
    }

    /// A number that two catalogs share exactly if they are equal, context included (up to a
    /// collision of 64 bits), in constant time.
    #[must_use]
    pub fn digest(&self) -> u64 {
        digest::of_catalog(self.context.digest(), self.store_digest)
    }

    /// What the catalog says of `content`; `None` if no live version names it.
    #[must_use]
    pub fn content(&self, content: &ContentId) -> Option<&ContentRefs> {
        self.contents.get(content)
    }

    /// Whether any version names `content`, live or in the trash.
    #[must_use]
    pub fn names_content(&self, content: &ContentId) -> bool {
        self.content(content).is_some() || self.trash.content(content).is_some()
    }

    /// All contents that live versions name, in order.
    pub fn contents(&self) -> impl Iterator<Item = (&ContentId, &ContentRefs)> {
        self.contents.iter_after(None)
    }

    /// The contents after `after`, in order: to go through all of them in steps.
    pub fn contents_after(
        &self,
        after: Option<&ContentId>,
    ) -> impl Iterator<Item = (&ContentId, &ContentRefs)> {
        self.contents.iter_after(after)
    }

    /// How many contents live versions name.
    #[must_use]
    pub fn contents_len(&self) -> usize {
        self.contents.len()
    }

    /// Bytes of all contents, each counted once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.contents.bytes()
    }

    /// Merges what a peer has of one name into the store; the context is left for later.
    fn merge_one(
        &mut self,
        name: &FileName,
        theirs: &[Version],
        they_saw: &impl Fn(Dot) -> bool,
        step: &mut Step,
    ) {
        let mine = self.all_versions(name);
        if *mine == *theirs {
            return;
        }
        let context = &self.context;
        let NameMerge { versions, changed, dropped } =
            merge_name(&mine, theirs, &|dot| context.contains(dot), they_saw);
        if changed {
            step.loose.extend(dropped);
            self.replace(name, versions, &mut step.merged);
        }
    }

    /// Puts the versions of one name in the place of those before, and everything that follows
    /// from them.
    fn replace(&mut self, name: &FileName, after: Vec<Version>, merged: &mut Merged) {
        merged.changed = true;
        merged.writes.push(CatalogWrite::Name { name: name.clone(), versions: after.clone() });
        let name_hash = digest::of_name(name);
        let (after, removed) = parted(after);
        self.replace_removed(name, name_hash, removed, merged);
        for version in &after {
            self.contents.add(version);
        }
        let after_hash = digest::of_versions(name_hash, &after);
        let (count, live, file) = (after.len(), !after.is_empty(), after.iter().any(is_file));
        let before: Vec<Version> = if !live {
            self.names.remove(name)
        } else if let Some(versions) = self.names.get_mut(name) {
            Some(std::mem::replace(versions, after.into_boxed_slice()))
        } else {
            self.names.insert(name.clone(), after.into_boxed_slice())
        }
        .map_or(Vec::new(), Vec::from);
        self.count(name_hash, digest::of_versions(name_hash, &before), after_hash);
        let was_live = !before.is_empty();

        let now = self.names.get(name).map_or(&[] as &[Version], |versions| versions);
        let same = |a: &Version, b: &Version| a.dot == b.dot && a.wanted.count() == b.wanted.count();
        let came = now.iter().filter(|version| !before.iter().any(|other| same(version, other)));
        let went = before.iter().filter(|version| !now.iter().any(|other| same(version, other)));
        merged.contents.extend(came.chain(went).filter_map(|version| Some(version.body.content()?.0)));
        for version in before {
            self.contents.remove(&version);
        }

        let is_conflict = count > 1 || (file && self.is_folder(name.as_str()));
        self.set_conflict(name, is_conflict);
        if live != was_live {
            self.recheck_folders(name);
        }
    }

    /// As [`Catalog::replace`], for the versions in the trash.
    fn replace_removed(&mut self, name: &FileName, name_hash: u64, after: Vec<Version>, merged: &mut Merged) {
        if after.is_empty() && self.trash.versions(name).is_empty() {
            return;
        }
        let contents: Vec<ContentId> =
            after.iter().filter_map(|version| Some(version.body.content()?.0)).collect();
        let after_hash = digest::of_versions(name_hash, &after);
        let before = self.trash.replace(name, after);
        self.count(name_hash, digest::of_versions(name_hash, &before), after_hash);
        merged.contents.extend(contents);
        merged.contents.extend(before.iter().filter_map(|version| Some(version.body.content()?.0)));
    }

    /// A name came or went: the folders that it lies in may have become conflicts, or none.
    fn recheck_folders(&mut self, name: &FileName) {
        for folder in name.folders() {
            let Ok(folder) = FileName::parse(folder) else { continue };
            let versions = self.versions(&folder);
            if versions.iter().any(is_file) {
                let is_conflict = versions.len() > 1 || self.is_folder(folder.as_str());
                self.set_conflict(&folder, is_conflict);
            }
        }
    }

    fn set_conflict(&mut self, name: &FileName, is_conflict: bool) {
        let changed =
            if is_conflict { self.conflicts.insert(name.clone()) } else { self.conflicts.remove(name) };
        self.conflicts_changed += u64::from(changed);
    }

    fn count(&mut self, name_hash: u64, before: u64, after: u64) {
        let change = after.wrapping_sub(before);
        let bucket = &mut self.buckets[usize::from(digest::bucket_of(name_hash))];
        *bucket = bucket.wrapping_add(change);
        self.store_digest = self.store_digest.wrapping_add(change);
    }

    /// Takes dots into the context.
    fn see(&mut self, dots: impl IntoIterator<Item = Dot>, step: &mut Step) {
        for dot in dots {
            let prefix = self.context.prefix(dot.instance);
            if self.context.insert(dot) {
                step.prefixes.entry(dot.instance).or_insert(prefix);
                step.merged.changed = true;
            }
        }
    }

    /// Ends a merge: what of the context must be persisted.
    fn finish(&mut self, step: Step) -> Merged {
        let Step { mut merged, loose, prefixes } = step;
        let mut dead_changed = false;
        let extra = self.context.extra();
        for dot in loose {
            dead_changed |= extra.contains(&dot) && self.dead.insert(dot);
        }
        let mut raised = false;
        for (instance, before) in prefixes {
            let counter = self.context.prefix(instance);
            if counter != before {
                raised = true;
                merged.writes.push(CatalogWrite::Prefix { instance, counter });
            }
        }
        if raised && !self.dead.is_empty() {
            let before = self.dead.len();
            self.dead.retain(|dot| extra.contains(dot));
            dead_changed |= self.dead.len() != before;
        }
        if dead_changed {
            merged.writes.push(CatalogWrite::Extra { dots: self.dead.iter().copied().collect() });
        }
        merged
    }
}

/// Those that are live, and those in the trash. Both are kept for long, and what is cut off a vector
/// that had room for more lies waste beside it: so neither has.
fn parted(mut versions: Vec<Version>) -> (Vec<Version>, Vec<Version>) {
    let count = versions.iter().filter(|version| !version.is_live()).count();
    let mut removed = Vec::with_capacity(count);
    if count > 0 {
        removed.extend(versions.extract_if(.., |version| !version.is_live()));
    }
    (versions, removed)
}

/// A file or a symbolic link: what cannot have other names under it.
fn is_file(version: &Version) -> bool {
    version.body != Body::Folder
}

/// A lower bound of all names that start with `prefix`; `None` if there can be none (or if all do).
/// A name cannot end with `/` or `/..`; of those that go on after it the least goes on with a
/// space, for lower characters are refused.
fn first_with(prefix: &str) -> Option<FileName> {
    FileName::parse(prefix).or_else(|_| FileName::parse(&format!("{prefix} "))).ok()
}
