//! What one content needs now: a pull, a drop, patience, or nothing.
//!
//! Copies are counted in machines, never in nodes. Two counts matter. Copies that are *up* are
//! confirmed by a holder that is heard; those alone are sources, keepers, and reason to drop
//! another. Copies in *grace* (silent or away, but not for long) only keep a pull from being
//! ordered too early. So a machine that falls silent makes nothing happen for a while, and then a
//! pull; when it comes back there is one copy too many, and a drop.
//!
//! Invariants: a drop leaves at least as many machines with a copy that is up as are wanted (or as
//! there were, when it is one of two copies on a machine), and names them as keepers, whose promise
//! the dropper gets first. One drop at a time: a holder that is dropping is no copy, no source and
//! no keeper. Add before drop. Of two decisions on the same facts the second is the first, and
//! carrying them out comes to an end.

use super::placement::{Candidate, choose, rendezvous};
use crate::types::{ContentId, MachineId, NodeId};
use crate::wire::message::FileState;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

pub use crate::wire::message::HolderState;

/// A node that reported to hold the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub node: NodeId,
    /// On which machine.
    pub machine: MachineId,
    /// How it stands.
    pub state: HolderState,
}

/// What is known about one content.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// Which.
    pub content: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// How many copies are wanted; 0 if no live version names it.
    pub wanted: u8,
    /// Who holds it.
    pub holders: &'a [Holder],
    /// Nodes that were ordered to pull it and are at it.
    pub pulling: &'a [NodeId],
    /// All storage nodes, holders and those that are not up included.
    pub candidates: &'a [Candidate],
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is as it should be (or nobody wants it: garbage is another's business).
    Nothing,
    /// Another copy.
    Pull {
        /// Where.
        to: NodeId,
        /// Nodes that have it.
        from: Vec<NodeId>,
    },
    /// One copy less.
    Drop {
        /// Whose.
        at: NodeId,
        /// Who must be asked to promise, each on a machine of its own. On the dropper's own
        /// machine only if it is one of two holders there.
        keepers: Vec<NodeId>,
        /// How many of them must promise.
        wanted: u8,
    },
    /// Something is under way, or a holder may come back.
    Wait,
    /// Fewer than wanted, and nowhere to put more or nowhere to get it from.
    Stuck,
}

/// The copies of a content, by machine.
pub(super) struct Copies<'a> {
    /// Machines with a copy that is up and stays: the node to name for it.
    pub(super) up: BTreeMap<&'a MachineId, NodeId>,
    /// Further holders, up or draining, on machines with another copy: one each is too many.
    surplus: Vec<&'a Holder>,
    /// Draining holders on machines with no copy that stays.
    draining: Vec<&'a Holder>,
    /// Those that may be read as a last resort.
    failing: Vec<NodeId>,
    /// Machines with a copy in grace and none that is up.
    grace: BTreeSet<&'a MachineId>,
    /// Machines that nothing is to be put on.
    taken: BTreeSet<MachineId>,
    /// Machines of the pulls under way that will add to `up`.
    coming: BTreeSet<&'a MachineId>,
    dropping: bool,
}

