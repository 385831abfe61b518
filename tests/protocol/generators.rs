//! Any value of anything that has bytes.

use crate::{channels, letters};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::net::SocketAddr;
use thorp::limits::LINEAGE_MAX;
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

/// Numbers near the borders of the varint's lengths are as likely as all others.
pub fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..300_u64,
        65_000..66_000_u64,
        u64::from(u32::MAX) - 5..u64::from(u32::MAX) + 5,
        u64::MAX - 5..=u64::MAX,
        any::<u64>(),
    ]
}

fn small() -> impl Strategy<Value = u32> {
    prop_oneof![0..300_u32, u32::MAX - 5..=u32::MAX, any::<u32>()]
}

pub fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 16]>().prop_map(NodeId)
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    vec(node(), 0..4)
}

fn content() -> impl Strategy<Value = ContentId> {
    any::<[u8; 32]>().prop_map(ContentId)
}

fn contents() -> impl Strategy<Value = Vec<ContentId>> {
    vec(content(), 0..4)
}

fn disk() -> impl Strategy<Value = DiskId> {
    any::<[u8; 16]>().prop_map(DiskId)
}

pub fn instance() -> impl Strategy<Value = InstanceId> {
    number().prop_map(InstanceId)
}

fn lineage() -> impl Strategy<Value = Vec<Lineage>> {
    vec(any::<[u8; 16]>().prop_map(Lineage), 1..=LINEAGE_MAX)
}

fn term() -> impl Strategy<Value = Term> {
    (number(), node()).prop_map(|(number, proxy)| Term { number, proxy })
}

fn dot() -> impl Strategy<Value = Dot> {
    (number(), instance()).prop_map(|(counter, instance)| Dot { counter, instance })
}

pub fn name() -> impl Strategy<Value = FileName> {
    "[a-zé🦀~-]{1,20}(/[a-z ]{1,8}){0,3}".prop_map(|text| FileName::parse(&text).expect("a valid name"))
}

fn names() -> impl Strategy<Value = Vec<FileName>> {
    vec(name(), 0..4)
}

fn machine() -> impl Strategy<Value = MachineId> {
    "[a-z0-9ü-]{1,20}".prop_map(|text| MachineId::parse(&text).expect("a valid label"))
}

pub fn label() -> impl Strategy<Value = Box<str>> {
    "[a-zA-Z0-9 .é]{1,20}".prop_map(Into::into)
}

pub fn text() -> impl Strategy<Value = Box<str>> {
    any::<String>().prop_map(Into::into)
}

/// A scope and a flow label have no place on the wire: addresses with them are never sent.
fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from),
        (any::<[u8; 16]>(), any::<u16>()).prop_map(SocketAddr::from),
    ]
}

fn route() -> impl Strategy<Value = NodeRoute> {
    (node(), label(), machine(), vec(address(), 0..4))
        .prop_map(|(node, name, machine, addresses)| NodeRoute { node, name, machine, addresses })
}

fn routes() -> impl Strategy<Value = Vec<NodeRoute>> {
    vec(route(), 0..3)
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        (content(), number()).prop_map(|(content, size)| Body::File { content, size }),
        "[^\0]{1,40}".prop_map(|target| Body::Symlink { target: target.into() }),
        Just(Body::Folder),
    ]
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (1_u8..=64, option::of(vec((dot(), 1_u8..=64), 0..3)))
        .prop_map(|(initial, later)| Wanted { initial, later: later.map(Box::new) })
}

pub fn version() -> impl Strategy<Value = Version> {
    (dot(), body(), any::<u16>(), any::<i64>(), wanted(), any::<u32>()).prop_map(
        |(dot, body, mode, modified_ns, wanted, removed_s)| Version {
            dot,
            body,
            mode,
            modified_ns,
            wanted,
            removed_s,
        },
    )
}

fn entries() -> impl Strategy<Value = Vec<(FileName, Vec<Version>)>> {
    vec((name(), vec(version(), 0..3)), 0..3)
}

