//! Breaks things, and mends them again: links cut both ways and one way, nodes killed and paused,
//! disks filled, disks lost.

use super::NODES;
use super::clients::Gate;
use super::history::History;
use crate::cluster::{Cluster, Node};
use crate::network::{Lan, wait_until};
use crate::process::{poll, s};
use std::collections::BTreeSet;
use std::time::Duration;
use thorp::clock::{self, Moment, Rng};

/// Faults at the same time.
const FAULTS_MAX: usize = 2;
/// Size of the disks, in memory: small, so that they can be filled.
const DISK_MEBIBYTES: u64 = 256;
/// Between two lost disks, in milliseconds.
const DISK_LOSS_EVERY_MS: u64 = 40_000;
/// What every node is started with.
pub const OPTIONS: [&str; 2] = ["--heal-after", "5s"];

/// What can be broken for a while; hosts by their numbers.
#[derive(Clone, Debug)]
enum Fault {
    /// Nothing goes from the first to the second host of each pair.
    Cut(BTreeSet<(usize, usize)>),
    /// Killed, and started again afterwards.
    Killed(BTreeSet<usize>),
    /// Stopped, and let go on afterwards.
    Paused(BTreeSet<usize>),
    /// The disk is filled to its last byte by somebody else.
    Full(usize),
}

/// The one that breaks things.
pub struct Nemesis<'a> {
    lan: &'a Lan,
    rng: Rng,
    /// By host, from 1; `None` while it is killed.
    nodes: Vec<Option<Node>>,
    /// With the moment when each ends.
    faults: Vec<(Moment, Fault)>,
    last_disk_loss: Moment,
}

