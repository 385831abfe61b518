//! The quiet phase: no more faults, and everything must come to rest as promised.
//!
//! P7 and I25: one proxy, equal catalogs, each content on as many machines as are wanted and no
//! more; P8 and I18: nothing removed is back; I3: nothing acknowledged is lost; P12: what is listed
//! is what is there.

use crate::disk::Bytes;
use crate::ledger::{Cause, Work};
use crate::marks::Mark;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use thorp::engine::Engine;
use thorp::engine::event::{AskId, Effect, Input};
use thorp::types::{ContentId, NodeId, Pin, Version};
use thorp::wire::message::{FileState, Reply, Request, Selector};

/// Beyond the time after which copies are replaced: promises and patience run out in a minute.
const CONVERGE_MS: u64 = 150_000;
/// How long it must stay as it is.
const STAY_MS: u64 = 3_000;

impl World {
    /// Lets it come to rest; what is not right after that is a broken promise.
    pub fn converge(&mut self) {
        self.calm_down();
        let begin = self.now;
        let deadline = begin + CONVERGE_MS + self.options.heal_after_ms;
        let mut settled: Option<u64> = None;
        let mut why = "it did not begin".to_owned();
        while self.outcome.failure.is_none() && self.now < deadline {
            let next = self.now + 500;
            self.run_until(next);
            match self.at_rest() {
                Err(reason) => {
                    why = reason;
                    settled = None;
                }
                Ok(()) => {
                    let since = *settled.get_or_insert(self.now);
                    if self.now - since >= STAY_MS {
                        match self.check_list() {
                            Ok(()) => {
                                self.outcome.converged_ms = since - begin;
                                self.count_bare();
                                return self.check_all();
                            }
                            Err(reason) => why = reason,
                        }
                    }
                }
            }
        }
        self.fail("P7", format!("not at rest after {} s: {why}", (self.now - begin) / 1_000));
    }

    /// Names that are listed and whose bytes are nowhere.
    fn count_bare(&mut self) {
        let Some(first) = self.keepers().first().copied() else {
            return;
        };
        let versions = self.hosts[first].disk.image.all_live();
        let contents = versions.filter_map(|version| version.body.content());
        let bare = contents.filter(|(content, _)| self.holders(|held| held == content).is_empty()).count();
        self.outcome.bare += bare as u64;
    }

    fn keepers(&self) -> Vec<usize> {
        let living = self.living().into_iter();
        living.filter(|at| self.hosts[*at].pin != Pin::Client && self.hosts[*at].run > 0).collect()
    }

    /// Whether there is nothing left to do, or why not.
    fn at_rest(&self) -> Result<(), String> {
        if self.clients.iter().any(|client| !client.is_idle()) {
            return Err("a command is under way".into());
        }
        let living: Vec<usize> = self.living().into_iter().filter(|at| self.hosts[*at].run > 0).collect();
        let mut leaders = Vec::new();
        for at in &living {
            let Some(engine) = &self.hosts[*at].engine else {
                return Err(format!("h{at} is down"));
            };
            if engine.leads() {
                leaders.push(*at);
            }
        }
        let [leader] = leaders.as_slice() else {
            // With nobody who may lead there is nothing to wait for.
            if leaders.is_empty() && living.iter().all(|at| self.hosts[*at].pin == Pin::Client) {
                return Ok(());
            }
            return Err(format!("{leaders:?} lead"));
        };
        let led = |at: &usize| self.hosts[*at].engine.as_ref().and_then(|engine| engine.presence().proxy);
        if let Some(at) = living.iter().find(|at| led(at) != Some(self.hosts[*leader].id)) {
            return Err(format!("h{at} does not follow h{leader}"));
        }
        self.disks_at_rest()?;
        self.catalogs_equal()?;
        self.letters_at_rest()?;
        self.copies_right()
    }

    fn disks_at_rest(&self) -> Result<(), String> {
        let busy = |at: &usize| {
            let disk = &self.hosts[*at].disk;
            !disk.queue.is_empty() || !disk.group.is_empty() || !disk.claims.is_empty()
        };
        match self.living().into_iter().find(busy) {
            Some(at) => Err(format!("the disk of h{at} is busy")),
            None => Ok(()),
        }
    }

