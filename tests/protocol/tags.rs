//! Numbers that the document fixes: the tag of each variant, and the limits.
//!
//! The name of a variant is found by a match without a wildcard, so a new variant does not build
//! before it is listed here, and does not pass before the document has it.

use crate::channels;
use crate::document::Document;
use crate::examples::{self, kebab};
use crate::folders;
use crate::letters;
use crate::run;
use crate::samples;
use std::collections::BTreeMap;
use thorp::limits;
use thorp::types::{Body, DiskState, NodeId, Pin, Priority};
use thorp::wire::channel::{ChannelAsk, ChannelRefusal, ChannelReply};
use thorp::wire::datagram::{Datagram, Tags, encode_datagram};
use thorp::wire::mail::{MailKey, MailRow};
use thorp::wire::message::{
    ErrorCode, FileState, HolderState, Message, NodeState, PullState, Purpose, Reply, Request, Selector,
    Waiting,
};
use thorp::wire::run::{Denial, EntryKind, JobEnd, JobSignal, OutputStream, RunFrame};
use thorp::wire::sync::{DifferenceKind, IndexRecord, SyncFrame, TreeItem};
use thorp::wire::transfer::{CopyState, FetchPart, TransferFrame};
use thorp::wire::{Encode, encode};

/// What the variants of an enum are called, in order, and what a value's one is called.
struct Variants<T> {
    all: &'static [&'static str],
    name: fn(&T) -> &'static str,
}

macro_rules! variants {
    ($type:ident { $($variant:ident),+ $(,)? }) => {
        Variants::<$type> {
            all: &[ $( stringify!($variant) ),+ ],
            name: |value| match value { $( $type::$variant { .. } => stringify!($variant) ),+ },
        }
    };
}

impl<T> Variants<T> {
    /// Checks that `values` have all variants, and that the document's table has their tags.
    fn check(&self, table: &str, values: impl IntoIterator<Item = T>, tag: impl Fn(&T) -> u8) {
        let is: BTreeMap<u8, &str> =
            values.into_iter().map(|value| (tag(&value), (self.name)(&value))).collect();
        let names: Vec<&str> = is.values().copied().collect();
        assert_eq!(names, self.all, "{table}: not a value of each variant, in the order of their tags");
        let rows = Document::read().table(&format!("tags {table}"));
        let written: BTreeMap<u8, &str> = rows
            .iter()
            .map(|row| (row[0].parse().unwrap_or_else(|_| panic!("{table}: a tag {}", row[0])), &*row[1]))
            .collect();
        assert_eq!(rows.len(), written.len(), "{table}: a tag stands there twice");
        assert_eq!(written, is, "{table}");
    }

    /// The same, and that the document has an example of each.
    fn check_examples(&self, table: &str, prefix: &str, samples: Vec<samples::Sample<T>>)
    where
        T: Encode,
    {
        let examples = Document::read().examples();
        for variant in self.all {
            let name = format!("{prefix}-{}", kebab(variant));
            assert!(examples.contains_key(&name), "no example {name}");
        }
        self.check(table, samples.into_iter().map(|sample| sample.value), first_byte);
    }
}

fn first_byte<T: Encode>(value: &T) -> u8 {
    encode(value)[0]
}

#[test]
fn every_kind_of_frame_has_its_tag_and_its_example() {
    variants!(Message {
        Announce,
        Goodbye,
        Gossip,
        Delta,
        DeltaStored,
        SyncAsk,
        SyncPage,
        Inventory,
        InventoryChange,
        InventoryAsk,
        PullOrder,
        PullState,
        DropOrder,
        DropRefused,
        KeepAsk,
        KeepAnswer,
        KeepRelease,
        Drain,
        Letters,
        LettersStored,
        Cursors,
        MailDigest,
        MailSummary,
        ChannelsHeard,
    })
    .check_examples("Message", "message", samples::messages());
    variants!(Request {
        PutOpen,
        Extend,
        Commit,
        List,
        SetReplicas,
        Remove,
        Status,
        Restore,
        Drain,
        Merge,
        Why,
        Post,
        Watch,
    })
    .check_examples("Request", "request", samples::requests());
    variants!(Reply {
        PutPlan,
        Extended,
        Committed,
        Rows,
        ReplicasSet,
        Removed,
        Status,
        NotProxy,
        Failed,
        Drain,
        Merging,
        Why,
        Posted,
        Changed,
    })
    .check_examples("Reply", "reply", samples::replies());
    variants!(TransferFrame {
        ChainOpen,
        ChainReady,
        Offer,
        Need,
        Chunk,
        Stored,
        Working,
        Failed,
        Fetch,
        Data,
        Missing,
        Abandon,
        Doubt,
        Verify,
        Verified,
        ContentsEnd,
    })
    .check_examples("TransferFrame", "transfer", samples::transfer_frames());
}

