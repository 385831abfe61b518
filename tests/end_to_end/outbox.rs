//! Messages sent by files (P11): written in steps, junk, far too large, thousands at once; `failed` and `retry`.

use crate::letters::{assert_each_once, put_whole};
use crate::process::{s, wait_until};
use crate::village::{Village, text, word};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

/// The row of `list failed` with this name.
#[track_caller]
fn failed(village: &Village, node: &str, file: &str) -> Value {
    let rows = village.json_at(node, &["list", "failed"]);
    let rows = rows.as_array().unwrap();
    rows.iter().find(|row| row["file"] == file).unwrap_or_else(|| panic!("no {file}: {rows:?}")).clone()
}

#[test]
fn whole_files_are_sent_and_the_others_set_aside_with_the_reason() {
    let village = Village::of(2, &[]);
    let outbox = village.letters("a", "outbox");
    // Written in steps; between them the node has seen that it is not whole.
    let mut slow = fs::File::create(outbox.join("slow.json")).unwrap();
    slow.write_all(b"{\"type\": \"slow\", ").unwrap();
    for (name, content) in [
        ("junk.json", "\u{0}\u{1}no JSON".to_owned()),
        ("list.json", "[1, 2]".to_owned()),
        ("path.json", json!({"type": "../../bin/x"}).to_string()),
        ("own.json", json!({"type": "thorp.node.lost"}).to_string()),
        ("large.json", json!({"type": "large", "payload": "x".repeat(1 << 20)}).to_string()),
        ("stranger.json", json!({"type": "x", "target": "nobody"}).to_string()),
        ("half.json", "{\"type\": \"half\", \"payload\": {\"n\":".to_owned()),
    ] {
        put_whole(&outbox.join(name), &content);
    }
    fs::write(outbox.join("notes.txt"), "mine").unwrap();
    village.post("a", "good.json", &json!({"type": "good", "payload": {"n": 1}}).to_string());
    village.wait_for_documents("b", "inbox", 1, s(10));
    // It has been a while since the first step, but not since the last.
    for part in ["\"payload\": {", "\"n\": 2"] {
        slow.write_all(part.as_bytes()).unwrap();
        slow.sync_all().unwrap();
        let sends = village.json_at("a", &["send", "between", "--payload", "{\"n\":0}", "--target", "b"]);
        assert_eq!(sends["addressees"][0]["name"], "b");
    }
    slow.write_all(b"}}").unwrap();
    drop(slow);
    village.wait_for_documents("b", "inbox", 4, s(10));

    wait_until(s(15), "the others are set aside", || {
        let rows = village.json_at("a", &["list", "failed"]);
        if rows.as_array().map(Vec::len) == Some(7) { Ok(()) } else { Err(rows.to_string()) }
    });
    for (file, reason) in [
        ("junk.json", "no JSON"),
        ("list.json", "no JSON"),
        ("path.json", "`../../bin/x` is no type"),
        ("own.json", "thorp's own"),
        ("large.json", "thorp put"),
        ("half.json", "no JSON"),
    ] {
        let row = failed(&village, "a", file);
        assert!(word(&row["reason"]).contains(reason), "{row}");
        let beside =
            fs::read_to_string(village.letters("a", "failed").join(format!("{file}.reason"))).unwrap();
        assert_eq!(beside.trim_end(), row["reason"]);
    }
    let rows = village.json_at("a", &["list", "failed"]);
    let stranger = rows.as_array().unwrap().iter().find(|row| row["target"] == "nobody").unwrap();
    assert!(word(&stranger["reason"]).contains("known: a, b"), "{stranger}");
    assert!(outbox.join("notes.txt").exists(), "what is no message is left alone");
    assert_eq!(village.json_at("a", &["list", "outbox"]), json!([]));
    let kinds: Vec<String> = village.documents("b", "inbox").iter().map(|row| word(&row["type"])).collect();
    assert_eq!(kinds, ["good", "between", "between", "slow"]);

    // What a command refuses never gets so far.
    let large = village.path("large");
    fs::write(&large, json!("x".repeat(1 << 20)).to_string()).unwrap();
    let failure = village.fails(&["send", "large", "--payload", &format!("@{}", text(&large))], 2);
    assert!(failure.hint.contains("--attach"), "{failure:?}");
    village.run(&["send", "../../bin/x"]).ended(2);
    village.run(&["send", "x", "--payload", "{half"]).ended(2);
    assert!(!village.path("bin/x").exists());
}

