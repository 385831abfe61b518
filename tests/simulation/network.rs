//! The network: datagrams that get lost, links that carry messages in order or break.
//!
//! A link is one-way, as in `node::links`: its first message says who speaks, it carries messages
//! in order, and when it breaks they are lost without a word. Nothing comes over a link while
//! packets do not pass both ways; a link that is stuck for long is given up.

use crate::ledger::Cause;
use crate::options::{Kind, Options, between, one_in};
use crate::world::{Event, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use thorp::clock::Rng;
use thorp::engine::event::{Input, Via};
use thorp::limits::LINK_QUEUE_MAX;
use thorp::types::{InstanceId, NodeId, Presence};
use thorp::wire::datagram::{Datagram, Tags, encode_datagram, open_datagram};
use thorp::wire::frame::{FRAME_PREFIX_BYTES, FramePrefix};
use thorp::wire::message::{Message, check_presence};
use thorp::wire::{Decode, Encode, decode, encode};

const TAGS: Tags = Tags { name: *b"simulate", key: *b"acluster" };

/// A link of one run of a node to one run of another.
struct Link {
    queue: VecDeque<Rc<[u8]>>,
    instance: InstanceId,
    to_run: u64,
    last_at: u64,
    stuck_since: Option<u64>,
}

#[derive(Default)]
pub struct Network {
    /// Packets from the first to the second do not arrive.
    cut: BTreeSet<(usize, usize)>,
    /// Which cut that is.
    pub cuts: u64,
    links: BTreeMap<(usize, usize, u64), Link>,
    current: BTreeMap<(usize, usize), u64>,
    epochs: u64,
    /// Datagrams as sent, for replays.
    old: VecDeque<(usize, Rc<[u8]>)>,
    pub endpoints: usize,
    pub loss: u64,
    duplication: u64,
    delay_ms: (u64, u64),
    breaks: u64,
    patience_ms: u64,
    pub broadcast: bool,
}

/// The bytes of a frame.
pub fn frame<T: Encode>(value: &T) -> Rc<[u8]> {
    let head = encode(value);
    let prefix = FramePrefix { head_bytes: head.len(), payload_bytes: 0 }.encode();
    [prefix.as_slice(), &head].concat().into()
}

/// What a frame says.
pub fn unframe<T: Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    let (prefix, head) = bytes.split_at(FRAME_PREFIX_BYTES);
    let prefix = FramePrefix::decode(prefix.try_into().expect("eight bytes")).map_err(|e| e.to_string())?;
    if prefix.head_bytes != head.len() {
        return Err("the lengths of a frame are wrong".into());
    }
    decode(head).map_err(|error| error.to_string())
}

/// Stands for the real seal: the simulator has no strangers.
fn seal(bytes: &[u8]) -> [u8; 16] {
    let sum = bytes.iter().fold(7_u64, |sum, byte| sum.rotate_left(9).wrapping_add(u64::from(*byte)));
    let mut seal = [0; 16];
    seal[..8].copy_from_slice(&sum.to_le_bytes());
    seal
}

pub fn address_of(at: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, (at >> 8) as u8, (at & 255) as u8 + 1))
}

fn host_at(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => {
            let [ten, _, high, low] = address.octets();
            (ten == 10).then(|| (usize::from(high) << 8) + usize::from(low) - 1)
        }
        IpAddr::V6(_) => None,
    }
}

impl Network {
    pub fn draw(options: &Options, rng: &mut Rng) -> Network {
        let mut network = Network { broadcast: options.broadcast, ..Network::default() };
        let loss = between(rng, 1, 30);
        let duplication = between(rng, 1, 40);
        let delay = (rng.below(5), [3, 20, 80, 160][rng.below(4) as usize]);
        let breaks = between(rng, 30, 400);
        network.patience_ms = between(rng, 1_000, 10_000);
        network.delay_ms = (0, 2);
        if options.has(Kind::Loss) {
            network.loss = loss;
        }
        if options.has(Kind::Duplication) {
            network.duplication = duplication;
        }
        if options.has(Kind::Delay) {
            network.delay_ms = delay;
        }
        if options.has(Kind::LinkBreak) {
            network.breaks = breaks;
        }
        network
    }

    pub fn endpoint_added(&mut self) {
        self.endpoints += 1;
    }

    /// No more faults.
    pub fn calm_down(&mut self) {
        (self.loss, self.duplication, self.breaks) = (0, 0, 0);
        self.cut.clear();
        self.cuts += 1;
        self.delay_ms = (0, 5);
    }

    pub fn set_cut(&mut self, cut: BTreeSet<(usize, usize)>) -> u64 {
        self.cut = cut;
        self.cuts += 1;
        self.cuts
    }

