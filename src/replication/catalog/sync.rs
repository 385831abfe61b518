//! The exchange by which a catalog gets what it lacks: digests of buckets of names tell where two
//! catalogs differ, and pages carry all names of those buckets.
//!
//! A page is merged with the sender's whole context as it was at the start of the answer. The dots
//! of what it carries enter my context at once, for what is in the store must be in the context.
//! The rest of the sender's context joins only after the last page: it tells of names of which no
//! page has come yet, and with their dots in my context and not in my store, I would hold that I
//! had removed them, and remove them everywhere.
//!
//! The sender's catalog may change between pages. That is harmless: what it has since got has dots
//! outside the context, and is added or comes another time; what it has since removed is in the
//! context and missing from the page, and is removed here, as it should be. Nor does it harm if
//! mine changes. Names of buckets that were not sent were equal when I asked: everything that
//! lived there had its dot in my context already, so the join says nothing new of it. If meanwhile
//! a third brought me something that the sender had removed, it stays until the next exchange.
//!
//! An exchange that breaks off leaves a valid catalog; the next one starts anew with digests.

use super::register::{dots_of, normalise};
use super::{Catalog, Merged, Step};
use crate::limits::{PAGE_BYTES_TARGET, PAGE_ROWS_MAX, SYNC_BUCKETS};
use crate::replication::context::CausalContext;
use crate::replication::digest;
use crate::types::{Body, Dot, FileName, InstanceId, Version};
use crate::wire::message::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// A page of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSlice {
    /// Names in order, each with all its versions.
    pub names: Vec<(FileName, Vec<Version>)>,
    /// Whether nothing comes after them.
    pub last: bool,
}

/// The receiving side of one exchange.
#[derive(Clone, Debug)]
pub struct SyncIn {
    context: CausalContext,
    buckets: BTreeSet<u16>,
    present: BTreeSet<InstanceId>,
    after: Option<FileName>,
    finished: bool,
}

/// Why a page was refused; nothing of it was merged and the exchange is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// Names do not ascend, within the page or from the page before.
    #[error("a page of a catalog with {0} out of order")]
    Unordered(FileName),
    /// A name that is not in the buckets of the exchange.
    #[error("a page of a catalog with {0}, which belongs to no bucket of the exchange")]
    Foreign(FileName),
    /// No versions, or a dot with counter 0 or twice.
    #[error("a page of a catalog with invalid versions of {0}")]
    Invalid(FileName),
    /// An empty page that is not the last.
    #[error("a page of a catalog without names before the last page")]
    Empty,
    /// More versions, settings, runs or dots than are ever sent, stored and read again.
    #[error("a page that would take the catalog beyond its bounds")]
    TooMany,
    /// A page after the last.
    #[error("a page of a catalog after the last one")]
    Finished,
}

impl SyncIn {
    /// An exchange in which the sender, whose context at its start was `context` (see
    /// [`Catalog::context_to_send`]), sends all names of `buckets`. They must be those that differed from digests that this catalog gave since it
    /// was loaded.
    #[must_use]
    pub fn begin(context: CausalContext, buckets: impl IntoIterator<Item = u16>) -> SyncIn {
        let (buckets, present) = (buckets.into_iter().collect(), BTreeSet::new());
        SyncIn { context, buckets, present, after: None, finished: false }
    }

    /// The runs of the nodes that are here, see [`Catalog::has_room_for`].
    #[must_use]
    pub fn with_present(self, present: BTreeSet<InstanceId>) -> SyncIn {
        SyncIn { present, ..self }
    }

    /// Whether the last page was merged.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn check(&self, names: &[(FileName, Vec<Version>)], last: bool) -> Result<(), SyncError> {
        if self.finished {
            return Err(SyncError::Finished);
        }
        if names.is_empty() && !last {
            return Err(SyncError::Empty);
        }
        let mut before = self.after.as_ref();
        for (name, versions) in names {
            if before.is_some_and(|before| before >= name) {
                return Err(SyncError::Unordered(name.clone()));
            }
            if !self.buckets.contains(&digest::bucket_of(digest::of_name(name))) {
                return Err(SyncError::Foreign(name.clone()));
            }
            let ascending = versions.is_sorted_by(|a, b| a.dot < b.dot);
            if versions.is_empty() || !ascending || versions[0].dot.counter == 0 {
                return Err(SyncError::Invalid(name.clone()));
            }
            before = Some(name);
        }
        Ok(())
    }
}

impl Catalog {
    /// A digest of each of the [`SYNC_BUCKETS`] buckets of names.
    #[must_use]
    pub fn buckets(&self) -> Vec<u64> {
        self.buckets.clone()
    }

    /// The buckets in which a catalog with these digests differs from this one; all of them if
    /// there are not as many digests as buckets.
    #[must_use]
    pub fn differing(&self, theirs: &[u64]) -> Vec<u16> {
        let same_number = theirs.len() == SYNC_BUCKETS;
        (0..SYNC_BUCKETS)
            .filter(|at| !same_number || theirs[*at] != self.buckets[*at])
            .filter_map(|at| u16::try_from(at).ok())
            .collect()
    }

    /// The context to send with the first page, taken when the answer starts. It leaves out dots
    /// beyond the prefixes that the store carries: the receiver has them already, or gets them with
    /// their names, or they go before their page and it asks again. So a catalog in the middle of
    /// its own first exchange does not send a million dots.
    #[must_use]
    pub fn context_to_send(&self) -> Context {
        Context { prefixes: self.context.prefixes().collect(), extra: self.dead.iter().copied().collect() }
    }

