//! One value of everything that has bytes, with its fields in the order in which they are written.

use crate::channels;
use crate::document::Part;
use crate::letters;
use thorp::types::{
    Body, ChunkHash, ChunkRef, ContentId, DiskId, DiskState, Dot, FileName, InstanceId, Lineage, MachineId,
    NodeId, NodeRoute, Pin, Presence, Term, Version, Wanted,
};
use thorp::wire::datagram::Datagram;
use thorp::wire::message::{
    ClusterStatus, Context, Copy, Delta, DrainState, ErrorCode, Explanation, FileState, Hello, HolderState,
    Message, NewFile, NodeState, NodeStatus, PullState, Purpose, Removed, Reply, Request, Row, Selector,
    Waiting,
};
use thorp::wire::record::ContentRecord;
use thorp::wire::transfer::{ContentEnd, CopyState, FetchPart, TransferFrame};
use thorp::wire::{Encode, encode};

/// A value and the bytes of its parts.
pub struct Sample<T> {
    pub value: T,
    pub parts: Vec<Part>,
}

impl<T: Encode> Sample<T> {
    /// `fields` are the bytes of the fields; what comes before them is the tag of the variant.
    pub fn new(variant: &str, value: T, fields: Vec<Part>) -> Sample<T> {
        let whole = encode(&value);
        let written: Vec<u8> = fields.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        let tag = whole.strip_suffix(written.as_slice());
        let tag = tag.unwrap_or_else(|| panic!("{variant} does not write its fields in this order"));
        assert!(tag.len() <= 1, "{variant} writes a field that the sample does not name");
        let mut parts = fields;
        if !tag.is_empty() {
            let name = variant.rsplit("::").next().unwrap_or_default().trim();
            parts.insert(0, (format!("tag: {name}"), tag.to_vec()));
        }
        parts.retain(|(_, bytes)| !bytes.is_empty());
        Sample { value, parts }
    }
}

/// A struct, or a variant with named fields or none.
macro_rules! sample {
    ($($path:ident)::+ { $($field:ident : $value:expr),* $(,)? }) => {{
        $( let $field = $value; )*
        let fields: Vec<Part> = vec![ $( (stringify!($field).to_owned(), encode(&$field)) ),* ];
        Sample::new(stringify!($($path)::+), $($path)::+ { $($field),* }, fields)
    }};
}

pub(crate) use sample;

/// A variant around one value that has parts of its own.
pub fn around<T, U: Encode>(variant: &str, inner: Sample<T>, wrap: impl Fn(T) -> U) -> Sample<U> {
    Sample::new(variant, wrap(inner.value), inner.parts)
}

pub const A: NodeId = NodeId([0xa1; 16]);
pub const B: NodeId = NodeId([0xb2; 16]);
pub const C: NodeId = NodeId([0xc3; 16]);
pub const X: ContentId = ContentId([0xd4; 32]);
pub const Y: ContentId = ContentId([0xe5; 32]);
pub const DISK: DiskId = DiskId([0xf6; 16]);
pub const CLUSTER: Lineage = Lineage([0x07; 16]);
pub const RUN: InstanceId = InstanceId(0x1f2e_3d4c_5b6a_7988);
pub const TERM: Term = Term { number: 3, proxy: A };
pub const DOT: Dot = Dot { counter: 17, instance: RUN };
pub const LATER: Dot = Dot { counter: 18, instance: RUN };
pub const CHUNK: ChunkRef = ChunkRef { hash: ChunkHash([0x5a; 32]), bytes: 65_536 };

pub fn file_name(text: &str) -> FileName {
    FileName::parse(text).expect("a valid name")
}

pub fn machine_id(text: &str) -> MachineId {
    MachineId::parse(text).expect("a valid label")
}

fn photo() -> FileName {
    file_name("photos/sea.jpg")
}

fn machine_b() -> MachineId {
    machine_id("machine-b")
}

pub fn term_sample() -> Sample<Term> {
    sample!(Term { number: 3, proxy: A })
}

