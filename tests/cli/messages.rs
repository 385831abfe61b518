//! Commands that read the folders of messages and need no node.

use super::{Ended, document, home, run, thorp};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const A: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";
const B: &str = "6f9619aa-8b86-4011-b42d-00c04fc964ff";

/// The folders as a node makes them.
fn folders(home: &Path) -> PathBuf {
    let root = home.join("data/messages");
    for name in ["outbox", "inbox/.hooks", "sent", "failed/.hooks", "hooks", ".staged", ".pending"] {
        fs::create_dir_all(root.join(name)).expect("made");
    }
    root
}

fn file_name(second: u8, id: &str) -> String {
    format!("20240229T1200{second:02}.000001Z_{id}.json")
}

/// A message as a node writes it.
fn put(root: &Path, folder: &str, second: u8, id: &str) -> String {
    let name = file_name(second, id);
    let text = format!(
        r#"{{"id":"{id}","type":"hello","source":"nas","target":null,"priority":"normal",
        "created_at":"2024-02-29T12:00:{second:02}.000001Z","expires_at":"2024-03-07T12:00:00.000000Z","payload":{{"n":{second}}}}}"#
    );
    fs::write(root.join(folder).join(&name), text).expect("written");
    name
}

fn asked(home: &Path, typed: &[&str]) -> Ended {
    run(thorp(home).args(["--data-dir", "data"]).args(typed))
}

#[test]
fn without_folders_there_is_nothing_and_nothing_is_made() {
    let home = home();
    for typed in [&["inbox"][..], &["inbox", "--ack"], &["list", "failed"], &["retry"]] {
        let ended = asked(home.path(), typed);
        assert_eq!((ended.code, &*ended.output), (0, ""), "{typed:?}: {}", ended.errors);
        assert!(ended.errors.starts_with("note: "), "{}", ended.errors);
    }
    assert_eq!(document(&asked(home.path(), &["inbox", "--json"])), serde_json::json!([]));
    assert_eq!(document(&asked(home.path(), &["retry", "--json"]))["retried"], serde_json::json!([]));
    assert_eq!(document(&asked(home.path(), &["flush", "sent", "--json"]))["removed"], 0);
    assert!(!home.path().join("data").exists());
}

#[test]
fn the_inbox_shows_messages_in_order_and_how_their_hooks_ended() {
    let home = home();
    let root = folders(home.path());
    let second = put(&root, "inbox", 2, B);
    put(&root, "inbox", 1, A);
    let record = r#"{"state":"done","attempts":[{"started_at":"2024-02-29T12:00:03.000000Z","duration_ms":12,"exit":0,"signal":null,"error":null,"output":"fine\n"}]}"#;
    fs::write(root.join("inbox/.hooks").join(second), record).expect("written");
    let rows = document(&asked(home.path(), &["inbox", "--json"]));
    assert_eq!((&rows[0]["id"], &rows[1]["id"]), (&A.into(), &B.into()));
    assert_eq!((&rows[0]["payload"]["n"], &rows[0]["hook"]), (&1.into(), &serde_json::Value::Null));
    assert_eq!(
        (&rows[1]["hook"]["state"], &rows[1]["hook"]["attempts"][0]["output"]),
        (&"done".into(), &"fine\n".into())
    );
    let table = asked(home.path(), &["inbox"]).output;
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[1].contains("6f9619ff") && lines[1].contains(r#"{"n":1}"#) && lines[1].contains("nas"),
        "{table}"
    );
    assert!(lines[2].contains("done: exit code 0, 12 ms"), "{table}");
}

