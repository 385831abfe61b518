//! Folders made equal on another machine, with real processes.

use crate::disks::{MIB, random_bytes, random_file};
use crate::process::{Output, Process, s, wait_until};
use crate::village::{Failure, Node, Village, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

pub const KEY: &str = "six words that nobody else knows";

/// A node that takes folders, and somebody who has the key.
pub struct Remote {
    pub village: Village,
    pub key: String,
    pub node: Node,
}

impl Remote {
    pub fn new() -> Remote {
        let village = Village::new();
        let key = village.path("key");
        fs::write(&key, KEY).expect("a key");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("its permissions");
        let key = text(&key).to_owned();
        let node = village.start_node("far", &["--key-file", &key, "--allow-run"]).ready();
        Remote { village, key, node }
    }

    pub fn source(&self) -> PathBuf {
        self.village.path("source")
    }

    /// The folder of a workspace there.
    pub fn workspace(&self, name: &str) -> PathBuf {
        self.node.data.join("workspaces").join(name)
    }

    pub fn start(&self, options: &[&str]) -> Process {
        let source = self.source();
        let args = ["sync", text(&source), "far:w", "--key-file", &self.key];
        self.village.start(&[&args, options].concat())
    }

    #[track_caller]
    pub fn sync(&self, options: &[&str]) -> Output {
        self.start(options).wait(s(60))
    }

    /// Syncs; gives what it says.
    #[track_caller]
    pub fn synced(&self, options: &[&str]) -> Value {
        self.sync(&[options, &["--json"]].concat()).ended(0).json()
    }

    #[track_caller]
    pub fn refused(&self, options: &[&str], code: i32) -> Failure {
        Failure::read(&self.sync(&[options, &["--json"]].concat()).ended(code))
    }

    #[track_caller]
    fn assert_equal(&self) {
        assert_eq!(tree(&self.workspace("w")), tree(&self.source()));
    }
}

/// All that is to be equal: bytes, permissions, times of files, targets of links.
pub fn tree(top: &Path) -> BTreeMap<PathBuf, (u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let data = fs::symlink_metadata(&path).expect("what it is");
            let time = data.mtime() * 1_000_000_000 + data.mtime_nsec();
            let found = if data.is_dir() {
                folders.push(path.clone());
                (data.mode(), 0, Vec::new())
            } else if data.is_symlink() {
                (0, 0, fs::read_link(&path).expect("a target").as_os_str().as_bytes().to_vec())
            } else {
                (data.mode(), time, fs::read(&path).expect("bytes"))
            };
            all.insert(path.strip_prefix(top).expect("below").to_owned(), found);
        }
    }
    all
}

/// Makes a file as old as a file is that nobody has changed lately.
pub fn age(path: &Path) {
    let file = fs::File::options().append(true).open(path).expect("a file");
    let lately = fs::metadata(path).expect("what it is").modified().expect("its time");
    file.set_modified(lately - s(100)).expect("its time");
}

pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, bytes).expect("a file");
    age(path);
}

fn changes(synced: &Value) -> Vec<(String, String)> {
    let rows = synced["changes"].as_array().expect("changes");
    let row = |row: &Value| {
        let word = |key: &str| row[key].as_str().expect("a word").to_owned();
        (word("path"), word("change"))
    };
    rows.iter().map(row).collect()
}

fn sent(synced: &Value) -> u64 {
    synced["sent_bytes"].as_u64().expect("bytes")
}

/// A folder with one of everything.
fn make_source(top: &Path) {
    random_file(&top.join("big"), 9 * MIB, 1);
    age(&top.join("big"));
    for number in 0..40 {
        write(&top.join(format!("deep/er/{number}")), &random_bytes(100 * number, number + 2));
    }
    write(&top.join("program"), b"#!/bin/sh\n");
    fs::set_permissions(top.join("program"), Permissions::from_mode(0o755)).expect("permissions");
    write(&top.join("closed/file"), b"x");
    fs::set_permissions(top.join("closed/file"), Permissions::from_mode(0o400)).expect("permissions");
    fs::create_dir(top.join("empty")).expect("a folder");
    write(&top.join("no bytes"), b"");
    write(&top.join(OsStr::from_bytes(b"not \xff UTF-8\n")), b"y");
    write(&top.join(".hidden"), b"z");
    symlink("../big", top.join("deep/link")).expect("a link");
    symlink("nowhere", top.join("dangling")).expect("a link");
    fs::set_permissions(top.join("closed"), Permissions::from_mode(0o500)).expect("permissions");
}