pub fn presence_sample() -> Sample<Presence> {
    sample!(Presence {
        node: A,
        instance: RUN,
        generation: 4,
        sequence: 300,
        machine: machine_id("machine-a"),
        name: Box::<str>::from("attic"),
        tcp_port: 7667,
        http_port: 0,
        pin: Pin::Auto,
        storage: true,
        draining: false,
        term: TERM,
        proxy: Some(A),
        disk: DISK,
        disk_state: DiskState::Ok,
        capacity_bytes: 1_000_000_000,
        used_bytes: 250_000_000,
        free_bytes: 700_000_000,
        contents: 1,
        inventory_digest: 0xd4d4_d4d4_d4d4_d4d4,
        catalog_digest: 0x0123_4567_89ab_cdef,
        lineage: vec![CLUSTER],
        established: true,
        wall_ms: 1_750_000_000_000,
        version: Box::<str>::from("0.1.0"),
    })
}

pub fn route_sample() -> Sample<NodeRoute> {
    sample!(NodeRoute {
        node: B,
        name: Box::<str>::from("cellar"),
        machine: machine_b(),
        addresses: vec!["192.168.1.20:7667".parse().expect("an address")],
    })
}

fn route_b() -> NodeRoute {
    route_sample().value
}

pub fn version_sample() -> Sample<Version> {
    sample!(Version {
        dot: DOT,
        body: Body::File { content: X, size: 1_234_567 },
        mode: 0o644,
        modified_ns: 1_700_000_000_000_000_000,
        wanted: Wanted::new(2),
        removed_s: 0,
    })
}

/// A version whose count was changed after the put.
pub fn version_changed_sample() -> Sample<Version> {
    sample!(Version {
        dot: DOT,
        body: Body::Symlink { target: "../sea.jpg".into() },
        mode: 0o777,
        modified_ns: -1,
        wanted: Wanted { initial: 2, later: Some(Box::new(vec![(LATER, 3)])) },
        removed_s: 0,
    })
}

pub fn context_sample() -> Sample<Context> {
    sample!(Context { prefixes: vec![(RUN, 17)], extra: vec![Dot { counter: 20, instance: RUN }] })
}

pub fn delta_sample() -> Sample<Delta> {
    sample!(Delta { context: vec![DOT], names: vec![(file_name("a"), vec![version_sample().value])] })
}

pub fn row_sample() -> Sample<Row> {
    sample!(Row {
        name: photo(),
        body: Body::File { content: X, size: 1_234_567 },
        mode: 0o644,
        modified_ns: 1_700_000_000_000_000_000,
        wanted: 2,
        holders: vec![A, B],
        state: FileState::Ok,
        dot: DOT,
        removed: Some(Removed { at_s: 1_750_000_000, earlier: true }),
    })
}

pub fn new_file_sample() -> Sample<NewFile> {
    sample!(NewFile {
        name: photo(),
        body: Body::File { content: X, size: 1_234_567 },
        mode: 0o644,
        modified_ns: 1_700_000_000_000_000_000,
        replicas: 2,
        holders: vec![A, B],
    })
}

pub fn hello_sample() -> Sample<Hello> {
    sample!(Hello {
        protocol: 1,
        node: A,
        instance: RUN,
        machine: machine_id("machine-a"),
        purpose: Purpose::Member,
        lineage: vec![CLUSTER],
        tcp_port: 7667,
    })
}

pub fn content_record_sample() -> Sample<ContentRecord> {
    sample!(ContentRecord {
        size: 1_234_567,
        inline: false,
        chunks: 19,
        single: None,
        stored_ms: 1_750_000_000_000,
        verified_ms: 1_750_000_100_000,
    })
}

/// A content that is one chunk and lies in the database.
pub fn content_record_single_sample() -> Sample<ContentRecord> {
    sample!(ContentRecord {
        size: 13,
        inline: true,
        chunks: 1,
        single: Some(ChunkHash([0x5a; 32])),
        stored_ms: 1_750_000_000_000,
        verified_ms: 1_750_000_100_000,
    })
}

pub fn status_sample() -> Sample<ClusterStatus> {
    let nodes_seen =
        vec![NodeStatus { presence: presence_sample().value, route: route_b(), state: NodeState::Up }];
    sample!(ClusterStatus {
        lineage: CLUSTER,
        term: TERM,
        ready: true,
        nodes: nodes_seen,
        others: vec![],
        files: 5,
        bytes: 1_234_567,
        states: [4, 1, 0, 0],
        letters: 2_u64,
    })
}

pub fn drain_sample() -> Sample<DrainState> {
    sample!(DrainState { node: B, name: Box::<str>::from("cellar"), draining: true, needed: 7, stuck: 0 })
}