fn pin() -> impl Strategy<Value = Pin> {
    prop_oneof![Just(Pin::Auto), Just(Pin::Proxy), Just(Pin::Storage), Just(Pin::Client)]
}

fn disk_state() -> impl Strategy<Value = DiskState> {
    prop_oneof![Just(DiskState::Ok), Just(DiskState::Full), Just(DiskState::Suspect)]
}

pub fn presence() -> impl Strategy<Value = Presence> {
    let who = (node(), instance(), number(), number(), machine(), label(), 1..=u16::MAX, any::<u16>());
    let role = (pin(), any::<bool>(), term(), option::of(node()), disk(), disk_state());
    let space = (number(), number(), number(), number(), number(), number());
    let rest = (lineage(), any::<bool>(), number(), label());
    (who, role, space, rest).prop_map(|(who, role, space, rest)| Presence {
        node: who.0,
        instance: who.1,
        generation: who.2,
        sequence: who.3,
        machine: who.4,
        name: who.5,
        tcp_port: who.6,
        http_port: who.7,
        pin: role.0,
        storage: role.1,
        draining: !role.1,
        term: role.2,
        proxy: role.3,
        disk: role.4,
        disk_state: role.5,
        capacity_bytes: space.0,
        used_bytes: space.1,
        free_bytes: space.2,
        contents: space.3,
        inventory_digest: space.4,
        catalog_digest: space.5,
        lineage: rest.0,
        established: rest.1,
        wall_ms: rest.2,
        version: rest.3,
    })
}

pub fn datagram() -> impl Strategy<Value = Datagram> {
    prop_oneof![
        presence().prop_map(|presence| Datagram::Beacon(Box::new(presence))),
        number().prop_map(|nonce| Datagram::Query { nonce }),
        (node(), instance(), number()).prop_map(|(node, instance, sequence)| Datagram::Goodbye {
            node,
            instance,
            sequence
        }),
    ]
}

fn purpose() -> impl Strategy<Value = Purpose> {
    prop_oneof![Just(Purpose::Member), Just(Purpose::Command), Just(Purpose::Transfer)]
}

pub fn hello() -> impl Strategy<Value = Hello> {
    (any::<u8>(), node(), instance(), machine(), purpose(), lineage(), any::<u16>()).prop_map(
        |(protocol, node, instance, machine, purpose, lineage, tcp_port)| Hello {
            protocol,
            node,
            instance,
            machine,
            purpose,
            lineage,
            tcp_port,
        },
    )
}

fn context() -> impl Strategy<Value = Context> {
    (vec((instance(), number()), 0..4), vec(dot(), 0..4))
        .prop_map(|(prefixes, extra)| Context { prefixes, extra })
}

fn delta() -> impl Strategy<Value = Delta> {
    (vec(dot(), 0..4), entries()).prop_map(|(context, names)| Delta { context, names })
}

fn pull_state() -> impl Strategy<Value = PullState> {
    prop_oneof![Just(PullState::Working), Just(PullState::Done), Just(PullState::Failed)]
}

