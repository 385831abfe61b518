//! Which copy should move to an emptier machine, when nothing else is to be done for its content.
//!
//! Invariant: carrying it out comes to an end, however old the figures are that machines told of their
//! room, as long as every move that may not be in them is counted: each makes the difference between two
//! machines less and does not turn it round.

use super::placement::Candidate;
use super::planner::{Copies, Decision, PlanInput, plan, staying};
use crate::types::NodeId;
use std::collections::BTreeMap;

/// Free shares that differ by this many steps of 5 % are worth moving copies for.
const UNEVEN_STEPS: u64 = 4;

/// A copy that is to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// Where.
    pub to: NodeId,
    /// Whose copy is too many after that.
    pub leaves: NodeId,
    /// Nodes that have it.
    pub from: Vec<NodeId>,
}

/// The room of machines if moves under way are in none, or in all, of the figures that they told.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// As places for copies: at least this is free.
    places: Vec<Candidate>,
    /// As machines that copies leave: at most this is free.
    sources: Vec<Candidate>,
}

impl Rooms {
    /// `candidates` as they told, and the bytes that come to a node or leave it.
    #[must_use]
    pub fn new(
        candidates: &[Candidate],
        coming: &BTreeMap<NodeId, u64>,
        leaving: &BTreeMap<NodeId, u64>,
    ) -> Rooms {
        let mut rooms = Rooms { places: candidates.to_vec(), sources: candidates.to_vec() };
        for place in &mut rooms.places {
            let bytes = coming.get(&place.node).copied().unwrap_or(0);
            place.free_bytes = place.free_bytes.saturating_sub(bytes);
        }
        for source in &mut rooms.sources {
            let bytes = leaving.get(&source.node).copied().unwrap_or(0);
            source.free_bytes = source.free_bytes.saturating_add(bytes);
        }
        rooms
    }

    /// One move more is under way.
    pub fn count(&mut self, leaves: NodeId, to: NodeId, bytes: u64) {
        if let Some(place) = self.places.iter_mut().find(|place| place.node == to) {
            place.free_bytes = place.free_bytes.saturating_sub(bytes);
        }
        if let Some(source) = self.sources.iter_mut().find(|source| source.node == leaves) {
            source.free_bytes = source.free_bytes.saturating_add(bytes);
        }
    }

    /// Whether any two machines differ enough for a move.
    #[must_use]
    pub fn are_uneven(&self) -> bool {
        let place = self.places.iter().filter(|place| place.takes(0)).map(Candidate::free_step).max();
        let sources = self.sources.iter().filter(|source| source.up && source.storage);
        let source = sources.map(Candidate::free_step).min();
        place.zip(source).is_some_and(|(place, source)| place >= source + UNEVEN_STEPS)
    }
}

/// A copy that is to move to an emptier machine: nothing else is to be done for the content, and its
/// fullest holder has less free, by `UNEVEN_STEPS` and also after the move. It is made there first;
/// then one is too many, and the fullest goes.
#[must_use]
pub fn balance(input: &PlanInput<'_>, rooms: &Rooms) -> Option<Shift> {
    if input.wanted == 0 || plan(input) != Decision::Nothing {
        return None;
    }
    let copies = Copies::count(input);
    // By what they told: so it is chosen, too, when one is too many.
    let (_, leaves) = copies.up.iter().min_by_key(|(machine, node)| staying(input, machine, **node))?;
    let place = PlanInput { candidates: &rooms.places, ..*input };
    let to = copies.room(&place)?;
    let full = rooms.sources.iter().find(|source| source.node == *leaves)?;
    let empty = rooms.places.iter().find(|place| place.node == to)?;
    let share = |free: u64, candidate: &Candidate| {
        u128::from(free) * 1_000_000 / u128::from(candidate.capacity_bytes.max(1))
    };
    let after = share(empty.free_bytes.saturating_sub(input.size), empty)
        >= share(full.free_bytes.saturating_add(input.size), full);
    let uneven = empty.free_step() >= full.free_step() + UNEVEN_STEPS;
    (uneven && after).then(|| Shift { to, leaves: *leaves, from: copies.sources() })
}