#[test]
fn every_part_of_a_frame_has_its_tag_and_its_example() {
    variants!(Body { File, Symlink, Folder }).check_examples("Body", "body", samples::bodies());
    variants!(Selector { Name, Under, Prefix, Removed }).check_examples(
        "Selector",
        "selector",
        samples::selectors(),
    );
    variants!(FetchPart { Root, Page, Bytes }).check_examples(
        "FetchPart",
        "fetch-part",
        samples::fetch_parts(),
    );
}

#[test]
fn every_row_of_letters_has_its_tag_and_its_example() {
    variants!(MailKey { Letter, Stream, Seen, Roster }).check_examples(
        "MailKey",
        "mail-key",
        letters::keys(),
    );
    let rows = variants!(MailRow { Letter, Stream, Seen, Roster });
    let examples = Document::read().examples();
    for variant in rows.all {
        assert!(examples.contains_key(&format!("record-mail-{}", kebab(variant))), "{variant}");
    }
    rows.check("MailRow", letters::rows().into_iter().map(|sample| sample.value), first_byte);
}

#[test]
fn every_frame_of_channels_has_its_tag_and_its_example() {
    variants!(ChannelAsk { Post, Get, List, Leave, Follow }).check_examples(
        "ChannelAsk",
        "channel-ask",
        channels::asks(),
    );
    variants!(ChannelReply {
        Bodies,
        Unchanged,
        NoUpdate,
        Channels,
        Left,
        NotProxy,
        Refused,
        Reset,
        Update,
        Gone,
        Complete,
        Wait,
    })
    .check_examples("ChannelReply", "channel-reply", channels::replies());
    variants!(ChannelRefusal {
        Body,
        ClientId,
        ClientIdTwice,
        OtherClient,
        TooLarge,
        Expiry,
        TokenNeeded,
        WrongToken,
        NoClient,
        TooFast,
        Full,
        Busy,
    })
    .check("ChannelRefusal", channels::REFUSALS, first_byte);
}

#[test]
fn every_frame_of_a_sync_has_its_tag_and_its_example() {
    variants!(SyncFrame {
        Open,
        Opened,
        Denied,
        Failed,
        Working,
        Tree,
        TreeEnd,
        Plan,
        PlanEnd,
        Contents,
        Placed,
        Remove,
        Apply,
        Problem,
        Applied,
    })
    .check_examples("SyncFrame", "sync", folders::frames());
    variants!(TreeItem { File, Folder, Symlink }).check_examples("TreeItem", "tree-item", folders::items());
    variants!(DifferenceKind { New, Content, Attributes }).check(
        "DifferenceKind",
        folders::KINDS,
        first_byte,
    );
    variants!(IndexRecord { File, Chunks, End }).check_examples(
        "IndexRecord",
        "index",
        folders::index_records(),
    );
}

#[test]
fn every_frame_about_programs_has_its_tag_and_its_example() {
    variants!(RunFrame {
        Start,
        Attach,
        Attached,
        Output,
        OutputTaken,
        OutputClosed,
        Input,
        InputEnd,
        InputTaken,
        Signal,
        Resize,
        Ended,
        Working,
        Denied,
        Failed,
        List,
        Jobs,
        Stop,
        Stopping,
        Ask,
        Idle,
        Collect,
        Entry,
        Data,
        Collected,
    })
    .check_examples("RunFrame", "run", run::frames());
    variants!(JobEnd { Exited, Signalled, NotStarted, Lost }).check_examples(
        "JobEnd",
        "job-end",
        run::ends(),
    );
    variants!(OutputStream { Output, Errors }).check("OutputStream", run::STREAMS, first_byte);
    variants!(JobSignal { Interrupt, Terminate, Kill, Hangup, Quit, User1, User2, Suspend, Continue }).check(
        "JobSignal",
        run::SIGNALS,
        first_byte,
    );
    variants!(EntryKind { File, Folder, Symlink }).check("EntryKind", run::kinds(), first_byte);
    variants!(Denial { Open, NotAllowed, NotFrom, NotProgram }).check("Denial", run::denials(), first_byte);
}

