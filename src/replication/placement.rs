//! Which nodes get the copies of a content.
//!
//! Invariant: never two copies on one machine, and never one on a node that is silent, leaving or
//! full. Within that the emptiest come first, in coarse steps, so that a few bytes more or less do
//! not send every new file to the same node; what is left to chance is decided by rendezvous
//! hashing, which is the same on every node and moves little when a machine comes or goes.

use crate::types::{MachineId, NodeId};
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Free shares are compared in this many steps.
const SHARE_STEPS: u128 = 20;

/// A node as a place for copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// On which machine.
    pub machine: MachineId,
    /// Neither suspect nor gone.
    pub up: bool,
    /// Whether it stores at all.
    pub storage: bool,
    /// Bytes it could still take.
    pub free_bytes: u64,
    /// Bytes it may fill in all.
    pub capacity_bytes: u64,
    /// Transfers under way there.
    pub transfers: u32,
    /// Its copies are being moved elsewhere.
    pub draining: bool,
}

impl Candidate {
    /// How much of it is free, in steps of 5 %.
    #[must_use]
    pub fn free_step(&self) -> u64 {
        let share = u128::from(self.free_bytes) * SHARE_STEPS / u128::from(self.capacity_bytes.max(1));
        u64::try_from(share.min(SHARE_STEPS)).unwrap_or(0)
    }

    /// Whether `bytes` more can be placed there.
    #[must_use]
    pub fn takes(&self, bytes: u64) -> bool {
        self.up && self.storage && !self.draining && self.free_bytes >= bytes
    }
}

/// Up to `count` nodes for a content of `bytes`, best first, each on a machine of its own and none
/// on `taken_machines`. `seed`, the content's id or a name, decides between equals. `prefer` comes
/// first if it can take it at all. Fewer than `count` if there are no more.
#[must_use]
pub fn choose(
    candidates: &[Candidate],
    taken_machines: &BTreeSet<MachineId>,
    bytes: u64,
    count: usize,
    seed: &[u8],
    prefer: Option<&MachineId>,
) -> Vec<NodeId> {
    let mut best: BTreeMap<&MachineId, &Candidate> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| candidate.takes(bytes)) {
        if taken_machines.contains(&candidate.machine) {
            continue;
        }
        let room = |candidate: &Candidate| (candidate.free_bytes, Reverse(candidate.node));
        let place = best.entry(&candidate.machine).or_insert(candidate);
        if room(candidate) > room(place) {
            *place = candidate;
        }
    }
    let mut places: Vec<&Candidate> = best.into_values().collect();
    places.sort_by_cached_key(|place| {
        let preferred = prefer == Some(&place.machine);
        (
            Reverse(preferred),
            Reverse(place.free_step()),
            place.transfers,
            Reverse(rendezvous(seed, &place.machine)),
            place.node,
        )
    });
    places.into_iter().take(count).map(|place| place.node).collect()
}

/// The weight of a machine for `seed`: the machine with the greatest comes first.
#[must_use]
pub fn rendezvous(seed: &[u8], machine: &MachineId) -> u64 {
    let mut hash = Sha256::new();
    hash.update((seed.len() as u64).to_le_bytes());
    hash.update(seed);
    hash.update(machine.as_str().as_bytes());
    hash.finalize().iter().take(8).fold(0, |weight, byte| weight << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn machine(number: u8) -> MachineId {
        MachineId::parse(&format!("m{number}")).expect("valid")
    }

    fn candidate(node: u8, on: u8, free_bytes: u64) -> Candidate {
        Candidate {
            node: NodeId([node; 16]),
            machine: machine(on),
            up: true,
            storage: true,
            free_bytes,
            capacity_bytes: 1_000,
            transfers: 0,
            draining: false,
        }
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (0_u8..6, 0_u64..1_000, 0_u32..3, prop::bool::weighted(0.8), any::<bool>());
        prop::collection::vec(one, 0..12).prop_map(|list| {
            let with_node = list.into_iter().zip(0_u8..);
            with_node
                .map(|((on, free, transfers, up, draining), node)| Candidate {
                    transfers,
                    up,
                    draining: draining && node % 3 == 0,
                    storage: node % 5 != 4,
                    ..candidate(node, on, free)
                })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn copies_go_to_different_machines_that_can_take_them(
            list in candidates(), taken in prop::collection::btree_set(0_u8..6, 0..4),
            bytes in 0_u64..500, count in 0_usize..8, seed in any::<u64>(), preferred in 0_u8..8,
        ) {
            let taken: BTreeSet<MachineId> = taken.into_iter().map(machine).collect();
            let prefer = machine(preferred);
            let chosen = choose(&list, &taken, bytes, count, &seed.to_le_bytes(), Some(&prefer));
            let places: Vec<&Candidate> =
                chosen.iter().filter_map(|node| list.iter().find(|c| c.node == *node)).collect();
            prop_assert!(places.iter().all(|place| place.takes(bytes) && !taken.contains(&place.machine)));
            let machines: BTreeSet<&MachineId> = places.iter().map(|place| &place.machine).collect();
            prop_assert_eq!(machines.len(), chosen.len());
            let possible: BTreeSet<&MachineId> = list
                .iter()
                .filter(|c| c.takes(bytes) && !taken.contains(&c.machine))
                .map(|c| &c.machine)
                .collect();
            prop_assert_eq!(chosen.len(), count.min(possible.len()));
            if count > 0 && possible.contains(&prefer) {
                prop_assert_eq!(&places[0].machine, &prefer);
            }
            let mut reversed = list.clone();
            reversed.reverse();
            prop_assert_eq!(
                choose(&reversed, &taken, bytes, count, &seed.to_le_bytes(), Some(&prefer)), chosen);
        }
    }

    #[test]
    fn the_emptier_machine_comes_first_and_small_differences_do_not_matter() {
        let first = |list: &[Candidate], seed: u8| choose(list, &BTreeSet::new(), 1, 1, &[seed], None)[0];
        let uneven = [candidate(1, 1, 500), candidate(2, 2, 560)];
        assert!((0..50).all(|seed| first(&uneven, seed) == NodeId([2; 16])));
        let even = [candidate(1, 1, 501), candidate(2, 2, 549)];
        let firsts: BTreeSet<NodeId> = (0..50).map(|seed| first(&even, seed)).collect();
        assert_eq!(firsts.len(), 2);
        let busy = [candidate(1, 1, 501), Candidate { transfers: 1, ..candidate(2, 2, 549) }];
        assert!((0..50).all(|seed| first(&busy, seed) == NodeId([1; 16])));
    }

    #[test]
    fn of_one_machine_the_node_with_most_room_is_taken() {
        let list = [candidate(1, 1, 400), candidate(2, 1, 401), candidate(3, 1, 100)];
        assert_eq!(choose(&list, &BTreeSet::new(), 1, 3, b"x", None), [NodeId([2; 16])]);
    }

    #[test]
    fn a_new_machine_takes_over_only_its_share() {
        let before: Vec<Candidate> = (0..4).map(|n| candidate(n, n, 500)).collect();
        let after: Vec<Candidate> = (0..5).map(|n| candidate(n, n, 500)).collect();
        let first =
            |list: &[Candidate], seed: u32| choose(list, &BTreeSet::new(), 1, 1, &seed.to_le_bytes(), None);
        let moved = (0..500).filter(|seed| first(&before, *seed) != first(&after, *seed)).count();
        assert!((60..140).contains(&moved), "{moved}");
        assert!((0..500).all(|seed| {
            let now = first(&after, seed);
            now == first(&before, seed) || now == [NodeId([4; 16])]
        }));
    }
}