#[test]
fn a_folder_arrives_as_it_is_and_what_is_there_does_not_travel_again() {
    let remote = Remote::new();
    let source = remote.source();
    make_source(&source);
    let first = remote.synced(&[]);
    remote.assert_equal();
    assert!(sent(&first) >= 9 * MIB, "{first}");
    assert_eq!(first["failed"], serde_json::json!([]), "{first}");

    let again = remote.synced(&[]);
    assert_eq!((changes(&again).len(), sent(&again)), (0, 0), "{again}");

    // Moved, copied, and moved over each other.
    fs::rename(source.join("big"), source.join("moved")).expect("moved");
    fs::copy(source.join("moved"), source.join("deep/copy")).expect("copied");
    let moved = remote.synced(&["--delete"]);
    remote.assert_equal();
    assert_eq!(sent(&moved), 0, "{moved}");
    assert_eq!(moved["reused_bytes"].as_u64(), Some(18 * MIB), "{moved}");

    // A change in the middle of a large file.
    let mut bytes = fs::read(source.join("moved")).expect("bytes");
    bytes[5_000_000] ^= 1;
    fs::write(source.join("moved"), bytes).expect("written");
    let changed = remote.synced(&["--delete"]);
    remote.assert_equal();
    assert!(sent(&changed) > 0 && sent(&changed) <= 5 * MIB, "{changed}");
    assert_eq!(changes(&changed), [("moved".to_owned(), "changed".to_owned())]);

    // A change that neither size nor time shows.
    write(&source.join("program"), b"#!/bin/ab\n");
    let old = fs::metadata(remote.workspace("w").join("program")).expect("there");
    let file = fs::File::options().append(true).open(source.join("program")).expect("a file");
    file.set_modified(old.modified().expect("a time")).expect("the same time");
    assert_eq!(changes(&remote.synced(&[])).len(), 0);
    let by_bytes = remote.synced(&["--checksum"]);
    assert_eq!(changes(&by_bytes), [("program".to_owned(), "changed".to_owned())]);
    remote.assert_equal();

    // Permissions alone; and what somebody changed there is put right.
    fs::set_permissions(source.join("program"), Permissions::from_mode(0o711)).expect("permissions");
    fs::write(remote.workspace("w").join("no bytes"), b"not").expect("written");
    let put_right = remote.synced(&[]);
    remote.assert_equal();
    let expected = [("no bytes", "changed"), ("program", "attributes")];
    assert_eq!(changes(&put_right), expected.map(|(path, change)| (path.to_owned(), change.to_owned())));
}

#[test]
fn equal_files_travel_once_even_the_first_time() {
    let remote = Remote::new();
    for name in ["a", "b", "c/d"] {
        random_file(&remote.source().join(name), 3 * MIB, 7);
    }
    write(&remote.source().join("zeros"), &vec![0; 12 << 20]);
    let first = remote.synced(&[]);
    remote.assert_equal();
    // Once the 3 MiB, and one each of the chunks of zeros: 256 KiB, 4 MiB and the last.
    assert!(sent(&first) < 8 * MIB, "{first}");
}

