//! Mailboxes compared: letters heard, digests told to the proxy, summaries, and what they show to be missing.

use super::super::Engine;
use super::super::exchange::AfterSave;
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::PAGE_BYTES_TARGET;
use crate::types::{InstanceId, Letter, LetterPlace, NodeId, StreamId};
use crate::wire::mail::{RosterRow, StreamState, StreamSummary};
use crate::wire::message::Message;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of others' mailboxes.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    digest: u64,
    /// The mailbox changed since `digest` was computed.
    dirty: bool,
    changed: Moment,
    told: Moment,
    told_to: Option<NodeId>,
    /// When each peer was last told what this node knows.
    asked: BTreeMap<NodeId, Moment>,
    /// When each was last told because it asked, or because letters that came from it are missing.
    answered: BTreeMap<NodeId, Moment>,
    /// Runs of peers that were told of letters of this node's earlier runs.
    told_older: BTreeMap<NodeId, InstanceId>,
}

/// How often the proxy is told the digest, in milliseconds.
const DIGEST_INTERVAL_MS: u64 = 2_000;
/// Mailboxes are compared once this one has stood still for so long, in milliseconds.
const SETTLED_MS: u64 = 300;
/// Wait between two comparisons with a peer, in milliseconds.
const COMPARE_INTERVAL_MS: u64 = 1_000;
/// Wait between two answers to a peer, in milliseconds: each is all that is known.
const ANSWER_INTERVAL_MS: u64 = 200;
/// Letters sent to a peer in one comparison; it compares again.
const LACKING_MAX: usize = 2_000;

impl Comparing {
    pub(super) fn new() -> Comparing {
        Comparing { dirty: true, ..Comparing::default() }
    }

    pub(super) fn mailbox_changed(&mut self, now: Moment) {
        self.dirty = true;
        self.changed = now;
    }

    /// Forgets the peers that are not known any more.
    pub(super) fn retain(&mut self, known: impl Fn(NodeId) -> bool) {
        self.asked.retain(|node, _| known(*node));
        self.answered.retain(|node, _| known(*node));
    }

    /// What was told to others may have been lost with the link.
    pub(super) fn retain_told(&mut self, up: &BTreeSet<NodeId>) {
        self.told_older.retain(|node, _| up.contains(node));
    }
}

impl Engine {
    pub(in crate::engine) fn letters_heard(
        &mut self,
        from: NodeId,
        letters: Vec<(LetterPlace, Letter)>,
        ack: Option<u64>,
    ) {
        // Who knows all up to the last knows them all.
        let mut last: BTreeMap<StreamId, u64> = BTreeMap::new();
        for (place, _) in &letters {
            let last = last.entry(place.stream).or_default();
            *last = place.number.max(*last);
        }
        let now_ms = self.letter_clock();
        let mine = self.config.instance;
        // Nobody else numbers in this run's streams.
        let letters = letters
            .into_iter()
            .filter(|(place, _)| place.stream.instance != mine || self.posting.mailbox.knows(*place));
        let letters = letters.collect();
        let merged = self.posting.mailbox.merge_letters(letters, now_ms);
        let save = self.save_mail(merged);
        let Some(ack) = ack else { return };
        let mut last = last.into_iter().map(|(stream, number)| LetterPlace { stream, number });
        if last.all(|place| self.posting.mailbox.is_whole(place)) {
            self.after_save(save, AfterSave::TellLetters { to: from, ack });
        } else {
            self.answer_mailbox(from);
        }
    }

    fn my_digest(&mut self) -> u64 {
        if std::mem::take(&mut self.posting.comparing.dirty) {
            self.posting.comparing.digest = self.posting.mailbox.digest();
        }
        self.posting.comparing.digest
    }

    pub(super) fn tell_digest(&mut self) {
        let Some(proxy) = self.me.proxy.filter(|proxy| *proxy != self.config.node) else { return };
        let comparing = &self.posting.comparing;
        let rested = self.now.since(comparing.told) >= DIGEST_INTERVAL_MS;
        if self.freshness_of(proxy) == Freshness::Up && (rested || comparing.told_to != Some(proxy)) {
            let digest = self.my_digest();
            let comparing = &mut self.posting.comparing;
            (comparing.told, comparing.told_to) = (self.now, Some(proxy));
            self.send(proxy, Message::MailDigest { digest });
        }
    }

    pub(in crate::engine) fn mail_digest_heard(&mut self, from: NodeId, digest: u64) {
        let now = self.now;
        let comparing = &mut self.posting.comparing;
        let asked = comparing.asked.get(&from).copied().unwrap_or_default();
        // A mailbox that never stands still is compared all the same, only less often.
        let settled =
            now.since(comparing.changed) >= SETTLED_MS || now.since(asked) >= 4 * COMPARE_INTERVAL_MS;
        if !settled || now.since(asked) < COMPARE_INTERVAL_MS || self.congestion.holds_up(from) {
            return;
        }
        if self.my_digest() != digest {
            self.posting.comparing.asked.insert(from, now);
            self.tell_mailbox(from, true);
        }
    }