    fn catalogs_equal(&self) -> Result<(), String> {
        let keepers = self.keepers();
        let Some(first) = keepers.first() else {
            return Ok(());
        };
        let one = &self.hosts[*first].disk.image;
        let digest = one.catalog()?.digest();
        for at in &keepers[1..] {
            let other = &self.hosts[*at].disk.image;
            if one.names != other.names {
                return Err(format!(
                    "h{first} lists {:?}, h{at} {:?}",
                    names(&one.names),
                    names(&other.names)
                ));
            }
            if digest != other.catalog()?.digest() {
                return Err(format!("the contexts of h{first} and h{at} differ"));
            }
        }
        Ok(())
    }

    /// Each content is on as many machines as are wanted or there are, once a machine, and nothing
    /// else is kept that should be gone.
    fn copies_right(&self) -> Result<(), String> {
        let keepers = self.keepers();
        let Some(first) = keepers.first() else {
            return Ok(());
        };
        let mut wanted: BTreeMap<ContentId, (u8, u64)> = BTreeMap::new();
        for version in self.hosts[*first].disk.image.all_live() {
            if let Some((content, size)) = version.body.content() {
                let most = wanted.entry(content).or_insert((0, size));
                most.0 = most.0.max(version.wanted.count());
            }
        }
        let storing: Vec<usize> = keepers
            .iter()
            .copied()
            .filter(|at| matches!(self.hosts[*at].pin, Pin::Auto | Pin::Storage))
            .collect();
        for (content, (count, size)) in &wanted {
            let mut machines = BTreeSet::new();
            for at in self.living() {
                let host = &self.hosts[at];
                let copy = host.disk.bytes(content);
                if copy.is_some_and(|bytes| bytes != Bytes::Good) {
                    return Err(format!("the copy on h{at} is damaged"));
                }
                if copy.is_some() && !machines.insert(&host.machine) {
                    return Err(format!("two copies of {} on a machine", crate::shell::short(content)));
                }
            }
            let possible: BTreeSet<_> = storing
                .iter()
                .filter(|at| self.hosts[**at].disk.holds(content) || self.hosts[**at].disk.free() >= *size)
                .map(|at| &self.hosts[*at].machine)
                .collect();
            if machines.is_empty() && self.may_be_lost(content) {
                continue;
            }
            let right = possible.len().min(usize::from(*count));
            if machines.len() != right {
                let content = crate::shell::short(content);
                let at: Vec<usize> = self.holders(|id| crate::shell::short(id) == content);
                return Err(format!(
                    "{content} is on {at:?}, on {} machines and not {right}",
                    machines.len()
                ));
            }
        }
        Ok(())
    }

    /// Nothing promised that this content is there: more was damaged than promised to survive, or its
    /// put was committed twice, by two proxies, and what one of them made was removed or replaced.
    fn may_be_lost(&self, content: &ContentId) -> bool {
        let ops = self.ledger.ops_of_content.get(content).into_iter().flatten();
        let mut ops = ops.map(|op| self.ledger.op(*op));
        ops.any(|op| op.exempt || op.dots.iter().any(|dot| self.ledger.killed.contains(dot)))
    }

    fn holders(&self, which: impl Fn(&ContentId) -> bool) -> Vec<usize> {
        let living = self.living().into_iter();
        living.filter(|at| self.hosts[*at].disk.index.keys().any(&which)).collect()
    }

    /// What must hold at the end.
    fn check_all(&mut self) {
        let images = self.images();
        let lost = (0..self.ledger.ops.len() as u64)
            .find(|op| self.ledger.is_protected(&images, *op) && !self.ledger.survives(&images, *op));
        if let Some(op) = lost {
            let what = self.describe_loss(op);
            return self.fail("I3", format!("at the end: {what}"));
        }
        let back =
            self.ledger.removed.iter().find(|(name, dot)| images.iter().any(|image| image.lists(name, *dot)));
        if let Some((name, dot)) = back {
            let what = format!("{dot:?} of {name}, whose removal was acknowledged, is back");
            return self.fail("P8", what);
        }
        self.check_counts();
        if self.outcome.marks.count(Mark::CopyDropped) > 0 && self.options.paired {
            self.mark(Mark::TwoOnOneMachine);
        }
    }

