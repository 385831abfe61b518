//! The promises, checked while things happen. Names are those of the reference: I1 to I28, P1 to P12.
//!
//! Invariant: a check looks at disks and at what was sent, never at what an engine believes.

use crate::disk::{Bytes, Change as Write, Image};
use crate::ledger::{Cause, Work, dots};
use crate::marks::Mark;
use crate::options::Canary;
use crate::shell::short;
use crate::world::World;
use std::collections::BTreeSet;
use thorp::engine::event::{AskId, Input};
use thorp::limits::KEEP_LEASE_MS;
use thorp::types::{ContentId, Dot, FileName, InstanceId, NodeId, Term, Version};
use thorp::wire::message::{Delta, Message, Reply, Request};
use thorp::wire::record::CatalogWrite;

impl World {
    /// The disks that are not lost for good.
    pub fn images(&self) -> Vec<&Image> {
        self.hosts.iter().filter(|host| !host.dead).map(|host| &host.disk.image).collect()
    }

    /// An engine changed its catalog: I5 (nothing leaves but by a command), I9 (dots are minted
    /// once), I18 (what was seen removed does not come back).
    pub fn catalog_written(&mut self, at: usize, writes: &[CatalogWrite], cause: Cause) {
        for write in writes {
            if let CatalogWrite::Name { name, versions } = write {
                // What goes to the trash has left its name; what the trash does is checked at the end.
                let live: Vec<Version> =
                    versions.iter().filter(|version| version.is_live()).cloned().collect();
                if live.len() < versions.len() {
                    self.mark(Mark::ToTrash);
                }
                self.name_written(at, name, &live, cause);
            }
        }
    }

    fn name_written(&mut self, at: usize, name: &FileName, versions: &[Version], cause: Cause) {
        let now = dots(versions);
        if now.len() > 1 {
            self.mark(Mark::ConflictMade);
        }
        let heard = self.ledger.heard.entry(at).or_default();
        let before = heard.shadow.insert(name.clone(), now.clone()).unwrap_or_default();
        let added: Vec<Dot> = now.difference(&before).copied().collect();
        let removed: Vec<Dot> = before.difference(&now).copied().collect();
        let back = added.iter().find(|dot| heard.gone.contains(dot)).copied();
        heard.gone.extend(removed.iter().copied());
        if let Some(dot) = back {
            return self.fail("I18", format!("h{at} takes {dot:?} of {name} back, which it saw removed"));
        }
        let mut minted = Vec::new();
        for version in versions.iter().filter(|version| added.contains(&version.dot)) {
            let put = self.version_seen(at, name, version);
            if put.is_some() && !matches!(cause, Cause::Asked(_)) {
                self.mark(Mark::CommitWaited);
            }
            minted.extend(put);
        }
        self.settings_seen(at, name, versions, cause);
        for dot in removed {
            self.version_left(at, name, dot, cause, &minted);
        }
    }

    /// A version that this engine's catalog did not have. Gives its put if it was minted now.
    fn version_seen(&mut self, at: usize, name: &FileName, version: &Version) -> Option<u64> {
        let op = version.modified_ns as u64;
        match self.ledger.dots.get(&version.dot) {
            Some((known, of)) if known == name && *of == op => None,
            Some(known) => {
                let what = format!("{:?} is {name} of put {op} on h{at}, and was {known:?}", version.dot);
                self.fail("I9", what);
                None
            }
            None => {
                if version.dot.instance != self.hosts[at].instance {
                    self.fail("I9", format!("h{at} knows {:?}, which nobody minted", version.dot));
                }
                self.ledger.dots.insert(version.dot, (name.clone(), op));
                self.trace(|| format!("h{at} mints {:?} of {name} for put {op}", version.dot));
                let content = version.body.content().map(|(content, _)| content);
                let damaged = content.is_some_and(|content| self.ledger.damage.contains_key(&content));
                let info = self.ledger.op_mut(op);
                info.dots.push(version.dot);
                // Made of copies that may be bad: nothing is promised unless it is acknowledged.
                info.exempt |= damaged && !info.acknowledged;
                Some(op)
            }
        }
    }

    fn settings_seen(&mut self, _at: usize, name: &FileName, versions: &[Version], cause: Cause) {
        for (dot, _) in versions.iter().flat_map(|version| version.wanted.later.iter().flat_map(|l| l.iter()))
        {
            let new = self.ledger.settings.insert(*dot);
            if let (true, Cause::Asked(ask)) = (new, cause)
                && let Some(change) = self.ledger.changes.get_mut(&ask)
            {
                change.settings.push((name.clone(), *dot));
            }
        }
    }

