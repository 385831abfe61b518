//! Commands: what `client` does on the network, in virtual time.
//!
//! A put asks for a place, sends its bytes down a chain, lets other machines pull what the chain
//! did not bring, and commits. Every request is repeated as the real session repeats it; a command
//! asks any node and goes where that one sends it.

use crate::disk::Put;
use crate::ledger::{Op, Work};
use crate::letters;
use crate::marks::Mark;
use crate::network::{frame, unframe};
use crate::options::{Kind, between, one_in};
use crate::world::{Event, World};
use std::collections::BTreeSet;
use thorp::engine::event::{AskId, Input};
use thorp::types::{Body, ContentId, FileName, MachineId, NodeId};
use thorp::wire::message::{ErrorCode, NewFile, Reply, Request, Selector};

/// A command's place in the network.
pub fn endpoint(client: usize) -> usize {
    10_000 + client
}

/// As `limits::COMMAND_TIMEOUT`.
const TIMEOUT_MS: u64 = 10_000;
const AGAIN_MS: u64 = 100;
const STALL_MS: u64 = 3_000;
/// A connection without a packet for this long is gone.
const GONE_MS: u64 = 10_000;
/// Whatever is asked is answered within this time once nothing breaks any more.
const ANSWER_MS: u64 = 60_000;
const COMMITS_AGAIN: u32 = 3;

/// A request on its way, or being answered.
pub struct Ask {
    pub client: usize,
    pub op: u64,
    pub host: usize,
    pub run: u64,
    pub request: Request,
    /// Its connection broke: nobody waits for the answer.
    pub broken: bool,
    /// The node answered, whether or not it was heard.
    pub answered: bool,
    /// When the node got it.
    pub heard_at: Option<u64>,
    pub silent_since: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Placing,
    Sending {
        since: u64,
    },
    Extending,
    Committing,
    /// Not a put.
    Asking,
}

/// A command under way.
pub struct Running {
    op: u64,
    stage: Stage,
    /// Where it asks.
    host: Option<usize>,
    ask: Option<AskId>,
    deadline: u64,
    /// A change was asked for, and whether it was made is not known.
    open: bool,
    chain: Vec<usize>,
    chains: u64,
    stored: Vec<NodeId>,
    excluded: BTreeSet<NodeId>,
    /// Left out of extensions, for they did not confirm.
    silent: Vec<NodeId>,
    planned: usize,
    confirmed: Vec<NodeId>,
    again: u32,
    places: u32,
}

/// Somebody who gives one command after the other.
pub struct Client {
    machine: MachineId,
    running: Option<Running>,
    token: u64,
}

impl Client {
    pub fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    pub fn is_committing(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.stage == Stage::Committing)
    }
}

impl World {
    pub fn make_clients(&mut self) {
        for client in 0..self.options.clients {
            let machine = self.rng.work.below(self.options.nodes as u64 + 1);
            let machine = MachineId::parse(&format!("m{machine}")).expect("valid");
            self.clients.push(Client { machine, running: None, token: 0 });
            // Open nodes that have files do not merge: they find each other first.
            let earliest = if self.options.secured { 500 } else { 7_000 };
            let wait = between(&mut self.rng.work, earliest, earliest + 3_500);
            self.client_later(client, wait);
        }
    }

    fn client_later(&mut self, client: usize, ms: u64) {
        self.clients[client].token += 1;
        let token = self.clients[client].token;
        self.after(ms, Event::Client { client, token });
    }

    /// The client begins, goes on, or looks whether its connection is still there.
    pub fn client_acts(&mut self, client: usize, token: u64) {
        if self.clients[client].token != token {
            return;
        }
        let Some(running) = &self.clients[client].running else {
            return self.begin_operation(client);
        };
        match (running.ask, running.stage) {
            (Some(ask), _) => self.look_at_ask(client, ask),
            (None, Stage::Sending { since }) => self.look_at_chain(client, since),
            (None, _) => self.ask(client),
        }
    }

