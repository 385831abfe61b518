//! Where copies are: what the holders reported to the proxy in its term.
//!
//! Invariant: a copy is listed only because its holder said so, in its present run and of its
//! present disk; whatever the holder said before a restart or a change of disk is void. It is in
//! no catalog, so it cannot go stale: a new proxy asks anew.

use super::holder_sets::{HolderSets, SetId, Slot};
use crate::limits::NODES_MAX;
use crate::types::{ContentId, ContentMap, DiskId, InstanceId, NodeId};
use std::collections::{BTreeMap, VecDeque};
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
    /// Of its contents that are remembered.
    known: Tally,
    /// Of those that are not: no entry names them.
    hidden: Tally,
}

/// How many contents, and the digest of which they are.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    count: u64,
    digest: u64,
}

impl Tally {
    fn add(&mut self, content: &ContentId) {
        self.count = self.count.saturating_add(1);
        self.digest = self.digest.wrapping_add(content_digest(content));
    }

    fn subtract(&mut self, content: &ContentId) {
        self.count = self.count.saturating_sub(1);
        self.digest = self.digest.wrapping_sub(content_digest(content));
    }
}

/// Nodes of which something is remembered: far more than there are at a time, and fewer than slots.
const SLOTS_MAX: usize = 4 * NODES_MAX;
/// Contents that no entry names and that are remembered all the same, some 75 bytes each: the
/// entries of those that puts just brought are on their way.
const UNNAMED_MAX: usize = 16_384;

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
    /// Contents that came, or lost their last entry, and may have none; the oldest first.
    recent: VecDeque<ContentId>,
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
        let slot = self.slot(node)?;
        if page == 0 {
            let report = self.reports.get(usize::from(slot))?;
            if report.instance != instance || report.disk != disk {
                self.void(node);
            }
            let report = self.reports.get_mut(usize::from(slot))?;
            (report.instance, report.disk) = (instance, disk);
            (report.next_page, report.covered, report.complete) = (0, None, false);
            report.hidden = Tally::default();
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
            removed.iter().copied().filter(|content| self.give_up(*content, slot)).collect();
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
        let known = report.known.count > 0;
        report.complete = false;
        report.next_page = 0;
        (report.known, report.hidden) = (Tally::default(), Tally::default());
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
        report.map_or((0, 0), |Report { known, hidden, .. }| {
            (known.count.saturating_add(hidden.count), known.digest.wrapping_add(hidden.digest))
        })
    }

    /// Who holds `content`.
    pub fn holders(&self, content: &ContentId) -> impl Iterator<Item = NodeId> + '_ {
        let slots = self.holders.get(content).map(|set| self.sets.slots(*set)).unwrap_or_default();
        slots.iter().filter_map(|slot| self.reports.get(usize::from(*slot)).map(|report| report.node))
    }

    /// `content` has lost its last entry.
    pub fn unnamed(&mut self, content: ContentId) {
        if self.holders.contains(&content) {
            self.recent.push_back(content);
        }
    }

    /// Of contents that no entry names only the latest are remembered, however many somebody says to
    /// hold; the others are counted. To be called whenever something was taken in.
    pub fn settle(&mut self, is_named: impl Fn(&ContentId) -> bool) {
        while self.recent.len() > UNNAMED_MAX {
            let Some(content) = self.recent.pop_front() else { break };
            if is_named(&content) {
                continue;
            }
            let Some(set) = self.holders.remove(&content) else { continue };
            for slot in self.sets.slots(set) {
                if let Some(report) = self.reports.get_mut(usize::from(*slot)) {
                    report.known.subtract(&content);
                    report.hidden.add(&content);
                }
            }
            self.sets.release(set);
        }
    }

    /// Whether `node` holds contents that are only counted. If one is named now, it must tell again.
    #[must_use]
    pub fn hides(&self, node: NodeId) -> bool {
        let report = self.slots.get(&node).and_then(|slot| self.reports.get(usize::from(*slot)));
        report.is_some_and(|report| report.hidden.count > 0)
    }

    /// `content` is no longer at `slot`; whether it was remembered there.
    fn give_up(&mut self, content: ContentId, slot: Slot) -> bool {
        let known = self.erase(content, slot);
        let report = self.reports.get_mut(usize::from(slot)).filter(|report| report.hidden.count > 0);
        if let Some(report) = report.filter(|_| !known) {
            report.hidden.subtract(&content);
        }
        known
    }

    /// The slot of `node`; that of one which holds nothing if all are taken, and none if there is none.
    fn slot(&mut self, node: NodeId) -> Option<Slot> {
        if let Some(slot) = self.slots.get(&node) {
            return Some(*slot);
        }
        let report = Report {
            node,
            instance: InstanceId::default(),
            disk: DiskId::default(),
            next_page: 0,
            covered: None,
            complete: false,
            known: Tally::default(),
            hidden: Tally::default(),
        };
        let slot = if self.reports.len() < SLOTS_MAX {
            self.reports.push(report);
            Slot::try_from(self.reports.len() - 1).ok()?
        } else {
            let at = self.reports.iter().position(|report| report.known.count == 0)?;
            let before = std::mem::replace(self.reports.get_mut(at)?, report);
            self.slots.remove(&before.node);
            Slot::try_from(at).ok()?
        };
        self.slots.insert(node, slot);
        Some(slot)
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
                self.recent.push_back(content);
            }
        }
        if let Some(report) = self.reports.get_mut(usize::from(slot)) {
            report.known.add(&content);
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
            report.known.subtract(&content);
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

    fn scattered(number: u64) -> ContentId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        ContentId(id)
    }

    #[test]
    fn contents_that_nobody_names_are_counted_and_not_remembered() {
        let mut all = Inventories::default();
        let (liar, good) = (source(1), source(2));
        let named = scattered(u64::MAX);
        for node in [liar, good] {
            all.page(node, 0, &[named], true);
        }
        let mut digest = content_digest(&named);
        for number in 0..100_000 {
            all.change(liar, &[scattered(number)], &[]);
            digest = digest.wrapping_add(content_digest(&scattered(number)));
            all.settle(|content| *content == named);
        }
        assert!(all.holders.len() <= UNNAMED_MAX + 1 && all.recent.len() <= UNNAMED_MAX);
        assert_eq!(all.tally(liar.0), (100_001, digest));
        assert_eq!(all.holders(&named).count(), 2);
        assert_eq!(all.holders(&scattered(99_999)).count(), 1, "the latest are remembered");
        assert!(all.hides(liar.0) && !all.hides(good.0));
        assert_eq!(all.change(liar, &[], &[scattered(0)]), Some(vec![]));
        digest = digest.wrapping_sub(content_digest(&scattered(0)));
        assert_eq!(all.tally(liar.0), (100_000, digest));
        // One of them is named after all: its holder tells again.
        let mut held: Vec<ContentId> = (1..100_000).map(scattered).chain([named]).collect();
        held.sort_unstable();
        all.page(liar, 0, &held, true);
        all.settle(|content| *content == named || *content == scattered(1));
        assert_eq!(all.holders(&scattered(1)).count(), 1);
        assert_eq!(all.tally(liar.0), (100_000, digest));
        all.void(liar.0);
        assert_eq!(all.tally(liar.0), (0, 0));
    }

    #[test]
    fn a_content_without_entry_is_forgotten_in_its_turn() {
        let mut all = Inventories::default();
        all.page(source(1), 0, &[content(1)], true);
        for number in 0..UNNAMED_MAX as u64 {
            all.change(source(1), &[scattered(number)], &[]);
            all.settle(|_| true);
        }
        assert!(all.recent.iter().all(|recent| *recent != content(1)));
        all.unnamed(content(1));
        for number in 0..UNNAMED_MAX as u64 {
            all.change(source(1), &[scattered(number + 1_000_000)], &[]);
            all.settle(|other| *other != content(1));
        }
        assert_eq!(all.holders(&content(1)).count(), 0);
    }

    #[test]
    fn there_is_a_slot_for_whoever_comes_and_nodes_that_hold_nothing_make_room() {
        let mut all = Inventories::default();
        let node = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            (NodeId(id), InstanceId(1), DiskId([1; 16]))
        };
        for number in 0..100_000 {
            assert!(all.page(node(number), 0, &[], true).is_some(), "node {number}");
        }
        assert_eq!((all.reports.len(), all.slots.len()), (SLOTS_MAX, SLOTS_MAX));
        let mut all = Inventories::default();
        for number in 0..100_000 {
            assert_eq!(
                all.page(node(number), 0, &[content(1)], true).is_some(),
                (number as usize) < SLOTS_MAX
            );
        }
        assert_eq!(all.holders(&content(1)).count(), SLOTS_MAX);
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