    fn version_left(&mut self, at: usize, name: &FileName, dot: Dot, cause: Cause, minted: &[u64]) {
        if let Some((_, old)) = self.ledger.dots.get(&dot).cloned() {
            let by: Vec<u64> = minted.iter().copied().filter(|op| *op != old).collect();
            self.ledger.op_mut(old).replaced_by.extend(by);
        }
        if self.ledger.killed.contains(&dot) {
            // Somebody removed it before; this one may remove it, too.
            if let Cause::Asked(ask) = cause
                && let Some(change) = self.ledger.changes.get_mut(&ask)
            {
                change.kills.push((name.clone(), dot));
            }
            return;
        }
        let removes = match cause {
            Cause::Asked(ask) => self
                .asks
                .get(&ask)
                .is_some_and(|ask| matches!(ask.request, Request::Remove { .. } | Request::Commit { .. })),
            Cause::Merge | Cause::Other => false,
        };
        if minted.is_empty() && !removes {
            let what = format!("{dot:?} of {name} leaves the catalog of h{at}, and no command removed it");
            return self.fail("I5", what);
        }
        self.ledger.killed.insert(dot);
        self.trace(|| format!("h{at} takes {dot:?} of {name} away"));
        if let Cause::Asked(ask) = cause
            && let Some(change) = self.ledger.changes.get_mut(&ask)
        {
            change.kills.push((name.clone(), dot));
        }
    }

    /// The disk of a host changed: I3 and I4 for what was touched; everything if nobody says what.
    pub fn disk_changed(&mut self, at: usize, writes: Option<&[Write]>) {
        let mut ops: BTreeSet<u64> = BTreeSet::new();
        match writes {
            None => ops.extend(0..self.ledger.ops.len() as u64),
            Some(writes) => {
                for write in writes {
                    match write {
                        Write::Catalog { writes, .. } => {
                            for write in writes {
                                if let CatalogWrite::Name { name, .. } = write {
                                    ops.extend(self.ledger.ops_of_name.get(name).into_iter().flatten());
                                }
                            }
                        }
                        Write::Content { content, .. } | Write::Remove { content, .. } => {
                            ops.extend(self.ledger.ops_of_content.get(content).into_iter().flatten());
                            self.maybe_mended(*content);
                        }
                        Write::Term(_) | Write::Lineage(_) | Write::Draining(_) => {}
                    }
                }
            }
        }
        let lost = {
            let images = self.images();
            ops.into_iter()
                .find(|op| self.ledger.is_protected(&images, *op) && !self.ledger.survives(&images, *op))
        };
        if let Some(op) = lost {
            let what = self.describe_loss(op);
            self.fail("I3", format!("after a change on the disk of h{at}: {what}"));
        }
    }

    pub fn describe_loss(&self, op: u64) -> String {
        let info = self.ledger.op(op);
        let Work::Put { name, content, .. } = &info.work else {
            return "no put".into();
        };
        let mut text = format!(
            "put {op} of {name} ({}), acknowledged: {}, has no copy with its entry;",
            short(content),
            info.acknowledged
        );
        for (at, host) in self.hosts.iter().enumerate() {
            let image = &host.disk.image;
            let copy = image.held.get(content).map(|stored| stored.bytes);
            let listed: Vec<bool> = info.dots.iter().map(|dot| image.lists(name, *dot)).collect();
            text.push_str(&format!(" h{at}: dead {}, copy {copy:?}, listed {listed:?};", host.dead));
        }
        text
    }

    /// Once as many good copies are there as are wanted, and no drop counts on others, the damage
    /// done is mended.
    fn maybe_mended(&mut self, content: ContentId) {
        if !self.ledger.damage.contains_key(&content) {
            return;
        }
        let wrong = self
            .images()
            .iter()
            .any(|image| image.held.get(&content).is_some_and(|stored| stored.bytes != Bytes::Good));
        let calm = !wrong && self.ledger.dropping_at.get(&content).is_none_or(|at| self.now - at > 60_000);
        let machines = self.good_machines(&content);
        if calm && machines >= usize::from(self.ledger.floor(&content)) {
            self.ledger.damage.remove(&content);
        }
    }