    fn begin_operation(&mut self, client: usize) {
        if self.operations_left == 0 || self.quiet {
            return;
        }
        self.operations_left -= 1;
        let work = self.draw_work();
        let stage = if matches!(work, Work::Put { .. }) { Stage::Placing } else { Stage::Asking };
        self.trace(|| format!("c{client} begins {work:?}"));
        let op = self.ledger.begin(work, self.now);
        self.clients[client].running = Some(Running {
            op,
            stage,
            host: None,
            ask: None,
            deadline: self.now + TIMEOUT_MS,
            open: false,
            chain: Vec::new(),
            chains: 0,
            stored: Vec::new(),
            excluded: BTreeSet::new(),
            silent: Vec::new(),
            planned: 0,
            confirmed: Vec::new(),
            again: 0,
            places: 0,
        });
        self.ask(client);
    }

    fn draw_work(&mut self) -> Work {
        let rng = &mut self.rng.work;
        let name = FileName::parse(&format!("f{}", rng.below(self.options.names))).expect("valid");
        let replicas = [1, 2, 2, 2, 3, 3, 4][rng.below(7) as usize];
        match rng.below(25) {
            0..11 => {
                let reuse = one_in(rng, 6);
                let size = [0, 1, 1_000, 100_000, 2_000_000, 8_000_000][rng.below(6) as usize];
                let mut bytes = [0; 32];
                rng.fill(&mut bytes);
                let pick = rng.next_u64();
                let known = self.ledger.contents_put();
                let old = known.get(pick as usize % known.len().max(1)).copied().filter(|_| reuse);
                let (content, size) = old.unwrap_or((ContentId(bytes), size));
                let replicas = replicas.max(self.ledger.least_replicas(&content));
                Work::Put { name, content, size, replicas }
            }
            11..14 => Work::Remove { name },
            14..17 => {
                let least = self.ledger.least_replicas_of_name(&name);
                Work::Replicas { name, replicas: replicas.max(least) }
            }
            17..19 => Work::Get { name },
            19 => Work::List,
            _ => letters::draw(&mut self.rng, self.options.nodes),
        }
    }

    /// What the command asks now.
    fn request(&self, running: &Running) -> Request {
        let Op { work, .. } = self.ledger.op(running.op);
        match (work, running.stage) {
            (Work::Put { name, size, replicas, .. }, Stage::Placing | Stage::Sending { .. }) => {
                Request::PutOpen {
                    names: vec![name.clone()],
                    bytes: *size,
                    replicas: *replicas,
                    exclude: running.excluded.iter().copied().collect(),
                }
            }
            (Work::Put { content, size, replicas, .. }, Stage::Extending) => Request::Extend {
                content: *content,
                size: *size,
                holders: running.stored.clone(),
                replicas: *replicas,
                exclude: running.excluded.iter().chain(&running.silent).copied().collect(),
            },
            (Work::Put { name, content, size, replicas }, _) => Request::Commit {
                files: vec![NewFile {
                    name: name.clone(),
                    body: Body::File { content: *content, size: *size },
                    mode: 0o644,
                    modified_ns: running.op as i64,
                    replicas: *replicas,
                    holders: running.stored.clone(),
                }],
            },
            (Work::Remove { name }, _) => Request::Remove { names: vec![name.clone()], now: false },
            (Work::Replicas { name, replicas }, _) => {
                Request::SetReplicas { name: name.clone(), replicas: *replicas }
            }
            (Work::Get { name }, _) => Request::List { selector: Selector::Name(name.clone()), after: None },
            (Work::Send { id, target, priority, brief }, _) => {
                letters::request(running.op, *id, *target, *priority, *brief)
            }
            (Work::List, _) => Request::List { selector: Selector::Under("".into()), after: None },
        }
    }

    /// Asks where the command was sent, or any node that answers.
    fn ask(&mut self, client: usize) {
        let Some(running) = &self.clients[client].running else {
            return;
        };
        let request = self.request(running);
        let (op, deadline) = (running.op, running.deadline);
        let reached = |world: &World, host: usize| {
            world.hosts[host].is_running() && world.network.connects(endpoint(client), host)
        };
        let there: Vec<usize> = (0..self.hosts.len()).filter(|host| reached(self, *host)).collect();
        let pick = self.rng.work.next_u64() as usize;
        let chosen = running.host.filter(|host| reached(self, *host));
        let Some(host) = chosen.or_else(|| there.get(pick % there.len().max(1)).copied()) else {
            if self.now >= deadline {
                return self.command_ends(client, false);
            }
            return self.client_later(client, 5 * AGAIN_MS);
        };
        let twice = self.options.has(Kind::Repeat) && !self.quiet && one_in(&mut self.rng.work, 8);
        let ask = self.send_ask(client, op, host, request.clone());
        if let Some(running) = &mut self.clients[client].running {
            (running.ask, running.host) = (Some(ask), Some(host));
        }
        if twice && !matches!(request, Request::Remove { .. }) {
            // The same once more, here or elsewhere: as a client does that lost its connection.
            let other = there[self.rng.work.below(there.len() as u64) as usize];
            let second = self.send_ask(client, op, other, request);
            if let Some(ask) = self.asks.get_mut(&second) {
                ask.broken = true;
            }
        }
        self.client_later(client, 1_000);
    }