#[test]
fn two_thousand_files_at_once_are_sent_once_each_in_order() {
    let count = 2_000;
    let mut village = Village::of(2, &[]);
    // They wait there when the node starts: that is as much at once as can be.
    village.kill9("a");
    for n in 0..count {
        village.post("a", &format!("{n:04}.json"), &json!({"type": "t", "payload": {"n": n}}).to_string());
    }
    village.add("a", &[]);
    let inbox = village.letters("b", "inbox");
    wait_until(s(100), "all are there", || {
        let there = fs::read_dir(&inbox).unwrap().count() - 1;
        if there >= count { Ok(()) } else { Err(format!("{there}")) }
    });
    assert_each_once(&village.inbox_numbers("b"), count as u64, "the inbox");
    wait_until(s(20), "all are in sent", || {
        let sent = village.documents("a", "sent").len();
        if sent == count { Ok(()) } else { Err(format!("{sent}")) }
    });
    assert_eq!(village.documents("a", "outbox").len(), 0);
    let flushed = village.json_at("b", &["flush", "inbox"]);
    assert_eq!(flushed["removed"], count);
}

#[test]
fn what_failed_is_tried_again_when_asked() {
    let mut village = Village::of(2, &["--hook-tries", "1"]);
    village.post("a", "early.json", &json!({"type": "x", "target": "c", "payload": {"n": 1}}).to_string());
    wait_until(s(10), "nobody is called c yet", || {
        let rows = village.json_at("a", &["list", "failed"]);
        if rows[0]["target"] == "c" { Ok(()) } else { Err(rows.to_string()) }
    });
    village.hook("b", "y", "exit 3");
    let sent = village.json_at("a", &["send", "y", "--payload", "{\"n\":2}", "--target", "b"]);
    let rows = wait_until(s(10), "its hook fails", || {
        let rows = village.json_at("b", &["list", "failed"]);
        if rows.as_array().is_some_and(|rows| rows.len() == 1) { Ok(rows) } else { Err(rows.to_string()) }
    });
    assert!(rows[0]["id"] == sent["id"] && word(&rows[0]["reason"]).contains("exit code 3"), "{rows}");

    village.add("c", &[]);
    wait_until(s(10), "a has heard of c", || {
        let output =
            village.run_at("a", &["send", "probe", "--target", "c", "--payload", "{\"n\":0}", "--wait"]);
        if output.code == 0 { Ok(()) } else { Err(output.to_string()) }
    });
    let retried = village.json_at("a", &["retry"]);
    assert_eq!(retried["retried"][0]["to"], "outbox", "{retried}");
    village.wait_for_documents("c", "inbox", 2, s(10));
    assert_eq!(village.inbox_numbers("c"), [0, 1]);
    assert_eq!(village.json_at("a", &["list", "failed"]), json!([]));

    village.note_hook("b", "y");
    let id = word(&sent["id"]);
    let retried = village.json_at("b", &["retry", &id[..8]]);
    assert_eq!((&retried["retried"][0]["to"], &retried["retried"][0]["id"]), (&json!("inbox"), &json!(id)));
    assert_eq!(village.wait_for_runs("b", 1, s(10))[0].id, id);
    wait_until(s(10), "it is done", || {
        let rows = village.json_at("b", &["inbox"]);
        if rows[0]["hook"]["state"] == "done" { Ok(()) } else { Err(rows.to_string()) }
    });
    village.run_at("b", &["retry", "00000000"]).ended(4);
}