    /// Machines with a good copy.
    pub fn good_machines(&self, content: &ContentId) -> usize {
        let holders = self.hosts.iter().filter(|host| {
            !host.dead && host.disk.image.held.get(content).is_some_and(|stored| stored.bytes == Bytes::Good)
        });
        holders.map(|host| &host.machine).collect::<BTreeSet<_>>().len()
    }

    /// A message leaves a node.
    pub fn message_leaves(&mut self, at: usize, to: usize, message: &Message, cause: Cause) {
        match message {
            Message::Delta { ack: Some(_), delta, .. } => {
                if let Cause::Asked(ask) = cause
                    && let Some(change) = self.ledger.changes.get_mut(&ask)
                {
                    change.told.push((to, delta.clone()));
                }
            }
            Message::DropOrder { term, content, .. } => {
                self.ledger.dropping_at.insert(*content, self.now);
                self.trace(|| format!("h{at} orders h{to} to drop {}: {message:?}", short(content)));
                self.check_all_reported(at, *term);
            }
            Message::DropRefused { content, .. } => {
                self.mark(Mark::DropRefused);
                self.trace(|| format!("h{at} does not drop {}", short(content)));
                self.ledger.heard.entry(at).or_default().orders.remove(content);
            }
            Message::PullOrder { content, .. } => {
                self.trace(|| format!("h{at} orders h{to} to pull {}", short(content)));
            }
            Message::KeepAsk { content, nonce } => {
                self.ledger.dropping_at.insert(*content, self.now);
                self.trace(|| format!("h{at} asks h{to} to keep {}", short(content)));
                let leads = self.hosts[at].engine.as_ref().is_some_and(thorp::engine::Engine::leads);
                let heard = self.ledger.heard.entry(at).or_default();
                if heard.nonces.get(content).is_none_or(|(known, _)| known != nonce) {
                    // A proxy orders itself without a message: then one promise at least.
                    let wanted = heard.orders.remove(content).filter(|_| !leads).unwrap_or(1);
                    heard.nonces.insert(*content, (*nonce, wanted));
                }
                if self.options.canary == Some(Canary::PromisesForNothing) {
                    let answer = Message::KeepAnswer { content: *content, nonce: *nonce, kept: true };
                    let (from, instance) = (self.hosts[to].id, self.hosts[to].instance);
                    self.report(at, Input::Told { from, instance, message: Box::new(answer) });
                }
            }
            Message::KeepAnswer { content, nonce, kept: true } => {
                let promise = crate::ledger::Promise { at_ms: self.now, run: self.hosts[at].run };
                self.ledger.promises.insert((at, *content, *nonce), promise);
                let image = &self.hosts[at].disk.image;
                // A copy may be found damaged, and go, between the look at it and the word about it.
                let damaged = self.ledger.damage.contains_key(content);
                if !image.names_content(content) || (!image.held.contains_key(content) && !damaged) {
                    let what = format!(
                        "h{at} promises to keep {}, and its disk has no entry or copy",
                        short(content)
                    );
                    self.fail("I12", what);
                }
                self.trace(|| format!("h{at} promises h{to} to keep {}", short(content)));
            }
            Message::KeepAnswer { kept: false, .. } => self.mark(Mark::PromiseRefused),
            _ => {}
        }
    }

    /// I14: a drop is ordered only once everybody that is up has reported all it holds.
    fn check_all_reported(&mut self, at: usize, term: Term) {
        let Some(heard) = self.ledger.heard.get(&at) else {
            return;
        };
        let recent = |heard_at: u64| self.now - heard_at < thorp::limits::SUSPECT_AFTER_MS - 200;
        let missing = heard.announced.iter().find(|(node, said)| {
            **node != self.hosts[at].id
                && recent(said.at_ms)
                && said.storage
                && !said.left
                && !heard.reported.contains(&(**node, said.instance, term))
        });
        if let Some((node, said)) = missing {
            let host = self.by_id.get(node).copied();
            let what = format!("h{at} orders a drop before {host:?} reported: {said:?}, {term:?}");
            self.fail("I14", what);
        }
    }