    fn send_ask(&mut self, client: usize, op: u64, host: usize, request: Request) -> AskId {
        let ask = AskId(self.number());
        let run = self.hosts[host].run;
        // Really encoded, as everything that travels.
        let request: Request = match unframe(&frame(&request)) {
            Ok(request) => request,
            Err(error) => {
                self.fail("P9", format!("a request cannot be read: {error}"));
                request
            }
        };
        self.asks.insert(
            ask,
            Ask {
                client,
                op,
                host,
                run,
                request,
                broken: false,
                answered: false,
                heard_at: None,
                silent_since: None,
            },
        );
        let delay = 2 * self.network.delay(&mut self.rng.network);
        self.after(delay, Event::Asked { ask });
        ask
    }

    pub fn ask_arrives(&mut self, ask: AskId) {
        let Some(asked) = self.asks.get_mut(&ask) else {
            return;
        };
        let (host, run, client) = (asked.host, asked.run, asked.client);
        if self.hosts[host].run != run
            || self.hosts[host].engine.is_none()
            || !self.network.connects(endpoint(client), host)
        {
            asked.broken = true;
            return;
        }
        asked.heard_at = Some(self.now);
        let request = Box::new(asked.request.clone());
        self.ledger.asked(ask, asked.op, &asked.request, self.now);
        let machine = self.clients[client].machine.clone();
        self.step(host, Input::Asked { ask, machine, request });
    }

    /// The node of a host is gone, and its connections with it.
    pub fn asks_broken(&mut self, host: usize) {
        let broken: Vec<AskId> =
            self.asks.iter().filter(|(_, ask)| ask.host == host).map(|(ask, _)| *ask).collect();
        for ask in broken {
            if let Some(ask) = self.asks.get_mut(&ask) {
                ask.broken = true;
            }
        }
    }

    fn look_at_ask(&mut self, client: usize, ask: AskId) {
        let now = self.now;
        let leaves = self.options.has(Kind::Leave) && !self.quiet && one_in(&mut self.rng.work, 25);
        let Some(asked) = self.asks.get_mut(&ask) else {
            return self.connection_broke(client, ask);
        };
        let (host, run) = (asked.host, asked.run);
        let there = self.hosts[host].run == run && self.network.connects(endpoint(client), host);
        if there {
            asked.silent_since = None;
        } else {
            let since = *asked.silent_since.get_or_insert(now);
            asked.broken |= now - since >= GONE_MS;
        }
        let broken = asked.broken || self.hosts[host].run != run;
        if self.hosts[host].paused.is_some() {
            asked.heard_at = Some(now);
        }
        let unanswered = asked.heard_at.is_some_and(|at| now - at >= ANSWER_MS) && !asked.answered;
        if unanswered && !broken && self.quiet {
            let what = format!("h{host} has not answered for {} s: {:?}", ANSWER_MS / 1_000, asked.request);
            return self.fail("I25", what);
        }
        if leaves {
            self.trace(|| format!("c{client} goes away"));
            self.asks.remove(&ask);
            self.hosts[host].is_running().then(|| self.report(host, Input::AskGone { ask }));
            return self.command_ends(client, false);
        }
        if broken { self.connection_broke(client, ask) } else { self.client_later(client, 1_000) }
    }

    /// The answer will not come.
    fn connection_broke(&mut self, client: usize, ask: AskId) {
        let request = self.asks.remove(&ask).map(|ask| ask.request);
        let now = self.now;
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        (running.ask, running.host) = (None, None);
        running.open |= matches!(
            request,
            Some(Request::Commit { .. } | Request::SetReplicas { .. } | Request::Remove { .. })
        );
        let hopeless = matches!(request, Some(Request::Remove { .. })) || now >= running.deadline;
        if hopeless { self.command_ends(client, false) } else { self.client_later(client, AGAIN_MS) }
    }

