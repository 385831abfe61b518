//! Frames of control: the hello of every connection, what members tell each other, what commands
//! ask of the proxy. See `docs/protocol.md`, Control.

use super::DecodeError;
use super::mail::{PostedLetter, RosterRow, StreamSummary};
use crate::limits::{LABEL_BYTES_MAX, LINEAGE_MAX};
use crate::types::{
    Body, ContentId, DiskId, Dot, FileName, InstanceId, Letter, LetterPlace, Lineage, MachineId, NewLetter,
    NodeId, NodeRoute, Presence, StreamId, Term, Version,
};
use bincode::{Decode, Encode};

/// The first frame, both ways, on every connection.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`super::PROTOCOL_VERSION`] of the sender.
    pub protocol: u8,
    /// Who; must be the hash of the key that TLS proved.
    pub node: NodeId,
    /// Which run.
    pub instance: InstanceId,
    /// On which machine: a command's own machine is preferred for the first copy.
    pub machine: MachineId,
    /// What the connection is for; the answering side repeats it.
    pub purpose: Purpose,
    /// The sender's cluster; empty for a command that belongs to none yet.
    pub lineage: Vec<Lineage>,
    /// TCP port of the sender's node, 0 for a command.
    pub tcp_port: u16,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Purpose {
    /// One member tells another [`Message`]s; the answers come over the link the other way.
    Member,
    /// A command asks [`Request`]s and gets a [`Reply`] to each.
    Command,
    /// Contents move: [`super::transfer::TransferFrame`]s.
    Transfer,
    /// Live state: [`super::channel::ChannelAsk`]s, each answered with a [`super::channel::ChannelReply`].
    Channels,
    /// A command makes a folder here equal to its own: [`super::sync::SyncFrame`]s.
    Sync,
    /// A command runs a program here: [`super::run::RunFrame`]s.
    Run,
}