    /// A message arrives at a node.
    pub fn message_arrives(&mut self, at: usize, from: NodeId, instance: InstanceId, message: &Message) {
        let sender = self.by_id.get(&from).copied();
        if sender.is_some_and(|sender| self.hosts[sender].instance != instance) {
            self.mark(Mark::OldRun);
        }
        let term = self.hosts[at].engine.as_ref().map(|engine| engine.presence().term);
        match message {
            Message::Inventory { term, last: true, .. } => {
                self.trace(|| format!("h{at} hears what h{sender:?} holds, for {term:?}"));
                let heard = self.ledger.heard.entry(at).or_default();
                heard.reported.insert((from, instance, *term));
            }
            Message::PullOrder { term: of, .. } if Some(*of) < term => self.mark(Mark::OldTerm),
            Message::DropOrder { term: of, content, wanted, .. } => {
                if Some(*of) < term {
                    self.mark(Mark::OldTerm);
                }
                self.ledger.heard.entry(at).or_default().orders.insert(*content, *wanted);
            }
            Message::KeepRelease { content, nonce } => {
                self.ledger.promises.remove(&(at, *content, *nonce));
            }
            Message::SyncPage { .. } => self.mark(Mark::CatalogCompared),
            _ => {}
        }
    }

    /// I15: an engine calls a content garbage only by what is durable.
    pub fn garbage_ordered(&mut self, at: usize, content: &ContentId) {
        if self.hosts[at].disk.image.names_content(content) {
            let what = format!("h{at} throws {} away, which its durable catalog names", short(content));
            self.fail("I15", what);
        }
    }

    /// A copy is about to go from a disk: I12 and I13.
    pub fn copy_goes(&mut self, at: usize, content: &ContentId, promised: bool) {
        self.trace(|| {
            format!("h{at} removes {} ({})", short(content), if promised { "drop" } else { "garbage" })
        });
        let (now, host) = (self.now, &self.hosts[at]);
        // Clocks may drift: nobody counts on the last tenth of a promise.
        let holds = |given: u64| now.saturating_sub(given) < KEEP_LEASE_MS * 9 / 10;
        let given = self.ledger.promises.iter().find(|((giver, of, _), promise)| {
            *giver == at && of == content && holds(promise.at_ms) && promise.run == host.run
        });
        if let Some(((_, _, nonce), _)) = given {
            let what = format!("h{at} drops {} and has promised to keep it ({nonce})", short(content));
            return self.fail("I13", what);
        }
        if !promised {
            return self.mark(Mark::GarbageGone);
        }
        self.mark(Mark::CopyDropped);
        let heard = self.ledger.heard.get(&at);
        let (nonce, wanted) = heard.and_then(|heard| heard.nonces.get(content)).copied().unwrap_or((0, 1));
        let givers: BTreeSet<usize> = self
            .ledger
            .promises
            .iter()
            .filter(|((giver, of, asked), promise)| {
                *giver != at && of == content && *asked == nonce && holds(promise.at_ms)
            })
            .map(|((giver, _, _), _)| *giver)
            .collect();
        if givers.len() < usize::from(wanted) {
            let what = format!("h{at} drops {} with promises of {givers:?}, {wanted} wanted", short(content));
            self.fail("I12", what);
        }
    }

    pub fn term_taken(&mut self, at: usize, term: Term) {
        self.trace(|| format!("h{at} takes {term:?}"));
    }

    /// A command is answered: I1, I8 and P1 hold at this very moment.
    pub fn answered(&mut self, at: usize, ask: AskId, reply: &Reply) {
        self.trace(|| format!("h{at} answers {ask:?}: {reply:?}"));
        let Some((op, request)) = self.asks.get(&ask).map(|ask| (ask.op, ask.request.clone())) else {
            return;
        };
        match (reply, request) {
            (Reply::Committed { holders, .. }, Request::Commit { .. }) => {
                let holders = holders.first().cloned().unwrap_or_default();
                self.put_answered(at, op, &holders);
            }
            (Reply::Posted { letters }, _) => self.letters_answered(at, op, letters),
            (Reply::Removed { .. }, _) => {
                self.mark(Mark::Removed);
                self.change_answered(at, ask, op, true);
            }
            (Reply::ReplicasSet { .. }, _) => {
                self.mark(Mark::ReplicasSet);
                self.change_answered(at, ask, op, false);
            }
            _ => {}
        }
    }

    fn hit_by_fault_since(&self, op: u64) -> bool {
        let info = self.ledger.op(op);
        let damaged = match &info.work {
            Work::Put { content, .. } => self.ledger.damage.contains_key(content),
            _ => false,
        };
        damaged || self.ledger.destroyed_at.is_some_and(|at| at >= info.begun_at)
    }