#[test]
fn what_was_shown_is_removed_but_not_what_waits_for_its_hook() {
    let home = home();
    let root = folders(home.path());
    let done = put(&root, "inbox", 1, A);
    let waits = put(&root, "inbox", 2, B);
    fs::write(root.join("inbox/.hooks").join(&done), r#"{"state":"done"}"#).expect("written");
    fs::write(root.join(".pending").join(&waits), r#"{"state":"running"}"#).expect("written");
    let ended = asked(home.path(), &["inbox", "--ack"]);
    assert_eq!(ended.code, 0, "{}", ended.errors);
    assert!(ended.output.contains("running") && ended.errors.contains("1 stay"), "{}", ended.errors);
    assert!(!root.join("inbox").join(&done).exists() && !root.join("inbox/.hooks").join(&done).exists());
    assert!(root.join("inbox").join(&waits).exists());
    fs::remove_file(root.join(".pending").join(&waits)).expect("removed");
    assert_eq!(document(&asked(home.path(), &["inbox", "--ack", "--json"]))[0]["id"], B);
    assert_eq!(document(&asked(home.path(), &["inbox", "--json"])), serde_json::json!([]));
}

#[test]
fn the_inbox_is_followed() {
    let home = home();
    let root = folders(home.path());
    let first = put(&root, "inbox", 1, A);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_thorp"))
        .args(["--data-dir", "data", "inbox", "--follow", "--ack", "--json"])
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || {
        let line = lines.next().expect("a line").expect("read");
        serde_json::from_str::<serde_json::Value>(&line).expect("one document a line")
    };
    assert_eq!(next()["id"], A);
    // As a node does it: whole, by renaming.
    let second = put(&root, ".staged", 2, B);
    fs::rename(root.join(".staged").join(&second), root.join("inbox").join(&second)).expect("renamed");
    assert_eq!(next()["id"], B);
    assert!(!root.join("inbox").join(&first).exists(), "it was shown before the second");
    child.kill().expect("ended");
    child.wait().expect("reaped");
}

#[test]
fn failed_messages_have_their_reasons_and_are_tried_again() {
    let home = home();
    let root = folders(home.path());
    let hooked = put(&root, "failed", 1, A);
    put(&root, "failed", 2, B);
    fs::write(root.join("failed").join("odd.json"), "{\"type\":").expect("written");
    fs::write(root.join("failed").join("odd.json.reason"), "it is no JSON\n").expect("written");
    fs::write(root.join("failed/.hooks").join(&hooked), r#"{"state":"failed"}"#).expect("written");
    let rows = document(&asked(home.path(), &["list", "failed", "--json"]));
    let odd = &rows[2];
    assert_eq!(
        (&odd["file"], &odd["reason"], &odd["id"]),
        (&"odd.json".into(), &"it is no JSON".into(), &serde_json::Value::Null)
    );
    let table = asked(home.path(), &["list", "failed"]).output;
    assert!(table.contains("odd.json") && table.contains("it is no JSON"), "{table}");
    for (typed, code) in [("6f96", 2), ("6f9619bb", 4), ("abc", 2)] {
        let ended = asked(home.path(), &["retry", A, typed]);
        assert_eq!((ended.code, &*ended.output), (code, ""), "{typed}: {}", ended.errors);
    }
    assert_eq!(fs::read_dir(root.join("outbox")).expect("listed").count(), 0, "all or nothing");
    let retried = document(&asked(home.path(), &["retry", "6F9619FF", "--json"]));
    assert_eq!((&retried["retried"][0]["id"], &retried["retried"][0]["to"]), (&A.into(), &"inbox".into()));
    assert!(root.join("inbox").join(&hooked).exists() && root.join(".pending").join(&hooked).exists());
    let ended = asked(home.path(), &["retry"]);
    assert_eq!((ended.code, ended.output.lines().count()), (0, 2), "{}", ended.errors);
    assert_eq!(
        document(&asked(home.path(), &["list", "outbox", "--json"])).as_array().map(Vec::len),
        Some(2)
    );
    assert!(!root.join("failed/odd.json.reason").exists());
}

#[test]
fn a_folder_is_emptied_and_counted() {
    let home = home();
    let root = folders(home.path());
    put(&root, "sent", 1, A);
    put(&root, "sent", 2, B);
    fs::write(root.join("sent/notes.txt"), "mine").expect("written");
    let ended = asked(home.path(), &["flush", "sent"]);
    assert_eq!((ended.code, &*ended.output), (0, "2 messages were removed from `sent`\n"));
    assert!(root.join("sent/notes.txt").exists());
    let ended = asked(home.path(), &["flush", "hooks"]);
    assert_eq!(ended.code, 2, "{}", ended.errors);
}