/// What one member tells another, without waiting for an answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Message {
    /// I am here: the beacon's body, for those that broadcast does not reach; also the heartbeat.
    Announce(Box<Presence>),
    /// I leave on purpose.
    Goodbye,
    /// Others that I hear; contact those that you do not know.
    Gossip {
        /// How to reach them.
        routes: Vec<NodeRoute>,
    },
    /// A change of the catalog. With `ack`, say when it is durable.
    Delta {
        /// The proxy's term, which fences old proxies.
        term: Term,
        /// The change.
        delta: Delta,
        /// Repeated in [`Message::DeltaStored`].
        ack: Option<u64>,
        /// Contents of which the proxy wants to hear whether the receiver holds them.
        contents: Vec<ContentId>,
    },
    /// The delta is durable here.
    DeltaStored {
        /// As in the delta.
        ack: u64,
        /// Which of the contents asked about are durable here too.
        held: Vec<ContentId>,
    },
    /// My catalog's digests; send me what I lack.
    SyncAsk {
        /// Tells this exchange from others.
        session: u64,
        /// The asker's causal context.
        context: Context,
        /// A digest for each of [`crate::limits::SYNC_BUCKETS`] buckets of names.
        buckets: Vec<u64>,
    },
    /// A page of the answer: complete for the names of the listed buckets.
    SyncPage {
        /// As in the ask.
        session: u64,
        /// Number of the page, from 0; a page out of order ends the exchange.
        page: u32,
        /// The sender's causal context at the start of the answer, on the first page only.
        context: Option<Context>,
        /// On the first page: the buckets that differ and that the pages together cover.
        buckets: Vec<u16>,
        /// Names with all their versions.
        names: Vec<(FileName, Vec<Version>)>,
        /// Whether this was the last page: only then does the context join.
        last: bool,
    },
    /// What I hold: a page of my inventory for the proxy of `term`.
    Inventory {
        /// For whom.
        term: Term,
        /// The disk that holds it: another disk voids what was reported before.
        disk: DiskId,
        /// Number of the page, from 0, which replaces all that was reported before.
        page: u32,
        /// The contents.
        contents: Vec<ContentId>,
        /// Whether this was the last page.
        last: bool,
    },
    /// A change of what I hold.
    InventoryChange {
        /// For whom.
        term: Term,
        /// On which disk.
        disk: DiskId,
        /// Now durable here.
        added: Vec<ContentId>,
        /// No longer here.
        removed: Vec<ContentId>,
    },
    /// The proxy wants the inventory anew (it missed a page).
    InventoryAsk {
        /// For whom.
        term: Term,
    },
    /// Get this content from these holders and keep it.
    PullOrder {
        /// The ordering proxy's term.
        term: Term,
        /// What.
        content: ContentId,
        /// Its size in bytes.
        size: u64,
        /// From whom.
        from: Vec<NodeRoute>,
    },
    /// How a pull goes.
    PullState {
        /// For whom.
        term: Term,
        /// What.
        content: ContentId,
        /// Done (it is then in the inventory), under way, or failed.
        state: PullState,
    },
    /// Drop your copy, once `wanted` of the keepers have promised to keep theirs.
    DropOrder {
        /// The ordering proxy's term.
        term: Term,
        /// What.
        content: ContentId,
        /// How many others must promise.
        wanted: u8,
        /// Who holds it, of machines other than the receiver's and each other's.
        keepers: Vec<NodeId>,
    },
    /// The order was not carried out.
    DropRefused {
        /// For whom.
        term: Term,
        /// What.
        content: ContentId,
    },
    /// Will you keep this content while I drop mine?
    KeepAsk {
        /// What.
        content: ContentId,
        /// Repeated in the answer.
        nonce: u64,
    },
    /// I checked my copy and keep it for [`crate::limits::KEEP_LEASE_MS`]; or I do not.
    KeepAnswer {
        /// What.
        content: ContentId,
        /// As in the question.
        nonce: u64,
        /// The promise.
        kept: bool,
    },
    /// The drop is over, one way or the other: the promise is no longer needed.
    KeepRelease {
        /// What.
        content: ContentId,
        /// As in the question.
        nonce: u64,
    },
    /// Your copies shall be moved elsewhere, or stay after all: make that durable and announce it.
    Drain {
        /// The ordering proxy's term.
        term: Term,
        /// Which of the two.
        draining: bool,
    },
    /// Letters. With `ack`, say when they are durable.
    Letters {
        /// Each with its place.
        letters: Vec<(LetterPlace, Letter)>,
        /// Repeated in [`Message::LettersStored`].
        ack: Option<u64>,
    },
    /// The letters of that number, and all before them in their streams, are durable here.
    LettersStored {
        /// As in [`Message::Letters`].
        ack: u64,
    },
    /// Up to these numbers I have got what is meant for me; that is durable.
    Cursors {
        /// Of each stream.
        cursors: Vec<(StreamId, u64)>,
    },
    /// What I know of letters has this digest; to the proxy, from time to time.
    MailDigest {
        /// It.
        digest: u64,
    },
    /// What I know of the streams in a range. Send the letters that I lack.
    MailSummary {
        /// The range begins after this stream; `None`: with the first.
        after: Option<StreamId>,
        /// All streams that I know in the range; it ends with the last of them.
        streams: Vec<StreamSummary>,
        /// Whether the range goes to the end instead.
        last: bool,
        /// All machines that get letters; with the last range alone.
        roster: Vec<RosterRow>,
        /// Whether I want yours in turn.
        reply: bool,
    },
    /// From the proxy, while it has channels: what its successor needs.
    ChannelsHeard {
        /// How long this cluster's proxies have served channels, in milliseconds.
        server_time_ms: u64,
        /// The longest expiry of a channel, in milliseconds.
        expiry_ms_max: u64,
    },
}

/// State of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum PullState {
    /// Still at it.
    Working,
    /// Durable here.
    Done,
    /// Given up.
    Failed,
}

/// A causal context: all dots seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Context {
    /// Of each instance all dots up to a counter, sorted by instance.
    pub prefixes: Vec<(InstanceId, u64)>,
    /// Further dots beyond those prefixes, sorted.
    pub extra: Vec<Dot>,
}