#[test]
fn every_kind_of_datagram_has_its_number_and_its_example() {
    let kinds = variants!(Datagram { Beacon, Query, Goodbye });
    let examples = Document::read().examples();
    for variant in kinds.all {
        assert!(examples.contains_key(&format!("datagram-{}", kebab(variant))));
    }
    let values = samples::datagrams().into_iter().map(|sample| sample.value);
    let tags = Tags { name: [0; 8], key: [0; 8] };
    kinds.check("Datagram", values, |value| encode_datagram(value, tags, |_| [0; 16])[5]);
}

#[test]
fn every_plain_enum_has_its_tags() {
    use ErrorCode as E;
    variants!(ErrorCode {
        NotFound,
        NotReady,
        NameTaken,
        NoStorage,
        NoSpace,
        Invalid,
        Denied,
        Disk,
        Connection,
        Unknown,
    })
    .check(
        "ErrorCode",
        [
            E::NotFound,
            E::NotReady,
            E::NameTaken,
            E::NoStorage,
            E::NoSpace,
            E::Invalid,
            E::Denied,
            E::Disk,
            E::Connection,
            E::Unknown,
        ],
        first_byte,
    );
    variants!(Purpose { Member, Command, Transfer, Channels, Sync, Run }).check(
        "Purpose",
        [
            Purpose::Member,
            Purpose::Command,
            Purpose::Transfer,
            Purpose::Channels,
            Purpose::Sync,
            Purpose::Run,
        ],
        first_byte,
    );
    variants!(Pin { Auto, Proxy, Storage, Client }).check(
        "Pin",
        [Pin::Auto, Pin::Proxy, Pin::Storage, Pin::Client],
        first_byte,
    );
    variants!(DiskState { Ok, Full, Suspect }).check(
        "DiskState",
        [DiskState::Ok, DiskState::Full, DiskState::Suspect],
        first_byte,
    );
    variants!(CopyState { Whole, Bad, Missing, Unreadable }).check(
        "CopyState",
        [CopyState::Whole, CopyState::Bad, CopyState::Missing, CopyState::Unreadable],
        first_byte,
    );
    variants!(PullState { Working, Done, Failed }).check(
        "PullState",
        [PullState::Working, PullState::Done, PullState::Failed],
        first_byte,
    );
    variants!(FileState { Ok, Healing, Degraded, Lost }).check(
        "FileState",
        [FileState::Ok, FileState::Healing, FileState::Degraded, FileState::Lost],
        first_byte,
    );
    variants!(HolderState { Up, Suspect, Away, Gone, Draining, Dropping, Failing }).check(
        "HolderState",
        [
            HolderState::Up,
            HolderState::Suspect,
            HolderState::Away,
            HolderState::Gone,
            HolderState::Draining,
            HolderState::Dropping,
            HolderState::Failing,
        ],
        first_byte,
    );
    variants!(Priority { High, Normal, Low }).check("Priority", Priority::ALL, first_byte);
    let nobody: Vec<NodeId> = Vec::new();
    variants!(Waiting { Nothing, Pull, Drop, Return, Machine, Source, Unheard, Turn }).check(
        "Waiting",
        [
            Waiting::Nothing,
            Waiting::Pull { to: nobody.clone() },
            Waiting::Drop { at: NodeId([0; 16]) },
            Waiting::Return,
            Waiting::Machine,
            Waiting::Source,
            Waiting::Unheard { nodes: nobody },
            Waiting::Turn,
        ],
        first_byte,
    );
    variants!(NodeState { Up, Suspect, Away, Down, Draining }).check(
        "NodeState",
        [NodeState::Up, NodeState::Suspect, NodeState::Away, NodeState::Down, NodeState::Draining],
        first_byte,
    );
}

