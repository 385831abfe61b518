//! One seed: hosts, virtual time, the queue of what is going to happen.
//!
//! Invariant: what happens depends on the seed and the options alone. Events of one moment happen
//! in the order in which they were made; nothing iterates in an order of chance.

use crate::clients::{Ask, Client};
use crate::disk::{Change, Disk, Put};
use crate::ledger::Ledger;
use crate::marks::{Mark, Marks};
use crate::network::Network;
use crate::options::{Kind, Options, Stream, between, stream};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;
use thorp::clock::{Moment, Rng};
use thorp::engine::event::{AskId, Input};
use thorp::engine::{Config, Engine, Restored};
use thorp::types::{ContentId, InstanceId, Letter, LetterId, Lineage, MachineId, NodeId, NodeRoute, Pin};

/// When virtual time begins, in milliseconds.
pub const BEGIN: u64 = 1_000_000;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which, as in docs/architecture.md and the reference.
    pub promise: &'static str,
    pub what: String,
    /// Milliseconds since the beginning.
    pub at_ms: u64,
}

/// What became of a seed.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub failure: Option<Failure>,
    pub marks: Marks,
    /// Of all that happened: equal for equal seeds.
    pub hash: u64,
    pub simulated_ms: u64,
    /// How long the quiet phase took to converge.
    pub converged_ms: u64,
    pub steps: u64,
    pub faults: u64,
    pub puts_acknowledged: u64,
    pub changes_acknowledged: u64,
    /// Names that are listed at the end without any bytes, and of which nothing was promised.
    pub bare: u64,
}

/// A machine with a node, up or down.
pub struct Host {
    pub id: NodeId,
    pub machine: MachineId,
    pub pin: Pin,
    pub engine: Option<Engine>,
    /// Numbers its runs; what was meant for an earlier one is void.
    pub run: u64,
    pub instance: InstanceId,
    /// Which pause it is in, if any.
    pub paused: Option<u64>,
    /// What came while it was paused.
    pub backlog: Vec<Event>,
    /// Gone for good.
    pub dead: bool,
    /// It said goodbye once: others give it ten minutes to come back.
    pub said_goodbye: bool,
    pub disk: Disk,
    pub clock_offset: u64,
    pub clock_ppm: u64,
    pub wall_skew: u64,
    pub slow_until: u64,
    wake_at: u64,
}

impl Host {
    /// Its own clock.
    pub fn local(&self, now: u64) -> Moment {
        Moment(self.clock_offset + now + now * self.clock_ppm / 1_000_000)
    }

    pub fn is_running(&self) -> bool {
        self.engine.is_some() && self.paused.is_none()
    }
}

/// Something that is going to happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// The engine asked to be called.
    Wake {
        at: usize,
        run: u64,
    },
    /// A part of the node reports.
    Input {
        at: usize,
        run: u64,
        input: Box<Input>,
    },
    Datagram {
        at: usize,
        source: usize,
        bytes: Rc<[u8]>,
    },
    /// The next message of a link arrives.
    Link {
        from: usize,
        to: usize,
        epoch: u64,
    },
    /// Somebody dials to announce itself.
    Contact {
        at: usize,
        source: usize,
        instance: InstanceId,
        bytes: Rc<[u8]>,
    },
    /// A group of writes is durable.
    Group {
        at: usize,
        run: u64,
        group: u64,
    },
    Housekeep {
        at: usize,
        run: u64,
    },
    /// A pull has a source's bytes, or tries the next.
    Pull {
        at: usize,
        run: u64,
        content: ContentId,
        size: u64,
        from: Vec<NodeRoute>,
        source: Option<usize>,
    },
    /// A content's file is written and synced.
    Written {
        at: usize,
        run: u64,
        change: Change,
    },
    Staged {
        at: usize,
        run: u64,
        letters: Vec<Letter>,
    },
    Revealed {
        at: usize,
        run: u64,
        ids: Vec<LetterId>,
    },
    Check {
        at: usize,
        run: u64,
        content: ContentId,
        nonce: u64,
        asker: NodeId,
    },
    Drop {
        at: usize,
        run: u64,
        content: ContentId,
        until: Option<Moment>,
    },
    /// A put's bytes are at a holder.
    Chain {
        at: usize,
        run: u64,
        put: Put,
        content: ContentId,
        size: u64,
        rest: Vec<usize>,
        by: usize,
    },
    /// A holder's word comes to the client.
    Stored {
        put: Put,
        at: usize,
    },
    /// A put's chain is closed.
    Unpin {
        at: usize,
        put: Put,
    },
    /// A client does its next step.
    Client {
        client: usize,
        token: u64,
    },
    Asked {
        ask: AskId,
    },
    Replied {
        ask: AskId,
        bytes: Rc<[u8]>,
    },
    /// Something breaks.
    Fault,
    Resume {
        at: usize,
        pause: u64,
    },
    Start {
        at: usize,
    },
    /// Somebody notices that a disk refuses, and starts the node again.
    Restart {
        at: usize,
    },
    /// A network that was cut is whole again.
    Heal {
        cut: u64,
    },
    FullNoMore {
        at: usize,
    },
    Join {
        at: usize,
    },
}

