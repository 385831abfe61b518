//! A peer with a valid identity in put chains and fetches.

use crate::attacker::{Insider, attack, lineage_of, ms};
use crate::node::{Lan, Node, is_well, noise, s, victim};
use std::time::Duration;
use thorp::limits::{CHUNK_BYTES_MAX, OFFER_WINDOW_CHUNKS};
use thorp::transfer::connection::{FrameReader, FrameWriter};
use thorp::transfer::manifest::{chunk_hash, content_of_one};
use thorp::types::{ChunkHash, ChunkRef, ContentId, MachineId, NodeId, NodeRoute};
use thorp::wire::message::{Purpose, Reply, Request, Selector};
use thorp::wire::transfer::{ContentEnd, FetchPart, TransferFrame};

type Frames = Vec<(TransferFrame, Vec<u8>)>;

fn chunk(bytes: &[u8]) -> ChunkRef {
    ChunkRef { hash: chunk_hash(bytes), bytes: bytes.len() as u32 }
}

fn offer(
    content_no: u32,
    first: u32,
    chunks: Vec<ChunkRef>,
    end: Option<ContentEnd>,
) -> (TransferFrame, Vec<u8>) {
    (TransferFrame::Offer { content_no, first, chunks, end }, Vec::new())
}

fn data(content_no: u32, index: u32, bytes: &[u8]) -> (TransferFrame, Vec<u8>) {
    (TransferFrame::Chunk { content_no, index }, bytes.to_vec())
}

async fn open_chain(insider: &Insider, node: &Node, onward: Vec<NodeRoute>) -> (FrameReader, FrameWriter) {
    let (reader, mut writer) = insider.dial(node, Purpose::Transfer).await.split();
    writer.write(&TransferFrame::ChainOpen { onward }, &[]).await.expect("sent");
    writer.flush().await.expect("sent");
    (reader, writer)
}

/// Sends all that the peer takes, and gives what it said until it closed or fell silent.
async fn play(
    mut reader: FrameReader,
    mut writer: FrameWriter,
    frames: Frames,
    silence: Duration,
) -> (Vec<TransferFrame>, bool) {
    writer.set_timeout(Some(s(5)));
    for (frame, payload) in &frames {
        if writer.write(frame, payload).await.is_err() {
            break;
        }
    }
    drop(writer.flush().await);
    let mut heard = Vec::new();
    reader.set_timeout(Some(silence));
    loop {
        match reader.read::<TransferFrame>().await {
            Ok(Some((frame, _))) => heard.push(frame),
            Ok(None) => return (heard, true),
            Err(thorp::transfer::connection::ConnectionError::Timeout { .. }) => return (heard, false),
            Err(_) => return (heard, true),
        }
    }
}

