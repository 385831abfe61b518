//! The shell of a simulated node: performs what the engine decided, as `node::effects` does.
//!
//! All that a node does with its disk and its peers is here, so that a new effect or a new way to
//! do one has one place. Invariant: nothing is reported to the engine before it is true, unless a
//! canary says so.

use crate::disk::{Bytes, Change, RemovedFor, StoredFor};
use crate::ledger::Cause;
use crate::marks::Mark;
use crate::options::{Canary, Kind, between, one_in};
use crate::world::{Event, World};
use thorp::clock::Moment;
use thorp::engine::event::{Effect, Input, Note};
use thorp::types::DiskState;
use thorp::types::{ContentId, NodeId, NodeRoute};
use thorp::wire::datagram::Datagram;
use thorp::wire::message::{ErrorCode, Reply};

/// Bytes that move in a millisecond.
const BYTES_A_MS: u64 = 100_000;

impl World {
    pub fn perform(&mut self, at: usize, effect: Effect, cause: Cause) {
        let run = self.hosts[at].run;
        match effect {
            Effect::Broadcast(presence) => self.broadcast(at, &Datagram::Beacon(presence)),
            Effect::Send { to, message } => self.send_message(at, to, *message, cause),
            Effect::Contact { address } => self.contact(at, address.ip()),
            Effect::SaveCatalog { save, writes } => {
                self.catalog_written(at, &writes, cause);
                self.mail_written(&writes);
                if self.options.canary == Some(Canary::SaysDurableTooEarly) {
                    self.report(at, Input::CatalogSaved { save, durable: true });
                }
                self.submit(at, Change::Catalog { save, writes });
            }
            Effect::SaveTerm { term } => {
                self.term_taken(at, term);
                self.submit(at, Change::Term(term));
            }
            Effect::SaveLineage { lineage } => self.submit(at, Change::Lineage(lineage)),
            Effect::SaveDraining { draining } => self.submit(at, Change::Draining(draining)),
            Effect::Answer { ask, reply } => {
                self.answered(at, ask, &reply);
                self.answer(at, ask, &reply);
            }
            Effect::Pull { content, size, from } => {
                self.trace(|| format!("h{at} pulls {}", short(&content)));
                self.begin_pull(at, content, size, from);
            }
            Effect::Check { content, nonce, asker } => {
                let wait = self.disk_ms(at);
                self.after(wait, Event::Check { at, run, content, nonce, asker });
            }
            Effect::Drop { content, until } => {
                if until.is_none() {
                    self.garbage_ordered(at, &content);
                }
                self.ledger.dropping_at.insert(content, self.now);
                let wait = self.disk_ms(at);
                self.after(wait, Event::Drop { at, run, content, until });
                if self.options.has(Kind::Pause) && !self.quiet && one_in(&mut self.rng.faults, 12) {
                    // A laptop is closed just then, for about as long as promises hold.
                    self.pause(at, 40_000, 62_000);
                }
            }
            // Files of their own: a crash may come between them and the rows of the database.
            Effect::StageLetters { letters } => {
                let letters = letters.into_iter().map(|(_, letter)| letter).collect();
                let wait = self.inbox_ms(at);
                self.after(wait, Event::Staged { at, run, letters });
            }
            Effect::RevealLetters { ids } => {
                let wait = self.inbox_ms(at);
                self.after(wait, Event::Revealed { at, run, ids });
            }
            Effect::Note(note) => self.noted(at, &note),
        }
    }

