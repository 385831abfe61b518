//! Size: a thousand engines in one process, a million files, and what the three things cost that
//! happen to a cluster: a node joins, the proxy dies, a file changes.
//!
//! A perfect network and disk, virtual time in steps of 10 ms; processor time is what this process
//! used, engines and codec together. Every storage node has the whole catalog, as designed: so a
//! thousand nodes times a million files do not fit one machine, and both axes are measured apart.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use thorp::clock::Moment;
use thorp::engine::event::{AskId, Effect, Input, Note, Via};
use thorp::engine::{Config, Engine, Restored};
use thorp::replication::{Catalog, CausalContext};
use thorp::types::{
    Body, ContentId, DiskId, DiskState, Dot, FileName, InstanceId, Lineage, MachineId, NodeId, Pin, Term,
    Version, Wanted,
};
use thorp::wire::message::{Context, Message, NewFile, Reply, Request};
use thorp::wire::{decode, encode};

const STEP_MS: u64 = 10;

struct Node {
    engine: Option<Engine>,
    inputs: VecDeque<Input>,
}

struct Lan {
    now: Moment,
    nodes: Vec<Node>,
    answers: BTreeMap<AskId, Reply>,
    ready: Option<usize>,
    messages: u64,
    bytes: u64,
    datagrams: u64,
}

/// What something cost.
struct Cost {
    cpu_ms: f64,
    simulated_ms: u64,
    messages: u64,
    bytes: u64,
}

fn node_id(at: usize) -> NodeId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(at as u64 + 1).to_be_bytes());
    NodeId(id)
}

fn host_of(node: NodeId) -> usize {
    let [a, b, c, d, e, f, g, h, ..] = node.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h]) as usize - 1
}

fn address(at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, (at / 250) as u8, (at % 250) as u8 + 1))
}

fn content(n: usize) -> ContentId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    ContentId(id)
}

fn name(n: usize) -> FileName {
    FileName::parse(&format!("folder-{}/file-{n}", n % 997)).expect("valid")
}

/// A catalog of so many files, put by one earlier proxy.
fn catalog(files: usize) -> Catalog {
    let instance = InstanceId(7);
    let context = Context { prefixes: vec![(instance, files as u64)], extra: Vec::new() };
    let mut names: Vec<(FileName, Vec<Version>)> = (0..files)
        .map(|n| {
            let version = Version {
                dot: Dot { counter: n as u64 + 1, instance },
                body: Body::File { content: content(n), size: 100_000 },
                mode: 0o644,
                modified_ns: 1,
                wanted: Wanted::new(2),
                removed_s: 0,
            };
            (name(n), vec![version])
        })
        .collect();
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Catalog::load(CausalContext::from_wire(&context).expect("valid"), names).expect("valid")
}

fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1_000.0 + time.tv_nsec as f64 / 1_000_000.0
}

fn resident_mb() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4 / 1_024
}

impl Lan {
    /// `nodes` nodes that all have the catalog, each file on two of them.
    fn new(nodes: usize, files: usize) -> Lan {
        let base = catalog(files);
        let mut held: Vec<Vec<ContentId>> = vec![Vec::new(); nodes];
        for n in 0..files {
            held[n % nodes].push(content(n));
            held[(n + 1) % nodes].push(content(n));
        }
        let mut lan = Lan {
            now: Moment(1_000_000),
            nodes: Vec::new(),
            answers: BTreeMap::new(),
            ready: None,
            messages: 0,
            bytes: 0,
            datagrams: 0,
        };
        for held in held {
            lan.add(base.clone(), held);
        }
        lan
    }

