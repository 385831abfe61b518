//! Syncs with somebody who means harm: a command that sends what no honest one does, and programs
//! that leave traps in a workspace. Nothing outside the workspace may be read, written or changed.

use crate::disks::random_bytes;
use crate::sync::{KEY, Remote, tree, write};
use crate::village::Village;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use thorp::client::{Access, Session};
use thorp::identity::ClusterSecret;
use thorp::limits::{PORT_DEFAULT, SYNC_ENTRIES_MAX};
use thorp::remote::hashing::hash;
use thorp::transfer::connection::{FrameReader, FrameWriter, dial_any};
use thorp::types::{ContentId, MachineId, TreePath, WorkspaceName};
use thorp::wire::message::Purpose;
use thorp::wire::sync::{Placed, SyncFrame, TreeEntry, TreeItem};
use thorp::wire::transfer::{ContentEnd, TransferFrame};
use thorp::wire::{Decode, Encode, encode};

fn session(village: &Village) -> Session {
    let access = Access {
        data_dir: village.path("client"),
        cluster: village.cluster().to_owned(),
        secret: ClusterSecret::from_text(KEY, "a test").expect("a key"),
        bind: Some([127, 0, 0, 1].into()),
        port: PORT_DEFAULT,
        peers: Vec::new(),
        timeout: Duration::from_secs(5),
        machine: MachineId::parse("attacker").expect("a label"),
    };
    Session::new(access).expect("a session")
}

/// A connection for a sync on which anything can be said.
struct Line {
    reader: FrameReader,
    writer: FrameWriter,
}

impl Line {
    async fn open(remote: &Remote) -> Line {
        let session = session(&remote.village);
        let address = remote.node.tcp.parse().expect("an address");
        let dialled = dial_any(&[address], session.endpoint(), Purpose::Sync, None).await;
        let (reader, writer) = dialled.expect("a connection").split();
        let mut line = Line { reader, writer };
        let workspace = WorkspaceName::parse("w").expect("a name");
        line.say(&SyncFrame::Open { workspace }).await;
        assert_eq!(line.hear().await, Some(SyncFrame::Opened));
        line
    }

    async fn say<T: Encode>(&mut self, frame: &T) {
        let _ = self.writer.write(frame, &[]).await;
        let _ = self.writer.flush().await;
    }

    /// The next frame; `None` if the connection was closed.
    async fn hear_as<T: Decode<()>>(&mut self) -> Option<T> {
        self.reader.set_timeout(Some(Duration::from_secs(20)));
        self.reader.read::<T>().await.ok().flatten().map(|(frame, _)| frame)
    }

    async fn hear(&mut self) -> Option<SyncFrame> {
        loop {
            match self.hear_as().await {
                Some(SyncFrame::Working) => {}
                frame => return frame,
            }
        }
    }

    /// What is said of contents but for what is needed.
    async fn verdict(&mut self) -> Option<TransferFrame> {
        loop {
            match self.hear_as().await {
                Some(TransferFrame::Need { .. } | TransferFrame::Working) => {}
                frame => return frame,
            }
        }
    }