    fn put_answered(&mut self, at: usize, op: u64, holders: &[NodeId]) {
        let hit = self.hit_by_fault_since(op);
        let info = self.ledger.op(op).clone();
        let Work::Put { name, content, .. } = &info.work else {
            return;
        };
        let mut machines = BTreeSet::new();
        for node in holders {
            let host = &self.hosts[self.by_id[node]];
            let image = &host.disk.image;
            let entry = info.dots.iter().any(|dot| image.knows(name, *dot));
            // Removed or replaced while others were waited for: then its bytes may be gone, too.
            let taken = info.dots.iter().any(|dot| {
                self.ledger.killed.contains(dot) && image.knows(name, *dot) && !image.lists(name, *dot)
            });
            if !(hit || taken || entry && image.held.contains_key(content)) {
                let what = format!(
                    "h{at} says that put {op} of {name} ({}) is on h{}, whose disk has entry: {entry}, content: {}",
                    short(content),
                    self.by_id[node],
                    image.held.contains_key(content)
                );
                return self.fail("I1", what);
            }
            if !machines.insert(host.machine.clone()) {
                return self.fail("P1", format!("put {op} of {name} counts one machine twice"));
            }
        }
        if holders.is_empty() {
            return self.fail("P1", format!("put {op} of {name} is acknowledged with no copy"));
        }
        self.outcome.puts_acknowledged += 1;
        let info = self.ledger.op_mut(op);
        (info.acknowledged, info.exempt) = (true, false);
        let good = |node: &NodeId| self.hosts[self.by_id[node]].disk.bytes(content) == Some(Bytes::Good);
        if hit && !holders.iter().any(good) {
            // All copies that it counts were damaged before: nobody could know.
            self.ledger.op_mut(op).exempt = true;
            return;
        }
        let images = self.images();
        if !self.ledger.survives(&images, op) {
            let what = self.describe_loss(op);
            self.fail("I3", format!("as it is acknowledged: {what}"));
        }
    }

    /// A removal or a setting is durable here and on a majority of those that were told.
    fn change_answered(&mut self, at: usize, ask: AskId, op: u64, removal: bool) {
        let hit = self.hit_by_fault_since(op);
        let Some(change) = self.ledger.changes.get(&ask).cloned() else {
            return;
        };
        self.outcome.changes_acknowledged += 1;
        self.ledger.op_mut(op).acknowledged = true;
        let facts = if removal { &change.kills } else { &change.settings };
        for (name, dot) in facts {
            // A step may also tell again what an earlier request brought about, as the put of this version.
            let tells = |delta: &Delta| {
                if removal { removes(delta, *dot) } else { sets(&delta.names, *dot) }
            };
            let told = change.told.iter().filter(|(_, delta)| tells(delta)).map(|(host, _)| *host);
            let everybody: BTreeSet<usize> = told.chain([at]).collect();
            let majority = everybody.len() / 2 + 1;
            let knowing = everybody.iter().filter(|host| {
                let image = &self.hosts[**host].disk.image;
                let known = image.knows(name, *dot) || self.set_on(image, name, *dot);
                known && !(removal && image.lists(name, *dot))
            });
            let knowing = knowing.count();
            if !hit && knowing < majority {
                let what = format!(
                    "command {op} on {name} is acknowledged with {knowing} of {} disks, {majority} needed",
                    everybody.len()
                );
                return self.fail("I8", what);
            }
            if knowing > 0 {
                let facts = if removal { &mut self.ledger.removed } else { &mut self.ledger.set };
                facts.insert((name.clone(), *dot));
            }
        }
    }

    /// Whether a setting is on a disk.
    pub fn set_on(&self, image: &Image, name: &FileName, dot: Dot) -> bool {
        let versions = image.live(name);
        let mut settings =
            versions.flat_map(|version| version.wanted.later.iter().flat_map(|later| later.iter()));
        settings.any(|(known, _)| *known == dot)
    }
}

/// Whether a change takes a version away: it knows it, and does not bring it.
fn removes(delta: &Delta, dot: Dot) -> bool {
    let mut versions = delta.names.iter().flat_map(|(_, versions)| versions);
    delta.context.contains(&dot) && !versions.any(|version| version.dot == dot)
}

/// Whether a change carries a setting.
fn sets(names: &[(FileName, Vec<Version>)], dot: Dot) -> bool {
    let versions = names.iter().flat_map(|(_, versions)| versions);
    let mut settings =
        versions.flat_map(|version| version.wanted.later.iter().flat_map(|later| later.iter()));
    settings.any(|(known, _)| *known == dot)
}
