//! What breaks, and the rule that keeps it fair.
//!
//! The atlas: a fault that destroys copies or entries is let through only while what was promised
//! can still be kept: of each content another good copy stays on another machine, no more copies go
//! than its number promises to survive before the damage is mended, and what was acknowledged is
//! still known on some disk. Beyond that the test would be wrong, not the code.

use crate::clients::endpoint;
use crate::disk::{Bytes, Disk, Image};
use crate::ledger::Work;
use crate::marks::Mark;
use crate::options::{Kind, between, one_in};
use crate::world::{BEGIN, Event, World};
use std::collections::BTreeSet;
use thorp::types::{ContentId, Pin};
use thorp::wire::datagram::Datagram;

impl World {
    /// Plans the first faults, and those who join later.
    pub fn begin_faults(&mut self) {
        let calm_ms = if self.options.secured && one_in(&mut self.rng.faults, 2) { 0 } else { 5_000 };
        if !self.options.faults.is_empty() {
            self.after(calm_ms + 500, Event::Fault);
        }
        if self.options.has(Kind::Join) {
            let mut at = self.options.nodes;
            while at < self.options.nodes + 2 && !one_in(&mut self.rng.faults, 2) {
                self.add_host(at, Pin::Auto);
                let when = between(&mut self.rng.faults, 3_000, self.options.fault_ms);
                self.after(when, Event::Join { at });
                at += 1;
            }
        }
    }

    /// Something breaks, and later something else.
    pub fn fault(&mut self) {
        if self.quiet {
            return;
        }
        let kinds: Vec<Kind> = self.options.faults.iter().copied().collect();
        let kind = kinds[self.rng.faults.below(kinds.len() as u64) as usize];
        let at = self.rng.faults.below(self.hosts.len() as u64) as usize;
        if self.break_something(kind, at) {
            self.outcome.faults += 1;
            self.trace(|| format!("fault: {kind:?} at h{at}"));
        }
        let wait = between(&mut self.rng.faults, 50, 1_500);
        self.after(wait, Event::Fault);
    }

    fn break_something(&mut self, kind: Kind, at: usize) -> bool {
        let running = self.hosts[at].is_running();
        match kind {
            Kind::Partition => self.cut(false),
            Kind::OneWay => self.cut(true),
            Kind::Crash if running => {
                self.crash(at);
                let down_ms = [50, 500, 4_000, 15_000][self.rng.faults.below(4) as usize];
                let back = between(&mut self.rng.faults, 20, down_ms);
                self.start_later(at, back);
                true
            }
            Kind::Pause if running => {
                let longest = [500, 4_000, 20_000, 60_000][self.rng.faults.below(4) as usize];
                self.pause(at, 100, longest);
                true
            }
            Kind::Goodbye if running => {
                self.leave(at);
                let back = between(&mut self.rng.faults, 100, 12_000);
                self.start_later(at, back);
                true
            }
            Kind::Death => self.die(at),
            Kind::Wipe => self.wipe(at),
            Kind::Rollback => self.roll_back(at),
            Kind::Flip => self.flip(at),
            Kind::SlowDisk => {
                self.hosts[at].slow_until = self.now + between(&mut self.rng.faults, 500, 8_000);
                true
            }
            Kind::FullDisk => {
                self.hosts[at].disk.full = true;
                let wait = between(&mut self.rng.faults, 500, 8_000);
                self.after(wait, Event::FullNoMore { at });
                true
            }
            Kind::DiskError if running => {
                self.hosts[at].disk.fails = true;
                let when = between(&mut self.rng.faults, 1_000, 10_000);
                // Somebody notices and starts it again.
                self.after(when, Event::Restart { at });
                true
            }
            _ => false,
        }
    }

    /// Stops a process for a while.
    pub fn pause(&mut self, at: usize, least_ms: u64, most_ms: u64) {
        let pause = self.number();
        self.hosts[at].paused = Some(pause);
        let wait = between(&mut self.rng.faults, least_ms, most_ms);
        self.after(wait, Event::Resume { at, pause });
    }

    pub fn start_later(&mut self, at: usize, ms: u64) {
        self.after(ms, Event::Start { at });
    }

    /// Says goodbye on every way and ends.
    fn leave(&mut self, at: usize) {
        let Some(engine) = &self.hosts[at].engine else {
            return;
        };
        let presence = engine.presence().clone();
        self.broadcast(
            at,
            &Datagram::Goodbye {
                node: presence.node,
                instance: presence.instance,
                sequence: presence.sequence + 1,
            },
        );
        self.hosts[at].said_goodbye = true;
        // What queued up is written before the process ends.
        while self.hosts[at].disk.begin_group() || !self.hosts[at].disk.group.is_empty() {
            if self.hosts[at].disk.fails || self.hosts[at].disk.suspect {
                break;
            }
            let done = self.hosts[at].disk.end_group();
            self.disk_changed(at, Some(&done));
        }
        self.crash(at);
    }