struct Scheduled {
    at: u64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// The streams of chance.
pub struct Streams {
    pub network: Rng,
    pub disk: Rng,
    pub faults: Rng,
    pub work: Rng,
    pub ids: Rng,
}

pub struct World {
    pub options: Options,
    pub now: u64,
    pub hosts: Vec<Host>,
    pub by_id: BTreeMap<NodeId, usize>,
    pub network: Network,
    pub clients: Vec<Client>,
    pub asks: BTreeMap<AskId, Ask>,
    pub ledger: Ledger,
    pub outcome: Outcome,
    pub rng: Streams,
    /// Faults are over.
    pub quiet: bool,
    pub trace: bool,
    /// Numbers whatever needs a number of its own.
    pub numbers: u64,
    /// Operations that may still begin.
    pub operations_left: usize,
    events: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
}

impl World {
    pub fn new(seed: u64, options: &Options, trace: bool) -> World {
        let rng = Streams {
            network: stream(seed, Stream::Network),
            disk: stream(seed, Stream::Disk),
            faults: stream(seed, Stream::Faults),
            work: stream(seed, Stream::Work),
            ids: stream(seed, Stream::Ids),
        };
        let mut world = World {
            options: options.clone(),
            now: BEGIN,
            hosts: Vec::new(),
            by_id: BTreeMap::new(),
            network: Network::default(),
            clients: Vec::new(),
            asks: BTreeMap::new(),
            ledger: Ledger::default(),
            outcome: Outcome::default(),
            rng,
            quiet: false,
            trace,
            numbers: 0,
            operations_left: options.operations,
            events: BinaryHeap::new(),
            order: 0,
        };
        world.network = Network::draw(options, &mut world.rng.network);
        for at in 0..options.nodes {
            world.add_host(at, options.pins[at]);
        }
        for at in 0..options.nodes {
            let after = world.rng.faults.below(300);
            world.after(after, Event::Start { at });
        }
        world.make_clients();
        world.begin_faults();
        world
    }

    /// A machine whose node has not started.
    pub fn add_host(&mut self, at: usize, pin: Pin) {
        let id = self.new_node_id(at);
        let machine = if self.options.paired && at < 2 { 0 } else { at };
        let drifts = self.options.has(Kind::Clock);
        let rng = &mut self.rng.ids;
        let host = Host {
            id,
            machine: MachineId::parse(&format!("m{machine}")).expect("valid"),
            pin,
            engine: None,
            run: 0,
            instance: InstanceId(0),
            paused: None,
            backlog: Vec::new(),
            dead: false,
            said_goodbye: false,
            disk: Disk::default(),
            clock_offset: rng.below(1_000_000_000),
            clock_ppm: if drifts { rng.below(400) } else { 0 },
            wall_skew: if drifts { rng.below(200_000) } else { 100_000 },
            slow_until: 0,
            wake_at: u64::MAX,
        };
        self.hosts.push(host);
        self.hosts[at].disk.capacity = self.capacity();
        self.new_disk_id(at);
        self.network.endpoint_added();
    }

    /// A new id for the node of a host.
    pub fn new_node_id(&mut self, at: usize) -> NodeId {
        let mut bytes = [0; 16];
        self.rng.ids.fill(&mut bytes);
        let id = NodeId(bytes);
        self.by_id.insert(id, at);
        id
    }

    pub fn new_disk_id(&mut self, at: usize) {
        let image = &mut self.hosts[at].disk.image;
        self.rng.ids.fill(&mut image.id.0);
    }

