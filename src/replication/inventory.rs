//! Where copies are: what the holders reported to the proxy in its term.
//!
//! Invariant: a copy is listed only because its holder said so, in its present run and of its
//! present disk; whatever the holder said before a restart or a change of disk is void. It is in
//! no catalog, so it cannot go stale: a new proxy asks anew.

use super::holder_sets::{HolderSets, SetId, Slot};
use crate::types::{ContentId, ContentMap, DiskId, InstanceId, NodeId};
use std::collections::BTreeMap;
use std::ops::Bound;

/// What one node has reported so far.
#[derive(Clone, Debug)]
struct Report {
    node: NodeId,
    instance: InstanceId,
    disk: DiskId,
    next_page: u32,
    /// The last content of the pages so far.
    covered: Option<ContentId>,
    complete: bool,
    count: u64,
    digest: u64,
}

/// What a content adds to the digest of an inventory: see `Presence::inventory_digest`.
#[must_use]
pub fn content_digest(content: &ContentId) -> u64 {
    content.0.iter().take(8).rev().fold(0, |digest, byte| digest << 8 | u64::from(*byte))
}

/// All that was reported.
#[derive(Clone, Debug, Default)]
pub struct Inventories {
    reports: Vec<Report>,
    slots: BTreeMap<NodeId, Slot>,
    holders: ContentMap<SetId>,
    sets: HolderSets,
}

impl Inventories {
    /// Takes in a page of a full inventory. Contents ascend, from page to page too, so each page
    /// replaces what was reported between the last content of the one before and its own: a node
    /// that reports again is never without what it holds. Gives the contents that it adds, or `None`
    /// when a page was missed and the inventory must be asked for anew.
    pub fn page(
        &mut self,
        (node, instance, disk): (NodeId, InstanceId, DiskId),
        page: u32,
        contents: &[ContentId],
        last: bool,
    ) -> Option<Vec<ContentId>> {
        let slot = self.slot(node);
        if page == 0 {
            let report = self.reports.get(usize::from(slot))?;
            if report.instance != instance || report.disk != disk {
                self.void(node);
            }
            let report = self.reports.get_mut(usize::from(slot))?;
            (report.instance, report.disk) = (instance, disk);
            (report.next_page, report.covered, report.complete) = (0, None, false);
        }
        let report = self.reports.get_mut(usize::from(slot))?;
        let follows =
            report.covered.is_none_or(|covered| contents.first().is_none_or(|first| covered < *first));
        let ordered = follows && contents.is_sorted_by(|a, b| a < b);
        if report.next_page != page
            || report.instance != instance
            || report.disk != disk
            || report.complete
            || !ordered
        {
            return None;
        }
        let from = report.covered.map_or(Bound::Unbounded, Bound::Excluded);
        report.covered = contents.last().copied().or(report.covered);
        let to =
            if last { Bound::Unbounded } else { report.covered.map_or(Bound::Unbounded, Bound::Included) };
        report.next_page += 1;
        report.complete = last;
        if last || !contents.is_empty() {
            let reported = self.holders.range::<ContentId, _>((from, to));
            let gone = reported.filter(|(content, set)| {
                self.sets.slots(**set).contains(&slot) && contents.binary_search(content).is_err()
            });
            let gone: Vec<ContentId> = gone.map(|(content, _)| *content).collect();
            for content in gone {
                self.erase(content, slot);
            }
        }
        Some(contents.iter().copied().filter(|content| self.insert(*content, slot)).collect())
    }

    /// Takes in a change. `None` when the node has not sent its full inventory in this run: what
    /// it says now would stand on nothing.
    pub fn change(
        &mut self,
        (node, instance, disk): (NodeId, InstanceId, DiskId),
        added: &[ContentId],
        removed: &[ContentId],
    ) -> Option<Vec<ContentId>> {
        let slot = *self.slots.get(&node)?;
        let report = self.reports.get(usize::from(slot))?;
        if report.instance != instance || report.disk != disk {
            return None;
        }
        let mut changed: Vec<ContentId> =
            removed.iter().copied().filter(|content| self.erase(*content, slot)).collect();
        changed.extend(added.iter().filter(|content| self.insert(**content, slot)));
        Some(changed)
    }

    /// A holder said so in passing (with a commit): the same as a change of one content.
    pub fn confirm(&mut self, node: NodeId, content: ContentId) -> bool {
        match self.slots.get(&node) {
            Some(slot) => {
                let slot = *slot;
                self.insert(content, slot)
            }
            None => false,
        }
    }