/// A change of the catalog: for the names it mentions it knows every dot of `context`, and of
/// those only the versions it carries are left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Delta {
    /// The dots that this change saw or made.
    pub context: Vec<Dot>,
    /// The names it touches, with the versions it made or kept.
    pub names: Vec<(FileName, Vec<Version>)>,
}

/// What a command asks of the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Where do these files go?
    PutOpen {
        /// The names, to refuse early what cannot be stored.
        names: Vec<FileName>,
        /// Bytes in all, as far as known.
        bytes: u64,
        /// Copies wanted.
        replicas: u8,
        /// Nodes that failed in this put.
        exclude: Vec<NodeId>,
    },
    /// The chain came out short: another copy, by a pull from those that have it.
    Extend {
        /// What.
        content: ContentId,
        /// Its size in bytes.
        size: u64,
        /// Who has it.
        holders: Vec<NodeId>,
        /// Copies wanted.
        replicas: u8,
        /// Nodes that failed in this put.
        exclude: Vec<NodeId>,
    },
    /// The contents are durable: make the entries.
    Commit {
        /// The files.
        files: Vec<NewFile>,
    },
    /// Rows of the catalog, in the order of names.
    List {
        /// Which.
        selector: Selector,
        /// Continue after this name.
        after: Option<FileName>,
    },
    /// Set the wanted number of copies.
    SetReplicas {
        /// Of which file, as shown.
        name: FileName,
        /// How many.
        replicas: u8,
    },
    /// Remove files.
    Remove {
        /// As shown.
        names: Vec<FileName>,
        /// Not to the trash; and what the trash has of these names goes too.
        now: bool,
    },
    /// Machines, roles, health.
    Status,
    /// Make removed versions live again.
    Restore {
        /// As listed by [`Selector::Removed`].
        names: Vec<FileName>,
    },
    /// Move the copies of a node elsewhere; asked again it tells how far that is.
    Drain {
        /// Its display name or id.
        node: Box<str>,
        /// End that instead.
        undo: bool,
    },
    /// Be one with this other cluster.
    Merge {
        /// One of its uuids.
        lineage: Lineage,
    },
    /// Why is this file as it is?
    Why {
        /// As shown.
        name: FileName,
    },
    /// Send these letters. Any node takes them, not the proxy alone.
    Post {
        /// Who sends; what TLS proved replaces it.
        sender: NodeId,
        /// Display name of the sender, if no member has that id.
        source: Box<str>,
        /// At most [`crate::limits::LETTERS_AT_ONCE_MAX`].
        letters: Vec<NewLetter>,
        /// So long, in milliseconds, the answer waits until every addressee that is up has them.
        wait_ms: u64,
    },
    /// Tell me once there is more than I have seen.
    Watch {
        /// The term whose revisions I know.
        term: Term,
        /// The last of them that I have seen.
        after: u64,
        /// Answer after so long, in milliseconds, although there is nothing; at most [`crate::limits::WATCH_MS_MAX`].
        wait_ms: u64,
    },
}

/// Which rows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Selector {
    /// The one with this name, as shown.
    Name(FileName),
    /// This name and everything under it.
    Under(Box<str>),
    /// Everything whose name starts with these characters.
    Prefix(Box<str>),
    /// Everything in the trash whose name starts with these characters.
    Removed(Box<str>),
}

/// A file whose contents are durable.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NewFile {
    /// Its name.
    pub name: FileName,
    /// What it is.
    pub body: Body,
    /// Permission bits.
    pub mode: u16,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Copies wanted.
    pub replicas: u8,
    /// Who said that it is durable there.
    pub holders: Vec<NodeId>,
}