#[cfg(test)]
mod tests {
    use super::super::planner::{Holder, HolderState};
    use super::*;
    use crate::types::{ContentId, MachineId};
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Decide(usize),
        /// The oldest move that is not carried out is.
        CarryOut,
        /// A machine tells what is true.
        Tell(usize),
    }

    struct Moving {
        shift: Shift,
        content: usize,
        done: bool,
        /// Whether the source, and the place, told their room since.
        told: [bool; 2],
    }

    /// Machines with contents of one copy each.
    struct World {
        told: Vec<Candidate>,
        /// Where each content is, and its size.
        contents: Vec<(NodeId, u64)>,
        moves: Vec<Moving>,
    }

    fn node(number: usize) -> NodeId {
        NodeId([number as u8; 16])
    }

    fn machine(node: NodeId) -> MachineId {
        MachineId::parse(&format!("m{}", node.0[0])).expect("valid")
    }

    impl World {
        fn new(capacities: &[u64], contents: &[(usize, u64)]) -> World {
            let told = capacities.iter().enumerate().map(|(number, capacity_bytes)| Candidate {
                node: node(number),
                machine: machine(node(number)),
                up: true,
                storage: true,
                free_bytes: 0,
                capacity_bytes: *capacity_bytes,
                transfers: 0,
                draining: false,
            });
            let contents = contents.iter().map(|(at, size)| (node(at % capacities.len()), *size));
            let mut world = World { told: told.collect(), contents: contents.collect(), moves: Vec::new() };
            (0..capacities.len()).for_each(|at| world.tell(at));
            world
        }

        fn used(&self, at: NodeId) -> u64 {
            self.contents.iter().filter(|(on, _)| *on == at).map(|(_, size)| size).sum()
        }

        fn tell(&mut self, at: usize) {
            let at = at % self.told.len();
            let used = self.used(node(at));
            self.told[at].free_bytes = self.told[at].capacity_bytes - used;
            for moving in self.moves.iter_mut().filter(|moving| moving.done) {
                moving.told[0] |= moving.shift.leaves == node(at);
                moving.told[1] |= moving.shift.to == node(at);
            }
            self.moves.retain(|moving| moving.told != [true; 2]);
        }

        fn carry_out(&mut self) {
            if let Some(moving) = self.moves.iter_mut().find(|moving| !moving.done) {
                moving.done = true;
                self.contents[moving.content].0 = moving.shift.to;
            }
        }

        /// How uneven it is once everything is carried out.
        fn unevenness(&self) -> f64 {
            let share = |candidate: &Candidate| {
                let under_way = self.moves.iter().filter(|moving| !moving.done);
                let mut used = self.used(candidate.node);
                for moving in under_way {
                    let size = self.contents[moving.content].1;
                    used += if moving.shift.to == candidate.node { size } else { 0 };
                    used -= if moving.shift.leaves == candidate.node { size } else { 0 };
                }
                (used as f64).powi(2) / candidate.capacity_bytes as f64
            };
            self.told.iter().map(share).sum()
        }

        fn decide(&mut self, content: usize) -> bool {
            let content = content % self.contents.len();
            if self.moves.iter().any(|moving| moving.content == content && !moving.done) {
                return false;
            }
            let mut rooms = Rooms::new(&self.told, &BTreeMap::new(), &BTreeMap::new());
            for moving in &self.moves {
                rooms.count(moving.shift.leaves, moving.shift.to, self.contents[moving.content].1);
            }
            let (at, size) = self.contents[content];
            let holders = [Holder { node: at, machine: machine(at), state: HolderState::Up }];
            let id = ContentId([content as u8; 32]);
            let (pulling, candidates) = (&[], self.told.as_slice());
            let input = PlanInput { content: id, size, wanted: 1, holders: &holders, pulling, candidates };
            let Some(shift) = balance(&input, &rooms) else {
                return false;
            };
            assert!(rooms.are_uneven());
            self.moves.push(Moving { shift, content, done: false, told: [false; 2] });
            true
        }
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<usize>().prop_map(Step::Decide),
            2 => Just(Step::CarryOut),
            1 => any::<usize>().prop_map(Step::Tell),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn each_move_makes_the_difference_less_however_old_the_figures_are(
            capacities in prop::collection::vec(1_000_u64..3_000, 2..5),
            contents in prop::collection::vec((0_usize..2, 1_u64..100), 1..10),
            steps in steps(),
        ) {
            let mut world = World::new(&capacities, &contents);
            for step in steps {
                match step {
                    Step::Decide(content) => {
                        let before = world.unevenness();
                        if world.decide(content) {
                            prop_assert!(world.unevenness() < before, "{:?}", world.contents);
                        }
                    }
                    Step::CarryOut => world.carry_out(),
                    Step::Tell(at) => world.tell(at),
                }
            }
        }
    }

    #[test]
    fn what_is_under_way_counts() {
        let mut world = World::new(&[100, 100], &[(0, 10); 10]);
        let moved = (0..10).filter(|content| world.decide(*content)).count();
        assert_eq!(moved, 5, "then each has half");
    }
}