    fn add(&mut self, catalog: Catalog, held: Vec<ContentId>) {
        let at = self.nodes.len();
        let config = Config {
            node: node_id(at),
            instance: InstanceId(1_000 + at as u64),
            generation: 1,
            disk: DiskId([1; 16]),
            machine: MachineId::parse(&format!("m{at}")).expect("valid"),
            name: format!("h{at}").into(),
            tcp_port: 7667,
            http_port: 7668,
            pin: Pin::Auto,
            heal_after_ms: 600_000,
            keep_removed_ms: 0,
            secured: true,
            version: "scale".into(),
            met_others: true,
        };
        let restored = Restored {
            catalog,
            held,
            term: Term::default(),
            lineage: vec![Lineage([1; 16])],
            draining: false,
            mailbox: thorp::messages::mailbox::Mailbox::default(),
        };
        let engine = Some(Engine::new(self.now, config, restored));
        let usage = Input::Usage {
            capacity_bytes: 1 << 44,
            used_bytes: 0,
            free_bytes: 1 << 44,
            disk: DiskState::Ok,
            usable: true,
        };
        let addresses = vec![SocketAddr::new(address(at), 7667)];
        let inputs = VecDeque::from([usage, Input::OwnAddresses { addresses }]);
        self.nodes.push(Node { engine, inputs });
    }

    fn step(&mut self) {
        self.now = self.now.plus(STEP_MS);
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let Some(engine) = &mut node.engine else {
                node.inputs.clear();
                continue;
            };
            let mut effects = Vec::new();
            for input in std::mem::take(&mut node.inputs) {
                engine.handle(self.now, input);
            }
            if engine.next_wakeup() <= self.now {
                engine.handle(self.now, Input::Tick);
            }
            while let Some(effect) = engine.next_effect() {
                effects.push(effect);
            }
            for effect in effects {
                self.perform(at, effect);
            }
        }
    }

    fn perform(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Broadcast(presence) => {
                self.datagrams += 1;
                let presence: Box<thorp::types::Presence> =
                    Box::new(decode(&encode(presence.as_ref())).expect("a presence"));
                for to in (0..self.nodes.len()).filter(|to| *to != at) {
                    let presence = presence.clone();
                    let input = Input::Announced { presence, source: address(at), via: Via::Datagram };
                    self.nodes[to].inputs.push_back(input);
                }
            }
            Effect::Send { to, message } => {
                let bytes = encode(message.as_ref());
                self.messages += 1;
                self.bytes += bytes.len() as u64;
                let message: Message = decode(&bytes).expect("a message");
                let instance = InstanceId(1_000 + at as u64);
                let input = match message {
                    Message::Announce(presence) => {
                        Input::Announced { presence, source: address(at), via: Via::Link }
                    }
                    message => Input::Told { from: node_id(at), instance, message: Box::new(message) },
                };
                self.nodes[host_of(to)].inputs.push_back(input);
            }
            Effect::SaveCatalog { save, .. } => {
                self.nodes[at].inputs.push_back(Input::CatalogSaved { save, durable: true });
            }
            Effect::SaveTerm { term } => {
                self.nodes[at].inputs.push_back(Input::TermSaved { term, durable: true });
            }
            Effect::Answer { ask, reply } => {
                self.answers.insert(ask, *reply);
            }
            Effect::Note(Note::Ready { .. }) => self.ready = Some(at),
            _ => {}
        }
    }

    fn running(&self) -> impl Iterator<Item = &Engine> {
        self.nodes.iter().filter_map(|node| node.engine.as_ref())
    }

    fn leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|at| self.nodes[*at].engine.as_ref().is_some_and(Engine::leads))
    }

    fn agreed(&self) -> bool {
        self.leader().is_some_and(|leader| {
            self.ready == Some(leader) && self.running().all(|e| e.presence().proxy == Some(node_id(leader)))
        })
    }

    /// Goes on until `done`, and what that cost.
    fn until(&mut self, what: &str, done: impl Fn(&Lan) -> bool) -> Cost {
        let (cpu, begin, messages, bytes) = (cpu_ms(), self.now, self.messages, self.bytes);
        while !done(self) {
            assert!(self.now.since(begin) < 120_000, "not within two minutes: {what}");
            self.step();
        }
        Cost {
            cpu_ms: cpu_ms() - cpu,
            simulated_ms: self.now.since(begin),
            messages: self.messages - messages,
            bytes: self.bytes - bytes,
        }
    }

    fn rest(&mut self, ms: u64) -> Cost {
        let until = self.now.plus(ms);
        self.until("time", move |lan| lan.now >= until)
    }
}

