//! Syncs: one value of everything that has bytes, any value, and what must be refused.

use crate::document::Part;
use crate::generators::{number, text};
use crate::samples::{Sample, X, sample};
use proptest::option;
use proptest::prelude::*;
use thorp::types::{ChunkHash, ChunkRef, ContentId, TreePath, WorkspaceName};
use thorp::wire::message::ErrorCode;
use thorp::wire::run::Denial;
use thorp::wire::sync::{
    Difference, DifferenceKind, IndexRecord, IndexedFile, Placed, Stamp, Surplus, SyncFrame, TreeEntry,
    TreeItem,
};
use thorp::wire::{decode, encode};

const TIME_NS: i64 = 1_750_000_000_000_000_000;

fn path(text: &str) -> TreePath {
    TreePath::parse(text.as_bytes()).expect("a path")
}

// ---- samples ----

pub fn entry() -> Sample<TreeEntry> {
    sample!(TreeEntry { path: path("src/a.rs"), item: items().remove(0).value })
}

pub fn items() -> Vec<Sample<TreeItem>> {
    vec![
        sample!(TreeItem::File { size: 1_000_u64, modified_ns: TIME_NS, mode: 0o644_u16, young: false }),
        sample!(TreeItem::Folder { mode: 0o755_u16 }),
        sample!(TreeItem::Symlink { target: b"../a".to_vec() }),
    ]
}

pub fn frames() -> Vec<Sample<SyncFrame>> {
    let difference = Difference { at: 1, kind: DifferenceKind::Content, holds: Some(X) };
    let old = vec![Surplus { path: path("old"), folder: true }];
    vec![
        sample!(SyncFrame::Open { workspace: WorkspaceName::parse("game").expect("a name") }),
        sample!(SyncFrame::Opened {}),
        sample!(SyncFrame::Denied { why: Denial::NotAllowed }),
        sample!(SyncFrame::Failed { code: ErrorCode::NoSpace, message: Box::<str>::from("disk full") }),
        sample!(SyncFrame::Working {}),
        sample!(SyncFrame::Tree { entries: vec![entry().value] }),
        sample!(SyncFrame::TreeEnd { checksum: false }),
        sample!(SyncFrame::Plan { differences: vec![difference], surplus: old }),
        sample!(SyncFrame::PlanEnd {}),
        sample!(SyncFrame::Contents {}),
        sample!(SyncFrame::Placed { files: vec![Placed { at: 1, content: X, modified_ns: TIME_NS }] }),
        sample!(SyncFrame::Remove { surplus: vec![0_u32] }),
        sample!(SyncFrame::Apply {}),
        sample!(SyncFrame::Problem { path: path("a"), message: Box::<str>::from("not ours") }),
        sample!(SyncFrame::Applied {}),
    ]
}

pub const KINDS: [DifferenceKind; 3] =
    [DifferenceKind::New, DifferenceKind::Content, DifferenceKind::Attributes];

pub fn index_records() -> Vec<Sample<IndexRecord>> {
    let stamp = Stamp { size: 1_000, modified_ns: TIME_NS, changed_ns: TIME_NS, inode: 12 };
    let file = IndexedFile { path: path("a"), stamp, content: X, young: false };
    let chunks = vec![ChunkRef { hash: ChunkHash([0x33; 32]), bytes: 1_000 }];
    let part = |name: &str, bytes: Vec<u8>| -> Vec<Part> { vec![(name.to_owned(), bytes)] };
    vec![
        Sample::new("IndexRecord::File", IndexRecord::File(file.clone()), part("file", encode(&file))),
        Sample::new(
            "IndexRecord::Chunks",
            IndexRecord::Chunks(chunks.clone()),
            part("chunks", encode(&chunks)),
        ),
        Sample::new("IndexRecord::End", IndexRecord::End, Vec::new()),
    ]
}

// ---- generators ----

fn any_path() -> impl Strategy<Value = TreePath> {
    let part = prop::collection::vec(any::<u8>(), 1..20).prop_filter("no part of a path", |part| {
        !part.iter().any(|byte| matches!(byte, 0 | b'/')) && !matches!(part.as_slice(), b"." | b"..")
    });
    prop::collection::vec(part, 1..6).prop_map(|parts| TreePath::parse(&parts.join(&b'/')).expect("a path"))
}

fn any_content() -> impl Strategy<Value = ContentId> {
    any::<[u8; 32]>().prop_map(ContentId)
}

fn any_item() -> impl Strategy<Value = TreeItem> {
    prop_oneof![
        (number(), any::<i64>(), any::<u16>(), any::<bool>())
            .prop_map(|(size, modified_ns, mode, young)| TreeItem::File { size, modified_ns, mode, young }),
        any::<u16>().prop_map(|mode| TreeItem::Folder { mode }),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|target| TreeItem::Symlink { target }),
    ]
}

pub fn any_frame() -> impl Strategy<Value = SyncFrame> {
    let entry = (any_path(), any_item()).prop_map(|(path, item)| TreeEntry { path, item });
    let kind = prop::sample::select(KINDS.to_vec());
    let difference = (any::<u32>(), kind, option::of(any_content()))
        .prop_map(|(at, kind, holds)| Difference { at, kind, holds });
    let surplus = (any_path(), any::<bool>()).prop_map(|(path, folder)| Surplus { path, folder });
    let placed = (any::<u32>(), any_content(), any::<i64>()).prop_map(|(at, content, modified_ns)| Placed {
        at,
        content,
        modified_ns,
    });
    prop_oneof![
        prop::collection::vec(entry, 0..4).prop_map(|entries| SyncFrame::Tree { entries }),
        (prop::collection::vec(difference, 0..4), prop::collection::vec(surplus, 0..4))
            .prop_map(|(differences, surplus)| SyncFrame::Plan { differences, surplus }),
        prop::collection::vec(placed, 0..4).prop_map(|files| SyncFrame::Placed { files }),
        prop::collection::vec(any::<u32>(), 0..4).prop_map(|surplus| SyncFrame::Remove { surplus }),
        (any_path(), text()).prop_map(|(path, message)| SyncFrame::Problem { path, message }),
    ]
}

// ---- what must be refused ----

#[test]
fn paths_and_names_that_lead_out_do_not_come_out_of_a_frame() {
    let problem = |path: &[u8]| decode::<SyncFrame>(&[vec![13], encode(&path), encode(&"")].concat()).is_ok();
    assert!(problem(b"a/b") && problem(b"\xff") && problem(b"..."));
    for wrong in [b"".as_slice(), b"/a", b"a/", b"a//b", b".", b"..", b"a/../b", b"a\0b", &[b'a'; 256]] {
        assert!(!problem(wrong), "{wrong:?}");
    }
    let open = |name: &str| decode::<SyncFrame>(&[vec![0], encode(&name)].concat()).is_ok();
    assert!(open("game") && !open("..") && !open(".thorp") && !open("a/b") && !open(""));
}