#[test]
fn chunks_and_offers_that_lie_are_never_stored() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let bytes = noise(1, 100_000);
    let (one, other) = (chunk(&bytes), chunk(&noise(2, 100_000)));
    let end = |chunk: ChunkRef, size| Some(ContentEnd { content: content_of_one(chunk), size });
    let empty = ChunkRef { hash: ChunkHash([0; 32]), bytes: 0 };
    let large = ChunkRef { bytes: CHUNK_BYTES_MAX as u32 + 1, ..one };
    let attacks: Vec<(&str, Frames)> = vec![
        ("an index never offered", vec![offer(0, 0, vec![one], end(one, 100_000)), data(0, 7, &bytes)]),
        ("index u32::MAX", vec![offer(0, 0, vec![one], end(one, 100_000)), data(0, u32::MAX, &bytes)]),
        ("a wrong hash", vec![offer(0, 0, vec![one], end(one, 100_000)), data(0, 0, &noise(3, 100_000))]),
        ("too short", vec![offer(0, 0, vec![one], end(one, 100_000)), data(0, 0, &bytes[1..])]),
        ("no bytes", vec![offer(0, 0, vec![one], end(one, 100_000)), data(0, 0, &[])]),
        ("of no content", vec![data(5, 0, &bytes)]),
        ("an empty chunk", vec![offer(0, 0, vec![empty], end(empty, 0))]),
        ("a chunk over the limit", vec![offer(0, 0, vec![large], end(large, 5 << 20))]),
        ("not the first", vec![offer(0, 3, vec![one], None)]),
        ("a gap", vec![offer(0, 0, vec![one], None), offer(0, 2, vec![one], None)]),
        ("after the end", vec![offer(0, 0, vec![one], end(one, 100_000)), offer(0, 1, vec![one], None)]),
        ("another id", vec![offer(0, 0, vec![one], end(other, 100_000)), data(0, 0, &bytes)]),
        ("another size", vec![offer(0, 0, vec![one], end(one, 99_999)), data(0, 0, &bytes)]),
        ("size u64::MAX", vec![offer(0, 0, vec![one], end(one, u64::MAX)), data(0, 0, &bytes)]),
        ("an end of nothing", vec![offer(0, 0, vec![], end(other, 100_000))]),
        ("chunks without end", vec![offer(0, 0, vec![one; OFFER_WINDOW_CHUNKS + 1], None)]),
        (
            "its own answers",
            vec![(TransferFrame::Need { content_no: 0, first: 0, needed: vec![true] }, vec![])],
        ),
        (
            "stored",
            vec![(TransferFrame::Stored { content_no: 0, nodes: vec![node.id], failed: vec![] }, vec![])],
        ),
        ("a second chain", vec![(TransferFrame::ChainOpen { onward: vec![] }, vec![])]),
        ("data", vec![(TransferFrame::Data { tag: 1 }, bytes.clone())]),
    ];
    attack(async {
        for (what, frames) in attacks {
            let (reader, writer) = open_chain(&insider, &node, vec![]).await;
            let (heard, closed) = play(reader, writer, frames, s(6)).await;
            let stored = heard.iter().any(|frame| matches!(frame, TransferFrame::Stored { .. }));
            assert!(!stored, "{what} was stored: {heard:?}");
            assert!(closed, "{what} did not end the chain: {heard:?}");
        }
        // Sent twice: the second is refused, and the first may have been stored meanwhile.
        let (reader, writer) = open_chain(&insider, &node, vec![]).await;
        let twice = vec![offer(0, 0, vec![one], end(one, 100_000)), data(0, 0, &bytes), data(0, 0, &bytes)];
        play(reader, writer, twice, s(1)).await;
        // Nothing of a content, and abandoned contents that never were.
        let (reader, writer) = open_chain(&insider, &node, vec![]).await;
        let abandoned = (0..5_000).map(|no| (TransferFrame::Abandon { content_no: no }, vec![])).collect();
        play(reader, writer, abandoned, ms(500)).await;
    });
    is_well(&lan, &mut node, &good);
    let kept = std::fs::read_dir(node.data.join("incoming")).expect("readable").count();
    assert!(kept < 10, "{kept} files of contents that were given up");
}

/// A first frame that is neither a chain nor a fetch.
#[test]
fn a_transfer_must_begin_properly() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let bytes = noise(1, 4 << 20);
        for first in [data(0, 0, &bytes), offer(0, 0, vec![chunk(&bytes)], None)] {
            let (reader, writer) = insider.dial(&node, Purpose::Transfer).await.split();
            let (_, closed) = play(reader, writer, vec![first], s(4)).await;
            assert!(closed);
        }
    });
    is_well(&lan, &mut node, &good);
}

/// Contents that are begun and never ended: memory and descriptors have bounds of the node's own.
#[test]
fn contents_without_end_are_bounded() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let mut peak = 0;
    attack(async {
        let mut held = Vec::new();
        for session in 0..3_u64 {
            let (reader, mut writer) = open_chain(&insider, &node, vec![]).await;
            writer.set_timeout(Some(s(2)));
            for no in 0..1_023_u32 {
                let hash = |n: u64| {
                    let mut hash = [0; 32];
                    hash[..8].copy_from_slice(&(session << 40 | u64::from(no) << 16 | n).to_le_bytes());
                    hash[31] = 1;
                    ChunkHash(hash)
                };
                let chunks = (0..200).map(|n| ChunkRef { hash: hash(n), bytes: 40_000 }).collect();
                let (frame, _) = offer(no, 0, chunks, None);
                if writer.write(&frame, &[]).await.is_err() {
                    break;
                }
            }
            drop(tokio::time::timeout(s(2), writer.flush()).await);
            peak = peak.max(node.descriptors());
            held.push((reader, writer));
        }
        peak = peak.max(node.descriptors());
        is_well_but_for_files(&lan, &mut node);
    });
    assert!(peak < 2_600, "{peak} descriptors for contents that never end");
    is_well(&lan, &mut node, &good);
}

/// It answers; descriptors may be in use while the attack goes on.
fn is_well_but_for_files(lan: &Lan, node: &mut Node) {
    node.is_alive();
    lan.ok(&["status", "--json", "--timeout", "4s"]);
}