    fn noted(&mut self, at: usize, note: &Note) {
        self.trace(|| format!("h{at} notes {note:?}"));
        match note {
            Note::NodeJoined { node, .. } => {
                if let Some(&to) = self.by_id.get(node) {
                    self.network.renew(at, to);
                }
                self.hosts[at].disk.image.met = true;
            }
            Note::ProxyChanged { .. } => {
                let leaders = self.hosts.iter().filter(|host| {
                    host.is_running() && host.engine.as_ref().is_some_and(thorp::engine::Engine::leads)
                });
                if leaders.count() > 1 {
                    self.mark(Mark::TwoProxies);
                }
                if self.clients.iter().any(|client| client.is_committing()) {
                    self.mark(Mark::TakeoverDuringPut);
                }
            }
            Note::Healed { .. } => self.mark(Mark::Healed),
            Note::SaveFailed => self.mark(Mark::SaveFailed),
            Note::ClusterJoined { .. } => {
                self.mark(Mark::ClusterJoined);
                // All others are strangers from now on.
                self.ledger.heard.entry(at).or_default().announced.clear();
            }
            Note::NodeLost { left: true, .. } => self.mark(Mark::GoodbyeHeard),
            // A folder that went back counts its runs anew: then its own old beacons look strange.
            Note::NodeCloned { .. } if self.options.has(Kind::Wipe) || self.options.has(Kind::Rollback) => {}
            Note::NodeCloned { .. } => {
                self.fail("P12", format!("h{at} takes its own words for another machine's"));
            }
            Note::ClockDiffers => self.fail("P12", format!("h{at} mistrusts a clock that is right")),
            Note::NodeLost { .. } | Note::Ready { .. } | Note::FileStored { .. } => {}
        }
    }

    /// What is done from time to time.
    pub fn housekeep(&mut self, at: usize, run: u64) {
        let host = &self.hosts[at];
        if host.run != run || host.engine.is_none() {
            return;
        }
        let address = std::net::SocketAddr::new(crate::network::address_of(at), 7667);
        self.step(at, Input::OwnAddresses { addresses: vec![address] });
        let clock = self.wall_clock(at);
        self.step(at, clock);
        let usage = self.usage(at);
        self.step(at, usage);
        // Peers that were named or remembered, and are not heard, are dialled.
        let known: Vec<NodeRoute> =
            self.hosts[at].engine.as_ref().map(|engine| engine.routes()).unwrap_or_default();
        let remembered = self.hosts[at].disk.image.met || !self.network.broadcast;
        if remembered {
            for to in 0..self.hosts.len() {
                let address = crate::network::address_of(to);
                let heard = known.iter().any(|route| route.addresses.iter().any(|a| a.ip() == address));
                if to != at && !heard {
                    self.contact(at, address);
                }
            }
        }
        self.after(2_000, Event::Housekeep { at, run });
    }

    /// The wall clock of a host: some minutes from the others'.
    pub fn wall_clock(&self, at: usize) -> Input {
        Input::WallClock { wall_ms: 1_700_000_000_000 + self.now + 97_000 * at as u64 }
    }

    pub fn usage(&self, at: usize) -> Input {
        let disk = &self.hosts[at].disk;
        Input::Usage {
            capacity_bytes: disk.capacity,
            used_bytes: disk.used(),
            free_bytes: disk.free(),
            disk: if disk.suspect { DiskState::Suspect } else { DiskState::Ok },
            usable: !disk.suspect,
        }
    }

    /// How long one operation of a disk takes now.
    pub fn disk_ms(&mut self, at: usize) -> u64 {
        let slow = self.hosts[at].slow_until > self.now;
        let rng = &mut self.rng.disk;
        if slow {
            between(rng, 100, 2_500)
        } else {
            rng.below(if self.options.has(Kind::SlowDisk) { 40 } else { 4 })
        }
    }

    /// Queues a write; a suspect store refuses it.
    pub fn submit(&mut self, at: usize, change: Change) {
        if self.hosts[at].disk.suspect {
            return self.write_failed(at, change);
        }
        self.hosts[at].disk.queue.push_back(change);
        self.begin_group(at);
    }

    fn begin_group(&mut self, at: usize) {
        if self.hosts[at].disk.begin_group() {
            let wait = self.disk_ms(at);
            let (run, group) = (self.hosts[at].run, self.hosts[at].disk.groups);
            self.after(wait, Event::Group { at, run, group });
        }
    }