impl<'a> Copies<'a> {
    pub(super) fn count(input: &PlanInput<'a>) -> Copies<'a> {
        let mut copies = Copies {
            up: BTreeMap::new(),
            surplus: Vec::new(),
            draining: Vec::new(),
            failing: Vec::new(),
            grace: BTreeSet::new(),
            taken: BTreeSet::new(),
            coming: BTreeSet::new(),
            dropping: false,
        };
        // The best copy of each machine first: it stays, the others on the machine are surplus.
        let mut holders: Vec<&Holder> = input.holders.iter().collect();
        holders.sort_by_cached_key(|holder| (holder.state, Reverse(free(input, holder.node)), holder.node));
        holders.dedup_by_key(|holder| holder.node);
        for holder in holders {
            let machine = &holder.machine;
            match holder.state {
                HolderState::Gone => continue,
                HolderState::Up if !copies.up.contains_key(machine) => {
                    copies.up.insert(machine, holder.node);
                }
                HolderState::Draining if !copies.up.contains_key(machine) => copies.draining.push(holder),
                HolderState::Up | HolderState::Draining => copies.surplus.push(holder),
                HolderState::Suspect | HolderState::Away => {
                    if !copies.up.contains_key(machine) {
                        copies.grace.insert(machine);
                    }
                }
                HolderState::Failing => copies.failing.push(holder.node),
                HolderState::Dropping => copies.dropping = true,
            }
            copies.taken.insert(machine.clone());
        }
        for candidate in input.candidates.iter().filter(|candidate| input.pulling.contains(&candidate.node)) {
            copies.taken.insert(candidate.machine.clone());
            let counted =
                copies.up.contains_key(&candidate.machine) || copies.grace.contains(&candidate.machine);
            if !counted {
                copies.coming.insert(&candidate.machine);
            }
        }
        copies
    }

    /// Where one more copy could go.
    pub(super) fn room(&self, input: &PlanInput<'_>) -> Option<NodeId> {
        choose(input.candidates, &self.taken, input.size, 1, &input.content.0, None).into_iter().next()
    }

    /// Those who have it, those that stay before those that leave.
    pub(super) fn sources(&self) -> Vec<NodeId> {
        let leaving = self.draining.iter().map(|holder| holder.node);
        self.up.values().copied().chain(leaving).chain(self.failing.iter().copied()).collect()
    }

    /// Who must promise, the last to be dropped first: a promise keeps its giver from dropping.
    fn keepers_without(&self, input: &PlanInput<'_>, machine: Option<&MachineId>) -> Vec<NodeId> {
        let mut keepers: Vec<(&MachineId, NodeId)> =
            self.up.iter().filter(|(on, _)| Some(**on) != machine).map(|(on, node)| (*on, *node)).collect();
        keepers.sort_by_cached_key(|(on, node)| Reverse(staying(input, on, *node)));
        keepers.into_iter().map(|(_, node)| node).collect()
    }
}

/// Free share and free bytes of a node; the least for one that is not a candidate.
fn free(input: &PlanInput<'_>, node: NodeId) -> (u64, u64) {
    let candidate = input.candidates.iter().find(|candidate| candidate.node == node);
    candidate.map_or((0, 0), |candidate| (candidate.free_step(), candidate.free_bytes))
}

/// How much speaks for a copy to stay: of those too many, the least goes.
pub(super) fn staying<'a>(
    input: &PlanInput<'_>,
    machine: &'a MachineId,
    node: NodeId,
) -> (u64, u64, Reverse<&'a MachineId>) {
    (free(input, node).0, rendezvous(&input.content.0, machine), Reverse(machine))
}

/// What one content needs now.
#[must_use]
pub fn plan(input: &PlanInput<'_>) -> Decision {
    let wanted = usize::from(input.wanted);
    if wanted == 0 {
        return Decision::Nothing;
    }
    let copies = Copies::count(input);
    let patient = copies.up.len() + copies.grace.len();
    if patient < wanted {
        if patient + copies.coming.len() >= wanted {
            return Decision::Wait;
        }
        let from = copies.sources();
        if from.is_empty() {
            let hope = copies.dropping || !copies.grace.is_empty() || !copies.coming.is_empty();
            return if hope { Decision::Wait } else { Decision::Stuck };
        }
        if let Some(to) = copies.room(input) {
            return Decision::Pull { to, from };
        }
        return surplus_drop(input, &copies).unwrap_or_else(|| {
            let under_way = copies.dropping || !copies.coming.is_empty();
            if under_way { Decision::Wait } else { Decision::Stuck }
        });
    }
    if copies.up.len() < wanted || copies.dropping {
        return Decision::Wait;
    }
    if let Some(drop) = surplus_drop(input, &copies) {
        return drop;
    }
    if let Some(holder) = copies.draining.first() {
        return Decision::Drop {
            at: holder.node,
            keepers: copies.keepers_without(input, None),
            wanted: input.wanted,
        };
    }
    if copies.up.len() == wanted {
        return Decision::Nothing;
    }
    let victim = copies.up.iter().min_by_key(|(machine, node)| staying(input, machine, **node));
    victim.map_or(Decision::Nothing, |(machine, node)| Decision::Drop {
        at: *node,
        keepers: copies.keepers_without(input, Some(machine)),
        wanted: input.wanted,
    })
}

