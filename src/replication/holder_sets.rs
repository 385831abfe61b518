//! Which nodes hold a content, each such set kept once: most contents of a cluster share few.
//!
//! Invariant: a set is kept exactly as long as a content has it. Two that became equal when a node
//! was taken out of all stay apart; only one of them is found for further contents.

use std::collections::BTreeMap;

/// A node that reported.
pub(super) type Slot = u16;

/// A set that is kept: 4 bytes in each content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetId(u32);

#[derive(Clone, Debug, Default)]
struct HolderSet {
    /// Ascending.
    slots: Box<[Slot]>,
    contents: usize,
}

/// All sets that some content has.
#[derive(Clone, Debug, Default)]
pub(super) struct HolderSets {
    sets: Vec<HolderSet>,
    ids: BTreeMap<Box<[Slot]>, SetId>,
    free: Vec<SetId>,
}

impl HolderSets {
    /// The nodes of a set, ascending.
    pub(super) fn slots(&self, set: SetId) -> &[Slot] {
        self.sets.get(set.0 as usize).map_or(&[], |set| &set.slots)
    }

    /// The set for a content that had `set` and is now at `slot`, too; `None` if it was already.
    pub(super) fn with(&mut self, set: Option<SetId>, slot: Slot) -> Option<SetId> {
        let slots = set.map(|set| self.slots(set)).unwrap_or_default();
        let at = slots.binary_search(&slot).err()?;
        let slots = [&slots[..at], &[slot], &slots[at..]].concat();
        Some(self.exchange(set, slots))
    }

    /// The set for a content that had `set` and is no longer at `slot`; `None` if it was not. It
    /// may be empty.
    pub(super) fn without(&mut self, set: SetId, slot: Slot) -> Option<SetId> {
        let slots = self.slots(set);
        let at = slots.binary_search(&slot).ok()?;
        let slots = [&slots[..at], &slots[at + 1..]].concat();
        Some(self.exchange(Some(set), slots))
    }

    /// Takes a node out of all sets.
    pub(super) fn forget(&mut self, slot: Slot) {
        for set in self.sets.iter_mut().filter(|set| set.slots.contains(&slot)) {
            set.slots = set.slots.iter().copied().filter(|other| *other != slot).collect();
        }
        self.ids.clear();
        for (set, id) in self.sets.iter().zip(0..).filter(|(set, _)| set.contents > 0) {
            self.ids.insert(set.slots.clone(), SetId(id));
        }
    }

    /// A content no longer has `set`.
    pub(super) fn release(&mut self, id: SetId) {
        let Some(set) = self.sets.get_mut(id.0 as usize) else { return };
        set.contents = set.contents.saturating_sub(1);
        if set.contents == 0 {
            let slots = std::mem::take(&mut set.slots);
            if self.ids.get(&slots) == Some(&id) {
                self.ids.remove(&slots);
            }
            self.free.push(id);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sets.len() - self.free.len()
    }

    fn exchange(&mut self, from: Option<SetId>, slots: Vec<Slot>) -> SetId {
        let to = self.take(slots.into_boxed_slice());
        if let Some(from) = from {
            self.release(from);
        }
        to
    }

    fn take(&mut self, slots: Box<[Slot]>) -> SetId {
        let id = if let Some(id) = self.ids.get(&slots) {
            *id
        } else {
            let id = self.free.pop().unwrap_or_else(|| {
                self.sets.push(HolderSet::default());
                SetId(u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX))
            });
            if let Some(set) = self.sets.get_mut(id.0 as usize) {
                set.slots.clone_from(&slots);
            }
            self.ids.insert(slots, id);
            id
        };
        if let Some(set) = self.sets.get_mut(id.0 as usize) {
            set.contents += 1;
        }
        id
    }
}