    /// The writer's commit returned.
    pub fn group_durable(&mut self, at: usize, run: u64, group: u64) {
        let host = &mut self.hosts[at];
        if host.run != run || host.engine.is_none() || host.disk.groups != group {
            return;
        }
        if host.disk.fails {
            host.disk.suspect = true;
            host.disk.limbo = std::mem::take(&mut host.disk.group);
            let failed: Vec<Change> =
                host.disk.limbo.iter().cloned().chain(host.disk.queue.drain(..)).collect();
            self.trace(|| format!("h{at}: a commit fails"));
            for change in failed {
                self.write_failed(at, change);
            }
            return;
        }
        let done = host.disk.end_group();
        for change in &done {
            self.write_done(at, change.clone());
        }
        self.disk_changed(at, Some(&done));
        self.begin_group(at);
    }

    fn write_done(&mut self, at: usize, change: Change) {
        match change {
            Change::Catalog { save, .. } => self.report(at, Input::CatalogSaved { save, durable: true }),
            Change::Term(term) => self.report(at, Input::TermSaved { term, durable: true }),
            Change::Lineage(_) => {}
            Change::Draining(draining) => self.report(at, Input::DrainingSaved { draining, durable: true }),
            Change::Content { content, size, waits } => {
                self.trace(|| format!("h{at} holds {}", short(&content)));
                let disk = &mut self.hosts[at].disk;
                disk.claims.remove(&content);
                disk.index.insert(content, size);
                self.content_there(at, content, size, waits);
            }
            Change::Remove { content, size, waits } => {
                let disk = &mut self.hosts[at].disk;
                disk.claims.remove(&content);
                disk.index.remove(&content);
                self.trace(|| format!("h{at} has removed {}", short(&content)));
                match waits {
                    RemovedFor::Drop => self.report(at, Input::DropEnded { content, dropped: true }),
                    RemovedFor::Pull { from } => self.pull_next(at, (content, size), from),
                    RemovedFor::Damage => self.report(at, Input::ContentLost { content }),
                }
            }
        }
    }

    fn write_failed(&mut self, at: usize, change: Change) {
        match change {
            Change::Catalog { save, .. } => self.report(at, Input::CatalogSaved { save, durable: false }),
            Change::Term(term) => self.report(at, Input::TermSaved { term, durable: false }),
            Change::Lineage(_) => {}
            Change::Draining(draining) => self.report(at, Input::DrainingSaved { draining, durable: false }),
            Change::Content { content, waits, .. } => {
                self.hosts[at].disk.claims.remove(&content);
                if let StoredFor::Pull = waits {
                    self.report(at, Input::PullEnded { content, stored: false });
                }
            }
            Change::Remove { content, waits, .. } => {
                let disk = &mut self.hosts[at].disk;
                disk.claims.remove(&content);
                match waits {
                    RemovedFor::Drop => {
                        let dropped = !disk.holds(&content);
                        self.report(at, Input::DropEnded { content, dropped });
                    }
                    RemovedFor::Pull { .. } => self.report(at, Input::PullEnded { content, stored: false }),
                    RemovedFor::Damage => {}
                }
            }
        }
    }

    /// A content is durable and listed.
    fn content_there(&mut self, at: usize, content: ContentId, size: u64, waits: StoredFor) {
        self.report(at, Input::ContentStored { content, size });
        match waits {
            StoredFor::Pull => self.report(at, Input::PullEnded { content, stored: true }),
            StoredFor::Put(put) => {
                self.hosts[at].disk.pins.entry(content).or_default().insert(put);
                self.holder_says_stored(at, put);
            }
        }
    }