/// The proxy's answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Reply {
    /// To [`Request::PutOpen`].
    PutPlan {
        /// The chain, in order; as many machines as wanted, or as there are.
        chain: Vec<NodeRoute>,
    },
    /// To [`Request::Extend`]: this node has it now.
    Extended {
        /// Who.
        node: NodeId,
    },
    /// To [`Request::Commit`], in the same order.
    Committed {
        /// Who confirmed content and entry, for each file.
        holders: Vec<Vec<NodeId>>,
        /// Names of the nodes mentioned.
        nodes: Vec<NodeRoute>,
    },
    /// To [`Request::List`] and [`Request::Restore`].
    Rows {
        /// The rows.
        rows: Vec<Row>,
        /// The nodes that the rows mention.
        nodes: Vec<NodeRoute>,
        /// Ask again after this name, if there is more.
        more: Option<FileName>,
    },
    /// To [`Request::SetReplicas`].
    ReplicasSet {
        /// The row as it is now.
        row: Row,
        /// The nodes that the row mentions.
        nodes: Vec<NodeRoute>,
        /// What was wanted before.
        before: u8,
        /// Storage machines that are up.
        machines: u32,
    },
    /// To [`Request::Remove`].
    Removed {
        /// How many entries went.
        count: u32,
    },
    /// To [`Request::Status`].
    Status(Box<ClusterStatus>),
    /// I do not lead; ask there, if I know where.
    NotProxy {
        /// Who does.
        proxy: Option<NodeRoute>,
    },
    /// It was not done, and why.
    Failed {
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: Box<str>,
    },
    /// To [`Request::Drain`].
    Drain(DrainState),
    /// To [`Request::Merge`]: the uuids that are one from now on.
    Merging {
        /// Lowest first.
        lineages: Vec<Lineage>,
    },
    /// To [`Request::Why`].
    Why(Box<Explanation>),
    /// To [`Request::Post`], in the same order: durable on two machines, or on all that are up.
    Posted {
        /// How they stand.
        letters: Vec<PostedLetter>,
    },
    /// To [`Request::Watch`].
    Changed {
        /// The proxy's term.
        term: Term,
        /// Revision of what is told.
        revision: u64,
        /// Anything may have changed: look at everything again.
        all: bool,
        /// What changed, as it is now; at most [`crate::limits::WATCH_ROWS_MAX`] together with `gone`.
        rows: Vec<Row>,
        /// Names that have no file any more.
        gone: Vec<FileName>,
        /// The nodes that the rows mention.
        nodes: Vec<NodeRoute>,
    },
}

/// Why something was not done: stable numbers on the wire, see the table in `docs/protocol.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum ErrorCode {
    /// No such file, node or content.
    NotFound,
    /// The proxy is new and has not heard from everybody: ask again.
    NotReady,
    /// A name is in the way: a file where a folder is needed, or the reverse.
    NameTaken,
    /// No machine stores files, or none that has not failed already.
    NoStorage,
    /// No machine has enough room.
    NoSpace,
    /// The request makes no sense (a count of 0, an empty list).
    Invalid,
    /// Not allowed here.
    Denied,
    /// A disk failed.
    Disk,
    /// A peer broke the protocol or went away.
    Connection,
    /// It took too long: it may or may not have happened.
    Unknown,
}

/// One row of `ls`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Row {
    /// As shown: the name, or a conflict name.
    pub name: FileName,
    /// What it is.
    pub body: Body,
    /// Permission bits.
    pub mode: u16,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Copies wanted.
    pub wanted: u8,
    /// Who holds it and is up.
    pub holders: Vec<NodeId>,
    /// How it stands.
    pub state: FileState,
    /// Digest of the version, to notice a change between two looks.
    pub dot: Dot,
    /// Of a version in the trash, when it went there.
    pub removed: Option<Removed>,
}

/// How far the drain of a node is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DrainState {
    /// Which.
    pub node: NodeId,
    /// Its display name.
    pub name: Box<str>,
    /// Whether the node has said that it is being drained.
    pub draining: bool,
    /// Contents that would have fewer copies than are wanted without it.
    pub needed: u64,
    /// Those of them that there is nowhere else to put.
    pub stuck: u64,
}

/// Why a file is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Explanation {
    /// As in `ls`.
    pub row: Row,
    /// All nodes mentioned.
    pub nodes: Vec<NodeRoute>,
    /// The greatest number of copies that any file with these bytes wants.
    pub wanted: u8,
    /// How many files, versions included, have these bytes.
    pub versions: u32,
    /// Every copy that was reported.
    pub copies: Vec<Copy>,
    /// What the next step waits for.
    pub waiting: Waiting,
    /// How long it has, in milliseconds; 0 if that is not known.
    pub for_ms: u64,
}