    /// Before the first letters of this run to `to`: those of earlier runs that it has not got. They were lost with
    /// this node's last links, and would else come by comparison, behind newer ones.
    pub(super) fn tell_older(&mut self, to: NodeId) {
        let run = self.presence_of(to).map(|presence| presence.instance);
        let told = self.posting.comparing.told_older.get(&to).copied();
        let Some(run) = run.filter(|run| told != Some(*run) && !self.congestion.holds_up(to)) else { return };
        self.posting.comparing.told_older.insert(to, run);
        let (me, mine) = (self.config.node, self.config.instance);
        let older = |stream: &StreamId| stream.sender == me && stream.instance != mine;
        let mut letters = self.posting.mailbox.waiting_of(to, older);
        letters.sort_by_key(|(place, letter)| (place.stream.priority, letter.created_us, *place));
        letters.truncate(LACKING_MAX);
        let letters = letters.into_iter().map(|(place, letter)| (place, Letter::clone(&letter)));
        for page in pages(letters.collect()) {
            self.send(to, Message::Letters { letters: page, ack: None });
        }
    }

    fn answer_mailbox(&mut self, to: NodeId) {
        let answered = self.posting.comparing.answered.get(&to).copied().unwrap_or_default();
        if self.now.since(answered) >= ANSWER_INTERVAL_MS {
            self.posting.comparing.answered.insert(to, self.now);
            self.tell_mailbox(to, false);
        }
    }

    fn tell_mailbox(&mut self, to: NodeId, reply: bool) {
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let (streams, last) = self.posting.mailbox.summary(after, PAGE_BYTES_TARGET);
            let next = streams.last().map(|row| row.stream);
            let roster = if last { self.posting.mailbox.roster().cloned().collect() } else { Vec::new() };
            pages.push(Message::MailSummary { after, streams, last, roster, reply });
            if last {
                break;
            }
            after = next;
        }
        // A cursor that is believed lets others forget the letters.
        let save = self.exchange.last_save();
        self.after_save(save, AfterSave::TellMailbox { to, pages });
    }

    /// Whether a stream can be so: in those of this run there are no numbers but those it gave, else the next
    /// would be taken for done with.
    fn is_possible(&self, stream: StreamId, state: &StreamState) -> bool {
        let numbers = state.done.iter().map(|span| span.1).chain(state.cursors.iter().map(|cursor| cursor.1));
        stream.instance != self.config.instance
            || numbers.max().is_some_and(|last| last < self.posting.mailbox.next_number(stream))
    }

    pub(in crate::engine) fn cursors_heard(&mut self, from: NodeId, cursors: &[(StreamId, u64)]) {
        let possible = |(stream, at): &(StreamId, u64)| {
            stream.instance != self.config.instance || *at < self.posting.mailbox.next_number(*stream)
        };
        let cursors: Vec<(StreamId, u64)> = cursors.iter().copied().filter(possible).collect();
        let merged = self.posting.mailbox.merge_cursors(from, &cursors);
        self.save_mail(merged);
        self.finish_posts();
    }

    pub(in crate::engine) fn mail_summary_heard(
        &mut self,
        from: NodeId,
        after: Option<StreamId>,
        streams: &[StreamSummary],
        last: bool,
        roster: &[RosterRow],
        reply: bool,
    ) {
        if self.exchange.is_broken() {
            return;
        }
        let now_ms = self.letter_clock();
        let possible = streams.iter().filter(|row| self.is_possible(row.stream, &row.state));
        let states: Vec<_> = possible.map(|row| (row.stream, row.state.clone())).collect();
        let merged = self.posting.mailbox.merge_states(&states, now_ms);
        self.save_mail(merged);
        let writes = self.posting.mailbox.merge_roster(roster, now_ms);
        self.save_mail_rows(writes);
        if !self.congestion.holds_up(from) {
            let mut lacking = self.posting.mailbox.lacking(after, streams, last);
            let mailbox = &self.posting.mailbox;
            lacking.sort_by_cached_key(|place| {
                (place.stream.priority, mailbox.letter(*place).map(|letter| letter.created_us), *place)
            });
            let letters = lacking.into_iter().take(LACKING_MAX).filter_map(|place| {
                self.posting.mailbox.letter(place).map(|letter| (place, Letter::clone(letter)))
            });
            for page in pages(letters.collect()) {
                self.send(from, Message::Letters { letters: page, ack: None });
            }
        }
        if reply && last {
            self.answer_mailbox(from);
        }
        self.finish_posts();
    }
}

/// Letters in portions that fit a frame.
pub(super) fn pages(letters: Vec<(LetterPlace, Letter)>) -> Vec<Vec<(LetterPlace, Letter)>> {
    let (mut pages, mut bytes) = (Vec::new(), usize::MAX);
    for (place, letter) in letters {
        let names: usize = letter.attachments.iter().map(|name| name.as_str().len() + 2).sum();
        let size = letter.payload.len() + names + letter.addressees.len() * 17 + 256;
        if bytes.saturating_add(size) > PAGE_BYTES_TARGET {
            pages.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(page) = pages.last_mut() {
            page.push((place, letter));
        }
    }
    pages
}