pub fn explanation_sample() -> Sample<Explanation> {
    sample!(Explanation {
        row: row_sample().value,
        nodes: vec![route_b()],
        wanted: 2,
        versions: 1,
        copies: vec![Copy { node: B, state: HolderState::Suspect, silent_ms: 4_000 }],
        waiting: Waiting::Pull { to: vec![C] },
        for_ms: 1_000,
    })
}

/// The datagrams, the parts being those of the body.
pub fn datagrams() -> Vec<Sample<Datagram>> {
    let beacon = presence_sample();
    let goodbye: Vec<Part> = vec![
        ("node".into(), encode(&A)),
        ("instance".into(), encode(&RUN)),
        ("sequence".into(), encode(&301_u64)),
    ];
    vec![
        Sample { value: Datagram::Beacon(Box::new(beacon.value)), parts: beacon.parts },
        Sample {
            value: Datagram::Query { nonce: 0x8877_6655_4433_2211 },
            parts: vec![("nonce".into(), encode(&0x8877_6655_4433_2211_u64))],
        },
        Sample { value: Datagram::Goodbye { node: A, instance: RUN, sequence: 301 }, parts: goodbye },
    ]
}

pub fn messages() -> Vec<Sample<Message>> {
    vec![
        around("Announce", presence_sample(), |presence| Message::Announce(Box::new(presence))),
        sample!(Message::Goodbye {}),
        sample!(Message::Gossip { routes: vec![route_b()] }),
        sample!(Message::Delta { term: TERM, delta: delta_sample().value, ack: Some(9), contents: vec![X] }),
        sample!(Message::DeltaStored { ack: 9, held: vec![X] }),
        // A real one has as many digests as there are buckets; how many, is no matter of encoding.
        sample!(Message::SyncAsk {
            session: 5,
            context: context_sample().value,
            buckets: vec![0, 0x0123_4567_89ab_cdef],
        }),
        sample!(Message::SyncPage {
            session: 5,
            page: 0,
            context: Some(context_sample().value),
            buckets: vec![1, 1023],
            names: vec![(file_name("a"), vec![version_sample().value])],
            last: true,
        }),
        sample!(Message::Inventory { term: TERM, disk: DISK, page: 0, contents: vec![X, Y], last: true }),
        sample!(Message::InventoryChange { term: TERM, disk: DISK, added: vec![X], removed: vec![Y] }),
        sample!(Message::InventoryAsk { term: TERM }),
        sample!(Message::PullOrder { term: TERM, content: X, size: 1_234_567, from: vec![route_b()] }),
        sample!(Message::PullState { term: TERM, content: X, state: PullState::Done }),
        sample!(Message::DropOrder { term: TERM, content: X, wanted: 2, keepers: vec![A, C] }),
        sample!(Message::DropRefused { term: TERM, content: X }),
        sample!(Message::KeepAsk { content: X, nonce: 0x0102_0304_0506_0708 }),
        sample!(Message::KeepAnswer { content: X, nonce: 0x0102_0304_0506_0708, kept: true }),
        sample!(Message::KeepRelease { content: X, nonce: 0x0102_0304_0506_0708 }),
        sample!(Message::Drain { term: TERM, draining: true }),
    ]
    .into_iter()
    .chain(letters::messages())
    .chain([channels::heard()])
    .collect()
}

pub fn requests() -> Vec<Sample<Request>> {
    vec![
        sample!(Request::PutOpen { names: vec![photo()], bytes: 1_234_567, replicas: 2, exclude: vec![C] }),
        sample!(Request::Extend {
            content: X,
            size: 1_234_567,
            holders: vec![A],
            replicas: 2,
            exclude: vec![C],
        }),
        sample!(Request::Commit { files: vec![new_file_sample().value] }),
        sample!(Request::List { selector: Selector::Under("photos".into()), after: Some(photo()) }),
        sample!(Request::SetReplicas { name: photo(), replicas: 3 }),
        sample!(Request::Remove { names: vec![photo()], now: false }),
        sample!(Request::Status {}),
        sample!(Request::Restore { names: vec![photo()] }),
        sample!(Request::Drain { node: Box::<str>::from("attic"), undo: false }),
        sample!(Request::Merge { lineage: CLUSTER }),
        sample!(Request::Why { name: photo() }),
        letters::post(),
        sample!(Request::Watch { term: TERM, after: 41, wait_ms: 5_000 }),
    ]
}