    /// I19: the number of copies is the greatest of those that nobody replaced.
    fn check_counts(&mut self) {
        let keepers = self.keepers();
        let Some(first) = keepers.first() else {
            return;
        };
        let image = &self.hosts[*first].disk.image;
        for name in image.names.keys() {
            let sets: Vec<(u8, bool)> = self
                .ledger
                .ops
                .iter()
                .filter_map(|op| match &op.work {
                    Work::Replicas { name: of, replicas } if of == name && op.asked_at.is_some() => {
                        Some((*replicas, op.acknowledged))
                    }
                    _ => None,
                })
                .collect();
            let live: Vec<Version> = image.live(name).cloned().collect();
            for version in &live {
                let Work::Put { replicas, .. } = self.ledger.op(version.modified_ns as u64).work else {
                    continue;
                };
                let count = version.wanted.count();
                if count != replicas && !sets.iter().any(|(set, _)| *set == count) {
                    return self.fail("I19", format!("{name} wants {count} copies, which nobody asked for"));
                }
            }
        }
    }

    /// P12: the proxy lists what is there.
    fn check_list(&mut self) -> Result<(), String> {
        let leads = |at: &usize| self.hosts[*at].engine.as_ref().is_some_and(Engine::leads);
        let Some(leader) = self.living().into_iter().find(leads) else {
            return Ok(());
        };
        let ask = AskId(self.number());
        let request = Box::new(Request::List { selector: Selector::Under("".into()), after: None });
        let (machine, local) = (self.hosts[leader].machine.clone(), self.hosts[leader].local(self.now));
        let Some(engine) = &mut self.hosts[leader].engine else {
            return Ok(());
        };
        engine.handle(local, Input::Asked { ask, machine, request });
        let mut rows = Err("it gives no answer".to_owned());
        let mut effects = Vec::new();
        while let Some(effect) = engine.next_effect() {
            match effect {
                Effect::Answer { ask: of, reply } if of == ask => {
                    rows = match *reply {
                        Reply::Rows { rows, .. } => Ok(rows),
                        other => Err(format!("the proxy does not list: {other:?}")),
                    };
                }
                other => effects.push(other),
            }
        }
        for effect in effects {
            self.perform(leader, effect, Cause::Other);
        }
        let rows = rows?;
        let listed = self.hosts[leader].disk.image.all_live().count();
        if rows.len() != listed {
            return Err(format!("{} rows for {listed} versions", rows.len()));
        }
        for row in rows {
            let Some((content, _)) = row.body.content() else {
                continue;
            };
            let there: BTreeSet<NodeId> =
                self.holders(|id| *id == content).into_iter().map(|at| self.hosts[at].id).collect();
            let said: BTreeSet<NodeId> = row.holders.iter().copied().collect();
            if there != said {
                return Err(format!("P12: {} is said to be on {said:?} and is on {there:?}", row.name));
            }
            let versions = self.hosts[leader].disk.image.all_live();
            let same = versions.filter(|version| version.body == row.body);
            let wanted = same.map(|version| usize::from(version.wanted.count())).max().unwrap_or(0);
            if there.len() == wanted && row.state != FileState::Ok {
                return Err(format!("P12: {row:?} is whole and said to be {:?}", row.state));
            }
        }
        Ok(())
    }
}

fn names(names: &BTreeMap<thorp::types::FileName, Vec<Version>>) -> Vec<String> {
    let one = |(name, versions): (&thorp::types::FileName, &Vec<Version>)| {
        let dots: Vec<String> = versions
            .iter()
            .map(|version| {
                let later = version.wanted.later.as_ref().map_or(0, |later| later.len());
                format!("{}:{:x}+{later}", version.dot.counter, version.dot.instance.0 >> 48)
            })
            .collect();
        format!("{name}={}", dots.join(","))
    };
    names.iter().map(one).collect()
}
