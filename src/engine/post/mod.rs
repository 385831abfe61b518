//! Letters (messages between machines): taken and told; [`comparing`] finds what was missed, [`delivery`] hands out.
//!
//! Any node takes letters, numbers them in streams of its own run, and tells everybody; the answer
//! waits until they are durable here and on one machine more, if one is up. Whoever hears of letters
//! keeps them until all addressees have them. What is missed is found by comparison: everybody tells
//! the proxy the digest of its mailbox, and the two that differ tell each other what they know.
//!
//! A delivery has three steps, so that a letter is in an inbox once whatever happens between
//! them: the file is made durable where nobody sees it; then that it was delivered; then it is shown.

mod comparing;
mod delivery;

use super::Engine;
use super::event::AskId;
use super::exchange::AfterSave;
use crate::clock::Moment;
use crate::discovery::membership::Freshness;
use crate::limits::{LETTER_LIVES_MAX, LETTERS_AT_ONCE_MAX, ROSTER_MAX};
use crate::messages::mailbox::{Mailbox, Merged};
use crate::types::{InstanceId, Letter, LetterId, LetterPlace, NewLetter, NodeId, StreamId, is_label};
use crate::wire::mail::{Addressee, MailWrite, PostedLetter, RosterRow};
use crate::wire::message::{ErrorCode, Message, Reply};
use crate::wire::record::CatalogWrite;
use comparing::{Comparing, pages};
use delivery::Staging;
use std::collections::{BTreeMap, BTreeSet};