/// The drop of one of two copies on a machine. While a holder may come back and too few are up,
/// a second copy on a machine is better than none.
fn surplus_drop(input: &PlanInput<'_>, copies: &Copies<'_>) -> Option<Decision> {
    let few = copies.up.len() < usize::from(input.wanted);
    if copies.dropping || (few && !copies.grace.is_empty()) {
        return None;
    }
    let holder = copies.surplus.last()?;
    let keepers = copies.keepers_without(input, None);
    let wanted = u8::try_from(keepers.len()).unwrap_or(u8::MAX).min(input.wanted);
    Some(Decision::Drop { at: holder.node, keepers, wanted })
}

/// How a file with this content stands, for people: as many copies as wanted and no more, or being
/// mended, or fewer with nowhere to put more, or none that can be read now.
#[must_use]
pub fn state(input: &PlanInput<'_>) -> FileState {
    let wanted = usize::from(input.wanted);
    if wanted == 0 {
        return FileState::Ok;
    }
    let copies = Copies::count(input);
    let readable = copies.sources();
    if readable.is_empty() && !copies.dropping {
        FileState::Lost
    } else if copies.up.len() < wanted {
        let mending = !copies.coming.is_empty() || copies.room(input).is_some();
        if mending { FileState::Healing } else { FileState::Degraded }
    } else if copies.up.len() > wanted
        || copies.dropping
        || !copies.surplus.is_empty()
        || !copies.draining.is_empty()
    {
        FileState::Healing
    } else {
        FileState::Ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTENT: ContentId = ContentId([7; 32]);

    fn node(number: u8) -> NodeId {
        NodeId([number; 16])
    }

    fn machine(number: u8) -> MachineId {
        MachineId::parse(&format!("m{number}")).expect("valid")
    }

    /// A whole cluster around one content.
    #[derive(Clone, Debug)]
    struct World {
        wanted: u8,
        candidates: Vec<Candidate>,
        holders: Vec<Holder>,
    }

    impl World {
        /// Nodes by machine, state and free bytes; every node whose state is given for its copy holds one.
        fn new(wanted: u8, nodes: &[(u8, HolderState, bool, u64)]) -> World {
            let mut world = World { wanted, candidates: Vec::new(), holders: Vec::new() };
            for ((on, state, holds, free_bytes), number) in nodes.iter().zip(0_u8..) {
                world.candidates.push(Candidate {
                    node: node(number),
                    machine: machine(*on),
                    up: matches!(state, HolderState::Up | HolderState::Draining | HolderState::Dropping),
                    storage: true,
                    free_bytes: *free_bytes,
                    capacity_bytes: 1_000,
                    transfers: 0,
                    draining: *state == HolderState::Draining,
                });
                if *holds {
                    add_holder(&mut world.holders, number, *on, *state);
                }
            }
            world
        }

        fn input<'a>(&'a self, pulling: &'a [NodeId]) -> PlanInput<'a> {
            PlanInput {
                content: CONTENT,
                size: 100,
                wanted: self.wanted,
                holders: &self.holders,
                pulling,
                candidates: &self.candidates,
            }
        }

        fn plan(&self) -> Decision {
            plan(&self.input(&[]))
        }

        /// Machines with a copy in one of `states`.
        fn machines(&self, states: &[HolderState]) -> BTreeSet<MachineId> {
            let with = self.holders.iter().filter(|holder| states.contains(&holder.state));
            with.map(|holder| holder.machine.clone()).collect()
        }

        fn on(&self, at: NodeId) -> MachineId {
            let found = self.candidates.iter().find(|candidate| candidate.node == at);
            found.expect("known").machine.clone()
        }
    }

    fn add_holder(holders: &mut Vec<Holder>, number: u8, on: u8, state: HolderState) {
        holders.push(Holder { node: node(number), machine: machine(on), state });
    }

    fn states() -> impl Strategy<Value = HolderState> {
        prop_oneof![
            5 => Just(HolderState::Up),
            1 => Just(HolderState::Suspect),
            1 => Just(HolderState::Away),
            1 => Just(HolderState::Gone),
            1 => Just(HolderState::Draining),
        ]
    }

    fn worlds() -> impl Strategy<Value = World> {
        let nodes = prop::collection::vec((0_u8..6, states(), any::<bool>(), 50_u64..1_000), 0..9);
        (1_u8..6, nodes).prop_map(|(wanted, nodes)| World::new(wanted, &nodes))
    }

    /// Checks a decision and carries it out; false when there is nothing to do now.
    fn carry_out(world: &mut World) -> Result<bool, TestCaseError> {
        use HolderState::{Draining, Up};
        let wanted = usize::from(world.wanted);
        match world.plan() {
            Decision::Nothing | Decision::Wait | Decision::Stuck => return Ok(false),
            Decision::Pull { to, from } => {
                prop_assert!(!from.is_empty());
                for source in &from {
                    let holder = world.holders.iter().find(|h| h.node == *source).expect("a holder");
                    prop_assert!(matches!(holder.state, Up | Draining));
                }
                let on = world.on(to);
                prop_assert!(world.holders.iter().all(|h| h.machine != on || h.state == HolderState::Gone));
                world.holders.push(Holder { node: to, machine: on, state: Up });
            }
            Decision::Drop { at, keepers, wanted: promises } => {
                let before = world.machines(&[Up]);
                let victim = world.holders.iter().position(|h| h.node == at).expect("a holder");
                let victim = world.holders.remove(victim);
                prop_assert!(matches!(victim.state, Up | Draining));
                let after = world.machines(&[Up]);
                prop_assert!(after.len() >= wanted || (after == before && after.contains(&victim.machine)));
                prop_assert!(!after.is_empty());
                let machines: BTreeSet<MachineId> = keepers.iter().map(|k| world.on(*k)).collect();
                prop_assert_eq!(machines.len(), keepers.len());
                prop_assert!(
                    keepers
                        .iter()
                        .all(|k| *k != at && world.holders.iter().any(|h| h.node == *k && h.state == Up))
                );
                prop_assert!(usize::from(promises) <= keepers.len());
                prop_assert!(usize::from(promises) == wanted.min(after.len()));
            }
        }
        Ok(true)
    }

    proptest! {
        #[test]
        fn decisions_never_drop_below_what_is_wanted_and_come_to_an_end(world in worlds()) {
            use HolderState::{Away, Draining, Gone, Suspect, Up};
            let mut world = world;
            let mut steps = 0;
            while carry_out(&mut world)? {
                steps += 1;
                prop_assert!(steps < 50, "{:?}", world);
            }
            // Whoever was silent is gone for good: now it must come to the exact number.
            world.holders.iter_mut().filter(|h| matches!(h.state, Suspect | Away)).for_each(|h| h.state = Gone);
            while carry_out(&mut world)? {
                steps += 1;
                prop_assert!(steps < 100, "{:?}", world);
            }
            let up = world.machines(&[Up]);
            let live = world.machines(&[Up, Draining]);
            let copies = world.holders.iter().filter(|h| matches!(h.state, Up | Draining)).count();
            if live.is_empty() {
                prop_assert_eq!(state(&world.input(&[])), FileState::Lost);
                prop_assert_eq!(world.plan(), Decision::Stuck);
                return Ok(());
            }
            let wanted = usize::from(world.wanted);
            let possible: BTreeSet<MachineId> = world
                .candidates
                .iter()
                .filter(|c| c.takes(100) && !live.contains(&c.machine))
                .map(|c| c.machine.clone())
                .chain(up.iter().cloned())
                .collect();
            prop_assert_eq!(up.len(), wanted.min(possible.len()));
            if up.len() == wanted {
                prop_assert_eq!(copies, wanted);
                prop_assert_eq!(world.plan(), Decision::Nothing);
                prop_assert_eq!(state(&world.input(&[])), FileState::Ok);
            } else {
                prop_assert_eq!(world.plan(), Decision::Stuck);
                prop_assert_eq!(state(&world.input(&[])), FileState::Degraded);
            }
        }

        #[test]
        fn the_order_of_the_facts_does_not_matter(world in worlds()) {
            let mut turned = world.clone();
            turned.holders.reverse();
            turned.candidates.reverse();
            prop_assert_eq!(world.plan(), turned.plan());
            prop_assert_eq!(state(&world.input(&[])), state(&turned.input(&[])));
        }
    }

    #[test]
    fn a_silent_holder_is_waited_for_and_then_replaced() {
        use HolderState::{Gone, Suspect, Up};
        let nodes = |state| [(0, Up, true, 900), (1, state, true, 900), (2, Up, false, 900)];
        assert_eq!(World::new(2, &nodes(Suspect)).plan(), Decision::Wait);
        assert_eq!(state(&World::new(2, &nodes(Suspect)).input(&[])), FileState::Healing);
        assert_eq!(World::new(2, &nodes(Gone)).plan(), Decision::Pull { to: node(2), from: vec![node(0)] });
        let pulling = World::new(2, &nodes(Gone));
        assert_eq!(plan(&pulling.input(&[node(2)])), Decision::Wait);
    }

    #[test]
    fn a_machine_that_comes_back_makes_the_fullest_drop() {
        use HolderState::Up;
        let world = World::new(2, &[(0, Up, true, 900), (1, Up, true, 200), (2, Up, true, 900)]);
        let keepers = vec![node(0), node(2)];
        assert_eq!(world.plan(), Decision::Drop { at: node(1), keepers, wanted: 2 });
        assert_eq!(state(&world.input(&[])), FileState::Healing);
    }

    #[test]
    fn silent_holders_are_no_reason_to_drop() {
        use HolderState::{Away, Suspect, Up};
        let silent = [(0, Up, true, 900), (1, Up, true, 900), (2, Suspect, true, 9), (3, Away, true, 9)];
        assert_eq!(World::new(2, &silent).plan(), Decision::Nothing);
        assert_eq!(World::new(3, &silent).plan(), Decision::Wait);
        assert_eq!(World::new(1, &silent[..1]).plan(), Decision::Nothing);
    }

    #[test]
    fn a_drain_adds_before_it_drops_and_waits_if_there_is_nowhere_to_go() {
        use HolderState::{Draining, Up};
        let mut world = World::new(2, &[(0, Up, true, 900), (1, Draining, true, 900), (2, Up, false, 900)]);
        assert_eq!(world.plan(), Decision::Pull { to: node(2), from: vec![node(0), node(1)] });
        assert!(carry_out(&mut world).expect("valid"));
        assert_eq!(world.plan(), Decision::Drop { at: node(1), keepers: vec![node(0), node(2)], wanted: 2 });
        let alone = World::new(2, &[(0, Up, true, 900), (1, Draining, true, 900)]);
        assert_eq!((alone.plan(), state(&alone.input(&[]))), (Decision::Stuck, FileState::Degraded));
    }

    #[test]
    fn of_two_copies_on_a_machine_one_goes_even_when_more_are_wanted() {
        use HolderState::{Suspect, Up};
        let two = World::new(3, &[(0, Up, true, 200), (0, Up, true, 900)]);
        assert_eq!(two.plan(), Decision::Drop { at: node(0), keepers: vec![node(1)], wanted: 1 });
        let with_silent = World::new(3, &[(0, Up, true, 200), (0, Up, true, 900), (1, Suspect, true, 9)]);
        assert_eq!(with_silent.plan(), Decision::Stuck);
    }

    #[test]
    fn one_drop_at_a_time_and_a_dropping_holder_is_no_copy() {
        use HolderState::{Dropping, Up};
        let world = World::new(1, &[(0, Up, true, 1), (1, Up, true, 1), (2, Dropping, true, 1)]);
        assert_eq!(world.plan(), Decision::Wait);
        let last = World::new(2, &[(0, Dropping, true, 900), (1, Up, false, 900)]);
        assert_eq!(last.plan(), Decision::Wait);
    }

    #[test]
    fn nothing_is_done_for_a_content_that_nobody_wants() {
        let world = World::new(0, &[(0, HolderState::Up, true, 900)]);
        assert_eq!(world.plan(), Decision::Nothing);
    }
}