    /// Cuts the network in two, one machine off, or single links; one way only for datagrams.
    fn cut(&mut self, one_way: bool) -> bool {
        let mut ends: Vec<usize> = (0..self.hosts.len()).collect();
        ends.extend((0..self.clients.len()).map(endpoint));
        let rng = &mut self.rng.faults;
        let mut cut = BTreeSet::new();
        let mode = rng.below(3);
        let lonely = rng.below(self.hosts.len() as u64) as usize;
        let side: Vec<bool> = ends.iter().map(|_| one_in(rng, 2)).collect();
        for (i, from) in ends.iter().enumerate() {
            for (j, to) in ends.iter().enumerate().filter(|(j, _)| *j != i) {
                let apart = match mode {
                    0 => side[i] != side[j],
                    1 => *from == lonely || *to == lonely,
                    _ => i < j && one_in(rng, 3),
                };
                let this_way =
                    !one_way || (if mode == 2 { one_in(rng, 2) } else { side[i] || *from == lonely });
                if apart && this_way {
                    cut.insert((*from, *to));
                    if !one_way {
                        cut.insert((*to, *from));
                    }
                }
            }
        }
        let heal = between(rng, 200, 12_000);
        let cut = self.network.set_cut(cut);
        self.after(heal, Event::Heal { cut });
        true
    }

    pub fn heal(&mut self, cut: u64) {
        if self.network.cuts == cut {
            self.network.set_cut(BTreeSet::new());
            self.trace(|| "the network is whole".into());
        }
    }

    /// Whether what was promised can still be kept if the disk of `at` is `after` from now on.
    fn may_destroy(&self, at: usize, after: Option<&Image>) -> bool {
        let others = self.hosts.iter().enumerate().filter(|(other, host)| *other != at && !host.dead);
        let mut images: Vec<&Image> = others.map(|(_, host)| &host.disk.image).collect();
        images.extend(after);
        let before = &self.hosts[at].disk.image;
        let lost =
            before.held.keys().filter(|content| after.is_none_or(|after| !after.held.contains_key(content)));
        lost.into_iter().all(|content| self.may_lose(at, content))
            && (0..self.ledger.ops.len() as u64)
                .all(|op| !self.ledger.is_protected(&self.images(), op) || self.ledger.survives(&images, op))
            && self.ledger.removed.iter().all(|(name, dot)| {
                images.iter().any(|image| image.knows(name, *dot) && !image.lists(name, *dot))
            })
            && self.ledger.set.iter().all(|(name, dot)| {
                images.iter().any(|image| image.knows(name, *dot) || self.set_on(image, name, *dot))
            })
    }

    /// Whether one more copy of a content may be destroyed.
    fn may_lose(&self, at: usize, content: &ContentId) -> bool {
        let needed = self.images().iter().any(|image| image.names_content(content))
            || self.ledger.ops_of_content.get(content).is_some_and(|ops| {
                ops.iter().any(|op| !self.ledger.op(*op).ended || self.ledger.op(*op).asked_at.is_some())
            });
        if !needed {
            return true;
        }
        let damage = self.ledger.damage.get(content).copied().unwrap_or(0);
        // A copy that nothing names where it is may be thrown away at any time.
        let spares: Vec<&Image> = self
            .hosts
            .iter()
            .filter(|host| !host.dead && host.machine != self.hosts[at].machine)
            .map(|host| &host.disk.image)
            .filter(|image| image.held.get(content).is_some_and(|stored| stored.bytes == Bytes::Good))
            .collect();
        let puts = self.ledger.ops_of_content.get(content).into_iter().flatten();
        let images = self.images();
        let spare = spares.iter().any(|image| image.names_content(content))
            && puts.filter(|op| self.ledger.is_protected(&images, **op)).all(|op| {
                let Work::Put { name, .. } = &self.ledger.op(*op).work else {
                    return true;
                };
                let mut dots = self.ledger.op(*op).dots.iter();
                dots.any(|dot| spares.iter().any(|image| image.knows(name, *dot)))
            });
        let holders =
            self.hosts.iter().filter(|host| !host.dead && host.disk.image.held.contains_key(content));
        let machines: BTreeSet<_> = holders.map(|host| &host.machine).collect();
        let copies = u8::try_from(machines.len()).unwrap_or(u8::MAX);
        spare && damage + 1 < self.ledger.floor(content).min(copies)
    }

    fn destroyed(&mut self, contents: Vec<ContentId>) {
        self.ledger.destroyed_at = Some(self.now);
        for content in contents {
            *self.ledger.damage.entry(content).or_default() += 1;
        }
    }

    fn die(&mut self, at: usize) -> bool {
        let living = self.living();
        let storing = living
            .iter()
            .filter(|other| **other != at && matches!(self.hosts[**other].pin, Pin::Auto | Pin::Storage));
        if self.hosts[at].dead
            || self.hosts[at].said_goodbye
            || storing.count() < 1
            || !self.may_destroy(at, None)
        {
            return false;
        }
        let held = self.hosts[at].disk.image.held.keys().copied().collect();
        self.crash(at);
        self.hosts[at].dead = true;
        self.letters_lost(at);
        self.destroyed(held);
        self.mark(Mark::Died);
        true
    }

