//! The whole vocabulary between the engine and its shell: inputs are what happened, effects are
//! what shall be done. Pure.

use crate::clock::Moment;
use crate::types::{
    ContentId, DiskState, FileName, InstanceId, Letter, LetterId, Lineage, MachineId, NodeId, NodeRoute,
    Presence, Priority, Term,
};
use crate::wire::message::{Message, Reply, Request};
use crate::wire::record::CatalogWrite;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

pub use crate::discovery::membership::Via;

/// Names a command's request until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// Which links have no room for further pages of catalogs and inventories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Congestion {
    /// Those to these nodes.
    Of(BTreeSet<NodeId>),
    /// Even those that are yet to be made: too much waits in all.
    All,
}

impl Default for Congestion {
    fn default() -> Congestion {
        Congestion::Of(BTreeSet::new())
    }
}

impl Congestion {
    /// Whether pages to `node` must wait.
    #[must_use]
    pub fn holds_up(&self, node: NodeId) -> bool {
        match self {
            Congestion::Of(nodes) => nodes.contains(&node),
            Congestion::All => true,
        }
    }
}

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; nothing else.
    Tick,
    /// A node said what it is, in a datagram whose seal is right or over its link.
    Announced {
        /// What it said.
        presence: Box<Presence>,
        /// From where.
        source: IpAddr,
        /// How.
        via: Via,
    },
    /// A node left on purpose.
    GoodbyeHeard {
        /// Who.
        node: NodeId,
        /// In which run.
        instance: InstanceId,
    },
    /// Somebody asks on the broadcast address who leads.
    Queried,
    /// A member told us something; TLS proved who it is.
    Told {
        /// Who.
        from: NodeId,
        /// In which run: what it said in an earlier one is void.
        instance: InstanceId,
        /// What.
        message: Box<Message>,
    },
    /// A command asks something.
    Asked {
        /// Answer to this.
        ask: AskId,
        /// On which machine the command runs.
        machine: MachineId,
        /// What.
        request: Box<Request>,
    },
    /// A command went away without waiting for its answer.
    AskGone {
        /// Which.
        ask: AskId,
    },
    /// What [`Effect::SaveCatalog`] asked for is durable, or could not be made so.
    CatalogSaved {
        /// Which.
        save: u64,
        /// Whether it is durable.
        durable: bool,
    },
    /// The term is durable, or could not be made so.
    TermSaved {
        /// Which.
        term: Term,
        /// Whether it is durable.
        durable: bool,
    },
    /// A content became durable here.
    ContentStored {
        /// What.
        content: ContentId,
        /// Its size in bytes.
        size: u64,
    },
    /// A content is no longer here: found damaged or missing.
    ContentLost {
        /// What.
        content: ContentId,
    },
    /// A pull ended; if it went well, [`Input::ContentStored`] came before.
    PullEnded {
        /// What.
        content: ContentId,
        /// Whether it is durable here.
        stored: bool,
    },
    /// The answer to [`Effect::Check`].
    Checked {
        /// What.
        content: ContentId,
        /// As in the effect.
        nonce: u64,
        /// As in the effect.
        asker: NodeId,
        /// Whether the copy is there and whole.
        good: bool,
    },
    /// The answer to [`Effect::Drop`].
    DropEnded {
        /// What.
        content: ContentId,
        /// Whether it is gone; false when it is in use.
        dropped: bool,
    },
    /// The answer to [`Effect::SaveDraining`].
    DrainingSaved {
        /// As in the effect.
        draining: bool,
        /// Whether it is durable.
        durable: bool,
    },
    /// What the wall clock says, at the start and from time to time: for the trash, which expires.
    WallClock {
        /// Milliseconds since 1970.
        wall_ms: u64,
    },
    /// Something is to be stored here for which there is no room beside the trash.
    RoomWanted {
        /// How much is missing, in bytes.
        bytes: u64,
    },
    /// The answer to [`Effect::StageLetters`].
    LettersStaged {
        /// Whether all are durable.
        durable: bool,
    },
    /// Other links than before have room for pages.
    Congested(Congestion),
    /// Where this node can be reached.
    OwnAddresses {
        /// Those that others can use first.
        addresses: Vec<SocketAddr>,
    },
    /// What the disk can take.
    Usage {
        /// Bytes it may fill in all.
        capacity_bytes: u64,
        /// Bytes of contents.
        used_bytes: u64,
        /// Bytes it could still take.
        free_bytes: u64,
        /// How it is.
        disk: DiskState,
        /// Whether the catalog can be made durable on it now.
        usable: bool,
    },
}