/// A copy that its holder reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Copy {
    /// The holder.
    pub node: NodeId,
    /// How it stands.
    pub state: HolderState,
    /// Since when nothing was heard of the holder, in milliseconds.
    pub silent_ms: u64,
}

/// How the node of a copy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum HolderState {
    /// Heard of, and stays.
    Up,
    /// Silent, not long enough to be replaced.
    Suspect,
    /// Said goodbye, not long enough ago to be replaced.
    Away,
    /// Silent for so long that its copies are replaced.
    Gone,
    /// Heard of, but its copies are to be moved elsewhere.
    Draining,
    /// Heard of, and ordered to drop this copy; not known yet whether it does.
    Dropping,
    /// Heard of, but its disk is suspect: it can be read from, and counts for nothing.
    Failing,
}

/// What the next step for a content waits for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Waiting {
    /// There is none: it is as it should be.
    Nothing,
    /// A copy is being made.
    Pull {
        /// Where.
        to: Vec<NodeId>,
    },
    /// A copy too many is being dropped.
    Drop {
        /// Where.
        at: NodeId,
    },
    /// A holder that is silent or away may come back.
    Return,
    /// A machine with room that has no copy yet.
    Machine,
    /// A machine that has a copy.
    Source,
    /// The proxy is new: these have not told it what they hold or know.
    Unheard {
        /// Who.
        nodes: Vec<NodeId>,
    },
    /// Others come first.
    Turn,
}

/// How a version came to be in the trash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Removed {
    /// When it was removed or replaced, seconds since 1970.
    pub at_s: u32,
    /// Whether another version of its name was removed later.
    pub earlier: bool,
}

/// How a file stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum FileState {
    /// As many copies as wanted.
    Ok,
    /// Fewer or more, being mended.
    Healing,
    /// Fewer, and nowhere to put more now.
    Degraded,
    /// No live copy.
    Lost,
}

/// What `status` shows.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ClusterStatus {
    /// The cluster's uuid, the lowest of its lineage.
    pub lineage: Lineage,
    /// The current term.
    pub term: Term,
    /// Whether the proxy has heard from everybody.
    pub ready: bool,
    /// All nodes known.
    pub nodes: Vec<NodeStatus>,
    /// Uuids of other clusters with this name and key that are in sight and not merged.
    pub others: Vec<Lineage>,
    /// Files, links and empty folders.
    pub files: u64,
    /// Bytes of all files, each counted once.
    pub bytes: u64,
    /// How many are in each state, in the order of [`FileState`].
    pub states: [u64; 4],
    /// Letters that wait for somebody.
    pub letters: u64,
}

/// One node in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeStatus {
    /// What it says of itself.
    pub presence: Presence,
    /// How it is reached.
    pub route: NodeRoute,
    /// How it stands.
    pub state: NodeState,
}

/// How a node stands, as the proxy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum NodeState {
    /// Heard within [`crate::limits::SUSPECT_AFTER_MS`].
    Up,
    /// Silent for longer: nothing is placed or read there.
    Suspect,
    /// Said goodbye, and may be back.
    Away,
    /// Silent for so long that its copies are replaced.
    Down,
    /// Its copies are moved elsewhere, by order.
    Draining,
}

/// The rules for what a peer says of itself that its types do not hold.
///
/// # Errors
/// When a text is too long or a list too large.
pub fn check_presence(presence: &Presence) -> Result<(), DecodeError> {
    let text = |what: &str, text: &str| {
        if text.is_empty() || text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control) {
            Err(DecodeError::Malformed(format!("an invalid {what}").into()))
        } else {
            Ok(())
        }
    };
    text("name", &presence.name)?;
    text("version", &presence.version)?;
    if presence.lineage.len() > LINEAGE_MAX || presence.lineage.is_empty() {
        return Err(DecodeError::Malformed("an invalid lineage".into()));
    }
    if presence.tcp_port == 0 {
        return Err(DecodeError::Malformed("a node without a port".into()));
    }
    Ok(())
}