    fn wipe(&mut self, at: usize) -> bool {
        if self.hosts[at].dead || self.hosts[at].run == 0 || !self.may_destroy(at, None) {
            return false;
        }
        let held = self.hosts[at].disk.image.held.keys().copied().collect();
        self.crash(at);
        self.hosts[at].disk = Disk { capacity: self.hosts[at].disk.capacity, ..Disk::default() };
        self.letters_lost(at);
        self.new_disk_id(at);
        if one_in(&mut self.rng.faults, 2) && !self.hosts[at].said_goodbye {
            // The key was in the folder. Who said goodbye is waited for ten minutes.
            self.hosts[at].id = self.new_node_id(at);
        }
        self.destroyed(held);
        self.mark(Mark::Wiped);
        self.disk_changed(at, None);
        let back = between(&mut self.rng.faults, 20, 5_000);
        self.start_later(at, back);
        true
    }

    /// Takes a snapshot, or puts an earlier one back.
    fn roll_back(&mut self, at: usize) -> bool {
        if self.hosts[at].dead || self.hosts[at].run == 0 {
            return false;
        }
        let Some(old) = self.hosts[at].disk.snapshot.clone() else {
            self.hosts[at].disk.snapshot = Some(self.hosts[at].disk.image.clone());
            return false;
        };
        if old.id != self.hosts[at].disk.image.id || !self.may_destroy(at, Some(&old)) {
            return false;
        }
        let held = &self.hosts[at].disk.image.held;
        let lost = held.keys().filter(|content| !old.held.contains_key(content)).copied().collect();
        self.crash(at);
        self.letters_lost(at);
        self.hosts[at].disk.image = old;
        self.hosts[at].disk.restart(false);
        self.destroyed(lost);
        self.mark(Mark::RolledBack);
        self.disk_changed(at, None);
        let back = between(&mut self.rng.faults, 20, 8_000);
        self.start_later(at, back);
        true
    }

    /// Bytes of a copy change, or cannot be read any more.
    fn flip(&mut self, at: usize) -> bool {
        let held = &self.hosts[at].disk.image.held;
        let good: Vec<ContentId> = held
            .iter()
            .filter(|(_, stored)| stored.bytes == Bytes::Good && stored.size > 0)
            .map(|(content, _)| *content)
            .collect();
        if good.is_empty() || self.hosts[at].dead {
            return false;
        }
        let content = good[self.rng.faults.below(good.len() as u64) as usize];
        let unreadable = one_in(&mut self.rng.faults, 2);
        let mut after = self.hosts[at].disk.image.clone();
        if let Some(stored) = after.held.get_mut(&content) {
            stored.bytes = if unreadable { Bytes::Unreadable } else { Bytes::Wrong };
        }
        if !self.may_destroy(at, Some(&after)) || !self.may_lose(at, &content) {
            return false;
        }
        self.hosts[at].disk.image = after;
        self.destroyed(vec![content]);
        true
    }

    /// Faults are over: everything that is not gone for good comes back.
    pub fn calm_down(&mut self) {
        self.quiet = true;
        self.network.calm_down();
        for at in 0..self.hosts.len() {
            let host = &mut self.hosts[at];
            host.slow_until = 0;
            host.disk.full = false;
            host.disk.fails = false;
            if host.dead {
                continue;
            }
            if host.disk.suspect {
                self.crash(at);
            }
            if one_in(&mut self.rng.faults, 2) {
                self.unpause(at);
            }
            if self.hosts[at].engine.is_none() && self.hosts[at].run > 0 {
                let wait = self.rng.faults.below(1_000);
                self.after(wait, Event::Start { at });
            } else {
                self.scrub(at);
            }
        }
        self.trace(|| format!("calm at {}", self.now - BEGIN));
    }

    /// A get reads from the holders it was told of.
    pub fn read(&mut self, client: usize, _proxy: usize, row: &thorp::wire::message::Row) {
        let Some((content, _)) = row.body.content() else {
            return;
        };
        let put = self
            .ledger
            .ops
            .iter()
            .any(|op| matches!(&op.work, Work::Put { content: known, .. } if *known == content));
        if !put {
            return self.fail("I7", format!("{} stands for bytes that nobody put", row.name));
        }
        let mut left = 0;
        for node in &row.holders {
            let at = self.by_id[node];
            if !self.hosts[at].is_running() || !self.network.connects(endpoint(client), at) {
                left += 1;
                continue;
            }
            match self.hosts[at].disk.bytes(&content) {
                Some(Bytes::Good) => {
                    self.mark(Mark::Got);
                    if left > 0 {
                        self.mark(Mark::GotFromAnother);
                    }
                    return;
                }
                Some(Bytes::Unreadable) => {
                    self.report(at, thorp::engine::event::Input::ContentLost { content });
                    left += 1;
                }
                Some(Bytes::Wrong) | None => left += 1,
            }
        }
    }
}
