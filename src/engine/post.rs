//! Letters (messages between machines): taken, told, compared, delivered.
//!
//! Any node takes letters, numbers them in streams of its own run, and tells everybody; the answer
//! waits until they are durable here and on one machine more, if one is up. Whoever hears of letters
//! keeps them until all addressees have them. What is missed is found by comparison: everybody tells
//! the proxy the digest of its mailbox, and the two that differ tell each other what they know.
//!
//! A delivery has three steps, so that a letter is in an inbox once whatever happens between
//! them: the file is made durable where nobody sees it; then that it was delivered; then it is shown.

use super::Engine;
use super::event::{AskId, Effect};
use super::exchange::AfterSave;
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::{LETTER_LIVES_MAX, LETTERS_AT_ONCE_MAX, PAGE_BYTES_TARGET};
use crate::messages::mailbox::{Mailbox, Merged};
use crate::types::{
    InstanceId, Letter, LetterId, LetterPlace, NewLetter, NodeId, Priority, StreamId, is_label,
};
use crate::wire::mail::{Addressee, MailWrite, PostedLetter, RosterRow, StreamSummary};
use crate::wire::message::{ErrorCode, Message, Reply};
use crate::wire::record::CatalogWrite;
use std::collections::{BTreeMap, BTreeSet};

/// State of letters.
#[derive(Debug)]
pub(super) struct Posting {
    pub(super) mailbox: Mailbox,
    posts: BTreeMap<u64, Post>,
    /// Begins at the run's random id, as answers to an earlier run must not count.
    begun: u64,
    /// Of the last letter that this node took.
    created_us: u64,
    /// Up to where each stream was given to the shell, or has nothing for this node.
    taken: BTreeMap<StreamId, u64>,
    /// Streams that may have something to deliver.
    look: BTreeSet<StreamId>,
    staging: Option<Staging>,
    /// After a failure to stage, not before then.
    stage_at: Moment,
    /// Since when a stream has letters that wait for one that is not known.
    gaps: BTreeMap<StreamId, Moment>,
    cursors: BTreeMap<StreamId, u64>,
    cursors_told: Moment,
    comparing: Comparing,
    expired: Moment,
}

/// Letters that a command or the outbox gave to this node, until the answer.
#[derive(Debug)]
struct Post {
    ask: AskId,
    letters: Vec<Taken>,
    /// Nodes of other machines that have not said that they have them.
    waiting: BTreeSet<NodeId>,
    saved: bool,
    /// Another machine has them.
    held: bool,
    told: Moment,
    begun: Moment,
    /// Until then it is waited for the addressees.
    wait_until: Moment,
}

/// A letter that was taken.
#[derive(Debug)]
struct Taken {
    id: LetterId,
    place: LetterPlace,
    addressees: Vec<NodeId>,
}

/// What the shell is making durable.
#[derive(Debug)]
struct Staging {
    upto: BTreeMap<StreamId, u64>,
    letters: Vec<(StreamId, LetterId, u64)>,
}

#[derive(Debug, Default)]
struct Comparing {
    digest: u64,
    dirty: bool,
    changed: Moment,
    told: Moment,
    told_to: Option<NodeId>,
    /// When each peer was last told what this node knows.
    asked: BTreeMap<NodeId, Moment>,
}

/// Letters staged at a time.
const STAGE_MAX: usize = 64;
/// Wait after a failure to stage, in milliseconds.
const STAGE_AGAIN_MS: u64 = 1_000;
/// Cursors are told at most this often, in milliseconds: a burst of letters costs few messages.
const CURSORS_INTERVAL_MS: u64 = 15;
/// Wait before letters are told again to a node that has not answered, in milliseconds.
const TELL_AGAIN_MS: u64 = 1_000;
/// After this long without a second machine a post is answered "unknown", in milliseconds.
const POST_MS_MAX: u64 = 10_000;
/// How often the proxy is told the digest, in milliseconds.
const DIGEST_INTERVAL_MS: u64 = 2_000;
/// Mailboxes are compared once this one has stood still for so long, in milliseconds.
const SETTLED_MS: u64 = 300;
/// Wait between two comparisons with a peer, in milliseconds.
const COMPARE_INTERVAL_MS: u64 = 1_000;
/// Letters sent to a peer in one comparison; it compares again.
const LACKING_MAX: usize = 2_000;
/// How often letters expire, in milliseconds.
const EXPIRE_INTERVAL_MS: u64 = 5_000;
/// A letter that nobody has keeps those after it waiting for so long, once the run that numbered it is gone:
/// it was on two disks that both failed, or was never acknowledged.
const GAP_MS_MAX: u64 = 3_600_000;
const DAY_MS: u64 = 24 * 3_600_000;
const UNKNOWN: &str = "it is not durable on a second machine yet; it will be sent if this node stays";

