//! Letters: commands that send some, and promise P11: each addressee finds a letter in its inbox
//! once, in the order of its stream, if its sender was told that it is safe.
//!
//! The inbox of an image is everything that ever appeared in it: whoever reads it may take letters away
//! at once. A command that hears no answer gives its letter to another node, under the same id.

use crate::disk::Image;
use crate::ledger::Work;
use crate::marks::Mark;
use crate::options::one_in;
use crate::world::{Streams, World};
use std::collections::{BTreeMap, BTreeSet};
use thorp::engine::event::Input;
use thorp::messages::mailbox::Mailbox;
use thorp::types::{Letter, LetterId, LetterPlace, LetterType, NewLetter, NodeId, Priority};
use thorp::wire::mail::{MailKey, MailRow, MailWrite, PostedLetter};
use thorp::wire::message::Request;
use thorp::wire::record::CatalogWrite;

/// Letters that are to arrive live longer than any seed.
const LIVES_MS: u64 = 24 * 3_600_000;
/// Others expire on their way: they need not arrive, and may not arrive twice.
const BRIEF_MS: u64 = 15_000;

/// What the checker knows of letters.
#[derive(Default)]
pub struct LetterLedger {
    /// Those that their senders were told of as safe, and on which disks they were then.
    safe: BTreeMap<LetterId, BTreeSet<usize>>,
    addressees: BTreeMap<LetterId, Vec<NodeId>>,
    places: BTreeMap<LetterId, BTreeSet<LetterPlace>>,
    /// Hosts whose disks were lost or set back.
    hurt: BTreeSet<usize>,
}

/// A letter that a command is to send.
pub fn draw(rng: &mut Streams, nodes: usize) -> Work {
    let mut id = [0; 16];
    rng.work.fill(&mut id);
    let priority = Priority::ALL[rng.work.below(3) as usize];
    let target = one_in(&mut rng.work, 2).then(|| rng.work.below(nodes as u64) as usize);
    let brief = one_in(&mut rng.work, 8);
    Work::Send { id: LetterId::from_random(id), target, priority, brief }
}

/// What it asks.
pub fn request(op: u64, id: LetterId, target: Option<usize>, priority: Priority, brief: bool) -> Request {
    let letter = NewLetter {
        id,
        kind: LetterType::parse("note").expect("a type"),
        target: target.map(|at| format!("h{at}").into()),
        priority,
        lives_ms: if brief { BRIEF_MS } else { LIVES_MS },
        payload: format!("{{\"op\":{op}}}").into(),
        attachments: Vec::new(),
    };
    Request::Post { sender: NodeId([250; 16]), source: "command".into(), letters: vec![letter], wait_ms: 0 }
}

impl Image {
    pub fn write_mail(&mut self, write: &MailWrite) {
        match write {
            MailWrite::Put(row) => drop(self.mail.insert(row.key(), row.as_ref().clone())),
            MailWrite::Remove(key) => drop(self.mail.remove(key)),
        }
    }

    pub fn mailbox(&self) -> Mailbox {
        Mailbox::load(self.mail.values().cloned())
    }

    /// Staged letters become visible.
    pub fn reveal(&mut self, ids: &[LetterId]) {
        for id in ids {
            if let Some(at) = self.staged.iter().position(|letter| letter.id == *id) {
                self.inbox.push(self.staged.remove(at).id);
            }
        }
    }

    /// What a node does with staged letters at its start.
    pub fn recover_staged(&mut self) {
        let staged: Vec<Letter> = std::mem::take(&mut self.staged);
        let delivered = |letter: &Letter| self.mail.contains_key(&MailKey::Seen(letter.id));
        self.inbox.extend(staged.iter().filter(|letter| delivered(letter)).map(|letter| letter.id));
    }

    fn has_letter(&self, id: LetterId, places: &BTreeSet<LetterPlace>) -> bool {
        let held = places.iter().any(|place| self.mail.contains_key(&MailKey::Letter(*place)));
        held || self.mail.contains_key(&MailKey::Seen(id))
            || places.iter().any(|place| self.mailbox().knows(*place))
    }
}

impl World {
    /// Rows of letters that a node makes durable.
    pub fn mail_written(&mut self, writes: &[CatalogWrite]) {
        for write in writes {
            if let CatalogWrite::Mail(MailWrite::Put(row)) = write
                && let MailRow::Letter { place, letter } = row.as_ref()
            {
                let ledger = &mut self.ledger.letters;
                ledger.places.entry(letter.id).or_default().insert(*place);
                ledger.addressees.insert(letter.id, letter.addressees.clone());
            }
        }
    }

    /// How long it takes until the inbox has done the next order: it does one after the other.
    pub fn inbox_ms(&mut self, at: usize) -> u64 {
        let wait = self.disk_ms(at);
        let disk = &mut self.hosts[at].disk;
        disk.inbox_until = disk.inbox_until.max(self.now) + wait;
        disk.inbox_until - self.now
    }

