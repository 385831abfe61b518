//! Letters delivered: handed to the shell, written down, shown, and told to the others by a cursor.

use super::super::Engine;
use super::super::event::Effect;
use super::super::exchange::AfterSave;
use crate::messages::mailbox::Merged;
use crate::types::{Letter, LetterId, LetterPlace, NodeId, Priority, StreamId};
use crate::wire::message::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the shell is making durable.
#[derive(Debug)]
pub(super) struct Staging {
    upto: BTreeMap<StreamId, u64>,
    letters: Vec<(StreamId, LetterId, u64)>,
}

/// Letters staged at a time.
const STAGE_MAX: usize = 64;
/// Wait after a failure to stage, in milliseconds.
const STAGE_AGAIN_MS: u64 = 1_000;
/// Cursors are told at most this often, in milliseconds: a burst of letters costs few messages.
pub(super) const CURSORS_INTERVAL_MS: u64 = 15;
/// A letter that nobody has keeps those after it waiting for so long, once the run that numbered it is gone:
/// it was on two disks that both failed, or was never acknowledged.
const GAP_MS_MAX: u64 = 3_600_000;

/// A letter that is due, and its place.
type Due = (LetterPlace, Arc<Letter>);

impl Engine {
    /// Gives the shell what is to be delivered, and tells others how far this node is.
    pub(in crate::engine) fn flush_letters(&mut self) {
        if self.exchange.is_broken() {
            return;
        }
        if self.posting.staging.is_none() && self.now >= self.posting.stage_at {
            self.stage();
        }
        if self.posting.flush_at().is_some_and(|at| at <= self.now) {
            self.posting.cursors_told = self.now;
            let cursors: Vec<(StreamId, u64)> =
                std::mem::take(&mut self.posting.cursors).into_iter().collect();
            let others: Vec<NodeId> =
                self.up_nodes().filter(|node| node.node != self.config.node).map(|node| node.node).collect();
            for node in others {
                self.send(node, Message::Cursors { cursors: cursors.clone() });
            }
        }
    }

    /// What is due next of all streams together, the most urgent first and then in the order of sending: a
    /// sender that was started anew goes on in another stream. Gives also up to where each stream is given then.
    fn next_due(&mut self) -> (BTreeMap<StreamId, u64>, Vec<Due>) {
        let me = self.config.node;
        let (mut upto, mut due) = (BTreeMap::new(), Vec::new());
        for stream in std::mem::take(&mut self.posting.look) {
            let mailbox = &self.posting.mailbox;
            let from = self.posting.taken.get(&stream).copied();
            let from = from.unwrap_or_else(|| mailbox.cursor(me, stream));
            let (letters, at) = mailbox.due(me, stream, from, STAGE_MAX);
            let full = letters.len() == STAGE_MAX;
            match mailbox.has_gap(stream, at) {
                Some(_) if !full => drop(self.posting.gaps.entry(stream).or_insert(self.now)),
                _ => drop(self.posting.gaps.remove(&stream)),
            }
            if full {
                self.posting.look.insert(stream);
            }
            if at > from {
                self.posting.taken.insert(stream, at);
                if !letters.is_empty() || mailbox.is_meant(me, stream, from, at) {
                    upto.insert(stream, at);
                }
            }
            // The times are a peer's word; the order of a stream is that of its numbers.
            let mut sent_us = 0;
            for (place, letter) in letters {
                sent_us = letter.created_us.max(sent_us);
                due.push((sent_us, place, letter));
            }
        }
        due.sort_by_key(|(sent_us, place, _)| (place.stream.priority, *sent_us, *place));
        for (_, place, _) in due.drain(due.len().min(STAGE_MAX)..).rev() {
            let before = place.number - 1;
            self.posting.taken.insert(place.stream, before);
            self.posting.look.insert(place.stream);
            upto.insert(place.stream, before);
        }
        (upto, due.into_iter().map(|(_, place, letter)| (place, letter)).collect())
    }

    fn stage(&mut self) {
        let (upto, mut due) = self.next_due();
        if upto.is_empty() {
            return;
        }
        // One that was posted twice may wait under two numbers.
        let mut once = BTreeSet::new();
        due.retain(|(_, letter)| once.insert(letter.id));
        let letters =
            due.iter().map(|(place, letter)| (place.stream, letter.id, letter.expires_ms)).collect();
        self.posting.staging = Some(Staging { upto, letters });
        if due.is_empty() {
            self.letters_staged(true); // all of them were delivered before, under another number
            return;
        }
        let letters: Vec<(Priority, Letter)> =
            due.into_iter().map(|(place, letter)| (place.stream.priority, Letter::clone(&letter))).collect();
        self.effects.push_back(Effect::StageLetters { letters });
    }

    pub(in crate::engine) fn letters_staged(&mut self, durable: bool) {
        let Some(staging) = self.posting.staging.take() else { return };
        if !durable {
            for stream in staging.upto.into_keys() {
                self.posting.taken.remove(&stream);
                self.posting.look.insert(stream);
            }
            self.posting.stage_at = self.now.plus(STAGE_AGAIN_MS);
            return;
        }
        let (me, mut merged) = (self.config.node, Merged::default());
        for (stream, upto) in &staging.upto {
            let here = staging.letters.iter().filter(|(of, ..)| of == stream);
            let letters: Vec<(LetterId, u64)> = here.map(|(_, id, expires_ms)| (*id, *expires_ms)).collect();
            let change = self.posting.mailbox.delivered(me, *stream, *upto, &letters);
            merged.writes.extend(change.writes);
        }
        let save = self.save_mail(merged);
        let ids = staging.letters.into_iter().map(|(_, id, _)| id).collect();
        let cursors = staging.upto.into_iter().collect();
        self.after_save(save, AfterSave::Delivered { ids, cursors });
    }

    pub(in crate::engine) fn letters_delivered(&mut self, ids: Vec<LetterId>, cursors: &[(StreamId, u64)]) {
        if !ids.is_empty() {
            self.effects.push_back(Effect::RevealLetters { ids });
        }
        self.posting.cursors.extend(cursors.iter().copied());
        self.finish_posts();
    }

    /// A letter that nobody has does not hold up for ever those that came after it.
    pub(super) fn skip_gaps(&mut self) {
        let present = self.present_runs();
        let now = self.now;
        let over = self.posting.gaps.iter().filter(|(stream, since)| {
            !present.contains(&stream.instance) && now.since(**since) >= GAP_MS_MAX
        });
        for stream in over.map(|(stream, _)| *stream).collect::<Vec<_>>() {
            self.posting.gaps.remove(&stream);
            let at = self.posting.taken.get(&stream).copied();
            let at = at.unwrap_or_else(|| self.posting.mailbox.cursor(self.config.node, stream));
            if let Some(last) = self.posting.mailbox.has_gap(stream, at) {
                self.posting.taken.insert(stream, last);
                self.posting.look.insert(stream);
            }
        }
    }
}