    pub fn reply_arrives(&mut self, ask: AskId, bytes: &[u8]) {
        let Some(asked) = self.asks.get_mut(&ask) else {
            return;
        };
        let (client, host) = (asked.client, asked.host);
        asked.broken |= !self.network.connects(endpoint(client), host);
        let waited_for =
            self.clients[client].running.as_ref().is_some_and(|running| running.ask == Some(ask));
        if !waited_for || asked.broken {
            return;
        }
        let reply: Reply = match unframe(bytes) {
            Ok(reply) => reply,
            Err(error) => return self.fail("P9", format!("a reply cannot be read: {error}")),
        };
        self.asks.remove(&ask);
        if let Some(running) = &mut self.clients[client].running {
            running.ask = None;
        }
        self.hear_reply(client, host, reply);
    }

    fn hear_reply(&mut self, client: usize, host: usize, reply: Reply) {
        let now = self.now;
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        match reply {
            Reply::NotProxy { proxy } => {
                running.host = proxy.and_then(|route| self.by_id.get(&route.node).copied());
                self.mark(Mark::SentOn);
                self.ask_again(client);
            }
            Reply::Failed { code: ErrorCode::NotReady, .. } => {
                self.mark(Mark::AnsweredNotReady);
                self.ask_again(client);
            }
            Reply::PutPlan { chain } => {
                let nodes: Vec<NodeId> = chain.iter().map(|route| route.node).collect();
                self.send_bytes(client, &nodes);
            }
            Reply::Extended { node } => {
                running.stored.push(node);
                running.deadline = now + TIMEOUT_MS;
                self.mark(Mark::Extended);
                self.after_storing(client);
            }
            Reply::Failed { code: ErrorCode::NoStorage | ErrorCode::Connection, .. }
                if running.stage == Stage::Extending =>
            {
                // As many as there are; the proxy mends the rest.
                if running.again > 0 && running.stored.len() == running.confirmed.len() {
                    return self.command_ends(client, true);
                }
                running.stage = Stage::Committing;
                self.ask(client);
            }
            Reply::Committed { mut holders, .. } => {
                let confirmed = holders.pop().unwrap_or_default();
                self.committed(client, confirmed);
            }
            Reply::Rows { rows, .. } => self.rows_heard(client, host, rows),
            Reply::Failed { code: ErrorCode::Unknown, .. } => {
                self.mark(Mark::AnsweredUnknown);
                self.command_ends(client, false);
            }
            Reply::Failed { .. } => self.command_ends(client, false),
            Reply::ReplicasSet { .. }
            | Reply::Removed { .. }
            | Reply::Status(_)
            | Reply::Drain(_)
            | Reply::Merging { .. }
            | Reply::Why(_)
            | Reply::Posted { .. }
            | Reply::Changed { .. } => {
                self.command_ends(client, true);
            }
        }
    }

    fn ask_again(&mut self, client: usize) {
        let late = self.clients[client].running.as_ref().is_none_or(|running| self.now >= running.deadline);
        if late { self.command_ends(client, false) } else { self.client_later(client, AGAIN_MS) }
    }

    /// Bytes go from holder to holder.
    fn send_bytes(&mut self, client: usize, nodes: &[NodeId]) {
        let by_id = &self.by_id;
        let chain: Vec<usize> = nodes.iter().filter_map(|node| by_id.get(node).copied()).collect();
        let now = self.now;
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        running.chains += 1;
        running.chain.clone_from(&chain);
        running.planned = running.planned.max(chain.len());
        running.stage = Stage::Sending { since: now };
        running.deadline = now + TIMEOUT_MS;
        let (op, chain_no) = (running.op, running.chains);
        let put = Put { client, op, chain: chain_no };
        let Work::Put { content, size, .. } = self.ledger.op(op).work else {
            return;
        };
        if let Some((first, rest)) = chain.split_first() {
            let delay = 2 * self.network.delay(&mut self.rng.network);
            let run = self.hosts[*first].run;
            let (rest, by) = (rest.to_vec(), endpoint(client));
            self.after(delay, Event::Chain { at: *first, run, put, content, size, rest, by });
        }
        self.client_later(client, STALL_MS);
    }

    /// A holder has the put's content durably and says so, back along the chain.
    pub fn holder_says_stored(&mut self, at: usize, put: Put) {
        let delay = 2 * self.network.delay(&mut self.rng.network);
        self.after(delay, Event::Stored { put, at });
    }