/// State of letters.
#[derive(Debug)]
pub(super) struct Posting {
    pub(super) mailbox: Mailbox,
    posts: BTreeMap<u64, Post>,
    /// Counts posts and messages of them. Begins at the run's random id, as answers to an earlier run must
    /// not count.
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
    /// Nodes of other machines, each with the numbers of the messages that it has not acknowledged.
    waiting: BTreeMap<NodeId, BTreeSet<u64>>,
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

/// Wait before letters are told again to a node that has not answered, in milliseconds.
const TELL_AGAIN_MS: u64 = 1_000;
/// After this long without a second machine a post is answered "unknown", in milliseconds.
const POST_MS_MAX: u64 = 10_000;
/// How often letters expire, in milliseconds.
const EXPIRE_INTERVAL_MS: u64 = 5_000;
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
            comparing: Comparing::new(),
            expired: Moment::default(),
        }
    }

    fn next(&mut self) -> u64 {
        self.begun = self.begun.wrapping_add(1);
        self.begun
    }

    /// When cursors are to be told.
    pub(super) fn flush_at(&self) -> Option<Moment> {
        (!self.cursors.is_empty()).then(|| self.cursors_told.plus(delivery::CURSORS_INTERVAL_MS))
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
            // One that waits for another that was lost with its run gets a second place.
            let mailbox = &self.posting.mailbox;
            let known = mailbox.place(id).filter(|place| mailbox.is_whole(*place));
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
        // Each command has an id of its own; a stream for each would soon be too many.
        let sender = if self.presence_of(sender).is_some() { sender } else { self.config.node };
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
            known.remove(&sender);
            let mut all: Vec<(NodeId, (bool, u32))> =
                known.into_iter().map(|(node, (_, day, up))| (node, (up, day))).collect();
            // Those that are here first, should there ever be too many.
            all.sort_by_key(|(node, heard)| (std::cmp::Reverse(*heard), *node));
            all.truncate(ROSTER_MAX);
            all.sort_unstable();
            return Ok(all.into_iter().map(|(node, _)| node).collect());
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
        let (id, now) = (self.posting.next(), self.now);
        let up: Vec<NodeId> =
            self.up_nodes().filter(|node| node.node != self.config.node).map(|node| node.node).collect();
        let pages: Vec<_> = pages(told).into_iter().map(|page| (self.posting.next(), page)).collect();
        let acks: BTreeSet<u64> = pages.iter().map(|(ack, _)| *ack).collect();
        let others = self.up_nodes().filter(|node| node.machine != self.config.machine);
        let mut waiting: BTreeMap<NodeId, BTreeSet<u64>> =
            others.map(|node| (node.node, acks.clone())).collect();
        if acks.is_empty() {
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
        up.iter().for_each(|node| self.tell_older(*node));
        for (ack, page) in pages {
            for node in &up {
                self.send(*node, Message::Letters { letters: page.clone(), ack: Some(ack) });
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
        let told = |post: &Post| post.waiting.get(&from).is_some_and(|acks| acks.contains(&ack));
        let Some((id, post)) = self.posting.posts.iter_mut().find(|(_, post)| told(post)) else { return };
        let id = *id;
        let left = post.waiting.get_mut(&from).map_or(0, |acks| {
            acks.remove(&ack);
            acks.len()
        });
        if left == 0 {
            post.waiting.remove(&from);
            post.held |= elsewhere;
        }
        self.finish_post(id);
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

    // ---- keeping ----

    /// Makes a change of the mailbox durable. Gives the save to wait for, if any.
    fn save_mail(&mut self, merged: Merged) -> Option<u64> {
        self.posting.look.extend(&merged.streams);
        self.save_mail_rows(merged.writes)
    }

    fn save_mail_rows(&mut self, writes: Vec<MailWrite>) -> Option<u64> {
        if writes.is_empty() {
            return self.exchange.last_save();
        }
        self.posting.comparing.mailbox_changed(self.now);
        Some(self.save_writes(writes.into_iter().map(CatalogWrite::Mail).collect()))
    }

    /// The wall clock, if it can be trusted to let letters expire.
    fn letter_clock(&self) -> Option<u64> {
        Some(self.wall_ms()).filter(|wall_ms| *wall_ms > 0 && self.is_clock_trusted())
    }

    fn finish_posts(&mut self) {
        let posts: Vec<u64> = self.posting.posts.keys().copied().collect();
        posts.into_iter().for_each(|post| self.finish_post(post));
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
            self.posting.comparing.retain(|node| self.members.get(node).is_some());
            if let Some(now_ms) = self.letter_clock() {
                let present = self.present_runs();
                let merged = self.posting.mailbox.expire(now_ms, &present);
                self.save_mail(merged);
                let known: BTreeSet<StreamId> = self.posting.mailbox.streams().collect();
                self.posting.taken.retain(|stream, _| known.contains(stream));
                self.posting.gaps.retain(|stream, _| known.contains(stream));
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
        let writes = self.posting.mailbox.merge_roster(&here, None);
        self.save_mail_rows(writes);
    }

    fn tell_posts_again(&mut self) {
        let up: BTreeSet<NodeId> = self.up_nodes().map(|node| node.node).collect();
        self.posting.comparing.retain_told(&up);
        let (now, posting) = (self.now, &mut self.posting);
        let mut again = Vec::new();
        for post in posting.posts.values_mut() {
            post.waiting.retain(|node, _| up.contains(node));
            if post.held || now.since(post.told) < TELL_AGAIN_MS {
                continue;
            }
            post.told = now;
            let held = post.letters.iter().filter_map(|Taken { place, .. }| {
                posting.mailbox.letter(*place).map(|letter| (*place, Letter::clone(letter)))
            });
            let pages = pages(held.collect()).into_iter().map(|page| {
                posting.begun = posting.begun.wrapping_add(1);
                (posting.begun, page)
            });
            let pages: Vec<_> = pages.collect();
            if pages.is_empty() {
                post.waiting.clear(); // all of them are done with
            }
            for (node, acks) in &mut post.waiting {
                *acks = pages.iter().map(|(ack, _)| *ack).collect();
                again.extend(pages.iter().map(|(ack, page)| (*node, *ack, page.clone())));
            }
        }
        for (node, ack, letters) in again {
            self.send(node, Message::Letters { letters, ack: Some(ack) });
        }
        self.finish_posts();
    }
}
