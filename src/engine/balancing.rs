//! The proxy's balance: with nothing to mend, copies move from fuller machines to emptier ones.
//!
//! Invariant: it comes to an end. What machines say of their room is seconds old, so a move counts from its
//! order until it must be in what they say; else many moves, each right by the same old figures,
//! together turn the difference round, and then they all go back, for ever. Since some of them are in
//! the figures already, a place has what it says less all that comes, and a machine that copies leave
//! what it says and all that leaves: whatever is true, each move makes the difference less.

use super::Engine;
use super::office::{Office, PullJob, SMALL_BYTES};
use crate::clock::Moment;
use crate::limits::SUSPECT_AFTER_MS;
use crate::replication::Candidate;
use crate::replication::balance::{Rooms, Shift, balance};
use crate::replication::planner::{HolderState, PlanInput};
use crate::types::{ContentId, NodeId};
use crate::wire::message::Message;
use std::collections::BTreeMap;

/// Contents looked at in one step for whether a copy should move to an emptier machine.
const BALANCE_STEP: usize = 64;
/// Moves that count at a time; further ones wait.
const MOVES_MAX: usize = 1_024;
/// How long after its end a move counts, in milliseconds: a machine that is up was heard before it would be
/// suspect, and measures its disk every two seconds; as much again for a slow disk.
const MOVE_SETTLES_MS: u64 = SUSPECT_AFTER_MS + 2 * 2_000;

/// Moves that may not be in what machines say of their room.
#[derive(Debug, Default)]
pub(super) struct Moves {
    list: Vec<Move>,
    /// Up to where contents were looked at.
    after: Option<ContentId>,
}

#[derive(Debug)]
struct Move {
    content: ContentId,
    size: u64,
    leaves: NodeId,
    to: NodeId,
    /// Since when nothing is under way for it.
    ended: Option<Moment>,
}

impl Moves {
    /// Those that must be in every figure by now are forgotten.
    fn tick(&mut self, now: Moment, is_under_way: impl Fn(&Move) -> bool) {
        self.list.retain_mut(|one| {
            one.ended = if is_under_way(one) { None } else { one.ended.or(Some(now)) };
            one.ended.is_none_or(|ended| now.since(ended) < MOVE_SETTLES_MS)
        });
    }

    fn rooms(&self, candidates: &[Candidate]) -> Rooms {
        let (mut coming, mut leaving) = (BTreeMap::new(), BTreeMap::new());
        for one in &self.list {
            for (sums, node) in [(&mut coming, one.to), (&mut leaving, one.leaves)] {
                let sum: &mut u64 = sums.entry(node).or_default();
                *sum = sum.saturating_add(one.size);
            }
        }
        Rooms::new(candidates, &coming, &leaving)
    }
}

impl Engine {
    /// Goes through all contents a few at a time, and moves copies where the difference is worth it.
    pub(super) fn balance(&mut self, candidates: &[Candidate]) {
        let Some(office) = &mut self.office else {
            return;
        };
        let mut moves = std::mem::take(&mut office.moves);
        moves.tick(self.now, |one| self.is_under_way(one));
        let mut rooms = moves.rooms(candidates);
        if rooms.are_uneven() {
            self.balance_step(&mut moves, &mut rooms, candidates);
        }
        if let Some(office) = &mut self.office {
            office.moves = moves;
        }
    }

    /// Whether the copy is still being made, or the one that is too many is still there. One on a machine
    /// that is off says nothing about that.
    fn is_under_way(&self, one: &Move) -> bool {
        let Some(office) = &self.office else {
            return false;
        };
        let holders = self.holders_of(&one.content);
        let up = holders.iter().filter(|holder| holder.state == HolderState::Up).count();
        let wanted = self.catalog.content(&one.content).map(|refs| usize::from(refs.wanted()));
        office.pulls.contains_key(&(one.content, one.to))
            || office.drops.contains_key(&one.content)
            || wanted.is_some_and(|wanted| up > wanted)
    }

    fn balance_step(&mut self, moves: &mut Moves, rooms: &mut Rooms, candidates: &[Candidate]) {
        let step: Vec<(ContentId, u64, u8)> = self
            .catalog
            .contents_after(moves.after.as_ref())
            .take(BALANCE_STEP)
            .map(|(content, refs)| (*content, refs.size, refs.wanted()))
            .collect();
        let ended = step.len() < BALANCE_STEP;
        let mut after = moves.after;
        for (content, size, wanted) in step {
            let holders = self.holders_of(&content);
            let pulling = self.pulling(&content);
            let input = PlanInput { content, size, wanted, holders: &holders, pulling: &pulling, candidates };
            if let Some(shift) = balance(&input, rooms) {
                let may = |office: &Office| {
                    office.has_slot(shift.to, size) && office.fresh.until(&content).is_none()
                };
                if moves.list.len() >= MOVES_MAX || !self.office.as_ref().is_some_and(may) {
                    break; // goes on here when there is a slot
                }
                let Shift { to, leaves, .. } = shift;
                moves.list.push(Move { content, size, leaves, to, ended: None });
                rooms.count(leaves, to, size);
                self.order_move(content, size, shift);
            }
            after = Some(content);
        }
        let whole =
            ended && after.is_none_or(|after| self.catalog.contents_after(Some(&after)).next().is_none());
        moves.after = after.filter(|_| !whole);
    }

    /// The copy is made first; then one is too many, and the fullest goes.
    fn order_move(&mut self, content: ContentId, size: u64, shift: Shift) {
        let now = self.now;
        let Some(office) = &mut self.office else {
            return;
        };
        let job = PullJob { small: size <= SMALL_BYTES, since: now, heard: now, heals: false };
        office.pulls.insert((content, shift.to), job);
        office.watching.copies_changed(content);
        let term = office.term;
        let from = self.routes_of(shift.from.into_iter());
        self.send(shift.to, Message::PullOrder { term, content, size, from });
    }
}
