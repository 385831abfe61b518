//! Where copies are: what the holders reported to the proxy in its term.
//!
//! Invariant: a copy is listed only because its holder said so, in its present run and of its
//! present disk; whatever the holder said before a restart or a change of disk is void. It is in
//! no catalog, so it cannot go stale: a new proxy asks anew.

use crate::types::{ContentId, DiskId, InstanceId, NodeId};
use std::collections::BTreeMap;

/// The holders of one content, as small as can be: most have two or three.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holders {
    Few(u8, [u16; 7]),
    Many(Vec<u16>),
}

impl Holders {
    fn as_slice(&self) -> &[u16] {
        match self {
            Holders::Few(count, slots) => &slots[..usize::from(*count)],
            Holders::Many(slots) => slots,
        }
    }

    fn add(&mut self, slot: u16) -> bool {
        if self.as_slice().contains(&slot) {
            return false;
        }
        match self {
            Holders::Few(count, slots) if usize::from(*count) < slots.len() => {
                slots[usize::from(*count)] = slot;
                *count += 1;
            }
            Holders::Few(_, slots) => {
                let mut many = slots.to_vec();
                many.push(slot);
                *self = Holders::Many(many);
            }
            Holders::Many(slots) => slots.push(slot),
        }
        true
    }

    fn remove(&mut self, slot: u16) -> bool {
        match self {
            Holders::Few(count, slots) => {
                let used = usize::from(*count);
                let Some(at) = slots[..used].iter().position(|known| *known == slot) else {
                    return false;
                };
                slots[at] = slots[used - 1];
                *count -= 1;
                true
            }
            Holders::Many(slots) => {
                let before = slots.len();
                slots.retain(|known| *known != slot);
                slots.len() < before
            }
        }
    }
}

/// What one node has reported so far.
#[derive(Clone, Debug)]
struct Report {
    node: NodeId,
    instance: InstanceId,
    disk: DiskId,
    next_page: u32,
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
    slots: BTreeMap<NodeId, u16>,
    holders: BTreeMap<ContentId, Holders>,
}

impl Inventories {
    /// Takes in a page of a full inventory. Gives the contents whose holders changed, or `None`
    /// when a page was missed and the inventory must be asked for anew.
    pub fn page(
        &mut self,
        (node, instance, disk): (NodeId, InstanceId, DiskId),
        page: u32,
        contents: &[ContentId],
        last: bool,
    ) -> Option<Vec<ContentId>> {
        let mut changed = Vec::new();
        let slot = self.slot(node);
        if page == 0 {
            changed = self.void(node);
            let report = self.reports.get_mut(usize::from(slot))?;
            *report = Report { node, instance, disk, next_page: 0, complete: false, count: 0, digest: 0 };
        }
        let report = self.reports.get_mut(usize::from(slot))?;
        if report.next_page != page || report.instance != instance || report.disk != disk || report.complete {
            return None;
        }
        report.next_page += 1;
        report.complete = last;
        changed.extend(contents.iter().filter(|content| self.insert(**content, slot)));
        Some(changed)
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

    /// Forgets all that `node` reported (it restarted, or its disk was replaced).
    pub fn void(&mut self, node: NodeId) -> Vec<ContentId> {
        let Some(slot) = self.slots.get(&node).copied() else {
            return Vec::new();
        };
        if let Some(report) = self.reports.get_mut(usize::from(slot)) {
            report.complete = false;
            report.next_page = 0;
            (report.count, report.digest) = (0, 0);
        }
        let mut changed = Vec::new();
        self.holders.retain(|content, holders| {
            if holders.remove(slot) {
                changed.push(*content);
            }
            !holders.as_slice().is_empty()
        });
        changed
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
        let slots = self.holders.get(content).map(Holders::as_slice).unwrap_or_default();
        slots.iter().filter_map(|slot| self.reports.get(usize::from(*slot)).map(|report| report.node))
    }

    /// All that `node` holds.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = ContentId> + '_ {
        let slot = self.slots.get(&node).copied();
        self.holders
            .iter()
            .filter(move |(_, holders)| slot.is_some_and(|slot| holders.as_slice().contains(&slot)))
            .map(|(content, _)| *content)
    }

    fn slot(&mut self, node: NodeId) -> u16 {
        if let Some(slot) = self.slots.get(&node) {
            return *slot;
        }
        let slot = u16::try_from(self.reports.len()).unwrap_or(u16::MAX);
        self.reports.push(Report {
            node,
            instance: InstanceId::default(),
            disk: DiskId::default(),
            next_page: 0,
            complete: false,
            count: 0,
            digest: 0,
        });
        self.slots.insert(node, slot);
        slot
    }

    fn insert(&mut self, content: ContentId, slot: u16) -> bool {
        let added = self.holders.entry(content).or_insert(Holders::Few(0, [0; 7])).add(slot);
        if let Some(report) = self.reports.get_mut(usize::from(slot)).filter(|_| added) {
            report.count += 1;
            report.digest = report.digest.wrapping_add(content_digest(&content));
        }
        added
    }

    fn erase(&mut self, content: ContentId, slot: u16) -> bool {
        let Some(holders) = self.holders.get_mut(&content) else {
            return false;
        };
        let removed = holders.remove(slot);
        if holders.as_slice().is_empty() {
            self.holders.remove(&content);
        }
        if let Some(report) = self.reports.get_mut(usize::from(slot)).filter(|_| removed) {
            report.count -= 1;
            report.digest = report.digest.wrapping_sub(content_digest(&content));
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