    /// Forgets all that `node` reported (it restarted, or its disk was replaced). Whether that was
    /// anything.
    pub fn void(&mut self, node: NodeId) -> bool {
        let Some(slot) = self.slots.get(&node).copied() else {
            return false;
        };
        let Some(report) = self.reports.get_mut(usize::from(slot)) else {
            return false;
        };
        let known = report.count > 0;
        report.complete = false;
        report.next_page = 0;
        (report.count, report.digest) = (0, 0);
        if known {
            self.sets.forget(slot);
            let sets = &mut self.sets;
            self.holders.retain(|_, set| {
                let held = !sets.slots(*set).is_empty();
                if !held {
                    sets.release(*set);
                }
                held
            });
        }
        known
    }

    /// Whether `node` has sent all of its inventory in run `instance`.
    #[must_use]
    pub fn is_complete(&self, node: NodeId, instance: InstanceId) -> bool {
        self.slots
            .get(&node)
            .and_then(|slot| self.reports.get(usize::from(*slot)))
            .is_some_and(|report| report.complete && report.instance == instance)
    }

    /// Whether `node` is in the midst of sending it.
    #[must_use]
    pub fn is_under_way(&self, node: NodeId, instance: InstanceId) -> bool {
        self.slots
            .get(&node)
            .and_then(|slot| self.reports.get(usize::from(*slot)))
            .is_some_and(|report| !report.complete && report.next_page > 0 && report.instance == instance)
    }

    /// How many contents `node` holds by what it reported, and their digest.
    #[must_use]
    pub fn tally(&self, node: NodeId) -> (u64, u64) {
        let report = self.slots.get(&node).and_then(|slot| self.reports.get(usize::from(*slot)));
        report.map_or((0, 0), |report| (report.count, report.digest))
    }