    /// The next page of an answer: names of `buckets` after `after`, at most [`PAGE_ROWS_MAX`] of
    /// them and about [`PAGE_BYTES_TARGET`] bytes.
    #[must_use]
    pub fn sync_page(&self, buckets: &BTreeSet<u16>, after: Option<&FileName>) -> SyncSlice {
        self.slice(buckets, after, PAGE_ROWS_MAX, PAGE_BYTES_TARGET)
    }

    pub(super) fn slice(
        &self,
        buckets: &BTreeSet<u16>,
        after: Option<&FileName>,
        rows_max: usize,
        bytes_target: usize,
    ) -> SyncSlice {
        let mut names: Vec<(FileName, Vec<Version>)> = Vec::new();
        let mut bytes = 0;
        let lower = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
        for name in self.all_names(lower, Bound::Unbounded) {
            if !buckets.contains(&digest::bucket_of(digest::of_name(name))) {
                continue;
            }
            let versions = self.all_versions(name);
            let more = entry_bytes(name, &versions);
            if names.len() >= rows_max || (!names.is_empty() && bytes + more > bytes_target) {
                return SyncSlice { names, last: false };
            }
            bytes += more;
            names.push((name.clone(), versions.into_owned()));
        }
        SyncSlice { names, last: true }
    }

    /// Merges a page. It covers all names of the exchange's buckets after those of the page before
    /// up to its own last one, or all that are left if it is the last.
    ///
    /// # Errors
    /// When names are out of order, not of the buckets, or have invalid versions. Then nothing of
    /// the page was merged.
    pub fn merge_page(
        &mut self,
        sync: &mut SyncIn,
        names: Vec<(FileName, Vec<Version>)>,
        last: bool,
    ) -> Result<Merged, SyncError> {
        sync.check(&names, last)?;
        self.check_room(sync, &names)?;
        let lower = sync.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let upper = match names.last() {
            Some((name, _)) if !last => Bound::Included(name.clone()),
            _ => Bound::Unbounded,
        };
        let after = names.last().map(|(name, _)| name.clone());
        let theirs: BTreeMap<FileName, Vec<Version>> = names.into_iter().collect();
        let gone: Vec<FileName> = self
            .all_names(lower, upper)
            .filter(|name| !theirs.contains_key(name))
            .filter(|name| sync.buckets.contains(&digest::bucket_of(digest::of_name(name))))
            .filter(|name| self.all_versions(name).iter().any(|version| sync.context.contains(version.dot)))
            .cloned()
            .collect();

        let they_saw = |dot: Dot| sync.context.contains(dot);
        let mut step = Step::default();
        for name in gone {
            self.merge_one(&name, &[], &they_saw, &mut step);
        }
        for (name, mut versions) in theirs {
            normalise(&mut versions);
            self.merge_one(&name, &versions, &they_saw, &mut step);
            let live: Vec<Dot> = self.all_versions(&name).iter().flat_map(dots_of).collect();
            self.see(live, &mut step);
        }
        if last {
            self.join(&sync.context, &mut step);
            sync.finished = true;
        }
        sync.after = after.or(sync.after.take());
        Ok(self.finish(step))
    }

    /// Refuses what an honest peer's catalog cannot have: see [`Catalog::has_room_for`].
    fn check_room(&self, sync: &SyncIn, names: &[(FileName, Vec<Version>)]) -> Result<(), SyncError> {
        let they_saw = |dot: Dot| sync.context.contains(dot);
        let fit = names.iter().all(|(name, versions)| self.fits(name, versions, versions.len(), &they_saw));
        let carried = names.iter().flat_map(|(_, versions)| versions.iter().flat_map(dots_of));
        let runs = sync.context.prefixes().map(|(instance, _)| instance);
        let runs = runs.chain(sync.context.extra().iter().map(|dot| dot.instance));
        let runs = runs.chain(carried.map(|dot| dot.instance));
        let room = self.context_has_room(sync.context.extra(), runs, &sync.present);
        if fit && room { Ok(()) } else { Err(SyncError::TooMany) }
    }

    /// Takes a whole context into mine.
    fn join(&mut self, context: &CausalContext, step: &mut Step) {
        let before = self.context.digest();
        for (instance, counter) in context.prefixes() {
            let mine = self.context.prefix(instance);
            if mine < counter {
                step.prefixes.entry(instance).or_insert(mine);
            }
        }
        for dot in context.extra().iter().filter(|dot| !self.context.contains(**dot)) {
            step.prefixes.entry(dot.instance).or_insert(self.context.prefix(dot.instance));
            step.loose.push(*dot);
        }
        self.context.join(context);
        step.merged.changed |= self.context.digest() != before;
    }
}

/// At most how many bytes an entry has in a frame: for each field the most its encoding takes.
fn entry_bytes(name: &FileName, versions: &[Version]) -> usize {
    let of = |version: &Version| {
        let body = match &version.body {
            Body::File { .. } => 42,
            Body::Symlink { target } => 4 + target.len(),
            Body::Folder => 1,
        };
        45 + body + 20 * version.wanted.later.as_ref().map_or(0, |settings| settings.len())
    };
    5 + name.as_str().len() + versions.iter().map(of).sum::<usize>()
}