fn limits_of_the_program() -> BTreeMap<&'static str, u64> {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).expect("short");
    let size = |bytes: usize| bytes as u64;
    let mut all = BTreeMap::from([
        ("PORT_DEFAULT", u64::from(limits::PORT_DEFAULT)),
        ("DATAGRAM_BYTES_MAX", size(limits::DATAGRAM_BYTES_MAX)),
        ("FRAME_HEAD_BYTES_MAX", size(limits::FRAME_HEAD_BYTES_MAX)),
        ("FRAME_PAYLOAD_BYTES_MAX", size(limits::FRAME_PAYLOAD_BYTES_MAX)),
        ("PAGE_BYTES_TARGET", size(limits::PAGE_BYTES_TARGET)),
        ("PAGE_ROWS_MAX", size(limits::PAGE_ROWS_MAX)),
        ("NAME_BYTES_MAX", size(limits::NAME_BYTES_MAX)),
        ("NAME_PART_BYTES_MAX", size(limits::NAME_PART_BYTES_MAX)),
        ("SYMLINK_BYTES_MAX", size(limits::SYMLINK_BYTES_MAX)),
        ("LABEL_BYTES_MAX", size(limits::LABEL_BYTES_MAX)),
        ("REPLICAS_MAX", u64::from(limits::REPLICAS_MAX)),
        ("LINEAGE_MAX", size(limits::LINEAGE_MAX)),
        ("ADDRESSES_PER_NODE_MAX", size(limits::ADDRESSES_PER_NODE_MAX)),
        ("SYNC_BUCKETS", size(limits::SYNC_BUCKETS)),
        ("CONTEXT_DOTS_MAX", size(limits::CONTEXT_DOTS_MAX)),
        ("CONTEXT_INSTANCES_MAX", size(limits::CONTEXT_INSTANCES_MAX)),
        ("VERSIONS_PER_NAME_MAX", size(limits::VERSIONS_PER_NAME_MAX)),
        ("SETTINGS_PER_VERSION_MAX", size(limits::SETTINGS_PER_VERSION_MAX)),
        ("CHUNK_BYTES_MAX", size(limits::CHUNK_BYTES_MAX)),
        ("CHUNK_FINE_BYTES", limits::CHUNK_FINE_BYTES),
        ("INLINE_BYTES_MAX", limits::INLINE_BYTES_MAX),
        ("MANIFEST_PAGE_CHUNKS", size(limits::MANIFEST_PAGE_CHUNKS)),
        ("MANIFEST_PAGES_MAX", size(limits::MANIFEST_PAGES_MAX)),
        ("OFFER_WINDOW_BYTES", size(limits::OFFER_WINDOW_BYTES)),
        ("OFFER_WINDOW_CHUNKS", size(limits::OFFER_WINDOW_CHUNKS)),
        ("FETCH_WINDOW_BYTES", limits::FETCH_WINDOW_BYTES),
        ("FETCH_WINDOW_REQUESTS", size(limits::FETCH_WINDOW_REQUESTS)),
        ("BEACON_INTERVAL_MS", limits::BEACON_INTERVAL_MS),
        ("BEACON_HURRIED_INTERVAL_MS", limits::BEACON_HURRIED_INTERVAL_MS),
        ("SUSPECT_AFTER_MS", limits::SUSPECT_AFTER_MS),
        ("HANDSHAKE_TIMEOUT", ms(limits::HANDSHAKE_TIMEOUT)),
        ("IDLE_TIMEOUT", ms(limits::IDLE_TIMEOUT)),
        ("STALL_TIMEOUT", ms(limits::STALL_TIMEOUT)),
        ("WORKING_INTERVAL", ms(limits::WORKING_INTERVAL)),
        ("KEEP_LEASE_MS", limits::KEEP_LEASE_MS),
        ("KEEP_TRUST_MS", limits::KEEP_TRUST_MS),
        ("KEEP_ASK_MS", limits::KEEP_ASK_MS),
        ("COMMIT_WAIT_MS", limits::COMMIT_WAIT_MS),
        ("SYNC_INTERVAL_MS", limits::SYNC_INTERVAL_MS),
        ("SAFE_MODE_MS_MAX", limits::SAFE_MODE_MS_MAX),
        ("CONNECTIONS_UNPROVEN_MAX", size(limits::CONNECTIONS_UNPROVEN_MAX)),
        ("CONNECTIONS_MAX", size(limits::CONNECTIONS_MAX)),
        ("NODES_MAX", size(limits::NODES_MAX)),
        ("CLUSTER_KEY_BYTES_MAX", size(limits::CLUSTER_KEY_BYTES_MAX)),
        ("HELLO_BYTES_MAX", size(limits::HELLO_BYTES_MAX)),
        ("PUT_OUTSTANDING_MAX", size(limits::PUT_OUTSTANDING_MAX)),
        ("FETCH_WHOLE_BYTES", limits::FETCH_WHOLE_BYTES),
        ("VERIFY_CONTENTS_MAX", size(limits::VERIFY_CONTENTS_MAX)),
        ("DOUBTS_PER_ADDRESS_MAX", u64::from(limits::DOUBTS_PER_ADDRESS_MAX)),
        ("DOUBTS_WINDOW_MS", limits::DOUBTS_WINDOW_MS),
        ("LETTER_TYPE_BYTES_MAX", size(limits::LETTER_TYPE_BYTES_MAX)),
        ("LETTER_PAYLOAD_BYTES_MAX", size(limits::LETTER_PAYLOAD_BYTES_MAX)),
        ("LETTER_ATTACHMENTS_MAX", size(limits::LETTER_ATTACHMENTS_MAX)),
        ("LETTERS_AT_ONCE_MAX", size(limits::LETTERS_AT_ONCE_MAX)),
        ("LETTER_LIVES_MAX", ms(limits::LETTER_LIVES_MAX)),
        ("LETTERS_MAX", size(limits::LETTERS_MAX)),
        ("LETTERS_BYTES_MAX", size(limits::LETTERS_BYTES_MAX)),
        ("STREAMS_MAX", size(limits::STREAMS_MAX)),
        ("STREAM_SPANS_MAX", size(limits::STREAM_SPANS_MAX)),
        ("SPANS_MAX", size(limits::SPANS_MAX)),
        ("ROSTER_MAX", size(limits::ROSTER_MAX)),
        ("LETTERS_SEEN_MAX", size(limits::LETTERS_SEEN_MAX)),
        ("CHANNEL_KEY_BYTES_MAX", size(limits::CHANNEL_KEY_BYTES_MAX)),
        ("CLIENT_ID_BYTES_MAX", size(limits::CLIENT_ID_BYTES_MAX)),
        ("CHANNEL_BODY_BYTES_MAX", size(limits::CHANNEL_BODY_BYTES_MAX)),
        ("CHANNEL_BODY_DEPTH_MAX", size(limits::CHANNEL_BODY_DEPTH_MAX)),
        ("CHANNELS_MAX", size(limits::CHANNELS_MAX)),
        ("CHANNEL_CLIENTS_MAX", size(limits::CHANNEL_CLIENTS_MAX)),
        ("CHANNEL_BYTES_MAX", size(limits::CHANNEL_BYTES_MAX)),
        ("CHANNELS_BYTES_MAX", size(limits::CHANNELS_BYTES_MAX)),
        ("CHANNEL_EXPIRY_DEFAULT", ms(limits::CHANNEL_EXPIRY_DEFAULT)),
        ("CHANNEL_EXPIRY_MIN", ms(limits::CHANNEL_EXPIRY_MIN)),
        ("CHANNEL_EXPIRY_MAX", ms(limits::CHANNEL_EXPIRY_MAX)),
        ("CHANNEL_GRACE_MS_MAX", limits::CHANNEL_GRACE_MS_MAX),
        ("CHANNEL_POSTS_PER_SECOND", limits::CHANNEL_POSTS_PER_SECOND),
        ("CHANNEL_SERVER_TIME_MAX", limits::CHANNEL_SERVER_TIME_MAX),
        ("TREE_PATH_BYTES_MAX", size(limits::TREE_PATH_BYTES_MAX)),
        ("TREE_DEPTH_MAX", size(limits::TREE_DEPTH_MAX)),
        ("SYNC_ENTRIES_MAX", size(limits::SYNC_ENTRIES_MAX)),
        ("SYNC_PATHS_BYTES_MAX", size(limits::SYNC_PATHS_BYTES_MAX)),
        ("SYNC_CHUNKS_MAX", size(limits::SYNC_CHUNKS_MAX)),
        ("SYNC_PENDING_CHUNKS_MAX", size(limits::SYNC_PENDING_CHUNKS_MAX)),
        ("SYNC_SESSIONS_MAX", size(limits::SYNC_SESSIONS_MAX)),
        ("SYNC_LOCK_WAIT", ms(limits::SYNC_LOCK_WAIT)),
        ("SYNC_YOUNG_NS", u64::try_from(limits::SYNC_YOUNG_NS).expect("a time")),
        ("SYNC_HEADROOM_BYTES", limits::SYNC_HEADROOM_BYTES),
        ("SYNC_PROBLEMS_MAX", size(limits::SYNC_PROBLEMS_MAX)),
    ]);
    all.extend(run::limits());
    all
}

#[test]
fn the_limits_of_the_document_are_those_of_the_program() {
    let rows = Document::read().table("limits");
    let written: BTreeMap<&str, u64> = rows
        .iter()
        .map(|row| {
            let number = row[1].replace(',', "").parse();
            (&*row[0], number.unwrap_or_else(|_| panic!("{} is no number", row[1])))
        })
        .collect();
    assert_eq!(written, limits_of_the_program());
}

#[test]
fn names_of_examples_follow_from_variants() {
    assert_eq!(kebab("PutOpen"), "put-open");
    assert_eq!(kebab("Status"), "status");
    let names: Vec<String> = examples::all().into_iter().map(|example| example.name).collect();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len());
}