    pub fn passes(&self, from: usize, to: usize) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// Whether a connection goes on.
    pub fn connects(&self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    pub fn delay(&self, rng: &mut Rng) -> u64 {
        self.delay_ms.0 + rng.below(self.delay_ms.1.max(1))
    }

    /// What was on its way from a host that went down arrives in part.
    pub fn host_down(&mut self, at: usize, rng: &mut Rng) {
        for ((from, _, _), link) in &mut self.links {
            if *from == at {
                let kept = rng.below(link.queue.len() as u64 + 1) as usize;
                link.queue.truncate(kept);
            }
        }
        self.current.retain(|(from, to), _| *from != at && *to != at);
    }

    pub fn renew(&mut self, from: usize, to: usize) {
        self.current.remove(&(from, to));
    }
}

impl World {
    /// As the shell stamps what leaves it.
    fn stamped(&self, at: usize, presence: Presence) -> Presence {
        Presence { wall_ms: 1_700_000_000_000 + self.now + self.hosts[at].wall_skew, ..presence }
    }

    pub fn broadcast(&mut self, at: usize, datagram: &Datagram) {
        let datagram = match datagram {
            Datagram::Beacon(presence) => {
                Datagram::Beacon(Box::new(self.stamped(at, presence.as_ref().clone())))
            }
            other => other.clone(),
        };
        let bytes: Rc<[u8]> = encode_datagram(&datagram, TAGS, seal).into();
        if bytes.len() > thorp::limits::DATAGRAM_BYTES_MAX {
            return self.fail("P9", format!("a datagram of {} bytes", bytes.len()));
        }
        if !self.network.broadcast {
            return;
        }
        for to in 0..self.hosts.len() {
            self.send_datagram(at, to, &bytes);
        }
        let network = &mut self.network;
        if network.duplication > 0 {
            network.old.push_back((at, bytes));
            if network.old.len() > 64 {
                network.old.pop_front();
            }
            let rng = &mut self.rng.network;
            if one_in(rng, 40) {
                let (source, bytes) = network.old[rng.below(network.old.len() as u64) as usize].clone();
                for to in 0..self.hosts.len() {
                    self.send_datagram(source, to, &bytes);
                }
            }
        }
    }

    fn send_datagram(&mut self, from: usize, to: usize, bytes: &Rc<[u8]>) {
        let network = &self.network;
        let rng = &mut self.rng.network;
        if !network.passes(from, to) || rng.below(100) < network.loss {
            return;
        }
        let copies = if rng.below(100) < network.duplication { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.network.delay(&mut self.rng.network);
            self.after(delay, Event::Datagram { at: to, source: from, bytes: Rc::clone(bytes) });
        }
    }

    pub fn hear_datagram(&mut self, at: usize, source: usize, bytes: &[u8]) {
        if self.hosts[at].engine.is_none() {
            return;
        }
        let sealed = open_datagram(bytes).expect("our own datagram");
        if sealed.seal != seal(&sealed.sealed_bytes()) {
            return self.fail("P10", "a seal that was right is wrong".into());
        }
        let input = match sealed.datagram() {
            Ok(Datagram::Beacon(presence)) => {
                return self.hear_announcement(at, source, presence, Via::Datagram);
            }
            Ok(Datagram::Query { nonce: _ }) => Input::Queried,
            Ok(Datagram::Goodbye { node, instance, sequence: _ }) => {
                self.ledger.left(at, node, instance);
                Input::GoodbyeHeard { node, instance }
            }
            Err(error) => return self.fail("P9", format!("a datagram cannot be read: {error}")),
        };
        self.step(at, input);
    }

    /// Noted before the node acts on it, if the two are of one cluster by then, and after: they may become
    /// so by it.
    fn hear_announcement(&mut self, at: usize, source: usize, presence: Box<Presence>, via: Via) {
        let (said, proven) = (presence.clone(), matches!(via, Via::Link));
        self.announcement(at, &said, proven);
        self.step(at, Input::Announced { presence, source: address_of(source), via });
        self.announcement(at, &said, proven);
    }

    /// Only those of its own cluster are a node's business: which one that is it may have learnt just now.
    fn announcement(&mut self, at: usize, presence: &Presence, proven: bool) {
        let own = self.hosts[at].engine.as_ref().map(|engine| engine.presence().lineage.clone());
        let meets = own.is_some_and(|own| own.iter().any(|lineage| presence.lineage.contains(lineage)));
        self.ledger.announced(at, presence, proven, meets, self.now);
    }

    pub fn query(&mut self, at: usize) {
        let nonce = self.rng.ids.next_u64();
        self.broadcast(at, &Datagram::Query { nonce });
    }

    /// A message to a member, over the link to it, which is opened if there is none.
    pub fn send_message(&mut self, at: usize, to: NodeId, message: Message, cause: Cause) {
        let Some(&host) = self.by_id.get(&to) else {
            return self.fail("P9", format!("a message to {to}, whom nobody knows"));
        };
        self.message_leaves(at, host, &message, cause);
        let message = match message {
            Message::Announce(presence) => Message::Announce(Box::new(self.stamped(at, *presence))),
            message => message,
        };
        let epoch = match self.network.current.get(&(at, host)) {
            Some(epoch) => *epoch,
            None => match self.open_link(at, host, to) {
                Some(epoch) => epoch,
                None => return,
            },
        };
        self.link_takes(at, host, epoch, frame(&message));
    }