/// Offers sent faster than a disk can look at them wait in the sender's socket, not in memory.
#[test]
fn offers_that_wait_for_the_disk_are_bounded() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let before = node.memory_kib();
    attack(async {
        let (reader, mut writer) = open_chain(&insider, &node, vec![]).await;
        writer.set_timeout(Some(s(1)));
        // The same small chunk over and over is looked at again for each place.
        let small = ChunkRef { hash: ChunkHash([9; 32]), bytes: 1 };
        'sending: for no in 0..1_000 {
            for round in 0..20 {
                let chunks = vec![small; OFFER_WINDOW_CHUNKS];
                let (frame, _) = offer(no, round * OFFER_WINDOW_CHUNKS as u32, chunks, None);
                if writer.write(&frame, &[]).await.is_err() {
                    break 'sending;
                }
            }
        }
        let grown = node.memory_kib().saturating_sub(before);
        assert!(grown < 40 << 10, "{grown} KiB more for offers that wait");
        drop(reader);
    });
    is_well(&lan, &mut node, &good);
}

#[test]
fn chains_that_loop_or_go_on_for_ever_are_refused() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    let route = |node: NodeId, tcp| NodeRoute {
        node,
        name: "x".into(),
        machine: MachineId::parse("x").expect("a label"),
        addresses: vec![tcp],
    };
    let mut peak = 0;
    attack(async {
        let itself = route(node.id, node.tcp);
        for onward in [vec![itself.clone()], vec![itself.clone(); 64], vec![itself.clone(); 1_000]] {
            let mut held = Vec::new();
            for _ in 0..8 {
                held.push(open_chain(&insider, &node, onward.clone()).await);
            }
            tokio::time::sleep(ms(700)).await;
            peak = peak.max(node.descriptors());
        }
        let nowhere: Vec<NodeRoute> =
            (0..64).map(|n| route(NodeId([n; 16]), ([192, 0, 2, n], 9).into())).collect();
        let held = open_chain(&insider, &node, nowhere).await;
        is_well(&lan, &mut node, &good);
        drop(held);
    });
    assert!(peak < 120, "{peak} descriptors for chains through the node itself");
    is_well(&lan, &mut node, &good);
}

/// The content of the large file that is there.
async fn large(insider: &Insider, node: &Node) -> (ContentId, u64) {
    let (mut reader, mut writer) = insider.dial(node, Purpose::Command).await.split();
    let selector = Selector::Prefix("good/large".into());
    match crate::attacker::ask(&mut reader, &mut writer, &Request::List { selector, after: None }).await {
        Some(Reply::Rows { rows, .. }) => rows[0].body.content().expect("a file"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn fetches_of_what_is_not_there_are_answered_so() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let (content, size) = large(&insider, &node).await;
        let bytes = |offset, bytes| FetchPart::Bytes { offset, bytes };
        let parts = [
            (content, bytes(size, 1)),
            (content, bytes(size - 1, 2)),
            (content, bytes(u64::MAX, 1)),
            (content, bytes(u64::MAX - 3, 4)),
            (content, bytes(u64::MAX, u32::MAX)),
            (content, bytes(0, u32::MAX)),
            (content, bytes(0, CHUNK_BYTES_MAX as u32 + 1)),
            (content, FetchPart::Page(1)),
            (content, FetchPart::Page(u32::MAX)),
            (ContentId([5; 32]), FetchPart::Root),
            (ContentId([5; 32]), bytes(0, 1)),
            (ContentId::default(), FetchPart::Page(0)),
        ];
        let (mut reader, mut writer) = insider.dial(&node, Purpose::Transfer).await.split();
        for (tag, (content, part)) in (0..).zip(parts) {
            writer.write(&TransferFrame::Fetch { tag, content, part }, &[]).await.expect("asked");
            writer.flush().await.expect("asked");
            match reader.read::<TransferFrame>().await {
                Ok(Some((TransferFrame::Missing { tag: answered, .. }, _))) => assert_eq!(answered, tag),
                other => panic!("{part:?}: {:?}", other.map(|frame| frame.map(|(frame, _)| frame))),
            }
        }
    });
    is_well(&lan, &mut node, &good);
}

/// Readers that ask for all that they may, and never read.
#[test]
fn readers_that_never_read_are_bounded_together() {
    let lan = Lan::open();
    let (mut node, good) = victim(&lan);
    let insider = Insider::new(&lan, lineage_of(&lan, &node));
    attack(async {
        let (content, size) = large(&insider, &node).await;
        let mut held = Vec::new();
        for _ in 0..100 {
            let (reader, mut writer) = insider.dial(&node, Purpose::Transfer).await.split();
            for tag in 0..200 {
                let part = FetchPart::Bytes { offset: 0, bytes: size as u32 };
                writer.set_timeout(Some(ms(300)));
                if writer.write(&TransferFrame::Fetch { tag, content, part }, &[]).await.is_err() {
                    break;
                }
            }
            drop(writer.flush().await);
            held.push((reader, writer));
        }
        tokio::time::sleep(ms(500)).await;
        is_well(&lan, &mut node, &good);
        drop(held);
    });
    is_well(&lan, &mut node, &good);
}