    pub fn stored_heard(&mut self, put: Put, at: usize) {
        let client = put.client;
        let connects = self.network.connects(endpoint(client), at) && self.hosts[at].is_running();
        let node = self.hosts[at].id;
        if self.ledger.op(put.op).ended {
            let wait = if connects { self.network.delay(&mut self.rng.network) } else { 60_000 };
            return self.after(wait, Event::Unpin { at, put });
        }
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        let waits = matches!(running.stage, Stage::Sending { .. }) && running.chains == put.chain;
        if running.op != put.op || !waits || !connects {
            return;
        }
        if !running.stored.contains(&node) {
            running.stored.push(node);
        }
        if running.stored.len() >= running.chain.len() {
            self.after_storing(client);
        }
    }

    /// The chain has stalled: who has said nothing failed in this put.
    fn look_at_chain(&mut self, client: usize, since: u64) {
        let patient = self.now - since < 3 * STALL_MS;
        let ids: Vec<(usize, NodeId)> =
            self.hosts.iter().enumerate().map(|(at, host)| (at, host.id)).collect();
        let working = |world: &World, running: &Running| {
            running.chain.iter().any(|at| {
                let host = &world.hosts[*at];
                let busy = !host.disk.claims.is_empty();
                !running.stored.contains(&host.id)
                    && busy
                    && host.is_running()
                    && world.network.connects(endpoint(client), *at)
            })
        };
        let works = self.clients[client].running.as_ref().is_some_and(|running| working(self, running));
        if works && patient {
            return self.client_later(client, 700);
        }
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        let failed =
            ids.iter().filter(|(at, node)| running.chain.contains(at) && !running.stored.contains(node));
        running.excluded.extend(failed.map(|(_, node)| *node));
        if running.stored.is_empty() {
            running.places += 1;
            if running.places > 5 {
                return self.command_ends(client, false);
            }
            running.stage = Stage::Placing;
            self.ask(client);
        } else {
            self.after_storing(client);
        }
    }

    /// Some hold it: are they enough?
    fn after_storing(&mut self, client: usize) {
        let now = self.now;
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        running.deadline = now + TIMEOUT_MS;
        let short = running.stored.len() < running.planned;
        running.stage = if short { Stage::Extending } else { Stage::Committing };
        self.ask(client);
    }

    /// The entry is made; a holder that did not confirm is replaced, a few times.
    fn committed(&mut self, client: usize, confirmed: Vec<NodeId>) {
        let now = self.now;
        let Some(running) = &mut self.clients[client].running else {
            return;
        };
        if confirmed.len() >= running.planned || running.again >= COMMITS_AGAIN {
            return self.command_ends(client, true);
        }
        running.again += 1;
        running.silent = running.stored.iter().filter(|node| !confirmed.contains(node)).copied().collect();
        running.stored.clone_from(&confirmed);
        running.confirmed = confirmed;
        running.stage = Stage::Extending;
        running.deadline = now + TIMEOUT_MS;
        self.mark(Mark::CommittedAgain);
        self.ask(client);
    }

    fn command_ends(&mut self, client: usize, well: bool) {
        let Some(running) = self.clients[client].running.take() else {
            return;
        };
        if let Some(ask) = running.ask {
            self.asks.remove(&ask);
        }
        let op = running.op;
        self.trace(|| format!("c{client} ends its command {op}, well: {well}"));
        self.ledger.ended(op);
        let put = Put { client, op, chain: 0 };
        for at in 0..self.hosts.len() {
            // A holder that is not reached keeps what it received for a minute.
            let reached = self.network.connects(endpoint(client), at);
            let wait = if reached { self.network.delay(&mut self.rng.network) } else { 60_000 };
            self.after(wait, Event::Unpin { at, put });
        }
        let pause = self.rng.work.below(2 * self.options.fault_ms / (self.options.operations as u64 + 1) + 1);
        self.client_later(client, pause);
    }

    /// A list came; a get reads from the holders that it names.
    fn rows_heard(&mut self, client: usize, proxy: usize, rows: Vec<thorp::wire::message::Row>) {
        let Some(running) = &self.clients[client].running else {
            return;
        };
        if matches!(self.ledger.op(running.op).work, Work::Get { .. }) {
            for row in rows {
                self.read(client, proxy, &row);
            }
        }
        self.command_ends(client, true);
    }
}