    /// Letters were written and synced where nobody sees them.
    pub fn letters_staged(&mut self, at: usize, run: u64, letters: Vec<Letter>) {
        let host = &mut self.hosts[at];
        if host.run != run || host.engine.is_none() {
            return;
        }
        let durable = !host.disk.suspect;
        if durable {
            host.disk.image.staged.extend(letters);
        }
        self.report(at, Input::LettersStaged { durable });
    }

    /// Letters were moved to the inbox.
    pub fn letters_revealed(&mut self, at: usize, run: u64, ids: &[LetterId]) {
        let host = &mut self.hosts[at];
        if host.run == run && host.engine.is_some() && !host.disk.suspect {
            host.disk.image.reveal(ids);
            self.inbox_grows(at);
        }
    }

    /// A disk was lost or set back.
    pub fn letters_lost(&mut self, at: usize) {
        self.ledger.letters.hurt.insert(at);
    }

    /// A node says that letters are safe: they are durable there, and on a second machine if the
    /// node hears one.
    pub fn letters_answered(&mut self, at: usize, op: u64, letters: &[PostedLetter]) {
        let Work::Send { brief, .. } = self.ledger.op(op).work else { return };
        for PostedLetter { id, addressees } in letters {
            self.mark(Mark::LetterSent);
            let places = self.ledger.letters.places.get(id).cloned().unwrap_or_default();
            let has = |at: &usize| self.hosts[*at].disk.image.has_letter(*id, &places);
            let holders: BTreeSet<usize> = (0..self.hosts.len()).filter(has).collect();
            if brief || addressees.is_empty() {
                continue;
            }
            if !holders.contains(&at) {
                return self
                    .fail("I29", format!("h{at} says that letter {id} is safe, and does not have it"));
            }
            let others = holders.iter().filter(|other| self.hosts[**other].machine != self.hosts[at].machine);
            if others.count() == 0 {
                self.mark(Mark::LetterOnOneDisk);
            }
            self.ledger.letters.safe.entry(*id).or_default().extend(holders);
        }
    }

    /// Letters appear in an inbox: each once, and those of a stream in its order.
    pub fn inbox_grows(&mut self, at: usize) {
        if self.ledger.letters.hurt.contains(&at) {
            return;
        }
        let inbox = &self.hosts[at].disk.image.inbox;
        let ledger = &self.ledger.letters;
        let mut seen = BTreeSet::new();
        let mut last = BTreeMap::new();
        for id in inbox {
            if !seen.insert(*id) {
                return self.fail("P11", format!("letter {id} is in the inbox of h{at} for a second time"));
            }
            // One that was given to several nodes has a place with each; any of them may have counted.
            let Some(places) = ledger.places.get(id).filter(|places| places.len() == 1) else { continue };
            for place in places {
                let before = last.insert(place.stream, place.number).unwrap_or(0);
                if before > place.number {
                    return self.fail(
                        "P11",
                        format!("h{at} has letter {} of a stream after {before}", place.number),
                    );
                }
            }
        }
    }

    /// Whether all letters are where they are to be, or what is missing.
    pub fn letters_at_rest(&self) -> Result<(), String> {
        let living: Vec<usize> = self.living().into_iter().filter(|at| self.hosts[*at].run > 0).collect();
        let ledger = &self.ledger.letters;
        for (id, holders) in &ledger.safe {
            if holders.iter().all(|at| ledger.hurt.contains(at)) {
                continue; // every disk that had it then was lost
            }
            let addressees = ledger.addressees.get(id).cloned().unwrap_or_default();
            for at in living.iter().filter(|at| addressees.contains(&self.hosts[**at].id)) {
                if !ledger.hurt.contains(at) && !self.hosts[*at].disk.image.inbox.contains(id) {
                    return Err(format!("letter {id} is not in the inbox of h{at}"));
                }
            }
        }
        let digests: BTreeSet<u64> =
            living.iter().map(|at| self.hosts[*at].disk.image.mailbox().digest()).collect();
        if digests.len() > 1 {
            return Err("what the nodes know of letters differs".into());
        }
        // A second place of one that arrived may wait behind a letter that was lost, until it expires.
        for at in &living {
            let mailbox = self.hosts[*at].disk.image.mailbox();
            for letter in mailbox.letters() {
                let waits = living.iter().find(|other| {
                    let (id, disk) = (self.hosts[**other].id, &self.hosts[**other].disk);
                    letter.addressees.contains(&id)
                        && !disk.image.inbox.contains(&letter.id)
                        && !ledger.hurt.contains(other)
                });
                if let Some(other) = waits {
                    return Err(format!("h{at} keeps letter {} for h{other}, which is up", letter.id));
                }
            }
        }
        Ok(())
    }
}
