//! Whole clusters of engines in virtual time: a perfect network and disk, nodes that stop and
//! start, links that are cut. Every message is encoded and decoded on its way.

use super::event::{AskId, Effect, Input, Via};
use super::{Config, Engine, Restored};
use crate::clock::Moment;
use crate::messages::mailbox::Mailbox;
use crate::replication::{Catalog, CausalContext};
use crate::types::{
    Body, ContentId, DiskId, DiskState, FileName, InstanceId, Lineage, MachineId, NodeId, Pin, Term, Version,
};
use crate::types::{Letter, LetterId};
use crate::wire::mail::{MailKey, MailRow, MailWrite};
use crate::wire::message::{FileState, Message, NewFile, Reply, Request, Row, Selector};
use crate::wire::record::CatalogWrite;
use crate::wire::{decode, encode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

mod care;
mod disks;
mod faults;
mod letters;
mod main_job;

/// What survives a restart.
#[derive(Clone, Default)]
struct Disk {
    names: BTreeMap<FileName, Vec<Version>>,
    context: crate::wire::message::Context,
    held: BTreeSet<ContentId>,
    term: Term,
    lineage: Vec<Lineage>,
    generation: u64,
    draining: bool,
    mail: BTreeMap<MailKey, MailRow>,
    staged: Vec<Letter>,
    inbox: Vec<Letter>,
}

struct Host {
    engine: Option<Engine>,
    disk: Disk,
    pin: Pin,
    inputs: Vec<Input>,
}

struct Cluster {
    now: Moment,
    hosts: Vec<Host>,
    cut: BTreeSet<usize>,
    answers: BTreeMap<AskId, Reply>,
    asks: u64,
    /// Copies dropped so far: (host, content).
    dropped: Vec<(usize, ContentId)>,
    /// So many pulls fail from now on.
    fail_pulls: usize,
    /// Changes told to this host get lost.
    lose_delta_to: Option<usize>,
    /// Letters told to this host get lost.
    lose_letters_to: Option<usize>,
    /// After so many more messages with letters, all such get lost.
    lose_letters_after: Option<usize>,
    /// This host is called so when it is started.
    name_of_host: Option<(usize, Box<str>)>,
    /// This host is on the machine of host 0 when it is started.
    with_host_0: Option<usize>,
    /// Pages of exchanges get lost.
    lose_pages: bool,
    /// Nothing can be made durable on this host.
    bad_disk: Option<usize>,
    /// This host's disk does not answer.
    hold_saves: Option<usize>,
    /// This host's disk does not come to removing anything.
    hold_drops: Option<usize>,
    /// Terms made durable, on all hosts.
    terms_saved: u64,
}

fn node(at: usize) -> NodeId {
    NodeId([u8::try_from(at + 1).expect("small"); 16])
}

fn name(text: &str) -> FileName {
    FileName::parse(text).expect("a valid name")
}

fn content(n: u8) -> ContentId {
    ContentId([n; 32])
}

impl Cluster {
    fn new(pins: &[Pin]) -> Cluster {
        let hosts = pins
            .iter()
            .map(|pin| Host { engine: None, disk: Disk::default(), pin: *pin, inputs: Vec::new() })
            .collect();
        let mut cluster = Cluster {
            now: Moment(1_000_000),
            hosts,
            cut: BTreeSet::new(),
            answers: BTreeMap::new(),
            asks: 0,
            dropped: Vec::new(),
            fail_pulls: 0,
            lose_delta_to: None,
            lose_letters_to: None,
            lose_letters_after: None,
            name_of_host: None,
            with_host_0: None,
            lose_pages: false,
            bad_disk: None,
            hold_saves: None,
            hold_drops: None,
            terms_saved: 0,
        };
        (0..pins.len()).for_each(|at| cluster.start(at));
        cluster
    }

    fn start(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.disk.generation += 1;
        if host.disk.lineage.is_empty() {
            host.disk.lineage = vec![Lineage([u8::try_from(200 - at).expect("small"); 16])];
        }
        let config = Config {
            node: node(at),
            instance: InstanceId(at as u64 * 1_000 + host.disk.generation),
            generation: host.disk.generation,
            disk: DiskId([u8::try_from(at).expect("small"); 16]),
            machine: MachineId::parse(&format!("m{}", if self.with_host_0 == Some(at) { 0 } else { at }))
                .expect("valid"),
            name: self
                .name_of_host
                .as_ref()
                .filter(|(host, _)| *host == at)
                .map_or_else(|| format!("h{at}").into(), |(_, name)| name.clone()),
            tcp_port: 7667,
            http_port: 7668,
            pin: host.pin,
            heal_after_ms: 20_000,
            keep_removed_ms: 60_000,
            secured: false,
            version: "test".into(),
            met_others: true,
        };
        let context = CausalContext::from_wire(&host.disk.context).expect("a valid context");
        let catalog = Catalog::load(context, host.disk.names.clone()).expect("a valid catalog");
        let restored = Restored {
            catalog,
            held: host.disk.held.iter().copied().collect(),
            term: host.disk.term,
            lineage: host.disk.lineage.clone(),
            draining: host.disk.draining,
            mailbox: Mailbox::load(host.disk.mail.values().cloned()),
        };
        host.disk.recover_staged(&restored.mailbox);
        host.inputs.clear();
        host.engine = Some(Engine::new(self.now, config, restored));
        host.inputs.push(Input::WallClock { wall_ms: 1_000_000_000_000 + self.now.0 });
        let usage = Input::Usage {
            capacity_bytes: 1 << 40,
            used_bytes: 0,
            free_bytes: 1 << 40,
            disk: DiskState::Ok,
            usable: true,
        };
        host.inputs.push(usage);
    }

    /// The disk of a node was measured.
    fn measure(&mut self, at: usize, disk: DiskState, usable: bool) {
        let free_bytes = if disk == DiskState::Ok { 1 << 40 } else { 0 };
        let usage = Input::Usage { capacity_bytes: 1 << 40, used_bytes: 0, free_bytes, disk, usable };
        self.deliver(at, usage);
    }

    fn kill(&mut self, at: usize) {
        self.hosts[at].engine = None;
    }

    fn reach(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&from) && !self.cut.contains(&to)
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms / 20 {
            self.now = self.now.plus(20);
            for at in 0..self.hosts.len() {
                let inputs = std::mem::take(&mut self.hosts[at].inputs);
                self.step(at, Input::Tick);
                for input in inputs {
                    self.step(at, input);
                }
            }
        }
    }

    fn run_until(&mut self, ms: u64, what: &str, done: impl Fn(&Cluster) -> bool) {
        for _ in 0..ms / 100 {
            if done(self) {
                return;
            }
            self.run(100);
        }
        assert!(done(self), "not within {ms} ms: {what}");
    }

    fn step(&mut self, at: usize, input: Input) {
        let now = self.now;
        let Some(engine) = &mut self.hosts[at].engine else {
            return;
        };
        engine.handle(now, input);
        let mut effects = Vec::new();
        while let Some(effect) = engine.next_effect() {
            effects.push(effect);
        }
        for effect in effects {
            self.perform(at, effect);
        }
    }

    fn deliver(&mut self, to: usize, input: Input) {
        if self.hosts[to].engine.is_some() {
            self.hosts[to].inputs.push(input);
        }
    }

    fn is_lost(&mut self, to: usize, message: &Message) -> bool {
        match message {
            Message::Delta { .. } => self.lose_delta_to == Some(to),
            Message::SyncPage { .. } => self.lose_pages,
            Message::Letters { .. } if self.lose_letters_to == Some(to) => true,
            Message::Letters { .. } => match &mut self.lose_letters_after {
                Some(0) => true,
                Some(left) => {
                    *left -= 1;
                    false
                }
                None => false,
            },
            _ => false,
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        let source = IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(at).expect("small")));
        match effect {
            Effect::Broadcast(presence) => {
                for to in 0..self.hosts.len() {
                    if to == at || self.reach(at, to) {
                        let presence = presence.clone();
                        self.deliver(to, Input::Announced { presence, source, via: Via::Datagram });
                    }
                }
            }
            Effect::Send { to, message } => {
                let to = usize::from(to.0[0]) - 1;
                let message: Message = decode(&encode(message.as_ref())).expect("a message");
                let instance = InstanceId(at as u64 * 1_000 + self.hosts[at].disk.generation);
                if self.is_lost(to, &message) {
                    return;
                }
                if self.reach(at, to) {
                    let input = match message {
                        Message::Announce(presence) => Input::Announced { presence, source, via: Via::Link },
                        message => Input::Told { from: node(at), instance, message: Box::new(message) },
                    };
                    self.deliver(to, input);
                }
            }
            Effect::SaveCatalog { save, writes } => {
                if self.bad_disk == Some(at) {
                    self.deliver(at, Input::CatalogSaved { save, durable: false });
                    return;
                }
                if self.hold_saves == Some(at) {
                    return;
                }
                self.hosts[at].disk.write(writes);
                self.deliver(at, Input::CatalogSaved { save, durable: true });
            }
            Effect::SaveTerm { term } => {
                self.terms_saved += 1;
                if self.bad_disk == Some(at) {
                    self.deliver(at, Input::TermSaved { term, durable: false });
                    return;
                }
                self.hosts[at].disk.term = term;
                self.deliver(at, Input::TermSaved { term, durable: true });
            }
            Effect::SaveDraining { draining } => {
                self.hosts[at].disk.draining = draining;
                self.deliver(at, Input::DrainingSaved { draining, durable: true });
            }
            Effect::SaveLineage { lineage } => self.hosts[at].disk.lineage = lineage,
            Effect::Answer { ask, reply } => {
                self.answers.insert(ask, *reply);
            }
            Effect::Pull { content, size, from } => {
                let holders = from.iter().map(|route| usize::from(route.node.0[0]) - 1);
                let stored = holders.into_iter().any(|holder| {
                    self.hosts[holder].engine.is_some()
                        && self.reach(at, holder)
                        && self.hosts[holder].disk.held.contains(&content)
                });
                let stored = stored
                    && if self.fail_pulls > 0 {
                        self.fail_pulls -= 1;
                        false
                    } else {
                        true
                    };
                if stored {
                    self.hosts[at].disk.held.insert(content);
                    self.deliver(at, Input::ContentStored { content, size });
                }
                self.deliver(at, Input::PullEnded { content, stored });
            }
            Effect::Check { content, nonce, asker } => {
                let good = self.hosts[at].disk.held.contains(&content);
                self.deliver(at, Input::Checked { content, nonce, asker, good });
            }
            Effect::Drop { .. } if self.hold_drops == Some(at) => {}
            Effect::Drop { content, until: _ } => {
                self.hosts[at].disk.held.remove(&content);
                self.dropped.push((at, content));
                self.deliver(at, Input::DropEnded { content, dropped: true });
            }
            Effect::StageLetters { letters } => {
                self.hosts[at].disk.staged.extend(letters.into_iter().map(|(_, letter)| letter));
                self.deliver(at, Input::LettersStaged { durable: true });
            }
            Effect::RevealLetters { ids } => self.hosts[at].disk.reveal(&ids),
            Effect::Contact { .. } | Effect::Note(_) => {}
        }
    }

    fn leader(&self) -> Option<usize> {
        let mut leaders =
            (0..self.hosts.len()).filter(|at| self.hosts[*at].engine.as_ref().is_some_and(Engine::leads));
        let leader = leaders.next()?;
        leaders.next().is_none().then_some(leader)
    }

    fn agreed(&self) -> bool {
        self.leader().is_some_and(|leader| {
            self.hosts
                .iter()
                .filter_map(|host| host.engine.as_ref())
                .all(|engine| engine.presence().proxy == Some(node(leader)))
        })
    }

    /// Asks whoever leads, again while it is not ready.
    fn ask(&mut self, request: &Request) -> Reply {
        for _ in 0..200 {
            let Some(leader) = (0..self.hosts.len()).find(|at| {
                !self.cut.contains(at) && self.hosts[*at].engine.as_ref().is_some_and(Engine::leads)
            }) else {
                self.run(100);
                continue;
            };
            self.asks += 1;
            let ask = AskId(self.asks);
            let machine = MachineId::parse("elsewhere").expect("valid");
            self.deliver(leader, Input::Asked { ask, machine, request: Box::new(request.clone()) });
            for _ in 0..300 {
                self.run(20);
                if let Some(reply) = self.answers.remove(&ask) {
                    if matches!(&reply, Reply::Failed { code: crate::wire::message::ErrorCode::NotReady, .. })
                    {
                        self.run(100);
                        break;
                    }
                    return reply;
                }
            }
        }
        panic!("no answer to {request:?}")
    }

    /// Sends a request to `at` without waiting for the answer.
    fn ask_of(&mut self, at: usize, request: Request) -> AskId {
        self.asks += 1;
        let ask = AskId(self.asks);
        let machine = MachineId::parse("elsewhere").expect("valid");
        self.deliver(at, Input::Asked { ask, machine, request: Box::new(request) });
        ask
    }

    /// A content is durable on `at`.
    fn store(&mut self, at: usize, n: u8) {
        self.hosts[at].disk.held.insert(content(n));
        self.deliver(at, Input::ContentStored { content: content(n), size: 1_000 });
    }

    /// What a client's put does: placement, contents on the chain's disks, commit.
    fn put(&mut self, text: &str, n: u8, replicas: u8) -> Vec<NodeId> {
        let request =
            Request::PutOpen { names: vec![name(text)], bytes: 1_000, replicas, exclude: Vec::new() };
        let Reply::PutPlan { chain } = self.ask(&request) else { panic!("no plan") };
        let holders: Vec<NodeId> = chain.iter().map(|route| route.node).collect();
        for holder in &holders {
            let at = usize::from(holder.0[0]) - 1;
            self.hosts[at].disk.held.insert(content(n));
            self.deliver(at, Input::ContentStored { content: content(n), size: 1_000 });
        }
        let file = NewFile {
            name: name(text),
            body: Body::File { content: content(n), size: 1_000 },
            mode: 0o644,
            modified_ns: 0,
            replicas,
            holders,
        };
        match self.ask(&Request::Commit { files: vec![file] }) {
            Reply::Committed { mut holders, .. } => holders.remove(0),
            other => panic!("not committed: {other:?}"),
        }
    }

    fn row(&mut self, text: &str) -> Option<Row> {
        match self.ask(&Request::List { selector: Selector::Name(name(text)), after: None }) {
            Reply::Rows { mut rows, .. } => rows.pop(),
            _ => None,
        }
    }

    fn copies(&self, n: u8) -> usize {
        self.hosts.iter().filter(|host| host.disk.held.contains(&content(n))).count()
    }
}