#[test]
fn only_what_nobody_wants_to_keep_is_removed() {
    let remote = Remote::new();
    let (source, there) = (remote.source(), remote.workspace("w"));
    write(&source.join(".gitignore"), b"*.log\n/out/\n!keep.log\n");
    write(&source.join("sub/.thorpignore"), b"cache\n");
    for name in
        ["a", "b", "x.log", "keep.log", "out/file", "sub/cache/file", "sub/b", ".git/config", "gone/c"]
    {
        write(&source.join(name), name.as_bytes());
    }
    remote.synced(&[]);
    let names = |top: &Path| tree(top).into_keys().map(|path| text(&path).to_owned()).collect::<Vec<_>>();
    let come = [".gitignore", "a", "b", "gone", "gone/c", "keep.log", "sub", "sub/.thorpignore", "sub/b"];
    assert_eq!(names(&there), come);
    // What programs wrote there, ignored and not; and what is gone here.
    for name in ["run.log", "out/made", "sub/cache/made", "gone/kept.log", "junk/deep/file", "b.tmp"] {
        write(&there.join(name), b"made there");
    }
    fs::remove_dir_all(source.join("gone")).expect("removed");
    fs::remove_file(source.join("b")).expect("removed");
    assert_eq!(changes(&remote.synced(&[])).len(), 0, "nothing is removed unasked");
    let before = tree(&there);
    let dry = remote.synced(&["--delete", "--dry-run"]);
    assert_eq!(tree(&there), before, "a dry run changes nothing");
    let done = remote.synced(&["--delete"]);
    assert_eq!(changes(&done), changes(&dry), "what was said is what is done");
    let removed: Vec<String> = changes(&done).into_iter().map(|(path, _)| path).collect();
    assert_eq!(removed, ["b", "b.tmp", "gone/c", "junk", "junk/deep", "junk/deep/file"]);
    for kept in ["run.log", "out/made", "sub/cache/made", "gone/kept.log", "a"] {
        assert!(there.join(kept).exists(), "{kept}");
    }
    let all = remote.synced(&["--no-ignore", "--delete"]);
    remote.assert_equal();
    assert!(there.join(".git/config").exists(), "{all}");
}

#[test]
fn an_emptied_source_is_not_spread() {
    let remote = Remote::new();
    write(&remote.source().join("a/file"), b"x");
    remote.synced(&[]);
    fs::remove_dir_all(remote.source()).expect("removed");
    let missing = remote.refused(&["--delete"], 4);
    assert!(missing.message.contains("source"), "{missing:?}");
    fs::create_dir_all(remote.source().join("a")).expect("a folder");
    let refused = remote.refused(&["--delete"], 1);
    assert_eq!(refused.code, "emptied");
    assert!(refused.hint.contains("--force"), "{refused:?}");
    assert!(remote.workspace("w").join("a/file").exists());
    remote.synced(&["--delete", "--force"]);
    remote.assert_equal();
}