impl Posting {
    pub(super) fn new(mailbox: Mailbox, instance: InstanceId) -> Posting {
        Posting {
            look: mailbox.streams().collect(),
            mailbox,
            posts: BTreeMap::new(),
            begun: instance.0,
            created_us: 0,
            taken: BTreeMap::new(),
            staging: None,
            stage_at: Moment::default(),
            gaps: BTreeMap::new(),
            cursors: BTreeMap::new(),
            cursors_told: Moment::default(),
            comparing: Comparing { dirty: true, ..Comparing::default() },
            expired: Moment::default(),
        }
    }

    /// When cursors are to be told.
    pub(super) fn flush_at(&self) -> Option<Moment> {
        (!self.cursors.is_empty()).then(|| self.cursors_told.plus(CURSORS_INTERVAL_MS))
    }
}

impl Engine {
    // ---- taking ----

    pub(super) fn post(
        &mut self,
        ask: AskId,
        sender: NodeId,
        source: &str,
        letters: Vec<NewLetter>,
        wait_ms: u64,
    ) {
        if let Err((code, why)) = self.check_post(source, &letters) {
            self.fail(ask, code, &why);
            return;
        }
        let source = self.presence_of(sender).map_or_else(|| source.into(), |presence| presence.name.clone());
        let (mut places, mut told, mut merged) = (Vec::new(), Vec::new(), Merged::default());
        for new in letters {
            let id = new.id;
            let known = self.posting.mailbox.place(id);
            let place = match known {
                Some(place) => place,
                None => match self.take(sender, &source, new) {
                    Ok((place, change)) => {
                        merged.writes.extend(change.writes);
                        merged.streams.extend(change.streams);
                        place
                    }
                    Err((code, why)) => {
                        self.save_mail(merged);
                        self.fail(ask, code, &why);
                        return;
                    }
                },
            };
            let letter = self.posting.mailbox.letter(place).map(|letter| Letter::clone(letter));
            let addressees = letter.as_ref().map(|letter| letter.addressees.clone()).unwrap_or_default();
            told.extend(letter.map(|letter| (place, letter)));
            places.push(Taken { id, place, addressees });
        }
        self.begin_post(ask, places, told, merged, wait_ms);
    }

    fn check_post(&self, source: &str, letters: &[NewLetter]) -> Result<(), (ErrorCode, String)> {
        if self.exchange.is_broken() {
            return Err((ErrorCode::Disk, "the disk of this node does not take what must be durable".into()));
        }
        if self.wall_ms() == 0 {
            return Err((ErrorCode::NotReady, "this node has just started".into()));
        }
        let invalid = |why: &str| Err((ErrorCode::Invalid, why.to_owned()));
        let lives_ms_max = u64::try_from(LETTER_LIVES_MAX.as_millis()).unwrap_or(u64::MAX);
        if letters.is_empty() || letters.len() > LETTERS_AT_ONCE_MAX || !is_label(source) {
            return invalid("a request without messages, with too many, or without a sender's name");
        }
        if letters.iter().any(|letter| letter.lives_ms == 0 || letter.lives_ms > lives_ms_max) {
            return invalid("a message must be of use for more than nothing and at most 31 days");
        }
        if letters.iter().any(|letter| letter.kind.is_own()) {
            return invalid("types that begin with `thorp.` are thorp's own");
        }
        Ok(())
    }

    /// Gives a letter its place and its addressees.
    fn take(
        &mut self,
        sender: NodeId,
        source: &str,
        new: NewLetter,
    ) -> Result<(LetterPlace, Merged), (ErrorCode, String)> {
        let addressees = self.addressees(sender, new.target.as_deref())?;
        let wall_ms = self.wall_ms();
        let created_us = wall_ms.saturating_mul(1_000).max(self.posting.created_us + 1);
        self.posting.created_us = created_us;
        let target = new.target.map(|target| match addressees.as_slice() {
            [one] => self.name_of(*one).unwrap_or(target),
            _ => target,
        });
        let letter = Letter {
            id: new.id,
            kind: new.kind,
            source: source.into(),
            target,
            created_us,
            expires_ms: wall_ms.saturating_add(new.lives_ms),
            payload: new.payload,
            attachments: new.attachments,
            addressees,
        };
        let stream = StreamId { sender, instance: self.config.instance, priority: new.priority };
        let mailbox = &mut self.posting.mailbox;
        mailbox.check_room(stream, &letter).map_err(|full| (ErrorCode::NoSpace, full.to_string()))?;
        let place = LetterPlace { stream, number: mailbox.next_number(stream) };
        Ok((place, mailbox.merge_letters(vec![(place, letter)], None)))
    }