    pub fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub fn mark(&mut self, mark: Mark) {
        self.outcome.marks.fire(mark);
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>8} {}", self.now - BEGIN, line());
        }
    }

    /// A promise is broken: the first one counts.
    pub fn fail(&mut self, promise: &'static str, what: String) {
        self.trace(|| format!("BROKEN {promise}: {what}"));
        if self.outcome.failure.is_none() {
            self.outcome.failure = Some(Failure { promise, what, at_ms: self.now - BEGIN });
        }
    }

    pub fn at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.events.push(Reverse(Scheduled { at: at.max(self.now), order: self.order, event }));
    }

    pub fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now + ms, event);
    }

    /// Lets things happen until `until`, or until a promise is broken.
    pub fn run_until(&mut self, until: u64) {
        while self.outcome.failure.is_none() {
            match self.events.peek() {
                Some(Reverse(next)) if next.at <= until => {}
                _ => break,
            }
            if let Some(Reverse(next)) = self.events.pop() {
                self.now = next.at;
                self.happen(next.event);
            }
        }
        self.now = self.now.max(until);
    }

    /// Takes part of what happened into the hash of the run.
    pub fn note(&mut self, part: u64) {
        let hash = &mut self.outcome.hash;
        *hash = (hash.rotate_left(5) ^ part).wrapping_mul(0x517C_C1B7_2722_0A95);
    }

    pub fn happen(&mut self, event: Event) {
        if let Some(at) = self.paused_by(&event) {
            self.hosts[at].backlog.push(event);
            return;
        }
        self.note(self.now);
        match event {
            Event::Wake { at, run } => {
                if self.hosts[at].run == run && self.hosts[at].wake_at <= self.now {
                    self.hosts[at].wake_at = u64::MAX;
                    self.step(at, Input::Tick);
                }
            }
            Event::Input { at, run, input } => {
                if self.hosts[at].run == run {
                    self.step(at, *input);
                }
            }
            Event::Datagram { at, source, bytes } => self.hear_datagram(at, source, &bytes),
            Event::Link { from, to, epoch } => self.link_carries(from, to, epoch),
            Event::Contact { at, source, instance, bytes } => self.contacted(at, source, instance, &bytes),
            Event::Group { at, run, group } => self.group_durable(at, run, group),
            Event::Housekeep { at, run } => self.housekeep(at, run),
            Event::Pull { at, run, content, size, from, source } => {
                self.pull_goes_on(at, run, (content, size), from, source);
            }
            Event::Written { at, run, change } => {
                if self.hosts[at].run == run && self.hosts[at].engine.is_some() {
                    self.submit(at, change);
                }
            }
            Event::Staged { at, run, letters } => self.letters_staged(at, run, letters),
            Event::Revealed { at, run, ids } => self.letters_revealed(at, run, &ids),
            Event::Check { at, run, content, nonce, asker } => self.check(at, run, content, nonce, asker),
            Event::Drop { at, run, content, until } => self.drop_copy(at, run, content, until),
            Event::Chain { at, run, put, content, size, rest, by } => {
                self.chain_arrives(at, run, put, (content, size), rest, by);
            }
            Event::Stored { put, at } => self.stored_heard(put, at),
            Event::Unpin { at, put } => self.hosts[at].disk.unpin(put),
            Event::Client { client, token } => self.client_acts(client, token),
            Event::Asked { ask } => self.ask_arrives(ask),
            Event::Replied { ask, bytes } => self.reply_arrives(ask, &bytes),
            Event::Fault => self.fault(),
            Event::Resume { at, pause } => self.resume(at, pause),
            Event::Start { at } => self.start(at),
            Event::Restart { at } => {
                if self.hosts[at].disk.suspect {
                    self.crash(at);
                    self.start(at);
                }
            }
            Event::Heal { cut } => self.heal(cut),
            Event::FullNoMore { at } => self.hosts[at].disk.full = false,
            Event::Join { at } => self.start(at),
        }
    }

    /// The paused host that an event must wait for.
    fn paused_by(&self, event: &Event) -> Option<usize> {
        let at = match event {
            Event::Wake { at, .. }
            | Event::Input { at, .. }
            | Event::Datagram { at, .. }
            | Event::Contact { at, .. }
            | Event::Housekeep { at, .. }
            | Event::Pull { at, .. }
            | Event::Written { at, .. }
            | Event::Staged { at, .. }
            | Event::Revealed { at, .. }
            | Event::Check { at, .. }
            | Event::Drop { at, .. }
            | Event::Group { at, .. }
            | Event::Chain { at, .. }
            | Event::Unpin { at, .. } => *at,
            // The kernel takes what comes over a connection.
            Event::Link { to, .. } => *to,
            Event::Asked { ask } => self.asks.get(ask)?.host,
            _ => return None,
        };
        self.hosts[at].paused.map(|_| at)
    }

    /// Starts the node of a host that is down.
    pub fn start(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        if host.dead || host.engine.is_some() {
            return;
        }
        host.run += 1;
        let instance = InstanceId(self.rng.ids.next_u64());
        let mut fresh = Lineage::default();
        self.rng.ids.fill(&mut fresh.0);
        host.instance = instance;
        host.disk.image.generation += 1;
        if host.disk.image.lineage.is_empty() {
            host.disk.image.lineage = vec![fresh];
        }
        let image = &host.disk.image;
        let catalog = match image.catalog() {
            Ok(catalog) => catalog,
            Err(error) => {
                return self.fail("I27", format!("the catalog of host {at} cannot be read: {error}"));
            }
        };
        let config = Config {
            node: host.id,
            instance,
            generation: image.generation,
            disk: image.id,
            machine: host.machine.clone(),
            name: format!("h{at}").into(),
            tcp_port: 7667,
            http_port: 7668,
            pin: host.pin,
            heal_after_ms: self.options.heal_after_ms,
            keep_removed_ms: self.options.keep_removed_ms,
            secured: self.options.secured,
            version: "simulated".into(),
            met_others: image.met,
        };
        let restored = Restored {
            catalog,
            held: host.disk.index.keys().copied().collect(),
            term: image.term,
            lineage: image.lineage.clone(),
            draining: image.draining,
            mailbox: image.mailbox(),
        };
        let (run, local) = (host.run, host.local(self.now));
        host.engine = Some(Engine::new(local, config, restored));
        host.wake_at = u64::MAX;
        self.ledger.started(at, &host.disk.image);
        self.ledger.speaks(instance, host.id);
        self.inbox_grows(at);
        self.trace(|| format!("h{at} starts, run {run}, instance {instance:?}"));
        let clock = self.wall_clock(at);
        self.step(at, clock);
        let usage = self.usage(at);
        self.step(at, usage);
        self.after(0, Event::Housekeep { at, run });
        self.query(at);
        if self.quiet {
            self.scrub(at);
        }
    }

    /// The process of a host ends without a word.
    pub fn crash(&mut self, at: usize) {
        let persists = self.rng.disk.below(2) == 0;
        let host = &mut self.hosts[at];
        if host.engine.take().is_none() {
            return;
        }
        host.run += 1;
        host.paused = None;
        host.backlog.clear();
        let (queued, grouped) = (host.disk.queue.len(), host.disk.group.len() + host.disk.limbo.len());
        host.disk.restart(persists);
        if queued > 0 {
            self.mark(Mark::WritesLost);
        }
        if grouped > 0 && persists {
            self.mark(Mark::UntoldWriteKept);
        }
        self.trace(|| format!("h{at} crashes; {grouped} writes persist: {persists}, {queued} are lost"));
        self.network.host_down(at, &mut self.rng.network);
        self.asks_broken(at);
        self.ledger.roles_forget(at);
        self.disk_changed(at, None);
    }

    /// One input into the engine of a host, and what follows.
    pub fn step(&mut self, at: usize, input: Input) {
        let host = &mut self.hosts[at];
        let local = host.local(self.now);
        let Some(engine) = &mut host.engine else {
            return;
        };
        self.outcome.steps += 1;
        let cause = self.ledger.cause(&input, &self.asks);
        engine.handle(local, input);
        let mut effects = Vec::new();
        while let Some(effect) = engine.next_effect() {
            effects.push(effect);
        }
        self.note((at as u64) << 32 | effects.len() as u64);
        for effect in effects {
            self.perform(at, effect, cause);
        }
        self.wake(at);
    }

    fn wake(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let Some(engine) = &host.engine else {
            return;
        };
        let wait = engine.next_wakeup().since(host.local(self.now)).max(1);
        let due = self.now + wait;
        if due < host.wake_at {
            host.wake_at = due;
            let run = host.run;
            self.at(due, Event::Wake { at, run });
        }
    }

    pub fn report(&mut self, at: usize, input: Input) {
        let run = self.hosts[at].run;
        self.after(0, Event::Input { at, run, input: Box::new(input) });
    }

    /// A host goes on after a pause.
    fn resume(&mut self, at: usize, pause: u64) {
        if self.hosts[at].paused == Some(pause) {
            self.unpause(at);
        }
    }

    pub fn unpause(&mut self, at: usize) {
        if self.hosts[at].paused.take().is_none() {
            return;
        }
        self.trace(|| format!("h{at} goes on"));
        for event in std::mem::take(&mut self.hosts[at].backlog) {
            self.after(0, event);
        }
        let run = self.hosts[at].run;
        self.hosts[at].wake_at = self.now;
        self.after(0, Event::Wake { at, run });
    }

    /// Room on a disk: enough for everything, or so little that half of it counts as much.
    fn capacity(&mut self) -> u64 {
        if self.options.tight { between(&mut self.rng.disk, 40 << 20, 120 << 20) } else { 1 << 40 }
    }

    /// Where nodes that are there and not for ever gone are.
    pub fn living(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|at| !self.hosts[*at].dead).collect()
    }
}