pub fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        presence().prop_map(|presence| Message::Announce(Box::new(presence))),
        Just(Message::Goodbye),
        routes().prop_map(|routes| Message::Gossip { routes }),
        (term(), delta(), option::of(number()), contents())
            .prop_map(|(term, delta, ack, contents)| Message::Delta { term, delta, ack, contents }),
        (number(), contents()).prop_map(|(ack, held)| Message::DeltaStored { ack, held }),
        (number(), context(), vec(number(), 0..9)).prop_map(|(session, context, buckets)| Message::SyncAsk {
            session,
            context,
            buckets
        }),
        (number(), small(), option::of(context()), vec(any::<u16>(), 0..9), entries(), any::<bool>())
            .prop_map(|(session, page, context, buckets, names, last)| Message::SyncPage {
                session,
                page,
                context,
                buckets,
                names,
                last
            }),
        (term(), disk(), small(), contents(), any::<bool>()).prop_map(
            |(term, disk, page, contents, last)| Message::Inventory { term, disk, page, contents, last }
        ),
        (term(), disk(), contents(), contents()).prop_map(|(term, disk, added, removed)| {
            Message::InventoryChange { term, disk, added, removed }
        }),
        term().prop_map(|term| Message::InventoryAsk { term }),
        (term(), content(), number(), routes()).prop_map(|(term, content, size, from)| Message::PullOrder {
            term,
            content,
            size,
            from
        }),
        (term(), content(), pull_state()).prop_map(|(term, content, state)| Message::PullState {
            term,
            content,
            state
        }),
        (term(), content(), any::<u8>(), nodes()).prop_map(|(term, content, wanted, keepers)| {
            Message::DropOrder { term, content, wanted, keepers }
        }),
        (term(), content()).prop_map(|(term, content)| Message::DropRefused { term, content }),
        (content(), number()).prop_map(|(content, nonce)| Message::KeepAsk { content, nonce }),
        (content(), number(), any::<bool>()).prop_map(|(content, nonce, kept)| Message::KeepAnswer {
            content,
            nonce,
            kept
        }),
        (content(), number()).prop_map(|(content, nonce)| Message::KeepRelease { content, nonce }),
        (term(), any::<bool>()).prop_map(|(term, draining)| Message::Drain { term, draining }),
        letters::any_message(),
        channels::any_heard(),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        name().prop_map(Selector::Name),
        text().prop_map(Selector::Under),
        text().prop_map(Selector::Prefix),
        text().prop_map(Selector::Removed),
    ]
}

fn new_file() -> impl Strategy<Value = NewFile> {
    (name(), body(), any::<u16>(), any::<i64>(), any::<u8>(), nodes()).prop_map(
        |(name, body, mode, modified_ns, replicas, holders)| NewFile {
            name,
            body,
            mode,
            modified_ns,
            replicas,
            holders,
        },
    )
}

pub fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (names(), number(), any::<u8>(), nodes()).prop_map(|(names, bytes, replicas, exclude)| {
            Request::PutOpen { names, bytes, replicas, exclude }
        }),
        (content(), number(), nodes(), any::<u8>(), nodes()).prop_map(
            |(content, size, holders, replicas, exclude)| Request::Extend {
                content,
                size,
                holders,
                replicas,
                exclude
            }
        ),
        vec(new_file(), 0..3).prop_map(|files| Request::Commit { files }),
        (selector(), option::of(name())).prop_map(|(selector, after)| Request::List { selector, after }),
        (name(), any::<u8>()).prop_map(|(name, replicas)| Request::SetReplicas { name, replicas }),
        (names(), any::<bool>()).prop_map(|(names, now)| Request::Remove { names, now }),
        Just(Request::Status),
        names().prop_map(|names| Request::Restore { names }),
        (text(), any::<bool>()).prop_map(|(node, undo)| Request::Drain { node, undo }),
        any::<[u8; 16]>().prop_map(|lineage| Request::Merge { lineage: Lineage(lineage) }),
        name().prop_map(|name| Request::Why { name }),
        letters::any_post(),
        (term(), number(), number()).prop_map(|(term, after, wait_ms)| Request::Watch {
            term,
            after,
            wait_ms
        }),
    ]
}

fn file_state() -> impl Strategy<Value = FileState> {
    prop_oneof![
        Just(FileState::Ok),
        Just(FileState::Healing),
        Just(FileState::Degraded),
        Just(FileState::Lost)
    ]
}

fn node_state() -> impl Strategy<Value = NodeState> {
    prop_oneof![
        Just(NodeState::Up),
        Just(NodeState::Suspect),
        Just(NodeState::Away),
        Just(NodeState::Down),
        Just(NodeState::Draining)
    ]
}