fn measure(nodes: usize, files: usize) {
    let mut lan = Lan::new(nodes, files);
    let first = lan.until("one proxy", Lan::agreed);
    lan.rest(2_000);
    let idle = lan.rest(2_000);
    let idle_a_second = idle.cpu_ms / 2.0;
    let tell = |what: &str, cost: &Cost| {
        let above = cost.cpu_ms - idle_a_second * cost.simulated_ms as f64 / 1_000.0;
        println!(
            "| {nodes} | {files} | {what} | {above:.1} | {} | {} | {:.1} |",
            cost.simulated_ms,
            cost.messages,
            cost.bytes as f64 / 1_024.0
        );
    };
    println!(
        "| {nodes} | {files} | rest, a second | {idle_a_second:.1} | 1000 | {} | {:.1} |",
        idle.messages / 2,
        idle.bytes as f64 / 2_048.0
    );
    tell("first election and report", &first);
    let leader = lan.leader().expect("a leader");
    // One change: a put's commit, until every catalog has it.
    let ask = AskId(1);
    let stored = Input::ContentStored { content: content(files + 1), size: 1_000 };
    lan.nodes[leader].inputs.push_back(stored);
    lan.step();
    let file = NewFile {
        name: FileName::parse("new").expect("valid"),
        body: Body::File { content: content(files + 1), size: 1_000 },
        mode: 0o644,
        modified_ns: 1,
        replicas: 1,
        holders: vec![node_id(leader)],
    };
    let machine = MachineId::parse("elsewhere").expect("valid");
    let request = Box::new(Request::Commit { files: vec![file] });
    lan.nodes[leader].inputs.push_back(Input::Asked { ask, machine, request });
    let change = lan.until("the commit", |lan| lan.answers.contains_key(&ask));
    assert!(matches!(lan.answers.get(&ask), Some(Reply::Committed { .. })));
    lan.rest(3_000);
    tell("one change", &change);
    // A node with nothing joins.
    lan.add(Catalog::new(), Vec::new());
    let new = lan.nodes.len() - 1;
    let join = lan.until("the newcomer has the catalog", |lan| {
        let digest = |at: usize| lan.nodes[at].engine.as_ref().map(|engine| engine.presence().catalog_digest);
        digest(new) == digest(leader) && lan.agreed()
    });
    tell("a node joins", &join);
    // The proxy dies.
    lan.nodes[leader].engine = None;
    let takeover = lan.until("another proxy", Lan::agreed);
    tell("takeover", &takeover);
    println!("  resident memory {} MB, {} KB a node", resident_mb(), resident_mb() * 1_024 / nodes as u64);
}

/// `cargo test --release --test simulation scale -- --ignored --nocapture`;
/// `THORP_SIM_SCALE="1000x1000 3x1000000"` chooses nodes and files.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn scale() {
    let chosen = std::env::var("THORP_SIM_SCALE").unwrap_or_else(|_| {
        "10x1000 30x1000 100x1000 300x1000 1000x1000 3x1000 3x10000 3x100000 3x1000000".into()
    });
    println!("| nodes | files | what | processor ms above rest | simulated ms | messages | KiB sent |");
    println!("|---|---|---|---|---|---|---|");
    for size in chosen.split_whitespace() {
        let (nodes, files) = size.split_once('x').expect("NODESxFILES");
        measure(nodes.parse().expect("a number of nodes"), files.parse().expect("a number of files"));
    }
}
