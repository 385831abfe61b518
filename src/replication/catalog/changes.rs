//! Deltas: making a change, and merging one.
//!
//! A delta is a little catalog: a store (the versions it carries) and a context (the dots it saw
//! or made). It is merged like one, but only for the names that it mentions. The one danger is a
//! dot in the context that the delta does not carry though it lives: whoever merges it would take
//! it for removed. So a maker lists only the dots of the versions that it replaces or removes and
//! *has*, those of their settings, and the new ones; versions that stay are left out of both.

use super::register::{dots_of, normalise, settings};
use super::{Catalog, Merged, Step};
use crate::limits::{CONTEXT_DOTS_MAX, SETTINGS_PER_VERSION_MAX, VERSIONS_PER_NAME_MAX};
use crate::types::{Dot, FileName, InstanceId, Version, Wanted};
use crate::wire::message::Delta;
use std::collections::{BTreeMap, BTreeSet};

impl Catalog {
    /// The change that gives `name` the `version`, whose dot is new, in the place of those of its
    /// versions, live or removed, whose dots are in `replaces`. Dots that are not of versions of
    /// `name` here are left out: nobody replaces what they have not seen.
    #[must_use]
    pub fn delta_put(&self, name: &FileName, version: Version, replaces: &[Dot]) -> Delta {
        self.delta_replace(name, vec![version], replaces)
    }

    /// As [`Catalog::delta_put`], with any number of new versions of the name, live or removed.
    #[must_use]
    pub fn delta_replace(&self, name: &FileName, mut versions: Vec<Version>, replaces: &[Dot]) -> Delta {
        normalise(&mut versions);
        let mut context = self.dots_seen(name, replaces);
        context.extend(versions.iter().flat_map(dots_of));
        Delta { context: context.into_iter().collect(), names: vec![(name.clone(), versions)] }
    }

    /// The change that sets the wanted count of the version `version_dot` of `name`, in the place
    /// of all settings that it has here. `None` if there is no such version here.
    #[must_use]
    pub fn delta_set_wanted(
        &self,
        name: &FileName,
        version_dot: Dot,
        count: u8,
        new_dot: Dot,
    ) -> Option<Delta> {
        let version = self.versions(name).iter().find(|version| version.dot == version_dot)?;
        let mut context: BTreeSet<Dot> = dots_of(version).collect();
        context.insert(new_dot);
        let wanted =
            Wanted { initial: version.wanted.initial, later: Some(Box::new(vec![(new_dot, count)])) };
        let version = Version { wanted, ..version.clone() };
        Some(Delta { context: context.into_iter().collect(), names: vec![(name.clone(), vec![version])] })
    }

    /// Of `dots` those of versions of `name`, with the dots of their settings.
    fn dots_seen(&self, name: &FileName, dots: &[Dot]) -> BTreeSet<Dot> {
        let all = self.all_versions(name);
        all.iter().filter(|version| dots.contains(&version.dot)).flat_map(dots_of).collect()
    }

    /// Whether a peer's change leaves this catalog one that can be stored, sent and read again.
    /// What does not is nobody's honest change, and is to be ignored: the context is kept for ever,
    /// and a name with all its versions is one record and part of one frame. Runs in `present` are
    /// those of nodes that are here: for them there is room always.
    #[must_use]
    pub fn has_room_for(&self, delta: &Delta, present: &BTreeSet<InstanceId>) -> bool {
        let carried = delta.names.iter().flat_map(|(_, versions)| versions.iter().flat_map(dots_of));
        let seen: BTreeSet<Dot> = delta.context.iter().copied().chain(carried).collect();
        if !self.context_has_room(&seen, seen.iter().map(|dot| dot.instance), present) {
            return false;
        }
        let mut touched: BTreeMap<&FileName, usize> = BTreeMap::new();
        delta.names.iter().all(|(name, versions)| {
            let count = touched.entry(name).or_default();
            *count += versions.len();
            self.fits(name, versions, *count, &|dot| seen.contains(&dot))
        })
    }

    /// Whether the context with these dots, and with these runs, can still be sent.
    pub(super) fn context_has_room(
        &self,
        dots: &BTreeSet<Dot>,
        runs: impl Iterator<Item = InstanceId>,
        present: &BTreeSet<InstanceId>,
    ) -> bool {
        // Those that follow on a prefix become part of it; any other may come to be carried by
        // nothing, and is then sent by itself. Dots ascend by counter.
        let mut reached: BTreeMap<InstanceId, u64> = BTreeMap::new();
        let mut beyond = 0;
        for dot in dots {
            let prefix = reached.entry(dot.instance).or_insert_with(|| self.context.prefix(dot.instance));
            if dot.counter == prefix.saturating_add(1) {
                *prefix = dot.counter;
            } else if dot.counter > *prefix && !self.dead.contains(dot) {
                beyond += 1;
            }
        }
        let room = beyond == 0 || self.dead.len() + beyond <= CONTEXT_DOTS_MAX;
        room && self.context.has_room_for(runs.filter(|instance| !present.contains(instance)))
    }

    /// Whether `name` with `count` versions of theirs, among them `versions`, keeps within bounds.
    pub(super) fn fits(
        &self,
        name: &FileName,
        versions: &[Version],
        count: usize,
        they_saw: &impl Fn(Dot) -> bool,
    ) -> bool {
        let mine = self.all_versions(name);
        let kept = mine.iter().filter(|version| !they_saw(version.dot)).count();
        let settings_fit = versions.iter().all(|version| {
            let same = mine.iter().find(|known| known.dot == version.dot).map_or(&[][..], settings);
            let kept = same.iter().filter(|(dot, _)| !they_saw(*dot)).count();
            kept + settings(version).len() <= SETTINGS_PER_VERSION_MAX
        });
        settings_fit && (versions.is_empty() || kept + count <= VERSIONS_PER_NAME_MAX)
    }

    /// Merges a change, one's own or a peer's. Deltas may come in any order and any number of
    /// times, and some may never come: an exchange ([`Catalog::merge_page`]) makes up for them.
    pub fn merge_delta(&mut self, delta: &Delta) -> Merged {
        let mut touched: BTreeMap<&FileName, Vec<Version>> = BTreeMap::new();
        for (name, versions) in &delta.names {
            touched
                .entry(name)
                .and_modify(|all| all.extend_from_slice(versions))
                .or_insert_with(|| versions.clone());
        }
        let mut carried: Vec<Dot> = Vec::new();
        for versions in touched.values_mut() {
            normalise(versions);
            carried.extend(versions.iter().flat_map(dots_of));
        }
        carried.sort_unstable();
        let mut seen = [delta.context.as_slice(), &carried].concat();
        seen.sort_unstable();
        seen.dedup();

        let mut step = Step::default();
        for (name, theirs) in &touched {
            self.merge_one(name, theirs, &|dot| seen.binary_search(&dot).is_ok(), &mut step);
        }
        self.see(seen.iter().copied(), &mut step);
        if !self.context.extra().is_empty() {
            let all = touched.keys().flat_map(|name| self.all_versions(name).into_owned());
            let live: BTreeSet<Dot> =
                all.flat_map(|version| dots_of(&version).collect::<Vec<Dot>>()).collect();
            step.loose.extend(seen.into_iter().filter(|dot| !live.contains(dot)));
        }
        self.finish(step)
    }
}