    async fn tree(&mut self, entries: Vec<TreeEntry>) -> Option<SyncFrame> {
        self.say(&SyncFrame::Tree { entries }).await;
        self.say(&SyncFrame::TreeEnd { checksum: false }).await;
        loop {
            match self.hear().await {
                Some(SyncFrame::Plan { .. }) => {}
                frame => return frame,
            }
        }
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn entry(path: &str, item: TreeItem) -> TreeEntry {
    TreeEntry { path: TreePath::parse(path.as_bytes()).expect("a path"), item }
}

fn file(path: &str) -> TreeEntry {
    entry(path, TreeItem::File { size: 5, modified_ns: 7, mode: 0o644, young: false })
}

fn folder(path: &str) -> TreeEntry {
    entry(path, TreeItem::Folder { mode: 0o755 })
}

fn link(path: &str, target: &str) -> TreeEntry {
    entry(path, TreeItem::Symlink { target: target.into() })
}

fn is_refused(answer: &Option<SyncFrame>) -> bool {
    matches!(answer, None | Some(SyncFrame::Failed { .. }))
}

/// Works still: the node lives, and takes an honest sync.
#[track_caller]
fn assert_alive(remote: &Remote) {
    write(&remote.source().join("honest"), b"honest");
    remote.synced(&[]);
    assert_eq!(fs::read(remote.workspace("w").join("honest")).expect("bytes"), b"honest");
}

#[test]
fn trees_that_lead_out_are_refused() {
    let remote = Remote::new();
    let trees = [
        vec![link("out", "/tmp")],
        vec![link("out", "..")],
        vec![folder("a"), link("a/out", "../../x")],
        vec![link("a", "b"), file("a/x")],
        vec![file("a/x")],
        vec![file("b"), file("a")],
        vec![file("a"), file("a")],
        vec![file("a"), file("a/b")],
    ];
    for tree in trees {
        let said = format!("{tree:?}");
        let answer = run(async { Line::open(&remote).await.tree(tree).await });
        assert!(matches!(answer, Some(SyncFrame::Failed { .. })), "{said}: {answer:?}");
    }
    // Paths that are none do not even come out of the frame: a right one is exchanged for them.
    for wrong in ["../../x", "/etc/ab", "a//bcde", "./abcde", "a/../bc", "abcde/."] {
        let frame = encode(&SyncFrame::Tree { entries: vec![file("PLACE_X")] });
        let at = frame.windows(7).position(|part| part == b"PLACE_X").expect("the path");
        let mut bytes = frame.clone();
        bytes[at..at + 7].copy_from_slice(wrong.as_bytes());
        assert!(thorp::wire::decode::<SyncFrame>(&bytes).is_err(), "{wrong}");
    }
    assert_alive(&remote);
}

#[test]
fn more_than_there_may_be_is_refused() {
    let remote = Remote::new();
    let refused = run(async {
        let mut line = Line::open(&remote).await;
        let mut number = 0;
        while number <= SYNC_ENTRIES_MAX {
            let entries = (number..number + 8_192).map(|number| file(&format!("{number:08}"))).collect();
            number += 8_192;
            if line.writer.write(&SyncFrame::Tree { entries }, &[]).await.is_err() {
                break;
            }
        }
        let _ = line.writer.flush().await;
        is_refused(&line.hear().await)
    });
    assert!(refused);
    assert_alive(&remote);
}

#[test]
fn contents_that_are_not_what_they_are_called_never_arrive() {
    let remote = Remote::new();
    write(&remote.source().join("a"), b"right");
    remote.synced(&[]);
    let bytes = random_bytes(100_000, 5);
    let hashed = hash(&mut bytes.as_slice(), &mut Vec::new()).expect("bytes");
    let wrong = ContentId([9; 32]);
    let offer = |content, size| TransferFrame::Offer {
        content_no: 0,
        first: 0,
        chunks: hashed.chunks.clone(),
        end: Some(ContentEnd { content, size }),
    };
    let first = hashed.chunks[0].bytes as usize;
    let mut false_bytes = bytes[..first].to_vec();
    false_bytes[0] ^= 1;
    let lies: Vec<(&str, TransferFrame, Vec<u8>)> = vec![
        ("a false chunk", offer(hashed.content, hashed.size), false_bytes),
        ("a short chunk", offer(hashed.content, hashed.size), bytes[..10].to_vec()),
    ];
    for (what, offer, payload) in lies {
        let answer = run(async {
            let mut line = contents(&remote).await;
            line.say(&offer).await;
            let _ = line.writer.write(&TransferFrame::Chunk { content_no: 0, index: 0 }, &payload).await;
            let _ = line.writer.flush().await;
            line.verdict().await
        });
        assert!(matches!(answer, Some(TransferFrame::Failed { .. })), "{what}: {answer:?}");
    }
    for (what, content, size) in
        [("a false id", wrong, hashed.size), ("a false size", hashed.content, hashed.size + 1)]
    {
        let answer = run(async {
            let mut line = contents(&remote).await;
            line.say(&offer(content, size)).await;
            let mut rest = bytes.as_slice();
            for (index, chunk) in (0..).zip(&hashed.chunks) {
                let (payload, after) = rest.split_at(chunk.bytes as usize);
                rest = after;
                let _ = line.writer.write(&TransferFrame::Chunk { content_no: 0, index }, payload).await;
            }
            let _ = line.writer.flush().await;
            line.verdict().await
        });
        assert!(matches!(answer, Some(TransferFrame::Failed { .. })), "{what}: {answer:?}");
    }
    // A content that did not come is not put in place; removing is by position in what was listed.
    let answer = run(async {
        let mut line = Line::open(&remote).await;
        line.tree(vec![file("a")]).await;
        let placed = Placed { at: 0, content: wrong, modified_ns: 7 };
        line.say(&SyncFrame::Placed { files: vec![placed] }).await;
        line.say(&SyncFrame::Apply).await;
        (line.hear().await, line.hear().await)
    });
    assert!(matches!(answer, (Some(SyncFrame::Problem { .. }), Some(SyncFrame::Applied))), "{answer:?}");
    let answer = run(async {
        let mut line = Line::open(&remote).await;
        line.tree(vec![file("a")]).await;
        line.say(&SyncFrame::Remove { surplus: vec![0, 1, u32::MAX] }).await;
        line.hear().await
    });
    assert!(is_refused(&answer), "{answer:?}");
    assert_eq!(fs::read(remote.workspace("w").join("a")).expect("bytes"), b"right");
    assert_alive(&remote);
}

/// A line on which contents are expected.
async fn contents(remote: &Remote) -> Line {
    let mut line = Line::open(remote).await;
    assert_eq!(line.tree(vec![file("new")]).await, Some(SyncFrame::PlanEnd));
    line.say(&SyncFrame::Contents).await;
    line
}

#[test]
fn traps_in_a_workspace_catch_nothing() {
    let remote = Remote::new();
    let (source, there) = (remote.source(), remote.workspace("w"));
    for name in ["a/file", "b/c/file", "plain", "mode", "pipe", "folder", "linked/x"] {
        write(&source.join(name), name.as_bytes());
    }
    remote.synced(&[]);
    let outside = remote.village.path("outside");
    for name in ["file", "c/file", "plain", "x", "kept"] {
        write(&outside.join(name), b"of somebody else");
    }
    fs::set_permissions(outside.join("plain"), Permissions::from_mode(0o640)).expect("permissions");
    let snapshot = || (tree(&outside), fs::metadata(&outside).expect("it").mode());
    let before = snapshot();
    let change = |name: &str| write(&source.join(name), format!("{name} anew").as_bytes());

    // Folders and files became links that lead out; one is a second name of a file outside.
    for (name, target) in [("a", ""), ("b/c", "c"), ("plain", "plain"), ("linked", "")] {
        let trap = there.join(name);
        if trap.is_dir() {
            fs::remove_dir_all(&trap).expect("removed");
        } else {
            fs::remove_file(&trap).expect("removed");
        }
        symlink(outside.join(target), trap).expect("a trap");
    }
    fs::remove_file(there.join("mode")).expect("removed");
    fs::hard_link(outside.join("plain"), there.join("mode")).expect("a second name");
    fs::set_permissions(source.join("mode"), Permissions::from_mode(0o777)).expect("permissions");
    fs::remove_file(there.join("pipe")).expect("removed");
    assert!(Command::new("mkfifo").arg(there.join("pipe")).status().expect("started").success());
    fs::remove_file(there.join("folder")).expect("removed");
    write(&there.join("folder/with/much/in/it"), b"x");
    symlink(&outside, there.join("junk")).expect("a trap");
    // Deeper than any path may be.
    make_deep(&there, 400);
    for name in ["a/file", "b/c/file", "plain", "pipe"] {
        change(name);
    }
    let dry = remote.synced(&["--delete", "--dry-run"]);
    assert!(!dry["changes"].as_array().expect("changes").is_empty());
    assert_eq!(snapshot(), before);
    let synced = remote.synced(&["--delete"]);
    assert_eq!(snapshot(), before, "something outside was changed: {synced}");
    assert_eq!(synced["failed"], serde_json::json!([]), "{synced}");
    assert_eq!(tree(&there), tree(&source));

    // The workspace itself, and what is ours beside it.
    fs::remove_dir_all(&there).expect("removed");
    symlink(&outside, &there).expect("a trap");
    let refused = remote.refused(&["--delete"], 1);
    assert_eq!(snapshot(), before, "{refused:?}");
    fs::remove_file(&there).expect("removed");
    assert_alive(&remote);
    assert_eq!(snapshot(), before);
}

/// A nest of so many folders, made from inside.
fn make_deep(top: &Path, depth: usize) {
    let script =
        format!("i=0; while [ $i -lt {depth} ]; do mkdir -p nest && cd nest; i=$((i+1)); done; echo x > end");
    let made = Command::new("sh").arg("-c").arg(script).current_dir(top).status().expect("started");
    assert!(made.success());
}

#[test]
fn a_workspace_has_no_name_that_leads_out() {
    for wrong in ["..", ".thorp", "a/b", "", ".", "/etc"] {
        let open = [vec![0], encode(&wrong)].concat();
        assert!(thorp::wire::decode::<SyncFrame>(&open).is_err(), "{wrong}");
    }
    let right = [vec![0], encode(&"game")].concat();
    assert!(thorp::wire::decode::<SyncFrame>(&right).is_ok());
}