/// Something shall be done. Effects are performed in their order.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send this beacon on every interface.
    Broadcast(Box<Presence>),
    /// Tell a member something, over the link to it.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: Box<Message>,
    },
    /// Dial this address and announce this node there: somebody may not hear its broadcasts.
    Contact {
        /// Where.
        address: SocketAddr,
    },
    /// Make this durable, then say [`Input::CatalogSaved`].
    SaveCatalog {
        /// Which.
        save: u64,
        /// What.
        writes: Vec<CatalogWrite>,
    },
    /// Make the term durable, then say [`Input::TermSaved`].
    SaveTerm {
        /// Which.
        term: Term,
    },
    /// Make durable whether this node is being drained, then say [`Input::DrainingSaved`].
    SaveDraining {
        /// Whether it is.
        draining: bool,
    },
    /// Make the cluster's uuids durable.
    SaveLineage {
        /// All of them.
        lineage: Vec<Lineage>,
    },
    /// Answer a command.
    Answer {
        /// Which.
        ask: AskId,
        /// With what.
        reply: Box<Reply>,
    },
    /// Get this content from these holders, then say [`Input::PullEnded`].
    Pull {
        /// What.
        content: ContentId,
        /// Its size in bytes.
        size: u64,
        /// From whom.
        from: Vec<NodeRoute>,
    },
    /// Check a copy on disk, then say [`Input::Checked`].
    Check {
        /// What.
        content: ContentId,
        /// Repeated in the answer.
        nonce: u64,
        /// Who wants to know.
        asker: NodeId,
    },
    /// Remove a copy unless it is in use or it has become too late, then say [`Input::DropEnded`].
    Drop {
        /// What.
        content: ContentId,
        /// The promises of those who keep theirs hold until then; looked at directly before the copy
        /// goes, because a laptop may have slept meanwhile. `None` for garbage.
        until: Option<Moment>,
    },
    /// Make these letters durable where nobody sees them yet, then say [`Input::LettersStaged`].
    StageLetters {
        /// In the order in which they shall appear.
        letters: Vec<(Priority, Letter)>,
    },
    /// Show these staged letters in the inbox: it is durable that they were delivered.
    RevealLetters {
        /// Which.
        ids: Vec<LetterId>,
    },
    /// Something worth a line in the log.
    Note(Note),
}

/// What people may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A node is here for the first time, or again.
    NodeJoined {
        /// Its display name.
        name: Box<str>,
        /// Who.
        node: NodeId,
    },
    /// A node has fallen silent, or left.
    NodeLost {
        /// Its display name.
        name: Box<str>,
        /// Who.
        node: NodeId,
        /// Whether it said goodbye.
        left: bool,
    },
    /// Another proxy, or another term.
    ProxyChanged {
        /// The term.
        term: Term,
        /// Its display name.
        name: Box<str>,
    },
    /// This node heard from everybody and now leads in full.
    Ready {
        /// The term.
        term: Term,
    },
    /// Two nodes claim one id.
    NodeCloned {
        /// From where the other speaks.
        source: IpAddr,
    },
    /// A lost or missing copy was replaced.
    Healed {
        /// What.
        content: ContentId,
        /// Where it is now, too.
        node: NodeId,
    },
    /// A file was stored, or replaced.
    FileStored {
        /// Its name.
        name: FileName,
        /// What.
        content: ContentId,
        /// Its size in bytes.
        size: u64,
        /// Copies wanted.
        replicas: u8,
    },
    /// This proxy's clock differs from its peers': it lets nothing expire.
    ClockDiffers,
    /// The disk does not take what must be durable.
    SaveFailed,
    /// This node joined a cluster.
    ClusterJoined {
        /// Its uuid.
        lineage: Lineage,
    },
}
