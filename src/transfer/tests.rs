//! Whole transfers between nodes on loopback.

use super::Progress;
use super::chain::{ChainError, ChainSender, PutResult, Source, StoredContent};
use super::connection::Connection;
use super::fetch::{FetchError, FetchItem, FetchReport, FetchResult, HolderFailure, fetch, fetch_many};
use super::fixture::{KEY, Node, breaking, endpoint, nowhere, put, put_one, random, route, same};
use super::output::{FileSink, OutputFile, content_of};
use super::pool::HolderPool;
use super::pull::pull;
use super::sink::{Sink, SinkError, StreamSink};
use crate::limits::STALL_TIMEOUT;
use crate::types::{ChunkHash, ChunkRef, ContentId, NodeId, NodeRoute};
use crate::wire::message::ErrorCode;
use crate::wire::transfer::{ContentEnd, TransferFrame};
use std::collections::BTreeSet;
use std::io::{Cursor, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;

fn nothing() -> Arc<dyn Progress> {
    Arc::new(|_| {})
}

fn source(tag: u64, data: &[u8]) -> Source {
    Source::reader(tag, Cursor::new(data.to_vec()))
}

async fn open(route: &[NodeRoute]) -> ChainSender {
    ChainSender::open(route, &endpoint(KEY)).await.expect("opened")
}

fn stored(results: &[PutResult]) -> Vec<&StoredContent> {
    results.iter().map(|result| result.outcome.as_ref().expect("stored")).collect()
}

async fn three() -> [Node; 3] {
    [Node::start().await, Node::start().await, Node::start().await]
}

fn routes(nodes: &[Node]) -> Vec<NodeRoute> {
    nodes.iter().map(|node| node.route.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_three_stores_on_all_and_costs_the_sender_one_copy() {
    let nodes = three().await;
    let data = random(1, 20 << 20);
    let mut chain = open(&routes(&nodes)).await;
    assert_eq!(chain.nodes(), [nodes[0].id, nodes[1].id, nodes[2].id]);
    let (result, results) = put(&mut chain, vec![source(7, &data)]).await;
    result.expect("put");
    let content = stored(&results)[0];
    assert_eq!(results[0].tag, 7);
    assert_eq!(content.content, content_of(&data[..]).expect("readable"));
    assert_eq!(content.nodes, [nodes[0].id, nodes[1].id, nodes[2].id]);
    assert_eq!((content.sent_bytes, content.reused_bytes), (20 << 20, 0));
    for node in &nodes {
        assert!(same(&node.bytes(&content.content), &data));
        assert_eq!(node.stored.lock().expect("sound")[..], [(content.content, 20 << 20)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_content_sends_only_what_changed() {
    let nodes = three().await;
    let mut data = random(2, 24 << 20);
    put_one(&[&nodes[0], &nodes[1], &nodes[2]], &data).await;
    data.splice((10 << 20)..(10 << 20), *b"a few bytes more");
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, vec![source(1, &data)]).await;
    result.expect("put");
    let content = stored(&results)[0];
    assert!(content.sent_bytes < 9 << 20, "{} bytes sent", content.sent_bytes);
    assert_eq!(content.sent_bytes + content.reused_bytes, data.len() as u64);
    for node in &nodes {
        assert!(same(&node.bytes(&content.content), &data));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_holder_has_it_passes_on_by_itself() {
    let nodes = three().await;
    let mut data = random(3, 20 << 20);
    put_one(&[&nodes[0]], &data).await;
    put_one(&[&nodes[2]], &data[..12 << 20]).await;
    data.truncate(19 << 20);
    // The end repeats an earlier part: a chunk that comes with another one.
    let repeated = data[(8 << 20)..(14 << 20)].to_vec();
    data.extend_from_slice(&repeated);
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, vec![source(1, &data)]).await;
    result.expect("put");
    let content = stored(&results)[0];
    assert!(content.sent_bytes < 9 << 20, "{} bytes sent", content.sent_bytes);
    assert_eq!(content.nodes.len(), 3);
    for node in &nodes {
        assert!(same(&node.bytes(&content.content), &data));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_content_is_sent_once_through_the_chain() {
    let nodes = three().await;
    let block = random(4, 9 << 20);
    let data = [&block[..], &block, &block].concat();
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, vec![source(1, &data), source(2, &data)]).await;
    result.expect("put");
    let contents = stored(&results);
    assert!(contents[0].sent_bytes < 19 << 20, "{} bytes sent", contents[0].sent_bytes);
    for node in &nodes {
        assert!(same(&node.bytes(&contents[0].content), &data));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_node_is_skipped_wherever_it_stands() {
    let nodes = three().await;
    for at in 0..4 {
        let mut route = routes(&nodes);
        route.insert(at, nowhere());
        let mut chain = open(&route).await;
        assert_eq!(chain.failed(), [NodeId([9; 16])]);
        let (result, results) = put(&mut chain, vec![source(1, &random(at as u64, 1 << 20))]).await;
        result.expect("put");
        assert_eq!(stored(&results)[0].nodes.len(), 3);
    }
    let nobody = ChainSender::open(&[nowhere()], &endpoint(KEY)).await;
    assert!(matches!(nobody, Err(ChainError::Unreachable { failed }) if failed.len() == 1));
    assert!(matches!(ChainSender::open(&[], &endpoint(KEY)).await, Err(ChainError::Empty)));
}

/// Gives its first bytes, and the rest once it is told to.
struct Paused {
    data: Cursor<Vec<u8>>,
    pause_at: u64,
    reached: Option<tokio::sync::oneshot::Sender<()>>,
    go_on: std::sync::mpsc::Receiver<()>,
}

impl Read for Paused {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.data.position() >= self.pause_at
            && let Some(reached) = self.reached.take()
        {
            let _ = reached.send(());
            let _ = self.go_on.recv();
        }
        self.data.read(buffer)
    }
}

fn paused(
    data: &[u8],
    pause_at: u64,
) -> (Source, tokio::sync::oneshot::Receiver<()>, std::sync::mpsc::Sender<()>) {
    let (reached, is_reached) = tokio::sync::oneshot::channel();
    let (go, go_on) = std::sync::mpsc::channel();
    let reader = Paused { data: Cursor::new(data.to_vec()), pause_at, reached: Some(reached), go_on };
    (Source::reader(1, reader), is_reached, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_dies_midway_is_reported_and_those_before_it_go_on() {
    for dying in [1_usize, 2] {
        let mut nodes = three().await;
        let data = random(5, 30 << 20);
        let (source, reached, go) = paused(&data, 16 << 20);
        let mut chain = open(&routes(&nodes)).await;
        let killing = async {
            reached.await.expect("reached");
            nodes[dying].kill().await;
            go.send(()).expect("goes on");
        };
        let ((result, results), ()) = tokio::join!(put(&mut chain, vec![source]), killing);
        result.expect("put");
        let content = stored(&results)[0];
        let alive: Vec<NodeId> = nodes[..dying].iter().map(|node| node.id).collect();
        assert_eq!(content.nodes, alive);
        assert_eq!(content.failed, [nodes[dying].id], "the one behind it was only cut off");
        for node in &nodes[..dying] {
            assert!(same(&node.bytes(&content.content), &data));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_first_holder_dies_continues_where_it_was() {
    let mut node = Node::start().await;
    let data = random(6, 30 << 20);
    let (source1, reached, go) = paused(&data, 20 << 20);
    let mut chain = open(std::slice::from_ref(&node.route)).await;
    let killing = async {
        reached.await.expect("reached");
        node.kill().await;
        go.send(()).expect("goes on");
    };
    let ((result, results), ()) = tokio::join!(put(&mut chain, vec![source1]), killing);
    assert_eq!(result.expect_err("lost").node(), Some(node.id));
    assert!(results.is_empty());
    let (again, _) = put(&mut chain, vec![source(1, b"x")]).await;
    assert!(again.is_err(), "a broken chain stays broken");
    // The same store, reached again.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let context = Arc::clone(&node.context);
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("accepts");
        let connection = Connection::accept(tcp, &context.endpoint).await.expect("accepted");
        let _ = super::holder::serve(connection, context).await;
    });
    let mut chain = open(&[route(node.id, address)]).await;
    let (result, results) = put(&mut chain, vec![source(1, &data)]).await;
    result.expect("put");
    let content = stored(&results)[0];
    assert!(content.reused_bytes > 0, "nothing was kept");
    assert!(same(&node.bytes(&content.content), &data));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_next_holder_that_freezes_is_given_up() {
    let first = Node::start().await;
    let frozen = endpoint(KEY);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let frozen_route = route(frozen.hello.node, listener.local_addr().expect("bound"));
    let id = frozen.hello.node;
    let freezing = tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.expect("accepts");
        let (mut reader, mut writer) = Connection::accept(tcp, &frozen).await.expect("accepted").split();
        reader.read::<TransferFrame>().await.expect("opened");
        let ready = TransferFrame::ChainReady { nodes: vec![id], failed: Vec::new() };
        writer.write(&ready, &[]).await.expect("written");
        writer.flush().await.expect("written");
        std::future::pending::<()>().await;
    });
    let mut chain = open(&[first.route.clone(), frozen_route.clone()]).await;
    let putting = put(&mut chain, vec![source(1, &random(7, 1 << 20))]);
    let (result, results) = timeout(STALL_TIMEOUT * 4, putting).await.expect("in time");
    result.expect("put");
    assert_eq!(stored(&results)[0].nodes, [first.id]);
    assert_eq!(stored(&results)[0].failed, [id]);
    freezing.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_ends_its_holder_and_not_the_one_before() {
    let nodes = [Node::start().await, Node::with_capacity(Some(1 << 20)).await];
    let data = random(15, 8 << 20);
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, vec![source(1, &data)]).await;
    result.expect("put");
    assert_eq!(stored(&results)[0].nodes, [nodes[0].id]);
    assert_eq!(stored(&results)[0].failed, [nodes[1].id]);
    let mut chain = open(&routes(&nodes[1..])).await;
    let (result, results) = put(&mut chain, vec![source(1, &data)]).await;
    let failed = result.expect_err("no room");
    assert!(matches!(failed, ChainError::Failed { code: ErrorCode::NoSpace, .. }), "{failed:?}");
    assert!(results.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_out_of_place_end_the_connection_and_nothing_else() {
    let node = Node::start().await;
    let chunk = |hash: u8, bytes: u32| ChunkRef { hash: ChunkHash([hash; 32]), bytes };
    let offer = |first, chunks| TransferFrame::Offer { content_no: 0, first, chunks, end: None };
    let open = TransferFrame::ChainOpen { onward: Vec::new() };
    let end = ContentEnd { content: ContentId([1; 32]), size: 5 };
    let scripts: Vec<Vec<TransferFrame>> = vec![
        vec![TransferFrame::Working],
        vec![TransferFrame::Data { tag: 1 }],
        vec![TransferFrame::ChainOpen { onward: vec![nowhere(); 1_000] }],
        vec![open.clone(), open.clone()],
        vec![open.clone(), TransferFrame::Chunk { content_no: 0, index: 0 }],
        vec![open.clone(), offer(1, vec![chunk(1, 5)])],
        vec![open.clone(), offer(0, vec![chunk(1, u32::MAX)])],
        vec![open.clone(), offer(0, vec![chunk(1, 0)])],
        vec![open.clone(), offer(0, vec![chunk(1, 5); 5_000])],
        // The bytes of the chunk are none, so they are wrong.
        vec![open.clone(), offer(0, vec![chunk(1, 5)]), TransferFrame::Chunk { content_no: 0, index: 0 }],
        vec![open, TransferFrame::Offer { content_no: 0, first: 0, chunks: Vec::new(), end: Some(end) }],
    ];
    for script in scripts {
        let connection = super::connection::dial_route(&node.route, &endpoint(KEY)).await.expect("dialled");
        let (mut reader, mut writer) = connection.split();
        for frame in &script {
            writer.write(frame, &[]).await.expect("written");
        }
        writer.flush().await.expect("written");
        let ending = async {
            let mut last = None;
            while let Ok(Some((frame, _))) = reader.read::<TransferFrame>().await {
                last = Some(frame);
            }
            last
        };
        let last = timeout(STALL_TIMEOUT, ending).await.expect("it ends");
        if matches!(script[..], [TransferFrame::ChainOpen { .. }, ..]) && script.len() > 1 {
            assert!(matches!(last, Some(TransferFrame::Failed { .. })), "{script:?}: {last:?}");
        }
    }
    assert!(node.store.contents().is_empty());
    put_one(&[&node], b"it still serves").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_small_files_go_through_one_chain() {
    let nodes = three().await;
    let files: Vec<Vec<u8>> = (0..2_000).map(|seed| random(1_000 + seed, 4_096)).collect();
    let sources = (0..).zip(&files).map(|(tag, data)| source(tag, data)).collect();
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, sources).await;
    result.expect("put");
    assert_eq!(results.len(), 2_000);
    for (content, data) in stored(&results).iter().zip(&files) {
        assert_eq!(content.nodes.len(), 3);
        assert_eq!(content.content, content_of(&data[..]).expect("readable"));
    }
    for node in &nodes {
        assert_eq!(node.store.contents().len(), 2_000);
        assert!(node.store.commits() < 1_000, "{} commits", node.store.commits());
    }
    get_two_thousand(&nodes, &stored(&results), &files).await;
}

async fn get_two_thousand(nodes: &[Node], contents: &[&StoredContent], files: &[Vec<u8>]) {
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let (to, items) = mpsc::channel(16);
    let (results_to, mut results) = mpsc::channel::<FetchResult>(16);
    let outputs: Vec<Buffer> = files.iter().map(|_| Buffer::default()).collect();
    let feeding = async {
        for ((tag, content), output) in (0..).zip(contents).zip(&outputs) {
            let mut holders = routes(nodes);
            holders.push(nowhere());
            let sink: Box<dyn Sink> = Box::new(StreamSink::new(output.clone()));
            let item = FetchItem { tag, content: content.content, size: content.size, holders, sink };
            to.send(item).await.expect("taken");
        }
        drop(to);
    };
    let collecting = async {
        let mut from = BTreeSet::new();
        while let Some(result) = results.recv().await {
            from.extend(result.outcome.expect("got").from.iter().map(|(node, _)| *node));
        }
        from
    };
    let (from, ..) = tokio::join!(collecting, feeding, fetch_many(&pool, items, results_to, nothing()));
    assert_eq!(from.len(), 3, "all holders gave some");
    for (output, data) in outputs.iter().zip(files) {
        assert!(same(&output.bytes(), data));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_files_and_all_sizes_around_the_limits_arrive() {
    let nodes = three().await;
    let sizes =
        [0, 1, 32 << 10, (32 << 10) + 1, 256 << 10, (256 << 10) + 1, 4 << 20, (4 << 20) + 1, 9 << 20, 0];
    let files: Vec<Vec<u8>> = sizes.iter().map(|size| random(50 + *size as u64, *size)).collect();
    let sources = (0..).zip(&files).map(|(tag, data)| source(tag, data)).collect();
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, sources).await;
    result.expect("put");
    assert_eq!(results.len(), sizes.len());
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    for (content, data) in stored(&results).iter().zip(&files) {
        assert_eq!((content.nodes.len(), content.size), (3, data.len() as u64));
        let output = Buffer::default();
        get(&pool, content.content, content.size, routes(&nodes), &output).await.expect("got");
        assert!(same(&output.bytes(), data), "{} bytes", data.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_be_read_or_changes_does_not_break_the_chain() {
    let nodes = [Node::start().await, Node::start().await];
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("growing");
    std::fs::write(&path, random(8, 6 << 20)).expect("written");
    let growing = path.clone();
    let changing = Source {
        tag: 1,
        open: Box::new(move || {
            let opened = (Source::file(1, growing.clone()).open)()?;
            let mut file = std::fs::OpenOptions::new().append(true).open(&growing)?;
            file.write_all(b"more")?;
            Ok(opened)
        }),
    };
    let sources = vec![
        source(0, b"before"),
        changing,
        Source::file(2, folder.path().join("missing")),
        source(3, b"after"),
        Source::file(4, path),
    ];
    let mut chain = open(&routes(&nodes)).await;
    let (result, results) = put(&mut chain, sources).await;
    result.expect("put");
    let fine: Vec<bool> = results.iter().map(|result| result.outcome.is_ok()).collect();
    assert_eq!(fine, [true, false, false, true, true]);
    for node in &nodes {
        assert_eq!(node.store.contents().len(), 3);
    }
    let (again, results) = put(&mut chain, vec![source(9, b"the chain can be used again")]).await;
    again.expect("put");
    assert_eq!(stored(&results)[0].nodes.len(), 2);
}

/// Memory that can be looked at while a sink owns its other end.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("sound").clone()
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("sound").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn get(
    pool: &Arc<HolderPool>,
    content: ContentId,
    size: u64,
    holders: Vec<NodeRoute>,
    output: &Buffer,
) -> Result<FetchReport, FetchError> {
    get_into(pool, content, size, holders, Box::new(StreamSink::new(output.clone()))).await
}

async fn get_into(
    pool: &Arc<HolderPool>,
    content: ContentId,
    size: u64,
    holders: Vec<NodeRoute>,
    sink: Box<dyn Sink>,
) -> Result<FetchReport, FetchError> {
    let item = FetchItem { tag: 0, content, size, holders, sink };
    timeout(Duration::from_secs(30), fetch(pool, item, nothing())).await.expect("in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_is_striped_over_all_holders() {
    let nodes = three().await;
    let data = random(10, 40 << 20);
    let content = put_one(&[&nodes[0], &nodes[1], &nodes[2]], &data).await;
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let output = Buffer::default();
    let report = get(&pool, content, data.len() as u64, routes(&nodes), &output).await.expect("got");
    assert!(same(&output.bytes(), &data));
    assert_eq!(report.from.iter().map(|(_, bytes)| bytes).sum::<u64>(), data.len() as u64);
    assert_eq!(report.from.len(), 3, "{:?}", report.from);
    assert!(report.failed.is_empty());
}

/// Readers that take nothing hold all the room there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_find_no_room_in_memory_go_in_pieces() {
    let node = Node::start().await;
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let room = node.context.serving.available_permits();
    for (tag, bytes) in [(20, 9 << 20), (21, 300_000), (22, 20_000), (23, 100)] {
        let data = random(tag, bytes);
        let content = put_one(&[&node], &data).await;
        for taken in [room, room - 2_000] {
            let taken = u32::try_from(taken).expect("small");
            let _taken = node.context.serving.acquire_many(taken).await.expect("open");
            let output = Buffer::default();
            get(&pool, content, data.len() as u64, routes(std::slice::from_ref(&node)), &output)
                .await
                .expect("got");
            assert!(same(&output.bytes(), &data), "{bytes} bytes");
        }
        let all = node.context.serving.acquire_many(u32::try_from(room).expect("small"));
        drop(timeout(Duration::from_secs(10), all).await.expect("all room is given back"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_lying_holders_are_left_and_the_bytes_are_right() {
    let nodes = three().await;
    let data = random(11, 40 << 20);
    let content = put_one(&[&nodes[0], &nodes[1], &nodes[2]], &data).await;
    // Every chunk of the liar is wrong.
    let mut wrong = std::fs::read(nodes[2].file(&content)).expect("readable");
    wrong.iter_mut().step_by(4_096).for_each(|byte| *byte ^= 1);
    std::fs::write(nodes[2].file(&content), wrong).expect("written");
    let dying = breaking(&nodes[1], 3 << 20).await;
    let holders = vec![nodes[0].route.clone(), dying, nodes[2].route.clone(), nowhere()];
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let output = Buffer::default();
    let report = get(&pool, content, data.len() as u64, holders, &output).await.expect("got");
    assert!(same(&output.bytes(), &data));
    let failed = |node: NodeId| report.failed.iter().find(|(failed, _)| *failed == node).map(|(_, why)| why);
    assert!(matches!(failed(nodes[2].id), Some(HolderFailure::WrongBytes)), "{:?}", report.failed);
    assert!(failed(nodes[1].id).is_some() && failed(NodeId([9; 16])).is_some(), "{:?}", report.failed);
    assert!(failed(nodes[0].id).is_none());
    assert!(report.from.iter().all(|(node, _)| *node != nodes[2].id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_honest_holder_a_get_fails_and_leaves_no_file() {
    let node = Node::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    for size in [100 << 10, 6 << 20] {
        let data = random(size as u64, size);
        let content = put_one(&[&node], &data).await;
        let mut wrong = data.clone();
        wrong[size / 2] ^= 1;
        std::fs::write(node.file(&content), wrong).expect("written");
        let path = folder.path().join("out");
        let sink = FileSink::new(output_file(&path, content, size as u64));
        let result =
            get_into(&pool, content, size as u64, routes(std::slice::from_ref(&node)), Box::new(sink)).await;
        match result {
            Err(FetchError::NoHolder { failed, .. }) => {
                assert!(matches!(failed[..], [(_, HolderFailure::WrongBytes)]), "{failed:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!path.exists());
    }
    let missing = get(&pool, ContentId([1; 32]), 5, routes(&[node]), &Buffer::default()).await;
    assert!(matches!(missing, Err(FetchError::NoHolder { failed, .. }) if failed.len() == 1));
}

fn output_file(path: &Path, content: ContentId, size: u64) -> OutputFile {
    OutputFile {
        path: path.to_path_buf(),
        content,
        size,
        mode: 0o640,
        modified_ns: 1_600_000_000_123_456_789,
        force: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_get_is_continued_and_the_file_appears_whole() {
    use std::os::unix::fs::MetadataExt;
    let node = Node::start().await;
    let data = random(12, 20 << 20);
    let content = put_one(&[&node], &data).await;
    let size = data.len() as u64;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.bin");
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));

    let broken = breaking(&node, 12 << 20).await;
    let sink = FileSink::new(output_file(&path, content, size));
    let part = sink.part_path().to_path_buf();
    let name = part.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    assert_eq!(name, format!(".out.bin.{}.thorp-part", &content.to_string()[..8]));
    get_into(&pool, content, size, vec![broken], Box::new(sink)).await.expect_err("it broke");
    assert!(part.exists() && !path.exists());
    // Damage in what was left is found.
    let mut left = std::fs::read(&part).expect("readable");
    left[1 << 20] ^= 1;
    std::fs::write(&part, left).expect("written");

    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let sink = FileSink::new(output_file(&path, content, size));
    let report = get_into(&pool, content, size, vec![node.route.clone()], Box::new(sink)).await.expect("got");
    assert!(report.reused_bytes > 5 << 20, "{} bytes reused", report.reused_bytes);
    assert_eq!(report.reused_bytes + report.from[0].1, size);
    assert!(same(&std::fs::read(&path).expect("readable"), &data));
    assert!(!part.exists());
    let metadata = std::fs::metadata(&path).expect("there");
    assert_eq!(metadata.mode() & 0o7777, 0o640);
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_600_000_000, 123_456_789));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_different_file_is_replaced_only_by_force_and_the_same_one_quietly() {
    let node = Node::start().await;
    let data = random(13, 50_000);
    let content = put_one(&[&node], &data).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out");
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let into = |force: bool| {
        let file = OutputFile { force, ..output_file(&path, content, 50_000) };
        get_into(&pool, content, 50_000, vec![node.route.clone()], Box::new(FileSink::new(file)))
    };
    std::fs::write(&path, b"mine").expect("written");
    assert!(matches!(into(false).await, Err(FetchError::Sink(SinkError::Exists { .. }))));
    assert_eq!(std::fs::read(&path).expect("readable"), b"mine");
    into(true).await.expect("forced");
    assert!(same(&std::fs::read(&path).expect("readable"), &data));
    into(false).await.expect("the same");
    std::fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &path).expect("linked");
    assert!(matches!(into(false).await, Err(FetchError::Sink(SinkError::Exists { .. }))));
    assert!(!folder.path().join("elsewhere").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_takes_only_what_is_not_here() {
    let nodes = three().await;
    let mut data = random(14, 20 << 20);
    put_one(&[&nodes[2]], &data).await;
    data.extend_from_slice(b"and an end");
    let content = put_one(&[&nodes[0], &nodes[1]], &data).await;
    let pool = Arc::new(HolderPool::new(Arc::clone(&nodes[2].context.endpoint)));
    let from = routes(&nodes[..2]);
    let size = data.len() as u64;
    let (report, finished) =
        pull(&nodes[2].store, content, size, from.clone(), &pool, nothing()).await.expect("pulled");
    assert!(finished.is_some());
    assert!(report.reused_bytes > 12 << 20, "{} bytes reused", report.reused_bytes);
    assert!(same(&nodes[2].bytes(&content), &data));
    let (_, again) = pull(&nodes[2].store, content, size, from, &pool, nothing()).await.expect("held");
    assert!(again.is_none());
}
