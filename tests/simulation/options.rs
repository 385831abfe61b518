//! What one seed is about: the cluster, the work, and which faults there may be.
//!
//! Invariant: everything is drawn from the seed, so a seed and its options say all. Each kind of
//! fault is absent from a third of the seeds: some bugs need calm in one thing to show in another.

use std::collections::BTreeSet;
use std::fmt;
use thorp::clock::Rng;
use thorp::types::Pin;

/// A kind of fault that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Datagrams get lost.
    Loss,
    /// Datagrams come twice, or once more much later.
    Duplication,
    /// Messages take long, and each differently.
    Delay,
    /// Links between members break with what they carry.
    LinkBreak,
    /// The network falls into parts, or single links do.
    Partition,
    /// Datagrams pass one way only.
    OneWay,
    /// A process ends without a word; what was not synced is gone.
    Crash,
    /// A process stops and goes on later, as on a laptop that sleeps.
    Pause,
    /// A node says goodbye and comes back.
    Goodbye,
    /// A machine is gone for good.
    Death,
    /// A data folder is lost; the node starts with an empty one.
    Wipe,
    /// A data folder is replaced by an older state of itself.
    Rollback,
    /// Bytes of a copy change on disk.
    Flip,
    /// Disks are slow, and stand still at times.
    SlowDisk,
    /// A disk takes no more contents for some time.
    FullDisk,
    /// A sync fails.
    DiskError,
    /// Clocks run unequally fast.
    Clock,
    /// Nodes join while the others work.
    Join,
    /// Commands ask twice, and two nodes at once.
    Repeat,
    /// Commands go away without waiting for their answers.
    Leave,
}

/// All of them.
pub const KINDS: [Kind; 20] = [
    Kind::Loss,
    Kind::Duplication,
    Kind::Delay,
    Kind::LinkBreak,
    Kind::Partition,
    Kind::OneWay,
    Kind::Crash,
    Kind::Pause,
    Kind::Goodbye,
    Kind::Death,
    Kind::Wipe,
    Kind::Rollback,
    Kind::Flip,
    Kind::SlowDisk,
    Kind::FullDisk,
    Kind::DiskError,
    Kind::Clock,
    Kind::Join,
    Kind::Repeat,
    Kind::Leave,
];

/// A wrong node, planted in the harness: the simulator must catch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The disk says "durable" before it is.
    SaysDurableTooEarly,
    /// A drop does not wait for promises: whoever is asked to keep is taken to have agreed.
    PromisesForNothing,
}

/// What one seed is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Nodes from the start.
    pub nodes: usize,
    /// What they were told to be.
    pub pins: Vec<Pin>,
    /// The first two are on one machine.
    pub paired: bool,
    /// Whether the cluster has a key of its own.
    pub secured: bool,
    /// Whether broadcasts are heard at all.
    pub broadcast: bool,
    /// Commands at work at the same time.
    pub clients: usize,
    /// Commands in all.
    pub operations: usize,
    /// Different file names.
    pub names: u64,
    /// How long there are faults, in milliseconds.
    pub fault_ms: u64,
    /// Silence after which copies are replaced, in milliseconds.
    pub heal_after_ms: u64,
    /// How long what is removed or replaced is kept, in milliseconds; 0 for not at all.
    pub keep_removed_ms: u64,
    /// Disks have little room.
    pub tight: bool,
    /// Faults there may be.
    pub faults: BTreeSet<Kind>,
    /// Planted.
    pub canary: Option<Canary>,
}

/// Streams of chance are told apart by these.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Stream {
    Options = 1,
    Network,
    Disk,
    Faults,
    Work,
    Ids,
}

/// The stream of `seed` for one concern, so that a draw more in one does not shift the others.
pub fn stream(seed: u64, stream: Stream) -> Rng {
    Rng::seeded(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (stream as u64) << 56)
}

/// True once in `n`.
pub fn one_in(rng: &mut Rng, n: u64) -> bool {
    rng.below(n) == 0
}

/// A number in `from..=to`.
pub fn between(rng: &mut Rng, from: u64, to: u64) -> u64 {
    from + rng.below(to - from + 1)
}