fn row() -> impl Strategy<Value = Row> {
    let removed = option::of((any::<u32>(), any::<bool>()));
    let removed = removed.prop_map(|some| some.map(|(at_s, earlier)| Removed { at_s, earlier }));
    (name(), body(), any::<u16>(), any::<i64>(), any::<u8>(), nodes(), file_state(), dot(), removed).prop_map(
        |(name, body, mode, modified_ns, wanted, holders, state, dot, removed)| Row {
            name,
            body,
            mode,
            modified_ns,
            wanted,
            holders,
            state,
            dot,
            removed,
        },
    )
}

fn holder_state() -> impl Strategy<Value = HolderState> {
    prop::sample::select(vec![
        HolderState::Up,
        HolderState::Suspect,
        HolderState::Away,
        HolderState::Gone,
        HolderState::Draining,
        HolderState::Dropping,
        HolderState::Failing,
    ])
}

fn waiting() -> impl Strategy<Value = Waiting> {
    prop_oneof![
        Just(Waiting::Nothing),
        nodes().prop_map(|to| Waiting::Pull { to }),
        node().prop_map(|at| Waiting::Drop { at }),
        Just(Waiting::Return),
        Just(Waiting::Machine),
        Just(Waiting::Source),
        nodes().prop_map(|nodes| Waiting::Unheard { nodes }),
        Just(Waiting::Turn),
    ]
}

fn explanation() -> impl Strategy<Value = Explanation> {
    let copy = (node(), holder_state(), number()).prop_map(|(node, state, silent_ms)| Copy {
        node,
        state,
        silent_ms,
    });
    (row(), routes(), any::<u8>(), small(), vec(copy, 0..3), waiting(), number()).prop_map(
        |(row, nodes, wanted, versions, copies, waiting, for_ms)| Explanation {
            row,
            nodes,
            wanted,
            versions,
            copies,
            waiting,
            for_ms,
        },
    )
}

fn error_code() -> impl Strategy<Value = ErrorCode> {
    prop::sample::select(vec![
        ErrorCode::NotFound,
        ErrorCode::NotReady,
        ErrorCode::NameTaken,
        ErrorCode::NoStorage,
        ErrorCode::NoSpace,
        ErrorCode::Invalid,
        ErrorCode::Denied,
        ErrorCode::Disk,
        ErrorCode::Connection,
        ErrorCode::Unknown,
    ])
}

fn status() -> impl Strategy<Value = ClusterStatus> {
    let node_status = (presence(), route(), node_state()).prop_map(|(presence, route, state)| NodeStatus {
        presence,
        route,
        state,
    });
    let numbers = (number(), number(), [number(), number(), number(), number()], number());
    (any::<[u8; 16]>(), term(), any::<bool>(), vec(node_status, 0..3), lineage(), numbers).prop_map(
        |(lowest, term, ready, nodes, others, (files, bytes, states, letters))| ClusterStatus {
            lineage: Lineage(lowest),
            term,
            ready,
            nodes,
            others,
            files,
            bytes,
            states,
            letters,
        },
    )
}

pub fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        routes().prop_map(|chain| Reply::PutPlan { chain }),
        node().prop_map(|node| Reply::Extended { node }),
        (vec(nodes(), 0..3), routes()).prop_map(|(holders, nodes)| Reply::Committed { holders, nodes }),
        (vec(row(), 0..3), routes(), option::of(name())).prop_map(|(rows, nodes, more)| Reply::Rows {
            rows,
            nodes,
            more
        }),
        (row(), routes(), any::<u8>(), small())
            .prop_map(|(row, nodes, before, machines)| Reply::ReplicasSet { row, nodes, before, machines }),
        small().prop_map(|count| Reply::Removed { count }),
        status().prop_map(|status| Reply::Status(Box::new(status))),
        option::of(route()).prop_map(|proxy| Reply::NotProxy { proxy }),
        (error_code(), text()).prop_map(|(code, message)| Reply::Failed { code, message }),
        (node(), text(), any::<bool>(), number(), number()).prop_map(
            |(node, name, draining, needed, stuck)| Reply::Drain(DrainState {
                node,
                name,
                draining,
                needed,
                stuck
            })
        ),
        lineage().prop_map(|lineages| Reply::Merging { lineages }),
        explanation().prop_map(|explanation| Reply::Why(Box::new(explanation))),
        letters::any_posted(),
        ((term(), number(), any::<bool>()), (vec(row(), 0..3), vec(name(), 0..3), vec(route(), 0..3)),)
            .prop_map(|((term, revision, all), (rows, gone, nodes))| Reply::Changed {
                term,
                revision,
                all,
                rows,
                gone,
                nodes
            }),
    ]
}