    /// Bytes that came are written and synced; then their row is queued.
    pub fn store_bytes(&mut self, at: usize, content: ContentId, size: u64, waits: StoredFor) -> bool {
        let disk = &mut self.hosts[at].disk;
        if disk.suspect {
            return false;
        }
        if disk.holds(&content) {
            self.content_there(at, content, size, waits);
            return true;
        }
        if disk.free() < size || (disk.full && size > 0) {
            return false;
        }
        let run = self.hosts[at].run;
        let wait = self.disk_ms(at) + size / BYTES_A_MS;
        let change = Change::Content { content, size, waits };
        if self.hosts[at].disk.claims.insert(content) {
            self.after(wait, Event::Written { at, run, change });
        } else {
            // Another makes or removes it just now: it is the other's turn first.
            let wait = wait + 20;
            self.after(wait, Event::Written { at, run, change });
        }
        true
    }

    /// What is wrong with a copy has been noticed: it is put aside.
    fn put_aside(&mut self, at: usize, content: ContentId, waits: RemovedFor) {
        let disk = &mut self.hosts[at].disk;
        let size = disk.index.remove(&content).unwrap_or(0);
        disk.claims.insert(content);
        self.mark(Mark::DamageFound);
        self.ledger.destroyed_at = Some(self.now);
        self.submit(at, Change::Remove { content, size, waits });
    }

    fn begin_pull(&mut self, at: usize, content: ContentId, size: u64, from: Vec<NodeRoute>) {
        // Asked for again, it may be because somebody found it damaged.
        match self.hosts[at].disk.bytes(&content) {
            Some(Bytes::Good) => {
                self.report(at, Input::ContentStored { content, size });
                self.report(at, Input::PullEnded { content, stored: true });
            }
            Some(_) => self.put_aside(at, content, RemovedFor::Pull { from }),
            None => self.pull_next(at, (content, size), from),
        }
    }

    /// Tries the next source.
    fn pull_next(&mut self, at: usize, (content, size): (ContentId, u64), mut from: Vec<NodeRoute>) {
        let run = self.hosts[at].run;
        let Some(source) = (!from.is_empty()).then(|| from.remove(0)) else {
            let wait = 5;
            let input = Box::new(Input::PullEnded { content, stored: false });
            return self.after(wait, Event::Input { at, run, input });
        };
        let host = self.by_id.get(&source.node).copied();
        let reached = host.filter(|host| {
            *host != at
                && self.hosts[*host].is_running()
                && self.hosts[*host].id == source.node
                && self.network.connects(at, *host)
        });
        // Nobody answers: that takes some time to find out.
        let wait = match reached {
            Some(_) => 2 * self.network.delay(&mut self.rng.network) + size / BYTES_A_MS,
            None => between(&mut self.rng.network, 1, 3_000),
        };
        self.after(wait, Event::Pull { at, run, content, size, from, source: reached });
    }

    pub fn pull_goes_on(
        &mut self,
        at: usize,
        run: u64,
        (content, size): (ContentId, u64),
        from: Vec<NodeRoute>,
        source: Option<usize>,
    ) {
        if self.hosts[at].run != run || self.hosts[at].engine.is_none() {
            return;
        }
        let there =
            source.filter(|source| self.hosts[*source].is_running() && self.network.connects(at, *source));
        match there.and_then(|source| Some((source, self.hosts[source].disk.bytes(&content)?))) {
            Some((_, Bytes::Good)) => {
                if !self.store_bytes(at, content, size, StoredFor::Pull) {
                    self.report(at, Input::PullEnded { content, stored: false });
                }
            }
            other => {
                if let Some((source, Bytes::Unreadable)) = other {
                    self.report(source, Input::ContentLost { content });
                }
                if !from.is_empty() {
                    self.mark(Mark::SecondSource);
                }
                self.pull_next(at, (content, size), from);
            }
        }
    }