    /// Who holds `content`.
    pub fn holders(&self, content: &ContentId) -> impl Iterator<Item = NodeId> + '_ {
        let slots = self.holders.get(content).map(|set| self.sets.slots(*set)).unwrap_or_default();
        slots.iter().filter_map(|slot| self.reports.get(usize::from(*slot)).map(|report| report.node))
    }

    fn slot(&mut self, node: NodeId) -> Slot {
        if let Some(slot) = self.slots.get(&node) {
            return *slot;
        }
        let slot = Slot::try_from(self.reports.len()).unwrap_or(Slot::MAX);
        self.reports.push(Report {
            node,
            instance: InstanceId::default(),
            disk: DiskId::default(),
            next_page: 0,
            covered: None,
            complete: false,
            count: 0,
            digest: 0,
        });
        self.slots.insert(node, slot);
        slot
    }

    fn insert(&mut self, content: ContentId, slot: Slot) -> bool {
        let known = self.holders.get_mut(&content);
        let Some(set) = self.sets.with(known.as_deref().copied(), slot) else {
            return false;
        };
        match known {
            Some(known) => *known = set,
            None => {
                self.holders.insert(content, set);
            }
        }
        if let Some(report) = self.reports.get_mut(usize::from(slot)) {
            report.count += 1;
            report.digest = report.digest.wrapping_add(content_digest(&content));
        }
        true
    }

    fn erase(&mut self, content: ContentId, slot: Slot) -> bool {
        let Some(known) = self.holders.get_mut(&content) else {
            return false;
        };
        let Some(set) = self.sets.without(*known, slot) else {
            return false;
        };
        *known = set;
        if self.sets.slots(set).is_empty() {
            self.sets.release(set);
            self.holders.remove(&content);
        }
        if let Some(report) = self.reports.get_mut(usize::from(slot)) {
            report.count -= 1;
            report.digest = report.digest.wrapping_sub(content_digest(&content));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn content(n: u8) -> ContentId {
        ContentId([n; 32])
    }

    fn source(n: u8) -> (NodeId, InstanceId, DiskId) {
        (NodeId([n; 16]), InstanceId(u64::from(n)), DiskId([n; 16]))
    }

    #[test]
    fn a_restart_voids_what_was_reported_before() {
        let mut all = Inventories::default();
        assert_eq!(all.page(source(1), 0, &[content(1), content(2)], true).map(|c| c.len()), Some(2));
        assert!(all.is_complete(NodeId([1; 16]), InstanceId(1)));
        assert!(!all.is_complete(NodeId([1; 16]), InstanceId(2)));
        let restarted = (NodeId([1; 16]), InstanceId(2), DiskId([1; 16]));
        assert_eq!(all.change(restarted, &[content(3)], &[]), None);
        all.page(restarted, 0, &[content(3)], true);
        assert_eq!(all.holders(&content(1)).count(), 0);
        assert_eq!(all.holders(&content(3)).count(), 1);
    }

    /// While a node reported anew, what it held counted as lost until its page came.
    #[test]
    fn a_node_that_reports_again_keeps_what_it_holds() {
        let mut all = Inventories::default();
        let held: Vec<ContentId> = (0..9).map(content).collect();
        all.page(source(1), 0, &held, true);
        assert_eq!(all.page(source(1), 0, &[content(0), content(2)], false), Some(vec![]));
        let holders = |all: &Inventories| {
            (0..10).filter(|n| all.holders(&content(*n)).count() == 1).collect::<Vec<u8>>()
        };
        assert_eq!(holders(&all), [0, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(all.page(source(1), 1, &[content(2)], false), None, "not after the page before");
        assert_eq!(all.page(source(1), 1, &[content(5), content(4)], false), None, "in no order");
        assert_eq!(all.page(source(1), 1, &[content(4), content(5)], false), Some(vec![]));
        assert_eq!(all.page(source(1), 2, &[content(9)], true), Some(vec![content(9)]));
        assert_eq!(holders(&all), [0, 2, 4, 5, 9]);
        assert!(all.is_complete(NodeId([1; 16]), InstanceId(1)));
        assert_eq!(all.tally(NodeId([1; 16])).0, 5);
    }

    #[test]
    fn a_missed_page_is_noticed() {
        let mut all = Inventories::default();
        assert!(all.page(source(1), 0, &[content(1)], false).is_some());
        assert_eq!(all.page(source(1), 2, &[content(3)], true), None);
        assert!(!all.is_complete(NodeId([1; 16]), InstanceId(1)));
    }

    #[test]
    fn many_holders_come_and_go() {
        let mut all = Inventories::default();
        for n in 0..20 {
            all.page(source(n), 0, &[content(1)], true);
        }
        assert_eq!(all.holders(&content(1)).count(), 20);
        for n in 0..20 {
            assert_eq!(all.change(source(n), &[], &[content(1)]), Some(vec![content(1)]));
        }
        assert_eq!(all.holders(&content(1)).count(), 0);
    }

    /// What is remembered, in the simplest form there is.
    #[derive(Default)]
    struct Model(BTreeMap<u8, BTreeSet<u8>>);

    proptest! {
        #[test]
        fn holders_are_what_was_reported(
            steps in prop::collection::vec((0_u8..5, 0_u8..6, 0_u8..9), 0..200)
        ) {
            let (mut all, mut model) = (Inventories::default(), Model::default());
            for (node, number, step) in steps {
                match step {
                    0 => {
                        all.page(source(node), 0, &[content(number)], true);
                        model.0.insert(node, [number].into());
                    }
                    1 => {
                        prop_assert_eq!(all.void(NodeId([node; 16])), model.0.get(&node).is_some_and(|h| !h.is_empty()));
                        if let Some(held) = model.0.get_mut(&node) {
                            held.clear();
                        }
                    }
                    _ => {
                        let (added, removed) = ([content(number)], [content(number)]);
                        let (added, removed) = if step < 6 { (&added[..], &[][..]) } else { (&[][..], &removed[..]) };
                        let changed = all.change(source(node), added, removed);
                        let expected = model.0.get_mut(&node).map(|held| {
                            if step < 6 { held.insert(number) } else { held.remove(&number) }
                        });
                        prop_assert_eq!(changed.map(|changed| !changed.is_empty()), expected);
                    }
                }
                for number in 0..6 {
                    let holders: BTreeSet<NodeId> = all.holders(&content(number)).collect();
                    let expected = model.0.iter().filter(|(_, held)| held.contains(&number));
                    prop_assert_eq!(holders, expected.map(|(node, _)| NodeId([*node; 16])).collect());
                }
                for (node, held) in &model.0 {
                    let digest = held.iter().map(|n| content_digest(&content(*n))).fold(0, u64::wrapping_add);
                    prop_assert_eq!(all.tally(NodeId([*node; 16])), (held.len() as u64, digest));
                }
                let held: BTreeSet<&u8> = model.0.values().flatten().collect();
                prop_assert_eq!(all.holders.len(), held.len());
                prop_assert!(all.sets.len() <= held.len());
            }
        }
    }
}