fn chunk() -> impl Strategy<Value = ChunkRef> {
    (any::<[u8; 32]>(), small()).prop_map(|(hash, bytes)| ChunkRef { hash: ChunkHash(hash), bytes })
}

fn end() -> impl Strategy<Value = ContentEnd> {
    (content(), number()).prop_map(|(content, size)| ContentEnd { content, size })
}

fn fetch_part() -> impl Strategy<Value = FetchPart> {
    prop_oneof![
        Just(FetchPart::Root),
        small().prop_map(FetchPart::Page),
        (number(), small()).prop_map(|(offset, bytes)| FetchPart::Bytes { offset, bytes }),
    ]
}

fn copy_state() -> impl Strategy<Value = CopyState> {
    prop_oneof![
        Just(CopyState::Whole),
        Just(CopyState::Bad),
        Just(CopyState::Missing),
        Just(CopyState::Unreadable),
    ]
}

pub fn transfer_frame() -> impl Strategy<Value = TransferFrame> {
    prop_oneof![
        routes().prop_map(|onward| TransferFrame::ChainOpen { onward }),
        (nodes(), nodes()).prop_map(|(nodes, failed)| TransferFrame::ChainReady { nodes, failed }),
        (small(), small(), vec(chunk(), 0..4), option::of(end())).prop_map(
            |(content_no, first, chunks, end)| TransferFrame::Offer { content_no, first, chunks, end }
        ),
        (small(), small(), vec(any::<bool>(), 0..9))
            .prop_map(|(content_no, first, needed)| TransferFrame::Need { content_no, first, needed }),
        (small(), small()).prop_map(|(content_no, index)| TransferFrame::Chunk { content_no, index }),
        (small(), nodes(), nodes()).prop_map(|(content_no, nodes, failed)| TransferFrame::Stored {
            content_no,
            nodes,
            failed
        }),
        Just(TransferFrame::Working),
        (error_code(), text()).prop_map(|(code, message)| TransferFrame::Failed { code, message }),
        (small(), content(), fetch_part()).prop_map(|(tag, content, part)| TransferFrame::Fetch {
            tag,
            content,
            part
        }),
        small().prop_map(|tag| TransferFrame::Data { tag }),
        (small(), text()).prop_map(|(tag, message)| TransferFrame::Missing { tag, message }),
        small().prop_map(|content_no| TransferFrame::Abandon { content_no }),
        (small(), content()).prop_map(|(tag, content)| TransferFrame::Doubt { tag, content }),
        (vec(content(), 0..4), any::<bool>())
            .prop_map(|(contents, anew)| TransferFrame::Verify { contents, anew }),
        (content(), copy_state(), number()).prop_map(|(content, state, verified_ms)| {
            TransferFrame::Verified { content, state, verified_ms }
        }),
    ]
}

pub fn content_record() -> impl Strategy<Value = ContentRecord> {
    let single = option::of(any::<[u8; 32]>().prop_map(ChunkHash));
    (number(), any::<bool>(), small(), single, number(), number()).prop_map(
        |(size, inline, chunks, single, stored_ms, verified_ms)| ContentRecord {
            size,
            inline,
            chunks,
            single,
            stored_ms,
            verified_ms,
        },
    )
}