    /// A look at a copy before a promise: not hashed anew when that was done within a day.
    pub fn check(&mut self, at: usize, run: u64, content: ContentId, nonce: u64, asker: NodeId) {
        if self.hosts[at].run != run || self.hosts[at].engine.is_none() {
            return;
        }
        let bytes = self.hosts[at].disk.bytes(&content);
        let good = matches!(bytes, Some(Bytes::Good | Bytes::Wrong))
            || self.options.canary == Some(Canary::PromisesForNothing);
        self.report(at, Input::Checked { content, nonce, asker, good });
        if bytes.is_none() {
            self.report(at, Input::ContentLost { content });
        }
    }

    /// A drop comes to the disk.
    pub fn drop_copy(&mut self, at: usize, run: u64, content: ContentId, until: Option<Moment>) {
        let host = &mut self.hosts[at];
        if host.run != run || host.engine.is_none() {
            return;
        }
        let late = until.is_some_and(|until| host.local(self.now) >= until);
        let pinned = host.disk.pins.contains_key(&content);
        let suspect = host.disk.suspect;
        if late || pinned || suspect || !host.disk.holds(&content) {
            let dropped = !late && !suspect && !host.disk.holds(&content);
            self.trace(|| format!("h{at} does not drop {}: late {late}, pinned {pinned}", short(&content)));
            if late {
                self.mark(Mark::DropTooLate);
            } else if pinned {
                self.mark(Mark::DropOfPinned);
            }
            return self.report(at, Input::DropEnded { content, dropped });
        }
        if host.disk.claims.contains(&content) {
            return self.after(5, Event::Drop { at, run, content, until });
        }
        self.copy_goes(at, &content, until.is_some());
        let disk = &mut self.hosts[at].disk;
        disk.claims.insert(content);
        let size = disk.index.remove(&content).unwrap_or(0);
        self.submit(at, Change::Remove { content, size, waits: RemovedFor::Drop });
    }

    /// Whoever hashes all copies finds those that are damaged.
    pub fn scrub(&mut self, at: usize) {
        let held: Vec<ContentId> = self.hosts[at].disk.index.keys().copied().collect();
        for content in held {
            if self.hosts[at].disk.bytes(&content) != Some(Bytes::Good) {
                self.put_aside(at, content, RemovedFor::Damage);
            }
        }
    }

    /// The bytes of a put arrive at a holder of its chain.
    pub fn chain_arrives(
        &mut self,
        at: usize,
        run: u64,
        put: crate::disk::Put,
        (content, size): (ContentId, u64),
        rest: Vec<usize>,
        by: usize,
    ) {
        if self.hosts[at].run != run || !self.hosts[at].is_running() || !self.network.connects(by, at) {
            return;
        }
        if let Some((next, rest)) = rest.split_first() {
            let wait = self.network.delay(&mut self.rng.network) + size / BYTES_A_MS / 4;
            let run = self.hosts[*next].run;
            let rest = rest.to_vec();
            self.after(wait, Event::Chain { at: *next, run, put, content, size, rest, by: at });
        }
        if !self.store_bytes(at, content, size, StoredFor::Put(put)) {
            self.mark(Mark::HolderFull);
        }
    }

    /// An answer leaves for a command.
    fn answer(&mut self, at: usize, ask: thorp::engine::event::AskId, reply: &Reply) {
        if let Reply::Failed { code: ErrorCode::NoSpace, .. } = reply {
            self.mark(Mark::NoSpace);
        }
        let Some(asked) = self.asks.get_mut(&ask) else {
            return; // the command has gone
        };
        asked.answered = true;
        if !self.network.connects(at, crate::clients::endpoint(asked.client))
            && one_in(&mut self.rng.network, 2)
        {
            asked.broken = true;
            return;
        }
        let bytes = crate::network::frame(reply);
        let delay = self.network.delay(&mut self.rng.network);
        self.after(delay, Event::Replied { ask, bytes });
    }
}

/// The first letters of an id.
pub fn short(content: &ContentId) -> String {
    content.to_string().chars().take(6).collect()
}