impl Options {
    /// What `seed` stands for.
    pub fn draw(seed: u64) -> Options {
        let mut rng = stream(seed, Stream::Options);
        let nodes = match rng.below(100) {
            0..2 => 1,
            2..24 => 2,
            24..58 => 3,
            58..82 => 4,
            82..96 => 5,
            _ => 7,
        };
        let mut faults: BTreeSet<Kind> = KINDS.into_iter().filter(|_| !one_in(&mut rng, 3)).collect();
        // Rare in themselves: most seeds shall find out about other things.
        for kind in [Kind::Rollback, Kind::DiskError, Kind::FullDisk] {
            if one_in(&mut rng, 2) {
                faults.remove(&kind);
            }
        }
        let mut pins = vec![Pin::Auto; nodes];
        if nodes > 2 && one_in(&mut rng, 6) {
            let at = rng.below(nodes as u64) as usize;
            pins[at] = [Pin::Proxy, Pin::Storage, Pin::Client][rng.below(3) as usize];
        }
        let secured = !one_in(&mut rng, 7);
        if !secured {
            // Two open clusters that both have files stay apart: no fault may make two of one.
            for kind in [Kind::Partition, Kind::OneWay, Kind::Loss, Kind::Wipe, Kind::Rollback, Kind::Join] {
                faults.remove(&kind);
            }
        }
        Options {
            nodes,
            pins,
            paired: nodes > 2 && one_in(&mut rng, 5),
            secured,
            broadcast: !secured || !one_in(&mut rng, 10),
            clients: between(&mut rng, 1, 3) as usize,
            operations: between(&mut rng, 4, 28) as usize,
            names: between(&mut rng, 1, 6),
            fault_ms: between(&mut rng, 10_000, 35_000),
            heal_after_ms: [4_000, 8_000, 15_000, 20_000][rng.below(4) as usize],
            tight: one_in(&mut rng, 3),
            faults,
            canary: None,
            keep_removed_ms: [0, 6_000, 20_000][rng.below(3) as usize],
        }
    }

    /// Whether there may be such faults.
    pub fn has(&self, kind: Kind) -> bool {
        self.faults.contains(&kind)
    }

    /// Smaller options, the most promising first, for finding what a failure needs.
    pub fn smaller(&self) -> Vec<Options> {
        let mut all = Vec::new();
        let mut add = |change: &dyn Fn(&mut Options)| {
            let mut smaller = self.clone();
            change(&mut smaller);
            smaller.pins.truncate(smaller.nodes);
            if smaller != *self {
                all.push(smaller);
            }
        };
        for nodes in (2..self.nodes).chain([self.nodes.saturating_sub(1).max(1)]) {
            add(&|options| options.nodes = nodes);
        }
        for operations in [2, 4, self.operations / 2, self.operations.saturating_sub(1)] {
            add(&|options| options.operations = operations.clamp(1, self.operations));
        }
        add(&|options| options.clients = 1);
        add(&|options| options.names = 1);
        for kind in &self.faults {
            add(&|options| {
                options.faults.remove(kind);
            });
        }
        add(&|options| options.paired = false);
        add(&|options| options.tight = false);
        add(&|options| options.keep_removed_ms = 0);
        add(&|options| options.broadcast = true);
        add(&|options| options.pins = vec![Pin::Auto; options.nodes]);
        all
    }

    /// What makes `seed` run with these options: variables for the command line.
    pub fn as_variables(&self, seed: u64) -> String {
        let drawn = Options::draw(seed);
        let mut text = format!("THORP_SIM_SEED={seed}");
        let without: Vec<String> =
            drawn.faults.difference(&self.faults).map(|kind| format!("{kind:?}")).collect();
        let mut set = |name: &str, value: String, same: bool| {
            if !same {
                text.push_str(&format!(" THORP_SIM_{name}={value}"));
            }
        };
        set("NODES", self.nodes.to_string(), self.nodes == drawn.nodes);
        set("OPERATIONS", self.operations.to_string(), self.operations == drawn.operations);
        set("CLIENTS", self.clients.to_string(), self.clients == drawn.clients);
        set("NAMES", self.names.to_string(), self.names == drawn.names);
        set("WITHOUT", without.join(","), without.is_empty());
        let plain = [
            ("paired", self.paired == drawn.paired),
            ("tight", self.tight == drawn.tight),
            ("pins", self.pins.iter().zip(&drawn.pins).all(|(a, b)| a == b)),
            ("silence", self.broadcast == drawn.broadcast),
        ];
        let plain: Vec<&str> = plain.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
        set("PLAIN", plain.join(","), plain.is_empty());
        if let Some(canary) = self.canary {
            set("CANARY", format!("{canary:?}"), false);
        }
        text
    }

    /// What the variables of [`Options::as_variables`] say, read with `variable`.
    pub fn with_variables(mut self, variable: impl Fn(&str) -> Option<String>) -> Options {
        let number = |name: &str| variable(&format!("THORP_SIM_{name}")).and_then(|text| text.parse().ok());
        self.nodes = number("NODES").map_or(self.nodes, |n: u64| n as usize);
        self.operations = number("OPERATIONS").map_or(self.operations, |n| n as usize);
        self.clients = number("CLIENTS").map_or(self.clients, |n| n as usize);
        self.names = number("NAMES").unwrap_or(self.names);
        self.pins.resize(self.nodes, Pin::Auto);
        let list = |name: &str| variable(&format!("THORP_SIM_{name}")).unwrap_or_default();
        let without = list("WITHOUT");
        self.faults.retain(|kind| !without.split(',').any(|name| name == format!("{kind:?}")));
        let plain = list("PLAIN");
        for name in plain.split(',') {
            match name {
                "paired" => self.paired = false,
                "tight" => self.tight = false,
                "pins" => self.pins = vec![Pin::Auto; self.nodes],
                "silence" => self.broadcast = true,
                _ => {}
            }
        }
        let canaries = [Canary::SaysDurableTooEarly, Canary::PromisesForNothing];
        let canary = list("CANARY");
        self.canary = canaries.into_iter().find(|known| canary == format!("{known:?}"));
        self
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