    fn open_link(&mut self, from: usize, to: usize, node: NodeId) -> Option<u64> {
        // The route must be known, and who answers there must be whom it is for.
        let engine = self.hosts[from].engine.as_ref()?;
        let there = self.hosts[to].is_running() && self.hosts[to].id == node;
        if engine.route(node).is_none() || !there || !self.network.connects(from, to) {
            return None;
        }
        let presence = self.stamped(from, engine.presence().clone());
        self.network.epochs += 1;
        let epoch = self.network.epochs;
        let link = Link {
            queue: VecDeque::new(),
            instance: self.hosts[from].instance,
            to_run: self.hosts[to].run,
            last_at: self.now + 2 * self.network.delay(&mut self.rng.network),
            stuck_since: None,
        };
        self.network.links.insert((from, to, epoch), link);
        self.network.current.insert((from, to), epoch);
        self.link_takes(from, to, epoch, frame(&Message::Announce(Box::new(presence))));
        Some(epoch)
    }

    fn link_takes(&mut self, from: usize, to: usize, epoch: u64, bytes: Rc<[u8]>) {
        let delay = self.network.delay(&mut self.rng.network);
        let Some(link) = self.network.links.get_mut(&(from, to, epoch)) else {
            return;
        };
        if link.queue.len() >= LINK_QUEUE_MAX {
            return;
        }
        link.queue.push_back(bytes);
        link.last_at = link.last_at.max(self.now + delay);
        let at = link.last_at;
        self.at(at, Event::Link { from, to, epoch });
    }

    /// The next message of a link arrives, or the link breaks.
    pub fn link_carries(&mut self, from: usize, to: usize, epoch: u64) {
        let run = self.hosts[to].run;
        let connects = self.network.connects(from, to);
        let breaks = self.network.breaks > 0 && one_in(&mut self.rng.network, self.network.breaks);
        let (now, patience_ms) = (self.now, self.network.patience_ms);
        let Some(link) = self.network.links.get_mut(&(from, to, epoch)) else {
            return;
        };
        if link.to_run != run || breaks {
            return self.end_link(from, to, epoch);
        }
        if !connects {
            let since = *link.stuck_since.get_or_insert(now);
            if now - since >= patience_ms {
                return self.end_link(from, to, epoch);
            }
            return self.after(100, Event::Link { from, to, epoch });
        }
        link.stuck_since = None;
        let instance = link.instance;
        let Some(bytes) = link.queue.pop_front() else {
            return;
        };
        let sender = self.network_sender(from, instance);
        match unframe::<Message>(&bytes) {
            Ok(message) => self.hear_message(to, from, (sender, instance), message),
            Err(error) => self.fail("P9", format!("a message cannot be read: {error}")),
        }
    }

    fn end_link(&mut self, from: usize, to: usize, epoch: u64) {
        self.network.links.remove(&(from, to, epoch));
        if self.network.current.get(&(from, to)) == Some(&epoch) {
            self.network.current.remove(&(from, to));
        }
    }

    /// Who spoke: a host whose folder was lost has another id now.
    fn network_sender(&self, from: usize, instance: InstanceId) -> NodeId {
        self.ledger.speaker(instance).unwrap_or(self.hosts[from].id)
    }

    fn hear_message(&mut self, at: usize, source: usize, from: (NodeId, InstanceId), message: Message) {
        let (from, instance) = from;
        let input = match message {
            Message::Announce(presence) => {
                if presence.node != from
                    || presence.instance != instance
                    || check_presence(&presence).is_err()
                {
                    return self.fail("P10", format!("a node announces itself as another: {presence:?}"));
                }
                return self.hear_announcement(at, source, presence, Via::Link);
            }
            Message::Goodbye => {
                self.ledger.left(at, from, instance);
                Input::GoodbyeHeard { node: from, instance }
            }
            message => {
                self.message_arrives(at, from, instance, &message);
                Input::Told { from, instance, message: Box::new(message) }
            }
        };
        self.step(at, input);
    }

    /// Dials an address to announce this node there.
    pub fn contact(&mut self, at: usize, address: IpAddr) {
        let Some(to) = host_at(address).filter(|to| *to < self.hosts.len() && *to != at) else {
            return;
        };
        let Some(engine) = &self.hosts[at].engine else {
            return;
        };
        if !self.network.connects(at, to) || !self.hosts[to].is_running() {
            return;
        }
        let presence = self.stamped(at, engine.presence().clone());
        let bytes = frame(&Message::Announce(Box::new(presence)));
        let instance = self.hosts[at].instance;
        let delay = 2 * self.network.delay(&mut self.rng.network);
        self.after(delay, Event::Contact { at: to, source: at, instance, bytes });
    }

    pub fn contacted(&mut self, at: usize, source: usize, instance: InstanceId, bytes: &[u8]) {
        if self.hosts[at].engine.is_none() || !self.network.connects(source, at) {
            return;
        }
        let sender = self.network_sender(source, instance);
        match unframe::<Message>(bytes) {
            Ok(message) => self.hear_message(at, source, (sender, instance), message),
            Err(error) => self.fail("P9", format!("an announcement cannot be read: {error}")),
        }
    }
}
