//! Copies looked at because somebody asked: a command, or a reader that got wrong bytes.

use super::super::chain::ChainSender;
use super::super::fetch::{FetchItem, HolderFailure, fetch};
use super::super::fixture::{KEY, Node, endpoint, nowhere, put_one, random};
use super::super::pool::HolderPool;
use super::super::pull::pull;
use super::super::sink::StreamSink;
use super::*;
use crate::clock;
use crate::limits::DOUBTS_PER_ADDRESS_MAX;
use crate::wire::message::Purpose;
use crate::wire::transfer::FetchPart;

fn flip(node: &Node, content: &ContentId, at: usize) {
    let path = node.file(content);
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("written");
}

async fn ask(node: &Node, contents: &[ContentId]) -> Vec<(ContentId, CopyState)> {
    let mut answers = Vec::new();
    let told = |content, state, _| answers.push((content, state));
    verify(&node.route, contents, true, &endpoint(KEY), told).await.expect("answered");
    answers
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let start = clock::now();
    while !look() {
        assert!(clock::now().since(start) < 20_000, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_says_of_each_copy_how_it_is_and_sets_the_bad_ones_aside() {
    let node = Node::start().await;
    let mut contents = Vec::new();
    for (seed, size) in [(1, 20 << 20), (2, 0), (3, 100), (4, 6 << 20), (5, 300_000)] {
        contents.push(put_one(&[&node], &random(seed, size)).await);
    }
    flip(&node, &contents[3], 5 << 20);
    contents.push(ContentId([9; 32]));
    let states: Vec<CopyState> = ask(&node, &contents).await.into_iter().map(|answer| answer.1).collect();
    use CopyState::{Bad, Missing, Whole};
    assert_eq!(states, [Whole, Whole, Whole, Bad, Whole, Missing]);
    assert_eq!(node.bad.lock().expect("sound")[..], [contents[3]]);
    assert_eq!(node.store.holds(&contents[3]), None);
    assert_eq!(ask(&node, &contents[3..4]).await, [(contents[3], Missing)]);
    // More than one frame names.
    let many: Vec<ContentId> = (0..VERIFY_CONTENTS_MAX + 5).map(|at| contents[at % 3]).collect();
    assert_eq!(ask(&node, &many).await.len(), many.len());
    let none = verify(&nowhere(), &contents, true, &endpoint(KEY), |_, _, _| panic!("nobody is there")).await;
    assert!(none.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_without_bound_is_refused() {
    let node = Node::start().await;
    let connection =
        Connection::dial(node.address(), &endpoint(KEY), Purpose::Transfer, None).await.expect("dialled");
    let (mut reader, mut writer) = connection.split();
    let contents = vec![ContentId([1; 32]); VERIFY_CONTENTS_MAX + 1];
    writer.write(&TransferFrame::Verify { contents, anew: true }, &[]).await.expect("sent");
    writer.flush().await.expect("sent");
    assert!(matches!(reader.read::<TransferFrame>().await, Ok(None) | Err(_)));
}

/// Gets a content from two holders, one of them bad at `at`, and gives the bad one.
async fn get_from_a_bad_and_a_good_one(size: usize, at: usize) -> (Node, ContentId) {
    let (good, bad) = (Node::start().await, Node::start().await);
    let content = put_one(&[&good, &bad], &random(7, size)).await;
    flip(&bad, &content, at);
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    // The bad one is known first.
    pool.link(&bad.route).await.expect("linked");
    let holders = vec![bad.route.clone(), good.route.clone()];
    let sink = Box::new(StreamSink::new(std::io::sink()));
    let item = FetchItem { tag: 0, content, size: size as u64, holders, sink };
    let report = fetch(&pool, item, Arc::new(|_: u64| ())).await.expect("got");
    let wrong =
        |(node, why): &(_, HolderFailure)| *node == bad.id && matches!(why, HolderFailure::WrongBytes);
    assert!(report.failed.iter().any(wrong), "{:?}", report.failed);
    (bad, content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_gave_wrong_bytes_hears_of_it_and_looks() {
    // In one request, and striped.
    for (size, at) in [(100_000, 50_000), (6 << 20, 1_000)] {
        let (bad, content) = get_from_a_bad_and_a_good_one(size, at).await;
        until("the bad copy is aside", || bad.store.holds(&content).is_none()).await;
        until("the node hears of it", || bad.bad.lock().expect("sound")[..] == [content]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_lies_hurts_nobody() {
    let node = Node::start().await;
    let content = put_one(&[&node], &random(7, 300_000)).await;
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let link = pool.link(&node.route).await.expect("linked");
    assert!(link.ask(content, FetchPart::Root).await.is_ok(), "a session begins with a fetch");
    let before = node.store.record(&content).expect("held").verified_ms;
    until("the clock goes on", || clock::wall().0 > before).await;
    for _ in 0..2 * DOUBTS_PER_ADDRESS_MAX {
        link.doubt(content).await;
        link.doubt(ContentId([3; 32])).await;
    }
    until("it was looked at", || node.store.record(&content).expect("held").verified_ms > before).await;
    assert_eq!(ask(&node, &[content]).await, [(content, CopyState::Whole)]);
    assert!(node.bad.lock().expect("sound").is_empty());
    // And the session goes on.
    assert!(link.ask(content, FetchPart::Root).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_aside_is_pulled_without_a_holder_and_put_without_a_byte() {
    let node = Node::start().await;
    let data = random(8, 5 << 20);
    let content = put_one(&[&node], &data).await;
    let size = data.len() as u64;
    // The put's pin goes with its session.
    until("it can be set aside", || node.store.set_aside(&content).expect("set aside")).await;
    let pool = Arc::new(HolderPool::new(endpoint(KEY)));
    let pulled = pull(&node.store, content, size, vec![nowhere()], &pool, Arc::new(|_: u64| ())).await;
    let (report, finished) = pulled.expect("nobody is needed");
    assert_eq!((report.reused_bytes, report.from.len(), finished.is_some()), (size, 0, true));
    drop(finished);
    assert!(node.store.set_aside(&content).expect("set aside"));
    let route = [node.route.clone()];
    let mut chain = ChainSender::open(&route, &endpoint(KEY)).await.expect("opened");
    let source = super::super::chain::Source::reader(1, std::io::Cursor::new(data.clone()));
    let (result, results) = super::super::fixture::put(&mut chain, vec![source]).await;
    result.expect("put");
    let stored = results[0].outcome.as_ref().expect("stored");
    assert_eq!((stored.sent_bytes, stored.reused_bytes), (0, size));
    assert!(node.bytes(&content) == data);
}