impl<'a> Nemesis<'a> {
    /// Starts the nodes, each with a disk of its own.
    pub fn start(lan: &'a Lan, rng: Rng) -> Nemesis<'a> {
        for host in 1..=NODES {
            let host = lan.host(host);
            host.mount_disk(&host.folder.join("node"), DISK_MEBIBYTES);
        }
        let cluster = Cluster::start(lan, 1..=NODES, &OPTIONS);
        let nodes = cluster.nodes.into_iter().map(Some).collect();
        // The first disk may be lost when half of the time between two has passed.
        let last_disk_loss = Moment(clock::now().0.saturating_sub(DISK_LOSS_EVERY_MS / 2));
        Nemesis { lan, rng, nodes, faults: Vec::new(), last_disk_loss }
    }

    /// Breaks and mends for this long.
    pub fn rage(&mut self, duration: Duration, gate: &Gate, history: &History) {
        let start = clock::now();
        let is_over = || u128::from(clock::now().since(start)) >= duration.as_millis();
        while !is_over() {
            if clock::now().since(self.last_disk_loss) > DISK_LOSS_EVERY_MS {
                self.lose_a_disk(gate, history);
            }
            if self.faults.len() < FAULTS_MAX {
                let fault = self.draw();
                let ms = 500 + self.rng.below(6_500);
                history.fault(format!("{fault:?} for {ms} ms"));
                self.begin(&fault);
                self.faults.push((clock::now().plus(ms), fault));
            }
            let until_next = Duration::from_millis(200 + self.rng.below(3_000));
            // A condition that never comes true: only the limit ends it.
            let _ = poll(until_next, || Err::<(), _>(String::new()));
            self.end_those_before(clock::now(), history);
        }
    }

    /// Mends everything. Whoever had a full disk is started again: its store may have given up.
    pub fn heal(&mut self) {
        while let Some((_, fault)) = self.faults.pop() {
            self.end(&fault);
        }
    }

    /// The nodes, when all is mended.
    pub fn into_cluster(self) -> Cluster {
        Cluster { nodes: self.nodes.into_iter().flatten().collect() }
    }

    fn draw(&mut self) -> Fault {
        let rng = &mut self.rng;
        match rng.below(12) {
            0..2 => Fault::Cut(split(&hosts(rng, NODES))),
            2..4 => Fault::Cut(split(&hosts(rng, 1))),
            4 => {
                let mute = hosts(rng, 1);
                Fault::Cut(split(&mute).into_iter().filter(|(from, _)| mute.contains(from)).collect())
            }
            5 => {
                let deaf = hosts(rng, 1);
                Fault::Cut(split(&deaf).into_iter().filter(|(_, to)| deaf.contains(to)).collect())
            }
            6 => {
                let (from, to) = (1 + rng.below(NODES as u64), 1 + rng.below(NODES as u64));
                Fault::Cut(BTreeSet::from([(from as usize, to as usize)]))
            }
            7..9 => Fault::Killed(hosts(rng, 2)),
            9 => Fault::Killed(hosts(rng, NODES)),
            10 => Fault::Paused(hosts(rng, 2)),
            _ => Fault::Full(1 + rng.below(NODES as u64) as usize),
        }
    }

    fn begin(&mut self, fault: &Fault) {
        match fault {
            Fault::Cut(pairs) => self.cut(Some(pairs)),
            Fault::Killed(hosts) => {
                for host in hosts {
                    if let Some(mut node) = self.nodes[host - 1].take() {
                        node.kill9();
                    }
                }
            }
            Fault::Paused(hosts) => {
                hosts.iter().for_each(|host| self.nodes[host - 1].iter_mut().for_each(Node::pause));
            }
            Fault::Full(host) => {
                let host = self.lan.host(*host);
                let filler = format!("of={}", host.folder.join("node/filler").display());
                // Ends with an error: the disk is full.
                host.run("dd", &["if=/dev/zero", &filler, "bs=64k"]);
            }
        }
    }

    fn end_those_before(&mut self, now: Moment, history: &History) {
        let (over, going_on) = std::mem::take(&mut self.faults).into_iter().partition(|(end, _)| *end <= now);
        self.faults = going_on;
        let over: Vec<(Moment, Fault)> = over;
        for (_, fault) in over {
            history.fault(format!("end of {fault:?}"));
            self.end(&fault);
        }
    }

    fn end(&mut self, fault: &Fault) {
        match fault {
            Fault::Cut(_) => self.cut(None),
            Fault::Killed(hosts) => hosts.iter().for_each(|host| self.start_node(*host)),
            Fault::Paused(hosts) => {
                hosts.iter().for_each(|host| self.nodes[host - 1].iter_mut().for_each(Node::resume));
            }
            Fault::Full(host) => {
                self.unfill(*host);
                if let Some(mut node) = self.nodes[host - 1].take() {
                    node.kill9();
                }
                self.start_node(*host);
            }
        }
    }

    /// Starts the node of this host, if it does not run. It needs room to write down that it starts.
    fn start_node(&mut self, host: usize) {
        if self.nodes[host - 1].is_none() {
            self.unfill(host);
            self.nodes[host - 1] = Some(self.lan.host(host).up(&OPTIONS));
        }
    }

    fn unfill(&self, host: usize) {
        let host = self.lan.host(host);
        host.run("rm", &["-f", &host.folder.join("node/filler").display().to_string()]).ok();
    }

    /// Cuts what the faults that go on cut, and `more`.
    fn cut(&self, more: Option<&BTreeSet<(usize, usize)>>) {
        let cut = |fault: &(Moment, Fault)| match &fault.1 {
            Fault::Cut(pairs) => pairs.clone(),
            Fault::Killed(_) | Fault::Paused(_) | Fault::Full(_) => BTreeSet::new(),
        };
        let mut pairs: BTreeSet<(usize, usize)> = self.faults.iter().flat_map(cut).collect();
        pairs.extend(more.into_iter().flatten());
        self.lan.cut(&pairs);
    }

    /// A machine gets a new disk, once every file has all its copies.
    fn lose_a_disk(&mut self, gate: &Gate, history: &History) {
        self.heal();
        let victim = 1 + self.rng.below(NODES as u64) as usize;
        let client = self.lan.host(NODES + 1).client();
        gate.while_closed(|| {
            wait_until(s(60), "all files have their copies before a disk is lost", || {
                let rows = client.ls()?;
                let is_short =
                    |row: &&crate::cluster::Row| row.state != "ok" || row.nodes.len() as u64 != row.wanted;
                rows.iter().find(is_short).map_or(Ok(()), |row| Err(format!("{row:?}")))
            });
            history.fault(format!("h{victim} loses its disk"));
            if let Some(mut node) = self.nodes[victim - 1].take() {
                node.kill9();
            }
            let host = self.lan.host(victim);
            let disk = host.folder.join("node").display().to_string();
            host.run("find", &[&disk, "-mindepth", "1", "-delete"]).ok();
            self.start_node(victim);
            // A machine without files that is cut off before it meets the others is a cluster of its own, and two
            // open clusters with files do not merge by themselves.
            if let Some(node) = &self.nodes[victim - 1] {
                wait_until(s(20), "the machine with the new disk has joined the others", || {
                    let status = client.status()?;
                    if status.state(&node.id) == "up" { Ok(()) } else { Err(format!("{status:#?}")) }
                });
            }
        });
        self.last_disk_loss = clock::now();
    }
}

/// One to `most` of the hosts with a node.
fn hosts(rng: &mut Rng, most: usize) -> BTreeSet<usize> {
    let count = 1 + rng.below(most as u64);
    (0..count).map(|_| 1 + rng.below(NODES as u64) as usize).collect()
}

/// All pairs of hosts of which one is in `side` and the other is not; the last host, too, is on one
/// side or the other.
fn split(side: &BTreeSet<usize>) -> BTreeSet<(usize, usize)> {
    let all = || 1..=NODES + 1;
    let pairs = all().flat_map(|from| all().map(move |to| (from, to)));
    pairs.filter(|(from, to)| side.contains(from) != side.contains(to)).collect()
}