#[test]
fn what_cannot_come_is_named_and_stays_there() {
    let remote = Remote::new();
    let source = remote.source();
    write(&source.join("a"), b"x");
    symlink("/etc/passwd", source.join("absolute")).expect("a link");
    symlink("../a", source.join("above")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        source.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .expect("a pipe");
    write(&remote.workspace("w").join("above"), b"of the same name");
    let synced = remote.synced(&["--delete"]);
    let skipped: Vec<&str> =
        synced["skipped"].as_array().expect("a list").iter().filter_map(|row| row["path"].as_str()).collect();
    for name in ["absolute", "above", "pipe"] {
        assert!(skipped.iter().any(|path| path.ends_with(name)), "{name}: {synced}");
    }
    assert!(remote.workspace("w").join("above").is_file(), "it is here, so it is not removed there");
    assert!(!remote.workspace("w").join("absolute").exists());
}

#[test]
fn a_sync_that_is_cut_short_leaves_what_was_and_goes_on() {
    let mut remote = Remote::new();
    let source = remote.source();
    write(&source.join("old"), b"old");
    remote.synced(&[]);
    write(&source.join("old"), b"new");
    random_file(&source.join("zz"), 400 * MIB, 3);
    let staging = remote.node.data.join("workspaces/.thorp/w/staging");
    for round in 0..2 {
        let mut cut = remote.start(&[]);
        let arrived = || crate::disks::files_under(&staging).values().sum::<u64>();
        wait_until(s(60), "some of it has arrived", || {
            let (arrived, code) = (arrived(), cut.code());
            assert_eq!(code, None, "it was to be cut short: {}", cut.stderr());
            if arrived > (60 + 60 * round) * MIB { Ok(()) } else { Err(format!("{arrived} bytes")) }
        });
        // Once the command goes, once the node.
        if round == 0 {
            cut.kill9();
        } else {
            remote.node.kill9();
        }
        drop(cut);
        assert_eq!(tree(&remote.workspace("w")).len(), 1, "nothing half written is to be seen");
        assert_eq!(fs::read(remote.workspace("w").join("old")).expect("bytes"), b"old");
    }
    remote.node = remote.village.start_node("far", &["--key-file", &remote.key, "--allow-run"]).ready();
    let done = remote.synced(&["--timeout", "30s"]);
    remote.assert_equal();
    assert!(sent(&done) < 350 * MIB, "it goes on from where it was: {done}");
    assert_eq!(crate::disks::files_under(&staging).len(), 0, "nothing is left behind");
}

#[test]
fn two_syncs_of_one_workspace_do_not_meet() {
    let remote = Remote::new();
    make_source(&remote.source());
    let mut all: Vec<Process> = (0..4).map(|_| remote.start(&[])).collect();
    for sync in &mut all {
        sync.wait(s(60)).ended(0);
    }
    remote.assert_equal();
    // One that never ends is waited for a while only.
    let lock = remote.node.data.join("workspaces/.thorp/w/lock");
    let lock = fs::File::open(lock).expect("the lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let refused = remote.refused(&[], 1);
    assert!(refused.message.contains("another sync"), "{refused:?}");
}

#[test]
fn who_may_not_is_told_what_is_missing() {
    let mut village = Village::new();
    let source = village.path("source");
    write(&source.join("a"), b"x");
    let key = village.path("key");
    fs::write(&key, KEY).expect("a key");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("permissions");
    let key = text(&key).to_owned();
    village.add("open", &["--allow-run"]);
    let failure = village.fails(&["sync", text(&source), "open"], 6);
    assert!(failure.message.contains("no key") && failure.hint.contains("--key-file"), "{failure:?}");
    assert!(!village.data("open").join("workspaces").exists(), "nothing is touched");
    let failure = village.fails(&["sync", text(&source), "nobody"], 4);
    assert!(failure.message.contains("nobody"), "{failure:?}");
    village.nodes.clear();

    village.add("far", &["--key-file", &key]);
    let failure = village.fails(&["sync", text(&source), "far", "--key-file", &key], 6);
    assert!(failure.hint.contains("--allow-run"), "{failure:?}");
    let failure = village.fails(&["sync", text(&source), "far"], 6);
    assert!(failure.hint.contains("key"), "{failure:?}");
    village.nodes.clear();

    let options = ["--key-file", &key, "--allow-run", "--run-from", "10.77.0.0/16"];
    village.add("far", &options);
    let failure = village.fails(&["sync", text(&source), "far", "--key-file", &key], 6);
    assert!(failure.hint.contains("run_from"), "{failure:?}");
}

#[test]
fn a_watched_folder_stays_equal_also_when_the_machine_was_away() {
    let mut remote = Remote::new();
    let source = remote.source();
    write(&source.join("a"), b"one");
    let there = remote.workspace("w");
    let mut watching = remote.start(&["--watch", "--delete", "--timeout", "2s"]);
    let mut arrives = |name: &str, bytes: Option<&[u8]>, line: &str| {
        wait_until(s(40), &format!("{name} is there"), || {
            assert_eq!(watching.code(), None, "{}", watching.stderr());
            let read = fs::read(there.join(name)).ok();
            let said = String::from_utf8_lossy(&watching.stdout()).into_owned();
            let told = said.lines().any(|said| said == line);
            if told && read.as_deref() == bytes { Ok(()) } else { Err(format!("{read:?} {said}")) }
        });
    };
    arrives("a", Some(b"one"), "+ a");
    fs::write(source.join("a"), b"two").expect("written");
    arrives("a", Some(b"two"), "~ a");
    fs::create_dir_all(source.join("new/folder")).expect("folders");
    fs::write(source.join("new/folder/b"), b"three").expect("written");
    arrives("new/folder/b", Some(b"three"), "+ new/folder/b");
    remote.node.kill9();
    fs::write(source.join("a"), b"four").expect("written");
    fs::remove_dir_all(source.join("new")).expect("removed");
    remote.node = remote.village.start_node("far", &["--key-file", &remote.key, "--allow-run"]).ready();
    arrives("a", Some(b"four"), "~ a");
    arrives("new/folder/b", None, "- new/folder/b");
}