impl Disk {
    /// What the shell does at a start: of the staged letters, those delivered are shown, the others go.
    fn recover_staged(&mut self, mailbox: &Mailbox) {
        let staged = std::mem::take(&mut self.staged);
        self.inbox.extend(staged.into_iter().filter(|letter| mailbox.is_seen(letter.id)));
    }

    fn reveal(&mut self, ids: &[LetterId]) {
        for id in ids {
            if let Some(at) = self.staged.iter().position(|letter| letter.id == *id) {
                self.inbox.push(self.staged.remove(at));
            }
        }
    }

    fn write(&mut self, writes: Vec<CatalogWrite>) {
        for write in writes {
            match write {
                CatalogWrite::Name { name, versions } if versions.is_empty() => {
                    self.names.remove(&name);
                }
                CatalogWrite::Name { name, versions } => {
                    self.names.insert(name, versions);
                }
                CatalogWrite::Prefix { instance, counter } => {
                    let prefixes = &mut self.context.prefixes;
                    match prefixes.binary_search_by_key(&instance, |(known, _)| *known) {
                        Ok(at) => prefixes[at].1 = counter,
                        Err(at) => prefixes.insert(at, (instance, counter)),
                    }
                }
                CatalogWrite::Extra { dots } => self.context.extra = dots,
                CatalogWrite::Mail(MailWrite::Put(row)) => drop(self.mail.insert(row.key(), *row)),
                CatalogWrite::Mail(MailWrite::Remove(key)) => drop(self.mail.remove(&key)),
            }
        }
    }
}

const AUTO: Pin = Pin::Auto;