    fn name_of(&self, node: NodeId) -> Option<Box<str>> {
        let known = || self.posting.mailbox.roster().find(|row| row.node == node).map(|row| row.name.clone());
        self.presence_of(node).map(|presence| presence.name.clone()).or_else(known)
    }

    /// Everybody but the sender, or the one who is meant. Of several of that name the one that is
    /// up, else the one heard last: a machine that was set up anew has a new id.
    fn addressees(&self, sender: NodeId, target: Option<&str>) -> Result<Vec<NodeId>, (ErrorCode, String)> {
        let mut known: BTreeMap<NodeId, (Box<str>, u32, bool)> = BTreeMap::new();
        for row in self.posting.mailbox.roster() {
            known.insert(row.node, (row.name.clone(), row.day, false));
        }
        for presence in self.all_nodes() {
            let up = self.freshness_of(presence.node) == Freshness::Up;
            known.insert(presence.node, (presence.name.clone(), self.today(), up));
        }
        let Some(target) = target else {
            return Ok(known.into_keys().filter(|node| *node != sender).collect());
        };
        let meant = known.iter().filter(|(node, (name, ..))| **name == *target || node.to_string() == target);
        let best = meant.max_by_key(|(node, (_, day, up))| (*up, *day, **node)).map(|(node, _)| *node);
        best.map(|node| vec![node]).ok_or_else(|| {
            let names: BTreeSet<&str> = known.values().map(|(name, ..)| &**name).collect();
            let names: Vec<&str> = names.into_iter().collect();
            (ErrorCode::NotFound, format!("no machine `{target}` was ever seen; known: {}", names.join(", ")))
        })
    }

    fn begin_post(
        &mut self,
        ask: AskId,
        letters: Vec<Taken>,
        told: Vec<(LetterPlace, Letter)>,
        merged: Merged,
        wait_ms: u64,
    ) {
        self.posting.begun = self.posting.begun.wrapping_add(1);
        let (id, now) = (self.posting.begun, self.now);
        let up: Vec<NodeId> =
            self.up_nodes().filter(|node| node.node != self.config.node).map(|node| node.node).collect();
        let others = self.up_nodes().filter(|node| node.machine != self.config.machine);
        let mut waiting: BTreeSet<NodeId> = others.map(|node| node.node).collect();
        if told.is_empty() {
            waiting.clear(); // nobody is to get them
        }
        let post = Post {
            ask,
            letters,
            waiting,
            saved: false,
            held: false,
            told: now,
            begun: now,
            wait_until: now.plus(wait_ms),
        };
        self.posting.posts.insert(id, post);
        let save = self.save_mail(merged);
        for page in pages(told) {
            for node in &up {
                self.send(*node, Message::Letters { letters: page.clone(), ack: Some(id) });
            }
        }
        self.after_save(save, AfterSave::Posted { post: id });
    }

    pub(super) fn posted_here(&mut self, post: u64) {
        if let Some(post) = self.posting.posts.get_mut(&post) {
            post.saved = true;
        }
        self.finish_post(post);
    }

    pub(super) fn letters_stored(&mut self, from: NodeId, ack: u64) {
        let elsewhere = self.presence_of(from).is_some_and(|node| node.machine != self.config.machine);
        if let Some(post) = self.posting.posts.get_mut(&ack) {
            post.waiting.remove(&from);
            post.held |= elsewhere;
        }
        self.finish_post(ack);
    }

    pub(super) fn post_gone(&mut self, ask: AskId) {
        self.posting.posts.retain(|_, post| post.ask != ask);
    }

    fn finish_post(&mut self, id: u64) {
        let Some(post) = self.posting.posts.get(&id) else { return };
        let safe = post.saved && (post.held || post.waiting.is_empty());
        let overdue = self.now.since(post.begun) >= POST_MS_MAX;
        if !safe && !overdue {
            return;
        }
        let ask = post.ask;
        if !safe {
            self.posting.posts.remove(&id);
            self.fail(ask, ErrorCode::Unknown, UNKNOWN);
            return;
        }
        let letters: Vec<PostedLetter> = post.letters.iter().map(|letter| self.posted(letter)).collect();
        let everywhere =
            letters.iter().flat_map(|letter| &letter.addressees).all(|to| !to.up || to.delivered);
        if everywhere || self.now >= post.wait_until {
            self.posting.posts.remove(&id);
            self.answer(ask, Reply::Posted { letters });
        }
    }