pub fn replies() -> Vec<Sample<Reply>> {
    vec![
        sample!(Reply::PutPlan { chain: vec![route_b()] }),
        sample!(Reply::Extended { node: B }),
        sample!(Reply::Committed { holders: vec![vec![A, B]], nodes: vec![route_b()] }),
        sample!(Reply::Rows { rows: vec![row_sample().value], nodes: vec![route_b()], more: None }),
        sample!(Reply::ReplicasSet {
            row: row_sample().value,
            nodes: vec![route_b()],
            before: 3,
            machines: 4,
        }),
        sample!(Reply::Removed { count: 1 }),
        around("Status", status_sample(), |status| Reply::Status(Box::new(status))),
        sample!(Reply::NotProxy { proxy: Some(route_b()) }),
        sample!(Reply::Failed { code: ErrorCode::NotFound, message: Box::<str>::from("no file `a`") }),
        around("Drain", drain_sample(), Reply::Drain),
        sample!(Reply::Merging { lineages: vec![CLUSTER] }),
        around("Why", explanation_sample(), |explanation| Reply::Why(Box::new(explanation))),
        letters::posted(),
        sample!(Reply::Changed {
            term: TERM,
            revision: 42,
            all: false,
            rows: vec![row_sample().value],
            gone: vec![photo()],
            nodes: vec![route_b()],
        }),
    ]
}

pub fn transfer_frames() -> Vec<Sample<TransferFrame>> {
    vec![
        sample!(TransferFrame::ChainOpen { onward: vec![route_b()] }),
        sample!(TransferFrame::ChainReady { nodes: vec![A, B], failed: vec![C] }),
        sample!(TransferFrame::Offer {
            content_no: 0,
            first: 0,
            chunks: vec![CHUNK],
            end: Some(ContentEnd { content: X, size: 65_536 }),
        }),
        sample!(TransferFrame::Need { content_no: 0, first: 0, needed: vec![true, false] }),
        sample!(TransferFrame::Chunk { content_no: 0, index: 300 }),
        sample!(TransferFrame::Stored { content_no: 0, nodes: vec![A, B], failed: vec![] }),
        sample!(TransferFrame::Working {}),
        sample!(TransferFrame::Failed { code: ErrorCode::NoSpace, message: Box::<str>::from("disk full") }),
        sample!(TransferFrame::Fetch {
            tag: 7,
            content: X,
            part: FetchPart::Bytes { offset: 65_536, bytes: 300 },
        }),
        sample!(TransferFrame::Data { tag: 7 }),
        sample!(TransferFrame::Missing { tag: 7, message: Box::<str>::from("not held here") }),
        sample!(TransferFrame::Abandon { content_no: 0 }),
        sample!(TransferFrame::Doubt { tag: 7, content: X }),
        sample!(TransferFrame::Verify { contents: vec![X], anew: true }),
        sample!(TransferFrame::Verified {
            content: X,
            state: CopyState::Bad,
            verified_ms: 1_750_000_000_000,
        }),
        sample!(TransferFrame::ContentsEnd {}),
    ]
}

pub fn fetch_parts() -> Vec<Sample<FetchPart>> {
    vec![
        sample!(FetchPart::Root {}),
        Sample::new("Page", FetchPart::Page(1), vec![("number".into(), encode(&1_u32))]),
        sample!(FetchPart::Bytes { offset: 65_536, bytes: 300 }),
    ]
}

pub fn bodies() -> Vec<Sample<Body>> {
    vec![
        sample!(Body::File { content: X, size: 1_234_567 }),
        sample!(Body::Symlink { target: Box::<str>::from("../sea.jpg") }),
        sample!(Body::Folder {}),
    ]
}

pub fn selectors() -> Vec<Sample<Selector>> {
    let text = |text: &str| vec![("text".to_owned(), encode(&text))];
    vec![
        Sample::new("Name", Selector::Name(photo()), text("photos/sea.jpg")),
        Sample::new("Under", Selector::Under("photos".into()), text("photos")),
        Sample::new("Prefix", Selector::Prefix("photos/s".into()), text("photos/s")),
        Sample::new("Removed", Selector::Removed("photos/".into()), text("photos/")),
    ]
}