    fn posted(&self, letter: &Taken) -> PostedLetter {
        let addressees = letter.addressees.iter().map(|node| Addressee {
            node: *node,
            name: self.name_of(*node).unwrap_or_else(|| node.to_string().into()),
            up: self.freshness_of(*node) == Freshness::Up,
            delivered: self.posting.mailbox.has_got(*node, letter.place),
        });
        PostedLetter { id: letter.id, addressees: addressees.collect() }
    }

    /// How many letters wait for somebody.
    pub(super) fn letters_waiting(&self) -> u64 {
        self.posting.mailbox.len() as u64
    }

    // ---- hearing ----

    /// Makes a change of the mailbox durable. Gives the save to wait for, if any.
    fn save_mail(&mut self, merged: Merged) -> Option<u64> {
        self.posting.look.extend(&merged.streams);
        self.save_mail_rows(merged.writes)
    }

    fn save_mail_rows(&mut self, writes: Vec<MailWrite>) -> Option<u64> {
        if writes.is_empty() {
            return self.exchange.last_save();
        }
        self.posting.comparing.dirty = true;
        self.posting.comparing.changed = self.now;
        Some(self.save_writes(writes.into_iter().map(CatalogWrite::Mail).collect()))
    }

    /// The wall clock, if it can be trusted to let letters expire.
    fn letter_clock(&self) -> Option<u64> {
        Some(self.wall_ms()).filter(|wall_ms| *wall_ms > 0 && self.is_clock_trusted())
    }

    pub(super) fn letters_heard(
        &mut self,
        from: NodeId,
        letters: Vec<(LetterPlace, Letter)>,
        ack: Option<u64>,
    ) {
        let places: Vec<LetterPlace> = letters.iter().map(|(place, _)| *place).collect();
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
        if places.iter().all(|place| self.posting.mailbox.is_whole(*place)) {
            self.after_save(save, AfterSave::TellLetters { to: from, ack });
        } else {
            self.tell_mailbox(from, false);
        }
    }

    pub(super) fn cursors_heard(&mut self, from: NodeId, cursors: &[(StreamId, u64)]) {
        let merged = self.posting.mailbox.merge_cursors(from, cursors);
        self.save_mail(merged);
        self.finish_posts();
    }

    fn finish_posts(&mut self) {
        let posts: Vec<u64> = self.posting.posts.keys().copied().collect();
        posts.into_iter().for_each(|post| self.finish_post(post));
    }

    // ---- delivering ----

    /// Gives the shell what is to be delivered, and tells others how far this node is.
    pub(super) fn flush_letters(&mut self) {
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

    fn stage(&mut self) {
        let me = self.config.node;
        let (mut upto, mut due) = (BTreeMap::new(), Vec::new());
        let mut streams = std::mem::take(&mut self.posting.look);
        while let Some(stream) = streams.pop_first() {
            let mailbox = &self.posting.mailbox;
            let from = self.posting.taken.get(&stream).copied();
            let from = from.unwrap_or_else(|| mailbox.cursor(me, stream));
            let room = STAGE_MAX - due.len();
            let (letters, at) = mailbox.due(me, stream, from, room);
            let full = letters.len() == room;
            match mailbox.has_gap(stream, at) {
                Some(_) if !full => drop(self.posting.gaps.entry(stream).or_insert(self.now)),
                _ => drop(self.posting.gaps.remove(&stream)),
            }
            if at > from {
                self.posting.taken.insert(stream, at);
                if !letters.is_empty() || mailbox.is_meant(me, stream, from, at) {
                    upto.insert(stream, at);
                }
                due.extend(letters);
            }
            if full {
                streams.insert(stream);
                break;
            }
        }
        self.posting.look.extend(streams);
        if upto.is_empty() {
            return;
        }
        due.sort_by_key(|(place, letter)| (place.stream.priority, letter.created_us, place.number));
        // One that was given to two nodes has two places.
        let mut ids = BTreeSet::new();
        due.retain(|(_, letter)| ids.insert(letter.id));
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

    pub(super) fn letters_staged(&mut self, durable: bool) {
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

    pub(super) fn letters_delivered(&mut self, ids: Vec<LetterId>, cursors: &[(StreamId, u64)]) {
        if !ids.is_empty() {
            self.effects.push_back(Effect::RevealLetters { ids });
        }
        self.posting.cursors.extend(cursors.iter().copied());
        self.finish_posts();
    }

    // ---- from time to time ----

    fn today(&self) -> u32 {
        u32::try_from(self.wall_ms() / DAY_MS).unwrap_or(u32::MAX)
    }

    pub(super) fn post_tick(&mut self) {
        if self.exchange.is_broken() {
            return;
        }
        self.note_roster();
        self.tell_posts_again();
        self.skip_gaps();
        if self.now.since(self.posting.expired) >= EXPIRE_INTERVAL_MS {
            self.posting.expired = self.now;
            if let Some(now_ms) = self.letter_clock() {
                let present = self.present_runs();
                let merged = self.posting.mailbox.expire(now_ms, &present);
                self.save_mail(merged);
            }
        }
        self.tell_digest();
    }

    /// Everybody who is here gets letters from now on, also when it is off.
    fn note_roster(&mut self) {
        let day = self.today();
        if day == 0 {
            return;
        }
        let here: Vec<RosterRow> = self
            .up_nodes()
            .map(|presence| RosterRow { node: presence.node, name: presence.name.clone(), day })
            .collect();
        let writes = self.posting.mailbox.merge_roster(&here);
        self.save_mail_rows(writes);
    }

    fn tell_posts_again(&mut self) {
        let up: BTreeSet<NodeId> = self.up_nodes().map(|node| node.node).collect();
        let now = self.now;
        let mut again = Vec::new();
        for (id, post) in &mut self.posting.posts {
            post.waiting.retain(|node| up.contains(node));
            if post.held || now.since(post.told) < TELL_AGAIN_MS {
                continue;
            }
            post.told = now;
            let held = post.letters.iter().filter_map(|Taken { place, .. }| {
                self.posting.mailbox.letter(*place).map(|letter| (*place, Letter::clone(letter)))
            });
            let held: Vec<(LetterPlace, Letter)> = held.collect();
            again.extend(post.waiting.iter().map(|node| (*node, *id, held.clone())));
        }
        for (node, id, letters) in again {
            for page in pages(letters) {
                self.send(node, Message::Letters { letters: page, ack: Some(id) });
            }
        }
        self.finish_posts();
    }

    /// A letter that nobody has does not hold up for ever those that came after it.
    fn skip_gaps(&mut self) {
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

    // ---- comparing ----

    fn my_digest(&mut self) -> u64 {
        if std::mem::take(&mut self.posting.comparing.dirty) {
            self.posting.comparing.digest = self.posting.mailbox.digest();
        }
        self.posting.comparing.digest
    }

    fn tell_digest(&mut self) {
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

    pub(super) fn mail_digest_heard(&mut self, from: NodeId, digest: u64) {
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

    fn tell_mailbox(&mut self, to: NodeId, reply: bool) {
        let mut after = None;
        loop {
            let (streams, last) = self.posting.mailbox.summary(after, PAGE_BYTES_TARGET);
            let next = streams.last().map(|row| row.stream);
            let roster = if last { self.posting.mailbox.roster().cloned().collect() } else { Vec::new() };
            self.send(to, Message::MailSummary { after, streams, last, roster, reply });
            if last {
                return;
            }
            after = next;
        }
    }

    pub(super) fn mail_summary_heard(
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
        let states: Vec<_> = streams.iter().map(|row| (row.stream, row.state.clone())).collect();
        let merged = self.posting.mailbox.merge_states(&states);
        self.save_mail(merged);
        let writes = self.posting.mailbox.merge_roster(roster);
        self.save_mail_rows(writes);
        if !self.congestion.holds_up(from) {
            let lacking = self.posting.mailbox.lacking(after, streams, last);
            let letters = lacking.into_iter().take(LACKING_MAX).filter_map(|place| {
                self.posting.mailbox.letter(place).map(|letter| (place, Letter::clone(letter)))
            });
            for page in pages(letters.collect()) {
                self.send(from, Message::Letters { letters: page, ack: None });
            }
        }
        if reply && last {
            self.tell_mailbox(from, false);
        }
        self.finish_posts();
    }
}

/// Letters in portions that fit a frame.
fn pages(letters: Vec<(LetterPlace, Letter)>) -> Vec<Vec<(LetterPlace, Letter)>> {
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
